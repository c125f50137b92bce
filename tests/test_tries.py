"""The runner of the tests tells the truth: what is skipped, what passes at its second try only, what fails, by name."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

import tries
from vocabulary import PROJECT

CRATE = """\
[package]
name = "tried"
edition = "2021"

[workspace]
"""
RUST = """\
#[test]
fn passes() {
    println!("not for the summary");
}

#[test]
fn skips() {
    eprintln!("skipped: needs the moon");
}

#[test]
fn fails_once() {
    let before = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("before");
    assert!(std::fs::create_dir(before).is_err(), "the first time");
}

#[test]
fn fails() {
    panic!("failures:");
}
"""
PYTHON = """\
import pathlib
import pytest

def test_passes():
    pass

@pytest.mark.skip(reason="needs the moon")
def test_skips():
    pass

@pytest.mark.parametrize("way", ["a b"])
def test_fails_once(way):
    before = pathlib.Path(__file__).with_name("before")
    try:
        before.mkdir()
    except FileExistsError:
        return
    assert False, "the first time"

def test_fails():
    assert False
"""


@pytest.fixture
def crate(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    if not shutil.which("cargo"):
        pytest.skip("needs cargo")
    (tmp_path / "src").mkdir()
    (tmp_path / "Cargo.toml").write_text(CRATE)
    (tmp_path / "src/lib.rs").write_text(RUST)
    # Nothing is locked yet, and nothing is fetched: the crate has no dependencies.
    subprocess.run(["cargo", "generate-lockfile", "--offline", "--quiet"], cwd=tmp_path, check=True)
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("CARGO_TARGET_DIR", raising=False)
    return tmp_path


def test_the_crates_are_counted_by_name(crate: Path, capfd: pytest.CaptureFixture[str]) -> None:
    tally = tries.crates([])
    assert (tally.passed, tally.again, tally.failed) == (1, ["fails_once"], ["fails"])
    assert tally.skipped == ["skips: needs the moon"]
    shown = capfd.readouterr().out
    assert "the first time" in shown
    assert "not for the summary" not in shown


def test_a_strict_run_of_the_crates_has_no_second_tries(crate: Path) -> None:
    tally = tries.crates([], strict=True)
    assert (sorted(tally.failed), tally.again) == (["fails", "fails_once"], [])


def test_a_crate_that_does_not_build_or_crashes_has_failed(crate: Path) -> None:
    (crate / "src/lib.rs").write_text("#[test]\nfn crashes() {\n    std::process::abort();\n}\n")
    assert tries.crates([]).failed == ["--lib"]
    (crate / "src/lib.rs").write_text("no Rust")
    failed = tries.crates([]).failed
    assert failed
    assert all(line.startswith("error") for line in failed)


@pytest.fixture
def suite(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    (tmp_path / "test_it.py").write_text(PYTHON)
    # This test is one of pytest, too, perhaps in a worker; the other one is to know nothing of that.
    for name in [name for name in os.environ if name.startswith("PYTEST")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    return ["--rootdir", os.fspath(tmp_path), "-c", "/dev/null", "-p", "no:randomly", os.fspath(tmp_path)]


def test_tests_in_python_are_counted_by_name(suite: list[str], tmp_path: Path) -> None:
    tally = tries.pytest("daemon", suite, tmp_path / "report.xml", strict=False)
    assert tally.passed == 1
    assert tally.skipped == ["test_it::test_skips: needs the moon"]
    assert tally.again == ["test_it::test_fails_once[a b]"]
    assert tally.failed == ["test_it::test_fails"]


def test_a_strict_run_in_python_has_no_second_tries(suite: list[str], tmp_path: Path) -> None:
    tally = tries.pytest("daemon", suite, tmp_path / "report.xml", strict=True)
    assert tally.again == []
    assert tally.failed == ["test_it::test_fails", "test_it::test_fails_once[a b]"]


def test_tests_that_cannot_be_loaded_have_failed(suite: list[str], tmp_path: Path) -> None:
    (tmp_path / "test_it.py").write_text("import no_such_module")
    assert tries.pytest("daemon", suite, tmp_path / "report.xml", strict=False).failed


def test_the_last_lines_name_each_skip_second_try_and_failure() -> None:
    crates = tries.Tally("crates", passed=3, skipped=["a: why"], again=["b"])
    assert tries.summary([crates, tries.Tally("daemon", passed=2)], []) == [
        "crates: 3 passed, 1 passed at the second try, 1 skipped",
        "daemon: 2 passed",
        "skipped: crates: a: why",
        "passed at the second try: crates: b",
        "passed: 5 passed, 1 skipped, 1 second tries",
    ]
    crates.failed.append("c")
    lines = tries.summary([crates], ["style"])
    assert lines[-3:-1] == ["FAILED: crates: c", "FAILED: style"]
    assert lines[-1].startswith("FAILED")


def test_no_test_inherits_signals_that_the_shell_ignores(tmp_path: Path) -> None:
    """As in the background of a shell, where SIGINT is ignored."""
    (tmp_path / "test_it.py").write_text(
        "import signal\ndef test_it():\n    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler\n"
    )
    done = subprocess.run(
        ["sh", "-c", 'trap "" INT QUIT HUP; exec "$@"', "sh", PROJECT / "tests/run", tmp_path, "-q"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_the_runner_says_how_it_is_used() -> None:
    """It was pytest's help, which knows nothing of the crates."""
    told = subprocess.run([PROJECT / "tests/run", "--help"], capture_output=True, text=True, check=True)
    assert "tests/run --strict" in told.stdout
