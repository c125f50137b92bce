//! What happens where the destination's name is taken.
//!
//! Owns the judgement of what is there and the numbered names. What was judged is not believed a moment later: a name
//! that was free is taken only if it is free then, and what was found to be older is set aside and looked at before it
//! goes ([`Aside`]).

use std::borrow::Cow;
use std::os::fd::{AsFd, BorrowedFd};

use rustix::io::Errno;

use crate::content::{self, Failure};
use crate::copy::{self, Source};
use crate::error::Error;
use crate::given::Given;
use crate::resolve::{self, Place};
use crate::sys::{self, Kind, Status};
use crate::temporary;
use crate::{Action, Conflict, Record, Request, Skipped};

/// Numbers that are tried for a name: more results of one name are a loop rather than a use.
const NUMBERS_MAX: u32 = 100_000;

/// How often the destination is judged anew because somebody else changed it in between.
pub(crate) const JUDGEMENTS_MAX: u32 = 8;

/// What may have the destination's name when the result gets it.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Replace {
    /// Nothing.
    Nothing,
    /// Anything that rename(2) replaces; directories are merged by a copy.
    Anything,
    /// This file, in this state.
    Only(Status),
}

impl Replace {
    /// Whether anything is replaced at all.
    pub(crate) fn any(self) -> bool {
        match self {
            Replace::Nothing => false,
            Replace::Anything | Replace::Only(_) => true,
        }
    }
}

/// What is to be done.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Verdict {
    /// Place the result.
    Place(Replace),
    /// Leave everything as it is.
    Skip(Skipped),
    /// Compare the contents ([`compare`]).
    Compare,
}

/// Judges what is at `place`, if anything; may give the place another name. `source` is the last look at the source.
pub(crate) fn judge(
    request: &Request<'_>,
    place: &mut Place<'_>,
    source: &Status,
    record: &mut dyn FnMut(Record<'_>),
) -> Result<Verdict, Error> {
    let conflict = request.rule.on_conflict;
    match conflict {
        // As fast as ever: the last rename finds out.
        Conflict::Fail => return Ok(Verdict::Place(Replace::Nothing)),
        Conflict::Overwrite => return Ok(Verdict::Place(Replace::Anything)),
        Conflict::Skip | Conflict::Rename | Conflict::Newer | Conflict::Same => {}
    }
    let there = match sys::status_at(&place.directory, &place.name) {
        Err(Errno::NOENT) => return Ok(Verdict::Place(Replace::Nothing)),
        there => there.map_err(|errno| Error::os(errno, &place.path))?,
    };
    let are_files = source.kind == Kind::File && there.kind == Kind::File;
    match conflict {
        Conflict::Skip => Ok(Verdict::Skip(Skipped::Exists)),
        Conflict::Rename => {
            take_number(request, place, source.kind)?;
            record(Record::Making { path: &place.path, is_tree: source.kind == Kind::Directory });
            Ok(Verdict::Place(Replace::Nothing))
        }
        Conflict::Newer if are_files && sys::nanoseconds(source.mtime) > sys::nanoseconds(there.mtime) => {
            Ok(Verdict::Place(Replace::Only(there)))
        }
        Conflict::Newer if are_files => Ok(Verdict::Skip(Skipped::NotOlder)),
        Conflict::Same if there.inode == source.inode => Ok(Verdict::Skip(Skipped::Same)),
        Conflict::Same if are_files => Ok(Verdict::Compare),
        Conflict::Fail | Conflict::Overwrite | Conflict::Newer | Conflict::Same => {
            Err(exists(request, &place.path, source.kind))
        }
    }
}

/// What a source cannot replace is at `path`.
pub(crate) fn exists(request: &Request<'_>, path: &[u8], source: Kind) -> Error {
    let (from, to) = (request.source.to_vec(), path.to_vec());
    let action = request.rule.action;
    let remedy = match (request.rule.on_conflict, source) {
        // A directory is never newer or the same, and can be merged only by a copy.
        (Conflict::Fail, Kind::Directory) if action == Action::Copy => {
            "overwrite=True or on_conflict=\"skip\" or \"rename\""
        }
        (Conflict::Fail, Kind::Directory) | (Conflict::Newer | Conflict::Same, _) => {
            "on_conflict=\"skip\" or \"rename\""
        }
        (Conflict::Fail | Conflict::Overwrite, _) => {
            "overwrite=True or on_conflict=\"skip\", \"rename\", \"newer\" or \"same\""
        }
        (Conflict::Skip | Conflict::Rename, _) => "on_conflict=\"overwrite\" or \"skip\"",
    };
    Error::Exists { action, from, to, remedy }
}

/// Whether an action that found the name taken is to judge it again: it was free, or something else, a moment ago.
pub(crate) fn is_judged_again(request: &Request<'_>, error: &Error) -> bool {
    match request.rule.on_conflict {
        Conflict::Fail | Conflict::Overwrite => false,
        Conflict::Skip | Conflict::Rename | Conflict::Newer | Conflict::Same => {
            matches!(error, Error::Exists { .. })
        }
    }
}

/// Gives a place the first numbered name that is free.
fn take_number(request: &Request<'_>, place: &mut Place<'_>, source: Kind) -> Result<(), Error> {
    let wanted = resolve::split(resolve::trim_slashes(request.destination)).1;
    for number in 1..=NUMBERS_MAX {
        let name = numbered(wanted, number);
        match sys::status_at(&place.directory, &name) {
            Ok(_) => {}
            Err(Errno::NOENT) => {
                place.rename(name);
                return Ok(());
            }
            Err(errno) => return Err(Error::os(errno, &place.path)),
        }
    }
    Err(exists(request, &place.path, source))
}

/// `stem.number.ext`, with the last suffix as `ext`; a dot at the beginning is part of the stem.
fn numbered(name: &[u8], number: u32) -> Vec<u8> {
    let is_suffix = |dot: &usize| *dot > 0 && dot + 1 < name.len();
    let stem_len = name.iter().rposition(|byte| *byte == b'.').filter(is_suffix).unwrap_or(name.len());
    let (stem, suffix) = name.split_at(stem_len);
    [stem, b".", number.to_string().as_bytes(), suffix].concat()
}

/// Compares the source, looked at before, with the file that has its name; fails if they differ. Gives that file.
pub(crate) fn compare(
    request: &Request<'_>,
    place: &Place<'_>,
    source: &Source,
    look: &Status,
) -> Result<Source, Error> {
    let failed = |errno| Error::os(errno, &place.path);
    let there = copy::open_kind(place.directory.as_fd(), &place.name, Kind::File, &place.path)?;
    let compared = content::equal(source.file.as_fd(), there.file.as_fd(), look.size, request.stop);
    let equal = compared.map_err(|failure| match failure {
        Failure::Stopped => Error::Stopped { path: request.source.to_vec() },
        Failure::Os(errno) => failed(errno),
    })?;
    let now = sys::status(&there.file).map_err(failed)?;
    if !equal || there.status.size != look.size {
        let (from, to) = (request.source.to_vec(), place.path.to_vec());
        return Err(Error::Differs { action: request.rule.action, from, to });
    }
    if now.size == look.size && now.is_same_state(&there.status) {
        Ok(Source { status: now, ..there })
    } else {
        Err(exists(request, &place.path, Kind::File))
    }
}

/// What had a name, under a temporary name beside it, looked at once more before it goes: a name can lead to something
/// else from one moment to the next, and nothing removes a name only if it leads to a certain file.
pub(crate) struct Aside<'a> {
    directory: BorrowedFd<'a>,
    name: &'a [u8],
    temporary: Option<Given>,
}

/// When what is set aside goes, if it is what was judged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Goes {
    /// At once, whatever happens: nobody misses it.
    Now,
    /// When something else has its name.
    Later,
}

impl<'a> Aside<'a> {
    /// Sets aside what has a name, if it is what was judged; EXIST if it is something else by now, NOENT if nothing is
    /// there.
    pub(crate) fn set(
        directory: BorrowedFd<'a>,
        name: &'a [u8],
        judged: &Status,
        goes: Goes,
    ) -> sys::Result<Aside<'a>> {
        let goes = (goes == Goes::Now).then_some(judged);
        let aside = temporary::set_aside(directory, name, judged.kind, goes)?;
        let found = sys::status_at(directory, &aside);
        let aside = Aside { directory, name, temporary: Some(aside) };
        // The rename itself was a change of the file. Otherwise it gets its name back.
        if found.is_ok_and(|found| found.is_same_content(judged)) { Ok(aside) } else { Err(Errno::EXIST) }
    }

    /// Removes it.
    pub(crate) fn remove(self) -> sys::Result<()> {
        self.remove_by(|directory, name| sys::remove_file(directory, name))
    }

    /// Removes it as `remove` does that; if that fails, it gets its name back.
    pub(crate) fn remove_by<E>(
        mut self,
        remove: impl FnOnce(BorrowedFd<'_>, &[u8]) -> Result<(), E>,
    ) -> Result<(), E> {
        if let Some(aside) = &self.temporary {
            remove(self.directory, aside)?;
        }
        self.temporary = None;
        Ok(())
    }
}

impl Drop for Aside<'_> {
    /// Gives it its name back; where somebody else has that by now, a numbered one.
    fn drop(&mut self) {
        let Some(aside) = self.temporary.take() else { return };
        let mut name = Cow::Borrowed(self.name);
        for number in 1..=NUMBERS_MAX {
            match temporary::rename(self.directory, &aside, self.directory, &name, Kind::File, false) {
                Err(Errno::EXIST) => name = Cow::Owned(numbered(self.name, number)),
                Ok(()) | Err(_) => return,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_stand_before_the_last_suffix() {
        let cases = [
            ("f.txt", "f.1.txt"),
            ("archive.tar.gz", "archive.tar.1.gz"),
            (".bashrc", ".bashrc.1"),
            ("dir", "dir.1"),
            ("f.", "f..1"),
            (".a.b", ".a.1.b"),
            ("x", "x.1"),
        ];
        for (name, expected) in cases {
            assert_eq!(numbered(name.as_bytes(), 1), expected.as_bytes(), "{name}");
        }
        assert_eq!(numbered(b"f.txt", 23), b"f.23.txt");
    }
}
