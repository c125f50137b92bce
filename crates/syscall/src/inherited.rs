//! What a program gets from whoever started it and cannot have asked for: open descriptors.

use std::io;

/// Keeps all descriptors but 0, 1 and 2 from the programs that this one starts.
///
/// # Errors
/// As close_range(2): `EINVAL` or `ENOSYS` before Linux 5.11.
pub fn close_on_exec() -> io::Result<()> {
    #[expect(unsafe_code, reason = "rustix and std have no call for descriptors that nobody here owns")]
    // SAFETY: with this flag the call closes nothing now; it sets FD_CLOEXEC, which touches no memory, and an owner of
    // a descriptor who wants to pass it on clears the flag at that time.
    let result = unsafe { libc::syscall(libc::SYS_close_range, 3_u32, u32::MAX, libc::CLOSE_RANGE_CLOEXEC) };
    if result == -1 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Keeps one descriptor from the programs that this one starts or becomes.
///
/// # Errors
/// `EBADF` if it is not open.
pub fn close_one_on_exec(number: i32) -> io::Result<()> {
    #[expect(unsafe_code, reason = "rustix and std have no call for descriptors that nobody here owns")]
    // SAFETY: the flag touches no memory, and an owner of the descriptor who wants to pass it on clears it at that
    // time.
    let result = unsafe { libc::fcntl(number, libc::F_SETFD, libc::FD_CLOEXEC) };
    if result == -1 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsRawFd as _;
    use std::process::Command;

    use super::*;

    #[test]
    fn programs_get_no_descriptor() {
        let (reader, _writer) = io::pipe().unwrap();
        let number = inheritable(&reader);
        close_on_exec().unwrap();
        let open = Command::new("test").arg("-e").arg(format!("/proc/self/fd/{number}")).status().unwrap();
        assert!(!open.success(), "descriptor {number} was passed on");
    }

    #[test]
    fn programs_do_not_get_one_descriptor_that_is_kept_from_them() {
        let (reader, writer) = io::pipe().unwrap();
        let number = inheritable(&reader);
        close_one_on_exec(number).unwrap();
        let open = Command::new("test").arg("-e").arg(format!("/proc/self/fd/{number}")).status().unwrap();
        assert!(!open.success(), "descriptor {number} was passed on");
        drop((reader, writer));
        assert!(close_one_on_exec(i32::MAX).is_err());
    }

    fn inheritable(file: &io::PipeReader) -> i32 {
        let number = file.as_raw_fd();
        #[expect(unsafe_code, reason = "a test makes what a parent leaves behind")]
        // SAFETY: the descriptor is open; the command touches no memory.
        let result = unsafe { libc::fcntl(number, libc::F_SETFD, 0) };
        assert_eq!(result, 0);
        number
    }
}
