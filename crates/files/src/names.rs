//! Users and groups by name.
//!
//! Owns the lookup (getpwnam_r(3), getgrnam_r(3), so LDAP and the like work) and a small memory of it: a rule that is
//! applied to 20,000 files would otherwise read /etc/passwd 20,000 times.

use std::cell::RefCell;
use std::time::{Duration, Instant};

use rustix::io::Errno;

use crate::error::Error;
use crate::sys::{Gid, Uid};

/// How long a lookup is believed. Long enough for a burst of files, short enough that `useradd` helps at once.
const BELIEVED_FOR: Duration = Duration::from_secs(2);

/// How many pairs of names a thread remembers; more rules than this with owners of their own just look up more often.
const REMEMBERED_MAX: usize = 16;

/// The ids of a rule's user and group.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Ids {
    pub(crate) uid: Option<Uid>,
    pub(crate) gid: Option<Gid>,
    missing: Option<Missing>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Missing {
    User(String),
    Group(String),
}

/// The database could not be asked.
#[derive(Clone, Debug, PartialEq, Eq)]
struct NoAnswer {
    what: &'static str,
    name: String,
    errno: Errno,
}

impl Ids {
    /// The error that a missing user or group is; then neither id is set, as in Python's `shutil.chown`.
    pub(crate) fn missing(&self) -> Option<Error> {
        self.missing.as_ref().map(|missing| match missing {
            Missing::User(name) => Error::NoSuchUser(name.clone()),
            Missing::Group(name) => Error::NoSuchGroup(name.clone()),
        })
    }
}

struct Remembered {
    user: Option<String>,
    group: Option<String>,
    ids: Ids,
    since: Instant,
}

thread_local! {
    static REMEMBERED: RefCell<Vec<Remembered>> = const { RefCell::new(Vec::new()) };
}

/// Looks a user and a group up. One that does not exist is part of the answer.
///
/// # Errors
/// [`Error::NoAnswer`] where the database could not be asked. That is not remembered: the next look may help.
pub(crate) fn look_up(user: Option<&str>, group: Option<&str>) -> Result<Ids, Error> {
    if user.is_none() && group.is_none() {
        return Ok(Ids::default());
    }
    let now = Instant::now();
    REMEMBERED.with_borrow_mut(|remembered| {
        remembered.retain(|entry| now.duration_since(entry.since) < BELIEVED_FOR);
        let known =
            remembered.iter().find(|entry| entry.user.as_deref() == user && entry.group.as_deref() == group);
        if let Some(entry) = known {
            return Ok(entry.ids.clone());
        }
        let ids = ask(user, group, &mut database::user, &mut database::group)
            .map_err(|NoAnswer { what, name, errno }| Error::NoAnswer { what, name, errno })?;
        if remembered.len() < REMEMBERED_MAX {
            let (user, group) = (user.map(str::to_owned), group.map(str::to_owned));
            remembered.push(Remembered { user, group, ids: ids.clone(), since: now });
        }
        Ok(ids)
    })
}

/// Asks a database for the id of a name.
type Ask<'a> = &'a mut dyn FnMut(&str) -> Result<Option<u32>, Errno>;

fn ask(user: Option<&str>, group: Option<&str>, users: Ask<'_>, groups: Ask<'_>) -> Result<Ids, NoAnswer> {
    // Both are asked before either is judged: what can't be asked must not look like what does not exist.
    let (user, group) = (look("user", user, users)?, look("group", group, groups)?);
    let missing = |missing| Ids { missing: Some(missing), ..Ids::default() };
    Ok(match (user, group) {
        (Some(Err(name)), _) => missing(Missing::User(name)),
        (_, Some(Err(name))) => missing(Missing::Group(name)),
        (user, group) => Ids {
            uid: user.and_then(Result::ok).map(Uid::from_raw),
            gid: group.and_then(Result::ok).map(Gid::from_raw),
            missing: None,
        },
    })
}

/// The id of a name if it has one, else the name.
fn look(
    what: &'static str,
    name: Option<&str>,
    database: Ask<'_>,
) -> Result<Option<Result<u32, String>>, NoAnswer> {
    let Some(name) = name else { return Ok(None) };
    match database(name) {
        Ok(id) => Ok(Some(id.ok_or_else(|| name.to_owned()))),
        Err(errno) => Err(NoAnswer { what, name: name.to_owned(), errno }),
    }
}

/// The databases of the system.
mod database {
    use super::Errno;

    pub(super) fn user(name: &str) -> Result<Option<u32>, Errno> {
        #[cfg(test)]
        super::tests::fail()?;
        let found = nix::unistd::User::from_name(name).map_err(errno)?;
        Ok(found.map(|user| user.uid.as_raw()))
    }

    pub(super) fn group(name: &str) -> Result<Option<u32>, Errno> {
        #[cfg(test)]
        super::tests::fail()?;
        let found = nix::unistd::Group::from_name(name).map_err(errno)?;
        Ok(found.map(|group| group.gid.as_raw()))
    }

    fn errno(errno: nix::errno::Errno) -> Errno {
        Errno::from_raw_os_error(errno as i32)
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use std::cell::Cell;

    use super::*;

    thread_local! {
        /// What the databases answer where they can't be asked.
        pub(crate) static FAILING: Cell<Option<Errno>> = const { Cell::new(None) };
    }

    pub(super) fn fail() -> Result<(), Errno> {
        FAILING.get().map_or(Ok(()), Err)
    }

    #[test]
    fn names_are_looked_up_and_missing_ones_named() {
        let root = look_up(Some("root"), Some("root")).unwrap();
        assert_eq!((root.uid, root.gid), (Some(Uid::ROOT), Some(Gid::ROOT)));
        assert!(root.missing().is_none());
        let nobody = look_up(Some("root"), Some("no-such-group")).unwrap();
        assert_eq!((nobody.uid, nobody.gid), (None, None));
        assert_eq!(nobody.missing().unwrap().to_string(), "no such group: 'no-such-group'");
        assert_eq!(
            look_up(Some("no-such-user"), None).unwrap().missing().unwrap().to_string(),
            "no such user: 'no-such-user'"
        );
        assert_eq!(look_up(None, None).unwrap(), Ids::default());
    }

    #[test]
    fn a_database_that_can_not_be_asked_is_no_missing_name() {
        for errno in [Errno::CONNREFUSED, Errno::NOENT, Errno::IO, Errno::AGAIN, Errno::TIMEDOUT] {
            let answer = ask(Some("u"), Some("g"), &mut |_| Ok(Some(1)), &mut |_| Err(errno));
            assert_eq!(answer, Err(NoAnswer { what: "group", name: "g".into(), errno }));
            let answer = ask(Some("u"), Some("g"), &mut |_| Err(errno), &mut |_| Ok(None));
            assert_eq!(answer, Err(NoAnswer { what: "user", name: "u".into(), errno }));
            let answer = ask(Some("u"), Some("g"), &mut |_| Ok(None), &mut |_| Err(errno));
            assert!(answer.is_err(), "the user may not exist, but nothing is known of the group");
        }
    }
}
