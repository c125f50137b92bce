//! The step between the daemon and a command, as the program that it is:
//! `pyinotifyd-exec ATTRIBUTES PROGRAM ARGUMENT…`.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::ffi::{CStr, CString};
use std::fs::{File, Permissions};
use std::io::{self, PipeReader, Read as _};
use std::os::fd::AsFd as _;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use rustix::process::{Pid, WaitOptions, getuid, waitpid};

/// What a run of the step left.
#[derive(Debug)]
struct Run {
    /// Of the command.
    stdout: String,
    /// Of the step: why it did not become the command.
    failure: String,
    status: i32,
}

/// Runs a line of the shell with these attributes; `changes` is what differs from no change at all.
fn run(changes: &[(&str, serde_json::Value)], line: &str) -> Run {
    become_command(changes, &["/bin/sh", "-c", line])
}

fn become_command(changes: &[(&str, serde_json::Value)], words: &[&str]) -> Run {
    let mut attributes = serde_json::json!({
        "identity": null, "umask": null, "nice": 0, "directory": null, "limits": [],
    });
    for (name, value) in changes {
        attributes[*name] = value.clone();
    }
    let program = CString::new(Path::new(env!("CARGO_BIN_EXE_pyinotifyd")).as_os_str().as_bytes()).unwrap();
    let attributes = attributes.to_string();
    let words = ["pyinotifyd-exec", &attributes].into_iter().chain(words.iter().copied());
    let words: Vec<CString> = words.map(|word| CString::new(word).unwrap()).collect();
    let words: Vec<&CStr> = words.iter().map(CString::as_c_str).collect();
    let (null, out, failure) = (File::open("/dev/null").unwrap(), io::pipe().unwrap(), io::pipe().unwrap());
    let files = [(null.as_fd(), 0), (out.1.as_fd(), 1), (failure.1.as_fd(), 3)];
    let pid = syscall::spawn::start(&program, &words, &[c"PATH=/usr/bin:/bin", c"ONE=1"], &files).unwrap();
    drop((out.1, failure.1));
    let (stdout, failure) = (text(out.0), text(failure.0));
    let (_, status) = waitpid(Pid::from_raw(pid), WaitOptions::empty()).unwrap().unwrap();
    Run { stdout, failure, status: status.exit_status().unwrap_or(-1) }
}

fn text(mut pipe: PipeReader) -> String {
    let mut text = String::new();
    pipe.read_to_string(&mut text).unwrap();
    text
}

/// Whether the test is run by root, who alone can become somebody else.
fn is_root() -> bool {
    let is_root = getuid().is_root();
    if !is_root {
        println!("skipped: needs root");
    }
    is_root
}

/// The values behind those names in proc_pid_status(5).
fn status(stdout: &str, names: &[&str]) -> Vec<String> {
    let value = |name: &&str| {
        let line = stdout.lines().find_map(|line| line.strip_prefix(*name)?.strip_prefix(':'));
        line.unwrap_or_else(|| panic!("{name} in {stdout}")).split_whitespace().collect::<Vec<_>>().join(" ")
    };
    names.iter().map(value).collect()
}

#[test]
fn without_changes_it_is_the_command_with_nothing_more() {
    let run = run(
        &[],
        "ls /proc/self/fd | wc -l; echo $ONE; umask; grep -E '^Sig(Blk|Ign)' /proc/self/status; exit 3",
    );
    let lines: Vec<&str> = run.stdout.lines().collect();
    // 0, 1, 2 and the one that ls opens.
    assert_eq!(lines[..2], ["4", "1"]);
    assert_eq!(status(&run.stdout, &["SigBlk"]), ["0000000000000000"]);
    let ignored = u64::from_str_radix(&status(&run.stdout, &["SigIgn"])[0], 16).unwrap();
    // Signals 32 and 33 are the C library's own, which leaves them ignored.
    assert_eq!(ignored & 0x7fff_ffff, 0, "SIGPIPE too, which Rust's runtime ignores");
    assert_eq!((run.failure.as_str(), run.status), ("", 3));
}

#[test]
fn umask_niceness_directory_and_limits_are_taken_on() {
    let changes = [
        ("umask", 0o27.into()),
        ("nice", 3.into()),
        ("directory", serde_json::json!(b"/usr")),
        ("limits", serde_json::json!([["nofile", 64], ["core", 0]])),
    ];
    let before = rustix::process::getpriority_process(None).unwrap();
    let run = run(&changes, "umask; nice; pwd; ulimit -Sn; ulimit -Hn; ulimit -Hc");
    let nice = (before + 3).min(19);
    assert_eq!(run.stdout, format!("0027\n{nice}\n/usr\n64\n64\n0\n"), "{run:?}");
}

#[test]
fn what_keeps_it_from_the_command_is_said_to_the_daemon_alone() {
    let nowhere = ("directory", serde_json::json!(b"/nowhere/\xff"));
    let cases = [
        (nowhere, "/bin/sh", r"cannot run in '/nowhere/\udcff': No such file or directory"),
        (("nice", 0.into()), "/nowhere/sh", "cannot execute '/nowhere/sh': No such file or directory"),
        (("nice", 0.into()), "/etc/passwd", "cannot execute '/etc/passwd': Permission denied"),
        (("limits", serde_json::json!([["nofiles", 1]])), "/bin/sh", "there is no limit 'nofiles'"),
    ];
    for (change, program, expected) in cases {
        let run = become_command(&[change], &[program, "-c", "echo RAN"]);
        assert_eq!((run.failure.as_str(), run.status), (expected, 126));
        assert_eq!(run.stdout, "");
    }
}

#[test]
fn another_user_has_no_group_and_no_capability_of_root() {
    if !is_root() {
        return;
    }
    let identity = serde_json::json!({"uid": 54321, "gid": 54322, "groups": [54322, 54323]});
    let run = run(&[("identity", identity)], "cat /proc/self/status; ls /proc/self/fd | wc -l");
    let names = ["Uid", "Gid", "Groups", "CapInh", "CapPrm", "CapEff", "CapAmb"];
    let none = "0000000000000000";
    let uid = "54321 54321 54321 54321";
    let gid = "54322 54322 54322 54322";
    assert_eq!(status(&run.stdout, &names), [uid, gid, "54322 54323", none, none, none, none]);
    assert_eq!(run.stdout.lines().last(), Some("4"));
}

#[test]
fn what_needs_the_rights_of_root_is_done_before_they_are_gone() {
    if !is_root() {
        return;
    }
    let hard = rustix::process::getrlimit(rustix::process::Resource::Nofile).maximum.unwrap_or(1024);
    let changes = [
        ("identity", serde_json::json!({"uid": 54321, "gid": 54322, "groups": []})),
        ("limits", serde_json::json!([["nofile", hard + 1]])),
        ("nice", (-1).into()),
    ];
    let run = run(&changes, "id -u; ulimit -n");
    if run.failure.starts_with("cannot set") {
        // A container may keep these rights from its root.
        println!("skipped: root may not raise limits here");
        return;
    }
    assert_eq!(run.stdout, format!("54321\n{}\n", hard + 1), "{run:?}");
}

#[test]
fn a_directory_that_only_root_may_enter_is_closed_to_another_user() {
    if !is_root() {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    std::fs::set_permissions(directory.path(), Permissions::from_mode(0o700)).unwrap();
    let path = directory.path().as_os_str().as_bytes();
    let identity = serde_json::json!({"uid": 54321, "gid": 54322, "groups": []});
    let run = run(&[("identity", identity), ("directory", serde_json::json!(path))], "echo RAN");
    let expected = format!("cannot run in '{}': Permission denied", directory.path().display());
    assert_eq!((run.failure, run.stdout.as_str()), (expected, ""));
}
