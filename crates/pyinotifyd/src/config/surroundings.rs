//! What a config file changed in its own process and means for the daemon's: environment, working directory, umask.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt as _;

use rustix::fs::Mode;

use crate::host::wire::PathText;

/// See the module's head.
#[derive(Clone, Debug, Default)]
pub(crate) struct Surroundings {
    /// Variables for commands; `None` removes one.
    pub environment: Vec<(OsString, Option<OsString>)>,
    cwd: Option<Vec<u8>>,
    umask: Option<u32>,
}

impl Surroundings {
    /// As the host describes them.
    pub(super) fn new(
        environ: BTreeMap<PathText, Option<PathText>>,
        cwd: Option<PathText>,
        umask: Option<u32>,
    ) -> Self {
        let text = |text: PathText| OsString::from_vec(text.0);
        let environment = environ.into_iter().map(|(name, value)| (text(name), value.map(text))).collect();
        Surroundings { environment, cwd: cwd.map(|path| path.0), umask }
    }

    /// Takes working directory and umask over, as if the file had been executed in this process.
    pub(crate) fn apply(&self) {
        if let Some(cwd) = &self.cwd {
            // Removed meanwhile: relative paths fail, and say so, wherever one is used.
            let _ = rustix::process::chdir(cwd.as_slice());
        }
        if let Some(umask) = self.umask {
            rustix::process::umask(Mode::from_raw_mode(umask));
        }
    }
}
