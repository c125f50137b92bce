//! What to type next: commands that are right on this machine, for this user, as they stand.

use std::ffi::OsStr;
use std::fmt::Write as _;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use crate::action::template::quote;
use crate::config::existing;
use crate::log::Escaped;
use crate::service;

/// How systems install Python, by the program that does it.
const INSTALLERS: [(&str, &str); 6] = [
    ("apt-get", "apt-get install python3"),
    ("dnf", "dnf install python3"),
    ("zypper", "zypper install python3"),
    ("pacman", "pacman -S python"),
    ("apk", "apk add python3"),
    ("emerge", "emerge dev-lang/python"),
];

/// The program, as it was typed this time.
pub(super) fn program() -> String {
    let typed = std::env::args_os().next().unwrap_or_else(|| "pyinotifyd".into());
    word(typed.as_bytes())
}

/// A word as a shell reads it, without anything that could steer a terminal.
pub(super) fn word(bytes: &[u8]) -> String {
    let mut line = Vec::new();
    quote(bytes, &mut line);
    match String::from_utf8(line) {
        Ok(text) if Escaped(text.as_bytes()).to_string() == text => text,
        Ok(_) | Err(_) => in_ansi_quotes(bytes),
    }
}

/// `$'...'`, which all shells of people read, and POSIX as of 2024.
fn in_ansi_quotes(bytes: &[u8]) -> String {
    let mut text = "$'".to_owned();
    for &byte in bytes {
        match byte {
            b'\'' | b'\\' => text.extend(['\\', char::from(byte)]),
            b' '..=b'~' => text.push(char::from(byte)),
            _ => write!(text, "\\{byte:03o}").expect("formatting into a string cannot fail"),
        }
    }
    text + "'"
}

/// A path as a word.
pub(super) fn path(path: &Path) -> String {
    word(path.as_os_str().as_bytes())
}

/// A command that only root may run.
pub(super) fn as_root(command: &str) -> String {
    if rustix::process::geteuid().is_root() {
        command.to_owned()
    } else if find("sudo").is_some() {
        format!("sudo {command}")
    } else {
        format!("su -c {}", word(command.as_bytes()))
    }
}

/// Makes a directory, as root if we may not.
pub(super) fn make(directory: &Path) -> String {
    let command = format!("mkdir -p {}", path(directory));
    let may = rustix::fs::access(existing(directory), rustix::fs::Access::WRITE_OK).is_ok();
    if may { command } else { as_root(&command) }
}

/// Installs a Python, by what this system has for that.
pub(super) fn install_python() -> String {
    let known = INSTALLERS.iter().find(|(program, _)| find(program).is_some());
    known.map_or_else(|| "python3 --version".to_owned(), |(_, command)| as_root(command))
}

/// A program in `PATH`, or where only root's has it.
pub(super) fn find(name: &str) -> Option<PathBuf> {
    directories().into_iter().map(|directory| directory.join(name)).find(|path| path.is_file())
}

/// Directories of programs.
pub(super) fn directories() -> Vec<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let own = std::env::split_paths(&path).filter(|directory| directory.is_absolute());
    own.chain(["/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin"].map(PathBuf::from)).collect()
}

/// Shows what the service does, if there is one.
pub(super) fn service_status() -> Option<String> {
    service::installed_command("status")
}

/// Starts a daemon with a configuration: the service if that is what it runs. The configuration may name a socket,
/// which one of the command line overrules.
pub(super) fn start(config: &[PathBuf], control: Option<&Path>, names_socket: bool) -> String {
    let is_default = config == [Path::new(crate::cli::CONFIG_FILE)];
    let service = service::installed_command("start").filter(|_| is_default && control.is_none());
    if let Some(command) = service {
        return as_root(&command);
    }
    let files = if is_default { String::new() } else { named(config) };
    let line = program() + &files;
    match control {
        Some(control) => format!("{line} --control {}", path(control)),
        // Both sides have to name one.
        None if !names_socket && super::places::default_place().is_none() => {
            let variable = super::places::VARIABLE;
            format!("export {variable}=~/.pyinotifyd.sock; {line} --control \"${variable}\"")
        }
        None => line,
    }
}

/// Config files as options.
pub(super) fn named(config: &[PathBuf]) -> String {
    let words = config.iter().flat_map(|file| [" -c ".to_owned(), path(file)]);
    words.collect()
}

/// A path of bytes.
pub(super) fn bytes_path(bytes: &[u8]) -> &Path {
    Path::new(OsStr::from_bytes(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_quoted_where_they_must_be() {
        let words: [(&[u8], &str); 5] = [
            (b"/srv/in", "/srv/in"),
            (b"/srv/my in", "'/srv/my in'"),
            ("/srv/\u{fc}".as_bytes(), "'/srv/\u{fc}'"),
            (b"/srv/\x1b[2J'\xff", "$'/srv/\\033[2J\\'\\377'"),
            (b"", "''"),
        ];
        for (bytes, expected) in words {
            assert_eq!(word(bytes), expected);
        }
    }
}
