//! The state directory: who may write there, and that one daemon has it.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, Read as _, Seek as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, OFlags, flock};
use rustix::io::Errno;

/// Name of the file whose lock says that a daemon has the directory; it holds the daemon's pid.
const LOCK: &str = "state.lock";

/// Bytes of the lock file that are read: a pid and a newline.
const PID_LEN_MAX: u64 = 32;

/// A state directory that no other daemon has, for as long as this lives.
#[derive(Debug)]
pub(crate) struct Directory {
    /// Its lock goes with it, also when the process is killed.
    _lock: File,
}

/// Why a state directory cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ClaimError {
    /// It cannot be made, looked at or written.
    #[error("cannot use the state directory '{}': {}", path.display(), plain(source))]
    Unusable {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Something else has its name.
    #[error("the state directory '{}' is not a directory", .0.display())]
    NoDirectory(PathBuf),
    /// It is somebody else's.
    #[error(
        "the state directory '{}' belongs to user {owner}, not to user {user}; chown it, or name another one",
        path.display()
    )]
    Foreign {
        /// Which.
        path: PathBuf,
        /// Its owner.
        owner: u32,
        /// Who we are.
        user: u32,
    },
    /// Others could put tasks there that root would run.
    #[error("the state directory '{0}' can be written by others; mend it: chmod go-w '{0}'", path.display())]
    Writable {
        /// Which.
        path: PathBuf,
    },
    /// Another daemon has it.
    #[error("the state directory '{}' is in use by another pyinotifyd{}", path.display(), Owner(*pid))]
    Taken {
        /// Which.
        path: PathBuf,
        /// The other one, if its lock file says it.
        pid: Option<u32>,
    },
}

impl ClaimError {
    /// Whether it is the disk's fault, which may pass.
    pub(crate) fn may_pass(&self) -> bool {
        match self {
            ClaimError::Unusable { source, .. } => {
                let errno = source.raw_os_error().map(Errno::from_raw_os_error);
                matches!(errno, Some(Errno::NOSPC | Errno::DQUOT | Errno::ROFS | Errno::IO))
            }
            ClaimError::NoDirectory(_)
            | ClaimError::Foreign { .. }
            | ClaimError::Writable { .. }
            | ClaimError::Taken { .. } => false,
        }
    }
}

struct Owner(Option<u32>);

impl std::fmt::Display for Owner {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.map_or(Ok(()), |pid| write!(out, " (pid {pid})"))
    }
}

/// An error's text without Rust's `(os error N)`.
pub(crate) fn plain(error: &io::Error) -> String {
    let text = error.to_string();
    text.rsplit_once(" (os error").map_or(text.clone(), |(plain, _)| plain.to_owned())
}

impl Directory {
    /// Makes the directory if it is missing (mode 0700), checks it, and takes it.
    ///
    /// # Errors
    /// [`ClaimError`] says what is wrong and what to do.
    pub(crate) fn claim(path: &Path) -> Result<Directory, ClaimError> {
        let unusable = |source| ClaimError::Unusable { path: path.to_owned(), source };
        match DirBuilder::new().recursive(true).mode(0o700).create(path) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(unusable(error)),
        }
        let found = std::fs::metadata(path).map_err(unusable)?;
        if !found.is_dir() {
            return Err(ClaimError::NoDirectory(path.to_owned()));
        }
        let user = rustix::process::geteuid().as_raw();
        if found.uid() != user {
            return Err(ClaimError::Foreign { path: path.to_owned(), owner: found.uid(), user });
        }
        if user == 0 && found.mode() & 0o022 != 0 {
            return Err(ClaimError::Writable { path: path.to_owned() });
        }
        Ok(Directory { _lock: lock(path)? })
    }
}

fn lock(directory: &Path) -> Result<File, ClaimError> {
    let unusable = |source| ClaimError::Unusable { path: directory.to_owned(), source };
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).truncate(false).mode(0o600);
    // A link of this name could lead to a file of others, or of ours.
    options.custom_flags(OFlags::NOFOLLOW.bits() as i32);
    let mut file = options.open(directory.join(LOCK)).map_err(unusable)?;
    match flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => {}
        Err(Errno::WOULDBLOCK) => {
            let mut text = String::new();
            // A daemon that has just started has not written its pid yet.
            let _ = (&file).take(PID_LEN_MAX).read_to_string(&mut text);
            return Err(ClaimError::Taken { path: directory.to_owned(), pid: text.trim().parse().ok() });
        }
        Err(error) => return Err(unusable(error.into())),
    }
    let pid = std::process::id();
    let written = file.set_len(0).and_then(|()| file.rewind()).and_then(|()| writeln!(file, "{pid}"));
    match written {
        // The pid is a courtesy: a full disk does not keep the daemon from its work.
        Ok(()) | Err(_) => Ok(file),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;

    #[test]
    fn a_missing_directory_is_made_for_us_alone() {
        let base = tempfile::tempdir().unwrap();
        let path = base.path().join("a/b");
        let _claimed = Directory::claim(&path).unwrap();
        assert_eq!(path.metadata().unwrap().mode() & 0o7777, 0o700);
    }

    #[test]
    fn a_second_daemon_is_refused_with_the_pid_of_the_first() {
        let base = tempfile::tempdir().unwrap();
        let first = Directory::claim(base.path()).unwrap();
        let error = Directory::claim(base.path()).unwrap_err().to_string();
        assert!(error.ends_with(&format!("another pyinotifyd (pid {})", std::process::id())), "{error}");
        drop(first);
        Directory::claim(base.path()).unwrap();
    }

    #[test]
    fn what_is_no_directory_or_can_be_written_by_others_is_refused() {
        let base = tempfile::tempdir().unwrap();
        let file = base.path().join("file");
        std::fs::write(&file, "").unwrap();
        assert!(matches!(Directory::claim(&file), Err(ClaimError::NoDirectory(_))));
        assert!(matches!(Directory::claim(&file.join("below")), Err(ClaimError::Unusable { .. })));
        let open = base.path().join("open");
        std::fs::create_dir(&open).unwrap();
        for mode in [0o770, 0o707, 0o702] {
            std::fs::set_permissions(&open, std::fs::Permissions::from_mode(mode)).unwrap();
            let claimed = Directory::claim(&open);
            if rustix::process::geteuid().is_root() {
                let refused = mode & 0o022 != 0;
                assert_eq!(matches!(claimed, Err(ClaimError::Writable { .. })), refused, "{mode:o}");
            } else {
                assert!(claimed.is_ok());
            }
        }
    }

    #[test]
    fn errors_do_not_show_numbers_of_the_system() {
        let error = Directory::claim(Path::new("/proc/nothing/here")).unwrap_err().to_string();
        assert!(error.starts_with("cannot use the state directory '/proc/nothing/here': "), "{error}");
        assert!(!error.contains("os error"), "{error}");
    }
}
