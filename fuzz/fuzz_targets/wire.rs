//! What a host that went wrong can send, and what the daemon sends to it.
//!
//! The first byte of an input says what the rest is: a stream of frames, the body of one frame, a path, or starts.
//! Modules of the program are included as they are; this target owns only the readers that it compares with.
#![no_main]

#[path = "../../crates/pyinotifyd/src/config/mod.rs"]
mod config;
#[path = "../../crates/pyinotifyd/src/log/mod.rs"]
mod log;
#[path = "."]
mod action {
    #[path = "../../crates/pyinotifyd/src/action/arguments.rs"]
    pub(crate) mod arguments;
    #[path = "../../crates/pyinotifyd/src/action/code.rs"]
    pub(crate) mod code;
    #[path = "../../crates/pyinotifyd/src/action/misspelt.rs"]
    pub(crate) mod misspelt;
    #[path = "../../crates/pyinotifyd/src/action/occasion.rs"]
    pub(crate) mod occasion;
    #[path = "../../crates/pyinotifyd/src/action/template.rs"]
    pub(crate) mod template;
}
#[path = "../../crates/pyinotifyd/src/similar.rs"]
mod similar;
#[path = "."]
mod host {
    #[path = "../../crates/pyinotifyd/src/host/wire.rs"]
    pub(crate) mod wire;
}

use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;
use std::sync::Arc;

use config::Config;
use event::{Event, Mask};
use host::wire::{self, ConfigFault, FromHost, HostRecord, PathText, Starts};
use libfuzzer_sys::fuzz_target;

/// First and last type that a host sends, and one more on both sides.
const KINDS: std::ops::RangeInclusive<u8> = 64..=75;
/// Bytes before a frame's body.
const HEADER: usize = 5;

fuzz_target!(|input: &[u8]| {
    let Some((&form, rest)) = input.split_first() else { return };
    match form % 4 {
        0 => stream(rest),
        1 => body(rest),
        2 => path(rest),
        _ => starts(rest),
    }
});

/// Frames one after the other, as the host's reader takes them off its buffer.
fn stream(bytes: &[u8]) {
    let mut rest = bytes;
    loop {
        match wire::next_frame(rest) {
            Ok(Some((kind, body))) => {
                assert!(body.start == HEADER && body.end <= rest.len());
                // One byte less is no frame yet.
                assert!(matches!(wire::next_frame(&rest[..body.end - 1]), Ok(None)));
                frame(kind, &rest[body.clone()]);
                rest = &rest[body.end..];
            }
            Ok(None) => break,
            Err(error) => {
                assert!(rest.len() >= HEADER && !error.to_string().is_empty());
                break;
            }
        }
    }
}

fn body(bytes: &[u8]) {
    let Some((&kind, body)) = bytes.split_first() else { return };
    let kinds = KINDS.end() - KINDS.start() + 1;
    frame(KINDS.start() + kind % kinds, body);
}

/// A frame, and what the loop does first with what it says.
fn frame(kind: u8, body: &[u8]) {
    match wire::decode(kind, body) {
        Err(error) => assert!(!error.to_string().is_empty()),
        Ok(FromHost::Describe(description)) => describe(&description),
        Ok(FromHost::Error(fault)) => show(&fault),
        Ok(FromHost::Done(tasks) | FromHost::Cancelled(tasks) | FromHost::Dropped(tasks)) => {
            assert_eq!(wire::cancel(&tasks)[HEADER..], *body);
        }
        Ok(FromHost::Log(record)) => record_of_host(&record),
        Ok(FromHost::Taken { count, open }) => {
            assert_eq!([count.to_le_bytes(), open.to_le_bytes()].concat(), body);
        }
        Ok(said @ (FromHost::Hello(_) | FromHost::Exit(_) | FromHost::Fail(_) | FromHost::Level(_))) => {
            drop(format!("{said:?}"));
        }
    }
}

fn describe(description: &[u8]) {
    match Config::from_description(description, Arc::default()) {
        Ok(config) => {
            let destinations = config.destinations();
            assert!(destinations.iter().all(|directory| directory.ends_with(b"/")));
        }
        Err(fault) => show(&fault),
    }
}

fn show(fault: &ConfigFault) {
    assert!(fault.to_string().starts_with(&fault.message));
    drop(config::check_patterns(&fault.patterns));
}

/// No text of a record can pass for another record, and any time has a stamp.
fn record_of_host(record: &HostRecord) {
    let text = log::Indented(&record.message).to_string();
    assert!(text.split('\n').skip(1).all(|line| line.starts_with("    ")));
    assert!(text.chars().all(|character| matches!(character, '\n' | '\t') || !character.is_control()));
    let mut line = Vec::new();
    log::Clock::new().stamp(record.created, &mut line);
    assert!(line.len() >= "0000-00-00 00:00:00,000".len(), "{}", line.escape_ascii());
}

/// A path that goes to the host in JSON and comes back is the same path.
fn path(bytes: &[u8]) {
    #[derive(serde::Deserialize)]
    struct Load {
        configs: Vec<PathText>,
    }
    let path = Path::new(std::ffi::OsStr::from_bytes(bytes));
    let frame = wire::load([path].into_iter(), false, &serde_json::Value::Null);
    let (_, body) = wire::next_frame(&frame).expect("it is short").expect("it is whole");
    let load: Load = serde_json::from_slice(&frame[body]).expect("what was written is JSON");
    assert_eq!(load.configs.iter().map(|path| path.0.as_slice()).collect::<Vec<_>>(), [bytes]);
    assert!(log::Escaped(bytes).to_string().chars().all(|character| !character.is_control()));
}

/// One start, as it was given or as it was read.
#[derive(Debug, PartialEq)]
struct Sent {
    handle: u64,
    scheduler: u32,
    mask: u32,
    wd: i32,
    cookie: u32,
    name_len: u16,
    is_dir: bool,
    synthetic: bool,
    texts: Vec<Vec<u8>>,
}

/// Starts are found again in their columns.
fn starts(bytes: &[u8]) {
    let sent: Vec<Sent> = bytes.chunks(32).map(pick_start).collect();
    let mut starts = Starts::default();
    for start in &sent {
        let id = std::str::from_utf8(&start.texts[0]).expect("ids are digits");
        let mut event = Event {
            mask: Mask(start.mask),
            wd: start.wd,
            cookie: start.cookie,
            is_dir: start.is_dir,
            synthetic: start.synthetic,
            pathname: &start.texts[1],
            name_len: start.name_len,
            ..Event::overflow()
        };
        event.src_pathname = start.texts.get(2).map(Vec::as_slice);
        event.given_path = start.texts.get(3).map(Vec::as_slice);
        starts.push(start.handle, start.scheduler, id, &event, None);
    }
    assert_eq!(starts.len(), sent.len());
    let frame = starts.take_frame();
    assert_eq!(starts.len(), 0);
    let (kind, body) = wire::next_frame(&frame).expect("it is short").expect("it is whole");
    assert_eq!((kind, body.end), (3, frame.len()));
    assert_eq!(read_starts(&frame[body]), sent);
}

fn pick_start(chunk: &[u8]) -> Sent {
    let at = |index: usize| chunk.get(index).copied().unwrap_or_default();
    let word = |index: usize| u32::from_le_bytes(std::array::from_fn(|offset| at(index + offset)));
    // No path holds a NUL.
    let text: Vec<u8> = chunk.iter().skip(14).copied().filter(|byte| *byte != 0).collect();
    let mut texts = vec![format!("{:x}", word(0)).into_bytes(), text.clone()];
    let extra = usize::from(at(13) % 3);
    texts.extend(std::iter::repeat_n(text, extra));
    Sent {
        handle: u64::from(word(0)) << 17 | u64::from(at(3)),
        scheduler: word(2),
        mask: word(4),
        wd: word(6) as i32,
        cookie: word(8),
        name_len: word(10) as u16,
        is_dir: at(12) & 1 != 0,
        synthetic: at(12) & 2 != 0,
        texts,
    }
}

/// Bytes of the numbers of one start.
const ROW: usize = 27;

/// The host's half, written anew.
fn read_starts(body: &[u8]) -> Vec<Sent> {
    let (count, rest) = body.split_at(4);
    let count = u32::from_le_bytes(count.try_into().expect("four bytes")) as usize;
    let (rows, texts) = rest.split_at(count * ROW);
    let mut texts = texts.split(|byte| *byte == 0).map(<[u8]>::to_vec);
    let mut read = Vec::new();
    for row in rows.chunks(ROW) {
        let [handle, scheduler, mask, wd, cookie, name_len, flags] =
            [0..8, 8..12, 12..16, 16..20, 20..24, 24..26, 26..27].map(|place| number(&row[place]));
        let wd = wd as u32 as i32;
        let extra = usize::from(flags & 4 != 0) + usize::from(flags & 8 != 0);
        let texts: Vec<Vec<u8>> = texts.by_ref().take(2 + extra).collect();
        assert_eq!(flags & 2 != 0, cookie != 0);
        assert_eq!(flags & 32 != 0, wd < 0 && texts[1].is_empty());
        read.push(Sent {
            handle,
            scheduler: scheduler as u32,
            mask: mask as u32,
            wd,
            cookie: cookie as u32,
            name_len: name_len as u16,
            is_dir: flags & 1 != 0,
            synthetic: flags & 16 != 0,
            texts,
        });
    }
    read
}

fn number(bytes: &[u8]) -> u64 {
    bytes.iter().rev().fold(0, |value, byte| value << 8 | u64::from(*byte))
}
