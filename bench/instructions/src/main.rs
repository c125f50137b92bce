//! Replays fixed events through the daemon's crates: `instructions SCENARIO COUNT [DIR]`.
//!
//! It measures nothing itself. `count.py` runs it under callgrind twice, with COUNT and twice COUNT; the difference of
//! the instructions, divided by COUNT, is what one operation costs, without start and end. Nothing here depends on
//! time, on chance or on the order of a hash table with a random key.

mod intake;
mod routing;

use std::process::ExitCode;

type Scenario = fn(usize, &str);

/// Each name with what one operation is.
const SCENARIOS: [(&str, Scenario); 8] = [
    // One of the four events of a file whose path no rule matches.
    ("route-no-match", routing::no_match),
    // The same past a thousand rules.
    ("route-1000-rules", routing::no_match_of_many),
    // An event for a path whose task waits already, among 10,000.
    ("re-arm", routing::re_arm),
    // An event that starts a task, and the task's end.
    ("start-finish", routing::start_finish),
    // A rule that matches, and the destination that comes out.
    ("rule-destination", routing::destination),
    // A file made, written, closed and removed by this process: what the replay itself adds to the next.
    ("storm", intake::storm),
    // The same, read from the kernel and told as four events with their paths.
    ("storm-watched", intake::storm_watched),
    // A directory found and watched.
    ("set-up", intake::set_up),
];

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().collect();
    let [_, name, count, rest @ ..] = arguments.as_slice() else {
        eprintln!("usage: instructions SCENARIO COUNT [DIR]");
        return ExitCode::from(2);
    };
    let scenario = SCENARIOS.iter().find(|(known, _)| known == name);
    let (Some((_, run)), Ok(count)) = (scenario, count.parse()) else {
        eprintln!("no such scenario or count: {name} {count}");
        return ExitCode::from(2);
    };
    run(count, rest.first().map_or(".", String::as_str));
    ExitCode::SUCCESS
}
