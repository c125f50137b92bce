//! The tasks of all schedulers: a slab, the lists that run through it, and the paths beside it.
//!
//! Owns what a task *is*. When it waits, runs or ends is decided by its [`Scheduler`](crate::scheduler::Scheduler),
//! which also keeps the table from paths to slots and the heads of the lists.

use event::{Event, Flag, Mask};

use crate::chunks::Chunks;
use crate::clock::Nanos;
use crate::texts::{Block, Texts};
use crate::{MapId, SchedulerId, TaskHandle, TaskId};

/// A slab that was larger than this gives its memory back when the last task is gone.
const SLAB_KEPT: usize = SLAB_CHUNK;

/// Tasks that memory is taken for at a time, 40 KiB.
const SLAB_CHUNK: usize = 512;

/// A place in the slab.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Slot(pub(crate) u32);

/// No place: the end of a list, an absent length, a task without a rule.
const NONE: u32 = u32::MAX;

/// What a task is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum State {
    /// Its delay runs.
    Waiting,
    /// It is due, but all places of its scheduler are taken.
    Queued,
    /// The program runs it.
    Running,
    /// As `Running`; an event came meanwhile, and it has to run again.
    Marked,
    /// The program was told to stop it, and has not yet said that it did.
    Stopping,
}

/// A list of tasks, first come first; the links are in the tasks.
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

    pub(crate) fn len(&self) -> u32 {
        self.len
    }
}

/// One task. The order of the fields leaves no holes: there may be millions.
struct Task {
    id: TaskId,
    /// When it is due, while it waits; when it was started, while it runs.
    time: Nanos,
    prev: u32,
    /// Also links the free slots.
    next: u32,
    /// Number of its latest start; half of the handle.
    run: u32,
    /// Hash of the key, kept so that a growing table need not read paths.
    hash: u32,
    scheduler: SchedulerId,
    map: MapId,
    rule: u32,
    /// Pathname, source pathname and given path of the latest event, one after the other.
    text: Block,
    path_len: u32,
    src_len: u32,
    given_len: u32,
    mask: Mask,
    wd: i32,
    cookie: u32,
    name_len: u16,
    root_len: u16,
    state: State,
    /// The event with which the task was started; an event that marks it changes `mask`.
    run_flag: Flag,
    flags: u8,
}

/// The object of the event is a directory.
const IS_DIR: u8 = 1;
/// The event was made up.
const SYNTHETIC: u8 = 2;
/// The task ran before.
const AGAIN: u8 = 4;
/// The mask with which the task was started has [`Mask::ISDIR`].
const RUN_ISDIR: u8 = 8;
/// The slot holds no task.
const FREE: u8 = 16;

// The budget of a waiting task is 150 bytes with a path of 45: 80 here, 48 for the path, 6 to 12 in the table.
const _: () = assert!(size_of::<Task>() <= 80);

/// What a task takes over from an event.
pub(crate) struct News<'a> {
    pub(crate) event: &'a Event<'a>,
    pub(crate) map: MapId,
    pub(crate) rule: Option<usize>,
}

/// All tasks.
pub(crate) struct Tasks {
    slots: Chunks<Task, SLAB_CHUNK>,
    first_free: u32,
    len: u32,
    texts: Texts,
    next_id: u64,
    next_run: u32,
}

impl Tasks {
    pub(crate) fn new() -> Tasks {
        Tasks { slots: Chunks::new(), first_free: NONE, len: 0, texts: Texts::new(), next_id: 1, next_run: 1 }
    }

    pub(crate) fn len(&self) -> u32 {
        self.len
    }

    /// Bytes that the paths of the tasks take.
    pub(crate) fn path_bytes(&self) -> usize {
        self.texts.used_bytes()
    }

    /// Bytes that were taken from the allocator.
    pub(crate) fn memory_bytes(&self) -> usize {
        self.slots.capacity() * size_of::<Task>() + self.texts.capacity_bytes()
    }

    /// Makes a task with a new id. It is in no list yet.
    pub(crate) fn insert(&mut self, scheduler: SchedulerId, hash: u32, news: &News<'_>) -> Slot {
        let event = news.event;
        let task = Task {
            id: TaskId(self.next_id),
            time: 0,
            prev: NONE,
            next: NONE,
            run: 0,
            hash,
            scheduler,
            map: news.map,
            rule: rule_to_u32(news.rule),
            text: self.texts.insert(parts(event)),
            path_len: event.pathname.len() as u32,
            src_len: optional_len(event.src_pathname),
            given_len: optional_len(event.given_path),
            mask: event.mask,
            wd: event.wd,
            cookie: event.cookie,
            name_len: event.name_len,
            root_len: event.root_len,
            state: State::Waiting,
            run_flag: Flag::Ignored,
            flags: event_flags(event),
        };
        self.next_id += 1;
        self.len += 1;
        if self.first_free == NONE {
            self.slots.push(task);
            return Slot(self.slots.len() as u32 - 1);
        }
        let slot = Slot(self.first_free);
        self.first_free = self.task(slot).next;
        *self.task_mut(slot) = task;
        slot
    }

    /// Gives a task a later event. Allocates nothing where the texts are as before.
    pub(crate) fn update(&mut self, slot: Slot, news: &News<'_>) {
        let event = news.event;
        let same = self.same_text(slot, event);
        let task = &mut self.slots[slot.0 as usize];
        if !same {
            task.text = self.texts.replace(task.text, text_len(task), parts(event));
            task.path_len = event.pathname.len() as u32;
            task.src_len = optional_len(event.src_pathname);
            task.given_len = optional_len(event.given_path);
        }
        task.map = news.map;
        task.rule = rule_to_u32(news.rule);
        task.mask = event.mask;
        task.wd = event.wd;
        task.cookie = event.cookie;
        task.name_len = event.name_len;
        task.root_len = event.root_len;
        task.flags = task.flags & (AGAIN | RUN_ISDIR) | event_flags(event);
    }

    /// Forgets a task, which is in no list any more.
    pub(crate) fn remove(&mut self, slot: Slot) {
        let first_free = self.first_free;
        let task = &mut self.slots[slot.0 as usize];
        self.texts.remove(task.text, text_len(task));
        task.flags = FREE;
        task.next = first_free;
        self.first_free = slot.0;
        self.len -= 1;
        self.give_memory_back();
    }

    fn give_memory_back(&mut self) {
        if self.len == 0 && self.slots.capacity() > SLAB_KEPT {
            self.slots = Chunks::new();
            self.first_free = NONE;
            self.texts = Texts::new();
        } else if self.texts.is_sparse() {
            let old = std::mem::replace(&mut self.texts, Texts::new());
            for task in self.slots.iter_mut().filter(|task| task.flags & FREE == 0) {
                task.text = self.texts.insert([old.get(task.text, text_len(task)), b"", b""]);
            }
        }
    }

    pub(crate) fn id(&self, slot: Slot) -> TaskId {
        self.task(slot).id
    }

    pub(crate) fn state(&self, slot: Slot) -> State {
        self.task(slot).state
    }

    pub(crate) fn set_state(&mut self, slot: Slot, state: State) {
        self.task_mut(slot).state = state;
    }

    pub(crate) fn time(&self, slot: Slot) -> Nanos {
        self.task(slot).time
    }

    pub(crate) fn set_time(&mut self, slot: Slot, time: Nanos) {
        self.task_mut(slot).time = time;
    }

    pub(crate) fn hash(&self, slot: Slot) -> u32 {
        self.task(slot).hash
    }

    pub(crate) fn rule(&self, slot: Slot) -> Option<usize> {
        let rule = self.task(slot).rule;
        (rule != NONE).then_some(rule as usize)
    }

    /// Whether the task ran before.
    pub(crate) fn again(&self, slot: Slot) -> bool {
        self.task(slot).flags & AGAIN != 0
    }

    pub(crate) fn set_again(&mut self, slot: Slot) {
        self.task_mut(slot).flags |= AGAIN;
    }

    pub(crate) fn pathname(&self, slot: Slot) -> &[u8] {
        let task = self.task(slot);
        self.texts.get(task.text, task.path_len as usize)
    }

    /// The latest event.
    pub(crate) fn event(&self, slot: Slot) -> Event<'_> {
        let task = self.task(slot);
        let (pathname, rest) = self.texts.get(task.text, text_len(task)).split_at(task.path_len as usize);
        let (src_pathname, given_path) = rest.split_at(present_len(task.src_len));
        Event {
            mask: task.mask,
            wd: task.wd,
            cookie: task.cookie,
            is_dir: task.flags & IS_DIR != 0,
            synthetic: task.flags & SYNTHETIC != 0,
            pathname,
            name_len: task.name_len,
            root_len: task.root_len,
            given_path: (task.given_len != NONE).then_some(given_path),
            src_pathname: (task.src_len != NONE).then_some(src_pathname),
        }
    }

    /// The latest event, with the mask of the one with which the task was started.
    pub(crate) fn event_of_run(&self, slot: Slot) -> Event<'_> {
        let task = self.task(slot);
        let mask = task.run_flag.mask();
        let mask = if task.flags & RUN_ISDIR == 0 { mask } else { mask | Mask::ISDIR };
        Event { mask, ..self.event(slot) }
    }

    /// Counts a start, which gives the task its handle.
    pub(crate) fn begin_run(&mut self, slot: Slot, now: Nanos) {
        let run = self.next_run;
        self.next_run = self.next_run.wrapping_add(1);
        let task = self.task_mut(slot);
        task.run = run;
        task.run_flag = task.mask.flag().expect("an event without a flag reaches no map");
        task.flags = (task.flags & !RUN_ISDIR) | (u8::from(task.mask.is_dir()) * RUN_ISDIR);
        task.time = now;
        task.state = State::Running;
    }

    /// The handle of the latest start.
    pub(crate) fn handle(&self, slot: Slot) -> TaskHandle {
        TaskHandle(u64::from(self.task(slot).run) << 32 | u64::from(slot.0))
    }

    /// The running task that a handle names, with its scheduler; `None` if that run is over.
    pub(crate) fn running(&self, handle: TaskHandle) -> Option<(Slot, SchedulerId)> {
        let slot = Slot(handle.0 as u32);
        let task = self.slots.get(slot.0 as usize)?;
        let runs = match task.state {
            State::Running | State::Marked | State::Stopping => true,
            State::Waiting | State::Queued => false,
        };
        (runs && task.flags & FREE == 0 && task.run == (handle.0 >> 32) as u32)
            .then_some((slot, task.scheduler))
    }

    /// The first task at `from` or later that has not started, with its place.
    pub(crate) fn next_unstarted(&self, from: u32) -> Option<(Slot, SchedulerId, MapId)> {
        let unstarted =
            |task: &Task| matches!(task.state, State::Waiting | State::Queued) && task.flags & FREE == 0;
        let slot = (from..self.slots.len() as u32).map(Slot).find(|slot| unstarted(self.task(*slot)))?;
        Some((slot, self.task(slot).scheduler, self.task(slot).map))
    }

    /// The task behind this one in the list that it is in.
    pub(crate) fn next_in_list(&self, slot: Slot) -> Option<Slot> {
        let next = self.task(slot).next;
        (next != NONE).then_some(Slot(next))
    }

    /// Puts a task, which is in no list, at the end of one.
    pub(crate) fn push(&mut self, list: &mut List, slot: Slot) {
        let task = self.task_mut(slot);
        task.prev = list.last;
        task.next = NONE;
        if list.last == NONE {
            list.first = slot.0;
        } else {
            self.slots[list.last as usize].next = slot.0;
        }
        list.last = slot.0;
        list.len += 1;
    }

    /// Takes a task out of the list that it is in.
    pub(crate) fn unlink(&mut self, list: &mut List, slot: Slot) {
        let Task { prev, next, .. } = *self.task(slot);
        if prev == NONE {
            list.first = next;
        } else {
            self.slots[prev as usize].next = next;
        }
        if next == NONE {
            list.last = prev;
        } else {
            self.slots[next as usize].prev = prev;
        }
        list.len -= 1;
    }

    fn same_text(&self, slot: Slot, event: &Event<'_>) -> bool {
        let task = self.task(slot);
        if task.src_len != NONE
            || task.given_len != NONE
            || event.src_pathname.is_some()
            || event.given_path.is_some()
        {
            return false;
        }
        self.texts.get(task.text, task.path_len as usize) == event.pathname
    }

    fn task(&self, slot: Slot) -> &Task {
        &self.slots[slot.0 as usize]
    }

    fn task_mut(&mut self, slot: Slot) -> &mut Task {
        &mut self.slots[slot.0 as usize]
    }
}

fn parts<'a>(event: &Event<'a>) -> [&'a [u8]; 3] {
    [event.pathname, event.src_pathname.unwrap_or_default(), event.given_path.unwrap_or_default()]
}

fn optional_len(text: Option<&[u8]>) -> u32 {
    text.map_or(NONE, |text| text.len() as u32)
}

fn present_len(len: u32) -> usize {
    if len == NONE { 0 } else { len as usize }
}

fn text_len(task: &Task) -> usize {
    task.path_len as usize + present_len(task.src_len) + present_len(task.given_len)
}

fn event_flags(event: &Event<'_>) -> u8 {
    (u8::from(event.is_dir) * IS_DIR) | (u8::from(event.synthetic) * SYNTHETIC)
}

fn rule_to_u32(rule: Option<usize>) -> u32 {
    rule.map_or(NONE, |rule| rule as u32)
}
