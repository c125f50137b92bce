//! The daemon: one loop that owns all state.
//!
//! The loop wakes for a closed list of reasons ([`wake::Wake`]), turns each into an input of the watcher or the engine,
//! and performs the engine's effects ([`perform`]). A turn does a bounded amount of work: events are read, due tasks
//! start, a few commands are spawned, frames and log lines go out. What can be slow (hosts, file work, commands, the
//! log's reader) is started here and reported back; nothing here waits for it.
//!
//! [`start`] leads here, [`tasks`] tells the engine of ends, [`reload`] and [`shutdown`] tell their stories.

mod accounts;
mod behind;
mod children;
mod config_lock;
mod control;
mod explain;
mod failed;
mod generation;
mod inventory;
mod jobs;
mod keep;
mod lanes;
mod loading;
mod observe;
mod perform;
mod prepared;
mod print;
mod reload;
mod report;
mod routing;
mod runs;
mod shutdown;
mod start;
mod status;
mod supervise;
mod task_name;
mod tasks;
#[cfg(test)]
mod tests;
mod vanished;
mod wake;

use std::collections::BTreeSet;
use std::io;
use std::os::fd::AsFd as _;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use ::control::api::Time;
use event::Flag;
use tokio::runtime::Runtime;
use tokio::sync::mpsc;
use watcher::{Source, Turn};

use crate::action::Report;
use crate::cli::ConfigOptions;
use crate::config::Config;
use crate::host::{Host, HostEvent};
use crate::log::{Cause, Log, LoggerId, Stderr, record, stderr_is_journal};

use behind::Behind;
use config_lock::ConfigLock;
use control::Control;
use loading::Loading;
use prepared::Prepared;
use reload::Adoption;
use routing::Core;
use shutdown::State;
use start::{NoDaemon, Start};
use status::Totals;
use supervise::Supervision;
use wake::{Awaited, Descriptor, Request, Signals, Timer, Wake};

/// Pause before the kernel's queue is looked at again if it cannot be waited for.
const LISTEN_RETRY: Duration = Duration::from_millis(10);
/// Descriptors that the runtime takes at its start. It panics where it finds none for its signals.
const RUNTIME_DESCRIPTORS: usize = 6;

/// Runs the daemon to its end.
pub(crate) fn run(options: ConfigOptions) -> ExitCode {
    with_runtime(|runtime, log| {
        let started = runtime
            .block_on(async { Ok(Start::load(options, log).await?.open_state().await?.into_daemon()?) });
        match started {
            Ok(mut daemon) => runtime.block_on(daemon.run()),
            Err(why) => NoDaemon::of_daemon(why),
        }
    })
}

/// Executes the configuration and says whether it can be used.
pub(crate) fn test_config(options: &ConfigOptions) -> ExitCode {
    with_runtime(|runtime, log| match runtime.block_on(Start::load(options.clone(), log)) {
        Ok(start) => start.report_ok(),
        Err(why) => why.of_answer(),
    })
}

/// Executes the configuration, if there is one, and has somebody look at it. What is wrong with it goes to the log.
pub(crate) fn examine(options: &ConfigOptions, look: impl FnOnce(Option<&Config>) -> ExitCode) -> ExitCode {
    if options.source.files().iter().any(|named| !named.optional && !named.path.exists()) {
        return look(None);
    }
    with_runtime(|runtime, log| match runtime.block_on(Start::load(options.clone(), log)) {
        Ok(start) => look(Some(start.config())),
        Err(NoDaemon::Failed(_)) => look(None),
        Err(asked @ NoDaemon::Asked(_)) => asked.of_answer(),
    })
}

/// Says what an event on a path would do.
pub(crate) fn explain_path(options: &ConfigOptions, path: &Path, event: Option<Flag>) -> ExitCode {
    with_runtime(|runtime, log| match runtime.block_on(Start::load(options.clone(), log)) {
        Ok(start) => start.explain(path, event),
        Err(why) => why.of_answer(),
    })
}

fn with_runtime(main: impl FnOnce(Runtime, Log) -> ExitCode) -> ExitCode {
    let build = || tokio::runtime::Builder::new_current_thread().enable_io().build();
    let room = (0..RUNTIME_DESCRIPTORS).map(|_| io::stderr().as_fd().try_clone_to_owned());
    let runtime = room.collect::<io::Result<Vec<_>>>().map(drop).and_then(|()| build());
    let mut log = Log::new(Stderr::new());
    if stderr_is_journal() {
        log.use_journal();
    }
    match runtime {
        Ok(runtime) => main(runtime, log),
        Err(error) => {
            eprintln!("ERROR: cannot start: {error}", error = Cause(&error));
            ExitCode::FAILURE
        }
    }
}

/// All state of the running daemon.
struct Daemon {
    options: ConfigOptions,
    /// What tells events.
    watcher: Box<dyn Source>,
    /// Everything behind the watcher: engine, routes, and what performs effects.
    core: Core,
    signals: Signals,
    hosts: mpsc::Receiver<HostEvent>,
    /// Handed to hosts that are started.
    host_events: mpsc::Sender<HostEvent>,
    hosts_started: u32,
    /// Hosts that were asked to end, with the time at which they are forced to.
    leaving: Vec<(Host, Instant)>,
    /// The configuration that a SIGHUP asked for, while its file executes.
    reload: Option<Reload>,
    /// A configuration whose watches are being set up.
    adoption: Option<Adoption>,
    logger: LoggerId,
    state: State,
    /// Keep other daemons from running with the same config files unnoticed.
    config_locks: Vec<ConfigLock>,
    /// How many of its standard streams were terminals.
    terminals: usize,
    /// Whether it ended for a reason that its exit status tells of.
    failed: bool,
    /// How often SIGINT came.
    interrupts: u8,
    supervision: Supervision,
    /// What the control socket asks.
    control: Control,
    /// When the daemon was started.
    since: Time,
    /// The interpreter of the configuration in force.
    python: Option<Arc<Path>>,
    /// Has events of filesystems that are known to be local.
    events: Descriptor,
    /// Has those of filesystems that may not answer.
    others: Option<Descriptor>,
    mounts: Option<Descriptor>,
    /// From the first command on whose output goes into the log.
    outputs: Option<Descriptor>,
    /// From the reader of stdout, where events are printed.
    printed: Option<Descriptor>,
    timer: Timer,
    /// Reports that something is not where it was.
    doubtful: Behind<Report>,
}

/// A SIGHUP that is being served.
#[derive(Debug)]
struct Reload {
    loading: Loading<Prepared>,
    /// When its host was started.
    since: Instant,
    /// Another one came meanwhile: the file is read once more afterwards.
    again: bool,
}

/// What a turn of the loop left to do.
struct Left {
    /// There is more to do at once.
    more: bool,
    /// The kernel's queue is read again only then.
    pause_until: Option<Instant>,
    /// The log's reader did not take all lines and gets them again after this pause.
    log: Option<Duration>,
}

impl Daemon {
    /// The loop, until a signal has ended it.
    async fn run(&mut self) -> ExitCode {
        loop {
            let now = Instant::now();
            let left = self.turn(now);
            if self.has_ended(now) {
                break;
            }
            let wake = self.wait(left, now).await;
            self.woken(wake, Instant::now());
        }
        self.close_keeper();
        self.end_streams();
        // The processes that filters of the configuration ran in have ended.
        self.core.performer.log.set_filtered(BTreeSet::new());
        self.end_printing();
        record!(self.core.performer.log, self.logger, INFO, "shutdown complete");
        self.core.performer.log.flush_at_exit();
        if self.failed { ExitCode::FAILURE } else { ExitCode::SUCCESS }
    }

    /// One turn: everything that can be done now, within bounds.
    fn turn(&mut self, now: Instant) -> Left {
        self.core.performer.now = now;
        self.commands_ended(now);
        self.finish_ended(now);
        // A rule's end is told after the events that came while it worked, some of which are its own.
        let mut reports = self.core.performer.lanes.take_reports();
        self.doubt(reports.extract_if(.., |report| report.is_doubtful()).collect());
        self.core.route_early();
        let reads = !self.waits_for_reader();
        let events = if reads { self.watcher.turn(now, &mut self.core) } else { Turn::Idle };
        // What rules make from here on may be below what was mounted.
        let placing = self.place_again(now);
        reports.extend(self.doubtful.take(self.told()));
        self.reported(reports, now);
        self.finish_ended(now);
        // Before everything else, which a lone file need not wait for.
        self.hand_over(now);
        let saying = self.say_listening();
        let looking = self.forget_vanished();
        self.core.engine.tick(now, &mut self.core.performer);
        self.start_commands(now);
        let writing = self.core.performer.log_outputs();
        self.replace_reload(now);
        let adopting = self.advance_adoption(now);
        self.force(now);
        self.finish_ended(now);
        let dropping = self.drop_generations(now);
        self.print(now);
        self.advance_shutdown(now);
        let asked = self.advance_control(events, now);
        // When all is known that is due.
        self.tend_hosts(now);
        self.keep(now);
        self.advance_kept(now);
        self.hand_over(now);
        let (watcher, engine, performer) = (&*self.watcher, &self.core.engine, &self.core.performer);
        self.supervision.turn(now, || Totals::of(watcher, engine, &performer.generations).to_string());
        let more = looking
            || saying
            || adopting
            || dropping
            || placing
            || asked
            || writing
            || self.core.performer.runs.has_ended(self.told())
            || self.doubtful.has(self.told())
            || self.core.performer.commands.has_waiting()
            || matches!(events, Turn::More);
        let pause_until = if let Turn::Pause(until) = events { Some(until) } else { None };
        Left { more, pause_until, log: self.core.performer.flush_log() }
    }

    /// Gives lanes and hosts what the turn brought for them.
    fn hand_over(&mut self, now: Instant) {
        self.hand_over_looks(now);
        self.core.performer.tend_trashes(now);
        self.tend_lanes(now);
        if self.core.performer.has_freed_room() {
            self.core.engine.start_jobs(now, &mut self.core.performer);
        }
        self.core.performer.flush_hosts(now);
    }

    /// Waits for something to do.
    async fn wait(&mut self, mut left: Left, now: Instant) -> Wake {
        if left.pause_until.is_some() || self.waits_for_reader() {
            self.events.rest();
        } else if !self.events.listen() {
            // The queue is looked at nevertheless, and at epoll again.
            left.pause_until = Some(now + LISTEN_RETRY);
        }
        if !self.listen_to_outputs() {
            left.pause_until.get_or_insert(now + LISTEN_RETRY);
        }
        let awaited = Awaited {
            // A time that is past lets all of them be looked at once before the next turn.
            deadline: if left.more { Some(now) } else { self.deadline(&left, now) },
            signals: &mut self.signals,
            hosts: &mut self.hosts,
            lanes: &self.core.performer.lanes,
            keeper: self.core.performer.keeper.as_ref(),
            events: &self.events,
            others: self.others.as_ref(),
            outputs: self.outputs.as_ref(),
            mounts: self.mounts.as_ref(),
            // Who ends need not be told once more that nobody reads it.
            printed: self.printed.as_ref().filter(|_| self.state == State::Running),
            timer: &mut self.timer,
            control: &mut self.control,
        };
        awaited.wait().await
    }

    /// When the loop has something to do although nothing happens.
    fn deadline(&self, left: &Left, now: Instant) -> Option<Instant> {
        let performer = &self.core.performer;
        let forced = self.leaving.iter().map(|(_, at)| *at);
        let jobs = performer.generations.iter().filter_map(|generation| generation.jobs.deadline());
        let fixed = [
            self.core.engine.deadline(),
            self.watcher.deadline().filter(|_| !self.waits_for_reader()),
            performer.lanes.deadline(),
            performer.commands.deadline(),
            performer.runs.deadline(),
            performer.trashes.deadline(),
            performer.keeper.as_ref().and_then(keep::Keeper::deadline),
            left.pause_until,
            left.log.map(|pause| now + pause),
            self.state.deadline(),
            self.supervision.deadline(),
            self.reload_overdue(),
            self.control.deadline(),
        ];
        fixed.into_iter().flatten().chain(jobs).chain(forced).min()
    }

    /// Handles what the loop woke for.
    fn woken(&mut self, wake: Wake, now: Instant) {
        self.core.performer.now = now;
        match wake {
            Wake::Asked(Request::Shutdown(signal)) => self.shutdown(signal, now),
            Wake::Asked(Request::Reload) => self.begin_reload(now),
            Wake::Asked(Request::Status) => self.log_status(now),
            Wake::Control(message) => self.control_message(message, now),
            Wake::Child => self.reap(),
            Wake::Host(event) => self.host_events(event, now),
            Wake::Mounts => self.watcher.mounts_changed(now),
            Wake::Printed => self.printed(),
            // The turn that follows looks at these anyway.
            Wake::Lanes | Wake::Kept | Wake::Output | Wake::Events | Wake::Time => {}
        }
    }
}

/// Lets a host that is of no more use end by itself, until then.
fn leave(leaving: &mut Vec<(Host, Instant)>, host: Host, until: Instant) -> Option<Host> {
    leaving.push((host, until));
    None
}
