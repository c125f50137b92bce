//! Removing the directories that a source leaves empty.
//!
//! Owns the way up from the source to the root of its watch. A directory is removed by rmdir(2), which removes only
//! what is empty, by its name in the directory above, and only if that name still leads to it.

use std::os::fd::{AsFd as _, OwnedFd};
use std::rc::Rc;
use std::sync::atomic::AtomicBool;

use rustix::io::Errno;

use crate::error::Error;
use crate::held::Held;
use crate::metadata::{Attributes, mode_without_list};
use crate::resolve::{self, Place, split, trim_slashes};
use crate::sys::{self, For, Gid, Status, Uid};
use crate::{Action, Pruned, Record, Request, Rule};

/// Removes the parents of a source that is gone, as far as they are empty, if the rule says so. It is done then: what
/// can't be removed is said and left.
pub(crate) fn prune(
    request: &Request<'_>,
    source: &Place<'_>,
    record: &mut dyn FnMut(Record<'_>),
) -> Vec<Pruned> {
    let mut pruned = Vec::new();
    if !request.rule.prune {
        return pruned;
    }
    let mut path = split(&source.path).0;
    let mut directory = Rc::clone(&source.directory);
    while !is_root(request, path) {
        let (above, status) = match remove(&directory, path) {
            Ok(removed) => removed,
            // There is something else in it, or it is gone already.
            Err(Errno::NOTEMPTY | Errno::EXIST | Errno::NOENT | Errno::STALE) => return pruned,
            Err(errno) => {
                let error = Error::os(errno, path);
                record(Record::Warning(&format!("the empty directory is left: {error}")));
                return pruned;
            }
        };
        record(Record::Prune(path));
        pruned.push(Pruned { path: path.to_vec(), mode: status.mode, uid: status.uid, gid: status.gid });
        path = split(path).0;
        directory = above;
    }
    pruned
}

/// Makes a directory again that was pruned: with its mode, and as root for its owner. One that is there stays as it is.
/// Of the path so much is the administrator's text.
///
/// # Errors
/// It cannot be made, or not as it was.
pub fn make_again(
    pruned: &Pruned,
    trusted_len: usize,
    record: &mut dyn FnMut(Record<'_>),
) -> Result<(), Error> {
    let rule = Rule::new(Action::Move);
    let stop = AtomicBool::new(false);
    let request = Request { trusted_len, ..Request::plain(&rule, &pruned.path, &pruned.path, &stop) };
    let place = resolve::destination(&request, &mut Held::default(), &Attributes::new(&rule)?, record)?;
    let failed = |errno| Error::os(errno, &pruned.path);
    record(Record::Making { path: &pruned.path, is_tree: false });
    // Nobody enters it before it has its owner and its mode.
    match sys::make_directory(&*place.directory, &place.name, 0o700) {
        Err(Errno::EXIST) => return Ok(()),
        made => made.map_err(failed)?,
    }
    record(Record::CreateDirectory(&pruned.path));
    let made = sys::open_directory(&*place.directory, &place.name, For::Reading).map_err(failed)?;
    if rustix::process::geteuid().is_root() {
        let (uid, gid) = (Uid::from_raw(pruned.uid), Gid::from_raw(pruned.gid));
        sys::set_owner(&made, Some(uid), Some(gid)).map_err(failed)?;
    }
    sys::set_mode(&made, pruned.mode).map_err(failed)
}

/// Whether a path is that of a watch's root, or not below that of the request at all.
fn is_root(request: &Request<'_>, path: &[u8]) -> bool {
    let root = trim_slashes(request.root);
    let is_below = path.strip_prefix(root).is_some_and(|below| below.first() == Some(&b'/') || root == b"/");
    !is_below || path == b"/" || request.roots.iter().any(|root| trim_slashes(root) == path)
}

/// Removes an empty directory, and gives the one that it was in and what it was.
fn remove(directory: &Rc<OwnedFd>, path: &[u8]) -> sys::Result<(Rc<OwnedFd>, Status)> {
    let name = split(path).1;
    let above = sys::open_directory(&**directory, b"..", For::Lookup)?;
    // Renamed meanwhile: another directory may have its name.
    let status = sys::status(&**directory)?;
    if sys::status_at(&above, name)?.inode != status.inode {
        return Err(Errno::STALE);
    }
    let readable = sys::open_directory(&above, name, For::Reading);
    let mode = readable.and_then(|directory| mode_without_list(directory.as_fd(), status.mode));
    sys::remove_directory(&above, name)?;
    // Where it is not known what the group may do, it may nothing.
    Ok((Rc::new(above), Status { mode: mode.unwrap_or(status.mode & !0o070), ..status }))
}
