//! Recovering from what can't be helped: an overflow of the queue, limits of the kernel, changes of mounts.
//!
//! After an overflow nothing is believed: the kernel drops IN_IGNORED like any other event (K6). Every directory is
//! opened again and compared by wd, every entry that changed since the queue was last known to be complete is told as
//! an arrival, directories that are gone are forgotten, new ones are watched. It goes by the same walks as new
//! directories do, a little at a time, beside the reading of what comes after: one tree may keep the queue full for as
//! long as it likes, and the others must not wait for that. If events are lost again meanwhile, everything is looked at
//! once more afterwards.

use std::time::{Duration, Instant, SystemTime};

use event::{Event, Flag};
use rustix::io::Errno;

use super::Watcher;
use super::place::{Kind, Looked};
use super::roots::Reason;
use super::walk::{Frame, Waiting, Walk};
use crate::cover::EMPTY;
use crate::kernel;
use crate::notice::Notice;
use crate::spec::{Limits, Sink, WatchId};
use crate::tree::{NodeId, STARVED};

/// Times of files lag behind the clock by a tick of the kernel's timer (at most 10 ms), and clocks are set.
pub(super) const SLACK: Duration = Duration::from_millis(100);

/// The kernel reports a change of mounts before it sends IN_UNMOUNT: umount(2) detaches first, waits for an RCU grace
/// period and for what is dirty to be written. A root that is looked at earlier is unwatched before it can tell of it.
pub(super) const MOUNT_DELAY: Duration = Duration::from_millis(50);

/// The state of a recovery.
#[derive(Debug)]
pub(super) struct Recovery {
    /// Events were lost that no look has made up for yet.
    pub(super) overflowed: bool,
    running: bool,
    /// When the last look at everything began: what was lost before is made up for.
    complete_until: Option<SystemTime>,
    /// Since when events may be missing, for the next look.
    since: Option<SystemTime>,
    /// The same, for the look under way.
    walked_since: SystemTime,
    started: Option<Instant>,
    synthetic_before: u64,
}

impl Default for Recovery {
    fn default() -> Recovery {
        Recovery {
            overflowed: false,
            running: false,
            complete_until: None,
            since: None,
            walked_since: SystemTime::UNIX_EPOCH,
            started: None,
            synthetic_before: 0,
        }
    }
}

impl Recovery {
    pub(super) fn runs(&self) -> bool {
        self.running || self.overflowed
    }
}

/// Directories that a limit keeps unwatched.
pub(super) struct Starved {
    pub(super) count: usize,
    pub(super) retry_at: Option<Instant>,
    pause: Duration,
    since: Option<SystemTime>,
    /// The first that the limit hit, until it was said.
    unsaid: Option<(Vec<u8>, Errno)>,
    said: bool,
    /// Some root, or an ancestor of one, could not be watched.
    roots: bool,
    /// Walks whose directory could not be opened.
    walks: Waiting,
}

impl Starved {
    pub(super) fn new(pause: Duration) -> Starved {
        Starved {
            count: 0,
            retry_at: None,
            pause,
            since: None,
            unsaid: None,
            said: false,
            roots: false,
            walks: Waiting::default(),
        }
    }

    /// Plans the next attempt, if none is planned.
    pub(super) fn wake(&mut self, now: Instant, limits: &Limits) {
        if self.retry_at.is_none() {
            self.retry_at = Some(now + self.pause);
            self.pause = (2 * self.pause).min(limits.retry_max);
        }
    }
}

impl Watcher {
    /// The kernel says that events are missing from here on.
    pub(super) fn overflow(&mut self, sink: &mut impl Sink) {
        self.stats.overflows += 1;
        let since = self.now.saturating_duration_since(self.reading.empty_at);
        let events = self.reading.events_since_empty;
        self.say(Notice::Overflow { queue_max: self.reading.queue_max, events, since }, sink);
        // A clock that was set meanwhile must not hide anything: the earlier of both reckonings.
        let reckoned = SystemTime::now().checked_sub(since).unwrap_or(SystemTime::UNIX_EPOCH);
        let complete_until = self.complete_until();
        self.recover_from(complete_until.min(reckoned));
        for (id, watch) in (0..).map(WatchId).zip(&self.watches) {
            let wanted =
                watch.as_ref().is_some_and(|watch| watch.interest.intersects(Flag::QOverflow.mask()));
            if wanted {
                sink.event(id, &Event::overflow());
                self.stats.delivered += 1;
            }
        }
    }

    /// More is in doubt than is remembered one by one: as if the kernel had dropped it.
    pub(super) fn look_at_everything(&mut self) {
        self.recover_from(self.complete_until());
    }

    /// Until when everything that happened is told or about to be.
    fn complete_until(&self) -> SystemTime {
        let empty_wall = self.reading.empty_wall;
        self.recovery.complete_until.map_or(empty_wall, |until| until.max(empty_wall))
    }

    fn recover_from(&mut self, complete_until: SystemTime) {
        let missing_since = complete_until - SLACK;
        let known = self.recovery.since.unwrap_or(missing_since);
        self.recovery.since = Some(known.min(missing_since));
        self.recovery.overflowed = true;
    }

    /// Begins to look at everything if events were lost, unless that is being done: then it is done again afterwards.
    pub(super) fn start_recovery(&mut self, sink: &mut impl Sink) {
        if !self.recovery.overflowed || self.walks.iter().any(Walk::is_of_recovery) {
            return;
        }
        if !self.recovery.running {
            self.recovery.running = true;
            self.recovery.started = Some(self.now);
            self.recovery.synthetic_before = self.stats.synthetic;
        }
        self.recovery.overflowed = false;
        self.recovery.complete_until = Some(SystemTime::now());
        // Last events may have been lost.
        self.retired.clear();
        self.recheck.extend(self.root_ids().into_iter().map(|root| (root, Reason::Moved)));
        self.settle_roots(sink);
        let since = self.recovery.since.take().unwrap_or(SystemTime::UNIX_EPOCH);
        self.recovery.walked_since = since;
        for node in self.uppermost_roots() {
            let mut walk = Walk::new(Frame::new(node, self.tree.wd(node), None), Kind::Recover, None);
            walk.since = since;
            self.walks.push_back(walk);
        }
    }

    /// Directories that are roots and that no walk of another root comes by.
    fn uppermost_roots(&self) -> Vec<NodeId> {
        let bound = self.root_ids().into_iter().filter(|&root| self.root(root).is_dir);
        let mut nodes: Vec<NodeId> = bound.filter_map(|root| self.root(root).node).collect();
        nodes.sort_unstable();
        nodes.dedup();
        nodes.retain(|&node| self.tree.parent(node).is_none_or(|parent| self.tree.cover(parent) == EMPTY));
        nodes
    }

    /// A directory that is renamed while everything is looked at may come from where no walk has been yet to where one
    /// has passed: it is looked at there.
    pub(super) fn recover_renamed(&mut self, parent: NodeId, name: &[u8]) {
        let Some(node) = self.tree.child(parent, name).filter(|_| self.recovery.running) else { return };
        self.start_walk(node, self.tree.wd(node), None, Kind::Recover, None);
        if let Some(walk) = self.walks.back_mut() {
            walk.since = self.recovery.walked_since;
        }
    }

    /// Says so when the last walk of a recovery has ended.
    pub(super) fn finish_recovery(&mut self, sink: &mut impl Sink) {
        let walks = self.walks.iter().chain(self.doubts.walks()).any(Walk::is_of_recovery);
        if !self.recovery.running || walks || self.recovery.overflowed {
            return;
        }
        self.recovery.running = false;
        self.recovery.complete_until = None;
        for id in (0..self.watches.len() as u32).map(WatchId) {
            if self.watch(id).is_some() {
                sink.notice(Notice::Recovered { watch: id });
            }
        }
        let arrivals = self.stats.synthetic - self.recovery.synthetic_before;
        let started = self.recovery.started.unwrap_or(self.now);
        self.say(Notice::RecoveryDone { arrivals, took: self.now.saturating_duration_since(started) }, sink);
    }

    /// A limit keeps a directory unwatched.
    pub(super) fn starve(&mut self, node: NodeId, errno: Errno) {
        if !self.tree.has(node, STARVED) {
            self.tree.set(node, STARVED);
            self.starved.count += 1;
        }
        let path = self.path_of(node).map(<[u8]>::to_vec).unwrap_or_default();
        self.note_limit(errno, &path);
    }

    /// A limit keeps a root or an ancestor of one unwatched.
    pub(super) fn starve_roots(&mut self, errno: Errno, path: &[u8]) {
        self.starved.roots = true;
        self.note_limit(errno, path);
    }

    /// A limit keeps a watched directory from being listed.
    pub(super) fn starve_walk(&mut self, walk: Option<Walk>, errno: Errno) {
        let Some(walk) = walk else { return };
        let path = self.path_of(walk.top().0).map(<[u8]>::to_vec).unwrap_or_default();
        self.starved.walks.insert(walk);
        self.note_limit(errno, &path);
    }

    fn note_limit(&mut self, errno: Errno, path: &[u8]) {
        if !self.starved.said {
            self.starved.said = true;
            self.starved.unsaid = Some((path.to_vec(), errno));
        }
        // What a new watch finds is not told; what comes later is, from the last moment at which nothing was queued.
        let is_new = !self.setting_up.is_empty();
        let from = if is_new { SystemTime::now() } else { self.reading.empty_wall };
        self.starved.since.get_or_insert(from - SLACK);
        self.starved.wake(self.now, &self.options.limits);
    }

    /// Says that a limit was hit, once, when it is known how much is needed.
    pub(super) fn say_limit(&mut self, sink: &mut impl Sink) {
        if !self.setting_up.is_empty() {
            return;
        }
        let Some((path, errno)) = self.starved.unsaid.take() else { return };
        if errno == Errno::NOSPC {
            let sysctl = kernel::watches_max();
            let needed = (self.tree.watched() + self.starved.count) as u64;
            let needed = needed.max(sysctl.value + 1);
            self.say(
                Notice::LimitReached { sysctl: sysctl.name, value: sysctl.value, needed, path: &path },
                sink,
            );
        } else {
            self.say(Notice::CannotWatch { path: &path, source: errno }, sink);
        }
    }

    /// Tries again what a limit has refused, when it is time.
    pub(super) fn retry_starved(&mut self, sink: &mut impl Sink) {
        self.say_limit(sink);
        if self.starved.retry_at.is_none_or(|at| self.now < at) {
            return;
        }
        self.starved.retry_at = None;
        if std::mem::take(&mut self.starved.roots) {
            self.recheck.extend(self.root_ids().into_iter().map(|root| (root, Reason::Appeared)));
            self.settle_roots(sink);
        }
        self.retry_directories(sink);
        let has_walks = !self.starved.walks.is_empty();
        self.walks.extend(self.starved.walks.take());
        if self.starved.count > 0 || self.starved.roots || has_walks {
            self.starved.wake(self.now, &self.options.limits);
        } else {
            let said = self.starved.said;
            self.starved = Starved::new(self.options.limits.retry);
            if said {
                self.say(Notice::LimitCleared, sink);
            }
        }
    }

    /// Tries the uppermost directories that starve; the walks that follow come by those below.
    fn retry_directories(&mut self, sink: &mut impl Sink) {
        let since = self.starved.since.unwrap_or(SystemTime::UNIX_EPOCH);
        for node in self.tree.all_with(STARVED) {
            let is_uppermost = self.tree.parent(node).is_some_and(|parent| self.tree.wd(parent) != 0);
            if !is_uppermost || !self.is_reachable(node) {
                continue;
            }
            let walks = self.walks.len();
            self.try_starved(node, sink);
            self.walks.iter_mut().skip(walks).for_each(|walk| walk.since = since);
            if self.tree.wd(node) == 0 && self.tree.has(node, STARVED) {
                return;
            }
        }
    }

    fn try_starved(&mut self, node: NodeId, sink: &mut impl Sink) {
        let Some(parent) = self.tree.parent(node) else { return };
        let name = self.tree.name(node).to_vec();
        match self.look(parent, &name, self.tree.cover(node), Kind::Recover, sink) {
            Looked::Same | Looked::Other | Looked::Elsewhere => {}
            Looked::Nothing => {
                self.unstarve(node);
                self.doubt(parent, &name);
            }
        }
    }
}
