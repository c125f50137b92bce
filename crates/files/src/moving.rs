//! The move action.
//!
//! Owns the decision how a move is made. On one filesystem it is one renameat2(2), which is atomic and leaves
//! nothing to clean up; where nothing else depends on what is moved, it is not even looked at. Across filesystems it is
//! a complete, durable copy first; only then is the source removed, and only if it still is what was copied.
//!
//! # Writers
//!
//! A rename takes a file's writers along. A copy does not: what they write after it is lost with the source. So the
//! kernel is asked (a read lease, `syscall::lease`) before the copy, before it gets its name, and while the source is
//! removed; a file that is open for writing ends the action with [`Error::InUse`] and everything as it was. Where
//! leases are not to be had, a writer who is silent can't be seen; one who writes changes the times.

use rustix::io::Errno;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use crate::conflict::{self, Aside, Goes, Replace, Verdict};
use crate::copy::{self, Copier};
use crate::error::{Error, Owner, Refusal, Use};
use crate::metadata::Attributes;
use crate::prune;
use crate::remove::{self, Fingerprints, Kept, Unremoved};
use crate::resolve::{self, Place};
use crate::sys::{self, For, Inode, Kind, Status};
use crate::temporary::{self, Temporary};
use crate::trash::{self, Taken};
use crate::tree;
use crate::{Conflict, Done, Durability, Held, Kinds, Record, Request, Skipped};

/// The move action.
pub(crate) fn perform(
    request: &Request<'_>,
    held: &mut Held,
    record: &mut dyn FnMut(Record<'_>),
) -> Result<Done, Error> {
    let attributes = Attributes::new(request.rule)?;
    let source = resolve::source(request, held);
    if let Ok(place) = &source
        && is_plain(request, &attributes)
        && is_of_wanted_kind(place, request)
        && let Some(to) = resolve::existing_destination(request, held)
        && sys::rename_new(&place.directory, &place.name, &to.directory, &to.name).is_ok()
    {
        record(Record::Move { from: request.source, to: request.destination });
        let pruned = prune::prune(request, place, record);
        return Ok(Done { pruned, ..Done::default() });
    }
    let found = match source.and_then(|place| Found::look(place, request, &attributes)) {
        Err(error) if request.is_known_to_be_gone(&error) => {
            return Ok(Done { unchanged: true, ..Done::default() });
        }
        found => found.map_err(|error| request.in_form_of_python(error))?,
    };
    request.check_kind(&found.status)?;
    if request.is_unchanged(&found.status, &found.place.directory) {
        let identity = Some(found.status.identity());
        return Ok(Done { identity, unchanged: true, ..Done::default() });
    }
    // Mode and owner of a directory are those of all that is in it.
    request.check_brief(found.status.kind == Kind::Directory && attributes.change_anything())?;
    attributes.check(&found.status, &found.place.directory, request.source)?;
    let mut place = resolve::destination(request, held, &attributes, record)?;
    let mut done = found.move_to_free_place(&mut place, request, &attributes, record)?;
    if done.skipped.is_none() || done.skipped == Some(Skipped::Same) {
        done.pruned = prune::prune(request, &found.place, record);
    }
    attributes.check_names()?;
    Ok(done)
}

/// Moves something that was looked at, whatever it is, to a free name: within a filesystem or across two.
pub(crate) fn carry(
    place: Place<'_>,
    status: &Status,
    to: &Place<'_>,
    request: &Request<'_>,
    record: &mut dyn FnMut(Record<'_>),
) -> Result<(), Error> {
    let attributes = Attributes::new(request.rule)?;
    let found = Found { place, status: *status, reference: None };
    match found.rename(to, request, record, Replace::Nothing)? {
        Err(Errno::XDEV) => {
            request.check_brief_copy(status)?;
            found.across(to, request, &attributes, record, Replace::Nothing).map(|_| ())
        }
        result => result.map_err(|errno| Error::os_pair(errno, request.source, &to.path)),
    }
}

/// Whether a rename is all there is to do, whatever it is that is moved. If it fails, the long way says why.
fn is_plain(request: &Request<'_>, attributes: &Attributes<'_>) -> bool {
    let rule = request.rule;
    rule.on_conflict != Conflict::Overwrite
        && !attributes.change_anything()
        && rule.durability != Durability::Always
        && request.unless_same_as.is_none()
        && !request.wants_placed
}

fn is_of_wanted_kind(place: &Place<'_>, request: &Request<'_>) -> bool {
    request.kinds == Kinds::ALL
        || sys::status_at(&place.directory, &place.name).is_ok_and(|status| request.kinds.has(status.kind))
}

/// The source of a move.
struct Found<'a> {
    place: Place<'a>,
    status: Status,
    /// Held where mode or owner are to be set afterwards, so that nothing else can be taken for it.
    reference: Option<OwnedFd>,
}

impl<'a> Found<'a> {
    fn look(place: Place<'a>, request: &Request<'a>, attributes: &Attributes<'_>) -> Result<Self, Error> {
        let failed = |errno| Error::os(errno, request.source);
        if attributes.change_anything() {
            let reference = sys::open_reference(&place.directory, &place.name).map_err(failed)?;
            let status = sys::status(&reference).map_err(failed)?;
            Ok(Found { place, status, reference: Some(reference) })
        } else {
            let status = sys::status_at(&place.directory, &place.name).map_err(failed)?;
            Ok(Found { place, status, reference: None })
        }
    }

    /// Moves it; judges the destination again where somebody else changes it meanwhile.
    fn move_to_free_place(
        &self,
        place: &mut Place<'_>,
        request: &Request<'_>,
        attributes: &Attributes<'_>,
        record: &mut dyn FnMut(Record<'_>),
    ) -> Result<Done, Error> {
        for _ in 1..conflict::JUDGEMENTS_MAX {
            match self.move_to(place, request, attributes, record) {
                Err(error) if conflict::is_judged_again(request, &error) => {}
                result => return result,
            }
        }
        self.move_to(place, request, attributes, record)
    }

    fn move_to(
        &self,
        place: &mut Place<'_>,
        request: &Request<'_>,
        attributes: &Attributes<'_>,
        record: &mut dyn FnMut(Record<'_>),
    ) -> Result<Done, Error> {
        let identity = Some(self.status.identity());
        let replace = match conflict::judge(request, place, &self.status, record)? {
            Verdict::Place(replace) => replace,
            Verdict::Skip(why) => {
                record(Record::Skip { from: request.source, to: &place.path, why });
                return Ok(Done { identity, skipped: Some(why), ..Done::default() });
            }
            Verdict::Compare => {
                self.remove_if_same(place, request, attributes, record)?;
                return Ok(Done { identity, skipped: Some(Skipped::Same), ..Done::default() });
            }
        };
        let (bytes, inode) = match self.rename(place, request, record, replace)? {
            Ok(()) => {
                let is_tree = self.status.kind == Kind::Directory;
                let finished = self.finish(place, request, attributes);
                finished.inspect_err(|_| record(Record::Making { path: &place.path, is_tree }))?;
                (0, self.status.inode)
            }
            Err(Errno::EXIST) if !matches!(replace, Replace::Anything) => {
                return Err(conflict::exists(request, &place.path, self.status.kind));
            }
            Err(Errno::XDEV) => {
                request.check_brief_copy(&self.status)?;
                self.across(place, request, attributes, record, replace)?
            }
            Err(errno) => return Err(Error::os_pair(errno, request.source, &place.path)),
        };
        record(Record::Move { from: request.source, to: request.announced(place) });
        attributes.record(self.status.kind, record);
        let placed = Some(inode.placed_at(&place.path));
        Ok(Done { identity, bytes, placed, ..Done::default() })
    }

    /// Removes the source if the destination has its content: the move is done, and nothing was moved.
    fn remove_if_same(
        &self,
        place: &Place<'_>,
        request: &Request<'_>,
        attributes: &Attributes<'_>,
        record: &mut dyn FnMut(Record<'_>),
    ) -> Result<(), Error> {
        let path = request.source;
        let source = copy::open_kind(self.place.directory.as_fd(), &self.place.name, Kind::File, path)?;
        self.check_same(&source.status, path)?;
        let copier = Copier::for_move(request, attributes, record);
        let look = copier.look_to_copy(source.status, &source, path)?;
        let there = copier.compare(place, &source, &look)?;
        let is_there =
            sys::status_at(&place.directory, &place.name).is_ok_and(|now| now.is_same_state(&there));
        if !is_there {
            return Err(conflict::exists(request, &place.path, self.status.kind));
        }
        match self.remove_copied(&look, Some(source.file.as_fd())) {
            Err(Kept::InUse) => return Err(Error::InUse { path: path.to_vec(), why: Use::Written }),
            Err(Kept::Changed(_)) => return Err(conflict::exists(request, &place.path, self.status.kind)),
            Err(Kept::Os(errno)) => return Err(Error::os(errno, path)),
            Ok(()) => {}
        }
        record(Record::Skip { from: path, to: &place.path, why: Skipped::Same });
        record(Record::Delete(path));
        Ok(())
    }

    /// The outer result says that the trash failed, the inner one what rename(2) says.
    fn rename(
        &self,
        to: &Place<'_>,
        request: &Request<'_>,
        record: &mut dyn FnMut(Record<'_>),
        replace: Replace,
    ) -> Result<sys::Result<()>, Error> {
        let from = &self.place;
        let kind = self.status.kind;
        if replace.any() && self.status.links > 1 && kind != Kind::Directory && self.is_another_name(to)? {
            // rename(2) does nothing between two names of one inode. Differs: the original leaves both
            // (`a_move_onto_another_name_of_the_same_file_leaves_one`).
            return Ok(sys::remove_file(&from.directory, &from.name));
        }
        let (from_at, to_at) = (from.directory.as_fd(), to.directory.as_fd());
        let rename =
            |replace| temporary::rename_replacing(from_at, &from.name, to_at, &to.name, kind, replace);
        if request.rule.trash.is_none() || !replace.any() {
            return Ok(rename(replace));
        }
        match rename(Replace::Nothing) {
            Err(Errno::EXIST) => {}
            // Also where it is another filesystem, of which rename(2) speaks before it looks at the names.
            result => return Ok(result),
        }
        let existing = sys::status_at(&to.directory, &to.name).ok();
        self.check_replaceable(existing.as_ref(), to, request)?;
        trash::replace(request, to, replace, record, rename)
    }

    /// Whether the destination is the same inode under another name.
    fn is_another_name(&self, to: &Place<'_>) -> Result<bool, Error> {
        let failed = |errno| Error::os_pair(errno, &self.place.path, &to.path);
        match sys::status_at(&to.directory, &to.name) {
            Ok(status) if status.inode == self.status.inode => {}
            Ok(_) | Err(_) => return Ok(false),
        }
        let inode = |directory| sys::status(directory).map(|status| status.inode).map_err(failed);
        let same_directory = inode(&*self.place.directory)? == inode(&*to.directory)?;
        Ok(!same_directory || self.place.name != to.name)
    }

    /// After a rename: mode and owner, on the very inode that was looked at before; then the disk, if asked for.
    fn finish(
        &self,
        to: &Place<'_>,
        request: &Request<'_>,
        attributes: &Attributes<'_>,
    ) -> Result<(), Error> {
        let failed = |errno| Error::os(errno, &to.path);
        if let Some(reference) = &self.reference {
            let moved = sys::status_at(&to.directory, &to.name).map_err(failed)?;
            self.check_same(&moved, &to.path)?;
            if self.status.kind == Kind::Directory {
                let top = sys::open_directory(&to.directory, &to.name, For::Reading).map_err(failed)?;
                self.check_same(&sys::status(&top).map_err(failed)?, &to.path)?;
                attributes.apply_to_tree(top, &to.path)?;
            } else {
                attributes.apply(reference, &self.status, &self.place.directory, &to.path)?;
            }
        }
        if request.rule.durability == Durability::Always {
            copy::sync_directory(to.directory.as_fd(), &to.path)?;
            to.made_in.iter().try_for_each(|parent| copy::sync_directory(parent.as_fd(), &to.path))?;
            copy::sync_directory(self.place.directory.as_fd(), request.source)?;
        }
        Ok(())
    }

    fn check_same(&self, other: &Status, path: &[u8]) -> Result<(), Error> {
        if other.inode == self.status.inode {
            return Ok(());
        }
        Err(Refusal::Replaced { path: path.to_vec(), owner: Some(Owner(other.uid)) }.into())
    }

    /// The move across filesystems; gives the number of bytes that were copied, and what is at the destination now.
    fn across(
        &self,
        to: &Place<'_>,
        request: &Request<'_>,
        attributes: &Attributes<'_>,
        record: &mut dyn FnMut(Record<'_>),
        replace: Replace,
    ) -> Result<(u64, Inode), Error> {
        // rename(2) says EXDEV before it looks at the names, so that is asked now; the last rename asks again.
        let existing = match sys::status_at(&to.directory, &to.name) {
            Ok(_) if !replace.any() => return Err(conflict::exists(request, &to.path, self.status.kind)),
            Ok(existing) => Some(existing),
            Err(_) => None,
        };
        self.check_replaceable(existing.as_ref(), to, request)?;
        if let Err(errno) = remove::check_removable(&self.place, &self.status) {
            return Err(self.not_removable(Error::os(errno, request.source), to, false));
        }
        let mut copier = Copier::for_move(request, attributes, record);
        let inode = match self.status.kind {
            Kind::Directory => {
                self.directory_across(&mut copier, to, existing.map(|existing| existing.kind), replace)?
            }
            Kind::Link => self.link_across(&mut copier, to, existing.is_some(), replace)?,
            Kind::File | Kind::Fifo | Kind::Socket | Kind::Device | Kind::Unknown => {
                self.file_across(&mut copier, to, existing.is_some(), replace)?
            }
        };
        Ok((copier.bytes, inode))
    }

    /// What rename(2) would say to the destination, before anything is copied.
    fn check_replaceable(
        &self,
        existing: Option<&Status>,
        to: &Place<'_>,
        request: &Request<'_>,
    ) -> Result<(), Error> {
        let Some(existing) = existing else { return Ok(()) };
        let failed = |errno| Err(Error::os_pair(errno, request.source, &to.path));
        if existing.inode == self.status.inode {
            return Err(Error::SameFile { from: request.source.to_vec(), to: to.path.to_vec() });
        }
        match (self.status.kind == Kind::Directory, existing.kind == Kind::Directory) {
            (false, true) => failed(Errno::ISDIR),
            (true, false) => failed(Errno::NOTDIR),
            (true, true) if !is_empty(to)? => failed(Errno::NOTEMPTY),
            (false, false) | (true, true) => Ok(()),
        }
    }

    fn file_across(
        &self,
        copier: &mut Copier<'_>,
        to: &Place<'_>,
        has_replaced: bool,
        replace: Replace,
    ) -> Result<Inode, Error> {
        let path = copier.request.source;
        let source = copy::open_kind(self.place.directory.as_fd(), &self.place.name, self.status.kind, path)?;
        // Refused rather than moved: mode and owner were judged by what was there a moment ago.
        self.check_same(&source.status, path)?;
        let (result, taken) = copier.file_for_now(&source, path, to, replace)?;
        let removed = self.remove_copied(&result.source, Some(source.file.as_fd()));
        let copy = NewCopy { source: result.source, made: result.made, taken, has_replaced };
        self.end_across(copy, &removed, to, copier.record)
    }

    fn link_across(
        &self,
        copier: &mut Copier<'_>,
        to: &Place<'_>,
        has_replaced: bool,
        replace: Replace,
    ) -> Result<Inode, Error> {
        let failed = |errno| Error::os_pair(errno, copier.request.source, &to.path);
        let from = &self.place;
        let reference = sys::open_reference(&from.directory, &from.name).map_err(failed)?;
        let status = sys::status(&reference).map_err(failed)?;
        self.check_same(&status, copier.request.source)?;
        let text = sys::read_link(&reference).map_err(failed)?;
        let temporary = Temporary::link(to.directory.as_fd(), &text).map_err(failed)?;
        copier.dress_link(&status, &to.directory, temporary.name()).map_err(failed)?;
        let made = sys::status_at(&to.directory, temporary.name()).map_err(failed)?;
        let taken = copier.place(temporary, copier.request.source, to, Kind::Link, replace)?;
        let copy = NewCopy { source: status, made, taken, has_replaced };
        self.end_across(copy, &self.remove_copied(&status, None), to, copier.record)
    }

    /// Removes the source of a complete copy, if its name still leads to what was copied.
    fn remove_copied(&self, copied: &Status, file: Option<BorrowedFd<'_>>) -> Result<(), Kept> {
        remove::copied(&self.place.directory, &self.place.name, file, |now| now.is_same_state(copied))
    }

    /// Ends the move of a file or link, whose source was removed or kept. If it was kept as it is, the copy is taken
    /// back, so that the next try finds all as this one did.
    fn end_across(
        &self,
        copy: NewCopy<'_>,
        removed: &Result<(), Kept>,
        to: &Place<'_>,
        record: &mut dyn FnMut(Record<'_>),
    ) -> Result<Inode, Error> {
        let path = &self.place.path;
        let kept = |why| Error::SourceKept { from: path.to_vec(), to: to.path.to_vec(), why };
        let inode = copy.made.inode;
        match removed {
            Ok(()) => {
                trash::keep(copy.taken, record);
                Ok(inode)
            }
            // Somebody has begun to write to it since the copy got its name.
            Err(Kept::InUse) => {
                copy.take_back(to, record);
                Err(Error::InUse { path: path.to_vec(), why: Use::Written })
            }
            Err(Kept::Changed(owner)) => {
                copy.stay(to, record);
                Err(kept(format!("it was changed by {owner} meanwhile")))
            }
            Err(Kept::Os(errno)) => {
                let error = Error::os(*errno, path);
                let source = sys::status_at(&self.place.directory, &self.place.name);
                let is_there = source.is_ok_and(|source| source.is_same_content(&copy.source));
                if !is_forbidden(&error) || !is_there {
                    copy.stay(to, record);
                } else if copy.take_back(to, record) {
                    return Err(self.not_removable(error, to, true));
                }
                Err(kept(error.to_string()))
            }
        }
    }

    fn not_removable(&self, why: Error, to: &Place<'_>, copied: bool) -> Error {
        let (from, to) = (self.place.path.to_vec(), to.path.to_vec());
        Error::NotRemovable { from, to, why: Box::new(why), copied }
    }

    fn directory_across(
        &self,
        copier: &mut Copier<'_>,
        to: &Place<'_>,
        existing: Option<Kind>,
        replace: Replace,
    ) -> Result<Inode, Error> {
        let path = copier.request.source;
        let source = copy::open_kind(self.place.directory.as_fd(), &self.place.name, Kind::Directory, path)?;
        self.check_same(&source.status, path)?;
        let inode = tree::copy(copier, &source, to, existing, replace)?;
        let Err(Unremoved { error, is_whole }) = remove::moved_tree(&self.place, &copier.copied) else {
            return Ok(inode);
        };
        let mut why = error.to_string();
        if is_whole && is_forbidden(&error) {
            match take_tree_back(to, inode, &copier.made) {
                Ok(true) => return Err(self.not_removable(error, to, true)),
                Ok(false) => {}
                Err(partly) => why = format!("{why}; the copy was taken back in part: {partly}"),
            }
        }
        Err(Error::SourceKept { from: path.to_vec(), to: to.path.to_vec(), why })
    }
}

/// A copy that has the destination's name, of a file or link that is to be removed now.
struct NewCopy<'a> {
    source: Status,
    made: Status,
    /// What it has replaced, if that is in a trash.
    taken: Option<Taken<'a>>,
    /// It has replaced something.
    has_replaced: bool,
}

impl NewCopy<'_> {
    /// It stays, although the move fails.
    fn stay(self, to: &Place<'_>, record: &mut dyn FnMut(Record<'_>)) {
        record(Record::Making { path: &to.path, is_tree: false });
        trash::keep(self.taken, record);
    }

    /// Removes it if it is there as it was made, and gives back what it has replaced. Where that is gone, it stays, to
    /// be replaced itself by the next try. False if it is not removed.
    fn take_back(self, to: &Place<'_>, record: &mut dyn FnMut(Record<'_>)) -> bool {
        let may_go = self.taken.is_some() || !self.has_replaced;
        let aside = || Aside::set(to.directory.as_fd(), &to.name, &self.made, Goes::Now);
        let is_gone = may_go && aside().and_then(Aside::remove).is_ok();
        if is_gone {
            if let Some(taken) = self.taken {
                taken.give_back(record);
            }
        } else {
            self.stay(to, record);
        }
        is_gone
    }
}

/// Removes a tree that was placed a moment ago; false if it is not there as it was made. An error if a part of it is
/// gone.
fn take_tree_back(to: &Place<'_>, inode: Inode, made: &Fingerprints) -> Result<bool, Error> {
    let Ok(status) = sys::status_at(&to.directory, &to.name) else { return Ok(false) };
    if status.inode != inode {
        return Ok(false);
    }
    let Ok(aside) = Aside::set(to.directory.as_fd(), &to.name, &status, Goes::Later) else {
        return Ok(false);
    };
    aside.remove_by(|at, name| remove::made_tree(at, name, made)).map(|()| true)
}

/// Whether an error says that something may not be done, so that nothing of it was done.
fn is_forbidden(error: &Error) -> bool {
    let Error::Os { errno, .. } = error else { return false };
    matches!(*errno, Errno::PERM | Errno::ACCESS | Errno::ROFS | Errno::BUSY)
}

fn is_empty(place: &Place<'_>) -> Result<bool, Error> {
    let failed = |errno| Error::os(errno, &place.path);
    let directory = sys::open_directory(&place.directory, &place.name, For::Reading).map_err(failed)?;
    // The first entry ends the listing.
    match sys::list(directory.as_fd(), |_, _| Err(Errno::NOTEMPTY)) {
        Err(Errno::NOTEMPTY) => Ok(false),
        result => result.map(|()| true).map_err(failed),
    }
}
