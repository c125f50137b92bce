//! Copy, move and delete for file rules: complete or not at all, and never on anybody else's behalf.
//!
//! The daemon acts as root in directories in which others write too. So this crate trusts no path twice: it looks a
//! path up once, at the moment of the action, holds the directory that it found, and does everything by that
//! descriptor.
//!
//! # Theory of operation
//!
//! 1. *Where.* The source is looked up strictly below the root of its watch, the destination strictly below what the
//!    administrator wrote literally (`resolve`). A symbolic link elsewhere, a `..` out of a file's name: refused,
//!    and the [`Refusal`] says which path, owned by whom, why, and what to do.
//! 2. *What.* Objects are judged after they were opened, by fstat(2), never by their names (`copy`). Only regular
//!    files and directories have content. Nothing blocks on a FIFO.
//! 3. *How.* A move is one renameat2(2). What is copied grows under a temporary name that only the daemon's user can
//!    read, gets its attributes on the descriptor (`metadata`), and appears by one rename: a file, or a tree as a
//!    whole (`tree`). A move across filesystems is that, on the disk, and then the removal of what was copied, if it
//!    still is that; where that is forbidden, the copy is taken back.
//!    What else writes to the source, and what is at the destination, is asked of the kernel at that moment (`moving`,
//!    `identity`, `conflict`); what a rule would lose can be kept (`trash`).
//! 4. *If not.* On any error what is unfinished is removed. What a crash leaves carries the name of its process
//!    (`temporary`), and [`sweep`] removes it at the next start.
//!
//! It knows no events and no patterns: the caller gives the expanded destination. It does not log: what there is to
//! say goes to a callback as a [`Record`]. It is synchronous: the caller has threads. It keeps nothing from one
//! action to the next but a buffer for each thread, the ids of a few users, and what the caller lets it keep: the
//! last directories, used again only while their paths lead to them (`held`).
//!
//! # Differences from Python's `os` and `shutil`
//!
//! The original calls these. Results, order of records and texts of errors are theirs
//! (`results_and_texts_are_those_of_python`), but for:
//!
//! - a rule with owner or mode takes access control lists away (`no_list_survives_a_rule_with_owner_or_mode`) and
//!   changes nothing in a directory that was there but what it wrote
//!   (`in_a_directory_that_was_there_only_what_we_wrote_is_changed`);
//! - a copy of a tree goes on without what can't be copied
//!   (`one_hostile_entry_is_left_out_of_a_copy_and_named`);
//! - a link at the destination is a name that is taken, and is replaced, not written through
//!   (`a_dangling_link_is_a_name_that_is_taken`, `links_are_moved_as_links_and_replaced_as_links`); what is
//!   overwritten is replaced by a new file, so its owner does not stay;
//! - links get no mode and no owner (`a_link_moved_with_a_mode_changes_nothing_behind_it`), and a copy follows only
//!   those that give nothing away (`a_copy_follows_only_links_that_give_nothing_away`);
//! - a copy is not set-user-id for a user who did not own the source
//!   (`a_copy_does_not_lend_the_rights_of_the_daemon`);
//! - moves cross filesystems (`a_move_across_filesystems_keeps_everything`), directories are merged
//!   (`an_existing_directory_is_merged_into`), an empty directory and a link to a directory can be deleted
//!   (`deleting_files_links_and_directories`), a deletion stops at mounts
//!   (`what_is_mounted_in_a_tree_is_not_touched`).

mod conflict;
mod content;
mod copy;
mod error;
mod given;
mod held;
mod identity;
mod metadata;
mod moving;
mod names;
mod prune;
mod quote;
mod remove;
mod resolve;
mod sys;
mod temporary;
#[cfg(test)]
mod tests;
mod trash;
mod tree;
mod walk;

use std::fmt;
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicBool, Ordering};

pub use error::{Error, Owner, Refusal, Use};
pub use given::{is_own_temporary, is_own_temporary_name, is_placed_tree, take_placed_tree};
pub use held::Held;
pub use identity::Identity;
pub use prune::make_again;
pub use temporary::{Swept, TEMPORARY_PREFIX, TEMPORARY_SUFFIX, is_temporary_name, sweep};
pub use trash::empty_trash;

use quote::Plain;
use rustix::io::Errno;

/// Size of a file up to which its copy is brief: less than a millisecond of a processor.
pub const BRIEF_SIZE: u64 = 1 << 20;

/// How often an action is tried whose way to the destination goes meanwhile.
const TRIES_MAX: u32 = 8;

/// What a rule does with a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Action {
    /// Give it another name, on another filesystem if need be.
    Move,
    /// Make a second one like it.
    Copy,
    /// Remove it.
    Delete,
}

impl fmt::Display for Action {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(match self {
            Action::Move => "move",
            Action::Copy => "copy",
            Action::Delete => "delete",
        })
    }
}

/// When an action waits until its result is on the disk.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Durability {
    /// For moves across filesystems, where the source is removed afterwards.
    #[default]
    Auto,
    /// For every copy and move.
    Always,
    /// Not at all: after a power cut a moved file may be gone.
    Never,
}

/// What happens where the destination's name is taken.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Conflict {
    /// The action fails.
    #[default]
    Fail,
    /// What is there is replaced; directories are merged by a copy.
    Overwrite,
    /// Nothing is done.
    Skip,
    /// The result gets the first free name of `stem.1.ext`, `stem.2.ext` and so on.
    Rename,
    /// A file is replaced by one that was written later, else nothing is done; directories fail.
    Newer,
    /// Where a file of the same content is there, a copy does nothing and a move only removes the source; else it
    /// fails.
    Same,
}

/// What the administrator wrote in one `FileManagerRule`, without its patterns.
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is one argument of the rule, and they are independent"
)]
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Rule {
    /// What to do.
    pub action: Action,
    /// Make missing parents of the destination.
    pub auto_create: bool,
    /// What to do where the destination's name is taken.
    pub on_conflict: Conflict,
    /// Mode of directories that are made, moved or copied; `None` leaves it.
    pub dirmode: Option<u32>,
    /// Mode of files that are moved or copied; `None` leaves it.
    pub filemode: Option<u32>,
    /// Owner of what is made, moved or copied; `None` leaves it.
    pub user: Option<String>,
    /// Group of what is made, moved or copied; `None` leaves it.
    pub group: Option<String>,
    /// Delete directories that are not empty.
    pub rec: bool,
    /// When to wait for the disk.
    pub durability: Durability,
    /// A directory above the destination that has to be a mount point: absolute.
    pub mounted: Option<Vec<u8>>,
    /// Read each copied file back, past the cache where the kernel allows it, and compare it before it gets its name.
    pub verify: bool,
    /// Directory to which is moved what would be overwritten or deleted: absolute.
    pub trash: Option<Vec<u8>>,
    /// After a move or a deletion, remove the parents of the source that are empty now, up to the root of a watch.
    pub prune: bool,
}

impl Rule {
    /// The action, and nothing else that a rule may ask for.
    pub fn new(action: Action) -> Rule {
        Rule {
            action,
            auto_create: false,
            on_conflict: Conflict::Fail,
            dirmode: None,
            filemode: None,
            user: None,
            group: None,
            rec: false,
            durability: Durability::Auto,
            mounted: None,
            verify: false,
            trash: None,
            prune: false,
        }
    }
}

/// One action on one path.
#[derive(Clone, Copy, Debug)]
pub struct Request<'a> {
    /// What to do.
    pub rule: &'a Rule,
    /// Root of the watch that saw the path: absolute. The source is resolved beneath it.
    pub root: &'a [u8],
    /// Absolute path of the file or directory to act on.
    pub source: &'a [u8],
    /// What the substitution gave; relative to the working directory unless it begins with `/`. Not used by
    /// [`Action::Delete`].
    pub destination: &'a [u8],
    /// How many leading bytes of `destination` are the administrator's literal text. Symbolic links of root and of
    /// the daemon's user are followed in there, and nowhere else.
    pub trusted_len: usize,
    /// Set from another thread to end the action: at its next chunk, entry or step, with nothing half-made left. What
    /// is placed already is finished.
    pub stop: &'a AtomicBool,
    /// Roots of watches, absolute: never removed by [`Rule::prune`]; [`Request::root`] needs not be among them.
    pub roots: &'a [&'a [u8]],
    /// [`Done::placed`] is wanted, for one system call more in a plain rename.
    pub wants_placed: bool,
    /// Do nothing if the source is still what this identity says.
    pub unless_same_as: Option<&'a Identity>,
    /// Of a move or a deletion: do nothing if there is no source, which an earlier one has taken away.
    pub unless_gone: bool,
    /// What the source may be: something else may have taken the place of what the caller knows of.
    pub kinds: Kinds,
    /// Do only what is little: a rename, the deletion of one file, a copy of at most [`BRIEF_SIZE`], be it to the
    /// disk or to another filesystem. What is more is [`Error::Lengthy`], and can be asked for again without this.
    pub brief: bool,
}

/// Kinds of sources. A symbolic link is of each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Kinds {
    /// All that is no directory.
    pub files: bool,
    /// Directories.
    pub directories: bool,
}

impl Kinds {
    /// Whatever there is.
    pub const ALL: Kinds = Kinds { files: true, directories: true };

    fn has(self, kind: sys::Kind) -> bool {
        match kind {
            sys::Kind::Directory => self.directories,
            sys::Kind::Link => true,
            sys::Kind::File
            | sys::Kind::Fifo
            | sys::Kind::Socket
            | sys::Kind::Device
            | sys::Kind::Unknown => self.files,
        }
    }
}

impl<'a> Request<'a> {
    /// From one path to another that the administrator has named whole, outside of what is watched.
    pub fn plain(
        rule: &'a Rule,
        source: &'a [u8],
        destination: &'a [u8],
        stop: &'a AtomicBool,
    ) -> Request<'a> {
        Request {
            rule,
            root: b"/",
            source,
            destination,
            trusted_len: destination.len(),
            stop,
            roots: &[],
            wants_placed: false,
            unless_same_as: None,
            unless_gone: false,
            kinds: Kinds::ALL,
            brief: false,
        }
    }
}

/// What an action did, once it was done; the program logs it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Record<'a> {
    /// Missing parents of the destination are made (INFO).
    CreateDirectory(&'a [u8]),
    /// The source gets its new name (INFO).
    Move {
        /// The source.
        from: &'a [u8],
        /// The destination.
        to: &'a [u8],
    },
    /// The source gets a second one like it (INFO).
    Copy {
        /// The source.
        from: &'a [u8],
        /// The destination.
        to: &'a [u8],
    },
    /// The source goes away (INFO).
    Delete(&'a [u8]),
    /// What would have been lost is in the trash now (INFO).
    Trash {
        /// Where it was.
        from: &'a [u8],
        /// Where it is.
        to: &'a [u8],
    },
    /// An empty directory that the source was in goes away (INFO).
    Prune(&'a [u8]),
    /// No text for a log: something of ours gets a name, or has just got it. Told of all that neither
    /// [`Record::Move`] nor [`Record::Copy`] tells, or only if the action succeeds. A name other than the destination's
    /// is told before it is given.
    Making {
        /// The name's path.
        path: &'a [u8],
        /// All that is below it is ours, too.
        is_tree: bool,
    },
    /// Nothing is done, because of what has the destination's name (INFO).
    Skip {
        /// The source.
        from: &'a [u8],
        /// The destination.
        to: &'a [u8],
        /// What about it.
        why: Skipped,
    },
    /// A mode was set (DEBUG).
    Chmod(u32),
    /// An owner or a group was set (DEBUG).
    Chown {
        /// The rule's user.
        user: Option<&'a str>,
        /// The rule's group.
        group: Option<&'a str>,
    },
    /// Something was left out or done differently (WARNING).
    Warning(&'a str),
}

impl fmt::Display for Record<'_> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Record::CreateDirectory(path) => write!(out, "create directory '{}'", Plain(path)),
            Record::Move { from, to } => write!(out, "move '{}' to '{}'", Plain(from), Plain(to)),
            Record::Copy { from, to } => write!(out, "copy '{}' to '{}'", Plain(from), Plain(to)),
            Record::Delete(path) => write!(out, "delete '{}'", Plain(path)),
            Record::Trash { from, to } => {
                write!(out, "put '{}' into the trash, as '{}'", Plain(from), Plain(to))
            }
            Record::Prune(path) => write!(out, "remove empty directory '{}'", Plain(path)),
            Record::Making { path, .. } => write!(out, "make '{}'", Plain(path)),
            Record::Skip { from, to, why } => {
                write!(out, "skip '{}', '{}' {}", Plain(from), Plain(to), why.text())
            }
            Record::Chmod(mode) => write!(out, "chmod 0o{mode:o}"),
            Record::Chown { user, group: None } => write!(out, "chown {}", user.unwrap_or_default()),
            Record::Chown { user, group: Some(group) } => {
                write!(out, "chown {}:{group}", user.unwrap_or_default())
            }
            Record::Warning(text) => out.write_str(text),
        }
    }
}

/// Why [`Rule::on_conflict`] left the destination as it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Skipped {
    /// It exists.
    Exists,
    /// It was written at the same time as the source, or later.
    NotOlder,
    /// It has the content of the source.
    Same,
}

impl Skipped {
    fn text(self) -> &'static str {
        match self {
            Skipped::Exists => "exists",
            Skipped::NotOlder => "is not older",
            Skipped::Same => "has the same content",
        }
    }
}

/// A result in its place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Placed {
    /// Its path; not the destination of the request where that was taken ([`Conflict::Rename`]) or is a directory.
    pub path: Vec<u8>,
    /// Its device.
    pub dev: u64,
    /// Its inode: of a tree, that of its top.
    pub ino: u64,
}

/// Something that was moved to the trash of a rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trashed {
    /// Where it was.
    pub from: Vec<u8>,
    /// Where it is.
    pub to: Vec<u8>,
}

/// A directory that was removed because it was empty.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pruned {
    /// Where it was.
    pub path: Vec<u8>,
    /// Its permission bits, with set-user-id, set-group-id and sticky.
    pub mode: u32,
    /// Its owner.
    pub uid: u32,
    /// Its group.
    pub gid: u32,
}

/// An action that came to its end.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Done {
    /// What was acted on; not known of a file that was only renamed, since its new state can never be that of its old
    /// name.
    pub identity: Option<Identity>,
    /// Bytes of content that were copied; 0 for a rename.
    pub bytes: u64,
    /// Nothing was done: the source is still what `unless_same_as` says, or gone as `unless_gone` says.
    pub unchanged: bool,
    /// Nothing was done at the destination, because of what is there.
    pub skipped: Option<Skipped>,
    /// Where the result is; `None` after a deletion, where nothing was done, and where it was not asked for
    /// ([`Request::wants_placed`]).
    pub placed: Option<Placed>,
    /// What was overwritten or deleted, and is in the trash.
    pub trashed: Vec<Trashed>,
    /// Directories that [`Rule::prune`] has removed, the innermost first.
    pub pruned: Vec<Pruned>,
}

/// Whether the user and the group of a rule exist now; the error is the one that its tasks would fail with.
///
/// # Errors
/// The first of the two that does not exist, or that could not be asked for.
pub fn check_names(user: Option<&str>, group: Option<&str>) -> Result<(), Error> {
    names::look_up(user, group)?.missing().map_or(Ok(()), Err)
}

/// Carries one action out, in the calling thread, and tells `record` what it has done. What is in `held` makes the
/// next action of the same thread cheaper.
///
/// # Errors
/// Every failure is one [`Error`]. The source is as it was then, or the destination is complete; the texts say what
/// is not obvious from that.
pub fn perform(
    request: &Request<'_>,
    held: &mut Held,
    record: &mut dyn FnMut(Record<'_>),
) -> Result<Done, Error> {
    let rule = request.rule;
    if request.stop.load(Ordering::Relaxed) {
        return Err(Error::Stopped { path: request.source.to_vec() });
    }
    let mut trashed = Vec::new();
    let mut listen = |said: Record<'_>| {
        if let Record::Trash { from, to } = said {
            trashed.push(Trashed { from: from.to_vec(), to: to.to_vec() });
        }
        record(said);
    };
    let mut act = || match rule.action {
        Action::Delete => remove::delete(request, held, &mut listen),
        Action::Move | Action::Copy if request.destination.is_empty() => {
            Err(Error::EmptyDestination { action: rule.action, from: request.source.to_vec() })
        }
        Action::Move => moving::perform(request, held, &mut listen),
        Action::Copy => copy::copy(request, held, &mut listen),
    };
    let mut done = act();
    for _ in 1..TRIES_MAX {
        if !done.as_ref().is_err_and(|error| request.has_lost_its_way(error)) {
            break;
        }
        done = act();
    }
    if temporary::is_first_without_no_replace() {
        record(Record::Warning(
            "the filesystem of the destination can't rename only if a name is free: that is checked first, and what \
             takes the name in between is overwritten; said once",
        ));
    }
    done.map(|done| Done { trashed, ..done })
}

impl Request<'_> {
    /// Whether a directory on the way to the destination went while the action was at work, where such are made:
    /// another rule prunes what is empty for a moment.
    fn has_lost_its_way(&self, error: &Error) -> bool {
        let is_missing = |path: &[u8]| sys::status_at(sys::CWD, path).err() == Some(Errno::NOENT);
        let parent = resolve::split(resolve::trim_slashes(self.destination)).0;
        self.rule.auto_create
            && error.errno() == Some(Errno::NOENT.raw_os_error())
            && is_missing(parent)
            && !is_missing(self.source)
    }

    /// Refuses a copy of what is neither a link nor a small file, where only what is brief was asked for.
    fn check_brief_copy(&self, status: &sys::Status) -> Result<(), Error> {
        let is_brief = match status.kind {
            sys::Kind::File => status.size <= BRIEF_SIZE,
            sys::Kind::Directory => false,
            // Done at once, or refused.
            sys::Kind::Link
            | sys::Kind::Fifo
            | sys::Kind::Socket
            | sys::Kind::Device
            | sys::Kind::Unknown => true,
        };
        self.check_brief(!is_brief)
    }

    /// Refuses what takes long, where only what is brief was asked for. Nothing was done or told before, but that
    /// missing parents of the destination may have been made.
    fn check_brief(&self, is_lengthy: bool) -> Result<(), Error> {
        if self.brief && is_lengthy { Err(Error::Lengthy) } else { Ok(()) }
    }

    /// Refuses a source that is of a kind which is not wanted.
    fn check_kind(&self, status: &sys::Status) -> Result<(), Error> {
        if self.kinds.has(status.kind) {
            return Ok(());
        }
        let is_directory = status.kind == sys::Kind::Directory;
        Err(Refusal::Kind { path: self.source.to_vec(), is_directory, owner: Owner(status.uid) }.into())
    }

    /// Whether the source still is what the caller has acted on already; `file` is on the filesystem of the source. A
    /// look that proves nothing is no reason to leave something out.
    fn is_unchanged(&self, status: &sys::Status, file: impl AsFd) -> bool {
        self.unless_same_as.is_some_and(|identity| {
            identity.is_same_state(&status.identity()) && identity::unproven_for(identity, file).is_zero()
        })
    }

    /// Whether a look at the source that failed says no more than the caller knows.
    fn is_known_to_be_gone(&self, error: &Error) -> bool {
        self.unless_gone && matches!(error, Error::Os { errno: rustix::io::Errno::NOENT, .. })
    }

    /// The destination as records name it: as the rule gave it, unless the result has another name.
    fn announced<'p>(&'p self, place: &'p resolve::Place<'_>) -> &'p [u8] {
        if *place.path == *resolve::trim_slashes(self.destination) { self.destination } else { &place.path }
    }

    /// Gives an error of a lookup the form that Python gives it: a rename names both paths, the rest the failing one.
    fn in_form_of_python(&self, error: Error) -> Error {
        match error {
            Error::Os { errno, path, to: None }
                if self.rule.action == Action::Move && self.is_about(&path) =>
            {
                Error::os_pair(errno, self.source, self.destination)
            }
            error => error,
        }
    }

    /// Whether a path is that of the source or the destination, and not of something on the way.
    fn is_about(&self, path: &[u8]) -> bool {
        path == self.source || path == resolve::trim_slashes(self.destination)
    }
}
