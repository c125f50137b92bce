//! Rules that act on what rules have made, and the end of that.
//!
//! What a rule made is remembered by its place: the filesystem, and the path inside of it, so that links and bind
//! mounts lead to the same place. A rule that acts on it is one generation further than the rule that made it. Only
//! results that a watch may see are remembered, for an hour, since no others come back.
//!
//! Where watches see is known of the configured paths, of what is mounted below them, and of what a path comes to lead
//! to while it is watched. All of that may be late: a link is exchanged, a mount comes. So the source of each action
//! tells as well, since a watch has seen it. Rules can go round through a place that nobody knew of once, not for ever.
//! But where a link inside of a filesystem that may not answer leads to a place, that has several: nobody asks there.
//!
//! A result is noted before it is made: its event may reach the loop before the worker goes on. The directories on the
//! way to it and those of a trash count as results, too; what others put into them does not. Workers share the table.

use std::collections::VecDeque;
use std::collections::hash_map::RandomState;
use std::hash::BuildHasher as _;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant, SystemTime};

use hashbrown::HashMap;

use crate::lane::Filesystem;

/// How long a result is remembered.
const REMEMBERED_FOR: Duration = Duration::from_secs(60 * 60);

/// Results that are remembered, about 60 bytes each; the oldest go first.
const REMEMBERED_MAX: usize = 1 << 20;

/// Places that are remembered beside those of the configuration: as many as there can be paths that are watched. When
/// there are more, because links are exchanged all the time, they are found again one by one.
const FOUND_MAX: usize = 1 << 16;

/// How far the rules have come with a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Descent {
    /// The generation of the last action; the first on what somebody else made is 1.
    generation: u32,
    /// When the first of these actions was, by the clock of the files' times.
    began: SystemTime,
}

/// What a rule acts on was made by rules that went round as often as it allows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct FeedsItself;

impl Descent {
    /// The first action.
    fn first(now: SystemTime) -> Descent {
        Descent { generation: 1, began: now }
    }

    /// The action that follows on `before`. `changed` is when the content of the source was last changed, if that can
    /// tell anything, and is asked only where that decides: rules keep this time, so a later one says that somebody
    /// else has changed it.
    ///
    /// # Errors
    /// It would be of a generation above `max`.
    pub(crate) fn next(
        before: Option<Descent>,
        max: u32,
        now: SystemTime,
        changed: impl FnOnce() -> Option<SystemTime>,
    ) -> Result<Descent, FeedsItself> {
        let Some(before) = before else { return Ok(Descent::first(now)) };
        if before.generation < max {
            return Ok(Descent { generation: before.generation + 1, ..before });
        }
        // A time to come is no one's change.
        let is_changed = changed().is_some_and(|changed| before.began < changed && changed <= now);
        if is_changed { Ok(Descent::first(now)) } else { Err(FeedsItself) }
    }
}

/// The place of something that rules act on or make.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Place {
    device: u64,
    /// Path inside of the filesystem.
    path: Vec<u8>,
}

impl Place {
    /// Of a directory that is `there`.
    pub(crate) fn of(there: &Filesystem) -> Place {
        Place { device: there.device, path: there.inside.to_vec() }
    }

    /// Of what stands at a path below a directory that is `there`.
    pub(crate) fn below(there: &Filesystem, names: &[u8]) -> Place {
        let slash: &[u8] = if there.inside.ends_with(b"/") || names.is_empty() { b"" } else { b"/" };
        Place { device: there.device, path: [&there.inside, slash, names].concat() }
    }

    /// Of the root of a watch, `names` above a directory that is `there`; or of what is mounted in between.
    pub(crate) fn of_root_above(there: &Filesystem, names: &[u8]) -> Place {
        let mut path = &there.inside[..];
        for name in names.rsplit(|byte| *byte == b'/') {
            // Not above its mount; and where a link has taken the place of a directory, not above that.
            let above = path.strip_suffix(name).and_then(|path| path.strip_suffix(b"/"));
            let Some(above) = above.filter(|_| path.len() > there.mounted_len) else { break };
            path = if above.is_empty() { b"/" } else { above };
        }
        Place { device: there.device, path: path.to_vec() }
    }

    /// Of what has a path at, below or above that of a directory that is `there`, all without slashes at their ends;
    /// above it, as if the directory's filesystem went on: nothing is made at a mount point or above.
    pub(crate) fn around(there: &Filesystem, directory: &[u8], path: &[u8]) -> Option<Place> {
        if let Some(names) = path.strip_prefix(directory)
            && (names.is_empty() || directory.is_empty() || names.starts_with(b"/"))
        {
            return Some(Place::below(there, names.strip_prefix(b"/").unwrap_or(names)));
        }
        let names = directory.strip_prefix(path)?.strip_prefix(b"/")?;
        let levels = names.split(|byte| *byte == b'/').filter(|name| !name.is_empty()).count();
        let mut above = &there.inside[..];
        for _ in 0..levels {
            above = above.strip_suffix(b"/").unwrap_or(above);
            above = &above[..above.iter().rposition(|byte| *byte == b'/')?];
        }
        Some(Place { device: there.device, path: above.to_vec() })
    }

    /// Whether it is one of `roots`, which are in order, or below one.
    fn is_within(&self, roots: &[Place]) -> bool {
        let is_root = |directory: &[u8]| {
            let known = |root: &Place| (root.device, &root.path[..]).cmp(&(self.device, directory));
            roots.binary_search_by(known).is_ok()
        };
        let slashes = (0..self.path.len()).filter(|at| self.path[*at] == b'/');
        // That of the top directory is its name, too.
        !roots.is_empty()
            && (slashes.map(|slash| &self.path[..slash.max(1)]).any(is_root) || is_root(&self.path))
    }
}

/// The results of rules, shared by all who work on files.
#[derive(Clone, Debug, Default)]
pub(crate) struct Descents(Arc<Mutex<Table>>);

#[derive(Debug, Default)]
struct Table {
    hashers: [RandomState; 2],
    made: HashMap<u128, Made>,
    /// In the order in which they were made. One that was made again has two entries here.
    order: VecDeque<(Instant, u128)>,
    directories: usize,
    /// Where watched directories are, in order: those of the configuration.
    roots: Vec<Place>,
    /// And those that were found beside them.
    found: Vec<Place>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Made {
    descent: Descent,
    is_tree: bool,
    at: Instant,
}

/// A result that is about to be made.
#[derive(Debug)]
pub(crate) struct Noted {
    key: Option<u128>,
    made: Made,
    before: Option<Made>,
}

impl Descents {
    /// Sets where watched directories are. What is mounted below one is watched as well: `mounted` says where each
    /// mount stands, and what it shows.
    pub(crate) fn set_roots(&self, mut roots: Vec<Place>, mut mounted: Vec<(Place, Place)>) {
        loop {
            roots.sort_unstable();
            let below: Vec<_> = mounted.extract_if(.., |(at, _)| at.is_within(&roots)).collect();
            if below.is_empty() {
                break;
            }
            roots.extend(below.into_iter().map(|(_, shown)| shown));
        }
        let mut table = self.table();
        table.found.retain(|found| !found.is_within(&roots));
        table.roots = roots;
    }

    /// Adds a place where a watched directory is.
    pub(crate) fn add_root(&self, root: Place) {
        self.table().add_root(root);
    }

    /// How far the rules have come with what stands at a place. A watch that is at `root` has seen it.
    pub(crate) fn of(&self, place: &Place, root: impl FnOnce() -> Place, now: Instant) -> Option<Descent> {
        let mut table = self.table();
        if !table.is_watched(place) {
            table.add_root(root());
        }
        table.of(place, now)
    }

    /// Notes that something is made at a place, if a watch may see it.
    pub(crate) fn note(&self, place: &Place, is_tree: bool, descent: Descent, now: Instant) -> Noted {
        let mut table = self.table();
        let mut made = Made { descent, is_tree, at: now };
        if !table.is_watched(place) {
            return Noted { key: None, made, before: None };
        }
        table.forget_old(now);
        let key = table.key(place.device, &place.path);
        // What one action makes on its way may just have become the tree that another one places: then it is that tree.
        made.is_tree |= table.made.get(&key).is_some_and(|made| made.is_tree);
        table.order.push_back((now, key));
        let before = table.put(key, Some(made));
        Noted { key: Some(key), made, before }
    }

    /// It was not made, unless it was noted again.
    pub(crate) fn take_back(&self, noted: &Noted) {
        let Some(key) = noted.key else { return };
        let mut table = self.table();
        if table.made.get(&key) == Some(&noted.made) {
            table.put(key, noted.before);
        }
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        self.0.lock().expect("nothing panics while it holds this lock")
    }
}

impl Table {
    fn of(&mut self, place: &Place, now: Instant) -> Option<Descent> {
        self.forget_old(now);
        if self.made.is_empty() {
            return None;
        }
        let found = self.made.get(&self.key(place.device, &place.path)).map(|made| made.descent);
        if found.is_some() || self.directories == 0 {
            return found;
        }
        let slashes = (1..place.path.len()).rev().filter(|at| place.path[*at] == b'/');
        let mut above =
            slashes.filter_map(|slash| self.made.get(&self.key(place.device, &place.path[..slash])));
        above.find(|made| made.is_tree).map(|made| made.descent)
    }

    /// Replaces what is known of a place, and gives that.
    fn put(&mut self, key: u128, made: Option<Made>) -> Option<Made> {
        self.directories += made.map_or(0, |made| usize::from(made.is_tree));
        let before = match made {
            Some(made) => self.made.insert(key, made),
            None => self.made.remove(&key),
        };
        self.directories -= before.map_or(0, |before| usize::from(before.is_tree));
        before
    }

    fn forget_old(&mut self, now: Instant) {
        while let Some(&(at, key)) = self.order.front() {
            if at + REMEMBERED_FOR > now && self.order.len() <= REMEMBERED_MAX {
                break;
            }
            self.order.pop_front();
            if self.made.get(&key).is_some_and(|made| made.at <= at) {
                self.put(key, None);
            }
        }
        if self.order.is_empty() && self.order.capacity() > 0 {
            (self.order, self.made) = (VecDeque::new(), HashMap::new());
        }
    }

    fn is_watched(&self, place: &Place) -> bool {
        place.is_within(&self.roots) || place.is_within(&self.found)
    }

    fn add_root(&mut self, root: Place) {
        if self.is_watched(&root) {
            return;
        }
        if self.found.len() >= FOUND_MAX {
            self.found.clear();
        }
        let at = self.found.partition_point(|found| *found < root);
        self.found.insert(at, root);
    }

    fn key(&self, device: u64, path: &[u8]) -> u128 {
        let half = |hasher: &RandomState| hasher.hash_one((device, path));
        u128::from(half(&self.hashers[0])) << 64 | u128::from(half(&self.hashers[1]))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn next(before: Option<Descent>, max: u32) -> Result<Descent, FeedsItself> {
        Descent::next(before, max, SystemTime::now(), || None)
    }

    #[test]
    fn each_action_on_a_result_is_one_further_until_the_rule_ends_it() {
        let mut descent = None;
        for generation in 1..=3 {
            descent = Some(next(descent, 3).unwrap());
            assert_eq!(descent.unwrap().generation, generation);
        }
        assert_eq!(next(descent, 3), Err(FeedsItself));
        assert_eq!(next(descent, 4).unwrap().generation, 4);
    }

    #[test]
    fn a_change_by_somebody_else_begins_anew() {
        let now = SystemTime::now();
        let before = Some(Descent { generation: 8, began: now - Duration::from_secs(60) });
        let after = |changed| Descent::next(before, 8, now, || changed).map(|descent| descent.generation);
        assert_eq!(after(Some(now - Duration::from_secs(1))), Ok(1));
        for changed in [None, Some(now - Duration::from_secs(90)), Some(now + Duration::from_secs(90))] {
            assert_eq!(after(changed), Err(FeedsItself));
        }
    }

    #[test]
    fn results_are_known_by_their_place_for_an_hour() {
        let place = |path: &str| Place { device: 7, path: path.into() };
        let (descents, now) = (Descents::default(), Instant::now());
        let first = Descent::first(SystemTime::now());
        descents.note(&place("/w/f"), false, first, now);
        assert_eq!(descents.table().of(&place("/w/f"), now), None, "nothing is watched");

        descents.set_roots(vec![place("/x"), place("/w"), place("/w/f/x"), place("/a")], Vec::new());
        descents.note(&place("/w/f"), false, first, now);
        descents.note(&place("/ww"), false, first, now);
        descents.note(&place("/w/d"), true, first, now);
        for path in ["/w/f", "/w/d", "/w/d/a/b"] {
            assert_eq!(descents.table().of(&place(path), now), Some(first), "{path}");
        }
        for path in ["/w/g", "/ww", "/w/f/x", "/w", "/w/dd"] {
            assert_eq!(descents.table().of(&place(path), now), None, "{path}");
        }
        assert_eq!(descents.table().of(&Place { device: 8, path: b"/w/f".to_vec() }, now), None);
        // On the way to another result.
        descents.note(&place("/w/d"), false, first, now);
        assert_eq!(descents.table().of(&place("/w/d/a/b"), now), Some(first));

        assert_eq!(descents.table().of(&place("/w/f"), now + REMEMBERED_FOR), None);
        let table = descents.table();
        assert!(table.made.is_empty() && table.order.is_empty() && table.directories == 0);
    }

    #[test]
    fn what_is_mounted_below_a_watched_directory_is_watched() {
        let place = |device, path: &str| Place { device, path: path.into() };
        let descents = Descents::default();
        let mounted = [
            // On one that comes later.
            (place(2, "/inner"), place(3, "/")),
            (place(1, "/w/mnt"), place(2, "/")),
            (place(1, "/elsewhere"), place(4, "/")),
            (place(3, "/a/b"), place(1, "/bound")),
        ];
        descents.set_roots(vec![place(1, "/w")], mounted.to_vec());
        let is_watched = |place| descents.table().is_watched(&place);
        for place in
            [place(1, "/w/f"), place(2, "/f"), place(3, "/d/f"), place(1, "/bound/f"), place(1, "/w")]
        {
            assert!(is_watched(place.clone()), "{place:?}");
        }
        for place in [place(4, "/f"), place(1, "/elsewhere"), place(1, "/f"), place(1, "/boundless/f")] {
            assert!(!is_watched(place.clone()), "{place:?}");
        }
        descents.set_roots(vec![place(1, "/w")], Vec::new());
        assert!(!is_watched(place(2, "/f")), "it was unmounted");
    }

    #[test]
    fn where_a_source_is_seen_from_is_watched() {
        let place = |path: &str| Place { device: 7, path: path.into() };
        let (descents, now) = (Descents::default(), Instant::now());
        descents.set_roots(vec![place("/w")], Vec::new());
        assert_eq!(descents.of(&place("/w/f"), || panic!("that is known"), now), None);
        assert_eq!(descents.of(&place("/x/d/f"), || place("/x"), now), None);
        let first = Descent::first(SystemTime::now());
        descents.note(&place("/x/g"), false, first, now);
        assert_eq!(descents.of(&place("/x/g"), || panic!("by now"), now), Some(first));

        for number in 0..=2 * FOUND_MAX {
            descents.add_root(place(&format!("/found/{number:06}")));
        }
        let found = || descents.table().found.clone();
        assert!(!found().is_empty() && found().len() <= FOUND_MAX && found().is_sorted());
        descents.set_roots(vec![place("/")], Vec::new());
        assert!(found().is_empty(), "they are known");
    }

    #[test]
    fn the_root_above_a_directory_is_not_above_its_mount() {
        let root = |inside: &str, mounted: &str, names: &str| {
            let (inside, mounted_len) = (inside.as_bytes().into(), mounted.len());
            let there = Filesystem { device: 7, inside, mounted_len, is_local: true };
            String::from_utf8(Place::of_root_above(&there, names.as_bytes()).path).unwrap()
        };
        for (inside, mounted, names, found) in [
            ("/w/a/b", "/", "a/b", "/w"),
            ("/w", "/", "", "/w"),
            ("/a/b", "/", "a/b", "/"),
            ("/", "/", "", "/"),
            // Something is mounted in between.
            ("/b", "/", "mnt/b", "/"),
            ("/", "/", "a/mnt", "/"),
            ("/sub/mnt/b", "/sub/mnt", "mnt/b", "/sub/mnt"),
            ("/sub", "/sub", "a/sub", "/sub"),
            // A link leads on.
            ("/else/where", "/", "a/b", "/else/where"),
            ("/w/x/b", "/", "a/b", "/w/x"),
            // Names, not letters, are the same.
            ("/xa/b", "/", "a/b", "/xa"),
            ("/b", "/", "a/xb", "/b"),
            ("/data/in", "/data", "din", "/data/in"),
        ] {
            assert_eq!(root(inside, mounted, names), found, "{names} above {inside}");
        }
    }

    #[test]
    fn a_place_is_found_around_a_directory() {
        let there =
            Filesystem { device: 7, inside: b"/w/made".as_slice().into(), mounted_len: 1, is_local: true };
        let around =
            |path: &str| Place::around(&there, b"/mnt/link", path.as_bytes()).map(|place| place.path);
        for (path, place) in [("/mnt/link", "/w/made"), ("/mnt/link/a/b", "/w/made/a/b"), ("/mnt", "/w")] {
            assert_eq!(around(path), Some(place.into()), "{path}");
        }
        for path in ["/mnt/links", "/mnt/li", "/other"] {
            assert_eq!(around(path), None, "{path}");
        }
        let top = Filesystem { inside: b"/".as_slice().into(), ..there.clone() };
        assert_eq!(Place::around(&top, b"/mnt", b"").map(|place| place.path), None, "a mount point");
    }

    #[test]
    fn what_was_not_made_is_as_before() {
        let place = Place { device: 7, path: b"/w/d".to_vec() };
        let (descents, now) = (Descents::default(), Instant::now());
        descents.set_roots(vec![Place { device: 7, path: b"/".to_vec() }], Vec::new());
        let first = Descent::first(SystemTime::now());
        let noted = descents.note(&place, true, first, now);
        let second = Descent { generation: 2, ..first };
        let before = descents.note(&place, true, second, now);
        let again = descents.note(&place, false, second, now + Duration::from_nanos(1));
        descents.take_back(&before);
        assert_eq!(descents.table().of(&place, now), Some(second), "it was noted again");
        descents.take_back(&again);
        descents.take_back(&before);
        assert_eq!(descents.table().of(&place, now), Some(first));
        descents.take_back(&noted);
        let mut table = descents.table();
        assert_eq!((table.of(&place, now), table.directories), (None, 0));
    }
}
