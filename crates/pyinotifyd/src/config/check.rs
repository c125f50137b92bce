//! What a config test says beyond errors: things that load and run, and are probably not meant.
//!
//! Rules are judged by trying them on sample paths that their patterns match, so a warning shows what would happen and is
//! not a guess about regular expressions. Where no sample matches, nothing is said.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use engine::Reaction;
use event::Flag;
use mounts::Mounts;
use pattern::{Pattern, Template};
use watcher::Sysctl;

use super::{Config, FileRule, FileRules, Scheduler, Watch, Work, owner_warnings, place};
use crate::log::{Cause, Escaped};

/// Middle parts of sample paths.
const SAMPLES: [&str; 4] = ["sample", "sample.name", "a/sample", "2024-01-01_1"];
/// Counting directories against the limit of watches ends after this time: a config test should answer at once.
const COUNT_TIME: Duration = Duration::from_secs(5);
/// Events that tell of a file that is there now.
const ARRIVALS: [Flag; 4] = [Flag::Create, Flag::CloseWrite, Flag::MovedTo, Flag::Modify];

/// All warnings on a configuration, each with its file and line.
pub(crate) fn warnings(config: &Config) -> Vec<String> {
    let mut all = Vec::new();
    shutdown_timeout(config, &mut all);
    unscheduled_cancels(config, &mut all);
    let sampled = sampled(config);
    for rules in &sampled {
        rules.check(&mut all);
    }
    all.extend(sampled.iter().flat_map(Sampled::feeding));
    // Without /proc nothing is known to be local, and nothing is asked about.
    let mounts = Mounts::read().unwrap_or_else(|_| Mounts::parse(b""));
    for watch in &config.watches {
        missing_paths(watch, &mounts, &mut all);
    }
    watch_limit(config, &mounts, &mut all);
    all.extend(owner_warnings(&config.owners()));
    all
}

fn shutdown_timeout(config: &Config, all: &mut Vec<String>) {
    let Some(longest) = config.schedulers.iter().max_by_key(|scheduler| scheduler.spec.delay) else { return };
    if longest.spec.delay > config.shutdown_timeout {
        let (delay, timeout) = (longest.spec.delay.as_secs_f64(), config.shutdown_timeout.as_secs_f64());
        all.push(format!(
            "{}the delay of {delay} s is longer than the shutdown_timeout of {timeout} s: tasks that wait when the \
             daemon ends are lost; raise shutdown_timeout above it",
            place(longest.at.as_ref())
        ));
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

/// Rules whose results are events that match again: such a rule feeds itself until a path is too long. Said at each start.
pub(crate) fn feeding_warnings(config: &Config) -> Vec<String> {
    sampled(config).iter().flat_map(Sampled::feeding).collect()
}

/// The rules of one scheduler with what they are tried on.
struct Sampled<'a> {
    /// Number of the scheduler.
    index: usize,
    scheduler: &'a Scheduler,
    rules: &'a FileRules,
    /// The watches that schedule its tasks.
    watches: Vec<&'a Watch>,
    /// For each rule paths below those watches that it matches.
    samples: Vec<Vec<Vec<u8>>>,
}

fn sampled(config: &Config) -> Vec<Sampled<'_>> {
    let mut all = Vec::new();
    for (index, scheduler) in config.schedulers.iter().enumerate() {
        let Work::Rules(rules) = &scheduler.work else { continue };
        let watches = scheduling(config, index);
        let roots: Vec<_> =
            watches.iter().flat_map(|watch| &watch.paths).map(|path| absolute_path(path)).collect();
        let samples = rules.patterns.patterns().iter().map(|pattern| samples(pattern, &roots)).collect();
        all.push(Sampled { index, scheduler, rules, watches, samples });
    }
    all
}

/// Watches whose maps schedule tasks of a scheduler.
fn scheduling(config: &Config, index: usize) -> Vec<&Watch> {
    let schedules = |watch: &&Watch| {
        watch.map.reactions.iter().flatten().any(|reaction| *reaction == Reaction::Schedule(index))
    };
    config.watches.iter().filter(schedules).collect()
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
                all.push(format!("{at}src_re needs backtracking (look-around or back references): it gives up on paths that take too many steps"));
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
        let covered =
            |watch: &Watch| watch.paths.iter().any(|root| covers(watch, &absolute_path(root), destination));
        self.watches.iter().any(|watch| again(watch) && !excluded(watch) && covered(watch))
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
    let Some(rest) = path.strip_prefix(root).and_then(|rest| rest.strip_prefix(b"/")) else { return false };
    watch.rec || watch.auto_add || !rest.contains(&b'/')
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
            Ok(_) => {}
            Err(_) if wildcards => {}
            Err(error) => {
                all.push(format!(
                    "{at}'{shown}' cannot be watched now ({}); the daemon waits for it",
                    Cause(&error.into())
                ));
            }
        }
    }
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
            "there are more than {limit} directories to watch, which is the limit ({name}); raise it: sysctl {name}={wanted}"
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
