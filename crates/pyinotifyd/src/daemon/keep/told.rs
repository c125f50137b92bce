//! What was told in the last moments before a stop, so that the next daemon does not tell it again.
//!
//! Times of files tell when something was changed, not whether somebody has it open. So a look at the changes of a
//! downtime begins some time before the checkpoint, and tells what was told by the daemon that ended. An entry may be
//! left out of it if nothing but a change of its ctime can make it news. This holds if it was looked at before the
//! checkpoint and
//!
//! - nobody had it open for writing then: whoever had before has closed it, and the kernel queues the event of that
//!   before it lets the file have no writer. Who opens it later and changes it changes its ctime.
//! - its ctime was older by more than the steps in which ctimes advance: a later change cannot have the same one.
//! - it had no other name: the same inode at the same path is the same entry.
//!
//! All events that were queued before the checkpoint were told, and their tasks have ended or are kept. So if the entry
//! has the same inode and the same ctime at the next start, there is nothing to tell of it.

use std::collections::VecDeque;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use event::Event;
use hashbrown::{HashMap, HashSet};
use ledger::{Batch, Told};
use rustix::fd::AsFd as _;
use rustix::fs::{CWD, FileType, Mode, OFlags, Stat, fstat, lstat, openat};
use syscall::lease::{Writers, writers};
use watcher::{Turn, WatchId};

use crate::daemon::Daemon;
use crate::daemon::vanished::should_exist;
use crate::lane::Filesystems;

/// Paths that are looked at when the daemon ends, the latest ones: 10 ms of the loop's time.
const RECENT_MAX: usize = 1_024;

/// How long a path may matter: the look at the next start begins so long before the checkpoint where times have whole
/// seconds, and batches come some time after the events.
const RECENT_AGE: Duration = Duration::from_secs(5);

/// Steps in which ctimes advance at most, where they have nanoseconds: a tick of the kernel's clock, and as much again.
const TICK: Duration = Duration::from_millis(20);

/// The same where they have whole seconds.
const COARSE: Duration = Duration::from_secs(2);

/// How often the kernel's queue is read before the end, if it is not empty before.
const LAST_READS: usize = 8;

/// The paths of tasks that were written lately.
#[derive(Debug, Default)]
pub(super) struct Recent(VecDeque<(Instant, Vec<u8>)>);

impl Recent {
    /// Notes what a batch is about.
    pub(super) fn note(&mut self, batch: &Batch, now: Instant) {
        while self.0.front().is_some_and(|(at, _)| now.duration_since(*at) > RECENT_AGE) {
            self.0.pop_front();
        }
        let of_tasks = batch.tasks.iter().map(|task| &task.subject);
        let subjects = of_tasks.chain(batch.ended.iter().map(|ended| &ended.subject));
        let extra = (batch.tasks.len() + batch.ended.len()).saturating_sub(RECENT_MAX);
        self.0.extend(subjects.skip(extra).map(|subject| (now, subject.path.clone())));
        self.0.drain(..self.0.len().saturating_sub(RECENT_MAX));
    }

    fn paths(self) -> HashSet<Vec<u8>> {
        self.0.into_iter().map(|(_, path)| path).collect()
    }
}

/// What an earlier daemon told, and which watches need not tell it again.
#[derive(Debug, Default)]
pub(in crate::daemon) struct ToldBefore {
    entries: HashMap<Vec<u8>, (u64, i64)>,
    watches: Vec<WatchId>,
}

impl ToldBefore {
    pub(super) fn new(told: Vec<Told>) -> ToldBefore {
        let entries = told.into_iter().map(|told| (told.path, (told.inode, told.ctime_ns))).collect();
        ToldBefore { entries, watches: Vec::new() }
    }

    /// A watch tells what has changed since the checkpoint.
    pub(in crate::daemon) fn applies_to(&mut self, watch: WatchId) {
        self.watches.push(watch);
    }

    /// From here on everything is told.
    pub(in crate::daemon) fn forget(&mut self) {
        *self = ToldBefore::default();
    }

    /// Whether an event is no news.
    pub(in crate::daemon) fn has(
        &self,
        watch: WatchId,
        event: &Event<'_>,
        filesystems: &mut Filesystems,
        now: Instant,
    ) -> bool {
        if self.entries.is_empty() || !event.synthetic {
            return false;
        }
        let Some(before) = self.entries.get(event.pathname) else { return false };
        self.watches.contains(&watch)
            && should_exist(event)
            && filesystems.of_parent(event.pathname, now).is_local
            && lstat(event.pathname).is_ok_and(|stat| identity(&stat) == *before)
    }
}

impl Daemon {
    /// Looks at what was told lately, and reads what the kernel has for us. What need not be told again, if the
    /// checkpoint is that of now.
    pub(in crate::daemon) fn look_back(&mut self, now: Instant) -> Vec<Told> {
        let performer = &mut self.core.performer;
        let Some(keeper) = &mut performer.keeper else { return Vec::new() };
        let Some(recent) = keeper.recent.take() else { return Vec::new() };
        let mut paths = recent.paths();
        paths.extend(
            keeper
                .ended
                .iter()
                .chain(&keeper.failed)
                .rev()
                .take(RECENT_MAX)
                .map(|one| &one.subject.path)
                .cloned(),
        );
        let mut before = std::mem::take(&mut keeper.told_before);
        if paths.is_empty() && before.is_empty() || self.forgets_tasks() {
            return Vec::new();
        }
        let looked_at = SystemTime::now();
        let filesystems = &mut self.core.performer.lanes.filesystems;
        paths.retain(|path| filesystems.of_parent(path, now).is_local);
        // The look of the next start may go back to before this one.
        before.retain(|told| {
            !paths.contains(&told.path)
                && is_recent(told, looked_at)
                && filesystems.of_parent(&told.path, now).is_local
                && lstat(&told.path).is_ok_and(|stat| identity(&stat) == (told.inode, told.ctime_ns))
        });
        let told: Vec<Told> = paths.into_iter().filter_map(told).chain(before).collect();
        for _ in 0..LAST_READS {
            let turn = self.watcher.turn(Instant::now(), &mut self.core);
            if self.watcher.complete_until().is_some_and(|until| until > looked_at) {
                return told;
            }
            match turn {
                Turn::Pause(until) => std::thread::sleep(until.saturating_duration_since(Instant::now())),
                Turn::More | Turn::Idle => {}
            }
        }
        Vec::new()
    }

    /// Whether tasks end with the daemon that nobody keeps: their files are to be told again.
    fn forgets_tasks(&self) -> bool {
        let performer = &self.core.performer;
        let has_tasks = |stats: &engine::SchedulerStats| {
            stats.waiting + stats.retrying + stats.queued + stats.running > 0
        };
        let mut with_tasks = self.core.engine.scheduler_stats().filter(has_tasks);
        with_tasks.any(|stats| !performer.action(stats.scheduler).persist)
    }
}

/// An entry, if nothing but a change of its ctime can make it news.
fn told(path: Vec<u8>) -> Option<Told> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).ok()?;
    let stat = lstat(&path).ok()?;
    let stat = match FileType::from_raw_mode(stat.st_mode) {
        FileType::RegularFile => without_writer(&path)?,
        FileType::Directory => stat,
        // A link to it may have another name, by which it comes again.
        _ if stat.st_nlink > 1 => return None,
        // Nobody writes a link, and what is written into a pipe or a device is not in the file.
        _ => stat,
    };
    let (inode, ctime_ns) = identity(&stat);
    let age = now.checked_sub(Duration::from_nanos(ctime_ns.try_into().ok()?))?;
    (age > step(ctime_ns)).then_some(Told { path, inode, ctime_ns })
}

/// Whether an entry changed so lately that a look at the changes since now would find it.
fn is_recent(told: &Told, now: SystemTime) -> bool {
    let changed = u64::try_from(told.ctime_ns).map(|ctime_ns| UNIX_EPOCH + Duration::from_nanos(ctime_ns));
    changed.is_ok_and(|changed| changed + RECENT_AGE > now)
}

fn without_writer(path: &[u8]) -> Option<Stat> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let file = openat(CWD, path, flags, Mode::empty()).ok()?;
    // The times come first: what a writer changes who is gone when he is looked for has another one then.
    let stat = fstat(&file).ok()?;
    let is_alone = FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile && stat.st_nlink == 1;
    (is_alone && writers(file.as_fd()) == Writers::None).then_some(stat)
}

fn identity(stat: &Stat) -> (u64, i64) {
    let ctime_ns = stat.st_ctime.saturating_mul(1_000_000_000).saturating_add(stat.st_ctime_nsec as i64);
    (stat.st_ino, ctime_ns)
}

/// The longest step in which ctimes like this one may advance, as far as its digits tell.
fn step(ctime_ns: i64) -> Duration {
    if ctime_ns % 1_000_000_000 == 0 {
        return COARSE + TICK;
    }
    let steps = std::iter::successors(Some(100_000_000), |step: &i64| Some(step / 10));
    let step = steps.take_while(|step| *step > 0).find(|step| ctime_ns % step == 0).unwrap_or(1);
    Duration::from_nanos(step as u64) + TICK
}

#[cfg(test)]
mod tests {
    use std::fs::{self, File};
    use std::os::unix::ffi::OsStrExt as _;
    use std::thread::sleep;

    use super::*;

    #[test]
    fn the_digits_of_a_time_tell_its_steps_at_most() {
        for (ctime_ns, step_ns) in [
            (5_000_000_000, 2_000_000_000),
            (5_300_000_000, 100_000_000),
            (5_370_000_000, 10_000_000),
            (5_376_543_210, 10),
            (5_376_543_211, 1),
        ] {
            assert_eq!(step(ctime_ns), Duration::from_nanos(step_ns) + TICK, "{ctime_ns}");
        }
    }

    #[test]
    fn only_what_nothing_but_its_ctime_can_make_news_is_remembered() {
        let base = tempfile::tempdir().unwrap();
        let path = |name: &str| base.path().join(name);
        let look = |name: &str| told(path(name).as_os_str().as_bytes().to_vec());
        let writer = File::create(path("written")).unwrap();
        for name in ["linked", "closed"] {
            fs::write(path(name), "").unwrap();
        }
        fs::hard_link(path("linked"), path("other")).unwrap();
        std::os::unix::fs::symlink("closed", path("link")).unwrap();
        fs::write(path("last"), "").unwrap();
        let wait_for = |name: &str| {
            let deadline = Instant::now() + Duration::from_secs(30);
            while look(name).is_none() {
                assert!(Instant::now() < deadline, "{name} never comes");
                sleep(Duration::from_millis(5));
            }
        };
        wait_for("last");
        assert!(look("closed").is_some() && look("link").is_some());
        for name in ["written", "linked", "missing"] {
            assert_eq!(look(name), None, "{name}");
        }
        drop(writer);
        // A child of another test may hold the writer yet, until it executes its program.
        wait_for("written");
    }
}
