"""Where the daemon listens for questions, and who may ask: the arguments of `Pyinotifyd` on the control socket.

Owns what their values mean. Leaves to the daemon whether the places can be had.
"""

from __future__ import annotations

from .checked import expect, expect_path, shown

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Optional, Union

PORTS = range(1, 65_536)


def expect_place(value: object) -> None:
    """Raise unless `value` is a path for the control socket, False for none, or None for the default place."""
    if value is None or value is False:
        return
    if value is True:
        raise AssertionError("control: True says nothing; write the path of the socket, or leave control out")
    expect("control", value, str)
    expect_path("control", value)  # type: ignore[arg-type]  # a str


def expect_group(value: object) -> None:
    """Raise unless `value` is None or the name of a group that there is."""
    if value is not None:
        _number_of(value)


def _number_of(value: object) -> int:
    import grp

    expect("control_group", value, str)
    try:
        return grp.getgrnam(value).gr_gid  # type: ignore[arg-type]  # a str
    except KeyError:
        raise AssertionError(f"control_group: there is no group {shown(value)}") from None


def expect_address(value: object) -> None:
    """Raise unless `value` is None or an IP address with a port."""
    if value is not None:
        expect("metrics", value, str)
        _address(value)  # type: ignore[arg-type]  # a str


def _address(text: str) -> str:
    """Return the address as the daemon reads it: `127.0.0.1:9924`, `[::1]:9924`."""
    import socket

    host, _, port = text.rpartition(":")
    host = "127.0.0.1" if host == "localhost" else host
    bare = host[1:-1] if host.startswith("[") and host.endswith("]") else host
    family = socket.AF_INET if bare == host else socket.AF_INET6
    try:
        socket.inet_pton(family, bare)
        if port.isascii() and port.isdigit() and int(port) in PORTS:
            return f"{host}:{int(port)}"
    except OSError:
        pass
    raise AssertionError(
        f"metrics: {shown(text)} is no IP address with a port, write one such as '127.0.0.1:9924' or '[::1]:9924'"
    )


def describe(control: Union[None, str, bool], group: Optional[str], metrics: Optional[str]) -> dict[str, Any]:
    """Describe the arguments for the daemon; the path as it is."""
    return {
        "path": control if isinstance(control, str) else None,
        "never": control is False,
        "group": None if group is None else _number_of(group),
        "metrics": None if metrics is None else _address(metrics),
    }
