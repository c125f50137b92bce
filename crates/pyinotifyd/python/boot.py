# What python3 runs: `python3 BOOT SOCKET LIFELINE BUNDLE OFFSET`, where BOOT is this file in a memfd, and BUNDLE the
# number of a file that holds the package from OFFSET on: as a rule the daemon's program. It lets Python find the
# package there, and starts the host. Python's own way, a zip, costs 30 ms at each start: runpy, zipimport, and the
# compiling of 2,000 lines. The bundle holds bytecode for the Pythons that were there when it was built, and the sources
# for all others, see bundle.py.
#
# Plain enough for any Python, so that one that is too old can say so.
import os
import sys

if sys.version_info < (3, 9):
    import struct

    version = ".".join(map(str, sys.version_info[:3]))
    text = "Python %s at %s is too old, pyinotifyd needs 3.9 or newer: choose another one by --python" % (
        version,
        sys.executable,
    )
    body = ('{"message": "%s", "locations": [], "traceback": ""}' % text.replace("\\", "/")).encode("ascii", "replace")
    os.write(int(sys.argv[1]), struct.pack("<IB", len(body), 67) + body)
    sys.exit(1)

import marshal

# As they are when Python starts; importlib.machinery and importlib.util cost 2 ms.
from _frozen_importlib import ModuleSpec
from _frozen_importlib_external import MAGIC_NUMBER


class Bundle:
    """Finds and loads the package in the bundle."""

    def __init__(self, fd, begin):
        """Read the bundle's directory, and of what it holds where the modules are."""
        os.set_inheritable(fd, False)
        self.fd = fd
        # "MAGIC:OFFSET:SIZE ..." in one line; the magic number of sources is "source".
        line = os.pread(fd, 4096, begin).split(b"\n", 1)[0].decode("ascii")
        self.sections = {}
        for section in line.split():
            magic, offset, size = section.split(":")
            self.sections[magic] = begin + int(offset), int(size)
        magic = "%08x" % int.from_bytes(MAGIC_NUMBER, "little")
        self.compiled = magic in self.sections
        self.modules = self.places(magic if self.compiled else "source")

    def places(self, magic):
        """Return the modules of a section: name to (is it a package, offset, size)."""
        offset, size = self.sections[magic]
        data = os.pread(self.fd, size, offset)
        modules = {}
        begin = 0
        while begin < size:
            end = data.index(b"\n", begin)
            name, package, length = data[begin:end].decode("ascii").split()
            modules[name] = package == "1", offset + end + 1, int(length)
            begin = end + 1 + int(length)
        return modules

    def find_spec(self, name, path=None, target=None):
        """Find a module; importlib's protocol."""
        if name not in self.modules:
            return None
        return ModuleSpec(name, self, origin=file_name(name), is_package=self.modules[name][0])

    def create_module(self, spec):
        """Leave it to importlib."""
        return None

    def exec_module(self, module):
        """Execute a module."""
        name = module.__name__
        _, offset, size = self.modules[name]
        content = os.pread(self.fd, size, offset)
        code = marshal.loads(content) if self.compiled else compile(content, file_name(name), "exec", 0, True)
        exec(code, module.__dict__)

    def get_source(self, name):
        """Return a module's source, for tracebacks through it."""
        _, offset, size = self.places("source")[name]
        return os.pread(self.fd, size, offset).decode("utf-8")


def file_name(module):
    """Return what tracebacks call the file of a module."""
    return "<pyinotifyd>/%s.py" % module.replace(".", "/")


def boot():
    """Start the host."""
    # The directory of this script, which is none.
    if not getattr(sys.flags, "safe_path", False):
        del sys.path[0]
    # Python has opened the script once more for itself.
    directory, _, number = sys.argv[0].rpartition("/")
    if directory == "/proc/self/fd":
        os.close(int(number))
    # A process that multiprocessing spawns would run it as its main script.
    del globals()["__file__"]
    bundle = Bundle(int(sys.argv[3]), int(sys.argv[4]))
    sys.meta_path.insert(0, bundle)
    from pyinotifyd.host.__main__ import main

    main()


boot()
