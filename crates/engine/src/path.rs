//! The path of the event in hand, with what is worth knowing of it once for all schedulers.

use std::hash::Hasher;

use foldhash::SharedSeed;
use foldhash::quality::FoldHasher;

/// A path with its hash.
#[derive(Clone, Copy)]
pub(crate) struct Path<'a> {
    pub(crate) bytes: &'a [u8],
    pub(crate) hash: u32,
    /// Equal for events of one path that follow each other, so that what patterns said of it can be kept.
    pub(crate) serial: u64,
}

impl Path<'_> {
    /// A serial that no kept answer has.
    pub(crate) const UNCACHED: u64 = 0;
}

/// Hashes paths, and remembers the latest one.
///
/// A file that is written gives five events and more in a row. Comparing a path with the one before is several times
/// cheaper than matching it, and a little cheaper than hashing it.
pub(crate) struct Paths {
    /// Those who choose file names must not be able to choose equal hashes: all keys of the hash come from the seed.
    seed: u64,
    shared_seed: SharedSeed,
    latest: Vec<u8>,
    latest_hash: u32,
    latest_serial: u64,
}

impl Paths {
    pub(crate) fn new(seed: u64) -> Paths {
        let shared_seed = SharedSeed::from_u64(seed);
        Paths { seed, shared_seed, latest: Vec::new(), latest_hash: 0, latest_serial: Path::UNCACHED }
    }

    /// The path of an event.
    pub(crate) fn see<'a>(&mut self, bytes: &'a [u8]) -> Path<'a> {
        if self.latest_serial == Path::UNCACHED || self.latest != bytes {
            self.latest.clear();
            self.latest.extend_from_slice(bytes);
            self.latest_hash = self.hash(bytes);
            self.latest_serial += 1;
        }
        Path { bytes, hash: self.latest_hash, serial: self.latest_serial }
    }

    /// A path to ask about, which leaves no trace.
    pub(crate) fn look<'a>(&self, bytes: &'a [u8]) -> Path<'a> {
        Path { bytes, hash: self.hash(bytes), serial: Path::UNCACHED }
    }

    fn hash(&self, bytes: &[u8]) -> u32 {
        let mut hasher = FoldHasher::with_seed(self.seed, &self.shared_seed);
        hasher.write(bytes);
        (hasher.finish() >> 32) as u32
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_keeps_its_serial_while_it_comes_again() {
        let mut paths = Paths::new(1);
        let first = paths.see(b"/a").serial;
        assert_eq!(paths.see(b"/a").serial, first);
        assert_ne!(paths.see(b"/b").serial, first);
        assert_ne!(paths.see(b"/a").serial, first);
        assert_eq!(paths.look(b"/a").serial, Path::UNCACHED);
    }

    #[test]
    fn the_seed_changes_the_hash() {
        let hash = |seed| Paths::new(seed).see(b"/srv/in/file").hash;
        assert_eq!(hash(1), hash(1));
        assert_ne!(hash(1), hash(2));
    }

    #[test]
    fn the_empty_path_is_a_path() {
        let mut paths = Paths::new(1);
        assert_ne!(paths.see(b"").serial, Path::UNCACHED);
    }
}
