//! The installer on a root directory of its own: what is written, kept, removed and said.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use super::{Level, Outcome, install, uninstall};

/// A directory that stands for `/`, removed at the end of its test.
struct Root(PathBuf);

impl Root {
    fn new() -> Root {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("pyinotifyd-root-{}-{number}", std::process::id()));
        fs::create_dir_all(path.join("etc")).unwrap();
        Root(path)
    }

    fn with_systemd(self) -> Root {
        fs::create_dir_all(self.0.join("lib/systemd/system")).unwrap();
        self
    }

    fn with_openrc(self) -> Root {
        fs::create_dir_all(self.0.join("sbin")).unwrap();
        self.write("sbin/openrc", "#!/bin/sh\n");
        fs::set_permissions(self.0.join("sbin/openrc"), fs::Permissions::from_mode(0o755)).unwrap();
        self
    }

    fn write(&self, relative: &str, text: &str) {
        fs::write(self.0.join(relative), text).unwrap();
    }

    fn read(&self, relative: &str) -> String {
        fs::read_to_string(self.0.join(relative)).unwrap()
    }

    fn exists(&self, relative: &str) -> bool {
        fs::symlink_metadata(self.0.join(relative)).is_ok()
    }

    fn mode(&self, relative: &str) -> u32 {
        fs::metadata(self.0.join(relative)).unwrap().permissions().mode() & 0o7777
    }

    /// Runs the installer; the records come without the root and with their level.
    fn install(&self) -> (Outcome, Vec<String>) {
        let mut lines = Vec::new();
        let mut report = |level: Level, text: &str| lines.push(self.line(level, text));
        // A path that can't be had by others wherever the test runs: it does not exist, `/` belongs to root.
        let outcome = install(&self.0, Path::new("/nonexistent/pyinotifyd"), &mut report);
        (outcome, lines)
    }

    fn uninstall(&self) -> (Outcome, Vec<String>) {
        let mut lines = Vec::new();
        let mut report = |level: Level, text: &str| lines.push(self.line(level, text));
        let outcome = uninstall(&self.0, &mut report);
        (outcome, lines)
    }

    fn line(&self, level: Level, text: &str) -> String {
        format!("{level:?}: {}", text.replace(self.0.to_str().unwrap(), ""))
    }

    fn files(&self) -> Vec<String> {
        let mut found = Vec::new();
        let mut dirs = vec![self.0.clone()];
        while let Some(dir) = dirs.pop() {
            for entry in fs::read_dir(dir).unwrap().flatten() {
                if entry.file_type().unwrap().is_dir() {
                    dirs.push(entry.path());
                } else {
                    found.push(entry.path().strip_prefix(&self.0).unwrap().to_str().unwrap().to_owned());
                }
            }
        }
        found.sort();
        found
    }
}

impl Drop for Root {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

const INSTALLED: &str = "Info: pyinotifyd successfully installed";

#[test]
fn a_fresh_systemd_machine() {
    let root = Root::new().with_systemd();
    let (outcome, lines) = root.install();
    assert_eq!(outcome, Outcome::Done);
    assert_eq!(
        lines,
        [
            "Info: systemd detected",
            "Info:  => install file /lib/systemd/system/pyinotifyd.service",
            "Info:  => create directory /etc/pyinotifyd",
            "Info:  => install file /etc/pyinotifyd/config.py",
            "Info: next: systemctl daemon-reload && systemctl enable --now pyinotifyd.service",
            INSTALLED,
        ]
    );
    assert!(
        root.read("lib/systemd/system/pyinotifyd.service").contains("ExecStart=/nonexistent/pyinotifyd\n")
    );
    assert_eq!(root.mode("lib/systemd/system/pyinotifyd.service"), 0o644);
    assert_eq!(root.files(), ["etc/pyinotifyd/config.py", "lib/systemd/system/pyinotifyd.service"]);
}

#[test]
fn a_fresh_openrc_machine() {
    let root = Root::new().with_openrc();
    let (outcome, lines) = root.install();
    assert_eq!(outcome, Outcome::Done);
    assert_eq!(
        lines,
        [
            "Info: openrc detected",
            "Info:  => install file /etc/init.d/pyinotifyd",
            "Info:  => install file /etc/conf.d/pyinotifyd",
            "Info:  => create directory /etc/pyinotifyd",
            "Info:  => install file /etc/pyinotifyd/config.py",
            "Info: next: rc-update add pyinotifyd default && rc-service pyinotifyd start",
            INSTALLED,
        ]
    );
    assert_eq!(root.mode("etc/init.d/pyinotifyd"), 0o755);
    assert!(root.read("etc/init.d/pyinotifyd").contains("\ncommand=/nonexistent/pyinotifyd\n"));
}

#[test]
fn a_machine_with_neither_gets_the_config_and_a_warning() {
    let root = Root::new();
    let (outcome, lines) = root.install();
    assert_eq!(outcome, Outcome::Done);
    assert_eq!(lines[0], "Warning: neither systemd nor openrc detected, only the config is installed");
    assert_eq!(root.files(), ["etc/pyinotifyd/config.py"]);
}

#[test]
fn a_second_install_keeps_configuration_and_replaces_program_files() {
    let root = Root::new().with_systemd().with_openrc();
    root.install();
    root.write("etc/pyinotifyd/config.py", "mine");
    root.write("etc/conf.d/pyinotifyd", "mine");
    root.write("etc/init.d/pyinotifyd", "old");
    let (outcome, lines) = root.install();
    assert_eq!(outcome, Outcome::Done);
    for line in [
        "Info:  => file /etc/conf.d/pyinotifyd already exists",
        "Info:  => directory /etc/pyinotifyd already exists",
        "Info:  => file /etc/pyinotifyd/config.py already exists",
        "Info:  => install file /etc/init.d/pyinotifyd",
    ] {
        assert!(lines.iter().any(|found| found == line), "{line}: {lines:#?}");
    }
    assert_eq!(root.read("etc/pyinotifyd/config.py"), "mine");
    assert_eq!(root.read("etc/conf.d/pyinotifyd"), "mine");
    assert_ne!(root.read("etc/init.d/pyinotifyd"), "old");
    assert!(!root.exists("lib/systemd/system/pyinotifyd.service.old"), "the unit was not changed by hand");
}

#[test]
fn a_unit_changed_by_hand_is_replaced_and_a_copy_kept() {
    let root = Root::new().with_systemd();
    root.write("lib/systemd/system/pyinotifyd.service", "[Service]\nExecStart=/my/own\n");
    let (outcome, lines) = root.install();
    assert_eq!(outcome, Outcome::Done);
    assert!(
        lines[1].starts_with("Warning:  => file /lib/systemd/system/pyinotifyd.service was changed by hand")
    );
    assert_eq!(root.read("lib/systemd/system/pyinotifyd.service.old"), "[Service]\nExecStart=/my/own\n");
    assert!(
        root.read("lib/systemd/system/pyinotifyd.service").contains("ExecStart=/nonexistent/pyinotifyd\n")
    );
}

#[test]
fn uninstall_removes_what_install_wrote() {
    let root = Root::new().with_systemd().with_openrc();
    root.install();
    let (outcome, lines) = root.uninstall();
    assert_eq!(outcome, Outcome::Done);
    assert_eq!(
        lines,
        [
            "Info:  => uninstall file /lib/systemd/system/pyinotifyd.service",
            "Info:  => uninstall file /etc/init.d/pyinotifyd",
            "Info:  => uninstall file /etc/conf.d/pyinotifyd",
            "Info:  => uninstall file /etc/pyinotifyd/config.py",
            "Info:  => delete directory /etc/pyinotifyd",
            "Info: pyinotifyd successfully uninstalled",
        ]
    );
    assert_eq!(root.files(), ["sbin/openrc"]);
}

#[test]
fn uninstall_keeps_what_the_admin_changed() {
    let root = Root::new().with_systemd().with_openrc();
    root.install();
    root.write("etc/pyinotifyd/config.py", "mine");
    root.write("etc/conf.d/pyinotifyd", "mine");
    let (outcome, lines) = root.uninstall();
    assert_eq!(outcome, Outcome::Done);
    for line in [
        "Warning:  => keep modified file /etc/conf.d/pyinotifyd, you have to remove it manually",
        "Warning:  => keep modified file /etc/pyinotifyd/config.py, you have to remove it manually",
        "Warning:  => keep non-empty directory /etc/pyinotifyd",
    ] {
        assert!(lines.iter().any(|found| found == line), "{line}: {lines:#?}");
    }
    assert_eq!(root.files(), ["etc/conf.d/pyinotifyd", "etc/pyinotifyd/config.py", "sbin/openrc"]);
}

#[test]
fn uninstall_of_nothing_is_silent() {
    let root = Root::new();
    assert_eq!(
        root.uninstall(),
        (Outcome::Done, vec!["Info: pyinotifyd successfully uninstalled".to_owned()])
    );
}

#[test]
fn a_directory_in_the_place_of_a_file_is_said_and_the_rest_installed() {
    let root = Root::new().with_systemd();
    fs::create_dir(root.0.join("lib/systemd/system/pyinotifyd.service")).unwrap();
    let (outcome, lines) = root.install();
    assert_eq!(outcome, Outcome::Failed);
    assert!(lines.contains(&"Error:  => unable to copy file, destination path is a directory".to_owned()));
    assert!(!lines.contains(&INSTALLED.to_owned()));
    assert!(root.exists("etc/pyinotifyd/config.py"));
}

#[test]
fn a_config_directory_that_cannot_be_made_ends_it() {
    let root = Root::new();
    root.write("etc/pyinotifyd", "a file");
    let (outcome, lines) = root.install();
    assert_eq!(outcome, Outcome::Failed);
    let errors: Vec<_> = lines.iter().filter(|line| line.starts_with("Error: ")).collect();
    assert_eq!(errors.len(), 2, "{lines:#?}");
    assert_eq!(errors[0], "Error:  => unable to create directory /etc/pyinotifyd: File exists");
}

#[test]
fn a_leftover_of_a_killed_installer_does_not_matter() {
    let root = Root::new().with_systemd();
    root.write("lib/systemd/system/.pyinotifyd.service.pyinotifyd-new", "half");
    assert_eq!(root.install().0, Outcome::Done);
    assert_eq!(root.files(), ["etc/pyinotifyd/config.py", "lib/systemd/system/pyinotifyd.service"]);
}

#[test]
fn a_program_that_others_can_replace_is_warned_of() {
    let root = Root::new().with_systemd();
    let binary = root.0.join("pyinotifyd");
    root.write("pyinotifyd", "");
    fs::set_permissions(&binary, fs::Permissions::from_mode(0o777)).unwrap();
    let mut warnings = Vec::new();
    let mut report = |level: Level, text: &str| {
        if level == Level::Warning {
            warnings.push(text.to_owned());
        }
    };
    assert_eq!(install(&root.0, &binary, &mut report), Outcome::Done);
    assert!(warnings[0].contains("can be replaced by others than root"), "{warnings:?}");
}
