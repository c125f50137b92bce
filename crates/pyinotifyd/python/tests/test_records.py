"""Python's logging on its way to the daemon, and the daemon's records on their way to handlers of the user's."""

from __future__ import annotations

import pytest
from conftest import DEADLINE_S, DESCRIBE, DONE, HOST_LOG, LOG, STOP

MINIMAL = "pyinotifyd = Pyinotifyd()\n"


def messages(daemon):
    """Return level and text of the records so far."""
    return [(log["logger"], log["level"], log["message"]) for log in daemon.logs]


def test_records_while_the_config_loads(host):
    """They come out, by the levels that hold then."""
    daemon = host(
        "import logging\nlogging.info('one')\nlogging.debug('no')\nsetLoglevel(DEBUG)\nlogging.debug('two')\n"
        "setLoglevel(ERROR, 'a')\nlogging.getLogger('a').warning('no')\nlogging.getLogger('a.b').error('three')\n"
        + MINIMAL
    )
    value = daemon.expect(DESCRIBE)
    assert messages(daemon) == [("root", 20, "one"), ("root", 10, "two"), ("a.b", 40, "three")]
    assert value["levels"] == {"": 10, "a": 40}


def test_levels_without_logging(host):
    """The package keeps them itself; nobody pays for an import."""
    daemon = host(
        "import sys\nsetLoglevel(WARNING)\nsetLoglevel(5, 'x')\nassert 'logging' not in sys.modules\n" + MINIMAL
    )
    assert daemon.expect(DESCRIBE)["levels"] == {"": 30, "x": 5}


def test_levels_from_the_daemon(host):
    """A reload keeps what was set before."""
    daemon = host("import logging\nlogging.getLogger('x').debug('seen')\n" + MINIMAL, levels={"": 40, "x": 10})
    assert daemon.expect(DESCRIBE)["levels"] == {"": 40, "x": 10}
    assert messages(daemon) == [("x", 10, "seen")]


@pytest.mark.parametrize("imports", ["", "import logging\n"])
def test_debug_beats_the_config_but_not_its_names(host, imports):
    """Before and after it."""
    daemon = host(imports + "setLoglevel(ERROR)\nsetLoglevel(WARNING, 'x')\n" + MINIMAL, debug=True)
    assert daemon.expect(DESCRIBE)["levels"] == {"": 10, "x": 30}


def test_levels_set_by_logging_itself(host):
    """They count as well."""
    daemon = host("import logging\nlogging.getLogger('daemon').setLevel('DEBUG')\n" + MINIMAL)
    assert daemon.expect(DESCRIBE)["levels"] == {"": 20, "daemon": 10}


HANDLERS = {
    "addHandler": "h = logging.StreamHandler(sys.stdout)\nlogging.getLogger().addHandler(h)\n",
    "basicConfig": "logging.basicConfig(stream=sys.stdout, format='%(message)s', force=True)\n",
    "dictConfig": (
        "import logging.config\nlogging.config.dictConfig({'version': 1, 'handlers': {'h': {'class': "
        "'logging.StreamHandler', 'stream': 'ext://sys.stdout'}}, 'loggers': {'daemon': {'handlers': ['h']}}})\n"
    ),
}


@pytest.mark.parametrize("name", HANDLERS)
def test_handlers_of_the_user_get_the_records_of_the_daemon(host, name):
    """And ours doesn't send them back."""
    daemon = host("import logging, sys\n" + HANDLERS[name] + MINIMAL)
    value = daemon.expect(DESCRIBE)
    assert (value["handlers"], value["stays_because"]) == (True, "handlers")
    for level in (10, 20):
        daemon.send(
            LOG,
            {"logger": "daemon", "level": level, "message": f"level {level} %s", "created": 1.5, "give_back": False},
        )
    daemon.send(STOP)
    assert daemon.next(HOST_LOG) == (None, None)
    assert daemon.wait() == (0, "level 20 %s\n", "")


def test_records_of_the_daemon_reach_handlers_while_jobs_run(host):
    """The time is the daemon's."""
    daemon = host(
        "import logging, sys\nh = logging.StreamHandler(sys.stdout)\n"
        "h.setFormatter(logging.Formatter('%(created)s %(name)s %(levelname)s %(message)s'))\n"
        "logging.getLogger().addHandler(h)\n"
        "async def job(event, task_id): logging.warning('mine')\n"
        "pyinotifyd = Pyinotifyd([Watch('/', {'IN_CREATE': job})])\n"
    )
    value = daemon.expect(DESCRIBE)
    assert (value["handlers"], value["stays_because"]) == (True, "jobs")
    daemon.send(LOG, {"logger": "daemon", "level": 20, "message": "theirs", "created": 1.5, "give_back": False})
    daemon.start([{"handle": 1}])
    assert daemon.collect(DONE, 1) == [1]
    assert messages(daemon) == [("root", 30, "mine")]
    daemon.send(STOP)
    out = daemon.wait()[1].splitlines()
    assert out[0] == "1.5 daemon INFO theirs"
    assert out[1].endswith("root WARNING mine")


RAISING = (
    "import logging, sys\n"
    "class Bad(logging.Handler):\n    def emit(self, record): raise OSError('disk full')\n"
    "logging.getLogger().addHandler(Bad())\n"
    "h = logging.StreamHandler(sys.stdout)\nlogging.getLogger().addHandler(h)\n"
)


@pytest.mark.parametrize("jobs", [False, True])
@pytest.mark.parametrize("kind", ["emit", "exit", "filter"])
def test_a_handler_that_raises_harms_nothing(host, jobs, kind):
    """It is said once, in Python's way; others get the record."""
    text = RAISING
    if kind == "exit":
        text = text.replace("raise OSError('disk full')", "sys.exit('disk full')")
    elif kind == "filter":
        text = "import logging, sys\nh = logging.StreamHandler(sys.stdout)\nlogging.getLogger().addHandler(h)\n"
        text += "def bad(record): raise OSError('disk full')\nlogging.getLogger('daemon').addFilter(bad)\n"
    job = "async def job(event, task_id): print('ran')\n"
    daemon = host(text + job + f"pyinotifyd = Pyinotifyd([Watch('/', {{'IN_CREATE': {'job' if jobs else None}}})])\n")
    assert daemon.expect(DESCRIBE)["handlers"]
    for number in range(3):
        daemon.send(
            LOG, {"logger": "daemon", "level": 20, "message": f"record {number}", "created": 1.5, "give_back": False}
        )
    if jobs:
        daemon.start([{"handle": 1}])
        assert daemon.collect(DONE, 1) == [1]
    daemon.send(STOP)
    code, out, err = daemon.wait()
    assert (code, sorted(out.splitlines())) == (0, ["ran"] * jobs + [f"record {number}" for number in range(3)])
    assert err.count("--- Logging error ---") == 1


def test_records_of_threads(host):
    """From any thread, whole."""
    daemon = host(
        "import logging, threading\n"
        "def work(number):\n    for i in range(200): logging.info('%s %s %s', number, i, 'x' * 1000)\n"
        "async def job(event, task_id):\n"
        "    for number in range(5): threading.Thread(target=work, args=(number,)).start()\n"
        "pyinotifyd = Pyinotifyd([Watch('/', {'IN_CREATE': job})])\n"
    )
    daemon.expect(DESCRIBE)
    daemon.start([{"handle": 1}])
    while len(daemon.logs) < 1000:
        daemon.next(HOST_LOG)
    for number in range(5):
        mine = [log["message"].split()[1] for log in daemon.logs if log["message"].startswith(f"{number} ")]
        assert mine == [str(i) for i in range(200)]


def test_records_of_a_forked_child(host):
    """They go to stderr: two processes in one stream of frames would garble it."""
    daemon = host(
        "import logging, os\nif os.fork() == 0:\n    logging.warning('child')\n    os._exit(0)\nos.wait()\n"
        "logging.warning('parent')\n" + MINIMAL
    )
    daemon.expect(DESCRIBE)
    assert messages(daemon) == [("root", 30, "parent")]
    assert daemon.wait()[2].endswith(" - pyinotifyd/root - WARNING - child\n")


def test_a_handler_that_forks(host):
    """A child that comes back takes no record away: it ends."""
    daemon = host(
        "import logging, os\n"
        "class Forks(logging.Handler):\n    def emit(self, record):\n"
        "        if os.fork() != 0:\n            os.wait()\n            print(record.getMessage(), flush=True)\n"
        "logging.getLogger('daemon').addHandler(Forks())\n" + MINIMAL
    )
    assert daemon.expect(DESCRIBE)["stays_because"] == "handlers"
    for number in range(20):
        daemon.send(LOG, {"logger": "daemon", "level": 20, "message": f"{number}", "created": 1.5, "give_back": False})
    daemon.send(STOP)
    code, out, err = daemon.wait()
    assert (code, out.split()) == (0, [str(number) for number in range(20)])
    assert err.count("was ended; let it call os._exit()") == 20


def test_records_that_cannot_be_made(host):
    """As Python does it: a note on stderr, and on it goes."""
    daemon = host("import logging\nlogging.info('%d', 'x')\nlogging.info('a\\udcff\\n\\x1b')\n" + MINIMAL)
    daemon.expect(DESCRIBE)
    assert messages(daemon) == [("root", 20, "a\udcff\n\x1b")]
    assert "--- Logging error ---" in daemon.wait()[2]


def test_a_stack_is_part_of_a_record(host):
    """Asked for by stack_info."""
    daemon = host("import logging\nlogging.info('x', stack_info=True)\n" + MINIMAL)
    daemon.expect(DESCRIBE)
    assert daemon.logs[0]["exc"].startswith("Stack (most recent call last):")


def test_atexit_runs_at_the_stop(host):
    """The host stays for it."""
    daemon = host("import atexit\natexit.register(print, 'bye')\n" + MINIMAL)
    assert daemon.expect(DESCRIBE)["stays_because"] == "atexit"
    daemon.send(STOP)
    assert daemon.wait() == (0, "bye\n", "")


def test_logging_looks_untouched(host):
    """The import is Python's own but for the handler."""
    daemon = host(
        "import sys\nimport logging\nimport importlib\nassert logging.__spec__.loader is logging.__loader__\n"
        "assert 'pyinotifyd' not in repr(logging.__loader__)\n"
        "assert not any(getattr(f, '_name', '') == 'logging' for f in sys.meta_path)\n"
        "assert len(logging.root.handlers) == 1\n" + MINIMAL
    )
    daemon.expect(DESCRIBE)


def test_a_daemon_that_dies_while_the_config_loads(host):
    """Nobody listens any more: the host ends without a word."""
    daemon = host("import logging\nfor i in range(1000): logging.info('x' * 1000)\n" + MINIMAL)
    daemon.sock.close()
    assert daemon.process.wait(timeout=DEADLINE_S) in (0, 1)
