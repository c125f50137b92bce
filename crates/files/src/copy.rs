//! Making a second file, link or tree like the first.
//!
//! Owns the copy action and the copying half of a move across filesystems. Whatever is new grows under a temporary
//! name and appears under its own in one step, a tree as a whole; what exists is replaced file by file.

use rustix::io::Errno;
use std::borrow::Cow;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::rc::Rc;
use std::sync::atomic::Ordering;
use std::thread;
use std::time::Duration;

use crate::conflict::{self, Replace, Verdict};
use crate::content::{self, Content, Failure, SMALL_SIZE};
use crate::error::{Error, Owner, Refusal, Use};
use crate::identity;
use crate::metadata::{Attributes, Heir, Keep, is_not_here};
use crate::remove::Fingerprints;
use crate::resolve::{self, Place};
use crate::sys::{self, For, Gid, Inode, Kind, Status, Uid, Writers};
use crate::temporary::Temporary;
use crate::trash::{self, Taken};
use crate::tree;
use crate::{Done, Durability, Held, Record, Request, Skipped};

/// How often a file is copied that is written meanwhile, before it is left for the event of its last write.
const TRIES_MAX: u32 = 3;

/// How long a move waits for a file's times to prove something, before it is left for later: a few ticks of the
/// kernel's clock.
const PAUSE_MAX: Duration = Duration::from_millis(25);

/// An open source.
pub(crate) struct Source {
    pub(crate) file: OwnedFd,
    pub(crate) status: Status,
}

/// A file whose copy is in its place.
pub(crate) struct Copied {
    /// The source, as it was copied.
    pub(crate) source: Status,
    /// The new file, as it was made.
    pub(crate) made: Status,
}

/// What stays the same while one action copies.
pub(crate) struct Copier<'c> {
    pub(crate) request: &'c Request<'c>,
    pub(crate) attributes: &'c Attributes<'c>,
    pub(crate) keep: Keep,
    pub(crate) record: &'c mut dyn FnMut(Record<'_>),
    pub(crate) bytes: u64,
    /// What was copied, for the removal that follows in a move.
    pub(crate) copied: Fingerprints,
    /// What was made of it in a tree, should a move have to take that back.
    pub(crate) made: Fingerprints,
}

/// The copy action.
pub(crate) fn copy(
    request: &Request<'_>,
    held: &mut Held,
    record: &mut dyn FnMut(Record<'_>),
) -> Result<Done, Error> {
    let attributes = Attributes::new(request.rule)?;
    let place = resolve::source(request, held)?;
    let source = open_source(&place, request, &attributes)?;
    if request.is_unchanged(&source.status, &source.file) {
        let identity = Some(source.status.identity());
        return Ok(Done { identity, unchanged: true, ..Done::default() });
    }
    request.check_brief_copy(&source.status)?;
    let mut copier = Copier {
        request,
        attributes: &attributes,
        keep: Keep::ForCopy,
        record,
        bytes: 0,
        copied: Fingerprints::default(),
        made: Fingerprints::default(),
    };
    let done = copier.copy_to_destination(&source, held)?;
    attributes.check_names()?;
    Ok(done)
}

/// Opens what a copy reads, through a link if the link may be followed.
fn open_source(
    place: &Place<'_>,
    request: &Request<'_>,
    attributes: &Attributes<'_>,
) -> Result<Source, Error> {
    let failed = |errno| Error::os(errno, &place.path);
    let status = sys::status_at(&place.directory, &place.name).map_err(failed)?;
    request.check_kind(&status)?;
    match status.kind {
        Kind::Link => {
            let followed = resolve::follow(place.directory.as_fd(), &place.name, &place.path)?;
            open_followed(followed, attributes, &place.path)
        }
        Kind::Directory | Kind::File | Kind::Fifo | Kind::Socket | Kind::Device | Kind::Unknown => {
            let source = open_kind(place.directory.as_fd(), &place.name, status.kind, &place.path)?;
            attributes.check_copied(&source.status, &place.directory, &place.path)?;
            Ok(source)
        }
    }
}

/// Opens what a link leads to, and nothing that takes its place meanwhile.
pub(crate) fn open_followed(
    followed: resolve::Followed,
    attributes: &Attributes<'_>,
    path: &[u8],
) -> Result<Source, Error> {
    let resolve::Followed { reference, status, place } = followed;
    let source = match place {
        Some((directory, name)) => {
            let source = open_kind(directory.as_fd(), &name, status.kind, path)?;
            attributes.check_copied(&source.status, &directory, path)?;
            source
        }
        None => open_kind(reference.as_fd(), b".", status.kind, path)?,
    };
    if source.status.inode == status.inode {
        Ok(source)
    } else {
        Err(Refusal::Replaced { path: path.to_vec(), owner: Some(Owner(source.status.uid)) }.into())
    }
}

/// Opens a file or a directory; refuses the rest, before and after opening.
pub(crate) fn open_kind(
    directory: BorrowedFd<'_>,
    name: &[u8],
    kind: Kind,
    path: &[u8],
) -> Result<Source, Error> {
    let failed = |errno| Error::os(errno, path);
    // Opening a FIFO wakes its writers, opening a device may do anything: look first, and again at what was opened.
    check_kind(kind, path)?;
    let file = match kind {
        Kind::Directory => sys::open_directory(directory, name, For::Reading),
        Kind::File | Kind::Link | Kind::Fifo | Kind::Socket | Kind::Device | Kind::Unknown => {
            sys::open_file(directory, name)
        }
    };
    let file = match file {
        // A link has taken its place since.
        Err(Errno::LOOP | Errno::NOTDIR) => {
            return Err(Refusal::Replaced { path: path.to_vec(), owner: owner_of(directory, name) }.into());
        }
        // Opening does not wait for the end of a lease, but asks for it.
        Err(Errno::AGAIN) => return Err(Error::InUse { path: path.to_vec(), why: Use::Leased }),
        file => file.map_err(failed)?,
    };
    let status = sys::status(&file).map_err(failed)?;
    check_kind(status.kind, path)?;
    Ok(Source { file, status })
}

fn owner_of(directory: BorrowedFd<'_>, name: &[u8]) -> Option<Owner> {
    sys::status_at(directory, name).ok().map(|status| Owner(status.uid))
}

/// Only files and directories have something to copy.
fn check_kind(kind: Kind, path: &[u8]) -> Result<(), Error> {
    let kind = match kind {
        Kind::File | Kind::Directory => return Ok(()),
        Kind::Fifo => "named pipe",
        Kind::Socket => "socket",
        Kind::Device => "device file",
        Kind::Link => "symbolic link",
        Kind::Unknown => "file of unknown kind",
    };
    Err(Error::Special { path: path.to_vec(), kind })
}

impl<'c> Copier<'c> {
    /// The copying half of a move across filesystems.
    pub(crate) fn for_move(
        request: &'c Request<'c>,
        attributes: &'c Attributes<'c>,
        record: &'c mut dyn FnMut(Record<'_>),
    ) -> Self {
        let (copied, made) = (Fingerprints::default(), Fingerprints::default());
        Copier { request, attributes, keep: Keep::ForMove, record, bytes: 0, copied, made }
    }

    /// As [`Copier::file`]; what was replaced and is in the trash is given, too, to be kept there or given back.
    pub(crate) fn file_for_now(
        &mut self,
        source: &Source,
        from: &[u8],
        place: &Place<'_>,
        replace: Replace,
    ) -> Result<(Copied, Option<Taken<'c>>), Error> {
        let failed = |errno| Error::os_pair(errno, from, &place.path);
        let look = self.look_to_copy(source.status, source, from)?;
        let (temporary, file) = Temporary::file(place.directory.as_fd()).map_err(failed)?;
        // From here on every error drops, and so removes, the temporary file.
        let status = self.fill(source, look, from, &file, &place.path)?;
        let made = sys::status(&file).map_err(failed)?;
        self.finish_file(file, &place.path)?;
        temporary.wait_until_closed();
        self.check_unused(source, from)?;
        self.check_stop(|| from.to_vec())?;
        let taken = self.place(temporary, from, place, Kind::File, replace)?;
        Ok((Copied { source: status, made }, taken))
    }

    /// Gives a file or link its name, and syncs that. Gives what it has replaced, if that is in the trash.
    pub(crate) fn place(
        &mut self,
        mut temporary: Temporary<BorrowedFd<'_>>,
        from: &[u8],
        place: &Place<'_>,
        kind: Kind,
        replace: Replace,
    ) -> Result<Option<Taken<'c>>, Error> {
        let place_it = |replace| temporary.place(&place.name, replace);
        let taken = match trash::replace_for_now(self.request, place, replace, self.record, place_it)? {
            Err(Errno::EXIST) => return Err(conflict::exists(self.request, &place.path, kind)),
            result => result.map_err(|errno| Error::os_pair(errno, from, &place.path))?,
        };
        if let Err(error) = self.sync_place(place) {
            (self.record)(Record::Making { path: &place.path, is_tree: false });
            trash::keep(taken, self.record);
            return Err(error);
        }
        Ok(taken)
    }
}

impl Copier<'_> {
    /// Copies to the request's destination; judges it again where somebody else changes it meanwhile.
    fn copy_to_destination(&mut self, source: &Source, held: &mut Held) -> Result<Done, Error> {
        let request = self.request;
        let mut place = resolve::destination(request, held, self.attributes, self.record)?;
        for _ in 1..conflict::JUDGEMENTS_MAX {
            match self.copy_to(source, &mut place) {
                Err(error) if conflict::is_judged_again(request, &error) => {}
                result => return result,
            }
        }
        self.copy_to(source, &mut place)
    }

    fn copy_to(&mut self, source: &Source, place: &mut Place<'_>) -> Result<Done, Error> {
        let request = self.request;
        let replace = match conflict::judge(request, place, &source.status, self.record)? {
            Verdict::Place(replace) => replace,
            Verdict::Skip(why) => return Ok(self.skip(source, place, why)),
            Verdict::Compare => {
                self.compare(place, source, &source.status)?;
                return Ok(self.skip(source, place, Skipped::Same));
            }
        };
        let is_small = source.status.kind == Kind::File && source.status.size <= SMALL_SIZE;
        if !replace.any() && is_small {
            // The last rename finds out whether the name is taken.
            return self.lone_file(source, place, replace);
        }
        // Before gigabytes are copied for nothing. That the name stays free is up to the last rename.
        let existing = match sys::status_at(&place.directory, &place.name) {
            Ok(_) if !replace.any() => {
                return Err(conflict::exists(request, &place.path, source.status.kind));
            }
            Ok(existing) => Some(existing),
            Err(Errno::NOENT) => None,
            Err(errno) => return Err(Error::os(errno, &place.path)),
        };
        // Also a hard link: replacing one name by a copy of the other would part them, which nobody asked for.
        if existing.is_some_and(|existing| existing.inode == source.status.inode) {
            return Err(Error::SameFile { from: request.source.to_vec(), to: place.path.to_vec() });
        }
        match (source.status.kind, existing.map(|existing| existing.kind)) {
            (Kind::Directory, existing) => {
                let inode = tree::copy(self, source, place, existing, replace)?;
                self.announce(Kind::Directory, place);
                Ok(self.done(source.status, inode, place))
            }
            (_, Some(Kind::Directory)) => self.copy_into(source, place),
            (_, _) => self.lone_file(source, place, replace),
        }
    }

    /// Says that nothing is done.
    fn skip(&mut self, source: &Source, place: &Place<'_>, why: Skipped) -> Done {
        (self.record)(Record::Skip { from: self.request.source, to: &place.path, why });
        let identity = Some(source.status.identity());
        Done { identity, skipped: Some(why), ..Done::default() }
    }

    fn done(&self, source: Status, inode: Inode, place: &Place<'_>) -> Done {
        Done {
            identity: Some(source.identity()),
            bytes: self.bytes,
            placed: Some(inode.placed_at(&place.path)),
            ..Done::default()
        }
    }

    /// Copies the file that the action is about.
    fn lone_file(&mut self, source: &Source, place: &Place<'_>, replace: Replace) -> Result<Done, Error> {
        let Copied { source, made } = self.file(source, self.request.source, place, replace)?;
        self.announce(Kind::File, place);
        Ok(self.done(source, made.inode, place))
    }

    /// Says what was done.
    fn announce(&mut self, kind: Kind, place: &Place<'_>) {
        let to = self.request.announced(place);
        (self.record)(Record::Copy { from: self.request.source, to });
        self.attributes.record(kind, self.record);
    }

    /// Copies a file into an existing directory, under its own name.
    ///
    /// Differs: the original then sets mode and owner on the directory and on all that is in it, whoever made it
    /// (`in_a_directory_that_was_there_only_what_we_wrote_is_changed`).
    fn copy_into(&mut self, source: &Source, place: &Place<'_>) -> Result<Done, Error> {
        let from = self.request.source;
        let failed = |errno| Error::os(errno, &place.path);
        let directory = sys::open_directory(&place.directory, &place.name, For::Lookup).map_err(failed)?;
        let name = resolve::split(from).1;
        let mut path = place.path.to_vec();
        resolve::push_name(&mut path, name);
        let (name, path) = (Cow::Borrowed(name), Cow::Owned(path));
        let inner = Place { directory: Rc::new(directory), name, path, made_in: Vec::new() };
        if let Ok(existing) = sys::status_at(&inner.directory, &inner.name)
            && existing.inode == source.status.inode
        {
            return Err(Error::SameFile { from: from.to_vec(), to: inner.path.into_owned() });
        }
        (self.record)(Record::Making { path: &inner.path, is_tree: false });
        let Copied { source, made } = self.file(source, from, &inner, Replace::Anything)?;
        self.announce(Kind::File, place);
        Ok(self.done(source, made.inode, &inner))
    }

    /// Copies a file to a place, where it appears complete or not at all.
    pub(crate) fn file(
        &mut self,
        source: &Source,
        from: &[u8],
        place: &Place<'_>,
        replace: Replace,
    ) -> Result<Copied, Error> {
        let (copied, taken) = self.file_for_now(source, from, place, replace)?;
        trash::keep(taken, self.record);
        Ok(copied)
    }

    /// Fills a new file with the content and the attributes of the source, as [`Copier::look_to_copy`] saw it; starts
    /// again if the source changes meanwhile.
    pub(crate) fn fill(
        &mut self,
        source: &Source,
        look: Status,
        from: &[u8],
        new: &OwnedFd,
        to: &[u8],
    ) -> Result<Status, Error> {
        let failed = |errno| Error::os_pair(errno, from, to);
        let content = Content { from: source.file.as_fd(), to: new.as_fd(), stop: self.request.stop };
        let mut before = look;
        for _ in 0..TRIES_MAX {
            let copied = content.copy(&before).map_err(|failure| match failure {
                Failure::Stopped => Error::Stopped { path: from.to_vec() },
                Failure::Os(errno) => failed(errno),
            })?;
            // Before the second look, so that a change of the attributes meanwhile is seen too.
            let heir = Heir { attributes: self.attributes, keep: self.keep, path: to };
            let lost = heir.inherit(source.file.as_fd(), &before, new.as_fd())?;
            let is_good = !self.request.rule.verify || self.reads_back(source, &before, from, new, to)?;
            let after = identity::look_after(&before, || sys::status(&source.file)).map_err(failed)?;
            if after.is_same_state(&before) {
                if !is_good {
                    return Err(Error::NotVerified { from: from.to_vec(), to: to.to_vec() });
                }
                self.warn_lost(lost);
                self.bytes += copied;
                // The copy is as old as the first look.
                return Ok(Status { seen_ns: before.seen_ns, ..after });
            }
            sys::set_size(new, 0).map_err(failed)?;
            before = self.look_to_copy(after, source, from)?;
        }
        Err(Error::Changing { path: from.to_vec(), tries: TRIES_MAX })
    }

    /// Whether a new file reads back from the disk as the content of the source.
    fn reads_back(
        &self,
        source: &Source,
        look: &Status,
        from: &[u8],
        new: &OwnedFd,
        to: &[u8],
    ) -> Result<bool, Error> {
        let failed = |errno| Error::os_pair(errno, from, to);
        match sys::sync(new).and_then(|()| sys::drop_cache(new)) {
            // Not on this filesystem: what is in memory is compared.
            Err(errno) if is_not_here(errno) => {}
            result => result.map_err(failed)?,
        }
        let compared = content::equal(source.file.as_fd(), new.as_fd(), look.size, self.request.stop);
        compared.map_err(|failure| match failure {
            Failure::Stopped => Error::Stopped { path: from.to_vec() },
            Failure::Os(errno) => failed(errno),
        })
    }

    /// In a move, whose source is to be removed: refuses a file that somebody has open for writing.
    fn check_unused(&self, source: &Source, from: &[u8]) -> Result<(), Error> {
        match self.keep {
            Keep::ForCopy => Ok(()),
            Keep::ForMove => match sys::keep_writers_out(source.file.as_fd()) {
                Writers::Some => Err(Error::InUse { path: from.to_vec(), why: Use::Written }),
                Writers::KeptOut(_) | Writers::Unknown => Ok(()),
            },
        }
    }

    /// The given look at the source; in a move, of a source that nobody has open for writing, and a later look where
    /// changes after the given one would not show in the times.
    pub(crate) fn look_to_copy(&self, look: Status, source: &Source, from: &[u8]) -> Result<Status, Error> {
        self.check_unused(source, from)?;
        let unproven_for = |look: &Status| match self.keep {
            Keep::ForCopy => Duration::ZERO,
            Keep::ForMove => identity::unproven_for(&look.identity(), &source.file),
        };
        let pause = unproven_for(&look);
        if pause.is_zero() {
            return Ok(look);
        }
        if pause <= PAUSE_MAX {
            thread::sleep(pause);
            let look = sys::status(&source.file).map_err(|errno| Error::os(errno, from))?;
            if unproven_for(&look).is_zero() {
                return Ok(look);
            }
        }
        Err(Error::InUse { path: from.to_vec(), why: Use::Young })
    }

    /// Gives a new link the times of the old one, and in a move its owner.
    pub(crate) fn dress_link(&self, old: &Status, directory: &OwnedFd, name: &[u8]) -> sys::Result<()> {
        let new = sys::open_reference(directory, name)?;
        let status = sys::status(&new)?;
        // Who else can write here may have put a file in its place, which must not get a new owner.
        if status.kind != Kind::Link || status.uid != rustix::process::geteuid().as_raw() {
            return Err(Errno::STALE);
        }
        if self.keep == Keep::ForMove {
            match sys::set_owner(&new, Some(Uid::from_raw(old.uid)), Some(Gid::from_raw(old.gid))) {
                // Only root may give files away, and not on every filesystem.
                Err(errno) if is_not_here(errno) => {}
                result => result?,
            }
        }
        match sys::set_times_of_reference(&new, old.atime, old.mtime) {
            // Not before Linux 5.8, and not on every filesystem; nobody needs the times of a link.
            Err(errno) if is_not_here(errno) => Ok(()),
            result => result,
        }
    }

    /// A move says what it could not keep; a copy keeps what it can, as the original does.
    pub(crate) fn warn_lost(&mut self, lost: Option<String>) {
        if let (Some(lost), Keep::ForMove) = (lost, self.keep) {
            (self.record)(Record::Warning(&lost));
        }
    }

    /// Closes a file that was written, after it is on the disk where that is asked for.
    pub(crate) fn finish_file(&self, file: OwnedFd, path: &[u8]) -> Result<(), Error> {
        let failed = |errno| Error::os(errno, path);
        if self.is_durable() {
            match sys::sync(&file) {
                // Not on this filesystem; an error only where the rule asks for it.
                Err(errno) if self.request.rule.durability != Durability::Always && is_not_here(errno) => {}
                result => result.map_err(failed)?,
            }
        }
        sys::close(file).map_err(failed)
    }

    /// Compares the source with the file that has its name. That file is the result from now on: it has to be on the
    /// disk like any other.
    pub(crate) fn compare(&self, place: &Place<'_>, source: &Source, look: &Status) -> Result<Status, Error> {
        let there = conflict::compare(self.request, place, source, look)?;
        self.finish_file(there.file, &place.path)?;
        self.sync_place(place)?;
        Ok(there.status)
    }

    /// Whether the result must be on the disk before the action ends.
    pub(crate) fn is_durable(&self) -> bool {
        match (self.request.rule.durability, self.keep) {
            (Durability::Always, _) | (Durability::Auto, Keep::ForMove) => true,
            (Durability::Auto, Keep::ForCopy) | (Durability::Never, _) => false,
        }
    }

    /// Makes a rename at a place durable where that is asked for, with all parents that were made for it.
    pub(crate) fn sync_place(&self, place: &Place<'_>) -> Result<(), Error> {
        self.sync_directory(place.directory.as_fd(), &place.path)?;
        place.made_in.iter().try_for_each(|parent| self.sync_directory(parent.as_fd(), &place.path))
    }

    /// Makes a rename in `directory` durable where that is asked for.
    pub(crate) fn sync_directory(&self, directory: BorrowedFd<'_>, path: &[u8]) -> Result<(), Error> {
        if self.is_durable() { sync_directory(directory, path) } else { Ok(()) }
    }

    pub(crate) fn check_stop(&self, path: impl FnOnce() -> Vec<u8>) -> Result<(), Error> {
        if self.request.stop.load(Ordering::Relaxed) { Err(Error::Stopped { path: path() }) } else { Ok(()) }
    }
}

/// Writes a directory out, so that a name in it survives a power cut.
pub(crate) fn sync_directory(directory: BorrowedFd<'_>, path: &[u8]) -> Result<(), Error> {
    let failed = |errno| Error::os(errno, path);
    let directory = match sys::open_directory(directory, b".", For::Reading) {
        // A drop box that can be written but not listed can't be synced either; the file itself is on the disk.
        Err(Errno::ACCESS) => return Ok(()),
        directory => directory.map_err(failed)?,
    };
    match sys::sync(&directory) {
        // Filesystems without a notion of it.
        Err(Errno::INVAL | Errno::OPNOTSUPP | Errno::NOSYS) => Ok(()),
        result => result.map_err(failed),
    }
}
