//! A connection that is made with the first use, and after a failure again with the first use a second later.

use std::time::{Duration, Instant};

/// Pause between two attempts to connect.
const RETRY: Duration = Duration::from_secs(1);

/// See the module's head. `T` is the connected socket.
#[derive(Debug)]
pub(super) struct Reconnect<T> {
    made: Option<T>,
    retry_at: Option<Instant>,
}

impl<T> Default for Reconnect<T> {
    fn default() -> Self {
        Reconnect { made: None, retry_at: None }
    }
}

impl<T> Reconnect<T> {
    /// The connection, or `None` while there cannot be one. Calls `make` where a connection is to be made.
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

    /// The connection, if there is one now.
    pub(super) fn made(&self) -> Option<&T> {
        self.made.as_ref()
    }

    /// Closes the connection; the next [`Reconnect::get`] makes another one.
    pub(super) fn cut(&mut self) {
        self.made = None;
    }

    #[cfg(test)]
    pub(super) fn retry_now(&mut self) {
        self.retry_at = None;
    }
}
