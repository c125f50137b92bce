//! Patterns of the configuration: for each path that matches one there is a root, as long as it does.
//!
//! A pattern is a root that is never bound. Each directory in which one of its components may match an entry is watched
//! for entries that come and go, and then listed. When one that matches comes or goes, the pattern is expanded anew:
//! what matches now and has no root gets one, with arrivals; what does not is not watched any more.
//!
//! Differs: the original expands a pattern once, at the start (`what_comes_to_match_a_pattern_is_watched`).

use std::time::{Duration, Instant};

use event::Flag;
use hashbrown::HashSet;
use rustix::io::Errno;

use super::Watcher;
use super::roots::{COMES, SELF};
use crate::cover::RootId;
use crate::kernel::Refusal;
use crate::notice::Notice;
use crate::spec::Sink;
use crate::{glob, path};

/// Rest after an expansion, for each directory and match: several times what it costs to look at one.
const REST: Duration = Duration::from_micros(50);

/// A pattern, and where its matches are given relative to.
#[derive(Clone, Debug)]
pub(super) struct Pattern {
    /// Absolute, not normal.
    text: Vec<u8>,
    /// As it was given.
    pub(super) given: Vec<u8>,
    /// Length of the working directory in front, where it was given relative.
    given_from: Option<usize>,
}

/// What a configured path means.
pub(super) struct Configured {
    /// Absolute and normal.
    pub(super) path: Vec<u8>,
    /// As configured, where that is relative.
    pub(super) given: Option<Vec<u8>>,
    pub(super) pattern: Option<Pattern>,
}

impl Pattern {
    pub(super) fn new(cwd: &[u8], configured: &[u8]) -> Pattern {
        let is_relative = !configured.starts_with(b"/");
        let mut text = if is_relative { cwd.to_vec() } else { Vec::new() };
        path::push(&mut text, configured);
        let start = path::components(cwd).map(|part| part.len() + 1).sum::<usize>();
        Pattern { text, given: configured.to_vec(), given_from: is_relative.then_some(start) }
    }

    pub(super) fn expand(&self, may_ask: impl Fn(&[u8]) -> bool) -> Vec<Vec<u8>> {
        glob::expand(&self.text, may_ask)
    }

    /// A path that matches, as if it had been configured.
    pub(super) fn configured(&self, found: &[u8]) -> Configured {
        let given = self.given_from.map(|from| path::normal_relative(found.get(from + 1..).unwrap_or(b".")));
        Configured { path: path::absolute(b"/", found), given, pattern: None }
    }
}

impl Watcher {
    /// What matches the pattern may have changed: it is expanded anew, before long.
    pub(super) fn pattern_is_stale(&mut self, pattern: RootId) {
        if !std::mem::replace(&mut self.root_mut(pattern).is_stale, true) {
            self.stale_patterns.push_back(pattern);
        }
    }

    /// When patterns are expanded anew, if some are to be.
    pub(super) fn patterns_due(&self) -> Option<Instant> {
        (!self.stale_patterns.is_empty()).then_some(self.patterns_rest_until.unwrap_or(self.now))
    }

    pub(super) fn expand_stale_patterns(&mut self, sink: &mut impl Sink) {
        if self.patterns_due().is_none_or(|due| self.now < due) {
            return;
        }
        let mut rest = Duration::ZERO;
        while self.units > 0 {
            let Some(pattern) = self.stale_patterns.pop_front() else { break };
            rest += self.expand_pattern(pattern, sink);
        }
        self.patterns_rest_until = Some(self.now + rest);
    }

    /// Makes the roots of a pattern those of the paths that match it. Gives the rest that is due for it.
    pub(super) fn expand_pattern(&mut self, root: RootId, sink: &mut impl Sink) -> Duration {
        self.root_mut(root).is_stale = false;
        let Some(pattern) = self.root(root).pattern.clone() else { return Duration::ZERO };
        let prefix = glob::literal_prefix(&self.root(root).path);
        if let Some(elsewhere) = self.elsewhere(&prefix) {
            // The watcher of that filesystem expands it.
            self.hand_over(root, elsewhere, sink);
            self.drop_unmatched(root, &[], sink);
            return Duration::ZERO;
        }
        self.take_back(root);
        let before = self.take_guards(root);
        let directories = self.guard_pattern(root, &pattern);
        for node in before {
            self.prune(node);
        }
        let found = self.matches(&pattern);
        if found.is_empty() && !self.root(root).waited {
            // `pyinotifyd watch` makes patterns of the paths that somebody typed.
            let literal = glob::literal(&pattern.given);
            self.say(Notice::NoMatch { pattern: literal.as_ref().unwrap_or(&pattern.given) }, sink);
        }
        let looked_at = (directories + found.len()).min(1 << 20) as u32;
        self.spend(looked_at);
        self.drop_unmatched(root, &found, sink);
        self.add_matches(root, found, sink);
        REST * looked_at
    }

    /// Watches the directories in which a component of the pattern may match an entry; gives their number.
    fn guard_pattern(&mut self, root: RootId, pattern: &Pattern) -> usize {
        let mut directories = vec![b"/".to_vec()];
        let mut count = 0;
        for part in path::components(&pattern.text) {
            let mut next = Vec::new();
            for at in directories {
                if self.elsewhere(&at).is_some() {
                    continue;
                }
                count += 1;
                let mask = (SELF | COMES | Flag::Delete | Flag::MovedFrom).0;
                let at = path::absolute(b"/", &at);
                let guarded = self.guard_one(root, &at, part, mask);
                if rustix::fs::readlink(&at[..], Vec::new()).is_ok() {
                    self.guard_behind_link(root, &at);
                }
                if let Err(errno) = guarded {
                    if Refusal::of(errno) == Refusal::Limit {
                        self.starve_roots(errno, &at);
                    }
                    continue;
                }
                let may_ask = |path: &[u8]| self.territory.elsewhere(path).is_none();
                next.extend(glob::step(&at, part, &may_ask));
            }
            directories = next;
        }
        count
    }

    /// Makes a root of each path that matches and is none of its watch yet.
    fn add_matches(&mut self, pattern: RootId, found: Vec<Configured>, sink: &mut impl Sink) {
        let watch = self.root(pattern).watch;
        let roots = self.watch(watch).map_or(&[][..], |watch| &watch.roots);
        let known: HashSet<Vec<u8>> = roots.iter().map(|&root| self.root(root).path.clone()).collect();
        let new = found.into_iter().filter(|found| !known.contains(&found.path));
        for Configured { path, given, .. } in new {
            if !self.has_room_for_root() {
                self.say(Notice::CannotWatch { path: &path, source: Errno::TOOBIG }, sink);
                continue;
            }
            let root = self.insert_root(watch, path, given);
            let (waited, news) = (self.root(pattern).waited, self.root(pattern).news);
            let this = self.root_mut(root);
            (this.of_pattern, this.waited, this.news) = (Some(pattern), waited, news);
        }
    }

    /// Roots of the pattern that match it no more, and are gone.
    fn drop_unmatched(&mut self, pattern: RootId, found: &[Configured], sink: &mut impl Sink) {
        let watch = self.root(pattern).watch;
        let Some(Some(of)) = self.watches.get_mut(watch.0 as usize) else { return };
        let found: HashSet<&[u8]> = found.iter().map(|found| &found.path[..]).collect();
        let all = &self.roots;
        let is_dropped = |id: &mut RootId| {
            let Some(root) = all[usize::from(id.0)].as_ref() else { return false };
            // One that is bound yet has last events to tell.
            root.of_pattern == Some(pattern) && root.node.is_none() && !found.contains(&root.path[..])
        };
        let dropped: Vec<RootId> = of.roots.extract_if(.., is_dropped).collect();
        let paths: Vec<Vec<u8>> = dropped.iter().map(|&root| self.root(root).path.clone()).collect();
        self.remove_roots(&dropped);
        for path in paths {
            self.say(Notice::MatchGone { path: &path }, sink);
        }
    }
}
