//! Which signals a thread takes.

use std::io;
use std::mem::MaybeUninit;
use std::ptr;

/// Lets all signals through to this thread, and to those that it starts.
///
/// A blocked signal stays blocked across execve(2) (signal(7)): started by a careless parent, a program would hear
/// neither SIGTERM nor the end of its children.
///
/// # Errors
/// As pthread_sigmask(3), which has none for these arguments.
pub fn unblock() -> io::Result<()> {
    let mut mask = MaybeUninit::<libc::sigset_t>::uninit();
    #[expect(unsafe_code, reason = "rustix and std have no call that changes the mask of a running thread")]
    // SAFETY: sigemptyset(3) initialises the whole set behind the valid pointer; pthread_sigmask(3) reads it and, with
    // a null pointer for the old mask, writes nothing.
    let error = unsafe {
        libc::sigemptyset(mask.as_mut_ptr());
        libc::pthread_sigmask(libc::SIG_SETMASK, mask.as_ptr(), ptr::null_mut())
    };
    if error == 0 { Ok(()) } else { Err(io::Error::from_raw_os_error(error)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The signals that this thread blocks.
    fn blocked() -> u64 {
        let status = std::fs::read_to_string("/proc/thread-self/status").unwrap();
        let mask = status.lines().find_map(|line| line.strip_prefix("SigBlk:\t")).unwrap();
        u64::from_str_radix(mask, 16).unwrap()
    }

    #[test]
    fn a_thread_takes_all_signals() {
        std::thread::spawn(|| {
            let mut all = MaybeUninit::<libc::sigset_t>::uninit();
            #[expect(unsafe_code, reason = "as above")]
            // SAFETY: sigfillset(3) initialises the set that pthread_sigmask(3) reads.
            let error = unsafe {
                libc::sigfillset(all.as_mut_ptr());
                libc::pthread_sigmask(libc::SIG_SETMASK, all.as_ptr(), ptr::null_mut())
            };
            assert_eq!(error, 0);
            assert_ne!(blocked(), 0);
            unblock().unwrap();
            assert_eq!(blocked(), 0);
        })
        .join()
        .unwrap();
    }
}
