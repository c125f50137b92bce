//! What a configuration says, checked: the host's description turned into the types of the other crates.
//!
//! Owns the meaning of a description (which watch, event map, scheduler and rule it names), the checks that need Rust
//! (patterns, templates, users), and whether a config file is safe to execute. It starts nothing.

mod check;
mod command;
mod describe;

mod line;
mod owners;
mod places;
mod room;
mod running;
mod safety;
mod sources;
mod surroundings;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use engine::{MapSpec, Matcher, OnBusy, Reaction, SchedulerKind, SchedulerSpec, StepLimit};
use event::{Flag, Mask};
use files::Durability;
use pattern::{Pattern, PatternSet, Substituted, Template};

use crate::action::misspelt::misspelt;
use crate::action::occasion::{OF_BATCHES, OF_EVENTS, OF_FAILURES, Placeholder};
pub(crate) use crate::host::wire::At;
use crate::host::wire::{ConfigFault, Location, PatternMade};
use crate::log::{Address, Early, Escaped, Level};
pub(crate) use check::{
    absolute_path, covers, feeding_warnings, missing_syslog, scheduled, state_warnings, unnamed_warnings,
    warnings,
};
use command::CommandDescription;
pub(crate) use command::{
    AccountName, AccountWanted, Command, CommandOptions, Output, Program, Stdin, read_program,
};
use describe::{Description, KindDescription, ReactionDescription, SchedulerDescription, WatchDescription};
pub(crate) use line::{
    Does, Format, JOBS_DEFAULT, Line, Literal, QUIET_DEFAULT, Run, Seconds, config_file, literal_glob,
};
pub(crate) use owners::{Owner, owner_warnings};
pub(crate) use places::{Placed, Trouble, placed};
pub(crate) use room::{NoRoom, Obstacle, Room, existing, room_for};
#[cfg(test)]
pub(crate) use running::Marker;
pub(crate) use running::Settled;
pub(crate) use safety::{check_modules, check_program};
pub(crate) use sources::{ConfigFile, ConfigFiles, ConfigPath};
pub(crate) use surroundings::Surroundings;

/// A configuration that can be put to work.
#[derive(Clone)]
pub(crate) struct Config {
    /// Logger of the records on starting and ending to listen.
    pub logname: String,
    /// Time that tasks have to end when the daemon stops.
    pub shutdown_timeout: Duration,
    /// How many commands of all schedulers together run at once.
    pub max_jobs: Option<NonZeroU32>,
    /// Where the daemon listens for questions.
    pub control: ControlWanted,
    /// All watches, in their order.
    pub watches: Vec<Watch>,
    /// All schedulers, in the order in which the engine numbers them.
    pub schedulers: Vec<Scheduler>,
    /// Events are printed, besides.
    pub print: Option<Format>,
    /// Levels of Python's loggers; `""` is the root.
    pub levels: Vec<(String, Level)>,
    /// Syslog targets.
    pub syslog: Vec<SyslogTarget>,
    /// Whether handlers of the user want the daemon's records.
    pub handlers: bool,
    /// Loggers whose records pass filters of the user; `""` is the root.
    pub filtered: BTreeSet<String>,
    /// Whether the host stays.
    pub host_stays: bool,
    /// What is odd but does not keep the configuration from working.
    pub warnings: Vec<String>,
    /// What only a config test says.
    pub hints: Vec<String>,
    /// Where tasks are kept, if the file says it.
    pub state: StateWanted,
    /// How many ended tasks are remembered.
    pub history: u32,
    /// What the file changed in its own process and means for the daemon's.
    pub surroundings: Surroundings,
    /// What holds for the whole configuration, by what people call it, for telling whether it changed.
    pub settings: BTreeMap<String, String>,
    /// The part of the description that a restarted host must repeat.
    pub fingerprint: String,
    /// The files, for a host that is started again.
    pub source: Arc<[ConfigFile]>,
    /// What it logged while it was executed, for its own syslog targets.
    pub early: Vec<Early>,
}

/// What is told of what is there when the daemon starts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Initial {
    /// Nothing.
    None,
    /// Everything.
    All,
    /// What has changed since the daemon was last there.
    Changed,
}

impl Config {
    /// What cannot be without a state.
    ///
    /// # Errors
    /// A watch asks for what has changed, and nothing says since when.
    pub(crate) fn check_without_state(&self) -> Result<(), ConfigFault> {
        let asks = self.watches.iter().find(|watch| watch.initial == Initial::Changed);
        asks.map_or(Ok(()), |watch| {
            let text = "initial=\"changed\" needs a state that says since when: give Pyinotifyd a state, or the \
                        command line --state (a service may have $STATE_DIRECTORY)";
            Err(fault(watch.at.as_ref(), text.to_owned()))
        })
    }
}

/// Where a configuration wants tasks to be kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum StateWanted {
    /// Where the service manager says, if it does.
    Default,
    /// Nowhere.
    Never,
    /// In this directory.
    In(PathBuf),
}

/// Where the daemon listens for questions, and who may ask.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct ControlWanted {
    /// The socket.
    pub place: ControlPlace,
    /// A group that may connect, beside root and the daemon's user.
    pub group: Option<u32>,
    /// An address for metrics.
    pub metrics: Option<SocketAddr>,
}

/// Where the control socket is wanted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) enum ControlPlace {
    /// At the default place, if that can be had.
    #[default]
    Default,
    /// Nowhere.
    Never,
    /// There, or the configuration is refused.
    At(PathBuf),
}

/// A syslog target as configured.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct SyslogTarget {
    /// Where.
    pub address: Address,
    /// Own level.
    pub level: Option<Level>,
    /// For this logger only.
    pub logname: Option<String>,
    /// Where it was named.
    pub at: Option<At>,
}

/// One watch.
#[derive(Clone)]
pub(crate) struct Watch {
    /// The paths as given.
    pub paths: Vec<Vec<u8>>,
    /// The path argument as log lines show it.
    pub path_text: String,
    /// As `rec=` of Watch.
    pub rec: bool,
    /// As `auto_add=` of Watch.
    pub auto_add: bool,
    /// What is told of what is there at the start.
    pub initial: Initial,
    /// Exclude filters: the watcher prunes with them, the engine drops events.
    pub exclude: Option<Arc<ExcludeFilter>>,
    /// Where each of their patterns stands.
    pub exclude_at: Vec<Option<At>>,
    /// Events that the map does something with.
    pub interest: Mask,
    /// Those of them that make tasks for files.
    pub schedules: Mask,
    /// What happens at which event.
    pub map: MapSpec,
    /// Tells whether anything of it changed.
    pub settings: Digest,
    /// Where it was made.
    pub at: Option<At>,
}

impl Watch {
    /// Whether it sees what is deeper than the entries of its paths.
    pub(crate) fn is_deep(&self) -> bool {
        self.rec || self.auto_add
    }
}

/// One scheduler.
#[derive(Clone)]
pub(crate) struct Scheduler {
    /// What people call it: its own name, with that of its file before it where another file has such a one.
    pub name: Arc<str>,
    /// What identifies it across a reload and a restart.
    pub identity: Identity,
    /// Whether the configuration gave the name, instead of a variable or a number.
    pub named: bool,
    /// What tells whether it does the same as before.
    pub digest: Digest,
    /// Tells whether anything of it changed.
    pub settings: Digest,
    /// A command or job that the end of the daemon interrupted is run again; file rules always are.
    pub rerun: bool,
    /// Name of its logger.
    pub logname: String,
    /// The delay as the configuration wrote it, for log lines.
    pub delay_text: String,
    /// What the engine needs of it.
    pub spec: SchedulerSpec,
    /// What its tasks do.
    pub work: Work,
    /// What has to be so before they start.
    pub settled: Option<Arc<Settled>>,
    /// Where it was made.
    pub at: Option<At>,
}

/// What identifies a scheduler: the file that made it, and its name there.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Identity {
    /// Stem of the file.
    pub file: Arc<str>,
    /// The scheduler's own name.
    pub name: Arc<str>,
}

impl Identity {
    /// Whether that is what it is written as.
    pub(crate) fn is(&self, text: &str) -> bool {
        text.split_once('/') == Some((&self.file, &self.name))
    }
}

impl fmt::Display for Identity {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}/{}", self.file, self.name)
    }
}

/// Number of what a scheduler does, the same in each process and each build: FNV-1a (Fowler, Noll, Vo) of 64 bits. It
/// tells that somebody edited something, and guards against nobody.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Digest(pub u64);

impl Digest {
    fn of(kind: &str, does: &[u8]) -> Digest {
        let bytes = kind.bytes().chain([0]).chain(does.iter().copied());
        Digest(bytes.fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
        }))
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{:016x}", self.0)
    }
}

/// What a scheduler's tasks do.
#[derive(Clone, Debug)]
pub(crate) enum Work {
    /// A coroutine in the host, by the name of its function.
    Job(String),
    /// A shell command.
    Command(Arc<Command>),
    /// The first file rule that matches.
    Rules(Arc<FileRules>),
}

impl Work {
    /// What a task of file rules is kept as.
    pub(crate) const KEPT_RULES: &str = "rules";

    /// What a person calls it.
    pub(crate) fn kind(&self) -> &'static str {
        match self {
            Work::Job(_) => "job",
            Work::Command(_) => "command",
            Work::Rules(_) => "file rules",
        }
    }

    /// What it is called in the state.
    pub(crate) fn kept_kind(&self) -> &'static str {
        match self {
            Work::Job(_) => "job",
            Work::Command(_) => "command",
            Work::Rules(_) => Work::KEPT_RULES,
        }
    }
}

/// The exclude filter of a watch.
#[derive(Debug)]
pub(crate) struct ExcludeFilter(pub PatternSet);

impl Matcher for ExcludeFilter {
    fn first_match(&self, pathname: &[u8]) -> Result<Option<usize>, StepLimit> {
        self.0.first_match(pathname).map_err(|_| StepLimit)
    }
}

impl PartialEq for ExcludeFilter {
    /// Whether both exclude the same paths: a reload keeps the watches of a filter that did not change.
    fn eq(&self, other: &Self) -> bool {
        self.0.patterns().iter().map(Pattern::as_bytes).eq(other.0.patterns().iter().map(Pattern::as_bytes))
    }
}

/// The rules of one scheduler, in their order.
#[derive(Debug)]
pub(crate) struct FileRules {
    /// All `src_re`, for finding the first that matches.
    pub patterns: PatternSet,
    /// What each one does.
    pub rules: Vec<FileRule>,
    /// What its scheduler takes.
    pub kinds: files::Kinds,
}

impl FileRules {
    /// Where a rule moves or copies a path to; nowhere if it deletes.
    pub(crate) fn destination(&self, rule: usize, path: &[u8]) -> Result<Option<Substituted>, String> {
        let (pattern, FileRule { template, rule, .. }) = (&self.patterns.patterns()[rule], &self.rules[rule]);
        if rule.action == files::Action::Delete {
            return Ok(None);
        }
        pattern.sub_parts(template.as_ref()?, path).map(Some).map_err(|error| error.to_string())
    }

    /// What a rule would do with a path: `would move 'A' to 'B'`.
    pub(crate) fn intention(&self, rule: usize, path: &[u8]) -> String {
        let (pattern, FileRule { template, rule, .. }) = (&self.patterns.patterns()[rule], &self.rules[rule]);
        let source = Escaped(path);
        if rule.action == files::Action::Delete {
            return format!("would delete '{source}'");
        }
        let destination = template.as_ref().map(|template| pattern.sub(template, path));
        match destination {
            Ok(Ok(destination)) => format!("would {} '{source}' to '{}'", rule.action, Escaped(&destination)),
            Ok(Err(error)) => format!("would fail to {} '{source}': {error}", rule.action),
            Err(error) => format!("would fail to {} '{source}': dst_re: {error}", rule.action),
        }
    }
}

impl Matcher for FileRules {
    fn first_match(&self, pathname: &[u8]) -> Result<Option<usize>, StepLimit> {
        self.patterns.first_match(pathname).map_err(|_| StepLimit)
    }
}

/// One file rule, beside its `src_re`.
#[derive(Debug)]
pub(crate) struct FileRule {
    /// `dst_re`; a bad one fails each task that needs it, as in Python.
    pub template: Result<Template, String>,
    /// What to do, for the file layer.
    pub rule: files::Rule,
    /// The highest generation of its actions: how often rules may act on what rules made.
    pub generations: u32,
    /// How long what comes into the trash stays there.
    pub trash_keep: Option<Duration>,
    /// Where it was made.
    pub at: Option<At>,
}

impl Config {
    /// Reads a description of the host, which has executed `source`.
    ///
    /// # Errors
    /// The fault with its place in the user's file, for the same report as a fault that Python found.
    pub(crate) fn from_description(body: &[u8], source: Arc<[ConfigFile]>) -> Result<Config, ConfigFault> {
        let description: Description = serde_json::from_slice(body)
            .map_err(|error| fault(None, format!("the host's description cannot be read: {error}")))?;
        check_patterns(&description.loose_patterns)?;
        let mut warnings = Vec::new();
        let receivers: BTreeSet<usize> =
            description.schedulers.iter().flat_map(|scheduler| scheduler.running.receivers()).collect();
        let schedulers = description
            .schedulers
            .into_iter()
            .enumerate()
            .map(|(index, scheduler)| read_scheduler(scheduler, receivers.contains(&index), &mut warnings))
            .collect::<Result<Vec<_>, _>>()?;
        let schedulers = told_apart(schedulers);
        let takes_files = |index: usize| schedulers.get(index).is_some_and(|one| one.spec.files);
        let watches = description.watches.into_iter().map(|watch| read_watch(watch, takes_files));
        let watches = watches.collect::<Result<Vec<_>, _>>()?;
        let fingerprint =
            schedulers.iter().fold(String::new(), |text, scheduler| text + &fingerprint(scheduler));
        Ok(Config {
            logname: description.logname,
            shutdown_timeout: seconds(description.shutdown_timeout),
            max_jobs: description.max_jobs,
            control: description.control.into(),
            watches,
            schedulers,
            print: None,
            levels: description.levels.into_iter().map(|(name, level)| (name.0, Level(level))).collect(),
            syslog: description.syslog.into_iter().map(Into::into).collect(),
            handlers: description.handlers,
            filtered: description.filtered.into_iter().map(|name| name.0).collect(),
            host_stays: description.stays,
            state: description.state.into(),
            history: description.history,
            surroundings: Surroundings::new(description.environ, description.cwd, description.umask),
            warnings,
            hints: description.hints.iter().map(|hint| place(hint.at.as_ref()) + &hint.text).collect(),
            settings: description.settings,
            fingerprint,
            source,
            early: Vec::new(),
        })
    }
}

impl Config {
    fn file_rules(&self) -> impl Iterator<Item = &FileRule> {
        self.schedulers.iter().flat_map(Scheduler::file_rules)
    }

    /// Trashes of file rules, with the time that things stay there; not those where a rule wants them to stay.
    pub(crate) fn trashes(&self) -> Vec<(Vec<u8>, Duration)> {
        let rules: Vec<&FileRule> = self.file_rules().collect();
        let for_good = rules.iter().filter(|rule| rule.trash_keep.is_none());
        let stay: BTreeSet<&[u8]> = for_good.filter_map(|rule| rule.rule.trash.as_deref()).collect();
        let kept = rules.iter().filter_map(|rule| Some((rule.rule.trash.clone()?, rule.trash_keep?)));
        kept.filter(|(trash, _)| !stay.contains(&trash[..])).collect()
    }

    /// Directories in which file rules make their results: the literal beginnings of all `dst_re`, and the trashes.
    pub(crate) fn destinations(&self) -> Vec<Vec<u8>> {
        let results = self.file_rules().filter_map(FileRule::destination).map(<[u8]>::to_vec);
        let trashes = self.file_rules().filter_map(|rule| rule.rule.trash.as_deref());
        let mut directories: Vec<Vec<u8>> =
            results.chain(trashes.map(|trash| [trash, b"/"].concat())).collect();
        directories.sort();
        // One that lies below another is swept with it; the root directory alone says nothing of where results go.
        directories.retain(|directory| directory != b"/");
        directories.dedup_by(|next, before| next.starts_with(before));
        directories
    }
}

/// A span that may come as any number; behaviour for what Rust's type cannot hold is the nearest that it can.
fn seconds(value: f64) -> Duration {
    Duration::try_from_secs_f64(value.max(0.0)).unwrap_or(Duration::from_secs(u64::from(u32::MAX)))
}

/// The schedulers with the names of their files before their own, where two have the same.
fn told_apart(mut schedulers: Vec<Scheduler>) -> Vec<Scheduler> {
    let mut count: BTreeMap<Arc<str>, u32> = BTreeMap::new();
    for scheduler in &schedulers {
        *count.entry(Arc::clone(&scheduler.name)).or_default() += 1;
    }
    for scheduler in &mut schedulers {
        if count[&scheduler.name] > 1 {
            scheduler.name = scheduler.identity.to_string().into();
        }
    }
    schedulers
}

fn fingerprint(scheduler: &Scheduler) -> String {
    let name = if let Work::Job(name) = &scheduler.work { name.as_str() } else { "" };
    format!("{}\0{name}\0", scheduler.identity)
}

fn read_watch(watch: WatchDescription, takes_files: impl Fn(usize) -> bool) -> Result<Watch, ConfigFault> {
    let mut reactions: [Vec<Reaction>; 15] = Default::default();
    let (mut interest, mut schedules) = (Mask::NONE, Mask::NONE);
    for (name, list) in watch.map {
        let flag: Flag =
            name.parse().map_err(|error| fault(watch.at.as_ref(), format!("event_map: {error}")))?;
        if !list.is_empty() {
            interest |= flag.mask();
        }
        if list
            .iter()
            .any(|reaction| matches!(reaction, ReactionDescription::Schedule(to) if takes_files(*to)))
        {
            schedules |= flag.mask();
        }
        reactions[flag.index()] = list
            .into_iter()
            .map(|reaction| match reaction {
                ReactionDescription::Schedule(index) => Reaction::Schedule(index),
                ReactionDescription::Cancel(index) => Reaction::Cancel(index),
            })
            .collect();
    }
    let filters = watch.exclude.unwrap_or_default();
    let exclude = exclude_filter(&filters)?;
    Ok(Watch {
        paths: watch.paths.into_iter().map(|path| path.0).collect(),
        path_text: watch.path_text,
        rec: watch.rec,
        auto_add: watch.auto_add,
        initial: watch.initial,
        interest,
        schedules,
        map: MapSpec { reactions, exclude: exclude.clone().map(|filter| filter as Arc<dyn Matcher>) },
        exclude,
        exclude_at: filters.into_iter().map(|filter| filter.at).collect(),
        settings: Digest::of("watch", watch.settings.as_bytes()),
        at: watch.at,
    })
}

/// Checks expressions that no scheduler uses.
///
/// # Errors
/// The first that is bad, with its place.
pub(crate) fn check_patterns(patterns: &[PatternMade]) -> Result<(), ConfigFault> {
    let bad = |made: &PatternMade| {
        Pattern::new(&made.pattern.0).err().map(|error| fault(made.at.as_ref(), error.to_string()))
    };
    patterns.iter().find_map(bad).map_or(Ok(()), Err)
}

fn exclude_filter(filters: &[PatternMade]) -> Result<Option<Arc<ExcludeFilter>>, ConfigFault> {
    if filters.is_empty() {
        return Ok(None);
    }
    let compile = |filter: &PatternMade| {
        Pattern::new(&filter.pattern.0)
            .map_err(|error| fault(filter.at.as_ref(), format!("exclude_filter: {error}")))
    };
    let patterns = filters.iter().map(compile).collect::<Result<Vec<_>, _>>()?;
    Ok(Some(Arc::new(ExcludeFilter(PatternSet::new(patterns)))))
}

/// Words of a command that are like placeholders and are none.
fn misspelt_warnings(scheduler: &SchedulerDescription, known: &'static [Placeholder]) -> Vec<String> {
    let at = place(scheduler.at.as_ref());
    let cmd = scheduler.cmd.as_ref().map_or(b"".as_slice(), |cmd| cmd.0.as_slice());
    let argv = scheduler.command.iter().flat_map(CommandDescription::words);
    let mut all = Vec::new();
    for (name, text) in [("cmd", cmd)].into_iter().chain(argv.map(|word| ("argv", word))) {
        all.extend(misspelt(text, known).iter().map(|warning| format!("{at}{name}: {warning}")));
    }
    all
}

fn read_scheduler(
    scheduler: SchedulerDescription,
    is_receiver: bool,
    warnings: &mut Vec<String>,
) -> Result<Scheduler, ConfigFault> {
    let digest = Digest::of(scheduler.kind.name(), &scheduler.does.0);
    let identity = Identity { file: scheduler.file.as_str().into(), name: scheduler.name.as_str().into() };
    let mut matcher: Option<Arc<dyn Matcher>> = None;
    let work = match scheduler.kind {
        KindDescription::Job => Work::Job(scheduler.job.unwrap_or_default()),
        KindDescription::Shell => {
            let known = match (scheduler.running.is_batch(), is_receiver) {
                (true, _) => OF_BATCHES,
                (false, true) => OF_FAILURES,
                (false, false) => OF_EVENTS,
            };
            warnings.extend(misspelt_warnings(&scheduler, known));
            let command = read_command(&scheduler, known)?;
            let at = place(scheduler.at.as_ref());
            warnings.extend(command.doubts.iter().map(|doubt| format!("{at}{doubt}")));
            Work::Command(Arc::new(command))
        }
        KindDescription::Files => {
            let rules = scheduler.rules.unwrap_or_default();
            let rules =
                rules.into_iter().map(|rule| read_rule(rule, warnings)).collect::<Result<Vec<_>, _>>()?;
            let (patterns, rules) = rules.into_iter().unzip();
            let kinds = files::Kinds { files: scheduler.files, directories: scheduler.dirs };
            let rules = Arc::new(FileRules { patterns: PatternSet::new(patterns), rules, kinds });
            matcher = Some(Arc::clone(&rules) as Arc<dyn Matcher>);
            Work::Rules(rules)
        }
    };
    let spec = SchedulerSpec {
        files: scheduler.files,
        dirs: scheduler.dirs,
        delay: seconds(scheduler.delay),
        singlejob: scheduler.singlejob,
        max_jobs: scheduler.max_jobs,
        kind: match work {
            Work::Job(_) => SchedulerKind::Job,
            Work::Command(_) => SchedulerKind::Command,
            Work::Rules(_) => SchedulerKind::Rules,
        },
        on_busy: match work {
            Work::Rules(_) => OnBusy::RunAgainIfChanged,
            Work::Job(_) | Work::Command(_) => OnBusy::Skip,
        },
        rules: matcher,
        ..SchedulerSpec::named(identity.to_string())
    };
    let rerun = scheduler.running.rerun || matches!(work, Work::Rules(_));
    let (spec, settled) = scheduler.running.apply(spec);
    if !spec.batch_is_alone() {
        let text = "batch: there is something that excludes it".to_owned();
        return Err(fault(scheduler.at.as_ref(), text));
    }
    Ok(Scheduler {
        rerun,
        name: Arc::clone(&identity.name),
        identity,
        named: scheduler.named,
        digest,
        settings: Digest::of(scheduler.kind.name(), scheduler.settings.as_bytes()),
        logname: scheduler.logname,
        delay_text: scheduler.delay_text,
        spec,
        work,
        settled,
        at: scheduler.at,
    })
}

fn read_command(
    scheduler: &SchedulerDescription,
    known: &'static [Placeholder],
) -> Result<Command, ConfigFault> {
    let cmd = scheduler.cmd.as_ref().map(|cmd| cmd.0.as_slice());
    let command =
        scheduler.command.as_ref().ok_or_else(|| "how the command runs is not described".to_owned());
    command
        .and_then(|description| Command::read(cmd, description, known))
        .map_err(|text| fault(scheduler.at.as_ref(), text))
}

fn read_rule(
    rule: describe::RuleDescription,
    warnings: &mut Vec<String>,
) -> Result<(Pattern, FileRule), ConfigFault> {
    let at = rule.at;
    let pattern =
        Pattern::new(&rule.src_re.0).map_err(|error| fault(at.as_ref(), format!("src_re: {error}")))?;
    let template = Template::new(&rule.dst_re.0, &pattern).map_err(|error| error.to_string());
    if let Err(error) = &template {
        warnings.push(format!("{}dst_re: {error}; each task of this rule will fail", place(at.as_ref())));
    }
    let (generations, trash_keep) = (rule.generations, rule.trash_keep.map(seconds));
    let rule = files::Rule {
        action: rule.action.into(),
        auto_create: rule.auto_create,
        on_conflict: rule.on_conflict.into(),
        dirmode: rule.dirmode,
        filemode: rule.filemode,
        user: rule.user,
        group: rule.group,
        rec: rule.rec,
        durability: match rule.durable {
            None => Durability::Auto,
            Some(true) => Durability::Always,
            Some(false) => Durability::Never,
        },
        mounted: rule.mounted.map(|path| path.0),
        verify: rule.verify,
        trash: rule.trash.map(|path| path.0),
        prune: rule.prune,
    };
    check_mounted(&rule, template.as_ref().ok()).map_err(|text| fault(at.as_ref(), text))?;
    Ok((pattern, FileRule { template, rule, generations, trash_keep, at }))
}

/// Refuses a mount point that does not lie above the destination: whether it is mounted would say nothing.
fn check_mounted(rule: &files::Rule, template: Option<&Template>) -> Result<(), String> {
    let (Some(mounted), Some(template)) = (&rule.mounted, template) else { return Ok(()) };
    let destination = absolute_path(template.literal_prefix());
    let below = destination.strip_prefix(mounted.as_slice());
    if below.is_some_and(|rest| rest.is_empty() || rest.starts_with(b"/") || mounted == b"/") {
        return Ok(());
    }
    let (mounted, destination) = (Escaped(mounted), Escaped(&destination));
    Err(format!("mounted: '{mounted}' is no directory above the destination '{destination}'"))
}

impl FileRule {
    /// The directory that its results are in, with the slash at its end: the literal beginning of `dst_re`.
    pub(crate) fn destination(&self) -> Option<&[u8]> {
        let template = self.template.as_ref().ok().filter(|_| self.rule.action != files::Action::Delete)?;
        let prefix = template.literal_prefix();
        // What follows the last slash begins a name. Without one, results are relative to what the pattern matched.
        prefix.iter().rposition(|byte| *byte == b'/').map(|end| &prefix[..=end])
    }
}

impl Scheduler {
    /// Its file rules, if its work is that.
    pub(crate) fn file_rules(&self) -> &[FileRule] {
        match &self.work {
            Work::Rules(rules) => &rules.rules,
            Work::Job(_) | Work::Command(_) => &[],
        }
    }

    /// Itself as the log of `-d` shows it.
    pub(crate) fn summary(&self) -> String {
        let Scheduler { name, named, digest, delay_text, work, at, .. } = self;
        let origin = if *named { "" } else { " (name not given)" };
        let at = at.as_ref().map_or_else(String::new, |at| format!(", {}:{}", at.file, at.line));
        format!("scheduler '{name}'{origin}: {}, delay={delay_text}, digest={digest}{at}", work.kind())
    }
}

/// `FILE:LINE: ` or nothing.
pub(crate) fn place(at: Option<&At>) -> String {
    at.map_or_else(String::new, |at| format!("{}:{}: ", at.file, at.line))
}

fn fault(at: Option<&At>, message: String) -> ConfigFault {
    let locations = at.map(|at| Location {
        source: std::fs::read_to_string(&at.file)
            .ok()
            .and_then(|text| Some(text.lines().nth((at.line as usize).checked_sub(1)?)?.to_owned())),
        file: at.file.clone(),
        line: Some(at.line),
        column: None,
        end_column: None,
    });
    ConfigFault { message, locations: locations.into_iter().collect(), ..ConfigFault::default() }
}

impl fmt::Display for ConfigFault {
    /// What is wrong, then file, line, the user's own source and the caret.
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}", self.message)?;
        for location in self.locations.iter().rev().take(LOCATIONS_SHOWN).rev() {
            write!(out, "\n  File \"{}\"", location.file)?;
            if let Some(line) = location.line {
                write!(out, ", line {line}")?;
            }
            let Some(source) = &location.source else { continue };
            let trimmed = source.trim_start();
            write!(out, "\n    {}", trimmed.trim_end())?;
            if let Some(column) = location.column {
                let indent = source.chars().count() - trimmed.chars().count();
                let shown = trimmed.trim_end().chars().count();
                let first = (column as usize).saturating_sub(1 + indent).min(shown);
                let after =
                    location.end_column.map_or(first + 1, |end| (end as usize).saturating_sub(1 + indent));
                let width = after.min(shown).saturating_sub(first).max(1);
                write!(out, "\n    {}{}", " ".repeat(first), "^".repeat(width))?;
            }
        }
        Ok(())
    }
}

/// A recursion that ran away has a thousand frames; the innermost ones say it all.
const LOCATIONS_SHOWN: usize = 8;

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_fault_shows_place_source_and_caret() {
        let location = Location {
            file: "/etc/c.py".into(),
            line: Some(3),
            column: Some(5),
            end_column: Some(8),
            source: Some("    foo(1)\n".into()),
        };
        let fault = ConfigFault {
            message: "name 'foo' is not defined".into(),
            locations: vec![location],
            ..ConfigFault::default()
        };
        let text = "name 'foo' is not defined\n  File \"/etc/c.py\", line 3\n    foo(1)\n    ^^^";
        assert_eq!(fault.to_string(), text);
    }

    /// A scheduler of this kind, with a rule for this action, as a host describes it.
    fn described(kind: &str, action: &str) -> Result<Config, ConfigFault> {
        let rule = json!({
            "action": action, "src_re": "(.*)", "dst_re": "/out", "auto_create": false, "dirmode": null,
            "filemode": null, "user": null, "group": null, "rec": false, "durable": null, "on_conflict": "fail",
            "verify": false, "trash": null, "trash_keep": null, "generations": 8, "mounted": null, "prune": false,
        });
        let scheduler = json!({
            "kind": kind, "name": "sched", "file": "config", "named": true, "logname": "sched", "files": true,
            "dirs": false, "delay": 0.0, "delay_text": "0", "singlejob": false, "does": "", "rules": [rule],
            "running": {"on_failure": [], "on_busy": "skip", "persist": true, "rerun": false},
        });
        let description = json!({
            "logname": "daemon", "shutdown_timeout": 30.0, "state": {"path": null, "never": true}, "history": 0,
            "control": {"path": null, "never": true, "group": null, "metrics": null},
            "watches": [], "schedulers": [scheduler],
            "levels": {}, "syslog": [], "handlers": false, "filtered": [], "stays": false,
        });
        Config::from_description(description.to_string().as_bytes(), Arc::default())
    }

    #[test]
    fn what_is_not_known_deletes_nothing() {
        for (name, action) in
            [("move", files::Action::Move), ("copy", files::Action::Copy), ("delete", files::Action::Delete)]
        {
            let config = described("files", name).map_err(|fault| fault.message).unwrap();
            assert_eq!(config.schedulers[0].file_rules()[0].rule.action, action);
        }
        for (kind, action) in [("files", "link"), ("files", "Move"), ("mail", "move")] {
            let fault = described(kind, action).map(|_| ()).unwrap_err();
            assert!(fault.message.contains("unknown variant"), "{kind}, {action}: {}", fault.message);
        }
    }

    #[test]
    fn a_digest_is_the_same_in_each_build_and_differs_by_kind() {
        // The published value of "foobar", with the separator of the kind taken into account by splitting there.
        let plain = |bytes: &[u8]| {
            bytes.iter().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
                (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
            })
        };
        assert_eq!(plain(b"foobar"), 0x8594_4171_f739_67e8);
        assert_eq!(Digest::of("shell", b"true").0, plain(b"shell\0true"));
        assert_ne!(Digest::of("shell", b"true"), Digest::of("job", b"true"));
    }

    #[test]
    fn a_place_that_does_not_exist_costs_nothing() {
        let at = At { file: "/etc/hostname".into(), line: 0 };
        assert_eq!(super::fault(Some(&at), "text".into()).locations[0].source, None);
        let location = Location {
            file: "f".into(),
            line: Some(1),
            column: Some(u32::MAX),
            end_column: None,
            source: Some("short".into()),
        };
        let fault = ConfigFault { message: "m".into(), locations: vec![location], ..ConfigFault::default() };
        assert!(fault.to_string().len() < 100);
    }
}
