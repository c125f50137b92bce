//! The undo of what a file rule did: what is remembered of it, and the way back.
//!
//! An undo moves what the rule made back to the source, and what it overwrote or deleted back from the trash. It loses
//! nothing: where a name is taken, where the result is not there any more or is something else by now, it is refused
//! with the reason, and a copy that stands where the overwritten file was goes into the trash itself. It is refused,
//! too, if somebody has changed such a copy: what was moved takes its changes along, and a copy does not come back.
//!
//! A worker does it, by the same actions as a rule, with the same care for links and owners.

use std::fmt;
use std::sync::atomic::AtomicBool;

use files::{Action, Conflict, Done, Error, Held, Pruned, Record, Request, Rule};
use rustix::fs::{AtFlags, CWD, Stat, StatxFlags, statat, statx};
use serde::{Deserialize, Serialize};

use crate::log::Escaped;

/// What a file rule did, as it stands in the history.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Deed {
    action: DeedAction,
    /// The path that was acted on, of which so much is the root of the watch.
    source: Bytes,
    root_len: usize,
    /// Where the result is; nothing after a deletion.
    placed: Option<PlacedAt>,
    /// What was overwritten or deleted: where it was, where it is.
    trashed: Vec<(Bytes, Bytes)>,
    /// The copies that stand where something was overwritten, in the order of `trashed`. Earlier versions kept none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    copies: Vec<Option<CopyAt>>,
    trash: Option<Bytes>,
    /// Directories that were empty then and are gone, the innermost first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pruned: Vec<PrunedAt>,
    /// When it was undone, in seconds since 1970.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    undone_s: Option<f64>,
}

/// Why something is not undone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Refused {
    /// A directory that it needs is gone.
    NoDirectory(Vec<u8>),
    /// Anything else, in one line.
    For(String),
}

impl Refused {
    /// A rule's text has advice for its author; whoever undoes can do something else.
    fn of(error: &Error) -> Refused {
        match error {
            Error::Exists { to, .. } => {
                Refused::For(format!("'{}' exists already; move it away, then undo again", Escaped(to)))
            }
            Error::NoParent { missing, .. } => Refused::NoDirectory(missing.clone()),
            error => Refused::For(error.to_string()),
        }
    }

    /// The same, where the history knows a later task that removed the directory.
    pub(crate) fn after(&self, later: impl fmt::Display) -> String {
        match self {
            Refused::NoDirectory(missing) => format!(
                "directory '{}' does not exist; the undo of the later task {later} brings it back: undo that one first",
                Escaped(missing)
            ),
            Refused::For(why) => why.clone(),
        }
    }
}

impl fmt::Display for Refused {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Refused::NoDirectory(missing) => {
                let missing = Escaped(missing);
                write!(out, "directory '{missing}' does not exist; make or mount it, then undo again")
            }
            Refused::For(why) => out.write_str(why),
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum DeedAction {
    Move,
    Copy,
    Delete,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct PlacedAt {
    path: Bytes,
    /// How much of the path is the administrator's text.
    trusted_len: usize,
    dev: u64,
    ino: u64,
    /// When it was made, in seconds and nanoseconds, where the filesystem knows: inode numbers are used again.
    #[serde(default)]
    born: Option<(i64, u32)>,
}

/// A copy, as its rule left it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct CopyAt {
    dev: u64,
    ino: u64,
    #[serde(default)]
    born: Option<(i64, u32)>,
    /// Its length, and the time of its last change: that of its content, so that a new owner or mode is none.
    len: i64,
    changed: (i64, i64),
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct PrunedAt {
    path: Bytes,
    mode: u32,
    uid: u32,
    gid: u32,
}

/// A path in JSON: a text where it is one, else a list of bytes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
enum Bytes {
    Text(String),
    Raw(Vec<u8>),
}

impl Bytes {
    fn of(bytes: &[u8]) -> Bytes {
        String::from_utf8(bytes.to_vec()).map_or_else(|error| Bytes::Raw(error.into_bytes()), Bytes::Text)
    }

    fn get(&self) -> &[u8] {
        match self {
            Bytes::Text(text) => text.as_bytes(),
            Bytes::Raw(bytes) => bytes,
        }
    }
}

impl Deed {
    /// What there is to undo of an action; `None` if it changed nothing that could be moved back.
    pub(crate) fn of(
        rule: &Rule,
        source: &[u8],
        root_len: usize,
        trusted_len: usize,
        done: &Done,
    ) -> Option<Deed> {
        let action = match rule.action {
            Action::Move => DeedAction::Move,
            Action::Copy => DeedAction::Copy,
            Action::Delete => DeedAction::Delete,
        };
        if done.unchanged || (action != DeedAction::Move && done.trashed.is_empty()) {
            return None;
        }
        let placed = done.placed.as_ref().map(|placed| PlacedAt {
            path: Bytes::of(&placed.path),
            trusted_len: trusted_len.min(placed.path.len()),
            dev: placed.dev,
            ino: placed.ino,
            born: born(&placed.path),
        });
        let copies = match action {
            DeedAction::Copy => done.trashed.iter().map(|one| CopyAt::of(&one.from)).collect(),
            DeedAction::Move | DeedAction::Delete => Vec::new(),
        };
        (placed.is_some() || !done.trashed.is_empty()).then(|| Deed {
            action,
            source: Bytes::of(source),
            root_len,
            placed,
            trashed: done.trashed.iter().map(|one| (Bytes::of(&one.from), Bytes::of(&one.to))).collect(),
            copies,
            trash: rule.trash.as_deref().map(Bytes::of),
            pruned: done.pruned.iter().map(PrunedAt::of).collect(),
            undone_s: None,
        })
    }

    /// As it is kept.
    pub(crate) fn to_json(&self) -> String {
        serde_json::to_string(self).expect("it has no maps")
    }

    /// Reads what was kept.
    pub(crate) fn parse(text: &str) -> Option<Deed> {
        serde_json::from_str(text).ok()
    }

    /// All paths that an undo is about.
    pub(crate) fn paths(&self) -> Vec<Vec<u8>> {
        let placed = self.placed.iter().map(|placed| &placed.path);
        let trashed = self.trashed.iter().map(|(from, _)| from);
        [&self.source].into_iter().chain(placed).chain(trashed).map(|path| path.get().to_vec()).collect()
    }

    /// A path on the filesystem that is worked on, to choose a lane by.
    pub(crate) fn path(&self) -> &[u8] {
        self.source.get()
    }

    /// When it was undone, in seconds since 1970.
    pub(crate) fn undone_s(&self) -> Option<f64> {
        self.undone_s
    }

    /// The same, undone then.
    pub(crate) fn undone_at(self, now_s: f64) -> Deed {
        Deed { undone_s: Some(now_s), ..self }
    }

    /// Whether an undo makes that directory again.
    pub(crate) fn brings_back(&self, directory: &[u8]) -> bool {
        self.undone_s.is_none() && self.pruned.iter().any(|pruned| pruned.path.get() == directory)
    }

    /// Undoes it, and tells `say` what was moved.
    ///
    /// # Errors
    /// Why that is not possible, or not possible without loss. What was moved before stays moved, and was told.
    pub(crate) fn undo(&self, held: &mut Held, say: &mut dyn FnMut(String)) -> Result<(), Refused> {
        // Nothing is moved where something is missing.
        self.placed.as_ref().map_or(Ok(()), PlacedAt::check)?;
        for ((from, _), copy) in self.trashed.iter().zip(&self.copies) {
            copy.as_ref().map_or(Ok(()), |copy| copy.check(from))?;
        }
        for (_, to) in &self.trashed {
            if statat(CWD, to.get(), AtFlags::SYMLINK_NOFOLLOW).is_err() {
                let why = format!("'{}' is not in the trash any more", Escaped(to.get()));
                return Err(Refused::For(why));
            }
        }
        for pruned in self.pruned.iter().rev() {
            let mut tell = |record: Record<'_>| tell(&record, say);
            let made = files::make_again(&pruned.get(), self.root_len, &mut tell);
            made.map_err(|error| Refused::of(&error))?;
        }
        let mut back = |from: &[u8], to: &[u8], root: &[u8], trusted_len: usize, rule: &Rule| {
            let stop = AtomicBool::new(false);
            let request = Request { root, trusted_len, ..Request::plain(rule, from, to, &stop) };
            let mut tell = |record: Record<'_>| tell(&record, say);
            files::perform(&request, held, &mut tell).map(drop).map_err(|error| Refused::of(&error))
        };
        if let Some(placed) = self.placed.as_ref().filter(|_| self.action == DeedAction::Move) {
            let path = placed.path.get();
            back(
                path,
                self.source.get(),
                directory(path, placed.trusted_len),
                self.root_len,
                &Rule::new(Action::Move),
            )?;
        }
        let trash = self.trash.as_ref().map_or(&b"/"[..], Bytes::get);
        for (from, to) in &self.trashed {
            let mut rule = Rule::new(Action::Move);
            if self.action == DeedAction::Copy {
                // The copy is there still.
                (rule.on_conflict, rule.trash) = (Conflict::Overwrite, Some(trash.to_vec()));
            }
            let trusted_len = match (&self.placed, self.action) {
                (Some(placed), _) => placed.trusted_len,
                (None, _) => self.root_len,
            };
            back(to.get(), from.get(), trash, trusted_len.min(from.get().len()), &rule)?;
        }
        Ok(())
    }
}

/// Says what is for people.
fn tell(record: &Record<'_>, say: &mut dyn FnMut(String)) {
    if !matches!(record, Record::Making { .. }) {
        say(record.to_string());
    }
}

impl PrunedAt {
    fn of(pruned: &Pruned) -> PrunedAt {
        let Pruned { path, mode, uid, gid } = pruned;
        PrunedAt { path: Bytes::of(path), mode: *mode, uid: *uid, gid: *gid }
    }

    fn get(&self) -> Pruned {
        let PrunedAt { path, mode, uid, gid } = self;
        Pruned { path: path.get().to_vec(), mode: *mode, uid: *uid, gid: *gid }
    }
}

impl PlacedAt {
    /// Whether the result is still what the rule placed.
    fn check(&self) -> Result<(), Refused> {
        check_identity(self.path.get(), (self.dev, self.ino), self.born).map(drop)
    }
}

impl CopyAt {
    /// What stands there after a copy; nothing if somebody was faster than this look.
    fn of(path: &[u8]) -> Option<CopyAt> {
        let status = statat(CWD, path, AtFlags::SYMLINK_NOFOLLOW).ok()?;
        let (len, changed) = content(&status);
        Some(CopyAt { dev: status.st_dev, ino: status.st_ino, born: born(path), len, changed })
    }

    /// Whether it is what the rule left there.
    fn check(&self, path: &Bytes) -> Result<(), Refused> {
        let status = check_identity(path.get(), (self.dev, self.ino), self.born)?;
        if content(&status) == (self.len, self.changed) {
            return Ok(());
        }
        Err(Refused::For(format!("'{}' was changed meanwhile", Escaped(path.get()))))
    }
}

/// Whether that is still there; its status.
fn check_identity(path: &[u8], inode: (u64, u64), at: Option<(i64, u32)>) -> Result<Stat, Refused> {
    let shown = Escaped(path);
    let status = statat(CWD, path, AtFlags::SYMLINK_NOFOLLOW)
        .map_err(|_| Refused::For(format!("'{shown}' is not there any more")))?;
    let is_born_then = at.is_none() || at == born(path);
    if (status.st_dev, status.st_ino) == inode && is_born_then {
        Ok(status)
    } else {
        Err(Refused::For(format!("'{shown}' is something else by now")))
    }
}

/// Length and time of the last change, which differ where a content does.
fn content(status: &Stat) -> (i64, (i64, i64)) {
    (status.st_size, (status.st_mtime, status.st_mtime_nsec as i64))
}

/// When a file was made.
fn born(path: &[u8]) -> Option<(i64, u32)> {
    let status = statx(CWD, path, AtFlags::SYMLINK_NOFOLLOW, StatxFlags::BTIME).ok()?;
    let is_known = status.stx_mask & StatxFlags::BTIME.bits() != 0;
    is_known.then_some((status.stx_btime.tv_sec, status.stx_btime.tv_nsec))
}

/// The directory that a beginning of a path names, up to its last slash.
fn directory(path: &[u8], len: usize) -> &[u8] {
    let end = path[..len].iter().rposition(|byte| *byte == b'/').unwrap_or(0);
    if end == 0 { b"/" } else { &path[..end] }
}

#[cfg(test)]
mod tests {
    use std::fs::{self, Permissions};
    use std::os::unix::ffi::OsStrExt as _;
    use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
    use std::path::{Path, PathBuf};

    use super::*;

    fn bytes(path: &Path) -> &[u8] {
        path.as_os_str().as_bytes()
    }

    /// A source, a destination and a trash in a directory.
    struct Bench {
        directory: tempfile::TempDir,
    }

    impl Bench {
        fn new() -> Bench {
            let directory = tempfile::tempdir().unwrap();
            for name in ["in", "out"] {
                fs::create_dir(directory.path().join(name)).unwrap();
            }
            Bench { directory }
        }

        fn path(&self, name: &str) -> PathBuf {
            self.directory.path().join(name)
        }

        fn read(&self, name: &str) -> Option<String> {
            fs::read_to_string(self.path(name)).ok()
        }

        /// Lets a rule act on `in/f`, and gives what is kept of it, read back from its text.
        fn act(&self, action: Action, change: impl FnOnce(&mut Rule)) -> Option<Deed> {
            self.act_on(&self.path("in/f"), action, change)
        }

        fn act_on(&self, source: &Path, action: Action, change: impl FnOnce(&mut Rule)) -> Option<Deed> {
            let mut rule = Rule::new(action);
            rule.trash = Some(bytes(&self.path("trash")).to_vec());
            change(&mut rule);
            let (root, out) = (self.path("in"), self.path("out/f"));
            let destination = if action == Action::Delete { &b""[..] } else { bytes(&out) };
            let trusted_len = destination.len().saturating_sub(1);
            let stop = AtomicBool::new(false);
            let request = Request {
                root: bytes(&root),
                trusted_len,
                wants_placed: true,
                ..Request::plain(&rule, bytes(source), destination, &stop)
            };
            let done = files::perform(&request, &mut Held::default(), &mut |_| {}).unwrap();
            let deed = Deed::of(&rule, bytes(source), bytes(&root).len(), trusted_len, &done)?;
            let read = Deed::parse(&deed.to_json()).unwrap();
            assert_eq!(read, deed);
            Some(read)
        }
    }

    fn undo(deed: &Deed) -> Result<Vec<String>, String> {
        let mut said = Vec::new();
        let undone = deed.undo(&mut Held::default(), &mut |text| said.push(text));
        undone.map(|()| said).map_err(|refused| refused.to_string())
    }

    #[test]
    fn a_move_goes_back_with_what_it_overwrote() {
        let bench = Bench::new();
        fs::write(bench.path("in/f"), "new").unwrap();
        fs::write(bench.path("out/f"), "old").unwrap();
        let deed = bench.act(Action::Move, |rule| rule.on_conflict = Conflict::Overwrite).unwrap();
        assert_eq!((bench.read("in/f"), bench.read("out/f").unwrap()), (None, "new".to_owned()));
        assert_eq!(undo(&deed).unwrap().len(), 2);
        assert_eq!((bench.read("in/f").unwrap(), bench.read("out/f").unwrap()), ("new".into(), "old".into()));
        assert_eq!(
            undo(&deed).unwrap_err(),
            format!("'{}' is something else by now", bench.path("out/f").display())
        );
    }

    #[test]
    fn directories_that_were_pruned_come_back_as_they_were() {
        let bench = Bench::new();
        fs::create_dir_all(bench.path("in/a/b")).unwrap();
        fs::set_permissions(bench.path("in/a"), Permissions::from_mode(0o2750)).unwrap();
        fs::set_permissions(bench.path("in/a/b"), Permissions::from_mode(0o711)).unwrap();
        let owner = if rustix::process::geteuid().is_root() {
            std::os::unix::fs::chown(bench.path("in/a/b"), Some(4711), Some(4712)).unwrap();
            (4711, 4712)
        } else {
            let status = bench.path("in/a/b").metadata().unwrap();
            (status.uid(), status.gid())
        };
        fs::write(bench.path("in/a/b/f"), "content").unwrap();
        let source = bench.path("in/a/b/f");
        for action in [Action::Move, Action::Delete] {
            let deed = bench.act_on(&source, action, |rule| rule.prune = true).unwrap();
            assert!(!bench.path("in/a").exists() && bench.path("in").exists(), "{action}");
            let said = undo(&deed).unwrap();
            assert_eq!(
                said.iter().filter(|line| line.starts_with("create directory")).count(),
                2,
                "{said:?}"
            );
            assert_eq!(fs::read_to_string(&source).unwrap(), "content");
            let of = |name: &str| bench.path(name).metadata().unwrap();
            assert_eq!([of("in/a").mode() & 0o7777, of("in/a/b").mode() & 0o7777], [0o2750, 0o711]);
            assert_eq!((of("in/a/b").uid(), of("in/a/b").gid()), owner);
        }
        // One that somebody has made meanwhile stays as it is.
        let deed = bench.act_on(&source, Action::Move, |rule| rule.prune = true).unwrap();
        fs::create_dir(bench.path("in/a")).unwrap();
        fs::set_permissions(bench.path("in/a"), Permissions::from_mode(0o700)).unwrap();
        undo(&deed).unwrap();
        assert_eq!(bench.path("in/a").metadata().unwrap().mode() & 0o7777, 0o700);
        assert!(source.exists());
    }

    #[test]
    fn a_directory_comes_back_by_the_task_that_pruned_it() {
        let bench = Bench::new();
        for name in ["one", "other"] {
            fs::create_dir_all(bench.path("in/a").join(name)).unwrap();
            fs::write(bench.path("in/a").join(name).join("f"), name).unwrap();
        }
        fs::set_permissions(bench.path("in/a"), Permissions::from_mode(0o2751)).unwrap();
        let act = |name: &str| {
            let act = bench
                .act_on(&bench.path("in/a").join(name).join("f"), Action::Delete, |rule| rule.prune = true);
            act.unwrap()
        };
        let (first, last) = (act("one"), act("other"));
        assert!(!bench.path("in/a").exists());
        assert!(undo(&first).unwrap_err().contains("in/a' does not exist"));
        assert!(!bench.path("in/a").exists(), "nobody says what it was like");
        let gone = bench.path("in/a");
        assert!(last.brings_back(bytes(&gone)) && !first.brings_back(bytes(&gone)));
        assert!(!last.clone().undone_at(1.5).brings_back(bytes(&gone)));
        for deed in [last, first] {
            undo(&deed).unwrap();
            assert_eq!(bench.path("in/a").metadata().unwrap().mode() & 0o7777, 0o2751);
        }
        assert_eq!(fs::read_to_string(bench.path("in/a/one/f")).unwrap(), "one");
    }

    #[test]
    fn what_was_deleted_comes_back_from_the_trash() {
        let bench = Bench::new();
        fs::write(bench.path("in/f"), "content").unwrap();
        let deed = bench.act(Action::Delete, |_| {}).unwrap();
        assert_eq!(bench.read("in/f"), None);
        undo(&deed).unwrap();
        assert_eq!(bench.read("in/f").unwrap(), "content");
    }

    #[test]
    fn what_a_copy_overwrote_comes_back_and_the_copy_is_kept() {
        let bench = Bench::new();
        fs::write(bench.path("in/f"), "new").unwrap();
        fs::write(bench.path("out/f"), "old").unwrap();
        let deed = bench.act(Action::Copy, |rule| rule.on_conflict = Conflict::Overwrite).unwrap();
        fs::remove_file(bench.path("in/f")).unwrap();
        let said = undo(&deed).unwrap();
        assert_eq!(bench.read("out/f").unwrap(), "old");
        let trash = bench.path("trash");
        let kept = said
            .iter()
            .find_map(|line| line.rsplit_once("as '").map(|(_, path)| path.trim_end_matches('\'')));
        assert_eq!(fs::read_to_string(kept.unwrap()).unwrap(), "new", "in {}", trash.display());
        // A copy that replaced nothing can be deleted by whoever does not want it.
        fs::write(bench.path("in/f"), "new").unwrap();
        fs::remove_file(bench.path("out/f")).unwrap();
        assert_eq!(bench.act(Action::Copy, |_| {}), None);
    }

    #[test]
    fn a_copy_that_somebody_replaced_or_changed_stays_as_it_is() {
        let (precious, gone, other, changed) =
            (Some("precious"), "is not there any more", "is something else by now", "was changed meanwhile");
        let by_rename: fn(&Path) = |path| {
            let beside = path.with_extension("new");
            fs::write(&beside, "precious").unwrap();
            fs::rename(beside, path).unwrap();
        };
        let in_place: fn(&Path) = |path| fs::write(path, "precious").unwrap();
        let remove: fn(&Path) = |path| fs::remove_file(path).unwrap();
        let cases = [(by_rename, precious, other), (in_place, precious, changed), (remove, None, gone)];
        for is_tree in [false, true] {
            for (change, left, why) in cases {
                let bench = Bench::new();
                let name = if is_tree { "f/g/h" } else { "f" };
                let (source, result) = (bench.path("in").join(name), bench.path("out").join(name));
                for (path, content) in [(&source, "new"), (&result, "old")] {
                    fs::create_dir_all(path.parent().unwrap()).unwrap();
                    fs::write(path, content).unwrap();
                }
                let copied = bench.act(Action::Copy, |rule| {
                    (rule.on_conflict, rule.rec) = (Conflict::Overwrite, true);
                });
                let deed = copied.unwrap();
                change(&result);
                assert_eq!(undo(&deed).unwrap_err(), format!("'{}' {why}", result.display()));
                assert_eq!(fs::read_to_string(&result).ok().as_deref(), left);
            }
        }
    }

    #[test]
    fn a_copy_with_another_mode_and_another_name_is_the_one_that_was_made() {
        let bench = Bench::new();
        fs::write(bench.path("in/f"), "new").unwrap();
        fs::write(bench.path("out/f"), "old").unwrap();
        let deed = bench.act(Action::Copy, |rule| rule.on_conflict = Conflict::Overwrite).unwrap();
        fs::set_permissions(bench.path("out/f"), Permissions::from_mode(0o600)).unwrap();
        fs::hard_link(bench.path("out/f"), bench.path("out/g")).unwrap();
        undo(&deed).unwrap();
        assert_eq!(bench.read("out/f").unwrap(), "old");
    }

    #[test]
    fn what_two_copies_overwrote_comes_back_in_reverse_order() {
        let bench = Bench::new();
        fs::write(bench.path("out/f"), "old").unwrap();
        let [first, second] = ["one", "two"].map(|content| {
            fs::write(bench.path("in/f"), content).unwrap();
            bench.act(Action::Copy, |rule| rule.on_conflict = Conflict::Overwrite).unwrap()
        });
        assert!(undo(&first).unwrap_err().ends_with("is something else by now"));
        for (deed, content) in [(second, "one"), (first, "old")] {
            undo(&deed).unwrap();
            assert_eq!(bench.read("out/f").unwrap(), content);
        }
    }

    #[test]
    fn a_copy_of_an_earlier_version_is_checked_as_far_as_that_knew_it() {
        let bench = Bench::new();
        for replaced in [false, true] {
            fs::write(bench.path("in/f"), "new").unwrap();
            fs::write(bench.path("out/f"), "old").unwrap();
            let deed = bench.act(Action::Copy, |rule| rule.on_conflict = Conflict::Overwrite).unwrap();
            let mut kept: serde_json::Value = serde_json::from_str(&deed.to_json()).unwrap();
            kept.as_object_mut().unwrap().remove("copies").unwrap();
            let deed = Deed::parse(&kept.to_string()).unwrap();
            if replaced {
                fs::write(bench.path("out/g"), "precious").unwrap();
                fs::rename(bench.path("out/g"), bench.path("out/f")).unwrap();
                assert!(undo(&deed).unwrap_err().ends_with("is something else by now"));
            } else {
                undo(&deed).unwrap();
            }
        }
        assert_eq!(bench.read("out/f").unwrap(), "precious");
    }

    #[test]
    fn a_directory_that_went_away_is_to_be_made_by_whoever_undoes() {
        let bench = Bench::new();
        fs::create_dir(bench.path("in/a")).unwrap();
        fs::write(bench.path("in/a/f"), "content").unwrap();
        let source = bench.path("in/a/f");
        let deed = bench.act_on(&source, Action::Move, |_| {}).unwrap();
        fs::remove_dir(bench.path("in/a")).unwrap();
        let missing = bench.path("in/a");
        let text =
            format!("directory '{}' does not exist; make or mount it, then undo again", missing.display());
        assert_eq!(undo(&deed).unwrap_err(), text);
        fs::create_dir(missing).unwrap();
        undo(&deed).unwrap();
        assert_eq!(fs::read_to_string(source).unwrap(), "content");
    }

    #[test]
    fn nothing_is_lost_by_an_undo() {
        let bench = Bench::new();
        fs::write(bench.path("in/f"), "new").unwrap();
        let deed = bench.act(Action::Move, |_| {}).unwrap();
        fs::write(bench.path("in/f"), "another").unwrap();
        let source = bench.path("in/f");
        assert_eq!(
            undo(&deed).unwrap_err(),
            format!("'{}' exists already; move it away, then undo again", source.display())
        );
        assert_eq!(
            (bench.read("in/f").unwrap(), bench.read("out/f").unwrap()),
            ("another".into(), "new".into())
        );
        fs::remove_file(bench.path("out/f")).unwrap();
        assert!(undo(&deed).unwrap_err().ends_with("is not there any more"));
    }

    #[test]
    fn a_file_that_took_the_inode_of_the_result_is_something_else() {
        let bench = Bench::new();
        fs::write(bench.path("in/f"), "new").unwrap();
        let mut deed = bench.act(Action::Move, |_| {}).unwrap();
        let Some((seconds, _)) = deed.placed.as_mut().and_then(|placed| placed.born.as_mut()) else {
            eprintln!("skipped: this filesystem does not know when a file was made");
            return;
        };
        *seconds -= 1;
        assert!(undo(&deed).unwrap_err().ends_with("is something else by now"));
        assert_eq!((bench.read("in/f"), bench.read("out/f").unwrap()), (None, "new".to_owned()));
    }

    #[test]
    fn nothing_is_moved_back_where_what_it_overwrote_is_not_in_the_trash() {
        let bench = Bench::new();
        fs::write(bench.path("in/f"), "new").unwrap();
        fs::write(bench.path("out/f"), "old").unwrap();
        let deed = bench.act(Action::Move, |rule| rule.on_conflict = Conflict::Overwrite).unwrap();
        fs::remove_dir_all(bench.path("trash")).unwrap();
        assert!(undo(&deed).unwrap_err().ends_with("is not in the trash any more"));
        assert_eq!((bench.read("in/f"), bench.read("out/f").unwrap()), (None, "new".to_owned()));
    }

    #[test]
    fn names_that_are_no_text_read_back() {
        let deed = Deed {
            action: DeedAction::Move,
            source: Bytes::of(b"/in/\xff"),
            root_len: 3,
            placed: Some(PlacedAt {
                path: Bytes::of(b"/out/\xff"),
                trusted_len: 5,
                dev: 1,
                ino: 2,
                born: Some((3, 4)),
            }),
            trashed: Vec::new(),
            copies: Vec::new(),
            trash: None,
            pruned: vec![PrunedAt { path: Bytes::of(b"/in/\xff"), mode: 0o755, uid: 5, gid: 6 }],
            undone_s: Some(1.5),
        };
        assert_eq!(Deed::parse(&deed.to_json()), Some(deed));
        assert_eq!(Deed::parse("{}"), None);
    }
}
