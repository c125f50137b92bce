//! Limits and mounts, in namespaces of their own so that the machine is not touched.
//!
//! A test here starts this test program again, for itself alone, in new user and mount namespaces (unshare(1)). Where
//! that is not possible it says so and is skipped.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use event::{Flag, Mask};
use watcher::{Error, Inotify, Options, Source as _, Turn, WatchSpec, Watcher};

use crate::bed::{Bed, CHANGES, Told, expected, spec};

/// Set in the namespaces.
const INSIDE: &str = "WATCHER_TEST_INSIDE";
const ENTRIES: Mask = Mask(Flag::Create.mask().0 | Flag::CloseWrite.mask().0);

/// Runs the test of this name in new namespaces, with a shell command before. True inside.
fn is_inside(name: &str, before: &str) -> bool {
    if std::env::var_os(INSIDE).is_some() {
        return true;
    }
    let possible = Command::new("unshare").args(["-Urm", "true"]).stderr(Stdio::null()).status();
    if !possible.is_ok_and(|status| status.success()) {
        println!("skipped: no user namespaces here");
        return false;
    }
    let program = std::env::current_exe().unwrap();
    // What is still mounted at its end cannot be removed there.
    let temp = tempfile::tempdir().unwrap();
    let output = Command::new("unshare")
        .args(["-Urm", "sh", "-c", &format!("{before}; exec \"$@\""), "sh"])
        .arg(program)
        .args(["--exact", &format!("namespaces::{name}"), "--nocapture"])
        .env(INSIDE, "1")
        .env("TMPDIR", temp.path())
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && text.contains("1 passed"), "{text}");
    false
}

fn run(command: &str, path: &Path) {
    let status = Command::new("sh").args(["-c", command, "sh"]).arg(path).status().unwrap();
    assert!(status.success(), "{command} {}", path.display());
}

const MOUNT: &str = "mount -t tmpfs none \"$1\"";
const UNMOUNT: &str = "umount \"$1\"";

#[test]
fn a_limit_of_watches_is_said_once_and_the_rest_works() {
    if !is_inside(
        "a_limit_of_watches_is_said_once_and_the_rest_works",
        "echo 40 >/proc/sys/user/max_inotify_watches",
    ) {
        return;
    }
    let mut bed = Bed::new();
    for number in 0..200 {
        bed.mkdir(&format!("in/{number}"));
    }
    let id = bed.watch_tree("in", ENTRIES);
    let notices = bed.notices();
    assert_eq!(notices.len(), 1, "{notices:?}");
    assert!(notices[0].contains("user.max_inotify_watches = 40, "), "{notices:?}");
    let needed: u64 = notices[0].split("= 40, ").nth(1).unwrap().split(' ').next().unwrap().parse().unwrap();
    assert!((201..220).contains(&needed), "{notices:?}");
    let starved = bed.watcher.stats().starved;
    assert!((160..=201).contains(&starved), "{starved}");
    let state = bed.watcher.watch_state(id);
    assert_eq!((state.kernel_watches, state.roots[0].1), (201 - starved, watcher::RootState::Limited));
    let file = bed.write("in/f");
    bed.assert_told(&[expected(&file).create_file(), expected(&file).close_write()]);
    // What happens in a directory that starves is told when it is watched.
    bed.settle();
    let wanting: Vec<_> = (0..200).map(|number| bed.write(&format!("in/{number}/f"))).collect();
    bed.settle();
    fs::write("/proc/sys/user/max_inotify_watches", "1000").unwrap();
    let due = bed.watcher.deadline().expect("it is tried again");
    bed.pass(due - bed.now);
    let told = bed.events();
    for path in wanting {
        let count = told.iter().filter(|event| event.path == path && event.mask == "IN_CLOSE_WRITE").count();
        assert_eq!(count, 1, "{}", path.display());
    }
    assert_eq!(bed.notices(), ["all directories are watched again"]);
    assert_eq!((bed.watcher.stats().starved, bed.watcher.deadline()), (0, None));
    let state = bed.watcher.watch_state(id);
    assert_eq!((state.kernel_watches, state.roots[0].1), (201, watcher::RootState::Watched));
}

#[test]
fn a_limit_reached_later_is_said_and_made_up_for() {
    if !is_inside(
        "a_limit_reached_later_is_said_and_made_up_for",
        "echo 20 >/proc/sys/user/max_inotify_watches",
    ) {
        return;
    }
    let mut bed = Bed::new();
    bed.mkdir("in");
    bed.watch_tree("in", ENTRIES);
    for number in 0..100 {
        bed.mkdir(&format!("in/{number}"));
    }
    bed.events();
    assert_eq!(bed.notices().len(), 1);
    let file = bed.write("in/99/f");
    assert_eq!(bed.events(), []);
    fs::write("/proc/sys/user/max_inotify_watches", "1000").unwrap();
    bed.pass(Duration::from_secs(600));
    let told = bed.events();
    assert!(told.contains(&expected(&file).close_write().arrived()), "{told:?}");
    bed.assert_watched("in/0");
}

/// A tree is moved in whole, with files that are older than the limit was hit.
#[test]
fn a_tree_moved_in_at_the_limit_is_told_file_by_file() {
    if !is_inside(
        "a_tree_moved_in_at_the_limit_is_told_file_by_file",
        "echo 20 >/proc/sys/user/max_inotify_watches",
    ) {
        return;
    }
    for fills_before in [false, true] {
        fs::write("/proc/sys/user/max_inotify_watches", "20").unwrap();
        let mut bed = Bed::new();
        bed.mkdir("in");
        for number in 0..30 {
            bed.mkdir(&format!("out/{number}/s"));
            bed.write(&format!("out/{number}/f"));
            bed.write(&format!("out/{number}/s/f"));
        }
        let count = if fills_before { 40 } else { 0 };
        (0..count).for_each(|number| drop(bed.mkdir(&format!("in/before/{number}"))));
        (0..count).for_each(|number| drop(bed.write(&format!("in/before/{number}/f"))));
        std::thread::sleep(Duration::from_millis(150));
        bed.now = Instant::now();
        bed.watch_tree("in", ENTRIES);
        bed.events();
        bed.rename("out", "in/new");
        let mut told = bed.events();
        assert_eq!(bed.notices().len(), 1);
        fs::write("/proc/sys/user/max_inotify_watches", "1000").unwrap();
        bed.pass(Duration::from_secs(600));
        told.extend(bed.events());
        for path in (0..30).flat_map(|number| [format!("in/new/{number}/f"), format!("in/new/{number}/s/f")])
        {
            let path = bed.path(&path);
            let is_told = told.iter().any(|event| event.path == path && event.mask == "IN_CLOSE_WRITE");
            assert!(is_told, "{} is not among\n{told:#?}", path.display());
        }
        let before = bed.path("in/before");
        assert!(!told.iter().any(|event| event.path.starts_with(&before)), "it was there before");
        bed.assert_watched("in/new/29/s");
    }
}

#[test]
fn a_limit_of_instances_is_named() {
    if !is_inside("a_limit_of_instances_is_named", "echo 1 >/proc/sys/user/max_inotify_instances") {
        return;
    }
    let now = std::time::Instant::now();
    let _first = Watcher::new(Options::new(b"/".to_vec()), now).unwrap();
    let second = Watcher::new(Options::new(b"/".to_vec()), now).unwrap_err();
    assert!(matches!(second, Error::InstanceLimit { .. }));
    assert!(second.to_string().contains("(user.max_inotify_instances = 1)"), "{second}");
}

#[test]
fn without_descriptors_nothing_is_lost() {
    if !is_inside("without_descriptors_nothing_is_lost", "ulimit -n 32") {
        return;
    }
    let mut bed = Bed::new();
    bed.mkdir("in");
    bed.watch_tree("in", ENTRIES);
    let mut files = Vec::new();
    for number in 0..10 {
        bed.mkdir(&format!("in/{number}/sub"));
        files.push(bed.write(&format!("in/{number}/sub/f")));
    }
    let held: Vec<fs::File> = std::iter::from_fn(|| fs::File::open("/dev/null").ok()).collect();
    bed.settle();
    drop(held);
    let notices = bed.notices();
    assert_eq!(notices.len(), 1, "{notices:?}");
    assert!(notices[0].contains("too many open files"), "{notices:?}");
    bed.pass(Duration::from_secs(600));
    let told = bed.events();
    for path in files {
        assert!(told.iter().any(|event| event.path == path && event.mask == "IN_CLOSE_WRITE"), "{told:#?}");
    }
    assert_eq!(bed.watcher.deadline(), None);
}

#[test]
fn an_unmounted_root_is_told_and_watched_again_when_mounted() {
    if !is_inside("an_unmounted_root_is_told_and_watched_again_when_mounted", "true") {
        return;
    }
    let mut bed = Bed::new();
    let root = bed.mkdir("in");
    run(MOUNT, &root);
    bed.mkdir("in/sub");
    bed.watch_tree("in", CHANGES);
    run(UNMOUNT, &root);
    bed.mounts_changed();
    let sub = root.join("sub");
    bed.assert_told_among_others(&[
        expected(&sub).unmount(),
        expected(&sub).ignored(),
        expected(&root).unmount(),
        expected(&root).ignored(),
    ]);
    let notices = bed.notices();
    let said = notices.iter().filter(|text| text.contains("was unmounted"));
    assert_eq!(
        said.collect::<Vec<_>>(),
        [&format!("'{}' was unmounted, watching what is there without it", root.display())]
    );
    // The directory beneath is a root as good as any.
    bed.assert_watched("in");
    run(MOUNT, &root);
    bed.mkdir("in/again");
    let file = bed.write("in/again/f");
    bed.mounts_changed();
    let told = bed.events();
    assert!(told.contains(&expected(&file).close_write().arrived()), "{told:?}");
    bed.assert_watched("in/again");
    // Nothing is held open: unmounting works.
    run(UNMOUNT, &root);
    bed.mounts_changed();
    bed.events();
    bed.assert_watched("in");
    assert_eq!(bed.watcher.stats().watches, bed.kernel_wds().len());
}

#[test]
fn a_mount_over_a_subdirectory_is_watched_in_its_place() {
    if !is_inside("a_mount_over_a_subdirectory_is_watched_in_its_place", "true") {
        return;
    }
    let mut bed = Bed::new();
    let sub = bed.mkdir("in/sub");
    bed.mkdir("in/sub/old");
    bed.watch_tree("in", ENTRIES);
    run(MOUNT, &sub);
    bed.mkdir("in/sub/new");
    bed.mounts_changed();
    bed.events();
    bed.assert_watched("in/sub/new");
    run(UNMOUNT, &sub);
    bed.mounts_changed();
    bed.events();
    bed.assert_watched("in/sub/old");
    assert_eq!(bed.watcher.stats().watches, bed.kernel_wds().len());
}

/// The table of mounts has the paths without links.
#[test]
fn a_mount_in_a_tree_behind_a_link_is_watched_under_the_path_of_each_watch() {
    if !is_inside("a_mount_in_a_tree_behind_a_link_is_watched_under_the_path_of_each_watch", "true") {
        return;
    }
    let mut bed = Bed::new();
    let old = bed.mkdir("real/in/sub/old");
    bed.mkdir("other/in/sub");
    symlink("real", bed.path("link")).unwrap();
    let (through, direct) = (bed.watch_tree("link/in", ENTRIES), bed.watch_tree("real/in", ENTRIES));
    let assert_told_to_both = |bed: &mut Bed, name: &str| {
        bed.mounts_changed();
        bed.events();
        let file = bed.write(&format!("link/in/sub/{name}"));
        let (path, real) = (expected(&file), expected(bed.path(&format!("real/in/sub/{name}"))));
        let told = bed.events();
        for event in [path.create_file().by(through), real.create_file().by(direct)] {
            assert!(told.contains(&event), "{event:?} is not among\n{told:#?}");
        }
    };
    let sub = bed.path("real/in/sub");
    run(MOUNT, &sub);
    assert_told_to_both(&mut bed, "f");
    run(UNMOUNT, &sub);
    assert_told_to_both(&mut bed, "f");
    bed.assert_watched("link/in/sub/old");
    assert!(old.exists());
    // The link leads elsewhere from now on.
    bed.watcher.remove(direct, &mut bed.told);
    fs::remove_file(bed.path("link")).unwrap();
    symlink("other", bed.path("link")).unwrap();
    bed.events();
    let sub = bed.path("other/in/sub");
    run(MOUNT, &sub);
    bed.mounts_changed();
    bed.assert_watched("link/in/sub");
    run(UNMOUNT, &sub);
    bed.mounts_changed();
    bed.assert_watched("link/in/sub");
}

/// A bind mount is another name of directories that stay mounted: its end makes no IN_UNMOUNT.
#[test]
fn what_a_bind_mount_from_before_the_start_has_hidden_is_watched_when_it_ends() {
    if !is_inside("what_a_bind_mount_from_before_the_start_has_hidden_is_watched_when_it_ends", "true") {
        return;
    }
    for unmount in [UNMOUNT, "umount -l \"$1\""] {
        let mut bed = Bed::new();
        let sub = bed.mkdir("in/sub");
        bed.mkdir("in/sub/old");
        bed.mkdir("out/deep");
        run(&format!("mount --bind '{}' \"$1\"", bed.path("out").display()), &sub);
        bed.watcher = Watcher::new(Options::new(b"/".to_vec()), bed.now).unwrap();
        bed.watch_tree("in", ENTRIES);
        bed.assert_watched("in/sub/deep");
        run(unmount, &sub);
        bed.mounts_changed();
        bed.events();
        bed.assert_watched("in/sub");
        bed.assert_watched("in/sub/old");
        bed.assert_unwatched("out");
        bed.assert_unwatched("out/deep");
        assert_eq!(bed.watcher.stats().watches, bed.kernel_wds().len());
    }
}

/// The kernel says nothing of the table of mounts when a directory above a mount point is renamed.
#[test]
fn a_mount_goes_along_with_a_directory_that_is_renamed_and_is_left_there_when_it_ends() {
    if !is_inside(
        "a_mount_goes_along_with_a_directory_that_is_renamed_and_is_left_there_when_it_ends",
        "true",
    ) {
        return;
    }
    for through_link in [false, true] {
        let mut bed = Bed::new();
        let point = bed.mkdir("real/in/old/mnt");
        bed.mkdir("out/deep");
        symlink("real", bed.path("link")).unwrap();
        let tree = if through_link { "link/in" } else { "real/in" };
        bed.watch_tree(tree, ENTRIES);
        run(&format!("mount --bind '{}' \"$1\"", bed.path("out").display()), &point);
        bed.mounts_changed();
        bed.assert_watched(&format!("{tree}/old/mnt/deep"));
        bed.rename("real/in/old", "real/in/first");
        bed.rename("real/in/first", "real/in/second");
        bed.assert_watched(&format!("{tree}/second/mnt/deep"));
        run(UNMOUNT, &bed.path("real/in/second/mnt"));
        bed.mounts_changed();
        bed.assert_watched(&format!("{tree}/second/mnt"));
        bed.assert_unwatched("out/deep");
    }
}

/// What was mounted after mounts were looked at last is gone when they are looked at again.
#[test]
fn a_bind_mount_that_came_and_went_between_two_looks_at_mounts_is_left() {
    if !is_inside("a_bind_mount_that_came_and_went_between_two_looks_at_mounts_is_left", "true") {
        return;
    }
    let mut bed = Bed::new();
    let sub = bed.mkdir("in/new/sub");
    bed.mkdir("out");
    run(&format!("mount --bind '{}' \"$1\"", bed.path("out").display()), &sub);
    bed.watcher.mounts_changed(bed.now);
    bed.watch_tree("in", ENTRIES);
    bed.assert_watched("in/new/sub");
    run(UNMOUNT, &sub);
    bed.mounts_changed();
    bed.events();
    bed.assert_watched("in/new/sub");
    bed.assert_unwatched("out");
}

#[test]
fn a_mount_that_a_turn_notices_is_said_as_one_that_the_caller_notices() {
    if !is_inside("a_mount_that_a_turn_notices_is_said_as_one_that_the_caller_notices", "true") {
        return;
    }
    let (bed, now) = (Bed::new(), Instant::now());
    let sub = bed.mkdir("in/sub");
    let (mut source, mut told) = (Inotify::new(Options::new(b"/".to_vec()), now).unwrap(), Told::default());
    source.add(spec(&[&bed.path("in")], ENTRIES), now, &mut told).unwrap();
    let mut is_said = |source: &mut Inotify| {
        while source.turn(now, &mut told) == Turn::More {}
        std::mem::take(&mut told.notices).iter().any(|(_, text)| text == "mounts have changed")
    };
    assert!(!is_said(&mut source));
    run(MOUNT, &sub);
    // Before it looks at a new directory it asks what is mounted there.
    bed.mkdir("in/other");
    assert!(is_said(&mut source) && !is_said(&mut source));
    source.mounts_changed(now);
    assert!(is_said(&mut source) && !is_said(&mut source));
}

#[test]
fn a_lazily_unmounted_root_is_not_told_of_any_more() {
    if !is_inside("a_lazily_unmounted_root_is_not_told_of_any_more", "true") {
        return;
    }
    let mut bed = Bed::new();
    let root = bed.mkdir("in");
    run(MOUNT, &root);
    bed.watch_tree("in", ENTRIES);
    let held = fs::File::create(root.join("held")).unwrap();
    bed.events();
    run("umount -l \"$1\"", &root);
    bed.mounts_changed();
    drop(held);
    bed.assert_told(&[]);
    bed.assert_watched("in");
}

#[test]
fn a_bind_mount_tells_each_watch_under_its_own_path() {
    if !is_inside("a_bind_mount_tells_each_watch_under_its_own_path", "true") {
        return;
    }
    let mut bed = Bed::new();
    bed.mkdir("one/sub");
    let two = bed.mkdir("two");
    run(&format!("mount --bind '{}' \"$1\"", bed.path("one").display()), &two);
    let first = bed.watch_tree("one", Flag::Create.mask());
    let second = bed.watch_tree("two", Flag::Create | Flag::Delete);
    let file = bed.write("one/sub/f");
    bed.assert_told(&[
        expected(&file).create_file().by(first),
        expected(two.join("sub/f")).create_file().by(second),
    ]);
    bed.rename("one/sub", "one/moved");
    bed.events();
    let file = bed.write("two/moved/g");
    bed.assert_told(&[
        expected(bed.path("one/moved/g")).create_file().by(first),
        expected(&file).create_file().by(second),
    ]);
    fs::remove_dir_all(bed.path("one/moved")).unwrap();
    bed.events();
    assert_eq!(bed.watcher.stats().watches, bed.kernel_wds().len());
}

/// As a user without rights: permissions mean nothing to root.
#[test]
fn an_unreadable_directory_is_said_and_watched_when_it_becomes_readable() {
    use std::os::unix::fs::PermissionsExt as _;
    let nobody = "true";
    if !is_inside("an_unreadable_directory_is_said_and_watched_when_it_becomes_readable", nobody) {
        return;
    }
    drop_rights();
    let mut bed = Bed::new();
    let closed = bed.mkdir("in/closed");
    bed.write("in/closed/f");
    let closed_root = bed.mkdir("root");
    let set = |path: &Path, mode| fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    set(&closed, 0o000);
    set(&closed_root, 0o000);
    if fs::read_dir(&closed).is_ok() {
        println!("skipped: permissions don't bind here");
        set(&closed, 0o755);
        return;
    }
    bed.watch_tree("in", ENTRIES);
    bed.watch_tree("root", ENTRIES);
    let notices = bed.notices();
    assert_eq!(notices.len(), 2, "{notices:?}");
    assert!(notices.iter().all(|text| text.contains("permission denied")), "{notices:?}");
    set(&closed, 0o755);
    set(&closed_root, 0o755);
    let told = bed.events();
    let file = bed.path("in/closed/f");
    assert!(told.contains(&expected(&file).close_write().arrived()), "{told:?}");
    bed.assert_watched("in/closed");
    bed.assert_watched("root");
    bed.notices();
    set(&closed_root, 0o000);
    bed.watch(WatchSpec { rec: false, ..spec(&[&bed.path("root/sub")], ENTRIES) });
    assert_eq!(bed.notices().len(), 1);
    set(&closed_root, 0o755);
    bed.mkdir("root/sub");
    bed.events();
    bed.assert_watched("root/sub");
}

/// As a user without rights: what is below a directory that may be listed and not entered is said.
#[test]
fn a_directory_that_may_be_listed_and_not_entered_is_listed() {
    use std::os::unix::fs::PermissionsExt as _;
    if !is_inside("a_directory_that_may_be_listed_and_not_entered_is_listed", "true") {
        return;
    }
    drop_rights();
    let mut bed = Bed::new();
    let shut = bed.mkdir("in/shut");
    bed.mkdir("in/shut/d");
    let set = |mode| fs::set_permissions(&shut, fs::Permissions::from_mode(mode)).unwrap();
    set(0o400);
    if fs::metadata(shut.join("d")).is_ok() {
        println!("skipped: permissions don't bind here");
        return set(0o755);
    }
    bed.watch_tree("in", ENTRIES);
    let notices = bed.notices();
    assert_eq!(notices.len(), 1, "{notices:?}");
    assert!(notices[0].contains("in/shut/d") && notices[0].contains("permission denied"), "{notices:?}");
    set(0o755);
    bed.events();
    bed.assert_watched("in/shut");
    bed.assert_watched("in/shut/d");
}

/// As a user without rights.
#[test]
fn a_directory_moved_in_that_may_not_be_entered_is_told_when_it_may() {
    use std::os::unix::fs::PermissionsExt as _;
    if !is_inside("a_directory_moved_in_that_may_not_be_entered_is_told_when_it_may", "true") {
        return;
    }
    drop_rights();
    for mode in [0o000, 0o300, 0o400] {
        let mut bed = Bed::new();
        let set = |path: &Path, mode| fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
        bed.mkdir("in");
        bed.mkdir("out/x/s");
        let moved = bed.path("in/x");
        bed.write("out/x/f");
        bed.write("out/x/s/f");
        bed.watch_tree("in", ENTRIES);
        bed.rename("out/x", "in/x");
        set(&moved, mode);
        if fs::metadata(moved.join("f")).is_ok() && mode != 0o300 {
            println!("skipped: permissions don't bind here");
            return set(&moved, 0o755);
        }
        let told = bed.events();
        assert!(!told.iter().any(|event| event.path.starts_with(moved.join("s"))), "{told:#?}");
        let notices = bed.notices();
        assert_eq!(notices.len(), 1, "{notices:?}");
        assert!(notices[0].contains("in/x'") && notices[0].contains("permission denied"), "{notices:?}");
        // Another change of its attributes is no reason to say it again.
        set(&moved, mode | 0o040);
        let notices = bed.notices();
        assert!(mode != 0o400 || notices.is_empty(), "{notices:?}");
        set(&moved, 0o755);
        let told = bed.events();
        for path in [moved.join("f"), moved.join("s/f")] {
            assert!(told.contains(&expected(&path).close_write().arrived()), "{mode:o}: {told:#?}");
        }
        bed.assert_watched("in/x");
        bed.assert_watched("in/x/s");
    }
}

/// Gives up the rights that root has in its namespace over the modes of files.
fn drop_rights() {
    use rustix::thread::{CapabilitySet, CapabilitySets, set_capabilities};
    let none = CapabilitySets {
        effective: CapabilitySet::empty(),
        permitted: CapabilitySet::empty(),
        inheritable: CapabilitySet::empty(),
    };
    set_capabilities(None, none).unwrap();
}
