//! The table of mounts against the real kernel, in namespaces of their own (unshare(1)).

use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;
use std::process::{Command, Stdio};

use mounts::Mounts;

/// Set in the namespaces.
const INSIDE: &str = "MOUNTS_TEST_INSIDE";

/// Runs the test of this name again, in new user and mount namespaces. True inside.
fn is_inside(name: &str) -> bool {
    if std::env::var_os(INSIDE).is_some() {
        return true;
    }
    let possible = Command::new("unshare").args(["-Urm", "true"]).stderr(Stdio::null()).status();
    if !possible.is_ok_and(|status| status.success()) {
        println!("skipped: no user namespaces here");
        return false;
    }
    let output = Command::new("unshare")
        .arg("-Urm")
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", &format!("table::{name}"), "--nocapture"])
        .env(INSIDE, "1")
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && text.contains("1 passed"), "{text}");
    false
}

fn mount(arguments: &[&str], point: &Path) {
    let status = Command::new("mount").args(arguments).arg(point).status().unwrap();
    assert!(status.success(), "mount {arguments:?} {}", point.display());
}

/// Type and number of the device where a path leads, by the table; the number is compared with the kernel's.
fn fstype(path: &Path) -> String {
    let mounts = Mounts::read().unwrap();
    let way = mounts.way(path.as_os_str().as_bytes());
    let device = std::os::unix::fs::MetadataExt::dev(&fs::metadata(path).unwrap());
    assert_eq!(way.mount.device, device, "{}", path.display());
    assert_eq!(way.path, path.canonicalize().unwrap().as_os_str().as_bytes());
    assert!(way.is_local());
    String::from_utf8(way.mount.fstype.clone()).unwrap()
}

#[test]
fn mounts_are_found_where_the_kernel_has_them() {
    if !is_inside("mounts_are_found_where_the_kernel_has_them") {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let top = dir.path().join("a b\\c");
    for name in ["tmpfs", "bind", "hidden"] {
        fs::create_dir_all(top.join(name)).unwrap();
    }
    mount(&["-t", "tmpfs", "none"], &top.join("tmpfs"));
    fs::create_dir(top.join("tmpfs/sub")).unwrap();
    assert_eq!(fstype(&top.join("tmpfs/sub")), "tmpfs");
    mount(&["--bind", top.join("tmpfs/sub").to_str().unwrap()], &top.join("bind"));
    assert_eq!(fstype(&top.join("bind")), "tmpfs");
    std::os::unix::fs::symlink("a b\\c/bind", dir.path().join("link")).unwrap();
    assert_eq!(fstype(&dir.path().join("link")), "tmpfs");
    // Stacked: the last wins.
    mount(&["-t", "ramfs", "none"], &top.join("bind"));
    assert_eq!(fstype(&top.join("bind")), "ramfs");
    // A mount above hides what is mounted below.
    fs::create_dir(top.join("tmpfs/sub/deep")).unwrap();
    mount(&["-t", "ramfs", "none"], &top.join("tmpfs/sub/deep"));
    assert_eq!(fstype(&top.join("tmpfs/sub/deep")), "ramfs");
    mount(&["-t", "tmpfs", "none"], &top.join("tmpfs/sub"));
    fs::create_dir(top.join("tmpfs/sub/deep")).unwrap();
    assert_eq!(fstype(&top.join("tmpfs/sub/deep")), "tmpfs");
}

#[test]
fn the_root_directory_and_proc_are_known() {
    let mounts = Mounts::read().unwrap();
    assert_eq!(mounts.way(b"/proc/self/status").mount.fstype, b"proc");
    assert_eq!(mounts.way(b"/proc").mount.unseen(), Some("proc"));
    assert!(mounts.iter().any(|mount| mount.point == b"/proc"));
}
