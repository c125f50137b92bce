//! File rules: what the loop hands over, and the reports that come back.
//!
//! Each task is work for the lane of the filesystems that it touches ([`crate::lane`]): where its file is, and where
//! the result goes. It is submitted when other work on these paths has ended, whatever lanes that is for ([`Claims`]).
//! Different paths are worked on beside each other.

use std::ffi::OsStr;
use std::fmt;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::{Instant, SystemTime};

use files::{Action, Done, Durability, Held, Identity, Kinds, Request};
use hashbrown::HashMap;
use pattern::Substituted;
use rustix::io::Errno;

use super::Lanes;
use super::claims::{Claimant, Claims, Use};
use super::descent::{Descent, Descents, FeedsItself, Noted, Place};
use super::undo::Deed;
use crate::config::{FileRule, FileRules};
use crate::lane::{Filesystem, Filesystems, Fit, LaneId, NotPerformed, Size, Work};
use crate::log::{Escaped, Level};

/// What a run of a task leaves, for the next one that events ask for which came meanwhile.
#[derive(Clone, Debug, Default)]
pub(crate) struct Before {
    /// What it acted on: if the source is still that, there is nothing to do.
    pub source: Option<Identity>,
    /// It has ended well, and its rule takes the source away: if there is none, there is nothing to do.
    pub takes_away: bool,
    /// What it did although it was told to stop, as it is kept.
    pub deed: Option<String>,
}

/// What is to be done for a task.
#[derive(Debug)]
pub(crate) struct Order {
    /// Who asked for it.
    pub task: u64,
    /// The scheduler's rules and the one that matched.
    pub rules: Arc<FileRules>,
    /// Place in `rules`.
    pub rule: usize,
    /// The event's path.
    pub source: Arc<[u8]>,
    /// Length of the watch root, with which `source` begins.
    pub root_len: usize,
    /// The event is about a directory.
    pub is_dir: bool,
    /// Roots of watches between that root and the source, for a rule that prunes.
    pub roots: Vec<Vec<u8>>,
    /// What an earlier run of the task left, for which nothing is to be done again.
    pub before: Before,
    /// An earlier run of the task has failed. If it was done all the same, so is this one.
    pub is_retry: bool,
    /// Least severity of records that are wanted.
    pub level: Level,
    /// What was done is to be kept for an undo.
    pub keeps: bool,
}

/// What the loop gets to know of an order.
#[derive(Debug)]
pub(crate) enum Report {
    /// A line for the log.
    Record {
        /// Whose.
        task: u64,
        /// Severity.
        level: Level,
        /// Escaped text.
        text: String,
    },
    /// The work is done.
    Ended {
        /// Whose.
        task: u64,
        /// The source that was acted on, or what went wrong.
        result: Result<Done, Failure>,
        /// What was done, for an undo, if that is to be kept.
        deed: Option<String>,
    },
}

/// Why an order was not carried out.
#[derive(Debug)]
pub(crate) enum Failure {
    /// It cannot be done now, since somebody uses the file or no descriptor is free; it is to be tried again.
    InUse(String),
    /// All else.
    Error(String),
}

/// All orders that have not ended.
#[derive(Debug, Default)]
pub(crate) struct FileOrders {
    claims: Claims,
    runs: HashMap<u64, Arc<Run>>,
    /// Undos that wait for orders, by their numbers.
    undos: HashMap<u64, Undo>,
    /// What rules have made.
    pub descents: Descents,
}

/// The undo of what an order did.
pub(crate) struct Undo {
    /// The paths that it is about.
    pub paths: Vec<Vec<u8>>,
    pub lane: LaneId,
    pub work: Arc<dyn Work<super::Report, Held>>,
}

impl fmt::Debug for Undo {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("Undo").field("paths", &self.paths).field("lane", &self.lane).finish_non_exhaustive()
    }
}

/// An order on its way through a lane.
#[derive(Debug)]
struct Run {
    order: Order,
    /// `Err` holds the text of why there is none.
    destination: Result<Destination, String>,
    /// Known when it is submitted.
    places: OnceLock<Places>,
    descents: Descents,
    stage: Mutex<Stage>,
    /// Set to end it early.
    stop: AtomicBool,
}

/// Where the directories are that an order changes.
#[derive(Debug)]
struct Places {
    /// That of the source.
    from: Filesystem,
    /// That of the destination.
    to: Filesystem,
    /// That of the rule's trash.
    trash: Option<Filesystem>,
}

/// Where a rule's result goes.
#[derive(Debug, Default)]
struct Destination {
    path: Vec<u8>,
    /// How many leading bytes are the administrator's literal text.
    trusted_len: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Waits,
    Runs,
    Withdrawn,
}

impl Order {
    /// What its source may be by now: as the event said, or whatever else its scheduler takes.
    fn kinds(&self) -> Kinds {
        let takes = self.rules.kinds;
        Kinds { files: takes.files || !self.is_dir, directories: takes.directories || self.is_dir }
    }
}

impl FileOrders {
    /// Takes an order; [`Lanes::tend`] must follow.
    pub(crate) fn order(&mut self, order: Order, lanes: &mut Lanes, now: Instant) {
        let run = Arc::new(Run::new(order, self.descents.clone()));
        let Order { task, source, is_dir, .. } = &run.order;
        let destination = run.destination.as_ref().map_or(&b""[..], |to| &to.path);
        let by = if run.rule().rule.action == Action::Copy { Use::Reads } else { Use::Changes };
        let paths = [(&source[..], by), (destination, Use::Changes)].into_iter();
        let paths = paths.filter(|(path, _)| !path.is_empty());
        let is_free = self.claims.claim(Claimant::Task(*task), paths, *is_dir);
        self.runs.insert(*task, Arc::clone(&run));
        if is_free {
            submit(run, lanes, now);
        }
    }

    /// Takes an undo; [`Lanes::tend`] must follow, and [`FileOrders::undone`] when it was reported.
    pub(crate) fn undo(&mut self, number: u64, undo: Undo, lanes: &mut Lanes, now: Instant) {
        let who = Claimant::Undo(number);
        let paths = undo.paths.iter().map(|path| (path.as_slice(), Use::Changes));
        let is_free = self.claims.claim(who, paths, true);
        self.undos.insert(number, undo);
        if is_free {
            self.begin(who, lanes, now);
        }
    }

    /// The end of an undo was reported.
    pub(crate) fn undone(&mut self, number: u64, lanes: &mut Lanes, now: Instant) {
        self.release(Claimant::Undo(number), lanes, now);
    }

    /// Orders about the source of one, or about something below it, that wait for it.
    pub(crate) fn waiting_for(&self, task: u64) -> Vec<u64> {
        let Some(run) = self.runs.get(&task) else { return Vec::new() };
        let is_at_or_below = |task: &u64| {
            let other = self.runs.get(task);
            other.is_some_and(|other| path_of(other).starts_with(path_of(run)))
        };
        let tasks = self.claims.waiting_for(Claimant::Task(task)).iter().filter_map(|who| match who {
            Claimant::Task(task) => Some(*task),
            Claimant::Undo(_) => None,
        });
        tasks.filter(is_at_or_below).collect()
    }

    /// Whether an order waits for other work on its paths.
    pub(crate) fn waits(&self, task: u64) -> bool {
        self.claims.waits(Claimant::Task(task))
    }

    /// Takes back all undos that wait for orders, and gives their numbers.
    pub(crate) fn withdraw_undos(&mut self) -> Vec<u64> {
        std::mem::take(&mut self.undos).into_keys().collect()
    }

    /// Takes an order back that nobody works on yet; false if somebody does. No report comes of one that was taken
    /// back.
    pub(crate) fn withdraw(&mut self, task: u64, lanes: &mut Lanes, now: Instant) -> bool {
        let is_withdrawn =
            self.runs.get(&task).is_some_and(|run| run.advance(Stage::Waits, Stage::Withdrawn));
        if is_withdrawn {
            self.ended(task, lanes, now);
        }
        is_withdrawn
    }

    /// Asks work to end early; its report comes all the same.
    pub(crate) fn stop(&self, task: u64) {
        if let Some(run) = self.runs.get(&task) {
            run.stop.store(true, Ordering::Relaxed);
        }
    }

    /// What an order does, in a word.
    pub(crate) fn action(&self, task: u64) -> Option<&'static str> {
        self.runs.get(&task).map(|run| match run.rule().rule.action {
            Action::Move => "move",
            Action::Copy => "copy",
            Action::Delete => "delete",
        })
    }

    /// Whether an order leaves nothing under the path of its source when it succeeds.
    pub(crate) fn takes_away(&self, task: u64) -> bool {
        self.runs.get(&task).is_some_and(|run| match run.rule().rule.action {
            Action::Move | Action::Delete => true,
            Action::Copy => false,
        })
    }

    /// The end of an order was reported: what waited for it goes next.
    pub(crate) fn ended(&mut self, task: u64, lanes: &mut Lanes, now: Instant) {
        if self.runs.remove(&task).is_some() {
            self.release(Claimant::Task(task), lanes, now);
        }
    }

    fn release(&mut self, who: Claimant, lanes: &mut Lanes, now: Instant) {
        for next in self.claims.release(who) {
            self.begin(next, lanes, now);
        }
    }

    fn begin(&mut self, who: Claimant, lanes: &mut Lanes, now: Instant) {
        match who {
            Claimant::Task(task) => submit(Arc::clone(&self.runs[&task]), lanes, now),
            Claimant::Undo(number) => {
                if let Some(Undo { lane, work, .. }) = self.undos.remove(&number) {
                    lanes.submit(lane, Size::Small, work, now);
                }
            }
        }
    }
}

fn submit(run: Arc<Run>, lanes: &mut Lanes, now: Instant) {
    let lane = run.lane(&mut lanes.filesystems, now);
    // Whether it is large shows when its file is looked at.
    let size = if run.waits_for_disk(lane) { Size::Synced } else { Size::Small };
    lanes.submit(lane, size, run, now);
}

impl Run {
    fn new(order: Order, descents: Descents) -> Run {
        let destination = order.rules.destination(order.rule, &order.source).map(|substituted| {
            let of = |to: Substituted| Destination { path: to.bytes, trusted_len: to.literal_prefix_len };
            substituted.map(of).unwrap_or_default()
        });
        let (stage, stop) = (Mutex::new(Stage::Waits), AtomicBool::new(false));
        Run { order, destination, places: OnceLock::new(), descents, stage, stop }
    }

    fn lane(&self, filesystems: &mut Filesystems, now: Instant) -> LaneId {
        let rule = &self.rule().rule;
        let Places { from, to, .. } = self.places.get_or_init(|| {
            let from = filesystems.of_parent(&self.order.source, now);
            let to = self.destination.as_ref().ok().filter(|to| !to.path.is_empty());
            let to = to.map_or_else(|| from.clone(), |to| filesystems.of_parent(trimmed(&to.path), now));
            let trash = rule.trash.as_deref().map(|trash| filesystems.of_directory(trimmed(trash), now));
            Places { from, to, trash }
        });
        let owner = rule.user.is_some() || rule.group.is_some();
        LaneId::Files { from: from.device, to: to.device, owner }
    }

    /// Whether the result is on the disk before the task ends.
    fn waits_for_disk(&self, lane: LaneId) -> bool {
        let files::Rule { action, durability, .. } = &self.rule().rule;
        let crosses = matches!(lane, LaneId::Files { from, to, .. } if from != to);
        match (action, durability) {
            (Action::Delete, _) | (_, Durability::Never) | (Action::Copy, Durability::Auto) => false,
            (_, Durability::Always) => true,
            (Action::Move, Durability::Auto) => crosses,
        }
    }

    fn rule(&self) -> &FileRule {
        &self.order.rules.rules[self.order.rule]
    }

    /// Goes from one stage to another; false if it is at none of the two.
    fn advance(&self, from: Stage, to: Stage) -> bool {
        let mut stage = self.stage.lock().expect("nothing panics while it holds this lock");
        let is_there = *stage == from;
        if is_there {
            *stage = to;
        }
        is_there
    }

    fn ended(&self, result: Result<Done, Failure>) -> super::Report {
        let Order { is_retry, before, keeps, .. } = &self.order;
        let result = result.map(|done| Done { unchanged: done.unchanged && !is_retry, ..done });
        let deed = result.as_ref().ok().filter(|_| *keeps).and_then(|done| self.deed(done));
        let deed = deed.or_else(|| before.deed.clone());
        super::Report::File(Report::Ended { task: self.order.task, result, deed })
    }

    /// What was done, as it is kept.
    fn deed(&self, done: &Done) -> Option<String> {
        let Order { source, root_len, .. } = &self.order;
        let trusted_len = self.destination.as_ref().map_or(0, |destination| destination.trusted_len);
        Deed::of(&self.rule().rule, source, *root_len, trusted_len, done).map(|deed| deed.to_json())
    }

    /// How far the rules have come with this action.
    fn descent(&self, now: Instant) -> Result<Descent, Failure> {
        let changed = || {
            let metadata = std::fs::symlink_metadata(path_of(self)).ok()?;
            // Rules change the time of a directory by what they make in it.
            if metadata.is_dir() { None } else { metadata.modified().ok() }
        };
        let before = self.places.get().and_then(|Places { from, .. }| {
            let place = Place::below(from, name_of(&self.order.source));
            self.descents.of(&place, || self.place_of_root(from), now)
        });
        let descent = Descent::next(before, self.rule().generations, SystemTime::now(), changed);
        descent.map_err(|FeedsItself| Failure::Error("rules feed themselves".to_owned()))
    }

    /// The place of the watch's root, or of what is mounted below it and above the source, whose directory is `there`.
    fn place_of_root(&self, there: &Filesystem) -> Place {
        let Order { source, root_len, .. } = &self.order;
        let names = source.get(*root_len..).unwrap_or_default();
        let names = names.strip_prefix(b"/").unwrap_or(names);
        if names.is_empty() {
            return Place::below(there, name_of(source));
        }
        Place::of_root_above(there, trimmed(&names[..names.len() - name_of(names).len()]))
    }

    /// Notes that this action makes something at a path.
    fn note(&self, made: &[u8], is_tree: bool, descent: Descent, now: Instant) -> Option<Noted> {
        Some(self.descents.note(&self.place_of(made)?, is_tree, descent, now))
    }

    /// The place of something that this action makes: in the trash, or at, beside, below or above the destination.
    fn place_of(&self, made: &[u8]) -> Option<Place> {
        let (Places { to, trash, .. }, Ok(destination)) = (self.places.get()?, &self.destination) else {
            return None;
        };
        let made = trimmed(made);
        let in_trash = || Place::around(trash.as_ref()?, trimmed(self.rule().rule.trash.as_ref()?), made);
        let path = trimmed(&destination.path);
        let directory = trimmed(&path[..path.len() - name_of(path).len()]);
        let is_named = !path.is_empty() && !made.is_empty();
        let at_destination = || is_named.then(|| Place::around(to, directory, made)).flatten();
        in_trash().or_else(at_destination)
    }

    /// Lets the file layer act.
    fn act(
        &self,
        size: Size,
        held: &mut Held,
        report: &mut dyn FnMut(super::Report),
    ) -> Result<Done, Unfinished> {
        let destination = self.destination.as_ref().map_err(|text| Failure::Error(text.clone()))?;
        let now = Instant::now();
        let descent = self.descent(now)?;
        let is_tree = self.order.is_dir;
        let noted = self.note(&destination.path, is_tree, descent, now);
        let mut is_made = false;
        let mut making = |record: &files::Record<'_>| {
            if let files::Record::Making { path, is_tree } = *record {
                self.note(path, is_tree, descent, now);
                is_made |= path == trimmed(&destination.path);
            } else if let files::Record::Move { to, .. } | files::Record::Copy { to, .. } = *record {
                is_made |= *to == *destination.path;
            }
        };
        let done = self.perform_rule(destination, size, held, &mut making, report);
        if let Some(noted) = noted.filter(|_| !is_made) {
            self.descents.take_back(&noted);
        }
        done
    }

    /// What is made is told to `making`, too.
    fn perform_rule(
        &self,
        destination: &Destination,
        size: Size,
        held: &mut Held,
        making: &mut dyn FnMut(&files::Record<'_>),
        report: &mut dyn FnMut(super::Report),
    ) -> Result<Done, Unfinished> {
        let order = &self.order;
        let roots: Vec<&[u8]> = order.roots.iter().map(Vec::as_slice).collect();
        let request = Request {
            rule: &self.rule().rule,
            root: &order.source[..order.root_len],
            source: &order.source,
            destination: &destination.path,
            trusted_len: destination.trusted_len,
            stop: &self.stop,
            roots: &roots,
            wants_placed: order.keeps,
            unless_same_as: order.before.source.as_ref(),
            unless_gone: order.before.takes_away,
            kinds: order.kinds(),
            brief: size != Size::Large,
        };
        let done = files::perform(&request, held, &mut |record: files::Record<'_>| {
            making(&record);
            if let Some(record) = report_of(order, &record) {
                report(super::Report::File(record));
            }
        });
        if done.as_ref().is_err_and(is_out_of_descriptors) {
            // Workers that all keep their directories would leave none for a file.
            held.release();
        }
        done.map_err(|error| match error {
            files::Error::Lengthy => Unfinished::TooLarge,
            files::Error::InUse { .. } => Failure::InUse(error.to_string()).into(),
            error if is_out_of_descriptors(&error) => {
                Failure::InUse(format!("{error} (see ulimit -n, fs.file-max)")).into()
            }
            error => Failure::Error(error.to_string()).into(),
        })
    }
}

/// Why a worker did not carry an order out.
enum Unfinished {
    /// It would take longer than it may.
    TooLarge,
    Failed(Failure),
}

impl From<Failure> for Unfinished {
    fn from(failure: Failure) -> Unfinished {
        Unfinished::Failed(failure)
    }
}

impl Work<super::Report, Held> for Run {
    fn about(&self) -> String {
        let (action, source) = (self.rule().rule.action, Escaped(&self.order.source));
        match &self.destination {
            Ok(destination) if !destination.path.is_empty() => {
                format!("{action} of '{source}' to '{}'", Escaped(&destination.path))
            }
            Ok(_) | Err(_) => format!("{action} of '{source}'"),
        }
    }

    fn perform(&self, size: Size, held: &mut Held, report: &mut dyn FnMut(super::Report)) -> Fit {
        if !self.advance(Stage::Waits, Stage::Runs) {
            return Fit::Done;
        }
        match self.act(size, held, report) {
            Ok(done) => report(self.ended(Ok(done))),
            Err(Unfinished::Failed(failure)) => report(self.ended(Err(failure))),
            Err(Unfinished::TooLarge) => {
                self.advance(Stage::Runs, Stage::Waits);
                return Fit::TooLarge;
            }
        }
        Fit::Done
    }

    fn not_performed(&self, why: NotPerformed) -> super::Report {
        self.ended(Err(Failure::Error(why.to_string())))
    }
}

/// Whether all descriptors of the process or of the system are taken.
fn is_out_of_descriptors(error: &files::Error) -> bool {
    const NONE_LEFT: [Errno; 2] = [Errno::MFILE, Errno::NFILE];
    error.errno().is_some_and(|errno| NONE_LEFT.iter().any(|none_left| none_left.raw_os_error() == errno))
}

fn path_of(run: &Run) -> &Path {
    Path::new(OsStr::from_bytes(&run.order.source))
}

/// What comes after the last slash.
fn name_of(path: &[u8]) -> &[u8] {
    path.rsplit(|byte| *byte == b'/').next().unwrap_or_default()
}

/// A path without slashes at its end.
fn trimmed(path: &[u8]) -> &[u8] {
    let end = path.iter().rposition(|byte| *byte != b'/').map_or(0, |last| last + 1);
    &path[..end]
}

/// What the loop gets to know of a record, unless nobody wants to read it.
fn report_of(order: &Order, record: &files::Record<'_>) -> Option<Report> {
    let level = match record {
        files::Record::Making { .. } => return None,
        files::Record::CreateDirectory(_)
        | files::Record::Move { .. }
        | files::Record::Copy { .. }
        | files::Record::Delete(_)
        | files::Record::Trash { .. }
        | files::Record::Prune(_)
        | files::Record::Skip { .. } => Level::INFO,
        files::Record::Chmod(_) | files::Record::Chown { .. } => Level::DEBUG,
        files::Record::Warning(_) => Level::WARNING,
    };
    let text = || Escaped(record.to_string().as_bytes()).to_string();
    (level >= order.level).then(|| Report::Record { task: order.task, level, text: text() })
}

#[cfg(test)]
mod tests {
    use std::os::unix::ffi::OsStrExt as _;
    use std::path::Path;
    use std::time::Duration;

    use pattern::{Pattern, PatternSet, Template};

    use super::*;
    use crate::lane::Limits;

    /// No wait of these tests takes so long unless something is broken.
    const DEADLINE: Duration = Duration::from_secs(30);

    /// One rule for every file; `f` goes to `copy of f`.
    fn rules(action: files::Action) -> Arc<FileRules> {
        let pattern = Pattern::new(b"^(.*/)(.*)$").unwrap();
        let template = Ok(Template::new(br"\1copy of \2", &pattern).unwrap());
        let rules = vec![FileRule {
            template,
            rule: files::Rule::new(action),
            generations: 8,
            trash_keep: None,
            at: None,
        }];
        Arc::new(FileRules { patterns: PatternSet::new(vec![pattern]), rules, kinds: Kinds::ALL })
    }

    /// A directory in which files are copied or deleted, by orders.
    struct Bench {
        directory: tempfile::TempDir,
        rules: Arc<FileRules>,
        orders: FileOrders,
        lanes: Lanes,
    }

    impl Bench {
        fn new(action: files::Action) -> Bench {
            let (orders, lanes) = (FileOrders::default(), Lanes::new(Limits::default()));
            Bench { directory: tempfile::tempdir().unwrap(), rules: rules(action), orders, lanes }
        }

        fn path(&self, name: &str) -> std::path::PathBuf {
            self.directory.path().join(name)
        }

        fn order(&mut self, task: u64, name: &str) {
            let directory: &Path = self.directory.path();
            let order = Order {
                task,
                rules: Arc::clone(&self.rules),
                rule: 0,
                source: directory.join(name).as_os_str().as_bytes().into(),
                root_len: directory.as_os_str().len(),
                is_dir: false,
                roots: Vec::new(),
                before: Before::default(),
                is_retry: false,
                level: Level::WARNING,
                keeps: false,
            };
            self.orders.order(order, &mut self.lanes, Instant::now());
        }

        /// Tends the lanes until so many orders have ended; gives their tasks and whether they succeeded.
        fn ends(&mut self, count: usize) -> Vec<(u64, bool)> {
            let until = Instant::now() + DEADLINE;
            let mut ended = Vec::new();
            while ended.len() < count {
                assert!(Instant::now() < until, "{} of {count} orders have ended", ended.len());
                assert!(self.lanes.tend(Instant::now()).is_empty());
                for report in self.lanes.take_reports() {
                    if let super::super::Report::File(Report::Ended { task, result, .. }) = report {
                        ended.push((task, result.is_ok()));
                        self.orders.ended(task, &mut self.lanes, Instant::now());
                    }
                }
                std::thread::yield_now();
            }
            assert_eq!(ended.len(), count);
            ended
        }

        fn is_empty(&self) -> bool {
            self.orders.runs.is_empty() && self.orders.claims.is_empty()
        }
    }

    #[test]
    fn a_burst_ends_whole_and_each_path_in_its_order() {
        let mut bench = Bench::new(files::Action::Delete);
        for task in 0..3_000 {
            let name = format!("f{}", task % 1_000);
            std::fs::write(bench.path(&name), "").unwrap();
            bench.order(task, &name);
        }
        let ended = bench.ends(3_000);
        for task in 0..3_000 {
            let place = ended.iter().position(|(other, _)| *other == task).unwrap();
            assert_eq!(ended[place].1, task < 1_000, "the first of three deletes the file");
            let next = ended.iter().position(|(other, _)| *other == task + 1_000);
            assert!(next.is_none_or(|next| place < next), "{task} and the next one on its path");
        }
        assert!(bench.is_empty());
    }

    #[test]
    fn what_is_large_when_it_is_looked_at_is_done_all_the_same() {
        let mut bench = Bench::new(files::Action::Copy);
        std::fs::write(bench.path("large"), vec![1; 8 << 20]).unwrap();
        std::fs::write(bench.path("small"), "1").unwrap();
        bench.order(1, "large");
        bench.order(2, "small");
        bench.ends(2);
        assert_eq!(std::fs::metadata(bench.path("copy of large")).unwrap().len(), 8 << 20);
        assert_eq!(std::fs::read(bench.path("copy of small")).unwrap(), b"1");
        assert!(bench.is_empty());
    }

    #[test]
    fn what_is_taken_back_before_its_turn_is_not_done_and_holds_nothing_up() {
        let mut bench = Bench::new(files::Action::Delete);
        for name in ["a", "b"] {
            std::fs::write(bench.path(name), "").unwrap();
        }
        for (task, name) in [(1, "a"), (2, "a"), (3, "a"), (4, "b")] {
            bench.order(task, name);
        }
        let now = Instant::now();
        // Behind another one, before it, and alone. The lanes were not tended, so that no worker has begun.
        for task in [2, 1, 4] {
            assert!(bench.orders.withdraw(task, &mut bench.lanes, now), "{task}");
            assert!(!bench.orders.withdraw(task, &mut bench.lanes, now), "{task} again");
        }
        assert_eq!(bench.ends(1), [(3, true)]);
        assert!(!bench.orders.withdraw(3, &mut bench.lanes, now), "it has ended");
        assert!(bench.is_empty() && bench.path("b").exists() && !bench.path("a").exists());
    }

    #[test]
    fn what_is_synced_has_workers_of_its_own() {
        let waits = |action, durability, to| {
            let mut rules = rules(action);
            Arc::get_mut(&mut rules).unwrap().rules[0].rule.durability = durability;
            let source: Arc<[u8]> = b"/d/f".as_slice().into();
            let (before, level) = (Before::default(), Level::WARNING);
            let (root_len, is_dir, roots) = (2, false, Vec::new());
            let order = Order {
                task: 1,
                rules,
                rule: 0,
                source,
                root_len,
                is_dir,
                roots,
                before,
                is_retry: false,
                level,
                keeps: false,
            };
            Run::new(order, Descents::default()).waits_for_disk(LaneId::Files { from: 1, to, owner: false })
        };
        assert!(!waits(Action::Move, Durability::Auto, 1) && waits(Action::Move, Durability::Auto, 2));
        assert!(!waits(Action::Copy, Durability::Auto, 2) && waits(Action::Copy, Durability::Always, 1));
        assert!(!waits(Action::Delete, Durability::Always, 1) && !waits(Action::Move, Durability::Never, 2));
    }

    #[test]
    fn the_lane_is_that_of_both_filesystems_and_of_the_database_of_users() {
        let directory = tempfile::tempdir().unwrap();
        let device = std::os::unix::fs::MetadataExt::dev(&directory.path().metadata().unwrap());
        let proc = std::os::unix::fs::MetadataExt::dev(&std::fs::metadata("/proc").unwrap());
        let lane = |action, template: &[u8], user: Option<&str>| {
            let pattern = Pattern::new(b"^.*/(.*)$").unwrap();
            let template = Ok(Template::new(template, &pattern).unwrap());
            let rule = files::Rule { user: user.map(str::to_owned), ..files::Rule::new(action) };
            let rules = vec![FileRule { template, rule, generations: 8, trash_keep: None, at: None }];
            let order = Order {
                task: 1,
                rules: Arc::new(FileRules {
                    patterns: PatternSet::new(vec![pattern]),
                    rules,
                    kinds: Kinds::ALL,
                }),
                rule: 0,
                source: directory.path().join("f").as_os_str().as_bytes().into(),
                root_len: directory.path().as_os_str().len(),
                is_dir: false,
                roots: Vec::new(),
                before: Before::default(),
                is_retry: false,
                level: Level::WARNING,
                keeps: false,
            };
            Run::new(order, Descents::default()).lane(&mut Filesystems::default(), Instant::now())
        };
        let files = |to, owner| LaneId::Files { from: device, to, owner };
        assert_eq!(lane(files::Action::Move, br"/proc/\1", None), files(proc, false));
        assert_eq!(lane(files::Action::Copy, br"/proc/\1", Some("root")), files(proc, true));
        assert_eq!(lane(files::Action::Delete, br"/proc/\1", None), files(device, false));
    }
}
