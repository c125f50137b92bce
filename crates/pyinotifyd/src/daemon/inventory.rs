//! What a reload has changed, in one line for whoever asked for it.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Instant;

use control::api::Reloaded;

use super::Daemon;
use super::generation::Generation;
use crate::config::{Config, Digest};

/// What a configuration consists of, as far as a person follows it: names, and what differs where anything does that
/// the host describes of them.
#[derive(Debug, Default)]
pub(super) struct Inventory {
    watches: Vec<(String, Digest)>,
    schedulers: Vec<(String, Digest)>,
    settings: Vec<(String, serde_json::Value)>,
}

impl Inventory {
    fn of(generation: &Generation) -> Inventory {
        let watches = generation.watches.iter();
        let schedulers = generation.actions().iter();
        let settings = generation.settings.iter();
        Inventory {
            watches: watches.map(|watch| (format!("'{}'", watch.path_text), watch.settings)).collect(),
            schedulers: schedulers.map(|action| (action.name.to_string(), action.settings)).collect(),
            settings: settings.map(|(name, value)| (name.clone(), value.clone())).collect(),
        }
    }

    /// What another one has more, less, and otherwise.
    fn changes_to(&self, other: &Inventory) -> String {
        let watches = differences("watch", &self.watches, &other.watches);
        let schedulers = differences("scheduler", &self.schedulers, &other.schedulers);
        let settings = differences("setting", &self.settings, &other.settings);
        let all: Vec<String> = [watches, schedulers, settings].concat();
        let counts = (other.watches.len(), other.schedulers.len());
        let counts = format!("{} watch(es), {} scheduler(s)", counts.0, counts.1);
        if all.is_empty() {
            format!("{counts}; no watch and no scheduler changed")
        } else {
            format!("{counts}; {}", all.join(", "))
        }
    }
}

fn differences<T: PartialEq>(what: &str, old: &[(String, T)], new: &[(String, T)]) -> Vec<String> {
    let (old_by_name, new_by_name) = (by_name(old), by_name(new));
    let added = new.iter().filter(|(name, _)| !old_by_name.contains_key(&name[..]));
    let removed = old.iter().filter(|(name, _)| !new_by_name.contains_key(&name[..]));
    let changed = new.iter().filter(|(name, one)| old_by_name.get(&name[..]).is_some_and(|old| *old != one));
    let said = |verb: &'static str| move |(name, _): &(String, T)| format!("{what} {name} {verb}");
    added.map(said("added")).chain(removed.map(said("removed"))).chain(changed.map(said("changed"))).collect()
}

/// The first of each name.
fn by_name<T>(all: &[(String, T)]) -> HashMap<&str, &T> {
    all.iter().rev().map(|(name, one)| (&name[..], one)).collect()
}

impl Daemon {
    /// What the configuration in force consists of.
    pub(super) fn inventory(&self) -> Inventory {
        self.in_force().map_or_else(Inventory::default, Inventory::of)
    }

    /// A reload has succeeded.
    pub(super) fn reloaded(&mut self, before: &Inventory, examined: Option<Config>, now: Instant) {
        self.core.performer.observed.counts.reloads[0] += 1;
        let changed = before.changes_to(&self.inventory());
        let files = self.in_force().map(|newest| Arc::clone(&newest.source)).unwrap_or_default();
        let done = files.iter().map(|file| file.path.display().to_string()).collect();
        let reloaded = Reloaded { done, changed, warnings: Vec::new() };
        match examined {
            Some(config) => self.answer_examined(reloaded, config, now),
            None => self.control.reloads.finish(&Ok(reloaded)),
        }
    }

    /// A reload has failed.
    pub(super) fn reload_refused(&mut self, why: &str) {
        self.core.performer.observed.counts.reloads[1] += 1;
        self.control.reloads.finish(&Err(why.to_owned()));
    }

    /// The configuration in force; at the start the one that is being set up.
    pub(super) fn in_force(&self) -> Option<&Generation> {
        let generations = &self.core.performer.generations;
        let in_force = generations.iter().rfind(|generation| !self.is_being_adopted(generation.id));
        in_force.or(generations.last())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_came_went_and_changed_is_named() {
        let all = |names: &[(&str, u64)]| {
            names.iter().map(|(name, digest)| ((*name).to_owned(), *digest)).collect::<Vec<_>>()
        };
        let (old, new) = (all(&[("a", 1), ("b", 1), ("c", 1)]), all(&[("b", 2), ("c", 1), ("d", 1)]));
        let said = differences("scheduler", &old, &new);
        assert_eq!(said, ["scheduler d added", "scheduler a removed", "scheduler b changed"]);
    }
}
