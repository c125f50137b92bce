//! What happens where the destination's name is taken, where nothing is mounted, and what becomes of emptied
//! directories.

use std::cell::Cell;
use std::rc::Rc;

use rustix::io::Errno;

use super::crash::{child_scene, with_mounts};
use super::*;
use crate::Skipped;
use crate::sys::fault;

fn with_conflict(action: Action, on_conflict: Conflict) -> Rule {
    Rule { on_conflict, ..rule(action) }
}

/// Sets the time of the last write, in seconds before now.
fn set_age(scene: &Scene, name: &str, seconds: u64) {
    let time = std::time::SystemTime::now() - std::time::Duration::from_secs(seconds);
    fs::File::options().append(true).open(scene.path(name)).unwrap().set_modified(time).unwrap();
}

fn scenes() -> impl Iterator<Item = Scene> {
    [Some(Scene::in_memory()), Scene::across()].into_iter().flatten()
}

#[test]
fn a_taken_name_is_skipped() {
    for scene in scenes() {
        for action in [Action::Move, Action::Copy] {
            for (source, target) in
                [("in/f", "out/f"), ("in/f", "out/d"), ("in/d", "out/f"), ("in/d", "out/d")]
            {
                scene.write("in/f", "new");
                scene.write("in/d/f", "new");
                scene.write("out/f", "old");
                scene.write("out/d/f", "old");
                let before = (scene.tree("in"), scene.tree("out"));
                let outcome = scene.act(&with_conflict(action, Conflict::Skip), source, target);
                assert_eq!(outcome.done().skipped, Some(Skipped::Exists));
                assert_eq!(outcome.records, [format!("skip '{source}', '{target}' exists")]);
                assert_eq!((scene.tree("in"), scene.tree("out")), before);
            }
            // Where it is free, it is taken.
            scene.write("in/g", "new");
            let outcome = scene.act(&with_conflict(action, Conflict::Skip), "in/g", &format!("out/{action}"));
            assert_eq!(outcome.done().skipped, None);
            assert!(scene.exists(&format!("out/{action}")));
        }
    }
}

#[test]
fn a_taken_name_gets_a_number() {
    for scene in scenes() {
        for action in [Action::Move, Action::Copy] {
            let rule = with_conflict(action, Conflict::Rename);
            let target = format!("out/{action}.tar.gz");
            for (number, wanted) in ["", ".1", ".2"].into_iter().enumerate() {
                scene.write("in/f", format!("file {number}"));
                let outcome = scene.act(&rule, "in/f", &target);
                let wanted = format!("out/{action}.tar{wanted}.gz");
                assert_eq!(outcome.records, [format!("{action} 'in/f' to '{wanted}'")]);
                assert_eq!(scene.read(&wanted).unwrap(), format!("file {number}").into_bytes());
                if let Some(placed) = outcome.done().placed {
                    assert_eq!(placed.path, scene.path(&wanted).as_os_str().as_bytes());
                    assert_eq!(placed.ino, fs::metadata(scene.path(&wanted)).unwrap().ino());
                }
            }
            scene.write("in/d/f", "tree");
            fs::create_dir_all(scene.path(format!("out/{action}-d"))).unwrap();
            scene.act(&rule, "in/d", &format!("out/{action}-d")).done();
            assert_eq!(scene.read(&format!("out/{action}-d.1/f")).unwrap(), b"tree");
        }
    }
}

/// Takes the numbered names while they are looked for.
#[test]
fn a_number_that_is_taken_in_the_last_moment_is_not_lost() {
    for scene in scenes() {
        for action in [Action::Move, Action::Copy] {
            scene.write("in/f", "new");
            scene.write("out/f", "old");
            let out = scene.path("out");
            let mut taken = 0;
            let plan: fault::Plan = Box::new(move |_, call| {
                if call == "renameat2" && taken < 4 {
                    taken += 1;
                    for number in 1..=taken {
                        let _ = fs::File::create_new(out.join(format!("f.{number}")));
                    }
                }
                Ok(())
            });
            let rule = with_conflict(action, Conflict::Rename);
            let (outcome, _) = fault::with(plan, || scene.act(&rule, "in/f", "out/f"));
            let placed = outcome.done().placed.unwrap();
            assert_eq!(fs::read(name_of(&placed.path)).unwrap(), b"new");
            assert_eq!(scene.read("out/f").unwrap(), b"old");
            assert_eq!(scene.read("out/f.1").unwrap(), b"");
            let _ = fs::remove_dir_all(scene.path("out"));
            fs::create_dir(scene.path("out")).unwrap();
        }
    }
}

#[test]
fn a_file_is_replaced_by_a_newer_one() {
    for scene in scenes() {
        for action in [Action::Move, Action::Copy] {
            let rule = with_conflict(action, Conflict::Newer);
            for (age, replaced) in [(100, true), (300, false), (200, false)] {
                scene.write("in/f", "new");
                scene.write("out/f", "old");
                set_age(&scene, "in/f", age);
                set_age(&scene, "out/f", 200);
                if age == 200 {
                    let time = fs::metadata(scene.path("out/f")).unwrap().modified().unwrap();
                    fs::File::options()
                        .append(true)
                        .open(scene.path("in/f"))
                        .unwrap()
                        .set_modified(time)
                        .unwrap();
                }
                let outcome = scene.act(&rule, "in/f", "out/f");
                assert_eq!(outcome.done().skipped, (!replaced).then_some(Skipped::NotOlder), "{outcome:?}");
                assert_eq!(scene.read("out/f").unwrap(), if replaced { b"new" } else { b"old" });
                assert_eq!(scene.exists("in/f"), !replaced || action == Action::Copy);
                assert_eq!(scene.temporaries(), [] as [PathBuf; 0]);
            }
            scene.write("in/d/f", "new");
            scene.write("out/d/f", "old");
            for (source, target) in [("in/d", "out/f"), ("in/f", "out/d"), ("in/d", "out/d")] {
                scene.write("in/f", "new");
                assert!(
                    scene.act(&rule, source, target).error(&scene).contains("path already exists"),
                    "{source}"
                );
            }
            scene.act(&rule, "in/f", &format!("out/new-{action}")).done();
        }
    }
}

/// What cannot be replaced is told with what would work: a directory is never newer, and never the same.
#[test]
fn the_remedy_of_a_taken_name_can_work() {
    for scene in scenes() {
        scene.write("in/f", "new");
        scene.write("in/d/f", "new");
        scene.write("out/d/f", "old");
        for action in [Action::Move, Action::Copy] {
            let merged = if action == Action::Copy { "overwrite=True or " } else { "" };
            for (conflict, source, merged) in [
                (Conflict::Newer, "in/d", ""),
                (Conflict::Same, "in/d", ""),
                (Conflict::Newer, "in/f", ""),
                (Conflict::Fail, "in/d", merged),
            ] {
                let error = scene.act(&with_conflict(action, conflict), source, "out/d").error(&scene);
                let remedy = format!("; set {merged}on_conflict=\"skip\" or \"rename\"");
                assert!(error.ends_with(&remedy), "{action} {source}, {conflict:?}: {error}");
            }
        }
        for conflict in [Conflict::Skip, Conflict::Rename] {
            scene.act(&with_conflict(Action::Move, conflict), "in/d", "out/d").done();
        }
        scene.write("in/e/f", "new");
        scene.act(&with_conflict(Action::Copy, Conflict::Overwrite), "in/e", "out/d").done();
    }
}

/// While an older file is replaced, somebody else puts a newer one into its place: before any call.
#[test]
fn no_gap_lets_a_still_newer_file_be_replaced() {
    for across in [false, true] {
        for action in [Action::Move, Action::Copy] {
            for n in 1..200 {
                let Some(scene) = (if across { Scene::across() } else { Some(Scene::in_memory()) }) else {
                    return;
                };
                scene.write("in/f", "new");
                scene.write("out/f", "old");
                scene.write("out/newest", "the newest");
                set_age(&scene, "in/f", 100);
                set_age(&scene, "out/f", 200);
                let (from, to) = (scene.path("out/newest"), scene.path("out/f"));
                let plan: fault::Plan = Box::new(move |call, _| {
                    if call == n {
                        fs::rename(&from, &to).unwrap();
                    }
                    Ok(())
                });
                let rule = with_conflict(action, Conflict::Newer);
                let (outcome, calls) = fault::with(plan, || scene.act(&rule, "in/f", "out/f"));
                let context = format!("{action}, call {n} of {calls}: {outcome:?}");
                let newest = ["out/f", "out/newest", "out/f.1"]
                    .iter()
                    .any(|name| scene.read(name).is_some_and(|content| content == b"the newest"));
                let placed = scene.read("out/f").is_some_and(|content| content == b"new");
                // Who comes after the result is in its place replaces it, as anybody may.
                assert!(newest, "lost: {context}");
                assert!(placed || scene.exists("in/f") || outcome.result.is_ok(), "{context}");
                assert_eq!(scene.temporaries(), [] as [PathBuf; 0], "{context}");
                if calls < n {
                    break;
                }
            }
        }
    }
}

#[test]
fn of_two_files_of_one_content_one_is_enough() {
    for scene in scenes() {
        for (action, size) in
            [(Action::Move, 10), (Action::Copy, 10), (Action::Move, 700_000), (Action::Copy, 700_000)]
        {
            let rule = with_conflict(action, Conflict::Same);
            scene.write("in/f", vec![7; size]);
            scene.write("out/f", vec![7; size]);
            let inode = fs::metadata(scene.path("out/f")).unwrap().ino();
            let outcome = scene.act(&rule, "in/f", "out/f");
            assert_eq!(outcome.done().skipped, Some(Skipped::Same));
            assert_eq!(outcome.records[0], "skip 'in/f', 'out/f' has the same content");
            assert_eq!(scene.exists("in/f"), action == Action::Copy);
            assert_eq!(fs::metadata(scene.path("out/f")).unwrap().ino(), inode);
            for other in [vec![7; size - 1], vec![7; size + 1], [vec![7; size - 1], vec![8]].concat()] {
                scene.write("in/f", &other);
                assert_eq!(
                    scene.act(&rule, "in/f", "out/f").error(&scene),
                    format!(
                        "unable to {action} file from 'in/f' to 'out/f', path already exists and its content differs; \
                         set on_conflict=\"overwrite\", \"skip\", \"rename\" or \"newer\""
                    )
                );
                assert_eq!(scene.read("in/f").unwrap(), other);
            }
            scene.write("in/d/f", "");
            scene.write("out/d/f", "");
            assert!(scene.act(&rule, "in/d", "out/d").error(&scene).contains("path already exists"));
        }
    }
}

/// Who wrote the file that has the name may have left it to the kernel when it reaches the disk.
#[test]
fn what_takes_the_place_of_the_source_is_on_the_disk_before_the_source_goes() {
    for (durability, expected) in [(Durability::Auto, 2), (Durability::Always, 2), (Durability::Never, 0)] {
        for scene in scenes() {
            scene.write("in/f", "content");
            scene.write("out/f", "content");
            let (source, synced) = (scene.path("in/f"), Rc::new(Cell::new(0)));
            let plan: fault::Plan = Box::new({
                let synced = Rc::clone(&synced);
                move |_, call| {
                    synced.update(|count| count + u32::from(call == "fsync" && source.exists()));
                    Ok(())
                }
            });
            let rule = Rule { durability, ..with_conflict(Action::Move, Conflict::Same) };
            fault::with(plan, || scene.act(&rule, "in/f", "out/f")).0.done();
            // The file and its directory.
            assert_eq!(synced.get(), expected, "{durability:?}");
            assert!(!scene.exists("in/f"));
        }
    }
}

#[test]
fn the_only_name_of_a_file_is_not_removed_for_its_content() {
    let scene = Scene::in_memory();
    let path = scene.write("in/f", "content");
    fs::hard_link(path, scene.path("out/f")).unwrap();
    for target in ["out/f", "in/f"] {
        let outcome = scene.act(&with_conflict(Action::Move, Conflict::Same), "in/f", target);
        assert_eq!(outcome.done().skipped, Some(Skipped::Same));
        assert!(scene.exists("in/f") && scene.exists("out/f"));
    }
}

/// While two files are compared, either of them changes: before any call.
#[test]
fn no_gap_lets_a_source_go_whose_content_is_not_there() {
    for victim in ["in/f", "out/f"] {
        for n in 1..60 {
            let scene = Scene::in_memory();
            scene.write("in/f", "content");
            scene.write("out/f", "content");
            let path = scene.path(victim);
            let plan: fault::Plan = Box::new(move |call, _| {
                if call == n {
                    let flags = rustix::fs::OFlags::NONBLOCK.bits().cast_signed();
                    let mut options = fs::OpenOptions::new();
                    std::os::unix::fs::OpenOptionsExt::custom_flags(options.write(true), flags);
                    if let Ok(mut file) = options.open(&path) {
                        std::io::Write::write_all(&mut file, b"CHANGED").unwrap();
                    }
                }
                Ok(())
            });
            let rule = with_conflict(Action::Move, Conflict::Same);
            let (outcome, calls) = fault::with(plan, || scene.act(&rule, "in/f", "out/f"));
            let context = format!("{victim}, call {n} of {calls}: {outcome:?}");
            let kept = scene.read("in/f");
            if victim == "in/f" {
                // Or he was sent away, because the file was just being removed.
                let changed =
                    kept.as_deref() == Some(b"CHANGED") || outcome.result.is_err() && kept.is_some();
                assert!(changed || outcome.result.is_ok() && kept.is_none(), "{context}");
            } else if kept.is_none() {
                // Whoever changes the other one after the comparison has had both.
                assert!(outcome.result.is_ok(), "{context}");
            }
            if calls < n {
                break;
            }
        }
    }
}

#[test]
fn any_call_of_a_conflict_may_fail() {
    for across in [false, true] {
        for action in [Action::Move, Action::Copy] {
            for on_conflict in [Conflict::Skip, Conflict::Rename, Conflict::Newer, Conflict::Same] {
                for errno in [Errno::IO, Errno::ACCESS, Errno::NOSPC, Errno::INVAL] {
                    for n in 1..500 {
                        let Some(scene) = (if across { Scene::across() } else { Some(Scene::in_memory()) })
                        else {
                            return;
                        };
                        scene.write("in/f", "content");
                        let old: &[u8] = if on_conflict == Conflict::Same { b"content" } else { b"old" };
                        scene.write("out/f", old);
                        set_age(&scene, "out/f", 100);
                        let rule = Rule { prune: true, ..with_conflict(action, on_conflict) };
                        let (outcome, calls) =
                            fault::with(fault::fail(n, errno), || scene.act(&rule, "in/f", "out/f"));
                        let context = format!("{action}, {on_conflict:?}, call {n} of {calls}: {outcome:?}");
                        let source = scene.read("in/f").is_some_and(|content| content == b"content");
                        let there = scene.read("out/f");
                        let numbered = scene.read("out/f.1").is_some_and(|content| content == b"content");
                        let complete = numbered || there.as_deref() == Some(b"content");
                        assert!(source || complete, "neither: {context}");
                        let whole = there.as_deref() == Some(old) || there.as_deref() == Some(b"content");
                        // Giving what was set aside its name back may be the call that fails: then it waits there.
                        let aside = scene.temporaries().len();
                        assert!(whole || aside == 1 && there.is_none(), "{context}");
                        assert!(aside == 0 || on_conflict == Conflict::Newer, "{context}");
                        if calls < n {
                            break;
                        }
                    }
                }
            }
        }
    }
}

#[test]
fn emptied_directories_go_up_to_the_root_of_a_watch() {
    for action in [Action::Move, Action::Delete] {
        let rule = Rule { prune: true, ..rule(action) };
        let scene = Scene::in_memory();
        scene.write("in/a/b/c/f", "content");
        let outcome = scene.act(&rule, "in/a/b/c/f", "out/f");
        outcome.done();
        assert_eq!(
            outcome.records[1..],
            ["in/a/b/c", "in/a/b", "in/a"].map(|path| format!("remove empty directory '{path}'"))
        );
        assert!(scene.exists("in") && !scene.exists("in/a"));
        // Up to one that is not empty.
        scene.write("in/a/b/c/f", "content");
        scene.write("in/a/kept", "");
        let outcome = scene.act(&rule, "in/a/b/c/f", "out/g");
        outcome.done();
        assert_eq!(outcome.records.len(), 3, "{outcome:?}");
        assert!(scene.exists("in/a/kept") && !scene.exists("in/a/b"));
        // A root of a watch inside stays.
        scene.write("in/a/root/c/f", "content");
        let (root, inner, stop) = (scene.path("in"), scene.path("in/a/root"), AtomicBool::new(false));
        let (source, destination) = (scene.path("in/a/root/c/f"), scene.path("out/h"));
        let request = Request {
            root: bytes(&root),
            roots: &[bytes(&inner)],
            ..Request::plain(&rule, bytes(&source), bytes(&destination), &stop)
        };
        scene.perform(&mut Held::default(), &request).done();
        assert!(scene.exists("in/a/root") && !scene.exists("in/a/root/c"));
        // Not where nothing was done.
        scene.write("in/x/f", "content");
        fs::remove_file(scene.path("in/x/f")).unwrap();
        assert!(scene.act(&rule, "in/x/f", "out/i").result.is_err());
        assert!(scene.exists("in/x"));
    }
    // Nor without the rule's word.
    let scene = Scene::in_memory();
    scene.write("in/a/f", "content");
    scene.act(&rule(Action::Move), "in/a/f", "out/f").done();
    assert!(scene.exists("in/a"));
}

/// While directories are removed, others take their names, and files come: before any call.
#[test]
fn no_gap_lets_a_directory_go_that_is_another_one_or_not_empty() {
    let attacks: [fn(&Scene); 3] = [
        |scene| {
            let _ = fs::rename(scene.path("in/a/b"), scene.path("in/a/aside"));
            let _ = fs::create_dir(scene.path("in/a/b"));
        },
        |scene| drop(fs::write(scene.path("in/a/b/late"), "late")),
        |scene| {
            let _ = fs::rename(scene.path("in/a"), scene.path("victim/a"));
            let _ = std::os::unix::fs::symlink(scene.path("victim"), scene.path("in/a"));
        },
    ];
    for attack in attacks {
        for n in 1..60 {
            let scene = std::rc::Rc::new(Scene::in_memory());
            scene.write("in/a/b/f", "content");
            fs::create_dir_all(scene.path("victim/b")).unwrap();
            let attacked = std::rc::Rc::clone(&scene);
            let plan: fault::Plan = Box::new(move |call, _| {
                if call == n {
                    attack(&attacked);
                }
                Ok(())
            });
            let rule = Rule { prune: true, ..rule(Action::Move) };
            let (outcome, calls) = fault::with(plan, || scene.act(&rule, "in/a/b/f", "out/f"));
            assert!(scene.exists("victim/b"), "call {n} of {calls}: {outcome:?}");
            if calls < n {
                break;
            }
        }
    }
}

#[test]
fn without_its_mount_nothing_is_done() {
    let scene = Scene::in_memory();
    scene.write("in/f", "content");
    fs::create_dir_all(scene.path("out/nas/sub")).unwrap();
    let nas = scene.path("out/nas").as_os_str().as_bytes().to_vec();
    for action in [Action::Move, Action::Copy] {
        for mounted in [nas.clone(), [&nas[..], b"/"].concat()] {
            let rule = Rule { mounted: Some(mounted), auto_create: true, ..rule(action) };
            let before = (scene.tree("in"), scene.tree("out"));
            for destination in ["out/nas/f", "out/nas/new/f", "out/nas/sub/f"] {
                let source = scene.path("in/f");
                let target = scene.path(destination);
                let trusted = nas.len() + 1;
                let outcome = scene.request(&rule, &source, target.as_os_str().as_bytes(), trusted, None);
                assert!(outcome.error(&scene).ends_with("out/nas is not mounted"), "{outcome:?}");
                assert_eq!(outcome.records, [] as [&str; 0]);
            }
            assert_eq!((scene.tree("in"), scene.tree("out")), before);
        }
        let rule = Rule { mounted: Some(b"/no/such/place".to_vec()), ..rule(action) };
        let target = b"/no/such/place/f";
        let text = scene.request(&rule, &scene.path("in/f"), target, target.len(), None).error(&scene);
        assert_eq!(text, "/no/such/place is not mounted");
        // What is not below it could be anywhere.
        let rule = Rule { mounted: Some(nas.clone()), ..rule };
        let text = scene.act(&rule, "in/f", "out/f").error(&scene);
        assert!(text.starts_with("refused: the destination 'out/f' is not below 'out/nas'"), "{text}");
    }
}

const MOUNT_SCRIPT: &str =
    "mkdir -p out/nas out/bind; mount -t tmpfs none out/nas; mount --bind victim out/bind";

#[test]
fn with_its_mount_everything_lands_on_it() {
    let scene = Scene::new();
    let Some(output) = with_mounts(MOUNT_SCRIPT, "tests::conflicts::mounted_child", &scene) else { return };
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
}

/// Not a test of its own: runs where [`MOUNT_SCRIPT`] has mounted something.
#[test]
fn mounted_child() {
    let Some(scene) = child_scene() else { return };
    let act = |mounted: &str, destination: &str, auto_create| {
        scene.write("in/f", "content");
        let mounted = scene.path(mounted).as_os_str().as_bytes().to_vec();
        let trusted = mounted.len() + 1;
        let rule = Rule { mounted: Some(mounted), auto_create, ..rule(Action::Move) };
        let target = scene.path(destination);
        scene.request(&rule, &scene.path("in/f"), target.as_os_str().as_bytes(), trusted, None)
    };
    for mount in ["out/nas", "out/bind"] {
        act(mount, &format!("{mount}/f"), false).done();
        act(mount, &format!("{mount}/new/sub/f"), true).done();
        assert_eq!(scene.read(&format!("{mount}/new/sub/f")).unwrap(), b"content");
        let text = act(mount, &format!("{mount}/none/f"), false).error(&scene);
        assert!(text.contains("set auto_create=True"), "{text}");
        // A directory on the mount is no mount point.
        let text = act(&format!("{mount}/new"), &format!("{mount}/new/g"), true).error(&scene);
        assert!(text.ends_with(&format!("{mount}/new is not mounted")), "{text}");
    }
    // Unmounted between any two calls, nothing lands below the directory that it hid.
    for n in 1..60 {
        let unmount = |path: &Path| {
            assert!(std::process::Command::new("umount").arg("-l").arg(path).status().unwrap().success());
        };
        let unmounted = scene.path("out/nas");
        let plan: fault::Plan = Box::new(move |call, _| {
            if call == n {
                assert!(
                    std::process::Command::new("umount")
                        .arg("-l")
                        .arg(&unmounted)
                        .status()
                        .unwrap()
                        .success()
                );
            }
            Ok(())
        });
        let (outcome, calls) = fault::with(plan, || act("out/nas", &format!("out/nas/turn{n}/f"), true));
        if calls >= n {
            let left = fs::read_dir(scene.path("out/nas")).unwrap().count();
            assert_eq!(left, 0, "call {n} of {calls}: {outcome:?}");
        } else {
            unmount(&scene.path("out/nas"));
        }
        let mut mount = std::process::Command::new("mount");
        mount.args(["-t", "tmpfs", "none"]).arg(scene.path("out/nas"));
        assert!(mount.status().unwrap().success());
        if calls < n {
            return;
        }
    }
    panic!("the move never ended");
}

#[test]
fn a_stop_ends_an_action_before_its_next_step() {
    let actions =
        [(Action::Move, "in/f"), (Action::Copy, "in/f"), (Action::Move, "in/d"), (Action::Copy, "in/d")];
    for (action, source) in actions {
        for n in 0..200 {
            let Some(scene) = Scene::across() else { return };
            scene.write("in/f", vec![7; 100_000]);
            scene.write("in/d/a/f", "one");
            scene.write("in/d/g", "two");
            let before = scene.tree("in");
            let stop = std::sync::Arc::new(AtomicBool::new(n == 0));
            let flag = std::sync::Arc::clone(&stop);
            let plan: fault::Plan = Box::new(move |call, _| {
                flag.fetch_or(call == n, Ordering::Relaxed);
                Ok(())
            });
            let (root, path, target) = (scene.path("in"), scene.path(source), scene.path("out/o"));
            let rule = rule(action);
            let request = Request {
                root: bytes(&root),
                wants_placed: true,
                ..Request::plain(&rule, bytes(&path), bytes(&target), &stop)
            };
            let (outcome, calls) = fault::with(plan, || scene.perform(&mut Held::default(), &request));
            let context = format!("{action} of {source}, stopped before call {n} of {calls}: {outcome:?}");
            assert_eq!(scene.temporaries(), [] as [PathBuf; 0], "{context}");
            match &outcome.result {
                Ok(done) => {
                    assert!(scene.exists("out/o"), "{context}");
                    let inode = fs::metadata(&target).unwrap().ino();
                    assert_eq!(done.placed.as_ref().map(|placed| placed.ino), Some(inode), "{context}");
                }
                Err(Error::Stopped { .. }) => {
                    assert_eq!(scene.tree("in"), before, "{context}");
                    assert!(!scene.exists("out/o"), "{context}");
                }
                Err(error) => panic!("{error}: {context}"),
            }
            if calls < n {
                break;
            }
        }
    }
}
