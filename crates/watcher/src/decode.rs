//! The bytes that read(2) returns for an inotify descriptor, taken apart.
//!
//! Layout from inotify(7): `struct inotify_event { int wd; uint32_t mask, cookie, len; char name[]; }` in the machine's
//! byte order, `name` padded with NULs to `len`. Owns no state and trusts nothing: any bytes at all give a list of
//! events and then an end, never a panic.

/// Bytes before the name.
pub const HEADER: usize = 16;

/// The longest event: header, NAME_MAX (255) and the NUL, rounded up to the header's size as the kernel does.
pub const EVENT_MAX: usize = HEADER + 256;

/// One event of the kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RawEvent<'a> {
    /// Watch descriptor, -1 for an overflow.
    pub wd: i32,
    /// Event bit and `IN_ISDIR`.
    pub mask: u32,
    /// Ties the two halves of a rename together.
    pub cookie: u32,
    /// Name inside the watched directory without padding; empty for events of the watched object itself.
    pub name: &'a [u8],
}

/// The first event of `bytes` and the length of its record, or `None` if no whole event is there.
///
/// # Panics
/// Never: four bytes of a header are always four bytes.
pub fn first(bytes: &[u8]) -> Option<(RawEvent<'_>, usize)> {
    let (header, rest) = bytes.split_first_chunk::<HEADER>()?;
    let word = |at: usize| {
        let chunk = header[at..at + 4].try_into().expect("four bytes are four bytes");
        u32::from_ne_bytes(chunk)
    };
    let len = word(12) as usize;
    let padded = rest.get(..len)?;
    let name = &padded[..name_len(padded)];
    let event = RawEvent { wd: word(0) as i32, mask: word(4), cookie: word(8), name };
    Some((event, HEADER + len))
}

/// Where the first NUL is, if there is one. The kernel pads to blocks of the header's size, and most names fit in one:
/// a block is looked at as one number.
fn name_len(padded: &[u8]) -> usize {
    const ONES: u128 = u128::from_ne_bytes([0x01; HEADER]);
    const HIGH_BITS: u128 = u128::from_ne_bytes([0x80; HEADER]);
    let (blocks, rest) = padded.as_chunks::<HEADER>();
    for (number, block) in blocks.iter().enumerate() {
        let block = u128::from_le_bytes(*block);
        // Taking one from each byte sets the high bit of the first zero byte; what it borrows is from bytes behind.
        let zeros = block.wrapping_sub(ONES) & !block & HIGH_BITS;
        if zeros != 0 {
            return number * HEADER + (zeros.trailing_zeros() / u8::BITS) as usize;
        }
    }
    let in_blocks = blocks.len() * HEADER;
    rest.iter().position(|&byte| byte == 0).map_or(padded.len(), |at| in_blocks + at)
}

/// All whole events of `bytes`.
pub fn events(bytes: &[u8]) -> impl Iterator<Item = RawEvent<'_>> {
    let mut rest = bytes;
    std::iter::from_fn(move || {
        let (event, len) = first(rest)?;
        rest = &rest[len..];
        Some(event)
    })
}

/// Appends the record of `event` to `bytes`, as the kernel would write it. For tests and benchmarks.
pub fn encode(event: &RawEvent<'_>, bytes: &mut Vec<u8>) {
    // The kernel rounds name and NUL up to a multiple of the header's size; no name, no padding.
    let len = if event.name.is_empty() { 0 } else { (event.name.len() + 1).next_multiple_of(HEADER) };
    for word in [event.wd as u32, event.mask, event.cookie, len as u32] {
        bytes.extend_from_slice(&word.to_ne_bytes());
    }
    bytes.extend_from_slice(event.name);
    bytes.resize(bytes.len() + len - event.name.len(), 0);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_encoded_is_decoded() {
        let names: [&[u8]; 5] = [b"", b"f", b"fifteen-letters", b"sixteen--letters", &[0xff; 255]];
        let sent: Vec<RawEvent<'_>> = (1..)
            .zip(names)
            .map(|(wd, name)| RawEvent { wd, mask: 0x4000_0100, cookie: 7 * wd as u32, name })
            .collect();
        let mut bytes = Vec::new();
        for event in &sent {
            encode(event, &mut bytes);
        }
        assert_eq!(events(&bytes).collect::<Vec<_>>(), sent);
    }

    #[test]
    fn cut_records_end_the_list() {
        let mut bytes = Vec::new();
        let event = RawEvent { wd: 1, mask: 2, cookie: 0, name: b"name" };
        encode(&event, &mut bytes);
        for len in 0..bytes.len() {
            assert_eq!(events(&bytes[..len]).count(), 0, "{len} bytes");
        }
        bytes.extend_from_within(..20);
        assert_eq!(events(&bytes).collect::<Vec<_>>(), [event]);
    }

    /// A byte with its high bit set, or of one, next to the NUL is not taken for it.
    #[test]
    fn a_name_ends_at_its_first_nul() {
        for len in 0..50 {
            for end in 0..=len {
                for filler in [1, 0x7f, 0x80, 0x81, 0xff] {
                    let mut padded = vec![filler; len];
                    padded[end.min(len)..].iter_mut().step_by(2).for_each(|byte| *byte = 0);
                    assert_eq!(name_len(&padded), end, "{padded:?}");
                }
            }
        }
    }

    /// Every byte of a header set to every interesting value: no panic, and no more events than fit.
    #[test]
    fn any_bytes_are_taken() {
        let mut bytes = vec![0; 64];
        for at in 0..64 {
            for value in [0, 1, 0x7f, 0x80, 0xff] {
                bytes[at] = value;
                assert!(events(&bytes).count() <= 4);
            }
        }
    }
}
