//! The daemon as a service: `--install`, `--uninstall` and the protocol with the service supervisor.
//!
//! Owns the files under `share/` that the binary carries (unit, init script, default configuration), where they go,
//! what is overwritten and what is kept. [`notify`] is the client of systemd's notification protocol. Leaves to the
//! command line: parsing the options, printing the records. Starts no process: `systemctl` and `rc-service` are the
//! admin's.
//!
//! Everything takes a root directory, so that packagers and tests install below a directory of theirs.

mod files;
pub(crate) mod notify;
mod unit;

use std::env;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use files::{Existing, Removal};

use crate::log::Cause;

/// A directory to install below instead of `/`, as in makefiles; for packagers and tests.
const ROOT_VARIABLE: &str = "DESTDIR";

/// Directories of which the first that exists makes this a systemd machine, in the order of preference.
const SYSTEMD_DIRS: [&str; 2] = ["lib/systemd/system", "usr/lib/systemd/system"];
/// Where admins put units of their own.
const ADMINS_UNITS: &str = "etc/systemd/system";
const OPENRC: &str = "sbin/openrc";
const UNIT_NAME: &str = "pyinotifyd.service";
const INIT_SCRIPT: &str = "etc/init.d/pyinotifyd";
const INIT_CONFIG: &str = "etc/conf.d/pyinotifyd";
const CONFIG_DIR: &str = "etc/pyinotifyd";
const CONFIG: &str = "etc/pyinotifyd/config.py";

const INIT_CONFIG_TEXT: &str = include_str!("../../share/openrc/pyinotifyd.confd");
const CONFIG_TEXT: &str = include_str!("../../share/config.py");

const MODE_FILE: u32 = 0o644;
const MODE_SCRIPT: u32 = 0o755;
const MODE_DIR: u32 = 0o755;

/// How an installation ended; the number is the program's exit code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// Everything is in place (or gone).
    Done,
    /// The caller is not root.
    NotRoot,
    /// Something could not be written or removed; the records say what.
    Failed,
}

impl Outcome {
    /// The program's exit code.
    pub(crate) const fn code(self) -> u8 {
        match self {
            Outcome::Done => 0,
            Outcome::NotRoot => 2,
            Outcome::Failed => 3,
        }
    }
}

/// How loud a record is; printed as `INFO: text`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Level {
    /// What was done.
    Info,
    /// What the admin has to look at.
    Warning,
    /// What could not be done.
    Error,
}

impl From<Outcome> for ExitCode {
    fn from(outcome: Outcome) -> ExitCode {
        ExitCode::from(outcome.code())
    }
}

impl Level {
    const fn name(self) -> &'static str {
        match self {
            Level::Info => "INFO",
            Level::Warning => "WARNING",
            Level::Error => "ERROR",
        }
    }
}

/// Takes the records of an installation, one line each.
pub(crate) trait Report {
    /// One record, without a newline.
    fn record(&mut self, level: Level, text: &str);
}

impl<F: FnMut(Level, &str)> Report for F {
    fn record(&mut self, level: Level, text: &str) {
        self(level, text);
    }
}

/// `pyinotifyd --install`.
pub(crate) fn install_command() -> ExitCode {
    match env::current_exe() {
        Ok(binary) => install(&root(), &binary, &mut print_record).into(),
        Err(error) => failed(
            &mut print_record,
            "install",
            &format!("cannot find its own program: {error}", error = Cause(&error)),
        )
        .into(),
    }
}

/// `pyinotifyd --uninstall`.
pub(crate) fn uninstall_command() -> ExitCode {
    uninstall(&root(), &mut print_record).into()
}

fn root() -> PathBuf {
    match env::var_os(ROOT_VARIABLE) {
        Some(root) if !root.is_empty() => PathBuf::from(root),
        Some(_) | None => PathBuf::from("/"),
    }
}

/// The format of all records before the daemon starts.
fn print_record(level: Level, text: &str) {
    eprintln!("{}: {text}", level.name());
}

/// The command by which the installed service is asked or started, by whoever supervises it here; `None` if none does.
pub(crate) fn installed_command(verb: &str) -> Option<String> {
    let root = Path::new("/");
    let units = SYSTEMD_DIRS.iter().chain(&[ADMINS_UNITS]);
    let has_unit = || units.clone().any(|dir| root.join(dir).join(UNIT_NAME).exists());
    // sd_booted(3) asks for the same.
    if root.join("run/systemd/system").is_dir() && has_unit() {
        return Some(format!("systemctl {verb} pyinotifyd"));
    }
    let has_script = root.join("run/openrc").is_dir() && root.join(INIT_SCRIPT).exists();
    has_script.then(|| format!("rc-service pyinotifyd {verb}"))
}

/// Installs service files and, unless there is one, the default configuration.
///
/// `root` is `/`, or another directory for packagers and tests, who need no privileges then. `binary` is the
/// absolute path that the service shall start, as it will be seen from `/`.
pub(crate) fn install(root: &Path, binary: &Path, out: &mut dyn Report) -> Outcome {
    if !may_change(root) {
        return refuse(out);
    }
    let command = match unit::Command::new(binary) {
        Ok(command) => command,
        Err(error) => return failed(out, "install", &error.to_string()),
    };
    if let Some(warning) = files::writable_by_others(binary) {
        out.record(Level::Warning, &warning);
    }
    let mut steps = Steps { root, out, complete: true };
    let supervisor = install_service(&mut steps, &command);
    if !install_config(&mut steps) {
        return failed(out, "install", "the configuration directory is missing");
    }
    if !steps.complete {
        return failed(out, "install", "see the errors above");
    }
    if let Some(next) = supervisor {
        out.record(Level::Info, next);
    }
    out.record(Level::Info, "pyinotifyd successfully installed");
    Outcome::Done
}

/// Removes what [`install`] wrote; configuration that the admin changed stays.
pub(crate) fn uninstall(root: &Path, out: &mut dyn Report) -> Outcome {
    if !may_change(root) {
        return refuse(out);
    }
    let mut steps = Steps { root, out, complete: true };
    for dir in SYSTEMD_DIRS {
        steps.remove(&Path::new(dir).join(UNIT_NAME), Removal::Always);
    }
    steps.remove(Path::new(INIT_SCRIPT), Removal::Always);
    steps.remove(Path::new(INIT_CONFIG), Removal::IfUnchanged(INIT_CONFIG_TEXT));
    steps.remove(Path::new(CONFIG), Removal::IfUnchanged(CONFIG_TEXT));
    steps.remove_dir(Path::new(CONFIG_DIR));
    if !steps.complete {
        return failed(out, "uninstall", "see the errors above");
    }
    out.record(Level::Info, "pyinotifyd successfully uninstalled");
    Outcome::Done
}

fn may_change(root: &Path) -> bool {
    root != Path::new("/") || rustix::process::geteuid().is_root()
}

fn refuse(out: &mut dyn Report) -> Outcome {
    out.record(Level::Error, "you need to have root privileges, please try again");
    Outcome::NotRoot
}

fn failed(out: &mut dyn Report, what: &str, why: &str) -> Outcome {
    out.record(Level::Error, &format!("unable to {what} pyinotifyd completely: {why}"));
    Outcome::Failed
}

/// Installs the files of each supervisor that is there; returns what the admin does next.
fn install_service(steps: &mut Steps<'_>, command: &unit::Command) -> Option<&'static str> {
    let mut next = None;
    if let Some(dir) = SYSTEMD_DIRS.into_iter().find(|dir| steps.root.join(dir).is_dir()) {
        steps.out.record(Level::Info, "systemd detected");
        let text = unit::systemd(command, unit::systemd_version(steps.root));
        steps.keep_hand_made_unit(&Path::new(dir).join(UNIT_NAME));
        steps.install(&Path::new(dir).join(UNIT_NAME), &text, MODE_FILE, Existing::Replace);
        next = Some("next: systemctl daemon-reload && systemctl enable --now pyinotifyd.service");
    }
    if files::is_executable(&steps.root.join(OPENRC)) {
        steps.out.record(Level::Info, "openrc detected");
        match unit::openrc(command) {
            Ok(text) => steps.install(Path::new(INIT_SCRIPT), &text, MODE_SCRIPT, Existing::Replace),
            Err(error) => steps.error(&error.to_string()),
        }
        steps.install(Path::new(INIT_CONFIG), INIT_CONFIG_TEXT, MODE_FILE, Existing::Keep);
        next = next.or(Some("next: rc-update add pyinotifyd default && rc-service pyinotifyd start"));
    }
    if next.is_none() {
        steps.out.record(Level::Warning, "neither systemd nor openrc detected, only the config is installed");
    }
    next
}

/// Installs the configuration; false if there is no directory to hold it.
fn install_config(steps: &mut Steps<'_>) -> bool {
    if !steps.create_dir(Path::new(CONFIG_DIR)) {
        return false;
    }
    steps.install(Path::new(CONFIG), CONFIG_TEXT, MODE_FILE, Existing::Keep);
    true
}

/// One run of the installer: where it writes, whom it tells, and whether every step worked so far.
struct Steps<'a> {
    root: &'a Path,
    out: &'a mut dyn Report,
    complete: bool,
}

impl Steps<'_> {
    fn path(&self, relative: &Path) -> PathBuf {
        self.root.join(relative)
    }

    fn install(&mut self, relative: &Path, text: &str, mode: u32, existing: Existing) {
        let path = self.path(relative);
        match files::install(&path, text, mode, existing) {
            Ok(files::Installed::Written) => {
                self.out.record(Level::Info, &format!(" => install file {}", path.display()));
            }
            Ok(files::Installed::Kept) => {
                self.out.record(Level::Info, &format!(" => file {} already exists", path.display()));
            }
            Err(error) => self.error(&error),
        }
    }

    /// A unit with edits of the admin is replaced like any other, but its text is kept in a file next to it: edits
    /// belong into a drop-in, which an upgrade does not touch.
    fn keep_hand_made_unit(&mut self, relative: &Path) {
        let path = self.path(relative);
        let Some(text) = files::read_regular(&path) else { return };
        if unit::is_as_installed(&text) {
            return;
        }
        match files::install(&path.with_extension("service.old"), &text, MODE_FILE, Existing::Replace) {
            Ok(_) => {
                let path = path.display();
                let advice = "use 'systemctl edit pyinotifyd' for changes";
                let text =
                    format!(" => file {path} was changed by hand, keep a copy in {path}.old; {advice}");
                self.out.record(Level::Warning, &text);
            }
            Err(error) => self.error(&error),
        }
    }

    fn create_dir(&mut self, relative: &Path) -> bool {
        let path = self.path(relative);
        match files::create_dir(&path, MODE_DIR) {
            Ok(files::Installed::Written) => {
                self.out.record(Level::Info, &format!(" => create directory {}", path.display()));
                true
            }
            Ok(files::Installed::Kept) => {
                self.out.record(Level::Info, &format!(" => directory {} already exists", path.display()));
                true
            }
            Err(error) => {
                self.error(&error);
                false
            }
        }
    }

    fn remove(&mut self, relative: &Path, removal: Removal<'_>) {
        let path = self.path(relative);
        match files::remove(&path, removal) {
            Ok(files::Removed::Gone) => {
                self.out.record(Level::Info, &format!(" => uninstall file {}", path.display()));
            }
            Ok(files::Removed::Kept) => {
                let text =
                    format!(" => keep modified file {}, you have to remove it manually", path.display());
                self.out.record(Level::Warning, &text);
            }
            Ok(files::Removed::Missing) => {}
            Err(error) => self.error(&error),
        }
    }

    fn remove_dir(&mut self, relative: &Path) {
        let path = self.path(relative);
        match files::remove_dir(&path) {
            Ok(files::Removed::Gone) => {
                self.out.record(Level::Info, &format!(" => delete directory {}", path.display()));
            }
            Ok(files::Removed::Kept) => {
                let text = format!(" => keep non-empty directory {}", path.display());
                self.out.record(Level::Warning, &text);
            }
            Ok(files::Removed::Missing) => {}
            Err(error) => self.error(&error),
        }
    }

    fn error(&mut self, text: &str) {
        self.complete = false;
        self.out.record(Level::Error, &format!(" => {text}"));
    }
}

#[cfg(test)]
mod tests;
