//! Custom jobs of one generation: its host, what waits to be sent to it, and what runs in it.
//!
//! At most [`WINDOW`] starts are with the host untaken, so that a host that blocks costs memory of the daemon, which is
//! bounded by the engine's tasks, and not of the socket. A host that dies fails what runs in it; what was not sent yet
//! waits for the next host.

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
    /// Frames that are being filled or wait for the window; the last is open.
    waiting: VecDeque<(Starts, Vec<u64>)>,
    /// Sent and not taken, in order.
    untaken: VecDeque<u64>,
    /// Since when the host has not taken a start.
    silent_since: Option<Instant>,
    blocked_after: Duration,
    pause: Duration,
    started_at: Option<Instant>,
    /// No event makes tasks any more: another host is started only for a job that is due.
    is_ending: bool,
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
            waiting: VecDeque::new(),
            untaken: VecDeque::new(),
            silent_since: None,
            blocked_after: BLOCKED_FIRST,
            pause: RESTART_FIRST,
            is_ending: false,
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

    /// Queues a start; [`Jobs::flush`] sends it.
    pub(crate) fn start(
        &mut self,
        handle: TaskHandle,
        scheduler: u32,
        name: &str,
        event: &Event<'_>,
        failed: Option<&Failed<'_>>,
    ) {
        if self.waiting.back().is_none_or(|(starts, _)| starts.is_batch() || starts.len() >= FRAME) {
            self.waiting.push_back((Starts::default(), Vec::new()));
        }
        let (starts, handles) = self.waiting.back_mut().expect("a frame was just made");
        starts.push(handle.0, scheduler, name, event, failed);
        handles.push(handle.0);
    }

    /// Queues a start for many events, in a frame of its own.
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
        self.waiting.push_back((starts, vec![handle.0]));
    }

    /// Sends what the window allows; starts that were taken back have no run any more and stay here.
    pub(crate) fn flush(&mut self, runs: &mut Runs, now: Instant) {
        let Slot::Ready(host) = &self.slot else { return };
        while self.untaken.len() < WINDOW {
            let Some((mut starts, mut handles)) = self.waiting.pop_front() else { break };
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

    /// The host took so many starts.
    pub(crate) fn taken(&mut self, count: u32, now: Instant) {
        self.untaken.drain(..self.untaken.len().min(count as usize));
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

    /// The host is gone: returns the pause before another one is started.
    pub(crate) fn gone(&mut self, now: Instant) -> Duration {
        if self.started_at.take().is_some_and(|at| now.saturating_duration_since(at) > STABLE) {
            self.pause = RESTART_FIRST;
        }
        let pause = self.pause;
        self.pause = (self.pause * 2).min(RESTART_MAX);
        self.slot = Slot::Waiting(now + pause);
        self.untaken.clear();
        (self.silent_since, self.blocked_after) = (None, BLOCKED_FIRST);
        pause
    }

    /// Whether a new host is due.
    pub(crate) fn restart_due(&mut self, runs: &Runs, now: Instant) -> bool {
        if !matches!(self.slot, Slot::Waiting(at) if at <= now) {
            return false;
        }
        let needs_host = self.needs_host(runs);
        if !needs_host {
            self.waiting.clear();
        }
        needs_host
    }

    /// Whether there is a job for a host, or may be at any time.
    pub(crate) fn needs_host(&self, runs: &Runs) -> bool {
        let mut handles = self.waiting.iter().flat_map(|(_, handles)| handles);
        !self.is_ending || handles.any(|handle| runs.get(TaskHandle(*handle)).is_some())
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

    /// Whether starts wait for a host that is not there.
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

    /// When [`Jobs::blocked_for`] or [`Jobs::restart_due`] wants to be asked.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        match self.slot {
            Slot::Waiting(_) if self.is_ending && self.waiting.is_empty() => None,
            Slot::Waiting(at) => Some(at),
            Slot::None | Slot::Loading(_) | Slot::Ready(_) => {
                self.silent_since.map(|since| since + self.blocked_after)
            }
        }
    }
}
