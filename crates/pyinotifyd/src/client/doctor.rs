//! `pyinotifyd doctor`: what keeps the daemon from its work here, with the command that mends it. Needs no daemon.
//!
//! Owns the findings. Touches no filesystem that may not answer, and changes nothing but a file of its own in the
//! directory for temporary files.

use std::collections::VecDeque;
use std::ffi::OsStr;
use std::fmt;
use std::fs;
use std::io;
use std::os::fd::AsFd as _;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use control::api::{ConfigFile, PathText, RefusedConfig, Status};
use control::{Client, ClientError};
use mounts::Mounts;
use rustix::fs::{Access, CWD, Mode, OFlags, ResolveFlags};
use serde::Serialize;
use syscall::same::are_one_file;

use super::{advice, places, rights, show};
use crate::cli::{self, CONFIG_FILE, ConfigOptions, Source};
use crate::config::{Config, ControlPlace, StateWanted, absolute_path, existing, room_for};
use crate::host::interpreter;
use crate::log::Cause;

/// Directories that are counted before it is enough to say that there are more.
const DIRECTORIES_MAX: u64 = 2_000_000;
/// How long they are counted.
const COUNT_MAX: Duration = Duration::from_secs(20);
/// The oldest Python that executes configurations.
const PYTHON_MIN: (u32, u32) = (3, 9);
/// Minor versions, from the oldest on, that are looked for where the found one will not do.
const PYTHONS_TRIED: u32 = 12;
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
pub(super) struct Finding {
    level: Level,
    /// What it is about.
    pub(super) about: &'static str,
    /// What was found.
    pub(super) text: String,
    /// The command that mends it.
    #[serde(skip_serializing_if = "Option::is_none")]
    mend: Option<String>,
}

pub(super) fn ok(about: &'static str, text: impl Into<String>) -> Finding {
    Finding { level: Level::Ok, about, text: text.into(), mend: None }
}

pub(super) fn warning(about: &'static str, text: impl Into<String>, mend: impl Into<String>) -> Finding {
    Finding { level: Level::Warning, about, text: text.into(), mend: Some(mend.into()) }
}

pub(super) fn problem(about: &'static str, text: impl Into<String>, mend: impl Into<String>) -> Finding {
    Finding { level: Level::Problem, about, text: text.into(), mend: Some(mend.into()) }
}

/// What is looked at: what the user named, or what a daemon that answers has.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Wanted {
    /// The config files.
    pub(crate) config: Vec<PathBuf>,
    /// Why these.
    pub(crate) whose: Whose,
    /// The interpreter.
    pub(crate) python: Option<PathBuf>,
    /// The state.
    pub(crate) state: Option<PathBuf>,
    /// The control socket.
    pub(crate) control: Option<PathBuf>,
    /// Print JSON.
    pub(crate) json: bool,
}

/// Why a configuration is looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Whose {
    /// The user named it.
    Named,
    /// A daemon that is started without a word would have it.
    Default,
    /// The daemon with this pid runs with it.
    Daemon(u32),
}

/// What is looked at: where nobody named a configuration, that of the daemon which answers. It is executed: it must be
/// ours or root's. With the state that this daemon has, whose command line and environment we do not know.
pub(crate) fn of_daemon(mut options: ConfigOptions, mut wanted: Wanted) -> (ConfigOptions, Wanted) {
    let Asked::Answered(status, user) = ask(&wanted, None) else { return (options, wanted) };
    if wanted.whose == Whose::Default && is_trusted(user) && !is_about(&wanted.config, &status.config) {
        wanted.config = status.config.iter().map(|file| path_of(&file.path)).collect();
        wanted.whose = Whose::Daemon(status.pid);
        options.source = Source::Files(cli::named(&wanted.config));
    }
    if options.state.is_none() && is_about(&wanted.config, &status.config) {
        options.state = status.state.map(|state| path_of(&state.path));
    }
    (options, wanted)
}

fn is_trusted(user: Option<u32>) -> bool {
    user.is_some_and(|user| user == 0 || user == rustix::process::geteuid().as_raw())
}

/// Looks at everything, with the configuration if it could be executed.
pub(crate) fn run(wanted: &Wanted, config: Option<&Config>) -> ExitCode {
    let daemon = ask(wanted, config);
    let mut findings = vec![python(wanted.python.as_deref())];
    if findings[0].level == Level::Ok {
        findings.push(of_config(wanted, config.is_some(), &daemon));
    }
    findings.extend(roots(config));
    findings.extend(whose_rights(&daemon, wanted, config));
    findings.extend(limits(config, &daemon));
    findings.extend([leases(), openat2(), fanotify()]);
    findings.extend(state(wanted, config, &daemon));
    findings.push(control(daemon, wanted, config));
    let worst = findings.iter().map(|finding| finding.level).max().unwrap_or(Level::Ok);
    let printed = if wanted.json { as_json(&findings) } else { as_text(&findings) };
    match super::print(printed.as_bytes()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            super::complain(super::REFUSED, &super::unwritten(&error))
        }
        // A reader that went away has what it wanted.
        Ok(()) | Err(_) => ExitCode::from(u8::from(worst == Level::Problem)),
    }
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
        Err(why) => return problem("python", first_line(&why), advice::install_python()),
    };
    let shown = found.display();
    match version_of(&found) {
        Err(why) => problem("python", format!("{shown} does not run: {why}"), other_python(&found)),
        Ok(version) => {
            let text = version.iter().map(u32::to_string).collect::<Vec<_>>().join(".");
            if is_new_enough(&version) {
                return ok("python", format!("{shown} is Python {text}"));
            }
            let (major, minor) = PYTHON_MIN;
            let text = format!("{shown} is Python {text}, {major}.{minor} or newer is needed");
            problem("python", text, other_python(&found))
        }
    }
}

/// # Errors
/// Why it does not say its version, in one line.
fn version_of(python: &Path) -> Result<Vec<u32>, String> {
    let code = "import sys; print(*sys.version_info[:3])";
    let asked = Command::new(python).args(["-I", "-c", code]).stdin(Stdio::null()).output();
    let answer = asked.map_err(|error| Cause(&error).to_string())?;
    if !answer.status.success() {
        return Err(first_line(&String::from_utf8_lossy(&answer.stderr)));
    }
    let text = String::from_utf8_lossy(&answer.stdout);
    Ok(text.split_whitespace().filter_map(|number| number.parse().ok()).collect())
}

fn is_new_enough(version: &[u32]) -> bool {
    matches!(version[..], [major, minor, ..] if (major, minor) >= PYTHON_MIN)
}

/// Names another Python that would do, or installs one.
fn other_python(found: &Path) -> String {
    let (_, oldest) = PYTHON_MIN;
    let names: Vec<String> =
        (oldest..oldest + PYTHONS_TRIED).rev().map(|minor| format!("python3.{minor}")).collect();
    let names = std::iter::once("python3").chain(names.iter().map(String::as_str));
    let directories = advice::directories();
    let candidates = names.flat_map(|name| directories.iter().map(move |directory| directory.join(name)));
    let mut others = candidates.filter(|path| path != found && path.is_file());
    let other = others.find(|path| version_of(path).is_ok_and(|version| is_new_enough(&version)));
    other.map_or_else(advice::install_python, |other| {
        format!("{} doctor --python {}", advice::program(), advice::path(&other))
    })
}

fn of_config(wanted: &Wanted, is_loaded: bool, daemon: &Asked) -> Finding {
    let files = &wanted.config;
    let user = match daemon {
        Asked::Answered(status, _) if is_about(files, &status.config) => Some(status.pid),
        _ => None,
    };
    let shown = files.iter().map(|file| file.display().to_string()).collect::<Vec<_>>().join(", ");
    let program = advice::program();
    if is_loaded {
        let whose = match wanted.whose {
            Whose::Named | Whose::Default => String::new(),
            Whose::Daemon(pid) => format!("; the daemon with pid {pid} runs with it"),
        };
        return ok("config", format!("{shown} can be used{whose}"));
    }
    let kept = user
        .map_or(String::new(), |pid| format!("; the daemon with pid {pid} goes on with what it had before"));
    let Some(missing) = files.iter().find(|file| !file.exists()) else {
        let mend = format!("{program} -t{}", advice::named(files));
        return problem("config", format!("{shown} cannot be used{kept}"), mend);
    };
    let text = format!("{} does not exist{kept}", missing.display());
    let mend = if user.is_some() {
        // What it held is not for us to make up.
        format!("ls -l {}", advice::path(existing(missing)))
    } else if missing == Path::new(CONFIG_FILE) {
        advice::as_root(&format!("{program} --install"))
    } else {
        format!("{program} watch . --print-config > {}", advice::path(missing))
    };
    match wanted.whose {
        Whose::Default => warning("config", text, mend),
        Whose::Named | Whose::Daemon(_) => problem("config", text, mend),
    }
}

/// The paths of all watches, as far as they are no patterns.
fn paths(config: Option<&Config>) -> Vec<(Vec<u8>, bool)> {
    let watches = config.into_iter().flat_map(|config| &config.watches);
    let paths =
        watches.flat_map(|watch| watch.paths.iter().map(move |path| (absolute_path(path), watch.is_deep())));
    paths.filter(|(path, _)| !path.iter().any(|byte| b"*?[".contains(byte))).collect()
}

fn roots(config: Option<&Config>) -> Vec<Finding> {
    let Ok(mounts) = Mounts::read() else {
        let mend = advice::as_root("mount -t proc proc /proc");
        return vec![problem("filesystems", "/proc is not mounted", mend)];
    };
    let roots = paths(config).into_iter().map(|(path, _)| root(&path, &mounts));
    let of_rules = config.map(|config| rights::of_rules(config, &mounts)).unwrap_or_default();
    roots.chain(of_rules).collect()
}

/// Looks at the same once more.
fn asks_again(wanted: &Wanted, config: Option<&Config>) -> String {
    let files = match wanted.whose {
        Whose::Named => advice::named(&wanted.config),
        Whose::Default | Whose::Daemon(_) => String::new(),
    };
    let at = option_of(named_socket(wanted, config).as_deref());
    format!("{} doctor{files}{at}", advice::program())
}

/// Rights are those of who asks: another user's daemon may have less.
fn whose_rights(daemon: &Asked, wanted: &Wanted, config: Option<&Config>) -> Option<Finding> {
    let Asked::Answered(status, user) = daemon else { return None };
    let (ours, theirs, pid) = (rustix::process::geteuid().as_raw(), (*user)?, status.pid);
    (theirs != ours).then(|| {
        let text = format!("asked as user {ours}, but the daemon with pid {pid} runs as user {theirs}");
        let again = asks_again(wanted, config);
        warning("rights", text, advice::as_root(&format!("setpriv --reuid {theirs} --clear-groups {again}")))
    })
}

fn root(path: &[u8], mounts: &Mounts) -> Finding {
    let shown = show::path(&PathText::of(path));
    let way = mounts.way(path);
    let fstype = String::from_utf8_lossy(&way.mount.fstype).into_owned();
    // Nothing else shows a mount without asking it.
    let show_mount = || format!("grep -F {} /proc/self/mounts", advice::word(&in_table(&way.mount.point)));
    if let Some(name) = way.mount.unseen() {
        let text =
            format!("'{shown}' is on {name} ({fstype}), where inotify does not see what other hosts do");
        return warning("filesystem", text, show_mount());
    }
    if !way.is_local() {
        return warning(
            "filesystem",
            format!("'{shown}' is on {fstype}, which may not answer"),
            show_mount(),
        );
    }
    let path = advice::bytes_path(path);
    match path.metadata() {
        Ok(found) if !rights::may(path, to_watch(&found)) => {
            let text = format!("'{shown}' cannot be watched: we may not read it");
            problem("filesystem", text, rights::look_at(path))
        }
        Ok(_) => ok("filesystem", format!("'{shown}' is on {fstype}")),
        Err(error) if error.kind() == io::ErrorKind::NotFound => missing_root(&shown, path),
        Err(error) => {
            let text = format!("cannot look at '{shown}': {}", Cause(&error));
            problem("filesystem", text, format!("namei -l {}", advice::path(path)))
        }
    }
}

fn missing_root(shown: &str, path: &Path) -> Finding {
    let Some(why) = watcher::dangling(path.as_os_str().as_bytes(), |_| true) else {
        let text = format!("'{shown}' does not exist; the daemon waits for it");
        return warning("filesystem", text, advice::make(path));
    };
    let link = Path::new(OsStr::from_bytes(&why.link));
    let below = if link == path { String::new() } else { format!("'{shown}' does not exist: ") };
    let text = format!("{below}{why}; the daemon waits for it");
    warning("filesystem", text, format!("ls -l {}", advice::path(link)))
}

/// inotify_add_watch(2) asks for the first; what is in a directory is reached with the second.
fn to_watch(found: &fs::Metadata) -> Access {
    if found.is_dir() { Access::READ_OK | Access::EXEC_OK } else { Access::READ_OK }
}

/// A mount point as the table of mounts shows it (proc(5)), with what stands around it.
fn in_table(point: &[u8]) -> Vec<u8> {
    let mut text = vec![b' '];
    for byte in point {
        match byte {
            b' ' | b'\t' | b'\n' | b'\\' => text.extend(format!("\\{byte:03o}").bytes()),
            _ => text.push(*byte),
        }
    }
    text.push(b' ');
    text
}

/// What inotify is used for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Used {
    instances: u64,
    watches: u64,
}

fn limits(config: Option<&Config>, daemon: &Asked) -> Vec<Finding> {
    let used = used_by(rustix::process::geteuid().as_raw());
    let status = if let Asked::Answered(status, _) = daemon { Some(status) } else { None };
    let own = status.map_or(0, |status| status.totals.kernel_watches);
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
    let mend = set(limit.name, (2 * total).max(2 * limit.value));
    let watches = match total {
        total if total > limit.value => problem("watches", text, mend),
        total if total > limit.value / 5 * 4 => warning("watches", text, mend),
        _ => ok("watches", text),
    };
    let mut all = vec![watches];
    if let Some(limit) = sysctl("fs.inotify.max_user_instances") {
        let text = format!("fs.inotify.max_user_instances = {limit}; this user has {}", used.instances);
        let mend = set("fs.inotify.max_user_instances", 2 * limit.max(64));
        all.push(match used.instances {
            used if used >= limit && status.is_none() => problem("instances", text, mend),
            used if used > limit / 5 * 4 => warning("instances", text, mend),
            _ => ok("instances", text),
        });
    }
    if let Some(limit) = sysctl("fs.inotify.max_queued_events") {
        let text = format!("fs.inotify.max_queued_events = {limit}");
        let mend = set("fs.inotify.max_queued_events", QUEUE_DEFAULT);
        all.push(if limit < QUEUE_DEFAULT { warning("queue", text, mend) } else { ok("queue", text) });
    }
    all
}

/// Sets a limit of the kernel, until it is started again.
fn set(name: &str, value: u64) -> String {
    advice::as_root(&format!("sysctl -w {name}={value}"))
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
        let instances = instances_of(&process.path());
        used.instances += instances.len() as u64;
        used.watches += instances.iter().sum::<u64>();
    }
    used
}

/// How many watches each inotify instance of a process has, by its directory in /proc. The daemon has two descriptors
/// of its one.
fn instances_of(process: &Path) -> Vec<u64> {
    let number = |name: &OsStr| name.to_str()?.parse::<i32>().ok();
    let pid = process.canonicalize().ok().and_then(|process| number(process.file_name()?));
    let mut instances: Vec<(i32, u64)> = Vec::new();
    for info in fs::read_dir(process.join("fdinfo")).into_iter().flatten().flatten() {
        let link = process.join("fd").join(info.file_name());
        let (Some(pid), Some(descriptor)) = (pid, number(&info.file_name())) else { continue };
        let is_inotify = fs::read_link(link).is_ok_and(|target| target.as_os_str() == "anon_inode:inotify");
        if is_inotify && !instances.iter().any(|(known, _)| are_one_file(pid, *known, descriptor)) {
            let text = fs::read_to_string(info.path()).unwrap_or_default();
            let watches = text.lines().filter(|line| line.starts_with("inotify wd:"));
            instances.push((descriptor, watches.count() as u64));
        }
    }
    instances.into_iter().map(|(_, watches)| watches).collect()
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
    const NAME: &str = "fs.leases-enable";
    if sysctl(NAME) == Some(0) {
        let text = "fs.leases-enable = 0: who writes to a file cannot be known";
        return problem("leases", text, set(NAME, 1));
    }
    let directory = std::env::temp_dir();
    let Ok(file) = scratch() else {
        let (text, shown) =
            (format!("no file can be made in '{}'", directory.display()), advice::path(&directory));
        return warning("leases", text, format!("ls -ld {shown}; df -h {shown}"));
    };
    match syscall::lease::writers(file.as_fd()) {
        syscall::lease::Writers::Unknown => {
            let text = "leases are refused here: files count as finished when size and time stay the same";
            warning("leases", text, format!("findmnt -T {}", advice::path(&directory)))
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

fn state(wanted: &Wanted, config: Option<&Config>, daemon: &Asked) -> Option<Finding> {
    let directory = match (&wanted.state, daemon) {
        (Some(named), _) => Some(named.clone()),
        // Its command line and its environment may say something else than ours.
        (None, Asked::Answered(status, _)) if is_about(&wanted.config, &status.config) => {
            status.state.as_ref().map(|state| path_of(&state.path))
        }
        (None, _) => state_of(config),
    };
    let Some(directory) = directory else {
        return config.map(|_| ok("state", "none: tasks do not survive the end of the daemon"));
    };
    let (shown, word) = (directory.display(), advice::path(&directory));
    let mounts = Mounts::read().unwrap_or_else(|_| Mounts::parse(b""));
    let room = match room_for(&directory, &mounts) {
        Ok(room) => room,
        Err(no_room) => return Some(problem("state", no_room.to_string(), rights::look_into(&no_room))),
    };
    let mode = directory.metadata().map_or(0o700, |found| found.permissions().mode());
    if mode & 0o022 != 0 {
        let text = format!("others can write in '{shown}'");
        return Some(problem("state", text, format!("chmod go-w {word}")));
    }
    let existing = existing(&directory);
    let free =
        rustix::fs::statvfs(existing).map_or(u64::MAX, |found| found.f_bavail.saturating_mul(found.f_frsize));
    if free < ROOM_MIN {
        let text = format!("the disk of '{shown}' has room for {} KiB only", show::count(free >> 10));
        return Some(problem("state", text, format!("df -h {}", advice::path(existing))));
    }
    Some(ok("state", format!("'{shown}' {room}")))
}

/// The directory of the state of a daemon that is started here without a word.
fn state_of(config: Option<&Config>) -> Option<PathBuf> {
    match config.map(|config| &config.state) {
        Some(StateWanted::In(path)) => Some(path.clone()),
        Some(StateWanted::Never) => None,
        Some(StateWanted::Default) | None => {
            std::env::var_os("STATE_DIRECTORY").filter(|value| !value.is_empty()).map(PathBuf::from)
        }
    }
}

/// What is known of a daemon that runs.
enum Asked {
    /// It answers; whose it is, if that is known.
    Answered(Box<Status>, Option<u32>),
    /// It answers, but not what was asked.
    Refused(String),
    /// We may not ask on this socket.
    Forbidden(PathBuf),
    /// None answers.
    Silent(String),
    /// The configuration wants no socket.
    Never,
}

/// The socket that somebody named: the user, the environment, or else the configuration.
fn named_socket(wanted: &Wanted, config: Option<&Config>) -> Option<PathBuf> {
    let user = wanted.control.clone().or_else(places::variable);
    user.or_else(|| socket_of(config?).map(Path::to_owned))
}

fn socket_of(config: &Config) -> Option<&Path> {
    match &config.control.place {
        ControlPlace::At(path) => Some(path),
        ControlPlace::Default | ControlPlace::Never => None,
    }
}

/// The option by which a command asks the same daemon. Root has another environment, and other default places.
fn option_of(socket: Option<&Path>) -> String {
    socket.map_or_else(String::new, |path| format!(" --control {}", advice::path(path)))
}

/// Asks the daemon that runs.
fn ask(wanted: &Wanted, config: Option<&Config>) -> Asked {
    let is_never = config.is_some_and(|config| config.control.place == ControlPlace::Never);
    if is_never && wanted.control.is_none() {
        return Asked::Never;
    }
    let socket = places::find(named_socket(wanted, config).as_deref());
    let client = socket.and_then(|path| Client::new(&path).map_err(|error| Cause(&error).to_string()));
    let reply = match client.map(|client| client.get("/v1/status")) {
        Ok(Ok(reply)) => reply,
        Ok(Err(ClientError::NoDaemon { path, source }))
            if source.kind() == io::ErrorKind::PermissionDenied =>
        {
            return Asked::Forbidden(path);
        }
        Ok(Err(error)) => return Asked::Silent(error.to_string()),
        Err(why) => return Asked::Silent(why),
    };
    match reply.json() {
        Ok(status) => Asked::Answered(Box::new(status), reply.user),
        Err(why) => Asked::Refused(why),
    }
}

fn control(daemon: Asked, wanted: &Wanted, config: Option<&Config>) -> Finding {
    let socket = named_socket(wanted, config);
    let at = option_of(socket.as_deref());
    let show_status = format!("{} status{at}", advice::program());
    match daemon {
        Asked::Answered(status, _) if !is_about(&wanted.config, &status.config) => {
            let files: Vec<PathBuf> = status.config.iter().map(|file| path_of(&file.path)).collect();
            let text = format!("the daemon with pid {} runs with another configuration", status.pid);
            let mend = format!("{} doctor{}{at}", advice::program(), advice::named(&files));
            warning("control", text, mend)
        }
        Asked::Answered(status, _) => {
            let Status { pid, ready, reason, refused, .. } = *status;
            if !ready {
                let text = format!("the daemon with pid {pid} is not ready: {}", reason.unwrap_or_default());
                return problem("control", text, show_status);
            }
            match refused {
                None => ok("control", format!("the daemon with pid {pid} answers")),
                Some(RefusedConfig { error, .. }) => {
                    let kept = format!("the daemon with pid {pid} goes on with what it had before");
                    let text = format!("the latest reload was refused, {kept}: {error}");
                    warning("control", text, format!("{} reload{at}", advice::program()))
                }
            }
        }
        Asked::Refused(why) => problem("control", why, advice::service_status().unwrap_or(show_status)),
        Asked::Forbidden(path) => {
            let status = format!("{} status{}", advice::program(), option_of(Some(&path)));
            let text = format!("you may not connect to '{}'", path.display());
            warning("control", text, advice::as_root(&status))
        }
        Asked::Silent(why) => {
            let of_config = config.and_then(socket_of);
            let overrules = socket.as_deref().filter(|socket| Some(*socket) != of_config);
            warning("control", why, advice::start(&wanted.config, overrules, of_config.is_some()))
        }
        Asked::Never => ok("control", "none: the config says control=False"),
    }
}

/// Whether a daemon runs with one of the files that were looked at, or one in a directory of them.
fn is_about(looked_at: &[PathBuf], of_daemon: &[ConfigFile]) -> bool {
    let real = |path: &Path| path.canonicalize().unwrap_or_else(|_| path.to_owned());
    let looked_at: Vec<PathBuf> = looked_at.iter().map(|path| real(path)).collect();
    let is_one =
        |file: &ConfigFile| looked_at.iter().any(|path| real(&path_of(&file.path)).starts_with(path));
    of_daemon.is_empty() || of_daemon.iter().any(is_one)
}

fn path_of(path: &PathText) -> PathBuf {
    advice::bytes_path(&path.to_bytes().unwrap_or_default()).to_owned()
}

fn first_line(text: &str) -> String {
    text.trim().lines().last().unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests {
    use rustix::fs::inotify::{self, CreateFlags, WatchFlags};

    use super::*;

    #[test]
    fn an_instance_with_two_descriptors_is_counted_once() {
        let directory = tempfile::tempdir().unwrap();
        let names = ["0", "1", "2", "3", "4", "5", "6"].map(|name| directory.path().join(name));
        // So many watches has no other test.
        let instance = || {
            let one = inotify::init(CreateFlags::CLOEXEC).unwrap();
            for name in &names {
                fs::write(name, "").unwrap();
                inotify::add_watch(&one, name, WatchFlags::CREATE).unwrap();
            }
            one
        };
        let (one, _another) = (instance(), instance());
        let _again = rustix::io::fcntl_dupfd_cloexec(&one, 0).unwrap();
        let found = instances_of(Path::new("/proc/self"));
        assert_eq!(found.iter().filter(|watches| **watches == names.len() as u64).count(), 2, "{found:?}");
    }
}
