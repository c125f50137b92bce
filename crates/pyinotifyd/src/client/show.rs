//! Answers as people read them: tables, ages and times. A terminal gets colours, and tables that fit it; whatever else
//! reads stdout gets all that there is.

use std::fmt::Write as _;
use std::io::IsTerminal as _;

use control::api::{EndedView, EventLine, List, PathText, SchedulerStatus, Status, TaskLine, TaskView, Time};
use jiff::Timestamp;
use jiff::tz::TimeZone;
use unicode_width::{UnicodeWidthChar as _, UnicodeWidthStr as _};

use crate::log::Escaped;

/// Columns of a terminal that does not know how many it has.
const COLUMNS: usize = 80;
/// Columns before a note.
const INDENT: usize = 10;
/// Columns that a cell keeps where the page is too narrow.
const CELL_LEAST: usize = 12;

/// How a piece of text looks on a terminal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Look {
    Plain,
    Heading,
    Good,
    Warning,
    Bad,
}

/// What stdout can show, and what time it is.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Page {
    pub(crate) colours: bool,
    pub(crate) now_s: f64,
    /// How wide tables may be; `None`: as wide as what is in them.
    pub(crate) columns: Option<usize>,
}

impl Page {
    /// For stdout as it is now.
    pub(crate) fn of_stdout() -> Page {
        let no_color = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        let is_terminal = std::io::stdout().is_terminal();
        let columns = is_terminal.then(|| match ratatui::crossterm::terminal::size() {
            Ok((columns, _)) if columns > 0 => usize::from(columns),
            Ok(_) | Err(_) => COLUMNS,
        });
        let now_s = Timestamp::now().as_duration().as_secs_f64();
        Page { colours: is_terminal && !no_color, now_s, columns }
    }

    fn paint(self, look: Look, text: &str) -> String {
        let code = match look {
            Look::Plain => return text.to_owned(),
            Look::Heading => "1",
            Look::Good => "32",
            Look::Warning => "33",
            Look::Bad => "31",
        };
        if self.colours { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
    }

    /// Text of something that is well, bad, or in between.
    pub(crate) fn level(self, text: &str, is_well: bool, is_bad: bool) -> String {
        let look = match (is_well, is_bad) {
            (true, _) => Look::Good,
            (false, true) => Look::Bad,
            (false, false) => Look::Warning,
        };
        self.paint(look, text)
    }

    /// How long ago that was, as people say it: `5s`, `12m`, `3h 5m`, `2d 4h`; in the future: `in 5s`.
    pub(crate) fn age(self, time: Time) -> String {
        let seconds = self.now_s - time.0;
        if seconds < 0.0 { format!("in {}", duration(-seconds)) } else { duration(seconds) }
    }

    /// What the daemon does.
    pub(crate) fn status(self, status: &Status) -> String {
        let mut text = String::new();
        let state = match (&status.reason, status.ready) {
            (_, true) => self.paint(Look::Good, "ready"),
            (Some(reason), false) => self.paint(Look::Bad, &format!("not ready: {}", line(reason))),
            (None, false) => self.paint(Look::Bad, "not ready"),
        };
        let (version, pid, age) = (&status.version, status.pid, self.age(status.since));
        let _ = writeln!(text, "pyinotifyd {version}, pid {pid}, up {age}, {state}");
        for file in &status.config {
            let _ = writeln!(text, "config  {}, loaded {} ago", path(&file.path), self.age(file.loaded));
        }
        if let Some(refused) = &status.refused {
            let (age, error) = (self.age(refused.refused), line(&refused.error));
            // Most errors begin with the file and the line where they are.
            let mut parts = vec![format!("        the reload {age} ago was refused")];
            parts.extend(refused.files.iter().map(path).filter(|file| !error.contains(file)));
            let refusal = format!("{}: {error}", parts.join(", "));
            let _ = writeln!(text, "{}", self.paint(Look::Bad, &refusal));
        }
        if let Some(state) = &status.state {
            let checkpoint = state.checkpoint.map_or("none".to_owned(), |at| format!("{} ago", self.age(at)));
            let _ = writeln!(text, "state   {}, checkpoint {checkpoint}", path(&state.path));
            if let Some(why) = &state.degraded {
                let _ = writeln!(
                    text,
                    "{}",
                    self.paint(Look::Bad, &format!("        keeps nothing now: {}", line(why)))
                );
            }
        }
        if let Some(host) = &status.host {
            let pid = host.pid.map_or(self.paint(Look::Bad, "not running"), |pid| format!("pid {pid}"));
            let (python, restarts) = (line(&host.python), host.restarts);
            let _ = writeln!(text, "python  {python}, {pid}, started again {restarts} times");
        }
        let totals = &status.totals;
        let (events, overflows) = (count(totals.events), count(totals.overflows));
        let _ = writeln!(text, "events  {events} read, {overflows} overflows of the kernel's queue\n");
        text + &self.watches(status)
            + "\n"
            + &self.schedulers(&status.schedulers)
            + &self.schedulers_away(status)
    }

    /// What stands of schedulers that the configuration does not have.
    fn schedulers_away(self, status: &Status) -> String {
        let mut text = String::new();
        if !status.paused_away.is_empty() {
            let names: Vec<String> = status.paused_away.iter().map(|name| line(name)).collect();
            let paused = format!("paused, not in the configuration: {}", names.join(", "));
            let _ = writeln!(text, "{}", self.paint(Look::Warning, &paused));
        }
        let known: u64 = status.schedulers.iter().map(|scheduler| scheduler.failed).sum();
        let failed = status.totals.failed.saturating_sub(known);
        if failed > 0 {
            let failed = format!("failed, of schedulers not in the configuration: {}", count(failed));
            let _ = writeln!(text, "{}", self.paint(Look::Bad, &failed));
        }
        text
    }

    fn watches(self, status: &Status) -> String {
        let mut table = Table::new(
            &[
                ("WATCH", Side::Left),
                ("BACKEND", Side::Left),
                ("STATE", Side::Left),
                ("DIRECTORIES", Side::Right),
            ],
            0,
        );
        for watch in &status.watches {
            let look = if watch.state == "watching" { Look::Good } else { Look::Warning };
            table.row([
                (path(&watch.path), Look::Plain),
                (watch.backend.clone(), Look::Plain),
                (watch.state.clone(), look),
                (count(watch.kernel_watches), Look::Plain),
            ]);
        }
        table.print(self)
    }

    /// Schedulers with their tasks.
    pub(crate) fn schedulers(self, schedulers: &[SchedulerStatus]) -> String {
        let right = ["WAIT", "QUEUE", "RUN", "RETRY", "DONE", "FAILED"].map(|name| (name, Side::Right));
        let columns = [&[("SCHEDULER", Side::Left), ("KIND", Side::Left)][..], &right[..]].concat();
        let mut table = Table::new(&columns, 0);
        for scheduler in schedulers {
            let failed = if scheduler.failed > 0 { Look::Bad } else { Look::Plain };
            let kind = if scheduler.paused {
                format!("{} (paused)", scheduler.kind)
            } else {
                scheduler.kind.clone()
            };
            let number = |value: u64| (count(value), Look::Plain);
            table.row([
                (line(&scheduler.name), Look::Plain),
                (kind, if scheduler.paused { Look::Warning } else { Look::Plain }),
                number(scheduler.waiting),
                number(scheduler.queued),
                number(scheduler.running),
                number(scheduler.retrying),
                number(scheduler.done),
                (count(scheduler.failed), failed),
            ]);
        }
        table.print(self)
    }

    /// Tasks that have not ended.
    pub(crate) fn tasks(self, list: &List<TaskView>) -> String {
        let columns = ["ID", "STATE", "DUE", "TRY", "SCHEDULER", "PATH"].map(|name| (name, Side::Left));
        let mut table = Table::new(&columns, 5);
        for task in &list.tasks {
            let due = match (task.state.as_str(), task.due) {
                ("running" | "queued", _) | (_, None) => format!("since {}", self.age(task.since)),
                (_, Some(due)) => self.age(due),
            };
            let look = match task.state.as_str() {
                "running" => Look::Good,
                "retrying" => Look::Warning,
                _ => Look::Plain,
            };
            table.row([
                (short(&task.id), Look::Plain),
                (task.state.clone(), look),
                (due, Look::Plain),
                (task.attempt.to_string(), Look::Plain),
                (line(&task.scheduler), Look::Plain),
                (path(&task.path), Look::Plain),
            ]);
            if let Some(reason) = &task.reason {
                table.note(&line(reason));
            }
        }
        table.print(self) + &more(list.tasks.len(), list.total, "tasks")
    }

    /// Tasks that have ended.
    pub(crate) fn ended(self, list: &List<EndedView>) -> String {
        let columns =
            ["ID", "ENDED", "RESULT", "TOOK", "TRIES", "SCHEDULER", "PATH"].map(|name| (name, Side::Left));
        let mut table = Table::new(&columns, 6);
        for task in &list.tasks {
            let look = match task.result.as_str() {
                "ok" => Look::Good,
                "failed" => Look::Bad,
                _ => Look::Warning,
            };
            table.row([
                (short(&task.id), Look::Plain),
                (moment(task.ended), Look::Plain),
                (task.result.clone() + if task.undone.is_some() { ", undone" } else { "" }, look),
                (duration(task.duration), Look::Plain),
                (task.attempts.to_string(), Look::Plain),
                (line(&task.scheduler), Look::Plain),
                (path(&task.path), Look::Plain),
            ]);
            if let Some(error) = &task.error {
                table.note(&line(error));
            }
            for output in task.output.iter().flat_map(|output| output.lines()) {
                table.note(&format!("| {}", line(output)));
            }
        }
        table.print(self) + &more(list.tasks.len(), list.total, "tasks")
    }

    /// What became of a task.
    pub(crate) fn task_line(self, task: &TaskLine) -> String {
        let look = if task.what == "failed" { Look::Bad } else { Look::Plain };
        let what = self.paint(look, &format!("{:<11}", task.what));
        let error = task
            .error
            .as_ref()
            .or(task.reason.as_ref())
            .map_or(String::new(), |error| format!(": {}", line(error)));
        let (id, scheduler) = (short(&task.task), line(&task.scheduler));
        format!("{} {id} {what} {scheduler} {}{error}", clock(task.time), path(&task.path))
    }
}

/// An event of the stream.
pub(crate) fn event(event: &EventLine) -> String {
    let source =
        event.src_path.src_path.as_ref().map_or(String::new(), |from| format!(" from {}", line(from)));
    format!("{} {:<16} {}{source}", clock(event.time), event.event, path(&event.path))
}

/// The path without anything that could steer a terminal.
pub(crate) fn path(text: &PathText) -> String {
    let bytes = text.to_bytes().unwrap_or_else(|| text.path.clone().into_bytes());
    Escaped(&bytes).to_string()
}

/// Any text without anything that could steer a terminal.
pub(crate) fn line(text: &str) -> String {
    Escaped(text.as_bytes()).to_string()
}

/// The beginning of an id that people can type.
pub(crate) fn short(id: &str) -> String {
    id.chars().take(8).collect()
}

/// A number with its thousands apart.
pub(crate) fn count(value: u64) -> String {
    let digits = value.to_string();
    let mut text = String::new();
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// A duration as people say it.
pub(crate) fn duration(seconds: f64) -> String {
    let whole = seconds as u64;
    match whole {
        0 if seconds < 0.001 => "0s".to_owned(),
        0 => format!("{}ms", (seconds * 1000.0) as u64),
        1..60 => format!("{whole}s"),
        60..3_600 => format!("{}m {}s", whole / 60, whole % 60),
        3_600..86_400 => format!("{}h {}m", whole / 3_600, whole % 3_600 / 60),
        _ => format!("{}d {}h", whole / 86_400, whole % 86_400 / 3_600),
    }
}

/// A moment of the last days.
fn moment(time: Time) -> String {
    local(time, "%m-%d %H:%M:%S")
}

fn clock(time: Time) -> String {
    local(time, "%H:%M:%S%.3f")
}

fn local(time: Time, format: &str) -> String {
    let timestamp = Timestamp::from_millisecond((time.0 * 1000.0) as i64).unwrap_or_default();
    timestamp.to_zoned(TimeZone::system()).strftime(format).to_string()
}

fn more(shown: usize, total: u64, what: &str) -> String {
    match (shown, total) {
        (0, 0) => format!("no {what}\n"),
        (shown, total) if (shown as u64) < total => {
            format!("{} of {} {what}; --limit shows more\n", count(shown as u64), count(total))
        }
        _ => String::new(),
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Side {
    Left,
    Right,
}

/// Rows under headings. One column gives way where the page is too narrow, and then the widest of the others: a path
/// keeps its end, other text its start.
struct Table {
    columns: Vec<(&'static str, Side)>,
    flexible: usize,
    rows: Vec<Row>,
}

enum Row {
    Cells(Vec<(String, Look)>),
    Note(String),
}

impl Table {
    fn new(columns: &[(&'static str, Side)], flexible: usize) -> Table {
        Table { columns: columns.to_vec(), flexible, rows: Vec::new() }
    }

    fn row<const N: usize>(&mut self, cells: [(String, Look); N]) {
        self.rows.push(Row::Cells(cells.into()));
    }

    /// A line below the latest row.
    fn note(&mut self, text: &str) {
        self.rows.push(Row::Note(text.to_owned()));
    }

    fn widths(&self, columns: Option<usize>) -> Vec<usize> {
        let mut widths: Vec<usize> = self.columns.iter().map(|(name, _)| name.len()).collect();
        for row in &self.rows {
            if let Row::Cells(cells) = row {
                for (width, (text, _)) in widths.iter_mut().zip(cells) {
                    *width = (*width).max(text.width());
                }
            }
        }
        if let Some(columns) = columns {
            self.narrow(&mut widths, self.flexible, columns);
            let widest = (0..widths.len()).max_by_key(|place| widths[*place]).unwrap_or(self.flexible);
            self.narrow(&mut widths, widest, columns);
        }
        widths
    }

    /// Makes one column as narrow as it has to be for so many columns of the page, and can be.
    fn narrow(&self, widths: &mut [usize], place: usize, columns: usize) {
        let total = widths.iter().sum::<usize>() + 2 * (widths.len() - 1);
        let least = self.columns[place].0.len().max(CELL_LEAST).min(widths[place]);
        widths[place] = widths[place].saturating_sub(total.saturating_sub(columns)).max(least);
    }

    fn print(&self, page: Page) -> String {
        let widths = self.widths(page.columns);
        let heading = self.columns.iter().map(|(name, _)| ((*name).to_owned(), Look::Heading));
        let mut text = self.line(&heading.collect::<Vec<_>>(), &widths, page);
        for row in &self.rows {
            match row {
                Row::Cells(cells) => text.push_str(&self.line(cells, &widths, page)),
                Row::Note(note) => {
                    let width = page.columns.map_or(usize::MAX, |columns| columns.saturating_sub(INDENT));
                    for line in wrapped(note, width.max(CELL_LEAST)) {
                        let _ = writeln!(text, "{:INDENT$}{line}", "");
                    }
                }
            }
        }
        text
    }

    fn line(&self, cells: &[(String, Look)], widths: &[usize], page: Page) -> String {
        let mut text = String::new();
        for (place, ((cell, look), width)) in cells.iter().zip(widths).enumerate() {
            let is_path = cell.starts_with('/');
            let cut = if is_path { end(cell, *width) } else { start(cell, *width) };
            let blank = " ".repeat(width - cut.width());
            let painted = page.paint(*look, &cut);
            let is_last = place + 1 == cells.len();
            match self.columns[place].1 {
                Side::Right => text.extend([&*blank, &*painted]),
                Side::Left if is_last => text.push_str(&painted),
                Side::Left => text.extend([&*painted, &*blank]),
            }
            if !is_last {
                text.push_str("  ");
            }
        }
        text.trim_end().to_owned() + "\n"
    }
}

/// A text in lines of so many columns, which end between words where they can.
fn wrapped(text: &str, width: usize) -> Vec<String> {
    let mut lines = vec![String::new()];
    for word in text.split_inclusive(' ') {
        let mut rest = word;
        while !rest.is_empty() {
            let part;
            (part, rest) = rest.split_at(fitting(rest, width));
            let line = lines.last_mut().expect("there is one from the start");
            if line.width() + part.trim_end().width() <= width {
                line.push_str(part);
            } else {
                lines.push(part.to_owned());
            }
        }
    }
    lines.into_iter().map(|line| line.trim_end().to_owned()).collect()
}

/// Bytes of the beginning of a text that fit into so many columns; a letter at least.
fn fitting(text: &str, width: usize) -> usize {
    let bytes: usize = within(text.chars(), width).map(char::len_utf8).sum();
    bytes.max(text.chars().next().map_or(0, char::len_utf8))
}

/// The start of a text in so many columns.
pub(crate) fn start(text: &str, width: usize) -> String {
    if text.width() <= width {
        return text.to_owned();
    }
    within(text.chars(), width.saturating_sub(1)).chain(['…']).collect()
}

/// The end of a text in so many columns.
pub(crate) fn end(text: &str, width: usize) -> String {
    if text.width() <= width {
        return text.to_owned();
    }
    let kept: Vec<char> = within(text.chars().rev(), width.saturating_sub(1)).chain(['…']).collect();
    kept.into_iter().rev().collect()
}

/// The first letters, as many as fit into so many columns.
fn within(letters: impl Iterator<Item = char>, width: usize) -> impl Iterator<Item = char> {
    let mut used = 0;
    letters.take_while(move |letter| {
        used += letter.width().unwrap_or(0);
        used <= width
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use control::api::SrcPathText;

    const PAGE: Page = Page { colours: false, now_s: 1_000_000.0, columns: Some(COLUMNS) };

    #[test]
    fn durations_and_counts_are_as_people_say_them() {
        let cases = [
            (0.0, "0s"),
            (0.25, "250ms"),
            (59.9, "59s"),
            (61.0, "1m 1s"),
            (3_700.0, "1h 1m"),
            (90_000.0, "1d 1h"),
        ];
        for (seconds, text) in cases {
            assert_eq!(duration(seconds), text);
        }
        assert_eq!([0, 999, 1_000, 1_234_567].map(count), ["0", "999", "1,000", "1,234,567"]);
        assert_eq!(PAGE.age(Time(1_000_005.0)), "in 5s");
    }

    fn task(path: &[u8]) -> TaskView {
        TaskView {
            id: "01234567-89ab-4def-8123-456789abcdef".to_owned(),
            scheduler: "move".to_owned(),
            path: PathText::of(path),
            src_path: SrcPathText::default(),
            event: "IN_CLOSE_WRITE".to_owned(),
            state: "waiting".to_owned(),
            due: Some(Time(1_000_030.0)),
            since: Time(999_990.0),
            attempt: 1,
            reason: Some("somebody writes it".to_owned()),
        }
    }

    #[test]
    fn tables_fit_80_columns_and_hostile_names_steer_nothing() {
        let long = [b"/srv/in/".to_vec(), vec![b'x'; 300], b"/end\x1b[2J\n\xff".to_vec()].concat();
        let text = PAGE.tasks(&List { tasks: vec![task(b"/srv/in/a"), task(&long)], total: 7 });
        for line in text.lines() {
            assert!(line.chars().count() <= COLUMNS, "{line}");
        }
        assert!(
            !text.contains('\x1b') && text.contains("01234567  waiting  in 30s  1    move       /srv/in/a\n"),
            "{text}"
        );
        assert!(
            text.contains("          somebody writes it\n")
                && text.ends_with("2 of 7 tasks; --limit shows more\n")
        );
        assert_eq!(PAGE.tasks(&List::default()).lines().last(), Some("no tasks"));
    }

    #[test]
    fn wide_letters_and_long_names_fit_as_well() {
        let name = "n".repeat(100);
        let wide = TaskView {
            scheduler: name.clone(),
            reason: Some("\u{6f22}\u{5b57}".repeat(60)),
            ..task("/srv/\u{6f22}\u{5b57}".repeat(30).as_bytes())
        };
        let text = PAGE.tasks(&List { tasks: vec![wide], total: 1 });
        let status = SchedulerStatus { name, done: 1_000_000, ..SchedulerStatus::default() };
        for line in text.lines().chain(PAGE.schedulers(&[status]).lines()) {
            assert!(line.width() <= COLUMNS, "{} columns: {line}", line.width());
        }
        assert!(text.contains("nnn…") && text.contains("\u{5b57}\n"), "{text}");
        assert_eq!(
            (start("\u{6f22}\u{5b57}", 3), end("\u{6f22}\u{5b57}", 2)),
            ("\u{6f22}…".into(), "…".into())
        );
        assert_eq!(wrapped("\u{6f22}\u{5b57}\u{6f22}", 5), ["\u{6f22}\u{5b57}", "\u{6f22}"]);
    }

    #[test]
    fn what_is_no_terminal_gets_whole_paths_and_a_wide_one_more_of_them() {
        let path = [b"/srv/in/".to_vec(), vec![b'x'; 300]].concat();
        let reason = "a word ".repeat(30);
        let list = List { tasks: vec![TaskView { reason: Some(reason.clone()), ..task(&path) }], total: 1 };
        let whole = Page { columns: None, ..PAGE }.tasks(&list);
        assert!(whole.contains(std::str::from_utf8(&path).unwrap()), "{whole}");
        assert!(whole.contains(reason.trim_end()), "{whole}");
        let wide = Page { columns: Some(200), ..PAGE }.tasks(&list);
        assert_eq!(wide.lines().map(|line| line.chars().count()).max(), Some(200), "{wide}");
    }

    #[test]
    fn a_reason_is_shown_as_a_whole() {
        let reason = format!("unable to move file: directory '/{}' does not exist", "x".repeat(100));
        let long = TaskView { reason: Some(reason.clone()), ..task(b"/srv/in/a") };
        let text = PAGE.tasks(&List { tasks: vec![long], total: 1 });
        let notes: Vec<&str> = text.lines().filter_map(|line| line.strip_prefix("          ")).collect();
        assert!(text.lines().all(|line| line.chars().count() <= COLUMNS), "{text}");
        assert_eq!(notes.concat().replace(' ', ""), reason.replace(' ', ""));
        assert_eq!(wrapped("", 5), [""]);
        assert_eq!(wrapped("ab cd efghijkl m", 5), ["ab cd", "efghi", "jkl m"]);
    }

    #[test]
    fn colours_are_for_terminals() {
        let page = Page { colours: true, ..PAGE };
        let failed = SchedulerStatus { name: "a".to_owned(), failed: 2, ..SchedulerStatus::default() };
        assert!(page.schedulers(std::slice::from_ref(&failed)).contains("\x1b[31m2\x1b[0m"));
        assert!(!PAGE.schedulers(&[failed]).contains('\x1b'));
    }

    #[test]
    fn what_is_too_long_keeps_the_end_that_matters() {
        assert_eq!(start("abcdef", 4), "abc…");
        assert_eq!(end("/a/b/cdef", 5), "…cdef");
        assert_eq!((start("abc", 3), end("abc", 3)), ("abc".to_owned(), "abc".to_owned()));
    }
}
