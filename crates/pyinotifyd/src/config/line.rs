//! `pyinotifyd watch`: what its command line says, as a configuration that needs no file and no Python, and as the
//! text of a file that does the same.

use std::fmt::{self, Write as _};
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use engine::{Batch, MapSpec, Matcher, OnBusy, Reaction, Retry, SchedulerKind, SchedulerSpec};
use event::{Flag, Mask};

use super::{
    Command, CommandOptions, Config, ControlPlace, ControlWanted, Digest, ExcludeFilter, Identity, Initial,
    Program, Scheduler, StateWanted, Stdin, Surroundings, Watch, Work,
};
use crate::action::arguments::ArgumentTemplate;
use crate::action::code::judge_arguments;
use crate::action::misspelt::misspelt;
use crate::action::occasion::{OF_BATCHES, OF_EVENTS, Placeholder};
use crate::host::wire::{ConfigFault, PathText, PatternMade};

/// What the command line of `pyinotifyd watch` says.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Line {
    /// The paths: absolute, and taken as they are.
    pub paths: Vec<Vec<u8>>,
    /// The events, in the order of [`Flag::ALL`], each once.
    pub on: Vec<Flag>,
    /// Whether subdirectories are watched, those that are there and those that come.
    pub rec: bool,
    /// Whether what is there already is told as arrivals.
    pub initial: bool,
    /// Expressions of the exclude filter.
    pub exclude: Vec<Vec<u8>>,
    /// What is done for an event.
    pub does: Does,
}

/// What is done for an event.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Does {
    /// A line is printed.
    Print(Format),
    /// A command is run.
    Run(Run),
}

/// How a line looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Format {
    /// `TIME EVENT PATH`.
    Text,
    /// A JSON object.
    Json,
}

/// A command, and how it runs.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Run {
    /// The program and its arguments, with fields in braces.
    pub argv: Vec<Vec<u8>>,
    /// How long it waits for further events of its path; with a batch, of any path.
    pub delay: Seconds,
    /// Whether one run is for all paths that come together.
    pub batch: bool,
    /// How many run at once.
    pub jobs: NonZeroU32,
    /// What an event does whose path has one that runs.
    pub on_busy: OnBusy,
    /// How long one may take.
    pub timeout: Option<Seconds>,
    /// How often it is tried again when it has failed.
    pub retry: Option<NonZeroU32>,
    /// What is accepted of its arguments and probably not meant; [`Run::check`] finds it.
    pub doubts: Vec<String>,
}

/// A length of time as somebody typed it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Seconds(pub f64);

impl Seconds {
    fn span(self) -> Duration {
        super::seconds(self.0)
    }
}

impl fmt::Display for Seconds {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}", self.0)
    }
}

/// How many commands run at once where nothing is said: as many as with a ShellScheduler.
pub(crate) const JOBS_DEFAULT: NonZeroU32 = NonZeroU32::new(64).expect("it is not zero");
/// How long a batch waits for further events where nothing is said, and at most, and for how many paths, as with a
/// Batch.
pub(crate) const QUIET_DEFAULT: Seconds = Seconds(2.0);
const BATCH_WAIT: Seconds = Seconds(30.0);
const BATCH_FILES: NonZeroU32 = NonZeroU32::new(1000).expect("it is not zero");
/// Pause before a command is tried again; each further one is longer by [`RETRY_FACTOR`], as with a Retry.
const RETRY_DELAY: Duration = Duration::from_secs(1);
const RETRY_FACTOR: f64 = 2.0;
const RETRY_DELAY_MAX: Duration = Duration::from_secs(600);
const RETRY_JITTER: f64 = 0.1;
/// Time that commands have to end after SIGTERM, as with a Pyinotifyd.
const SHUTDOWN_TIMEOUT: Duration = Duration::from_secs(30);
/// What the scheduler is called, as the variable of the file is.
const SCHEDULER: &str = "run";

impl Config {
    /// The configuration that a command line stands for.
    ///
    /// # Errors
    /// An expression of the exclude filter cannot be used.
    pub(crate) fn from_line(line: &Line) -> Result<Config, ConfigFault> {
        let made = |pattern: &Vec<u8>| PatternMade { pattern: PathText(pattern.clone()), at: None };
        let exclude = super::exclude_filter(&line.exclude.iter().map(made).collect::<Vec<_>>())?;
        let (mut schedulers, mut warnings, mut print) = (Vec::new(), Vec::new(), None);
        match &line.does {
            Does::Print(format) => print = Some(*format),
            Does::Run(run) => {
                warnings = run.warnings();
                schedulers.push(run.scheduler());
            }
        }
        let fingerprint = schedulers.iter().map(super::fingerprint).collect();
        let watch = line.watch(exclude, !schedulers.is_empty());
        warnings.extend(super::check::excludes(&watch, "--exclude"));
        Ok(Config {
            state: StateWanted::Never,
            history: 0,
            control: ControlWanted { place: ControlPlace::Never, ..ControlWanted::default() },
            logname: "daemon".to_owned(),
            shutdown_timeout: SHUTDOWN_TIMEOUT,
            max_jobs: None,
            watches: vec![watch],
            schedulers,
            print,
            levels: Vec::new(),
            syslog: Vec::new(),
            handlers: false,
            filtered: std::collections::BTreeSet::new(),
            host_stays: false,
            warnings,
            hints: Vec::new(),
            surroundings: Surroundings::default(),
            settings: std::collections::BTreeMap::new(),
            fingerprint,
            source: Arc::default(),
            early: Vec::new(),
        })
    }
}

impl Line {
    fn watch(&self, exclude: Option<Arc<ExcludeFilter>>, runs: bool) -> Watch {
        let interest = self.on.iter().map(|flag| flag.mask()).fold(Mask::NONE, |all, mask| all | mask);
        let mut reactions: [Vec<Reaction>; 15] = Default::default();
        for flag in self.on.iter().filter(|_| runs) {
            reactions[flag.index()].push(Reaction::Schedule(0));
        }
        Watch {
            paths: self.paths.iter().map(|path| literal_glob(path)).collect(),
            path_text: crate::log::Escaped(&self.paths_text()).to_string(),
            rec: self.rec,
            auto_add: self.rec,
            initial: if self.initial { Initial::All } else { Initial::None },
            settings: Digest::of("watch", b""),
            map: MapSpec { reactions, exclude: exclude.clone().map(|filter| filter as Arc<dyn Matcher>) },
            exclude_at: self.exclude.iter().map(|_| None).collect(),
            exclude,
            interest,
            schedules: interest,
            at: None,
        }
    }

    /// The paths as the log shows those of a file: one as it is, several as a list of Python's.
    fn paths_text(&self) -> Vec<u8> {
        match self.paths.as_slice() {
            [path] => path.clone(),
            paths => {
                let quoted: Vec<_> =
                    paths.iter().map(|path| [b"'", path.as_slice(), b"'"].concat()).collect();
                [b"[".as_slice(), &quoted.join(b", ".as_slice()), b"]"].concat()
            }
        }
    }
}

/// A path in which nothing is a wildcard: `[*]` matches a star and nothing else.
pub(crate) fn literal_glob(path: &[u8]) -> Vec<u8> {
    let mut glob = Vec::with_capacity(path.len());
    for &byte in path {
        match byte {
            b'*' | b'?' | b'[' => glob.extend_from_slice(&[b'[', byte, b']']),
            byte => glob.push(byte),
        }
    }
    glob
}

impl Run {
    /// The program and its arguments; where no field stands in any of them, the path is appended.
    fn words(&self) -> impl Iterator<Item = &[u8]> {
        let has_field = self.argv.iter().any(|word| self.template(word).has_field());
        let all: &[u8] = if self.batch { b"{pathnames}" } else { b"{pathname}" };
        let appended = (!has_field).then_some(all);
        self.argv.iter().map(Vec::as_slice).chain(appended)
    }

    /// Judges its arguments.
    ///
    /// # Errors
    /// What keeps them from being used.
    pub(crate) fn check(&mut self) -> Result<(), String> {
        if self.argv.first().is_some_and(Vec::is_empty) {
            return Err("expected a program, got an empty word".to_owned());
        }
        super::command::refuse_of_one(self.argv.iter().map(Vec::as_slice), self.placeholders())?;
        let is_inside = self.argv.iter().any(|word| self.template(word).has_path_list_inside());
        if is_inside {
            return Err("{pathnames} is many arguments: write it as an argument of its own".to_owned());
        }
        self.doubts = judge_arguments(&self.words().collect::<Vec<_>>(), self.placeholders())?;
        Ok(())
    }

    fn placeholders(&self) -> &'static [Placeholder] {
        if self.batch { OF_BATCHES } else { OF_EVENTS }
    }

    fn template(&self, word: &[u8]) -> ArgumentTemplate {
        ArgumentTemplate::new(word, self.placeholders())
    }

    /// When a batch begins.
    fn batch(&self) -> Option<Batch> {
        let Seconds(quiet) = self.delay;
        let max_wait = super::seconds(quiet.max(BATCH_WAIT.0));
        self.batch.then(|| Batch { quiet: self.delay.span(), max_wait, max_files: BATCH_FILES })
    }

    fn scheduler(&self) -> Scheduler {
        let words: Vec<&[u8]> = self.words().collect();
        let retry = self.retry.map(|times| Retry {
            times: Some(times.get()),
            delay: RETRY_DELAY,
            factor: RETRY_FACTOR,
            max_delay: RETRY_DELAY_MAX,
            jitter: RETRY_JITTER,
            on: None,
        });
        Scheduler {
            rerun: false,
            name: SCHEDULER.into(),
            identity: Identity { file: "".into(), name: SCHEDULER.into() },
            named: false,
            digest: Digest::of("shell", &words.join(&0)),
            settings: Digest::of("shell", b""),
            logname: "sched".to_owned(),
            delay_text: if self.batch { "0".to_owned() } else { self.delay.to_string() },
            spec: SchedulerSpec {
                dirs: true,
                delay: if self.batch { Duration::ZERO } else { self.delay.span() },
                batch: self.batch(),
                max_jobs: Some(self.jobs),
                timeout: self.timeout.map(Seconds::span),
                retry,
                kind: SchedulerKind::Command,
                on_busy: self.on_busy,
                ..SchedulerSpec::named(SCHEDULER)
            },
            work: Work::Command(Arc::new(Command {
                program: Program::Arguments(words.into_iter().map(|word| self.template(word)).collect()),
                options: CommandOptions {
                    stdin: if self.batch { Stdin::Paths } else { Stdin::Null },
                    ..CommandOptions::default()
                },
                doubts: Vec::new(),
            })),
            settled: None,
            at: None,
        }
    }

    fn warnings(&self) -> Vec<String> {
        let known = self.placeholders();
        let misspelt = self.argv.iter().flat_map(|word| misspelt(word, known));
        misspelt.chain(self.doubts.iter().cloned()).collect()
    }
}

/// The text of a config file that does what the command line does.
pub(crate) fn config_file(line: &Line) -> String {
    let (mut names, mut reactions) = (vec!["Pyinotifyd"], String::new());
    let (modules, above) = match &line.does {
        Does::Print(format) => {
            names.push("TaskScheduler");
            print_part(*format)
        }
        Does::Run(run) => {
            names.push("ShellScheduler");
            names.extend(run.retry.map(|_| "Retry"));
            names.extend(run.batch.then_some("Batch"));
            ("", run_part(run))
        }
    };
    names.push("Watch");
    names.sort_unstable();
    for flag in &line.on {
        let name = flag.name();
        let _ = match &line.does {
            Does::Run(_) => writeln!(reactions, "        \"{name}\": {SCHEDULER},"),
            Does::Print(_) => {
                writeln!(reactions, "        \"{name}\": TaskScheduler(show, dirs=True, name=\"{name}\"),")
            }
        };
    }
    let imports = names.join(", ");
    let mut text = format!("{HEAD}\n{modules}from pyinotifyd import {imports}\n\n{above}\nwatch = Watch(\n");
    let globs: Vec<_> = line.paths.iter().map(|path| Literal(&literal_glob(path)).to_string()).collect();
    let _ = match globs.as_slice() {
        [glob] => writeln!(text, "    path={glob},"),
        globs => writeln!(text, "    path=[{}],", globs.join(", ")),
    };
    let _ = write!(text, "    event_map={{\n{reactions}    }},\n");
    if line.rec {
        text.push_str("    rec=True,\n    auto_add=True,\n");
    }
    if line.initial {
        text.push_str("    initial=\"all\",\n");
    }
    if !line.exclude.is_empty() {
        let exclude: Vec<_> = line.exclude.iter().map(|pattern| Literal(pattern).to_string()).collect();
        let _ = writeln!(text, "    exclude_filter=[{}],", exclude.join(", "));
    }
    text + ")\n\npyinotifyd = Pyinotifyd(watches=[watch])\n"
}

const HEAD: &str = "\
\"\"\"Written by `pyinotifyd watch --print-config`: does the same as that command line.

Check it with `pyinotifyd -t -c FILE`, run it with `pyinotifyd -c FILE`. `man pyinotifyd-config`, which is
docs/reference.md in the sources, says what else it can hold.
\"\"\"
";

fn run_part(run: &Run) -> String {
    let words: Vec<_> = run.words().map(|word| Literal(word).to_string()).collect();
    let mut text =
        format!("{SCHEDULER} = ShellScheduler(\n    argv=[{}],\n    dirs=True,\n", words.join(", "));
    if run.batch {
        let Seconds(quiet) = run.delay;
        let max_wait = Seconds(quiet.max(BATCH_WAIT.0));
        let _ = writeln!(text, "    batch=Batch(quiet={}, max_wait={max_wait}),", run.delay);
    } else if run.delay.0 > 0.0 {
        let _ = writeln!(text, "    delay={},", run.delay);
    }
    if run.jobs != JOBS_DEFAULT {
        let _ = writeln!(text, "    max_jobs={},", run.jobs);
    }
    let busy = match run.on_busy {
        OnBusy::Rerun => Some("rerun"),
        OnBusy::Restart => Some("restart"),
        OnBusy::Skip | OnBusy::RunAgainIfChanged => None,
    };
    if let Some(busy) = busy {
        let _ = writeln!(text, "    on_busy=\"{busy}\",");
    }
    if let Some(timeout) = run.timeout {
        let _ = writeln!(text, "    timeout={timeout},");
    }
    if let Some(times) = run.retry {
        let _ = writeln!(text, "    retry=Retry(times={times}, delay={}),", RETRY_DELAY.as_secs());
    }
    text + ")\n"
}

/// A job prints. It has one task for a path at a time, so each kind of event has a scheduler of its own.
/// The modules that it needs, and the job.
fn print_part(format: Format) -> (&'static str, String) {
    let (modules, body) = match format {
        Format::Text => ("from datetime import datetime\n\n", SHOW_TEXT),
        Format::Json => (
            "import json\nimport os\nfrom base64 import b64encode\nfrom datetime import datetime\n\n",
            SHOW_JSON,
        ),
    };
    (modules, format!("\n{SHOW_HEAD}{body}\n"))
}

const SHOW_HEAD: &str = "\
# Each event has a scheduler of its own, as one that comes while the same event of the same path is being printed is
# skipped, and the log says so. `pyinotifyd watch` itself prints these, too.
async def show(event, task_id):
";

const SHOW_TEXT: &str = r#"    time = datetime.now().isoformat(" ", "milliseconds").replace(".", ",")
    print(time, event.maskname, escaped(getattr(event, "pathname", "")), flush=True)


def escaped(path):
    """Return a path in which no character ends a line or steers a terminal."""
    codes = ((c, ord(c)) for c in path)
    return "".join(c if c.isprintable() else f"\\x{o:02x}" if o < 256 else f"\\u{o:04x}" for c, o in codes)
"#;

const SHOW_JSON: &str = r#"    source = getattr(event, "src_pathname", None)
    shown = {
        "time": datetime.now().astimezone().isoformat(timespec="milliseconds"),
        "event": event.maskname,
        **text("path", getattr(event, "pathname", "")),
        **({"src_path": None} if source is None else text("src_path", source)),
        "dir": event.dir,
        "synthetic": getattr(event, "synthetic", False),
    }
    print(json.dumps(shown), flush=True)


def text(name, path):
    """Return a path as text; U+FFFD stands for what is not UTF-8, and then its bytes stand beside it in base64."""
    path = os.fsencode(path)
    text = path.decode(errors="replace")
    return {name: text} if text.encode() == path else {name: text, f"{name}_b64": b64encode(path).decode()}
"#;

/// Bytes as a string of Python's that stands for them: what is not UTF-8 is a surrogate (PEP 383).
pub(crate) struct Literal<'a>(pub &'a [u8]);

impl fmt::Display for Literal<'_> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_char('"')?;
        for chunk in self.0.utf8_chunks() {
            for character in chunk.valid().chars() {
                match character {
                    '"' | '\\' => write!(out, "\\{character}")?,
                    '\n' => out.write_str("\\n")?,
                    // Control characters, and those that turn a text round or cannot be seen.
                    '\0'..='\x1f' | '\x7f'..='\u{9f}' => write!(out, "\\x{:02x}", character as u32)?,
                    '\u{200e}'
                    | '\u{200f}'
                    | '\u{2028}'..='\u{202e}'
                    | '\u{2066}'..='\u{2069}'
                    | '\u{61c}'
                    | '\u{feff}' => write!(out, "\\u{:04x}", character as u32)?,
                    other => out.write_char(other)?,
                }
            }
            for byte in chunk.invalid() {
                write!(out, "\\udc{byte:02x}")?;
            }
        }
        out.write_char('"')
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(argv: &[&str]) -> Run {
        Run {
            argv: argv.iter().map(|word| word.as_bytes().to_vec()).collect(),
            delay: Seconds(0.0),
            batch: false,
            jobs: JOBS_DEFAULT,
            on_busy: OnBusy::Skip,
            timeout: None,
            retry: None,
            doubts: Vec::new(),
        }
    }

    fn line(does: Does) -> Line {
        let (paths, on) = (vec![b"/srv/in".to_vec()], vec![Flag::CloseWrite, Flag::MovedTo]);
        Line { paths, on, rec: true, initial: false, exclude: Vec::new(), does }
    }

    #[test]
    fn the_path_is_appended_where_no_field_stands() {
        let words = |argv: &[&str]| run(argv).words().map(<[u8]>::to_vec).collect::<Vec<_>>();
        assert_eq!(words(&["ls", "-l"]), [b"ls".as_slice(), b"-l", b"{pathname}"]);
        assert_eq!(words(&["echo", "{maskname}"]), [b"echo".as_slice(), b"{maskname}"]);
        assert_eq!(words(&["cp", "{pathname}", "/x"]), [b"cp".as_slice(), b"{pathname}", b"/x"]);
        assert_eq!(words(&["echo", "{path}"]), [b"echo".as_slice(), b"{path}", b"{pathname}"]);
    }

    #[test]
    fn a_batch_gets_all_paths() {
        let run = |argv: &[&str], delay| Run { batch: true, delay: Seconds(delay), ..run(argv) };
        let words = |argv: &[&str]| run(argv, 2.0).words().map(<[u8]>::to_vec).collect::<Vec<_>>();
        assert_eq!(words(&["ls", "{pathnames}", "x"]), [b"ls".as_slice(), b"{pathnames}", b"x"]);
        assert_eq!(words(&["ls"]), [b"ls".as_slice(), b"{pathnames}"]);
        assert_eq!(run(&["ls"], 2.0).check(), Ok(()));
        assert!(run(&["ls", "{pathname}"], 2.0).check().unwrap_err().contains("write {pathnames}"));
        assert!(run(&["ls", "-{pathnames}"], 2.0).check().unwrap_err().contains("many arguments"));
        let scheduler = run(&["ls"], 60.0).scheduler();
        let batch = scheduler.spec.batch.unwrap();
        assert_eq!((batch.quiet, batch.max_wait), (Duration::from_secs(60), Duration::from_secs(60)));
        assert!(scheduler.spec.batch_is_alone());
        let text = config_file(&line(Does::Run(run(&["ls"], 0.5))));
        assert!(text.contains("    batch=Batch(quiet=0.5, max_wait=30),\n"), "{text}");
        assert!(text.contains("from pyinotifyd import Batch, Pyinotifyd, ShellScheduler, Watch\n"), "{text}");
    }

    #[test]
    fn a_line_with_a_command_is_a_watch_and_a_scheduler() {
        let config = Config::from_line(&line(Does::Run(run(&["true"])))).unwrap();
        let (watch, scheduler) = (&config.watches[0], &config.schedulers[0]);
        assert_eq!(
            (watch.rec, watch.auto_add, watch.paths.as_slice()),
            (true, true, &[b"/srv/in".to_vec()][..])
        );
        assert_eq!(watch.interest, Flag::CloseWrite.mask() | Flag::MovedTo.mask());
        assert_eq!(watch.map.reactions[Flag::MovedTo.index()], [Reaction::Schedule(0)]);
        assert_eq!(watch.map.reactions[Flag::Create.index()], []);
        assert_eq!((&*scheduler.name, scheduler.work.kind()), ("run", "command"));
        assert_eq!((config.print, config.host_stays), (None, false));
    }

    #[test]
    fn what_is_there_is_told_if_that_is_wanted() {
        let line = Line { initial: true, ..line(Does::Run(run(&["true"]))) };
        assert_eq!(Config::from_line(&line).unwrap().watches[0].initial, Initial::All);
        assert!(config_file(&line).contains("    initial=\"all\",\n"));
    }

    #[test]
    fn a_line_without_a_command_prints() {
        let config = Config::from_line(&line(Does::Print(Format::Json))).unwrap();
        assert_eq!((config.print, config.schedulers.len()), (Some(Format::Json), 0));
        assert!(config.watches[0].map.reactions.iter().all(Vec::is_empty));
        assert_eq!(config.watches[0].interest, Flag::CloseWrite.mask() | Flag::MovedTo.mask());
    }

    #[test]
    fn a_name_is_no_wildcard() {
        let line =
            Line { paths: vec![b"/a*[b]?".to_vec(), b"/c".to_vec()], ..line(Does::Run(run(&["true"]))) };
        let config = Config::from_line(&line).unwrap();
        assert_eq!(config.watches[0].paths, [b"/a[*][[]b][?]".to_vec(), b"/c".to_vec()]);
        assert_eq!(config.watches[0].path_text, "['/a*[b]?', '/c']");
        assert!(config_file(&line).contains(r#"path=["/a[*][[]b][?]", "/c"],"#));
    }

    #[test]
    fn a_misspelt_field_is_warned_of() {
        let config = Config::from_line(&line(Does::Run(run(&["cat", "{filename}"])))).unwrap();
        assert_eq!(config.warnings.len(), 1);
        assert!(config.warnings[0].contains("did you mean {pathname}?"), "{:?}", config.warnings);
    }

    #[test]
    fn a_bad_expression_is_a_fault() {
        let line = Line { exclude: vec![b"(".to_vec()], ..line(Does::Print(Format::Text)) };
        assert!(Config::from_line(&line).is_err_and(|fault| fault.message.starts_with("exclude_filter: ")));
    }

    #[test]
    fn literals_are_pythons() {
        let cases: [(&[u8], &str); 4] = [
            (b"/srv/it's", r#""/srv/it's""#),
            (b"a\"b\\c\nd\x1b\xff", r#""a\"b\\c\nd\x1b\udcff""#),
            ("für".as_bytes(), "\"für\""),
            ("\u{202e}x".as_bytes(), r#""\u202ex""#),
        ];
        for (bytes, text) in cases {
            assert_eq!(Literal(bytes).to_string(), text);
        }
    }

    #[test]
    fn a_file_says_only_what_differs_from_the_defaults() {
        let text = config_file(&line(Does::Run(run(&["true"]))));
        assert!(
            text.contains("run = ShellScheduler(\n    argv=[\"true\", \"{pathname}\"],\n    dirs=True,\n)\n")
        );
        for absent in ["delay", "max_jobs", "on_busy", "timeout", "Retry", "exclude_filter"] {
            assert!(!text.contains(absent), "{absent}: {text}");
        }
        let (timeout, retry) = (Some(Seconds(0.5)), NonZeroU32::new(3));
        let (jobs, on_busy) = (NonZeroU32::MIN, OnBusy::Rerun);
        let run = Run { delay: Seconds(2.0), jobs, on_busy, timeout, retry, ..run(&["true"]) };
        let text = config_file(&Line { rec: false, exclude: vec![b"^/x".to_vec()], ..line(Does::Run(run)) });
        let options = "    delay=2,\n    max_jobs=1,\n    on_busy=\"rerun\",\n    timeout=0.5,\n    \
                       retry=Retry(times=3, delay=1),\n";
        assert!(text.contains(options), "{text}");
        assert!(text.contains("    },\n    exclude_filter=[\"^/x\"],\n)\n"), "{text}");
    }
}
