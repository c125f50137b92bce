//! File rules on worker threads: the loop hands work over and takes reports back, neither waits for the other.
//!
//! Work on one source path runs in the order in which it came; different paths run beside each other.
//!
//! # Who works
//!
//! Waking a thread costs as much as moving a file. So the loop hands over what a whole turn ordered at once, and calls
//! one worker for it. Another one joins
//!
//! - where nothing was taken up for [`PATIENCE`] though work waits: all that work are on something long, and a huge copy
//!   must not hold up a small one. Each one more is waited for a little longer: on a busy machine a worker that stands
//!   still may only be waiting for a processor;
//! - where work gets on, but what waits will take longer than [`PATIENCE`] at the pace of the last moments ([`PACE`]): up to
//!   one for each processor, and none for what is done as fast as files can come ([`BRISK`]);
//! - beyond that, up to [`WORKERS_MAX`], where each order takes so long ([`SLOW`]) that it must be the disk that is waited
//!   for, which is told after [`PACE_OF_DISK`].
//!
//! Workers without work sleep, and end after [`IDLE`].
//!
//! The other way, the loop is woken for reports when no order waits any more; while some do, it looks by itself, see
//! [`FileWorkers::deadline`].

use std::collections::VecDeque;
use std::num::NonZero;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock};
use std::thread::{self, Thread, ThreadId};
use std::time::{Duration, Instant};

use files::{Done, Held, Identity, Request};
use hashbrown::hash_map::{Entry, EntryRef, HashMap};
use tokio::sync::Notify;

use crate::config::{FileRule, FileRules};
use crate::log::{Escaped, Level};

/// Threads at the most; each one may be busy with a copy of hours.
const WORKERS_MAX: usize = 16;
/// How long nothing is taken up, though work waits, before another worker joins: for each one that is at work. Also the
/// time that waiting work may need without one.
const PATIENCE: Duration = Duration::from_millis(2);
/// How long orders are counted before they tell how fast the work gets on: some 50 small copies.
const PACE: Duration = Duration::from_millis(1);
/// The same, where more workers than processors are in question; the pace is that of the last so many milliseconds.
const PACE_OF_DISK: Duration = Duration::from_millis(10);
/// Orders that are taken up so fast, 80,000 a second, come and go as fast as one program makes files. They are renames, and
/// a rename to another directory takes a lock of the whole filesystem: one more would mostly wait for it, and keep a processor
/// busy meanwhile.
const BRISK: Duration = Duration::from_micros(12);
/// Time for one order from which on it is not the processor that work waits for. A small file takes some 10 us, one that
/// is synced some milliseconds.
const SLOW: Duration = Duration::from_millis(1);
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
    orders: VecDeque<Arc<Order>>,
    staff: Staff,
    reports: Vec<Report>,
    /// That nobody can be hired was reported since somebody was.
    nobody_said: bool,
    /// The loop was woken for `reports`.
    told: bool,
}

/// Who is there, and how the work gets on.
#[derive(Debug, Default)]
struct Staff {
    workers: usize,
    /// Workers that sleep. The last one is called first: its memory is warm still, and the others get to leave.
    asleep: Vec<Thread>,
    /// Workers that were called or hired and have not taken an order up yet.
    coming: usize,
    /// When an order was taken up last, or somebody was called for one.
    progress_at: Option<Instant>,
    /// Since when orders that are taken up are counted.
    counted_from: Option<Instant>,
    /// How many were taken up since then.
    taken: u32,
}

/// Who is to take up waiting work, beside those that are at it.
#[derive(Debug)]
enum Call {
    Nobody,
    /// This one, which sleeps.
    Sleeper(Thread),
    /// A new one.
    Newcomer,
}

impl Staff {
    /// Decides who is to come for so many orders that wait.
    fn call(&mut self, waiting: usize, processors: usize, now: Instant) -> Call {
        let working = self.workers - self.asleep.len();
        let enough = working > 0
            && !self.is_stuck(working, now)
            && !self.is_backlogged(working, waiting, processors, now);
        if enough {
            return Call::Nobody;
        }
        // Who joins is given time: one joins at a time.
        self.progress_at = Some(now);
        self.count_from(now);
        match self.asleep.pop() {
            Some(thread) => {
                self.coming += 1;
                Call::Sleeper(thread)
            }
            None if self.workers < WORKERS_MAX => Call::Newcomer,
            None => Call::Nobody,
        }
    }

    /// Whether all that work are on something long.
    fn is_stuck(&self, working: usize, now: Instant) -> bool {
        self.progress_at.is_none_or(|at| at + PATIENCE * working as u32 <= now)
    }

    /// Whether the work gets on, but not fast enough, and one more would help.
    fn is_backlogged(&mut self, working: usize, waiting: usize, processors: usize, now: Instant) -> bool {
        let counted = now.saturating_duration_since(*self.counted_from.get_or_insert(now));
        // From one order that is taken up to the next.
        let gap = counted / self.taken.max(1);
        let is_long = gap * waiting as u32 >= PATIENCE;
        if working < processors {
            return counted >= PACE && is_long && gap >= BRISK;
        }
        if counted < PACE_OF_DISK {
            return false;
        }
        self.count_from(now);
        is_long && gap * working as u32 >= SLOW
    }

    fn count_from(&mut self, now: Instant) {
        (self.counted_from, self.taken) = (Some(now), 0);
    }

    fn took_one(&mut self, now: Instant) {
        self.progress_at = Some(now);
        self.taken += 1;
    }

    fn hired(&mut self) {
        self.workers += 1;
        self.coming += 1;
    }

    /// A worker that was called or hired is there.
    fn came(&mut self) {
        self.coming -= 1;
    }

    /// Lets a sleeper leave for good; false if it was called meanwhile.
    fn leaves(&mut self, thread: ThreadId) -> bool {
        let Some(place) = self.asleep.iter().position(|asleep| asleep.id() == thread) else { return false };
        self.asleep.remove(place);
        self.workers -= 1;
        true
    }

    fn is_called(&self, thread: ThreadId) -> bool {
        self.asleep.iter().all(|asleep| asleep.id() != thread)
    }
}

impl Queue {
    /// Whether the loop is to be woken now.
    fn is_to_tell(&mut self) -> bool {
        let due = self.orders.is_empty() || self.reports.len() >= REPORTS_UNTOLD_MAX;
        due && !self.reports.is_empty() && !std::mem::replace(&mut self.told, true)
    }

    fn take(&mut self) -> Option<Arc<Order>> {
        let order = self.orders.pop_front()?;
        self.staff.took_one(Instant::now());
        Some(order)
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
        (queue.orders.len() > queue.staff.coming).then(|| looked + PATIENCE)
    }

    /// Hands over what was ordered, and lets another worker join if the work does not get on.
    pub(crate) fn balance(&mut self, now: Instant) {
        if !self.is_busy() {
            return;
        }
        self.looked = Some(now);
        let mut queue = self.shared.lock();
        if queue.orders.is_empty() {
            queue.staff.count_from(now);
        }
        queue.orders.append(&mut self.fresh);
        let waiting = queue.orders.len();
        if waiting == 0 {
            return;
        }
        match queue.staff.call(waiting, processors(), now) {
            Call::Nobody => {}
            Call::Sleeper(thread) => {
                drop(queue);
                thread.unpark();
            }
            Call::Newcomer => self.hire(queue),
        }
    }

    fn hire(&self, mut queue: MutexGuard<'_, Queue>) {
        let shared = Arc::clone(&self.shared);
        let worker =
            thread::Builder::new().name("file-worker".into()).stack_size(STACK).spawn(move || work(&shared));
        match worker {
            Ok(_) => {
                queue.staff.hired();
                queue.nobody_said = false;
            }
            // Without a thread (EAGAIN) the work waits for a worker that there is, or for the next look.
            Err(error) if queue.staff.workers == 0 && !queue.nobody_said => {
                queue.nobody_said = true;
                let waiting = queue.orders.len();
                queue.reports.push(Report::Nobody { waiting, error });
                self.shared.tell(queue);
            }
            Err(_) => {}
        }
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

fn work(shared: &Shared) {
    shared.lock().staff.came();
    let mut held = Held::default();
    let mut ended = None;
    while let Some(order) = next(shared, &mut held, ended.take()) {
        let task = order.task;
        // A bug in the file layer must cost one task and not a worker that everything else waits for.
        let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            perform(&order, &mut held, &mut |report| shared.report(report))
        }));
        let result =
            outcome.unwrap_or_else(|_| Err("internal error of the file layer, please report it".to_owned()));
        ended = Some(Report::Ended { task, result });
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
        queue.staff.asleep.push(thread::current());
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

/// Expands the rule's destination and lets the file layer act.
fn perform(order: &Order, held: &mut Held, report: &mut dyn FnMut(Report)) -> Result<Done, String> {
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
    let done = files::perform(&request, held, &mut |record: files::Record<'_>| {
        report_of(order, &record).into_iter().for_each(&mut *report);
    });
    done.map_err(|error| error.to_string())
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

    /// Processors of the machine in these tests.
    const PROCESSORS: usize = 2;

    impl Staff {
        /// Somebody comes, as the loop lets him; gives whether anybody did.
        fn join(&mut self, waiting: usize, now: Instant) -> bool {
            match self.call(waiting, PROCESSORS, now) {
                Call::Nobody => return false,
                Call::Sleeper(_) => {}
                Call::Newcomer => self.hired(),
            }
            self.came();
            true
        }
    }

    /// How many work in the end on so many orders, all there at once, of which each takes `one`; by a clock that only
    /// these tests move.
    fn workers_for(orders: u32, one: Duration) -> usize {
        let (start, step) = (Instant::now(), Duration::from_micros(10));
        let (mut staff, mut now, mut left) = (Staff::default(), start, orders);
        let mut busy_until: Vec<Instant> = Vec::new();
        staff.count_from(now);
        let mut look_at = now;
        while left > 0 {
            if look_at <= now {
                look_at = now + PATIENCE;
                if staff.join(left as usize, now) {
                    busy_until.push(now);
                }
            }
            for until in busy_until.iter_mut().filter(|until| **until <= now).take(left as usize) {
                staff.took_one(now);
                (*until, left) = (now + one, left - 1);
            }
            now += step;
        }
        staff.workers
    }

    #[test]
    fn small_files_keep_as_many_busy_as_there_are_processors_and_slow_ones_more() {
        let (us, ms) = (Duration::from_micros, Duration::from_millis);
        assert_eq!(workers_for(100, us(10)), 1, "a few are served by one");
        assert_eq!(workers_for(20_000, us(10)), 1, "they get on as fast as they can come");
        assert_eq!(workers_for(20_000, us(20)), PROCESSORS);
        assert_eq!(workers_for(2_000, us(100)), PROCESSORS);
        // What is synced waits for the disk, which does more at once.
        assert_eq!(workers_for(2_000, ms(5)), WORKERS_MAX);
        assert_eq!(workers_for(100, ms(100)), WORKERS_MAX);
    }

    #[test]
    fn only_the_last_moments_count() {
        let start = Instant::now();
        let after = |spans: u32| start + PACE_OF_DISK * spans;
        let mut staff = Staff { workers: PROCESSORS, ..Staff::default() };
        staff.count_from(start);
        let take = |staff: &mut Staff, count: u32, at: Instant| (0..count).for_each(|_| staff.took_one(at));
        take(&mut staff, 5_000, after(1));
        assert!(!staff.join(20_000, after(1)), "that was fast");
        take(&mut staff, 5, after(2));
        assert!(staff.join(20_000, after(2)), "that was slow");
    }

    #[test]
    fn a_second_one_joins_for_what_takes_longer_than_it_should() {
        let start = Instant::now();
        let staff = |taken: u32| {
            let mut staff = Staff { workers: 1, ..Staff::default() };
            staff.count_from(start);
            (0..taken).for_each(|_| staff.took_one(start + PACE));
            staff
        };
        assert!(!staff(50).join(99, start + PACE), "that much is done in less than 2 ms");
        assert!(staff(50).join(100, start + PACE));
        assert!(!staff(10).join(20_000, start + PACE / 2), "too few were counted");
        assert!(!staff(100).join(20_000, start + PACE), "one is fast enough");
    }

    #[test]
    fn something_long_holds_nothing_up() {
        let start = Instant::now();
        let mut staff = Staff::default();
        assert!(staff.join(1, start), "nobody is there");
        staff.took_one(start);
        assert!(!staff.join(1, start + PATIENCE / 2), "it may be done at once");
        assert!(staff.join(1, start + PATIENCE));
        // Each one more is waited for a little longer.
        assert!(!staff.join(1, start + PATIENCE * 2));
        assert!(staff.join(1, start + PATIENCE * 3));
        // What comes while all that work have been at something long for some time does not wait at all.
        let later = start + Duration::from_secs(60);
        assert!(staff.join(1, later));
        assert_eq!((staff.workers, staff.coming), (4, 0));
    }

    #[test]
    fn those_who_sleep_come_first_and_there_are_never_too_many() {
        let (start, ages) = (Instant::now(), Duration::from_secs(3600));
        let mut staff = Staff { workers: 1, asleep: vec![thread::current()], ..Staff::default() };
        assert!(matches!(staff.call(1, PROCESSORS, start), Call::Sleeper(_)));
        assert!(staff.is_called(thread::current().id()) && !staff.leaves(thread::current().id()));
        assert!(matches!(staff.call(1, PROCESSORS, start), Call::Nobody), "one is on the way");
        staff.came();
        for hour in 1..=20 {
            staff.join(1, start + ages * hour);
        }
        assert_eq!((staff.workers, staff.coming), (WORKERS_MAX, 0));
        staff.asleep.push(thread::current());
        assert!(!staff.is_called(thread::current().id()) && staff.leaves(thread::current().id()));
        assert_eq!(staff.workers, WORKERS_MAX - 1);
    }

    /// An order to delete a file.
    fn deletion(rules: &Arc<FileRules>, task: u64, directory: &Path, name: &str) -> Order {
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

    fn deleting() -> Arc<FileRules> {
        let pattern = Pattern::new(b".*").unwrap();
        let template = Ok(Template::new(b"", &pattern).unwrap());
        let rule = files::Rule::new(files::Action::Delete);
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
        let (directory, rules) = (tempfile::tempdir().unwrap(), deleting());
        let mut workers = FileWorkers::default();
        for task in 0..500 {
            std::fs::write(directory.path().join("f"), "").unwrap();
            workers.order(deletion(&rules, task, directory.path(), "f"), Instant::now());
            assert!(workers.deadline().is_some_and(|at| at <= Instant::now()), "it is not handed over yet");
            workers.balance(Instant::now());
            assert_eq!(workers.deadline(), None, "somebody comes for it");
            assert_eq!(ends(&mut workers, 1, |_| {}), [(task, true)]);
        }
        assert!(!workers.is_busy() && workers.busy.is_empty() && workers.fresh.is_empty());
        assert_eq!(workers.shared.lock().staff.workers, 1, "one is enough");
    }

    #[test]
    fn a_burst_ends_whole_and_each_path_in_its_order() {
        let (directory, rules) = (tempfile::tempdir().unwrap(), deleting());
        let mut workers = FileWorkers::default();
        for task in 0..3_000 {
            let name = format!("f{}", task % 1_000);
            std::fs::write(directory.path().join(&name), "").unwrap();
            workers.order(deletion(&rules, task, directory.path(), &name), Instant::now());
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
