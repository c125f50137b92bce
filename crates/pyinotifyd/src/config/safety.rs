//! Whether a config file is safe to execute: as root, nobody else may be able to write what we run.

use std::os::unix::fs::MetadataExt as _;
use std::path::{Component, Path, PathBuf};

use rustix::io::Errno;

/// Refuses, as root, a config file that others could have written: the file itself, each link on the way to it and each
/// directory above them must belong to root and must not be writable by group or others. A sticky directory such as
/// /tmp does as a parent, since only the owner can replace what is in it.
///
/// Other users run their own files at their own risk: what they can write, they could run anyway.
///
/// # Errors
/// A text that names the path, what is wrong with it, and the command that mends it.
pub(crate) fn check_safety(config: &Path) -> Result<(), String> {
    if !rustix::process::geteuid().is_root() {
        return Ok(());
    }
    let Ok(absolute) = std::path::absolute(config) else { return Ok(()) };
    check_way(&absolute, &mut 0)
}

/// Links followed before we give up, as the kernel does (ELOOP, path_resolution(7)).
const LINKS_MAX: u32 = 40;

fn check_way(path: &Path, links: &mut u32) -> Result<(), String> {
    let mut way = PathBuf::new();
    let mut components = path.components().peekable();
    while let Some(component) = components.next() {
        if component == Component::ParentDir {
            way.pop();
            continue;
        }
        way.push(component);
        // What cannot be looked at cannot be opened either, which says it better.
        let Ok(metadata) = std::fs::symlink_metadata(&way) else { return Ok(()) };
        check_one(&way, &metadata)?;
        if metadata.is_symlink() {
            *links += 1;
            let Ok(target) = std::fs::read_link(&way) else { return Ok(()) };
            if *links > LINKS_MAX {
                return Ok(());
            }
            way.pop();
            let rest: PathBuf = components.collect();
            return check_way(&way.join(target).join(rest), links);
        }
    }
    Ok(())
}

fn check_one(path: &Path, metadata: &std::fs::Metadata) -> Result<(), String> {
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
    let others = metadata.mode() & 0o002 != 0 || group_writes;
    if others && !sticky_directory && !metadata.is_symlink() {
        return Err(format!(
            "'{shown}' can be written by others (mode {:04o}), who could change what root executes; mend it: chmod go-w '{shown}'",
            metadata.mode() & 0o7777
        ));
    }
    Ok(())
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

    /// Needs root: who owns a file is what is judged.
    #[test]
    fn as_root_a_config_that_others_can_write_is_refused() {
        if !rustix::process::geteuid().is_root() {
            eprintln!("skipped: needs root");
            return;
        }
        let directory = tempfile::tempdir().unwrap();
        let config = directory.path().join("config.py");
        std::fs::write(&config, "").unwrap();
        mode(&config, 0o644);
        assert_eq!(check_safety(&config), Ok(()));
        mode(&config, 0o646);
        assert!(check_safety(&config).unwrap_err().ends_with(&format!("chmod go-w '{}'", config.display())));
        mode(&config, 0o644);
        mode(directory.path(), 0o777);
        assert!(check_safety(&config).unwrap_err().contains("mode 0777"));
        mode(directory.path(), 0o755);
        let link = directory.path().join("link.py");
        symlink("config.py", &link).unwrap();
        assert_eq!(check_safety(&link), Ok(()));
        std::os::unix::fs::chown(&config, Some(65534), None).unwrap();
        assert!(check_safety(&link).unwrap_err().contains("belongs to uid 65534"));
    }
}
