//! The n-th system call fails, for n = 1, 2, … until the action passes.
//!
//! Whatever call it is and whatever the error: afterwards the source is as it was or the destination is complete
//! (never neither), nothing half done has a final name, nothing temporary is left, and a failure is reported.

use rustix::io::Errno;

use super::*;
use crate::sys::fault;

/// Calls after which a scenario must have passed.
const CALLS_MAX: u32 = 2_000;

/// What a disk, a quota, a signal and permissions say; and what older kernels and other filesystems say.
const ERRORS: [Errno; 11] = [
    Errno::IO,
    Errno::NOSPC,
    Errno::DQUOT,
    Errno::INTR,
    Errno::ACCESS,
    Errno::INVAL,
    Errno::NOSYS,
    Errno::OPNOTSUPP,
    Errno::XDEV,
    Errno::PERM,
    Errno::NOENT,
];

/// For variations of what was tried with all of them.
const FEW_ERRORS: [Errno; 3] = [Errno::IO, Errno::ACCESS, Errno::XDEV];

#[derive(Clone, Copy, Debug)]
enum Object {
    File,
    Link,
    Tree,
}

/// An action whose every call is made to fail.
#[derive(Debug)]
struct Scenario {
    rule: Rule,
    object: Object,
    across: bool,
    /// What has the destination's name before.
    occupied: bool,
    /// Actions before it have left their directories open.
    held: bool,
}

impl Scenario {
    fn scene(&self) -> Option<Scene> {
        let scene = if self.across { Scene::across()? } else { Scene::in_memory() };
        match self.object {
            Object::File => drop(scene.write("in/o", vec![7; 100_000])),
            Object::Link => scene.link("somewhere", "in/o"),
            Object::Tree => {
                scene.write("in/o/a/f", "one");
                scene.write("in/o/g", "two");
                scene.link("somewhere", "in/o/l");
                fs::create_dir_all(scene.path("in/o/b/c")).unwrap();
            }
        }
        if self.occupied && matches!(self.object, Object::Tree) {
            scene.write("out/sub/o/a/f", "old");
            scene.write("out/sub/o/kept", "kept");
        } else if self.occupied {
            scene.write("out/sub/o", "old");
        }
        Some(scene)
    }

    /// Lets the action run in a new scene with a plan in force; gives whether it made as many calls as `n`.
    fn run(&self, n: u32, errno: Errno) -> Option<bool> {
        let scene = self.scene()?;
        let mut held = Held::default();
        if self.held {
            scene.hold(&mut held, "in/o", "out/sub/o");
        }
        let (source, old) = (scene.tree("in"), scene.tree("out"));
        let (outcome, calls) = fault::with(fault::fail(n, errno), || {
            scene.act_again(&mut held, &self.rule, "in/o", "out/sub/o")
        });
        let context = format!("{self:?}, call {n} of {calls} fails with {errno:?}: {outcome:?}");
        let source_now = if scene.exists("in/o") { scene.tree("in") } else { Vec::new() };
        self.check(&scene, &outcome, &source, &source_now, &old, &context);
        check_told(&scene, &outcome, &old, &context);
        if errno == Errno::INTR {
            assert!(outcome.result.is_ok(), "a signal changes nothing: {context}");
        }
        Some(calls >= n)
    }

    fn check(
        &self,
        scene: &Scene,
        outcome: &Outcome,
        source: &[String],
        source_now: &[String],
        old: &[String],
        context: &str,
    ) {
        let intact = source_now == source;
        let complete = self.is_complete(scene);
        match (self.rule.action, &outcome.result) {
            (Action::Delete, Ok(_)) => assert!(source_now.is_empty(), "{context}"),
            (Action::Delete, Err(_)) => assert!(intact || matches!(self.object, Object::Tree), "{context}"),
            (Action::Copy, Ok(_)) => assert!(intact && complete, "{context}"),
            (Action::Copy, Err(_)) => assert!(intact, "{context}"),
            (Action::Move, Ok(_)) => assert!(source_now.is_empty() && complete, "{context}"),
            (Action::Move, Err(_)) => assert!(intact || complete, "neither: {context}"),
        }
        let merging = self.occupied && matches!(self.object, Object::Tree);
        // A copy of a tree may be placed without an entry that could not be read: it says so, and nothing of it is
        // half.
        let is_left_out = matches!(outcome.result, Err(Error::LeftOut { .. }));
        if is_left_out {
            for (name, content) in [("a/f", "one"), ("g", "two")] {
                let found = scene.read(&format!("out/sub/o/{name}"));
                let old = merging && name == "a/f" && found.as_deref() == Some(b"old");
                assert!(
                    old || found.is_none_or(|found| found == content.as_bytes()),
                    "half of {name}: {context}"
                );
            }
            assert!(outcome.records.iter().any(|record| record.starts_with("not copied: ")), "{context}");
        }
        if !complete && !merging && !is_left_out {
            let now = scene.tree("out");
            let without_parent: Vec<_> = now.iter().filter(|line| !line.starts_with("sub ")).collect();
            let old: Vec<_> = old.iter().filter(|line| !line.starts_with("sub ")).collect();
            assert_eq!(without_parent, old, "something half done: {context}");
        }
        // The call that failed may be the removal of an outer directory, empty by then; that is what the sweep is
        // for.
        for path in scene.temporaries() {
            let empty = path.is_dir() && fs::read_dir(&path).unwrap().next().is_none();
            assert!(empty && outcome.result.is_ok(), "{path:?} is left: {context}");
        }
    }

    fn is_complete(&self, scene: &Scene) -> bool {
        match self.object {
            Object::File => scene.read("out/sub/o").is_some_and(|content| content == vec![7; 100_000]),
            Object::Link => fs::read_link(scene.path("out/sub/o")).is_ok(),
            Object::Tree => {
                scene.read("out/sub/o/a/f").is_some_and(|content| content == b"one")
                    && scene.read("out/sub/o/g").is_some_and(|content| content == b"two")
                    && scene.path("out/sub/o/b/c").is_dir()
                    && fs::read_link(scene.path("out/sub/o/l")).is_ok()
            }
        }
    }

    fn run_all(&self, errors: &[Errno]) {
        for errno in errors {
            let mut n = 1;
            while let Some(true) = self.run(n, *errno) {
                n += 1;
                assert!(n < CALLS_MAX, "{self:?} never passes");
            }
        }
    }
}

/// Each new name is told as ours, also where the action fails after it has given it: it may start a rule again.
fn check_told(scene: &Scene, outcome: &Outcome, old: &[String], context: &str) {
    let name = |line: &String| PathBuf::from(line.split(' ').next().unwrap());
    let old: Vec<PathBuf> = old.iter().map(name).collect();
    let destination = scene.path("out/sub/o");
    let is_done = ["move", "copy"]
        .iter()
        .any(|verb| outcome.records.contains(&format!("{verb} 'in/o' to 'out/sub/o'")));
    for new in scene.tree("out").iter().map(name).filter(|name| !old.contains(name)) {
        let path = scene.path("out").join(&new);
        let is_told = (is_done && path.starts_with(&destination))
            || outcome
                .made
                .iter()
                .any(|(made, is_tree)| path == *made || (*is_tree && path.starts_with(made)))
            || path.file_name().is_some_and(|name| crate::is_temporary_name(name.as_bytes()));
        assert!(is_told, "{new:?} is told by none of {:?}: {context}", outcome.made);
    }
}

/// A rule that uses everything: parents, modes, and the owner that everything has already.
fn full(action: Action, on_conflict: Conflict) -> Rule {
    Rule {
        auto_create: true,
        on_conflict,
        dirmode: Some(0o750),
        filemode: Some(0o640),
        rec: true,
        durability: Durability::Always,
        ..rule(action)
    }
}

fn run_scenarios(action: Action, across: bool) {
    for object in [Object::File, Object::Link, Object::Tree] {
        // A dangling link can't be copied, and a tree can't be moved onto one that is not empty.
        if matches!((action, object), (Action::Copy, Object::Link)) {
            continue;
        }
        Scenario { rule: full(action, Conflict::Fail), object, across, occupied: false, held: false }
            .run_all(&ERRORS);
        Scenario { rule: rule_with_parents(action), object, across, occupied: false, held: false }
            .run_all(&FEW_ERRORS);
        if !matches!((action, object), (Action::Move, Object::Tree)) {
            Scenario { rule: full(action, Conflict::Overwrite), object, across, occupied: true, held: false }
                .run_all(&FEW_ERRORS);
        }
    }
}

#[test]
fn any_call_may_fail_where_directories_are_held() {
    for action in [Action::Move, Action::Copy, Action::Delete] {
        let (object, rule) = (Object::File, rule_with_parents(action));
        Scenario { rule, object, across: false, occupied: false, held: true }.run_all(&ERRORS);
    }
}

fn rule_with_parents(action: Action) -> Rule {
    Rule { auto_create: true, rec: true, ..rule(action) }
}

#[test]
fn any_call_of_a_move_may_fail() {
    run_scenarios(Action::Move, false);
}

#[test]
fn any_call_of_a_move_across_filesystems_may_fail() {
    run_scenarios(Action::Move, true);
}

#[test]
fn any_call_of_a_copy_may_fail() {
    run_scenarios(Action::Copy, false);
}

#[test]
fn any_call_of_a_copy_across_filesystems_may_fail() {
    run_scenarios(Action::Copy, true);
}

#[test]
fn any_call_of_a_deletion_may_fail() {
    run_scenarios(Action::Delete, false);
}

#[test]
fn everything_works_without_openat2_and_without_no_replace() {
    for (call, errno) in [("openat2", Errno::NOSYS), ("openat2", Errno::PERM), ("renameat2", Errno::INVAL)] {
        for object in [Object::File, Object::Link, Object::Tree] {
            for action in [Action::Move, Action::Copy, Action::Delete] {
                if matches!((action, object), (Action::Copy, Object::Link)) {
                    continue;
                }
                let scenario = Scenario {
                    rule: full(action, Conflict::Fail),
                    object,
                    across: false,
                    occupied: false,
                    held: false,
                };
                let scene = scenario.scene().unwrap();
                let (outcome, _) = fault::with(fault::fail_all(call, errno), || {
                    scene.act(&scenario.rule, "in/o", "out/sub/o")
                });
                outcome.done();
                assert_eq!(
                    scenario.is_complete(&scene),
                    action != Action::Delete,
                    "{scenario:?} without {call}"
                );
                assert_eq!(scene.exists("in/o"), action == Action::Copy);
                // A second file finds the name taken, also where the kernel can't check and rename in one step.
                if action != Action::Delete {
                    let scene = scenario.scene().unwrap();
                    scene.write("out/sub/o", "old");
                    let (outcome, _) = fault::with(fault::fail_all(call, errno), || {
                        scene.act(&scenario.rule, "in/o", "out/sub/o")
                    });
                    assert!(matches!(outcome.result, Err(Error::Exists { .. })), "{outcome:?}");
                    assert_eq!(scene.read("out/sub/o").unwrap(), b"old");
                }
            }
        }
    }
}

#[test]
fn a_file_that_changes_while_it_is_copied_is_copied_again_and_then_left() {
    for (changes, succeeds) in [(1, true), (2, true), (3, false)] {
        for action in [Action::Copy, Action::Move] {
            let Some(scene) = (if action == Action::Move { Scene::across() } else { Some(Scene::new()) })
            else {
                return;
            };
            let source = scene.write("in/f", vec![b'a'; 300_000]);
            let mut left = changes;
            let changed = source.clone();
            let change: fault::Plan = Box::new(move |_, call| {
                // The first write of each try is where the other writer comes in, with the same size.
                if call == "utimensat" && left > 0 {
                    left -= 1;
                    let letter = b'b' + left;
                    fs::write(&changed, vec![letter; 300_000]).unwrap();
                }
                Ok(())
            });
            let (outcome, _) = fault::with(change, || scene.act(&rule(action), "in/f", "out/f"));
            let content = vec![b'b'; 300_000];
            if succeeds {
                outcome.done();
                assert!(scene.read("out/f").unwrap() == content, "the last content, and all of it");
            } else {
                assert!(matches!(outcome.result, Err(Error::Changing { .. })), "{outcome:?}");
                assert!(!scene.exists("out/f") && scene.read("in/f").unwrap() == content);
            }
            assert_eq!(scene.temporaries(), [] as [PathBuf; 0]);
        }
    }
}

#[test]
fn a_source_that_changes_before_it_is_removed_is_kept() {
    let Some(scene) = Scene::across() else { return };
    // The last look before unlinkat(2) is the one call after the directory was synced.
    let source = scene.write("in/f", "first");
    let mut synced = 0;
    let changed = source.clone();
    let change: fault::Plan = Box::new(move |_, call| {
        synced += u32::from(call == "fsync");
        if synced == 2 && call == "newfstatat" {
            fs::write(&changed, "second").unwrap();
        }
        Ok(())
    });
    let (outcome, _) = fault::with(change, || scene.act(&rule(Action::Move), "in/f", "out/f"));
    assert!(matches!(outcome.result, Err(Error::SourceKept { .. })), "{outcome:?}");
    assert_eq!(
        (scene.read("in/f").unwrap(), scene.read("out/f").unwrap()),
        (b"second".into(), b"first".into())
    );

    // In a tree: a file that is new, and one that is changed, after everything was copied.
    for (name, content) in [("in/d/late", "late"), ("in/d/g", "changed")] {
        scene.write("in/d/f", "first");
        scene.write("in/d/g", "first");
        let changed = scene.path(name);
        let change: fault::Plan = Box::new(move |_, call| {
            if call == "syncfs" {
                fs::write(&changed, content).unwrap();
            }
            Ok(())
        });
        let (outcome, _) = fault::with(change, || scene.act(&rule(Action::Move), "in/d", "out/d"));
        assert!(matches!(outcome.result, Err(Error::SourceKept { .. })), "{outcome:?}");
        assert_eq!(scene.read(name).unwrap(), content.as_bytes());
        assert_eq!(scene.read("out/d/g").unwrap(), b"first");
        fs::remove_dir_all(scene.path("out/d")).unwrap();
    }
}

#[test]
fn any_call_may_fail_on_any_filesystem() {
    super::property::on_each_filesystem("tests::faults::filesystem_child");
}

/// Not a test of its own: runs where a filesystem was mounted as `in`, with another one as `out`, or as `both`.
#[test]
fn filesystem_child() {
    let Some((scene, across)) = super::property::mounted_scene() else { return };
    MOUNTED.set(Some(if across { scene.path("in") } else { scene.base.clone() }));
    let whole = super::property::steps() >= 100_000;
    let errors = if whole { &ERRORS[..] } else { &FEW_ERRORS[..1] };
    for action in [Action::Move, Action::Copy, Action::Delete] {
        // Where times are whole seconds, a fresh file is not moved to another filesystem.
        if across && action == Action::Move && super::property::has_coarse_times(&scene) {
            continue;
        }
        for object in [Object::File, Object::Tree] {
            let rule = full(action, Conflict::Fail);
            let rule = Rule {
                on_conflict: if matches!(object, Object::File) {
                    Conflict::Overwrite
                } else {
                    Conflict::Fail
                },
                ..rule
            };
            Scenario { rule, object, across, occupied: false, held: false }.run_all(errors);
        }
    }
    eprintln!("steps: each call failed with {errors:?}");
    let _keep = std::mem::ManuallyDrop::new(scene);
}
