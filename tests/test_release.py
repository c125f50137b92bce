"""What `packaging/release` has made, judged as somebody who downloads it: PYINOTIFYD_DIST is its directory.

The Debian package is installed by apt into a Debian stable of its own, of which nothing stays on this machine.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import tarfile
import tempfile
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from test_packages import Chroot, call
from vocabulary import Box, need, wait_until, write

if "PYINOTIFYD_DIST" not in os.environ:
    pytest.skip("needs packaging/release, and its directory in PYINOTIFYD_DIST", allow_module_level=True)

DIST = Path(os.environ["PYINOTIFYD_DIST"]).absolute()
ROOT = Path(__file__).resolve().parent.parent
MACHINE = os.uname().machine
LINK = re.compile(r"\]\((?!https?:)([^)#]+)(?:#[^)]*)?\)")


def made(pattern: str) -> Path:
    found = list(DIST.glob(pattern))
    assert len(found) == 1, f"{pattern} in {DIST}: {found}"
    return found[0]


def deb() -> Path:
    need("dpkg")
    return made(f"pyinotifyd_*_{call('dpkg', '--print-architecture').stdout.strip()}.deb")


@pytest.fixture
def unpacked(box: Box) -> Path:
    """The tarball's directory, with nothing around it."""
    tarball = f"pyinotifyd-*-{MACHINE}-unknown-linux-musl.tar.gz"
    if not list(DIST.glob(tarball)):
        pytest.skip("packaging/release made no static program for this machine, and said why")
    with tarfile.open(made(tarball)) as archive:
        archive.extractall(box.tmp / "unpacked")
    (directory,) = (box.tmp / "unpacked").iterdir()
    box.program = directory / "pyinotifyd"
    return directory


def dead_links(directory: Path) -> list[str]:
    return [
        f"{page.relative_to(directory)}: {target}"
        for page in directory.rglob("*.md")
        for target in LINK.findall(page.read_text())
        # Licences of Debian's packages are in a package of their own.
        if not (page.parent / target).exists() and not (page.parent / target).is_symlink()
    ]


# ---- all of it


def test_the_checksums_are_those_of_all_files() -> None:
    checked = subprocess.run(["sha256sum", "--check", "--strict", "SHA256SUMS"], cwd=DIST, check=False)
    assert checked.returncode == 0
    named = {line.split()[1] for line in (DIST / "SHA256SUMS").read_text().splitlines()}
    assert named == {path.name for path in DIST.iterdir()} - {"SHA256SUMS"}


def test_the_list_of_parts_has_sqlite_and_each_crate_that_the_program_names(unpacked: Path) -> None:
    parts = json.loads(made("pyinotifyd-*.cdx.json").read_text())
    listed = {f"{part['name']}-{part['version']}" for part in parts["components"]}
    # Where a panic would say it is.
    named = re.findall(rb"/registry/src/[^/]+/([\w.+-]+)/", (unpacked / "pyinotifyd").read_bytes())
    assert len(named) > 10
    assert set(map(os.fsdecode, named)) <= listed
    assert "sqlite" in {part["name"] for part in parts["components"]}
    assert all(part["licenses"] for part in parts["components"])


def test_no_program_names_directories_of_the_machine_that_built_it(unpacked: Path, tmp_path: Path) -> None:
    need("dpkg-deb")
    assert call("dpkg-deb", "-x", deb(), tmp_path).returncode == 0
    cargo = os.environ.get("CARGO_HOME", os.path.expanduser("~/.cargo"))
    for program in [unpacked / "pyinotifyd", tmp_path / "usr/bin/pyinotifyd"]:
        content = program.read_bytes()
        for directory in [os.fspath(ROOT / "crates"), f"{cargo}/registry"]:
            assert os.fsencode(directory) not in content, f"{program}: {directory}"


PROGRAM_BYTES_MAX = 16_000_000
MACHINES = {"x86_64": "X86-64", "amd64": "X86-64", "aarch64": "AArch64", "arm64": "AArch64"}


def is_program(path: Path) -> bool:
    if not path.is_file():
        return False
    with path.open("rb") as file:
        return file.read(4) == b"\x7fELF"


def programs(directory: Path) -> dict[Path, Path]:
    """The program of each file that holds one."""
    found = {}
    for file in sorted(DIST.iterdir()):
        place = directory / file.name
        if file.suffix == ".deb":
            assert call("dpkg-deb", "-x", file, place).returncode == 0
        elif file.suffix == ".whl":
            with zipfile.ZipFile(file) as archive:
                archive.extractall(place)
        elif file.name.endswith("-musl.tar.gz"):
            with tarfile.open(file) as archive:
                archive.extractall(place)
        else:
            continue
        (found[file],) = (path for path in place.rglob("pyinotifyd") if is_program(path))
    return found


def test_each_program_is_stripped_small_and_of_the_architecture_that_its_file_names(tmp_path: Path) -> None:
    need("dpkg-deb", "readelf")
    found = programs(tmp_path)
    is_quick = len(found) == 3
    for file, program in found.items():
        said = call("readelf", "--wide", "--file-header", "--section-headers", program).stdout
        (machine,) = {machine for name, machine in MACHINES.items() if name in file.name}
        assert machine in said, f"{file.name}: {said}"
        assert ".symtab" not in said, f"{file.name} is not stripped"
        assert ".debug_info" not in said, f"{file.name} has debug information"
        # `packaging/release --quick` does not optimize the static program.
        if not (is_quick and "musl" in file.name):
            assert program.stat().st_size <= PROGRAM_BYTES_MAX, f"{file.name}: {program.stat().st_size} bytes"


# ---- the tarball with the static program


def test_the_static_program_needs_nothing_beside_it(unpacked: Path) -> None:
    need("unshare", "chroot")
    started = call("unshare", "--user", "--map-root-user", "chroot", unpacked, "/pyinotifyd", "--version")
    if started.returncode != 0 and os.geteuid() != 0:
        pytest.skip(f"this machine has no user namespaces: {started.stderr}")
    assert started.stdout.startswith("pyinotifyd ("), started.stderr


def test_the_tarball_does_the_first_example_of_the_readme(box: Box, unpacked: Path) -> None:
    example = re.findall(r"^```sh\n(pyinotifyd .*?)\n```$", (unpacked / "README.md").read_text(), re.M | re.S)[0]
    scans, printed, bin_ = box.tmp / "Scans", box.tmp / "printed", box.tmp / "bin"
    scans.mkdir()
    bin_.mkdir()
    write(bin_ / "lp", f'#!/bin/sh\nprintf "%s\\n" "$1" >> {printed}\n')
    (bin_ / "lp").chmod(0o755)
    words = shlex.split(example.replace("~/", f"{box.tmp}/"))
    assert words[0] == "pyinotifyd"
    daemon = box.start(None, *words[1:], env={"PATH": f"{bin_}:{os.environ['PATH']}"}).wait_ready()
    write(scans / "page 1.pdf")
    wait_until(lambda: printed.exists() and printed.read_text() == f"{scans}/page 1.pdf\n", lambda: daemon.tail)


def test_the_tarball_starts_this_machines_python_for_jobs(box: Box, unpacked: Path) -> None:
    daemon = box.run((unpacked / "examples/quickstart.py").read_text(), env={"QUICKSTART_DEMO": "1"})
    daemon.wait_log("hello.txt has 23 bytes, sha256 [0-9a-f]{16}")
    wait_until(lambda: (box.tmp / "quickstart/done/hello.txt").exists(), lambda: daemon.tail)
    assert daemon.terminate() == 0


def test_the_tarball_has_service_files_pages_and_the_python_package(unpacked: Path) -> None:
    for name in [
        "LICENSE",
        "config.py",
        "systemd/pyinotifyd.service",
        "systemd/user/pyinotifyd.service",
        "openrc/pyinotifyd.initd",
        "man/pyinotifyd.8",
        "completions/_pyinotifyd",
        "python/pyinotifyd/py.typed",
        "packaging/prometheus/alerts.yml",
    ]:
        assert (unpacked / name).is_file(), name
    assert dead_links(unpacked) == []


# ---- the Debian package


def test_lintian_has_nothing_to_say_about_the_package() -> None:
    need("lintian")
    judged = call("lintian", "--allow-root", "--fail-on=error,warning", "--display-info", deb())
    assert judged.returncode == 0, judged.stdout
    assert judged.stdout == "", "mend it, or say in packaging/debian/lintian-overrides why not"


class Debian(Chroot):
    """A Debian stable with what each machine has, and python3."""

    SETUP = """
mount --bind {root}/tree {root}/tree
cd {root}/tree
mount --rbind /proc proc
mount --rbind /dev dev
cp {debs}/*.deb tmp/
echo ready
exec cat
"""

    # What apt and dpkg remember of each package, and what is not of this Debian.
    OTHERS = ("dev", "proc", "sys", "tmp", "run", "root", "var/lib/dpkg", "var/lib/apt", "var/cache", "var/log")

    def files(self) -> set[str]:
        others = " -o ".join(f"-path /{name}" for name in self.OTHERS)
        return set(self.run(f"find / '(' {others} ')' -prune -o -print").stdout.splitlines())

    def succeed(self, command: str) -> str:
        done = self.run(command)
        assert done.returncode == 0, f"{command}: {done.stdout}"
        return done.stdout


@pytest.fixture
def debian(root: None, tmp_path: Path) -> Iterator[Debian]:
    need("mmdebstrap", "unshare", "nsenter")
    # In memory it takes half of the time.
    memory = Path("/dev/shm")
    directory = Path(tempfile.mkdtemp(prefix="pyid", dir=memory if memory.is_dir() else None))
    directory.chmod(0o755)
    try:
        # The lists of a mirror that stands still have expired.
        options = ["--variant=minbase", "--include=python3,systemd", '--aptopt=Acquire::Check-Valid-Until "false"']
        built = call("mmdebstrap", "--quiet", "--mode=root", *options, "stable", directory / "tree")
        if built.returncode != 0:
            pytest.skip(f"no Debian can be had: {built.stderr.splitlines()[-1]}")
        shutil.copy(deb(), tmp_path)
        chroot = Debian(directory, tmp_path)
        try:
            yield chroot
        finally:
            chroot.close()
    finally:
        shutil.rmtree(directory)


NEXT = "pyinotifyd: to start it, edit /etc/pyinotifyd/config.py, then run: systemctl enable --now pyinotifyd"
INSTALL = "DEBIAN_FRONTEND=noninteractive apt install --yes --reinstall /tmp/pyinotifyd_*.deb"
CONFIG = r"""
move = FileManagerScheduler(FileManagerRule(action="move", src_re=r"^/srv/in/(.*)$", dst_re=r"/srv/out/\1"))
async def note(event, task_id):
    open("/srv/noted", "w").write(event.pathname)
pyinotifyd = Pyinotifyd([Watch("/srv/in", {"IN_CLOSE_WRITE": move, "IN_DELETE": None, "IN_MOVED_FROM": note})])
"""


def test_apt_installs_and_removes_the_package_and_it_works_in_between(debian: Debian) -> None:
    before = debian.files()
    assert NEXT in debian.succeed(INSTALL).splitlines()
    judge_installed(debian)
    judge_at_work(debian)
    judge_that_the_admin_decides(debian)
    judge_that_an_upgrade_keeps_what_is_there(debian)

    debian.succeed("apt remove --yes pyinotifyd")
    remembered = "/var/lib/systemd/deb-systemd-helper-enabled"
    left = {path for path in debian.files() - before if not path.startswith(remembered)}
    state = {"/var/lib/pyinotifyd", "/var/lib/pyinotifyd/state.db"}
    assert left == {"/etc/pyinotifyd", "/etc/pyinotifyd/config.py"} | state
    debian.succeed("apt purge --yes pyinotifyd")
    assert debian.files() - before <= {remembered}
    assert before <= debian.files()


def judge_installed(debian: Debian) -> None:
    assert debian.succeed("pyinotifyd --version").startswith("pyinotifyd (")
    assert debian.succeed("dpkg --verify pyinotifyd") == ""
    assert debian.succeed("systemd-analyze verify --man=no pyinotifyd.service") == ""
    assert debian.run("systemctl is-enabled pyinotifyd").stdout == "disabled\n"
    documents = debian.root / "tree/usr/share/doc/pyinotifyd"
    for path in PARTS:
        assert (debian.root / "tree" / path).is_file(), path
    assert (documents / "packaging/prometheus/grafana-dashboard.json").is_file()
    assert dead_links(documents) == []


PARTS = [
    "etc/pyinotifyd/config.py",
    "usr/lib/systemd/system/pyinotifyd.service",
    "usr/lib/systemd/user/pyinotifyd.service",
    "usr/share/bash-completion/completions/pyinotifyd",
    "usr/share/doc/pyinotifyd/examples/quickstart.py",
    "usr/share/fish/vendor_completions.d/pyinotifyd.fish",
    "usr/share/man/man5/pyinotifyd-config.5.gz",
    "usr/share/man/man8/pyinotifyd.8.gz",
    "usr/share/zsh/vendor-completions/_pyinotifyd",
]


def judge_at_work(debian: Debian) -> None:
    """With the packaged program, configuration's place and Debian's Python."""
    debian.succeed("mkdir /srv/in /srv/out && cp /etc/pyinotifyd/config.py /root/")
    config = debian.root / "tree/etc/pyinotifyd/config.py"
    config.write_text(CONFIG)
    assert debian.succeed("pyinotifyd --configtest") == "INFO: config file ok\n"
    enter = ["nsenter", "--mount", f"--target={debian.process.pid}", "chroot", os.fspath(debian.root / "tree")]
    with subprocess.Popen([*enter, "pyinotifyd"], stderr=subprocess.PIPE, text=True) as daemon:
        assert daemon.stderr is not None
        try:
            while "start listening" not in (line := daemon.stderr.readline()):
                assert line, "the daemon has ended"
            write(debian.root / "tree/srv/in/a", "content")
            for path, text in [("out/a", "content"), ("noted", "/srv/in/a")]:
                there = debian.root / "tree/srv" / path
                wait_until(lambda: there.exists() and there.read_text() == text, path)  # noqa: B023
        finally:
            daemon.terminate()
    debian.succeed("rm -r /srv/* && cp /root/config.py /etc/pyinotifyd/")


def judge_that_an_upgrade_keeps_what_is_there(debian: Debian) -> None:
    """The configuration, what the admin put beside it, and tasks that wait; of this version to itself."""
    kept = ["/etc/pyinotifyd/config.py", "/etc/pyinotifyd/conf.d/more.py", "/var/lib/pyinotifyd/state.db"]
    debian.succeed("mkdir -p /etc/pyinotifyd/conf.d /var/lib/pyinotifyd")
    for path in kept:
        (debian.root / f"tree{path}").write_text("pyinotifyd = Pyinotifyd()  # mine")
    debian.succeed(INSTALL)
    for path in kept:
        assert (debian.root / f"tree{path}").read_text() == "pyinotifyd = Pyinotifyd()  # mine", path
    debian.succeed("rm -r /etc/pyinotifyd/conf.d")


def judge_that_the_admin_decides(debian: Debian) -> None:
    """Whether it is enabled: no upgrade changes that."""
    for decided, state in [("enable", "enabled"), ("disable", "disabled")]:
        debian.succeed(f"systemctl {decided} pyinotifyd")
        assert NEXT not in debian.succeed(INSTALL)
        assert debian.run("systemctl is-enabled pyinotifyd").stdout == f"{state}\n"
