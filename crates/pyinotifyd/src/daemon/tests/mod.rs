//! The whole program without a kernel: real [`Daemon`] code, told of events by a [`scripted`] source, in a time that
//! passes as the test says.
//!
//! Jobs have no host here, so that a task runs until the test ends its run. What the daemon does is read from its log,
//! as an operator would, and from what it answers.

mod scripted;
mod stories;
mod storm;

use std::cell::{RefCell, RefMut};
use std::process::ExitCode;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use engine::{Doing, Outcome, TaskHandle};
use serde_json::{Value, json};
use tokio::runtime::Runtime;

use super::observe::wall_now;
use super::prepared::Prepared;
use super::reload::Reloaded;
use super::start::Start;
use super::wake::Signals;
use super::{Daemon, Left};
use crate::cli::{ConfigOptions, Source};
use crate::config::Config;
use crate::host;
use crate::log::{Log, Stderr, Style};

use scripted::{Script, Scripted};

/// Turns in a row that have something left to do, at which a test gives up.
const TURNS_MAX: usize = 10_000;

/// A line of the daemon's log.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Said {
    /// When, from the start of the daemon.
    at: Duration,
    logger: String,
    level: String,
    /// Without the id of a task, which is random.
    text: String,
}

/// A daemon at work on a script.
struct Bed {
    daemon: Daemon,
    script: Rc<RefCell<Script>>,
    now: Instant,
    start: Instant,
    said: Vec<Said>,
    /// Goes last: descriptors of the daemon are registered with it.
    runtime: Runtime,
}

impl Bed {
    fn new(config: Config) -> Bed {
        let (source, script) = Scripted::new();
        Bed::with(config, source, script).expect("the daemon starts")
    }

    /// A daemon whose source may not have what the configuration needs.
    fn with(config: Config, source: Scripted, script: Rc<RefCell<Script>>) -> Result<Bed, ExitCode> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build().unwrap();
        let entered = runtime.enter();
        let mut log = Log::new(Stderr::discard());
        log.set_style(Style::Full);
        let start = Start {
            options: options(),
            log,
            config,
            host: None,
            python: None,
            since: wall_now(),
            signals: Signals::new().unwrap(),
            reload: false,
            hosts: host::channel(),
            state: None,
        };
        let now = Instant::now();
        let daemon = start.with_source(Box::new(source), now)?;
        drop(entered);
        let mut bed = Bed { daemon, script, now, start: now, said: Vec::new(), runtime };
        bed.settle();
        Ok(bed)
    }

    /// Makes turns until nothing is left to do now.
    fn settle(&mut self) {
        for _ in 0..TURNS_MAX {
            let left = self.daemon.turn(self.now);
            self.listen();
            if !left.more && self.due().is_none_or(|due| due > self.now) {
                return;
            }
        }
        panic!("the loop has something left to do again and again");
    }

    /// One turn.
    fn turn(&mut self) {
        self.daemon.turn(self.now);
        self.listen();
    }

    /// Lets time pass. The loop wakes when it says that it has something to do, and at the end.
    fn pass(&mut self, time: Duration) {
        let end = self.now + time;
        self.settle();
        while let Some(due) = self.due().filter(|due| *due <= end) {
            self.now = due;
            self.settle();
        }
        if self.now < end {
            self.now = end;
            self.settle();
        }
    }

    /// A reload whose config file was executed and says that. A small one has taken over by the end.
    fn reload(&mut self, config: Config) -> Result<(), String> {
        let prepared = Prepared::new(config);
        let adopted = self.daemon.adopt(prepared, None, Some(Reloaded::default()), self.now);
        self.daemon.advance_adoption(self.now);
        self.listen();
        adopted
    }

    /// The runs of a scheduler's tasks that have not ended, by path.
    fn running(&self, scheduler: &str) -> Vec<(String, TaskHandle)> {
        let mut found = Vec::new();
        let performer = &self.daemon.core.performer;
        self.daemon.core.engine.visit(0, usize::MAX, |task| {
            if matches!(task.doing, Doing::Running(_))
                && performer.scheduler_name(task.scheduler) == scheduler
            {
                found.push((String::from_utf8_lossy(task.event.pathname).into_owned(), task.handle));
            }
        });
        found
    }

    /// Ends the run of a scheduler's task.
    fn end(&mut self, scheduler: &str, path: &str) {
        let runs = self.running(scheduler);
        let run = runs.iter().find(|(of, _)| of == path);
        let (_, handle) = run.unwrap_or_else(|| panic!("no run of {scheduler} for {path}: {runs:?}"));
        self.end_run(*handle);
    }

    /// The same of a run.
    fn end_run(&mut self, handle: TaskHandle) {
        self.daemon.core.performer.runs.end(handle, Outcome::Done);
    }

    /// Takes new lines of the log.
    fn listen(&mut self) {
        let at = self.now.saturating_duration_since(self.start);
        for line in self.daemon.core.performer.log.take_for_test().lines() {
            let mut fields = line.splitn(4, " - ").skip(1);
            let mut field = || fields.next().expect("a line has four fields").to_owned();
            let (logger, level, text) = (field(), field(), field());
            let logger = logger.trim_start_matches("pyinotifyd/").to_owned();
            let text = text.split(", task_id=").next().unwrap_or_default().to_owned();
            self.said.push(Said { at, logger, level, text });
        }
    }

    /// Takes the lines that are about tasks.
    fn take_tasks(&mut self) -> Vec<Said> {
        self.said.extract_if(.., |said| said.text.contains(", mask=")).collect()
    }

    /// What those lines say.
    fn tasks(&mut self) -> Vec<String> {
        self.take_tasks().into_iter().map(|said| said.text).collect()
    }

    /// How often the log has a line with this text.
    fn count(&self, text: &str) -> usize {
        self.said.iter().filter(|said| said.text.contains(text)).count()
    }

    /// When the loop wakes by itself, if nothing is left to do now.
    fn due(&self) -> Option<Instant> {
        self.daemon.deadline(&Left { more: false, pause_until: None, log: None }, self.now)
    }

    /// What happens from here on.
    fn script(&self) -> RefMut<'_, Script> {
        self.script.borrow_mut()
    }
}

fn options() -> ConfigOptions {
    ConfigOptions {
        source: Source::Files(Vec::new()),
        debug: false,
        dry_run: false,
        python: None,
        state: None,
        control: None,
    }
}

/// A configuration, as a host describes it.
fn config(watches: &[Value], schedulers: &[Value]) -> Config {
    let description = json!({
        "logname": "daemon", "shutdown_timeout": 30.0, "state": {"path": null, "never": true}, "history": 0,
        "control": {"path": null, "never": true, "group": null, "metrics": null},
        "watches": watches, "schedulers": schedulers,
        "levels": {}, "syslog": [], "handlers": false, "filtered": [], "stays": false,
    });
    Config::from_description(description.to_string().as_bytes(), Arc::default())
        .expect("it is well described")
}

/// A watch of a tree, with its event map.
fn watch(path: &str, map: &Value) -> Value {
    json!({
        "paths": [path], "path_text": path, "rec": true, "auto_add": true, "initial": "none", "exclude": null,
        "map": map, "at": null,
    })
}

/// A scheduler of jobs.
fn job(name: &str, delay: f64) -> Value {
    json!({
        "kind": "job", "name": name, "file": "config", "named": true, "logname": name, "files": true, "dirs": false,
        "delay": delay, "delay_text": delay.to_string(), "singlejob": false, "job": name, "does": name,
        "running": {"on_failure": [], "on_busy": "skip", "persist": true, "rerun": false},
    })
}

/// The same for one task at a time, whatever its path.
fn single_job(name: &str, delay: f64) -> Value {
    let mut job = job(name, delay);
    job["singlejob"] = json!(true);
    job
}
