//! The server beside a loop that answers: what is asked arrives, limits hold, and nobody holds up the others.

#![expect(clippy::unwrap_used, reason = "a test fails where its ground is not as it should be")]

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use control::api::{Done, DroppedLine, Problem, Selection, Status};
use control::metrics::{Family, Kind, Sample, Value};
use control::{Answering, Client, Message, Peer, Place, Question, Refusal, Server, Stream};

/// What never happens by then never happens.
const DEADLINE: Duration = Duration::from_secs(30);

/// A daemon that answers everything, and notes what it was asked.
struct Daemon {
    server: Option<Server>,
    answering: Option<JoinHandle<()>>,
    directory: tempfile::TempDir,
    seen: Arc<Mutex<Vec<(Question, Peer)>>>,
    streams: Arc<Mutex<Vec<Stream>>>,
    cut_off: Arc<Mutex<Vec<Peer>>>,
}

impl Daemon {
    fn start() -> Daemon {
        let directory = tempfile::tempdir().unwrap();
        let place = Place { path: directory.path().join("control.sock"), group: None, owns_directory: false };
        let address = "127.0.0.1:0".parse().unwrap();
        let (server, mut messages) = Server::start(Some(&place), Some(address)).unwrap();
        let (seen, streams, cut_off) =
            <(Arc<Mutex<Vec<_>>>, Arc<Mutex<Vec<_>>>, Arc<Mutex<Vec<_>>>)>::default();
        let (to_seen, to_streams, to_cut_off) =
            (Arc::clone(&seen), Arc::clone(&streams), Arc::clone(&cut_off));
        let answering = thread::spawn(move || {
            while let Some(message) = messages.blocking_recv() {
                match message {
                    Message::CutOff(peer) => to_cut_off.lock().unwrap().push(peer),
                    Message::TurnedAway { peer, .. } => panic!("{peer} is the daemon's user"),
                    Message::Question(question, peer, reply) => {
                        let answer = answer(&question, &to_streams);
                        to_seen.lock().unwrap().push((question, peer));
                        let _ = reply.send(answer);
                    }
                }
            }
        });
        Daemon { server: Some(server), answering: Some(answering), directory, seen, streams, cut_off }
    }

    fn socket(&self) -> PathBuf {
        self.directory.path().join("control.sock")
    }

    fn client(&self) -> Client {
        Client::new(&self.socket()).unwrap()
    }

    /// Sends bytes and reads all that comes until the server closes.
    fn raw(&self, request: &[u8]) -> String {
        let mut stream = UnixStream::connect(self.socket()).unwrap();
        stream.set_read_timeout(Some(DEADLINE)).unwrap();
        let _ = stream.write_all(request);
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer);
        String::from_utf8_lossy(&answer).into_owned()
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        self.streams.lock().unwrap().clear();
        drop(self.server.take());
        self.answering.take().unwrap().join().unwrap();
        assert!(!self.socket().exists());
    }
}

fn answer(question: &Question, streams: &Mutex<Vec<Stream>>) -> Result<Answering, Refusal> {
    match question {
        Question::Metrics(_) => Ok(Answering::Metrics(vec![Family {
            name: "pyinotifyd_ready",
            help: "Whether it works.",
            kind: Kind::Gauge,
            samples: vec![Sample { labels: vec![], value: Value::Number(1.0) }],
        }])),
        Question::Health => Ok(Answering::Healthy),
        Question::Events { .. } => {
            let (stream, answering) = Answering::stream();
            streams.lock().unwrap().push(stream);
            Ok(answering)
        }
        Question::Retry(_) => Err(Refusal::not_found("no failed task abcd")),
        _ => Ok(Answering::of(Done { done: vec!["x".to_owned()], ..Done::default() })),
    }
}

fn wait_until(what: &str, mut condition: impl FnMut() -> bool) {
    let begun = std::time::Instant::now();
    while !condition() {
        assert!(begun.elapsed() < DEADLINE, "{what}");
        thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn questions_arrive_with_who_asks_and_answers_come_back() {
    let daemon = Daemon::start();
    let reply = daemon.client().post("/v1/tasks/abcd/run", &serde_json::json!({})).unwrap();
    assert_eq!(reply.json::<Done>().unwrap().done, ["x"]);
    let peer = Peer::Process { uid: rustix::process::geteuid().as_raw(), pid: std::process::id() as i32 };
    let question = Question::Run(Selection::Ids(vec!["abcd".to_owned()]));
    assert_eq!(*daemon.seen.lock().unwrap(), [(question, peer)]);
    let reply = daemon.client().post("/v1/failed/abcd/retry", &serde_json::json!({})).unwrap();
    assert_eq!((reply.status, reply.json::<Done>().unwrap_err()), (404, "no failed task abcd".to_owned()));
    assert!(daemon.client().get("/v1/status").unwrap().json::<Status>().unwrap_err().contains("cannot read"));
}

#[test]
fn a_question_is_answered_however_long_after_the_server_was_told_to_stop() {
    let directory = tempfile::tempdir().unwrap();
    let place = Place { path: directory.path().join("control.sock"), group: None, owns_directory: false };
    let (server, mut messages) = Server::start(Some(&place), None).unwrap();
    let client = Client::new(&place.path).unwrap();
    let asking = thread::spawn(move || client.post("/v1/reload", &serde_json::json!({})));
    let Some(Message::Question(Question::Reload, _, reply)) = messages.blocking_recv() else {
        panic!("a reload was asked for")
    };
    drop((server, messages));
    // Longer than those are waited for that have nothing to wait for.
    thread::sleep(Duration::from_secs(11));
    reply.send(Ok(Answering::of(Done::default()))).unwrap();
    assert_eq!(asking.join().unwrap().unwrap().status, 200);
}

#[test]
fn curl_reads_it() {
    let daemon = Daemon::start();
    let curl = |arguments: &[&str]| {
        let socket = daemon.socket();
        let socket = socket.to_str().unwrap();
        let output = Command::new("curl").args(["-s", "--unix-socket", socket]).args(arguments).output();
        output.map(|output| String::from_utf8_lossy(&output.stdout).into_owned())
    };
    let Ok(health) = curl(&["http://d/healthz"]) else {
        eprintln!("skipped: needs curl");
        return;
    };
    assert_eq!(health, "ok\n");
    assert_eq!(
        curl(&["-X", "POST", "-d", r#"{"all": true}"#, "http://d/v1/tasks/cancel"]).unwrap(),
        r#"{"done":["x"]}"#
    );
    let wrong = curl(&["-X", "POST", "-w", " %{http_code}", "http://d/v1/tasks/cancel"]).unwrap();
    assert!(wrong.starts_with(r#"{"error":"name a scheduler"#) && wrong.ends_with(" 400"), "{wrong}");
    assert!(curl(&["http://d/metrics"]).unwrap().ends_with("pyinotifyd_ready 1\n"));
    let open = curl(&["-H", "Accept: application/openmetrics-text", "http://d/metrics"]).unwrap();
    assert!(open.ends_with("# EOF\n"), "{open}");
}

#[test]
fn several_accept_headers_are_one_list() {
    let daemon = Daemon::start();
    let ask = |ranges: &[&str]| {
        let accept: Vec<String> = ranges.iter().map(|range| format!("accept: {range}\r\n")).collect();
        let accept = accept.concat();
        daemon
            .raw(format!("GET /metrics HTTP/1.1\r\nhost: x\r\nconnection: close\r\n{accept}\r\n").as_bytes())
    };
    assert!(ask(&["text/html", "application/openmetrics-text"]).contains("# EOF"));
    assert!(!ask(&["application/openmetrics-text;q=0.1", "text/plain"]).contains("# EOF"));
}

#[test]
fn the_network_gets_metrics_and_nothing_else() {
    let daemon = Daemon::start();
    let address = daemon.server.as_ref().unwrap().address().unwrap();
    let ask = |what: &str| {
        let mut stream = TcpStream::connect(address).unwrap();
        write!(stream, "{what} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    };
    assert!(ask("GET /metrics").starts_with("HTTP/1.1 200 "));
    assert!(ask("GET /healthz").ends_with("ok\n"));
    assert!(ask("POST /metrics").starts_with("HTTP/1.1 405 "));
    for other in
        ["/v1/status", "/v1/events", "/v1/tasks", "/v1/pause", "/v1/schedulers/a/pause", "/nothing", "/"]
    {
        for method in ["GET", "POST", "PUT"] {
            let answer = ask(&format!("{method} {other}"));
            let is_refused = answer.starts_with("HTTP/1.1 404 ") && !answer.contains("allow:");
            assert!(is_refused, "{method} {other}: {answer}");
        }
    }
    assert!(daemon.seen.lock().unwrap().iter().all(|(_, peer)| *peer == Peer::Network));
}

#[test]
fn what_is_too_large_or_no_http_is_refused_and_others_go_on() {
    let daemon = Daemon::start();
    let head = "POST /v1/send HTTP/1.1\r\nhost: x\r\n";
    for (status, request) in [
        (413, format!("{head}content-length: 100000\r\n\r\n{}", "x".repeat(100_000))),
        (431, format!("{head}x: {}\r\n\r\n", "x".repeat(70_000))),
        (431, format!("{head}x: {}\r\n\r\n", "x".repeat(200_000))),
        (431, format!("{head}{}\r\n", "x: y\r\n".repeat(200))),
        (431, format!("GET /{} HTTP/1.1\r\nhost: x\r\n\r\n", "x".repeat(66_000))),
        (400, "\x16\x03\x01\x02\x00\x01\x00\r\n\r\n".to_owned()),
        (400, "GET / HTTP/9.9\r\n\r\n".to_owned()),
        (400, "GET\r\n\r\n".to_owned()),
        (400, format!("{head}content-length: -1\r\n\r\n")),
    ] {
        let answer = daemon.raw(request.as_bytes());
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{status}: {answer}");
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        assert!(head.contains("\r\ncontent-type: application/json\r\n"), "{status}: {answer}");
        let Problem { error } = serde_json::from_str(body).unwrap();
        assert!(!error.is_empty() && !error.contains('\n'), "{status}: {answer}");
    }
    assert!(daemon.raw(b"").is_empty());
    assert_eq!(daemon.client().get("/healthz").unwrap().status, 200);
}

#[test]
fn connections_are_limited_and_their_places_come_back() {
    let daemon = Daemon::start();
    let idle: Vec<UnixStream> = (0..64).map(|_| UnixStream::connect(daemon.socket()).unwrap()).collect();
    let answer = daemon.raw(b"GET /healthz HTTP/1.1\r\nhost: x\r\n\r\n");
    assert!(
        answer.starts_with("HTTP/1.1 503 ") && answer.ends_with(r#"{"error":"too many connections"}"#),
        "{answer}"
    );
    drop(idle);
    wait_until("the places are free again", || {
        daemon.client().get("/healthz").is_ok_and(|reply| reply.status == 200)
    });
}

#[test]
fn a_request_that_never_comes_is_given_up() {
    let daemon = Daemon::start();
    assert!(!daemon.raw(b"GET /healthz HTTP/1.1\r\nhost").starts_with("HTTP/1.1 200"));
}

#[test]
fn a_slow_reader_of_a_stream_is_told_what_it_missed() {
    let daemon = Daemon::start();
    let client = daemon.client();
    let streams = Arc::clone(&daemon.streams);
    let writer = thread::spawn(move || {
        wait_until("a stream", || !streams.lock().unwrap().is_empty());
        let stream = streams.lock().unwrap().pop().unwrap();
        // More than fits into the socket and the queue, at once; the reader goes when it hears of what was dropped.
        let all_written = (0..20_000).all(|number| stream.write(&(number, "x".repeat(100))));
        if !all_written {
            return;
        }
        // It hears of that with a line that finds room.
        wait_until("the reader is gone", || {
            thread::sleep(Duration::from_millis(20));
            !stream.write(&"more")
        });
    });
    let (mut lines, mut dropped) = (0, 0);
    client
        .lines("/v1/events", |line| {
            lines += 1;
            if let Ok(DroppedLine { dropped: count }) = serde_json::from_slice(line) {
                dropped += count;
            }
            dropped == 0
        })
        .unwrap();
    assert!(dropped > 0 && lines > 100, "{lines} lines, {dropped} dropped");
    drop(client);
    writer.join().unwrap();
}

/// A stream of lines, of which nothing is read.
fn unread(daemon: &Daemon, lines: usize) -> UnixStream {
    let mut reader = UnixStream::connect(daemon.socket()).unwrap();
    reader.write_all(b"GET /v1/events HTTP/1.1\r\nhost: x\r\n\r\n").unwrap();
    wait_until("a stream", || !daemon.streams.lock().unwrap().is_empty());
    let stream = daemon.streams.lock().unwrap().pop().unwrap();
    assert!((0..lines).all(|_| stream.write(&"x".repeat(1000))));
    reader
}

#[test]
fn at_the_end_a_reader_has_all_that_was_written_for_it() {
    let mut daemon = Daemon::start();
    let mut reader = unread(&daemon, 20);
    daemon.server.take().unwrap().end();
    // Whatever it has not by now it will not get.
    reader.set_nonblocking(true).unwrap();
    let mut text = String::new();
    reader.read_to_string(&mut text).unwrap();
    assert_eq!(text.matches(&"x".repeat(1000)).count(), 20);
    assert!(text.ends_with("\r\n0\r\n\r\n"), "{text}");
}

#[test]
fn the_end_waits_for_no_reader_that_does_not_read() {
    let mut daemon = Daemon::start();
    let _reader = unread(&daemon, 1000);
    daemon.server.take().unwrap().end();
}

#[test]
fn a_reader_that_never_reads_is_cut_off() {
    let daemon = Daemon::start();
    let mut stream = UnixStream::connect(daemon.socket()).unwrap();
    stream.write_all(b"GET /v1/events HTTP/1.1\r\nhost: x\r\n\r\n").unwrap();
    wait_until("a stream", || !daemon.streams.lock().unwrap().is_empty());
    let lines = daemon.streams.lock().unwrap().pop().unwrap();
    wait_until("the reader is cut off", || {
        lines.write(&"x".repeat(1000));
        !daemon.cut_off.lock().unwrap().is_empty()
    });
    assert_eq!(daemon.client().get("/healthz").unwrap().status, 200);
}
