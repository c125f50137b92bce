//! Whether a directory can be written, or made where it is missing: as far as that is known without changing anything.
//!
//! Whoever asks knows that the path is on local filesystems. What is in the way is said here, for all who ask; the
//! command that mends it is theirs.

use std::fmt;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use mounts::Mounts;
use rustix::fs::{Access, access, statvfs};

use crate::log::Escaped;

/// The longest path that the kernel takes, without the NUL at its end.
const PATH_BYTES_MAX: usize = 4_095;

/// A directory for what is to come there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Room {
    /// It is there.
    Writable,
    /// It can be made.
    Makeable,
}

impl fmt::Display for Room {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(match self {
            Room::Writable => "can be written",
            Room::Makeable => "can be made",
        })
    }
}

/// What keeps a directory from being that.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct NoRoom {
    wanted: PathBuf,
    /// How much of it there is.
    existing: PathBuf,
    /// What is in the way.
    pub(crate) obstacle: Obstacle,
}

/// See [`NoRoom`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Obstacle {
    /// What is there is something else.
    NoDirectory,
    /// We may not write there.
    Forbidden,
    /// A name has more bytes than the filesystem takes.
    LongName { max: u64 },
    /// The path has more bytes than the kernel takes.
    LongPath,
    /// What is there is made by the kernel alone; the type of the filesystem.
    OfKernel(String),
}

impl fmt::Display for NoRoom {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown = |path: &Path| Escaped(path.as_os_str().as_bytes()).to_string();
        if self.existing != self.wanted {
            write!(out, "'{}' cannot be made: ", shown(&self.wanted))?;
        }
        let existing = shown(&self.existing);
        match &self.obstacle {
            Obstacle::NoDirectory => write!(out, "'{existing}' is no directory"),
            Obstacle::Forbidden => write!(out, "'{existing}' cannot be written"),
            Obstacle::LongName { max } => write!(out, "a name is longer than {max} bytes"),
            Obstacle::LongPath => write!(out, "the path is longer than {PATH_BYTES_MAX} bytes"),
            Obstacle::OfKernel(fstype) => {
                write!(out, "'{existing}' is on {fstype}, where the kernel alone makes files")
            }
        }
    }
}

impl NoRoom {
    /// How much of the path there is.
    pub(crate) fn existing(&self) -> &Path {
        &self.existing
    }

    /// The directory.
    pub(crate) fn wanted(&self) -> &Path {
        &self.wanted
    }
}

/// How much of a path exists, a link that leads nowhere included.
pub(crate) fn existing(path: &Path) -> &Path {
    path.ancestors().find(|path| path.symlink_metadata().is_ok()).unwrap_or(path)
}

/// What can be said of a directory that is there or is to be made.
///
/// # Errors
/// What is in the way.
pub(crate) fn room_for(wanted: &Path, mounts: &Mounts) -> Result<Room, NoRoom> {
    let existing = existing(wanted);
    let room = if existing == wanted { Room::Writable } else { Room::Makeable };
    match obstacle(wanted, existing, mounts) {
        None => Ok(room),
        Some(obstacle) => Err(NoRoom { wanted: wanted.into(), existing: existing.into(), obstacle }),
    }
}

fn obstacle(wanted: &Path, existing: &Path, mounts: &Mounts) -> Option<Obstacle> {
    if !existing.is_dir() {
        return Some(Obstacle::NoDirectory);
    }
    let mount = mounts.way(existing.as_os_str().as_bytes()).mount;
    if mount.is_of_kernel() {
        return Some(Obstacle::OfKernel(String::from_utf8_lossy(&mount.fstype).into_owned()));
    }
    // Before what we may: nobody may do that.
    let missing = wanted.strip_prefix(existing).unwrap_or(wanted);
    let max = statvfs(existing).map_or(u64::MAX, |found| found.f_namemax);
    if missing.iter().any(|name| name.len() as u64 > max) {
        return Some(Obstacle::LongName { max });
    }
    if wanted.as_os_str().len() > PATH_BYTES_MAX {
        return Some(Obstacle::LongPath);
    }
    access(existing, Access::WRITE_OK | Access::EXEC_OK).err().map(|_| Obstacle::Forbidden)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_in_the_way_is_told_apart() {
        let directory = tempfile::tempdir().unwrap();
        let mounts = Mounts::read().unwrap();
        let path = |name: &str| directory.path().join(name);
        std::fs::write(path("file"), "").unwrap();
        std::os::unix::fs::symlink("nowhere", path("link")).unwrap();
        let max = usize::try_from(statvfs(directory.path()).unwrap().f_namemax).unwrap();
        let long = "n".repeat(max + 1);
        let deep = vec!["d".repeat(200); 21].join("/");
        let cases: [(PathBuf, Result<Room, String>); 9] = [
            (path(""), Ok(Room::Writable)),
            (path("a/b"), Ok(Room::Makeable)),
            (path(&"n".repeat(max)), Ok(Room::Makeable)),
            (path("file"), Err(format!("'{}' is no directory", path("file").display()))),
            (
                path("file/a"),
                Err(format!(
                    "'{}' cannot be made: '{}' is no directory",
                    path("file/a").display(),
                    path("file").display()
                )),
            ),
            (
                path("link/a"),
                Err(format!(
                    "'{}' cannot be made: '{}' is no directory",
                    path("link/a").display(),
                    path("link").display()
                )),
            ),
            (
                path("a").join(&long),
                Err(format!(
                    "'{}' cannot be made: a name is longer than {max} bytes",
                    path("a").join(&long).display()
                )),
            ),
            (
                path(&deep),
                Err(format!(
                    "'{}' cannot be made: the path is longer than 4095 bytes",
                    path(&deep).display()
                )),
            ),
            (
                "/proc/x/y".into(),
                Err("'/proc/x/y' cannot be made: '/proc' is on proc, where the kernel alone makes files"
                    .into()),
            ),
        ];
        for (wanted, expected) in cases {
            let found = room_for(&wanted, &mounts).map_err(|no_room| no_room.to_string());
            assert_eq!(found, expected, "{}", wanted.display());
        }
    }
}
