//! What goes on between an event and our look at it: the directory at hand has another name by then, or its name has
//! another directory. At rest everything is watched under its path all the same.

use std::fs;

use event::Flag;

use crate::bed::{Bed, CHANGES, expected};

/// A tree in which everything is told but what directories tell of themselves.
fn bed() -> Bed {
    let mut bed = Bed::new();
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
    for (what, batch) in batches {
        let mut bed = bed();
        for dir in ["in/a/a/a", "in/b/a", "in/c", "out/a/a", "out/b"] {
            bed.mkdir(dir);
        }
        bed.events();
        batch(&bed);
        println!("{what}");
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

/// With room for one walk events wait until it has ended.
#[test]
fn more_walks_than_may_wait_hold_events_back() {
    let mut bed = Bed::with(|options| {
        options.limits.walks_max = 1;
        options.limits.turn_units = 64;
    });
    bed.mkdir("in");
    let watch = bed.watch_tree("in", Flag::CloseWrite.mask());
    for number in 0..100 {
        bed.mkdir(&format!("in/{number}/deep"));
        bed.write(&format!("in/{number}/deep/f"));
    }
    let told = bed.events();
    for number in 0..100 {
        let file = bed.path(&format!("in/{number}/deep/f"));
        let count = told.iter().filter(|event| event.path == file && event.watch == watch.0).count();
        assert_eq!(count, 1, "{}", file.display());
    }
    assert_eq!(bed.watcher.stats().watches, bed.kernel_wds().len());
}
