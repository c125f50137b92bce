//! What can go wrong with a file action, and how it is said.
//!
//! Where the original has a text, it is kept: the form of Python's `OSError` and the messages of its `shutil`. What
//! only this crate does, refusing, is said with path, owner, reason and remedy in [`Refusal`].

use rustix::io::Errno;
use std::fmt;

use crate::Action;
use crate::quote::{Plain, Repr};

/// Why a file action failed. Unless the text says otherwise, the source is as it was and nothing is left behind.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The substitution gave no destination at all.
    #[error("unable to {action} '{}', resulting destination path is empty", Plain(.from))]
    EmptyDestination {
        /// What the rule asked for.
        action: Action,
        /// The source.
        from: Vec<u8>,
    },
    /// The destination's name is taken and the rule does not overwrite.
    ///
    /// Differs: the original forgets a quote and gives no remedy (`a_taken_name_is_an_error_without_overwrite`).
    #[error(
        "unable to {action} file from '{}' to '{}', path already exists; set {remedy}",
        Plain(.from), Plain(.to)
    )]
    Exists {
        /// What the rule asked for.
        action: Action,
        /// The source.
        from: Vec<u8>,
        /// The destination.
        to: Vec<u8>,
        /// Arguments of the rule with which it would be done.
        remedy: &'static str,
    },
    /// The destination's name is taken by a file with other contents, and the rule needs the same.
    #[error(
        "unable to {action} file from '{}' to '{}', path already exists and its content differs; \
         set on_conflict=\"overwrite\", \"skip\", \"rename\" or \"newer\"",
        Plain(.from), Plain(.to)
    )]
    Differs {
        /// What the rule asked for.
        action: Action,
        /// The source.
        from: Vec<u8>,
        /// The destination.
        to: Vec<u8>,
    },
    /// The destination's directory does not exist and the rule does not make it.
    ///
    /// Differs: the original has the text of the failed rename, which names the wrong cause
    /// (`a_missing_parent_is_named_with_its_remedy`).
    #[error(
        "unable to {action} file from '{}' to '{}', directory '{}' does not exist; set auto_create=True, \
         or mounted= if a filesystem has to be mounted there",
        Plain(.from), Plain(.to), Plain(.missing)
    )]
    NoParent {
        /// What the rule asked for.
        action: Action,
        /// The source.
        from: Vec<u8>,
        /// The destination.
        to: Vec<u8>,
        /// The first directory on the way that does not exist.
        missing: Vec<u8>,
    },
    /// A system call failed; the text is that of Python's `OSError`.
    #[error("[Errno {}] {}: {}", .errno.raw_os_error(), strerror(*.errno), Pair(.path, .to.as_deref()))]
    Os {
        /// The error number.
        errno: Errno,
        /// The path it is about.
        path: Vec<u8>,
        /// The second path of a rename.
        to: Option<Vec<u8>>,
    },
    /// Source and destination are one inode.
    #[error("{} and {} are the same file", Repr(.from), Repr(.to))]
    SameFile {
        /// The source.
        from: Vec<u8>,
        /// The destination.
        to: Vec<u8>,
    },
    /// A FIFO, a socket or a device has no content that could be copied.
    #[error("`{}` is a {kind}", Plain(.path))]
    Special {
        /// The path of the object.
        path: Vec<u8>,
        /// "named pipe", "socket" or "device file".
        kind: &'static str,
    },
    /// The rule's user does not exist; everything else was done.
    #[error("no such user: {}", Repr(.0.as_bytes()))]
    NoSuchUser(String),
    /// The rule's group does not exist; everything else was done.
    #[error("no such group: {}", Repr(.0.as_bytes()))]
    NoSuchGroup(String),
    /// The user or group database could not be asked (LDAP is down, say). Nothing was touched.
    #[error("cannot look up {what} {}: {}; nothing was done", Repr(.name.as_bytes()), strerror(*.errno))]
    NoAnswer {
        /// "user" or "group".
        what: &'static str,
        /// Its name in the rule.
        name: String,
        /// What the database's client said.
        errno: Errno,
    },
    /// The source can't be moved to another filesystem now without losing what is being written to it. Nothing was
    /// done; the same action later is the remedy.
    #[error("{} is in use: {why}", Repr(.path))]
    InUse {
        /// The file.
        path: Vec<u8>,
        /// By whom.
        why: Use,
    },
    /// Some entries of a tree could not be copied; the rest is in its place. A warning has named each.
    #[error("{} of {} not copied to {}, the first because: {first}", entries(*.count), Repr(.from), Repr(.to))]
    LeftOut {
        /// The tree.
        from: Vec<u8>,
        /// Its copy.
        to: Vec<u8>,
        /// How many, a directory with all that is in it counted once.
        count: u64,
        /// Why the first one is missing.
        first: Box<Error>,
    },
    /// The destination's filesystem has no room for an extended attribute of this size.
    #[error("the extended attribute '{name}' of {} does not fit on the filesystem of the destination", Repr(.path))]
    Attribute {
        /// The new object.
        path: Vec<u8>,
        /// Name of the attribute.
        name: String,
    },
    /// A copy that was read back is not what was written.
    #[error("the copy of {} to {} does not read back as it was written, and is discarded", Repr(.from), Repr(.to))]
    NotVerified {
        /// The source.
        from: Vec<u8>,
        /// The destination.
        to: Vec<u8>,
    },
    /// Nothing is mounted where the rule wants something to be.
    #[error("{} is not mounted", Plain(.path))]
    NotMounted {
        /// The directory that is to be a mount point.
        path: Vec<u8>,
    },
    /// The destination is below the directory that is moved or copied.
    #[error("unable to {action} directory {} into itself, to {}", Repr(.from), Repr(.to))]
    IntoItself {
        /// What the rule asked for.
        action: Action,
        /// The source.
        from: Vec<u8>,
        /// The destination.
        to: Vec<u8>,
    },
    /// The source was written each time that it was copied.
    #[error("{} was changed while it was copied, {tries} times in a row; it is left as it is", Repr(.path))]
    Changing {
        /// The source.
        path: Vec<u8>,
        /// How often the copy was tried.
        tries: u32,
    },
    /// A move across filesystems has its copy in place, but the source was not removed.
    #[error("{} is complete, but {} was not removed: {why}", Repr(.to), Repr(.from))]
    SourceKept {
        /// The source.
        from: Vec<u8>,
        /// The complete destination.
        to: Vec<u8>,
        /// What kept it from being removed.
        why: String,
    },
    /// A move across filesystems whose source cannot be removed; everything is as it was.
    #[error("{} was not moved to {}, since it can't be removed: {why}: {}", Repr(.from), Repr(.to), back(*.copied))]
    NotRemovable {
        /// The source.
        from: Vec<u8>,
        /// The destination.
        to: Vec<u8>,
        /// What keeps it from being removed.
        why: Box<Error>,
        /// That turned out after it was copied.
        copied: bool,
    },
    /// A tree is deeper or wider than a limit of this crate.
    #[error("{} is too large: {what}", Repr(.path))]
    TooLarge {
        /// Where the limit was met.
        path: Vec<u8>,
        /// The limit.
        what: &'static str,
    },
    /// It would take longer than the caller wants to wait ([`crate::Request::brief`]).
    #[error("it takes more than a few system calls")]
    Lengthy,
    /// The caller asked to stop.
    #[error("stopped before {} was done", Repr(.path))]
    Stopped {
        /// Where the action was.
        path: Vec<u8>,
    },
    /// Following the request would have let somebody else decide what the daemon does.
    #[error(transparent)]
    Refused(#[from] Refusal),
}

impl Error {
    pub(crate) fn os(errno: Errno, path: &[u8]) -> Self {
        Error::Os { errno, path: path.to_vec(), to: None }
    }

    pub(crate) fn os_pair(errno: Errno, path: &[u8], to: &[u8]) -> Self {
        Error::Os { errno, path: path.to_vec(), to: Some(to.to_vec()) }
    }

    /// The error number, where a system call failed.
    pub fn errno(&self) -> Option<i32> {
        let Error::Os { errno, .. } = self else { return None };
        Some(errno.raw_os_error())
    }

    /// Whether it is about one entry of a tree and not about all that follow: the rest can be copied without it.
    pub(crate) fn is_about_one_entry(&self) -> bool {
        match self {
            Error::Os { errno, .. } => !matches!(
                *errno,
                Errno::NOSPC | Errno::DQUOT | Errno::ROFS | Errno::MFILE | Errno::NFILE | Errno::NOMEM
            ),
            Error::Special { .. }
            | Error::InUse { .. }
            | Error::Attribute { .. }
            | Error::NotVerified { .. }
            | Error::Changing { .. }
            | Error::TooLarge { .. }
            | Error::Exists { .. }
            | Error::Differs { .. }
            | Error::SameFile { .. }
            | Error::Refused(_) => true,
            Error::EmptyDestination { .. }
            | Error::NoParent { .. }
            | Error::NoSuchUser(_)
            | Error::NoSuchGroup(_)
            | Error::NoAnswer { .. }
            | Error::NotMounted { .. }
            | Error::LeftOut { .. }
            | Error::IntoItself { .. }
            | Error::SourceKept { .. }
            | Error::NotRemovable { .. }
            | Error::Lengthy
            | Error::Stopped { .. } => false,
        }
    }
}

/// Why a source is in use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Use {
    /// Somebody has it open for writing.
    Written,
    /// Somebody holds a lease on it, so that it can't even be read.
    Leased,
    /// Its last change is so young that its filesystem's times would not show another one.
    Young,
    /// Another action of this process is at work in it.
    Ours,
}

impl fmt::Display for Use {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(match self {
            Use::Written => "somebody has it open for writing",
            Use::Leased => "somebody holds a lease on it",
            Use::Young => {
                "it was changed a moment ago, and its filesystem's times would not show another change"
            }
            Use::Ours => "another file rule is at work in it",
        })
    }
}

/// A request that is not carried out because somebody other than the administrator would gain by it.
#[derive(Debug, thiserror::Error)]
pub enum Refusal {
    /// The source does not lie below the root of its watch.
    #[error("refused: {} is not below the watched {}", Repr(.path), Repr(.root))]
    OutsideRoot {
        /// The source.
        path: Vec<u8>,
        /// The root of the watch.
        root: Vec<u8>,
    },
    /// A component came out of the substitution that a file name can't be.
    #[error(
        "refused: the destination {} holds {what} that comes out of the file's name, not out of dst_re; \
         make the groups of src_re match whole names only, such as ([^/]+)",
        Repr(.path)
    )]
    Component {
        /// The destination.
        path: Vec<u8>,
        /// The component, in words.
        what: &'static str,
    },
    /// A symbolic link stands where only directories may be.
    #[error(
        "refused: {} on the way to {} is a symbolic link owned by {owner}, who could point it anywhere; \
         replace it by a directory or a bind mount{}", Repr(.link), Repr(.path), remedy(*.literal)
    )]
    Link {
        /// The link.
        link: Vec<u8>,
        /// The path that leads through it.
        path: Vec<u8>,
        /// Owner of the link.
        owner: Owner,
        /// Whether the link is in a part of the path that the administrator wrote.
        literal: bool,
    },
    /// The source of a copy is a link to something that its owner does not own.
    #[error(
        "refused: {} is a symbolic link owned by {owner} to a file owned by {target_owner}; \
         a copy follows links of the daemon's user and links to the link owner's own files only", Repr(.path)
    )]
    ForeignLink {
        /// The link.
        path: Vec<u8>,
        /// Owner of the link.
        owner: Owner,
        /// Owner of what it points to.
        target_owner: Owner,
    },
    /// A file has more than one name, so that its owner or mode would change elsewhere too.
    #[error(
        "refused: {}, owned by {owner}, has {links} hard links and may be somebody else's file: its mode and owner are \
         not changed; {}remove the other links", Repr(.path), protect(*.protected)
    )]
    HardLinks {
        /// The file.
        path: Vec<u8>,
        /// Its owner.
        owner: Owner,
        /// How many names it has.
        links: u64,
        /// The kernel keeps users from linking to files that they can't write, and still it belongs neither to the
        /// daemon's user nor to the owner of its directory.
        protected: bool,
    },
    /// Something took the place of an object between two steps of an action.
    #[error("refused: {} was replaced by something else during the action{}", Repr(.path), owned_by(.owner.as_ref()))]
    Replaced {
        /// The path.
        path: Vec<u8>,
        /// Owner of what is there now, if it could be seen.
        owner: Option<Owner>,
    },
    /// Something of another kind has taken the place of the source since the event.
    #[error("refused: {} {}, owned by {owner}", Repr(.path), other_kind(*.is_directory))]
    Kind {
        /// The source.
        path: Vec<u8>,
        /// It is a directory now; otherwise it was one.
        is_directory: bool,
        /// Owner of what is there now.
        owner: Owner,
    },
    /// The destination is not below the directory that has to be a mount point.
    #[error("refused: the destination {} is not below {}, which mounted= names", Repr(.path), Repr(.mounted))]
    NotBelowMount {
        /// The destination.
        path: Vec<u8>,
        /// What the rule says.
        mounted: Vec<u8>,
    },
    /// Something is mounted inside a tree that is to be moved, removed or changed.
    #[error("refused: {} is a mount point, and nothing below it is touched; unmount it first", Repr(.path))]
    MountPoint {
        /// Where it is mounted.
        path: Vec<u8>,
    },
}

fn remedy(literal: bool) -> &'static str {
    if literal { ", or let root or the daemon's user own the link" } else { "" }
}

fn back(copied: bool) -> &'static str {
    if copied { "the copy was taken back" } else { "nothing was copied" }
}

fn entries(count: u64) -> String {
    if count == 1 { "1 entry".to_owned() } else { format!("{count} entries") }
}

fn protect(protected: bool) -> &'static str {
    if protected { "" } else { "set fs.protected_hardlinks=1 or " }
}

fn owned_by(owner: Option<&Owner>) -> String {
    owner.map(|owner| format!(", owned by {owner}")).unwrap_or_default()
}

fn other_kind(is_directory: bool) -> &'static str {
    if is_directory {
        "is a directory now, and its scheduler takes files alone (dirs=True would take it)"
    } else {
        "is no directory any more, and its scheduler takes directories alone (files=False)"
    }
}

/// A user as a refusal names it: the name where there is one, and the number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Owner(pub u32);

impl fmt::Display for Owner {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match nix::unistd::User::from_uid(nix::unistd::Uid::from_raw(self.0)) {
            Ok(Some(user)) => write!(out, "{} (uid {})", user.name, self.0),
            Ok(None) | Err(_) => write!(out, "uid {}", self.0),
        }
    }
}

/// The text of strerror(3), which is what Python shows.
pub(crate) fn strerror(errno: Errno) -> String {
    let number = errno.raw_os_error();
    let text = std::io::Error::from_raw_os_error(number).to_string();
    let suffix = format!(" (os error {number})");
    text.strip_suffix(&suffix).unwrap_or(&text).to_owned()
}

/// `'A'` or `'A' -> 'B'`.
struct Pair<'a>(&'a [u8], Option<&'a [u8]>);

impl fmt::Display for Pair<'_> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.1 {
            None => Repr(self.0).fmt(out),
            Some(to) => write!(out, "{} -> {}", Repr(self.0), Repr(to)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_those_of_python() {
        let cases = [
            (Error::os(Errno::NOENT, b"/a"), "[Errno 2] No such file or directory: '/a'"),
            (Error::os_pair(Errno::XDEV, b"/a", b"/b"), "[Errno 18] Invalid cross-device link: '/a' -> '/b'"),
            (
                Error::Exists {
                    action: Action::Move,
                    from: b"/a".to_vec(),
                    to: b"/b".to_vec(),
                    remedy: "overwrite=True",
                },
                "unable to move file from '/a' to '/b', path already exists; set overwrite=True",
            ),
            (
                Error::EmptyDestination { action: Action::Copy, from: b"/a".to_vec() },
                "unable to copy '/a', resulting destination path is empty",
            ),
            (Error::SameFile { from: b"/a".to_vec(), to: b"/a".to_vec() }, "'/a' and '/a' are the same file"),
            (Error::Special { path: b"/a".to_vec(), kind: "named pipe" }, "`/a` is a named pipe"),
            (Error::NoSuchUser("u".into()), "no such user: 'u'"),
            (Error::NoSuchGroup("g".into()), "no such group: 'g'"),
        ];
        for (error, text) in cases {
            assert_eq!(error.to_string(), text);
        }
    }

    #[test]
    fn a_refusal_names_path_owner_reason_and_remedy() {
        let refusal =
            Refusal::Link { link: b"/d/l".into(), path: b"/d/l/f".into(), owner: Owner(0), literal: true };
        let text = refusal.to_string();
        for part in ["'/d/l'", "'/d/l/f'", "root (uid 0)", "point it anywhere", "replace it"] {
            assert!(text.contains(part), "{part} is missing in: {text}");
        }
    }
}
