"""What the config test warns of beyond syntax, with file and line; it never changes the exit code."""

from __future__ import annotations

import os
import re
import socket

import pytest

from control import Operator
from vocabulary import REFERENCE, Box, Daemon

pytestmark = pytest.mark.skipif(REFERENCE, reason="the original only looks at the syntax")

COMMAND = 'sched = ShellScheduler("true")\n'


def test_of(box: Box, config: str) -> Daemon:
    daemon = box.call("-t", config=config)
    assert daemon.exit_code == 0, daemon.tail
    assert daemon.lines[-1] == "INFO: config file ok"
    return daemon


test_of.__test__ = False  # type: ignore[attr-defined]  # a word of these tests, not one of them


def warned(box: Box, config: str, pattern: str, line: int | None = None) -> None:
    daemon = test_of(box, config)
    warnings = [text for text in daemon.lines if text.startswith("WARNING: ")]
    matching = [text for text in warnings if re.search(pattern, text)]
    assert matching, f"no warning like /{pattern}/ among {warnings}"
    if line is not None:
        assert any(f"{box.config}:{line}" in text or f"line {line}" in text for text in matching), matching


def test_a_clean_config_has_no_warnings(box: Box) -> None:
    config = r"""
move = FileManagerScheduler([FileManagerRule("move", r"^$SRC/([^/]+)\.in$", r"$DST/\1")], delay=5)
pyinotifyd = Pyinotifyd([Watch("$SRC", {"IN_CLOSE_WRITE": move, "IN_DELETE": Cancel(move)}, rec=True,
    auto_add=True)], shutdown_timeout=30)
"""
    assert test_of(box, config).lines == ["INFO: config file ok"]


def test_a_shutdown_timeout_below_the_longest_delay(box: Box) -> None:
    config = (
        COMMAND.replace('"true"', '"true", delay=60')
        + 'pyinotifyd = Pyinotifyd([Watch("$SRC", {"IN_CREATE": sched})], shutdown_timeout=30)'
    )
    warned(box, config, "shutdown_timeout.*30.*60|delay.*60.*30")


def test_a_destination_inside_the_watched_tree(box: Box) -> None:
    config = r"""
sched = FileManagerScheduler(
    [FileManagerRule("copy", r"^$SRC/(.*)$", r"$SRC/again/\1", auto_create=True)])
pyinotifyd = Pyinotifyd([Watch("$SRC", {"IN_CLOSE_WRITE": sched}, rec=True, auto_add=True)])
"""
    warned(box, config, "destination.*inside", line=3)


def test_a_rule_that_an_earlier_one_always_shadows(box: Box) -> None:
    config = r"""
one = FileManagerRule("copy", r"^$SRC/(.*)$", r"$DST/\1")
two = FileManagerRule("move", r"^$SRC/(.*)$", r"$TMP/\1")
pyinotifyd = Pyinotifyd([Watch("$SRC", {"IN_CLOSE_WRITE": FileManagerScheduler([one, two])})])
"""
    warned(box, config, "shadow|earlier|never", line=3)


def test_a_cancel_on_a_scheduler_that_nothing_schedules(box: Box) -> None:
    warned(box, COMMAND + 'pyinotifyd = Pyinotifyd([Watch("$SRC", {"IN_DELETE": Cancel(sched)})])', "(?i)cancel")


def test_a_source_pattern_without_an_end_whose_tail_is_kept(box: Box) -> None:
    config = r"""
sched = FileManagerScheduler(FileManagerRule("move", r"^$SRC/(.*)\.in", r"$DST/\1"))
pyinotifyd = Pyinotifyd([Watch("$SRC", {"IN_CLOSE_WRITE": sched})])
"""
    warned(box, config, "src_re.*end", line=2)


def test_a_path_that_is_missing(box: Box) -> None:
    warned(
        box, COMMAND + 'pyinotifyd = Pyinotifyd([Watch("$TMP/missing", {"IN_CREATE": sched})])', f"{box.tmp}/missing"
    )


@pytest.mark.parametrize("path", ["link", "link/in/deep"])
def test_a_path_that_leads_through_a_link_to_nothing(box: Box, path: str) -> None:
    (box.tmp / "link").symlink_to("disk/data")
    config = COMMAND + f'pyinotifyd = Pyinotifyd([Watch("$TMP/{path}", {{"IN_CREATE": sched}})])'
    why = f"'{box.tmp}/link' is a link to '{box.tmp}/disk/data', which does not exist"
    daemon = box.call("-t", config=config)
    assert daemon.exit_code == 0, daemon.tail
    line = f"WARNING: {box.config}:2: '{box.tmp}/{path}' cannot be watched now ({why}); the daemon waits for it"
    assert line in daemon.lines


def test_a_path_that_may_not_be_read(box: Box) -> None:
    for name in ("shut", "open"):
        (box.src / name).mkdir()
    (box.src / "shut").chmod(0)
    config = COMMAND + 'pyinotifyd = Pyinotifyd([Watch(["$SRC/shut", "$SRC/open"], {"IN_CREATE": sched})])'
    # root without the right to read everything.
    without = ["setpriv", "--bounding-set=-dac_override,-dac_read_search"] if os.geteuid() == 0 else []
    daemon = box.call("-t", config=config, before=without)
    assert daemon.exit_code == 0, daemon.tail
    assert f"WARNING: {box.config}:2: '{box.src}/shut' cannot be watched: Permission denied" in daemon.lines
    assert daemon.count("open") == 0


def test_a_path_on_a_filesystem_that_inotify_can_not_see(box: Box) -> None:
    warned(box, COMMAND + 'pyinotifyd = Pyinotifyd([Watch("/proc/sys", {"IN_CREATE": sched})])', "/proc/sys.*proc")


@pytest.mark.parametrize("argument", ['user="no-such-user"', 'group="no-such-group"'])
def test_a_user_or_group_that_does_not_exist(box: Box, argument: str) -> None:
    config = rf"""
sched = FileManagerScheduler(FileManagerRule("move", r"^$SRC/(.*)$", r"$DST/\1", {argument}))
pyinotifyd = Pyinotifyd([Watch("$SRC", {{"IN_CLOSE_WRITE": sched}})])
"""
    warned(box, config, argument.split('"')[1], line=2)


def test_more_directories_than_the_limit_of_watches(box: Box) -> None:
    import subprocess

    unshare = ["unshare", "--user", "--map-current-user", "--keep-caps"]
    if subprocess.run([*unshare, "true"], capture_output=True, check=False).returncode != 0:
        pytest.skip("user namespaces are not allowed here")
    for number in range(100):
        (box.src / f"d{number}").mkdir()
    limited = [*unshare, "sh", "-c", 'echo 40 > /proc/sys/user/max_inotify_watches; exec "$@"', "sh"]
    config = COMMAND + 'pyinotifyd = Pyinotifyd([Watch("$SRC", {"IN_CREATE": sched}, rec=True)])'
    daemon = box.call("-t", config=config, before=limited)
    assert daemon.exit_code == 0
    assert re.search(r"WARNING: .*max_(user|inotify)_watches", daemon.log), daemon.log


def test_an_event_that_only_the_documentation_names(box: Box) -> None:
    warned(
        box,
        COMMAND + 'pyinotifyd = Pyinotifyd([Watch("$SRC", {"IN_WRITE_CLOSE": sched})])',
        "IN_WRITE_CLOSE.*IN_CLOSE_WRITE",
    )


# ---- what would happen


EXPLAINED = r"""
move = FileManagerScheduler([FileManagerRule("move", r"^$SRC/(?P<name>[^/]+)\.in$", r"$DST/\g<name>")], delay=5)
shell = ShellScheduler("process {pathname} {maskname}")
pyinotifyd = Pyinotifyd([Watch("$SRC", {"IN_CLOSE_WRITE": [move, shell], "IN_DELETE": Cancel(move)},
    exclude_filter=[r".*\.tmp$"])], shutdown_timeout=30)
"""


def test_explain_says_rule_groups_destination_command_delay_and_cancel(box: Box) -> None:
    daemon = box.call("--explain", box.src / "a.in", "IN_CLOSE_WRITE", config=EXPLAINED)
    assert daemon.exit_code == 0, daemon.tail
    for word in (str(box.src), f"{box.dst}/a", "name", f"process {box.src}/a.in IN_CLOSE_WRITE", "5", "IN_DELETE"):
        assert word in daemon.stdout, f"{word} is not in:\n{daemon.stdout}"
    assert os.listdir(box.dst) == []


def test_explain_and_the_log_of_debug_say_the_names_of_schedulers(box: Box) -> None:
    config = """
async def report(event, task_id): pass
upload = ShellScheduler("true", logname="shell")
pyinotifyd = Pyinotifyd([Watch("$SRC", {"IN_CREATE": [upload, report, ShellScheduler("true", name="given")],
    "IN_DELETE": Cancel(upload)})])
"""
    explained = box.call("--explain", box.src / "f", config=config)
    for name in ("upload", "report", "given"):
        assert re.search(f"IN_CREATE: scheduler '{name}' .* starts a task", explained.stdout), explained.stdout
    assert "IN_DELETE: cancels a waiting task of scheduler 'upload'" in explained.stdout
    daemon = box.run(config, "-d")
    for name, rest in (
        ("upload", r" \(name not given\): command"),
        ("report", r" \(name not given\): job"),
        ("given", ": command"),
    ):
        daemon.wait_log(f"- DEBUG - scheduler '{name}'{rest}, delay=0, digest=[0-9a-f]{{16}}, {box.config}:[34]$")


def test_explain_says_what_excludes_a_path(box: Box) -> None:
    daemon = box.call("--explain", box.src / "a.tmp", "IN_CLOSE_WRITE", config=EXPLAINED)
    assert daemon.exit_code == 0
    assert r".*\.tmp$" in daemon.stdout


def test_explain_knows_what_lies_below_an_excluded_directory(box: Box) -> None:
    config = """
s = ShellScheduler("true # {pathname}")
pyinotifyd = Pyinotifyd([Watch("$SRC", {"IN_CREATE": s}, rec=True, exclude_filter=["^$SRC/(x$|(?!.*[.]pdf$).)"])])
"""
    for name in ("x/a.pdf", "sub/a.pdf", "sub/deeper/b.pdf"):
        said = box.call("--explain", box.src / name, "IN_CREATE", config=config).stdout
        assert f"matches the directory '{box.src}/{name.split('/')[0]}', which is not watched then" in said
        assert "starts a task" not in said
    assert "starts a task" in box.call("--explain", box.src / "a.pdf", "IN_CREATE", config=config).stdout


def test_explain_of_a_path_outside_every_watch_is_one_clear_line(box: Box) -> None:
    daemon = box.call("--explain", box.dst / "x", config=EXPLAINED)
    assert re.search("no watch|outside|not watched", daemon.stdout + daemon.log), daemon.stdout + daemon.log


def test_explain_knows_what_lies_in_the_root_directory(box: Box) -> None:
    config = 'pyinotifyd = Pyinotifyd([Watch("/", {"IN_CREATE": ShellScheduler("true # {pathname}")})])'
    assert box.call("--explain", "/x", "IN_CREATE", config=config).stdout.startswith("watch '/'")
    assert "no watch covers '/x/y'" in box.call("--explain", "/x/y", "IN_CREATE", config=config).stdout


def test_dry_run_says_what_it_would_do_and_does_nothing(box: Box) -> None:
    daemon = box.run(EXPLAINED.replace("delay=5", "delay=0").replace("process", "touch $TMP/touched;"), "--dry-run")
    (box.src / "a.in").write_text("content")
    daemon.wait_log(f"{box.src}/a.in.*{box.dst}/a")
    daemon.wait_log("touched")
    daemon.wait_log("task finished", count=2)
    assert os.listdir(box.dst) == []
    assert not (box.tmp / "touched").exists()
    assert (box.src / "a.in").exists()


def test_a_dry_run_takes_no_place_of_the_daemon_that_works(box: Box) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    config = f"""
pyinotifyd = Pyinotifyd([Watch("$SRC", {{"IN_OPEN": ShellScheduler("true")}})], control="$TMP/c.sock",
                        metrics="127.0.0.1:{port}", state="$TMP/state")
"""
    working = box.run(config)
    trial = box.start(None, "-c", box.config, "--dry-run").wait_ready()
    asked = Operator(box.tmp / "other.sock")
    steered = box.start(None, "-c", box.config, "--dry-run", "--control", asked.path).wait_ready()
    assert asked.get("/v1/status")["pid"] == steered.pid
    assert Operator(box.tmp / "c.sock").get("/v1/status")["pid"] == working.pid
    assert trial.running
