//! A tree that keeps the queue full is watched apart: by a watcher with a queue of its own.
//!
//! Whoever overflows the queue costs all trees their events. These are found again ([`super::recover`]), but late. A
//! tree that does it again before the first time is made up for is given to another watcher, as if it were another
//! filesystem ([`super::territory`]), until it is calm. What has changed meanwhile is found as after an overflow, so
//! nothing is lost on the way there and back.
//!
//! Between a tree that is apart and the others, a rename is a going and a coming.
//!
//! Owns which tree it is. Leaves to [`crate::Inotify`] whether there is a watcher for it, and how long.

use std::time::{Instant, SystemTime};

use hashbrown::HashMap;

use super::Watcher;
use super::recover::SLACK;
use super::roots::Reason;
use super::territory::Elsewhere;
use crate::cover::{EMPTY, RootId};
use crate::decode;
use crate::path::is_at_or_below;
use crate::spec::{News, Sink};
use crate::tree::NodeId;

/// Numbers from here on stand for trees that are watched apart, where others stand for filesystems: no device has such
/// a one.
pub(crate) const APART: u64 = u64::MAX - u32::MAX as u64;

impl Watcher {
    /// The queue has overflowed again and again: asks for a queue for the tree that most of its events are about.
    pub(super) fn look_for_storm(&mut self) {
        let Some(path) = self.stormy_tree().and_then(|top| self.path_of(top)).map(<[u8]>::to_vec) else {
            return;
        };
        if self.may_be_apart(&path) {
            self.territory.ask_apart(path);
        }
    }

    /// The top of the tree that most events of the last read are about, if there are other trees.
    fn stormy_tree(&self) -> Option<NodeId> {
        if self.territory.is_everywhere() || self.uppermost_roots().len() < 2 {
            return None;
        }
        let (mut rest, mut all) = (self.reading.last(), 0_usize);
        let mut events: HashMap<NodeId, usize> = HashMap::new();
        while let Some((event, len)) = decode::first(rest) {
            rest = &rest[len..];
            all += 1;
            let node = self.tree.by_wd(event.wd);
            if let Some(node) = node.filter(|&node| self.tree.cover(node) != EMPTY && self.is_reachable(node))
            {
                *events.entry(self.tree_of(node)).or_default() += 1;
            }
        }
        let (top, most) = events.into_iter().max_by_key(|&(_, count)| count)?;
        (2 * most >= all).then_some(top)
    }

    /// Whether another watcher can do all that is done for this tree: the paths of its roots are fixed, and lead to no
    /// filesystem that may not be asked.
    fn may_be_apart(&self, path: &[u8]) -> bool {
        let roots = self.roots_within(path);
        let is_fixed = |root: &RootId| {
            let root = self.root(*root);
            root.pattern.is_none() && root.of_pattern.is_none()
        };
        let has_points = |root: &RootId| self.territory.has_points_within(self.root(*root).real_path());
        !roots.is_empty() && roots.iter().all(is_fixed) && !roots.iter().any(has_points)
    }

    fn roots_within(&self, path: &[u8]) -> Vec<RootId> {
        self.root_ids().into_iter().filter(|&root| is_at_or_below(&self.root(root).path, path)).collect()
    }

    /// Gives a tree away.
    pub(crate) fn set_apart(&mut self, to: Elsewhere, now: Instant, sink: &mut impl Sink) {
        self.now = now;
        let roots = self.roots_within(&to.point);
        let tops: Vec<NodeId> = roots.iter().filter_map(|&root| self.root(root).node).collect();
        self.territory.set_apart(to);
        self.recheck.extend(roots.into_iter().map(|root| (root, Reason::Moved)));
        self.settle_roots(sink);
        // The rest of the tree is unwatched in its time, but this is where most of the storm comes from.
        for top in tops {
            if self.tree.is_cut(top) {
                self.release_object(top);
            }
        }
    }

    /// Takes a tree back that was given away and is calm now: nothing of it is queued.
    pub(crate) fn take_in(&mut self, device: u64, now: Instant, sink: &mut impl Sink) {
        self.now = now;
        self.territory.take_in(device);
        let away = self.root_ids().into_iter().filter(|&root| self.root(root).away() == Some(device));
        for root in away.collect::<Vec<_>>() {
            self.root_mut(root).news = Some(News::Since(SystemTime::now() - SLACK));
            self.recheck.push((root, Reason::Appeared));
        }
        self.settle_roots(sink);
    }
}
