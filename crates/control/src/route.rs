//! From the method, the path, the query and the body of a request to a [`Question`]: pure, and fuzzed.

use hyper::{Method, StatusCode};
use percent_encoding::percent_decode_str;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use crate::accept::{self, Offer};
use crate::api::{
    AllBody, FailedSelectionBody, Filter, PathText, RescanBody, Selection, SelectionBody, SendBody, SyncBody,
    bytes_of, id_prefix, span_s,
};
use crate::metrics::Text;

/// The states that a task can be asked for by.
pub(crate) const STATES: [&str; 4] = ["waiting", "running", "queued", "retrying"];

/// What a task that has ended can be asked for by.
pub(crate) const RESULTS: [&str; 3] = ["ok", "failed", "cancelled"];

/// Filters of a list of tasks, and of one of tasks that have ended.
pub(crate) const OF_TASKS: [&str; 5] = ["state", "scheduler", "path", "path_b64", "limit"];
pub(crate) const OF_ENDED: [&str; 6] = ["state", "scheduler", "path", "path_b64", "limit", "since"];

/// Filters of the stream.
pub(crate) const OF_EVENTS: [&str; 3] = ["tasks", "path", "path_b64"];

/// What a client asks the daemon.
#[derive(Clone, Debug, PartialEq)]
pub enum Question {
    /// What it does.
    Status,
    /// Whether it works.
    Health,
    /// Metrics, in one of two formats.
    Metrics(Text),
    /// Tasks that have not ended.
    Tasks(Filter),
    /// Tasks that failed for good.
    Failed(Filter),
    /// Tasks that ended.
    History(Filter),
    /// Start waiting tasks now.
    Run(Selection),
    /// Cancel tasks.
    Cancel(Selection),
    /// Run failed tasks again.
    Retry(Selection),
    /// Forget failed tasks.
    Forget(Selection),
    /// Undo what a task did to files.
    Undo(String),
    /// Pause one scheduler, or all.
    Pause(Option<String>),
    /// Resume one scheduler, or all.
    Resume(Option<String>),
    /// An event for a path.
    Send {
        /// The path.
        path: Vec<u8>,
        /// The event's name.
        event: String,
    },
    /// Tell everything below these paths as arrivals; below all roots if there are none.
    Rescan(Vec<Vec<u8>>),
    /// Answer when all that happened before was read.
    Sync(SyncBody),
    /// Load the configuration again.
    Reload,
    /// A stream of what happens.
    Events {
        /// Also what becomes of tasks.
        tasks: bool,
        /// Only paths that match this glob.
        path: Option<Vec<u8>>,
        /// How lines are framed.
        format: Format,
    },
}

impl Question {
    /// Whether it changes something, which the log then says.
    pub fn changes(&self) -> bool {
        match self {
            Question::Status
            | Question::Health
            | Question::Metrics(_)
            | Question::Tasks(_)
            | Question::Failed(_)
            | Question::History(_)
            | Question::Sync(_)
            | Question::Events { .. } => false,
            Question::Run(_)
            | Question::Cancel(_)
            | Question::Retry(_)
            | Question::Forget(_)
            | Question::Undo(_)
            | Question::Pause(_)
            | Question::Resume(_)
            | Question::Send { .. }
            | Question::Rescan(_)
            | Question::Reload => true,
        }
    }
}

/// How the lines of a stream are framed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// One JSON object a line.
    Ndjson,
    /// Server-sent events.
    EventStream,
}

impl Format {
    /// What an `Accept` header asks for.
    fn accepted(accept: &str) -> Format {
        let usual = Offer { essence: "application/x-ndjson", version: None };
        let special = Offer { essence: "text/event-stream", version: None };
        if accept::prefers(accept, special, usual) { Format::EventStream } else { Format::Ndjson }
    }

    /// A line as it goes out.
    pub(crate) fn frame(self, line: &[u8]) -> Vec<u8> {
        match self {
            Format::Ndjson => [line, b"\n"].concat(),
            Format::EventStream => [b"data: ", line, b"\n\n"].concat(),
        }
    }
}

/// Why a request gets no answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// Status of the answer.
    pub status: StatusCode,
    /// One line that says why.
    pub text: String,
    /// The methods that the path is for, where it was another one.
    pub(crate) allowed: Option<&'static str>,
}

impl Refusal {
    /// The text becomes a line, whatever it quotes.
    pub(crate) fn of(status: StatusCode, text: impl Into<String>) -> Refusal {
        let text = text.into();
        let mut line = String::with_capacity(text.len());
        for letter in text.chars() {
            if letter.is_control() { line.extend(letter.escape_default()) } else { line.push(letter) }
        }
        Refusal { status, text: line, allowed: None }
    }

    /// The request makes no sense.
    pub fn bad_request(text: impl Into<String>) -> Refusal {
        Refusal::of(StatusCode::BAD_REQUEST, text)
    }

    /// Whoever asks may not.
    pub(crate) fn forbidden() -> Refusal {
        let text = "only root, the daemon's user and members of its control_group may ask this daemon";
        Refusal::of(StatusCode::FORBIDDEN, text)
    }

    /// What it names is not there.
    pub fn not_found(text: impl Into<String>) -> Refusal {
        Refusal::of(StatusCode::NOT_FOUND, text)
    }

    /// It cannot be done as things stand.
    pub fn conflict(text: impl Into<String>) -> Refusal {
        Refusal::of(StatusCode::CONFLICT, text)
    }

    /// The daemon cannot answer now.
    pub fn unavailable(text: impl Into<String>) -> Refusal {
        Refusal::of(StatusCode::SERVICE_UNAVAILABLE, text)
    }

    /// A head of more than is read, whoever finds it so.
    pub(crate) fn head_too_large() -> Refusal {
        let text = "the head of a request has at most 64 KiB and 100 headers";
        Refusal::of(StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE, text)
    }

    fn method(allowed: &'static str) -> Refusal {
        let refusal = Refusal::of(StatusCode::METHOD_NOT_ALLOWED, "this method is not for this path");
        Refusal { allowed: Some(allowed), ..refusal }
    }
}

/// A request as far as the routes look at it.
#[derive(Debug)]
pub(crate) struct Request<'a> {
    pub(crate) method: &'a Method,
    pub(crate) path: &'a str,
    pub(crate) query: &'a str,
    pub(crate) accept: &'a str,
    pub(crate) body: &'a [u8],
}

/// Whether a path is one of those that are also there for the network.
pub(crate) fn is_for_network(path: &str) -> bool {
    matches!(&segments(path)[..], [only] if only == "metrics" || only == "healthz")
}

fn segments(path: &str) -> Vec<String> {
    let segments = path.trim_start_matches('/').split('/');
    segments.map(|segment| percent_decode_str(segment).decode_utf8_lossy().into_owned()).collect()
}

/// Finds what a request asks.
pub(crate) fn question(request: &Request<'_>) -> Result<Question, Refusal> {
    let segments = segments(request.path);
    let segments: Vec<&str> = segments.iter().map(String::as_str).collect();
    let only = |methods: &[Method], allowed| {
        if methods.contains(request.method) { Ok(()) } else { Err(Refusal::method(allowed)) }
    };
    // The answer to HEAD is that to GET, which the server sends without its body.
    let get = || only(&[Method::GET, Method::HEAD], "GET, HEAD");
    let post = || only(&[Method::POST], "POST");
    // Who asks for less than the whole must not get the whole.
    let bare = || post().and_then(|()| request.no_body());
    match segments[..] {
        ["metrics"] => get().map(|()| Question::Metrics(Text::accepted(request.accept))),
        ["healthz"] => get().map(|()| Question::Health),
        ["v1", "status"] => get().map(|()| Question::Status),
        ["v1", "tasks"] => get().and_then(|()| request.filter(&OF_TASKS, &STATES)).map(Question::Tasks),
        ["v1", "failed"] => get().and_then(|()| request.filter(&OF_ENDED, &RESULTS)).map(Question::Failed),
        ["v1", "history"] => get().and_then(|()| request.filter(&OF_ENDED, &RESULTS)).map(Question::History),
        ["v1", "events"] => get().and_then(|()| request.events()),
        ["v1", "tasks", "run"] => post().and_then(|()| request.selection()).map(Question::Run),
        ["v1", "tasks", "cancel"] => post().and_then(|()| request.selection()).map(Question::Cancel),
        ["v1", "failed", "retry"] => post().and_then(|()| request.failed_selection()).map(Question::Retry),
        ["v1", "failed", "forget"] => post().and_then(|()| request.failed_selection()).map(Question::Forget),
        ["v1", "tasks", id, "run"] => bare().and_then(|()| one(id)).map(Question::Run),
        ["v1", "tasks", id, "cancel"] => bare().and_then(|()| one(id)).map(Question::Cancel),
        ["v1", "failed", id, "retry"] => bare().and_then(|()| one(id)).map(Question::Retry),
        ["v1", "failed", id, "forget"] => bare().and_then(|()| one(id)).map(Question::Forget),
        ["v1", "history", id, "undo"] => bare().and_then(|()| prefix(id)).map(Question::Undo),
        // A name that another config file has, too, stands behind its file.
        ["v1", "schedulers", ref name @ .., "pause"] if matches!(name.len(), 1 | 2) => {
            bare().map(|()| Question::Pause(Some(name.join("/"))))
        }
        ["v1", "schedulers", ref name @ .., "resume"] if matches!(name.len(), 1 | 2) => {
            bare().map(|()| Question::Resume(Some(name.join("/"))))
        }
        ["v1", "pause"] => post().and_then(|()| request.for_all()).map(|()| Question::Pause(None)),
        ["v1", "resume"] => post().and_then(|()| request.for_all()).map(|()| Question::Resume(None)),
        ["v1", "send"] => post().and_then(|()| request.send()),
        ["v1", "rescan"] => post().and_then(|()| request.rescan()),
        ["v1", "sync"] => post().and_then(|()| request.sync()),
        ["v1", "reload"] => bare().map(|()| Question::Reload),
        _ => Err(Refusal::not_found(format!("there is nothing at {}", request.path.escape_debug()))),
    }
}

fn one(id: &str) -> Result<Selection, Refusal> {
    prefix(id).map(|id| Selection::Ids(vec![id]))
}

fn prefix(id: &str) -> Result<String, Refusal> {
    id_prefix(id).map_err(Refusal::bad_request)
}

impl Request<'_> {
    /// The query's pairs; a key that is not known, or stands twice, is refused.
    fn pairs(&self, known: &[&str]) -> Result<Vec<(String, String)>, Refusal> {
        let mut pairs: Vec<(String, String)> = Vec::new();
        for (key, value) in form_urlencoded::parse(self.query.as_bytes()) {
            if !known.contains(&&*key) {
                let known = known.join(", ");
                return Err(Refusal::bad_request(format!(
                    "unknown filter '{}', known are {known}",
                    key.escape_debug()
                )));
            }
            if pairs.iter().any(|(other, _)| *other == key) {
                return Err(Refusal::bad_request(format!("the filter '{key}' stands twice")));
            }
            pairs.push((key.into_owned(), value.into_owned()));
        }
        Ok(pairs)
    }

    fn filter(&self, known: &[&str], states: &[&str]) -> Result<Filter, Refusal> {
        let mut filter = Filter::default();
        let (mut path, mut path_b64) = (None, None);
        for (key, value) in self.pairs(known)? {
            match key.as_str() {
                "state" => filter.state = Some(state(value, states)?),
                "scheduler" => filter.scheduler = Some(value),
                "path" => path = Some(value),
                "path_b64" => path_b64 = Some(value),
                "limit" => {
                    let limit = value.parse().map_err(|_| Refusal::bad_request("limit is a whole number"))?;
                    filter.limit = Some(limit);
                }
                _ => {
                    let refusal = || Refusal::bad_request("since is a time such as 90, 90s, 10m, 1h or 2d");
                    filter.since = Some(span_s(&value).ok_or_else(refusal)?);
                }
            }
        }
        Ok(Filter { path: glob(path, path_b64)?, ..filter })
    }

    fn events(&self) -> Result<Question, Refusal> {
        let mut tasks = false;
        let (mut path, mut path_b64) = (None, None);
        for (key, value) in self.pairs(&OF_EVENTS)? {
            match (key.as_str(), value.as_str()) {
                ("path", _) => path = Some(value),
                ("path_b64", _) => path_b64 = Some(value),
                (_, "" | "1" | "true") => tasks = true,
                (_, "0" | "false") => tasks = false,
                _ => return Err(Refusal::bad_request("tasks is true or false")),
            }
        }
        Ok(Question::Events { tasks, path: glob(path, path_b64)?, format: Format::accepted(self.accept) })
    }

    fn json<T: DeserializeOwned>(&self) -> Result<T, Refusal> {
        let body = if self.body.is_empty() { b"{}" } else { self.body };
        // Serde would take an array for the fields in their order.
        if !body.trim_ascii_start().starts_with(b"{") {
            return Err(Refusal::bad_request("the body is to be a JSON object"));
        }
        let refusal = |error| Refusal::bad_request(format!("the body: {}", fault_of_body::<T>(body, &error)));
        serde_json::from_slice(body).map_err(refusal)
    }

    /// The path says all.
    fn no_body(&self) -> Result<(), Refusal> {
        let is_empty = self.json().is_ok_and(|fields: Map<String, Value>| fields.is_empty());
        let refusal = || Refusal::bad_request("this request takes no body, its path says all");
        if is_empty { Ok(()) } else { Err(refusal()) }
    }

    /// The path says that it is for all, and the body may say so, too.
    fn for_all(&self) -> Result<(), Refusal> {
        let is_for_all = self.json().is_ok_and(|AllBody { all }| all.unwrap_or(true));
        let refusal =
            || Refusal::bad_request(r#"this request is for all, its body can only be {"all": true}"#);
        if is_for_all { Ok(()) } else { Err(refusal()) }
    }

    fn selection(&self) -> Result<Selection, Refusal> {
        let SelectionBody { state, scheduler, path, path_b64, all } = self.json()?;
        let state = state.map(|name| self::state(name, &STATES)).transpose()?;
        Self::selected(state, scheduler, glob(path, path_b64)?, all)
    }

    fn failed_selection(&self) -> Result<Selection, Refusal> {
        let FailedSelectionBody { scheduler, path, path_b64, all } = self.json()?;
        Self::selected(None, scheduler, glob(path, path_b64)?, all)
    }

    fn selected(
        state: Option<String>,
        scheduler: Option<String>,
        path: Option<Vec<u8>>,
        all: bool,
    ) -> Result<Selection, Refusal> {
        match (state, scheduler, path, all) {
            (None, None, None, true) => Ok(Selection::All),
            (None, None, None, false) => {
                let text = r#"name a scheduler or a path, or say {"all": true}"#;
                Err(Refusal::bad_request(text))
            }
            (.., true) => Err(Refusal::bad_request("all and a filter exclude each other")),
            (state, scheduler, path, false) => Ok(Selection::Matching { state, scheduler, path }),
        }
    }

    fn send(&self) -> Result<Question, Refusal> {
        let SendBody { path, path_b64, event } = self.json()?;
        let path = absolute(&PathText { path, path_b64 })?;
        Ok(Question::Send { path, event: event.unwrap_or_else(|| "IN_CLOSE_WRITE".to_owned()) })
    }

    fn rescan(&self) -> Result<Question, Refusal> {
        let RescanBody { paths, paths_b64, all } = self.json()?;
        let has_list = paths.is_some() || paths_b64.is_some();
        let (paths, paths_b64) = (paths.unwrap_or_default(), paths_b64.unwrap_or_default());
        // Who found nothing to name does not mean all.
        let names_none = has_list && paths.is_empty() && paths_b64.is_empty();
        if names_none || all.is_some_and(|all| all == has_list) {
            return Err(Refusal::bad_request(r#"name paths, or say {"all": true}"#));
        }
        let plain = paths.into_iter().map(|path| PathText { path, path_b64: None });
        let coded =
            paths_b64.into_iter().map(|coded| PathText { path: String::new(), path_b64: Some(coded) });
        plain.chain(coded).map(|text| absolute(&text)).collect::<Result<_, _>>().map(Question::Rescan)
    }

    fn sync(&self) -> Result<Question, Refusal> {
        let body: SyncBody = self.json()?;
        if body.timeout.is_some_and(|timeout| !timeout.is_finite() || timeout < 0.0) {
            return Err(Refusal::bad_request("timeout is a number of seconds"));
        }
        Ok(Question::Sync(body))
    }
}

/// The ends of serde's sentences about a value of a wrong type, and what they mean to who wrote it.
const NEEDED: [(&str, &str); 4] = [
    ("expected a boolean", "true or false"),
    ("expected a sequence", "a list"),
    ("expected a string", "a text"),
    ("expected f64", "a number"),
];

/// What is wrong with a body: of its fields, none of which has to be there, the first that cannot stand alone.
fn fault_of_body<T: DeserializeOwned>(body: &[u8], error: &serde_json::Error) -> String {
    let fields: Map<String, Value> = serde_json::from_slice(body).unwrap_or_default();
    let fault = |(name, value): (String, Value)| {
        let alone = Map::from_iter([(name.clone(), value)]);
        let error = serde_json::from_value::<T>(alone.into()).err()?.to_string();
        let needed = NEEDED.iter().find(|(end, _)| error.ends_with(end));
        Some(needed.map_or(error, |(_, needed)| format!("{name}: {needed} is needed")))
    };
    fields.into_iter().find_map(fault).unwrap_or_else(|| error.to_string())
}

/// One of the states that there are.
fn state(name: String, states: &[&str]) -> Result<String, Refusal> {
    if states.contains(&name.as_str()) {
        return Ok(name);
    }
    Err(Refusal::bad_request(format!("unknown state, known are {}", states.join(", "))))
}

/// A glob over paths; its bytes count where both are given.
fn glob(text: Option<String>, path_b64: Option<String>) -> Result<Option<Vec<u8>>, Refusal> {
    match path_b64 {
        Some(encoded) => bytes_of(&encoded).map(Some).ok_or_else(not_base64),
        None => Ok(text.map(String::into_bytes)),
    }
}

fn not_base64() -> Refusal {
    Refusal::bad_request("path_b64 is not base64")
}

/// A path that the daemon reads as the client does.
fn absolute(text: &PathText) -> Result<Vec<u8>, Refusal> {
    let path = text.to_bytes().ok_or_else(not_base64)?;
    if !path.starts_with(b"/") || path.contains(&0) {
        return Err(Refusal::bad_request("a path is absolute, and holds no NUL"));
    }
    Ok(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ask(method: &Method, target: &str, body: &str) -> Result<Question, u16> {
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        let request = Request { method, path, query, accept: "", body: body.as_bytes() };
        question(&request).map_err(|refusal| refusal.status.as_u16())
    }

    #[test]
    fn each_path_has_its_question_and_its_method() {
        let all = |question: fn(Selection) -> Question| question(Selection::All);
        let id = |question: fn(Selection) -> Question| question(Selection::Ids(vec!["abcd".to_owned()]));
        let posts = [
            ("/v1/tasks/run", r#"{"all": true}"#, all(Question::Run)),
            ("/v1/tasks/cancel", r#"{"all": true}"#, all(Question::Cancel)),
            ("/v1/failed/retry", r#"{"all": true}"#, all(Question::Retry)),
            ("/v1/failed/forget", r#"{"all": true}"#, all(Question::Forget)),
            ("/v1/tasks/ABCD/run", "", id(Question::Run)),
            ("/v1/tasks/abcd/cancel", "", id(Question::Cancel)),
            ("/v1/failed/abcd/retry", "", id(Question::Retry)),
            ("/v1/failed/abcd/forget", "", id(Question::Forget)),
            ("/v1/history/abcd/undo", "", Question::Undo("abcd".to_owned())),
            ("/v1/schedulers/a%2Fb/pause", "", Question::Pause(Some("a/b".to_owned()))),
            ("/v1/schedulers/a/b/pause", "", Question::Pause(Some("a/b".to_owned()))),
            ("/v1/schedulers/b/resume", "", Question::Resume(Some("b".to_owned()))),
            ("/v1/schedulers/a/b/resume", "", Question::Resume(Some("a/b".to_owned()))),
            ("/v1/pause", "", Question::Pause(None)),
            ("/v1/resume", "", Question::Resume(None)),
            ("/v1/pause", r#"{"all": true}"#, Question::Pause(None)),
            ("/v1/resume", r#"{"all": true}"#, Question::Resume(None)),
            ("/v1/reload", "", Question::Reload),
            ("/v1/rescan", "", Question::Rescan(vec![])),
            ("/v1/rescan", r#"{"all": true}"#, Question::Rescan(vec![])),
            ("/v1/rescan", r#"{"all": false, "paths": ["/a"]}"#, Question::Rescan(vec![b"/a".to_vec()])),
            ("/v1/sync", r#"{"idle": true}"#, Question::Sync(SyncBody { timeout: None, idle: true })),
        ];
        for (path, body, question) in posts {
            assert!(question.changes() || path == "/v1/sync");
            assert_eq!(ask(&Method::POST, path, body), Ok(question), "{path}");
            assert_eq!(ask(&Method::GET, path, body), Err(405), "{path}");
        }
        let gets = [
            ("/metrics", Question::Metrics(Text::Prometheus)),
            ("/healthz", Question::Health),
            ("/v1/status", Question::Status),
            ("/v1/tasks", Question::Tasks(Filter::default())),
            ("/v1/failed", Question::Failed(Filter::default())),
            ("/v1/history", Question::History(Filter::default())),
            ("/v1/events", Question::Events { tasks: false, path: None, format: Format::Ndjson }),
        ];
        for (path, question) in gets {
            assert!(!question.changes());
            assert_eq!(ask(&Method::HEAD, path, ""), Ok(question.clone()), "{path}");
            assert_eq!(ask(&Method::GET, path, ""), Ok(question), "{path}");
            assert_eq!(ask(&Method::POST, path, ""), Err(405), "{path}");
        }
    }

    #[test]
    fn a_path_that_says_all_has_no_body() {
        let paths = [
            "/v1/pause",
            "/v1/resume",
            "/v1/reload",
            "/v1/schedulers/a/pause",
            "/v1/schedulers/a/b/resume",
            "/v1/tasks/abcd/run",
            "/v1/tasks/abcd/cancel",
            "/v1/failed/abcd/retry",
            "/v1/failed/abcd/forget",
            "/v1/history/abcd/undo",
        ];
        for path in paths {
            for body in ["nonsense", "[]", "null", "{", r#"{"scheduler": "a"}"#, r#"{"all": false}"#] {
                assert_eq!(ask(&Method::POST, path, body), Err(400), "{path} {body}");
            }
            assert!(ask(&Method::POST, path, "{}").is_ok(), "{path}");
        }
    }

    #[test]
    fn a_refused_body_is_told_in_the_words_of_the_api() {
        for (path, body, text) in [
            ("/v1/reload", "[]", "this request takes no body, its path says all"),
            (
                "/v1/pause",
                r#"{"name": "a"}"#,
                r#"this request is for all, its body can only be {"all": true}"#,
            ),
            ("/v1/rescan", r#"{"all": false}"#, r#"name paths, or say {"all": true}"#),
            ("/v1/rescan", r#"{"all": true, "paths": ["/a"]}"#, r#"name paths, or say {"all": true}"#),
            ("/v1/rescan", r#"{"paths": []}"#, r#"name paths, or say {"all": true}"#),
            ("/v1/rescan", r#"{"paths_b64": []}"#, r#"name paths, or say {"all": true}"#),
            ("/v1/rescan", r#"{"all": true, "paths": []}"#, r#"name paths, or say {"all": true}"#),
            ("/v1/sync", "[5]", "the body is to be a JSON object"),
            ("/v1/send", r#"["/a"]"#, "the body is to be a JSON object"),
            (
                "/v1/sync",
                r#"{"idle": true, "time": 5}"#,
                "the body: unknown field `time`, expected `timeout` or `idle`",
            ),
            ("/v1/sync", r#"{"timeout": "1"}"#, "the body: timeout: a number is needed"),
            ("/v1/sync", r#"{"timeout": 1, "idle": null}"#, "the body: idle: true or false is needed"),
            ("/v1/rescan", r#"{"paths": "/a"}"#, "the body: paths: a list is needed"),
            ("/v1/rescan", r#"{"paths": [5]}"#, "the body: paths: a text is needed"),
            ("/v1/rescan", r#"{"all": "yes"}"#, "the body: all: true or false is needed"),
            ("/v1/send", r#"{"path": {"a": 1.5}}"#, "the body: path: a text is needed"),
            ("/v1/tasks/run", r#"{"scheduler": 5}"#, "the body: scheduler: a text is needed"),
            ("/v1/failed/retry", r#"{"all": 1}"#, "the body: all: true or false is needed"),
            ("/v1/sync", r#"{"idle": 1, "idle": 2}"#, "the body: idle: true or false is needed"),
            (
                "/v1/sync",
                r#"{"idle": true, "idle": true}"#,
                "the body: duplicate field `idle` at line 1 column 21",
            ),
            ("/v1/sync", r#"{"idle": yes}"#, "the body: expected value at line 1 column 10"),
        ] {
            let body = body.as_bytes();
            let request = Request { method: &Method::POST, path, query: "", accept: "", body };
            assert_eq!(question(&request).unwrap_err().text, text);
        }
    }

    #[test]
    fn a_send_names_a_path_by_text_or_bytes() {
        let send = |path: &[u8], event: &str| Question::Send { path: path.to_vec(), event: event.to_owned() };
        let ask = |body| ask(&Method::POST, "/v1/send", body);
        assert_eq!(ask(r#"{"path": "/a"}"#), Ok(send(b"/a", "IN_CLOSE_WRITE")));
        assert_eq!(ask(r#"{"path_b64": "L/8=", "event": "IN_CREATE"}"#), Ok(send(b"/\xff", "IN_CREATE")));
        assert_eq!(ask(r#"{"path_b64": "?"}"#), Err(400));
        for wrong in [r#"{"path": "a"}"#, r#"{"path": "/a\u0000"}"#, "{}"] {
            assert_eq!(ask(wrong), Err(400), "{wrong}");
        }
        let rescan = |body| super::tests::ask(&Method::POST, "/v1/rescan", body);
        let both = r#"{"paths": [], "paths_b64": ["L/8="]}"#;
        assert_eq!(rescan(both), Ok(Question::Rescan(vec![b"/\xff".to_vec()])));
        assert_eq!(rescan(r#"{"paths": ["/a", "in"]}"#), Err(400));
    }

    #[test]
    fn a_refused_method_says_which_one_is_right() {
        for (method, path, allowed) in [
            (Method::POST, "/v1/events", "GET, HEAD"),
            (Method::DELETE, "/v1/tasks", "GET, HEAD"),
            (Method::GET, "/v1/reload", "POST"),
        ] {
            let request = Request { method: &method, path, query: "", accept: "", body: b"" };
            let refusal = question(&request).unwrap_err();
            assert_eq!((refusal.status.as_u16(), refusal.allowed), (405, Some(allowed)), "{path}");
        }
    }

    #[test]
    fn filters_are_read_and_checked() {
        let filter = Filter {
            state: Some("queued".to_owned()),
            scheduler: Some("a b".to_owned()),
            path: Some(b"/in/*".to_vec()),
            limit: Some(7),
            since: None,
        };
        let target = "/v1/tasks?state=queued&scheduler=a+b&path=%2Fin%2F*&limit=7";
        assert_eq!(ask(&Method::GET, target, ""), Ok(Question::Tasks(filter)));
        let since = Filter { since: Some(60.0), ..Filter::default() };
        assert_eq!(ask(&Method::GET, "/v1/history?since=60", ""), Ok(Question::History(since)));
        for wrong in
            ["state=gone", "limit=-1", "limit=x", "colour=red", "limit=1&limit=2", "since=1", "path_b64=!"]
        {
            assert_eq!(ask(&Method::GET, &format!("/v1/tasks?{wrong}"), ""), Err(400), "{wrong}");
        }
        let hour = Filter { state: Some("failed".to_owned()), since: Some(3_600.0), ..Filter::default() };
        assert_eq!(ask(&Method::GET, "/v1/failed?state=failed&since=1h", ""), Ok(Question::Failed(hour)));
        for wrong in ["since=-1", "since=nan", "since=inf", "state=waiting"] {
            assert_eq!(ask(&Method::GET, &format!("/v1/history?{wrong}"), ""), Err(400), "{wrong}");
        }
    }

    #[test]
    fn the_bytes_of_a_glob_count_before_its_text() {
        let matching = |path: &[u8]| {
            let (state, scheduler) = (None, None);
            Selection::Matching { state, scheduler, path: Some(path.to_vec()) }
        };
        for target in ["/v1/tasks/run", "/v1/tasks/cancel", "/v1/failed/retry", "/v1/failed/forget"] {
            let selection = |body: &str| match ask(&Method::POST, target, body) {
                Ok(
                    Question::Run(selection)
                    | Question::Cancel(selection)
                    | Question::Retry(selection)
                    | Question::Forget(selection),
                ) => Ok(selection),
                other => Err(other),
            };
            let both = r#"{"path": "/?*", "path_b64": "L/8q"}"#;
            assert_eq!(selection(both), Ok(matching(b"/\xff*")), "{target}");
            assert_eq!(selection(r#"{"path_b64": "L/8q"}"#), Ok(matching(b"/\xff*")), "{target}");
            assert_eq!(selection(r#"{"path_b64": "?"}"#), Err(Err(400)), "{target}");
        }
        let filter = Filter { path: Some(b"/\xff*".to_vec()), ..Filter::default() };
        let asked = [
            ("tasks", Question::Tasks as fn(_) -> _),
            ("failed", Question::Failed),
            ("history", Question::History),
        ];
        for (list, question) in asked {
            let found = ask(&Method::GET, &format!("/v1/{list}?path=x&path_b64=L%2F8q"), "");
            assert_eq!(found, Ok(question(filter.clone())), "{list}");
        }
        let stream = ask(&Method::GET, "/v1/events?path_b64=L/8q", "");
        let path = Some(b"/\xff*".to_vec());
        assert_eq!(stream, Ok(Question::Events { tasks: false, path, format: Format::Ndjson }));
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        let bodies =
            ["{}", "", "[]", "{", r#"{"all": true, "path": "/x"}"#, r#"{"al": true}"#, r#"{"all": false}"#];
        for body in bodies {
            assert_eq!(ask(&Method::POST, "/v1/tasks/cancel", body), Err(400), "{body}");
        }
        for verb in ["retry", "forget"] {
            let target = format!("/v1/failed/{verb}");
            assert_eq!(ask(&Method::POST, &target, r#"{"state": "waiting"}"#), Err(400), "{verb}");
        }
        assert_eq!(ask(&Method::POST, "/v1/tasks/abc/run", ""), Err(400));
        assert_eq!(ask(&Method::POST, "/v1/tasks/wxyz/run", ""), Err(400));
        assert_eq!(ask(&Method::POST, "/v1/sync", r#"{"timeout": -1}"#), Err(400));
        for nowhere in ["/", "", "/v1", "/v2/status", "/v1/status/x", "/v1/tasks/a/b/c"] {
            assert_eq!(ask(&Method::GET, nowhere, ""), Err(404), "{nowhere}");
        }
    }
}
