//! Telling an event to the watches that see it, each under its own root.

use event::{Event, Mask};

use super::Watcher;
use super::roots::Root;
use crate::cover::RootId;
use crate::path::push;
use crate::spec::{Sink, WatchId};
use crate::tree::{NodeId, SHARED, Tree};

/// What the original appends to the path of an object that went where it can't be followed.
const UNKNOWN_PATH: &[u8] = b"-unknown-path";

/// Paths under construction. Events cluster, so the path of the last directory is kept.
#[derive(Default)]
pub(super) struct Paths {
    node: Option<NodeId>,
    /// Path of `node`, behind it the name of the event at hand.
    bytes: Vec<u8>,
    dir_len: usize,
    given: Vec<u8>,
    /// Watches that were told the event at hand, where an inode is seen from several places.
    told: Vec<WatchId>,
}

impl Paths {
    /// Called whenever a path may have changed.
    pub(super) fn forget(&mut self) {
        self.node = None;
    }

    /// The directory of the last event, while its path is as it was.
    pub(super) fn node(&self) -> Option<NodeId> {
        self.node
    }

    /// The path that was put together last.
    pub(super) fn current(&self) -> &[u8] {
        &self.bytes
    }

    /// A new event begins: nobody was told yet.
    pub(super) fn told_clear(&mut self) {
        self.told.clear();
    }

    /// Whether the watch is told the event at hand for the first time.
    fn is_first_for(&mut self, watch: WatchId) -> bool {
        let first = !self.told.contains(&watch);
        if first {
            self.told.push(watch);
        }
        first
    }

    /// Puts the path of another node together; false if it has none any more.
    fn turn_to(&mut self, node: NodeId, tree: &Tree) -> bool {
        let found = tree.path(node, &mut self.bytes);
        self.node = found.then_some(node);
        self.dir_len = self.bytes.len();
        found
    }

    /// The event at hand as it looks from a root.
    fn event<'a>(&'a mut self, told: &Told<'a>, wd: i32, root: &Root) -> Event<'a> {
        let given_path = match &root.given {
            None => None,
            Some(given) => {
                given_path(given, &self.bytes[root.shown_len..self.dir_len], &mut self.given);
                Some(&self.given[..])
            }
        };
        Event {
            mask: told.mask,
            wd,
            cookie: told.cookie,
            is_dir: told.is_dir,
            synthetic: told.synthetic,
            pathname: &self.bytes,
            name_len: told.name.len() as u16,
            root_len: root.shown_len as u16,
            given_path,
            src_pathname: told.source,
        }
    }
}

/// An event without its place.
#[derive(Clone, Copy)]
pub(super) struct Told<'a> {
    pub(super) mask: Mask,
    pub(super) cookie: u32,
    pub(super) is_dir: bool,
    pub(super) synthetic: bool,
    /// Name inside the directory; empty for the watched object itself.
    pub(super) name: &'a [u8],
    /// It went where it can't be followed: its path is told with [`UNKNOWN_PATH`].
    pub(super) lost: bool,
    pub(super) source: Option<&'a [u8]>,
    /// Only this root's watch is told.
    pub(super) only: Option<RootId>,
}

impl<'a> Told<'a> {
    pub(super) fn real(mask: Mask, name: &'a [u8]) -> Told<'a> {
        Told {
            mask,
            cookie: 0,
            is_dir: mask.is_dir(),
            synthetic: false,
            name,
            lost: false,
            source: None,
            only: None,
        }
    }

    pub(super) fn arrival(mask: Mask, name: &'a [u8], only: Option<RootId>) -> Told<'a> {
        Told { synthetic: true, only, ..Told::real(mask, name) }
    }
}

impl Watcher {
    /// The absolute path of a node, `None` if it has none any more.
    #[inline]
    pub(super) fn path_of(&mut self, node: NodeId) -> Option<&[u8]> {
        if self.paths.node != Some(node) && !self.paths.turn_to(node, &self.tree) {
            return None;
        }
        self.paths.bytes.truncate(self.paths.dir_len);
        Some(&self.paths.bytes)
    }

    /// The path of an entry; of the node itself if `name` is empty.
    pub(super) fn path_in(&mut self, node: NodeId, name: &[u8]) -> Option<&[u8]> {
        self.path_of(node)?;
        if !name.is_empty() {
            push(&mut self.paths.bytes, name);
        }
        Some(&self.paths.bytes)
    }

    /// Tells an event at all places of an object, each watch once.
    pub(super) fn tell_all(&mut self, nodes: &[NodeId], told: &Told<'_>, sink: &mut impl Sink) {
        // Also for a single place: others that share the wd may just have been cut off.
        self.paths.told_clear();
        for &node in nodes {
            self.tell(node, told, sink);
        }
    }

    /// Tells an event at one place; each watch once since the caller has called `told_clear`.
    pub(super) fn tell(&mut self, node: NodeId, told: &Told<'_>, sink: &mut impl Sink) {
        let flag = told.mask.without(Mask::ISDIR);
        let cover = self.tree.cover(node);
        if !self.covers.wants(cover).interest.intersects(flag) {
            return;
        }
        if self.is_own(node, told.name) || self.path_in(node, told.name).is_none() {
            return;
        }
        if told.lost {
            self.paths.bytes.extend_from_slice(UNKNOWN_PATH);
        }
        let wd = self.tree.wd(node);
        let several = self.covers.wants(cover).repeats || self.tree.has(node, SHARED);
        let is_theirs = !self.newcomers.is_empty() && self.is_passed_over(node);
        for &id in self.covers.roots(cover) {
            let root = self.roots[usize::from(id.0)].as_ref().expect("sets hold only roots that exist");
            let watch = self.watches[root.watch.0 as usize].as_ref().expect("a root's watch exists");
            // An excluded root is silent, though what lies below it is not.
            let silent = root.silent && root.node == Some(node);
            let meant = match told.only {
                Some(only) => only == id,
                None => !(is_theirs && self.newcomers.contains(&root.watch)),
            };
            let wanted = meant && watch.interest.intersects(flag);
            if silent || !wanted || (several && !self.paths.is_first_for(root.watch)) {
                continue;
            }
            sink.event(root.watch, &self.paths.event(told, wd, root));
            self.stats.delivered += 1;
            self.stats.synthetic += u64::from(told.synthetic);
        }
    }

    /// Entries that are nobody's business: our own temporary files. Anybody can give a file such a name; ours are those
    /// to which we gave it, where we did.
    pub(super) fn is_own(&mut self, node: NodeId, name: &[u8]) -> bool {
        name.first() == Some(&b'.')
            && (self.options.own_name)(name)
            && self.identity(node, b"").is_none_or(|directory| (self.options.own_entry)(directory, name))
    }

    /// Device and inode of an entry, or of the directory itself.
    pub(super) fn identity(&mut self, node: NodeId, name: &[u8]) -> Option<(u64, u64)> {
        let stat = if name.is_empty() && self.may_ask(node, name) {
            // A root may be a link.
            rustix::fs::stat(self.path_of(node)?).ok()?
        } else {
            self.status_of(node, name).ok()?
        };
        Some((stat.st_dev, stat.st_ino))
    }
}

/// The directory's path as the configuration would give it: the root as given, and what follows.
pub(super) fn given_path(given: &[u8], below: &[u8], path: &mut Vec<u8>) {
    path.clear();
    let below = below.strip_prefix(b"/").unwrap_or(below);
    if given != b"." || below.is_empty() {
        path.extend_from_slice(given);
    }
    if !below.is_empty() {
        if !path.is_empty() {
            path.push(b'/');
        }
        path.extend_from_slice(below);
    }
}
