//! The watcher's state and its public calls.
//!
//! Each file beside this one is one thing that it does: [`tell`] an event to the watches that see it, [`dispatch`] an
//! event of the kernel, follow a [`rename`], [`place`] a watch on an object, [`doubt`] whether it is the right one,
//! [`walk`] a directory tree, expand [`patterns`], find files that were [`nameless`], make an [`arrive`]d entry known,
//! bind [`roots`] and wait for them by [`guards`], [`recover`] from overflows and limits, give a tree that storms a
//! queue [`apart`], set [`masks`], [`show`] how it stands.

mod apart;
mod arrive;
mod dispatch;
mod doubt;
mod guards;
mod masks;
mod nameless;
mod patterns;
mod place;
mod read;
mod recover;
mod rename;
mod roots;
mod show;
mod tell;
mod territory;
mod walk;

use std::collections::{BTreeMap, VecDeque};
use std::mem::MaybeUninit;
use std::os::fd::BorrowedFd;
use std::time::{Instant, SystemTime};

use event::Mask;
use hashbrown::{HashMap, HashSet};

use crate::cover::{COVERS_MAX, Covers, RootId};
use crate::error::Error;
use crate::kernel::{self, Kernel};
use crate::notice::{Notice, Throttle};
use crate::pending::{Creations, Fresh, Moves, NameHasher, Retired};
use crate::spec::{Exclude, News, Options, Sink, Stats, Turn, WatchId};
use crate::tree::{NodeId, Tree};

pub(crate) use apart::APART;
use arrive::Settling;
use doubt::Doubts;
use guards::{Blocked, Guards};
use masks::Renewal;
use nameless::Nameless;
use place::OpenParent;
use read::Reading;
use recover::{Recovery, Starved};
use rename::Aside;
use roots::{Reason, Root};
use tell::Paths;
use territory::Territory;
pub(crate) use territory::{Elsewhere, Exchange, Handed};
use walk::{Leaves, Walk, Walks};

/// One watch of the configuration.
struct Watch {
    interest: Mask,
    schedules: Mask,
    rec: bool,
    auto_add: bool,
    exclude: Option<Exclude>,
    initial: Option<News>,
    roots: Vec<RootId>,
    /// Those of them that are not set up.
    setting_up: usize,
}

/// Watches directory trees and tells what happens in them. See the crate's head.
///
/// It has one inotify instance, starts no threads, never sleeps and never blocks on the queue; the caller waits for
/// [`Watcher::inotify_fd`], [`Watcher::mounts_fd`] and [`Watcher::deadline`] and then calls [`Watcher::turn`].
pub struct Watcher {
    options: Options,
    kernel: Kernel,
    territory: Territory,
    tree: Tree,
    covers: Covers,
    watches: Vec<Option<Watch>>,
    roots: Vec<Option<Root>>,
    /// Numbers of roots that are free.
    free_roots: VecDeque<RootId>,
    /// How many roots are about to be added.
    roots_to_come: usize,
    /// Watches of which what they see is no news to others that begin.
    passed_over: HashSet<WatchId>,
    /// Those that began since.
    newcomers: HashSet<WatchId>,
    /// The paths of these watches, and whether they see what is deeper than a path's entries.
    paths_passed_over: HashMap<Vec<u8>, bool>,
    /// Roots by what they are bound to.
    bound: HashMap<NodeId, Vec<RootId>>,
    /// What the ancestors of roots are watched for.
    guards: HashMap<NodeId, Guards>,
    way_names: NameHasher,
    /// Names below a node that our rights keep unwatched: tried again at IN_ATTRIB.
    blocked: HashMap<NodeId, Blocked>,
    /// How many watches want IN_MOVED_TO. If one does, sources of moves are remembered.
    source_watches: usize,
    paths: Paths,
    reading: Reading,
    moves: Moves,
    /// Nodes that lost their name to another, with the read that brought the event.
    displaced: Vec<(NodeId, u64)>,
    /// Those of them whose tasks wait for what becomes of them.
    asides: Vec<Aside>,
    creations: Creations,
    fresh: Fresh,
    retired: Retired,
    doubts: Doubts,
    /// Tops of branches that are cut off and to be unwatched.
    doomed: Vec<NodeId>,
    walks: Walks,
    leaves: Leaves,
    /// The kernel does not know openat2(2), or we may not call it.
    lacks_openat2: bool,
    /// Buffer of getdents64(2), kept between listings.
    listing: Vec<MaybeUninit<u8>>,
    settling: VecDeque<Settling>,
    nameless: Nameless,
    /// Roots to be looked at again after the event at hand.
    recheck: Vec<(RootId, Reason)>,
    /// Roots to be looked at again, a few in a turn, for what may concern any of them.
    later: BTreeMap<RootId, Reason>,
    open_parent: Option<OpenParent>,
    /// wd of the last IN_UNMOUNT, whose IN_IGNORED follows at once.
    unmounted_wd: i32,
    starved: Starved,
    /// Roots that were not looked at yet.
    queued: VecDeque<RootId>,
    /// Roots whose trees are being watched for the first time.
    setting_up: Vec<RootId>,
    /// Patterns whose matches may have changed, and when they are expanded anew.
    stale_patterns: VecDeque<RootId>,
    patterns_rest_until: Option<Instant>,
    /// Masks that are being brought up to date.
    renewal: Option<Renewal>,
    recovery: Recovery,
    throttle: Throttle,
    stats: Stats,
    now: Instant,
    /// What the turn may still cost. An event is one, about 0.3 microseconds; system calls are charged where they are
    /// made, so that no kind of event makes a turn longer.
    units: u32,
}

impl std::fmt::Debug for Watcher {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.debug_struct("Watcher")
            .field("stats", &self.stats())
            .field("walks", &self.walks.len())
            .field("doubts", &self.doubts.len())
            .field("displaced", &self.displaced.len())
            .field("doomed", &self.doomed.len())
            .field("recovery", &self.recovery)
            .field("starved", &self.starved.count)
            .finish_non_exhaustive()
    }
}

impl Watcher {
    /// Makes a watcher that watches nothing yet.
    ///
    /// # Errors
    /// [`Error::InstanceLimit`] if the user has no inotify instance left, [`Error::DescriptorLimit`] if we have no
    /// descriptor left, [`Error::Init`] if there is no inotify at all.
    pub fn new(options: Options, now: Instant) -> Result<Watcher, Error> {
        Watcher::within(Territory::local(), options, now)
    }

    /// Makes one that may ask all filesystems, for a thread that may wait for them.
    pub(crate) fn everywhere(options: Options, now: Instant) -> Result<Watcher, Error> {
        Watcher::within(Territory::everywhere(), options, now)
    }

    fn within(territory: Territory, options: Options, now: Instant) -> Result<Watcher, Error> {
        let kernel = Kernel::new()?;
        let limits = &options.limits;
        Ok(Watcher {
            kernel,
            territory,
            tree: Tree::new(),
            covers: Covers::new(),
            watches: Vec::new(),
            roots: Vec::new(),
            free_roots: VecDeque::new(),
            roots_to_come: 0,
            passed_over: HashSet::new(),
            newcomers: HashSet::new(),
            paths_passed_over: HashMap::new(),
            bound: HashMap::new(),
            guards: HashMap::new(),
            way_names: NameHasher::default(),
            blocked: HashMap::new(),
            source_watches: 0,
            paths: Paths::default(),
            reading: Reading::new(limits, kernel::queue_max(), now),
            moves: Moves::new(limits.moves_max, limits.move_age),
            displaced: Vec::new(),
            asides: Vec::new(),
            creations: Creations::new(limits.young_max),
            fresh: Fresh::new(limits.young_max),
            retired: Retired::default(),
            doubts: Doubts::default(),
            doomed: Vec::new(),
            walks: Walks::default(),
            leaves: Leaves::default(),
            lacks_openat2: false,
            listing: Vec::new(),
            settling: VecDeque::new(),
            nameless: Nameless::default(),
            recheck: Vec::new(),
            later: BTreeMap::new(),
            open_parent: None,
            unmounted_wd: 0,
            starved: Starved::new(limits.retry),
            queued: VecDeque::new(),
            setting_up: Vec::new(),
            stale_patterns: VecDeque::new(),
            patterns_rest_until: None,
            renewal: None,
            recovery: Recovery::default(),
            throttle: Throttle::new(limits.notices_max, now),
            stats: Stats::default(),
            now,
            units: limits.turn_units,
            options,
        })
    }

    /// Readable when events wait.
    pub fn inotify_fd(&self) -> BorrowedFd<'_> {
        self.kernel.fd()
    }

    /// Has POLLPRI when something was mounted or unmounted (proc(5), `/proc/pid/mounts`); then call
    /// [`Watcher::mounts_changed`]. None without /proc.
    pub fn mounts_fd(&self) -> Option<BorrowedFd<'_>> {
        self.territory.source()
    }

    /// Does a bounded amount of work: reads, tells events, walks new directories a bit further.
    pub fn turn(&mut self, now: Instant, sink: &mut impl Sink) -> Turn {
        self.now = now;
        self.territory.begin_turn();
        self.units = self.options.limits.turn_units;
        self.overdue(sink);
        // A quarter is kept for walks, so that neither side starves the other.
        let kept = if self.has_background() { self.options.limits.turn_units / 4 } else { 0 };
        // Where walks pile up, events wait in the kernel's queue, which says so if it overflows.
        if self.walks.len() < self.options.limits.walks_max {
            self.read_and_dispatch(kept, sink);
        }
        self.units = self.units.max(kept);
        self.check_mounts(sink);
        self.background(sink);
        self.open_parent = None;
        self.end_asides(|_, _| true, sink);
        self.next_turn()
    }

    /// Ends the pause of a busy tree: the next turn reads.
    pub fn end_pause(&mut self) {
        self.reading.end_pause();
    }

    /// What is handed over to watchers of other filesystems since the last call.
    pub(crate) fn exchanges(&mut self) -> Vec<Exchange> {
        self.territory.exchanges()
    }

    /// When to call [`Watcher::turn`] even if nothing is readable; `None` when everything is watched and idle.
    pub fn deadline(&self) -> Option<Instant> {
        let settling = self.settling.front().map(|settling| settling.due);
        // What was left to do outside of a turn is due at once.
        let background = self.has_background().then_some(self.now);
        [
            background,
            settling,
            self.starved.retry_at,
            self.throttle.deadline(),
            self.territory.check_at,
            self.nameless.deadline(),
            self.patterns_due(),
            self.recovery.deadline(),
        ]
        .into_iter()
        .flatten()
        .min()
    }

    /// Whether one of a watch's paths at least is there and watched.
    pub fn is_watched(&self, id: WatchId) -> bool {
        let watch = self.watches.get(id.0 as usize).and_then(Option::as_ref);
        watch.is_some_and(|watch| watch.roots.iter().any(|root| self.root(*root).node.is_some()))
    }

    /// Counters and sizes.
    pub fn stats(&self) -> Stats {
        let walks: usize = self.walks.iter().map(Walk::len).sum();
        let recent = self.creations.len() + self.fresh.len();
        Stats {
            watches: self.tree.watched(),
            nodes: self.tree.len(),
            tree_bytes: self.tree.bytes(),
            starved: self.starved.count,
            queued: walks
                + recent
                + self.moves.len()
                + self.retired.len()
                + self.doubts.len()
                + self.displaced.len()
                + self.settling.len(),
            ..self.stats
        }
    }

    /// Until when everything that happened in what is watched has been told.
    pub(crate) fn complete_until(&self) -> Option<SystemTime> {
        let is_complete = matches!(self.next_turn(), Turn::Idle | Turn::Pause(_))
            && !self.sets_up()
            && self.settling.is_empty()
            && self.starved.count == 0
            && !self.recovery.runs();
        is_complete.then_some(self.reading.empty.wall)
    }

    /// Whether walks, branches to be unwatched or files without a name are waiting.
    fn has_background(&self) -> bool {
        !self.walks.is_empty()
            || !self.doomed.is_empty()
            || !self.recheck.is_empty()
            || !self.later.is_empty()
            || self.sets_up()
            || self.renewal.is_some()
            || self.patterns_due().is_some_and(|due| due <= self.now)
            || self.seeks_names()
            || self.recovery.is_due(self.now)
    }

    fn background(&mut self, sink: &mut impl Sink) {
        self.start_recovery(sink);
        self.expand_stale_patterns(sink);
        self.settle_roots(sink);
        self.unwatch_doomed();
        self.name_nameless(sink);
        self.set_up_further(sink);
        self.finish_recovery(sink);
    }

    /// Things whose time has come.
    fn overdue(&mut self, sink: &mut impl Sink) {
        self.settle_files(sink);
        self.retry_starved(sink);
        if self.covers.take_refused() {
            self.say(Notice::TooManySets { max: COVERS_MAX }, sink);
        }
        for notice in self.throttle.roll(self.now) {
            sink.notice(notice);
        }
    }

    /// Tells a notice, unless its kind was told too often.
    fn say(&mut self, notice: Notice<'_>, sink: &mut impl Sink) {
        if self.throttle.admits(&notice) {
            sink.notice(notice);
        }
    }

    /// Something was done that costs as much as so many events.
    fn spend(&mut self, units: u32) {
        self.units = self.units.saturating_sub(units);
    }

    fn watch(&self, id: WatchId) -> Option<&Watch> {
        self.watches.get(id.0 as usize)?.as_ref()
    }

    fn root(&self, id: RootId) -> &Root {
        self.roots[usize::from(id.0)].as_ref().expect("sets and guards hold only roots that exist")
    }

    fn root_mut(&mut self, id: RootId) -> &mut Root {
        self.roots[usize::from(id.0)].as_mut().expect("sets and guards hold only roots that exist")
    }

    fn root_ids(&self) -> Vec<RootId> {
        let numbers = (0..).zip(&self.roots);
        numbers.filter(|(_, root)| root.is_some()).map(|(number, _)| RootId(number)).collect()
    }

    /// Frees a node that has no children, with all that is known about it.
    fn free_node(&mut self, node: NodeId) {
        self.paths.forget();
        self.unstarve(node);
        self.part_from(node);
        self.blocked.remove(&node);
        self.covers.release(self.tree.cover(node));
        self.tree.free(node);
    }
}
