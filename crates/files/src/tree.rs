//! Copying a directory with all that is in it.
//!
//! Owns the walk through source and destination side by side. A new tree grows under a temporary name that only the
//! daemon's user can enter, and appears as a whole. In a directory that exists (merge), each new file or tree appears
//! on its own. Directories get their attributes last, when nothing is written into them any more.

use rustix::io::Errno;
use std::os::fd::{AsFd, OwnedFd};
use std::rc::Rc;

use crate::conflict::{self, Replace};
use crate::copy::{self, Copier, Source};
use crate::error::{Error, Refusal, Use};
use crate::given;
use crate::metadata::{Heir, Keep};
use crate::resolve::{self, Followed, Place, push_name};
use crate::sys::{self, For, Inode, Kind, Status};
use crate::temporary::{Temporary, TemporaryTree};
use crate::trash;
use crate::walk::{self, Entry, Failed, Left, Visit, Walk};
use crate::{Record, Request};

/// Directories on one way down that were reached through a link, as many as path_resolution(7) allows.
const LINKS_ON_THE_WAY_MAX: usize = 40;

/// Entries that are named when they are left out of a copy; further ones are only counted.
const NAMED_MAX: u64 = 100;

/// Levels up to the root of the filesystem that are looked at.
const HEIGHT_MAX: usize = 10_000;

/// Copies the directory `source` to `place`; into it if a directory is there already and the rule overwrites.
pub(crate) fn copy(
    copier: &mut Copier<'_>,
    source: &Source,
    place: &Place<'_>,
    existing: Option<Kind>,
    replace: Replace,
) -> Result<Inode, Error> {
    let failed = |errno| Error::os(errno, &place.path);
    check_not_inside(copier.request, source, place)?;
    let request = copier.request;
    let top = sys::open_directory(&source.file, b".", For::Reading)
        .map_err(|errno| Error::os(errno, request.source))?;
    let (target, made) = match (existing, copier.keep) {
        (None, _) | (Some(Kind::Directory), Keep::ForMove) => {
            let parent = sys::open_directory(&place.directory, b".", For::Lookup).map_err(failed)?;
            let overwrite = copier.keep == Keep::ForMove && replace.any();
            make_temporary(parent, &place.name, overwrite).map_err(failed)?
        }
        (Some(Kind::Directory), Keep::ForCopy) => {
            let target = sys::open_directory(&place.directory, &place.name, For::Reading).map_err(failed)?;
            (target, Made::Existing)
        }
        (Some(_), _) => return Err(failed(Errno::EXIST)),
    };
    let inode = sys::status(&target).map_err(failed)?.inode;
    let level = Level { inode, parent_path_len: 0, status: source.status, made, through_link: false };
    let path = place.path.to_vec();
    if matches!(level.made, Made::Existing) {
        (copier.record)(Record::Making { path: &place.path, is_tree: true });
    }
    let copy = TreeCopy {
        copier: &mut *copier,
        target,
        path,
        levels: vec![level],
        through_links: 0,
        left_out: 0,
        first_left_out: None,
    };
    let left_out = copy.run(Walk::start(top, request.source)?)?;
    copier.sync_place(place)?;
    left_out.map_or(Ok(inode), Err)
}

/// Refuses a destination that is inside the source: there would be no end.
fn check_not_inside(request: &Request<'_>, source: &Source, place: &Place<'_>) -> Result<(), Error> {
    let failed = |errno| Error::os(errno, &place.path);
    // Upwards from the destination by `..`, which ends at the root of the filesystem, the only directory above
    // itself.
    let mut current = sys::open_directory(&place.directory, b".", For::Lookup).map_err(failed)?;
    let mut inode = sys::status(&current).map_err(failed)?.inode;
    for _ in 0..HEIGHT_MAX {
        if inode == source.status.inode {
            let (from, to) = (request.source.to_vec(), place.path.to_vec());
            return Err(Error::IntoItself { action: request.rule.action, from, to });
        }
        current = sys::open_directory(&current, b"..", For::Lookup).map_err(failed)?;
        let above = sys::status(&current).map_err(failed)?.inode;
        if above == inode {
            return Ok(());
        }
        inode = above;
    }
    Err(Error::TooLarge { path: place.path.to_vec(), what: "directories are nested too deeply" })
}

fn make_temporary(parent: OwnedFd, name: &[u8], overwrite: bool) -> sys::Result<(OwnedFd, Made)> {
    let (tree, top) = TemporaryTree::new(parent)?;
    Ok((top, Made::Temporary { tree, name: name.to_vec(), overwrite }))
}

/// How a directory of the destination came to be.
enum Made {
    /// It was there.
    Existing,
    /// It is part of a tree that has a temporary name.
    Inside,
    /// It has a temporary name.
    Temporary { tree: TemporaryTree, name: Vec<u8>, overwrite: bool },
}

impl Made {
    /// Whether it is inside of this directory of ours, or that directory itself.
    fn is_in(&self, inode: Inode) -> bool {
        match self {
            Made::Temporary { tree, .. } => tree.inode() == inode,
            Made::Existing | Made::Inside => false,
        }
    }
}

/// A directory of the destination that is not finished.
struct Level {
    inode: Inode,
    parent_path_len: usize,
    /// Of the source directory.
    status: Status,
    made: Made,
    through_link: bool,
}

struct TreeCopy<'t, 'c> {
    copier: &'t mut Copier<'c>,
    /// The directory of the destination that is filled.
    target: OwnedFd,
    path: Vec<u8>,
    levels: Vec<Level>,
    through_links: usize,
    /// Entries that could not be copied. The rest is copied all the same, then the first one's error is the error.
    left_out: u64,
    first_left_out: Option<Error>,
}

impl TreeCopy<'_, '_> {
    /// Copies everything; gives the error of what was left out.
    fn run(mut self, mut walk: Walk) -> Result<Option<Error>, Error> {
        self.list(&mut walk)?;
        loop {
            while let Some(name) = walk.next() {
                if self.descend_or_leave_out(&mut walk, &name)? {
                    self.list(&mut walk)?;
                }
            }
            let (left, above) = walk.leave()?;
            self.ascend(&left)?;
            match above {
                Some(above) => walk = above,
                None => return Ok(self.all_left_out()),
            }
        }
    }

    fn all_left_out(self) -> Option<Error> {
        let Request { source: from, destination: to, .. } = *self.copier.request;
        let (from, to, count) = (from.to_vec(), to.to_vec(), self.left_out);
        self.first_left_out.map(|first| Error::LeftOut { from, to, count, first: Box::new(first) })
    }

    /// A copy goes on without an entry that can't be copied, and names it. A move, and a copy whose destination is full
    /// or gone, ends here.
    fn leave_out(&mut self, error: Error) -> Result<(), Error> {
        if self.copier.keep == Keep::ForMove || !error.is_about_one_entry() {
            return Err(error);
        }
        self.left_out += 1;
        if self.left_out <= NAMED_MAX {
            (self.copier.record)(Record::Warning(&format!("not copied: {error}")));
        }
        self.first_left_out.get_or_insert(error);
        Ok(())
    }

    fn list(&mut self, walk: &mut Walk) -> Result<(), Error> {
        match walk.list(|entry| self.visit(entry)) {
            // What the directory still holds is left out with one word; not all there is.
            Err(Failed::List(error)) if self.levels.len() > 1 => self.leave_out(error),
            Err(failed) => Err(failed.into()),
            Ok(()) => Ok(()),
        }
    }

    fn visit(&mut self, entry: &Entry<'_>) -> Result<Visit, Error> {
        self.copier.check_stop(|| entry.path())?;
        match self.copy_entry(entry) {
            Err(error) => self.leave_out(error).map(|()| Visit::Done),
            visit => visit,
        }
    }

    fn copy_entry(&mut self, entry: &Entry<'_>) -> Result<Visit, Error> {
        if given::is_own_temporary_name(entry.name) && self.is_at_work(entry)? {
            return Ok(Visit::Done);
        }
        let kind = match entry.kind {
            Kind::Unknown => {
                sys::status_at(entry.directory, entry.name).map_err(|errno| entry.failed(errno))?.kind
            }
            kind => kind,
        };
        match (kind, self.copier.keep) {
            (Kind::Directory, _) => return Ok(Visit::Later),
            (Kind::Link, Keep::ForMove) => self.link(entry)?,
            (Kind::Link, Keep::ForCopy) => return self.followed_link(entry),
            (Kind::File | Kind::Fifo | Kind::Socket | Kind::Device | Kind::Unknown, _) => {
                let source = copy::open_kind(entry.directory, entry.name, kind, &entry.path())?;
                self.copier.attributes.check_copied(&source.status, entry.directory, &entry.path())?;
                self.file(&source, entry)?;
            }
        }
        Ok(Visit::Done)
    }

    fn file(&mut self, source: &Source, entry: &Entry<'_>) -> Result<(), Error> {
        let (from, to) = (entry.path(), self.path_of(entry.name));
        let status = if self.is_merging() {
            let place = self.place_of(entry.name, &to).map_err(|errno| Error::os(errno, &to))?;
            self.copier.file(source, &from, &place, Replace::Anything)?.source
        } else {
            let look = self.copier.look_to_copy(source.status, source, &from)?;
            // Nobody else can enter the tree yet; files need no temporary names in it, and are synced with it.
            let new = sys::create_file(&self.target, entry.name)
                .map_err(|errno| Error::os_pair(errno, &from, &to))?;
            let filled = self.copier.fill(source, look, &from, &new, &to);
            if self.copier.keep == Keep::ForMove
                && let Ok(made) = sys::status(&new)
            {
                self.copier.made.add(&made);
            }
            let closed = sys::close(new).map_err(|errno| Error::os(errno, &to));
            filled.and_then(|status| closed.map(|()| status)).inspect_err(|_| {
                // It may be left out.
                let _ = sys::remove_file(&self.target, entry.name);
            })?
        };
        if self.copier.keep == Keep::ForMove {
            self.copier.copied.add(&status);
        }
        Ok(())
    }

    /// A link in a copied tree: followed if the rule for links allows it, otherwise copied as a link, with a warning.
    fn followed_link(&mut self, entry: &Entry<'_>) -> Result<Visit, Error> {
        let path = entry.path();
        match resolve::follow(entry.directory, entry.name, &path) {
            Ok(Followed { status: Status { kind: Kind::Directory, .. }, .. }) => return Ok(Visit::Later),
            Ok(followed) => {
                let source = copy::open_followed(followed, self.copier.attributes, &path)?;
                self.file(&source, entry)?;
            }
            Err(error) if is_not_to_be_followed(&error) => self.link_with_warning(entry, &error)?,
            Err(error) => return Err(error),
        }
        Ok(Visit::Done)
    }

    fn link_with_warning(&mut self, entry: &Entry<'_>, why: &Error) -> Result<(), Error> {
        (self.copier.record)(Record::Warning(&format!("{why}; the link itself is copied")));
        self.link(entry)
    }

    /// Copies a link as a link.
    fn link(&mut self, entry: &Entry<'_>) -> Result<(), Error> {
        let to = self.path_of(entry.name);
        let failed = |errno| Error::os_pair(errno, &entry.path(), &to);
        let reference = sys::open_reference(entry.directory, entry.name).map_err(failed)?;
        let status = sys::status(&reference).map_err(failed)?;
        let text = sys::read_link(&reference).map_err(failed)?;
        if self.is_merging() {
            let mut temporary = Temporary::link(self.target.as_fd(), &text).map_err(failed)?;
            self.copier.dress_link(&status, &self.target, temporary.name()).map_err(failed)?;
            let place = self.place_of(entry.name, &to).map_err(failed)?;
            let place_it = |replace| temporary.place(entry.name, replace);
            let (request, record) = (self.copier.request, &mut *self.copier.record);
            trash::replace(request, &place, Replace::Anything, record, place_it)?.map_err(failed)?;
        } else {
            sys::make_link(&text, &self.target, entry.name).map_err(failed)?;
            self.copier.dress_link(&status, &self.target, entry.name).map_err(failed)?;
        }
        if self.copier.keep == Keep::ForMove {
            self.copier.copied.add(&status);
            if let Ok(made) = sys::status_at(&self.target, entry.name) {
                self.copier.made.add(&made);
            }
        }
        Ok(())
    }

    fn descend_or_leave_out(&mut self, walk: &mut Walk, name: &[u8]) -> Result<bool, Error> {
        match self.descend(walk, name) {
            Err(error) => self.leave_out(error).map(|()| false),
            entered => entered,
        }
    }

    /// Enters a directory on both sides; false if it was a link in a circle, which is copied as a link, or something of
    /// our own.
    fn descend(&mut self, walk: &mut Walk, name: &[u8]) -> Result<bool, Error> {
        let from = walk.path_of(name);
        walk.check_depth()?;
        let Some((source, through_link)) = self.open_directory(walk, name, &from)? else { return Ok(false) };
        if self.is_own(source.status.inode) {
            return self.own_directory().map(|()| false);
        }
        let to = self.path_of(name);
        let failed = |errno| Error::os(errno, &to);
        let (target, made) = if self.is_merging() {
            self.merge_directory(name).map_err(failed)?
        } else {
            sys::make_directory(&self.target, name, 0o700).map_err(failed)?;
            let opened = sys::open_directory(&self.target, name, For::Reading).inspect_err(|_| {
                let _ = sys::remove_directory(&self.target, name);
            });
            (opened.map_err(failed)?, Made::Inside)
        };
        let inode = sys::status(&target).map_err(failed)?.inode;
        walk.enter(name, source.file, through_link)?;
        let parent_path_len = self.path.len();
        self.levels.push(Level { inode, parent_path_len, status: source.status, made, through_link });
        self.through_links += usize::from(through_link);
        self.target = target;
        push_name(&mut self.path, name);
        Ok(true)
    }

    /// Whether an entry is what an action of this process is making: there is nothing of it yet. A move would have to
    /// remove it; where it is another action, that has an end.
    fn is_at_work(&self, entry: &Entry<'_>) -> Result<bool, Error> {
        let Inode { dev, ino } = sys::status(entry.directory).map_err(|errno| entry.failed(errno))?.inode;
        if !given::is_own_temporary((dev, ino), entry.name) {
            return Ok(false);
        }
        let made = sys::status_at(entry.directory, entry.name);
        if made.is_ok_and(|made| self.is_own(made.inode)) {
            return self.own_directory().map(|()| true);
        }
        match self.copier.keep {
            Keep::ForCopy => Ok(true),
            Keep::ForMove => Err(Error::InUse { path: entry.path(), why: Use::Ours }),
        }
    }

    /// Whether a directory of the source is part of what this action makes: its owner can move the destination into the
    /// source while it is copied, and there would be no end.
    fn is_own(&self, inode: Inode) -> bool {
        self.levels.iter().any(|level| level.inode == inode || level.made.is_in(inode))
    }

    /// A copy does not copy itself; a move would have to remove what it has made.
    fn own_directory(&self) -> Result<(), Error> {
        match self.copier.keep {
            Keep::ForCopy => Ok(()),
            Keep::ForMove => {
                let Request { source: from, destination: to, rule, .. } = *self.copier.request;
                Err(Error::IntoItself { action: rule.action, from: from.to_vec(), to: to.to_vec() })
            }
        }
    }

    /// Opens a directory of the source, and says whether it was reached through a link.
    fn open_directory(
        &mut self,
        walk: &mut Walk,
        name: &[u8],
        from: &[u8],
    ) -> Result<Option<(Source, bool)>, Error> {
        let failed = |errno| Error::os(errno, from);
        // What is mounted in a tree is copied with it, but can't be removed with it.
        let opened = match self.copier.keep {
            Keep::ForCopy => sys::open_directory(walk.directory(), name, For::Reading),
            Keep::ForMove => walk::open_on_same_mount(walk.directory(), name),
        };
        match opened {
            Ok(file) => {
                let status = sys::status(&file).map_err(failed)?;
                Ok(Some((Source { file, status }, false)))
            }
            Err(Errno::XDEV) => Err(Refusal::MountPoint { path: from.to_vec() }.into()),
            Err(Errno::LOOP | Errno::NOTDIR) if self.copier.keep == Keep::ForCopy => {
                let followed = resolve::follow(walk.directory(), name, from)?;
                // A directory that the walk is in already: there would be no end.
                if walk.is_inside(followed.status.inode) || self.through_links >= LINKS_ON_THE_WAY_MAX {
                    let circle = Error::os(Errno::LOOP, from);
                    walk.show(name, |entry| self.link_with_warning(entry, &circle))?;
                    return Ok(None);
                }
                copy::open_followed(followed, self.copier.attributes, from).map(|source| Some((source, true)))
            }
            Err(errno) => Err(failed(errno)),
        }
    }

    /// Opens the destination's directory of this name, or begins one under a temporary name.
    fn merge_directory(&self, name: &[u8]) -> sys::Result<(OwnedFd, Made)> {
        match sys::open_directory(&self.target, name, For::Reading) {
            Ok(existing) => Ok((existing, Made::Existing)),
            Err(Errno::NOENT) => {
                let parent = sys::open_directory(&self.target, b".", For::Lookup)?;
                make_temporary(parent, name, false)
            }
            // A file or a link is in the way.
            Err(Errno::NOTDIR | Errno::LOOP) => Err(Errno::EXIST),
            Err(errno) => Err(errno),
        }
    }

    /// Finishes a directory of the destination and goes back to the one above.
    fn ascend(&mut self, left: &Left) -> Result<(), Error> {
        let level = self.levels.pop().expect("a level for each directory that was entered");
        let path = self.path.clone();
        let failed = |errno| Error::os(errno, &path);
        // The way up is opened first: the new mode may close it.
        let above = match (self.levels.last(), &level.made) {
            (None, _) => None,
            (Some(_), Made::Temporary { tree, .. }) => {
                Some(sys::open_directory(tree.parent(), b".", For::Reading).map_err(failed)?)
            }
            (Some(above), Made::Existing | Made::Inside) => {
                Some(walk::go_up(&self.target, above.inode, &path)?)
            }
        };
        self.through_links -= usize::from(level.through_link);
        match level.made {
            // Not ours: it stays as it is.
            Made::Existing => {}
            Made::Inside | Made::Temporary { .. } => {
                let heir = Heir { attributes: self.copier.attributes, keep: self.copier.keep, path: &path };
                match heir.inherit(left.directory.as_fd(), &level.status, self.target.as_fd()) {
                    Ok(lost) => self.copier.warn_lost(lost),
                    // It stays the daemon's alone, with all that is in it.
                    Err(error) => self.leave_out(error)?,
                }
            }
        }
        if let Made::Temporary { tree, name, overwrite } = level.made {
            // One call for the whole tree; a hundred thousand fsync(2) would take minutes.
            if self.copier.is_durable() {
                sys::sync_filesystem(&self.target).map_err(failed)?;
            }
            let parent = sys::open_directory(tree.parent(), b".", For::Lookup).map_err(failed)?;
            tree.place(&self.target, &name, overwrite).map_err(|errno| self.not_placed(errno, &path))?;
            (self.copier.record)(Record::Making { path: &path, is_tree: true });
            self.copier.sync_directory(parent.as_fd(), &path)?;
        }
        self.path.truncate(level.parent_path_len);
        if let Some(above) = above {
            self.target = above;
        }
        Ok(())
    }

    fn not_placed(&self, errno: Errno, path: &[u8]) -> Error {
        let request = self.copier.request;
        if errno == Errno::EXIST {
            conflict::exists(request, path, Kind::Directory)
        } else {
            Error::os_pair(errno, request.source, path)
        }
    }

    /// A name in the directory that is filled.
    fn place_of<'p>(&self, name: &'p [u8], path: &'p [u8]) -> sys::Result<Place<'p>> {
        let directory = sys::open_directory(&self.target, b".", For::Lookup)?;
        Ok(Place { directory: Rc::new(directory), name: name.into(), path: path.into(), made_in: Vec::new() })
    }

    fn is_merging(&self) -> bool {
        self.levels.iter().all(|level| matches!(level.made, Made::Existing))
    }

    fn path_of(&self, name: &[u8]) -> Vec<u8> {
        let mut path = self.path.clone();
        push_name(&mut path, name);
        path
    }
}

/// Whether a link leads nowhere, in circles, or where its owner may not lead us.
fn is_not_to_be_followed(error: &Error) -> bool {
    match error {
        Error::Refused(refusal) => matches!(refusal, Refusal::ForeignLink { .. }),
        error => error.errno().is_some() && error.is_about_one_entry(),
    }
}
