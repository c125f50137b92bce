//! What only a source without a kernel can bring about at will: events and failures in the one order that matters.

use std::ops::Range;
use std::process::Command;
use std::time::Duration;

use control::api::SyncBody;
use control::{Answering, Message, Peer, Question, Refusal};
use event::Flag;
use rustix::process::{Signal, getpid, kill_process};
use serde_json::{Value, json};
use tokio::sync::oneshot;
use watcher::{RootState, WatchId};

use super::scripted::Scripted;
use super::{Bed, config, job, watch};
use crate::daemon::wake::EndSignal;

/// No test waits so long for another thread unless something is broken.
const DEADLINE: Duration = Duration::from_secs(30);
const SECOND: Duration = Duration::from_secs(1);

/// Set in a process that runs one test.
const ALONE: &str = "PYINOTIFYD_TEST_ALONE";

/// Runs a test in a process of its own, and is true there: a daemon that ends signals all children of its process, and
/// other tests have some.
fn is_alone(test: &str) -> bool {
    if std::env::var_os(ALONE).is_some() {
        return true;
    }
    let program = std::env::current_exe().unwrap();
    let test = format!("daemon::tests::stories::{test}");
    let output =
        Command::new(program).args(["--exact", &test, "--nocapture"]).env(ALONE, "1").output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && said.contains("1 passed"), "{said}");
    false
}

/// A map that schedules at some flags and cancels at others.
fn map(schedule: &[Flag], cancel: &[Flag]) -> Value {
    let scheduled = schedule.iter().map(|flag| (flag.name().to_owned(), json!([{"schedule": 0}])));
    let cancelled = cancel.iter().map(|flag| (flag.name().to_owned(), json!([{"cancel": 0}])));
    Value::Object(scheduled.chain(cancelled).collect())
}

/// A daemon that watches `/in` with one scheduler.
fn bed(delay: f64, schedule: &[Flag], cancel: &[Flag]) -> Bed {
    Bed::new(config(&[watch("/in", &map(schedule, cancel))], &[job("job", delay)]))
}

impl Bed {
    fn ask(&mut self, question: Question) -> oneshot::Receiver<Result<Answering, Refusal>> {
        let (reply, answer) = oneshot::channel();
        let message = Message::Question(question, Peer::Process { uid: 0, pid: 1 }, reply);
        self.daemon.control_message(message, self.now);
        answer
    }

    /// Makes turns until other threads have done what is waited for.
    fn until(&mut self, what: &str, is_so: impl Fn(&Bed) -> bool) {
        let begin = std::time::Instant::now();
        while !is_so(self) {
            assert!(begin.elapsed() < DEADLINE, "{what}: {:?}", self.said);
            self.settle();
        }
    }

    /// How the watches of the configuration in force stand.
    fn standing(&self) -> Vec<(String, String)> {
        let watches = self.daemon.status_view().watches;
        watches.into_iter().map(|watch| (watch.path.path, watch.state)).collect()
    }
}

/// What the log says of a task.
fn said(text: &str, flag: Flag, path: &str) -> String {
    format!("{text}, mask={}, path={path}", flag.name())
}

fn standing(all: &[(&str, &str)]) -> Vec<(String, String)> {
    all.iter().map(|(path, state)| ((*path).to_owned(), (*state).to_owned())).collect()
}

#[test]
fn an_overflow_around_a_rename_leaves_a_task_for_the_new_name_alone() {
    for (tells_first_half, tells_second_half) in [(true, true), (true, false), (false, true), (false, false)]
    {
        // The directory is real: after an overflow the daemon looks which files of waiting tasks are gone.
        let directory = tempfile::tempdir().unwrap();
        let (old, new) = (directory.path().join("old"), directory.path().join("new"));
        std::fs::write(&new, "").unwrap();
        let (old, new) = (old.to_str().unwrap(), new.to_str().unwrap());
        let map = map(&[Flag::Create, Flag::MovedTo], &[Flag::MovedFrom, Flag::Delete]);
        let root = directory.path().to_str().unwrap();
        let mut bed = Bed::new(config(&[watch(root, &map)], &[job("job", 60.0)]));
        bed.script().happens(Flag::Create, old);
        bed.settle();
        if tells_first_half {
            bed.script().happens(Flag::MovedFrom, old);
        }
        bed.script().overflows();
        if tells_second_half {
            bed.script().moved_to(old, new);
        }
        bed.script().then().arrives(new).recovers();
        bed.until("the task of the old name is cancelled", |bed| bed.count("scheduled task cancelled") == 1);
        bed.pass(60 * SECOND);
        bed.end("job", new);
        bed.settle();
        let (of_old, mut of_new): (Vec<_>, Vec<_>) =
            bed.tasks().into_iter().partition(|text| text.ends_with(old));
        let cancels = if tells_first_half { Flag::MovedFrom } else { Flag::Delete };
        assert_eq!(of_old[0], said("schedule task, delay=60", Flag::Create, old));
        assert_eq!(of_old[1..], [said("scheduled task cancelled", cancels, old)]);
        if tells_second_half {
            assert_eq!(of_new.remove(0), said("schedule task, delay=60", Flag::MovedTo, new));
        }
        let first = if tells_second_half { "re-schedule task, delay=60" } else { "schedule task, delay=60" };
        assert_eq!(of_new, [first, "start task", "task finished"].map(|text| said(text, Flag::Create, new)));
    }
}

#[test]
fn a_watch_that_a_limit_keeps_waiting_is_shown_so_until_it_is_set_up() {
    let (source, script) = Scripted::new();
    script.borrow_mut().standing.insert(b"/in".to_vec(), RootState::Limited);
    let configured = config(&[watch("/in", &map(&[Flag::Create], &[]))], &[job("job", 0.0)]);
    let mut bed = Bed::with(configured, source, script).unwrap();
    assert_eq!(bed.standing(), standing(&[("/in", "limited")]));
    assert_eq!(bed.count("start listening"), 0);
    bed.script().standing.clear();
    bed.script().arrives("/in/a");
    bed.settle();
    bed.settle();
    assert_eq!(bed.standing(), standing(&[("/in", "watching")]));
    assert_eq!(bed.count("start listening for inotify events on '/in'"), 1);
    assert_eq!(bed.running("job").len(), 1);
}

#[test]
fn a_reload_that_the_source_refuses_leaves_everything_as_it_was() {
    let mut bed = bed(1.0, &[Flag::Create], &[]);
    bed.script().happens(Flag::Create, "/in/a");
    bed.settle();
    let before = bed.script().interests();
    bed.script().refused = Some(b"/refused".to_vec());
    let wider = map(&[Flag::Create, Flag::Modify], &[Flag::Delete]);
    let watches =
        [watch("/in", &wider), watch("/new", &map(&[Flag::Create], &[])), watch("/refused", &json!({}))];
    let refused = bed.reload(config(&watches, &[job("other", 1.0)]));
    assert!(refused.is_err_and(|text| text.contains("/refused")));
    assert_eq!(bed.script().interests(), before);
    bed.script().happens(Flag::Delete, "/in/a").happens(Flag::Modify, "/in/a").happens(Flag::Create, "/in/b");
    bed.pass(SECOND);
    assert_eq!(bed.running("job").len(), 2);
    assert_eq!(bed.standing(), standing(&[("/in", "watching")]));
}

#[test]
fn thousands_of_watches_come_and_go_in_many_turns_and_each_event_is_told_once_by_one_configuration() {
    let of = |numbers: Range<u32>| {
        let watches = numbers.map(|number| watch(&format!("/{number}"), &map(&[Flag::Create], &[])));
        config(&watches.collect::<Vec<_>>(), &[job("job", 0.0)])
    };
    let mut bed = Bed::new(of(0..2000));
    bed.settle();
    bed.reload(of(1000..3000)).unwrap();
    let (mut before, mut expected) = (0, Vec::new());
    for turn in 0..100 {
        let is_new = bed.daemon.adoption.is_none();
        before += u32::from(!is_new);
        let seen = if is_new { "/2999" } else { "/0" };
        expected.extend(["/1000", "/1999", seen].map(|root| format!("{root}/{turn}")));
        for root in ["/0", "/1000", "/1999", "/2999"] {
            bed.script().happens(Flag::Create, &format!("{root}/{turn}"));
        }
        bed.turn();
    }
    bed.settle();
    assert!((2..50).contains(&before), "{before} turns");
    let mut told: Vec<String> = bed.running("job").into_iter().map(|(path, _)| path).collect();
    told.sort_unstable();
    expected.sort_unstable();
    assert_eq!(told, expected);
    assert_eq!(bed.count("start listening"), 4000);
    assert_eq!(bed.script().interests().len(), 3000, "runs of the old one go on");
    for (_, run) in bed.running("job") {
        bed.end_run(run);
    }
    bed.settle();
    assert_eq!(bed.script().interests().len(), 2000);
}

#[test]
fn a_start_that_the_source_refuses_ends() {
    let (source, script) = Scripted::new();
    script.borrow_mut().refused = Some(b"/in".to_vec());
    assert!(Bed::with(config(&[watch("/in", &json!({}))], &[]), source, script).is_err());
}

#[test]
fn a_root_that_goes_and_comes_during_a_reload_is_watched_in_the_end_and_nothing_is_told_twice() {
    let mut bed = bed(2.0, &[Flag::Create], &[]);
    bed.script().happens(Flag::Create, "/in/a");
    bed.settle();
    bed.script().sets_up = false;
    bed.script().standing.insert(b"/new".to_vec(), RootState::Waiting);
    let both = [watch("/in", &map(&[Flag::Create], &[])), watch("/new", &map(&[Flag::Create], &[]))];
    bed.reload(config(&both, &[job("job", 2.0)])).unwrap();
    bed.script().happens(Flag::Create, "/in/b");
    bed.pass(SECOND);
    // The old configuration is the one in force meanwhile.
    assert_eq!(bed.standing(), standing(&[("/in", "watching")]));
    for state in [RootState::Watched, RootState::Waiting] {
        bed.script().standing.insert(b"/new".to_vec(), state);
        bed.settle();
    }
    bed.script().sets_up = true;
    bed.settle();
    assert_eq!(bed.count("configuration loaded: 2 watches, 1 scheduler; 2 tasks go on"), 1);
    assert_eq!(bed.standing(), standing(&[("/in", "watching"), ("/new", "waiting")]));
    assert_eq!(bed.count("start listening for inotify events on '/new'"), 0);
    bed.script().standing.clear();
    bed.script().arrives("/new/c");
    bed.pass(2 * SECOND);
    assert_eq!(bed.count("start listening for inotify events on '/new'"), 1);
    let starts = bed.take_tasks().into_iter().filter(|said| said.text.starts_with("start task"));
    let starts: Vec<_> = starts.map(|said| (said.at.as_secs(), said.text)).collect();
    let start = |at, path| (at, format!("start task, mask=IN_CREATE, path={path}"));
    assert_eq!(starts, [start(2, "/in/a"), start(2, "/in/b"), start(3, "/new/c")]);
}

#[test]
fn a_file_that_comes_and_goes_in_one_batch_makes_no_run_after_a_delay() {
    let mut bed = bed(1.0, &[Flag::Create, Flag::CloseWrite], &[Flag::Delete]);
    let whole_life = [Flag::Create, Flag::CloseWrite, Flag::Delete];
    for flag in whole_life {
        bed.script().happens(flag, "/in/a");
    }
    bed.pass(60 * SECOND);
    let said = [
        "schedule task, delay=1, mask=IN_CREATE, path=/in/a",
        "re-schedule task, delay=1, mask=IN_CLOSE_WRITE, path=/in/a",
        "scheduled task cancelled, mask=IN_DELETE, path=/in/a",
    ];
    assert_eq!(bed.tasks(), said);
}

#[test]
fn a_file_that_comes_and_goes_in_one_batch_makes_one_run_without_a_delay() {
    let mut bed = bed(0.0, &[Flag::Create, Flag::CloseWrite], &[Flag::Delete]);
    for flag in [Flag::Create, Flag::CloseWrite, Flag::Delete] {
        bed.script().happens(flag, "/in/a");
    }
    bed.settle();
    bed.end("job", "/in/a");
    bed.pass(60 * SECOND);
    let said = [
        "start task, mask=IN_CREATE, path=/in/a",
        "skip event due to ongoing task, mask=IN_CLOSE_WRITE, path=/in/a",
        "skip event due to ongoing task, mask=IN_DELETE, path=/in/a",
        "task finished, mask=IN_CREATE, path=/in/a",
    ];
    assert_eq!(bed.tasks(), said);
}

#[test]
fn events_that_are_told_after_a_reload_are_handled_once_by_the_new_maps() {
    let mut bed = bed(1.0, &[Flag::Create, Flag::Modify], &[]);
    let old = bed.script().interests();
    bed.script()
        .happens(Flag::Create, "/in/a")
        .then()
        .happens(Flag::Create, "/in/b")
        .happens(Flag::Modify, "/in/c");
    bed.turn();
    bed.reload(config(&[watch("/in", &map(&[Flag::Create], &[Flag::Delete]))], &[job("job", 1.0)])).unwrap();
    bed.pass(SECOND);
    let starts: Vec<_> = bed.running("job").into_iter().map(|(path, _)| path).collect();
    assert_eq!(starts, ["/in/a", "/in/b"]);
    // The watch is the same one, and wants no more than what is left of the maps.
    let new = bed.script().interests();
    assert_eq!((new.len(), new[0].0, old[0].0), (1, WatchId(0), WatchId(0)));
    assert_eq!(new[0].1, Flag::Create | Flag::Delete);
}

#[test]
fn events_of_a_watch_that_is_gone_reach_nobody() {
    let mut bed = bed(0.0, &[Flag::CloseWrite], &[]);
    let close_write = || map(&[Flag::CloseWrite], &[]);
    bed.reload(config(&[watch("/other", &close_write())], &[job("job", 0.0)])).unwrap();
    bed.settle();
    assert_eq!(bed.script().interests().len(), 1);
    bed.script().strays(WatchId(0), "/in/a");
    bed.settle();
    assert_eq!(bed.tasks(), [""; 0]);
    // Its number is used again, by a watch whose events one map hears.
    let both = [watch("/other", &close_write()), watch("/in", &close_write())];
    bed.reload(config(&both, &[job("job", 0.0)])).unwrap();
    bed.script().happens(Flag::CloseWrite, "/in/a");
    bed.settle();
    assert_eq!(bed.tasks(), ["start task, mask=IN_CLOSE_WRITE, path=/in/a"]);
}

#[test]
fn configurations_whose_last_runs_end_together_are_all_forgotten() {
    let mut bed = bed(0.0, &[Flag::Create], &[]);
    for (file, next) in [("/in/a", "/in/one"), ("/in/one/b", "/in/two")] {
        bed.script().happens(Flag::Create, file);
        bed.settle();
        bed.reload(config(&[watch(next, &map(&[Flag::Create], &[]))], &[job("job", 0.0)])).unwrap();
    }
    bed.settle();
    assert_eq!(bed.script().interests().len(), 3);
    bed.end("job", "/in/a");
    bed.end("job", "/in/one/b");
    bed.settle();
    assert_eq!(bed.script().interests().len(), 1);
}

#[test]
fn what_two_reloads_have_left_of_a_scheduler_is_still_cancelled() {
    let mut bed = bed(20.0, &[Flag::Create], &[Flag::Delete]);
    bed.script().happens(Flag::Create, "/in/a");
    bed.settle();
    let without_cancel = || config(&[watch("/in", &map(&[Flag::Create], &[]))], &[job("other", 20.0)]);
    for _ in 0..2 {
        bed.reload(without_cancel()).unwrap();
        bed.settle();
    }
    bed.script().happens(Flag::Delete, "/in/a");
    bed.pass(20 * SECOND);
    assert_eq!(bed.count("scheduled task cancelled"), 1);
    assert_eq!(bed.running("job"), []);
}

#[test]
fn a_configuration_whose_time_is_over_is_forgotten_then() {
    let mut bed = bed(0.0, &[Flag::Create], &[]);
    bed.script().happens(Flag::Create, "/in/a");
    bed.settle();
    bed.reload(config(&[watch("/other", &map(&[Flag::Create], &[]))], &[job("job", 0.0)])).unwrap();
    bed.pass(29 * SECOND);
    assert_eq!(bed.script().interests().len(), 2);
    // Nothing happens any more that would wake the loop later.
    bed.pass(SECOND);
    assert_eq!(bed.count("ongoing task cancelled"), 1);
    assert_eq!(bed.script().interests().len(), 1);
}

#[test]
fn a_task_follows_its_directory_into_the_next_configuration() {
    let mut bed = bed(2.0, &[Flag::Create], &[]);
    bed.script().happens(Flag::Create, "/in/old/a");
    bed.settle();
    bed.script().sets_up = false;
    let narrow = || config(&[watch("/in/new", &map(&[Flag::Create], &[]))], &[job("job", 2.0)]);
    bed.reload(narrow()).unwrap();
    bed.script().renamed("/in/old", Some("/in/new"));
    bed.settle();
    bed.script().sets_up = true;
    bed.pass(2 * SECOND);
    let starts: Vec<_> = bed.running("job").into_iter().map(|(path, _)| path).collect();
    assert_eq!(starts, ["/in/new/a"]);
}

#[test]
fn a_sync_waits_for_what_is_queued_and_not_for_what_comes_later() {
    let mut bed = bed(1.0, &[Flag::Create], &[]);
    bed.script().happens(Flag::Create, "/in/a").then().happens(Flag::Create, "/in/b").then();
    let mut answer = bed.ask(Question::Sync(SyncBody::default()));
    bed.script().happens(Flag::Create, "/in/c").then().happens(Flag::Create, "/in/d");
    bed.turn();
    assert!(answer.try_recv().is_err(), "one of two events was told");
    bed.turn();
    assert!(answer.try_recv().is_ok_and(|answer| answer.is_ok()));
    assert!(!bed.script().is_over());
}

#[test]
fn a_sync_until_idle_waits_for_delays_and_runs() {
    let mut bed = bed(1.0, &[Flag::Create], &[]);
    bed.script().happens(Flag::Create, "/in/a");
    let mut answer = bed.ask(Question::Sync(SyncBody { idle: true, timeout: None }));
    bed.pass(SECOND);
    assert!(answer.try_recv().is_err(), "the task runs");
    bed.end("job", "/in/a");
    bed.settle();
    assert!(answer.try_recv().is_ok_and(|answer| answer.is_ok()));
}

#[test]
fn a_source_that_never_becomes_ready_is_told_of_and_keeps_nobody_from_ending() {
    if !is_alone("a_source_that_never_becomes_ready_is_told_of_and_keeps_nobody_from_ending") {
        return;
    }
    let (source, script) = Scripted::new();
    script.borrow_mut().sets_up = false;
    let configured = config(&[watch("/in", &map(&[Flag::Create], &[]))], &[job("job", 1.0)]);
    let mut bed = Bed::with(configured, source, script).unwrap();
    bed.script().happens(Flag::Create, "/in/a");
    bed.pass(3600 * SECOND);
    let status = bed.daemon.status_view();
    assert_eq!((status.ready, status.reason.as_deref()), (false, Some("the watches are being set up")));
    assert_eq!(bed.count("start listening"), 0);
    bed.daemon.shutdown(EndSignal::Term, bed.now);
    bed.settle();
    assert!(bed.daemon.has_ended(bed.now));
    assert_eq!(bed.daemon.health().as_deref(), Some("the daemon ends"));
}

#[test]
fn a_shutdown_lets_delays_end_in_its_time_and_names_what_did_not() {
    if !is_alone("a_shutdown_lets_delays_end_in_its_time_and_names_what_did_not") {
        return;
    }
    let mut bed = bed(20.0, &[Flag::Create], &[]);
    bed.script().happens(Flag::Create, "/in/a").happens(Flag::Create, "/in/b");
    bed.settle();
    bed.daemon.shutdown(EndSignal::Term, bed.now);
    bed.script().happens(Flag::Create, "/in/late");
    bed.pass(20 * SECOND);
    bed.end("job", "/in/a");
    bed.pass(10 * SECOND);
    assert!(bed.daemon.has_ended(bed.now), "{:?}", bed.said);
    let of = |path: &str| format!("path=/in/{path}");
    let said: Vec<_> = bed.take_tasks().into_iter().map(|said| (said.at.as_secs(), said.text)).collect();
    let of_late = said.iter().filter(|(_, text)| text.ends_with(&of("late")));
    assert_eq!(of_late.count(), 0);
    assert!(said.contains(&(20, format!("task finished, mask=IN_CREATE, {}", of("a")))), "{said:?}");
    assert!(said.contains(&(30, format!("ongoing task cancelled, mask=IN_CREATE, {}", of("b")))), "{said:?}");
}

#[test]
fn a_loop_that_sleeps_wakes_for_events_and_signals() {
    if !is_alone("a_loop_that_sleeps_wakes_for_events_and_signals") {
        return;
    }
    let mut bed = bed(0.0, &[], &[Flag::Create]);
    let Bed { daemon, script, runtime, .. } = &mut bed;
    runtime.block_on(async {
        let user = async {
            script.borrow_mut().happens(Flag::Create, "/in/a");
            while !script.borrow().is_over() {
                tokio::task::yield_now().await;
            }
            kill_process(getpid(), Signal::TERM).unwrap();
            std::future::pending::<()>().await;
        };
        tokio::select! {
            // The loop is asleep when the user begins.
            biased;
            _ = daemon.run() => {}
            () = user => {}
        }
    });
    bed.listen();
    assert_eq!(bed.count("got signal SIGTERM, shutdown"), 1);
    assert_eq!(bed.count("shutdown complete"), 1);
}
