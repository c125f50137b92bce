//! After an overflow and after a restart: waiting tasks whose file is gone hear of it as of a deletion.
//!
//! Paths on local filesystems are looked at by the loop, some in each turn, all others on the lane of their filesystem.
//! What seems to be gone may have been renamed just now, so that it counts only when the events that were queued at the
//! look have been told. A path that an event came for meanwhile is forgotten: what the look found is older.

use std::time::Instant;

use engine::MapId;
use event::{Event, Flag};
use hashbrown::{HashMap, HashSet};

use super::Daemon;
use super::routing::Core;
use crate::action::Report;
use crate::action::missing::{self, Looked};
use crate::lane::Filesystems;

/// Waiting tasks that are looked at in one turn: some milliseconds of lstat(2).
const LOOKS_A_TURN: usize = 2048;

/// Paths that lanes look at. What comes beyond waits.
const ASKED_MAX: usize = 65_536;

/// What is left to look at.
#[derive(Debug, Default)]
pub(super) struct Vanished {
    /// Where the look at waiting tasks goes on.
    from: Option<u32>,
    /// Another overflow was made up for since it began: all are looked at once more, afterwards.
    again: bool,
    /// Paths that the look has found to be gone, each with a map that has heard of it.
    told: HashSet<(MapId, Vec<u8>)>,
    /// Paths that lanes look at, each with the maps that are to hear of it and the length of the watch root.
    asked: HashMap<Vec<u8>, Vec<(MapId, u16)>>,
}

impl Vanished {
    /// An overflow or a downtime is over: all waiting tasks are looked at. What is under way is not begun anew, or
    /// overflows one after the other would keep it from its end.
    pub(super) fn begin(&mut self) {
        self.again = self.from.is_some();
        if self.from.is_none() {
            self.begin_pass();
        }
    }

    fn begin_pass(&mut self) {
        (self.from, self.told) = (Some(0), HashSet::new());
    }

    /// How many more tasks can be looked at now.
    fn room(&self) -> usize {
        ASKED_MAX.saturating_sub(self.asked.len()).min(LOOKS_A_TURN)
    }

    /// What was told is of use as long as more may be found.
    fn forget_told(&mut self) {
        if self.from.is_none() && self.asked.is_empty() {
            self.told = HashSet::new();
        }
    }

    /// An event came: its path is known to be as the event says.
    pub(super) fn heard(&mut self, path: &[u8]) {
        if !self.asked.is_empty() {
            self.asked.remove(path);
        }
    }
}

impl Daemon {
    /// Looks at some waiting tasks. True if there are more that can be looked at now.
    pub(super) fn forget_vanished(&mut self) -> bool {
        let gone = self.core.look_for_vanished();
        if !gone.is_empty() {
            self.doubt(vec![Report::Looked(gone)]);
        }
        self.core.vanished.from.is_some() && self.core.vanished.room() > 0
    }
}

impl Core {
    /// Looks at some waiting tasks: those whose file is gone, as it seems.
    fn look_for_vanished(&mut self) -> Vec<Looked> {
        let mut gone = Vec::new();
        let Some(from) = self.vanished.from else { return gone };
        let now = self.performer.now;
        let mut remote: HashMap<u64, Vec<(Vec<u8>, u16)>> = HashMap::new();
        let room = self.vanished.room();
        if room == 0 {
            // It goes on when a look has ended.
            return gone;
        }
        let (lanes, asked) = (&mut self.performer.lanes, &mut self.vanished.asked);
        let next = self.engine.visit(from, room, |task| {
            let (path, map, root_len) = (task.event.pathname, task.map, task.event.root_len);
            if !task.doing.is_to_come() || !should_exist(&task.event) {
                return;
            }
            let filesystem = lanes.filesystems.of_parent(path, now);
            if filesystem.is_local && !missing::is_gone(path, root_len) {
                return;
            }
            let maps = asked.entry_ref(path).or_default();
            if maps.is_empty() && filesystem.is_local {
                gone.push(Looked { path: path.to_vec(), is_gone: true });
            } else if maps.is_empty() {
                remote.entry(filesystem.device).or_default().push((path.to_vec(), root_len));
            }
            if !maps.contains(&(map, root_len)) {
                maps.push((map, root_len));
            }
        });
        for (device, paths) in remote {
            missing::look(device, paths, &mut self.performer.lanes, now);
        }
        self.vanished.from = next;
        if next.is_none() && std::mem::take(&mut self.vanished.again) {
            self.vanished.begin_pass();
        }
        self.vanished.forget_told();
        gone
    }

    /// The look that was begun has found that these paths are gone. Several tasks of one path and map hear of it once.
    pub(super) fn are_gone(&mut self, gone: Vec<(MapId, Vec<u8>, u16)>) {
        for (map, path, root_len) in gone {
            let of_map = (map, path);
            if !self.vanished.told.contains(&of_map) {
                self.deleted(map, &of_map.1, root_len);
                self.vanished.told.insert(of_map);
            }
        }
    }

    /// Takes in what a look has found, after all events that were queued then: tasks whose directory was renamed have
    /// other paths now.
    pub(super) fn looked(&mut self, looked: Vec<Looked>) {
        for Looked { path, is_gone } in looked {
            let maps = self.vanished.asked.remove(&path).unwrap_or_default();
            if is_gone && self.engine.has_to_come(&path) {
                let gone = maps.into_iter().map(|(map, root_len)| (map, path.clone(), root_len));
                self.are_gone(gone.collect());
            }
        }
        self.vanished.forget_told();
    }

    fn deleted(&mut self, map: MapId, pathname: &[u8], root_len: u16) {
        let name_len = event::name_len(pathname);
        let mask = Flag::Delete.mask();
        let event = Event { mask, wd: 0, synthetic: true, pathname, name_len, root_len, ..Event::overflow() };
        self.engine.event(self.performer.now, map, &event, &mut self.performer);
    }
}

/// Whether the path of an event is gone, as far as that can be said without asking a server.
pub(super) fn is_gone_here(event: &Event<'_>, filesystems: &mut Filesystems, now: Instant) -> bool {
    should_exist(event)
        && filesystems.of_parent(event.pathname, now).is_local
        && missing::is_gone(event.pathname, event.root_len)
}

/// Whether an event speaks of something that is there.
pub(super) fn should_exist(event: &Event<'_>) -> bool {
    match event.mask.flag() {
        Some(
            Flag::Delete
            | Flag::DeleteSelf
            | Flag::MovedFrom
            | Flag::QOverflow
            | Flag::Unmount
            | Flag::Ignored,
        )
        | None => false,
        Some(
            Flag::Access
            | Flag::Modify
            | Flag::Attrib
            | Flag::CloseWrite
            | Flag::CloseNowrite
            | Flag::Open
            | Flag::MovedTo
            | Flag::Create
            | Flag::MoveSelf,
        ) => !event.pathname.is_empty(),
    }
}
