//! One load of the configuration at work: its schedulers as the engine numbers them, its watches, its host.

use std::collections::{BTreeMap, HashMap};
use std::ops::Range;
use std::sync::Arc;
use std::time::{Duration, Instant};

use engine::{GenerationId, MapId, SchedulerId};
use watcher::{News, WatchId};

use crate::action::descent::Place;
use crate::config::{Config, ConfigFile, Digest, ExcludeFilter, Identity, Scheduler, Settled, Watch, Work};
use crate::daemon::jobs::Jobs;
use crate::daemon::perform::GRACE;
use crate::host::Host;
use crate::lane::Filesystems;
use crate::log::{Log, LoggerId, record};
use event::Mask;

/// Roots that a turn finds again: a millisecond or two.
const ROOTS_A_TURN: usize = 256;

/// See the module's head.
#[derive(Debug)]
pub(crate) struct Generation {
    /// The engine's number.
    pub id: GenerationId,
    /// The engine's numbers of its schedulers.
    schedulers: Range<u32>,
    /// What each of them does and where it logs.
    actions: Vec<Action>,
    /// The places of those of one name, which may be of several files.
    by_name: HashMap<Arc<str>, Vec<usize>>,
    /// Its watches as the watcher and the engine know them.
    pub watches: Vec<Watching>,
    /// Their paths, absolute, with wildcards.
    pub roots: Vec<Vec<u8>>,
    /// Where they are, as far as that was found out; `None` when the rules were told.
    pub places: Option<Vec<Place>>,
    /// All of them were said to be watched.
    pub all_told: bool,
    /// Its custom jobs and their host.
    pub jobs: Jobs,
    /// Whether handlers in its host want the daemon's records.
    pub forwards: bool,
    /// Logger for starting and ending to listen.
    pub logger: LoggerId,
    /// What holds for all of it, by what people call it.
    pub settings: BTreeMap<String, String>,
    /// What a restarted host must repeat.
    pub fingerprint: String,
    /// What it executes.
    pub source: Arc<[ConfigFile]>,
    /// When it was loaded, in seconds since the epoch.
    pub loaded: f64,
    /// Whether a newer one has replaced it.
    pub retired: bool,
    /// Time that its tasks, and its host after them, have to end.
    shutdown_timeout: Duration,
    /// When that is over, from when it was asked to end.
    ends_by: Option<Instant>,
}

/// A scheduler's work and its place in the log.
#[derive(Debug)]
pub(crate) struct Action {
    /// What people call the scheduler.
    pub name: Arc<str>,
    /// What identifies it.
    pub identity: Identity,
    /// Logger of its records.
    pub logger: LoggerId,
    /// The delay as configured.
    pub delay_text: Arc<str>,
    /// Tells whether it does the same as before.
    pub digest: Arc<str>,
    /// Tells whether anything of it changed.
    pub settings: Digest,
    /// Its tasks are kept, where there is a state.
    pub persist: bool,
    /// It has one task for all paths.
    pub is_single: bool,
    /// A command or job that the end of the daemon interrupted is run again.
    pub rerun: bool,
    /// What its tasks do.
    pub work: Work,
    /// What has to be so before they start.
    pub settled: Option<Arc<Settled>>,
}

/// A watch of a generation.
#[derive(Debug)]
pub(crate) struct Watching {
    /// The watcher's number; watches that a reload did not change keep it.
    pub id: WatchId,
    /// The engine's number of its map.
    pub map: MapId,
    /// As log lines show it.
    pub path_text: String,
    /// Whether the log said that it is watched: not before one of its paths is there.
    pub told: bool,
    /// What makes two watches the same for the watcher.
    pub what: Watched,
    /// Events that its map wants.
    pub interest: Mask,
    /// Those of them that make tasks for files.
    pub schedules: Mask,
    /// Tells whether anything of it changed.
    pub settings: Digest,
}

/// What a watch covers; a reload keeps the descriptors of a watch that covers the same.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Watched {
    paths: Vec<Vec<u8>>,
    rec: bool,
    auto_add: bool,
    exclude: Option<Arc<ExcludeFilter>>,
}

impl Watched {
    /// Of a configured watch, which loses its paths.
    pub(crate) fn of(watch: &mut Watch) -> Watched {
        Watched {
            paths: std::mem::take(&mut watch.paths),
            rec: watch.rec,
            auto_add: watch.auto_add,
            exclude: watch.exclude.clone(),
        }
    }

    /// Its paths for a person.
    pub(crate) fn listed(&self) -> Vec<u8> {
        self.paths.join(&b", "[..])
    }

    /// Its paths, as configured.
    pub(crate) fn paths(&self) -> &[Vec<u8>] {
        &self.paths
    }

    /// Whether it names no path at all.
    pub(crate) fn is_empty(&self) -> bool {
        self.paths.is_empty()
    }

    /// What the watcher is asked to watch.
    pub(crate) fn spec(&self, interest: Mask, schedules: Mask, initial: Option<News>) -> watcher::WatchSpec {
        let exclude = self.exclude.clone().map(|filter| -> watcher::Exclude {
            // A pattern that gave up excludes: a directory that may be excluded is not entered.
            Arc::new(move |path: &[u8]| filter.0.any_match(path).unwrap_or(true))
        });
        watcher::WatchSpec {
            paths: self.paths.clone(),
            rec: self.rec,
            auto_add: self.auto_add,
            interest,
            schedules,
            exclude,
            initial,
        }
    }
}

impl Generation {
    /// Puts a configuration in place; its watches are added by the caller.
    pub(crate) fn new(
        config: Config,
        engine: &engine::GenerationIds,
        host: Option<Host>,
        log: &mut Log,
        now: Instant,
    ) -> Generation {
        for scheduler in &config.schedulers {
            record!(log, Log::ROOT, DEBUG, "{}", scheduler.summary());
        }
        let action = |scheduler: Scheduler| Action {
            name: scheduler.name,
            identity: scheduler.identity,
            logger: log.logger(&scheduler.logname),
            delay_text: scheduler.delay_text.into(),
            digest: scheduler.digest.to_string().into(),
            settings: scheduler.settings,
            persist: scheduler.spec.persist,
            is_single: scheduler.spec.singlejob,
            rerun: scheduler.rerun,
            work: scheduler.work,
            settled: scheduler.settled,
        };
        let actions: Vec<Action> = config.schedulers.into_iter().map(action).collect();
        let mut by_name: HashMap<_, Vec<_>> = HashMap::new();
        for (place, action) in actions.iter().enumerate() {
            by_name.entry(Arc::clone(&action.identity.name)).or_default().push(place);
        }
        Generation {
            id: engine.id,
            schedulers: engine.schedulers.clone(),
            actions,
            by_name,
            watches: Vec::new(),
            roots: Vec::new(),
            places: Some(Vec::new()),
            all_told: false,
            jobs: Jobs::new(host, now),
            forwards: config.handlers,
            logger: log.logger(&config.logname),
            loaded: log.now(),
            settings: config.settings,
            fingerprint: config.fingerprint,
            source: config.source,
            retired: false,
            shutdown_timeout: config.shutdown_timeout,
            ends_by: None,
        }
    }

    /// Finds out where some more of its roots are. True if there are more.
    pub(crate) fn place_roots(&mut self, filesystems: &mut Filesystems, now: Instant) -> bool {
        if let Some(places) = &mut self.places {
            let next = self.roots.iter().skip(places.len()).take(ROOTS_A_TURN);
            let directories = next.map(|root| watcher::glob::literal_prefix(root));
            places.extend(directories.map(|root| Place::of(&filesystems.of_directory(&root, now))));
        }
        self.has_unplaced_roots()
    }

    /// Whether it is not known yet where some of its roots are.
    pub(crate) fn has_unplaced_roots(&self) -> bool {
        self.places.as_ref().is_some_and(|places| places.len() < self.roots.len())
    }

    /// Whether it has no time to end: what waits is not done then.
    pub(crate) fn ends_at_once(&self) -> bool {
        self.shutdown_timeout.is_zero()
    }

    /// It is asked to end: the time for that begins.
    pub(crate) fn begin_end(&mut self, now: Instant) {
        self.ends_by = Some(now + self.shutdown_timeout);
        self.jobs.begin_end();
    }

    /// It is asked to end, and the time for that is over.
    pub(crate) fn end_now(&mut self, now: Instant) {
        self.ends_by = Some(now);
    }

    /// Whether it was asked to end, and the time for that is over.
    pub(crate) fn has_to_end(&self, now: Instant) -> bool {
        self.ends_by.is_some_and(|ends_by| ends_by <= now)
    }

    /// How long its host may take to end by itself: what is left of the time, and the grace at least.
    pub(crate) fn host_may_take_until(&self, now: Instant) -> Instant {
        self.ends_by.unwrap_or(now).max(now + GRACE)
    }

    /// Whether a scheduler is one of this generation.
    pub(crate) fn owns(&self, scheduler: SchedulerId) -> bool {
        self.schedulers.contains(&scheduler.0)
    }

    /// How many schedulers it has.
    pub(crate) fn schedulers(&self) -> usize {
        self.actions.len()
    }

    /// Lets go of the last of its schedulers.
    pub(crate) fn forget_schedulers(&mut self, count: usize) {
        self.actions.truncate(self.actions.len().saturating_sub(count));
        self.schedulers.end = self.schedulers.start + self.actions.len() as u32;
        self.by_name.clear();
    }

    /// Its schedulers.
    pub(crate) fn actions(&self) -> &[Action] {
        &self.actions
    }

    /// The same, to call them otherwise.
    pub(crate) fn actions_mut(&mut self) -> &mut [Action] {
        &mut self.actions
    }

    /// Whether a scheduler of it has that name in its file.
    pub(crate) fn has_name(&self, name: &str) -> bool {
        self.by_name.contains_key(name)
    }

    /// What people call a scheduler, also one that it does not have: the name alone while it is the only one.
    pub(crate) fn name_of(&self, scheduler: &Identity) -> String {
        let is_alone = |action: &Action| action.identity == *scheduler && *action.name == *scheduler.name;
        if self.namesakes(scheduler).all(|place| is_alone(&self.actions[place])) {
            scheduler.name.to_string()
        } else {
            scheduler.to_string()
        }
    }

    /// Whether it has custom jobs.
    pub(crate) fn has_jobs(&self) -> bool {
        self.actions.iter().any(|action| matches!(action.work, Work::Job(_)))
    }

    /// A scheduler's place in the configuration.
    pub(crate) fn index_of(&self, scheduler: SchedulerId) -> usize {
        (scheduler.0 - self.schedulers.start) as usize
    }

    /// The place of the scheduler with a name.
    pub(crate) fn find(&self, identity: &Identity) -> Option<usize> {
        self.namesakes(identity).find(|place| self.actions[*place].identity == *identity)
    }

    /// The places of the schedulers with a name, of all files.
    fn namesakes(&self, scheduler: &Identity) -> impl Iterator<Item = usize> + '_ {
        self.by_name.get(&*scheduler.name).into_iter().flatten().copied()
    }

    /// The engine's number of the scheduler at a place.
    pub(crate) fn scheduler(&self, index: usize) -> SchedulerId {
        SchedulerId(self.schedulers.start + index as u32)
    }

    /// The work of the scheduler at a place.
    pub(crate) fn action_at(&self, index: usize) -> &Action {
        &self.actions[index]
    }

    /// All its schedulers.
    pub(crate) fn all(&self) -> impl Iterator<Item = (SchedulerId, &Action)> {
        self.schedulers.clone().map(SchedulerId).zip(&self.actions)
    }

    /// A scheduler's work.
    pub(crate) fn action(&self, scheduler: SchedulerId) -> &Action {
        &self.actions[self.index_of(scheduler)]
    }
}
