//! Records for journald with their fields, by its native protocol (systemd, docs/JOURNAL_NATIVE_PROTOCOL.md).
//!
//! A record is one datagram of `FIELD=value` lines, so that a text of several lines stays one entry and that a reader
//! can ask for a task, a path or a scheduler by name. Nothing here waits. What the journal does not take now is kept
//! in order, up to a limit; beyond that, and when the journal's socket is gone, records go to stderr as lines, which
//! the journal reads as well and where losses are counted. The crates that speak this protocol block on a full
//! socket, and bring a logging framework.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{IoSlice, Write as _};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::Instant;

use rustix::fs::{MemfdFlags, SealFlags};
use rustix::io::Errno;
use rustix::net::{
    AddressFamily, SendAncillaryBuffer, SendAncillaryMessage, SendFlags, SocketAddrUnix, SocketFlags,
    SocketType,
};

use super::reconnect::Reconnect;
use super::{Level, wait_writable};

/// Where journald listens (systemd-journald.service(8)).
const SOCKET: &str = "/run/systemd/journal/socket";
/// Bytes of records that are kept while the journal's queue is full.
const WAITING_MAX: usize = 1 << 20;

/// Whether stderr is the stream that the service supervisor connected to the journal (`JOURNAL_STREAM`,
/// systemd.exec(5)).
pub(crate) fn is_stderr() -> bool {
    let Ok(stream) = std::env::var("JOURNAL_STREAM") else { return false };
    let Ok(stat) = std::fs::metadata("/proc/self/fd/2") else { return false };
    stream == format!("{}:{}", stat.dev(), stat.ino())
}

/// One record, as the journal is to keep it.
pub(super) struct Entry<'a> {
    pub(super) level: Level,
    pub(super) logger: &'a str,
    pub(super) text: &'a str,
    pub(super) scheduler: Option<&'a str>,
    pub(super) event: Option<&'a str>,
    pub(super) path: Option<&'a [u8]>,
    pub(super) task: Option<&'a str>,
}

/// See the module's head.
#[derive(Debug)]
pub(super) struct Journal {
    path: PathBuf,
    connection: Reconnect<OwnedFd>,
    waiting: VecDeque<Waiting>,
    waiting_bytes: usize,
    /// Scratch for one record.
    datagram: Vec<u8>,
}

/// A record that the journal did not take yet.
#[derive(Debug)]
struct Waiting {
    datagram: Vec<u8>,
    /// The same for stderr.
    line: Vec<u8>,
}

/// What became of a datagram.
enum Sent {
    Taken,
    /// The journal's queue is full.
    Later,
    /// The journal cannot take this one, or none at all.
    Refused,
}

impl Journal {
    /// The journal of this machine; it is connected with the first record.
    pub(super) fn new() -> Journal {
        Journal::at(Path::new(SOCKET))
    }

    fn at(path: &Path) -> Journal {
        Journal {
            path: path.to_owned(),
            connection: Reconnect::default(),
            waiting: VecDeque::new(),
            waiting_bytes: 0,
            datagram: Vec::new(),
        }
    }

    /// Sends a record, or keeps it for [`Journal::flush`]. What has to go to stderr instead is appended there, whole
    /// lines in their order.
    pub(super) fn send(&mut self, entry: &Entry<'_>, stderr: &mut dyn FnMut(&[u8])) {
        let mut datagram = std::mem::take(&mut self.datagram);
        datagram.clear();
        compose(entry, &mut datagram);
        let sent = if self.waiting.is_empty() { self.transmit(&datagram) } else { Sent::Later };
        match sent {
            Sent::Taken => {}
            Sent::Later if self.waiting_bytes + datagram.len() <= WAITING_MAX => {
                let waiting = Waiting { datagram: datagram.clone(), line: line(entry) };
                self.waiting_bytes += waiting.datagram.len();
                self.waiting.push_back(waiting);
            }
            Sent::Later | Sent::Refused => {
                self.give_up(stderr);
                stderr(&line(entry));
            }
        }
        self.datagram = datagram;
    }

    /// Sends what waits; true if something still does.
    pub(super) fn flush(&mut self, stderr: &mut dyn FnMut(&[u8])) -> bool {
        while let Some(first) = self.waiting.pop_front() {
            match self.transmit(&first.datagram) {
                Sent::Taken => {}
                Sent::Later => {
                    self.waiting.push_front(first);
                    return true;
                }
                Sent::Refused => stderr(&first.line),
            }
            self.waiting_bytes -= first.datagram.len();
        }
        self.waiting = VecDeque::new();
        false
    }

    /// Sends what waits and hands the rest to stderr at the given time.
    pub(super) fn flush_at_exit(&mut self, until: Instant, stderr: &mut dyn FnMut(&[u8])) {
        while self.flush(stderr)
            && self.connection.made().is_some_and(|socket| wait_writable(socket.as_fd(), until))
        {}
        self.give_up(stderr);
    }

    /// Bytes that wait for the journal.
    pub(super) fn waiting(&self) -> usize {
        self.waiting_bytes
    }

    fn give_up(&mut self, stderr: &mut dyn FnMut(&[u8])) {
        for waiting in std::mem::take(&mut self.waiting) {
            stderr(&waiting.line);
        }
        self.waiting_bytes = 0;
    }

    fn transmit(&mut self, datagram: &[u8]) -> Sent {
        let Some(socket) = self.connection.get(|| open(&self.path).ok()) else { return Sent::Refused };
        let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
        let sent = match rustix::net::send(socket, datagram, flags) {
            Err(Errno::MSGSIZE) => return send_file(socket, datagram, flags),
            other => other,
        };
        judge(sent).unwrap_or_else(|| {
            self.connection.cut();
            Sent::Refused
        })
    }
}

fn open(path: &Path) -> Result<OwnedFd, Errno> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = rustix::net::socket_with(AddressFamily::UNIX, SocketType::DGRAM, flags, None)?;
    rustix::net::connect(&socket, &SocketAddrUnix::new(path)?)?;
    Ok(socket)
}

/// `None`: the socket is of no more use.
fn judge(sent: Result<usize, Errno>) -> Option<Sent> {
    match sent {
        Ok(_) => Some(Sent::Taken),
        Err(Errno::AGAIN | Errno::NOBUFS | Errno::INTR) => Some(Sent::Later),
        Err(_) => None,
    }
}

/// A record that is too long for a datagram goes as the descriptor of a sealed file in memory.
fn send_file(socket: &OwnedFd, datagram: &[u8], flags: SendFlags) -> Sent {
    let Ok(file) = sealed(datagram) else { return Sent::Refused };
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    let descriptors = [file.as_fd()];
    control.push(SendAncillaryMessage::ScmRights(&descriptors));
    let sent = rustix::net::sendmsg(socket, &[IoSlice::new(&[])], &mut control, flags);
    judge(sent).unwrap_or(Sent::Refused)
}

fn sealed(content: &[u8]) -> std::io::Result<File> {
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    let mut file = File::from(rustix::fs::memfd_create("pyinotifyd-record", flags)?);
    file.write_all(content)?;
    rustix::fs::fcntl_add_seals(
        &file,
        SealFlags::SEAL | SealFlags::SHRINK | SealFlags::GROW | SealFlags::WRITE,
    )?;
    Ok(file)
}

fn compose(entry: &Entry<'_>, out: &mut Vec<u8>) {
    field("MESSAGE", entry.text.as_bytes(), out);
    field("PRIORITY", &[b'0' + entry.level.severity()], out);
    field("SYSLOG_IDENTIFIER", format!("pyinotifyd/{}", entry.logger).as_bytes(), out);
    field("LOGGER", entry.logger.as_bytes(), out);
    let known = [
        ("PYINOTIFYD_SCHEDULER", entry.scheduler.map(str::as_bytes)),
        ("PYINOTIFYD_EVENT", entry.event.map(str::as_bytes)),
        ("PYINOTIFYD_PATH", entry.path),
        ("PYINOTIFYD_TASK_ID", entry.task.map(str::as_bytes)),
    ];
    for (name, value) in known {
        if let Some(value) = value.filter(|value| !value.is_empty()) {
            field(name, value, out);
        }
    }
}

/// `NAME=value`, or the name, a line end, the length and the value where that has line ends.
fn field(name: &str, value: &[u8], out: &mut Vec<u8>) {
    out.extend_from_slice(name.as_bytes());
    if value.contains(&b'\n') {
        out.push(b'\n');
        out.extend_from_slice(&(value.len() as u64).to_le_bytes());
    } else {
        out.push(b'=');
    }
    out.extend_from_slice(value);
    out.push(b'\n');
}

/// The record as a line with its priority (sd-daemon(3)). Each line of the text is an entry of its own to the journal
/// and needs it again.
fn line(entry: &Entry<'_>) -> Vec<u8> {
    let severity = entry.level.severity();
    let text = entry.text.replace('\n', &format!("\n<{severity}>"));
    format!("<{severity}>pyinotifyd/{}: {text}\n", entry.logger).into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{IoSliceMut, Read as _, Seek as _};
    use std::os::unix::net::UnixDatagram;
    use std::time::Duration;

    use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags};

    /// A journal in a directory of the test's own, and what it got in place of journald and stderr.
    struct Machine {
        directory: tempfile::TempDir,
        journal: Journal,
        stderr: Vec<String>,
    }

    impl Machine {
        fn new() -> Machine {
            let directory = tempfile::tempdir().unwrap();
            let journal = Journal::at(&directory.path().join("socket"));
            Machine { directory, journal, stderr: Vec::new() }
        }

        fn server(&self) -> UnixDatagram {
            let server = UnixDatagram::bind(self.directory.path().join("socket")).unwrap();
            server.set_nonblocking(true).unwrap();
            server
        }

        fn send(&mut self, text: &str) {
            let lines = &mut self.stderr;
            self.journal
                .send(&entry(text), &mut |line| lines.push(String::from_utf8(line.to_vec()).unwrap()));
        }

        fn flush(&mut self) -> bool {
            let lines = &mut self.stderr;
            self.journal.flush(&mut |line| lines.push(String::from_utf8(line.to_vec()).unwrap()))
        }
    }

    fn entry(text: &str) -> Entry<'_> {
        let level = Level::WARNING;
        Entry { level, logger: "sched", text, scheduler: None, event: None, path: None, task: None }
    }

    /// The text of the next record, if there is one.
    fn received(server: &UnixDatagram) -> Option<String> {
        let mut datagram = vec![0; 1 << 16];
        let count = server.recv(&mut datagram).ok()?;
        let text = datagram[..count].strip_prefix(b"MESSAGE=").unwrap();
        let end = text.iter().position(|byte| *byte == b'\n').unwrap();
        Some(String::from_utf8(text[..end].to_vec()).unwrap())
    }

    #[test]
    fn fields_are_lines_and_those_with_line_ends_have_their_length() {
        let mut datagram = Vec::new();
        let known = Entry {
            scheduler: Some("sched"),
            event: Some("IN_CREATE|IN_ISDIR"),
            path: Some(b"/srv/\xff\nPRIORITY=0"),
            task: Some("id"),
            ..entry("one\n    two")
        };
        compose(&known, &mut datagram);
        let expected: [&[u8]; 8] = [
            b"MESSAGE\n\x0b\0\0\0\0\0\0\0one\n    two\n",
            b"PRIORITY=4\n",
            b"SYSLOG_IDENTIFIER=pyinotifyd/sched\n",
            b"LOGGER=sched\n",
            b"PYINOTIFYD_SCHEDULER=sched\n",
            b"PYINOTIFYD_EVENT=IN_CREATE|IN_ISDIR\n",
            b"PYINOTIFYD_PATH\n\x11\0\0\0\0\0\0\0/srv/\xff\nPRIORITY=0\n",
            b"PYINOTIFYD_TASK_ID=id\n",
        ];
        assert_eq!(datagram, expected.concat());
        datagram.clear();
        compose(&Entry { path: Some(b""), ..entry("text") }, &mut datagram);
        assert!(!datagram.windows(11).any(|word| word == b"PYINOTIFYD_"), "what is not known is left out");
    }

    #[test]
    fn what_a_full_journal_does_not_take_comes_later_in_order() {
        let mut machine = Machine::new();
        let server = machine.server();
        let sent = 2000;
        for number in 0..sent {
            machine.send(&number.to_string());
        }
        assert!(machine.flush(), "nobody has read yet");
        // There is room again, and those that wait come first nevertheless.
        let mut got: Vec<_> = std::iter::from_fn(|| received(&server)).take(5).collect();
        machine.send(&sent.to_string());
        loop {
            let left = machine.flush();
            got.extend(std::iter::from_fn(|| received(&server)));
            if !left {
                break;
            }
        }
        assert_eq!(got, (0..=sent).map(|number| number.to_string()).collect::<Vec<_>>());
        assert_eq!(machine.stderr, Vec::<String>::new());
        assert_eq!(machine.journal.waiting_bytes, 0);
    }

    #[test]
    fn beyond_the_limit_records_go_to_stderr_in_order() {
        let mut machine = Machine::new();
        let server = machine.server();
        let text = "x".repeat(1000);
        let sent = 4 * WAITING_MAX / text.len();
        for number in 0..sent {
            machine.send(&format!("{number} {text}"));
            assert!(machine.journal.waiting_bytes <= WAITING_MAX);
        }
        let number = |text: &str| text.split(' ').next().unwrap().parse::<usize>().unwrap();
        let mut numbers: Vec<_> =
            std::iter::from_fn(|| received(&server)).map(|text| number(&text)).collect();
        numbers.extend(
            machine.stderr.iter().map(|line| number(line.strip_prefix("<4>pyinotifyd/sched: ").unwrap())),
        );
        while machine.flush() || !machine.journal.waiting.is_empty() {
            numbers.extend(std::iter::from_fn(|| received(&server)).map(|text| number(&text)));
        }
        numbers.extend(std::iter::from_fn(|| received(&server)).map(|text| number(&text)));
        assert_eq!(numbers, (0..sent).collect::<Vec<_>>());
    }

    #[test]
    fn without_the_journal_records_are_lines_with_their_priority() {
        let mut machine = Machine::new();
        machine.send("one\n    two");
        assert_eq!(machine.stderr, ["<4>pyinotifyd/sched: one\n<4>    two\n"]);
        assert!(!machine.flush());
    }

    #[test]
    fn a_journal_that_was_away_is_used_again_and_nothing_is_lost() {
        let mut machine = Machine::new();
        let first = machine.server();
        while machine.journal.waiting.is_empty() {
            machine.send("before");
        }
        drop(first);
        std::fs::remove_file(machine.directory.path().join("socket")).unwrap();
        machine.send("waits behind the other");
        // A process that another test starts may hold the closed socket for a moment, until its execve(2).
        let deadline = Instant::now() + Duration::from_secs(30);
        while machine.flush() {
            assert!(Instant::now() < deadline, "a socket that is gone takes nothing later");
        }
        machine.send("while it is away");
        let texts = ["before", "waits behind the other", "while it is away"];
        assert_eq!(machine.stderr, texts.map(|text| format!("<4>pyinotifyd/sched: {text}\n")));
        let second = machine.server();
        machine.journal.connection.retry_now();
        machine.send("again");
        assert_eq!(received(&second).as_deref(), Some("again"));
    }

    #[test]
    fn a_journal_that_is_away_is_tried_once_in_a_while() {
        let mut machine = Machine::new();
        machine.send("one");
        let _server = machine.server();
        machine.send("two");
        assert_eq!(machine.stderr.len(), 2, "the second one is not tried at once");
    }

    #[test]
    fn a_record_that_is_too_long_for_a_datagram_goes_as_a_sealed_file() {
        let mut machine = Machine::new();
        let server = machine.server();
        let text = "x".repeat(1 << 20);
        machine.send(&text);
        assert_eq!(machine.stderr, Vec::<String>::new());
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let mut nothing = [0];
        rustix::net::recvmsg(&server, &mut [IoSliceMut::new(&mut nothing)], &mut control, RecvFlags::empty())
            .unwrap();
        let Some(RecvAncillaryMessage::ScmRights(mut files)) = control.drain().next() else {
            panic!("no file")
        };
        let mut file = File::from(files.next().unwrap());
        let seals = SealFlags::SEAL | SealFlags::SHRINK | SealFlags::GROW | SealFlags::WRITE;
        assert_eq!(rustix::fs::fcntl_get_seals(&file).unwrap(), seals);
        let mut record = Vec::new();
        file.rewind().unwrap();
        file.read_to_end(&mut record).unwrap();
        assert!(record.starts_with(format!("MESSAGE={text}\nPRIORITY=4\n").as_bytes()));
    }
}
