//! From the watcher to the engine: which event maps hear a watch.

use engine::{Effects as _, Engine, MapId, OwnedEvent, Record};
use event::Event;
use watcher::{Notice, Severity, Sink, WatchId};

use super::keep::ToldBefore;
use super::perform::Performer;
use super::print::Printer;
use super::vanished::Vanished;
use crate::log::{Level, LoggerId};

/// Maps by the number of their watch. More than one while a reload's old generation still has tasks.
#[derive(Debug, Default)]
pub(crate) struct Routes(Vec<Vec<MapId>>);

impl Routes {
    /// Lets a map hear a watch.
    pub(crate) fn add(&mut self, watch: WatchId, map: MapId) {
        let at = watch.0 as usize;
        if self.0.len() <= at {
            self.0.resize_with(at + 1, Vec::new);
        }
        self.0[at].push(map);
    }

    /// Ends that; true if nobody hears the watch any more.
    pub(crate) fn remove(&mut self, watch: WatchId, map: MapId) -> bool {
        let Some(maps) = self.0.get_mut(watch.0 as usize).filter(|maps| !maps.is_empty()) else {
            return false;
        };
        maps.retain(|heard| *heard != map);
        maps.is_empty()
    }

    /// Whether a map hears a watch.
    pub(crate) fn has(&self, watch: WatchId) -> bool {
        !self.maps(watch).is_empty()
    }

    fn maps(&self, watch: WatchId) -> &[MapId] {
        self.0.get(watch.0 as usize).map_or(&[], Vec::as_slice)
    }
}

/// Everything behind the watcher: it takes what the watcher delivers.
pub(crate) struct Core {
    /// The rules.
    pub engine: Engine,
    /// Which maps hear which watch.
    pub routes: Routes,
    /// What performs the engine's effects.
    pub performer: Performer,
    /// Logger of the watcher's notices.
    pub logger: LoggerId,
    /// Waiting tasks whose files may be gone since an overflow.
    pub vanished: Vanished,
    /// Events of watches that are being made, and whose maps are not known yet.
    pub early: Vec<(WatchId, OwnedEvent)>,
    /// Watches are being made.
    pub makes_watches: bool,
    /// What an earlier daemon told.
    pub(super) told_before: ToldBefore,
    /// Prints events, where a configuration says so.
    pub printer: Option<Printer>,
}

impl Core {
    /// Nothing is routed yet.
    pub(super) fn new(engine: Engine, mut performer: Performer, printer: Option<Printer>) -> Core {
        let logger = performer.log.logger("pyinotify");
        Core {
            engine,
            routes: Routes::default(),
            performer,
            logger,
            vanished: Vanished::default(),
            printer,
            early: Vec::new(),
            makes_watches: false,
            told_before: ToldBefore::default(),
        }
    }

    /// Routes what was told of watches while they were made.
    pub(super) fn route_early(&mut self) {
        for (watch, event) in std::mem::take(&mut self.early) {
            self.event(watch, &event.get());
        }
    }
}

impl Sink for Core {
    fn event(&mut self, watch: WatchId, event: &Event<'_>) {
        if self.makes_watches {
            return self.early.push((watch, OwnedEvent::of(event)));
        }
        let performer = &mut self.performer;
        if self.told_before.has(watch, event, &mut performer.lanes.filesystems, performer.now) {
            return;
        }
        self.vanished.heard(event.pathname);
        self.performer.observed.counts.event(event);
        self.performer.observed.streams.event(event);
        for map in self.routes.maps(watch) {
            self.engine.event(self.performer.now, *map, event, &mut self.performer);
            if let Some(printer) = &mut self.printer
                && printer.event(event).is_err()
            {
                let pathname = event.pathname;
                self.performer.record(Record::ExcludeStepLimit { map: *map, pathname });
            }
        }
    }

    fn renamed(&mut self, watch: WatchId, from: &[u8], to: Option<&[u8]>) {
        for map in self.routes.maps(watch) {
            self.engine.rename(self.performer.now, *map, from, to, &mut self.performer);
        }
    }

    fn set_aside(&mut self, watch: WatchId, path: &[u8], aside: &[u8]) {
        for map in self.routes.maps(watch) {
            self.engine.set_aside(self.performer.now, *map, path, aside, &mut self.performer);
        }
    }

    fn notice(&mut self, notice: Notice<'_>) {
        if let Notice::Recovered { .. } = notice {
            self.vanished.begin();
        } else if let Notice::MountsChanged = notice {
            self.performer.mounts_changed();
        } else if let Notice::RootElsewhere { path } = notice {
            self.performer.root_is_elsewhere(path);
        }
        let level = match notice.severity() {
            Severity::Silent => return,
            Severity::Info => Level::INFO,
            Severity::Warning => Level::WARNING,
            Severity::Error => Level::ERROR,
        };
        if self.performer.log.enabled(self.logger, level) {
            self.performer.log.write(self.logger, level, format_args!("{notice}"));
        }
    }
}
