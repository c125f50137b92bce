//! Any bytes as the kernel's queue: decoded as a second, plain reading of inotify(7) has them, and the same again after
//! they were written anew.
#![no_main]

use libfuzzer_sys::fuzz_target;
use watcher::decode::{EVENT_MAX, HEADER, RawEvent, encode, events, first};

fuzz_target!(|bytes: &[u8]| {
    let decoded: Vec<RawEvent<'_>> = events(bytes).collect();
    assert_eq!(decoded, plain(bytes));
    check_lengths(bytes, decoded.len());
    check_round_trip(&decoded);
    check_cut(bytes, &decoded);
});

/// The same list, read byte by byte.
fn plain(bytes: &[u8]) -> Vec<RawEvent<'_>> {
    let mut list = Vec::new();
    let mut at = 0;
    while bytes.len() - at >= HEADER {
        let word =
            |offset: usize| u32::from_ne_bytes(std::array::from_fn(|index| bytes[at + offset + index]));
        let name_at = at + HEADER;
        let len = word(12) as usize;
        if len > bytes.len() - name_at {
            break;
        }
        let padded = &bytes[name_at..name_at + len];
        let name = padded.split(|byte| *byte == 0).next().unwrap_or_default();
        list.push(RawEvent { wd: word(0) as i32, mask: word(4), cookie: word(8), name });
        at = name_at + len;
    }
    list
}

/// No record is shorter than its header, and together they are no longer than what was read.
fn check_lengths(bytes: &[u8], count: usize) {
    let mut rest = bytes;
    let mut seen = 0;
    while let Some((event, len)) = first(rest) {
        assert!(len >= HEADER + event.name.len() && len <= rest.len());
        rest = &rest[len..];
        seen += 1;
    }
    assert_eq!(seen, count);
}

fn check_round_trip(decoded: &[RawEvent<'_>]) {
    let mut written = Vec::new();
    for event in decoded {
        let before = written.len();
        encode(event, &mut written);
        assert!(event.name.len() > 255 || written.len() - before <= EVENT_MAX);
    }
    assert_eq!(events(&written).collect::<Vec<_>>(), decoded);
}

/// Bytes that were cut off take whole events away and change none.
fn check_cut(bytes: &[u8], decoded: &[RawEvent<'_>]) {
    let cut = &bytes[..bytes.len() - bytes.len() / 3];
    let kept: Vec<RawEvent<'_>> = events(cut).collect();
    assert!(decoded.starts_with(&kept));
}
