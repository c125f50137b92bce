//! What the types of filesystems mean to us, by their names in the table of mounts.

/// Filesystems that are answered by this machine's kernel, from memory or from a block device.
///
/// Everything else may wait for a server, for a process or for an administrator (autofs). A cluster's filesystems
/// (gfs2, ocfs2) wait for other machines' locks. A block device can be remote, too; nothing says so.
const LOCAL: [&[u8]; 47] = [
    // Disks.
    b"ext2",
    b"ext3",
    b"ext4",
    b"xfs",
    b"btrfs",
    b"bcachefs",
    b"zfs",
    b"f2fs",
    b"jfs",
    b"reiserfs",
    b"nilfs2",
    b"ntfs3",
    b"ntfs",
    b"vfat",
    b"msdos",
    b"exfat",
    b"hfs",
    b"hfsplus",
    b"apfs",
    b"udf",
    b"iso9660",
    b"minix",
    b"ufs",
    b"affs",
    b"adfs",
    b"befs",
    b"bfs",
    b"omfs",
    b"hpfs",
    b"qnx4",
    b"qnx6",
    b"sysv",
    b"zonefs",
    b"jffs2",
    b"ubifs",
    // Read only images.
    b"squashfs",
    b"erofs",
    b"cramfs",
    b"romfs",
    // Memory.
    b"tmpfs",
    b"ramfs",
    b"rootfs",
    b"devtmpfs",
    b"hugetlbfs",
    // Layers over others, which are local as a rule.
    b"overlay",
    b"aufs",
    b"ecryptfs",
];

/// Filesystems in which the kernel shows itself: local, and nobody keeps files there.
const OF_KERNEL: [&[u8]; 15] = [
    b"proc",
    b"sysfs",
    b"devpts",
    b"mqueue",
    b"cgroup",
    b"cgroup2",
    b"debugfs",
    b"tracefs",
    b"securityfs",
    b"configfs",
    b"bpf",
    b"pstore",
    b"efivarfs",
    b"binfmt_misc",
    b"nsfs",
];

/// Filesystems whose changes are made elsewhere, out of inotify's sight (inotify(7), "Limitations and caveats"), by the
/// names that people know. A type of FUSE has a subtype after a dot.
const UNSEEN: [(&[u8], &str); 21] = [
    (b"nfs", "NFS"),
    (b"nfs4", "NFS"),
    (b"cifs", "CIFS"),
    (b"smb3", "SMB"),
    (b"smbfs", "SMB"),
    (b"fuse", "FUSE"),
    (b"fuseblk", "FUSE"),
    (b"9p", "9p"),
    (b"virtiofs", "virtiofs"),
    (b"ceph", "Ceph"),
    (b"afs", "AFS"),
    (b"coda", "Coda"),
    (b"lustre", "Lustre"),
    (b"gfs2", "GFS2"),
    (b"ocfs2", "OCFS2"),
    (b"orangefs", "OrangeFS"),
    (b"gpfs", "GPFS"),
    (b"beegfs", "BeeGFS"),
    (b"vboxsf", "vboxsf"),
    (b"proc", "proc"),
    (b"sysfs", "sysfs"),
];

/// Filesystems whose directories count their subdirectories: two links mean none.
const COUNTING: [&[u8]; 5] = [b"ext2", b"ext3", b"ext4", b"xfs", b"tmpfs"];

/// Whether calls on such a filesystem wait for nothing but this machine.
pub(crate) fn is_local(fstype: &[u8]) -> bool {
    LOCAL.contains(&fstype) || is_of_kernel(fstype)
}

/// Whether the kernel alone makes files there.
pub(crate) fn is_of_kernel(fstype: &[u8]) -> bool {
    OF_KERNEL.contains(&fstype)
}

/// What people call a filesystem that may change without an event of inotify.
pub(crate) fn unseen(fstype: &[u8]) -> Option<&'static str> {
    let family = fstype.split(|&byte| byte == b'.').next().unwrap_or(fstype);
    UNSEEN.iter().find(|(name, _)| *name == family).map(|(_, name)| *name)
}

/// Whether a directory with two links is sure to have no subdirectories.
pub(crate) fn counts_subdirectories(fstype: &[u8]) -> bool {
    COUNTING.contains(&fstype)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn types_are_told_apart() {
        for fstype in ["ext4", "xfs", "btrfs", "tmpfs", "overlay", "ntfs3", "proc", "cgroup2"] {
            assert!(is_local(fstype.as_bytes()), "{fstype}");
        }
        let remote =
            ["nfs", "nfs4", "cifs", "fuse", "fuse.sshfs", "fuseblk", "9p", "autofs", "ceph", "what", ""];
        for fstype in remote {
            assert!(!is_local(fstype.as_bytes()), "{fstype}");
        }
        assert!(is_of_kernel(b"sysfs") && !is_of_kernel(b"devtmpfs"));
    }

    #[test]
    fn what_inotify_does_not_see_has_a_name() {
        let cases = [
            ("nfs4", Some("NFS")),
            ("fuse.sshfs", Some("FUSE")),
            ("fuseblk", Some("FUSE")),
            ("proc", Some("proc")),
            ("ext4", None),
            ("fused", None),
        ];
        for (fstype, name) in cases {
            assert_eq!(unseen(fstype.as_bytes()), name, "{fstype}");
        }
    }
}
