"""What the documents say is true: every configuration in them loads and does what its text promises."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from pages import CONFIGS, DELAY, DOCS, ROOT, Site, has, me
from servers import vsftpd
from vocabulary import Box, binary, need, tree, wait_until, write

# ---- all of them


@pytest.mark.parametrize("name", CONFIGS)
def test_the_config_test_has_nothing_to_say(site: Site, name: str) -> None:
    config = site.config(name, USER=f'"{me()}"')
    for path in set(re.findall(rf'"({site.srv}/[\w/]+)"', config)):
        Path(path).mkdir(parents=True, exist_ok=True)
    config = config.replace("/etc/nginx", str(site.directory("nginx")))
    tested = site.box.call("-t", config=config)
    assert tested.exit_code == 0, tested.log
    # A directory that has to be mounted is made here, and not mounted.
    said = [line for line in tested.lines if not line.endswith("' is not mounted: the rule fails until it is")]
    assert said == ["INFO: config file ok"], tested.log


@pytest.mark.parametrize("script", ["reference.py", "man.py"])
def test_what_is_generated_is_up_to_date(script: str) -> None:
    done = subprocess.run([sys.executable, DOCS / script, "--check"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("page", ["pyinotifyd.8", "pyinotifyd-config.5"])
def test_a_man_page_fits_80_columns(page: str) -> None:
    need("groff")
    command: list[str | Path] = [
        "groff",
        "-man",
        "-ww",
        "-Tutf8",
        "-rLL=78n",
        "-P-bcou",
        ROOT / "crates/pyinotifyd/share/man" / page,
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert not done.stderr
    assert "NAME" in done.stdout
    assert [line for line in done.stdout.splitlines() if len(line) > 80] == []


def test_every_link_between_documents_leads_somewhere() -> None:
    for page in [*DOCS.rglob("*.md"), *ROOT.glob("*.md")]:
        if page.parent.name == "man":
            continue
        for target, anchor in re.findall(r"\]\((?!https?:)([^)#]*)(#[^)]*)?\)", page.read_text()):
            found = (page.parent / target) if target else page
            assert found.exists(), f"{page.relative_to(ROOT)}: {target}"
            if anchor and found.suffix == ".md":
                headings = re.findall(r"^#+ (.*)$", found.read_text(), re.M)
                anchors = {"#" + re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}
                assert anchor in anchors, f"{page.relative_to(ROOT)}: {target}{anchor}"


# ---- the quickstart


def test_quickstart_shows_a_command_a_job_and_a_rule(box: Box) -> None:
    config = (ROOT / "examples/quickstart.py").read_text()
    daemon = box.run(config, env={"QUICKSTART_DEMO": "1"})
    play = box.tmp / "quickstart"
    daemon.wait_log("hello.txt has 23 bytes, sha256 [0-9a-f]{16}")
    wait_until(lambda: (play / "done/hello.txt").exists(), lambda: daemon.tail)
    assert "hello.txt" in (play / "commands.log").read_text()
    assert daemon.terminate() == 0


def test_quickstart_cancels_the_move_of_a_file_that_is_removed_in_time(box: Box) -> None:
    daemon = box.run((ROOT / "examples/quickstart.py").read_text(), env={"QUICKSTART_DEMO": "0"})
    diary = box.tmp / "quickstart/inbox/diary"
    write(diary)
    daemon.wait_log("schedule task, delay=3")
    diary.unlink()
    daemon.wait_log("scheduled task cancelled")


def test_see_events_prints_them(box: Box) -> None:
    daemon = box.run((ROOT / "examples/see_events.py").read_text(), env={"WATCH": str(box.src)})
    write(box.src / "a")
    (box.src / "a").rename(box.src / "b")
    for line in [f"IN_CREATE {box.src}/a", f"IN_CLOSE_WRITE {box.src}/a", f"IN_MOVED_TO {box.src}/b {box.src}/a"]:
        daemon.wait_out(re.escape(line))


def test_sort_downloads_sorts_by_kind(box: Box) -> None:
    downloads = box.tmp / "Downloads"
    downloads.mkdir()
    config = DELAY.sub("delay=0.3", (ROOT / "examples/sort_downloads.py").read_text())
    daemon = box.run(config, env={"HOME": str(box.tmp)})
    write(downloads / "paper.PDF.part", "text")
    (downloads / "paper.PDF.part").rename(downloads / "paper.PDF")
    write(downloads / "src.tar.gz", "zip")
    wait_until(lambda: has(downloads / "documents/paper.PDF", "text"), lambda: daemon.tail)
    wait_until(lambda: has(downloads / "archives/src.tar.gz", "zip"), lambda: daemon.tail)


# ---- the reference


def tables_of_variables() -> list[set[str]]:
    """The variables of each table of the reference's last section."""
    section = (DOCS / "reference.md").read_text().split("## Environment variables")[1]
    tables = re.findall(r"^\|---\|---\|\n((?:\|.*\n)+)", section, re.M)
    return [set(re.findall(r"`([A-Z_]{2,})`", table)) for table in tables]


def test_the_reference_has_each_variable_that_the_program_reads() -> None:
    sources = [path for path in (ROOT / "crates/pyinotifyd/src").rglob("*.rs") if "tests" not in path.stem]
    texts = [path.read_text().partition("#[cfg(test)]")[0] for path in sources]
    asked = r'\bvar(?:_os)?\("(\w+)"\)|\bdirectory(?:_variable)?\("(\w+)"\)'
    named = r"const (?:VARIABLE|ROOT_VARIABLE|ASKED_BY|\w*VARIABLES): [^=]*= ([^;]*);"
    read = {one for text in texts for pair in re.findall(asked, text) for one in pair if one}
    read |= {one for text in texts for value in re.findall(named, text) for one in re.findall(r'"(\w+)"', value)}
    section = (DOCS / "reference.md").read_text().split("## Environment variables")[1]
    said = set(re.findall(r"`([A-Z_]{2,})`", section))
    commands = tables_of_variables()[-1]
    # The time zone is the library's to read.
    assert said - commands - {"TZ"} == read
    assert all(name.startswith("PYINOTIFYD_") for name in commands)


def test_a_command_finds_the_variables_of_the_reference(site: Site) -> None:
    """As one that tells of a failure does, which has all of them: with the id of its own task."""
    incoming = site.directory("in")
    daemon = site.box.run(f"""
told = ShellScheduler("env > {site.box.tmp}/env; cat > {site.box.tmp}/json", stdin="json")
bad = ShellScheduler("exit 3 # {{pathname}}", on_failure=told)
pyinotifyd = Pyinotifyd([Watch("{incoming}", {{"IN_CLOSE_WRITE": bad}})])
""")
    write(incoming / "a")
    own = daemon.wait_log("task finished, .*task_id=(.*)")[1]
    failed = daemon.wait_log("task failed: exited with status 3, .*task_id=(.*)")[1]
    lines = (site.box.tmp / "env").read_text().splitlines()
    found = dict(line.split("=", 1) for line in lines if line.startswith("PYINOTIFYD_"))
    names = {name for name in found if not name.startswith("PYINOTIFYD_TEST_")}
    assert names - set(os.environ) == tables_of_variables()[-1]
    assert found["PYINOTIFYD_TASK_ID"] == own
    assert json.loads((site.box.tmp / "json").read_text())["task_id"] == failed


# ---- the cookbook


def test_uploads(site: Site) -> None:
    customer = site.directory("uploads/acme")
    site.run("uploads.py")
    write(customer / "big.iso.part", "half")
    write(customer / "big.iso", "whole")
    ready = site.srv / "ready/acme/big.iso"
    wait_until(lambda: has(ready, "whole"), lambda: site.box.daemons[0].tail)
    # A move within a filesystem gives the name first.
    wait_until(lambda: ready.stat().st_mode & 0o777 == 0o660, "the rule's mode")
    assert ready.parent.stat().st_mode & 0o777 == 0o770
    assert (customer / "big.iso.part").exists()


def test_uploads_wait_while_somebody_writes(site: Site) -> None:
    customer = site.directory("uploads/acme")
    daemon = site.run("uploads.py")
    write(customer / "big.iso", "one")
    daemon.wait_log("schedule task")
    with open(customer / "big.iso", "a") as file:
        file.write("two")
        file.flush()
        daemon.wait_log("scheduled task cancelled")
        assert not (site.srv / "ready").exists()
    wait_until(lambda: has(site.srv / "ready/acme/big.iso", "onetwo"), lambda: daemon.tail)


def test_uploads_that_stall_while_they_are_open_wait(site: Site) -> None:
    """The events alone say that all is calm: the one of the open file came before the delay, and no other does."""
    customer = site.directory("uploads/acme")
    daemon = site.box.run(site.config("uploads.py") + "setLoglevel(DEBUG)\n", env=site.environment())
    with open(customer / "big.iso", "w") as file:
        daemon.wait_log(f"not settled: somebody has it open for writing.*{customer}/big.iso")
        file.write("whole")
    wait_until(lambda: has(site.srv / "ready/acme/big.iso", "whole"), lambda: daemon.tail)


def test_scanner(site: Site) -> None:
    scans = site.directory("scans")
    site.program("ocrmypdf", 'cp -- "$2" "$3"')
    site.run("scanner.py")
    write(scans / "letter.pdf", "scan")
    write(scans / "thumbs.db", "no scan")
    wait_until(
        lambda: [path for path in (site.srv / "archive").rglob("letter.pdf") if has(path, "scan")],
        lambda: site.box.daemons[0].tail,
    )
    wait_until(lambda: not (scans / "letter.pdf").exists())
    assert (scans / "thumbs.db").exists()


def test_scanner_keeps_what_it_could_not_read(site: Site) -> None:
    scans = site.directory("scans")
    site.program("ocrmypdf", "exit 6")
    daemon = site.run("scanner.py")
    write(scans / "letter.pdf", "scan")
    daemon.wait_log("task failed: RuntimeError: no text recognised, ocrmypdf exited with status [0-9]+")
    assert has(scans / "letter.pdf", "scan")


def test_virusscan(site: Site) -> None:
    incoming = site.directory("incoming")
    site.program("clamdscan", 'case "$*" in *virus*) exit 1 ;; *odd*) exit 2 ;; esac')
    daemon = site.run("virusscan.py")
    for name in ["good", "a virus; touch PWNED", "odd"]:
        write(incoming / name, name)
    wait_until(lambda: has(site.srv / "clean/good", "good"), lambda: daemon.tail)
    wait_until(
        lambda: [path for path in (site.srv / "quarantine").iterdir() if path.name.endswith("a virus; touch PWNED")],
        lambda: daemon.tail,
    )
    daemon.wait_log("could not judge .*/odd, status 2")
    assert has(incoming / "odd", "odd")


def test_hotfolder(site: Site) -> None:
    site.directory("print/laser")
    site.program("lp")
    site.run("hotfolder.py")
    write(site.directory("print/photo") / "my $HOME 'n.jpg", "picture")
    site.wait_call(r"lp -d photo -- .*/my \$HOME 'n\.jpg$")
    wait_until(lambda: has(site.srv / "printed/photo/my $HOME 'n.jpg", "picture"), lambda: site.box.daemons[0].tail)


def test_thumbnails(site: Site) -> None:
    photos = site.directory("photos")
    site.program("convert", 'for last; do :; done; echo small > "$last"')
    daemon = site.run("thumbnails.py")
    write(site.directory("photos/2026") / "beach day.jpg", "big")
    write(photos / "notes.txt")
    thumbnail = site.srv / "thumbnails/2026/beach day.jpg.png"
    wait_until(lambda: has(thumbnail, "small\n"), lambda: daemon.tail)
    (photos / "2026/beach day.jpg").unlink()
    wait_until(lambda: not thumbnail.exists(), lambda: daemon.tail)
    assert "notes.txt" not in site.calls.read_text()


def test_encode(site: Site) -> None:
    videos = site.directory("videos")
    site.directory("encoded")
    site.program("ffmpeg", 'for last; do :; done; id -un > "$last"; echo "frame 1" >&2; ulimit -c; ulimit -v')
    daemon = site.run("encode.py", USER=f'"{me()}"')
    write(videos / "it's $(a) film", "raw")
    daemon.wait_log("encode - WARNING - frame 1, task_id=")
    daemon.wait_log("task finished")
    assert has(site.srv / "encoded/it's $(a) film.mp4", f"{me()}\n")
    for limit in ["0", str(4 * 1024 * 1024)]:
        assert daemon.count(f"encode - INFO - {limit}, task_id=") == 1


def test_nas_waits_for_what_is_not_mounted(site: Site, root: None) -> None:
    need("mount", "umount")
    documents, nas = site.directory("documents"), site.directory("nas")
    daemon = site.run("nas.py")
    write(documents / "letter", "text")
    daemon.wait_log(f"attempt 1 failed: .*{nas} is not mounted; tried again in")
    assert list(nas.iterdir()) == []
    if subprocess.run(["mount", "-t", "tmpfs", "tmpfs", nas], check=False).returncode != 0:
        pytest.skip("needs the right to mount")
    try:
        wait_until(lambda: has(nas / "documents/letter", "text"), lambda: daemon.tail)
        daemon.terminate()
    finally:
        subprocess.run(["umount", "-l", nas], check=True)


def test_keepboth(site: Site) -> None:
    scans = site.directory("scanner")
    daemon = site.run("keepboth.py")
    for number, text in enumerate(["first", "second", "third"], 1):
        write(scans / "scan0001.pdf", text)
        daemon.wait_log("task finished", count=number)
    inbox = site.srv / "inbox"
    names = {"scan0001.pdf": "first", "scan0001.1.pdf": "second", "scan0001.2.pdf": "third"}
    assert {path.name: path.read_text() for path in inbox.iterdir()} == names


def test_transcode(site: Site) -> None:
    recordings, results = site.directory("recordings"), site.directory("transcoded")
    script = 'for last; do :; done; case "$*" in *bad*) exit 4;; *slow*) exec sleep 1000;; esac; echo mp4 > "$last"'
    site.program("ffmpeg", script)
    config = site.config("transcode.py").replace("timeout=7200", "timeout=0.5")
    daemon = site.box.run(config, env=site.environment())
    for name in ("it's $(good)", "bad", "slow"):
        write(recordings / name, name)
    wait_until(lambda: has(results / "it's $(good).mp4", "mp4\n"), lambda: daemon.tail)
    errors = site.srv / "broken/errors.txt"
    wait_until(lambda: errors.exists() and errors.read_text().count("\n") == 2, lambda: daemon.tail)
    said = errors.read_text()
    assert f"{recordings}/bad: exited with status 4\n" in said
    assert f"{recordings}/slow: timeout after 0.5 s\n" in said
    assert has(site.srv / "broken/bad", "bad")
    assert has(site.srv / "broken/slow", "slow")


def test_ftp_waits_for_the_marker(site: Site) -> None:
    uploads = site.directory("ftp/customer")
    site.program("import-orders")
    config = site.config("ftp.py").replace("/usr/local/bin/import-orders", str(site.programs / "import-orders"))
    config = config.replace("stable=20", "stable=0.2").replace("check=1", "check=0.1") + "setLoglevel(DEBUG)\n"
    daemon = site.box.run(config, env=site.environment())
    with open(uploads / "order.csv", "w") as file:
        file.write("half")
        file.flush()
        write(uploads / "empty.csv", "")
        daemon.wait_log("not settled: .*empty.csv")
    daemon.wait_log("not settled: .*order.csv")
    assert site.calls.read_text() == ""
    write(uploads / "order.ok")
    site.wait_call(f"^import-orders {uploads}/order.csv$")
    assert "order.ok" not in site.calls.read_text()
    assert "empty.csv" not in site.calls.read_text()


def test_emptied_directories_go(site: Site) -> None:
    projects = site.directory("projects")
    deep = site.directory("projects/house/plans/old")
    (site.directory("projects/garden") / "kept").touch()
    daemon = site.run("emptied.py")
    write(deep / "cellar.done", "plan")
    write(projects / "garden/notes.bak", "notes")
    wait_until(lambda: has(site.srv / "archive/house/plans/old/cellar", "plan"), lambda: daemon.tail)
    wait_until(lambda: not (projects / "house").exists(), lambda: daemon.tail)
    wait_until(lambda: not (projects / "garden/notes.bak").exists(), lambda: daemon.tail)
    assert (projects / "garden/kept").exists()


def test_reload(site: Site) -> None:
    configuration = site.directory("nginx")
    site.program("nginx")
    site.run("reload.py", CONFIGURATION=f'"{configuration}"')
    for number in range(5):
        write(configuration / f"site{number}.conf")
        write(configuration / f".site{number}.conf.swp")
    site.wait_call("^nginx -s reload$")
    assert site.calls.read_text().count("nginx -t") == 1, "one reload for a burst"


def test_rsync_sends_what_changes_while_it_runs(site: Site) -> None:
    source = site.directory("site")
    site.directory("mirror")
    # The first run is told to go on only after another change came.
    site.program("rsync", f'cp "$3"* "$4"; while ! test -e {site.box.tmp}/go; do sleep 0.05; done')
    daemon = site.run("rsync.py", QUIET_S="0.2")
    write(source / "a", "1")
    site.wait_call("^rsync -a --delete")
    write(source / "b", "2")
    wait_until(lambda: daemon.running and (source / "b").exists())
    write(site.box.tmp / "go")
    wait_until(lambda: tree(site.srv / "mirror") == {"a": "1", "b": "2"}, lambda: daemon.tail)


def test_git(site: Site) -> None:
    if shutil.which("git") is None:
        pytest.skip("needs git")
    notes = site.directory("notes")
    identity = {
        f"GIT_{who}_{what}": "notes@example.org" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")
    }
    subprocess.run(["git", "init", "--quiet", str(notes)], check=True)
    daemon = site.box.run(site.config("git.py"), env={**site.environment(), **identity})
    write(notes / "one", "1")
    write(notes / "two", "2")

    def committed() -> bool:
        listed = subprocess.run(
            ["git", "-C", str(notes), "ls-tree", "--name-only", "HEAD"], capture_output=True, text=True, check=False
        )
        return listed.stdout.split() == ["one", "two"]

    wait_until(committed, lambda: daemon.tail)


def test_mail(site: Site) -> None:
    orders = site.directory("orders")
    site.program("import-order", 'echo "cannot read the order"; exit 3')
    site.program("sendmail", f"cat > {site.box.tmp}/mail")
    daemon = site.run("mail.py", COMMAND=f'"{site.programs}/import-order"')
    write(orders / "order 1.xml")
    mail = site.box.tmp / "mail"
    wait_until(lambda: mail.exists() and "cannot read the order" in mail.read_text(), lambda: daemon.tail)
    assert "Subject: pyinotifyd: import failed with status 3" in mail.read_text()


def test_burst(site: Site) -> None:
    incoming = site.directory("incoming")
    site.program("sendmail", f"cat > {site.box.tmp}/mail")
    daemon = site.run("burst.py", QUIET_S="0.5")
    for name in ["a b.csv", "gone", "c.csv"]:
        write(incoming / name)
    (incoming / "gone").unlink()
    site.wait_call("^sendmail -t -i$")
    mail = site.box.tmp / "mail"
    wait_until(lambda: mail.exists() and f"{incoming}/c.csv" in mail.read_text(), lambda: daemon.tail)
    assert f"{incoming}/a b.csv\n{incoming}/c.csv\n" in mail.read_text()
    assert f"Subject: 2 new files in {incoming}" in mail.read_text().replace("\n ", " ")


# ---- the tutorial


@pytest.mark.slow
def test_the_tutorial_can_be_followed_and_prints_what_it_shows() -> None:
    """All its commands and configurations, and --explain on the page of troubles; but for times and ids."""
    environment = {**os.environ, "PROGRAM": str(binary())}
    command: list[str | Path] = [sys.executable, DOCS / "output.py", "--check"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


# ---- migrating from other tools


MIGRATION = (DOCS / "migration.md").read_text()


@pytest.mark.parametrize(
    ("kind", "file", "language", "config"),
    [
        ("incrontab", "table", "", "migration/incron.py"),
        ("systemd-path", "upload.path", "ini", "migration/systemd_path.py"),
    ],
)
def test_what_import_writes_is_what_the_page_shows(
    site: Site, kind: str, file: str, language: str, config: str
) -> None:
    source = MIGRATION.split(f"# {config}")[0].split("\nA ")[-1]
    text = source.split(f"```{language}\n")[1].split("```")[0]
    (site.box.tmp / file).write_text(text.replace("/srv", str(site.directory("in").parent)))
    written = site.box.call("import", kind, file).stdout
    shown = site.config(config)
    assert written[written.index("from pyinotifyd") :] == shown.rstrip()


def test_migration_incron(site: Site) -> None:
    incoming = site.directory("in")
    site.program("import")
    config = site.config("migration/incron.py").replace("/usr/local/bin/import", str(site.programs / "import"))
    site.box.run(config)
    write(incoming / "a b")
    site.wait_call(f"^import {incoming}/a b$")


def test_migration_systemd_path(site: Site) -> None:
    incoming = site.directory("in")
    site.program("systemctl")
    site.run("migration/systemd_path.py")
    for number in range(5):
        write(incoming / str(number))
    site.wait_call("^systemctl start --wait -- import.service$")


def test_migration_lsyncd(site: Site) -> None:
    source = site.directory("site")
    site.directory("mirror")
    write(source / "before", "0")
    # The first run is told to go on only after another change came.
    site.program("rsync", f'cp "$3"* "$4"; while ! test -e {site.box.tmp}/go; do sleep 0.05; done')
    daemon = site.run("migration/lsyncd.py")
    site.wait_call(f"^rsync -a --delete {source}/ {site.srv}/mirror/$")
    write(source / "b", "2")
    write(site.box.tmp / "go")
    wait_until(lambda: tree(site.srv / "mirror") == {"before": "0", "b": "2"}, lambda: daemon.tail)


def test_migration_lsyncd_takes_a_partial_transfer_for_done(site: Site) -> None:
    """And says what to do about an empty source."""
    source = site.directory("site")
    site.directory("mirror")
    site.program("rsync", "exit 24")
    daemon = site.box.run(site.config("migration/lsyncd.py"), "--control", site.box.tmp / "s", env=site.environment())
    sent = site.box.call("send", source, "--control", site.box.tmp / "s")
    assert sent.exit_code == 0, sent.log
    site.wait_call("^rsync ")
    daemon.wait_log("task finished")
    assert len(site.calls.read_text().splitlines()) == 1
    site.program("rsync", "exit 12")
    write(source / "f")
    daemon.wait_log("exited with status 12")


def test_migration_watchman(site: Site) -> None:
    incoming = site.directory("in/sub").parent
    site.program("make-index", 'pwd > "$0.where"')
    daemon = site.run("migration/watchman.py")
    write(incoming / "sub/a b.csv")
    write(incoming / "gone.csv")
    write(incoming / "no.tmp")
    (incoming / "gone.csv").unlink()
    site.wait_call(f"^make-index {incoming}/sub/a b.csv {incoming}/gone.csv$")
    wait_until(lambda: has(site.programs / "make-index.where", f"{incoming}\n"), lambda: daemon.tail)


def test_migration_camel(site: Site) -> None:
    incoming = site.directory("in")
    site.directory("done")
    site.program("import", "case $1 in *bad*) exit 3 ;; esac")
    write(incoming / "early", "1")
    write(incoming / "early.done")
    daemon = site.run("migration/camel.py")
    for name in ["a b", "bad", "alone"]:
        write(incoming / name, "2")
    for name in ["a b", "bad"]:
        write(incoming / f"{name}.done")
    for place in ["done/early", "done/a b", "failed/bad"]:
        wait_until((site.srv / place).exists, lambda: daemon.tail)
    wait_until(lambda: {path.name for path in incoming.iterdir()} == {"alone", "bad.done"}, lambda: daemon.tail)
    assert site.calls.read_text().count("bad") == 4


def test_migration_nifi(site: Site) -> None:
    incoming = site.directory("in/sub").parent
    (site.directory("out") / "sub").mkdir()
    write(site.srv / "out/sub/f", "old")
    write(incoming / "early", "0")
    daemon = site.box.run(site.config("migration/nifi.py").replace("stable=30", "stable=0.1"))
    write(incoming / "sub/f", "new")
    write(incoming / ".hidden")
    out = {"early": "0", "sub": "dir", "sub/f": "old", "sub/f.1": "new"}
    wait_until(lambda: tree(site.srv / "out") == out, lambda: daemon.tail)
    assert (incoming / ".hidden").exists()


def test_migration_watchexec(site: Site) -> None:
    place = site.directory("in")
    site.program("server", f'echo "$$" > {site.box.tmp}/pid; exec sleep 1000')
    shutil.copy(site.programs / "server", place / "server")
    daemon = site.run("migration/watchexec.py")
    write(place / "main.py", "1")
    pid = site.box.tmp / "pid"
    wait_until(lambda: pid.exists() and pid.read_text().strip(), lambda: daemon.tail)
    first = pid.read_text()
    write(place / "main.py", "2")
    wait_until(lambda: pid.read_text().strip() not in ("", first.strip()), lambda: daemon.tail)
    wait_until(lambda: not Path(f"/proc/{first.strip()}").exists(), lambda: daemon.tail)


LINES = re.findall(r"^pyinotifyd watch (/srv/in .*)$", MIGRATION, re.M)


@pytest.mark.parametrize("line", LINES)
def test_migration_lines_run_their_command(site: Site, line: str) -> None:
    incoming = site.directory("in")
    site.program("import")
    site.program("make")
    words = [word.replace("/srv", str(site.srv)) for word in shlex.split(line)]
    daemon = site.box.start(None, "watch", *words, env=site.environment()).wait_ready()
    write(incoming / "other")
    write(incoming / "a b.csv")
    site.wait_call(f"^import {incoming}/a b.csv$" if "import" in line else "^make $")
    assert f"{incoming}/other" not in site.calls.read_text(), daemon.tail


def test_migration_of_one_event(site: Site) -> None:
    """`pyinotifyd watch PATH | head -n 1` ends with the event."""
    incoming = site.directory("in")
    line = f'"{binary()}" watch "{incoming}" 2>"{site.box.tmp}/log" | head -n 1'
    with subprocess.Popen(["sh", "-c", line], stdout=subprocess.PIPE, text=True) as shell:
        log = site.box.tmp / "log"
        wait_until(lambda: log.exists() and "start listening" in log.read_text())
        write(incoming / "f")
        said, _ = shell.communicate(timeout=30)
    assert said.count("\n") == 1
    assert said.endswith(f"IN_CREATE {incoming}/f\n")


def test_migration_inotifywait(site: Site) -> None:
    incoming, imported = site.directory("in"), site.directory("imported")
    # The first run is told to go on only after the file was written once more.
    script = f'cp "$1" {imported}; while ! test -e {site.box.tmp}/go; do sleep 0.05; done'
    site.program("import", script)
    daemon = site.run("migration/inotifywait.py")
    write(incoming / "other.txt")
    write(incoming / "new\nline.csv", "1")
    wait_until(lambda: has(imported / "new\nline.csv", "1"), lambda: daemon.tail)
    write(incoming / "new\nline.csv", "2")
    write(site.box.tmp / "go")
    wait_until(lambda: has(imported / "new\nline.csv", "2"), lambda: daemon.tail)
    assert not (imported / "other.txt").exists()


def test_without_a_runtime_directory_one_can_be_named(box: Box, plain_user: None) -> None:
    troubles = (DOCS / "troubleshooting.md").read_text()
    [variable] = re.findall(r"^export (\w+)=~$", troubles, re.M)
    bare = {"RUNTIME_DIRECTORY": "", "XDG_RUNTIME_DIR": "", "PYINOTIFYD_CONTROL": ""}
    daemon = box.run('pyinotifyd = Pyinotifyd([Watch("$SRC", {"IN_OPEN": None})])', env=bare)
    for words in (["status"], ["tasks", "--json"], ["pause"], ["events", "--json"], ["metrics"], ["reload"], ["top"]):
        refused = box.call(*words, env=bare)
        assert (refused.exit_code, refused.stdout) == (3, ""), words
        assert refused.log.startswith("pyinotifyd: no daemon has a control socket in ")
        assert refused.log.endswith("give --control PATH to the daemon and to this command")
    daemon.terminate()
    named = {**bare, variable: str(box.dst)}
    box.run('pyinotifyd = Pyinotifyd([Watch("$SRC", {"IN_OPEN": None})])', env=named)
    assert "ready" in box.call("status", env=named).stdout


def test_files_of_a_directory_that_is_renamed_are_told_if_asked_for(box: Box) -> None:
    (box.src / "a/sub").mkdir(parents=True)
    write(box.src / "a/sub/f")
    daemon = box.run(
        """
files = ShellScheduler("echo file {maskname} {pathname}")
directories = ShellScheduler("echo directory {maskname} {pathname}", files=False, dirs=True)
pyinotifyd = Pyinotifyd()
pyinotifyd.add_watch("$SRC", {"IN_CLOSE_WRITE": files, "IN_MOVED_TO": [files, directories]}, rec=True, auto_add=True)
""",
        "--control",
        box.tmp / "s",
    )
    (box.src / "a").rename(box.src / "b")
    daemon.wait_out(f"^directory IN_MOVED_TO {box.src}/b$")
    assert box.call("sync", "--idle", "--control", box.tmp / "s").exit_code == 0
    assert "file" not in daemon.stdout
    box.call("rescan", box.src / "b", "--control", box.tmp / "s")
    daemon.wait_out(f"^file IN_CLOSE_WRITE {box.src}/b/sub/f$")


QUIET = """
move = FileManagerScheduler([FileManagerRule("move", r"^$SRC/(.*\\.mv)$", r"$DST/\\1")])
marked = ShellScheduler("true # {pathname}", settle=Settle(marker="$TMP/never"))
busy = ShellScheduler("exec sleep 1000 # {pathname}", on_busy="rerun")
pyinotifyd = Pyinotifyd([Watch("$SRC", {"IN_CLOSE_WRITE": [move, marked, busy], "IN_MOVED_FROM": Cancel(move)},
                               exclude_filter=[r".*\\.tmp$"])], shutdown_timeout=0)
"""


@pytest.mark.parametrize("option", [[], ["-d"]])
def test_what_the_page_calls_no_news_is_in_the_log_of_d_alone(box: Box, option: list[str]) -> None:
    troubles = (DOCS / "troubleshooting.md").read_text()
    [table] = re.findall(r"^\| what \| its line .*\n\|.*\n((?:\|.*\n)+)", troubles, re.M)
    lines = [line for row in table.splitlines() for line in re.findall(r"`(.+?)`", row.split("|")[2])]
    assert len(lines) == 7
    taken = {"RUNTIME_DIRECTORY": str(box.tmp)}
    box.run('pyinotifyd = Pyinotifyd([Watch("$DST", {"IN_OPEN": None})])', env=taken)
    daemon = box.run(QUIET, *option, env=taken)
    write(box.src / "a.tmp")
    write(box.src / "a")
    daemon.wait_log(f"start task, .*path={box.src}/a,")
    write(box.src / "a")
    write(box.src / "last.mv")
    daemon.wait_log(f"task finished, .*path={box.src}/last.mv,")
    daemon.terminate()
    for line in lines:
        assert (daemon.count(re.escape(line)) > 0) == bool(option), line


# ---- the README


def test_the_configuration_of_the_readme(site: Site) -> None:
    """Its rule moves, and the log says what the README shows."""
    readme = (ROOT / "README.md").read_text()
    config = DELAY.sub("delay=0.3", re.findall(r"^```python\n(done = .*?)^```$", readme, re.M | re.S)[0])
    site.directory("upload")
    daemon = site.box.run(config.replace("/srv", str(site.srv)))
    write(site.srv / "upload/report.pdf", "content")
    daemon.wait_log("task finished")
    assert (site.srv / "done/report.pdf").read_text() == "content"
    shown = re.findall(r"^sched - .*$", readme, re.M)
    said = [line.partition("pyinotifyd/")[2].replace(str(site.srv), "/srv") for line in daemon.lines]
    assert len(shown) == 4
    for line in shown:
        begin = line.partition("delay=60")[0].partition("b53d8b70")[0]
        assert any(found.startswith(begin) for found in said), line


def test_the_one_line_of_the_readme(site: Site) -> None:
    [line] = re.findall(r"^pyinotifyd (watch .*)$", (ROOT / "README.md").read_text(), re.M)
    scans = site.directory("Scans")
    site.program("lp")
    words = shlex.split(line.replace("~/Scans", str(scans)))
    site.box.start(None, *words, env=site.environment()).wait_ready()
    write(site.directory("Scans/new") / "my letter.pdf")
    site.wait_call(f"^lp {scans}/new/my letter.pdf$")


def test_the_command_and_the_job_of_the_readme(site: Site) -> None:
    command, job = re.findall(r"^```python\n((?:scan|import).*?)^```$", (ROOT / "README.md").read_text(), re.M | re.S)
    incoming = site.directory("in")
    site.program("scan")
    config = command.replace("/usr/local/bin/scan", str(site.programs / "scan")) + DELAY.sub("delay=0.1", job)
    daemon = site.box.run(f"""{config}
pyinotifyd = Pyinotifyd([Watch("{incoming}", {{"IN_CLOSE_WRITE": [scan, tell]}})])
""")
    write(incoming / "it's $(a) file")
    site.wait_call(r"^scan .*/it's \$\(a\) file$")
    daemon.wait_log(r"root - INFO - [\da-f-]{36}: IN_CLOSE_WRITE .*/it's \$\(a\) file$")


def test_sentences_end_before_a_block_of_code() -> None:
    """What stands behind a block is read by itself."""
    for page in [*DOCS.rglob("*.md"), *ROOT.glob("*.md")]:
        for line in re.findall(r"^```\w*\n(?:.*?\n)?```\n\n?([^\n]*)", page.read_text(), re.M | re.S):
            assert not re.match(r"[a-z,;]", line), f"{page.relative_to(ROOT)}: {line}"


def test_the_glossary_has_twelve_words_that_the_documents_use() -> None:
    words = re.findall(r"^\| \*\*(.*?)\*\* \| \S.* \|$", (DOCS / "glossary.md").read_text(), re.M)
    assert 0 < len(set(words)) == len(words) <= 12
    read = " ".join((DOCS / page).read_text().lower() for page in ("tutorial.md", "questions.md"))
    for word in words:
        assert word in read


# ---- which event comes from which program


ROW = re.compile(r"^\| .*? \| (`.+`) \| (`IN_.*`) \|$", re.M)
ROWS = [match.groups() for match in ROW.finditer((DOCS / "events.md").read_text())]
# Reading makes these as well.
READING = {"IN_OPEN", "IN_ACCESS", "IN_CLOSE_NOWRITE"}
TAR = "cp file f && tar cf f.tar f"
ZIP = "cp file f && python3 -m zipfile -c f.zip f"
SFTP = ["/usr/lib/openssh/sftp-server", "/usr/libexec/openssh/sftp-server", "/usr/lib/ssh/sftp-server"]
GIT = "git init -q in && cp file in/f && cd in && git add f && git commit -q -m x && echo y > f"


@pytest.mark.parametrize(("commands", "events"), ROWS, ids=[row[0] for row in ROWS])
def test_events_of_programs(box: Box, commands: str, events: str) -> None:
    """Each line of the table is run."""
    command, *before = [part.strip("`") for part in commands.split("` after `")]
    need(command.split()[0])
    sftp = next((path for path in SFTP if os.path.exists(path)), "")
    if "$SFTP" in command and not sftp:
        pytest.skip("needs sftp-server")
    place = box.tmp
    for name in ("in", "out", "other"):
        (place / name).mkdir()
    (place / "file").write_text("content\n" * 10)
    other = Path("/dev/shm") if Path("/dev/shm").is_dir() else place / "other"
    with tempfile.TemporaryDirectory(dir=other) as elsewhere:
        if os.stat(elsewhere).st_dev == os.stat(place).st_dev and "$OTHER" in command:
            pytest.skip("needs a second filesystem, /dev/shm")
        shutil.copy(place / "file", elsewhere)
        author = {f"GIT_{who}_{what}": "x@example.org" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")}
        environment = {**os.environ, **author, "OTHER": elsewhere, "SFTP": sftp, "HOME": str(place)}
        if "$FTP" in command:
            environment["FTP"] = f"ftp://127.0.0.1:{vsftpd(box)}"

        def call(line: str) -> None:
            line = line.replace("$GIT", GIT).replace("$TAR", TAR).replace("$ZIP", ZIP)
            subprocess.run(["sh", "-c", line], cwd=place, env=environment, check=True, stdin=subprocess.DEVNULL)

        for line in before:
            call(line)
        watch = subprocess.Popen(
            [binary(), "watch", "--json", "in"],
            cwd=place,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert watch.stdout
        assert watch.stderr
        try:
            assert any("start listening" in line for line in watch.stderr)
            call(command)
            (place / "in/end").touch()
            found: list[str] = []
            for line in watch.stdout:
                event = json.loads(line)
                if event["path"] == str(place / "in/end"):
                    break
                name = event["event"]
                if event["path"] == str(place / "in/f") and name not in READING and name not in found[-1:]:
                    found.append(name)
        finally:
            watch.kill()
            watch.communicate()
    assert found == events.strip("`").split("` `")


def test_temporary_names_are_kept_away(site: Site) -> None:
    incoming = site.directory("in")
    daemon = site.run("events/arrivals.py")
    for name in (".f.swp", "sedAbC123", "f.part", "g.crdownload"):
        write(incoming / name)
    (incoming / "f.part").rename(incoming / "f")
    write(incoming / "last")
    for name in ("f", "last"):
        daemon.wait_out(f"^{incoming}/{name}$")
    assert sorted(daemon.out.lines) == [f"{incoming}/f", f"{incoming}/last"]
