//! The other end of the control socket: what an operator types, asked of a running daemon and shown.
//!
//! Owns the subcommands, where the socket is ([`places`]), and how answers look ([`show`], [`top`]). Leaves the
//! connection to the crate `control`. Exit codes: 0 done, 1 refused, 2 the request makes no sense, 3 no daemon answers.

mod advice;
pub(crate) mod command;
pub(crate) mod doctor;
mod metrics;
pub(crate) mod places;
mod rights;
mod show;
mod top;

use std::collections::HashSet;
use std::ffi::OsString;
use std::io::{self, Write as _};
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;
use std::process::ExitCode;

use control::api::{
    Done, EndedView, EventLine, List, PathText, Reloaded, RescanBody, SelectionBody, SendBody, Sent, Status,
    SyncBody, TaskLine, TaskView,
};
use control::{Client, ClientError, Reply};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::log::Cause;
use command::{Ask, Asked, Change, Filter, Schedulers};
use metrics::Metrics;
use show::Page;

/// Everything but letters, digits and what RFC 3986 calls unreserved.
const IN_URL: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

const REFUSED: u8 = 1;
const USAGE: u8 = 2;
const NO_DAEMON: u8 = 3;

/// How a subcommand ends before it is done.
enum Failure {
    /// The daemon refused, with its line.
    Refused(u8, String),
    /// No daemon answers.
    NoDaemon(String),
    /// stdout was closed: the reader has what it wanted.
    Closed,
    /// stdout takes nothing.
    Unwritten(io::Error),
}

impl From<ClientError> for Failure {
    fn from(error: ClientError) -> Failure {
        let next = advice::service_status().map_or_else(
            || "start it, or name the socket of the one that runs with --control PATH".to_owned(),
            |command| format!("is it running? ({command})"),
        );
        match error {
            ClientError::NoDaemon { path, source } if source.kind() == io::ErrorKind::PermissionDenied => {
                Failure::NoDaemon(format!(
                    "you may not connect to '{}'; become root or the daemon's user, or see control_group",
                    path.display()
                ))
            }
            ClientError::NoDaemon { path, .. } => {
                Failure::NoDaemon(format!("no daemon answers on '{}'; {next}", path.display()))
            }
            broken @ ClientError::Broken(_) => Failure::NoDaemon(format!("{broken}; {next}")),
        }
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Failure {
        if error.kind() == io::ErrorKind::BrokenPipe { Failure::Closed } else { Failure::Unwritten(error) }
    }
}

/// Asks a running daemon, and shows its answer.
pub(crate) fn run(asked: Asked) -> ExitCode {
    match answer(asked) {
        Ok(()) | Err(Failure::Closed) => ExitCode::SUCCESS,
        Err(Failure::Refused(code, text)) => complain(code, &text),
        Err(Failure::NoDaemon(text)) => complain(NO_DAEMON, &text),
        Err(Failure::Unwritten(error)) => complain(REFUSED, &unwritten(&error)),
    }
}

fn unwritten(error: &io::Error) -> String {
    format!("cannot write to stdout: {}", Cause(error))
}

/// Writes to stdout, and sees that it arrives.
fn print(text: &[u8]) -> io::Result<()> {
    let mut stdout = io::stdout().lock();
    stdout.write_all(text)?;
    stdout.flush()
}

fn complain(code: u8, text: &str) -> ExitCode {
    eprintln!("pyinotifyd: {}", show::line(text));
    ExitCode::from(code)
}

fn answer(asked: Asked) -> Result<(), Failure> {
    let Asked { ask, control } = asked;
    let desk = Desk::open(control.as_deref(), ask.printed().json)?;
    match ask {
        Ask::Status(_) => desk.show("/v1/status", |page, status: &Status| page.status(status)),
        Ask::Tasks { filter, state, .. } => {
            let query = query(&filter, &[("state", state)]);
            desk.show(&format!("/v1/tasks{query}"), |page, list: &List<TaskView>| page.tasks(list))
        }
        Ask::Failed { filter, since, state, .. } => {
            let since = since.map(|since| since.to_string());
            let query = query(&filter, &[("since", since), ("state", state)]);
            desk.show(&format!("/v1/failed{query}"), |page, list: &List<EndedView>| page.ended(list))
        }
        Ask::History { filter, since, state, .. } => {
            let since = since.map(|since| since.to_string());
            let query = query(&filter, &[("since", since), ("state", state)]);
            desk.show(&format!("/v1/history{query}"), |page, list: &List<EndedView>| page.ended(list))
        }
        Ask::Run(change) => desk.change("/v1/tasks", "run", change, "started"),
        Ask::Cancel(change) => desk.change("/v1/tasks", "cancel", change, "cancelled"),
        Ask::Retry(change) => desk.change("/v1/failed", "retry", change, "runs again"),
        Ask::Forget(change) => desk.change("/v1/failed", "forget", change, "forgotten"),
        Ask::Undo { id, .. } => {
            let target = format!("/v1/history/{}/undo", utf8_percent_encode(&id, IN_URL));
            desk.post(&target, &serde_json::json!({}), |done| done_text(done, "undone"))
        }
        Ask::Pause(schedulers) => desk.schedulers("pause", schedulers, "paused"),
        Ask::Resume(schedulers) => desk.schedulers("resume", schedulers, "resumed"),
        Ask::Send { path, event, .. } => desk.send(path, event),
        Ask::Rescan { paths, .. } => {
            let paths: Vec<PathText> = paths.into_iter().map(|path| PathText::of(&absolute(path))).collect();
            let (coded, plain): (Vec<_>, Vec<_>) =
                paths.into_iter().partition(|path| path.path_b64.is_some());
            let body = RescanBody {
                paths: named(plain.into_iter().map(|path| path.path)),
                paths_b64: named(coded.into_iter().filter_map(|path| path.path_b64)),
                all: None,
            };
            desk.post("/v1/rescan", &body, |done: &Done| done_text(done, "is looked through"))
        }
        Ask::Sync { timeout, idle, .. } => {
            desk.post("/v1/sync", &SyncBody { timeout, idle }, |_: &serde_json::Value| String::new())
        }
        Ask::Reload(_) => desk.post("/v1/reload", &serde_json::json!({}), reloaded_text),
        Ask::Events { tasks, path, .. } => desk.events(tasks, path),
        Ask::Top(_) => top::run(&desk.client).map_err(|error| Failure::Refused(REFUSED, error)),
        Ask::Doctor { .. } => unreachable!("it is a command of its own, which needs no daemon"),
        Ask::Metrics(_) => {
            let reply = desk.client.get("/metrics")?;
            if reply.status >= 400 {
                return Err(refused(&reply));
            }
            if !desk.json {
                return Ok(print(&reply.body)?);
            }
            let text = String::from_utf8_lossy(&reply.body);
            let metrics = Metrics::parse(&text);
            let metrics = metrics.ok_or_else(|| ClientError::Broken("these are no metrics".to_owned()))?;
            Ok(print((serde_json::to_string(&metrics).unwrap_or_default() + "\n").as_bytes())?)
        }
    }
}

/// A daemon, and how to print what it says.
struct Desk {
    client: Client,
    json: bool,
}

impl Desk {
    fn open(control: Option<&Path>, json: bool) -> Result<Desk, Failure> {
        let path = places::find(control).map_err(Failure::NoDaemon)?;
        let client = Client::new(&path).map_err(|error| Failure::Refused(REFUSED, error.to_string()))?;
        Ok(Desk { client, json })
    }

    fn show<T: DeserializeOwned>(
        &self,
        target: &str,
        show: impl FnOnce(Page, &T) -> String,
    ) -> Result<(), Failure> {
        let reply = self.client.get(target)?;
        self.print(&reply, |value| show(Page::of_stdout(), value))
    }

    fn post<T: DeserializeOwned>(
        &self,
        target: &str,
        body: &impl Serialize,
        show: impl FnOnce(&T) -> String,
    ) -> Result<(), Failure> {
        let reply = self.client.post(target, body)?;
        self.print(&reply, show)
    }

    fn print<T: DeserializeOwned>(
        &self,
        reply: &Reply,
        show: impl FnOnce(&T) -> String,
    ) -> Result<(), Failure> {
        if reply.status >= 400 {
            return Err(refused(reply));
        }
        if self.json {
            return Ok(print(&[&reply.body[..], b"\n"].concat())?);
        }
        let value = reply.json().map_err(|text| Failure::Refused(REFUSED, text))?;
        Ok(print(show(&value).as_bytes())?)
    }

    /// A change of tasks: each id by itself, so that one that is not there keeps nothing from the others.
    fn change(&self, base: &str, verb: &str, change: Change, what: &str) -> Result<(), Failure> {
        let Change { ids, scheduler, path, all, .. } = change;
        if ids.is_empty() {
            let (path, path_b64) = glob(path);
            let body = SelectionBody { state: None, scheduler, path, path_b64, all };
            return self.post(&format!("{base}/{verb}"), &body, |done| done_text(done, what));
        }
        let target = |id: &str| format!("{base}/{}/{verb}", utf8_percent_encode(id, IN_URL));
        // A task may be named twice, by two beginnings of its id.
        self.each(&ids, target, |done, id| done.starts_with(id), what)
    }

    fn schedulers(&self, verb: &str, schedulers: Schedulers, what: &str) -> Result<(), Failure> {
        let Schedulers { names, .. } = schedulers;
        if names.is_empty() {
            return self.post(&format!("/v1/{verb}"), &serde_json::json!({}), |done| done_text(done, what));
        }
        let target = |name: &str| format!("/v1/schedulers/{}/{verb}", utf8_percent_encode(name, IN_URL));
        self.each(&names, target, |done, name| done == name, what)
    }

    /// Makes a change for each name, unless it was made for what that names.
    fn each(
        &self,
        names: &[String],
        target: impl Fn(&str) -> String,
        is_of: impl Fn(&str, &str) -> bool,
        what: &str,
    ) -> Result<(), Failure> {
        let (mut all, mut worst): (Done, Option<Failure>) = (Done::default(), None);
        for name in names {
            if all.done.iter().any(|done| is_of(done, name)) {
                continue;
            }
            let reply = self.client.post(&target(name), &serde_json::json!({}))?;
            if reply.status < 400 {
                let done: Done = reply.json().map_err(|text| Failure::Refused(REFUSED, text))?;
                all.done.extend(done.done);
                all.queued.extend(done.queued);
            } else if let Some(Failure::Refused(_, earlier)) = worst.replace(refused(&reply)) {
                eprintln!("pyinotifyd: {}", show::line(&earlier));
            }
        }
        let text = if self.json {
            serde_json::to_string(&all).unwrap_or_default() + "\n"
        } else {
            done_text(&all, what)
        };
        if worst.is_none() || !all.done.is_empty() {
            print(text.as_bytes())?;
        }
        worst.map_or(Ok(()), Err)
    }

    fn send(&self, path: std::path::PathBuf, event: String) -> Result<(), Failure> {
        let PathText { path, path_b64 } = PathText::of(&absolute(path));
        let body = SendBody { path, path_b64, event: Some(event) };
        self.post("/v1/send", &body, |sent: &Sent| format!("reached {}\n", sent.schedulers.join(", ")))
    }

    fn events(&self, tasks: bool, path: Option<OsString>) -> Result<(), Failure> {
        let filter = Filter { path, ..Filter::default() };
        let query = query(&filter, &[("tasks", tasks.then(|| "true".to_owned()))]);
        let page = Page::of_stdout();
        let mut written = Ok(());
        let refusal = self.client.lines(&format!("/v1/events{query}"), |line| {
            let text =
                if self.json { String::from_utf8_lossy(line).into_owned() } else { stream_line(page, line) };
            written = print((text + "\n").as_bytes());
            written.is_ok()
        })?;
        match (refusal, written) {
            (Some(reply), _) => Err(refused(&reply)),
            (None, Err(error)) => Err(error.into()),
            (None, Ok(())) => Err(Failure::NoDaemon("the daemon has ended".to_owned())),
        }
    }
}

/// What does not make sense to the daemon either was typed wrong.
fn refused(reply: &Reply) -> Failure {
    let code = if reply.status == 400 { USAGE } else { REFUSED };
    Failure::Refused(code, reply.problem())
}

fn stream_line(page: Page, line: &[u8]) -> String {
    if let Ok(task) = serde_json::from_slice::<TaskLine>(line) {
        return page.task_line(&task);
    }
    match serde_json::from_slice::<EventLine>(line) {
        Ok(event) => show::event(&event),
        Err(_) => show::line(&String::from_utf8_lossy(line)),
    }
}

fn reloaded_text(reloaded: &Reloaded) -> String {
    let warnings = reloaded.warnings.iter().map(|warning| format!("warning: {}\n", show::line(warning)));
    std::iter::once(format!("{}\n", show::line(&reloaded.changed))).chain(warnings).collect()
}

fn done_text(done: &Done, what: &str) -> String {
    let queued: HashSet<&String> = done.queued.iter().collect();
    let fate = |name| if queued.contains(name) { "queued" } else { what };
    let lines = done.done.iter().map(|name| format!("{} {}\n", show::line(name), fate(name)));
    let left = done
        .left
        .iter()
        .map(|left| format!("{} left: {}\n", show::count(left.count), show::line(&left.error)));
    if done.done.is_empty() { "nothing to do\n".to_owned() } else { lines.chain(left).collect() }
}

/// A list of a body, where there is anything to list.
fn named(all: impl Iterator<Item = String>) -> Option<Vec<String>> {
    let all: Vec<String> = all.collect();
    (!all.is_empty()).then_some(all)
}

/// A path relative to where we are, as bytes, without `.` and `..` being followed.
fn absolute(path: std::path::PathBuf) -> Vec<u8> {
    command::bytes(std::path::absolute(&path).unwrap_or(path))
}

/// A glob as a request takes it: its text, or its bytes where that is none.
fn glob(path: Option<OsString>) -> (Option<String>, Option<String>) {
    let text = path.map(|path| PathText::of(path.as_bytes()));
    text.map_or((None, None), |text| match text.path_b64 {
        Some(bytes) => (None, Some(bytes)),
        None => (Some(text.path), None),
    })
}

fn query(filter: &Filter, more: &[(&str, Option<String>)]) -> String {
    let Filter { scheduler, path, limit } = filter;
    let (path, path_b64) = glob(path.clone());
    let own = [
        ("scheduler", scheduler.clone()),
        ("path", path),
        ("path_b64", path_b64),
        ("limit", limit.map(|limit| limit.to_string())),
    ];
    let given = own.into_iter().chain(more.iter().cloned()).filter_map(|(key, value)| Some((key, value?)));
    let pairs: Vec<String> =
        given.map(|(key, value)| format!("{key}={}", utf8_percent_encode(&value, IN_URL))).collect();
    if pairs.is_empty() { String::new() } else { format!("?{}", pairs.join("&")) }
}

#[cfg(test)]
mod tests {
    use std::os::unix::ffi::OsStringExt as _;

    use super::*;

    #[test]
    fn queries_hold_what_was_asked_for() {
        let filter =
            Filter { scheduler: Some("a/b".to_owned()), path: Some("/in/ü *&?".into()), limit: Some(3) };
        let text = query(&filter, &[("state", None), ("since", Some("60".to_owned()))]);
        assert_eq!(text, "?scheduler=a%2Fb&path=%2Fin%2F%C3%BC%20%2A%26%3F&limit=3&since=60");
        let bytes = Filter { path: Some(OsString::from_vec(b"/in/\xff*".to_vec())), ..Filter::default() };
        assert_eq!(query(&bytes, &[]), "?path_b64=L2luL%2F8q");
        assert_eq!(query(&Filter::default(), &[]), "");
    }

    #[test]
    fn lines_of_the_stream_read_as_what_they_are() {
        let page = Page { colours: false, now_s: 0.0, columns: None };
        let at = r#""time":"2026-01-02T03:04:05.678+00:00","path":"/in/a","event":"IN_CREATE""#;
        let event = format!(r#"{{{at},"dir":false,"synthetic":false}}"#);
        assert!(stream_line(page, event.as_bytes()).ends_with(" IN_CREATE        /in/a"));
        let task = format!(r#"{{{at},"task":"0123456789","what":"failed","scheduler":"s","error":"x\ny"}}"#);
        assert!(
            stream_line(page, task.as_bytes()).ends_with(" 01234567 failed      s /in/a: x\\x0ay"),
            "{}",
            stream_line(page, task.as_bytes())
        );
        assert_eq!(stream_line(page, b"{\"dropped\": 3}"), "{\"dropped\": 3}");
    }
}
