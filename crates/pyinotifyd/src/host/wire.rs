//! Frames between the daemon and the host: `u32 length of body | u8 type | body`, little endian.
//!
//! Owns the bytes and nothing else: no descriptor, no process. What is rare is JSON; starts and ends of jobs are
//! columns of integers and one blob of text, since they come by the hundred thousand. The Python half is
//! `pyinotifyd/host/wire.py`; both halves are in one binary, and HELLO makes sure of it.

use std::fmt::Write as _;

use event::Event;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;
use std::sync::Arc;

use serde::de::{Error as _, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::{Value, json};

/// Version of this protocol; both halves must name the same.
pub(crate) const PROTOCOL: u32 = 5;
/// Longest body that is taken: far above any description, and a bound for a host that went wrong.
pub(crate) const FRAME_MAX: usize = 64 << 20;
/// Length and type.
const HEADER: usize = 5;

/// A body or a stream that is not of this protocol.
#[derive(Debug, thiserror::Error)]
pub(crate) enum WireError {
    /// A length above [`FRAME_MAX`].
    #[error("a frame of {0} bytes is too long")]
    TooLong(usize),
    /// A type that the daemon does not know.
    #[error("a frame of the unknown type {0}")]
    UnknownType(u8),
    /// A body that does not have the form of its type.
    #[error("a frame of type {kind} is malformed: {source}")]
    Malformed {
        /// The frame's type.
        kind: u8,
        /// What is wrong with it.
        source: serde_json::Error,
    },
    /// Packed integers of a wrong length.
    #[error("a frame of type {0} has a wrong length")]
    Ragged(u8),
}

/// What the host says.
#[derive(Debug)]
pub(crate) enum FromHost {
    /// First frame.
    Hello(Hello),
    /// What the configuration defined.
    Describe(Arc<[u8]>),
    /// The configuration cannot be used.
    Error(ConfigFault),
    /// `sys.exit` in the configuration or in a job.
    Exit(Exit),
    /// Jobs that ended.
    Done(Vec<u64>),
    /// Jobs that ended with CancelledError.
    Cancelled(Vec<u64>),
    /// Jobs that were cancelled or recalled before they had begun.
    Dropped(Vec<u64>),
    /// A job that raised.
    Fail(Fail),
    /// A record of Python's logging.
    Log(HostRecord),
    /// So many more starts were taken, in the order in which they were sent, and of those behind them so many may begin
    /// before the next frame of this kind.
    Taken { count: u32, open: u32 },
    /// A job has set a level.
    Level(SetLevel),
}

/// The host's greeting.
#[derive(Debug, Deserialize)]
pub(crate) struct Hello {
    /// See [`PROTOCOL`].
    pub protocol: u32,
    /// Version of the package.
    pub version: String,
    /// Version of Python.
    pub python: String,
    /// The interpreter that runs.
    #[serde(deserialize_with = "lossy")]
    pub executable: String,
    /// Where it looks for modules.
    pub path: Vec<PathText>,
}

/// Why a configuration cannot be used.
#[derive(Debug, Default, Deserialize)]
pub(crate) struct ConfigFault {
    /// What is wrong, for the first line.
    #[serde(deserialize_with = "lossy")]
    pub message: String,
    /// The file that was being executed, where there are several.
    #[serde(default)]
    pub path: Option<PathText>,
    /// Where, innermost last.
    #[serde(default)]
    pub locations: Vec<Location>,
    /// The whole traceback.
    #[serde(default, deserialize_with = "lossy")]
    pub traceback: String,
    /// Expressions of rules that were made before the fault.
    #[serde(default)]
    pub patterns: Vec<PatternMade>,
}

/// An expression of the configuration, checked by us since Python does not compile it.
#[derive(Debug, Deserialize)]
pub(crate) struct PatternMade {
    /// Its source.
    pub pattern: PathText,
    /// Where it was made.
    pub at: Option<At>,
}

/// A place in the user's file where an object was made.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq)]
pub(crate) struct At {
    /// Path of the file.
    #[serde(deserialize_with = "lossy")]
    pub file: String,
    /// Line, from 1.
    pub line: u32,
}

/// A place in the user's files.
#[derive(Debug, Deserialize)]
pub(crate) struct Location {
    /// Path of the file.
    #[serde(deserialize_with = "lossy")]
    pub file: String,
    /// Line, from 1.
    pub line: Option<u32>,
    /// First column, from 1.
    pub column: Option<u32>,
    /// Column after the last.
    pub end_column: Option<u32>,
    /// The line's text.
    #[serde(default, deserialize_with = "lossy_option")]
    pub source: Option<String>,
}

/// `sys.exit`.
#[derive(Debug, Deserialize)]
pub(crate) struct Exit {
    /// Exit status.
    pub code: i64,
    /// Text for stderr.
    #[serde(default, deserialize_with = "lossy_option")]
    pub message: Option<String>,
}

/// A job that raised.
#[derive(Debug, Deserialize)]
pub(crate) struct Fail {
    /// Which.
    pub task: u64,
    /// `ValueError: text`.
    #[serde(deserialize_with = "lossy")]
    pub exception: String,
    /// From the user's frame on.
    #[serde(deserialize_with = "lossy")]
    pub traceback: String,
    /// Whether it is none of the exceptions that are tried again.
    #[serde(default, rename = "final")]
    pub is_final: bool,
}

/// A level of a logger.
#[derive(Debug, Deserialize)]
pub(crate) struct SetLevel {
    /// Logger's name; empty for the root logger.
    #[serde(deserialize_with = "lossy")]
    pub logger: String,
    /// Python's number.
    pub level: i64,
}

/// A record of Python's logging.
#[derive(Debug, Deserialize)]
pub(crate) struct HostRecord {
    /// Logger's name.
    #[serde(deserialize_with = "lossy")]
    pub logger: String,
    /// Python's number.
    pub level: i64,
    /// Formatted message.
    #[serde(deserialize_with = "lossy")]
    pub message: String,
    /// Seconds since the epoch.
    pub created: f64,
    /// While the configuration executes: how many syslog targets it has named.
    #[serde(default)]
    pub syslog: usize,
    /// Traceback.
    #[serde(default, deserialize_with = "lossy_option")]
    pub exc: Option<String>,
}

/// Text of Python that may hold bytes which are not UTF-8 (surrogateescape, written by JSON as lone `\udcXX`), as
/// bytes.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct PathText(pub Vec<u8>);

impl<'de> Deserialize<'de> for PathText {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Bytes;
        impl Visitor<'_> for Bytes {
            type Value = PathText;
            fn expecting(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                out.write_str("a text")
            }
            fn visit_bytes<E: serde::de::Error>(self, wtf8: &[u8]) -> Result<PathText, E> {
                Ok(PathText(undo_surrogateescape(wtf8)))
            }
            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<PathText, E> {
                Ok(PathText(text.as_bytes().to_vec()))
            }
        }
        // serde_json hands lone surrogates out as WTF-8 to those who ask for bytes.
        deserializer.deserialize_bytes(Bytes)
    }
}

/// Bytes of a WTF-8 text in which U+DC80 to U+DCFF stand for single bytes (PEP 383).
fn undo_surrogateescape(wtf8: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(wtf8.len());
    let mut rest = wtf8;
    while let Some((first, tail)) = rest.split_first() {
        // U+DC80..U+DCFF in WTF-8 is ED B2 80 to ED B3 BF.
        if let [0xed, second @ (0xb2 | 0xb3), third, ..] = rest {
            bytes.push(((second & 1) << 6 | (third & 0x3f)) | 0x80);
            rest = &rest[3..];
        } else {
            bytes.push(*first);
            rest = tail;
        }
    }
    bytes
}

/// Reads a text that is for people: of a byte that is not UTF-8 it shows the escape.
pub(crate) fn lossy<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    PathText::deserialize(deserializer).map(|text| crate::log::Escaped(&text.0).readable())
}

/// As [`lossy`], where there may be no text.
pub(crate) fn lossy_option<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<String>, D::Error> {
    match Option::<PathText>::deserialize(deserializer) {
        Ok(text) => Ok(text.map(|text| crate::log::Escaped(&text.0).readable())),
        Err(error) => Err(D::Error::custom(error)),
    }
}

/// Takes the next whole frame off the front of `buffer`: its type, and its body's length and place.
///
/// # Errors
/// A length above [`FRAME_MAX`].
pub(crate) fn next_frame(buffer: &[u8]) -> Result<Option<(u8, std::ops::Range<usize>)>, WireError> {
    let Some((header, _)) = buffer.split_first_chunk::<HEADER>() else { return Ok(None) };
    let length = u32::from_le_bytes([header[0], header[1], header[2], header[3]]) as usize;
    if length > FRAME_MAX {
        return Err(WireError::TooLong(length));
    }
    let body = HEADER..HEADER + length;
    Ok((buffer.len() >= body.end).then_some((header[4], body)))
}

/// Reads one frame of the host.
///
/// # Errors
/// An unknown type, or a body that is not of that type's form.
pub(crate) fn decode(kind: u8, body: &[u8]) -> Result<FromHost, WireError> {
    let malformed = |source| WireError::Malformed { kind, source };
    Ok(match kind {
        65 => FromHost::Hello(serde_json::from_slice(body).map_err(malformed)?),
        66 => FromHost::Describe(body.into()),
        67 => FromHost::Error(serde_json::from_slice(body).map_err(malformed)?),
        68 => FromHost::Exit(serde_json::from_slice(body).map_err(malformed)?),
        69 => FromHost::Done(handles(kind, body)?),
        70 => FromHost::Cancelled(handles(kind, body)?),
        71 => FromHost::Fail(serde_json::from_slice(body).map_err(malformed)?),
        72 => FromHost::Log(serde_json::from_slice(body).map_err(malformed)?),
        73 => taken(body).ok_or(WireError::Ragged(kind))?,
        74 => FromHost::Level(serde_json::from_slice(body).map_err(malformed)?),
        75 => FromHost::Dropped(handles(kind, body)?),
        other => return Err(WireError::UnknownType(other)),
    })
}

fn taken(body: &[u8]) -> Option<FromHost> {
    let (numbers, rest) = body.as_chunks::<4>();
    let [count, open] = *numbers else { return None };
    let number = u32::from_le_bytes;
    rest.is_empty().then_some(FromHost::Taken { count: number(count), open: number(open) })
}

fn handles(kind: u8, body: &[u8]) -> Result<Vec<u64>, WireError> {
    let (chunks, rest) = body.as_chunks::<8>();
    if !rest.is_empty() {
        return Err(WireError::Ragged(kind));
    }
    Ok(chunks.iter().map(|chunk| u64::from_le_bytes(*chunk)).collect())
}

fn frame(kind: u8, body: &[u8]) -> Vec<u8> {
    let mut frame = Vec::with_capacity(HEADER + body.len());
    frame.extend_from_slice(&(body.len() as u32).to_le_bytes());
    frame.push(kind);
    frame.extend_from_slice(body);
    frame
}

/// The daemon's greeting.
pub(crate) fn hello() -> Vec<u8> {
    frame(1, json!({"protocol": PROTOCOL, "version": env!("CARGO_PKG_VERSION")}).to_string().as_bytes())
}

/// Hands over the bytes of a config file; [`load`] asks to execute all that came before it, in order.
pub(crate) fn source(content: &[u8]) -> Vec<u8> {
    frame(7, content)
}

/// Asks the host to execute the files of a configuration, whose paths these are.
pub(crate) fn load<'a>(files: impl Iterator<Item = &'a Path>, debug: bool, levels: &Value) -> Vec<u8> {
    let files: Vec<_> = files.map(|file| surrogateescape_json(file.as_os_str().as_bytes())).collect();
    let files = files.join(",");
    frame(2, format!(r#"{{"configs":[{files}],"debug":{debug},"levels":{levels}}}"#).as_bytes())
}

/// Asks the host to cancel running jobs.
pub(crate) fn cancel(tasks: &[u64]) -> Vec<u8> {
    frame(4, &tasks.iter().flat_map(|task| task.to_le_bytes()).collect::<Vec<_>>())
}

/// Hands a record of the daemon to the handlers of the configuration; `give_back`: it is sent back if filters let it
/// pass.
pub(crate) fn log(record: &crate::log::Forwarded, give_back: bool) -> Vec<u8> {
    let crate::log::Forwarded { logger, level, message, created, .. } = record;
    let body = json!({
        "logger": logger, "level": level.0, "message": message, "created": created, "give_back": give_back
    });
    frame(5, body.to_string().as_bytes())
}

/// Asks the host to end.
pub(crate) fn stop() -> Vec<u8> {
    frame(6, b"")
}

/// Asks the host to give back, as [`FromHost::Dropped`], all jobs that have not begun.
pub(crate) fn recall() -> Vec<u8> {
    frame(9, b"")
}

/// JSON text of bytes that may not be UTF-8, as Python's `os.fsdecode` and `json` would write it.
fn surrogateescape_json(bytes: &[u8]) -> String {
    let mut text = String::from("\"");
    for chunk in bytes.utf8_chunks() {
        let quoted = Value::from(chunk.valid()).to_string();
        text.push_str(&quoted[1..quoted.len() - 1]);
        for byte in chunk.invalid() {
            write!(text, "\\udc{byte:02x}").expect("formatting into a string cannot fail");
        }
    }
    text.push('"');
    text
}

/// Flags of one start.
mod flag {
    pub(super) const DIR: u8 = 1;
    pub(super) const COOKIE: u8 = 2;
    pub(super) const SRC: u8 = 4;
    pub(super) const GIVEN: u8 = 8;
    pub(super) const SYNTHETIC: u8 = 16;
    pub(super) const NO_PATH: u8 = 32;
    pub(super) const FAILED: u8 = 64;
}

/// What a job is told of that has the failures of another scheduler.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Failed<'a> {
    /// Why the task failed.
    pub error: &'a str,
    /// How often it was tried.
    pub attempts: u32,
    /// Its id as logs and jobs see it.
    pub id: &'a str,
}

/// Bytes of a row: handle, scheduler, mask, wd, cookie, name_len, flags.
const ROW: usize = 8 + 4 + 4 + 4 + 4 + 2 + 1;

/// Most bytes that the number of attempts and the id of a failure take.
const FAILED_MAX: usize = 10 + 1 + 36 + 1;

/// Most bytes that an event takes in a frame of starts, with the error of the failure that it tells of.
pub(crate) fn start_bytes(event: &Event<'_>, error: Option<&str>) -> usize {
    let texts = [Some(event.pathname), event.src_pathname, event.given_path];
    let failed = error.map_or(0, |error| error.len() + 1 + FAILED_MAX);
    failed + ROW + texts.into_iter().flatten().map(|text| text.len() + 1).sum::<usize>() + 1
}

/// Starts that go to the host in one frame: their number, a row of numbers for each, and all texts, separated by zeros.
/// Or one start for many events, which has a row for each, and its id with the first.
#[derive(Debug, Default)]
pub(crate) struct Starts {
    is_batch: bool,
    count: u32,
    rows: Vec<u8>,
    texts: Vec<u8>,
}

impl Starts {
    /// One start, for all events that are pushed.
    pub(crate) fn batch() -> Starts {
        Starts { is_batch: true, ..Starts::default() }
    }

    /// Whether it is one start for many events.
    pub(crate) fn is_batch(&self) -> bool {
        self.is_batch
    }

    /// How many.
    pub(crate) fn len(&self) -> usize {
        self.count as usize
    }

    /// Adds a start. `scheduler` is the place in the description, `id` the text that logs and jobs see.
    pub(crate) fn push(
        &mut self,
        handle: u64,
        scheduler: u32,
        id: &str,
        event: &Event<'_>,
        failed: Option<&Failed<'_>>,
    ) {
        let set = |condition: bool, flag: u8| if condition { flag } else { 0 };
        let no_path = event.wd < 0 && event.pathname.is_empty();
        let flags = set(event.is_dir, flag::DIR)
            | set(event.cookie != 0, flag::COOKIE)
            | set(event.src_pathname.is_some(), flag::SRC)
            | set(event.given_path.is_some(), flag::GIVEN)
            | set(event.synthetic, flag::SYNTHETIC)
            | set(no_path, flag::NO_PATH)
            | set(failed.is_some(), flag::FAILED);
        self.count += 1;
        self.rows.extend_from_slice(&handle.to_le_bytes());
        self.rows.extend_from_slice(&scheduler.to_le_bytes());
        self.rows.extend_from_slice(&event.mask.0.to_le_bytes());
        self.rows.extend_from_slice(&event.wd.to_le_bytes());
        self.rows.extend_from_slice(&event.cookie.to_le_bytes());
        self.rows.extend_from_slice(&event.name_len.to_le_bytes());
        self.rows.push(flags);
        for text in [Some(id.as_bytes()), Some(event.pathname), event.src_pathname, event.given_path]
            .into_iter()
            .flatten()
        {
            self.push_text(text);
        }
        if let Some(Failed { error, attempts, id }) = failed {
            self.push_text(error.replace('\0', " ").as_bytes());
            self.push_text(attempts.to_string().as_bytes());
            self.push_text(id.as_bytes());
        }
    }

    /// Leaves only the starts whose handles are wanted.
    pub(crate) fn retain(&mut self, wanted: impl Fn(u64) -> bool) {
        let all = std::mem::take(self);
        self.is_batch = all.is_batch;
        let mut texts = all.texts.split(|byte| *byte == 0);
        for row in all.rows.chunks_exact(ROW) {
            let (handle, _) = row.split_first_chunk().expect("a row begins with its handle");
            let flags = row[ROW - 1];
            let count = 2
                + usize::from(flags & flag::SRC != 0)
                + usize::from(flags & flag::GIVEN != 0)
                + if flags & flag::FAILED == 0 { 0 } else { 3 };
            let wanted = wanted(u64::from_le_bytes(*handle));
            if wanted {
                self.count += 1;
                self.rows.extend_from_slice(row);
            }
            for text in texts.by_ref().take(count).filter(|_| wanted) {
                self.push_text(text);
            }
        }
    }

    fn push_text(&mut self, text: &[u8]) {
        // An id comes first, and is never empty.
        if !self.texts.is_empty() {
            self.texts.push(0);
        }
        self.texts.extend_from_slice(text);
    }

    /// The frame with all starts; the batch is empty afterwards and keeps its memory.
    pub(crate) fn take_frame(&mut self) -> Vec<u8> {
        let length = size_of_val(&self.count) + self.rows.len() + self.texts.len();
        let mut frame = Vec::with_capacity(HEADER + length);
        frame.extend_from_slice(&(length as u32).to_le_bytes());
        frame.push(if self.is_batch { 8 } else { 3 });
        frame.extend_from_slice(&self.count.to_le_bytes());
        frame.append(&mut self.rows);
        frame.append(&mut self.texts);
        self.count = 0;
        frame
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_are_not_utf8_come_back_as_bytes() {
        let text: PathText = serde_json::from_str(r#""/a\udcff\udc80/\u00fc\ud83d\ude00""#).unwrap();
        assert_eq!(text.0, [b"/a\xff\x80/".as_slice(), "ü😀".as_bytes()].concat());
        assert_eq!(surrogateescape_json(b"/a\xff\"\n"), r#""/a\udcff\"\n""#);
        let back: PathText = serde_json::from_str(&surrogateescape_json(b"/a\xff\"\n")).unwrap();
        assert_eq!(back.0, b"/a\xff\"\n");
    }

    #[test]
    fn starts_are_rows_and_texts() {
        let mut starts = Starts::default();
        let event = Event {
            mask: event::Mask(0x80),
            wd: 3,
            cookie: 7,
            pathname: b"/w/f",
            name_len: 1,
            root_len: 2,
            src_pathname: Some(b"/w/e"),
            ..Event::overflow()
        };
        starts.push(9, 1, "id", &event, None);
        starts.push(10, 0, "other", &Event::overflow(), None);
        let frame = starts.take_frame();
        let (kind, body) = next_frame(&frame).unwrap().unwrap();
        let body = &frame[body];
        assert_eq!((kind, &body[..4]), (3, &2u32.to_le_bytes()[..]));
        let row = 8 + 4 + 4 + 4 + 4 + 2 + 1;
        let (first, second) = (&body[4..4 + row], &body[4 + row..4 + 2 * row]);
        assert_eq!((&first[..8], first[row - 1]), (&9u64.to_le_bytes()[..], flag::COOKIE | flag::SRC));
        assert_eq!((&second[..8], second[row - 1]), (&10u64.to_le_bytes()[..], flag::NO_PATH));
        assert_eq!(&body[4 + 2 * row..], b"id\0/w/f\0/w/e\0other\0");
        assert_eq!(starts.len(), 0);
    }

    #[test]
    fn a_start_for_many_events_has_a_frame_of_its_own() {
        let mut starts = Starts::batch();
        let event = |pathname: &'static [u8]| Event { wd: 1, pathname, ..Event::overflow() };
        let moved = Event { src_pathname: Some(b"/w/0"), ..event(b"/w/b") };
        starts.push(9, 1, "id", &event(b"/w/a"), None);
        starts.push(9, 1, "", &moved, None);
        let bytes = start_bytes(&event(b"/w/a"), None) + start_bytes(&moved, None);
        let frame = starts.take_frame();
        let (kind, body) = next_frame(&frame).unwrap().unwrap();
        assert_eq!((kind, &frame[body.clone()][4 + 2 * ROW..]), (8, b"id\0/w/a\0\0/w/b\0/w/0".as_slice()));
        assert_eq!(body.len(), 4 + bytes + "id".len() - 1, "what an event takes is known before");
        starts.push(9, 1, "id", &event(b"/w/a"), None);
        starts.retain(|handle| handle == 9);
        assert!(starts.is_batch() && starts.len() == 1);
        let id = "0".repeat(36);
        let failed = Failed { error: "why", attempts: u32::MAX, id: &id };
        let mut starts = Starts::batch();
        starts.push(9, 1, "id", &event(b"/w/a"), Some(&failed));
        let bytes = start_bytes(&event(b"/w/a"), Some(failed.error));
        let length = HEADER + 4 + "id".len() + bytes - 1;
        assert_eq!(starts.take_frame().len(), length, "a failure has its part");
    }

    #[test]
    fn starts_that_are_not_wanted_leave_with_their_texts() {
        let path = |pathname: &'static [u8]| Event { wd: 1, pathname, ..Event::overflow() };
        let moved = Event { src_pathname: Some(b"/w/from"), given_path: Some(b"w"), ..path(b"/w/to") };
        let events = [path(b"/w/a"), moved, Event::overflow(), path(b"/w/b"), moved];
        // Each subset is what it would be if only these had been pushed.
        for subset in 0_u64..32 {
            let (mut left, mut pushed) = (Starts::default(), Starts::default());
            for (handle, event) in events.iter().enumerate() {
                let failed = Failed { error: "an\0error", attempts: 3, id: "theirs" };
                let failed = (handle % 2 == 1).then_some(&failed);
                left.push(handle as u64, 7, &format!("id{handle}"), event, failed);
                if subset >> handle & 1 == 1 {
                    pushed.push(handle as u64, 7, &format!("id{handle}"), event, failed);
                }
            }
            left.retain(|handle| subset >> handle & 1 == 1);
            assert_eq!(left.take_frame(), pushed.take_frame(), "{subset:b}");
        }
    }

    proptest::proptest! {
        #[test]
        fn no_bytes_make_the_decoder_panic(
            kind in 0u8..=80, body in proptest::collection::vec(proptest::num::u8::ANY, 0..64)
        ) {
            let _ = decode(kind, &body);
            let _ = next_frame(&body);
        }
    }
}
