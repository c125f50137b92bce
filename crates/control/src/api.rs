//! The words of the API: what is asked, and what is answered, as JSON.
//!
//! Times are RFC 3339 with offset, durations are seconds, paths are UTF-8 with U+FFFD for what is not, beside their
//! bytes in base64 where that happened.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use jiff::fmt::temporal::DateTimePrinter;
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A moment, in seconds since 1970.
#[derive(Clone, Copy, Debug, PartialEq, PartialOrd)]
#[cfg_attr(test, derive(schemars::JsonSchema), schemars(transparent))]
pub struct Time(
    /// As RFC 3339, with the offset of the local time zone.
    #[cfg_attr(test, schemars(with = "String", extend("format" = "date-time")))]
    pub f64,
);

impl Time {
    /// The moment as RFC 3339 with the offset of the local time zone, in milliseconds.
    pub fn to_rfc3339(self) -> String {
        const PRINTER: DateTimePrinter = DateTimePrinter::new().precision(Some(3));
        let seconds = SignedDuration::from_secs_f64(self.0.clamp(0.0, 253_402_207_200.0));
        let timestamp = Timestamp::from_duration(seconds).unwrap_or_default();
        let offset = TimeZone::system().to_offset(timestamp);
        PRINTER.timestamp_with_offset_to_string(&timestamp, offset)
    }

    /// Reads what [`Time::to_rfc3339`] wrote.
    pub fn parse(text: &str) -> Option<Time> {
        let timestamp: Timestamp = text.parse().ok()?;
        Some(Time(timestamp.as_duration().as_secs_f64()))
    }
}

impl Serialize for Time {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.to_rfc3339())
    }
}

impl<'de> Deserialize<'de> for Time {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Time, D::Error> {
        let text = String::deserialize(deserializer)?;
        Time::parse(&text).ok_or_else(|| serde::de::Error::custom("expected a time as in RFC 3339"))
    }
}

/// A path in JSON.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct PathText {
    /// The path; bytes that are not UTF-8 show as U+FFFD.
    pub path: String,
    /// Its bytes, where they are not UTF-8.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path_b64: Option<String>,
}

impl PathText {
    /// Of bytes.
    pub fn of(bytes: &[u8]) -> PathText {
        let path_b64 = std::str::from_utf8(bytes).is_err().then(|| BASE64.encode(bytes));
        PathText { path: String::from_utf8_lossy(bytes).into_owned(), path_b64 }
    }

    /// The bytes; `None` if the base64 is none.
    pub fn to_bytes(&self) -> Option<Vec<u8>> {
        match &self.path_b64 {
            Some(encoded) => bytes_of(encoded),
            None => Some(self.path.clone().into_bytes()),
        }
    }
}

/// What base64 stands for; `None` if it is none.
pub(crate) fn bytes_of(encoded: &str) -> Option<Vec<u8>> {
    BASE64.decode(encoded).ok()
}

/// A source path in JSON, where there is one.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct SrcPathText {
    /// Where the object was before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub src_path: Option<String>,
    /// Its bytes, where they are not UTF-8.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub src_path_b64: Option<String>,
}

impl SrcPathText {
    /// Of bytes.
    pub fn of(bytes: Option<&[u8]>) -> SrcPathText {
        let text = bytes.map(PathText::of);
        let (src_path, src_path_b64) = text.map_or((None, None), |text| (Some(text.path), text.path_b64));
        SrcPathText { src_path, src_path_b64 }
    }
}

/// Answer of `GET /v1/status`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Status {
    /// The daemon's version.
    pub version: String,
    /// Its process id.
    pub pid: u32,
    /// When it was started.
    pub since: Time,
    /// Its config files, and when they were loaded.
    pub config: Vec<ConfigFile>,
    /// What the latest reload refused, if it did: the configuration before it stays in force.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refused: Option<RefusedConfig>,
    /// Whether it works as it should.
    pub ready: bool,
    /// Why not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// The configuration's watches.
    pub watches: Vec<WatchStatus>,
    /// The configuration's schedulers.
    pub schedulers: Vec<SchedulerStatus>,
    /// Schedulers that are paused and that the configuration does not have at present, by name.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub paused_away: Vec<String>,
    /// Sums over all.
    pub totals: Totals,
    /// The Python process, where there is one.
    pub host: Option<HostStatus>,
    /// The state, where there is one.
    pub state: Option<StateStatus>,
}

/// A config file.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct ConfigFile {
    /// Where it is.
    #[serde(flatten)]
    pub path: PathText,
    /// When it was loaded.
    pub loaded: Time,
}

/// A configuration that was refused.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct RefusedConfig {
    /// The file that is at fault, or all of them.
    pub files: Vec<PathText>,
    /// When it was refused.
    pub refused: Time,
    /// Why, in one line.
    pub error: String,
}

/// A watch of the configuration.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct WatchStatus {
    /// What is watched, as the configuration gave it; several paths with commas between them.
    #[serde(flatten)]
    pub path: PathText,
    /// The same, each path by itself.
    #[serde(default)]
    pub paths: Vec<PathText>,
    /// Kernel watches that it takes.
    pub kernel_watches: u64,
    /// `inotify`.
    pub backend: String,
    /// `watching`, `waiting` for a missing root, `limited`.
    pub state: String,
    /// Paths of it that are missing.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub waiting_for: Vec<PathText>,
}

/// A scheduler of the configuration, with its tasks.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct SchedulerStatus {
    /// Its name.
    pub name: String,
    /// `job`, `command` or `rule`.
    pub kind: String,
    /// Whether it starts nothing.
    pub paused: bool,
    /// Tasks whose delay runs.
    pub waiting: u64,
    /// Tasks that run.
    pub running: u64,
    /// Tasks that are due and wait for a place.
    pub queued: u64,
    /// Tasks that failed and are tried again.
    pub retrying: u64,
    /// Tasks that failed for good and were neither run again nor forgotten.
    pub failed: u64,
    /// Tasks that ended well, since the start.
    pub done: u64,
}

/// Sums over everything; events, overflows and done since the start.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Totals {
    /// Events read.
    pub events: u64,
    /// Times that the kernel's queue overflowed.
    pub overflows: u64,
    /// Kernel watches held now.
    pub kernel_watches: u64,
    /// Tasks that wait now.
    pub waiting: u64,
    /// Tasks that run now.
    pub running: u64,
    /// Tasks that are due and wait for a place now.
    pub queued: u64,
    /// Tasks that are tried again now or later.
    pub retrying: u64,
    /// Tasks that stand as failed, also those of schedulers that are no more.
    pub failed: u64,
    /// Tasks that ended well.
    pub done: u64,
}

/// The Python process that runs jobs.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct HostStatus {
    /// Its process id; absent while it is started again.
    pub pid: Option<u32>,
    /// The interpreter.
    pub python: String,
    /// How often it was started again.
    pub restarts: u64,
}

/// The state directory.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct StateStatus {
    /// Where it is.
    #[serde(flatten)]
    pub path: PathText,
    /// Up to when everything was handled or is kept.
    pub checkpoint: Option<Time>,
    /// Why nothing can be kept now; null if it can.
    pub degraded: Option<String>,
}

/// A task that has not ended.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct TaskView {
    /// Its id.
    pub id: String,
    /// Its scheduler's name.
    pub scheduler: String,
    /// Its path.
    #[serde(flatten)]
    pub path: PathText,
    /// Its source path.
    #[serde(flatten)]
    pub src_path: SrcPathText,
    /// Its event's mask name.
    pub event: String,
    /// `waiting`, `running`, `queued` or `retrying`.
    pub state: String,
    /// When it is due.
    pub due: Option<Time>,
    /// When it came into its state.
    pub since: Time,
    /// Number of the attempt; the first is 1.
    pub attempt: u32,
    /// Why it waits, or why its latest attempt failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// A task that has ended.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct EndedView {
    /// Its id.
    pub id: String,
    /// Its scheduler's name.
    pub scheduler: String,
    /// Its path.
    #[serde(flatten)]
    pub path: PathText,
    /// Its source path.
    #[serde(flatten)]
    pub src_path: SrcPathText,
    /// Its event's mask name.
    pub event: String,
    /// `ok`, `failed` or `cancelled`.
    pub result: String,
    /// Why it failed, or was cancelled.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// Exit status of its command.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exit_status: Option<i32>,
    /// Signal that ended its command, by name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signal: Option<String>,
    /// The last lines of its command's output.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub output: Option<String>,
    /// When the last attempt was started.
    pub started: Time,
    /// When it ended.
    pub ended: Time,
    /// How long the last attempt took, in seconds.
    pub duration: f64,
    /// Number of attempts.
    pub attempts: u32,
    /// When what its rule did was undone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub undone: Option<Time>,
}

/// Which tasks a list shows. All conditions must hold.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Filter {
    /// State of the task.
    pub state: Option<String>,
    /// Its scheduler's name.
    pub scheduler: Option<String>,
    /// A glob over the whole path.
    pub path: Option<Vec<u8>>,
    /// How many rows.
    pub limit: Option<u32>,
    /// Only what ended in the last so many seconds.
    pub since: Option<f64>,
}

/// Reads a span as people write it: `90` and `90s` (seconds), `10m`, `1.5h`, `2d`, `1w`.
pub fn span_s(text: &str) -> Option<f64> {
    let unit_at = text.find(|letter: char| letter.is_ascii_alphabetic()).unwrap_or(text.len());
    let (number, unit) = text.split_at(unit_at);
    let is_number = number.chars().all(|letter| letter.is_ascii_digit() || letter == '.');
    let number: f64 = number.parse().ok().filter(|_| is_number)?;
    let seconds = match unit {
        "" | "s" => 1.0,
        "m" => 60.0,
        "h" => 3_600.0,
        "d" => 86_400.0,
        "w" => 604_800.0,
        _ => return None,
    };
    Some(number * seconds).filter(|seconds| seconds.is_finite())
}

/// The shortest beginning of an id that may stand for it.
const PREFIX_MIN: usize = 4;

/// Reads an id or the beginning of one, as it was typed.
///
/// # Errors
/// What is wrong with it, in one line.
pub fn id_prefix(text: &str) -> Result<String, String> {
    if text.len() < PREFIX_MIN {
        return Err(format!("an id or the beginning of one has at least {PREFIX_MIN} characters"));
    }
    if !text.chars().all(|letter| letter.is_ascii_hexdigit() || letter == '-') {
        return Err("an id has hexadecimal digits and hyphens only".to_owned());
    }
    Ok(text.to_ascii_lowercase())
}

/// Which tasks a change is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Selection {
    /// By their ids or prefixes of them.
    Ids(Vec<String>),
    /// By state, scheduler and path: all that are given must hold.
    Matching {
        /// State of the task.
        state: Option<String>,
        /// The scheduler's name.
        scheduler: Option<String>,
        /// A glob over the whole path.
        path: Option<Vec<u8>>,
    },
    /// All.
    All,
}

/// The body of a change with a filter.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct SelectionBody {
    /// State of the task.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub state: Option<String>,
    /// The scheduler's name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scheduler: Option<String>,
    /// A glob over the whole path.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    /// Its bytes, where they are not UTF-8.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path_b64: Option<String>,
    /// All tasks.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub all: bool,
}

/// The body of a change of failed tasks with a filter.
#[derive(Clone, Debug, Default, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct FailedSelectionBody {
    /// The scheduler's name.
    #[serde(default)]
    pub scheduler: Option<String>,
    /// A glob over the whole path.
    #[serde(default)]
    pub path: Option<String>,
    /// Its bytes, where they are not UTF-8.
    #[serde(default)]
    pub path_b64: Option<String>,
    /// All tasks.
    #[serde(default)]
    pub all: bool,
}

/// The body of `POST /v1/send`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct SendBody {
    /// An existing path of a watch.
    #[serde(default)]
    pub path: String,
    /// Its bytes, where they are not UTF-8.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path_b64: Option<String>,
    /// The event's name; IN_CLOSE_WRITE if it is missing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub event: Option<String>,
}

/// The body of a change that is for all by its path.
#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct AllBody {
    /// It can say nothing else than `true`.
    #[serde(default)]
    pub all: Option<bool>,
}

/// The body of `POST /v1/rescan`; without a list of paths it is for all roots.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct RescanBody {
    /// Below which paths.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub paths: Option<Vec<String>>,
    /// The bytes of paths that are not UTF-8.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub paths_b64: Option<Vec<String>>,
    /// Below all roots, as without paths.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub all: Option<bool>,
}

/// The body of `POST /v1/sync`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct SyncBody {
    /// How long to wait at most, in seconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout: Option<f64>,
    /// Also wait until no task waits, runs or is queued.
    #[serde(default)]
    pub idle: bool,
}

/// A list of tasks.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema), schemars(rename = "ListOf{T}"))]
pub struct List<T> {
    /// The rows, at most as many as were asked for.
    pub tasks: Vec<T>,
    /// How many match, whatever the limit.
    pub total: u64,
}

impl<T> Default for List<T> {
    fn default() -> List<T> {
        List { tasks: Vec::new(), total: 0 }
    }
}

/// The answer of a change: what it was done to.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Done {
    /// Ids of tasks, or names of schedulers.
    pub done: Vec<String>,
    /// Those of them that still wait: for a place, a turn, or their scheduler to be resumed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub queued: Vec<String>,
    /// What was selected and not done.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub left: Vec<Left>,
}

/// Tasks that a change could not be made for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Left {
    /// How many.
    pub count: u64,
    /// Why, in one line.
    pub error: String,
}

/// The answer of a change to paths: what it was done to.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct DonePaths {
    /// The paths; bytes that are not UTF-8 show as U+FFFD.
    pub done: Vec<String>,
    /// The bytes of all of them, in the same order, where one is not UTF-8.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub done_b64: Vec<String>,
}

impl DonePaths {
    /// Of bytes.
    pub fn of<'a>(paths: impl IntoIterator<Item = &'a [u8]>) -> DonePaths {
        let paths: Vec<&[u8]> = paths.into_iter().collect();
        let is_text = paths.iter().all(|path| std::str::from_utf8(path).is_ok());
        let coded = if is_text { Vec::new() } else { paths.iter().map(|path| BASE64.encode(path)).collect() };
        let done = paths.iter().map(|path| String::from_utf8_lossy(path).into_owned()).collect();
        DonePaths { done, done_b64: coded }
    }
}

/// The answer of `POST /v1/send`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Sent {
    /// The path.
    #[serde(flatten)]
    pub paths: DonePaths,
    /// Names of the schedulers that the event reached.
    pub schedulers: Vec<String>,
}

/// The answer of `POST /v1/reload`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Reloaded {
    /// The config files that were loaded.
    #[serde(flatten)]
    pub paths: DonePaths,
    /// What changed, in one line.
    pub changed: String,
    /// What a config test warns of.
    #[serde(default)]
    pub warnings: Vec<String>,
}

/// The answer of what went wrong.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Problem {
    /// One line.
    pub error: String,
}

/// A line of the event stream: what happened.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct EventLine {
    /// When it was read.
    pub time: Time,
    /// The event's mask name.
    pub event: String,
    /// Its path.
    #[serde(flatten)]
    pub path: PathText,
    /// Its source path.
    #[serde(flatten)]
    pub src_path: SrcPathText,
    /// Whether the object is a directory.
    pub dir: bool,
    /// Whether the daemon found the entry itself.
    pub synthetic: bool,
}

/// What becomes of a task, in lines of the event stream.
pub const FATES: [&str; 12] = [
    "scheduled",
    "rescheduled",
    "skipped",
    "settling",
    "queued",
    "started",
    "put off",
    "retrying",
    "finished",
    "unchanged",
    "failed",
    "cancelled",
];

/// A line of the event stream: what became of a task.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct TaskLine {
    /// When.
    pub time: Time,
    /// The task's id.
    pub task: String,
    /// What became of it: one of [`FATES`].
    #[cfg_attr(test, schemars(description = "What became of it.", extend("enum" = FATES)))]
    pub what: String,
    /// Its scheduler's name.
    pub scheduler: String,
    /// Its path.
    #[serde(flatten)]
    pub path: PathText,
    /// Its event's mask name.
    pub event: String,
    /// Why it failed; of `put off`, who uses its file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// What it waits for: why its file has not settled, or that its scheduler is paused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// A line of the event stream in the place of lines that the reader was too slow for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct DroppedLine {
    /// How many.
    pub dropped: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_have_an_offset_and_read_back() {
        let text = Time(1_700_000_000.25).to_rfc3339();
        assert!(text.starts_with("2023-11-1") && text.contains(".250"), "{text}");
        assert!(text.ends_with('Z') || text[19..].contains(['+', '-']), "{text}");
        assert_eq!(Time::parse(&text), Some(Time(1_700_000_000.25)));
        assert_eq!(Time::parse("yesterday"), None);
    }

    #[test]
    fn spans_are_as_people_write_them() {
        let spans = [
            ("90", 90.0),
            ("90s", 90.0),
            ("10m", 600.0),
            ("1.5h", 5_400.0),
            ("2d", 172_800.0),
            ("1w", 604_800.0),
        ];
        for (text, seconds) in spans {
            assert_eq!(span_s(text), Some(seconds), "{text}");
        }
        for wrong in ["", "h", "1y", "-1h", "1 h", "1e3", "inf", "nan", "1h30m", "."] {
            assert_eq!(span_s(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn what_was_done_to_paths_has_their_bytes_where_one_is_no_text() {
        let json = |paths: &[&[u8]]| {
            let done = DonePaths::of(paths.iter().copied());
            serde_json::to_string(&Sent { paths: done, schedulers: vec![] }).unwrap()
        };
        assert_eq!(json(&[b"/a", "/ü".as_bytes()]), r#"{"done":["/a","/ü"],"schedulers":[]}"#);
        let expected = r#"{"done":["/a","/�"],"done_b64":["L2E=","L/8="],"schedulers":[]}"#;
        assert_eq!(json(&[b"/a", b"/\xff"]), expected.replace("\\ufffd", "\u{fffd}"));
    }

    #[test]
    fn paths_that_are_not_utf8_keep_their_bytes() {
        let text = PathText::of(b"/in/\xff");
        assert_eq!(text.path, "/in/\u{fffd}");
        assert_eq!(text.to_bytes().unwrap(), b"/in/\xff");
        assert_eq!(PathText::of("/in/ü".as_bytes()).path_b64, None);
        let wrong = PathText { path: String::new(), path_b64: Some("!".to_owned()) };
        assert_eq!(wrong.to_bytes(), None);
    }
}
