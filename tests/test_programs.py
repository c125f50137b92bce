"""Real programs put files into watched directories: mv, cp, tar, rsync, FTP, ssh and an editor.

What such a program does to a directory is its own affair: temporary names, renames, links, modes set afterwards. What
must come of it is the same for all: each file is handled once, under its final name, when it is complete.
"""

from __future__ import annotations

import ast
import ftplib
import os
import re
import shutil
import socket
import stat
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from servers import answers, free_port, serve, vsftpd
from vocabulary import DELAY_S, PROJECT, REFERENCE, Box, Daemon, need, tree, wait_until, write

Run = Callable[..., Daemon]

pytestmark = pytest.mark.skipif(REFERENCE, reason="the original loses what comes in new directories")

# A tree of 2,000 files: WIDTH directories with a subdirectory each, FILES files in every one of the two.
WIDTH = 20
FILES = 50

# As the cookbook moves uploads: what is finished, in directories that come and go; exclude filters are put in.
UPLOADS = """
sched = FileManagerScheduler([FileManagerRule("move", r"^$SRC/(.*)$", r"%(dst)s/\\1", auto_create=True)],
    delay=%(delay)s)
pyinotifyd = Pyinotifyd([Watch("$SRC", {"IN_CLOSE_WRITE": sched, "IN_MOVED_TO": sched%(events)s}, rec=True,
    auto_add=True,
    exclude_filter=%(exclude)r)])
"""
# What an upload that is broken off and resumed needs in addition.
RESUMED = ', "IN_CREATE": sched, "IN_MODIFY": Cancel(sched), "IN_DELETE": Cancel(sched), "IN_MOVED_FROM": Cancel(sched)'


def uploads(dst: str | Path = "$DST", delay: float = 0, events: str = "", exclude: list[str] | None = None) -> str:
    return UPLOADS % {"dst": dst, "delay": delay, "events": events, "exclude": exclude or []}


def cookbook_filter() -> list[str]:
    """The exclude filter of the recipe for uploads, as users copy it."""
    source = ast.parse((PROJECT / "docs/cookbook/uploads.py").read_text())
    keywords = [node for node in ast.walk(source) if isinstance(node, ast.keyword) and node.arg == "exclude_filter"]
    assert len(keywords) == 1
    found: list[str] = ast.literal_eval(keywords[0].value)
    return found


def grow(root: Path) -> dict[str, str]:
    """Make the tree; returns its files with what is in them."""
    texts = {}
    for directory in range(WIDTH):
        inner = root / f"d{directory}" / "inner"
        inner.mkdir(parents=True)
        for number in range(FILES):
            for path in (inner.parent / f"f{number}", inner / f"f{number}"):
                name = str(path.relative_to(root))
                texts[name] = f"text of {name}"
                path.write_text(texts[name])
    return texts


def files_of(root: Path) -> dict[str, str]:
    """Regular files below `root` with what is in them."""
    return {name: text for name, text in tree(root).items() if (root / name).is_file() and text != "dir"}


def moved(daemon: Daemon, box: Box) -> Counter[str]:
    """How often each file was moved, by its path below `src`."""
    said = re.compile(rf"move '{box.src}/(.*?)' to ")
    return Counter(found[1] for record in daemon.records if (found := said.match(record.text)))


def handled_once(daemon: Daemon, box: Box, texts: dict[str, str], dst: Path | None = None) -> None:
    """Each file arrives, complete, and was moved once; nothing failed and nothing else was moved."""
    target = dst or box.dst
    wait_until(lambda: len(files_of(target)) >= len(texts), lambda: f"{len(texts)} files; {daemon.tail}", 90)
    wait_until(lambda: sum(moved(daemon, box).values()) >= len(texts), lambda: daemon.tail)
    assert files_of(target) == texts
    assert moved(daemon, box) == Counter(dict.fromkeys(texts, 1))
    assert not [record for record in daemon.records if record.level in ("ERROR", "CRITICAL")]
    assert files_of(box.src) == {}


def call(*command: str | os.PathLike[str], timeout: float = 60, **options: object) -> None:
    done = subprocess.run([os.fspath(word) for word in command], capture_output=True, timeout=timeout, check=False)
    assert done.returncode == 0, done.stderr


@pytest.fixture
def other(box: Box) -> Iterator[Path]:
    """A directory on another filesystem than the box."""
    shm = Path("/dev/shm")
    if not shm.is_dir() or shm.stat().st_dev == box.tmp.stat().st_dev:
        pytest.skip("needs a second filesystem, /dev/shm")
    made = Box(os.fspath(shm))
    yield made.tmp
    made.close()


# ---- trees


@pytest.mark.slow
def test_mv_of_a_tree_brings_each_file_once(run: Run, box: Box) -> None:
    texts = grow(box.tmp / "stage" / "job")
    daemon = run(uploads())
    call("mv", box.tmp / "stage" / "job", box.src)
    handled_once(daemon, box, {f"job/{name}": text for name, text in texts.items()})


@pytest.mark.slow
def test_mv_of_a_tree_from_another_filesystem_brings_each_file_once(run: Run, box: Box, other: Path) -> None:
    """mv copies it; the delay is for the times and modes that mv sets after it has closed a file."""
    texts = grow(other / "job")
    daemon = run(uploads(delay=DELAY_S))
    call("mv", other / "job", box.src)
    handled_once(daemon, box, {f"job/{name}": text for name, text in texts.items()})


@pytest.mark.slow
def test_a_tree_that_mv_renames_again_and_again_brings_each_file_once(run: Run, box: Box) -> None:
    """Waiting tasks follow their directory, whatever it is called when they are due."""
    texts = grow(box.tmp / "stage" / "job")
    daemon = run(uploads(delay=3 * DELAY_S))
    call("mv", box.tmp / "stage" / "job", box.src)
    daemon.wait_log("schedule task")
    for number in range(5):
        call("mv", box.src / ("job" if number == 0 else f"job{number}"), box.src / f"job{number + 1}")
    handled_once(daemon, box, {f"job5/{name}": text for name, text in texts.items()})


def test_files_follow_a_directory_that_a_file_manager_makes_and_then_names(run: Run, box: Box) -> None:
    daemon = run(uploads(delay=3 * DELAY_S))
    new = box.src / "New Folder"
    new.mkdir()
    write(new / "f", "1")
    daemon.wait_log("schedule task")
    call("mv", new, box.src / "final")
    write(box.src / "final" / "g", "2")
    handled_once(daemon, box, {"final/f": "1", "final/g": "2"})


def test_files_whose_directory_leaves_the_watched_tree_are_cancelled(run: Run, box: Box) -> None:
    daemon = run(uploads(delay=3 * DELAY_S, events=RESUMED))
    (box.src / "job").mkdir()
    for name in ("a", "b", "c"):
        write(box.src / "job" / name, name)
    for name in ("a", "b", "c"):
        daemon.wait_log(rf"schedule task, .*mask=IN_CLOSE_WRITE, path={box.src}/job/{name},")
    call("mv", box.src / "job", box.tmp / "gone")
    daemon.wait_log("scheduled task cancelled, mask=IN_MOVED_FROM", count=3)
    write(box.src / "last", "last")
    handled_once(daemon, box, {"last": "last"})
    assert sorted(files_of(box.tmp / "gone")) == ["a", "b", "c"]


@pytest.mark.slow
def test_tar_brings_each_file_once(run: Run, box: Box) -> None:
    need("tar")
    texts = grow(box.tmp / "stage" / "job")
    call("tar", "-C", box.tmp / "stage", "-cf", box.tmp / "job.tar", "job")
    daemon = run(uploads(delay=DELAY_S))
    call("tar", "-C", box.src, "-xf", box.tmp / "job.tar")
    handled_once(daemon, box, {f"job/{name}": text for name, text in texts.items()})


EVERY_ENTRY = """
pyinotifyd = Pyinotifyd([Watch("$SRC", recorder("IN_CREATE", "IN_CLOSE_WRITE"), rec=True, auto_add=True)])
"""


def odd(root: Path) -> None:
    """Links of every kind, a FIFO, a socket, an empty directory and a plain file, at two levels."""
    for directory in (root, root / "deep" / "er"):
        directory.mkdir(parents=True)
        write(directory / "plain", "text")
        os.link(directory / "plain", directory / "same")
        (directory / "link").symlink_to("plain")
        (directory / "dangling").symlink_to("/no/such/file")
        (directory / "to-directory").symlink_to("..")
        os.mkfifo(directory / "fifo")
        (directory / "empty").mkdir()
        with socket.socket(socket.AF_UNIX) as listener:
            # A path of a socket holds 108 bytes.
            here = os.open(directory, os.O_RDONLY)
            listener.bind(f"/proc/self/fd/{here}/socket")
            os.close(here)


@pytest.mark.parametrize("program", ["cp", "mv", "tar"])
def test_every_entry_of_an_odd_tree_is_told_once(run: Run, box: Box, program: str) -> None:
    """Dangling links, FIFOs and sockets as well, however early they are made; and nothing waits for a FIFO's writer."""
    stage = box.tmp / "stage"
    odd(stage / "job")
    expected = {f"{box.src}/{path.relative_to(stage)}" for path in stage.rglob("*")}
    if program == "tar":
        # It leaves sockets out.
        expected = {path for path in expected if not path.endswith("/socket")}
    if program == "mv":
        # The directory itself was moved, not made.
        expected.remove(f"{box.src}/job")
    daemon = run(EVERY_ENTRY, record=True)
    if program == "cp":
        call("cp", "-a", stage / "job", box.src)
    elif program == "mv":
        call("mv", stage / "job", box.src)
    else:
        call("sh", "-c", 'tar -C "$0" -cf - job 2>/dev/null | tar -C "$1" -xf -', stage, box.src)
    write(box.src / "last")

    def heard(maskname: str) -> Counter[str]:
        return Counter(event.pathname for event in daemon.events if event.maskname.split("|")[0] == maskname)

    wait_until(
        lambda: expected <= set(heard("IN_CREATE")),
        lambda: f"never told: {expected - set(heard('IN_CREATE'))}; {daemon.tail}",
    )
    daemon.wait_event("IN_CLOSE_WRITE", box.src / "last")
    created, closed = heard("IN_CREATE"), heard("IN_CLOSE_WRITE")
    assert set(created) == expected | {f"{box.src}/last"}
    # For links that lead out of a directory, tar first makes an empty file, and replaces it at its end.
    placeholders = {path for path in expected if program == "tar" and path.endswith(("/dangling", "/to-directory"))}
    assert {path: count for path, count in created.items() if count != 1 and path not in placeholders} == {}
    assert [path for path in set(closed) - placeholders if not stat.S_ISREG(os.lstat(path).st_mode)] == []
    # Of two hard links a program writes one, whichever it comes to first, and links the other.
    for directory in ("job", "job/deep/er"):
        assert {f"{box.src}/{directory}/plain", f"{box.src}/{directory}/same"} & set(closed)


# ---- rsync


@pytest.mark.slow
@pytest.mark.parametrize("options", [["-a"], ["-a", "--delay-updates"], ["-a", "--inplace"]], ids=" ".join)
def test_rsync_brings_each_file_once(run: Run, box: Box, options: list[str]) -> None:
    need("rsync")
    texts = grow(box.tmp / "stage")
    daemon = run(uploads(delay=DELAY_S, exclude=cookbook_filter()))
    call("rsync", *options, f"{box.tmp}/stage/", f"{box.src}/")
    handled_once(daemon, box, texts)


def test_rsync_without_a_delay_shows_no_temporary_name(run: Run, box: Box) -> None:
    need("rsync")
    (box.tmp / "stage").mkdir()
    texts = {f"f{number}": f"text {number}" for number in range(50)}
    for name, text in texts.items():
        write(box.tmp / "stage" / name, text)
    daemon = run(uploads(exclude=cookbook_filter()))
    call("rsync", "-a", "--delay-updates", f"{box.tmp}/stage/", f"{box.src}/")
    handled_once(daemon, box, texts)


# ---- uploads


@pytest.fixture
def ftp(box: Box) -> ftplib.FTP:
    """A client that is logged in to a server of its own, whose root is the box."""
    port = vsftpd(box)
    client = ftplib.FTP()
    client.connect("127.0.0.1", port, timeout=30)
    client.login()
    client.cwd("src")
    return client


HALF = b"half of an upload " * 4096


def test_an_upload_that_stalls_is_moved_to_another_filesystem_when_it_is_complete(
    run: Run, box: Box, ftp: ftplib.FTP, other: Path
) -> None:
    """The delay passes while the server has the file open: the task waits for the writer, and no byte is lost."""
    daemon = run(uploads(other, DELAY_S, ', "IN_CREATE": sched'))
    with ftp.transfercmd("STOR report") as data:
        data.sendall(HALF)
        wait_until(lambda: (box.src / "report").stat().st_size == len(HALF), "the first half")
        daemon.wait_log(rf"put off, the file is in use.*path={box.src}/report,")
        assert (box.src / "report").exists()
        assert files_of(other) == {}
        data.sendall(HALF)
    ftp.voidresp()
    handled_once(daemon, box, {"report": (HALF + HALF).decode()}, other)


def test_an_upload_that_is_broken_off_and_resumed_is_moved_once(
    run: Run, box: Box, ftp: ftplib.FTP, other: Path
) -> None:
    """The server closes the file when the connection breaks; the client goes on within the delay."""
    daemon = run(uploads(other, 3 * DELAY_S, RESUMED))
    with ftp.transfercmd("STOR report") as data:
        data.sendall(HALF)
    ftp.voidresp()
    daemon.wait_log(rf"schedule task, .*mask=IN_CLOSE_WRITE, path={box.src}/report,")
    with ftp.transfercmd("STOR report", rest=len(HALF)) as data:
        data.sendall(HALF)
        wait_until(lambda: (box.src / "report").stat().st_size == 2 * len(HALF), "the second half")
        daemon.wait_log(rf"scheduled task cancelled, mask=IN_MODIFY, path={box.src}/report,")
    ftp.voidresp()
    handled_once(daemon, box, {"report": (HALF + HALF).decode()}, other)


@pytest.fixture
def ssh(box: Box) -> list[str]:
    """Options that lead a client to a server of its own, as the user that runs the tests."""
    need("sshd", "ssh", "scp", "ssh-keygen")
    if os.geteuid() == 0 and not os.path.isdir("/run/sshd"):
        os.mkdir("/run/sshd", 0o755)
    port = free_port()
    for name in ("host", "user"):
        call("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", box.tmp / name)
    shutil.copy(box.tmp / "user.pub", box.tmp / "authorized")
    config = box.tmp / "sshd_config"
    config.write_text(
        f"Port {port}\nListenAddress 127.0.0.1\nHostKey {box.tmp}/host\nAuthorizedKeysFile {box.tmp}/authorized\n"
        f"PidFile none\nStrictModes no\nUsePAM no\nPermitRootLogin yes\nSubsystem sftp internal-sftp\n"
    )
    server = serve(box, shutil.which("sshd", path="/usr/sbin:/sbin") or "sshd", "-D", "-e", "-f", config)
    wait_until(lambda: answers(port) or not server.running, lambda: server.tail)
    options = [f"Port={port}", f"IdentityFile={box.tmp}/user", "StrictHostKeyChecking=no", "BatchMode=yes"]
    options += [f"UserKnownHostsFile={box.tmp}/known", "IdentitiesOnly=yes", "LogLevel=ERROR"]
    given = [word for option in options for word in ("-o", option)]
    tried = subprocess.run(["ssh", *given, "127.0.0.1", "true"], capture_output=True, check=False, timeout=60)
    if tried.returncode != 0:
        pytest.skip(f"sshd lets this user not in: {tried.stderr.decode()}{server.tail}")
    return given


@pytest.mark.parametrize("protocol", ["-s", "-O"], ids=["sftp", "rcp"])
def test_scp_brings_each_file_once(run: Run, box: Box, ssh: list[str], protocol: str) -> None:
    stage = box.tmp / "stage" / "job"
    (stage / "deep").mkdir(parents=True)
    texts = {f"job/{name}": f"text of {name}" * 1000 for name in ("a", "b c", "deep/d", "deep/é")}
    for name, text in texts.items():
        write(box.tmp / "stage" / name, text)
    daemon = run(uploads(delay=DELAY_S))
    call("scp", protocol, "-r", "-p", *ssh, stage, f"127.0.0.1:{box.src}/")
    handled_once(daemon, box, texts)


def test_a_slow_producer_behind_ssh_keeps_its_file(run: Run, box: Box, ssh: list[str], other: Path) -> None:
    """`producer | ssh host 'cat > in/dump.sql'`: longer than the delay between two writes."""
    daemon = run(uploads(other, DELAY_S, ', "IN_CREATE": sched'))
    command = ["ssh", *ssh, "127.0.0.1", f"cat > {box.src}/dump.sql"]
    with subprocess.Popen(command, stdin=subprocess.PIPE) as producer:
        assert producer.stdin
        producer.stdin.write(HALF)
        producer.stdin.flush()
        daemon.wait_log(rf"put off, the file is in use.*path={box.src}/dump.sql,")
        producer.stdin.write(HALF)
    assert producer.returncode == 0
    handled_once(daemon, box, {"dump.sql": (HALF + HALF).decode()}, other)


def test_a_task_that_waits_for_a_writer_says_so_once(run: Run, box: Box, other: Path) -> None:
    """It looks each second, which is nothing for a log of an upload of hours."""
    daemon = run(uploads(other, 0, ', "IN_CREATE": sched'), "-d")
    with (box.src / "report").open("w") as file:
        file.write("half")
        file.flush()
        wait_until(lambda: daemon.count("DEBUG - start task") >= 2, lambda: daemon.tail)
        assert daemon.count("INFO - start task") == 1
        assert daemon.count("put off, the file is in use") == 1
    wait_until((other / "report").exists, lambda: daemon.tail)


# ---- an editor

SAVES = """
import pathlib
async def job(event, task_id):
    print("SAVED", event.pathname, repr(pathlib.Path(event.pathname).read_text()), flush=True)
sched = TaskScheduler(job, delay=%s)
pyinotifyd = Pyinotifyd([Watch("%s", {"IN_CLOSE_WRITE": sched, "IN_MOVED_TO": sched},
    exclude_filter=[r".*/\\.[^/]*\\.sw[a-p]x?$", r".*/4913$", r".*~$"])])
"""


@pytest.mark.parametrize("watched", ["$SRC", "$SRC/doc"], ids=["directory", "file"])
@pytest.mark.parametrize("way", ["backupcopy=no", "backupcopy=yes", "nowritebackup"])
def test_each_save_of_vim_is_told(run: Run, box: Box, watched: str, way: str) -> None:
    """By rename and in place; a watch on the file itself goes on with the file that has its name."""
    need("vim")
    doc = box.src / "doc"
    write(doc, "0\n")
    daemon = run(SAVES % (DELAY_S, watched))
    for number in range(1, 4):
        # The text is replaced, saved and left, with swap file and backup as vim is set up by itself.
        edit = ["-c", f"set {way} backup", "-c", f"%s/.*/{number}/", "-c", "wq"]
        subprocess.run(["vim", "-u", "NONE", "-es", *edit, doc], check=True, timeout=60, stdin=subprocess.DEVNULL)
        assert doc.read_text() == f"{number}\n"
        daemon.wait_out(rf"SAVED {doc} '{number}\\n'")
        # An event of a path whose job runs makes no task.
        daemon.wait_log("task finished", count=number)
    others = [line for line in daemon.out.lines if line.startswith("SAVED ") and f" {doc} " not in line]
    assert others == []


def test_sed_in_place_is_told_under_the_final_name(run: Run, box: Box) -> None:
    """sed writes a file of another name and renames it, as most programs that save safely do."""
    need("sed")
    write(box.src / "doc", "0\n")
    daemon = run(SAVES % (DELAY_S, "$SRC/doc"))
    call("sed", "-i", "s/0/1/", box.src / "doc")
    daemon.wait_out(rf"SAVED {box.src}/doc '1\\n'")


def test_the_interpreter_of_the_tests_saves_safely(run: Run, box: Box) -> None:
    """os.replace, as programs in Python do."""
    daemon = run(SAVES % (DELAY_S, "$SRC"))
    script = "import os, sys; open(sys.argv[1] + '~', 'w').write('1'); os.replace(sys.argv[1] + '~', sys.argv[1])"
    call(sys.executable, "-c", script, box.src / "doc")
    daemon.wait_out(rf"SAVED {box.src}/doc '1'")
