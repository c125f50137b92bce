//! Who works on file rules, and when another one joins.

use std::thread::{Thread, ThreadId};
use std::time::{Duration, Instant};

/// Threads at the most; each one may be busy with a copy of hours.
pub(super) const WORKERS_MAX: usize = 16;
/// How long nothing is taken up, though work waits, before another worker joins: for each one that is at work. Also the
/// time that waiting work may need without one.
pub(super) const PATIENCE: Duration = Duration::from_millis(2);
/// How long orders are counted before they tell how fast the work gets on: some 50 small copies.
const PACE: Duration = Duration::from_millis(1);
/// The same, where more workers than processors are in question; the pace is that of the last so many milliseconds.
const PACE_OF_DISK: Duration = Duration::from_millis(10);
/// Orders that are taken up so fast, 50,000 a second, come and go about as fast as one program makes files. They are renames, and
/// a rename to another directory takes a lock of the whole filesystem: one more would mostly wait for it, and keep a processor
/// busy meanwhile.
const BRISK: Duration = Duration::from_micros(20);
/// Time for one order from which on it is not the processor that work waits for. A small file takes some 10 us, one that
/// is synced some milliseconds.
const SLOW: Duration = Duration::from_millis(1);

/// The threads.
#[derive(Debug, Default)]
pub(super) struct Staff {
    workers: usize,
    /// Workers that sleep. The last one is called first: its memory is warm still, and the others get to leave.
    asleep: Vec<Thread>,
    /// Workers that were called or hired and have not taken an order up yet.
    coming: usize,
}

/// How the work on orders of one kind gets on.
#[derive(Debug, Default)]
pub(super) struct Pace {
    /// When an order was taken up last, or somebody was called for one.
    progress_at: Option<Instant>,
    /// Since when orders that are taken up are counted.
    counted_from: Option<Instant>,
    /// How many were taken up since then.
    taken: u32,
}

/// Orders that wait, and who may take them up beside the workers.
#[derive(Clone, Copy, Debug)]
pub(super) struct Waiting {
    pub(super) orders: usize,
    /// The loop's own thread takes them up too.
    pub(super) loop_takes_part: bool,
}

/// Who is to take up waiting work, beside those that are at it.
#[derive(Debug)]
pub(super) enum Call {
    Nobody,
    /// This one, which sleeps.
    Sleeper(Thread),
    /// A new one, which counts from now on.
    Newcomer,
}

impl Staff {
    /// Decides who is to come for orders that wait.
    pub(super) fn call(
        &mut self,
        pace: &mut Pace,
        waiting: Waiting,
        processors: usize,
        now: Instant,
    ) -> Call {
        let hands = self.working() + usize::from(waiting.loop_takes_part);
        let enough = waiting.orders == 0
            || hands > 0
                && !pace.is_stuck(hands, now)
                && !pace.is_backlogged(hands, waiting.orders, processors, now);
        if enough {
            return Call::Nobody;
        }
        // Who joins is given time: one joins at a time.
        pace.begin(now);
        match self.asleep.pop() {
            Some(thread) => {
                self.coming += 1;
                Call::Sleeper(thread)
            }
            None if self.workers < WORKERS_MAX => {
                self.workers += 1;
                self.coming += 1;
                Call::Newcomer
            }
            None => Call::Nobody,
        }
    }

    fn working(&self) -> usize {
        self.workers - self.asleep.len()
    }

    /// How many are there, at work or not.
    pub(super) fn workers(&self) -> usize {
        self.workers
    }

    /// How many are on the way, to take up one order each.
    pub(super) fn coming(&self) -> usize {
        self.coming
    }

    /// A worker that was called or hired is there.
    pub(super) fn came(&mut self) {
        self.coming -= 1;
    }

    /// The newcomer could not be hired.
    pub(super) fn did_not_come(&mut self) {
        self.workers -= 1;
        self.coming -= 1;
    }

    /// A thread that was something else works from now on.
    pub(super) fn joined(&mut self) {
        self.workers += 1;
    }

    /// A worker goes to sleep.
    pub(super) fn sleeps(&mut self, thread: Thread) {
        self.asleep.push(thread);
    }

    /// Lets a sleeper leave for good; false if it was called meanwhile.
    pub(super) fn leaves(&mut self, thread: ThreadId) -> bool {
        let Some(place) = self.asleep.iter().position(|asleep| asleep.id() == thread) else { return false };
        self.asleep.remove(place);
        self.workers -= 1;
        true
    }

    /// Whether a worker that went to sleep has been called.
    pub(super) fn is_called(&self, thread: ThreadId) -> bool {
        self.asleep.iter().all(|asleep| asleep.id() != thread)
    }
}

impl Pace {
    /// Whether all that work are on something long.
    fn is_stuck(&self, hands: usize, now: Instant) -> bool {
        self.progress_at.is_none_or(|at| at + PATIENCE * hands as u32 <= now)
    }

    /// Whether the work gets on, but not fast enough, and one more would help.
    fn is_backlogged(&mut self, hands: usize, waiting: usize, processors: usize, now: Instant) -> bool {
        let counted = now.saturating_duration_since(*self.counted_from.get_or_insert(now));
        // From one order that is taken up to the next.
        let gap = counted / self.taken.max(1);
        let is_long = gap * waiting as u32 >= PATIENCE;
        if hands < processors {
            return counted >= PACE && is_long && gap >= BRISK;
        }
        if counted < PACE_OF_DISK {
            return false;
        }
        self.count_from(now);
        is_long && gap * hands as u32 >= SLOW
    }

    /// Orders are counted anew.
    pub(super) fn count_from(&mut self, now: Instant) {
        (self.counted_from, self.taken) = (Some(now), 0);
    }

    /// Somebody is about to take up what waits.
    pub(super) fn begin(&mut self, now: Instant) {
        self.progress_at = Some(now);
        self.count_from(now);
    }

    /// An order was taken up.
    pub(super) fn took_one(&mut self, now: Instant) {
        self.progress_at = Some(now);
        self.taken += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Processors of the machine in these tests.
    const PROCESSORS: usize = 2;

    /// Workers alone, and orders of one kind.
    #[derive(Default)]
    struct Crew {
        staff: Staff,
        pace: Pace,
    }

    impl Crew {
        fn call(&mut self, orders: usize, now: Instant) -> Call {
            self.staff.call(&mut self.pace, Waiting { orders, loop_takes_part: false }, PROCESSORS, now)
        }

        /// Somebody comes, as the loop lets him; gives whether anybody did.
        fn join(&mut self, orders: usize, now: Instant) -> bool {
            let called = !matches!(self.call(orders, now), Call::Nobody);
            if called {
                self.staff.came();
            }
            called
        }

        fn took(&mut self, count: u32, now: Instant) {
            (0..count).for_each(|_| self.pace.took_one(now));
        }

        fn of(workers: usize, counted_from: Instant) -> Crew {
            let mut crew = Crew { staff: Staff { workers, ..Staff::default() }, ..Crew::default() };
            crew.pace.count_from(counted_from);
            crew
        }
    }

    /// How many work in the end on so many orders, all there at once, of which each takes `one`; by a clock that only
    /// these tests move.
    fn workers_for(orders: u32, one: Duration) -> usize {
        let (start, step) = (Instant::now(), Duration::from_micros(10));
        let (mut crew, mut now, mut left) = (Crew::of(0, start), start, orders);
        let mut busy_until: Vec<Instant> = Vec::new();
        let mut look_at = now;
        while left > 0 {
            if look_at <= now {
                look_at = now + PATIENCE;
                if crew.join(left as usize, now) {
                    busy_until.push(now);
                }
            }
            for until in busy_until.iter_mut().filter(|until| **until <= now).take(left as usize) {
                crew.took(1, now);
                (*until, left) = (now + one, left - 1);
            }
            now += step;
        }
        crew.staff.workers
    }

    #[test]
    fn small_files_keep_as_many_busy_as_there_are_processors_and_slow_ones_more() {
        let (us, ms) = (Duration::from_micros, Duration::from_millis);
        assert_eq!(workers_for(100, us(10)), 1, "a few are served by one");
        assert_eq!(workers_for(20_000, us(10)), 1, "they get on as fast as they can come");
        assert_eq!(workers_for(20_000, us(30)), PROCESSORS);
        assert_eq!(workers_for(2_000, us(100)), PROCESSORS);
        // What is synced waits for the disk, which does more at once.
        assert_eq!(workers_for(2_000, ms(5)), WORKERS_MAX);
        assert_eq!(workers_for(100, ms(100)), WORKERS_MAX);
    }

    #[test]
    fn only_the_last_moments_count() {
        let start = Instant::now();
        let after = |spans: u32| start + PACE_OF_DISK * spans;
        let mut crew = Crew::of(PROCESSORS, start);
        crew.took(5_000, after(1));
        assert!(!crew.join(20_000, after(1)), "that was fast");
        crew.took(5, after(2));
        assert!(crew.join(20_000, after(2)), "that was slow");
    }

    #[test]
    fn a_second_one_joins_for_what_takes_longer_than_it_should() {
        let start = Instant::now();
        let crew = |taken: u32| {
            let mut crew = Crew::of(1, start);
            crew.took(taken, start + PACE);
            crew
        };
        assert!(!crew(50).join(99, start + PACE), "that much is done in less than 2 ms");
        assert!(crew(50).join(100, start + PACE));
        assert!(!crew(10).join(20_000, start + PACE / 2), "too few were counted");
        assert!(!crew(100).join(20_000, start + PACE), "one is fast enough");
    }

    #[test]
    fn something_long_holds_nothing_up() {
        let start = Instant::now();
        let mut crew = Crew::default();
        assert!(crew.join(1, start), "nobody is there");
        crew.took(1, start);
        assert!(!crew.join(1, start + PATIENCE / 2), "it may be done at once");
        assert!(crew.join(1, start + PATIENCE));
        // Each one more is waited for a little longer.
        assert!(!crew.join(1, start + PATIENCE * 2));
        assert!(crew.join(1, start + PATIENCE * 3));
        // What comes while all that work have been at something long for some time does not wait at all.
        let later = start + Duration::from_secs(60);
        assert!(crew.join(1, later));
        assert_eq!((crew.staff.workers, crew.staff.coming), (4, 0));
    }

    #[test]
    fn those_who_sleep_come_first_and_there_are_never_too_many() {
        let (start, ages) = (Instant::now(), Duration::from_secs(3600));
        let own = std::thread::current();
        let mut crew = Crew::of(1, start);
        crew.staff.sleeps(own.clone());
        assert!(matches!(crew.call(1, start), Call::Sleeper(_)));
        assert!(crew.staff.is_called(own.id()) && !crew.staff.leaves(own.id()));
        assert!(matches!(crew.call(1, start), Call::Nobody), "one is on the way");
        crew.staff.came();
        for hour in 1..=20 {
            crew.join(1, start + ages * hour);
        }
        assert_eq!((crew.staff.workers, crew.staff.coming), (WORKERS_MAX, 0));
        crew.staff.sleeps(own.clone());
        assert!(!crew.staff.is_called(own.id()) && crew.staff.leaves(own.id()));
        assert_eq!(crew.staff.workers, WORKERS_MAX - 1);
    }

    #[test]
    fn the_loop_is_one_of_those_who_work() {
        let start = Instant::now();
        let mut crew = Crew::default();
        let call = |crew: &mut Crew, orders, now| {
            crew.staff.call(&mut crew.pace, Waiting { orders, loop_takes_part: true }, PROCESSORS, now)
        };
        crew.pace.begin(start);
        assert!(matches!(call(&mut crew, 1, start), Call::Nobody), "it does that itself");
        crew.took(40, start + PACE);
        assert!(matches!(call(&mut crew, 10, start + PACE), Call::Nobody), "and soon that too");
        assert!(matches!(call(&mut crew, 1_000, start + PACE), Call::Newcomer), "but not as many alone");
        crew.staff.did_not_come();
        assert_eq!((crew.staff.workers, crew.staff.coming), (0, 0));
        assert!(matches!(call(&mut crew, 0, start + PATIENCE * 9), Call::Nobody), "nothing waits");
    }
}
