"""The words in which tests speak to a daemon through its control socket."""

from __future__ import annotations

import http.client
import json
import os
import shutil
import socket
import subprocess
from pathlib import Path
from typing import Any

import vocabulary


class Connection(http.client.HTTPConnection):
    """HTTP over a Unix socket."""

    def __init__(self, path: Path) -> None:
        super().__init__("pyinotifyd", timeout=vocabulary.DEADLINE_S)
        self.path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(os.fspath(self.path))


class Operator:
    """Somebody who asks a daemon, by its API or by subcommands."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def ask(self, method: str, target: str, body: Any = None, **headers: str) -> tuple[int, Any]:
        """Return the status and the answer: an object if it is JSON, else text."""
        connection = Connection(self.path)
        data = None if body is None else json.dumps(body)
        connection.request(method, target, data, headers)
        response = connection.getresponse()
        text = response.read().decode()
        connection.close()
        is_json = response.headers.get_content_type() == "application/json"
        return response.status, json.loads(text) if is_json else text

    def get(self, target: str, **headers: str) -> Any:
        status, answer = self.ask("GET", target, **headers)
        assert status == 200, (target, status, answer)
        return answer

    def post(self, target: str, body: Any = None) -> Any:
        status, answer = self.ask("POST", target, body)
        assert status == 200, (target, status, answer)
        return answer

    def refused(self, status: int, method: str, target: str, body: Any = None) -> str:
        """Return the one line of a refusal that has this status."""
        found, answer = self.ask(method, target, body)
        assert found == status, (target, found, answer)
        assert list(answer) == ["error"]
        assert "\n" not in answer["error"]
        error: str = answer["error"]
        return error

    def tasks(self, query: str = "") -> list[dict[str, Any]]:
        tasks: list[dict[str, Any]] = self.get(f"/v1/tasks{query}")["tasks"]
        return tasks

    def scheduler(self, name: str) -> dict[str, Any]:
        schedulers: list[dict[str, Any]] = self.get("/v1/status")["schedulers"]
        found = [one for one in schedulers if one["name"] == name]
        assert len(found) == 1, found
        return found[0]

    def wait_tasks(self, count: int, query: str = "") -> list[dict[str, Any]]:
        """Wait until so many tasks are listed."""

        def found() -> list[list[dict[str, Any]]]:
            tasks = self.tasks(query)
            return [tasks] if len(tasks) == count else []

        return vocabulary.wait_until(found, lambda: f"{count} tasks {query}; there are {self.tasks()}")[0]

    def wait_scheduler(self, name: str, **numbers: Any) -> None:
        """Wait until the status of a scheduler has these numbers."""

        def reached() -> bool:
            status = self.scheduler(name)
            return all(status[key] == value for key, value in numbers.items())

        vocabulary.wait_until(reached, lambda: f"{numbers}; it is {self.scheduler(name)}")

    def run(self, *words: str | Path, status: int = 0, env: dict[str, str] | None = None) -> str:
        """Run a subcommand; return what it printed: on stdout, or on stderr if it fails."""
        argv = [vocabulary.binary(), *words, "--control", self.path]
        done = subprocess.run(argv, capture_output=True, text=True, timeout=vocabulary.DEADLINE_S, env=env, check=False)
        assert done.returncode == status, (words, done)
        assert not (done.stderr if status == 0 else done.stdout), done
        return done.stdout if status == 0 else done.stderr

    def json(self, *words: str | Path) -> Any:
        return json.loads(self.run(*words, "--json"))

    def metrics(self) -> dict[str, float]:
        """The metrics by name and labels as they are written."""
        lines = [line for line in self.get("/metrics").splitlines() if not line.startswith("#")]
        return {name: float(value) for name, _, value in (line.rpartition(" ") for line in lines)}


def has(tool: str) -> bool:
    return shutil.which(tool) is not None
