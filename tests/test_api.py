"""docs/api.md and docs/openapi.json: what they say of the control socket is what a daemon answers."""

from __future__ import annotations

import copy
import json
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import openapi_spec_validator
import pytest
from jsonschema import Draft202012Validator  # type: ignore[import-untyped]

from control import Connection, Operator
from pages import DELAY, Site
from vocabulary import PROJECT, REFERENCE, binary, need, write

pytestmark = pytest.mark.skipif(REFERENCE, reason="the original has none")

PAGE = PROJECT / "docs/api.md"
DESCRIPTION = json.loads((PROJECT / "docs/openapi.json").read_text())

BLOCK = re.compile(r"^```(sh|json|text)\n(.*?)^```$", re.M | re.S)
CURL = re.compile(r"\bcurl (.*)")
TARGET = re.compile(r"http://localhost(/[\w/${}.]*)")

# One of the path's segments for a word in braces.
SEGMENT = r"[\w$.-]+"


def exchanges() -> Iterator[tuple[str, str, str]]:
    """Method, path and answer of each command of the page; a command in a loop has several."""
    asked: list[tuple[str, str]] = []
    for match in BLOCK.finditer(PAGE.read_text()):
        kind, content = match[1], match[2]
        if kind == "sh":
            commands = [
                (method(words), TARGET.findall(words)[0]) for words in CURL.findall(content.replace("\\\n", ""))
            ]
            # Without one, it is what happens while a stream is read.
            asked = commands or asked
            continue
        answers = list(objects(content)) or [content]
        for index, answer in enumerate(answers):
            yield *asked[min(index, len(asked) - 1)], answer


def method(words: str) -> str:
    posts = "--request POST" in words or "--json" in words or "--data" in words
    return "post" if posts else "get"


def objects(text: str) -> Iterator[str]:
    rest = text.removeprefix("data: ")
    while rest.startswith("{"):
        _, end = json.JSONDecoder().raw_decode(rest)
        yield rest[:end]
        rest = rest[end:].lstrip()


def template(path: str) -> str:
    """The path as it is described: with words in braces."""
    paths: dict[str, Any] = DESCRIPTION["paths"]
    # A word is no id or name where there is a path of its own.
    found = (
        [path]
        if path in paths
        else [one for one in paths if re.fullmatch(re.sub(r"\{\w+\}", lambda _: SEGMENT, one), path)]
    )
    assert len(found) == 1, f"{path} is not described"
    return found[0]


def described(method: str, path: str) -> dict[str, Any]:
    operation: dict[str, Any] = DESCRIPTION["paths"][template(path)][method]
    return operation


def closed(schema: Any) -> Any:
    """The schema without room for what it does not name."""
    if isinstance(schema, list):
        return [closed(one) for one in schema]
    if not isinstance(schema, dict):
        return schema
    deep = {key: closed(value) for key, value in schema.items()}
    return {**deep, "additionalProperties": False} if "properties" in schema else deep


def validate(schema: dict[str, Any], answer: Any) -> None:
    whole = {**copy.deepcopy(schema), "components": DESCRIPTION["components"]}
    Draft202012Validator(closed(whole), format_checker=Draft202012Validator.FORMAT_CHECKER).validate(answer)


def test_the_page_is_what_a_daemon_answers() -> None:
    need("curl")
    script: list[str | Path] = [sys.executable, PROJECT / "docs/api.py", "--check"]
    environment = {**os.environ, "PROGRAM": os.fspath(binary())}
    done = subprocess.run(script, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_the_description_is_one_of_openapi() -> None:
    openapi_spec_validator.validate(DESCRIPTION)


def test_each_answer_of_the_page_has_the_fields_that_are_described() -> None:
    problem = DESCRIPTION["components"]["schemas"]["Problem"]
    answers = [(*asked, json.loads(answer)) for *asked, answer in exchanges() if answer.startswith("{")]
    assert len(answers) > len(DESCRIPTION["paths"])
    for method, path, answer in answers:
        if list(answer) == ["error"]:
            validate(problem, answer)
            continue
        for content in described(method, path)["responses"]["200"]["content"].values():
            validate(content["schema"], answer)


def test_the_page_has_an_answer_of_each_operation_that_is_described() -> None:
    shown = {(method, template(path)) for method, path, answer in exchanges() if not answer.startswith('{"error"')}
    assert shown == {(method, path) for path, methods in DESCRIPTION["paths"].items() for method in methods}


def test_the_page_has_each_status_of_an_error() -> None:
    statuses = re.search(r"with ((?:\d+,\s)*\d+ or \d+)", PAGE.read_text())
    assert statuses
    said = set(re.findall(r"\d{3}", statuses[1]))
    # 403 is for others than whoever asks for the page.
    said.remove("403")
    assert set(re.findall(r'^(?:\{"error": .*)?\} (\d{3})$', PAGE.read_text(), re.M)) == said


# ---- the words of the stream


# Beside the configuration of the README, whose tasks wait until they are told to run.
MORE = """
marked = ShellScheduler("true # {pathname}", settle=Settle(marker="{dirname}/marker", check=0.01))
bad = ShellScheduler("exit 3 # {pathname}", retry=Retry(times=1, delay=0))
pyinotifyd.add_watch("/srv/marked", {"IN_CLOSE_WRITE": marked})
pyinotifyd.add_watch("/srv/bad", {"IN_CLOSE_WRITE": bad})
"""

FAR = """
far = FileManagerScheduler(FileManagerRule("move", r"^/srv/far/(.*)$", r"$OTHER/\\1"))
pyinotifyd.add_watch("/srv/far", {"IN_ATTRIB": far})
"""


def readme_config() -> str:
    [config] = re.findall(r"^```python\n(done = .*?)^```$", (PROJECT / "README.md").read_text(), re.M | re.S)
    return DELAY.sub("delay=3600", config)


def explained() -> dict[str, str]:
    [table] = re.findall(r"^\| `what` \| .*\n\|---.*\n((?:\|.*\n)+)", PAGE.read_text(), re.M)
    return dict(re.findall(r"^\| `([\w ]+)` \| (.*) \|$", table, re.M))


class Followed:
    """What a daemon tells of its tasks."""

    def __init__(self, site: Site, config: str) -> None:
        self.operator = Operator(site.box.tmp / "control.sock")
        site.box.run(config.replace("/srv", str(site.srv)), "--control", os.fspath(self.operator.path))
        self.connection = Connection(self.operator.path)
        self.connection.request("GET", "/v1/events?tasks=true")
        self.stream = self.connection.getresponse()

    def until(self, path: Path, last: str) -> list[dict[str, Any]]:
        """The lines of the task of that path, up to this word."""
        lines: list[dict[str, Any]] = []
        while not lines or lines[-1]["what"] != last:
            line = json.loads(self.stream.readline())
            if line.get("what") and line["path"] == str(path):
                lines.append(line)
        return lines

    def words(self, path: Path, last: str) -> list[str]:
        return [line["what"] for line in self.until(path, last)]


def test_each_word_of_the_stream_is_explained() -> None:
    line = DESCRIPTION["components"]["schemas"]["TaskLine"]["properties"]
    assert sorted(explained()) == sorted(line["what"]["enum"])


def test_a_move_of_the_readme_is_told_in_the_words_of_the_page(site: Site) -> None:
    upload = site.directory("upload")
    followed = Followed(site, readme_config())
    write(upload / "report.pdf")
    assert followed.words(upload / "report.pdf", "scheduled") == ["scheduled"]
    # Closed once more, with nothing written: no event but that.
    (upload / "report.pdf").open("a").close()
    [line] = followed.until(upload / "report.pdf", "rescheduled")
    followed.operator.post(f"/v1/tasks/{line['task']}/run")
    told = "`" + "`, `".join(followed.words(upload / "report.pdf", "finished")) + "`"
    assert f"each move is {told}: all is well" in PAGE.read_text()
    write(upload / "other.pdf")
    followed.until(upload / "other.pdf", "scheduled")
    (upload / "other.pdf").unlink()
    assert followed.words(upload / "other.pdf", "cancelled") == ["cancelled"]


def test_what_holds_a_task_up_is_told_in_the_words_of_the_page(site: Site) -> None:
    marked, bad = site.directory("marked"), site.directory("bad")
    site.directory("upload")
    followed = Followed(site, readme_config() + MORE)
    write(marked / "a")
    [line] = followed.until(marked / "a", "settling")
    assert "marker" in line["reason"]
    write(marked / "marker")
    followed.until(marked / "a", "finished")
    followed.operator.post("/v1/schedulers/bad/pause")
    write(bad / "b")
    [line] = followed.until(bad / "b", "queued")
    assert line["reason"] == "its scheduler is paused"
    followed.operator.post("/v1/schedulers/bad/resume")
    lines = followed.until(bad / "b", "failed")
    assert [(line["what"], line.get("error")) for line in lines] == [
        ("started", None),
        ("retrying", "exited with status 3"),
        ("started", None),
        ("failed", "exited with status 3"),
    ]


def test_a_file_that_somebody_writes_is_put_off_in_the_words_of_the_page(site: Site) -> None:
    far, shm = site.directory("far"), Path("/dev/shm")
    if not shm.is_dir() or shm.stat().st_dev == far.stat().st_dev:
        pytest.skip("needs a second filesystem, /dev/shm")
    site.directory("upload")
    with tempfile.TemporaryDirectory(dir=shm) as other:
        followed = Followed(site, readme_config() + FAR.replace("$OTHER", other))
        with open(far / "a", "w") as file:
            os.chmod(file.fileno(), 0o600)
            line = followed.until(far / "a", "put off")[-1]
            assert "somebody has it open for writing" in line["error"]
        assert followed.words(far / "a", "finished")[-1] == "finished"
