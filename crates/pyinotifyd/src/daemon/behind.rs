//! What waits until the events that were queued before it have been told.

/// Things in the order in which they came, each with where [`Source::told`](watcher::Source::told) has to be before it
/// is taken.
#[derive(Debug)]
pub(crate) struct Behind<T>(Vec<(u64, T)>);

impl<T> Default for Behind<T> {
    fn default() -> Behind<T> {
        Behind(Vec::new())
    }
}

impl<T> Behind<T> {
    /// Puts one behind what is queued up to there.
    pub(crate) fn push(&mut self, queued: u64, thing: T) {
        self.0.push((queued, thing));
    }

    /// Takes those before which everything has been told.
    pub(crate) fn take(&mut self, told: u64) -> Vec<T> {
        self.0.extract_if(.., |(queued, _)| *queued <= told).map(|(_, thing)| thing).collect()
    }

    /// Whether there are some to take.
    pub(crate) fn has(&self, told: u64) -> bool {
        self.0.iter().any(|(queued, _)| *queued <= told)
    }
}
