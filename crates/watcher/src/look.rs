//! Looks: the turns of a watcher whose filesystem may not answer, performed on another thread.
//!
//! A look owns the watcher while it is out, so nothing is shared and nothing is locked. What it tells is written to a
//! [`Tape`], which the loop plays when the look is back.

use std::fmt;
use std::time::Instant;

use event::{Event, Mask};

use crate::notice::{Notice, Severity};
use crate::spec::{Sink, Turn, WatchId, WatchSpec};
use crate::watcher::{APART, Handed, Watcher};

/// What a watcher is told to do before its next turn.
#[derive(Debug)]
pub(crate) enum Order {
    /// A watch that it does not know yet.
    Watch(WatchId, WatchSpec),
    Interest(WatchId, Mask),
    Schedules(WatchId, Mask),
    Remove(WatchId),
    /// A path is its to watch.
    Over(Handed),
    /// A path is not its to watch any more.
    Back(WatchId, Vec<u8>),
    MountsChanged,
    /// Everything at and below a path is to be told, or everything.
    Rescan(Option<Vec<u8>>),
}

/// A turn to be made where one may wait for a filesystem.
pub struct Look {
    pub(crate) device: u64,
    pub(crate) point: Vec<u8>,
    pub(crate) watcher: Box<Watcher>,
    pub(crate) orders: Vec<Order>,
    pub(crate) now: Instant,
}

/// What a look brings back.
pub struct Found {
    pub(crate) device: u64,
    pub(crate) outcome: Option<Outcome>,
}

/// A look that came to its end.
pub(crate) struct Outcome {
    /// `None` if it has nothing left to watch.
    pub(crate) watcher: Option<Box<Watcher>>,
    pub(crate) tape: Tape,
    pub(crate) turn: Turn,
}

impl fmt::Debug for Look {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("Look")
            .field("device", &self.device)
            .field("orders", &self.orders)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for Found {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("Found").field("device", &self.device).finish_non_exhaustive()
    }
}

impl Look {
    /// The filesystem that may have to be waited for, by its device.
    pub fn device(&self) -> u64 {
        self.device
    }

    /// Whether it is not about a filesystem but about a tree that is watched apart.
    pub fn is_apart(&self) -> bool {
        self.device >= APART
    }

    /// Where that is mounted, or the tree.
    pub fn point(&self) -> &[u8] {
        &self.point
    }

    /// Makes the turn. This may take as long as the filesystem likes.
    pub fn perform(self) -> Found {
        let Look { device, mut watcher, orders, now, .. } = self;
        let mut tape = Tape::default();
        for order in orders {
            watcher.obey(order, now, &mut tape);
        }
        let turn = watcher.turn(now, &mut tape);
        let watcher = watcher.has_roots().then_some(watcher);
        Found { device, outcome: Some(Outcome { watcher, tape, turn }) }
    }
}

impl Found {
    /// What is found if a look was not performed, or not to its end: its watcher is lost.
    pub fn lost(device: u64) -> Found {
        Found { device, outcome: None }
    }
}

impl Watcher {
    fn obey(&mut self, order: Order, now: Instant, tape: &mut Tape) {
        match order {
            Order::Watch(id, spec) => self.know(id, &spec, now),
            Order::Interest(id, interest) => self.set_interest(id, interest, tape),
            Order::Schedules(id, schedules) => self.set_schedules(id, schedules),
            Order::Remove(id) => self.remove(id, tape),
            Order::Over(handed) => self.take_over(handed),
            Order::Back(id, path) => self.give_back(id, &path, tape),
            Order::MountsChanged => self.mounts_changed(now),
            Order::Rescan(path) => {
                self.rescan(path.as_deref(), now, tape);
            }
        }
    }
}

/// What was told, to be told again on the loop's thread. Bounded by what one turn tells.
#[derive(Default)]
pub(crate) struct Tape(Vec<Record>);

enum Record {
    Event { watch: WatchId, event: OwnedEvent },
    Renamed { watch: WatchId, from: Vec<u8>, to: Option<Vec<u8>> },
    SetAside { watch: WatchId, path: Vec<u8>, aside: Vec<u8> },
    Recovered(WatchId),
    RootElsewhere(Vec<u8>),
    Notice { severity: Severity, text: String },
}

struct OwnedEvent {
    mask: Mask,
    wd: i32,
    cookie: u32,
    is_dir: bool,
    synthetic: bool,
    pathname: Vec<u8>,
    name_len: u16,
    root_len: u16,
    given_path: Option<Vec<u8>>,
    src_pathname: Option<Vec<u8>>,
}

impl Sink for Tape {
    fn event(&mut self, watch: WatchId, event: &Event<'_>) {
        let event = OwnedEvent {
            mask: event.mask,
            wd: event.wd,
            cookie: event.cookie,
            is_dir: event.is_dir,
            synthetic: event.synthetic,
            pathname: event.pathname.to_vec(),
            name_len: event.name_len,
            root_len: event.root_len,
            given_path: event.given_path.map(<[u8]>::to_vec),
            src_pathname: event.src_pathname.map(<[u8]>::to_vec),
        };
        self.0.push(Record::Event { watch, event });
    }

    fn renamed(&mut self, watch: WatchId, from: &[u8], to: Option<&[u8]>) {
        self.0.push(Record::Renamed { watch, from: from.to_vec(), to: to.map(<[u8]>::to_vec) });
    }

    fn set_aside(&mut self, watch: WatchId, path: &[u8], aside: &[u8]) {
        self.0.push(Record::SetAside { watch, path: path.to_vec(), aside: aside.to_vec() });
    }

    fn notice(&mut self, notice: Notice<'_>) {
        self.0.push(match notice {
            Notice::Recovered { watch } => Record::Recovered(watch),
            Notice::RootElsewhere { path } => Record::RootElsewhere(path.to_vec()),
            other => Record::Notice { severity: other.severity(), text: other.to_string() },
        });
    }
}

impl Tape {
    /// Tells all of it, but for watches that are not wanted any more.
    pub(crate) fn play(self, is_wanted: impl Fn(WatchId) -> bool, sink: &mut impl Sink) {
        for record in self.0 {
            match record {
                Record::Event { watch, event } if is_wanted(watch) => sink.event(watch, &event.borrow()),
                Record::Renamed { watch, from, to } if is_wanted(watch) => {
                    sink.renamed(watch, &from, to.as_deref());
                }
                Record::SetAside { watch, path, aside } if is_wanted(watch) => {
                    sink.set_aside(watch, &path, &aside);
                }
                Record::Recovered(watch) if is_wanted(watch) => sink.notice(Notice::Recovered { watch }),
                Record::RootElsewhere(path) => sink.notice(Notice::RootElsewhere { path: &path }),
                Record::Event { .. }
                | Record::Renamed { .. }
                | Record::SetAside { .. }
                | Record::Recovered(_) => {}
                Record::Notice { severity, text } => {
                    sink.notice(Notice::Elsewhere { severity, text: &text });
                }
            }
        }
    }
}

impl OwnedEvent {
    fn borrow(&self) -> Event<'_> {
        Event {
            mask: self.mask,
            wd: self.wd,
            cookie: self.cookie,
            is_dir: self.is_dir,
            synthetic: self.synthetic,
            pathname: &self.pathname,
            name_len: self.name_len,
            root_len: self.root_len,
            given_path: self.given_path.as_deref(),
            src_pathname: self.src_pathname.as_deref(),
        }
    }
}
