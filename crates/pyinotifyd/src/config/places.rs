//! The directories that file rules act on: which watches lead there, and what keeps results from coming to their place.
//!
//! Judged from text, as far as text tells, and with the rights of whoever asks. The config test and `doctor` say the
//! same of a rule, since both ask here.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fmt;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use files::{Action, Conflict};
use mounts::Mounts;
use pattern::Pattern;

use super::room::{NoRoom, Obstacle, Room, room_for};
use super::{Config, FileRule, Scheduler, Watch, Work, absolute_path, covers, place, scheduled};
use crate::log::Escaped;

/// A file rule of a configuration.
pub(crate) struct Placed<'a> {
    /// The rule.
    pub rule: &'a FileRule,
    scheduler: &'a Scheduler,
    /// Whether events of any watch come to its scheduler.
    pub is_fed: bool,
    /// Whether such a watch leads to anything that it matches.
    pub is_reached: bool,
    /// The directories that are known to hold what it acts on.
    pub sources: Vec<Vec<u8>>,
}

/// All file rules, with where they act.
pub(crate) fn placed(config: &Config) -> Vec<Placed<'_>> {
    let mut all = Vec::new();
    for (scheduler, watches) in config.schedulers.iter().zip(leading(config)) {
        let Work::Rules(rules) = &scheduler.work else { continue };
        let rules = rules.patterns.patterns().iter().zip(&rules.rules);
        all.extend(rules.map(|(pattern, rule)| Placed::of(scheduler, pattern, rule, &watches)));
    }
    all
}

/// For each scheduler the watches whose events come to it: those that schedule its tasks, or those of whose failures it
/// is told.
fn leading(config: &Config) -> Vec<Vec<&Watch>> {
    let mut all = vec![Vec::new(); config.schedulers.len()];
    for watch in &config.watches {
        let of_map: BTreeSet<usize> = scheduled(watch).collect();
        let told = of_map.iter().flat_map(|index| &config.schedulers[*index].spec.on_failure);
        for index in of_map.iter().chain(told).collect::<BTreeSet<_>>() {
            all[*index].push(watch);
        }
    }
    all
}

impl<'a> Placed<'a> {
    fn of(scheduler: &'a Scheduler, pattern: &Pattern, rule: &'a FileRule, watches: &[&Watch]) -> Placed<'a> {
        let roots = watches
            .iter()
            .flat_map(|watch| watch.paths.iter().map(move |path| (*watch, absolute_path(path))));
        let (mut is_reached, mut sources) = (false, Vec::new());
        for (watch, root) in roots {
            is_reached |= leads_to(watch, &root, pattern);
            sources.extend(source(watch, root, pattern));
        }
        Placed { rule, scheduler, is_fed: !watches.is_empty(), is_reached, sources }
    }

    /// Where it was made.
    pub(crate) fn place(&self) -> String {
        place(self.rule.at.as_ref().or(self.scheduler.at.as_ref()))
    }

    /// What is said of one that no watch leads to.
    pub(crate) fn unreached(&self) -> String {
        format!(
            "this rule is never reached, since no watch whose events come to '{}' leads to what src_re matches",
            self.scheduler.name
        )
    }

    /// Whether there is room for its results where they go; `None` if nothing is known of that.
    pub(crate) fn destination(&self, mounts: &Mounts) -> Option<(Vec<u8>, Result<Room, Trouble>)> {
        // What lies below a mount point means nothing while nothing is mounted there.
        if let Some(wanted) = self.rule.rule.mounted.as_ref().filter(|wanted| !is_mounted(wanted, mounts)) {
            return Some((wanted.clone(), Err(Trouble::NotMounted(wanted.clone()))));
        }
        let directory = self.results().filter(|directory| mounts.way(directory).is_local())?;
        let room = room_for(Path::new(OsStr::from_bytes(&directory)), mounts);
        let is_missing = match &room {
            Ok(room) => *room == Room::Makeable,
            // Whoever makes it may have other rights.
            Err(no_room) => no_room.obstacle == Obstacle::Forbidden && no_room.wanted() != no_room.existing(),
        };
        let judged = if is_missing && !self.rule.rule.auto_create {
            Err(Trouble::Missing(directory.clone()))
        } else {
            room.map_err(Trouble::NoRoom)
        };
        Some((directory, judged))
    }

    /// The directory that all results are in.
    fn results(&self) -> Option<Vec<u8>> {
        // The root directory alone says nothing of where results go.
        self.rule.destination().filter(|directory| *directory != b"/").map(absolute_path)
    }

    /// The directories that are known to hold what is lost, and comes into the trash.
    pub(crate) fn fills_trash_from(&self) -> Option<Vec<Vec<u8>>> {
        match (self.rule.rule.action, self.rule.rule.on_conflict) {
            (Action::Delete, _) => Some(self.sources.clone()),
            (Action::Move | Action::Copy, Conflict::Overwrite | Conflict::Newer) => {
                Some(self.results().into_iter().collect())
            }
            (Action::Move | Action::Copy, _) => None,
        }
    }
}

fn is_mounted(wanted: &[u8], mounts: &Mounts) -> bool {
    // As the action does, through links.
    let way = mounts.way(wanted);
    way.path == way.mount.point
}

/// What keeps results from coming to their place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Trouble {
    /// The mount point of `mounted=` is none now.
    NotMounted(Vec<u8>),
    /// The directory is missing, and the rule does not make it.
    Missing(Vec<u8>),
    /// It cannot be written, or not be made.
    NoRoom(NoRoom),
}

impl fmt::Display for Trouble {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Trouble::NotMounted(path) => {
                write!(out, "'{}' is not mounted: the rule fails until it is", Escaped(path))
            }
            Trouble::Missing(path) => write!(
                out,
                "the destination '{}' does not exist: make it, or write auto_create=True, or mounted= if a filesystem \
                 has to be mounted there",
                Escaped(path)
            ),
            Trouble::NoRoom(no_room) => write!(out, "the destination {no_room}"),
        }
    }
}

/// Whether a watch leads through one of its roots to something that a pattern matches.
fn leads_to(watch: &Watch, root: &[u8], pattern: &Pattern) -> bool {
    if let Some(wildcard) = root.iter().position(|byte| b"*?[".contains(byte)) {
        let shared = pattern.prefix().len().min(wildcard);
        return pattern.prefix()[..shared] == root[..shared];
    }
    let is_below = if watch.is_deep() { pattern.may_match_below(root) } else { pattern.may_match_in(root) };
    is_below || pattern.is_match(root) != Ok(false)
}

/// The directory at or below a root that is known to hold what a pattern matches there.
fn source(watch: &Watch, root: Vec<u8>, pattern: &Pattern) -> Option<Vec<u8>> {
    let prefix = pattern.prefix();
    let named = &prefix[..prefix.iter().rposition(|byte| *byte == b'/')?];
    let directory =
        if covers(watch, &root, prefix) && named.len() > root.len() { named.to_vec() } else { root };
    pattern.may_match_in(&directory).then_some(directory)
}
