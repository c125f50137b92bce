//! Configurations come and go: the first one is adopted, a SIGHUP brings another beside it.
//!
//! The new file is executed in a host of its own while the old configuration works. Only when everything about it is
//! certain, watches included, it takes over between two events: the old schedulers are paused, the maps are switched,
//! watches that did not change keep their descriptors. Whatever fails before that leaves the old one untouched.
//!
//! There may be thousands of watches. They are added, and those of an old configuration removed, some in a turn.

use std::collections::BTreeSet;
use std::iter::Zip;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};
use std::vec::IntoIter;

use engine::{Failure, FailureKind, GenerationId, GenerationIds, MapId};
use event::{Flag, Mask};
use hashbrown::HashMap;
use watcher::{News, WatchId};

use super::config_lock::{ConfigLock, Holder};
use super::generation::{Generation, Watched, Watching};
use super::inventory::{self, Changes};
use super::keep::Keeper;
use super::loading::{LoadError, Loading, shown};
use super::perform::{GRACE, Performer};
use super::prepared::Prepared;
use super::report::{describe, in_a_line};
use super::shutdown::State;
use super::start::state_directory;
use super::{Daemon, Reload, leave};
use crate::action::sweep::Area;
use crate::config::{Config, Initial, Watch};
use crate::host::wire::FromHost;
use crate::host::{Host, HostId};
use crate::log::{Escaped, Level, Log, LoggerId, Syslog, record};

/// How long a config file may execute when another reload is asked for meanwhile.
const PATIENCE: Duration = Duration::from_secs(5);

/// What changed so shortly before the checkpoint may not have been handled: who writes a file may close it some time
/// after the last change, and times of files lag behind the clock by a tick.
const MARGIN: Duration = Duration::from_secs(1);

/// Watches that a turn adds, removes or says something of: a millisecond or two.
const WATCHES_A_TURN: usize = 256;

/// Schedulers of a replaced configuration of which a turn lets go, with their rules.
const SCHEDULERS_A_TURN: usize = 256;

/// A configuration whose watches are being set up. It is a generation already, but hears nothing yet.
pub(super) struct Adoption {
    /// Watches that are to be added.
    wanted: Zip<IntoIter<Watch>, IntoIter<Covered>>,
    numbers: GenerationIds,
    /// Maps that are to hear watches when it takes over.
    listening: Vec<(WatchId, MapId)>,
    watches: Vec<WatchId>,
    syslog: Vec<crate::config::SyslogTarget>,
    surroundings: crate::config::Surroundings,
    destinations: Vec<Vec<u8>>,
    trashes: Vec<(Vec<u8>, Duration)>,
    early: Vec<crate::log::Early>,
    filtered: BTreeSet<String>,
    owners: Vec<crate::config::Owner>,
    unwise: Vec<String>,
    history: u32,
    /// The whole of it, where somebody waits to hear what a config test says.
    examined: Option<Config>,
    looks_back: bool,
    /// What a SIGHUP brought; `None` at the start.
    reload: Option<Reloaded>,
    /// What that changes, once everything is set up.
    changes: Option<Changes>,
}

/// A reload whose configuration is being adopted.
#[derive(Clone, Copy, Default)]
pub(super) struct Reloaded {
    /// Another SIGHUP came meanwhile.
    again: bool,
}

/// What a watch covers, and one of the configuration in force that covers the same.
type Covered = (Watched, Option<WatchId>);

/// Watches of the configuration in force that another one can share, by their paths.
struct Shared<'a>(HashMap<&'a [Vec<u8>], Vec<&'a Watching>>);

impl<'a> Shared<'a> {
    fn of(generation: Option<&'a Generation>) -> Shared<'a> {
        let mut all: HashMap<_, Vec<_>> = HashMap::new();
        for watch in generation.into_iter().flat_map(|generation| &generation.watches) {
            all.entry(watch.what.paths()).or_default().push(watch);
        }
        Shared(all)
    }

    /// A watch that covers the same; each is taken once.
    fn take(&mut self, what: &Watched) -> Option<WatchId> {
        let of_paths = self.0.get_mut(what.paths())?;
        let place = of_paths.iter().position(|watch| watch.what == *what)?;
        Some(of_paths.remove(place).id)
    }
}

impl Daemon {
    /// Puts a configuration to work, beside those that still have tasks: begins to set its watches up. It takes over
    /// when they are, in [`Daemon::advance_adoption`].
    ///
    /// # Errors
    /// What keeps its watches from being set; nothing has changed then.
    pub(super) fn adopt(
        &mut self,
        prepared: Prepared,
        host: Option<Host>,
        reload: Option<Reloaded>,
        now: Instant,
    ) -> Result<(), String> {
        let Prepared { mut config, unwise, roots, destinations, trashes, owners } = prepared;
        self.check_state(&config)?;
        // The levels say which events are subscribed to, so that they come before the watches.
        let examined = reload.filter(|_| self.control.reloads.is_awaited()).map(|_| config.clone());
        let levels = self.core.performer.log.levels().clone();
        self.set_levels(&config);
        let mut watches = std::mem::take(&mut config.watches);
        let prepared = self.prepare_control(&config.control);
        let admitted = prepared.and_then(|prepared| Ok((prepared, self.admit(&config, &mut watches)?)));
        let (prepared, (shared, numbers)) =
            admitted.inspect_err(|_| self.core.performer.log.reset_levels(levels))?;
        // Nothing fails from here on.
        self.use_control(prepared);
        // What new watches tell at once runs commands before the configuration takes over.
        self.core.performer.commands.set_environment(&config.surroundings.environment);
        self.core.engine.limit_commands(now, config.max_jobs, &mut self.core.performer);
        self.check_accounts(&config, now);
        let looks_back = looks_back(&watches);
        self.adoption = Some(Adoption {
            wanted: watches.into_iter().zip(shared),
            numbers: numbers.clone(),
            syslog: std::mem::take(&mut config.syslog),
            early: std::mem::take(&mut config.early),
            filtered: std::mem::take(&mut config.filtered),
            surroundings: std::mem::take(&mut config.surroundings),
            destinations,
            trashes,
            owners,
            unwise,
            history: config.history,
            examined,
            looks_back,
            listening: Vec::new(),
            watches: Vec::new(),
            reload,
            changes: None,
        });
        let mut generation = Generation::new(config, &numbers, host, &mut self.core.performer.log, now);
        generation.roots = roots;
        self.core.performer.generations.push(generation);
        self.carry_pauses(now);
        if reload.is_none() {
            // Nobody waits yet.
            while self.is_being_added() {
                self.add_watches(now);
            }
        }
        self.advance_adoption(now);
        Ok(())
    }

    /// A reload cannot move the state: who reads it would find a part of the tasks in each place.
    fn check_state(&self, config: &Config) -> Result<(), String> {
        let wanted = state_directory(&self.options, config);
        let keeper = self.core.performer.keeper.as_ref();
        if keeper.is_none() && !self.options.dry_run {
            config.check_without_state().map_err(|fault| fault.to_string())?;
        }
        if !self.is_first_load() && wanted.as_deref() != keeper.map(Keeper::directory) {
            return Err("a reload cannot change where the state is; restart the daemon for that".to_owned());
        }
        Ok(())
    }

    fn is_first_load(&self) -> bool {
        self.core.performer.generations.is_empty()
    }

    /// Whether the watches of a configuration are being set up.
    pub(super) fn is_being_adopted(&self, generation: GenerationId) -> bool {
        self.adoption.as_ref().is_some_and(|adoption| adoption.numbers.id == generation)
    }

    /// Whether watches of a configuration are still to be added, or its roots to be looked for.
    fn is_being_added(&self) -> bool {
        let Some(Adoption { wanted, .. }) = &self.adoption else { return false };
        wanted.len() > 0 || self.core.performer.generations.last().is_some_and(Generation::has_unplaced_roots)
    }

    /// Goes on with adding watches. Lets their configuration take over when they are set up, between two events. True
    /// if there is more to do at once.
    pub(super) fn advance_adoption(&mut self, now: Instant) -> bool {
        if self.state != State::Running {
            return false;
        }
        if self.is_being_added() {
            self.add_watches(now);
        }
        if self.is_being_added() {
            return true;
        }
        let is_set_up = |adoption: &Adoption| adoption.watches.iter().all(|&id| self.watcher.is_set_up(id));
        if !self.adoption.as_ref().is_some_and(is_set_up) {
            return false;
        }
        let is_to_compare = |adoption: &Adoption| adoption.reload.is_some() && adoption.changes.is_none();
        if self.adoption.as_ref().is_some_and(is_to_compare) {
            // In a turn of its own: with thousands of schedulers it takes as long as the switch.
            let changes = Some(self.changes());
            if let Some(adoption) = &mut self.adoption {
                adoption.changes = changes;
            }
            return true;
        }
        self.switch(now);
        true
    }

    /// The configuration that is being adopted takes over.
    fn switch(&mut self, now: Instant) {
        let changes = self.adoption.as_mut().and_then(|adoption| adoption.changes.take());
        let changes = changes.map(|changes| self.with_losses(changes));
        let Some(mut adoption) = self.adoption.take() else { return };
        let is_empty = adoption.watches.is_empty();
        for (id, map) in &adoption.listening {
            self.core.routes.add(*id, *map);
        }
        self.watcher.pass_over(Vec::new());
        let (id, reload, examined) = (adoption.numbers.id, adoption.reload, adoption.examined.take());
        self.take_over(adoption, now);
        if is_empty {
            let generations = self.core.performer.generations.iter();
            let logger = generations.last().map_or(self.logger, |newest| newest.logger);
            self.say_nothing_is_watched(logger);
        }
        debug_assert!(self.core.performer.generations.last().is_some_and(|newest| newest.id == id));
        self.say_listening();
        self.lock_config();
        if let Some(changes) = changes {
            self.say_loaded(&changes);
            self.reloaded(&changes, examined, now);
        }
        if reload.is_some_and(|reload| reload.again) {
            self.load_again();
        } else {
            self.supervision.ready("watching");
        }
    }

    /// Pauses the configuration in force, and does what the new one says beside its watches.
    fn take_over(&mut self, adoption: Adoption, now: Instant) {
        let Adoption {
            numbers,
            syslog,
            early,
            filtered,
            surroundings,
            destinations,
            trashes,
            owners,
            unwise,
            history,
            looks_back,
            ..
        } = adoption;
        self.fail_orphans(now);
        self.retire_all_but(numbers.id, now);
        let newest = self.core.performer.generations.last();
        for watch in newest.into_iter().flat_map(|newest| &newest.watches) {
            // What the old one made work of was in force until now.
            self.watcher.set_schedules(watch.id, watch.schedules);
        }
        self.set_syslog(&syslog, &early);
        surroundings.apply();
        if let Some(keeper) = &mut self.core.performer.keeper {
            keeper.set_history(history);
            keeper.set_looks_back(looks_back);
        }
        self.check_owners(owners, now);
        for warning in unwise {
            record!(self.core.performer.log, Log::ROOT, WARNING, "{warning}");
        }
        self.core.performer.flush_hosts(now);
        let forwards = self.core.performer.generations.last().is_some_and(|newest| newest.forwards);
        self.forward_records(forwards);
        self.core.performer.log.set_filtered(filtered);
        let performer = &mut self.core.performer;
        let areas = destinations.into_iter().map(|directory| Area { directory, is_tree: true });
        performer.sweeps.order(areas, &mut performer.lanes, now);
        performer.trashes.set(trashes, now);
        self.place_again(now);
    }

    /// Says which watches of the configuration in force are watched by now, each once. True if there is more to say.
    pub(super) fn say_listening(&mut self) -> bool {
        if self.adoption.is_some() {
            return false;
        }
        let performer = &mut self.core.performer;
        let Some(newest) = performer.generations.last_mut().filter(|newest| !newest.all_told) else {
            return false;
        };
        // Without a path there is nothing to wait for.
        let is_listening = |watch: &&mut Watching| {
            !watch.told && (self.watcher.is_watched(watch.id) || watch.what.is_empty())
        };
        let mut said = 0;
        for watch in newest.watches.iter_mut().filter(is_listening).take(WATCHES_A_TURN) {
            watch.told = true;
            said += 1;
            let path = &watch.path_text;
            record!(performer.log, newest.logger, INFO, "start listening for inotify events on '{path}'");
        }
        newest.all_told = newest.watches.iter().all(|watch| watch.told);
        said == WATCHES_A_TURN && !newest.all_told
    }

    /// Locks the config files, and says so if another daemon runs with one.
    fn lock_config(&mut self) {
        let Some(newest) = self.core.performer.generations.last() else { return };
        let files = Arc::clone(&newest.source);
        let mut held = std::mem::take(&mut self.config_locks);
        for file in files.iter() {
            match held.iter().position(|lock| lock.is_of(&file.path)) {
                Some(at) => self.config_locks.push(held.swap_remove(at)),
                None => self.lock_file(&file.path),
            }
        }
    }

    fn lock_file(&mut self, path: &Path) {
        match ConfigLock::take(path) {
            Ok(lock) => self.config_locks.extend(lock),
            Err(Holder(pid)) => {
                let pid = pid.map_or_else(|| "its pid cannot be seen".to_owned(), |pid| format!("pid {pid}"));
                let (log, path) = (&mut self.core.performer.log, path.display());
                record!(
                    log,
                    self.logger,
                    WARNING,
                    "another daemon ({pid}) runs with the config file '{path}': both act on the same events"
                );
            }
        }
    }

    fn say_nothing_is_watched(&mut self, logger: LoggerId) {
        let log = &mut self.core.performer.log;
        record!(log, logger, WARNING, "no watches configured, the daemon will not do anything");
        let file = shown(self.options.source.files());
        let next = "uncomment or write a watch there, check it with -t, then send SIGHUP (systemctl reload pyinotifyd)";
        record!(log, logger, INFO, "next: the config file is {file}; {next}");
    }

    /// Makes room for a configuration in the watcher and the engine, or in neither. Gives what its watches cover, and
    /// those in force that cover the same.
    fn admit(
        &mut self,
        config: &Config,
        watches: &mut [Watch],
    ) -> Result<(Vec<Covered>, GenerationIds), String> {
        let mut in_force = Shared::of(self.core.performer.generations.last());
        let shared: Vec<_> = watches
            .iter_mut()
            .map(|watch| {
                let what = Watched::of(watch);
                let id = in_force.take(&what);
                (what, id)
            })
            .collect();
        let new = shared.iter().filter(|(_, id)| id.is_none()).flat_map(|(what, _)| what.paths());
        self.watcher
            .make_room(&new.map(Vec::as_slice).collect::<Vec<_>>())
            .map_err(|error| error.to_string())?;
        let specs = config.schedulers.iter().map(|scheduler| scheduler.spec.clone()).collect();
        let maps = watches.iter_mut().map(|watch| std::mem::take(&mut watch.map));
        let numbers = self.core.engine.add_generation(specs, maps, config.shutdown_timeout);
        let numbers = numbers.map_err(|error| {
            self.watcher.make_room(&[]).expect("nothing has room");
            error.to_string()
        })?;
        let in_force = self.core.performer.generations.last();
        let seen_by = in_force.into_iter().flat_map(|in_force| &in_force.watches).map(|watch| watch.id);
        self.watcher.pass_over(seen_by.collect());
        Ok((shared, numbers))
    }

    /// What all configurations together want told of these watches, those that were replaced included: they still
    /// cancel.
    fn interests(&self, of: impl Iterator<Item = WatchId>) -> HashMap<WatchId, Mask> {
        let mut interests: HashMap<WatchId, Mask> = of.map(|id| (id, Mask::NONE)).collect();
        for watch in self.core.performer.generations.iter().flat_map(|generation| &generation.watches) {
            if let Some(interest) = interests.get_mut(&watch.id) {
                *interest |= watch.interest;
            }
        }
        interests
    }

    /// Adds some of the watches that are wanted. One that covers the same as a watch of the configuration in force
    /// shares it.
    fn add_watches(&mut self, now: Instant) {
        let Some(adoption) = &mut self.adoption else { return };
        let slice: Vec<_> = adoption.wanted.by_ref().take(WATCHES_A_TURN).collect();
        let interests = self.interests(slice.iter().filter_map(|(_, (_, shared))| *shared));
        for (watch, (what, shared)) in slice {
            let interest = self.interest(&watch);
            let id = match shared {
                Some(id) => {
                    // Widened before the switch, so that the new map misses nothing; narrowed when the old one is done.
                    self.watcher.set_interest(id, interest | interests[&id], &mut self.core);
                    id
                }
                None => self.add_watch(&watch, &what, interest, now),
            };
            let Some(adoption) = &mut self.adoption else { return };
            let map = adoption.numbers.map(adoption.watches.len());
            if watch.initial != Initial::None && !self.core.routes.has(id) {
                // What is told of it at its start goes to nobody else.
                self.core.routes.add(id, map);
            } else {
                adoption.listening.push((id, map));
            }
            adoption.watches.push(id);
            let newest = self.core.performer.generations.last_mut();
            let newest = newest.expect("what is being adopted is a generation");
            let (settings, path_text, schedules) = (watch.settings, watch.path_text, watch.schedules);
            let told = false;
            newest.watches.push(Watching { id, map, path_text, told, what, interest, schedules, settings });
        }
        let Performer { generations, lanes, .. } = &mut self.core.performer;
        if let Some(newest) = generations.last_mut() {
            newest.place_roots(&mut lanes.filesystems, now);
        }
    }

    fn add_watch(&mut self, watch: &Watch, what: &Watched, interest: Mask, now: Instant) -> WatchId {
        let initial = self.initial(watch);
        self.core.makes_watches = initial.is_some();
        let id = self.watcher.add(what.spec(interest, watch.schedules, initial), now, &mut self.core);
        self.core.makes_watches = false;
        let id = id.expect("room was made for its paths");
        if matches!(initial, Some(News::Since(_))) {
            self.core.told_before.applies_to(id);
        }
        id
    }

    /// What is told of what is there already. The clock may have been set since the checkpoint.
    fn initial(&self, watch: &Watch) -> Option<News> {
        let checkpoint = self.core.performer.keeper.as_ref().and_then(Keeper::checkpoint);
        match watch.initial {
            Initial::None => None,
            Initial::All => Some(News::Everything),
            Initial::Changed => {
                let since = checkpoint.filter(|checkpoint| *checkpoint <= SystemTime::now());
                Some(since.map_or(News::Everything, |since| News::Since(since - MARGIN)))
            }
        }
    }

    /// Events that a watch subscribes to: what its map uses, or all where the log shows every event.
    fn interest(&self, watch: &Watch) -> Mask {
        let performer = &self.core.performer;
        if performer.log.enabled(performer.eventmap, Level::DEBUG) {
            return Flag::ALL.into_iter().collect();
        }
        watch.interest
    }

    fn set_levels(&mut self, config: &Config) {
        let log = &mut self.core.performer.log;
        for (name, level) in &config.levels {
            log.set_level(name, *level);
        }
        if self.options.debug {
            log.set_level("", Level::DEBUG);
        }
    }

    fn set_syslog(&mut self, targets: &[crate::config::SyslogTarget], early: &[crate::log::Early]) {
        let target = |target: &crate::config::SyslogTarget| {
            Syslog::new(target.address.clone(), target.level, target.logname.as_deref())
        };
        if !targets.is_empty() {
            let targets = targets.iter().map(target).collect();
            self.core.performer.log.set_syslog(targets, early);
        }
    }

    /// Tasks whose scheduler the newest configuration does not have fail for good, where tasks are kept; else they end
    /// with their configuration.
    fn fail_orphans(&mut self, now: Instant) {
        let performer = &mut self.core.performer;
        if performer.keeper.is_none() {
            return;
        }
        let Some((newest, old)) = performer.generations.split_last() else { return };
        let mut orphans = Vec::new();
        for generation in old.iter().filter(|old| !old.retired) {
            orphans.extend(
                inventory::orphans(generation, newest)
                    .filter_map(|(id, action, why)| action.persist.then_some((id, why))),
            );
        }
        for (id, text) in orphans {
            let failure = Failure::new(FailureKind::Error, text);
            self.core.engine.fail_all(now, id, &failure, performer);
        }
    }

    /// Pauses the configurations in force; their tasks run to their end.
    fn retire_all_but(&mut self, newest: GenerationId, now: Instant) {
        let generations = &self.core.performer.generations;
        let fresh = generations.iter().filter(|old| !old.retired && old.id != newest);
        let fresh: Vec<_> = fresh.map(|old| (old.id, successors(old, generations))).collect();
        for (id, maps) in fresh {
            let successor = |map| maps.get(&map).copied();
            self.core.engine.retire(now, id, successor, &mut self.core.performer);
        }
        // Jobs that have not begun begin in the configuration that goes on with them: what was started goes first.
        self.core.performer.flush_hosts(now);
        for old in &mut self.core.performer.generations {
            if !old.retired && old.id != newest {
                old.retired = true;
                old.begin_end(now);
                old.jobs.recall();
            }
        }
        self.rename_retired();
    }

    /// Lets go of replaced configurations whose tasks have all ended. True if there is more to do at once.
    pub(super) fn drop_generations(&mut self, now: Instant) -> bool {
        while let Some(place) = self.ended_generation() {
            self.drop_watches(place);
            let old = &mut self.core.performer.generations[place];
            old.forget_schedulers(SCHEDULERS_A_TURN);
            if !old.watches.is_empty() || old.schedulers() > 0 {
                return true;
            }
            self.drop_generation(place, now);
        }
        false
    }

    fn ended_generation(&self) -> Option<usize> {
        let (engine, generations) = (&self.core.engine, &self.core.performer.generations);
        generations.iter().position(|generation| generation.retired && engine.generation_done(generation.id))
    }

    /// Lets go of some of the watches of a replaced configuration.
    fn drop_watches(&mut self, place: usize) {
        self.say_end_of_listening(place, WATCHES_A_TURN);
        let watches = &mut self.core.performer.generations[place].watches;
        let slice: Vec<Watching> = watches.drain(..watches.len().min(WATCHES_A_TURN)).collect();
        let interests = self.interests(slice.iter().map(|watch| watch.id));
        for watch in slice {
            if self.core.routes.remove(watch.id, watch.map) {
                self.watcher.remove(watch.id, &mut self.core);
            } else {
                self.watcher.set_interest(watch.id, interests[&watch.id], &mut self.core);
            }
        }
    }

    fn drop_generation(&mut self, place: usize, now: Instant) {
        // What the host's handlers are to get goes before the word to end.
        self.core.performer.flush_hosts(now);
        let mut old = self.core.performer.generations.remove(place);
        self.forward_records(false);
        self.keep_counts();
        if let Some(host) = old.jobs.close() {
            leave(&mut self.leaving, host, old.host_may_take_until(now));
        }
    }

    /// Says that the first of a generation's watches are of no more use.
    pub(super) fn say_end_of_listening(&mut self, place: usize, count: usize) {
        let performer = &mut self.core.performer;
        let Generation { watches, logger, .. } = &performer.generations[place];
        for watch in watches.iter().take(count) {
            let path = &watch.path_text;
            record!(performer.log, *logger, DEBUG, "stop listening for inotify events on '{path}'");
        }
    }

    /// Keeps records for hosts as long as there is one that wants them.
    fn forward_records(&mut self, newest_does: bool) {
        let performer = &mut self.core.performer;
        let others_do = performer.generations.iter().any(|generation| generation.forwards);
        performer.log.forward(newest_does || others_do);
    }

    /// SIGHUP.
    pub(super) fn begin_reload(&mut self, now: Instant) {
        if self.state != State::Running {
            record!(
                self.core.performer.log,
                self.logger,
                INFO,
                "got signal SIGHUP, but shutdown already in progress"
            );
            return;
        }
        if self.options.source.files().is_empty() {
            return self.hang_up(now);
        }
        record!(self.core.performer.log, self.logger, INFO, "got signal SIGHUP, reload config file");
        self.reload_config();
    }

    /// Loads the config file again, or once more if that is being done.
    pub(super) fn reload_config(&mut self) {
        match (&mut self.reload, &mut self.adoption) {
            (Some(reload), _) => reload.again = true,
            (None, Some(adoption)) => {
                adoption.reload.get_or_insert(Reloaded { again: true }).again = true;
            }
            (None, None) => self.load_again(),
        }
    }

    fn load_again(&mut self) {
        let id = self.next_host_id();
        self.control.reloads.begin();
        self.supervision.reloading();
        let (log, events) = (&self.core.performer.log, self.host_events.clone());
        match Loading::start(&self.options, None, id, log, events, Prepared::new) {
            Ok(loading) => {
                self.reload = Some(Reload { loading, since: self.core.performer.now, again: false });
            }
            Err(error) => {
                self.reload_failed(error);
                self.supervision.ready("watching, the reload failed");
            }
        }
    }

    /// When the execution of a config file has to give way to the next one that was asked for.
    pub(super) fn reload_overdue(&self) -> Option<Instant> {
        self.reload.as_ref().filter(|reload| reload.again).map(|reload| reload.since + PATIENCE)
    }

    /// Gives up an execution that does not end, for the next one: the file may have been mended.
    pub(super) fn replace_reload(&mut self, now: Instant) {
        if self.reload_overdue().is_none_or(|at| at > now) {
            return;
        }
        // Letting go of its host kills it.
        self.reload = None;
        let seconds = PATIENCE.as_secs();
        let text = format_args!(
            "the config file has not come to its end within {seconds} seconds, it is stopped and executed again"
        );
        self.core.performer.log.write(self.logger, Level::WARNING, text);
        self.load_again();
    }

    /// A number for another host.
    pub(super) fn next_host_id(&mut self) -> HostId {
        let id = HostId(self.hosts_started);
        self.hosts_started += 1;
        id
    }

    /// A frame of the host that executes the new config file.
    pub(super) fn reload_frame(&mut self, frame: FromHost, now: Instant) {
        let Some(reload) = &mut self.reload else { return };
        let Some(outcome) = reload.loading.frame(frame, &mut self.core.performer.log) else { return };
        self.end_reload(outcome, now);
    }

    /// The load of the new config file came to its end.
    pub(super) fn end_reload(&mut self, outcome: Result<Prepared, LoadError>, now: Instant) {
        let Some(Reload { loading, again, .. }) = self.reload.take() else { return };
        match outcome {
            Ok(mut prepared) => {
                let config = &mut prepared.config;
                config.early = loading.early;
                for warning in &config.warnings {
                    record!(self.core.performer.log, Log::ROOT, WARNING, "{warning}");
                }
                let stays = config.host_stays;
                let host = if stays {
                    Some(loading.host)
                } else {
                    leave(&mut self.leaving, loading.host, now + GRACE)
                };
                self.python = Some(Arc::clone(&loading.python));
                match self.adopt(prepared, host, Some(Reloaded { again }), now) {
                    // It goes on when the watches are set up.
                    Ok(()) => return,
                    Err(text) => self.reload_error(&text, &text),
                }
            }
            Err(error) => {
                // Of one whose end brought us here nothing more is heard.
                if !loading.host.has_ended() {
                    leave(&mut self.leaving, loading.host, now + GRACE);
                }
                self.reload_failed(error);
            }
        }
        if again {
            self.load_again();
        } else {
            self.supervision.ready("watching");
        }
    }

    fn reload_failed(&mut self, error: LoadError) {
        let (text, line) = match error {
            LoadError::Fault(fault) => {
                let (text, line) = (describe(&fault, self.options.debug), in_a_line(&fault));
                if let Some(path) = fault.path {
                    let file = format!("'{}'", Escaped(&path.0));
                    self.reload_refused(Some(&path.0), &line);
                    return self.refuse_file(&file, &text);
                }
                (text, line)
            }
            LoadError::Exit(exit) => {
                let text = format!("it calls sys.exit with status {}", exit.code);
                (text.clone(), text)
            }
        };
        self.reload_error(&text, &line);
    }

    /// Says what a reload did. What it has ended does not go on.
    fn say_loaded(&mut self, changes: &Changes) {
        let left = self.core.engine.stats();
        let tasks = left.waiting + left.queued + left.running;
        let performer = &mut self.core.performer;
        let Some(newest) = performer.generations.last() else { return };
        let watches = counted(newest.watches.len() as u64, "watch", "watches");
        let schedulers = counted(newest.schedulers() as u64, "scheduler", "schedulers");
        let tasks = counted(tasks, "task goes on", "tasks go on");
        let log = &mut performer.log;
        record!(log, self.logger, INFO, "configuration loaded: {watches}, {schedulers}; {tasks}");
        record!(log, self.logger, INFO, "what the reload changed: {}", changes.in_short());
    }

    /// Says why, in the log and in one line to whoever asked for it.
    fn reload_error(&mut self, text: &str, line: &str) {
        self.reload_refused(None, line);
        self.refuse_file(&shown(self.options.source.files()), text);
    }

    fn refuse_file(&mut self, file: &str, text: &str) {
        let performer = &mut self.core.performer;
        let since = performer.generations.last().map_or(0.0, |newest| newest.loaded);
        let log = &mut performer.log;
        let since = log.time(since);
        record!(
            log,
            Log::ROOT,
            ERROR,
            "unable to reload config file {file}: {text}\n  the configuration from {since} stays in force"
        );
    }
}

/// Whether the daemon looks, at its end, at what was told lately: for the next one, which looks for what has changed.
/// Not where somebody hears of such looks.
fn looks_back(watches: &[Watch]) -> bool {
    let of_looks = Flag::Open.mask() | Flag::CloseNowrite.mask();
    let is_heard = watches.iter().any(|watch| watch.interest.intersects(of_looks));
    !is_heard && watches.iter().any(|watch| watch.initial == Initial::Changed)
}

pub(super) fn counted(count: impl Into<u64>, one: &str, many: &str) -> String {
    let count = count.into();
    format!("{count} {}", if count == 1 { one } else { many })
}

/// The maps of a configuration with those of the newest one that take their place: of the same watch, or else of one of
/// the same paths.
fn successors(old: &Generation, generations: &[Generation]) -> HashMap<MapId, MapId> {
    let Some(newest) = generations.last() else { return HashMap::new() };
    // The first of several is the one.
    let by_id: HashMap<WatchId, MapId> =
        newest.watches.iter().rev().map(|watch| (watch.id, watch.map)).collect();
    let by_path: HashMap<&str, MapId> =
        newest.watches.iter().rev().map(|watch| (&watch.path_text[..], watch.map)).collect();
    let heir = |watch: &Watching| by_id.get(&watch.id).or_else(|| by_path.get(&watch.path_text[..])).copied();
    old.watches.iter().filter_map(|watch| Some((watch.map, heir(watch)?))).collect()
}
