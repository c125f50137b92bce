//! File rules: what the loop hands over, who does it, and the reports that come back.
//!
//! Work on one source path runs in the order in which it came; different paths run beside each other.
//!
//! # Who works
//!
//! To wake a thread costs several times what the move of a file costs. So the loop's own thread takes part ([`Share`]): it
//! does what is done with a handful of system calls ([`files::Request::brief`]), for at most [`SHARE_SPAN`] before it looks
//! after everything else again. That is safe only because somebody else leads the loop on where one of these calls does
//! not come back (`daemon::relay`). What is not brief, and what comes while the loop may not take part, is left to workers.
//! One more of them joins (`staff`)
//!
//! - where nothing was taken up for a while though work waits: all that work are on something long, and a huge copy
//!   must not hold up a small one. Each one more is waited for a little longer: on a busy machine a worker that stands
//!   still may only be waiting for a processor;
//! - where work gets on, but what waits will take too long at the pace of the last moments: up to one for each processor,
//!   and none for what is done as fast as files can come;
//! - beyond that where each order takes so long that it must be the disk that is waited for.
//!
//! Workers without work sleep, and end after [`IDLE`].
//!
//! The other way, the loop is woken for reports when no order waits any more; while some do, it looks by itself, see
//! [`FileWorkers::deadline`].

mod staff;

use std::collections::VecDeque;
use std::num::NonZero;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock};
use std::thread;
use std::time::{Duration, Instant};

use files::{Done, Held, Identity, Request};
use hashbrown::hash_map::{Entry, EntryRef, HashMap};
use syscall::signals;
use tokio::sync::Notify;

use crate::config::{FileRule, FileRules};
use crate::log::{Escaped, Level};

use staff::{Call, PATIENCE, Pace, Staff, WORKERS_MAX, Waiting};

/// How long the loop's own thread works before it looks after everything else. Two writers at full speed make some 1,000 events
/// meanwhile, and the kernel's queue holds 16,384.
const SHARE_SPAN: Duration = Duration::from_millis(1);
/// The loop's thread leaves work to the workers for a while after one order of its own has taken so long: a disk or a server
/// may be slow, and everything else would wait for it with us.
const SHARE_SLOW: Duration = Duration::from_millis(1);
/// That while, the first time: it may have been the processor that was busy elsewhere. It doubles each time until an order of
/// its own is quick again.
const SHARE_REST_MIN: Duration = Duration::from_millis(10);
/// The same at the most.
const SHARE_REST_MAX: Duration = Duration::from_secs(1);
/// Reports for which the loop is woken at any rate.
const REPORTS_UNTOLD_MAX: usize = 256;
/// How long a worker without work stays.
const IDLE: Duration = Duration::from_secs(10);
/// A worker's stack: the file layer walks trees without recursion.
const STACK: usize = 256 << 10;

/// What a worker is to do.
#[derive(Debug)]
pub(crate) struct Order {
    /// Who asked for it.
    pub task: u64,
    /// The scheduler's rules and the one that matched.
    pub rules: Arc<FileRules>,
    /// Place in `rules`.
    pub rule: usize,
    /// The event's path.
    pub source: Arc<[u8]>,
    /// Length of the watch root, with which `source` begins.
    pub root_len: usize,
    /// Do nothing if the source is still this.
    pub unless_same_as: Option<Identity>,
    /// Least severity of records that are wanted.
    pub level: Level,
    /// Set to end it early.
    pub stop: AtomicBool,
}

/// What a worker tells the loop.
#[derive(Debug)]
pub(crate) enum Report {
    /// A line for the log.
    Record {
        /// Whose.
        task: u64,
        /// Severity.
        level: Level,
        /// Escaped text.
        text: String,
    },
    /// The work is done.
    Ended {
        /// Whose.
        task: u64,
        /// The source that was acted on; `Err` holds the text of what went wrong.
        result: Result<Done, String>,
    },
    /// There is no worker, and none can be hired now; nothing is lost.
    Nobody {
        /// How many orders wait.
        waiting: usize,
        /// Why.
        error: std::io::Error,
    },
    /// Temporary files of an earlier run were removed.
    Swept {
        /// Below which directory.
        directory: Vec<u8>,
        /// How many.
        removed: u64,
    },
}

/// The pool. All its methods are called by the loop and none of them waits.
#[derive(Debug, Default)]
pub(crate) struct FileWorkers {
    shared: Arc<Shared>,
    /// Source paths that are being worked on, each with what came for it meanwhile.
    busy: HashMap<Arc<[u8]>, VecDeque<Arc<Order>>>,
    /// What was ordered and has not ended, by task.
    orders: HashMap<u64, Arc<Order>>,
    /// What was ordered since the last [`FileWorkers::balance`].
    fresh: VecDeque<Arc<Order>>,
    /// When the loop looked last whether workers get on, or had the first order.
    looked: Option<Instant>,
}

#[derive(Debug, Default)]
struct Shared {
    queue: Mutex<Queue>,
    reported: Notify,
}

/// Both ways between loop and workers.
#[derive(Debug, Default)]
struct Queue {
    /// For anybody. The loop's thread finds out what is not brief.
    orders: Lane,
    /// For workers only.
    lengthy: Lane,
    staff: Staff,
    /// From when on the loop's thread takes part; never where nobody would lead on for it.
    share_from: Option<Instant>,
    /// How long it took no part the last time; nothing where it has not been slow since.
    rested: Duration,
    reports: Vec<Report>,
    /// That nobody can be hired was reported since somebody was.
    nobody_said: bool,
    /// The loop was woken for `reports`.
    told: bool,
}

/// Orders of one kind, in their order.
#[derive(Debug, Default)]
struct Lane {
    orders: VecDeque<Arc<Order>>,
    pace: Pace,
}

impl Lane {
    fn take(&mut self) -> Option<Arc<Order>> {
        let order = self.orders.pop_front()?;
        self.pace.took_one(Instant::now());
        Some(order)
    }
}

impl Queue {
    fn waiting(&self) -> usize {
        self.orders.orders.len() + self.lengthy.orders.len()
    }

    fn loop_takes_part(&self, now: Instant) -> bool {
        // Each time that it is late, it is one worker more.
        self.share_from.is_some_and(|from| from <= now) && self.staff.workers() < WORKERS_MAX
    }

    /// The loop's thread takes no part for a while.
    fn rest(&mut self, now: Instant) {
        self.rested = (self.rested * 2).clamp(SHARE_REST_MIN, SHARE_REST_MAX);
        self.share_from = Some(now + self.rested);
    }

    /// Decides who is to come for what waits.
    fn call(&mut self, now: Instant) -> [Call; 2] {
        let loop_takes_part = self.loop_takes_part(now);
        let Queue { orders, lengthy, staff, .. } = self;
        let mut call = |lane: &mut Lane, loop_takes_part| {
            let waiting = Waiting { orders: lane.orders.len(), loop_takes_part };
            staff.call(&mut lane.pace, waiting, processors(), now)
        };
        [call(orders, loop_takes_part), call(lengthy, false)]
    }

    /// Whether the loop is to be woken now.
    fn is_to_tell(&mut self) -> bool {
        let due = self.waiting() == 0 || self.reports.len() >= REPORTS_UNTOLD_MAX;
        due && !self.reports.is_empty() && !std::mem::replace(&mut self.told, true)
    }

    /// The next order for a worker. What is lengthy has been looked at before, so it has waited longer.
    fn take(&mut self) -> Option<Arc<Order>> {
        self.lengthy.take().or_else(|| self.orders.take())
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().expect("no thread panics while it holds this lock")
    }

    fn report(&self, report: Report) {
        let mut queue = self.lock();
        queue.reports.push(report);
        self.tell(queue);
    }

    /// Wakes the loop, if it is time to; outside of the lock, which it takes next.
    fn tell(&self, mut queue: MutexGuard<'_, Queue>) {
        let tell = queue.is_to_tell();
        drop(queue);
        if tell {
            self.reported.notify_one();
        }
    }
}

impl FileWorkers {
    /// Takes an order; [`FileWorkers::balance`] must follow.
    pub(crate) fn order(&mut self, order: Order, now: Instant) {
        let order = Arc::new(order);
        self.looked.get_or_insert(now);
        self.orders.insert(order.task, Arc::clone(&order));
        match self.busy.entry(Arc::clone(&order.source)) {
            Entry::Occupied(mut waiting) => waiting.get_mut().push_back(order),
            Entry::Vacant(free) => {
                free.insert(VecDeque::new());
                self.fresh.push_back(order);
            }
        }
    }

    /// Removes, on a thread of its own, what an earlier run has left in these directories and below them.
    pub(crate) fn sweep(&self, directories: Vec<Vec<u8>>) {
        if directories.is_empty() {
            return;
        }
        let shared = Arc::clone(&self.shared);
        let sweep = move || {
            let _ = signals::block();
            for directory in directories {
                // A destination that does not exist yet holds nothing of ours.
                let Ok(swept) = files::sweep(&directory, true, &AtomicBool::new(false)) else { continue };
                if swept.removed > 0 {
                    shared.report(Report::Swept { directory, removed: swept.removed });
                }
            }
        };
        // Without a thread (EAGAIN) it is left to the next start.
        let _ = thread::Builder::new().name("sweeper".into()).stack_size(STACK).spawn(sweep);
    }

    /// Asks work to end early; its report comes all the same.
    pub(crate) fn stop(&self, task: u64) {
        if let Some(order) = self.orders.get(&task) {
            order.stop.store(true, Ordering::Relaxed);
        }
    }

    /// Whether work was ordered that has not ended, so that there may be reports.
    pub(crate) fn is_busy(&self) -> bool {
        !self.orders.is_empty()
    }

    /// Completes when there are reports to take.
    pub(crate) async fn reported(&self) {
        self.shared.reported.notified().await;
    }

    /// All reports since the last call, in their order.
    pub(crate) fn take_reports(&mut self) -> Vec<Report> {
        let mut queue = self.shared.lock();
        queue.told = false;
        let reports = std::mem::take(&mut queue.reports);
        drop(queue);
        for report in &reports {
            if let Report::Ended { task, .. } = report {
                self.release(*task);
            }
        }
        reports
    }

    /// When [`FileWorkers::balance`] and [`FileWorkers::take_reports`] are to be called again, while work waits.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        let looked = self.looked.filter(|_| self.is_busy())?;
        if !self.fresh.is_empty() {
            return Some(looked);
        }
        let queue = self.shared.lock();
        // Those that come take one order each, which is all that a lone file needs.
        (queue.waiting() > queue.staff.coming()).then(|| looked + PATIENCE)
    }

    /// Hands over what was ordered, and lets another worker join if the work does not get on.
    pub(crate) fn balance(&mut self, now: Instant) {
        if !self.is_busy() {
            return;
        }
        self.looked = Some(now);
        let mut queue = self.shared.lock();
        if queue.orders.orders.is_empty() {
            let takes_part = queue.loop_takes_part(now);
            let pace = &mut queue.orders.pace;
            if takes_part { pace.begin(now) } else { pace.count_from(now) }
        }
        queue.orders.orders.append(&mut self.fresh);
        let calls = queue.call(now);
        drop(queue);
        for call in calls {
            match call {
                Call::Nobody => {}
                Call::Sleeper(thread) => thread.unpark(),
                Call::Newcomer => self.hire(now),
            }
        }
    }

    fn hire(&self, now: Instant) {
        let shared = Arc::clone(&self.shared);
        let work = move || {
            // A signal that the kernel gives to a thread that hangs does not reach the loop.
            let _ = signals::block();
            shared.lock().staff.came();
            work(&shared);
        };
        let hired = thread::Builder::new().name("file-worker".into()).stack_size(STACK).spawn(work);
        let mut queue = self.shared.lock();
        let Err(error) = hired else {
            queue.nobody_said = false;
            return;
        };
        queue.staff.did_not_come();
        // Without a thread (EAGAIN) the work waits for a worker that there is, or for the next look.
        let is_left = !queue.loop_takes_part(now) || !queue.lengthy.orders.is_empty();
        if queue.staff.workers() == 0 && is_left && !queue.nobody_said {
            queue.nobody_said = true;
            let waiting = queue.waiting();
            queue.reports.push(Report::Nobody { waiting, error });
            self.shared.tell(queue);
        }
    }

    /// Whether the loop's own thread is to work now, with [`Share::work`].
    pub(crate) fn has_share(&self, now: Instant) -> bool {
        let queue = self.is_busy().then(|| self.shared.lock());
        queue.is_some_and(|queue| !queue.orders.orders.is_empty() && queue.loop_takes_part(now))
    }

    /// What the loop's own thread takes part with.
    pub(crate) fn share(&self) -> Share {
        Share(Arc::clone(&self.shared))
    }

    /// The source path is free: what waited for it goes next.
    fn release(&mut self, task: u64) {
        let Some(order) = self.orders.remove(&task) else { return };
        let EntryRef::Occupied(mut waiting) = self.busy.entry_ref(&order.source) else { return };
        match waiting.get_mut().pop_front() {
            Some(next) => self.fresh.push_back(next),
            None => {
                waiting.remove();
            }
        }
    }
}

/// More workers than this only get in each other's way where the work is the processor's.
fn processors() -> usize {
    static PROCESSORS: OnceLock<usize> = OnceLock::new();
    *PROCESSORS.get_or_init(|| thread::available_parallelism().map_or(1, NonZero::get).min(WORKERS_MAX))
}

/// The part of the loop's own thread in the work.
#[derive(Debug)]
pub(crate) struct Share(Arc<Shared>);

impl Share {
    /// Lets the loop's thread take part: somebody leads on if it does not come back.
    pub(crate) fn allow(&self, from: Instant) {
        self.0.lock().share_from = Some(from);
    }

    /// Leaves everything to the workers for a while.
    pub(crate) fn rest(&self, now: Instant) {
        self.0.lock().rest(now);
    }

    /// Works off what is brief, for [`SHARE_SPAN`].
    pub(crate) fn work(&self) {
        let mut held = Held::default();
        let mut now = Instant::now();
        let until = now + SHARE_SPAN;
        while now < until {
            let Some(order) = self.0.lock().orders.take() else { break };
            let mut reports = Vec::new();
            let outcome = act(&order, Span::Brief, &mut held, &mut |report| reports.push(report));
            let (began, mut queue) = (now, self.0.lock());
            now = Instant::now();
            queue.reports.append(&mut reports);
            match outcome {
                Some(result) => queue.reports.push(Report::Ended { task: order.task, result }),
                None => queue.lengthy.orders.push_back(order),
            }
            if now - began >= SHARE_SLOW {
                return queue.rest(now);
            }
            queue.rested = Duration::ZERO;
        }
    }

    /// Whoever works is late: it counts as a worker from now on, and the loop leaves work to them for a while.
    pub(crate) fn is_late(&self, now: Instant) {
        let mut queue = self.0.lock();
        queue.staff.joined();
        queue.rest(now);
    }

    /// Works on as the worker that [`Share::is_late`] made of this thread, until nobody calls for it any more.
    pub(crate) fn go_on(&self) {
        self.0.tell(self.0.lock());
        work(&self.0);
    }
}

fn work(shared: &Shared) {
    let mut held = Held::default();
    let mut ended = None;
    while let Some(order) = next(shared, &mut held, ended.take()) {
        let outcome = act(&order, Span::Any, &mut held, &mut |report| shared.report(report));
        let result = outcome.expect("only what has to be brief is given back");
        ended = Some(Report::Ended { task: order.task, result });
    }
}

/// Reports the end of an order and takes the next one, in one step: waits for it, or gives `None` after [`IDLE`].
fn next(shared: &Shared, held: &mut Held, ended: Option<Report>) -> Option<Arc<Order>> {
    let mut queue = shared.lock();
    queue.reports.extend(ended);
    loop {
        if let Some(order) = queue.take() {
            shared.tell(queue);
            return Some(order);
        }
        queue.staff.sleeps(thread::current());
        shared.tell(queue);
        // What is held open keeps filesystems from being unmounted.
        held.release();
        queue = sleep(shared)?;
    }
}

/// Sleeps until called. A worker that nobody calls for leaves.
fn sleep(shared: &Shared) -> Option<MutexGuard<'_, Queue>> {
    let own = thread::current().id();
    let until = Instant::now() + IDLE;
    loop {
        let left = until.saturating_duration_since(Instant::now());
        thread::park_timeout(left);
        let mut queue = shared.lock();
        if queue.staff.is_called(own) {
            queue.staff.came();
            return Some(queue);
        }
        // A thread may wake for no reason.
        if left.is_zero() && queue.staff.leaves(own) {
            return None;
        }
    }
}

/// How long an order may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Span {
    Any,
    Brief,
}

/// Carries an order out; nothing if it would take longer than it may.
fn act(
    order: &Order,
    span: Span,
    held: &mut Held,
    report: &mut dyn FnMut(Report),
) -> Option<Result<Done, String>> {
    // A bug in the file layer must cost one task and not a worker that everything else waits for.
    let outcome =
        std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| perform(order, span, held, report)));
    match outcome {
        Ok(Err(Failure::Lengthy)) => None,
        Ok(Err(Failure::Text(text))) => Some(Err(text)),
        Ok(Ok(done)) => Some(Ok(done)),
        Err(_) => Some(Err("internal error of the file layer, please report it".to_owned())),
    }
}

/// Why an order was not carried out.
enum Failure {
    /// It would take longer than it may.
    Lengthy,
    /// What went wrong.
    Text(String),
}

/// Expands the rule's destination and lets the file layer act.
fn perform(
    order: &Order,
    span: Span,
    held: &mut Held,
    report: &mut dyn FnMut(Report),
) -> Result<Done, Failure> {
    let pattern = &order.rules.patterns.patterns()[order.rule];
    let FileRule { template, rule, .. } = &order.rules.rules[order.rule];
    let (destination, trusted_len) = match rule.action {
        files::Action::Delete => (Vec::new(), 0),
        files::Action::Move | files::Action::Copy => {
            let template = template.as_ref().map_err(|text| Failure::Text(text.clone()))?;
            let substituted = pattern.sub_parts(template, &order.source);
            let substituted = substituted.map_err(|error| Failure::Text(error.to_string()))?;
            (substituted.bytes, substituted.literal_prefix_len)
        }
    };
    let request = Request {
        rule,
        root: &order.source[..order.root_len],
        source: &order.source,
        destination: &destination,
        trusted_len,
        stop: &order.stop,
        unless_same_as: order.unless_same_as.as_ref(),
        brief: span == Span::Brief,
    };
    let done = files::perform(&request, held, &mut |record: files::Record<'_>| {
        report_of(order, &record).into_iter().for_each(&mut *report);
    });
    done.map_err(|error| match error {
        files::Error::Lengthy => Failure::Lengthy,
        error => Failure::Text(error.to_string()),
    })
}

/// What the loop is told of a record, unless nobody wants to read it.
fn report_of(order: &Order, record: &files::Record<'_>) -> Option<Report> {
    let level = match record {
        files::Record::CreateDirectory(_)
        | files::Record::Move { .. }
        | files::Record::Copy { .. }
        | files::Record::Delete(_) => Level::INFO,
        files::Record::Chmod(_) | files::Record::Chown { .. } => Level::DEBUG,
        files::Record::Warning(_) => Level::WARNING,
    };
    let text = || Escaped(record.to_string().as_bytes()).to_string();
    (level >= order.level).then(|| Report::Record { task: order.task, level, text: text() })
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use pattern::{Pattern, PatternSet, Template};

    use super::*;

    /// An order to do something to a file.
    fn order(rules: &Arc<FileRules>, task: u64, directory: &Path, name: &str) -> Order {
        use std::os::unix::ffi::OsStrExt;
        Order {
            task,
            rules: Arc::clone(rules),
            rule: 0,
            source: directory.join(name).as_os_str().as_bytes().into(),
            root_len: directory.as_os_str().len(),
            unless_same_as: None,
            level: Level::WARNING,
            stop: AtomicBool::new(false),
        }
    }

    /// One rule for every file; `f` goes to `copy of f`.
    fn rules(action: files::Action) -> Arc<FileRules> {
        let pattern = Pattern::new(b"^(.*/)(.*)$").unwrap();
        let template = Ok(Template::new(br"\1copy of \2", &pattern).unwrap());
        let rule = files::Rule::new(action);
        let rules = vec![FileRule { template, rule, at: None }];
        Arc::new(FileRules { patterns: PatternSet::new(vec![pattern]), rules })
    }

    /// Takes reports until so many orders have ended; gives their tasks and whether they succeeded.
    fn ends(
        workers: &mut FileWorkers,
        count: usize,
        mut turn: impl FnMut(&mut FileWorkers),
    ) -> Vec<(u64, bool)> {
        let deadline = Instant::now() + Duration::from_secs(30);
        let mut ended = Vec::new();
        while ended.len() < count {
            assert!(Instant::now() < deadline, "{} of {count} orders have ended: {workers:?}", ended.len());
            for report in workers.take_reports() {
                match report {
                    Report::Ended { task, result } => ended.push((task, result.is_ok())),
                    Report::Record { .. } | Report::Nobody { .. } | Report::Swept { .. } => {}
                }
            }
            turn(workers);
            thread::yield_now();
        }
        ended
    }

    #[test]
    fn a_lone_order_needs_no_second_look() {
        let (directory, rules) = (tempfile::tempdir().unwrap(), rules(files::Action::Delete));
        let mut workers = FileWorkers::default();
        for task in 0..500 {
            std::fs::write(directory.path().join("f"), "").unwrap();
            workers.order(order(&rules, task, directory.path(), "f"), Instant::now());
            assert!(workers.deadline().is_some_and(|at| at <= Instant::now()), "it is not handed over yet");
            workers.balance(Instant::now());
            assert_eq!(workers.deadline(), None, "somebody comes for it");
            assert_eq!(ends(&mut workers, 1, |_| {}), [(task, true)]);
        }
        assert!(!workers.is_busy() && workers.busy.is_empty() && workers.fresh.is_empty());
        assert_eq!(workers.shared.lock().staff.workers(), 1, "one is enough");
    }

    #[test]
    fn the_loops_thread_does_what_is_brief_and_calls_nobody() {
        let (directory, rules) = (tempfile::tempdir().unwrap(), rules(files::Action::Delete));
        let mut workers = FileWorkers::default();
        let share = workers.share();
        share.allow(Instant::now());
        assert!(!workers.has_share(Instant::now()), "there is nothing to do");
        for task in 0..100 {
            std::fs::write(directory.path().join("f"), "").unwrap();
            workers.order(order(&rules, task, directory.path(), "f"), Instant::now());
            workers.balance(Instant::now());
            // Where the processor was elsewhere for a moment, it leaves one or two to a worker.
            while workers.has_share(Instant::now()) {
                share.work();
            }
            assert_eq!(ends(&mut workers, 1, |workers| workers.balance(Instant::now())), [(task, true)]);
        }
        assert!(!workers.is_busy() && workers.shared.lock().reports.is_empty());
    }

    #[test]
    fn the_loops_thread_leaves_what_is_lengthy_to_a_worker() {
        let (directory, rules) = (tempfile::tempdir().unwrap(), rules(files::Action::Copy));
        std::fs::write(directory.path().join("large"), vec![1; 1 << 20]).unwrap();
        let mut workers = FileWorkers::default();
        let share = workers.share();
        share.allow(Instant::now());
        workers.order(order(&rules, 7, directory.path(), "large"), Instant::now());
        workers.balance(Instant::now());
        assert_eq!(workers.shared.lock().staff.workers(), 0, "nobody knows yet that it is lengthy");
        share.work();
        assert!(workers.take_reports().is_empty() && !directory.path().join("copy of large").exists());
        assert!(workers.deadline().is_some(), "it is looked after");
        assert_eq!(ends(&mut workers, 1, |workers| workers.balance(Instant::now())), [(7, true)]);
        assert_eq!(std::fs::metadata(directory.path().join("copy of large")).unwrap().len(), 1 << 20);
        assert_ne!(workers.shared.lock().staff.workers(), 0);
    }

    #[test]
    fn the_loops_thread_stays_away_longer_each_time_that_it_was_slow() {
        let mut queue = Queue { share_from: Some(Instant::now()), ..Queue::default() };
        let now = Instant::now();
        assert!(queue.loop_takes_part(now));
        let mut rests = Vec::new();
        for _ in 0..9 {
            queue.rest(now);
            assert!(!queue.loop_takes_part(now) && queue.loop_takes_part(now + queue.rested));
            rests.push(queue.rested.as_millis());
        }
        assert_eq!(rests, [10, 20, 40, 80, 160, 320, 640, 1000, 1000]);
        assert!(!Queue::default().loop_takes_part(now), "not where nobody leads on for it");
    }

    #[test]
    fn who_was_late_goes_on_as_a_worker_until_nobody_calls() {
        let (directory, rules) = (tempfile::tempdir().unwrap(), rules(files::Action::Delete));
        let mut workers = FileWorkers::default();
        let share = workers.share();
        share.allow(Instant::now());
        share.is_late(Instant::now());
        assert_eq!(workers.shared.lock().staff.workers(), 1);
        let late = thread::spawn(move || share.go_on());
        std::fs::write(directory.path().join("f"), "").unwrap();
        workers.order(order(&rules, 1, directory.path(), "f"), Instant::now());
        assert_eq!(ends(&mut workers, 1, |workers| workers.balance(Instant::now())), [(1, true)]);
        drop(workers);
        late.thread().unpark();
        assert!(!late.is_finished(), "it stays for a while");
    }

    #[test]
    fn a_burst_ends_whole_and_each_path_in_its_order() {
        let (directory, rules) = (tempfile::tempdir().unwrap(), rules(files::Action::Delete));
        let mut workers = FileWorkers::default();
        for task in 0..3_000 {
            let name = format!("f{}", task % 1_000);
            std::fs::write(directory.path().join(&name), "").unwrap();
            workers.order(order(&rules, task, directory.path(), &name), Instant::now());
        }
        let ended = ends(&mut workers, 3_000, |workers| workers.balance(Instant::now()));
        for task in 0..3_000 {
            let place = ended.iter().position(|(other, _)| *other == task).unwrap();
            assert_eq!(ended[place].1, task < 1_000, "the first of three deletes the file");
            let next = ended.iter().position(|(other, _)| *other == task + 1_000);
            assert!(next.is_none_or(|next| place < next), "{task} and the next one on its path");
        }
    }
}
