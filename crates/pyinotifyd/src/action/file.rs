//! File rules on worker threads: the loop hands work over and takes reports back, neither waits for the other.
//!
//! Work on one source path runs in the order in which it came; different paths run beside each other. A storm of small
//! files is served by one worker, which costs least; only when work has waited for [`PATIENCE`] another one joins, so that
//! a huge copy never holds up a small one. Idle workers end after [`IDLE`].

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::thread;
use std::time::{Duration, Instant};

use files::{Done, Identity, Request};
use tokio::sync::Notify;

use crate::config::{FileRule, FileRules};
use crate::log::{Escaped, Level};

/// Threads at the most; each one may be busy with a copy of hours.
const WORKERS_MAX: usize = 16;
/// How long work waits before another worker joins.
const PATIENCE: Duration = Duration::from_millis(2);
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
    /// Watch root, absolute.
    pub root: Vec<u8>,
    /// The event's path.
    pub source: Vec<u8>,
    /// Do nothing if the source is still this.
    pub unless_same_as: Option<Identity>,
    /// Set to end it early.
    pub stop: Arc<AtomicBool>,
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
    busy: HashMap<Vec<u8>, VecDeque<Order>>,
    /// Source path of each task that was handed to a worker.
    sources: HashMap<u64, (Vec<u8>, Arc<AtomicBool>)>,
}

#[derive(Debug, Default)]
struct Shared {
    queue: Mutex<Queue>,
    wake: Condvar,
    reports: Mutex<Vec<Report>>,
    reported: Notify,
}

#[derive(Debug, Default)]
struct Queue {
    orders: VecDeque<(Instant, Order)>,
    workers: usize,
    idle: usize,
}

impl FileWorkers {
    /// Hands work over.
    pub(crate) fn order(&mut self, order: Order, now: Instant) {
        self.sources.insert(order.task, (order.source.clone(), Arc::clone(&order.stop)));
        if let Some(waiting) = self.busy.get_mut(&order.source) {
            return waiting.push_back(order);
        }
        self.busy.insert(order.source.clone(), VecDeque::new());
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
                    lock(&shared.reports).push(Report::Swept { directory, removed: swept.removed });
                    shared.reported.notify_one();
                }
            }
        };
        // Without a thread (EAGAIN) it is left to the next start.
        let _ = thread::Builder::new().name("sweeper".into()).stack_size(STACK).spawn(sweep);
    }

    /// Asks work to end early; its report comes all the same.
    pub(crate) fn stop(&self, task: u64) {
        if let Some((_, stop)) = self.sources.get(&task) {
            stop.store(true, Ordering::Relaxed);
        }
    }

    /// Completes when there are reports to take.
    pub(crate) async fn reported(&self) {
        self.shared.reported.notified().await;
    }

    /// All reports since the last call, in their order.
    pub(crate) fn take_reports(&mut self, now: Instant) -> Vec<Report> {
        let reports = std::mem::take(&mut *lock(&self.shared.reports));
        for report in &reports {
            if let Report::Ended { task, .. } = report {
                self.release(*task, now);
            }
        }
        reports
    }

    /// When [`FileWorkers::balance`] wants to look again.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        if self.sources.is_empty() {
            return None;
        }
        let queue = lock(&self.shared.queue);
        let (since, _) = queue.orders.front()?;
        (queue.workers < WORKERS_MAX).then(|| *since + PATIENCE)
    }

    /// Lets another worker join if work has waited too long.
    pub(crate) fn balance(&mut self, now: Instant) {
        if self.deadline().is_some_and(|at| at <= now) {
            let mut queue = lock(&self.shared.queue);
            if let Some((since, _)) = queue.orders.front_mut() {
                // Counted anew from here, so that one joins at a time.
                *since = now;
            }
            self.hire(queue);
        }
    }

    fn enqueue(&self, order: Order, now: Instant) {
        let mut queue = lock(&self.shared.queue);
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
        let Some((source, _)) = self.sources.remove(&task) else { return };
        let Some(waiting) = self.busy.get_mut(&source) else { return };
        match waiting.pop_front() {
            Some(next) => self.enqueue(next, now),
            None => {
                self.busy.remove(&source);
            }
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().expect("no thread panics while it holds this lock")
}

fn work(shared: &Shared) {
    while let Some(order) = next(shared) {
        let task = order.task;
        let report = |report| {
            lock(&shared.reports).push(report);
            shared.reported.notify_one();
        };
        // A bug in the file layer must cost one task and not a worker that everything else waits for.
        let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            perform(&order, &mut |level, text| report(Report::Record { task, level, text }))
        }));
        let result =
            outcome.unwrap_or_else(|_| Err("internal error of the file layer, please report it".to_owned()));
        report(Report::Ended { task, result });
    }
}

fn next(shared: &Shared) -> Option<Order> {
    let mut queue = lock(&shared.queue);
    loop {
        if let Some((_, order)) = queue.orders.pop_front() {
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
        root: &order.root,
        source: &order.source,
        destination: &destination,
        trusted_len,
        stop: &order.stop,
        unless_same_as: order.unless_same_as.as_ref(),
    };
    let done = files::perform(&request, &mut |line: files::Record<'_>| {
        record(level_of(&line), Escaped(line.to_string().as_bytes()).to_string());
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
