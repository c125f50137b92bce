"""Several config files, and directories of them: what is put together, what is told apart, what a reload notices."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from control import Operator
from vocabulary import REFERENCE, Box, Daemon, wait_until, write

pytestmark = pytest.mark.skipif(REFERENCE, reason="the original knows one config file")

# A scheduler `copy` that appends what it got to a file.
COPY = """
copy = ShellScheduler(cmd="echo {pathname} >> $DST/%s")
pyinotifyd = Pyinotifyd(watches=[Watch("$SRC/%s", {"IN_CLOSE_WRITE": copy})])
"""


def conf(box: Box, name: str, text: str = "", of: str = "") -> Path:
    """Write a config file below the box's directory, by one rename; `of`: a watch of that name."""
    path = box.tmp / name
    path.parent.mkdir(exist_ok=True)
    if of:
        (box.src / of).mkdir(exist_ok=True)
        text = COPY % (of, of) + text
    new = box.tmp / "new"
    new.write_text(box.text(text))
    new.rename(path)
    return path


def start(box: Box, *paths: str | Path, options: tuple[str, ...] = ()) -> Daemon:
    given = [word for path in paths for word in ("-c", os.fspath(path))]
    return box.start(None, *given, *options).wait_ready()


def copied(box: Box, of: str) -> None:
    """Wait until the watch of that name has done something."""
    write(box.src / of / "file")
    wait_until(lambda: (box.dst / of).exists() and f"{of}/file" in (box.dst / of).read_text())
    (box.dst / of).unlink()


def checked(box: Box, *paths: str | Path) -> Daemon:
    return box.call("-t", *[word for path in paths for word in ("-c", os.fspath(path))])


def test_watches_of_all_files_are_put_together(box: Box) -> None:
    conf(box, "conf.d/10-b.py", of="b")
    conf(box, "conf.d/20-a.py", of="a")
    conf(box, "conf.d/.hidden.py", "raise RuntimeError")
    conf(box, "conf.d/backup.py~", "raise RuntimeError")
    daemon = start(box, conf(box, "main.py", of="main"), "conf.d")
    daemon.wait_log("start listening", count=3)
    told = [record.text for record in daemon.records if "start listening" in record.text]
    assert [text.rpartition("/")[2] for text in told] == ["main'", "b'", "a'"]
    for of in ("main", "a", "b"):
        copied(box, of)


def test_each_file_has_a_namespace_of_its_own(box: Box) -> None:
    conf(box, "one.py", "import os\nSHARED = 1\n", of="one")
    conf(box, "two.py", "assert 'SHARED' not in globals() and 'os' not in globals()\n", of="two")
    names = "import sys\nassert __file__.endswith('/three.py') and sys.argv == ['three.py'], (__file__, sys.argv)\n"
    conf(box, "three.py", names, of="three")
    assert checked(box, "one.py", "two.py", "three.py").lines == ["INFO: config file ok"]


def test_one_name_in_two_files_is_shown_with_the_file(box: Box) -> None:
    files = [conf(box, "one.py", of="one"), conf(box, "two.py", of="two")]
    shown = box.call("--explain", box.src / "one/f", "-c", files[0], "-c", files[1])
    assert "scheduler 'one/copy'" in shown.stdout
    alone = box.call("--explain", box.src / "one/f", "-c", files[0])
    assert "scheduler 'copy'" in alone.stdout
    daemon = start(box, *files)
    daemon.signal(signal.SIGUSR1)
    daemon.wait_log("status: scheduler one/copy ")
    daemon.wait_log("status: scheduler two/copy ")


def test_numbers_count_in_each_file(box: Box) -> None:
    text = "pyinotifyd = Pyinotifyd([Watch('$SRC', {'IN_OPEN': [ShellScheduler('true')]})])\n"
    conf(box, "one.py", text + "more = ShellScheduler('true')\nShellScheduler('true')\n")
    conf(box, "two.py", text)
    shown = box.call("--explain", box.src / "f", "-c", "one.py", "-c", "two.py")
    assert "'one/scheduler-1'" in shown.stdout
    assert "'two/scheduler-1'" in shown.stdout


def test_a_scheduler_belongs_to_the_file_that_made_it(box: Box) -> None:
    """One that a module made for both is of the first; its name is that of a variable there."""
    conf(box, "shared/shared_module.py", "import pyinotifyd\nboth = pyinotifyd.ShellScheduler('true')\n")
    text = f"""
import sys
sys.path.insert(0, {str(box.tmp / "shared")!r})
from shared_module import both as %s
pyinotifyd = Pyinotifyd([Watch("$SRC/%s", {{"IN_OPEN": %s}})])
"""
    for name in ("one", "two"):
        (box.src / name).mkdir()
        conf(box, f"{name}.py", text % (name, name, name))
    for name in ("one", "two"):
        shown = box.call("--explain", box.src / f"{name}/f", "IN_OPEN", "-c", "one.py", "-c", "two.py")
        assert "scheduler 'one'" in shown.stdout


def test_what_holds_for_all_may_be_given_once(box: Box) -> None:
    conf(box, "one.py", "pyinotifyd = Pyinotifyd(shutdown_timeout=30)\n")
    conf(box, "two.py", "pyinotifyd = Pyinotifyd(max_jobs=2)\n")
    conf(box, "three.py", "\n\npyinotifyd = Pyinotifyd(shutdown_timeout=5)\n")
    assert checked(box, "one.py", "two.py").exit_code == 0
    refused = checked(box, "one.py", "two.py", "three.py")
    assert refused.exit_code == 1
    assert "shutdown_timeout: 'one.py' gives it already, and it holds for all files" in refused.log
    assert f'File "{box.tmp}/three.py", line 3' in refused.log


def test_the_timeout_of_one_file_holds_for_all(box: Box) -> None:
    conf(box, "one.py", 'pyinotifyd = Pyinotifyd(shutdown_timeout=0, logname="mine")\n')
    slow = "pyinotifyd = Pyinotifyd([Watch('$SRC', {'IN_CLOSE_WRITE': ShellScheduler('sleep 1000')})])\n"
    conf(box, "two.py", slow)
    daemon = start(box, "one.py", "two.py")
    assert "pyinotifyd/mine - INFO - start listening" in daemon.log
    write(box.src / "f")
    daemon.wait_log("start task")
    daemon.terminate()
    assert "wait 0 seconds for 1 remaining task" in daemon.log


def test_log_settings_hold_in_the_order_of_the_files(box: Box) -> None:
    conf(box, "one.py", "setLoglevel(INFO)\n", of="one")
    conf(box, "two.py", "setLoglevel(ERROR)\n", of="two")
    loud = start(box, "two.py", "one.py")
    copied(box, "one")
    loud.wait_log("task finished")
    loud.terminate()
    quiet = box.start(None, "-c", "one.py", "-c", "two.py")

    def is_at_work() -> bool:
        write(box.src / "one/file")
        return (box.dst / "one").exists()

    wait_until(is_at_work)
    assert quiet.lines == []


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("1 / 0\n", "ERROR: config file '{path}': division by zero"),
        ("x = 1\n", "ERROR: config file '{path}': the config defines no variable 'pyinotifyd'"),
        ("pyinotifyd = 5\n", "ERROR: config file '{path}': pyinotifyd: expected"),
        ("(\n", "ERROR: config file '{path}': "),
        ("import sys; sys.exit(7)\n", ""),
    ],
)
def test_one_bad_file_refuses_the_whole_by_name(box: Box, text: str, said: str) -> None:
    conf(box, "conf.d/a.py", of="a")
    bad = conf(box, "conf.d/b.py", text)
    conf(box, "conf.d/c.py", of="c")
    refused = checked(box, box.tmp / "conf.d")
    assert refused.exit_code == (1 if said else 7)
    assert refused.log.startswith(said.format(path=bad))


def test_a_bad_pattern_is_said_with_its_file(box: Box) -> None:
    conf(box, "a.py", of="a")
    conf(box, "b.py", "\npyinotifyd = Pyinotifyd([Watch('$SRC', exclude_filter=['('])])\n")
    refused = checked(box, "a.py", "b.py")
    assert refused.exit_code == 1
    assert f'File "{box.tmp}/b.py", line 2' in refused.log


def test_files_of_one_stem_are_refused(box: Box) -> None:
    one, two = conf(box, "one/same.py", of="a"), conf(box, "two/same.py", of="b")
    for paths in ((one, two), ("one", two)):
        refused = checked(box, *paths)
        assert refused.exit_code == 1
        assert "two config files have the name 'same'" in refused.log


def test_a_file_that_is_given_twice_is_refused(box: Box) -> None:
    one = conf(box, "one/same.py", of="a")
    refused = checked(box, one, one)
    assert refused.exit_code == 1
    assert f"the config file '{one}' is given twice" in refused.log


def test_names_are_looked_for_twice_in_one_file_only(box: Box) -> None:
    twice = "a = ShellScheduler('true', name='x')\nb = ShellScheduler('true', name='x')\n"
    conf(box, "one.py", twice + "pyinotifyd = Pyinotifyd([Watch('$SRC', {'IN_OPEN': [a, b]})])\n")
    refused = checked(box, "one.py", conf(box, "two.py", of="two"))
    assert "name: 'x' is the name of the scheduler at" in refused.log
    assert refused.exit_code == 1


def test_an_empty_directory_is_warned_of_and_a_missing_one_is_an_error(box: Box) -> None:
    (box.tmp / "conf.d").mkdir()
    empty = checked(box, "conf.d")
    assert empty.exit_code == 0
    assert empty.lines == [
        "WARNING: there is no config file (*.py) in the directory 'conf.d'",
        "INFO: config file ok",
    ]
    missing = checked(box, conf(box, "a.py", of="a"), "missing.d")
    assert missing.exit_code == 1
    assert "No such file or directory: 'missing.d'" in missing.log


def test_a_reload_notices_files_that_come_and_go(box: Box) -> None:
    conf(box, "conf.d/a.py", of="a")
    daemon = start(box, "conf.d")
    copied(box, "a")
    added = conf(box, "conf.d/b.py", of="b")
    daemon.reload()
    assert "configuration loaded: 2 watches, 2 schedulers" in daemon.log
    copied(box, "a")
    copied(box, "b")
    bad = conf(box, "conf.d/c.py", "1 / 0\n")
    daemon.signal(signal.SIGHUP)
    daemon.wait_log(f"unable to reload config file '{bad}': division by zero")
    copied(box, "b")
    bad.unlink()
    added.unlink()
    daemon.reload()
    daemon.wait_log("configuration loaded: 1 watch, 1 scheduler")
    write(box.src / "b/file")
    copied(box, "a")
    assert not (box.dst / "b").exists()


def test_tasks_go_on_though_their_name_is_shown_otherwise(box: Box) -> None:
    """A scheduler is the same when another file gets one of its name: its identity has the file in it."""
    text = """
copy = ShellScheduler(cmd="echo {pathname} >> $DST/done", delay=$DELAY)
pyinotifyd = Pyinotifyd([Watch("$SRC/a", {"IN_CLOSE_WRITE": copy})])
"""
    (box.src / "a").mkdir()
    conf(box, "conf.d/a.py", text.replace("$DELAY", "1000"))
    daemon = start(box, "conf.d")
    write(box.src / "a/f")
    daemon.wait_log("schedule task")
    conf(box, "conf.d/b.py", of="b")
    daemon.reload()
    assert "1 task goes on" in daemon.log
    daemon.signal(signal.SIGUSR1)
    daemon.wait_log("status: task waits, .*scheduler=a/copy")


def test_jobs_of_all_files_run_in_one_host_and_again_after_its_death(box: Box) -> None:
    text = """
async def job(event, task_id):
    print("%s", event.pathname, flush=True)
    if event.name == "fail":
        raise ValueError("of %s")
pyinotifyd = Pyinotifyd([Watch("$SRC/%s", {"IN_CLOSE_WRITE": job})])
"""
    for of in ("a", "b"):
        (box.src / of).mkdir()
        conf(box, f"{of}.py", text % (of, of, of))
    daemon = start(box, "a.py", "b.py")
    daemon.wait_log("start listening", count=2)
    for of in ("a", "b"):
        write(box.src / of / "f")
        daemon.wait_out(f"^{of} {box.src}/{of}/f$")
        write(box.src / of / "fail")
        daemon.wait_log(f'task failed: of {of}.*|File "{box.tmp}/{of}.py", line 5', count=1)
    # The files as they were, whatever stands there by then.
    conf(box, "a.py", "1 / 0\n")
    os.kill(daemon.host(), signal.SIGKILL)
    daemon.wait_log("config host was killed by SIGKILL")
    for of in ("a", "b"):
        write(box.src / of / "again")
        daemon.wait_out(f"^{of} {box.src}/{of}/again$")


def test_each_file_is_locked(box: Box) -> None:
    conf(box, "conf.d/a.py", of="a")
    conf(box, "conf.d/b.py", of="b")
    first = start(box, "conf.d")
    second = start(box, "conf.d/b.py")
    second.wait_log(rf"another daemon \(pid {first.pid}\) runs with the config file '{box.tmp}/conf.d/b.py'")


def test_as_root_no_file_that_others_can_write_is_executed(box: Box, root: None) -> None:
    conf(box, "conf.d/a.py", of="a")
    conf(box, "conf.d/b.py", of="b").chmod(0o666)
    refused = checked(box, "conf.d")
    assert refused.exit_code == 1
    assert "chmod go-w 'conf.d/b.py'" in refused.log


def test_kept_tasks_come_back_to_the_file_that_made_them(box: Box) -> None:
    text = """
later = ShellScheduler(cmd="echo %s {pathname} >> $DST/done", delay=%s)
pyinotifyd = Pyinotifyd([Watch("$SRC/%s", {"IN_CLOSE_WRITE": later})]%s)
"""
    for name in ("a", "b"):
        (box.src / name).mkdir()
        conf(box, f"{name}.py", text % (name, 600, name, ', state="$TMP/state"' if name == "a" else ""))
    daemon = start(box, "a.py", "b.py")
    for name in ("a", "b"):
        write(box.src / name / "f")
    daemon.wait_log("schedule task", count=2)
    daemon.terminate()
    # The order of the files is another one, and one of them is gone later.
    again = start(box, "b.py", "a.py")
    again.wait_log("tasks of the earlier daemon: 2 go on")
    again.signal(signal.SIGUSR1)
    again.wait_log(f"status: task .*scheduler=a/later, .*path={box.src}/a/f")
    again.wait_log(f"status: task .*scheduler=b/later, .*path={box.src}/b/f")
    again.terminate()
    alone = start(box, "a.py")
    alone.wait_log(f"task failed: the config has no scheduler b/later, .*{box.src}/b/f")
    alone.signal(signal.SIGUSR1)
    alone.wait_log(f"status: task .*scheduler=later, .*path={box.src}/a/f")


def test_a_reload_that_loses_schedulers_of_one_name_tells_them_apart(box: Box) -> None:
    later = 'later = ShellScheduler("cat {pathname}", delay=600, retry=Retry(times=1, delay=600))\n'
    for name in ("a", "b"):
        (box.src / name).mkdir()
        conf(box, f"{name}.py", f"{later}pyinotifyd = Pyinotifyd([Watch('$SRC/{name}', {{'IN_CREATE': later}})])\n")
    socket = box.tmp / "control.sock"
    start(box, "a.py", "b.py", options=("--control", os.fspath(socket), "--state", os.fspath(box.tmp / "state")))
    operator = Operator(socket)
    for name in ("a", "b"):
        write(box.src / name / "f")
        operator.wait_scheduler(f"{name}/later", waiting=1)
        conf(box, f"{name}.py", "pyinotifyd = Pyinotifyd()\n")
    changed = operator.post("/v1/reload")["changed"]
    for name in ("a", "b"):
        assert f"the config has no scheduler {name}/later: 1 task(s) that waited fail" in changed


def test_a_state_is_given_once(box: Box) -> None:
    for name in ("a", "b"):
        conf(box, f"{name}.py", f'pyinotifyd = Pyinotifyd(state="$TMP/{name}", history=5)\n')
    assert "state: 'a.py' gives it already" in checked(box, "a.py", "b.py").log


def test_both_names_are_taken_when_asked(box: Box) -> None:
    """The name that is shown, and that with the file."""
    conf(
        box, "one.py", "quick = ShellScheduler('true')\npyinotifyd = Pyinotifyd([Watch('$SRC', {'IN_OPEN': quick})])\n"
    )
    files: list[str | Path] = ["one.py", conf(box, "a.py", of="a"), conf(box, "b.py", of="b")]
    socket = box.tmp / "control.sock"
    daemon = start(box, *files, options=("--control", os.fspath(socket)))

    def ask(*words: str) -> Daemon:
        return box.call(*words, "--control", socket)

    for name in ("quick", "one/quick"):
        assert ask("pause", name).exit_code == 0
        assert ask("resume", name).exit_code == 0
    daemon.wait_log("pause quick", count=2)
    assert ask("pause", "a/copy").exit_code == 0
    # A name that does not say which one is meant is a mistake of whoever types it.
    for words in (("pause", "copy"), ("tasks", "--scheduler", "copy"), ("retry", "--scheduler", "copy")):
        refused = ask(*words)
        assert refused.exit_code == 2, words
        assert "more than one config file has a scheduler 'copy': name a/copy, b/copy" in refused.log
    assert ask("pause", "b/quick").exit_code == 1
    operator = Operator(socket)
    assert operator.post("/v1/schedulers/b/copy/pause") == {"done": ["b/copy"]}
    assert operator.post("/v1/schedulers/one/quick/resume") == {"done": ["quick"]}
    operator.refused(404, "POST", "/v1/schedulers/b/quick/pause")
    status = ask("status", "--json").stdout
    assert f"{box.tmp}/a.py" in status
    assert f"{box.tmp}/one.py" in status
    write(box.src / "a/f")
    wait_until(lambda: f"{box.src}/a/f" in ask("tasks", "--scheduler", "a/copy", "--json").stdout)


@pytest.mark.parametrize("state", [False, True])
def test_what_failed_is_found_by_the_name_that_its_scheduler_has_by_now(box: Box, state: bool) -> None:
    fails = """fail = ShellScheduler("exit 3 # {pathname}")
pyinotifyd = Pyinotifyd([Watch("$SRC/%s", {"IN_CLOSE_WRITE": fail})])
"""
    for name in ("a", "b"):
        (box.src / name).mkdir()
        conf(box, f"conf/{name}.py", fails % name)
    socket = box.tmp / "control.sock"
    options = ("--control", os.fspath(socket), *(("--state", os.fspath(box.tmp / "state")) if state else ()))
    daemon, operator = start(box, box.tmp / "conf", options=options), Operator(socket)

    def listed(query: str = "") -> set[str]:
        return {task["scheduler"] for task in operator.get(f"/v1/failed{query}")["tasks"]}

    for name in ("a", "b"):
        write(box.src / name / "file")
        operator.wait_scheduler(f"{name}/fail", failed=1)
    assert listed() == {"a/fail", "b/fail"}
    assert listed("?scheduler=a/fail") == {"a/fail"}
    (box.tmp / "conf/a.py").unlink()
    changed = operator.post("/v1/reload")["changed"]
    assert changed.endswith("scheduler a/fail removed, scheduler b/fail is now called fail")
    assert listed() == {"a/fail", "fail"}
    for shown in ("fail", "b/fail"):
        assert listed(f"?scheduler={shown}") == {"fail"}
    assert operator.scheduler("fail")["failed"] == 1
    assert "the config has no scheduler a/fail" in operator.run("retry", "--scheduler", "a/fail", status=1)
    assert len(operator.json("retry", "--scheduler", "fail")["done"]) == 1
    daemon.wait_log("task failed: exited with status 3", count=3)


@pytest.mark.parametrize("state", [False, True])
def test_a_pause_lasts_though_the_config_file_of_its_scheduler_goes_and_comes_back(box: Box, state: bool) -> None:
    socket = box.tmp / "control.sock"
    options = ("--control", os.fspath(socket), *(("--state", os.fspath(box.tmp / "state")) if state else ()))
    for name in ("a", "b"):
        conf(box, f"conf/{name}.py", of=name)
    daemon, operator = start(box, box.tmp / "conf", options=options), Operator(socket)

    def without_b() -> None:
        (box.tmp / "conf/b.py").unlink()
        operator.post("/v1/reload")
        operator.scheduler("copy")

    def with_b() -> None:
        conf(box, "conf/b.py", of="b")
        operator.post("/v1/reload")

    assert operator.post("/v1/schedulers/b/copy/pause") == {"done": ["b/copy"]}
    without_b()
    if state:
        daemon.terminate()
        daemon = start(box, box.tmp / "conf", options=options)
    with_b()
    daemon.wait_log("INFO - b/copy stays paused")
    assert (operator.scheduler("b/copy")["paused"], operator.scheduler("a/copy")["paused"]) == (True, False)
    write(box.src / "b/file")
    operator.wait_scheduler("b/copy", queued=1)
    # What is paused can be resumed while it is away: by its name, or with all.
    for resumed in ("/v1/schedulers/b/copy/resume", "/v1/resume"):
        operator.post("/v1/schedulers/b/copy/pause")
        without_b()
        assert "b/copy" in operator.post(resumed)["done"]
        with_b()
        assert not operator.scheduler("b/copy")["paused"]
    without_b()
    assert "there are: copy" in operator.refused(404, "POST", "/v1/schedulers/b/copy/resume")


def test_what_is_paused_and_away_is_shown_and_told_apart(box: Box) -> None:
    conf(box, "conf/a.py", "pyinotifyd = Pyinotifyd()\n")
    for name in ("b", "z"):
        conf(box, f"conf/{name}.py", of=name)
    socket = box.tmp / "control.sock"
    start(box, box.tmp / "conf", options=("--control", os.fspath(socket)))
    operator = Operator(socket)
    operator.post("/v1/pause")
    assert "paused_away" not in operator.get("/v1/status")
    for name in ("b", "z"):
        (box.tmp / f"conf/{name}.py").unlink()
    operator.post("/v1/reload")

    def away(expected: list[str]) -> None:
        wait_until(lambda: operator.get("/v1/status").get("paused_away", []) == expected)

    away(["b/copy", "z/copy"])
    assert "paused, not in the configuration: b/copy, z/copy\n" in operator.run("status")
    # No name of theirs is taken for the other's.
    text = "more than one config file has a scheduler 'copy': name b/copy, z/copy"
    assert operator.refused(400, "POST", "/v1/schedulers/copy/resume") == text
    assert text in operator.run("resume", "copy", status=2)
    away(["b/copy", "z/copy"])
    assert operator.post("/v1/schedulers/b/copy/resume") == {"done": ["b/copy"]}
    away(["copy"])
    assert operator.post("/v1/schedulers/copy/resume") == {"done": ["copy"]}
    away([])
    assert "not in the configuration" not in operator.run("status")


def test_a_scheduler_that_comes_back_beside_its_last_run_is_paused_as_the_status_says(box: Box) -> None:
    hold = """
copy = ShellScheduler("touch $DST/b; until [ -e $TMP/go ]; do sleep 0.01; done")
pyinotifyd = Pyinotifyd([Watch("$SRC/b", {"IN_CLOSE_WRITE": copy})])
"""
    (box.src / "b").mkdir()
    conf(box, "conf/a.py", of="a")
    conf(box, "conf/b.py", hold)
    socket = box.tmp / "control.sock"
    start(box, box.tmp / "conf", options=("--control", os.fspath(socket)))
    operator = Operator(socket)
    write(box.src / "b/one")
    wait_until((box.dst / "b").exists)
    operator.post("/v1/schedulers/b/copy/pause")
    (box.tmp / "conf/b.py").unlink()
    operator.post("/v1/reload")
    assert operator.scheduler("b/copy")["running"] == 1
    conf(box, "conf/b.py", hold)
    operator.post("/v1/reload")
    write(box.src / "b/two")
    operator.wait_scheduler("b/copy", running=1, queued=1, paused=True)
    operator.post("/v1/schedulers/b/copy/resume")
    operator.wait_scheduler("b/copy", running=2, queued=0, paused=False)
    write(box.tmp / "go")
    operator.wait_scheduler("b/copy", running=0, done=2)


def test_what_still_runs_is_found_by_each_name_of_its_scheduler_after_a_reload(box: Box) -> None:
    hold = """
hold = ShellScheduler("until [ -e $TMP/go ]; do sleep 0.01; done # {pathname}")
pyinotifyd = Pyinotifyd([Watch("$SRC/%s", {"IN_CLOSE_WRITE": hold})])
"""
    for name in ("a", "b"):
        (box.src / name).mkdir()
        conf(box, f"conf/{name}.py", hold % name)
    socket = box.tmp / "control.sock"
    daemon, operator = start(box, box.tmp / "conf", options=("--control", os.fspath(socket))), Operator(socket)
    write(box.src / "a/one")
    operator.wait_scheduler("a/hold", running=1)
    (box.tmp / "conf/b.py").unlink()
    assert operator.post("/v1/reload")["changed"].endswith("scheduler a/hold is now called hold")
    for name in ("hold", "a/hold"):
        [task] = operator.tasks(f"?scheduler={name}")
        assert (task["scheduler"], task["state"]) == ("hold", "running")
    assert "a/hold" not in {one["name"] for one in operator.get("/v1/status")["schedulers"]}
    assert operator.scheduler("hold")["running"] == 1
    conf(box, "conf/b.py", hold % "b")
    operator.post("/v1/reload")
    for name in ("b", "a"):
        write(box.src / name / "two")
    operator.wait_scheduler("a/hold", running=2)
    assert len(operator.tasks("?scheduler=a/hold")) == 2
    conf(box, "conf/a.py", "pyinotifyd = Pyinotifyd()")
    operator.post("/v1/reload")
    # One that is gone does not take the name of another, nor its counts.
    assert {task["scheduler"] for task in operator.tasks()} == {"a/hold", "hold"}
    assert len(operator.json("cancel", "--scheduler", "a/hold")["done"]) == 2
    daemon.wait_log("cancel 2 tasks, asked by")
    assert len(operator.tasks("?scheduler=hold")) == 1
    write(box.tmp / "go")
    operator.wait_scheduler("hold", done=1)
    assert operator.metrics()['pyinotifyd_task_ends_total{scheduler="hold",result="cancelled"}'] == 0
