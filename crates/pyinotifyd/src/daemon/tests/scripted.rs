//! A source without a kernel: it tells what a test has written down.
//!
//! A test says what happens to paths, in which turn. Each watch that sees a path hears of it as far as it is
//! interested, as from any other source. How watches stand is the test's to say as well.

use std::cell::RefCell;
use std::collections::{BTreeMap, VecDeque};
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::rc::Rc;
use std::time::{Duration, Instant, SystemTime};

use event::{Event, Flag, Mask};
use rustix::event::{EventfdFlags, eventfd};
use watcher::{
    Error, Found, Look, Notice, RootState, Sighting, Sink, Source, Stats, Turn, WatchId, WatchSpec,
    WatchState,
};

/// What is told in a turn.
#[derive(Clone, Debug)]
enum Cue {
    /// Something happens to a path.
    Event { flag: Flag, path: Vec<u8>, is_dir: bool, is_synthetic: bool, src: Option<Vec<u8>> },
    /// What an event of a watch says that the source should have forgotten.
    Stray(WatchId, Vec<u8>),
    /// A directory has another path.
    Renamed { from: Vec<u8>, to: Option<Vec<u8>> },
    /// Events were lost.
    Overflow,
    /// What was lost has been looked for.
    Recovered,
    /// What follows is told in a later turn.
    EndOfTurn,
}

/// What a test writes down. See the module's head.
#[derive(Debug)]
pub(super) struct Script {
    cues: VecDeque<Cue>,
    watches: Vec<Option<WatchSpec>>,
    /// Whether watches that were added are set up.
    pub(super) sets_up: bool,
    /// A path that no watch may have.
    pub(super) refused: Option<Vec<u8>>,
    /// Roots that are not simply watched.
    pub(super) standing: BTreeMap<Vec<u8>, RootState>,
    /// Trees whose arrivals somebody asked for; empty for all.
    pub(super) rescans: Vec<Vec<u8>>,
    stats: Stats,
    /// Readable when there is something to tell.
    events: Rc<OwnedFd>,
}

impl Script {
    fn new(events: Rc<OwnedFd>) -> Script {
        Script {
            cues: VecDeque::new(),
            watches: Vec::new(),
            sets_up: true,
            refused: None,
            standing: BTreeMap::new(),
            rescans: Vec::new(),
            stats: Stats::default(),
            events,
        }
    }

    fn cue(&mut self, cue: Cue) -> &mut Script {
        self.cues.push_back(cue);
        rustix::io::write(&*self.events, &1_u64.to_ne_bytes()).unwrap();
        self
    }

    /// Something happens to a file.
    pub(super) fn happens(&mut self, flag: Flag, path: &str) -> &mut Script {
        let path = path.as_bytes().to_vec();
        self.cue(Cue::Event { flag, path, is_dir: false, is_synthetic: false, src: None })
    }

    /// Something happens to a directory.
    pub(super) fn happens_to_dir(&mut self, flag: Flag, path: &str) -> &mut Script {
        let path = path.as_bytes().to_vec();
        self.cue(Cue::Event { flag, path, is_dir: true, is_synthetic: false, src: None })
    }

    /// A file is found that nobody was told of.
    pub(super) fn arrives(&mut self, path: &str) -> &mut Script {
        for flag in [Flag::Create, Flag::CloseWrite] {
            let path = path.as_bytes().to_vec();
            self.cue(Cue::Event { flag, path, is_dir: false, is_synthetic: true, src: None });
        }
        self
    }

    /// The second half of the rename of a file whose first half was told.
    pub(super) fn moved_to(&mut self, from: &str, to: &str) -> &mut Script {
        let (path, src) = (to.as_bytes().to_vec(), Some(from.as_bytes().to_vec()));
        self.cue(Cue::Event { flag: Flag::MovedTo, path, is_dir: false, is_synthetic: false, src })
    }

    /// A directory has another path, or none.
    pub(super) fn renamed(&mut self, from: &str, to: Option<&str>) -> &mut Script {
        let (from, to) = (from.as_bytes().to_vec(), to.map(|to| to.as_bytes().to_vec()));
        self.cue(Cue::Renamed { from, to })
    }

    /// An event of a watch that was removed.
    pub(super) fn strays(&mut self, watch: WatchId, path: &str) -> &mut Script {
        self.cue(Cue::Stray(watch, path.as_bytes().to_vec()))
    }

    /// Events are lost.
    pub(super) fn overflows(&mut self) -> &mut Script {
        self.cue(Cue::Overflow)
    }

    /// What was lost has been looked for.
    pub(super) fn recovers(&mut self) -> &mut Script {
        self.cue(Cue::Recovered)
    }

    /// What follows is told in a later turn.
    pub(super) fn then(&mut self) -> &mut Script {
        self.cue(Cue::EndOfTurn)
    }

    /// Whether all was told.
    pub(super) fn is_over(&self) -> bool {
        self.cues.is_empty()
    }

    /// What each watch wants told.
    pub(super) fn interests(&self) -> Vec<(WatchId, Mask)> {
        self.all().map(|(id, spec)| (id, spec.interest)).collect()
    }

    fn all(&self) -> impl Iterator<Item = (WatchId, &WatchSpec)> {
        let numbered = (0..).map(WatchId).zip(&self.watches);
        numbered.filter_map(|(id, spec)| Some((id, spec.as_ref()?)))
    }

    fn spec(&self, watch: WatchId) -> Option<&WatchSpec> {
        self.watches.get(watch.0 as usize)?.as_ref()
    }

    fn root_state(&self, root: &[u8]) -> RootState {
        self.standing.get(root).copied().unwrap_or(RootState::Watched)
    }

    /// The watches that see a path, with the length of the root through which they do.
    fn seeing(&self, path: &[u8]) -> Vec<(WatchId, usize)> {
        let seen = self.all().filter_map(|(id, spec)| {
            let root = spec.paths.iter().find(|root| sees(spec, root, path))?;
            Some((id, root.len()))
        });
        seen.collect()
    }

    fn perform(&mut self, cue: &Cue, sink: &mut dyn Sink) {
        match cue {
            Cue::Event { flag, path, is_dir, is_synthetic, src } => {
                self.stats.events += u64::from(!is_synthetic);
                for (watch, root_len) in self.seeing(path) {
                    let mask = if *is_dir { flag.mask() | Mask::ISDIR } else { flag.mask() };
                    let event = Event {
                        mask,
                        is_dir: *is_dir,
                        synthetic: *is_synthetic,
                        src_pathname: src.as_deref(),
                        ..event(*flag, path, root_len)
                    };
                    self.tell(watch, &event, sink);
                }
            }
            Cue::Stray(watch, path) => sink.event(*watch, &event(Flag::CloseWrite, path, 0)),
            Cue::Renamed { from, to } => {
                for (watch, _) in self.seeing(from) {
                    let to = to.as_deref().filter(|to| self.seeing(to).iter().any(|(id, _)| *id == watch));
                    sink.renamed(watch, from, to);
                }
            }
            Cue::Overflow => {
                self.stats.overflows += 1;
                let since = Duration::from_secs(1);
                sink.notice(Notice::Overflow { queue_max: 16_384, events: self.stats.events, since });
                for watch in self.all().map(|(id, _)| id).collect::<Vec<_>>() {
                    self.tell(watch, &Event::overflow(), sink);
                }
            }
            Cue::Recovered => {
                for (watch, _) in self.all() {
                    sink.notice(Notice::Recovered { watch });
                }
            }
            Cue::EndOfTurn => {}
        }
    }

    fn tell(&mut self, watch: WatchId, event: &Event<'_>, sink: &mut dyn Sink) {
        if self.spec(watch).is_some_and(|spec| event.mask.intersects(spec.interest)) {
            self.stats.delivered += 1;
            sink.event(watch, event);
        }
    }
}

fn event(flag: Flag, path: &[u8], root_len: usize) -> Event<'_> {
    let name_len = if path.len() == root_len { 0 } else { event::name_len(path) };
    Event {
        mask: flag.mask(),
        wd: 1,
        pathname: path,
        name_len,
        root_len: root_len as u16,
        ..Event::overflow()
    }
}

fn sees(spec: &WatchSpec, root: &[u8], path: &[u8]) -> bool {
    match path.strip_prefix(root) {
        Some([]) => true,
        Some([b'/', below @ ..]) => spec.rec || !below.contains(&b'/'),
        Some(_) | None => false,
    }
}

/// The source that performs a script.
pub(super) struct Scripted {
    script: Rc<RefCell<Script>>,
    events: Rc<OwnedFd>,
}

impl Scripted {
    /// A source and the script of what it tells, which is empty.
    pub(super) fn new() -> (Scripted, Rc<RefCell<Script>>) {
        let events = Rc::new(eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK).unwrap());
        let script = Rc::new(RefCell::new(Script::new(Rc::clone(&events))));
        (Scripted { script: Rc::clone(&script), events }, script)
    }
}

impl Source for Scripted {
    fn pass_over(&mut self, _: Vec<WatchId>) {}

    fn make_room(&mut self, paths: &[&[u8]]) -> Result<(), Error> {
        let script = self.script.borrow();
        let refused = script.refused.as_deref().filter(|refused| paths.contains(refused));
        refused.map_or(Ok(()), |path| Err(Error::TooManyRoots { path: path.to_vec(), max: 0 }))
    }

    fn add(&mut self, spec: WatchSpec, _: Instant, _: &mut dyn Sink) -> Result<WatchId, Error> {
        let mut script = self.script.borrow_mut();
        // As with any source, the number of a watch that was removed is used again.
        let place = script.watches.iter().position(Option::is_none).unwrap_or(script.watches.len());
        if place == script.watches.len() {
            script.watches.push(None);
        }
        script.watches[place] = Some(spec);
        Ok(WatchId(place as u32))
    }

    fn is_set_up(&self, _: WatchId) -> bool {
        self.script.borrow().sets_up
    }

    fn is_watched(&self, watch: WatchId) -> bool {
        let script = self.script.borrow();
        let roots = script.spec(watch).map_or(&[][..], |spec| &spec.paths);
        roots.iter().any(|root| script.root_state(root) == RootState::Watched)
    }

    fn set_interest(&mut self, watch: WatchId, interest: Mask, _: &mut dyn Sink) {
        let mut script = self.script.borrow_mut();
        script.watches[watch.0 as usize].as_mut().expect("the watch is there").interest = interest;
    }

    fn set_schedules(&mut self, watch: WatchId, schedules: Mask) {
        let mut script = self.script.borrow_mut();
        script.watches[watch.0 as usize].as_mut().expect("the watch is there").schedules = schedules;
    }

    fn remove(&mut self, watch: WatchId, _: &mut dyn Sink) {
        let gone = self.script.borrow_mut().watches[watch.0 as usize].take();
        assert!(gone.is_some(), "a watch is removed once");
    }

    fn end_pause(&mut self) {}

    fn turn(&mut self, _: Instant, sink: &mut dyn Sink) -> Turn {
        let mut script = self.script.borrow_mut();
        while let Some(cue) = script.cues.pop_front() {
            script.perform(&cue, sink);
            if matches!(cue, Cue::EndOfTurn) {
                break;
            }
        }
        if script.is_over() { Turn::Idle } else { Turn::More }
    }

    fn deadline(&self) -> Option<Instant> {
        None
    }

    fn events_fd(&self) -> Option<BorrowedFd<'_>> {
        Some(self.events.as_fd())
    }

    fn others_fd(&self) -> Option<BorrowedFd<'_>> {
        None
    }

    fn mounts_fd(&self) -> Option<BorrowedFd<'_>> {
        None
    }

    fn mounts_changed(&mut self, _: Instant) {}

    fn next_look(&mut self, _: Instant) -> Option<Look> {
        None
    }

    fn found(&mut self, found: Found, _: Instant, _: &mut dyn Sink) {
        unreachable!("no look was given away: {found:?}");
    }

    fn can_rescan(&mut self, path: &[u8]) -> bool {
        !self.script.borrow().seeing(path).is_empty()
    }

    fn rescan(&mut self, path: Option<&[u8]>, _: Instant, _: &mut dyn Sink) -> usize {
        let mut script = self.script.borrow_mut();
        let count = path.map_or(script.all().count(), |path| script.seeing(path).len());
        if count > 0 {
            script.rescans.push(path.unwrap_or_default().to_vec());
        }
        count
    }

    fn sightings(&mut self, path: &[u8]) -> Vec<Sighting> {
        let sighting = |(watch, root_len): (WatchId, usize)| {
            let Event { wd, name_len, root_len, .. } = event(Flag::CloseWrite, path, root_len);
            Sighting { watch, wd, root_len, name_len, given_path: None }
        };
        self.script.borrow().seeing(path).into_iter().map(sighting).collect()
    }

    fn watch_state(&self, watch: WatchId) -> WatchState {
        let script = self.script.borrow();
        let roots = script.spec(watch).map_or(&[][..], |spec| &spec.paths);
        let roots = roots.iter().map(|root| (root.clone(), script.root_state(root)));
        WatchState { kernel_watches: roots.len(), roots: roots.collect() }
    }

    fn told(&self) -> u64 {
        self.script.borrow().stats.events
    }

    fn queued(&self) -> u64 {
        self.events_after_all()
    }

    fn events_after_all(&self) -> u64 {
        let script = self.script.borrow();
        let is_read = |cue: &&Cue| matches!(cue, Cue::Event { is_synthetic: false, .. });
        script.stats.events + script.cues.iter().filter(is_read).count() as u64
    }

    fn is_quiet(&self) -> bool {
        self.script.borrow().is_over()
    }

    fn lag(&self, _: Instant) -> Duration {
        Duration::ZERO
    }

    fn complete_until(&self) -> Option<SystemTime> {
        self.is_quiet().then(SystemTime::now)
    }

    fn stats(&self) -> Stats {
        self.script.borrow().stats
    }
}
