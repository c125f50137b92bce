//! Moves to another filesystem whose source can't be removed: each try leaves everything as it was.

use rustix::fs::{IFlags, ioctl_setflags};
use rustix::io::Errno;

use super::*;
use crate::sys::fault;

/// Another user of nobody in particular.
const OTHER: u32 = STRANGER + 1;

const TRIES: u32 = 3;

const FORBIDDEN: &str = "[Errno 1] Operation not permitted";

fn scene() -> Option<Scene> {
    let scene = Scene::across()?;
    scene.write("in/f", "new");
    scene.link("somewhere", "in/l");
    scene.write("in/t/a/f", "one");
    scene.write("in/t/g", "two");
    scene.set_mode("in/t/a", 0o555);
    scene.write("out/old", "old");
    Some(scene)
}

/// Rules, what they act on, and where to.
fn cases(scene: &Scene) -> Vec<(Rule, &'static str, &'static str)> {
    let trash = Some(bytes(&scene.path("out/trash")).to_vec());
    let renaming = Rule { on_conflict: Conflict::Rename, ..rule(Action::Move) };
    let trashing = Rule { trash: trash.clone(), ..overwriting(Action::Move) };
    let mut cases = Vec::new();
    for source in ["in/f", "in/l", "in/t"] {
        cases.push((rule(Action::Move), source, "out/new"));
        cases.push((renaming.clone(), source, "out/old"));
        cases.push((Rule { rec: true, trash: trash.clone(), ..rule(Action::Delete) }, source, ""));
    }
    cases.push((trashing.clone(), "in/f", "out/old"));
    cases.push((trashing, "in/l", "out/old"));
    cases
}

/// What was copied is not what was there before, once it has its name.
fn is_copied(out: &Path) -> bool {
    let mut found = Vec::new();
    find(out, &|name| matches!(name, b"new" | b"old.1" | b"f" | b"l" | b"t"), &mut found);
    let is_new = |content: Vec<u8>| content != b"old";
    let is_placed = |path: &PathBuf| !path.to_string_lossy().contains("/.pyinotifyd-");
    found.iter().any(is_placed)
        || fs::read_link(out.join("old")).is_ok()
        || fs::read(out.join("old")).is_ok_and(is_new)
}

/// The first call that would take something away from `in` fails, and the copy is in its place by then.
#[test]
fn the_copy_of_what_can_not_be_removed_is_taken_back() {
    let Some(first) = scene() else { return };
    for (rule, source, target) in cases(&first) {
        let scene = scene().unwrap();
        let rule = Rule { trash: rule.trash.map(|_| bytes(&scene.path("out/trash")).to_vec()), ..rule };
        fs::create_dir(scene.path("out/trash")).unwrap();
        let (before, there) = (scene.tree("in"), scene.tree("out"));
        for _ in 0..TRIES {
            let out = scene.path("out");
            let mut left = 1;
            let plan: fault::Plan = Box::new(move |_, call| {
                if left > 0 && call == "renameat2" && is_copied(&out) {
                    left -= 1;
                    return Err(Errno::PERM);
                }
                Ok(())
            });
            let (outcome, _) = fault::with(plan, || scene.act(&rule, source, target));
            let what = format!("{rule:?} of {source}: {outcome:?}");
            assert!(matches!(outcome.result, Err(Error::NotRemovable { copied: true, .. })), "{what}");
            let text = outcome.error(&scene);
            assert!(text.contains(FORBIDDEN) && text.ends_with(": the copy was taken back"), "{text}");
            assert_eq!((scene.tree("in"), scene.tree("out")), (before.clone(), there.clone()), "{what}");
        }
    }
}

/// Acts as another user, in a thread that is that one alone.
fn act_as(uid: u32, scene: &Scene, rule: &Rule, source: &str, target: &str) -> Outcome {
    std::thread::scope(|scope| {
        let act = || {
            let uid = rustix::fs::Uid::from_raw(uid);
            rustix::thread::set_thread_res_uid(uid, uid, uid).unwrap();
            scene.act(rule, source, target)
        };
        scope.spawn(act).join().unwrap()
    })
}

fn assert_not_copied(scene: &Scene, outcome: &Outcome, before: &[Vec<String>; 2], why: &str) {
    assert!(matches!(outcome.result, Err(Error::NotRemovable { copied: false, .. })), "{outcome:?}");
    let text = outcome.error(scene);
    assert!(text.contains(why) && text.ends_with(": nothing was copied"), "{text}");
    assert_eq!([scene.tree("in"), scene.tree("out")], *before, "{outcome:?}");
}

#[test]
fn what_the_directory_does_not_let_go_is_not_copied() {
    if !is_root() {
        return;
    }
    let Some(first) = scene() else { return };
    for (owner, mode, why) in [(0, 0o1777, FORBIDDEN), (0, 0o755, "[Errno 13] Permission denied")] {
        for (rule, source, target) in cases(&first) {
            let scene = scene().unwrap();
            let rule = Rule { trash: rule.trash.map(|_| bytes(&scene.path("out/trash")).to_vec()), ..rule };
            fs::create_dir(scene.path("out/trash")).unwrap();
            for name in ["in/f", "in/l", "in/t", "in/t/a", "in/t/a/f", "in/t/g"] {
                scene.set_owner(name, STRANGER);
            }
            for name in ["out", "out/old", "out/trash"] {
                scene.set_owner(name, OTHER);
            }
            scene.set_owner("in", owner);
            scene.set_mode("in", mode);
            let before = [scene.tree("in"), scene.tree("out")];
            for _ in 0..TRIES {
                assert_not_copied(&scene, &act_as(OTHER, &scene, &rule, source, target), &before, why);
            }
            // The owner of the directory, and root, may.
            scene.set_owner("in", OTHER);
            scene.set_mode("in/t", 0o777);
            scene.set_mode("in/t/a", 0o777);
            act_as(OTHER, &scene, &rule, source, target).done();
            assert!(!scene.exists(source));
        }
    }
}

#[test]
fn what_may_only_grow_is_not_copied() {
    let Some(scene) = scene() else { return };
    let directory = fs::File::open(scene.path("in")).unwrap();
    if ioctl_setflags(&directory, IFlags::APPEND).is_err() {
        eprintln!("skipped: needs root and chattr(1)");
        return;
    }
    let before = [scene.tree("in"), scene.tree("out")];
    let renaming = Rule { on_conflict: Conflict::Rename, ..rule(Action::Move) };
    let outcomes = ["in/f", "in/l", "in/t"].map(|source| scene.act(&renaming, source, "out/old"));
    ioctl_setflags(&directory, IFlags::empty()).unwrap();
    for outcome in outcomes {
        assert_not_copied(&scene, &outcome, &before, FORBIDDEN);
    }
    scene.act(&renaming, "in/f", "out/old").done();
}

/// What somebody else has done to the copy meanwhile is not taken away.
#[test]
fn what_came_into_a_copy_stays_when_it_is_taken_back() {
    for (source, changed) in [("in/f", "out/new"), ("in/t", "out/new/g"), ("in/t", "out/new/a/newcomer")] {
        let Some(scene) = scene() else { return };
        let (out, to) = (scene.path("out"), scene.path(changed));
        let plan: fault::Plan = Box::new(move |_, call| {
            if call == "renameat2" && is_copied(&out) && !to.exists() | to.is_file() {
                let is_first = fs::read(&to).map_or(true, |content| content != b"his");
                if is_first {
                    fs::write(&to, "his").unwrap();
                    return Err(Errno::PERM);
                }
            }
            Ok(())
        });
        let before = scene.tree("in");
        let (outcome, _) = fault::with(plan, || scene.act(&rule(Action::Move), source, "out/new"));
        assert!(matches!(outcome.result, Err(Error::SourceKept { .. })), "{outcome:?}");
        assert_eq!(scene.read(changed).unwrap(), b"his", "{outcome:?}");
        assert_eq!(scene.tree("in"), before);
        assert_eq!(scene.temporaries(), [] as [PathBuf; 0]);
    }
}
