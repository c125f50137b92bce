//! Reports the daemon's state to the service supervisor: the client side of sd_notify(3).
//!
//! Owns the socket and the words of the protocol. Leaves to the loop: when to say what, and the timer of the watchdog.
//! Without `NOTIFY_SOCKET` everything here does nothing. Nothing here fails: a supervisor that does not listen must not
//! keep the daemon from its work.

use std::env;
use std::ffi::OsStr;
use std::fmt::Write as _;
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::process;
use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

/// How long one message may wait for a supervisor whose queue is full. Its queue holds thousands of messages; a
/// supervisor that leaves it full is stuck, and the daemon's events matter more.
const SEND_TIMEOUT: Duration = Duration::from_millis(50);

/// Longest status line that is sent, in bytes; `systemctl status` shows one line.
const STATUS_LENGTH_MAX: usize = 200;

/// The connection to the service supervisor, if there is one.
#[derive(Debug, Default)]
pub(crate) struct Notifier {
    supervisor: Option<Supervisor>,
    watchdog: Option<Duration>,
}

#[derive(Debug)]
struct Supervisor {
    socket: UnixDatagram,
    /// Kept instead of connecting: the supervisor may restart and bind a new socket there.
    address: SocketAddr,
}

impl Notifier {
    /// Reads `NOTIFY_SOCKET`, `WATCHDOG_USEC` and `WATCHDOG_PID` from the environment.
    ///
    /// The variables stay in the environment; children (the host, commands) are started without them.
    pub(crate) fn from_env() -> Notifier {
        let supervisor = env::var_os("NOTIFY_SOCKET").and_then(|name| Supervisor::new(&name));
        let watchdog = watchdog_interval(
            env::var("WATCHDOG_USEC").ok().as_deref(),
            env::var("WATCHDOG_PID").ok().as_deref(),
            process::id(),
        );
        Notifier { watchdog: watchdog.filter(|_| supervisor.is_some()), supervisor }
    }

    /// Names of the variables that children must not inherit.
    pub(crate) const VARIABLES: [&str; 3] = ["NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID"];

    /// Whether anybody listens; spares the caller the making of a status.
    pub(crate) const fn is_active(&self) -> bool {
        self.supervisor.is_some()
    }

    /// How often [`Notifier::watchdog`] has to be called: half of what the supervisor allows (sd_watchdog_enabled(3)).
    pub(crate) const fn watchdog_interval(&self) -> Option<Duration> {
        self.watchdog
    }

    /// The start, or a reload, is complete.
    pub(crate) fn ready(&self, status: &str) {
        self.send(&format!("READY=1\nSTATUS={}", one_line(status)));
    }

    /// A reload begins; [`Notifier::ready`] ends it, whether it succeeded or not.
    pub(crate) fn reloading(&self, status: &str) {
        // systemd takes the reload for done only if this is not older than its own request (systemd.service(5)).
        let now_us = monotonic_us();
        self.send(&format!("RELOADING=1\nMONOTONIC_USEC={now_us}\nSTATUS={}", one_line(status)));
    }

    /// The shutdown begins.
    pub(crate) fn stopping(&self, status: &str) {
        self.send(&format!("STOPPING=1\nSTATUS={}", one_line(status)));
    }

    /// One line for `systemctl status`.
    pub(crate) fn status(&self, status: &str) {
        self.send(&format!("STATUS={}", one_line(status)));
    }

    /// Starting, reloading or stopping takes at least this much longer; to be repeated before the time is over.
    pub(crate) fn extend_timeout(&self, more: Duration) {
        self.send(&format!("EXTEND_TIMEOUT_USEC={}", more.as_micros()));
    }

    /// The loop turns.
    pub(crate) fn watchdog(&self) {
        self.send("WATCHDOG=1");
    }

    fn send(&self, message: &str) {
        if let Some(supervisor) = &self.supervisor {
            // There is nobody to report a failure to, and the next message may pass.
            let _ = supervisor.socket.send_to_addr(message.as_bytes(), &supervisor.address);
        }
    }
}

impl Supervisor {
    fn new(name: &OsStr) -> Option<Supervisor> {
        let address = supervisor_address(name)?;
        let socket = UnixDatagram::unbound().ok()?;
        socket.set_write_timeout(Some(SEND_TIMEOUT)).ok()?;
        Some(Supervisor { socket, address })
    }
}

/// `/path` or `@abstract`; other forms (`vsock:`) belong to machines, not to services inside one.
fn supervisor_address(name: &OsStr) -> Option<SocketAddr> {
    match name.as_bytes() {
        [b'@', abstract_name @ ..] => SocketAddr::from_abstract_name(abstract_name).ok(),
        [b'/', ..] => SocketAddr::from_pathname(name).ok(),
        _ => None,
    }
}

/// The watchdog is meant for us if it names our process, or none.
fn watchdog_interval(timeout_us: Option<&str>, pid: Option<&str>, our_pid: u32) -> Option<Duration> {
    let timeout_us: u64 = timeout_us?.parse().ok()?;
    let ours = pid.is_none_or(|pid| pid.parse() == Ok(our_pid));
    (ours && timeout_us > 1).then(|| Duration::from_micros(timeout_us / 2))
}

/// Makes sure that a status is one assignment: a newline in it would begin another one.
fn one_line(status: &str) -> String {
    let mut line = String::with_capacity(status.len());
    for c in status.chars() {
        if line.len() >= STATUS_LENGTH_MAX {
            break;
        }
        if c.is_control() {
            let _ = write!(line, "\\x{:02x}", c as u32);
        } else {
            line.push(c);
        }
    }
    line
}

fn monotonic_us() -> u64 {
    let now = clock_gettime(ClockId::Monotonic);
    now.tv_sec.unsigned_abs() * 1_000_000 + now.tv_nsec.unsigned_abs() / 1_000
}

#[cfg(test)]
mod tests {
    use std::ffi::OsString;
    use std::fs;
    use std::os::unix::ffi::OsStringExt as _;

    use super::*;

    fn notifier(name: &OsStr) -> Notifier {
        Notifier { supervisor: Supervisor::new(name), watchdog: None }
    }

    fn received(supervisor: &UnixDatagram) -> String {
        let mut buffer = [0; 1024];
        supervisor.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        let length = supervisor.recv(&mut buffer).unwrap();
        String::from_utf8(buffer[..length].to_vec()).unwrap()
    }

    #[test]
    fn the_life_of_a_service_over_a_socket_with_a_path() {
        let dir = env::temp_dir().join(format!("pyinotifyd-notify-{}", process::id()));
        fs::create_dir_all(&dir).unwrap();
        let path = dir.join("notify");
        let supervisor = UnixDatagram::bind(&path).unwrap();
        let notifier = notifier(path.as_os_str());

        notifier.ready("watching 3 directories");
        assert_eq!(received(&supervisor), "READY=1\nSTATUS=watching 3 directories");
        let before_us = monotonic_us();
        notifier.reloading("reading the config");
        let reloading = received(&supervisor);
        let stamp = reloading.lines().find_map(|line| line.strip_prefix("MONOTONIC_USEC=")).unwrap();
        assert!(stamp.parse::<u64>().unwrap() >= before_us);
        assert!(reloading.starts_with("RELOADING=1\n"));
        notifier.extend_timeout(Duration::from_millis(1500));
        assert_eq!(received(&supervisor), "EXTEND_TIMEOUT_USEC=1500000");
        notifier.watchdog();
        assert_eq!(received(&supervisor), "WATCHDOG=1");
        notifier.stopping("waiting for 2 tasks");
        assert_eq!(received(&supervisor), "STOPPING=1\nSTATUS=waiting for 2 tasks");
        fs::remove_dir_all(&dir).unwrap();
    }

    #[test]
    fn an_abstract_socket_begins_with_an_at_sign() {
        let name = format!("pyinotifyd-notify-test-{}", process::id());
        let supervisor =
            UnixDatagram::bind_addr(&SocketAddr::from_abstract_name(name.as_bytes()).unwrap()).unwrap();
        notifier(OsStr::new(&format!("@{name}"))).status("ok");
        assert_eq!(received(&supervisor), "STATUS=ok");
    }

    #[test]
    fn a_name_cannot_forge_a_second_assignment() {
        assert_eq!(one_line("moved a\nREADY=1"), "moved a\\x0aREADY=1");
        assert!(one_line(&"ä".repeat(500)).len() <= STATUS_LENGTH_MAX + 1);
    }

    #[test]
    fn without_a_supervisor_nothing_happens() {
        for name in ["", "relative", "vsock:2:1234"] {
            let notifier = notifier(OsStr::new(name));
            assert!(!notifier.is_active());
            notifier.ready("nobody hears this");
        }
        notifier(&OsString::from_vec(b"/nonexistent/\xff".to_vec())).ready("nor this");
    }

    #[test]
    fn the_watchdog_is_fed_twice_in_its_time_and_only_by_us() {
        let cases = [
            (Some("60000000"), Some("7"), Some(30_000_000)),
            (Some("60000000"), None, Some(30_000_000)),
            (Some("60000000"), Some("8"), None),
            (Some("0"), None, None),
            (Some("soon"), None, None),
            (None, Some("7"), None),
        ];
        for (timeout_us, pid, interval_us) in cases {
            let interval = watchdog_interval(timeout_us, pid, 7);
            assert_eq!(interval, interval_us.map(Duration::from_micros), "{timeout_us:?} {pid:?}");
        }
    }
}
