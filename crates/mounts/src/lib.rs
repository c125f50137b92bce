//! Which filesystem a path leads to, found without a call that could hang.
//!
//! # Theory of operation
//!
//! A call on a path waits for the filesystem that answers it. A disk of this machine answers; a server of NFS, SMB or
//! FUSE may never do so. Whether a path leads over such a server must therefore be known *before* anything is asked
//! about the path. The kernel's table of mounts (`/proc/self/mountinfo`, proc(5)) says so, and reading it touches no
//! filesystem but proc.
//!
//! [`Mounts::way`] resolves a path in that table, one component after the other, as the kernel would: a mount is
//! entered where it covers a directory of the mount that we are on (so a mount that another one hides is not found, and
//! of several on one point the last wins), a symbolic link is read and followed. All of that happens only while the way
//! is on filesystems that are known to be local. The way ends at the first one that is not, even if the path leads back
//! to a local filesystem behind it: whoever walks there asks the server.
//!
//! Invariant: no call of this crate goes to a filesystem that is not known to be local. What is mounted between the
//! reading of the table and the reading of a link is the exception: a window of microseconds.
//!
//! Owns the table and the list of types of filesystems. Keeps nothing open, and caches nothing: a table is as old as
//! its reading. proc(5) says how to learn of changes: poll the file for POLLPRI.

mod kinds;
mod table;
mod way;

pub use table::{Mount, Mounts};
pub use way::Way;
