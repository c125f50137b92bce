//! What is said about users, groups and limits of commands before the first of them runs.
//!
//! Databases of users may be far away: the loop asks them by way of a lane and says what is wrong when the answer
//! comes. A config test waits for the answer. Nothing here refuses a configuration: a user may come, and each task says
//! itself why it fails.

use std::time::Instant;

use rustix::process::getrlimit;
use rustix::thread::{CapabilitySet, capabilities};

use super::Daemon;
use crate::action::Report;
use crate::action::account::{self, Account, Fault};
use crate::action::exec::RESOURCES;
use crate::config::{AccountWanted, CommandOptions, Config, Scheduler, Work, place};
use crate::lane::{LaneId, NotPerformed, Once, Size};
use crate::log::{Log, record};

/// A user and a group, and where the configuration names them.
#[derive(Clone, Debug)]
struct Question {
    wanted: AccountWanted,
    /// `FILE:LINE: `.
    place: String,
}

/// All that is wrong. Waits for the databases.
pub(super) fn warnings(config: &Config) -> Vec<String> {
    let limits = limit_warnings(config);
    limits.into_iter().chain(questions(config).iter().filter_map(Question::warning)).collect()
}

impl Daemon {
    /// Says what is wrong with limits at once, and with users and groups when the databases have answered.
    pub(super) fn check_accounts(&mut self, config: &Config, now: Instant) {
        let performer = &mut self.core.performer;
        for warning in limit_warnings(config) {
            record!(performer.log, Log::ROOT, WARNING, "{warning}");
        }
        let questions = questions(config);
        if questions.is_empty() {
            return;
        }
        let run = move || Report::Checked(questions.iter().filter_map(Question::warning).collect());
        let about = "look whether users and groups of commands exist".to_owned();
        // Each task says why it fails.
        let work = Once::new(about, run, |_: NotPerformed| Report::Checked(Vec::new()));
        performer.lanes.submit(LaneId::Users, Size::Large, work, now);
    }
}

/// What commands name; what many of them share is there once.
fn questions(config: &Config) -> Vec<Question> {
    let mut all: Vec<Question> = Vec::new();
    for (scheduler, options) in commands(config) {
        let Some(wanted) = &options.account else { continue };
        if !all.iter().any(|known| known.wanted == *wanted) {
            all.push(Question { wanted: wanted.clone(), place: place(scheduler.at.as_ref()) });
        }
    }
    all
}

impl Question {
    fn warning(&self) -> Option<String> {
        warning(&self.place, account::look_up(&self.wanted).as_ref())
    }
}

fn commands(config: &Config) -> impl Iterator<Item = (&Scheduler, &CommandOptions)> {
    config.schedulers.iter().filter_map(|scheduler| match &scheduler.work {
        Work::Command(command) => Some((scheduler, &command.options)),
        Work::Job(_) | Work::Rules(_) => None,
    })
}

fn warning(place: &str, account: Result<&Account, &Fault>) -> Option<String> {
    let fails = "each task of this scheduler will fail";
    match account {
        Ok(account) if account.is_out_of_reach() => {
            Some(format!("{place}user: only root may run commands as another user; {fails}"))
        }
        Ok(_) => None,
        Err(Fault::Unknown(text)) => Some(format!("{place}{text}; {fails}")),
        Err(Fault::NoAnswer(text)) => Some(format!("{place}{text}")),
    }
}

/// Limits that this process may not raise so far.
fn limit_warnings(config: &Config) -> Vec<String> {
    let may = capabilities(None).is_ok_and(|sets| sets.effective.contains(CapabilitySet::SYS_RESOURCE));
    let of = |name: &str| RESOURCES.iter().find(|(known, _)| *known == name).map(|(_, resource)| *resource);
    let mut all = Vec::new();
    let commands = commands(config).filter(|_| !may);
    let limits =
        commands.flat_map(|(scheduler, options)| options.limits.iter().map(move |limit| (scheduler, limit)));
    for (scheduler, (name, limit)) in limits {
        let Some(hard) = of(name).and_then(|resource| getrlimit(resource).maximum) else { continue };
        if limit.is_none_or(|limit| limit > hard) {
            let shown = limit.map_or("no limit".to_owned(), |limit| limit.to_string());
            all.push(format!(
                "{}limits: {name} cannot be raised to {shown}, the hard limit of the daemon is {hard}; \
                 each task of this scheduler will fail",
                place(scheduler.at.as_ref())
            ));
        }
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_that_did_not_come_is_not_said_to_be_a_missing_user() {
        let unknown = Fault::Unknown("no such user: 'x'".into());
        let expected = "c.py:3: no such user: 'x'; each task of this scheduler will fail";
        assert_eq!(warning("c.py:3: ", Err(&unknown)).unwrap(), expected);
        let silent = Fault::NoAnswer("cannot look up user 'x': Connection refused".into());
        assert!(!warning("", Err(&silent)).unwrap().contains("will fail"));
    }
}
