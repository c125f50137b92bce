//! The steps of an installation on the filesystem: a file is there whole or not at all.
//!
//! Owns atomic writes and the wording of what went wrong; decides nothing about which file goes where.

use std::ffi::OsString;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use crate::log::Cause;

/// What an installed file does to one that is already there.
#[derive(Clone, Copy, Debug)]
pub(super) enum Existing {
    /// Program files: the new text wins.
    Replace,
    /// Configuration: whatever is there wins, a dangling link too.
    Keep,
}

/// What became of a file or directory to install.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Installed {
    /// It was written.
    Written,
    /// It was there already and stays as it is.
    Kept,
}

/// When a file is removed.
#[derive(Clone, Copy, Debug)]
pub(super) enum Removal<'a> {
    /// In any case.
    Always,
    /// Only while it holds this text.
    IfUnchanged(&'a str),
}

/// What became of a file or directory to remove.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Removed {
    /// It was removed.
    Gone,
    /// It stays: changed by the admin, or not empty.
    Kept,
    /// There was none.
    Missing,
}

/// Writes `text` to a temporary file in the same directory and renames it over `path`.
///
/// # Errors
/// One line that names the file and the cause.
pub(super) fn install(path: &Path, text: &str, mode: u32, existing: Existing) -> Result<Installed, String> {
    match (fs::symlink_metadata(path), existing) {
        (Ok(found), _) if found.is_dir() => {
            return Err("unable to copy file, destination path is a directory".to_owned());
        }
        (Ok(_), Existing::Keep) => return Ok(Installed::Kept),
        (Ok(_) | Err(_), Existing::Replace) | (Err(_), Existing::Keep) => {}
    }
    let written = make_parent(path).and_then(|()| write_whole(path, text, mode));
    written.map_err(|error| format!("unable to install file {}: {}", path.display(), Cause(&error)))?;
    Ok(Installed::Written)
}

/// Creates a directory and, where missing, the ones above it.
///
/// # Errors
/// One line that names the directory and the cause.
pub(super) fn create_dir(path: &Path, mode: u32) -> Result<Installed, String> {
    if path.is_dir() {
        return Ok(Installed::Kept);
    }
    fs::DirBuilder::new()
        .recursive(true)
        .mode(mode)
        .create(path)
        .map_err(|error| format!("unable to create directory {}: {}", path.display(), Cause(&error)))?;
    Ok(Installed::Written)
}

/// Removes a file, or keeps it if `removal` says so.
///
/// # Errors
/// One line that names the file and the cause.
pub(super) fn remove(path: &Path, removal: Removal<'_>) -> Result<Removed, String> {
    let unable = |error: &io::Error| format!("unable to remove file {}: {}", path.display(), Cause(error));
    match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Removed::Missing),
        Err(error) => return Err(unable(&error)),
        Ok(found) if found.is_dir() => return Ok(Removed::Kept),
        Ok(_) => {}
    }
    if let Removal::IfUnchanged(text) = removal
        && read_regular(path).as_deref() != Some(text)
    {
        return Ok(Removed::Kept);
    }
    fs::remove_file(path).map_err(|error| unable(&error))?;
    Ok(Removed::Gone)
}

/// Removes a directory if it is empty.
///
/// # Errors
/// One line that names the directory and the cause.
pub(super) fn remove_dir(path: &Path) -> Result<Removed, String> {
    match fs::remove_dir(path) {
        Ok(()) => Ok(Removed::Gone),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Removed::Missing),
        Err(error) if error.kind() == io::ErrorKind::DirectoryNotEmpty => Ok(Removed::Kept),
        Err(error) => Err(format!("unable to delete directory {}: {}", path.display(), Cause(&error))),
    }
}

/// The text of a regular file; nothing for links, unreadable and binary files.
pub(super) fn read_regular(path: &Path) -> Option<String> {
    if !fs::symlink_metadata(path).ok()?.is_file() {
        return None;
    }
    fs::read_to_string(path).ok()
}

/// Whether `path` is a file with an execute bit.
pub(super) fn is_executable(path: &Path) -> bool {
    fs::metadata(path).is_ok_and(|found| found.is_file() && found.mode() & 0o111 != 0)
}

/// A warning if someone other than root could replace the program that root is about to run at boot.
pub(super) fn writable_by_others(binary: &Path) -> Option<String> {
    let weak = binary.ancestors().find(|part| fs::metadata(part).is_ok_and(|found| is_weak(&found)))?;
    Some(format!(
        "{} can be replaced by others than root: {} belongs to uid {}, mode {:o}; install the program to \
         /usr/local/bin",
        binary.display(),
        weak.display(),
        fs::metadata(weak).ok()?.uid(),
        fs::metadata(weak).ok()?.mode() & 0o7777,
    ))
}

/// A sticky directory lets others add entries, but not replace ours.
fn is_weak(found: &fs::Metadata) -> bool {
    let sticky_dir = found.is_dir() && found.mode() & 0o1000 != 0;
    found.uid() != 0 || (found.mode() & 0o022 != 0 && !sticky_dir)
}

/// Directories that a service manager's files live in may be missing on a fresh machine (`/etc/conf.d`).
fn make_parent(path: &Path) -> io::Result<()> {
    path.parent().map_or(Ok(()), fs::create_dir_all)
}

fn write_whole(path: &Path, text: &str, mode: u32) -> io::Result<()> {
    let temporary = temporary_name(path);
    let written = write_new(&temporary, text, mode).and_then(|()| fs::rename(&temporary, path));
    if written.is_err() {
        // The write's own error is the one to report; that the leftover can't be removed either adds nothing to it.
        let _ = fs::remove_file(&temporary);
    }
    written
}

fn write_new(path: &Path, text: &str, mode: u32) -> io::Result<()> {
    let mut file = create_new(path)?;
    // Not at creation, where the umask would take bits away.
    file.set_permissions(fs::Permissions::from_mode(mode))?;
    file.write_all(text.as_bytes())?;
    file.sync_all()
}

/// Replaces a leftover of an installer that was killed. That is safe: only root writes in these directories.
fn create_new(path: &Path) -> io::Result<File> {
    let new = || OpenOptions::new().write(true).create_new(true).mode(0o600).open(path);
    match new() {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            fs::remove_file(path)?;
            new()
        }
        result => result,
    }
}

fn temporary_name(path: &Path) -> PathBuf {
    let mut name = OsString::from(".");
    name.push(path.file_name().expect("installed files have names"));
    name.push(".pyinotifyd-new");
    path.with_file_name(name)
}
