//! Whether a file has settled: the look at it that a task waits for before it starts.
//!
//! Owns what settled means, and what was seen of a file at the looks before. The engine decides when to look, and what
//! follows. A look waits for the file's filesystem, so that a worker of its lane takes it.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Instant;

use engine::{Seconds, TaskHandle, TaskId};
use rustix::fs::{CWD, FileType, Mode, OFlags, Stat, lstat, openat, stat};
use rustix::io::Errno;
use syscall::lease::{Writers, writers};

use super::{Lanes, Report};
use crate::config::Settled;
use crate::lane::{LaneId, NotPerformed, Once, Size};
use crate::log::Escaped;

/// What a look found of a file, and since when it has been so.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Seen {
    size: i64,
    changed: (i64, i64),
    since: Instant,
}

/// What a look says.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// The task can start.
    Yes,
    /// It waits, for this reason.
    No(String),
    /// Nothing is there any more.
    Vanished,
}

/// The report of a look.
#[derive(Debug)]
pub(crate) struct Answer {
    /// The question.
    pub handle: TaskHandle,
    /// The task.
    pub id: TaskId,
    /// The answer to it.
    pub verdict: Verdict,
    seen: Option<Seen>,
}

/// What was seen of files whose tasks wait, run or are tried again; about 100 bytes each.
#[derive(Debug, Default)]
pub(crate) struct Looks {
    seen: HashMap<TaskId, Seen>,
}

/// Files that are remembered from one look to the next. What is forgotten has to be stable anew.
const SEEN_MAX: usize = 65_536;

impl Looks {
    /// Asks for a look at a file on the filesystem of a device.
    pub(crate) fn ask(
        &self,
        (handle, id): (TaskHandle, TaskId),
        path: &[u8],
        wanted: &Arc<Settled>,
        device: u64,
        lanes: &mut Lanes,
        now: Instant,
    ) {
        let about = format!("look whether '{}' has settled", Escaped(path));
        let (path, wanted, seen) = (path.to_vec(), Arc::clone(wanted), self.seen.get(&id).copied());
        let run = move || {
            let (verdict, seen) = wanted.look(&path, seen, Instant::now());
            Report::Settled(Answer { handle, id, verdict, seen })
        };
        let not_performed = move |_: NotPerformed| {
            let verdict = Verdict::No("its filesystem does not answer".to_owned());
            Report::Settled(Answer { handle, id, verdict, seen })
        };
        lanes.submit(LaneId::Filesystem(device), Size::Small, Once::new(about, run, not_performed), now);
    }

    /// Notes what a look has found, for the next one: also that of a task which starts, as it may be tried again.
    pub(crate) fn answered(&mut self, answer: &Answer) {
        let Some(seen) = answer.seen else { return self.forget(answer.id) };
        if self.seen.len() >= SEEN_MAX {
            self.seen.clear();
        }
        self.seen.insert(answer.id, seen);
    }

    /// A task has come to its end.
    pub(crate) fn forget(&mut self, id: TaskId) {
        self.seen.remove(&id);
    }
}

impl Settled {
    /// Looks at a file. Waits for its filesystem.
    fn look(&self, path: &[u8], before: Option<Seen>, now: Instant) -> (Verdict, Option<Seen>) {
        let found = match lstat(path) {
            Ok(found) => found,
            Err(Errno::NOENT | Errno::NOTDIR) => return (Verdict::Vanished, None),
            Err(error) => return (Verdict::No(format!("it cannot be looked at: {error}")), before),
        };
        if FileType::from_raw_mode(found.st_mode) == FileType::Directory {
            return (Verdict::Yes, None);
        }
        let seen = Seen::of(&found, before, now);
        let verdict = self.objection(path, &found, &seen, now).map_or(Verdict::Yes, Verdict::No);
        (verdict, Some(seen))
    }

    /// Why a file has not settled.
    fn objection(&self, path: &[u8], found: &Stat, seen: &Seen, now: Instant) -> Option<String> {
        let size = u64::try_from(found.st_size).unwrap_or_default();
        if size < self.min_size {
            return Some(format!("it has {size} of at least {} bytes", self.min_size));
        }
        let unchanged = now.saturating_duration_since(seen.since);
        if unchanged < self.stable {
            return Some(format!("it has been unchanged for less than {} s", Seconds(self.stable)));
        }
        if let Some(marker) = self.marker.as_ref().map(|marker| marker.of(path))
            && stat(marker.as_slice()).is_err()
        {
            return Some(format!("'{}' is not there", Escaped(&marker)));
        }
        // Nobody writes to a link, and what a FIFO or a socket is written to is no content of its own.
        if !self.no_writer || FileType::from_raw_mode(found.st_mode) != FileType::RegularFile {
            return None;
        }
        match look_for_writers(path) {
            Writers::None => None,
            Writers::Some => Some("somebody has it open for writing".to_owned()),
            // Who writes changes it, sooner or later.
            Writers::Unknown if unchanged >= self.check => None,
            Writers::Unknown => {
                Some("whether somebody writes to it cannot be asked, only whether it changes".to_owned())
            }
        }
    }
}

impl Seen {
    fn of(found: &Stat, before: Option<Seen>, now: Instant) -> Seen {
        let (size, changed) = (found.st_size, (found.st_mtime, found.st_mtime_nsec as i64));
        let same = before.filter(|before| (before.size, before.changed) == (size, changed));
        Seen { size, changed, since: same.map_or(now, |same| same.since) }
    }
}

fn look_for_writers(path: &[u8]) -> Writers {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC | OFlags::NOCTTY;
    openat(CWD, path, flags, Mode::empty()).map_or(Writers::Unknown, |file| {
        use std::os::fd::AsFd as _;
        writers(file.as_fd())
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Marker;
    use std::fs::File;
    use std::io::Write as _;
    use std::os::unix::ffi::OsStrExt as _;
    use std::time::Duration;

    fn wanted() -> Settled {
        Settled {
            no_writer: false,
            stable: Duration::ZERO,
            min_size: 0,
            marker: None,
            check: Duration::from_secs(1),
        }
    }

    fn reason(verdict: Verdict) -> String {
        match verdict {
            Verdict::No(reason) => reason,
            Verdict::Yes => "settled".to_owned(),
            Verdict::Vanished => "vanished".to_owned(),
        }
    }

    #[test]
    fn a_marker_has_the_names_of_the_file() {
        let marker = Marker(b"{dirname}/.{stem}.ok {name} {pathname} {other}".to_vec());
        assert_eq!(marker.of(b"/in/a.tar.gz"), b"/in/.a.tar.ok a.tar.gz /in/a.tar.gz {other}");
        // A name that looks like a field is only a name.
        assert_eq!(Marker(b"{dirname}/{name}".to_vec()).of(b"/in/{stem}"), b"/in/{stem}");
    }

    #[test]
    fn a_file_settles_when_all_is_as_wanted() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("file.part");
        let bytes = path.as_os_str().as_bytes();
        let look = |wanted: &Settled, before, now| {
            let (verdict, seen) = wanted.look(bytes, before, now);
            (reason(verdict), seen)
        };
        let begin = Instant::now();
        assert_eq!(look(&wanted(), None, begin).0, "vanished");
        let mut file = File::create(&path).unwrap();
        file.write_all(b"content").unwrap();
        assert_eq!(look(&wanted(), None, begin).0, "settled");
        let large = Settled { min_size: 8, ..wanted() };
        assert_eq!(look(&large, None, begin).0, "it has 7 of at least 8 bytes");
        let marked = Settled { marker: Some(Marker(b"{dirname}/{stem}.ok".to_vec())), ..wanted() };
        assert!(look(&marked, None, begin).0.ends_with("/file.ok' is not there"));
        std::fs::write(directory.path().join("file.ok"), "").unwrap();
        assert_eq!(look(&marked, None, begin).0, "settled");
        assert_eq!(reason(wanted().look(directory.path().as_os_str().as_bytes(), None, begin).0), "settled");
    }

    #[test]
    fn a_link_is_judged_by_itself_and_a_pipe_like_a_file() {
        let directory = tempfile::tempdir().unwrap();
        let path = |name: &str| directory.path().join(name);
        std::fs::write(path("target"), "content of some length").unwrap();
        std::os::unix::fs::symlink("target", path("link")).unwrap();
        let mode = Mode::RUSR | Mode::WUSR;
        rustix::fs::mknodat(CWD, path("pipe"), FileType::Fifo, mode, 0).unwrap();
        let begin = Instant::now();
        let stable = Settled { stable: Duration::from_secs(5), ..wanted() };
        let large = Settled { min_size: 7, ..wanted() };
        let marked = Settled { marker: Some(Marker(b"{pathname}.ok".to_vec())), ..wanted() };
        let quiet = Settled { no_writer: true, ..wanted() };
        for (name, size) in [("link", "target".len()), ("pipe", 0)] {
            let path = path(name);
            let look = |wanted: &Settled, before, now| wanted.look(path.as_os_str().as_bytes(), before, now);
            assert_eq!(reason(look(&large, None, begin).0), format!("it has {size} of at least 7 bytes"));
            let (verdict, seen) = look(&stable, None, begin);
            assert_eq!(reason(verdict), "it has been unchanged for less than 5 s");
            assert_eq!(look(&stable, seen, begin + stable.stable).0, Verdict::Yes, "{name}");
            assert!(reason(look(&marked, None, begin).0).ends_with(".ok' is not there"), "{name}");
            std::fs::write(directory.path().join(format!("{name}.ok")), "").unwrap();
            assert_eq!(look(&marked, None, begin).0, Verdict::Yes, "{name}");
            let writer = File::options().write(true).open(directory.path().join("target")).unwrap();
            assert_eq!(look(&quiet, None, begin).0, Verdict::Yes, "{name}");
            drop(writer);
        }
    }

    #[test]
    fn what_changes_is_not_stable() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("file");
        let bytes = path.as_os_str().as_bytes();
        let stable = Settled { stable: Duration::from_secs(5), ..wanted() };
        std::fs::write(&path, "one").unwrap();
        let begin = Instant::now();
        let after = |seconds| begin + Duration::from_secs(seconds);
        let (verdict, seen) = stable.look(bytes, None, begin);
        assert_eq!(reason(verdict), "it has been unchanged for less than 5 s");
        let (verdict, seen) = stable.look(bytes, seen, after(4));
        assert!(matches!(verdict, Verdict::No(_)));
        assert_eq!(stable.look(bytes, seen, after(5)).0, Verdict::Yes);
        std::fs::write(&path, "longer").unwrap();
        let (verdict, seen) = stable.look(bytes, seen, after(6));
        assert!(matches!(verdict, Verdict::No(_)));
        assert!(matches!(stable.look(bytes, seen, after(10)).0, Verdict::No(_)));
        assert_eq!(stable.look(bytes, seen, after(11)).0, Verdict::Yes);
    }

    #[test]
    fn what_was_seen_before_an_attempt_counts_for_the_next_one() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("file");
        let bytes = path.as_os_str().as_bytes();
        std::fs::write(&path, "content").unwrap();
        let stable = Settled { stable: Duration::from_secs(600), ..wanted() };
        let (begin, id) = (Instant::now(), TaskId(7));
        let mut looks = Looks::default();
        let look = |looks: &mut Looks, now| {
            let (verdict, seen) = stable.look(bytes, looks.seen.get(&id).copied(), now);
            let answer = Answer { handle: TaskHandle(1), id, verdict, seen };
            looks.answered(&answer);
            answer.verdict
        };
        assert!(matches!(look(&mut looks, begin), Verdict::No(_)));
        assert_eq!(look(&mut looks, begin + stable.stable), Verdict::Yes);
        assert_eq!(look(&mut looks, begin + stable.stable + Duration::from_secs(1)), Verdict::Yes);
        looks.forget(id);
        assert!(matches!(look(&mut looks, begin + stable.stable), Verdict::No(_)));
    }

    #[test]
    fn a_file_that_is_written_has_not_settled() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("file");
        let bytes = path.as_os_str().as_bytes();
        let quiet = Settled { no_writer: true, ..wanted() };
        let writer = File::create(&path).unwrap();
        let begin = Instant::now();
        let (verdict, seen) = quiet.look(bytes, None, begin);
        let said = reason(verdict);
        let refused = said.starts_with("whether somebody writes");
        assert!(refused || said == "somebody has it open for writing", "{said}");
        drop(writer);
        // Where leases are refused, it is enough that it does not change.
        assert_eq!(quiet.look(bytes, seen, begin + quiet.check).0, Verdict::Yes);
    }
}
