//! Trees with something in them that was made to be a nuisance, and filesystems that lack what others have (faults A10,
//! A11, A14).

use rustix::fs::{CWD, RenameFlags};
use rustix::io::Errno;

use super::*;
use crate::sys::fault;

/// More calls than any of these actions makes.
const CALLS_MAX: u32 = 2_000;

/// A tree of which everything can be copied.
fn sample(scene: &Scene) {
    scene.write("in/t/a/f", "one");
    scene.write("in/t/z/g", "two");
    scene.write("in/t/h", "three");
}

fn assert_rest_is_there(scene: &Scene, context: &str) {
    for (name, content) in [("a/f", "one"), ("z/g", "two"), ("h", "three")] {
        assert_eq!(
            scene.read(&format!("out/t/{name}")).as_deref(),
            Some(content.as_bytes()),
            "{name}: {context}"
        );
    }
}

/// Makes the entries of a hostile tree that can be made by a name alone.
fn hostile(what: &str, path: &Path) {
    match what {
        "long link" => std::os::unix::fs::symlink("x".repeat(300), path).unwrap(),
        "link in a circle" => std::os::unix::fs::symlink(path.file_name().unwrap(), path).unwrap(),
        "link through a file" => std::os::unix::fs::symlink("h/nothing", path).unwrap(),
        "fifo" => make_fifo(path),
        "socket" => drop(std::os::unix::net::UnixListener::bind(path).unwrap()),
        what => unreachable!("{what}"),
    }
}

#[test]
fn one_hostile_entry_is_left_out_of_a_copy_and_named() {
    // What a link holds is copied with it, whatever that is; the others are left out.
    for (what, is_copied) in [
        ("long link", true),
        ("link in a circle", true),
        ("link through a file", true),
        ("fifo", false),
        ("socket", false),
    ] {
        let scene = Scene::in_memory();
        sample(&scene);
        hostile(what, &scene.path("in/t/a/bad"));
        let outcome = scene.act(&rule(Action::Copy), "in/t", "out/t");
        assert_rest_is_there(&scene, what);
        assert_eq!(scene.exists("out/t/a/bad"), is_copied, "{what}: {outcome:?}");
        assert!(outcome.records.iter().any(|record| record.contains("in/t/a/bad")), "{what}: {outcome:?}");
        if is_copied {
            outcome.done();
        } else {
            assert!(
                outcome.error(&scene).starts_with("1 entry of 'in/t' not copied to 'out/t', the first"),
                "{what}"
            );
        }
    }
}

#[test]
fn a_file_that_is_larger_than_the_filesystem_can_hold_costs_only_itself() {
    // The source is in memory, where a file of an exabyte is nothing but its length.
    let Some(mut scene) = Scene::across() else { return };
    let (memory, disk) = (scene.other.clone().unwrap(), scene.base.clone());
    fs::create_dir(memory.join("in")).unwrap();
    (scene.base, scene.other) = (memory, Some(disk));
    if fs::File::create(scene.path("out/huge")).unwrap().set_len(1 << 60).is_ok() {
        eprintln!("skipped: a file of an exabyte fits here");
        return;
    }
    sample(&scene);
    fs::File::create(scene.path("in/t/a/huge")).unwrap().set_len(1 << 60).unwrap();
    let outcome = scene.act(&rule(Action::Copy), "in/t", "out/t");
    assert_rest_is_there(&scene, "huge");
    let text = outcome.error(&scene);
    assert!(text.contains("1 entry of 'in/t' not copied") && text.contains("in/t/a/huge"), "{text}");
    assert!(!scene.exists("out/t/a/huge"));
    // Of a move nothing is removed.
    assert!(scene.act(&rule(Action::Move), "in/t", "out/u").result.is_err());
    let kept = ["a/f", "a/huge", "z/g", "h"].map(|name| scene.exists(&format!("in/t/{name}")));
    assert_eq!((kept, scene.exists("out/u")), ([true; 4], false));
}

#[test]
fn what_can_not_be_read_or_does_not_fit_is_left_out_wherever_it_is() {
    // Each of these calls fails for one entry only, whichever that is.
    let cases = [
        ("openat", Errno::ACCESS),
        ("openat", Errno::AGAIN),
        ("openat", Errno::NXIO),
        ("ftruncate", Errno::FBIG),
        ("pread", Errno::IO),
        ("pwrite", Errno::FBIG),
        ("flistxattr", Errno::ACCESS),
        ("fsetxattr", Errno::NOSPC),
        ("fsetxattr", Errno::TOOBIG),
    ];
    for (call, errno) in cases {
        for nth in 1..6 {
            for merge in [false, true] {
                let scene = Scene::new();
                sample(&scene);
                let file = fs::File::create(scene.path("in/t/sparse")).unwrap();
                file.set_len(1 << 20).unwrap();
                if rustix::fs::fsetxattr(&file, "user.of", b"ours", rustix::fs::XattrFlags::empty()).is_err()
                {
                    eprintln!("skipped: no extended attributes here");
                }
                if merge {
                    scene.write("out/t/kept", "kept");
                }
                let mut calls = 0;
                let plan: fault::Plan = Box::new(move |_, name| {
                    calls += u32::from(name == call);
                    // The first calls look the paths up and open the tree.
                    if name == call && calls == nth + if call == "openat" { 8 } else { 0 } {
                        Err(errno)
                    } else {
                        Ok(())
                    }
                });
                let (outcome, _) =
                    fault::with(plan, || scene.act(&overwriting(Action::Copy), "in/t", "out/t"));
                let context = format!("{call} fails with {errno:?}, {nth}, merge: {merge}: {outcome:?}");
                let expected = ["a/f", "z/g", "h", "sparse"];
                let there = expected.iter().filter(|name| scene.exists(&format!("out/t/{name}"))).count();
                match &outcome.result {
                    Ok(_) => assert_eq!(there, 4, "{context}"),
                    Err(Error::LeftOut { count, .. }) => {
                        assert_eq!(*count, 1, "{context}");
                        assert!((2..=4).contains(&there), "{context}");
                        for (name, content) in [("a/f", "one"), ("z/g", "two"), ("h", "three")] {
                            let found = scene.read(&format!("out/t/{name}"));
                            assert!(
                                found.is_none_or(|found| found == content.as_bytes()),
                                "half of it: {context}"
                            );
                        }
                    }
                    // Where the destination itself could not be opened or made.
                    Err(_) => assert_eq!(there, 0, "{context}"),
                }
                assert_eq!(scene.temporaries(), [] as [PathBuf; 0], "{context}");
                assert_eq!(scene.exists("out/t/kept"), merge, "{context}");
            }
        }
    }
}

#[test]
fn a_full_disk_ends_a_copy_that_nothing_of_it_is_left() {
    for errno in [Errno::NOSPC, Errno::DQUOT, Errno::ROFS] {
        let scene = Scene::in_memory();
        sample(&scene);
        let (outcome, _) =
            fault::with(fault::fail_all("pwrite", errno), || scene.act(&rule(Action::Copy), "in/t", "out/t"));
        assert_eq!(outcome.result.unwrap_err().errno(), Some(errno.raw_os_error()));
        assert!(!scene.exists("out/t"));
    }
}

#[test]
fn of_a_move_nothing_is_removed_that_was_not_copied() {
    for what in ["fifo", "socket"] {
        let Some(scene) = Scene::across() else { return };
        sample(&scene);
        hostile(what, &scene.path("in/t/a/bad"));
        let before = scene.tree("in");
        assert!(scene.act(&rule(Action::Move), "in/t", "out/t").result.is_err());
        assert_eq!(scene.tree("in"), before, "{what}");
        assert!(!scene.exists("out/t"));
    }
}

#[test]
fn a_file_that_never_stops_changing_costs_only_itself() {
    let scene = Scene::in_memory();
    sample(&scene);
    let path = scene.write("in/t/a/busy", "busy");
    let mut turn = 0_u32;
    let plan: fault::Plan = Box::new(move |_, call| {
        if call == "utimensat" {
            turn += 1;
            fs::write(&path, format!("busy {turn}")).unwrap();
        }
        Ok(())
    });
    let (outcome, _) = fault::with(plan, || scene.act(&rule(Action::Copy), "in/t", "out/t"));
    let text = outcome.error(&scene);
    assert!(text.contains("'in/t/a/busy' was changed while it was copied"), "{text}");
    assert_rest_is_there(&scene, "busy");
    assert!(!scene.exists("out/t/a/busy"));
}

/// The owner of a directory moves it out of the tree, to another place in it, or exchanges it with another, just before
/// the n-th call, for each n. That costs what was moved, and nothing else.
#[test]
fn a_directory_that_is_moved_while_it_is_walked_costs_only_itself() {
    for (what, from, to) in [
        ("out of the tree", "in/t/a", "in/away"),
        ("within the tree", "in/t/a", "in/t/z/a"),
        ("exchanged", "in/t/a", "in/t/m"),
        ("out of the tree", "in/t/a/deep", "in/away"),
        ("up", "in/t/a/deep", "in/t/deep"),
    ] {
        for n in 1..CALLS_MAX {
            let scene = Scene::in_memory();
            sample(&scene);
            scene.write("in/t/a/deep/e", "four");
            scene.write("in/t/m/i", "five");
            let (old, new) = (scene.path(from), scene.path(to));
            let plan: fault::Plan = Box::new(move |call, _| {
                if call == n {
                    let flags =
                        if what == "exchanged" { RenameFlags::EXCHANGE } else { RenameFlags::NOREPLACE };
                    rustix::fs::renameat_with(CWD, &old, CWD, &new, flags).unwrap();
                }
                Ok(())
            });
            let (outcome, calls) = fault::with(plan, || scene.act(&rule(Action::Copy), "in/t", "out/t"));
            let context = format!("{from} {what} before call {n} of {calls}: {outcome:?}");
            for (name, content) in [("z/g", "two"), ("h", "three")] {
                let copied = scene.read(&format!("out/t/{name}"));
                assert_eq!(copied.as_deref(), Some(content.as_bytes()), "{name}: {context}");
            }
            if let Err(error) = &outcome.result {
                let Error::LeftOut { first, .. } = error else { panic!("{context}") };
                assert!(
                    first.to_string().contains("/t/a") || first.to_string().contains("/t/m"),
                    "{context}"
                );
            }
            if calls < n {
                assert_rest_is_there(&scene, &context);
                break;
            }
        }
    }
}

#[test]
fn a_tree_that_is_too_deep_costs_only_what_is_too_deep() {
    let scene = Scene::in_memory();
    sample(&scene);
    let mut directory = fs::File::open(scene.path("in/t/a")).unwrap();
    for _ in 0..10_050 {
        rustix::fs::mkdirat(&directory, "d", rustix::fs::Mode::RWXU).unwrap();
        let flags = rustix::fs::OFlags::RDONLY | rustix::fs::OFlags::DIRECTORY;
        directory = rustix::fs::openat(&directory, "d", flags, rustix::fs::Mode::empty()).unwrap().into();
    }
    let outcome = scene.act(&rule(Action::Copy), "in/t", "out/t");
    assert_rest_is_there(&scene, "deep");
    let Err(Error::LeftOut { count: 1, first, .. }) = &outcome.result else { panic!("{outcome:?}") };
    assert!(matches!(**first, Error::TooLarge { .. }));
    for directory in ["in/t", "out/t"] {
        assert!(
            std::process::Command::new("rm")
                .arg("-rf")
                .arg(scene.path(directory))
                .status()
                .unwrap()
                .success()
        );
    }
}

/// Moves the destination into the source once the copy has begun, for each call there is.
#[test]
fn a_destination_that_is_moved_into_the_source_has_an_end() {
    for (action, merge) in [(Action::Copy, false), (Action::Copy, true), (Action::Move, false)] {
        for n in 1..400 {
            let Some(scene) =
                (if action == Action::Move { Scene::across() } else { Some(Scene::in_memory()) })
            else {
                return;
            };
            sample(&scene);
            fs::create_dir(scene.path("in/t/deep")).unwrap();
            if merge {
                scene.write("out/t/kept", "kept");
            }
            let (from, to) = (scene.path("out"), scene.path("in/t/deep/out"));
            let plan: fault::Plan = Box::new(move |call, _| {
                assert!(call < 5_000, "it copies its own copy");
                if call == n {
                    let _ = fs::rename(&from, &to);
                }
                Ok(())
            });
            let rule = overwriting(action);
            let (outcome, calls) = fault::with(plan, || scene.act(&rule, "in/t", "out/t"));
            let mut found = Vec::new();
            find(&scene.path("in"), &|name| name == b"deep", &mut found);
            assert!(found.len() <= 2, "copies of the copy, call {n}: {outcome:?}");
            assert_eq!(scene.temporaries(), [] as [PathBuf; 0], "{action}, call {n}: {outcome:?}");
            if action == Action::Move {
                // The rename fails: it is another filesystem, and that is the case that the move is for.
                outcome.done();
            }
            if calls < n {
                break;
            }
        }
    }
}

/// As between two mounts of one filesystem, where a rename says EXDEV and the owner can move one into the other.
#[test]
fn a_destination_that_is_moved_into_a_moved_source_puts_nothing_off() {
    let mut ends = Vec::new();
    for n in 1..400 {
        let scene = Scene::in_memory();
        sample(&scene);
        fs::create_dir(scene.path("in/t/deep")).unwrap();
        let before = scene.tree("in/t/a");
        let (from, to) = (scene.path("out"), scene.path("in/t/deep/out"));
        let mut renames = 0;
        let plan: fault::Plan = Box::new(move |call, name| {
            if call == n {
                let _ = fs::rename(&from, &to);
            }
            renames += u32::from(name == "renameat2");
            if name == "renameat2" && renames <= 2 { Err(Errno::XDEV) } else { Ok(()) }
        });
        let (outcome, calls) = fault::with(plan, || scene.act(&rule(Action::Move), "in/t", "out/t"));
        match outcome.result {
            Err(Error::InUse { why: crate::Use::Ours, .. }) => panic!("it waits for itself, call {n}"),
            Err(Error::IntoItself { .. }) => {
                assert_eq!(scene.tree("in/t/a"), before, "call {n}");
                ends.push(n);
            }
            _ => {}
        }
        if calls < n {
            break;
        }
    }
    assert!(ends.len() > 1, "it is found while it is copied: {ends:?}");
}

/// As if the filesystem of the destination had none of these calls.
fn without(calls: &'static [(&'static str, Errno)]) -> fault::Plan {
    Box::new(move |_, call| {
        calls.iter().find(|(name, _)| *name == call).map_or(Ok(()), |(_, errno)| Err(*errno))
    })
}

#[test]
fn what_the_rule_did_not_ask_for_is_no_error_where_it_can_not_be_had() {
    let filesystems: [&'static [(&str, Errno)]; 6] = [
        &[("renameat2", Errno::INVAL), ("linkat", Errno::PERM)],
        &[("renameat2", Errno::INVAL), ("linkat", Errno::OPNOTSUPP)],
        &[("renameat2", Errno::NOSYS), ("linkat", Errno::MLINK)],
        &[("fchownat", Errno::NOSYS), ("renameat2", Errno::OPNOTSUPP)],
        &[("fchownat", Errno::OPNOTSUPP), ("fchmod", Errno::PERM), ("utimensat", Errno::PERM)],
        &[
            ("fchmod", Errno::OPNOTSUPP),
            ("utimensat", Errno::NOSYS),
            ("fsync", Errno::INVAL),
            ("fremovexattr", Errno::NOSYS),
        ],
    ];
    for missing in filesystems {
        for (action, across) in [(Action::Move, false), (Action::Move, true), (Action::Copy, false)] {
            for object in ["in/f", "in/t"] {
                let Some(scene) = (if across { Scene::across() } else { Some(Scene::in_memory()) }) else {
                    return;
                };
                sample(&scene);
                scene.write("in/f", "content");
                let destination = object.replacen("in", "out", 1);
                let mut looks = 0;
                let mut absent = without(missing);
                // The first rename of a move across filesystems is the question whether it is one.
                let plan: fault::Plan = Box::new(move |n, call| {
                    looks += u32::from(call == "renameat2");
                    if across && call == "renameat2" && looks <= 2 {
                        Err(Errno::XDEV)
                    } else {
                        absent(n, call)
                    }
                });
                let (outcome, _) = fault::with(plan, || scene.act(&rule(action), object, &destination));
                assert!(outcome.result.is_ok(), "{action} of {object} without {missing:?}: {outcome:?}");
                assert_eq!(scene.exists(object), action == Action::Copy);
                if object == "in/t" {
                    assert_rest_is_there(&scene, "");
                } else {
                    assert!(scene.exists("out/f"));
                }
                assert_eq!(scene.temporaries(), [] as [PathBuf; 0]);
                // A name that is taken is taken there, too.
                sample(&scene);
                scene.write("in/f", "newer");
                let (outcome, _) =
                    fault::with(without(missing), || scene.act(&rule(action), object, &destination));
                assert!(matches!(outcome.result, Err(Error::Exists { .. })), "{outcome:?}");
                if object == "in/f" {
                    assert_eq!(scene.read("out/f").unwrap(), b"content");
                }
            }
        }
    }
}

#[test]
fn what_the_rule_asks_for_is_an_error_where_it_can_not_be_had() {
    if !is_root() {
        return;
    }
    let with_mode = |action| Rule { filemode: Some(0o600), ..rule(action) };
    let with_owner = |action| Rule { user: Some("nobody".into()), ..rule(action) };
    for (call, errno, asked) in
        [("fchmod", Errno::PERM, with_mode as fn(Action) -> Rule), ("fchownat", Errno::NOSYS, with_owner)]
    {
        let scene = Scene::in_memory();
        scene.write("in/f", "content");
        let (outcome, _) =
            fault::with(fault::fail_all(call, errno), || scene.act(&asked(Action::Copy), "in/f", "out/f"));
        assert_eq!(outcome.result.unwrap_err().errno(), Some(errno.raw_os_error()), "{call}");
        assert!(!scene.exists("out/f"));
    }
}

#[test]
fn that_a_name_was_only_looked_at_is_said_once() {
    // In a process of its own, since it is said once a process.
    let output =
        child_test("tests::hostile::said_once_child", ("FILES_TEST_ONCE", OsStr::new("1"))).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{text}");
}

/// Not a test of its own.
#[test]
fn said_once_child() {
    if std::env::var_os("FILES_TEST_ONCE").is_none() {
        return;
    }
    let scene = Scene::in_memory();
    let mut said = 0;
    for name in ["f", "g", "h"] {
        scene.write(&format!("in/{name}"), "content");
        let plan = without(&[("renameat2", Errno::INVAL), ("linkat", Errno::PERM)]);
        let (outcome, _) = fault::with(plan, || {
            scene.act(&rule(Action::Copy), &format!("in/{name}"), &format!("out/{name}"))
        });
        outcome.done();
        said += outcome.records.iter().filter(|record| record.contains("said once")).count();
    }
    assert_eq!(said, 1);
}

#[test]
fn what_another_action_is_making_is_left_out_of_a_copy_and_puts_a_move_off() {
    let (tree, other) = (Scene::across(), Scene::in_memory());
    for scene in [tree, Some(other)].into_iter().flatten() {
        sample(&scene);
        // Another action has a file in the making there; a stranger has one whose name only looks like it.
        let directory = fs::File::open(scene.path("in/t/a")).unwrap();
        let (temporary, _file) = crate::temporary::Temporary::file(directory).unwrap();
        let name = String::from_utf8(temporary.name().to_vec()).unwrap();
        let stranger = name.replace(&name[12..15], "AAA");
        scene.write(&format!("in/t/a/{stranger}"), "his");
        scene.write(&format!("in/t/z/{name}"), "his, too");
        let outcome = scene.act(&rule(Action::Copy), "in/t", "out/t");
        outcome.done();
        assert_rest_is_there(&scene, "");
        assert!(!scene.exists(&format!("out/t/a/{name}")));
        assert!(scene.exists(&format!("out/t/a/{stranger}")) && scene.exists(&format!("out/t/z/{name}")));
        if scene.other.is_some() {
            let before = scene.tree("in");
            let outcome = scene.act(&rule(Action::Move), "in/t", "out/u");
            assert!(matches!(outcome.result, Err(Error::InUse { why: crate::Use::Ours, .. })), "{outcome:?}");
            assert_eq!(scene.tree("in"), before);
        }
        drop(temporary);
    }
}
