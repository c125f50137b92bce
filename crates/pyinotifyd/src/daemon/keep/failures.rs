//! How many tasks of each scheduler stand as failed: neither run again nor forgotten since.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use ledger::Id;

use crate::config::Identity;

/// See the module's head.
#[derive(Debug, Default)]
pub(crate) struct Failures {
    schedulers: HashMap<Id, Identity>,
    counts: BTreeMap<Identity, u64>,
}

impl Failures {
    /// A task has failed. One that fails once more counts once.
    pub(super) fn add(&mut self, id: Id, scheduler: Identity) {
        self.remove(id);
        *self.counts.entry(scheduler.clone()).or_default() += 1;
        self.schedulers.insert(id, scheduler);
    }

    /// Those that an earlier daemon had, with the file and the name of their schedulers.
    pub(super) fn add_all(&mut self, failed: &[(Id, Arc<str>, Arc<str>)]) {
        for (id, file, name) in failed {
            self.add(*id, Identity { file: Arc::clone(file), name: Arc::clone(name) });
        }
    }

    /// A task does not stand as failed any more, if it did.
    pub(super) fn remove(&mut self, id: Id) {
        let Some(scheduler) = self.schedulers.remove(&id) else { return };
        let count = self.counts.get_mut(&scheduler).expect("each of its tasks was counted");
        *count -= 1;
        if *count == 0 {
            self.counts.remove(&scheduler);
        }
    }

    /// Whether a task stands as failed.
    pub(super) fn has(&self, id: Id) -> bool {
        self.schedulers.contains_key(&id)
    }

    /// Those of a scheduler.
    pub(crate) fn of(&self, scheduler: &Identity) -> u64 {
        self.counts.get(scheduler).copied().unwrap_or(0)
    }

    /// Those of all, and of schedulers that the configuration has no more.
    pub(crate) fn all(&self) -> u64 {
        self.schedulers.len() as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_task_counts_as_long_as_it_stands_as_failed_and_once() {
        let identity = |name: &str| Identity { file: "config".into(), name: name.into() };
        let mut failures = Failures::default();
        for (id, name) in [(1, "copy"), (2, "copy"), (3, "move"), (1, "copy")] {
            failures.add(Id(id), identity(name));
        }
        assert_eq!(
            (failures.of(&identity("copy")), failures.of(&identity("move")), failures.all()),
            (2, 1, 3)
        );
        failures.remove(Id(1));
        failures.remove(Id(1));
        failures.remove(Id(3));
        assert_eq!(
            (failures.of(&identity("copy")), failures.of(&identity("move")), failures.all()),
            (1, 0, 1)
        );
    }
}
