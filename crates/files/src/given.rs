//! Which names this process has given, for whoever watches the directories that it writes into.
//!
//! Anybody can give a file a name of the form of our temporary names. What is work in progress of ours, and no news to
//! anybody, is only what we made: a name that was really given, in the directory in which it was given. A tree that we
//! have put into its place is known by its directory, its name and its inode, and only once.
//!
//! A name is remembered as long as it is in use, and afterwards as long as an event of it may be on its way.

use std::collections::{HashMap, VecDeque};
use std::hash::{BuildHasher, RandomState};
use std::ops::Deref;
use std::sync::{LazyLock, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::sys::Inode;
use crate::temporary::TEMPORARY_PREFIX;

/// Longer than any event waits in the kernel's queue.
const AGE_MAX: Duration = Duration::from_secs(60);
/// More names than the kernel's queue holds events by default; 24 bytes each, and as many in the list of the ended.
const ENDED_MAX: usize = 64 * 1024;

/// A temporary name that is in use.
#[derive(Debug)]
pub(crate) struct Given {
    name: Vec<u8>,
}

impl Given {
    /// Before anything gets the name: whoever reads of that must find it.
    pub(crate) fn new(directory: Inode, name: Vec<u8>) -> Given {
        let mut registry = registry();
        let hash = registry.secret.hash_one(&name);
        registry.names.insert(hash, directory);
        Given { name }
    }
}

impl Deref for Given {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.name
    }
}

impl Drop for Given {
    fn drop(&mut self) {
        let mut registry = registry();
        let hash = registry.secret.hash_one(&self.name);
        registry.ended.push_back((Instant::now(), hash));
        registry.forget();
    }
}

/// A tree in its place.
struct Placed {
    at: Instant,
    directory: Inode,
    name: Box<[u8]>,
    tree: Inode,
}

#[derive(Default)]
struct Registry {
    secret: RandomState,
    /// By name, which nobody can foresee, so that two names do not meet.
    names: HashMap<u64, Inode>,
    ended: VecDeque<(Instant, u64)>,
    placed: VecDeque<Placed>,
}

impl Registry {
    fn forget(&mut self) {
        while self.ended.front().is_some_and(|(at, _)| at.elapsed() > AGE_MAX) || self.ended.len() > ENDED_MAX
        {
            let Some((_, hash)) = self.ended.pop_front() else { break };
            self.names.remove(&hash);
        }
        while self.placed.front().is_some_and(|placed| placed.at.elapsed() > AGE_MAX)
            || self.placed.len() > ENDED_MAX
        {
            self.placed.pop_front();
        }
    }

    fn is_placed_lately(placed: &Placed) -> bool {
        placed.at.elapsed() <= AGE_MAX
    }
}

fn registry() -> MutexGuard<'static, Registry> {
    static REGISTRY: LazyLock<Mutex<Registry>> = LazyLock::new(Mutex::default);
    REGISTRY.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Whether this process has given an entry of a directory this temporary name. The directory is known by device and
/// inode.
pub fn is_own_temporary(directory: (u64, u64), name: &[u8]) -> bool {
    let (dev, ino) = directory;
    given_in(name) == Some(Inode { dev, ino })
}

/// Whether this process has given anything this temporary name: what it stands for is work in progress, and no news to
/// anybody, if [`is_own_temporary`] says so of its directory, too.
pub fn is_own_temporary_name(name: &[u8]) -> bool {
    given_in(name).is_some()
}

fn given_in(name: &[u8]) -> Option<Inode> {
    if !name.starts_with(TEMPORARY_PREFIX) {
        return None;
    }
    let registry = registry();
    registry.names.get(&registry.secret.hash_one(name)).copied()
}

/// Before a tree is renamed to its final name.
pub(crate) fn remember_placed(directory: Inode, name: &[u8], tree: Inode) {
    let mut registry = registry();
    registry.placed.push_back(Placed { at: Instant::now(), directory, name: name.into(), tree });
    registry.forget();
}

/// Whether this process has put the tree with this inode (device and inode, both) under this name into this directory
/// within the last minute, or is about to; true once for each.
pub fn take_placed_tree(directory: (u64, u64), name: &[u8], tree: (u64, u64)) -> bool {
    let inode = |(dev, ino)| Inode { dev, ino };
    let (directory, tree) = (inode(directory), inode(tree));
    let mut registry = registry();
    let found = registry.placed.iter().position(|placed| {
        placed.directory == directory
            && placed.tree == tree
            && *placed.name == *name
            && Registry::is_placed_lately(placed)
    });
    found.and_then(|at| registry.placed.remove(at)).is_some()
}

/// Whether this process has given a tree this name within the last minute, or is about to: then it is worth asking
/// [`take_placed_tree`].
pub fn is_placed_tree(name: &[u8]) -> bool {
    registry().placed.iter().any(|placed| *placed.name == *name && Registry::is_placed_lately(placed))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn inode(ino: u64) -> Inode {
        Inode { dev: 7, ino }
    }

    #[test]
    fn a_name_is_ours_where_it_was_given_and_a_while_after() {
        let text = [TEMPORARY_PREFIX, b"of a test", crate::TEMPORARY_SUFFIX].concat();
        assert!(!is_own_temporary_name(&text), "of the right form, but not given");
        let name = Given::new(inode(1), text.clone());
        for in_use in [true, false] {
            assert!(is_own_temporary((7, 1), &text) && is_own_temporary_name(&text), "in use: {in_use}");
            for elsewhere in [(7, 2), (8, 1), (0, 0)] {
                assert!(!is_own_temporary(elsewhere, &text), "the same name in another directory");
            }
            assert!(!is_own_temporary((7, 1), &text[..text.len() - 1]));
            if in_use {
                registry().forget();
            }
        }
        drop(name);
        assert!(is_own_temporary((7, 1), &text), "its events may be on their way");
        // As if a minute had passed.
        let mut registry = registry();
        let Some(past) = Instant::now().checked_sub(AGE_MAX * 2) else { return };
        registry.ended.iter_mut().for_each(|(at, _)| *at = past);
        registry.forget();
        drop(registry);
        assert!(!is_own_temporary_name(&text), "forgotten, so that a stranger's file of this name is news");
    }

    #[test]
    fn a_tree_is_ours_by_directory_name_and_inode_and_once() {
        remember_placed(inode(21), b"tree", inode(22));
        assert!(is_placed_tree(b"tree"));
        for (directory, name, tree) in [
            ((7, 21), &b"other"[..], (7, 22)),
            ((7, 20), b"tree", (7, 22)),
            ((7, 21), b"tree", (7, 20)),
            ((8, 21), b"tree", (7, 22)),
        ] {
            assert!(!take_placed_tree(directory, name, tree));
        }
        assert!(take_placed_tree((7, 21), b"tree", (7, 22)));
        assert!(!take_placed_tree((7, 21), b"tree", (7, 22)), "once");
        assert!(!is_placed_tree(b"tree"));
    }
}
