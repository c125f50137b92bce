//! Ends of tasks, from wherever they come, told to the engine; and the processes that tasks run in.

use std::sync::Arc;
use std::time::Instant;

use engine::{Failure, FailureKind, Outcome, Seconds, TaskHandle};
use rustix::process::Signal;
use tokio::io::Interest;

use super::children::{self, signal_name};
use super::loading::{LoadError, Loading, write_host_record};
use super::perform::{GRACE, Performer};
use super::runs::{Ended, Runner, Traces};
use super::wake::Descriptor;
use super::{Daemon, leave};
use crate::host::wire::{Fail, FromHost};
use crate::host::{Ending, HostEvent, HostId};
use crate::log::{Cause, Level, record};

/// Frames of hosts that are worked off before the loop looks after everything else.
const HOST_EVENTS_A_TURN: usize = 16;

/// How many jobs the end of a host was about.
struct Lost {
    failed: usize,
    unbegun: usize,
}

impl Daemon {
    /// Starts some of the commands that wait.
    pub(super) fn start_commands(&mut self, now: Instant) {
        let starts = self.core.performer.commands.start_some(now);
        if let Some(error) = starts.no_room {
            let waiting = self.core.performer.commands.waiting();
            let text = format_args!(
                "cannot start shell commands now: {error} (see ulimit -u, ulimit -n, TasksMax=); {waiting} wait, \
                 they are tried again",
                error = Cause(&error)
            );
            self.core.performer.log.write(self.logger, Level::WARNING, text);
        }
        for task in starts.started {
            // Its process is kept with it.
            self.core.engine.note_change(TaskHandle(task));
        }
        for (task, why) in starts.failed {
            self.core.performer.runs.end(TaskHandle(task), failed(FailureKind::Error, why));
        }
    }

    /// Waits for what commands write; false if the kernel has no memory for that now.
    pub(super) fn listen_to_outputs(&mut self) -> bool {
        let (None, Some(fd)) = (&self.outputs, self.core.performer.commands.outputs.fd()) else {
            return true;
        };
        let source = fd.try_clone_to_owned().and_then(|fd| Descriptor::new(fd, Interest::READABLE));
        self.outputs = source.ok();
        self.outputs.is_some()
    }

    /// Tells the engine of runs that have ended. What it starts thereupon may end before the next call.
    pub(super) fn finish_ended(&mut self, now: Instant) {
        let told = self.told();
        for Ended { handle, outcome, traces } in self.core.performer.runs.take_ended(told) {
            // A run that failed before, or fails now, may leave what the next run of its task is to know.
            let leaves =
                matches!(outcome, Outcome::Cancelled | Outcome::Failed(_)) || !traces.output.is_empty();
            let task = self.core.engine.task_id(handle).filter(|_| leaves);
            if let Some(task) = task {
                self.core.performer.late_deed(task, traces.deed.as_ref());
            }
            if let Some(keeper) = &mut self.core.performer.keeper {
                keeper.traces = traces;
            } else {
                self.core.performer.observed.output = traces.output;
            }
            self.core.engine.finished(now, handle, &outcome, &mut self.core.performer);
            let goes_on = task.is_some_and(|task| self.core.engine.has(task));
            if let Some(task) = task.filter(|_| !goes_on) {
                self.core.performer.forget(task);
            }
            if let Some(keeper) = &mut self.core.performer.keeper {
                keeper.late_traces(task, goes_on);
            }
        }
    }

    /// How far events have been told; as far as can be where they are not read now.
    pub(super) fn told(&self) -> u64 {
        if self.waits_for_reader() { u64::MAX } else { self.watcher.told() }
    }

    /// Commands or jobs have ended, and that is told after all events that are queued now: theirs are among them.
    fn end_after_events(&mut self) {
        let queued = self.read_soon();
        self.core.performer.runs.ends_after(queued);
    }

    /// What is queued now is not left for the end of a busy tree's pause: how far events will have been told then.
    pub(super) fn read_soon(&mut self) -> u64 {
        let queued = self.watcher.queued();
        if queued > self.watcher.told() {
            self.watcher.end_pause();
        }
        queued
    }

    /// Whether a run cannot be waited for any more, since its configuration has to end.
    fn has_to_end(&self, handle: TaskHandle, now: Instant) -> bool {
        let task = self.core.engine.task(handle);
        let mut generations = self.core.performer.generations.iter();
        let generation = task.and_then(|task| generations.find(|one| one.owns(task.scheduler)));
        generation.is_none_or(|generation| generation.has_to_end(now))
    }

    /// SIGCHLD: takes all children that ended.
    pub(super) fn reap(&mut self) {
        while let Some(children::Ended { pid, ending }) = children::reap() {
            if self.core.performer.commands.process_ended(pid, outcome_of(ending)) {
                continue;
            }
            let reload = self.reload.iter_mut().map(|reload| &mut reload.loading.host);
            let jobs = self
                .core
                .performer
                .generations
                .iter_mut()
                .filter_map(|generation| generation.jobs.host_mut());
            let leaving = self.leaving.iter_mut().map(|(host, _)| host);
            if let Some(host) = reload.chain(jobs).chain(leaving).find(|host| host.pid() == pid) {
                host.process_ended(ending);
            }
        }
    }

    /// Tells the ends of commands.
    pub(super) fn commands_ended(&mut self, now: Instant) {
        let ended = self.core.performer.commands.take_ended(now);
        if !ended.is_empty() {
            self.end_after_events();
        }
        let performer = &mut self.core.performer;
        for (task, outcome) in ended {
            let output = performer.end_output(task);
            performer.runs.end_with(TaskHandle(task), outcome, Traces { output, deed: None });
        }
    }

    /// What hosts say. Frames that came together are worked off together: a turn of the loop costs more than most of
    /// them.
    pub(super) fn host_events(&mut self, first: HostEvent, now: Instant) {
        let mut event = first;
        for _ in 1..HOST_EVENTS_A_TURN {
            self.host_event(event, now);
            match self.hosts.try_recv() {
                Ok(next) => event = next,
                Err(_) => return,
            }
        }
        self.host_event(event, now);
    }

    fn host_event(&mut self, event: HostEvent, now: Instant) {
        match event {
            HostEvent::Frame(id, frame) if self.is_reload(id) => self.reload_frame(frame, now),
            HostEvent::Frame(id, frame) => self.frame(id, frame, now),
            HostEvent::Broken(id, error) => {
                record!(self.core.performer.log, self.logger, ERROR, "config host: {error}; it is ended");
                let reload = self.reload.iter().map(|reload| &reload.loading.host);
                let jobs =
                    self.core.performer.generations.iter().filter_map(|generation| generation.jobs.host());
                if let Some(host) = reload.chain(jobs).find(|host| host.id == id) {
                    // Its end follows, as that of any other.
                    host.kill(Signal::KILL);
                }
            }
            HostEvent::Gone(id, ending) => self.host_gone(id, ending, now),
        }
    }

    fn is_reload(&self, id: HostId) -> bool {
        self.reload.as_ref().is_some_and(|reload| reload.loading.host.id == id)
    }

    fn generation_of(&self, id: HostId) -> Option<usize> {
        self.core.performer.generations.iter().position(|generation| generation.jobs.has(id))
    }

    fn frame(&mut self, id: HostId, frame: FromHost, now: Instant) {
        let Some(place) = self.generation_of(id) else {
            // A host on its way out still may log.
            if let FromHost::Log(line) = frame {
                write_host_record(&mut self.core.performer.log, &line);
            }
            return;
        };
        if self.core.performer.generations[place].jobs.is_loading() {
            return self.restart_frame(place, frame, now);
        }
        match frame {
            FromHost::Done(tasks) => self.jobs_ended(place, &tasks, &Outcome::Done),
            FromHost::Cancelled(tasks) => self.jobs_ended(place, &tasks, &Outcome::Cancelled),
            FromHost::Dropped(tasks) => {
                self.core.performer.generations[place].jobs.dropped(&tasks);
                self.jobs_ended(place, &tasks, &Outcome::NotBegun);
            }
            FromHost::Fail(Fail { task, exception, traceback, is_final }) => {
                let failure = Failure::new(FailureKind::Error, exception);
                let failure = Failure { details: traceback, is_final, ..failure };
                self.jobs_ended(place, &[task], &Outcome::Failed(failure));
            }
            FromHost::Log(line) => write_host_record(&mut self.core.performer.log, &line),
            FromHost::Taken { count, open } => {
                self.core.performer.generations[place].jobs.taken(count, open, now);
                self.core.engine.start_jobs(now, &mut self.core.performer);
            }
            FromHost::Level(set) => {
                self.core.performer.log.set_level(&set.logger, Level(set.level));
            }
            // These belong to a load. `sys.exit` in a job is a failure of that job.
            FromHost::Hello(_) | FromHost::Describe(_) | FromHost::Error(_) | FromHost::Exit(_) => {}
        }
    }

    /// A host says that jobs have ended; it may speak of its own ones only.
    fn jobs_ended(&mut self, place: usize, tasks: &[u64], outcome: &Outcome) {
        self.end_after_events();
        let runner = Runner::Host(self.core.performer.generations[place].id);
        let runs = &mut self.core.performer.runs;
        for handle in tasks.iter().copied().map(TaskHandle) {
            if runs.get(handle).is_some_and(|run| run.runner == runner && run.is_sent) {
                runs.end(handle, outcome.clone());
            }
        }
    }

    /// A host's process is gone.
    fn host_gone(&mut self, id: HostId, ending: Ending, now: Instant) {
        if let Some(place) = self.leaving.iter().position(|(host, _)| host.id == id) {
            self.leaving.swap_remove(place);
            return;
        }
        if self.is_reload(id) {
            let error = self.reload.as_ref().map(|reload| reload.loading.died(ending));
            return error.map_or((), |error| self.end_reload(Err(error), now));
        }
        if let Some(place) = self.generation_of(id) {
            self.job_host_gone(place, ending, now);
        }
    }

    fn job_host_gone(&mut self, place: usize, ending: Ending, now: Instant) {
        let performer = &mut self.core.performer;
        let generation = &mut performer.generations[place];
        if ending == Ending::Exited(0) && !generation.has_jobs() {
            // It stayed for threads or handlers of the user, and these are done.
            generation.jobs.end();
            return;
        }
        let pause = Seconds(generation.jobs.gone(now));
        let how = match ending {
            Ending::Exited(status) => format!("exited with status {status}"),
            Ending::Killed(signal) => format!("was killed by {}", signal_name(signal)),
        };
        let Lost { failed, unbegun } = self.end_jobs(place);
        let waiting = if unbegun > 0 { format!(", {unbegun} wait for the next one") } else { String::new() };
        let again = if unbegun > 0 || self.needs_host(place) {
            format!("; it is started again in {pause} seconds")
        } else {
            String::new()
        };
        let text = format_args!("config host {how}, {failed} running job(s) failed{waiting}{again}");
        self.core.performer.log.write(self.logger, Level::ERROR, text);
    }

    /// Jobs that run in a host that is gone, or may run, have failed; those that have not begun wait for the next one.
    fn end_jobs(&mut self, place: usize) -> Lost {
        let Performer { generations, runs, .. } = &mut self.core.performer;
        let mut unbegun = generations[place].jobs.take_unbegun();
        unbegun.retain(|handle| runs.get(TaskHandle(*handle)).is_some());
        for handle in &unbegun {
            runs.end(TaskHandle(*handle), Outcome::NotBegun);
        }
        let interrupted = runs.sent_to(Runner::Host(generations[place].id));
        for handle in &interrupted {
            let why = "the host of the job ended, it is not run again".to_owned();
            runs.end(*handle, failed(FailureKind::Interrupted, why));
        }
        Lost { failed: interrupted.len(), unbegun: unbegun.len() }
    }

    /// Starts hosts that are due, and says when one is blocked.
    pub(super) fn tend_hosts(&mut self, now: Instant) {
        for place in 0..self.core.performer.generations.len() {
            if self.core.performer.generations[place].jobs.waits_for_host() {
                let is_wanted = self.needs_host(place);
                if self.core.performer.generations[place].jobs.restart_due(is_wanted, now) {
                    self.restart_host(place, now);
                }
            }
            if let Some((silent, task)) = self.core.performer.generations[place].jobs.blocked_for(now)
                && let Some(task) = self.core.engine.task(TaskHandle(task))
            {
                let job = self.core.performer.job_name(task.scheduler).to_owned();
                let text = format_args!(
                    "job {job} has blocked the host for {} s (use await instead of a call that blocks)",
                    silent.as_secs()
                );
                self.core.performer.task_record(Level::WARNING, &task.record(), text);
            }
        }
    }

    /// Whether a configuration has jobs that are due, or may have at any time.
    fn needs_host(&self, place: usize) -> bool {
        let generation = &self.core.performer.generations[place];
        let mut stats = self.core.engine.scheduler_stats().filter(|stats| generation.owns(stats.scheduler));
        generation.jobs.is_in_force() || stats.any(|stats| stats.queued > 0)
    }

    fn restart_host(&mut self, place: usize, now: Instant) {
        self.core.performer.observed.counts.host_restarts += 1;
        let id = self.next_host_id();
        let source = Some(Arc::clone(&self.core.performer.generations[place].source));
        let log = &self.core.performer.log;
        let events = self.host_events.clone();
        let loading = Loading::start(&self.options, source, id, log, events, |config| config.fingerprint);
        let loading = loading.map_err(|error| self.restart_failed(error));
        self.core.performer.generations[place].jobs.restarted(loading.ok(), now);
    }

    /// A frame of a host that executes the config file again.
    fn restart_frame(&mut self, place: usize, frame: FromHost, now: Instant) {
        let performer = &mut self.core.performer;
        let Some(loading) = performer.generations[place].jobs.loading() else { return };
        match loading.frame(frame, &mut performer.log) {
            None => {}
            Some(Ok(fingerprint)) if fingerprint == performer.generations[place].fingerprint => {
                performer.generations[place].jobs.loaded(now);
                self.core.engine.start_jobs(now, performer);
                record!(performer.log, self.logger, INFO, "config host is running again");
            }
            Some(Ok(_)) => {
                let text = "the config file was changed since it was loaded, its jobs cannot run; \
                            send SIGHUP to load it";
                record!(performer.log, self.logger, ERROR, "{text}");
                self.give_host_up(place, now);
            }
            Some(Err(error)) => {
                self.restart_failed(error);
                self.give_host_up(place, now);
            }
        }
    }

    fn give_host_up(&mut self, place: usize, now: Instant) {
        if let Some(host) = self.core.performer.generations[place].jobs.close() {
            leave(&mut self.leaving, host, now + GRACE);
        }
        self.core.performer.generations[place].jobs.gone(now);
    }

    fn restart_failed(&mut self, error: LoadError) {
        let text = match error {
            LoadError::Fault(fault) => super::report::describe(&fault, false),
            LoadError::Exit(exit) => format!("it calls sys.exit with status {}", exit.code),
        };
        record!(self.core.performer.log, self.logger, ERROR, "unable to start the config host again: {text}");
    }

    /// Forces what was asked to end and did not.
    pub(super) fn force(&mut self, now: Instant) {
        // Letting go of a host kills it. Its end is of no interest, and may have come already or not be told for long,
        // where a child of it holds its socket.
        self.leaving.retain(|(_, at)| *at > now);
        for handle in self.core.performer.runs.overdue(now) {
            let has_to_end = self.has_to_end(handle, now);
            let performer = &mut self.core.performer;
            match performer.runs.get(handle).map(|run| run.runner) {
                // It keeps its place, and others that its host or its filesystem has are none of its business.
                Some(Runner::Host(_) | Runner::Lane) if !has_to_end => {
                    performer.runs.ask_to_end(handle, now + GRACE);
                    continue;
                }
                Some(Runner::Command) if performer.commands.signal(handle.0, Signal::KILL) => {
                    // Its end comes through the reaper.
                    performer.runs.ask_to_end(handle, now + GRACE);
                    continue;
                }
                Some(Runner::Host(id)) => {
                    // A job that does not heed its cancellation goes with its host, others have their time before.
                    if let Some(place) = performer.generations.iter().position(|one| one.id == id) {
                        if let Some(later) =
                            performer.generations[place].jobs.kill_at().filter(|at| *at > now)
                        {
                            performer.runs.ask_to_end(handle, later);
                            continue;
                        }
                        self.kill_host(place, now);
                    }
                }
                Some(Runner::Command | Runner::Lane | Runner::DryRun) | None => {}
            }
            self.core.performer.runs.end(handle, Outcome::Cancelled);
        }
    }

    /// Ends the host of a configuration that has to end; its death is no news then.
    fn kill_host(&mut self, place: usize, now: Instant) {
        if let Some(host) = self.core.performer.generations[place].jobs.host() {
            host.kill(Signal::KILL);
            self.give_host_up(place, now);
            self.end_jobs(place);
        }
    }
}

/// What the end of a command's process means.
fn outcome_of(ending: Ending) -> Outcome {
    match ending {
        Ending::Exited(0) => Outcome::Done,
        Ending::Exited(status) => {
            failed(FailureKind::ExitStatus(status), format!("exited with status {status}"))
        }
        Ending::Killed(signal) => {
            failed(FailureKind::Signal(signal), format!("killed by {}", signal_name(signal)))
        }
    }
}

pub(super) fn failed(kind: FailureKind, why: String) -> Outcome {
    Outcome::Failed(Failure::new(kind, why))
}
