//! The watch tree: every watched object, and every directory on the way to one, as a node of some 40 bytes.
//!
//! A node knows its parent and its own name only; a path is put together when an event needs it, so that renaming a
//! directory is O(1) however much lies below. Names lie in one blob. Two tables hold bare node numbers and look keys
//! up in the nodes themselves: wd -> node and (parent, name) -> node. Each is in parts, see [`Parts`].
//!
//! One inode has one wd but may stand in several places (a bind mount, a link as root): then several nodes share the
//! wd and carry [`SHARED`]. A node that was pushed from its place by another (the victim of a rename, one half of an
//! exchange) stays below its parent, nameless: [`UNNAMED`]. A node that was cut off ([`Tree::cut`]) has no path.
//!
//! Owns structure. Leaves kernel, covers and meaning of flags to the watcher.

use std::hash::BuildHasher as _;

use hashbrown::{DefaultHashBuilder, HashTable};

/// Number of a node; numbers of freed nodes are used again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct NodeId(pub(crate) u32);

/// No node.
const NONE: u32 = u32::MAX;
/// `/`, which always exists.
pub(crate) const TOP: NodeId = NodeId(0);

/// Other nodes have the same wd.
pub(crate) const SHARED: u8 = 1;
/// Ancestor of a root: its events may mean that the root comes or goes.
pub(crate) const GUARD: u8 = 2;
/// A root is bound to this node.
pub(crate) const ROOT: u8 = 4;
/// Its IN_MOVED_FROM was seen and its IN_MOVED_TO not yet.
pub(crate) const MOVING: u8 = 8;
/// It came to be here, and no walk has entered it yet: what is in it is still to be told.
pub(crate) const UNTOLD: u8 = 16;
/// Has lost its name to another node.
pub(crate) const UNNAMED: u8 = 32;
/// A limit or missing rights keep it unwatched.
pub(crate) const STARVED: u8 = 64;
/// The listing under way has found it.
pub(crate) const SEEN: u8 = 128;

/// Blobs with less garbage than this are not worth tidying.
const GARBAGE_MIN: usize = 64 * 1024;

/// 28 bytes, kept so by a test: with a name of eight bytes and two table entries of 5 bytes, at worst half used, a
/// watch costs less than 60.
#[derive(Clone, Copy, Debug)]
struct Node {
    parent: u32,
    child: u32,
    next: u32,
    prev: u32,
    wd: i32,
    name: u32,
    cover: u16,
    name_len: u8,
    flags: u8,
}

/// See the module's head.
pub(crate) struct Tree {
    nodes: Vec<Node>,
    /// Head of the list of freed nodes, linked by `next`.
    free: u32,
    live: usize,
    names: Vec<u8>,
    /// Bytes of `names` that no node uses.
    garbage: usize,
    wds: Parts,
    /// Nodes whose wd another node has as well, but for one.
    shared: usize,
    entries: Parts,
    /// Seeded, so that nobody can choose names that collide.
    hasher: DefaultHashBuilder,
}

/// A table in parts. One for a million nodes would take a tenth of a second to grow; each of these takes a millisecond
/// or two, and they do not grow at once.
type Parts = [HashTable<u32>; PARTS];

/// A tree of a few nodes pays some bytes for each.
const PARTS: usize = 64;

fn empty_parts() -> Parts {
    [const { HashTable::new() }; PARTS]
}

/// The part with an entry, by bits of its hash that the tables themselves do not use.
fn part_of(hash: u64) -> usize {
    (hash >> 32) as usize % PARTS
}

/// The part with a wd. wds count up, so that they fill one part after another.
fn part_of_wd(wd: i32) -> usize {
    (wd >> 12) as usize % PARTS
}

fn hash_wd(wd: i32) -> u64 {
    // wds count up: their low bits spread perfectly; the table takes its tag from the high ones.
    let mixed = (wd as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    mixed ^ (mixed >> 32)
}

impl Tree {
    pub(crate) fn new() -> Tree {
        let top = Node {
            parent: NONE,
            child: NONE,
            next: NONE,
            prev: NONE,
            wd: 0,
            name: 0,
            cover: 0,
            name_len: 0,
            flags: 0,
        };
        Tree {
            nodes: vec![top],
            free: NONE,
            live: 1,
            names: Vec::new(),
            garbage: 0,
            wds: empty_parts(),
            shared: 0,
            entries: empty_parts(),
            hasher: DefaultHashBuilder::default(),
        }
    }

    fn node(&self, id: NodeId) -> &Node {
        &self.nodes[id.0 as usize]
    }

    fn node_mut(&mut self, id: NodeId) -> &mut Node {
        &mut self.nodes[id.0 as usize]
    }

    pub(crate) fn parent(&self, id: NodeId) -> Option<NodeId> {
        some(self.node(id).parent)
    }

    pub(crate) fn name(&self, id: NodeId) -> &[u8] {
        name_of(&self.names, self.node(id))
    }

    /// Watch descriptor, 0 if the node has none.
    pub(crate) fn wd(&self, id: NodeId) -> i32 {
        self.node(id).wd
    }

    pub(crate) fn cover(&self, id: NodeId) -> u16 {
        self.node(id).cover
    }

    pub(crate) fn set_cover(&mut self, id: NodeId, cover: u16) {
        self.node_mut(id).cover = cover;
    }

    pub(crate) fn has(&self, id: NodeId, flag: u8) -> bool {
        self.node(id).flags & flag != 0
    }

    pub(crate) fn set(&mut self, id: NodeId, flag: u8) {
        self.node_mut(id).flags |= flag;
    }

    pub(crate) fn clear(&mut self, id: NodeId, flag: u8) {
        self.node_mut(id).flags &= !flag;
    }

    pub(crate) fn has_children(&self, id: NodeId) -> bool {
        self.node(id).child != NONE
    }

    pub(crate) fn len(&self) -> usize {
        self.live
    }

    /// Different wds.
    pub(crate) fn watched(&self) -> usize {
        self.wds.iter().map(HashTable::len).sum::<usize>() - self.shared
    }

    /// Bytes allocated.
    pub(crate) fn bytes(&self) -> usize {
        let tables = self.wds.iter().chain(&self.entries).map(HashTable::allocation_size);
        self.nodes.capacity() * size_of::<Node>() + self.names.capacity() + tables.sum::<usize>()
    }

    /// One more than the largest number in use so far.
    pub(crate) fn id_bound(&self) -> u32 {
        self.nodes.len() as u32
    }

    /// The child of `parent` with this name.
    pub(crate) fn child(&self, parent: NodeId, name: &[u8]) -> Option<NodeId> {
        let hash = self.hash_entry(parent.0, name);
        let same = |&id: &u32| {
            let node = &self.nodes[id as usize];
            node.parent == parent.0 && name_of(&self.names, node) == name
        };
        self.entries[part_of(hash)].find(hash, same).map(|&id| NodeId(id))
    }

    fn hash_entry(&self, parent: u32, name: &[u8]) -> u64 {
        self.hasher.hash_one((parent, name))
    }

    /// Adds a child; the name must be free below `parent` and 1 to 255 bytes long.
    pub(crate) fn insert(&mut self, parent: NodeId, name: &[u8], cover: u16) -> NodeId {
        debug_assert!(self.child(parent, name).is_none(), "names are unique below a parent");
        let (name_at, name_len) = self.store_name(name);
        let node = Node {
            parent: NONE,
            child: NONE,
            next: NONE,
            prev: NONE,
            wd: 0,
            name: name_at,
            cover,
            name_len,
            flags: SEEN,
        };
        let id = if let Some(id) = some(self.free) {
            self.free = self.node(id).next;
            *self.node_mut(id) = node;
            id
        } else {
            self.nodes.push(node);
            NodeId(self.nodes.len() as u32 - 1)
        };
        self.live += 1;
        self.link(id, parent);
        self.index(id);
        id
    }

    fn store_name(&mut self, name: &[u8]) -> (u32, u8) {
        self.tidy_names();
        let at = self.names.len() as u32;
        self.names.extend_from_slice(name);
        (at, name.len() as u8)
    }

    /// Writes the blob anew when more than half of it is garbage: constant time a name in the long run, and never more
    /// than twice what is needed.
    fn tidy_names(&mut self) {
        if self.garbage <= GARBAGE_MIN || self.garbage * 2 <= self.names.len() {
            return;
        }
        let mut tidy = Vec::with_capacity(self.names.len() - self.garbage);
        // Freed nodes have a name of no bytes.
        for node in &mut self.nodes {
            let name = name_of(&self.names, node);
            let at = tidy.len() as u32;
            tidy.extend_from_slice(name);
            node.name = at;
        }
        self.names = tidy;
        self.garbage = 0;
    }

    fn link(&mut self, id: NodeId, parent: NodeId) {
        let first = self.node(parent).child;
        if let Some(first) = some(first) {
            self.node_mut(first).prev = id.0;
        }
        let node = self.node_mut(id);
        (node.parent, node.next, node.prev) = (parent.0, first, NONE);
        self.node_mut(parent).child = id.0;
    }

    fn unlink(&mut self, id: NodeId) {
        let Node { parent, next, prev, .. } = *self.node(id);
        if let Some(next) = some(next) {
            self.node_mut(next).prev = prev;
        }
        match (some(prev), some(parent)) {
            (Some(prev), _) => self.node_mut(prev).next = next,
            (None, Some(parent)) => self.node_mut(parent).child = next,
            (None, None) => {}
        }
        let node = self.node_mut(id);
        (node.parent, node.next, node.prev) = (NONE, NONE, NONE);
    }

    fn index(&mut self, id: NodeId) {
        let hash = self.hash_entry(self.node(id).parent, self.name(id));
        let Tree { entries, nodes, names, hasher, .. } = self;
        entries[part_of(hash)].insert_unique(hash, id.0, |&id| {
            let node = &nodes[id as usize];
            hasher.hash_one((node.parent, name_of(names, node)))
        });
    }

    fn unindex(&mut self, id: NodeId) {
        if self.has(id, UNNAMED) || self.node(id).parent == NONE {
            return;
        }
        let hash = self.hash_entry(self.node(id).parent, self.name(id));
        if let Ok(entry) = self.entries[part_of(hash)].find_entry(hash, |&other| other == id.0) {
            entry.remove();
        }
    }

    /// Takes the node's name away for another node to have; the path stays what it was.
    pub(crate) fn unname(&mut self, id: NodeId) {
        self.unindex(id);
        self.set(id, UNNAMED);
    }

    /// Puts the node under another parent and name, with everything below it.
    pub(crate) fn rename(&mut self, id: NodeId, parent: NodeId, name: &[u8]) {
        debug_assert!(!self.is_cut(id), "what was cut off is freed, and must not have a place by then");
        self.unindex(id);
        self.unlink(id);
        self.clear(id, UNNAMED);
        if self.name(id) != name {
            self.drop_name(id);
            let (at, len) = self.store_name(name);
            let node = self.node_mut(id);
            (node.name, node.name_len) = (at, len);
        }
        self.link(id, parent);
        self.index(id);
    }

    fn drop_name(&mut self, id: NodeId) {
        let node = self.node_mut(id);
        let len = std::mem::take(&mut node.name_len);
        self.garbage += usize::from(len);
    }

    /// Cuts the node off with everything below it: none of them has a path any more.
    pub(crate) fn cut(&mut self, id: NodeId) {
        self.unindex(id);
        self.unlink(id);
    }

    /// Whether the node is the top of a branch that was cut off.
    pub(crate) fn is_cut(&self, id: NodeId) -> bool {
        id != TOP && self.node(id).parent == NONE
    }

    /// Frees a node without children.
    pub(crate) fn free(&mut self, id: NodeId) {
        debug_assert!(!self.has_children(id) && id != TOP, "only leaves are freed");
        debug_assert!(self.node(id).name_len > 0, "freed twice, it would be two nodes later");
        self.set_wd(id, 0);
        self.cut(id);
        self.drop_name(id);
        let free = self.free;
        let node = self.node_mut(id);
        (node.next, node.flags, node.cover) = (free, 0, 0);
        self.free = id.0;
        self.live -= 1;
    }

    /// Gives the node a wd, or takes it away (0). Other nodes of the old and new wd are told by [`SHARED`].
    pub(crate) fn set_wd(&mut self, id: NodeId, wd: i32) {
        let old = self.node(id).wd;
        if old == wd {
            return;
        }
        if old != 0 {
            if let Ok(entry) = self.wds[part_of_wd(old)].find_entry(hash_wd(old), |&other| other == id.0) {
                entry.remove();
            }
            self.node_mut(id).wd = 0;
            self.clear(id, SHARED);
            self.shared -= usize::from(self.by_wd(old).is_some());
            self.mark_shared(old);
        }
        if wd != 0 {
            self.shared += usize::from(self.by_wd(wd).is_some());
            self.node_mut(id).wd = wd;
            let Tree { wds, nodes, .. } = self;
            wds[part_of_wd(wd)].insert_unique(hash_wd(wd), id.0, |&id| hash_wd(nodes[id as usize].wd));
            self.mark_shared(wd);
        }
    }

    fn mark_shared(&mut self, wd: i32) {
        let same = |&id: &u32| self.nodes[id as usize].wd == wd;
        // The usual case, told without allocating.
        let mut others = self.wds[part_of_wd(wd)].iter_hash(hash_wd(wd)).copied().filter(same).take(2);
        match (others.next(), others.next()) {
            (None, _) => {}
            (Some(only), None) => self.clear(NodeId(only), SHARED),
            (Some(_), Some(_)) => {
                for id in self.all_by_wd(wd) {
                    self.set(id, SHARED);
                }
            }
        }
    }

    /// Any node with this wd.
    pub(crate) fn by_wd(&self, wd: i32) -> Option<NodeId> {
        self.wds[part_of_wd(wd)]
            .find(hash_wd(wd), |&id| self.nodes[id as usize].wd == wd)
            .map(|&id| NodeId(id))
    }

    /// All nodes with this wd, in the order of their numbers.
    pub(crate) fn all_by_wd(&self, wd: i32) -> Vec<NodeId> {
        let same =
            self.wds[part_of_wd(wd)].iter_hash(hash_wd(wd)).filter(|&&id| self.nodes[id as usize].wd == wd);
        let mut all: Vec<NodeId> = same.map(|&id| NodeId(id)).collect();
        all.sort_unstable();
        all
    }

    /// The children, in no particular order.
    pub(crate) fn children(&self, id: NodeId) -> impl Iterator<Item = NodeId> + '_ {
        std::iter::successors(some(self.node(id).child), |&child| some(self.node(child).next))
    }

    /// The node and everything below it, parents first.
    pub(crate) fn subtree(&self, id: NodeId) -> Vec<NodeId> {
        let mut all = vec![id];
        let mut at = 0;
        while at < all.len() {
            all.extend(self.children(all[at]));
            at += 1;
        }
        all
    }

    /// All nodes with a flag. Looks at every node.
    pub(crate) fn all_with(&self, flag: u8) -> Vec<NodeId> {
        (0..self.nodes.len() as u32).map(NodeId).filter(|&id| self.has(id, flag)).collect()
    }

    /// Whether `top` is `id` or above it.
    pub(crate) fn is_at_or_above(&self, top: NodeId, id: NodeId) -> bool {
        std::iter::successors(Some(id), |&id| self.parent(id)).any(|id| id == top)
    }

    /// Puts the node's absolute path into `path`; false (and nothing useful) if it was cut off.
    pub(crate) fn path(&self, id: NodeId, path: &mut Vec<u8>) -> bool {
        path.clear();
        if id == TOP {
            path.push(b'/');
            return true;
        }
        let mut len = 0;
        let mut at = id;
        while at != TOP {
            let node = self.node(at);
            let Some(parent) = some(node.parent) else { return false };
            len += usize::from(node.name_len) + 1;
            at = parent;
        }
        path.resize(len, 0);
        self.fill(id, path);
        true
    }

    /// Writes the path from its end, names and slashes as they come.
    fn fill(&self, id: NodeId, path: &mut [u8]) {
        let mut end = path.len();
        let mut at = id;
        while at != TOP {
            let name = self.name(at);
            let start = end - name.len();
            path[start..end].copy_from_slice(name);
            path[start - 1] = b'/';
            end = start - 1;
            at = self.parent(at).expect("the first pass has seen all ancestors");
        }
    }

    /// The node at an absolute, normal path.
    pub(crate) fn find(&self, path: &[u8]) -> Option<NodeId> {
        crate::path::components(path).try_fold(TOP, |node, name| self.child(node, name))
    }
}

fn some(id: u32) -> Option<NodeId> {
    (id != NONE).then_some(NodeId(id))
}

fn name_of<'a>(names: &'a [u8], node: &Node) -> &'a [u8] {
    &names[node.name as usize..][..usize::from(node.name_len)]
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    #[test]
    fn a_node_is_28_bytes() {
        assert_eq!(size_of::<Node>(), 28);
    }

    #[test]
    fn the_nodes_of_a_large_tree_spread_over_all_parts_of_its_tables() {
        let mut tree = Tree::new();
        for number in 1..=300_000 {
            let id = tree.insert(TOP, number.to_string().as_bytes(), 0);
            tree.set_wd(id, number);
        }
        for parts in [&tree.wds, &tree.entries] {
            let all = 3_000..10_000;
            assert!(parts.iter().all(|part| all.contains(&part.len())));
        }
        assert_eq!(tree.watched(), 300_000);
    }

    fn path(tree: &Tree, id: NodeId) -> String {
        let mut path = Vec::new();
        if tree.path(id, &mut path) { String::from_utf8(path).unwrap() } else { "-".to_owned() }
    }

    #[test]
    fn everything_below_a_renamed_node_has_its_new_path() {
        let mut tree = Tree::new();
        let a = tree.insert(TOP, b"a", 0);
        let b = tree.insert(a, b"b", 0);
        let ab = tree.insert(TOP, b"ab", 0);
        tree.rename(a, ab, b"x");
        assert_eq!(
            (path(&tree, b), path(&tree, ab), path(&tree, TOP)),
            ("/ab/x/b".into(), "/ab".into(), "/".into())
        );
        assert_eq!(tree.find(b"/ab/x/b"), Some(b));
        assert_eq!(tree.find(b"/a"), None);
        tree.cut(a);
        assert_eq!(path(&tree, b), "-");
    }

    #[test]
    fn an_unnamed_node_keeps_its_path_and_gives_its_name_away() {
        let mut tree = Tree::new();
        let old = tree.insert(TOP, b"a", 0);
        tree.unname(old);
        let new = tree.insert(TOP, b"a", 0);
        assert_eq!((tree.child(TOP, b"a"), path(&tree, old)), (Some(new), "/a".into()));
        tree.free(old);
        assert_eq!(tree.child(TOP, b"a"), Some(new));
        tree.unname(new);
        tree.rename(new, TOP, b"b");
        assert_eq!(tree.child(TOP, b"b"), Some(new));
    }

    #[test]
    fn nodes_that_share_a_wd_know_it() {
        let mut tree = Tree::new();
        let nodes = [b"a", b"b", b"c"].map(|name| tree.insert(TOP, name, 0));
        for &node in &nodes {
            tree.set_wd(node, 7);
        }
        assert!(nodes.iter().all(|&node| tree.has(node, SHARED)));
        assert_eq!(tree.all_by_wd(7), nodes);
        tree.set_wd(nodes[0], 0);
        tree.free(nodes[1]);
        assert!(!tree.has(nodes[0], SHARED) && !tree.has(nodes[2], SHARED));
        assert_eq!((tree.by_wd(7), tree.by_wd(0)), (Some(nodes[2]), None));
    }

    /// Numbers that look random and can be had again: xorshift64*.
    fn next(state: &mut u64) -> u64 {
        *state ^= *state >> 12;
        *state ^= *state << 25;
        *state ^= *state >> 27;
        state.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    /// The tree against a map of full paths, over random inserts, renames, frees and wds. `WATCHER_STEPS` sets the
    /// number of steps, `WATCHER_SEED` repeats a run.
    #[test]
    fn the_tree_agrees_with_a_map_of_paths() {
        let steps: u64 = std::env::var("WATCHER_STEPS").map_or(30_000, |text| text.parse().unwrap());
        let seed: u64 = std::env::var("WATCHER_SEED").map_or_else(
            |_| std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap().as_nanos() as u64 | 1,
            |text| text.parse().unwrap(),
        );
        let mut random = seed;
        let mut tree = Tree::new();
        let mut model: BTreeMap<String, NodeId> = BTreeMap::new();
        for step in 0..steps {
            one_step(&mut tree, &mut model, &mut random);
            if step % 1024 == 0 {
                compare(&tree, &model, seed);
            }
        }
        compare(&tree, &model, seed);
        assert!(
            tree.names.len() <= 2 * GARBAGE_MIN + 64 * 255 * 4,
            "seed {seed}: {} bytes",
            tree.names.len()
        );
    }

    fn one_step(tree: &mut Tree, model: &mut BTreeMap<String, NodeId>, random: &mut u64) {
        let pick = |random: &mut u64, model: &BTreeMap<String, NodeId>| {
            let at = next(random) as usize % (model.len() + 1);
            model.iter().nth(at).map_or((String::new(), TOP), |(path, &id)| (path.clone(), id))
        };
        let (parent_path, parent) = pick(random, model);
        let name = "n".repeat(1 + next(random) as usize % 250);
        let path = format!("{parent_path}/{name}");
        match next(random) % 4 {
            0 | 1 if model.len() < 64 && !model.contains_key(&path) => {
                let id = tree.insert(parent, name.as_bytes(), 0);
                tree.set_wd(id, 1 + (next(random) % 128) as i32);
                model.insert(path, id);
            }
            2 => {
                let (old, id) = pick(random, model);
                if id != TOP && !tree.is_at_or_above(id, parent) && !model.contains_key(&path) {
                    tree.rename(id, parent, name.as_bytes());
                    let below = format!("{old}/");
                    let moved: Vec<_> = model
                        .iter()
                        .filter(|(at, _)| **at == old || at.starts_with(&below))
                        .map(|(at, &id)| (at.clone(), id))
                        .collect();
                    model.retain(|at, _| moved.iter().all(|(old, _)| old != at));
                    model.extend(
                        moved.into_iter().map(|(at, id)| (format!("{path}{}", &at[old.len()..]), id)),
                    );
                }
            }
            _ => {
                if parent != TOP && !tree.has_children(parent) {
                    tree.free(parent);
                    model.remove(&parent_path);
                }
            }
        }
    }

    fn compare(tree: &Tree, model: &BTreeMap<String, NodeId>, seed: u64) {
        assert_eq!(tree.len(), model.len() + 1, "seed {seed}");
        assert!(tree.id_bound() <= 66, "seed {seed}: freed nodes are used again");
        for (expected, &id) in model {
            assert_eq!(&path(tree, id), expected, "seed {seed}");
            assert_eq!(tree.find(expected.as_bytes()), Some(id), "seed {seed}");
            let all = tree.all_by_wd(tree.wd(id));
            assert!(all.contains(&id), "seed {seed}");
            assert_eq!(tree.has(id, SHARED), all.len() > 1, "seed {seed}");
        }
        assert_eq!(tree.subtree(TOP).len(), tree.len(), "seed {seed}");
    }
}
