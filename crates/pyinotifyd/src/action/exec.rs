//! Commands as another user, with other limits, elsewhere: a step between the daemon and the command.
//!
//! A child that changes its user, its umask or its limits has to do so between fork(2) and execve(2). In a process with
//! threads and much memory that is dangerous and slow, so the daemon starts its own program once more instead, under
//! the name [`NAME`]. That process has a single thread and nothing in memory: it takes on [`Attributes`] and becomes
//! the command. It also looks for the command's program and executes it, so that a filesystem that does not answer
//! holds up this process and not the daemon.
//!
//! What keeps it from that goes to the daemon through a pipe, which the command does not get.

use std::ffi::OsString;
use std::fs::{File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::ffi::OsStringExt as _;
use std::os::unix::process::CommandExt as _;
use std::process::{Command, ExitCode};

use rustix::fs::{Gid, Mode, Uid};
use rustix::process::{
    Resource, Rlimit, getgid, getgroups, getpriority_process, getuid, setpriority_process, setrlimit, umask,
};
use rustix::thread::{
    CapabilitySet, CapabilitySets, clear_ambient_capability_set, set_capabilities, set_thread_groups,
    set_thread_res_gid, set_thread_res_uid,
};
use serde::{Deserialize, Serialize};

use crate::log::{Cause, Escaped};

/// The name under which the program is this step; no person types it.
pub(crate) const NAME: &str = "pyinotifyd-exec";

/// The descriptor of the pipe to the daemon.
pub(crate) const PIPE_FD: i32 = 3;

/// The exit status where the command could not be started, as a shell's for what it cannot execute.
pub(crate) const CANNOT_EXECUTE: u8 = 126;

/// What the command is to have instead of what the daemon has.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Attributes {
    /// User and groups.
    pub(crate) identity: Option<Identity>,
    /// Mode bits that new files do not get.
    pub(crate) umask: Option<u32>,
    /// Added to the niceness, nice(2).
    pub(crate) nice: i32,
    /// Where it runs.
    pub(crate) directory: Option<Vec<u8>>,
    /// Soft and hard limits by their names in [`RESOURCES`]; `None` is no limit.
    pub(crate) limits: Vec<(String, Option<u64>)>,
}

/// Who the command is. What is `None` stays as it is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Identity {
    /// User.
    pub(crate) uid: Option<u32>,
    /// Group.
    pub(crate) gid: Option<u32>,
    /// All supplementary groups.
    pub(crate) groups: Option<Vec<u32>>,
}

/// Limits by name, getrlimit(2).
pub(crate) const RESOURCES: [(&str, Resource); 16] = [
    ("as", Resource::As),
    ("core", Resource::Core),
    ("cpu", Resource::Cpu),
    ("data", Resource::Data),
    ("fsize", Resource::Fsize),
    ("locks", Resource::Locks),
    ("memlock", Resource::Memlock),
    ("msgqueue", Resource::Msgqueue),
    ("nice", Resource::Nice),
    ("nofile", Resource::Nofile),
    ("nproc", Resource::Nproc),
    ("rss", Resource::Rss),
    ("rtprio", Resource::Rtprio),
    ("rttime", Resource::Rttime),
    ("sigpending", Resource::Sigpending),
    ("stack", Resource::Stack),
];

/// The words of the command line if the program was started as the step, without its name.
pub(crate) fn words() -> Option<impl Iterator<Item = OsString>> {
    let mut words = std::env::args_os();
    (words.next().is_some_and(|name| name == NAME)).then_some(words)
}

/// Becomes the command that the words name: attributes as JSON, the program, its arguments. Returns only where that is
/// impossible.
pub(crate) fn run(mut words: impl Iterator<Item = OsString>) -> ExitCode {
    // Opened first: a command's user may not open what belongs to the daemon's.
    let pipe = pipe();
    let attributes = words.next().and_then(|json| serde_json::from_slice(json.as_encoded_bytes()).ok());
    let (Some(attributes), Some(program)) = (attributes, words.next()) else {
        return ExitCode::from(CANNOT_EXECUTE);
    };
    let failure = take_on(&attributes).err().unwrap_or_else(|| {
        // This also gives SIGPIPE its default action back, which Rust's runtime took away.
        let error = Command::new(&program).args(words).exec();
        format!("cannot execute '{}': {}", Escaped(program.as_encoded_bytes()), Cause(&error))
    });
    // Without a reader the daemon is gone, and nobody wants to know.
    let _ = pipe.map(|mut pipe| pipe.write_all(failure.as_bytes()));
    ExitCode::from(CANNOT_EXECUTE)
}

/// The pipe to the daemon, which the command does not get, nor any other descriptor. Without a pipe (a person has
/// started this) nothing is said.
fn pipe() -> io::Result<File> {
    // Linux before 5.11 has no call for all; the pipe at least is known.
    let _ = syscall::inherited::close_on_exec();
    syscall::inherited::close_one_on_exec(PIPE_FD)?;
    OpenOptions::new().write(true).open(format!("/proc/self/fd/{PIPE_FD}"))
}

/// Takes on all attributes: first what needs the daemon's rights, then the user, then what the user's rights decide.
fn take_on(attributes: &Attributes) -> Result<(), String> {
    let Attributes { identity, umask: mask, nice, directory, limits } = attributes;
    for (name, limit) in limits {
        set_limit(name, *limit)?;
    }
    if *nice != 0 {
        let changed = getpriority_process(None).and_then(|now| setpriority_process(None, now + nice));
        changed.map_err(|error| format!("cannot set nice={nice}: {}", Cause(&error.into())))?;
    }
    if let Some(mask) = mask {
        umask(Mode::from_raw_mode(*mask));
    }
    if let Some(identity) = identity {
        identity.take_on()?;
    }
    let Some(directory) = directory else { return Ok(()) };
    let directory = OsString::from_vec(directory.clone());
    std::env::set_current_dir(&directory).map_err(|error| {
        format!("cannot run in '{}': {}", Escaped(directory.as_encoded_bytes()), Cause(&error))
    })
}

fn set_limit(name: &str, limit: Option<u64>) -> Result<(), String> {
    let known = RESOURCES.iter().find(|(known, _)| *known == name);
    let (_, resource) = known.ok_or_else(|| format!("there is no limit '{name}'"))?;
    setrlimit(*resource, Rlimit { current: limit, maximum: limit }).map_err(|error| {
        let shown = limit.map_or("no limit".to_owned(), |limit| limit.to_string());
        format!("cannot set the limit {name} to {shown}: {}", Cause(&error.into()))
    })
}

impl Identity {
    /// Groups come before the user, who may not change them any more. What this process is already needs no rights.
    fn take_on(&self) -> Result<(), String> {
        let fault = |what: &str, error: rustix::io::Errno| format!("cannot {what}: {}", Cause(&error.into()));
        if let Some(groups) = &self.groups {
            self.join(groups).map_err(|error| fault("take on the groups of the user", error))?;
        }
        if let Some(number) = self.gid {
            let gid = Gid::from_raw(number);
            set_thread_res_gid(gid, gid, gid)
                .map_err(|error| fault(&format!("become group {number}"), error))?;
        }
        let Some(number) = self.uid else { return Ok(()) };
        let uid = Uid::from_raw(number);
        let is_other = getuid() != uid;
        set_thread_res_uid(uid, uid, uid).map_err(|error| fault(&format!("become user {number}"), error))?;
        if is_other && !uid.is_root() {
            drop_capabilities().map_err(|error| fault("give capabilities up", error))?;
        }
        Ok(())
    }

    /// Makes `groups` the supplementary ones. An ordinary user may not, but has none that the database lacks as a rule.
    fn join(&self, groups: &[u32]) -> rustix::io::Result<()> {
        let wanted: Vec<Gid> = groups.iter().copied().map(Gid::from_raw).collect();
        let is_allowed =
            |gid: &Gid| wanted.contains(gid) || self.gid == Some(gid.as_raw()) || *gid == getgid();
        match set_thread_groups(&wanted) {
            Err(rustix::io::Errno::PERM) if getgroups()?.iter().all(is_allowed) => Ok(()),
            other => other,
        }
    }
}

/// A change of the user away from root drops all but the inheritable ones, a change between ordinary users none
/// (capabilities(7), "Effect of user ID changes on capabilities").
fn drop_capabilities() -> rustix::io::Result<()> {
    clear_ambient_capability_set()?;
    let none = CapabilitySet::empty();
    set_capabilities(None, CapabilitySets { effective: none, permitted: none, inheritable: none })
}
