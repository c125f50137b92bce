//! What the watcher has to say to a person: its texts, and how often each is said.
//!
//! Owns the wording and the rule that the same fault repeated a thousand times is told a few times and counted. Leaves
//! to the caller where the text goes; the paths in it are already escaped, so that a name can't forge a line.

use std::fmt;
use std::time::{Duration, Instant};

use rustix::io::Errno;

use crate::lookup::Dangling;
use crate::spec::WatchId;

/// How grave a notice is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Severity {
    /// For the program, not for a person.
    Silent,
    /// Good to know.
    Info,
    /// Something is missing or slow, the rest works.
    Warning,
    /// A directory that was asked for is not watched.
    Error,
}

/// One notice. `Display` gives the line for the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Notice<'a> {
    /// The kernel's queue was full; what is missing is made up for by arrivals.
    Overflow {
        /// Length of the queue (`fs.inotify.max_queued_events`).
        queue_max: u64,
        /// Events that were read since the queue was last known to be empty.
        events: u64,
        /// Time since then.
        since: Duration,
    },
    /// After an overflow everything below this watch was looked at again: the caller checks tasks whose file is gone.
    Recovered {
        /// The watch.
        watch: WatchId,
    },
    /// The recovery from an overflow has ended.
    RecoveryDone {
        /// Events that were made up.
        arrivals: u64,
        /// How long it took.
        took: Duration,
    },
    /// A tree keeps the queue full and is given one of its own.
    Apart {
        /// Its top.
        path: &'a [u8],
    },
    /// A pattern of the configuration matches nothing.
    NoMatch {
        /// The pattern.
        pattern: &'a [u8],
    },
    /// A configured path does not exist (any more).
    RootMissing {
        /// The path.
        path: &'a [u8],
        /// The link because of which it does not.
        dangling: Option<&'a Dangling>,
        /// The nearest directory that exists, which is watched meanwhile.
        waits_at: &'a [u8],
    },
    /// A configured path is there again (or for the first time) and is watched.
    RootBack {
        /// The path.
        path: &'a [u8],
    },
    /// Something was mounted or unmounted: the caller forgets what is mounted where.
    MountsChanged,
    /// A path leads to something else than before, or has come to match a pattern: the caller forgets where it led.
    RootElsewhere {
        /// The path.
        path: &'a [u8],
    },
    /// A path that matched a pattern is gone.
    MatchGone {
        /// The path.
        path: &'a [u8],
    },
    /// What a watcher of another filesystem said.
    Elsewhere {
        /// How grave it is.
        severity: Severity,
        /// Its text.
        text: &'a str,
    },
    /// There is no inotify instance for a filesystem.
    NoInstance {
        /// Where it is mounted.
        path: &'a [u8],
        /// Why.
        error: &'a str,
    },
    /// The filesystem of a configured path was unmounted.
    Unmounted {
        /// The path.
        path: &'a [u8],
    },
    /// More combinations of watches overlap than can be numbered.
    TooManySets {
        /// How many can.
        max: usize,
    },
    /// A directory can't be watched.
    CannotWatch {
        /// The directory.
        path: &'a [u8],
        /// Why.
        source: Errno,
    },
    /// A configured path leads through a link whose owner would gain by it.
    ForeignLink {
        /// The configured path.
        path: &'a [u8],
        /// The link.
        link: &'a [u8],
        /// Whose it is (uid).
        owner: u32,
        /// Whose that is to which the path leads (uid).
        target_owner: u32,
    },
    /// A limit of the kernel keeps directories unwatched; they are tried again.
    LimitReached {
        /// Name of the limit.
        sysctl: &'static str,
        /// Its value.
        value: u64,
        /// What would be needed, as far as known.
        needed: u64,
        /// The first directory that it hit.
        path: &'a [u8],
    },
    /// All directories that a limit had kept unwatched are watched now.
    LimitCleared,
    /// A root on a filesystem that does not report the changes of others.
    BlindFilesystem {
        /// The path.
        path: &'a [u8],
        /// Name of the filesystem's type.
        fstype: &'static str,
    },
    /// A watched directory was moved to where nothing is watched; it is forgotten.
    MovedOut {
        /// Its last known path.
        path: &'a [u8],
    },
    /// Notices of one kind that were not told.
    Suppressed {
        /// What they were about.
        what: &'static str,
        /// How many.
        count: u64,
    },
}

impl Notice<'_> {
    /// How grave it is.
    pub fn severity(&self) -> Severity {
        match self {
            Notice::Elsewhere { severity, .. } => *severity,
            Notice::Recovered { .. } | Notice::MountsChanged | Notice::RootElsewhere { .. } => {
                Severity::Silent
            }
            Notice::RecoveryDone { .. }
            | Notice::MatchGone { .. }
            | Notice::RootBack { .. }
            | Notice::Apart { .. }
            | Notice::LimitCleared => Severity::Info,
            Notice::Overflow { .. }
            | Notice::NoMatch { .. }
            | Notice::RootMissing { .. }
            | Notice::BlindFilesystem { .. }
            | Notice::MovedOut { .. }
            | Notice::Unmounted { .. }
            | Notice::Suppressed { .. } => Severity::Warning,
            Notice::TooManySets { .. }
            | Notice::NoInstance { .. }
            | Notice::CannotWatch { .. }
            | Notice::ForeignLink { .. }
            | Notice::LimitReached { .. } => Severity::Error,
        }
    }
}

impl fmt::Display for Notice<'_> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Notice::Overflow { queue_max, events, since } => write!(
                out,
                "event queue overflowed (fs.inotify.max_queued_events = {queue_max}) {:.3} s and {events} events \
                 after it was last empty; looking at everything again",
                since.as_secs_f64()
            ),
            Notice::Recovered { watch } => write!(out, "watch {} is complete again", watch.0),
            Notice::RecoveryDone { arrivals, took } => write!(
                out,
                "recovered from the overflow in {:.3} s, {arrivals} events made up for what was found",
                took.as_secs_f64()
            ),
            Notice::Apart { path } => write!(
                out,
                "'{}' changes faster than its events can be read, it has an event queue of its own for now",
                Escaped(path)
            ),
            Notice::NoMatch { pattern } => write!(out, "no path matches '{}'", Escaped(pattern)),
            Notice::RootMissing { path, dangling, waits_at } => {
                write_missing(out, path, dangling)?;
                write!(out, ", waiting for it in '{}'", Escaped(waits_at))
            }
            Notice::RootBack { path } => write!(out, "'{}' is there, watching it", Escaped(path)),
            Notice::MountsChanged => write!(out, "mounts have changed"),
            Notice::RootElsewhere { path } => write!(out, "'{}' leads elsewhere", Escaped(path)),
            Notice::MatchGone { path } => {
                write!(out, "'{}' is gone, not watching it any more", Escaped(path))
            }
            Notice::Elsewhere { text, .. } => out.write_str(text),
            Notice::NoInstance { path, error } => {
                write!(out, "cannot watch '{}': {error}; trying again later", Escaped(path))
            }
            Notice::Unmounted { path } => {
                write!(out, "'{}' was unmounted, watching what is there without it", Escaped(path))
            }
            Notice::TooManySets { max } => write!(
                out,
                "more than {max} combinations of watches overlap: some directories are not seen by all watches"
            ),
            Notice::CannotWatch { path, source } => {
                write!(out, "cannot watch '{}': {}", Escaped(path), Reason(source))
            }
            Notice::ForeignLink { path, link, owner, target_owner } => write!(
                out,
                "cannot watch '{}': the link '{}' belongs to uid {owner} and leads to what belongs to uid \
                 {target_owner}; \
                 if that is meant, make it root's: chown -h root '{}'",
                Escaped(path),
                Escaped(link),
                Escaped(link)
            ),
            Notice::LimitReached { sysctl, value, needed, path } => write!(
                out,
                "cannot watch '{}': limit of inotify watches reached ({sysctl} = {value}, {needed} needed); \
                 raise it with 'sysctl {sysctl}=N', then watching resumes by itself",
                Escaped(path)
            ),
            Notice::LimitCleared => write!(out, "all directories are watched again"),
            Notice::BlindFilesystem { path, fstype } => write!(
                out,
                "'{}' is on {fstype}, where inotify sees only changes made on this machine",
                Escaped(path)
            ),
            Notice::MovedOut { path } => {
                write!(out, "'{}' was moved out of everything that is watched, forgetting it", Escaped(path))
            }
            Notice::Suppressed { what, count } => write!(out, "{count} more notices about {what}"),
        }
    }
}

/// Why a root is not there; a link is named with where it leads.
fn write_missing(out: &mut fmt::Formatter<'_>, path: &[u8], dangling: Option<&Dangling>) -> fmt::Result {
    match dangling {
        None => write!(out, "'{}' does not exist", Escaped(path)),
        Some(dangling) if dangling.link == path => write!(out, "{dangling}"),
        Some(dangling) => write!(out, "'{}' does not exist: {dangling}", Escaped(path)),
    }
}

impl fmt::Display for Dangling {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [link, target] = [&self.link, &self.target].map(|path| Escaped(path));
        write!(out, "'{link}' is a link to '{target}', which does not exist")
    }
}

impl Notice<'_> {
    /// What kind of notice it is, for counting; `None` for those that are told always, being rare by themselves.
    fn kind(&self) -> Option<(usize, &'static str)> {
        match self {
            Notice::CannotWatch { .. } | Notice::ForeignLink { .. } => {
                Some((0, "directories that cannot be watched"))
            }
            Notice::MovedOut { .. } => Some((1, "directories that were moved out")),
            Notice::RootMissing { .. } => Some((2, "missing paths")),
            Notice::RootBack { .. } => Some((3, "paths that came back")),
            Notice::MatchGone { .. } => Some((10, "paths that no longer match")),
            Notice::Overflow { .. } => Some((4, "overflows of the event queue")),
            Notice::RecoveryDone { .. } => Some((5, "recoveries from an overflow")),
            Notice::Apart { .. } => Some((11, "trees that have a queue of their own")),
            Notice::LimitReached { .. } => Some((6, "inotify limits")),
            Notice::LimitCleared => Some((7, "inotify limits that no longer bind")),
            Notice::Unmounted { .. } => Some((8, "unmounted paths")),
            Notice::TooManySets { .. } => Some((9, "combinations of watches")),
            Notice::NoInstance { .. } => Some((0, "directories that cannot be watched")),
            Notice::Elsewhere { .. }
            | Notice::Recovered { .. }
            | Notice::MountsChanged
            | Notice::RootElsewhere { .. }
            | Notice::NoMatch { .. }
            | Notice::BlindFilesystem { .. }
            | Notice::Suppressed { .. } => None,
        }
    }
}

/// How many kinds are counted.
const KINDS: usize = 12;
/// The time over which they are counted.
const WINDOW: Duration = Duration::from_secs(60);

/// Lets so many notices of a kind through in a minute and counts the others.
#[derive(Debug)]
pub(crate) struct Throttle {
    max: u32,
    from: Instant,
    told: [u32; KINDS],
    held: [(u64, &'static str); KINDS],
}

impl Throttle {
    pub(crate) fn new(max: u32, now: Instant) -> Throttle {
        Throttle { max, from: now, told: [0; KINDS], held: [(0, ""); KINDS] }
    }

    /// Whether this notice is told.
    pub(crate) fn admits(&mut self, notice: &Notice<'_>) -> bool {
        let Some((kind, what)) = notice.kind() else { return true };
        if self.told[kind] < self.max {
            self.told[kind] += 1;
            return true;
        }
        self.held[kind].0 += 1;
        self.held[kind].1 = what;
        false
    }

    /// At the end of a minute: what was held back in it.
    pub(crate) fn roll(&mut self, now: Instant) -> Vec<Notice<'static>> {
        if now.saturating_duration_since(self.from) < WINDOW {
            return Vec::new();
        }
        self.from = now;
        self.told = [0; KINDS];
        let held = std::mem::replace(&mut self.held, [(0, ""); KINDS]);
        let held = held.into_iter().filter(|(count, _)| *count > 0);
        held.map(|(count, what)| Notice::Suppressed { what, count }).collect()
    }

    /// When [`Throttle::roll`] has something to tell.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        self.held.iter().any(|(count, _)| *count > 0).then(|| self.from + WINDOW)
    }
}

/// An errno in words, with what to do about it.
struct Reason(Errno);

impl fmt::Display for Reason {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Errno::ACCESS => out.write_str("permission denied; it is watched as soon as it is readable"),
            Errno::NAMETOOLONG => out.write_str("its path is longer than the kernel takes (4,095 bytes)"),
            Errno::MFILE => out.write_str("too many open files (ulimit -n); trying again later"),
            Errno::NOMEM => out.write_str("the kernel is out of memory; trying again later"),
            other => {
                // Without the number that Rust puts behind it.
                let text = std::io::Error::from(other).to_string();
                let number = format!(" (os error {})", other.raw_os_error());
                out.write_str(text.strip_suffix(&number).unwrap_or(&text))
            }
        }
    }
}

/// A path as text: printable UTF-8 as it is, everything else as `\xNN`.
struct Escaped<'a>(&'a [u8]);

impl fmt::Display for Escaped<'_> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        for chunk in self.0.utf8_chunks() {
            for character in chunk.valid().chars() {
                if is_plain(character) {
                    fmt::Write::write_char(out, character)?;
                } else {
                    let mut bytes = [0; 4];
                    character
                        .encode_utf8(&mut bytes)
                        .bytes()
                        .try_for_each(|byte| write!(out, "\\x{byte:02x}"))?;
                }
            }
            chunk.invalid().iter().try_for_each(|byte| write!(out, "\\x{byte:02x}"))?;
        }
        Ok(())
    }
}

/// Whether a terminal shows the character as itself: no controls, no line separators, no change of direction.
fn is_plain(character: char) -> bool {
    !character.is_control()
        && !matches!(character, '\u{2028}' | '\u{2029}' | '\u{200e}' | '\u{200f}')
        && !matches!(character, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_cannot_forge_a_line() {
        let notice = Notice::NoMatch { pattern: b"/a\n2026 - ERROR\x1b[0m\xff/\xc3\xa4\xe2\x80\xae" };
        assert_eq!(
            notice.to_string(),
            "no path matches '/a\\x0a2026 - ERROR\\x1b[0m\\xff/\u{e4}\\xe2\\x80\\xae'"
        );
    }

    #[test]
    fn a_fault_repeated_is_counted() {
        let start = Instant::now();
        let mut throttle = Throttle::new(2, start);
        let notice = Notice::MovedOut { path: b"/a" };
        assert_eq!((0..1000).filter(|_| throttle.admits(&notice)).count(), 2);
        assert!(throttle.roll(start).is_empty() && throttle.deadline() == Some(start + WINDOW));
        let told = throttle.roll(start + WINDOW);
        assert_eq!(told, [Notice::Suppressed { what: "directories that were moved out", count: 998 }]);
        assert!(throttle.deadline().is_none() && throttle.admits(&notice));
    }

    #[test]
    fn a_limit_is_named_with_what_is_needed() {
        let notice = Notice::LimitReached {
            sysctl: "fs.inotify.max_user_watches",
            value: 8192,
            needed: 12040,
            path: b"/srv/in",
        };
        let text = notice.to_string();
        assert!(text.starts_with("cannot watch '/srv/in': limit of inotify watches reached"), "{text}");
        assert!(text.contains("fs.inotify.max_user_watches = 8192, 12040 needed"), "{text}");
    }
}
