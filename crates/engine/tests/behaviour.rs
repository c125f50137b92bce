//! What an administrator is told about schedulers, shutdown and reload, sentence by sentence.
//!
//! A [`World`] is an engine with one configuration. Its calls return what came out, as short lines: `start 1 /f`,
//! with the task's number.

use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::{Duration, Instant};

use engine::{
    Batch, BatchEvent, Begin, CancelledBy, Change, Doing, Effects, End, EndResult, Engine, Explanation,
    FailedTask, Failure, FailureKind, Found, GenerationError, GenerationIds, IdPrefix, Ignored, Limits,
    MapId, MapSpec, Matcher, NoRule, NotDone, NotRun, OnBusy, Outcome, OwnedEvent, Question, Rate, Reaction,
    Record, Restored, Retry, RetryOn, SchedulerId, SchedulerKind, SchedulerSpec, Settle, Settled, Start,
    StepLimit, TaskHandle, TaskId, TaskRecord, Verdict, Waits,
};
use event::{Event, Flag, Mask};

/// Ten seconds, the delay of most schedulers here.
const DELAY: Duration = Duration::from_secs(10);
const SECOND: Duration = Duration::from_secs(1);

fn scheduler(delay: Duration) -> SchedulerSpec {
    SchedulerSpec { delay, ..SchedulerSpec::named("sched") }
}

/// Create, CloseWrite and an overflow schedule at the first scheduler, Delete cancels.
fn map() -> MapSpec {
    let mut map = MapSpec::default();
    for flag in [Flag::Create, Flag::CloseWrite, Flag::QOverflow] {
        map.reactions[flag.index()] = vec![Reaction::Schedule(0)];
    }
    map.reactions[Flag::Delete.index()] = vec![Reaction::Cancel(0)];
    map
}

fn map_with(flag: Flag, reactions: &[Reaction]) -> MapSpec {
    let mut map = map();
    map.reactions[flag.index()] = reactions.to_vec();
    map
}

fn event(flag: Flag, pathname: &str) -> Event<'_> {
    let name_len = event::name_len(pathname.as_bytes());
    let cookie = 0;
    Event {
        mask: flag.mask(),
        wd: 1,
        cookie,
        pathname: pathname.as_bytes(),
        name_len,
        root_len: 1,
        ..Event::overflow()
    }
}

fn dir_event(flag: Flag, pathname: &str) -> Event<'_> {
    Event { mask: flag.mask() | Mask::ISDIR, is_dir: true, ..event(flag, pathname) }
}

/// Matches paths with one of these ends; a path that ends in `?` is too much for it.
struct Ends(&'static [&'static str]);

impl Matcher for Ends {
    fn first_match(&self, pathname: &[u8]) -> Result<Option<usize>, StepLimit> {
        if pathname.ends_with(b"?") {
            return Err(StepLimit);
        }
        Ok(self.0.iter().position(|end| pathname.ends_with(end.as_bytes())))
    }
}

/// What came out of the engine.
#[derive(Default)]
struct Out {
    lines: Vec<String>,
    /// Tasks that are not done beyond those that the log names.
    unnamed: u32,
    handles: Vec<(u64, TaskHandle)>,
    questions: Vec<TaskHandle>,
    /// Ends that are worth to be remembered.
    ends: Vec<String>,
    /// How late each start was.
    late: Vec<Duration>,
    received: usize,
    /// Ids as they came up: each is shown by its place here, from 1.
    ids: Vec<TaskId>,
    /// How many more jobs there is room for, if that is bounded.
    room: Option<usize>,
}

impl Out {
    fn number(&mut self, id: TaskId) -> u64 {
        let known = self.ids.iter().position(|known| *known == id).unwrap_or_else(|| {
            self.ids.push(id);
            self.ids.len() - 1
        });
        known as u64 + 1
    }

    fn task(&mut self, word: &str, task: &TaskRecord<'_>) {
        let number = self.number(task.id);
        let others = if task.others > 0 { format!(" and {} more", task.others) } else { String::new() };
        let pathname = String::from_utf8_lossy(task.event.pathname);
        self.lines.push(format!("{word} {number} {pathname}{others}"));
    }
}

impl Effects for Out {
    fn has_room(&self, _: SchedulerId, _: bool) -> bool {
        self.room != Some(0)
    }

    fn start(&mut self, start: Start<'_>) {
        let number = self.number(start.id);
        self.room = self.room.map(|room| room.saturating_sub(1));
        self.handles.push((number, start.handle));
        self.late.push(start.late);
        let rule = start.rule.map_or(String::new(), |rule| format!(" rule {rule}"));
        let again = if start.again { " again" } else { "" };
        let attempt = if start.attempt > 1 { format!(" attempt {}", start.attempt) } else { String::new() };
        let failed = start.failed.map_or(String::new(), |failed| {
            format!(" as {} failed {} time(s): {}", self.number(failed.id), failed.attempts, failed.error)
        });
        let (pathname, mask) = (String::from_utf8_lossy(start.event.pathname), start.event.mask.name());
        let paths = start.batch.iter().map(|one| {
            let failed = one.failed.as_ref().map_or(String::new(), |failed| format!(" ({})", failed.0));
            format!("{}{failed}", String::from_utf8_lossy(one.event.get().pathname))
        });
        let paths = if start.batch.is_empty() {
            String::new()
        } else {
            format!(" for {}", paths.collect::<Vec<_>>().join(" "))
        };
        self.lines.push(format!("start {number} {pathname} {mask}{rule}{again}{attempt}{failed}{paths}"));
    }

    fn stop(&mut self, handle: TaskHandle, id: TaskId) {
        let number = self.number(id);
        assert!(self.handles.contains(&(number, handle)), "stopped by the handle of its start");
        self.lines.push(format!("stop {number}"));
    }

    fn ask_settled(&mut self, question: Question<'_>) {
        self.questions.push(question.handle);
        let number = self.number(question.id);
        self.lines.push(format!("ask {number} {}", String::from_utf8_lossy(question.event.pathname)));
    }

    /// A command line takes paths of ten bytes.
    fn batch_line(&mut self, _: SchedulerId, used: usize, added: &BatchEvent) -> Option<usize> {
        used.checked_add(added.event.get().pathname.len()).filter(|len| *len <= 10)
    }

    fn ended(&mut self, task: &TaskRecord<'_>, end: End<'_>) {
        let result = match end.result {
            EndResult::Done => "done".to_owned(),
            EndResult::Failed(failure) => failure.text.clone(),
            EndResult::Cancelled(CancelledBy::Event(flag)) => {
                format!("cancelled by {}", flag.map_or("an event", Flag::name))
            }
            EndResult::Cancelled(by) => format!("cancelled by {by:?}"),
            EndResult::NoRule(NoRule::NoMatch) => "no rule".to_owned(),
            EndResult::NoRule(NoRule::StepLimit) => "rule step limit".to_owned(),
            EndResult::Replaced => "replaced".to_owned(),
        };
        let path = String::from_utf8_lossy(task.event.pathname);
        self.ends
            .push(format!("{path} {result}, {} attempt(s), {:?} of {:?}", end.attempts, end.ran, end.age));
    }

    fn record(&mut self, record: Record<'_>) {
        match record {
            Record::Received { .. } => self.received += 1,
            Record::Excluded { pathname, .. } => {
                self.lines.push(format!("excluded {}", String::from_utf8_lossy(pathname)));
            }
            Record::ExcludeStepLimit { .. } => self.lines.push("exclude step limit".to_owned()),
            Record::NoRule { .. } => self.lines.push("no rule".to_owned()),
            Record::RuleStepLimit { .. } => self.lines.push("rule step limit".to_owned()),
            Record::Scheduled { task, delay, again } => {
                self.task(&format!("schedule {delay:?}{}", if again { " again" } else { "" }), &task);
            }
            Record::Rescheduled { task, delay } => self.task(&format!("re-schedule {delay:?}"), &task),
            Record::Gathered { task, count } => self.task(&format!("gather {count}, with"), &task),
            Record::Split { task, count } => self.task(&format!("{count} are too many for one run,"), &task),
            // A start says the same.
            Record::Started { .. } | Record::Queued { .. } => {}
            Record::Finished { task } => self.task("finished", &task),
            Record::Failed { task, failure } => self.task(&format!("failed ({})", failure.text), &task),
            Record::Retry { task, failure, attempt, pause } => {
                let pause = pause.map_or("for an event".to_owned(), |pause| format!("in {pause:?}"));
                self.task(&format!("attempt {attempt} failed ({}), again {pause}", failure.text), &task);
            }
            Record::Remembered { task } => self.task("remember", &task),
            Record::Restarting { task } => self.task("restart", &task),
            Record::Reruns { task, count } => self.task(&format!("{count} reruns of"), &task),
            Record::MaxRate { .. } => self.lines.push("rate used".to_owned()),
            Record::Unsettled { task, reason, .. } => self.task(&format!("unsettled ({reason})"), &task),
            Record::Vanished { task } => self.task("vanished", &task),
            Record::PutOff { task, failure } => self.task(&format!("put off ({})", failure.text), &task),
            Record::Unchanged { task } => self.task("unchanged", &task),
            Record::SkippedOngoing { task } => self.task("skip", &task),
            Record::CancelledWaiting { task } => self.task("cancelled", &task),
            Record::Replaced { task } => self.task("replaced", &task),
            Record::CancelledOngoing { task } => self.task("ongoing cancelled", &task),
            Record::MaxJobs { max_jobs, .. } => self.lines.push(format!("all {max_jobs} places taken")),
            Record::TasksMax { tasks, .. } => self.lines.push(format!("{tasks} tasks are too many")),
            Record::TasksMaxOver { refused } => self.lines.push(format!("room again, {refused} refused")),
            Record::Paused { scheduler } => self.lines.push(format!("pause {}", scheduler.0)),
            Record::WaitForTasks { timeout, count, .. } => {
                self.lines.push(format!("wait {timeout:?} for {count}"));
            }
            Record::AllCompleted { .. } => self.lines.push("all completed".to_owned()),
            Record::NotDone { task, why: NotDone::TimeOver, is_named: true } => self.task("not done", &task),
            Record::NotDone { task, why, is_named: true } => {
                self.task(&format!("not done, {why:?},"), &task);
            }
            Record::NotDone { is_named: false, .. } => self.unnamed += 1,
            Record::NotDoneMore { count } => self.lines.push(format!("{count} more not done")),
            Record::Followed { task, .. } => self.task("followed", &task),
            Record::Withdrawn { pathname, count } => {
                self.lines.push(format!("withdraw {count} of {}", String::from_utf8_lossy(pathname)));
            }
            Record::Kept { count, .. } => self.lines.push(format!("keep {count}")),
            Record::TimeoutExceeded { count, .. } => self.lines.push(format!("timeout, cancel {count}")),
        }
    }
}

struct World {
    engine: Engine,
    now: Instant,
    out: Out,
    /// The configuration whose first map gets the events.
    ids: GenerationIds,
}

impl World {
    fn new(schedulers: &[SchedulerSpec], map: MapSpec) -> World {
        World::with_limits(schedulers, map, Limits::default())
    }

    fn with_limits(schedulers: &[SchedulerSpec], map: MapSpec, limits: Limits) -> World {
        let now = Instant::now();
        let mut engine = Engine::new(now, limits);
        let ids =
            engine.add_generation(schedulers.to_vec(), vec![map], 30 * SECOND).expect("it is the first");
        World { engine, now, out: Out::default(), ids }
    }

    fn of(scheduler: SchedulerSpec) -> World {
        World::new(&[scheduler], map())
    }

    fn lines(&mut self) -> Vec<String> {
        std::mem::take(&mut self.out.lines)
    }

    fn event(&mut self, event: &Event<'_>) -> Vec<String> {
        self.engine.event(self.now, self.ids.map(0), event, &mut self.out);
        self.lines()
    }

    fn create(&mut self, pathname: &str) -> Vec<String> {
        self.event(&event(Flag::Create, pathname))
    }

    fn close_write(&mut self, pathname: &str) -> Vec<String> {
        self.event(&event(Flag::CloseWrite, pathname))
    }

    fn delete(&mut self, pathname: &str) -> Vec<String> {
        self.event(&event(Flag::Delete, pathname))
    }

    /// Lets time pass, from deadline to deadline as the program does.
    fn pass(&mut self, time: Duration) -> Vec<String> {
        let end = self.now + time;
        let mut ticks = 0;
        while let Some(deadline) = self.engine.deadline().filter(|deadline| *deadline <= end) {
            ticks += 1;
            assert!(ticks < 1_000, "a tick does what its deadline was for");
            self.now = self.now.max(deadline);
            self.engine.tick(self.now, &mut self.out);
        }
        self.now = end;
        self.lines()
    }

    fn end(&mut self, id: u64, outcome: &Outcome) -> Vec<String> {
        let latest = self.out.handles.iter().rev().find(|(task, _)| *task == id).expect("it was started");
        self.engine.finished(self.now, latest.1, outcome, &mut self.out);
        self.lines()
    }

    fn complete(&mut self, id: u64) -> Vec<String> {
        self.end(id, &Outcome::Done)
    }

    /// A second configuration, of the same kind, takes over. Events go on through the maps of the first.
    fn reload(&mut self, timeout: Duration) -> (GenerationIds, Vec<String>) {
        self.replace(scheduler(DELAY), timeout)
    }

    /// The same, with a scheduler of another name, where nothing of the first one goes on.
    fn reload_other(&mut self, timeout: Duration) -> (GenerationIds, Vec<String>) {
        self.replace(SchedulerSpec { name: "other".to_owned(), ..scheduler(DELAY) }, timeout)
    }

    fn replace(&mut self, spec: SchedulerSpec, timeout: Duration) -> (GenerationIds, Vec<String>) {
        let new = self.engine.add_generation(vec![spec], vec![map()], timeout).expect("there is room");
        let (old, to) = (self.ids.clone(), new.clone());
        let successor =
            |map: MapId| (old.maps.contains(&map.0)).then(|| to.map((map.0 - old.maps.start) as usize));
        self.engine.retire(self.now, self.ids.id, successor, &mut self.out);
        (new, self.lines())
    }

    fn shutdown(&mut self) -> Vec<String> {
        self.engine.shutdown(self.now, &mut self.out);
        self.lines()
    }
}

const NOTHING: [&str; 0] = [];

fn failed(kind: FailureKind) -> Outcome {
    Outcome::Failed(Failure::new(kind, "why"))
}

// Routing.

#[test]
fn files_and_dirs_choose_what_makes_tasks() {
    let cases = [(true, false), (false, true), (true, true), (false, false)];
    for (files, dirs) in cases {
        let mut world = World::of(SchedulerSpec { files, dirs, ..scheduler(Duration::ZERO) });
        assert_eq!(!world.create("/f").is_empty(), files);
        assert_eq!(!world.event(&dir_event(Flag::Create, "/d")).is_empty(), dirs);
    }
}

#[test]
fn a_flag_that_is_not_mapped_does_nothing_but_is_received() {
    let mut world = World::of(scheduler(Duration::ZERO));
    assert_eq!(world.event(&event(Flag::Open, "/f")), NOTHING);
    assert_eq!(world.out.received, 1);
    assert!(world.engine.is_idle());
}

#[test]
fn excluded_paths_are_dropped() {
    let map = MapSpec { exclude: Some(Arc::new(Ends(&[".tmp"]))), ..map() };
    let mut world = World::new(&[scheduler(Duration::ZERO)], map);
    assert_eq!(world.create("/f.tmp"), ["excluded /f.tmp"]);
    assert_eq!(world.create("/f.tmp"), ["excluded /f.tmp"]);
    assert_eq!(world.create("/f"), ["start 1 /f IN_CREATE"]);
    assert_eq!(world.out.received, 3);
}

#[test]
fn an_exclude_filter_that_gives_up_drops_the_event() {
    let map = MapSpec { exclude: Some(Arc::new(Ends(&[".tmp"]))), ..map() };
    let mut world = World::new(&[scheduler(Duration::ZERO)], map);
    assert_eq!(world.create("/f?"), ["exclude step limit"]);
    assert!(world.engine.is_idle());
}

#[test]
fn the_source_of_a_move_is_not_asked_by_the_exclude_filter() {
    let map = MapSpec {
        exclude: Some(Arc::new(Ends(&[".tmp"]))),
        ..map_with(Flag::MovedTo, &[Reaction::Schedule(0)])
    };
    let mut world = World::new(&[scheduler(Duration::ZERO)], map);
    let moved = Event { src_pathname: Some(b"/f.tmp"), ..event(Flag::MovedTo, "/f") };
    assert_eq!(world.event(&moved), ["start 1 /f IN_MOVED_TO"]);
}

#[test]
fn an_overflow_reaches_its_scheduler_but_no_rule_and_no_filter() {
    let map = MapSpec { exclude: Some(Arc::new(Ends(&[""]))), ..map() };
    let with_rules = SchedulerSpec { rules: Some(Arc::new(Ends(&[""]))), ..scheduler(Duration::ZERO) };
    let mut world = World::new(&[scheduler(Duration::ZERO)], map.clone());
    assert_eq!(world.event(&Event::overflow()), ["start 1  IN_Q_OVERFLOW"]);
    let mut world = World::new(&[with_rules], map);
    assert_eq!(world.event(&Event::overflow()), ["no rule"]);
}

#[test]
fn the_first_rule_that_matches_is_used_and_without_one_there_is_no_task() {
    let rules: Arc<dyn Matcher> = Arc::new(Ends(&[".jpg", ".png", "g"]));
    let mut world = World::of(SchedulerSpec { rules: Some(rules), ..scheduler(Duration::ZERO) });
    assert_eq!(world.create("/f.png"), ["start 1 /f.png IN_CREATE rule 1"]);
    assert_eq!(world.create("/log"), ["start 2 /log IN_CREATE rule 2"]);
    assert_eq!(world.create("/f.gif"), ["no rule"]);
    assert_eq!(world.create("/f.gif"), ["no rule"]);
    assert_eq!(world.create("/f?"), ["rule step limit"]);
    assert_eq!(world.delete("/f.gif"), NOTHING);
}

#[test]
fn schedulers_of_a_list_run_in_its_order_and_side_by_side() {
    let reactions = [Reaction::Schedule(1), Reaction::Schedule(0), Reaction::Schedule(1)];
    let map = map_with(Flag::Create, &reactions);
    let mut world = World::new(&[scheduler(DELAY), scheduler(Duration::ZERO)], map);
    assert_eq!(world.create("/f"), ["start 1 /f IN_CREATE", "schedule 10s 2 /f", "skip 1 /f"]);
}

#[test]
fn a_scheduler_that_maps_share_has_its_tasks_in_common() {
    let now = Instant::now();
    let mut engine = Engine::new(now, Limits::default());
    let ids = engine.add_generation(vec![scheduler(DELAY)], vec![map(), map()], SECOND).unwrap();
    let mut out = Out::default();
    engine.event(now, ids.map(0), &event(Flag::Create, "/f"), &mut out);
    engine.event(now, ids.map(1), &event(Flag::Delete, "/f"), &mut out);
    assert_eq!(out.lines, ["schedule 10s 1 /f", "cancelled 1 /f"]);
}

// One path, one task.

#[test]
fn without_a_delay_the_first_event_starts_and_the_others_are_skipped_until_the_end() {
    let mut world = World::of(scheduler(Duration::ZERO));
    assert_eq!(world.create("/f"), ["start 1 /f IN_CREATE"]);
    assert_eq!(world.close_write("/f"), ["skip 1 /f"]);
    assert_eq!(world.complete(1), ["finished 1 /f"]);
    assert_eq!(world.close_write("/f"), ["start 2 /f IN_CLOSE_WRITE"]);
}

#[test]
fn an_event_puts_a_waiting_task_off_by_the_whole_delay_and_the_job_gets_the_latest() {
    let mut world = World::of(scheduler(DELAY));
    assert_eq!(world.create("/f"), ["schedule 10s 1 /f"]);
    assert_eq!(world.pass(9 * SECOND), NOTHING);
    assert_eq!(world.close_write("/f"), ["re-schedule 10s 1 /f"]);
    assert_eq!(world.pass(9 * SECOND), NOTHING);
    assert_eq!(world.pass(SECOND), ["start 1 /f IN_CLOSE_WRITE"]);
    assert_eq!(world.complete(1), ["finished 1 /f"]);
    assert!(world.engine.is_idle());
}

#[test]
fn tasks_of_different_paths_do_not_meet() {
    let mut world = World::of(scheduler(DELAY));
    world.create("/a");
    world.pass(SECOND);
    world.create("/b");
    assert_eq!(world.pass(DELAY), ["start 1 /a IN_CREATE", "start 2 /b IN_CREATE"]);
}

#[test]
fn cancel_forgets_a_waiting_task_and_the_next_event_makes_a_new_one() {
    let mut world = World::of(scheduler(DELAY));
    world.create("/f");
    assert_eq!(world.delete("/f"), ["cancelled 1 /f"]);
    assert_eq!(world.pass(2 * DELAY), NOTHING);
    assert_eq!(world.create("/f"), ["schedule 10s 2 /f"]);
}

#[test]
fn cancel_of_a_running_task_is_skipped_and_of_none_is_silent() {
    let mut world = World::of(scheduler(Duration::ZERO));
    assert_eq!(world.delete("/f"), NOTHING);
    world.create("/f");
    assert_eq!(world.delete("/f"), ["skip 1 /f"]);
    assert_eq!(world.complete(1), ["finished 1 /f"]);
}

#[test]
fn cancel_asks_neither_files_and_dirs_nor_rules() {
    let rules: Arc<dyn Matcher> = Arc::new(Ends(&["f"]));
    let mut world = World::of(SchedulerSpec { rules: Some(rules), ..scheduler(DELAY) });
    world.create("/f");
    assert_eq!(world.event(&dir_event(Flag::Delete, "/f")), ["cancelled 1 /f"]);
}

#[test]
fn with_singlejob_all_paths_have_one_task() {
    let mut world = World::of(SchedulerSpec { singlejob: true, ..scheduler(DELAY) });
    assert_eq!(world.create("/a"), ["schedule 10s 1 /a"]);
    assert_eq!(world.create("/b"), ["re-schedule 10s 1 /b"]);
    assert_eq!(world.pass(DELAY), ["start 1 /b IN_CREATE"]);
    assert_eq!(world.create("/c"), ["skip 1 /c"]);
    world.complete(1);
    world.create("/d");
    assert_eq!(world.delete("/e"), ["cancelled 2 /e"]);
}

#[test]
fn how_a_run_ends_is_recorded() {
    let cases = [
        (Outcome::Done, "finished 1 /f"),
        (Outcome::Cancelled, "ongoing cancelled 1 /f"),
        (failed(FailureKind::Error), "failed (why) 1 /f"),
        (failed(FailureKind::ExitStatus(3)), "failed (why) 1 /f"),
        (failed(FailureKind::Signal(9)), "failed (why) 1 /f"),
        (failed(FailureKind::Timeout), "failed (why) 1 /f"),
        (failed(FailureKind::Interrupted), "failed (why) 1 /f"),
    ];
    for (outcome, expected) in cases {
        let mut world = World::of(scheduler(Duration::ZERO));
        world.create("/f");
        assert_eq!(world.end(1, &outcome), [expected]);
        assert_eq!(world.create("/f"), ["start 2 /f IN_CREATE"]);
    }
}

#[test]
fn a_run_ends_once() {
    let mut world = World::of(scheduler(Duration::ZERO));
    world.create("/a");
    assert_eq!(world.complete(1), ["finished 1 /a"]);
    world.create("/b");
    assert_eq!(world.complete(1), NOTHING);
    assert_eq!(world.engine.stats().running, 1);
}

// More than the original has.

#[test]
fn tasks_beyond_max_jobs_wait_in_order() {
    let mut world = World::of(SchedulerSpec { max_jobs: NonZeroU32::new(1), ..scheduler(Duration::ZERO) });
    assert_eq!(world.create("/a"), ["start 1 /a IN_CREATE"]);
    assert_eq!(world.create("/b"), ["all 1 places taken"]);
    assert_eq!(world.create("/c"), NOTHING);
    assert_eq!(world.close_write("/b"), ["re-schedule 0ns 2 /b"]);
    assert_eq!(world.complete(1), ["finished 1 /a", "start 2 /b IN_CLOSE_WRITE"]);
    assert_eq!(world.delete("/c"), ["cancelled 3 /c"]);
    assert_eq!(world.complete(2), ["finished 2 /b"]);
    assert!(world.engine.is_idle());
}

#[test]
fn a_queued_task_that_is_to_run_now_keeps_its_place() {
    let mut world = World::of(SchedulerSpec { max_jobs: NonZeroU32::new(1), ..scheduler(Duration::ZERO) });
    let _ = (world.create("/a"), world.create("/b"), world.create("/c"), world.close_write("/b"));
    world.engine.run_now(world.now, world.out.ids[1], &mut world.out).unwrap();
    world.lines();
    assert_eq!(world.complete(1), ["finished 1 /a", "start 2 /b IN_CLOSE_WRITE"]);
}

// Room for jobs.

impl World {
    fn room(&mut self, room: usize) -> Vec<String> {
        self.out.room = Some(room);
        self.engine.start_jobs(self.now, &mut self.out);
        self.lines()
    }
}

#[test]
fn jobs_for_which_there_is_no_room_are_queued_in_the_order_in_which_they_came() {
    let of = |name: &str, kind| SchedulerSpec { kind, ..SchedulerSpec::named(name) };
    let specs = [
        of("one", SchedulerKind::Job),
        of("two", SchedulerKind::Job),
        of("command", SchedulerKind::Command),
        SchedulerSpec { delay: DELAY, ..of("later", SchedulerKind::Job) },
    ];
    let mut map = MapSpec::default();
    for (place, flag) in [Flag::Create, Flag::CloseWrite, Flag::Attrib, Flag::Open].into_iter().enumerate() {
        map.reactions[flag.index()] = vec![Reaction::Schedule(place)];
    }
    map.reactions[Flag::Delete.index()] = vec![Reaction::Cancel(0)];
    let mut world = World::new(&specs, map);
    assert_eq!(world.room(1), NOTHING);
    assert_eq!(world.create("/a"), ["start 1 /a IN_CREATE"]);
    assert_eq!(world.create("/b"), NOTHING);
    world.now += SECOND;
    assert_eq!(world.close_write("/c"), NOTHING);
    assert_eq!(world.event(&event(Flag::Open, "/f")), ["schedule 10s 2 /f"]);
    assert_eq!(world.event(&event(Flag::Attrib, "/x")), ["start 3 /x IN_ATTRIB"], "no job");
    world.now += SECOND;
    assert_eq!(world.create("/d"), NOTHING);
    assert_eq!(world.create("/e"), NOTHING);
    assert_eq!(world.complete(1), ["finished 1 /a"], "a place is no room");
    assert_eq!(world.create("/b"), ["re-schedule 0ns 4 /b"]);
    assert_eq!(world.delete("/e"), ["cancelled 5 /e"]);
    assert_eq!(world.pass(DELAY), NOTHING, "it is due, and queued");
    assert_eq!(world.room(2), ["start 4 /b IN_CREATE", "start 6 /c IN_CLOSE_WRITE"]);
    assert_eq!(world.room(9), ["start 7 /d IN_CREATE", "start 2 /f IN_OPEN"]);
    assert_eq!(world.room(9), NOTHING);
}

#[test]
fn a_rate_and_a_batch_wait_for_room() {
    let rate = Rate { starts: NonZeroU32::MIN, span: SECOND };
    let mut world = World::of(SchedulerSpec { max_rate: Some(rate), ..scheduler(Duration::ZERO) });
    assert_eq!(world.create("/a"), ["start 1 /a IN_CREATE"]);
    world.room(0);
    assert_eq!(world.create("/b"), ["rate used"]);
    assert_eq!(world.pass(DELAY), NOTHING);
    assert_eq!(world.room(9), ["start 2 /b IN_CREATE"]);

    let batch = Batch { quiet: SECOND, max_wait: DELAY, max_files: NonZeroU32::new(9).unwrap() };
    let mut world = World::of(SchedulerSpec { batch: Some(batch), ..scheduler(Duration::ZERO) });
    world.room(0);
    let _ = (world.create("/a"), world.create("/b"));
    assert_eq!(world.pass(DELAY), NOTHING);
    assert_eq!(world.room(1), ["start 1 /a IN_CREATE for /a /b"]);
    world.room(0);
    assert_eq!(world.end(1, &Outcome::NotBegun), NOTHING);
    assert_eq!(world.pass(DELAY), NOTHING);
    assert_eq!(world.room(1), ["start 1 /a IN_CREATE for /a /b"]);
}

#[test]
fn a_run_that_has_not_begun_is_queued_again_as_the_same_attempt() {
    let mut world = World::of(scheduler(Duration::ZERO));
    let _ = (world.create("/a"), world.create("/b"), world.create("/c"));
    world.room(0);
    for id in 1..=3 {
        assert_eq!(world.end(id, &Outcome::NotBegun), NOTHING);
    }
    assert_eq!(world.close_write("/a"), ["re-schedule 0ns 1 /a"]);
    assert_eq!(world.delete("/b"), ["cancelled 2 /b"]);
    assert_eq!(world.room(9), ["start 1 /a IN_CLOSE_WRITE", "start 3 /c IN_CREATE"]);
    world.room(0);
    let (_, lines) = world.reload(30 * SECOND);
    assert_eq!(lines, ["pause 0", "wait 30s for 2"]);
    assert_eq!(world.end(3, &Outcome::NotBegun), NOTHING);
    assert_eq!(world.room(9), ["start 3 /c IN_CREATE"], "in the configuration in force");
}

fn retrying(delay: Duration) -> SchedulerSpec {
    SchedulerSpec { on_busy: OnBusy::RunAgainIfChanged, ..scheduler(delay) }
}

#[test]
fn an_event_during_a_file_action_makes_it_run_again() {
    let mut world = World::of(retrying(Duration::ZERO));
    world.create("/f");
    assert_eq!(world.close_write("/f"), ["skip 1 /f"]);
    assert_eq!(world.close_write("/f"), ["skip 1 /f"]);
    assert_eq!(world.complete(1), ["finished 1 /f", "start 1 /f IN_CLOSE_WRITE again"]);
    assert_eq!(world.end(1, &Outcome::Unchanged), ["unchanged 1 /f"]);
    assert!(world.engine.is_idle());
}

#[test]
fn running_again_keeps_to_the_delay_and_can_be_cancelled() {
    let mut world = World::of(retrying(DELAY));
    world.create("/f");
    world.pass(DELAY);
    world.close_write("/f");
    assert_eq!(world.complete(1), ["finished 1 /f", "schedule 10s again 1 /f"]);
    assert_eq!(world.close_write("/f"), ["re-schedule 10s 1 /f"]);
    assert_eq!(world.pass(DELAY), ["start 1 /f IN_CLOSE_WRITE again"]);
    world.close_write("/f");
    world.complete(1);
    assert_eq!(world.delete("/f"), ["cancelled 1 /f"]);
}

#[test]
fn a_cancel_lifts_the_mark_of_an_earlier_event() {
    let mut world = World::of(retrying(Duration::ZERO));
    world.create("/f");
    world.close_write("/f");
    assert_eq!(world.delete("/f"), ["skip 1 /f"]);
    assert_eq!(world.complete(1), ["finished 1 /f"]);
    assert!(world.engine.is_idle());
}

#[test]
fn with_singlejob_another_path_does_not_run_in_the_place_of_the_first() {
    let mut world = World::of(SchedulerSpec { singlejob: true, ..retrying(Duration::ZERO) });
    world.create("/a");
    world.create("/b");
    assert_eq!(world.complete(1), ["finished 1 /a"]);
}

#[test]
fn the_records_of_a_run_have_the_mask_that_it_was_started_with() {
    struct Masks(Vec<(&'static str, &'static str)>, Option<TaskHandle>);
    impl Effects for Masks {
        fn start(&mut self, start: Start<'_>) {
            self.1 = Some(start.handle);
        }
        fn stop(&mut self, _handle: TaskHandle, _id: TaskId) {}
        fn ask_settled(&mut self, _question: Question<'_>) {}
        fn record(&mut self, record: Record<'_>) {
            if let Record::Finished { task } = record {
                self.0.push(("finished", task.event.mask.name()));
            }
        }
    }
    let mut world = World::of(SchedulerSpec { dirs: true, ..retrying(Duration::ZERO) });
    let mut out = Masks(Vec::new(), None);
    let map = world.ids.map(0);
    world.engine.event(world.now, map, &dir_event(Flag::Create, "/d"), &mut out);
    world.engine.event(world.now, map, &event(Flag::CloseWrite, "/d"), &mut out);
    world.engine.finished(world.now, out.1.unwrap(), &Outcome::Done, &mut out);
    assert_eq!(out.0, [("finished", "IN_CREATE|IN_ISDIR")]);
}

// A file in use.

fn in_use() -> Outcome {
    failed(FailureKind::InUse)
}

#[test]
fn a_task_that_finds_its_file_in_use_looks_again_each_second_and_says_so_once() {
    let mut world = World::of(retrying(Duration::ZERO));
    world.create("/f");
    assert_eq!(world.end(1, &in_use()), ["put off (why) 1 /f"]);
    assert_eq!(world.pass(SECOND / 2), NOTHING);
    assert_eq!(world.pass(SECOND / 2), ["start 1 /f IN_CREATE"]);
    assert_eq!(world.end(1, &in_use()), NOTHING);
    assert_eq!(world.engine.stats().waiting, 1);
    assert_eq!(world.pass(SECOND), ["start 1 /f IN_CREATE"]);
    assert_eq!(world.complete(1), ["finished 1 /f"]);
    assert!(world.engine.is_idle());
}

#[test]
fn a_task_that_is_put_off_holds_no_place() {
    let mut world = World::of(SchedulerSpec { max_jobs: NonZeroU32::new(1), ..scheduler(Duration::ZERO) });
    world.create("/a");
    assert_eq!(world.create("/b"), ["all 1 places taken"]);
    assert_eq!(world.end(1, &in_use()), ["put off (why) 1 /a", "start 2 /b IN_CREATE"]);
    // It is due, and waits for its place behind nobody.
    assert_eq!(world.pass(SECOND), NOTHING);
    assert_eq!(world.complete(2), ["finished 2 /b", "start 1 /a IN_CREATE"]);
}

#[test]
fn an_event_for_a_task_that_is_put_off_gives_it_the_event_and_the_delay_if_there_is_one() {
    let mut world = World::of(scheduler(Duration::ZERO));
    world.create("/f");
    world.end(1, &in_use());
    assert_eq!(world.close_write("/f"), ["re-schedule 0ns 1 /f"]);
    assert_eq!(world.pass(SECOND), ["start 1 /f IN_CLOSE_WRITE"]);

    let mut world = World::of(scheduler(DELAY));
    world.create("/f");
    world.pass(DELAY);
    world.end(1, &in_use());
    assert_eq!(world.close_write("/f"), ["re-schedule 10s 1 /f"]);
    assert_eq!(world.pass(9 * SECOND), NOTHING);
    assert_eq!(world.pass(SECOND), ["start 1 /f IN_CLOSE_WRITE"]);
}

#[test]
fn an_event_that_came_while_the_file_was_found_in_use_is_what_the_next_look_gets() {
    let mut world = World::of(retrying(DELAY));
    world.create("/f");
    world.pass(DELAY);
    world.close_write("/f");
    assert_eq!(world.end(1, &in_use()), ["put off (why) 1 /f"]);
    assert_eq!(world.pass(SECOND), ["start 1 /f IN_CLOSE_WRITE"]);
}

#[test]
fn a_cancel_forgets_a_task_that_is_put_off() {
    let mut world = World::of(scheduler(Duration::ZERO));
    world.create("/f");
    world.end(1, &in_use());
    assert_eq!(world.delete("/f"), ["cancelled 1 /f"]);
    assert!(world.engine.is_idle());
}

#[test]
fn a_task_that_is_put_off_counts_at_shutdown_and_a_stopped_one_is_not_put_off() {
    let mut world = World::of(scheduler(Duration::ZERO));
    world.create("/f");
    world.create("/g");
    world.end(1, &in_use());
    assert_eq!(world.shutdown(), ["wait 30s for 2"]);
    assert_eq!(world.pass(SECOND), ["start 1 /f IN_CREATE"]);
    world.end(1, &in_use());
    assert_eq!(world.pass(28 * SECOND), ["start 1 /f IN_CREATE"]);
    assert_eq!(world.pass(2 * SECOND), ["timeout, cancel 2", "stop 2", "stop 1"]);
    assert_eq!(world.end(1, &in_use()), ["ongoing cancelled 1 /f"]);
    assert_eq!(world.end(2, &failed(FailureKind::Signal(15))), ["ongoing cancelled 2 /g"]);
    assert!(world.engine.is_idle());
}

// Shutdown.

#[test]
fn shutdown_without_tasks_says_nothing_and_is_over() {
    let mut world = World::of(scheduler(DELAY));
    assert_eq!(world.shutdown(), NOTHING);
    assert!(world.engine.is_idle());
    assert!(world.engine.generation_done(world.ids.id));
    assert_eq!(world.engine.deadline(), None);
}

#[test]
fn delays_and_jobs_run_to_their_end_within_the_timeout() {
    let mut world = World::of(scheduler(DELAY));
    world.create("/a");
    world.create("/b");
    assert_eq!(world.shutdown(), ["wait 30s for 2"]);
    assert_eq!(world.create("/c"), NOTHING);
    assert_eq!(world.pass(DELAY), ["start 1 /a IN_CREATE", "start 2 /b IN_CREATE"]);
    assert_eq!(world.complete(2), ["finished 2 /b"]);
    assert!(!world.engine.is_idle());
    assert_eq!(world.complete(1), ["finished 1 /a", "all completed"]);
    assert!(world.engine.is_idle());
}

#[test]
fn during_shutdown_an_event_cancels_the_waiting_task_of_its_path() {
    let mut world = World::of(scheduler(DELAY));
    world.create("/a");
    world.create("/b");
    world.shutdown();
    assert_eq!(world.close_write("/a"), ["cancelled 1 /a"]);
    assert_eq!(world.close_write("/a"), NOTHING);
    assert_eq!(world.delete("/b"), ["cancelled 2 /b", "all completed"]);
}

#[test]
fn at_the_timeout_running_tasks_are_stopped_and_waiting_ones_vanish() {
    let mut world = World::new(
        &[scheduler(Duration::ZERO), scheduler(100 * SECOND)],
        map_with(Flag::Create, &[Reaction::Schedule(0), Reaction::Schedule(1)]),
    );
    world.create("/f");
    assert_eq!(world.shutdown(), ["wait 30s for 1", "wait 30s for 1"]);
    assert_eq!(world.pass(29 * SECOND), NOTHING);
    let expected = ["timeout, cancel 1", "stop 1", "timeout, cancel 1", "not done 2 /f"];
    assert_eq!(world.pass(SECOND), expected);
    assert!(!world.engine.is_idle());
    assert_eq!(world.engine.deadline(), None);
    assert_eq!(world.end(1, &Outcome::Cancelled), ["ongoing cancelled 1 /f"]);
    assert!(world.engine.is_idle());
}

#[test]
fn counts_and_the_oldest_tasks_can_be_seen() {
    let one = NonZeroU32::new(1);
    let mut world = World::new(
        &[scheduler(DELAY), SchedulerSpec { max_jobs: one, ..scheduler(Duration::ZERO) }],
        map_with(Flag::Create, &[Reaction::Schedule(0), Reaction::Schedule(1)]),
    );
    let begun = world.now;
    world.create("/a");
    world.pass(SECOND);
    world.create("/b");
    // A task that is put off is as old as before.
    world.create("/a");
    let stats: Vec<_> = world.engine.scheduler_stats().collect();
    let counts: Vec<_> = stats.iter().map(|stats| (stats.waiting, stats.queued, stats.running)).collect();
    assert_eq!(counts, [(2, 0, 0), (0, 1, 1)]);
    assert_eq!(stats[1].scheduler, world.ids.scheduler(1));
    let oldest = |world: &World, count| {
        let mut seen = Vec::new();
        world.engine.oldest(count, |task| {
            let pathname = String::from_utf8_lossy(task.event.pathname).into_owned();
            seen.push((
                world.out.ids.iter().position(|id| *id == task.id),
                pathname,
                task.doing,
                task.scheduler,
            ));
        });
        seen
    };
    let due = Some(begun + SECOND + DELAY);
    let (first, second) = (world.ids.scheduler(0), world.ids.scheduler(1));
    let expected = [
        (Some(0), "/a".to_owned(), Doing::Waiting(due), first),
        (Some(1), "/a".to_owned(), Doing::Running(Some(begun)), second),
        (Some(2), "/b".to_owned(), Doing::Waiting(due), first),
        // It has said nothing of itself yet.
        (None, "/b".to_owned(), Doing::Queued(Some(begun + SECOND)), second),
    ];
    assert_eq!(oldest(&world, 10), expected);
    assert_eq!(oldest(&world, 2), expected[..2]);
    assert_eq!(oldest(&world, 0), []);
}

#[test]
fn a_second_shutdown_changes_nothing() {
    let mut world = World::of(scheduler(100 * SECOND));
    world.create("/f");
    world.shutdown();
    world.pass(20 * SECOND);
    assert_eq!(world.shutdown(), NOTHING);
    assert_eq!(world.pass(10 * SECOND), ["timeout, cancel 1", "not done 1 /f"]);
    assert!(world.engine.is_idle());
    assert_eq!(
        world.engine.add_generation(Vec::new(), Vec::new(), SECOND),
        Err(GenerationError::ShuttingDown)
    );
}

#[test]
fn an_end_at_once_stops_what_runs_and_forgets_what_waits() {
    for shutdown_first in [false, true] {
        let mut world = World::new(
            &[scheduler(Duration::ZERO), scheduler(100 * SECOND)],
            map_with(Flag::Create, &[Reaction::Schedule(0), Reaction::Schedule(1)]),
        );
        world.create("/f");
        if shutdown_first {
            world.shutdown();
        }
        world.engine.end_now(world.now, &mut world.out);
        let told = world.lines();
        assert_eq!(told.iter().filter(|line| *line == "timeout, cancel 1").count(), 2, "{told:?}");
        assert!(told.contains(&"stop 1".to_owned()), "{told:?}");
        assert_eq!(world.engine.deadline(), None);
        assert_eq!(world.create("/g"), NOTHING);
        world.end(1, &Outcome::Cancelled);
        assert!(world.engine.is_idle());
    }
}

#[test]
fn a_timeout_of_zero_waits_for_nothing() {
    let now = Instant::now();
    let mut engine = Engine::new(now, Limits::default());
    let schedulers = vec![scheduler(Duration::ZERO), scheduler(DELAY)];
    let map = map_with(Flag::Create, &[Reaction::Schedule(0), Reaction::Schedule(1)]);
    let ids = engine.add_generation(schedulers, vec![map], Duration::ZERO).unwrap();
    let mut out = Out::default();
    engine.event(now, ids.map(0), &event(Flag::Create, "/f"), &mut out);
    out.lines.clear();
    engine.shutdown(now, &mut out);
    let waits = ["wait 0ns for 1", "wait 0ns for 1"];
    let ends = ["timeout, cancel 1", "stop 1", "timeout, cancel 1", "not done 2 /f"];
    assert_eq!(out.lines, [waits.as_slice(), ends.as_slice()].concat());
}

#[test]
fn of_many_tasks_that_are_not_done_the_first_are_named_and_the_others_counted() {
    let mut world = World::of(scheduler(100 * SECOND));
    for file in 0..1_200 {
        world.create(&format!("/{file}"));
    }
    world.shutdown();
    let lines = world.pass(30 * SECOND);
    assert_eq!(lines[..2], ["timeout, cancel 1200", "not done 1 /0"]);
    assert_eq!(lines[lines.len() - 2..], ["not done 999 /998", "201 more not done"]);
    assert_eq!(lines.len(), 1 + 999 + 1);
    // Who follows the stream hears of these, too.
    assert_eq!(world.out.unnamed, 201);
}

#[test]
fn a_file_that_changes_during_shutdown_is_still_acted_on_again() {
    let mut world = World::of(retrying(Duration::ZERO));
    world.create("/f");
    world.shutdown();
    world.close_write("/f");
    assert_eq!(world.complete(1), ["finished 1 /f", "start 1 /f IN_CLOSE_WRITE again"]);
    assert_eq!(world.complete(1), ["finished 1 /f", "all completed"]);
}

#[test]
fn a_task_that_was_stopped_does_not_run_again() {
    let mut world = World::of(retrying(Duration::ZERO));
    world.create("/f");
    world.shutdown();
    world.close_write("/f");
    assert_eq!(world.pass(30 * SECOND), ["timeout, cancel 1", "stop 1"]);
    assert_eq!(world.complete(1), ["finished 1 /f"]);
    assert!(world.engine.is_idle());
}

// Reload.

#[test]
fn a_replaced_configuration_without_tasks_is_gone_at_once() {
    let mut world = World::new(&[scheduler(DELAY), scheduler(DELAY)], map());
    let (new, lines) = world.reload(SECOND);
    assert_eq!(lines, ["pause 0", "pause 1"]);
    assert!(world.engine.generation_done(world.ids.id));
    assert!(!world.engine.generation_done(new.id));
    assert_eq!(world.create("/f"), NOTHING);
    assert_eq!(world.engine.explain(world.ids.map(0), &event(Flag::Create, "/f")), None);
    world.ids = new;
    assert_eq!(world.create("/f"), ["schedule 10s 1 /f"]);
}

#[test]
fn waiting_tasks_survive_a_reload_longer_than_the_timeout() {
    let mut world = World::of(scheduler(100 * SECOND));
    world.create("/f");
    assert_eq!(world.reload_other(SECOND).1, ["pause 0", "wait 30s for 1"]);
    assert_eq!(world.pass(99 * SECOND), NOTHING);
    assert_eq!(world.pass(SECOND), ["start 1 /f IN_CREATE"]);
    assert_eq!(world.pass(29 * SECOND), NOTHING);
    assert_eq!(world.complete(1), ["finished 1 /f", "all completed"]);
    assert!(world.engine.generation_done(world.ids.id));
}

#[test]
fn running_tasks_have_the_timeout_from_the_reload_or_from_their_start() {
    let mut world = World::new(
        &[scheduler(Duration::ZERO), scheduler(DELAY)],
        map_with(Flag::Create, &[Reaction::Schedule(0), Reaction::Schedule(1)]),
    );
    world.create("/f");
    world.pass(SECOND);
    assert_eq!(world.reload_other(SECOND).1, ["pause 0", "pause 1", "wait 30s for 1", "wait 30s for 1"]);
    assert_eq!(world.pass(9 * SECOND), ["start 2 /f IN_CREATE"]);
    // It was started one second before the reload, at which its time began.
    assert_eq!(world.pass(20 * SECOND), NOTHING);
    assert_eq!(world.pass(SECOND), ["timeout, cancel 1", "stop 1"]);
    assert_eq!(world.pass(8 * SECOND), NOTHING);
    assert_eq!(world.pass(SECOND), ["timeout, cancel 1", "stop 2"]);
    assert_eq!(world.end(1, &Outcome::Cancelled), ["ongoing cancelled 1 /f"]);
    assert_eq!(world.end(2, &Outcome::Cancelled), ["ongoing cancelled 2 /f"]);
    assert!(world.engine.generation_done(world.ids.id));
}

#[test]
fn after_a_reload_a_path_runs_once_in_all() {
    let mut world = World::of(scheduler(DELAY));
    world.create("/f");
    world.create("/g");
    let (new, _) = world.reload_other(SECOND);
    let write = event(Flag::CloseWrite, "/f");
    assert_eq!(world.event(&write), ["cancelled 1 /f"]);
    world.engine.event(world.now, new.map(0), &write, &mut world.out);
    assert_eq!(world.lines(), ["schedule 10s 3 /f"]);
    assert_eq!(world.delete("/g"), ["cancelled 2 /g", "all completed"]);
    assert_eq!(world.pass(DELAY), ["start 3 /f IN_CLOSE_WRITE"]);
}

#[test]
fn after_a_reload_events_of_running_tasks_belong_to_the_new_configuration() {
    let mut world = World::of(retrying(Duration::ZERO));
    world.create("/f");
    world.reload(SECOND);
    assert_eq!(world.close_write("/f"), NOTHING);
    assert_eq!(world.complete(1), ["finished 1 /f", "all completed"]);
}

#[test]
fn events_are_received_once_while_two_configurations_live() {
    let mut world = World::of(scheduler(DELAY));
    world.create("/f");
    let (new, _) = world.reload_other(SECOND);
    let before = world.out.received;
    world.close_write("/g");
    world.engine.event(world.now, new.map(0), &event(Flag::CloseWrite, "/g"), &mut world.out);
    assert_eq!(world.out.received - before, 1);
}

#[test]
fn with_a_timeout_of_zero_a_reload_ends_the_old_tasks() {
    let now = Instant::now();
    let mut engine = Engine::new(now, Limits::default());
    let ids = engine.add_generation(vec![scheduler(DELAY)], vec![map()], Duration::ZERO).unwrap();
    let mut out = Out::default();
    engine.event(now, ids.map(0), &event(Flag::Create, "/f"), &mut out);
    out.lines.clear();
    engine.retire(now, ids.id, |_| None, &mut out);
    assert_eq!(out.lines, ["pause 0", "wait 0ns for 1", "timeout, cancel 1", "not done 1 /f"]);
    assert!(engine.generation_done(ids.id));
}

#[test]
fn shutdown_waits_for_replaced_configurations_too() {
    let mut world = World::of(scheduler(20 * SECOND));
    world.create("/f");
    let (new, _) = world.reload_other(5 * SECOND);
    world.engine.event(world.now, new.map(0), &event(Flag::Create, "/g"), &mut world.out);
    world.lines();
    assert_eq!(world.shutdown(), ["wait 30s for 1", "wait 5s for 1"]);
    assert_eq!(world.pass(5 * SECOND), ["timeout, cancel 1", "not done 2 /g"]);
    assert_eq!(world.pass(15 * SECOND), ["start 1 /f IN_CREATE"]);
    assert_eq!(world.complete(1), ["finished 1 /f", "all completed"]);
    assert!(world.engine.is_idle());
}

// Renamed directories.

/// The bed of these: a map whose IN_MOVED_FROM cancels at the first scheduler, and whose filter drops `.tmp`.
fn renaming(spec: SchedulerSpec) -> World {
    let moved_from = map_with(Flag::MovedFrom, &[Reaction::Cancel(0)]);
    World::new(&[spec], MapSpec { exclude: Some(Arc::new(Ends(&[".tmp", ".tmp/f"]))), ..moved_from })
}

fn rename(world: &mut World, from: &str, to: Option<&str>) -> Vec<String> {
    let map = world.ids.map(0);
    world.engine.rename(world.now, map, from.as_bytes(), to.map(str::as_bytes), &mut world.out);
    world.lines()
}

#[test]
fn waiting_tasks_follow_their_directory_and_keep_their_time() {
    let mut world = renaming(scheduler(DELAY));
    for file in ["/in/new/f", "/in/new/sub/g", "/in/newer/h", "/in/new"] {
        world.create(file);
    }
    world.pass(SECOND);
    let followed = ["followed 4 /in/final", "followed 1 /in/final/f", "followed 2 /in/final/sub/g"];
    assert_eq!(rename(&mut world, "/in/new", Some("/in/final")), followed);
    assert_eq!(world.close_write("/in/new/f"), ["schedule 10s 5 /in/new/f"], "the old path is free");
    assert_eq!(world.delete("/in/final/sub/g"), ["cancelled 2 /in/final/sub/g"]);
    let started =
        ["start 1 /in/final/f IN_CREATE", "start 3 /in/newer/h IN_CREATE", "start 4 /in/final IN_CREATE"];
    assert_eq!(world.pass(9 * SECOND), started);
}

#[test]
fn queued_and_put_off_tasks_follow_and_running_ones_keep_their_path() {
    let mut world = renaming(SchedulerSpec { max_jobs: NonZeroU32::new(1), ..scheduler(Duration::ZERO) });
    for file in ["/in/new/a", "/in/new/b", "/in/new/c"] {
        world.create(file);
    }
    assert_eq!(world.end(1, &in_use()), ["put off (why) 1 /in/new/a", "start 2 /in/new/b IN_CREATE"]);
    let followed = ["followed 1 /in/final/a", "followed 3 /in/final/c"];
    assert_eq!(rename(&mut world, "/in/new", Some("/in/final")), followed);
    assert_eq!(world.complete(2), ["finished 2 /in/new/b", "start 3 /in/final/c IN_CREATE"]);
    assert_eq!(world.complete(3), ["finished 3 /in/final/c"]);
    assert_eq!(world.pass(SECOND), ["start 1 /in/final/a IN_CREATE"]);
}

#[test]
fn at_the_new_path_rules_and_filter_are_asked_again() {
    let rules: Arc<dyn Matcher> = Arc::new(Ends(&["new/f", "final/f"]));
    let mut world = renaming(SchedulerSpec { rules: Some(rules), ..scheduler(DELAY) });
    world.create("/in/new/f");
    assert_eq!(rename(&mut world, "/in/new", Some("/in/final")), ["followed 1 /in/final/f"]);
    assert_eq!(world.pass(DELAY), ["start 1 /in/final/f IN_CREATE rule 1"]);
    world.create("/in/new/f");
    assert_eq!(rename(&mut world, "/in/new", Some("/in/other")), ["no rule", "cancelled 2 /in/new/f"]);
    world.create("/in/new/f");
    let excluded = ["excluded /in/x.tmp/f", "cancelled 3 /in/new/f"];
    assert_eq!(rename(&mut world, "/in/new", Some("/in/x.tmp")), excluded);
}

#[test]
fn what_goes_below_an_excluded_directory_is_excluded() {
    let map = MapSpec { exclude: Some(Arc::new(Ends(&["/x.tmp"]))), ..map() };
    let mut world = World::new(&[scheduler(DELAY)], map);
    world.create("/in/new/f");
    let excluded = ["excluded /in/x.tmp/f", "cancelled 1 /in/new/f"];
    assert_eq!(rename(&mut world, "/in/new", Some("/in/x.tmp")), excluded);
}

#[test]
fn a_task_that_follows_to_a_path_with_a_task_is_an_event_for_that_one() {
    let mut world = renaming(scheduler(DELAY));
    world.create("/b/f");
    world.pass(SECOND);
    world.close_write("/a/f");
    assert_eq!(rename(&mut world, "/a", Some("/b")), ["cancelled 2 /a/f", "re-schedule 10s 1 /b/f"]);
    assert_eq!(world.pass(DELAY), ["start 1 /b/f IN_CLOSE_WRITE"]);
}

#[test]
fn tasks_of_two_directories_that_are_exchanged_change_places() {
    let mut world = renaming(SchedulerSpec { max_jobs: NonZeroU32::new(1), ..scheduler(SECOND) });
    for file in ["/in/b/runs", "/in/a/f", "/in/b/f", "/in/b/g"] {
        world.create(file);
    }
    assert_eq!(world.pass(SECOND), ["start 1 /in/b/runs IN_CREATE", "all 1 places taken"]);
    let map = world.ids.map(0);
    world.engine.set_aside(world.now, map, b"/in/b", b"/in/b\0", &mut world.out);
    assert_eq!(world.lines(), NOTHING);
    assert_eq!(rename(&mut world, "/in/a", Some("/in/b")), ["followed 2 /in/b/f"]);
    let followed = ["followed 3 /in/a/f", "followed 4 /in/a/g"];
    assert_eq!(rename(&mut world, "/in/b\0", Some("/in/a")), followed);
    assert_eq!(world.create("/in/a/runs"), ["remember 1 /in/a/runs"], "an event there meets the run");
    assert_eq!(world.delete("/in/a/runs"), ["skip 1 /in/a/runs"]);
    assert_eq!(world.complete(1), ["finished 1 /in/b/runs", "start 2 /in/b/f IN_CREATE"]);
    assert_eq!(world.complete(2), ["finished 2 /in/b/f", "start 3 /in/a/f IN_CREATE"]);
    assert_eq!(world.complete(3), ["finished 3 /in/a/f", "start 4 /in/a/g IN_CREATE"]);
}

#[test]
fn what_tells_of_an_exchange_itself_stays_at_its_path() {
    let mut world = World::new(&[scheduler(DELAY)], map_with(Flag::MovedTo, &[Reaction::Schedule(0)]));
    let moved_to = |world: &mut World, path: &str| {
        world.engine.event(world.now, world.ids.map(0), &event(Flag::MovedTo, path), &mut world.out);
        world.lines()
    };
    assert_eq!(moved_to(&mut world, "/in/b"), ["schedule 10s 1 /in/b"]);
    let map = world.ids.map(0);
    world.engine.set_aside(world.now, map, b"/in/b", b"/in/b\0", &mut world.out);
    assert_eq!(rename(&mut world, "/in/a", Some("/in/b")), NOTHING);
    assert_eq!(moved_to(&mut world, "/in/a"), ["schedule 10s 2 /in/a"]);
    assert_eq!(rename(&mut world, "/in/b\0", Some("/in/a")), NOTHING);
    assert_eq!(world.pass(DELAY), ["start 1 /in/b IN_MOVED_TO", "start 2 /in/a IN_MOVED_TO"]);
}

#[test]
fn where_the_directory_left_each_path_gets_what_a_moved_from_gives_it() {
    let mut world = renaming(scheduler(DELAY));
    world.create("/in/new/f");
    world.create("/in/new/g");
    assert_eq!(rename(&mut world, "/in/new", None), ["cancelled 1 /in/new/f", "cancelled 2 /in/new/g"]);

    let mut world = World::of(scheduler(DELAY));
    world.create("/in/new/f");
    assert_eq!(rename(&mut world, "/in/new", None), NOTHING, "the map says nothing of it");
    assert_eq!(world.pass(DELAY), ["start 1 /in/new/f IN_CREATE"]);
}

#[test]
fn only_tasks_of_the_map_follow() {
    let now = Instant::now();
    let mut engine = Engine::new(now, Limits::default());
    let ids = engine.add_generation(vec![scheduler(DELAY)], vec![map(), map()], SECOND).unwrap();
    let mut out = Out::default();
    engine.event(now, ids.map(0), &event(Flag::Create, "/d/a"), &mut out);
    engine.event(now, ids.map(1), &event(Flag::Create, "/d/b"), &mut out);
    out.lines.clear();
    engine.rename(now, ids.map(1), b"/d", Some(b"/e"), &mut out);
    assert_eq!(out.lines, ["followed 2 /e/b"]);
}

#[test]
fn what_tells_that_a_directory_left_keeps_the_path_that_was_left() {
    let of = |spec| World::new(&[spec], map_with(Flag::MovedFrom, &[Reaction::Schedule(0)]));
    let left = |world: &mut World, path| world.event(&event(Flag::MovedFrom, path));
    let mut world = of(scheduler(DELAY));
    assert_eq!(left(&mut world, "/a"), ["schedule 10s 1 /a"]);
    assert_eq!(rename(&mut world, "/a", Some("/b")), NOTHING);
    assert_eq!(left(&mut world, "/b"), ["schedule 10s 2 /b"]);
    assert_eq!(world.pass(DELAY), ["start 1 /a IN_MOVED_FROM", "start 2 /b IN_MOVED_FROM"]);

    let mut world = of(scheduler(Duration::ZERO));
    assert_eq!(left(&mut world, "/a"), ["start 1 /a IN_MOVED_FROM"]);
    assert_eq!(rename(&mut world, "/a", Some("/b")), NOTHING);
    assert_eq!(left(&mut world, "/b"), ["start 2 /b IN_MOVED_FROM"]);
}

#[test]
fn what_follows_has_its_name_its_root_and_the_path_as_it_was_given() {
    struct Last(Option<OwnedEvent>);
    impl Effects for Last {
        fn start(&mut self, _start: Start<'_>) {}
        fn stop(&mut self, _handle: TaskHandle, _id: TaskId) {}
        fn ask_settled(&mut self, _question: Question<'_>) {}
        fn record(&mut self, record: Record<'_>) {
            if let Record::Followed { task, .. } = record {
                self.0 = Some(OwnedEvent::of(&task.event));
            }
        }
    }
    let mut world = World::of(scheduler(DELAY));
    let below = Event {
        name_len: 1,
        root_len: 7,
        given_path: Some(b"in/new/sub"),
        ..event(Flag::Create, "/srv/in/new/sub/f")
    };
    let mut out = Last(None);
    world.engine.event(world.now, world.ids.map(0), &below, &mut out);
    world.engine.rename(world.now, world.ids.map(0), b"/srv/in/new", Some(b"/srv/in/x"), &mut out);
    let moved = out.0.take().unwrap();
    assert_eq!(moved.get(), Event { pathname: b"/srv/in/x/sub/f", given_path: Some(b"in/x/sub"), ..below });
    // Below another root: which one is not known.
    world.engine.rename(world.now, world.ids.map(0), b"/srv/in/x", Some(b"/mnt/x"), &mut out);
    let moved = out.0.take().unwrap();
    assert_eq!((moved.get().root(), moved.get().name()), (&b"/"[..], &b"f"[..]));
}

fn rules(spec: SchedulerSpec) -> SchedulerSpec {
    SchedulerSpec { kind: SchedulerKind::Rules, on_busy: OnBusy::RunAgainIfChanged, ..spec }
}

#[test]
fn a_retry_is_for_the_new_path_of_what_was_renamed_during_the_run() {
    let mut world = renaming(tried_again(retry()));
    world.create("/in/new/f");
    assert_eq!(rename(&mut world, "/in/new", Some("/in/x")), NOTHING, "the run ends as it began");
    assert_eq!(rename(&mut world, "/in/x", Some("/in/final")), NOTHING);
    assert_eq!(world.create("/in/new/f"), ["start 2 /in/new/f IN_CREATE"], "the old path is free");
    let tried_again = ["attempt 1 failed (why), again in 10s 1 /in/new/f", "followed 1 /in/final/f"];
    assert_eq!(world.end(1, &error()), tried_again);
    assert_eq!(rename(&mut world, "/in/new", None), NOTHING, "that is not about the new path");
    assert_eq!(world.pass(10 * SECOND), ["start 1 /in/final/f IN_CREATE attempt 2"]);
}

#[test]
fn what_is_remembered_is_for_the_new_path_of_what_was_renamed_during_the_run() {
    let mut world = renaming(SchedulerSpec { on_busy: OnBusy::Rerun, ..scheduler(Duration::ZERO) });
    world.create("/a/f");
    world.close_write("/a/f");
    rename(&mut world, "/a", Some("/b"));
    assert_eq!(world.complete(1), ["finished 1 /a/f", "followed 1 /b/f", "start 1 /b/f IN_CLOSE_WRITE"]);
    rename(&mut world, "/b", Some("/c"));
    assert_eq!(world.close_write("/c/f"), ["remember 1 /c/f"]);
    assert_eq!(world.delete("/c/f"), ["skip 1 /c/f"]);
    assert_eq!(world.complete(1), ["finished 1 /b/f"]);

    let mut world = renaming(SchedulerSpec { on_busy: OnBusy::Restart, ..scheduler(Duration::ZERO) });
    world.create("/a/f");
    rename(&mut world, "/a", Some("/b"));
    assert_eq!(world.close_write("/b/f"), ["restart 1 /b/f", "stop 1"]);
    rename(&mut world, "/b", Some("/c"));
    let restarted = ["ongoing cancelled 1 /a/f", "followed 1 /c/f", "start 1 /c/f IN_CLOSE_WRITE"];
    assert_eq!(world.end(1, &Outcome::Cancelled), restarted);

    let mut world = renaming(rules(scheduler(Duration::ZERO)));
    world.create("/a/f");
    world.close_write("/a/f");
    rename(&mut world, "/a", Some("/b"));
    world.close_write("/b/f");
    let again = ["finished 1 /a/f", "followed 1 /b/f", "start 1 /b/f IN_CLOSE_WRITE again"];
    assert_eq!(world.complete(1), again);
    assert_eq!(world.complete(1), ["finished 1 /b/f"]);
}

#[test]
fn no_event_at_the_new_path_is_skipped_for_a_run_that_began_at_the_old_one() {
    let mut world = renaming(scheduler(Duration::ZERO));
    world.create("/a/f");
    rename(&mut world, "/a", Some("/b"));
    assert_eq!(world.close_write("/b/f"), ["remember 1 /b/f"]);
    rename(&mut world, "/b", Some("/c"));
    assert_eq!(world.create("/c/f"), ["remember 1 /c/f"]);
    assert_eq!(world.end(1, &error()), ["failed (why) 1 /a/f", "followed 1 /c/f", "start 1 /c/f IN_CREATE"]);
    assert_eq!(world.create("/c/f"), ["skip 1 /c/f"], "nothing was renamed since");
    assert_eq!(world.complete(1), ["finished 1 /c/f"]);

    let mut world = renaming(scheduler(Duration::ZERO));
    world.create("/a/f");
    let (new, _) = world.replace(scheduler(Duration::ZERO), 30 * SECOND);
    rename(&mut world, "/a", Some("/b"));
    world.ids = new;
    assert_eq!(world.create("/b/f"), ["remember 1 /b/f"]);
    let left = ["finished 1 /a/f", "all completed", "followed 1 /b/f", "start 1 /b/f IN_CREATE"];
    assert_eq!(world.complete(1), left);

    let mut world = renaming(SchedulerSpec { singlejob: true, ..scheduler(Duration::ZERO) });
    world.create("/a/f");
    rename(&mut world, "/a", Some("/b"));
    assert_eq!(world.create("/b/f"), ["skip 1 /b/f"], "as it does for any other path");
}

#[test]
fn a_file_rule_that_failed_since_its_directory_was_renamed_runs_at_the_new_path() {
    let mut world = renaming(rules(scheduler(DELAY)));
    world.create("/a/f");
    world.pass(DELAY);
    rename(&mut world, "/a", Some("/b"));
    let anew =
        ["attempt 1 failed (why), again for an event 1 /a/f", "followed 1 /b/f", "start 1 /b/f IN_CREATE"];
    assert_eq!(world.end(1, &error()), anew);
    assert_eq!(world.end(1, &error()), ["failed (why) 1 /b/f"], "nothing was renamed since");
    assert_eq!(world.out.ends.len(), 1);

    let mut world = renaming(scheduler(Duration::ZERO));
    world.create("/a/f");
    rename(&mut world, "/a", Some("/b"));
    assert_eq!(world.end(1, &error()), ["failed (why) 1 /a/f"], "others may have acted");
}

#[test]
fn where_a_directory_is_not_wanted_nothing_comes_after_the_run() {
    let mut world = renaming(tried_again(retry()));
    world.create("/in/new/f");
    assert_eq!(rename(&mut world, "/in/new", Some("/in/x.tmp")), ["excluded /in/x.tmp/f"]);
    let cancelled = ["attempt 1 failed (why), again in 10s 1 /in/new/f", "cancelled 1 /in/new/f"];
    assert_eq!(world.end(1, &error()), cancelled);

    let only_new: Arc<dyn Matcher> = Arc::new(Ends(&["new/f"]));
    let spec = SchedulerSpec { rules: Some(only_new), ..rules(scheduler(Duration::ZERO)) };
    let mut world = renaming(spec);
    world.create("/in/new/f");
    world.close_write("/in/new/f");
    assert_eq!(rename(&mut world, "/in/new", Some("/in/x")), ["no rule", "cancelled 1 /in/new/f"]);
    assert_eq!(world.complete(1), ["finished 1 /in/new/f"]);

    let mut world = renaming(SchedulerSpec { max_jobs: NonZeroU32::new(1), ..scheduler(Duration::ZERO) });
    world.create("/in/new/f");
    rename(&mut world, "/in/new", Some("/in/x"));
    assert_eq!(world.end(1, &in_use()), ["put off (why) 1 /in/x/f", "followed 1 /in/x/f"]);
    assert_eq!(world.pass(SECOND), ["start 1 /in/x/f IN_CREATE"]);
    rename(&mut world, "/in/x", Some("/in/x.tmp"));
    assert_eq!(world.end(1, &in_use()), ["cancelled 1 /in/x/f"]);
}

#[test]
fn where_the_new_path_has_a_task_the_one_that_runs_keeps_its_own() {
    let mut world = renaming(tried_again(retry()));
    world.create("/a/f");
    world.create("/b/f");
    assert_eq!(rename(&mut world, "/a", Some("/b")), NOTHING);
    assert_eq!(world.close_write("/b/f"), ["skip 2 /b/f"]);
    assert_eq!(world.end(1, &error()), ["attempt 1 failed (why), again in 10s 1 /a/f"]);
    assert_eq!(world.pass(10 * SECOND), ["start 1 /a/f IN_CREATE attempt 2"]);
}

#[test]
fn what_an_old_run_leaves_follows_into_the_new_configuration() {
    let mut world = renaming(tried_again(retry()));
    world.create("/a/f");
    let (new, _) = world.replace(tried_again(retry()), 30 * SECOND);
    rename(&mut world, "/a", Some("/b"));
    world.ids = new;
    let left = ["attempt 1 failed (why), again in 10s 1 /a/f", "followed 1 /b/f", "all completed"];
    assert_eq!(world.end(1, &error()), left);
    assert_eq!(world.pass(10 * SECOND), ["start 1 /b/f IN_CREATE attempt 2"]);
}

#[test]
fn what_the_daemon_itself_moved_or_removed_is_withdrawn() {
    let mut world = World::of(scheduler(DELAY));
    for file in ["/in/d/f", "/in/d", "/in/d/e/g", "/in/d2"] {
        world.create(file);
    }
    world.engine.withdraw(world.now, b"/in/d", &mut world.out);
    let each = ["cancelled 2 /in/d", "cancelled 3 /in/d/e/g", "cancelled 1 /in/d/f"];
    assert_eq!(world.lines(), [&["withdraw 3 of /in/d"][..], &each].concat());
    world.engine.withdraw(world.now, b"/in/d", &mut world.out);
    assert_eq!(world.lines(), NOTHING);
    assert_eq!(world.pass(DELAY), ["start 4 /in/d2 IN_CREATE"]);
}

// How a task runs: timeouts.

#[test]
fn a_run_that_takes_too_long_is_stopped_and_has_failed_at_once() {
    let one = NonZeroU32::new(1);
    let spec = SchedulerSpec { timeout: Some(5 * SECOND), max_jobs: one, ..scheduler(Duration::ZERO) };
    let mut world = World::of(spec);
    world.create("/f");
    world.create("/g");
    assert_eq!(world.pass(4 * SECOND), NOTHING);
    assert_eq!(world.pass(SECOND), ["stop 1", "failed (timeout after 5 s) 1 /f"]);
    // Its path and its place stay taken until it is really over.
    assert_eq!(world.close_write("/f"), ["skip 1 /f"]);
    assert_eq!(world.end(1, &Outcome::Cancelled), ["start 2 /g IN_CREATE"]);
    assert_eq!(world.complete(2), ["finished 2 /g"]);
    assert!(world.engine.is_idle());
}

#[test]
fn a_timeout_ends_with_the_run() {
    let mut world = World::of(SchedulerSpec { timeout: Some(SECOND / 2), ..scheduler(Duration::ZERO) });
    world.create("/f");
    world.complete(1);
    assert_eq!(world.engine.deadline(), None);
    world.create("/f");
    assert_eq!(world.pass(SECOND), ["stop 2", "failed (timeout after 0.5 s) 2 /f"]);
    // Whatever it says then, it has failed.
    assert_eq!(world.complete(2), NOTHING);
    assert!(world.engine.is_idle());
}

// Retries.

fn retry() -> Retry {
    let (delay, max_delay) = (10 * SECOND, 600 * SECOND);
    Retry { times: Some(2), delay, factor: 2.0, max_delay, jitter: 0.0, on: None }
}

fn tried_again(retry: Retry) -> SchedulerSpec {
    SchedulerSpec { retry: Some(retry), ..scheduler(Duration::ZERO) }
}

fn error() -> Outcome {
    failed(FailureKind::Error)
}

#[test]
fn a_task_that_failed_is_tried_again_under_its_id_after_growing_pauses() {
    let mut world = World::of(tried_again(retry()));
    world.create("/f");
    assert_eq!(world.end(1, &error()), ["attempt 1 failed (why), again in 10s 1 /f"]);
    assert_eq!(world.pass(10 * SECOND), ["start 1 /f IN_CREATE attempt 2"]);
    assert_eq!(world.end(1, &error()), ["attempt 2 failed (why), again in 20s 1 /f"]);
    assert_eq!(world.pass(19 * SECOND), NOTHING);
    assert_eq!(world.pass(SECOND), ["start 1 /f IN_CREATE attempt 3"]);
    assert_eq!(world.end(1, &error()), ["failed (why) 1 /f"]);
    assert!(world.engine.is_idle());
}

#[test]
fn pauses_end_at_the_longest_and_vary_by_the_jitter() {
    let pauses = |retry: Retry| {
        let mut world = World::of(tried_again(Retry { times: None, max_delay: 30 * SECOND, ..retry }));
        world.create("/f");
        let mut pauses = Vec::new();
        for _ in 0..40 {
            world.end(1, &error());
            let due = world.engine.deadline().unwrap();
            pauses.push((due - world.now).as_secs_f64());
            world.pass(due - world.now);
        }
        pauses
    };
    assert_eq!(pauses(retry())[..4], [10.0, 20.0, 30.0, 30.0]);
    let varied = pauses(Retry { jitter: 0.1, ..retry() });
    assert!(varied[2..].iter().all(|pause| (27.0..=33.0).contains(pause)), "{varied:?}");
    assert!(varied[2..].iter().any(|pause| *pause < 29.0) && varied[2..].iter().any(|pause| *pause > 31.0));
}

#[test]
fn on_says_which_failures_are_tried_again() {
    let on = RetryOn { statuses: vec![3, 75], signal: true, ..RetryOn::default() };
    let cases = [
        (FailureKind::ExitStatus(3), true),
        (FailureKind::ExitStatus(4), false),
        // A shell tells so of a signal.
        (FailureKind::ExitStatus(143), true),
        (FailureKind::Signal(15), true),
        (FailureKind::Timeout, false),
        (FailureKind::Error, false),
        (FailureKind::Interrupted, false),
    ];
    for (kind, again) in cases {
        let mut world = World::of(tried_again(Retry { on: Some(on.clone()), ..retry() }));
        world.create("/f");
        let lines = world.end(1, &failed(kind));
        assert_eq!(lines[0].starts_with("attempt 1"), again, "{kind:?}: {lines:?}");
    }
    let mut world = World::of(tried_again(retry()));
    world.create("/f");
    let failure = Failure { is_final: true, ..Failure::new(FailureKind::Error, "why") };
    assert_eq!(world.end(1, &Outcome::Failed(failure)), ["failed (why) 1 /f"]);
    world.create("/g");
    assert_eq!(world.end(2, &failed(FailureKind::Interrupted)), ["failed (why) 2 /g"]);
}

#[test]
fn an_event_makes_a_retry_a_first_attempt_but_not_before_the_pause_has_passed() {
    let mut world = World::of(SchedulerSpec { delay: 2 * SECOND, ..tried_again(retry()) });
    world.create("/f");
    world.pass(2 * SECOND);
    world.end(1, &error());
    world.pass(SECOND);
    assert_eq!(world.close_write("/f"), ["re-schedule 2s 1 /f"]);
    assert_eq!(world.pass(8 * SECOND), NOTHING);
    assert_eq!(world.pass(SECOND), ["start 1 /f IN_CLOSE_WRITE"]);
    world.end(1, &error());
    world.pass(9 * SECOND);
    world.close_write("/f");
    assert_eq!(world.pass(SECOND), NOTHING, "here the delay is what ends last");
    assert_eq!(world.pass(SECOND), ["start 1 /f IN_CLOSE_WRITE"]);
}

#[test]
fn a_cancel_ends_a_retry_and_a_shutdown_does_not_wait_for_one() {
    let mut world = World::of(tried_again(retry()));
    world.create("/f");
    world.end(1, &error());
    assert_eq!(world.delete("/f"), ["cancelled 1 /f"]);
    world.create("/g");
    world.create("/h");
    world.end(2, &error());
    assert_eq!(world.shutdown(), ["not done, Retry, 2 /g", "wait 30s for 1"]);
    assert_eq!(world.end(3, &error()), ["failed (why) 3 /h", "all completed"]);
    assert!(world.engine.is_idle());
}

#[test]
fn what_was_tried_and_is_cancelled_before_it_starts_for_a_later_event_is_told_once() {
    type Story = fn(&mut World);
    let waits = SchedulerSpec { retry: Some(retry()), ..scheduler(DELAY) };
    let busy = SchedulerSpec { on_busy: OnBusy::Rerun, ..waits.clone() };
    let timed = SchedulerSpec { timeout: Some(SECOND), ..waits.clone() };
    let stories: [(&SchedulerSpec, Story); 5] = [
        (&waits, |world| {
            world.end(1, &error());
            world.close_write("/f");
            world.delete("/f");
        }),
        (&waits, |world| {
            world.end(1, &error());
            world.close_write("/f");
            assert!(world.engine.cancel(world.now, world.out.ids[0], &mut world.out));
        }),
        (&busy, |world| {
            world.close_write("/f");
            world.end(1, &error());
            world.delete("/f");
        }),
        (&timed, |world| {
            world.pass(SECOND);
            world.delete("/f");
            world.end(1, &Outcome::Cancelled);
        }),
        (&timed, |world| {
            world.pass(SECOND);
            assert!(world.engine.cancel(world.now, world.out.ids[0], &mut world.out));
            world.end(1, &Outcome::Cancelled);
        }),
    ];
    for (which, (spec, story)) in stories.into_iter().enumerate() {
        let mut world = World::of(spec.clone());
        world.create("/f");
        world.pass(DELAY);
        story(&mut world);
        assert!(world.engine.is_idle(), "{which}");
        let ends: Vec<bool> = world.out.ends.iter().map(|end| end.starts_with("/f cancelled by ")).collect();
        assert_eq!(ends, [true], "{which}: {:?}", world.out.ends);
    }
}

#[test]
fn a_task_that_starts_for_a_later_event_was_not_tried_for_it() {
    let mut world = World::of(tried_again(retry()));
    world.create("/f");
    world.end(1, &error());
    world.close_write("/f");
    world.pass(10 * SECOND);
    world.complete(1);
    assert!(world.out.ends[0].starts_with("/f done, 1 attempt(s)"), "{:?}", world.out.ends);
}

#[test]
fn a_retry_that_ends_without_a_run_is_told_once_whatever_ended_it() {
    type Ending = fn(&mut World);
    let endings: [(&str, Ending); 3] = [
        ("IN_DELETE", |world| drop(world.delete("/d/f"))),
        ("Withdrawal", |world| world.engine.withdraw(world.now, b"/d", &mut world.out)),
        ("Id", |world| assert!(world.engine.cancel(world.now, world.out.ids[0], &mut world.out))),
    ];
    for (by, ending) in endings {
        let mut world = World::of(tried_again(retry()));
        world.create("/d/f");
        world.end(1, &error());
        world.out.ends.clear();
        ending(&mut world);
        assert!(world.engine.is_idle(), "{by}");
        let [end] = &world.out.ends[..] else { panic!("{by}: {:?}", world.out.ends) };
        assert!(end.starts_with(&format!("/d/f cancelled by {by}, 1 attempt(s)")), "{end}");
    }
}

#[test]
fn after_a_timeout_the_pause_counts_from_the_failure_but_the_path_is_taken_until_the_end() {
    let mut world = World::of(SchedulerSpec { timeout: Some(SECOND), ..tried_again(retry()) });
    world.create("/f");
    assert_eq!(world.pass(SECOND), ["stop 1", "attempt 1 failed (timeout after 1 s), again in 10s 1 /f"]);
    assert_eq!(world.pass(4 * SECOND), NOTHING);
    assert_eq!(world.end(1, &Outcome::Cancelled), NOTHING);
    assert_eq!(world.pass(6 * SECOND), ["start 1 /f IN_CREATE attempt 2"]);
    assert_eq!(world.pass(SECOND).len(), 2);
    assert_eq!(world.pass(60 * SECOND), NOTHING);
    assert_eq!(world.end(1, &Outcome::Cancelled), NOTHING);
    assert_eq!(world.pass(Duration::ZERO), ["start 1 /f IN_CREATE attempt 3"]);
}

// Batches.

fn batch() -> SchedulerSpec {
    let max_files = NonZeroU32::new(5).expect("it is more than nothing");
    let batch = Batch { quiet: 2 * SECOND, max_wait: 10 * SECOND, max_files };
    SchedulerSpec { batch: Some(batch), ..scheduler(Duration::ZERO) }
}

#[test]
fn one_run_is_for_all_paths_in_the_order_of_their_first_events_with_their_latest() {
    let mut world = World::of(batch());
    assert_eq!(world.create("/a"), ["gather 1, with 1 /a"]);
    world.pass(SECOND);
    assert_eq!(world.create("/b"), ["gather 2, with 2 /b"]);
    assert_eq!(world.close_write("/a"), ["gather 2, with 1 /a"]);
    assert_eq!(world.engine.stats().waiting, 2);
    assert_eq!(world.pass(SECOND), NOTHING, "an event begins the quiet time anew");
    assert_eq!(world.pass(SECOND), ["start 1 /a IN_CLOSE_WRITE for /a /b"]);
    assert_eq!((world.engine.stats().running, world.engine.stats().started), (2, 1));
    assert_eq!(world.complete(1), ["finished 1 /a and 1 more"]);
    assert!(world.engine.is_idle());
}

#[test]
fn a_batch_begins_at_max_wait_after_its_first_event_or_with_max_files() {
    let mut world = World::of(batch());
    world.create("/a");
    for _ in 0..9 {
        assert_eq!(world.pass(SECOND), NOTHING);
        world.create("/b");
    }
    assert_eq!(world.pass(SECOND), ["start 1 /a IN_CREATE for /a /b"]);
    world.complete(1);
    let mut world = World::of(batch());
    for path in ["/a", "/b", "/c", "/d"] {
        assert_eq!(world.create(path).len(), 1);
    }
    assert_eq!(world.create("/e"), ["gather 5, with 5 /e", "start 1 /a IN_CREATE for /a /b /c /d /e"]);
    assert_eq!(world.create("/f"), ["gather 1, with 6 /f"]);
}

#[test]
fn events_during_a_run_make_the_next_batch_whatever_their_path() {
    let mut world = World::of(batch());
    world.create("/a");
    world.create("/b");
    world.pass(2 * SECOND);
    assert_eq!(world.create("/b"), ["gather 1, with 3 /b"]);
    assert_eq!(world.pass(60 * SECOND), NOTHING, "one run at a time");
    assert_eq!(world.create("/c"), ["gather 1, with 4 /c"]);
    assert_eq!(world.complete(1), ["finished 1 /a and 1 more", "start 3 /b IN_CREATE for /b"]);
    assert_eq!(world.pass(2 * SECOND), NOTHING);
    assert_eq!(world.complete(3), ["finished 3 /b", "start 4 /c IN_CREATE for /c"]);
}

#[test]
fn a_cancel_takes_a_path_out_and_no_event_meets_what_runs() {
    let mut world = World::of(batch());
    world.create("/a");
    world.create("/b");
    assert_eq!(world.delete("/a"), ["cancelled 1 /a"]);
    assert_eq!(world.pass(2 * SECOND), ["start 2 /b IN_CREATE for /b"]);
    assert_eq!(world.delete("/b"), NOTHING);
    world.create("/c");
    world.pass(2 * SECOND);
    assert_eq!(world.delete("/c"), ["cancelled 3 /c"], "it is queued");
    assert_eq!(world.complete(2), ["finished 2 /b"]);
    world.create("/d");
    assert_eq!(world.delete("/d"), ["cancelled 4 /d"]);
    assert_eq!(world.engine.deadline(), None, "nothing is gathered any more");
}

#[test]
fn what_one_command_line_cannot_take_is_several_runs_one_after_the_other() {
    let mut world = World::of(batch());
    for path in ["/aaaa", "/bbbb", "/much/too/long", "/c"] {
        world.create(path);
    }
    let split = "4 are too many for one run, 1 /aaaa and 1 more";
    assert_eq!(world.pass(2 * SECOND), [split, "start 1 /aaaa IN_CREATE for /aaaa /bbbb"]);
    // A run that fails does not stop the others.
    let next = "start 3 /much/too/long IN_CREATE for /much/too/long";
    assert_eq!(world.end(1, &error()), ["failed (why) 1 /aaaa and 1 more", next]);
    assert_eq!(world.complete(3), ["finished 3 /much/too/long", "start 4 /c IN_CREATE for /c"]);
    assert_eq!(world.complete(4), ["finished 4 /c"]);
}

#[test]
fn retry_repeats_only_what_failed_together_and_unless_there_is_something_newer() {
    let mut world = World::of(SchedulerSpec { retry: Some(retry()), ..batch() });
    for path in ["/aaaa", "/bbbb", "/cccc", "/dd"] {
        world.create(path);
    }
    world.pass(2 * SECOND);
    let lines = world.end(1, &error());
    assert_eq!(lines[0], "attempt 1 failed (why), again in 10s 1 /aaaa and 1 more");
    assert_eq!(lines[1], "start 3 /cccc IN_CREATE for /cccc /dd");
    // A new event makes a first try again, which is no member of the second try of the other.
    assert_eq!(world.close_write("/dd"), ["gather 1, with 5 /dd"]);
    let lines = world.end(3, &error());
    assert_eq!(lines, ["attempt 1 failed (why), again in 10s 3 /cccc and 1 more"]);
    assert_eq!(world.pass(2 * SECOND), ["start 5 /dd IN_CLOSE_WRITE for /dd"]);
    world.complete(5);
    assert_eq!(world.pass(8 * SECOND).last().unwrap(), "start 1 /aaaa IN_CREATE attempt 2 for /aaaa /bbbb");
    let next = "start 3 /cccc IN_CREATE attempt 2 for /cccc";
    assert_eq!(world.complete(1), ["finished 1 /aaaa and 1 more", next]);
}

#[test]
fn an_event_for_a_path_that_is_to_be_tried_again_gathers_it_but_not_before_the_pause_has_passed() {
    let mut world = World::of(SchedulerSpec { retry: Some(retry()), ..batch() });
    world.create("/a");
    world.create("/b");
    world.pass(2 * SECOND);
    world.end(1, &error());
    assert_eq!(world.close_write("/b"), ["gather 1, with 2 /b"]);
    assert_eq!(world.pass(9 * SECOND), NOTHING);
    // They are due at one time, but not the same try.
    assert_eq!(world.pass(SECOND), ["start 1 /a IN_CREATE attempt 2 for /a"]);
    assert_eq!(world.complete(1), ["finished 1 /a", "start 2 /b IN_CLOSE_WRITE for /b"]);
    assert!(world.delete("/a").is_empty());
}

#[test]
fn a_batch_that_failed_for_good_tells_each_path_once_and_failures_are_a_batch_too() {
    let sender = SchedulerSpec { on_failure: vec![1], ..batch() };
    let mut world = World::new(&[sender, SchedulerSpec { on_failure: vec![1], ..batch() }], map());
    world.create("/a");
    world.create("/b");
    world.pass(2 * SECOND);
    let lines = world.end(1, &error());
    assert_eq!(lines, ["failed (why) 1 /a and 1 more", "gather 1, with 3 /a", "gather 2, with 4 /b"]);
    let told = "start 3 /a IN_CREATE as 1 failed 1 time(s): why for /a (why) /b (why)";
    assert_eq!(world.pass(2 * SECOND), [told]);
    assert_eq!(world.end(3, &error()), ["failed (why) 3 /a and 1 more"], "it goes no further");
    assert!(world.engine.is_idle());
}

#[test]
fn the_timeout_is_of_each_run_and_a_stop_by_the_id_of_any_of_its_tasks_stops_it() {
    let mut world = World::of(SchedulerSpec { timeout: Some(SECOND), ..batch() });
    world.create("/a");
    world.create("/b");
    world.pass(2 * SECOND);
    assert_eq!(world.pass(SECOND), ["stop 1", "failed (timeout after 1 s) 1 /a and 1 more"]);
    world.create("/b");
    assert_eq!(world.pass(2 * SECOND), NOTHING, "its place is taken until it is really over");
    assert_eq!(world.end(1, &Outcome::Cancelled), ["start 3 /b IN_CREATE for /b"]);
    world.complete(3);
    world.create("/c");
    world.create("/d");
    world.pass(2 * SECOND);
    let (id, other) = (world.out.ids[4], world.out.ids[3]);
    assert_eq!(world.engine.of_run(id), [other, id]);
    assert!(world.engine.cancel(world.now, id, &mut world.out));
    assert_eq!(world.lines(), ["stop 4"]);
    assert_eq!(world.end(4, &Outcome::Cancelled), ["ongoing cancelled 4 /c and 1 more"]);
    assert!(world.engine.is_idle());
}

#[test]
fn a_reload_hands_what_is_gathered_over_and_a_run_ends_as_it_began() {
    let mut world = World::of(SchedulerSpec { retry: Some(retry()), ..batch() });
    world.create("/a");
    world.create("/b");
    world.pass(2 * SECOND);
    world.create("/c");
    world.pass(SECOND);
    let spec = SchedulerSpec { retry: Some(retry()), ..batch() };
    let (new, lines) = world.replace(spec, 30 * SECOND);
    assert_eq!(lines, ["pause 0", "wait 30s for 2"]);
    world.ids = new;
    assert_eq!(world.create("/d"), ["gather 2, with 4 /d"]);
    assert_eq!(world.pass(2 * SECOND), NOTHING);
    // What is to be tried again goes on there, too.
    let lines = world.end(1, &error());
    let failed = "attempt 1 failed (why), again in 10s 1 /a and 1 more";
    assert_eq!(lines, [failed, "all completed", "start 3 /c IN_CREATE for /c /d"]);
    world.complete(3);
    assert_eq!(world.pass(10 * SECOND), ["start 1 /a IN_CREATE attempt 2 for /a /b"]);
}

#[test]
fn at_a_shutdown_what_is_gathered_has_its_time_and_then_is_not_done() {
    let mut world = World::of(batch());
    world.create("/a");
    world.create("/b");
    assert_eq!(world.shutdown(), ["wait 30s for 2"]);
    assert_eq!(world.create("/b"), ["cancelled 2 /b"]);
    assert_eq!(world.pass(2 * SECOND), ["start 1 /a IN_CREATE for /a"]);
    assert_eq!(world.complete(1), ["finished 1 /a", "all completed"]);
    let mut world = World::of(batch());
    world.create("/a");
    world.create("/b");
    world.pass(2 * SECOND);
    world.create("/c");
    world.engine.end_now(world.now, &mut world.out);
    assert_eq!(world.lines(), ["timeout, cancel 3", "stop 1", "not done 3 /c"]);
    assert_eq!(world.end(1, &Outcome::Cancelled), ["ongoing cancelled 1 /a and 1 more"]);
    assert!(world.engine.is_idle());
}

#[test]
fn a_paused_batch_goes_on_gathering_and_one_path_of_it_can_run_now() {
    let mut world = World::of(batch());
    let scheduler = world.ids.scheduler(0);
    world.create("/a");
    world.create("/b");
    world.engine.run_now(world.now, world.out.ids[1], &mut world.out).unwrap();
    assert_eq!(world.lines(), ["start 2 /b IN_CREATE for /b"]);
    world.complete(2);
    world.engine.pause(world.now, scheduler, &mut world.out);
    assert_eq!(world.pass(60 * SECOND), NOTHING);
    world.create("/c");
    assert_eq!(world.pass(60 * SECOND), NOTHING);
    world.engine.resume(world.now, scheduler, &mut world.out);
    assert_eq!(world.lines(), ["start 1 /a IN_CREATE for /a /c"]);
}

#[test]
fn commands_with_a_batch_take_one_of_the_places_that_all_commands_have() {
    let batch = SchedulerSpec { kind: SchedulerKind::Command, ..batch() };
    let other = SchedulerSpec { kind: SchedulerKind::Command, ..scheduler(Duration::ZERO) };
    let mut world = World::new(&[batch, other], map_with(Flag::Open, &[Reaction::Schedule(1)]));
    world.engine.limit_commands(world.now, NonZeroU32::new(1), &mut world.out);
    world.event(&event(Flag::Open, "/x"));
    world.create("/a");
    world.create("/b");
    assert_eq!(world.pass(2 * SECOND), NOTHING);
    world.event(&event(Flag::Open, "/y"));
    assert_eq!(world.complete(1), ["finished 1 /x", "start 2 /a IN_CREATE for /a /b"]);
    assert_eq!(world.complete(2), ["finished 2 /a and 1 more", "start 4 /y IN_OPEN"]);
}

#[test]
fn waiting_members_are_listed_and_follow_their_directory() {
    let mut world = renaming(batch());
    world.create("/d/a");
    world.create("/d/b");
    let mut seen = Vec::new();
    world.engine.visit(0, 10, |task| seen.push(task.doing));
    let due = Some(world.now + 2 * SECOND);
    assert_eq!(seen, [Doing::Gathered(due), Doing::Gathered(due)]);
    assert_eq!(rename(&mut world, "/d", Some("/e")), ["followed 1 /e/a", "followed 2 /e/b"]);
    assert_eq!(world.pass(2 * SECOND), ["start 1 /e/a IN_CREATE for /e/a /e/b"]);
    seen.clear();
    let mut runs = Vec::new();
    world.engine.visit(0, 10, |task| {
        seen.push(task.doing);
        runs.push(task.handle);
    });
    let since = Some(world.now);
    assert_eq!(seen, [Doing::Running(since), Doing::Running(since)]);
    assert_eq!(runs, [world.out.handles[0].1; 2], "both have the same run");
    assert_eq!(rename(&mut world, "/e", Some("/f")), NOTHING, "what runs keeps its path");
}

#[test]
fn a_batch_is_tried_again_at_the_new_paths_of_what_was_renamed_during_its_run() {
    let mut world = renaming(SchedulerSpec { retry: Some(retry()), ..batch() });
    for path in ["/d/a", "/e/f", "/g"] {
        world.create(path);
    }
    assert_eq!(world.pass(2 * SECOND), ["start 1 /d/a IN_CREATE for /d/a /e/f /g"]);
    assert_eq!(rename(&mut world, "/d", Some("/c")), NOTHING);
    assert_eq!(rename(&mut world, "/e", Some("/e.tmp")), ["excluded /e.tmp/f"]);
    let failed =
        ["attempt 1 failed (why), again in 10s 1 /d/a and 2 more", "followed 1 /c/a", "cancelled 2 /e/f"];
    assert_eq!(world.end(1, &error()), failed);
    assert_eq!(world.pass(10 * SECOND), ["start 1 /c/a IN_CREATE attempt 2 for /c/a /g"]);
}

#[test]
fn what_an_earlier_life_left_is_gathered_again() {
    let mut world = World::of(batch());
    for path in ["/a", "/b"] {
        let id = TaskId(u128::from(path.as_bytes()[1]));
        let (scheduler, map) = (world.ids.scheduler(0), Some(world.ids.map(0)));
        let event = event(Flag::Create, path);
        let task = Restored { scheduler, map, ..restored(id, event, world.now) };
        assert!(world.engine.restore(world.now, &task, &mut world.out));
    }
    world.create("/c");
    assert_eq!(world.pass(2 * SECOND), ["start 2 /a IN_CREATE for /a /b /c"]);
}

#[test]
fn what_is_run_again_is_not_gathered_and_runs_together() {
    let mut world = World::of(batch());
    for path in ["/a", "/b"] {
        let id = TaskId(u128::from(path.as_bytes()[1]));
        let task = Restored { is_kept: false, ..restored(id, event(Flag::Create, path), world.now) };
        assert!(world.engine.restore(world.now, &task, &mut world.out));
    }
    world.create("/c");
    assert_eq!(world.pass(Duration::ZERO), ["start 2 /a IN_CREATE for /a /b"]);
}

// on_failure.

#[test]
fn what_failed_for_good_is_told_once_whatever_the_receiver_does_with_events() {
    let receiver = SchedulerSpec { files: false, ..scheduler(DELAY) };
    let sender = SchedulerSpec { on_failure: vec![1], ..tried_again(Retry { times: Some(1), ..retry() }) };
    let mut world = World::new(&[sender, receiver], map_with(Flag::Open, &[Reaction::Schedule(1)]));
    world.create("/f");
    world.end(1, &error());
    world.pass(10 * SECOND);
    let told = ["failed (why) 1 /f", "start 2 /f IN_CREATE as 1 failed 2 time(s): why"];
    assert_eq!(world.end(1, &error()), told);
    // The same path may fail again meanwhile.
    assert_eq!(world.create("/f"), ["start 3 /f IN_CREATE"]);
    world.end(3, &error());
    world.pass(10 * SECOND);
    assert_eq!(world.end(3, &error()).len(), 2);
    assert_eq!(world.complete(2), ["finished 2 /f"]);
}

#[test]
fn what_tells_of_a_failure_has_retries_and_places_and_goes_no_further() {
    let one = NonZeroU32::new(1);
    // What failed is no file that might have to settle, at any try.
    let settle = Some(Settle { check: SECOND, give_up: 3 * SECOND, anew: Duration::ZERO });
    let receiver = SchedulerSpec { max_jobs: one, on_failure: vec![1], settle, ..tried_again(retry()) };
    let sender = SchedulerSpec { on_failure: vec![1], ..scheduler(Duration::ZERO) };
    let mut world = World::new(&[sender, receiver], map());
    world.create("/f");
    world.create("/g");
    world.end(1, &error());
    assert_eq!(world.end(2, &error()), ["failed (why) 2 /g", "all 1 places taken"]);
    let lines = world.end(3, &error());
    let next = "start 4 /g IN_CREATE as 2 failed 1 time(s): why";
    assert_eq!(lines, ["attempt 1 failed (why), again in 10s 3 /f", next]);
    world.complete(4);
    assert_eq!(world.pass(10 * SECOND), ["start 3 /f IN_CREATE attempt 2 as 1 failed 1 time(s): why"]);
    let failure = Failure { is_final: true, ..Failure::new(FailureKind::Error, "why") };
    assert_eq!(world.end(3, &Outcome::Failed(failure)), ["failed (why) 3 /f"]);
    assert!(world.engine.is_idle());
}

#[test]
fn a_long_error_is_cut_and_has_no_nul() {
    let sender = SchedulerSpec { on_failure: vec![0], ..scheduler(Duration::ZERO) };
    let mut world = World::of(sender);
    world.create("/f");
    let text = format!("a\0{}", "\u{e9}".repeat(5_000));
    let lines = world.end(1, &Outcome::Failed(Failure::new(FailureKind::Error, text)));
    let told = lines[1].split(": ").nth(1).unwrap();
    assert!(told.len() <= engine::ERROR_MAX && told.len() > engine::ERROR_MAX - 4, "{}", told.len());
    assert!(told.starts_with("a\u{fffd}\u{e9}"));
}

// max_delay.

#[test]
fn events_put_a_task_off_until_max_delay_after_the_first() {
    let mut world = World::of(SchedulerSpec { max_delay: Some(25 * SECOND), ..scheduler(DELAY) });
    world.create("/f");
    for _ in 0..3 {
        assert_eq!(world.pass(8 * SECOND), NOTHING);
        world.close_write("/f");
    }
    assert_eq!(world.pass(SECOND), ["start 1 /f IN_CLOSE_WRITE"]);
    world.complete(1);
    world.create("/f");
    assert_eq!(world.pass(9 * SECOND), NOTHING, "the next one has all its time");
    assert_eq!(world.pass(SECOND), ["start 2 /f IN_CREATE"]);
}

/// A task of an earlier life of the daemon.
fn restored(id: TaskId, event: Event<'_>, due: Instant) -> Restored<'_> {
    Restored {
        id,
        scheduler: SchedulerId(0),
        map: Some(MapId(0)),
        event,
        due,
        attempt: 1,
        reason: "",
        waits: Waits::default(),
        failed: None,
        is_kept: true,
    }
}

/// Restores a task that waits since then.
fn restore_waiting(world: &mut World, path: &str, due: Duration, waits: Waits) {
    let restored = Restored {
        waits,
        ..restored(TaskId(u128::from(path.as_bytes()[1])), event(Flag::Create, path), world.now + due)
    };
    assert!(world.engine.restore(world.now, &restored, &mut world.out));
}

#[test]
fn what_an_earlier_life_waited_counts() {
    let ago = |world: &World, seconds| world.now.checked_sub(seconds * SECOND);
    let mut world = World::of(SchedulerSpec { max_delay: Some(25 * SECOND), ..scheduler(DELAY) });
    let waits = Waits { first: ago(&world, 20), ..Waits::default() };
    restore_waiting(&mut world, "/f", 2 * SECOND, waits);
    world.pass(SECOND);
    world.close_write("/f");
    assert_eq!(world.pass(3 * SECOND), NOTHING);
    assert_eq!(world.pass(SECOND), ["start 1 /f IN_CLOSE_WRITE"], "25 s after its first event");

    let mut world = World::of(batch());
    for (path, since) in [("/a", 9), ("/b", 3)] {
        let waits = Waits { first: ago(&world, since), ..Waits::default() };
        restore_waiting(&mut world, path, Duration::ZERO, waits);
    }
    assert_eq!(world.pass(SECOND), ["start 1 /a IN_CREATE for /a /b"], "10 s after the first one");

    let mut world = World::of(settling());
    let waits = Waits { due: ago(&world, 3), ..Waits::default() };
    restore_waiting(&mut world, "/f", Duration::ZERO, waits);
    assert_eq!(world.pass(Duration::ZERO), ["ask 1 /f"]);
    assert_eq!(
        answer(&mut world, Settled::No("it grows")),
        ["failed (did not settle in 3 s: it grows) 1 /f"]
    );
}

#[test]
fn since_when_a_task_waits_is_told() {
    let mut world = World::of(SchedulerSpec { max_delay: Some(25 * SECOND), ..scheduler(DELAY) });
    let (made, first) = (world.now.checked_sub(9 * SECOND), world.now.checked_sub(8 * SECOND));
    let waits = Waits { made, first, due: None };
    restore_waiting(&mut world, "/f", SECOND, waits);
    world.create("/g");
    let mut seen = Vec::new();
    world.engine.visit(0, 10, |task| seen.push(task.waits));
    let now = Some(world.now);
    assert_eq!(seen, [waits, Waits { made: now, first: now, due: None }]);
}

// on_busy.

#[test]
fn with_rerun_an_event_of_a_running_task_is_acted_on_after_the_delay() {
    let mut world = World::of(SchedulerSpec { on_busy: OnBusy::Rerun, ..scheduler(DELAY) });
    world.create("/f");
    world.pass(DELAY);
    assert_eq!(world.close_write("/f"), ["remember 1 /f"]);
    assert_eq!(world.close_write("/f"), ["remember 1 /f"]);
    assert_eq!(world.complete(1), ["finished 1 /f", "schedule 10s 1 /f"]);
    assert_eq!(world.pass(DELAY), ["start 1 /f IN_CLOSE_WRITE"]);
    world.close_write("/f");
    assert_eq!(world.delete("/f"), ["skip 1 /f"]);
    assert_eq!(world.complete(1), ["finished 1 /f"]);
    assert!(world.engine.is_idle());
}

#[test]
fn a_rerun_takes_the_place_of_a_retry_which_is_no_failure_then() {
    let on_busy = OnBusy::Rerun;
    let spec =
        SchedulerSpec { on_busy, on_failure: vec![1], ..tried_again(Retry { times: Some(1), ..retry() }) };
    let mut world = World::new(&[spec, scheduler(Duration::ZERO)], map());
    world.create("/f");
    world.close_write("/f");
    let replaced = ["attempt 1 failed (why), again for an event 1 /f", "start 1 /f IN_CLOSE_WRITE"];
    assert_eq!(world.end(1, &error()), replaced);
    // One that is final is told all the same.
    world.close_write("/f");
    let failure = Failure { is_final: true, ..Failure::new(FailureKind::Error, "why") };
    let lines = world.end(1, &Outcome::Failed(failure));
    let told = ["failed (why) 1 /f", "start 1 /f IN_CLOSE_WRITE"];
    assert_eq!(lines[..2], told);
    assert_eq!(lines[2], "start 2 /f IN_CLOSE_WRITE as 1 failed 1 time(s): why");
}

#[test]
fn ten_reruns_in_a_row_without_a_pause_are_told() {
    let mut world = World::of(SchedulerSpec { on_busy: OnBusy::Rerun, ..scheduler(Duration::ZERO) });
    world.create("/f");
    let mut told = Vec::new();
    for _ in 0..12 {
        world.close_write("/f");
        told.extend(world.complete(1).into_iter().filter(|line| line.contains("reruns")));
    }
    assert_eq!(told, ["10 reruns of 1 /f"]);
}

#[test]
fn with_restart_an_event_stops_the_running_task_which_starts_anew_when_it_has_ended() {
    let mut world = World::of(SchedulerSpec { on_busy: OnBusy::Restart, ..scheduler(DELAY) });
    world.create("/f");
    world.pass(DELAY);
    assert_eq!(world.close_write("/f"), ["restart 1 /f", "stop 1"]);
    assert_eq!(world.close_write("/f"), ["restart 1 /f"], "it is told to stop once");
    let anew = ["ongoing cancelled 1 /f", "start 1 /f IN_CLOSE_WRITE"];
    assert_eq!(world.end(1, &Outcome::Cancelled), anew);
    world.close_write("/f");
    assert_eq!(world.delete("/f"), ["skip 1 /f"]);
    assert_eq!(world.end(1, &Outcome::Cancelled), ["ongoing cancelled 1 /f"]);
    assert!(world.engine.is_idle());
}

#[test]
fn with_singlejob_a_rerun_for_another_path_leaves_the_run_its_own() {
    let spec = SchedulerSpec { on_busy: OnBusy::Rerun, singlejob: true, ..scheduler(Duration::ZERO) };
    let mut world = World::of(spec);
    world.create("/a");
    assert_eq!(world.close_write("/b"), ["remember 1 /b"]);
    assert_eq!(world.complete(1), ["finished 1 /a", "start 1 /b IN_CLOSE_WRITE"]);
    assert_eq!(world.complete(1), ["finished 1 /b"]);
}

#[test]
fn an_event_for_a_queued_task_keeps_its_place_and_a_cancel_takes_it_out() {
    let mut world = World::of(SchedulerSpec { max_jobs: NonZeroU32::new(1), ..scheduler(DELAY) });
    for file in ["/a", "/b", "/c"] {
        world.create(file);
    }
    world.pass(DELAY);
    assert_eq!(world.close_write("/b"), ["re-schedule 10s 2 /b"]);
    assert_eq!(world.delete("/c"), ["cancelled 3 /c"]);
    assert_eq!(world.complete(1), ["finished 1 /a", "start 2 /b IN_CLOSE_WRITE"]);
}

// Rates and places.

#[test]
fn not_more_than_the_rate_starts_in_any_span() {
    let rate = Rate { starts: NonZeroU32::new(2).unwrap(), span: 10 * SECOND };
    let mut world = World::of(SchedulerSpec { max_rate: Some(rate), ..scheduler(Duration::ZERO) });
    world.create("/a");
    world.pass(4 * SECOND);
    world.create("/b");
    assert_eq!(world.create("/c"), ["rate used"]);
    assert_eq!(world.create("/d"), NOTHING);
    assert_eq!(world.complete(1), ["finished 1 /a"], "it is not places that are missing");
    assert_eq!(world.pass(6 * SECOND), ["start 3 /c IN_CREATE"]);
    assert_eq!(world.pass(3 * SECOND), NOTHING);
    assert_eq!(world.pass(SECOND), ["start 4 /d IN_CREATE"]);
}

#[test]
fn a_start_that_was_none_is_not_counted_and_the_others_are() {
    let rate = Rate { starts: NonZeroU32::new(2).unwrap(), span: 10 * SECOND };
    let mut world = World::of(SchedulerSpec { max_rate: Some(rate), ..scheduler(Duration::ZERO) });
    world.create("/a");
    world.pass(SECOND);
    world.create("/b");
    world.room(0);
    assert_eq!(world.end(1, &Outcome::NotBegun), NOTHING);
    assert_eq!(world.room(9), ["start 1 /a IN_CREATE"]);
    world.create("/c");
    assert_eq!(world.pass(9 * SECOND), NOTHING, "both started a second after the first");
    assert_eq!(world.pass(SECOND), ["start 3 /c IN_CREATE"]);
}

#[test]
fn a_reload_does_not_begin_the_rate_anew() {
    let rate = Rate { starts: NonZeroU32::new(2).unwrap(), span: 10 * SECOND };
    let spec = SchedulerSpec { max_rate: Some(rate), ..scheduler(Duration::ZERO) };
    let mut world = World::of(spec.clone());
    world.create("/a");
    world.complete(1);
    world.pass(4 * SECOND);
    world.create("/b");
    world.complete(2);
    let (new, _) = world.replace(spec, 30 * SECOND);
    world.ids = new;
    assert_eq!(world.create("/c"), ["rate used"]);
    assert_eq!(world.create("/d"), NOTHING);
    assert_eq!(world.pass(6 * SECOND), ["start 3 /c IN_CREATE"]);
    assert_eq!(world.pass(4 * SECOND), ["start 4 /d IN_CREATE"]);
}

#[test]
fn a_retry_that_a_shutdown_gives_up_was_the_last_that_a_replaced_configuration_waited_for() {
    let mut world = World::of(tried_again(retry()));
    world.create("/f");
    let (new, lines) = world.replace(tried_again(retry()), 30 * SECOND);
    assert_eq!(lines, ["pause 0", "wait 30s for 1"]);
    world.ids = new;
    world.create("/g");
    let (_, lines) = world.reload_other(30 * SECOND);
    assert_eq!(lines, ["pause 1", "wait 30s for 1"]);
    // The newest one of the name is not in force either; what is to come goes on there all the same.
    world.end(1, &error());
    assert_eq!(world.complete(2), ["finished 2 /g"]);
    assert_eq!(world.shutdown(), ["not done, Retry, 1 /f", "all completed"]);
    assert!(world.engine.is_idle());
}

#[test]
fn commands_of_all_schedulers_have_their_places_in_common() {
    let command = SchedulerSpec { kind: SchedulerKind::Command, ..scheduler(Duration::ZERO) };
    let job = scheduler(Duration::ZERO);
    let reactions = [Reaction::Schedule(0), Reaction::Schedule(1), Reaction::Schedule(2)];
    let mut world = World::new(&[command.clone(), command, job], map_with(Flag::Create, &reactions));
    world.engine.limit_commands(world.now, NonZeroU32::new(2), &mut world.out);
    let both = ["start 1 /a IN_CREATE", "start 2 /a IN_CREATE", "start 3 /a IN_CREATE"];
    let mut lines = world.create("/a");
    lines.sort();
    assert_eq!(lines, both);
    world.pass(SECOND);
    assert_eq!(world.create("/b"), ["start 4 /b IN_CREATE"], "jobs have their own");
    world.pass(SECOND);
    world.create("/c");
    let (first, second) = (world.ids.scheduler(0), world.ids.scheduler(1));
    let queued = |world: &World, id| {
        world.engine.scheduler_stats().find(|stats| stats.scheduler == id).unwrap().queued
    };
    assert_eq!((queued(&world, first), queued(&world, second)), (2, 2));
    // The one that has waited for longest comes first, whatever its scheduler.
    let of = |world: &mut World, id| world.end(id, &Outcome::Done).pop().unwrap();
    assert!(of(&mut world, 2).contains("/b"));
    assert!(of(&mut world, 3).contains("/b"));
    world.engine.limit_commands(world.now, None, &mut world.out);
    assert_eq!(world.lines().iter().filter(|line| line.contains("/c")).count(), 2);
}

// Settling.

fn settling() -> SchedulerSpec {
    let settle = Some(Settle { check: SECOND, give_up: 3 * SECOND, anew: Duration::ZERO });
    SchedulerSpec { settle, ..scheduler(Duration::ZERO) }
}

fn answer(world: &mut World, answer: Settled<'_>) -> Vec<String> {
    let handle = *world.out.questions.last().expect("something was asked");
    world.engine.settled(world.now, handle, answer, &mut world.out);
    world.lines()
}

#[test]
fn a_task_that_is_due_waits_until_its_file_has_settled() {
    let mut world = World::of(SchedulerSpec { max_jobs: NonZeroU32::new(1), ..settling() });
    assert_eq!(world.create("/f"), ["ask 1 /f"]);
    assert_eq!(answer(&mut world, Settled::No("it grows")), ["unsettled (it grows) 1 /f"]);
    let mut reason = String::new();
    world.engine.visit(0, 1, |task| task.reason.clone_into(&mut reason));
    assert_eq!(reason, "it grows");
    // It holds no place.
    world.create("/g");
    assert_eq!(answer(&mut world, Settled::Yes), ["start 2 /g IN_CREATE"]);
    assert_eq!(world.pass(SECOND), ["ask 1 /f"]);
    assert_eq!(answer(&mut world, Settled::Yes), ["all 1 places taken"]);
    assert_eq!(world.complete(2), ["finished 2 /g", "start 1 /f IN_CREATE"]);
}

#[test]
fn a_task_whose_file_does_not_settle_fails_for_good() {
    let spec = SchedulerSpec { retry: Some(retry()), on_failure: vec![1], ..settling() };
    let mut world = World::new(&[spec, scheduler(Duration::ZERO)], map());
    world.create("/f");
    for _ in 0..3 {
        answer(&mut world, Settled::No("it grows"));
        world.pass(SECOND);
    }
    let why = "did not settle in 3 s: it grows";
    let told = format!("start 2 /f IN_CREATE as 1 failed 0 time(s): {why}");
    assert_eq!(answer(&mut world, Settled::No("it grows")), [format!("failed ({why}) 1 /f"), told]);
}

#[test]
fn a_path_that_vanished_gets_what_a_deletion_gives_it_or_is_dropped() {
    let mut world = World::of(settling());
    world.create("/f");
    assert_eq!(answer(&mut world, Settled::Vanished), ["cancelled 1 /f"]);
    let mut world = World::new(&[settling()], map_with(Flag::Delete, &[]));
    world.create("/f");
    assert_eq!(answer(&mut world, Settled::Vanished), ["vanished 1 /f"]);
    let mut world = World::new(&[settling()], map_with(Flag::Delete, &[Reaction::Schedule(0)]));
    world.create("/f");
    assert_eq!(answer(&mut world, Settled::Vanished), ["re-schedule 0ns 1 /f"]);
    assert_eq!(world.pass(Duration::ZERO), ["start 1 /f IN_DELETE"]);
}

#[test]
fn an_event_for_a_task_that_is_asked_about_makes_the_answer_late() {
    let mut world = World::of(SchedulerSpec { delay: DELAY, ..settling() });
    world.create("/f");
    world.pass(DELAY);
    assert_eq!(world.close_write("/f"), ["re-schedule 10s 1 /f"]);
    assert_eq!(answer(&mut world, Settled::Yes), NOTHING);
    assert_eq!(world.pass(DELAY), ["ask 1 /f"]);
    assert_eq!(answer(&mut world, Settled::Yes), ["start 1 /f IN_CLOSE_WRITE"]);
}

#[test]
fn a_question_is_asked_anew_where_the_directory_went() {
    for exchanged in [false, true] {
        let mut world = renaming(settling());
        assert_eq!(world.create("/in/new/f"), ["ask 1 /in/new/f"]);
        let from = if exchanged {
            world.engine.set_aside(world.now, world.ids.map(0), b"/in/new", b"\0/1", &mut world.out);
            "\0/1"
        } else {
            "/in/new"
        };
        rename(&mut world, from, Some("/in/other"));
        assert_eq!(answer(&mut world, Settled::Vanished), NOTHING, "it is about the old path");
        assert_eq!(world.pass(Duration::ZERO), ["ask 1 /in/other/f"]);
        assert_eq!(answer(&mut world, Settled::Yes), ["start 1 /in/other/f IN_CREATE"]);
    }
}

#[test]
fn directories_settle_at_once() {
    let mut world = World::of(SchedulerSpec { dirs: true, ..settling() });
    assert_eq!(world.event(&dir_event(Flag::Create, "/d")), ["start 1 /d IN_CREATE|IN_ISDIR"]);
}

// What people ask for.

#[test]
fn a_paused_scheduler_lets_delays_run_out_and_starts_nothing() {
    let mut world = World::of(scheduler(DELAY));
    let id = world.ids.scheduler(0);
    world.create("/f");
    world.engine.pause(world.now, id, &mut world.out);
    assert_eq!(world.pass(DELAY), NOTHING);
    let stats = world.engine.scheduler_stats().next().unwrap();
    assert_eq!((stats.queued, stats.paused), (1, true));
    world.create("/g");
    assert_eq!(world.delete("/g"), ["cancelled 2 /g"]);
    world.engine.resume(world.now, id, &mut world.out);
    assert_eq!(world.lines(), ["start 1 /f IN_CREATE"]);
}

#[test]
fn a_start_tells_how_long_its_task_was_due() {
    let mut world = World::of(SchedulerSpec {
        max_jobs: NonZeroU32::new(1),
        on_busy: OnBusy::Rerun,
        ..scheduler(Duration::ZERO)
    });
    world.create("/a");
    world.create("/b");
    world.pass(3 * SECOND);
    world.create("/a");
    world.pass(4 * SECOND);
    world.complete(1);
    assert_eq!(world.out.late, [Duration::ZERO, 7 * SECOND], "/b has waited for its place since it came");
    world.complete(2);
    assert_eq!(world.out.late[2], Duration::ZERO, "what runs again is due when its run has ended");
}

#[test]
fn tasks_that_are_tried_again_are_counted_apart() {
    let mut world = World::of(SchedulerSpec { retry: Some(retry()), ..scheduler(Duration::ZERO) });
    world.create("/a");
    world.end(1, &Outcome::Failed(Failure::new(FailureKind::Error, "x")));
    let stats = world.engine.scheduler_stats().next().unwrap();
    assert_eq!((stats.waiting, stats.retrying, stats.queued, stats.running), (0, 1, 0, 0));
}

#[test]
fn tasks_are_found_by_the_beginning_of_their_id_run_now_and_cancelled() {
    let mut world = World::of(SchedulerSpec { on_busy: OnBusy::Rerun, ..scheduler(DELAY) });
    for file in ["/a", "/b", "/c"] {
        world.create(file);
    }
    let ids = world.out.ids.clone();
    let text = ids[1].to_string();
    assert_eq!(text.split('-').map(str::len).collect::<Vec<_>>(), [8, 4, 4, 4, 12]);
    assert_eq!((&text[14..15], "89ab".contains(&text[19..20])), ("4", true), "a UUID of version 4: {text}");
    let find = |world: &World, text: &str| IdPrefix::parse(text).map(|prefix| world.engine.find(&prefix));
    assert_eq!(find(&world, &text), Some(Found::One(ids[1])));
    assert_eq!(find(&world, &text[..13]), Some(Found::One(ids[1])));
    assert_eq!(find(&world, &text[..3]), None, "too short");
    assert_eq!(find(&world, "not hexadecimal"), None);
    let other = if text.starts_with('0') { "1" } else { "0" };
    assert_eq!(find(&world, &format!("{other}{}", &text[1..])), Some(Found::None));

    world.engine.run_now(world.now, ids[1], &mut world.out).unwrap();
    assert_eq!(world.lines(), ["start 2 /b IN_CREATE"]);
    let again = world.engine.run_now(world.now, ids[1], &mut world.out);
    assert_eq!(again, Err(NotRun::NotToCome), "it runs already");
    assert!(world.engine.cancel(world.now, ids[0], &mut world.out));
    assert_eq!(world.lines(), ["cancelled 1 /a"]);
    assert!(
        world.out.ends[0].starts_with("/a cancelled by Id, 0 attempt(s), 0ns of "),
        "{:?}",
        world.out.ends
    );
    assert!(!world.engine.cancel(world.now, ids[0], &mut world.out));
    world.close_write("/b");
    assert!(world.engine.cancel(world.now, ids[1], &mut world.out));
    assert_eq!(world.lines(), ["stop 2"]);
    assert_eq!(world.end(2, &Outcome::Cancelled), ["ongoing cancelled 2 /b"], "and not again");
}

#[test]
fn what_is_due_and_has_not_started_is_held_back() {
    let mut world = World::of(SchedulerSpec { max_jobs: NonZeroU32::new(1), ..scheduler(Duration::ZERO) });
    let id = |number| TaskId(number);
    for (number, path) in [(1, "/a"), (2, "/b"), (3, "/c")] {
        let task = restored(id(number), event(Flag::Create, path), world.now);
        assert!(world.engine.restore(world.now, &task, &mut world.out));
    }
    world.engine.start_due(world.now, id(1), &mut world.out);
    let held_back = |world: &World| [1, 2, 3].map(|number| world.engine.is_held_back(id(number)));
    // Nobody offers a place to the others yet.
    assert_eq!(held_back(&world), [false, true, true]);
    world.engine.start_due(world.now, id(2), &mut world.out);
    assert_eq!(held_back(&world), [false, true, true]);
}

#[test]
fn a_task_of_an_earlier_life_has_its_id_its_time_and_its_attempt() {
    let rules: Arc<dyn Matcher> = Arc::new(Ends(&["a", "f"]));
    let mut world = World::of(SchedulerSpec { rules: Some(rules), ..tried_again(retry()) });
    let id = TaskId(0xfeed_beef_0000_4000_8000_0000_0000_0001);
    let restored = |path, id, attempt| Restored {
        attempt,
        ..restored(id, event(Flag::CloseWrite, path), Instant::now() + 3 * SECOND)
    };
    assert!(world.engine.restore(world.now, &restored("/f", id, 2), &mut world.out));
    assert!(!world.engine.restore(world.now, &restored("/g", id, 2), &mut world.out), "the id is taken");
    assert!(
        !world.engine.restore(world.now, &restored("/f", TaskId(7), 1), &mut world.out),
        "so is the path"
    );
    assert!(world.engine.restore(world.now, &restored("/x", TaskId(8), 1), &mut world.out));
    assert_eq!(world.engine.find(&IdPrefix::parse("feedbeef").unwrap()), Found::One(id));
    let lines = world.pass(4 * SECOND);
    assert!(lines.contains(&"start 1 /f IN_CLOSE_WRITE rule 1 attempt 2".to_owned()), "{lines:?}");
    assert!(lines.contains(&"no rule".to_owned()), "the rules are asked when it starts: {lines:?}");
    assert!(world.out.ends[0].starts_with("/x no rule, 0 attempt(s), 0ns of "), "{:?}", world.out.ends);
    assert!(world.engine.restore(world.now, &restored("/f?", TaskId(9), 1), &mut world.out));
    let ran = world.engine.run_now(world.now, TaskId(9), &mut world.out);
    assert_eq!(ran, Err(NotRun::NoRule(NoRule::StepLimit)));
    assert_eq!(std::mem::take(&mut world.out.lines), ["rule step limit", "cancelled 3 /f?"]);
    let end = &world.out.ends[1];
    assert!(end.starts_with("/f? rule step limit, 0 attempt(s), 0ns of "), "{end}");
    assert_eq!(world.out.ids[0], id);
    assert_eq!(world.end(1, &error()), ["attempt 2 failed (why), again in 20s 1 /f"]);
}

// Arguments together.

#[test]
fn a_rate_that_has_passed_wakes_nobody_while_all_commands_have_no_place() {
    let rate = Rate { starts: NonZeroU32::MIN, span: SECOND };
    let command = SchedulerSpec { kind: SchedulerKind::Command, ..scheduler(Duration::ZERO) };
    let limited = SchedulerSpec { max_rate: Some(rate), name: "limited".to_owned(), ..command.clone() };
    let map = map_with(Flag::CloseWrite, &[Reaction::Schedule(1)]);
    let mut world = World::new(&[limited, command], map);
    world.engine.limit_commands(world.now, NonZeroU32::new(1), &mut world.out);
    world.create("/a");
    world.pass(SECOND);
    world.complete(1);
    world.close_write("/b");
    assert_eq!(world.create("/c"), NOTHING);
    assert_eq!(world.pass(10 * SECOND), NOTHING);
    assert_eq!(world.engine.deadline(), None);
    assert_eq!(world.complete(2), ["finished 2 /b", "start 3 /c IN_CREATE"]);
}

/// `/f` has run for too long, is to be tried again, and has not ended yet.
fn overdue(spec: SchedulerSpec) -> World {
    let spec = SchedulerSpec { timeout: Some(SECOND), retry: Some(retry()), ..spec };
    let mut world = World::of(spec);
    world.create("/f");
    let lines = world.pass(SECOND);
    assert_eq!(lines, ["stop 1", "attempt 1 failed (timeout after 1 s), again in 10s 1 /f"]);
    world
}

#[test]
fn a_task_whose_time_was_over_can_be_cancelled_before_it_has_ended() {
    let mut world = overdue(scheduler(Duration::ZERO));
    assert_eq!(world.delete("/f"), ["cancelled 1 /f"]);
    assert_eq!(world.delete("/f"), ["skip 1 /f"]);
    assert_eq!(world.end(1, &error()), NOTHING);
    assert!(world.engine.is_idle());

    let mut world = overdue(scheduler(Duration::ZERO));
    let id = world.out.ids[0];
    assert!(world.engine.cancel(world.now, id, &mut world.out));
    assert_eq!(world.lines(), ["cancelled 1 /f"]);
    assert_eq!(world.end(1, &error()), NOTHING);
    assert!(world.engine.is_idle());
}

#[test]
fn what_has_failed_and_not_ended_is_not_tried_again_when_its_configuration_or_the_daemon_ends() {
    let mut world = overdue(scheduler(Duration::ZERO));
    assert_eq!(world.shutdown(), ["not done, Retry, 1 /f"]);
    assert_eq!(world.end(1, &error()), NOTHING);
    assert!(world.engine.is_idle());

    let mut world = overdue(scheduler(Duration::ZERO));
    assert_eq!(world.reload_other(SECOND).1, ["pause 0", "not done, Retry, 1 /f"]);
    world.end(1, &error());
    assert!(world.engine.is_idle());

    for timeout in [Duration::ZERO, SECOND] {
        let mut world = overdue(scheduler(Duration::ZERO));
        world.ids = world.replace(tried_again(retry()), timeout).0;
        world.end(1, &error());
        assert_eq!(world.pass(10 * SECOND), ["start 1 /f IN_CREATE attempt 2"]);
    }
}

#[test]
fn an_event_is_acted_on_though_the_job_that_it_came_upon_cancels_itself() {
    let mut world = World::of(SchedulerSpec { on_busy: OnBusy::Rerun, ..scheduler(Duration::ZERO) });
    world.create("/f");
    world.close_write("/f");
    let lines = world.end(1, &Outcome::Cancelled);
    assert_eq!(lines, ["ongoing cancelled 1 /f", "start 1 /f IN_CLOSE_WRITE"]);
}

#[test]
fn reruns_are_in_a_row_only_without_a_pause_between_them() {
    let spec = SchedulerSpec { on_busy: OnBusy::Rerun, ..tried_again(retry()) };
    let mut world = World::of(spec);
    world.create("/f");
    for _ in 0..2 {
        for _ in 0..9 {
            world.close_write("/f");
            assert_eq!(world.complete(1), ["finished 1 /f", "start 1 /f IN_CLOSE_WRITE"]);
        }
        world.end(1, &error());
        world.pass(10 * SECOND);
    }
}

#[test]
fn a_pause_of_nothing_never_grows() {
    let retry = Retry { times: None, delay: Duration::ZERO, factor: 10.0, ..retry() };
    let mut world = World::of(tried_again(retry));
    world.create("/f");
    for attempt in 1..400 {
        let lines = world.end(1, &error());
        assert_eq!(lines, [format!("attempt {attempt} failed (why), again in 0ns 1 /f")]);
        world.pass(Duration::ZERO);
    }
}

#[test]
fn a_task_that_is_tried_again_says_why() {
    let reasons = |world: &World| {
        let mut reasons = Vec::new();
        world.engine.visit(0, 10, |task| reasons.push((task.attempt, task.reason.to_owned())));
        reasons
    };
    let mut world = World::of(tried_again(retry()));
    world.create("/f");
    assert_eq!(reasons(&world), [(1, String::new())]);
    let long = "é".repeat(4_096);
    world.end(1, &Outcome::Failed(Failure::new(FailureKind::Error, long.clone())));
    assert_eq!(reasons(&world), [(2, long[..4_096].to_owned())]);
    world.pass(10 * SECOND);
    assert_eq!(reasons(&world), [(2, String::new())], "while it runs, that is what it does");
    world.end(1, &error());
    assert_eq!(reasons(&world), [(3, "why".to_owned())]);
    world.close_write("/f");
    assert_eq!(reasons(&world), [(1, String::new())]);

    let mut world = World::of(SchedulerSpec { retry: Some(retry()), ..batch() });
    world.create("/a");
    world.create("/b");
    world.pass(2 * SECOND);
    world.end(1, &error());
    assert_eq!(reasons(&world), [(2, "why".to_owned()), (2, "why".to_owned())]);
}

// Tasks that go on over a reload.

#[test]
fn waiting_queued_and_retrying_tasks_go_on_in_the_scheduler_of_their_name_and_kind() {
    let one = NonZeroU32::new(1);
    let mut world = World::of(SchedulerSpec { max_jobs: one, delay: DELAY, ..tried_again(retry()) });
    for file in ["/retrying", "/runs", "/queued"] {
        world.create(file);
    }
    world.pass(DELAY);
    world.end(1, &error());
    world.pass(SECOND);
    world.create("/waiting");
    let (new, lines) = world.reload(SECOND);
    assert_eq!(lines, ["pause 0", "wait 30s for 1"]);
    world.ids = new;
    // What is queued has a place there, as no more than one may run; the one that runs ends as it began.
    assert_eq!(world.pass(Duration::ZERO), ["start 3 /queued IN_CREATE"]);
    assert_eq!(world.complete(2), ["finished 2 /runs", "all completed"]);
    assert_eq!(world.pass(9 * SECOND), ["start 1 /retrying IN_CREATE attempt 2"]);
    assert_eq!(world.close_write("/waiting"), ["re-schedule 10s 4 /waiting"]);
    assert_eq!(world.pass(DELAY), ["start 4 /waiting IN_CLOSE_WRITE"]);
}

#[test]
fn what_was_gathered_is_due_when_its_batch_was() {
    for spec in [scheduler(60 * SECOND), scheduler(Duration::ZERO)] {
        let mut world = World::of(batch());
        world.create("/f");
        world.pass(SECOND);
        let (new, lines) = world.replace(spec.clone(), SECOND);
        assert_eq!(lines, ["pause 0"]);
        world.ids = new;
        assert_eq!(world.pass(SECOND / 2), NOTHING);
        assert_eq!(world.pass(SECOND / 2), ["start 1 /f IN_CREATE"], "{:?}", spec.delay);
    }
}

#[test]
fn where_there_is_one_task_for_all_paths_that_of_the_latest_event_goes_on() {
    let single = SchedulerSpec { singlejob: true, ..scheduler(DELAY) };
    let mut world = World::of(scheduler(DELAY));
    for file in ["/a", "/b", "/c"] {
        world.create(file);
    }
    world.pass(SECOND);
    // Its event is later than that of the last one.
    world.close_write("/b");
    let (new, lines) = world.replace(single.clone(), SECOND);
    assert_eq!(lines, ["pause 0", "replaced 1 /a", "replaced 3 /c"]);
    assert_eq!(
        std::mem::take(&mut world.out.ends),
        ["/a replaced, 0 attempt(s), 0ns of 1s", "/c replaced, 0 attempt(s), 0ns of 1s"]
    );
    world.ids = new;
    assert_eq!(world.close_write("/a"), ["re-schedule 10s 2 /a"]);

    // What waits for its delay heard of its event after what waits for a place or for another try.
    let one = SchedulerSpec { max_jobs: NonZeroU32::new(1), delay: DELAY, ..tried_again(retry()) };
    let mut world = World::of(one.clone());
    for file in ["/retrying", "/runs", "/queued"] {
        world.create(file);
    }
    world.pass(DELAY);
    world.end(1, &error());
    world.create("/waiting");
    let (new, lines) = world.replace(SchedulerSpec { singlejob: true, ..one }, 30 * SECOND);
    assert_eq!(lines, ["pause 0", "replaced 1 /retrying", "replaced 3 /queued", "wait 30s for 1"]);
    world.ids = new;
    assert_eq!(world.complete(2), ["finished 2 /runs", "all completed"]);
    assert_eq!(world.pass(DELAY), ["start 4 /waiting IN_CREATE"]);
}

#[test]
fn what_a_running_task_leaves_to_come_goes_on_there_too() {
    let mut world = World::of(tried_again(retry()));
    world.create("/f");
    let old = world.ids.clone();
    world.ids = world.reload(SECOND).0;
    assert_eq!(world.end(1, &error()), ["attempt 1 failed (why), again in 10s 1 /f", "all completed"]);
    assert!(world.engine.generation_done(old.id));
    assert_eq!(world.delete("/f"), ["cancelled 1 /f"]);
}

#[test]
fn a_scheduler_of_another_name_or_kind_takes_nothing_over() {
    for spec in [
        SchedulerSpec { name: "other".to_owned(), ..scheduler(DELAY) },
        SchedulerSpec { kind: SchedulerKind::Rules, ..scheduler(DELAY) },
    ] {
        let mut world = World::of(spec);
        world.create("/f");
        world.ids = world.reload(SECOND).0;
        assert_eq!(world.pass(DELAY), ["start 1 /f IN_CREATE"]);
        assert_eq!(world.complete(1), ["finished 1 /f", "all completed"]);
    }
}

/// A configuration with this scheduler, in which `/f` runs, was replaced by the same.
fn reloaded(spec: &SchedulerSpec) -> World {
    let mut world = World::of(spec.clone());
    world.create("/f");
    world.pass(spec.delay);
    world.ids = world.replace(spec.clone(), 30 * SECOND).0;
    world
}

#[test]
fn runs_from_before_a_reload_take_their_places() {
    let two = SchedulerSpec { max_jobs: NonZeroU32::new(2), ..scheduler(Duration::ZERO) };
    let mut world = reloaded(&two);
    assert_eq!(world.create("/g"), ["start 2 /g IN_CREATE"]);
    assert_eq!(world.create("/h"), ["all 2 places taken"]);
    // One more reload, and only one may run.
    let one = SchedulerSpec { max_jobs: NonZeroU32::new(1), ..two };
    world.ids = world.replace(one, 30 * SECOND).0;
    assert_eq!(world.pass(SECOND), NOTHING);
    assert_eq!(world.complete(1), ["finished 1 /f", "all completed"]);
    assert_eq!(world.complete(2), ["finished 2 /g", "all completed", "start 3 /h IN_CREATE"]);
}

#[test]
fn an_event_for_a_path_that_has_run_since_before_a_reload_is_treated_by_on_busy() {
    let of = |on_busy| reloaded(&SchedulerSpec { on_busy, ..scheduler(DELAY) });
    let mut world = of(OnBusy::Skip);
    assert_eq!(world.close_write("/f"), ["skip 1 /f"]);
    assert_eq!(world.complete(1), ["finished 1 /f", "all completed"]);
    assert_eq!(world.close_write("/f"), ["schedule 10s 2 /f"]);

    let mut world = of(OnBusy::Rerun);
    assert_eq!(world.close_write("/f"), ["remember 1 /f"]);
    assert_eq!(world.complete(1), ["finished 1 /f", "all completed", "schedule 10s 1 /f"]);
    assert_eq!(world.pass(DELAY), ["start 1 /f IN_CLOSE_WRITE"]);

    let mut world = of(OnBusy::Restart);
    assert_eq!(world.close_write("/f"), ["restart 1 /f", "stop 1"]);
    let lines = world.end(1, &Outcome::Cancelled);
    assert_eq!(lines, ["ongoing cancelled 1 /f", "all completed", "start 1 /f IN_CLOSE_WRITE"]);

    let mut world = reloaded(&retrying(Duration::ZERO));
    assert_eq!(world.close_write("/f"), ["skip 1 /f"]);
    let lines = world.complete(1);
    assert_eq!(lines, ["finished 1 /f", "all completed", "start 1 /f IN_CLOSE_WRITE again"]);
}

#[test]
fn what_an_event_means_for_an_old_run_is_for_the_new_configuration_to_say() {
    let old = SchedulerSpec { on_busy: OnBusy::Skip, ..scheduler(Duration::ZERO) };
    let mut world = World::of(old);
    world.create("/f.txt");
    world.create("/f.tmp");
    let rules: Option<Arc<dyn Matcher>> = Some(Arc::new(Ends(&[".txt"])));
    let old = world.ids.clone();
    let spec = SchedulerSpec { on_busy: OnBusy::Rerun, rules, ..scheduler(DELAY) };
    world.ids = world.replace(spec, 30 * SECOND).0;
    let write = event(Flag::CloseWrite, "/f.txt");
    let explained = world.engine.explain(world.ids.map(0), &write);
    let Some(Explanation::Reactions(reactions)) = explained else { panic!("it is mapped") };
    assert!(matches!(reactions[0].verdict, Verdict::Met { change: Change::Remember { .. }, .. }));
    assert_eq!(world.event(&write), ["remember 1 /f.txt"]);
    assert_eq!(world.close_write("/f.tmp"), ["no rule"]);
    // The maps of before hear the same events, and leave them alone.
    world.engine.event(world.now, old.map(0), &event(Flag::Delete, "/f.txt"), &mut world.out);
    assert_eq!(world.lines(), NOTHING);
    assert_eq!(world.complete(1), ["finished 1 /f.txt", "schedule 10s 1 /f.txt"]);
    assert_eq!(world.pass(DELAY), ["start 1 /f.txt IN_CLOSE_WRITE rule 0"]);
}

#[test]
fn a_cancel_lifts_what_an_event_asked_of_an_old_run() {
    let mut world = reloaded(&SchedulerSpec { on_busy: OnBusy::Rerun, ..scheduler(DELAY) });
    world.close_write("/f");
    assert_eq!(world.delete("/f"), ["skip 1 /f"]);
    assert_eq!(world.complete(1), ["finished 1 /f", "all completed"]);
    assert!(world.engine.is_idle());
}

#[test]
fn an_event_is_not_lost_with_the_old_run_that_a_reload_stops() {
    for (timeout, delay) in [(Duration::ZERO, SECOND), (30 * SECOND, SECOND), (30 * SECOND, 31 * SECOND)] {
        let mut world = World::of(retrying(Duration::ZERO));
        world.ids = world.replace(retrying(Duration::ZERO), timeout).0;
        world.create("/f");
        world.ids = world.replace(retrying(Duration::ZERO), timeout).0;
        world.pass(delay);
        assert_eq!(world.close_write("/f"), ["skip 1 /f"]);
        world.pass(30 * SECOND);
        let lines = world.end(1, &Outcome::Cancelled);
        let start = "start 1 /f IN_CLOSE_WRITE again";
        assert_eq!(lines.last().map(String::as_str), Some(start), "{timeout:?} {delay:?}: {lines:?}");
    }
}

#[test]
fn a_run_of_two_reloads_ago_is_met_as_well() {
    let spec = SchedulerSpec { on_busy: OnBusy::Rerun, ..scheduler(Duration::ZERO) };
    let mut world = reloaded(&spec);
    world.close_write("/f");
    world.ids = world.replace(spec, 30 * SECOND).0;
    assert_eq!(world.close_write("/f"), ["remember 1 /f"]);
    assert_eq!(world.complete(1), ["finished 1 /f", "all completed", "start 1 /f IN_CLOSE_WRITE"]);
    assert_eq!(world.engine.stats().generations, 1);
}

#[test]
fn a_scheduler_that_a_reload_left_out_has_its_old_runs_when_it_is_back() {
    let spec = SchedulerSpec { max_jobs: NonZeroU32::new(1), ..scheduler(Duration::ZERO) };
    let mut world = World::of(spec.clone());
    world.create("/f");
    world.create("/g");
    world.ids = world.reload_other(30 * SECOND).0;
    world.ids = world.replace(spec, 30 * SECOND).0;
    assert_eq!(world.close_write("/f"), ["skip 1 /f"]);
    // What was to come is there again, too.
    assert_eq!(world.close_write("/g"), ["re-schedule 0ns 2 /g"]);
    assert_eq!(world.complete(1), ["finished 1 /f", "all completed", "start 2 /g IN_CLOSE_WRITE"]);
}

#[test]
fn with_singlejob_an_event_of_any_path_meets_the_old_run() {
    let single = SchedulerSpec { singlejob: true, on_busy: OnBusy::Rerun, ..scheduler(Duration::ZERO) };
    let mut world = reloaded(&single);
    assert_eq!(world.create("/g"), ["remember 1 /g"]);
    assert_eq!(world.complete(1), ["finished 1 /f", "all completed", "start 1 /g IN_CREATE"]);
    // Where it ran for each path until now, what comes waits for all of them.
    let mut world = World::of(SchedulerSpec { singlejob: false, ..single.clone() });
    world.create("/f");
    world.create("/g");
    world.ids = world.replace(single, 30 * SECOND).0;
    assert_eq!(world.create("/h"), NOTHING);
    assert_eq!(world.complete(1), ["finished 1 /f"]);
    assert_eq!(world.complete(2), ["finished 2 /g", "all completed", "start 3 /h IN_CREATE"]);
}

#[test]
fn the_next_batch_waits_for_the_run_of_an_old_one() {
    let mut world = World::of(batch());
    world.create("/a");
    world.pass(2 * SECOND);
    world.ids = world.replace(batch(), 30 * SECOND).0;
    world.create("/a");
    assert_eq!(world.pass(2 * SECOND), NOTHING);
    assert_eq!(world.complete(1), ["finished 1 /a", "all completed", "start 2 /a IN_CREATE for /a"]);
    // A scheduler without a batch waits for it as well: the run may be for any path.
    world.create("/b");
    world.complete(2);
    world.pass(2 * SECOND);
    world.ids = world.replace(scheduler(Duration::ZERO), 30 * SECOND).0;
    assert_eq!(world.create("/b"), NOTHING);
    assert_eq!(world.complete(3), ["finished 3 /b", "all completed", "start 4 /b IN_CREATE"]);
}

#[test]
fn a_task_that_follows_to_the_path_of_an_old_run_is_an_event_for_that_one() {
    let mut world = World::of(SchedulerSpec { on_busy: OnBusy::Rerun, ..scheduler(DELAY) });
    world.create("/b/f");
    world.pass(DELAY);
    world.ids = world.replace(SchedulerSpec { on_busy: OnBusy::Rerun, ..scheduler(DELAY) }, 30 * SECOND).0;
    world.create("/a/f");
    assert_eq!(rename(&mut world, "/a", Some("/b")), ["cancelled 2 /a/f", "remember 1 /b/f"]);
}

#[test]
fn what_an_old_run_failed_at_is_told_by_the_new_configuration_at_once() {
    let failing = SchedulerSpec { timeout: Some(SECOND), on_failure: vec![1], ..scheduler(Duration::ZERO) };
    let told = SchedulerSpec { name: "told".to_owned(), ..scheduler(Duration::ZERO) };
    let specs = vec![failing, told];
    let mut world = World::new(&specs, map());
    world.create("/f");
    let new = world.engine.add_generation(specs, vec![map()], 30 * SECOND).unwrap();
    world.engine.retire(world.now, world.ids.id, |_| None, &mut world.out);
    world.lines();
    let lines = world.pass(SECOND);
    let told = "start 2 /f IN_CREATE as 1 failed 1 time(s): timeout after 1 s";
    assert_eq!(lines, ["stop 1", "failed (timeout after 1 s) 1 /f", "all completed", told]);
    let stats = world.engine.scheduler_stats().find(|stats| stats.scheduler == new.scheduler(1)).unwrap();
    assert_eq!(stats.running, 1);
}

#[test]
fn a_task_that_an_earlier_life_had_is_not_made_beside_an_old_run_of_its_path() {
    let mut world = reloaded(&scheduler(Duration::ZERO));
    let restored = Restored {
        scheduler: world.ids.scheduler(0),
        map: None,
        is_kept: false,
        ..restored(TaskId(7), event(Flag::CloseWrite, "/f"), world.now)
    };
    assert!(!world.engine.restore(world.now, &restored, &mut world.out));
    world.complete(1);
    assert!(world.engine.restore(world.now, &restored, &mut world.out));
}

#[test]
fn while_the_daemon_ends_an_event_for_an_old_run_is_still_acted_on() {
    let mut world = reloaded(&retrying(Duration::ZERO));
    world.shutdown();
    assert_eq!(world.close_write("/f"), ["skip 1 /f"]);
    let lines = world.complete(1);
    assert_eq!(lines, ["finished 1 /f", "all completed", "start 1 /f IN_CLOSE_WRITE again"]);
}

#[test]
fn a_scheduler_is_not_paused_because_it_was_replaced() {
    let world = reloaded(&scheduler(Duration::ZERO));
    assert!(world.engine.scheduler_stats().all(|stats| !stats.paused));
}

// Limits.

#[test]
fn a_hundred_reloads_without_tasks_leave_nothing() {
    let mut world = World::of(scheduler(DELAY));
    for _ in 0..100 {
        world.ids = world.reload(SECOND).0;
    }
    assert_eq!(world.engine.stats().generations, 1);
}

#[test]
fn configurations_with_tasks_are_limited() {
    let limits = Limits { generations_max: 2, ..Limits::default() };
    let mut world = World::with_limits(&[scheduler(DELAY)], map(), limits);
    world.create("/f");
    world.ids = world.reload_other(SECOND).0;
    let third = world.engine.add_generation(vec![scheduler(DELAY)], vec![map()], SECOND);
    assert_eq!(third, Err(GenerationError::TooMany));
    world.pass(DELAY);
    world.complete(1);
    assert!(world.engine.add_generation(vec![scheduler(DELAY)], vec![map()], SECOND).is_ok());
}

#[test]
fn events_beyond_the_limit_of_tasks_are_counted_and_told_once() {
    let limits = Limits { tasks_max: 16, ..Limits::default() };
    let mut world = World::with_limits(&[scheduler(DELAY)], map(), limits);
    for file in 0..16 {
        world.create(&format!("/{file}"));
    }
    assert_eq!(world.create("/a"), ["16 tasks are too many"]);
    assert_eq!(world.create("/b"), NOTHING);
    assert_eq!(world.close_write("/1"), ["re-schedule 10s 2 /1"]);
    // There is room again, but the next event may end it: nothing is told until an eighth is free.
    assert_eq!(world.delete("/1"), ["cancelled 2 /1"]);
    assert_eq!(world.delete("/2"), ["cancelled 3 /2", "room again, 2 refused"]);
    assert_eq!(world.create("/a"), ["schedule 10s 17 /a"]);
    assert_eq!(world.engine.stats().refused, 2);
}

#[test]
fn the_bytes_of_tasks_are_limited() {
    let limits = Limits { bytes_max: 5_000, ..Limits::default() };
    let mut world = World::with_limits(&[scheduler(DELAY)], map(), limits);
    let long = |letter: &str| format!("/{}", letter.repeat(4_000));
    assert_eq!(world.create(&long("a")).len(), 1);
    assert_eq!(world.create(&long("b")).len(), 1);
    assert_eq!(world.create(&long("c")), ["2 tasks are too many"]);
    // What an event gives to a task that is there is no new task.
    assert_eq!(world.close_write(&long("b")).len(), 1);
}

#[test]
fn a_long_directory_is_kept_once_for_all_its_tasks() {
    let mut world = World::of(scheduler(DELAY));
    let directory = format!("/{}", "d".repeat(3_800));
    let path = |file: u32| format!("{directory}/{file}");
    for file in 0..10_000 {
        world.create(&path(file));
    }
    let bytes = world.engine.memory_bytes();
    assert!(bytes < 10_000 * 200, "{bytes} bytes for 10,000 tasks");
    assert_eq!(world.delete(&path(7)), [format!("cancelled 8 {}", path(7))]);
    assert_eq!(world.pass(DELAY).len(), 9_999);
}

#[test]
fn a_tick_starts_a_limited_number_and_asks_for_another() {
    let limits = Limits { starts_per_tick_max: 2, ..Limits::default() };
    let mut world = World::with_limits(&[scheduler(DELAY)], map(), limits);
    for file in 0..3 {
        world.create(&format!("/{file}"));
    }
    world.now += DELAY;
    world.engine.tick(world.now, &mut world.out);
    assert_eq!(world.lines().len(), 2);
    assert_eq!(world.engine.deadline(), Some(world.now));
    world.engine.tick(world.now, &mut world.out);
    assert_eq!(world.lines(), ["start 3 /2 IN_CREATE"]);
    assert_eq!(world.engine.deadline(), None);
}

#[test]
fn after_a_peak_tasks_keep_their_paths_and_memory_comes_back() {
    let mut world = World::of(scheduler(DELAY));
    let path = |file: u32| format!("/srv/in/{file:080}");
    for file in 0..100_000 {
        world.create(&path(file));
    }
    let peak_bytes = world.engine.memory_bytes();
    // Deleting most of them moves the rest together, in the table and in the store of paths.
    for file in (0..100_000).filter(|file| file % 1_000 != 0) {
        world.delete(&path(file));
    }
    let mut left = Vec::new();
    world.engine.visit(0, 1_000, |task| left.push(String::from_utf8_lossy(task.event.pathname).into_owned()));
    left.sort();
    let expected: Vec<String> = (0..100_000).step_by(1_000).map(path).collect();
    assert_eq!(left, expected);
    for file in (0..100_000).step_by(1_000) {
        let id = u64::from(file) + 1;
        assert_eq!(world.close_write(&path(file)), [format!("re-schedule 10s {id} {}", path(file))]);
    }
    assert_eq!(world.pass(DELAY).len(), 100);
    // The slab cannot move: handles and links name its places. It goes with the last task.
    assert!(
        world.engine.memory_bytes() < peak_bytes * 2 / 3,
        "{} of {peak_bytes}",
        world.engine.memory_bytes()
    );
    for file in (0..100_000).step_by(1_000) {
        world.complete(file + 1);
    }
    assert!(world.engine.memory_bytes() < 100_000, "{}", world.engine.memory_bytes());
}

#[test]
fn delays_without_end_do_not_overflow() {
    let mut world = World::of(scheduler(Duration::MAX));
    world.create("/f");
    assert_eq!(world.pass(1_000_000 * SECOND), NOTHING);
    assert_eq!(world.shutdown(), ["wait 30s for 1"]);
}

// Tasks that are kept for another life of the daemon.

fn kept(spec: SchedulerSpec) -> World {
    let mut world = World::of(spec);
    world.engine.keep_changes();
    world
}

/// What a program that keeps tasks would write: what is gone, and what has changed.
fn changes(world: &mut World) -> (usize, Vec<String>) {
    let gone = world.engine.take_gone().len();
    let mut lines = Vec::new();
    world.engine.take_changed(9, |task| {
        let doing = match task.doing {
            Doing::Waiting(_) => "waiting",
            Doing::PutOff(_) => "put off",
            Doing::Retrying(_) => "retrying",
            Doing::Settling(_) => "settling",
            Doing::Gathered(_) => "gathered",
            Doing::Queued(_) => "queued",
            Doing::Running(_) => "running",
        };
        lines.push(format!("{} {doing}", String::from_utf8_lossy(task.event.pathname)));
    });
    (gone, lines)
}

fn nothing_changed() -> (usize, Vec<String>) {
    (0, Vec::new())
}

#[test]
fn a_task_that_runs_is_kept_with_the_path_of_what_comes_after() {
    let mut world = kept(scheduler(Duration::ZERO));
    world.create("/a/f");
    assert_eq!(changes(&mut world), (0, vec!["/a/f running".to_owned()]));
    rename(&mut world, "/a", Some("/b"));
    assert_eq!(changes(&mut world), (0, vec!["/b/f running".to_owned()]));
    let mut shown = Vec::new();
    world.engine.visit(0, 9, |task| shown.extend_from_slice(task.event.pathname));
    assert_eq!(shown, b"/a/f", "but is shown with that of its run");
    let task = world.engine.task(world.out.handles[0].1).unwrap();
    assert_eq!(task.event.get().pathname, b"/a/f");
}

#[test]
fn a_task_is_shown_once_for_all_its_changes_and_one_that_came_and_went_never() {
    let mut world = kept(scheduler(DELAY));
    world.create("/f");
    world.create("/f");
    world.create("/g");
    world.delete("/g");
    assert_eq!(changes(&mut world), (0, vec!["/f waiting".to_owned()]));
    assert_eq!(changes(&mut world), nothing_changed());
    world.pass(DELAY);
    assert_eq!(changes(&mut world), (0, vec!["/f running".to_owned()]));
    world.complete(1);
    assert_eq!(changes(&mut world), (1, vec![]));
    assert!(!world.engine.has_changes());
}

#[test]
fn tasks_of_a_scheduler_that_is_not_kept_are_not_shown() {
    let mut world = kept(SchedulerSpec { persist: false, ..scheduler(DELAY) });
    world.create("/f");
    assert_eq!(changes(&mut world), nothing_changed());
    world.delete("/f");
    assert_eq!(changes(&mut world), nothing_changed());
    world.create("/g");
    assert_eq!(world.shutdown(), ["wait 30s for 1"]);
}

#[test]
fn a_task_that_is_restored_as_it_is_kept_has_not_changed() {
    let mut world = kept(scheduler(DELAY));
    let restored = |path, id, is_kept| Restored {
        is_kept,
        ..restored(TaskId(id), event(Flag::CloseWrite, path), Instant::now() + SECOND)
    };
    assert!(world.engine.restore(world.now, &restored("/f", 7, true), &mut world.out));
    assert_eq!(changes(&mut world), nothing_changed());
    assert!(world.engine.restore(world.now, &restored("/g", 8, false), &mut world.out));
    assert_eq!(changes(&mut world), (0, vec!["/g waiting".to_owned()]));
    world.delete("/f");
    world.delete("/g");
    assert_eq!(changes(&mut world), (2, vec![]));
}

#[test]
fn a_task_that_tells_of_a_failure_is_restored_as_such() {
    let mut world = kept(scheduler(DELAY));
    let failed = FailedTask { error: "why", attempts: 3, id: TaskId(9) };
    let restored = Restored {
        map: None,
        failed: Some(failed),
        ..restored(TaskId(7), event(Flag::CloseWrite, "/f"), world.now)
    };
    world.create("/f");
    assert!(world.engine.restore(world.now, &restored, &mut world.out), "no path leads to it");
    let lines = world.pass(Duration::ZERO);
    assert_eq!(lines, ["start 2 /f IN_CLOSE_WRITE as 3 failed 3 time(s): why"]);
}

#[test]
fn a_shutdown_leaves_what_is_not_due_by_its_end_and_waits_for_the_rest() {
    let mut world = kept(scheduler(100 * SECOND));
    world.create("/soon");
    world.pass(90 * SECOND);
    world.create("/late");
    assert_eq!(world.shutdown(), ["keep 1", "wait 30s for 1"]);
    assert_eq!(changes(&mut world).1, ["/soon waiting", "/late waiting"]);
    assert_eq!(world.pass(10 * SECOND), ["start 1 /soon IN_CREATE"]);
    assert!(!world.engine.is_idle());
    assert_eq!(world.complete(1), ["finished 1 /soon", "all completed"]);
    assert!(world.engine.is_idle());
    assert_eq!(changes(&mut world), (1, vec![]), "what is left stays kept");
}

#[test]
fn a_shutdown_with_nothing_due_is_over_at_once() {
    let mut world = kept(scheduler(100 * SECOND));
    world.create("/f");
    assert_eq!(world.shutdown(), ["keep 1"]);
    assert!(world.engine.is_idle());
    assert_eq!(world.engine.deadline(), None);
    assert_eq!(world.create("/f"), NOTHING, "it is kept as it is");
    assert_eq!(world.create("/g"), NOTHING);
    assert_eq!(world.delete("/f"), ["cancelled 1 /f"]);
    assert!(world.engine.is_idle());
}

#[test]
fn while_the_daemon_ends_an_event_leaves_a_kept_task_alone() {
    let mut world = kept(scheduler(DELAY));
    world.create("/f");
    assert_eq!(world.shutdown(), ["wait 30s for 1"]);
    assert_eq!(world.create("/f"), NOTHING);
    assert_eq!(world.pass(DELAY), ["start 1 /f IN_CREATE"]);
}

#[test]
fn when_the_time_is_over_what_waits_is_left_and_what_runs_is_left_as_running() {
    let one = NonZeroU32::new(1);
    let mut world = kept(SchedulerSpec { max_jobs: one, ..scheduler(Duration::ZERO) });
    world.create("/runs");
    world.create("/queued");
    world.shutdown();
    let lines = world.pass(30 * SECOND);
    assert_eq!(lines, ["timeout, cancel 1", "keep 1", "stop 1"]);
    assert!(!world.engine.is_idle());
    assert_eq!(world.end(1, &Outcome::Cancelled), ["ongoing cancelled 1 /runs"]);
    assert!(world.engine.is_idle());
    assert_eq!(changes(&mut world), (0, vec!["/runs running".to_owned(), "/queued waiting".to_owned()]));
    assert_eq!(world.out.ends, NOTHING, "the next life says how it ends");
}

#[test]
fn a_run_that_was_done_all_the_same_is_not_left() {
    let mut world = kept(scheduler(Duration::ZERO));
    world.create("/f");
    world.shutdown();
    world.pass(30 * SECOND);
    assert_eq!(world.complete(1), ["finished 1 /f"]);
    assert!(world.engine.is_idle());
    assert_eq!(changes(&mut world), nothing_changed());
}

#[test]
fn while_the_daemon_ends_a_retry_is_left() {
    let mut world = kept(tried_again(retry()));
    world.create("/f");
    world.shutdown();
    let lines = world.end(1, &failed(FailureKind::Error));
    assert!(lines[0].starts_with("attempt 1 failed (why), again in "), "{lines:?}");
    assert!(world.engine.is_idle());
    assert_eq!(changes(&mut world), (0, vec!["/f waiting".to_owned()]));
}

#[test]
fn what_a_paused_scheduler_has_is_left() {
    let mut world = kept(scheduler(Duration::ZERO));
    let id = world.ids.scheduler(0);
    world.engine.pause(world.now, id, &mut world.out);
    world.create("/f");
    assert_eq!(world.shutdown(), ["keep 1"]);
    assert!(world.engine.is_idle());
}

#[test]
fn tasks_to_come_can_be_failed_and_that_is_told() {
    let receiver = SchedulerSpec::named("receiver");
    let first = SchedulerSpec { on_failure: vec![1], ..scheduler(DELAY) };
    let mut world = World::new(&[first, receiver], map());
    world.create("/f");
    world.create("/g");
    let failure = Failure::new(FailureKind::Interrupted, "gone");
    assert!(world.engine.fail(world.now, world.out.ids[0], &failure, &mut world.out));
    assert_eq!(world.lines(), ["failed (gone) 1 /f", "start 3 /f IN_CREATE as 1 failed 0 time(s): gone"]);
    world.engine.fail_all(world.now, world.ids.scheduler(0), &failure, &mut world.out);
    assert_eq!(world.lines(), ["failed (gone) 2 /g", "start 4 /g IN_CREATE as 2 failed 0 time(s): gone"]);
    assert!(!world.engine.fail(world.now, world.out.ids[0], &failure, &mut world.out));
    assert_eq!(world.out.ends, ["/f gone, 0 attempt(s), 0ns of 0ns", "/g gone, 0 attempt(s), 0ns of 0ns"]);
}

#[test]
fn what_an_event_cancels_is_an_end_only_where_an_attempt_has_failed() {
    let mut world = World::of(SchedulerSpec { retry: Some(retry()), ..scheduler(DELAY) });
    world.create("/f");
    world.create("/g");
    world.delete("/g");
    assert_eq!(world.out.ends, NOTHING);
    world.pass(DELAY);
    world.end(1, &failed(FailureKind::Error));
    world.delete("/f");
    let [end] = &world.out.ends[..] else { panic!("{:?}", world.out.ends) };
    assert!(end.starts_with("/f cancelled by IN_DELETE, 1 attempt(s), "), "{end}");
}

#[test]
fn ends_are_told_with_their_times() {
    let mut world = World::of(tried_again(retry()));
    world.create("/f");
    world.pass(SECOND);
    world.end(1, &failed(FailureKind::Error));
    assert_eq!(world.out.ends, NOTHING, "it is tried again");
    world.pass(10 * SECOND);
    world.pass(SECOND);
    world.complete(1);
    let [end] = &world.out.ends[..] else { panic!("{:?}", world.out.ends) };
    assert!(end.starts_with("/f done, 2 attempt(s), "), "{end}");
    world.create("/g");
    world.end(2, &Outcome::Cancelled);
    assert_eq!(world.out.ends[1], "/g cancelled by Stop, 1 attempt(s), 0ns of 0ns");
}

#[test]
fn a_batch_that_is_not_due_is_left_and_one_that_runs_is_left_as_running() {
    let one = NonZeroU32::new(9).unwrap();
    let batch = Batch { quiet: 40 * SECOND, max_wait: 100 * SECOND, max_files: one };
    let mut world = kept(SchedulerSpec { batch: Some(batch), ..scheduler(Duration::ZERO) });
    world.create("/a");
    world.create("/b");
    world.pass(40 * SECOND);
    world.create("/c");
    assert_eq!(world.shutdown(), ["keep 1", "wait 30s for 2"]);
    let lines = world.pass(30 * SECOND);
    assert_eq!(lines, ["timeout, cancel 2", "stop 1"]);
    world.end(1, &Outcome::Cancelled);
    assert!(world.engine.is_idle());
    let (gone, mut tasks) = changes(&mut world);
    tasks.sort();
    assert_eq!((gone, tasks), (0, ["/a running", "/b running", "/c waiting"].map(str::to_owned).to_vec()));
}

#[test]
fn the_end_of_a_batch_is_the_end_of_each_of_its_tasks() {
    let max_files = NonZeroU32::new(2).unwrap();
    let batch = Batch { quiet: SECOND, max_wait: SECOND, max_files };
    let mut world = World::of(SchedulerSpec { batch: Some(batch), ..scheduler(Duration::ZERO) });
    world.create("/a");
    world.create("/b");
    world.end(1, &failed(FailureKind::Error));
    assert_eq!(world.out.ends, ["/a why, 1 attempt(s), 0ns of 0ns", "/b why, 1 attempt(s), 0ns of 0ns"]);
}

// Runs that outlived the life of the daemon that started them.

/// Restores such a run as the first task.
fn outlived(world: &mut World, path: &str, again: bool) -> TaskHandle {
    let restored = restored(TaskId(7), event(Flag::CloseWrite, path), world.now);
    let run = world.engine.restore_run(world.now, &restored, again, &mut world.out);
    world.out.number(TaskId(7));
    run.expect("nothing stands in its way")
}

fn over(world: &mut World, run: TaskHandle) -> Vec<String> {
    world.engine.finished(world.now, run, &failed(FailureKind::Interrupted), &mut world.out);
    world.lines()
}

#[test]
fn a_run_of_an_earlier_life_has_its_path_and_its_place_and_has_failed_when_it_is_over() {
    let one = NonZeroU32::new(1);
    let mut world = kept(SchedulerSpec { max_jobs: one, timeout: Some(SECOND), ..scheduler(Duration::ZERO) });
    let run = outlived(&mut world, "/f", false);
    assert_eq!(world.engine.stats().running, 1);
    assert_eq!(world.create("/g"), ["all 1 places taken"]);
    assert_eq!(world.pass(2 * SECOND), NOTHING, "its time is not that of this life");
    assert_eq!(over(&mut world, run), ["failed (why) 1 /f", "start 2 /g IN_CREATE"]);
}

#[test]
fn a_run_of_an_earlier_life_may_be_followed_by_another_or_be_cancelled() {
    let mut world = kept(scheduler(Duration::ZERO));
    let run = outlived(&mut world, "/f", true);
    assert_eq!(over(&mut world, run), ["start 1 /f IN_CLOSE_WRITE"]);
    assert_eq!(world.out.ends, NOTHING, "it has not ended");

    let mut world = kept(scheduler(Duration::ZERO));
    let run = outlived(&mut world, "/f", true);
    world.delete("/f");
    assert_eq!(over(&mut world, run), ["ongoing cancelled 1 /f"]);

    let mut world = kept(scheduler(Duration::ZERO));
    let run = outlived(&mut world, "/f", true);
    assert!(world.engine.cancel(world.now, TaskId(7), &mut world.out));
    assert_eq!(over(&mut world, run), ["ongoing cancelled 1 /f"]);
}

#[test]
fn an_event_for_a_run_of_an_earlier_life_is_acted_on_when_that_is_over() {
    let mut world = kept(scheduler(DELAY));
    let run = outlived(&mut world, "/f", false);
    assert_eq!(world.create("/f"), ["remember 1 /f"]);
    assert_eq!(over(&mut world, run), ["schedule 10s 1 /f"]);
    assert_eq!(world.pass(DELAY), ["start 1 /f IN_CREATE"]);
    assert_eq!(world.out.ends, NOTHING);
}

#[test]
fn a_life_that_ends_leaves_the_run_of_an_earlier_one_to_the_next() {
    for again in [false, true] {
        let mut world = kept(scheduler(Duration::ZERO));
        let run = outlived(&mut world, "/f", again);
        world.shutdown();
        world.pass(40 * SECOND);
        assert!(!world.engine.is_idle());
        assert_eq!(over(&mut world, run), ["ongoing cancelled 1 /f"]);
        assert!(world.engine.is_idle());
        let mut left = Vec::new();
        world.engine.visit(0, 9, |task| left.push((task.doing.is_to_come(), task.again)));
        assert_eq!(left, [(false, again)]);
    }
}

#[test]
fn the_tasks_of_a_batch_of_an_earlier_life_have_one_run() {
    let max_files = NonZeroU32::new(9).unwrap();
    let batch = Batch { quiet: SECOND, max_wait: SECOND, max_files };
    let mut world = kept(SchedulerSpec { batch: Some(batch), ..scheduler(Duration::ZERO) });
    let run = outlived(&mut world, "/a", true);
    let other = restored(TaskId(8), event(Flag::CloseWrite, "/b"), world.now);
    assert_eq!(world.engine.restore_run(world.now, &other, true, &mut world.out), Some(run));
    world.create("/c");
    assert_eq!(world.pass(SECOND), NOTHING, "there is one run at a time");
    assert_eq!(over(&mut world, run), ["start 2 /c IN_CREATE for /c /a /b"]);
}

#[test]
fn what_is_to_start_anew_and_what_is_tried_again_is_left_though_its_run_was_being_stopped() {
    let spec = scheduler(Duration::ZERO);
    let mut world = kept(SchedulerSpec { on_busy: OnBusy::Restart, ..spec });
    world.create("/f");
    assert_eq!(world.close_write("/f"), ["restart 1 /f", "stop 1"]);
    world.shutdown();
    world.pass(40 * SECOND);
    world.end(1, &Outcome::Cancelled);
    assert!(world.engine.is_idle());
    assert_eq!(changes(&mut world), (0, vec!["/f waiting".to_owned()]));

    let mut world = kept(SchedulerSpec { timeout: Some(SECOND), ..tried_again(retry()) });
    world.create("/f");
    world.pass(DELAY);
    world.pass(SECOND);
    world.shutdown();
    world.pass(40 * SECOND);
    world.end(1, &Outcome::Cancelled);
    assert!(world.engine.is_idle());
    assert_eq!(changes(&mut world), (0, vec!["/f waiting".to_owned()]));
}

// Questions.

#[test]
fn waiting_tasks_are_listed_bit_by_bit() {
    let mut world = World::of(scheduler(DELAY));
    for file in ["/a", "/b", "/c"] {
        world.create(file);
    }
    world.delete("/b");
    let mut seen = Vec::new();
    let mut visit = |from| {
        world.engine.visit(from, 1, |task| {
            seen.push((String::from_utf8_lossy(task.event.pathname).into_owned(), task.map, task.doing));
        })
    };
    let second = visit(0).unwrap();
    let end = visit(second).unwrap();
    assert_eq!(visit(end), None);
    let waits = Doing::Waiting(Some(world.now + DELAY));
    let map = world.ids.map(0);
    assert_eq!(seen, [("/a".to_owned(), map, waits), ("/c".to_owned(), map, waits)]);
    world.pass(DELAY);
    world.engine.visit(0, 9, |task| assert!(!task.doing.is_to_come()));
}

#[test]
fn explain_says_what_would_happen_and_does_nothing() {
    let rules: Arc<dyn Matcher> = Arc::new(Ends(&[".jpg", ".png"]));
    let spec = SchedulerSpec { rules: Some(rules), ..scheduler(DELAY) };
    let map = MapSpec { exclude: Some(Arc::new(Ends(&[".tmp", "~"]))), ..map() };
    let mut world = World::new(&[spec], map);
    let explain = |world: &World, event: &Event<'_>| world.engine.explain(world.ids.map(0), event).unwrap();
    let verdict = |world: &World, event: &Event<'_>| match explain(world, event) {
        Explanation::Reactions(reactions) => reactions[0].verdict,
        other => panic!("{other:?}"),
    };

    assert_eq!(explain(&world, &event(Flag::Open, "/f.png")), Explanation::Unmapped);
    assert_eq!(explain(&world, &event(Flag::Create, "/f~")), Explanation::Excluded { pattern: 1 });
    assert_eq!(explain(&world, &event(Flag::Create, "/f?")), Explanation::ExcludeStepLimit);
    let new = Verdict::New { begin: Begin::AfterDelay, rule: Some(1) };
    assert_eq!(verdict(&world, &event(Flag::Create, "/f.png")), new);
    assert_eq!(
        verdict(&world, &event(Flag::Create, "/f.gif")),
        Verdict::Ignored(Ignored::NoRule(NoRule::NoMatch))
    );
    assert_eq!(verdict(&world, &dir_event(Flag::Create, "/f.png")), Verdict::Ignored(Ignored::Unfit));
    assert_eq!(verdict(&world, &event(Flag::Delete, "/f.png")), Verdict::Ignored(Ignored::NothingToCancel));
    assert!(world.engine.is_idle());

    world.create("/f.png");
    let task = world.out.ids[0];
    let met = |change| Verdict::Met { task, change };
    assert_eq!(verdict(&world, &event(Flag::Create, "/f.png")), met(Change::Reschedule { rule: Some(1) }));
    assert_eq!(verdict(&world, &event(Flag::Delete, "/f.png")), met(Change::Cancel));
    let Explanation::Reactions(reactions) = explain(&world, &event(Flag::Create, "/f.png")) else { panic!() };
    assert_eq!((reactions[0].delay, reactions[0].scheduler), (DELAY, world.ids.scheduler(0)));
}
