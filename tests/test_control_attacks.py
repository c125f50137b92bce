"""The control socket under attack: whoever asks, whatever is asked, an event is handled all the while."""

from __future__ import annotations

import contextlib
import grp
import json
import os
import socket
import stat
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from control import Operator
from vocabulary import DEADLINE_S, Box, Daemon, mode_of, need, wait_until, write

pytestmark = pytest.mark.skipif(bool(os.environ.get("PYINOTIFYD_TEST_REFERENCE")), reason="the original has none")

Run = Callable[..., Daemon]

CONFIG = """
move = FileManagerScheduler([FileManagerRule("move", r"^$SRC/(.*)$", r"$DST/\\1")])
later = ShellScheduler("true # {pathname}", delay=3600)
pyinotifyd = Pyinotifyd([
    Watch("$SRC", {"IN_MOVED_TO": move}), Watch("$TMP/many", {"IN_CREATE": later})
], shutdown_timeout=0GROUP)
"""

# A loop that waited for a client would wait for as long as the server does, 10 s. The benchmark measures that an event
# takes no more than 20 ms all the while (bench/run --row latency-attacked).
LATENCY_S = 5


@pytest.fixture
def operator(run: Run, box: Box) -> Operator:
    (box.tmp / "many").mkdir()
    run(CONFIG.replace("GROUP", ""), "--control", box.tmp / "c.sock")
    return Operator(box.tmp / "c.sock")


def connect(operator: Operator) -> socket.socket:
    client = socket.socket(socket.AF_UNIX)
    # Where the kernel's backlog is full, this waits.
    client.connect(os.fspath(operator.path))
    client.settimeout(DEADLINE_S)
    return client


@contextmanager
def events_go_on(box: Box) -> Iterator[None]:
    """Files are moved all the while, each in time."""
    stop, worst, count = threading.Event(), [0.0], [0]

    def move() -> None:
        while not stop.is_set():
            new = box.tmp / "new"
            new.write_text("x")
            began = time.monotonic()
            target = box.dst / str(count[0])
            new.rename(box.src / str(count[0]))
            while not target.exists() and time.monotonic() - began < DEADLINE_S:
                time.sleep(0.001)
            worst[0] = max(worst[0], time.monotonic() - began)
            count[0] += 1

    moving = threading.Thread(target=move)
    moving.start()
    try:
        yield
        wait_until(lambda: count[0] > 5, "some moves")
    finally:
        stop.set()
        moving.join()
    assert worst[0] < LATENCY_S, f"{worst[0]} s, {count[0]} files"


# Connects as somebody else, asks, and prints all that comes until the end.
ASK = """
import socket, sys
client = socket.socket(socket.AF_UNIX)
client.settimeout(10)
try:
    client.connect(sys.argv[1])
except PermissionError:
    sys.exit("refused by the kernel")
client.sendall(b"POST /v1/pause HTTP/1.1\\r\\nhost: x\\r\\ncontent-length: 2\\r\\n\\r\\n{}")
answer = b""
while chunk := client.recv(1000):
    answer += chunk
sys.stdout.write(answer.decode())
"""

# Others, as words of setpriv. CAP_DAC_OVERRIDE goes around the socket's mode.
NOBODY = ("--reuid=65534", "--regid=65534", "--clear-groups")
CAPABLE = (*NOBODY, "--inh-caps=+dac_override", "--ambient-caps=+dac_override")


def ask_as(path: Path, *who: str) -> str:
    """What somebody gets for an answer."""
    argv = ["setpriv", *who, "python3", "-c", ASK, os.fspath(path)]
    done = subprocess.run(argv, capture_output=True, text=True, env={"PATH": "/usr/bin:/bin"}, check=False)
    return done.stdout + done.stderr


def is_forbidden(answer: str) -> bool:
    # Reading text has made \n of \r\n.
    head, _, body = answer.partition("\n\n")
    return head.startswith("HTTP/1.1 403 ") and "connection: close" in head and list(json.loads(body)) == ["error"]


def test_the_socket_is_for_root_and_the_daemons_user_alone(run: Run, box: Box, root: None) -> None:
    need("setpriv")
    (box.tmp / "many").mkdir()
    daemon = run(CONFIG.replace("GROUP", ""), "--control", box.tmp / "c.sock")
    assert mode_of(box.tmp / "c.sock") == 0o600
    box.tmp.chmod(0o755)
    assert "refused by the kernel" in ask_as(box.tmp / "c.sock", *NOBODY)
    # Even where somebody has opened its mode, or needs none.
    assert is_forbidden(ask_as(box.tmp / "c.sock", *CAPABLE))
    (box.tmp / "c.sock").chmod(0o666)
    assert is_forbidden(ask_as(box.tmp / "c.sock", *NOBODY))
    program = box.tmp / "pyinotifyd"
    program.write_bytes(box.program.read_bytes())
    program.chmod(0o755)
    argv: list[str | Path] = ["setpriv", *NOBODY, program, "pause", "--control", box.tmp / "c.sock"]
    refused = subprocess.run(argv, capture_output=True, text=True, check=False)
    assert (refused.returncode, refused.stdout) == (1, "")
    assert "only root, the daemon's user and members of its control_group may ask" in refused.stderr
    # All of them in one line, and nothing was done.
    daemon.wait_log(r"WARNING - a client is refused \(uid 65534, pid \d+\), it is neither root nor ")
    assert daemon.count("a client is refused") == 1
    assert daemon.count("pause") == 0
    assert Operator(box.tmp / "c.sock").get("/healthz") == "ok\n"


def test_who_is_not_in_the_group_is_refused_whatever_lets_him_connect(run: Run, box: Box, root: None) -> None:
    need("setpriv")
    (box.tmp / "many").mkdir()
    run(CONFIG.replace("GROUP", ', control_group="nogroup"'), "--control", box.tmp / "c.sock")
    box.tmp.chmod(0o755)
    other = ("--reuid=12345", "--regid=12345", *CAPABLE[3:])
    assert is_forbidden(ask_as(box.tmp / "c.sock", "--clear-groups", *other))
    # A group beside the first one counts.
    assert " 200 " in ask_as(box.tmp / "c.sock", "--groups=12346,65534", "--reuid=12345", "--regid=12345")


def test_strangers_take_no_place_from_others(run: Run, box: Box, root: None) -> None:
    need("setpriv")
    (box.tmp / "many").mkdir()
    run(CONFIG.replace("GROUP", ""), "--control", box.tmp / "c.sock")
    box.tmp.chmod(0o755)
    (box.tmp / "c.sock").chmod(0o666)
    crowd = (
        "import socket, sys\n"
        "clients = [socket.socket(socket.AF_UNIX) for _ in range(200)]\n"
        "for client in clients: client.connect(sys.argv[1])\n"
        "print('there', flush=True)\n"
        "sys.stdin.read()\n"
    )
    argv = ["setpriv", *NOBODY, "python3", "-c", crowd, os.fspath(box.tmp / "c.sock")]
    env, pipe = {"PATH": "/usr/bin:/bin"}, subprocess.PIPE
    with subprocess.Popen(argv, env=env, stdin=pipe, stdout=pipe, text=True) as strangers:
        assert strangers.stdout
        assert strangers.stdout.readline() == "there\n"
        with events_go_on(box):
            assert Operator(box.tmp / "c.sock").get("/healthz") == "ok\n"


def test_members_of_the_group_may_ask_and_are_logged(run: Run, box: Box, root: None) -> None:
    need("setpriv")
    (box.tmp / "many").mkdir()
    daemon = run(CONFIG.replace("GROUP", ', control_group="nogroup"'), "--control", box.tmp / "run" / "c.sock")
    path = box.tmp / "run" / "c.sock"
    assert (mode_of(path), path.stat().st_gid) == (0o660, 65534)
    box.tmp.chmod(0o755)
    program = box.tmp / "pyinotifyd"
    program.write_bytes(box.program.read_bytes())
    program.chmod(0o755)
    become = ["setpriv", "--reuid=12345", "--regid=65534", "--clear-groups"]
    argv: list[str | Path] = [*become, program, "pause", "later", "--control", path]
    assert subprocess.run(argv, capture_output=True, text=True, check=False).returncode == 0
    daemon.wait_log(r"INFO - pause later, asked by uid 12345, pid \d+$")


def test_a_reload_that_changes_the_group_leaves_no_moment_without_a_socket(run: Run, box: Box, root: None) -> None:
    (box.tmp / "many").mkdir()
    path = box.tmp / "run" / "c.sock"
    daemon = run(CONFIG.replace("GROUP", ""), "--control", path)
    operator = Operator(path)
    answers: set[object] = set()
    stop = threading.Event()

    def ask() -> None:
        while not stop.is_set():
            try:
                answers.add(operator.ask("GET", "/healthz")[0])
            except (ConnectionResetError, BrokenPipeError):
                # It connected to the old one in the last moment.
                continue
            except OSError as error:
                answers.add(repr(error))

    asking = threading.Thread(target=ask)
    asking.start()
    try:
        for group in ("nogroup", "daemon", "nogroup"):
            box.write_config(CONFIG.replace("GROUP", f', control_group="{group}"'))
            daemon.reload()
            assert (mode_of(path), path.stat().st_gid) == (0o660, grp.getgrnam(group).gr_gid)
    finally:
        stop.set()
        asking.join()
    assert answers <= {200, 503}, answers
    assert os.listdir(box.tmp / "run") == ["c.sock"]


def test_a_directory_that_keeps_the_group_out_is_named_once(run: Run, box: Box, root: None) -> None:
    (box.tmp / "many").mkdir()
    (box.tmp / "run").mkdir(mode=0o700)
    box.tmp.chmod(0o755)
    config = CONFIG.replace("GROUP", ', control_group="nogroup"')
    daemon = run(CONFIG.replace("GROUP", ""), "--control", box.tmp / "run" / "c.sock")
    assert daemon.count("control_group") == 0
    box.write_config(config)
    daemon.reload()
    daemon.wait_log(f"WARNING - control_group: its members .* '{box.tmp.resolve()}/run' has mode 0700: give it 0711")
    daemon.reload()
    assert daemon.count("WARNING - control_group") == 1


def test_garbage_is_answered_or_cut_off(operator: Operator, box: Box) -> None:
    with events_go_on(box):
        for garbage in (
            b"\x00" * 1000,
            b"GET\r\n\r\n",
            b"GET /v1/status HTTP/9.9\r\n\r\n",
            b"POST /v1/tasks/cancel HTTP/1.1\r\nhost: x\r\ncontent-length: 3\r\n\r\n{{{",
            b"POST /v1/tasks/cancel HTTP/1.1\r\nhost: x\r\ncontent-length: -1\r\n\r\n",
            b"GET /v1/tasks?limit=99999999999999999999 HTTP/1.1\r\nhost: x\r\n\r\n",
            b"GET /%00%ff/../../etc HTTP/1.1\r\nhost: x\r\n\r\n",
            os.urandom(5000),
        ):
            with contextlib.suppress(OSError), connect(operator) as client:
                client.sendall(garbage)
                client.shutdown(socket.SHUT_WR)
                while client.recv(1 << 16):
                    pass
        assert operator.get("/healthz") == "ok\n"


def test_requests_that_are_too_large_are_refused(operator: Operator, box: Box) -> None:
    with events_go_on(box):
        with connect(operator) as client:
            client.sendall(b"POST /v1/send HTTP/1.1\r\nhost: x\r\ncontent-length: 100000\r\n\r\n")
            with contextlib.suppress(OSError):
                client.sendall(b"x" * 100_000)
            assert b" 413 " in client.recv(100)
        with connect(operator) as client:
            client.sendall(b"GET / HTTP/1.1\r\nhost: x\r\n")
            with contextlib.suppress(OSError):
                client.sendall(b"x: " + b"y" * 200_000 + b"\r\n\r\n")
            answer = client.recv(1000)
            assert b" 431 " in answer
            assert list(json.loads(answer.rpartition(b"\r\n\r\n")[2])) == ["error"]


def test_two_hundred_connections_leave_room_for_the_next_one_who_comes_after_them(operator: Operator, box: Box) -> None:
    with events_go_on(box), contextlib.ExitStack() as stack:
        clients = []
        for _ in range(200):
            client = stack.enter_context(connect(operator))
            # A slowloris: a head that never ends.
            with contextlib.suppress(OSError):
                client.sendall(b"GET /v1/status HTTP/1.1\r\nx-slow: ")
            clients.append(client)
        assert b" 503 " in clients[-1].recv(100)
    wait_until(lambda: operator.ask("GET", "/healthz")[0] == 200, "room")


def test_a_client_that_never_reads_is_cut_off_and_that_is_said(run: Run, box: Box) -> None:
    (box.tmp / "many").mkdir()
    daemon = run(CONFIG.replace("GROUP", ""), "--control", box.tmp / "c.sock")
    operator = Operator(box.tmp / "c.sock")
    with connect(operator) as client, events_go_on(box):
        client.sendall(b"GET /v1/events?tasks=true HTTP/1.1\r\nhost: x\r\n\r\n")
        stop = time.monotonic() + DEADLINE_S
        number = 0
        while not daemon.count("a client that does not read is cut off") and time.monotonic() < stop:
            for _ in range(200):
                number += 1
                write(box.tmp / "many" / f"{number}-{'x' * 200}")
    daemon.wait_log(r"WARNING - a client that does not read is cut off \(uid \d+, pid \d+\)")


def test_hostile_names_are_text_in_json_and_on_a_terminal(operator: Operator, box: Box) -> None:
    name = b'/"}\n\x1b[2J\xff{"done":1,\xe2\x80\xae'
    write(os.fsencode(box.tmp / "many") + b"/" + name.replace(b"/", b""))
    [task] = operator.wait_tasks(1)
    assert json.loads(json.dumps(task))["path_b64"]
    text = operator.run("tasks")
    assert "\x1b" not in text
    assert "\u202e" not in text
    assert text.count("\n") == 2


def test_a_large_list_holds_no_event_up(operator: Operator, box: Box) -> None:
    for number in range(20_000):
        (box.tmp / "many" / str(number)).touch()
    operator.post("/v1/sync")
    with events_go_on(box):
        listed = operator.get("/v1/tasks?path=*many*")
        assert (len(listed["tasks"]), listed["total"]) == (20_000, 20_000)
        assert len(operator.post("/v1/tasks/cancel", {"all": True})["done"]) >= 20_000


def test_a_hostile_socket_in_its_place_is_left_alone(box: Box) -> None:
    path = box.tmp / "c.sock"
    (box.tmp / "many").mkdir()
    with socket.socket(socket.AF_UNIX) as other:
        other.bind(os.fspath(path))
        other.listen()
        refused = box.call("--control", path, config=CONFIG.replace("GROUP", ""))
        assert refused.exit_code == 1
        assert "in use by another daemon" in refused.log
    open_directory = box.tmp / "open"
    open_directory.mkdir()
    open_directory.chmod(0o777)
    refused = box.call("--control", open_directory / "c.sock", config=CONFIG.replace("GROUP", ""))
    assert refused.exit_code == 1
    assert "everybody can write in its directory" in refused.log
    path.unlink()
    path.symlink_to("/etc/passwd")
    refused = box.call("--control", path, config=CONFIG.replace("GROUP", ""))
    assert refused.exit_code == 1
    assert stat.S_ISLNK(path.lstat().st_mode)
