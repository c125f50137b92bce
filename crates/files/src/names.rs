//! Users and groups by name.
//!
//! Owns the lookup (getpwnam_r(3), getgrnam_r(3), so LDAP and the like work) and a small memory of it: a rule that is
//! applied to 20,000 files would otherwise read /etc/passwd 20,000 times.

use std::cell::RefCell;
use std::time::{Duration, Instant};

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

/// Looks a user and a group up.
pub(crate) fn look_up(user: Option<&str>, group: Option<&str>) -> Ids {
    if user.is_none() && group.is_none() {
        return Ids::default();
    }
    let now = Instant::now();
    REMEMBERED.with_borrow_mut(|remembered| {
        remembered.retain(|entry| now.duration_since(entry.since) < BELIEVED_FOR);
        let known =
            remembered.iter().find(|entry| entry.user.as_deref() == user && entry.group.as_deref() == group);
        if let Some(entry) = known {
            return entry.ids.clone();
        }
        let ids = ask(user, group);
        if remembered.len() < REMEMBERED_MAX {
            let (user, group) = (user.map(str::to_owned), group.map(str::to_owned));
            remembered.push(Remembered { user, group, ids: ids.clone(), since: now });
        }
        ids
    })
}

fn ask(user: Option<&str>, group: Option<&str>) -> Ids {
    let mut ids = Ids::default();
    if let Some(name) = user {
        match nix::unistd::User::from_name(name) {
            Ok(Some(user)) => ids.uid = Some(Uid::from_raw(user.uid.as_raw())),
            Ok(None) | Err(_) => {
                return Ids { missing: Some(Missing::User(name.to_owned())), ..Ids::default() };
            }
        }
    }
    if let Some(name) = group {
        match nix::unistd::Group::from_name(name) {
            Ok(Some(group)) => ids.gid = Some(Gid::from_raw(group.gid.as_raw())),
            Ok(None) | Err(_) => {
                return Ids { missing: Some(Missing::Group(name.to_owned())), ..Ids::default() };
            }
        }
    }
    ids
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_looked_up_and_missing_ones_named() {
        let root = look_up(Some("root"), Some("root"));
        assert_eq!((root.uid, root.gid), (Some(Uid::ROOT), Some(Gid::ROOT)));
        assert!(root.missing().is_none());
        let nobody = look_up(Some("root"), Some("no-such-group"));
        assert_eq!((nobody.uid, nobody.gid), (None, None));
        assert_eq!(nobody.missing().unwrap().to_string(), "no such group: 'no-such-group'");
        assert_eq!(
            look_up(Some("no-such-user"), None).missing().unwrap().to_string(),
            "no such user: 'no-such-user'"
        );
        assert_eq!(look_up(None, None), Ids::default());
    }
}
