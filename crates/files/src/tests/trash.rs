//! What would be lost is in the trash, and what was copied is read back.

use std::time::{Duration, SystemTime};

use rustix::io::Errno;

use super::*;
use crate::sys::fault;

/// How many kinds of scenes there are.
const SCENES: usize = 3;

/// A scene with a trash beside it, or on another filesystem where there is one; and what goes away with it.
fn scene(which: usize) -> Option<(Scene, PathBuf, Option<Scene>)> {
    match which {
        0 => {
            let beside = Scene::in_memory();
            let trash = beside.path("victim/new/trash");
            Some((beside, trash, None))
        }
        1 => {
            let across = Scene::across()?;
            let trash = across.path("out/trash");
            Some((across, trash, None))
        }
        // Everything on one filesystem but the trash.
        _ => {
            let other = Scene::across()?;
            let trash = other.path("out/trash");
            Some((Scene::new(), trash, Some(other)))
        }
    }
}

fn scenes() -> impl Iterator<Item = (Scene, PathBuf, Option<Scene>)> {
    (0..SCENES).filter_map(scene)
}

fn with_trash(rule: Rule, trash: &Path) -> Rule {
    Rule { trash: Some(trash.as_os_str().as_bytes().to_vec()), ..rule }
}

/// Everything in a trash that has this name: content, and whether it is where it should be.
fn trashed(trash: &Path, original: &Path) -> Vec<PathBuf> {
    let Ok(stamps) = fs::read_dir(trash) else { return Vec::new() };
    let below = original.strip_prefix("/").unwrap();
    stamps
        .map(|stamp| stamp.unwrap().path().join(below))
        .filter(|path| fs::symlink_metadata(path).is_ok())
        .collect()
}

#[test]
fn what_is_overwritten_is_in_the_trash() {
    for (scene, trash, _keep) in scenes() {
        for action in [Action::Move, Action::Copy] {
            let rule = with_trash(overwriting(action), &trash);
            scene.write("in/f", "new");
            scene.write("out/f", format!("old {action}"));
            scene.set_mode("out/f", 0o604);
            let outcome = scene.act(&rule, "in/f", "out/f");
            let done = outcome.done();
            assert_eq!(scene.read("out/f").unwrap(), b"new");
            assert_eq!(scene.exists("in/f"), action == Action::Copy);
            let [kept] = &done.trashed[..] else { panic!("{done:?}") };
            assert_eq!(name_of(&kept.from), scene.path("out/f"));
            let to = name_of(&kept.to);
            assert_eq!(fs::read(&to).unwrap(), format!("old {action}").into_bytes());
            assert_eq!(fs::metadata(&to).unwrap().permissions().mode() & 0o7777, 0o604);
            assert!(trashed(&trash, &scene.path("out/f")).contains(&to), "{to:?}");
            assert!(
                outcome.records.iter().any(|record| record.starts_with("put 'out/f' into the trash, as '"))
            );
            // Nobody else looks into it.
            for directory in to.ancestors().skip(1).take_while(|path| path.starts_with(&trash)) {
                assert_eq!(
                    fs::metadata(directory).unwrap().permissions().mode() & 0o777,
                    0o700,
                    "{directory:?}"
                );
            }
            // Where nothing is lost, nothing is kept.
            scene.write("in/g", "new");
            assert_eq!(scene.act(&rule, "in/g", &format!("out/{action}")).done().trashed, []);
        }
        let newer = Rule { on_conflict: Conflict::Newer, ..with_trash(rule(Action::Copy), &trash) };
        let old = scene.write("out/n", "older");
        let time = SystemTime::now() - Duration::from_secs(100);
        fs::File::options().append(true).open(old).unwrap().set_modified(time).unwrap();
        scene.write("in/n", "newer");
        assert_eq!(scene.act(&newer, "in/n", "out/n").done().trashed.len(), 1);
        assert_eq!(scene.read("out/n").unwrap(), b"newer");
    }
}

#[test]
fn what_is_deleted_is_in_the_trash() {
    for (scene, trash, _keep) in scenes() {
        let rule = with_trash(Rule { rec: true, ..rule(Action::Delete) }, &trash);
        scene.write("in/f", "file");
        scene.write("in/d/sub/f", "tree");
        scene.link("somewhere", "in/l");
        for name in ["in/f", "in/d", "in/l"] {
            let outcome = scene.act(&rule, name, "");
            assert_eq!(outcome.done().trashed.len(), 1, "{outcome:?}");
            assert!(!scene.exists(name));
            assert_eq!(trashed(&trash, &scene.path(name)).len(), 1, "{name}");
        }
        assert_eq!(fs::read(&trashed(&trash, &scene.path("in/d/sub/f"))[0]).unwrap(), b"tree");
        // The second of a name gets a place of its own.
        scene.write("in/f", "another");
        scene.act(&rule, "in/f", "").done();
        assert_eq!(trashed(&trash, &scene.path("in/f")).len(), 2);
        // Without rec a directory must be empty, with a trash, too.
        let careful = Rule { rec: false, ..rule };
        scene.write("in/d/f", "tree");
        assert!(scene.act(&careful, "in/d", "").error(&scene).starts_with("[Errno 39]"));
        assert!(scene.exists("in/d/f"));
        fs::create_dir(scene.path("in/empty")).unwrap();
        assert_eq!(scene.act(&careful, "in/empty", "").done().trashed, []);
    }
}

#[test]
fn what_a_merge_overwrites_is_in_the_trash() {
    for (scene, trash, _keep) in scenes() {
        scene.write("in/d/a/f", "new");
        scene.write("in/d/g", "new");
        scene.link("gone", "in/d/l");
        scene.write("out/d/a/f", "old");
        scene.write("out/d/g", "old");
        scene.write("out/d/l", "old");
        scene.write("out/d/kept", "kept");
        let outcome = scene.act(&with_trash(overwriting(Action::Copy), &trash), "in/d", "out/d");
        assert_eq!(outcome.done().trashed.len(), 3, "{outcome:?}");
        for name in ["out/d/a/f", "out/d/g", "out/d/l"] {
            let [kept] = &trashed(&trash, &scene.path(name))[..] else { panic!("{name}") };
            assert_eq!(fs::read(kept).unwrap(), b"old", "{name}");
        }
        assert_eq!(scene.read("out/d/kept").unwrap(), b"kept");
    }
}

#[test]
fn what_can_not_be_replaced_is_not_trashed() {
    for (scene, trash, _keep) in scenes() {
        let rule = with_trash(overwriting(Action::Move), &trash);
        scene.write("in/f", "file");
        scene.write("in/d/f", "tree");
        scene.write("out/f", "file");
        scene.write("out/d/f", "tree");
        for (source, target, errno) in [("in/f", "out/d", 21), ("in/d", "out/f", 20), ("in/d", "out/d", 39)] {
            let text = scene.act(&rule, source, target).error(&scene);
            assert!(text.starts_with(&format!("[Errno {errno}]")), "{text}");
            assert!(scene.exists(source) && scene.exists(target));
        }
        assert!(
            trashed(&trash, &scene.path("out/d")).is_empty()
                && trashed(&trash, &scene.path("out/f")).is_empty()
        );
    }
}

#[test]
fn any_call_may_fail_where_there_is_a_trash() {
    let cases = [
        (overwriting(Action::Move), "in/f", "out/f"),
        (overwriting(Action::Copy), "in/f", "out/f"),
        (Rule { rec: true, ..rule(Action::Delete) }, "in/f", ""),
        (Rule { rec: true, ..rule(Action::Delete) }, "in/d", ""),
    ];
    for which in 0..SCENES {
        for (rule, source, target) in &cases {
            for errno in [Errno::IO, Errno::ACCESS] {
                for n in 1..600 {
                    let Some((scene, trash, _keep)) = scene(which) else { return };
                    scene.write("in/f", "new");
                    scene.write("in/d/f", "tree");
                    scene.write("out/f", "old");
                    let rule = with_trash(rule.clone(), &trash);
                    let (outcome, calls) =
                        fault::with(fault::fail(n, errno), || scene.act(&rule, source, target));
                    let context = format!("{rule:?}, call {n} of {calls}, {errno:?}: {outcome:?}");
                    let holds =
                        |path: &Path, content: &[u8]| fs::read(path).is_ok_and(|found| found == content);
                    let kept = |name: &str, content: &[u8]| {
                        trashed(&trash, &scene.path(name)).iter().any(|path| holds(path, content))
                    };
                    if target.is_empty() {
                        let (name, wanted): (_, &[u8]) =
                            if *source == "in/f" { ("in/f", b"new") } else { ("in/d/f", b"tree") };
                        assert!(holds(&scene.path(name), wanted) || kept(name, wanted), "lost: {context}");
                        assert!(outcome.result.is_err() || !scene.exists(source), "{context}");
                    } else {
                        let new = holds(&scene.path("in/f"), b"new") || holds(&scene.path("out/f"), b"new");
                        assert!(new, "the source is lost: {context}");
                        let old = holds(&scene.path("out/f"), b"old") || kept("out/f", b"old");
                        assert!(old, "what was there is lost: {context}");
                        assert!(outcome.result.is_err() || holds(&scene.path("out/f"), b"new"), "{context}");
                    }
                    let _ = fs::remove_dir_all(&trash);
                    if calls < n {
                        break;
                    }
                }
            }
        }
    }
}

#[test]
fn a_file_that_is_written_is_not_trashed_to_another_filesystem() {
    let Some(scene) = Scene::across() else { return };
    let trash = scene.path("out/trash");
    let path = scene.write("in/f", "content");
    let writer = fs::OpenOptions::new().append(true).open(&path).unwrap();
    let rule = with_trash(rule(Action::Delete), &trash);
    let outcome = scene.act(&rule, "in/f", "");
    assert!(matches!(outcome.result, Err(Error::InUse { .. })), "{outcome:?}");
    assert!(scene.exists("in/f"));
    drop(writer);
    wait_until_closed(&path);
    scene.act(&rule, "in/f", "").done();
}

/// The directory of the moment is replaced by one of the attacker's as soon as it is made.
#[test]
fn nobody_puts_a_directory_of_his_own_into_the_way_to_the_trash() {
    if !is_root() {
        return;
    }
    for n in 1..40 {
        let scene = Scene::in_memory();
        scene.write("in/f", "secret");
        fs::create_dir(scene.path("out/trash")).unwrap();
        let trash = scene.path("out/trash");
        let attacked = trash.clone();
        let plan: fault::Plan = Box::new(move |call, _| {
            if call == n {
                for stamp in fs::read_dir(&attacked).unwrap() {
                    let stamp = stamp.unwrap().path();
                    let aside = stamp.with_extension("aside");
                    if fs::rename(&stamp, aside).is_ok() {
                        fs::create_dir(&stamp).unwrap();
                        std::os::unix::fs::lchown(&stamp, Some(STRANGER), Some(STRANGER)).unwrap();
                    }
                }
            }
            Ok(())
        });
        let rule = with_trash(rule(Action::Delete), &trash);
        let (outcome, calls) = fault::with(plan, || scene.act(&rule, "in/f", ""));
        for stamp in fs::read_dir(&trash).unwrap() {
            let stamp = stamp.unwrap().path();
            let his = fs::metadata(&stamp).unwrap().uid() == STRANGER;
            assert!(
                !his || fs::read_dir(&stamp).unwrap().next().is_none(),
                "call {n} of {calls}: {outcome:?}"
            );
        }
        if calls < n {
            return;
        }
    }
    panic!("the deletion never ended");
}

#[test]
fn a_trash_is_emptied_of_what_is_old_and_of_nothing_else() {
    let scene = Scene::in_memory();
    let trash = scene.path("out/trash");
    for name in [
        "20200101-000000.000/in/f",
        "20200101-000000.000-1/in/f",
        "20200102-000000.000/in/f",
        "notes/f",
        "20200101-000000.000x/f",
    ] {
        scene.write(&format!("out/trash/{name}"), "content");
    }
    scene.link("/", "out/trash/20190101-000000.000");
    let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_577_923_200 + 10); // 2020-01-02 00:00:10
    let empty = |keep, stop| {
        let path = trash.as_os_str().as_bytes();
        crate::empty_trash(path, Duration::from_secs(keep), now, &AtomicBool::new(stop)).unwrap()
    };
    assert!(empty(60, true).incomplete && scene.exists("out/trash/20200101-000000.000"));
    let swept = empty(60, false);
    assert_eq!((swept.removed, swept.failed, swept.incomplete), (2, 1, false), "the link is not ours");
    for (name, stays) in [
        ("20200101-000000.000", false),
        ("20200101-000000.000-1", false),
        ("20200102-000000.000", true),
        ("notes", true),
        ("20200101-000000.000x", true),
        ("20190101-000000.000", true),
    ] {
        assert_eq!(scene.exists(&format!("out/trash/{name}")), stays, "{name}");
    }
    empty(5, false);
    assert!(!scene.exists("out/trash/20200102-000000.000"));
    let none = crate::empty_trash(b"/no/such/trash", Duration::ZERO, now, &AtomicBool::new(false)).unwrap();
    assert_eq!(none, crate::Swept::default());
}

#[test]
fn a_copy_that_does_not_read_back_is_discarded() {
    for (action, source) in
        [(Action::Copy, "in/f"), (Action::Copy, "in/d"), (Action::Move, "in/f"), (Action::Move, "in/d")]
    {
        for size in [10, 700_000] {
            let Some(scene) =
                (if action == Action::Move { Scene::across() } else { Some(Scene::in_memory()) })
            else {
                return;
            };
            scene.write("in/f", vec![7; size]);
            scene.write("in/d/f", vec![7; size]);
            let rule = Rule { verify: true, ..rule(action) };
            let out = scene.path("out");
            let plan: fault::Plan = Box::new(move |_, call| {
                if call == "fadvise64" {
                    // As a disk that returns something else.
                    let mut found = Vec::new();
                    find(&out, &|_| true, &mut found);
                    for path in found.iter().filter(|path| path.is_file()) {
                        let file = fs::OpenOptions::new().write(true).open(path).unwrap();
                        std::os::unix::fs::FileExt::write_all_at(&file, b"8", size as u64 / 2).unwrap();
                    }
                }
                Ok(())
            });
            let before = scene.tree("in");
            let (outcome, _) = fault::with(plan, || scene.act(&rule, source, "out/o"));
            let text = outcome.error(&scene);
            assert!(text.contains("does not read back as it was written, and is discarded"), "{text}");
            assert_eq!(scene.tree("in"), before);
            assert!(!scene.path("out/o").is_file() && !scene.exists("out/o/f"));
            assert_eq!(scene.temporaries(), [] as [PathBuf; 0]);
            // What reads back is placed.
            let _ = fs::remove_dir_all(scene.path("out/o"));
            scene.act(&rule, source, "out/o").done();
        }
    }
}

#[test]
fn what_changes_while_it_is_read_back_is_copied_again() {
    let scene = Scene::in_memory();
    let path = scene.write("in/f", "first");
    let mut left = 2;
    let plan: fault::Plan = Box::new(move |_, call| {
        if call == "fadvise64" && left > 0 {
            left -= 1;
            fs::write(&path, format!("other {left}")).unwrap();
        }
        Ok(())
    });
    let rule = Rule { verify: true, ..rule(Action::Copy) };
    fault::with(plan, || scene.act(&rule, "in/f", "out/f")).0.done();
    assert_eq!(scene.read("out/f").unwrap(), b"other 0");
}

#[test]
fn sparse_files_are_read_back_without_their_holes() {
    const SIZE: u64 = 1 << 40;
    let scene = Scene::in_memory();
    let file = fs::File::create(scene.path("in/f")).unwrap();
    std::os::unix::fs::FileExt::write_all_at(&file, b"data", SIZE / 2).unwrap();
    file.set_len(SIZE).unwrap();
    drop(file);
    let rule = Rule { verify: true, ..rule(Action::Copy) };
    scene.act(&rule, "in/f", "out/f").done();
    assert_eq!(fs::metadata(scene.path("out/f")).unwrap().len(), SIZE);
}

/// No call takes a name away only if it leads to a certain file: what somebody renames to it in the last moment must
/// not go with the one that was judged.
#[test]
fn no_gap_loses_what_takes_the_place_of_a_file_that_goes() {
    let cases = [
        (1, rule(Action::Move), "in/f", "in/f"),
        (1, rule(Action::Move), "in/t", "in/t/f"),
        (2, overwriting(Action::Move), "in/f", "out/f"),
        (2, overwriting(Action::Copy), "in/f", "out/f"),
        (2, rule(Action::Delete), "in/f", "in/f"),
        (2, Rule { rec: true, ..rule(Action::Delete) }, "in/t", "in/t/f"),
        (0, Rule { on_conflict: Conflict::Newer, ..rule(Action::Move) }, "in/f", "out/f"),
    ];
    for (which, rule, source, replaced) in cases {
        let mut n = 1;
        loop {
            let Some((scene, trash, other)) = scene(which) else { break };
            // Only where it is asked for, so that a plain move is judged as well.
            let rule = if which == 1 { rule.clone() } else { with_trash(rule.clone(), &trash) };
            fs::create_dir(scene.path("in/t")).unwrap();
            for name in ["in/f", "in/t/f", "out/f"] {
                scene.write(name, "old");
            }
            let past = SystemTime::now() - Duration::from_secs(100);
            fs::File::open(scene.path("out/f")).unwrap().set_modified(past).unwrap();
            if replaced != "out/f" {
                fs::remove_file(scene.path("out/f")).unwrap();
            }
            let newcomer = scene.path(format!("{}/newcomer", replaced.split_once('/').unwrap().0));
            fs::write(&newcomer, "newcomer").unwrap();
            let to = scene.path(replaced);
            let plan: fault::Plan = Box::new(move |call, _| {
                if call == n {
                    // Unless the tree that it was in is gone.
                    let _ = fs::rename(&newcomer, &to);
                }
                Ok(())
            });
            let (outcome, calls) = fault::with(plan, || scene.act(&rule, source, "out/f"));
            let mut names = Vec::new();
            for scene in [Some(&scene), other.as_ref()].into_iter().flatten() {
                for directory in ["in", "out", "victim"] {
                    find(&scene.path(directory), &|_| true, &mut names);
                }
            }
            let is_there = |path: &PathBuf| fs::read(path).is_ok_and(|content| content == b"newcomer");
            let what = format!("{rule:?} of {source}, before call {n} of {calls}: {outcome:?}");
            assert!(names.iter().any(is_there), "{what}");
            assert_eq!(scene.temporaries(), [] as [PathBuf; 0], "{what}");
            if calls < n {
                break;
            }
            n += 1;
        }
    }
}

/// A trash that is inside of what is deleted, and a disk that is full.
#[test]
fn what_fails_leaves_no_directories_in_the_trash() {
    for (scene, trash, _keep) in scenes() {
        scene.write("in/d/f", "tree");
        let rule = Rule { rec: true, ..rule(Action::Delete) };
        fs::create_dir_all(scene.path("in/d/trash")).unwrap();
        let inside = with_trash(rule.clone(), &scene.path("in/d/trash"));
        assert!(scene.act(&inside, "in/d", "").result.is_err());
        assert_eq!(fs::read_dir(scene.path("in/d/trash")).unwrap().count(), 0);
        fs::create_dir_all(&trash).unwrap();
        let outside = with_trash(rule, &trash);
        for n in 1.. {
            let mut made = 0;
            let plan: fault::Plan = Box::new(move |_, call| {
                made += u32::from(call == "mkdirat");
                if call == "mkdirat" && made >= n { Err(Errno::NOSPC) } else { Ok(()) }
            });
            let (outcome, _) = fault::with(plan, || scene.act(&outside, "in/d", ""));
            if outcome.result.is_ok() {
                break;
            }
            assert_eq!(fs::read_dir(&trash).unwrap().count(), 0, "directory {n}: {outcome:?}");
        }
    }
}
