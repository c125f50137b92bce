//! Time as the engine counts it. It has no clock: every call brings the time along.

use std::time::{Duration, Instant};

/// Nanoseconds since the engine was made; 2^64 of them are 584 years.
pub(crate) type Nanos = u64;

/// Longest span that is counted, so that sums cannot overflow: 73 years.
const SPAN_MAX: Nanos = 1 << 61;

/// Turns instants into [`Nanos`] that never run backwards.
pub(crate) struct Clock {
    epoch: Instant,
    /// The instant of the latest call: all events of one read come with the same one.
    seen: Instant,
    latest: Nanos,
}

impl Clock {
    pub(crate) fn new(now: Instant) -> Clock {
        Clock { epoch: now, seen: now, latest: 0 }
    }

    /// Notes the time of a call.
    pub(crate) fn advance(&mut self, now: Instant) -> Nanos {
        if now != self.seen {
            self.seen = now;
            self.latest = self.latest.max(span(now.saturating_duration_since(self.epoch)));
        }
        self.latest
    }

    /// The time of the latest call.
    pub(crate) fn now(&self) -> Nanos {
        self.latest
    }

    /// An instant, which may be one to come.
    pub(crate) fn at(&self, instant: Instant) -> Nanos {
        span(instant.saturating_duration_since(self.epoch))
    }

    /// Back to an instant; `None` beyond what the system's clock can show.
    pub(crate) fn instant(&self, at: Nanos) -> Option<Instant> {
        self.epoch.checked_add(Duration::from_nanos(at))
    }
}

/// A duration, cut at [`SPAN_MAX`].
pub(crate) fn span(duration: Duration) -> Nanos {
    u64::try_from(duration.as_nanos()).map_or(SPAN_MAX, |nanos| nanos.min(SPAN_MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_does_not_run_backwards() {
        let start = Instant::now();
        let mut clock = Clock::new(start);
        assert_eq!(clock.advance(start + Duration::from_nanos(7)), 7);
        assert_eq!(clock.advance(start), 7);
        assert_eq!(clock.instant(7), Some(start + Duration::from_nanos(7)));
    }

    #[test]
    fn endless_spans_are_cut() {
        assert_eq!(span(Duration::MAX), SPAN_MAX);
        assert_eq!(span(Duration::from_secs(1)), 1_000_000_000);
        assert!(SPAN_MAX.checked_mul(4).is_some());
    }
}
