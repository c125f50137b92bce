//! Who is at the other end of a socket.

use std::io;
use std::mem::size_of_val;
use std::os::fd::{AsRawFd as _, BorrowedFd};

/// Groups that most have room for; a process has at most 65,536.
const GROUPS_USUAL: usize = 64;

/// The supplementary groups that the peer of a Unix socket had when it connected (`SO_PEERGROUPS` of socket(7), Linux
/// 4.13).
///
/// # Errors
/// Those of getsockopt(2).
pub fn groups(socket: BorrowedFd<'_>) -> io::Result<Vec<u32>> {
    let mut groups = vec![0_u32; GROUPS_USUAL];
    loop {
        // As many as a process can have fit by far.
        let mut bytes =
            libc::socklen_t::try_from(size_of_val(groups.as_slice())).unwrap_or(libc::socklen_t::MAX);
        #[expect(unsafe_code, reason = "neither rustix nor nix has this option")]
        // SAFETY: the kernel writes at most `bytes` bytes to the buffer, which has that many, and a socklen_t to
        // `bytes`; gid_t is u32 on Linux.
        let outcome = unsafe {
            libc::getsockopt(
                socket.as_raw_fd(),
                libc::SOL_SOCKET,
                libc::SO_PEERGROUPS,
                groups.as_mut_ptr().cast(),
                &raw mut bytes,
            )
        };
        let count = bytes as usize / size_of::<u32>();
        if outcome == 0 {
            groups.truncate(count);
            return Ok(groups);
        }
        let error = io::Error::last_os_error();
        // It says how many there are.
        if error.raw_os_error() != Some(libc::ERANGE) || count <= groups.len() {
            return Err(error);
        }
        groups.resize(count, 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::fd::AsFd as _;
    use std::os::unix::net::UnixStream;

    #[test]
    fn the_groups_are_those_that_proc_shows() {
        let (socket, _other) = UnixStream::pair().unwrap();
        let status = fs::read_to_string("/proc/self/status").unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("Groups:")).unwrap();
        let shown: Vec<u32> = line.split_whitespace().map(|group| group.parse().unwrap()).collect();
        assert_eq!(groups(socket.as_fd()).unwrap(), shown);
    }

    #[test]
    fn what_is_no_socket_is_an_error() {
        assert!(groups(fs::File::open("/dev/null").unwrap().as_fd()).is_err());
    }
}
