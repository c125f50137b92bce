//! Directories that get another path, and what becomes of the tasks of what lies below them.

use std::time::Instant;

use event::{Event, Flag, Mask};

use super::Engine;
use crate::tasks::{Mark, Slot, Tasks};
use crate::{Effects, MapId, OwnedEvent, Record, SchedulerId, TaskId};

impl Engine {
    /// A directory that the watch of a map sees has another path, with everything below it; `to` is `None` if the watch
    /// does not see it any more.
    ///
    /// Tasks of its paths that are to come follow it: they keep their time, and the exclude filter and the rules are
    /// asked again. So do those that run, for what comes after their run, unless the new path has a task. The one that
    /// tells of this very rename keeps the path that was left. Where the watch does not see the directory any more,
    /// each path that has a task to come gets what the map gives an `IN_MOVED_FROM` of it. Takes time for each task of
    /// the directory, and for no other.
    pub fn rename(
        &mut self,
        now: Instant,
        map: MapId,
        from: &[u8],
        to: Option<&[u8]>,
        out: &mut impl Effects,
    ) {
        let Some(at) = self.of_map(map) else { return };
        let of_map = |slot, tasks: &Tasks| tasks.map(slot) == map;
        let is_to_come = |slot, tasks: &Tasks| tasks.state(slot).is_to_come();
        let mut found =
            self.below(from, |slot, tasks| of_map(slot, tasks) && (to.is_some() || is_to_come(slot, tasks)));
        if let Some(to) = to {
            for task in found.into_iter().filter(|task| !task.tells_of(from, Flag::MovedFrom.mask())) {
                self.follow(now, at, &task, (from, to), out);
            }
            return;
        }
        found.dedup_by(|right, left| right.event.get().pathname == left.event.get().pathname);
        for task in found {
            let event = task.event.get();
            let mask = Flag::MovedFrom.mask() | (event.mask & Mask::ISDIR);
            let gone = Event { mask, cookie: 0, synthetic: true, src_pathname: None, ..event };
            self.event(now, map, &gone, out);
        }
    }

    /// A directory that the watch of a map sees has lost its name to another one, with everything below it: the first
    /// half of an exchange. Its tasks go to `aside`, which is nobody's path and says nothing to filter and rules, until
    /// [`Engine::rename`] of that path says where the directory is.
    pub fn set_aside(&mut self, now: Instant, map: MapId, from: &[u8], aside: &[u8], out: &mut impl Effects) {
        let Some(at) = self.of_map(map) else { return };
        let found = self.below(from, |slot, tasks| tasks.map(slot) == map);
        // What has come to its path, and that something left it, was told by then.
        let moves = Flag::MovedFrom | Flag::MovedTo;
        for task in found.into_iter().filter(|task| !task.tells_of(from, moves)) {
            let event = renamed(&task.event.get(), from, aside);
            let event = event.get();
            let path = self.paths.see(event.pathname);
            let (generations, mut turn) = self.turn(now, out);
            generations[at].set_aside(task.slot, &path, &event, (from, aside), &mut turn);
            self.end_turn(out);
        }
    }

    /// The daemon itself moved or removed something: what was to come for it, and for what lies below, is withdrawn.
    pub fn withdraw(&mut self, now: Instant, pathname: &[u8], out: &mut impl Effects) {
        let found = self.below(pathname, |slot, tasks| tasks.state(slot).is_to_come());
        if !found.is_empty() {
            out.record(Record::Withdrawn { pathname, count: found.len() as u32 });
        }
        for task in found {
            let Some(at) = self.of_scheduler(task.scheduler) else { continue };
            let (generations, mut turn) = self.turn(now, out);
            generations[at].withdraw(task.slot, &mut turn);
        }
        self.end_turn(out);
    }

    /// Whether a task of a path is to come.
    pub fn has_to_come(&self, pathname: &[u8]) -> bool {
        let path = self.paths.look(pathname);
        let mut of_path =
            self.generations.iter().flat_map(|generation| generation.tasks_of(&path, &self.tasks));
        of_path.any(|slot| self.tasks.state(slot).is_to_come())
    }

    /// Tasks of a path, and of what lies below; in the order of their paths and schedulers.
    fn below(&self, pathname: &[u8], wanted: impl Fn(Slot, &Tasks) -> bool) -> Vec<Found> {
        let path = self.paths.look(pathname);
        let of_path = self.generations.iter().flat_map(|generation| generation.tasks_of(&path, &self.tasks));
        let below = self.tasks.below(pathname);
        let slots = of_path.chain(below);
        let mut buffer = Vec::new();
        let mut found: Vec<Found> = slots
            // What tells of a failure has the path that the failure had.
            .filter(|slot| !self.tasks.has(*slot, Mark::Keyless))
            .filter(|slot| wanted(*slot, &self.tasks))
            .map(|slot| Found {
                slot,
                runs: !self.tasks.state(slot).is_to_come(),
                id: self.tasks.id(slot),
                scheduler: self.tasks.scheduler(slot),
                event: OwnedEvent::of(&self.tasks.event(slot, &mut buffer)),
            })
            .collect();
        found.sort_by(|left, right| {
            // What runs comes first: then the task to come that its path has got since follows it.
            let key = |found: &Found| (found.scheduler, !found.runs, found.slot.0);
            (left.event.get().pathname.cmp(right.event.get().pathname)).then(key(left).cmp(&key(right)))
        });
        found
    }

    /// Gives one task the path that the rename of a directory gives it.
    fn follow(
        &mut self,
        now: Instant,
        at: usize,
        task: &Found,
        (from, to): (&[u8], &[u8]),
        out: &mut impl Effects,
    ) {
        // What one before met at its new path may have been this.
        let stays = self.tasks.next(task.slot.0) == Some(task.slot)
            && self.tasks.id(task.slot) == task.id
            && self.tasks.is_path(task.slot, task.event.get().pathname);
        if !stays {
            return;
        }
        let event = renamed(&self.tasks.event(task.slot, &mut self.path), from, to);
        let event = event.get();
        let path = self.paths.see(event.pathname);
        let (generations, mut turn) = self.turn(now, out);
        let (older, rest) = generations.split_at_mut(at);
        rest[0].follow(task.slot, &path, &event, (from, to), older, &mut turn);
        self.end_turn(out);
    }
}

/// A task that was found.
struct Found {
    slot: Slot,
    runs: bool,
    id: TaskId,
    scheduler: SchedulerId,
    event: OwnedEvent,
}

impl Found {
    /// Whether it is for one of these events of a path itself.
    fn tells_of(&self, pathname: &[u8], flags: Mask) -> bool {
        let event = self.event.get();
        event.pathname == pathname && event.mask.intersects(flags)
    }
}

/// An event whose path lies below `from`, or is that, as it would be if that had been `to`.
pub(crate) fn renamed(old: &Event<'_>, from: &[u8], to: &[u8]) -> OwnedEvent {
    let pathname = [to, &old.pathname[from.len()..]].concat();
    let name_len = event::name_len(&pathname);
    let given = given_path(old, &pathname);
    OwnedEvent::of(&Event {
        pathname: &pathname,
        name_len: if old.name_len == 0 { 0 } else { name_len },
        root_len: root_len(old, &pathname),
        given_path: given.as_deref(),
        ..*old
    })
}

/// How much of the new path of an event is its root: as much as before, if that did not change. Nothing else is known
/// to be one, so that no link is followed below the root directory.
fn root_len(old: &Event<'_>, pathname: &[u8]) -> u16 {
    let root = old.root();
    if pathname.starts_with(root) && pathname.get(root.len()).is_none_or(|next| *next == b'/') {
        old.root_len
    } else {
        1
    }
}

/// The path of the watched directory as the configuration would give it, for the new path of an event: the root as it
/// was given, and the way below it.
fn given_path(old: &Event<'_>, pathname: &[u8]) -> Option<Vec<u8>> {
    let given = old.given_path?;
    let below = |pathname: &[u8]| pathname.len().checked_sub(usize::from(old.name_len) + 1);
    let old_below = old.pathname.get(usize::from(old.root_len)..below(old.pathname)?)?;
    let root = given.strip_suffix(old_below)?;
    let below = pathname.get(usize::from(root_len(old, pathname))..below(pathname)?)?;
    Some([root, below].concat())
}
