//! Attacks, carried out: afterwards nothing has happened to the victim, and the refusal says what was stopped.
//!
//! `in` and `out` are directories in which a stranger writes too, `victim` is a place that only the daemon's user may
//! change. Where time matters, the attack is made just before the n-th system call of an action, for each n there is:
//! so every gap between two calls is tried, none by luck.

use std::os::unix::net::UnixListener;
use std::sync::Arc;

use rustix::io::Errno;

use super::*;
use crate::sys::fault;

const SECRET: &str = "secret of the victim";

/// Calls after which an action must have ended.
const CALLS_MAX: u32 = 1_000;

/// A scene with something to protect.
fn scene_with_victim() -> Scene {
    let scene = Scene::in_memory();
    scene.write("victim/f", SECRET);
    scene.write("victim/sub/f", SECRET);
    for (name, mode) in
        [("victim/f", 0o600), ("victim/sub/f", 0o600), ("victim/sub", 0o700), ("victim", 0o700)]
    {
        scene.set_mode(name, mode);
    }
    scene.write("in/sub/f", "harmless");
    scene.write("in/f", "harmless");
    scene.write("in/tree/sub/f", "harmless");
    scene
}

/// A rule that would do as much harm as possible.
fn harmful(action: Action) -> Rule {
    Rule {
        auto_create: true,
        on_conflict: Conflict::Overwrite,
        dirmode: Some(0o777),
        filemode: Some(0o666),
        rec: true,
        ..rule(action)
    }
}

/// What must not change, and what must not come out.
fn assert_unharmed(scene: &Scene, before: &[String], context: &str) {
    assert_eq!(scene.tree("victim"), before, "the victim was changed: {context}");
    let mut found = Vec::new();
    find(&scene.path("out"), &|_| true, &mut found);
    for path in
        found.iter().filter(|path| fs::symlink_metadata(path).is_ok_and(|metadata| metadata.is_file()))
    {
        let shown = fs::read(path).unwrap();
        assert!(!shown.starts_with(SECRET.as_bytes()), "the secret is in {path:?}: {context}");
    }
}

/// Makes `name` a link of the stranger, whatever it was.
fn swap_for_link(path: &Path, target: &Path) {
    if fs::symlink_metadata(path).is_ok() {
        let mut aside = path.to_path_buf();
        aside.set_extension("aside");
        let _ = fs::rename(path, aside);
    }
    if std::os::unix::fs::symlink(target, path).is_ok() {
        let _ = std::os::unix::fs::lchown(path, Some(STRANGER), Some(STRANGER));
    }
}

/// Makes the swap just before the n-th call, for each n until the action ends before it: of a first action, and of one
/// that finds its directories held.
fn attack_every_gap(rule: &Rule, source: &str, destination: &str, attack: impl Fn(&Scene) + Clone + 'static) {
    for is_first in [true, false] {
        attack_every_gap_of(is_first, rule, source, destination, attack.clone());
    }
}

fn attack_every_gap_of(
    is_first: bool,
    rule: &Rule,
    source: &str,
    destination: &str,
    attack: impl Fn(&Scene) + Clone + 'static,
) {
    for n in 1..CALLS_MAX {
        let scene = Arc::new(scene_with_victim());
        let mut held = Held::default();
        if !is_first {
            scene.hold(&mut held, source, destination);
        }
        let before = scene.tree("victim");
        let (attacked, attack) = (Arc::clone(&scene), attack.clone());
        let plan: fault::Plan = Box::new(move |call, _| {
            if call == n {
                attack(&attacked);
            }
            Ok(())
        });
        let (outcome, calls) = fault::with(plan, || scene.act_again(&mut held, rule, source, destination));
        assert_unharmed(
            &scene,
            &before,
            &format!("{rule:?}, first: {is_first}, attack before call {n} of {calls}: {outcome:?}"),
        );
        if calls < n {
            return;
        }
    }
    panic!("the action never ended");
}

#[test]
fn no_gap_lets_a_swapped_parent_of_the_source_through() {
    if !is_root() {
        return;
    }
    for action in [Action::Move, Action::Copy, Action::Delete] {
        let swap = |scene: &Scene| swap_for_link(&scene.path("in/sub"), &scene.path("victim"));
        attack_every_gap(&harmful(action), "in/sub/f", "out/f", swap);
        let swap = |scene: &Scene| swap_for_link(&scene.path("in/tree/sub"), &scene.path("victim/sub"));
        attack_every_gap(&harmful(action), "in/tree", "out/tree", swap);
    }
}

#[test]
fn no_gap_lets_a_swapped_source_through() {
    if !is_root() {
        return;
    }
    for action in [Action::Move, Action::Copy, Action::Delete] {
        let swap = |scene: &Scene| swap_for_link(&scene.path("in/f"), &scene.path("victim/f"));
        attack_every_gap(&harmful(action), "in/f", "out/f", swap);
        let swap = |scene: &Scene| swap_for_link(&scene.path("in/tree/sub/f"), &scene.path("victim/f"));
        attack_every_gap(&harmful(action), "in/tree", "out/tree", swap);
    }
}

#[test]
fn no_gap_lets_a_swapped_destination_through() {
    if !is_root() {
        return;
    }
    for action in [Action::Move, Action::Copy] {
        for source in ["in/f", "in/tree"] {
            for (place, target) in [
                ("out/new", "victim"),
                ("out/new/deep", "victim/sub"),
                ("out/new/deep/o", "victim/f"),
                ("out/new/deep/o", "victim/sub"),
                ("out/new/deep/o/sub", "victim/sub"),
                ("out/new/deep/o/sub/f", "victim/f"),
            ] {
                let swap = move |scene: &Scene| swap_for_link(&scene.path(place), &scene.path(target));
                attack_every_gap(&harmful(action), source, "out/new/deep/o", swap);
            }
        }
    }
}

#[test]
fn no_gap_lets_a_swapped_temporary_name_through() {
    if !is_root() {
        return;
    }
    for (source, target) in [("in/f", "victim/f"), ("in/tree", "victim/sub")] {
        let swap = move |scene: &Scene| {
            // Only what is in `out` itself: the stranger can't enter a temporary directory.
            for path in scene.temporaries().iter().filter(|path| path.parent() == Some(&scene.path("out"))) {
                swap_for_link(path, &scene.path(target));
            }
        };
        attack_every_gap(&harmful(Action::Copy), source, "out/o", swap);
    }
}

#[test]
fn no_gap_lets_a_directory_of_the_victim_be_removed_as_ours() {
    // The stranger may rename in `out`, so also the victim's own directory in there: onto the temporary name.
    for n in 1..CALLS_MAX {
        let scene = Arc::new(scene_with_victim());
        scene.write("out/private/f", SECRET);
        scene.set_mode("out/private", 0o700);
        let attacked = Arc::clone(&scene);
        let plan: fault::Plan = Box::new(move |call, _| {
            if call == n {
                for path in attacked.temporaries() {
                    let _ = fs::rename(&path, attacked.path("out/aside"));
                    let _ = fs::rename(attacked.path("out/private"), &path);
                }
            }
            // The copy fails late, so that it has something to clean up.
            if call > n { Err(Errno::NOSPC) } else { Ok(()) }
        });
        let (_, calls) = fault::with(plan, || scene.act(&rule(Action::Copy), "in/tree", "out/o"));
        let mut kept = Vec::new();
        find(&scene.path("out"), &|name| name == b"f", &mut kept);
        let kept = kept.iter().any(|path| fs::read(path).unwrap() == SECRET.as_bytes());
        assert!(kept, "the victim's directory was removed, attack before call {n}");
        if calls < n {
            return;
        }
    }
}

#[test]
fn no_gap_lets_another_directory_take_the_place_of_a_moved_one() {
    for n in 1..CALLS_MAX {
        let scene = Arc::new(scene_with_victim());
        scene.write("out/private/f", SECRET);
        scene.set_mode("out/private/f", 0o600);
        let attacked = Arc::clone(&scene);
        let plan: fault::Plan = Box::new(move |call, _| {
            if call == n && fs::rename(attacked.path("out/o"), attacked.path("out/aside")).is_ok() {
                fs::rename(attacked.path("out/private"), attacked.path("out/o")).unwrap();
            }
            Ok(())
        });
        let (_, calls) = fault::with(plan, || scene.act(&harmful(Action::Move), "in/tree", "out/o"));
        let private = if scene.exists("out/private") { "out/private/f" } else { "out/o/f" };
        assert_eq!(scene.mode(private), 0o600, "attack before call {n}");
        if calls < n {
            return;
        }
    }
}

#[test]
fn no_gap_lets_another_file_take_the_place_of_a_followed_one() {
    if !is_root() {
        return;
    }
    for n in 1..CALLS_MAX {
        let scene = Arc::new(scene_with_victim());
        scene.write("in/own", "own");
        scene.link("own", "in/l");
        for name in ["in/own", "in/l"] {
            scene.set_owner(name, STRANGER);
        }
        scene.write("in/private", SECRET);
        let attacked = Arc::clone(&scene);
        let plan: fault::Plan = Box::new(move |call, _| {
            if call == n {
                fs::rename(attacked.path("in/private"), attacked.path("in/own")).unwrap();
            }
            Ok(())
        });
        let (_, calls) = fault::with(plan, || scene.act(&rule(Action::Copy), "in/l", "out/o"));
        assert_ne!(scene.read("out/o").as_deref(), Some(SECRET.as_bytes()), "attack before call {n}");
        if calls < n {
            return;
        }
    }
}

#[test]
fn no_gap_lets_the_mode_of_a_new_directory_reach_another_one() {
    if !is_root() {
        return;
    }
    for n in 1..CALLS_MAX {
        let scene = Arc::new(scene_with_victim());
        fs::create_dir(scene.path("out/theirs")).unwrap();
        scene.set_owner("out/theirs", STRANGER + 1);
        scene.set_mode("out/theirs", 0o700);
        let attacked = Arc::clone(&scene);
        let plan: fault::Plan = Box::new(move |call, _| {
            if call == n && fs::rename(attacked.path("out/new"), attacked.path("out/aside")).is_ok() {
                fs::rename(attacked.path("out/theirs"), attacked.path("out/new")).unwrap();
            }
            Ok(())
        });
        let (_, calls) = fault::with(plan, || scene.act(&harmful(Action::Move), "in/f", "out/new/f"));
        let theirs = if scene.exists("out/theirs") { "out/theirs" } else { "out/new" };
        assert_eq!(scene.mode(theirs), 0o700, "attack before call {n}");
        if calls < n {
            return;
        }
    }
}

/// A directory is moved away while the walk is in it, so that its `..` is another one, in which the names that the walk
/// still has to visit exist too.
#[test]
fn no_gap_lets_a_walk_come_back_to_another_directory() {
    for (moved, other) in [("a", "b"), ("b", "a")] {
        for (action, place) in [(Action::Delete, "in/tree"), (Action::Move, "out/o")] {
            for n in 1..CALLS_MAX {
                let scene = Arc::new(scene_with_victim());
                let private = format!("victim/{other}/f");
                for name in ["in/tree/a/f", "in/tree/b/f", &private] {
                    scene.write(name, SECRET);
                    scene.set_mode(name, 0o600);
                }
                let (from, to) = (scene.path(place).join(moved), scene.path("victim").join(moved));
                let plan: fault::Plan = Box::new(move |call, _| {
                    if call == n {
                        let _ = fs::rename(&from, &to);
                    }
                    Ok(())
                });
                let (_, calls) = fault::with(plan, || scene.act(&harmful(action), "in/tree", "out/o"));
                assert!(scene.exists(&private), "removed, {moved} was moved before call {n}");
                assert_eq!(scene.mode(&private), 0o600, "{moved} was moved before call {n}");
                if calls < n {
                    break;
                }
            }
        }
    }
}

#[test]
fn a_sweep_removes_what_is_left_over_and_nothing_else() {
    // The processes of these names can't be: PIDs end at 4194304. The rest is that of this boot.
    const PID_MAX: u64 = (1 << 24) - 1;
    let scene = Scene::new();
    let own = crate::temporary::tests::name_of_pid(PID_MAX);
    let stale = |serial: u64| {
        let name = crate::temporary::tests::name_of_pid(PID_MAX - serial);
        String::from_utf8(name).unwrap()
    };
    let own = String::from_utf8(own).unwrap();
    scene.write(&format!("out/{own}"), "left over");
    scene.link("anywhere", &format!("out/{}", stale(1)));
    scene.write(&format!("out/{}/{}/a/b", stale(2), stale(2)), "left over");
    scene.set_mode(&format!("out/{}", stale(2)), 0o700);
    scene.write(&format!("out/deep/er/{}", stale(3)), "left over");
    // Not ours: a stranger gave the victim's directories our names; work in progress; names that only look alike.
    scene.write(&format!("out/{}/f", stale(4)), SECRET);
    scene.set_mode(&format!("out/{}", stale(4)), 0o700);
    let alive = String::from_utf8(crate::temporary::tests::name_of_pid(std::process::id().into())).unwrap();
    scene.write(&format!("out/{alive}"), "in progress");
    scene.write("out/.pyinotifyd-notes.tmp", "");
    scene.link(scene.path("victim"), "out/link");
    scene.write(&format!("victim/{own}"), "behind a link");
    let out = scene.path("out");
    let swept = crate::sweep(out.as_os_str().as_bytes(), true, &AtomicBool::new(false)).unwrap();
    assert_eq!((swept.removed, swept.failed, swept.incomplete), (4, 1, false));
    assert!(!scene.exists(&format!("out/{own}")) && !scene.exists(&format!("out/{}", stale(2))));
    for kept in [format!("out/{}/f", stale(4)), format!("out/{alive}"), "out/.pyinotifyd-notes.tmp".into()] {
        assert!(scene.exists(&kept), "{kept}");
    }
    assert!(scene.exists(&format!("victim/{own}")));
}

#[test]
fn a_link_moved_with_a_mode_changes_nothing_behind_it() {
    let scene = scene_with_victim();
    let before = scene.tree("victim");
    scene.link(scene.path("victim/f"), "in/l");
    scene.link(scene.path("victim"), "in/tree/l");
    scene.link("/nowhere/at/all", "in/tree/dangling");
    let rule = harmful(Action::Move);
    scene.act(&rule, "in/l", "out/l").done();
    scene.act(&rule, "in/tree", "out/tree").done();
    assert_eq!(scene.mode("out/tree/sub/f"), 0o666, "and a dangling link does not end it half way");
    assert_unharmed(&scene, &before, "moved links");
}

#[test]
fn a_copy_follows_only_links_that_give_nothing_away() {
    if !is_root() {
        return;
    }
    let scene = scene_with_victim();
    let before = scene.tree("victim");
    scene.link(scene.path("victim/f"), "in/theirs");
    scene.set_owner("in/theirs", STRANGER);
    let outcome = scene.act(&rule(Action::Copy), "in/theirs", "out/theirs");
    let text = outcome.error(&scene);
    for part in ["'in/theirs'", &format!("uid {STRANGER}"), "root (uid 0)"] {
        assert!(text.contains(part), "{part} is missing in: {text}");
    }
    assert!(!scene.exists("out/theirs"));
    // Through another link of theirs, or through one of the daemon's that leads to one of theirs: no way either.
    scene.link("theirs", "in/ours");
    assert!(scene.act(&rule(Action::Copy), "in/ours", "out/ours").error(&scene).contains("refused"));
    // The same in a tree: the link is copied as a link, with a warning.
    scene.link(scene.path("victim/f"), "in/tree/l");
    scene.set_owner("in/tree/l", STRANGER);
    let outcome = scene.act(&rule(Action::Copy), "in/tree", "out/tree");
    outcome.done();
    assert!(
        outcome.records.iter().any(|text| text.contains("the link itself is copied")),
        "{:?}",
        outcome.records
    );
    assert!(fs::symlink_metadata(scene.path("out/tree/l")).unwrap().is_symlink());
    assert_unharmed(&scene, &before, "copied links");
    // The stranger's link to the stranger's own file, and the daemon's link, are followed.
    scene.write("in/own", "own");
    scene.set_owner("in/own", STRANGER);
    scene.link("own", "in/l");
    scene.set_owner("in/l", STRANGER);
    scene.act(&rule(Action::Copy), "in/l", "out/l").done();
    assert_eq!(scene.read("out/l").unwrap(), b"own");
    scene.link(scene.path("victim/f"), "in/admin");
    scene.act(&rule(Action::Copy), "in/admin", "out/admin").done();
    assert_eq!(scene.read("out/admin").unwrap(), SECRET.as_bytes());
}

#[test]
fn a_copy_does_not_lend_the_rights_of_the_daemon() {
    if !is_root() {
        return;
    }
    let scene = Scene::new();
    scene.write("in/f", "#!/bin/sh");
    scene.set_owner("in/f", STRANGER);
    scene.set_mode("in/f", 0o6755);
    let mut capability = vec![1, 0, 0, 2, 0, 32, 0, 0];
    capability.resize(20, 0);
    let flags = rustix::fs::XattrFlags::empty();
    let capable = rustix::fs::setxattr(scene.path("in/f"), "security.capability", &capability, flags).is_ok();
    scene.act(&rule(Action::Copy), "in/f", "out/f").done();
    assert_eq!((scene.owner("out/f"), scene.mode("out/f")), ((0, 0), 0o755));
    let mut value = [0; 64];
    let copied = rustix::fs::getxattr(scene.path("out/f"), "security.capability", &mut value[..]);
    assert!(copied.is_err(), "the capability came along");
    assert!(capable, "the test could not set a capability");
}

#[test]
fn links_in_the_way_are_refused_with_path_and_owner() {
    if !is_root() {
        return;
    }
    let scene = scene_with_victim();
    let before = scene.tree("victim");
    scene.link(scene.path("victim"), "in/l");
    scene.link(scene.path("victim"), "out/l");
    for name in ["in/l", "out/l"] {
        scene.set_owner(name, STRANGER);
    }
    for action in [Action::Move, Action::Copy, Action::Delete] {
        let text = scene.act(&harmful(action), "in/l/f", "out/f").error(&scene);
        for part in ["'in/l'", "'in/l/f'", &format!("uid {STRANGER}"), "symbolic link"] {
            assert!(text.contains(part), "{part} is missing in: {text}");
        }
    }
    for action in [Action::Move, Action::Copy] {
        let text = scene.act(&harmful(action), "in/f", "out/l/new").error(&scene);
        assert!(text.contains("'out/l'") && text.contains("replace it by a directory"), "{text}");
    }
    // Below the literal part even a link of the daemon's user is not followed: the stranger chose to go through it.
    scene.link(scene.path("victim"), "out/admin");
    assert!(scene.act(&harmful(Action::Move), "in/f", "out/admin/new").error(&scene).contains("refused"));
    assert_unharmed(&scene, &before, "links in the way");
    // In the literal part it is.
    let destination = scene.path("out/admin/new");
    let trusted = scene.path("out/admin").as_os_str().len() + 1;
    let outcome = scene.request(
        &rule(Action::Move),
        &scene.path("in/f"),
        destination.as_os_str().as_bytes(),
        trusted,
        None,
    );
    outcome.done();
    assert!(scene.exists("victim/new"));
    // And a stranger's is not.
    let destination = scene.path("out/l/new");
    let trusted = scene.path("out/l").as_os_str().len() + 1;
    let outcome = scene.request(
        &rule(Action::Move),
        &scene.path("in/sub/f"),
        destination.as_os_str().as_bytes(),
        trusted,
        None,
    );
    assert!(outcome.error(&scene).contains("let root or the daemon's user own the link"));
}

#[test]
fn the_root_may_be_reached_through_links_of_those_who_lose_nothing() {
    if !is_root() {
        return;
    }
    let scene = scene_with_victim();
    scene.link(scene.path("in"), "out/root");
    let act = |rule: &Rule, name: &str| {
        let root = scene.path("out/root");
        let source = root.join(name);
        let stop = AtomicBool::new(false);
        let request = Request { root: bytes(&root), ..Request::plain(rule, bytes(&source), b"", &stop) };
        crate::perform(&request, &mut Held::default(), &mut |_| {})
    };
    act(&rule(Action::Delete), "f").unwrap();
    assert!(!scene.exists("in/f"), "the administrator's link");
    // The stranger's link leads to a directory of root's: that is the swapped root.
    scene.set_owner("out/root", STRANGER);
    assert!(act(&rule(Action::Delete), "sub/f").unwrap_err().to_string().contains("refused"));
    assert!(scene.exists("in/sub/f"));
    // To the stranger's own directory it may lead.
    scene.set_owner("in", STRANGER);
    act(&rule(Action::Delete), "sub/f").unwrap();
    assert!(!scene.exists("in/sub/f"));
}

#[test]
fn components_out_of_a_name_are_refused() {
    let scene = scene_with_victim();
    let before = (scene.tree("in"), scene.tree("out"), scene.tree("victim"));
    let base = scene.path("out/");
    for out_of_the_name in ["../victim/f", "a/../../victim/f", "..", ".", "a//f", "/f", "a/", "./f", "f\0g"] {
        for action in [Action::Move, Action::Copy] {
            let destination = [base.as_os_str().as_bytes(), out_of_the_name.as_bytes()].concat();
            let trusted = base.as_os_str().len();
            let outcome = scene.request(&harmful(action), &scene.path("in/f"), &destination, trusted, None);
            let text = outcome.error(&scene);
            assert!(text.contains("comes out of the file's name"), "{out_of_the_name:?}: {text}");
        }
    }
    assert_eq!((scene.tree("in"), scene.tree("out"), scene.tree("victim")), before);
}

#[test]
fn sources_outside_the_root_are_refused() {
    let scene = scene_with_victim();
    let before = scene.tree("victim");
    for action in [Action::Move, Action::Copy, Action::Delete] {
        for path in ["victim/f", "in/../victim/f", "in-unknown-path/f"] {
            let text = scene.act(&harmful(action), path, "out/f").error(&scene);
            assert!(text.contains("is not below the watched 'in'"), "{text}");
        }
    }
    assert_unharmed(&scene, &before, "outside the root");
}

#[test]
fn files_with_other_names_keep_mode_and_owner_where_links_are_not_protected() {
    crate::metadata::tests::PROTECTED.set(Some(false));
    let scene = scene_with_victim();
    let before = scene.tree("victim");
    fs::hard_link(scene.path("victim/f"), scene.path("in/hard")).unwrap();
    let text = scene.act(&harmful(Action::Move), "in/hard", "out/hard").error(&scene);
    assert!(text.contains("hard links") && text.contains("fs.protected_hardlinks=1"), "{text}");
    assert!(scene.exists("in/hard") && !scene.exists("out/hard"));
    fs::hard_link(scene.path("victim/f"), scene.path("in/tree/hard")).unwrap();
    assert!(scene.act(&harmful(Action::Move), "in/tree", "out/tree").result.is_err());
    assert_eq!(scene.tree("victim"), before);
    // Without modes it is a plain rename; with protected links the file must have been the mover's own.
    scene.act(&rule(Action::Move), "in/hard", "out/hard").done();
    crate::metadata::tests::PROTECTED.set(Some(true));
    fs::hard_link(scene.path("in/sub/f"), scene.path("in/sub/g")).unwrap();
    scene.act(&harmful(Action::Move), "in/sub/f", "out/new").done();
    crate::metadata::tests::PROTECTED.set(None);
}

#[test]
fn what_has_no_content_is_refused_without_waiting() {
    let scene = scene_with_victim();
    make_fifo(&scene.path("in/fifo"));
    scene.link("fifo", "in/to_fifo");
    scene.link("/dev/zero", "in/to_zero");
    let _socket = UnixListener::bind(scene.path("in/socket")).unwrap();
    let cases = [
        ("in/fifo", "`in/fifo` is a named pipe"),
        ("in/to_fifo", "`in/to_fifo` is a named pipe"),
        ("in/socket", "`in/socket` is a socket"),
        ("in/to_zero", "`in/to_zero` is a device file"),
    ];
    for (name, text) in cases {
        assert!(scene.act(&rule(Action::Copy), name, "out/o").error(&scene).contains(text));
        assert!(!scene.exists("out/o"));
    }
    // In a tree the rest is copied, and the error comes at the end.
    make_fifo(&scene.path("in/tree/fifo"));
    let outcome = scene.act(&rule(Action::Copy), "in/tree", "out/tree");
    let text =
        "1 entry of 'in/tree' not copied to 'out/tree', the first because: `in/tree/fifo` is a named pipe";
    assert_eq!(outcome.error(&scene), text);
    assert_eq!(outcome.records, ["not copied: `in/tree/fifo` is a named pipe"]);
    assert_eq!(scene.read("out/tree/sub/f").unwrap(), b"harmless");
    // Moved by name they are all the same to rename(2).
    scene.act(&rule(Action::Move), "in/fifo", "out/fifo").done();
    assert!(scene.exists("out/fifo"));
}

#[test]
fn no_gap_lets_a_fifo_block_a_copy() {
    let (ended, wait) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        let swap = |scene: &Scene| {
            let _ = fs::remove_file(scene.path("in/f"));
            make_fifo(&scene.path("in/f"));
        };
        attack_every_gap(&harmful(Action::Copy), "in/f", "out/f", swap);
        ended.send(()).unwrap();
    });
    wait.recv_timeout(std::time::Duration::from_secs(60)).expect("no copy waits for a FIFO");
}

#[test]
fn paths_longer_than_the_kernel_takes_are_errors() {
    let scene = Scene::new();
    let long = format!("in/{}", "x".repeat(300));
    assert!(
        scene
            .act(&rule(Action::Delete), &long, "")
            .error(&scene)
            .starts_with("[Errno 36] File name too long")
    );
    let longer = format!("in/{}f", "x/".repeat(5_000));
    for action in [Action::Move, Action::Copy, Action::Delete] {
        assert!(scene.act(&rule(action), &longer, "out/f").error(&scene).starts_with("[Errno 36]"));
    }
    scene.write("in/f", "");
    let longer = format!("out/{}f", "x/".repeat(5_000));
    assert!(scene.act(&rule(Action::Move), "in/f", &longer).error(&scene).starts_with("[Errno 36]"));
    assert!(scene.exists("in/f"));
}

#[test]
fn ten_thousand_flips_between_a_file_and_a_link() {
    const FLIPS: u32 = 10_000;
    if !is_root() {
        return;
    }
    let scene = Arc::new(scene_with_victim());
    let before = scene.tree("victim");
    let flipping = Arc::new(AtomicBool::new(true));
    let flippers: Vec<_> = (0..2)
        .map(|number: u8| {
            let (scene, flipping) = (Arc::clone(&scene), Arc::clone(&flipping));
            std::thread::spawn(move || {
                let path = scene.path("in/sub/f");
                let spare = scene.path(format!("in/spare{number}"));
                for _ in 0..FLIPS / 2 {
                    swap_for_link(&spare, &scene.path("victim/f"));
                    let _ = fs::rename(&spare, &path);
                    fs::write(&spare, "harmless").unwrap();
                    let _ = fs::rename(&spare, &path);
                }
                flipping.store(false, Ordering::Relaxed);
            })
        })
        .collect();
    let (mut copies, mut refusals) = (0, 0);
    while flipping.load(Ordering::Relaxed) {
        let outcome = scene.act(&harmful(Action::Copy), "in/sub/f", "out/f");
        copies += u32::from(outcome.result.is_ok());
        refusals += u32::from(outcome.result.is_err());
        if copies % 4 == 3 {
            let _ = scene.act(&harmful(Action::Move), "in/sub/f", "out/g");
        }
        if let Some(content) = scene.read("out/f") {
            assert_ne!(content, SECRET.as_bytes());
        }
    }
    for flipper in flippers {
        flipper.join().unwrap();
    }
    assert_eq!(scene.tree("victim"), before);
    assert!(copies > 0 && refusals > 0, "{copies} copies, {refusals} refusals: nothing was raced");
}

#[test]
fn a_name_that_is_taken_in_the_last_moment_is_not_lost() {
    const ROUNDS: u32 = 1_000;
    let mut scenes = vec![Scene::in_memory()];
    scenes.extend(Scene::across());
    for scene in scenes {
        let scene = Arc::new(scene);
        let (mut ours, mut theirs) = (0, 0);
        for round in 0..ROUNDS {
            scene.write("in/f", "ours");
            let name = format!("out/{round}");
            let rival = {
                let path = scene.path(&name);
                std::thread::spawn(move || {
                    let created = fs::OpenOptions::new().write(true).create_new(true).open(path);
                    created.is_ok_and(|mut file| std::io::Write::write_all(&mut file, b"theirs").is_ok())
                })
            };
            for _ in 0..(round % 40) * 50 {
                std::hint::spin_loop();
            }
            let moved = scene.act(&rule(Action::Move), "in/f", &name).result.is_ok();
            let created = rival.join().unwrap();
            assert!(moved != created, "round {round}: moved {moved}, created {created}");
            let expected: &[u8] = if moved { b"ours" } else { b"theirs" };
            assert_eq!(scene.read(&name).unwrap(), expected);
            assert_eq!(scene.exists("in/f"), !moved);
            ours += u32::from(moved);
            theirs += u32::from(created);
        }
        eprintln!("{ours} moves came first, {theirs} rivals did");
    }
}
