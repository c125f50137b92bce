//! Process groups of commands, by which the next daemon finds what has outlived this one.

use engine::TaskHandle;
use hashbrown::HashMap;
use hashbrown::hash_map::Entry;
use ledger::Process;
use rustix::process::Pid;

use crate::daemon::children::Stat;

/// The process group of a command.
#[derive(Clone, Copy, Debug)]
pub(super) struct Group {
    /// Read while its leader is there, which may end before the group.
    pub(super) process: Process,
    pub(super) is_stopped: bool,
}

/// The process group of a run, which its command leads; `None` before that has executed its program.
pub(super) fn group_of(
    groups: &mut HashMap<TaskHandle, Group>,
    run: TaskHandle,
    leader: Pid,
) -> Option<&mut Group> {
    let group = leader.as_raw_nonzero().get();
    match groups.entry(run) {
        Entry::Occupied(known) => Some(known.into_mut()),
        Entry::Vacant(vacant) => {
            let process = Process { group, started_ticks: started_ticks(group)? };
            Some(vacant.insert(Group { process, is_stopped: false }))
        }
    }
}

/// When a process was started, in ticks since boot.
fn started_ticks(pid: i32) -> Option<u64> {
    Stat::of_child(&pid.to_string())?.number(22)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_has_the_time_of_its_start_as_long_as_it_lives() {
        let mut child = std::process::Command::new("sleep").arg("60").spawn().unwrap();
        let pid = child.id() as i32;
        let ticks = std::iter::repeat_with(|| started_ticks(pid)).find(Option::is_some).flatten();
        assert!(ticks.is_some_and(|ticks| ticks > 0));
        assert_eq!(started_ticks(pid), ticks);
        child.kill().unwrap();
        child.wait().unwrap();
        assert_eq!(started_ticks(pid), None);
    }
}
