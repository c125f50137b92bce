//! Output of commands with `output="log"`: what they write becomes lines for the log.
//!
//! A command writes into two pipes, and the loop reads both as they fill. What is kept of it is bounded: a line that
//! has not ended, the last [`TAIL_MAX`] bytes, the number of lines. What goes beyond the limits is read all the same,
//! so that no command ever waits for us.
//!
//! A task ends with its command. What other processes that hold the pipes write afterwards still becomes lines, until
//! there are more than [`LEFT_MAX`] such tasks.
//!
//! All pipes are in one epoll instance of ours, which the loop waits for as for any other descriptor.

use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};

use hashbrown::HashMap;
use rustix::event::{Timespec, epoll};
use rustix::io::{Errno, ioctl_fionread, read};

use crate::log::LoggerId;

/// Bytes of a line that are logged.
pub(crate) const LINE_MAX: usize = 8 << 10;
/// Lines of a task that are logged.
pub(crate) const LINES_MAX: usize = 1_000;
/// Last bytes of a task's output that are kept with its outcome.
const TAIL_MAX: usize = 4 << 10;
/// Pipes that are read in a turn of the loop: each at most once, [`BUFFER`] bytes.
const READS_A_TURN: usize = 4;
/// Bytes of one read: what a pipe holds (pipe(7)).
const BUFFER: usize = 64 << 10;
/// Tasks that have ended and whose pipes are still held by others; beyond that the oldest pipes are closed.
const LEFT_MAX: usize = 64;

/// Whose output it is: what the records are about.
#[derive(Clone, Debug)]
pub(crate) struct Source {
    /// The scheduler's logger.
    pub logger: LoggerId,
    /// The task's id.
    pub task_id: String,
    /// Name of the event.
    pub event: &'static str,
    /// The event's path.
    pub path: Vec<u8>,
}

/// Where a command wrote something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Channel {
    Stdout,
    Stderr,
}

/// Something for the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Said<'a> {
    /// A line, without its end.
    Line {
        channel: Channel,
        text: &'a [u8],
        /// It was longer than [`LINE_MAX`].
        is_cut: bool,
    },
    /// There were [`LINES_MAX`] lines, and there are more.
    TooMany,
}

/// Takes what commands say.
pub(crate) type Say<'a> = dyn FnMut(&Source, Said<'_>) + 'a;

/// The ends of both pipes for the command.
#[derive(Debug)]
pub(super) struct Writers {
    pub(super) stdout: OwnedFd,
    pub(super) stderr: OwnedFd,
}

/// See the module's head.
#[derive(Debug, Default)]
pub(crate) struct Outputs {
    /// Made for the first pipe.
    epoll: Option<OwnedFd>,
    tasks: HashMap<u64, Output>,
    /// Tasks by the numbers of their outputs: beside the channel, a token of epoll has no room for a task's own.
    numbers: HashMap<u64, u64>,
    /// How many outputs there were.
    opened: u64,
    /// Tasks that have ended and whose pipes are held by others, oldest first.
    left: VecDeque<u64>,
    buffer: Vec<u8>,
}

/// The output of one task.
#[derive(Debug)]
struct Output {
    /// What epoll calls it.
    number: u64,
    source: Source,
    /// The pipes of stdout and stderr, as long as somebody may write.
    pipes: [Option<Pipe>; 2],
    /// Lines that may still be logged; `None` after it was said that there are more.
    lines_left: Option<usize>,
    tail: Vec<u8>,
    has_ended: bool,
}

#[derive(Debug)]
struct Pipe {
    fd: OwnedFd,
    line: Line,
}

/// A line that has not ended.
#[derive(Debug, Default)]
struct Line {
    text: Vec<u8>,
    /// Its beginning was logged as a line that was cut.
    is_cut: bool,
}

const CHANNELS: [Channel; 2] = [Channel::Stdout, Channel::Stderr];

impl Outputs {
    /// Makes the pipes of a task.
    ///
    /// # Errors
    /// As epoll_create(2), pipe(2) and epoll_ctl(2).
    pub(super) fn open(&mut self, task: u64, source: Source) -> io::Result<Writers> {
        let epoll = match self.epoll.take() {
            Some(epoll) => epoll,
            None => epoll::create(epoll::CreateFlags::CLOEXEC)?,
        };
        let epoll = &*self.epoll.insert(epoll);
        let number = self.opened;
        let (stdout, stdout_writer) = pipe(epoll, number, Channel::Stdout)?;
        let (stderr, stderr_writer) = pipe(epoll, number, Channel::Stderr)?;
        self.opened += 1;
        self.numbers.insert(number, task);
        let pipes = [stdout, stderr].map(|fd| Some(Pipe { fd, line: Line::default() }));
        let tail = Vec::new();
        let output = Output { number, source, pipes, lines_left: Some(LINES_MAX), tail, has_ended: false };
        self.tasks.insert(task, output);
        Ok(Writers { stdout: stdout_writer, stderr: stderr_writer })
    }

    /// Lets go of a task's pipes.
    pub(super) fn close(&mut self, task: u64) {
        if let Some(output) = self.tasks.remove(&task) {
            self.numbers.remove(&output.number);
        }
    }

    /// What the loop waits for, if there ever was a pipe.
    pub(crate) fn fd(&self) -> Option<BorrowedFd<'_>> {
        self.epoll.as_ref().map(|epoll| epoll.as_fd())
    }

    /// Reads some of what commands have written; true if there may be more.
    pub(crate) fn read_some(&mut self, say: &mut Say<'_>) -> bool {
        let Some(epoll) = &self.epoll else { return false };
        if self.tasks.is_empty() {
            return false;
        }
        let mut ready = Vec::with_capacity(READS_A_TURN);
        let no_wait = Timespec { tv_sec: 0, tv_nsec: 0 };
        // Which ones are ready goes round in the kernel, so that no pipe waits for another one.
        if epoll::wait(epoll, rustix::buffer::spare_capacity(&mut ready), Some(&no_wait)).is_err() {
            return false;
        }
        self.buffer.resize(BUFFER, 0);
        for event in &ready {
            let token = event.data.u64();
            let (number, channel) = (token >> 1, CHANNELS[(token & 1) as usize]);
            let Some(&task) = self.numbers.get(&number) else { continue };
            let Some(output) = self.tasks.get_mut(&task) else { continue };
            output.read(channel, &mut self.buffer, say);
            if output.has_ended && output.is_closed() {
                self.close(task);
                self.left.retain(|left| *left != task);
            }
        }
        if self.tasks.is_empty() {
            self.buffer = Vec::new();
        }
        !ready.is_empty()
    }

    /// The command of a task has ended: takes all that it wrote, and returns the last of it.
    pub(crate) fn ended(&mut self, task: u64, say: &mut Say<'_>) -> Vec<u8> {
        let Some(output) = self.tasks.get_mut(&task) else { return Vec::new() };
        self.buffer.resize(BUFFER, 0);
        for channel in CHANNELS {
            output.drain(channel, &mut self.buffer, say);
        }
        output.has_ended = true;
        let tail = std::mem::take(&mut output.tail);
        if output.is_closed() {
            self.close(task);
        } else {
            self.left.push_back(task);
            if self.left.len() > LEFT_MAX
                && let Some(oldest) = self.left.pop_front()
            {
                self.close(oldest);
            }
        }
        last(&tail).to_vec()
    }
}

/// A pipe whose reading end is in `epoll` and never blocks.
fn pipe(epoll: &OwnedFd, number: u64, channel: Channel) -> io::Result<(OwnedFd, OwnedFd)> {
    let (reader, writer) = io::pipe()?;
    rustix::io::ioctl_fionbio(&reader, true)?;
    // Outputs are counted from 0 and come nowhere near 2^63.
    let token = number << 1 | u64::from(channel == Channel::Stderr);
    epoll::add(epoll, &reader, epoll::EventData::new_u64(token), epoll::EventFlags::IN)?;
    Ok((reader.into(), writer.into()))
}

/// The end that is kept.
fn last(tail: &[u8]) -> &[u8] {
    &tail[tail.len().saturating_sub(TAIL_MAX)..]
}

impl Output {
    fn is_closed(&self) -> bool {
        self.pipes.iter().all(Option::is_none)
    }

    /// Reads once; how much there was.
    fn read(&mut self, channel: Channel, buffer: &mut [u8], say: &mut Say<'_>) -> usize {
        let Some(pipe) = &self.pipes[channel as usize] else { return 0 };
        match read(&pipe.fd, &mut *buffer) {
            Ok(0) => self.end(channel, say),
            Ok(count) => {
                self.take(channel, &buffer[..count], say);
                return count;
            }
            Err(Errno::AGAIN | Errno::INTR) => {}
            Err(_) => self.end(channel, say),
        }
        0
    }

    /// Reads what is there now, and not what others that hold the pipe write meanwhile. A line that has no end is one.
    fn drain(&mut self, channel: Channel, buffer: &mut [u8], say: &mut Say<'_>) {
        let Some(pipe) = &self.pipes[channel as usize] else { return };
        let mut left = ioctl_fionread(&pipe.fd).unwrap_or(0);
        while left > 0 {
            match self.read(channel, buffer, say) {
                0 => break,
                count => left = left.saturating_sub(count as u64),
            }
        }
        // Its end may be there, too: then nobody else holds the pipe.
        self.read(channel, buffer, say);
        self.flush(channel, say);
    }

    /// Nobody can write any more.
    fn end(&mut self, channel: Channel, say: &mut Say<'_>) {
        self.flush(channel, say);
        self.pipes[channel as usize] = None;
    }

    fn flush(&mut self, channel: Channel, say: &mut Say<'_>) {
        let Some(pipe) = &mut self.pipes[channel as usize] else { return };
        let line = std::mem::take(&mut pipe.line);
        if !line.text.is_empty() {
            self.line(channel, &line.text, false, say);
        }
    }

    fn take(&mut self, channel: Channel, bytes: &[u8], say: &mut Say<'_>) {
        if !self.has_ended {
            self.keep(bytes);
        }
        for piece in bytes.split_inclusive(|byte| *byte == b'\n') {
            if self.lines_left.is_none() {
                return;
            }
            self.piece(channel, piece, say);
        }
    }

    /// A part of a line, perhaps with its end.
    fn piece(&mut self, channel: Channel, piece: &[u8], say: &mut Say<'_>) {
        let Some(pipe) = &mut self.pipes[channel as usize] else { return };
        let (text, has_end) = match piece.strip_suffix(b"\n") {
            Some(text) => (text, true),
            None => (piece, false),
        };
        let mut line = std::mem::take(&mut pipe.line);
        if !line.is_cut {
            let room = LINE_MAX - line.text.len();
            line.text.extend_from_slice(&text[..text.len().min(room)]);
            if text.len() > room {
                line.is_cut = true;
                self.line(channel, &line.text, true, say);
                line.text = Vec::new();
            } else if has_end {
                self.line(channel, &line.text, false, say);
            }
        }
        if !has_end && let Some(pipe) = &mut self.pipes[channel as usize] {
            pipe.line = line;
        }
    }

    fn line(&mut self, channel: Channel, text: &[u8], is_cut: bool, say: &mut Say<'_>) {
        match &mut self.lines_left {
            None => {}
            Some(0) => {
                self.lines_left = None;
                say(&self.source, Said::TooMany);
            }
            Some(left) => {
                *left -= 1;
                let text = text.strip_suffix(b"\r").unwrap_or(text);
                say(&self.source, Said::Line { channel, text, is_cut });
            }
        }
    }

    /// Keeps the end of all that was written.
    fn keep(&mut self, bytes: &[u8]) {
        let bytes = last(bytes);
        if self.tail.len() + bytes.len() > 2 * TAIL_MAX {
            let surplus = self.tail.len().saturating_sub(TAIL_MAX);
            self.tail.drain(..surplus);
        }
        self.tail.extend_from_slice(bytes);
    }
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::io::Write as _;
    use std::time::{Duration, Instant};

    use super::*;
    use crate::log::{Log, Stderr};

    fn source() -> Source {
        let logger = Log::new(Stderr::new()).logger("sched");
        Source { logger, task_id: "id".into(), event: "IN_CREATE", path: b"/w/f".to_vec() }
    }

    struct Heard(Vec<(Channel, Vec<u8>, bool)>, usize);

    impl Heard {
        fn say(&mut self) -> impl FnMut(&Source, Said<'_>) + '_ {
            |_, said| match said {
                Said::Line { channel, text, is_cut } => self.0.push((channel, text.to_vec(), is_cut)),
                Said::TooMany => self.1 += 1,
            }
        }

        fn texts(&self) -> Vec<&[u8]> {
            self.0.iter().map(|(_, text, _)| text.as_slice()).collect()
        }
    }

    /// Its handle has the number of the run in the upper half, which comes to 2^31 in 8 months of 100 a second.
    #[test]
    fn tasks_of_all_numbers_have_their_lines() {
        let tasks = [0, 1, 1 << 32, 1 << 63, 1 << 63 | 1, (1 << 63) - 1, u64::MAX];
        let (mut outputs, mut heard) = (Outputs::default(), Heard(Vec::new(), 0));
        for task in tasks {
            let (mut out, mut err) = open(&mut outputs, task);
            out.write_all(format!("out {task}\n").as_bytes()).unwrap();
            err.write_all(format!("err {task}\n").as_bytes()).unwrap();
        }
        // Each pipe has a turn for its line and another one for its end.
        for _ in 0..4 * tasks.len() {
            outputs.read_some(&mut heard.say());
        }
        let mut found: Vec<_> =
            heard.0.iter().map(|(channel, text, _)| (*channel == Channel::Stderr, text)).collect();
        found.sort();
        let lines = |name| tasks.map(|task| format!("{name} {task}").into_bytes());
        let [mut out, mut err] = ["out", "err"].map(lines);
        out.sort();
        err.sort();
        let wanted = out.iter().map(|line| (false, line)).chain(err.iter().map(|line| (true, line)));
        assert_eq!(found, wanted.collect::<Vec<_>>());
        assert!(outputs.tasks.values().all(Output::is_closed));
    }

    fn open(outputs: &mut Outputs, task: u64) -> (File, File) {
        let Writers { stdout, stderr } = outputs.open(task, source()).unwrap();
        (File::from(stdout), File::from(stderr))
    }

    fn read_all(outputs: &mut Outputs, heard: &mut Heard) {
        while outputs.read_some(&mut heard.say()) {}
    }

    #[test]
    fn what_is_written_comes_in_lines_by_channel() {
        let (mut outputs, mut heard) = (Outputs::default(), Heard(Vec::new(), 0));
        assert!(outputs.fd().is_none() && !outputs.read_some(&mut heard.say()));
        let (mut out, mut err) = open(&mut outputs, 7);
        out.write_all(b"one\ntw").unwrap();
        err.write_all(b"\xff\r\n\nno end").unwrap();
        read_all(&mut outputs, &mut heard);
        out.write_all(b"o\n").unwrap();
        drop((out, err));
        read_all(&mut outputs, &mut heard);
        let lines = |channel| -> Vec<Vec<u8>> {
            let of = heard.0.iter().filter(|(found, ..)| *found == channel);
            of.map(|(_, text, _)| text.clone()).collect()
        };
        assert_eq!(lines(Channel::Stdout), [b"one".to_vec(), b"two".to_vec()]);
        assert_eq!(lines(Channel::Stderr), [b"\xff".to_vec(), b"".to_vec(), b"no end".to_vec()]);
        let tail = outputs.ended(7, &mut heard.say());
        assert_eq!(tail.len(), b"one\ntwo\n".len() + b"\xff\r\n\nno end".len());
        assert!(outputs.tasks.is_empty() && outputs.numbers.is_empty() && outputs.left.is_empty());
        assert!(outputs.ended(7, &mut heard.say()).is_empty());
    }

    #[test]
    fn long_lines_and_many_lines_are_cut() {
        let (mut outputs, mut heard) = (Outputs::default(), Heard(Vec::new(), 0));
        let (mut out, _err) = open(&mut outputs, 1);
        out.write_all(&[b'x'; LINE_MAX]).unwrap();
        out.write_all(b"\n").unwrap();
        out.write_all(&vec![b'y'; 2 * LINE_MAX + 1]).unwrap();
        out.write_all(b"\nafter\n").unwrap();
        read_all(&mut outputs, &mut heard);
        let cuts: Vec<bool> = heard.0.iter().map(|(.., is_cut)| *is_cut).collect();
        assert_eq!(cuts, [false, true, false]);
        assert_eq!(heard.texts()[1], [b'y'; LINE_MAX]);
        assert_eq!(heard.texts()[2], b"after");
        for number in 3..LINES_MAX + 10 {
            writeln!(out, "{number}").unwrap();
            read_all(&mut outputs, &mut heard);
        }
        assert_eq!((heard.0.len(), heard.1), (LINES_MAX, 1));
        let tail = outputs.ended(1, &mut heard.say());
        assert!(tail.ends_with(format!("{}\n", LINES_MAX + 9).as_bytes()) && tail.len() == TAIL_MAX);
    }

    #[test]
    fn a_task_ends_with_its_command_and_others_may_write_on() {
        let (mut outputs, mut heard) = (Outputs::default(), Heard(Vec::new(), 0));
        let (mut out, _err) = open(&mut outputs, 1);
        out.write_all(b"no end").unwrap();
        assert_eq!(outputs.ended(1, &mut heard.say()), b"no end");
        assert_eq!(heard.texts(), [b"no end"]);
        out.write_all(b"later\n").unwrap();
        read_all(&mut outputs, &mut heard);
        assert_eq!(heard.texts(), [b"no end".as_slice(), b"later"]);
        // The pipes of the oldest are closed when there are too many.
        let others: Vec<_> = (0..LEFT_MAX as u64)
            .map(|number| {
                let writers = open(&mut outputs, 10 + number);
                outputs.ended(10 + number, &mut heard.say());
                writers
            })
            .collect();
        assert_eq!(out.write_all(b"x").unwrap_err().kind(), io::ErrorKind::BrokenPipe);
        assert_eq!((outputs.tasks.len(), outputs.numbers.len()), (LEFT_MAX, LEFT_MAX));
        drop(others);
        read_all(&mut outputs, &mut heard);
        assert!(outputs.tasks.is_empty() && outputs.numbers.is_empty() && outputs.left.is_empty());
    }

    /// A writer that is faster than anything else waits for nobody, and costs no memory.
    #[test]
    fn a_flood_is_read_to_its_end() {
        const BYTES: usize = 64 << 20;
        let (mut outputs, mut heard) = (Outputs::default(), Heard(Vec::new(), 0));
        let (mut out, err) = open(&mut outputs, 1);
        drop(err);
        let writer = std::thread::spawn(move || {
            let chunk = b"y\n".repeat(32 << 10);
            (0..BYTES / chunk.len()).for_each(|_| out.write_all(&chunk).unwrap());
        });
        let until = Instant::now() + Duration::from_secs(60);
        while !outputs.tasks[&1].is_closed() {
            assert!(Instant::now() < until, "the end does not come");
            outputs.read_some(&mut heard.say());
            assert!(outputs.tasks[&1].tail.capacity() <= 4 * TAIL_MAX);
        }
        writer.join().unwrap();
        assert_eq!((heard.0.len(), heard.1), (LINES_MAX, 1));
    }
}
