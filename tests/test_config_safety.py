"""What is executed with the daemon's rights: nothing that others could have written, and nothing but what was
loaded.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from vocabulary import REFERENCE, Box, Daemon, binary, wait_until, write

Run = Callable[..., Daemon]

pytestmark = pytest.mark.skipif(REFERENCE, reason="the original executes whatever it finds")

# A user who is not root, and his.
THEM = 65534

EMPTY = "pyinotifyd = Pyinotifyd()\n"


def theirs(path: Path, mode: int) -> Path:
    path.chmod(mode)
    os.chown(path, THEM, THEM)
    return path


def refused(box: Box, *words: str, config: str = EMPTY, **env: str) -> None:
    """Neither a test nor a start executes anything of theirs; the line says what and whose."""
    for arguments in (("-t",), ()):
        daemon = box.call(*arguments, config=config, env=env)
        assert daemon.exit_code == 1, daemon.tail
        assert daemon.lines[0].startswith("ERROR: config file: "), daemon.lines
        for word in words:
            assert word in daemon.lines[0]
        assert not (box.tmp / "executed").exists()


@pytest.fixture
def their_code(root: None, box: Box) -> Path:
    """A directory of theirs with modules that every Python executes at its start, and one that shadows another."""
    directory = box.tmp / "theirs"
    directory.mkdir()
    for name in ("sitecustomize", "usercustomize", "logging"):
        module = directory / f"{name}.py"
        module.write_text(f"open({str(box.tmp / 'executed')!r}, 'a').write('x')\n")
        theirs(module, 0o644)
    box.tmp.chmod(0o755)
    return theirs(directory, 0o755)


@pytest.mark.parametrize("variable", ["PYTHONPATH", "PYTHONPYCACHEPREFIX"])
def test_modules_of_others_are_not_imported(box: Box, their_code: Path, variable: str) -> None:
    refused(box, variable, f"'{their_code}' belongs to uid {THEM}", **{variable: str(their_code)})


def test_one_path_of_several_is_enough(box: Box, their_code: Path) -> None:
    refused(box, f"'{their_code}' belongs to uid {THEM}", PYTHONPATH=f"/usr/lib:{their_code}")


def test_a_place_of_modules_in_which_everybody_may_write(root: None, box: Box) -> None:
    place = box.tmp / "place"
    place.mkdir()
    place.chmod(0o1777)
    refused(box, "mode 1777", "chmod go-w", PYTHONPATH=str(place))
    refused(box, "everybody can make it", PYTHONPATH=str(place / "later"))


def test_the_modules_of_a_home_directory_are_left_alone(box: Box, their_code: Path) -> None:
    """Python imports usercustomize from there before it executes anything else."""
    version = subprocess.run(
        ["python3", "-c", "import sys; print('%d.%d' % sys.version_info[:2])"],
        capture_output=True,
        text=True,
        check=True,
    )
    site = box.tmp / f".local/lib/python{version.stdout.strip()}/site-packages"
    site.parent.mkdir(parents=True)
    their_code.rename(site)
    daemon = box.call("-t", config=EMPTY, env={"HOME": str(box.tmp)})
    assert (daemon.exit_code, daemon.lines) == (0, ["INFO: config file ok"])
    assert not (box.tmp / "executed").exists()


def their_python(box: Box, path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f'#!/bin/sh\ntouch {box.tmp}/executed\nexec python3 "$@"\n')
    return theirs(path, 0o755)


def test_an_interpreter_of_others_in_the_virtual_environment(root: None, box: Box) -> None:
    their_python(box, box.tmp / "venv/bin/python3")
    refused(box, f"'{box.tmp}/venv/bin/python3' belongs to uid {THEM}", "--python", VIRTUAL_ENV=str(box.tmp / "venv"))


def test_an_interpreter_of_others_in_path_and_by_its_name(root: None, box: Box) -> None:
    python = their_python(box, box.tmp / "bin/python3")
    refused(box, f"belongs to uid {THEM}", VIRTUAL_ENV="", PATH=f"{python.parent}:{os.environ['PATH']}")
    refused(box, f"belongs to uid {THEM}", PYINOTIFYD_PYTHON=str(python))


def test_an_interpreter_of_others_beside_the_program(root: None, box: Box) -> None:
    """A program in a directory in which others have put a python3."""
    shutil.copy(binary(), box.tmp / "pyinotifyd")
    their_python(box, box.tmp / "python3")
    box.write_config(EMPTY)
    done = subprocess.run([box.tmp / "pyinotifyd", "-t", "-c", box.config], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert f"'{box.tmp}/python3' belongs to uid {THEM}" in done.stderr
    assert not (box.tmp / "executed").exists()


def test_an_interpreter_that_a_link_of_theirs_leads_to(root: None, box: Box) -> None:
    place = box.tmp / "place"
    place.mkdir()
    place.chmod(0o1777)
    real = shutil.which("python3")
    assert real
    (place / "python3").symlink_to(real)
    os.chown(place / "python3", THEM, THEM, follow_symlinks=False)
    refused(box, f"'{place}/python3' belongs to uid {THEM}", PYINOTIFYD_PYTHON=str(place / "python3"))


def test_a_config_of_theirs_below_a_sticky_directory(root: None, box: Box) -> None:
    place = box.tmp / "place"
    place.mkdir()
    place.chmod(0o1777)
    config = place / "config.py"
    config.write_text(f"open('{box.tmp}/executed', 'w')\n{EMPTY}")
    theirs(config, 0o644)
    link = place / "link.py"
    link.symlink_to(box.write_config(EMPTY))
    os.chown(link, THEM, THEM, follow_symlinks=False)
    for path in (config, link):
        daemon = box.call("-c", path)
        assert daemon.exit_code == 1
        assert f"'{path}' belongs to uid {THEM}" in daemon.lines[0]
    assert not (box.tmp / "executed").exists()


def test_a_pipe_is_a_config(box: Box) -> None:
    """As a shell makes one of `-c <(generate)`."""
    reader, writer = os.pipe()
    os.write(writer, b"print('piped')\n" + EMPTY.encode())
    os.close(writer)
    daemon = box.call("-t", "-c", f"/dev/fd/{reader}", pass_fds=(reader,))
    os.close(reader)
    assert (daemon.exit_code, daemon.stdout) == (0, "piped")


# ---- nothing but what was loaded

OLD = """
async def job(event, task_id):
    print("the old code", event.name, flush=True)
pyinotifyd = Pyinotifyd([Watch("$SRC", {"IN_CREATE": job})])
"""


@pytest.mark.parametrize("edited", [OLD.replace("old", "new"), "raise ValueError", None])
def test_a_host_that_is_started_again_executes_what_was_loaded(box: Box, edited: str | None) -> None:
    daemon = box.run(OLD)
    write(box.src / "one")
    daemon.wait_out("the old code one")
    if edited is None:
        box.config.unlink()
    else:
        box.write_config(edited)
    os.kill(daemon.host(), signal.SIGKILL)
    daemon.wait_log("config host is running again")
    write(box.src / "two")
    daemon.wait_out("the old code two")
    assert "new code" not in daemon.stdout


def test_a_traceback_shows_the_source_that_was_loaded(run: Run, box: Box) -> None:
    daemon = run(OLD.replace('print("the old code", event.name, flush=True)', 'raise ValueError("the old code")'))
    box.write_config("\n" * 50)
    write(box.src / "one")
    daemon.wait_log("the old code")
    wait_until(lambda: 'raise ValueError("the old code")' in daemon.log)


def test_a_config_that_does_not_come_holds_up_nothing(run: Run, box: Box) -> None:
    """A FIFO without a writer stands for a filesystem that does not answer: a reload waits, the daemon does not."""
    daemon = run(OLD)
    box.config.unlink()
    os.mkfifo(box.config)
    daemon.signal(signal.SIGHUP)
    daemon.wait_log("got signal SIGHUP")
    write(box.src / "one")
    daemon.wait_out("the old code one")
    assert daemon.terminate() == 0
