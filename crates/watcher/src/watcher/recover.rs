//! Recovering from what can't be helped: an overflow of the queue, limits of the kernel, changes of mounts.
//!
//! After an overflow nothing is believed: the kernel drops IN_IGNORED like any other event (K6). Every directory is
//! opened again and compared by wd, every entry that changed since the queue was last known to be complete is told as
//! an arrival, directories that are gone are forgotten, new ones are watched. It goes by the same walks as new
//! directories do, a little at a time, beside the reading of what comes after.
//!
//! A directory that is found where none was known has come there, by mkdir or by a rename: everything in it arrives,
//! however old it is. If the tree knows it under another name, it is renamed instead, as if the events had been read.
//!
//! # No tree waits for another
//!
//! One tree may keep the queue full for as long as it likes, so that events of all trees are lost again and again. What
//! is lost in another tree is found all the same, within a time that does not depend on what happens in the first:
//!
//! - The kernel puts its word of the overflow behind what it had queued before, so it is read after one length of the
//!   queue at most. Events have three quarters of a turn.
//! - Passes over all trees are planned then, one round each [`PAUSE`] at most. A pass begins when the last one over the
//!   same tree has ended, whatever is under way in other trees.
//! - Walks have a quarter of a turn, and trees share it evenly ([`super::walk::Walks`]).
//!
//! What was renamed while a pass was under way may have gone from where the pass had not come to, to where it has been.
//! It is walked by itself, once a round, so that renames at full speed do not make walks without end.
//!
//! What moves from one tree to another takes along what is missing: since when that may be is reckoned over all trees.

use std::time::{Duration, Instant, SystemTime};

use event::{Event, Flag};
use hashbrown::{HashMap, HashSet};
use rustix::io::Errno;

use super::Watcher;
use super::place::{Kind, Looked};
use super::roots::Reason;
use super::walk::{Waiting, Walk};
use crate::cover::EMPTY;
use crate::kernel;
use crate::notice::Notice;
use crate::spec::{Limits, Sink, WatchId};
use crate::tree::{NodeId, STARVED, UNNAMED};

/// Times of files lag behind the clock by a tick of the kernel's timer (at most 10 ms), and clocks are set.
pub(super) const SLACK: Duration = Duration::from_millis(100);

/// The kernel reports a change of mounts before it sends IN_UNMOUNT: umount(2) detaches first, waits for an RCU grace
/// period and for what is dirty to be written. A root that is looked at earlier is unwatched before it can tell of it.
pub(super) const MOUNT_DELAY: Duration = Duration::from_millis(50);

/// Between two rounds of passes over all trees. What was found is found again by a pass that begins within [`SLACK`],
/// so this is longer; and whatever storms, trees of usual size are not looked at all the time.
const PAUSE: Duration = Duration::from_millis(200);

/// A moment, by the clock that files have and by ours.
#[derive(Clone, Copy, Debug)]
pub(super) struct Moment {
    pub(super) wall: SystemTime,
    pub(super) at: Instant,
}

impl Moment {
    pub(super) fn of(now: Instant) -> Moment {
        Moment { wall: SystemTime::now(), at: now }
    }

    /// What changed since then by the clock that files have. A clock that was set meanwhile must not hide anything: the
    /// earlier of both reckonings counts.
    fn since(self, now: Instant) -> SystemTime {
        let passed = now.saturating_duration_since(self.at);
        let reckoned = SystemTime::now().checked_sub(passed).unwrap_or(SystemTime::UNIX_EPOCH);
        self.wall.min(reckoned) - SLACK
    }
}

/// The last pass over one tree.
#[derive(Debug)]
struct Pass {
    /// What was lost before is made up for by this pass.
    began: Moment,
    /// It is planned, or parts of it are under way.
    is_open: bool,
}

/// The state of a recovery.
#[derive(Debug, Default)]
pub(super) struct Recovery {
    /// Events were lost that no pass was planned for yet. Everything from before this moment was read.
    lost: Option<Moment>,
    /// When passes were planned last.
    planned: Option<Instant>,
    /// Directories that are to be walked, and since when events may be missing there.
    owed: HashMap<NodeId, SystemTime>,
    /// Directories that were renamed since the last plan and have had their walk, or are owed it.
    renamed: HashSet<NodeId>,
    /// By the top of their tree.
    passes: HashMap<NodeId, Pass>,
    /// Since when events may be missing in any tree.
    missing_since: Option<SystemTime>,
    /// When the first pass was asked for, until all have ended.
    started: Option<Instant>,
    synthetic_before: u64,
    /// Watches that were told to be complete again.
    said: HashSet<WatchId>,
}

impl Recovery {
    pub(super) fn runs(&self) -> bool {
        self.started.is_some()
    }

    /// When the next passes are planned.
    pub(super) fn deadline(&self) -> Option<Instant> {
        let lost = self.lost?;
        Some(self.planned.map_or(lost.at, |planned| planned + PAUSE))
    }

    /// Whether walks can begin.
    pub(super) fn is_due(&self, now: Instant) -> bool {
        !self.owed.is_empty() || self.deadline().is_some_and(|at| at <= now)
    }

    pub(super) fn missing_since(&self) -> Option<SystemTime> {
        self.missing_since
    }

    fn owe(&mut self, node: NodeId, since: SystemTime) {
        self.owed.entry(node).and_modify(|other| *other = since.min(*other)).or_insert(since);
        self.miss(since);
    }

    fn miss(&mut self, since: SystemTime) {
        self.missing_since = Some(self.missing_since.map_or(since, |other| since.min(other)));
    }
}

/// Directories that a limit keeps unwatched.
pub(super) struct Starved {
    pub(super) count: usize,
    pub(super) retry_at: Option<Instant>,
    pause: Duration,
    /// Since when events of those are missing that are not [`crate::tree::UNTOLD`].
    pub(super) since: Option<SystemTime>,
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

    pub(super) fn retain_walks(&mut self, keep: impl Fn(&Walk) -> bool) {
        self.walks.retain(keep);
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
        self.reading.storms = self.recovery.runs();
        let since = self.now.saturating_duration_since(self.reading.empty.at);
        let events = self.reading.events_since_empty;
        self.say(Notice::Overflow { queue_max: self.reading.queue_max, events, since }, sink);
        self.look_at_everything();
        for (id, watch) in (0..).map(WatchId).zip(&self.watches) {
            let wanted =
                watch.as_ref().is_some_and(|watch| watch.interest.intersects(Flag::QOverflow.mask()));
            if wanted {
                sink.event(id, &Event::overflow());
                self.stats.delivered += 1;
            }
        }
    }

    /// Events are missing, or more is in doubt than is remembered one by one.
    pub(super) fn look_at_everything(&mut self) {
        let empty = self.reading.empty;
        let recovery = &mut self.recovery;
        recovery.lost.get_or_insert(empty);
        recovery.miss(empty.since(self.now));
        if recovery.started.is_none() {
            recovery.started = Some(self.now);
            recovery.synthetic_before = self.stats.synthetic;
        }
    }

    /// Begins the passes that are due. A tree that is being looked at is looked at again afterwards.
    pub(super) fn start_recovery(&mut self, sink: &mut impl Sink) {
        if self.recovery.deadline().is_some_and(|at| at <= self.now) {
            self.plan_passes(sink);
        }
        if self.recovery.owed.is_empty() {
            return;
        }
        let of_recovery = self.walks.iter().filter(|walk| walk.is_of_recovery());
        let under_way: HashSet<NodeId> = of_recovery.map(|walk| walk.top().0).collect();
        let due = self.recovery.owed.extract_if(|node, _| !under_way.contains(node));
        for (node, since) in due.collect::<Vec<_>>() {
            let wd = self.tree.wd(node);
            if wd == 0 {
                continue;
            }
            if let Some(pass) = self.recovery.passes.get_mut(&node) {
                pass.began = Moment::of(self.now);
            }
            self.start_walk(node, wd, None, Kind::Recover { since }, None);
        }
    }

    /// Events were lost, of any tree: each is owed a pass.
    fn plan_passes(&mut self, sink: &mut impl Sink) {
        let Some(lost) = self.recovery.lost.take() else { return };
        self.recovery.planned = Some(self.now);
        self.recovery.renamed.clear();
        // Last events may have been lost.
        self.retired.clear();
        self.recheck_all_later(Reason::Moved);
        self.look_later(sink);
        let tops = self.uppermost_roots();
        self.recovery.passes.retain(|top, _| tops.binary_search(top).is_ok());
        for top in tops {
            let passes = &mut self.recovery.passes;
            let pass = passes.entry(top).or_insert(Pass { began: lost, is_open: true });
            pass.is_open = true;
            let complete_until = if pass.began.at > lost.at { pass.began } else { lost };
            self.recovery.owe(top, complete_until.since(self.now));
        }
    }

    /// Directories that are roots and that no walk of another root comes by.
    pub(super) fn uppermost_roots(&self) -> Vec<NodeId> {
        let bound = self.root_ids().into_iter().filter(|&root| self.root(root).is_dir);
        let mut nodes: Vec<NodeId> = bound.filter_map(|root| self.root(root).node).collect();
        nodes.sort_unstable();
        nodes.dedup();
        nodes.retain(|&node| self.tree.parent(node).is_none_or(|parent| self.tree.cover(parent) == EMPTY));
        nodes
    }

    /// A directory has another name: a pass under way may have missed it, and what is below.
    pub(super) fn recover_renamed(&mut self, parent: NodeId, name: &[u8]) {
        let Some(since) = self.recovery.missing_since else { return };
        let Some(node) = self.tree.child(parent, name) else { return };
        if self.recovery.renamed.insert(node) {
            self.recovery.owe(node, since);
        }
    }

    /// Says which watches are complete again, and so when the last pass has ended.
    pub(super) fn finish_recovery(&mut self, sink: &mut impl Sink) {
        let Some(started) = self.recovery.started else { return };
        // What has lost its name has left our sight if no walk finds it: it goes when the recovery has ended.
        let is_awaited = |walk: &&Walk| walk.is_of_recovery() && !self.is_displaced(walk.top().0);
        let put_off = self.doubts.walks().filter(is_awaited).map(|walk| walk.top().0);
        let waiting: Vec<NodeId> = put_off.chain(self.recovery.owed.keys().copied()).collect();
        let mut open: HashSet<NodeId> = self.walks.recovering().collect();
        open.extend(waiting.into_iter().map(|node| self.tree_of(node)));
        self.say_recovered(&open, sink);
        if !open.is_empty() || self.recovery.lost.is_some() {
            let walks = self.walks.iter().chain(self.doubts.walks());
            let owed = self.recovery.owed.values().copied();
            let lost = self.recovery.lost.map(|lost| lost.since(self.now));
            self.recovery.missing_since = walks.filter_map(Walk::missing_since).chain(owed).chain(lost).min();
            return;
        }
        let recovery = &mut self.recovery;
        let arrivals = self.stats.synthetic - recovery.synthetic_before;
        (recovery.started, recovery.missing_since) = (None, None);
        let said = std::mem::take(&mut recovery.said);
        for id in (0..self.watches.len() as u32).map(WatchId) {
            if self.watch(id).is_some() && !said.contains(&id) {
                sink.notice(Notice::Recovered { watch: id });
            }
        }
        self.say(Notice::RecoveryDone { arrivals, took: self.now.saturating_duration_since(started) }, sink);
    }

    /// Whether a node, or one above it, has lost its name to another one.
    fn is_displaced(&self, node: NodeId) -> bool {
        std::iter::successors(Some(node), |&node| self.tree.parent(node))
            .any(|node| self.tree.has(node, UNNAMED))
    }

    /// Says which watches are complete again because the pass over one of their trees has ended.
    fn say_recovered(&mut self, open: &HashSet<NodeId>, sink: &mut impl Sink) {
        let passes = self.recovery.passes.iter_mut();
        let ended = passes.filter(|(top, pass)| pass.is_open && !open.contains(*top));
        let ended: HashSet<NodeId> = ended.map(|(&top, pass)| (pass.is_open = false, top).1).collect();
        if ended.is_empty() {
            return;
        }
        let roots = self.root_ids().into_iter();
        let bound = roots.filter_map(|root| Some((self.root(root).watch, self.root(root).node?)));
        let complete: HashSet<WatchId> =
            bound.filter(|&(_, node)| ended.contains(&self.tree_of(node))).map(|(watch, _)| watch).collect();
        for watch in complete {
            self.recovery.said.insert(watch);
            sink.notice(Notice::Recovered { watch });
        }
    }

    /// A limit keeps a directory unwatched.
    pub(super) fn starve(&mut self, node: NodeId, errno: Errno) {
        if !self.tree.has(node, STARVED) {
            self.covers.set_starved(&mut self.tree, node, true);
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
        let is_new = self.sets_up();
        let from = if is_new { SystemTime::now() } else { self.reading.empty.wall };
        self.starved.since.get_or_insert(from - SLACK);
        self.starved.wake(self.now, &self.options.limits);
    }

    /// Says that a limit was hit, once, when it is known how much is needed.
    pub(super) fn say_limit(&mut self, sink: &mut impl Sink) {
        if self.sets_up() {
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
            self.recheck_all_later(Reason::Appeared);
            self.look_later(sink);
        }
        self.retry_directories(sink);
        let is_untried = !self.starved.walks.is_empty() || !self.later.is_empty();
        for walk in self.starved.walks.take() {
            let tree = self.tree_of(walk.top().0);
            self.walks.push(tree, walk);
        }
        if self.starved.count > 0 || self.starved.roots || is_untried {
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
            self.try_starved(node, since, sink);
            if self.tree.wd(node) == 0 && self.tree.has(node, STARVED) {
                return;
            }
        }
    }

    fn try_starved(&mut self, node: NodeId, since: SystemTime, sink: &mut impl Sink) {
        let Some(parent) = self.tree.parent(node) else { return };
        let name = self.tree.name(node).to_vec();
        match self.look(parent, &name, self.tree.cover(node), Kind::Recover { since }, sink) {
            Looked::Same | Looked::Other | Looked::Elsewhere => {}
            Looked::Nothing => {
                self.unstarve(node);
                self.doubt(parent, &name);
            }
        }
    }
}
