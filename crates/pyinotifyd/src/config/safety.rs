//! Whether what we execute is safe to execute: as root, nobody else may be able to write it.
//!
//! Owns the reading of config files: a file is opened once, and what was opened is checked and executed. Other users
//! run their own files at their own risk: what they can write, they could run anyway.

use std::fs::{File, Metadata};
use std::io::{self, Read as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Component, Path, PathBuf};

use rustix::fs::OFlags;
use rustix::io::Errno;

use crate::log::{Cause, Escaped};

/// Bytes of a config file; more is another file.
const CONFIG_MAX: u64 = 16 << 20;

/// Reads a config file.
///
/// # Errors
/// Why it cannot be read, as Python says it; as root, that others could have written it, as [`check_opened`] says it.
pub(crate) fn read_config(path: &Path) -> Result<Vec<u8>, String> {
    let flags = OFlags::CLOEXEC | OFlags::NOCTTY;
    let file = File::options().read(true).custom_flags(flags.bits() as i32).open(path);
    let file = file.map_err(|error| python_error(&error, path))?;
    if rustix::process::geteuid().is_root() {
        let opened = file.metadata().map_err(|error| python_error(&error, path))?;
        check_opened(path, &opened)?;
    }
    let mut content = Vec::new();
    file.take(CONFIG_MAX + 1).read_to_end(&mut content).map_err(|error| python_error(&error, path))?;
    if content.len() as u64 > CONFIG_MAX {
        return Err(format!("'{}' has more than {CONFIG_MAX} bytes, it is no config file", path.display()));
    }
    Ok(content)
}

/// `[Errno 2] No such file or directory: 'PATH'`.
pub(super) fn python_error(error: &io::Error, path: &Path) -> String {
    let (text, path) = (Cause(error), Escaped(path.as_os_str().as_encoded_bytes()));
    format!("[Errno {}] {text}: '{path}'", error.raw_os_error().unwrap_or_default())
}

/// Refuses a file that is open if others could have written it or put it in its place: the way to it must be safe, and
/// must lead to what was opened.
fn check_opened(path: &Path, opened: &Metadata) -> Result<(), String> {
    check_one(path, opened, Trusted::Root)?;
    let absolute = std::path::absolute(path).map_err(|error| python_error(&error, path))?;
    match check_way(&absolute, Trusted::Root, &mut 0)? {
        Some(found) if (found.dev(), found.ino()) == (opened.dev(), opened.ino()) => Ok(()),
        // A pipe of a shell or a file that has no name (/dev/fd/63): nobody but its owner can write to it.
        None if opened.nlink() == 0 || !opened.is_file() => Ok(()),
        Some(_) | None => Err(format!("'{}' was replaced while it was looked at, try again", path.display())),
    }
}

/// Whose right to write is as good as root's.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Trusted {
    /// Nobody's.
    Root,
    /// That of groups in which nobody is: on Debian, everything below /usr/local can be written by the group staff.
    EmptyGroups,
}

/// Refuses, as root, a program that others could change: what its path names, each link on the way to it and each
/// directory above them must belong to root and must not be writable by group or others. A sticky directory such as
/// /tmp does as a parent of what exists, since only the owner can replace what is in it.
///
/// # Errors
/// A text that names the path, what is wrong with it, and the command that mends it.
pub(crate) fn check_program(path: &Path) -> Result<(), String> {
    if !rustix::process::geteuid().is_root() {
        return Ok(());
    }
    check_path(path, Trusted::Root).map(drop)
}

/// Refuses, as root, a directory of modules in which others could put one. `given` are those that somebody has named;
/// others come with the interpreter.
///
/// # Errors
/// As [`check_program`].
pub(crate) fn check_modules(path: &Path, given: bool) -> Result<(), String> {
    if !rustix::process::geteuid().is_root() {
        return Ok(());
    }
    let trusted = if given { Trusted::Root } else { Trusted::EmptyGroups };
    match check_path(path, trusted)? {
        // Everybody can put a file into it, though not replace one.
        Some(found) if found.is_dir() && found.mode() & 0o002 != 0 => Err(can_be_written(path, &found)),
        Some(_) | None => Ok(()),
    }
}

fn check_path(path: &Path, trusted: Trusted) -> Result<Option<Metadata>, String> {
    let absolute = std::path::absolute(path).map_err(|error| python_error(&error, path))?;
    let found = check_way(&absolute, trusted, &mut 0)?;
    if found.is_none() {
        check_missing(&absolute)?;
    }
    Ok(found)
}

/// Refuses a path that does not exist and that others could make.
fn check_missing(path: &Path) -> Result<(), String> {
    let above = path.ancestors().skip(1).find_map(|above| Some((above, above.metadata().ok()?)));
    match above {
        Some((above, metadata)) if metadata.mode() & 0o002 != 0 => Err(format!(
            "'{}' does not exist, and everybody can make it in '{}', who could change what root executes",
            path.display(),
            above.display()
        )),
        Some(_) | None => Ok(()),
    }
}

/// Links followed before we give up, as the kernel does (ELOOP, path_resolution(7)).
const LINKS_MAX: u32 = 40;

/// Checks all that a path leads through; what it leads to, if that exists.
fn check_way(path: &Path, trusted: Trusted, links: &mut u32) -> Result<Option<Metadata>, String> {
    let mut way = PathBuf::new();
    let mut last = None;
    let mut components = path.components();
    while let Some(component) = components.next() {
        if component == Component::ParentDir {
            way.pop();
            continue;
        }
        way.push(component);
        let Ok(metadata) = std::fs::symlink_metadata(&way) else { return Ok(None) };
        check_one(&way, &metadata, trusted)?;
        if metadata.is_symlink() {
            *links += 1;
            let Ok(target) = std::fs::read_link(&way) else { return Ok(None) };
            if *links > LINKS_MAX {
                return Ok(None);
            }
            way.pop();
            return check_way(&way.join(target).join(components.as_path()), trusted, links);
        }
        last = Some(metadata);
    }
    Ok(last)
}

fn check_one(path: &Path, metadata: &Metadata, trusted: Trusted) -> Result<(), String> {
    let shown = path.display();
    let uid = metadata.uid();
    if uid != 0 && !is_outside(uid) {
        return Err(format!(
            "'{shown}' belongs to uid {uid}, who could change what root executes; make it root's: chown root '{shown}'"
        ));
    }
    let sticky_directory = metadata.is_dir() && metadata.mode() & 0o1000 != 0;
    // The group root holds nobody but root, so that its right to write is root's. With an access list the group's bits
    // are those of everybody named in it (acl(5)).
    let group_writes = metadata.mode() & 0o020 != 0 && (metadata.gid() != 0 || has_access_list(path));
    let harmless =
        trusted == Trusted::EmptyGroups && is_empty_group(metadata.gid()) && !has_access_list(path);
    let others = metadata.mode() & 0o002 != 0 || group_writes && !harmless;
    if others && !sticky_directory && !metadata.is_symlink() {
        return Err(can_be_written(path, metadata));
    }
    Ok(())
}

fn can_be_written(path: &Path, metadata: &Metadata) -> String {
    let (shown, mode) = (path.display(), metadata.mode() & 0o7777);
    format!(
        "'{shown}' can be written by others (mode {mode:04o}), who could change what root executes; mend it: chmod \
         go-w '{shown}'"
    )
}

/// Whether nobody is in a group, as the machine's own files say (group(5), passwd(5)).
fn is_empty_group(gid: u32) -> bool {
    let gid = gid.to_string();
    let lines = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    let has = |line: &&str| line.split(':').nth(2) == Some(&gid);
    let listed = lines("/etc/group");
    let group = listed.lines().find(has);
    let primary = lines("/etc/passwd").lines().any(|line| line.split(':').nth(3) == Some(&gid));
    !primary && group.is_some_and(|group| group.split(':').nth(3).is_none_or(str::is_empty))
}

fn has_access_list(path: &Path) -> bool {
    // Every list is longer than that (xattr(7): ERANGE).
    let list = rustix::fs::lgetxattr(path, "system.posix_acl_access", &mut [0_u8; 1]);
    matches!(list, Ok(_) | Err(Errno::RANGE))
}

/// Whether that uid stands for all users whom our user namespace does not map (`/` in a rootless container): what they
/// own belongs to somebody outside, who decides about this process anyway (user_namespaces(7)).
fn is_outside(uid: u32) -> bool {
    let number =
        |path: &str| std::fs::read_to_string(path).ok().and_then(|text| text.trim().parse::<u32>().ok());
    let whole = |map: &str| map.split_whitespace().eq(["0", "0", "4294967295"]);
    let mapped = std::fs::read_to_string("/proc/self/uid_map").is_ok_and(|map| !whole(&map));
    mapped && number("/proc/sys/kernel/overflowuid") == Some(uid)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::{PermissionsExt as _, symlink};

    fn mode(path: &Path, mode: u32) {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
    }

    /// A directory with a config file, as root; who owns a file is what is judged.
    fn as_root() -> Option<(tempfile::TempDir, PathBuf)> {
        if !rustix::process::geteuid().is_root() {
            eprintln!("skipped: needs root");
            return None;
        }
        let directory = tempfile::tempdir().unwrap();
        let config = directory.path().join("config.py");
        std::fs::write(&config, "content").unwrap();
        mode(&config, 0o644);
        Some((directory, config))
    }

    #[test]
    fn as_root_a_config_that_others_can_write_is_refused() {
        let Some((directory, config)) = as_root() else { return };
        assert_eq!(read_config(&config).as_deref(), Ok(b"content".as_slice()));
        mode(&config, 0o646);
        assert!(read_config(&config).unwrap_err().ends_with(&format!("chmod go-w '{}'", config.display())));
        mode(&config, 0o644);
        mode(directory.path(), 0o777);
        assert!(read_config(&config).unwrap_err().contains("mode 0777"));
        mode(directory.path(), 0o755);
        let link = directory.path().join("link.py");
        symlink("config.py", &link).unwrap();
        assert!(read_config(&link).is_ok());
        std::os::unix::fs::chown(&config, Some(65534), None).unwrap();
        assert!(read_config(&link).unwrap_err().contains("belongs to uid 65534"));
    }

    #[test]
    fn as_root_what_was_opened_is_what_is_checked() {
        let Some((directory, config)) = as_root() else { return };
        let opened = File::open(&config).unwrap().metadata().unwrap();
        assert_eq!(check_opened(&config, &opened), Ok(()));
        // Another file took its place, or none is there: what was checked is not what was opened.
        let other = directory.path().join("other.py");
        std::fs::write(&other, "").unwrap();
        std::fs::rename(&other, &config).unwrap();
        assert!(check_opened(&config, &opened).unwrap_err().contains("was replaced"));
        std::fs::remove_file(&config).unwrap();
        assert!(check_opened(&config, &opened).unwrap_err().contains("was replaced"));
        // Somebody else's file is refused, whatever the path leads to by now.
        std::fs::write(&config, "").unwrap();
        std::os::unix::fs::chown(&config, Some(65534), None).unwrap();
        let theirs = File::open(&config).unwrap().metadata().unwrap();
        std::fs::remove_file(&config).unwrap();
        assert!(check_opened(&config, &theirs).unwrap_err().contains("belongs to uid 65534"));
    }

    #[test]
    fn a_pipe_is_a_config_too() {
        let (reader, mut writer) = std::io::pipe().unwrap();
        std::io::Write::write_all(&mut writer, b"piped").unwrap();
        drop(writer);
        let path = format!("/dev/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&reader));
        assert_eq!(read_config(Path::new(&path)).as_deref(), Ok(b"piped".as_slice()));
    }

    #[test]
    fn what_cannot_be_read_is_said_as_python_says_it() {
        let missing = read_config(Path::new("/nonexistent/config.py")).unwrap_err();
        assert_eq!(missing, "[Errno 2] No such file or directory: '/nonexistent/config.py'");
        assert_eq!(read_config(Path::new("/")).unwrap_err(), "[Errno 21] Is a directory: '/'");
    }

    #[test]
    fn as_root_modules_that_others_can_make_are_refused() {
        let Some((directory, _)) = as_root() else { return };
        let modules = directory.path().join("modules");
        std::fs::create_dir(&modules).unwrap();
        mode(&modules, 0o755);
        assert_eq!(check_modules(&modules, true), Ok(()));
        assert_eq!(check_modules(&directory.path().join("missing"), true), Ok(()));
        // A sticky directory keeps others from replacing a module, but not from making one.
        mode(&modules, 0o1777);
        assert!(check_modules(&modules, true).unwrap_err().contains("mode 1777"));
        assert!(check_modules(&modules.join("missing"), true).unwrap_err().contains("everybody can make it"));
        mode(&modules, 0o775);
        std::os::unix::fs::chown(&modules, None, Some(54321)).unwrap();
        assert!(check_modules(&modules, true).is_err());
        assert!(check_modules(&modules, false).is_err(), "an unknown group is not known to be empty");
    }
}
