//! Tasks that have ended, as the state has them: read on a lane, since the disk may not answer.
//!
//! A question waits until all that ended before it is written; then it is read, and what was found comes back as a
//! report. A disk that takes nothing now is read all the same, and one that does not answer is not waited for long. The
//! answer to a change waits until it is written, too.

use std::fmt;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use control::api::{EndedView, Filter, List, PathText, Selection, SrcPathText, Time};
use control::{Answering, Peer, Refusal};
use engine::TaskId;
use event::Mask;
use files::Held;
use hashbrown::HashMap;
use ledger::{Ended, Glob, Id, Outcome, Page, Reader};

use super::Reply;
use super::changes::each;
use crate::action::Report;
use crate::action::file::Undo;
use crate::action::undo::{Deed, Refused};
use crate::config::Identity;
use crate::daemon::Daemon;
use crate::daemon::children::signal_name;
use crate::daemon::keep::{Unwritten, event_of, no_heir, told_of};
use crate::daemon::observe::wall_now;
use crate::daemon::perform::Performer;
use crate::daemon::shutdown::State;
use crate::lane::{LaneId, NotPerformed, Once, Size};
use crate::log::record;

/// Rows that one answer has, whatever is asked for.
const ROWS_MAX: u32 = 100_000;

/// Ends of one task that are looked at for what can be undone: one for each time that it was run again.
const RUNS_MAX: u32 = 100;

/// The latest ends below a directory that are looked at for the one that removed it.
const LATER_MAX: u32 = 1_000;

/// How long the answer to a change waits for a disk that does not answer.
const ANSWER_MAX: Duration = Duration::from_secs(2);

/// How long a question waits for one: longer than it takes to read [`ROWS_MAX`] rows.
pub(super) const READ_MAX: Duration = Duration::from_secs(10);

/// Why a question is not answered then.
const NO_ANSWER: &str = "its disk does not answer";

/// The answer to a change, which is given when the change is written.
#[derive(Debug)]
pub(super) struct Promise {
    answer: Answering,
    reply: Reply,
    /// It is written when so many batches are.
    after: u64,
    /// It is given then whatever is written.
    at_last: Instant,
}

impl Promise {
    /// See the field.
    pub(super) fn at_last(&self) -> Instant {
        self.at_last
    }

    pub(super) fn give(self) {
        let _ = self.reply.send(Ok(self.answer));
    }
}

/// Questions that are under way, by number.
#[derive(Debug, Default)]
pub(super) struct Reads {
    next: u64,
    waiting: HashMap<u64, Read>,
    /// Tasks that are being undone, with who asked for it.
    undoing: HashMap<u64, (Undoing, Peer, Reply)>,
}

/// A task that is being undone, or was refused to be.
#[derive(Debug)]
struct Undoing {
    id: Id,
    /// When it had ended.
    ended_s: f64,
    /// What it did, as it is kept.
    kept: String,
}

#[derive(Debug)]
struct Read {
    goal: Goal,
    filters: Vec<ledger::Filter>,
    limit: u32,
    /// What of failed tasks is written later, where these are asked for.
    unwritten: Unwritten,
    reply: Reply,
    /// It is read when so many batches are written; `None` while it is being read.
    after: Option<u64>,
    /// It is refused then. What is read later is of no use, and changes nothing.
    at_last: Instant,
}

impl Reads {
    /// When the next one is refused.
    pub(super) fn at_last(&self) -> Option<Instant> {
        self.waiting.values().map(|read| read.at_last).min()
    }

    fn refuse_late(&mut self, now: Instant) {
        for (_, read) in self.waiting.extract_if(|_, read| read.at_last <= now) {
            read.refuse(NO_ANSWER);
        }
    }
}

impl Read {
    /// The state cannot be read.
    fn refuse(self, why: &str) {
        let refusal = match self.goal {
            Goal::Later { undoing, refused } => not_undone(undoing.id, refused),
            Goal::List { .. } | Goal::Undo { .. } | Goal::Change { .. } => {
                Refusal::unavailable(format!("cannot read the state: {why}"))
            }
        };
        // A client that went away needs no answer.
        let _ = self.reply.send(Err(refusal));
    }
}

fn not_undone(id: Id, why: impl fmt::Display) -> Refusal {
    Refusal::conflict(format!("cannot undo task {id}: {why}"))
}

/// What is done with what is found.
#[derive(Debug)]
enum Goal {
    /// All, or those that failed, as far as they match.
    List {
        failed: Option<Filter>,
    },
    Undo {
        id: String,
        peer: Peer,
    },
    /// A later task that removed the directory for which an undo was refused.
    Later {
        undoing: Undoing,
        refused: Refused,
    },
    Change {
        verb: Verb,
        peer: Peer,
        selection: Selection,
    },
}

/// What is done to failed tasks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verb {
    Retry,
    Forget,
}

/// A failed task that is to be changed.
enum Failed<'a> {
    /// The state has it.
    Kept(&'a Ended),
    /// No state does.
    Remembered(TaskId),
}

/// What a lane has read: a page for each filter.
pub(crate) type Found = Result<Vec<Page>, String>;

impl Daemon {
    /// Lists tasks that have ended, if there is a state.
    pub(super) fn list_ended(
        &mut self,
        filter: Filter,
        failed_only: bool,
        reply: Reply,
        now: Instant,
    ) -> Option<Reply> {
        if self.core.performer.keeper.is_none() {
            return Some(reply);
        }
        let since_s = filter.since.map(|since| wall_now().0 - since);
        let limit = filter.limit.unwrap_or(ROWS_MAX).min(ROWS_MAX);
        let result = filter.state.as_deref().and_then(Outcome::parse);
        let kept = ledger::Filter {
            failed_only,
            since_s,
            result,
            ..of(filter.scheduler.clone(), filter.path.clone())
        };
        let failed = failed_only.then_some(filter);
        self.read(Goal::List { failed }, vec![kept], limit, reply, now);
        None
    }

    /// Runs failed tasks again, or forgets them: at once if there is no state to be read.
    pub(super) fn change_ended(
        &mut self,
        verb: Verb,
        selection: Selection,
        peer: Peer,
        reply: Reply,
        now: Instant,
    ) -> Option<(Result<Answering, Refusal>, Reply)> {
        if self.core.performer.keeper.is_none() {
            return Some((self.change_found(verb, peer, &selection, &[], now), reply));
        }
        let filters = match &selection {
            Selection::Ids(ids) => {
                let with = |id: &String| ledger::Filter { id_prefix: Some(id.clone()), ..of(None, None) };
                ids.iter().map(with).collect()
            }
            Selection::Matching { scheduler, path, .. } => vec![of(scheduler.clone(), path.clone())],
            Selection::All => vec![of(None, None)],
        };
        let failed = |filter| ledger::Filter { failed_only: true, ..filter };
        let filters = filters.into_iter().map(failed).collect();
        self.read(Goal::Change { verb, peer, selection }, filters, ROWS_MAX, reply, now);
        None
    }

    /// Moves back what a task moved, overwrote or deleted, if there is a state.
    pub(super) fn undo(&mut self, id: String, peer: Peer, reply: Reply, now: Instant) -> Option<Reply> {
        if self.core.performer.keeper.is_none() {
            return Some(reply);
        }
        let filter = ledger::Filter { id_prefix: Some(id.clone()), ..of(None, None) };
        self.read(Goal::Undo { id, peer }, vec![filter], RUNS_MAX, reply, now);
        None
    }

    fn read(&mut self, goal: Goal, filters: Vec<ledger::Filter>, limit: u32, reply: Reply, now: Instant) {
        let Some(keeper) = &mut self.core.performer.keeper else { return };
        let after = Some(keeper.hurry(&self.core.engine, now));
        let number = self.control.reads.next;
        self.control.reads.next += 1;
        let at_last = now + READ_MAX;
        let unwritten = Unwritten::default();
        let read = Read { goal, filters, limit, unwritten, reply, after, at_last };
        self.control.reads.waiting.insert(number, read);
    }

    /// Gives the answer to a change as soon as the change survives a crash.
    pub(super) fn answer_when_kept(
        &mut self,
        answer: Result<Answering, Refusal>,
        reply: Reply,
        now: Instant,
    ) {
        let is_running = self.state == State::Running;
        match (answer, self.core.performer.keeper.as_mut().filter(|_| is_running)) {
            (Ok(answer), Some(keeper)) => {
                let after = keeper.hurry(&self.core.engine, now);
                let at_last = now + ANSWER_MAX;
                self.control.promises.push(Promise { answer, reply, after, at_last });
            }
            (answer, _) => {
                // A client that went away needs no answer.
                let _ = reply.send(answer);
            }
        }
    }

    /// Gives answers to changes that are written by now, and lets lanes read what is.
    pub(in crate::daemon) fn advance_kept(&mut self, now: Instant) {
        let engine = &self.core.engine;
        if let Some(keeper) = &self.core.performer.keeper {
            let is_kept = |one: &mut Promise| keeper.has_written(one.after, engine) || one.at_last <= now;
            self.control.promises.extract_if(.., is_kept).for_each(Promise::give);
        }
        self.advance_reads(now);
    }

    fn advance_reads(&mut self, now: Instant) {
        self.control.reads.refuse_late(now);
        if self.control.reads.waiting.is_empty() {
            return;
        }
        let performer = &mut self.core.performer;
        let Some(keeper) = &performer.keeper else { return };
        let directory = keeper.directory().to_owned();
        for (number, read) in &mut self.control.reads.waiting {
            if read.after.is_none_or(|after| !keeper.has_written(after, &self.core.engine)) {
                continue;
            }
            read.after = None;
            if read.filters.iter().all(|filter| filter.failed_only) {
                read.unwritten = keeper.unwritten();
            }
            let device = {
                let path = directory.as_os_str().as_encoded_bytes();
                performer.lanes.filesystems.of_directory(path, now).device
            };
            let (number, query) = (*number, (directory.clone(), read.filters.clone(), read.limit));
            let about = format!("read the state in '{}'", directory.display());
            let run = move || Report::Read(number, look_up(&query));
            let not_performed = move |_: NotPerformed| Report::Read(number, Err(NO_ANSWER.to_owned()));
            let once = Once::new(about, run, not_performed);
            performer.lanes.submit(LaneId::Filesystem(device), Size::Small, once, now);
        }
    }

    /// A lane has read what was asked for.
    pub(in crate::daemon) fn has_read(&mut self, number: u64, found: Found, now: Instant) {
        let Some(read) = self.control.reads.waiting.remove(&number) else { return };
        if let (Err(_), Some(keeper)) = (&found, &mut self.core.performer.keeper) {
            keeper.doubt(now);
        }
        let is_degraded =
            self.core.performer.keeper.as_ref().is_some_and(|keeper| keeper.trouble().is_some());
        let pages = match found {
            Ok(pages) => pages,
            // What the daemon knows is better than nothing.
            Err(_) if is_degraded && read.unwritten.has_failed() => vec![Page::default(); read.filters.len()],
            Err(why) => return read.refuse(&why),
        };
        let Read { goal, reply, unwritten, filters, limit, .. } = read;
        let amended = filters.iter().zip(pages).map(|(filter, page)| unwritten.amend(filter, limit, page));
        let pages: Vec<Page> = amended.collect();
        match goal {
            Goal::List { failed } => {
                let page = pages.into_iter().next().unwrap_or_default();
                let tasks =
                    page.rows.iter().map(|row| view(row, self.name_of(&(&row.subject).into()))).collect();
                let kept = List { tasks, total: page.total.into() };
                let list = match failed {
                    Some(filter) => self.failed_view(&filter, kept, now),
                    None => kept,
                };
                let _ = reply.send(Ok(Answering::of(list)));
            }
            Goal::Undo { id, peer } => match to_undo(&id, &pages) {
                Ok((undoing, deed)) => self.begin_undo(number, undoing, deed, peer, reply, now),
                Err(refusal) => drop(reply.send(Err(refusal))),
            },
            Goal::Later { undoing, refused } => {
                let why = later(&undoing, &refused, &pages)
                    .map_or_else(|| refused.to_string(), |later| refused.after(later));
                let _ = reply.send(Err(not_undone(undoing.id, why)));
            }
            Goal::Change { verb, peer, selection } => {
                let answer = self.change_found(verb, peer, &selection, &pages, now);
                self.answer_when_kept(answer, reply, now);
            }
        }
    }

    fn begin_undo(
        &mut self,
        number: u64,
        undoing: Undoing,
        deed: Deed,
        peer: Peer,
        reply: Reply,
        now: Instant,
    ) {
        let about = format!("undo task {}", undoing.id);
        self.control.reads.undoing.insert(number, (undoing, peer, reply));
        let Performer { files, lanes, .. } = &mut self.core.performer;
        let lane = LaneId::Filesystem(lanes.filesystems.of_parent(deed.path(), now).device);
        let paths = deed.paths();
        let run = move || {
            let mut said = Vec::new();
            let undone = deed.undo(&mut Held::default(), &mut |line| said.push(line));
            Report::Undone(number, said, undone)
        };
        let not = move |_: NotPerformed| {
            Report::Undone(number, Vec::new(), Err(Refused::For(NO_ANSWER.to_owned())))
        };
        files.undo(number, Undo { paths, lane, work: Once::new(about, run, not) }, lanes, now);
    }

    /// A lane has undone a task, or says why not.
    pub(in crate::daemon) fn undone(
        &mut self,
        number: u64,
        said: Vec<String>,
        undone: Result<(), Refused>,
        now: Instant,
    ) {
        let Performer { files, lanes, .. } = &mut self.core.performer;
        files.undone(number, lanes, now);
        let Some((undoing, peer, reply)) = self.control.reads.undoing.remove(&number) else { return };
        let id = undoing.id;
        for line in said {
            record!(self.core.performer.log, self.logger, INFO, "{line}, task_id={id}");
        }
        match undone {
            Ok(()) => {
                self.note_undone(undoing);
                let answer = self.changed("undo", &[TaskId(id.0)], Vec::new(), peer);
                self.answer_when_kept(Ok(answer), reply, now);
            }
            Err(Refused::NoDirectory(missing)) => {
                let filter = ledger::Filter {
                    path: Some(Glob::below(&missing)),
                    since_s: Some(undoing.ended_s),
                    ..ledger::Filter::default()
                };
                let goal = Goal::Later { undoing, refused: Refused::NoDirectory(missing) };
                self.read(goal, vec![filter], LATER_MAX, reply, now);
            }
            Err(why @ Refused::For(_)) => {
                let _ = reply.send(Err(not_undone(id, why)));
            }
        }
    }

    fn note_undone(&mut self, Undoing { id, kept, .. }: Undoing) {
        let deed = Deed::parse(&kept).map(|deed| deed.undone_at(wall_now().0));
        if let (Some(keeper), Some(deed)) = (&mut self.core.performer.keeper, deed) {
            keeper.done_differs(id, kept, deed.to_json());
        }
    }

    fn change_found(
        &mut self,
        verb: Verb,
        peer: Peer,
        selection: &Selection,
        pages: &[Page],
        now: Instant,
    ) -> Result<Answering, Refusal> {
        let remembered = self.remembered(selection);
        if let Selection::Ids(ids) = selection {
            for (place, id) in ids.iter().enumerate() {
                let kept = pages.get(place).map_or(0, |page| page.rows.len());
                match kept + remembered[place].len() {
                    0 => return Err(Refusal::not_found(format!("there is no failed task {id}"))),
                    1 => {}
                    _ => {
                        let text = format!("more than one failed task's id begins with {id}");
                        return Err(Refusal::bad_request(text));
                    }
                }
            }
        }
        let kept = pages.iter().flat_map(|page| page.rows.iter().rev()).map(Failed::Kept);
        let all: Vec<Failed<'_>> =
            kept.chain(remembered.into_iter().flatten().map(Failed::Remembered)).collect();
        if all.is_empty() && matches!(selection, Selection::Matching { .. }) {
            return Err(Refusal::not_found("no failed task matches"));
        }
        // For each page the oldest first; what no state keeps comes last.
        let (done, left) = each(all, |one| match one {
            Failed::Kept(row) => self.change_row(verb, row, now).map(|()| TaskId(row.id.0)),
            Failed::Remembered(id) => self.change_remembered(verb, id, now).map(|()| id),
        })?;
        let name = match verb {
            Verb::Retry => {
                self.offer_places(&done, now);
                "retry"
            }
            Verb::Forget => "forget",
        };
        Ok(self.changed(name, &done, left, peer))
    }

    fn change_row(&mut self, verb: Verb, row: &Ended, now: Instant) -> Result<(), Refusal> {
        let performer = &mut self.core.performer;
        if verb == Verb::Forget {
            if let Some(keeper) = &mut performer.keeper {
                keeper.not_failed(row.id);
            }
            return Ok(());
        }
        let kind = &*row.subject.kind;
        let newest = performer.generations.last();
        let identity = Identity::from(&row.subject);
        let place = newest.and_then(|newest| Some((newest, newest.find(&identity)?)));
        let Some((newest, index)) = place else {
            return Err(Refusal::conflict(no_heir(&self.name_of(&identity), false)));
        };
        let action = newest.action_at(index);
        if action.work.kept_kind() != kind {
            return Err(Refusal::conflict(no_heir(&action.name, true)));
        }
        let (scheduler, persist) = (newest.scheduler(index), action.persist);
        let (told, id) = (told_of(&row.subject), TaskId(row.id.0));
        let is_in_force = |kept: &&String| Deed::parse(kept).is_some_and(|deed| deed.undone_s().is_none());
        self.core.performer.late_deed(id, row.done.as_ref().filter(is_in_force));
        let run = self.run_again(id, scheduler, event_of(&row.subject), told.as_ref(), now);
        run.inspect_err(|_| self.core.performer.forget(id))?;
        if let Some(keeper) = &mut self.core.performer.keeper {
            if persist {
                keeper.runs_again(row.id);
            } else {
                keeper.not_failed(row.id);
            }
        }
        Ok(())
    }
}

/// Of a scheduler, that may stand behind the stem of its file, and a glob.
fn of(scheduler: Option<String>, path: Option<Vec<u8>>) -> ledger::Filter {
    let scheduler = scheduler.map(|name| match name.split_once('/') {
        Some((file, name)) => (Some(file.to_owned()), name.to_owned()),
        None => (None, name),
    });
    ledger::Filter { scheduler, path: path.map(Glob), ..ledger::Filter::default() }
}

fn look_up((directory, filters, limit): &(PathBuf, Vec<ledger::Filter>, u32)) -> Found {
    let reader = Reader::open(directory).map_err(|error| error.to_string())?;
    let pages = filters.iter().map(|filter| reader.ended(filter, *limit));
    pages.collect::<Result<_, _>>().map_err(|error| error.to_string())
}

/// The task whose id begins so, and what it did that is not undone yet.
fn to_undo(id: &str, pages: &[Page]) -> Result<(Undoing, Deed), Refusal> {
    let rows: Vec<&Ended> = pages.iter().flat_map(|page| &page.rows).collect();
    let first =
        rows.first().ok_or_else(|| Refusal::not_found(format!("there is no task {id} in the history")))?;
    if rows.iter().any(|row| row.id != first.id) {
        return Err(Refusal::bad_request(format!("more than one task's id begins with {id}")));
    }
    let deeds = rows.iter().filter_map(|row| {
        let kept = row.done.clone()?;
        let deed = Deed::parse(&kept)?;
        Some((Undoing { id: row.id, ended_s: row.ended_s, kept }, deed))
    });
    let (undone, mut open): (Vec<_>, Vec<_>) = deeds.partition(|(_, deed)| deed.undone_s().is_some());
    if open.is_empty() {
        return Err(if undone.is_empty() {
            Refusal::conflict(format!("task {id} has done nothing that can be undone"))
        } else {
            not_undone(first.id, "it was undone already")
        });
    }
    Ok(open.swap_remove(0))
}

/// The latest task that ended after this one and removed the directory that this one lacks.
fn later(undoing: &Undoing, refused: &Refused, pages: &[Page]) -> Option<Id> {
    let Refused::NoDirectory(missing) = refused else { return None };
    let removed_it = |row: &&Ended| {
        let deed = row.done.as_deref().and_then(Deed::parse);
        row.id != undoing.id && deed.is_some_and(|deed| deed.brings_back(missing))
    };
    pages.iter().flat_map(|page| &page.rows).find(removed_it).map(|row| row.id)
}

fn view(row: &Ended, scheduler: String) -> EndedView {
    let subject = &row.subject;
    let output = row.output.as_ref().map(|output| String::from_utf8_lossy(output).into_owned());
    EndedView {
        id: row.id.to_string(),
        scheduler,
        path: PathText::of(&subject.path),
        src_path: SrcPathText::of(subject.src_path.as_deref()),
        event: Mask(subject.mask).name().to_owned(),
        result: row.result.name().to_owned(),
        error: row.error.clone(),
        exit_status: row.exit_status,
        signal: row.signal.map(signal_name),
        output,
        started: Time(row.started_s),
        ended: Time(row.ended_s),
        duration: (row.ended_s - row.started_s).max(0.0),
        attempts: row.attempts,
        undone: row.done.as_deref().and_then(Deed::parse).and_then(|deed| deed.undone_s()).map(Time),
    }
}
