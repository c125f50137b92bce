//! Directories that come to a new place while the queue is full: what lies in them is told, or what waits follows.

use std::fs;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use event::{Flag, Mask};
use watcher::WatchSpec;

use crate::bed::{Bed, Expected, spec};
use crate::storms::queue_max;

const ENTRIES: Mask = Mask(Flag::Create.mask().0 | Flag::CloseWrite.mask().0);

impl Bed {
    /// What is there by now is older than the moment from which events are missing.
    fn grow_old(&mut self) {
        std::thread::sleep(Duration::from_millis(150));
        self.now = Instant::now();
        self.events();
        self.told.renamed.clear();
    }

    fn fill_the_queue(&self) {
        for number in 0..=queue_max() {
            fs::File::create(self.path(&format!("in/noise/{}", number % 2))).unwrap();
        }
    }

    /// Everything is told, by events or by the rename of a directory.
    fn recover(&mut self) -> (Vec<Expected>, Vec<(PathBuf, Option<PathBuf>)>) {
        self.now = Instant::now();
        let told = self.events();
        assert!(self.told.notices.iter().any(|(_, text)| text.contains("overflowed")));
        let renamed = std::mem::take(&mut self.told.renamed).into_iter();
        (told, renamed.map(|(_, from, to)| (from, to)).collect())
    }
}

fn bed() -> Bed {
    let bed = Bed::new();
    bed.mkdir("in/noise");
    bed
}

fn is_closed(told: &[Expected], path: &PathBuf) -> bool {
    told.iter().any(|event| event.path == *path && event.mask == "IN_CLOSE_WRITE")
}

#[test]
fn a_tree_moved_in_is_told_file_by_file() {
    for change in ["", "in/x/new", "in/x/s/new"] {
        let mut bed = bed();
        bed.mkdir("out/x/s");
        bed.write("out/x/f");
        bed.write("out/x/s/f");
        bed.watch_tree("in", ENTRIES);
        bed.grow_old();
        bed.fill_the_queue();
        bed.rename("out/x", "in/x");
        let mut paths = vec![bed.path("in/x/f"), bed.path("in/x/s/f")];
        if !change.is_empty() {
            paths.push(bed.write(change));
        }
        let (told, _) = bed.recover();
        for path in paths {
            assert!(is_closed(&told, &path), "{} is not among\n{told:#?}", path.display());
        }
        bed.assert_complete("in");
    }
}

#[test]
fn a_tree_moved_into_a_new_directory_is_told_file_by_file() {
    let mut bed = bed();
    bed.mkdir("out/x/s");
    let old = bed.path("in/new/deep/x/s/f");
    bed.write("out/x/s/f");
    bed.watch_tree("in", ENTRIES);
    bed.grow_old();
    bed.fill_the_queue();
    bed.mkdir("in/new/deep");
    bed.rename("out/x", "in/new/deep/x");
    let (told, _) = bed.recover();
    assert!(is_closed(&told, &old), "{told:#?}");
    bed.assert_complete("in");
}

type Act<'a> = &'a dyn Fn(&Bed);

/// By the names a listing may come by the old place first, or by the new one.
#[test]
fn a_rename_takes_along_what_waits() {
    let out_and_in = |bed: &Bed| {
        bed.rename("in/m", "out/m");
        bed.rename("out/m", "in/e/x/new");
    };
    let chain = |bed: &Bed| {
        bed.rename("in/e", "in/third");
        bed.rename("in/m", "in/e");
    };
    let acts: [(Act<'_>, &str); 5] = [
        (&|bed| bed.rename("in/m", "in/a"), "in/a"),
        (&|bed| bed.rename("in/m", "in/z"), "in/z"),
        (&|bed| bed.rename("in/m", "in/e/x/new"), "in/e/x/new"),
        (&out_and_in, "in/e/x/new"),
        (&chain, "in/e"),
    ];
    for (number, (act, new)) in acts.into_iter().enumerate() {
        let mut bed = bed();
        bed.mkdir("in/e/x");
        bed.mkdir("in/m/s");
        bed.mkdir("out");
        bed.write("in/m/s/f");
        bed.watch_tree("in", ENTRIES);
        bed.grow_old();
        bed.fill_the_queue();
        act(&bed);
        let (told, renamed) = bed.recover();
        let follows = renamed.contains(&(bed.path("in/m"), Some(bed.path(new))));
        let is_told = is_closed(&told, &bed.path(new).join("s/f"));
        assert!(follows || is_told, "{number}: {renamed:#?}\n{told:#?}");
        // What has the old name of another directory cannot be told from it.
        assert!(follows != is_told && (follows || number == 4), "{number}: once is enough");
        bed.assert_complete("in");
    }
}

#[test]
fn directories_whose_names_are_taken_are_told_at_their_new_ones() {
    for (one, other) in [("in/a", "in/z"), ("in/z", "in/a"), ("in/a", "in/e/x"), ("in/e/x", "in/a")] {
        for exchanges in [false, true] {
            let mut bed = bed();
            bed.mkdir("in/e");
            bed.mkdir(&format!("{one}/s"));
            bed.write(&format!("{one}/s/f"));
            if exchanges {
                bed.mkdir(&format!("{other}/t"));
                bed.write(&format!("{other}/t/g"));
            }
            bed.watch_tree("in", ENTRIES);
            bed.grow_old();
            bed.fill_the_queue();
            let mut paths = vec![bed.path(other).join("s/f")];
            if exchanges {
                bed.exchange(one, other);
                paths.push(bed.path(one).join("t/g"));
            } else {
                bed.rename(one, other);
                bed.mkdir(&format!("{one}/s"));
                paths.push(bed.write(&format!("{one}/s/new")));
            }
            let (told, renamed) = bed.recover();
            let follows = renamed.contains(&(bed.path(one), Some(bed.path(other))));
            assert!(!(follows && exchanges), "whose tasks wait there cannot be told");
            for path in paths.into_iter().skip(usize::from(follows)) {
                assert!(is_closed(&told, &path), "{} is not among\n{told:#?}", path.display());
            }
            bed.assert_complete("in");
        }
    }
}

/// A watch without `rec` leaves out what was there before it: a change in it does not make it a newcomer.
#[test]
fn a_directory_that_is_left_out_on_purpose_is_not_told() {
    let mut bed = bed();
    bed.mkdir("in/done");
    bed.mkdir("out/x");
    let old = bed.write("in/done/old");
    bed.write("out/x/f");
    bed.watch_tree("in/noise", Flag::CloseWrite.mask());
    bed.watch(WatchSpec { rec: false, ..spec(&[&bed.path("in")], ENTRIES) });
    bed.grow_old();
    bed.fill_the_queue();
    bed.write("in/done/new");
    bed.rename("out/x", "in/x");
    let (told, _) = bed.recover();
    assert!(!is_closed(&told, &old), "{told:#?}");
    assert!(is_closed(&told, &bed.path("in/x/f")), "{told:#?}");
}
