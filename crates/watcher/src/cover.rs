//! Which roots see a directory, as one small number a node.
//!
//! Nearly all directories of a tree are seen by the same roots, so the sets are interned: a node holds the number of
//! its set, and the set holds what an event needs to know at once, the union of what its roots want told and the
//! events to ask the kernel for. Owns the sets and counts their nodes; leaves to the watcher which root sees what.

use event::Mask;
use hashbrown::HashMap;

use crate::tree::{NodeId, Tree};

/// Number of a root; numbers of removed roots are used again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct RootId(pub(crate) u16);

/// What one root adds to a set.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Wants {
    /// Events to tell.
    pub(crate) interest: Mask,
    /// Events to ask the kernel for.
    pub(crate) kernel: u32,
}

/// One set.
#[derive(Debug, Default)]
struct Cover {
    roots: Box<[RootId]>,
    nodes: usize,
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
    free: Vec<u16>,
    /// A set found no number; not said yet.
    refused: bool,
}

impl Covers {
    pub(crate) fn new() -> Covers {
        Covers { sets: vec![Cover::default()], index: HashMap::new(), free: Vec::new(), refused: false }
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
    pub(crate) fn intern(&mut self, mut roots: Vec<RootId>, wants: impl Fn(RootId) -> Wants) -> u16 {
        roots.sort_unstable();
        roots.dedup();
        if roots.is_empty() {
            return EMPTY;
        }
        if let Some(&cover) = self.index.get(&roots[..]) {
            let set = &mut self.sets[usize::from(cover)];
            if set.nodes == 0 {
                // No node ever had it, and the number of a root may be another one's by now.
                set.wants = union(&set.roots, &wants);
            }
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
        self.sets[usize::from(cover)] = Cover { wants: union(&roots, &wants), roots, nodes: 0 };
        cover
    }

    /// How many nodes have a set that is one of these.
    pub(crate) fn nodes_of(&self, is_one: impl Fn(&[RootId]) -> bool) -> usize {
        self.sets.iter().filter(|set| is_one(&set.roots)).map(|set| set.nodes).sum()
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
        tree.set_cover(node, cover);
        self.sets[usize::from(cover)].nodes += 1;
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
            self.free.push(cover);
        }
    }

    /// Works out anew what all sets want; gives the sets for which the kernel must be asked for other events.
    pub(crate) fn update(&mut self, wants: impl Fn(RootId) -> Wants) -> Vec<u16> {
        let mut changed = Vec::new();
        for (number, cover) in self.sets.iter_mut().enumerate() {
            let new = union(&cover.roots, &wants);
            if new.kernel != cover.wants.kernel {
                changed.push(number as u16);
            }
            cover.wants = new;
        }
        changed
    }
}

fn union(roots: &[RootId], wants: &impl Fn(RootId) -> Wants) -> Wants {
    roots.iter().map(|&root| wants(root)).fold(Wants::default(), |sum, one| Wants {
        interest: sum.interest | one.interest,
        kernel: sum.kernel | one.kernel,
    })
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
            assert_ne!(covers.intern(roots.clone(), |_| Wants::default()), EMPTY);
        }
        assert!(!covers.take_refused());
        assert_eq!(covers.intern(last.clone(), |_| Wants::default()), EMPTY);
        assert!(covers.take_refused() && !covers.take_refused());
    }

    #[test]
    fn sets_are_shared_and_forgotten() {
        let mut tree = Tree::new();
        let mut covers = Covers::new();
        let wants = |root: RootId| Wants { interest: Mask(1 << root.0), kernel: 1 << root.0 };
        let node = tree.insert(crate::tree::TOP, b"a", EMPTY);
        let wanted = |covers: &mut Covers, mask: u32| {
            let cover = covers.intern(vec![RootId(7)], |_| Wants { interest: Mask(mask), kernel: mask });
            covers.wants(cover).kernel
        };
        assert_eq!((wanted(&mut covers, 1), wanted(&mut covers, 2)), (1, 2), "no node has it");
        let both = covers.intern(vec![RootId(1), RootId(0)], wants);
        assert_eq!(covers.intern(vec![RootId(0), RootId(1), RootId(1)], wants), both);
        assert_eq!((covers.wants(both).interest, covers.roots(both)), (Mask(3), &[RootId(0), RootId(1)][..]));
        covers.assign(&mut tree, node, both);
        let one = covers.intern(vec![RootId(1)], wants);
        covers.assign(&mut tree, node, one);
        assert_eq!(
            covers.intern(vec![RootId(2)], wants),
            both,
            "the number of a forgotten set is used again"
        );
    }
}
