//! Ends of child processes: hosts, commands, and what commands left behind (we are the subreaper of all of them).

use std::path::Path;

use rustix::process::{Pid, Signal, WaitOptions, kill_process, set_child_subreaper, wait};

use crate::host::Ending;

/// A child that ended.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ended {
    /// Which.
    pub pid: Pid,
    /// How.
    pub ending: Ending,
}

/// Takes over orphans of our children, so that none becomes a zombie of somebody else or outlives us unseen.
pub(crate) fn become_subreaper() {
    // Without it (a kernel before 3.4) orphans go to init, which is all the same for what the daemon promises to rules.
    let _ = set_child_subreaper(rustix::process::Pid::from_raw(1));
}

/// Reaps one child that ended, if there is one.
pub(crate) fn reap() -> Option<Ended> {
    let (pid, status) = wait(WaitOptions::NOHANG).ok()??;
    let ending = match status.exit_status() {
        Some(code) => Ending::Exited(code),
        None => Ending::Killed(status.terminating_signal().unwrap_or_default()),
    };
    Some(Ended { pid, ending })
}

/// Signals every process that is now our child and in our session, but for `others`: what commands started in the
/// background and left. A command that made a session of its own (a daemon) did so on purpose and is left alone.
///
/// Returns how many there were.
pub(crate) fn signal_leftovers(signal: Signal, others: &[Pid]) -> usize {
    let Some(session) = own_session() else { return 0 };
    let of_child = |pid: &Pid| Stat::of_child(&pid.as_raw_nonzero().to_string())?.number(6);
    let of_session = |pid: &Pid| of_child(pid) == Some(session);
    let left = children().into_iter().filter(|pid| !others.contains(pid));
    left.filter(of_session).filter(|pid| kill_process(*pid, signal).is_ok()).count()
}

/// Our session: 0 if its leader lives outside our PID namespace (a shell that was started in a container from without),
/// which getsid(2) says too, but rustix takes for impossible.
fn own_session() -> Option<u64> {
    Stat::read("self")?.number(6)
}

/// What proc_pid_stat(5) says of a process.
pub(super) struct Stat(Vec<u8>);

impl Stat {
    /// Of a process by its name in `/proc`.
    pub(super) fn read(process: &str) -> Option<Stat> {
        std::fs::read(Path::new("/proc").join(process).join("stat")).ok().map(Stat)
    }

    /// Of a child; `None` while it executes its program. It may wait for a server then that does not answer: execve(2)
    /// closes its copies of our descriptors, those of files on that server, too. Who reads its `stat` meanwhile waits
    /// with it (Linux 6.18). Until the program is there it has our name and no code.
    pub(super) fn of_child(process: &str) -> Option<Stat> {
        let of = |process: &str, file: &str| std::fs::read(Path::new("/proc").join(process).join(file)).ok();
        let has_our_name = of(process, "comm")? == of("thread-self", "comm")?;
        // proc_pid_statm(5): the fourth is the code.
        let has_code = || Some(of(process, "statm")?.split(|byte| *byte == b' ').nth(3)? != b"0");
        if has_our_name && !has_code()? { None } else { Stat::read(process) }
    }

    /// A field by its number in the manual, from 3 on. The second is the name of the program, in parentheses and
    /// otherwise anything.
    fn field(&self, number: usize) -> Option<&[u8]> {
        let after_name = self.0.rsplit(|byte| *byte == b')').next()?;
        after_name.split(|byte| *byte == b' ').filter(|field| !field.is_empty()).nth(number - 3)
    }

    pub(super) fn is_zombie(&self) -> bool {
        self.field(3) == Some(b"Z")
    }

    pub(super) fn number(&self, number: usize) -> Option<u64> {
        std::str::from_utf8(self.field(number)?).ok()?.parse().ok()
    }
}

/// Our children by all threads (proc_pid_task_children(5)); empty where the kernel does not list them.
fn children() -> Vec<Pid> {
    let Ok(threads) = std::fs::read_dir(Path::new("/proc/self/task")) else { return Vec::new() };
    let lists =
        threads.flatten().filter_map(|thread| std::fs::read_to_string(thread.path().join("children")).ok());
    lists
        .flat_map(|list| {
            list.split_whitespace().filter_map(|pid| Pid::from_raw(pid.parse().ok()?)).collect::<Vec<_>>()
        })
        .collect()
}

/// The name of a signal for a log line.
pub(crate) fn signal_name(number: i32) -> String {
    const NAMES: [(i32, &str); 11] = [
        (1, "SIGHUP"),
        (2, "SIGINT"),
        (3, "SIGQUIT"),
        (4, "SIGILL"),
        (6, "SIGABRT"),
        (7, "SIGBUS"),
        (8, "SIGFPE"),
        (9, "SIGKILL"),
        (11, "SIGSEGV"),
        (13, "SIGPIPE"),
        (15, "SIGTERM"),
    ];
    NAMES
        .iter()
        .find(|(known, _)| *known == number)
        .map_or_else(|| format!("signal {number}"), |(_, name)| (*name).to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_session_is_read_behind_any_program_name() {
        let session_in = |stat: &[u8]| Stat(stat.to_vec()).number(6);
        assert_eq!(session_in(b"7 (a) S 1 (b\xff) c) S 5 6 99 34816 7\n"), Some(99));
        assert_eq!(session_in(b"7 (sh) S 5 6 0 34816 7\n"), Some(0));
        assert_eq!(session_in(b"7 (sh) S 5"), None);
        assert!(own_session().is_some());
    }

    #[test]
    fn a_child_is_read_when_it_has_executed_its_program() {
        let directory = tempfile::tempdir().unwrap();
        let ours = std::fs::read_to_string("/proc/thread-self/comm").unwrap();
        // A program may have our name.
        for name in ["other", ours.trim_end()] {
            let program = directory.path().join(name.replace('/', "_"));
            std::os::unix::fs::symlink("/bin/sleep", &program).unwrap();
            let mut child = std::process::Command::new(program).arg("60").spawn().unwrap();
            let pid = child.id().to_string();
            let stat = std::iter::repeat_with(|| Stat::of_child(&pid)).find(Option::is_some).flatten();
            let its_name = std::fs::read_to_string(format!("/proc/{pid}/comm")).unwrap();
            child.kill().unwrap();
            let ended =
                std::iter::repeat_with(|| Stat::read(&pid)).find_map(|stat| stat.filter(Stat::is_zombie));
            assert!(ended.is_some());
            assert_eq!(its_name == ours, name == ours.trim_end(), "{its_name:?}");
            assert_eq!(Stat::of_child(&pid).is_none(), its_name == ours, "what has ended has no code");
            child.wait().unwrap();
            assert!(stat.is_some_and(|stat| stat.number(22).is_some()));
        }
    }
}
