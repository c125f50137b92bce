//! Roots that come and go.

use std::fs;
use std::os::unix::fs::{MetadataExt as _, symlink};
use std::path::PathBuf;
use std::time::Duration;

use event::{Flag, Mask};
use watcher::{News, Problem, WatchSpec};

use crate::bed::{Bed, CHANGES, expected, os, spec};

/// Without the events of the watched object itself, which roots have and subdirectories have.
const ENTRIES: Mask = Mask(Flag::Create.mask().0 | Flag::CloseWrite.mask().0);

#[test]
fn a_missing_root_is_waited_for() {
    let mut bed = Bed::new();
    bed.watch_tree("a/b/in", ENTRIES);
    let notices = bed.notices();
    assert_eq!(notices.len(), 1, "{notices:?}");
    let text = format!(
        "'{}' does not exist, waiting for it in '{}'",
        bed.path("a/b/in").display(),
        bed.top.display()
    );
    assert_eq!(notices[0], text);
    bed.mkdir("a/b");
    bed.write("a/b/other");
    assert_eq!(bed.notices(), [""; 0], "a step nearer is nothing to say");
    bed.mkdir("a/b/in/sub");
    let file = bed.write("a/b/in/sub/f");
    bed.assert_told(&[
        expected(bed.path("a/b/in/sub")).create_dir().arrived(),
        expected(&file).create_file().arrived(),
        expected(&file).close_write().arrived(),
    ]);
    assert!(bed.notices()[0].ends_with("is there, watching it"));
    bed.assert_watched("a/b/in/sub");
}

#[test]
fn a_root_that_is_a_link_to_nothing_or_below_one_says_where_that_leads() {
    let mut bed = Bed::new();
    bed.mkdir("disk");
    symlink("disk/data", bed.path("link")).unwrap();
    let [link, target, disk] = ["link", "disk/data", "disk"].map(|name| bed.path(name));
    let says = |begin: &str| {
        let (link, target, disk) = (link.display(), target.display(), disk.display());
        format!("{begin}'{link}' is a link to '{target}', which does not exist, waiting for it in '{disk}'")
    };
    bed.watch_tree("link", ENTRIES);
    assert_eq!(bed.notices(), [says("")]);
    bed.watch_tree("link/in", ENTRIES);
    assert_eq!(bed.notices(), [says(&format!("'{}' does not exist: ", bed.path("link/in").display()))]);
    bed.mkdir("disk/data/in");
    bed.events();
    bed.assert_watched("link/in");
}

#[test]
fn a_root_that_is_deleted_and_made_again_is_watched_again() {
    let mut bed = Bed::new();
    let root = bed.mkdir("in");
    bed.watch_tree("in", CHANGES);
    for _ in 0..3 {
        fs::remove_dir(&root).unwrap();
        bed.assert_told(&[expected(&root).delete_self().of_dir(), expected(&root).ignored()]);
        assert_eq!(bed.notices().len(), 1);
        bed.mkdir("in");
        let file = bed.write("in/f");
        bed.assert_told(&[expected(&file).create_file().arrived(), expected(&file).close_write().arrived()]);
        assert_eq!(bed.notices().len(), 1);
        bed.assert_watched("in");
        fs::remove_file(&file).unwrap();
        bed.events();
    }
}

#[test]
fn a_root_that_is_made_again_at_once_is_not_missed() {
    let mut bed = Bed::new();
    let root = bed.mkdir("in");
    bed.watch_tree("in", ENTRIES);
    fs::remove_dir(&root).unwrap();
    bed.mkdir("in");
    let file = bed.write("in/f");
    bed.assert_told(&[expected(&file).create_file().arrived(), expected(&file).close_write().arrived()]);
    assert_eq!(bed.notices(), [""; 0]);
    bed.assert_watched("in");
}

#[test]
fn a_root_that_is_held_open_and_removed_is_noticed_at_once() {
    let mut bed = Bed::new();
    let root = bed.mkdir("in");
    bed.watch_tree("in", ENTRIES);
    let held = fs::File::open(&root).unwrap();
    fs::remove_dir(&root).unwrap();
    assert_eq!(bed.notices().len(), 1);
    bed.mkdir("in");
    bed.write("in/f");
    assert_eq!(bed.events().len(), 2);
    bed.assert_watched("in");
    drop(held);
    bed.assert_watched("in");
    assert_eq!(bed.watcher.stats().watches, bed.kernel_wds().len());
}

#[test]
fn a_root_replaced_by_rename_is_watched_with_arrivals() {
    let mut bed = Bed::new();
    let root = bed.mkdir("in");
    bed.mkdir("next/sub");
    bed.write("next/sub/f");
    bed.watch_tree("in", CHANGES);
    bed.rename("in", "last");
    bed.rename("next", "in");
    let unknown = bed.path("in-unknown-path");
    bed.assert_told(&[
        expected(&unknown).move_self().of_dir(),
        expected(root.join("sub")).create_dir().arrived(),
        expected(root.join("sub/f")).create_file().arrived(),
        expected(root.join("sub/f")).close_write().arrived(),
    ]);
    bed.assert_watched("in/sub");
    bed.assert_unwatched("last");
}

#[test]
fn a_root_exchanged_with_another_directory_is_followed_by_its_path() {
    let mut bed = Bed::new();
    bed.mkdir("in/a");
    bed.mkdir("other/b");
    bed.watch_tree("in", ENTRIES);
    let cwd = rustix::fs::CWD;
    let flags = rustix::fs::RenameFlags::EXCHANGE;
    rustix::fs::renameat_with(cwd, bed.path("in"), cwd, bed.path("other"), flags).unwrap();
    bed.assert_watched("in/b");
    bed.assert_unwatched("other/a");
}

#[test]
fn a_root_that_leads_to_something_else_is_said() {
    let mut bed = Bed::new();
    for name in ["one/in", "two/in", "links"] {
        bed.mkdir(name);
    }
    symlink(bed.path("one"), bed.path("link")).unwrap();
    let (link, below, late) = (bed.path("link"), bed.path("link/in"), bed.path("late"));
    bed.watch(spec(&[&link, &below, &late, &bed.path("links/*")], ENTRIES));
    let mut said = || {
        bed.pass(Duration::from_secs(1));
        std::mem::take(&mut bed.told.elsewhere)
    };
    assert_eq!(said(), [""; 0].map(PathBuf::from), "each led there when it was configured");
    symlink("two", link.with_file_name("next")).unwrap();
    fs::rename(link.with_file_name("next"), &link).unwrap();
    let mut both = said();
    both.sort();
    both.dedup();
    assert_eq!(both, [link, below]);
    symlink("one", &late).unwrap();
    assert_eq!(said(), std::slice::from_ref(&late));
    let matched = late.with_file_name("links").join("match");
    symlink("../one", &matched).unwrap();
    assert_eq!(said(), [matched]);
    fs::write(late.join("f"), "").unwrap();
    assert_eq!(said(), [""; 0].map(PathBuf::from));
}

#[test]
fn when_a_parent_is_renamed_nothing_is_told_under_the_old_path() {
    let mut bed = Bed::new();
    bed.mkdir("a/b/in/sub");
    bed.watch_tree("a/b/in", CHANGES);
    bed.rename("a", "x");
    bed.write("x/b/in/f");
    bed.write("x/b/in/sub/f");
    let told = bed.events();
    assert!(told.iter().all(|event| event.mask != "IN_CREATE" && event.mask != "IN_CLOSE_WRITE"), "{told:?}");
    assert_eq!(bed.notices().len(), 1);
    bed.write("x/b/in/g");
    bed.assert_told(&[]);
    bed.mkdir("a/b/in");
    bed.events();
    bed.assert_watched("a/b/in");
    assert_eq!(bed.watcher.stats().watches, bed.kernel_wds().len());
}

#[test]
fn when_a_parent_is_exchanged_the_path_counts() {
    let mut bed = Bed::new();
    bed.mkdir("a/in");
    bed.mkdir("b/in");
    bed.watch_tree("a/in", ENTRIES);
    let cwd = rustix::fs::CWD;
    let flags = rustix::fs::RenameFlags::EXCHANGE;
    rustix::fs::renameat_with(cwd, bed.path("a"), cwd, bed.path("b"), flags).unwrap();
    bed.assert_watched("a/in");
    bed.assert_unwatched("b/in");
}

#[test]
fn a_link_on_the_way_that_is_changed_leads_to_the_new_place() {
    let mut bed = Bed::new();
    bed.mkdir("one/in");
    bed.mkdir("two/in");
    let link = bed.path("link");
    symlink(bed.path("one"), &link).unwrap();
    bed.watch_tree("link/in", ENTRIES);
    bed.assert_watched("link/in");
    symlink(bed.path("two"), bed.path("link.new")).unwrap();
    bed.rename("link.new", "link");
    bed.events();
    bed.assert_watched("link/in");
    bed.assert_unwatched("one/in");
    fs::remove_file(&link).unwrap();
    bed.events();
    bed.assert_unwatched("two/in");
    symlink(bed.path("one"), &link).unwrap();
    bed.events();
    bed.assert_watched("link/in");
    // The link stays, what it leads to is renamed.
    bed.rename("one", "three");
    bed.events();
    bed.assert_unwatched("three/in");
    bed.mkdir("one/in");
    bed.events();
    bed.assert_watched("link/in");
}

#[test]
fn a_root_that_is_a_link_is_watched_under_its_name_and_not_descended() {
    let mut bed = Bed::new();
    bed.mkdir("one/sub");
    bed.mkdir("two");
    let link = bed.path("in");
    symlink(bed.path("one"), &link).unwrap();
    bed.watch_tree("in", ENTRIES);
    bed.assert_watched("in");
    bed.assert_unwatched("in/sub");
    symlink(bed.path("two"), bed.path("next")).unwrap();
    bed.rename("next", "in");
    bed.events();
    bed.assert_watched("in");
    bed.write("one/f");
    bed.assert_told(&[]);
}

#[test]
fn nested_roots_part_and_join() {
    let mut bed = Bed::new();
    bed.mkdir("in/sub/deep");
    let outer = bed.watch_tree("in", ENTRIES);
    let inner = bed.watch_tree("in/sub", ENTRIES);
    bed.rename("in/sub", "in/moved");
    bed.events();
    let file = bed.write("in/moved/deep/f");
    bed.assert_told(&[expected(&file).create_file().by(outer), expected(&file).close_write().by(outer)]);
    bed.rename("in/moved", "in/sub");
    let told = bed.events();
    assert!(
        told.contains(&expected(bed.path("in/sub/deep/f")).close_write().arrived().by(inner)),
        "{told:?}"
    );
    let file = bed.write("in/sub/deep/g");
    let mut told = bed.events();
    told.sort_by_key(|event| (event.watch, event.mask));
    let [close, create] = [expected(&file).close_write(), expected(&file).create_file()];
    assert_eq!(told, [close.clone().by(outer), create.clone().by(outer), close.by(inner), create.by(inner)]);
    fs::remove_dir_all(bed.path("in/sub")).unwrap();
    bed.mkdir("in/sub");
    let file = bed.write("in/sub/new");
    let told = bed.events();
    for watch in [outer, inner] {
        let all: Vec<_> = told.iter().filter(|event| event.path == file && event.watch == watch.0).collect();
        assert_eq!(all.len(), 2, "once each: {told:?}");
    }
    assert_eq!(bed.watcher.stats().watches, bed.kernel_wds().len());
}

#[test]
fn a_watched_file_is_followed_through_atomic_saves() {
    let mut bed = Bed::new();
    let file = bed.write("conf");
    bed.watch_tree("conf", Flag::Modify | Flag::CloseWrite);
    bed.write("other");
    bed.assert_told(&[]);
    fs::write(&file, "new").unwrap();
    bed.assert_told(&[expected(&file).modify(), expected(&file).close_write()]);
    for _ in 0..3 {
        bed.write("conf.new");
        bed.rename("conf.new", "conf");
        bed.assert_told(&[expected(&file).close_write().arrived()]);
        fs::write(&file, "more").unwrap();
        bed.assert_told(&[expected(&file).modify(), expected(&file).close_write()]);
    }
    fs::remove_file(&file).unwrap();
    bed.events();
    assert_eq!(bed.notices().len(), 1);
    bed.write("conf");
    bed.assert_told(&[expected(&file).close_write().arrived()]);
    bed.settle();
    fs::write(&file, "again").unwrap();
    bed.settle();
    assert_eq!(bed.told.details[0].1, file, "the path of the watch is the file");
    assert_eq!(bed.watcher.stats().watches, bed.kernel_wds().len());
}

#[test]
fn the_end_of_a_watched_file_is_told() {
    let mut bed = Bed::new();
    let file = bed.write("f");
    bed.watch_tree("f", Mask(CHANGES.0 | Flag::Attrib.mask().0));
    fs::remove_file(&file).unwrap();
    bed.assert_told(&[expected(&file).attrib(), expected(&file).delete_self(), expected(&file).ignored()]);
    let file = bed.write("f");
    bed.events();
    bed.rename("f", "g");
    bed.assert_told(&[expected(format!("{}-unknown-path", file.display())).move_self()]);
}

#[test]
fn a_watched_file_with_only_modify_in_its_map_is_told_of_a_save() {
    let mut bed = Bed::new();
    let file = bed.write("conf");
    bed.watch_tree("conf", Flag::Modify.mask());
    bed.write("new");
    bed.rename("new", "conf");
    bed.assert_told(&[expected(&file).modify().arrived()]);
}

#[test]
fn patterns_are_expanded() {
    let mut bed = Bed::new();
    for name in ["a1", "a2", "b1", ".a3"] {
        bed.mkdir(name);
    }
    bed.watch(WatchSpec {
        paths: vec![b"?[12]".to_vec(), b"*1".to_vec(), b"x*".to_vec()],
        ..spec(&[], ENTRIES)
    });
    assert_eq!(bed.notices(), ["no path matches 'x*'"]);
    for name in ["a1", "a2", "b1"] {
        bed.assert_watched(name);
    }
    bed.assert_unwatched(".a3");
    bed.write("a1/f");
    bed.settle();
    assert_eq!(bed.told.details[0].1, os(b"a1"));
    bed.mkdir("c1");
    bed.assert_unwatched("c1");
}

#[test]
fn a_bracket_in_a_real_name_is_no_pattern() {
    let mut bed = Bed::new();
    bed.mkdir("[a]");
    bed.mkdir("a");
    bed.watch_tree("[a]", ENTRIES);
    bed.assert_watched("[a]");
    bed.assert_unwatched("a");
}

#[test]
fn the_same_path_twice_is_one_watch() {
    let mut bed = Bed::new();
    let path = bed.mkdir("in");
    let again = bed.path("in/../in/.");
    bed.watch(spec(&[&path, &again], ENTRIES));
    let file = bed.write("in/f");
    bed.assert_told(&[expected(&file).create_file(), expected(&file).close_write()]);
}

#[test]
fn an_excluded_root_is_silent_and_what_is_below_is_watched() {
    let mut bed = Bed::new();
    let path = bed.mkdir("in");
    bed.mkdir("in/sub");
    let own = os(std::os::unix::ffi::OsStrExt::as_bytes(path.as_os_str()));
    let exclude: watcher::Exclude = std::sync::Arc::new(move |path: &[u8]| {
        path == std::os::unix::ffi::OsStrExt::as_bytes(own.as_os_str())
    });
    bed.watch(WatchSpec { exclude: Some(exclude), ..spec(&[&path], ENTRIES) });
    bed.assert_unwatched("in");
    bed.assert_watched("in/sub");
}

#[test]
fn a_filesystem_that_is_blind_to_others_is_said() {
    let mut bed = Bed::new();
    let proc = std::path::Path::new("/proc/sys");
    bed.watch(WatchSpec { rec: false, ..spec(&[proc], ENTRIES) });
    let notices = bed.notices();
    assert!(notices.iter().any(|text| text.starts_with("'/proc/sys' is on proc")), "{notices:?}");
}

#[test]
fn paths_are_checked_without_being_watched() {
    let mut bed = Bed::new();
    bed.mkdir("in");
    symlink(bed.path("loop"), bed.path("loop")).unwrap();
    let names: [&[u8]; 4] = [b"in", b"missing", b"x*", b"loop"];
    let spec = WatchSpec { paths: names.iter().map(|name| name.to_vec()).collect(), ..spec(&[], ENTRIES) };
    let problems = bed.watcher.check(&spec);
    let loops = bed.path("loop");
    let expected = [
        (std::os::unix::ffi::OsStrExt::as_bytes(bed.path("missing").as_os_str()).to_vec(), Problem::Missing),
        (b"x*".to_vec(), Problem::NoMatch),
        (
            std::os::unix::ffi::OsStrExt::as_bytes(loops.as_os_str()).to_vec(),
            Problem::CannotWatch(watcher::Errno::LOOP),
        ),
    ];
    assert_eq!(problems, expected);
    assert_eq!(bed.kernel_wds(), []);
    bed.settle();
}

/// What comes to match a pattern is watched with arrivals, to any of its levels; what is gone is not watched any more.
#[test]
fn what_comes_to_match_a_pattern_is_watched() {
    let mut bed = Bed::new();
    for name in ["watch/a/in/sub", "watch/a/other", "stage/c/in", "stage/in"] {
        bed.mkdir(name);
    }
    bed.write("stage/c/in/f");
    let pattern = bed.path("watch/*/in");
    bed.watch(spec(&[&pattern], CHANGES));
    bed.assert_watched("watch/a/in/sub");
    // Made step by step, moved in as a whole, and below a directory that was there.
    bed.mkdir("watch/b/in");
    let file = bed.write("watch/b/in/f");
    bed.pass(Duration::from_secs(1));
    bed.assert_told_among_others(&[expected(&file).close_write().arrived()]);
    bed.rename("stage/c", "watch/c");
    bed.pass(Duration::from_secs(1));
    bed.assert_told_among_others(&[expected(bed.path("watch/c/in/f")).close_write().arrived()]);
    bed.mkdir("watch/d");
    bed.pass(Duration::from_secs(1));
    bed.rename("stage/in", "watch/d/in");
    bed.pass(Duration::from_secs(1));
    for name in ["a", "b", "c", "d"] {
        bed.assert_watched(&format!("watch/{name}/in"));
    }
    bed.assert_unwatched("watch/a/other");
    bed.notices();
    // Removed, renamed to what does not match, and to what does.
    fs::remove_dir_all(bed.path("watch/b")).unwrap();
    bed.rename("watch/c/in", "watch/c/out");
    bed.rename("watch/d", "watch/e");
    bed.pass(Duration::from_secs(1));
    bed.pass(Duration::from_secs(1));
    let gone = bed.notices().into_iter().filter(|text| text.contains("is gone")).count();
    assert_eq!(gone, 3);
    bed.assert_unwatched("watch/c/out");
    bed.assert_watched("watch/e/in");
    bed.mkdir("watch/b/in");
    bed.pass(Duration::from_secs(1));
    bed.assert_watched("watch/b/in");
    assert_eq!(bed.watcher.stats().watches, bed.kernel_wds().len());
}

/// A pattern that matches files, and one that matches nothing at first.
#[test]
fn files_come_to_match_a_pattern() {
    let mut bed = Bed::new();
    bed.mkdir("log");
    let (logs, later) = (bed.path("log/*.log"), bed.path("no/such/*/in"));
    bed.watch(spec(&[&logs, &later], CHANGES | Flag::Modify.mask()));
    bed.write("log/other");
    let file = bed.write("log/a.log");
    bed.pass(Duration::from_secs(1));
    bed.assert_told_among_others(&[expected(&file).create_file().arrived()]);
    fs::write(&file, "more").unwrap();
    bed.assert_told_among_others(&[expected(&file).close_write()]);
    bed.mkdir("no/such/thing/in");
    bed.pass(Duration::from_secs(1));
    bed.assert_watched("no/such/thing/in");
}

/// Many entries come and go beside a pattern: it is not expanded for each of them.
#[test]
fn a_pattern_is_expanded_at_bounded_cost() {
    let mut bed = Bed::with(|options| options.limits.pause = Duration::ZERO);
    for number in 0..500 {
        bed.mkdir(&format!("watch/{number}/in"));
    }
    let pattern = bed.path("watch/*/in");
    bed.watch(spec(&[&pattern], CHANGES));
    let due = |bed: &Bed| bed.watcher.deadline().map(|at| at.saturating_duration_since(bed.now));
    bed.mkdir("watch/new");
    bed.settle();
    assert!(due(&bed).is_some_and(|rest| rest > Duration::from_millis(20)), "{:?}", due(&bed));
    bed.mkdir("watch/new/in");
    bed.pass(Duration::from_secs(1));
    bed.assert_watched("watch/new/in");
}

/// Renaming a directory above what a link leads to sends no event to whoever knows the link's own path only.
#[test]
fn a_pattern_follows_what_a_link_on_its_way_leads_to() {
    let mut bed = Bed::new();
    bed.mkdir("data/one/a/in");
    bed.mkdir("data/two/b");
    symlink(bed.path("data/current/one"), bed.path("way")).unwrap();
    symlink(bed.path("data"), bed.path("data/current")).unwrap();
    let pattern = bed.path("way/*/in");
    bed.watch(spec(&[&pattern], CHANGES));
    bed.assert_watched("way/a/in");
    bed.exchange("data/one", "data/two");
    bed.pass(Duration::from_secs(1));
    bed.mkdir("way/b/in");
    bed.pass(Duration::from_secs(1));
    bed.assert_watched("way/b/in");
    bed.rename("data", "gone");
    bed.pass(Duration::from_secs(1));
    bed.mkdir("data/one/c/in");
    symlink(bed.path("data"), bed.path("data/current")).unwrap();
    bed.pass(Duration::from_secs(1));
    bed.assert_watched("way/c/in");
}

#[test]
fn a_watch_is_told_once_of_what_it_sees_through_two_paths() {
    let mut bed = Bed::new();
    let (outer, inner) = (bed.mkdir("in"), bed.mkdir("in/a/b"));
    let watch = bed.watch(spec(&[&outer, &inner], CHANGES));
    let other = bed.watch(spec(&[&inner], CHANGES));
    let file = bed.write("in/a/b/f");
    bed.assert_told(&[
        expected(&file).create_file().by(watch),
        expected(&file).create_file().by(other),
        expected(&file).close_write().by(watch),
        expected(&file).close_write().by(other),
    ]);
}

#[test]
fn a_watch_is_told_once_of_what_its_own_action_brings_below_two_of_its_paths() {
    let mut bed = Bed::new();
    let (outer, inner) = (bed.mkdir("in"), bed.mkdir("in/a"));
    bed.watch(spec(&[&outer, &inner], Flag::MovedTo.mask()));
    bed.write("in/a/.pyinotifyd-x.tmp");
    bed.events();
    bed.rename("in/a/.pyinotifyd-x.tmp", "in/a/f");
    bed.assert_told(&[expected(bed.path("in/a/f")).moved_to().arrived()]);
}

/// Its IN_MOVED_FROM comes first where another watch wants that, and must not be the end of the root.
#[test]
fn a_root_below_another_watch_is_told_that_it_was_moved_away() {
    let mut bed = Bed::new();
    for name in ["in/root", "out"] {
        bed.mkdir(name);
    }
    bed.watch_tree("in", CHANGES);
    let root = bed.path("in/root");
    let watch = bed.watch(WatchSpec { rec: false, auto_add: false, ..spec(&[&root], Mask::ALL_EVENTS) });
    bed.settle();
    bed.rename("in/root", "out/root");
    let gone = bed.path("in/root-unknown-path");
    bed.assert_told_among_others(&[expected(&gone).move_self().of_dir().by(watch)]);
    bed.mkdir("in/root");
    bed.settle();
    let file = bed.write("in/root/f");
    bed.assert_told_among_others(&[expected(&file).close_write().by(watch)]);
}

/// What is looked at for the one watch, when the first half of an exchange is told, stands where the second half puts
/// it; the other watch has to hear of both.
#[test]
fn directories_that_are_exchanged_on_the_way_to_roots_stay_watched() {
    for roots in
        [&["in/*/*/e"][..], &["in/*/a", "in/*/*/e"], &["in/c/a", "in/*/*/e"], &["in/c/a/e", "in/*/a"]]
    {
        let mut bed = Bed::new();
        for name in ["in/a/d/e", "in/c/a/d/a/d", "in/c/a/e/d"] {
            bed.mkdir(name);
        }
        let watch = bed.watch_tree("in/a", CHANGES);
        for root in roots {
            let path = bed.path(root);
            bed.watch(WatchSpec { rec: true, auto_add: true, ..spec(&[&path], CHANGES) });
        }
        bed.settle();
        for _ in 0..2 {
            bed.exchange("in/a/d", "in/c/a");
            bed.events();
            for dir in ["in/a/d", "in/a/d/e"] {
                let file = bed.write(&format!("{dir}/f"));
                bed.assert_told_among_others(&[expected(&file).close_write().by(watch)]);
                fs::remove_file(file).unwrap();
            }
        }
    }
}

/// The number of a root is used again while directories are unwatched that it has seen.
#[test]
fn a_new_watch_is_told_while_the_tree_of_another_one_is_unwatched() {
    let mut bed = Bed::with(|options| options.limits.turn_units = 8);
    for number in 0..200 {
        bed.mkdir(&format!("in/tree/{number}"));
    }
    bed.mkdir("out");
    bed.mkdir("later");
    let watch = bed.watch_tree("in", CHANGES);
    bed.rename("in/tree", "out/tree");
    while bed.told.events.iter().all(|event| event.mask != "IN_MOVE_SELF") {
        bed.watcher.turn(bed.now, &mut bed.told);
    }
    bed.watcher.remove(watch, &mut bed.told);
    assert!(bed.watcher.stats().watches > 100, "they are unwatched a few in a turn");
    assert_eq!(bed.watcher.deadline(), Some(bed.now), "and at once");
    let later = bed.watch_tree("later", CHANGES);
    let file = bed.write("later/f");
    bed.assert_told_among_others(&[expected(&file).close_write().by(later)]);
    bed.watcher.remove(later, &mut bed.told);
    bed.settle();
    assert_eq!(bed.kernel_wds(), []);
}

#[test]
fn nothing_is_left_of_a_watch_of_the_root_directory() {
    let mut bed = Bed::new();
    let top = WatchSpec { rec: false, auto_add: false, ..spec(&[std::path::Path::new("/")], CHANGES) };
    let watch = bed.watch(top);
    assert_eq!(bed.kernel_wds().len(), 1);
    bed.watcher.remove(watch, &mut bed.told);
    bed.settle();
    assert_eq!((bed.kernel_wds(), bed.watcher.stats().nodes), (vec![], 1));
}

/// A directory without subdirectories is not listed when a tree is set up, so it need not be opened.
#[test]
fn a_new_watch_is_told_of_no_look_at_a_directory_without_subdirectories() {
    let mut bed = Bed::new();
    for number in 0..100 {
        bed.mkdir(&format!("in/{number}"));
    }
    if fs::metadata(bed.path("in")).unwrap().nlink() != 102 {
        println!("skipped: directories don't count their links here");
        return;
    }
    bed.watch_tree("in", Mask::READING);
    bed.assert_told(&[]);
    let dir = bed.path("in/7");
    fs::read_dir(&dir).unwrap();
    let told = bed.events();
    assert!(told.iter().any(|event| event.path == dir && event.mask == "IN_OPEN|IN_ISDIR"), "{told:?}");
}

#[test]
fn what_a_watch_that_is_passed_over_sees_happen_is_told_to_it_alone() {
    let mut bed = Bed::new();
    let (seen, unseen) = (bed.mkdir("seen"), bed.mkdir("unseen"));
    let before = bed.watch_tree("seen", ENTRIES);
    bed.watcher.pass_over(vec![before]);
    let mut both = spec(&[&seen, &unseen], ENTRIES);
    both.initial = Some(News::Everything);
    let newcomer = bed.watch(both);
    let (old, new) = (bed.write("seen/f"), bed.write("unseen/f"));
    bed.assert_told(&[
        expected(&old).create_file().by(before),
        expected(&old).close_write().by(before),
        expected(&new).create_file().by(newcomer),
        expected(&new).close_write().by(newcomer),
    ]);
    // What comes as a whole, too.
    bed.mkdir("made/sub");
    bed.write("made/f");
    bed.rename("made", "seen/made");
    let arrived = expected(seen.join("made/f")).close_write().arrived().by(before);
    let told = bed.events();
    assert!(told.contains(&arrived) && told.iter().all(|event| event.watch == before.0), "{told:#?}");
    bed.watcher.pass_over(Vec::new());
    fs::write(&old, "more").unwrap();
    bed.assert_told(&[expected(&old).close_write().by(before), expected(&old).close_write().by(newcomer)]);
}
