//! A walk through a directory tree that needs no recursion and, at any depth, two descriptors.
//!
//! Owns the stack of directories that are not finished, and the way back up: through `..`, believed only if it leads
//! to the very directory that the walk came from. Where somebody has moved the directory away meanwhile, the way leads
//! down from the top again, by the names by which the walk went, believed on the same condition. What is done with what
//! is found is the caller's business.

use rustix::io::Errno;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use crate::error::{Error, Owner, Refusal};
use crate::resolve::push_name;
use crate::sys::{self, For, Inode, Kind, Within};

/// Deepest nesting. One path of PATH_MAX bytes reaches 2,048 levels; what is deeper was made to be a nuisance.
const DEPTH_MAX: usize = 10_000;

/// Bytes of names of directories that wait to be entered, in all: about two million of them.
const PENDING_MAX: usize = 64 * 1024 * 1024;

/// One entry of the directory that is listed.
pub(crate) struct Entry<'a> {
    pub(crate) directory: BorrowedFd<'a>,
    pub(crate) name: &'a [u8],
    /// As the listing says; [`Kind::Unknown`] on filesystems that don't.
    pub(crate) kind: Kind,
    parent: &'a [u8],
}

impl Entry<'_> {
    /// Path of the entry, for texts.
    pub(crate) fn path(&self) -> Vec<u8> {
        let mut path = self.parent.to_vec();
        push_name(&mut path, self.name);
        path
    }

    pub(crate) fn failed(&self, errno: Errno) -> Error {
        Error::os(errno, &self.path())
    }
}

/// What becomes of an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Visit {
    /// It was dealt with.
    Done,
    /// It is a directory to enter later.
    Later,
}

/// Why a directory was not listed to its end.
pub(crate) enum Failed {
    /// The caller ended it.
    Visit(Error),
    /// It could not be read.
    List(Error),
}

impl From<Failed> for Error {
    fn from(failed: Failed) -> Self {
        match failed {
            Failed::Visit(error) | Failed::List(error) => error,
        }
    }
}

/// Directories that wait, as one blob of NUL-terminated names; the last one is next.
#[derive(Default)]
struct Pending(Vec<u8>);

impl Pending {
    fn push(&mut self, name: &[u8]) {
        self.0.extend_from_slice(name);
        self.0.push(0);
    }

    fn pop(&mut self) -> Option<Vec<u8>> {
        let end = self.0.len().checked_sub(1)?;
        let start = self.0[..end].iter().rposition(|byte| *byte == 0).map_or(0, |nul| nul + 1);
        let name = self.0[start..end].to_vec();
        self.0.truncate(start);
        Some(name)
    }
}

struct Level {
    inode: Inode,
    pending: Pending,
    /// Length of the path of the directory above.
    parent_path_len: usize,
    /// The directory above, where `..` would not lead back to it, and where it is the top.
    parent: Option<OwnedFd>,
}

/// A directory that the walk has left.
pub(crate) struct Left {
    pub(crate) directory: OwnedFd,
    /// Its name in the directory that is current now; empty for the top.
    pub(crate) name: Vec<u8>,
}

/// The walk itself. It is always in some directory, from the top until the top is left.
pub(crate) struct Walk {
    current: OwnedFd,
    path: Vec<u8>,
    levels: Vec<Level>,
    pending_size: usize,
}

impl Walk {
    /// Starts in an open directory; `path` is for texts.
    pub(crate) fn start(top: OwnedFd, path: &[u8]) -> Result<Self, Error> {
        let inode = sys::status(&top).map_err(|errno| Error::os(errno, path))?.inode;
        let level = Level { inode, pending: Pending::default(), parent_path_len: 0, parent: None };
        Ok(Walk { current: top, path: path.to_vec(), levels: vec![level], pending_size: 0 })
    }

    pub(crate) fn path(&self) -> &[u8] {
        &self.path
    }

    pub(crate) fn directory(&self) -> BorrowedFd<'_> {
        self.current.as_fd()
    }

    /// Whether a directory is one of those that the walk is inside of.
    pub(crate) fn is_inside(&self, inode: Inode) -> bool {
        self.levels.iter().any(|level| level.inode == inode)
    }

    /// Shows each entry of the current directory to `visit`, once.
    pub(crate) fn list(
        &mut self,
        mut visit: impl FnMut(&Entry<'_>) -> Result<Visit, Error>,
    ) -> Result<(), Failed> {
        let Walk { current, path, levels, pending_size } = self;
        let level = levels.last_mut().expect("a walk is somewhere");
        let mut failure = None;
        let listed = sys::list(current.as_fd(), |name, kind| {
            let entry = Entry { directory: current.as_fd(), name, kind, parent: path };
            match visit(&entry) {
                Ok(Visit::Done) => Ok(()),
                Ok(Visit::Later) if *pending_size + name.len() > PENDING_MAX => {
                    let what = "too many directories";
                    failure = Some(Failed::List(Error::TooLarge { path: path.clone(), what }));
                    Err(Errno::CANCELED)
                }
                Ok(Visit::Later) => {
                    *pending_size += name.len();
                    level.pending.push(name);
                    Ok(())
                }
                Err(error) => {
                    failure = Some(Failed::Visit(error));
                    Err(Errno::CANCELED)
                }
            }
        });
        match (failure, listed) {
            (Some(failure), _) => Err(failure),
            (None, listed) => listed.map_err(|errno| Failed::List(Error::os(errno, path))),
        }
    }

    /// Shows one entry of the current directory to `visit`.
    pub(crate) fn show(
        &self,
        name: &[u8],
        visit: impl FnOnce(&Entry<'_>) -> Result<(), Error>,
    ) -> Result<(), Error> {
        visit(&Entry { directory: self.current.as_fd(), name, kind: Kind::Unknown, parent: &self.path })
    }

    /// Lets a directory in the current one be entered later.
    pub(crate) fn enter_later(&mut self, name: &[u8]) {
        let level = self.levels.last_mut().expect("a walk is somewhere");
        self.pending_size += name.len();
        level.pending.push(name);
    }

    /// The next directory that [`Walk::list`] was told to enter later, in the current one.
    pub(crate) fn next(&mut self) -> Option<Vec<u8>> {
        let name = self.levels.last_mut()?.pending.pop()?;
        self.pending_size -= name.len();
        Some(name)
    }

    /// Path of a name in the current directory, for texts.
    pub(crate) fn path_of(&self, name: &[u8]) -> Vec<u8> {
        let mut path = self.path.clone();
        push_name(&mut path, name);
        path
    }

    /// Fails where [`Walk::enter`] would, because the tree is too deep.
    pub(crate) fn check_depth(&self) -> Result<(), Error> {
        if self.levels.len() < DEPTH_MAX {
            return Ok(());
        }
        Err(Error::TooLarge { path: self.path.clone(), what: "directories are nested too deeply" })
    }

    /// Enters an open directory. `keep_parent` where its `..` is not the current one (it was reached by a link).
    pub(crate) fn enter(&mut self, name: &[u8], directory: OwnedFd, keep_parent: bool) -> Result<(), Error> {
        self.check_depth()?;
        let inode = sys::status(&directory).map_err(|errno| Error::os(errno, &self.path_of(name)))?.inode;
        let parent_path_len = self.path.len();
        push_name(&mut self.path, name);
        let left = std::mem::replace(&mut self.current, directory);
        let is_top = self.levels.len() == 1;
        let parent = (keep_parent || is_top).then_some(left);
        self.levels.push(Level { inode, pending: Pending::default(), parent_path_len, parent });
        Ok(())
    }

    /// Goes back to the directory above.
    pub(crate) fn leave(mut self) -> Result<(Left, Option<Walk>), Error> {
        let level = self.levels.pop().expect("a walk is somewhere");
        let Some(above) = self.levels.last() else {
            return Ok((Left { directory: self.current, name: Vec::new() }, None));
        };
        let parent = match level.parent {
            Some(parent) => parent,
            None => match go_up(&self.current, above.inode, &self.path) {
                Err(error @ Error::Refused(Refusal::Replaced { .. })) => {
                    self.come_down(level.parent_path_len).ok_or(error)?
                }
                result => result?,
            },
        };
        let name_start = level.parent_path_len;
        let name = self.path[name_start..].strip_prefix(b"/").unwrap_or(&self.path[name_start..]).to_vec();
        self.path.truncate(name_start);
        let directory = std::mem::replace(&mut self.current, parent);
        Ok((Left { directory, name }, Some(self)))
    }
}

impl Walk {
    /// Opens the last of the levels by the names on the way from the nearest one that is kept open, if the same
    /// directories still have them. `end` is where the path of the last one ends.
    fn come_down(&self, end: usize) -> Option<OwnedFd> {
        let from = self.levels.iter().rposition(|level| level.parent.is_some())?;
        let ends = self.levels[from + 1..].iter().map(|level| level.parent_path_len).chain([end]);
        let mut at: Option<OwnedFd> = None;
        for (level, end) in self.levels[from..].iter().zip(ends) {
            let name = &self.path[level.parent_path_len..end];
            let name = name.strip_prefix(b"/").unwrap_or(name);
            let above = at.as_ref().or(self.levels[from].parent.as_ref())?;
            let directory = sys::open_directory(above, name, For::Reading).ok()?;
            if sys::status(&directory).ok()?.inode != level.inode {
                return None;
            }
            at = Some(directory);
        }
        at
    }
}

/// Opens the directory above, if it is the one that it should be.
pub(crate) fn go_up(from: &OwnedFd, expected: Inode, path: &[u8]) -> Result<OwnedFd, Error> {
    let failed = |errno| Error::os(errno, path);
    let parent = sys::open_directory(from, b"..", For::Reading).map_err(failed)?;
    let status = sys::status(&parent).map_err(failed)?;
    if status.inode != expected {
        return Err(Refusal::Replaced { path: path.to_vec(), owner: Some(Owner(status.uid)) }.into());
    }
    Ok(parent)
}

/// Opens a directory on the same mount as the one it is in; EXDEV if something is mounted on it.
pub(crate) fn open_on_same_mount(at: BorrowedFd<'_>, name: &[u8]) -> sys::Result<OwnedFd> {
    match sys::open_within(at, name, For::Reading, Within::BeneathMount) {
        // Without openat2(2), mounts of the same filesystem (bind mounts) can't be told apart.
        Err(Errno::NOSYS | Errno::PERM) => {
            let directory = sys::open_directory(at, name, For::Reading)?;
            let same = sys::status(at)?.inode.dev == sys::status(&directory)?.inode.dev;
            if same { Ok(directory) } else { Err(Errno::XDEV) }
        }
        Err(Errno::LOOP) => Err(Errno::NOTDIR),
        result => result,
    }
}

/// Says why a directory was not entered.
pub(crate) fn not_entered(errno: Errno, path: &[u8]) -> Error {
    match errno {
        Errno::XDEV => Refusal::MountPoint { path: path.to_vec() }.into(),
        errno => Error::os(errno, path),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_wait_in_a_blob() {
        let mut pending = Pending::default();
        assert_eq!(pending.pop(), None);
        for name in [&b"a"[..], b"long name", b"\xff"] {
            pending.push(name);
        }
        assert_eq!(pending.pop().as_deref(), Some(&b"\xff"[..]));
        assert_eq!(pending.pop().as_deref(), Some(&b"long name"[..]));
        pending.push(b"b");
        assert_eq!(pending.pop().as_deref(), Some(&b"b"[..]));
        assert_eq!(pending.pop().as_deref(), Some(&b"a"[..]));
        assert_eq!(pending.pop(), None);
    }
}
