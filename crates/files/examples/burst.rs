//! Acts on every entry of a directory, one after the other, as the daemon does in a burst; for measurements.
//!
//! `burst copy|move|delete SOURCE DESTINATION`, for example under `perf stat` or `strace -c -f`.

use files::{Action, Held, Request, Rule, perform};
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::sync::atomic::AtomicBool;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args_os().skip(1);
    let action = match arguments.next().ok_or("an action is missing")?.to_str() {
        Some("copy") => Action::Copy,
        Some("move") => Action::Move,
        Some("delete") => Action::Delete,
        _ => return Err("the action is copy, move or delete".into()),
    };
    let source = std::path::absolute(PathBuf::from(arguments.next().ok_or("a source is missing")?))?;
    let destination =
        std::path::absolute(PathBuf::from(arguments.next().ok_or("a destination is missing")?))?;
    let rule = Rule { rec: true, ..Rule::new(action) };
    let stop = AtomicBool::new(false);
    let trusted_len = destination.as_os_str().len() + 1;
    let mut held = Held::default();
    for entry in std::fs::read_dir(&source)? {
        let name = entry?.file_name();
        let (from, to) = (source.join(&name), destination.join(&name));
        let (from, to) = (from.as_os_str().as_bytes(), to.as_os_str().as_bytes());
        let root = source.as_os_str().as_bytes();
        let request = Request { root, trusted_len, ..Request::plain(&rule, from, to, &stop) };
        perform(&request, &mut held, &mut |_| {})?;
    }
    Ok(())
}
