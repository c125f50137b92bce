//! Which signals a thread takes.
//!
//! A signal for a process goes to any of its threads that does not block it, the first one by preference (signal(7)), and
//! waits for that one, even where it hangs in a call that only its death interrupts. So whoever may hang must block them.

use std::io;
use std::mem::MaybeUninit;
use std::ptr;

/// What a thread brings upon itself. Blocked, the kernel would end the program without a word.
const OWN_FAULT: [libc::c_int; 7] =
    [libc::SIGSEGV, libc::SIGBUS, libc::SIGILL, libc::SIGFPE, libc::SIGTRAP, libc::SIGSYS, libc::SIGABRT];

/// Lets all signals through to this thread, and to those that it starts.
///
/// A blocked signal stays blocked across execve(2) (signal(7)): started by a careless parent, a program would hear
/// neither SIGTERM nor the end of its children.
///
/// # Errors
/// As pthread_sigmask(3), which has none for these arguments.
pub fn unblock() -> io::Result<()> {
    set_mask(|_| {})
}

/// Keeps all signals from this thread, and from those that it starts, but what is its own fault (SIGSEGV, ...).
///
/// # Errors
/// As pthread_sigmask(3), which has none for these arguments.
pub fn block() -> io::Result<()> {
    set_mask(|mask| {
        #[expect(unsafe_code, reason = "rustix and std have no sets of signals of the C library")]
        // SAFETY: both calls change the set that they are given, which is a valid one.
        unsafe {
            libc::sigfillset(mask);
            for signal in OWN_FAULT {
                libc::sigdelset(mask, signal);
            }
        }
    })
}

fn set_mask(fill: impl FnOnce(&mut libc::sigset_t)) -> io::Result<()> {
    let mut mask = MaybeUninit::<libc::sigset_t>::uninit();
    #[expect(unsafe_code, reason = "rustix and std have no call that changes the mask of a running thread")]
    // SAFETY: sigemptyset(3) initialises the whole set behind the valid pointer; pthread_sigmask(3) reads it and, with a
    // null pointer for the old mask, writes nothing.
    let error = unsafe {
        libc::sigemptyset(mask.as_mut_ptr());
        fill(mask.assume_init_mut());
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
    fn a_thread_takes_all_signals_or_none_but_its_own_faults() {
        let bit = |signal: libc::c_int| 1_u64 << (signal - 1);
        std::thread::spawn(move || {
            block().unwrap();
            let mask = blocked();
            for signal in [libc::SIGTERM, libc::SIGHUP, libc::SIGCHLD, libc::SIGINT, libc::SIGXFSZ] {
                assert_ne!(mask & bit(signal), 0, "{signal}");
            }
            assert!(OWN_FAULT.iter().all(|signal| mask & bit(*signal) == 0));
            unblock().unwrap();
            assert_eq!(blocked(), 0);
        })
        .join()
        .unwrap();
    }
}
