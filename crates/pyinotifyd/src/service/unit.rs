//! The texts of the service files, with the real path of the program in them.
//!
//! Owns quoting for systemd and for the shell, and the one line that differs between versions of systemd. The texts
//! themselves are files under `share/`, which packages install as they are.

use std::fmt;
use std::fs;
use std::path::Path;

/// The path that the files under `share/` start; packages put the program there.
const PACKAGED_BINARY: &str = "/usr/bin/pyinotifyd";
const UNIT: &str = include_str!("../../share/systemd/pyinotifyd.service");
const INIT_SCRIPT: &str = include_str!("../../share/openrc/pyinotifyd.initd");

/// The first systemd that knows `Type=notify-reload`.
const NOTIFY_RELOAD_VERSION: u32 = 253;

/// Last line of an installed unit; the number is a checksum of the text above it, so that edits are noticed.
const CHECKSUM_PREFIX: &str = "# Written by pyinotifyd --install, checksum ";

/// Where distributions keep systemd's private libraries, whose names carry the version.
const SYSTEMD_LIBRARY_DIRS: [&str; 5] = [
    "usr/lib/systemd",
    "lib/systemd",
    "usr/lib64/systemd",
    "usr/lib/x86_64-linux-gnu/systemd",
    "usr/lib/aarch64-linux-gnu/systemd",
];

/// A program path that can be written into a unit and into an init script.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Command {
    path: String,
}

/// Why a program path can't be written into a service file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum BadPath {
    /// A service has no current directory to start from.
    Relative,
    /// Neither systemd nor a shell variable holds it safely.
    Unprintable,
    /// OpenRC can't quote it.
    Special,
}

impl fmt::Display for BadPath {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(match self {
            BadPath::Relative => "the program's own path is not absolute",
            BadPath::Unprintable => {
                "the program's own path holds control characters or is not UTF-8; move it to /usr/local/bin"
            }
            BadPath::Special => {
                "OpenRC can't start a program whose path holds blanks or quotes; move it to /usr/local/bin"
            }
        })
    }
}

impl Command {
    /// Checks a path for use in service files.
    pub(super) fn new(binary: &Path) -> Result<Command, BadPath> {
        let path = binary.to_str().ok_or(BadPath::Unprintable)?;
        if path.chars().any(char::is_control) {
            return Err(BadPath::Unprintable);
        }
        if !binary.is_absolute() {
            return Err(BadPath::Relative);
        }
        Ok(Command { path: path.to_owned() })
    }

    /// As the first word of `ExecStart=` (systemd.service(5), "Command lines"): `%` starts a specifier anywhere; a `$`
    /// is not expanded in the program's path.
    fn for_systemd(&self) -> String {
        let text = self.path.replace('\\', r"\\").replace('"', r#"\""#).replace('%', "%%");
        if text.chars().all(|c| is_plain(c) || c == '%') { text } else { format!("\"{text}\"") }
    }

    /// As the `command` of an init script. OpenRC puts it into an `eval`, compares it with the running program's path
    /// and passes it to our own functions: no quoting is right for all three.
    fn for_openrc(&self) -> Result<&str, BadPath> {
        if self.path.chars().all(is_plain) { Ok(&self.path) } else { Err(BadPath::Special) }
    }
}

/// Characters that mean themselves everywhere.
const fn is_plain(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '/' | '.' | '_' | '+' | '-')
}

/// The unit for this program; `version` is that of systemd, the newest if unknown.
pub(super) fn systemd(command: &Command, version: Option<u32>) -> String {
    let mut text = UNIT.replace(PACKAGED_BINARY, &command.for_systemd());
    if version.is_some_and(|version| version < NOTIFY_RELOAD_VERSION) {
        text = without_notify_reload(&text);
    }
    let checksum = checksum(&text);
    format!("{text}{CHECKSUM_PREFIX}{checksum:016x}\n")
}

/// The init script for this program.
///
/// # Errors
/// If the path holds characters that are special to a shell.
pub(super) fn openrc(command: &Command) -> Result<String, BadPath> {
    let path = command.for_openrc()?;
    Ok(INIT_SCRIPT.replace(&format!("command={PACKAGED_BINARY}"), &format!("command={path}")))
}

/// Whether a unit's text is one that [`systemd`] of any version made.
pub(super) fn is_as_installed(text: &str) -> bool {
    let Some((body, number)) = text.rsplit_once(CHECKSUM_PREFIX) else { return false };
    u64::from_str_radix(number.trim_end(), 16).is_ok_and(|number| number == checksum(body))
}

/// systemd's version from the name of its library (`libsystemd-shared-252.so`), the way that starts no process.
pub(super) fn systemd_version(root: &Path) -> Option<u32> {
    SYSTEMD_LIBRARY_DIRS.iter().find_map(|dir| {
        let entries = fs::read_dir(root.join(dir)).ok()?;
        entries.flatten().find_map(|entry| version_of_library(entry.file_name().to_str()?))
    })
}

fn version_of_library(name: &str) -> Option<u32> {
    let version = name.strip_prefix("libsystemd-shared-")?;
    let digits = version.split(|c: char| !c.is_ascii_digit()).next()?;
    digits.parse().ok()
}

/// Before 253, systemd sends no signal of its own on reload: `ExecReload=` has to, after the test of the config.
fn without_notify_reload(text: &str) -> String {
    let mut lines = Vec::new();
    for line in text.lines() {
        match line {
            // The line above it says Type=notify.
            "Type=notify-reload" => {}
            line if line.starts_with("ExecReload=") => {
                lines.push(line);
                lines.push("ExecReload=/bin/kill -HUP $MAINPID");
            }
            line => lines.push(line),
        }
    }
    lines.join("\n") + "\n"
}

/// FNV-1a, 64 bits: notices edits, keeps no secret.
fn checksum(text: &str) -> u64 {
    text.bytes()
        .fold(0xcbf2_9ce4_8422_2325, |sum, byte| (sum ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn command(path: &str) -> Command {
        Command::new(Path::new(path)).unwrap()
    }

    #[test]
    fn the_unit_starts_the_real_program() {
        let text = systemd(&command("/opt/venv/bin/pyinotifyd"), Some(257));
        assert!(text.contains("\nExecStart=/opt/venv/bin/pyinotifyd\n"), "{text}");
        assert!(text.contains("\nExecReload=/opt/venv/bin/pyinotifyd --configtest\n"));
        assert!(!text.contains(PACKAGED_BINARY));
    }

    #[test]
    fn an_odd_path_is_quoted_or_refused() {
        let cases = [
            ("/usr/bin/pyinotifyd", "/usr/bin/pyinotifyd", Ok("/usr/bin/pyinotifyd")),
            ("/my apps/p", "\"/my apps/p\"", Err(BadPath::Special)),
            ("/a%h/p", "/a%%h/p", Err(BadPath::Special)),
            ("/a\"b\\c/p", "\"/a\\\"b\\\\c/p\"", Err(BadPath::Special)),
            ("/it's/$p", "\"/it's/$p\"", Err(BadPath::Special)),
        ];
        for (path, in_unit, in_init_script) in cases {
            assert_eq!(command(path).for_systemd(), in_unit);
            assert_eq!(command(path).for_openrc(), in_init_script);
        }
    }

    #[test]
    fn a_path_that_no_service_file_can_hold_is_refused() {
        assert_eq!(Command::new(Path::new("bin/p")), Err(BadPath::Relative));
        assert_eq!(Command::new(Path::new("/a\nExecStart=/bin/sh")), Err(BadPath::Unprintable));
    }

    #[test]
    fn an_old_systemd_gets_the_signal_from_the_unit() {
        let old = systemd(&command("/usr/bin/pyinotifyd"), Some(252));
        assert!(old.contains("\nType=notify\n") && !old.contains("\nType=notify-reload\n"));
        assert!(old.contains("--configtest\nExecReload=/bin/kill -HUP $MAINPID\n"));
        for version in [Some(253), None] {
            let new = systemd(&command("/usr/bin/pyinotifyd"), version);
            assert!(new.contains("\nType=notify-reload\n"));
            assert!(!new.contains("kill -HUP"));
        }
    }

    #[test]
    fn an_edit_of_the_unit_is_noticed() {
        let text = systemd(&command("/usr/bin/pyinotifyd"), None);
        assert!(is_as_installed(&text));
        assert!(!is_as_installed(&text.replace("UMask=0077", "UMask=0022")));
        assert!(!is_as_installed("[Service]\nExecStart=/usr/bin/pyinotifyd\n"));
    }

    #[test]
    fn the_version_is_in_the_library_name() {
        let cases = [
            ("libsystemd-shared-252.so", Some(252)),
            ("libsystemd-shared-257.9-1.so", Some(257)),
            ("libsystemd-core-252.so", None),
            ("libsystemd-shared-.so", None),
        ];
        for (name, version) in cases {
            assert_eq!(version_of_library(name), version, "{name}");
        }
    }

    #[test]
    fn the_init_script_starts_the_real_program() {
        let text = openrc(&command("/opt/venv/bin/pyinotifyd")).unwrap();
        assert!(text.contains("\ncommand=/opt/venv/bin/pyinotifyd\n"), "{text}");
    }
}
