//! What the daemon does, as the API shows it.

use std::time::{Duration, Instant, UNIX_EPOCH};

use control::api::{
    ConfigFile, EndedView, Filter, HostStatus, List, PathText, SchedulerStatus, StateStatus, Status, Time,
    WatchStatus,
};
use hashbrown::{HashMap, HashSet};
use watcher::{RootState, WatchState};

use super::work::Matching;
use crate::config::Work;
use crate::daemon::Daemon;
use crate::daemon::failed::FailedTask;
use crate::daemon::generation::{Generation, Watching};
use crate::daemon::keep::Keeper;
use crate::daemon::observe::{End, Moments};
use crate::daemon::shutdown::State;
use crate::daemon::status::Totals;

/// How a watch stands as a whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Standing {
    Watching,
    Waiting,
    Limited,
}

impl Standing {
    pub(super) const ALL: [Standing; 3] = [Standing::Watching, Standing::Waiting, Standing::Limited];

    pub(super) fn name(self) -> &'static str {
        match self {
            Standing::Watching => "watching",
            Standing::Waiting => "waiting",
            Standing::Limited => "limited",
        }
    }

    pub(super) fn of(root: RootState) -> Standing {
        match root {
            RootState::Watched => Standing::Watching,
            RootState::Limited => Standing::Limited,
            // The filesystem that it is on has not answered yet.
            RootState::Waiting | RootState::Elsewhere => Standing::Waiting,
        }
    }
}

impl Daemon {
    /// The answer to `GET /v1/status`.
    pub(in crate::daemon) fn status_view(&self) -> Status {
        let performer = &self.core.performer;
        let newest = self.in_force();
        let reason = self.health();
        let file = |newest: &Generation, file: &crate::config::ConfigFile| ConfigFile {
            path: PathText::of(file.path.as_os_str().as_encoded_bytes()),
            loaded: Time(newest.loaded),
        };
        let config = newest.iter().flat_map(|newest| newest.source.iter().map(|read| file(newest, read)));
        let schedulers = self.scheduler_views();
        let totals = Totals::of(&*self.watcher, &self.core.engine, &performer.generations);
        Status {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            pid: std::process::id(),
            since: self.since,
            config: config.collect(),
            refused: self.control.refused.clone(),
            ready: reason.is_none(),
            reason,
            watches: newest
                .into_iter()
                .flat_map(|newest| &newest.watches)
                .map(|watch| self.watch_view(watch))
                .collect(),
            totals: totals.view(&schedulers, self.failures()),
            schedulers,
            paused_away: self.paused_away().into_iter().map(|(_, name)| name).collect(),
            host: newest.and_then(|newest| self.host_view(newest)),
            state: self.state_view(),
        }
    }

    /// How many tasks stand as failed.
    fn failures(&self) -> u64 {
        let performer = &self.core.performer;
        let kept = performer.keeper.as_ref().map_or(0, |keeper| keeper.failures.all());
        kept + performer.observed.failed.all()
    }

    fn state_view(&self) -> Option<StateStatus> {
        self.core.performer.keeper.as_ref().map(|keeper| StateStatus {
            path: PathText::of(keeper.directory().as_os_str().as_encoded_bytes()),
            checkpoint: keeper
                .checkpoint()
                .and_then(|at| at.duration_since(UNIX_EPOCH).ok())
                .map(|since| Time(since.as_secs_f64())),
            degraded: keeper.trouble().map(str::to_owned),
        })
    }

    fn watch_view(&self, watch: &Watching) -> WatchStatus {
        let WatchState { kernel_watches, roots } = self.watcher.watch_state(watch.id);
        let standings: Vec<Standing> = roots.iter().map(|(_, root)| Standing::of(*root)).collect();
        let has = |standing| standings.contains(&standing);
        let standing = match (has(Standing::Limited), has(Standing::Waiting)) {
            (true, _) => Standing::Limited,
            (false, true) => Standing::Waiting,
            (false, false) => Standing::Watching,
        };
        let waiting = roots.iter().filter(|(_, root)| Standing::of(*root) == Standing::Waiting);
        WatchStatus {
            path: PathText::of(&watch.what.listed()),
            paths: watch.what.paths().iter().map(|path| PathText::of(path)).collect(),
            kernel_watches: kernel_watches as u64,
            backend: "inotify".to_owned(),
            state: standing.name().to_owned(),
            waiting_for: waiting.map(|(path, _)| PathText::of(path)).collect(),
        }
    }

    /// The schedulers of the configuration in force in their order, then those of replaced ones that still have tasks.
    pub(super) fn scheduler_views(&self) -> Vec<SchedulerStatus> {
        let performer = &self.core.performer;
        let (mut views, mut places) = (Vec::<SchedulerStatus>::new(), HashMap::new());
        let mut names = HashSet::new();
        for action in self.by_rank().flat_map(Generation::actions) {
            // The name of one that is being set up may still be another's.
            if places.contains_key(&action.identity) || !names.insert(&action.name) {
                continue;
            }
            places.insert(&action.identity, views.len());
            views.push(SchedulerStatus {
                name: action.name.to_string(),
                kind: kind(&action.work).to_owned(),
                failed: performer.keeper.as_ref().map_or(0, |keeper| keeper.failures.of(&action.identity))
                    + performer.observed.failed.of(&action.identity),
                done: performer.observed.counts.tally(&action.name).ends(End::Ok),
                paused: self.control.pauses.contains(&action.identity),
                ..SchedulerStatus::default()
            });
        }
        for stats in self.core.engine.scheduler_stats() {
            let Some(place) = places.get(performer.identity(stats.scheduler)) else { continue };
            let view = &mut views[*place];
            view.waiting += u64::from(stats.waiting);
            view.retrying += u64::from(stats.retrying);
            view.queued += u64::from(stats.queued);
            view.running += u64::from(stats.running);
        }
        views
    }

    fn host_view(&self, newest: &Generation) -> Option<HostStatus> {
        let host = newest.jobs.host();
        let is_wanted = newest.has_jobs() || host.is_some();
        is_wanted.then(|| HostStatus {
            pid: newest.jobs.ready().map(|host| host.pid().as_raw_nonzero().get().cast_unsigned()),
            python: self.python.as_deref().map_or_else(String::new, |path| path.display().to_string()),
            restarts: self.core.performer.observed.counts.host_restarts,
        })
    }

    /// Why the daemon does not work as it should, if so.
    pub(in crate::daemon) fn health(&self) -> Option<String> {
        if self.state != State::Running {
            return Some("the daemon ends".to_owned());
        }
        let in_force = self.in_force().filter(|in_force| !self.is_being_adopted(in_force.id));
        let Some(in_force) = in_force else {
            return Some("the watches are being set up".to_owned());
        };
        if in_force.has_jobs() && in_force.jobs.ready().is_none() {
            return Some("the Python process of the jobs has ended, it is started again".to_owned());
        }
        if let Some(why) = self.core.performer.keeper.as_ref().and_then(Keeper::trouble) {
            return Some(format!("the state cannot be written: {why}"));
        }
        let states = in_force.watches.iter().flat_map(|watch| self.watcher.watch_state(watch.id).roots);
        let roots: Vec<Standing> = states.map(|(_, root)| Standing::of(root)).collect();
        let is_blind =
            !roots.is_empty() && !roots.contains(&Standing::Watching) && !roots.contains(&Standing::Limited);
        is_blind.then(|| "no path of any watch can be watched".to_owned())
    }

    /// The answer to `GET /v1/failed`: tasks that the state keeps, with those that none does.
    pub(super) fn failed_view(
        &self,
        filter: &Filter,
        kept: List<EndedView>,
        now: Instant,
    ) -> List<EndedView> {
        let matching = Matching::new(filter.state.clone(), None, filter.path.clone());
        let is_of = |task: &&FailedTask| filter.scheduler.as_deref().is_none_or(|asked| task.is_of(asked));
        let span = |since: f64| Duration::try_from_secs_f64(since).unwrap_or(Duration::MAX);
        let since = filter.since.map(|since| Moments::at(now).ago(span(since)));
        let failed = self.core.performer.observed.failed.iter();
        let matching = failed
            .filter(is_of)
            .filter(|task| matching.matches(End::Failed.name(), task.event.get().pathname))
            .map(|task| task.view(self.name_of(&task.scheduler)))
            .filter(|view| since.is_none_or(|since| view.ended >= since));
        let mut tasks: Vec<EndedView> = matching.collect();
        let total = kept.total + tasks.len() as u64;
        tasks.extend(kept.tasks);
        tasks.sort_by(|one, other| other.ended.0.total_cmp(&one.ended.0));
        tasks.truncate(filter.limit.map_or(usize::MAX, |limit| limit as usize));
        List { tasks, total }
    }

    /// Forgets the counts of schedulers that no configuration has any more.
    pub(in crate::daemon) fn keep_counts(&mut self) {
        let performer = &mut self.core.performer;
        let actions = performer.generations.iter().flat_map(Generation::actions);
        let names: HashSet<_> = actions.map(|action| action.name.clone()).collect();
        performer.observed.counts.keep(&names);
    }
}

/// As the API names it.
fn kind(work: &Work) -> &'static str {
    match work {
        Work::Job(_) => "job",
        Work::Command(_) => "command",
        Work::Rules(_) => "rule",
    }
}
