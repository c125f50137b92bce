//! What a command reads from its stdin: nothing, the event as JSON, or its path. Of a batch it is the same of each
//! event, one after the other.
//!
//! A command that gets something reads it from a file in memory that is complete before the command starts. So nobody
//! has to write while it runs, and one that does not read holds nothing up.

use std::fs::File;
use std::io::{self, Seek as _, Write as _};
use std::os::fd::OwnedFd;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, memfd_create};
use rustix::io::Errno;
use serde_json::{Map, Value};

use super::occasion::Occasion;
use crate::config::Stdin;

/// What is to be read; `None`: nothing.
pub(crate) fn text(stdin: Stdin, occasion: &Occasion<'_>) -> Option<Vec<u8>> {
    let mut text = Vec::new();
    match stdin {
        Stdin::Null => return None,
        Stdin::Json => occasion.each(|one| text.append(&mut json_line(one))),
        Stdin::Paths => occasion.each(|one| {
            text.extend_from_slice(one.event.pathname);
            text.push(0);
        }),
    }
    Some(text)
}

/// A file with that text, for one who reads: nobody can change it any more.
///
/// # Errors
/// As memfd_create(2) and write(2).
pub(super) fn file(text: &[u8]) -> io::Result<OwnedFd> {
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    let fd = match memfd_create("pyinotifyd-stdin", flags | MemfdFlags::NOEXEC_SEAL) {
        // Linux before 6.3 does not know the last flag.
        Err(Errno::INVAL) => memfd_create("pyinotifyd-stdin", flags)?,
        other => other?,
    };
    let mut file = File::from(fd);
    file.write_all(text)?;
    file.rewind()?;
    fcntl_add_seals(&file, SealFlags::WRITE | SealFlags::GROW | SealFlags::SHRINK | SealFlags::SEAL)?;
    Ok(file.into())
}

/// All attributes that the event has, as a job finds them, in one line. What is not UTF-8 shows as U+FFFD, and an
/// attribute with `_b64` at the end of its name holds the bytes.
fn json_line(occasion: &Occasion<'_>) -> Vec<u8> {
    let event = &occasion.event;
    let mut object = Map::new();
    object.insert("mask".into(), event.mask.0.into());
    object.insert("maskname".into(), event.mask.name().into());
    object.insert("dir".into(), event.is_dir.into());
    if !event.pathname.is_empty() {
        object.insert("wd".into(), event.wd.into());
        add_text(&mut object, "path", event.path());
        add_text(&mut object, "name", event.name());
        add_text(&mut object, "pathname", event.pathname);
    }
    if event.cookie != 0 {
        object.insert("cookie".into(), event.cookie.into());
    }
    if let Some(source) = event.src_pathname {
        add_text(&mut object, "src_pathname", source);
    }
    if event.synthetic {
        object.insert("synthetic".into(), true.into());
    }
    if let Some(failed) = &occasion.failed {
        object.insert("error".into(), failed.error.into());
        object.insert("attempts".into(), failed.attempts.into());
        object.insert("task_id".into(), failed.id.into());
    }
    let mut line = Value::Object(object).to_string().into_bytes();
    line.push(b'\n');
    line
}

fn add_text(object: &mut Map<String, Value>, name: &str, bytes: &[u8]) {
    object.insert(name.to_owned(), String::from_utf8_lossy(bytes).into());
    if std::str::from_utf8(bytes).is_err() {
        object.insert(format!("{name}_b64"), BASE64.encode(bytes).into());
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;

    use event::{Event, Flag, Mask};

    use super::*;

    #[test]
    fn an_event_in_json_has_the_attributes_that_it_has() {
        let mask = Flag::MovedTo.mask() | Mask::ISDIR;
        let event = Event {
            mask,
            wd: 3,
            cookie: 7,
            is_dir: true,
            synthetic: true,
            pathname: b"/w/\xff",
            name_len: 1,
            src_pathname: Some(b"/w/a\nb"),
            ..Event::overflow()
        };
        let line = json_line(&Occasion::of(&event));
        assert_eq!(line.split(|byte| *byte == b'\n').count(), 2);
        let expected = serde_json::json!({
            "mask": mask.0, "maskname": "IN_MOVED_TO|IN_ISDIR", "dir": true, "wd": 3, "cookie": 7, "path": "/w",
            "name": "\u{fffd}", "name_b64": "/w==", "pathname": "/w/\u{fffd}", "pathname_b64": "L3cv/w==",
            "src_pathname": "/w/a\nb", "synthetic": true,
        });
        assert_eq!(serde_json::from_slice::<Value>(&line).unwrap(), expected);
        let expected = serde_json::json!({"mask": 0x4000, "maskname": "IN_Q_OVERFLOW", "dir": false});
        assert_eq!(
            serde_json::from_slice::<Value>(&json_line(&Occasion::of(&Event::overflow()))).unwrap(),
            expected
        );
    }

    #[test]
    fn what_is_to_be_read_is_there_and_stays_as_it_is() {
        let mut file = File::from(file(b"/w/a\0").unwrap());
        let mut text = Vec::new();
        file.read_to_end(&mut text).unwrap();
        assert_eq!(text, b"/w/a\0");
        assert!(file.write_all(b"x").is_err() && file.set_len(0).is_err());
    }
}
