"""SIGHUP: two generations of a config, one in force, one that ends; and configs that are refused."""

from __future__ import annotations

import datetime
import os
import re
import signal
import threading
import time
from collections.abc import Callable

import pytest

from control import Operator
from vocabulary import DELAY, HELD, LOADED, REFERENCE, Box, Daemon, drop, wait_until, write

Run = Callable[..., Daemon]

ours_only = pytest.mark.skipif(REFERENCE, reason="the original does otherwise")


def echo(word: str, options: str = "", flags: str = "IN_CREATE", timeout: str = "20") -> str:
    """A config whose command says `word` and the file's name."""
    events = ", ".join(f'"{flag}": sched' for flag in flags.split())
    return f"""
sched = ShellScheduler("echo {word} $(basename {{pathname}})"{options})
pyinotifyd = Pyinotifyd([Watch("$SRC", {{{events}}})], shutdown_timeout={timeout})
"""


def test_a_reload_puts_the_new_config_in_force(run: Run, box: Box) -> None:
    daemon = run(echo("old"))
    write(box.src / "a")
    daemon.wait_out("old a")
    box.write_config(echo("new"))
    daemon.reload()
    daemon.wait_log("pyinotifyd/daemon - INFO - got signal SIGHUP, reload config file$")
    write(box.src / "b")
    daemon.wait_out("new b")
    assert "old b" not in daemon.stdout


def test_a_reload_can_change_what_is_watched(run: Run, box: Box) -> None:
    daemon = run('pyinotifyd = Pyinotifyd([Watch("$SRC", recorder("IN_CREATE"))])', record=True)
    box.write_config('pyinotifyd = Pyinotifyd([Watch("$DST", recorder("IN_CREATE"))])', record=True)
    daemon.reload()
    write(box.dst / "f")
    daemon.wait_event("IN_CREATE", box.dst / "f")
    wait_until(lambda: not daemon.watches_path(box.src))


def test_a_reload_to_no_watches(run: Run, box: Box) -> None:
    daemon = run(echo("old"))
    box.write_config("pyinotifyd = Pyinotifyd()")
    daemon.signal(signal.SIGHUP)
    daemon.wait_log("no watches configured")
    assert daemon.terminate() == 0


def test_old_schedulers_are_paused(run: Run, box: Box) -> None:
    daemon = run(
        'one = ShellScheduler("true", logname="one")\ntwo = ShellScheduler("true", logname="two")\n'
        'pyinotifyd = Pyinotifyd([Watch("$SRC", {"IN_CREATE": [one, two], "IN_DELETE": Cancel(one)})])',
        "-d",
    )
    daemon.reload()
    for name in ("one", "two"):
        daemon.wait_log(f"pyinotifyd/{name} - (INFO|DEBUG) - pause scheduler$")
    assert daemon.count("pause scheduler") == 2


BAD = {
    "syntax": "pyinotifyd = Pyinotifyd(\n",
    "exception": "raise ValueError('the reason')\n",
    "missing variable": "x = 1\n",
    "wrong type": "pyinotifyd = 5\n",
    "wrong argument": "pyinotifyd = Pyinotifyd(wathces=[])\n",
    "bad pattern": 'pyinotifyd = Pyinotifyd([Watch("/", {"IN_CREATE": FileManagerScheduler(FileManagerRule("move", '
    '"("))})])\n',
    "exit": "import sys; sys.exit(0)\n",
    "exit 3": "import sys; sys.exit(3)\n",
    "base exception": "raise KeyboardInterrupt\n",
    "crash": "import os; os._exit(1)\n",
    "kill": "import os, signal; os.kill(os.getpid(), signal.SIGKILL)\n",
}


@pytest.mark.parametrize("kind", BAD)
def test_a_bad_config_leaves_the_old_one_in_force(run: Run, box: Box, kind: str) -> None:
    if REFERENCE and kind in ("exit", "exit 3", "base exception", "crash", "kill"):
        pytest.skip("the original ends")
    daemon = run(echo("old"))
    config = box.write_config(BAD[kind])
    daemon.signal(signal.SIGHUP)
    daemon.wait_log(f"pyinotifyd/root - ERROR - unable to reload config file '{config}': .")
    write(box.src / "f")
    daemon.wait_out("old f")
    assert daemon.count("pause scheduler") == 0
    assert daemon.terminate() == 0


def test_the_error_of_a_failed_reload_has_text_and_traceback(run: Run, box: Box) -> None:
    daemon = run(echo("old"))
    config = box.write_config("x = 1\nraise ValueError('the reason')\n")
    daemon.signal(signal.SIGHUP)
    daemon.wait_log(f"pyinotifyd/root - ERROR - unable to reload config file '{config}': the reason$")
    daemon.wait_log("line 2")
    daemon.wait_log("ValueError")


def seconds(stamp: str) -> float:
    return datetime.datetime.strptime(stamp, "%Y-%m-%d %H:%M:%S").timestamp()


@ours_only
def test_a_failed_reload_prints_its_excerpt_once_and_what_stays(run: Run, box: Box) -> None:
    daemon = run(echo("old"))
    loaded = daemon.wait_log(r"^([-\d]+ [:\d]+),.* start listening").group(1)
    faults = ["x = 1\nraise ValueError('the reason')\n", "x = (\n", "Watch('$SRC', event_mapp={})\n"]
    for number, text in enumerate(faults, 1):
        box.write_config(text)
        daemon.signal(signal.SIGHUP)
        daemon.wait_log("stays in force", count=number)
        begin = max(number for number, line in enumerate(daemon.lines) if "unable to reload" in line)
        said = daemon.lines[begin:]
        excerpt = box.text(text).splitlines()[-1]
        assert len([line for line in said if line.strip() == excerpt]) == 1, said
        assert len([line for line in said if line.lstrip().startswith("File ")]) == 1, said
        ended = re.fullmatch(r"  the configuration from ([-\d]+ [:\d]+) stays in force", said[-1])
        assert ended, said
        assert abs(seconds(ended.group(1)) - seconds(loaded)) <= 1


@ours_only
def test_a_reload_says_what_it_did(run: Run, box: Box) -> None:
    later = "later = ShellScheduler('true', delay=3600)\n"
    daemon = run(later + 'pyinotifyd = Pyinotifyd([Watch("$SRC", {"IN_CREATE": later})])')
    for number in range(12):
        write(box.src / f"f{number}")
    daemon.wait_log("schedule task", count=12)
    box.write_config(
        "a, b = ShellScheduler('true'), ShellScheduler('false')\n"
        'pyinotifyd = Pyinotifyd([Watch("$SRC", {"IN_CREATE": a}), Watch("$DST", {"IN_CREATE": [a, b]})])'
    )
    daemon.reload()
    daemon.wait_log("daemon - INFO - configuration loaded: 2 watches, 2 schedulers; 12 tasks go on$")
    box.write_config(
        'a = ShellScheduler("true")\npyinotifyd = Pyinotifyd([Watch("$SRC", {"IN_CREATE": a})], shutdown_timeout=0)'
    )
    daemon.reload()
    daemon.wait_log("configuration loaded: 1 watch, 1 scheduler; 12 tasks go on$")


@ours_only
def test_a_reload_by_a_signal_logs_what_changed(run: Run, box: Box) -> None:
    config = 'a = ShellScheduler("true")\npyinotifyd = Pyinotifyd([Watch("$SRC", {"IN_CREATE": a})])\n'
    daemon = run(config)
    box.write_config(config + 'b = ShellScheduler("false")\npyinotifyd.add_watch("$DST", {"IN_CREATE": b})\n')
    daemon.reload()
    added = f"watch '{box.dst}' added, scheduler b added"
    daemon.wait_log(f"daemon - INFO - what the reload changed: {added}$")
    daemon.reload()
    daemon.wait_log("INFO - what the reload changed: no watch and no scheduler changed$")


def test_a_missing_config_leaves_the_old_one_in_force(run: Run, box: Box) -> None:
    daemon = run(echo("old"))
    box.config.unlink()
    daemon.signal(signal.SIGHUP)
    daemon.wait_log(r"unable to reload config file.*\[Errno 2\] No such file or directory")
    write(box.src / "f")
    daemon.wait_out("old f")


def test_after_a_failed_reload_a_good_one_works(run: Run, box: Box) -> None:
    daemon = run(echo("old"))
    box.write_config("(")
    daemon.signal(signal.SIGHUP)
    daemon.wait_log("unable to reload config file")
    box.write_config(echo("new"))
    daemon.reload()
    write(box.src / "f")
    daemon.wait_out("new f")


def test_running_jobs_of_the_old_config_finish(run: Run, box: Box) -> None:
    daemon = run(HELD + 'pyinotifyd = Pyinotifyd([Watch("$SRC", {"IN_CREATE": held})], shutdown_timeout=20)')
    write(box.src / "a")
    daemon.wait_out("BEGUN")
    box.write_config(echo("new"))
    daemon.reload()
    write(box.src / "b")
    daemon.wait_out("new b")
    write(box.tmp / "go")
    daemon.wait_out(f"ENDED {box.src}/a")
    daemon.wait_log(f"task finished.*path={box.src}/a,")


def test_running_commands_of_the_old_config_finish(run: Run, box: Box) -> None:
    daemon = run(
        'pyinotifyd = Pyinotifyd([Watch("$SRC", {"IN_CREATE": ShellScheduler("echo BEGUN; '
        'while ! test -e $TMP/go; do sleep 0.02; done; echo ENDED")})])'
    )
    write(box.src / "a")
    daemon.wait_out("BEGUN")
    box.write_config(echo("new"))
    daemon.reload()
    write(box.src / "b")
    daemon.wait_out("new b")
    write(box.tmp / "go")
    daemon.wait_out("ENDED")


def test_old_jobs_exceeding_their_timeout_are_cancelled_and_the_daemon_goes_on(run: Run, box: Box) -> None:
    daemon = run(HELD + 'pyinotifyd = Pyinotifyd([Watch("$SRC", {"IN_CREATE": held})], shutdown_timeout=1)')
    write(box.src / "a")
    daemon.wait_out("BEGUN")
    box.write_config(echo("new"))
    daemon.reload()
    daemon.wait_log(f"ongoing task cancelled, mask=IN_CREATE, path={box.src}/a,")
    write(box.src / "b")
    daemon.wait_out("new b")
    assert "ENDED" not in daemon.stdout


def test_a_waiting_task_of_a_scheduler_that_is_gone_runs_after_its_delay(run: Run, box: Box) -> None:
    daemon = run(echo("old", f", delay={DELAY}"))
    write(box.src / "a")
    daemon.wait_log("schedule task")
    box.write_config(echo("new").replace("sched", "other"))
    daemon.reload()
    daemon.wait_out("old a")


@ours_only
def test_waiting_tasks_survive_a_reload_even_beyond_the_timeout(run: Run, box: Box) -> None:
    daemon = run(echo("old", ", delay=2.5", timeout="1"))
    write(box.src / "a")
    daemon.wait_log("schedule task")
    box.write_config(echo("new", timeout="1").replace("sched", "other"))
    daemon.reload()
    daemon.wait_out("old a")
    assert daemon.stdout.count("old a") == 1


@ours_only
def test_a_waiting_task_goes_on_in_the_scheduler_of_its_name(run: Run, box: Box) -> None:
    """With its id and its due time; the command is that of the new config."""
    daemon = run(echo("old", f", delay={DELAY}"))
    write(box.src / "a")
    daemon.wait_log("schedule task")
    box.write_config(echo("new", ", delay=100"))
    daemon.reload()
    daemon.wait_log("configuration loaded: .*1 task goes on")
    daemon.wait_out("new a")
    assert "old a" not in daemon.stdout
    assert len(daemon.task_ids(box.src / "a")) == 1


def waiting(word: str, options: str) -> str:
    """A config whose command says `word` and the file's name, and waits for a file."""
    return f"""
sched = ShellScheduler("echo {word} $(basename {{pathname}}); while ! test -e $TMP/go; do sleep 0.02; done; "
                       "echo END of {word} $(basename {{pathname}})", {options})
pyinotifyd = Pyinotifyd([Watch("$SRC", {{"IN_CLOSE_WRITE": sched, "IN_DELETE": Cancel(sched)}})], shutdown_timeout=30)
"""


def reloaded_during_a_run(run: Run, box: Box, old: str, new: str) -> tuple[Daemon, Operator]:
    """The daemon with `new`, while a run of `old` for the file "a" goes on."""
    daemon = run(old, "--control", box.tmp / "c.sock")
    write(box.src / "a")
    daemon.wait_out("old a")
    box.write_config(new)
    daemon.reload()
    return daemon, Operator(box.tmp / "c.sock")


@ours_only
@pytest.mark.parametrize("options", ["max_jobs=1", "singlejob=True, on_busy='rerun'"])
def test_a_run_of_the_old_config_keeps_its_place_among_max_jobs(run: Run, box: Box, options: str) -> None:
    daemon, operator = reloaded_during_a_run(run, box, waiting("old", options), waiting("new", options))
    write(box.src / "b")
    operator.post("/v1/sync")
    scheduler = operator.scheduler("sched")
    assert (scheduler["running"], scheduler["paused"]) == (1, False)
    write(box.tmp / "go")
    daemon.wait_out("END of new b")
    assert re.findall("(?:END of )?(?:old|new) .", daemon.stdout) == ["old a", "END of old a", "new b", "END of new b"]


@ours_only
def test_the_places_of_all_commands_are_taken_by_those_of_the_old_config(run: Run, box: Box) -> None:
    limited = ("shutdown_timeout=30", "shutdown_timeout=30, max_jobs=1")
    old, new = (waiting(word, "delay=0").replace(*limited) for word in ("old", "new"))
    daemon, operator = reloaded_during_a_run(run, box, old, new.replace("sched", "other"))
    write(box.src / "b")
    operator.wait_scheduler("other", queued=1, running=0)
    write(box.tmp / "go")
    daemon.wait_out("END of new b")
    assert daemon.stdout.index("END of old a") < daemon.stdout.index("new b")


@ours_only
@pytest.mark.parametrize("on_busy", ["skip", "rerun", "restart"])
def test_an_event_for_a_path_that_the_old_config_still_runs_is_treated_by_on_busy(
    run: Run, box: Box, on_busy: str
) -> None:
    options = f"on_busy={on_busy!r}"
    daemon, operator = reloaded_during_a_run(run, box, waiting("old", options), waiting("new", options))
    write(box.src / "a")
    operator.post("/v1/sync")
    if on_busy == "skip":
        daemon.wait_log("WARNING - skip event due to ongoing task.*path=$SRC/a,".replace("$SRC", os.fspath(box.src)))
    if on_busy != "restart":
        assert "new a" not in daemon.stdout
        write(box.tmp / "go")
        daemon.wait_out("END of old a")
    if on_busy != "skip":
        daemon.wait_out("new a")
        write(box.tmp / "go")
        daemon.wait_out("END of new a")
    operator.post("/v1/sync", {"idle": True})
    assert ("END of old a" in daemon.stdout) == (on_busy != "restart")
    assert daemon.stdout.count("new a") == (0 if on_busy == "skip" else 2)
    assert len(daemon.task_ids(box.src / "a")) == 1


def test_an_event_for_an_old_waiting_task_runs_once_in_all_by_the_new_config(run: Run, box: Box) -> None:
    daemon = run(echo("old", ", delay=2", flags="IN_CREATE IN_MODIFY"))
    write(box.src / "a", "")
    daemon.wait_log("schedule task")
    box.write_config(echo("new", f", delay={DELAY}", flags="IN_CREATE IN_MODIFY"))
    daemon.reload()
    with open(box.src / "a", "a") as file:
        file.write("x")
    if REFERENCE:
        daemon.wait_log("scheduled task cancelled.*/a,")
    else:
        daemon.wait_log("re-schedule task, .*/a,")
    daemon.wait_out("new a")
    write(box.src / "b", "")
    daemon.wait_out("new b")
    assert "old a" not in daemon.stdout
    assert daemon.stdout.count("new a") == 1


def test_the_level_stays_when_the_new_config_sets_none(run: Run, box: Box) -> None:
    daemon = run('setLoglevel(DEBUG, "eventmap")\n' + echo("old"))
    box.write_config(echo("new"))
    daemon.reload()
    write(box.src / "f")
    daemon.wait_out("new f")
    daemon.wait_log(f"eventmap - DEBUG - received event.*{box.src}/f")


def test_debug_option_is_in_force_after_a_reload(run: Run, box: Box) -> None:
    daemon = run(echo("old"), "-d")
    box.write_config("setLoglevel(ERROR)\n" + echo("new"))
    daemon.reload()
    write(box.src / "f")
    daemon.wait_log(f"eventmap - DEBUG - received event.*{box.src}/f")


@ours_only
def test_an_unchanged_watch_keeps_its_descriptor(run: Run, box: Box) -> None:
    (box.src / "sub").mkdir()
    text = 'pyinotifyd = Pyinotifyd([Watch("$SRC", recorder("IN_CREATE"), rec=True)])'
    daemon = run(text, record=True)
    before = daemon.watches()
    daemon.reload()
    assert daemon.watches() == before


@ours_only
def test_term_after_hup_waits_for_the_tasks_of_the_old_config(run: Run, box: Box) -> None:
    daemon = run(HELD + 'pyinotifyd = Pyinotifyd([Watch("$SRC", {"IN_CREATE": held})], shutdown_timeout=20)')
    write(box.src / "a")
    daemon.wait_out("BEGUN")
    box.write_config(echo("new"))
    daemon.reload()
    daemon.signal(signal.SIGTERM)
    daemon.wait_log("got signal SIGTERM, shutdown")
    write(box.tmp / "go")
    assert daemon.wait_exit() == 0
    assert "ENDED" in daemon.stdout


@ours_only
def test_no_event_is_lost_or_doubled_by_reloads_under_load(run: Run, box: Box) -> None:
    """Files move in at full speed while the config is loaded again and again: each runs exactly once."""
    text = (
        'setLoglevel(INFO)\nsetLoglevel(WARNING, "sched")\n'
        'pyinotifyd = Pyinotifyd([Watch("$SRC", recorder("IN_MOVED_TO"))])'
    )
    daemon = run(text, record=True)
    stop = threading.Event()
    made = 0

    def rename() -> None:
        nonlocal made
        while made < 4000 and not stop.is_set():
            write(box.tmp / "made")
            (box.tmp / "made").rename(box.src / f"f{made}")
            made += 1
            if made % 100 == 0:
                time.sleep(0.02)

    maker = threading.Thread(target=rename)
    maker.start()
    try:
        for _ in range(8):
            daemon.reload()
        maker.join()
    finally:
        stop.set()
        maker.join()
    wait_until(lambda: len(daemon.events) >= made, lambda: f"{made} made, {len(daemon.events)} seen; {daemon.tail}")
    drop(box.src / "last")
    daemon.wait_event("IN_MOVED_TO", box.src / "last")
    paths = [event.pathname for event in daemon.events]
    assert len(paths) == len(set(paths)) == made + 1


@ours_only
def test_no_event_is_lost_or_doubled_while_hundreds_of_watches_come_and_go(run: Run, box: Box) -> None:
    """A reload adds and removes watches some at a time; files in those that stay run exactly once."""
    watched, half = 600, 300
    for number in range(watched + half):
        (box.src / f"d{number}").mkdir()

    def config(first: int) -> str:
        return (
            'setLoglevel(INFO)\nsetLoglevel(WARNING, "sched")\nevents = recorder("IN_MOVED_TO")\n'
            f"numbers = range({first}, {first + watched})\n"
            'pyinotifyd = Pyinotifyd([Watch(f"$SRC/d{number}", events) for number in numbers])'
        )

    daemon = run(config(0), record=True)
    stop = threading.Event()
    made = 0

    def rename() -> None:
        nonlocal made
        while not stop.is_set():
            write(box.tmp / "made")
            (box.tmp / "made").rename(box.src / f"d{half + made % half}" / f"f{made}")
            made += 1
            time.sleep(0.0005)

    maker = threading.Thread(target=rename)
    maker.start()
    try:
        for first in (half, 0) * 2:
            box.write_config(config(first), record=True)
            daemon.reload()
    finally:
        stop.set()
        maker.join()
    wait_until(lambda: len(daemon.events) >= made, lambda: f"{made} made, {len(daemon.events)} seen; {daemon.tail}")
    wait_until(lambda: not daemon.watches_path(box.src / f"d{watched + half - 1}"))
    drop(box.src / "d0" / "last")
    daemon.wait_event("IN_MOVED_TO", box.src / "d0" / "last")
    paths = [event.pathname for event in daemon.events]
    assert len(paths) == len(set(paths)) == made + 1


@ours_only
def test_a_hundred_reloads_leave_no_descriptors_and_no_processes(run: Run, box: Box) -> None:
    daemon = run('pyinotifyd = Pyinotifyd([Watch("$SRC", recorder("IN_CREATE"))])', record=True)
    daemon.reload()
    wait_until(lambda: len(daemon.children()) == 1)
    before = len(daemon.descriptors())
    for _ in range(100):
        daemon.signal(signal.SIGHUP)
        time.sleep(0.02)
    # Signals that come while one reload is under way are one more reload; the last one wins.
    write(box.src / "f")
    daemon.wait_event("IN_CREATE", box.src / "f")
    wait_until(lambda: len(daemon.children()) == 1, lambda: f"{daemon.children()}")
    wait_until(lambda: len(daemon.descriptors()) <= before, lambda: f"{before} before, {daemon.descriptors()}")


@ours_only
def test_a_config_that_never_returns_leaves_the_old_one_at_work(run: Run, box: Box) -> None:
    daemon = run(echo("old"))
    box.write_config("import time\nwhile True: time.sleep(0.1)\n")
    daemon.signal(signal.SIGHUP)
    daemon.wait_log("got signal SIGHUP")
    write(box.src / "f")
    daemon.wait_out("old f")
    begun = time.monotonic()
    assert daemon.terminate() == 0
    assert time.monotonic() - begun < 10
    wait_until(lambda: daemon.children() == [])


@ours_only
def test_descriptors_exhausted_leave_the_old_config_in_force(run: Run, box: Box) -> None:
    import resource

    daemon = run(echo("old"))
    used = max(daemon.descriptors()) + 1
    resource.prlimit(daemon.pid, resource.RLIMIT_NOFILE, (used, used + 100))
    box.write_config(echo("new"))
    daemon.signal(signal.SIGHUP)
    daemon.wait_log("got signal SIGHUP")
    wait_until(lambda: daemon.count("unable to reload config file") or daemon.count(LOADED) == 1, lambda: daemon.tail)
    resource.prlimit(daemon.pid, resource.RLIMIT_NOFILE, (used + 100, used + 100))
    write(box.src / "f")
    daemon.wait_out("(old|new) f")
    assert os.path.exists(f"/proc/{daemon.pid}")


# What ends the interpreter of a reload, or makes it say what nobody understands, before there is a configuration.
DEADLY = {
    "exit": "import os; os._exit(3)\n",
    "kill": "import os, signal; os.kill(os.getpid(), signal.SIGKILL)\n",
    "surrogate": "raise ValueError('\\ud800')\n",
    "undecodable": "raise ValueError('caf\\udce9')\n",
    "exit with a surrogate": "import sys; sys.exit('\\ud800')\n",
    "endless text": "raise ValueError('x' * (100 << 20))\n",
    "garbage": "import os\nfor n in range(3, 40):\n    try:\n        os.write(n, b'\\xff' * 64)\n"
    "    except OSError:\n        pass\n",
    "child holds the socket": "import os, time\nif os.fork():\n    os._exit(0)\ntime.sleep(300)\n",
}


@ours_only
@pytest.mark.parametrize("kind", DEADLY)
def test_a_host_that_dies_in_a_reload_leaves_the_daemon_awake(run: Run, box: Box, kind: str) -> None:
    """Jobs run, the daemon idles and signals are heard, also when the time that a host has for its end is over."""
    job = 'async def job(event, task_id):\n    print("RAN", event.name, flush=True)\n'
    daemon = run(job + 'pyinotifyd = Pyinotifyd([Watch("$SRC", {"IN_CREATE": job})])')
    box.write_config(DEADLY[kind])
    daemon.signal(signal.SIGHUP)
    daemon.wait_log("unable to reload config file")
    ends = time.monotonic() + 3
    number = 0
    while time.monotonic() < ends:
        number += 1
        write(box.src / f"f{number}")
        daemon.wait_out(f"RAN f{number}$", timeout_s=5)
        time.sleep(0.1)
    before = daemon.cpu_s()
    time.sleep(0.5)
    assert daemon.cpu_s() - before < 0.25, "it spins"
    box.write_config(echo("new"))
    daemon.reload()
    assert daemon.terminate(10) == 0


@ours_only
@pytest.mark.parametrize("kind", ["surrogate", "undecodable", "endless text"])
def test_a_failed_reload_tells_the_users_own_error_whatever_its_text(run: Run, box: Box, kind: str) -> None:
    """And not that the interpreter has ended, which says nothing of the fault."""
    daemon = run(echo("old"))
    box.write_config(DEADLY[kind])
    daemon.signal(signal.SIGHUP)
    line = daemon.wait_log("unable to reload config file.*").string
    assert "interpreter" not in line, line[:300]
    daemon.wait_log("ValueError")


@ours_only
def test_a_config_that_never_returns_gives_way_to_the_next_one(run: Run, box: Box) -> None:
    """A mistake in a file must not cost the ability to reload a better one."""
    daemon = run(echo("old"))
    box.write_config("import time\nprint('HERE', flush=True)\nwhile True: time.sleep(0.1)\n")
    daemon.signal(signal.SIGHUP)
    daemon.wait_out("HERE")
    box.write_config(echo("new"))
    number = 0

    def new() -> bool:
        nonlocal number
        number += 1
        daemon.signal(signal.SIGHUP)
        write(box.src / f"f{number}")
        time.sleep(0.5)
        return "new f" in daemon.stdout

    wait_until(new, lambda: daemon.tail)
    wait_until(lambda: daemon.children() == [], lambda: f"left: {daemon.children()}")


@ours_only
def test_a_storm_of_reloads_with_configs_that_fail_in_every_way(run: Run, box: Box) -> None:
    daemon = run('pyinotifyd = Pyinotifyd([Watch("$SRC", recorder("IN_CREATE"))])', record=True)
    before = len(daemon.descriptors())
    texts = [
        *BAD.values(),
        *(text for kind, text in DEADLY.items() if kind not in ("endless text", "child holds the socket")),
    ]
    for number in range(100):
        box.write_config(texts[number % len(texts)])
        daemon.signal(signal.SIGHUP)
        time.sleep(0.02)
    write(box.src / "f")
    daemon.wait_event("IN_CREATE", box.src / "f")
    wait_until(lambda: len(daemon.children()) == 1, lambda: f"{daemon.children()}")
    wait_until(lambda: len(daemon.descriptors()) <= before, lambda: f"{before} before, {daemon.descriptors()}")
    assert daemon.terminate(10) == 0


@ours_only
def test_the_kernel_tells_no_more_than_the_config_in_force_asks_for(run: Run, box: Box) -> None:
    config = """
tell = ShellScheduler("true")
pyinotifyd = Pyinotifyd([Watch("$SRC", {"IN_CLOSE_WRITE": tell%s})]%s)
"""
    daemon = run(config % ("", ""))
    narrow = daemon.masks(box.src)
    write(box.tmp / "taken", "no socket")
    box.write_config(config % (', "IN_OPEN": tell', ', control="$TMP/taken"'))
    daemon.signal(signal.SIGHUP)
    daemon.wait_log("stays in force")
    assert daemon.masks(box.src) == narrow
    box.write_config(config % (', "IN_OPEN": tell', ""))
    daemon.reload()
    assert daemon.masks(box.src) != narrow
    box.write_config(config % ("", ""))
    daemon.reload()
    wait_until(lambda: daemon.masks(box.src) == narrow, lambda: f"{daemon.masks(box.src)} instead of {narrow}")
