//! What kind of filesystem a path is on, as far as watching cares.

use std::os::fd::AsFd;

/// Filesystems whose changes are made elsewhere, out of inotify's sight (inotify(7), "Limitations and caveats").
/// Numbers from `<linux/magic.h>`.
const BLIND: [(u64, &str); 11] = [
    (0x6969, "NFS"),
    (0xff53_4d42, "CIFS"),
    (0xfe53_4d42, "SMB2"),
    (0x517b, "SMB"),
    (0x6573_5546, "FUSE"),
    (0x0102_1997, "9p"),
    (0x00c3_6400, "Ceph"),
    (0x5346_414f, "AFS"),
    (0x7375_7245, "Coda"),
    (0x9fa0, "proc"),
    (0x6265_6572, "sysfs"),
];

/// Filesystems whose directories count their subdirectories: two links mean none. ext2 to 4, xfs, tmpfs.
const COUNTING: [u64; 3] = [0xef53, 0x5846_5342, 0x0102_1994];

/// The type of the filesystem that a path is on, if changes made by other machines (or by the kernel itself) stay
/// unseen there.
pub fn network_filesystem(path: &[u8]) -> Option<&'static str> {
    let flags = rustix::fs::OFlags::PATH | rustix::fs::OFlags::CLOEXEC;
    blind_type(rustix::fs::open(path, flags, rustix::fs::Mode::empty()).ok()?)
}

/// The type's name, if changes made by other machines (or by the kernel itself) stay unseen there.
pub(crate) fn blind_type(object: impl AsFd) -> Option<&'static str> {
    let magic = magic(object)?;
    BLIND.iter().find(|(number, _)| *number == magic).map(|(_, name)| *name)
}

/// Whether a directory with two links is sure to have no subdirectories.
pub(crate) fn counts_subdirectories(object: impl AsFd) -> bool {
    magic(object).is_some_and(|magic| COUNTING.contains(&magic))
}

fn magic(object: impl AsFd) -> Option<u64> {
    // The field's type differs by architecture; the numbers have 32 bits.
    let statfs = rustix::fs::fstatfs(object).ok()?;
    Some(statfs.f_type as u64 & 0xffff_ffff)
}

/// Mount points of this mount namespace, from the text of /proc/self/mountinfo (proc(5)): the fifth field, with
/// blanks, tabs, newlines and backslashes as octal escapes.
pub(crate) fn mount_points(mountinfo: &[u8]) -> impl Iterator<Item = Vec<u8>> + '_ {
    let lines = mountinfo.split(|&byte| byte == b'\n');
    lines.filter_map(|line| line.split(|&byte| byte == b' ').nth(4)).map(unescape)
}

fn unescape(field: &[u8]) -> Vec<u8> {
    let mut path = Vec::with_capacity(field.len());
    let mut rest = field;
    while let Some((&byte, tail)) = rest.split_first() {
        match *tail {
            [high @ b'0'..=b'3', middle @ b'0'..=b'7', low @ b'0'..=b'7', ref after @ ..]
                if byte == b'\\' =>
            {
                path.push((high - b'0') << 6 | (middle - b'0') << 3 | (low - b'0'));
                rest = after;
            }
            _ => {
                path.push(byte);
                rest = tail;
            }
        }
    }
    path
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mount_points_are_unescaped() {
        let text = b"36 35 98:0 /mnt1 /mnt/a\\040b\\134c rw,noatime master:1 - ext3 /dev/root rw\n\
                     22 1 0:21 / /proc rw - proc proc rw\n";
        let points: Vec<_> = mount_points(text).collect();
        assert_eq!(points, [b"/mnt/a b\\c".to_vec(), b"/proc".to_vec()]);
    }

    #[test]
    fn proc_is_blind_and_a_temporary_directory_is_not() {
        assert_eq!(blind_type(std::fs::File::open("/proc").unwrap()), Some("proc"));
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(blind_type(std::fs::File::open(dir.path()).unwrap()), None);
    }
}
