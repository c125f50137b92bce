//! Effects of the engine, performed: tasks are handed to their host, command or worker, decisions to the log.
//!
//! Called in the middle of the engine's work, so everything here only queues. What goes out at the end of a loop turn
//! is sent by [`Performer::flush_hosts`] and [`Performer::flush_log`].

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use engine::{
    BatchEvent, Effects, End, Failure, NotDone, Outcome, Question, Record, SchedulerId, Seconds, Start,
    TaskHandle, TaskId, TaskRecord,
};
use event::Event;
use hashbrown::HashMap;
use rustix::process::Signal;

use super::generation::{Action, Generation};
use super::keep::{Keeper, REPLACED};
use super::observe::{Fate, Observed};
use super::reload::counted;
use super::runs::{Runner, Runs};
use super::task_name::TaskName;
use crate::action::Lanes;
use crate::action::command::{Commands, Environment, Order as CommandOrder};
use crate::action::file::{Before, FileOrders, Order as FileOrder};
use crate::action::occasion::{Failed, Occasion};
use crate::action::output::{Channel, LINE_MAX, LINES_MAX, Said, Source};
use crate::action::settle::Looks;
use crate::action::sweep::Sweeps;
use crate::action::trash::Trashes;
use crate::config::{Command, Output, Work};
use crate::host::wire;
use crate::lane::Limits;
use crate::log::{About, Escaped, Indented, Level, Log, LoggerId, record};

/// See the module's head.
#[derive(Debug)]
pub(crate) struct Performer {
    /// The log.
    pub log: Log,
    /// Logger of records about events.
    pub eventmap: LoggerId,
    /// Logger of records about the daemon.
    logger: LoggerId,
    /// All generations that have tasks; the newest is last.
    pub generations: Vec<Generation>,
    /// A second SIGINT ends everything without waiting.
    pub ends_at_once: bool,
    /// Shell commands.
    pub commands: Commands,
    /// File rules.
    pub files: FileOrders,
    /// Temporary files of earlier runs.
    pub sweeps: Sweeps,
    /// What lies in trashes for long enough.
    pub trashes: Trashes,
    /// Threads for what may wait.
    pub lanes: Lanes,
    /// Log what tasks would do instead of doing it.
    dry_run: bool,
    /// Tasks that run, and those that have ended since the loop told the engine last.
    pub runs: Runs,
    /// Tasks of file rules that events came for while they ran, or that were done although they were told to stop, with
    /// what the run left for the next one.
    marked: HashMap<TaskId, Before>,
    /// What operators see of events and tasks.
    pub observed: Observed,
    /// What was seen of files whose tasks wait for them to settle.
    pub looks: Looks,
    /// Keeps tasks for another life of the daemon, where there is a state.
    pub keeper: Option<Keeper>,
    /// The loop's time, for what is queued in the middle of the engine's work.
    pub now: Instant,
    /// Bytes that the run has room for whose batch is put together.
    batch_room: usize,
}

/// Bytes of all events that one call of a job gets: far below the longest frame, and many thousand paths.
const BATCH_JOB_MAX: usize = 16 << 20;

/// Tasks of file rules that are remembered for their next run; about 100 bytes each.
const MARKED_MAX: usize = 65_536;

/// Time between asking something to end (a command by SIGTERM, a job by its cancellation) and forcing it (SIGKILL).
pub(crate) const GRACE: Duration = Duration::from_secs(5);
/// The same for a job whose host is blocked: it does not hear of its cancellation, unless what blocks ends now.
const BLOCKED_GRACE: Duration = Duration::from_secs(2);

impl Performer {
    /// Nothing to do yet.
    pub(crate) fn new(mut log: Log, dry_run: bool, now: Instant) -> Performer {
        Performer {
            eventmap: log.logger("eventmap"),
            logger: log.logger("daemon"),
            log,
            generations: Vec::new(),
            ends_at_once: false,
            commands: Commands::default(),
            files: FileOrders::default(),
            sweeps: Sweeps::default(),
            trashes: Trashes::default(),
            lanes: Lanes::new(Limits::default()),
            dry_run,
            runs: Runs::default(),
            marked: HashMap::new(),
            keeper: None,
            observed: Observed::default(),
            looks: Looks::default(),
            now,
            batch_room: 0,
        }
    }

    /// Writes a record of a task: text, event, id.
    pub(crate) fn task_record(&mut self, level: Level, task: &TaskRecord<'_>, text: fmt::Arguments<'_>) {
        self.task_record_with(level, task, text, "");
    }

    /// Writes a record of a task with lines below it, such as a traceback, if there are any.
    pub(crate) fn task_record_with(
        &mut self,
        level: Level,
        task: &TaskRecord<'_>,
        text: fmt::Arguments<'_>,
        below: &str,
    ) {
        let logger = self.logger(task.scheduler);
        if self.log.enabled(logger, level) {
            let name = TaskName::of(task.id);
            let about = about_task(logger, task, &name);
            if below.is_empty() {
                self.log.write_about(logger, level, &about, format_args!("{text}{about}"));
            } else {
                let text = format_args!("{text}{about}\n    {}", Indented(below));
                self.log.write_about(logger, level, &about, text);
            }
        }
    }

    /// Writes a record of a file rule: text, which has the paths, and id.
    pub(crate) fn file_record(&mut self, level: Level, task: &TaskRecord<'_>, text: &str) {
        let logger = self.logger(task.scheduler);
        if self.log.enabled(logger, level) {
            let name = TaskName::of(task.id);
            let about = about_task(logger, task, &name);
            self.log.write_about(logger, level, &about, format_args!("{text}, task_id={}", name.as_str()));
        }
    }

    /// What identifies a scheduler.
    pub(crate) fn identity(&self, scheduler: SchedulerId) -> &crate::config::Identity {
        &self.action(scheduler).identity
    }

    /// What people call a scheduler.
    pub(crate) fn scheduler_name(&self, scheduler: SchedulerId) -> &str {
        &self.action(scheduler).name
    }

    /// The same, to keep.
    pub(crate) fn shared_name(&self, scheduler: SchedulerId) -> Arc<str> {
        Arc::clone(&self.action(scheduler).name)
    }

    /// What a task of that scheduler is called in a warning.
    pub(crate) fn job_name(&self, scheduler: SchedulerId) -> &str {
        match &self.action(scheduler).work {
            Work::Job(name) => name,
            Work::Command(_) => "shell command",
            Work::Rules(_) => "file rule",
        }
    }

    /// Whether there is room for jobs since this was asked, of which hosts say nothing.
    pub(crate) fn has_freed_room(&mut self) -> bool {
        self.generations.iter_mut().any(|one| one.jobs.was_freed())
    }

    /// Sends hosts what was queued for them in this turn.
    pub(crate) fn flush_hosts(&mut self, now: Instant) {
        for generation in &mut self.generations {
            generation.jobs.flush(&mut self.runs, now);
        }
        for record in self.log.take_forwarded() {
            let mut given = false;
            for (place, generation) in self.generations.iter().enumerate() {
                let Some(host) = generation.jobs.ready().filter(|_| generation.forwards) else { continue };
                // The filters in force are those of the newest configuration.
                let asked = record.filtered && place + 1 == self.generations.len();
                given |= host.send_log(wire::log(&record, asked)) && asked;
            }
            if record.filtered && !given {
                // Nobody is there to ask: a record too many rather than one too few.
                self.log.write_foreign(&record.logger, record.level, record.created, &record.message);
            }
        }
    }

    /// Writes the log's lines; where its reader left some behind: the pause before they are offered again.
    pub(crate) fn flush_log(&mut self) -> Option<Duration> {
        self.log.flush()
    }

    fn generation(&self, scheduler: SchedulerId) -> usize {
        let found = self.generations.iter().rposition(|generation| generation.owns(scheduler));
        found.expect("a generation stays until its tasks have ended")
    }

    pub(super) fn action(&self, scheduler: SchedulerId) -> &Action {
        self.generations[self.generation(scheduler)].action(scheduler)
    }

    fn logger(&self, scheduler: SchedulerId) -> LoggerId {
        self.action(scheduler).logger
    }

    /// Notes what a run left, if the task may run again for events that came meanwhile.
    pub(crate) fn left(&mut self, task: TaskId, before: Before) {
        if let Some(known) = self.marked.get_mut(&task) {
            *known = before;
        }
    }

    /// Notes what a run did although it was told to stop, for the next one of the task.
    pub(crate) fn late_deed(&mut self, task: TaskId, deed: Option<&String>) {
        let Some(deed) = deed else { return };
        self.mark(task);
        if let Some(known) = self.marked.get_mut(&task) {
            known.deed = Some(deed.clone());
        }
    }

    /// Forgets what a run left: its task is over.
    pub(crate) fn forget(&mut self, task: TaskId) {
        self.marked.remove(&task);
    }

    fn mark(&mut self, task: TaskId) {
        if self.marked.len() >= MARKED_MAX {
            // What is forgotten runs again without a look at its source: done twice, or failed, rather than not at all.
            self.marked.clear();
        }
        self.marked.entry(task).or_default();
    }

    fn is_file_rule(&self, scheduler: SchedulerId) -> bool {
        matches!(self.action(scheduler).work, Work::Rules(_))
    }

    /// Lets workers look through trashes, if it is time.
    pub(crate) fn tend_trashes(&mut self, now: Instant) {
        self.trashes.tend(&mut self.lanes, now);
    }

    fn start_file(&mut self, start: &Start<'_>, rules: Arc<crate::config::FileRules>) {
        let rule = start.rule.expect("a scheduler with rules starts tasks for a rule that matched");
        let prunes = rules.rules[rule].rule.prune;
        // A run that was told to stop may have been done by then.
        let looks = start.again || start.attempt > 1;
        let mut before = self.marked.remove(&start.id).unwrap_or_default();
        if !looks {
            // What was done in full has taken the source away.
            before = Before { takes_away: before.deed.is_some(), deed: before.deed, ..Before::default() };
        }
        let roots = if prunes { self.roots_above(&start.event) } else { Vec::new() };
        let order = FileOrder {
            task: start.handle.0,
            rules,
            rule,
            source: start.event.pathname.into(),
            root_len: usize::from(start.event.root_len),
            is_dir: start.event.is_dir,
            roots,
            level: self.log.level(self.logger(start.scheduler)),
            keeps: self.keeper.is_some() && self.action(start.scheduler).persist,
            is_retry: (start.attempt > 1 || before.deed.is_some()) && !start.again,
            before,
        };
        self.files.order(order, &mut self.lanes, self.now);
    }

    /// Roots of watches that lie between the root of an event and its path.
    fn roots_above(&self, event: &Event<'_>) -> Vec<Vec<u8>> {
        let patterns: Vec<&Vec<u8>> = self.generations.iter().flat_map(|one| &one.roots).collect();
        let slashes =
            (usize::from(event.root_len)..event.pathname.len()).filter(|at| event.pathname[*at] == b'/');
        let parents = slashes.map(|slash| &event.pathname[..slash]);
        let is_root = |path: &&[u8]| patterns.iter().any(|pattern| watcher::glob::names(pattern, path));
        parents.filter(is_root).map(<[u8]>::to_vec).collect()
    }

    /// How many bytes a run has room for, and how many it has without any path.
    fn empty_batch_line(&self, scheduler: SchedulerId) -> (usize, usize) {
        match &self.action(scheduler).work {
            Work::Job(_) => (BATCH_JOB_MAX, 0),
            Work::Command(command) => (self.commands.line_room(command), command.bytes_without_paths()),
            Work::Rules(_) => (usize::MAX, 0),
        }
    }

    fn start_command(&mut self, start: &Start<'_>, command: Arc<Command>) {
        let task = record_of(start);
        let theirs = start.failed.map(|failed| (failed, TaskName::of(failed.id)));
        let failed = theirs.as_ref().map(|(failed, id)| Failed {
            error: failed.error,
            attempts: failed.attempts,
            id: id.as_str(),
        });
        let occasion = Occasion { event: start.event, failed, batch: start.batch };
        let line = command.line(&occasion);
        if start.batch.len() > 1 {
            // The record says how many more there are.
            let first = command.line(&Occasion { batch: &start.batch[..1], ..occasion });
            self.task_record(Level::INFO, &task, format_args!("execute {}", first.shown()));
        } else {
            self.task_record(Level::INFO, &task, format_args!("execute {}", line.shown()));
        }
        let task_id = TaskName::of(start.id).as_str().to_owned();
        let source = (command.options.output == Output::Log).then(|| Source {
            logger: self.logger(start.scheduler),
            task_id: task_id.clone(),
            event: start.event.mask.name(),
            path: start.event.pathname.to_vec(),
        });
        let order = CommandOrder {
            task: start.handle.0,
            line,
            environment: Environment::of(&occasion, task_id),
            input: crate::action::input::text(command.options.stdin, &occasion),
            source,
            command,
        };
        self.commands.order(order, &mut self.lanes, self.now);
    }

    /// Logs some of what commands have written; true if there may be more.
    pub(crate) fn log_outputs(&mut self) -> bool {
        let Performer { commands, log, .. } = self;
        commands.outputs.read_some(&mut |source, said| output_record(log, source, said))
    }

    /// The command of a task has ended: logs what is left of its output, and returns the end of all that it wrote.
    pub(crate) fn end_output(&mut self, task: u64) -> Vec<u8> {
        let Performer { commands, log, .. } = self;
        commands.outputs.ended(task, &mut |source, said| output_record(log, source, said))
    }

    /// Writes a record of an event that a scheduler made no task of.
    fn event_record(
        &mut self,
        level: Level,
        scheduler: SchedulerId,
        event: &Event<'_>,
        text: fmt::Arguments<'_>,
    ) {
        let logger = self.logger(scheduler);
        if self.log.enabled(logger, level) {
            let about = about(logger, event, None);
            self.log.write_about(logger, level, &about, format_args!("{text}{about}"));
        }
    }

    /// Writes a record of a path that an exclude filter was asked about.
    fn excluded_record(&mut self, level: Level, pathname: &[u8], text: fmt::Arguments<'_>) {
        let about = About { path: Some(pathname), ..About::default() };
        self.log.write_about(self.eventmap, level, &about, text);
    }

    fn received(&mut self, event: &Event<'_>) {
        if !self.log.enabled(self.eventmap, Level::DEBUG) {
            return;
        }
        let dir = if event.is_dir { ", dir=True" } else { "" };
        let path = Given(", pathname=", (!event.pathname.is_empty()).then_some(event.pathname));
        let src = Given(", src_pathname=", event.src_pathname);
        let (mask, name, wd) = (event.mask.0, event.mask.name(), event.wd);
        let synthetic = if event.synthetic { ", synthetic=True" } else { "" };
        let text = format_args!(
            "received event{dir}, mask={mask:#x}, maskname={name}{path}{src}{synthetic}, wd={wd}"
        );
        let about = About { scheduler: None, ..about(self.eventmap, event, None) };
        self.log.write_about(self.eventmap, Level::DEBUG, &about, text);
    }
}

/// Writes a record of what a command has written.
fn output_record(log: &mut Log, source: &Source, said: Said<'_>) {
    let Source { logger, task_id, event, path } = source;
    let about = About {
        scheduler: Some(*logger),
        event: Some(event),
        path: Some(path),
        task: Some(task_id.as_str()),
        ..About::default()
    };
    let level = match said {
        Said::Line { channel: Channel::Stdout, .. } => Level::INFO,
        Said::Line { channel: Channel::Stderr, .. } | Said::TooMany => Level::WARNING,
    };
    if !log.enabled(*logger, level) {
        return;
    }
    match said {
        Said::Line { text, is_cut, .. } => {
            let (text, cut) = (Escaped(text), if is_cut { CUT } else { "" });
            log.write_about(*logger, level, &about, format_args!("{text}{cut}, task_id={task_id}"));
        }
        Said::TooMany => {
            let text =
                format_args!("output has more than {LINES_MAX} lines, no more are logged, task_id={task_id}");
            log.write_about(*logger, level, &about, text);
        }
    }
}

/// What follows the logged part of a line that is too long.
const CUT: &str = " … (cut after 8 KiB)";
const _: () = assert!(LINE_MAX == 8 << 10, "the text says so");

/// The names of a task and its event.
fn about_task<'a>(scheduler: LoggerId, task: &TaskRecord<'a>, name: &'a TaskName) -> About<'a> {
    About { others: task.others, ..about(scheduler, &task.event, Some(name)) }
}

/// A task that starts, as records name it.
fn record_of<'a>(start: &Start<'a>) -> TaskRecord<'a> {
    let others = start.batch.len().saturating_sub(1) as u32;
    TaskRecord { scheduler: start.scheduler, id: start.id, event: start.event, others }
}

/// The path that a directory had which was set aside, and what is below it: a NUL is in no path.
fn before_aside(path: &[u8]) -> &[u8] {
    path.split(|byte| *byte == 0).next().unwrap_or_default()
}

/// The names of an event, and of a scheduler and a task that have it.
fn about<'a>(scheduler: LoggerId, event: &Event<'a>, task: Option<&'a TaskName>) -> About<'a> {
    About {
        scheduler: Some(scheduler),
        event: Some(event.mask.name()),
        path: Some(before_aside(event.pathname)),
        others: 0,
        task: task.map(TaskName::as_str),
    }
}

/// `, name=value` where there is a value.
struct Given<'a>(&'static str, Option<&'a [u8]>);

impl fmt::Display for Given<'_> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.1.map_or(Ok(()), |value| write!(out, "{}{}", self.0, Escaped(value)))
    }
}

impl Effects for Performer {
    fn has_room(&self, scheduler: SchedulerId, prompt: bool) -> bool {
        let generation = &self.generations[self.generation(scheduler)];
        // What is kept as running counts as interrupted after a crash.
        let prompt = prompt || self.keeper.is_some() && generation.action(scheduler).persist;
        self.dry_run || generation.jobs.has_room(prompt, self.now)
    }

    fn start(&mut self, start: Start<'_>) {
        let name = self.shared_name(start.scheduler);
        self.observed.started(&start, &name, self.now);
        if self.dry_run {
            return self.start_dry(&start);
        }
        let index = self.generation(start.scheduler);
        let generation = &mut self.generations[index];
        match &generation.action(start.scheduler).work {
            Work::Job(_) => {
                self.runs.begin(start.handle, Runner::Host(generation.id));
                let name = TaskName::of(start.id);
                let place = generation.index_of(start.scheduler) as u32;
                let theirs = start.failed.map(|failed| (failed, TaskName::of(failed.id)));
                let failed = theirs.as_ref().map(|(failed, id)| wire::Failed {
                    error: failed.error,
                    attempts: failed.attempts,
                    id: id.as_str(),
                });
                if start.batch.is_empty() {
                    let (handle, event) = (start.handle, &start.event);
                    generation.jobs.start(handle, place, name.as_str(), event, failed.as_ref());
                } else {
                    generation.jobs.start_batch(start.handle, place, name.as_str(), start.batch);
                }
            }
            Work::Command(command) => {
                self.runs.begin(start.handle, Runner::Command);
                let command = Arc::clone(command);
                self.start_command(&start, command);
            }
            Work::Rules(rules) => {
                self.runs.begin(start.handle, Runner::Lane);
                let rules = Arc::clone(rules);
                self.start_file(&start, rules);
            }
        }
    }

    fn stop(&mut self, handle: TaskHandle, task: TaskId) {
        let Some(run) = self.runs.get(handle).copied() else { return };
        let is_taken_back = match run.runner {
            Runner::Command => self.commands.withdraw(handle.0),
            Runner::Lane => self.files.withdraw(handle.0, &mut self.lanes, self.now),
            Runner::Host(_) => !run.is_sent,
            Runner::DryRun => true,
        };
        if is_taken_back {
            let Runner::Host(id) = run.runner else { return self.runs.end(handle, Outcome::Cancelled) };
            self.generations.iter_mut().filter(|one| one.id == id).for_each(|one| one.jobs.take_back());
            return self.runs.end(handle, Outcome::NotBegun);
        }
        let mut until = self.now + GRACE;
        match run.runner {
            Runner::Command => {
                if let Some(keeper) = &mut self.keeper {
                    keeper.stopped(handle, self.commands.process(handle.0));
                }
                self.commands.signal(handle.0, Signal::TERM);
            }
            Runner::Lane => {
                self.files.stop(handle.0);
                self.mark(task);
            }
            Runner::Host(id) => {
                for Generation { jobs, .. } in self.generations.iter_mut().filter(|one| one.id == id) {
                    if jobs.is_blocked() {
                        until = self.now + BLOCKED_GRACE;
                    }
                    jobs.cancel(handle, until);
                }
            }
            Runner::DryRun => {}
        }
        self.runs.ask_to_end(handle, until);
    }

    fn batch_line(&mut self, scheduler: SchedulerId, used: usize, added: &BatchEvent) -> Option<usize> {
        let used = if used == 0 {
            let (room, empty) = self.empty_batch_line(scheduler);
            self.batch_room = room;
            empty
        } else {
            used
        };
        let BatchEvent { event, failed } = added;
        let event = event.get();
        let error = failed.as_ref().map(|(error, ..)| error.as_str());
        let added = match &self.action(scheduler).work {
            Work::Job(_) => wire::start_bytes(&event, error),
            Work::Command(command) => command.bytes_of_path(event.pathname),
            Work::Rules(_) => 0,
        };
        used.checked_add(added).filter(|used| *used <= self.batch_room)
    }

    fn ask_settled(&mut self, question: Question<'_>) {
        let path = question.event.pathname;
        let device = self.lanes.filesystems.of_parent(path, self.now).device;
        let wanted = self.action(question.scheduler).settled.clone();
        let wanted = wanted.expect("the engine asks where the scheduler says what settled means");
        let task = (question.handle, question.id);
        self.looks.ask(task, path, &wanted, device, &mut self.lanes, self.now);
    }

    fn ended(&mut self, task: &TaskRecord<'_>, end: End<'_>) {
        self.looks.forget(task.id);
        let index = self.generation(task.scheduler);
        let action = self.generations[index].action(task.scheduler);
        match &mut self.keeper {
            Some(keeper) if action.persist => return keeper.ended(task, action, end),
            Some(keeper) => self.observed.output = std::mem::take(&mut keeper.traces).output,
            None => {}
        }
        self.observed.failed(task, action.identity.clone(), &end);
    }

    fn record(&mut self, record: Record<'_>) {
        self.observe(&record);
        match record {
            Record::Received { event, .. } => self.received(event),
            Record::Excluded { pathname, .. } => self.excluded(pathname),
            Record::ExcludeStepLimit { pathname, .. } => self.exclude_gave_up(pathname),
            Record::NoRule { scheduler, event } => self.no_rule(scheduler, event),
            Record::RuleStepLimit { scheduler, event } => self.rule_gave_up(scheduler, event),
            Record::Scheduled { task, .. } => self.delay_record("schedule", &task),
            Record::Rescheduled { task, .. } => self.delay_record("re-schedule", &task),
            Record::Gathered { task, count } => self.gathered(&task, count),
            Record::Split { task, count } => self.split(&task, count),
            Record::Started { task, looks_again, .. } => self.started(&task, looks_again),
            Record::Finished { task } => self.task_record(Level::INFO, &task, format_args!("task finished")),
            Record::Failed { task, failure } => self.failed(&task, failure),
            Record::Retry { task, failure, attempt, pause } => self.retry(&task, failure, (attempt, pause)),
            Record::Remembered { task } => self.remembered(&task),
            Record::Restarting { task } => self.restarting(&task),
            Record::Reruns { task, count } => self.reruns(&task, count),
            Record::Unsettled { task, reason, .. } => self.unsettled(&task, reason),
            Record::Vanished { task } => self.vanished(&task),
            Record::PutOff { task, failure } => self.put_off(&task, failure),
            Record::Unchanged { task } => self.unchanged(&task),
            Record::SkippedOngoing { task } => self.skipped_ongoing(&task),
            Record::CancelledWaiting { task } => self.cancelled_waiting(&task, None),
            Record::Replaced { task } => self.cancelled_waiting(&task, Some(REPLACED)),
            Record::CancelledOngoing { task } => self.cancelled_ongoing(&task),
            Record::NotDone { task, why, is_named: true } => self.not_done(&task, why),
            Record::NotDoneMore { count } => self.not_done_more(count),
            Record::Followed { task, from, to } => self.followed(&task, from, to),
            Record::Withdrawn { pathname, count } => self.withdrawn(pathname, count),
            Record::MaxJobs { scheduler, max_jobs } => self.max_jobs_taken(scheduler, max_jobs),
            Record::MaxRate { scheduler } => self.max_rate_reached(scheduler),
            Record::TasksMax { scheduler, event, tasks } => self.tasks_max(scheduler, event, tasks),
            Record::TasksMaxOver { refused } => self.tasks_max_over(refused),
            Record::Paused { scheduler } => self.paused(scheduler),
            Record::WaitForTasks { scheduler, timeout, count } => self.waits_for(scheduler, timeout, count),
            Record::AllCompleted { scheduler } => self.all_completed(scheduler),
            Record::Kept { scheduler, count } => self.kept(scheduler, count),
            Record::TimeoutExceeded { scheduler, count } => self.timeout_exceeded(scheduler, count),
            // For who follows the stream.
            Record::Queued { .. } | Record::NotDone { is_named: false, .. } => {}
        }
    }
}

impl Performer {
    /// Counts what an operator follows, and tells those who read along.
    #[inline]
    fn observe(&mut self, record: &Record<'_>) {
        if let Some((task, fate)) = Fate::of(record) {
            if self.observed.wants(fate) {
                let name = self.shared_name(task.scheduler);
                self.observed.decided(task, fate, &name, self.now);
            }
        } else if matches!(record, Record::Excluded { .. } | Record::ExcludeStepLimit { .. }) {
            self.observed.counts.excluded += 1;
        }
    }

    fn excluded(&mut self, pathname: &[u8]) {
        let path = Escaped(pathname);
        self.excluded_record(Level::DEBUG, pathname, format_args!("pathname {path} is excluded"));
    }

    fn exclude_gave_up(&mut self, pathname: &[u8]) {
        let path = Escaped(pathname);
        let text = format_args!(
            "exclude_filter: a pattern gave up on {path}, the event is dropped; make the pattern simpler"
        );
        self.excluded_record(Level::ERROR, pathname, text);
    }

    fn no_rule(&mut self, scheduler: SchedulerId, event: &Event<'_>) {
        self.event_record(Level::DEBUG, scheduler, event, format_args!("no rule in ruleset matches"));
    }

    fn rule_gave_up(&mut self, scheduler: SchedulerId, event: &Event<'_>) {
        let text =
            format_args!("src_re: a pattern gave up on the path, nothing is done; make the pattern simpler");
        self.event_record(Level::ERROR, scheduler, event, text);
    }

    fn delay_record(&mut self, what: &str, task: &TaskRecord<'_>) {
        let delay = Arc::clone(&self.action(task.scheduler).delay_text);
        self.task_record(Level::INFO, task, format_args!("{what} task, delay={delay}"));
    }

    fn gathered(&mut self, task: &TaskRecord<'_>, count: u32) {
        let text = format_args!("gather task for the next batch, which has {count} path(s)");
        self.task_record(Level::INFO, task, text);
    }

    fn split(&mut self, task: &TaskRecord<'_>, count: u32) {
        let text = format_args!(
            "one run cannot take all {count} paths of the batch, there are several, one after the other"
        );
        self.task_record(Level::INFO, task, text);
    }

    fn started(&mut self, task: &TaskRecord<'_>, looks_again: bool) {
        // A task that waits for a writer looks each second.
        let level = if looks_again { Level::DEBUG } else { Level::INFO };
        self.task_record(level, task, format_args!("start task"));
    }

    fn failed(&mut self, task: &TaskRecord<'_>, failure: &Failure) {
        let why = Indented(&failure.text);
        self.task_record_with(Level::ERROR, task, format_args!("task failed: {why}"), &failure.details);
    }

    fn remembered(&mut self, task: &TaskRecord<'_>) {
        let text = format_args!("remember event, the task runs once more afterwards");
        self.task_record(Level::DEBUG, task, text);
    }

    fn restarting(&mut self, task: &TaskRecord<'_>) {
        self.task_record(Level::INFO, task, format_args!("stop ongoing task, to start it anew"));
    }

    fn reruns(&mut self, task: &TaskRecord<'_>, count: u32) {
        let text = format_args!("the task ran {count} times in a row for events of its own path");
        self.task_record(Level::WARNING, task, text);
    }

    fn unsettled(&mut self, task: &TaskRecord<'_>, reason: &str) {
        self.task_record(Level::DEBUG, task, format_args!("not settled: {reason}"));
    }

    fn vanished(&mut self, task: &TaskRecord<'_>) {
        self.task_record(Level::INFO, task, format_args!("vanished before it settled, task dropped"));
    }

    fn put_off(&mut self, task: &TaskRecord<'_>, failure: &Failure) {
        let why = Indented(&failure.text);
        self.task_record(Level::INFO, task, format_args!("put off, the file is in use: {why}"));
    }

    fn unchanged(&mut self, task: &TaskRecord<'_>) {
        self.task_record(Level::INFO, task, format_args!("nothing changed meanwhile"));
    }

    fn skipped_ongoing(&mut self, task: &TaskRecord<'_>) {
        // A file action makes events itself, and what others do meanwhile is not lost: it runs again.
        let mut level = Level::WARNING;
        if self.is_file_rule(task.scheduler) {
            level = Level::DEBUG;
            self.mark(task.id);
        }
        self.task_record(level, task, format_args!("skip event due to ongoing task"));
    }

    fn cancelled_ongoing(&mut self, task: &TaskRecord<'_>) {
        self.task_record(Level::WARNING, task, format_args!("ongoing task cancelled"));
    }

    fn not_done(&mut self, task: &TaskRecord<'_>, why: NotDone) {
        let why = match why {
            NotDone::TimeOver => self.why_cut_short(),
            NotDone::Retry => "retries are not waited for",
            NotDone::Paused => "its scheduler is paused",
            NotDone::NotKept => "it could not be kept",
        };
        self.task_record(Level::WARNING, task, format_args!("not done: {why}"));
    }

    fn not_done_more(&mut self, count: u32) {
        record!(self.log, self.logger, WARNING, "{count} more task(s) were not done");
    }

    /// Why the shutdown does not wait for tasks any more.
    fn why_cut_short(&self) -> &'static str {
        if self.ends_at_once { "interrupted" } else { "shutdown timeout exceeded" }
    }

    fn retry(&mut self, task: &TaskRecord<'_>, failure: &Failure, (attempt, pause): (u32, Option<Duration>)) {
        let why = Indented(&failure.text);
        if let Some(pause) = pause {
            // A hundredth is as much as anybody wants to know of a pause that chance makes longer.
            let pause = Seconds(Duration::from_millis((pause.as_secs_f64() * 100.0).round() as u64 * 10));
            let text = format_args!("attempt {attempt} failed: {why}; tried again in {pause} seconds");
            self.task_record_with(Level::WARNING, task, text, &failure.details);
        } else {
            let text = format_args!("attempt {attempt} failed: {why}; the task runs again for a later event");
            self.task_record_with(Level::WARNING, task, text, &failure.details);
        }
    }

    /// A task of an earlier daemon was cancelled.
    pub(super) fn cancelled_kept(&mut self, task: TaskRecord<'_>, why: &str) {
        self.observe(&Record::CancelledWaiting { task });
        self.cancelled_waiting(&task, Some(why));
    }

    /// A waiting task was cancelled, for a reason that its event does not show.
    fn cancelled_waiting(&mut self, task: &TaskRecord<'_>, why: Option<&str>) {
        self.forget(task.id);
        self.looks.forget(task.id);
        let (colon, why) = why.map_or(("", ""), |why| (": ", why));
        self.task_record(Level::INFO, task, format_args!("scheduled task cancelled{colon}{why}"));
    }

    fn followed(&mut self, task: &TaskRecord<'_>, from: &[u8], to: &[u8]) {
        let from = before_aside(from);
        if from == to {
            return;
        }
        let (from, to) = (Escaped(from), Escaped(to));
        let text = format_args!("task follows its directory, renamed from '{from}' to '{to}'");
        self.task_record(Level::INFO, task, text);
    }

    fn withdrawn(&mut self, pathname: &[u8], count: u32) {
        let path = Escaped(pathname);
        let text = format_args!("withdraw {count} task(s) of '{path}', which was moved or removed here");
        let about = About { path: Some(pathname), ..About::default() };
        self.log.write_about(self.eventmap, Level::INFO, &about, text);
    }

    /// Says what a task would do.
    fn start_dry(&mut self, start: &Start<'_>) {
        let text = match &self.action(start.scheduler).work {
            Work::Job(name) => format!("would run job {name}"),
            Work::Command(command) => {
                format!("would execute {}", command.line(&Occasion::of(&start.event)).shown())
            }
            Work::Rules(rules) => {
                let rule = start.rule.expect("a scheduler with rules starts tasks for a rule that matched");
                rules.intention(rule, start.event.pathname)
            }
        };
        let task = record_of(start);
        self.task_record(Level::INFO, &task, format_args!("{text}"));
        self.runs.begin(start.handle, Runner::DryRun);
        self.runs.end(start.handle, Outcome::Done);
    }

    /// Writes a record on a scheduler as a whole.
    fn scheduler_text(&mut self, level: Level, scheduler: SchedulerId, text: fmt::Arguments<'_>) {
        let logger = self.logger(scheduler);
        let about = About { scheduler: Some(logger), ..About::default() };
        self.log.write_about(logger, level, &about, text);
    }

    fn max_jobs_taken(&mut self, scheduler: SchedulerId, max_jobs: u32) {
        let running = counted(max_jobs, "task is", "tasks are");
        let text = format_args!("{running} running (max_jobs), others wait in order");
        self.scheduler_text(Level::WARNING, scheduler, text);
    }

    fn max_rate_reached(&mut self, scheduler: SchedulerId) {
        let text = format_args!("max_rate is reached, others wait in order");
        self.scheduler_text(Level::WARNING, scheduler, text);
    }

    fn tasks_max(&mut self, scheduler: SchedulerId, event: &Event<'_>, tasks: u32) {
        let text = format_args!(
            "there are {tasks} tasks already, this event and those that follow make none until there is room"
        );
        self.event_record(Level::ERROR, scheduler, event, text);
    }

    fn tasks_max_over(&mut self, refused: u64) {
        record!(self.log, self.eventmap, ERROR, "there is room for tasks again, {refused} events made none");
    }

    fn paused(&mut self, scheduler: SchedulerId) {
        self.scheduler_text(Level::INFO, scheduler, format_args!("pause scheduler"));
    }

    fn waits_for(&mut self, scheduler: SchedulerId, timeout: Duration, count: u32) {
        let timeout = Seconds(timeout);
        let text = format_args!("wait {timeout} seconds for {count} remaining task(s) to complete");
        self.scheduler_text(Level::INFO, scheduler, text);
    }

    fn all_completed(&mut self, scheduler: SchedulerId) {
        self.scheduler_text(Level::INFO, scheduler, format_args!("all remaining tasks completed"));
    }

    fn kept(&mut self, scheduler: SchedulerId, count: u32) {
        let is_degraded = self.keeper.as_ref().is_some_and(|keeper| keeper.trouble().is_some());
        let unless = if is_degraded { ", unless the state cannot be written until the end" } else { "" };
        let text = format_args!("keep {count} waiting task(s){unless}");
        self.scheduler_text(Level::INFO, scheduler, text);
    }

    fn timeout_exceeded(&mut self, scheduler: SchedulerId, count: u32) {
        let text = format_args!("{}, cancel {count} remaining task(s)", self.why_cut_short());
        self.scheduler_text(Level::WARNING, scheduler, text);
    }
}
