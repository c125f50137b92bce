//! Reading the kernel's queue: when, how much, and what is known about the queue from it.

use std::time::{Duration, Instant};

use rustix::io::Errno;

use super::Watcher;
use super::recover::Moment;
use crate::decode::{self, EVENT_MAX};
use crate::spec::{Limits, Sink, Turn};
use crate::tree::UNNAMED;

/// Events in one span that make the tree a busy one. A trickle of 10,000 events a second stays below.
const HOT_EVENTS: u64 = 32;
/// Events that a turn works off beyond its units for the other half of an exchange, which comes right behind the first.
const FOR_OTHER_HALF: u32 = 32;
/// Long enough that the batches of a trickle even out.
const HOT_SPAN: Duration = Duration::from_millis(2);

/// The buffer and the state of the queue.
pub(super) struct Reading {
    buffer: Vec<u8>,
    /// Bytes of the reads before this one.
    before: u64,
    /// What is not worked off yet.
    at: usize,
    end: usize,
    /// The last read left the queue empty.
    pub(super) emptied: bool,
    /// Number of the last read.
    pub(super) number: u64,
    /// When the queue was last known to be empty.
    pub(super) empty: Moment,
    /// When the last read began.
    read: Moment,
    pub(super) events_since_empty: u64,
    /// The queue was longer than one read: IN_CREATE is remembered, an overflow may follow.
    pub(super) backlog: bool,
    /// Start of the span over which heat is measured, and the events in it.
    span_from: Instant,
    span_events: u64,
    pause_until: Option<Instant>,
    pause: Duration,
    pub(super) queue_max: u64,
    buffer_len: usize,
    /// The queue has overflowed again before the first time was made up for.
    pub(super) storms: bool,
    /// How many events had been read when as many as the queue holds had been read since the last time.
    turned_over_at: u64,
}

/// Why nothing that was queued at an earlier time is left in the queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Queue {
    /// It is empty.
    Empty,
    /// As many events have been read since as it holds. It may be full all the same.
    TurnedOver,
}

impl Reading {
    pub(super) fn new(limits: &Limits, queue_max: u64, now: Instant) -> Reading {
        // Smaller than one event, read(2) fails with EINVAL (K23).
        let buffer_len = limits.read_bytes.max(4 * EVENT_MAX);
        Reading {
            buffer: vec![0; buffer_len],
            buffer_len,
            turned_over_at: 0,
            storms: false,
            before: 0,
            at: 0,
            end: 0,
            emptied: true,
            number: 0,
            empty: Moment::of(now),
            read: Moment::of(now),
            events_since_empty: 0,
            backlog: false,
            span_from: now,
            span_events: 0,
            pause_until: None,
            pause: limits.pause,
            queue_max,
        }
    }

    /// What the last read has brought.
    pub(super) fn last(&self) -> &[u8] {
        &self.buffer[..self.end]
    }

    fn is_worked_off(&self) -> bool {
        self.at == self.end
    }

    /// Whether the pause of a busy tree still lasts.
    fn pauses(&self, now: Instant) -> bool {
        self.pause_until.is_some_and(|until| now < until)
    }

    pub(super) fn end_pause(&mut self) {
        self.pause_until = None;
    }

    /// A read begins: its events count for the span under way, or for a new one.
    fn begin(&mut self, now: Instant) {
        self.number += 1;
        self.read = Moment::of(now);
        self.pause_until = None;
        if now.saturating_duration_since(self.span_from) > HOT_SPAN {
            (self.span_from, self.span_events) = (now, 0);
        }
    }

    /// Decides whether a pause follows the read that was worked off.
    fn pause_if_hot(&mut self) {
        // Never after a full read: more is waiting. Never where as many events again could fill half the queue.
        if self.span_events >= HOT_EVENTS && self.emptied && self.span_events * 2 < self.queue_max / 2 {
            self.pause_until = Some(self.read.at + self.pause);
            (self.span_from, self.span_events) = (self.read.at, 0);
        }
    }
}

impl Watcher {
    /// Works off what was read, reading once if nothing is left, as long as the turn has more than `kept` units.
    pub(super) fn read_and_dispatch(&mut self, kept: u32, sink: &mut impl Sink) {
        if self.reading.is_worked_off() {
            if self.reading.pauses(self.now) {
                return;
            }
            self.read();
        }
        let counted = self.reading.events_since_empty;
        self.dispatch_read(kept, FOR_OTHER_HALF, sink);
        // The kernel queues the halves of an exchange one after the other: a read may come between them.
        if !self.asides.is_empty() && self.reading.is_worked_off() {
            self.read();
            self.dispatch_read(u32::MAX, FOR_OTHER_HALF, sink);
        }
        if std::mem::take(&mut self.reading.storms) {
            self.look_for_storm();
        }
        let events = self.reading.events_since_empty - counted;
        self.reading.span_events += events;
        self.stats.events += events;
        if self.reading.is_worked_off() {
            self.reading.pause_if_hot();
            if self.reading.emptied {
                self.queue_was_empty(sink);
            }
        }
        if self.stats.events - self.reading.turned_over_at >= self.reading.queue_max
            && self.resolve_doubts(Queue::TurnedOver, sink)
        {
            self.reading.turned_over_at = self.stats.events;
        }
    }

    /// Works off what was read, as long as the turn has more than `kept` units; after that not more than so many
    /// events, as long as something is set aside: nothing is to start for that before its place is known.
    fn dispatch_read(&mut self, kept: u32, mut beyond: u32, sink: &mut impl Sink) {
        // Taken out for as long as events borrow from it.
        let buffer = std::mem::take(&mut self.reading.buffer);
        while self.units > kept || beyond > 0 && !self.asides.is_empty() {
            let rest = &buffer[self.reading.at..self.reading.end];
            let Some((event, len)) = decode::first(rest) else {
                // The kernel writes whole events only; anything else is not worth an endless loop.
                self.reading.at = self.reading.end;
                break;
            };
            self.reading.at += len;
            self.reading.events_since_empty += 1;
            if self.units > kept {
                self.units -= 1;
            } else {
                beyond -= 1;
            }
            self.dispatch(&event, sink);
        }
        self.reading.buffer = buffer;
    }

    /// How many events must have been read until all that are queued now have been.
    pub(super) fn read_after_all(&self) -> u64 {
        let in_buffer = (self.reading.buffer_len / size_of::<u128>()) as u64;
        self.stats.events + self.reading.queue_max + in_buffer
    }

    /// How many bytes of events have been worked off.
    pub(super) fn worked_off(&self) -> u64 {
        self.reading.before + self.reading.at as u64
    }

    /// How many will have been when all that is queued now has been.
    pub(super) fn worked_off_after_all(&self) -> u64 {
        self.reading.before + self.reading.end as u64 + self.kernel.queued_bytes()
    }

    /// Since when at least the oldest event waits that is not worked off, with so much in the queue.
    pub(super) fn unread_since(&self, queued_bytes: u64) -> Option<Instant> {
        let reading = &self.reading;
        if !reading.is_worked_off() || !reading.emptied {
            return Some(reading.empty.at);
        }
        (queued_bytes > 0).then_some(reading.read.at)
    }

    fn read(&mut self) {
        self.creations.mark();
        self.fresh.mark();
        self.stats.reads += 1;
        let reading = &mut self.reading;
        reading.before += reading.end as u64;
        reading.begin(self.now);
        let len = match self.kernel.read(&mut reading.buffer) {
            Ok(len) => len,
            Err(errno) => {
                debug_assert_eq!(errno, Errno::AGAIN, "a read from an inotify descriptor has no other error");
                0
            }
        };
        (reading.at, reading.end) = (0, len);
        let full = len + EVENT_MAX > reading.buffer.len();
        reading.emptied = !full;
        reading.backlog |= full;
    }

    /// All events that were queued when the last read began are worked off: what was remembered because of them goes.
    fn queue_was_empty(&mut self, sink: &mut impl Sink) {
        self.fresh.settle();
        self.resolve_doubts(Queue::Empty, sink);
        self.drop_displaced();
        self.forget_kept();
        self.creations.settle(self.recovery.runs());
        let reading = &mut self.reading;
        reading.empty = reading.read;
        reading.events_since_empty = 0;
        reading.backlog = false;
    }

    /// Nodes that lost their name and were neither deleted nor renamed: their rename left our sight. A recovery may
    /// still find them.
    fn drop_displaced(&mut self) {
        if self.recovery.runs() {
            return;
        }
        let number = self.reading.number;
        let (old, new): (Vec<_>, Vec<_>) = self.displaced.drain(..).partition(|&(_, read)| read < number);
        self.displaced = new;
        for (node, _) in old {
            if self.tree.has(node, UNNAMED) && !self.tree.is_cut(node) {
                self.doom(node);
            }
        }
    }

    pub(super) fn next_turn(&self) -> Turn {
        let reading = &self.reading;
        if !reading.is_worked_off() || !reading.emptied || self.has_background() {
            return Turn::More;
        }
        if let Some(until) = reading.pause_until.filter(|&until| self.now < until) {
            return Turn::Pause(until);
        }
        // These wait for a read that finds the queue empty.
        let waiting = self.fresh.may_have_some()
            || !self.doubts.is_empty()
            || (!self.displaced.is_empty() && !self.recovery.runs())
            || self.nameless.keeps_events();
        if waiting { Turn::More } else { Turn::Idle }
    }
}
