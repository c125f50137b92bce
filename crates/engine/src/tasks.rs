//! The tasks of all schedulers: a slab, the lists that run through it, and the paths beside it: the directory of a path
//! once for all tasks in it, the name for each.
//!
//! Owns what a task *is*. When it waits, runs or ends is decided by its [`Scheduler`](crate::scheduler::Scheduler),
//! which also keeps the index from paths to slots and the heads of the lists.

use std::collections::HashMap;
use std::time::Duration;

use event::{Event, Flag, Mask};

use crate::changes::Changes;
use crate::chunks::Chunks;
use crate::clock::Nanos;
use crate::dirs::{DirId, Dirs};
use crate::random::Random;
use crate::texts::{Block, Texts};
use crate::{ERROR_MAX, FailedTask, MapId, OwnedEvent, SchedulerId, Start, TaskHandle, TaskId};

/// A slab that was larger than this gives its memory back when the last task is gone.
const SLAB_KEPT: usize = SLAB_CHUNK;

/// Tasks that memory is taken for at a time: 52 KiB.
const SLAB_CHUNK: usize = 512;

/// A place in the slab.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Slot(pub(crate) u32);

/// No place: the end of a list, an absent length, a task without a rule.
const NONE: u32 = u32::MAX;

/// What a task is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum State {
    /// Its delay runs.
    Waiting,
    /// It ran and found its file in use. It looks again when its time has come.
    PutOff,
    /// It failed, and is tried again when its time has come.
    Retrying,
    /// It is due, and waits until its file has settled. The program is asked when its time has come.
    Settling,
    /// The program was asked whether its file has settled.
    Asked,
    /// It is in the next batch.
    Gathered,
    /// It is due, but must not start yet.
    Queued,
    /// The daemon ends, and leaves it to the next one, which has what is kept of it.
    Left,
    /// The program runs it.
    Running,
    /// The program was told to stop it, and has not yet said that it did.
    Stopping,
    /// The run of another task is for it, too.
    Taken,
}

impl State {
    /// Whether the task's run is still to come.
    pub(crate) fn is_to_come(self) -> bool {
        match self {
            State::Waiting
            | State::PutOff
            | State::Retrying
            | State::Settling
            | State::Asked
            | State::Gathered
            | State::Queued
            | State::Left => true,
            State::Running | State::Stopping | State::Taken => false,
        }
    }
}

/// A list of tasks, first come first. It is the two ends only; the links are beside the tasks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct List {
    first: u32,
    last: u32,
    len: u32,
}

impl List {
    pub(crate) const EMPTY: List = List { first: NONE, last: NONE, len: 0 };

    pub(crate) fn first(&self) -> Option<Slot> {
        (self.first != NONE).then_some(Slot(self.first))
    }

    pub(crate) fn last(&self) -> Option<Slot> {
        (self.last != NONE).then_some(Slot(self.last))
    }

    #[inline]
    pub(crate) fn len(&self) -> u32 {
        self.len
    }
}

/// One task.
#[derive(Clone, Copy)]
struct Task {
    /// The two halves of the id, which would else be followed by a hole.
    id: [u64; 2],
    /// When it was made.
    made: Nanos,
    /// When it is due, while it waits; since when it is queued or runs.
    time: Nanos,
    /// Number of its latest start or question; half of the handle.
    run: u32,
    /// Which try the next run is, or this one; from 1.
    attempt: u32,
    /// Hash of the key, kept so that the index need not read paths to move them.
    hash: u32,
    scheduler: SchedulerId,
    map: MapId,
    rule: u32,
    /// Where the pathname of the latest event begins, to its last slash.
    dir: DirId,
    /// How it goes on and, if [`EXTRA`] is set, an [`Extra`] and what it says.
    text: Block,
    tail_len: u32,
    mask: Mask,
    wd: i32,
    cookie: u32,
    name_len: u16,
    root_len: u16,
    flags: u16,
    state: State,
    /// The event with which the task was started; an event that marks it changes `mask`.
    run_flag: Flag,
}

impl Task {
    fn id(&self) -> TaskId {
        let [high, low] = self.id;
        TaskId(u128::from(high) << 64 | u128::from(low))
    }

    /// A run is for it from now on.
    fn begin_run(&mut self, now: Nanos, state: State) {
        self.run_flag = self.mask.flag().expect("an event without a flag reaches no map");
        self.flags = (self.flags & !RUN_ISDIR) | (u16::from(self.mask.is_dir()) * RUN_ISDIR);
        self.time = now;
        self.state = state;
    }
}

// The budget of a waiting task is 150 bytes with a path of 45: 104 here, 16 for the name, 6 to 12 in the index.
const _: () = assert!(size_of::<Task>() + size_of::<Link>() + size_of::<Sibling>() == 104);

/// What a task counts for the limit of bytes beside its paths: its place here and in the index, about.
pub(crate) const TASK_BYTES: usize = 120;

/// What few tasks have beside all this.
#[derive(Clone, Debug, Default)]
pub(crate) struct More {
    /// When the first of the events came that it waits for; with a max_delay.
    pub(crate) first: Option<Nanos>,
    /// It must not start before: the pause of a retry that an event replaced, or the one that is to come.
    pub(crate) not_before: Nanos,
    /// When it is tried again, once it has ended: its time was over.
    pub(crate) retry: Option<Nanos>,
    /// When it was first due; with settle.
    pub(crate) settles_since: Option<Nanos>,
    /// Why it waits, for people.
    pub(crate) reason: String,
    /// The event of its run, where its path is another one since: its directory was renamed, or an event of another
    /// path came with singlejob.
    pub(crate) run_event: Option<OwnedEvent>,
    /// Its run is that of a batch.
    pub(crate) leads: bool,
    /// What became of its directory during its run.
    pub(crate) renamed: Renamed,
    /// Reruns in a row without a pause.
    pub(crate) reruns: u32,
    /// How often it was tried, in vain, for what an event has replaced since; until it starts.
    pub(crate) tried: u32,
    /// What failed, for a task of an on_failure.
    pub(crate) failed: Option<Failed>,
}

/// What became of the directory of a task during its run, for what comes after the run.
#[derive(Clone, Debug, Default)]
pub(crate) enum Renamed {
    /// Nothing.
    #[default]
    No,
    /// It was renamed, the latest time so, and the path of the task is the new one.
    Followed { from: Box<[u8]>, to: Box<[u8]> },
    /// It was renamed to where the exclude filter or the rules do not want the task.
    Unwanted,
}

/// A task that failed for good, as another task tells it.
#[derive(Clone, Debug)]
pub(crate) struct Failed {
    pub(crate) error: String,
    pub(crate) attempts: u32,
    pub(crate) id: TaskId,
}

/// Neighbours in a list. Apart from the tasks, because putting a task off touches three of these and one of those.
#[derive(Clone, Copy)]
struct Link {
    prev: u32,
    /// Also links the free slots.
    next: u32,
}

/// Neighbours among the tasks of a directory.
#[derive(Clone, Copy)]
struct Sibling {
    prev: u32,
    next: u32,
}

/// Lengths of the paths that few events have, [`NONE`] where the event has none.
#[derive(Clone, Copy)]
struct Extra {
    src_len: u32,
    given_len: u32,
}

/// Bytes of an [`Extra`] in a text.
const EXTRA_LEN: usize = 8;

impl Extra {
    fn of(event: &Event<'_>) -> Option<Extra> {
        if event.src_pathname.is_none() && event.given_path.is_none() {
            return None;
        }
        let len = |path: Option<&[u8]>| path.map_or(NONE, |path| path.len() as u32);
        Some(Extra { src_len: len(event.src_pathname), given_len: len(event.given_path) })
    }

    fn to_bytes(self) -> [u8; EXTRA_LEN] {
        (u64::from(self.src_len) << 32 | u64::from(self.given_len)).to_ne_bytes()
    }

    fn from_bytes(bytes: &[u8]) -> Extra {
        let bytes = bytes.try_into().expect("the caller cut them to length");
        let both = u64::from_ne_bytes(bytes);
        Extra { src_len: (both >> 32) as u32, given_len: both as u32 }
    }

    /// Bytes in the text, with its own.
    fn total_len(self) -> usize {
        EXTRA_LEN + present_len(self.src_len) + present_len(self.given_len)
    }
}

/// The object of the event is a directory.
const IS_DIR: u16 = 1;
/// The event was made up.
const SYNTHETIC: u16 = 2;
/// The task ran before.
const AGAIN: u16 = 4;
/// The mask with which the task was started has [`Mask::ISDIR`].
const RUN_ISDIR: u16 = 8;
/// The event has a source pathname or a given path.
const EXTRA: u16 = 16;
/// The slot holds no task.
const FREE: u16 = 32;
/// That the task found its file in use was recorded.
const IN_USE_TOLD: u16 = 64;
/// It has [`More`].
const MORE: u16 = 128;
/// What an event says of itself.
const OF_EVENT: u16 = IS_DIR | SYNTHETIC | EXTRA;

/// What its scheduler notes of a task.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u16)]
pub(crate) enum Mark {
    /// Its time is not in the order of the list, but in that of the set.
    Odd = 256,
    /// It runs, and is to run again for an event that came meanwhile.
    Again = 512,
    /// It is being stopped, and is to start anew at once.
    Restart = 1_024,
    /// It is being stopped because its time was over, and has failed.
    TimedOut = 2_048,
    /// No path leads to it: it tells of a failure.
    Keyless = 4_096,
    /// It is not asked whether its file has settled.
    Settled = 8_192,
    /// The rules are to be asked when it starts.
    AskRules = 16_384,
    /// It is stopped because the daemon ends; what becomes of it is for the next one to decide. In that next one: its
    /// run is that of the earlier one, which has not ended yet.
    Interrupted = 32_768,
}

/// What a task takes over from an event.
pub(crate) struct News<'a> {
    pub(crate) event: &'a Event<'a>,
    pub(crate) map: MapId,
    pub(crate) rule: Option<usize>,
    /// Hash of the event's path.
    pub(crate) hash: u32,
    /// The task has that path already.
    pub(crate) same_path: bool,
}

/// All tasks.
pub(crate) struct Tasks {
    slots: Chunks<Task, SLAB_CHUNK>,
    links: Chunks<Link, SLAB_CHUNK>,
    siblings: Chunks<Sibling, SLAB_CHUNK>,
    first_free: u32,
    len: u32,
    dirs: Dirs,
    texts: Texts,
    more: HashMap<Slot, Box<More>>,
    /// Why the latest try failed, of tasks that are tried again.
    reasons: HashMap<Slot, Box<str>>,
    /// Bytes of these, and of the errors that tasks tell of.
    error_bytes: usize,
    ids: Random,
    /// Tasks whose id was given, which does not tell their place.
    restored: HashMap<TaskId, Slot>,
    next_run: u32,
    next_order: u64,
    /// What the program that keeps tasks does not know yet; `None` if there is no such program.
    changes: Option<Box<Changes>>,
}

impl Tasks {
    /// No tasks. What names them comes from the seed.
    pub(crate) fn new(seed: u64) -> Tasks {
        Tasks {
            slots: Chunks::new(),
            links: Chunks::new(),
            siblings: Chunks::new(),
            first_free: NONE,
            len: 0,
            dirs: Dirs::new(),
            texts: Texts::new(),
            more: HashMap::new(),
            reasons: HashMap::new(),
            error_bytes: 0,
            ids: Random::new(seed),
            restored: HashMap::new(),
            next_run: 1,
            next_order: 0,
            changes: None,
        }
    }

    pub(crate) fn len(&self) -> u32 {
        self.len
    }

    /// What the tasks count for the limit of bytes: what they need, without what is free.
    #[inline]
    pub(crate) fn bytes(&self) -> usize {
        self.len as usize * TASK_BYTES + self.texts.used_bytes() + self.dirs.bytes() + self.error_bytes
    }

    /// Bytes that were taken from the allocator.
    pub(crate) fn memory_bytes(&self) -> usize {
        let each = size_of::<Task>() + size_of::<Link>() + size_of::<Sibling>();
        self.slots.capacity() * each + self.texts.capacity_bytes() + self.dirs.bytes()
    }

    /// Makes a task with a new id. It is in no list yet.
    #[inline]
    pub(crate) fn insert(&mut self, scheduler: SchedulerId, news: &News<'_>, now: Nanos) -> Slot {
        let event = news.event;
        let (dir, tail) = split(event.pathname, event.name_len);
        let flags = event_flags(event);
        let text = if flags & EXTRA == 0 {
            self.texts.insert(&[tail])
        } else {
            with_parts(tail, event, |parts| self.texts.insert(parts))
        };
        let is_added = self.first_free == NONE;
        let slot = Slot(if is_added { self.slots.len() as u32 } else { self.first_free });
        let task = Task {
            id: halves(TaskId::new(self.ids.next(), self.ids.next(), slot.0)),
            made: now,
            time: 0,
            run: 0,
            attempt: 1,
            hash: news.hash,
            scheduler,
            map: news.map,
            rule: rule_to_u32(news.rule),
            dir: self.dirs.enter(dir),
            text,
            tail_len: tail.len() as u32,
            mask: event.mask,
            wd: event.wd,
            cookie: event.cookie,
            name_len: event.name_len,
            root_len: event.root_len,
            state: State::Waiting,
            run_flag: Flag::Ignored,
            flags,
        };
        self.len += 1;
        if is_added {
            self.slots.push(task);
            self.links.push(Link { prev: NONE, next: NONE });
            self.siblings.push(Sibling { prev: NONE, next: NONE });
        } else {
            self.first_free = self.link(slot).next;
            *self.task_mut(slot) = task;
        }
        self.join_dir(slot);
        self.note(slot);
        slot
    }

    /// Gives a task a later event. Allocates nothing where the texts are as before.
    #[inline]
    pub(crate) fn update(&mut self, slot: Slot, news: &News<'_>) {
        let event = news.event;
        let plain =
            self.task(slot).flags & EXTRA == 0 && event.src_pathname.is_none() && event.given_path.is_none();
        if !(plain && (news.same_path || self.is_path(slot, event.pathname))) {
            self.replace_text(slot, event);
        }
        let task = self.task_mut(slot);
        task.hash = news.hash;
        task.map = news.map;
        task.rule = rule_to_u32(news.rule);
        task.mask = event.mask;
        task.wd = event.wd;
        task.cookie = event.cookie;
        task.name_len = event.name_len;
        task.root_len = event.root_len;
        task.flags = task.flags & !OF_EVENT | event_flags(event);
        self.note(slot);
    }

    #[cold]
    fn replace_text(&mut self, slot: Slot, event: &Event<'_>) {
        let (dir, tail) = split(event.pathname, event.name_len);
        if self.dirs.path(self.task(slot).dir) != dir {
            self.leave_dir(slot, self.task(slot).dir);
            self.task_mut(slot).dir = self.dirs.enter(dir);
            self.join_dir(slot);
        }
        let (text, old_len) = (self.task(slot).text, self.text_len(slot));
        let text = with_parts(tail, event, |parts| self.texts.replace(text, old_len, parts));
        let task = self.task_mut(slot);
        task.text = text;
        task.tail_len = tail.len() as u32;
    }

    /// Puts a task in the list of its directory.
    fn join_dir(&mut self, slot: Slot) {
        let dir = self.task(slot).dir;
        let next = self.dirs.first(dir).map_or(NONE, |next| next.0);
        self.siblings[slot.0 as usize] = Sibling { prev: NONE, next };
        if next != NONE {
            self.siblings[next as usize].prev = slot.0;
        }
        self.dirs.set_first(dir, Some(slot));
    }

    /// Takes a task out of its directory.
    #[inline]
    fn leave_dir(&mut self, slot: Slot, dir: DirId) {
        let Sibling { prev, next } = self.siblings[slot.0 as usize];
        if next != NONE {
            self.siblings[next as usize].prev = prev;
        }
        if prev == NONE {
            self.dirs.set_first(dir, (next != NONE).then_some(Slot(next)));
        } else {
            self.siblings[prev as usize].next = next;
        }
        self.dirs.leave(dir);
    }

    /// The tasks in a directory, whose path has no last slash, and below it, in no order.
    pub(crate) fn below(&self, path: &[u8]) -> Vec<Slot> {
        let mut slots = Vec::new();
        for dir in self.dirs.below(path) {
            let mut next = self.dirs.first(dir);
            while let Some(slot) = next {
                slots.push(slot);
                let after = self.siblings[slot.0 as usize].next;
                next = (after != NONE).then_some(Slot(after));
            }
        }
        slots
    }

    /// Forgets a task, which is in no list any more.
    #[inline]
    pub(crate) fn remove(&mut self, slot: Slot) {
        let task = self.task(slot);
        let (id, flags, dir, text) = (task.id(), task.flags, task.dir, task.text);
        let len = text_len(task, &self.texts);
        if let Some(changes) = &mut self.changes {
            changes.removed(slot, id);
        }
        if flags & MORE != 0 || !self.reasons.is_empty() || !self.restored.is_empty() {
            self.forget_rare(slot, id);
        }
        self.texts.remove(text, len);
        self.leave_dir(slot, dir);
        self.task_mut(slot).flags = FREE;
        self.link_mut(slot).next = self.first_free;
        self.first_free = slot.0;
        self.len -= 1;
        if self.is_slab_idle() || self.texts.is_sparse() {
            self.give_memory_back();
        }
    }

    /// Whether it is empty, and much larger than that.
    fn is_slab_idle(&self) -> bool {
        self.len == 0 && self.slots.capacity() > SLAB_KEPT
    }

    /// Forgets what few tasks have.
    #[cold]
    fn forget_rare(&mut self, slot: Slot, id: TaskId) {
        let failed = self.more.remove(&slot).and_then(|more| more.failed);
        self.error_bytes -= failed.map_or(0, |failed| failed.error.len());
        self.forget_reason(slot);
        self.restored.remove(&id);
    }

    #[cold]
    fn give_memory_back(&mut self) {
        if self.is_slab_idle() {
            self.slots = Chunks::new();
            self.links = Chunks::new();
            self.siblings = Chunks::new();
            self.first_free = NONE;
            self.texts = Texts::new();
            self.more = HashMap::new();
            self.reasons = HashMap::new();
            self.restored = HashMap::new();
        } else {
            let old = std::mem::replace(&mut self.texts, Texts::new());
            for task in self.slots.iter_mut().filter(|task| task.flags & FREE == 0) {
                let text = old.get(task.text, text_len(task, &old));
                task.text = self.texts.insert(&[text]);
            }
        }
    }

    #[inline]
    pub(crate) fn id(&self, slot: Slot) -> TaskId {
        self.task(slot).id()
    }

    #[inline]
    pub(crate) fn state(&self, slot: Slot) -> State {
        self.task(slot).state
    }

    /// Notes what a task does from now on, and the time that is kept of that.
    #[inline]
    pub(crate) fn set_state(&mut self, slot: Slot, state: State, time: Nanos) {
        let task = self.task_mut(slot);
        task.state = state;
        task.time = time;
        self.note(slot);
    }

    /// Leaves a task that has not started, and is in no list, to the next life of the daemon: as it is kept.
    pub(crate) fn leave_behind(&mut self, slot: Slot) {
        self.task_mut(slot).state = State::Left;
    }

    /// The same of a task that was to wait until then.
    pub(crate) fn set_time(&mut self, slot: Slot, time: Nanos) {
        self.task_mut(slot).time = time;
        self.note(slot);
    }

    /// A task is not what it was.
    #[inline]
    pub(crate) fn note(&mut self, slot: Slot) {
        if let Some(changes) = &mut self.changes {
            changes.note(slot);
        }
    }

    /// Whether the program that keeps tasks has this one, as it is or was.
    pub(crate) fn is_taken(&self, slot: Slot) -> bool {
        self.changes.as_ref().is_some_and(|changes| changes.has(slot))
    }

    /// Notes from here on which tasks change.
    pub(crate) fn keep_changes(&mut self) {
        let mut changes = Box::<Changes>::default();
        self.slots().for_each(|slot| changes.note(slot));
        self.changes = Some(changes);
    }

    #[cfg(any(test, feature = "script"))]
    pub(crate) fn forget_changes(&mut self) {
        self.changes = None;
    }

    /// What the program that keeps tasks does not know yet.
    pub(crate) fn changes(&mut self) -> Option<&mut Changes> {
        self.changes.as_deref_mut()
    }

    /// Whether there is a program that keeps tasks.
    #[inline]
    pub(crate) fn are_kept(&self) -> bool {
        self.changes.is_some()
    }

    /// How many tasks have changed, at most.
    pub(crate) fn changed(&self) -> usize {
        self.changes.as_ref().map_or(0, |changes| changes.len())
    }

    /// Whether there may be changes.
    pub(crate) fn has_changes(&self) -> bool {
        self.changes.as_ref().is_some_and(|changes| !changes.is_empty())
    }

    /// Whether a slot holds a task.
    pub(crate) fn is_task(&self, slot: Slot) -> bool {
        self.slots.get(slot.0 as usize).is_some_and(|task| task.flags & FREE == 0)
    }

    #[inline]
    pub(crate) fn time(&self, slot: Slot) -> Nanos {
        self.task(slot).time
    }

    /// Notes that a task is being stopped.
    pub(crate) fn set_stopping(&mut self, slot: Slot) {
        self.task_mut(slot).state = State::Stopping;
        self.note(slot);
    }

    #[inline]
    pub(crate) fn hash(&self, slot: Slot) -> u32 {
        self.task(slot).hash
    }

    #[inline]
    pub(crate) fn rule(&self, slot: Slot) -> Option<usize> {
        let rule = self.task(slot).rule;
        (rule != NONE).then_some(rule as usize)
    }

    /// Gives a task the id that it had before.
    pub(crate) fn set_id(&mut self, slot: Slot, id: TaskId) {
        self.task_mut(slot).id = halves(id);
        self.restored.insert(id, slot);
    }

    /// The task with an id.
    pub(crate) fn find(&self, id: TaskId) -> Option<Slot> {
        let slot = self.restored.get(&id).copied().unwrap_or(Slot(id.place()));
        let task = self.slots.get(slot.0 as usize)?;
        (task.flags & FREE == 0 && task.id == halves(id)).then_some(slot)
    }

    pub(crate) fn set_made(&mut self, slot: Slot, made: Nanos) {
        self.task_mut(slot).made = made;
    }

    pub(crate) fn made(&self, slot: Slot) -> Nanos {
        self.task(slot).made
    }

    #[inline]
    pub(crate) fn attempt(&self, slot: Slot) -> u32 {
        self.task(slot).attempt
    }

    /// How many tries of a task that is to come have failed.
    pub(crate) fn tries(&self, slot: Slot) -> u32 {
        let tried = || self.more(slot).map_or(0, |more| more.tried);
        match self.attempt(slot) {
            0 | 1 => tried(),
            attempt => attempt - 1,
        }
    }

    pub(crate) fn set_attempt(&mut self, slot: Slot, attempt: u32) {
        self.task_mut(slot).attempt = attempt;
        self.note(slot);
    }

    #[inline]
    pub(crate) fn has(&self, slot: Slot, mark: Mark) -> bool {
        self.task(slot).flags & mark as u16 != 0
    }

    #[inline]
    pub(crate) fn set(&mut self, slot: Slot, mark: Mark) {
        self.task_mut(slot).flags |= mark as u16;
    }

    /// Takes a mark away; whether it was there.
    #[inline]
    pub(crate) fn clear(&mut self, slot: Slot, mark: Mark) -> bool {
        let task = self.task_mut(slot);
        let had = task.flags & mark as u16 != 0;
        task.flags &= !(mark as u16);
        had
    }

    /// Whether nothing but a plain run lies before and behind a task: it has no mark that the start or the end of a run
    /// asks for, and nothing that few tasks have.
    #[inline]
    pub(crate) fn is_plain(&self, slot: Slot) -> bool {
        const ASKED_FOR: u16 = MORE
            | Mark::Again as u16
            | Mark::Restart as u16
            | Mark::TimedOut as u16
            | Mark::Keyless as u16
            | Mark::Settled as u16
            | Mark::AskRules as u16
            | Mark::Interrupted as u16;
        self.task(slot).flags & ASKED_FOR == 0
    }

    /// What few tasks have.
    #[inline]
    pub(crate) fn more(&self, slot: Slot) -> Option<&More> {
        (self.task(slot).flags & MORE != 0).then(|| self.rare(slot))
    }

    #[cold]
    fn rare(&self, slot: Slot) -> &More {
        &self.more[&slot]
    }

    pub(crate) fn more_mut(&mut self, slot: Slot) -> &mut More {
        self.task_mut(slot).flags |= MORE;
        self.more.entry(slot).or_default()
    }

    /// What became of a task's directory during its run.
    pub(crate) fn renamed(&self, slot: Slot) -> &Renamed {
        self.more(slot).map_or(&Renamed::No, |more| &more.renamed)
    }

    /// Ends a run: its event is of no use any more. Gives what became of the task's directory meanwhile.
    pub(crate) fn take_renamed(&mut self, slot: Slot) -> Renamed {
        let Some(more) = self.known_more(slot) else { return Renamed::No };
        more.run_event = None;
        std::mem::take(&mut more.renamed)
    }

    /// What a task tells of.
    pub(crate) fn failed(&self, slot: Slot) -> Option<FailedTask<'_>> {
        let failed = self.more(slot)?.failed.as_ref()?;
        Some(FailedTask { error: &failed.error, attempts: failed.attempts, id: failed.id })
    }

    /// Notes what a task tells of.
    pub(crate) fn set_failed(&mut self, slot: Slot, failed: Failed) {
        self.error_bytes += failed.error.len();
        self.more_mut(slot).failed = Some(failed);
        self.note(slot);
    }

    /// Why a task waits, or why its latest try failed.
    pub(crate) fn reason(&self, slot: Slot) -> &str {
        let waits = self.more(slot).map(|more| more.reason.as_str()).filter(|reason| !reason.is_empty());
        waits.or_else(|| self.reasons.get(&slot).map(|reason| &**reason)).unwrap_or_default()
    }

    /// Notes why the latest try of a task failed.
    pub(crate) fn set_reason(&mut self, slot: Slot, text: &str) {
        self.forget_reason(slot);
        let reason = beginning(text, ERROR_MAX);
        self.error_bytes += reason.len();
        self.reasons.insert(slot, reason.into());
    }

    /// What the latest try failed at does not matter any more.
    pub(crate) fn forget_reason(&mut self, slot: Slot) {
        let reason = self.reasons.remove(&slot);
        self.error_bytes -= reason.map_or(0, |reason| reason.len());
    }

    /// The same of a task that has it.
    #[inline]
    pub(crate) fn known_more(&mut self, slot: Slot) -> Option<&mut More> {
        if self.task(slot).flags & MORE == 0 {
            None
        } else {
            self.more.get_mut(&slot).map(|more| &mut **more)
        }
    }

    /// Hands a task over to another scheduler, with a map of its configuration.
    pub(crate) fn set_place(&mut self, slot: Slot, scheduler: SchedulerId, map: MapId) {
        let task = self.task_mut(slot);
        task.scheduler = scheduler;
        task.map = map;
    }

    pub(crate) fn set_rule(&mut self, slot: Slot, rule: Option<usize>) {
        self.task_mut(slot).rule = rule_to_u32(rule);
    }

    /// Whether the latest event is about a directory.
    #[inline]
    pub(crate) fn is_dir(&self, slot: Slot) -> bool {
        self.task(slot).flags & IS_DIR != 0
    }

    /// The kind of the latest event.
    pub(crate) fn flag(&self, slot: Slot) -> Option<Flag> {
        self.task(slot).mask.flag()
    }

    pub(crate) fn set_flag(&mut self, slot: Slot, flag: Flag) {
        let task = self.task_mut(slot);
        task.mask = if task.mask.is_dir() { flag.mask() | Mask::ISDIR } else { flag.mask() };
    }

    /// Whether the task ran before.
    #[inline]
    pub(crate) fn again(&self, slot: Slot) -> bool {
        self.task(slot).flags & AGAIN != 0
    }

    pub(crate) fn set_again(&mut self, slot: Slot) {
        self.task_mut(slot).flags |= AGAIN;
    }

    /// Whether the task found its file in use before.
    pub(crate) fn was_in_use(&self, slot: Slot) -> bool {
        self.task(slot).flags & IN_USE_TOLD != 0
    }

    /// Notes that the task found its file in use; whether that is the first time.
    pub(crate) fn note_in_use(&mut self, slot: Slot) -> bool {
        let task = self.task_mut(slot);
        let first = task.flags & IN_USE_TOLD == 0;
        task.flags |= IN_USE_TOLD;
        first
    }

    /// Whether a task has a path.
    #[inline]
    pub(crate) fn is_path(&self, slot: Slot, path: &[u8]) -> bool {
        let task = self.task(slot);
        let (dir, tail_len) = (self.dirs.path(task.dir), task.tail_len as usize);
        path.len() == dir.len() + tail_len
            && path[dir.len()..] == *self.texts.get(task.text, tail_len)
            && path.starts_with(dir)
    }

    /// The latest event, with its pathname in `path`.
    #[inline]
    pub(crate) fn event<'a>(&'a self, slot: Slot, path: &'a mut Vec<u8>) -> Event<'a> {
        let task = self.task(slot);
        let tail = self.texts.get(task.text, task.tail_len as usize);
        let pathname = joined(self.dirs.path(task.dir), tail, path);
        let (src_pathname, given_path) =
            if task.flags & EXTRA == 0 { (None, None) } else { self.extra_paths(task) };
        Event {
            mask: task.mask,
            wd: task.wd,
            cookie: task.cookie,
            is_dir: task.flags & IS_DIR != 0,
            synthetic: task.flags & SYNTHETIC != 0,
            pathname,
            name_len: task.name_len,
            root_len: task.root_len,
            given_path,
            src_pathname,
        }
    }

    /// Source pathname and given path of the latest event.
    #[cold]
    fn extra_paths(&self, task: &Task) -> (Option<&[u8]>, Option<&[u8]>) {
        let text = self.texts.get(task.text, text_len(task, &self.texts));
        let (extra, paths) = text[task.tail_len as usize..].split_at(EXTRA_LEN);
        let extra = Extra::from_bytes(extra);
        let (src_pathname, given_path) = paths.split_at(present_len(extra.src_len));
        ((extra.src_len != NONE).then_some(src_pathname), (extra.given_len != NONE).then_some(given_path))
    }

    /// The latest event, with the mask of the one with which the task was started.
    #[inline]
    pub(crate) fn event_of_run<'a>(&'a self, slot: Slot, path: &'a mut Vec<u8>) -> Event<'a> {
        let task = self.task(slot);
        if let Some(event) = self.more(slot).and_then(|more| more.run_event.as_ref()) {
            return event.get();
        }
        let mask = task.run_flag.mask();
        let mask = if task.flags & RUN_ISDIR == 0 { mask } else { mask | Mask::ISDIR };
        let mut event = self.event(slot, path);
        event.mask = mask;
        event
    }

    /// A start of a task, with its pathname in `path`.
    #[inline]
    pub(crate) fn start<'a>(&'a self, slot: Slot, late: Duration, path: &'a mut Vec<u8>) -> Start<'a> {
        Start {
            handle: self.handle(slot),
            id: self.id(slot),
            scheduler: self.scheduler(slot),
            event: self.event(slot, path),
            rule: self.rule(slot),
            again: self.again(slot),
            attempt: self.attempt(slot),
            late,
            failed: self.failed(slot),
            batch: &[],
        }
    }

    /// How long a task that is about to run has been due. One that runs again or is new is due now.
    pub(crate) fn late(&self, slot: Slot, now: Nanos) -> Duration {
        let task = self.task(slot);
        let late = if task.state.is_to_come() { now.saturating_sub(task.time.max(task.made)) } else { 0 };
        Duration::from_nanos(late)
    }

    /// Counts a start, which gives the task its handle.
    #[inline]
    pub(crate) fn begin_run(&mut self, slot: Slot, now: Nanos) {
        let run = self.next_run;
        self.next_run = self.next_run.wrapping_add(1);
        let task = self.task_mut(slot);
        task.run = run;
        task.begin_run(now, State::Running);
        self.note(slot);
    }

    /// Lets the run of another task be for this one, too.
    pub(crate) fn take(&mut self, slot: Slot, now: Nanos) {
        self.task_mut(slot).begin_run(now, State::Taken);
        self.note(slot);
    }

    /// Counts a question, which gives the task a handle.
    pub(crate) fn begin_question(&mut self, slot: Slot, now: Nanos) {
        let run = self.next_run;
        self.next_run = self.next_run.wrapping_add(1);
        let task = self.task_mut(slot);
        task.run = run;
        task.time = now;
        task.state = State::Asked;
        self.note(slot);
    }

    /// The task that a question was about; `None` if the answer is of no interest any more.
    pub(crate) fn asked(&self, handle: TaskHandle) -> Option<(Slot, SchedulerId)> {
        let slot = Slot(handle.0 as u32);
        let task = self.slots.get(slot.0 as usize)?;
        (task.state == State::Asked && task.flags & FREE == 0 && task.run == (handle.0 >> 32) as u32)
            .then_some((slot, task.scheduler))
    }

    /// The handle of the latest start.
    #[inline]
    pub(crate) fn handle(&self, slot: Slot) -> TaskHandle {
        TaskHandle(u64::from(self.task(slot).run) << 32 | u64::from(slot.0))
    }

    /// The running task that a handle names, with its scheduler; `None` if that run is over.
    #[inline]
    pub(crate) fn running(&self, handle: TaskHandle) -> Option<(Slot, SchedulerId)> {
        let slot = Slot(handle.0 as u32);
        let task = self.slots.get(slot.0 as usize)?;
        let runs = matches!(task.state, State::Running | State::Stopping);
        (runs && task.flags & FREE == 0 && task.run == (handle.0 >> 32) as u32)
            .then_some((slot, task.scheduler))
    }

    /// The first task at `from` or later.
    pub(crate) fn next(&self, from: u32) -> Option<Slot> {
        (from..self.slots.len() as u32).map(Slot).find(|slot| self.task(*slot).flags & FREE == 0)
    }

    #[inline]
    pub(crate) fn scheduler(&self, slot: Slot) -> SchedulerId {
        self.task(slot).scheduler
    }

    #[inline]
    pub(crate) fn map(&self, slot: Slot) -> MapId {
        self.task(slot).map
    }

    /// All tasks, in no particular order.
    pub(crate) fn slots(&self) -> impl Iterator<Item = Slot> {
        (0..self.slots.len() as u32).map(Slot).filter(|slot| self.task(*slot).flags & FREE == 0)
    }

    /// A number that says in which order tasks came to wait for their time; kept with a task that is in no list.
    pub(crate) fn take_order(&mut self, slot: Slot) -> u64 {
        self.next_order += 1;
        let order = self.next_order;
        *self.link_mut(slot) = Link { prev: (order >> 32) as u32, next: order as u32 };
        order
    }

    pub(crate) fn order(&self, slot: Slot) -> u64 {
        let Link { prev, next } = self.link(slot);
        u64::from(*prev) << 32 | u64::from(*next)
    }

    /// The tasks of a list, the first one first.
    pub(crate) fn in_list(&self, list: List) -> impl Iterator<Item = Slot> {
        std::iter::successors(list.first(), |slot| self.next_in_list(*slot))
    }

    /// The task behind this one in the list that it is in.
    pub(crate) fn next_in_list(&self, slot: Slot) -> Option<Slot> {
        let next = self.link(slot).next;
        (next != NONE).then_some(Slot(next))
    }

    /// Puts a task, which is in no list, at the end of one.
    #[inline]
    pub(crate) fn push(&mut self, list: &mut List, slot: Slot) {
        *self.link_mut(slot) = Link { prev: list.last, next: NONE };
        if list.last == NONE {
            list.first = slot.0;
        } else {
            self.link_mut(Slot(list.last)).next = slot.0;
        }
        list.last = slot.0;
        list.len += 1;
    }

    /// Takes a task out of the list that it is in.
    #[inline]
    pub(crate) fn unlink(&mut self, list: &mut List, slot: Slot) {
        let Link { prev, next } = *self.link(slot);
        if prev == NONE {
            list.first = next;
        } else {
            self.link_mut(Slot(prev)).next = next;
        }
        if next == NONE {
            list.last = prev;
        } else {
            self.link_mut(Slot(next)).prev = prev;
        }
        list.len -= 1;
    }

    #[inline]
    fn text_len(&self, slot: Slot) -> usize {
        text_len(self.task(slot), &self.texts)
    }

    #[inline]
    fn link(&self, slot: Slot) -> &Link {
        &self.links[slot.0 as usize]
    }

    #[inline]
    fn link_mut(&mut self, slot: Slot) -> &mut Link {
        &mut self.links[slot.0 as usize]
    }

    #[inline]
    fn task(&self, slot: Slot) -> &Task {
        &self.slots[slot.0 as usize]
    }

    #[inline]
    fn task_mut(&mut self, slot: Slot) -> &mut Task {
        &mut self.slots[slot.0 as usize]
    }
}

/// As much of a text as bytes allow.
pub(crate) fn beginning(text: &str, bytes_max: usize) -> &str {
    let ends = text.char_indices().map(|(at, one)| at + one.len_utf8());
    &text[..ends.take_while(|end| *end <= bytes_max).last().unwrap_or(0)]
}

fn halves(id: TaskId) -> [u64; 2] {
    [(id.0 >> 64) as u64, id.0 as u64]
}

/// A path, put together in a buffer.
fn joined<'a>(dir: &[u8], tail: &[u8], path: &'a mut Vec<u8>) -> &'a [u8] {
    path.clear();
    path.extend_from_slice(dir);
    path.extend_from_slice(tail);
    path
}

/// A path up to its last slash, and what is behind. Mostly that is the name inside the watched directory.
fn split(path: &[u8], name_len: u16) -> (&[u8], &[u8]) {
    let at = path.len().saturating_sub(usize::from(name_len));
    if name_len > 0 && at > 0 && path[at - 1] == b'/' {
        return path.split_at(at);
    }
    path.split_at(path.iter().rposition(|byte| *byte == b'/').map_or(0, |slash| slash + 1))
}

/// What a task keeps of an event's paths: the tail of the pathname, and what few events have beside that.
#[cold]
fn with_parts<R>(tail: &[u8], event: &Event<'_>, keep: impl FnOnce(&[&[u8]]) -> R) -> R {
    let Some(extra) = Extra::of(event) else { return keep(&[tail]) };
    let src_pathname = event.src_pathname.unwrap_or_default();
    let given_path = event.given_path.unwrap_or_default();
    keep(&[tail, &extra.to_bytes(), src_pathname, given_path])
}

#[inline]
fn text_len(task: &Task, texts: &Texts) -> usize {
    let tail_len = task.tail_len as usize;
    if task.flags & EXTRA == 0 {
        return tail_len;
    }
    let text = texts.get(task.text, tail_len + EXTRA_LEN);
    tail_len + Extra::from_bytes(&text[tail_len..]).total_len()
}

fn present_len(len: u32) -> usize {
    if len == NONE { 0 } else { len as usize }
}

fn event_flags(event: &Event<'_>) -> u16 {
    let extra = event.src_pathname.is_some() || event.given_path.is_some();
    (u16::from(event.is_dir) * IS_DIR) | (u16::from(event.synthetic) * SYNTHETIC) | (u16::from(extra) * EXTRA)
}

fn rule_to_u32(rule: Option<usize>) -> u32 {
    rule.map_or(NONE, |rule| rule as u32)
}
