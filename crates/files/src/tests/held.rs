//! Directories that stay open between two actions: used while their paths lead to them, and only then.

use std::cell::RefCell;
use std::process::Command;
use std::rc::Rc;

use super::*;
use crate::sys::fault;

/// Where the child process finds its scene.
const VARIABLE: &str = "FILES_TEST_HELD";

/// Performs an action, and counts its lookups of whole directories.
fn lookups(scene: &Scene, held: &mut Held, rule: &Rule, source: &str, destination: &str) -> (Outcome, usize) {
    let names = Rc::new(RefCell::new(Vec::new()));
    let called = Rc::clone(&names);
    let plan: fault::Plan = Box::new(move |_, name| {
        called.borrow_mut().push(name);
        Ok(())
    });
    let (outcome, _) = fault::with(plan, || scene.act_again(held, rule, source, destination));
    let lookups = names.borrow().iter().filter(|name| **name == "openat2").count();
    (outcome, lookups)
}

/// A scene with `in/a/sub/f` and `out/d`, whose directories are held already.
fn scene_with_held() -> (Scene, Held) {
    let scene = Scene::in_memory();
    let mut held = Held::default();
    fs::create_dir(scene.path("out/d")).unwrap();
    scene.hold(&mut held, "in/a/sub/f", "out/d/f");
    scene.write("in/a/sub/f", "old");
    (scene, held)
}

#[test]
fn a_held_directory_is_used_only_while_its_path_leads_there() {
    let ours = rule(Action::Move);
    for action in [Action::Move, Action::Copy, Action::Delete] {
        let (scene, mut held) = scene_with_held();
        let (outcome, lookups) = lookups(&scene, &mut held, &rule(action), "in/a/sub/f", "out/d/f");
        outcome.done();
        assert_eq!(lookups, 0, "{action}");
    }

    // A file in another directory.
    let (scene, mut held) = scene_with_held();
    scene.write("in/b/f", "of b");
    fs::create_dir(scene.path("out/e")).unwrap();
    scene.act_again(&mut held, &ours, "in/b/f", "out/e/f").done();
    assert_eq!(scene.read("out/e/f").unwrap(), b"of b");
    assert!(scene.exists("in/a/sub/f") && !scene.exists("out/d/f"));

    // Another directory has taken the name of one above, or of the directory itself.
    for name in ["in/a", "in/a/sub"] {
        let (scene, mut held) = scene_with_held();
        fs::rename(scene.path(name), scene.path("in/aside")).unwrap();
        scene.write("in/a/sub/f", "new");
        let (outcome, lookups) = lookups(&scene, &mut held, &ours, "in/a/sub/f", "out/d/f");
        outcome.done();
        assert_eq!((lookups, scene.read("out/d/f").unwrap()), (1, b"new".to_vec()), "{name}");
    }
    let (scene, mut held) = scene_with_held();
    fs::rename(scene.path("out/d"), scene.path("out/aside")).unwrap();
    fs::create_dir(scene.path("out/d")).unwrap();
    let (outcome, _) = lookups(&scene, &mut held, &ours, "in/a/sub/f", "out/d/f");
    outcome.done();
    assert!(scene.exists("out/d/f") && !scene.exists("out/aside/f"));

    // Nothing is there any more.
    let (scene, mut held) = scene_with_held();
    fs::rename(scene.path("in/a"), scene.path("in/aside")).unwrap();
    let text = scene.act_again(&mut held, &ours, "in/a/sub/f", "out/d/f").error(&scene);
    assert!(text.starts_with("[Errno 2] No such file or directory: 'in/a/sub/f'"), "{text}");

    // A link on the way to the very same directory leads nowhere else; one in its own place is refused.
    let (scene, mut held) = scene_with_held();
    fs::rename(scene.path("in/a"), scene.path("in/aside")).unwrap();
    scene.link("aside", "in/a");
    scene.act_again(&mut held, &ours, "in/a/sub/f", "out/d/f").done();
    for (directory, held_as) in [("in/a/sub", "in/a/aside"), ("out/d", "out/aside")] {
        let (scene, mut held) = scene_with_held();
        fs::rename(scene.path(directory), scene.path(held_as)).unwrap();
        scene.link("aside", directory);
        let text = scene.act_again(&mut held, &ours, "in/a/sub/f", "out/d/f").error(&scene);
        assert!(text.starts_with("refused:") && text.contains("symbolic link"), "{text}");
        assert!(scene.exists("in/a/sub/f"));
    }
}

#[test]
fn no_gap_lets_a_parent_through_that_is_swapped_between_two_actions() {
    // A link to the victim, in the place of each directory that is held: refused, and the victim is not touched.
    for (directory, aside) in [("in/a", "in/aside"), ("in/a/sub", "in/a/aside"), ("out/d", "out/aside")] {
        for action in [Action::Move, Action::Copy, Action::Delete] {
            if action == Action::Delete && directory == "out/d" {
                continue;
            }
            let (scene, mut held) = scene_with_held();
            scene.write("victim/f", "secret");
            scene.write("victim/sub/f", "secret");
            let before = scene.tree("victim");
            fs::rename(scene.path(directory), scene.path(aside)).unwrap();
            scene.link(scene.path("victim"), directory);
            let rule = Rule { rec: true, ..overwriting(action) };
            let text = scene.act_again(&mut held, &rule, "in/a/sub/f", "out/d/f").error(&scene);
            assert!(text.starts_with("refused:"), "{text}");
            assert_eq!(scene.tree("victim"), before, "{action} through {directory}");
        }
    }
}

#[test]
fn without_numbers_of_mounts_every_directory_is_looked_up_anew() {
    let scene = Scene::in_memory();
    let lookups = Rc::new(RefCell::new(0));
    let counted = Rc::clone(&lookups);
    let plan: fault::Plan = Box::new(move |_, name| {
        *counted.borrow_mut() += usize::from(name == "openat2");
        if name == "statx" { Err(rustix::io::Errno::NOSYS) } else { Ok(()) }
    });
    fault::with(plan, || scene.hold(&mut Held::default(), "in/f", "out/f"));
    assert_eq!(*lookups.borrow(), 4, "two actions, two directories each");
}

#[test]
fn what_is_mounted_on_a_held_directory_is_seen_and_what_is_released_can_be_unmounted() {
    let scene = Scene::new();
    let child = child_test("tests::held::mounting_child", (VARIABLE, scene.base.as_os_str()));
    let mut command = Command::new("unshare");
    command.arg(if rustix::process::geteuid().is_root() { "-m" } else { "-Urm" });
    command.arg("sh").arg("-ec").arg("mount -t tmpfs none \"$0\"; exec \"$@\"").arg(&scene.base);
    command.arg(child.get_program()).args(child.get_args()).env(VARIABLE, &scene.base);
    match command.output() {
        Ok(output) if output.status.success() || !output.stdout.is_empty() => {
            assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
        }
        result => eprintln!("skipped: needs mounts of its own: {result:?}"),
    }
}

/// Not a test of its own: runs where it may mount, in an empty filesystem in memory.
#[test]
fn mounting_child() {
    let Some(base) = std::env::var_os(VARIABLE) else { return };
    let scene = std::mem::ManuallyDrop::new(Scene { base: base.into(), other: None });
    let command = |name: &str, arguments: &[&str]| {
        let status = Command::new(name).args(arguments).current_dir(&scene.base).status();
        status.unwrap().success()
    };
    let mut held = Held::default();
    fs::create_dir_all(scene.path("out")).unwrap();
    scene.hold(&mut held, "in/f", "out/f");
    // Device and inode are the same as before, the mount is another one, which does not let anybody write.
    assert!(command("mount", &["--bind", "out", "out"]));
    assert!(command("mount", &["-o", "remount,bind,ro", "out"]));
    scene.write("in/f", "kept");
    let text = scene.act_again(&mut held, &rule(Action::Copy), "in/f", "out/f").error(&scene);
    assert!(text.starts_with("[Errno 30] Read-only file system"), "{text}");
    assert!(!command("umount", &["out"]), "a held directory keeps its mount");
    held.release();
    assert!(command("umount", &["out"]));
    scene.act_again(&mut held, &rule(Action::Copy), "in/f", "out/f").done();
}
