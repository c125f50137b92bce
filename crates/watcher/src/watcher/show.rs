//! What there is to see of watches from outside, and looks that people ask for.

use std::time::{Duration, Instant};

use hashbrown::HashSet;

use super::Watcher;
use super::place::Kind;
use super::tell::given_path;
use super::walk::Walk;
use crate::cover::RootId;
use crate::kernel::Refusal;
use crate::lookup::Unfound;
use crate::path::{is_at_or_below, parent_and_name};
use crate::spec::{RootState, Sighting, Sink, WatchId, WatchState};
use crate::tree::NodeId;

/// What a rescan tells.
enum ToTell {
    /// All that is in a directory.
    Below(NodeId),
    /// A file: its directory and its name, or a root that is a file, without a name.
    File(NodeId, Vec<u8>),
}

impl Watcher {
    /// How a watch stands.
    pub fn watch_state(&self, id: WatchId) -> WatchState {
        let Some(watch) = self.watch(id) else { return WatchState::default() };
        let matched: HashSet<RootId> =
            watch.roots.iter().filter_map(|&root| self.root(root).of_pattern).collect();
        let roots = watch.roots.iter().filter_map(|&id| {
            let state = self.root_state(id, matched.contains(&id))?;
            Some((self.root(id).path.clone(), state))
        });
        let kernel_watches = self.covers.watched_nodes(&self.covers.of_roots(&watch.roots));
        WatchState { kernel_watches, roots: roots.collect() }
    }

    /// `None` for a pattern that something matches, which is a root by itself.
    fn root_state(&self, id: RootId, is_matched: bool) -> Option<RootState> {
        let root = self.root(id);
        if root.pattern.is_some() && root.away().is_none() {
            return (!is_matched).then_some(RootState::Waiting);
        }
        let hit_limit = |unfound: &Unfound| unfound.refusal() == Refusal::Limit;
        let is_limited = || self.starved.count > 0 && self.covers.has_starved(&self.covers.of_roots(&[id]));
        Some(match root.node {
            _ if root.away().is_some() => RootState::Elsewhere,
            Some(_) if is_limited() => RootState::Limited,
            Some(_) => RootState::Watched,
            None if root.failed().is_some_and(hit_limit) => RootState::Limited,
            None => RootState::Waiting,
        })
    }

    /// Whether [`Watcher::rescan`] of a path has something to tell.
    pub fn can_rescan(&mut self, path: &[u8]) -> bool {
        self.root_ids().into_iter().any(|root| self.seen_at(root, Some(path)).is_some())
    }

    /// Tells everything at and below a path, or below all roots, as arrivals; how many trees are gone through. One that
    /// is being gone through already begins anew.
    pub fn rescan(&mut self, path: Option<&[u8]>, now: Instant, sink: &mut impl Sink) -> usize {
        self.now = now;
        let mut trees = 0;
        for root in self.root_ids() {
            let Some(found) = self.seen_at(root, path) else { continue };
            trees += 1;
            match found {
                ToTell::Below(node) => self.rescan_tree(root, node),
                ToTell::File(node, name) => self.file_arrived(node, None, &name, Some(root), sink),
            }
        }
        trees
    }

    /// What a root sees at and below a path.
    fn seen_at(&mut self, id: RootId, path: Option<&[u8]>) -> Option<ToTell> {
        let root = self.root(id);
        let (node, own) = (root.node?, &root.path[..]);
        match path {
            Some(path) if path != own && is_at_or_below(path, own) => self.seen_below(id, path),
            Some(path) if !is_at_or_below(own, path) => None,
            Some(_) | None if root.is_dir => Some(ToTell::Below(node)),
            Some(_) | None => Some(ToTell::File(node, Vec::new())),
        }
    }

    fn seen_below(&mut self, root: RootId, path: &[u8]) -> Option<ToTell> {
        let sees = |watcher: &Watcher, node: NodeId| {
            watcher.tree.wd(node) != 0 && watcher.covers.roots(watcher.tree.cover(node)).contains(&root)
        };
        if let Some(node) = self.tree.find(path).filter(|&node| sees(self, node)) {
            return Some(ToTell::Below(node));
        }
        let (parent, name) = parent_and_name(path)?;
        let parent = self.tree.find(parent).filter(|&parent| sees(self, parent))?;
        let stat = self.status_of(parent, name).ok()?;
        let is_dir = rustix::fs::FileType::from_raw_mode(stat.st_mode).is_dir();
        (!is_dir).then(|| ToTell::File(parent, name.to_vec()))
    }

    fn rescan_tree(&mut self, root: RootId, node: NodeId) {
        let is_same = |walk: &Walk| {
            walk.kind() == Kind::Rescan && walk.audience() == Some(root) && walk.top().0 == node
        };
        self.walks.retain(|walk| !is_same(walk));
        self.start_walk(node, self.tree.wd(node), None, Kind::Rescan, Some(root));
    }

    /// The watches that see a path, each once, and as what.
    pub fn sightings(&mut self, path: &[u8]) -> Vec<Sighting> {
        let mut found: Vec<Sighting> = Vec::new();
        let parent = parent_and_name(path).and_then(|(parent, name)| Some((self.tree.find(parent)?, name)));
        let places = parent.into_iter().chain(self.tree.find(path).map(|node| (node, &b""[..])));
        for (node, name) in places.filter(|(node, _)| self.tree.wd(*node) != 0).collect::<Vec<_>>() {
            let Some(directory) = self.path_of(node).map(<[u8]>::to_vec) else { continue };
            for &id in self.covers.roots(self.tree.cover(node)) {
                let root = self.root(id);
                let is_silent = root.silent && root.node == Some(node);
                // Of itself a directory tells only as a root.
                let is_meant = !name.is_empty() || root.node == Some(node);
                if is_silent || !is_meant || found.iter().any(|other| other.watch == root.watch) {
                    continue;
                }
                let given_path = root.given.as_ref().map(|given| {
                    let mut path = Vec::new();
                    given_path(given, &directory[root.shown_len.min(directory.len())..], &mut path);
                    path
                });
                let (watch, wd) = (root.watch, self.tree.wd(node));
                let (root_len, name_len) = (root.shown_len as u16, name.len() as u16);
                found.push(Sighting { watch, wd, root_len, name_len, given_path });
            }
        }
        found
    }

    /// See [`crate::Source::told`].
    pub fn told(&self) -> u64 {
        self.worked_off()
    }

    /// See [`crate::Source::queued`].
    pub fn queued(&self) -> u64 {
        self.worked_off_after_all()
    }

    /// How many events must have been read until all that are queued now have been, however long the queue stays.
    pub fn events_after_all(&self) -> u64 {
        self.read_after_all()
    }

    /// How long the oldest event that is not read waits, at most. Asks the kernel.
    pub fn lag(&self, now: Instant) -> Duration {
        let since = self.unread_since(self.kernel.queued_bytes());
        since.map_or(Duration::ZERO, |since| now.saturating_duration_since(since))
    }

    /// Whether nothing is under way but what waits for its time.
    pub fn is_quiet(&self) -> bool {
        !self.has_background() && self.settling.is_empty() && !self.recovery.runs()
    }
}
