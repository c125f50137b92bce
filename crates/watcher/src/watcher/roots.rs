//! Roots: the configured paths. A root is a path, not an inode: it is bound to whatever stands there, waits while
//! nothing does, and is bound anew, with arrivals, when something comes back.
//!
//! What can happen to a path without an event of its own object (its parent is renamed, a link on the way is exchanged)
//! is learned from its ancestors, which are watched for their own moves and ends; the nearest one also for the one
//! name that matters. Whether anything changed is then asked of the kernel: adding a watch gives the same wd or not.

use std::os::fd::{AsFd as _, AsRawFd as _};
use std::time::SystemTime;

use event::{Flag, Mask};
use rustix::fs::{FileType, Mode, OFlags};
use rustix::io::Errno;

use super::arrive::object_changed_since;
use super::patterns::{Configured, Pattern};
use super::place::{Kind, LOOKS};
use super::tell::Told;
use super::territory::{Elsewhere, Handed};
use super::walk::{Frame, TICK, Walk};
use super::{Watch, Watcher};
use crate::cover::{EMPTY, RootId};
use crate::error::Error;
use crate::kernel::Refusal;
use crate::lookup::{self, ForeignLink, Found, RealPath, Unfound, real_path};
use crate::notice::Notice;
use crate::spec::{News, Problem, Sink, WatchId, WatchSpec};
use crate::tree::{GUARD, MOVING, NodeId, ROOT, SHARED, TOP};
use crate::{glob, path};

/// A configured path.
#[expect(clippy::struct_excessive_bools, reason = "independent facts, most of them as configured")]
pub(super) struct Root {
    pub(super) watch: WatchId,
    /// Absolute and normal.
    pub(super) path: Vec<u8>,
    /// As configured, where that is relative.
    pub(super) given: Option<Vec<u8>>,
    rec: bool,
    pub(super) auto_add: bool,
    /// What it is bound to.
    pub(super) node: Option<NodeId>,
    pub(super) is_dir: bool,
    is_link: bool,
    /// The watch's own filter excludes it: its entries' events are not told, what lies below is watched.
    pub(super) silent: bool,
    /// Ancestors that are watched for it.
    guards: Vec<NodeId>,
    /// Nothing stands there, and that was said.
    missing: bool,
    /// It was bound before, or waited for: what is found there is told.
    pub(super) waited: bool,
    /// The last error that was said.
    failed: Option<Unfound>,
    /// The filesystem that it was handed over to, by its device.
    away: Option<u64>,
    /// What is told when it is bound next, if that is not for itself to say.
    pub(super) news: Option<News>,
    /// Of what is there when it is bound for the first time, only its own entries are told and watched.
    pub(super) shallow: bool,
    /// It is a pattern, which is never bound: for each path that matches it there is a root.
    pub(super) pattern: Option<Pattern>,
    /// The pattern that it matches.
    pub(super) of_pattern: Option<RootId>,
    /// How much of the path is what was configured: all but for a filesystem inside of a tree.
    pub(super) shown_len: usize,
}

impl Root {
    /// Whether subdirectories that exist are watched when it is bound.
    pub(super) fn descends(&self) -> bool {
        self.rec && self.is_dir && !self.is_link
    }

    /// The filesystem that it was handed over to.
    pub(super) fn away(&self) -> Option<u64> {
        self.away
    }

    /// Why nothing is bound, if that was said.
    pub(super) fn failed(&self) -> Option<&Unfound> {
        self.failed.as_ref()
    }

    /// Whether subdirectories that come later are watched.
    pub(super) fn takes_new(&self) -> bool {
        self.auto_add
    }
}

/// What an ancestor is watched for.
pub(super) struct Guard {
    root: RootId,
    mask: u32,
    /// The entry on the way to the root.
    next: Box<[u8]>,
}

/// Why a root is looked at again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Reason {
    /// Its name was deleted; the object may still send its last events.
    Deleted,
    /// Its object is gone.
    Gone,
    /// It, or one of its ancestors, was renamed or covered: its object must not be told of under this path.
    Moved,
    /// Something may stand there (again).
    Appeared,
}

/// An ancestor moves or ends.
pub(super) const SELF: Mask = Mask(Flag::MoveSelf.mask().0 | Flag::DeleteSelf.mask().0);
/// Something takes a name.
pub(super) const COMES: Mask = Mask(Flag::Create.mask().0 | Flag::MovedTo.mask().0);
/// How many paths can be numbered.
pub(super) const ROOTS_MAX: usize = u16::MAX as usize;
/// How often a root that changes under our hands is looked at before the next event does.
const TRIES: usize = 4;

impl Watcher {
    /// Watches what `spec` says; returns when all of it is watched that may be asked about. See `Watcher::begin`.
    ///
    /// # Errors
    /// [`Error::TooManyRoots`] if there are more than 65,535 paths in all.
    pub fn add(
        &mut self,
        spec: &WatchSpec,
        now: std::time::Instant,
        sink: &mut impl Sink,
    ) -> Result<WatchId, Error> {
        let id = self.free_watch();
        self.begin(id, spec, now, sink)?;
        // What is put off waits for events, which are not read here.
        while self.renewal.is_some() || self.walks.iter().any(Walk::is_setting_up) {
            self.units = u32::MAX;
            self.set_up_further(sink);
        }
        self.units = 0;
        self.set_up_further(sink);
        Ok(id)
    }

    /// Begins to watch what `spec` says, under a number that is free. It is watched as a whole when
    /// [`Watcher::is_set_up`] says so; events that happen from then on are told by [`Watcher::turn`], and some of those
    /// before.
    ///
    /// Paths that can't be watched are told as notices and waited for; they are no error.
    ///
    /// # Errors
    /// [`Error::TooManyRoots`] if there are more than 65,535 paths in all.
    pub(crate) fn begin(
        &mut self,
        id: WatchId,
        spec: &WatchSpec,
        now: std::time::Instant,
        sink: &mut impl Sink,
    ) -> Result<(), Error> {
        self.now = now;
        let paths = self.resolve(spec);
        if let Some(first) = paths.first().filter(|_| self.roots.len() + paths.len() > ROOTS_MAX) {
            return Err(Error::TooManyRoots { path: first.path.clone(), max: ROOTS_MAX });
        }
        self.insert_watch(id, spec);
        for Configured { path, given, pattern } in paths {
            let root = self.insert_root(id, path, given);
            self.root_mut(root).pattern = pattern;
        }
        self.welcome();
        for root in self.watch(id).map(|watch| watch.roots.clone()).unwrap_or_default() {
            self.set_up_root(root, sink);
        }
        Ok(())
    }

    /// Knows a watch, whose paths are handed over one by one.
    pub(crate) fn know(&mut self, id: WatchId, spec: &WatchSpec, now: std::time::Instant) {
        self.now = now;
        self.insert_watch(id, spec);
    }

    /// A number that no watch has.
    pub(crate) fn free_watch(&self) -> WatchId {
        let free = self.watches.iter().position(Option::is_none);
        WatchId(free.unwrap_or(self.watches.len()) as u32)
    }

    /// Binds a new root for the first time.
    pub(super) fn set_up_root(&mut self, root: RootId, sink: &mut impl Sink) {
        if self.root(root).pattern.is_some() {
            self.expand_pattern(root, sink);
            self.root_mut(root).waited = true;
            return;
        }
        self.setting_up.push(root);
        self.recheck_root(root, Reason::Appeared, sink);
        self.root_mut(root).waited = true;
        self.settle_roots(sink);
        if self.root(root).node.is_none() {
            // What comes later is new as a whole.
            self.root_mut(root).news = None;
        }
        self.say_limit(sink);
        self.open_parent = None;
    }

    /// Whether all of a watch is watched that may be asked about here.
    pub fn is_set_up(&self, watch: WatchId) -> bool {
        let is_its = |root: RootId| self.root(root).watch == watch;
        self.renewal.is_none() && !self.setting_up.iter().any(|&root| is_its(root))
    }

    /// Whether a root that is bound to the node is being set up.
    pub(super) fn is_set_up_at(&self, node: NodeId) -> bool {
        self.setting_up.iter().any(|&root| self.root(root).node == Some(node))
    }

    /// Goes on with what is being set up.
    pub(super) fn set_up_further(&mut self, sink: &mut impl Sink) {
        self.settle_roots(sink);
        self.run_walks(sink);
        self.renew_masks();
        if self.setting_up.is_empty() {
            return;
        }
        let under_way = self.walks.iter().chain(self.doubts.walks()).filter(|walk| walk.is_setting_up());
        let under_way: Vec<RootId> = under_way.filter_map(Walk::audience).collect();
        let done = self.setting_up.extract_if(.., |root| !under_way.contains(root)).collect::<Vec<_>>();
        let nodes: Vec<NodeId> = done.into_iter().filter_map(|root| self.root(root).node).collect();
        for node in nodes {
            if self.mask_for(node) & LOOKS != 0 {
                self.renew_mask(node);
            }
        }
        self.say_limit(sink);
    }

    /// Another watcher may not ask about this path of a watch: it is watched here.
    pub(crate) fn take_over(&mut self, handed: Handed, sink: &mut impl Sink) {
        let Handed { watch, path, root_len, given, is_root, news } = handed;
        if self.watch(watch).is_none() || self.roots.len() >= ROOTS_MAX {
            return;
        }
        let is_pattern = is_root && glob::has_magic(&path) && rustix::fs::lstat(&path[..]).is_err();
        let pattern = is_pattern.then(|| match &given {
            Some(given) => Pattern::new(&self.options.cwd, given),
            None => Pattern::new(b"/", &path),
        });
        let root = self.insert_root(watch, path, given);
        let this = self.root_mut(root);
        (this.shown_len, this.news, this.pattern) = (root_len, Some(news), pattern);
        // What is inside of a tree is entered as the rest of the tree is.
        this.rec |= !is_root;
        this.shallow &= is_root;
        self.welcome();
        self.set_up_root(root, sink);
    }

    /// A path that was taken over is not watched here any more.
    pub(crate) fn give_back(&mut self, watch: WatchId, path: &[u8], sink: &mut impl Sink) {
        let Some(Some(of)) = self.watches.get_mut(watch.0 as usize) else { return };
        let all = &self.roots;
        let is_it = |root: &RootId| all[usize::from(root.0)].as_ref().is_some_and(|root| root.path == path);
        // A pattern goes with what matches it.
        let own: Vec<RootId> = of.roots.iter().copied().filter(is_it).collect();
        let is_of = |root: &RootId| {
            let of_pattern = all[usize::from(root.0)].as_ref().and_then(|root| root.of_pattern);
            own.contains(root) || of_pattern.is_some_and(|pattern| own.contains(&pattern))
        };
        let roots: Vec<RootId> = of.roots.extract_if(.., |root| is_of(root)).collect();
        for root in roots {
            self.remove_root(root);
        }
        self.update_masks();
        self.settle_roots(sink);
    }

    /// Whether anything is watched, or waited for.
    pub(crate) fn has_roots(&self) -> bool {
        self.roots.iter().any(Option::is_some)
    }

    /// What is wrong with the paths of `spec`, without watching or disturbing anything.
    pub fn check(&self, spec: &WatchSpec) -> Vec<(Vec<u8>, Problem)> {
        let mut problems = Vec::new();
        for configured in &spec.paths {
            let Configured { path, pattern, .. } = self.configured(configured);
            let found = pattern.as_ref().map_or_else(
                || vec![path],
                |pattern| self.matches(pattern).into_iter().map(|found| found.path).collect(),
            );
            if found.is_empty() {
                problems.push((configured.clone(), Problem::NoMatch));
            }
            for path in found {
                if self.territory.elsewhere(&path).is_some() {
                    continue;
                }
                match watchable(&path) {
                    Ok(()) => {}
                    Err(Errno::NOENT | Errno::NOTDIR) => problems.push((path, Problem::Missing)),
                    Err(errno) => problems.push((path, Problem::CannotWatch(errno))),
                }
            }
        }
        problems
    }

    /// Ends a watch. Events that are still queued for it are not told any more.
    pub fn remove(&mut self, id: WatchId, sink: &mut impl Sink) {
        let Some(watch) = self.watches.get_mut(id.0 as usize).and_then(Option::take) else { return };
        for root in watch.roots {
            self.remove_root(root);
        }
        self.update_masks();
        self.settle_roots(sink);
    }

    pub(super) fn remove_root(&mut self, root: RootId) {
        self.take_back(root);
        self.unbind(root);
        self.release_guards(root);
        self.walks.retain(|walk| walk.audience() != Some(root));
        self.doubts.forget_walks_for(root);
        self.settling.retain(|settling| settling.audience != Some(root));
        self.recheck.retain(|&(other, _)| other != root);
        self.setting_up.retain(|&other| other != root);
        self.stale_patterns.retain(|&other| other != root);
        self.roots[usize::from(root.0)] = None;
    }

    fn insert_watch(&mut self, id: WatchId, spec: &WatchSpec) {
        let watch = Watch {
            interest: spec.interest,
            rec: spec.rec,
            auto_add: spec.auto_add,
            exclude: spec.exclude.clone(),
            initial: spec.initial,
            roots: Vec::new(),
        };
        let at = id.0 as usize;
        if self.watches.len() <= at {
            self.watches.resize_with(at + 1, || None);
        }
        self.watches[at] = Some(watch);
    }

    /// Adds a path to a watch that exists.
    pub(super) fn insert_root(&mut self, watch: WatchId, path: Vec<u8>, given: Option<Vec<u8>>) -> RootId {
        let of = self.watches[watch.0 as usize].as_ref().expect("the caller has inserted it");
        let silent = of.exclude.as_ref().is_some_and(|exclude| exclude(&path));
        let root = Root {
            watch,
            shown_len: path.len(),
            path,
            given,
            rec: of.rec,
            auto_add: of.auto_add,
            node: None,
            is_dir: true,
            is_link: false,
            silent,
            guards: Vec::new(),
            missing: false,
            waited: false,
            failed: None,
            away: None,
            news: of.initial,
            shallow: of.initial.is_some() && !of.rec,
            pattern: None,
            of_pattern: None,
        };
        let free = self.roots.iter().position(Option::is_none).unwrap_or_else(|| {
            self.roots.push(None);
            self.roots.len() - 1
        });
        self.roots[free] = Some(root);
        let id = RootId(free as u16);
        self.watches[watch.0 as usize].as_mut().expect("is still there").roots.push(id);
        id
    }

    /// The paths that a watch has, each once.
    fn resolve(&self, spec: &WatchSpec) -> Vec<Configured> {
        let mut all: Vec<Configured> = Vec::new();
        for configured in &spec.paths {
            let new = self.configured(configured);
            if all.iter().all(|other| other.path != new.path) {
                all.push(new);
            }
        }
        all
    }

    /// What one configured path means. What exists by its very name is no pattern.
    ///
    /// Differs: a missing path is waited for, and `[` in a real name is no pattern
    /// (`a_missing_root_is_waited_for`, `a_bracket_in_a_real_name_is_no_pattern`).
    fn configured(&self, configured: &[u8]) -> Configured {
        let cwd = &self.options.cwd;
        let path = path::absolute(cwd, configured);
        let is_relative = !configured.starts_with(b"/");
        let may_ask = |path: &[u8]| self.territory.elsewhere(path).is_none();
        // What the pattern is about is asked for by the watcher of that filesystem.
        let is_pattern = glob::has_magic(configured)
            && may_ask(&glob::literal_prefix(&path))
            && !(may_ask(&path) && rustix::fs::lstat(&path[..]).is_ok());
        let given = is_relative.then(|| path::normal_relative(configured));
        let pattern = is_pattern.then(|| Pattern::new(cwd, configured));
        Configured { path, given, pattern }
    }

    /// The paths that a pattern matches now.
    pub(super) fn matches(&self, pattern: &Pattern) -> Vec<Configured> {
        let found = pattern.expand(|path| self.territory.elsewhere(path).is_none());
        let found = found.into_iter().map(|found| pattern.configured(&found));
        found.collect()
    }

    /// Looks at all roots for which the event at hand gave a reason.
    pub(super) fn settle_roots(&mut self, sink: &mut impl Sink) {
        // Each look may give reasons to look at roots below. What is left after as many rounds waits for the next turn.
        let rounds = 8 + 4 * self.roots.len();
        for _ in 0..rounds {
            let Some((root, reason)) = self.recheck.pop() else { return };
            if self.roots[usize::from(root.0)].is_some() {
                self.recheck_root(root, reason, sink);
            }
        }
        self.recheck.sort_unstable();
        self.recheck.dedup();
    }

    /// Binds a root to what stands at its path now.
    pub(super) fn recheck_root(&mut self, root: RootId, reason: Reason, sink: &mut impl Sink) {
        if self.root(root).pattern.is_some() {
            return self.pattern_is_stale(root);
        }
        let path = self.root(root).path.clone();
        if let Some(elsewhere) = self.elsewhere(&path) {
            return self.hand_over(root, elsewhere, sink);
        }
        self.take_back(root);
        let mut guarded = false;
        for _ in 0..TRIES {
            match lookup::open(&self.root(root).path) {
                Ok(found) => match self.bind(root, &found, reason, sink) {
                    // Bound, and its ancestors watched: once more, for what happened in between.
                    Ok(true) => self.guard(root, sink),
                    Ok(false) => return,
                    Err(errno) if guarded => return self.root_failed(root, errno.into(), sink),
                    Err(_) => {
                        self.leave(root, reason, sink);
                        self.root_mut(root).missing = true;
                        self.guard(root, sink);
                        guarded = true;
                    }
                },
                Err(unfound) if guarded => return self.root_failed(root, unfound, sink),
                Err(unfound) => {
                    if reason != Reason::Deleted || unfound.refusal() != Refusal::Gone {
                        self.leave(root, reason, sink);
                    }
                    self.root_mut(root).missing = true;
                    self.guard(root, sink);
                    guarded = true;
                }
            }
        }
    }

    /// What the path leads to may not be asked about here: another watcher watches it.
    pub(super) fn hand_over(&mut self, root: RootId, to: Elsewhere, sink: &mut impl Sink) {
        if self.root(root).away == Some(to.device) {
            return;
        }
        self.take_back(root);
        // A tree that is watched apart is where it was: its tasks wait on.
        self.leave(root, if to.is_apart() { Reason::Gone } else { Reason::Moved }, sink);
        let initial = self.root_mut(root).news.take();
        let news = if self.root(root).waited && !to.is_apart() {
            News::Everything
        } else {
            let since = self.recovery.missing_since().filter(|_| to.is_apart());
            initial.unwrap_or_else(|| News::Since(since.unwrap_or_else(|| SystemTime::now() - TICK)))
        };
        let this = self.root_mut(root);
        (this.away, this.missing, this.failed) = (Some(to.device), false, None);
        let handed = Handed {
            watch: this.watch,
            path: this.path.clone(),
            root_len: this.shown_len,
            given: this.given.clone(),
            is_root: true,
            news,
        };
        self.territory.hand_over(handed, to);
        self.guard(root, sink);
    }

    pub(super) fn take_back(&mut self, root: RootId) {
        let this = self.root_mut(root);
        if this.away.take().is_some() {
            let (watch, path) = (this.watch, this.path.clone());
            self.territory.take_back(watch, &path);
        }
    }

    /// Parts a root from an object that is not at its path any more. What was below went with it, out of the watch's
    /// sight unless another of its roots sees it.
    fn leave(&mut self, root: RootId, reason: Reason, sink: &mut impl Sink) {
        if let Some(node) = self.root(root).node.filter(|_| reason == Reason::Moved) {
            let watch = self.root(root).watch;
            let above = self.tree.parent(node).map_or(EMPTY, |parent| self.tree.cover(parent));
            if !self.covers.roots(above).iter().any(|&other| self.root(other).watch == watch) {
                sink.renamed(watch, &self.root(root).path, None);
            }
        }
        self.unbind(root);
    }

    /// Binds the root to an open object. True if it was bound to another one or none before.
    fn bind(
        &mut self,
        root: RootId,
        found: &Found,
        reason: Reason,
        sink: &mut impl Sink,
    ) -> Result<bool, Errno> {
        // As for `mask_for`: our own listing of a root that is being set up is not told.
        let is_new = self.setting_up.contains(&root);
        let wants = if is_new { self.wants_of(root).kernel & !LOOKS } else { self.wants_of(root).kernel };
        let wd = self.kernel.add(found.object.as_fd(), wants)?;
        let bound = self.root(root).node;
        if bound.is_some_and(|node| self.tree.wd(node) == wd) {
            self.root_mut(root).missing = false;
            return Ok(false);
        }
        // Not yet the tree's: unbinding must not take it for a stray one, so it is watched again afterwards.
        self.leave(root, reason, sink);
        let wd = self.kernel.add(found.object.as_fd(), wants).unwrap_or(wd);
        let path = self.root(root).path.clone();
        let node = self.node_for(&path, wd);
        self.tree.set_wd(node, wd);
        self.tree.set(node, ROOT);
        let back = self.root(root).missing || self.root(root).failed.is_some();
        let this = self.root_mut(root);
        (this.node, this.is_dir, this.is_link) = (Some(node), found.is_dir, found.is_link);
        (this.missing, this.failed) = (false, None);
        let others = self.covers.roots(self.tree.cover(node)).to_vec();
        let cover = self.intern([&others[..], &[root]].concat());
        self.covers.assign(&mut self.tree, node, cover);
        // With what the others and the ancestors' guards want of the same inode.
        let _ = self.kernel.add(found.object.as_fd(), self.mask_for(node));
        self.root_bound(root, found, back, sink);
        Ok(true)
    }

    /// The node at a root's path, made if need be. A node there that watches another inode is out of date.
    fn node_for(&mut self, path: &[u8], wd: i32) -> NodeId {
        if let Some(old) = self.tree.find(path)
            && old != TOP
            && self.tree.wd(old) != 0
            && self.tree.wd(old) != wd
        {
            self.doom(old);
        }
        self.ensure(path)
    }

    /// The node at a path, with all nodes on the way there.
    fn ensure(&mut self, path: &[u8]) -> NodeId {
        let mut node = TOP;
        for name in path::components(path) {
            node = match self.tree.child(node, name) {
                Some(child) => {
                    self.tree.clear(child, MOVING);
                    child
                }
                // Roots that see its parent join when its own event comes.
                None => self.insert(node, name, EMPTY),
            };
        }
        node
    }

    /// A root was bound: says so if it was missed, and walks it.
    fn root_bound(&mut self, root: RootId, found: &Found, back: bool, sink: &mut impl Sink) {
        let path = self.root(root).path.clone();
        let waited = self.root(root).waited;
        if back && waited {
            self.say(Notice::RootBack { path: &path }, sink);
        }
        if let Some(fstype) = self.territory.unseen(&path) {
            self.say(Notice::BlindFilesystem { path: &path, fstype }, sink);
        }
        let node = self.root(root).node.expect("was just bound");
        let wd = self.tree.wd(node);
        let news = self.root_mut(root).news.take().or(waited.then_some(News::Everything));
        self.root_mut(root).shallow &= !waited;
        if !found.is_dir {
            let is_news = news.is_some_and(|news| match news {
                News::Everything => true,
                News::Since(since) => object_changed_since(found.object.as_fd(), since),
            });
            if is_news {
                self.file_root_found(root, node, sink);
            }
            return;
        }
        match news {
            Some(News::Everything) => self.start_walk(node, wd, None, Kind::Arrive, Some(root)),
            Some(News::Since(since)) => self.start_walk(node, wd, None, Kind::Recover { since }, Some(root)),
            None if self.root(root).descends() => {
                let fd = self.open_dir(node).ok();
                self.begin_set_up(Walk::new(Frame::new(node, wd, fd), Kind::Add, Some(root)), sink);
            }
            None => {}
        }
    }

    /// A root can't be bound: says so once.
    fn root_failed(&mut self, root: RootId, unfound: Unfound, sink: &mut impl Sink) {
        let path = self.root(root).path.clone();
        if let Unfound::Errno(errno) = unfound
            && Refusal::of(errno) == Refusal::Limit
        {
            self.starve_roots(errno, &path);
        }
        if let Some(pattern) = self.root(root).of_pattern
            && unfound.refusal() == Refusal::Gone
        {
            // What a pattern does not match any more is not waited for.
            return self.pattern_is_stale(pattern);
        }
        let this = self.root_mut(root);
        if this.failed.as_ref() == Some(&unfound) {
            return;
        }
        this.failed = Some(unfound.clone());
        this.missing = true;
        match (unfound.refusal(), unfound) {
            (Refusal::Gone, _) => {
                let at = self.nearest_guard(root);
                self.say(Notice::RootMissing { path: &path, waits_at: &at }, sink);
            }
            (Refusal::Limit, Unfound::Errno(Errno::NOSPC)) => {}
            (_, Unfound::Errno(source)) => self.say(Notice::CannotWatch { path: &path, source }, sink),
            (_, Unfound::ForeignLink(ForeignLink { link, owner, target_owner })) => {
                self.say(Notice::ForeignLink { path: &path, link: &link, owner, target_owner }, sink);
            }
        }
    }

    fn nearest_guard(&mut self, root: RootId) -> Vec<u8> {
        let path = self.root(root).path.clone();
        let guards = self.root(root).guards.clone();
        let mut best = b"/".to_vec();
        for guard in guards {
            if let Some(at) = self.path_of(guard).map(<[u8]>::to_vec)
                && path::is_at_or_below(&path, &at)
                && at.len() > best.len()
            {
                best = at;
            }
        }
        best
    }

    /// Watches the ancestors of a root for what can happen to it there.
    fn guard(&mut self, root: RootId, sink: &mut impl Sink) {
        let before = self.take_guards(root);
        let path = self.root(root).path.clone();
        let mut wanted = self.ways_to(root, &path);
        let may_ask = |path: &[u8]| self.territory.elsewhere(path).is_none();
        if let Some(RealPath { path: real, links }) =
            real_path(&path, may_ask).filter(|real| real.path != path)
        {
            self.territory.has_links = true;
            wanted.extend(self.ways_to(root, &real));
            // A link sends no event of its own: its directory does.
            let mask = (SELF | COMES | Flag::Delete).0;
            wanted.extend(links.into_iter().map(|(at, name)| (at, name.into_boxed_slice(), mask)));
        }
        for (at, next, mask) in wanted {
            if let Err(errno) = self.guard_one(root, &at, next, mask)
                && Refusal::of(errno) == Refusal::Limit
            {
                self.starve_roots(errno, &at);
            }
        }
        for node in before {
            self.prune(node);
        }
        self.say_limit(sink);
    }

    /// The directories above `path` that exist, each with the next name and what it is watched for.
    fn ways_to(&self, root: RootId, path: &[u8]) -> Vec<(Vec<u8>, Box<[u8]>, u32)> {
        let bound = self.root(root).node.is_some() && !self.root(root).missing;
        let mut ways: Vec<(Vec<u8>, Box<[u8]>, u32)> = Vec::new();
        let mut at = b"/".to_vec();
        for name in path::components(path) {
            if self.territory.elsewhere(&at).is_some() {
                break;
            }
            let is_dir = rustix::fs::stat(&at[..])
                .is_ok_and(|stat| FileType::from_raw_mode(stat.st_mode) == FileType::Directory);
            if !is_dir {
                break;
            }
            let mut next = at.clone();
            path::push(&mut next, name);
            ways.push((at, name.into(), SELF.0));
            at = next;
        }
        if let Some((_, _, mask)) = ways.last_mut() {
            let last = match (bound, self.root(root).is_dir) {
                (true, true) => Flag::Delete.mask(),
                (true, false) => Flag::Delete | Flag::MovedTo,
                (false, _) => COMES | Flag::Attrib,
            };
            *mask |= last.0;
        }
        ways
    }

    pub(super) fn guard_one(
        &mut self,
        root: RootId,
        at: &[u8],
        next: Box<[u8]>,
        mask: u32,
    ) -> Result<(), Errno> {
        let node = self.ensure(at);
        // Every ancestor knows of the root, even one that can't be watched.
        self.guards.entry(node).or_default().push(Guard { root, mask, next });
        self.tree.set(node, GUARD);
        self.root_mut(root).guards.push(node);
        let object = rustix::fs::open(at, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
        let only_guard = self.tree.cover(node) == EMPTY && !self.tree.has(node, SHARED);
        let known = self.tree.wd(node);
        let wd = self.kernel.add(object.as_fd(), self.mask_for(node))?;
        if known == 0 || (wd != known && only_guard) {
            self.release_object(node);
            self.tree.set_wd(node, wd);
        } else if wd != known {
            // A covered directory is out of date; its own events tell.
            self.end_stray(wd);
            return Ok(());
        }
        if only_guard && !self.tree.has(node, SHARED) {
            let _ = self.kernel.replace(object.as_fd(), self.mask_for(node));
        }
        Ok(())
    }

    pub(super) fn guard_mask(&self, node: NodeId) -> u32 {
        let guards =
            self.guards.get(&node).map_or(0, |guards| guards.iter().fold(0, |sum, guard| sum | guard.mask));
        let blocked = if self.blocked.contains_key(&node) { Flag::Attrib.mask().0 } else { 0 };
        guards | blocked
    }

    pub(super) fn take_guards(&mut self, root: RootId) -> Vec<NodeId> {
        let nodes = std::mem::take(&mut self.root_mut(root).guards);
        for &node in &nodes {
            let Some(guards) = self.guards.get_mut(&node) else { continue };
            guards.retain(|guard| guard.root != root);
            if guards.is_empty() {
                self.guards.remove(&node);
                if !self.blocked.contains_key(&node) {
                    self.tree.clear(node, GUARD);
                }
            }
        }
        nodes
    }

    fn release_guards(&mut self, root: RootId) {
        for node in self.take_guards(root) {
            self.prune(node);
        }
    }

    /// Frees a node that nobody needs any more, and its ancestors likewise.
    pub(super) fn prune(&mut self, node: NodeId) {
        let mut at = node;
        loop {
            if self.tree.has(at, GUARD | ROOT) || self.tree.cover(at) != EMPTY || self.tree.has_children(at) {
                return;
            }
            self.release_object(at);
            let Some(parent) = self.tree.parent(at) else { return };
            self.free_node(at);
            at = parent;
        }
    }

    /// An event of an ancestor.
    pub(super) fn guard_event(&mut self, node: NodeId, mask: Mask, name: &[u8], sink: &mut impl Sink) {
        let Some(guards) = self.guards.get(&node) else { return self.unblock(node, mask, name, sink) };
        let about_names = COMES | Flag::Delete | Flag::MovedFrom | Flag::Attrib;
        let about_itself = SELF | Flag::Unmount | Flag::Ignored | Flag::Attrib;
        for guard in guards {
            let root = self.root(guard.root);
            let is_next = || match &root.pattern {
                Some(_) => glob::is_match(&guard.next, name),
                None => *guard.next == *name,
            };
            let concerned = if name.is_empty() {
                mask.intersects(about_itself)
            } else {
                mask.intersects(about_names) && is_next()
            };
            if concerned {
                let is_object =
                    !root.is_link && root.node.is_some_and(|at| self.tree.parent(at) == Some(node));
                let reason = match mask.flag() {
                    Some(Flag::Delete) if is_object => Reason::Deleted,
                    Some(Flag::Create | Flag::MovedTo | Flag::Attrib) => Reason::Appeared,
                    _ => Reason::Moved,
                };
                self.recheck.push((guard.root, reason));
            }
        }
        self.unblock(node, mask, name, sink);
    }

    /// A directory that our rights kept unwatched has other attributes: tries again.
    fn unblock(&mut self, node: NodeId, mask: Mask, name: &[u8], sink: &mut impl Sink) {
        if !mask.intersects(Flag::Attrib | Flag::Delete | Flag::MovedFrom) || name.is_empty() {
            return;
        }
        let Some(names) = self.blocked.get_mut(&node) else { return };
        let Some(at) = names.iter().position(|blocked| **blocked == *name) else { return };
        names.swap_remove(at);
        if names.is_empty() {
            self.blocked.remove(&node);
            if !self.guards.contains_key(&node) {
                self.tree.clear(node, GUARD);
            }
        }
        if mask.intersects(Flag::Attrib.mask()) {
            self.found_directory(node, name, Kind::Arrive, sink);
        }
    }

    pub(super) fn recheck_guarded(&mut self, node: NodeId, reason: Reason) {
        let guards = self.guards.get(&node).into_iter().flatten();
        self.recheck.extend(guards.map(|guard| (guard.root, reason)));
    }

    /// Roots that are bound to this node.
    pub(super) fn roots_at(&self, node: NodeId) -> Vec<RootId> {
        if !self.tree.has(node, ROOT) {
            return Vec::new();
        }
        self.root_ids().into_iter().filter(|&root| self.root(root).node == Some(node)).collect()
    }

    /// Roots that are bound to this node or below. Ancestors of roots are marked, so that others cost nothing.
    pub(super) fn roots_below(&self, node: NodeId) -> Vec<RootId> {
        if !self.tree.has(node, ROOT | GUARD) {
            return Vec::new();
        }
        let below =
            |root: &RootId| self.root(*root).node.is_some_and(|bound| self.tree.is_at_or_above(node, bound));
        self.root_ids().into_iter().filter(below).collect()
    }

    /// Parts a root from its object; what no other root sees is unwatched.
    pub(super) fn unbind(&mut self, root: RootId) {
        let Some(node) = self.unbind_in_place(root) else { return };
        if self.tree.cover(node) == EMPTY && !self.tree.has(node, ROOT) && self.roots_below(node).is_empty() {
            if self.tree.has(node, GUARD) {
                let children: Vec<NodeId> = self.tree.children(node).collect();
                return children.into_iter().for_each(|child| self.doom_uncovered(child));
            }
            return self.doom(node);
        }
        self.doom_uncovered(node);
    }

    /// Unwatches the parts of a branch that nobody needs.
    pub(super) fn doom_uncovered(&mut self, top: NodeId) {
        for node in self.tree.subtree(top).into_iter().rev() {
            let needed = self.tree.has(node, ROOT | GUARD) || self.tree.has_children(node) || node == TOP;
            if !needed && self.tree.cover(node) == EMPTY {
                self.doom(node);
            }
        }
    }

    /// Parts a root from its object; the nodes stay where they are.
    pub(super) fn unbind_in_place(&mut self, root: RootId) -> Option<NodeId> {
        let node = self.root_mut(root).node.take()?;
        self.take_back_inner(root);
        if self.roots_at(node).is_empty() {
            self.tree.clear(node, ROOT);
        }
        for below in self.tree.subtree(node) {
            let roots = self.covers.roots(self.tree.cover(below));
            if !roots.contains(&root) {
                continue;
            }
            let rest: Vec<RootId> = roots.iter().copied().filter(|&other| other != root).collect();
            let cover = self.intern(rest);
            self.covers.assign(&mut self.tree, below, cover);
        }
        Some(node)
    }

    /// A root that is a file, or was saved by renaming another one over it.
    fn file_root_found(&mut self, root: RootId, node: NodeId, sink: &mut impl Sink) {
        self.file_arrived(node, None, b"", Some(root), sink);
        let interest = self.wants_of(root).interest;
        if !interest.intersects(Flag::Create | Flag::CloseWrite | Flag::MovedTo) {
            self.paths.told_clear();
            self.tell(node, &Told::arrival(Flag::Modify.mask(), b"", Some(root)), sink);
        }
    }
}

/// Whether inotify would take the path; reading it is what the kernel asks for (inotify_add_watch(2), EACCES).
fn watchable(path: &[u8]) -> Result<(), Errno> {
    let object = rustix::fs::open(path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty())?;
    let link = format!("/proc/self/fd/{}", object.as_raw_fd());
    rustix::fs::accessat(rustix::fs::CWD, link, rustix::fs::Access::READ_OK, rustix::fs::AtFlags::EACCESS)
}

#[cfg(test)]
mod tests {
    use std::os::unix::ffi::OsStrExt as _;
    use std::time::Instant;

    use super::*;
    use crate::spec::Options;

    struct Nothing;

    impl Sink for Nothing {
        fn event(&mut self, _: WatchId, _: &event::Event<'_>) {}
        fn renamed(&mut self, _: WatchId, _: &[u8], _: Option<&[u8]>) {}
        fn notice(&mut self, _: Notice<'_>) {}
    }

    #[test]
    fn roots_that_one_call_does_not_come_to_are_looked_at_by_the_next() {
        let temp = tempfile::tempdir().unwrap();
        let top = temp.path().canonicalize().unwrap();
        let (late, other) = (top.join("late"), top.join("other"));
        std::fs::create_dir(&other).unwrap();
        let mut watcher = Watcher::new(Options::new(b"/".to_vec()), Instant::now()).unwrap();
        let paths = [&late, &other].map(|path| path.as_os_str().as_bytes().to_vec()).to_vec();
        let spec = WatchSpec {
            paths,
            rec: true,
            auto_add: true,
            interest: Flag::Create.mask(),
            exclude: None,
            initial: None,
        };
        watcher.add(&spec, Instant::now(), &mut Nothing).unwrap();
        // Its own event is not read here: only the list says that it is there now.
        std::fs::create_dir(&late).unwrap();
        let [late, other] = watcher.root_ids()[..] else { panic!("two roots") };
        watcher.recheck.push((late, Reason::Appeared));
        watcher.recheck.extend(std::iter::repeat_n((other, Reason::Moved), 1000));
        watcher.settle_roots(&mut Nothing);
        assert_eq!(watcher.root(late).node, None);
        assert!(watcher.has_background() && watcher.recheck.len() == 2, "each is left once");
        watcher.settle_roots(&mut Nothing);
        assert!(watcher.root(late).node.is_some() && watcher.recheck.is_empty());
    }
}
