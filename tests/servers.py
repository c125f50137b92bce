"""Servers for a test, on ports of their own."""

from __future__ import annotations

import os
import shutil
import socket

from vocabulary import Box, Daemon, need, wait_until


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def answers(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def serve(box: Box, *command: str | os.PathLike[str]) -> Daemon:
    """Start a server that stays in the foreground; it ends with the box."""
    server = Daemon([os.fspath(word) for word in command], os.environ, box.tmp)
    box.daemons.append(server)
    return server


def vsftpd(box: Box) -> int:
    """Start vsftpd, where anybody may do everything in the box; return its port."""
    need("vsftpd")
    port = free_port()
    settings = {
        "listen": "YES",
        "listen_address": "127.0.0.1",
        "listen_port": port,
        "background": "NO",
        "run_as_launching_user": "YES",
        "anonymous_enable": "YES",
        "no_anon_password": "YES",
        "anon_root": box.tmp,
        "anon_upload_enable": "YES",
        "anon_mkdir_write_enable": "YES",
        "anon_other_write_enable": "YES",
        "write_enable": "YES",
        "seccomp_sandbox": "NO",
        "pasv_promiscuous": "YES",
        "xferlog_enable": "NO",
    }
    config = box.tmp / "vsftpd.conf"
    config.write_text("".join(f"{key}={value}\n" for key, value in settings.items()))
    server = serve(box, shutil.which("vsftpd", path=f"{os.environ['PATH']}:/usr/sbin") or "vsftpd", config)
    wait_until(lambda: answers(port) or not server.running, lambda: server.tail)
    assert server.running, server.stdout + server.tail
    return port
