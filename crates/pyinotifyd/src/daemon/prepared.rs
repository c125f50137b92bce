//! A configuration with what the loop needs of it besides, worked out before: with thousands of watches and rules that
//! takes longer than the loop may.

use std::fmt;
use std::time::Duration;

use crate::config::{Config, Owner, absolute_path, feeding_warnings, missing_syslog};

/// See the module's head.
pub(super) struct Prepared {
    pub(super) config: Config,
    /// What is probably not meant, and is said at each start.
    pub(super) unwise: Vec<String>,
    /// The paths of its watches, absolute, with wildcards.
    pub(super) roots: Vec<Vec<u8>>,
    /// What its rules name: directories to which results go, trashes to be emptied, users and groups.
    pub(super) destinations: Vec<Vec<u8>>,
    pub(super) trashes: Vec<(Vec<u8>, Duration)>,
    pub(super) owners: Vec<Owner>,
}

impl Prepared {
    /// Looks at all watches and rules.
    pub(super) fn new(config: Config) -> Prepared {
        let mut unwise = feeding_warnings(&config);
        unwise.extend(missing_syslog(&config));
        let paths = config.watches.iter().flat_map(|watch| &watch.paths);
        let roots = paths.map(|path| absolute_path(path)).collect();
        let (destinations, trashes, owners) = (config.destinations(), config.trashes(), config.owners());
        Prepared { config, unwise, roots, destinations, trashes, owners }
    }
}

impl fmt::Debug for Prepared {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("Prepared").field("roots", &self.roots.len()).finish_non_exhaustive()
    }
}
