//! Lanes and their workers. How they work together stands at the head of the module above.

use std::collections::VecDeque;
use std::num::NonZero;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::time::{Duration, Instant};
use std::{fmt, io, thread};

use hashbrown::HashMap;
use rustix::thread::{Pid, gettid};
use tokio::sync::Notify;

use super::{Filesystems, LaneId};

/// How long the oldest work in a queue waits before another worker joins.
pub(super) const GROWTH: Duration = Duration::from_millis(2);
/// Time between two wake-ups of the loop for reports, while more work waits.
pub(super) const REPORT_PAUSE: Duration = Duration::from_millis(1);
/// Time without progress that makes a worker a stalled one.
pub(super) const STALL: Duration = Duration::from_secs(5);
/// Time between two looks at a worker that is busy with the same work.
pub(super) const LOOK: Duration = Duration::from_secs(1);
/// Pause before the system is asked for a thread again after it had none.
pub(super) const HIRE_RETRY: Duration = Duration::from_secs(1);

/// Work that one worker does. Each that was submitted ends once: with what it reports, or as [`Work::not_performed`].
pub(crate) trait Work<R, K>: Send + Sync {
    /// What it does and to what, for a person: `move '/a' to '/b'`.
    fn about(&self) -> String;
    /// Does it. `kept` is what the worker keeps from one piece of work to the next.
    fn perform(&self, size: Size, kept: &mut K, report: &mut dyn FnMut(R)) -> Fit;
    /// What is reported instead if it cannot be done.
    fn not_performed(&self, why: NotPerformed) -> R;
}

/// How long work takes if what it waits for answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Size {
    /// About a millisecond of a processor at the most.
    Small,
    /// The same, and then until a disk has written it.
    Synced,
    /// As long as it takes.
    Large,
}

impl Size {
    const ALL: [Size; 3] = [Size::Small, Size::Synced, Size::Large];
}

/// Whether work was of the size with which it was submitted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fit {
    /// It was, and is done.
    Done,
    /// It is large; nothing was done or reported yet.
    TooLarge,
}

/// Why work was not done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NotPerformed {
    /// Its queue was full.
    QueueFull,
    /// It panicked, which is a bug.
    Panicked,
}

impl fmt::Display for NotPerformed {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(match self {
            NotPerformed::QueueFull => "too much work waits for this filesystem already",
            NotPerformed::Panicked => "internal error, please report it",
        })
    }
}

/// A closure as work.
pub(crate) struct Once<F, U> {
    about: String,
    run: Mutex<Option<F>>,
    not_performed: U,
}

impl<F, U> Once<F, U> {
    /// `run` gives the report, and `not_performed` gives one where `run` was not called.
    pub(crate) fn new(about: String, run: F, not_performed: U) -> Arc<Once<F, U>> {
        Arc::new(Once { about, run: Mutex::new(Some(run)), not_performed })
    }
}

impl<R, K, F: FnOnce() -> R + Send, U: Fn(NotPerformed) -> R + Send + Sync> Work<R, K> for Once<F, U> {
    fn about(&self) -> String {
        self.about.clone()
    }

    fn perform(&self, _: Size, _: &mut K, report: &mut dyn FnMut(R)) -> Fit {
        let run = self.run.lock().expect("nothing panics while it holds this lock").take();
        report(run.expect("work is performed once")());
        Fit::Done
    }

    fn not_performed(&self, why: NotPerformed) -> R {
        (self.not_performed)(why)
    }
}

/// How much there may be of everything.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    /// Lanes. What comes beyond shares one.
    pub lanes: usize,
    /// Workers for the small work of a lane. More than there are processors only wait for each other.
    pub small_workers: usize,
    /// Workers for what a disk has to write: it writes what many wait for in one go.
    pub synced_workers: usize,
    /// Workers for the large work of a lane: one that takes hours must not hold up one that takes seconds.
    pub large_workers: usize,
    /// Work that waits in one queue. The engine has fewer tasks.
    pub queue: usize,
    /// How long a worker without work stays.
    pub idle: Duration,
    /// Bytes of a worker's stack. The file layer walks trees without recursion; name services have buffers of 64 KiB.
    pub stack: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            lanes: 64,
            small_workers: thread::available_parallelism().map_or(2, NonZero::get).clamp(2, 8),
            synced_workers: 16,
            large_workers: 2,
            queue: 5_000_000,
            idle: Duration::from_secs(10),
            stack: 512 << 10,
        }
    }
}

impl Limits {
    fn workers(&self, size: Size) -> usize {
        match size {
            Size::Small => self.small_workers,
            Size::Synced => self.synced_workers,
            Size::Large => self.large_workers,
        }
    }
}

/// What is to be said about the lanes.
#[derive(Debug)]
pub(crate) enum Notice {
    /// Work waits for a thread, and the system has none; it is tried again.
    NoThread {
        /// How much waits.
        waiting: usize,
        /// Why.
        error: io::Error,
    },
    /// A worker gets on with nothing.
    Stalled {
        /// Its lane.
        lane: LaneId,
        /// What it works on.
        about: String,
        /// Since when.
        since: Instant,
        /// How much waits behind it in its lane.
        waiting: usize,
    },
    /// All workers of a lane get on again.
    Resumed {
        /// What was said to be stalled.
        about: String,
        /// Since when it was.
        since: Instant,
    },
}

/// The loop's side of all lanes. No method waits.
pub(crate) struct Lanes<R, K> {
    shared: Arc<Shared<R, K>>,
    /// What was submitted since the last [`Lanes::tend`].
    fresh: Vec<(LaneId, Size, Queued<R, K>)>,
    limits: Limits,
    /// Which filesystem a path is on.
    pub filesystems: Filesystems,
    /// That there is no thread was said since there was one.
    no_thread_said: bool,
}

struct Shared<R, K> {
    state: Mutex<State<R, K>>,
    /// Wakes the loop.
    reported: Notify,
    idle: Duration,
}

/// What loop and workers share.
struct State<R, K> {
    lanes: HashMap<LaneId, Lane<R, K>>,
    workers_started: u64,
    reports: Vec<R>,
    /// The loop was woken, and has not taken the reports yet.
    is_woken: bool,
    woken_at: Option<Instant>,
}

struct Lane<R, K> {
    /// One for each size, in the order of [`Size::ALL`].
    crews: [Crew<R, K>; 3],
    stall: Option<Stall>,
}

/// A queue and its workers.
struct Crew<R, K> {
    queue: VecDeque<Queued<R, K>>,
    workers: Vec<Worker<R, K>>,
    /// How many of the workers sleep and were not called.
    asleep: usize,
    /// How many of them were called and have not woken yet.
    called: usize,
    wake: Arc<Condvar>,
    /// When a worker was called or started last.
    joined_at: Option<Instant>,
    /// No thread is asked for before.
    hire_from: Option<Instant>,
}

struct Queued<R, K> {
    work: Arc<dyn Work<R, K>>,
    since: Instant,
}

struct Worker<R, K> {
    id: WorkerId,
    /// Its thread, once that runs.
    thread: Option<Pid>,
    busy: Option<Busy<R, K>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct WorkerId(u64);

/// A worker's place: its lane and its queue.
#[derive(Clone, Copy, Debug)]
struct Place {
    lane: LaneId,
    size: Size,
    id: WorkerId,
}

/// What a worker works on.
struct Busy<R, K> {
    work: Arc<dyn Work<R, K>>,
    /// When it was seen to get on last, or began.
    moved_at: Instant,
    look_at: Instant,
    /// What [`switches`] says, and since when it is the same.
    seen: Option<(u64, Instant)>,
    is_stalled: bool,
}

/// That a lane is stalled was said.
struct Stall {
    about: String,
    since: Instant,
}

/// Who comes for waiting work.
enum Call {
    Nobody,
    Sleeper(Arc<Condvar>),
    Newcomer(WorkerId),
}

impl<R: Send + 'static, K: Default + 'static> Lanes<R, K> {
    /// No lane, no thread.
    pub(crate) fn new(limits: Limits) -> Lanes<R, K> {
        let state = State {
            lanes: HashMap::new(),
            workers_started: 0,
            reports: Vec::new(),
            is_woken: false,
            woken_at: None,
        };
        let shared = Shared { state: Mutex::new(state), reported: Notify::new(), idle: limits.idle };
        let filesystems = Filesystems::default();
        Lanes { shared: Arc::new(shared), fresh: Vec::new(), limits, filesystems, no_thread_said: false }
    }

    /// Takes work; [`Lanes::tend`] must follow.
    pub(crate) fn submit(&mut self, lane: LaneId, size: Size, work: Arc<dyn Work<R, K>>, now: Instant) {
        self.fresh.push((lane, size, Queued { work, since: now }));
    }

    /// Hands over what was submitted, lets workers join where work waits too long, and looks after those that take
    /// long.
    pub(crate) fn tend(&mut self, now: Instant) -> Vec<Notice> {
        self.tend_with(now, switches)
    }

    /// `switches` is asked about each worker that has been busy for long.
    pub(super) fn tend_with(&mut self, now: Instant, switches: impl Fn(Pid) -> Option<u64>) -> Vec<Notice> {
        let mut state = self.shared.state();
        for (lane, size, queued) in self.fresh.drain(..) {
            state.queue(lane, size, queued, &self.limits);
        }
        let (mut sleepers, mut newcomers) = (Vec::new(), Vec::new());
        let State { lanes, workers_started, .. } = &mut *state;
        for (lane, size, crew) in lanes.iter_mut().flat_map(|(id, lane)| lane.crews(*id)) {
            match crew.call(self.limits.workers(size), workers_started, now) {
                Call::Nobody => {}
                Call::Sleeper(wake) => sleepers.push(wake),
                Call::Newcomer(id) => newcomers.push(Place { lane, size, id }),
            }
        }
        let due = state.due(now);
        let is_to_look = !due.is_empty() || state.lanes.values().any(|lane| lane.stall.is_some());
        drop(state);
        for wake in sleepers {
            wake.notify_one();
        }
        let mut notices = Vec::new();
        if is_to_look {
            // The workers need the lock meanwhile.
            let seen: Vec<_> =
                due.into_iter().map(|(place, thread)| (place, thread.and_then(&switches))).collect();
            notices = self.shared.state().look(&seen, now);
        }
        notices.extend(newcomers.into_iter().filter_map(|place| self.hire(place, now)));
        notices
    }

    /// When [`Lanes::tend`] is to be called again although nothing was reported.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        let mut state = self.shared.state();
        let crews = state.lanes.iter_mut().flat_map(|(id, lane)| lane.crews(*id));
        crews.filter_map(|(_, size, crew)| crew.deadline(self.limits.workers(size))).min()
    }

    /// Completes when there are reports to take.
    pub(crate) async fn reported(&self) {
        self.shared.reported.notified().await;
    }

    /// All reports since the last call, in their order.
    pub(crate) fn take_reports(&mut self) -> Vec<R> {
        let mut state = self.shared.state();
        state.is_woken = false;
        std::mem::take(&mut state.reports)
    }

    fn hire(&mut self, place: Place, now: Instant) -> Option<Notice> {
        let shared = Arc::clone(&self.shared);
        let name = match place.size {
            Size::Small => "small-work",
            Size::Synced => "synced-work",
            Size::Large => "large-work",
        };
        let thread = thread::Builder::new().name(name.into()).stack_size(self.limits.stack);
        let Err(error) = thread.spawn(move || work(&shared, place)) else {
            self.no_thread_said = false;
            return None;
        };
        let mut state = self.shared.state();
        let crew = state.crew(place.lane, place.size);
        crew.workers.retain(|worker| worker.id != place.id);
        crew.hire_from = Some(now + HIRE_RETRY);
        let waiting = crew.queue.len();
        let is_new = crew.workers.is_empty() && !std::mem::replace(&mut self.no_thread_said, true);
        is_new.then_some(Notice::NoThread { waiting, error })
    }
}

#[cfg(test)]
impl<R, K> Lanes<R, K> {
    /// How much waits in the queues of a lane, by size.
    pub(super) fn waiting(&self, lane: LaneId) -> [usize; 3] {
        let state = self.shared.state();
        state.lanes.get(&lane).map_or([0; 3], |lane| lane.crews.each_ref().map(|crew| crew.queue.len()))
    }

    /// How many workers for small work sleep in a lane.
    pub(super) fn asleep(&self, lane: LaneId) -> usize {
        self.shared.state().lanes.get(&lane).map_or(0, |lane| lane.crews[Size::Small as usize].asleep)
    }

    /// Whether all workers of a lane have gone to sleep in what they work on.
    pub(super) fn all_wait(&self, lane: LaneId) -> bool {
        let state = self.shared.state();
        let is_waiting = |worker: &Worker<R, K>| worker.thread.and_then(switches).is_some();
        state
            .lanes
            .get(&lane)
            .is_some_and(|lane| lane.crews[Size::Small as usize].workers.iter().all(is_waiting))
    }

    /// How many lanes there are.
    pub(super) fn count(&self) -> usize {
        self.shared.state().lanes.len()
    }

    /// Changes the stack of workers that are started from now on; with an absurd one, none can be.
    pub(super) fn set_stack(&mut self, stack: usize) {
        self.limits.stack = stack;
    }
}

impl<R, K> fmt::Debug for Lanes<R, K> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("Lanes").field("limits", &self.limits).finish_non_exhaustive()
    }
}

impl<R, K> Shared<R, K> {
    fn state(&self) -> MutexGuard<'_, State<R, K>> {
        self.state.lock().expect("nothing panics while it holds this lock")
    }
}

impl<R, K> State<R, K> {
    fn queue(&mut self, lane: LaneId, size: Size, queued: Queued<R, K>, limits: &Limits) {
        let has_room = self.lanes.contains_key(&lane) || self.lanes.len() + 1 < limits.lanes;
        let lane = if has_room { lane } else { LaneId::Crowded };
        let crew = self.crew(lane, size);
        if crew.queue.len() < limits.queue {
            crew.queue.push_back(queued);
        } else {
            self.reports.push(queued.work.not_performed(NotPerformed::QueueFull));
        }
    }

    fn crew(&mut self, lane: LaneId, size: Size) -> &mut Crew<R, K> {
        let lane = self.lanes.entry(lane).or_insert_with(Lane::new);
        &mut lane.crews[size as usize]
    }

    /// The workers that are to be looked at, with their threads.
    fn due(&mut self, now: Instant) -> Vec<(Place, Option<Pid>)> {
        let mut due = Vec::new();
        for (lane, size, crew) in self.lanes.iter_mut().flat_map(|(id, lane)| lane.crews(*id)) {
            let workers = crew.workers.iter();
            let workers =
                workers.filter(|worker| worker.busy.as_ref().is_some_and(|busy| busy.look_at <= now));
            due.extend(workers.map(|worker| (Place { lane, size, id: worker.id }, worker.thread)));
        }
        due
    }

    /// Takes in what [`switches`] says of workers, and says what is new about the lanes. What has ended or begun
    /// meanwhile is none of it.
    fn look(&mut self, seen: &[(Place, Option<u64>)], now: Instant) -> Vec<Notice> {
        for (place, switches) in seen {
            let crew = self.lanes.get_mut(&place.lane).map(|lane| &mut lane.crews[place.size as usize]);
            let worker = crew.and_then(|crew| crew.workers.iter_mut().find(|worker| worker.id == place.id));
            let busy = worker.and_then(|worker| worker.busy.as_mut());
            if let Some(busy) = busy.filter(|busy| busy.look_at <= now) {
                busy.saw(*switches, now);
            }
        }
        self.lanes.iter_mut().filter_map(|(id, lane)| lane.look(*id)).collect()
    }

    /// Decides whether the loop is to be woken for the reports now; `more` of the same queue waits.
    fn is_to_wake(&mut self, more: bool, now: Instant) -> bool {
        if self.reports.is_empty() || self.is_woken {
            return false;
        }
        let is_due = !more || self.woken_at.is_none_or(|at| at + REPORT_PAUSE <= now);
        if is_due {
            (self.is_woken, self.woken_at) = (true, Some(now));
        }
        is_due
    }

    /// A worker ends. A lane without workers and work goes with the last one.
    fn leave(&mut self, place: Place) {
        self.crew(place.lane, place.size).workers.retain(|worker| worker.id != place.id);
        self.lanes.retain(|_, lane| !lane.is_empty());
    }
}

impl<R, K> Lane<R, K> {
    fn new() -> Lane<R, K> {
        Lane { crews: std::array::from_fn(|_| Crew::new()), stall: None }
    }

    fn crews(&mut self, id: LaneId) -> impl Iterator<Item = (LaneId, Size, &mut Crew<R, K>)> {
        Size::ALL.into_iter().zip(&mut self.crews).map(move |(size, crew)| (id, size, crew))
    }

    fn is_empty(&self) -> bool {
        self.crews.iter().all(Crew::is_empty)
    }

    /// Says what is new about whether the workers get on.
    fn look(&mut self, lane: LaneId) -> Option<Notice> {
        let workers = self.crews.iter().flat_map(|crew| &crew.workers);
        let busy = workers.filter_map(|worker| worker.busy.as_ref());
        let stalled = busy.filter(|busy| busy.is_stalled).min_by_key(|busy| busy.moved_at);
        match (&self.stall, stalled) {
            (None, Some(busy)) => {
                let (about, since) = (busy.work.about(), busy.moved_at);
                self.stall = Some(Stall { about: about.clone(), since });
                let waiting = self.crews.iter().map(|crew| crew.queue.len()).sum();
                Some(Notice::Stalled { lane, about, since, waiting })
            }
            (Some(_), None) => {
                self.stall.take().map(|Stall { about, since }| Notice::Resumed { about, since })
            }
            (None, None) | (Some(_), Some(_)) => None,
        }
    }
}

impl<R, K> Crew<R, K> {
    fn new() -> Crew<R, K> {
        Crew {
            queue: VecDeque::new(),
            workers: Vec::new(),
            asleep: 0,
            called: 0,
            wake: Arc::default(),
            joined_at: None,
            hire_from: None,
        }
    }

    fn is_empty(&self) -> bool {
        self.queue.is_empty() && self.workers.is_empty()
    }

    /// Decides who comes for the work that waits. A newcomer counts from now on.
    fn call(&mut self, workers_max: usize, workers_started: &mut u64, now: Instant) -> Call {
        if self.joins_at(workers_max).is_none_or(|at| at > now) {
            return Call::Nobody;
        }
        self.joined_at = Some(now);
        if self.asleep > 0 {
            (self.asleep, self.called) = (self.asleep - 1, self.called + 1);
            return Call::Sleeper(Arc::clone(&self.wake));
        }
        *workers_started += 1;
        let id = WorkerId(*workers_started);
        self.workers.push(Worker { id, thread: None, busy: None });
        Call::Newcomer(id)
    }

    /// When another worker is to join.
    fn joins_at(&self, workers_max: usize) -> Option<Instant> {
        let oldest = self.queue.front()?.since;
        let awake = self.workers.len() - self.asleep;
        // Each one that joins is given time to take up what waits.
        let joined_at = self.joined_at.map_or(oldest, |joined_at| joined_at.max(oldest));
        let at = if awake == 0 { oldest } else { joined_at + GROWTH };
        if self.asleep > 0 {
            return Some(at);
        }
        (self.workers.len() < workers_max).then(|| self.hire_from.map_or(at, |from| from.max(at)))
    }

    fn deadline(&self, workers_max: usize) -> Option<Instant> {
        let looks = self.workers.iter().filter_map(|worker| Some(worker.busy.as_ref()?.look_at));
        looks.chain(self.joins_at(workers_max)).min()
    }

    fn worker(&mut self, id: WorkerId) -> &mut Worker<R, K> {
        let found = self.workers.iter_mut().find(|worker| worker.id == id);
        found.expect("a worker stays in its crew until its thread ends")
    }
}

impl<R, K> Busy<R, K> {
    fn new(work: Arc<dyn Work<R, K>>, now: Instant) -> Busy<R, K> {
        Busy { work, moved_at: now, look_at: now + LOOK, seen: None, is_stalled: false }
    }

    /// Takes in what [`switches`] says now. Only looks count, and not time alone: the whole program may have been
    /// stopped.
    fn saw(&mut self, switches: Option<u64>, now: Instant) {
        let is_same = switches.is_some() && self.seen.map(|(switches, _)| switches) == switches;
        if !is_same {
            if switches.is_none() || self.seen.is_some() {
                self.moved_at = now;
            }
            self.seen = switches.map(|switches| (switches, now));
        }
        self.is_stalled = self.seen.is_some_and(|(_, since)| since + STALL <= now + LOOK);
        self.look_at = now + if self.is_stalled { STALL } else { LOOK };
    }
}

/// How often a thread of ours was put to sleep or interrupted (proc_pid_status(5)); nothing if it runs right now, or
/// if that is not known. A thread that waits for something that does not come keeps its number.
fn switches(thread: Pid) -> Option<u64> {
    let status =
        std::fs::read_to_string(format!("/proc/self/task/{}/status", thread.as_raw_nonzero())).ok()?;
    let value = |name: &str| status.lines().find_map(|line| line.strip_prefix(name));
    if value("State:")?.trim_start().starts_with('R') {
        return None;
    }
    let count = |name: &str| value(name)?.trim().parse::<u64>().ok();
    Some(count("voluntary_ctxt_switches:")? + count("nonvoluntary_ctxt_switches:")?)
}

/// A worker's life.
fn work<R, K: Default>(shared: &Shared<R, K>, place: Place) {
    shared.state().crew(place.lane, place.size).worker(place.id).thread = Some(gettid());
    let (mut kept, mut reports, mut too_large) = (K::default(), Vec::new(), None);
    while let Some(work) = next(shared, place, &mut kept, &mut reports, too_large.take()) {
        // What takes long reports as it goes on; what does not reports with the end, in one go.
        let mut report = |report: R| match place.size {
            Size::Small | Size::Synced => reports.push(report),
            Size::Large => shared.report(report),
        };
        let fit = catch_unwind(AssertUnwindSafe(|| work.perform(place.size, &mut kept, &mut report)));
        match fit {
            Ok(Fit::Done) => {}
            Ok(Fit::TooLarge) => too_large = Some(work),
            Err(_) => reports.push(work.not_performed(NotPerformed::Panicked)),
        }
    }
}

impl<R, K> Shared<R, K> {
    fn report(&self, report: R) {
        let mut state = self.state();
        state.reports.push(report);
        let wake = state.is_to_wake(false, Instant::now());
        drop(state);
        if wake {
            self.reported.notify_one();
        }
    }
}

/// Hands over what the last work reported and takes the next: waits for it, or gives nothing if none came for long.
fn next<R, K: Default>(
    shared: &Shared<R, K>,
    place: Place,
    kept: &mut K,
    reports: &mut Vec<R>,
    too_large: Option<Arc<dyn Work<R, K>>>,
) -> Option<Arc<dyn Work<R, K>>> {
    let mut now = Instant::now();
    let mut state = shared.state();
    state.reports.append(reports);
    if let Some(work) = too_large {
        state.crew(place.lane, Size::Large).queue.push_back(Queued { work, since: now });
        // The loop lets a worker come for it.
        if !std::mem::replace(&mut state.is_woken, true) {
            shared.reported.notify_one();
        }
    }
    state.crew(place.lane, place.size).worker(place.id).busy = None;
    let mut keeps_something = true;
    loop {
        let crew = state.crew(place.lane, place.size);
        let next = crew.queue.pop_front().map(|queued| queued.work);
        if let Some(work) = &next {
            crew.worker(place.id).busy = Some(Busy::new(Arc::clone(work), now));
        }
        let more = !crew.queue.is_empty();
        let wake = state.is_to_wake(more, now);
        if next.is_none() && !wake && !keeps_something {
            state = sleep(shared, state, place)?;
            now = Instant::now();
            continue;
        }
        // The loop takes this lock when it wakes.
        drop(state);
        if wake {
            shared.reported.notify_one();
        }
        if next.is_some() {
            return next;
        }
        // What is kept may hold filesystems in use: it is dropped before the worker sleeps, and not below the lock.
        if std::mem::replace(&mut keeps_something, false) {
            *kept = K::default();
        }
        state = shared.state();
    }
}

/// Sleeps until called. A worker that nobody calls for long ends.
fn sleep<'a, R, K>(
    shared: &'a Shared<R, K>,
    mut state: MutexGuard<'a, State<R, K>>,
    place: Place,
) -> Option<MutexGuard<'a, State<R, K>>> {
    let until = Instant::now() + shared.idle;
    let crew = state.crew(place.lane, place.size);
    crew.asleep += 1;
    let wake = Arc::clone(&crew.wake);
    loop {
        let left = until.saturating_duration_since(Instant::now());
        state = wake.wait_timeout(state, left).expect("nothing panics while it holds this lock").0;
        let crew = state.crew(place.lane, place.size);
        if crew.called > 0 {
            crew.called -= 1;
            return Some(state);
        }
        if Instant::now() >= until {
            crew.asleep -= 1;
            state.leave(place);
            return None;
        }
    }
}
