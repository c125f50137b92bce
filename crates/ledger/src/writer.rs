//! The thread that writes batches, so that the loop never waits for a disk.

use std::io;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crate::files::Fate;
use crate::rows::Batch;
use crate::store::{Damage, Restored, Store, is_damage, said};

/// The first pause before a batch that failed is tried again; it doubles.
const RETRY_FIRST: Duration = Duration::from_millis(500);
/// The longest pause between two tries.
pub const RETRY_MAX: Duration = Duration::from_secs(60);

/// What the ledger is asked for beside keeping tasks.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// Rows of history that are kept.
    pub history_max: u32,
}

/// What the thread has to say to the loop.
#[derive(Clone, Debug, PartialEq)]
pub enum Report {
    /// The batch is on the disk. Another one may be committed.
    Committed {
        /// How long the transaction took.
        took: Duration,
        /// It had failed before: what was reported as [`Report::Failing`] is over.
        recovered: bool,
    },
    /// The batch cannot be written now; it is kept and tried again. Reported once, until a batch is committed.
    Failing(String),
    /// The database turned out to be damaged, and an empty one took its place; or, without a damage, it is not there
    /// any more. The batch is lost with it: everything has to be committed anew.
    StartedAfresh(Option<Damage>),
    /// Somebody removed the log of the database, which was open still. What it had is in the database: nothing is lost.
    LogRemoved,
    /// What an earlier daemon kept, which could not be read at the start. It is there still.
    Restored(Box<Restored>),
}

/// The thread's two ends. The thread ends when this is dropped, after the batch that it writes.
#[derive(Debug)]
pub struct Ledger {
    batches: Sender<Message>,
    reports: Arc<Reports>,
    in_flight: bool,
    /// The batch in flight says something of tasks or pauses.
    has_changes: bool,
    thread: JoinHandle<()>,
}

/// Reports on their way to the loop; few, since there is one batch at a time.
#[derive(Debug, Default)]
struct Reports {
    waiting: Mutex<Vec<Report>>,
    arrived: Condvar,
}

impl Reports {
    fn lock(&self) -> MutexGuard<'_, Vec<Report>> {
        // Nobody panics while a vector of reports is locked, and one that is half pushed cannot be.
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

enum Message {
    Batch(Box<Batch>),
    Options(Options),
    Hurry,
}

impl Ledger {
    /// Hands a store to a thread. `wake` is called from there whenever there is a report.
    ///
    /// # Errors
    /// There is no thread to be had.
    pub fn start(store: Store, options: Options, wake: impl Fn() + Send + 'static) -> io::Result<Ledger> {
        let (batches, receiver) = channel();
        let reports = Arc::new(Reports::default());
        let to_loop = Arc::clone(&reports);
        let report = move |report| {
            to_loop.lock().push(report);
            to_loop.arrived.notify_all();
            wake();
        };
        let thread = thread::Builder::new().name("ledger".to_owned()).spawn(move || {
            Writer { store, options, batches: receiver, report }.run();
        })?;
        Ok(Ledger { batches, reports, in_flight: false, has_changes: false, thread })
    }

    /// Whether a batch can be committed now; the one before is on the disk.
    pub fn is_ready(&self) -> bool {
        !self.in_flight
    }

    /// Gives the thread a batch. Never blocks.
    ///
    /// # Panics
    /// The batch before is still on its way.
    pub fn commit(&mut self, batch: Batch) {
        assert!(self.is_ready(), "one batch at a time");
        // A thread that died has reported nothing, so that the batch stays in flight, and nothing is lost but what
        // follows.
        self.has_changes = batch.has_changes();
        self.in_flight = self.batches.send(Message::Batch(Box::new(batch))).is_ok();
    }

    /// Whether the batch before says anything of tasks or pauses, and is not on the disk yet.
    pub fn owes_changes(&self) -> bool {
        self.in_flight && self.has_changes
    }

    /// Waits until the batch before is on the disk, or a deadline; whether another one can be committed. Only for the
    /// end of the daemon.
    pub fn wait(&mut self, deadline: Instant) -> bool {
        let pause = deadline.saturating_duration_since(Instant::now());
        let pending = |reports: &mut Vec<Report>| !reports.iter().any(Report::ends_a_batch);
        if self.in_flight {
            let waited = self.reports.arrived.wait_timeout_while(self.reports.lock(), pause, pending);
            return !waited.unwrap_or_else(PoisonError::into_inner).1.timed_out();
        }
        true
    }

    /// Lets the batch in flight, if it failed, be tried again now rather than after its pause, and often from there on.
    pub fn hurry(&self) {
        let _ = self.batches.send(Message::Hurry);
    }

    /// Changes the limits, from the next batch on.
    pub fn set_options(&self, options: Options) {
        let _ = self.batches.send(Message::Options(options));
    }

    /// What was reported since the last call.
    pub fn take_reports(&mut self) -> Vec<Report> {
        let reports = std::mem::take(&mut *self.reports.lock());
        if reports.iter().any(Report::ends_a_batch) {
            self.in_flight = false;
        }
        reports
    }

    /// Waits for the batch in flight, until a deadline, and ends the thread; whether the batch is on the disk. Only for
    /// the end of the daemon: a thread that hangs with its disk is left behind.
    pub fn close(self, deadline: Instant) -> bool {
        let Ledger { batches, reports, in_flight, has_changes: _, thread } = self;
        let pause = deadline.saturating_duration_since(Instant::now());
        let pending = |reports: &mut Vec<Report>| in_flight && !reports.iter().any(Report::ends_a_batch);
        let waited = reports.arrived.wait_timeout_while(reports.lock(), pause, pending);
        let (left, result) = waited.unwrap_or_else(PoisonError::into_inner);
        let written =
            !result.timed_out() && !left.iter().any(|report| matches!(report, Report::StartedAfresh(_)));
        drop(left);
        drop(batches);
        // Without a batch it has nothing left to do but to close the database.
        written && thread.join().is_ok()
    }
}

impl Report {
    fn ends_a_batch(&self) -> bool {
        match self {
            Report::Committed { .. } | Report::StartedAfresh(_) => true,
            Report::Failing(_) | Report::LogRemoved | Report::Restored(_) => false,
        }
    }
}

/// Why a pause is over.
enum Rest {
    Over,
    Hurried,
    /// The daemon ends.
    Ended,
}

struct Writer<R> {
    store: Store,
    options: Options,
    batches: Receiver<Message>,
    report: R,
}

impl<R: Fn(Report)> Writer<R> {
    fn run(mut self) {
        while let Ok(message) = self.batches.recv() {
            match message {
                Message::Batch(batch) => {
                    if !self.write(&batch) {
                        return;
                    }
                }
                Message::Options(options) => self.options = options,
                // It is told too late: the batch is written.
                Message::Hurry => {}
            }
        }
    }

    /// Writes a batch, however often it takes; false if the daemon ends meanwhile.
    fn write(&mut self, batch: &Batch) -> bool {
        let mut pause = RETRY_FIRST;
        let mut failed = false;
        loop {
            let begun = Instant::now();
            let fate = self.store.look_after();
            if matches!(fate, Ok(Fate::Gone)) {
                (self.report)(Report::StartedAfresh(None));
                return true;
            }
            if matches!(fate, Ok(Fate::WithoutLog)) {
                (self.report)(Report::LogRemoved);
            }
            let Err(error) = fate.and_then(|_| self.read_and_write(batch)) else {
                (self.report)(Report::Committed { took: begun.elapsed(), recovered: failed });
                return true;
            };
            if is_damage(&error)
                && let Ok(damage) = self.store.move_aside(&error)
            {
                (self.report)(Report::StartedAfresh(Some(damage)));
                return true;
            }
            if !failed {
                failed = true;
                (self.report)(Report::Failing(said(&error)));
            }
            pause = match self.rest(pause) {
                Rest::Over => (pause * 2).min(RETRY_MAX),
                Rest::Hurried => RETRY_FIRST,
                Rest::Ended => return false,
            };
        }
    }

    fn read_and_write(&mut self, batch: &Batch) -> rusqlite::Result<()> {
        if let Some(restored) = self.store.read_late()? {
            (self.report)(Report::Restored(Box::new(restored)));
        }
        self.store.write(batch, self.options.history_max)
    }

    /// Waits before another try.
    fn rest(&mut self, pause: Duration) -> Rest {
        let end = Instant::now() + pause;
        loop {
            match self.batches.recv_timeout(end.saturating_duration_since(Instant::now())) {
                Ok(Message::Options(options)) => self.options = options,
                Ok(Message::Batch(_)) => unreachable!("the loop gives one batch at a time"),
                Ok(Message::Hurry) => return Rest::Hurried,
                Err(RecvTimeoutError::Timeout) => return Rest::Over,
                Err(RecvTimeoutError::Disconnected) => return Rest::Ended,
            }
        }
    }
}
