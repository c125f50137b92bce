"""Attacks a control socket in all ways at once until it is told to end: attacker.py SOCKET.

Prints a line when all have begun. What comes of it is for the daemon to bear: nothing is judged here.
"""

from __future__ import annotations

import contextlib
import os
import socket
import sys
import threading
import time
from collections.abc import Callable

# Clients that send a head which never ends; there is room for 64 connections.
SLOW = 40
# Connections that are opened at once, and closed.
CROWD = 200
# Between two attacks of one kind: they shall cost the daemon what it can be made to spend, and leave the processors to
# what is measured.
PAUSE_S = 0.01
WARM_UP_S = 1
PATH = sys.argv[1]


def connect() -> socket.socket:
    client = socket.socket(socket.AF_UNIX)
    client.settimeout(20)
    client.connect(PATH)
    return client


def send(request: bytes) -> None:
    with contextlib.closing(connect()) as client, contextlib.suppress(OSError):
        client.sendall(request)
        client.shutdown(socket.SHUT_WR)
        while client.recv(1 << 16):
            pass


def slowloris() -> None:
    """Holds connections until they are cut off."""
    with contextlib.ExitStack() as stack:
        clients = [stack.enter_context(contextlib.closing(connect())) for _ in range(SLOW)]
        for client in clients:
            with contextlib.suppress(OSError):
                client.sendall(b"GET /v1/status HTTP/1.1\r\nx-slow: ")
        for client in clients:
            with contextlib.suppress(OSError):
                client.recv(1)


def crowd() -> None:
    with contextlib.ExitStack() as stack:
        for _ in range(CROWD):
            stack.enter_context(contextlib.closing(connect()))
    time.sleep(1)


def garbage() -> None:
    send(os.urandom(5000))
    send(b"GET /%00%ff/../../etc HTTP/1.1\r\nhost: x\r\n\r\n")


def huge() -> None:
    send(b"POST /v1/send HTTP/1.1\r\nhost: x\r\ncontent-length: 100000\r\n\r\n" + b"x" * 100_000)
    send(b"GET / HTTP/1.1\r\nhost: x\r\nx: " + b"y" * 200_000 + b"\r\n\r\n")


def deaf() -> None:
    """Asks for all that happens, and reads nothing until it is cut off."""
    with contextlib.closing(connect()) as client:
        client.sendall(b"GET /v1/events?tasks=true HTTP/1.1\r\nhost: x\r\n\r\n")
        time.sleep(12)


ATTACKS: list[Callable[[], None]] = [slowloris, crowd, garbage, huge, deaf]


def repeat(attack: Callable[[], None]) -> None:
    while True:
        with contextlib.suppress(OSError):
            attack()
        time.sleep(PAUSE_S)


def main() -> None:
    for attack in ATTACKS:
        threading.Thread(target=repeat, args=(attack,), daemon=True).start()
        # The slow ones find room before the crowd comes.
        time.sleep(0.2)
    time.sleep(WARM_UP_S)
    print("under attack", flush=True)
    threading.Event().wait()


main()
