//! From paths to a directory's descriptor and a name in it.
//!
//! Owns the question whose symbolic links are followed. Three kinds of text lead to a file: what the administrator
//! wrote (the root of a watch, the literal beginning of dst_re), what came out of a file's name, and what a link
//! says. Links are followed in the first kind only, and only if nobody gains by it; the rest is looked up strictly
//! beneath. The usual case, no link anywhere, is one openat2(2) for each side, or less
//! (`held`).

use rustix::io::Errno;
use std::borrow::Cow;
use std::collections::VecDeque;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::rc::Rc;

use crate::error::{Error, Owner, Refusal};
use crate::metadata::Attributes;
use crate::sys::{self, CWD, For, Kind, Status, Within};
use crate::{Held, Record, Request};

/// Links that one lookup follows at most, as the kernel's MAXSYMLINKS (path_resolution(7)).
const LINKS_MAX: u32 = 40;

/// A name in a directory that is held, so that nothing that happens to the path above it matters any more.
pub(crate) struct Place<'a> {
    pub(crate) directory: Rc<OwnedFd>,
    pub(crate) name: Cow<'a, [u8]>,
    /// The whole path, for texts only.
    pub(crate) path: Cow<'a, [u8]>,
    /// Directories in which a parent of this place was made just now, and is not on the disk yet.
    pub(crate) made_in: Vec<OwnedFd>,
}

impl Place<'_> {
    /// The same place, to be given away.
    pub(crate) fn again(&self) -> Place<'static> {
        Place {
            directory: Rc::clone(&self.directory),
            name: Cow::Owned(self.name.to_vec()),
            path: Cow::Owned(self.path.to_vec()),
            made_in: Vec::new(),
        }
    }

    /// Another name in the same directory.
    pub(crate) fn rename(&mut self, name: Vec<u8>) {
        let mut path = split(&self.path).0.to_vec();
        push_name(&mut path, &name);
        self.name = Cow::Owned(name);
        self.path = Cow::Owned(path);
    }
}

/// Finds the place of the source of a request, below its root.
pub(crate) fn source<'a>(request: &Request<'a>, held: &mut Held) -> Result<Place<'a>, Error> {
    let path = request.source;
    let below = below_root(request.root, path)
        .ok_or_else(|| Refusal::OutsideRoot { path: path.to_vec(), root: request.root.to_vec() })?;
    let (parent, name) = split(path);
    let directory = match held.source.open(parent) {
        Err(errno) if is_link_or_unsupported(errno) => Rc::new(source_with_links(request, below)?),
        result => result.map_err(|errno| Error::os(errno, path))?,
    };
    Ok(Place { directory, name: Cow::Borrowed(name), path: Cow::Borrowed(path), made_in: Vec::new() })
}

/// As [`source`], where a link is on the way: allowed on the way to the root, refused below it.
fn source_with_links(request: &Request<'_>, below: &[u8]) -> Result<OwnedFd, Error> {
    let path = request.source;
    // The root itself is looked up in its parent; all of it is the administrator's text.
    if below.is_empty() {
        return Walk::new(path, Links::OfTargetOwner).run(split(path).0, Trust::Literal);
    }
    let root = Walk::new(path, Links::OfTargetOwner).run(request.root, Trust::Literal)?;
    let parent = split(below).0;
    if parent.is_empty() {
        return Ok(root);
    }
    match sys::open_within(&root, parent, For::Lookup, Within::Beneath) {
        Err(errno) if is_link_or_unsupported(errno) => {
            Walk::new(path, Links::Refused).starting_in(root, request.root).run(parent, Trust::Substituted)
        }
        result => result.map_err(|errno| Error::os(errno, path)),
    }
}

/// The part of a path below a root: `Some(b"")` for the root itself, `None` for what is elsewhere or not a normal
/// path (`.`, `..`, empty components, NUL).
fn below_root<'a>(root: &[u8], path: &'a [u8]) -> Option<&'a [u8]> {
    let root = trim_slashes(root);
    let below = path.strip_prefix(root)?;
    let below = match below {
        [] => below,
        [b'/', below @ ..] => below,
        [..] if root == b"/" => below,
        [..] => return None,
    };
    let normal =
        below.is_empty() || below.split(|byte| *byte == b'/').all(|name| odd_component(name).is_none());
    (normal && path.first() == Some(&b'/') && path != b"/").then_some(below)
}

/// Finds the place of the destination of a request, and makes its parents where the rule says so.
pub(crate) fn destination<'a>(
    request: &Request<'a>,
    held: &mut Held,
    attributes: &Attributes<'_>,
    record: &mut dyn FnMut(Record<'_>),
) -> Result<Place<'a>, Error> {
    let target = Destination::parse(request)?;
    if let Some(mounted) = &request.rule.mounted {
        return destination_on_mount(request, &target, mounted, attributes, record);
    }
    let place = |directory, made_in| Place {
        directory,
        name: Cow::Borrowed(target.name),
        path: Cow::Borrowed(target.path),
        made_in,
    };
    let absent = match held.destination.open(target.parent_or_here()) {
        Ok(directory) => return Ok(place(directory, Vec::new())),
        Err(Errno::NOENT) => true,
        Err(errno) if is_link_or_unsupported(errno) => false,
        Err(errno) => return Err(request.in_form_of_python(Error::os(errno, target.path))),
    };
    if absent && !request.rule.auto_create {
        return Err(no_parent(request, &target));
    }
    let mut made_in = Vec::new();
    let mut walk = Walk::new(target.path, Links::OfDaemon);
    if request.rule.auto_create {
        let announced = target.parent;
        walk.create = Some(Create { announced, attributes, record, made_in: &mut made_in });
    }
    walk.add(target.trusted, Trust::Literal);
    walk.add(target.substituted, Trust::Substituted);
    let directory = walk.finish().map_err(|error| request.in_form_of_python(error))?;
    Ok(place(Rc::new(directory), made_in))
}

/// As [`destination`], below a mount point: everything is looked up, and made, from its descriptor, so that nothing
/// lands below the directory that it hides, whenever it is mounted or unmounted.
fn destination_on_mount<'a>(
    request: &Request<'a>,
    target: &Destination<'a>,
    mounted: &[u8],
    attributes: &Attributes<'_>,
    record: &mut dyn FnMut(Record<'_>),
) -> Result<Place<'a>, Error> {
    let mounted = trim_slashes(mounted);
    let not_mounted = || Error::NotMounted { path: mounted.to_vec() };
    let mount_len = mounted.len();
    let is_above =
        target.trusted.starts_with(mounted) && matches!(target.parent.get(mount_len), None | Some(b'/'));
    if !is_above {
        return Err(Refusal::NotBelowMount { path: target.path.to_vec(), mounted: mounted.to_vec() }.into());
    }
    let top = trusted_directory(mounted).map_err(|error| match error.errno() {
        Some(errno) if errno == Errno::NOENT.raw_os_error() => not_mounted(),
        Some(_) | None => error,
    })?;
    if !sys::is_mount_point(&top).map_err(|errno| Error::os(errno, mounted))? {
        return Err(not_mounted());
    }
    let mut made_in = Vec::new();
    let mut walk = Walk::new(target.path, Links::OfDaemon).starting_in(top, mounted);
    if request.rule.auto_create {
        walk.create = Some(Create { announced: target.parent, attributes, record, made_in: &mut made_in });
    }
    walk.add(&target.trusted[mount_len..], Trust::Literal);
    walk.add(target.substituted, Trust::Substituted);
    let directory = walk.finish().map_err(|error| match error {
        Error::Os { errno: Errno::NOENT, .. } if !request.rule.auto_create => no_parent(request, target),
        error => request.in_form_of_python(error),
    })?;
    let (name, path) = (Cow::Borrowed(target.name), Cow::Borrowed(target.path));
    Ok(Place { directory: Rc::new(directory), name, path, made_in })
}

/// The error of a destination whose parent is missing; names the first directory on the way that is.
fn no_parent(request: &Request<'_>, target: &Destination<'_>) -> Error {
    let ends = target.parent.iter().enumerate().filter(|(at, byte)| **byte == b'/' && *at > 0);
    let mut ways = ends.map(|(at, _)| &target.parent[..at]).chain([target.parent]);
    let missing = ways.find(|way| sys::status_at(CWD, way).is_err()).unwrap_or(target.parent);
    Error::NoParent {
        action: request.rule.action,
        from: request.source.to_vec(),
        to: target.path.to_vec(),
        missing: missing.to_vec(),
    }
}

/// The place of the destination of a request, where no link leads to it and nothing has to be made.
pub(crate) fn existing_destination<'a>(request: &Request<'a>, held: &mut Held) -> Option<Place<'a>> {
    if request.rule.mounted.is_some() {
        return None;
    }
    let target = Destination::parse(request).ok()?;
    let directory = held.destination.open(target.parent_or_here()).ok()?;
    let (name, path) = (Cow::Borrowed(target.name), Cow::Borrowed(target.path));
    Some(Place { directory, name, path, made_in: Vec::new() })
}

/// The destination, cut where trust ends.
struct Destination<'a> {
    /// Without slashes at the end.
    path: &'a [u8],
    /// Everything but the last component; may be empty (the working directory).
    parent: &'a [u8],
    /// The leading part of `parent` that the administrator wrote, to the end of a component.
    trusted: &'a [u8],
    /// The rest of `parent`.
    substituted: &'a [u8],
    name: &'a [u8],
}

impl<'a> Destination<'a> {
    fn parse(request: &Request<'a>) -> Result<Self, Error> {
        let whole = request.destination;
        let refuse = |what| Refusal::Component { path: whole.to_vec(), what };
        let mut trusted_len = request.trusted_len.min(whole.len());
        // A destination below the root of the watch may go through the root's own links, whatever dst_re was made of.
        if let Some(below) = below_root(request.root, whole) {
            trusted_len = trusted_len.max(whole.len() - below.len());
        }
        check_substituted(whole, trusted_len).map_err(refuse)?;
        // Slashes at the end are the administrator's own if they got past the check.
        let path = trim_slashes(whole);
        let (parent, name) = split(path);
        if let Some(what) = odd_component(name) {
            return Err(refuse(what).into());
        }
        // Trust reaches to the last component that is literal as a whole.
        let trusted_len = trusted_len.min(parent.len());
        let whole_component = trusted_len == parent.len() || parent[trusted_len] == b'/';
        let end = if whole_component {
            trusted_len
        } else {
            parent[..trusted_len].iter().rposition(|byte| *byte == b'/').map_or(0, |slash| slash + 1)
        };
        Ok(Destination { path, parent, trusted: &parent[..end], substituted: &parent[end..], name })
    }

    fn parent_or_here(&self) -> &'a [u8] {
        if self.parent.is_empty() { b"." } else { self.parent }
    }
}

/// Says what is wrong with a component that the substitution had a part in.
fn check_substituted(path: &[u8], trusted_len: usize) -> Result<(), &'static str> {
    if path.contains(&0) {
        return Err("a NUL byte");
    }
    if trusted_len == path.len() {
        return Ok(());
    }
    let mut start = 0;
    for name in path.split(|byte| *byte == b'/') {
        let end = start + name.len();
        // An empty component between two slashes belongs to whoever wrote the second one.
        let literal = if name.is_empty() { end < trusted_len || start == 0 } else { end <= trusted_len };
        if !literal {
            odd_component(name).map_or(Ok(()), Err)?;
        }
        start = end + 1;
    }
    Ok(())
}

fn odd_component(name: &[u8]) -> Option<&'static str> {
    match name {
        b"" => Some("an empty component"),
        b"." => Some("the component '.'"),
        b".." => Some("the component '..'"),
        name if name.contains(&0) => Some("a NUL byte"),
        _ => None,
    }
}

/// Parent and name; the parent of `/a` is `/`, that of `a` is empty.
pub(crate) fn split(path: &[u8]) -> (&[u8], &[u8]) {
    match path.iter().rposition(|byte| *byte == b'/') {
        None => (b"", path),
        Some(0) => (b"/", &path[1..]),
        Some(slash) => (&path[..slash], &path[slash + 1..]),
    }
}

/// A path without the slashes at its end.
pub(crate) fn trim_slashes(path: &[u8]) -> &[u8] {
    let end = path.iter().rposition(|byte| *byte != b'/').map_or(0, |last| last + 1);
    if end == 0 && !path.is_empty() { &path[..1] } else { &path[..end] }
}

/// ELOOP is how openat2(2) reports a link; ENOSYS and EPERM come from old kernels and from sandboxes that don't know
/// the call. A walk is as strict in each case.
fn is_link_or_unsupported(errno: Errno) -> bool {
    matches!(errno, Errno::LOOP | Errno::NOSYS | Errno::PERM)
}

/// Opens a directory that the administrator named, through links of root and of the daemon's user only.
pub(crate) fn trusted_directory(path: &[u8]) -> Result<OwnedFd, Error> {
    Walk::new(path, Links::OfDaemon).run(path, Trust::Literal)
}

/// What a link leads to, and whose links were on the way.
pub(crate) struct Followed {
    pub(crate) reference: OwnedFd,
    pub(crate) status: Status,
    /// The last directory and the last name, unless the link ends at `/`, `.` or `..`.
    pub(crate) place: Option<(OwnedFd, Vec<u8>)>,
}

/// Follows the link `name` in `directory` as far as its owners may lead a copy: each link on the way must belong to
/// the daemon's user or to the owner of what it all ends at.
pub(crate) fn follow(directory: BorrowedFd<'_>, name: &[u8], path: &[u8]) -> Result<Followed, Error> {
    let start = sys::open_directory(directory, b".", For::Lookup).map_err(|errno| Error::os(errno, path))?;
    let mut walk = Walk::new(path, Links::OfTargetOwner).starting_in(start, split(path).0);
    walk.last_may_be_file = true;
    walk.add(name, Trust::Literal);
    walk.walk()?;
    let (reference, status) = match walk.last.take() {
        Some((reference, status)) => (reference, status),
        None => (walk.duplicate()?, walk.current_status()?),
    };
    if let Some((foreign, _)) = walk.foreign_links.iter().find(|(owner, _)| *owner != status.uid) {
        let (owner, target_owner) = (Owner(*foreign), Owner(status.uid));
        return Err(Refusal::ForeignLink { path: path.to_vec(), owner, target_owner }.into());
    }
    let place =
        if status.kind == Kind::Directory { None } else { walk.current.map(|at| (at, walk.last_name)) };
    Ok(Followed { reference, status, place })
}

/// Whose links a [`Walk`] follows in literal components.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Links {
    Refused,
    /// Those of root and of the daemon's user.
    OfDaemon,
    /// Those too whose owner also owns what they lead to in the end: they give away nothing.
    OfTargetOwner,
}

/// Who wrote a component.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Trust {
    /// The administrator.
    Literal,
    /// It came out of a file's name.
    Substituted,
    /// A link that was followed says so; nothing is created on its behalf.
    FromLink,
}

/// What a walk needs to make missing directories.
struct Create<'w> {
    /// The path that is announced, once.
    announced: &'w [u8],
    attributes: &'w Attributes<'w>,
    record: &'w mut dyn FnMut(Record<'_>),
    /// Where something was made.
    made_in: &'w mut Vec<OwnedFd>,
}

/// A lookup one component at a time, each opened with O_NOFOLLOW and judged by what was opened.
struct Walk<'w> {
    /// The path that leads through all this, for texts.
    path: &'w [u8],
    links: Links,
    create: Option<Create<'w>>,
    last_may_be_file: bool,
    pending: VecDeque<(Vec<u8>, Trust)>,
    /// Where the walk is; `None` before its first step.
    current: Option<OwnedFd>,
    /// The way so far, for texts.
    done: Vec<u8>,
    /// Links that were followed although neither root nor the daemon's user owns them: owner and path.
    foreign_links: Vec<(u32, Vec<u8>)>,
    links_followed: u32,
    announced: bool,
    /// The file at which the walk ended, if it may end at one.
    last: Option<(OwnedFd, Status)>,
    last_name: Vec<u8>,
}

impl<'w> Walk<'w> {
    fn new(path: &'w [u8], links: Links) -> Self {
        Walk {
            path,
            links,
            create: None,
            last_may_be_file: false,
            pending: VecDeque::new(),
            current: None,
            done: Vec::new(),
            foreign_links: Vec::new(),
            links_followed: 0,
            announced: false,
            last: None,
            last_name: Vec::new(),
        }
    }

    fn starting_in(mut self, directory: OwnedFd, path: &[u8]) -> Self {
        self.current = Some(directory);
        self.done = path.to_vec();
        self
    }

    fn add(&mut self, path: &[u8], trust: Trust) {
        if path.first() == Some(&b'/') && self.current.is_none() && self.pending.is_empty() {
            self.pending.push_back((b"/".to_vec(), trust));
        }
        let names = path.split(|byte| *byte == b'/').filter(|name| !name.is_empty());
        self.pending.extend(names.map(|name| (name.to_vec(), trust)));
    }

    fn run(mut self, path: &[u8], trust: Trust) -> Result<OwnedFd, Error> {
        self.add(path, trust);
        self.finish()
    }

    /// Walks to the end and gives the directory there, if the owners of all links agree with its own.
    fn finish(mut self) -> Result<OwnedFd, Error> {
        self.walk()?;
        if !self.foreign_links.is_empty() {
            let owner = self.current_status()?.uid;
            if let Some((foreign, link)) = self.foreign_links.iter().find(|(foreign, _)| *foreign != owner) {
                let (link, path, owner) = (link.clone(), self.path.to_vec(), Owner(*foreign));
                return Err(Refusal::Link { link, path, owner, literal: true }.into());
            }
        }
        Ok(self.current.take().expect("a walk that ended well is somewhere"))
    }

    fn walk(&mut self) -> Result<(), Error> {
        if self.current.is_none() {
            self.current = Some(self.open(None, b".")?);
        }
        while let Some((name, trust)) = self.pending.pop_front() {
            self.step(&name, trust)?;
        }
        Ok(())
    }

    /// Goes one component further: down, up, through a link, or into a directory that it makes.
    fn step(&mut self, name: &[u8], trust: Trust) -> Result<(), Error> {
        if matches!(name, b"/" | b"." | b"..") {
            self.current = Some(self.open(self.current.as_ref(), name)?);
            self.note(name);
            return Ok(());
        }
        let at = self.current.as_ref().expect("walk() starts somewhere");
        let reference = match sys::open_reference(at, name) {
            Err(Errno::NOENT) if self.create.is_some() && trust != Trust::FromLink => return self.make(name),
            result => result.map_err(|errno| self.failed(errno))?,
        };
        let status = sys::status(&reference).map_err(|errno| self.failed(errno))?;
        match status.kind {
            Kind::Directory => {
                self.current = Some(reference);
                self.note(name);
                Ok(())
            }
            Kind::Link => self.follow_link(name, trust, &reference, &status),
            Kind::File | Kind::Fifo | Kind::Socket | Kind::Device | Kind::Unknown
                if self.last_may_be_file && self.pending.is_empty() =>
            {
                self.last = Some((reference, status));
                self.last_name = name.to_vec();
                Ok(())
            }
            Kind::File | Kind::Fifo | Kind::Socket | Kind::Device | Kind::Unknown => {
                Err(self.failed(Errno::NOTDIR))
            }
        }
    }

    fn follow_link(
        &mut self,
        name: &[u8],
        trust: Trust,
        reference: &OwnedFd,
        status: &Status,
    ) -> Result<(), Error> {
        let daemon = rustix::process::geteuid().as_raw();
        let own = status.uid == 0 || status.uid == daemon;
        let allowed = match (self.links, trust) {
            (Links::Refused, _) | (_, Trust::Substituted) => false,
            (Links::OfDaemon, Trust::Literal | Trust::FromLink) => own,
            (Links::OfTargetOwner, Trust::Literal | Trust::FromLink) => true,
        };
        let mut link = self.done.clone();
        push_name(&mut link, name);
        if !allowed {
            let literal = trust != Trust::Substituted && self.links != Links::Refused;
            let path = self.path.to_vec();
            return Err(Refusal::Link { link, path, owner: Owner(status.uid), literal }.into());
        }
        self.links_followed += 1;
        if self.links_followed > LINKS_MAX {
            return Err(self.failed(Errno::LOOP));
        }
        if !own {
            self.foreign_links.push((status.uid, link));
        }
        let text = sys::read_link(reference).map_err(|errno| self.failed(errno))?;
        let names = text.split(|byte| *byte == b'/').filter(|name| !name.is_empty());
        for name in names.rev() {
            self.pending.push_front((name.to_vec(), Trust::FromLink));
        }
        if text.first() == Some(&b'/') {
            self.pending.push_front((b"/".to_vec(), Trust::FromLink));
        }
        Ok(())
    }

    /// Makes the directory `name` and goes into it. Whoever else may write here can put something in its place before
    /// it is opened, so only a directory of the daemon's own user is accepted and given mode and owner.
    fn make(&mut self, name: &[u8]) -> Result<(), Error> {
        let at = self.current.as_ref().expect("walk() starts somewhere");
        let create = self.create.as_mut().expect("step() asked");
        if !self.announced {
            self.announced = true;
            (create.record)(Record::CreateDirectory(create.announced));
        }
        let path = ancestor(create.announced, self.pending.len());
        (create.record)(Record::Making { path, is_tree: false });
        let made = sys::make_directory(at, name, create.attributes.mode_of_new_directory());
        push_name(&mut self.done, name);
        let path = &self.done;
        let opened = match made {
            // Somebody else was faster; theirs is as good, and is not touched.
            Err(Errno::EXIST) => sys::open_directory(at, name, For::Lookup),
            Err(errno) => return Err(Error::os(errno, path)),
            Ok(()) => sys::open_directory(at, name, For::Reading),
        };
        let directory = opened.map_err(|errno| Error::os(errno, path))?;
        let parent = self.current.replace(directory);
        if made.is_ok() {
            let directory = self.current.as_ref().expect("it was just put there");
            create.attributes.apply_to_new_directory(directory, &self.done)?;
            create.attributes.record(Kind::Directory, create.record);
            create.made_in.extend(parent);
        }
        Ok(())
    }

    fn open(&self, at: Option<&OwnedFd>, name: &[u8]) -> Result<OwnedFd, Error> {
        let opened = match at {
            Some(at) => sys::open_directory(at, name, For::Lookup),
            None => sys::open_directory(CWD, name, For::Lookup),
        };
        opened.map_err(|errno| self.failed(errno))
    }

    fn duplicate(&self) -> Result<OwnedFd, Error> {
        self.open(self.current.as_ref(), b".")
    }

    fn current_status(&self) -> Result<Status, Error> {
        let at = self.current.as_ref().expect("asked after walk()");
        sys::status(at).map_err(|errno| self.failed(errno))
    }

    fn failed(&self, errno: Errno) -> Error {
        Error::os(errno, self.path)
    }

    fn note(&mut self, name: &[u8]) {
        match name {
            b"/" => self.done = b"/".to_vec(),
            name => push_name(&mut self.done, name),
        }
    }
}

/// The directory so many levels above a path.
fn ancestor(path: &[u8], levels: usize) -> &[u8] {
    (0..levels).fold(trim_slashes(path), |path, _| trim_slashes(split(path).0))
}

/// Appends a component to a path that is kept for texts.
pub(crate) fn push_name(path: &mut Vec<u8>, name: &[u8]) {
    if !path.is_empty() && path.last() != Some(&b'/') {
        path.push(b'/');
    }
    path.extend_from_slice(name);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_normal_paths_below_the_root_are_sources() {
        let cases = [
            ("/srv/in", "/srv/in/f", Some("f")),
            ("/srv/in/", "/srv/in/a/f", Some("a/f")),
            ("/srv/in", "/srv/in", Some("")),
            ("/", "/f", Some("f")),
            ("/", "/", None),
            ("/srv/in", "/srv/inner/f", None),
            ("/srv/in", "/srv/in-unknown-path/f", None),
            ("/srv/in", "/srv/in/../f", None),
            ("/srv/in", "/srv/in//f", None),
            ("/srv/in", "/srv/in/./f", None),
            ("/srv/in", "/srv/in/f/", None),
            ("in", "in/f", None),
        ];
        for (root, path, below) in cases {
            let found = below_root(root.as_bytes(), path.as_bytes());
            assert_eq!(found, below.map(str::as_bytes), "{root:?} {path:?}");
        }
    }

    #[test]
    fn what_comes_out_of_a_name_is_checked_and_what_is_literal_is_not() {
        let cases: [(&str, usize, bool); 22] = [
            ("/home/a/b", 6, true),
            ("/home/../b", 6, false),
            ("/home/./b", 6, false),
            ("/home//b", 6, false),
            ("/home/b/", 6, false),
            ("/home/b//c", 6, false),
            ("/home/..", 6, false),
            ("/home/.", 6, false),
            ("/home/..b", 6, true),
            ("/home/.b./...", 6, true),
            ("/home/../b", 9, true),
            ("/home/../b", 8, true),
            ("/home/../b", 7, false),
            ("/srv//x/f", 8, true),
            ("/srv/", 5, true),
            ("/dst/a", 4, true),
            ("/dst//a", 5, false),
            ("/dst/a\0b", 5, false),
            ("rel/f", 4, true),
            ("../f", 3, true),
            ("../f", 0, false),
            ("/f", 0, true),
        ];
        for (path, trusted_len, good) in cases {
            let result = check_substituted(path.as_bytes(), trusted_len);
            assert_eq!(result.is_ok(), good, "{path:?} with {trusted_len} trusted bytes: {result:?}");
        }
    }
}
