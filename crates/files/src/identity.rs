//! Which file, in which state, and what a look at it proves.
//!
//! Owns the comparison of two looks at one file: whether it was written between them. The times of a file tell that
//! only in steps, so that a look proves nothing about changes within the step in which it was taken; and users can set
//! the time of the last write back, but not the time of the last change.
//!
//! # The step
//!
//! The kernel stamps a change with the time of the last tick of its clock, cut to what the filesystem can store: whole
//! seconds on ext4 with inodes of 128 bytes, two on FAT, 10 ms on exFAT. No call says how coarse a filesystem is. A
//! time that is a round number of steps says it well enough: at worst a file is taken for coarser than it is, and acted
//! on a moment later. Since Linux 6.13 ext4, XFS, Btrfs and tmpfs give a change that comes after a look a time of its
//! own.
//!
//! # Half of a change
//!
//! stat(2) waits for no other call. link(2) and unlink(2) set the number of names and the time of the last change one
//! after the other, in an order that depends on the filesystem: a look between the two sees the one and not the other.
//! [`look`] looks again.

use std::os::fd::AsFd;
use std::sync::OnceLock;
use std::thread;
use std::time::Duration;

use crate::sys::{self, Status, nanoseconds};

/// Between two ticks of the slowest clock that Linux is configured with (100 Hz).
const TICK: Duration = Duration::from_millis(10);

/// The coarsest step in use, that of FAT.
const WHOLE_SECONDS: Duration = Duration::from_secs(2);

/// How long [`look`] waits for a change of names to be whole, and how long it waits between two looks: the thread that
/// makes the change may have to wait for a processor.
const WHOLE_WITHIN: Duration = Duration::from_millis(50);
const LOOK_AGAIN_AFTER: Duration = Duration::from_millis(1);

/// Numbers of filesystems (statfs(2)) that tell each change from the look before it, since [`DISTINCT_SINCE`].
const DISTINCT: [u64; 4] = [0xef53, 0x5846_5342, 0x9123_683e, 0x0102_1994];
const DISTINCT_SINCE: (u32, u32) = (6, 13);

/// Which file was acted on, and in which state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Identity {
    /// Device.
    pub dev: u64,
    /// Inode.
    pub ino: u64,
    /// How many names it has.
    pub links: u64,
    /// Size in bytes.
    pub size: u64,
    /// Time of the last change of content, in nanoseconds since the epoch.
    pub mtime_ns: i128,
    /// Time of the last change of anything, in nanoseconds since the epoch.
    pub ctime_ns: i128,
    /// When it was looked at before it was acted on, in nanoseconds since the epoch.
    pub seen_ns: i128,
}

impl Status {
    /// The identity that callers compare across actions.
    pub(crate) fn identity(&self) -> Identity {
        Identity {
            dev: self.inode.dev,
            ino: self.inode.ino,
            links: self.links,
            size: self.size,
            mtime_ns: nanoseconds(self.mtime),
            ctime_ns: nanoseconds(self.ctime),
            seen_ns: self.seen_ns,
        }
    }

    /// Whether nothing was written between two looks, as far as the times can tell ([`unproven_for`]).
    pub(crate) fn is_same_state(&self, other: &Status) -> bool {
        self.identity().is_same_state(&other.identity())
    }

    /// The same, but for the time of the last change, which a rename sets.
    pub(crate) fn is_same_content(&self, other: &Status) -> bool {
        (self.inode, self.size) == (other.inode, other.size)
            && nanoseconds(self.mtime) == nanoseconds(other.mtime)
    }
}

impl Identity {
    /// The time of the last change counts unless it is that of a name: other names of the same file come and go while
    /// it is acted on.
    pub(crate) fn is_same_state(&self, other: &Identity) -> bool {
        (self.dev, self.ino, self.size, self.mtime_ns) == (other.dev, other.ino, other.size, other.mtime_ns)
            && (self.links != other.links || self.ctime_ns == other.ctime_ns)
    }

    /// Whether only one of the two is new that a change of names sets. A change of attributes looks the same.
    fn is_half_changed(&self, other: &Identity) -> bool {
        (self.dev, self.ino, self.size, self.mtime_ns) == (other.dev, other.ino, other.size, other.mtime_ns)
            && (self.links == other.links) != (self.ctime_ns == other.ctime_ns)
    }
}

/// A look that does not show half of a change of names since `before`, if that change is whole soon.
pub(crate) fn look_after(before: &Status, status: impl Fn() -> sys::Result<Status>) -> sys::Result<Status> {
    look(|now| !now.identity().is_half_changed(&before.identity()), status)
}

/// Looks until the look is as it should be, for as long as a change of names may take; then as it is.
pub(crate) fn look(
    is_whole: impl Fn(&Status) -> bool,
    status: impl Fn() -> sys::Result<Status>,
) -> sys::Result<Status> {
    let mut left = WHOLE_WITHIN;
    loop {
        let now = status()?;
        if is_whole(&now) || left.is_zero() {
            return Ok(now);
        }
        left = left.saturating_sub(LOOK_AGAIN_AFTER);
        thread::sleep(LOOK_AGAIN_AFTER);
    }
}

/// How long after a look a change may still leave the times as they were: nothing, if the look proves that it saw all
/// there was. `file` is anything on the filesystem of what was looked at.
pub(crate) fn unproven_for(identity: &Identity, file: impl AsFd) -> Duration {
    let step = step_of(identity.ctime_ns);
    // A time in the future is one that no change gets now.
    let age =
        Duration::from_nanos(identity.seen_ns.abs_diff(identity.ctime_ns).try_into().unwrap_or(u64::MAX));
    let limit = step + TICK;
    if age >= limit {
        Duration::ZERO
    } else if step < TICK && has_distinct_times(file) {
        step.saturating_sub(age)
    } else {
        limit.saturating_sub(age)
    }
}

/// The largest power of ten that divides a time: no filesystem has steps of anything else but FAT.
fn step_of(time_ns: i128) -> Duration {
    let mut step = 1;
    while step < 1_000_000_000 && time_ns % (step * 10) == 0 {
        step *= 10;
    }
    if step == 1_000_000_000 { WHOLE_SECONDS } else { Duration::from_nanos(step as u64) }
}

fn has_distinct_times(file: impl AsFd) -> bool {
    static KERNEL: OnceLock<bool> = OnceLock::new();
    let read = || std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let is_new = *KERNEL.get_or_init(|| version(&read()).is_some_and(|version| version >= DISTINCT_SINCE));
    is_new && sys::filesystem_type(file).is_ok_and(|number| DISTINCT.contains(&number))
}

/// The first two numbers of a kernel's release.
fn version(release: &str) -> Option<(u32, u32)> {
    let mut numbers = release.split(|character: char| !character.is_ascii_digit()).map(str::parse);
    Some((numbers.next()?.ok()?, numbers.next()?.ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn identity() -> Identity {
        let ctime_ns = 1_700_000_000_123_456_789;
        Identity { dev: 1, ino: 2, links: 1, size: 3, mtime_ns: 4, ctime_ns, seen_ns: ctime_ns + 20_000_000 }
    }

    #[test]
    fn the_time_of_a_change_counts_unless_it_is_that_of_a_name() {
        let state = identity();
        let same = [
            state,
            Identity { seen_ns: 0, ..state },
            Identity { links: 2, ctime_ns: 5, ..state },
            Identity { links: 0, ctime_ns: 5, ..state },
        ];
        let changed = [
            Identity { ctime_ns: 5, ..state },
            Identity { mtime_ns: 5, ..state },
            Identity { size: 5, ..state },
            Identity { links: 2, mtime_ns: 5, ..state },
            Identity { links: 2, size: 5, ..state },
            Identity { dev: 5, ..state },
            Identity { ino: 5, ..state },
        ];
        assert!(same.iter().all(|other| state.is_same_state(other)));
        assert!(changed.iter().all(|other| !state.is_same_state(other)));
    }

    #[test]
    fn half_of_a_change_of_names_is_not_taken_for_a_change() {
        let state = identity();
        let halves = [Identity { links: 2, ..state }, Identity { ctime_ns: 5, ..state }];
        let whole = [
            state,
            Identity { links: 2, ctime_ns: 5, ..state },
            Identity { links: 2, mtime_ns: 5, ..state },
            Identity { ctime_ns: 5, size: 5, ..state },
        ];
        assert!(halves.iter().all(|now| now.is_half_changed(&state)));
        assert!(!whole.iter().any(|now| now.is_half_changed(&state)));
    }

    #[test]
    fn a_look_is_repeated_until_the_change_of_names_is_whole_and_not_for_ever() {
        let before = sys::status_at(sys::CWD, b"/").unwrap();
        let half = Status { links: before.links + 1, ..before };
        let mut ctime = before.ctime;
        ctime.tv_sec += 1;
        let whole = Status { ctime, ..half };
        let looks = std::cell::Cell::new(0);
        let count = || looks.replace(looks.get() + 1);
        let seen = look_after(&before, || Ok(if count() < 3 { half } else { whole })).unwrap();
        assert_eq!((seen.identity(), looks.take()), (whole.identity(), 4));
        let attributes = Status { ctime, ..before };
        let seen = look_after(&before, || Ok(attributes)).unwrap();
        assert_eq!(seen.identity(), attributes.identity());
    }

    #[test]
    fn a_look_proves_nothing_within_the_step_of_the_times() {
        const SECOND: i128 = 1_700_000_000_000_000_000;
        let millis = Duration::from_millis;
        // /proc: a filesystem of no known kind.
        let file = std::fs::File::open("/proc/self/stat").unwrap();
        let cases = [
            (SECOND, 0, millis(2010)),
            (SECOND, 1_900_000_000, millis(110)),
            (SECOND, 2_010_000_000, millis(0)),
            (SECOND, -1_000_000_000, millis(1010)),
            (SECOND, -3_000_000_000, millis(0)),
            (SECOND + 120_000_000, 5_000_000, millis(15)),
            (SECOND + 120_000_000, 30_000_000, millis(0)),
            (SECOND + 123_456_789, 1_000_000, Duration::from_nanos(9_000_001)),
            (SECOND + 123_456_789, 10_000_001, millis(0)),
        ];
        for (ctime_ns, age, wait) in cases {
            let look = Identity { ctime_ns, seen_ns: ctime_ns + age, ..identity() };
            assert_eq!(unproven_for(&look, &file), wait, "{age} ns after {ctime_ns}");
        }
    }

    #[test]
    fn kernels_are_told_by_their_release() {
        for (release, expected) in
            [("6.18.44-fc", Some((6, 18))), ("5.10", Some((5, 10))), ("6.13-rc1", Some((6, 13))), ("", None)]
        {
            assert_eq!(version(release), expected, "{release:?}");
        }
    }
}
