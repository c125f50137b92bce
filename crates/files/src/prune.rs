//! Removing the directories that a source leaves empty.
//!
//! Owns the way up from the source to the root of its watch. A directory is removed by rmdir(2), which removes only
//! what is empty, by its name in the directory above, and only if that name still leads to it.

use std::rc::Rc;

use rustix::io::Errno;

use crate::error::Error;
use crate::resolve::{Place, split, trim_slashes};
use crate::sys::{self, For};
use crate::{Record, Request};

/// Removes the parents of a source that is gone, as far as they are empty, if the rule says so. It is done then: what
/// can't be removed is said and left.
pub(crate) fn prune(request: &Request<'_>, source: &Place<'_>, record: &mut dyn FnMut(Record<'_>)) {
    if !request.rule.prune {
        return;
    }
    let mut path = split(&source.path).0;
    let mut directory = Rc::clone(&source.directory);
    while !is_root(request, path) {
        let above = match remove(&directory, path) {
            Ok(above) => above,
            // There is something else in it, or it is gone already.
            Err(Errno::NOTEMPTY | Errno::EXIST | Errno::NOENT | Errno::STALE) => return,
            Err(errno) => {
                let error = Error::os(errno, path);
                return record(Record::Warning(&format!("the empty directory is left: {error}")));
            }
        };
        record(Record::Prune(path));
        path = split(path).0;
        directory = above;
    }
}

/// Whether a path is that of a watch's root, or not below that of the request at all.
fn is_root(request: &Request<'_>, path: &[u8]) -> bool {
    let root = trim_slashes(request.root);
    let is_below = path.strip_prefix(root).is_some_and(|below| below.first() == Some(&b'/') || root == b"/");
    !is_below || path == b"/" || request.roots.iter().any(|root| trim_slashes(root) == path)
}

/// Removes an empty directory and gives the one that it was in.
fn remove(directory: &Rc<std::os::fd::OwnedFd>, path: &[u8]) -> sys::Result<Rc<std::os::fd::OwnedFd>> {
    let name = split(path).1;
    let above = sys::open_directory(&**directory, b"..", For::Lookup)?;
    // Renamed meanwhile: another directory may have its name.
    if sys::status_at(&above, name)?.inode != sys::status(&**directory)?.inode {
        return Err(Errno::STALE);
    }
    sys::remove_directory(&above, name)?;
    Ok(Rc::new(above))
}
