//! What goes on between an event and our look at it: the directory at hand has another name by then, or its name has
//! another directory. At rest everything is watched under its path all the same.

use std::fs;
use std::path::PathBuf;
use std::sync::mpsc;
use std::thread;

use event::Flag;

use crate::bed::{Bed, CHANGES, expected, spec};

/// A tree in which everything is told but what directories tell of themselves.
fn bed() -> Bed {
    bed_with_units(16 * 1024)
}

/// With one unit a turn a single doubt is looked at in it.
fn bed_with_units(turn_units: u32) -> Bed {
    let mut bed = Bed::with(|options| options.limits.turn_units = turn_units);
    bed.mkdir("in");
    bed.mkdir("out");
    bed.watch_tree("in", CHANGES);
    bed
}

/// Found by the simulations: short batches after which directories stayed unwatched. A directory whose IN_MOVE_SELF
/// came when its path led elsewhere was taken for one that had left, and nothing looked at its name again.
#[test]
fn batches_after_which_directories_were_unwatched() {
    type Batch = fn(&Bed);
    let batches: [(&str, Batch); 5] = [
        ("exchanged with one outside and back", |bed| {
            bed.exchange("in/b", "out/a");
            bed.exchange("in/b", "out/a");
        }),
        ("moved in and exchanged out of a parent that is deleted", |bed| {
            bed.rename("out/b", "in/b/b");
            bed.exchange("in/b/b", "in/c");
            fs::remove_dir_all(bed.path("in/b")).unwrap();
        }),
        ("moved in, exchanged, and the parent exchanged", |bed| {
            bed.rename("out/b", "in/a/b");
            bed.exchange("in/a/b", "in/a/a");
            bed.exchange("in/a", "in/b");
        }),
        ("exchanged with others outside, which are exchanged below each other", |bed| {
            bed.exchange("in/b", "out/a");
            bed.exchange("in/a", "out/b");
            bed.exchange("in/b", "out/b/a");
        }),
        ("deleted, exchanged with one outside, and one of its own moved in", |bed| {
            fs::remove_dir_all(bed.path("in/b")).unwrap();
            bed.exchange("out/b", "in/a");
            bed.rename("out/b/a", "in/b");
        }),
    ];
    for ((what, batch), turn_units) in batches.into_iter().flat_map(|batch| [(batch, 16 * 1024), (batch, 1)])
    {
        let mut bed = bed_with_units(turn_units);
        for dir in ["in/a/a/a", "in/b/a", "in/c", "out/a/a", "out/b"] {
            bed.mkdir(dir);
        }
        bed.events();
        batch(&bed);
        println!("{what}, {turn_units} units a turn");
        bed.assert_complete("in");
    }
}

#[test]
fn a_directory_moved_in_whose_parent_is_renamed_and_exchanged() {
    let mut bed = bed();
    for dir in ["in/p", "in/q/c", "out/a/deep"] {
        bed.mkdir(dir);
    }
    bed.events();
    bed.rename("out/a", "in/p/a");
    bed.rename("in/p/a", "in/p/b");
    bed.rename("in/p", "in/r");
    bed.exchange("in/r", "in/q");
    bed.assert_complete("in");
}

/// What is in doubt below a directory that is gone does not keep it from being forgotten.
#[test]
fn a_directory_in_doubt_inside_one_that_is_gone() {
    let mut bed = bed();
    for dir in ["in/a/b/c", "out/x"] {
        bed.mkdir(dir);
    }
    bed.events();
    bed.mkdir("in/a/new");
    bed.rename("in/a/b/c", "in/a/b/d");
    bed.rename("out/x", "in/a/b/c");
    bed.rename("in/a", "out/a");
    bed.mkdir("in/a/b");
    bed.assert_complete("in");
}

#[test]
fn a_name_that_was_made_anew_after_a_rename() {
    let mut bed = bed();
    bed.mkdir("in/a");
    bed.rename("in/a", "in/b");
    bed.mkdir("in/a");
    bed.assert_complete("in");
}

/// The first directory leaves, its name passes to one that we know; the look at the name is ahead of both events.
#[test]
fn a_name_that_passes_from_one_that_leaves_to_one_that_stays() {
    let mut bed = bed();
    for dir in ["in/a/one", "in/b/two"] {
        bed.mkdir(dir);
    }
    bed.events();
    bed.rename("in/a", "out/a");
    bed.mkdir("in/a");
    fs::remove_dir(bed.path("in/a")).unwrap();
    bed.rename("in/b", "in/a");
    bed.assert_complete("in");
}

/// Between the opening of a new directory and its listing its parent is renamed: its files are told under the path
/// that they have.
#[test]
fn files_are_told_under_the_path_that_they_have_when_they_are_found() {
    let mut bed = bed();
    bed.mkdir("in/p");
    bed.events();
    let (old, new) = (bed.path("in/p"), bed.path("in/q"));
    bed.mkdir("in/p/d");
    bed.write("in/p/d/f");
    bed.write("in/last");
    bed.meanwhile("in/last", move || fs::rename(old, new).unwrap());
    let told = bed.events();
    let file = bed.path("in/q/d/f");
    assert!(told.contains(&expected(&file).close_write().arrived()), "{told:#?}");
    let wrong = bed.path("in/p/d/f");
    assert!(told.iter().all(|event| event.path != wrong), "{told:#?}");
    bed.assert_complete("in");
}

/// A directory is found at its new place by a listing before the events of its rename are read. Until the old node is
/// gone two nodes have its wd, and only one of them has a path.
#[test]
fn a_directory_that_was_found_before_its_rename_was_read_tells_everything() {
    let mut bed = bed();
    bed.mkdir("in/a");
    bed.write("in/a/old");
    bed.events();
    let [old, new] = ["in/a", "in/y/a"].map(|name| bed.path(name));
    bed.mkdir("in/y");
    bed.write("in/last");
    let there = new.clone();
    bed.meanwhile("in/last", move || {
        fs::rename(old, &there).unwrap();
        for name in ["f", "g", "h"] {
            fs::write(there.join(name), "x").unwrap();
        }
        fs::rename(there.join("old"), there.join("new")).unwrap();
    });
    let told = bed.events();
    for name in ["f", "g", "h"] {
        let file = expected(new.join(name));
        assert!(told.contains(&file.close_write()), "{told:#?}");
    }
    let renamed = expected(new.join("new")).moved_to().from(new.join("old"));
    assert!(told.contains(&renamed), "{told:#?}");
    bed.assert_complete("in");
}

/// Found by the simulation: the name of a directory that comes from outside and is deleted passes to one that we know
/// and that has new content. The look at the name finds it there before its own rename is read.
#[test]
fn what_is_new_in_a_directory_that_takes_the_name_of_one_moved_in_is_told() {
    let mut bed = bed();
    bed.mkdir("in/c");
    bed.mkdir("out/x");
    bed.events();
    bed.mkdir("in/c/b/deep");
    bed.rename("out/x", "in/d");
    fs::remove_dir(bed.path("in/d")).unwrap();
    bed.rename("in/c", "in/d");
    bed.mkdir("in/c");
    bed.write("in/d/b/f");
    let told = bed.events();
    let file = bed.path("in/d/b/f");
    let is_told = |event: &crate::bed::Expected| event.path == file && event.mask == "IN_CLOSE_WRITE";
    assert!(told.iter().any(is_told), "{told:#?}");
    bed.assert_complete("in");
}

/// Renamed and deleted between two reads: the events that say so come after the look that has found nothing.
#[test]
fn a_new_directory_that_is_gone_when_we_look_takes_its_files_along() {
    let mut bed = bed();
    let [old, new] = ["in/a", "in/b"].map(|name| bed.path(name));
    bed.write("in/first");
    bed.mkdir("in/a");
    bed.write("in/a/f");
    bed.meanwhile("in/first", move || fs::rename(old, new).unwrap());
    let file = bed.path("in/b/f");
    bed.assert_told_among_others(&[
        expected(&file).create_file().arrived(),
        expected(&file).close_write().arrived(),
    ]);
    bed.assert_complete("in");
}

/// A directory is deleted and made again while somebody holds it open: it ends without an event of its own (K18).
#[test]
fn a_directory_that_is_held_open_and_deleted_is_forgotten() {
    let mut bed = bed();
    bed.mkdir("in/a");
    let held = std::rc::Rc::new(std::cell::RefCell::new(None));
    let (holder, path) = (held.clone(), bed.path("in/a"));
    bed.write("in/last");
    bed.meanwhile("in/last", move || {
        *holder.borrow_mut() = Some(fs::File::open(&path).unwrap());
        fs::remove_dir(&path).unwrap();
    });
    bed.assert_complete("in");
    drop(held);
    bed.assert_complete("in");
}

/// With room for one doubt everything is looked at again.
#[test]
fn more_doubts_than_are_remembered_make_everything_be_looked_at() {
    let mut bed = Bed::with(|options| options.limits.doubts_max = 1);
    bed.mkdir("out");
    for number in 0..20 {
        bed.mkdir(&format!("in/{number}/deep"));
    }
    bed.watch_tree("in", CHANGES);
    bed.events();
    for number in 0..20 {
        bed.mkdir(&format!("out/{number}/deep"));
        bed.rename(&format!("out/{number}"), &format!("in/new-{number}"));
        bed.exchange(&format!("in/new-{number}"), &format!("in/{number}"));
        bed.write(&format!("in/{number}/f"));
    }
    bed.exchange("in/3", "in/4/deep");
    bed.rename("in/4", "in/5/deep/four");
    bed.assert_complete("in");
}

/// Found by thought: the name of one directory that is moved in passes to the next one before we look. The rename of
/// the first takes the second along, which the look has found under the old name.
#[test]
fn two_directories_that_have_the_same_name_one_after_the_other() {
    let mut bed = bed();
    for dir in ["in", "out/x/deep", "out/y/deep"] {
        bed.mkdir(dir);
    }
    bed.events();
    bed.rename("out/x", "in/a");
    bed.rename("in/a", "in/b");
    bed.rename("out/y", "in/a");
    bed.assert_complete("in");
}

/// What is in doubt below a new directory does not keep it from being forgotten when it ends without a word of its own:
/// somebody holds it open (K18).
#[test]
fn a_directory_that_is_held_open_and_deleted_with_a_doubt_inside() {
    let mut bed = bed();
    bed.mkdir("in/a");
    bed.write("in/last");
    let held = std::rc::Rc::new(std::cell::RefCell::new(None));
    let (holder, path) = (held.clone(), bed.path("in/a"));
    bed.meanwhile("in/last", move || {
        fs::create_dir(path.join("x")).unwrap();
        fs::remove_dir(path.join("x")).unwrap();
        *holder.borrow_mut() = Some(fs::File::open(&path).unwrap());
        fs::remove_dir(&path).unwrap();
    });
    bed.assert_complete("in");
    drop(held);
    bed.assert_complete("in");
}

/// A tree of which everything is looked at again, so little in a turn that a test can act at any moment of it.
fn bed_in_recovery() -> Bed {
    let mut bed = Bed::with(|options| {
        options.limits.doubts_max = 1;
        options.limits.turn_units = 4;
    });
    bed.mkdir("in/p/old");
    for number in 0..4 {
        bed.write(&format!("in/p/{number}"));
    }
    bed.watch_tree("in", CHANGES);
    bed.events();
    // Two doubts, and there is room for one.
    for name in ["in/y", "in/z"] {
        bed.mkdir(name);
        fs::remove_dir(bed.path(name)).unwrap();
    }
    bed
}

fn turns(bed: &mut Bed, count: usize) {
    for _ in 0..count {
        bed.watcher.turn(bed.now, &mut bed.told);
    }
}

/// At any moment of a recovery: a listing may have passed the new name, or not, and turns end anywhere.
#[test]
fn a_directory_that_is_renamed_while_everything_is_looked_at_stays_watched() {
    for (moment, noise) in (0..40).flat_map(|moment| (0..4).map(move |noise| (moment, noise))) {
        for new in ["in/p/renamed", "in/renamed"] {
            let mut bed = bed_in_recovery();
            turns(&mut bed, moment);
            (0..noise).for_each(|number| drop(bed.write(&format!("in/{number}"))));
            bed.rename("in/p/old", new);
            println!("{new} after {moment} turns and {noise} files");
            bed.assert_complete("in");
        }
    }
}

/// The recovery may have looked for it under its old name too late and under its new one too early.
#[test]
fn a_new_directory_that_is_renamed_while_everything_is_looked_at_is_told_with_its_files() {
    for (moment, more) in (0..30).flat_map(|moment| (0..6).map(move |more| (moment, more))) {
        for noise in 0..3 {
            let mut bed = bed_in_recovery();
            turns(&mut bed, moment);
            bed.mkdir("in/p/new");
            bed.write("in/p/new/f");
            turns(&mut bed, more);
            (0..noise).for_each(|number| drop(bed.write(&format!("in/{number}"))));
            bed.rename("in/p/new", "in/renamed");
            println!("after {moment} and {more} turns and {noise} files");
            bed.assert_told_closed("f");
            bed.assert_complete("in");
        }
    }
}

/// The turn ends between the halves of a rename, and a walk finds the next directory under the old name.
#[test]
fn a_new_directory_that_gives_its_name_away_is_told_with_its_files() {
    for (moment, noise) in (1..12).flat_map(|moment| (0..4).map(move |noise| (moment, noise))) {
        let mut bed = Bed::with(|options| options.limits.turn_units = 4);
        bed.mkdir("in");
        bed.watch_tree("in", CHANGES);
        bed.mkdir("in/p/new");
        bed.write("in/p/new/f");
        // A turn ends after they are listed, before the directory is visited.
        (0..4).for_each(|number| drop(bed.write(&format!("in/p/{number}"))));
        turns(&mut bed, moment);
        (0..noise).for_each(|number| drop(bed.write(&format!("in/{number}"))));
        bed.rename("in/p/new", "in/renamed");
        bed.mkdir("in/p/new");
        println!("after {moment} turns and {noise} files");
        bed.assert_told_closed("f");
        bed.assert_complete("in");
    }
}

/// With room for one walk events wait until it has ended.
#[test]
fn more_walks_than_may_wait_hold_events_back() {
    let mut bed = Bed::with(|options| {
        options.limits.walks_max = 1;
        options.limits.turn_units = 64;
    });
    bed.mkdir("in");
    let watch = bed.watch_tree("in", Flag::Create | Flag::CloseWrite);
    for number in 0..100 {
        bed.mkdir(&format!("in/{number}/deep"));
        bed.write(&format!("in/{number}/deep/f"));
    }
    let (mut created, mut finished) = (0, 0);
    for event in bed.events() {
        created += usize::from(event.path.parent() == Some(&bed.path("in")));
        finished += usize::from(event.mask == "IN_CLOSE_WRITE" && event.watch == watch.0);
        // As many as one turn starts.
        assert!(created - finished <= 64 / 12 + 1, "{created} new directories, {finished} were walked");
    }
    assert_eq!((created, finished), (100, 100));
    assert_eq!(bed.watcher.stats().watches, bed.kernel_wds().len());
}

/// A directory on the way may come when the watcher has found that it is missing, and does not watch its parent yet.
#[test]
fn a_root_whose_way_is_made_while_it_is_looked_for_is_found() {
    let mut bed = Bed::new();
    let (tell, told) = mpsc::channel::<PathBuf>();
    let (done, is_done) = mpsc::channel();
    let maker = thread::spawn(move || {
        for path in told {
            fs::create_dir_all(path).unwrap();
            done.send(()).unwrap();
        }
    });
    for round in 0..2_000 {
        let path = bed.mkdir(&round.to_string()).join("a/b/c/d");
        tell.send(path.clone()).unwrap();
        let watch = bed.watch(spec(&[&path], CHANGES));
        bed.settle();
        is_done.recv().unwrap();
        bed.settle();
        assert!(bed.watcher.is_watched(watch), "{}: {:#?}", path.display(), bed.notices());
        bed.watcher.remove(watch, &mut bed.told);
    }
    drop(tell);
    maker.join().unwrap();
}
