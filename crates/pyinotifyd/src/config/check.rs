//! What a config test says beyond errors: things that load and run, and are probably not meant.
//!
//! Rules are judged by trying them on sample paths that their patterns match, so a warning shows what would happen and
//! is not a guess about regular expressions. Where no sample matches, nothing is said.

use std::collections::{BTreeSet, HashMap};
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use engine::{Reaction, Seconds};
use event::{Flag, Mask};
use mounts::Mounts;
use pattern::{Pattern, Template};
use rustix::fs::Access;
use watcher::Sysctl;

use super::{Config, FileRule, FileRules, Placed, Scheduler, Watch, Work, owner_warnings, place, placed};
use crate::log::{Address, Cause, Escaped};

/// Middle parts of sample paths.
const SAMPLES: [&str; 4] = ["sample", "sample.name", "a/sample", "2024-01-01_1"];
/// Counting directories against the limit of watches ends after this time: a config test should answer at once.
const COUNT_TIME: Duration = Duration::from_secs(5);
/// Events that tell of a file that is there now.
const ARRIVALS: [Flag; 4] = [Flag::Create, Flag::CloseWrite, Flag::MovedTo, Flag::Modify];

/// All warnings on a configuration, each with its file and line. With a state, tasks survive the end of the daemon,
/// unless their scheduler does not want that.
pub(crate) fn warnings(config: &Config, has_state: bool) -> Vec<String> {
    let mut all = Vec::new();
    all.extend(config.hints.iter().cloned());
    let lost: Vec<&Scheduler> =
        config.schedulers.iter().filter(|one| !has_state || !one.spec.persist).collect();
    shutdown_timeout(config, &lost, &mut all);
    unscheduled_cancels(config, &mut all);
    endless_retries(&lost, &mut all);
    all.extend(missing_syslog(config));
    same_path_twice(config, &mut all);
    let sampled = sampled(config);
    for rules in &sampled {
        rules.check(&mut all);
    }
    all.extend(sampled.iter().flat_map(Sampled::feeding));
    // Without /proc nothing is known to be local, and nothing is asked about.
    let mounts = Mounts::read().unwrap_or_else(|_| Mounts::parse(b""));
    places(config, &mounts, &mut all);
    settling(config, &mounts, &mut all);
    for watch in &config.watches {
        missing_paths(watch, &mounts, &mut all);
        all.extend(excludes(watch, "exclude_filter"));
        nothing_mapped(config, watch, &mut all);
    }
    watch_limit(config, &mounts, &mut all);
    all.extend(owner_warnings(&config.owners()));
    all
}

/// Syslog servers that are not there. Said at each start, too: their records are lost.
pub(crate) fn missing_syslog(config: &Config) -> Vec<String> {
    if config.syslog.is_empty() {
        return Vec::new();
    }
    let mounts = Mounts::read().unwrap_or_else(|_| Mounts::parse(b""));
    let is_missing =
        |path: &Path| mounts.way(path.as_os_str().as_bytes()).is_local() && rustix::fs::stat(path).is_err();
    let missing = config.syslog.iter().filter_map(|target| match &target.address {
        Address::Path(path) if is_missing(path) => {
            Some((place(target.at.as_ref()), Escaped(path.as_os_str().as_bytes())))
        }
        Address::Path(_) | Address::Host(..) => None,
    });
    missing
        .map(|(at, path)| {
            format!(
                "{at}enableSyslog: there is no syslog server at '{path}', its records are lost until there \
                 is; name another one with address="
            )
        })
        .collect()
}

/// One path in two watches of which both schedule tasks of one scheduler: each event comes twice.
fn same_path_twice(config: &Config, all: &mut Vec<String>) {
    let mut earlier: HashMap<Vec<u8>, Vec<&Watch>> = HashMap::new();
    for watch in &config.watches {
        let mut roots: Vec<Vec<u8>> = watch.paths.iter().map(|path| absolute_path(path)).collect();
        roots.sort_unstable();
        roots.dedup();
        for path in roots {
            let others = earlier.get(&path).into_iter().flatten();
            let shared = others.filter_map(|other| {
                scheduled(watch).find(|index| scheduled(other).any(|other| other == *index))
            });
            for index in shared {
                let (path, name) = (Escaped(&path), &config.schedulers[index].name);
                all.push(format!(
                    "{}'{path}' is in an earlier watch, too, which has the same scheduler '{name}': its tasks see \
                     each event twice; write one watch with both maps",
                    place(watch.at.as_ref())
                ));
            }
            earlier.entry(path).or_default().push(watch);
        }
    }
}

/// The schedulers whose tasks a watch schedules.
pub(crate) fn scheduled(watch: &Watch) -> impl Iterator<Item = usize> {
    watch.map.reactions.iter().flatten().filter_map(|reaction| match reaction {
        Reaction::Schedule(index) => Some(*index),
        Reaction::Cancel(_) => None,
    })
}

/// Maps without an event, and events that their schedulers never take.
fn nothing_mapped(config: &Config, watch: &Watch, all: &mut Vec<String>) {
    let at = place(watch.at.as_ref());
    if watch.interest == Mask::NONE {
        let path = &watch.path_text;
        all.push(format!(
            "{at}nothing is mapped for '{path}', so that this watch does nothing: give it an event_map"
        ));
    }
    for reaction in &watch.map.reactions[Flag::Unmount.index()] {
        if let Reaction::Schedule(index) = *reaction
            && !config.schedulers[index].spec.dirs
        {
            let name = &config.schedulers[index].name;
            all.push(format!(
                "{at}IN_UNMOUNT is an event of the watched directory, which the scheduler '{name}' does not take: \
                 give it dirs=True"
            ));
        }
    }
}

/// Exclude filters that hide everything, or nothing; `option` is what they are called where they were written.
pub(super) fn excludes(watch: &Watch, option: &str) -> Vec<String> {
    let Some(filter) = &watch.exclude else { return Vec::new() };
    let roots: Vec<Vec<u8>> = watch.paths.iter().map(|path| absolute_path(path)).collect();
    let mut all = Vec::new();
    for (pattern, own_at) in filter.0.patterns().iter().zip(&watch.exclude_at) {
        let at = place(own_at.as_ref().or(watch.at.as_ref()));
        let shown = Escaped(pattern.as_bytes());
        if let Some(root) = roots.iter().find(|root| pattern.is_match(root) == Ok(true)) {
            let root = Escaped(root);
            all.push(format!(
                "{at}{option}: '{shown}' matches the path of the watch itself, '{root}', so that no event of it is \
                 left; begin the pattern with that path"
            ));
        } else if let Some(root) =
            roots.iter().find(|root| watch.is_deep() && hides_directories(pattern, root))
        {
            let root = Escaped(root);
            all.push(format!(
                "{at}{option}: '{shown}' matches the directories in '{root}', too, so that none of them is watched; a \
                 pattern cannot tell a file from a directory"
            ));
        } else if roots.iter().all(|root| cannot_match(pattern, root)) {
            let root = roots.first().map_or(String::new(), |root| Escaped(root).to_string());
            all.push(format!(
                "{at}{option}: '{shown}' matches no path of this watch, as it is compared from the start of the whole \
                 path; write r'^{root}/...' or put '.*' before it"
            ));
        }
    }
    all
}

/// Whether a pattern matches whatever directories there may be in a root: two with names that nobody thinks of.
fn hides_directories(pattern: &Pattern, root: &[u8]) -> bool {
    let names: [&[u8]; 2] = [b"/q7wz", b"/Zk_3-v"];
    names.iter().all(|name| pattern.is_match(&[root, *name].concat()) == Ok(true))
}

/// Whether a pattern begins with text with which no path below `root` begins. Text alone decides, so that it is not
/// said of patterns that begin with anything else.
fn cannot_match(pattern: &Pattern, root: &[u8]) -> bool {
    let literal = pattern.prefix();
    let fixed = root.iter().position(|byte| b"*?[".contains(byte)).unwrap_or(root.len());
    let begin = if fixed == root.len() { [root, b"/"].concat() } else { root[..fixed].to_vec() };
    let shared = begin.len().min(literal.len());
    !literal.is_empty() && literal[..shared] != begin[..shared]
}

/// Rules that nothing leads to, and what is unwise about the directories of the others.
fn places(config: &Config, mounts: &Mounts, all: &mut Vec<String>) {
    for rule in placed(config) {
        let at = rule.place();
        if !rule.is_reached {
            // Without a watch that is said of the scheduler.
            all.extend(rule.is_fed.then(|| at + &rule.unreached()));
            continue;
        }
        if let Some((_, Err(trouble))) = rule.destination(mounts) {
            all.push(format!("{at}{trouble}"));
        }
        trash(config, &rule, &at, all);
    }
}

/// A trash that would be watched itself, and one into which nothing comes.
fn trash(config: &Config, rule: &Placed<'_>, at: &str, all: &mut Vec<String>) {
    let Some(trash) = &rule.rule.rule.trash else { return };
    let shown = Escaped(trash);
    let entry = [trash.as_slice(), b"/entry"].concat();
    let is_watched = |watch: &Watch| {
        let mut roots = watch.paths.iter().map(|root| absolute_path(root));
        roots.any(|root| covers(watch, &root, &entry) || root == *trash)
    };
    if config.watches.iter().any(is_watched) {
        all.push(format!(
            "{at}the trash '{shown}' is in a watched tree: what comes into it makes events again"
        ));
    }
    if rule.fills_trash_from().is_none() {
        all.push(format!(
            "{at}nothing comes into the trash '{shown}', as this rule neither deletes nor overwrites"
        ));
    }
}

/// Files that cannot settle, and what does not have to.
fn settling(config: &Config, mounts: &Mounts, all: &mut Vec<String>) {
    for scheduler in &config.schedulers {
        let Some(settled) = &scheduler.settled else { continue };
        let at = place(scheduler.at.as_ref());
        if !scheduler.spec.files {
            all.push(format!("{at}settle has no effect here: directories settle at once, and files=False"));
        }
        let Some(marker) = &settled.marker else { continue };
        let literal = marker.0.split(|byte| *byte == b'{').next().unwrap_or_default();
        let Some(slash) = literal.iter().rposition(|byte| *byte == b'/').filter(|slash| *slash > 0) else {
            continue;
        };
        let directory = &literal[..slash];
        if mounts.way(directory).is_local() && !Path::new(OsStr::from_bytes(directory)).is_dir() {
            let shown = Escaped(directory);
            all.push(format!("{at}no file can settle: the directory '{shown}' of its marker does not exist"));
        }
    }
}

fn shutdown_timeout(config: &Config, lost: &[&Scheduler], all: &mut Vec<String>) {
    let wait = |scheduler: &Scheduler| scheduler.spec.batch.map_or(scheduler.spec.delay, |batch| batch.quiet);
    let Some(longest) = lost.iter().max_by_key(|scheduler| wait(scheduler)) else { return };
    if wait(longest) > config.shutdown_timeout {
        let (delay, timeout) = (Seconds(wait(longest)), Seconds(config.shutdown_timeout));
        let name = if longest.spec.batch.is_some() { "quiet time" } else { "delay" };
        all.push(format!(
            "{}the {name} of {delay} s is longer than the shutdown_timeout of {timeout} s: tasks that wait when the \
             daemon ends are lost; raise shutdown_timeout above it",
            place(longest.at.as_ref())
        ));
    }
}

/// Tasks that are tried again without an end: a stop is that end.
fn endless_retries(lost: &[&Scheduler], all: &mut Vec<String>) {
    for scheduler in lost {
        if scheduler.spec.retry.as_ref().is_some_and(|retry| retry.times.is_none()) {
            all.push(format!(
                "{}a task of the scheduler '{}' that goes on failing is tried again without end, and is lost when the \
                 daemon stops: give its Retry a number of times",
                place(scheduler.at.as_ref()),
                scheduler.name
            ));
        }
    }
}

fn unscheduled_cancels(config: &Config, all: &mut Vec<String>) {
    let reactions = || {
        config
            .watches
            .iter()
            .flat_map(|watch| watch.map.reactions.iter().flatten().map(move |reaction| (watch, reaction)))
    };
    let mut said = Vec::new();
    for (watch, reaction) in reactions() {
        let Reaction::Cancel(index) = *reaction else { continue };
        let scheduled = reactions().any(|(_, other)| *other == Reaction::Schedule(index));
        if !scheduled && !said.contains(&index) {
            said.push(index);
            let name = &config.schedulers[index].name;
            all.push(format!(
                "{}Cancel of the scheduler '{name}', which no event schedules",
                place(watch.at.as_ref())
            ));
        }
    }
}

/// Rules whose results are events that match again: such a rule feeds itself until a path is too long. Said at each
/// start.
pub(crate) fn feeding_warnings(config: &Config) -> Vec<String> {
    sampled(config).iter().flat_map(Sampled::feeding).collect()
}

/// The rules of one scheduler with what they are tried on.
struct Sampled<'a> {
    /// Number of the scheduler.
    index: usize,
    scheduler: &'a Scheduler,
    rules: &'a FileRules,
    /// The watches that schedule its tasks, by their roots.
    watches: HashMap<Vec<u8>, Vec<&'a Watch>>,
    /// For each rule paths below those watches that it matches.
    samples: Vec<Vec<Vec<u8>>>,
}

fn sampled(config: &Config) -> Vec<Sampled<'_>> {
    let mut scheduling = scheduling(config);
    let mut all = Vec::new();
    for (index, scheduler) in config.schedulers.iter().enumerate() {
        let Work::Rules(rules) = &scheduler.work else { continue };
        let mut watches: HashMap<Vec<u8>, Vec<&Watch>> = HashMap::new();
        let mut roots = Vec::new();
        for watch in std::mem::take(&mut scheduling[index]) {
            for root in watch.paths.iter().map(|path| absolute_path(path)) {
                watches.entry(root.clone()).or_default().push(watch);
                roots.push(root);
            }
        }
        let samples = rules.patterns.patterns().iter().map(|pattern| samples(pattern, &roots)).collect();
        all.push(Sampled { index, scheduler, rules, watches, samples });
    }
    all
}

/// For each scheduler the watches whose maps schedule its tasks.
fn scheduling(config: &Config) -> Vec<Vec<&Watch>> {
    let mut all = vec![Vec::new(); config.schedulers.len()];
    for watch in &config.watches {
        for index in scheduled(watch).collect::<BTreeSet<_>>() {
            all[index].push(watch);
        }
    }
    all
}

impl Sampled<'_> {
    /// What is odd about each rule.
    fn check(&self, all: &mut Vec<String>) {
        let patterns = self.rules.patterns.patterns();
        for (number, (pattern, samples)) in patterns.iter().zip(&self.samples).enumerate() {
            let at = self.place(number);
            if let Some(earlier) = shadowed_by(self.rules, number, samples) {
                let source = Escaped(patterns[earlier].as_bytes());
                all.push(format!(
                    "{at}this rule is never reached, since '{source}' before it matches the same paths"
                ));
            }
            if !pattern.is_linear() {
                all.push(format!(
                    "{at}src_re needs backtracking (look-around or back references): it gives up on \
                    paths that take too many steps"
                ));
            }
            let Some(template) = self.template(number) else { continue };
            if let Some(sample) = samples.iter().find(|sample| keeps_tail(pattern, sample)) {
                let (from, to) = (tailed(sample), substituted(pattern, template, &tailed(sample)));
                all.push(format!(
                    "{at}src_re has no end ($), what follows the match stays in the destination: '{}' goes to '{}'",
                    Escaped(&from),
                    Escaped(&to)
                ));
            }
        }
    }

    /// The rules whose destination is a path that they match again.
    fn feeding(&self) -> Vec<String> {
        let mut all = Vec::new();
        for (number, (pattern, samples)) in
            self.rules.patterns.patterns().iter().zip(&self.samples).enumerate()
        {
            let Some(template) = self.template(number) else { continue };
            let feeding = |sample: &&Vec<u8>| self.feeds_itself(&substituted(pattern, template, sample));
            if let Some(sample) = samples.iter().find(feeding) {
                let (from, to) = (Escaped(sample), substituted(pattern, template, sample));
                all.push(format!(
                    "{}the destination is inside the watched tree and matches again: '{from}' goes to '{}'; exclude it \
                     with exclude_filter",
                    self.place(number),
                    Escaped(&to)
                ));
            }
        }
        all
    }

    fn place(&self, number: usize) -> String {
        place(self.rules.rules[number].at.as_ref().or(self.scheduler.at.as_ref()))
    }

    /// The template of a rule that has a destination.
    fn template(&self, number: usize) -> Option<&Template> {
        let FileRule { template, rule, .. } = &self.rules.rules[number];
        template.as_ref().ok().filter(|_| rule.action != files::Action::Delete)
    }

    /// Whether a file at `destination` would be seen by one of the watches and be acted on again.
    fn feeds_itself(&self, destination: &[u8]) -> bool {
        let schedules = Reaction::Schedule(self.index);
        let again = |watch: &Watch| {
            ARRIVALS.iter().any(|flag| watch.map.reactions[flag.index()].contains(&schedules))
        };
        let excluded = |watch: &Watch| {
            watch.exclude.as_ref().is_some_and(|filter| filter.0.any_match(destination) != Ok(false))
        };
        let sees = |root: &[u8]| {
            let watches = self.watches.get(root).into_iter().flatten();
            watches.copied().any(|watch| covers(watch, root, destination) && again(watch) && !excluded(watch))
        };
        let slashes = (0..destination.len()).filter(|at| destination[*at] == b'/');
        slashes.map(|slash| &destination[..slash]).any(sees)
            && self.rules.patterns.first_match(destination) != Ok(None)
    }
}

/// Paths below the roots that a pattern matches.
fn samples(pattern: &Pattern, roots: &[Vec<u8>]) -> Vec<Vec<u8>> {
    let tail = literal_tail(pattern.as_bytes());
    let candidates = roots
        .iter()
        .flat_map(|root| SAMPLES.map(|middle| [root.as_slice(), b"/", middle.as_bytes(), &tail].concat()));
    candidates.filter(|path| pattern.is_match(path) == Ok(true)).collect()
}

/// The plain text at the end of a pattern, before `$`: `\.to_move$` gives `.to_move`.
fn literal_tail(source: &[u8]) -> Vec<u8> {
    let source = source.strip_suffix(b"$").or(source.strip_suffix(b"\\Z")).unwrap_or(source);
    let start = source.iter().rposition(|byte| b"()[]{}*+?|^".contains(byte)).map_or(0, |place| place + 1);
    let mut tail = Vec::new();
    let mut rest = &source[start..];
    while let Some((first, after)) = rest.split_first() {
        match (first, after.split_first()) {
            (b'\\', Some((escaped, after))) if !escaped.is_ascii_alphanumeric() => {
                tail.push(*escaped);
                rest = after;
            }
            (b'\\', _) => return Vec::new(),
            _ => {
                tail.push(*first);
                rest = after;
            }
        }
    }
    tail
}

/// The first earlier rule that matches every sample of this one.
fn shadowed_by(rules: &FileRules, number: usize, samples: &[Vec<u8>]) -> Option<usize> {
    let patterns = rules.patterns.patterns();
    let source = patterns[number].as_bytes();
    (0..number).find(|earlier| {
        let earlier = &patterns[*earlier];
        let all = samples.len() > 1 && samples.iter().all(|sample| earlier.is_match(sample) == Ok(true));
        earlier.as_bytes() == source || all
    })
}

fn tailed(sample: &[u8]) -> Vec<u8> {
    [sample, b".tail"].concat()
}

fn keeps_tail(pattern: &Pattern, sample: &[u8]) -> bool {
    let path = tailed(sample);
    let whole = pattern.captures(&path).ok().flatten().and_then(|groups| groups.first()?.range.clone());
    whole.is_some_and(|range| range.end < path.len())
}

fn substituted(pattern: &Pattern, template: &Template, path: &[u8]) -> Vec<u8> {
    pattern.sub(template, path).map(|destination| absolute_path(&destination)).unwrap_or_default()
}

/// Whether a watch sees a path through one of its roots, as far as text alone tells.
pub(crate) fn covers(watch: &Watch, root: &[u8], path: &[u8]) -> bool {
    let root = root.strip_suffix(b"/").unwrap_or(root);
    let Some(rest) = path.strip_prefix(root).and_then(|rest| rest.strip_prefix(b"/")) else { return false };
    watch.is_deep() || !rest.contains(&b'/')
}

/// A path as the watcher would see it, as far as text alone tells.
pub(crate) fn absolute_path(path: &[u8]) -> Vec<u8> {
    use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
    let path = Path::new(std::ffi::OsStr::from_bytes(path));
    let absolute = std::path::absolute(path).unwrap_or_else(|_| path.to_path_buf());
    let mut normal = PathBuf::new();
    for component in absolute.components() {
        if component == std::path::Component::ParentDir {
            normal.pop();
        } else {
            normal.push(component);
        }
    }
    normal.into_os_string().into_vec()
}

/// What is unwise about a state directory.
pub(crate) fn state_warnings(config: &Config, directory: &Path) -> Vec<String> {
    let path = absolute_path(directory.as_os_str().as_bytes());
    let shown = Escaped(&path);
    let inside = [path.as_slice(), b"/state.db"].concat();
    let mut all = Vec::new();
    for watch in &config.watches {
        let roots = watch.paths.iter().map(|root| absolute_path(root));
        if let Some(root) = roots.into_iter().find(|root| covers(watch, root, &inside)) {
            let (at, root) = (place(watch.at.as_ref()), Escaped(&root));
            all.push(format!(
                "{at}the state directory '{shown}' lies in '{root}', which is watched: it tells of itself"
            ));
        }
    }
    let mounts = Mounts::read().unwrap_or_else(|_| Mounts::parse(b""));
    let mount = mounts.way(&path).mount;
    if !mount.is_local {
        let fstype = Escaped(&mount.fstype);
        all.push(format!(
            "the state directory '{shown}' is on {fstype}, which may not answer: tasks are kept when it does; choose a \
             local disk"
        ));
    }
    all
}

/// Schedulers whose name says nothing but their place: after an edit they are others, and their kept tasks fail.
pub(crate) fn unnamed_warnings(config: &Config) -> Vec<String> {
    let unnamed = config.schedulers.iter().filter(|one| !one.named && one.name.starts_with("scheduler-"));
    let text = |scheduler: &Scheduler| {
        let (at, name) = (place(scheduler.at.as_ref()), &scheduler.name);
        format!(
            "{at}{name} has no name that lasts, by which its kept tasks find it again: give it name=, or a variable"
        )
    };
    unnamed.map(text).collect()
}

fn is_link(path: &[u8]) -> bool {
    rustix::fs::lstat(path).is_ok_and(|stat| rustix::fs::FileType::from_raw_mode(stat.st_mode).is_symlink())
}

fn missing_paths(watch: &Watch, mounts: &Mounts, all: &mut Vec<String>) {
    for path in &watch.paths {
        let shown = Escaped(path);
        let at = place(watch.at.as_ref());
        let wildcards = path.iter().any(|byte| b"*?[".contains(byte));
        let way = mounts.way(path);
        if let Some(name) = way.mount.unseen() {
            all.push(format!("{at}'{shown}' is on {name}, where inotify does not see what other hosts do"));
        }
        if !way.is_local() {
            // Who asks about it may have to wait for ever.
            continue;
        }
        match rustix::fs::stat(path.as_slice()) {
            Ok(_) => {
                if let Err(error) = rustix::fs::access(path.as_slice(), Access::READ_OK) {
                    all.push(format!("{at}'{shown}' cannot be watched: {}", Cause(&error.into())));
                }
                if watch.rec && is_link(path) {
                    all.push(format!(
                        "{at}'{shown}' is a symbolic link, through which rec=True watches no subdirectories that are \
                         there: name the directory that it leads to"
                    ));
                }
            }
            Err(_) if wildcards => {
                if !has_match(&absolute_path(path)) {
                    all.push(format!(
                        "{at}'{shown}' matches nothing now; what comes to match it is watched then"
                    ));
                }
            }
            Err(error) => {
                let absolute = absolute_path(path);
                let why = watcher::dangling(&absolute, |_| true)
                    .map_or_else(|| Cause(&error.into()).to_string(), |link| link.to_string());
                all.push(format!("{at}'{shown}' cannot be watched now ({why}); the daemon waits for it"));
            }
        }
    }
}

/// Whether a path with wildcards leads to anything. As Python's glob: they do not match a dot at the start of a name.
fn has_match(path: &[u8]) -> bool {
    let mut found = vec![PathBuf::from("/")];
    for name in path.split(|byte| *byte == b'/').filter(|name| !name.is_empty()) {
        let Ok(pattern) = Pattern::new(&glob_pattern(name)) else { return true };
        let is_plain = !name.iter().any(|byte| b"*?[".contains(byte));
        let matching = |directory: &PathBuf| -> Vec<PathBuf> {
            if is_plain {
                return vec![directory.join(OsStr::from_bytes(name))];
            }
            let entries = std::fs::read_dir(directory).into_iter().flatten().flatten();
            let hit = |entry: &std::fs::DirEntry| {
                let own = entry.file_name();
                let hidden = own.as_bytes().starts_with(b".") && !name.starts_with(b".");
                !hidden && pattern.is_match(own.as_bytes()) == Ok(true)
            };
            entries.filter(hit).map(|entry| entry.path()).collect()
        };
        found = found.iter().flat_map(matching).filter(|path| path.symlink_metadata().is_ok()).collect();
    }
    !found.is_empty()
}

/// The expression for one name with wildcards.
fn glob_pattern(name: &[u8]) -> Vec<u8> {
    let mut pattern = Vec::new();
    let mut in_set = false;
    for (place, byte) in name.iter().enumerate() {
        match byte {
            b'*' if !in_set => pattern.extend_from_slice(b".*"),
            b'?' if !in_set => pattern.push(b'.'),
            b'[' if !in_set => {
                in_set = true;
                pattern.push(b'[');
            }
            b'!' if in_set && name[place - 1] == b'[' => pattern.push(b'^'),
            b']' if in_set => {
                in_set = false;
                pattern.push(b']');
            }
            byte if in_set || byte.is_ascii_alphanumeric() || *byte >= 0x80 => pattern.push(*byte),
            byte => pattern.extend_from_slice(&[b'\\', *byte]),
        }
    }
    [b"(?s:", pattern.as_slice(), br")\Z"].concat()
}

/// More directories than the user may watch.
fn watch_limit(config: &Config, mounts: &Mounts, all: &mut Vec<String>) {
    let Sysctl { name, value } = watcher::watches_max();
    let limit = usize::try_from(value).unwrap_or(usize::MAX);
    let until = Instant::now() + COUNT_TIME;
    let roots = config.watches.iter().filter(|watch| watch.rec).flat_map(|watch| &watch.paths);
    let count: usize = roots.map(|root| count_directories(&absolute_path(root), mounts, limit, until)).sum();
    if count > limit {
        let wanted = count.next_power_of_two().max(limit * 2);
        all.push(format!(
            "there are more than {limit} directories to watch, which is the limit ({name}); raise it: sysctl \
             {name}={wanted}"
        ));
    }
}

/// Directories at and below `root`, counted until there are more than `limit` or the time is over.
fn count_directories(root: &[u8], mounts: &Mounts, limit: usize, until: Instant) -> usize {
    use std::os::unix::ffi::OsStrExt as _;
    let mut open = vec![PathBuf::from(std::ffi::OsStr::from_bytes(root))];
    let mut count = 0;
    while let Some(directory) = open.pop() {
        if !mounts.way(directory.as_os_str().as_bytes()).is_local() {
            continue;
        }
        let Ok(entries) = std::fs::read_dir(&directory) else { continue };
        count += 1;
        if count > limit || Instant::now() > until {
            break;
        }
        let directories = entries.flatten().filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
        open.extend(directories.map(|entry| entry.path()));
    }
    count
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tail_of_a_pattern_is_its_plain_text() {
        let cases: [(&[u8], &[u8]); 5] = [
            (br"^/src/(?P<path>.*)\.to_move$", b".to_move"),
            (br"^/src/(.*)$", b""),
            (br"^/src/.*\.t\w", b""),
            (b"plain", b"plain"),
            (br"a+b\Z", b"b"),
        ];
        for (source, tail) in cases {
            assert_eq!(literal_tail(source), tail, "{}", String::from_utf8_lossy(source));
        }
    }

    #[test]
    fn the_start_of_a_pattern_says_what_it_cannot_match() {
        let cases: [(&[u8], &[u8], bool); 12] = [
            (b"sub", b"/src", true),
            (b"^/other/", b"/src", true),
            (b"/src/sub", b"/src", false),
            (b"/sr", b"/src", false),
            (br"/src\.d/", b"/src", true),
            (br".*/sub", b"/src", false),
            (b"(sub)", b"/src", true),
            (b"a|/src", b"/src", false),
            (b"/srcs?/x", b"/src", false),
            (b"/src/x?", b"/src", false),
            (b"/srv/in/", b"/srv/*/x", false),
            (b"/other/", b"/srv/*/x", true),
        ];
        for (pattern, root, wanted) in cases {
            let made = Pattern::new(pattern).unwrap();
            assert_eq!(cannot_match(&made, root), wanted, "{}", String::from_utf8_lossy(pattern));
        }
    }

    #[test]
    fn wildcards_match_as_in_a_glob() {
        let directory = tempfile::tempdir().unwrap();
        for name in ["a/in", "b.c/in", ".hidden/in"] {
            std::fs::create_dir_all(directory.path().join(name)).unwrap();
        }
        let cases = [
            ("*/in", true),
            ("?/in", true),
            ("[ab]/in", true),
            ("[!a].c/in", true),
            ("b.?/in", true),
            (".h*/in", true),
            ("*/out", false),
            ("x*", false),
            ("*hidden", false),
            ("b?c", true),
            ("[!ab]*", false),
        ];
        for (glob, wanted) in cases {
            let path = [directory.path().as_os_str().as_bytes(), b"/", glob.as_bytes()].concat();
            assert_eq!(has_match(&path), wanted, "{glob}");
        }
    }

    #[test]
    fn a_pattern_without_an_end_keeps_the_tail() {
        let cases = [(r"^/w/(.*)\.x", true), (r"^/w/(.*)\.x$", false), (r"^/w/(.*)", false)];
        for (source, keeps) in cases {
            assert_eq!(
                keeps_tail(&Pattern::new(source.as_bytes()).unwrap(), b"/w/sample.x"),
                keeps,
                "{source}"
            );
        }
    }
}
