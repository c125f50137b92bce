//! A configuration with what the loop needs of it besides, worked out before: with thousands of watches that takes
//! longer than the loop may.

use std::fmt;

use crate::config::{Config, absolute_path, feeding_warnings, missing_syslog};

/// See the module's head.
pub(super) struct Prepared {
    pub(super) config: Config,
    /// What is probably not meant, and is said at each start.
    pub(super) unwise: Vec<String>,
    /// The paths of its watches, absolute, with wildcards.
    pub(super) roots: Vec<Vec<u8>>,
}

impl Prepared {
    /// Looks at all watches and rules.
    pub(super) fn new(config: Config) -> Prepared {
        let mut unwise = feeding_warnings(&config);
        unwise.extend(missing_syslog(&config));
        let paths = config.watches.iter().flat_map(|watch| &watch.paths);
        let roots = paths.map(|path| absolute_path(path)).collect();
        Prepared { config, unwise, roots }
    }
}

impl fmt::Debug for Prepared {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("Prepared").field("roots", &self.roots.len()).finish_non_exhaustive()
    }
}
