//! The daemon's log: named loggers with Python's levels; lines on stderr or records in the journal; syslog besides.
//!
//! Owns which records are written (levels, global and by name), how a line looks, and the sinks. The callers decide
//! what a record says, and what it is about ([`About`]). Nothing here blocks: records go into a buffer, and
//! [`Log::flush`] writes the buffer to the sinks once a loop turn. If a reader is stuck, the buffer has a limit;
//! records beyond it are dropped, and a line gives their number.

mod cause;
mod clock;
mod escape;
mod journal;
mod reconnect;
mod resolve;
mod stderr;
mod stream;
mod syslog;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt::{self, Write as _};
use std::os::fd::BorrowedFd;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};

pub(crate) use cause::Cause;
pub(crate) use clock::Clock;
pub(crate) use escape::{Escaped, Indented};
pub(crate) use journal::is_stderr as stderr_is_journal;
pub(crate) use stderr::Stderr;
pub(crate) use stream::Stream;
pub(crate) use syslog::{Address, Syslog};

use journal::{Entry, Journal};
use resolve::Resolver;

/// Severity with Python's numbers, so that levels between the five (`logging.addLevelName`) keep their order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Level(pub i64);

impl Level {
    /// Details for finding a fault.
    pub(crate) const DEBUG: Level = Level(10);
    /// Normal course.
    pub(crate) const INFO: Level = Level(20);
    /// Something unexpected that the daemon coped with.
    pub(crate) const WARNING: Level = Level(30);
    /// Something was not done.
    pub(crate) const ERROR: Level = Level(40);
    /// The program cannot go on.
    pub(crate) const CRITICAL: Level = Level(50);

    /// `<N>` of syslog(3) and of sd-daemon(3): the severity that a reader of priorities knows.
    pub(crate) fn severity(self) -> u8 {
        match self.0 {
            50.. => 2,
            40..50 => 3,
            30..40 => 4,
            20..30 => 6,
            _ => 7,
        }
    }
}

impl fmt::Display for Level {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            10 => out.write_str("DEBUG"),
            20 => out.write_str("INFO"),
            30 => out.write_str("WARNING"),
            40 => out.write_str("ERROR"),
            50 => out.write_str("CRITICAL"),
            other => write!(out, "Level {other}"),
        }
    }
}

/// A logger's place in the table of [`Log`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct LoggerId(u32);

/// How a line on stderr looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Style {
    /// `LEVEL: text`, before the daemon runs.
    Brief,
    /// `time - pyinotifyd/LOGGER - LEVEL - text`.
    Full,
    /// [`Style::Full`] with colours.
    Terminal,
}

/// What a record is about: the fields by which a journal finds it.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct About<'a> {
    /// The logger of the scheduler that it is about.
    pub scheduler: Option<LoggerId>,
    /// Name of the event.
    pub event: Option<&'a str>,
    /// Path of the event.
    pub path: Option<&'a [u8]>,
    /// How many other paths it is about.
    pub others: u32,
    /// Id of the task.
    pub task: Option<&'a str>,
}

impl fmt::Display for About<'_> {
    /// The end of a record's text: `, mask=..., path=..., task_id=...`.
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Two of these a task are most of what the daemon logs: pieces cost less than formats.
        if let Some(event) = self.event {
            out.write_str(", mask=")?;
            out.write_str(event)?;
        }
        if let Some(path) = self.path {
            out.write_str(", path=")?;
            Escaped(path).fmt(out)?;
        }
        if self.others > 0 {
            write!(out, " and {} more", self.others)?;
        }
        if let Some(task) = self.task {
            out.write_str(", task_id=")?;
            out.write_str(task)?;
        }
        Ok(())
    }
}

/// A record for handlers that the configuration added to Python's logging.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Forwarded {
    /// Name of the logger; `root` for the root logger.
    pub logger: String,
    /// Severity.
    pub level: Level,
    /// The text, escaped as on stderr.
    pub message: String,
    /// Seconds since the epoch.
    pub created: f64,
    /// Whether it is written only if the filters of its logger let it pass, which the host asks.
    pub filtered: bool,
}

/// A record that a configuration logged while it was executed.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Early {
    /// Name of the logger; `""` for the root logger.
    pub logger: String,
    /// Severity.
    pub level: Level,
    /// The text, escaped.
    pub text: String,
    /// How many syslog targets the configuration had named until then.
    pub targets: usize,
}

/// Pause before records are offered again to a reader that did not take all of them: the first, and the longest after
/// doubling while it takes none.
const RETRY_FIRST: Duration = Duration::from_millis(1);
const RETRY_MAX: Duration = Duration::from_millis(100);
/// How long the last records wait for a slow reader when the daemon ends.
const EXIT_WAIT: Duration = Duration::from_millis(500);
/// Records kept for the host in one loop turn; a flood beyond it is counted, not queued.
const FORWARDED_MAX: usize = 4096;

/// See the module's head.
#[derive(Debug)]
pub(crate) struct Log {
    /// Loggers with their effective levels; the root logger is the first.
    loggers: Vec<Logger>,
    /// Their places. Only loggers of the configuration are kept: jobs may use any number of names.
    places: HashMap<String, LoggerId>,
    /// Levels that were set by name; `""` is the root. A record passes where the nearest name above it lets it pass.
    levels: BTreeMap<String, Level>,
    style: Style,
    clock: Clock,
    stderr: Stderr,
    /// Takes the records in place of stderr, where that leads to the journal anyway.
    journal: Option<Journal>,
    syslog: Vec<Syslog>,
    /// Addresses of syslog servers. It outlives a reload, so that a resolver that hangs costs one thread.
    resolver: Resolver,
    /// Whether records are kept for the host, see [`Log::forward`].
    forwarding: bool,
    forwarded: Vec<Forwarded>,
    /// Records over the limit since the last call of [`Log::take_forwarded`].
    forwarded_lost: u64,
    /// Loggers on which the configuration has put filters, see [`Log::set_filtered`].
    filtered: BTreeSet<String>,
    /// Scratch for one record's text.
    text: String,
    /// The latest pause of [`Log::flush`].
    retry: Duration,
}

#[derive(Debug)]
struct Logger {
    /// `""` for the root logger.
    name: String,
    effective: Level,
    /// Whether the host's filters are asked before a record is written.
    filtered: bool,
}

impl Log {
    /// The root logger.
    pub(crate) const ROOT: LoggerId = LoggerId(0);

    /// A log on stderr at INFO.
    pub(crate) fn new(stderr: Stderr) -> Log {
        let mut log = Log {
            loggers: Vec::new(),
            places: HashMap::new(),
            levels: BTreeMap::from([(String::new(), Level::INFO)]),
            style: Style::Brief,
            clock: Clock::new(),
            stderr,
            journal: None,
            syslog: Vec::new(),
            resolver: Resolver::default(),
            forwarding: false,
            forwarded: Vec::new(),
            forwarded_lost: 0,
            filtered: BTreeSet::new(),
            text: String::new(),
            retry: RETRY_FIRST,
        };
        log.logger("");
        log
    }

    /// The logger of that name; `""` and `root` are the root logger.
    pub(crate) fn logger(&mut self, name: &str) -> LoggerId {
        let name = if name == "root" { "" } else { name };
        if let Some(id) = self.places.get(name) {
            return *id;
        }
        let effective = self.effective(name);
        let id = LoggerId(self.loggers.len() as u32);
        let filtered = self.filtered.contains(name);
        self.loggers.push(Logger { name: name.to_owned(), effective, filtered });
        self.places.insert(name.to_owned(), id);
        id
    }

    /// Sets what the named logger, and those below it without a level of their own, let through.
    pub(crate) fn set_level(&mut self, name: &str, level: Level) {
        let name = if name == "root" { "" } else { name };
        self.levels.insert(name.to_owned(), level);
        self.find_effective();
    }

    fn find_effective(&mut self) {
        for index in 0..self.loggers.len() {
            self.loggers[index].effective = self.effective(&self.loggers[index].name);
        }
    }

    /// Goes back to levels that [`Log::levels`] gave.
    pub(crate) fn reset_levels(&mut self, levels: BTreeMap<String, Level>) {
        self.levels = levels;
        self.find_effective();
    }

    /// All levels that were set, by name; `""` is the root.
    pub(crate) fn levels(&self) -> &BTreeMap<String, Level> {
        &self.levels
    }

    /// Changes the look of lines on stderr from here on.
    pub(crate) fn set_style(&mut self, style: Style) {
        self.style = style;
    }

    /// Sends records with their fields to the journal, which stderr leads to. Styles are of no more concern then.
    pub(crate) fn use_journal(&mut self) {
        self.stderr.leads_to_journal();
        self.journal = Some(Journal::new());
    }

    /// Replaces all syslog targets; a reload that names the same ones again does not double them. `early` are the
    /// records of the configuration that names them, from when it was executed; old targets have got these already.
    pub(crate) fn set_syslog(&mut self, mut targets: Vec<Syslog>, early: &[Early]) {
        for (index, target) in targets.iter_mut().enumerate() {
            if self.syslog.iter().any(|old| old.is_same(target)) {
                continue;
            }
            for record in early.iter().filter(|record| record.targets > index) {
                target.send(&record.logger, record.level, &record.text, &mut self.resolver);
            }
        }
        self.syslog = targets;
    }

    /// Records of these loggers are not written but kept for [`Log::take_forwarded`]: the host's filters say which of
    /// them are to be written, and give them back by [`Log::write_foreign`].
    pub(crate) fn set_filtered(&mut self, names: BTreeSet<String>) {
        for logger in &mut self.loggers {
            logger.filtered = names.contains(&logger.name);
        }
        self.filtered = names;
    }

    /// Keeps records for [`Log::take_forwarded`] or stops doing so.
    pub(crate) fn forward(&mut self, forwarding: bool) {
        self.forwarding = forwarding;
        self.forwarded.clear();
        self.forwarded_lost = 0;
    }

    /// The records written since the last call, where [`Log::forward`] asked for them. The last one tells of those
    /// that were left out.
    pub(crate) fn take_forwarded(&mut self) -> Vec<Forwarded> {
        let lost = std::mem::take(&mut self.forwarded_lost);
        if lost > 0 {
            let message =
                format!("{lost} log records were left out for the handlers, since they came too fast");
            let (logger, level, created) = ("root".to_owned(), Level::WARNING, self.clock.now());
            self.forwarded.push(Forwarded { logger, level, message, created, filtered: false });
        }
        std::mem::take(&mut self.forwarded)
    }

    /// Lines on stderr that were dropped since the start.
    pub(crate) fn lines_dropped(&self) -> u64 {
        self.stderr.dropped_ever()
    }

    /// The least severity that would be written.
    pub(crate) fn level(&self, logger: LoggerId) -> Level {
        self.loggers[logger.0 as usize].effective
    }

    /// Whether a record of that level would be written.
    pub(crate) fn enabled(&self, logger: LoggerId, level: Level) -> bool {
        level >= self.level(logger)
    }

    /// Writes a record, if the logger's level lets it pass.
    pub(crate) fn write(&mut self, logger: LoggerId, level: Level, text: fmt::Arguments<'_>) {
        self.write_about(logger, level, &About::default(), text);
    }

    /// The same for a record on something that has a name. The text says it, too.
    pub(crate) fn write_about(
        &mut self,
        logger: LoggerId,
        level: Level,
        about: &About<'_>,
        text: fmt::Arguments<'_>,
    ) {
        if self.enabled(logger, level) {
            self.write_at(Origin::Daemon(logger), level, self.clock.now(), about, text);
        }
    }

    /// Writes a record that a job made in the host, with the host's time. Its level was checked there. The logger is
    /// not kept.
    pub(crate) fn write_foreign(&mut self, logger: &str, level: Level, created: f64, text: &str) {
        let name = if logger == "root" { "" } else { logger };
        let about = About::default();
        self.write_at(Origin::Host(name), level, created, &about, format_args!("{}", Indented(text)));
    }

    fn write_at(
        &mut self,
        origin: Origin<'_>,
        level: Level,
        at: f64,
        about: &About<'_>,
        text: fmt::Arguments<'_>,
    ) {
        self.text.clear();
        self.text.write_fmt(text).expect("formatting into a string cannot fail");
        let name = match origin {
            Origin::Daemon(id) => self.loggers[id.0 as usize].name.as_str(),
            Origin::Host(name) => name,
        };
        let (text, logger) = (self.text.as_str(), shown(name));
        let filtered = matches!(origin, Origin::Daemon(id) if self.loggers[id.0 as usize].filtered);
        // A flood is written without being filtered, rather than lost.
        if filtered && self.forwarded.len() < FORWARDED_MAX {
            let (logger, message) = (logger.to_owned(), text.to_owned());
            return self.forwarded.push(Forwarded { logger, level, message, created: at, filtered });
        }
        if let Some(journal) = &mut self.journal {
            let scheduler = about.scheduler.map(|id| shown(&self.loggers[id.0 as usize].name));
            let About { event, path, task, .. } = *about;
            let entry = Entry { level, logger, text, scheduler, event, path, task };
            journal.send(&entry, &mut |line| self.stderr.append(line));
        } else {
            let line = self.stderr.line();
            compose(self.style, &mut self.clock, at, logger, level, text, line);
            self.stderr.end_line();
        }
        for target in &mut self.syslog {
            target.send(name, level, text, &mut self.resolver);
        }
        if self.forwarding && matches!(origin, Origin::Daemon(_)) {
            if self.forwarded.len() < FORWARDED_MAX {
                let (logger, message) = (logger.to_owned(), text.to_owned());
                self.forwarded.push(Forwarded { logger, level, message, created: at, filtered: false });
            } else {
                self.forwarded_lost += 1;
            }
        }
    }

    /// The lines since the last call, of a log on [`Stderr::discard`].
    #[cfg(test)]
    pub(crate) fn take_for_test(&mut self) -> String {
        self.stderr.take_for_test()
    }

    /// Seconds since the epoch.
    pub(crate) fn now(&self) -> f64 {
        self.clock.now()
    }

    /// A time (seconds since the epoch) as lines show it, to the second.
    pub(crate) fn time(&mut self, at: f64) -> String {
        let mut stamp = Vec::new();
        self.clock.stamp(at.floor(), &mut stamp);
        let stamp = String::from_utf8_lossy(&stamp).into_owned();
        stamp.strip_suffix(",000").unwrap_or(&stamp).to_owned()
    }

    /// Writes the buffered records to the journal, stderr and syslog. If some are left because the reader is slow: the
    /// pause before the next attempt.
    pub(crate) fn flush(&mut self) -> Option<Duration> {
        let before = self.waiting();
        if let Some(journal) = &mut self.journal {
            journal.flush(&mut |line| self.stderr.append(line));
        }
        self.stderr.flush();
        let left = self.waiting();
        self.retry = if left < before || left == 0 { RETRY_FIRST } else { (self.retry * 2).min(RETRY_MAX) };
        (left > 0).then_some(self.retry).into_iter().chain(self.flush_syslog()).min()
    }

    /// Sends what was kept for syslog targets, and says when to look again for what still is.
    fn flush_syslog(&mut self) -> Option<Duration> {
        for target in &mut self.syslog {
            target.flush(&mut self.resolver);
        }
        self.syslog.iter().filter_map(|target| target.pause(&self.resolver)).min()
    }

    /// Hands the last records to a slow reader, waiting a little for it.
    pub(crate) fn flush_at_exit(&mut self) {
        let until = Instant::now() + EXIT_WAIT;
        if let Some(journal) = &mut self.journal {
            journal.flush_at_exit(until, &mut |line| self.stderr.append(line));
        }
        self.stderr.flush_at_exit(until);
        while self.flush_syslog().is_some() && self.resolver.wait(until) {}
    }

    /// Bytes that wait for a reader.
    fn waiting(&self) -> usize {
        self.stderr.waiting() + self.journal.as_ref().map_or(0, Journal::waiting)
    }

    /// The level in force for a name: its own or that of the nearest name above it (`a.b` before `a` before the root).
    fn effective(&self, name: &str) -> Level {
        let mut name = name;
        loop {
            if let Some(level) = self.levels.get(name) {
                return *level;
            }
            name = name.rsplit_once('.').map_or("", |(above, _)| above);
        }
    }
}

/// Waits until a descriptor takes something; false if it did not in time.
pub(crate) fn wait_writable(fd: BorrowedFd<'_>, until: Instant) -> bool {
    let left = until.saturating_duration_since(Instant::now());
    let wait = Timespec { tv_sec: left.as_secs().cast_signed(), tv_nsec: left.subsec_nanos().into() };
    let mut fds = [PollFd::new(&fd, PollFlags::OUT)];
    !left.is_zero() && poll(&mut fds, Some(&wait)).is_ok_and(|count| count > 0)
}

/// Who made a record.
#[derive(Clone, Copy)]
enum Origin<'a> {
    Daemon(LoggerId),
    /// A job; the name of its logger, `""` for the root.
    Host(&'a str),
}

/// How a logger is called in a record.
fn shown(name: &str) -> &str {
    if name.is_empty() { "root" } else { name }
}

fn compose(
    style: Style,
    clock: &mut Clock,
    at: f64,
    logger: &str,
    level: Level,
    text: &str,
    line: &mut Vec<u8>,
) {
    match style {
        Style::Brief => line.extend_from_slice(format!("{level}: {text}").as_bytes()),
        Style::Full => {
            clock.stamp(at, line);
            for part in [" - pyinotifyd/", logger, " - ", level_name(level).as_ref(), " - ", text] {
                line.extend_from_slice(part.as_bytes());
            }
        }
        Style::Terminal => {
            line.extend_from_slice(DIM.as_bytes());
            clock.stamp(at, line);
            let colour = colour(level);
            let rest = format!(" - pyinotifyd/{logger} -{PLAIN} {colour}{level}{PLAIN} - {text}");
            line.extend_from_slice(rest.as_bytes());
        }
    }
    line.push(b'\n');
}

const DIM: &str = "\x1b[2m";
const PLAIN: &str = "\x1b[0m";

fn colour(level: Level) -> &'static str {
    match level.severity() {
        0..=3 => "\x1b[1;31m",
        4 => "\x1b[33m",
        6 => "\x1b[32m",
        _ => "\x1b[36m",
    }
}

/// The level's name without an allocation for the five that have one.
fn level_name(level: Level) -> std::borrow::Cow<'static, str> {
    match level {
        Level::DEBUG => "DEBUG".into(),
        Level::INFO => "INFO".into(),
        Level::WARNING => "WARNING".into(),
        Level::ERROR => "ERROR".into(),
        Level::CRITICAL => "CRITICAL".into(),
        other => other.to_string().into(),
    }
}

/// `record!(log, logger, WARNING, "text {}", value)`: formats only if the record is written.
macro_rules! record {
    ($log:expr, $logger:expr, $level:ident, $($text:tt)+) => {
        if $log.enabled($logger, $crate::log::Level::$level) {
            $log.write($logger, $crate::log::Level::$level, format_args!($($text)+));
        }
    };
}
pub(crate) use record;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_named_level_beats_the_root_and_holds_for_names_below() {
        let mut log = Log::new(Stderr::discard());
        log.set_level("", Level::ERROR);
        log.set_level("a", Level::DEBUG);
        let (named, below, other) = (log.logger("a"), log.logger("a.b"), log.logger("ab"));
        assert!(log.enabled(named, Level::DEBUG));
        assert!(log.enabled(below, Level::DEBUG));
        assert!(!log.enabled(other, Level::WARNING));
        assert!(!log.enabled(Log::ROOT, Level::WARNING));
    }

    #[test]
    fn levels_can_be_taken_back() {
        let mut log = Log::new(Stderr::discard());
        let (named, before) = (log.logger("a"), log.levels().clone());
        log.set_level("", Level::ERROR);
        log.set_level("a", Level::DEBUG);
        log.reset_levels(before);
        assert_eq!((log.level(Log::ROOT), log.level(named)), (Level::INFO, Level::INFO));
    }

    #[test]
    fn the_root_logger_is_called_root() {
        let mut log = Log::new(Stderr::discard());
        log.set_style(Style::Full);
        record!(log, Log::ROOT, ERROR, "text");
        assert!(log.take_for_test().ends_with(" - pyinotifyd/root - ERROR - text\n"));
    }

    #[test]
    fn before_the_daemon_runs_a_line_is_brief() {
        let mut log = Log::new(Stderr::discard());
        record!(log, Log::ROOT, INFO, "config file ok");
        record!(log, Log::ROOT, DEBUG, "unseen");
        assert_eq!(log.take_for_test(), "INFO: config file ok\n");
    }

    #[test]
    fn only_the_daemons_own_records_are_forwarded() {
        let mut log = Log::new(Stderr::discard());
        log.forward(true);
        let logger = log.logger("daemon");
        record!(log, logger, INFO, "mine");
        log.write_foreign("daemon", Level::INFO, 0.0, "the host's");
        let forwarded = log.take_forwarded();
        assert_eq!(forwarded.len(), 1);
        assert_eq!((forwarded[0].logger.as_str(), forwarded[0].message.as_str()), ("daemon", "mine"));
    }

    #[test]
    fn names_of_jobs_loggers_are_not_kept() {
        let mut log = Log::new(Stderr::discard());
        log.set_style(Style::Full);
        let before = log.loggers.len();
        for number in 0..10_000 {
            log.write_foreign(&format!("job.{number}"), Level::INFO, 0.0, "text");
        }
        assert_eq!((log.loggers.len(), log.places.len()), (before, before));
        let lines = log.take_for_test();
        assert!(lines.ends_with(" - pyinotifyd/job.9999 - INFO - text\n"), "{lines}");
    }

    #[test]
    fn records_that_are_not_forwarded_are_counted() {
        let mut log = Log::new(Stderr::discard());
        log.forward(true);
        for _ in 0..FORWARDED_MAX + 7 {
            record!(log, Log::ROOT, INFO, "text");
        }
        let forwarded = log.take_forwarded();
        assert_eq!(forwarded.len(), FORWARDED_MAX + 1);
        let last = forwarded.last().unwrap();
        assert_eq!((last.level, last.message.split(' ').next()), (Level::WARNING, Some("7")));
        assert_eq!(log.take_forwarded(), []);
    }

    #[test]
    fn a_reader_that_takes_nothing_is_asked_less_and_less_often() {
        let mut log = Log::new(Stderr::discard());
        assert_eq!(log.flush(), None);
        record!(log, Log::ROOT, INFO, "text");
        let pauses: Vec<_> = std::iter::from_fn(|| log.flush()).take(10).collect();
        assert!(pauses.is_sorted() && pauses[0] <= RETRY_FIRST * 2, "{pauses:?}");
        assert_eq!(pauses[9], RETRY_MAX);
    }

    #[test]
    fn what_a_record_is_about_stands_at_its_end() {
        let about =
            About { event: Some("IN_CREATE"), path: Some(b"/a\nb"), task: Some("id"), ..About::default() };
        assert_eq!(about.to_string(), ", mask=IN_CREATE, path=/a\\x0ab, task_id=id");
        assert_eq!(About::default().to_string(), "");
    }
}
