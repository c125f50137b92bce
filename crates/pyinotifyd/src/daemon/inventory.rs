//! What a reload has changed, in one line for the log and for whoever asked for it; which configuration is in force,
//! and what people call the schedulers of all that are at work.

use std::collections::HashMap;
use std::fmt;
use std::hash::Hash;
use std::sync::Arc;
use std::time::Instant;

use control::api::{DonePaths, PathText, RefusedConfig, Reloaded};
use engine::{SchedulerId, SchedulerStats};

use super::Daemon;
use super::generation::{Action, Generation};
use super::keep::no_heir;
use super::observe::wall_now;
use crate::config::{Config, Digest, Identity};

/// Changes that a line of the log names.
const CHANGES_LOGGED: usize = 50;

/// What a reload has changed.
#[derive(Debug, Default)]
pub(super) struct Changes {
    counts: String,
    all: Vec<String>,
    /// What schedulers that are gone leave undone.
    losses: Vec<String>,
}

impl Changes {
    /// As the log has it, which has said the counts.
    pub(super) fn in_short(&self) -> String {
        self.first(CHANGES_LOGGED)
    }

    fn first(&self, max: usize) -> String {
        let Changes { all, losses, .. } = self;
        let none = ["no watch and no scheduler changed".to_owned()];
        let first = |all: &[String]| all[..all.len().min(max)].join(", ");
        let more = all.len().saturating_sub(max) + losses.len().saturating_sub(max);
        let more = if more > 0 { format!(" and {more} more") } else { String::new() };
        let said = [if all.is_empty() { &none } else { &all[..] }, losses];
        let said: Vec<String> = said.into_iter().filter(|some| !some.is_empty()).map(first).collect();
        format!("{}{more}", said.join("; "))
    }
}

impl fmt::Display for Changes {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}; {}", self.counts, self.first(usize::MAX))
    }
}

/// What a configuration consists of, as far as a person follows it: names, and what differs where anything does that
/// the host describes of them.
#[derive(Debug)]
struct Inventory<'a> {
    watches: Vec<Part<'a, (&'a str, u32), Digest>>,
    schedulers: Vec<Part<'a, &'a Identity, Digest>>,
    settings: Vec<Part<'a, &'a str, &'a str>>,
}

/// One of them.
#[derive(Debug)]
struct Part<'a, K, T> {
    /// What it is known by in another configuration, too.
    key: K,
    /// What people call it.
    name: &'a str,
    /// What differs where it does.
    is: T,
}

impl<'a> Inventory<'a> {
    fn of(generation: &'a Generation) -> Inventory<'a> {
        let watches = generation.watches.iter();
        let schedulers = generation.actions().iter();
        let settings = generation.settings.iter();
        let mut of_path: HashMap<&str, u32> = HashMap::new();
        Inventory {
            watches: watches
                .map(|watch| {
                    // Of several watches of one path the first is compared with the first, and so on.
                    let name = &watch.path_text[..];
                    let number = of_path.entry(name).or_insert(0);
                    *number += 1;
                    Part { key: (name, *number), name, is: watch.settings }
                })
                .collect(),
            schedulers: schedulers
                .map(|action| Part { key: &action.identity, name: &action.name, is: action.settings })
                .collect(),
            settings: settings.map(|(name, value)| Part { key: &name[..], name, is: &value[..] }).collect(),
        }
    }

    /// What another one has more, less, and otherwise.
    fn changes_to(&self, other: &Inventory<'_>) -> Changes {
        let watches = differences(|path| format!("watch '{path}'"), &self.watches, &other.watches);
        let schedulers = differences(scheduler, &self.schedulers, &other.schedulers);
        let settings = differences(|name| format!("setting {name}"), &self.settings, &other.settings);
        let counts = (other.watches.len(), other.schedulers.len());
        Changes {
            counts: format!("{} watch(es), {} scheduler(s)", counts.0, counts.1),
            all: [watches, schedulers, settings].concat(),
            losses: Vec::new(),
        }
    }
}

fn scheduler(name: &str) -> String {
    format!("scheduler {name}")
}

fn differences<K: Eq + Hash, T: PartialEq>(
    shown: impl Fn(&str) -> String,
    old: &[Part<'_, K, T>],
    new: &[Part<'_, K, T>],
) -> Vec<String> {
    let (old_by_key, new_by_key) = (by_key(old), by_key(new));
    let new: Vec<_> = new.iter().map(|one| (old_by_key.get(&one.key), one)).collect();
    let added = new.iter().filter(|(old, _)| old.is_none()).map(|(_, one)| one);
    let removed = old.iter().filter(|one| !new_by_key.contains_key(&one.key));
    let both = new.iter().filter_map(|&(old, one)| Some((old?, one)));
    let changed = both.clone().filter(|(old, one)| old.is != one.is).map(|(_, one)| one);
    // The name of a file comes before the scheduler's where another file has such a one, and goes with that.
    let renamed = both.filter(|(old, one)| old.name != one.name);
    let added = added.map(|one| format!("{} added", shown(one.name)));
    let removed = removed.map(|one| format!("{} removed", shown(one.name)));
    let changed = changed.map(|one| format!("{} changed", shown(one.name)));
    let renamed = renamed.map(|(old, one)| format!("{} is now called {}", shown(old.name), one.name));
    added.chain(removed).chain(changed).chain(renamed).collect()
}

/// The first of each key.
fn by_key<'a, 'b, K: Eq + Hash, T>(all: &'b [Part<'a, K, T>]) -> HashMap<&'b K, &'b Part<'a, K, T>> {
    all.iter().rev().map(|one| (&one.key, one)).collect()
}

/// The schedulers of a configuration whose tasks cannot go on in the newest one, and why.
pub(super) fn orphans<'a>(
    old: &'a Generation,
    newest: &'a Generation,
) -> impl Iterator<Item = (SchedulerId, &'a Action, String)> {
    old.all().filter_map(|(id, action)| {
        let heir = newest.find(&action.identity).map(|index| newest.action_at(index));
        let takes_them = heir.is_some_and(|heir| heir.work.kept_kind() == action.work.kept_kind());
        (!takes_them).then(|| (id, action, no_heir(&action.name, heir.is_some())))
    })
}

impl Daemon {
    /// What the configuration that is being adopted changes, but for what is lost by it.
    pub(super) fn changes(&self) -> Changes {
        let Some((old, new)) = self.old_and_new() else { return Changes::default() };
        let inventory = |generation| {
            let mut inventory = Inventory::of(generation);
            inventory.settings.retain(|setting| self.heeds(setting.name));
            inventory
        };
        inventory(old).changes_to(&inventory(new))
    }

    /// Whether a setting of a configuration means anything to this daemon: what the command line says wins, and a
    /// trial has no places of its own.
    fn heeds(&self, setting: &str) -> bool {
        let options = &self.options;
        match setting {
            "state" => options.state.is_none() && !options.dry_run,
            "control" => options.control.is_none() && !options.dry_run,
            "control_group" | "metrics" => !options.dry_run,
            _ => true,
        }
    }

    /// The configuration in force and the one that is being adopted.
    fn old_and_new(&self) -> Option<(&Generation, &Generation)> {
        self.in_force().zip(self.core.performer.generations.last())
    }

    /// The changes of the configuration that takes over now, with what becomes of the tasks to come and of the pauses
    /// of schedulers that are gone.
    pub(super) fn with_losses(&self, changes: Changes) -> Changes {
        let Some((old, new)) = self.old_and_new() else { return changes };
        Changes { losses: self.losses(old, new), ..changes }
    }

    fn losses(&self, old: &Generation, new: &Generation) -> Vec<String> {
        let stats: HashMap<SchedulerId, SchedulerStats> =
            self.core.engine.scheduler_stats().map(|stats| (stats.scheduler, stats)).collect();
        let keeps = self.core.performer.keeper.is_some();
        let loss = |(id, action, why): (SchedulerId, &Action, String)| {
            let is_paused = self.control.pauses.contains(&action.identity);
            let SchedulerStats { waiting, retrying, queued, .. } = *stats.get(&id)?;
            let all = waiting + retrying + queued;
            let (count, fate) = match (keeps && action.persist, is_paused || old.ends_at_once()) {
                (true, _) => (all, "fail"),
                (false, true) => (all, "are not done"),
                // The old configuration still does what waits for its time.
                (false, false) => (retrying, "are not done"),
            };
            let tasks = (count > 0).then(|| format!("{count} task(s) that waited {fate}"));
            let keeps_pause = is_paused && new.find(&action.identity).is_none();
            let pause = keeps_pause.then(|| "its pause stays with that name".to_owned());
            let parts: Vec<String> = tasks.into_iter().chain(pause).collect();
            (!parts.is_empty()).then(|| format!("{why}: {}", parts.join(", ")))
        };
        orphans(old, new).filter_map(loss).collect()
    }

    /// A reload has succeeded.
    pub(super) fn reloaded(&mut self, changes: &Changes, examined: Option<Config>, now: Instant) {
        self.core.performer.observed.counts.reloads[0] += 1;
        self.control.refused = None;
        if !self.control.reloads.is_awaited() {
            return;
        }
        let files = self.in_force().map(|newest| Arc::clone(&newest.source)).unwrap_or_default();
        let paths = DonePaths::of(files.iter().map(|file| file.path.as_os_str().as_encoded_bytes()));
        let reloaded = Reloaded { paths, changed: changes.to_string(), warnings: Vec::new() };
        match examined {
            Some(config) => self.answer_examined(reloaded, config, now),
            None => self.control.reloads.finish(&Ok(reloaded)),
        }
    }

    /// A reload has failed: of one file, or of all.
    pub(super) fn reload_refused(&mut self, file: Option<&[u8]>, why: &str) {
        self.core.performer.observed.counts.reloads[1] += 1;
        let all = self.options.source.files().iter().map(|named| named.path.as_os_str().as_encoded_bytes());
        let files = file.map_or_else(|| all.map(PathText::of).collect(), |file| vec![PathText::of(file)]);
        self.control.refused = Some(RefusedConfig { files, refused: wall_now(), error: why.to_owned() });
        self.control.reloads.finish(&Err(why.to_owned()));
    }

    /// The configurations at work as people see them: the one in force, those that it replaced, the newest first, and
    /// the one that is being set up.
    pub(super) fn by_rank(&self) -> impl Iterator<Item = &Generation> {
        let of = |is_to_come: bool| {
            let all = self.core.performer.generations.iter().rev();
            all.filter(move |generation| self.is_being_adopted(generation.id) == is_to_come)
        };
        of(false).chain(of(true))
    }

    /// What people call a scheduler, also one that no configuration has: as the first one sees it that has such a name.
    pub(super) fn name_of(&self, scheduler: &Identity) -> String {
        let first = self.by_rank().find(|generation| generation.has_name(&scheduler.name));
        first.map_or_else(|| scheduler.name.to_string(), |generation| generation.name_of(scheduler))
    }

    /// Schedulers of replaced configurations are called as by the one in force from here on, and so are their counts.
    pub(super) fn rename_retired(&mut self) {
        let retired = self.core.performer.generations.iter().filter(|generation| generation.retired);
        let actions = retired.flat_map(Generation::actions);
        let names: Vec<Arc<str>> = actions.map(|action| self.name_of(&action.identity).into()).collect();
        let performer = &mut self.core.performer;
        let retired = performer.generations.iter_mut().filter(|generation| generation.retired);
        let mut renamed = HashMap::new();
        for (action, name) in retired.flat_map(Generation::actions_mut).zip(names) {
            if action.name != name {
                renamed.insert(std::mem::replace(&mut action.name, Arc::clone(&name)), name);
            }
        }
        performer.observed.counts.rename(&renamed);
    }

    /// Where the configuration in force stands.
    pub(super) fn place_in_force(&self) -> Option<usize> {
        let mut generations = self.core.performer.generations.iter();
        generations.rposition(|generation| !self.is_being_adopted(generation.id))
    }

    /// The configuration in force; at the start the one that is being set up.
    pub(super) fn in_force(&self) -> Option<&Generation> {
        let generations = &self.core.performer.generations;
        self.place_in_force().map_or(generations.last(), |place| generations.get(place))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn part<'a>(key: &'a str, name: &'a str, is: u64) -> Part<'a, &'a str, u64> {
        Part { key, name, is }
    }

    #[test]
    fn what_came_went_and_changed_is_named() {
        let all = |names: &[(&'static str, u64)]| {
            names.iter().map(|(name, digest)| part(name, name, *digest)).collect::<Vec<_>>()
        };
        let (old, new) = (all(&[("a", 1), ("b", 1), ("c", 1)]), all(&[("b", 2), ("c", 1), ("d", 1)]));
        let said = differences(scheduler, &old, &new);
        assert_eq!(said, ["scheduler d added", "scheduler a removed", "scheduler b changed"]);
    }

    #[test]
    fn a_scheduler_that_is_called_otherwise_is_the_same() {
        let (two, one) = ([part("a/s", "a/s", 1), part("b/s", "b/s", 1)], [part("a/s", "s", 1)]);
        let fewer = differences(scheduler, &two, &one);
        assert_eq!(fewer, ["scheduler b/s removed", "scheduler a/s is now called s"]);
        let more = differences(scheduler, &one, &two);
        assert_eq!(more, ["scheduler b/s added", "scheduler s is now called a/s"]);
    }

    #[test]
    fn the_log_names_the_first_changes_and_counts_the_others() {
        let all = (0..CHANGES_LOGGED + 2).map(|number| format!("watch {number} added")).collect();
        let changes = Changes { counts: "1 watch(es)".to_owned(), all, losses: Vec::new() };
        assert!(changes.in_short().ends_with(", watch 49 added and 2 more"), "{}", changes.in_short());
        assert!(changes.to_string().ends_with(", watch 50 added, watch 51 added"), "{changes}");
        let none = Changes { all: Vec::new(), ..changes };
        assert_eq!(none.in_short(), "no watch and no scheduler changed");
        assert_eq!(none.to_string(), "1 watch(es); no watch and no scheduler changed");
        let lost = Changes { all: vec!["a removed".to_owned()], losses: vec!["a lost".to_owned()], ..none };
        assert_eq!(lost.to_string(), "1 watch(es); a removed; a lost");
    }
}
