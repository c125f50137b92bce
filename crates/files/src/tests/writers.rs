//! Files that somebody writes while a rule is at work on them: no byte is lost (faults A1, A2, A9, B25).

use std::fs::{File, OpenOptions};
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::time::{Duration, SystemTime};

use super::*;
use crate::Use;
use crate::sys::fault;

/// A way to open a file for writing.
type Open = fn(&Path) -> File;

fn writer(path: &Path) -> File {
    OpenOptions::new().append(true).open(path).unwrap()
}

#[track_caller]
fn assert_in_use(scene: &Scene, outcome: &Outcome, name: &str, wanted: Use) {
    let Err(Error::InUse { path, why }) = &outcome.result else { panic!("{outcome:?}") };
    assert_eq!((path.as_slice(), *why), (scene.path(name).as_os_str().as_bytes(), wanted));
    assert_eq!(outcome.records, [] as [&str; 0]);
    assert_eq!(scene.temporaries(), [] as [PathBuf; 0]);
}

#[test]
fn a_move_across_filesystems_waits_for_the_writer_of_a_file() {
    let Some(scene) = Scene::across() else { return };
    let path = scene.write("in/up", "first");
    let open: [(&str, Open); 4] = [
        ("an appender", writer),
        ("a writer", |path| OpenOptions::new().write(true).open(path).unwrap()),
        ("one who reads, too", |path| OpenOptions::new().read(true).write(true).open(path).unwrap()),
        ("one by another name", |path| {
            let other = path.with_extension("other");
            fs::hard_link(path, &other).unwrap();
            let file = writer(&other);
            fs::remove_file(other).unwrap();
            file
        }),
    ];
    for (who, open) in open {
        let mut file = open(&path);
        let outcome = scene.act(&rule(Action::Move), "in/up", "out/up");
        assert_in_use(&scene, &outcome, "in/up", Use::Written);
        assert!(scene.exists("in/up") && !scene.exists("out/up"), "{who}");
        file.write_all(b"later").unwrap();
        drop(file);
        wait_until_closed(&path);
    }
    scene.act(&rule(Action::Move), "in/up", "out/up").done();
    assert!(!scene.exists("in/up"));
    assert_eq!(scene.read("out/up").unwrap(), b"laterlaterlater");
}

#[test]
fn a_rename_takes_writers_along_and_readers_hold_nothing_up() {
    let scene = Scene::new();
    let path = scene.write("in/f", "first");
    let mut file = writer(&path);
    scene.act(&rule(Action::Move), "in/f", "out/f").done();
    file.write_all(b" second").unwrap();
    assert_eq!(scene.read("out/f").unwrap(), b"first second");
    let Some(scene) = Scene::across() else { return };
    let _reader = File::open(scene.write("in/f", "content")).unwrap();
    scene.act(&rule(Action::Move), "in/f", "out/f").done();
}

#[test]
fn a_tree_with_a_writer_anywhere_stays_as_it_is() {
    let Some(scene) = Scene::across() else { return };
    for name in ["in/d/a/f", "in/d/g"] {
        scene.write("in/d/a/f", "one");
        scene.write("in/d/g", "two");
        scene.write("in/d/z/h", "three");
        let before = scene.tree("in");
        let mut file = writer(&scene.path(name));
        let outcome = scene.act(&rule(Action::Move), "in/d", "out/d");
        assert_in_use(&scene, &outcome, name, Use::Written);
        assert_eq!(scene.tree("in"), before);
        assert!(!scene.exists("out/d"));
        file.write_all(b"more").unwrap();
        drop(file);
        wait_until_closed(&scene.path(name));
        scene.act(&rule(Action::Move), "in/d", "out/d").done();
        assert!(scene.read(&name.replacen("in", "out", 1)).unwrap().ends_with(b"more"));
        fs::remove_dir_all(scene.path("out/d")).unwrap();
    }
}

/// Moves `in/f` to another filesystem, where a writer opens it just before the n-th call, for each n there is.
#[test]
fn whenever_a_writer_comes_his_bytes_are_in_the_file() {
    for n in 1..200 {
        let Some(scene) = Scene::across() else { return };
        let path = scene.write("in/f", "first");
        let opened = std::rc::Rc::new(std::cell::RefCell::new(None));
        let slot = std::rc::Rc::clone(&opened);
        let plan: fault::Plan = Box::new(move |call, _| {
            if call == n {
                // While the lease is held he would wait for its end, in the very thread that holds it.
                let nonblocking = rustix::fs::OFlags::NONBLOCK.bits().cast_signed();
                let open = OpenOptions::new().append(true).custom_flags(nonblocking).open(&path);
                *slot.borrow_mut() = open.ok();
            }
            Ok(())
        });
        let (outcome, calls) = fault::with(plan, || scene.act(&rule(Action::Move), "in/f", "out/f"));
        if let Some(mut file) = opened.take() {
            assert!(scene.exists("in/f"), "removed while it is open, call {n} of {calls}: {outcome:?}");
            assert!(!scene.exists("out/f"), "call {n} of {calls}: {outcome:?}");
            assert_in_use(&scene, &outcome, "in/f", Use::Written);
            file.write_all(b" second").unwrap();
            drop(file);
            wait_until_closed(&scene.path("in/f"));
            scene.act(&rule(Action::Move), "in/f", "out/f").done();
            assert_eq!(scene.read("out/f").unwrap(), b"first second");
        } else if outcome.result.is_ok() {
            assert!(!scene.exists("in/f") && scene.read("out/f").unwrap() == b"first");
            if calls < n {
                return;
            }
        } else {
            // He was sent away while the lease was held, and would wait for its end now.
            assert_in_use(&scene, &outcome, "in/f", Use::Written);
            assert!(scene.exists("in/f") && !scene.exists("out/f"), "call {n} of {calls}: {outcome:?}");
        }
    }
    panic!("the move never ended");
}

#[test]
fn what_was_overwritten_is_overwritten_again_when_a_late_writer_is_done() {
    let Some(scene) = Scene::across() else { return };
    let path = scene.write("in/f", "new");
    scene.write("out/f", "old");
    let opened = std::rc::Rc::new(std::cell::RefCell::new(None));
    let slot = std::rc::Rc::clone(&opened);
    let mut synced = 0;
    let plan: fault::Plan = Box::new(move |_, call| {
        synced += u32::from(call == "fsync");
        // The second one is that of the directory, when the new name is there.
        if synced == 2 {
            slot.borrow_mut().get_or_insert_with(|| writer(&path));
        }
        Ok(())
    });
    let (outcome, _) = fault::with(plan, || scene.act(&overwriting(Action::Move), "in/f", "out/f"));
    assert!(matches!(outcome.result, Err(Error::InUse { .. })), "{outcome:?}");
    assert_eq!(scene.read("out/f").unwrap(), b"new");
    opened.take().unwrap().write_all(b" and more").unwrap();
    wait_until_closed(&scene.path("in/f"));
    scene.act(&overwriting(Action::Move), "in/f", "out/f").done();
    assert_eq!((scene.exists("in/f"), scene.read("out/f").unwrap()), (false, b"new and more".into()));
}

#[test]
fn where_leases_are_refused_a_change_is_seen_by_a_look() {
    let Some(scene) = Scene::across() else { return };
    let path = scene.write("in/f", "first");
    let mut file = writer(&path);
    let mut written = false;
    let plan: fault::Plan = Box::new(move |_, call| match call {
        "fcntl" => Err(rustix::io::Errno::INVAL),
        "utimensat" if !std::mem::replace(&mut written, true) => {
            file.write_all(b" second").unwrap();
            Ok(())
        }
        _ => Ok(()),
    });
    fault::with(plan, || scene.act(&rule(Action::Move), "in/f", "out/f")).0.done();
    assert_eq!(scene.read("out/f").unwrap(), b"first second");
}

#[test]
fn a_time_that_is_set_back_hides_no_change() {
    let Some(scene) = Scene::across() else { return };
    for tree in [false, true] {
        let source = if tree { "in/d" } else { "in/f" };
        let name = if tree { "in/d/f" } else { "in/f" };
        let path = scene.write(name, "first");
        let old = fs::metadata(&path).unwrap().modified().unwrap();
        let mut is_last = false;
        let changed = path.clone();
        let mut left = 1;
        let plan: fault::Plan = Box::new(move |_, call| {
            is_last |= call == "fsync" || call == "syncfs";
            if is_last && left > 0 {
                left -= 1;
                fs::write(&changed, "other").unwrap();
                File::options().append(true).open(&changed).unwrap().set_modified(old).unwrap();
            }
            Ok(())
        });
        let target = source.replacen("in", "out", 1);
        let (outcome, _) = fault::with(plan, || scene.act(&rule(Action::Move), source, &target));
        assert!(matches!(outcome.result, Err(Error::SourceKept { .. })), "{outcome:?}");
        assert_eq!(scene.read(name).unwrap(), b"other");
    }
}

#[test]
fn hard_linked_files_are_moved_at_the_same_time() {
    for round in 0..20 {
        let Some(scene) = Scene::across() else { return };
        let pairs = 10;
        for pair in 0..pairs {
            let path = scene.write(&format!("in/a{pair}"), format!("content {pair}"));
            fs::hard_link(path, scene.path(format!("in/b{pair}"))).unwrap();
        }
        std::thread::scope(|scope| {
            for side in ["a", "b"] {
                let scene = &scene;
                scope.spawn(move || {
                    for pair in 0..pairs {
                        let (source, target) = (format!("in/{side}{pair}"), format!("out/{side}{pair}"));
                        scene.act(&rule(Action::Move), &source, &target).done();
                    }
                });
            }
        });
        for (side, pair) in ["a", "b"].into_iter().flat_map(|side| (0..pairs).map(move |pair| (side, pair))) {
            assert!(!scene.exists(&format!("in/{side}{pair}")), "round {round}");
            let content = scene.read(&format!("out/{side}{pair}")).unwrap();
            assert_eq!(content, format!("content {pair}").into_bytes());
        }
    }
}

#[test]
fn a_name_that_comes_or_goes_while_a_file_is_moved_is_no_change() {
    for (what, goes, tree) in
        [("comes", false, false), ("goes", true, false), ("comes", false, true), ("goes", true, true)]
    {
        let Some(scene) = Scene::across() else { return };
        let (source, name) = if tree { ("in/d", "in/d/f") } else { ("in/f", "in/f") };
        let path = scene.write(name, "content");
        let other = scene.path("victim-of-none");
        fs::hard_link(&path, &other).unwrap();
        let mut left = 1;
        let plan: fault::Plan = Box::new(move |_, call| {
            if matches!(call, "fsync" | "syncfs") && std::mem::take(&mut left) == 1 {
                if goes {
                    fs::remove_file(&other).unwrap();
                } else {
                    fs::hard_link(&other, other.with_extension("third")).unwrap();
                }
            }
            Ok(())
        });
        let target = source.replacen("in", "out", 1);
        fault::with(plan, || scene.act(&rule(Action::Move), source, &target)).0.done();
        assert!(!scene.exists(source), "{what}");
    }
}

#[test]
fn a_file_under_a_write_lease_is_in_use() {
    let Some(across) = Scene::across() else { return };
    for (scene, action) in [(&across, Action::Move), (&Scene::in_memory(), Action::Copy)] {
        scene.write("in/f", "content");
        // The holder is another process: the kernel breaks no lease of our own.
        let path = scene.path("in/f");
        let script = "import fcntl, os, signal, sys\nsignal.signal(signal.SIGIO, signal.SIG_IGN)\n\
             f = os.open(sys.argv[1], os.O_RDWR)\nfcntl.fcntl(f, fcntl.F_SETLEASE, fcntl.F_WRLCK)\n\
             print('held', flush=True)\nsys.stdin.read()\n";
        let mut holder = std::process::Command::new("python3")
            .args(["-I", "-c", script])
            .arg(&path)
            .stdin(std::process::Stdio::piped())
            .stdout(std::process::Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = [0; 5];
        std::io::Read::read_exact(holder.stdout.as_mut().unwrap(), &mut line).unwrap();
        let outcome = scene.act(&rule(action), "in/f", "out/f");
        assert_in_use(scene, &outcome, "in/f", Use::Leased);
        assert!(outcome.error(scene).contains("somebody holds a lease on it"));
        drop(holder.stdin.take());
        assert!(holder.wait().unwrap().success());
        scene.act(&rule(action), "in/f", "out/f").done();
    }
}

/// On filesystems with times of whole seconds, in image files; `second` is such a one, `out` is another one.
const COARSE_SCRIPT: &str = "truncate -s 32m in.img; mkfs.ext4 -q -F -I 128 in.img 2>/dev/null; \
    mount -o loop in.img in; mount -t tmpfs none out; mkdir in/x";

#[test]
fn a_look_at_whole_seconds_proves_nothing_in_its_second() {
    if !is_root() {
        return;
    }
    let scene = Scene::new();
    let child = "tests::writers::coarse_child";
    let Some(output) = super::crash::with_mounts(COARSE_SCRIPT, child, &scene) else { return };
    let text = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{text}");
}

/// Not a test of its own: runs where `in` is the filesystem of [`COARSE_SCRIPT`].
#[test]
fn coarse_child() {
    let Some(scene) = super::crash::child_scene() else { return };
    let fresh = |name: &str| {
        // Early in a second, so that all that follows is in it.
        let past = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().subsec_nanos();
        std::thread::sleep(Duration::from_nanos(u64::from(1_000_000_000 - past) + 20_000_000));
        scene.write(name, "first")
    };
    // A move in the second of the last write is put off: another write would not show.
    for (source, name) in [("in/f", "in/f"), ("in/d", "in/d/f")] {
        let path = fresh(name);
        let target = source.replacen("in", "out", 1);
        let outcome = scene.act(&rule(Action::Move), source, &target);
        assert_in_use(&scene, &outcome, name, Use::Young);
        assert!(scene.exists(name) && !scene.exists(&target));
        fs::write(&path, "other").unwrap();
        let deadline = std::time::Instant::now() + Duration::from_secs(30);
        while scene.act(&rule(Action::Move), source, &target).result.is_err() {
            assert!(std::time::Instant::now() < deadline, "it is put off for ever");
            std::thread::sleep(Duration::from_millis(100));
        }
        assert_eq!(scene.read(&name.replacen("in", "out", 1)).unwrap(), b"other");
    }
    // A copy is made at once, and again if the file is asked for again: it may have been rewritten.
    let path = fresh("in/g");
    let identity = scene.act(&overwriting(Action::Copy), "in/g", "out/g").done().identity.unwrap();
    fs::write(&path, "other").unwrap();
    let destination = scene.path("out/g");
    let destination = destination.as_os_str().as_bytes();
    let again = |identity| {
        scene.request(&overwriting(Action::Copy), &path, destination, destination.len(), Some(identity))
    };
    let copied = again(&identity).done();
    assert!(!copied.unchanged);
    assert_eq!(scene.read("out/g").unwrap(), b"other");
}
