//! Custom jobs of one generation: its host, what waits to be sent to it, and what runs in it.
//!
//! Where the host is away, or has [`WINDOW`] starts that it has not taken, there is no room for more
//! ([`Jobs::has_room`]), and the engine keeps its tasks queued. For jobs that are to begin before long, since a
//! timeout, a rate or the state counts them as running, it is less: as many as the host takes in a moment, and of jobs
//! that block one after the other. A host that dies fails what runs in it or may do so; what has certainly not begun is
//! queued again.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use engine::{BatchEvent, TaskHandle};
use event::Event;

use super::loading::Loading;
use super::runs::Runs;
use super::task_name::TaskName;
use crate::host::wire::{self, Failed, Starts};
use crate::host::{Host, HostId};

/// Starts that the host may not have taken yet.
const WINDOW: usize = 1024;
/// Starts that a new host may begin before it says how many: `STARTS_A_TURN_FIRST` of `jobs.py`.
const OPEN_FIRST: u32 = 8;
/// A host that has taken nothing for so long takes no start before long.
const PROMPT: Duration = Duration::from_millis(50);
/// Starts a frame; a part of the window, so that the host works while the next frame is on its way.
const FRAME: usize = 256;
/// Pause before a dead host is started again: the first, and the longest after doubling.
const RESTART_FIRST: Duration = Duration::from_millis(200);
const RESTART_MAX: Duration = Duration::from_secs(30);
/// A host that lived so long starts with the first pause again.
const STABLE: Duration = Duration::from_secs(60);
/// Silence with starts untaken after which a host counts as blocked; doubles with each warning.
const BLOCKED_FIRST: Duration = Duration::from_secs(5);

/// See the module's head.
#[derive(Debug)]
pub(crate) struct Jobs {
    slot: Slot,
    /// Frames of this turn, which are sent at its end; the last is open.
    filling: Vec<(Starts, Vec<u64>)>,
    /// How many starts these have.
    unsent: usize,
    /// Sent and not taken, in order.
    untaken: VecDeque<u64>,
    /// How many of these may have begun.
    open: u32,
    /// How many may be untaken where another one is to begin before long.
    room: usize,
    /// Starts were taken back, so that there is room again.
    is_freed: bool,
    /// Since when the host has not taken a start.
    silent_since: Option<Instant>,
    blocked_after: Duration,
    pause: Duration,
    started_at: Option<Instant>,
    /// No event makes tasks any more: another host is started only for a job that is due.
    is_ending: bool,
    /// There is a job for another host, or may be at any time.
    is_wanted: bool,
    /// When the last of the jobs that were asked to end has had its time.
    kill_at: Option<Instant>,
}

/// The host of a generation.
#[derive(Debug)]
enum Slot {
    /// The generation needs none (any more).
    None,
    /// It executes the configuration, for the second time or more.
    Loading(Box<Loading<String>>),
    /// It takes jobs.
    Ready(Host),
    /// It died; another one is started then.
    Waiting(Instant),
}

impl Jobs {
    /// Jobs with the host that described the generation, if it stays.
    pub(crate) fn new(host: Option<Host>, now: Instant) -> Jobs {
        Jobs {
            started_at: host.is_some().then_some(now),
            slot: host.map_or(Slot::None, Slot::Ready),
            filling: Vec::new(),
            unsent: 0,
            untaken: VecDeque::new(),
            open: OPEN_FIRST,
            room: 1,
            is_freed: false,
            silent_since: None,
            blocked_after: BLOCKED_FIRST,
            pause: RESTART_FIRST,
            is_ending: false,
            is_wanted: true,
            kill_at: None,
        }
    }

    /// The generation is asked to end.
    pub(crate) fn begin_end(&mut self) {
        self.is_ending = true;
    }

    /// The host that runs now, loading or ready.
    pub(crate) fn host(&self) -> Option<&Host> {
        match &self.slot {
            Slot::Loading(loading) => Some(&loading.host),
            Slot::Ready(host) => Some(host),
            Slot::None | Slot::Waiting(_) => None,
        }
    }

    /// The host, if it has executed the configuration.
    pub(crate) fn ready(&self) -> Option<&Host> {
        match &self.slot {
            Slot::Ready(host) => Some(host),
            Slot::None | Slot::Loading(_) | Slot::Waiting(_) => None,
        }
    }

    /// The same, to tell it that its process ended.
    pub(crate) fn host_mut(&mut self) -> Option<&mut Host> {
        match &mut self.slot {
            Slot::Loading(loading) => Some(&mut loading.host),
            Slot::Ready(host) => Some(host),
            Slot::None | Slot::Waiting(_) => None,
        }
    }

    /// Whether that host is ours.
    pub(crate) fn has(&self, id: HostId) -> bool {
        self.host().is_some_and(|host| host.id == id)
    }

    /// Whether the host executes the configuration again, after a death.
    pub(crate) fn is_loading(&self) -> bool {
        matches!(self.slot, Slot::Loading(_))
    }

    /// The execution of the config file after a death, while it goes on.
    pub(crate) fn loading(&mut self) -> Option<&mut Loading<String>> {
        match &mut self.slot {
            Slot::Loading(loading) => Some(loading),
            Slot::None | Slot::Ready(_) | Slot::Waiting(_) => None,
        }
    }

    /// The host ended and is not needed again.
    pub(crate) fn end(&mut self) {
        self.slot = Slot::None;
    }

    /// Whether one more start would be taken: before long, if it is to be `prompt`.
    pub(crate) fn has_room(&self, prompt: bool, now: Instant) -> bool {
        match self.slot {
            // Nobody asks of a configuration without jobs, but tests of the daemon, which run them themselves.
            Slot::None => true,
            Slot::Ready(_) => {
                let is_silent = |since| now.saturating_duration_since(since) > PROMPT;
                let is_slow = prompt && self.silent_since.is_some_and(is_silent);
                let room = if prompt { self.room } else { WINDOW };
                !is_slow && self.untaken.len() + self.unsent < room
            }
            Slot::Loading(_) | Slot::Waiting(_) => false,
        }
    }

    /// Takes a start; [`Jobs::flush`] sends it.
    pub(crate) fn start(
        &mut self,
        handle: TaskHandle,
        scheduler: u32,
        name: &str,
        event: &Event<'_>,
        failed: Option<&Failed<'_>>,
    ) {
        if self.filling.last().is_none_or(|(starts, _)| starts.is_batch() || starts.len() >= FRAME) {
            self.filling.push((Starts::default(), Vec::new()));
        }
        let (starts, handles) = self.filling.last_mut().expect("a frame was just made");
        starts.push(handle.0, scheduler, name, event, failed);
        handles.push(handle.0);
        self.unsent += 1;
    }

    /// Takes a start for many events, in a frame of its own.
    pub(crate) fn start_batch(
        &mut self,
        handle: TaskHandle,
        scheduler: u32,
        name: &str,
        batch: &[BatchEvent],
    ) {
        let mut starts = Starts::batch();
        for (index, BatchEvent { event, failed }) in batch.iter().enumerate() {
            let theirs = failed.as_ref().map(|(_, _, id)| TaskName::of(*id));
            let failed = failed.as_ref().zip(theirs.as_ref());
            let failed = failed.map(|((error, attempts, _), id)| Failed {
                error,
                attempts: *attempts,
                id: id.as_str(),
            });
            let name = if index == 0 { name } else { "" };
            starts.push(handle.0, scheduler, name, &event.get(), failed.as_ref());
        }
        self.filling.push((starts, vec![handle.0]));
        self.unsent += 1;
    }

    /// Takes a start back that was not sent yet.
    pub(crate) fn take_back(&mut self) {
        self.unsent = self.unsent.saturating_sub(1);
        self.is_freed = true;
    }

    /// Asks the host to give back what was sent to it and has not begun.
    pub(crate) fn recall(&self) {
        if let Slot::Ready(host) = &self.slot
            && !self.untaken.is_empty()
        {
            host.send(wire::recall());
        }
    }

    /// The host has dropped starts before they began.
    pub(crate) fn dropped(&mut self, handles: &[u64]) {
        self.untaken.retain(|handle| !handles.contains(handle));
        self.is_freed = true;
        if self.untaken.is_empty() {
            (self.silent_since, self.blocked_after) = (None, BLOCKED_FIRST);
        }
    }

    /// Whether there is room by what was taken back or dropped since this was asked.
    pub(crate) fn was_freed(&mut self) -> bool {
        std::mem::take(&mut self.is_freed)
    }

    /// Sends what was started in this turn; starts that were taken back have no run any more and stay here.
    pub(crate) fn flush(&mut self, runs: &mut Runs, now: Instant) {
        let Slot::Ready(host) = &self.slot else { return };
        self.unsent = 0;
        for (mut starts, mut handles) in self.filling.drain(..) {
            let before = handles.len();
            handles.retain(|handle| runs.get(TaskHandle(*handle)).is_some());
            if handles.len() < before {
                starts.retain(|handle| runs.get(TaskHandle(handle)).is_some());
            }
            if handles.is_empty() {
                continue;
            }
            host.send(starts.take_frame());
            self.silent_since.get_or_insert(now);
            for handle in &handles {
                runs.sent(TaskHandle(*handle));
            }
            self.untaken.extend(handles);
        }
    }

    /// Asks the host to cancel a job that was sent to it, and that has until then to end. The host reads what there is
    /// before it begins a job, so that one that it has not taken does not begin.
    pub(crate) fn cancel(&mut self, handle: TaskHandle, until: Instant) {
        self.kill_at = self.kill_at.max(Some(until));
        if let Slot::Ready(host) = &self.slot {
            host.send(wire::cancel(&[handle.0]));
        }
    }

    /// When the last of the jobs that were asked to end has had its time: the host is not killed before.
    pub(crate) fn kill_at(&self) -> Option<Instant> {
        self.kill_at
    }

    /// The host took so many starts, and may begin so many more before it says so.
    pub(crate) fn taken(&mut self, count: u32, open: u32, now: Instant) {
        self.untaken.drain(..self.untaken.len().min(count as usize));
        self.open = open;
        self.room = (open as usize).clamp(1, WINDOW);
        self.silent_since = (!self.untaken.is_empty()).then_some(now);
        self.blocked_after = BLOCKED_FIRST;
    }

    /// The host that was started anew is ready.
    pub(crate) fn loaded(&mut self, now: Instant) {
        self.slot = match std::mem::replace(&mut self.slot, Slot::None) {
            Slot::Loading(loading) => {
                self.started_at = Some(now);
                Slot::Ready(loading.host)
            }
            other => other,
        };
    }

    /// Takes the starts that have certainly not begun in the host, which is gone, in their order.
    pub(crate) fn take_unbegun(&mut self) -> Vec<u64> {
        let sent = self.untaken.drain(..).skip(self.open as usize);
        let unsent = self.filling.drain(..).flat_map(|(_, handles)| handles);
        let all = sent.chain(unsent).collect();
        (self.unsent, self.open, self.room) = (0, OPEN_FIRST, 1);
        all
    }

    /// The host is gone: returns the pause before another one is started.
    pub(crate) fn gone(&mut self, now: Instant) -> Duration {
        if self.started_at.take().is_some_and(|at| now.saturating_duration_since(at) > STABLE) {
            self.pause = RESTART_FIRST;
        }
        let pause = self.pause;
        self.pause = (self.pause * 2).min(RESTART_MAX);
        self.slot = Slot::Waiting(now + pause);
        (self.silent_since, self.blocked_after) = (None, BLOCKED_FIRST);
        pause
    }

    /// Whether it waits for another host.
    pub(crate) fn waits_for_host(&self) -> bool {
        matches!(self.slot, Slot::Waiting(_))
    }

    /// Whether another host is due. It is started only if there is a job for it, or may be at any time.
    pub(crate) fn restart_due(&mut self, is_wanted: bool, now: Instant) -> bool {
        self.is_wanted = is_wanted;
        is_wanted && matches!(self.slot, Slot::Waiting(at) if at <= now)
    }

    /// Whether events may make tasks at any time.
    pub(crate) fn is_in_force(&self) -> bool {
        !self.is_ending
    }

    /// A new host was started, or could not be.
    pub(crate) fn restarted(&mut self, loading: Option<Loading<String>>, now: Instant) {
        self.slot = loading.map(Box::new).map_or_else(|| Slot::Waiting(now + self.pause), Slot::Loading);
    }

    /// The generation needs its host no more: asks it to end and lets go of it.
    pub(crate) fn close(&mut self) -> Option<Host> {
        let host = match std::mem::replace(&mut self.slot, Slot::None) {
            Slot::Ready(host) => host,
            Slot::Loading(loading) => loading.host,
            Slot::None | Slot::Waiting(_) => return None,
        };
        host.send(wire::stop());
        Some(host)
    }

    /// How long the host has taken no start, if that is to be told, and the one that waits for longest.
    pub(crate) fn blocked_for(&mut self, now: Instant) -> Option<(Duration, u64)> {
        let since = self.silent_since?;
        let silent = now.saturating_duration_since(since);
        if silent < self.blocked_after {
            return None;
        }
        self.blocked_after *= 2;
        Some((silent, *self.untaken.front()?))
    }

    /// Whether it was said that a job blocks the host, which hears of nothing then.
    pub(crate) fn is_blocked(&self) -> bool {
        self.blocked_after > BLOCKED_FIRST
    }

    /// When [`Jobs::blocked_for`] or [`Jobs::restart_due`] is to be asked.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        match self.slot {
            Slot::Waiting(at) => self.is_wanted.then_some(at),
            Slot::None | Slot::Loading(_) | Slot::Ready(_) => {
                self.silent_since.map(|since| since + self.blocked_after)
            }
        }
    }
}
