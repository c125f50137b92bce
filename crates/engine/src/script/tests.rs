//! The simulator: scripts from seeds. `ENGINE_STEPS` sets how many steps, `ENGINE_SEED` the first seed.

use super::{Tally, run_counting, run_script};
use crate::random::Random;

/// Steps without `ENGINE_STEPS`: some seconds without optimisation.
const STEPS_DEFAULT: u64 = 450_000;

/// Bytes of one script: some hundred steps, so that many configurations are tried.
const SCRIPT_BYTES: usize = 4_000;

fn script(seed: u64) -> Vec<u8> {
    let mut random = Random::new(seed);
    (0..SCRIPT_BYTES).map(|_| (random.next() >> 32) as u8).collect()
}

fn variable(name: &str) -> Option<u64> {
    let value = std::env::var(name).ok()?;
    Some(value.parse().unwrap_or_else(|_| panic!("{name} is a number, not '{value}'")))
}

/// Says which seed it was when a script fails.
struct Seed(u64);

impl Drop for Seed {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("the script of ENGINE_SEED={} ENGINE_STEPS=1 failed", self.0);
        }
    }
}

#[test]
fn the_engine_does_what_the_model_does() {
    let steps_wanted = variable("ENGINE_STEPS").unwrap_or(STEPS_DEFAULT);
    let mut seed = variable("ENGINE_SEED").unwrap_or(1);
    let mut tally = Tally::new();
    let mut steps = 0;
    while steps < steps_wanted {
        let said_on_failure = Seed(seed);
        steps += run_counting(&script(seed), &mut tally) as u64;
        drop(said_on_failure);
        seed += 1;
    }
    if steps >= STEPS_DEFAULT {
        assert_everything_happened(&tally);
    }
}

/// A script that never reaches a rule says nothing about it.
fn assert_everything_happened(tally: &Tally) {
    let kinds = [
        "AllCompleted",
        "Begin::AfterDelay",
        "Begin::AtOnce",
        "Begin::WhenPlaceIsFree",
        "Begin::WithBatch",
        "CancelledOngoing",
        "CancelledWaiting",
        "Change::Cancel",
        "Change::CancelRetry",
        "Change::Gather",
        "Change::Refresh",
        "Change::Remember",
        "Change::Reschedule",
        "Change::Restart",
        "Change::Skip",
        "Change::SkipAndRunAgain",
        "Change::SkipCancel",
        "ExcludeStepLimit",
        "Excluded",
        "Failed",
        "Finished",
        "Followed",
        "Gathered",
        "Ignored::NoMatch",
        "Ignored::NothingToCancel",
        "Ignored::Paused",
        "Ignored::StepLimit",
        "Ignored::TasksMax",
        "Ignored::Unfit",
        "MaxJobs",
        "MaxRate",
        "NoRule",
        "NotDone",
        "Paused",
        "PutOff",
        "Question",
        "Queued",
        "Received",
        "Remembered",
        "Reruns",
        "Rescheduled",
        "Restarting",
        "Retry",
        "Replaced",
        "RuleStepLimit",
        "Scheduled",
        "SkippedOngoing",
        "Split",
        "Start",
        "Start again",
        "Start for failure",
        "Start for many",
        "Started",
        "TasksMax",
        "TasksMaxOver",
        "TimeoutExceeded",
        "Unchanged",
        "Unsettled",
        "Vanished",
        "WaitForTasks",
        "Withdrawn",
        "stop",
    ];
    for kind in kinds {
        let times = tally.get(kind).copied().unwrap_or(0);
        assert!(times >= 100, "{kind} came {times} times only: {tally:#?}");
    }
}

#[test]
fn no_bytes_are_a_script_too() {
    assert_eq!(run_script(b""), 0);
    assert_eq!(run_script(&[0; 64]), run_script(&[0; 64]));
    run_script(&[0xff; 2_000]);
}
