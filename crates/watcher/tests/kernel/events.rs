//! Events of files and directories as a watch sees them, on the real kernel.

use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::ffi::OsStrExt as _;
use std::process::Stdio;

use crate::bed::{Bed, CHANGES, expected, os, spec};
use event::{Flag, Mask};
use watcher::WatchSpec;

#[test]
fn a_file_written_in_a_subdirectory_is_told() {
    let mut bed = Bed::new();
    bed.mkdir("in/sub");
    bed.watch_tree("in", CHANGES);
    let file = bed.write("in/sub/f");
    bed.assert_told(&[expected(&file).create_file(), expected(&file).close_write()]);
    fs::remove_file(&file).unwrap();
    bed.assert_told(&[expected(&file).delete_file()]);
}

#[test]
fn only_what_is_of_interest_is_told() {
    let mut bed = Bed::new();
    bed.mkdir("in/sub");
    bed.watch_tree("in", Flag::Delete.mask());
    let file = bed.write("in/sub/f");
    bed.mkdir("in/new");
    fs::remove_file(&file).unwrap();
    bed.assert_told(&[expected(&file).delete_file()]);
}

#[test]
fn a_rename_is_told_with_its_source_across_watches() {
    let mut bed = Bed::new();
    bed.mkdir("a");
    bed.mkdir("b");
    let first = bed.watch_tree("a", Flag::Create.mask());
    let second = bed.watch_tree("b", Flag::MovedTo.mask());
    let (old, new) = (bed.write("a/f"), bed.path("b/g"));
    bed.rename("a/f", "b/g");
    bed.assert_told(&[
        expected(&old).create_file().by(first),
        expected(&new).moved_to().from(&old).by(second),
    ]);
}

#[test]
fn a_file_from_outside_has_no_source() {
    let mut bed = Bed::new();
    bed.mkdir("in");
    bed.watch_tree("in", CHANGES);
    bed.write("f");
    bed.rename("f", "in/f");
    let file = bed.path("in/f");
    bed.assert_told(&[expected(&file).moved_to()]);
    bed.rename("in/f", "f");
    bed.assert_told(&[expected(&file).moved_from()]);
}

#[test]
fn a_renamed_directory_keeps_its_watches_under_its_new_path() {
    let mut bed = Bed::new();
    bed.mkdir("in/a/deep");
    bed.mkdir("in/ab");
    bed.watch_tree("in", CHANGES);
    let watches = bed.watcher.stats().watches;
    for (old, new) in [("in/a", "in/x"), ("in/x", "in/ab/y")] {
        let (from, to) = (bed.path(old), bed.path(new));
        bed.rename(old, new);
        bed.assert_told(&[
            expected(&from).moved_from_dir(),
            expected(&to).moved_to_dir().from(&from),
            expected(&to).move_self().of_dir(),
        ]);
        let file = bed.write(&format!("{new}/deep/f"));
        bed.assert_told(&[expected(&file).create_file(), expected(&file).close_write()]);
        fs::remove_file(&file).unwrap();
        bed.events();
    }
    assert_eq!(bed.watcher.stats().watches, watches);
}

#[test]
fn a_directory_moved_out_is_told_once_and_forgotten() {
    let mut bed = Bed::new();
    bed.mkdir("in/a/deep");
    bed.mkdir("out");
    bed.watch_tree("in", CHANGES);
    let old = bed.path("in/a");
    bed.rename("in/a", "out/a");
    let unknown = bed.path("in/a-unknown-path");
    bed.assert_told(&[expected(&old).moved_from_dir(), expected(&unknown).move_self().of_dir()]);
    assert!(bed.notices().iter().any(|text| text.contains("moved out of everything")));
    bed.write("out/a/f");
    bed.write("out/a/deep/f");
    bed.assert_told(&[]);
    // The root and the directories above it.
    assert_eq!(bed.watcher.stats().watches, bed.kernel_wds().len());
    bed.rename("out/a", "in/b");
    bed.assert_told_among_others(&[
        expected(bed.path("in/b")).moved_to_dir(),
        expected(bed.path("in/b/deep/f")).close_write().arrived(),
    ]);
    bed.assert_watched("in/b/deep");
}

#[test]
fn a_tree_moved_in_is_told_file_by_file() {
    let mut bed = Bed::new();
    bed.mkdir("in");
    bed.mkdir("out/a/b/c");
    bed.write("out/a/b/c/f");
    bed.watch_tree("in", CHANGES);
    bed.rename("out/a", "in/a");
    bed.assert_told(&[
        expected(bed.path("in/a")).moved_to_dir(),
        expected(bed.path("in/a/b")).create_dir().arrived(),
        expected(bed.path("in/a/b/c")).create_dir().arrived(),
        expected(bed.path("in/a/b/c/f")).create_file().arrived(),
        expected(bed.path("in/a/b/c/f")).close_write().arrived(),
    ]);
    bed.assert_watched("in/a/b/c");
    // A rename of what is watched tells of nothing below.
    bed.rename("in/a/b", "in/b");
    let told = bed.events();
    assert!(!told.iter().any(|event| event.synthetic), "{told:#?}");
    bed.assert_watched("in/b/c");
}

/// A directory's new path, for each watch that saw it.
#[test]
fn a_renamed_directory_is_told_with_both_paths() {
    let mut bed = Bed::new();
    let is_excluded = |path: &[u8]| path.ends_with(b".part");
    for name in ["in/a/deep", "roots", "other", "out"] {
        bed.mkdir(name);
    }
    let (inside, roots, other) = (bed.path("in"), bed.path("roots"), bed.path("other"));
    let exclude: Option<watcher::Exclude> = Some(std::sync::Arc::new(is_excluded));
    let one = bed.watch(WatchSpec { exclude, ..spec(&[&inside, &roots], CHANGES) }).0;
    let two = bed.watch(spec(&[&other], CHANGES)).0;
    let nested = bed.watch(spec(&[&inside.join("n/root")], CHANGES)).0;
    let cases = [
        ("in/a", "in/b", vec![(one, "in/a", Some("in/b"))]),
        ("in/b", "roots/b", vec![(one, "in/b", Some("roots/b"))]),
        ("roots/b/deep", "in/deep", vec![(one, "roots/b/deep", Some("in/deep"))]),
        ("in/deep", "other/deep", vec![(one, "in/deep", None)]),
        ("other/deep", "out/deep", vec![(two, "other/deep", None)]),
        ("out/deep", "in/deep", vec![]),
        ("in/deep", "in/deep.part", vec![(one, "in/deep", Some("in/deep.part"))]),
        ("in/deep.part", "in/deep", vec![]),
    ];
    for (from, to, expected) in cases {
        bed.rename(from, to);
        bed.settle();
        let told = std::mem::take(&mut bed.told.renamed);
        let full =
            |(watch, from, to): (u32, &str, Option<&str>)| (watch, bed.path(from), to.map(|to| bed.path(to)));
        assert_eq!(told, expected.into_iter().map(full).collect::<Vec<_>>(), "{from} to {to}");
    }
    // The root of another watch stays where it is.
    bed.mkdir("in/n/root/deep");
    bed.settle();
    bed.rename("in/n", "in/m");
    bed.settle();
    let mut told = std::mem::take(&mut bed.told.renamed);
    told.sort();
    assert_eq!(
        told,
        [(one, bed.path("in/n"), Some(bed.path("in/m"))), (nested, bed.path("in/n/root"), None)]
    );
}

/// Whoever has not seen what is in a directory is told of it, and nobody twice.
#[test]
fn a_tree_is_told_to_those_whom_it_comes_to_from_outside() {
    let mut bed = Bed::new();
    let is_excluded = |path: &[u8]| path.ends_with(b".part");
    for name in ["in/tree.part/b", "other/tree/b", "roots/tree/b"] {
        bed.mkdir(name);
        bed.write(&format!("{name}/f"));
    }
    let (inside, other, roots) = (bed.path("in"), bed.path("other"), bed.path("roots"));
    let exclude: Option<watcher::Exclude> = Some(std::sync::Arc::new(is_excluded));
    let watch = bed.watch(WatchSpec { exclude, ..spec(&[&inside, &roots], CHANGES) });
    let second = bed.watch(spec(&[&other], CHANGES));
    let arrival = |path: &str| expected(bed.path(path)).close_write().arrived().by(watch);
    let cases = [
        // Leaving an excluded name.
        ("in/tree.part", "in/tree", Some(arrival("in/tree/b/f"))),
        // Inside the watched tree.
        ("in/tree", "in/renamed", None),
        // From one root of a watch to another.
        ("in/renamed", "roots/renamed", None),
        // From another watch's tree.
        ("other/tree", "in/tree", Some(arrival("in/tree/b/f"))),
        // Back to where it came from: the other watch has forgotten it.
        (
            "in/tree",
            "other/tree",
            Some(expected(bed.path("other/tree/b/f")).close_write().arrived().by(second)),
        ),
        // Into an excluded name, which is outside.
        ("roots/renamed", "in/x.part", None),
    ];
    bed.events();
    for (from, to, arrival) in cases {
        bed.rename(from, to);
        let told = bed.events();
        let closed: Vec<_> = told.into_iter().filter(|event| event.mask == "IN_CLOSE_WRITE").collect();
        assert_eq!(closed, arrival.into_iter().collect::<Vec<_>>(), "{from} to {to}");
    }
}

/// In a new directory, and in one that is moved in: every kind of entry is told once.
#[test]
fn entries_of_every_kind_are_told_as_arrivals() {
    let mut bed = Bed::new();
    bed.mkdir("in");
    bed.watch_tree("in", Mask(Flag::Create.mask().0 | Flag::CloseWrite.mask().0));
    let make = |at: &std::path::Path| {
        fs::create_dir_all(at.join("dir")).unwrap();
        fs::write(at.join("file"), "x").unwrap();
        fs::hard_link(at.join("file"), at.join("hard")).unwrap();
        for (target, name) in
            [("nowhere", "dangling"), ("file", "link"), ("dir", "dir link"), ("circle", "circle")]
        {
            std::os::unix::fs::symlink(target, at.join(name)).unwrap();
        }
        let mode = rustix::fs::Mode::from_raw_mode(0o600);
        rustix::fs::mknodat(rustix::fs::CWD, at.join("fifo"), rustix::fs::FileType::Fifo, mode, 0).unwrap();
        drop(std::os::unix::net::UnixListener::bind(at.join("socket")).unwrap());
    };
    let names = ["dir", "file", "hard", "dangling", "link", "dir link", "circle", "fifo", "socket"];
    make(&bed.mkdir("in/new"));
    make(&bed.mkdir("out/moved"));
    bed.rename("out/moved", "in/moved");
    let told = bed.events();
    for name in names {
        for path in [bed.path("in/new").join(name), bed.path("in/moved").join(name)] {
            let created =
                told.iter().filter(|event| event.path == path && event.mask.starts_with("IN_CREATE"));
            assert_eq!(created.count(), 1, "{}", path.display());
        }
    }
}

#[test]
fn a_new_directory_under_the_name_of_one_that_was_moved_in_is_told() {
    let mut bed = Bed::new();
    bed.mkdir("in");
    bed.mkdir("out/a/old");
    bed.watch_tree("in", CHANGES);
    bed.rename("out/a", "in/a");
    fs::remove_dir_all(bed.path("in/a")).unwrap();
    bed.mkdir("in/a/b");
    let files = [bed.write("in/a/f"), bed.write("in/a/b/f")];
    let told = bed.events();
    for file in files {
        assert!(told.contains(&expected(&file).close_write().arrived()), "{told:#?}");
    }
}

/// The victim's end must not take with it what is known about its place.
#[test]
fn a_tree_moved_in_over_an_empty_directory_whose_parent_is_renamed_is_watched() {
    let mut bed = Bed::new();
    bed.mkdir("in/e/a");
    bed.mkdir("out/a/deep");
    bed.watch_tree("in", CHANGES);
    bed.rename("out/a", "in/e/a");
    bed.rename("in/e", "in/b");
    bed.events();
    bed.assert_watched("in/b/a/deep");
    assert_eq!(bed.watcher.stats().watches, bed.kernel_wds().len());
}

#[test]
fn a_directory_made_and_renamed_before_we_look_is_watched() {
    let mut bed = Bed::new();
    bed.mkdir("in");
    bed.watch_tree("in", CHANGES);
    bed.mkdir("in/x.tmp/sub");
    let written = bed.write("in/x.tmp/sub/f");
    bed.rename("in/x.tmp", "in/x");
    let (temporary, new) = (bed.path("in/x.tmp"), bed.path("in/x"));
    assert!(written.starts_with(&temporary));
    let file = bed.path("in/x/sub/f");
    bed.assert_told(&[
        expected(&temporary).create_dir(),
        expected(&temporary).moved_from_dir(),
        expected(&new).moved_to_dir().from(&temporary),
        expected(bed.path("in/x/sub")).create_dir().arrived(),
        expected(&file).create_file().arrived(),
        expected(&file).close_write().arrived(),
    ]);
    bed.assert_watched("in/x/sub");
}

#[test]
fn a_name_that_has_passed_to_another_directory_leads_to_the_right_one() {
    let mut bed = Bed::new();
    bed.mkdir("in/b");
    bed.watch_tree("in", CHANGES);
    // Three directories have the name a before we look once.
    bed.mkdir("in/a/one");
    bed.rename("in/a", "in/b/a");
    bed.mkdir("in/a/two");
    bed.rename("in/a", "in/c");
    bed.mkdir("in/a/three");
    bed.events();
    for name in ["in/b/a/one", "in/c/two", "in/a/three"] {
        bed.assert_watched(name);
    }
    assert_eq!(bed.watcher.stats().watches, bed.kernel_wds().len());
}

#[test]
fn exchanged_directories_exchange_their_paths() {
    let mut bed = Bed::new();
    bed.mkdir("in/a/deep");
    bed.mkdir("in/b/low");
    let watch = bed.watch_tree("in", CHANGES).0;
    bed.exchange("in/a", "in/b");
    let (a, b) = (bed.path("in/a"), bed.path("in/b"));
    bed.settle();
    let renamed = std::mem::take(&mut bed.told.renamed);
    let aside = renamed[0].2.clone().unwrap();
    assert!(aside.as_os_str().as_bytes().contains(&0));
    assert_eq!(
        renamed,
        [
            (watch, b.clone(), Some(aside.clone())),
            (watch, a.clone(), Some(b.clone())),
            (watch, aside, Some(a.clone()))
        ]
    );
    bed.assert_told(&[
        expected(&a).moved_from_dir(),
        expected(&b).moved_to_dir().from(&a),
        expected(&b).move_self().of_dir(),
        expected(&b).moved_from_dir(),
        expected(&a).moved_to_dir().from(&b),
        expected(&a).move_self().of_dir(),
    ]);
    bed.assert_watched("in/b/deep");
    bed.assert_watched("in/a/low");
}

#[test]
fn an_exchange_of_a_directory_with_a_file() {
    let mut bed = Bed::new();
    bed.mkdir("in/a/deep");
    bed.mkdir("in/c");
    bed.write("in/c/f");
    bed.watch_tree("in", CHANGES);
    bed.exchange("in/a", "in/c/f");
    bed.events();
    bed.assert_watched("in/c/f/deep");
    bed.exchange("in/a", "in/c/f");
    bed.events();
    bed.assert_watched("in/a/deep");
}

#[test]
fn a_directory_renamed_over_an_empty_one_takes_its_place() {
    let mut bed = Bed::new();
    bed.mkdir("in/a/deep");
    bed.mkdir("in/b");
    bed.watch_tree("in", CHANGES);
    bed.rename("in/a", "in/b");
    let (a, b) = (bed.path("in/a"), bed.path("in/b"));
    bed.assert_told_among_others(&[
        expected(&a).moved_from_dir(),
        expected(&b).moved_to_dir().from(&a),
        expected(&b).delete_self().of_dir(),
        expected(&b).ignored(),
        expected(&b).move_self().of_dir(),
    ]);
    bed.assert_watched("in/b/deep");
    assert_eq!(bed.watcher.stats().watches, bed.kernel_wds().len());
    // What was set aside is where it was, for who waits for something below.
    let renamed = std::mem::take(&mut bed.told.renamed);
    let last = renamed.last().unwrap();
    assert!(renamed.len() == 3 && renamed[0].2.as_ref() == Some(&last.1) && last.2 == Some(b), "{renamed:?}");
}

#[test]
fn the_end_of_a_directory_is_told_in_order() {
    let mut bed = Bed::new();
    let sub = bed.mkdir("in/sub");
    bed.watch_tree("in", CHANGES);
    fs::remove_dir(&sub).unwrap();
    bed.assert_told(&[
        expected(&sub).delete_self().of_dir(),
        expected(&sub).ignored(),
        expected(&sub).delete_dir(),
    ]);
}

#[test]
fn a_subdirectorys_attributes_are_told_twice() {
    let mut bed = Bed::new();
    let sub = bed.mkdir("in/sub");
    bed.watch_tree("in", Flag::Attrib.mask());
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o711);
    fs::set_permissions(&sub, mode).unwrap();
    bed.assert_told(&[expected(&sub).attrib_dir(), expected(&sub).attrib_dir()]);
}

#[test]
fn a_new_directory_is_watched_to_any_depth() {
    let mut bed = Bed::new();
    bed.mkdir("in");
    bed.watch_tree("in", CHANGES);
    bed.mkdir("in/a/b/c/d");
    bed.events();
    bed.assert_watched("in/a/b/c/d");
}

#[test]
fn files_finished_before_the_watch_are_told() {
    let mut bed = Bed::new();
    bed.mkdir("in");
    bed.watch_tree("in", Flag::CloseWrite.mask());
    bed.mkdir("in/a/b");
    let file = bed.write("in/a/b/f");
    bed.assert_told(&[expected(&file).close_write().arrived()]);
}

#[test]
fn a_file_that_is_being_written_is_told_when_it_is_closed() {
    let mut bed = Bed::new();
    bed.mkdir("in");
    bed.watch_tree("in", CHANGES);
    let dir = bed.mkdir("in/a");
    let path = bed.path("in/a/f");
    let writer = fs::File::create(&path).unwrap();
    bed.assert_told(&[expected(&dir).create_dir(), expected(&path).create_file().arrived()]);
    drop(writer);
    bed.assert_told(&[expected(&path).close_write()]);
}

#[test]
fn where_writers_are_unknown_a_file_is_told_when_it_rests() {
    let mut bed = Bed::with(|options| options.writers = |_| watcher::Writers::Unknown);
    bed.mkdir("in");
    bed.watch_tree("in", Flag::CloseWrite.mask());
    bed.mkdir("in/a");
    let path = bed.write("in/a/f");
    bed.assert_told(&[]);
    let due = bed.watcher.deadline().expect("the file is looked at again");
    fs::write(&path, "more of it").unwrap();
    bed.assert_told(&[expected(&path).close_write()]);
    bed.pass(due - bed.now);
    bed.assert_told(&[]);
    bed.pass(due - bed.now + std::time::Duration::from_secs(1));
    bed.assert_told(&[expected(&path).close_write().arrived()]);
    assert_eq!(bed.watcher.deadline(), None);
}

#[test]
fn maps_that_have_neither_create_nor_close_are_told_moved_to() {
    let mut bed = Bed::new();
    bed.mkdir("in");
    bed.watch_tree("in", Flag::MovedTo.mask());
    bed.mkdir("in/a");
    let file = bed.write("in/a/f");
    bed.assert_told(&[expected(&file).moved_to().arrived()]);
}

#[test]
fn what_is_created_after_the_listing_is_told_once() {
    let mut bed = Bed::new();
    bed.mkdir("in");
    bed.watch_tree("in", Flag::Create.mask());
    let dir = bed.mkdir("in/a");
    bed.assert_told(&[expected(&dir).create_dir()]);
    let file = bed.write("in/a/f");
    bed.assert_told(&[expected(&file).create_file()]);
}

#[test]
fn links_pipes_and_sockets_in_a_new_directory() {
    let mut bed = Bed::new();
    bed.mkdir("in");
    bed.mkdir("elsewhere");
    bed.write("elsewhere/f");
    bed.watch_tree("in", CHANGES);
    let dir = bed.mkdir("in/a");
    for (target, link) in [("elsewhere", "to_dir"), ("elsewhere/f", "to_file"), ("nowhere", "dangling")] {
        std::os::unix::fs::symlink(bed.path(target), dir.join(link)).unwrap();
    }
    let _socket = std::os::unix::net::UnixListener::bind(dir.join("socket")).unwrap();
    let mode = rustix::fs::Mode::from_raw_mode(0o600);
    rustix::fs::mknodat(rustix::fs::CWD, dir.join("pipe"), rustix::fs::FileType::Fifo, mode, 0).unwrap();
    let mut told = bed.events();
    told.sort_by(|one, other| one.path.cmp(&other.path));
    assert_eq!(
        told,
        [
            expected(&dir).create_dir(),
            expected(dir.join("dangling")).create_file().arrived(),
            expected(dir.join("pipe")).create_file().arrived(),
            expected(dir.join("socket")).create_file().arrived(),
            expected(dir.join("to_dir")).create_file().arrived(),
            expected(dir.join("to_file")).create_file().arrived(),
        ]
    );
    bed.write("elsewhere/g");
    bed.assert_told(&[]);
}

#[test]
fn a_link_to_a_directory_is_not_followed() {
    let mut bed = Bed::new();
    bed.mkdir("in");
    bed.mkdir("elsewhere");
    std::os::unix::fs::symlink(bed.path("elsewhere"), bed.path("in/before")).unwrap();
    bed.watch_tree("in", CHANGES);
    let link = bed.path("in/after");
    std::os::unix::fs::symlink(bed.path("elsewhere"), &link).unwrap();
    bed.write("elsewhere/f");
    bed.assert_told(&[expected(&link).create_file()]);
}

#[test]
fn without_auto_add_new_directories_are_told_but_not_watched() {
    let mut bed = Bed::new();
    bed.mkdir("in/old");
    let path = bed.path("in");
    bed.watch(WatchSpec { auto_add: false, ..spec(&[&path], CHANGES) });
    let dir = bed.mkdir("in/new");
    bed.assert_told(&[expected(&dir).create_dir()]);
    bed.assert_unwatched("in/new");
    bed.assert_watched("in/old");
    bed.rename("in/old", "in/renamed");
    bed.assert_watched("in/renamed");
}

#[test]
fn without_rec_old_directories_are_not_watched() {
    let mut bed = Bed::new();
    bed.mkdir("in/old");
    let path = bed.path("in");
    bed.watch(WatchSpec { rec: false, ..spec(&[&path], CHANGES) });
    bed.assert_unwatched("in/old");
    bed.mkdir("in/new/deep");
    bed.assert_watched("in/new/deep");
}

#[test]
fn excluded_directories_are_not_watched_nor_what_is_below() {
    let mut bed = Bed::new();
    bed.mkdir("in/skip/deep");
    bed.mkdir("in/keep");
    let path = bed.path("in");
    let exclude: watcher::Exclude = std::sync::Arc::new(|path: &[u8]| path.ends_with(b"/skip"));
    bed.watch(WatchSpec { exclude: Some(exclude), ..spec(&[&path], CHANGES) });
    bed.assert_unwatched("in/skip/deep");
    bed.assert_watched("in/keep");
    bed.mkdir("in/keep/skip/deep");
    bed.assert_unwatched("in/keep/skip/deep");
    bed.rename("in/keep", "in/kept");
    bed.rename("in/skip", "in/seen");
    bed.events();
    bed.assert_watched("in/seen/deep");
    bed.rename("in/seen", "in/kept/x");
    bed.assert_watched("in/kept/x/deep");
    bed.rename("in/kept/x", "in/skip");
    bed.events();
    bed.assert_unwatched("in/skip/deep");
}

#[test]
fn names_are_bytes() {
    let mut bed = Bed::new();
    bed.mkdir("in");
    bed.watch_tree("in", Flag::CloseWrite.mask());
    for name in [&b"\xff\xfe"[..], b"new\nline", b"#12", b"a'b\"c $(x)", &[b'n'; 255]] {
        let path = bed.path("in").join(os(name));
        fs::write(&path, "").unwrap();
        bed.assert_told(&[expected(&path).close_write()]);
    }
}

#[test]
fn a_file_linked_before_it_is_closed_is_told_under_its_name() {
    let mut bed = Bed::new();
    let dir = bed.mkdir("in");
    bed.watch_tree("in", Flag::Create | Flag::CloseWrite);
    let file = nameless_file(&dir);
    let path = dir.join("real");
    give_name(&file, &path);
    bed.assert_told(&[expected(&path).create_file()]);
    drop(file);
    bed.assert_told(&[expected(&path).close_write().arrived()]);
}

#[test]
fn a_file_closed_before_it_is_linked_is_told_under_its_name() {
    let mut bed = Bed::new();
    let dir = bed.mkdir("in");
    bed.watch_tree("in", Flag::Create | Flag::CloseWrite);
    let file = nameless_file(&dir);
    let again = fs::File::open(format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&file))).unwrap();
    drop(file);
    bed.assert_told(&[]);
    let path = dir.join("real");
    give_name(&again, &path);
    bed.assert_told(&[expected(&path).create_file(), expected(&path).close_write().arrived()]);
}

/// Whoever gives a file one of our names, elsewhere than where we gave it, hides nothing by it.
#[test]
fn only_the_names_that_we_gave_are_hidden() {
    let mut bed = Bed::with(|options| options.own_entry = |_, name| name.ends_with(b"-ours.tmp"));
    bed.mkdir("in");
    bed.watch_tree("in", CHANGES);
    let ours = bed.write("in/.pyinotifyd-ours.tmp");
    let theirs = bed.write("in/.pyinotifyd-theirs.tmp");
    bed.rename("in/.pyinotifyd-theirs.tmp", "in/f");
    fs::remove_file(ours).unwrap();
    bed.assert_told(&[
        expected(&theirs).create_file(),
        expected(&theirs).close_write(),
        expected(&theirs).moved_from(),
        expected(bed.path("in/f")).moved_to().from(&theirs),
    ]);
    let dir = bed.mkdir("in/.pyinotifyd-tree.tmp");
    let file = bed.write("in/.pyinotifyd-tree.tmp/f");
    bed.assert_told(&[
        expected(&dir).create_dir(),
        expected(&file).create_file().arrived(),
        expected(&file).close_write().arrived(),
    ]);
}

/// A tree that we have put into its place is told as if it had been made there; one that only has its name is not.
#[test]
fn only_the_tree_that_we_placed_is_taken_for_ours() {
    for is_ours in [true, false] {
        let mut bed = Bed::with(|options| {
            options.own_tree = |name| name == b"tree";
            options.take_own_tree = if is_ours { |_, _, _| true } else { |_, _, _| false };
        });
        bed.mkdir("in");
        bed.mkdir("out/tree");
        bed.watch_tree("in", CHANGES);
        bed.rename("out/tree", "in/tree");
        let tree = expected(bed.path("in/tree"));
        bed.assert_told(&[if is_ours { tree.create_dir().arrived() } else { tree.moved_to_dir() }]);
    }
}

/// Each event of a file that is called like one without a name, whatever became of the file before it was read of.
#[test]
fn names_like_those_of_nameless_files_are_told_like_any_other() {
    let mut bed = Bed::new();
    bed.mkdir("in");
    bed.mkdir("out");
    bed.watch_tree("in", CHANGES);
    let file = bed.write("in/#42");
    fs::remove_file(&file).unwrap();
    bed.assert_told(&[
        expected(&file).create_file(),
        expected(&file).close_write(),
        expected(&file).delete_file(),
    ]);
    let file = bed.write("in/#43");
    bed.rename("in/#43", "out/#43");
    bed.rename("out/#43", "in/#44");
    bed.rename("in/#44", "in/f");
    bed.assert_told(&[
        expected(&file).create_file(),
        expected(&file).close_write(),
        expected(&file).moved_from(),
        expected(bed.path("in/#44")).moved_to(),
        expected(bed.path("in/#44")).moved_from(),
        expected(bed.path("in/f")).moved_to().from(bed.path("in/#44")),
    ]);
    let dir = bed.mkdir("in/#45");
    bed.assert_told(&[expected(&dir).create_dir()]);
    let file = bed.write("in/#46");
    bed.events();
    fs::write(&file, "again").unwrap();
    fs::remove_file(&file).unwrap();
    let again = bed.write("in/#46");
    bed.assert_told(&[
        expected(&file).close_write(),
        expected(&file).delete_file(),
        expected(&again).create_file(),
        expected(&again).close_write(),
    ]);
}

/// Whoever closes files without a name again and again does not have the directory listed again and again.
#[test]
fn a_directory_is_not_listed_for_each_nameless_file() {
    let mut bed = Bed::with(|options| options.limits.pause = std::time::Duration::ZERO);
    let dir = bed.mkdir("in");
    for number in 0..2_000 {
        fs::write(dir.join(number.to_string()), "").unwrap();
    }
    bed.watch_tree("in", Flag::Open | Flag::CloseWrite);
    let listings = |bed: &mut Bed| {
        let told = bed.events();
        told.iter().filter(|event| event.path == dir && event.mask == "IN_OPEN|IN_ISDIR").count()
    };
    let mut sum = 0;
    for _ in 0..100 {
        drop(nameless_file(&dir));
        sum += listings(&mut bed);
    }
    assert_eq!(sum, 1, "at one time");
    let due = bed.watcher.deadline().expect("the others are looked for later");
    assert!(due > bed.now && due - bed.now <= std::time::Duration::from_millis(10), "{:?}", due - bed.now);
    // One of them has got a name meanwhile.
    let file = nameless_file(&dir);
    let link = format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&file));
    let flags = rustix::fs::AtFlags::SYMLINK_FOLLOW;
    rustix::fs::linkat(rustix::fs::CWD, link, rustix::fs::CWD, dir.join("named"), flags).unwrap();
    drop(file);
    bed.events();
    bed.pass(due - bed.now);
    bed.assert_told_among_others(&[expected(dir.join("named")).close_write().arrived()]);
    assert_eq!(listings(&mut bed), 0);
}

fn nameless_file(dir: &std::path::Path) -> fs::File {
    use std::os::unix::fs::OpenOptionsExt as _;
    let flags = rustix::fs::OFlags::TMPFILE.bits() as i32;
    fs::OpenOptions::new().write(true).read(true).custom_flags(flags).open(dir).unwrap()
}

fn give_name(file: &fs::File, path: &std::path::Path) {
    let own = format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(file));
    let cwd = rustix::fs::CWD;
    rustix::fs::linkat(cwd, own, cwd, path, rustix::fs::AtFlags::SYMLINK_FOLLOW).unwrap();
}

#[test]
fn our_own_temporary_files_are_not_told_and_their_rename_is_an_arrival() {
    let mut bed = Bed::new();
    bed.mkdir("in");
    bed.mkdir("moves");
    let both = bed.watch_tree("in", Flag::Create | Flag::CloseWrite);
    let moves = bed.watch_tree("moves", Flag::MovedTo.mask());
    for (dir, watch) in [("in", both), ("moves", moves)] {
        let temporary = format!("{dir}/.pyinotifyd-1.tmp");
        bed.write(&temporary);
        bed.rename(&temporary, &format!("{dir}/f"));
        let file = expected(bed.path(&format!("{dir}/f"))).arrived().by(watch);
        if watch == both {
            bed.assert_told(&[file.clone().create_file(), file.close_write()]);
        } else {
            bed.assert_told(&[file.moved_to()]);
        }
    }
    bed.mkdir("in/.pyinotifyd-2.tmp/sub");
    bed.write("in/.pyinotifyd-2.tmp/sub/f");
    bed.rename("in/.pyinotifyd-2.tmp", "in/d");
    let file = bed.path("in/d/sub/f");
    bed.assert_told(&[
        expected(bed.path("in/d")).create_dir().arrived(),
        expected(bed.path("in/d/sub")).create_dir().arrived(),
        expected(&file).create_file().arrived(),
        expected(&file).close_write().arrived(),
    ]);
    bed.assert_watched("in/d/sub");
}

#[test]
fn events_have_the_path_and_root_of_their_watch() {
    let mut bed = Bed::new();
    bed.mkdir("in/sub");
    bed.watch(WatchSpec { paths: vec![b"in".to_vec()], ..spec(&[], Flag::Create.mask()) });
    let dot = bed.watch(WatchSpec { paths: vec![b".".to_vec()], ..spec(&[], Flag::Delete.mask()) });
    let file = bed.write("in/sub/f");
    bed.settle();
    assert_eq!(bed.told.details[0].1, os(b"in/sub"));
    assert_eq!(bed.told.details[0].2, bed.path("in"));
    fs::remove_file(&file).unwrap();
    fs::write(bed.path("g"), "").unwrap();
    fs::remove_file(bed.path("g")).unwrap();
    bed.settle();
    let by_dot: Vec<_> = (bed.told.events.iter().zip(&bed.told.details))
        .filter(|(event, _)| event.watch == dot.0)
        .map(|(_, (_, path, root))| (path.clone(), root.clone()))
        .collect();
    assert_eq!(by_dot, [(os(b"in/sub"), bed.top.clone()), (os(b"."), bed.top.clone())]);
}

#[test]
fn nested_watches_and_the_same_root_twice_each_get_their_events_once() {
    let mut bed = Bed::new();
    bed.mkdir("in/sub/deep");
    let outer = bed.watch_tree("in", Flag::Create.mask());
    let inner = bed.watch_tree("in/sub", Flag::Create | Flag::Delete);
    let twice = bed.watch_tree("in", Flag::Delete.mask());
    let file = bed.write("in/sub/deep/f");
    bed.assert_told(&[expected(&file).create_file().by(outer), expected(&file).create_file().by(inner)]);
    fs::remove_file(&file).unwrap();
    bed.assert_told(&[expected(&file).delete_file().by(inner), expected(&file).delete_file().by(twice)]);
    let dir = bed.mkdir("in/sub/new");
    bed.assert_told(&[expected(&dir).create_dir().by(outer), expected(&dir).create_dir().by(inner)]);
    bed.watcher.remove(outer, &mut bed.told);
    let file = bed.write("in/sub/new/f");
    bed.assert_told(&[expected(&file).create_file().by(inner)]);
    bed.watcher.remove(inner, &mut bed.told);
    bed.watcher.remove(twice, &mut bed.told);
    bed.settle();
    assert_eq!((bed.watcher.stats().watches, bed.kernel_wds()), (0, vec![]));
    assert_eq!(bed.watcher.stats().nodes, 1);
}

#[test]
fn one_directory_by_two_names_tells_each_watch_under_its_own() {
    let mut bed = Bed::new();
    bed.mkdir("in");
    let link = bed.path("link");
    std::os::unix::fs::symlink(bed.path("in"), &link).unwrap();
    let real = bed.watch_tree("in", Flag::Create.mask());
    let linked = bed.watch_tree("link", Flag::Create | Flag::Delete);
    let file = bed.write("in/f");
    bed.assert_told(&[
        expected(&file).create_file().by(real),
        expected(link.join("f")).create_file().by(linked),
    ]);
    fs::remove_file(&file).unwrap();
    bed.assert_told(&[expected(link.join("f")).delete_file().by(linked)]);
    let dir = bed.mkdir("in/new");
    bed.assert_told(&[
        expected(&dir).create_dir().by(real),
        expected(link.join("new")).create_dir().by(linked),
    ]);
    bed.write("in/new/f");
    bed.assert_told(&[
        expected(dir.join("f")).create_file().by(real),
        expected(link.join("new/f")).create_file().by(linked),
    ]);
    bed.rename("in/new", "in/old");
    bed.events();
    bed.write("in/old/g");
    bed.assert_told(&[
        expected(bed.path("in/old/g")).create_file().by(real),
        expected(link.join("old/g")).create_file().by(linked),
    ]);
}

#[test]
fn a_wider_interest_is_in_force_at_once_and_a_narrower_one_too() {
    let mut bed = Bed::new();
    bed.mkdir("in/sub");
    let watch = bed.watch_tree("in", Flag::Create.mask());
    let file = bed.write("in/sub/f");
    bed.assert_told(&[expected(&file).create_file()]);
    bed.watcher.set_interest(watch, Flag::Modify | Flag::Delete, &mut bed.told);
    bed.write("in/sub/f");
    fs::remove_file(&file).unwrap();
    // Truncation and writing are one event to the kernel: equal neighbours are merged.
    bed.assert_told(&[expected(&file).modify(), expected(&file).delete_file()]);
    bed.watcher.set_interest(watch, Mask::NONE, &mut bed.told);
    bed.write("in/sub/f");
    bed.assert_told(&[]);
}

#[test]
fn a_path_longer_than_the_kernel_takes_is_said_and_does_no_harm() {
    let mut bed = Bed::new();
    bed.mkdir("in");
    bed.watch_tree("in", CHANGES);
    let mut dir =
        rustix::fs::open(bed.path("in"), rustix::fs::OFlags::DIRECTORY, rustix::fs::Mode::empty()).unwrap();
    let name = "n".repeat(255);
    for _ in 0..20 {
        rustix::fs::mkdirat(&dir, &name[..], rustix::fs::Mode::RWXU).unwrap();
        dir = rustix::fs::openat(&dir, &name[..], rustix::fs::OFlags::DIRECTORY, rustix::fs::Mode::empty())
            .unwrap();
    }
    bed.events();
    assert!(bed.watcher.stats().watches > 10);
    bed.assert_watched(&format!("in/{name}/{name}"));
    rustix::fs::openat(&dir, "f", rustix::fs::OFlags::CREATE, rustix::fs::Mode::RWXU).unwrap();
    bed.events();
}

/// What is written through a mapping is not reported; the end of the mapping is, like a close (inotify(7) says that
/// munmap(2) is not). So a rule on IN_CLOSE_WRITE runs once, when the last way to write is gone.
#[test]
fn a_file_written_through_a_mapping_is_told_when_it_is_unmapped() {
    let mut bed = Bed::new();
    bed.mkdir("in");
    let file = bed.write("in/f");
    bed.watch_tree("in", CHANGES | Flag::Modify);
    let mut python = std::process::Command::new("python3");
    python.args(["-c", MAPPING]).arg(&file).stdin(Stdio::piped()).stdout(Stdio::piped());
    let Ok(mut mapper) = python.spawn() else {
        println!("skipped: no python3 here");
        return;
    };
    let mut steps = BufReader::new(mapper.stdout.take().unwrap()).lines();
    let mut go_on = mapper.stdin.take().unwrap();
    for (step, told) in
        [("closed", vec![]), ("written", vec![]), ("unmapped", vec![expected(&file).close_write()])]
    {
        assert_eq!(steps.next().unwrap().unwrap(), step);
        bed.assert_told(&told);
        writeln!(go_on).unwrap();
    }
    assert!(mapper.wait().unwrap().success());
    bed.assert_told(&[]);
    assert_eq!(&fs::read(&file).unwrap()[..4], b"text");
}

/// mmap(2) by itself: Python's own module keeps a descriptor of the file.
const MAPPING: &str = "
import ctypes, os, sys
libc = ctypes.CDLL(None)
libc.mmap.restype = ctypes.c_void_p
libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_long]
libc.msync.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
libc.munmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t]
def step(name):
    print(name, flush=True)
    sys.stdin.readline()
fd = os.open(sys.argv[1], os.O_RDWR)
at = libc.mmap(None, 4096, 3, 1, fd, 0)
os.close(fd)
step('closed')
ctypes.memmove(at, b'text', 4)
assert libc.msync(at, 4096, 4) == 0
step('written')
assert libc.munmap(at, 4096) == 0
step('unmapped')
";
