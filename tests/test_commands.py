"""Commands that ask for more than a line for the shell: arguments, users, limits, what they read, where they write."""

from __future__ import annotations

import base64
import json
import os
import re
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from vocabulary import REFERENCE, Box, Daemon, alive, wait_until, write

Run = Callable[..., Daemon]

pytestmark = pytest.mark.skipif(REFERENCE, reason="the original has none of these arguments")


def config(arguments: str, flags: str = "IN_CREATE", more: str = "") -> str:
    events = ", ".join(f'"{flag}": sched' for flag in flags.split())
    return f'sched = ShellScheduler({arguments})\npyinotifyd = Pyinotifyd([Watch("$SRC", {{{events}}})]{more})'


def saved(box: Box, script: str) -> str:
    """A shell command that saves what `script` prints where `result` finds it, whoever it runs as."""
    directory = box.tmp / "result"
    directory.mkdir(exist_ok=True)
    directory.chmod(0o777)
    box.tmp.chmod(0o711)
    return f"({script}) > {directory}/new 2>&1; mv {directory}/new {directory}/out"


def result(box: Box) -> str:
    saved_text = box.tmp / "result/out"
    wait_until(saved_text.exists, "the command ran")
    return os.fsdecode(saved_text.read_bytes())


# ---- argv


def test_arguments_need_no_quotes(run: Run, box: Box) -> None:
    printer = ["sh", "-c", saved(box, r"""printf '%s\n' "$@" """), "sh"]
    words = [*printer, "{pathname}", "a={maskname}={src_pathname}", "$(touch PWNED)", "", "{x} it's"]
    daemon = run(config(f"argv={words!r}"), cwd=box.dst)
    name = "it's; $(touch PWNED) {maskname} \xff".encode("latin-1")
    write(os.fsencode(box.src) + b"/" + name)
    daemon.wait_log("task finished")
    path = os.fsdecode(os.fsencode(box.src) + b"/" + name)
    assert result(box).split("\n") == [path, "a=IN_CREATE=", "$(touch PWNED)", "", "{x} it's", ""]
    assert os.listdir(box.dst) == []
    daemon.wait_log(r"execute command, argv=sh -c .*, mask=IN_CREATE, path=.*, task_id=")


def test_a_program_is_looked_for_in_the_path_of_the_command(run: Run, box: Box) -> None:
    program = box.dst / "its-program"
    program.write_text("#!/bin/sh\necho RAN\n")
    program.chmod(0o755)
    daemon = run(config('argv=["its-program"], env={"PATH": "$DST:/usr/bin:/bin"}'))
    write(box.src / "f")
    daemon.wait_out("RAN")
    daemon.wait_log("task finished")


def test_a_program_that_cannot_be_executed_says_why(run: Run, box: Box) -> None:
    daemon = run(config('argv=["no-such-program", "{pathname}"]'))
    write(box.src / "f")
    daemon.wait_log(
        f"ERROR - task failed: cannot execute 'no-such-program': No such file or directory, mask=IN_CREATE, "
        f"path={box.src}/f, task_id="
    )
    assert daemon.count("os error") == 0


def test_an_exit_status_of_126_is_that_of_the_program(run: Run, box: Box) -> None:
    daemon = run(config('argv=["sh", "-c", "exit 126"]'))
    write(box.src / "f")
    daemon.wait_log("task failed: exited with status 126")


# ---- where and how


def test_directory_umask_niceness_and_variables(run: Run, box: Box) -> None:
    script = 'pwd; umask; nice; echo "$ONE|$GIVEN|$PYINOTIFYD_MASKNAME"'
    options = 'cwd="$DST", umask=0o027, nice=5, env={"ONE": "it\'s", "GIVEN": "by env"}'
    daemon = run(config(f"cmd={saved(box, script)!r}, {options}"), env={"GIVEN": "from outside"})
    write(box.src / "f")
    daemon.wait_log("task finished")
    niceness = os.nice(0) + 5
    assert result(box) == f"{box.dst}\n0027\n{niceness}\nit's|by env|IN_CREATE\n"


def test_limits_are_soft_and_hard(run: Run, box: Box) -> None:
    script = "ulimit -Sn; ulimit -Hn; ulimit -Sc; ulimit -Hf"
    daemon = run(config(f'cmd={saved(box, script)!r}, limits={{"nofile": 64, "core": 0, "fsize": 512 * 1000}}'))
    write(box.src / "f")
    daemon.wait_log("task finished")
    assert result(box) == "64\n64\n0\n1000\n"


@pytest.mark.parametrize(
    ("options", "why"),
    [
        ('cwd="$TMP/nowhere"', "cannot run in '$TMP/nowhere': No such file or directory"),
        ('cwd="$TMP/file"', "cannot run in '$TMP/file': Not a directory"),
    ],
)
def test_what_cannot_be_fails_the_task_with_its_reason(run: Run, box: Box, options: str, why: str) -> None:
    write(box.tmp / "file")
    daemon = run(config(f'cmd="echo RAN", {options}'))
    write(box.src / "f")
    daemon.wait_log(re.escape(box.text(f"task failed: {why}, mask=")))
    assert "RAN" not in daemon.stdout


def test_a_limit_above_the_hard_one_is_warned_of_and_fails(plain_user: None, run: Run, box: Box) -> None:
    before = ["sh", "-c", 'ulimit -n 256; exec "$@"', "sh"]
    daemon = run(config('cmd="echo RAN", limits={"nofile": 512}'), before=before)
    daemon.wait_log("WARNING - .*config.py:1: limits: nofile cannot be raised to 512, the hard limit .* is 256")
    write(box.src / "f")
    daemon.wait_log("task failed: cannot set the limit nofile to 512: Operation not permitted, mask=")


def test_a_command_with_everything_has_no_descriptor_and_no_signal_more(run: Run, box: Box) -> None:
    script = "ls -l /proc/$$/fd/; grep Sig /proc/self/status"
    options = 'nice=1, output="log", stdin="json", cwd="/"'
    daemon = run(config(f"cmd={saved(box, script)!r}, {options}"))
    write(box.src / "f")
    daemon.wait_log("task finished")
    said = result(box)
    numbers = [int(number) for number in re.findall(r" (\d+) -> ", said)]
    # The shell itself may hold a copy at 10 or above while it redirects.
    assert sorted(number for number in numbers if number < 10) == [0, 1, 2]
    masks = dict(re.findall(r"(Sig\w+):\s+([0-9a-f]+)", said))
    assert int(masks["SigBlk"], 16) == 0
    # Numbers 32 and 33 are the C library's own; its posix_spawn leaves them ignored.
    assert int(masks["SigIgn"], 16) & 0x7FFFFFFF == 0


# ---- another user


WHO = "id -u; id -g; id -G; grep -E '^(Cap(Inh|Prm|Eff|Amb)|Groups)' /proc/self/status; env"


def test_another_user_has_nothing_that_is_the_daemons(root: None, run: Run, box: Box) -> None:
    daemon = run(
        config(f'cmd={saved(box, WHO)!r}, user="nobody", env={{"GIVEN": "1"}}'),
        env={"SECRET": "of root", "SUDO_USER": "x", "MAIL": "/var/mail/root"},
        before=["setpriv", "--groups", "0,4,24"],
    )
    write(box.src / "f")
    daemon.wait_log("task finished")
    uid, gid, groups, *rest = result(box).splitlines()
    import pwd

    nobody = pwd.getpwnam("nobody")
    assert (int(uid), int(gid)) == (nobody.pw_uid, nobody.pw_gid)
    assert sorted(map(int, groups.split())) == sorted(set(os.getgrouplist("nobody", nobody.pw_gid)))
    capabilities = [line.split()[1] for line in rest if line.startswith("Cap")]
    assert capabilities == ["0000000000000000"] * 4
    variables = dict(line.split("=", 1) for line in rest if "=" in line)
    assert variables["HOME"] == nobody.pw_dir
    assert (variables["USER"], variables["LOGNAME"], variables["GIVEN"]) == ("nobody", "nobody", "1")
    # The last three are the shell's own.
    known = re.compile("HOME|USER|LOGNAME|GIVEN|PYINOTIFYD_.*|PATH|LANG|LANGUAGE|TZ|LC_.*|PWD|OLDPWD|SHLVL|_")
    assert [name for name in variables if not known.fullmatch(name)] == []


def test_another_user_gets_no_capability_that_ordinary_users_pass_on(root: None, run: Run, box: Box) -> None:
    """Between two ordinary users a change of the user takes none away, and ambient ones survive an execve."""
    if not box.become_plain_user():
        pytest.skip("needs setpriv, and a python3 that a plain user may run")
    script = "id -u; grep -E '^Cap(Inh|Prm|Eff|Amb)' /proc/self/status"
    capabilities = "+setuid,+setgid,+chown"
    box.before += ["--inh-caps", capabilities, "--ambient-caps", capabilities]
    daemon = run(config(f'cmd={saved(box, script)!r}, user="daemon"'))
    write(box.src / "f")
    daemon.wait_log("task finished|task failed")
    import pwd

    uid, *sets = result(box).splitlines()
    assert int(uid) == pwd.getpwnam("daemon").pw_uid
    assert [line.split()[1] for line in sets] == ["0000000000000000"] * 4


def test_user_and_group_by_number(root: None, run: Run, box: Box) -> None:
    daemon = run(config(f'cmd={saved(box, "id -u; id -g; id -G; echo $HOME $USER")!r}, user=54321, group="12345"'))
    write(box.src / "f")
    daemon.wait_log("task finished")
    assert result(box) == "54321\n12345\n12345\n/ 54321\n"


def test_a_group_alone_leaves_the_user_and_its_environment(root: None, run: Run, box: Box) -> None:
    daemon = run(config(f"cmd={saved(box, 'id -u; id -g; echo $MINE')!r}, group=12345"), env={"MINE": "kept"})
    write(box.src / "f")
    daemon.wait_log("task finished")
    assert result(box) == "0\n12345\nkept\n"


def test_the_daemons_own_user_needs_no_rights(plain_user: None, run: Run, box: Box) -> None:
    me = os.geteuid() or 65534
    daemon = run(config(f"cmd={saved(box, 'id -u; echo $MINE')!r}, user={me}"), env={"MINE": "kept"})
    write(box.src / "f")
    daemon.wait_log("task finished")
    assert result(box) == f"{me}\nkept\n"


def test_an_unknown_user_is_warned_of_and_fails_its_tasks(run: Run, box: Box) -> None:
    daemon = run(config('cmd="echo RAN", user="no-such-user"'))
    daemon.wait_log("WARNING - .*config.py:1: no such user: 'no-such-user'; each task of this scheduler will fail")
    write(box.src / "f")
    daemon.wait_log(f"ERROR - task failed: no such user: 'no-such-user', mask=IN_CREATE, path={box.src}/f")
    tested = box.start(None, "-t", "-c", str(box.tmp / "config.py"))
    assert tested.wait_exit() == 0
    assert tested.count("config.py:1: no such user: 'no-such-user'; each task") == 1


def test_an_ordinary_user_may_not_become_another(plain_user: None, run: Run, box: Box) -> None:
    daemon = run(config('cmd="echo RAN", user="daemon"'))
    daemon.wait_log("WARNING - .*config.py:1: user: only root may run commands as another user; each task")
    write(box.src / "f")
    daemon.wait_log("ERROR - task failed: cannot become (group|user) .*: Operation not permitted, mask=")
    assert "RAN" not in daemon.stdout


def test_a_command_of_another_user_may_open_its_output(root: None, run: Run, box: Box) -> None:
    daemon = run(config('cmd="echo one > /dev/stdout; echo two > /dev/stderr", user="nobody", output="log"'))
    write(box.src / "f")
    daemon.wait_log("INFO - one, task_id=")
    daemon.wait_log("WARNING - two, task_id=")
    daemon.wait_log("task finished")


# ---- stdin


def test_a_command_reads_the_event_as_json(run: Run, box: Box) -> None:
    daemon = run(config(f'cmd={saved(box, "cat")!r}, stdin="json"', "IN_MOVED_TO"))
    write(box.tmp / "f")
    (box.tmp / "f").rename(box.src / "a")
    daemon.wait_log("task finished")
    raw = os.fsencode(box.src) + b"/\xff"
    os.rename(box.src / "a", raw)
    daemon.wait_log("task finished", count=2)
    text = result(box)
    assert text.endswith("}\n")
    assert text.count("\n") == 1
    event = json.loads(text)
    cookie, wd = event.pop("cookie"), event.pop("wd")
    assert cookie > 0
    assert wd > 0
    assert event == {
        "mask": 0x80,
        "maskname": "IN_MOVED_TO",
        "dir": False,
        "path": str(box.src),
        "name": "\ufffd",
        "name_b64": base64.b64encode(b"\xff").decode(),
        "pathname": f"{box.src}/\ufffd",
        "pathname_b64": base64.b64encode(raw).decode(),
        "src_pathname": f"{box.src}/a",
    }


def test_a_command_reads_its_path(run: Run, box: Box) -> None:
    daemon = run(config(f'cmd={saved(box, "xargs -0 printf %s")!r}, stdin="paths"'))
    write(box.src / "a\nb")
    daemon.wait_log("task finished")
    assert result(box) == f"{box.src}/a\nb"


def test_a_command_that_does_not_read_ends_as_any_other(run: Run, box: Box) -> None:
    daemon = run(config('cmd="exec <&-; true", stdin="json"'))
    for number in range(20):
        write(box.src / f"f{number}")
    daemon.wait_log("task finished", count=20)


# ---- output


def test_output_becomes_records_with_the_tasks_id(run: Run, box: Box) -> None:
    command = r"printf 'one\n\033[31m\ntwo'; echo problem >&2"
    daemon = run(config(f'cmd={command!r}, output="log", logname="mine"'))
    write(box.src / "f")
    daemon.wait_log("task finished")
    (identifier,) = daemon.task_ids(box.src / "f")
    own = [record for record in daemon.records if record.text.endswith(f", task_id={identifier}")]
    said = {(record.level, record.logger, record.text.removesuffix(f", task_id={identifier}")) for record in own}
    assert {("INFO", "mine", "one"), ("INFO", "mine", "two"), ("WARNING", "mine", "problem")} <= said
    assert "\033" not in daemon.log
    assert "one" not in daemon.stdout
    texts = [record.text for record in daemon.records]
    assert texts.index(f"two, task_id={identifier}") < next(i for i, text in enumerate(texts) if "finished" in text)


def test_output_goes_nowhere(run: Run, box: Box) -> None:
    daemon = run(config('cmd="echo out; echo err >&2", output="null"'))
    write(box.src / "f")
    daemon.wait_log("task finished")
    assert "out" not in daemon.stdout.split()
    assert daemon.count("^err$") == 0


def test_long_lines_and_many_lines_are_cut(run: Run, box: Box) -> None:
    command = "head -c 20000 /dev/zero | tr '\\0' x; echo; seq 2000"
    daemon = run(config(f'cmd={command!r}, output="log"'))
    write(box.src / "f")
    daemon.wait_log("task finished")
    lines = [
        line for line in daemon.lines if re.search(r"sched - INFO - (x+|\d+)( … \(cut after 8 KiB\))?, task_id=", line)
    ]
    assert len(lines) == 1000
    assert " - " + "x" * 8192 + " … (cut after 8 KiB), task_id=" in lines[0]
    assert "INFO - 999, task_id=" in lines[-1]
    assert daemon.count("WARNING - output has more than 1000 lines, no more are logged, task_id=") == 1


def test_a_task_ends_with_its_command_whoever_holds_its_output(run: Run, box: Box) -> None:
    later = "while ! test -e $TMP/go; do sleep 0.05; done; echo later; echo $$ > $TMP/pid; exec sleep 300"
    daemon = run(config(f'cmd={f"setsid sh -c {later!r} & echo now"!r}, output="log"'))
    write(box.src / "f")
    daemon.wait_log("INFO - now, task_id=")
    daemon.wait_log("task finished")
    write(box.tmp / "go")
    daemon.wait_log("INFO - later, task_id=")
    wait_until(lambda: (box.tmp / "pid").exists() and (box.tmp / "pid").read_text().strip())
    assert alive(int((box.tmp / "pid").read_text()))


def test_a_flood_of_output_holds_up_neither_the_command_nor_the_daemon(run: Run, box: Box) -> None:
    command = "head -c 1073741824 /dev/zero | tr '\\0' '\\n'; echo END > $TMP/end"
    daemon = run(
        config(f'cmd={command!r}, output="log"').replace(
            "pyinotifyd =", 'other = ShellScheduler(cmd="true")\npyinotifyd ='
        )
        + '\npyinotifyd.add_watch(path="$DST", event_map={"IN_CREATE": other})'
    )
    write(box.src / "f")
    daemon.wait_log("WARNING - output has more than 1000 lines")
    before = memory(daemon.process.pid)
    for number in range(20):
        if (box.tmp / "end").exists():
            break
        write(box.dst / f"g{number}")
        daemon.wait_log("task finished", count=number + 1, timeout_s=5)
    daemon.wait_log(f"task finished, mask=IN_CREATE, path={box.src}/f", timeout_s=120)
    assert (box.tmp / "end").read_text() == "END\n"
    assert memory(daemon.process.pid) - before < 4 << 20


def memory(pid: int) -> int:
    """Private memory of a process, in bytes."""
    text = Path(f"/proc/{pid}/smaps_rollup").read_text()
    return sum(int(kib) for kib in re.findall(r"Private_\w+:\s+(\d+) kB", text)) << 10


# ---- their end


def test_a_stop_ends_the_group_of_a_command_with_options(run: Run, box: Box) -> None:
    command = "trap '' TERM; echo $$ > $TMP/pid; while :; do sleep 0.1; done"
    daemon = run(config(f'cmd={command!r}, nice=1, output="log"', more=", shutdown_timeout=1"))
    write(box.src / "f")
    wait_until(lambda: (box.tmp / "pid").exists() and (box.tmp / "pid").read_text().strip())
    assert daemon.terminate() == 0
    pid = int((box.tmp / "pid").read_text())
    wait_until(lambda: not alive(pid))


def test_a_command_that_is_killed_says_so(run: Run, box: Box) -> None:
    daemon = run(config('argv=["sh", "-c", "kill -9 $$"], nice=1'))
    write(box.src / "f")
    daemon.wait_log(f"task failed: killed by {signal.Signals.SIGKILL.name}")


# ---- mistakes


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ("", "ShellScheduler: expected cmd or argv"),
        ('"true", argv=["true"]', "ShellScheduler: expected cmd or argv, got both"),
        ('argv="true {pathname}"', "argv: expected a list of a program and its arguments"),
        ("argv=[]", "argv: expected a program, got []"),
        ('argv=["true", 3]', "argv[1]: expected <class 'str'>, got <class 'int'>"),
        ('argv=["a\\0b"]', "argv[0]: a command can't get a NUL byte"),
        ('"true", user=-1', "user: expected a number from 0 to 4294967294, got -1"),
        ('"true", user=""', "user: expected a name or a number, got ''"),
        ('"true", group=True', "group: expected a number from 0 to 4294967294, got True"),
        ('"true", umask=0o1000', "umask: expected mode bits from 0 to 0o777, got 512"),
        ('"true", umask="022"', "umask: expected <class 'int'>, got <class 'str'>"),
        ('"true", nice=100', "nice: expected a number from -39 to 39, got 100"),
        ('"true", cwd="~/x"', "cwd: ~ is not expanded, write os.path.expanduser('~/x')"),
        ('"true", cwd=""', "cwd: expected a path, got an empty string"),
        ('"true", env={"PYINOTIFYD_PATHNAME": ""}', "env: PYINOTIFYD_PATHNAME belongs to the daemon"),
        ('"true", env={"A=B": ""}', "env: 'A=B' can't be the name of a variable"),
        ('"true", env={"A": 1}', "env['A']: expected <class 'str'>, got <class 'int'>"),
        ('"true", env=["A"]', "env: expected <class 'dict'>, got <class 'list'>"),
        ('"true", limits={"nofiles": 1}', "limits: there is no limit 'nofiles', did you mean 'nofile'?"),
        ('"true", limits={"foo": 1}', "limits: there is no limit 'foo'. There are as, core, "),
        ('"true", limits={"RLIMIT_AS": 1}', "limits: there is no limit 'RLIMIT_AS', did you mean 'as'?"),
        ('"true", limits={"core": -1}', "limits: core: expected 0 or more, or None for no limit, got -1"),
        ('"true", limits={"as": 0}', "limits: as: expected a number from 1 to"),
        ('"true", stdin="path"', "stdin: expected one of 'null', 'json', 'paths', got 'path', did you mean 'paths'?"),
        ('"true", output=None', "output: expected one of 'inherit', 'log', 'null', got None"),
        ('"true", users="x"', "unexpected keyword argument 'users'"),
    ],
)
def test_a_mistake_is_refused_with_its_line(box: Box, arguments: str, text: str) -> None:
    tested = box.start(f"\nsched = ShellScheduler({arguments})\npyinotifyd = Pyinotifyd()", "-t")
    assert tested.wait_exit() == 1
    assert text in tested.log
    assert re.search(r'File ".*", line 2\b', tested.log)


def test_what_was_changed_afterwards_is_refused_where_it_was_made(box: Box) -> None:
    text = config('"true"') + '\nsched.env["PYINOTIFYD_X"] = ""'
    tested = box.start(text, "-t")
    assert tested.wait_exit() == 1
    assert "env: PYINOTIFYD_X belongs to the daemon" in tested.log
    assert re.search(r'File ".*", line 1\b', tested.log)


def test_explain_and_dry_run_show_the_arguments(run: Run, box: Box) -> None:
    text = config('argv=["convert", "{pathname}", "a b"]')
    explained = box.start(text, "--explain", str(box.src / "f"))
    assert explained.wait_exit() == 0
    assert f"runs convert {box.src}/f 'a b'" in explained.stdout
    daemon = run(text, "--dry-run")
    write(box.src / "f")
    daemon.wait_log(f"would execute command, argv=convert {box.src}/f 'a b', mask=IN_CREATE")
