//! The ledger on a real disk: what was committed is there, whatever is done to the process or the file.

#![expect(clippy::unwrap_used, reason = "a test fails where its ground is not as it should be")]

use std::fs;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use ledger::{
    Batch, Ended, Filter, Glob, Id, Ledger, OpenError, Opened, Options, Outcome, Process, Reader, Report,
    Restored, Store, Subject, Task, TaskState, Told,
};

/// What never happens by then never happens.
const DEADLINE: Duration = Duration::from_secs(30);

fn subject(path: &[u8]) -> Subject {
    Subject {
        file: Arc::from("config"),
        scheduler: Arc::from("move"),
        kind: Arc::from("rule"),
        digest: Arc::from("d1"),
        mask: 8,
        is_dir: false,
        synthetic: true,
        path: path.to_vec(),
        name_len: path.iter().rev().take_while(|byte| **byte != b'/').count() as u16,
        root_len: 3,
        src_path: Some(b"/src/\xff".to_vec()),
        given_path: None,
        detail: Some("{}".to_owned()),
    }
}

fn task(id: u128, path: &[u8]) -> Task {
    Task {
        id: Id(id),
        subject: subject(path),
        state: TaskState::Waiting,
        attempt: 1,
        first_s: 1.25,
        waits_s: None,
        settles_s: Some(1.75),
        since_s: 2.5,
        due_s: 1e9 + id as f64,
        error: Some("it's away".to_owned()),
        process: Some(Process { group: 77, started_ticks: u64::MAX }),
    }
}

fn ended(id: u128, path: &[u8], outcome: Outcome) -> Ended {
    Ended {
        id: Id(id),
        subject: subject(path),
        result: outcome,
        error: (outcome == Outcome::Failed).then(|| "exited with status 3".to_owned()),
        exit_status: Some(3),
        signal: None,
        output: Some(b"no \xfe\n".to_vec()),
        attempts: 2,
        first_s: 1.0,
        started_s: 2.0,
        ended_s: id as f64,
        done: None,
    }
}

fn tasks(tasks: impl IntoIterator<Item = Task>) -> Batch {
    Batch { tasks: tasks.into_iter().collect(), ..Batch::default() }
}

fn ends(ended: impl IntoIterator<Item = Ended>) -> Batch {
    Batch { ended: ended.into_iter().map(Arc::new).collect(), ..Batch::default() }
}

/// A ledger at work.
struct Desk {
    ledger: Ledger,
    woken: Receiver<()>,
}

impl Desk {
    fn open(directory: &Path, history_max: u32) -> (Desk, Restored) {
        let Opened { store, restored, damage, trouble } = Store::open(directory).unwrap();
        assert_eq!((damage, trouble), (None, None));
        let (wake, woken) = channel();
        let wake = move || {
            let _ = wake.send(());
        };
        (Desk { ledger: Ledger::start(store, Options { history_max }, wake).unwrap(), woken }, restored)
    }

    fn next_reports(&mut self) -> Vec<Report> {
        self.woken.recv_timeout(DEADLINE).expect("a report");
        self.ledger.take_reports()
    }

    /// Gives a batch, and waits until the next one can follow.
    fn give(&mut self, batch: Batch) -> Vec<Report> {
        self.ledger.commit(batch);
        let mut reports = Vec::new();
        while !self.ledger.is_ready() {
            reports.extend(self.next_reports());
        }
        reports
    }

    fn commit(&mut self, batch: Batch) {
        let reports = self.give(batch);
        assert!(matches!(reports[..], [Report::Committed { recovered: false, .. }]), "{reports:?}");
        assert!(self.ledger.is_ready());
    }

    fn close(self) {
        assert!(self.ledger.close(Instant::now() + DEADLINE));
    }
}

#[test]
fn what_was_committed_comes_back_in_due_order() {
    let directory = tempfile::tempdir().unwrap();
    let (mut desk, restored) = Desk::open(directory.path(), 10);
    assert_eq!(restored, Restored::default());
    let tasks = [task(3, b"/in/c"), task(1, b"/in/a"), task(2, b"/in/\xff\n'")];
    let paused = [("move", true), ("other", true), ("other", false)];
    let paused = paused.map(|(name, paused)| ("config".into(), name.into(), paused)).to_vec();
    desk.commit(Batch { tasks: tasks.to_vec(), paused, ..Batch::default() });
    desk.ledger.commit(Batch { checkpoint_s: Some(9.5), ..Batch::default() });
    desk.close();

    let (desk, restored) = Desk::open(directory.path(), 10);
    let [c, a, b] = tasks;
    assert_eq!(restored.tasks, [a, b, c]);
    assert_eq!(restored.paused, [("config".to_owned(), "move".to_owned())]);
    assert_eq!(restored.checkpoint_s, Some(9.5));
    desk.close();
}

#[test]
fn a_task_that_goes_or_ends_is_there_no_more() {
    let directory = tempfile::tempdir().unwrap();
    let (mut desk, _) = Desk::open(directory.path(), 10);
    desk.commit(tasks((1..=3).map(|id| task(id, b"/in/a"))));
    let again = Task { state: TaskState::Running, attempt: 2, ..task(2, b"/in/b") };
    desk.commit(Batch {
        gone: vec![Id(1), Id(3)],
        tasks: vec![again.clone()],
        ended: vec![Arc::new(ended(3, b"/in/a", Outcome::Failed))],
        ..Batch::default()
    });
    desk.close();
    let (desk, restored) = Desk::open(directory.path(), 10);
    assert_eq!(restored.tasks, [again]);
    assert_eq!(restored.failed.iter().map(|(id, ..)| *id).collect::<Vec<_>>(), [Id(3)]);
    desk.close();
}

#[test]
fn a_task_that_fails_once_more_under_its_id_stands_as_failed_once() {
    let directory = tempfile::tempdir().unwrap();
    let (mut desk, _) = Desk::open(directory.path(), 10);
    for path in [b"/in/a", b"/in/b"] {
        desk.commit(Batch { ended: vec![Arc::new(ended(3, path, Outcome::Failed))], ..Batch::default() });
    }
    desk.close();
    let (desk, restored) = Desk::open(directory.path(), 10);
    assert_eq!(restored.failed, [(Id(3), "config".into(), "move".into())]);
    let failed = Filter { failed_only: true, ..Filter::default() };
    let page = Reader::open(directory.path()).unwrap().ended(&failed, 10).unwrap();
    assert_eq!((page.total, page.rows[0].subject.path.as_slice()), (1, b"/in/b".as_slice()));
    desk.close();
}

#[test]
fn failed_tasks_stay_until_they_are_forgotten_and_history_is_bounded() {
    let directory = tempfile::tempdir().unwrap();
    let (mut desk, _) = Desk::open(directory.path(), 3);
    desk.commit(ends([ended(1, b"/in/failed", Outcome::Failed)]));
    desk.commit(ends((2..=9).map(|id| ended(id, b"/in/x", Outcome::Ok))));
    let reader = Reader::open(directory.path()).unwrap();
    let ids = |filter: &Filter, limit| {
        let page = reader.ended(filter, limit).unwrap();
        (page.rows.iter().map(|row| row.id.0).collect::<Vec<_>>(), page.total)
    };
    let failed = Filter { failed_only: true, ..Filter::default() };
    assert_eq!(ids(&failed, 10), (vec![1], 1));
    assert_eq!(ids(&Filter::default(), 2), (vec![9, 8], 4));
    assert_eq!(reader.ended(&failed, 1).unwrap().rows[0], ended(1, b"/in/failed", Outcome::Failed));
    desk.commit(Batch { not_failed: vec![Id(1)], ..Batch::default() });
    assert_eq!(ids(&failed, 10), (vec![], 0));
    assert_eq!(ids(&Filter::default(), 10), (vec![9, 8, 7], 3));
    desk.close();
}

#[test]
fn a_task_that_is_run_again_and_fails_again_stands_as_failed_once() {
    let directory = tempfile::tempdir().unwrap();
    let (mut desk, _) = Desk::open(directory.path(), 9);
    desk.commit(ends([ended(1, b"/in/a", Outcome::Failed)]));
    let again =
        Batch { not_failed: vec![Id(1)], gone: vec![Id(1)], ..ends([ended(1, b"/in/a", Outcome::Failed)]) };
    desk.commit(again);
    desk.commit(Batch { outputs: vec![(Id(1), b"at last".to_vec())], ..Batch::default() });
    let reader = Reader::open(directory.path()).unwrap();
    let failed = reader.ended(&Filter { failed_only: true, ..Filter::default() }, 9).unwrap();
    assert_eq!((failed.total, failed.rows[0].output.as_deref()), (1, Some(&b"at last"[..])));
    assert_eq!(reader.ended(&Filter::default(), 9).unwrap().total, 2);
    desk.commit(Batch { closed: vec![Id(1)], ..ends([ended(1, b"/in/a", Outcome::Failed)]) });
    assert_eq!(reader.ended(&Filter { failed_only: true, ..Filter::default() }, 9).unwrap().total, 0);
    assert_eq!(reader.ended(&Filter::default(), 9).unwrap().total, 3);
    desk.close();
}

#[test]
fn what_an_ended_task_did_is_replaced_where_it_stands() {
    let directory = tempfile::tempdir().unwrap();
    let (mut desk, _) = Desk::open(directory.path(), 9);
    let did = |text: &str| Ended { done: Some(text.into()), ..ended(1, b"/in/a", Outcome::Ok) };
    desk.commit(ends([did("first"), did("second"), ended(2, b"/in/b", Outcome::Ok)]));
    let done = vec![(Id(1), "first".to_owned(), "undone".to_owned()), (Id(2), "first".into(), "x".into())];
    desk.commit(Batch { done, ..Batch::default() });
    let rows = Reader::open(directory.path()).unwrap().ended(&Filter::default(), 9).unwrap().rows;
    let found: Vec<Option<&str>> = rows.iter().map(|row| row.done.as_deref()).collect();
    assert_eq!(found, [None, Some("second"), Some("undone")]);
    desk.close();
}

#[test]
fn without_history_only_what_failed_is_kept() {
    let directory = tempfile::tempdir().unwrap();
    let (mut desk, _) = Desk::open(directory.path(), 0);
    desk.commit(ends([ended(1, b"/in/a", Outcome::Ok), ended(2, b"/in/b", Outcome::Failed)]));
    let reader = Reader::open(directory.path()).unwrap();
    assert_eq!(reader.ended(&Filter::default(), 9).unwrap().total, 1);
    desk.commit(Batch { not_failed: vec![Id(2)], ..Batch::default() });
    assert_eq!(reader.ended(&Filter::default(), 9).unwrap().total, 0);
    desk.close();
}

#[test]
fn filters_find_by_scheduler_path_id_and_time() {
    let directory = tempfile::tempdir().unwrap();
    let (mut desk, _) = Desk::open(directory.path(), 100);
    let mut other = ended(5, b"/in/sub/b.txt", Outcome::Ok);
    other.subject.scheduler = "copy".into();
    let odd = ended(3, b"/in/\xff", Outcome::Ok);
    let rows = [ended(1 << 124, b"/in/a[1].txt", Outcome::Failed), other, odd];
    desk.commit(ends(rows.clone()));
    let reader = Reader::open(directory.path()).unwrap();
    let total = |filter: Filter| {
        let total = reader.ended(&filter, 9).unwrap().total;
        let unwritten = rows.iter().filter(|row| filter.matches(row)).count();
        assert_eq!(unwritten, total as usize, "{filter:?}");
        total
    };
    let all = Filter::default;
    assert_eq!(total(Filter { scheduler: Some((None, "copy".to_owned())), ..all() }), 1);
    assert_eq!(total(Filter { scheduler: Some((Some("x".to_owned()), "copy".to_owned())), ..all() }), 0);
    let matching = |glob: &[u8]| total(Filter { path: Some(Glob(glob.to_vec())), ..all() });
    assert_eq!(matching(b"/in/*.txt"), 2);
    assert_eq!(matching(b"/in/a[[]1*"), 1);
    assert_eq!((matching(b"/in/\xff*"), matching(b"/in/\xfe*")), (1, 0));
    assert_eq!(total(Filter { id_prefix: Some("1000".to_owned()), ..all() }), 1);
    assert_eq!(total(Filter { since_s: Some(6.0), ..all() }), 1);
    assert_eq!(reader.ids(&Filter { failed_only: true, ..all() }).unwrap(), [Id(1 << 124)]);
    desk.close();
}

#[test]
fn a_newer_state_is_refused_and_left_alone() {
    let directory = tempfile::tempdir().unwrap();
    Desk::open(directory.path(), 1).0.close();
    let path = directory.path().join("state.db");
    rusqlite::Connection::open(&path).unwrap().pragma_update(None, "user_version", 99).unwrap();
    let error = Store::open(directory.path()).unwrap_err();
    assert!(matches!(error, OpenError::Newer { found: 99, .. }));
    assert!(error.to_string().contains("has version 99"), "{error}");
    assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 2, "the database and the lock");
}

#[test]
fn an_older_state_is_brought_up_to_date() {
    let directory = tempfile::tempdir().unwrap();
    let (mut desk, _) = Desk::open(directory.path(), 1);
    desk.commit(Batch { checkpoint_s: Some(9.5), ..tasks([task(1, b"/in/a")]) });
    desk.close();
    let older = "DROP TABLE told; ALTER TABLE task DROP COLUMN waits; ALTER TABLE task DROP COLUMN settles;
        PRAGMA user_version = 1";
    let path = directory.path().join("state.db");
    rusqlite::Connection::open(&path).unwrap().execute_batch(older).unwrap();
    let (desk, restored) = Desk::open(directory.path(), 1);
    let task = Task { waits_s: None, settles_s: None, ..task(1, b"/in/a") };
    assert_eq!(restored, Restored { tasks: vec![task], checkpoint_s: Some(9.5), ..Restored::default() });
    desk.close();
}

#[test]
fn what_was_told_goes_with_its_checkpoint() {
    let directory = tempfile::tempdir().unwrap();
    let told = [b"/in/a".as_slice(), b"/in/\xff"].map(|path| Told {
        path: path.to_vec(),
        inode: u64::MAX,
        ctime_ns: -1,
    });
    let (mut desk, _) = Desk::open(directory.path(), 1);
    desk.commit(Batch { checkpoint_s: Some(1.0), told: told.to_vec(), ..Batch::default() });
    desk.commit(tasks([task(1, b"/in/a")]));
    desk.close();
    let (mut desk, restored) = Desk::open(directory.path(), 1);
    assert_eq!(restored.told, told);
    desk.commit(Batch { checkpoint_s: Some(2.0), ..Batch::default() });
    desk.close();
    assert_eq!(Desk::open(directory.path(), 1).1.told, []);
}

#[test]
fn tasks_come_back_in_the_order_of_what_they_wait_for() {
    let directory = tempfile::tempdir().unwrap();
    let (mut desk, _) = Desk::open(directory.path(), 1);
    // Those of a batch are all due when it is; a row tells when it was by then.
    let waiting = |id: u128, waits_s, due_s| Task { waits_s, due_s, ..task(id, b"/in/a") };
    let [first, second] = [waiting(1, Some(5.0), 20.0), waiting(2, Some(6.0), 10.0)];
    let plain = waiting(3, None, 5.5);
    desk.commit(tasks([second.clone(), plain.clone(), first.clone()]));
    desk.close();
    assert_eq!(Desk::open(directory.path(), 1).1.tasks, [first, plain, second]);
}

#[test]
fn a_database_that_is_none_is_moved_aside() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("state.db");
    fs::write(&path, [b'x'; 5000]).unwrap();
    let Opened { restored, damage, .. } = Store::open(directory.path()).unwrap();
    let damage = damage.unwrap();
    assert_eq!(fs::read(&damage.moved_to).unwrap(), [b'x'; 5000]);
    assert!(damage.moved_to.to_string_lossy().contains("/state.db.damaged-"));
    assert_eq!(restored, Restored::default());
}

#[test]
fn a_database_of_another_program_is_moved_aside_as_it_is() {
    for sql in [
        "CREATE TABLE task (a)",
        "CREATE TABLE other (a)",
        "CREATE TABLE other (a); PRAGMA user_version = 1",
        "CREATE TABLE other (a); PRAGMA user_version = 7",
        "CREATE TABLE other (a); PRAGMA user_version = -1",
        "CREATE TABLE task (a); CREATE TABLE ended (a); PRAGMA user_version = 2",
        "PRAGMA user_version = 7",
    ] {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("state.db");
        rusqlite::Connection::open(&path).unwrap().execute_batch(sql).unwrap();
        let bytes = fs::read(&path).unwrap();
        let Opened { restored, damage, trouble, .. } = Store::open(directory.path()).unwrap();
        let damage = damage.unwrap_or_else(|| panic!("{sql}: not moved aside"));
        let why = (damage.error.as_str(), trouble);
        assert_eq!(why, ("it is the database of another program", None), "{sql}");
        assert!(fs::read(&damage.moved_to).unwrap() == bytes, "{sql}: something was written into it");
        assert_eq!(restored, Restored::default());
    }
}

/// SQLite writes the log into the database when the last one closes it.
#[test]
fn the_log_of_another_programs_database_is_moved_aside_with_it() {
    let other = tempfile::tempdir().unwrap();
    let open = rusqlite::Connection::open(other.path().join("other.db")).unwrap();
    let sql = "PRAGMA journal_mode = WAL; PRAGMA user_version = 7; CREATE TABLE other (a);
        PRAGMA wal_checkpoint; INSERT INTO other VALUES (5)";
    open.execute_batch(sql).unwrap();
    let directory = tempfile::tempdir().unwrap();
    // As if that program had been killed.
    for suffix in ["", "-wal"] {
        let to = directory.path().join(format!("state.db{suffix}"));
        fs::copy(other.path().join(format!("other.db{suffix}")), to).unwrap();
    }
    let bytes = fs::read(directory.path().join("state.db")).unwrap();
    let damage = Store::open(directory.path()).unwrap().damage.unwrap();
    assert!(fs::read(&damage.moved_to).unwrap() == bytes, "something was written into it");
    let moved = rusqlite::Connection::open(&damage.moved_to).unwrap();
    let row: u32 = moved.query_row("SELECT a FROM other", [], |row| row.get(0)).unwrap();
    assert_eq!(row, 5);
}

/// Length of the header of an SQLite database (sqlite.org/fileformat.html).
const HEADER_LEN: usize = 100;

/// Whatever the header says, tasks are kept: in this database, or in the one that takes its place.
#[test]
fn a_damaged_header_keeps_no_task_from_being_kept() {
    let directory = tempfile::tempdir().unwrap();
    let (mut desk, _) = Desk::open(directory.path(), 1);
    desk.commit(tasks([task(1, b"/in/a")]));
    desk.close();
    let path = directory.path().join("state.db");
    let sound = fs::read(&path).unwrap();
    for (place, byte) in (0..HEADER_LEN).flat_map(|place| [(place, 0), (place, 77), (place, 255)]) {
        for file in fs::read_dir(directory.path()).unwrap() {
            fs::remove_file(file.unwrap().path()).unwrap();
        }
        let mut bytes = sound.clone();
        bytes[place] = byte;
        fs::write(&path, bytes).unwrap();
        let store = match Store::open(directory.path()) {
            Ok(Opened { store, trouble, .. }) => {
                assert_eq!(trouble, None, "byte {place} is {byte}");
                store
            }
            Err(OpenError::Newer { .. }) => continue,
            Err(error) => panic!("byte {place} is {byte}: {error}"),
        };
        let (wake, woken) = channel();
        let wake = move || {
            let _ = wake.send(());
        };
        let mut desk =
            Desk { ledger: Ledger::start(store, Options { history_max: 1 }, wake).unwrap(), woken };
        desk.ledger.commit(tasks([task(2, b"/in/b")]));
        let reports = desk.next_reports();
        let is_kept = matches!(reports[..], [Report::Committed { .. } | Report::StartedAfresh(Some(_))]);
        assert!(is_kept, "byte {place} is {byte}: {reports:?}");
        desk.close();
    }
}

/// Damages bytes all over the file. Whatever happens, the store opens, and gives back rows that we wrote or none.
#[test]
fn damage_anywhere_never_stops_the_daemon() {
    let directory = tempfile::tempdir().unwrap();
    let (mut desk, _) = Desk::open(directory.path(), 100);
    let paths: Vec<Vec<u8>> = (0..200).map(|number| format!("/in/file-{number}").into_bytes()).collect();
    desk.commit(tasks(paths.iter().zip(1..).map(|(path, id)| task(id, path))));
    desk.close();
    let path = directory.path().join("state.db");
    let sound = fs::read(&path).unwrap();
    let mut seed = 0x2545_f491_4f6c_dd1d_u64;
    let mut moved = 0;
    for _ in 0..150 {
        let mut bytes = sound.clone();
        for _ in 0..16 {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let place = (seed >> 33) as usize % bytes.len();
            bytes[place] = (seed >> 20) as u8;
        }
        for file in fs::read_dir(directory.path()).unwrap() {
            fs::remove_file(file.unwrap().path()).unwrap();
        }
        fs::write(&path, &bytes).unwrap();
        // What quick_check cannot see, a changed letter of a path, is read as it stands.
        match Store::open(directory.path()) {
            Ok(Opened { damage, trouble, .. }) => {
                assert_eq!(trouble, None);
                moved += usize::from(damage.is_some());
            }
            Err(OpenError::Newer { .. }) => {}
            Err(error) => panic!("{error}"),
        }
    }
    assert!(moved > 20, "only {moved} of 150 damaged databases were recognised");
}

#[test]
fn a_lock_of_another_program_is_waited_for_and_reported_once() {
    let directory = tempfile::tempdir().unwrap();
    let (mut desk, _) = Desk::open(directory.path(), 1);
    let shell = rusqlite::Connection::open(directory.path().join("state.db")).unwrap();
    shell.execute_batch("BEGIN IMMEDIATE").unwrap();
    desk.ledger.commit(tasks([task(1, b"/in/a")]));
    let reports = desk.next_reports();
    assert!(matches!(&reports[..], [Report::Failing(text)] if text.contains("locked")), "{reports:?}");
    assert!(!desk.ledger.is_ready());
    shell.execute_batch("ROLLBACK").unwrap();
    let reports = desk.next_reports();
    assert!(matches!(reports[..], [Report::Committed { recovered: true, .. }]), "{reports:?}");
    desk.close();
    assert_eq!(Desk::open(directory.path(), 1).1.tasks.len(), 1);
}

#[test]
fn a_state_that_somebody_removes_is_made_anew() {
    let base = tempfile::tempdir().unwrap();
    let directory = base.path().join("state");
    let (mut desk, _) = Desk::open(&directory, 1);
    desk.commit(tasks([task(1, b"/in/a")]));
    fs::rename(&directory, base.path().join("away")).unwrap();
    desk.ledger.commit(tasks([task(2, b"/in/b")]));
    assert_eq!(desk.next_reports(), [Report::StartedAfresh(None)]);
    desk.commit(tasks([task(1, b"/in/a"), task(2, b"/in/b")]));
    desk.close();
    assert_eq!(Desk::open(&directory, 1).1.tasks.len(), 2);
}

/// What a daemon would find that starts after a crash at this moment.
fn after_a_crash(directory: &Path) -> Restored {
    let copy = tempfile::tempdir().unwrap();
    for name in ["state.db", "state.db-wal"] {
        fs::copy(directory.join(name), copy.path().join(name)).unwrap();
    }
    Desk::open(copy.path(), 9).1
}

#[test]
fn a_log_that_somebody_removes_costs_nothing() {
    for (removed, is_read) in
        [(&["-wal"][..], false), (&["-wal"], true), (&["-wal", "-shm"], false), (&["-wal", "-shm"], true)]
    {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path();
        let (mut desk, _) = Desk::open(path, 9);
        desk.commit(tasks([task(1, b"/in/a")]));
        desk.commit(ends([ended(7, b"/in/x", Outcome::Failed)]));
        let reader = is_read.then(|| Reader::open(path).unwrap());
        assert!(reader.iter().all(|reader| reader.ended(&Filter::default(), 9).unwrap().total == 1));
        for suffix in removed {
            fs::remove_file(path.join(format!("state.db{suffix}"))).unwrap();
        }
        let reports = desk.give(tasks([task(2, b"/in/b")]));
        assert!(matches!(reports[..], [Report::LogRemoved, Report::Committed { .. }]), "{reports:?}");
        desk.commit(tasks([task(3, b"/in/c")]));
        drop(reader);
        desk.commit(tasks([task(4, b"/in/d")]));
        let found = after_a_crash(path);
        assert_eq!((found.tasks.len(), found.failed.len()), (4, 1));
        desk.close();
        assert_eq!(Desk::open(path, 9).1.tasks.len(), 4);
    }
}

#[test]
fn a_log_that_was_removed_waits_for_who_reads_it() {
    let directory = tempfile::tempdir().unwrap();
    let (mut desk, _) = Desk::open(directory.path(), 9);
    desk.commit(tasks([task(1, b"/in/a")]));
    let shell = rusqlite::Connection::open(directory.path().join("state.db")).unwrap();
    let count = "BEGIN; SELECT count(*) FROM task";
    shell.execute_batch(count).unwrap();
    desk.commit(tasks([task(2, b"/in/b")]));
    fs::remove_file(directory.path().join("state.db-wal")).unwrap();
    desk.ledger.commit(tasks([task(3, b"/in/c")]));
    let reports = desk.next_reports();
    assert!(
        matches!(&reports[..], [Report::Failing(why)] if why.contains("its log was removed")),
        "{reports:?}"
    );
    shell.execute_batch("ROLLBACK").unwrap();
    let mut reports = Vec::new();
    while !desk.ledger.is_ready() {
        reports.extend(desk.next_reports());
    }
    assert!(
        matches!(reports[..], [Report::LogRemoved, Report::Committed { recovered: true, .. }]),
        "{reports:?}"
    );
    assert_eq!(after_a_crash(directory.path()).tasks.len(), 3);
}

/// Shortens a file of the state, and has everything given again.
#[test]
fn a_file_that_somebody_cuts_while_it_is_in_use_starts_afresh() {
    for (name, len, why) in [
        ("state.db", 0, "has emptied it"),
        ("state.db", 8192, "has cut it"),
        ("state.db-wal", 0, "has cut its log"),
        ("state.db-wal", 5000, "has cut its log"),
    ] {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path();
        let (mut desk, _) = Desk::open(path, 9);
        desk.commit(tasks((1..200).map(|id| task(id, b"/in/a"))));
        if name == "state.db" {
            // All is in the database then.
            let shell = rusqlite::Connection::open(path.join("state.db")).unwrap();
            shell.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(())).unwrap();
        }
        desk.commit(tasks([task(1, b"/in/a")]));
        fs::File::options().write(true).open(path.join(name)).unwrap().set_len(len).unwrap();
        let reports = desk.give(tasks([task(1, b"/in/a")]));
        let is_told =
            matches!(&reports[..], [Report::StartedAfresh(Some(damage))] if damage.error.contains(why));
        assert!(is_told, "{name} of {len} bytes: {reports:?}");
        desk.commit(tasks([task(1, b"/in/a"), task(2, b"/in/b")]));
        assert_eq!(after_a_crash(path).tasks.len(), 2);
        desk.close();
    }
}

/// SQLite begins its log anew, we and others make checkpoints, and others compact the database.
#[test]
fn files_that_change_by_right_are_no_damage() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path();
    let (mut desk, _) = Desk::open(path, 9);
    let shell = rusqlite::Connection::open(path.join("state.db")).unwrap();
    let mut lens = Vec::new();
    for round in 0..8_u32 {
        desk.commit(tasks((1..4_000).map(|id| task(id, b"/in/a/name/of/some/length"))));
        lens.push(path.join("state.db-wal").metadata().unwrap().len());
        desk.commit(Batch { gone: (3..4_000).map(Id).collect(), ..Batch::default() });
        lens.push(path.join("state.db-wal").metadata().unwrap().len());
        let sql = match round % 4 {
            0 => "PRAGMA wal_checkpoint(TRUNCATE)",
            1 => "VACUUM; PRAGMA wal_checkpoint(TRUNCATE)",
            2 => "VACUUM",
            _ => "",
        };
        shell.execute_batch(sql).unwrap();
    }
    assert!(lens.windows(2).any(|two| two[0] > two[1]), "the log never became shorter: {lens:?}");
    desk.close();
    assert_eq!(Desk::open(path, 9).1.tasks.len(), 2);
}

#[test]
fn a_copy_that_is_put_back_with_its_log_keeps_that() {
    let base = tempfile::tempdir().unwrap();
    let (state, other) = (base.path().join("state"), base.path().join("other"));
    let (mut desk, _) = Desk::open(&state, 9);
    desk.commit(tasks([task(1, b"/in/a")]));
    let (mut source, _) = Desk::open(&other, 9);
    source.commit(tasks([task(2, b"/in/b"), task(3, b"/in/c")]));
    fs::create_dir(base.path().join("copy")).unwrap();
    for name in ["state.db", "state.db-wal"] {
        let copy = base.path().join("copy").join(name);
        fs::copy(other.join(name), &copy).unwrap();
        fs::rename(copy, state.join(name)).unwrap();
    }
    assert_eq!(desk.give(tasks([task(4, b"/in/d")])), [Report::StartedAfresh(None)]);
    let reports = desk.give(tasks([task(4, b"/in/d")]));
    let is_read = matches!(&reports[0], Report::Restored(found) if found.tasks.len() == 2);
    assert!(is_read, "{reports:?}");
}

#[test]
fn who_reads_a_database_that_is_gone_leaves_the_log_of_the_next_one() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path();
    let (mut desk, _) = Desk::open(path, 9);
    desk.commit(tasks([task(1, b"/in/a")]));
    let reader = Reader::open(path).unwrap();
    reader.ended(&Filter::default(), 9).unwrap();
    fs::remove_file(path.join("state.db")).unwrap();
    assert_eq!(desk.give(tasks([task(2, b"/in/b")])), [Report::StartedAfresh(None)]);
    desk.commit(tasks([task(1, b"/in/a"), task(2, b"/in/b")]));
    drop(reader);
    desk.commit(tasks([task(3, b"/in/c")]));
    assert_eq!(after_a_crash(path).tasks.len(), 3);
}

#[test]
fn what_could_not_be_read_at_the_start_is_read_when_it_can_be() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("state.db");
    let (mut desk, _) = Desk::open(directory.path(), 1);
    desk.commit(tasks([task(1, b"/in/a")]));
    desk.close();
    let shell = rusqlite::Connection::open(&path).unwrap();
    shell.execute_batch("PRAGMA locking_mode = EXCLUSIVE; BEGIN EXCLUSIVE").unwrap();
    let Opened { store, restored, trouble, .. } = Store::open(directory.path()).unwrap();
    assert!(trouble.is_some_and(|why| why.contains("locked")));
    assert_eq!(restored, Restored::default());
    drop(shell);
    let (wake, woken) = channel();
    let wake = move || {
        let _ = wake.send(());
    };
    let mut desk = Desk { ledger: Ledger::start(store, Options { history_max: 1 }, wake).unwrap(), woken };
    desk.ledger.commit(tasks([task(2, b"/in/b")]));
    let mut reports = Vec::new();
    while !desk.ledger.is_ready() {
        reports.extend(desk.next_reports());
    }
    assert!(
        matches!(&reports[0], Report::Restored(found) if found.tasks == [task(1, b"/in/a")]),
        "{reports:?}"
    );
    desk.close();
    assert_eq!(Desk::open(directory.path(), 1).1.tasks.len(), 2);
}

#[test]
fn a_row_that_no_daemon_wrote_is_damage() {
    for change in ["name_len = 60000", "name_len = 2", "root_len = 60000", "path = ''", "mask = 0"] {
        let directory = tempfile::tempdir().unwrap();
        let (mut desk, _) = Desk::open(directory.path(), 1);
        desk.commit(tasks([task(1, b"/in/a")]));
        desk.close();
        let database = rusqlite::Connection::open(directory.path().join("state.db")).unwrap();
        database.execute(&format!("UPDATE task SET {change}"), []).unwrap();
        drop(database);
        let Opened { restored, damage, .. } = Store::open(directory.path()).unwrap();
        assert!(damage.is_some_and(|damage| damage.error.contains("do not fit")), "{change}");
        assert_eq!(restored, Restored::default());
    }
}

#[test]
fn damage_that_shows_while_it_works_starts_afresh() {
    let directory = tempfile::tempdir().unwrap();
    let (mut desk, _) = Desk::open(directory.path(), 100);
    let path = directory.path().join("state.db");
    desk.commit(tasks([task(1, b"/in/a")]));
    // Another program empties a table's definition behind our back.
    let vandal = rusqlite::Connection::open(&path).unwrap();
    let sql = "PRAGMA writable_schema = ON; UPDATE sqlite_schema SET sql = 'x' WHERE name = 'task';
        PRAGMA schema_version = 4711";
    vandal.execute_batch(sql).unwrap();
    drop(vandal);
    desk.ledger.commit(tasks([task(2, b"/in/b")]));
    let reports = desk.next_reports();
    assert!(matches!(&reports[..], [Report::StartedAfresh(Some(_))]), "{reports:?}");
    desk.commit(tasks([task(2, b"/in/b")]));
    desk.close();
    assert_eq!(Desk::open(directory.path(), 1).1.tasks, [task(2, b"/in/b")]);
}

/// The program that administrators have reads it while the daemon works.
#[test]
fn the_sqlite3_shell_reads_it() {
    let directory = tempfile::tempdir().unwrap();
    let (mut desk, _) = Desk::open(directory.path(), 9);
    desk.commit(Batch {
        ended: vec![Arc::new(ended(2, b"/in/z", Outcome::Failed))],
        ..tasks([task(1, b"/in/a b")])
    });
    let sql = "SELECT path, datetime(due, 'unixepoch') FROM task WHERE path LIKE '/in/%';
        SELECT path, error FROM ended WHERE open = 1";
    let database = directory.path().join("state.db");
    let Ok(output) = Command::new("sqlite3").arg("-readonly").arg(database).arg(sql).output() else {
        eprintln!("skipped: needs sqlite3");
        return;
    };
    let text = String::from_utf8_lossy(&output.stdout);
    assert_eq!(text, "/in/a b|2001-09-09 01:46:41\n/in/z|exited with status 3\n", "{output:?}");
    desk.close();
}
