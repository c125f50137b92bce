//! Where the socket is: made for those who may use it, a dead daemon's replaced, a living one's left alone.

use std::fs::{DirBuilder, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, FileTypeExt as _, PermissionsExt as _};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};

use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, bind, listen, socket_with};

/// Connections that the kernel keeps before they are accepted.
const BACKLOG: i32 = 128;

/// A place for a socket, and who may connect there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// Path of the socket.
    pub path: PathBuf,
    /// The group that may connect beside root and the daemon's user.
    pub group: Option<u32>,
}

/// Why there is no socket.
#[derive(Debug, thiserror::Error)]
pub enum PlaceError {
    /// Another daemon listens there.
    #[error("the control socket '{}' is in use by another daemon", .0.display())]
    Taken(PathBuf),
    /// Something else has its name.
    #[error("'{}' is there and is no socket; remove it, or name another place for the control socket", .0.display())]
    NoSocket(PathBuf),
    /// The system refused.
    #[error("cannot listen on the control socket '{}': {}", path.display(), plain(source))]
    Refused {
        /// Where.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

fn plain(error: &io::Error) -> String {
    let text = error.to_string();
    text.rsplit_once(" (os error").map_or(text.clone(), |(plain, _)| plain.to_owned())
}

impl Place {
    /// Listens there. A directory that is missing is made, for its owner and, with a group, for passing through.
    ///
    /// # Errors
    /// [`PlaceError`] says what is in the way.
    pub(crate) fn listen(&self) -> Result<UnixListener, PlaceError> {
        let refused = |source| PlaceError::Refused { path: self.path.clone(), source };
        if let Some(directory) = self.path.parent() {
            let mode = if self.group.is_some() { 0o755 } else { 0o700 };
            DirBuilder::new().recursive(true).mode(mode).create(directory).map_err(refused)?;
        }
        self.clear()?;
        self.bind().map_err(|source| match source.kind() {
            io::ErrorKind::AddrInUse => PlaceError::Taken(self.path.clone()),
            _ => refused(source),
        })
    }

    /// Removes the socket of a daemon that is dead.
    fn clear(&self) -> Result<(), PlaceError> {
        let refused = |source| PlaceError::Refused { path: self.path.clone(), source };
        let found = match std::fs::symlink_metadata(&self.path) {
            Ok(found) => found,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(refused(error)),
        };
        if !found.file_type().is_socket() {
            return Err(PlaceError::NoSocket(self.path.clone()));
        }
        match UnixStream::connect(&self.path) {
            Ok(_) => Err(PlaceError::Taken(self.path.clone())),
            Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
                std::fs::remove_file(&self.path).map_err(refused)
            }
            Err(error) => Err(refused(error)),
        }
    }

    /// The mode is on the socket before it has a name (unix_bind in the kernel takes it from the descriptor's inode),
    /// so that nobody connects in between.
    fn bind(&self) -> io::Result<UnixListener> {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let socket = socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
        rustix::fs::fchmod(&socket, rustix::fs::Mode::from_raw_mode(0o600))?;
        bind(&socket, &SocketAddrUnix::new(&self.path)?)?;
        if let Some(group) = self.group {
            std::os::unix::fs::chown(&self.path, None, Some(group))?;
            std::fs::set_permissions(&self.path, Permissions::from_mode(0o660))?;
        }
        listen(&socket, BACKLOG)?;
        Ok(UnixListener::from(socket))
    }
}

/// Removes the socket at the end of the daemon, unless another daemon has put its own there.
pub(crate) fn remove(path: &Path) {
    if UnixStream::connect(path).is_err() {
        let _ = std::fs::remove_file(path);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(path: PathBuf) -> Place {
        Place { path, group: None }
    }

    #[test]
    fn a_socket_is_for_its_owner_and_its_directory_is_made() {
        let base = tempfile::tempdir().unwrap();
        let place = place(base.path().join("run/control.sock"));
        let _listener = place.listen().unwrap();
        assert_eq!(place.path.metadata().unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(place.path.parent().unwrap().metadata().unwrap().permissions().mode() & 0o777, 0o700);
    }

    #[test]
    fn a_dead_daemons_socket_is_replaced_and_a_living_ones_is_not() {
        let base = tempfile::tempdir().unwrap();
        let place = place(base.path().join("control.sock"));
        let living = place.listen().unwrap();
        assert!(matches!(place.listen(), Err(PlaceError::Taken(_))));
        drop(living);
        place.listen().unwrap();
    }

    #[test]
    fn a_file_in_its_place_is_left_alone() {
        let base = tempfile::tempdir().unwrap();
        let place = place(base.path().join("file"));
        std::fs::write(&place.path, "mine").unwrap();
        assert!(matches!(place.listen(), Err(PlaceError::NoSocket(_))));
        assert_eq!(std::fs::read(&place.path).unwrap(), b"mine");
    }

    #[test]
    fn a_group_may_connect_and_pass_through() {
        if !rustix::process::geteuid().is_root() {
            eprintln!("skipped: needs root");
            return;
        }
        let base = tempfile::tempdir().unwrap();
        let place = Place { path: base.path().join("run/control.sock"), group: Some(12_345) };
        let _listener = place.listen().unwrap();
        let found = place.path.metadata().unwrap();
        assert_eq!(found.permissions().mode() & 0o777, 0o660);
        assert_eq!(std::os::unix::fs::MetadataExt::gid(&found), 12_345);
    }
}
