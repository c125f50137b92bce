//! Changes that people ask for: schedulers paused, events sent, trees told once more, failed tasks run again.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Instant;

use control::api::{Done, DonePaths, Left, Selection, Sent};
use control::{Answering, Peer, Refusal};
use engine::{Explanation, IdPrefix, Ignored, Restored, SchedulerId, TaskId, Verdict, Waits};
use event::{Event, Flag, Mask};
use hashbrown::{HashMap, HashSet};
use rustix::fs::FileType;
use watcher::{Sighting, Sink as _};

use super::kept::{READ_MAX, Verb};
use super::work::Matching;
use super::{Changed, Reply, ambiguous};
use crate::action::missing::{self, Standing};
use crate::config::Identity;
use crate::daemon::Daemon;
use crate::daemon::failed::{FailedTask, Told};
use crate::daemon::generation::Generation;
use crate::daemon::keep::{no_heir, no_rule};
use crate::log::{Escaped, record};

/// Events that wait for a look at their path.
const SENDS_MAX: usize = 64;

/// Tasks run again that are offered a place at once: a few milliseconds. Those behind them wait if these do.
const OFFERS_A_TURN: usize = 512;

/// Events that people send for paths on filesystems that may not answer.
#[derive(Debug, Default)]
pub(super) struct Sends {
    next: u64,
    waiting: HashMap<u64, Sending>,
}

/// An event that somebody sends.
#[derive(Debug)]
struct Sending {
    /// As it was given.
    path: Vec<u8>,
    flag: Flag,
    peer: Peer,
    reply: Reply,
    /// It is refused then. A look that comes later sends nothing.
    at_last: Instant,
}

impl Sends {
    /// When the next one is refused.
    pub(super) fn at_last(&self) -> Option<Instant> {
        self.waiting.values().map(|sending| sending.at_last).min()
    }

    pub(super) fn refuse_late(&mut self, now: Instant) {
        for (_, sending) in self.waiting.extract_if(|_, sending| sending.at_last <= now) {
            let shown = Escaped(&sending.path);
            let text = format!("cannot look at '{shown}': its filesystem does not answer; nothing was sent");
            // A client that went away needs no answer.
            let _ = sending.reply.send(Err(Refusal::unavailable(text)));
        }
    }
}

type Answer = Result<Answering, Refusal>;

impl Daemon {
    /// Pauses or resumes the scheduler of a name, or all. That stands until it is changed, whatever configurations come
    /// and go.
    pub(super) fn pause(&mut self, name: Option<&str>, paused: bool, peer: Peer, now: Instant) -> Answer {
        let meant = self.pausable(name);
        if let Some(name) = name.filter(|_| meant.is_empty()) {
            return Err(self.not_pausable(name));
        }
        let mut done: Vec<String> = Vec::new();
        for (identity, name) in meant {
            done.push(name);
            self.note_pause(identity, paused, now);
        }
        let verb = if paused { "pause" } else { "resume" };
        self.say_change(peer, format_args!("{verb} {}", done.join(", ")));
        Ok(Answering::of(Done { done, ..Done::default() }))
    }

    /// Why a name means no scheduler that can be paused or resumed.
    fn not_pausable(&self, asked: &str) -> Refusal {
        let all = self.pausable(None);
        let namesakes = all.iter().filter(|(known, _)| *known.name == *asked);
        let names: Vec<&str> = namesakes.map(|(_, name)| &**name).collect();
        if !names.is_empty() {
            return ambiguous(asked, &names);
        }
        let known = Vec::from_iter(all.into_iter().map(|(_, name)| name).collect::<BTreeSet<_>>()).join(", ");
        let asked = asked.escape_debug();
        Refusal::not_found(format!("there is no scheduler '{asked}'; there are: {known}"))
    }

    /// The schedulers that a name means, or all, with their names: those of the configurations at work, and those that
    /// are paused and that none of these has.
    fn pausable(&self, name: Option<&str>) -> Vec<(Identity, String)> {
        let actions = self.by_rank().flat_map(Generation::actions);
        let mut seen = HashSet::new();
        let known = actions.map(|action| &action.identity).filter(|known| seen.insert(*known));
        let known = known.map(|known| (known.clone(), self.name_of(known)));
        let is_meant =
            |(known, shown): &(Identity, String)| name.is_none_or(|name| known.is(name) || shown == name);
        known.chain(self.paused_away()).filter(is_meant).collect()
    }

    /// Schedulers that are paused and that no configuration at work has, with what people call them: together with
    /// their file where there are several of one name.
    pub(super) fn paused_away(&self) -> Vec<(Identity, String)> {
        let is_away = |known: &&Identity| self.by_rank().all(|generation| generation.find(known).is_none());
        let away: Vec<&Identity> = self.control.pauses.iter().filter(is_away).collect();
        let mut of_name = HashMap::<&str, usize>::new();
        for known in &away {
            *of_name.entry(&known.name).or_default() += 1;
        }
        let name = |known: &Identity| {
            if of_name[&*known.name] > 1 { known.to_string() } else { self.name_of(known) }
        };
        away.into_iter().map(|known| (known.clone(), name(known))).collect()
    }

    fn note_pause(&mut self, scheduler: Identity, paused: bool, now: Instant) {
        self.set_paused(&scheduler, paused, now);
        if let Some(keeper) = &mut self.core.performer.keeper {
            keeper.paused(scheduler.clone(), paused);
        }
        if paused {
            self.control.pauses.insert(scheduler);
        } else {
            self.control.pauses.remove(&scheduler);
        }
    }

    /// In each configuration that has it.
    fn set_paused(&mut self, scheduler: &Identity, paused: bool, now: Instant) {
        let core = &mut self.core;
        let places = core
            .performer
            .generations
            .iter()
            .filter_map(|generation| generation.find(scheduler).map(|index| generation.scheduler(index)));
        for id in places.collect::<Vec<_>>() {
            if paused {
                core.engine.pause(now, id, &mut core.performer);
            } else {
                core.engine.resume(now, id, &mut core.performer);
            }
        }
    }

    /// What is paused stays so in a new configuration, from before its first task on. Of a scheduler that the one
    /// before had, too, that is no news.
    pub(in crate::daemon) fn carry_pauses(&mut self, now: Instant) {
        let [earlier @ .., newest] = &self.core.performer.generations[..] else { return };
        let goes_on = |known: &Identity| earlier.last().is_some_and(|before| before.find(known).is_some());
        let actions = newest.actions().iter().enumerate();
        let paused = actions.filter(|(_, action)| self.control.pauses.contains(&action.identity));
        let paused: Vec<_> = paused
            .map(|(index, action)| {
                (newest.scheduler(index), (!goes_on(&action.identity)).then(|| Arc::clone(&action.name)))
            })
            .collect();
        for (id, news) in paused {
            self.core.engine.pause(now, id, &mut self.core.performer);
            if let Some(name) = news {
                record!(self.core.performer.log, self.control.logger, INFO, "{name} stays paused");
            }
        }
    }

    /// What an earlier daemon left paused.
    pub(in crate::daemon) fn restore_pauses(&mut self, paused: Vec<(String, String)>, now: Instant) {
        for (file, name) in paused {
            let scheduler = Identity { file: file.into(), name: name.into() };
            self.set_paused(&scheduler, true, now);
            self.control.pauses.insert(scheduler);
        }
    }

    /// Tells what lies below paths as arrivals, or below all roots.
    pub(super) fn rescan(&mut self, paths: &[Vec<u8>], peer: Peer, now: Instant) -> Answer {
        let paths: Vec<Vec<u8>> = paths.iter().map(|path| crate::config::absolute_path(path)).collect();
        // All or nothing: who has misspelt one of them begins anew.
        if let Some(unseen) = paths.iter().find(|path| !self.watcher.can_rescan(path)) {
            return Err(Refusal::not_found(format!("no watch sees '{}'; nothing was done", Escaped(unseen))));
        }
        self.core.told_before.forget();
        if paths.is_empty() {
            self.watcher.rescan(None, now, &mut self.core);
            self.say_change(peer, format_args!("rescan all watches"));
            return Ok(Answering::of(DonePaths::of(self.watched_paths())));
        }
        for path in &paths {
            // What goes away now has nothing to tell.
            self.watcher.rescan(Some(path), now, &mut self.core);
            self.say_change(peer, format_args!("rescan '{}'", String::from_utf8_lossy(path)));
        }
        Ok(Answering::of(DonePaths::of(paths.iter().map(Vec::as_slice))))
    }

    /// The paths of all watches, as the configuration gave them.
    fn watched_paths(&self) -> impl Iterator<Item = &[u8]> {
        let watches = self.in_force().into_iter().flat_map(|in_force| &in_force.watches);
        watches.flat_map(|watch| watch.what.paths()).map(Vec::as_slice)
    }

    /// Sends an event for a path.
    pub(super) fn send(
        &mut self,
        given: &[u8],
        event: &str,
        peer: Peer,
        reply: Reply,
        now: Instant,
    ) -> Option<(Answer, Reply)> {
        let Some(flag) = flag_named(event) else {
            let text = format!("unknown event '{}', see pyinotifyd --list", event.escape_debug());
            return Some((Err(Refusal::bad_request(text)), reply));
        };
        let path = crate::config::absolute_path(given);
        if self.watcher.sightings(&path).is_empty() {
            let text = format!("no watch sees '{}'", Escaped(&path));
            return Some((Err(Refusal::not_found(text)), reply));
        }
        let filesystem = self.core.performer.lanes.filesystems.of_parent(&path, now);
        if filesystem.is_local {
            return Some((self.send_now(given, flag, Standing::of(&path), peer), reply));
        }
        if self.control.sends.waiting.len() >= SENDS_MAX {
            return Some((Err(Refusal::unavailable("too many events wait for their filesystem")), reply));
        }
        let number = self.control.sends.next;
        self.control.sends.next += 1;
        missing::stand(filesystem.device, number, path, &mut self.core.performer.lanes, now);
        let sending = Sending { path: given.to_vec(), flag, peer, reply, at_last: now + READ_MAX };
        self.control.sends.waiting.insert(number, sending);
        None
    }

    /// A lane has looked at the path of an event that somebody sends.
    pub(in crate::daemon) fn stands(&mut self, number: u64, standing: Standing) {
        let Some(Sending { path, flag, peer, reply, .. }) = self.control.sends.waiting.remove(&number) else {
            return;
        };
        let _ = reply.send(self.send_now(&path, flag, standing, peer));
    }

    fn send_now(&mut self, given: &[u8], flag: Flag, standing: Standing, peer: Peer) -> Answer {
        let path = &crate::config::absolute_path(given)[..];
        let kind = match standing {
            Standing::Is(kind) => kind,
            Standing::Missing => {
                return Err(Refusal::not_found(format!("'{}' does not exist", Escaped(path))));
            }
            Standing::Unknown(why) => {
                return Err(Refusal::unavailable(format!("cannot look at '{}': {why}", Escaped(path))));
            }
        };
        let is_dir = kind == FileType::Directory;
        // As the kernel has it. What a link leads to may not be asked about here.
        if given.ends_with(b"/") && !is_dir && kind != FileType::Symlink {
            let text = format!("'{}' is no directory: leave out the slash behind it", Escaped(path));
            return Err(Refusal::not_found(text));
        }
        self.core.told_before.forget();
        let mut reached: Vec<String> = Vec::new();
        for sighting in self.watcher.sightings(path) {
            let event = event_of(path, flag, is_dir, &sighting);
            for name in self.reached_by(&event, &sighting) {
                if !reached.contains(&name) {
                    reached.push(name);
                }
            }
            self.core.event(sighting.watch, &event);
        }
        let shown = Escaped(path);
        if reached.is_empty() {
            let name = flag.name();
            return Err(Refusal::conflict(format!(
                "{name} for '{shown}' reaches no scheduler, see --explain"
            )));
        }
        let (name, to) = (flag.name(), reached.join(", "));
        self.say_change(peer, format_args!("send {name} for '{}' to {to}", String::from_utf8_lossy(path)));
        Ok(Answering::of(Sent { paths: DonePaths::of([path]), schedulers: reached }))
    }

    /// The schedulers that an event will reach through a watch of the configuration in force.
    fn reached_by(&self, event: &Event<'_>, sighting: &Sighting) -> Vec<String> {
        let performer = &self.core.performer;
        let newest = performer.generations.last();
        let watches = newest.into_iter().flat_map(|newest| &newest.watches);
        let maps = watches.filter(|watch| watch.id == sighting.watch).map(|watch| watch.map);
        let explained = maps.filter_map(|map| self.core.engine.explain(map, event));
        let reactions = explained.flat_map(|explanation| match explanation {
            Explanation::Reactions(reactions) => reactions,
            Explanation::Unmapped | Explanation::Excluded { .. } | Explanation::ExcludeStepLimit => {
                Vec::new()
            }
        });
        reactions
            .filter(|reaction| match reaction.verdict {
                Verdict::New { .. } | Verdict::Met { .. } | Verdict::Ignored(Ignored::NothingToCancel) => {
                    true
                }
                Verdict::Ignored(
                    Ignored::Unfit | Ignored::NoRule(_) | Ignored::Paused | Ignored::TasksMax,
                ) => false,
            })
            .map(|reaction| performer.scheduler_name(reaction.scheduler).to_owned())
            .collect()
    }

    /// Runs a failed task again that no state keeps, or forgets it.
    pub(super) fn change_remembered(&mut self, verb: Verb, id: TaskId, now: Instant) -> Result<(), Refusal> {
        match verb {
            Verb::Retry => self.retry_one(id, now),
            Verb::Forget => {
                self.core.performer.observed.failed.remove(id);
                Ok(())
            }
        }
    }

    fn retry_one(&mut self, id: TaskId, now: Instant) -> Result<(), Refusal> {
        let Some(task) = self.core.performer.observed.failed.remove(id) else {
            return Err(Refusal::not_found("the task is not there any more"));
        };
        let newest = self.core.performer.generations.last();
        let place = newest.and_then(|newest| Some(newest.scheduler(newest.find(&task.scheduler)?)));
        let Some(scheduler) = place else {
            let text = no_heir(&self.name_of(&task.scheduler), false);
            self.core.performer.observed.failed.push(task);
            return Err(Refusal::conflict(text));
        };
        let run = self.run_again(id, scheduler, task.event.get(), task.told.as_ref(), now);
        if run.is_err() {
            self.core.performer.observed.failed.push(task);
        }
        run
    }

    /// Makes a failed task once more, which is due at once.
    pub(super) fn run_again(
        &mut self,
        id: TaskId,
        scheduler: SchedulerId,
        event: Event<'_>,
        told: Option<&Told>,
        now: Instant,
    ) -> Result<(), Refusal> {
        let restored = Restored {
            id,
            scheduler,
            map: None,
            event,
            due: now,
            attempt: 1,
            reason: "",
            waits: Waits::default(),
            failed: told.map(Told::get),
            is_kept: false,
        };
        if let Some(why) = self.core.engine.no_rule(scheduler, event.pathname) {
            Err(Refusal::conflict(no_rule(why)))
        } else if self.core.engine.restore(now, &restored, &mut self.core.performer) {
            Ok(())
        } else {
            Err(Refusal::conflict("its path has another task, or there are too many"))
        }
    }

    /// Offers places to tasks that are run again, so that the answer can say which of them have to wait.
    pub(super) fn offer_places(&mut self, ids: &[TaskId], now: Instant) {
        let core = &mut self.core;
        for id in ids.iter().take(OFFERS_A_TURN) {
            core.engine.start_due(now, *id, &mut core.performer);
        }
    }

    pub(super) fn changed(&mut self, verb: &str, ids: &[TaskId], left: Vec<Left>, peer: Peer) -> Answering {
        let mut done = Done { left, ..Done::default() };
        for id in ids {
            self.note_done(*id, &mut done);
        }
        if !ids.is_empty() {
            self.say_change(peer, format_args!("{}", Changed(verb, &done.done)));
        }
        Answering::of(done)
    }

    /// The failed tasks that are selected and that no state keeps, the oldest first; a list for each id that was named.
    pub(super) fn remembered(&self, selection: &Selection) -> Vec<Vec<TaskId>> {
        let failed = &self.core.performer.observed.failed;
        let all = failed.iter().collect::<Vec<_>>().into_iter().rev();
        let matching = |is_meant: &dyn Fn(&FailedTask) -> bool| {
            all.clone().filter(|task| is_meant(task)).map(|task| task.id).collect()
        };
        match selection {
            Selection::Ids(ids) => {
                let prefixes = ids.iter().map(|text| IdPrefix::parse(text));
                let of = |prefix: Option<IdPrefix>| {
                    matching(&|task| prefix.as_ref().is_some_and(|prefix| prefix.matches(task.id)))
                };
                prefixes.map(of).collect()
            }
            Selection::All => vec![matching(&|_| true)],
            Selection::Matching { state, scheduler, path } => {
                let filter = Matching::new(state.clone(), None, path.clone());
                vec![matching(&|task| {
                    filter.matches("failed", task.event.get().pathname)
                        && scheduler.as_deref().is_none_or(|asked| task.is_of(asked))
                })]
            }
        }
    }
}

/// The event of a name: as the config writes it, or short (`close_write`).
fn flag_named(name: &str) -> Option<Flag> {
    let upper = name.to_ascii_uppercase();
    let full = if upper.starts_with("IN_") { upper } else { format!("IN_{upper}") };
    // Configs may spell it so, too: the original's documentation does.
    if full == "IN_WRITE_CLOSE" { Some(Flag::CloseWrite) } else { full.parse().ok() }
}

/// Makes a change for each, and gives those for which it was made, and how many stay as they are, and why. Where it was
/// made for none, the last refusal says why.
pub(super) fn each<T, D>(
    all: impl IntoIterator<Item = T>,
    mut change: impl FnMut(T) -> Result<D, Refusal>,
) -> Result<(Vec<D>, Vec<Left>), Refusal> {
    let (mut done, mut left, mut last) = (Vec::new(), BTreeMap::<String, u64>::new(), None);
    for one in all {
        match change(one) {
            Ok(changed) => done.push(changed),
            Err(refusal) => {
                *left.entry(refusal.text.clone()).or_default() += 1;
                last = Some(refusal);
            }
        }
    }
    let left = left.into_iter().map(|(error, count)| Left { count, error }).collect();
    last.filter(|_| done.is_empty()).map_or(Ok((done, left)), Err)
}

fn event_of<'a>(path: &'a [u8], flag: Flag, is_dir: bool, sighting: &'a Sighting) -> Event<'a> {
    Event {
        mask: if is_dir { flag.mask() | Mask::ISDIR } else { flag.mask() },
        wd: sighting.wd,
        is_dir,
        synthetic: true,
        pathname: path,
        name_len: sighting.name_len,
        root_len: sighting.root_len,
        given_path: sighting.given_path.as_deref(),
        ..Event::overflow()
    }
}
