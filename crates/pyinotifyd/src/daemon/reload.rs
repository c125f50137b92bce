//! Configurations come and go: the first one is adopted, a SIGHUP brings another beside it.
//!
//! The new file is executed in a host of its own while the old configuration works. Only when everything about it is
//! certain, watches included, it takes over between two events: the old schedulers are paused, the maps are switched,
//! watches that did not change keep their descriptors. Whatever fails before that leaves the old one untouched.

use std::time::{Duration, Instant};

use engine::GenerationIds;
use event::{Flag, Mask};
use watcher::WatchId;

use super::config_lock::{ConfigLock, Holder};
use super::generation::{Generation, Watched, Watching};
use super::loading::{LoadError, Loading};
use super::perform::GRACE;
use super::report::describe;
use super::shutdown::State;
use super::{Daemon, Reload, leave};
use crate::config::{Config, Watch, feeding_warnings};
use crate::host::wire::FromHost;
use crate::host::{Host, HostId};
use crate::log::{Level, Log, LoggerId, Syslog, record};

/// How long a config file may execute when another reload is asked for meanwhile.
const PATIENCE: Duration = Duration::from_secs(5);

impl Daemon {
    /// Puts a configuration to work, beside those that still have tasks.
    ///
    /// # Errors
    /// What keeps its watches from being set; nothing has changed then.
    pub(super) fn adopt(
        &mut self,
        mut config: Config,
        host: Option<Host>,
        now: Instant,
    ) -> Result<(), String> {
        // The levels say which events are subscribed to, so that they come before the watches.
        let levels = self.core.performer.log.levels().clone();
        self.set_levels(&config);
        let feeding = feeding_warnings(&config);
        let watches = std::mem::take(&mut config.watches);
        let admitted = self.admit(&config, &watches, now);
        let (ids, numbers) = admitted.inspect_err(|_| self.core.performer.log.reset_levels(levels))?;
        // Nothing fails from here on.
        self.retire_all(now);
        self.set_syslog(&config);
        config.surroundings.apply();
        self.core.performer.commands.set_environment(std::mem::take(&mut config.surroundings.environment));
        let destinations = config.destinations();
        self.check_owners(config.owners(), now);
        for warning in feeding {
            record!(self.core.performer.log, Log::ROOT, WARNING, "{warning}");
        }
        let filtered = std::mem::take(&mut config.filtered);
        let mut generation = Generation::new(config, &numbers, host, &mut self.core.performer.log, now);
        self.core.performer.flush_hosts(now);
        self.forward_records(generation.forwards);
        self.core.performer.log.set_filtered(filtered);
        let performer = &mut self.core.performer;
        performer.sweeps.order(destinations, &mut performer.lanes, now);
        if watches.is_empty() {
            self.say_nothing_is_watched(generation.logger);
        }
        for ((index, watch), id) in watches.into_iter().enumerate().zip(ids) {
            let map = numbers.map(index);
            self.core.routes.add(id, map);
            let interest = self.interest(&watch);
            generation.watches.push(Watching {
                id,
                map,
                what: Watched::of(&watch),
                interest,
                path_text: watch.path_text,
                told: false,
            });
        }
        self.core.performer.generations.push(generation);
        self.say_listening();
        self.lock_config();
        Ok(())
    }

    /// Says which watches of the configuration in force are watched by now, each once.
    pub(super) fn say_listening(&mut self) {
        let performer = &mut self.core.performer;
        let Some(newest) = performer.generations.last_mut().filter(|newest| !newest.all_told) else { return };
        for watch in newest.watches.iter_mut().filter(|watch| !watch.told) {
            // Without a path there is nothing to wait for.
            if self.watcher.is_watched(watch.id) || watch.what.is_empty() {
                watch.told = true;
                let path = &watch.path_text;
                record!(performer.log, newest.logger, INFO, "start listening for inotify events on '{path}'");
            }
        }
        newest.all_told = newest.watches.iter().all(|watch| watch.told);
    }

    /// Locks the config file, and says so if another daemon runs with it.
    fn lock_config(&mut self) {
        let path = &self.options.config;
        if self.config_lock.as_ref().is_some_and(|lock| lock.is_of(path)) {
            return;
        }
        match ConfigLock::take(path) {
            Ok(lock) => self.config_lock = lock,
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
        let file = self.options.config.display();
        let next = "uncomment or write a watch there, check it with -t, then send SIGHUP (systemctl reload pyinotifyd)";
        record!(log, logger, INFO, "next: the config file is '{file}'; {next}");
    }

    /// Makes room for a configuration in the watcher and the engine, or in neither.
    fn admit(
        &mut self,
        config: &Config,
        watches: &[Watch],
        now: Instant,
    ) -> Result<(Vec<WatchId>, GenerationIds), String> {
        let (ids, added) = self.add_watches(watches, now)?;
        let specs = config.schedulers.iter().map(|scheduler| scheduler.spec.clone()).collect();
        let maps = watches.iter().map(|watch| watch.map.clone()).collect();
        match self.core.engine.add_generation(specs, maps, config.shutdown_timeout) {
            Ok(numbers) => Ok((ids, numbers)),
            Err(error) => {
                self.remove_watches(added);
                Err(error.to_string())
            }
        }
    }

    fn remove_watches(&mut self, ids: Vec<WatchId>) {
        for id in ids {
            self.watcher.remove(id, &mut self.core);
        }
    }

    /// Adds all watches, or none; returns all, and those that are new. One that covers the same as a watch of the
    /// configuration in force shares it.
    fn add_watches(
        &mut self,
        watches: &[Watch],
        now: Instant,
    ) -> Result<(Vec<WatchId>, Vec<WatchId>), String> {
        let mut shared: Vec<(WatchId, Watched, Mask)> = self
            .core
            .performer
            .generations
            .last()
            .map(|newest| {
                newest.watches.iter().map(|watch| (watch.id, watch.what.clone(), watch.interest)).collect()
            })
            .unwrap_or_default();
        let mut ids = Vec::new();
        let mut added = Vec::new();
        for watch in watches {
            let (what, interest) = (Watched::of(watch), self.interest(watch));
            if let Some(place) = shared.iter().position(|(_, other, _)| *other == what) {
                let (id, _, old) = shared.remove(place);
                // Widened before the switch, so that the new map misses nothing; narrowed when the old one is done.
                self.watcher.set_interest(id, interest | old, &mut self.core);
                ids.push(id);
                continue;
            }
            match self.watcher.add(what.spec(interest), now, &mut self.core) {
                Ok(id) => {
                    ids.push(id);
                    added.push(id);
                }
                Err(error) => {
                    self.remove_watches(added);
                    return Err(error.to_string());
                }
            }
        }
        Ok((ids, added))
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

    fn set_syslog(&mut self, config: &Config) {
        let target = |target: &crate::config::SyslogTarget| {
            Syslog::new(target.address.clone(), target.level, target.logname.as_deref())
        };
        if !config.syslog.is_empty() {
            let targets = config.syslog.iter().map(target).collect();
            self.core.performer.log.set_syslog(targets, &config.early);
        }
    }

    /// Pauses the configurations in force; their tasks run to their end.
    fn retire_all(&mut self, now: Instant) {
        let fresh: Vec<_> =
            self.core.performer.generations.iter().filter(|old| !old.retired).map(|old| old.id).collect();
        for id in fresh {
            self.core.engine.retire(now, id, &mut self.core.performer);
        }
        for old in &mut self.core.performer.generations {
            if !old.retired {
                old.retired = true;
                old.begin_end(now);
            }
        }
    }

    /// Lets go of replaced configurations whose tasks have all ended.
    pub(super) fn drop_generations(&mut self, now: Instant) {
        let done =
            |generation: &Generation| generation.retired && self.core.engine.generation_done(generation.id);
        let Some(place) = self.core.performer.generations.iter().position(done) else { return };
        self.say_end_of_listening(place);
        // What the host's handlers are to get goes before the word to end.
        self.core.performer.flush_hosts(now);
        let mut old = self.core.performer.generations.remove(place);
        self.forward_records(false);
        for watch in &old.watches {
            if self.core.routes.remove(watch.id, watch.map) {
                self.watcher.remove(watch.id, &mut self.core);
            } else {
                let left = self.core.performer.generations.iter().flat_map(|generation| &generation.watches);
                let left = left
                    .filter(|other| other.id == watch.id)
                    .fold(Mask::NONE, |all, other| all | other.interest);
                self.watcher.set_interest(watch.id, left, &mut self.core);
            }
        }
        if let Some(host) = old.jobs.close() {
            leave(&mut self.leaving, host, old.host_may_take_until(now));
        }
    }

    /// Says that a generation's watches are of no more use.
    pub(super) fn say_end_of_listening(&mut self, place: usize) {
        let performer = &mut self.core.performer;
        let Generation { watches, logger, .. } = &performer.generations[place];
        for watch in watches {
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
    pub(super) fn begin_reload(&mut self) {
        if self.state != State::Running {
            record!(
                self.core.performer.log,
                self.logger,
                INFO,
                "got signal SIGHUP, but shutdown already in progress"
            );
            return;
        }
        record!(self.core.performer.log, self.logger, INFO, "got signal SIGHUP, reload config file");
        match &mut self.reload {
            Some(reload) => reload.again = true,
            None => self.load_again(),
        }
    }

    fn load_again(&mut self) {
        let id = self.next_host_id();
        self.supervision.reloading();
        match Loading::start(&self.options, None, id, &self.core.performer.log, self.host_events.clone()) {
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
    pub(super) fn end_reload(&mut self, outcome: Result<Config, LoadError>, now: Instant) {
        let Some(Reload { loading, again, .. }) = self.reload.take() else { return };
        match outcome {
            Ok(config) => {
                for warning in &config.warnings {
                    record!(self.core.performer.log, Log::ROOT, WARNING, "{warning}");
                }
                let stays = config.host_stays;
                let host = if stays {
                    Some(loading.host)
                } else {
                    leave(&mut self.leaving, loading.host, now + GRACE)
                };
                let left = self.core.engine.stats();
                let tasks = left.waiting + left.queued + left.running;
                match self.adopt(config, host, now) {
                    Ok(()) => self.say_loaded(tasks),
                    Err(text) => self.reload_error(&text),
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
        let text = match error {
            LoadError::Fault(fault) => describe(&fault, self.options.debug),
            LoadError::Exit(exit) => format!("it calls sys.exit with status {}", exit.code),
        };
        self.reload_error(&text);
    }

    /// Says what a reload did; `tasks` were there before.
    fn say_loaded(&mut self, tasks: u32) {
        let performer = &mut self.core.performer;
        let Some(newest) = performer.generations.last() else { return };
        let watches = counted(newest.watches.len(), "watch", "watches");
        let schedulers = counted(newest.schedulers(), "scheduler", "schedulers");
        let tasks = counted(tasks as usize, "task goes on", "tasks go on");
        let log = &mut performer.log;
        record!(log, self.logger, INFO, "configuration loaded: {watches}, {schedulers}; {tasks}");
    }

    fn reload_error(&mut self, text: &str) {
        let file = self.options.config.display();
        let performer = &mut self.core.performer;
        let since = performer.generations.last().map_or(0.0, |newest| newest.loaded);
        let log = &mut performer.log;
        let since = log.time(since);
        record!(
            log,
            Log::ROOT,
            ERROR,
            "unable to reload config file '{file}': {text}\n  the configuration from {since} stays in force"
        );
    }
}

fn counted(count: usize, one: &str, many: &str) -> String {
    format!("{count} {}", if count == 1 { one } else { many })
}
