//! One test for each guard that nothing else in here would miss: what a system call says is believed, and what is set
//! is set on the right object only.

use std::os::unix::process::CommandExt;

use rustix::io::Errno;

use super::*;
use crate::BRIEF_SIZE;
use crate::sys::{self, fault};
use crate::temporary::tests::{aside_of_pid, name_of_pid};

/// Where a child process finds its scene.
const VARIABLE: &str = "FILES_TEST_GUARDS";

/// A user whom every system has, and who is not root.
const NOBODY: u32 = 65_534;

/// An access control list, as the kernel keeps it: the owner may do all, STRANGER too, nobody else anything.
fn list_for_stranger() -> Vec<u8> {
    let mut list = 2_u32.to_le_bytes().to_vec();
    let any = u32::MAX;
    for (tag, permissions, id) in [(1, 7, any), (2, 7, STRANGER), (4, 0, any), (0x10, 7, any), (0x20, 0, any)]
    {
        list.extend(u16::to_le_bytes(tag));
        list.extend(u16::to_le_bytes(permissions));
        list.extend(u32::to_le_bytes(id));
    }
    list
}

/// A temporary name of a process that can't be: its id is the highest that a name can hold.
fn stale_name() -> String {
    String::from_utf8(name_of_pid((1 << 24) - 1)).unwrap()
}

#[test]
fn a_moved_link_keeps_its_owner_and_nothing_is_said_of_one() {
    if !is_root() {
        return;
    }
    crate::metadata::tests::PROTECTED.set(Some(false));
    let scene = Scene::in_memory();
    scene.link("somewhere", "in/l");
    scene.set_owner("in/l", STRANGER);
    // A second name of a link is nobody's trick.
    fs::hard_link(scene.path("in/l"), scene.path("in/m")).unwrap();
    let rule = Rule { user: Some("root".into()), filemode: Some(0o600), ..rule(Action::Move) };
    let outcome = scene.act(&rule, "in/l", "out/l");
    outcome.done();
    assert_eq!(outcome.records, ["move 'in/l' to 'out/l'"]);
    assert_eq!(scene.owner("out/l"), (STRANGER, STRANGER));
    crate::metadata::tests::PROTECTED.set(None);
}

#[test]
fn a_directory_keeps_the_bit_that_hands_its_group_on() {
    if !is_root() {
        return;
    }
    let scene = Scene::in_memory();
    scene.write("in/d/f", "content");
    scene.set_owner("in/d", STRANGER);
    scene.set_mode("in/d", 0o2755);
    scene.act(&rule(Action::Copy), "in/d", "out/d").done();
    assert_eq!((scene.mode("out/d"), scene.owner("out/d").0), (0o2755, 0));
}

#[test]
fn lists_of_a_directory_are_copied_and_do_not_reach_what_is_moved_into_it() {
    let Some(scene) = Scene::across() else { return };
    fs::create_dir(scene.path("in/d")).unwrap();
    let (default, access) = ("system.posix_acl_default", "system.posix_acl_access");
    if !set_attribute(&scene.path("in/d"), default, &list_for_stranger()) {
        return;
    }
    scene.act(&rule(Action::Copy), "in/d", "out/d").done();
    assert_eq!(attribute(&scene.path("out/d"), default), Some(list_for_stranger()));
    if !set_attribute(&scene.path("out"), default, &list_for_stranger()) {
        return;
    }
    scene.write("in/f", "content");
    scene.set_mode("in/f", 0o640);
    scene.act(&rule(Action::Move), "in/f", "out/f").done();
    assert_eq!((attribute(&scene.path("out/f"), access), scene.mode("out/f")), (None, 0o640));
}

#[test]
fn an_attribute_that_goes_while_it_is_copied_is_none() {
    let scene = Scene::new();
    let source = scene.write("in/f", "content");
    if !set_attribute(&source, "user.of", b"ours") {
        return;
    }
    let plan = fault::fail_all("fgetxattr", Errno::NODATA);
    fault::with(plan, || scene.act(&rule(Action::Copy), "in/f", "out/f")).0.done();
    assert_eq!(scene.read("out/f").unwrap(), b"content");
}

#[test]
fn without_no_replace_what_can_not_be_finished_is_taken_back() {
    // Files are linked and unlinked there, directories take a name with mkdir(2) first.
    for (object, failing) in [("in/f", "unlinkat"), ("in/d", "renameat")] {
        let scene = Scene::in_memory();
        scene.write("in/f", "content");
        scene.write("in/d/f", "content");
        let mut failed = false;
        let plan: fault::Plan = Box::new(move |_, call| match call {
            "renameat2" => Err(Errno::INVAL),
            call if call == failing && !failed => {
                failed = true;
                Err(Errno::IO)
            }
            _ => Ok(()),
        });
        let (outcome, _) = fault::with(plan, || scene.act(&rule(Action::Move), object, "out/o"));
        assert_eq!(outcome.result.unwrap_err().errno(), Some(Errno::IO.raw_os_error()));
        assert!(scene.exists(object) && !scene.exists("out/o"), "{object}");
    }
}

#[test]
fn a_small_file_costs_these_calls_and_no_others() {
    let calls = |action| {
        let scene = Scene::in_memory();
        let mut held = Held::default();
        scene.hold(&mut held, "in/f", "out/f");
        // Of the directories that are held, the next action asks for the last time what they are.
        scene.write("in/g", "content");
        scene.act_again(&mut held, &rule(Action::Move), "in/g", "out/g").done();
        scene.write("in/f", "content");
        let calls = std::rc::Rc::new(std::cell::RefCell::new(Vec::new()));
        let called = std::rc::Rc::clone(&calls);
        let plan: fault::Plan = Box::new(move |_, name| {
            called.borrow_mut().push(name);
            Ok(())
        });
        fault::with(plan, || scene.act_again(&mut held, &rule(action), "in/f", "out/f")).0.done();
        calls.take()
    };
    assert_eq!(calls(Action::Move), ["statx", "statx", "renameat2"]);
    assert_eq!(calls(Action::Delete), ["statx", "newfstatat", "unlinkat"]);
    let look = ["statx", "newfstatat", "openat", "fstat", "statx"];
    let content = ["fstat", "openat", "pread", "pwrite"];
    let attributes = ["flistxattr", "fchmod", "utimensat", "fstat"];
    let end = ["fstat", "close", "renameat2"];
    assert_eq!(calls(Action::Copy), [&look[..], &content, &attributes, &end].concat());
}

#[test]
fn who_asks_for_what_is_brief_gets_nothing_that_takes_long() {
    let with_mode = |action| Rule { filemode: Some(0o600), on_conflict: Conflict::Overwrite, ..rule(action) };
    let removal = Rule { rec: true, ..rule(Action::Delete) };
    let lengthy = [
        ("a large file", rule(Action::Copy), "in/large"),
        ("a tree", rule(Action::Copy), "in/d"),
        ("a tree that gets a mode", with_mode(Action::Move), "in/d"),
        ("a tree that goes", removal, "in/d"),
    ];
    for (what, rule, source) in lengthy {
        let scene = Scene::in_memory();
        scene.write("in/f", "content");
        scene.write("in/d/f", "content");
        scene.write("in/large", vec![1; BRIEF_SIZE as usize + 1]);
        let destination = source.replace("in/", "out/");
        let outcome = scene.act_briefly(&rule, source, &destination);
        assert!(matches!(outcome.result, Err(Error::Lengthy)), "{what}: {outcome:?}");
        assert_eq!(outcome.records, [] as [&str; 0], "{what}");
        assert!(scene.exists(source), "{what}");
        assert!(!scene.exists(&destination), "{what}");
        scene.act(&rule, source, &destination).done();
    }
    let durable = |action| Rule { durability: Durability::Always, ..rule(action) };
    let brief = [
        (rule(Action::Copy), "in/f"),
        (rule(Action::Move), "in/d"),
        (rule(Action::Move), "in/large"),
        (rule(Action::Delete), "in/large"),
        (durable(Action::Copy), "in/f"),
        (durable(Action::Move), "in/f"),
    ];
    for (rule, source) in brief {
        let scene = Scene::in_memory();
        scene.write("in/f", vec![1; BRIEF_SIZE as usize]);
        scene.write("in/large", vec![1; BRIEF_SIZE as usize + 1]);
        scene.write("in/d/f", "content");
        scene.act_briefly(&rule, source, &source.replace("in/", "out/")).done();
    }
}

#[test]
fn a_move_to_another_filesystem_is_as_brief_as_the_copy() {
    for (source, is_brief) in [("in/f", true), ("in/large", false), ("in/d", false)] {
        let Some(scene) = Scene::across() else { return };
        scene.write("in/f", vec![1; BRIEF_SIZE as usize]);
        scene.write("in/large", vec![1; BRIEF_SIZE as usize + 1]);
        scene.write("in/d/f", "content");
        let destination = source.replace("in/", "out/");
        let outcome = scene.act_briefly(&rule(Action::Move), source, &destination);
        assert_eq!(outcome.result.is_ok(), is_brief, "{source}: {outcome:?}");
        assert_eq!(scene.exists(&destination), is_brief, "{source}");
        assert_eq!(scene.exists(source), !is_brief, "{source}");
        if !is_brief {
            assert!(matches!(outcome.result, Err(Error::Lengthy)), "{source}: {outcome:?}");
            assert_eq!(outcome.records, [] as [&str; 0]);
        }
    }
}

#[test]
fn a_sweep_leaves_directories_that_we_never_made_like_that() {
    let scene = Scene::in_memory();
    let stale = stale_name();
    let kept = format!("out/{stale}/{stale}/kept");
    scene.write(&kept, "precious");
    scene.set_mode(&format!("out/{stale}"), 0o755);
    let sweep = || crate::sweep(scene.path("out").as_os_str().as_bytes(), true, &AtomicBool::new(false));
    assert_eq!(sweep().unwrap(), crate::Swept::default());
    assert!(scene.exists(&kept));
}

#[test]
fn of_a_trash_a_sweep_looks_into_the_newest_directories() {
    let scene = Scene::in_memory();
    let stale = stale_name();
    let left = |number: u32| format!("out/20260101-000000.{number:03}-1/srv/in/{stale}");
    for number in 0..1_000 {
        fs::create_dir_all(scene.path(format!("out/20260101-000000.{number:03}"))).unwrap();
    }
    for number in [0, 999] {
        scene.write(&left(number), "half");
    }
    let sweep = || crate::sweep(scene.path("out").as_os_str().as_bytes(), true, &AtomicBool::new(false));
    assert_eq!(sweep().unwrap(), crate::Swept { removed: 1, ..crate::Swept::default() });
    assert!(scene.exists(&left(0)) && !scene.exists(&left(999)));
}

#[test]
fn no_gap_lets_a_sweep_remove_what_takes_the_place_of_something_stale() {
    let stale = stale_name();
    for n in 1..1_000 {
        let scene = std::rc::Rc::new(Scene::in_memory());
        fs::create_dir_all(scene.path(format!("out/{stale}/{stale}"))).unwrap();
        scene.set_mode(&format!("out/{stale}"), 0o700);
        scene.write(&format!("out/victim/{stale}/kept"), "precious");
        let (attacked, name) = (std::rc::Rc::clone(&scene), stale.clone());
        let plan: fault::Plan = Box::new(move |call, _| {
            if call == n {
                let _ = fs::rename(attacked.path(format!("out/{name}")), attacked.path("out/aside"));
                fs::rename(attacked.path("out/victim"), attacked.path(format!("out/{name}"))).unwrap();
            }
            Ok(())
        });
        let directory = scene.path("out");
        let sweep = || crate::sweep(directory.as_os_str().as_bytes(), true, &AtomicBool::new(false));
        let (_, calls) = fault::with(plan, sweep);
        let places = ["victim", &stale].map(|place| format!("out/{place}/{stale}/kept"));
        assert!(places.iter().any(|place| scene.exists(place)), "before call {n} of {calls}");
        if calls < n {
            return;
        }
    }
    panic!("the sweep never ended");
}

/// What was set aside to go at once goes with a sweep. What took its place in the last moment stays, and so does what
/// had still to wait: each may be all that there is.
#[test]
fn a_sweep_removes_what_was_set_aside_only_if_it_is_that() {
    let scene = Scene::in_memory();
    let judged = sys::status_at(sys::CWD, bytes(&scene.write("out/judged", "1"))).unwrap();
    let aside = |name: &str, goes| {
        let aside = String::from_utf8(aside_of_pid((1 << 24) - 1, goes)).unwrap();
        fs::rename(scene.path(name), scene.path(format!("out/{aside}"))).unwrap();
    };
    aside("out/judged", Some(&judged));
    for (name, goes) in [("out/other", Some(&judged)), ("out/waits", None)] {
        scene.write(name, name);
        aside(name, goes);
    }
    let swept = crate::sweep(bytes(&scene.path("out")), false, &AtomicBool::new(false)).unwrap();
    assert_eq!((swept.removed, swept.failed), (1, 0));
    let mut left: Vec<_> = scene.temporaries().iter().map(|path| fs::read_to_string(path).unwrap()).collect();
    left.sort();
    assert_eq!(left, ["out/other", "out/waits"]);
}

#[test]
fn a_tree_that_can_not_be_entered_leaves_nothing() {
    let scene = Scene::in_memory();
    scene.write("in/d/f", "content");
    let mut made = false;
    let plan: fault::Plan = Box::new(move |_, call| {
        let is_next = std::mem::replace(&mut made, call == "mkdirat");
        if is_next { Err(Errno::MFILE) } else { Ok(()) }
    });
    let (outcome, _) = fault::with(plan, || scene.act(&rule(Action::Copy), "in/d", "out/d"));
    outcome.result.unwrap_err();
    assert_eq!(scene.temporaries(), [] as [PathBuf; 0]);
}

/// Rules that prune and rules that make directories may work on the same ones.
#[test]
fn a_way_that_somebody_prunes_meanwhile_is_made_again() {
    for (action, across) in [(Action::Move, false), (Action::Move, true), (Action::Copy, false)] {
        for n in 1..1_000 {
            let scene = if across { Scene::across() } else { Some(Scene::in_memory()) };
            let Some(scene) = scene.map(std::rc::Rc::new) else { break };
            scene.write("in/f", "content");
            let pruned = std::rc::Rc::clone(&scene);
            let plan: fault::Plan = Box::new(move |call, _| {
                if call == n {
                    for directory in ["out/a/b", "out/a"] {
                        let _ = fs::remove_dir(pruned.path(directory));
                    }
                }
                Ok(())
            });
            let rule = Rule { auto_create: true, ..rule(action) };
            let (outcome, calls) = fault::with(plan, || scene.act(&rule, "in/f", "out/a/b/f"));
            assert!(outcome.result.is_ok(), "before call {n} of {calls}: {outcome:?}");
            assert_eq!(scene.read("out/a/b/f").as_deref(), Some(&b"content"[..]));
            if calls < n {
                break;
            }
        }
    }
}

#[test]
fn a_sweep_stops_when_it_is_told_to() {
    let scene = Scene::in_memory();
    let stale = stale_name();
    scene.write(&format!("out/{stale}"), "left over");
    let swept = crate::sweep(scene.path("out").as_os_str().as_bytes(), true, &AtomicBool::new(true)).unwrap();
    assert!(swept.incomplete && swept.removed == 0 && scene.exists(&format!("out/{stale}")), "{swept:?}");
}

/// Moves `in/f` to a destination that is literal but for its last name.
fn move_to_literal(scene: &Scene, destination: &str) -> Outcome {
    scene.write("in/f", "content");
    let destination = scene.path(destination);
    let trusted = destination.parent().unwrap().as_os_str().len() + 1;
    let rule = Rule { auto_create: true, ..rule(Action::Move) };
    scene.request(&rule, &scene.path("in/f"), destination.as_os_str().as_bytes(), trusted, None)
}

#[test]
fn a_literal_destination_goes_through_no_link_of_a_stranger_even_to_his_own_directory() {
    if !is_root() {
        return;
    }
    let scene = Scene::in_memory();
    fs::create_dir(scene.path("victim/his")).unwrap();
    scene.set_owner("victim/his", STRANGER);
    scene.link(scene.path("victim/his"), "out/l");
    scene.set_owner("out/l", STRANGER);
    let text = move_to_literal(&scene, "out/l/f").error(&scene);
    assert!(text.starts_with("refused: 'out/l'"), "{text}");
}

#[test]
fn a_literal_destination_ends_in_circles_and_nothing_is_made_for_a_link() {
    let scene = Scene::in_memory();
    scene.link("circle", "out/circle");
    let text = move_to_literal(&scene, "out/circle/f").error(&scene);
    assert!(text.starts_with("[Errno 40]"), "{text}");
    scene.link("nowhere", "out/dangling");
    let text = move_to_literal(&scene, "out/dangling/f").error(&scene);
    assert!(text.starts_with("[Errno 2]"), "{text}");
    assert!(!scene.exists("out/nowhere"));
}

#[test]
fn a_destination_below_the_root_goes_through_no_link_below_it() {
    let scene = Scene::in_memory();
    scene.write("in/f", "content");
    scene.link(scene.path("victim"), "in/l");
    let destination = scene.path("in/l/f");
    let source = scene.path("in/f");
    let outcome = scene.request(&rule(Action::Move), &source, destination.as_os_str().as_bytes(), 0, None);
    assert!(outcome.error(&scene).starts_with("refused: 'in/l'"));
    assert!(!scene.exists("victim/f"));
}

#[test]
fn a_directory_that_somebody_else_made_first_keeps_its_mode() {
    let scene = Scene::in_memory();
    scene.write("in/f", "content");
    let theirs = scene.path("out/d");
    let make: fault::Plan = Box::new(move |_, call| {
        if call == "mkdirat" {
            fs::create_dir(&theirs).unwrap();
            fs::set_permissions(&theirs, fs::Permissions::from_mode(0o751)).unwrap();
        }
        Ok(())
    });
    let rule = Rule { auto_create: true, dirmode: Some(0o700), ..rule(Action::Move) };
    fault::with(make, || scene.act(&rule, "in/f", "out/d/f")).0.done();
    assert_eq!(scene.mode("out/d"), 0o751);
}

/// Moves `in/o` while `path` is replaced by `by` before the first of these calls after the rename was tried.
fn move_while_replaced(scene: &Scene, rule: &Rule, across: bool, path: &str, by: &str) -> Outcome {
    let (path, by) = (scene.path(path), scene.path(by));
    // Across filesystems it is tried again after a look at the source.
    let tries = if across { 2 } else { 1 };
    let (mut renames, mut replaced) = (0, false);
    let plan: fault::Plan = Box::new(move |_, call| {
        if renames == tries && !replaced && matches!(call, "openat" | "newfstatat") {
            // The first look after EXDEV is at the destination.
            replaced = !across || call == "openat";
            if replaced {
                let mut aside = path.clone();
                aside.set_extension("aside");
                fs::rename(&path, aside).unwrap();
                fs::rename(&by, &path).unwrap();
            }
        }
        let is_try = call == "renameat2" && renames < tries;
        renames += u32::from(is_try);
        if across && is_try { Err(Errno::XDEV) } else { Ok(()) }
    });
    fault::with(plan, || scene.act(rule, "in/o", "out/o")).0
}

#[test]
fn what_takes_the_place_of_a_source_is_not_moved_across_filesystems() {
    for object in ["file", "link", "directory"] {
        let scene = Scene::in_memory();
        for name in ["o", "other"] {
            match object {
                "file" => drop(scene.write(&format!("in/{name}"), name)),
                "link" => scene.link(name, &format!("in/{name}")),
                _ => drop(scene.write(&format!("in/{name}/f"), name)),
            }
        }
        let outcome = move_while_replaced(&scene, &rule(Action::Move), true, "in/o", "in/other");
        assert!(outcome.error(&scene).starts_with("refused:"), "{object}: {outcome:?}");
        assert!(scene.exists("in/o") && scene.exists("in/o.aside") && !scene.exists("out/o"), "{object}");
    }
}

#[test]
fn what_takes_the_place_of_a_moved_file_is_said_and_left_alone() {
    let scene = Scene::in_memory();
    scene.write("in/o", "moved");
    scene.write("out/other", "other");
    scene.set_mode("out/other", 0o600);
    let rule = Rule { filemode: Some(0o666), ..rule(Action::Move) };
    let outcome = move_while_replaced(&scene, &rule, false, "out/o", "out/other");
    assert!(outcome.error(&scene).starts_with("refused:"), "{outcome:?}");
    assert_eq!(scene.mode("out/o"), 0o600);
}

#[test]
fn a_move_of_a_file_with_two_names_onto_itself_keeps_both() {
    let scene = Scene::in_memory();
    scene.write("in/f", "content");
    fs::hard_link(scene.path("in/f"), scene.path("in/g")).unwrap();
    scene.act(&overwriting(Action::Move), "in/f", "in/f").done();
    assert!(scene.exists("in/f") && scene.exists("in/g"));
}

#[test]
fn a_copy_into_the_directory_that_the_file_is_in_is_an_error() {
    let scene = Scene::in_memory();
    scene.write("in/d/f", "content");
    let text = scene.act(&overwriting(Action::Copy), "in/d/f", "in/d").error(&scene);
    assert_eq!(text, "'in/d/f' and 'in/d/f' are the same file");
}

#[test]
fn a_fifo_that_takes_the_place_of_a_file_is_no_empty_file() {
    let scene = Scene::in_memory();
    let path = scene.write("in/f", "content");
    let plan: fault::Plan = Box::new(move |_, call| {
        if call == "openat" && fs::symlink_metadata(&path).unwrap().is_file() {
            fs::remove_file(&path).unwrap();
            make_fifo(&path);
        }
        Ok(())
    });
    let (outcome, _) = fault::with(plan, || scene.act(&rule(Action::Copy), "in/f", "out/f"));
    assert_eq!(outcome.error(&scene), "`in/f` is a named pipe");
    assert!(!scene.exists("out/f"));
}

#[test]
fn a_file_that_shrinks_while_it_is_copied_leaves_nothing_of_its_old_end() {
    let scene = Scene::in_memory();
    let path = scene.write("in/f", vec![b'a'; 5_000]);
    let mut shrunk = false;
    let plan: fault::Plan = Box::new(move |_, call| {
        if call == "utimensat" && !std::mem::replace(&mut shrunk, true) {
            fs::write(&path, "short").unwrap();
        }
        Ok(())
    });
    fault::with(plan, || scene.act(&rule(Action::Copy), "in/f", "out/f")).0.done();
    assert_eq!(scene.read("out/f").unwrap(), b"short");
}

#[test]
fn what_takes_the_place_of_a_new_link_gets_no_other_owner() {
    if !is_root() {
        return;
    }
    for other in ["file", "link"] {
        let scene = std::rc::Rc::new(Scene::in_memory());
        scene.link("somewhere", "in/l");
        scene.set_owner("in/l", STRANGER);
        scene.write("victim/file", "precious");
        scene.link("anywhere", "victim/link");
        scene.set_owner("victim/link", STRANGER + 1);
        let attacked = std::rc::Rc::clone(&scene);
        // Before and after a look at the source.
        let (mut tries, mut is_made) = (2, false);
        let plan: fault::Plan = Box::new(move |_, call| {
            if is_made && call == "openat" {
                is_made = false;
                let temporary = attacked.temporaries().pop().unwrap();
                fs::remove_file(&temporary).unwrap();
                fs::hard_link(attacked.path("victim").join(other), temporary).unwrap();
            }
            is_made |= call == "symlinkat";
            let crosses = call == "renameat2" && tries > 0;
            tries -= u32::from(crosses);
            if crosses { Err(Errno::XDEV) } else { Ok(()) }
        });
        let (outcome, _) = fault::with(plan, || scene.act(&rule(Action::Move), "in/l", "out/l"));
        assert!(outcome.result.is_err() && scene.exists("in/l"), "{outcome:?}");
        assert_eq!(scene.owner("victim/file").0, 0);
        assert_eq!(scene.owner("victim/link").0, STRANGER + 1);
    }
}

/// Runs a test of this binary as a user who is not root, in a scene that is his.
fn as_nobody(scene: &Scene, test: &str) {
    if !is_root() {
        return;
    }
    for directory in ["", "in", "out", "victim"] {
        std::os::unix::fs::lchown(scene.base.join(directory), Some(NOBODY), Some(NOBODY)).unwrap();
    }
    let mut child = child_test(test, (VARIABLE, scene.base.as_os_str()));
    match child.uid(NOBODY).gid(NOBODY).output() {
        Ok(output) => assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout)),
        Err(error) => eprintln!("skipped: others can't run this program: {error}"),
    }
}

#[test]
fn who_is_not_root_leaves_nothing_behind_and_says_what_he_may_not_do() {
    let scene = Scene::in_memory();
    fs::create_dir(scene.path("victim/roots")).unwrap();
    scene.write(&format!("victim/{}", stale_name()), "root's");
    scene.link("roots", "victim/link-of-root");
    as_nobody(&scene, "tests::guards::nobody_child");
}

/// Not a test of its own: runs as a user who is not root.
#[test]
fn nobody_child() {
    let Some(base) = std::env::var_os(VARIABLE) else { return };
    let scene = std::mem::ManuallyDrop::new(Scene { base: base.into(), other: None });
    // Root's links are the administrator's.
    let text = move_to_literal(&scene, "victim/link-of-root/f").error(&scene);
    assert!(text.starts_with("[Errno 13]"), "followed, and the directory is root's: {text}");
    // A directory that its owner may not write in is moved to its name all the same.
    scene.write("in/top/f", "content");
    scene.set_mode("in/top", 0o500);
    scene.act(&rule(Action::Copy), "in/top", "victim/top").done();
    assert_eq!(scene.mode("victim/top"), 0o500);
    // A file of somebody else is nothing that we left, whatever it is called.
    let victim = scene.path("victim");
    let swept = crate::sweep(victim.as_os_str().as_bytes(), false, &AtomicBool::new(false)).unwrap();
    let mut left = Vec::new();
    find(&victim, &crate::is_temporary_name, &mut left);
    assert_eq!((swept.removed, left.len()), (0, 1), "{swept:?}");
    // What can't be listed can't be synced either; the file is there all the same.
    fs::create_dir(scene.path("victim/box")).unwrap();
    scene.write("in/g", "content");
    scene.set_mode("victim/box", 0o300);
    let durable = Rule { durability: Durability::Always, ..rule(Action::Copy) };
    scene.act(&durable, "in/g", "victim/box/g").done();
    // A tree that is finished but for its name, with a directory that its owner may not write in.
    scene.write("in/d/closed/f", "content");
    scene.set_mode("in/d/closed", 0o500);
    let plan = fault::fail_all("renameat2", Errno::IO);
    let (outcome, _) = fault::with(plan, || scene.act(&rule(Action::Copy), "in/d", "out/d"));
    outcome.result.unwrap_err();
    assert_eq!(scene.tree("out"), [scene.tree("out")[0].clone()], "nothing is left");
    // Across filesystems, what the rule asks for and the user may not do is an error.
    scene.write("in/f", "content");
    let to_root = Rule { group: Some("root".into()), ..rule(Action::Move) };
    let plan: fault::Plan = Box::new({
        let mut first = true;
        move |_, call| {
            let is_first = call == "renameat2" && std::mem::take(&mut first);
            if is_first { Err(Errno::XDEV) } else { Ok(()) }
        }
    });
    let (outcome, _) = fault::with(plan, || scene.act(&to_root, "in/f", "out/f"));
    assert_eq!(outcome.result.unwrap_err().errno(), Some(Errno::PERM.raw_os_error()));
    assert!(scene.exists("in/f") && !scene.exists("out/f"));
}
