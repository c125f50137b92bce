//! The daemon's log: named loggers with Python's levels, one stream of lines, syslog beside it.
//!
//! Owns which record is written (levels, global and by name), how a line looks, and the sinks. Leaves to its callers
//! what is said. Nothing here blocks: lines go into a buffer, [`Log::flush`] hands it to the sinks once a loop turn, and
//! what a stuck reader does not take is dropped at a limit, counted and reported.

mod clock;
mod escape;
mod stderr;
mod syslog;

use std::collections::BTreeMap;
use std::fmt::{self, Write as _};

pub(crate) use clock::Clock;
pub(crate) use escape::{Escaped, Indented};
pub(crate) use stderr::Stderr;
pub(crate) use syslog::{Address, Syslog};

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
    /// `<N>pyinotifyd/LOGGER: text` for a journal that has its own clock.
    Journal,
    /// [`Style::Full`] with colours.
    Terminal,
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
}

/// Records kept for the host in one loop turn; a flood beyond it is counted, not queued.
const FORWARDED_MAX: usize = 4096;

/// See the module's head.
#[derive(Debug)]
pub(crate) struct Log {
    /// Names and what they let through now; the root logger stands first.
    loggers: Vec<Logger>,
    /// Levels that were set by name; `""` is the root. A record passes where the nearest name above it lets it pass.
    levels: BTreeMap<String, Level>,
    style: Style,
    clock: Clock,
    stderr: Stderr,
    syslog: Vec<Syslog>,
    /// Whether records are kept for the host, see [`Log::forward`].
    forwarding: bool,
    forwarded: Vec<Forwarded>,
    /// Scratch for one record's text.
    text: String,
}

#[derive(Debug)]
struct Logger {
    name: String,
    effective: Level,
}

impl Log {
    /// The root logger.
    pub(crate) const ROOT: LoggerId = LoggerId(0);

    /// A log on stderr at INFO.
    pub(crate) fn new(stderr: Stderr) -> Log {
        let mut log = Log {
            loggers: Vec::new(),
            levels: BTreeMap::from([(String::new(), Level::INFO)]),
            style: Style::Brief,
            clock: Clock::new(),
            stderr,
            syslog: Vec::new(),
            forwarding: false,
            forwarded: Vec::new(),
            text: String::new(),
        };
        log.logger("");
        log
    }

    /// The logger of that name; `""` and `root` are the root logger.
    pub(crate) fn logger(&mut self, name: &str) -> LoggerId {
        let name = if name == "root" { "" } else { name };
        if let Some(index) = self.loggers.iter().position(|logger| logger.name == name) {
            return LoggerId(index as u32);
        }
        let effective = self.effective(name);
        self.loggers.push(Logger { name: name.to_owned(), effective });
        LoggerId(self.loggers.len() as u32 - 1)
    }

    /// Sets what the named logger, and those below it without a level of their own, let through.
    pub(crate) fn set_level(&mut self, name: &str, level: Level) {
        let name = if name == "root" { "" } else { name };
        self.levels.insert(name.to_owned(), level);
        for index in 0..self.loggers.len() {
            self.loggers[index].effective = self.effective(&self.loggers[index].name);
        }
    }

    /// All levels that were set, by name; `""` is the root.
    pub(crate) fn levels(&self) -> &BTreeMap<String, Level> {
        &self.levels
    }

    /// Changes the look of lines on stderr from here on.
    pub(crate) fn set_style(&mut self, style: Style) {
        self.style = style;
    }

    /// Replaces all syslog targets; a reload that names the same ones again does not double them.
    pub(crate) fn set_syslog(&mut self, targets: Vec<Syslog>) {
        self.syslog = targets;
    }

    /// Keeps records for [`Log::take_forwarded`] or stops doing so.
    pub(crate) fn forward(&mut self, forwarding: bool) {
        self.forwarding = forwarding;
        self.forwarded.clear();
    }

    /// The records written since the last call, where [`Log::forward`] asked for them.
    pub(crate) fn take_forwarded(&mut self) -> Vec<Forwarded> {
        std::mem::take(&mut self.forwarded)
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
        if self.enabled(logger, level) {
            self.write_at(logger, level, self.clock.now(), text, Origin::Daemon);
        }
    }

    /// Writes a record that a job made in the host, with the host's time. Its level was checked there.
    pub(crate) fn write_foreign(&mut self, logger: LoggerId, level: Level, created: f64, text: &str) {
        self.write_at(logger, level, created, format_args!("{}", Indented(text)), Origin::Host);
    }

    fn write_at(&mut self, id: LoggerId, level: Level, at: f64, text: fmt::Arguments<'_>, origin: Origin) {
        self.text.clear();
        self.text.write_fmt(text).expect("formatting into a string cannot fail");
        let logger = &self.loggers[id.0 as usize];
        let name = if logger.name.is_empty() { "root" } else { logger.name.as_str() };
        let line = self.stderr.line();
        match self.style {
            Style::Brief => line.extend_from_slice(format!("{level}: {}", self.text).as_bytes()),
            Style::Full => {
                self.clock.stamp(at, line);
                for part in [" - pyinotifyd/", name, " - ", level_name(level).as_ref(), " - ", &self.text] {
                    line.extend_from_slice(part.as_bytes());
                }
            }
            Style::Journal => {
                let prefix = format!("<{}>pyinotifyd/{name}: ", level.severity());
                line.extend_from_slice(prefix.as_bytes());
                // Each line of the text is an entry of its own to the journal; it needs the priority again.
                let again = format!("\n<{}>", level.severity());
                line.extend_from_slice(self.text.replace('\n', &again).as_bytes());
            }
            Style::Terminal => {
                line.extend_from_slice(DIM.as_bytes());
                self.clock.stamp(at, line);
                let colour = colour(level);
                let rest = format!(" - pyinotifyd/{name} -{PLAIN} {colour}{level}{PLAIN} - {}", self.text);
                line.extend_from_slice(rest.as_bytes());
            }
        }
        line.push(b'\n');
        self.stderr.end_line();
        for target in &mut self.syslog {
            target.send(&logger.name, level, &self.text);
        }
        if self.forwarding && origin == Origin::Daemon && self.forwarded.len() < FORWARDED_MAX {
            let message = self.text.clone();
            self.forwarded.push(Forwarded { logger: name.to_owned(), level, message, created: at });
        }
    }

    /// Hands all lines to stderr; true if some are left because the reader does not take them.
    pub(crate) fn flush(&mut self) -> bool {
        self.stderr.flush()
    }

    /// Hands the last lines to a slow reader, waiting a little for it.
    pub(crate) fn flush_at_exit(&mut self) {
        self.stderr.flush_at_exit();
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

#[derive(Clone, Copy, PartialEq, Eq)]
enum Origin {
    Daemon,
    Host,
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

/// `log!(log, logger, WARNING, "text {}", value)`: formats only if the record is written.
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

    fn lines(log: &mut Log) -> String {
        log.stderr.take_for_test()
    }

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
    fn the_root_logger_is_called_root() {
        let mut log = Log::new(Stderr::discard());
        log.set_style(Style::Full);
        record!(log, Log::ROOT, ERROR, "text");
        assert!(lines(&mut log).ends_with(" - pyinotifyd/root - ERROR - text\n"));
    }

    #[test]
    fn before_the_daemon_runs_a_line_is_brief() {
        let mut log = Log::new(Stderr::discard());
        record!(log, Log::ROOT, INFO, "config file ok");
        record!(log, Log::ROOT, DEBUG, "unseen");
        assert_eq!(lines(&mut log), "INFO: config file ok\n");
    }

    #[test]
    fn only_the_daemons_own_records_are_forwarded() {
        let mut log = Log::new(Stderr::discard());
        log.forward(true);
        let logger = log.logger("daemon");
        record!(log, logger, INFO, "mine");
        log.write_foreign(logger, Level::INFO, 0.0, "the host's");
        let forwarded = log.take_forwarded();
        assert_eq!(forwarded.len(), 1);
        assert_eq!((forwarded[0].logger.as_str(), forwarded[0].message.as_str()), ("daemon", "mine"));
    }
}
