//! Mode, owner, times and extended attributes, always on a descriptor.
//!
//! Owns what a copy inherits from its source, what a rule changes, and when a change is refused because it would reach
//! somebody else's file. After a rule that sets an owner or a mode nobody has access that the mode does not grant:
//! access control lists go, and with a new owner capabilities and the set-ID bits.

use rustix::io::Errno;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use crate::error::{Error, Owner, Refusal, strerror};
use crate::names::{self, Ids};
use crate::quote::Repr;
use crate::sys::{self, Gid, Kind, Status, Uid};
use crate::walk::{self, Entry, Visit, Walk};
use crate::{Record, Rule};

const SET_USER_ID: u32 = 0o4000;
const SET_GROUP_ID: u32 = 0o2000;

/// Extended attributes in which the kernel keeps access control lists.
const ACL_ACCESS: &[u8] = b"system.posix_acl_access";
const ACL_DEFAULT: &[u8] = b"system.posix_acl_default";
/// Capabilities that a program lends to who runs it.
const CAPABILITY: &[u8] = b"security.capability";

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
    /// Looks the rule's names up; fails where that can't be done, before anything is touched.
    pub(crate) fn new(rule: &'r Rule) -> Result<Self, Error> {
        Ok(Attributes { rule, ids: names::look_up(rule.user.as_deref(), rule.group.as_deref())? })
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
        if !self.change_anything() {
            return Ok(());
        }
        let status = sys::status(directory).map_err(|errno| Error::os(errno, path))?;
        if status.uid != rustix::process::geteuid().as_raw() {
            return Err(Refusal::Replaced { path: path.to_vec(), owner: Some(Owner(status.uid)) }.into());
        }
        self.apply_to_directory(directory, path)
    }

    /// With which mode auto_create makes a directory: nobody enters one that is to get another mode before it has it.
    pub(crate) fn mode_of_new_directory(&self) -> u32 {
        if self.mode(Kind::Directory).is_some() { 0o700 } else { 0o777 }
    }

    /// Refuses, before anything is done, to change an inode in `directory` that may be somebody else's under another
    /// name.
    ///
    /// Where the kernel protects links, who made one could write to the file, but need not own it; where it does not,
    /// any file of the filesystem can have been linked to.
    pub(crate) fn check(&self, status: &Status, directory: impl AsFd, path: &[u8]) -> Result<(), Error> {
        if !self.may_be_of_others(status) {
            return Ok(());
        }
        let protected = hardlinks_protected();
        if protected && is_local_owner(status, directory, path)? {
            return Ok(());
        }
        Err(hard_links(status, path, protected))
    }

    /// As [`Attributes::check`] for a source that is copied: the copy is another inode, but its mode may show what the
    /// source keeps to itself.
    pub(crate) fn check_copied(
        &self,
        status: &Status,
        directory: impl AsFd,
        path: &[u8],
    ) -> Result<(), Error> {
        if !self.may_be_of_others(status) || is_local_owner(status, directory, path)? {
            return Ok(());
        }
        Err(hard_links(status, path, hardlinks_protected()))
    }

    fn may_be_of_others(&self, status: &Status) -> bool {
        let single = status.links <= 1 || matches!(status.kind, Kind::Directory | Kind::Link);
        self.change_anything() && !single
    }

    /// Sets the rule's owner and mode on what a reference in `directory` refers to. Links are left alone.
    pub(crate) fn apply(
        &self,
        reference: impl AsFd,
        status: &Status,
        directory: impl AsFd,
        path: &[u8],
    ) -> Result<(), Error> {
        if status.kind == Kind::Link {
            return Ok(());
        }
        self.check(status, directory, path)?;
        self.set(reference.as_fd(), status.kind).map_err(|errno| Error::os(errno, path))
    }

    /// Sets the rule's owner and mode on an object that is there, which may be a reference, and takes its access
    /// control lists away.
    ///
    /// Owner first: chown(2) takes set-user-id away. Differs: the original loses it that way
    /// (`owner_then_mode_keeps_what_the_rule_says`). The lists go last: until then the mode bounds them, afterwards the
    /// group has what the mode says and nobody has more.
    fn set(&self, object: BorrowedFd<'_>, kind: Kind) -> sys::Result<()> {
        if self.changes_owner() {
            sys::set_owner(object, self.ids.uid, self.ids.gid)?;
        }
        if let Some(mode) = self.mode(kind) {
            sys::set_mode(object, mode)?;
        } else if let Some(group) = group_in_list(object)? {
            sys::set_mode(object, with_group(sys::status(object)?.mode, group))?;
        }
        drop_lists(object, kind)
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
                self.apply(&reference, &status, entry.directory, &entry.path())?;
            }
        }
        Ok(Visit::Done)
    }

    /// Sets the rule's owner and mode on an open directory.
    fn apply_to_directory(&self, directory: &OwnedFd, path: &[u8]) -> Result<(), Error> {
        self.set(directory.as_fd(), Kind::Directory).map_err(|errno| Error::os(errno, path))
    }
}

fn hard_links(status: &Status, path: &[u8], protected: bool) -> Error {
    let (owner, links) = (Owner(status.uid), status.links);
    Refusal::HardLinks { path: path.to_vec(), owner, links, protected }.into()
}

/// Whether a file with several names belongs to the daemon's user or to whoever owns the directory that it is in.
fn is_local_owner(status: &Status, directory: impl AsFd, path: &[u8]) -> Result<bool, Error> {
    if status.uid == rustix::process::geteuid().as_raw() {
        return Ok(true);
    }
    let directory = sys::status(directory).map_err(|errno| Error::os(errno, path))?;
    Ok(status.uid == directory.uid)
}

/// Takes away what grants more than a mode says.
fn drop_lists(object: BorrowedFd<'_>, kind: Kind) -> sys::Result<()> {
    without_list(sys::remove_attribute(object, ACL_ACCESS))?;
    if kind == Kind::Directory {
        without_list(sys::remove_attribute(object, ACL_DEFAULT))?;
    }
    Ok(())
}

/// The errors of a call on a list that mean that there is none.
fn without_list<T: Default>(result: sys::Result<T>) -> sys::Result<T> {
    match result {
        Err(Errno::NODATA | Errno::OPNOTSUPP | Errno::NOSYS) => Ok(T::default()),
        result => result,
    }
}

/// What an access list lets the owning group do; `None` without a list. A mode shows the mask of the list instead, and
/// would grant that to the group once the list is gone.
fn group_in_list(object: BorrowedFd<'_>) -> sys::Result<Option<u32>> {
    let list = without_list(sys::attribute(object, ACL_ACCESS))?;
    Ok(if list.is_empty() { None } else { Some(group_bits(&list)) })
}

/// Permissions of the owning group in a list as the kernel hands it out: a version of four bytes, then entries of tag,
/// permissions (two bytes each) and id (four), little-endian.
fn group_bits(list: &[u8]) -> u32 {
    const GROUP_OBJ: u16 = 0x04;
    const MASK: u16 = 0x10;
    let permissions = |wanted| {
        let mut entries = list.get(4..).unwrap_or_default().chunks_exact(8);
        let entry = entries.find(|entry| u16::from_le_bytes([entry[0], entry[1]]) == wanted)?;
        Some(u32::from(u16::from_le_bytes([entry[2], entry[3]])) & 0o7)
    };
    permissions(GROUP_OBJ).unwrap_or(0) & permissions(MASK).unwrap_or(0o7)
}

/// The mode that grants as much without the object's access list as the owner, the owning group and others have.
pub(crate) fn mode_without_list(object: BorrowedFd<'_>, mode: u32) -> sys::Result<u32> {
    Ok(group_in_list(object)?.map_or(mode, |group| with_group(mode, group)))
}

fn with_group(mode: u32, group: u32) -> u32 {
    mode & !0o070 | group << 3
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
    /// although it should be, in words. What the rule did not ask for is no error where it can't be had.
    pub(crate) fn inherit(
        &self,
        old: BorrowedFd<'_>,
        status: &Status,
        new: BorrowedFd<'_>,
    ) -> Result<Option<String>, Error> {
        let failed = |errno| Error::os(errno, self.path);
        let mut lost = self.set_owner(status, new).map_err(failed)?;
        lost = lost.or(self.copy_attributes(old, new)?);
        let asked = self.attributes.mode(status.kind);
        let mode = match asked {
            Some(mode) => mode,
            None => self.inherited_mode(old, status, new).map_err(failed)?,
        };
        if self.attributes.change_anything() {
            // What the destination's default list has put there, before the mode lets anybody in.
            drop_lists(new, status.kind).map_err(failed)?;
        }
        match sys::set_mode(new, mode) {
            Err(errno) if asked.is_none() && is_not_here(errno) => {
                lost.get_or_insert_with(|| self.lost("the mode", errno));
            }
            result => result.map_err(failed)?,
        }
        match sys::set_times(new, status.atime, status.mtime) {
            Err(errno) if is_not_here(errno) => {
                lost.get_or_insert_with(|| self.lost("the time of the last change", errno));
            }
            result => result.map_err(failed)?,
        }
        Ok(lost)
    }

    /// Sets owner and group on a new object, which may be a reference to a link.
    pub(crate) fn set_owner(&self, status: &Status, new: BorrowedFd<'_>) -> sys::Result<Option<String>> {
        let Ids { uid, gid, .. } = self.attributes.ids;
        let asked = self.attributes.changes_owner();
        if self.keep == Keep::ForCopy {
            return if asked { sys::set_owner(new, uid, gid).map(|()| None) } else { Ok(None) };
        }
        let user = uid.or(Some(Uid::from_raw(status.uid)));
        let group = gid.or(Some(Gid::from_raw(status.gid)));
        match sys::set_owner(new, user, group) {
            // What the rule itself asks for must work all the same.
            Err(errno) if asked && is_not_here(errno) => sys::set_owner(new, uid, gid).map(|()| None),
            // Only root may give files away.
            Err(Errno::PERM) => Ok(None),
            Err(errno) if is_not_here(errno) => Ok(Some(self.lost("the owner", errno))),
            result => result.map(|()| None),
        }
    }

    fn copy_attributes(&self, old: BorrowedFd<'_>, new: BorrowedFd<'_>) -> Result<Option<String>, Error> {
        let failed = |errno| Error::os(errno, self.path);
        let names = sys::attribute_names(old).map_err(failed)?;
        let mut lost = None;
        for name in names.split(|byte| *byte == 0).filter(|name| self.inherits(name)) {
            let result = match sys::attribute(old, name) {
                // Removed meanwhile.
                Err(Errno::NODATA) => continue,
                value => value.and_then(|value| sys::set_attribute(new, name, &value)),
            };
            let shown = || String::from_utf8_lossy(name).into_owned();
            match result {
                // Python's shutil ignores the same.
                Err(errno) if is_not_here(errno) || errno == Errno::ACCESS => {
                    lost.get_or_insert_with(|| {
                        self.lost(&format!("extended attribute '{}'", shown()), errno)
                    });
                }
                // The content fitted already: it is the attribute that is too large for this filesystem.
                Err(Errno::NOSPC | Errno::TOOBIG | Errno::RANGE) => {
                    return Err(Error::Attribute { path: self.path.to_vec(), name: shown() });
                }
                result => result.map_err(failed)?,
            }
        }
        if self.keep == Keep::ForMove && !self.attributes.change_anything() {
            drop_foreign_lists(&names, new).map_err(failed)?;
        }
        Ok(lost)
    }

    /// The mode of an object for which the rule has none.
    fn inherited_mode(&self, old: BorrowedFd<'_>, status: &Status, new: BorrowedFd<'_>) -> sys::Result<u32> {
        let mode = safe_mode(status, self.attributes.changes_owner(), new)?;
        if !self.attributes.change_anything() {
            return Ok(mode);
        }
        // The list that the mode is the mask of stays behind.
        mode_without_list(old, mode)
    }

    fn inherits(&self, name: &[u8]) -> bool {
        let is_list = name == ACL_ACCESS || name == ACL_DEFAULT;
        match self.keep {
            _ if name.is_empty() || is_list && self.attributes.change_anything() => false,
            // Not `security.capability`, which lends rights, and not what only root may set.
            Keep::ForCopy => name.starts_with(b"user.") || is_list,
            // As with chown(2) after a rename.
            Keep::ForMove => name != CAPABILITY || !self.attributes.changes_owner(),
        }
    }

    fn lost(&self, what: &str, errno: Errno) -> String {
        format!("{what} was not kept on {}: {}", Repr(self.path), strerror(errno))
    }
}

/// What the new directory's default list has put on a moved object is not that object's.
fn drop_foreign_lists(names: &[u8], new: BorrowedFd<'_>) -> sys::Result<()> {
    for list in [ACL_ACCESS, ACL_DEFAULT] {
        if !names.split(|byte| *byte == 0).any(|name| name == list) {
            without_list(sys::remove_attribute(new, list))?;
        }
    }
    Ok(())
}

/// The errors that mean "not on this filesystem" or "not for this user" rather than "not now".
pub(crate) fn is_not_here(errno: Errno) -> bool {
    matches!(errno, Errno::OPNOTSUPP | Errno::PERM | Errno::INVAL | Errno::NOSYS)
}

/// The source's mode, without the bits that would lend the rights of an owner that the source did not have.
///
/// Differs: the original makes a stranger's set-user-id file one of the daemon's user
/// (`a_copy_does_not_lend_the_rights_of_the_daemon`).
fn safe_mode(status: &Status, changes_owner: bool, new: BorrowedFd<'_>) -> sys::Result<u32> {
    if status.mode & (SET_USER_ID | SET_GROUP_ID) == 0 || status.kind == Kind::Directory {
        return Ok(status.mode);
    }
    // As with chown(2) after a rename.
    if changes_owner {
        return Ok(status.mode & !(SET_USER_ID | SET_GROUP_ID));
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
