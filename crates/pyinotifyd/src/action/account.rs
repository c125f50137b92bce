//! Users and groups of commands, asked of the databases of the system: files, LDAP, whatever NSS has.
//!
//! Such a question may wait for a server, so that it is work for a lane. Commands wait for the answer; what asks the
//! same meanwhile waits for the same. An answer is believed for a moment, so that a burst of events asks once.

use std::ffi::CString;
use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use hashbrown::{HashMap, HashSet};
use nix::unistd::{Gid, Group, User, getgrouplist};
use rustix::process::geteuid;
use rustix::thread::{CapabilitySet, capabilities};

use super::exec::Identity;
use super::{Lanes, Report};
use crate::config::{AccountName, AccountWanted};
use crate::lane::{LaneId, NotPerformed, Once, Size};

/// How long an answer is believed: long enough for a burst of files, short enough that `useradd` helps at once.
const BELIEVED_FOR: Duration = Duration::from_secs(2);

/// What a command runs as.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Account {
    /// Ids.
    pub(super) identity: Identity,
    /// The user's `HOME`, `USER` and `LOGNAME`, where it is not the daemon's own user.
    pub(super) environment: Option<[CString; 3]>,
}

/// Why there is no account.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// The databases know no such user or group.
    Unknown(String),
    /// The databases could not be asked, which says nothing about the name.
    NoAnswer(String),
}

impl fmt::Display for Fault {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Fault::Unknown(text) | Fault::NoAnswer(text) => out.write_str(text),
        }
    }
}

/// An answer of the databases.
#[derive(Debug)]
pub(crate) struct Answer {
    /// What was asked.
    pub(crate) wanted: AccountWanted,
    /// The answer.
    pub(crate) account: Result<Arc<Account>, Fault>,
}

/// Questions and answers.
#[derive(Debug, Default)]
pub(crate) struct Accounts {
    known: HashMap<AccountWanted, (Arc<Account>, Instant)>,
    asked: HashSet<AccountWanted>,
}

impl Accounts {
    /// The account if it is known now; else its answer comes as a report.
    pub(crate) fn get(
        &mut self,
        wanted: &AccountWanted,
        lanes: &mut Lanes,
        now: Instant,
    ) -> Option<Arc<Account>> {
        self.known.retain(|_, (_, since)| now.saturating_duration_since(*since) < BELIEVED_FOR);
        if let Some((account, _)) = self.known.get(wanted) {
            return Some(Arc::clone(account));
        }
        if self.asked.insert(wanted.clone()) {
            let (question, unanswered) = (wanted.clone(), wanted.clone());
            let run = move || {
                let account = look_up(&question).map(Arc::new);
                Report::Account(Answer { wanted: question, account })
            };
            let not_performed = move |why: NotPerformed| {
                let account = Err(Fault::NoAnswer(format!("cannot look {} up: {why}", unanswered.text())));
                Report::Account(Answer { wanted: unanswered.clone(), account })
            };
            let about = format!("look-up of {}", wanted.text());
            lanes.submit(LaneId::Users, Size::Small, Once::new(about, run, not_performed), now);
        }
        None
    }

    /// Takes an answer. What the databases do not know is asked again by the next command.
    pub(crate) fn answered(&mut self, answer: &Answer, now: Instant) {
        self.asked.remove(&answer.wanted);
        if let Ok(account) = &answer.account {
            self.known.insert(answer.wanted.clone(), (Arc::clone(account), now));
        }
    }
}

impl AccountWanted {
    fn text(&self) -> String {
        let named =
            |what: &str, name: &Option<AccountName>| name.as_ref().map(|name| format!("{what} {name}"));
        let all = [named("user", &self.user), named("group", &self.group)];
        all.into_iter().flatten().collect::<Vec<_>>().join(" and ")
    }
}

impl fmt::Display for AccountName {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            AccountName::Number(number) => write!(out, "{number}"),
            AccountName::Name(name) => write!(out, "'{name}'"),
        }
    }
}

impl Account {
    /// Why this process cannot become it, as far as its capabilities tell.
    pub(crate) fn is_out_of_reach(&self) -> bool {
        let Some(uid) = self.identity.uid else { return false };
        let may = capabilities(None).is_ok_and(|sets| sets.effective.contains(CapabilitySet::SETUID));
        uid != geteuid().as_raw() && !may
    }
}

/// Asks the databases. Waits for them.
pub(crate) fn look_up(wanted: &AccountWanted) -> Result<Account, Fault> {
    let gid = wanted.group.as_ref().map(group).transpose()?;
    let Some(name) = &wanted.user else {
        let identity = Identity { gid, ..Identity::default() };
        return Ok(Account { identity, environment: None });
    };
    let found = match user(name)? {
        Found::Entry(found) => found,
        Found::Number(uid) => {
            let lacks = || Fault::Unknown(format!("no such user: {uid} (as a number alone it needs group=)"));
            let gid = gid.ok_or_else(lacks)?;
            return Ok(account(uid, gid, vec![gid], b"/", &uid.to_string()));
        }
    };
    let gid = gid.unwrap_or(found.gid.as_raw());
    let groups = c_string(&found.name)
        .and_then(|name| getgrouplist(&name, Gid::from_raw(gid)).map_err(nix_error))
        .map_err(|error| Fault::NoAnswer(format!("cannot look up the groups of user {name}: {error}")))?;
    let groups = groups.into_iter().map(Gid::as_raw).collect();
    Ok(account(found.uid.as_raw(), gid, groups, found.dir.as_os_str().as_encoded_bytes(), &found.name))
}

fn account(uid: u32, gid: u32, groups: Vec<u32>, home: &[u8], name: &str) -> Account {
    let variable = |start: &str, value: &[u8]| {
        // The databases hold C strings, which end before a NUL.
        CString::new([start.as_bytes(), value].concat()).unwrap_or_default()
    };
    let environment =
        [variable("HOME=", home), variable("USER=", name.as_bytes()), variable("LOGNAME=", name.as_bytes())];
    Account {
        identity: Identity { uid: Some(uid), gid: Some(gid), groups: Some(groups) },
        environment: (uid != geteuid().as_raw()).then_some(environment),
    }
}

/// A user, by an entry in the database or by a number that has none.
enum Found {
    Entry(User),
    Number(u32),
}

fn user(name: &AccountName) -> Result<Found, Fault> {
    let (found, number) = match name {
        AccountName::Number(uid) => (User::from_uid((*uid).into()), Some(*uid)),
        AccountName::Name(text) => (User::from_name(text), text.parse().ok()),
    };
    let found = found.map_err(|errno| no_answer("user", name, errno))?;
    match (found, name, number) {
        (Some(found), _, _) => Ok(Found::Entry(found)),
        (None, AccountName::Number(uid), _) => Ok(Found::Number(*uid)),
        (None, AccountName::Name(_), Some(uid)) => user(&AccountName::Number(uid)),
        (None, AccountName::Name(_), None) => Err(Fault::Unknown(format!("no such user: {name}"))),
    }
}

/// A group's number; one in digits need not be in the database.
fn group(name: &AccountName) -> Result<u32, Fault> {
    let text = match name {
        AccountName::Number(gid) => return Ok(*gid),
        AccountName::Name(text) => text,
    };
    let found = Group::from_name(text).map_err(|errno| no_answer("group", name, errno))?;
    let gid = found.map(|group| group.gid.as_raw()).or_else(|| text.parse().ok());
    gid.ok_or_else(|| Fault::Unknown(format!("no such group: {name}")))
}

fn no_answer(what: &str, name: &AccountName, errno: nix::errno::Errno) -> Fault {
    Fault::NoAnswer(format!("cannot look up {what} {name}: {}", nix_error(errno)))
}

fn nix_error(errno: nix::errno::Errno) -> String {
    errno.desc().to_owned()
}

fn c_string(text: &str) -> Result<CString, String> {
    CString::new(text).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lane::Limits;

    fn wanted(user: Option<&str>, group: Option<&str>) -> AccountWanted {
        let name = |name: &str| AccountName::Name(name.to_owned());
        AccountWanted { user: user.map(name), group: group.map(name) }
    }

    #[test]
    fn a_user_has_its_groups_and_its_environment() {
        let root = look_up(&wanted(Some("root"), None)).unwrap();
        assert_eq!((root.identity.uid, root.identity.gid), (Some(0), Some(0)));
        let nobody = look_up(&wanted(Some("nobody"), None)).unwrap();
        let by_number = nobody.identity.uid.unwrap();
        assert!(nobody.identity.groups.as_ref().unwrap().contains(&nobody.identity.gid.unwrap()));
        let names = nobody.environment.as_ref().unwrap();
        assert_eq!((names[1].as_c_str(), names[2].as_c_str()), (c"USER=nobody", c"LOGNAME=nobody"));
        assert_eq!(look_up(&wanted(Some(&by_number.to_string()), None)), Ok(nobody));
        let number = AccountWanted { user: Some(AccountName::Number(0)), group: None };
        assert_eq!(look_up(&number), Ok(root));
    }

    #[test]
    fn a_group_alone_changes_nothing_else() {
        let identity = look_up(&wanted(None, Some("root"))).unwrap().identity;
        assert_eq!(identity, Identity { uid: None, gid: Some(0), groups: None });
        let both = look_up(&wanted(Some("root"), Some("12345"))).unwrap().identity;
        assert_eq!((both.uid, both.gid), (Some(0), Some(12345)));
    }

    #[test]
    fn who_does_not_exist_is_named() {
        let unknown = |user, group| look_up(&wanted(user, group)).unwrap_err();
        let text = |text: &str| Fault::Unknown(text.to_owned());
        assert_eq!(unknown(Some("no-such-user"), None), text("no such user: 'no-such-user'"));
        assert_eq!(unknown(Some("root"), Some("no-such-group")), text("no such group: 'no-such-group'"));
        let number = look_up(&AccountWanted { user: Some(AccountName::Number(4_000_000)), group: None });
        assert!(matches!(number, Err(Fault::Unknown(text)) if text.contains("needs group=")));
        let number = AccountWanted {
            user: Some(AccountName::Number(4_000_000)),
            group: Some(AccountName::Number(4_000_001)),
        };
        let identity = look_up(&number).unwrap().identity;
        assert_eq!((identity.uid, identity.groups), (Some(4_000_000), Some(vec![4_000_001])));
    }

    #[test]
    fn one_question_is_asked_once_and_its_answer_grows_old() {
        let (mut accounts, mut lanes) = (Accounts::default(), Lanes::new(Limits::default()));
        let (root, now) = (wanted(Some("root"), None), Instant::now());
        for _ in 0..2 {
            assert_eq!(accounts.get(&root, &mut lanes, now), None);
        }
        let account = Ok(Arc::new(look_up(&root).unwrap()));
        accounts.answered(&Answer { wanted: root.clone(), account }, now);
        assert!(accounts.get(&root, &mut lanes, now).is_some());
        assert_eq!(accounts.get(&root, &mut lanes, now + BELIEVED_FOR), None);
        assert_eq!(accounts.asked.len(), 1);
        // What went wrong is not remembered.
        let fault = Err(Fault::NoAnswer("x".into()));
        accounts.answered(&Answer { wanted: root.clone(), account: fault }, now);
        assert_eq!(accounts.get(&root, &mut lanes, now + BELIEVED_FOR), None);
    }
}
