//! The table of mounts: what a line of /proc/self/mountinfo says (proc(5)).

use std::collections::HashMap;
use std::io;

use crate::kinds;
use crate::way::Way;

/// Where the kernel shows the mounts of our namespace that can be reached from our root directory.
const MOUNTINFO: &str = "/proc/self/mountinfo";

/// One mount.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mount {
    /// The kernel's number of this mount. Numbers are used again after an unmount.
    pub id: u32,
    /// `st_dev` of the filesystem; several mounts of it (bind mounts) share it. A subvolume of btrfs shows its files
    /// with a number of its own.
    pub device: u64,
    /// The directory of the filesystem that is mounted: not `/` of a bind mount of a part of it.
    pub root: Vec<u8>,
    /// The directory that it covers, as seen from our root directory.
    pub point: Vec<u8>,
    /// Type of filesystem, such as `ext4` or `fuse.sshfs`.
    pub fstype: Vec<u8>,
    /// Whether calls on it wait for nothing but this machine.
    pub is_local: bool,
}

impl Mount {
    /// What people call this type of filesystem, if it may change without an event of inotify: because other machines
    /// change it, or the kernel itself.
    pub fn unseen(&self) -> Option<&'static str> {
        kinds::unseen(&self.fstype)
    }

    /// Whether the kernel alone makes files there, as in /proc.
    pub fn is_of_kernel(&self) -> bool {
        kinds::is_of_kernel(&self.fstype)
    }

    /// Whether a directory with two links is sure to have no subdirectories here.
    pub fn counts_subdirectories(&self) -> bool {
        kinds::counts_subdirectories(&self.fstype)
    }
}

/// The mounts at one moment.
#[derive(Debug, Clone)]
pub struct Mounts {
    list: Vec<Mount>,
    /// What covers a directory (by its path) of a mount (by its place in `list`).
    covering: HashMap<(usize, Vec<u8>), usize>,
    /// Place in `list` of what a path begins on.
    root: usize,
}

impl Mounts {
    /// Reads the mounts as they are now.
    ///
    /// # Errors
    /// Those of reading a file: there is no /proc.
    pub fn read() -> io::Result<Mounts> {
        std::fs::read(MOUNTINFO).map(|text| Mounts::parse(&text))
    }

    /// Reads the text of a mountinfo file. Lines that it does not understand count for nothing.
    ///
    /// Where no line is about `/` (below a chroot(2) into a directory that is no mount point, or in an empty text), the
    /// root directory is on a filesystem of no type, which is not known to be local.
    pub fn parse(mountinfo: &[u8]) -> Mounts {
        let lines = mountinfo.split(|&byte| byte == b'\n');
        let (mut list, parents): (Vec<Mount>, Vec<u32>) = lines.filter_map(parse_line).unzip();
        let places: HashMap<u32, usize> = (0..).zip(&list).map(|(place, mount)| (mount.id, place)).collect();
        let is_start = |place: usize| list[place].point == b"/" && !places.contains_key(&parents[place]);
        let start = (0..list.len()).rev().find(|&place| is_start(place));
        let root = start.unwrap_or(list.len());
        let mut covering = HashMap::new();
        for (place, mount) in list.iter().enumerate() {
            // A mount that covers itself would be a loop.
            let parent =
                places.get(&parents[place]).copied().filter(|&parent| parent != place).unwrap_or(root);
            if place != root {
                covering.insert((parent, mount.point.clone()), place);
            }
        }
        if start.is_none() {
            let point = b"/".to_vec();
            let root = point.clone();
            list.push(Mount { id: 0, device: 0, root, point, fstype: Vec::new(), is_local: false });
        }
        let mut mounts = Mounts { list, covering, root };
        mounts.root = mounts.topmost(root, b"/");
        mounts
    }

    /// All mounts, in the order of the table, those that others hide included.
    pub fn iter(&self) -> impl Iterator<Item = &Mount> {
        self.list.iter()
    }

    /// For each mount that stands on another one: where it stands there, and what it shows.
    pub fn on_others(&self) -> impl Iterator<Item = (Way<'_>, Way<'_>)> {
        self.covering.iter().map(|((below, point), place)| {
            let way = |place: usize| Way { mount: self.at(place), path: point.clone() };
            (way(*below), way(*place))
        })
    }

    /// A mount of the filesystem with this `st_dev`.
    pub fn of_device(&self, device: u64) -> Option<&Mount> {
        self.list.iter().find(|mount| mount.device == device)
    }

    /// The mount at a place of the list.
    pub(crate) fn at(&self, place: usize) -> &Mount {
        &self.list[place]
    }

    /// Place in the list of what the root directory is on.
    pub(crate) fn root(&self) -> usize {
        self.root
    }

    /// Place in the list of what one finds at a directory of a mount: the last of those that are stacked there.
    pub(crate) fn topmost(&self, mut place: usize, point: &[u8]) -> usize {
        // As many steps as there are mounts: a table that we read in the middle of a change could hold a loop.
        for _ in 0..self.list.len() {
            let Some(&next) = self.covering.get(&(place, point.to_vec())) else { break };
            place = next;
        }
        place
    }
}

/// A mount and the number of the mount on which it stands.
fn parse_line(line: &[u8]) -> Option<(Mount, u32)> {
    let mut fields = line.split(|&byte| byte == b' ');
    let id = parse_number(fields.next()?)?;
    let parent = parse_number(fields.next()?)?;
    let device = fields.next()?;
    let colon = device.iter().position(|&byte| byte == b':')?;
    let device = rustix::fs::makedev(parse_number(&device[..colon])?, parse_number(&device[colon + 1..])?);
    let root = unescape(fields.next()?);
    let point = unescape(fields.next()?);
    // After the options of the mount come any number of further fields, up to a dash.
    fields.find(|&field| field == b"-")?;
    let fstype = unescape(fields.next()?);
    let is_local = kinds::is_local(&fstype);
    Some((Mount { id, device, root, point, fstype, is_local }, parent))
}

fn parse_number(field: &[u8]) -> Option<u32> {
    std::str::from_utf8(field).ok()?.parse().ok()
}

/// Blanks, tabs, newlines, backslashes (and `#`) stand in the table as octal escapes.
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
    fn a_line_is_taken_apart() {
        let text =
            b"36 35 98:0 /mnt1 /mnt/a\\040b\\134c\\012 rw,noatime master:1 shared:7 - ext3 /dev/root rw\n";
        let mounts = Mounts::parse(text);
        let mount = mounts.iter().next().unwrap();
        assert_eq!((mount.id, mount.point.as_slice()), (36, b"/mnt/a b\\c\n".as_slice()));
        assert_eq!((mount.fstype.as_slice(), mount.is_local), (b"ext3".as_slice(), true));
        assert_eq!(mount.device, rustix::fs::makedev(98, 0));
        assert!(mount.counts_subdirectories() && mount.unseen().is_none());
        assert_eq!(mounts.of_device(mount.device).map(|found| found.id), Some(36));
    }

    #[test]
    fn broken_lines_count_for_nothing() {
        let broken: [&[u8]; 6] = [
            b"",
            b"36",
            b"x 35 98:0 / /a rw - ext4 a rw",
            b"36 35 98 / /a rw - ext4 a rw",
            b"36 35 98:0 / /a rw ext4 a rw",
            b"36 35 98:0 / /a rw -",
        ];
        for line in broken {
            let points: Vec<_> = Mounts::parse(line).iter().map(|mount| mount.point.clone()).collect();
            assert_eq!(points, [b"/"], "{}", String::from_utf8_lossy(line));
        }
    }

    #[test]
    fn escapes_are_read_and_what_only_looks_like_one_stays() {
        for (field, path) in [
            (&b"/a\\040b"[..], &b"/a b"[..]),
            (b"/\\134040", b"/\\040"),
            (b"/a\\04", b"/a\\04"),
            (b"/a\\400", b"/a\\400"),
            (b"/\\377\xff", b"/\xff\xff"),
            (b"\\", b"\\"),
        ] {
            assert_eq!(unescape(field), path, "{}", String::from_utf8_lossy(field));
        }
    }
}
