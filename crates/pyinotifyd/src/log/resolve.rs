//! Addresses of hosts that have names, asked for on a thread.
//!
//! A resolver may take half a minute to say that it got no answer, and a name service may never answer. So a thread
//! asks, one name at a time, and [`Resolver::address`] says what is known by now. An address that was found is kept:
//! a later question that fails does not take it away.

use std::net::{IpAddr, SocketAddr, ToSocketAddrs as _};
use std::sync::mpsc::{Receiver, RecvTimeoutError, TryRecvError, sync_channel};
use std::thread;
use std::time::{Duration, Instant};

/// How long an address is used before it is asked for again, and the longest pause after questions without an answer.
const KEPT: Duration = Duration::from_secs(60);
/// The first pause after a question without an answer; the next ones are twice as long each.
const RETRY_FIRST: Duration = Duration::from_secs(1);
/// Pause between two looks whether an answer came.
const LOOK: Duration = Duration::from_millis(50);
/// Stack of the thread. The C library's resolver takes some ten KiB, name services have buffers of 64 KiB.
const STACK: usize = 512 << 10;

/// See the module's head.
#[derive(Debug)]
pub(super) struct Resolver {
    names: Vec<Name>,
    /// The question that a thread asks. There is never a second one: a resolver that hangs costs one thread, not one
    /// for each name or each reload.
    asked: Option<Question>,
    lookup: fn(&str, u16) -> Option<SocketAddr>,
}

#[derive(Debug)]
struct Name {
    host: String,
    port: u16,
    address: Option<SocketAddr>,
    /// When to ask for it, or to ask again.
    ask_at: Instant,
    /// The pause after the next question without an answer.
    pause: Duration,
}

#[derive(Debug)]
struct Question {
    host: String,
    port: u16,
    answer: Receiver<Option<SocketAddr>>,
}

impl Default for Resolver {
    fn default() -> Resolver {
        Resolver { names: Vec::new(), asked: None, lookup: by_the_system }
    }
}

impl Resolver {
    /// The address, as far as it is known. Asks for it where that is due. Never waits.
    pub(super) fn address(&mut self, host: &str, port: u16) -> Option<SocketAddr> {
        if let Ok(ip) = host.parse::<IpAddr>() {
            return Some(SocketAddr::new(ip, port));
        }
        let now = Instant::now();
        self.take_answer(now);
        let place = self.names.iter().position(|name| name.is(host, port)).unwrap_or_else(|| {
            let host = host.to_owned();
            self.names.push(Name { host, port, address: None, ask_at: now, pause: RETRY_FIRST });
            self.names.len() - 1
        });
        if self.asked.is_none() && self.names[place].ask_at <= now {
            self.asked = ask(host, port, self.lookup);
            if self.asked.is_none() {
                self.names[place].answered(None, now);
            }
        }
        self.names[place].address
    }

    /// For an address that is not known: the pause until [`Resolver::address`] is worth another call.
    pub(super) fn pause(&self, host: &str, port: u16) -> Duration {
        let name = self.names.iter().find(|name| name.is(host, port));
        match name {
            Some(name) if self.asked.is_none() => {
                name.ask_at.saturating_duration_since(Instant::now()).max(LOOK)
            }
            Some(_) | None => LOOK,
        }
    }

    /// Waits for the answer to the question that is asked, until a time; whether there was one, and it was answered.
    pub(super) fn wait(&mut self, until: Instant) -> bool {
        let Some(question) = self.asked.take() else { return false };
        let left = until.saturating_duration_since(Instant::now());
        let address = match question.answer.recv_timeout(left) {
            Ok(address) => address,
            Err(RecvTimeoutError::Disconnected) => None,
            Err(RecvTimeoutError::Timeout) => {
                self.asked = Some(question);
                return false;
            }
        };
        self.answered(&question, address, Instant::now());
        true
    }

    fn take_answer(&mut self, now: Instant) {
        let Some(question) = self.asked.take() else { return };
        match question.answer.try_recv() {
            Ok(address) => self.answered(&question, address, now),
            Err(TryRecvError::Disconnected) => self.answered(&question, None, now),
            Err(TryRecvError::Empty) => self.asked = Some(question),
        }
    }

    fn answered(&mut self, question: &Question, address: Option<SocketAddr>, now: Instant) {
        for name in self.names.iter_mut().filter(|name| name.is(&question.host, question.port)) {
            name.answered(address, now);
        }
    }
}

impl Name {
    fn is(&self, host: &str, port: u16) -> bool {
        self.host == host && self.port == port
    }

    fn answered(&mut self, address: Option<SocketAddr>, now: Instant) {
        if address.is_some() {
            self.address = address;
            self.ask_at = now + KEPT;
            self.pause = RETRY_FIRST;
        } else {
            self.ask_at = now + self.pause;
            self.pause = (self.pause * 2).min(KEPT);
        }
    }
}

/// Starts the thread; `None` where there is none to be had.
fn ask(host: &str, port: u16, lookup: fn(&str, u16) -> Option<SocketAddr>) -> Option<Question> {
    let (sender, answer) = sync_channel(1);
    let asked = host.to_owned();
    let thread = thread::Builder::new().name("resolver".to_owned()).stack_size(STACK);
    let started = thread.spawn(move || {
        // The daemon may have ended, or a test.
        let _ = sender.send(lookup(&asked, port));
    });
    started.ok().map(|_| Question { host: host.to_owned(), port, answer })
}

fn by_the_system(host: &str, port: u16) -> Option<SocketAddr> {
    (host, port).to_socket_addrs().ok()?.next()
}

#[cfg(test)]
impl Resolver {
    /// A resolver that asks a function of a test.
    pub(super) fn with(lookup: fn(&str, u16) -> Option<SocketAddr>) -> Resolver {
        Resolver { lookup, ..Resolver::default() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Mutex;
    use std::sync::atomic::{AtomicUsize, Ordering};

    const DEADLINE: Duration = Duration::from_secs(30);

    #[test]
    fn an_address_in_digits_needs_no_thread() {
        let mut resolver = Resolver::with(|_, _| panic!("nobody is to be asked"));
        assert_eq!(resolver.address("127.0.0.1", 514), "127.0.0.1:514".parse().ok());
        assert_eq!(resolver.address("::1", 514), "[::1]:514".parse().ok());
        assert!(resolver.asked.is_none());
    }

    #[test]
    fn a_resolver_that_hangs_holds_nobody_up_and_costs_one_thread() {
        static HANGS: Mutex<()> = Mutex::new(());
        static ASKED: AtomicUsize = AtomicUsize::new(0);
        let mut resolver = Resolver::with(|host, port| {
            ASKED.fetch_add(1, Ordering::SeqCst);
            drop(HANGS.lock());
            (host == "b.example").then(|| SocketAddr::from(([127, 0, 0, 1], port)))
        });
        let hangs = HANGS.lock().unwrap();
        let before = Instant::now();
        for host in ["a.example", "b.example"].repeat(1000) {
            assert_eq!(resolver.address(host, 514), None);
        }
        assert!(!resolver.wait(Instant::now() + LOOK));
        assert!(before.elapsed() < DEADLINE);
        assert!(ASKED.load(Ordering::SeqCst) <= 1);
        drop(hangs);
        let until = Instant::now() + DEADLINE;
        while resolver.address("b.example", 514).is_none() {
            assert!(Instant::now() < until, "the second name is asked for when the first was answered");
            thread::sleep(resolver.pause("b.example", 514));
        }
        assert_eq!(resolver.address("a.example", 514), None);
    }

    #[test]
    fn an_address_that_was_found_is_kept_when_it_is_not_found_again() {
        static FOUND: AtomicUsize = AtomicUsize::new(0);
        let mut resolver = Resolver::with(|_, _| {
            (FOUND.fetch_add(1, Ordering::SeqCst) == 0).then(|| SocketAddr::from(([127, 0, 0, 1], 514)))
        });
        assert_eq!(resolver.address("a.example", 514), None);
        assert!(resolver.wait(Instant::now() + DEADLINE));
        let found = resolver.address("a.example", 514);
        assert!(found.is_some());
        assert!(resolver.names[0].ask_at > Instant::now());
        resolver.names[0].ask_at = Instant::now();
        assert_eq!(resolver.address("a.example", 514), found);
        assert!(resolver.wait(Instant::now() + DEADLINE));
        assert_eq!(FOUND.load(Ordering::SeqCst), 2);
        assert_eq!(resolver.address("a.example", 514), found);
    }

    #[test]
    fn a_name_without_an_address_is_asked_for_less_and_less_often() {
        let mut resolver = Resolver::with(|_, _| None);
        let mut pauses = Vec::new();
        for _ in 0..8 {
            assert_eq!(resolver.address("a.example", 514), None);
            assert!(resolver.wait(Instant::now() + DEADLINE));
            let name = &mut resolver.names[0];
            pauses.push(name.ask_at.saturating_duration_since(Instant::now()).as_secs_f64().ceil() as u64);
            name.ask_at = Instant::now();
        }
        assert_eq!(pauses, [1, 2, 4, 8, 16, 32, 60, 60]);
    }
}
