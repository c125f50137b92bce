//! Syslog targets: `/dev/log` (datagram, else stream) and UDP, as Python's `SysLogHandler` speaks to them.
//!
//! If a target is away or full, its records are lost, and nothing else happens: no send waits, no failure is logged
//! (the record would come here again), and the module tries to connect once a second at most. It counts the lost
//! records and sends their number when the target takes records again. Records for a host whose address is not known
//! yet ([`Resolver`]) are kept, up to a limit.

use std::collections::VecDeque;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::net::{AddressFamily, SendFlags, SocketAddrUnix, SocketFlags, SocketType};

use super::Level;
use super::reconnect::Reconnect;
use super::resolve::Resolver;

/// Bytes of records that are kept for a host whose address is not known yet.
const KEPT_MAX: usize = 128 << 10;

/// Facility `user` (1), as Python's handler uses it.
const FACILITY_USER: u8 = 1;

/// Where a target listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Address {
    /// A Unix socket.
    Path(PathBuf),
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
    connection: Reconnect<Connection>,
    /// Records for a host whose address is not known yet, and their bytes.
    kept: VecDeque<String>,
    kept_bytes: usize,
    /// Records lost since one was taken.
    lost: u64,
}

/// What became of a record.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Sent {
    Taken,
    /// The target does not read, or read a part of it; the connection is good or made again with the next record.
    Lost,
    /// The target is gone.
    Gone,
    /// Nobody knows the target's address yet.
    Unknown,
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
        let (connection, kept) = (Reconnect::default(), VecDeque::new());
        Syslog { address, level, logname, connection, kept, kept_bytes: 0, lost: 0 }
    }

    /// Whether it is the same server, for the same records.
    pub(super) fn is_same(&self, other: &Syslog) -> bool {
        (&self.address, self.level, &self.logname) == (&other.address, other.level, &other.logname)
    }

    /// Sends one record if this target wants it: `<PRI>pyinotifyd/LOGGER: text` and a NUL byte.
    pub(super) fn send(&mut self, logger: &str, level: Level, text: &str, resolver: &mut Resolver) {
        if !self.wants(logger, level) {
            return;
        }
        let name = if logger.is_empty() { "root" } else { logger };
        let message = message(name, level, text);
        self.flush(resolver);
        if !self.kept.is_empty() {
            self.keep(message);
            return;
        }
        if self.lost > 0 {
            let note = format!("{} log records were lost, since nobody read them", self.lost);
            if self.deliver(&self::message("root", Level::WARNING, &note), resolver) != Sent::Taken {
                self.lost += 1;
                return;
            }
            self.lost = 0;
        }
        match self.deliver(&message, resolver) {
            Sent::Taken => {}
            Sent::Unknown => self.keep(message),
            Sent::Lost | Sent::Gone => self.lost += 1,
        }
    }

    /// Sends what was kept, if the address is known by now.
    pub(super) fn flush(&mut self, resolver: &mut Resolver) {
        while let Some(first) = self.kept.pop_front() {
            match self.deliver(&first, resolver) {
                Sent::Unknown => {
                    self.kept.push_front(first);
                    return;
                }
                Sent::Taken => {}
                Sent::Lost | Sent::Gone => self.lost += 1,
            }
            self.kept_bytes -= first.len();
        }
    }

    /// How long to sleep until what is kept may be sent; `None` if nothing is kept.
    pub(super) fn pause(&self, resolver: &Resolver) -> Option<Duration> {
        match &self.address {
            Address::Host(host, port) if !self.kept.is_empty() => Some(resolver.pause(host, *port)),
            Address::Host(..) | Address::Path(_) => None,
        }
    }

    fn keep(&mut self, message: String) {
        if self.kept_bytes + message.len() > KEPT_MAX {
            self.lost += 1;
            return;
        }
        self.kept_bytes += message.len();
        self.kept.push_back(message);
    }

    fn deliver(&mut self, message: &str, resolver: &mut Resolver) -> Sent {
        // A server that was restarted is reached with the second attempt.
        match self.transmit(message.as_bytes(), resolver) {
            Sent::Gone => self.transmit(message.as_bytes(), resolver),
            sent => sent,
        }
    }

    fn wants(&self, logger: &str, level: Level) -> bool {
        let below = logger
            .strip_prefix(self.logname.as_str())
            .is_some_and(|rest| rest.is_empty() || rest.starts_with('.'));
        (self.logname.is_empty() || below) && self.level.is_none_or(|own| level >= own)
    }

    fn transmit(&mut self, message: &[u8], resolver: &mut Resolver) -> Sent {
        let server = match &self.address {
            Address::Path(path) => Server::Path(path),
            Address::Host(..) if self.connection.made().is_some() => Server::Reached,
            Address::Host(host, port) => match resolver.address(host, *port) {
                Some(address) => Server::At(address),
                None => return Sent::Unknown,
            },
        };
        let Some(connection) = self.connection.get(|| open(&server)) else { return Sent::Gone };
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
                self.connection.cut();
                Sent::Lost
            }
            (Ok(_), _) => Sent::Taken,
            (Err(error), _) if error.kind() == std::io::ErrorKind::WouldBlock => Sent::Lost,
            (Err(_), _) => {
                self.connection.cut();
                Sent::Gone
            }
        }
    }
}

/// Whom to connect to.
enum Server<'a> {
    Path(&'a Path),
    At(SocketAddr),
    /// There is a connection.
    Reached,
}

fn open(server: &Server<'_>) -> Option<Connection> {
    match server {
        Server::Path(path) => {
            datagram(path).map(Connection::Datagram).or_else(|| stream(path).map(Connection::Stream))
        }
        Server::At(address) => {
            let any: IpAddr =
                if address.is_ipv6() { Ipv6Addr::UNSPECIFIED.into() } else { Ipv4Addr::UNSPECIFIED.into() };
            let socket = UdpSocket::bind((any, 0)).ok()?;
            socket.connect(address).ok()?;
            socket.set_nonblocking(true).ok()?;
            Some(Connection::Udp(socket))
        }
        Server::Reached => None,
    }
}

fn message(name: &str, level: Level, text: &str) -> String {
    let priority = FACILITY_USER * 8 + level.severity();
    format!("<{priority}>pyinotifyd/{name}: {text}\0")
}

fn datagram(path: &Path) -> Option<UnixDatagram> {
    let socket = UnixDatagram::unbound().ok()?;
    socket.set_nonblocking(true).ok()?;
    socket.connect(path).ok()?;
    Some(socket)
}

fn stream(path: &Path) -> Option<OwnedFd> {
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
        // Nothing takes so long unless something is broken.
        socket.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
        let count = socket.recv(&mut buffer).unwrap();
        String::from_utf8(buffer[..count].to_vec()).unwrap()
    }

    fn send(target: &mut Syslog, logger: &str, level: Level, text: &str) {
        target.send(logger, level, text, &mut Resolver::default());
    }

    #[test]
    fn a_record_is_a_datagram_with_priority_and_nul() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("log");
        let server = UnixDatagram::bind(&path).unwrap();
        let mut target = Syslog::new(Address::Path(path.clone()), Some(Level::WARNING), None);
        send(&mut target, "daemon", Level::INFO, "not wanted");
        send(&mut target, "daemon", Level::WARNING, "text");
        send(&mut target, "", Level::CRITICAL, "end");
        assert_eq!(received(&server), "<12>pyinotifyd/daemon: text\0");
        assert_eq!(received(&server), "<10>pyinotifyd/root: end\0");
    }

    #[test]
    fn a_server_that_was_restarted_is_reached_again() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("log");
        let mut target = Syslog::new(Address::Path(path.clone()), None, Some("daemon"));
        send(&mut target, "daemon", Level::INFO, "nobody listens");
        let first = UnixDatagram::bind(&path).unwrap();
        target.connection.retry_now();
        send(&mut target, "daemon", Level::INFO, "one");
        assert_eq!(
            received(&first),
            "<12>pyinotifyd/root: 1 log records were lost, since nobody read them\0"
        );
        assert_eq!(received(&first), "<14>pyinotifyd/daemon: one\0");
        drop(first);
        std::fs::remove_file(&path).unwrap();
        let second = UnixDatagram::bind(&path).unwrap();
        // A child that another test starts holds the first one open until it executes its program.
        second.set_nonblocking(true).unwrap();
        let until = std::time::Instant::now() + Duration::from_secs(30);
        let mut buffer = [0; 1024];
        let count = loop {
            send(&mut target, "daemonic", Level::INFO, "another logger");
            send(&mut target, "daemon.part", Level::INFO, "two");
            if let Ok(count) = second.recv(&mut buffer) {
                break count;
            }
            assert!(std::time::Instant::now() < until, "the second server is not reached");
            std::thread::yield_now();
        };
        assert_eq!(&buffer[..count], b"<14>pyinotifyd/daemon.part: two\0");
    }

    #[test]
    fn what_a_full_server_does_not_take_is_counted() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("log");
        let server = UnixDatagram::bind(&path).unwrap();
        let mut target = Syslog::new(Address::Path(path.clone()), None, None);
        let sent = 2000;
        (0..sent).for_each(|_| send(&mut target, "a", Level::INFO, "text"));
        server.set_nonblocking(true).unwrap();
        let taken = std::iter::from_fn(|| server.recv(&mut [0; 100]).ok()).count();
        send(&mut target, "a", Level::INFO, "again");
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
        let mut target = Syslog::new(Address::Path(path.clone()), None, None);
        send(&mut target, "a", Level::DEBUG, "text");
        let mut text = vec![0; "<15>pyinotifyd/a: text\0".len()];
        server.accept().unwrap().0.read_exact(&mut text).unwrap();
        assert_eq!(text, b"<15>pyinotifyd/a: text\0");
    }

    #[test]
    fn records_for_a_host_are_kept_in_order_until_its_address_is_known() {
        use std::sync::Mutex;
        use std::sync::atomic::{AtomicU16, Ordering};
        use std::time::Instant;
        static HANGS: Mutex<()> = Mutex::new(());
        static PORT: AtomicU16 = AtomicU16::new(0);
        let until = Instant::now() + Duration::from_secs(30);
        let server = UdpSocket::bind("127.0.0.1:0").unwrap();
        server.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
        // All that is kept comes at once.
        rustix::net::sockopt::set_socket_recv_buffer_size(&server, 4 * KEPT_MAX).unwrap();
        PORT.store(server.local_addr().unwrap().port(), Ordering::SeqCst);
        let mut resolver = Resolver::with(|_, _| {
            drop(HANGS.lock());
            Some(SocketAddr::from(([127, 0, 0, 1], PORT.load(Ordering::SeqCst))))
        });
        let hangs = HANGS.lock().unwrap();
        let mut target = Syslog::new(Address::Host("log.example".to_owned(), 514), None, None);
        let text = "x".repeat(1000);
        let sent = KEPT_MAX / 1000 + 100;
        for number in 0..sent {
            target.send("a", Level::INFO, &format!("{number} {text}"), &mut resolver);
        }
        assert!(target.kept_bytes <= KEPT_MAX);
        let (kept, lost) = (target.kept.len(), target.lost);
        assert_eq!(kept + lost as usize, sent);
        assert!(target.pause(&resolver).is_some());
        drop(hangs);
        assert!(resolver.wait(until));
        target.flush(&mut resolver);
        for number in 0..kept {
            let mut buffer = [0; 2000];
            let count = server.recv(&mut buffer).unwrap();
            let start = format!("<14>pyinotifyd/a: {number} x");
            assert!(buffer[..count].starts_with(start.as_bytes()), "{number}");
        }
        assert_eq!((target.pause(&resolver), target.kept_bytes), (None, 0));
        target.send("a", Level::INFO, "again", &mut resolver);
        let mut buffer = [0; 2000];
        let count = server.recv(&mut buffer).unwrap();
        assert_eq!(
            &buffer[..count],
            format!("<12>pyinotifyd/root: {lost} log records were lost, since nobody read them\0").as_bytes()
        );
    }
}
