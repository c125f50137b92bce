//! Where the socket is: made for those who may use it, a dead daemon's replaced, a living one's left alone.

use std::fs::{DirBuilder, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, FileTypeExt as _, MetadataExt as _, PermissionsExt as _};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};

use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, bind, listen, socket_with};

/// Connections that the kernel keeps before they are accepted.
const BACKLOG: i32 = 128;

/// Modes of a directory that we make: for ourselves, and with a group that has to pass through.
const OWN_MODE: u32 = 0o700;
const PASSABLE_MODE: u32 = 0o755;

/// Modes of directories, inode(7). In a sticky one nobody removes what is not his.
const WRITABLE_BY_ALL: u32 = 0o002;
const STICKY: u32 = 0o1000;
const PASSABLE_BY_GROUP: u32 = 0o010;
const PASSABLE_BY_OTHERS: u32 = 0o001;
const MODE_BITS: u32 = 0o7777;

/// A place for a socket, and who may connect there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// Path of the socket.
    pub path: PathBuf,
    /// The group that may connect beside root and the daemon's user.
    pub group: Option<u32>,
    /// Whether its directory is there for it alone: it may be opened for a group if an earlier start made it without
    /// one. It is not closed again, since without a group the mode of the socket keeps everybody out.
    pub owns_directory: bool,
}

/// A directory that the members of the group cannot pass through on their way to the socket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Barrier {
    /// Its path.
    pub directory: PathBuf,
    /// Its mode.
    pub mode: u32,
    /// The mode that lets them through.
    pub needed: u32,
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
    /// Something else has the name of a directory above it.
    #[error(
        "'{}' is there and is no directory; remove it, or name another place for the control socket", .0.display()
    )]
    NoDirectory(PathBuf),
    /// Whoever can write in its directory could put another socket in its place.
    #[error("cannot listen on the control socket '{}': everybody can write in its directory", .0.display())]
    OpenDirectory(PathBuf),
    /// The system refused.
    #[error("cannot listen on the control socket '{}': {}", path.display(), plain(source))]
    Refused {
        /// Where.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

/// What strerror(3) says, without the number that Rust puts behind it.
pub(crate) fn plain(error: &io::Error) -> String {
    let text = error.to_string();
    text.rsplit_once(" (os error").map_or(text.clone(), |(plain, _)| plain.to_owned())
}

impl Place {
    /// Listens there. A directory that is missing is made, for its owner and, with a group, for passing through.
    ///
    /// # Errors
    /// [`PlaceError`] says what is in the way.
    pub(crate) fn listen(&self) -> Result<(UnixListener, Bound), PlaceError> {
        let refused = |source| PlaceError::Refused { path: self.path.clone(), source };
        if let Some(directory) = self.path.parent() {
            let mode = if self.group.is_some() { PASSABLE_MODE } else { OWN_MODE };
            let is_new = !directory.exists();
            let created = DirBuilder::new().recursive(true).mode(mode).create(directory);
            created.map_err(|error| no_directory(directory).unwrap_or_else(|| refused(error)))?;
            if is_new {
                // Whatever the umask says.
                std::fs::set_permissions(directory, Permissions::from_mode(mode)).map_err(refused)?;
            } else if self.group.is_some() && self.owns_directory && is_as_we_made_it(directory) {
                std::fs::set_permissions(directory, Permissions::from_mode(mode)).map_err(refused)?;
            }
            let found = directory.metadata().map_err(refused)?.permissions().mode();
            if found & WRITABLE_BY_ALL != 0 && found & STICKY == 0 {
                return Err(PlaceError::OpenDirectory(self.path.clone()));
            }
        }
        self.clear()?;
        let listener = self.bind().map_err(|source| match source.kind() {
            io::ErrorKind::AddrInUse => PlaceError::Taken(self.path.clone()),
            _ => refused(source),
        })?;
        let found = std::fs::symlink_metadata(&self.path).map_err(refused)?;
        Ok((listener, Bound { path: self.path.clone(), inode: (found.dev(), found.ino()) }))
    }

    /// Listens in the same directory under a name that nobody knows, until the socket takes the place of ours that is
    /// there ([`Bound::take_place`]).
    ///
    /// # Errors
    /// As [`Place::listen`].
    pub(crate) fn listen_beside(&self) -> Result<(UnixListener, Bound), PlaceError> {
        let path = self.path.with_file_name(format!(".{}", std::process::id()));
        Place { path, ..self.clone() }.listen()
    }

    /// What keeps the members of the group from the socket: the outermost directory that they cannot pass through.
    pub fn barrier(&self) -> Option<Barrier> {
        let group = self.group?;
        let directory = self.path.parent()?.canonicalize().ok()?;
        let mut outermost = None;
        for path in directory.ancestors() {
            let found = path.metadata().ok()?;
            let mode = found.permissions().mode() & MODE_BITS;
            let passes = if found.gid() == group { PASSABLE_BY_GROUP } else { PASSABLE_BY_OTHERS };
            if mode & passes == 0 && !has_acl(path) {
                // Where others may pass, the directory's own group may, too.
                let needed = mode | PASSABLE_BY_GROUP | passes;
                outermost = Some(Barrier { directory: path.to_owned(), mode, needed });
            }
        }
        outermost
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

/// Whether a directory is ours and closed to all others, as one is that an earlier start made.
fn is_as_we_made_it(directory: &Path) -> bool {
    let is_ours = |found: std::fs::Metadata| {
        let own_user = rustix::process::geteuid().as_raw();
        found.is_dir() && found.uid() == own_user && found.mode() & MODE_BITS == OWN_MODE
    };
    directory.symlink_metadata().is_ok_and(is_ours)
}

/// Whether more than its mode says who may do what with a directory (acl(5)).
fn has_acl(directory: &Path) -> bool {
    let list = rustix::fs::getxattr(directory, "system.posix_acl_access", &mut [0_u8; 1]);
    !matches!(list, Err(Errno::NODATA | Errno::NOTSUP))
}

/// What stands in the place of a directory, or of one above it.
fn no_directory(directory: &Path) -> Option<PlaceError> {
    let found = directory.ancestors().find(|path| path.symlink_metadata().is_ok())?;
    (!found.is_dir()).then(|| PlaceError::NoDirectory(found.to_owned()))
}

/// A socket that has its name.
#[derive(Debug)]
pub(crate) struct Bound {
    path: PathBuf,
    inode: (u64, u64),
}

impl Bound {
    /// Whether its path still leads to it.
    pub(crate) fn has_name(&self) -> bool {
        let found = std::fs::symlink_metadata(&self.path);
        found.is_ok_and(|found| (found.dev(), found.ino()) == self.inode)
    }

    /// Gives the socket the name of another one of ours, which nobody finds from then on.
    pub(crate) fn take_place(&mut self, path: &Path) -> io::Result<()> {
        std::fs::rename(&self.path, path)?;
        path.clone_into(&mut self.path);
        Ok(())
    }

    /// Removes the socket at the end of the daemon, unless another one has taken its place.
    pub(crate) fn remove(&self) {
        if self.has_name() {
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(path: PathBuf) -> Place {
        Place { path, group: None, owns_directory: false }
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
    fn a_socket_takes_the_place_of_one_of_ours_or_goes_without_a_trace() {
        let base = tempfile::tempdir().unwrap();
        let place = place(base.path().join("control.sock"));
        let (_old, bound) = place.listen().unwrap();
        let (_unused, other) = place.listen_beside().unwrap();
        other.remove();
        assert_eq!(std::fs::read_dir(base.path()).unwrap().count(), 1);
        let (new, mut taking) = place.listen_beside().unwrap();
        taking.take_place(&place.path).unwrap();
        assert!(!bound.has_name() && taking.has_name());
        bound.remove();
        let _client = UnixStream::connect(&place.path).unwrap();
        new.accept().unwrap();
        taking.remove();
        assert_eq!(std::fs::read_dir(base.path()).unwrap().count(), 0);
    }

    #[test]
    fn a_directory_where_everybody_can_write_is_refused_unless_it_is_sticky() {
        let base = tempfile::tempdir().unwrap();
        let place = place(base.path().join("control.sock"));
        let set = |mode| std::fs::set_permissions(base.path(), Permissions::from_mode(mode)).unwrap();
        set(0o777);
        assert!(matches!(place.listen(), Err(PlaceError::OpenDirectory(_))));
        set(0o1777);
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
    fn a_file_in_place_of_a_directory_is_named() {
        let base = tempfile::tempdir().unwrap();
        let file = base.path().join("run");
        std::fs::write(&file, "mine").unwrap();
        for path in ["run/control.sock", "run/deeper/control.sock"] {
            let error = place(base.path().join(path)).listen().unwrap_err();
            assert!(matches!(&error, PlaceError::NoDirectory(found) if *found == file), "{error}");
        }
    }

    #[test]
    fn a_group_may_connect_and_pass_through() {
        if !rustix::process::geteuid().is_root() {
            eprintln!("skipped: needs root");
            return;
        }
        let base = tempfile::tempdir().unwrap();
        let path = base.path().join("run/control.sock");
        let place = Place { path, group: Some(12_345), owns_directory: false };
        let _listener = place.listen().unwrap();
        let found = place.path.metadata().unwrap();
        assert_eq!(found.permissions().mode() & 0o777, 0o660);
        assert_eq!(std::os::unix::fs::MetadataExt::gid(&found), 12_345);
    }

    #[test]
    fn a_directory_that_we_made_is_opened_for_a_group_and_another_one_is_named() {
        if !rustix::process::geteuid().is_root() {
            eprintln!("skipped: needs root");
            return;
        }
        let base = tempfile::tempdir().unwrap();
        let set = |path: &Path, mode| std::fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
        set(base.path(), 0o755);
        let directory = base.path().canonicalize().unwrap().join("run");
        let mode = || directory.metadata().unwrap().permissions().mode() & MODE_BITS;
        let place = |group, owns_directory| Place { path: directory.join("s"), group, owns_directory };
        let (alone, open) = (place(None, true), place(Some(12_345), true));
        alone.listen().unwrap();
        assert_eq!((mode(), alone.barrier()), (0o700, None));
        let barrier = |mode, needed| Some(Barrier { directory: directory.clone(), mode, needed });
        // Of a directory that others use, too, its owner decides.
        let not_ours = place(Some(12_345), false);
        not_ours.listen().unwrap();
        assert_eq!((mode(), not_ours.barrier()), (0o700, barrier(0o700, 0o711)));
        open.listen().unwrap();
        assert_eq!((mode(), open.barrier()), (0o755, None));
        alone.listen().unwrap();
        assert_eq!(mode(), 0o755, "nobody but us may connect, whoever passes");
        set(&directory, 0o750);
        open.listen().unwrap();
        assert_eq!((mode(), open.barrier()), (0o750, barrier(0o750, 0o751)), "somebody wants it so");
        std::os::unix::fs::chown(&directory, None, Some(12_345)).unwrap();
        assert_eq!(open.barrier(), None);
        set(&directory, 0o700);
        assert_eq!(open.barrier(), barrier(0o700, 0o710));
        std::os::unix::fs::chown(&directory, Some(12_345), None).unwrap();
        open.listen().unwrap();
        assert_eq!(mode(), 0o700, "it is another user's");
        set(base.path(), 0o700);
        let outer = base.path().canonicalize().unwrap();
        assert_eq!(open.barrier().map(|barrier| barrier.directory), Some(outer));
    }
}
