//! The host: a child `python3` that executes the configuration and runs its custom jobs.
//!
//! Owns the child process, its socket and the frames on it. Leaves to the loop what a frame means. Each generation of
//! the configuration has a host of its own, so that a reload starts from a fresh interpreter beside the old one, and a
//! generation ends with its process. The loop never waits for a host: frames to it are queued, frames from it come
//! through one channel, and its death is told by its process, not by its socket, which a forked child may hold open.
//! The other way round, a host has a lifeline: a pipe into which nobody writes, and that ends with the daemon.

mod bundle;
pub(crate) mod interpreter;
pub(crate) mod wire;

use std::io::{self, ErrorKind, PipeWriter, Read as _, Write as _};
use std::os::fd::{AsFd as _, AsRawFd, BorrowedFd};
use std::os::unix::net::UnixStream as StdUnixStream;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use rustix::buffer::spare_capacity;
use rustix::io::{Errno, FdFlags, fcntl_setfd};
use rustix::process::{Pid, Signal, kill_process_group};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::sync::{mpsc, oneshot};

use crate::service::notify::Notifier;
use wire::{FromHost, WireError};

/// Frames that wait for the loop; a host that talks faster than the loop listens waits in its own buffers.
const FRAMES_MAX: usize = 256;
/// Bytes queued for a host that reads nothing, before log records for it are dropped. Starts are bounded by the window.
const QUEUED_LOG_MAX: usize = 4 << 20;
/// Size of one read of the socket.
const READ_SIZE: usize = 64 << 10;

/// Number of a host in the life of the daemon.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct HostId(pub u32);

/// What a host's connection tells the loop.
#[derive(Debug)]
pub(crate) enum HostEvent {
    /// One frame.
    Frame(HostId, FromHost),
    /// Bytes that are not of the protocol; the host is of no more use. Only its end follows.
    Broken(HostId, WireError),
    /// The process was reaped and everything it had sent was delivered: the last event of each host, and sent for each.
    Gone(HostId, Ending),
}

/// How a process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ending {
    /// With this status.
    Exited(i32),
    /// By this signal.
    Killed(i32),
}

/// Ends of the channel through which all hosts talk to the loop.
pub(crate) fn channel() -> (mpsc::Sender<HostEvent>, mpsc::Receiver<HostEvent>) {
    mpsc::channel(FRAMES_MAX)
}

/// Reads what a configuration defined. It runs on a thread of its own: thousands of watches take longer than the loop
/// may. What the host says after it is told when it is done.
pub(crate) type Reader = Box<dyn FnOnce(&[u8]) + Send>;

/// A running host. Dropping it kills its process group.
#[derive(Debug)]
pub(crate) struct Host {
    /// Its number.
    pub id: HostId,
    pid: Pid,
    queue: Queue,
    reaped: bool,
    /// The kernel kills the host when this is closed, however we end.
    _lifeline: PipeWriter,
}

/// Frames on their way to a host.
#[derive(Clone, Debug)]
pub(crate) struct Queue {
    outgoing: mpsc::UnboundedSender<Outgoing>,
    bytes: Arc<AtomicUsize>,
}

impl Queue {
    /// Queues a frame.
    pub(crate) fn send(&self, frame: Vec<u8>) {
        self.bytes.fetch_add(frame.len(), Ordering::Relaxed);
        // The connection ends only after its process, whose end the loop is told of; the frame has no reader then.
        let _ = self.outgoing.send(Outgoing::Frame(frame));
    }
}

#[derive(Debug)]
enum Outgoing {
    Frame(Vec<u8>),
    /// The process is dead: deliver what it left in the socket and say so.
    Dead(Ending),
}

impl Host {
    /// Starts `python` as a host; it reports through `events`, after its description has been given to `reader`.
    ///
    /// # Errors
    /// Whatever keeps the process or its descriptors from being made.
    pub(crate) fn start(
        id: HostId,
        python: &Path,
        events: mpsc::Sender<HostEvent>,
        reader: Reader,
    ) -> io::Result<Host> {
        let (ours, theirs) = StdUnixStream::pair()?;
        ours.set_nonblocking(true)?;
        let (their_lifeline, lifeline) = io::pipe()?;
        let pid = spawn(python, theirs.as_fd(), their_lifeline.as_fd())?;
        let (outgoing, frames) = mpsc::unbounded_channel();
        let queued = Arc::new(AtomicUsize::new(0));
        let connection = Connection::new(id, ours, (events, reader), Arc::clone(&queued))?;
        tokio::spawn(connection.run(frames));
        let queue = Queue { outgoing, bytes: queued };
        let host = Host { id, pid, queue, reaped: false, _lifeline: lifeline };
        host.send(wire::hello());
        Ok(host)
    }

    /// Its process.
    pub(crate) fn pid(&self) -> Pid {
        self.pid
    }

    /// Whether its process was reaped.
    pub(crate) fn has_ended(&self) -> bool {
        self.reaped
    }

    /// Queues a frame.
    pub(crate) fn send(&self, frame: Vec<u8>) {
        self.queue.send(frame);
    }

    /// What queues frames from another thread.
    pub(crate) fn queue(&self) -> Queue {
        self.queue.clone()
    }

    /// Queues a log record, unless the host does not read them; says whether it was queued.
    pub(crate) fn send_log(&self, frame: Vec<u8>) -> bool {
        let has_room = self.queue.bytes.load(Ordering::Relaxed) < QUEUED_LOG_MAX;
        if has_room {
            self.send(frame);
        }
        has_room
    }

    /// Tells the connection that the process was reaped.
    pub(crate) fn process_ended(&mut self, ending: Ending) {
        self.reaped = true;
        let _ = self.queue.outgoing.send(Outgoing::Dead(ending));
    }

    /// Sends a signal to the host and all that it started in its process group.
    pub(crate) fn kill(&self, signal: Signal) {
        if !self.reaped {
            // ESRCH means that it ended by itself, which the reaper tells.
            let _ = kill_process_group(self.pid, signal);
        }
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        self.kill(Signal::KILL);
    }
}

/// Starts the interpreter. Only the loop's thread starts processes, so that the descriptors which it inherits are
/// inheritable for no other child; ours are closed when `Host::start` is done.
fn spawn(python: &Path, socket: BorrowedFd<'_>, lifeline: BorrowedFd<'_>) -> io::Result<Pid> {
    let (boot, bundle) = (bundle::boot()?, bundle::bundle()?);
    for inherited in [boot.as_fd(), socket, lifeline, bundle.file.as_fd()] {
        fcntl_setfd(inherited, FdFlags::empty())?;
    }
    let mut command = Command::new(python);
    for variable in Notifier::VARIABLES {
        command.env_remove(variable);
    }
    if rustix::process::geteuid().is_root() {
        // No modules from a home directory: at the start of Python, before it could be looked at what is there.
        command.arg("-s");
    }
    let child = command
        .arg(format!("/proc/self/fd/{}", boot.as_raw_fd()))
        .arg(socket.as_raw_fd().to_string())
        .arg(lifeline.as_raw_fd().to_string())
        .arg(bundle.file.as_raw_fd().to_string())
        .arg(bundle.offset.to_string())
        .stdin(Stdio::null())
        // A group of its own: Ctrl-C reaches the daemon only, and a signal to the group reaches what jobs started.
        .process_group(0)
        .spawn()?;
    Ok(Pid::from_raw(child.id() as i32).expect("a child's pid is not 0"))
}

/// The socket of one host, served by a task of its own.
struct Connection {
    id: HostId,
    /// Waits for what the host says, and for nothing else: to wait for room to write wakes us each time the host reads.
    socket: AsyncFd<StdUnixStream>,
    /// The same socket by another descriptor, and the wait for room on it while the socket is full.
    full: Arc<StdUnixStream>,
    room: Option<AsyncFd<Arc<StdUnixStream>>>,
    /// Bytes that the socket has not taken yet.
    outgoing: Vec<u8>,
    events: mpsc::Sender<HostEvent>,
    /// For the one description that a host sends.
    reader: Option<Reader>,
    queued: Arc<AtomicUsize>,
}

/// Why a connection woke.
enum Woken {
    Read(io::Result<usize>),
    Room,
    Queue(Option<Outgoing>),
}

impl Connection {
    fn new(
        id: HostId,
        socket: StdUnixStream,
        (events, reader): (mpsc::Sender<HostEvent>, Reader),
        queued: Arc<AtomicUsize>,
    ) -> io::Result<Connection> {
        let full = Arc::new(socket.try_clone()?);
        let socket = register(socket, Interest::READABLE)?;
        let reader = Some(reader);
        Ok(Connection { id, socket, full, room: None, outgoing: Vec::new(), events, reader, queued })
    }

    async fn run(mut self, mut queue: mpsc::UnboundedReceiver<Outgoing>) {
        let mut incoming = Vec::new();
        let mut open = true;
        loop {
            let woken = tokio::select! {
                read = read_some(&self.socket, &mut incoming), if open => Woken::Read(read),
                () = has_room(self.room.as_ref()), if self.room.is_some() => Woken::Room,
                next = queue.recv() => Woken::Queue(next),
            };
            match woken {
                Woken::Read(read) => {
                    open = matches!(read, Ok(count) if count > 0);
                    if !self.deliver(&mut incoming).await {
                        return self.outlive(queue).await;
                    }
                }
                Woken::Room => self.room = None,
                Woken::Queue(Some(Outgoing::Frame(frame))) => self.outgoing.extend_from_slice(&frame),
                Woken::Queue(Some(Outgoing::Dead(ending))) => return self.finish(incoming, ending).await,
                Woken::Queue(None) => return,
            }
            // Frames that were queued together go out together.
            if self.room.is_none() && queue.is_empty() {
                self.write();
            }
        }
    }

    /// Writes what the socket takes.
    fn write(&mut self) {
        let mut count = 0;
        while count < self.outgoing.len() {
            match self.socket.get_ref().write(&self.outgoing[count..]) {
                Ok(written) => count += written,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    // Without memory for that in the kernel, the next frame tries again.
                    self.room = register(Arc::clone(&self.full), Interest::WRITABLE).ok();
                    break;
                }
                // Nobody reads any more; the process's end follows.
                Err(_) => count = self.outgoing.len(),
            }
        }
        self.outgoing.drain(..count);
        self.queued.fetch_sub(count, Ordering::Relaxed);
    }

    /// Delivers what a dead host left behind.
    async fn finish(mut self, mut incoming: Vec<u8>, ending: Ending) {
        let mut chunk = [0; 4096];
        while let Ok(count @ 1..) = self.socket.get_ref().read(&mut chunk) {
            incoming.extend_from_slice(&chunk[..count]);
        }
        self.deliver(&mut incoming).await;
        let _ = self.events.send(HostEvent::Gone(self.id, ending)).await;
    }

    /// Waits for the end of a host that speaks no sense: it is told like any other.
    async fn outlive(self, mut queue: mpsc::UnboundedReceiver<Outgoing>) {
        while let Some(outgoing) = queue.recv().await {
            if let Outgoing::Dead(ending) = outgoing {
                let _ = self.events.send(HostEvent::Gone(self.id, ending)).await;
            }
        }
    }

    /// Delivers all whole frames; false if the bytes are not of the protocol.
    async fn deliver(&mut self, incoming: &mut Vec<u8>) -> bool {
        let mut start = 0;
        loop {
            let next = wire::next_frame(&incoming[start..]).and_then(|frame| {
                let Some((kind, body)) = frame else { return Ok(None) };
                let end = body.end;
                Ok(Some((wire::decode(kind, &incoming[start..][body])?, end)))
            });
            match next {
                Ok(Some((frame, length))) => {
                    start += length;
                    if let FromHost::Describe(body) = &frame {
                        self.read_description(Arc::clone(body)).await;
                    }
                    let _ = self.events.send(HostEvent::Frame(self.id, frame)).await;
                }
                Ok(None) => break,
                Err(error) => {
                    let _ = self.events.send(HostEvent::Broken(self.id, error)).await;
                    return false;
                }
            }
        }
        incoming.drain(..start);
        true
    }

    /// Waits until a description was read.
    async fn read_description(&mut self, body: Arc<[u8]>) {
        let Some(reader) = self.reader.take() else { return };
        let (done, read) = oneshot::channel::<()>();
        let run = move || {
            reader(&body);
            drop(done);
        };
        // Without a thread the reader is dropped, which says that nothing was read.
        let _ = thread::Builder::new().name("config".to_owned()).spawn(run);
        let _ = read.await;
    }
}

async fn read_some(socket: &AsyncFd<StdUnixStream>, incoming: &mut Vec<u8>) -> io::Result<usize> {
    loop {
        let mut ready = socket.readable().await?;
        incoming.reserve(READ_SIZE.min(4096 + incoming.len()));
        let space = incoming.capacity() - incoming.len();
        match rustix::io::read(socket, spare_capacity(incoming)) {
            Ok(count) => {
                // The socket is empty: what comes from now on makes it ready again (the epoll edge).
                if count < space {
                    ready.clear_ready();
                }
                return Ok(count);
            }
            Err(Errno::INTR) => {}
            Err(Errno::AGAIN) => ready.clear_ready(),
            Err(error) => return Err(error.into()),
        }
    }
}

/// Completes when the socket takes something again; an error is told by the next write.
async fn has_room(socket: Option<&AsyncFd<Arc<StdUnixStream>>>) {
    match socket {
        Some(socket) => drop(socket.writable().await),
        None => std::future::pending().await,
    }
}

#[expect(
    deprecated,
    reason = "the safe constructor is deprecated for owners whose descriptor may change; a socket keeps its own"
)]
fn register<S: AsRawFd>(socket: S, interest: Interest) -> io::Result<AsyncFd<S>> {
    AsyncFd::with_interest(socket, interest)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// No read of these tests takes so long unless something is broken.
    const DEADLINE: std::time::Duration = std::time::Duration::from_secs(30);

    /// Runs a connection beside `test`, which gets the host's end of its socket.
    fn connected<F: Future>(
        test: impl FnOnce(StdUnixStream, mpsc::UnboundedSender<Outgoing>, mpsc::Receiver<HostEvent>) -> F,
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build().unwrap();
        let queued = Arc::new(AtomicUsize::new(0));
        runtime.block_on(async {
            let (ours, theirs) = StdUnixStream::pair().unwrap();
            ours.set_nonblocking(true).unwrap();
            let (events, received) = channel();
            let reader = Box::new(|_: &[u8]| ());
            let connection = Connection::new(HostId(1), ours, (events, reader), Arc::clone(&queued)).unwrap();
            let (outgoing, queue) = mpsc::unbounded_channel();
            let served = tokio::spawn(connection.run(queue));
            test(theirs, outgoing, received).await;
            served.await.unwrap();
        });
    }

    #[test]
    fn what_a_full_socket_does_not_take_follows_when_it_is_read() {
        const FRAME: usize = 1000;
        const FRAMES: usize = 10_000;
        connected(|mut theirs, outgoing, mut received| async move {
            for number in 0..FRAMES {
                outgoing.send(Outgoing::Frame(vec![number as u8; FRAME])).unwrap();
            }
            theirs.set_read_timeout(Some(DEADLINE)).unwrap();
            let (told, read) = tokio::sync::oneshot::channel();
            std::thread::spawn(move || {
                let mut content = vec![0; FRAME * FRAMES];
                theirs.read_exact(&mut content).unwrap();
                // A frame that comes when all is read: the way back is open, too.
                theirs.write_all(&[8, 0, 0, 0, 73, 9, 0, 0, 0, 1, 0, 0, 0]).unwrap();
                told.send(content).unwrap();
            });
            let content = read.await.expect("all of it comes before the deadline");
            let event = received.recv().await;
            assert!(
                matches!(event, Some(HostEvent::Frame(HostId(1), FromHost::Taken { count: 9, open: 1 }))),
                "{event:?}"
            );
            assert!(content.chunks(FRAME).enumerate().all(|(number, frame)| frame == [number as u8; FRAME]));
            drop(outgoing);
        });
    }

    #[test]
    fn what_a_dead_host_left_behind_comes_before_its_end() {
        connected(|mut theirs, outgoing, mut received| async move {
            theirs.write_all(&[8, 0, 0, 0, 73, 1, 0, 0, 0, 8, 0, 0, 0].repeat(FRAMES_MAX - 1)).unwrap();
            drop(theirs);
            outgoing.send(Outgoing::Frame(vec![0; 100])).unwrap();
            outgoing.send(Outgoing::Dead(Ending::Exited(7))).unwrap();
            for _ in 1..FRAMES_MAX {
                let event = received.recv().await;
                assert!(
                    matches!(event, Some(HostEvent::Frame(_, FromHost::Taken { count: 1, .. }))),
                    "{event:?}"
                );
            }
            assert!(matches!(received.recv().await, Some(HostEvent::Gone(HostId(1), Ending::Exited(7)))));
        });
    }

    #[test]
    fn bytes_that_are_no_frame_end_the_connection() {
        connected(|mut theirs, outgoing, mut received| async move {
            theirs.write_all(&[0xff; 64]).unwrap();
            assert!(matches!(received.recv().await, Some(HostEvent::Broken(HostId(1), _))));
            drop(outgoing);
        });
    }
}
