//! What there is to see of watches, and looks that people ask for.

use std::fs;

use event::{Flag, Mask};
use watcher::{RootState, WatchSpec};

use crate::bed::{Bed, expected, os, spec};

const ENTRIES: Mask = Mask(Flag::Create.mask().0 | Flag::CloseWrite.mask().0);

#[test]
fn a_rescan_tells_everything_below_a_path_once_more() {
    let mut bed = Bed::new();
    bed.watch_tree("in", ENTRIES);
    let (sub, deep) = (bed.mkdir("in/sub"), bed.mkdir("in/sub/deep"));
    let (one, other) = (bed.write("in/one"), bed.write("in/sub/deep/other"));
    bed.events();
    assert_eq!(bed.watcher.rescan(None, bed.now, &mut bed.told), 1);
    bed.assert_told_among_others(&[
        expected(&sub).create_dir().arrived(),
        expected(&deep).create_dir().arrived(),
        expected(&one).create_file().arrived(),
        expected(&one).close_write().arrived(),
        expected(&other).create_file().arrived(),
        expected(&other).close_write().arrived(),
    ]);
    let below = |bed: &mut Bed, path: &std::path::Path| {
        let path = path.as_os_str().as_encoded_bytes();
        let can = bed.watcher.can_rescan(path);
        let trees = bed.watcher.rescan(Some(path), bed.now, &mut bed.told);
        assert_eq!(can, trees > 0, "{}", path.escape_ascii());
        trees
    };
    assert_eq!(below(&mut bed, &deep), 1);
    let both = [expected(&other).create_file().arrived(), expected(&other).close_write().arrived()];
    bed.assert_told(&both);
    assert_eq!(below(&mut bed, &other), 1, "a file by itself");
    bed.assert_told(&both);
    let top = bed.top.clone();
    assert_eq!(below(&mut bed, &top), 1, "the root lies below");
    assert!(bed.events().len() >= 6);
    assert_eq!(below(&mut bed, &top.join("elsewhere")) + below(&mut bed, &top.join("in/nothing")), 0);
    assert!(bed.watcher.is_quiet());
}

#[test]
fn a_rescan_watches_nothing_that_was_not() {
    let mut bed = Bed::new();
    bed.mkdir("in/old");
    let inside = bed.write("in/old/f");
    let path = bed.path("in");
    bed.watch(WatchSpec { rec: false, ..spec(&[&path], ENTRIES) });
    assert_eq!(bed.watcher.rescan(None, bed.now, &mut bed.told), 1);
    bed.assert_told(&[expected(bed.path("in/old")).create_dir().arrived()]);
    let path = inside.as_os_str().as_encoded_bytes().to_vec();
    assert_eq!(bed.watcher.rescan(Some(&path), bed.now, &mut bed.told), 0);
    bed.assert_unwatched("in/old");
}

#[test]
fn a_watch_shows_its_paths_and_how_many_directories_it_takes() {
    let mut bed = Bed::new();
    let there = bed.mkdir("there");
    bed.mkdir("there/a/b");
    let (missing, pattern) = (bed.path("missing"), bed.path("m*/x"));
    let id = bed.watch(spec(&[&there, &missing, &pattern], ENTRIES));
    let other = bed.watch_tree("there/a", ENTRIES);
    let states = |bed: &Bed, id| {
        let state = bed.watcher.watch_state(id);
        let roots = state.roots.into_iter().map(|(path, root)| (os(&path), root)).collect::<Vec<_>>();
        (state.kernel_watches, roots)
    };
    let expected = vec![
        (there.clone(), RootState::Watched),
        (missing.clone(), RootState::Waiting),
        (pattern, RootState::Waiting),
    ];
    assert_eq!(states(&bed, id), (3, expected));
    assert_eq!(states(&bed, other), (2, vec![(bed.path("there/a"), RootState::Watched)]));
    fs::create_dir_all(missing.join("x")).unwrap();
    bed.pass(std::time::Duration::from_millis(60));
    let expected = vec![
        (there, RootState::Watched),
        (missing.clone(), RootState::Watched),
        (missing.join("x"), RootState::Watched),
    ];
    assert_eq!(states(&bed, id), (5, expected));
}

#[test]
fn a_path_is_seen_through_its_directory_or_as_a_root() {
    let mut bed = Bed::new();
    bed.mkdir("in/sub");
    let id = bed.watch_tree("in", ENTRIES);
    let relative = bed.watch(spec(&[std::path::Path::new("in")], ENTRIES));
    let root_len = bed.path("in").as_os_str().len() as u16;
    let of = |bed: &mut Bed, name: &str| {
        let path = bed.path(name);
        let seen = bed.watcher.sightings(path.as_os_str().as_encoded_bytes());
        let given = |given: Option<Vec<u8>>| given.map(|given| String::from_utf8(given).unwrap());
        let seen = seen.into_iter().map(|one| (one.watch, one.root_len, one.name_len, given(one.given_path)));
        seen.collect::<Vec<_>>()
    };
    let both = |name_len, given: &str| {
        vec![(id, root_len, name_len, None), (relative, root_len, name_len, Some(given.to_owned()))]
    };
    assert_eq!(of(&mut bed, "in/f"), both(1, "in"));
    assert_eq!(of(&mut bed, "in/sub"), both(3, "in"));
    assert_eq!(of(&mut bed, "in/sub/f"), both(1, "in/sub"));
    assert_eq!(of(&mut bed, "in"), both(0, "in"));
    assert_eq!(of(&mut bed, "elsewhere/f"), []);
    assert_eq!(of(&mut bed, "in/none/f"), []);
}

#[test]
fn what_is_not_read_yet_shows_as_lag() {
    let mut bed = Bed::new();
    bed.mkdir("in");
    bed.watch_tree("in", ENTRIES);
    bed.settle();
    let second = std::time::Duration::from_secs(1);
    assert!(bed.watcher.lag(bed.now + second).is_zero());
    let after = bed.watcher.events_after_all();
    bed.write("in/f");
    assert!(bed.watcher.lag(bed.now + second) >= second);
    bed.settle();
    assert!(bed.watcher.lag(bed.now + second).is_zero());
    assert!(after > bed.watcher.stats().events, "a queue that is never empty is read to its end, too");
}
