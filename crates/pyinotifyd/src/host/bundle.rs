//! What `python3` reads at its start: the boot script, and the bundle with the package.
//!
//! Owns where these are. The bundle is a quarter of a megabyte of which an interpreter reads a fifth, so it is read
//! from the program's own file: no page of it comes into the daemon's memory, and no copy is made.

use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileExt as _;

use rustix::fs::{MemfdFlags, memfd_create};

/// What python3 runs: it makes the bundle importable and starts the host.
const BOOT: &[u8] = include_bytes!("../../python/boot.py");
/// The Python package, with bytecode for the interpreters that were there at the build, see build.rs.
static BUNDLE: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/host.bundle"));
/// So much of the bundle is compared to be sure of its place: most of the line with the sizes of its sections.
const COMPARED: usize = 64;

/// An open file with the bundle in it.
#[derive(Debug)]
pub(super) struct Bundle {
    /// The file.
    pub file: OwnedFd,
    /// Where in it the bundle begins.
    pub offset: u64,
}

/// The boot script as a file: the current directory is not on `sys.path`, and both halves are of one build.
///
/// # Errors
/// Whatever keeps a memory file from being made.
pub(super) fn boot() -> io::Result<OwnedFd> {
    memory_file(BOOT)
}

/// The bundle in the program's own file; a copy in memory where that file can't be read.
///
/// # Errors
/// Whatever keeps a memory file from being made.
pub(super) fn bundle() -> io::Result<Bundle> {
    if let Some(bundle) = in_own_file() {
        return Ok(bundle);
    }
    Ok(Bundle { file: memory_file(BUNDLE)?, offset: 0 })
}

/// Finds the bundle in the program's file, as it is mapped. What the program was started by may be another file
/// (ld.so), and its file may not be readable (mode 0711), so what is found is looked at.
fn in_own_file() -> Option<Bundle> {
    let maps = std::fs::read("/proc/self/maps").ok()?;
    let offset = offset_of(&maps, BUNDLE.as_ptr().addr() as u64)?;
    let file = File::open("/proc/self/exe").ok()?;
    let mut begin = [0; COMPARED];
    file.read_exact_at(&mut begin, offset).ok()?;
    BUNDLE.starts_with(&begin).then(|| Bundle { file: file.into(), offset })
}

/// Where in its file the byte at `address` is, by proc_pid_maps(5): `BEGIN-END PERMISSIONS OFFSET ...`.
fn offset_of(maps: &[u8], address: u64) -> Option<u64> {
    maps.split(|byte| *byte == b'\n').find_map(|line| {
        let mut words = line.split(|byte| *byte == b' ').map(|word| str::from_utf8(word).ok());
        let hex = |text| u64::from_str_radix(text, 16).ok();
        let (begin, end) = words.next()??.split_once('-')?;
        let (begin, end) = (hex(begin)?, hex(end)?);
        let offset = hex(words.nth(1)??)?;
        (begin..end).contains(&address).then(|| address - begin + offset)
    })
}

fn memory_file(content: &[u8]) -> io::Result<OwnedFd> {
    let file = memfd_create("pyinotifyd", MemfdFlags::CLOEXEC)?;
    let mut rest = content;
    while !rest.is_empty() {
        let count = rustix::io::write(&file, rest)?;
        rest = &rest[count..];
    }
    Ok(file)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bundle_is_read_from_the_program() {
        let Bundle { file, offset } = in_own_file().expect("a test can read its program");
        let mut content = vec![0; BUNDLE.len()];
        File::from(file).read_exact_at(&mut content, offset).unwrap();
        assert!(content == BUNDLE);
    }

    #[test]
    fn a_copy_in_memory_holds_all() {
        let mut content = vec![0; BUNDLE.len()];
        File::from(memory_file(BUNDLE).unwrap()).read_exact_at(&mut content, 0).unwrap();
        assert!(content == BUNDLE);
    }

    #[test]
    fn maps_tell_where_an_address_is_in_its_file() {
        let maps = b"1000-3000 r--p 00000000 08:01 7 /bin/a\n3000-5000 r-xp 00001800 08:01 7 /bin/\xff b\n9000-a000 \
            rw-p 00000000 00:00 0\n";
        let cases = [
            (0x1000, Some(0)),
            (0x2fff, Some(0x1fff)),
            (0x3010, Some(0x1810)),
            (0x5000, None),
            (0xfff, None),
        ];
        for (address, offset) in cases {
            assert_eq!(offset_of(maps, address), offset, "{address:#x}");
        }
    }
}
