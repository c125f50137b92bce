//! From the watcher to the engine: which event maps hear a watch.

use engine::{Engine, MapId};
use event::{Event, Flag};
use rustix::io::Errno;
use watcher::{Notice, Severity, Sink, WatchId};

use super::perform::Performer;
use crate::log::{Level, LoggerId};

/// Maps by watch. More than one while a reload's old generation still has tasks.
#[derive(Debug, Default)]
pub(crate) struct Routes(Vec<(WatchId, Vec<MapId>)>);

impl Routes {
    /// Lets a map hear a watch.
    pub(crate) fn add(&mut self, watch: WatchId, map: MapId) {
        match self.0.iter_mut().find(|(id, _)| *id == watch) {
            Some((_, maps)) => maps.push(map),
            None => self.0.push((watch, vec![map])),
        }
    }

    /// Ends that; true if nobody hears the watch any more.
    pub(crate) fn remove(&mut self, watch: WatchId, map: MapId) -> bool {
        let Some((_, maps)) = self.0.iter_mut().find(|(id, _)| *id == watch) else { return false };
        maps.retain(|heard| *heard != map);
        let silent = maps.is_empty();
        self.0.retain(|(_, maps)| !maps.is_empty());
        silent
    }

    fn maps(&self, watch: WatchId) -> &[MapId] {
        self.0.iter().find(|(id, _)| *id == watch).map_or(&[], |(_, maps)| maps)
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
    /// Where the look at waiting tasks goes on, whose files may be gone since an overflow.
    vanished_from: Option<u32>,
}

/// Waiting tasks that are looked at in one turn: some milliseconds of lstat(2).
const LOOKS_A_TURN: usize = 2048;

impl Core {
    /// Nothing is routed yet.
    pub(crate) fn new(engine: Engine, mut performer: Performer) -> Core {
        let logger = performer.log.logger("pyinotify");
        Core { engine, routes: Routes::default(), performer, logger, vanished_from: None }
    }

    /// After an overflow: waiting tasks whose file is gone hear of it as of a deletion. True if there are more to look at.
    pub(crate) fn forget_vanished(&mut self) -> bool {
        let Some(from) = self.vanished_from else { return false };
        let mut next = None;
        let mut gone = Vec::new();
        for waiting in self.engine.waiting(from).take(LOOKS_A_TURN) {
            next = Some(waiting.next);
            if is_missing(waiting.event.pathname) {
                gone.push((waiting.map, waiting.event.pathname.to_vec(), waiting.event.root_len));
            }
        }
        self.vanished_from = next;
        // Several tasks of one path and map hear of it once.
        gone.sort();
        gone.dedup();
        for (map, pathname, root_len) in gone {
            self.deleted(map, &pathname, root_len);
        }
        next.is_some()
    }

    fn deleted(&mut self, map: MapId, pathname: &[u8], root_len: u16) {
        let name_len = pathname.iter().rev().position(|byte| *byte == b'/').unwrap_or_default() as u16;
        let mask = Flag::Delete.mask();
        let event = Event { mask, wd: 0, synthetic: true, pathname, name_len, root_len, ..Event::overflow() };
        self.engine.event(self.performer.now, map, &event, &mut self.performer);
    }
}

fn is_missing(path: &[u8]) -> bool {
    matches!(rustix::fs::lstat(path), Err(Errno::NOENT | Errno::NOTDIR))
}

impl Sink for Core {
    fn event(&mut self, watch: WatchId, event: &Event<'_>) {
        for map in self.routes.maps(watch) {
            self.engine.event(self.performer.now, *map, event, &mut self.performer);
        }
    }

    fn renamed(&mut self, _: WatchId, _: &[u8], _: Option<&[u8]>) {}

    fn notice(&mut self, notice: Notice<'_>) {
        if let Notice::Recovered { .. } = notice {
            self.vanished_from = Some(0);
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
