//! A row of values that grows without moving: chunks of equal size, each taken from the allocator once.
//!
//! A `Vec` that doubles copies, or remaps, all it has within the one event that overflows it, and leaves a hole of half
//! its size in the heap; with a million tasks that is tens of milliseconds and as many megabytes.

use std::ops::{Index, IndexMut};

/// Values by number.
pub(crate) struct Chunks<T, const CHUNK: usize> {
    chunks: Vec<Box<[T; CHUNK]>>,
    len: usize,
}

impl<T: Copy, const CHUNK: usize> Chunks<T, CHUNK> {
    pub(crate) const fn new() -> Self {
        Chunks { chunks: Vec::new(), len: 0 }
    }

    /// How many values there are.
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// How many values there is room for.
    pub(crate) fn capacity(&self) -> usize {
        self.chunks.len() * CHUNK
    }

    pub(crate) fn push(&mut self, value: T) {
        if self.len == self.capacity() {
            self.add_chunk(value);
        }
        self.len += 1;
        let last = self.len - 1;
        self[last] = value;
    }

    /// A chunk is full from the start, so that its end need not be looked up with each value.
    #[cold]
    fn add_chunk(&mut self, value: T) {
        let chunk = vec![value; CHUNK].try_into();
        self.chunks.push(chunk.unwrap_or_else(|_| unreachable!("it is made as long as that")));
    }

    pub(crate) fn get(&self, at: usize) -> Option<&T> {
        (at < self.len).then(|| &self[at])
    }

    pub(crate) fn iter_mut(&mut self) -> impl Iterator<Item = &mut T> {
        self.chunks.iter_mut().flat_map(|chunk| chunk.iter_mut()).take(self.len)
    }
}

impl<T, const CHUNK: usize> Index<usize> for Chunks<T, CHUNK> {
    type Output = T;

    #[inline]
    fn index(&self, at: usize) -> &T {
        &self.chunks[at / CHUNK][at % CHUNK]
    }
}

impl<T, const CHUNK: usize> IndexMut<usize> for Chunks<T, CHUNK> {
    #[inline]
    fn index_mut(&mut self, at: usize) -> &mut T {
        &mut self.chunks[at / CHUNK][at % CHUNK]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_found_by_number_across_chunks() {
        let mut chunks: Chunks<usize, 4> = Chunks::new();
        assert_eq!((chunks.len(), chunks.get(0)), (0, None));
        (0..9).for_each(|value| chunks.push(value));
        assert_eq!((chunks.len(), chunks.capacity()), (9, 12));
        assert!((0..9).all(|at| chunks[at] == at && chunks.get(at) == Some(&at)));
        chunks[5] = 50;
        assert_eq!(chunks.iter_mut().map(|value| *value).sum::<usize>(), 36 + 45);
        assert_eq!(chunks.get(9), None);
    }
}
