//! `pyinotifyd watch` without a command: a line on stdout for each event.
//!
//! The loop never waits for the reader. Lines that it has not taken are kept; when they are too many, the kernel's
//! queue is not read until there is room, so that nothing is lost unless that queue overflows, which is recovered from
//! and printed like any event.

use std::borrow::Cow;
use std::io::{self, Write as _};
use std::sync::Arc;
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use engine::{Matcher as _, StepLimit};
use event::{Event, Mask};
use rustix::io::Errno;
use serde::Serialize;
use tokio::io::Interest;

use super::Daemon;
use super::shutdown::State;
use super::wake::Descriptor;
use crate::config::{Config, ExcludeFilter, Format};
use crate::log::{Cause, Clock, Escaped, Stream, record, wait_writable};

/// Bytes of lines that the reader has not taken, at which no more events are read. One turn of the watcher comes on
/// top.
const PENDING_MAX: usize = 1 << 20;
/// Room for lines that is kept.
const ROOM: usize = 1 << 16;
/// How long the last lines wait for a slow reader when the daemon ends.
const EXIT_WAIT: Duration = Duration::from_millis(500);

/// Prints events.
#[derive(Debug)]
pub(super) struct Printer {
    format: Format,
    /// Events that are printed; the log of `-d` asks the kernel for more.
    on: Mask,
    exclude: Option<Arc<ExcludeFilter>>,
    clock: Clock,
    stream: Stream,
    /// Whole lines; the first `written` bytes are out.
    pending: Vec<u8>,
    written: usize,
    ended: Option<End>,
}

/// An event as JSON: what a path has that is not UTF-8 shows as U+FFFD, and its bytes stand beside it in base64 then.
#[derive(Serialize)]
struct Object<'a> {
    time: String,
    event: &'a str,
    path: Cow<'a, str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    path_b64: Option<String>,
    src_path: Option<Cow<'a, str>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    src_path_b64: Option<String>,
    dir: bool,
    synthetic: bool,
}

fn base64_of(path: &[u8]) -> Option<String> {
    std::str::from_utf8(path).is_err().then(|| BASE64.encode(path))
}

/// Why nothing can be printed any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    /// Nobody reads it.
    Closed,
    /// Writing fails.
    Failed(Errno),
}

impl Printer {
    /// What a configuration says is printed, if it says so.
    pub(super) fn of(config: &Config) -> Option<Printer> {
        let (format, watch) = (config.print?, config.watches.first()?);
        Some(Printer {
            format,
            on: watch.interest,
            exclude: watch.exclude.clone(),
            clock: Clock::new(),
            stream: Stream::of(rustix::stdio::stdout()),
            pending: Vec::new(),
            written: 0,
            ended: None,
        })
    }

    /// What tells that its reader has taken something or is gone.
    pub(super) fn source(&self) -> Option<Descriptor> {
        let fd = self.stream.waits_on()?.try_clone_to_owned().ok()?;
        // A device that is always ready cannot be waited for, and need not be.
        Descriptor::new(fd, Interest::WRITABLE | Interest::ERROR).ok()
    }

    /// Keeps a line for an event.
    ///
    /// # Errors
    /// A pattern of the exclude filter gave up.
    pub(super) fn event(&mut self, event: &Event<'_>) -> Result<(), StepLimit> {
        if !event.mask.intersects(self.on) || self.ended.is_some() {
            return Ok(());
        }
        if let Some(exclude) = self.exclude.as_ref().filter(|_| !event.pathname.is_empty())
            && exclude.first_match(event.pathname)?.is_some()
        {
            return Ok(());
        }
        match self.format {
            Format::Text => self.text(event),
            Format::Json => self.json(event),
        }
        self.pending.push(b'\n');
        Ok(())
    }

    fn text(&mut self, event: &Event<'_>) {
        self.clock.stamp(self.clock.now(), &mut self.pending);
        let written = write!(self.pending, " {} {}", event.mask.name(), Escaped(event.pathname));
        written.expect("memory takes everything");
    }

    fn json(&mut self, event: &Event<'_>) {
        let object = Object {
            time: self.clock.rfc3339(self.clock.now()),
            event: event.mask.name(),
            path: String::from_utf8_lossy(event.pathname),
            path_b64: base64_of(event.pathname),
            src_path: event.src_pathname.map(String::from_utf8_lossy),
            src_path_b64: event.src_pathname.and_then(base64_of),
            dir: event.is_dir,
            synthetic: event.synthetic,
        };
        serde_json::to_writer(&mut self.pending, &object).expect("memory takes everything");
    }

    /// Whether there are so many lines that no more events are to be read.
    pub(super) fn is_full(&self) -> bool {
        self.pending.len() - self.written >= PENDING_MAX
    }

    /// Writes what the reader takes.
    fn flush(&mut self) {
        while self.written < self.pending.len() && self.ended.is_none() {
            match self.stream.write(&self.pending[self.written..]) {
                Ok(0) | Err(Errno::AGAIN) => break,
                Ok(count) => self.written += count,
                Err(Errno::INTR) => {}
                Err(Errno::PIPE) => self.ended = Some(End::Closed),
                Err(error) => self.ended = Some(End::Failed(error)),
            }
        }
        if self.written == self.pending.len() {
            self.pending.clear();
            self.pending.shrink_to(ROOM);
            self.written = 0;
        } else if self.written >= PENDING_MAX {
            self.pending.drain(..self.written);
            self.written = 0;
        }
    }

    /// Waits a little for a slow reader; how many lines it did not take.
    fn flush_at_exit(&mut self) -> usize {
        let until = Instant::now() + EXIT_WAIT;
        self.flush();
        while self.ended.is_none() && self.written < self.pending.len() {
            if !self.stream.waits_on().is_some_and(|fd| wait_writable(fd, until)) {
                break;
            }
            self.flush();
        }
        // A reader that is gone wants no more of them.
        let wanted = self.ended != Some(End::Closed);
        self.pending[self.written..].iter().filter(|byte| wanted && **byte == b'\n').count()
    }
}

impl Daemon {
    /// Prints what the turn brought. Ends the daemon if nobody reads it.
    pub(super) fn print(&mut self, now: Instant) {
        let Some(printer) = &mut self.core.printer else { return };
        printer.flush();
        let log = &mut self.core.performer.log;
        match printer.ended.filter(|_| self.state == State::Running) {
            None => return,
            Some(End::Closed) => record!(log, self.logger, INFO, "stdout was closed, shutdown"),
            Some(End::Failed(error)) => {
                let error = io::Error::from(error);
                let error = Cause(&error);
                record!(log, self.logger, ERROR, "cannot write to stdout: {error}, shutdown");
                self.failed = true;
            }
        }
        self.begin_end(now);
        self.end_now(now);
    }

    /// The reader of stdout has taken something, or is gone.
    pub(super) fn printed(&mut self) {
        if let Some(printer) = &mut self.core.printer
            && printer.stream.is_closed()
        {
            printer.ended.get_or_insert(End::Closed);
        }
    }

    /// Whether the reader of stdout has to take lines before more events are read.
    pub(super) fn waits_for_reader(&self) -> bool {
        self.core.printer.as_ref().is_some_and(Printer::is_full)
    }

    /// Prints the last lines.
    pub(super) fn end_printing(&mut self) {
        let Some(printer) = &mut self.core.printer else { return };
        let lost = printer.flush_at_exit();
        if lost > 0 {
            let log = &mut self.core.performer.log;
            record!(log, self.logger, WARNING, "{lost} line(s) were not printed, since nobody read them");
        }
    }
}
