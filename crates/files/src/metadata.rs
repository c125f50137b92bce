//! Mode, owner, times and extended attributes, always on a descriptor.
//!
//! Owns what a copy inherits from its source, what a rule changes, and when a change is refused because it would
//! reach somebody else's file.

use rustix::io::Errno;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use crate::error::{Error, Owner, Refusal};
use crate::names::{self, Ids};
use crate::sys::{self, Gid, Kind, Status, Uid};
use crate::walk::{self, Entry, Visit, Walk};
use crate::{Record, Rule};

const SET_USER_ID: u32 = 0o4000;
const SET_GROUP_ID: u32 = 0o2000;

/// Extended attributes in which the kernel keeps access control lists.
const ACL_ACCESS: &[u8] = b"system.posix_acl_access";
const ACL_DEFAULT: &[u8] = b"system.posix_acl_default";

/// What a new file takes over from its source.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Keep {
    /// Mode, times, ACLs and the user's attributes: a copy is the daemon's own file.
    ForCopy,
    /// The owner and all attributes too: a moved file is the same file elsewhere.
    ForMove,
}

/// The modes and owners of a rule, looked up.
pub(crate) struct Attributes<'r> {
    rule: &'r Rule,
    ids: Ids,
}

impl<'r> Attributes<'r> {
    pub(crate) fn new(rule: &'r Rule) -> Self {
        Attributes { rule, ids: names::look_up(rule.user.as_deref(), rule.group.as_deref()) }
    }

    /// Whether the rule changes anything at all.
    pub(crate) fn change_anything(&self) -> bool {
        let rule = self.rule;
        rule.dirmode.is_some() || rule.filemode.is_some() || rule.user.is_some() || rule.group.is_some()
    }

    /// Says that a user or group is missing: after the action, as the original does.
    pub(crate) fn check_names(&self) -> Result<(), Error> {
        self.ids.missing().map_or(Ok(()), Err)
    }

    fn mode(&self, kind: Kind) -> Option<u32> {
        let mode = match kind {
            Kind::Directory => self.rule.dirmode,
            // A link has no mode of its own.
            Kind::Link => None,
            Kind::File | Kind::Fifo | Kind::Socket | Kind::Device | Kind::Unknown => self.rule.filemode,
        };
        // Without the owner that the administrator meant, the bits that lend an owner's rights would lend the
        // daemon's.
        let lent = if self.ids.missing().is_some() { SET_USER_ID | SET_GROUP_ID } else { 0 };
        mode.map(|mode| mode & 0o7777 & !lent)
    }

    fn changes_owner(&self) -> bool {
        self.ids.uid.is_some() || self.ids.gid.is_some()
    }

    /// Says what is set on the object of an action.
    pub(crate) fn record(&self, kind: Kind, record: &mut dyn FnMut(Record<'_>)) {
        if let Some(mode) = self.mode(kind) {
            record(Record::Chmod(mode));
        }
        if self.changes_owner() && kind != Kind::Link {
            record(Record::Chown { user: self.rule.user.as_deref(), group: self.rule.group.as_deref() });
        }
    }

    /// Gives a directory that auto_create made the rule's owner and mode.
    pub(crate) fn apply_to_new_directory(&self, directory: &OwnedFd, path: &[u8]) -> Result<(), Error> {
        let failed = |errno| Error::os(errno, path);
        if self.mode(Kind::Directory).is_none() && !self.changes_owner() {
            return Ok(());
        }
        let status = sys::status(directory).map_err(failed)?;
        if status.uid != rustix::process::geteuid().as_raw() {
            return Err(Refusal::Replaced { path: path.to_vec(), owner: Some(Owner(status.uid)) }.into());
        }
        self.apply_to_directory(directory, path)
    }

    /// Refuses what [`Attributes::apply`] would refuse, before anything is done.
    pub(crate) fn check(&self, status: &Status, path: &[u8]) -> Result<(), Error> {
        let changes = self.mode(status.kind).is_some() || self.changes_owner();
        let single = status.links <= 1 || matches!(status.kind, Kind::Directory | Kind::Link);
        if !changes || single || hardlinks_protected() {
            return Ok(());
        }
        let (owner, links) = (Owner(status.uid), status.links);
        Err(Refusal::HardLinks { path: path.to_vec(), owner, links }.into())
    }

    /// Sets the rule's owner and mode on what a reference refers to. Links are left alone.
    ///
    /// Owner first: chown(2) takes set-user-id away. Differs: the original loses it that way
    /// (`owner_then_mode_keeps_what_the_rule_says`).
    pub(crate) fn apply(&self, reference: impl AsFd, status: &Status, path: &[u8]) -> Result<(), Error> {
        if status.kind == Kind::Link {
            return Ok(());
        }
        self.check(status, path)?;
        let failed = |errno| Error::os(errno, path);
        if self.changes_owner() {
            sys::set_owner(&reference, self.ids.uid, self.ids.gid).map_err(failed)?;
        }
        match self.mode(status.kind) {
            Some(mode) => sys::set_mode_of_reference(&reference, mode).map_err(failed),
            None => Ok(()),
        }
    }

    /// [`Attributes::apply`] on a directory and everything in it; never through a link.
    ///
    /// A directory comes after what is in it: its new mode may lock the daemon out.
    pub(crate) fn apply_to_tree(&self, top: OwnedFd, path: &[u8]) -> Result<(), Error> {
        let mut walk = Walk::start(top, path)?;
        walk.list(|entry| self.visit(entry))?;
        loop {
            while let Some(next) = walk.next() {
                let directory = walk::open_on_same_mount(walk.directory(), &next)
                    .map_err(|errno| walk::not_entered(errno, &walk.path_of(&next)))?;
                walk.enter(&next, directory, false)?;
                walk.list(|entry| self.visit(entry))?;
            }
            let path = walk.path().to_vec();
            let (left, rest) = walk.leave()?;
            self.apply_to_directory(&left.directory, &path)?;
            match rest {
                Some(rest) => walk = rest,
                None => return Ok(()),
            }
        }
    }

    fn visit(&self, entry: &Entry<'_>) -> Result<Visit, Error> {
        if entry.kind == Kind::Directory {
            return Ok(Visit::Later);
        }
        let failed = |errno| entry.failed(errno);
        let reference = sys::open_reference(entry.directory, entry.name).map_err(failed)?;
        let status = sys::status(&reference).map_err(failed)?;
        match status.kind {
            Kind::Directory => return Ok(Visit::Later),
            Kind::Link => {}
            Kind::File | Kind::Fifo | Kind::Socket | Kind::Device | Kind::Unknown => {
                self.apply(&reference, &status, &entry.path())?;
            }
        }
        Ok(Visit::Done)
    }

    /// Sets the rule's owner and mode on an open directory.
    pub(crate) fn apply_to_directory(&self, directory: &OwnedFd, path: &[u8]) -> Result<(), Error> {
        let failed = |errno| Error::os(errno, path);
        if self.changes_owner() {
            sys::set_owner(directory, self.ids.uid, self.ids.gid).map_err(failed)?;
        }
        self.mode(Kind::Directory).map_or(Ok(()), |mode| sys::set_mode(directory, mode)).map_err(failed)
    }
}

/// The passing on of attributes to one new file or directory.
pub(crate) struct Heir<'a> {
    pub(crate) attributes: &'a Attributes<'a>,
    pub(crate) keep: Keep,
    /// Path of the new object, for texts.
    pub(crate) path: &'a [u8],
}

impl Heir<'_> {
    /// Gives `new` the attributes of `old`, and those of the rule instead where it has some; `status` is that of
    /// `old`.
    ///
    /// Owner, attributes, mode, times: each step would undo something of a later one. Gives what could not be kept
    /// although it should be, in words.
    pub(crate) fn inherit(
        &self,
        old: BorrowedFd<'_>,
        status: &Status,
        new: BorrowedFd<'_>,
    ) -> Result<Option<String>, Error> {
        let failed = |errno| Error::os(errno, self.path);
        self.set_owner(status, new).map_err(failed)?;
        let lost = self.copy_attributes(old, new).map_err(failed)?;
        let mode = match self.attributes.mode(status.kind) {
            Some(mode) => mode,
            None => safe_mode(status, new).map_err(failed)?,
        };
        sys::set_mode(new, mode).map_err(failed)?;
        sys::set_times(new, status.atime, status.mtime).map_err(failed)?;
        Ok(lost)
    }

    /// Sets owner and group on a new object, which may be a reference to a link.
    pub(crate) fn set_owner(&self, status: &Status, new: BorrowedFd<'_>) -> sys::Result<()> {
        let Ids { uid, gid, .. } = self.attributes.ids;
        let asked = uid.is_some() || gid.is_some();
        match self.keep {
            Keep::ForCopy if asked => sys::set_owner(new, uid, gid),
            Keep::ForCopy => Ok(()),
            Keep::ForMove => {
                let user = uid.or(Some(Uid::from_raw(status.uid)));
                let group = gid.or(Some(Gid::from_raw(status.gid)));
                match sys::set_owner(new, user, group) {
                    // Only root may give files away; what the rule itself asks for must work all the same.
                    Err(Errno::PERM) if asked => sys::set_owner(new, uid, gid),
                    Err(Errno::PERM) => Ok(()),
                    result => result,
                }
            }
        }
    }

    fn copy_attributes(&self, old: BorrowedFd<'_>, new: BorrowedFd<'_>) -> sys::Result<Option<String>> {
        let names = sys::attribute_names(old)?;
        let mut lost = None;
        for name in names.split(|byte| *byte == 0).filter(|name| self.inherits(name)) {
            let result = match sys::attribute(old, name) {
                // Removed meanwhile.
                Err(Errno::NODATA) => continue,
                value => value.and_then(|value| sys::set_attribute(new, name, &value)),
            };
            match result {
                // The errors that mean "not here" rather than "not now"; Python's shutil ignores the same.
                Err(errno @ (Errno::OPNOTSUPP | Errno::PERM | Errno::ACCESS | Errno::INVAL)) => {
                    lost.get_or_insert_with(|| self.lost(name, errno));
                }
                result => result?,
            }
        }
        let has_acl = names.split(|byte| *byte == 0).any(|name| name == ACL_ACCESS);
        if self.keep == Keep::ForMove && !has_acl {
            // What the new directory's default ACL has put there is not the moved file's.
            match sys::remove_attribute(new, ACL_ACCESS) {
                Err(Errno::NODATA | Errno::OPNOTSUPP | Errno::NOSYS) => {}
                result => result?,
            }
        }
        Ok(lost)
    }

    fn inherits(&self, name: &[u8]) -> bool {
        match self.keep {
            _ if name.is_empty() => false,
            // Not `security.capability`, which lends rights, and not what only root may set.
            Keep::ForCopy => name.starts_with(b"user.") || name == ACL_ACCESS || name == ACL_DEFAULT,
            Keep::ForMove => true,
        }
    }

    fn lost(&self, name: &[u8], errno: Errno) -> String {
        format!(
            "extended attribute '{}' was not kept on {}: {}",
            String::from_utf8_lossy(name),
            crate::quote::Repr(self.path),
            crate::error::strerror(errno)
        )
    }
}

/// The source's mode, without the bits that would lend the rights of an owner that the source did not have.
///
/// Differs: the original makes a stranger's set-user-id file one of the daemon's user
/// (`a_copy_does_not_lend_the_rights_of_the_daemon`).
fn safe_mode(status: &Status, new: BorrowedFd<'_>) -> sys::Result<u32> {
    if status.mode & (SET_USER_ID | SET_GROUP_ID) == 0 || status.kind == Kind::Directory {
        return Ok(status.mode);
    }
    let now = sys::status(new)?;
    let user = if now.uid == status.uid { 0 } else { SET_USER_ID };
    let group = if now.gid == status.gid { 0 } else { SET_GROUP_ID };
    Ok(status.mode & !user & !group)
}

/// Whether the kernel keeps users from linking to files of others (fs.protected_hardlinks, proc_sys_fs(5)).
fn hardlinks_protected() -> bool {
    #[cfg(test)]
    if let Some(protected) = tests::PROTECTED.get() {
        return protected;
    }
    std::fs::read("/proc/sys/fs/protected_hardlinks").is_ok_and(|value| value.trim_ascii() == b"1")
}

#[cfg(test)]
pub(crate) mod tests {
    use std::cell::Cell;

    thread_local! {
        /// What a test wants the sysctl to say.
        pub(crate) static PROTECTED: Cell<Option<bool>> = const { Cell::new(None) };
    }
}
