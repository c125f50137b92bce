//! A storm of events and reloads, held against a naive model of the rules of pyinotifyd 1: what a task is, what puts
//! it off, what cancels it, and when it runs.
//!
//! The model knows nothing of the program. It has a table of tasks for each scheduler, looks at all of them for
//! whatever comes next, and says what the log should say. Times are milliseconds.

use std::collections::BTreeMap;
use std::time::Duration;

use engine::TaskHandle;
use event::Flag;
use serde_json::{Value, json};

use super::{Bed, config, job, single_job, watch};
use crate::config::Config;

/// Each storm has configurations and events of its own.
const STORMS: u64 = 10;
const EVENTS: usize = 10_000;
/// One group of events in so many comes with a part of a reload.
const RELOADS: u64 = 20;

const FLAGS: [Flag; 7] = [
    Flag::Create,
    Flag::Modify,
    Flag::CloseWrite,
    Flag::Attrib,
    Flag::MovedFrom,
    Flag::MovedTo,
    Flag::Delete,
];

/// A scheduler's name, its delay, whether it has one task for all paths, and whether it is for directories.
const SCHEDULERS: [(&str, u64, bool, bool); 4] = [
    ("at-once", 0, false, false),
    ("short", 20, false, true),
    ("long", 200, false, false),
    ("single", 50, true, true),
];

/// The watched trees: the second lies in the first, so that what happens there is told twice.
const TREES: [&str; 2] = ["/in", "/in/below"];

/// What the first watch excludes, and its expression.
const EXCLUDED: (&str, &str) = ("/in/file7", "^/in/file7$");

/// SplitMix64 (Steele, Lea, Flood): the same numbers for the same seed everywhere.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ self.0 >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ mixed >> 31
    }

    fn below(&mut self, count: u64) -> u64 {
        self.next() % count
    }

    fn one_of<T: Copy>(&mut self, all: &[T]) -> T {
        all[self.below(all.len() as u64) as usize]
    }
}

#[derive(Clone, Copy, Debug)]
enum Reaction {
    Schedule(usize),
    Cancel(usize),
}

/// What is done to the configuration while a group of events is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Change {
    Nothing,
    /// A reload that the source has set up at once: the events find the new one.
    Reload,
    /// A reload whose watches are not set up yet.
    Begin,
    /// They are: the events still find the old one.
    SetUp,
}

/// Events that the source tells in one turn.
struct Group {
    at: u64,
    change: Change,
    events: Vec<(Flag, String)>,
}

/// By tree: what happens at which flag.
type Maps = Vec<BTreeMap<Flag, Vec<Reaction>>>;

/// One storm.
struct Storm {
    seed: u64,
    /// Of one configuration after the other.
    maps: Vec<Maps>,
    groups: Vec<Group>,
}

impl Storm {
    fn new(seed: u64) -> Storm {
        let mut random = Random(seed);
        let mut maps = vec![some_maps(&mut random)];
        let (mut groups, mut at, mut count, mut is_pending) = (Vec::new(), 1, 0, false);
        while count < EVENTS {
            at += random.one_of(&[0, 0, 1, 1, 2, 5, 20, 50, 120]);
            let events: Vec<_> =
                (0..random.below(20)).map(|_| (random.one_of(&FLAGS), path(&mut random))).collect();
            count += events.len();
            let change = match (random.below(RELOADS), is_pending) {
                (0, true) => Change::SetUp,
                (0, false) => random.one_of(&[Change::Reload, Change::Begin]),
                _ => Change::Nothing,
            };
            if matches!(change, Change::Reload | Change::Begin) {
                maps.push(some_maps(&mut random));
            }
            is_pending = change == Change::Begin || is_pending && change != Change::SetUp;
            groups.push(Group { at, change, events });
        }
        Storm { seed, maps, groups }
    }

    /// How long a run takes.
    fn takes(&self, scheduler: &str, path: &str, from: u64) -> u64 {
        let text = format!("{scheduler}{path}{from}");
        let seed = text.bytes().fold(self.seed, |seed, byte| Random(seed ^ u64::from(byte)).next());
        1 + Random(seed).below(40)
    }

    fn config(&self, number: usize) -> Config {
        let of = |reaction: &Reaction| match reaction {
            Reaction::Schedule(scheduler) => json!({"schedule": scheduler}),
            Reaction::Cancel(scheduler) => json!({"cancel": scheduler}),
        };
        let map = |map: &BTreeMap<Flag, Vec<Reaction>>| {
            let entries = map.iter();
            entries.map(|(flag, all)| (flag.name().to_owned(), all.iter().map(of).collect())).collect()
        };
        let trees = TREES.iter().zip(&self.maps[number]);
        let mut watches: Vec<Value> = trees.map(|(tree, of)| watch(tree, &Value::Object(map(of)))).collect();
        watches[0]["exclude"] = json!([{"pattern": EXCLUDED.1, "at": null}]);
        let schedulers = SCHEDULERS.map(|(name, delay, is_single, dirs)| {
            let delay = delay as f64 / 1000.0;
            let mut scheduler = if is_single { single_job(name, delay) } else { job(name, delay) };
            scheduler["dirs"] = json!(dirs);
            scheduler
        });
        config(&watches, &schedulers)
    }
}

/// The maps of a configuration, which need not have the second tree.
fn some_maps(random: &mut Random) -> Maps {
    let trees = 1 + random.below(TREES.len() as u64);
    let map = |_| FLAGS.into_iter().map(|flag| (flag, reactions(random))).collect();
    (0..trees).map(map).collect()
}

fn reactions(random: &mut Random) -> Vec<Reaction> {
    let reaction = |random: &mut Random| {
        let scheduler = random.below(SCHEDULERS.len() as u64) as usize;
        if random.below(3) == 0 { Reaction::Cancel(scheduler) } else { Reaction::Schedule(scheduler) }
    };
    (0..random.below(4)).map(|_| reaction(random)).collect()
}

fn path(random: &mut Random) -> String {
    match random.below(4) {
        0 => format!("/in/below/file{}", random.below(20)),
        1 => format!("/in/dir{}", random.below(5)),
        _ => format!("/in/file{}", random.below(40)),
    }
}

fn is_dir(path: &str) -> bool {
    path.starts_with("/in/dir")
}

/// What the log says of a task.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Line {
    at: u64,
    scheduler: String,
    /// What the task is for: its path, or everything.
    key: String,
    /// Tells lines of one task and time apart, in their order.
    text: String,
}

impl Line {
    fn new(at: u64, scheduler: &str, path: &str, text: String) -> Line {
        let place = SCHEDULERS.iter().position(|(name, ..)| *name == scheduler).expect("it is one of ours");
        Line { at, scheduler: scheduler.to_owned(), key: key(place, path), text }
    }
}

/// What a task of a scheduler is for.
fn key(scheduler: usize, path: &str) -> String {
    let (_, _, is_single, _) = SCHEDULERS[scheduler];
    if is_single { String::new() } else { path.to_owned() }
}

fn mask(flag: Flag, path: &str) -> String {
    if is_dir(path) { format!("{}|IN_ISDIR", flag.name()) } else { flag.name().to_owned() }
}

/// Lines as they are compared: those of one task are in their order, tasks of one time in any.
fn in_order(mut lines: Vec<Line>) -> Vec<Line> {
    lines.sort_by(|one, other| {
        (one.at, &one.scheduler, &one.key).cmp(&(other.at, &other.scheduler, &other.key))
    });
    lines
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Waiting { due: u64 },
    Running { until: u64 },
}

struct Task {
    state: State,
    mask: String,
    path: String,
}

/// The rules of pyinotifyd 1. A reload changes which events do what; tasks go on, whether they wait or run.
struct Model<'a> {
    storm: &'a Storm,
    /// Number of the configuration in force.
    number: usize,
    /// By scheduler and key.
    tasks: Vec<BTreeMap<String, Task>>,
    lines: Vec<Line>,
}

impl Model<'_> {
    /// What the log should say.
    fn lines(storm: &Storm) -> Vec<Line> {
        let tasks = SCHEDULERS.iter().map(|_| BTreeMap::new()).collect();
        let mut model = Model { storm, number: 0, tasks, lines: Vec::new() };
        for Group { at, change, events } in &storm.groups {
            while let Some(next) = model.next().filter(|next| next < at) {
                model.pass(next);
            }
            model.end_runs(*at);
            if *change == Change::Reload {
                model.number += 1;
            }
            for (flag, path) in events {
                model.event(*at, *flag, path);
            }
            model.start_due(*at);
            if *change == Change::SetUp {
                model.number += 1;
            }
        }
        while let Some(next) = model.next() {
            model.pass(next);
        }
        model.lines
    }

    /// When something happens by itself.
    fn next(&self) -> Option<u64> {
        let times = self.tasks.iter().flat_map(BTreeMap::values).map(|task| match task.state {
            State::Waiting { due } => due,
            State::Running { until } => until,
        });
        times.min()
    }

    fn pass(&mut self, at: u64) {
        self.end_runs(at);
        self.start_due(at);
    }

    fn end_runs(&mut self, at: u64) {
        for scheduler in 0..SCHEDULERS.len() {
            for key in self.in_state(scheduler, State::Running { until: at }) {
                let task = self.tasks[scheduler].remove(&key).expect("it runs");
                self.say(at, scheduler, "task finished", &task.mask, &task.path);
            }
        }
    }

    fn start_due(&mut self, at: u64) {
        for scheduler in 0..SCHEDULERS.len() {
            for key in self.in_state(scheduler, State::Waiting { due: at }) {
                self.start(at, scheduler, &key);
            }
        }
    }

    fn in_state(&self, scheduler: usize, state: State) -> Vec<String> {
        let all = self.tasks[scheduler].iter();
        all.filter(|(_, task)| task.state == state).map(|(key, _)| key.clone()).collect()
    }

    fn event(&mut self, at: u64, flag: Flag, path: &str) {
        for (place, map) in self.storm.maps[self.number].iter().enumerate() {
            let is_seen = path.starts_with(&format!("{}/", TREES[place]));
            if is_seen && !(place == 0 && path == EXCLUDED.0) {
                for reaction in &map[&flag] {
                    self.react(at, *reaction, flag, path);
                }
            }
        }
    }

    fn react(&mut self, at: u64, reaction: Reaction, flag: Flag, path: &str) {
        let (Reaction::Schedule(scheduler) | Reaction::Cancel(scheduler)) = reaction;
        let (_, delay, _, dirs) = SCHEDULERS[scheduler];
        let (key, mask) = (key(scheduler, path), mask(flag, path));
        let state = self.tasks[scheduler].get(&key).map(|task| task.state);
        match (reaction, state) {
            (Reaction::Schedule(_), _) if is_dir(path) && !dirs => {}
            (_, Some(State::Running { .. })) => {
                self.say(at, scheduler, "skip event due to ongoing task", &mask, path);
            }
            (Reaction::Cancel(_), None) => {}
            (Reaction::Cancel(_), Some(State::Waiting { .. })) => {
                self.tasks[scheduler].remove(&key);
                self.say(at, scheduler, "scheduled task cancelled", &mask, path);
            }
            (Reaction::Schedule(_), _) => {
                let task = Task { state: State::Waiting { due: at + delay }, mask, path: path.to_owned() };
                if delay > 0 {
                    let verb = if state.is_some() { "re-schedule" } else { "schedule" };
                    let text = format!("{verb} task, delay={}", delay as f64 / 1000.0);
                    self.say(at, scheduler, &text, &task.mask, path);
                }
                self.tasks[scheduler].insert(key.clone(), task);
                if delay == 0 {
                    self.start(at, scheduler, &key);
                }
            }
        }
    }

    fn start(&mut self, at: u64, scheduler: usize, key: &str) {
        let task = self.tasks[scheduler].get_mut(key).expect("it waits");
        let takes = self.storm.takes(SCHEDULERS[scheduler].0, &task.path, at);
        task.state = State::Running { until: at + takes };
        let (mask, path) = (task.mask.clone(), task.path.clone());
        self.say(at, scheduler, "start task", &mask, &path);
    }

    fn say(&mut self, at: u64, scheduler: usize, what: &str, mask: &str, path: &str) {
        let text = format!("{what}, mask={mask}, path={path}");
        self.lines.push(Line::new(at, SCHEDULERS[scheduler].0, path, text));
    }
}

/// What the log of the daemon says.
fn lines_of_daemon(storm: &Storm) -> Vec<Line> {
    let mut bed = Bed::new(storm.config(0));
    let mut lines = Vec::new();
    // Runs that end by then.
    let mut ends: BTreeMap<u64, Vec<TaskHandle>> = BTreeMap::new();
    let mut number = 0;
    let mut groups = storm.groups.iter().peekable();
    loop {
        let ours = groups.peek().map(|group| group.at).into_iter().chain(ends.keys().next().copied()).min();
        let of_loop = bed.due().map(|due| (due - bed.start).as_millis() as u64);
        let Some(at) = ours.into_iter().chain(of_loop).min() else { break };
        bed.now = bed.start + Duration::from_millis(at);
        for handle in ends.remove(&at).unwrap_or_default() {
            bed.end_run(handle);
        }
        if let Some(Group { change, events, .. }) = groups.next_if(|group| group.at == at) {
            if matches!(change, Change::Reload | Change::Begin) {
                number += 1;
                bed.script().sets_up = *change == Change::Reload;
                bed.reload(storm.config(number)).expect("nothing refuses it");
            }
            let mut script = bed.script();
            script.sets_up |= *change == Change::SetUp;
            for (flag, path) in events {
                if is_dir(path) {
                    script.happens_to_dir(*flag, path)
                } else {
                    script.happens(*flag, path)
                };
            }
        }
        bed.settle();
        for said in bed.take_tasks() {
            let (_, path) = said.text.rsplit_once(", path=").expect("a line of a task has its path");
            if said.text.starts_with("start task") {
                let until = at + storm.takes(&said.logger, path, at);
                let is_new = |handle: &TaskHandle| !ends.values().flatten().any(|known| known == handle);
                let runs = bed.running(&said.logger).into_iter().filter(|(of, _)| of == path);
                let run = runs.map(|(_, handle)| handle).find(is_new).expect("it runs");
                ends.entry(until).or_default().push(run);
            }
            lines.push(Line::new(at, &said.logger, path, said.text.clone()));
        }
    }
    lines
}

#[test]
fn a_storm_does_what_the_seed_says() {
    for seed in 0..STORMS {
        let storm = Storm::new(seed);
        let (is, should) = (in_order(lines_of_daemon(&storm)), in_order(Model::lines(&storm)));
        let differs = (0..is.len().max(should.len())).find(|&at| is.get(at) != should.get(at));
        if let Some(at) = differs {
            let before = &should[at.saturating_sub(5)..at];
            panic!("seed {seed}, after {before:#?}: {:?} instead of {:?}", is.get(at), should.get(at));
        }
        assert!(is.len() > EVENTS / 10, "seed {seed}: a storm in which nothing happens shows nothing");
    }
}
