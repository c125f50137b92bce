//! What a rule would lose, kept in a directory of the administrator's choice.
//!
//! Owns the names in there, `YYYYMMDD-HHMMSS.mmm/absolute/path` (UTC), and their removal after a while. Each object
//! gets a directory of its own that only the daemon's user can enter, so that nobody can put anything in its way. It is
//! moved there as a move rule would do it: renamed, or on another filesystem copied and only then removed. What was to
//! be replaced is in the trash before the result gets its name, and goes back if that fails.

use std::borrow::Cow;
use std::os::fd::{AsFd, OwnedFd};
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustix::io::Errno;

use crate::conflict::{JUDGEMENTS_MAX, Replace};
use crate::error::{Error, Owner, Refusal};
use crate::moving;
use crate::remove;
use crate::resolve::{self, Place, push_name, split, trim_slashes};
use crate::sys::{self, For, Kind, Status};
use crate::{Action, Record, Request, Rule, Swept};

/// Directories of one millisecond.
const SAME_TIME_MAX: u32 = 10_000;

/// Something that is in the trash, and can go back.
pub(crate) struct Taken<'a> {
    request: &'a Request<'a>,
    from: Place<'static>,
    to: Place<'static>,
    status: Status,
    /// Made for it.
    way: Way,
}

impl Taken<'_> {
    /// It stays there.
    pub(crate) fn keep(self, record: &mut dyn FnMut(Record<'_>)) {
        record(Record::Trash { from: &self.from.path, to: &self.to.path });
    }

    /// It goes back; where that can't be done, it is said where it is.
    pub(crate) fn give_back(self, record: &mut dyn FnMut(Record<'_>)) {
        let Taken { request, from, to, status, way } = self;
        // By the name that it has now, and with what a move to another filesystem has made of it.
        let status = sys::status_at(&to.directory, &to.name).unwrap_or(status);
        let (source, destination) = (to.path.to_vec(), from.path.to_vec());
        let stop = AtomicBool::new(false);
        let rule = plain_rule(request.rule);
        let request = Request::plain(&rule, &source, &destination, &stop);
        record(Record::Making { path: &destination, is_tree: status.kind == Kind::Directory });
        if let Err(error) = moving::carry(to, &status, &from, &request, record) {
            record(Record::Warning(&format!("it stays in the trash: {error}")));
            record(Record::Trash { from: &destination, to: &source });
        } else {
            way.remove_empty();
        }
    }
}

fn plain_rule(rule: &Rule) -> Rule {
    Rule { durability: rule.durability, verify: rule.verify, ..Rule::new(Action::Move) }
}

/// It stays there, if anything was taken.
pub(crate) fn keep(taken: Option<Taken<'_>>, record: &mut dyn FnMut(Record<'_>)) {
    if let Some(taken) = taken {
        taken.keep(record);
    }
}

/// Gives a result its name by `attempt`, which is told what it may replace; with a trash, what is there goes into it
/// before. The outer result says that the trash failed.
pub(crate) fn replace(
    request: &Request<'_>,
    place: &Place<'_>,
    replace: Replace,
    record: &mut dyn FnMut(Record<'_>),
    attempt: impl FnMut(Replace) -> sys::Result<()>,
) -> Result<sys::Result<()>, Error> {
    let placed = replace_for_now(request, place, replace, record, attempt)?;
    Ok(placed.map(|taken| keep(taken, record)))
}

/// The same, and gives what is in the trash now, to be kept there or given back.
pub(crate) fn replace_for_now<'a>(
    request: &'a Request<'a>,
    place: &Place<'_>,
    replace: Replace,
    record: &mut dyn FnMut(Record<'_>),
    mut attempt: impl FnMut(Replace) -> sys::Result<()>,
) -> Result<sys::Result<Option<Taken<'a>>>, Error> {
    if request.rule.trash.is_none() || !replace.any() {
        return Ok(attempt(replace).map(|()| None));
    }
    for _ in 0..JUDGEMENTS_MAX {
        let existing = match sys::status_at(&place.directory, &place.name) {
            Ok(existing) => Some(existing),
            Err(Errno::NOENT) => None,
            Err(errno) => return Ok(Err(errno)),
        };
        match (existing, replace) {
            // Replaced only if it is empty.
            (Some(existing), _) if existing.kind == Kind::Directory => {
                return Ok(attempt(Replace::Anything).map(|()| None));
            }
            (Some(existing), Replace::Only(judged)) if !existing.is_same_state(&judged) => {
                return Ok(Err(Errno::EXIST));
            }
            (_, Replace::Nothing | Replace::Anything | Replace::Only(_)) => {}
        }
        let taken = match existing {
            Some(existing) => Some(take(request, place.again(), &existing, record)?),
            None => None,
        };
        match (attempt(Replace::Nothing), taken) {
            // Somebody else was faster: his goes the same way.
            (Err(Errno::EXIST), Some(taken)) => taken.keep(record),
            (Err(Errno::EXIST), None) => {}
            (Err(errno), taken) => {
                if let Some(taken) = taken {
                    taken.give_back(record);
                }
                return Ok(Err(errno));
            }
            (Ok(()), taken) => return Ok(Ok(taken)),
        }
    }
    Ok(Err(Errno::EXIST))
}

/// Moves what is at a place, and was looked at, to the trash of the rule.
pub(crate) fn take<'a>(
    request: &'a Request<'a>,
    place: Place<'static>,
    status: &Status,
    record: &mut dyn FnMut(Record<'_>),
) -> Result<Taken<'a>, Error> {
    let trash = request.rule.trash.as_deref().expect("asked for where the rule has a trash");
    let (way, to) = new_place(trash, &place.path, record)?;
    record(Record::Making { path: &to.path, is_tree: status.kind == Kind::Directory });
    let rule = plain_rule(request.rule);
    let source = place.path.to_vec();
    let to_path = to.path.to_vec();
    let moved = Request { brief: request.brief, ..Request::plain(&rule, &source, &to_path, request.stop) };
    let from = place.again();
    match moving::carry(place, status, &to, &moved, record) {
        Ok(()) => Ok(Taken { request, from, to, status: *status, way }),
        Err(error) => {
            way.remove_empty();
            Err(error)
        }
    }
}

/// The directories that were made for one object, from that of the moment on.
struct Way {
    trash: OwnedFd,
    moment: Vec<u8>,
    top: OwnedFd,
    /// The innermost one, by its way from the top: nobody else can enter that.
    below: Vec<u8>,
}

impl Way {
    /// Removes those that are empty: the object has not come, or has gone back.
    fn remove_empty(self) {
        let mut below = &self.below[..];
        while !below.is_empty() {
            if sys::remove_directory(&self.top, below).is_err() {
                return;
            }
            below = split(below).0;
        }
        let _ = sys::remove_directory(&self.trash, &self.moment);
    }
}

/// A free place in the trash for what has a path.
fn new_place(
    trash: &[u8],
    path: &[u8],
    record: &mut dyn FnMut(Record<'_>),
) -> Result<(Way, Place<'static>), Error> {
    let (mut way, mut shown) = new_directory(trash, record)?;
    let mut names = absolute_names(path);
    let name = names.pop().unwrap_or_else(|| b"root".to_vec());
    match make_way(&mut way, &mut shown, &names, record) {
        Ok(directory) => {
            push_name(&mut shown, &name);
            let (directory, name, path) = (Rc::new(directory), Cow::Owned(name), Cow::Owned(shown));
            Ok((way, Place { directory, name, path, made_in: Vec::new() }))
        }
        Err(errno) => {
            way.remove_empty();
            Err(Error::os(errno, &shown))
        }
    }
}

/// Makes directories below that of the moment, and opens the innermost one.
fn make_way(
    way: &mut Way,
    shown: &mut Vec<u8>,
    names: &[Vec<u8>],
    record: &mut dyn FnMut(Record<'_>),
) -> sys::Result<OwnedFd> {
    let mut directory = sys::open_directory(&way.top, b".", For::Lookup)?;
    for name in names {
        push_name(shown, name);
        record(Record::Making { path: shown, is_tree: false });
        sys::make_directory(&directory, name, 0o700)?;
        push_name(&mut way.below, name);
        directory = sys::open_directory(&directory, name, For::Lookup)?;
    }
    Ok(directory)
}

/// The components of a path, made absolute.
fn absolute_names(path: &[u8]) -> Vec<Vec<u8>> {
    use std::os::unix::ffi::OsStrExt as _;
    let mut whole = Vec::new();
    if path.first() != Some(&b'/')
        && let Ok(here) = std::env::current_dir()
    {
        whole.extend_from_slice(here.as_os_str().as_bytes());
        whole.push(b'/');
    }
    whole.extend_from_slice(path);
    let mut names: Vec<Vec<u8>> = Vec::new();
    for name in whole.split(|byte| *byte == b'/') {
        match name {
            b"" | b"." => {}
            b".." => drop(names.pop()),
            name => names.push(name.to_vec()),
        }
    }
    names
}

/// Makes a directory of this moment in the trash, and the trash if need be.
fn new_directory(trash: &[u8], record: &mut dyn FnMut(Record<'_>)) -> Result<(Way, Vec<u8>), Error> {
    let trash = trim_slashes(trash);
    let all = open_or_make(trash, record)?;
    let stamp = stamp(SystemTime::now());
    for number in 0..SAME_TIME_MAX {
        let name = if number == 0 { stamp.clone() } else { format!("{stamp}-{number}") };
        let mut path = trash.to_vec();
        push_name(&mut path, name.as_bytes());
        record(Record::Making { path: &path, is_tree: false });
        match sys::make_directory(&all, name.as_bytes(), 0o700) {
            Err(Errno::EXIST) => continue,
            result => result.map_err(|errno| Error::os(errno, &path))?,
        }
        let failed = |errno| Error::os(errno, &path);
        let top = sys::open_directory(&all, name.as_bytes(), For::Lookup).map_err(failed)?;
        check_own(&top, &path)?;
        return Ok((Way { trash: all, moment: name.into_bytes(), top, below: Vec::new() }, path));
    }
    Err(Error::os(Errno::EXIST, trash))
}

fn open_or_make(path: &[u8], record: &mut dyn FnMut(Record<'_>)) -> Result<OwnedFd, Error> {
    let missing = match resolve::trusted_directory(path) {
        Err(Error::Os { errno: Errno::NOENT, .. }) if !matches!(path, b"" | b"/") => path,
        result => return result,
    };
    let (parent, name) = split(missing);
    let parent = open_or_make(parent, record)?;
    let failed = |errno| Error::os(errno, path);
    record(Record::Making { path, is_tree: false });
    match sys::make_directory(&parent, name, 0o700) {
        Ok(()) | Err(Errno::EXIST) => {}
        Err(errno) => return Err(failed(errno)),
    }
    let made = sys::open_directory(&parent, name, For::Lookup).map_err(failed)?;
    check_own(&made, path)?;
    Ok(made)
}

/// Whoever may write above can put a directory of his own in the place of the one that was just made.
fn check_own(directory: &OwnedFd, path: &[u8]) -> Result<(), Error> {
    let status = sys::status(directory).map_err(|errno| Error::os(errno, path))?;
    if status.uid == rustix::process::geteuid().as_raw() {
        return Ok(());
    }
    Err(Refusal::Replaced { path: path.to_vec(), owner: Some(Owner(status.uid)) }.into())
}

/// `YYYYMMDD-HHMMSS.mmm`, in UTC.
fn stamp(time: SystemTime) -> String {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    let (days, second) = (since.as_secs() / 86_400, since.as_secs() % 86_400);
    let (year, month, day) = date(days);
    let (hour, minute, second) = (second / 3_600, second / 60 % 60, second % 60);
    format!("{year:04}{month:02}{day:02}-{hour:02}{minute:02}{second:02}.{:03}", since.subsec_millis())
}

/// Year, month and day of a number of days since 1970, by the calendar that repeats every 400 years.
fn date(days: u64) -> (u64, u64, u64) {
    // From 0000-03-01 on, so that leap days are the last ones of their years.
    let days = days + 719_468;
    let (era, day_of_era) = (days / 146_097, days % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    (era * 400 + year_of_era + u64::from(month <= 2), month, day)
}

/// Whether a name in the trash is one of ours: the stamp, and a number where that was taken.
pub(crate) fn stamp_of(name: &[u8]) -> Option<&[u8]> {
    const PATTERN: &[u8] = b"dddddddd-dddddd.ddd";
    let (stamp, rest) = name.split_at_checked(PATTERN.len())?;
    let matches = stamp.iter().zip(PATTERN).all(|(byte, pattern)| match pattern {
        b'd' => byte.is_ascii_digit(),
        pattern => byte == pattern,
    });
    let is_number = |rest: &[u8]| !rest.is_empty() && rest.iter().all(u8::is_ascii_digit);
    let numbered = rest.is_empty() || rest.strip_prefix(b"-").is_some_and(is_number);
    (matches && numbered).then_some(stamp)
}

/// Removes from a trash what was put there more than `keep` before `now`, and nothing that does not have the names that
/// rules give there.
///
/// # Errors
/// If the trash can't be opened or read; one that does not exist is empty.
pub fn empty_trash(trash: &[u8], keep: Duration, now: SystemTime, stop: &AtomicBool) -> Result<Swept, Error> {
    let mut swept = Swept::default();
    let top = match resolve::trusted_directory(trash) {
        Err(Error::Os { errno: Errno::NOENT, .. }) => return Ok(swept),
        top => top?,
    };
    let failed = |errno| Error::os(errno, trash);
    let top = sys::open_directory(&top, b".", For::Reading).map_err(failed)?;
    let oldest = stamp(now.checked_sub(keep).unwrap_or(UNIX_EPOCH));
    let mut old = Vec::new();
    sys::list(top.as_fd(), |name, _| {
        if stamp_of(name).is_some_and(|stamp| stamp < oldest.as_bytes()) {
            old.push(name.to_vec());
        }
        Ok(())
    })
    .map_err(failed)?;
    for name in old {
        if stop.load(Ordering::Relaxed) {
            swept.incomplete = true;
            break;
        }
        if remove_old(&top, &name, trash, stop) {
            swept.removed += 1;
        } else {
            swept.failed += 1;
        }
    }
    Ok(swept)
}

fn remove_old(top: &OwnedFd, name: &[u8], trash: &[u8], stop: &AtomicBool) -> bool {
    let is_ours = sys::status_at(top, name).is_ok_and(|status| {
        status.kind == Kind::Directory && status.uid == rustix::process::geteuid().as_raw()
    });
    let mut path = trash.to_vec();
    push_name(&mut path, name);
    is_ours && remove::trashed_tree(top.as_fd(), name, &path, stop).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stamps_are_those_of_the_calendar() {
        let cases = [
            (0, 0, "19700101-000000.000"),
            (951_782_399, 999, "20000228-235959.999"),
            (951_782_400, 1, "20000229-000000.001"),
            (951_868_800, 0, "20000301-000000.000"),
            (1_709_164_800, 0, "20240229-000000.000"),
            (1_796_000_000, 120, "20261130-005320.120"),
            (4_107_542_400, 0, "21000301-000000.000"),
        ];
        for (seconds, millis, expected) in cases {
            let time = UNIX_EPOCH + Duration::from_secs(seconds) + Duration::from_millis(millis);
            assert_eq!(stamp(time), expected);
            assert_eq!(stamp_of(expected.as_bytes()), Some(expected.as_bytes()));
        }
    }

    #[test]
    fn only_names_of_ours_are_removed() {
        for (name, ours) in [
            ("20261130-005320.120", true),
            ("20261130-005320.120-7", true),
            ("20261130-005320.120-", false),
            ("20261130-005320.120x", false),
            ("20261130-005320", false),
            ("notes", false),
            ("2026113a-005320.120", false),
        ] {
            assert_eq!(stamp_of(name.as_bytes()).is_some(), ours, "{name}");
        }
    }

    #[test]
    fn paths_become_absolute_without_dots() {
        for (path, names) in
            [("/a/b", vec!["a", "b"]), ("/a//./b/../c", vec!["a", "c"]), ("/..", vec![]), ("/", vec![])]
        {
            let names: Vec<_> = names.into_iter().map(|name| name.as_bytes().to_vec()).collect();
            assert_eq!(absolute_names(path.as_bytes()), names, "{path}");
        }
        assert!(absolute_names(b"f").len() > 1);
    }
}
