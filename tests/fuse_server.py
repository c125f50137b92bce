"""A filesystem in user space that shows a directory of another one: `fuse_server.py DIRECTORY MOUNT_POINT`.

It speaks the kernel's protocol (linux/fuse.h) itself, so that tests need no library. Nothing is cached: whoever asks
about a path asks this process, and waits while it is stopped. It ends when the mount point is unmounted.
"""

from __future__ import annotations

import ctypes
import errno
import os
import struct
import sys

ROOT_ID = 1
# Numbers of requests that get no answer: FORGET, INTERRUPT, BATCH_FORGET.
SILENT = {2, 36, 42}
SET_MODE, SET_OWNER, SET_GROUP, SET_SIZE, SET_ATIME, SET_MTIME = 1, 2, 4, 8, 16, 32


class Server:
    """Requests are methods, by their names in linux/fuse.h."""

    def __init__(self, directory: bytes, device: int) -> None:
        self.device = device
        self.paths = {ROOT_ID: directory}
        self.nodes = {directory: ROOT_ID}

    def serve(self) -> None:
        while True:
            try:
                request = os.read(self.device, 1 << 20)
            except OSError as error:
                if error.errno in (errno.EINTR, errno.ENOENT, errno.EAGAIN):
                    continue
                return
            number, unique, node = struct.unpack_from("<4xIQQ", request)
            if number in SILENT:
                continue
            status, answer = 0, b""
            try:
                method = getattr(self, NAMES.get(number, "none"), None)
                if method is None:
                    raise OSError(errno.ENOSYS, "")
                answer = method(self.paths.get(node, b"/nowhere"), request[40:])
            except OSError as error:
                status = -(error.errno or errno.EIO)
            os.write(self.device, struct.pack("<IiQ", 16 + len(answer), status, unique) + answer)

    def attributes(self, path: bytes, file: int | None = None) -> bytes:
        status = os.lstat(path) if file is None else os.fstat(file)
        times = (status.st_atime_ns, status.st_mtime_ns, status.st_ctime_ns)
        seconds, rest = zip(*(divmod(time, 10**9) for time in times))
        sizes = (status.st_ino, status.st_size, status.st_blocks)
        owner = (status.st_mode, status.st_nlink, status.st_uid, status.st_gid, status.st_rdev, status.st_blksize, 0)
        return struct.pack("<6Q10I", *sizes, *seconds, *rest, *owner)

    def entry(self, path: bytes) -> bytes:
        attributes = self.attributes(path)
        node = self.nodes.setdefault(path, len(self.paths) + ROOT_ID)
        self.paths[node] = path
        return struct.pack("<4Q2I", node, 0, 0, 0, 0, 0) + attributes

    def forget(self, path: bytes) -> None:
        """Another object may get the name: it is another node."""
        self.nodes.pop(path, None)

    @staticmethod
    def name(rest: bytes) -> bytes:
        return rest.split(b"\0")[0]

    def init(self, _: bytes, rest: bytes) -> bytes:
        major, minor, readahead = struct.unpack_from("<III", rest)
        return struct.pack("<IIIIHHIIHHI28x", major, min(minor, 31), readahead, 0, 16, 12, 1 << 17, 1, 32, 0, 0)

    def lookup(self, path: bytes, rest: bytes) -> bytes:
        return self.entry(os.path.join(path, self.name(rest)))

    def getattr(self, path: bytes, _: bytes) -> bytes:
        return struct.pack("<QII", 0, 0, 0) + self.attributes(path)

    def setattr(self, path: bytes, rest: bytes) -> bytes:
        valid, _, size, _, atime, mtime, _ = struct.unpack_from("<I4xQQQQQQ", rest)
        atime_ns, mtime_ns, _, mode, owner, group = struct.unpack_from("<IIII4xII", rest, 56)
        if valid & SET_MODE:
            os.chmod(path, mode & 0o7777)
        if valid & (SET_OWNER | SET_GROUP):
            os.lchown(path, owner if valid & SET_OWNER else -1, group if valid & SET_GROUP else -1)
        if valid & SET_SIZE:
            os.truncate(path, size)
        if valid & SET_ATIME and valid & SET_MTIME:
            os.utime(path, ns=(atime * 10**9 + atime_ns, mtime * 10**9 + mtime_ns))
        return self.getattr(path, b"")

    def readlink(self, path: bytes, _: bytes) -> bytes:
        return os.readlink(path)

    def mkdir(self, path: bytes, rest: bytes) -> bytes:
        new = os.path.join(path, self.name(rest[8:]))
        os.mkdir(new, struct.unpack_from("<I", rest)[0] & 0o7777)
        return self.entry(new)

    def unlink(self, path: bytes, rest: bytes) -> bytes:
        os.unlink(os.path.join(path, self.name(rest)))
        self.forget(os.path.join(path, self.name(rest)))
        return b""

    def rmdir(self, path: bytes, rest: bytes) -> bytes:
        os.rmdir(os.path.join(path, self.name(rest)))
        self.forget(os.path.join(path, self.name(rest)))
        return b""

    def rename(self, path: bytes, rest: bytes, names_at: int = 8) -> bytes:
        target = self.paths[struct.unpack_from("<Q", rest)[0]]
        old, new = rest[names_at:].split(b"\0")[:2]
        old, new = os.path.join(path, old), os.path.join(target, new)
        os.rename(old, new)
        self.forget(new)
        for known, node in list(self.nodes.items()):
            if known == old or known.startswith(old + b"/"):
                moved = new + known[len(old) :]
                del self.nodes[known]
                self.nodes[moved], self.paths[node] = node, moved
        return b""

    def rename2(self, path: bytes, rest: bytes) -> bytes:
        if struct.unpack_from("<8xI", rest)[0] != 0:
            raise OSError(errno.EINVAL, "")
        return self.rename(path, rest, 16)

    def link(self, path: bytes, rest: bytes) -> bytes:
        new = os.path.join(path, self.name(rest[8:]))
        os.link(self.paths[struct.unpack_from("<Q", rest)[0]], new)
        return self.entry(new)

    def open(self, path: bytes, rest: bytes) -> bytes:
        file = os.open(path, struct.unpack_from("<I", rest)[0] & ~(os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW))
        return struct.pack("<QII", file, 0, 0)

    def create(self, path: bytes, rest: bytes) -> bytes:
        flags, mode = struct.unpack_from("<II", rest)
        new = os.path.join(path, self.name(rest[16:]))
        file = os.open(new, flags | os.O_CREAT, mode & 0o7777)
        return self.entry(new) + struct.pack("<QII", file, 0, 0)

    def read(self, _: bytes, rest: bytes) -> bytes:
        file, offset, size = struct.unpack_from("<QQI", rest)
        return os.pread(file, size, offset)

    def write(self, _: bytes, rest: bytes) -> bytes:
        file, offset, size = struct.unpack_from("<QQI", rest)
        return struct.pack("<II", os.pwrite(file, rest[40 : 40 + size], offset), 0)

    def release(self, _: bytes, rest: bytes) -> bytes:
        os.close(struct.unpack_from("<Q", rest)[0])
        return b""

    def fsync(self, _: bytes, rest: bytes) -> bytes:
        os.fsync(struct.unpack_from("<Q", rest)[0])
        return b""

    def flush(self, *_: bytes) -> bytes:
        return b""

    def statfs(self, path: bytes, _: bytes) -> bytes:
        free = os.statvfs(path)
        counts = (free.f_blocks, free.f_bfree, free.f_bavail, free.f_files, free.f_ffree)
        return struct.pack("<5Q4I24x", *counts, free.f_bsize, 255, free.f_frsize, 0)

    def opendir(self, *_: bytes) -> bytes:
        return struct.pack("<QII", 0, 0, 0)

    def readdir(self, path: bytes, rest: bytes) -> bytes:
        offset, size = struct.unpack_from("<8xQI", rest)
        answer = b""
        for number, entry in enumerate(sorted(os.scandir(path), key=lambda entry: entry.name), 1):
            if number <= offset:
                continue
            kind = 4 if entry.is_dir(follow_symlinks=False) else 10 if entry.is_symlink() else 8
            one = struct.pack("<QQII", entry.inode(), number, len(entry.name), kind) + os.fsencode(entry.name)
            one += bytes(-len(one) % 8)
            if len(answer) + len(one) > size:
                break
            answer += one
        return answer

    def releasedir(self, *_: bytes) -> bytes:
        return b""


NAMES = {
    1: "lookup",
    3: "getattr",
    4: "setattr",
    5: "readlink",
    9: "mkdir",
    10: "unlink",
    11: "rmdir",
    12: "rename",
    13: "link",
    14: "open",
    15: "read",
    16: "write",
    17: "statfs",
    18: "release",
    20: "fsync",
    25: "flush",
    26: "init",
    27: "opendir",
    28: "readdir",
    29: "releasedir",
    35: "create",
    45: "rename2",
}


def main() -> None:
    directory, point = (os.fsencode(argument) for argument in sys.argv[1:])
    device = os.open("/dev/fuse", os.O_RDWR)
    libc = ctypes.CDLL(None, use_errno=True)
    options = f"fd={device},rootmode=40000,user_id=0,group_id=0,allow_other".encode()
    if libc.mount(b"pyinotifyd-test", point, b"fuse", 0, options) != 0:
        sys.exit(os.strerror(ctypes.get_errno()))
    print("mounted", flush=True)
    Server(directory, device).serve()


if __name__ == "__main__":
    main()
