//! The host: a child `python3` that executes the configuration and runs its custom jobs.
//!
//! Owns the child process, its socket and the frames on it. Leaves to the loop what a frame means. Each generation of
//! the configuration has a host of its own, so that a reload starts from a fresh interpreter beside the old one, and a
//! generation ends with its process. The loop never waits for a host: frames to it are queued, frames from it come
//! through one channel, and its death is told by its process, not by its socket, which a forked child may hold open.

pub(crate) mod interpreter;
pub(crate) mod wire;

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::net::UnixStream as StdUnixStream;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use rustix::fs::{MemfdFlags, memfd_create};
use rustix::io::{FdFlags, fcntl_setfd};
use rustix::process::{Pid, Signal, kill_process_group};
use tokio::io::AsyncReadExt as _;
use tokio::io::AsyncWriteExt as _;
use tokio::net::UnixStream;
use tokio::net::unix::ReadHalf;
use tokio::sync::mpsc;

use crate::service::notify::Notifier;
use wire::{FromHost, WireError};

/// What python3 runs: it makes the bundle importable and starts the host.
const BOOT: &[u8] = include_bytes!("../../python/boot.py");
/// The Python package, with bytecode for the interpreters that were there at the build, see build.rs.
const BUNDLE: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/host.bundle"));
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
    /// Bytes that are not of the protocol; the host is of no more use.
    Broken(HostId, WireError),
    /// The process is gone and everything it had sent was delivered.
    Gone(HostId),
}

/// Ends of the channel through which all hosts talk to the loop.
pub(crate) fn channel() -> (mpsc::Sender<HostEvent>, mpsc::Receiver<HostEvent>) {
    mpsc::channel(FRAMES_MAX)
}

/// A running host. Dropping it kills its process group.
#[derive(Debug)]
pub(crate) struct Host {
    /// Its number.
    pub id: HostId,
    pid: Pid,
    outgoing: mpsc::UnboundedSender<Outgoing>,
    queued: Arc<AtomicUsize>,
    reaped: bool,
}

#[derive(Debug)]
enum Outgoing {
    Frame(Vec<u8>),
    /// The process is dead: deliver what it left in the socket and say so.
    Dead,
}

impl Host {
    /// Starts `python` as a host; it reports through `events`.
    ///
    /// # Errors
    /// Whatever keeps the process or its descriptors from being made.
    pub(crate) fn start(id: HostId, python: &Path, events: mpsc::Sender<HostEvent>) -> io::Result<Host> {
        let (ours, theirs) = StdUnixStream::pair()?;
        ours.set_nonblocking(true)?;
        let pid = spawn(python, &memory_file(BOOT)?, &memory_file(BUNDLE)?, &theirs.into())?;
        let (outgoing, queue) = mpsc::unbounded_channel();
        let queued = Arc::new(AtomicUsize::new(0));
        let connection =
            Connection { id, stream: UnixStream::from_std(ours)?, events, queued: Arc::clone(&queued) };
        tokio::spawn(connection.run(queue));
        let host = Host { id, pid, outgoing, queued, reaped: false };
        host.send(wire::hello());
        Ok(host)
    }

    /// Its process.
    pub(crate) fn pid(&self) -> Pid {
        self.pid
    }

    /// Queues a frame.
    pub(crate) fn send(&self, frame: Vec<u8>) {
        self.queued.fetch_add(frame.len(), Ordering::Relaxed);
        // The connection ends only after its process, whose end the loop is told of; the frame has no reader then.
        let _ = self.outgoing.send(Outgoing::Frame(frame));
    }

    /// Queues a log record, unless the host does not read them.
    pub(crate) fn send_log(&self, frame: Vec<u8>) {
        if self.queued.load(Ordering::Relaxed) < QUEUED_LOG_MAX {
            self.send(frame);
        }
    }

    /// Tells the connection that the process was reaped.
    pub(crate) fn process_ended(&mut self) {
        self.reaped = true;
        let _ = self.outgoing.send(Outgoing::Dead);
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

/// Content in a memory file: the current directory is not on `sys.path`, and both halves are of one build.
fn memory_file(content: &[u8]) -> io::Result<OwnedFd> {
    let file = memfd_create("pyinotifyd", MemfdFlags::CLOEXEC)?;
    let mut rest = content;
    while !rest.is_empty() {
        let count = rustix::io::write(&file, rest)?;
        rest = &rest[count..];
    }
    Ok(file)
}

/// Starts the interpreter. Only the loop's thread starts processes, so that the descriptors which it inherits are
/// inheritable for no other child; ours are closed when this returns to the caller.
fn spawn(python: &Path, boot: &OwnedFd, bundle: &OwnedFd, socket: &OwnedFd) -> io::Result<Pid> {
    for inherited in [boot, bundle, socket] {
        fcntl_setfd(inherited, FdFlags::empty())?;
    }
    let mut command = Command::new(python);
    for variable in Notifier::VARIABLES {
        command.env_remove(variable);
    }
    let child = command
        .arg(format!("/proc/self/fd/{}", boot.as_raw_fd()))
        .arg(socket.as_raw_fd().to_string())
        .arg(bundle.as_raw_fd().to_string())
        .stdin(Stdio::null())
        // A group of its own: Ctrl-C reaches the daemon only, and a signal to the group reaches what jobs started.
        .process_group(0)
        .spawn()?;
    Ok(Pid::from_raw(child.id() as i32).expect("a child's pid is not 0"))
}

/// The socket of one host, served by a task of its own.
struct Connection {
    id: HostId,
    stream: UnixStream,
    events: mpsc::Sender<HostEvent>,
    queued: Arc<AtomicUsize>,
}

/// Why a connection woke.
enum Woken {
    Read(io::Result<usize>),
    Written(io::Result<usize>),
    Queue(Option<Outgoing>),
}

impl Connection {
    async fn run(mut self, mut queue: mpsc::UnboundedReceiver<Outgoing>) {
        let mut incoming = Vec::new();
        let mut outgoing: Vec<u8> = Vec::new();
        let mut open = true;
        loop {
            let (mut reader, mut writer) = self.stream.split();
            let woken = tokio::select! {
                read = read_some(&mut reader, &mut incoming), if open => Woken::Read(read),
                written = writer.write(&outgoing), if open && !outgoing.is_empty() => Woken::Written(written),
                next = queue.recv() => Woken::Queue(next),
            };
            match woken {
                Woken::Read(read) => {
                    open = matches!(read, Ok(count) if count > 0);
                    if !self.deliver(&mut incoming).await {
                        return;
                    }
                }
                Woken::Written(written) => {
                    // An error means that nobody reads any more; the process's end follows.
                    let count = written.unwrap_or(outgoing.len());
                    outgoing.drain(..count);
                    self.queued.fetch_sub(count, Ordering::Relaxed);
                }
                Woken::Queue(Some(Outgoing::Frame(frame))) if open => outgoing.extend_from_slice(&frame),
                Woken::Queue(Some(Outgoing::Frame(frame))) => {
                    self.queued.fetch_sub(frame.len(), Ordering::Relaxed);
                }
                Woken::Queue(Some(Outgoing::Dead)) => return self.finish(incoming).await,
                Woken::Queue(None) => return,
            }
        }
    }

    /// Delivers what a dead host left behind.
    async fn finish(mut self, mut incoming: Vec<u8>) {
        loop {
            let mut chunk = [0; 4096];
            match self.stream.try_read(&mut chunk) {
                Ok(count) if count > 0 => incoming.extend_from_slice(&chunk[..count]),
                _ => break,
            }
        }
        if self.deliver(&mut incoming).await {
            let _ = self.events.send(HostEvent::Gone(self.id)).await;
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
}

async fn read_some(stream: &mut ReadHalf<'_>, incoming: &mut Vec<u8>) -> io::Result<usize> {
    incoming.reserve(READ_SIZE.min(4096 + incoming.len()));
    stream.read_buf(incoming).await
}
