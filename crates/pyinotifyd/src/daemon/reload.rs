//! Configurations come and go: the first one is adopted, a SIGHUP brings another beside it.
//!
//! The new file is executed in a host of its own while the old configuration works. Only when everything about it is
//! certain, watches included, it takes over between two events: the old schedulers are paused, the maps are switched,
//! watches that did not change keep their descriptors. Whatever fails before that leaves the old one untouched.

use std::time::Instant;

use event::{Flag, Mask};
use watcher::WatchId;

use super::generation::{Generation, Watched, Watching};
use super::loading::{LoadError, Loading};
use super::report::describe;
use super::shutdown::State;
use super::{Daemon, Reload, leave};
use crate::config::{Config, Watch, feeding_warnings};
use crate::host::wire::FromHost;
use crate::host::{Host, HostId};
use crate::log::{Level, Log, Syslog, record};

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
        config.surroundings.apply();
        self.apply_log_settings(&config);
        self.core.performer.commands.set_environment(std::mem::take(&mut config.surroundings.environment));
        for warning in feeding_warnings(&config) {
            record!(self.core.performer.log, Log::ROOT, WARNING, "{warning}");
        }
        let watches = std::mem::take(&mut config.watches);
        let destinations = config.destinations();
        let ids = self.add_watches(&watches, now)?;
        self.retire_all(now);
        let specs = config.schedulers.iter().map(|scheduler| scheduler.spec.clone()).collect();
        let maps = watches.iter().map(|watch| watch.map.clone()).collect();
        let added = self.core.engine.add_generation(specs, maps, config.shutdown_timeout);
        let numbers = added.map_err(|error| format!("cannot take another configuration: {error:?}"))?;
        let mut generation = Generation::new(config, &numbers, host, &mut self.core.performer.log, now);
        self.core.performer.log.forward(generation.forwards);
        self.core.performer.files.sweep(destinations);
        if watches.is_empty() {
            let text = "no watches configured, the daemon will not do anything";
            record!(self.core.performer.log, generation.logger, WARNING, "{text}");
            let file = self.options.config.display();
            let next = "uncomment or write a watch there, check it with -t, then send SIGHUP (systemctl reload pyinotifyd)";
            record!(
                self.core.performer.log,
                generation.logger,
                INFO,
                "next: the config file is '{file}'; {next}"
            );
        }
        for ((index, watch), id) in watches.into_iter().enumerate().zip(ids) {
            let map = numbers.map(index);
            self.core.routes.add(id, map);
            let path = &watch.path_text;
            record!(
                self.core.performer.log,
                generation.logger,
                INFO,
                "start listening for inotify events on '{path}'"
            );
            let interest = self.interest(&watch);
            generation.watches.push(Watching {
                id,
                map,
                what: Watched::of(&watch),
                interest,
                path_text: watch.path_text,
            });
        }
        self.core.performer.generations.push(generation);
        Ok(())
    }

    /// Adds all watches, or none. One that covers the same as a watch of the configuration in force shares it.
    fn add_watches(&mut self, watches: &[Watch], now: Instant) -> Result<Vec<WatchId>, String> {
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
                    for id in added {
                        self.watcher.remove(id, &mut self.core);
                    }
                    return Err(error.to_string());
                }
            }
        }
        Ok(ids)
    }

    /// Events that a watch subscribes to: what its map uses, or all where the log shows every event.
    fn interest(&self, watch: &Watch) -> Mask {
        let performer = &self.core.performer;
        if performer.log.enabled(performer.eventmap, Level::DEBUG) {
            return Flag::ALL.into_iter().collect();
        }
        watch.interest
    }

    fn apply_log_settings(&mut self, config: &Config) {
        let log = &mut self.core.performer.log;
        for (name, level) in &config.levels {
            log.set_level(name, *level);
        }
        if self.options.debug {
            log.set_level("", Level::DEBUG);
        }
        let target = |target: &crate::config::SyslogTarget| {
            Syslog::new(target.address.clone(), target.level, target.logname.as_deref())
        };
        if !config.syslog.is_empty() {
            log.set_syslog(config.syslog.iter().map(target).collect());
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
            old.retired = true;
        }
    }

    /// Lets go of replaced configurations whose tasks have all ended.
    pub(super) fn drop_generations(&mut self, now: Instant) {
        let done =
            |generation: &Generation| generation.retired && self.core.engine.generation_done(generation.id);
        let Some(place) = self.core.performer.generations.iter().position(done) else { return };
        let mut old = self.core.performer.generations.remove(place);
        for watch in &old.watches {
            let (logger, path) = (old.logger, &watch.path_text);
            record!(self.core.performer.log, logger, DEBUG, "stop listening for inotify events on '{path}'");
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
            leave(&mut self.leaving, host, now);
        }
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
        match Loading::start(&self.options, id, &self.core.performer.log, self.host_events.clone(), true) {
            Ok(loading) => self.reload = Some(Reload { loading, again: false }),
            Err(error) => {
                self.reload_failed(error);
                self.supervision.ready("watching, the reload failed");
            }
        }
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
        let Some(Reload { loading, again }) = self.reload.take() else { return };
        match outcome {
            Ok(config) => {
                for warning in &config.warnings {
                    record!(self.core.performer.log, Log::ROOT, WARNING, "{warning}");
                }
                let stays = config.host_stays;
                let host =
                    if stays { Some(loading.host) } else { leave(&mut self.leaving, loading.host, now) };
                if let Err(text) = self.adopt(config, host, now) {
                    self.reload_error(&text);
                }
            }
            Err(error) => {
                leave(&mut self.leaving, loading.host, now);
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
            LoadError::Fault(fault) => describe(&fault, true),
            LoadError::Exit(exit) => format!("it calls sys.exit with status {}", exit.code),
        };
        self.reload_error(&text);
    }

    fn reload_error(&mut self, text: &str) {
        let file = self.options.config.display();
        record!(self.core.performer.log, Log::ROOT, ERROR, "unable to reload config file '{file}': {text}");
    }
}
