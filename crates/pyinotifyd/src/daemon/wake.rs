//! Everything that can wake the loop: a closed list.

use std::future::{Future as _, poll_fn};
use std::io;
use std::os::fd::OwnedFd;
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::{Duration, Instant};

use control::Message;
use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create, timerfd_settime,
};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::mpsc;

use super::control::Control;
use super::keep::Keeper;
use crate::action::Lanes;
use crate::host::HostEvent;

/// Why the loop woke.
#[derive(Debug)]
pub(crate) enum Wake {
    /// A signal that asks the daemon for something.
    Asked(Request),
    /// A child ended.
    Child,
    /// Lanes have reports.
    Lanes,
    /// The thread that keeps tasks has a report.
    Kept,
    /// A host said something, or is gone.
    Host(HostEvent),
    /// There are events.
    Events,
    /// Commands have written something for the log.
    Output,
    /// The reader of stdout has taken something, or is gone.
    Printed,
    /// Mounts have changed.
    Mounts,
    /// Somebody asks something.
    Control(Message),
    /// A deadline has come.
    Time,
}

/// What a signal asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Request {
    /// SIGTERM or SIGINT.
    Shutdown(EndSignal),
    /// SIGHUP.
    Reload,
    /// SIGUSR1.
    Status,
}

/// A signal that asks for the end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum EndSignal {
    /// SIGTERM.
    Term,
    /// SIGINT.
    Int,
}

impl std::fmt::Display for EndSignal {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.write_str(match self {
            EndSignal::Term => "SIGTERM",
            EndSignal::Int => "SIGINT",
        })
    }
}

/// The signals that the daemon listens to.
#[derive(Debug)]
pub(crate) struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hangup: Signal,
    status: Signal,
    child: Signal,
    /// SIGUSR2 means nothing; its default action would end the daemon. Never waited for.
    _nothing: Signal,
    /// A write came to the limit of a file's size (RLIMIT_FSIZE): with this signal taken over it fails with EFBIG
    /// instead of ending the daemon. Never waited for.
    _file_size: Signal,
}

impl Signals {
    /// Takes the signals over.
    ///
    /// # Errors
    /// As sigaction(2).
    pub(crate) fn new() -> io::Result<Signals> {
        Ok(Signals {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hangup: signal(SignalKind::hangup())?,
            status: signal(SignalKind::user_defined1())?,
            _nothing: signal(SignalKind::user_defined2())?,
            child: signal(SignalKind::child())?,
            _file_size: signal(SignalKind::from_raw(rustix::process::Signal::XFSZ.as_raw()))?,
        })
    }

    /// The next signal.
    pub(crate) async fn next(&mut self) -> Wake {
        tokio::select! {
            biased;
            _ = self.terminate.recv() => Wake::Asked(Request::Shutdown(EndSignal::Term)),
            _ = self.interrupt.recv() => Wake::Asked(Request::Shutdown(EndSignal::Int)),
            _ = self.hangup.recv() => Wake::Asked(Request::Reload),
            _ = self.status.recv() => Wake::Asked(Request::Status),
            _ = self.child.recv() => Wake::Child,
        }
    }
}

/// A descriptor that the loop waits on.
#[derive(Debug)]
pub(crate) struct Descriptor {
    fd: Arc<OwnedFd>,
    interest: Interest,
    /// `None` while nobody is to be woken.
    waiting: Option<AsyncFd<Arc<OwnedFd>>>,
}

impl Descriptor {
    /// Waits for `interest`.
    ///
    /// # Errors
    /// As epoll_ctl(2).
    pub(crate) fn new(fd: OwnedFd, interest: Interest) -> io::Result<Descriptor> {
        let fd = Arc::new(fd);
        Ok(Descriptor { waiting: Some(register(&fd, interest)?), fd, interest })
    }

    /// Takes the descriptor off epoll until [`Descriptor::listen`]. Not to ask for readiness would not do: epoll wakes
    /// its thread at each event of a registered descriptor.
    pub(crate) fn rest(&mut self) {
        self.waiting = None;
    }

    /// Waits for the descriptor again, and for what has come meanwhile; false if the kernel has no memory for it now.
    pub(crate) fn listen(&mut self) -> bool {
        if self.waiting.is_none() {
            self.waiting = register(&self.fd, self.interest).ok();
        }
        self.waiting.is_some()
    }

    async fn ready(&self) {
        let Some(waiting) = &self.waiting else { return std::future::pending().await };
        // Errors of epoll itself cannot be waited away; the next read tells. Readiness is cleared before the read: what
        // comes after it sets it again (the epoll edge).
        if let Ok(mut guard) = waiting.ready(self.interest).await {
            guard.clear_ready();
        }
    }
}

#[expect(
    deprecated,
    reason = "the safe constructor is deprecated for owners whose descriptor may change; this one keeps its own"
)]
fn register<T: std::os::fd::AsRawFd>(fd: &Arc<T>, interest: Interest) -> io::Result<AsyncFd<Arc<T>>> {
    AsyncFd::with_interest(Arc::clone(fd), interest)
}

/// The loop's one timer. The runtime's are good to a millisecond; the pause of a busy tree is hardly longer than that.
#[derive(Debug)]
pub(crate) struct Timer {
    descriptor: Descriptor,
    /// When the kernel's timer fires, if it does.
    armed: Option<Instant>,
}

impl Timer {
    /// A timer that is not set.
    ///
    /// # Errors
    /// As timerfd_create(2) and epoll_ctl(2).
    pub(crate) fn new() -> io::Result<Timer> {
        let fd = timerfd_create(TimerfdClockId::Monotonic, TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC)?;
        Ok(Timer { descriptor: Descriptor::new(fd, Interest::READABLE)?, armed: None })
    }

    /// Completes when the time has come; never without one. A time that is past lets the runtime look at all
    /// descriptors once, so that whoever asks for it again and again stays able to hear.
    async fn until(&mut self, deadline: Option<Instant>) {
        let Some(at) = deadline else { return std::future::pending().await };
        if at <= Instant::now() {
            return tokio::task::yield_now().await;
        }
        loop {
            let left = at.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return;
            }
            // Deadlines move on with each event. A timer that fires too early is set again then, which is rare.
            if self.armed.is_none_or(|armed| armed > at) {
                self.armed = Some(at);
                set_timer(&self.descriptor.fd, left);
            }
            self.descriptor.ready().await;
            self.armed = None;
        }
    }
}

/// Lets a timer fire once after a time that is not zero.
fn set_timer(timer: &OwnedFd, left: Duration) {
    let never = Timespec { tv_sec: 0, tv_nsec: 0 };
    // 32 bits of seconds are 136 years; the kernel adds them to its own time.
    let seconds = left.as_secs().min(u64::from(u32::MAX)).cast_signed();
    let value = Timespec { tv_sec: seconds, tv_nsec: left.subsec_nanos().into() };
    timerfd_settime(timer, TimerfdTimerFlags::empty(), &Itimerspec { it_interval: never, it_value: value })
        .expect("a timer takes every time that is not negative");
}

/// All that the loop waits for, borrowed for one wait.
pub(crate) struct Awaited<'a> {
    /// Signals.
    pub signals: &'a mut Signals,
    /// Frames of all hosts.
    pub hosts: &'a mut mpsc::Receiver<HostEvent>,
    /// Reports of lanes.
    pub lanes: &'a Lanes,
    /// Reports of the thread that keeps tasks.
    pub keeper: Option<&'a Keeper>,
    /// Events; it rests while their reader pauses.
    pub events: &'a Descriptor,
    /// What commands write for the log.
    pub outputs: Option<&'a Descriptor>,
    /// The reader of stdout.
    pub printed: Option<&'a Descriptor>,
    /// The mount table.
    pub mounts: Option<&'a Descriptor>,
    /// Events of filesystems that may not answer.
    pub others: Option<&'a Descriptor>,
    /// The timer, for `deadline`.
    pub timer: &'a mut Timer,
    /// What the control socket asks.
    pub control: &'a mut Control,
    /// When the loop has something to do by itself.
    pub deadline: Option<Instant>,
}

impl Awaited<'_> {
    /// Waits for the first of them. Signals come first and events last, so that a storm cannot delay anybody else; but
    /// who slept until there were events need not ask all others once more.
    pub(crate) async fn wait(self) -> Wake {
        let Awaited {
            signals,
            hosts,
            lanes,
            keeper,
            events,
            outputs,
            printed,
            mounts,
            others,
            timer,
            control,
            deadline,
        } = self;
        let mut others = pin!(async {
            tokio::select! {
                biased;
                wake = signals.next() => wake,
                // Before a file below a new mount is acted on.
                () = changed(mounts) => Wake::Mounts,
                () = lanes.reported() => Wake::Lanes,
                () = kept(keeper) => Wake::Kept,
                Some(event) = hosts.recv() => Wake::Host(event),
                () = timer.until(deadline) => Wake::Time,
                message = control.next() => Wake::Control(message),
                () = changed(outputs) => Wake::Output,
                () = changed(printed) => Wake::Printed,
                () = changed(others) => Wake::Events,
            }
        });
        let mut events = pin!(events.ready());
        let mut slept = false;
        poll_fn(move |context| {
            if slept && events.as_mut().poll(context).is_ready() {
                return Poll::Ready(Wake::Events);
            }
            if let Poll::Ready(wake) = others.as_mut().poll(context) {
                return Poll::Ready(wake);
            }
            if !slept && events.as_mut().poll(context).is_ready() {
                return Poll::Ready(Wake::Events);
            }
            slept = true;
            Poll::Pending
        })
        .await
    }
}

async fn kept(keeper: Option<&Keeper>) {
    match keeper {
        Some(keeper) => keeper.reported().await,
        None => std::future::pending().await,
    }
}

async fn changed(descriptor: Option<&Descriptor>) {
    match descriptor {
        Some(descriptor) => descriptor.ready().await,
        None => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::future::Future;
    use std::io::{PipeReader, PipeWriter, Read as _, Write as _};
    use std::task::Context;

    /// No wait of these tests takes so long unless something is broken.
    const DEADLINE: Duration = Duration::from_secs(30);
    const SHORT: Duration = Duration::from_millis(20);

    fn block_on(test: impl Future<Output = ()>) {
        tokio::runtime::Builder::new_current_thread().enable_io().build().unwrap().block_on(test);
    }

    /// What a wait gave, or none within [`DEADLINE`], which a thread keeps since timers are what is tested.
    async fn within_deadline<T>(wait: impl Future<Output = T>) -> Option<T> {
        let (over, mut limit) = mpsc::channel::<()>(1);
        let (done, ended) = std::sync::mpsc::channel::<()>();
        std::thread::spawn(move || {
            let _ = ended.recv_timeout(DEADLINE);
            drop(over);
        });
        let outcome = tokio::select! {
            biased;
            outcome = wait => Some(outcome),
            _ = limit.recv() => None,
        };
        drop(done);
        outcome
    }

    /// Whether a wait is over without waiting.
    fn is_over(wait: impl Future<Output = ()>) -> bool {
        pin!(wait).poll(&mut Context::from_waker(std::task::Waker::noop())) == Poll::Ready(())
    }

    fn pipe() -> (PipeReader, PipeWriter, Descriptor) {
        let (reader, writer) = std::io::pipe().unwrap();
        let descriptor = Descriptor::new(reader.try_clone().unwrap().into(), Interest::READABLE).unwrap();
        (reader, writer, descriptor)
    }

    #[test]
    fn a_descriptor_that_rests_wakes_nobody_and_tells_afterwards() {
        block_on(async {
            let (_one, mut one_writer, mut resting) = pipe();
            let (_other, mut other_writer, other) = pipe();
            resting.rest();
            one_writer.write_all(b"x").unwrap();
            other_writer.write_all(b"x").unwrap();
            // Both are readable when epoll is asked for the other one.
            within_deadline(other.ready()).await.expect("a descriptor that does not rest wakes");
            assert!(!is_over(resting.ready()), "a descriptor that rests was waited for");
            assert!(resting.listen());
            within_deadline(resting.ready()).await.expect("what came during the rest wakes afterwards");
        });
    }

    #[test]
    fn to_listen_twice_is_to_listen_once() {
        block_on(async {
            let (mut reader, mut writer, mut descriptor) = pipe();
            writer.write_all(b"x").unwrap();
            within_deadline(descriptor.ready()).await.expect("it wakes for what was written");
            reader.read_exact(&mut [0]).unwrap();
            assert!(descriptor.listen() && descriptor.listen());
            assert!(!is_over(descriptor.ready()), "nothing is there to read");
            writer.write_all(b"x").unwrap();
            within_deadline(descriptor.ready()).await.expect("it wakes again");
        });
    }

    #[test]
    fn a_descriptor_of_urgent_data_does_not_wake_for_other_data() {
        block_on(async {
            let server = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
            let sender = std::net::TcpStream::connect(server.local_addr().unwrap()).unwrap();
            let (receiver, _) = server.accept().unwrap();
            let urgent = Descriptor::new(receiver.try_clone().unwrap().into(), Interest::PRIORITY).unwrap();
            let plain = Descriptor::new(receiver.into(), Interest::READABLE).unwrap();
            (&sender).write_all(b"x").unwrap();
            within_deadline(plain.ready()).await.expect("data came");
            assert!(!is_over(urgent.ready()));
            rustix::net::send(&sender, b"!", rustix::net::SendFlags::OOB).unwrap();
            within_deadline(changed(Some(&urgent))).await.expect("urgent data came");
            assert!(!is_over(changed(None)));
        });
    }

    #[test]
    fn a_timer_wakes_when_its_time_has_come_and_not_before() {
        block_on(async {
            let mut timer = Timer::new().unwrap();
            let at = Instant::now() + SHORT;
            within_deadline(timer.until(Some(at))).await.expect("its time comes");
            assert!(Instant::now() >= at);
            let before = Instant::now();
            within_deadline(timer.until(Some(at))).await.expect("a time that is past comes at once");
            assert!(before.elapsed() < DEADLINE / 2);
            assert!(!is_over(timer.until(None)), "no time never comes");
        });
    }

    #[test]
    fn a_time_that_is_past_again_and_again_leaves_others_their_turn() {
        block_on(async {
            let (mut timer, at) = (Timer::new().unwrap(), Instant::now());
            let (ran, mut other) = mpsc::channel::<()>(1);
            tokio::spawn(async move { drop(ran) });
            while !other.is_closed() {
                timer.until(Some(at)).await;
                assert!(at.elapsed() < DEADLINE, "the other task never ran");
            }
            assert_eq!(other.recv().await, None);
        });
    }

    #[test]
    fn an_earlier_deadline_beats_the_one_that_is_set() {
        block_on(async {
            let mut timer = Timer::new().unwrap();
            assert!(!is_over(timer.until(Some(Instant::now() + DEADLINE * 100))));
            let at = Instant::now() + SHORT;
            within_deadline(timer.until(Some(at))).await.expect("the earlier time comes");
            assert!(Instant::now() >= at);
        });
    }

    #[test]
    fn a_deadline_that_moved_on_is_not_kept_too_early() {
        block_on(async {
            let mut timer = Timer::new().unwrap();
            assert!(!is_over(timer.until(Some(Instant::now() + SHORT))));
            let at = Instant::now() + SHORT * 5;
            within_deadline(timer.until(Some(at))).await.expect("the later time comes");
            assert!(Instant::now() >= at);
        });
    }
}
