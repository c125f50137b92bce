//! Roots: the configured paths. A root is a path, not an inode: it is bound to whatever stands there, waits while
//! nothing does, and is bound anew, with arrivals, when something comes back.
//!
//! What can happen to a path without an event of its own object (its parent is renamed, a link on the way is exchanged)
//! is learned from its ancestors, which are watched for their own moves and ends; the nearest one also for the one
//! name that matters. Whether anything changed is then asked of the kernel: adding a watch gives the same wd or not.

use std::os::fd::{AsFd as _, AsRawFd as _};
use std::time::SystemTime;

use event::{Flag, Mask};
use hashbrown::HashSet;
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;

use super::arrive::object_changed_since;
use super::guards::{Guards, Way};
use super::patterns::{Configured, Pattern};
use super::place::{Kind, LOOK_UNITS, LOOKS};
use super::tell::Told;
use super::territory::{Elsewhere, Handed};
use super::walk::{Frame, TICK, Walk};
use super::{Watch, Watcher};
use crate::cover::{EMPTY, RootId};
use crate::error::Error;
use crate::kernel::Refusal;
use crate::lookup::{self, ForeignLink, Found, Unfound};
use crate::notice::Notice;
use crate::spec::{News, Problem, Sink, WatchId, WatchSpec};
use crate::tree::{GUARD, MOVING, NodeId, ROOT, TOP};
use crate::{glob, path};

/// A configured path.
#[expect(clippy::struct_excessive_bools, reason = "independent facts, most of them as configured")]
pub(super) struct Root {
    pub(super) watch: WatchId,
    /// Absolute and normal.
    pub(super) path: Vec<u8>,
    /// The path without links, where links led to what it was bound to last: what the table of mounts calls it.
    pub(super) real: Option<Vec<u8>>,
    /// As configured, where that is relative.
    pub(super) given: Option<Vec<u8>>,
    rec: bool,
    pub(super) auto_add: bool,
    /// What it is bound to.
    pub(super) node: Option<NodeId>,
    pub(super) is_dir: bool,
    pub(super) is_link: bool,
    /// The watch's own filter excludes it: its entries' events are not told, what lies below is watched.
    pub(super) silent: bool,
    /// Ancestors that are watched for it.
    pub(super) ways: Vec<Way>,
    /// Its tree was watched for the first time.
    is_set_up: bool,
    /// Nothing stands there, and that was said.
    pub(super) missing: bool,
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
    /// It is a pattern that is to be expanded anew.
    pub(super) is_stale: bool,
    /// The pattern that it matches.
    pub(super) of_pattern: Option<RootId>,
    /// How much of the path is what was configured: all but for a filesystem inside of a tree.
    pub(super) shown_len: usize,
}

impl Root {
    /// The path without links.
    pub(super) fn real_path(&self) -> &[u8] {
        self.real.as_ref().unwrap_or(&self.path)
    }

    /// Whether subdirectories that exist are watched when it is bound.
    pub(super) fn descends(&self) -> bool {
        self.rec && self.is_dir && !self.is_link
    }

    /// Whether its tree was watched once as a whole.
    pub(super) fn is_set_up(&self) -> bool {
        self.is_set_up
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
/// A watch sees more of a path than its entries.
const SEES_BELOW: bool = true;
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
        while !self.queued.is_empty() || self.renewal.is_some() || self.walks.iter().any(Walk::is_setting_up)
        {
            self.units = u32::MAX;
            self.set_up_further(sink);
        }
        self.units = 0;
        self.set_up_further(sink);
        Ok(id)
    }

    /// Keeps room for these paths of watches that are to be added, in place of those for which it was kept before.
    ///
    /// # Errors
    /// [`Error::TooManyRoots`] if there is no room for all of them; none is kept.
    pub(crate) fn make_room(&mut self, paths: &[&[u8]]) -> Result<(), Error> {
        self.roots_to_come = 0;
        if let Some(path) = paths.get(ROOTS_MAX - self.roots_count()) {
            return Err(Error::TooManyRoots { path: path.to_vec(), max: ROOTS_MAX });
        }
        self.roots_to_come = paths.len();
        Ok(())
    }

    /// What these watches see is no news to watches that begin from here on, until the next call: neither what is
    /// there nor what happens.
    pub fn pass_over(&mut self, seen_by: Vec<WatchId>) {
        self.passed_over = seen_by.into_iter().collect();
        self.newcomers.clear();
        self.paths_passed_over.clear();
        for Root { watch, path, rec, auto_add, .. } in self.roots.iter().flatten() {
            if self.passed_over.contains(watch) {
                *self.paths_passed_over.entry(path.clone()).or_default() |= rec | auto_add;
            }
        }
    }

    /// Whether something in a directory, or the directory itself, is no news to a root: where a watch that is passed
    /// over sees the directory, or the node that stands for it.
    pub(super) fn was_seen(
        &self,
        root: RootId,
        directory: NodeId,
        itself: impl FnOnce() -> Option<NodeId>,
    ) -> bool {
        let is_seen = |node| self.is_passed_over(node);
        self.passes_over(root) && (is_seen(directory) || itself().is_some_and(is_seen))
    }

    /// Whether a watch that is passed over sees the node.
    pub(super) fn is_passed_over(&self, node: NodeId) -> bool {
        let mut roots = self.covers.roots(self.tree.cover(node)).iter();
        roots.any(|root| self.passed_over.contains(&self.root(*root).watch))
    }

    /// The same of a root that is to be handed over, by its path.
    fn was_seen_elsewhere(&self, root: RootId) -> bool {
        if !self.passes_over(root) {
            return false;
        }
        let path = &self.root(root).path[..];
        let seen = &self.paths_passed_over;
        let parent = |path| path::parent_and_name(path).map(|(parent, _)| parent);
        let mut above = std::iter::successors(parent(path), |path| parent(path));
        seen.contains_key(path) || above.any(|path| seen.get(path) == Some(&SEES_BELOW))
    }

    fn passes_over(&self, root: RootId) -> bool {
        self.newcomers.contains(&self.root(root).watch)
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
        if let Some(first) = paths.first().filter(|_| self.roots_count() + paths.len() > ROOTS_MAX) {
            return Err(Error::TooManyRoots { path: first.path.clone(), max: ROOTS_MAX });
        }
        self.roots_to_come = self.roots_to_come.saturating_sub(spec.paths.len());
        self.insert_watch(id, spec);
        if !self.passed_over.is_empty() {
            self.newcomers.insert(id);
        }
        for Configured { path, given, pattern } in paths {
            let root = self.insert_root(id, path, given);
            self.root_mut(root).pattern = pattern;
        }
        // Small watches are set up at once, if the last turn has left time for it.
        self.set_up_queued(sink);
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

    /// Goes on with roots that were not looked at yet.
    fn set_up_queued(&mut self, sink: &mut impl Sink) {
        while self.units > 0 {
            let Some(root) = self.queued.pop_front() else { return };
            self.set_up_root(root, sink);
        }
    }

    /// Binds a new root for the first time.
    fn set_up_root(&mut self, root: RootId, sink: &mut impl Sink) {
        if self.root(root).pattern.is_some() {
            let rest = self.expand_pattern(root, sink);
            self.patterns_rest_until = Some(self.now + rest);
            self.root_mut(root).waited = true;
            return self.end_set_up(root);
        }
        self.setting_up.push(root);
        self.recheck_root(root, Reason::Appeared, sink);
        self.root_mut(root).waited = true;
        self.settle_roots(sink);
        if self.root(root).node.is_none() {
            // What comes later is new as a whole.
            self.root_mut(root).news = None;
        }
        self.open_parent = None;
    }

    fn end_set_up(&mut self, root: RootId) {
        let this = self.root_mut(root);
        if !std::mem::replace(&mut this.is_set_up, true) {
            let watch = this.watch;
            // A watch that is being removed is not there any more.
            if let Some(Some(watch)) = self.watches.get_mut(watch.0 as usize) {
                watch.setting_up -= 1;
            }
        }
    }

    /// Whether all of a watch is watched that may be asked about here.
    pub fn is_set_up(&self, watch: WatchId) -> bool {
        self.renewal.is_none() && self.watch(watch).is_none_or(|watch| watch.setting_up == 0)
    }

    /// Whether some root is being set up.
    pub(super) fn sets_up(&self) -> bool {
        !self.queued.is_empty() || !self.setting_up.is_empty()
    }

    /// Whether a root that is bound to the node is being set up.
    pub(super) fn is_set_up_at(&self, node: NodeId) -> bool {
        self.roots_at(node).iter().any(|&root| !self.root(root).is_set_up)
    }

    /// Goes on with what is being set up.
    pub(super) fn set_up_further(&mut self, sink: &mut impl Sink) {
        self.settle_roots(sink);
        self.look_later(sink);
        self.set_up_queued(sink);
        self.run_walks(sink);
        self.renew_masks();
        if self.setting_up.is_empty() {
            return self.say_limit(sink);
        }
        // What is told of a new watch is known before those are gone that tell what is new.
        let is_awaited = |walk: &&Walk| walk.is_setting_up() || !self.passed_over.is_empty();
        let under_way = self.walks.iter().chain(self.doubts.walks()).filter(is_awaited);
        let under_way: HashSet<RootId> = under_way.filter_map(Walk::audience).collect();
        let done = self.setting_up.extract_if(.., |root| !under_way.contains(root)).collect::<Vec<_>>();
        for root in done {
            self.end_set_up(root);
            let node = self.root(root).node.filter(|&node| self.mask_for(node) & LOOKS != 0);
            if let Some(node) = node {
                self.renew_mask(node);
            }
        }
        self.say_limit(sink);
    }

    /// Another watcher may not ask about this path of a watch: it is watched here.
    pub(crate) fn take_over(&mut self, handed: Handed) {
        let Handed { watch, path, root_len, given, is_root, news } = handed;
        if self.watch(watch).is_none() || !self.has_room_for_root() {
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
        self.remove_roots(&roots);
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
        self.remove_roots(&watch.roots);
        self.count_sources(watch.interest, Mask::NONE);
        self.settle_roots(sink);
    }

    pub(super) fn remove_roots(&mut self, roots: &[RootId]) {
        for &root in roots {
            self.end_set_up(root);
            self.take_back(root);
            self.unbind(root);
            self.release_guards(root);
            self.roots[usize::from(root.0)] = None;
            self.free_roots.push_back(root);
        }
        let all = &self.roots;
        let is_there = |root: RootId| all[usize::from(root.0)].is_some();
        self.walks.retain(|walk| walk.audience().is_none_or(is_there));
        self.doubts.retain_walks(|walk| walk.audience().is_none_or(is_there));
        self.starved.retain_walks(|walk| walk.audience().is_none_or(is_there));
        self.settling.retain(|settling| settling.audience.is_none_or(is_there));
        self.recheck.retain(|&(root, _)| is_there(root));
        self.later.retain(|&root, _| is_there(root));
        self.queued.retain(|&root| is_there(root));
        self.setting_up.retain(|&root| is_there(root));
        self.stale_patterns.retain(|&root| is_there(root));
    }

    /// How many paths are watched or waited for.
    fn roots_count(&self) -> usize {
        self.roots.len() - self.free_roots.len()
    }

    pub(super) fn has_room_for_root(&self) -> bool {
        self.roots_count() + self.roots_to_come < ROOTS_MAX
    }

    fn insert_watch(&mut self, id: WatchId, spec: &WatchSpec) {
        let watch = Watch {
            interest: spec.interest,
            schedules: spec.schedules,
            rec: spec.rec,
            auto_add: spec.auto_add,
            exclude: spec.exclude.clone(),
            initial: spec.initial,
            roots: Vec::new(),
            setting_up: 0,
        };
        let at = id.0 as usize;
        if self.watches.len() <= at {
            self.watches.resize_with(at + 1, || None);
        }
        self.watches[at] = Some(watch);
        self.count_sources(Mask::NONE, spec.interest);
    }

    /// Adds a path to a watch that exists. It is set up when its turn comes.
    pub(super) fn insert_root(&mut self, watch: WatchId, path: Vec<u8>, given: Option<Vec<u8>>) -> RootId {
        let of = self.watches[watch.0 as usize].as_ref().expect("the caller has inserted it");
        let silent = of.exclude.as_ref().is_some_and(|exclude| exclude(&path));
        let root = Root {
            watch,
            shown_len: path.len(),
            path,
            real: None,
            given,
            rec: of.rec,
            auto_add: of.auto_add,
            node: None,
            is_dir: true,
            is_link: false,
            silent,
            ways: Vec::new(),
            is_set_up: false,
            missing: false,
            waited: false,
            failed: None,
            away: None,
            news: of.initial,
            shallow: of.initial.is_some() && !of.rec,
            pattern: None,
            is_stale: false,
            of_pattern: None,
        };
        // The one that is free for longest: nodes that are cut off may have it in their set.
        let id = self.free_roots.pop_front().unwrap_or_else(|| {
            self.roots.push(None);
            RootId((self.roots.len() - 1) as u16)
        });
        self.roots[usize::from(id.0)] = Some(root);
        let of = self.watches[watch.0 as usize].as_mut().expect("is still there");
        of.roots.push(id);
        of.setting_up += 1;
        self.queued.push_back(id);
        id
    }

    /// The paths that a watch has, each once.
    fn resolve(&self, spec: &WatchSpec) -> Vec<Configured> {
        let mut all: Vec<Configured> = spec.paths.iter().map(|path| self.configured(path)).collect();
        let mut known: HashSet<Vec<u8>> = HashSet::with_capacity(all.len());
        all.retain(|one| known.insert(one.path.clone()));
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

    /// A root is looked at before long, when other things have had their turn.
    pub(super) fn recheck_later(&mut self, root: RootId, reason: Reason) {
        let known = self.later.entry(root).or_insert(reason);
        if reason == Reason::Moved {
            *known = reason;
        }
    }

    pub(super) fn recheck_all_later(&mut self, reason: Reason) {
        for root in self.root_ids() {
            self.recheck_later(root, reason);
        }
    }

    /// Looks at some of the roots for which something gave a reason that gave one for all.
    pub(super) fn look_later(&mut self, sink: &mut impl Sink) {
        while self.units > 0 {
            let Some((root, reason)) = self.later.pop_first() else { return };
            self.recheck_root(root, reason, sink);
            self.settle_roots(sink);
        }
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
            self.spend(LOOK_UNITS);
            match lookup::open(&self.root(root).path) {
                Ok(found) => {
                    let is_other_way = self.leads_to(root, &found);
                    match self.bind(root, &found, reason, sink) {
                        // Bound, and its ancestors watched: once more, for what happened in between.
                        Ok(is_new) if is_new || is_other_way => self.guard(root, sink),
                        Ok(_) => return,
                        Err(errno) if guarded => return self.root_failed(root, errno.into(), sink),
                        Err(_) => {
                            self.leave(root, reason, sink);
                            self.root_mut(root).missing = true;
                            self.guard(root, sink);
                            guarded = true;
                        }
                    }
                }
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

    /// Keeps where a root's path leads, before its tree is looked at; true if that is another place than before.
    fn leads_to(&mut self, root: RootId, found: &Found) -> bool {
        self.territory.has_links |= found.real.is_some();
        let before = std::mem::replace(&mut self.root_mut(root).real, found.real.clone());
        before != found.real
    }

    /// What the path leads to may not be asked about here: another watcher watches it.
    pub(super) fn hand_over(&mut self, root: RootId, to: Elsewhere, sink: &mut impl Sink) {
        if self.root(root).away == Some(to.device) {
            return;
        }
        self.take_back(root);
        self.leads_elsewhere(root, sink);
        // A tree that is watched apart is where it was: its tasks wait on.
        self.leave(root, if to.is_apart() { Reason::Gone } else { Reason::Moved }, sink);
        let was_seen = self.was_seen_elsewhere(root);
        let initial = self.root_mut(root).news.take().filter(|_| !was_seen);
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
        let is_new = !self.root(root).is_set_up;
        let wants = if is_new { self.asks_of(root).kernel & !LOOKS } else { self.asks_of(root).kernel };
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
        self.fresh.found(node);
        self.tree.set(node, ROOT);
        self.tree.clear(node, MOVING);
        let back = self.root(root).missing || self.root(root).failed.is_some();
        let this = self.root_mut(root);
        (this.node, this.is_dir, this.is_link) = (Some(node), found.is_dir, found.is_link);
        (this.missing, this.failed) = (false, None);
        self.bound.entry(node).or_default().push(root);
        let others = self.covers.roots(self.tree.cover(node)).to_vec();
        let cover = self.intern([&others[..], &[root]].concat());
        self.covers.assign(&mut self.tree, node, cover);
        if self.root(root).waited {
            // It came for all who see the place, and its event may be used up.
            self.doubt_name_of(node);
        }
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
    pub(super) fn ensure(&mut self, path: &[u8]) -> NodeId {
        let mut node = TOP;
        for name in path::components(path) {
            node = match self.tree.child(node, name) {
                Some(child) => child,
                // Roots that see its parent join when its own event comes.
                None => self.insert(node, name, EMPTY),
            };
        }
        node
    }

    /// A root was bound: says so if it was missed, and walks it.
    fn root_bound(&mut self, root: RootId, found: &Found, back: bool, sink: &mut impl Sink) {
        self.leads_elsewhere(root, sink);
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
            if is_news && !self.was_seen(root, node, || self.tree.parent(node)) {
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

    /// Says that a root leads to something else, but not of what was configured and is found for the first time.
    fn leads_elsewhere(&self, root: RootId, sink: &mut impl Sink) {
        let Root { path, waited, of_pattern, .. } = self.root(root);
        if *waited || of_pattern.is_some() {
            sink.notice(Notice::RootElsewhere { path });
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
                let dangling = lookup::dangling(&path, |path| self.territory.elsewhere(path).is_none());
                let at = self.nearest_guard(root, dangling.as_ref().map_or(&path, |to| &to.target));
                let dangling = dangling.as_ref();
                self.say(Notice::RootMissing { path: &path, dangling, waits_at: &at }, sink);
            }
            (Refusal::Limit, Unfound::Errno(Errno::NOSPC)) => {}
            (_, Unfound::Errno(source)) => self.say(Notice::CannotWatch { path: &path, source }, sink),
            (_, Unfound::ForeignLink(ForeignLink { link, owner, target_owner })) => {
                self.say(Notice::ForeignLink { path: &path, link: &link, owner, target_owner }, sink);
            }
        }
    }

    /// Roots that are bound to this node.
    pub(super) fn roots_at(&self, node: NodeId) -> &[RootId] {
        if !self.tree.has(node, ROOT) {
            return &[];
        }
        self.bound.get(&node).map_or(&[], Vec::as_slice)
    }

    /// Roots that are bound to this node or below. Their ancestors know of them; others cost nothing.
    pub(super) fn roots_below(&self, node: NodeId) -> Vec<RootId> {
        let mut roots = self.roots_at(node).to_vec();
        if self.tree.has(node, GUARD) {
            let guarded = self.guards.get(&node).map(Guards::roots).unwrap_or_default();
            let is_below = |bound: NodeId| bound != node && self.tree.is_at_or_above(node, bound);
            roots.extend(guarded.into_iter().filter(|&root| self.root(root).node.is_some_and(is_below)));
        }
        roots.sort_unstable();
        roots
    }

    /// Parts a root from its object; what no other root sees is unwatched.
    pub(super) fn unbind(&mut self, root: RootId) {
        let Some(node) = self.root(root).node else { return };
        if node != TOP && !self.tree.has(node, GUARD) && *self.covers.roots(self.tree.cover(node)) == [root] {
            // Nobody else sees any of it: no need to go through it.
            self.part(root);
            return self.doom_unseen(node);
        }
        self.unbind_in_place(root);
        if self.tree.cover(node) == EMPTY && !self.tree.has(node, ROOT) && self.roots_below(node).is_empty() {
            if node != TOP && !self.tree.has(node, GUARD) {
                return self.doom_unseen(node);
            }
            let children: Vec<NodeId> = self.tree.children(node).collect();
            for child in children {
                self.doom_uncovered(child);
            }
            return self.prune(node);
        }
        self.doom_uncovered(node);
    }

    /// Unwatches the parts of a branch that nobody needs.
    pub(super) fn doom_uncovered(&mut self, top: NodeId) {
        for node in self.tree.subtree(top).into_iter().rev() {
            let needed = self.tree.has(node, ROOT | GUARD) || self.tree.has_children(node) || node == TOP;
            if !needed && self.tree.cover(node) == EMPTY {
                self.doom_unseen(node);
            }
        }
    }

    /// Unwatches a branch that no root sees any more. One that sees its place may be about to join.
    fn doom_unseen(&mut self, node: NodeId) {
        if self.is_ahead() {
            self.doubt_name_of(node);
        }
        self.doom(node);
    }

    /// Parts a root from its object; the nodes stay where they are.
    pub(super) fn unbind_in_place(&mut self, root: RootId) {
        let Some(node) = self.part(root) else { return };
        for below in self.tree.subtree(node) {
            let roots = self.covers.roots(self.tree.cover(below));
            if !roots.contains(&root) {
                continue;
            }
            let rest: Vec<RootId> = roots.iter().copied().filter(|&other| other != root).collect();
            let cover = self.intern(rest);
            self.covers.assign(&mut self.tree, below, cover);
        }
    }

    /// The root is bound to nothing any more.
    fn part(&mut self, root: RootId) -> Option<NodeId> {
        let node = self.root_mut(root).node.take()?;
        self.take_back_inner(root);
        if let Some(bound) = self.bound.get_mut(&node) {
            bound.retain(|&other| other != root);
            if bound.is_empty() {
                self.bound.remove(&node);
                self.tree.clear(node, ROOT);
            }
        }
        Some(node)
    }

    /// A node is freed to which roots are bound yet: they are looked at.
    pub(super) fn part_from(&mut self, node: NodeId) {
        for root in self.roots_at(node).to_vec() {
            self.part(root);
            self.recheck.push((root, Reason::Gone));
        }
    }

    /// A root that is a file, or was saved by renaming another one over it.
    fn file_root_found(&mut self, root: RootId, node: NodeId, sink: &mut impl Sink) {
        self.file_arrived(node, None, b"", Some(root), sink);
        let interest = self.asks_of(root).interest;
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
        fn set_aside(&mut self, _: WatchId, _: &[u8], _: &[u8]) {}
        fn notice(&mut self, _: Notice<'_>) {}
    }

    #[test]
    fn room_that_is_kept_is_nobody_elses() {
        let mut watcher = Watcher::new(Options::new(b"/".to_vec()), Instant::now()).unwrap();
        let too_many = vec![b"/path".as_slice(); ROOTS_MAX + 1];
        assert!(matches!(watcher.make_room(&too_many), Err(Error::TooManyRoots { max: ROOTS_MAX, .. })));
        assert!(watcher.has_room_for_root());
        watcher.make_room(&too_many[1..]).unwrap();
        assert!(!watcher.has_room_for_root());
        let temp = tempfile::tempdir().unwrap();
        let paths = vec![temp.path().as_os_str().as_bytes().to_vec()];
        let spec = WatchSpec { rec: false, auto_add: false, ..WatchSpec::trees(paths, Flag::Create.mask()) };
        watcher.add(&spec, Instant::now(), &mut Nothing).unwrap();
        assert!(!watcher.has_room_for_root());
        watcher.make_room(&[]).unwrap();
        assert!(watcher.has_room_for_root());
    }

    #[test]
    fn roots_that_one_call_does_not_come_to_are_looked_at_by_the_next() {
        let temp = tempfile::tempdir().unwrap();
        let top = temp.path().canonicalize().unwrap();
        let (late, other) = (top.join("late"), top.join("other"));
        std::fs::create_dir(&other).unwrap();
        let mut watcher = Watcher::new(Options::new(b"/".to_vec()), Instant::now()).unwrap();
        let paths = [&late, &other].map(|path| path.as_os_str().as_bytes().to_vec()).to_vec();
        let spec = WatchSpec::trees(paths, Flag::Create.mask());
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
