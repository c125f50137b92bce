//! Lines on stderr that never make the daemon wait, see [`Stream`].

use std::time::Instant;

use rustix::io::Errno;

use super::stream::{PIPE_BUF, Stream};
use super::wait_writable;

/// Bytes kept for a reader that does not take them; beyond it lines are dropped and counted.
const PENDING_MAX: usize = 1 << 20;

/// See the module's head.
#[derive(Debug)]
pub(crate) struct Stderr {
    stream: Stream,
    /// Whole lines that are not written yet; the first `written` bytes are.
    pending: Vec<u8>,
    written: usize,
    /// Where the line that is being composed starts in `pending`.
    line_start: usize,
    dropped: u64,
    /// The same since the start.
    dropped_ever: u64,
    /// Priority (sd-daemon(3)) before the line with the number of dropped ones.
    priority: &'static str,
}

impl Stderr {
    /// The process's stderr.
    pub(crate) fn new() -> Stderr {
        Stderr::with(Stream::of(rustix::stdio::stderr()))
    }

    #[cfg(test)]
    pub(crate) fn discard() -> Stderr {
        Stderr::with(Stream::discard())
    }

    #[cfg(test)]
    pub(super) fn take_for_test(&mut self) -> String {
        self.line_start = 0;
        String::from_utf8(std::mem::take(&mut self.pending)).expect("log lines are UTF-8")
    }

    fn with(stream: Stream) -> Stderr {
        Stderr {
            stream,
            pending: Vec::new(),
            written: 0,
            line_start: 0,
            dropped: 0,
            dropped_ever: 0,
            priority: "",
        }
    }

    /// Its reader understands priorities (sd-daemon(3)); other lines come with theirs.
    pub(super) fn leads_to_journal(&mut self) {
        self.priority = "<4>";
    }

    /// Appends a whole line.
    pub(super) fn append(&mut self, line: &[u8]) {
        self.line().extend_from_slice(line);
        self.end_line();
    }

    /// The buffer to append one line to; [`Stderr::end_line`] must follow.
    pub(super) fn line(&mut self) -> &mut Vec<u8> {
        self.line_start = self.pending.len();
        &mut self.pending
    }

    /// Ends the line; over the limit it is dropped.
    pub(super) fn end_line(&mut self) {
        if self.waiting() > PENDING_MAX {
            // One attempt before a line is lost: the reader may have caught up within this turn.
            self.write_pending();
            if self.waiting() > PENDING_MAX {
                self.pending.truncate(self.line_start.max(self.written));
                self.dropped += 1;
                self.dropped_ever += 1;
            }
        }
    }

    /// Writes what the reader takes; true if something is left.
    pub(super) fn flush(&mut self) -> bool {
        if self.pending.is_empty() {
            return false;
        }
        self.write_pending();
        if self.pending.is_empty() && self.dropped > 0 {
            let dropped = std::mem::take(&mut self.dropped);
            let priority = self.priority;
            let text =
                format!("{priority}pyinotifyd: {dropped} log lines were dropped, since nobody read them\n");
            self.pending.extend_from_slice(text.as_bytes());
            self.write_pending();
            if self.dropped > 0 {
                // This line was lost too: it is said when there is room again, and counts for nothing itself.
                self.dropped = dropped;
            }
        }
        !self.pending.is_empty()
    }

    pub(super) fn flush_at_exit(&mut self, until: Instant) {
        while self.flush() && wait_writable(rustix::stdio::stderr(), until) {}
    }

    /// Lines that were dropped since the start.
    pub(super) fn dropped_ever(&self) -> u64 {
        self.dropped_ever
    }

    /// Bytes that wait for the reader.
    pub(super) fn waiting(&self) -> usize {
        self.pending.len() - self.written
    }

    fn write_pending(&mut self) {
        while self.written < self.pending.len() {
            match self.stream.write(&self.pending[self.written..]) {
                Ok(0) | Err(Errno::AGAIN) => break,
                Ok(count) => self.written += count,
                Err(Errno::INTR) => {}
                // Nobody can ever read it (EPIPE, EIO of a terminal that hung up, a full disk): the lines are lost.
                Err(_) => {
                    let lost = lines(&self.pending[self.written..]);
                    self.dropped += lost;
                    self.dropped_ever += lost;
                    self.written = self.pending.len();
                }
            }
        }
        if self.written == self.pending.len() {
            self.pending.clear();
            self.pending.shrink_to(PIPE_BUF * 16);
            self.written = 0;
            self.line_start = 0;
        } else if self.written > PENDING_MAX / 2 {
            self.pending.drain(..self.written);
            self.line_start = self.line_start.saturating_sub(self.written);
            self.written = 0;
        }
    }
}

/// How many lines end in there.
fn lines(text: &[u8]) -> u64 {
    text.split(|byte| *byte == b'\n').count() as u64 - 1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reader_that_takes_nothing_costs_lines_and_no_memory() {
        let mut stderr = Stderr::discard();
        for number in 0..100_000 {
            stderr.line().extend_from_slice(format!("{number:>100}\n").as_bytes());
            stderr.end_line();
        }
        assert!(stderr.pending.len() <= PENDING_MAX);
        assert!(stderr.pending.ends_with(b"\n"));
        let kept = lines(&stderr.pending);
        assert_eq!(kept + stderr.dropped, 100_000);
    }
}
