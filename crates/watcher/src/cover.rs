//! Which roots see a directory, as one small number a node.
//!
//! Nearly all directories of a tree are seen by the same roots, so the sets are interned: a node holds the number of
//! its set, and the set holds what an event needs to know at once, the union of what its roots want told and the
//! events to ask the kernel for. Owns the sets and counts their nodes; leaves to the watcher which root sees what.

use event::Mask;
use hashbrown::HashMap;

use crate::spec::WatchId;
use crate::tree::{NodeId, STARVED, Tree};

/// Number of a root; numbers of removed roots are used again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct RootId(pub(crate) u16);

/// What one root adds to a set.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Asks {
    /// Whose root it is.
    pub(crate) watch: WatchId,
    /// Events to tell.
    pub(crate) interest: Mask,
    /// Events to ask the kernel for.
    pub(crate) kernel: u32,
}

/// What the roots of a set want together.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Wants {
    /// Events to tell.
    pub(crate) interest: Mask,
    /// Events to ask the kernel for.
    pub(crate) kernel: u32,
    /// Two of the roots at least are of one watch.
    pub(crate) repeats: bool,
}

/// One set.
#[derive(Debug, Default)]
struct Cover {
    roots: Box<[RootId]>,
    nodes: usize,
    /// Those of them that a limit keeps unwatched.
    starved: usize,
    wants: Wants,
}

/// The set without roots.
pub(crate) const EMPTY: u16 = 0;
/// How many sets a node can number.
pub(crate) const COVERS_MAX: usize = u16::MAX as usize;

/// See the module's head.
pub(crate) struct Covers {
    sets: Vec<Cover>,
    index: HashMap<Box<[RootId]>, u16>,
    /// The sets of each root.
    by_root: Vec<Vec<u16>>,
    free: Vec<u16>,
    /// A set found no number; not said yet.
    refused: bool,
}

impl Covers {
    pub(crate) fn new() -> Covers {
        Covers {
            sets: vec![Cover::default()],
            index: HashMap::new(),
            by_root: Vec::new(),
            free: Vec::new(),
            refused: false,
        }
    }

    /// The roots of a set, sorted.
    pub(crate) fn roots(&self, cover: u16) -> &[RootId] {
        &self.sets[usize::from(cover)].roots
    }

    pub(crate) fn wants(&self, cover: u16) -> Wants {
        self.sets[usize::from(cover)].wants
    }

    /// The set of these roots. Past 65,535 different sets the roots of the last ones see nothing; that takes as many
    /// roots that overlap each other.
    pub(crate) fn intern(&mut self, mut roots: Vec<RootId>, asks: impl Fn(RootId) -> Option<Asks>) -> u16 {
        roots.sort_unstable();
        roots.dedup();
        if roots.is_empty() {
            return EMPTY;
        }
        if let Some(&cover) = self.index.get(&roots[..]) {
            // The number of a root may be another one's by now: nodes that were cut off keep their set.
            let set = &mut self.sets[usize::from(cover)];
            set.wants = union(&set.roots, &asks);
            return cover;
        }
        let cover = match self.free.pop() {
            Some(cover) => cover,
            None if self.sets.len() < COVERS_MAX => {
                self.sets.push(Cover::default());
                (self.sets.len() - 1) as u16
            }
            None => {
                self.refused = true;
                return EMPTY;
            }
        };
        let roots: Box<[RootId]> = roots.into();
        self.index.insert(roots.clone(), cover);
        self.note_roots(&roots, cover);
        self.sets[usize::from(cover)] = Cover { wants: union(&roots, &asks), roots, nodes: 0, starved: 0 };
        cover
    }

    fn note_roots(&mut self, roots: &[RootId], cover: u16) {
        // They are sorted.
        let bound = roots.last().map_or(0, |last| usize::from(last.0) + 1);
        if self.by_root.len() < bound {
            self.by_root.resize_with(bound, Vec::new);
        }
        for root in roots {
            self.by_root[usize::from(root.0)].push(cover);
        }
    }

    /// The sets that hold one of these roots, each once.
    pub(crate) fn of_roots(&self, roots: &[RootId]) -> Vec<u16> {
        let sets = roots.iter().filter_map(|root| self.by_root.get(usize::from(root.0)));
        let mut sets: Vec<u16> = sets.flatten().copied().collect();
        sets.sort_unstable();
        sets.dedup();
        sets
    }

    /// How many nodes have one of these sets, but for those that a limit keeps unwatched.
    pub(crate) fn watched_nodes(&self, sets: &[u16]) -> usize {
        sets.iter().map(|&set| &self.sets[usize::from(set)]).map(|set| set.nodes - set.starved).sum()
    }

    /// Whether a limit keeps a node with one of these sets unwatched.
    pub(crate) fn has_starved(&self, sets: &[u16]) -> bool {
        sets.iter().any(|&set| self.sets[usize::from(set)].starved > 0)
    }

    /// A limit keeps a node unwatched, or does so no more.
    pub(crate) fn set_starved(&mut self, tree: &mut Tree, node: NodeId, starves: bool) {
        let count = &mut self.sets[usize::from(tree.cover(node))].starved;
        if starves {
            tree.set(node, STARVED);
            *count += 1;
        } else {
            tree.clear(node, STARVED);
            *count -= 1;
        }
    }

    /// Whether a set found no number since the last call.
    pub(crate) fn take_refused(&mut self) -> bool {
        std::mem::take(&mut self.refused)
    }

    /// Gives a node its set, and forgets sets that no node has any more.
    pub(crate) fn assign(&mut self, tree: &mut Tree, node: NodeId, cover: u16) {
        let old = tree.cover(node);
        if old == cover {
            return;
        }
        let starves = tree.has(node, STARVED);
        if starves {
            self.set_starved(tree, node, false);
        }
        tree.set_cover(node, cover);
        self.sets[usize::from(cover)].nodes += 1;
        if starves {
            self.set_starved(tree, node, true);
        }
        self.release(old);
    }

    /// Counts a node that was made with this set.
    pub(crate) fn retain(&mut self, cover: u16) {
        self.sets[usize::from(cover)].nodes += 1;
    }

    /// Counts a node that is freed.
    pub(crate) fn release(&mut self, cover: u16) {
        if cover == EMPTY {
            return;
        }
        let entry = &mut self.sets[usize::from(cover)];
        entry.nodes -= 1;
        if entry.nodes == 0 {
            let roots = std::mem::take(&mut entry.roots);
            self.index.remove(&roots);
            for root in roots {
                self.forget_set(root, cover);
            }
            self.free.push(cover);
        }
    }

    fn forget_set(&mut self, root: RootId, cover: u16) {
        let sets = &mut self.by_root[usize::from(root.0)];
        if let Some(at) = sets.iter().position(|&set| set == cover) {
            sets.swap_remove(at);
        }
        if sets.is_empty() {
            *sets = Vec::new();
        }
    }

    /// All sets.
    pub(crate) fn all(&self) -> Vec<u16> {
        (0..self.sets.len() as u16).collect()
    }

    /// Works out anew what sets want; gives those for which the kernel must be asked for other events.
    pub(crate) fn update(&mut self, sets: &[u16], asks: impl Fn(RootId) -> Option<Asks>) -> Vec<u16> {
        let mut changed = Vec::new();
        for &number in sets {
            let cover = &mut self.sets[usize::from(number)];
            let new = union(&cover.roots, &asks);
            if new.kernel != cover.wants.kernel {
                changed.push(number);
            }
            cover.wants = new;
        }
        changed
    }
}

fn union(roots: &[RootId], asks: &impl Fn(RootId) -> Option<Asks>) -> Wants {
    let mut wants = Wants::default();
    // Most sets are of one root, and this is asked for each directory.
    let mut watches = Vec::new();
    for one in roots.iter().filter_map(|&root| asks(root)) {
        wants.interest |= one.interest;
        wants.kernel |= one.kernel;
        if roots.len() > 1 {
            watches.push(one.watch);
        }
    }
    let count = watches.len();
    watches.sort_unstable();
    watches.dedup();
    wants.repeats = watches.len() < count;
    wants
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As many sets as there are numbers, and one more: it is refused, and that can be said.
    #[test]
    fn a_set_without_a_number_is_noticed() {
        let mut covers = Covers::new();
        let pairs =
            (0..300).flat_map(|one| (0..300).map(move |other| vec![RootId(one), RootId(300 + other)]));
        let sets: Vec<_> = pairs.take(COVERS_MAX).collect();
        let (last, others) = sets.split_last().unwrap();
        for roots in others {
            assert_ne!(covers.intern(roots.clone(), |_| None), EMPTY);
        }
        assert!(!covers.take_refused());
        assert_eq!(covers.intern(last.clone(), |_| None), EMPTY);
        assert!(covers.take_refused() && !covers.take_refused());
    }

    #[test]
    fn sets_are_shared_and_forgotten() {
        let mut tree = Tree::new();
        let mut covers = Covers::new();
        let asks =
            |watch: u32, mask: u32| Some(Asks { watch: WatchId(watch), interest: Mask(mask), kernel: mask });
        let wants = |root: RootId| asks(u32::from(root.0) / 2, 1 << root.0);
        let node = tree.insert(crate::tree::TOP, b"a", EMPTY);
        let wanted = |covers: &mut Covers, mask: u32| {
            let cover = covers.intern(vec![RootId(7)], |_| asks(0, mask));
            covers.wants(cover).kernel
        };
        assert_eq!((wanted(&mut covers, 1), wanted(&mut covers, 2)), (1, 2), "no node has it");
        let both = covers.intern(vec![RootId(1), RootId(0)], wants);
        assert_eq!(covers.intern(vec![RootId(0), RootId(1), RootId(1)], wants), both);
        assert_eq!((covers.wants(both).interest, covers.roots(both)), (Mask(3), &[RootId(0), RootId(1)][..]));
        assert!(covers.wants(both).repeats, "they are of one watch");
        covers.assign(&mut tree, node, both);
        assert_eq!(
            (covers.of_roots(&[RootId(0)]), covers.of_roots(&[RootId(0), RootId(1)])),
            (vec![both], vec![both])
        );
        covers.set_starved(&mut tree, node, true);
        assert!(covers.has_starved(&[both]) && covers.watched_nodes(&[both]) == 0);
        let one = covers.intern(vec![RootId(1)], wants);
        covers.assign(&mut tree, node, one);
        assert!(covers.has_starved(&[one]) && !covers.wants(one).repeats);
        covers.set_starved(&mut tree, node, false);
        assert_eq!((covers.of_roots(&[RootId(0)]), covers.watched_nodes(&[one])), (vec![], 1));
        assert_eq!(
            covers.intern(vec![RootId(2)], wants),
            both,
            "the number of a forgotten set is used again"
        );
    }
}
