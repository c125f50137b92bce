//! The daemon is killed, the disk is full, the power fails.
//!
//! A child process is killed just before its n-th system call, for each n there is. What it leaves must be the
//! source as it was or the complete destination, and nothing that the next start does not sweep away.

use std::os::unix::process::ExitStatusExt;
use std::process::{Command, Output};

use super::*;
use crate::sys::fault;

/// Calls after which an action must have ended.
const CALLS_MAX: u32 = 500;

/// Says to the child which scene, action and call are meant: `BASE|OTHER|ACTION|OBJECT|N`.
const VARIABLE: &str = "FILES_TEST_CRASH";

const CONTENT: usize = 600_000;

fn crashing_rule(action: Action) -> Rule {
    Rule { on_conflict: Conflict::Overwrite, rec: true, filemode: Some(0o640), ..rule(action) }
}

/// Not a test of its own: the process that is killed.
#[test]
fn crash_child() {
    let Ok(arguments) = std::env::var(VARIABLE) else { return };
    let fields: Vec<_> = arguments.split('|').collect();
    let [base, other, action, object, n] = fields[..] else { panic!("{arguments}") };
    let other = (!other.is_empty()).then(|| PathBuf::from(other));
    let scene = std::mem::ManuallyDrop::new(Scene { base: base.into(), other });
    let action = if action == "copy" { Action::Copy } else { Action::Move };
    let n: u32 = n.parse().unwrap();
    let plan: fault::Plan = Box::new(move |call, _| {
        if call == n {
            let _ = rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::KILL);
        }
        Ok(())
    });
    let act = || scene.act(&crashing_rule(action), &format!("in/{object}"), &format!("out/{object}")).done();
    fault::with(plan, act);
}

fn run_child(scene: &Scene, action: Action, object: &str, n: u32) -> Output {
    let other = scene.other.as_deref().unwrap_or(Path::new("")).display().to_string();
    let arguments = format!("{}|{other}|{action}|{object}|{n}", scene.base.display());
    child_test("tests::crash::crash_child", (VARIABLE, arguments.as_ref())).output().unwrap()
}

fn prepare(scene: &Scene) {
    scene.write("in/f", vec![1; CONTENT]);
    scene.write("in/d/a/f", "one");
    scene.write("in/d/g", "two");
}

fn is_complete(scene: &Scene, place: &str, object: &str) -> bool {
    if object == "f" {
        return scene.read(&format!("{place}/f")).is_some_and(|content| content == vec![1; CONTENT]);
    }
    let read = |name: &str| scene.read(&format!("{place}/d/{name}"));
    read("a/f").is_some_and(|content| content == b"one") && read("g").is_some_and(|content| content == b"two")
}

#[test]
fn killed_before_any_call_nothing_is_lost_and_the_sweep_finds_the_rest() {
    for (action, across) in [(Action::Copy, false), (Action::Move, true)] {
        for object in ["f", "d"] {
            for n in 1..=CALLS_MAX {
                assert!(n < CALLS_MAX, "{action} of {object} never ends");
                let Some(scene) = (if across { Scene::across() } else { Some(Scene::in_memory()) }) else {
                    return;
                };
                prepare(&scene);
                let output = run_child(&scene, action, object, n);
                let context = format!("{action} of {object}, killed before call {n}");
                let (source, destination) =
                    (is_complete(&scene, "in", object), is_complete(&scene, "out", object));
                assert!(source || destination, "neither: {context}");
                assert!(destination || !scene.exists(&format!("out/{object}")), "half of it: {context}");
                for directory in ["in", "out"] {
                    let path = scene.path(directory);
                    let swept = crate::sweep(bytes(&path), true, &AtomicBool::new(false)).unwrap();
                    assert_eq!(swept.failed, 0, "{context}");
                }
                assert_eq!(scene.temporaries(), [] as [PathBuf; 0], "{context}");
                if object == "f" && source {
                    let again = Rule { on_conflict: Conflict::Same, ..crashing_rule(action) };
                    scene.act(&again, "in/f", "out/f").done();
                    assert!(is_complete(&scene, "out", "f"), "{context}");
                    assert_eq!(scene.exists("in/f"), action == Action::Copy, "{context}");
                }
                if output.status.success() {
                    assert!(destination && (source || action == Action::Move), "{context}");
                    break;
                }
                assert_eq!(output.status.signal(), Some(9), "{}", String::from_utf8_lossy(&output.stdout));
            }
        }
    }
}

/// The scene of a process that [`with_mounts`] started, which its parent removes; none elsewhere.
pub(super) fn child_scene() -> Option<std::mem::ManuallyDrop<Scene>> {
    let base = std::env::var_os(VARIABLE).filter(|base| !base.as_bytes().contains(&b'|'))?;
    Some(std::mem::ManuallyDrop::new(Scene { base: base.into(), other: None }))
}

/// Runs a test of this binary with mounts of its own, after a shell script has made them. None, and a line that says
/// so, where that is not allowed.
pub(super) fn with_mounts(script: &str, test: &str, scene: &Scene) -> Option<Output> {
    let child = child_test(test, (VARIABLE, scene.base.as_os_str()));
    let mut command = Command::new("unshare");
    command.arg(if rustix::process::geteuid().is_root() { "-m" } else { "-Urm" });
    command.args(["sh", "-ec", &format!("cd \"$0\"; {script}; exec \"$@\"")]).arg(&scene.base);
    command.arg(child.get_program()).args(child.get_args()).env(VARIABLE, &scene.base);
    match command.output() {
        Ok(output) if output.status.success() || !output.stdout.is_empty() => Some(output),
        result => {
            eprintln!("skipped: needs mounts of its own: {result:?}");
            None
        }
    }
}

#[test]
fn a_full_disk_is_an_error_that_leaves_nothing() {
    let scene = Scene::new();
    let script = "mount -t tmpfs -o size=8m none out";
    let Some(output) = with_mounts(script, "tests::crash::full_disk_child", &scene) else { return };
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
}

/// Not a test of its own: runs where `out` is a filesystem of 8 MB.
#[test]
fn full_disk_child() {
    let Some(scene) = child_scene() else { return };
    scene.write("in/big", vec![1; 16 << 20]);
    scene.write("in/d/small", "small");
    scene.write("in/d/big", vec![1; 16 << 20]);
    fs::File::create(scene.path("in/sparse")).unwrap().set_len(1 << 40).unwrap();
    for action in [Action::Copy, Action::Move] {
        for object in ["big", "d"] {
            let outcome = scene.act(&rule(action), &format!("in/{object}"), &format!("out/{object}"));
            let text = outcome.error(&scene);
            assert!(text.starts_with("[Errno 28] No space left on device: 'in/"), "{text}");
            assert_eq!(fs::read_dir(scene.path("out")).unwrap().count(), 0, "{action} of {object}");
            assert!(scene.exists(&format!("in/{object}")));
        }
    }
    scene.act(&rule(Action::Copy), "in/sparse", "out/sparse").done();
    scene.act(&rule(Action::Move), "in/d/small", "out/small").done();
    assert_eq!(scene.read("out/small").unwrap(), b"small");
}

#[test]
fn what_is_mounted_in_a_tree_is_not_touched() {
    let scene = Scene::new();
    let script = "mkdir -p in/d/mount in/e/mount; mount -t tmpfs none out; mount --bind victim in/d/mount; \
        mount --bind victim in/e/mount; echo precious > victim/f";
    let Some(output) = with_mounts(script, "tests::crash::mounted_child", &scene) else { return };
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
}

/// Not a test of its own: runs where `victim` is mounted inside two trees.
#[test]
fn mounted_child() {
    let Some(scene) = child_scene() else { return };
    for rule in [Rule { rec: true, ..rule(Action::Delete) }, rule(Action::Move)] {
        let text = scene.act(&rule, "in/d", "out/d").error(&scene);
        assert_eq!(
            text,
            "refused: 'in/d/mount' is a mount point, and nothing below it is touched; unmount it first"
        );
    }
    // Also where the mount is the whole tree.
    let text = scene.act(&Rule { rec: true, ..rule(Action::Delete) }, "in/d/mount", "").error(&scene);
    assert!(text.contains("'in/d/mount' is a mount point"), "{text}");
    let modes = Rule { filemode: Some(0o606), ..rule(Action::Move) };
    assert!(scene.act(&modes, "in/e", "in/moved").error(&scene).contains("is a mount point"));
    assert_eq!(scene.read("victim/f").unwrap(), b"precious\n");
    assert_ne!(scene.mode("victim/f"), 0o606);
    assert_eq!(fs::read_dir(scene.path("out")).unwrap().count(), 0);
    // A copy is complete: it has what is mounted too.
    scene.act(&rule(Action::Copy), "in/d", "out/d").done();
    assert_eq!(scene.read("out/d/mount/f").unwrap(), b"precious\n");
}

/// A filesystem that can share content between files.
const SHARING_SCRIPT: &str =
    "truncate -s 400m out.img; mkfs.xfs -q -m reflink=1 out.img; mount -o loop out.img out";

#[test]
fn content_is_shared_where_the_filesystem_can() {
    let scene = Scene::new();
    if !is_root() {
        return;
    }
    let Some(output) = with_mounts(SHARING_SCRIPT, "tests::crash::sharing_child", &scene) else { return };
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
}

/// Not a test of its own: runs where `out` is the filesystem of [`SHARING_SCRIPT`].
#[test]
fn sharing_child() {
    let Some(scene) = child_scene() else { return };
    let content: Vec<u8> = (0..100_u32 << 20).map(|index| (index >> 10) as u8).collect();
    scene.write("out/in/f", &content);
    shell(&scene, "sync -f out");
    let free =
        || rustix::fs::statvfs(scene.path("out")).map(|status| status.f_bfree * status.f_frsize).unwrap();
    let before = free();
    let (source, destination) = (scene.path("out/in/f"), scene.path("out/g"));
    let root = scene.path("out");
    let stop = AtomicBool::new(false);
    let rule = rule(Action::Copy);
    let request = Request {
        root: bytes(&root),
        trusted_len: 0,
        ..Request::plain(&rule, bytes(&source), bytes(&destination), &stop)
    };
    crate::perform(&request, &mut Held::default(), &mut |_| {}).unwrap();
    shell(&scene, "sync -f out");
    assert!(before - free() < 10 << 20, "{} bytes more are used", before - free());
    assert!(scene.read("out/g").unwrap() == content);
}

/// Two small ext4 filesystems in image files, `in` and `out`; what their images hold is what would survive.
const POWER_SCRIPT: &str = "for fs in in out; do truncate -s 16m $fs.img; mkfs.ext4 -q -F $fs.img; \
    mount -o loop $fs.img $fs; done; mkdir in/x out/x after";

#[test]
fn after_a_power_cut_the_source_or_the_destination_is_there() {
    let scene = Scene::new();
    if !is_root() {
        return;
    }
    let Some(output) = with_mounts(POWER_SCRIPT, "tests::crash::power_cut_child", &scene) else { return };
    let text = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{text}");
}

/// Not a test of its own: runs where `in` and `out` are the filesystems of [`POWER_SCRIPT`].
#[test]
fn power_cut_child() {
    let Some(scene) = child_scene() else { return };
    let cut = |durability: Durability, n: u32| {
        scene.write("in/f", vec![1; CONTENT]);
        let _ = fs::remove_dir_all(scene.path("out/new"));
        shell(&scene, "sync -f in; sync -f out");
        let last = power_cut_at(&scene, durability, n);
        // The worst that can happen: everything of the source's disk gets out, nothing else of the destination's.
        shell(&scene, "sync -f in; cp out.img out.cut; cp in.img in.cut");
        let kept = ["in", "out"].map(|side| {
            shell(&scene, &format!("mount -o loop {side}.cut after"));
            let content = ["after/f", "after/new/f"].map(|name| fs::read(scene.path(name)).ok());
            shell(&scene, "umount after");
            content.into_iter().flatten().next()
        });
        (last, kept)
    };
    let whole =
        |content: &Option<Vec<u8>>| content.as_ref().is_some_and(|content| *content == vec![1; CONTENT]);
    for n in 1..=CALLS_MAX {
        assert!(n < CALLS_MAX, "the move never ends");
        let (last, [source, destination]) = cut(Durability::Auto, n);
        assert!(whole(&source) || whole(&destination), "neither, power cut before call {n}");
        assert!(destination.is_none() || whole(&destination), "half of it, power cut before call {n}");
        if last {
            break;
        }
    }
    // Without durability the same is a loss, or this test would show nothing.
    let (_, [source, destination]) = cut(Durability::Never, CALLS_MAX);
    assert!(!whole(&source) && !whole(&destination));
}

/// Moves `in/f` to `out/f` up to its n-th call; says whether it came to its end before.
fn power_cut_at(scene: &Scene, durability: Durability, n: u32) -> bool {
    let rule = Rule { durability, auto_create: true, ..rule(Action::Move) };
    let plan: fault::Plan = Box::new(move |call, _| {
        // From the n-th call on nothing is done any more, as if the process were gone.
        if call >= n { Err(rustix::io::Errno::IO) } else { Ok(()) }
    });
    let (_, calls) = fault::with_disk(plan, || scene.act(&rule, "in/f", "out/new/f"));
    calls < n
}

fn shell(scene: &Scene, script: &str) {
    let status = Command::new("sh").args(["-ec", script]).current_dir(&scene.base).status().unwrap();
    assert!(status.success(), "{script}");
}
