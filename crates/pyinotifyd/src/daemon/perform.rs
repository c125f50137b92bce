//! Effects of the engine, performed: tasks are handed to their host, command or worker, decisions to the log.
//!
//! Called in the middle of the engine's work, so everything here only queues. What goes out at the end of a loop turn is
//! sent by [`Performer::flush`].

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use engine::{Effects, Record, SchedulerId, Start, TaskHandle, TaskId, TaskRecord};
use event::Event;
use files::Identity;
use rustix::process::Signal;

use super::generation::{Action, Generation};
use super::task_name::TaskNames;
use crate::action::file::{FileWorkers, Order as FileOrder};
use crate::action::shell::{Commands, Environment, Order as CommandOrder};
use crate::config::Work;
use crate::host::wire;
use crate::log::{Escaped, Indented, Level, Log, LoggerId, record};

/// See the module's head.
#[derive(Debug)]
pub(crate) struct Performer {
    /// The log.
    pub log: Log,
    /// Logger of records about events.
    pub eventmap: LoggerId,
    /// All generations that have tasks; the newest is last.
    pub generations: Vec<Generation>,
    /// Shell commands.
    pub commands: Commands,
    /// File rules.
    pub files: FileWorkers,
    names: TaskNames,
    /// Log what tasks would do instead of doing it.
    dry_run: bool,
    /// Tasks of a dry run, which have ended as soon as they started; the loop tells the engine.
    pub dry: Vec<TaskHandle>,
    /// Tasks of file rules that events came for while they ran, with the source that the run acted on: their next run
    /// does nothing if the source is still that.
    marked: HashMap<TaskId, Option<Identity>>,
    /// Tasks whose run was withdrawn before it began; the loop tells the engine.
    pub withdrawn: Vec<TaskHandle>,
    /// Commands that were asked to end, with the time at which they are forced to.
    pub terminating: HashMap<u64, Instant>,
    /// The loop's time, for what is queued in the middle of the engine's work.
    pub now: Instant,
}

/// Tasks of file rules that are remembered for their next run; about 100 bytes each.
const MARKED_MAX: usize = 65_536;

/// Time between asking a command to end (SIGTERM) and forcing it (SIGKILL).
pub(crate) const GRACE: Duration = Duration::from_secs(2);

impl Performer {
    /// Nothing to do yet.
    pub(crate) fn new(mut log: Log, dry_run: bool, now: Instant) -> Performer {
        Performer {
            eventmap: log.logger("eventmap"),
            log,
            generations: Vec::new(),
            commands: Commands::default(),
            files: FileWorkers::default(),
            names: TaskNames::default(),
            dry_run,
            dry: Vec::new(),
            marked: HashMap::new(),
            withdrawn: Vec::new(),
            terminating: HashMap::new(),
            now,
        }
    }

    /// Writes a record of a task: text, event, id.
    pub(crate) fn task_record(&mut self, level: Level, task: &TaskRecord<'_>, text: fmt::Arguments<'_>) {
        let logger = self.logger(task.scheduler);
        if self.log.enabled(logger, level) {
            let name = self.names.name(task.id);
            let (mask, path) = (task.event.mask.name(), Escaped(task.event.pathname));
            self.log.write(logger, level, format_args!("{text}, mask={mask}, path={path}, task_id={name}"));
        }
    }

    /// Writes a record of a task with lines below it, such as a traceback.
    pub(crate) fn task_record_with(
        &mut self,
        level: Level,
        task: &TaskRecord<'_>,
        text: fmt::Arguments<'_>,
        below: &str,
    ) {
        let logger = self.logger(task.scheduler);
        if self.log.enabled(logger, level) {
            let name = self.names.name(task.id);
            let (mask, path) = (task.event.mask.name(), Escaped(task.event.pathname));
            let text =
                format_args!("{text}, mask={mask}, path={path}, task_id={name}\n    {}", Indented(below));
            self.log.write(logger, level, text);
        }
    }

    /// Writes a record of a file rule: text and id.
    pub(crate) fn file_record(&mut self, level: Level, scheduler: SchedulerId, id: TaskId, text: &str) {
        let (logger, name) = (self.logger(scheduler), self.names.name(id));
        self.log.write(logger, level, format_args!("{text}, task_id={name}"));
    }

    /// What a task of that scheduler is called in a warning.
    pub(crate) fn job_name(&self, scheduler: SchedulerId) -> &str {
        match &self.action(scheduler).work {
            Work::Job(name) => name,
            Work::Command(_) => "shell command",
            Work::Rules(_) => "file rule",
        }
    }

    /// Sends everything that was queued in this turn; true if the log's reader left lines behind.
    pub(crate) fn flush(&mut self, now: Instant) -> bool {
        for generation in &mut self.generations {
            generation.jobs.flush(now);
        }
        let records = self.log.take_forwarded();
        for host in self
            .generations
            .iter()
            .filter(|generation| generation.forwards)
            .filter_map(|generation| generation.jobs.host())
        {
            for record in &records {
                host.send_log(wire::log(record));
            }
        }
        self.log.flush()
    }

    fn generation(&self, scheduler: SchedulerId) -> usize {
        let found = self.generations.iter().rposition(|generation| generation.owns(scheduler));
        found.expect("a generation stays until its tasks have ended")
    }

    fn action(&self, scheduler: SchedulerId) -> &Action {
        self.generations[self.generation(scheduler)].action(scheduler)
    }

    fn logger(&self, scheduler: SchedulerId) -> LoggerId {
        self.action(scheduler).logger
    }

    /// Notes what a run acted on, if the task may run again for events that came meanwhile.
    pub(crate) fn acted_on(&mut self, task: TaskId, source: Identity) {
        if let Some(known) = self.marked.get_mut(&task) {
            *known = Some(source);
        }
    }

    fn mark(&mut self, task: TaskId) {
        if self.marked.len() >= MARKED_MAX {
            // What is forgotten runs again without a look at its source: done twice rather than not at all.
            self.marked.clear();
        }
        self.marked.entry(task).or_default();
    }

    fn is_file_rule(&self, scheduler: SchedulerId) -> bool {
        matches!(self.action(scheduler).work, Work::Rules(_))
    }

    fn start_file(&mut self, start: &Start<'_>, rules: Arc<crate::config::FileRules>) {
        let order = FileOrder {
            task: start.handle.0,
            rules,
            rule: start.rule.expect("a scheduler with rules starts tasks for a rule that matched"),
            source: start.event.pathname.into(),
            root_len: usize::from(start.event.root_len),
            level: self.log.level(self.logger(start.scheduler)),
            unless_same_as: self.marked.remove(&start.id).flatten().filter(|_| start.again),
            stop: AtomicBool::new(false),
        };
        self.files.order(order, self.now);
    }

    fn start_command(&mut self, start: &Start<'_>, line: Vec<u8>) {
        let task = TaskRecord { scheduler: start.scheduler, id: start.id, event: start.event };
        self.task_record(Level::INFO, &task, format_args!("execute shell command, cmd={}", Escaped(&line)));
        let environment = Environment::of(&start.event, self.names.name(start.id).to_string());
        self.commands.order(CommandOrder { task: start.handle.0, line, environment });
    }

    fn event_record(&mut self, level: Level, logger: LoggerId, event: &Event<'_>, text: &str) {
        if self.log.enabled(logger, level) {
            let (mask, path) = (event.mask.name(), Escaped(event.pathname));
            self.log.write(logger, level, format_args!("{text}, mask={mask}, path={path}"));
        }
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
        self.log.write(self.eventmap, Level::DEBUG, text);
    }
}

/// `, name=value` where there is a value.
struct Given<'a>(&'static str, Option<&'a [u8]>);

impl fmt::Display for Given<'_> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.1.map_or(Ok(()), |value| write!(out, "{}{}", self.0, Escaped(value)))
    }
}

/// Seconds as Python would print the number that the configuration gave: `30`, `0.5`.
struct Seconds(Duration);

impl fmt::Display for Seconds {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}", self.0.as_secs_f64())
    }
}

impl Effects for Performer {
    fn start(&mut self, start: Start<'_>) {
        if self.dry_run {
            return self.start_dry(&start);
        }
        let index = self.generation(start.scheduler);
        let generation = &mut self.generations[index];
        match &generation.action(start.scheduler).work {
            Work::Job(_) => {
                let name = self.names.name(start.id).text();
                let name = std::str::from_utf8(&name).expect("hexadecimal digits are ASCII");
                let place = generation.index_of(start.scheduler) as u32;
                generation.jobs.start(start.handle, place, name, &start.event);
            }
            Work::Command(template) => {
                let line = template.expand(&start.event);
                self.start_command(&start, line);
            }
            Work::Rules(rules) => {
                let rules = Arc::clone(rules);
                self.start_file(&start, rules);
            }
        }
    }

    fn stop(&mut self, handle: TaskHandle, _: TaskId) {
        if self.commands.withdraw(handle.0) {
            return self.withdrawn.push(handle);
        }
        self.commands.signal(handle.0, Signal::TERM);
        self.terminating.insert(handle.0, self.now + GRACE);
        self.files.stop(handle.0);
        for generation in &mut self.generations {
            generation.jobs.cancel(handle);
        }
    }

    fn record(&mut self, record: Record<'_>) {
        match record {
            Record::Received { event, .. } => self.received(&event),
            Record::Excluded { pathname, .. } => {
                record!(self.log, self.eventmap, DEBUG, "pathname {} is excluded", Escaped(pathname));
            }
            Record::ExcludeStepLimit { pathname, .. } => {
                let path = Escaped(pathname);
                record!(
                    self.log,
                    self.eventmap,
                    ERROR,
                    "exclude_filter: a pattern gave up on {path}, the event is dropped; make the pattern simpler"
                );
            }
            Record::NoRule { scheduler, event } => {
                self.event_record(Level::DEBUG, self.logger(scheduler), &event, "no rule in ruleset matches");
            }
            Record::RuleStepLimit { scheduler, event } => {
                let text = "src_re: a pattern gave up on the path, nothing is done; make the pattern simpler";
                self.event_record(Level::ERROR, self.logger(scheduler), &event, text);
            }
            Record::Scheduled { task, .. } => self.delay_record("schedule", &task),
            Record::Rescheduled { task, .. } => self.delay_record("re-schedule", &task),
            Record::Started { task, .. } => self.task_record(Level::INFO, &task, format_args!("start task")),
            Record::Finished { task } => self.task_record(Level::INFO, &task, format_args!("task finished")),
            Record::Unchanged { task } => {
                self.task_record(Level::DEBUG, &task, format_args!("nothing changed meanwhile"));
            }
            Record::SkippedOngoing { task } => {
                // A file action makes events itself, and what others do meanwhile is not lost: it runs again.
                let mut level = Level::WARNING;
                if self.is_file_rule(task.scheduler) {
                    level = Level::DEBUG;
                    self.mark(task.id);
                }
                self.task_record(level, &task, format_args!("skip event due to ongoing task"));
            }
            Record::CancelledWaiting { task } => {
                self.marked.remove(&task.id);
                self.task_record(Level::INFO, &task, format_args!("scheduled task cancelled"));
            }
            Record::CancelledOngoing { task } => {
                self.task_record(Level::WARNING, &task, format_args!("ongoing task cancelled"));
            }
            Record::MaxJobs { .. }
            | Record::TasksMax { .. }
            | Record::TasksMaxOver { .. }
            | Record::Paused { .. }
            | Record::WaitForTasks { .. }
            | Record::AllCompleted { .. }
            | Record::TimeoutExceeded { .. } => self.scheduler_record(&record),
        }
    }
}

impl Performer {
    /// Says what a task would do.
    fn start_dry(&mut self, start: &Start<'_>) {
        let text = match &self.action(start.scheduler).work {
            Work::Job(name) => format!("would run job {name}"),
            Work::Command(template) => {
                format!("would execute shell command, cmd={}", Escaped(&template.expand(&start.event)))
            }
            Work::Rules(rules) => {
                let rule = start.rule.expect("a scheduler with rules starts tasks for a rule that matched");
                rules.intention(rule, start.event.pathname)
            }
        };
        let task = TaskRecord { scheduler: start.scheduler, id: start.id, event: start.event };
        self.task_record(Level::INFO, &task, format_args!("{text}"));
        self.dry.push(start.handle);
    }

    fn delay_record(&mut self, what: &str, task: &TaskRecord<'_>) {
        let (logger, level) = (self.logger(task.scheduler), Level::INFO);
        if self.log.enabled(logger, level) {
            let index = self.generation(task.scheduler);
            let delay = &self.generations[index].action(task.scheduler).delay_text;
            let (mask, path, name) =
                (task.event.mask.name(), Escaped(task.event.pathname), self.names.name(task.id));
            let text = format_args!("{what} task, delay={delay}, mask={mask}, path={path}, task_id={name}");
            self.log.write(logger, level, text);
        }
    }

    /// Records on a scheduler as a whole.
    fn scheduler_record(&mut self, record: &Record<'_>) {
        match *record {
            Record::MaxJobs { scheduler, max_jobs } => {
                let logger = self.logger(scheduler);
                record!(
                    self.log,
                    logger,
                    WARNING,
                    "{max_jobs} tasks are running (max_jobs), others wait in order"
                );
            }
            Record::TasksMax { scheduler, event, tasks } => {
                let text = format!(
                    "there are {tasks} tasks already, this event and those that follow make none until there is room"
                );
                self.event_record(Level::ERROR, self.logger(scheduler), &event, &text);
            }
            Record::TasksMaxOver { refused } => {
                record!(
                    self.log,
                    self.eventmap,
                    ERROR,
                    "there is room for tasks again, {refused} events made none"
                );
            }
            Record::Paused { scheduler } => {
                let logger = self.logger(scheduler);
                record!(self.log, logger, INFO, "pause scheduler");
            }
            Record::WaitForTasks { scheduler, timeout, count } => {
                let (logger, timeout) = (self.logger(scheduler), Seconds(timeout));
                record!(
                    self.log,
                    logger,
                    INFO,
                    "wait {timeout} seconds for {count} remaining task(s) to complete"
                );
            }
            Record::AllCompleted { scheduler } => {
                let logger = self.logger(scheduler);
                record!(self.log, logger, INFO, "all remainig tasks completed");
            }
            Record::TimeoutExceeded { scheduler, count } => {
                let logger = self.logger(scheduler);
                record!(
                    self.log,
                    logger,
                    WARNING,
                    "shutdown timeout exceeded, cancel {count} remaining task(s)"
                );
            }
            _ => unreachable!("all records on a scheduler stand above"),
        }
    }
}
