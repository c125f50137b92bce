//! Time as the engine counts it. It has no clock: every call brings the time along.

use std::time::{Duration, Instant};

/// Nanoseconds; 2^64 of them are 584 years.
pub(crate) type Nanos = u64;

/// When the engine was made. Times of an earlier life of the daemon lie before; what is older than a year counts as
/// being that old.
pub(crate) const START: Nanos = 366 * 86_400 * 1_000_000_000;

/// Longest span that is counted, so that sums cannot overflow: 73 years.
const SPAN_MAX: Nanos = 1 << 61;

/// Turns instants into [`Nanos`] that never run backwards.
pub(crate) struct Clock {
    start: Instant,
    /// The instant of the latest call: all events of one read come with the same one.
    seen: Instant,
    latest: Nanos,
}

impl Clock {
    pub(crate) fn new(now: Instant) -> Clock {
        Clock { start: now, seen: now, latest: START }
    }

    /// Notes the time of a call.
    pub(crate) fn advance(&mut self, now: Instant) -> Nanos {
        if now != self.seen {
            self.seen = now;
            self.latest = self.latest.max(START + span(now.saturating_duration_since(self.start)));
        }
        self.latest
    }

    /// The time of the latest call.
    pub(crate) fn now(&self) -> Nanos {
        self.latest
    }

    /// An instant, which may be one to come.
    pub(crate) fn at(&self, instant: Instant) -> Nanos {
        let before = span(self.start.saturating_duration_since(instant));
        (START + span(instant.saturating_duration_since(self.start))).saturating_sub(before)
    }

    /// Back to an instant; `None` beyond what the system's clock can show.
    pub(crate) fn instant(&self, at: Nanos) -> Option<Instant> {
        let before = Duration::from_nanos(START.saturating_sub(at));
        self.start.checked_add(Duration::from_nanos(at.saturating_sub(START)))?.checked_sub(before)
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
        assert_eq!(clock.advance(start + Duration::from_nanos(7)), START + 7);
        assert_eq!(clock.advance(start), START + 7);
        assert_eq!(clock.instant(START + 7), Some(start + Duration::from_nanos(7)));
    }

    #[test]
    fn times_before_the_engine_was_made_count() {
        let start = Instant::now();
        let clock = Clock::new(start);
        let before = start.checked_sub(Duration::from_nanos(7));
        assert_eq!(before.map(|before| clock.at(before)), Some(START - 7));
        assert_eq!(clock.instant(START - 7), before);
        let long_before = start.checked_sub(Duration::from_nanos(2 * START));
        assert_eq!(long_before.map(|before| clock.at(before)), Some(0));
    }

    #[test]
    fn endless_spans_are_cut() {
        assert_eq!(span(Duration::MAX), SPAN_MAX);
        assert_eq!(span(Duration::from_secs(1)), 1_000_000_000);
        assert!(SPAN_MAX.checked_mul(4).is_some());
    }
}
