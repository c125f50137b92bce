//! What comes back from the lanes: reports of work, and notices about the lanes themselves.

use std::time::{Instant, SystemTime, UNIX_EPOCH};

use engine::{FailureKind, Outcome, Settled, TaskHandle};
use watcher::Found;

use super::Daemon;
use super::perform::Performer;
use super::reload::counted;
use super::runs::Traces;
use super::tasks::failed;
use crate::action::descent::Place;
use crate::action::file::Before;
use crate::action::missing;
use crate::action::settle::{Answer, Verdict};
use crate::action::trash::Emptied;
use crate::action::{Report, file, sweep::Swept};
use crate::config::{Owner, owner_warnings};
use crate::lane::{LaneId, NotPerformed, Notice, Once, Size};
use crate::log::{Cause, Clock, Escaped, Level, Log, record};

impl Daemon {
    /// Keeps reports that something is not where it was until all events that are queued now have been told: one of
    /// them may say where it went.
    pub(super) fn doubt(&mut self, reports: Vec<Report>) {
        if reports.is_empty() {
            return;
        }
        let queued = self.read_soon();
        for report in reports {
            self.doubtful.push(queued, report);
        }
    }

    /// Takes what was reported.
    pub(super) fn reported(&mut self, reports: Vec<Report>, now: Instant) {
        for report in reports {
            match report {
                Report::Account(answer) => self.core.performer.commands.answered(&answer, now),
                Report::File(report) => self.file_report(report, now),
                Report::Found(found) => self.watcher.found(found, now, &mut self.core),
                Report::Looked(looked) => self.core.looked(looked),
                Report::Checked(warnings) => {
                    for warning in warnings {
                        record!(self.core.performer.log, Log::ROOT, WARNING, "{warning}");
                    }
                }
                Report::Examined(number, warnings) => self.has_examined(number, warnings),
                Report::Leftovers(groups) => self.leftovers_ended(&groups, now),
                Report::Settled(answer) => self.settled(&answer, now),
                Report::Read(number, found) => self.has_read(number, found, now),
                Report::Undone(number, said, undone) => self.undone(number, said, undone, now),
                Report::Stands(number, standing) => self.stands(number, standing),
                Report::Swept(swept) => self.swept(&swept, now),
                Report::Emptied(emptied) => self.emptied(&emptied),
            }
        }
    }

    /// A look at a file that a task waits for.
    fn settled(&mut self, answer: &Answer, now: Instant) {
        self.core.performer.looks.answered(answer);
        let settled = match &answer.verdict {
            Verdict::Yes => Settled::Yes,
            Verdict::No(reason) => Settled::No(reason),
            Verdict::Vanished => Settled::Vanished,
        };
        self.core.engine.settled(now, answer.handle, settled, &mut self.core.performer);
    }

    fn file_report(&mut self, report: file::Report, now: Instant) {
        match report {
            file::Report::Record { task, level, text } => self.file_record(task, level, &text),
            file::Report::Ended { task, result, deed } => {
                self.count_bytes(task, result.as_ref().map_or(0, |done| done.bytes));
                let performer = &mut self.core.performer;
                let takes_away = performer.files.takes_away(task);
                let is_done = result.as_ref().is_ok_and(|done| !done.unchanged && done.skipped.is_none());
                if is_done && takes_away {
                    self.withdraw_below(task, now);
                }
                let performer = &mut self.core.performer;
                performer.files.ended(task, &mut performer.lanes, now);
                let outcome = self.file_outcome(task, takes_away, result);
                let traces = Traces { deed, ..Traces::default() };
                self.core.performer.runs.end_with(TaskHandle(task), outcome, traces);
            }
        }
    }

    /// Counts what a file rule copied.
    fn count_bytes(&mut self, task: u64, bytes: u64) {
        let performer = &mut self.core.performer;
        let Some(action) = performer.files.action(task).filter(|_| bytes > 0) else { return };
        if let Some(found) = self.core.engine.task(TaskHandle(task)) {
            let name = performer.shared_name(found.scheduler);
            performer.observed.counts.copied(&name, action, bytes);
        }
    }

    /// A file rule has moved or removed a directory: tasks that wait for it, or for what was below it, have nothing to
    /// act on any more. For a file they stay: what follows on a move in the same list of schedulers is meant to run.
    /// They stay too where something stands there again, since some may be of that. On a filesystem that may not answer
    /// nobody looks.
    fn withdraw_below(&mut self, task: u64, now: Instant) {
        let Some(found) = self.core.engine.task(TaskHandle(task)) else { return };
        let event = found.event.get();
        if !event.is_dir {
            return;
        }
        let filesystem = self.core.performer.lanes.filesystems.of_parent(event.pathname, now);
        if !filesystem.is_local || missing::is_missing(event.pathname) {
            let performer = &mut self.core.performer;
            self.core.engine.withdraw(now, event.pathname, performer);
            for task in performer.files.waiting_for(task) {
                if performer.files.withdraw(task, &mut performer.lanes, now) {
                    performer.runs.end(TaskHandle(task), Outcome::Withdrawn);
                }
            }
        }
    }

    fn file_outcome(
        &mut self,
        task: u64,
        takes_away: bool,
        result: Result<files::Done, file::Failure>,
    ) -> Outcome {
        let done = match result {
            Ok(done) => done,
            Err(file::Failure::InUse(text)) => return failed(FailureKind::InUse, text),
            Err(file::Failure::Error(text)) => return failed(FailureKind::Error, text),
        };
        if let Some(id) = self.core.engine.task_id(TaskHandle(task)) {
            // Of what it skipped the source has stayed.
            let takes_away = takes_away && done.skipped.is_none_or(|why| why == files::Skipped::Same);
            self.core.performer.left(id, Before { source: done.identity, takes_away, deed: None });
        }
        if done.unchanged { Outcome::Unchanged } else { Outcome::Done }
    }

    fn file_record(&mut self, task: u64, level: Level, text: &str) {
        if let Some(found) = self.core.engine.task(TaskHandle(task)) {
            let record = found.record();
            self.core.performer.file_record(level, &record, text);
        }
    }

    fn swept(&mut self, swept: &Swept, now: Instant) {
        let performer = &mut self.core.performer;
        performer.sweeps.ended(swept, &mut performer.lanes, now);
        if swept.removed > 0 {
            let (removed, below) = (swept.removed, Escaped(&swept.area.directory));
            let text = format_args!("removed {removed} temporary file(s) of an earlier run below '{below}'");
            performer.log.write(self.logger, Level::INFO, text);
        }
    }

    fn emptied(&mut self, emptied: &Emptied) {
        let performer = &mut self.core.performer;
        performer.trashes.ended(emptied);
        let trash = Escaped(&emptied.trash);
        match &emptied.result {
            Ok(files::Swept { removed: 0, failed: 0, .. }) => {}
            Ok(files::Swept { removed, failed, .. }) => {
                let removed = counted(*removed, "old entry", "old entries");
                let (level, left) = match failed {
                    0 => (Level::INFO, String::new()),
                    _ => (Level::WARNING, format!(", {failed} could not be removed")),
                };
                let text = format_args!("removed {removed} of the trash '{trash}'{left}");
                performer.log.write(self.logger, level, text);
            }
            Err(error) => {
                record!(
                    performer.log,
                    self.logger,
                    WARNING,
                    "cannot look through the trash '{trash}': {error}"
                );
            }
        }
    }

    /// Goes on with finding out where the roots of the configuration in force are: rules may find again what they made
    /// below them. True if there is more to do.
    pub(super) fn place_again(&mut self, now: Instant) -> bool {
        let Some(in_force) = self.place_in_force() else { return false };
        let Performer { generations, lanes, files, .. } = &mut self.core.performer;
        let in_force = &mut generations[in_force];
        let is_more = in_force.place_roots(&mut lanes.filesystems, now);
        if !is_more && let Some(places) = in_force.places.take() {
            let mounted = lanes.filesystems.mounted().into_iter();
            let mounted = mounted.map(|(at, shown)| (Place::of(&at), Place::of(&shown))).collect();
            files.descents.set_roots(places, mounted);
        }
        is_more
    }

    /// Lets a lane look up users and groups that a configuration names.
    pub(super) fn check_owners(&mut self, owners: Vec<Owner>, now: Instant) {
        if owners.is_empty() {
            return;
        }
        let run = move || Report::Checked(owner_warnings(&owners));
        let about = "look whether users and groups of file rules exist".to_owned();
        let work = Once::new(about, run, |_: NotPerformed| Report::Checked(Vec::new()));
        self.core.performer.lanes.submit(LaneId::Users, Size::Large, work, now);
    }

    /// Hands over what the watcher may not do itself, since a filesystem may not answer.
    pub(super) fn hand_over_looks(&mut self, now: Instant) {
        while let Some(look) = self.watcher.next_look(now) {
            let device = look.device();
            let what = if look.is_apart() { "" } else { "what is mounted at " };
            let about = format!("watch {what}'{}'", Escaped(look.point()));
            let not_performed = move |_: NotPerformed| Report::Found(Found::lost(device));
            let work = Once::new(about, move || Report::Found(look.perform()), not_performed);
            self.core.performer.lanes.submit(LaneId::Filesystem(device), Size::Large, work, now);
        }
    }

    /// Hands over what was submitted to lanes, and says how they get on.
    pub(super) fn tend_lanes(&mut self, now: Instant) {
        for notice in self.core.performer.lanes.tend(now) {
            let log = &mut self.core.performer.log;
            match notice {
                Notice::NoThread { waiting, error } => record!(
                    log,
                    self.logger,
                    WARNING,
                    "cannot start a thread for file rules now: {error} (see ulimit -u, TasksMax=); \
                     {waiting} wait, they are tried again",
                    error = Cause(&error)
                ),
                Notice::Stalled { lane, about, since, waiting } => {
                    let (seconds, time) = (seconds_since(since, now), time_of(since, now));
                    let what = lane.answers();
                    record!(
                        log,
                        self.logger,
                        WARNING,
                        "{about}: no progress for {seconds} s, since {time}; \
                         {what} does not answer, {waiting} more wait for it"
                    );
                }
                Notice::Resumed { about, since } => {
                    let seconds = seconds_since(since, now);
                    record!(log, self.logger, INFO, "{about}: goes on after {seconds} s");
                }
            }
        }
    }
}

impl Performer {
    /// Mounts have changed: directories, and so roots of watches, may be elsewhere.
    pub(super) fn mounts_changed(&mut self) {
        self.lanes.filesystems.changed();
        for generation in &mut self.generations {
            generation.places = Some(Vec::new());
        }
    }

    /// A path of a watch leads elsewhere.
    pub(super) fn root_is_elsewhere(&mut self, path: &[u8]) {
        self.lanes.filesystems.forget_ways();
        let there = self.lanes.filesystems.of_directory(path, self.now);
        self.files.descents.add_root(Place::of(&there));
    }
}

fn seconds_since(since: Instant, now: Instant) -> u64 {
    now.saturating_duration_since(since).as_secs()
}

/// The time of day, as log lines have it.
fn time_of(at: Instant, now: Instant) -> String {
    let wall = SystemTime::now().checked_sub(now.saturating_duration_since(at));
    let wall = wall.and_then(|wall| wall.duration_since(UNIX_EPOCH).ok());
    let mut time = Vec::new();
    Clock::new().stamp(wall.map_or(0.0, |wall| wall.as_secs_f64()), &mut time);
    String::from_utf8_lossy(&time).into_owned()
}
