//! Where a configured path leads, and through whose links.
//!
//! Whoever may write to a directory above a root can put a link in the root's place, and everything below another
//! directory would come to be watched, and worked on, under the root's name. So a link is followed only if nobody gains
//! by it: it belongs to root or to the daemon's user, or to the owner of what the path leads to in the end. File rules
//! are held to the same.
//!
//! Owns that judgement for one moment. Leaves to the caller when to look again.

use std::os::fd::OwnedFd;

use rustix::fs::{CWD, FileType, Mode, OFlags, ResolveFlags, Stat};
use rustix::io::Errno;

use crate::kernel::Refusal;
use crate::path;

/// Links that are followed on one way, as the kernel does (path_resolution(7)).
const LINKS_MAX: usize = 40;

/// What stands at a path.
pub(crate) struct Found {
    pub(crate) object: OwnedFd,
    pub(crate) is_dir: bool,
    /// The last name of the path is a link.
    pub(crate) is_link: bool,
    /// The path without links, where links lead there.
    pub(crate) real: Option<Vec<u8>>,
}

/// Why nothing stands there for us.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Unfound {
    /// The kernel says so.
    Errno(Errno),
    /// A link that is not followed.
    ForeignLink(ForeignLink),
}

/// A link by which its owner would lead us to what is not his.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ForeignLink {
    pub(crate) link: Vec<u8>,
    pub(crate) owner: u32,
    pub(crate) target_owner: u32,
}

impl Unfound {
    pub(crate) fn refusal(&self) -> Refusal {
        match self {
            Unfound::Errno(errno) => Refusal::of(*errno),
            Unfound::ForeignLink(_) => Refusal::Forbidden,
        }
    }
}

impl From<Errno> for Unfound {
    fn from(errno: Errno) -> Unfound {
        Unfound::Errno(errno)
    }
}

/// Opens what stands at `path`.
pub(crate) fn open(path: &[u8]) -> Result<Found, Unfound> {
    match open_without_links(path) {
        Ok(object) => {
            let is_dir = is(&rustix::fs::fstat(&object)?, FileType::Directory);
            Ok(Found { object, is_dir, is_link: false, real: None })
        }
        // ENOSYS: before Linux 5.6, or a sandbox that does not know openat2(2); older ones say EPERM.
        Err(Errno::LOOP | Errno::NOSYS | Errno::PERM) => open_through_links(path),
        Err(errno) => Err(errno.into()),
    }
}

fn open_without_links(path: &[u8]) -> Result<OwnedFd, Errno> {
    rustix::fs::openat2(CWD, path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty(), ResolveFlags::NO_SYMLINKS)
}

fn open_through_links(path: &[u8]) -> Result<Found, Unfound> {
    let is_link = is(&rustix::fs::lstat(path)?, FileType::Symlink);
    let object = rustix::fs::open(path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty())?;
    let status = rustix::fs::fstat(&object)?;
    let real = real_path(path, |_| true);
    let daemon = rustix::process::geteuid().as_raw();
    let mut by_kernel = false;
    let has_links = !real.links.is_empty();
    for (directory, name) in real.links {
        let mut link = directory;
        path::push(&mut link, &name);
        // Links in /proc are the kernel's own, and lead to objects rather than to their text (proc_pid_root(5)).
        if path::is_at_or_below(&link, b"/proc") {
            by_kernel = true;
            continue;
        }
        let owner = rustix::fs::lstat(&link[..])?.st_uid;
        if owner != 0 && owner != daemon && owner != status.st_uid {
            return Err(Unfound::ForeignLink(ForeignLink { link, owner, target_owner: status.st_uid }));
        }
    }
    if !by_kernel && !leads_to(&real.path, &status)? {
        // Exchanged between the two looks; whatever did that is told, and it is looked at again.
        return Err(Errno::NOENT.into());
    }
    let is_dir = is(&status, FileType::Directory);
    Ok(Found { object, is_dir, is_link, real: has_links.then_some(real.path) })
}

/// Whether a path without links leads to that object.
fn leads_to(real: &[u8], object: &Stat) -> Result<bool, Errno> {
    let now = match open_without_links(real) {
        Ok(found) => rustix::fs::fstat(found)?,
        Err(Errno::NOSYS | Errno::PERM) => rustix::fs::lstat(real)?,
        Err(Errno::LOOP) => return Ok(false),
        Err(errno) => return Err(errno),
    };
    Ok((now.st_dev, now.st_ino) == (object.st_dev, object.st_ino))
}

fn is(status: &Stat, kind: FileType) -> bool {
    FileType::from_raw_mode(status.st_mode) == kind
}

/// Where a path leads when all links are followed.
pub(crate) struct RealPath {
    pub(crate) path: Vec<u8>,
    /// The links on the way, each as its directory and its name.
    pub(crate) links: Vec<(Vec<u8>, Vec<u8>)>,
}

/// Follows all links of a path, whether it exists or not. Those that go in circles are followed as far as the kernel
/// does. What must not be asked about counts as no link.
pub(crate) fn real_path(path: &[u8], may_ask: impl Fn(&[u8]) -> bool) -> RealPath {
    let reversed = |path: &[u8]| path::components(path).rev().map(<[u8]>::to_vec).collect::<Vec<_>>();
    let mut real = b"/".to_vec();
    let mut links = Vec::new();
    let mut ahead = reversed(path);
    while let Some(name) = ahead.pop() {
        match &name[..] {
            b"." => continue,
            b".." => {
                real = path::absolute(&real, b"..");
                continue;
            }
            _ => {}
        }
        let mut next = real.clone();
        path::push(&mut next, &name);
        let target = if may_ask(&next) { rustix::fs::readlink(&next[..], Vec::new()).ok() } else { None };
        let Some(target) = target else {
            real = next;
            continue;
        };
        if links.len() == LINKS_MAX {
            break;
        }
        links.push((real.clone(), name));
        if target.as_bytes().starts_with(b"/") {
            real = b"/".to_vec();
        }
        ahead.extend(reversed(target.as_bytes()));
    }
    RealPath { path: real, links }
}

/// A link that leads to nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dangling {
    /// Where it stands.
    pub link: Vec<u8>,
    /// Where it leads in the end.
    pub target: Vec<u8>,
}

/// The link on the way to a path, or at it, because of which nothing is there. Only paths that `may_ask` allows are
/// looked at.
pub fn dangling(path: &[u8], may_ask: impl Fn(&[u8]) -> bool) -> Option<Dangling> {
    let parent = |path| path::parent_and_name(path).map(|(parent, _)| parent);
    let mut ways = std::iter::successors(Some(path), |path| parent(path));
    let link = ways.find(|path| !may_ask(path) || rustix::fs::lstat(*path).is_ok())?;
    let leads_nowhere = may_ask(link) && rustix::fs::stat(link).err() == Some(Errno::NOENT);
    leads_nowhere.then(|| Dangling { link: link.to_vec(), target: real_path(link, may_ask).path })
}

#[cfg(test)]
mod tests {
    use std::os::unix::ffi::OsStrExt as _;
    use std::os::unix::fs::symlink;
    use std::path::Path;

    use super::*;

    fn opened(path: &Path) -> Result<(bool, bool), Unfound> {
        open(path.as_os_str().as_bytes()).map(|found| (found.is_dir, found.is_link))
    }

    #[test]
    fn where_links_lead_is_known_of_what_is_opened() {
        let dir = tempfile::tempdir().unwrap();
        let top = dir.path().canonicalize().unwrap();
        std::fs::create_dir_all(top.join("real/in")).unwrap();
        symlink("real", top.join("link")).unwrap();
        let real = |path: &str| open(top.join(path).as_os_str().as_bytes()).ok().and_then(|found| found.real);
        assert_eq!(real("real/in"), None);
        assert_eq!(real("link/in"), Some(top.join("real/in").as_os_str().as_bytes().to_vec()));
    }

    #[test]
    fn our_own_links_and_those_of_the_kernel_are_followed() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        std::fs::create_dir(at("real")).unwrap();
        std::fs::write(at("real/file"), "").unwrap();
        symlink("real", at("link")).unwrap();
        symlink(at("link"), at("second")).unwrap();
        assert_eq!(opened(&at("real")), Ok((true, false)));
        assert_eq!(opened(&at("second")), Ok((true, true)));
        assert_eq!(opened(&at("second/file")), Ok((false, false)));
        let through_proc = Path::new("/proc/self/root").join(at("real").strip_prefix("/").unwrap());
        assert_eq!(opened(&through_proc), Ok((true, false)));
    }

    #[test]
    fn links_that_lead_nowhere_are_not_there() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        symlink("nothing", at("dangling")).unwrap();
        symlink("circle", at("circle")).unwrap();
        assert_eq!(opened(&at("dangling")), Err(Unfound::Errno(Errno::NOENT)));
        assert_eq!(opened(&at("circle")), Err(Unfound::Errno(Errno::LOOP)));
        assert_eq!(opened(&at("none")), Err(Unfound::Errno(Errno::NOENT)));
    }

    #[test]
    fn the_link_because_of_which_nothing_is_there_is_named_and_where_it_leads() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name).as_os_str().as_bytes().to_vec();
        std::fs::create_dir(dir.path().join("real")).unwrap();
        symlink("real", dir.path().join("sound")).unwrap();
        symlink("second", dir.path().join("first")).unwrap();
        symlink("real/nothing", dir.path().join("second")).unwrap();
        let found = |path: &str| dangling(&at(path), |_| true);
        let first = Some(Dangling { link: at("first"), target: at("real/nothing") });
        assert_eq!((found("first"), found("first/in/sub")), (first.clone(), first));
        for path in ["none", "real/none", "sound", "sound/none"] {
            assert_eq!(found(path), None, "{path}");
        }
        assert_eq!(dangling(&at("first"), |_| false), None);
    }

    #[test]
    fn a_path_that_changed_meanwhile_is_noticed() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        for name in ("one two").split(' ') {
            std::fs::create_dir(at(name)).unwrap();
        }
        let object = rustix::fs::stat(at("one")).unwrap();
        assert_eq!(leads_to(at("one").as_os_str().as_bytes(), &object), Ok(true));
        assert_eq!(leads_to(at("two").as_os_str().as_bytes(), &object), Ok(false));
        symlink("one", at("link")).unwrap();
        assert_eq!(leads_to(at("link").as_os_str().as_bytes(), &object), Ok(false));
    }
}
