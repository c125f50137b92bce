//! File rules on worker threads: the loop hands work over and takes reports back, neither waits for the other.
//!
//! Work on one source path runs in the order in which it came; different paths run beside each other. A few small files
//! are served by one worker, which costs least; when no work was taken up for [`PATIENCE`] another one joins, so that a
//! huge copy never holds up a small one, and when work has waited for [`BACKLOG`], up to one for each processor. Idle
//! workers end after [`IDLE`].
//!
//! A wake-up costs more than a small file. So the loop is woken for reports when no order waits any more; while some
//! do, it looks by itself, see [`FileWorkers::deadline`].

use std::collections::{HashMap, VecDeque};
use std::num::NonZero;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock};
use std::thread;
use std::time::{Duration, Instant};

use files::{Done, Identity, Request};
use tokio::sync::Notify;

use crate::config::{FileRule, FileRules};
use crate::log::{Escaped, Level};

/// Threads at the most; each one may be busy with a copy of hours.
const WORKERS_MAX: usize = 16;
/// How long nothing is taken up, though work waits, before another worker joins.
const PATIENCE: Duration = Duration::from_millis(2);
/// How long work waits before another worker joins although those that are there get on.
const BACKLOG: Duration = Duration::from_millis(20);
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
    /// When the loop looked last whether workers get on, and how many orders they had taken up by then.
    looked: Option<(Instant, u64)>,
}

#[derive(Debug, Default)]
struct Shared {
    queue: Mutex<Queue>,
    wake: Condvar,
    reported: Notify,
}

/// Both ways between loop and workers.
#[derive(Debug, Default)]
struct Queue {
    orders: VecDeque<(Instant, Arc<Order>)>,
    /// Orders that were taken up, ever.
    taken: u64,
    workers: usize,
    idle: usize,
    reports: Vec<Report>,
    /// The loop was woken for `reports`.
    told: bool,
}

impl Queue {
    /// Whether the loop is to be woken now.
    fn is_to_tell(&mut self) -> bool {
        let due = self.orders.is_empty() || self.reports.len() >= REPORTS_UNTOLD_MAX;
        due && !self.reports.is_empty() && !std::mem::replace(&mut self.told, true)
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
    /// Hands work over.
    pub(crate) fn order(&mut self, order: Order, now: Instant) {
        let order = Arc::new(order);
        self.orders.insert(order.task, Arc::clone(&order));
        if let Some(waiting) = self.busy.get_mut(&order.source) {
            return waiting.push_back(order);
        }
        self.busy.insert(Arc::clone(&order.source), VecDeque::new());
        self.enqueue(order, now);
    }

    /// Removes, on a thread of its own, what an earlier run has left in these directories and below them.
    pub(crate) fn sweep(&self, directories: Vec<Vec<u8>>) {
        if directories.is_empty() {
            return;
        }
        let shared = Arc::clone(&self.shared);
        let sweep = move || {
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
    pub(crate) fn take_reports(&mut self, now: Instant) -> Vec<Report> {
        let mut queue = self.shared.lock();
        queue.told = false;
        let reports = std::mem::take(&mut queue.reports);
        drop(queue);
        for report in &reports {
            if let Report::Ended { task, .. } = report {
                self.release(*task, now);
            }
        }
        reports
    }

    /// When [`FileWorkers::balance`] and [`FileWorkers::take_reports`] are to be called again, while work waits.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        let (looked, _) = self.looked.filter(|_| self.is_busy())?;
        (!self.shared.lock().orders.is_empty()).then(|| looked + PATIENCE)
    }

    /// Lets another worker join if the work does not get on.
    pub(crate) fn balance(&mut self, now: Instant) {
        let Some((looked, taken)) = self.looked.filter(|_| self.is_busy()) else { return };
        if now < looked + PATIENCE {
            return;
        }
        let mut queue = self.shared.lock();
        self.looked = Some((now, queue.taken));
        let Some((since, _)) = queue.orders.front_mut() else { return };
        let is_long = *since + BACKLOG <= now;
        if is_long {
            // Counted anew from here, so that one joins at a time.
            *since = now;
        }
        let is_stuck = queue.taken == taken;
        if (is_stuck && queue.workers < WORKERS_MAX) || (is_long && queue.workers < processors()) {
            self.hire(queue);
        }
    }

    fn enqueue(&mut self, order: Arc<Order>, now: Instant) {
        let mut queue = self.shared.lock();
        if queue.orders.is_empty() {
            self.looked = Some((now, queue.taken));
        }
        queue.orders.push_back((now, order));
        if queue.idle > 0 {
            drop(queue);
            self.shared.wake.notify_one();
        } else if queue.workers == 0 {
            self.hire(queue);
        }
    }

    fn hire(&self, mut queue: MutexGuard<'_, Queue>) {
        let shared = Arc::clone(&self.shared);
        let worker =
            thread::Builder::new().name("file-worker".into()).stack_size(STACK).spawn(move || work(&shared));
        // Without a thread (EAGAIN) the work waits for one that exists or for the next look.
        if worker.is_ok() {
            queue.workers += 1;
        }
    }

    /// The source path is free: what waited for it goes next.
    fn release(&mut self, task: u64, now: Instant) {
        let Some(order) = self.orders.remove(&task) else { return };
        let Some(waiting) = self.busy.get_mut(&order.source) else { return };
        match waiting.pop_front() {
            Some(next) => self.enqueue(next, now),
            None => {
                self.busy.remove(&order.source);
            }
        }
    }
}

/// More workers than this only get in each other's way where the work is the processor's.
fn processors() -> usize {
    static PROCESSORS: OnceLock<usize> = OnceLock::new();
    *PROCESSORS.get_or_init(|| thread::available_parallelism().map_or(1, NonZero::get).min(WORKERS_MAX))
}

fn work(shared: &Shared) {
    while let Some(order) = next(shared) {
        let task = order.task;
        // A bug in the file layer must cost one task and not a worker that everything else waits for.
        let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            perform(&order, &mut |level, text| shared.report(Report::Record { task, level, text }))
        }));
        let result =
            outcome.unwrap_or_else(|_| Err("internal error of the file layer, please report it".to_owned()));
        shared.report(Report::Ended { task, result });
    }
}

fn next(shared: &Shared) -> Option<Arc<Order>> {
    let mut queue = shared.lock();
    loop {
        if let Some((_, order)) = queue.orders.pop_front() {
            queue.taken += 1;
            shared.tell(queue);
            return Some(order);
        }
        queue.idle += 1;
        let (woken, wait) =
            shared.wake.wait_timeout(queue, IDLE).expect("no thread panics while it holds this lock");
        queue = woken;
        queue.idle -= 1;
        if wait.timed_out() && queue.orders.is_empty() {
            queue.workers -= 1;
            return None;
        }
    }
}

/// Expands the rule's destination and lets the file layer act.
fn perform(order: &Order, record: &mut dyn FnMut(Level, String)) -> Result<Done, String> {
    let pattern = &order.rules.patterns.patterns()[order.rule];
    let FileRule { template, rule, .. } = &order.rules.rules[order.rule];
    let (destination, trusted_len) = match rule.action {
        files::Action::Delete => (Vec::new(), 0),
        files::Action::Move | files::Action::Copy => {
            let template = template.as_ref().map_err(Clone::clone)?;
            let substituted =
                pattern.sub_parts(template, &order.source).map_err(|error| error.to_string())?;
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
    };
    let done = files::perform(&request, &mut |line: files::Record<'_>| {
        let level = level_of(&line);
        if level >= order.level {
            record(level, Escaped(line.to_string().as_bytes()).to_string());
        }
    });
    done.map_err(|error| error.to_string())
}

fn level_of(record: &files::Record<'_>) -> Level {
    match record {
        files::Record::CreateDirectory(_)
        | files::Record::Move { .. }
        | files::Record::Copy { .. }
        | files::Record::Delete(_) => Level::INFO,
        files::Record::Chmod(_) | files::Record::Chown { .. } => Level::DEBUG,
        files::Record::Warning(_) => Level::WARNING,
    }
}
