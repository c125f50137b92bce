"""Each answer of docs/questions.md is true: its configurations are loaded, its command lines are typed."""

from __future__ import annotations

import http.server
import json
import os
import re
import subprocess
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

import pytest

from control import Operator
from pages import CONFIGS, DOCS, ROOT, Site, has
from test_hung_servers import Server
from test_top import top
from vocabulary import DEADLINE_S, REFERENCE, Box, Daemon, drop, need, wait_until, write

pytestmark = pytest.mark.skipif(REFERENCE, reason="the original has none of this")

PAGE = (DOCS / "questions.md").read_text()
SECTIONS = dict(re.findall(r"^### (.*?)\n(.*?)(?=^##|\Z)", PAGE, re.M | re.S))

# Which question a test answers.
TITLES: dict[str, str] = {}

# A scheduler that runs a script of the test for each new file.
WORK = """
{name} = ShellScheduler(cmd="{cmd}", {more}, name="{name}")
pyinotifyd = Pyinotifyd(shutdown_timeout=30)
pyinotifyd.add_watch("/srv/in", {{"IN_CLOSE_WRITE": {name}, "IN_MOVED_TO": {name}}})
"""

Test = TypeVar("Test", bound=Callable[..., None])


def answers(title: str) -> Callable[[Test], Test]:
    def note(test: Test) -> Test:
        TITLES[test.__name__] = title
        return test

    return note


class Answer:
    """The answer to one question, a daemon, and somebody who types what the answer says."""

    def __init__(self, site: Site, text: str) -> None:
        self.site = site
        self.text = text
        self.operator = Operator(site.box.tmp / "control.sock")
        self.incoming = site.directory("in")
        self.out = site.srv / "out"
        program = site.programs / "pyinotifyd"
        program.symlink_to(site.box.program)

    def here(self, text: str) -> str:
        """The text with the test's own paths."""
        return re.sub(r"(?<!\w)/srv", str(self.site.srv), text)

    def start(self, config: str, *words: str) -> Daemon:
        config = self.here(config)
        control = ("--control", os.fspath(self.operator.path))
        return self.site.box.run(config, *control, *words, env=self.site.environment())

    def work(self, cmd: str, more: str = "delay=0", name: str = "work") -> Daemon:
        return self.start(WORK.format(name=name, cmd=cmd, more=more))

    def block(self, language: str) -> str:
        found = re.search(rf"^```{language}\n(.*?)^```$", self.text, re.M | re.S)
        assert found is not None, f"no {language} in:\n{self.text}"
        return found[1]

    def line(self, words: str, **replaced: str) -> str:
        """The line of the answer that holds these words."""
        blocks = "".join(re.findall(r"^```(?:sh|crontab)\n(.*?)^```$", self.text, re.M | re.S))
        found = [line for line in blocks.splitlines() if words in line]
        assert len(found) == 1, (words, blocks)
        line = self.here(found[0].partition(" #")[0])
        for old, new in replaced.items():
            line = line.replace(old, new)
        return line

    def shell(self, line: str, status: int = 0) -> str:
        environment = {
            **os.environ,
            **self.site.environment(),
            "PYINOTIFYD_CONTROL": os.fspath(self.operator.path),
        }
        done = subprocess.run(
            line, shell=True, env=environment, capture_output=True, text=True, timeout=DEADLINE_S, check=False
        )
        assert done.returncode == status, (line, done)
        return done.stdout + done.stderr

    def type(self, words: str, status: int = 0, **replaced: str) -> str:
        """Run that line as a shell does, and return what it prints."""
        return self.shell(self.line(words, **replaced), status)

    def cron(self, words: str) -> None:
        """Run that line as cron does."""
        environment, line = self.block("crontab").splitlines()[0], self.line(words)
        fields = re.fullmatch(r"((?:[\d*/,-]+ +){5})(\S.*)", line)
        assert fields is not None, line
        assert re.fullmatch(r"PATH=[\w:/]+", environment) or environment.startswith("*"), environment
        self.shell(fields[2])


@pytest.fixture
def answer(site: Site, request: pytest.FixtureRequest) -> Answer:
    return Answer(site, SECTIONS[TITLES[request.function.__name__]])


def test_each_question_is_answered_by_a_test() -> None:
    assert set(SECTIONS) == set(TITLES.values())


def test_each_question_is_linked_from_the_readme() -> None:
    linked = re.findall(r"\(docs/questions\.md#([\w-]+)\)", (ROOT / "README.md").read_text())
    anchors = [re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in SECTIONS]
    assert linked == anchors


# ---- files


@answers("What happens to files that are already there?")
def test_files_that_are_there_are_handled_if_one_asks_for_it(answer: Answer) -> None:
    config = CONFIGS["questions/already_there.py"]
    write(answer.incoming / "old")
    daemon = answer.start(config.replace(', initial="all"', ""))
    drop(answer.incoming / "new")
    daemon.wait_log("task finished")
    assert (answer.incoming / "old").exists()
    answer.type("rescan")
    wait_until(lambda: (answer.out / "old").exists(), lambda: daemon.tail)
    daemon.terminate()
    write(answer.incoming / "older")
    answer.start(config)
    wait_until(lambda: (answer.out / "older").exists())


@answers("What happens to files that came while the daemon was stopped?")
def test_files_that_came_meanwhile_are_handled_at_the_start(answer: Answer) -> None:
    for name in ("one", "two"):
        write(answer.incoming / name)
        daemon = answer.start(CONFIGS["questions/meanwhile.py"])
        daemon.wait_log(f"move '{answer.incoming}/{name}' to '{answer.out}/{name}'")
        assert daemon.terminate() == 0


@answers("Which events do I map?")
def test_a_copy_is_closed_and_a_rename_is_moved_to(answer: Answer) -> None:
    watch = answer.site.box.start(None, *answer.line("watch").split()[1:]).wait_ready()
    write(answer.incoming / "copy")
    drop(answer.incoming / "rename")
    watch.wait_out(f"IN_CLOSE_WRITE {answer.incoming}/copy")
    watch.wait_out(f"IN_MOVED_TO {answer.incoming}/rename")
    watch.kill()
    daemon = answer.work("echo got {pathname}")
    write(answer.incoming / "copy 2")
    drop(answer.incoming / "rename 2")
    for name in ("copy 2", "rename 2"):
        daemon.wait_out(f"got {answer.incoming}/{name}")


@answers("Do I need a delay or settle?")
def test_settle_waits_for_a_writer(answer: Answer) -> None:
    daemon = answer.start(CONFIGS["questions/settle.py"].replace("stable=20", "stable=0.1, check=0.1"))
    with open(answer.incoming / "upload", "w") as writer:
        write(answer.incoming / "upload", "half")
        [task] = answer.operator.wait_tasks(1)
        assert task["path"].endswith("/upload")
        wait_until(lambda: "writ" in answer.shell("pyinotifyd tasks"), lambda: daemon.tail)
        assert not answer.out.exists()
        writer.write("whole")
    wait_until(lambda: has(answer.out / "upload", "whole"), lambda: daemon.tail)


def links() -> str:
    """A configuration that moves links, too."""
    return CONFIGS["questions/already_there.py"].replace('{"IN_CLOSE_WRITE"', '{"IN_CREATE": take, "IN_CLOSE_WRITE"')


@answers("What happens to symbolic links?")
def test_a_link_is_moved_and_what_it_leads_to_stays(answer: Answer) -> None:
    target, elsewhere = answer.site.srv / "target", answer.site.directory("elsewhere")
    write(target, "content")
    entrance = answer.site.srv / "entrance"
    entrance.symlink_to(answer.incoming)
    config = links().replace("/srv/in", "/srv/entrance").replace("initial", "rec=True, auto_add=True, initial")
    daemon = answer.start(config, "-d")
    (answer.incoming / "link").symlink_to(target)
    wait_until(lambda: (answer.out / "link").is_symlink(), lambda: daemon.tail)
    assert os.readlink(answer.out / "link") == os.fspath(target)
    assert has(target, "content")
    (answer.incoming / "directory").symlink_to(elsewhere)
    wait_until(lambda: (answer.out / "directory").is_symlink(), lambda: daemon.tail)
    (answer.incoming / "sub").mkdir()
    (answer.incoming / "sub/directory").symlink_to(elsewhere)
    write(elsewhere / "unseen")
    write(answer.incoming / "last")
    wait_until(lambda: (answer.out / "last").exists(), lambda: daemon.tail)
    assert "unseen" not in daemon.log


@answers("What happens to hard links?")
def test_a_hard_link_is_one_event_and_hears_nothing_of_its_other_names(answer: Answer) -> None:
    other = answer.site.srv / "other"
    write(other, "content")
    watch = answer.site.box.start(None, "watch", "--json", os.fspath(answer.incoming)).wait_ready()
    os.link(other, answer.incoming / "name")
    watch.wait_out("IN_CREATE")
    write(other, "changed")
    write(answer.incoming / "last")
    watch.wait_out("IN_CLOSE_WRITE.*last")
    told = [json.loads(line) for line in watch.out.lines]
    assert [event["event"] for event in told if event["path"].endswith("/name")] == ["IN_CREATE"]
    watch.kill()
    daemon = answer.start(links())
    wait_until(lambda: (answer.out / "name").exists(), lambda: daemon.tail)
    assert (answer.out / "name").samefile(other)


@answers("May a rule write into the directory that it watches?")
def test_rules_that_feed_each_other_stop(answer: Answer) -> None:
    config = CONFIGS["questions/already_there.py"]
    [rule] = re.findall(r"src_re=.*?, dst_re=.*?(?=, auto_create)", config)
    harmless = config.replace(rule, r'src_re=r"^/srv/in/([a-z]+)$", dst_re=r"/srv/in/\1.done"')
    daemon = answer.start(harmless)
    drop(answer.incoming / "report")
    wait_until(lambda: (answer.incoming / "report.done").exists(), lambda: daemon.tail)
    daemon.terminate()
    (answer.incoming / "report.done").unlink()
    daemon = answer.start(config.replace(rule, r'src_re=r"^/srv/in/(x+)$", dst_re=r"/srv/in/\1x"'))
    drop(answer.incoming / "x")
    daemon.wait_log("task failed: .*rules feed themselves")
    assert [path.name for path in answer.incoming.iterdir()] == ["x" * 9]


@answers("What if the destination exists?")
def test_an_action_fails_where_its_destination_exists(answer: Answer) -> None:
    config = CONFIGS["questions/already_there.py"].replace(', initial="all"', "")
    daemon = answer.start(config)
    write(answer.site.directory("out") / "report.pdf", "old")
    drop(answer.incoming / "report.pdf", "new")
    daemon.wait_log("task failed: ")
    assert has(answer.out / "report.pdf", "old")
    assert has(answer.incoming / "report.pdf", "new")
    daemon.terminate()
    found = {"overwrite": ("report.pdf", "new"), "skip": ("report.pdf", "old"), "rename": ("report.1.pdf", "new")}
    values = re.findall(r'`"(\w+)"`', answer.text)
    assert set(values) >= set(found)
    for value in values:
        daemon = answer.start(config.replace("auto_create", f'on_conflict="{value}", auto_create'))
        if value in found:
            write(answer.out / "report.pdf", "old")
            drop(answer.incoming / "report.pdf", "new")
            daemon.wait_log("task finished")
            name, text = found[value]
            assert has(answer.out / name, text)
        daemon.terminate()


@answers("Can I undo what a rule did?")
def test_a_move_is_undone(answer: Answer) -> None:
    daemon = answer.start(CONFIGS["questions/meanwhile.py"])
    drop(answer.incoming / "report.pdf", "content")
    daemon.wait_log("task finished")
    answer.type("pause")
    wait_until(lambda: "report.pdf" in answer.type("history"))
    task = answer.type("history").splitlines()[1].split()[0]
    answer.type("undo", ID=task)
    answer.operator.wait_tasks(1)
    answer.type("cancel")
    answer.operator.wait_tasks(0)
    answer.type("resume")
    assert has(answer.incoming / "report.pdf", "content")
    assert not (answer.out / "report.pdf").exists()


# ---- tasks


@answers("What happens to waiting tasks at a restart?")
def test_waiting_tasks_are_kept_with_a_state_and_named_without(answer: Answer) -> None:
    config = WORK.format(name="work", cmd="exit 1", more="delay=3600")
    state = ("--state", os.fspath(answer.site.srv / "state"))
    daemon = answer.start(config, *state)
    write(answer.incoming / "report.pdf")
    [task] = answer.operator.wait_tasks(1)
    daemon.terminate()
    daemon = answer.start(config, *state)
    [kept] = answer.operator.wait_tasks(1)
    assert (kept["id"], kept["due"]) == (task["id"], task["due"])
    daemon.terminate()
    left = f"not done: .*path={answer.incoming}/"
    daemon = answer.start(config.replace("timeout=30", "timeout=0"))
    write(answer.incoming / "a")
    answer.operator.wait_tasks(1)
    daemon.terminate()
    assert daemon.count(left + "a") == 1
    daemon = answer.work("exit 1", "retry=Retry(delay=3600, max_delay=3600)")
    write(answer.incoming / "b")
    daemon.wait_log("attempt 1 failed")
    daemon.terminate()
    assert daemon.count(left + "b") == 1
    daemon = answer.work("echo did it", "delay=0.4")
    write(answer.incoming / "c")
    daemon.wait_log("schedule task")
    daemon.terminate()
    assert daemon.count("task finished") == 1


@answers("What happens to tasks at a reload?")
def test_waiting_tasks_go_on_after_a_reload_and_a_bad_one_is_refused(answer: Answer) -> None:
    config = WORK.format(name="work", cmd="echo old", more="delay=3600")
    daemon = answer.start(config)
    write(answer.incoming / "report.pdf")
    [task] = answer.operator.wait_tasks(1)
    answer.site.box.write_config("nonsense")
    assert "nonsense" in answer.type("reload", status=1)
    answer.site.box.write_config(answer.here(config.replace("echo old", "echo changed")))
    answer.type("reload")
    assert [one["id"] for one in answer.operator.wait_tasks(1)] == [task["id"]]
    answer.operator.run("run", task["id"])
    daemon.wait_out("^changed$")


@answers("What happens to tasks at a reload?")
def test_a_run_that_outlasts_the_timeout_is_cancelled_after_a_reload(answer: Answer) -> None:
    config = WORK.format(name="work", cmd="exec sleep 1000", more="delay=0").replace("timeout=30", "timeout=0")
    daemon = answer.start(config)
    write(answer.incoming / "report.pdf")
    answer.operator.wait_scheduler("work", running=1)
    answer.site.box.write_config(answer.here(config.replace("timeout=0", "timeout=1000")))
    answer.type("reload")
    daemon.wait_log(f"ongoing task cancelled, .*path={answer.incoming}/report.pdf")


@answers("What happens to tasks at a reload?")
@pytest.mark.parametrize("with_state", [False, True])
def test_a_renamed_scheduler_leaves_its_tasks_to_the_old_name(answer: Answer, with_state: bool) -> None:
    def config(name: str) -> str:
        return WORK.format(name=name, cmd=f"echo {name} did it", more="delay=3600")

    daemon = answer.start(config("old"), *(["--state", os.fspath(answer.site.srv / "state")] if with_state else []))
    write(answer.incoming / "report.pdf")
    [task] = answer.operator.wait_tasks(1)
    answer.site.box.write_config(answer.here(config("new")))
    answer.type("reload")
    if with_state:
        [failed] = answer.operator.get("/v1/failed")["tasks"]
        assert (failed["id"], failed["scheduler"]) == (task["id"], "old")
        assert failed["error"].replace("old", "NAME") in answer.text
    else:
        answer.operator.run("run", task["id"])
        daemon.wait_out("^old did it$")


@answers("What happens to tasks at a reload?")
def test_a_pause_stays_with_the_name_of_a_scheduler(answer: Answer) -> None:
    def is_paused_after_a_reload_to(name: str) -> bool:
        config = WORK.format(name=name, cmd="true", more="delay=3600")
        answer.site.box.write_config(answer.here(config))
        answer.type("reload")
        paused: bool = answer.operator.scheduler(name)["paused"]
        return paused

    daemon = answer.start(WORK.format(name="old", cmd="true", more="delay=3600"))
    answer.operator.run("pause", "old")
    assert not is_paused_after_a_reload_to("new")
    assert is_paused_after_a_reload_to("old")
    daemon.wait_log("control - INFO - old stays paused$")
    assert "`NAME stays paused`" in (DOCS / "troubleshooting.md").read_text()


@answers("Which tasks failed?")
def test_failures_are_remembered_without_a_state(answer: Answer) -> None:
    config = CONFIGS["questions/already_there.py"].replace(", auto_create=True", "")
    number = int(re.findall(r"last ([\d,]+) failures", answer.text)[0].replace(",", ""))
    daemon = answer.start(config)
    for name in range(number + 1):
        drop(answer.incoming / str(name))
    daemon.wait_log(f"task failed: .*path={answer.incoming}/", count=number + 1)
    assert len(answer.operator.json("failed", "--limit", str(number + 1))["tasks"]) == number
    assert f"{answer.incoming}/" in answer.type("failed")
    for command in ("history", "undo 12345678"):
        assert "needs a state" in answer.shell(f"pyinotifyd {command}", status=1)


@answers("Which tasks failed?")
def test_a_task_that_was_cancelled_is_in_the_history(answer: Answer) -> None:
    state = answer.site.srv / "state"
    words = ("--state", os.fspath(state))
    config = WORK.format(name="work", cmd="false", more="delay=0").replace("delay=0", "retry=Retry(5, delay=600)")
    answer.start(config, *words)
    for name in ("a", "b"):
        write(answer.incoming / name)
    answer.operator.wait_scheduler("work", retrying=2)
    answer.shell("pyinotifyd cancel --path '*/a'")
    answer.shell("pyinotifyd cancel --all")
    wait_until(lambda: "/b" in answer.shell("pyinotifyd history"), lambda: answer.shell("pyinotifyd history"))
    listed = answer.operator.get("/v1/history")["tasks"]
    assert sorted((task["path"][-2:], task["result"], task["attempts"]) for task in listed) == [
        ("/a", "cancelled", 1),
        ("/b", "cancelled", 1),
    ]


@answers("How do I run a task again?")
def test_tasks_are_run_again_started_now_and_made_for_a_file(answer: Answer) -> None:
    go = answer.site.srv / "go"
    daemon = answer.work(f"test -e {go} && echo did {{pathname}}")
    write(answer.incoming / "report.pdf")
    daemon.wait_log("task failed")
    write(go)
    [task] = answer.operator.json("failed")["tasks"]
    answer.type("retry", ID=task["id"][:4])
    daemon.wait_out("did .*/report.pdf")
    answer.type("send")
    daemon.wait_out("did .*/report.pdf", count=2)
    daemon.terminate()
    daemon = answer.work("echo did {pathname}", "delay=3600")
    write(answer.incoming / "report.pdf")
    [task] = answer.operator.wait_tasks(1)
    answer.type("run", ID=task["id"])
    daemon.wait_out("did .*/report.pdf")


def waits_while_paused(answer: Answer, pause: Callable[[], object], resume: Callable[[], object]) -> None:
    config = WORK.format(name="work", cmd="echo did {pathname}", more="delay=0")
    daemon = answer.start(config.replace('name="work"', 'name="import"'))
    pause()
    for number in range(3):
        write(answer.incoming / str(number))
    answer.operator.wait_scheduler("import", queued=3, running=0)
    resume()
    daemon.wait_log("task finished", count=3)
    assert re.findall(r"start task, .*/(\d), ", daemon.log) == ["0", "1", "2"]


@answers("How do I pause it?")
def test_a_paused_scheduler_queues_what_is_due(answer: Answer) -> None:
    waits_while_paused(answer, lambda: answer.type("pause"), lambda: answer.type("resume"))


@answers("How do I run tasks in business hours only?")
def test_cron_pauses_and_resumes(answer: Answer) -> None:
    waits_while_paused(answer, lambda: answer.cron("pause"), lambda: answer.cron("resume"))


@answers("How do I limit the load?")
def test_the_limits_of_the_table_hold(answer: Answer) -> None:
    scheduler, whole, rate, *command = re.findall(r"`(\w.*?)`(?=[:, ])", answer.text)
    config = f"""
work = ShellScheduler(cmd="nice; ulimit -v", output="log", {", ".join([scheduler, rate, *command])})
pyinotifyd = {whole}
pyinotifyd.add_watch("/srv/in", {{"IN_CLOSE_WRITE": work}})
"""
    daemon = answer.start(config)
    write(answer.incoming / "a")
    daemon.wait_log("task finished")
    assert daemon.count(f"INFO - {2 * 1024**2}, task_id=") == 1
    assert daemon.count(f"INFO - {min(os.nice(0) + 10, 19)}, task_id=") == 1


@answers("Can a file name do harm in a command?")
def test_a_name_is_an_argument_and_never_code(answer: Answer) -> None:
    placed, expanded, argument, environment = re.findall(r"`(sh -c .*?)`", answer.text)
    for code, name in ((placed, "{pathname}"), (expanded, "$PYINOTIFYD_PATHNAME")):
        config = answer.here(WORK.format(name="work", cmd=code.replace('"', '\\"'), more="delay=0"))
        daemon = answer.site.box.call("-t", config=config)
        assert f"{name} stands in text that a shell reads once more" in daemon.lines[0]
    daemon = answer.work(f"{argument}; {environment}".replace('"', '\\"'))
    path = answer.incoming / "$(touch PWNED);`touch PWNED`"
    write(path)
    daemon.wait_out(f"^{re.escape(str(path))}$", count=2)
    daemon.wait_log("task finished")
    assert not list(answer.site.box.tmp.rglob("PWNED"))


@answers("How do I get one run for many files?")
def test_one_run_gets_all_paths(answer: Answer) -> None:
    [batch] = re.findall(r"`(batch=.*?)`", answer.text)
    daemon = answer.work("echo run {pathnames}", batch.replace("quiet=2", "quiet=0.3"))
    for name in "abc":
        write(answer.incoming / name)
    daemon.wait_out("^run " + " ".join(f"{answer.incoming}/{name}" for name in "abc") + "$")


# ---- the daemon


@answers("How do I see what it does?")
def test_status_tasks_top_and_explain_show_it(answer: Answer) -> None:
    answer.work("echo did {pathname}", "delay=3600")
    events = answer.site.box.start(None, "events", "--tasks", "--control", os.fspath(answer.operator.path))

    def is_told() -> str:
        write(answer.incoming / "report.pdf")
        return events.stdout

    wait_until(is_told)
    assert re.search(r"^work +command +1 ", answer.type("status"), re.M)
    assert re.search(r" waiting  in 59m.* work .*/report\.pdf$", answer.type("tasks"), re.M)
    assert answer.line("top").split() == ["pyinotifyd", "top"]
    with top(answer.operator, answer.site.box, 80, 24) as screen:
        screen.wait("report.pdf")
    shown = answer.shell(f"{answer.line('--explain')} -c {answer.site.box.config}")
    assert "scheduler 'work'" in shown
    assert "starts a task after 3600 s without another such event" in shown


@pytest.fixture
def hook() -> Iterator[tuple[str, list[bytes]]]:
    """Somebody's web server: its address, and what it was sent."""
    got: list[bytes] = []

    class Hook(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            got.append(self.rfile.read(int(self.headers["Content-Length"])))
            self.send_response(204)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Hook) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/hook", got
        server.shutdown()


@answers("How am I told of failures?")
def test_a_failure_is_mailed_sent_and_counted(answer: Answer, hook: tuple[str, list[bytes]]) -> None:
    need("curl")
    address, got = hook
    site = answer.site
    mail = site.box.tmp / "mail"
    site.program("sendmail", f"cat > {mail}")
    site.program("import", "exit 3")
    config = CONFIGS["questions/tell.py"].replace("https://example.org/hook", address)
    config = config.replace("/usr/local/bin/import", str(site.programs / "import"))
    config = config.replace("times=3", "times=3, delay=0")
    daemon = answer.start(config)
    path = answer.incoming / "it's $(a) report"
    write(path)
    wait_until(lambda: got, lambda: daemon.tail)
    event = json.loads(got[0])
    assert (event["pathname"], event["error"], event["attempts"]) == (os.fspath(path), "exited with status 3", 4)
    assert event["task_id"] in daemon.log
    wait_until(lambda: has(mail, f"Subject: a task failed\n\n{path}: exited with status 3\n"), lambda: daemon.tail)
    [metric] = re.findall(r"`(pyinotifyd_\w+)\{(.*?)\}`", answer.text)
    assert answer.operator.metrics()[f'{metric[0]}{{scheduler="work",{metric[1]}}}'] == 1
    assert "{".join(metric) + "}" in (ROOT / "packaging/prometheus/alerts.yml").read_text()


@answers("Can the configuration be several files?")
def test_a_name_that_two_files_have_is_given_with_its_file(answer: Answer) -> None:
    config = """
scheduler = ShellScheduler(cmd="echo {pathname}", delay=3600, name="import")
pyinotifyd = Pyinotifyd()
pyinotifyd.add_watch("/srv/in", {"IN_CLOSE_WRITE": scheduler})
""".replace("/srv", str(answer.site.srv))
    for name in ("uploads.py", "scans.py"):
        write(answer.site.srv / name, config)
    words = answer.line("-c").split()[1:]
    answer.site.box.start(None, *words, "--control", os.fspath(answer.operator.path)).wait_ready()
    [refused] = re.findall(r"`(more than one config file .*?)`", answer.text)
    assert answer.shell("pyinotifyd pause import", status=2) == f"pyinotifyd: {refused}\n"
    [first, second] = re.findall(r"`(\w+/import)`", answer.text)
    assert answer.shell(f"pyinotifyd pause {first}") == f"{first} paused\n"
    write(answer.incoming / "a")
    answer.operator.wait_tasks(2)
    assert [task["scheduler"] for task in answer.operator.tasks(f"?scheduler={second}")] == [second]
    for name in (first, second):
        assert name in answer.shell("pyinotifyd status")


@answers("Can I run two daemons on one host?")
def test_each_of_two_daemons_has_its_own_socket(answer: Answer) -> None:
    write(answer.site.srv / "uploads.py", "pyinotifyd = Pyinotifyd()\n")
    words = answer.line("-c").split()[1:]
    other = answer.start("pyinotifyd = Pyinotifyd()\n")
    environment = {**answer.site.environment(), "PYINOTIFYD_CONTROL": os.fspath(answer.site.srv / "ignored.sock")}
    daemon = answer.site.box.start(None, *words, env=environment).wait_ready()
    assert not (answer.site.srv / "ignored.sock").exists()
    assert f"pid {daemon.pid}," in answer.type("status")
    assert f"pid {other.pid}," in answer.shell("pyinotifyd status")


@pytest.fixture
def share(site: Site, root: None) -> Iterator[Server]:
    """A filesystem on whose server others write."""
    if not Path("/dev/fuse").exists():
        pytest.skip("needs /dev/fuse")
    server = Server(site.box, site.directory("in"))
    yield server
    server.close()


@answers("Does it work on NFS and SMB?")
def test_what_others_do_on_a_share_is_found_by_a_rescan(answer: Answer, share: Server) -> None:
    share.mount()
    daemon = answer.start(CONFIGS["questions/already_there.py"].replace(', initial="all"', ""))
    write(share.backing / "theirs", "theirs")
    write(share.point / "ours", "ours")
    wait_until(lambda: has(answer.out / "ours", "ours"), lambda: daemon.tail)
    assert (share.backing / "theirs").exists()
    answer.cron("rescan")
    wait_until(lambda: has(answer.out / "theirs", "theirs"), lambda: daemon.tail)
    daemon.terminate()


@answers("Does it work in containers and with bind mounts?")
def test_what_comes_through_another_mount_is_seen(answer: Answer, root: None) -> None:
    need("mount", "umount")
    volume = answer.site.directory("volume")
    if subprocess.run(["mount", "--bind", volume, answer.incoming], check=False).returncode != 0:
        pytest.skip("needs the right to mount")
    try:
        daemon = answer.work("echo got {pathname}")
        write(volume / "report.pdf")
        daemon.wait_out(f"got {answer.incoming}/report.pdf")
        daemon.kill()
    finally:
        subprocess.run(["umount", "-l", answer.incoming], check=True)


def shared_config(box: Box) -> Path:
    config = box.write_config("pyinotifyd = Pyinotifyd()\n")
    config.chmod(0o666)
    return config


@answers("Which user and which rights does it need?")
def test_root_refuses_a_config_that_others_can_write(answer: Answer, root: None) -> None:
    box = answer.site.box
    refused = box.call("-c", shared_config(box))
    assert refused.exit_code == 1
    assert "can be written by others" in refused.log
    findings = answer.shell(f"pyinotifyd doctor -c {box.config}", status=1)
    assert re.search(r"^problem +config: ", findings, re.M)
    box.config.chmod(0o600)
    findings = answer.shell(f"pyinotifyd doctor -c {box.config}")
    assert re.search(r"^warning +control: ", findings, re.M)
    daemon = answer.work("id -un", 'user="nobody"')
    write(answer.incoming / "a")
    daemon.wait_out("^nobody$")


@answers("Which user and which rights does it need?")
def test_a_plain_user_watches_what_it_may_read(answer: Answer, plain_user: None) -> None:
    box = answer.site.box
    daemon = box.run('pyinotifyd = Pyinotifyd([Watch("$SRC", recorder("IN_CLOSE_WRITE"), rec=True)])', record=True)
    write(box.src / "a")
    daemon.wait_event("IN_CLOSE_WRITE", box.src / "a")
    daemon.terminate()
    (box.src / "closed").mkdir(mode=0)
    daemon = box.run('pyinotifyd = Pyinotifyd([Watch("$SRC", recorder("IN_CLOSE_WRITE"), rec=True)])', record=True)
    daemon.wait_log(f"cannot watch '{box.src}/closed': ")
