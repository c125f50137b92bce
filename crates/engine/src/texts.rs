//! Where the paths of tasks are kept: chunks of bytes, cut into blocks.
//!
//! A heap allocation a path would cost 16 bytes for its pointer and 8 to 24 for the allocator; with a million tasks
//! that is a quarter of all. Blocks are multiples of eight bytes, freed ones are chained by size. Whoever owns the
//! blocks moves them together ([`Texts::is_sparse`]) when more bytes are free than used, so that what a peak took comes
//! back.

/// Size of the smallest block, and of the step between sizes.
const UNIT: usize = 8;

/// Blocks up to this many units (512 bytes: nearly all paths) have a chain for each size. Longer ones are rounded up
/// to a power of two, so that a stream of ever longer paths cannot leave a chain for each length.
const EXACT_UNITS: usize = 64;

/// One chain a size: the exact ones, then the powers of two up to 2^31 units.
const CHAINS: usize = EXACT_UNITS + 26;

/// Units of a chunk: 64 KiB. Chunks never move, so that growing costs the same for each event. A text that is longer
/// has a chunk for itself.
const CHUNK_UNITS: usize = 8_192;

/// Below this size, holes are not worth a move.
const SPARSE_BYTES_MIN: usize = 1 << 20;

/// The end of a chain of free blocks.
const NO_BLOCK: u32 = u32::MAX;

/// Place of a block, in units, as if all chunks had the same size. Its owner remembers how long its text is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Block(u32);

/// The blocks.
pub(crate) struct Texts {
    chunks: Vec<Vec<u8>>,
    /// Bytes that were cut off chunks, free blocks included.
    cut_bytes: usize,
    /// First free block of each size; a free block starts with the place of the next one.
    free: [u32; CHAINS],
    used_bytes: usize,
}

impl Texts {
    pub(crate) fn new() -> Texts {
        Texts { chunks: Vec::new(), cut_bytes: 0, free: [NO_BLOCK; CHAINS], used_bytes: 0 }
    }

    /// Bytes in blocks that are in use.
    pub(crate) fn used_bytes(&self) -> usize {
        self.used_bytes
    }

    /// Bytes that were taken from the allocator.
    pub(crate) fn capacity_bytes(&self) -> usize {
        self.chunks.iter().map(Vec::capacity).sum()
    }

    /// The first `len` bytes of a block.
    #[inline]
    pub(crate) fn get(&self, block: Block, len: usize) -> &[u8] {
        &self.chunks[chunk(block)][start(block)..][..len]
    }

    /// Keeps the parts, one after the other, in a new block.
    #[inline]
    pub(crate) fn insert(&mut self, parts: &[&[u8]]) -> Block {
        let (chain, units) = size_of(parts.iter().map(|part| part.len()).sum());
        self.used_bytes += units * UNIT;
        let block = match self.free[chain] {
            NO_BLOCK => self.append(units),
            place => {
                let next = self.get(Block(place), 4);
                self.free[chain] = u32::from_ne_bytes([next[0], next[1], next[2], next[3]]);
                Block(place)
            }
        };
        self.write(block, parts);
        block
    }

    /// Replaces the text of a block, which had `old_len` bytes; the block moves if its size does not fit any more.
    pub(crate) fn replace(&mut self, block: Block, old_len: usize, parts: &[&[u8]]) -> Block {
        if size_of(old_len) == size_of(parts.iter().map(|part| part.len()).sum()) {
            self.write(block, parts);
            return block;
        }
        self.remove(block, old_len);
        self.insert(parts)
    }

    /// Frees a block whose text had `len` bytes.
    #[inline]
    pub(crate) fn remove(&mut self, block: Block, len: usize) {
        let (chain, units) = size_of(len);
        self.used_bytes -= units * UNIT;
        let next = self.free[chain].to_ne_bytes();
        self.chunks[chunk(block)][start(block)..][..4].copy_from_slice(&next);
        self.free[chain] = block.0;
    }

    /// Whether most of the bytes are holes, so that all texts should be inserted in a new store.
    pub(crate) fn is_sparse(&self) -> bool {
        let free_bytes = self.cut_bytes - self.used_bytes;
        free_bytes > SPARSE_BYTES_MIN && free_bytes > self.used_bytes
    }

    fn append(&mut self, units: usize) -> Block {
        let room = self.chunks.last().map_or(0, |last| (CHUNK_UNITS * UNIT).saturating_sub(last.len()));
        if room < units * UNIT {
            self.chunks.push(Vec::with_capacity(units.max(CHUNK_UNITS) * UNIT));
        }
        let number = self.chunks.len() - 1;
        let chunk = &mut self.chunks[number];
        let place = number * CHUNK_UNITS + chunk.len() / UNIT;
        let place = u32::try_from(place).expect("Limits::bytes_max keeps texts below 32 GiB");
        chunk.resize(chunk.len() + units * UNIT, 0);
        self.cut_bytes += units * UNIT;
        Block(place)
    }

    #[inline]
    fn write(&mut self, block: Block, parts: &[&[u8]]) {
        let chunk = &mut self.chunks[chunk(block)];
        let mut at = start(block);
        for part in parts {
            chunk[at..at + part.len()].copy_from_slice(part);
            at += part.len();
        }
    }
}

fn chunk(block: Block) -> usize {
    block.0 as usize / CHUNK_UNITS
}

fn start(block: Block) -> usize {
    block.0 as usize % CHUNK_UNITS * UNIT
}

/// The chain and the size in units of a block for `len` bytes.
fn size_of(len: usize) -> (usize, usize) {
    let units = len.div_ceil(UNIT).max(1);
    if units <= EXACT_UNITS {
        return (units - 1, units);
    }
    let rounded = units.next_power_of_two();
    let power = (rounded / EXACT_UNITS).trailing_zeros() as usize;
    (EXACT_UNITS - 1 + power, rounded)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_rise_with_lengths_and_hold_the_text() {
        let cases = [(0, (0, 1)), (1, (0, 1)), (8, (0, 1)), (9, (1, 2)), (45, (5, 6)), (512, (63, 64))];
        for (len, expected) in cases {
            assert_eq!(size_of(len), expected, "{len}");
        }
        assert_eq!(size_of(513), (64, 128));
        assert_eq!(size_of(1024), (64, 128));
        assert_eq!(size_of(1025), (65, 256));
        assert!(size_of(u32::MAX as usize).0 < CHAINS);
    }

    #[test]
    fn a_freed_block_is_used_again() {
        let mut texts = Texts::new();
        let first = texts.insert(&[b"/srv/in/a"]);
        let second = texts.insert(&[b"/srv", b"/in", b"/b"]);
        texts.remove(first, 9);
        let third = texts.insert(&[b"/srv/in/c"]);
        assert_eq!(first, third);
        assert_eq!(texts.get(second, 9), b"/srv/in/b");
        assert_eq!(texts.get(third, 9), b"/srv/in/c");
        assert_eq!((texts.cut_bytes, texts.used_bytes()), (32, 32));
    }

    #[test]
    fn a_text_that_grows_moves_to_a_larger_block() {
        let mut texts = Texts::new();
        let old = texts.insert(&[b"/a"]);
        let same = texts.replace(old, 2, &[b"/b", b"/c"]);
        assert_eq!((old, texts.get(same, 4)), (same, b"/b/c".as_slice()));
        let moved = texts.replace(same, 4, &[b"/b", b"/cccccccccccc"]);
        assert_ne!(same, moved);
        assert_eq!(texts.get(moved, 15), b"/b/cccccccccccc");
    }

    #[test]
    fn holes_are_noticed() {
        let mut texts = Texts::new();
        let text = [7; 100];
        let blocks: Vec<Block> = (0..20_000).map(|_| texts.insert(&[&text])).collect();
        assert!(!texts.is_sparse());
        for block in &blocks[1..] {
            texts.remove(*block, text.len());
        }
        assert!(texts.is_sparse());
    }

    #[test]
    fn texts_longer_than_a_chunk_are_kept() {
        let mut texts = Texts::new();
        let short = texts.insert(&[b"/a"]);
        let long = vec![b'l'; 3 * CHUNK_UNITS * UNIT];
        let block = texts.insert(&[&long]);
        let after = texts.insert(&[b"/b"]);
        assert_eq!(texts.get(short, 2), b"/a");
        assert_eq!(texts.get(block, long.len()), long);
        assert_eq!(texts.get(after, 2), b"/b");
    }
}
