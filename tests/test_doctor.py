"""`pyinotifyd doctor`: each finding, with the command that mends it."""

from __future__ import annotations

import contextlib
import json
import os
import shlex
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from fuse import Filesystem
from vocabulary import Box, Daemon, need

pytestmark = pytest.mark.skipif(bool(os.environ.get("PYINOTIFYD_TEST_REFERENCE")), reason="the original has none")

Run = Callable[..., Daemon]

CONFIG = """
async def job(event, task_id):
    pass
pyinotifyd = Pyinotifyd([Watch("$SRC", {"IN_CREATE": job}, rec=True)], control="$TMP/c.sock", state="$TMP/state")
"""


def doctor(
    box: Box, *words: str, before: tuple[str, ...] = (), status: int = 0, **env: str
) -> dict[str, dict[str, Any]]:
    """Return the findings by what they are about, the worst of each."""
    argv = [*before, os.fspath(box.program), "doctor", "-c", os.fspath(box.config), "--json", *words]
    done = subprocess.run(argv, capture_output=True, text=True, env={**os.environ, **env}, check=False)
    assert done.returncode == status, done
    levels = ["ok", "warning", "problem"]
    found: dict[str, dict[str, Any]] = {}
    for finding in json.loads(done.stdout)["findings"]:
        known = found.get(finding["about"])
        if known is None or levels.index(finding["level"]) > levels.index(known["level"]):
            found[finding["about"]] = finding
        assert ("mend" in finding) == (finding["level"] != "ok"), finding
    return found


def program(box: Box) -> str:
    """The program as a word of a shell."""
    return shlex.quote(os.fspath(box.program))


def give(box: Box) -> None:
    """Makes the config file that of the plain user."""
    if os.geteuid() == 0:
        os.chown(box.config, 65534, 65534)


def test_where_all_is_well_each_line_says_so(box: Box, run: Run) -> None:
    daemon = run(CONFIG)
    found = doctor(box, "--control", os.fspath(box.tmp / "c.sock"))
    for about in ("python", "config", "filesystem", "state", "control", "openat2", "fanotify"):
        assert found[about]["level"] == "ok", found[about]
    assert found["control"]["text"] == f"the daemon with pid {daemon.pid} answers"
    assert "the config needs 1" in found["watches"]["text"]
    text = subprocess.run([box.program, "doctor", "-c", box.config], capture_output=True, text=True, check=False).stdout
    assert text.splitlines()[0].startswith("ok        python: ")


def test_without_a_daemon_it_says_how_to_start_one(box: Box) -> None:
    box.write_config(CONFIG)
    socket = box.tmp / "none.sock"
    found = doctor(box, "--control", os.fspath(socket))
    start = f"{program(box)} -c {box.config} --control {socket}"
    assert (found["control"]["level"], found["control"]["mend"]) == ("warning", start)
    # That is what the config says, too.
    started = doctor(box)["control"]
    assert str(box.tmp / "c.sock") in started["text"]
    assert started["mend"] == f"{program(box)} -c {box.config}"
    # The command is right.
    daemon = box.start(None, *shlex.split(started["mend"])[1:])
    daemon.wait_log("start listening")
    assert doctor(box)["control"]["text"] == f"the daemon with pid {daemon.pid} answers"


@pytest.mark.parametrize("place", ["the same", "another", "none"])
def test_a_command_asks_the_socket_that_the_environment_names(box: Box, place: str) -> None:
    """Whoever follows it may have another environment, as with sudo."""
    socket = os.fspath(box.tmp / "c.sock")
    of_config = {"the same": ', control="$TMP/c.sock"', "another": ', control="$TMP/other.sock"', "none": ""}[place]
    box.write_config(CONFIG.replace(', control="$TMP/c.sock"', of_config))
    start = doctor(box, PYINOTIFYD_CONTROL=socket)["control"]["mend"]
    at = "" if place == "the same" else f" --control {socket}"
    assert start == f"{program(box)} -c {box.config}{at}"
    daemon = box.start(None, *shlex.split(start)[1:])
    daemon.wait_log("start listening")
    other = box.tmp / "other.py"
    other.write_text("pyinotifyd = Pyinotifyd()\n")
    argv: list[str | Path] = [box.program, "doctor", "-c", other, "--json"]
    env = {**os.environ, "PYINOTIFYD_CONTROL": socket}
    done = subprocess.run(argv, capture_output=True, text=True, env=env, check=False)
    [found] = [one for one in json.loads(done.stdout)["findings"] if one["about"] == "control"]
    assert found["mend"] == f"{program(box)} doctor -c {box.config} --control {socket}"
    found = doctor(box, *shlex.split(found["mend"])[4:])["control"]
    assert found["text"] == f"the daemon with pid {daemon.pid} answers"


def test_a_daemon_that_runs_with_another_config_is_named(box: Box, run: Run) -> None:
    daemon = run(CONFIG)
    other = box.tmp / "other.py"
    other.write_text("pyinotifyd = Pyinotifyd()\n")
    socket = os.fspath(box.tmp / "c.sock")
    argv: list[str | Path] = [box.program, "doctor", "-c", other, "--control", socket, "--json"]
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    [found] = [one for one in json.loads(done.stdout)["findings"] if one["about"] == "control"]
    assert found["text"] == f"the daemon with pid {daemon.pid} runs with another configuration"
    assert found["mend"] == f"{program(box)} doctor -c {box.config} --control {socket}"
    assert doctor(box, *shlex.split(found["mend"])[4:])["control"]["level"] == "ok"


def test_where_no_config_is_named_it_is_that_of_the_daemon_that_answers(box: Box, run: Run) -> None:
    daemon = run(CONFIG)
    socket = os.fspath(box.tmp / "c.sock")
    for words, env in (((), {"PYINOTIFYD_CONTROL": socket}), (("--control", socket), {})):
        argv = [os.fspath(box.program), "doctor", "--json", *words]
        done = subprocess.run(argv, capture_output=True, text=True, env={**os.environ, **env}, check=False)
        found = {one["about"]: one for one in json.loads(done.stdout)["findings"]}
        assert found["config"]["text"] == f"{box.config} can be used; the daemon with pid {daemon.pid} runs with it"
        assert found["control"]["text"] == f"the daemon with pid {daemon.pid} answers"
        assert f"'{box.src}' is on " in found["filesystem"]["text"]


def test_the_state_is_that_of_the_daemon_that_answers(box: Box) -> None:
    box.write_config(CONFIG.replace(', state="$TMP/state"', ""))
    box.env["STATE_DIRECTORY"] = os.fspath(box.tmp / "kept")
    (box.tmp / "kept").mkdir(mode=0o700)
    box.start(None, "-c", os.fspath(box.config)).wait_log("start listening")
    assert doctor(box)["state"]["text"].startswith(f"'{box.tmp}/kept' ")
    # What the user names counts more.
    assert doctor(box, "--state", os.fspath(box.tmp / "other"))["state"]["text"].startswith(f"'{box.tmp}/other' ")


def test_a_daemon_without_a_state_has_none_whatever_we_have(box: Box) -> None:
    box.write_config(CONFIG.replace(', state="$TMP/state"', ""))
    box.start(None, "-c", os.fspath(box.config)).wait_log("start listening")
    found = doctor(box, STATE_DIRECTORY=os.fspath(box.tmp / "ours"))
    assert found["state"]["text"] == "none: tasks do not survive the end of the daemon"


def test_a_root_that_is_a_link_to_nothing_is_not_proposed_to_be_made(box: Box) -> None:
    box.write_config(CONFIG)
    box.src.rmdir()
    box.src.symlink_to("disk")
    link = f"'{box.src}' is a link to '{box.src.parent}/disk', which does not exist"
    for path, text in ((box.src, link), (box.src / "in" / "deep", f"'{box.src}/in/deep' does not exist: {link}")):
        box.write_config(CONFIG.replace("$SRC", os.fspath(path)))
        found = doctor(box, "--control", os.fspath(box.tmp / "none.sock"))["filesystem"]
        text += "; the daemon waits for it"
        assert (found["level"], found["text"], found["mend"]) == ("warning", text, f"ls -l {box.src}")


def test_a_config_is_judged_with_the_state_of_the_daemon_that_answers(box: Box) -> None:
    config = CONFIG.replace(', state="$TMP/state"', "").replace("rec=True", 'rec=True, initial="changed"')
    box.write_config(config)
    box.env["STATE_DIRECTORY"] = os.fspath(box.tmp / "kept")
    (box.tmp / "kept").mkdir(mode=0o700)
    box.start(None, "-c", os.fspath(box.config)).wait_log("start listening")
    # The configuration cannot be executed before the daemon is found.
    found = doctor(box, "--control", os.fspath(box.tmp / "c.sock"))
    assert found["config"]["level"] == "ok", found["config"]
    assert found["state"]["text"].startswith(f"'{box.tmp}/kept' ")


def test_a_config_file_that_went_under_its_daemon_is_not_made_up(box: Box, run: Run) -> None:
    daemon = run(CONFIG)
    box.config.unlink()
    found = doctor(box, "--control", os.fspath(box.tmp / "c.sock"), status=1)["config"]
    kept = f"the daemon with pid {daemon.pid} goes on with what it had before"
    assert (found["level"], found["text"]) == ("problem", f"{box.config} does not exist; {kept}")
    assert found["mend"] == f"ls -l {box.tmp}"


def test_a_reload_that_was_refused_is_said(box: Box, run: Run) -> None:
    daemon = run(CONFIG)
    good = box.config.read_text()
    box.config.write_text("pyinotifyd = Nothing()\n")
    subprocess.run([box.program, "reload", "--control", box.tmp / "c.sock"], capture_output=True, check=False)
    found = doctor(box, "--control", os.fspath(box.tmp / "c.sock"), status=1)
    assert found["config"]["level"] == "problem"
    text = f"the latest reload was refused, the daemon with pid {daemon.pid} goes on with what it had before: "
    assert found["control"]["text"].startswith(text), found["control"]
    assert "Nothing" in found["control"]["text"]
    # The command is right once the file is.
    box.config.write_text(good)
    command = doctor(box)["control"]["mend"]
    assert command == f"{program(box)} reload --control {box.tmp}/c.sock"
    subprocess.run(shlex.split(command), check=True, capture_output=True)
    assert doctor(box)["control"]["text"] == f"the daemon with pid {daemon.pid} answers"


def test_what_another_users_daemon_names_is_not_executed(box: Box, run: Run, plain_user: None) -> None:
    if os.geteuid() != 0:
        pytest.skip("needs two users")
    daemon = run(CONFIG.replace(', state="$TMP/state"', ""))
    argv = [os.fspath(box.program), "doctor", "--json", "--control", os.fspath(box.tmp / "c.sock")]
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    found = {one["about"]: one for one in json.loads(done.stdout)["findings"]}
    assert os.fspath(box.config) not in found["config"]["text"]
    assert found["control"]["text"] == f"the daemon with pid {daemon.pid} runs with another configuration"
    assert found["rights"]["text"] == f"asked as user 0, but the daemon with pid {daemon.pid} runs as user 65534"


def test_options_before_it_count_too(box: Box, run: Run) -> None:
    daemon = run(CONFIG)
    argv: list[str | Path] = [box.program, "-c", box.config, "--control", box.tmp / "c.sock", "doctor", "--json"]
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    found = {one["about"]: one for one in json.loads(done.stdout)["findings"]}
    assert found["config"]["text"] == f"{box.config} can be used"
    assert found["control"]["text"] == f"the daemon with pid {daemon.pid} answers"


def test_a_config_that_cannot_be_used_is_a_problem(box: Box) -> None:
    box.write_config("nonsense")
    found = doctor(box, status=1)
    assert found["config"]["mend"] == f"{program(box)} -t -c {box.config}"
    box.config.unlink()
    missing = doctor(box, status=1)["config"]
    assert (missing["level"], missing["text"]) == ("problem", f"{box.config} does not exist")
    mend = missing["mend"]
    assert mend == f"{program(box)} watch . --print-config > {box.config}"
    subprocess.run(mend, shell=True, check=True, cwd=box.src)
    assert doctor(box)["config"]["level"] == "ok"


def test_an_old_python_is_a_problem(box: Box) -> None:
    box.write_config(CONFIG)
    old = box.tmp / "python3"
    old.write_text("#!/bin/sh\necho 3 8 10\n")
    old.chmod(0o755)
    found = doctor(box, "--python", os.fspath(old), status=1)
    assert found["python"]["text"] == f"{old} is Python 3.8.10, 3.9 or newer is needed"
    assert "python3" in found["python"]["mend"]
    assert doctor(box, "--python", os.fspath(box.tmp / "none"), status=1)["python"]["level"] == "problem"
    assert doctor(box, "--python", sys.executable)["python"]["level"] == "ok"


def test_too_few_watches_are_a_problem(box: Box) -> None:
    need("unshare")
    if subprocess.run(["unshare", "-Ur", "true"], capture_output=True, check=False).returncode != 0:
        pytest.skip("needs user namespaces")
    box.write_config(CONFIG)
    for number in range(30):
        (box.src / str(number)).mkdir()
    shell = 'echo 20 >/proc/sys/user/max_inotify_watches && exec "$@"'
    found = doctor(box, before=("unshare", "-Ur", "sh", "-c", shell, "sh"), status=1)
    assert found["watches"]["level"] == "problem"
    assert "user.max_inotify_watches = 20; the config needs 31" in found["watches"]["text"]
    assert found["watches"]["mend"].startswith("sysctl -w user.max_inotify_watches=")


def test_paths_in_commands_are_words_of_a_shell(box: Box) -> None:
    place = box.tmp / "it's\n \x1b1m"
    box.write_config(CONFIG.replace('"$SRC"', repr(os.fspath(place / "none"))))
    mend = doctor(box)["filesystem"]["mend"]
    assert "\n" not in mend
    assert "\x1b" not in mend
    subprocess.run(["bash", "-c", mend], check=True)
    assert (place / "none").is_dir()
    assert doctor(box)["filesystem"]["level"] == "ok"


def test_what_the_kernel_cannot_see_is_warned_of(box: Box, root: None) -> None:
    need("fusermount3")
    (box.tmp / "mnt").mkdir()
    with contextlib.closing(Filesystem(box.tmp / "mnt")):
        box.write_config(CONFIG.replace("$SRC", "$TMP/mnt"))
        found = doctor(box)
    assert found["filesystem"]["level"] == "warning"
    mend = found["filesystem"]["mend"]
    assert mend == f"grep -F ' {box.tmp}/mnt ' /proc/self/mounts"


def test_a_missing_path_is_waited_for(box: Box) -> None:
    box.write_config(CONFIG.replace("$SRC", "$SRC/none"))
    found = doctor(box)
    assert (found["filesystem"]["level"], found["filesystem"]["mend"]) == ("warning", f"mkdir -p {box.src}/none")


def test_a_missing_right_is_named(box: Box, plain_user: None) -> None:
    box.write_config(CONFIG)
    give(box)
    (box.tmp / "state").mkdir(mode=0o500)
    found = doctor(box, before=tuple(box.before), status=1, **box.env)
    assert found["state"]["text"] == f"'{box.tmp}/state' cannot be written"
    assert found["state"]["mend"] == f"namei -l {box.tmp}/state"
    assert "CAP_SYS_ADMIN" in found["fanotify"]["text"]


RULES = """
rule = FileManagerRule("move", r"^$SRC/(.*)$", r"$TMP/to/\\1", auto_create=True)
take = FileManagerScheduler(rule)
pyinotifyd = Pyinotifyd([Watch("$SRC", {"IN_CLOSE_WRITE": take})], control=False)
"""


def test_what_rules_may_not_do_is_a_problem(box: Box, plain_user: None) -> None:
    box.write_config(RULES)
    give(box)
    destination = box.tmp / "to"
    destination.mkdir(mode=0o777)
    destination.chmod(0o777)
    box.src.chmod(0o777)

    def ask(status: int = 0) -> dict[str, dict[str, Any]]:
        return doctor(box, before=tuple(box.before), status=status, **box.env)

    assert ask()["destination"]["text"] == f"'{destination}' can be written"
    destination.chmod(0o555)
    box.src.chmod(0o555)
    found = ask(status=1)
    assert found["destination"]["level"] == found["source"]["level"] == "problem"
    assert found["destination"]["text"] == f"{box.config}:2: the destination '{destination}' cannot be written"
    assert found["source"]["text"].endswith(f"'{box.src}' cannot be written: the rule cannot move what is in it")
    assert found["source"]["mend"] == f"namei -l {box.src}"
    box.src.chmod(0)
    assert ask(status=1)["filesystem"]["text"] == f"'{box.src}' cannot be watched: we may not read it"
    box.src.chmod(0o755)


def test_where_results_go_has_to_be_there_and_mounted(box: Box) -> None:
    box.write_config(RULES.replace(", auto_create=True", ""))
    found = doctor(box)["destination"]
    why = "does not exist: make it, or write auto_create=True, or mounted= if a filesystem has to be mounted there"
    assert found["text"] == f"{box.config}:2: the destination '{box.tmp}/to' {why}"
    subprocess.run(found["mend"], shell=True, check=True)
    assert doctor(box)["destination"]["level"] == "ok"
    box.write_config(RULES.replace("auto_create=True", f'mounted="{box.tmp}/to"'))
    found = doctor(box)["mounted"]
    assert (found["level"], found["text"]) == (
        "warning",
        f"{box.config}:2: '{box.tmp}/to' is not mounted: the rule fails until it is",
    )


def test_nothing_can_be_made_below_a_file(box: Box) -> None:
    file = box.tmp / "file"
    file.touch(mode=0o777)
    box.write_config(CONFIG)
    for state in (file, file / "deeper" / "state"):
        found = doctor(box, "--state", os.fspath(state), status=1)["state"]
        made = f"'{state}' cannot be made: " if state != file else ""
        assert found["text"] == f"{made}'{file}' is no directory"
    box.write_config(RULES.replace("$TMP/to", f"{file}/to"))
    assert doctor(box, status=1)["destination"]["text"].endswith(f"'{file}' is no directory")


def test_what_nobody_can_make_is_said_and_not_proposed(box: Box) -> None:
    file, long = box.tmp / "file", "n" * 300
    file.touch()
    cases = [
        (f"{file}/to", f"'{file}' is no directory", f"namei -l {file}/to"),
        (f"{box.tmp}/a/{long}", "a name is longer than 255 bytes", f"getconf NAME_MAX {box.tmp}"),
        ("/proc/x/y", "'/proc' is on proc, where the kernel alone makes files", "findmnt -T /proc"),
    ]
    for place, why, mend in cases:
        for more in ("", ", auto_create=True"):
            box.write_config(RULES.replace("$TMP/to", place).replace(", auto_create=True", more))
            found = doctor(box, status=1)["destination"]
            text = f"{box.config}:2: the destination '{place}' cannot be made: {why}"
            assert (found["text"], found["mend"]) == (text, mend)
            assert subprocess.run(mend, shell=True, capture_output=True, check=False).returncode in (0, 1)
        found = doctor(box, "--state", place, status=1)["state"]
        assert (found["text"], found["mend"]) == (f"'{place}' cannot be made: {why}", mend)


def test_a_rule_that_no_watch_leads_to_is_judged_nowhere(box: Box) -> None:
    """It is said once; of those that are reached by other ways it is not said."""
    box.write_config(
        """

lost = FileManagerRule("move", r"^$TMP/elsewhere/(.*)$", r"$TMP/none/\\1", trash="$TMP/config.py/x", overwrite=True)
deep = FileManagerRule("copy", r"^$SRC/[^/]+/sub/(.*)$", r"$TMP/to/\\1", auto_create=True)
take = FileManagerScheduler([lost, deep])
failed = FileManagerScheduler(FileManagerRule("move", r"^$SRC/(.*)\\.bad$", r"$TMP/bad/\\1", auto_create=True))
glob = FileManagerScheduler(FileManagerRule("copy", r"^$TMP/a/in/(.*)$", r"$TMP/glob/\\1", auto_create=True))
check = ShellScheduler("true # {pathname}", on_failure=failed)
pyinotifyd = Pyinotifyd([
    Watch("$SRC", {"IN_CLOSE_WRITE": [take, check]}, rec=True),
    Watch("$TMP/*/in", {"IN_CLOSE_WRITE": glob}),
], control=False)
"""
    )
    argv: list[str | Path] = [box.program, "doctor", "-c", box.config, "--json"]
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done
    findings = json.loads(done.stdout)["findings"]
    of_rules = {(one["about"], one["text"]) for one in findings if one["about"] in ("rule", "destination", "trash")}
    why = "this rule is never reached, since no watch whose events come to 'take' leads to what src_re matches"
    assert of_rules == {
        ("rule", f"{box.config}:3: {why}"),
        *(("destination", f"'{box.tmp}/{name}' can be made") for name in ("to", "bad", "glob")),
    }
    [mend] = [one["mend"] for one in findings if one["about"] == "rule"]
    assert mend == f"${{EDITOR:-vi}} +3 {box.config}"
    # A watch that sees its own entries only leads to nothing deeper.
    box.config.write_text(box.config.read_text().replace(", rec=True", ""))
    findings = json.loads(subprocess.run(argv, capture_output=True, check=False).stdout)["findings"]
    unreached = [one["text"] for one in findings if one["about"] == "rule"]
    assert unreached == [f"{box.config}:{line}: {why}" for line in (3, 4)]


def test_a_rule_is_judged_where_it_can_apply(box: Box, plain_user: None) -> None:
    """Two watches of one scheduler, and each rule is for one of them; the third is for what lies deeper."""
    box.write_config(
        """
rules = [
    FileManagerRule("move", r"^$SRC/(.*)$", r"$TMP/to/\\1", auto_create=True),
    FileManagerRule("delete", r"^$TMP/(?:other|more)/sub/.*$"),
    FileManagerRule("delete", r"^$TMP/other/[^/]+/.*$"),
]
take = FileManagerScheduler(rules)
maps = {"IN_CLOSE_WRITE": take}
pyinotifyd = Pyinotifyd([Watch("$SRC", maps), Watch("$TMP/other", maps, rec=True)], control=False)
"""
    )
    other, sub = box.tmp / "other", box.tmp / "other" / "sub"
    sub.mkdir(parents=True)
    for directory, mode in ((box.src, 0o777), (sub, 0o777), (other, 0o555), (box.tmp, 0o777)):
        directory.chmod(mode)
    give(box)
    assert "source" not in doctor(box, before=tuple(box.before), status=0, **box.env)
    box.src.chmod(0o555)
    found = doctor(box, before=tuple(box.before), status=1, **box.env)
    assert found["source"]["text"].startswith(f"{box.config}:3: '{box.src}' cannot be written")
    box.src.chmod(0o755)
    other.chmod(0o755)


def test_a_trash_is_looked_at(box: Box, plain_user: None) -> None:
    trash = box.tmp / "bin" / "trash"
    box.tmp.chmod(0o777)
    box.src.chmod(0o777)

    def ask(rule: str, status: int = 0) -> dict[str, dict[str, Any]]:
        box.write_config(RULES.replace("auto_create=True", f'trash="{trash}", {rule}').replace("$TMP/to", "$SRC/to"))
        give(box)
        return doctor(box, before=tuple(box.before), status=status, **box.env)

    (box.src / "to").mkdir(mode=0o777)
    (box.src / "to").chmod(0o777)
    assert ask("overwrite=True")["trash"]["text"].startswith(f"'{trash}' can be made, on ")
    trash.mkdir(parents=True)
    trash.chmod(0o555)
    found = ask("overwrite=True", status=1)["trash"]
    assert (found["text"], found["mend"]) == (f"{box.config}:2: '{trash}' cannot be written", f"namei -l {trash}")
    assert "trash" not in ask('on_conflict="skip"'), "nothing comes into it"


def test_a_trash_on_another_filesystem_is_said(box: Box, root: None) -> None:
    need("mount")
    trash = box.tmp / "trash"
    trash.mkdir()
    box.write_config(
        f"""
take = FileManagerScheduler(FileManagerRule("delete", r"^$SRC/(.*)$", trash="{trash}"))
pyinotifyd = Pyinotifyd([Watch("$SRC", {{"IN_CLOSE_WRITE": take}})], control=False)
"""
    )
    assert "another filesystem" not in doctor(box)["trash"]["text"]
    if subprocess.run(["mount", "-t", "tmpfs", "none", trash], check=False).returncode != 0:
        pytest.skip("cannot mount")
    try:
        text = doctor(box)["trash"]["text"]
    finally:
        subprocess.run(["umount", trash], check=True)
    lost = f"what is lost in '{box.src}' is copied there, from another filesystem"
    assert text == f"'{trash}' can be written, on tmpfs; {lost}"


def test_below_what_is_not_mounted_nothing_is_judged(box: Box, plain_user: None) -> None:
    (box.tmp / "mnt").mkdir(mode=0o555)
    box.src.chmod(0o777)
    box.write_config(RULES.replace("$TMP/to", "$TMP/mnt/to").replace("auto_create", 'mounted="$TMP/mnt", auto_create'))
    give(box)
    found = doctor(box, before=tuple(box.before), status=0, **box.env)
    assert found["mounted"]["level"] == "warning"
    assert "destination" not in found


def test_whose_rights_were_asked_is_said(box: Box, run: Run, plain_user: None) -> None:
    if os.geteuid() != 0:
        pytest.skip("needs two users")
    daemon = run(CONFIG.replace(', state="$TMP/state"', ""))
    before, box.before = box.before, []
    # What may be changed by the other user is no config for root.
    found = doctor(box, "--control", os.fspath(box.tmp / "c.sock"), status=1)
    box.before = before
    assert found["rights"]["text"] == f"asked as user 0, but the daemon with pid {daemon.pid} runs as user 65534"


def test_a_state_that_is_open_or_full_is_a_problem(box: Box, root: None) -> None:
    need("mount")
    box.write_config(CONFIG)
    state = box.tmp / "state"
    state.mkdir()
    state.chmod(0o777)
    assert doctor(box, status=1)["state"]["mend"] == f"chmod go-w {state}"
    state.chmod(0o700)
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m,mode=0700", "none", state], check=False).returncode != 0:
        pytest.skip("cannot mount")
    try:
        found = doctor(box, status=1)
    finally:
        subprocess.run(["umount", state], check=True)
    assert (found["state"]["level"], found["state"]["mend"]) == ("problem", f"df -h {state}")
