//! The directories that tasks are in. Each is kept once, however many tasks it has, with the list of them.
//!
//! Owns the paths of directories, each with its last slash, so that a path is a directory and a name, one after the
//! other. They are kept in the order of their bytes: all that lies below a directory is one range of that order, so
//! that its rename looks at nothing else.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::Arc;

use crate::tasks::Slot;

/// A directory that has tasks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct DirId(u32);

/// What a directory counts beside its path: its place here and in the order, about.
pub(crate) const DIR_BYTES: usize = 96;

/// Places that are kept when the last directory is gone.
const KEPT_SLOTS: usize = 64;

struct Dir {
    path: Arc<[u8]>,
    /// How many tasks have it.
    tasks: u32,
    /// The latest task of its list.
    first: Option<Slot>,
}

/// All directories that have tasks.
pub(crate) struct Dirs {
    slots: Vec<Option<Dir>>,
    free: Vec<DirId>,
    by_path: BTreeMap<Arc<[u8]>, DirId>,
    /// Where the latest task went: the next one mostly goes there too.
    latest: DirId,
    /// A directory that has no task any more, kept because the next task may be in it again.
    idle: Option<DirId>,
    bytes: usize,
}

impl Dirs {
    pub(crate) const fn new() -> Dirs {
        Dirs {
            slots: Vec::new(),
            free: Vec::new(),
            by_path: BTreeMap::new(),
            latest: DirId(0),
            idle: None,
            bytes: 0,
        }
    }

    /// What they count for the limit of bytes.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    #[inline]
    pub(crate) fn path(&self, id: DirId) -> &[u8] {
        &self.dir(id).path
    }

    /// The latest task of a directory's list.
    pub(crate) fn first(&self, id: DirId) -> Option<Slot> {
        self.dir(id).first
    }

    pub(crate) fn set_first(&mut self, id: DirId, first: Option<Slot>) {
        self.dir_mut(id).first = first;
    }

    /// Counts one task more for a directory, which is made if it is not there.
    pub(crate) fn enter(&mut self, path: &[u8]) -> DirId {
        let latest = self.slots.get(self.latest.0 as usize).and_then(Option::as_ref);
        let id = match latest.filter(|dir| *dir.path == *path) {
            Some(_) => self.latest,
            None => self.find_or_add(path),
        };
        self.latest = id;
        let dir = self.dir_mut(id);
        dir.tasks += 1;
        if dir.tasks == 1 {
            self.bytes += DIR_BYTES + self.dir(id).path.len();
            self.idle = self.idle.filter(|idle| *idle != id);
        }
        id
    }

    /// Counts one task less. A directory without tasks is forgotten, as soon as another one has none either.
    pub(crate) fn leave(&mut self, id: DirId) {
        let dir = self.dir_mut(id);
        dir.tasks -= 1;
        if dir.tasks > 0 {
            return;
        }
        self.bytes -= DIR_BYTES + self.dir(id).path.len();
        if let Some(idle) = self.idle.replace(id) {
            self.forget(idle);
        }
        if self.by_path.len() == 1 && self.slots.len() > KEPT_SLOTS {
            // What a peak took goes with the last one.
            *self = Dirs::new();
        }
    }

    fn forget(&mut self, id: DirId) {
        let dir = self.slots[id.0 as usize].take().expect("a directory stays while it has tasks");
        self.by_path.remove(&dir.path);
        self.free.push(id);
    }

    /// The directory `path`, which has no last slash, and those below it, in the order of their paths.
    pub(crate) fn below(&self, path: &[u8]) -> Vec<DirId> {
        let first = [path, b"/"].concat();
        // The byte that follows the slash.
        let end = [path, b"0"].concat();
        let range = (Bound::Included(first.as_slice()), Bound::Excluded(end.as_slice()));
        self.by_path.range::<[u8], _>(range).map(|(_, id)| *id).collect()
    }

    fn find_or_add(&mut self, path: &[u8]) -> DirId {
        if let Some(id) = self.by_path.get(path) {
            return *id;
        }
        let path: Arc<[u8]> = path.into();
        let dir = Some(Dir { path: Arc::clone(&path), tasks: 0, first: None });
        let id = self.free.pop().unwrap_or(DirId(self.slots.len() as u32));
        match self.slots.get_mut(id.0 as usize) {
            Some(free) => *free = dir,
            None => self.slots.push(dir),
        }
        self.by_path.insert(path, id);
        id
    }

    fn dir(&self, id: DirId) -> &Dir {
        self.slots[id.0 as usize].as_ref().expect("a directory stays while it has tasks")
    }

    fn dir_mut(&mut self, id: DirId) -> &mut Dir {
        self.slots[id.0 as usize].as_mut().expect("a directory stays while it has tasks")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_is_kept_once_while_it_has_tasks() {
        let mut dirs = Dirs::new();
        let first = dirs.enter(b"/srv/in/");
        assert_eq!(dirs.enter(b"/srv/in/"), first);
        let other = dirs.enter(b"/srv/");
        assert_ne!(other, first);
        assert_eq!(dirs.enter(b"/srv/in/"), first);
        assert_eq!((dirs.path(first), dirs.bytes()), (b"/srv/in/".as_slice(), 2 * DIR_BYTES + 13));
        dirs.leave(other);
        assert_eq!(dirs.enter(b"/srv/"), other, "its place is used again");
        (0..3).for_each(|_| dirs.leave(first));
        dirs.leave(other);
        // One without tasks may be wanted again.
        assert_eq!((dirs.bytes(), dirs.by_path.len()), (0, 1));
        assert_eq!((dirs.enter(b"/srv/"), dirs.by_path.len(), dirs.bytes()), (other, 1, DIR_BYTES + 5));
    }

    #[test]
    fn what_lies_below_is_found_and_nothing_beside_it() {
        let mut dirs = Dirs::new();
        let paths = ["/a/", "/a/b/", "/a/b/c/", "/a-/", "/a0/", "/ab/", "/", "/b/a/"];
        let ids: Vec<DirId> = paths.iter().map(|path| dirs.enter(path.as_bytes())).collect();
        assert_eq!(dirs.below(b"/a"), ids[..3]);
        assert_eq!(dirs.below(b"/a/b"), ids[1..3]);
        assert_eq!(dirs.below(b"/c"), []);
        assert_eq!(dirs.below(b"").len(), paths.len(), "the root is above all");
    }

    #[test]
    fn many_directories_come_and_go() {
        let mut dirs = Dirs::new();
        let path = |number: u32| format!("/srv/in/{number}/");
        let ids: Vec<DirId> = (0..10_000).map(|number| dirs.enter(path(number).as_bytes())).collect();
        for (number, id) in ids.iter().enumerate().filter(|(number, _)| number % 7 != 0) {
            assert_eq!(dirs.path(*id), path(number as u32).as_bytes());
            dirs.leave(*id);
        }
        // One that has none any more is kept.
        assert_eq!(dirs.below(b"/srv").len(), 10_000_usize.div_ceil(7) + 1);
        let left = ids.iter().step_by(7);
        assert_eq!(dirs.bytes(), left.map(|id| DIR_BYTES + dirs.path(*id).len()).sum::<usize>());
        assert!(
            (0..10_000).step_by(7).all(|number| dirs.enter(path(number).as_bytes()) == ids[number as usize])
        );
    }
}
