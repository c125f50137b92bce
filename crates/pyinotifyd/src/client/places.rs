//! Where the control socket of a daemon is, for the daemon that makes it and for the client that looks for it.

use std::os::unix::fs::FileTypeExt as _;
use std::path::{Path, PathBuf};

use crate::log::Escaped;

/// Environment variable that names the socket for clients.
pub(crate) const VARIABLE: &str = "PYINOTIFYD_CONTROL";
const NAME: &str = "control.sock";

/// The default place of a daemon that we would start: systemd's runtime directory, else that of root or of the user.
pub(crate) fn default_place() -> Option<PathBuf> {
    directory_variable("RUNTIME_DIRECTORY")
        .or_else(|| if rustix::process::geteuid().is_root() { Some(system()) } else { of_user() })
}

/// Whether a place is in a directory that is there for the socket alone: one that the daemon made, and no service
/// manager, which has its own mind about the mode.
pub(crate) fn owns_directory(path: &Path) -> bool {
    path == system() && directory_variable("RUNTIME_DIRECTORY").is_none_or(|managed| managed != path)
}

/// A place as people read it.
pub(crate) fn shown(path: &Path) -> String {
    Escaped(path.as_os_str().as_encoded_bytes()).to_string()
}

/// Places where a client looks, the first one that holds a socket counts.
fn candidates() -> Vec<PathBuf> {
    [directory_variable("RUNTIME_DIRECTORY"), Some(system()), of_user()].into_iter().flatten().collect()
}

/// The socket that a client asks: the one that was named, else the first default place that holds one.
pub(crate) fn find(named: Option<&Path>) -> Result<PathBuf, String> {
    if let Some(path) = named.map(Path::to_path_buf).or_else(variable) {
        return Ok(path);
    }
    let places = candidates();
    let found = places.iter().find(|path| path.metadata().is_ok_and(|found| found.file_type().is_socket()));
    found.cloned().ok_or_else(|| {
        let places: Vec<String> = places.iter().map(|path| path.display().to_string()).collect();
        let places = places.join(", ");
        let next = if default_place().is_some() {
            "start it, or name its socket with --control PATH"
        } else {
            "without XDG_RUNTIME_DIR yours has none by itself: give --control PATH to the daemon and to this command"
        };
        format!("no daemon has a control socket in {places}; {next}")
    })
}

/// The socket that a variable names, for all clients.
pub(crate) fn variable() -> Option<PathBuf> {
    std::env::var_os(VARIABLE).filter(|value| !value.is_empty()).map(PathBuf::from)
}

fn system() -> PathBuf {
    Path::new("/run/pyinotifyd").join(NAME)
}

fn of_user() -> Option<PathBuf> {
    directory("XDG_RUNTIME_DIR").map(|directory| directory.join("pyinotifyd").join(NAME))
}

fn directory_variable(name: &str) -> Option<PathBuf> {
    directory(name).map(|directory| directory.join(NAME))
}

/// The directory that a variable names. systemd joins several with colons: the first is ours.
fn directory(name: &str) -> Option<PathBuf> {
    let value = std::env::var_os(name)?;
    let first = std::env::split_paths(&value).next()?;
    first.is_absolute().then_some(first)
}
