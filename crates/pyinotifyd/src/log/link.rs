//! A way to whoever takes records, made when it is first needed, and tried anew a while after that failed.

use std::time::{Duration, Instant};

/// Pause between two attempts to reach somebody who is away.
const RETRY: Duration = Duration::from_secs(1);

/// See the module's head.
#[derive(Debug)]
pub(super) struct Link<T> {
    made: Option<T>,
    retry_at: Option<Instant>,
}

impl<T> Default for Link<T> {
    fn default() -> Self {
        Link { made: None, retry_at: None }
    }
}

impl<T> Link<T> {
    /// What was made, or is made now; `None` while that fails.
    pub(super) fn get(&mut self, make: impl FnOnce() -> Option<T>) -> Option<&T> {
        if self.made.is_none() {
            let now = Instant::now();
            if self.retry_at.is_some_and(|at| now < at) {
                return None;
            }
            self.made = make();
            self.retry_at = self.made.is_none().then(|| now + RETRY);
        }
        self.made.as_ref()
    }

    /// What was made, if anything was.
    pub(super) fn made(&self) -> Option<&T> {
        self.made.as_ref()
    }

    /// What was made is of no more use; the next call makes it anew.
    pub(super) fn cut(&mut self) {
        self.made = None;
    }

    #[cfg(test)]
    pub(super) fn retry_now(&mut self) {
        self.retry_at = None;
    }
}
