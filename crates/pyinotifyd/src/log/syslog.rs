//! Syslog targets: `/dev/log` (datagram, else stream) and UDP, as Python's `SysLogHandler` speaks to them.
//!
//! A target that is away or full costs its records and nothing else: no send waits, no failure is logged (it would come
//! here again), and the connection is tried anew at most once a second. What was lost is counted, and the target told when
//! it takes records again.

use std::net::UdpSocket;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixDatagram;

use rustix::net::{AddressFamily, SendFlags, SocketAddrUnix, SocketFlags, SocketType};

use super::Level;
use super::link::Link;

/// Facility `user` (1), as Python's handler uses it.
const FACILITY_USER: u8 = 1;

/// Where a target listens.
#[derive(Clone, Debug, PartialEq, Eq, serde::Deserialize)]
#[serde(untagged)]
pub(crate) enum Address {
    /// A Unix socket.
    Path(String),
    /// Host and UDP port.
    Host(String, u16),
}

/// One target with its own level, for all loggers or for one name and those below it.
#[derive(Debug)]
pub(crate) struct Syslog {
    address: Address,
    level: Option<Level>,
    /// `""` for all.
    logname: String,
    link: Link<Connection>,
    /// Records lost since one was taken.
    lost: u64,
}

/// What became of a record.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Sent {
    Taken,
    /// The target does not read, or read a part of it; the connection is good or opened anew with the next record.
    Lost,
    /// The target is gone.
    Gone,
}

#[derive(Debug)]
enum Connection {
    Datagram(UnixDatagram),
    Stream(OwnedFd),
    Udp(UdpSocket),
}

impl Syslog {
    /// A target; it is connected with the first record.
    pub(crate) fn new(address: Address, level: Option<Level>, logname: Option<&str>) -> Syslog {
        let logname = logname.filter(|name| *name != "root").unwrap_or_default().to_owned();
        Syslog { address, level, logname, link: Link::default(), lost: 0 }
    }

    /// Sends one record if this target wants it: `<PRI>pyinotifyd/LOGGER: text` and a NUL byte.
    pub(super) fn send(&mut self, logger: &str, level: Level, text: &str) {
        if !self.wants(logger, level) {
            return;
        }
        let name = if logger.is_empty() { "root" } else { logger };
        if self.lost > 0 {
            let note = format!("{} log records were lost, since nobody read them", self.lost);
            if !self.send_one("root", Level::WARNING, &note) {
                self.lost += 1;
                return;
            }
            self.lost = 0;
        }
        if !self.send_one(name, level, text) {
            self.lost += 1;
        }
    }

    fn send_one(&mut self, name: &str, level: Level, text: &str) -> bool {
        let priority = FACILITY_USER * 8 + level.severity();
        let message = format!("<{priority}>pyinotifyd/{name}: {text}\0");
        // A server that was restarted is reached with the second attempt.
        for _ in 0..2 {
            let sent = self.transmit(message.as_bytes());
            if sent != Sent::Gone {
                return sent == Sent::Taken;
            }
        }
        false
    }

    fn wants(&self, logger: &str, level: Level) -> bool {
        let below = logger
            .strip_prefix(self.logname.as_str())
            .is_some_and(|rest| rest.is_empty() || rest.starts_with('.'));
        (self.logname.is_empty() || below) && self.level.is_none_or(|own| level >= own)
    }

    fn transmit(&mut self, message: &[u8]) -> Sent {
        let Some(connection) = self.link.get(|| open(&self.address)) else { return Sent::Gone };
        let sent = match connection {
            Connection::Datagram(socket) => socket.send(message),
            Connection::Udp(socket) => socket.send(message),
            Connection::Stream(socket) => {
                rustix::net::send(socket, message, SendFlags::DONTWAIT | SendFlags::NOSIGNAL)
                    .map_err(Into::into)
            }
        };
        match (sent, connection) {
            // A part of a record on a stream: what follows would be read as its end, so the stream is given up.
            (Ok(count), Connection::Stream(_)) if count < message.len() => {
                self.link.cut();
                Sent::Lost
            }
            (Ok(_), _) => Sent::Taken,
            (Err(error), _) if error.kind() == std::io::ErrorKind::WouldBlock => Sent::Lost,
            (Err(_), _) => {
                self.link.cut();
                Sent::Gone
            }
        }
    }
}

fn open(address: &Address) -> Option<Connection> {
    match address {
        Address::Path(path) => {
            datagram(path).map(Connection::Datagram).or_else(|| stream(path).map(Connection::Stream))
        }
        Address::Host(host, port) => {
            let any = if host.contains(':') { "[::]:0" } else { "0.0.0.0:0" };
            let socket = UdpSocket::bind(any).ok()?;
            socket.connect((host.as_str(), *port)).ok()?;
            socket.set_nonblocking(true).ok()?;
            Some(Connection::Udp(socket))
        }
    }
}

fn datagram(path: &str) -> Option<UnixDatagram> {
    let socket = UnixDatagram::unbound().ok()?;
    socket.set_nonblocking(true).ok()?;
    socket.connect(path).ok()?;
    Some(socket)
}

fn stream(path: &str) -> Option<OwnedFd> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = rustix::net::socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None).ok()?;
    rustix::net::connect(socket.as_fd(), &SocketAddrUnix::new(path).ok()?).ok()?;
    Some(socket)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::net::UnixListener;

    fn received(socket: &UnixDatagram) -> String {
        let mut buffer = [0; 1024];
        let count = socket.recv(&mut buffer).unwrap();
        String::from_utf8(buffer[..count].to_vec()).unwrap()
    }

    #[test]
    fn a_record_is_a_datagram_with_priority_and_nul() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("log");
        let server = UnixDatagram::bind(&path).unwrap();
        let mut target =
            Syslog::new(Address::Path(path.to_str().unwrap().to_owned()), Some(Level::WARNING), None);
        target.send("daemon", Level::INFO, "not wanted");
        target.send("daemon", Level::WARNING, "text");
        target.send("", Level::CRITICAL, "end");
        assert_eq!(received(&server), "<12>pyinotifyd/daemon: text\0");
        assert_eq!(received(&server), "<10>pyinotifyd/root: end\0");
    }

    #[test]
    fn a_server_that_was_restarted_is_reached_again() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("log");
        let mut target = Syslog::new(Address::Path(path.to_str().unwrap().to_owned()), None, Some("daemon"));
        target.send("daemon", Level::INFO, "nobody listens");
        let first = UnixDatagram::bind(&path).unwrap();
        target.link.retry_now();
        target.send("daemon", Level::INFO, "one");
        assert_eq!(
            received(&first),
            "<12>pyinotifyd/root: 1 log records were lost, since nobody read them\0"
        );
        assert_eq!(received(&first), "<14>pyinotifyd/daemon: one\0");
        drop(first);
        std::fs::remove_file(&path).unwrap();
        let second = UnixDatagram::bind(&path).unwrap();
        target.send("daemon.part", Level::INFO, "two");
        target.send("daemonic", Level::INFO, "another logger");
        assert_eq!(received(&second), "<14>pyinotifyd/daemon.part: two\0");
    }

    #[test]
    fn what_a_full_server_does_not_take_is_counted() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("log");
        let server = UnixDatagram::bind(&path).unwrap();
        let mut target = Syslog::new(Address::Path(path.to_str().unwrap().to_owned()), None, None);
        let sent = 2000;
        (0..sent).for_each(|_| target.send("a", Level::INFO, "text"));
        server.set_nonblocking(true).unwrap();
        let taken = std::iter::from_fn(|| server.recv(&mut [0; 100]).ok()).count();
        target.send("a", Level::INFO, "again");
        let note =
            format!("<12>pyinotifyd/root: {} log records were lost, since nobody read them\0", sent - taken);
        assert_eq!(received(&server), note);
        assert_eq!(received(&server), "<14>pyinotifyd/a: again\0");
        assert_eq!(target.lost, 0);
    }

    #[test]
    fn a_stream_socket_serves_where_datagrams_are_refused() {
        use std::io::Read as _;
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("log");
        let server = UnixListener::bind(&path).unwrap();
        let mut target = Syslog::new(Address::Path(path.to_str().unwrap().to_owned()), None, None);
        target.send("a", Level::DEBUG, "text");
        let mut text = vec![0; "<15>pyinotifyd/a: text\0".len()];
        server.accept().unwrap().0.read_exact(&mut text).unwrap();
        assert_eq!(text, b"<15>pyinotifyd/a: text\0");
    }
}
