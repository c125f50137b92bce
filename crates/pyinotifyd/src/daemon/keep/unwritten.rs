//! What the database does not say yet of tasks that failed: the disk does not take it, or not yet.

use std::sync::Arc;

use hashbrown::HashSet;
use ledger::{Ended, Filter, Id, Page};

use super::Keeper;

/// As it stands when somebody asks.
#[derive(Debug, Default)]
pub(crate) struct Unwritten {
    /// What stands as failed, the newest first.
    failed: Vec<Arc<Ended>>,
    /// Tasks of which the database has something else, or nothing.
    known: HashSet<Id>,
}

impl Unwritten {
    /// Whether there is something that stands as failed.
    pub(crate) fn has_failed(&self) -> bool {
        !self.failed.is_empty()
    }

    /// What the database has of failed tasks, as it will be when all is written. The total is that, too, but for rows
    /// beyond the limit.
    pub(crate) fn amend(&self, filter: &Filter, limit: u32, mut page: Page) -> Page {
        let read = page.rows.len();
        page.rows.retain(|row| !self.known.contains(&row.id));
        page.total -= (read - page.rows.len()) as u32;
        let matching = self.failed.iter().filter(|row| filter.matches(row));
        let mut rows: Vec<Ended> = matching.map(|row| Ended::clone(row)).collect();
        page.total += rows.len() as u32;
        rows.append(&mut page.rows);
        rows.truncate(limit as usize);
        Page { rows, ..page }
    }
}

impl Keeper {
    /// See [`Unwritten`].
    pub(crate) fn unwritten(&self) -> Unwritten {
        let mut known = HashSet::new();
        let all = self.failed.iter().rev().chain(self.failed_in_flight.iter().rev());
        let failed = all.filter(|row| known.insert(row.id) && self.failures.has(row.id));
        let failed = failed.map(Arc::clone).collect();
        known.extend(&self.closing);
        Unwritten { failed, known }
    }
}
