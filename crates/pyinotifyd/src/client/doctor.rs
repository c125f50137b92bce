//! `pyinotifyd doctor`: what keeps the daemon from its work here, with the command that mends it. Needs no daemon.
//!
//! Owns the findings. Touches no filesystem that may not answer, and changes nothing but a file of its own in the
//! directory for temporary files.

use std::collections::VecDeque;
use std::fmt;
use std::fs;
use std::io::{self, Write as _};
use std::os::fd::AsFd as _;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use control::Client;
use control::api::Status;
use mounts::Mounts;
use rustix::fs::{CWD, Mode, OFlags, ResolveFlags};
use serde::Serialize;

use super::{places, show};
use crate::config::{Config, StateWanted, absolute_path};
use crate::host::interpreter;

/// Directories that are counted before it is enough to say that there are more.
const DIRECTORIES_MAX: u64 = 2_000_000;
/// How long they are counted.
const COUNT_MAX: Duration = Duration::from_secs(20);
/// The oldest Python that executes configurations.
const PYTHON_MIN: (u32, u32) = (3, 9);
/// A disk with less room than that is as good as full.
const ROOM_MIN: u64 = 64 << 20;
/// Events that the kernel queues by default.
const QUEUE_DEFAULT: u64 = 16_384;

/// How bad a finding is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
enum Level {
    Ok,
    Warning,
    Problem,
}

impl fmt::Display for Level {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.pad(match self {
            Level::Ok => "ok",
            Level::Warning => "warning",
            Level::Problem => "problem",
        })
    }
}

/// One thing that was looked at.
#[derive(Debug, Serialize)]
struct Finding {
    level: Level,
    /// What it is about.
    about: &'static str,
    /// What was found.
    text: String,
    /// The command that mends it.
    #[serde(skip_serializing_if = "Option::is_none")]
    mend: Option<String>,
}

fn ok(about: &'static str, text: impl Into<String>) -> Finding {
    Finding { level: Level::Ok, about, text: text.into(), mend: None }
}

fn warning(about: &'static str, text: impl Into<String>, mend: impl Into<String>) -> Finding {
    Finding { level: Level::Warning, about, text: text.into(), mend: Some(mend.into()) }
}

fn problem(about: &'static str, text: impl Into<String>, mend: impl Into<String>) -> Finding {
    Finding { level: Level::Problem, about, text: text.into(), mend: Some(mend.into()) }
}

/// What the user named on the command line.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Wanted {
    /// The config files.
    pub(crate) config: Vec<PathBuf>,
    /// The interpreter.
    pub(crate) python: Option<PathBuf>,
    /// The state.
    pub(crate) state: Option<PathBuf>,
    /// The control socket.
    pub(crate) control: Option<PathBuf>,
    /// Print JSON.
    pub(crate) json: bool,
}

/// Looks at everything, with the configuration if it could be executed.
pub(crate) fn run(wanted: &Wanted, config: Option<&Config>) -> ExitCode {
    let daemon = daemon(wanted.control.as_deref());
    let mut findings = vec![python(wanted.python.as_deref())];
    if findings[0].level == Level::Ok {
        findings.push(of_config(&wanted.config, config.is_some()));
    }
    findings.extend(roots(config));
    findings.extend(limits(config, daemon.as_ref().ok()));
    findings.extend([leases(), openat2(), fanotify()]);
    findings.extend(state(wanted, config));
    findings.push(control(daemon));
    let worst = findings.iter().map(|finding| finding.level).max().unwrap_or(Level::Ok);
    let printed = if wanted.json { as_json(&findings) } else { as_text(&findings) };
    // A reader that went away has what it wanted.
    let _ = io::stdout().write_all(printed.as_bytes());
    ExitCode::from(u8::from(worst == Level::Problem))
}

/// Whether there is a Python that may execute the configuration.
pub(crate) fn has_python(wanted: &Wanted) -> bool {
    python(wanted.python.as_deref()).level == Level::Ok
}

fn as_json(findings: &[Finding]) -> String {
    #[derive(Serialize)]
    struct Findings<'a> {
        findings: &'a [Finding],
    }
    serde_json::to_string(&Findings { findings }).expect("a finding is JSON") + "\n"
}

fn as_text(findings: &[Finding]) -> String {
    let page = show::Page::of_stdout();
    let line = |finding: &Finding| {
        let level = page.level(
            &format!("{:<8}", finding.level),
            finding.level == Level::Ok,
            finding.level == Level::Problem,
        );
        let mend = finding.mend.as_ref().map_or(String::new(), |mend| format!("\n          mend: {mend}"));
        format!("{level}  {}: {}{mend}\n", finding.about, show::line(&finding.text))
    };
    findings.iter().map(line).collect()
}

fn python(named: Option<&Path>) -> Finding {
    let found = match interpreter::find(named) {
        Ok(found) => found,
        Err(why) => return problem("python", first_line(&why), "apt-get install python3"),
    };
    let code = "import sys; print(*sys.version_info[:3])";
    let asked = Command::new(&found).args(["-I", "-c", code]).stdin(Stdio::null()).output();
    let shown = found.display();
    let answer = match asked {
        Ok(answer) if answer.status.success() => String::from_utf8_lossy(&answer.stdout).into_owned(),
        Ok(answer) => {
            let why = String::from_utf8_lossy(&answer.stderr).into_owned();
            let text = format!("{shown} does not run: {}", first_line(&why));
            return problem("python", text, "pyinotifyd doctor --python /usr/bin/python3");
        }
        Err(error) => {
            let text = format!("{shown} does not run: {error}");
            return problem("python", text, "pyinotifyd doctor --python /usr/bin/python3");
        }
    };
    let numbers: Vec<u32> = answer.split_whitespace().filter_map(|number| number.parse().ok()).collect();
    let version = numbers.iter().map(u32::to_string).collect::<Vec<_>>().join(".");
    match numbers[..] {
        [major, minor, ..] if (major, minor) >= PYTHON_MIN => {
            ok("python", format!("{shown} is Python {version}"))
        }
        _ => {
            let (major, minor) = PYTHON_MIN;
            let text = format!("{shown} is Python {version}, {major}.{minor} or newer is needed");
            problem("python", text, "apt-get install python3, then name it with --python PATH")
        }
    }
}

fn of_config(files: &[PathBuf], is_loaded: bool) -> Finding {
    let shown: Vec<String> = files.iter().map(|file| file.display().to_string()).collect();
    if is_loaded {
        return ok("config", format!("{} can be used", shown.join(", ")));
    }
    if files.iter().all(|file| file.exists()) {
        let mend = format!("pyinotifyd -t -c {}", shown.join(" -c "));
        return problem("config", format!("{} cannot be used", shown.join(", ")), mend);
    }
    warning("config", format!("{} does not exist", shown.join(", ")), "pyinotifyd --install")
}

/// The paths of all watches, as far as they are no patterns.
fn paths(config: Option<&Config>) -> Vec<(Vec<u8>, bool)> {
    let watches = config.into_iter().flat_map(|config| &config.watches);
    let paths = watches.flat_map(|watch| {
        let is_deep = watch.rec || watch.auto_add;
        watch.paths.iter().map(move |path| (absolute_path(path), is_deep))
    });
    paths.filter(|(path, _)| !path.iter().any(|byte| b"*?[".contains(byte))).collect()
}

fn roots(config: Option<&Config>) -> Vec<Finding> {
    let Ok(mounts) = Mounts::read() else {
        return vec![problem("filesystems", "/proc is not mounted", "mount -t proc proc /proc")];
    };
    paths(config).into_iter().map(|(path, _)| root(&path, &mounts)).collect()
}

fn root(path: &[u8], mounts: &Mounts) -> Finding {
    let shown = show::path(&control::api::PathText::of(path));
    let way = mounts.way(path);
    let fstype = String::from_utf8_lossy(&way.mount.fstype).into_owned();
    if let Some(name) = way.mount.unseen() {
        let text =
            format!("'{shown}' is on {name} ({fstype}), where inotify does not see what other hosts do");
        return warning("filesystem", text, format!("findmnt -T '{shown}'"));
    }
    if !way.is_local() {
        let text = format!("'{shown}' is on {fstype}, which may not answer");
        return warning("filesystem", text, format!("findmnt -T '{shown}'"));
    }
    let path = Path::new(<std::ffi::OsStr as std::os::unix::ffi::OsStrExt>::from_bytes(path));
    match path.metadata() {
        Ok(_) => ok("filesystem", format!("'{shown}' is on {fstype}")),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let text = format!("'{shown}' does not exist; the daemon waits for it");
            warning("filesystem", text, format!("mkdir -p '{shown}'"))
        }
        Err(error) => {
            let text = format!("cannot look at '{shown}': {}", crate::log::Cause(&error));
            problem("filesystem", text, format!("namei -l '{shown}'"))
        }
    }
}

/// What inotify is used for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Used {
    instances: u64,
    watches: u64,
}

fn limits(config: Option<&Config>, daemon: Option<&Status>) -> Vec<Finding> {
    let used = used_by(rustix::process::geteuid().as_raw());
    let own = daemon.map_or(0, |status| status.totals.kernel_watches);
    let (needed, is_more) = directories(&paths(config));
    let limit = watcher::watches_max();
    let total = used.watches.saturating_sub(own) + needed;
    let more = if is_more { "more than " } else { "" };
    let text = format!(
        "{} = {}; the config needs {more}{}, all processes of this user hold {}",
        limit.name,
        show::count(limit.value),
        show::count(needed),
        show::count(used.watches)
    );
    let mend = format!("sysctl -w {}={}", limit.name, (2 * total).max(2 * limit.value));
    let watches = match total {
        total if total > limit.value => problem("watches", text, mend),
        total if total > limit.value / 5 * 4 => warning("watches", text, mend),
        _ => ok("watches", text),
    };
    let mut all = vec![watches];
    if let Some(limit) = sysctl("fs.inotify.max_user_instances") {
        let text = format!("fs.inotify.max_user_instances = {limit}; this user has {}", used.instances);
        let mend = format!("sysctl -w fs.inotify.max_user_instances={}", 2 * limit.max(64));
        all.push(match used.instances {
            used if used >= limit && daemon.is_none() => problem("instances", text, mend),
            used if used > limit / 5 * 4 => warning("instances", text, mend),
            _ => ok("instances", text),
        });
    }
    if let Some(limit) = sysctl("fs.inotify.max_queued_events") {
        let text = format!("fs.inotify.max_queued_events = {limit}");
        let mend = format!("sysctl -w fs.inotify.max_queued_events={QUEUE_DEFAULT}");
        all.push(if limit < QUEUE_DEFAULT { warning("queue", text, mend) } else { ok("queue", text) });
    }
    all
}

fn sysctl(name: &str) -> Option<u64> {
    let text = fs::read_to_string(format!("/proc/sys/{}", name.replace('.', "/"))).ok()?;
    text.trim().parse().ok()
}

/// What the processes of a user hold, as far as /proc shows it to us.
fn used_by(uid: u32) -> Used {
    let mut used = Used::default();
    for process in fs::read_dir("/proc").into_iter().flatten().flatten() {
        let is_process = process.file_name().as_encoded_bytes().iter().all(u8::is_ascii_digit);
        if !is_process || process.metadata().map_or(true, |found| found.uid() != uid) {
            continue;
        }
        for info in fs::read_dir(process.path().join("fdinfo")).into_iter().flatten().flatten() {
            let link = process.path().join("fd").join(info.file_name());
            if fs::read_link(link).is_ok_and(|target| target.as_os_str() == "anon_inode:inotify") {
                used.instances += 1;
                let text = fs::read_to_string(info.path()).unwrap_or_default();
                used.watches += text.lines().filter(|line| line.starts_with("inotify wd:")).count() as u64;
            }
        }
    }
    used
}

/// How many directories there are at and below paths of local filesystems; true if there are more than were counted.
fn directories(paths: &[(Vec<u8>, bool)]) -> (u64, bool) {
    let Ok(mounts) = Mounts::read() else { return (0, false) };
    let until = Instant::now() + COUNT_MAX;
    let local = paths.iter().filter(|(path, _)| mounts.way(path).is_local());
    let mut queue: VecDeque<(PathBuf, bool)> = local
        .map(|(path, is_deep)| {
            let path = <std::ffi::OsStr as std::os::unix::ffi::OsStrExt>::from_bytes(path);
            (PathBuf::from(path), *is_deep)
        })
        .collect();
    let mut count = 0;
    while let Some((directory, is_deep)) = queue.pop_back() {
        count += 1;
        if count >= DIRECTORIES_MAX || Instant::now() > until {
            return (count, true);
        }
        if !is_deep {
            continue;
        }
        for entry in fs::read_dir(&directory).into_iter().flatten().flatten() {
            let path = entry.path();
            let is_dir = entry.file_type().is_ok_and(|kind| kind.is_dir());
            if is_dir && mounts.way(path.as_os_str().as_encoded_bytes()).is_local() {
                queue.push_back((path, true));
            }
        }
    }
    (count, false)
}

fn leases() -> Finding {
    const MEND: &str = "sysctl -w fs.leases-enable=1";
    if sysctl("fs.leases-enable") == Some(0) {
        return problem("leases", "fs.leases-enable = 0: who writes to a file cannot be known", MEND);
    }
    let Ok(file) = scratch() else {
        let directory = std::env::temp_dir();
        let text = format!("no file can be made in '{}'", directory.display());
        return warning("leases", text, format!("df -h '{}'", directory.display()));
    };
    match syscall::lease::writers(file.as_fd()) {
        syscall::lease::Writers::Unknown => {
            let text = "leases are refused here: files count as finished when size and time stay the same";
            warning("leases", text, "findmnt -T \"$TMPDIR\"")
        }
        syscall::lease::Writers::None | syscall::lease::Writers::Some => {
            ok("leases", "who writes to a file of ours can be known")
        }
    }
}

/// A file without a name.
fn scratch() -> io::Result<fs::File> {
    let path = std::env::temp_dir().join(format!(".pyinotifyd-doctor-{}", std::process::id()));
    fs::OpenOptions::new().write(true).create_new(true).open(&path)?;
    let file = fs::File::open(&path);
    fs::remove_file(&path)?;
    file
}

fn openat2() -> Finding {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    match rustix::fs::openat2(CWD, "/", flags, Mode::empty(), ResolveFlags::NO_MAGICLINKS) {
        Ok(_) => ok("openat2", "openat2(2) is there"),
        Err(errno) => {
            let text =
                format!("openat2(2) is refused ({errno}): file rules take more steps for the same safety");
            warning("openat2", text, "grep Seccomp /proc/self/status; uname -r")
        }
    }
}

/// Bits of capabilities(7).
const CAP_DAC_READ_SEARCH: u32 = 2;
const CAP_SYS_ADMIN: u32 = 21;

fn fanotify() -> Finding {
    let has = |bit: u32| capabilities() & (1 << bit) != 0;
    if has(CAP_SYS_ADMIN) && has(CAP_DAC_READ_SEARCH) {
        return ok("fanotify", "may be used");
    }
    ok("fanotify", "needs CAP_SYS_ADMIN and CAP_DAC_READ_SEARCH, which are missing; no watch asks for it")
}

fn capabilities() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
    line.and_then(|digits| u64::from_str_radix(digits.trim(), 16).ok()).unwrap_or(0)
}

fn state(wanted: &Wanted, config: Option<&Config>) -> Option<Finding> {
    let default = || std::env::var_os("STATE_DIRECTORY").filter(|value| !value.is_empty()).map(PathBuf::from);
    let directory = wanted.state.clone().or_else(|| match config.map(|config| &config.state) {
        Some(StateWanted::In(path)) => Some(path.clone()),
        Some(StateWanted::Never) => None,
        Some(StateWanted::Default) | None => default(),
    });
    let Some(directory) = directory else {
        return config.map(|_| ok("state", "none: tasks do not survive the end of the daemon"));
    };
    let shown = directory.display();
    let existing = directory.ancestors().find(|path| path.exists())?;
    let writable = rustix::fs::access(existing, rustix::fs::Access::WRITE_OK).is_ok();
    if !writable {
        let text = format!("'{shown}' cannot be written");
        return Some(problem("state", text, format!("namei -l '{shown}'")));
    }
    let mode = directory.metadata().map_or(0o700, |found| found.permissions().mode());
    if mode & 0o022 != 0 {
        let text = format!("others can write in '{shown}'");
        return Some(problem("state", text, format!("chmod go-w '{shown}'")));
    }
    let room =
        rustix::fs::statvfs(existing).map_or(u64::MAX, |found| found.f_bavail.saturating_mul(found.f_frsize));
    if room < ROOM_MIN {
        let text = format!("the disk of '{shown}' has room for {} KiB only", show::count(room >> 10));
        return Some(problem("state", text, format!("df -h '{}'", existing.display())));
    }
    Some(ok("state", format!("'{shown}' can be written")))
}

/// The status of the daemon that runs; else why there is none, and whether one answers at all.
fn daemon(named: Option<&Path>) -> Result<Status, (bool, String)> {
    let path = places::find(named).map_err(|why| (false, why))?;
    let client = Client::new(&path).map_err(|error| (false, error.to_string()))?;
    let reply = client.get("/v1/status").map_err(|error| (false, error.to_string()))?;
    reply.json().map_err(|why| (true, why))
}

fn control(daemon: Result<Status, (bool, String)>) -> Finding {
    const MEND: &str = "systemctl status pyinotifyd";
    match daemon {
        Ok(Status { ready: true, pid, .. }) => ok("control", format!("the daemon with pid {pid} answers")),
        Ok(Status { pid, reason, .. }) => {
            let why = reason.unwrap_or_default();
            problem("control", format!("the daemon with pid {pid} is not ready: {why}"), "pyinotifyd status")
        }
        Err((true, why)) => problem("control", why, MEND),
        Err((false, why)) => warning("control", why, "systemctl start pyinotifyd"),
    }
}

fn first_line(text: &str) -> String {
    text.trim().lines().last().unwrap_or_default().to_owned()
}
