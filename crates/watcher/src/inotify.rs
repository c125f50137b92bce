//! The source that asks inotify(7): one watcher for the filesystems that are known to be local, and one for each other
//! filesystem, whose turns are made elsewhere ([`Look`]).
//!
//! Every watcher has an inotify instance of its own. The local one says which paths are not its to ask about
//! ([`Exchange`]); they go to the watcher of their filesystem with its next look. While a look is out, the kernel keeps
//! the events of that instance, and says if they were too many. A path comes back when nothing is mounted there any
//! more.
//!
//! A tree that keeps the queue of the local watcher full is handed over in the same way, until it has been calm for a
//! while: the others are not to lose their events for it.
//!
//! Owns who watches what. Leaves threads to the caller.

use std::os::fd::BorrowedFd;
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant, SystemTime};

use event::Mask;
use hashbrown::HashMap;
use rustix::event::epoll;

use crate::error::Error;
use crate::look::{Found, Look, Order, Outcome};
use crate::notice::Notice;
use crate::path;
use crate::source::Source;
use crate::spec::{
    News, Options, Problem, RootState, Sighting, Sink, Stats, Turn, WatchId, WatchSpec, WatchState,
};
use crate::watcher::{APART, Elsewhere, Exchange, Handed, Watcher};

/// Pause before an inotify instance is asked for again after there was none.
const INSTANCE_RETRY: Duration = Duration::from_secs(5);
/// Trees that are watched apart at the same time: each takes one of the 128 instances that a user has by default.
const APART_MAX: usize = 8;
/// For so long a tree must be calm to share the queue again.
const CALM: Duration = Duration::from_secs(10);
/// Events that one call takes from epoll(7).
const READY_MAX: usize = 16;

/// See the module's head.
pub struct Inotify {
    options: Options,
    local: Watcher,
    /// By number. A number is used again when no watcher has it any more.
    watches: Vec<Option<WatchSpec>>,
    /// No smaller number is free.
    first_free: u32,
    remotes: Vec<Remote>,
    /// Which filesystem, by its device, watches a path of a watch.
    places: HashMap<(WatchId, Vec<u8>), (u64, Handed)>,
    /// Readable when the instance of a watcher that is here is. `None` if there is none.
    readiness: Option<OwnedFd>,
    /// Trees that were watched apart so far.
    apart: u64,
}

/// The watcher of a filesystem that may not answer, or of a tree that is watched apart.
struct Remote {
    device: u64,
    point: Vec<u8>,
    state: State,
    /// What it does before its next turn.
    orders: Vec<Order>,
    /// Watches that it knows, or will by its orders.
    known: Vec<WatchId>,
    /// Those of which it watched a path when it was here last.
    watched: Vec<WatchId>,
    /// How those that it knows stood then.
    shown: Vec<(WatchId, WatchState)>,
    stats: Stats,
    /// Since when the tree is calm, if it is one that is watched apart.
    calm_since: Option<Instant>,
}

enum State {
    /// There was no instance for it; it is tried again.
    None { retry_at: Instant },
    /// It is here, and has its next turn then, or when events come.
    Here { watcher: Box<Watcher>, next: Option<Instant>, is_ready: bool },
    /// A look is out.
    Away,
}

impl Remote {
    fn new(to: Elsewhere, state: State, now: Instant) -> Remote {
        Remote {
            calm_since: to.is_apart().then_some(now),
            device: to.device,
            point: to.point,
            state,
            orders: Vec::new(),
            known: Vec::new(),
            watched: Vec::new(),
            shown: Vec::new(),
            stats: Stats::default(),
        }
    }

    /// When the tree can share the queue again: nothing of it is queued then, and nothing is under way.
    fn calm_at(&self) -> Option<Instant> {
        let is_quiet = match &self.state {
            State::Here { next, is_ready, .. } => next.is_none() && !is_ready && self.orders.is_empty(),
            State::None { .. } | State::Away => false,
        };
        self.calm_since.filter(|_| is_quiet).map(|since| since + CALM)
    }
}

impl Inotify {
    /// Makes a source that watches nothing yet.
    ///
    /// # Errors
    /// [`Error::InstanceLimit`] if the user has no inotify instance left, [`Error::DescriptorLimit`] if we have no
    /// descriptor left, [`Error::Init`] if there is no inotify at all.
    pub fn new(options: Options, now: Instant) -> Result<Inotify, Error> {
        let local = Watcher::new(options.clone(), now)?;
        let readiness = epoll::create(epoll::CreateFlags::CLOEXEC).ok();
        Ok(Inotify {
            options,
            local,
            watches: Vec::new(),
            first_free: 0,
            remotes: Vec::new(),
            places: HashMap::new(),
            readiness,
            apart: 0,
        })
    }

    /// What is wrong with the paths of `spec`, without watching or disturbing anything. Paths on filesystems that may
    /// not answer are not asked about.
    pub fn check(&self, spec: &WatchSpec) -> Vec<(Vec<u8>, Problem)> {
        self.local.check(spec)
    }

    /// Brings what the local watcher hands over where it belongs.
    fn exchange(&mut self, now: Instant, sink: &mut impl Sink) {
        for exchange in self.local.exchanges() {
            match exchange {
                Exchange::Over(handed, to) => self.hand_over(handed, to, now, sink),
                Exchange::Back { watch, path } => self.take_back((watch, path)),
                Exchange::Apart { path } => self.set_apart(path, now, sink),
                Exchange::MountsChanged => self.say_mounts_changed(sink),
            }
        }
    }

    /// Gives a tree a queue of its own, if there is one.
    fn set_apart(&mut self, path: Vec<u8>, now: Instant, sink: &mut impl Sink) {
        let apart = self.remotes.iter().filter(|remote| remote.calm_since.is_some()).count();
        if apart >= APART_MAX {
            return;
        }
        let Ok(watcher) = Watcher::everywhere(self.options.clone(), now) else { return };
        sink.notice(Notice::Apart { path: &path });
        let to = Elsewhere { device: APART + self.apart, point: path };
        self.apart += 1;
        let state = State::Here { watcher: Box::new(watcher), next: None, is_ready: false };
        self.remotes.push(Remote::new(to.clone(), state, now));
        self.local.set_apart(to, now, sink);
        self.exchange(now, sink);
    }

    /// Takes trees back that have been calm for a while.
    fn take_in(&mut self, now: Instant, sink: &mut impl Sink) {
        let calm = self.remotes.iter().filter(|remote| remote.calm_at().is_some_and(|at| at <= now));
        for device in calm.map(|remote| remote.device).collect::<Vec<_>>() {
            self.local.take_in(device, now, sink);
            self.exchange(now, sink);
        }
    }

    fn hand_over(&mut self, handed: Handed, to: Elsewhere, now: Instant, sink: &mut impl Sink) {
        let Some(Some(spec)) = self.watches.get(handed.watch.0 as usize) else { return };
        let spec = WatchSpec { paths: Vec::new(), ..spec.clone() };
        let at = self.remote_at(to, now, sink);
        let remote = &mut self.remotes[at];
        if !remote.known.contains(&handed.watch) {
            remote.known.push(handed.watch);
            remote.orders.push(Order::Watch(handed.watch, spec));
        }
        remote.orders.push(Order::Over(handed.clone()));
        let key = (handed.watch, handed.path.clone());
        self.places.insert(key, (remote.device, handed));
    }

    fn take_back(&mut self, key: (WatchId, Vec<u8>)) {
        let Some((device, _)) = self.places.remove(&key) else { return };
        if let Some(remote) = self.remotes.iter_mut().find(|remote| remote.device == device) {
            remote.orders.push(Order::Back(key.0, key.1));
        }
    }

    /// The watcher of a filesystem, made if need be.
    fn remote_at(&mut self, to: Elsewhere, now: Instant, sink: &mut impl Sink) -> usize {
        if let Some(at) = self.remotes.iter().position(|remote| remote.device == to.device) {
            return at;
        }
        let state = self.make(&to.point, now, sink);
        self.remotes.push(Remote::new(to, state, now));
        self.remotes.len() - 1
    }

    fn make(&self, point: &[u8], now: Instant, sink: &mut impl Sink) -> State {
        match Watcher::everywhere(self.options.clone(), now) {
            Ok(watcher) => State::Here { watcher: Box::new(watcher), next: Some(now), is_ready: false },
            Err(error) => {
                sink.notice(Notice::NoInstance { path: point, error: &error.to_string() });
                State::None { retry_at: now + INSTANCE_RETRY }
            }
        }
    }

    /// Asks which of the watchers that are here have events.
    fn look_for_events(&mut self) {
        let Some(readiness) = &self.readiness else { return };
        let mut events = Vec::with_capacity(READY_MAX);
        let buffer = rustix::buffer::spare_capacity(&mut events);
        let never = rustix::event::Timespec::default();
        if epoll::wait(readiness, buffer, Some(&never)).is_err() {
            return;
        }
        for event in events {
            let device = event.data.u64();
            let remote = self.remotes.iter_mut().find(|remote| remote.device == device);
            if let Some(Remote { state: State::Here { is_ready, .. }, .. }) = remote {
                *is_ready = true;
            }
        }
    }

    fn say_mounts_changed(&mut self, sink: &mut impl Sink) {
        for remote in &mut self.remotes {
            if !matches!(remote.orders.last(), Some(Order::MountsChanged)) {
                remote.orders.push(Order::MountsChanged);
            }
        }
        sink.notice(Notice::MountsChanged);
    }

    /// Whether the number belongs to no watcher any more.
    fn is_free(&self, watch: WatchId) -> bool {
        let is_free_here = self.watches.get(watch.0 as usize).is_none_or(Option::is_none);
        let is_known = |remote: &Remote| remote.known.contains(&watch);
        is_free_here && !self.remotes.iter().any(is_known)
    }

    /// Tries again to make the watchers for which there was no instance.
    fn retry_instances(&mut self, now: Instant, sink: &mut impl Sink) {
        for at in 0..self.remotes.len() {
            if let State::None { retry_at } = self.remotes[at].state
                && retry_at <= now
            {
                let point = self.remotes[at].point.clone();
                self.remotes[at].state = self.make(&point, now, sink);
            }
        }
    }
}

impl Source for Inotify {
    fn make_room(&mut self, paths: &[&[u8]]) -> Result<(), Error> {
        self.local.make_room(paths)
    }

    fn pass_over(&mut self, seen_by: Vec<WatchId>) {
        self.local.pass_over(seen_by);
    }

    fn add(&mut self, spec: WatchSpec, now: Instant, mut sink: &mut dyn Sink) -> Result<WatchId, Error> {
        let mut all = (self.first_free..).map(WatchId);
        let id = all.find(|&id| self.is_free(id)).expect("there are more numbers than watches");
        self.local.begin(id, &spec, now, &mut sink)?;
        let at = id.0 as usize;
        if self.watches.len() <= at {
            self.watches.resize_with(at + 1, || None);
        }
        self.watches[at] = Some(spec);
        self.first_free = id.0 + 1;
        self.exchange(now, &mut sink);
        Ok(id)
    }

    fn is_set_up(&self, watch: WatchId) -> bool {
        self.local.is_set_up(watch)
    }

    fn is_watched(&self, watch: WatchId) -> bool {
        self.local.is_watched(watch) || self.remotes.iter().any(|remote| remote.watched.contains(&watch))
    }

    fn set_interest(&mut self, watch: WatchId, interest: Mask, mut sink: &mut dyn Sink) {
        let Some(Some(spec)) = self.watches.get_mut(watch.0 as usize) else { return };
        if spec.interest == interest {
            return;
        }
        spec.interest = interest;
        self.local.set_interest(watch, interest, &mut sink);
        self.order_where_known(watch, || Order::Interest(watch, interest));
    }

    fn set_schedules(&mut self, watch: WatchId, schedules: Mask) {
        let Some(Some(spec)) = self.watches.get_mut(watch.0 as usize) else { return };
        if spec.schedules == schedules {
            return;
        }
        spec.schedules = schedules;
        self.local.set_schedules(watch, schedules);
        self.order_where_known(watch, || Order::Schedules(watch, schedules));
    }

    fn remove(&mut self, watch: WatchId, mut sink: &mut dyn Sink) {
        if let Some(spec) = self.watches.get_mut(watch.0 as usize) {
            *spec = None;
            self.first_free = self.first_free.min(watch.0);
        }
        self.local.remove(watch, &mut sink);
        // Whatever the local watcher takes back of it goes with the watch.
        self.places.retain(|(of, _), _| *of != watch);
        self.order_where_known(watch, || Order::Remove(watch));
    }

    fn turn(&mut self, now: Instant, mut sink: &mut dyn Sink) -> Turn {
        let turn = self.local.turn(now, &mut sink);
        self.exchange(now, &mut sink);
        if !self.remotes.is_empty() {
            self.retry_instances(now, &mut sink);
            self.look_for_events();
            self.take_in(now, &mut sink);
        }
        turn
    }

    fn end_pause(&mut self) {
        self.local.end_pause();
    }

    fn deadline(&self) -> Option<Instant> {
        let remotes = self.remotes.iter().filter_map(|remote| match &remote.state {
            State::None { retry_at } => Some(*retry_at),
            State::Here { watcher, next, .. } => {
                watcher.deadline().into_iter().chain(*next).chain(remote.calm_at()).min()
            }
            State::Away => None,
        });
        self.local.deadline().into_iter().chain(remotes).min()
    }

    fn events_fd(&self) -> Option<BorrowedFd<'_>> {
        Some(self.local.inotify_fd())
    }

    fn others_fd(&self) -> Option<BorrowedFd<'_>> {
        self.readiness.as_ref().map(std::os::fd::AsFd::as_fd)
    }

    fn mounts_fd(&self) -> Option<BorrowedFd<'_>> {
        self.local.mounts_fd()
    }

    fn mounts_changed(&mut self, now: Instant) {
        self.local.mounts_changed(now);
    }

    fn next_look(&mut self, now: Instant) -> Option<Look> {
        let wants_turn = |remote: &&mut Remote| match &remote.state {
            State::Here { watcher, next, is_ready } => {
                let is_due = |at: &Option<Instant>| at.is_some_and(|at| at <= now);
                *is_ready || !remote.orders.is_empty() || is_due(next) || is_due(&watcher.deadline())
            }
            State::None { .. } | State::Away => false,
        };
        let remote = self.remotes.iter_mut().find(wants_turn)?;
        let State::Here { watcher, .. } = std::mem::replace(&mut remote.state, State::Away) else {
            return None;
        };
        if let Some(readiness) = &self.readiness {
            // It was not added if it is new.
            let _ = epoll::delete(readiness, watcher.inotify_fd());
        }
        let orders = std::mem::take(&mut remote.orders);
        for order in &orders {
            if let Order::Remove(watch) = order {
                remote.known.retain(|known| known != watch);
                self.first_free = self.first_free.min(watch.0);
            }
        }
        Some(Look { device: remote.device, point: remote.point.clone(), watcher, orders, now })
    }

    fn found(&mut self, found: Found, now: Instant, mut sink: &mut dyn Sink) {
        let Found { device, outcome } = found;
        let Some(at) = self.remotes.iter().position(|remote| remote.device == device) else { return };
        match outcome {
            Some(Outcome { watcher, tape, turn }) => {
                let all = &self.watches;
                tape.play(|watch| all.get(watch.0 as usize).is_some_and(Option::is_some), &mut sink);
                match watcher {
                    Some(watcher) => self.is_back(at, watcher, turn, now),
                    None => self.end_remote(at, now, &mut sink),
                }
            }
            None => self.end_remote(at, now, &mut sink),
        }
    }

    fn can_rescan(&mut self, path: &[u8]) -> bool {
        let mut elsewhere = self.places.keys().map(|(_, of)| of);
        self.local.can_rescan(path) || elsewhere.any(|of| is_near(of, path))
    }

    fn rescan(&mut self, path: Option<&[u8]>, now: Instant, mut sink: &mut dyn Sink) -> usize {
        let here = self.local.rescan(path, now, &mut sink);
        let places = &self.places;
        let mut elsewhere = 0;
        for remote in &mut self.remotes {
            let of_this = places.iter().filter(|(_, place)| place.0 == remote.device);
            let near = of_this.filter(|((_, of), _)| path.is_none_or(|path| is_near(of, path))).count();
            if near > 0 {
                elsewhere += near;
                remote.orders.push(Order::Rescan(path.map(<[u8]>::to_vec)));
            }
        }
        here + elsewhere
    }

    fn sightings(&mut self, path: &[u8]) -> Vec<Sighting> {
        let mut found = self.local.sightings(path);
        for ((watch, of), (_, handed)) in &self.places {
            if path::is_at_or_below(path, of) && found.iter().all(|other| other.watch != *watch) {
                let name_len = if path == of { 0 } else { event::name_len(path) };
                let (watch, root_len) = (*watch, handed.root_len as u16);
                found.push(Sighting { watch, wd: 0, root_len, name_len, given_path: None });
            }
        }
        found
    }

    fn watch_state(&self, watch: WatchId) -> WatchState {
        let mut state = self.local.watch_state(watch);
        let others = self.remotes.iter().flat_map(|remote| &remote.shown);
        for (_, there) in others.filter(|(id, _)| *id == watch) {
            state.kernel_watches += there.kernel_watches;
            for (path, root) in &mut state.roots {
                let known = there.roots.iter().find(|(other, _)| other == path);
                if let (RootState::Elsewhere, Some((_, known))) = (*root, known) {
                    *root = *known;
                }
            }
        }
        state
    }

    fn told(&self) -> u64 {
        self.local.told()
    }

    fn queued(&self) -> u64 {
        self.local.queued()
    }

    fn events_after_all(&self) -> u64 {
        self.stats().events - self.local.stats().events + self.local.events_after_all()
    }

    fn is_quiet(&self) -> bool {
        let is_quiet = |remote: &Remote| match &remote.state {
            State::Here { watcher, next, is_ready } => {
                remote.orders.is_empty() && next.is_none() && !is_ready && watcher.is_quiet()
            }
            State::None { .. } | State::Away => false,
        };
        self.local.is_quiet() && self.remotes.iter().all(is_quiet)
    }

    fn lag(&self, now: Instant) -> Duration {
        self.local.lag(now)
    }

    fn complete_until(&self) -> Option<SystemTime> {
        let remotes = self.remotes.iter().map(|remote| match &remote.state {
            State::Here { watcher, is_ready: false, .. } if remote.orders.is_empty() => {
                watcher.complete_until()
            }
            State::Here { .. } | State::Away | State::None { .. } => None,
        });
        remotes.fold(self.local.complete_until(), |all, one| Some(all?.min(one?)))
    }

    fn stats(&self) -> Stats {
        let mut sum = self.local.stats();
        for remote in &self.remotes {
            let stats = match &remote.state {
                State::Here { watcher, .. } => watcher.stats(),
                State::None { .. } | State::Away => remote.stats,
            };
            sum.add(&stats);
        }
        sum
    }
}

impl Inotify {
    /// Has the watchers elsewhere that know a watch do something about it.
    fn order_where_known(&mut self, watch: WatchId, order: impl Fn() -> Order) {
        for remote in self.remotes.iter_mut().filter(|remote| remote.known.contains(&watch)) {
            remote.orders.push(order());
        }
    }

    fn is_back(&mut self, at: usize, watcher: Box<Watcher>, turn: Turn, now: Instant) {
        let remote = &mut self.remotes[at];
        let overflows = remote.stats.overflows;
        remote.stats = watcher.stats();
        if turn != Turn::Idle || remote.stats.overflows > overflows {
            remote.calm_since = remote.calm_since.map(|_| now);
        }
        remote.watched = remote.known.iter().copied().filter(|&id| watcher.is_watched(id)).collect();
        remote.shown = remote.known.iter().map(|&id| (id, watcher.watch_state(id))).collect();
        let mut next = match turn {
            Turn::Idle => None,
            Turn::More => Some(now),
            Turn::Pause(until) => Some(until),
        };
        if next.is_none() {
            let data = epoll::EventData::new_u64(remote.device);
            let added = self
                .readiness
                .as_ref()
                .map(|readiness| epoll::add(readiness, watcher.inotify_fd(), data, epoll::EventFlags::IN));
            if !matches!(added, Some(Ok(()))) {
                // It cannot be waited for: it is asked from time to time.
                next = Some(now + INSTANCE_RETRY);
            }
        }
        remote.state = State::Here { watcher, next, is_ready: false };
    }

    /// A watcher is gone. What is still its to watch gets a new one.
    fn end_remote(&mut self, at: usize, now: Instant, sink: &mut impl Sink) {
        let remote = self.remotes.swap_remove(at);
        let is_its = |_: &(WatchId, Vec<u8>), place: &mut (u64, Handed)| place.0 == remote.device;
        let left: Vec<_> = self.places.extract_if(is_its).map(|(_, (_, handed))| handed).collect();
        let to = Elsewhere { device: remote.device, point: remote.point };
        for handed in left {
            self.hand_over(Handed { news: News::Everything, ..handed }, to.clone(), now, sink);
        }
    }
}

/// Whether one of two paths is at or below the other one.
fn is_near(of: &[u8], path: &[u8]) -> bool {
    path::is_at_or_below(of, path) || path::is_at_or_below(path, of)
}

impl std::fmt::Debug for Inotify {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.debug_struct("Inotify")
            .field("local", &self.local)
            .field("remotes", &self.remotes.len())
            .finish_non_exhaustive()
    }
}
