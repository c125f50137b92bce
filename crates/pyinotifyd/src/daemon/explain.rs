//! `--explain PATH [EVENT]`: what an event on a path would do, without doing it.
//!
//! The same engine and the same rules as in the daemon are asked, so the answer cannot differ from what happens.

use std::fmt::Write as _;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use engine::{
    Batch, Begin, Change, Engine, Explained, Explanation, Ignored, Matcher as _, NoRule, Rate, Reaction,
    Retry, Seconds, Verdict,
};
use event::{Event, Flag, Mask};
use mounts::Mounts;

use crate::action::occasion::Occasion;
use crate::config::{At, Config, ExcludeFilter, FileRules, Initial, Scheduler, Watch, Work};
use crate::log::Escaped;

/// Answers for one path, and one event or all that the maps name.
pub(crate) fn explain(config: &Config, path: &Path, wanted: Option<Flag>) -> String {
    let path = crate::config::absolute_path(path.as_os_str().as_encoded_bytes());
    let is_dir = is_directory(&path);
    let mut engine = Engine::new(Instant::now(), engine::Limits::default());
    let specs = config.schedulers.iter().map(|scheduler| scheduler.spec.clone()).collect();
    let maps = config.watches.iter().map(|watch| watch.map.clone());
    let added = engine.add_generation(specs, maps, config.shutdown_timeout);
    let numbers = added.expect("an engine without a configuration takes one");
    let mut out = String::new();
    let mut covered = false;
    for (index, watch) in config.watches.iter().enumerate() {
        let Some(root) = covering_root(watch, &path) else { continue };
        covered = true;
        let _ = writeln!(out, "watch '{}'{}", watch.path_text, at(watch.at.as_ref()));
        if let Some(told) = told_at_the_start(watch.initial) {
            let _ = writeln!(out, "  at the start of the daemon: {told}");
        }
        if let Some((directory, pattern)) = excluded_above(watch, &path, root) {
            let (directory, pattern) = (Escaped(directory), Escaped(pattern));
            let _ = writeln!(
                out,
                "  nothing: exclude_filter '{pattern}' matches the directory '{directory}', which is not watched then, \
                 nor is what lies below it"
            );
            continue;
        }
        let flags = Flag::ALL
            .into_iter()
            .filter(|flag| wanted.map_or(watch.interest.contains(flag.mask()), |wanted| wanted == *flag));
        for flag in flags {
            let event = event(&path, root, flag, is_dir);
            explain_event(
                &mut out,
                config,
                watch,
                &event,
                flag,
                engine.explain(numbers.map(index), &event).as_ref(),
            );
        }
    }
    if !covered {
        let _ = writeln!(out, "no watch covers '{}'", Escaped(&path));
        for watch in &config.watches {
            let depth = if watch.rec || watch.auto_add {
                "with its subdirectories"
            } else {
                "without its subdirectories (rec, auto_add)"
            };
            let _ = writeln!(out, "  watched is '{}' {depth}{}", watch.path_text, at(watch.at.as_ref()));
        }
    }
    out
}

/// Whether a path is one of a directory now. On a filesystem that may not answer, it is taken for a file.
fn is_directory(path: &[u8]) -> bool {
    let is_local = Mounts::read().is_ok_and(|mounts| mounts.way_to_name(path).is_local());
    is_local
        && rustix::fs::lstat(path)
            .is_ok_and(|stat| rustix::fs::FileType::from_raw_mode(stat.st_mode).is_dir())
}

fn event(path: &[u8], root: usize, flag: Flag, is_dir: bool) -> Event<'_> {
    let mask = if is_dir { flag.mask() | Mask::ISDIR } else { flag.mask() };
    let name_len = if path.len() == root {
        0
    } else {
        path.iter().rev().take_while(|byte| **byte != b'/').count() as u16
    };
    Event { mask, wd: 1, is_dir, pathname: path, name_len, root_len: root as u16, ..Event::overflow() }
}

/// Length of the root through which a watch sees a path.
fn covering_root(watch: &Watch, path: &[u8]) -> Option<usize> {
    let roots = watch.paths.iter().map(|root| crate::config::absolute_path(root));
    roots
        .filter(|root| root.as_slice() == path || crate::config::covers(watch, root, path))
        .map(|root| root.len())
        .max()
}

/// The directory between a root and a path that is excluded, and by what: nothing below it is watched.
fn excluded_above<'a>(watch: &'a Watch, path: &'a [u8], root: usize) -> Option<(&'a [u8], &'a [u8])> {
    let filter = watch.exclude.as_ref()?;
    let slashes = (root + 1..path.len()).filter(|at| path[*at] == b'/');
    slashes.map(|slash| &path[..slash]).find_map(|directory| {
        let found = filter.first_match(directory).ok()??;
        Some((directory, filter.0.patterns()[found].as_bytes()))
    })
}

fn told_at_the_start(initial: Initial) -> Option<&'static str> {
    match initial {
        Initial::None => None,
        Initial::All => Some("everything that is there is told as new (initial=\"all\")"),
        Initial::Changed => {
            Some("what changed since the daemon last ran is told as new (initial=\"changed\")")
        }
    }
}

fn at(place: Option<&At>) -> String {
    place.map_or_else(String::new, |at| format!(" ({}:{})", at.file, at.line))
}

fn explain_event(
    out: &mut String,
    config: &Config,
    watch: &Watch,
    event: &Event<'_>,
    flag: Flag,
    explanation: Option<&Explanation>,
) {
    let name = flag.name();
    let _ = match explanation {
        None | Some(Explanation::Unmapped) if config.print.is_some() => {
            writeln!(out, "  {name}: {}", prints(watch, event))
        }
        None | Some(Explanation::Unmapped) => writeln!(out, "  {name}: the event map does nothing with it"),
        Some(Explanation::Excluded { pattern }) => {
            let source = watch
                .exclude
                .as_ref()
                .map(|filter| filter.0.patterns()[*pattern].as_bytes().to_vec())
                .unwrap_or_default();
            writeln!(out, "  {name}: dropped, exclude_filter '{}' matches", Escaped(&source))
        }
        Some(Explanation::ExcludeStepLimit) => {
            writeln!(out, "  {name}: dropped, a pattern of exclude_filter gives up on this path")
        }
        Some(Explanation::Reactions(reactions)) => {
            for reaction in reactions {
                explain_reaction(out, config, watch, event, name, reaction);
            }
            Ok(())
        }
    };
}

fn prints(watch: &Watch, event: &Event<'_>) -> &'static str {
    let is_excluded =
        |filter: &Arc<ExcludeFilter>| filter.first_match(event.pathname).is_ok_and(|found| found.is_none());
    if watch.exclude.as_ref().is_none_or(is_excluded) {
        "prints a line"
    } else {
        "dropped, --exclude matches"
    }
}

fn explain_reaction(
    out: &mut String,
    config: &Config,
    watch: &Watch,
    event: &Event<'_>,
    name: &str,
    explained: &Explained,
) {
    let (Reaction::Schedule(index) | Reaction::Cancel(index)) = explained.reaction;
    let scheduler = &config.schedulers[index];
    let (called, place) = (&scheduler.name, at(scheduler.at.as_ref()));
    if matches!(explained.reaction, Reaction::Cancel(_)) {
        let _ = writeln!(out, "  {name}: cancels a waiting task of scheduler '{called}'{place}");
        return;
    }
    let (text, rule) = match explained.verdict {
        Verdict::Ignored(reason) => {
            (format!("nothing at scheduler '{called}'{place}: {}", ignored(reason, event)), None)
        }
        Verdict::New { begin, rule } => {
            (format!("scheduler '{called}'{place} {}", begins(begin, scheduler)), rule)
        }
        Verdict::Met { change, .. } => (format!("scheduler '{called}'{place}: {}", changes(change)), None),
    };
    let _ = writeln!(out, "  {name}: {text}");
    if matches!(explained.verdict, Verdict::New { .. }) {
        explain_work(out, scheduler, event, rule);
        explain_running(out, config, scheduler);
        explain_cancels(out, watch, index);
    }
}

fn ignored(reason: Ignored, event: &Event<'_>) -> &'static str {
    match reason {
        Ignored::Unfit if event.is_dir => "it does not take directories (dirs)",
        Ignored::Unfit => "it does not take files (files)",
        Ignored::NoRule(NoRule::NoMatch) => "no rule matches the path",
        Ignored::NoRule(NoRule::StepLimit) => "a rule gives up on this path",
        Ignored::Paused => "it is paused",
        Ignored::TasksMax => "there are too many tasks",
        Ignored::NothingToCancel => "there is nothing to cancel",
    }
}

fn begins(begin: Begin, scheduler: &Scheduler) -> String {
    match begin {
        Begin::AtOnce => "starts a task at once".to_owned(),
        Begin::WhenPlaceIsFree => "starts a task when another one has ended (max_jobs)".to_owned(),
        Begin::WithBatch => {
            let batch = scheduler.spec.batch.map(|Batch { quiet, max_wait, max_files }| {
                let (quiet, max_wait) = (Seconds(quiet), Seconds(max_wait));
                format!(
                    ": when no event came for {quiet} s, {max_wait} s after the first one, or with {max_files} paths"
                )
            });
            format!("starts one task for all paths of a batch{}", batch.unwrap_or_default())
        }
        Begin::AfterDelay => {
            format!("starts a task after {} s without another such event", scheduler.delay_text)
        }
    }
}

fn changes(change: Change) -> &'static str {
    match change {
        Change::Reschedule { .. } => "the waiting task waits anew",
        Change::Gather { .. } => "the task of the next batch gets the event",
        Change::Refresh { .. } => "the task that waits for a place gets the event",
        Change::Skip | Change::SkipCancel => "skipped, the task runs",
        Change::Remember { .. } => "the task runs, and once more afterwards (on_busy)",
        Change::Restart { .. } => "the running task is stopped and starts anew (on_busy)",
        Change::SkipAndRunAgain { .. } => "the task runs, and again afterwards if the file changed",
        Change::CancelRetry => "the task, whose time was over, is not tried again",
        Change::Cancel => "the waiting task is cancelled",
    }
}

fn explain_work(out: &mut String, scheduler: &Scheduler, event: &Event<'_>, rule: Option<usize>) {
    let _ = match (&scheduler.work, rule) {
        (Work::Job(job), _) => {
            let given = if scheduler.spec.batch.is_some() { "events" } else { "event" };
            writeln!(out, "    calls {job}({given}, task_id)")
        }
        (Work::Command(command), _) => {
            writeln!(out, "    runs {}", command.line(&Occasion::of(event)).text())
        }
        (Work::Rules(rules), Some(rule)) => {
            explain_rule(out, rules, event, rule);
            Ok(())
        }
        (Work::Rules(_), None) => Ok(()),
    };
}

/// What becomes of the task when it is slow, fails, or is one of too many.
fn explain_running(out: &mut String, config: &Config, scheduler: &Scheduler) {
    let spec = &scheduler.spec;
    let mut say = |text: String| {
        let _ = writeln!(out, "    {text}");
    };
    if let (Some(settled), Some(settle)) = (&scheduler.settled, &spec.settle) {
        let seconds = Seconds(settle.give_up);
        say(format!("waits until {settled}; fails if that takes more than {seconds} s"));
    }
    if let Some(timeout) = spec.timeout {
        say(format!("is stopped after {} s and has then failed", Seconds(timeout)));
    }
    if let Some(Retry { times, delay, factor, max_delay, jitter, .. }) = &spec.retry {
        let times = times.map_or("without end".to_owned(), |times| format!("up to {times} times"));
        let (delay, max_delay) = (Seconds(*delay), Seconds(*max_delay));
        let varied = match jitter * 100.0 {
            0.0 => String::new(),
            percent => format!(", all of it up to {percent:.0} % more or less"),
        };
        say(format!(
            "is tried again {times} if it fails: after {delay} s, then each pause is {factor} times the one before, \
             at most {max_delay} s{varied}"
        ));
    }
    for receiver in &spec.on_failure {
        say(format!("tells scheduler '{}' if it fails for good", config.schedulers[*receiver].name));
    }
    if let Some(max_delay) = spec.max_delay {
        say(format!("waits at most {} s, whatever events come", Seconds(max_delay)));
    }
    if let Some(Rate { starts, span }) = spec.max_rate {
        say(format!("starts when fewer than {starts} tasks were started in {} s", Seconds(span)));
    }
}

fn explain_rule(out: &mut String, rules: &FileRules, event: &Event<'_>, number: usize) {
    let (pattern, rule) = (&rules.patterns.patterns()[number], &rules.rules[number]);
    let _ = write!(
        out,
        "    rule {} of {}{}: {}",
        number + 1,
        rules.rules.len(),
        at(rule.at.as_ref()),
        rule.rule.action
    );
    for group in pattern.captures(event.pathname).ok().flatten().unwrap_or_default().iter().skip(1) {
        let name = group.name.clone().unwrap_or_else(|| group.index.to_string());
        let value = group
            .range
            .clone()
            .map_or("", |range| std::str::from_utf8(&event.pathname[range]).unwrap_or("?"));
        let _ = write!(out, ", {name}='{}'", Escaped(value.as_bytes()));
    }
    let _ = out.write_char('\n');
    if rule.rule.action != files::Action::Delete {
        explain_destination(out, rules, event, number);
    }
    if let Some(trash) = &rule.rule.trash {
        let _ = writeln!(out, "    what would be lost goes to '{}' (trash)", Escaped(trash));
    }
    if rule.rule.prune {
        let _ = writeln!(out, "    then removes the directories above that are empty (prune)");
    }
}

fn explain_destination(out: &mut String, rules: &FileRules, event: &Event<'_>, number: usize) {
    let (pattern, rule) = (&rules.patterns.patterns()[number], &rules.rules[number]);
    let _ = match rule.template.as_ref().map(|template| pattern.sub(template, event.pathname)) {
        Ok(Ok(destination)) => writeln!(out, "    to '{}'", Escaped(&destination)),
        Ok(Err(error)) => writeln!(out, "    fails: {error}"),
        Err(error) => writeln!(out, "    fails: dst_re: {error}"),
    };
    if let Some(mounted) = &rule.rule.mounted {
        let _ = writeln!(out, "    fails unless '{}' is mounted (mounted)", Escaped(mounted));
    }
    if rule.rule.verify {
        let _ = writeln!(out, "    what is copied is read back and compared (verify)");
    }
}

fn explain_cancels(out: &mut String, watch: &Watch, index: usize) {
    let cancels = Flag::ALL
        .into_iter()
        .filter(|flag| watch.map.reactions[flag.index()].contains(&Reaction::Cancel(index)));
    let names: Vec<&str> = cancels.map(Flag::name).collect();
    if !names.is_empty() {
        let _ = writeln!(out, "    cancelled, while it waits, by {}", names.join(", "));
    }
}
