"""Packages: what the Debian package holds, and that dpkg installs, upgrades and purges it.

dpkg runs in a chroot of its own that is made of bind mounts, so that nothing is installed on this machine.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from vocabulary import DEADLINE_S, Box, binary, need

ROOT = Path(__file__).resolve().parent.parent
BUILD = ROOT / "packaging/debian/build"


# To pack a program with everything for debuggers takes a minute, and more on a busy machine.
PACKING_S = 20 * DEADLINE_S


def call(*command: str | os.PathLike[str]) -> subprocess.CompletedProcess[str]:
    words = [os.fspath(word) for word in command]
    return subprocess.run(words, capture_output=True, text=True, timeout=PACKING_S, check=False)


def package(output: Path, version: str) -> Path:
    if shutil.which("dpkg-deb") is None:
        pytest.skip("needs dpkg-deb")
    built = call(sys.executable, BUILD, "--program", binary(), "--version", version, "--output", output)
    assert built.returncode == 0, built.stderr
    return Path(built.stdout.strip())


def test_the_package_holds_program_module_unit_and_help(tmp_path: Path) -> None:
    listed = call("dpkg-deb", "--contents", package(tmp_path, "2.0.0")).stdout
    for path in [
        "./usr/bin/pyinotifyd",
        "./etc/pyinotifyd/config.py",
        "./usr/lib/systemd/system/pyinotifyd.service",
        "./usr/lib/systemd/user/pyinotifyd.service",
        "./usr/lib/python3/dist-packages/pyinotifyd/__init__.py",
        "./usr/lib/python3/dist-packages/pyinotifyd/py.typed",
        "./usr/share/man/man8/pyinotifyd.8.gz",
        "./usr/share/man/man5/pyinotifyd-config.5.gz",
        "./usr/share/bash-completion/completions/pyinotifyd",
        "./usr/share/zsh/vendor-completions/_pyinotifyd",
        "./usr/share/fish/vendor_completions.d/pyinotifyd.fish",
        "./usr/share/doc/pyinotifyd/README.md",
        "./usr/share/doc/pyinotifyd/docs/questions.md",
        "./usr/share/doc/pyinotifyd/docs/cookbook/uploads.py",
        "./usr/share/doc/pyinotifyd/examples/quickstart.py",
        "./usr/share/doc/pyinotifyd/packaging/prometheus/alerts.yml",
        "./usr/share/doc/pyinotifyd/packaging/prometheus/grafana-dashboard.json",
        "./usr/share/doc/pyinotifyd/systemd/strict.conf",
        "./usr/share/doc/pyinotifyd/changelog.gz",
        "./usr/share/doc/pyinotifyd/copyright",
    ]:
        assert f" {path}\n" in listed, path
    assert "__pycache__" not in listed
    for line in listed.splitlines():
        assert " root/root " in line
        assert line[0] == "l" or "w" not in line[5] + line[8], f"others could write: {line}"


def with_another_config(deb: Path) -> None:
    """As if the default configuration had changed with this version: only then dpkg has to choose between two."""
    with tempfile.TemporaryDirectory() as tree:
        assert call("dpkg-deb", "-R", deb, tree).returncode == 0
        with Path(tree, "etc/pyinotifyd/config.py").open("a") as file:
            file.write("# newer\n")
        built = call("dpkg-deb", "--root-owner-group", "-Zgzip", "--build", tree, deb)
        assert built.returncode == 0, built.stderr


class Chroot:
    """This machine's /usr, read-only below a writable layer, with a dpkg database that knows no package."""

    SETUP = """
mount -t tmpfs none {root}
mkdir -p {root}/upper {root}/work {root}/tree
cd {root}/tree
mkdir -p usr etc var/lib/dpkg/info var/lib/dpkg/updates var/log proc dev tmp run root
mount -t overlay none -o lowerdir=/usr,upperdir={root}/upper,workdir={root}/work usr
for link in bin sbin lib lib64; do [ -e /$link ] && ln -s usr/$link $link; done
cp /etc/passwd /etc/group /etc/ld.so.cache etc/
: > var/lib/dpkg/status
mount --rbind /proc proc
mount --rbind /dev dev
cp {debs}/*.deb tmp/
echo ready
exec cat
"""

    def __init__(self, root: Path, debs: Path) -> None:
        self.root = root
        script = self.SETUP.format(root=root, debs=debs)
        self.process = subprocess.Popen(
            ["unshare", "-m", "sh", "-ec", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        assert self.process.stdout is not None
        if self.process.stdout.readline() != "ready\n":
            self.close()
            pytest.skip("this machine lets nobody mount an overlay")

    def run(self, command: str) -> subprocess.CompletedProcess[str]:
        # The package's dependencies are there as files, but not in the database.
        return call(
            "nsenter",
            "-m",
            f"--target={self.process.pid}",
            "--",
            "chroot",
            self.root / "tree",
            "sh",
            "-c",
            command + " 2>&1",
        )

    def close(self) -> None:
        self.process.kill()
        self.process.wait()


@pytest.fixture(scope="module")
def debs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A version of the package and the next one."""
    made = tmp_path_factory.mktemp("debs")
    package(made, "2.0.0")
    with_another_config(package(made, "2.0.1"))
    return made


@pytest.fixture
def chroot(root: None, box: Box, debs: Path) -> Iterator[Chroot]:
    (box.tmp / "root").mkdir()
    made = Chroot(box.tmp / "root", debs)
    yield made
    made.close()


DPKG = "dpkg --force-depends --force-confdef"


def test_dpkg_installs_upgrades_and_purges(chroot: Chroot) -> None:
    installed = chroot.run(f"{DPKG} -i /tmp/pyinotifyd_2.0.0_*.deb")
    assert installed.returncode == 0, installed.stdout
    assert chroot.run("/usr/bin/pyinotifyd --version").stdout.startswith("pyinotifyd (")
    tested = chroot.run("/usr/bin/pyinotifyd --configtest")
    assert tested.stdout == "INFO: config file ok\n"
    imported = chroot.run("/usr/bin/python3 -c 'import pyinotifyd; print(pyinotifyd.__file__)'")
    assert imported.stdout == "/usr/lib/python3/dist-packages/pyinotifyd/__init__.py\n"

    chroot.run("echo '# mine' >> /etc/pyinotifyd/config.py")
    mine = chroot.run("cat /etc/pyinotifyd/config.py").stdout
    upgraded = chroot.run(f"{DPKG} -i /tmp/pyinotifyd_2.0.1_*.deb")
    assert upgraded.returncode == 0, upgraded.stdout
    assert chroot.run("cat /etc/pyinotifyd/config.py").stdout == mine
    assert chroot.run("tail -n 1 /etc/pyinotifyd/config.py.dpkg-dist").stdout == "# newer\n"

    removed = chroot.run("dpkg -r pyinotifyd")
    assert removed.returncode == 0, removed.stdout
    assert chroot.run("test -e /usr/bin/pyinotifyd").returncode == 1
    assert chroot.run("test -e /etc/pyinotifyd/config.py").returncode == 0, "configuration stays until it is purged"
    purged = chroot.run("dpkg -P pyinotifyd")
    assert purged.returncode == 0, purged.stdout
    left = chroot.run(
        "find / -xdev -name '*pyinotifyd*' -not -path '/tmp/*' -not -path '/proc/*' -not -path "
        "'/dev/*'; find /usr -xdev -name '*pyinotifyd*'"
    )
    assert [line for line in left.stdout.splitlines() if "/var/l" not in line] == []


# A systemd that only notes what it is asked to do.
SYSTEMD = r"""
mkdir -p /run/systemd/system
cat > /tmp/note <<'END'
#!/bin/sh
[ "$1" = --version ] && echo 'systemd 252 (252)' && exit
echo "${0##*/} $*" >> /tmp/asked
END
chmod 755 /tmp/note
for name in systemctl deb-systemd-invoke deb-systemd-helper; do rm -f /usr/bin/$name; cp /tmp/note /usr/bin/$name; done
"""


def test_the_service_is_restarted_and_stopped_with_the_package_and_started_by_the_admin(chroot: Chroot) -> None:
    prepared = chroot.run(SYSTEMD)
    assert prepared.returncode == 0, prepared.stdout

    def asked(command: str) -> list[str]:
        chroot.run("rm -f /tmp/asked")
        done = chroot.run(command)
        assert done.returncode == 0, done.stdout
        return [
            line for line in chroot.run("cat /tmp/asked").stdout.splitlines() if line.startswith("deb-systemd-invoke")
        ]

    assert asked(f"{DPKG} -i /tmp/pyinotifyd_2.0.0_*.deb") == []
    adapted = chroot.run("cat /usr/lib/systemd/system/pyinotifyd.service.d/before-253.conf").stdout
    assert adapted == "[Service]\nType=notify\nExecReload=/bin/kill -HUP $MAINPID\n"
    assert asked(f"{DPKG} -i /tmp/pyinotifyd_2.0.1_*.deb") == ["deb-systemd-invoke try-restart pyinotifyd.service"]
    # A configuration that would not start leaves the running daemon alone.
    chroot.run("echo 'nonsense(' >> /etc/pyinotifyd/config.py")
    assert asked(f"{DPKG} -i /tmp/pyinotifyd_2.0.1_*.deb") == []
    assert asked("dpkg -r pyinotifyd") == ["deb-systemd-invoke stop pyinotifyd.service"]
    assert chroot.run("ls /usr/lib/systemd/system/pyinotifyd.service.d").returncode != 0


def test_purging_keeps_what_dpkg_did_not_bring(chroot: Chroot) -> None:
    chroot.run(f"{DPKG} -i /tmp/pyinotifyd_2.0.0_*.deb")
    chroot.run("echo pass > /etc/pyinotifyd/my_module.py")
    purged = chroot.run("dpkg -P pyinotifyd")
    assert purged.returncode == 0, purged.stdout
    assert chroot.run("ls /etc/pyinotifyd").stdout == "my_module.py\n"


def test_the_wheel_carries_the_same_package_as_the_program() -> None:
    text = (ROOT / "pyproject.toml").read_text()
    assert 'bindings = "bin"' in text
    assert 'python-source = "crates/pyinotifyd/python"' in text
    version = next(line for line in (ROOT / "Cargo.toml").read_text().splitlines() if line.startswith("version = "))
    package_head = (ROOT / "crates/pyinotifyd/python/pyinotifyd/__init__.py").read_text()
    assert f"__version__ = {version.partition(' = ')[2]}" in package_head


def test_a_release_is_made_from_what_is_committed_and_from_nothing_else(tmp_path: Path) -> None:
    need("git", "cargo", "dpkg-deb")
    if call("git", "clone", "--quiet", "--depth=1", f"file://{ROOT}", tmp_path / "clone").returncode != 0:
        pytest.skip("these sources are no git repository")
    shutil.copytree(ROOT / "packaging", tmp_path / "clone/packaging", dirs_exist_ok=True)
    (tmp_path / "clone/docs/draft.md").touch()
    refused = call(sys.executable, tmp_path / "clone/packaging/release")
    assert refused.returncode == 1
    assert "packaging/release: the checkout has changes: commit them, or take them with --dirty" in refused.stderr
    assert "?? docs/draft.md" in refused.stderr
    assert not (tmp_path / "clone/dist").exists()
