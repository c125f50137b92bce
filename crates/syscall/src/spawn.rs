//! Starts a program by posix_spawn(3) with an environment as the caller has put it together.
//!
//! std's `Command` copies and sorts the whole environment of its own process for each start in which a variable is set,
//! and makes the C library ask for the disposition of each of 64 signals.

use std::ffi::{CStr, c_char};
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd as _, BorrowedFd};
use std::ptr;
use std::sync::atomic::{AtomicU64, Ordering};

static BEGUN: AtomicU64 = AtomicU64::new(0);
static ENDED: AtomicU64 = AtomicU64::new(0);

/// A moment. A process that is started later may hold copies of our descriptors for a while, close-on-exec or not:
/// until its execve(2) is done. A file that is closed meanwhile is closed for the kernel only then.
#[derive(Clone, Copy, Debug)]
pub struct Moment(u64);

impl Moment {
    /// This one.
    pub fn now() -> Moment {
        Moment(ENDED.load(Ordering::SeqCst))
    }

    /// Whether [`start`] was at work at any time since then.
    pub fn was_followed_by_start(self) -> bool {
        BEGUN.load(Ordering::SeqCst) != self.0
    }
}

/// Starts `program` and returns its process ID, which is also that of a process group of its own. It gets `files`, each
/// under the number beside it, what it lacks of stdin, stdout and stderr from us, our working directory and umask, and
/// no signal blocked or ignored. The numbers are taken in order: one must not be that of a file further on.
///
/// # Errors
/// As fork(2), setpgid(2), dup2(2) and execve(2).
pub fn start(
    program: &CStr,
    arguments: &[&CStr],
    environment: &[&CStr],
    files: &[(BorrowedFd<'_>, i32)],
) -> io::Result<i32> {
    let (mut attributes, mut actions) = (MaybeUninit::uninit(), MaybeUninit::uninit());
    let attributes = Attributes::new(&mut attributes)?;
    let actions = Actions::new(&mut actions, files)?;
    let (arguments, environment) = (pointers(arguments), pointers(environment));
    let mut pid = 0;
    BEGUN.fetch_add(1, Ordering::SeqCst);
    #[expect(unsafe_code, reason = "std and rustix have no call that takes an environment as it is")]
    // SAFETY: both arrays end with a null pointer, and what they and `program` point to is borrowed for the whole call;
    // attributes and actions are initialised.
    let error = unsafe {
        libc::posix_spawn(
            &raw mut pid,
            program.as_ptr(),
            actions.0,
            attributes.0,
            arguments.as_ptr(),
            environment.as_ptr(),
        )
    };
    ENDED.fetch_add(1, Ordering::SeqCst);
    ok(error).map(|()| pid)
}

/// The array that execve(2) takes. Its type says that the strings may be written to, which nobody does.
fn pointers(strings: &[&CStr]) -> Vec<*mut c_char> {
    strings.iter().map(|string| string.as_ptr().cast_mut()).chain([ptr::null_mut()]).collect()
}

/// What these functions return is an error number, or 0.
fn ok(error: i32) -> io::Result<()> {
    if error == 0 { Ok(()) } else { Err(io::Error::from_raw_os_error(error)) }
}

/// A process group of its own, no signal blocked, each at its default.
struct Attributes<'a>(&'a mut libc::posix_spawnattr_t);

impl Attributes<'_> {
    fn new(place: &mut MaybeUninit<libc::posix_spawnattr_t>) -> io::Result<Attributes<'_>> {
        // The number of the group stays 0, which stands for that of the process.
        #[expect(clippy::cast_possible_truncation, reason = "these are three of the lowest eight bits")]
        const FLAGS: libc::c_short = (libc::POSIX_SPAWN_SETPGROUP
            | libc::POSIX_SPAWN_SETSIGMASK
            | libc::POSIX_SPAWN_SETSIGDEF) as libc::c_short;
        let (mut none, mut all) = (MaybeUninit::uninit(), MaybeUninit::uninit());
        #[expect(unsafe_code, reason = "part of posix_spawn(3)")]
        // SAFETY: posix_spawnattr_init(3) initialises the place, sigemptyset(3) and sigfillset(3) initialise the sets;
        // the other calls change the first and read the sets. Neither of the latter can fail for a valid pointer.
        unsafe {
            ok(libc::posix_spawnattr_init(place.as_mut_ptr()))?;
            let attributes = Attributes(place.assume_init_mut());
            libc::sigemptyset(none.as_mut_ptr());
            libc::sigfillset(all.as_mut_ptr());
            ok(libc::posix_spawnattr_setsigmask(attributes.0, none.as_ptr()))?;
            ok(libc::posix_spawnattr_setsigdefault(attributes.0, all.as_ptr()))?;
            ok(libc::posix_spawnattr_setflags(attributes.0, FLAGS))?;
            Ok(attributes)
        }
    }
}

impl Drop for Attributes<'_> {
    fn drop(&mut self) {
        #[expect(unsafe_code, reason = "part of posix_spawn(3)")]
        // SAFETY: initialised by `new`, and not used afterwards.
        let _ = unsafe { libc::posix_spawnattr_destroy(self.0) };
    }
}

/// What the process does before it executes the program: it takes its files.
struct Actions<'a>(&'a mut libc::posix_spawn_file_actions_t);

impl Actions<'_> {
    fn new<'a>(
        place: &'a mut MaybeUninit<libc::posix_spawn_file_actions_t>,
        files: &[(BorrowedFd<'_>, i32)],
    ) -> io::Result<Actions<'a>> {
        #[expect(unsafe_code, reason = "part of posix_spawn(3)")]
        // SAFETY: the first call initialises what the others change. Descriptors are only noted; `start` has them
        // borrowed until the process has its copies.
        unsafe {
            ok(libc::posix_spawn_file_actions_init(place.as_mut_ptr()))?;
            let actions = Actions(place.assume_init_mut());
            for (file, number) in files {
                ok(libc::posix_spawn_file_actions_adddup2(actions.0, file.as_raw_fd(), *number))?;
            }
            Ok(actions)
        }
    }
}

impl Drop for Actions<'_> {
    fn drop(&mut self) {
        #[expect(unsafe_code, reason = "part of posix_spawn(3)")]
        // SAFETY: initialised by `new`, and not used afterwards.
        let _ = unsafe { libc::posix_spawn_file_actions_destroy(self.0) };
    }
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::io::Read as _;
    use std::os::fd::AsFd as _;
    use std::os::unix::net::UnixStream;

    use super::*;

    #[test]
    fn a_program_gets_what_it_was_given_and_nothing_else() {
        let (mut ours, theirs) = UnixStream::pair().unwrap();
        let line =
            c"exec >&0; env -u PWD -u OLDPWD -u SHLVL -u _; grep -E '^Sig(Blk|Ign)' /proc/self/status; \
                     cut -d' ' -f5 /proc/$$/stat";
        let pid = start(c"/bin/sh", &[c"sh", c"-c", line], &[c"ONE=1"], &[(theirs.as_fd(), 0)]).unwrap();
        drop(theirs);
        let mut said = String::new();
        ours.read_to_string(&mut said).unwrap();
        // Signals 32 and 33 are the C library's own, which leaves them ignored.
        let signals = said.replace("SigIgn:\t0000000180000000", "SigIgn:\t0000000000000000");
        let expected = "ONE=1\nSigBlk:\t0000000000000000\nSigIgn:\t0000000000000000\n";
        assert_eq!(signals, format!("{expected}{pid}\n"));
    }

    #[test]
    fn a_program_gets_each_file_under_its_number() {
        let (mut out, theirs) = UnixStream::pair().unwrap();
        let (mut more, its_more) = UnixStream::pair().unwrap();
        let line = c"echo out; echo err >&2; echo more >&3; exec 3>&-; ls /proc/self/fd | wc -l";
        // What is open under its own number already is passed on, too.
        let files = [(theirs.as_fd(), 1), (theirs.as_fd(), 2), (its_more.as_fd(), 3)];
        start(c"/bin/sh", &[c"sh", c"-c", line], &[c"PATH=/usr/bin:/bin"], &files).unwrap();
        drop((theirs, its_more));
        let mut said = String::new();
        out.read_to_string(&mut said).unwrap();
        assert_eq!(said.split_whitespace().collect::<Vec<_>>(), ["out", "err", "4"], "ls opens one");
        said.clear();
        more.read_to_string(&mut said).unwrap();
        assert_eq!(said, "more\n");
    }

    #[test]
    fn a_program_that_is_not_there_is_an_error() {
        let null = File::open("/dev/null").unwrap();
        let error = start(c"/nowhere/sh", &[c"sh"], &[], &[(null.as_fd(), 0)]).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::NotFound);
    }
}
