//! A live view in the terminal: rates, schedulers, tasks that wait and run, failures; keys to steer.
//!
//! Asks the daemon for its status and its tasks some times a second, and draws what fits. Nothing here is kept but what
//! the latest answers said and what is selected.

use std::io::IsTerminal as _;
use std::time::{Duration, Instant};

use control::api::{EndedView, List, SchedulerStatus, Status, TaskView};
use control::{Client, Reply};
use jiff::Timestamp;
use ratatui::Frame;
use ratatui::crossterm::event::{self, Event, KeyCode, KeyEvent, KeyEventKind, KeyModifiers};
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Color, Modifier, Style};
use ratatui::text::{Line, Span};
use ratatui::widgets::{Block, Borders, Cell, Row, Table};
use serde::de::DeserializeOwned;

use super::show::{self, Page};

/// Pause between two updates.
const PAUSE: Duration = Duration::from_millis(500);
/// Rows that are asked for: more than any screen has.
const ROWS_MAX: u32 = 200;
/// How long a message of what was done stays.
const MESSAGE_STAYS: Duration = Duration::from_secs(5);

const HELP: &str = "q quit  tab list  ↑↓ select  p pause/resume  r run  c cancel  t retry  f forget";

/// What the cursor is in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Pane {
    Schedulers,
    Tasks,
    Failed,
}

impl Pane {
    fn next(self) -> Pane {
        match self {
            Pane::Schedulers => Pane::Tasks,
            Pane::Tasks => Pane::Failed,
            Pane::Failed => Pane::Schedulers,
        }
    }
}

/// What is on the screen.
struct View {
    status: Option<Status>,
    tasks: List<TaskView>,
    failed: List<EndedView>,
    /// Events and ends of tasks a second, since the update before.
    rates: (f64, f64),
    counted: Option<(Instant, [u64; 3])>,
    list: Pane,
    selected: usize,
    message: Option<(Instant, String)>,
}

/// Shows the view until `q`.
///
/// # Errors
/// There is no terminal, or the daemon has never answered.
pub(super) fn run(client: &Client) -> Result<(), String> {
    if !std::io::stdin().is_terminal() || !std::io::stdout().is_terminal() {
        return Err("top needs a terminal".to_owned());
    }
    let mut view = View::new();
    view.update(client)?;
    let mut terminal = ratatui::try_init().map_err(|error| format!("cannot use the terminal: {error}"))?;
    let ended = view.show(client, &mut terminal);
    ratatui::restore();
    ended
}

impl View {
    fn new() -> View {
        View {
            status: None,
            tasks: List::default(),
            failed: List::default(),
            rates: (0.0, 0.0),
            counted: None,
            list: Pane::Tasks,
            selected: 0,
            message: None,
        }
    }

    fn show(&mut self, client: &Client, terminal: &mut ratatui::DefaultTerminal) -> Result<(), String> {
        let io = |error: std::io::Error| format!("cannot use the terminal: {error}");
        let mut update_at = Instant::now() + PAUSE;
        loop {
            terminal.draw(|frame| self.draw(frame)).map_err(io)?;
            if event::poll(update_at.saturating_duration_since(Instant::now())).map_err(io)? {
                if let Event::Key(key) = event::read().map_err(io)?
                    && key.kind == KeyEventKind::Press
                    && !self.press(key, client)
                {
                    return Ok(());
                }
                continue;
            }
            if let Err(text) = self.update(client) {
                // The daemon may be back soon; what it said last stays on the screen.
                self.say(text);
                self.status = None;
            }
            update_at = Instant::now() + PAUSE;
        }
    }

    fn update(&mut self, client: &Client) -> Result<(), String> {
        let status: Status = ask(client, "/v1/status")?;
        self.tasks = ask(client, &format!("/v1/tasks?limit={ROWS_MAX}"))?;
        self.failed = ask(client, &format!("/v1/failed?limit={ROWS_MAX}"))?;
        let now = Instant::now();
        let totals = &status.totals;
        let counts = [totals.events, totals.done, totals.failed];
        if let Some((then, old_counts)) = self.counted {
            let seconds = now.duration_since(then).as_secs_f64().max(0.001);
            // Failures are fewer when some are forgotten.
            let rate = |of: usize| counts[of].saturating_sub(old_counts[of]) as f64 / seconds;
            self.rates = (rate(0), rate(1) + rate(2));
        }
        self.counted = Some((now, counts));
        self.status = Some(status);
        self.select(self.selected);
        Ok(())
    }

    fn len(&self) -> usize {
        match self.list {
            Pane::Schedulers => self.schedulers().len(),
            Pane::Tasks => self.tasks.tasks.len(),
            Pane::Failed => self.failed.tasks.len(),
        }
    }

    fn schedulers(&self) -> &[SchedulerStatus] {
        self.status.as_ref().map_or(&[], |status| &status.schedulers)
    }

    fn select(&mut self, place: usize) {
        self.selected = place.min(self.len().saturating_sub(1));
    }

    fn say(&mut self, text: String) {
        self.message = Some((Instant::now(), text));
    }

    /// Does what a key asks for; false to quit.
    fn press(&mut self, key: KeyEvent, client: &Client) -> bool {
        match key.code {
            KeyCode::Char('q') | KeyCode::Esc => return false,
            KeyCode::Char('c') if key.modifiers.contains(KeyModifiers::CONTROL) => return false,
            KeyCode::Tab => {
                self.list = self.list.next();
                self.select(0);
            }
            KeyCode::Up | KeyCode::Char('k') => self.select(self.selected.saturating_sub(1)),
            KeyCode::Down | KeyCode::Char('j') => self.select(self.selected + 1),
            KeyCode::Home => self.select(0),
            KeyCode::End => self.select(usize::MAX),
            KeyCode::Char(letter) => self.act(letter, client),
            _ => {}
        }
        true
    }

    fn act(&mut self, letter: char, client: &Client) {
        let (tasks, failed) = (self.tasks.tasks.get(self.selected), self.failed.tasks.get(self.selected));
        let scheduler = self.schedulers().get(self.selected);
        let target = match (letter, self.list) {
            ('p', Pane::Schedulers) => scheduler.map(|scheduler| {
                let verb = if scheduler.paused { "resume" } else { "pause" };
                format!("/v1/schedulers/{}/{verb}", scheduler.name.replace('/', "%2F"))
            }),
            ('r', Pane::Tasks) => tasks.map(|task| format!("/v1/tasks/{}/run", task.id)),
            ('c', Pane::Tasks) => tasks.map(|task| format!("/v1/tasks/{}/cancel", task.id)),
            ('t', Pane::Failed) => failed.map(|task| format!("/v1/failed/{}/retry", task.id)),
            ('f', Pane::Failed) => failed.map(|task| format!("/v1/failed/{}/forget", task.id)),
            ('p', _) => return self.say("select a scheduler first (tab)".to_owned()),
            ('r' | 'c', _) => return self.say("select a task first (tab)".to_owned()),
            ('t' | 'f', _) => return self.say("select a failed task first (tab)".to_owned()),
            _ => return,
        };
        let Some(target) = target else { return };
        let text = match client.post(&target, &serde_json::json!({})) {
            Ok(reply) if reply.status < 400 => "done".to_owned(),
            Ok(reply) => reply.problem(),
            Err(error) => error.to_string(),
        };
        self.say(text);
        if let Err(text) = self.update(client) {
            self.say(text);
        }
    }

    fn draw(&self, frame: &mut Frame<'_>) {
        let schedulers = (self.schedulers().len() as u16 + 2).min((frame.area().height / 3).max(3));
        let failed = (self.failed.tasks.len() as u16 + 2).min((frame.area().height / 3).max(3));
        let rows = [
            Constraint::Length(2),
            Constraint::Length(schedulers),
            Constraint::Min(3),
            Constraint::Length(failed),
            Constraint::Length(1),
        ];
        let [head, first, second, third, foot] = Layout::vertical(rows).areas(frame.area());
        let page =
            Page { colours: false, now_s: Timestamp::now().as_duration().as_secs_f64(), columns: None };
        self.draw_head(frame, head, page);
        self.draw_schedulers(frame, first);
        self.draw_tasks(frame, second, page);
        self.draw_failed(frame, third, page);
        let fresh = self.message.as_ref().filter(|(since, _)| since.elapsed() < MESSAGE_STAYS);
        let foot_text = fresh.map_or(HELP.to_owned(), |(_, text)| show::line(text));
        frame.render_widget(Line::from(foot_text).style(Style::new().add_modifier(Modifier::DIM)), foot);
    }

    fn draw_head(&self, frame: &mut Frame<'_>, area: Rect, page: Page) {
        let Some(status) = &self.status else {
            return frame.render_widget(Line::from("the daemon does not answer").style(Color::Red), area);
        };
        let ready = match &status.reason {
            None => Span::styled("ready", Color::Green),
            Some(reason) => Span::styled(show::line(reason), Color::Red),
        };
        let (version, pid, age) = (&status.version, status.pid, page.age(status.since));
        let first =
            Line::from(vec![Span::raw(format!("pyinotifyd {version}  pid {pid}  up {age}  ")), ready]);
        let (events, ends) = self.rates;
        let totals = &status.totals;
        let second = Line::from(format!(
            "{events:.0} events/s  {ends:.0} tasks/s  waiting {}  queued {}  running {}  retrying {}  failed {}",
            show::count(totals.waiting),
            show::count(totals.queued),
            show::count(totals.running),
            show::count(totals.retrying),
            show::count(totals.failed),
        ));
        frame.render_widget(ratatui::widgets::Paragraph::new(vec![first, second]), area);
    }

    fn draw_schedulers(&self, frame: &mut Frame<'_>, area: Rect) {
        let row = |scheduler: &SchedulerStatus| {
            let state = if scheduler.paused { "paused" } else { "" };
            let numbers = [
                scheduler.waiting,
                scheduler.queued,
                scheduler.running,
                scheduler.retrying,
                scheduler.done,
                scheduler.failed,
            ];
            let names = [show::line(&scheduler.name), scheduler.kind.clone(), state.to_owned()]
                .into_iter()
                .map(Cell::from);
            Row::new(names.chain(numbers.map(|number| Cell::from(format!("{:>8}", show::count(number))))))
        };
        let widths = [Constraint::Min(10), Constraint::Length(7), Constraint::Length(6)]
            .into_iter()
            .chain([Constraint::Length(8); 6]);
        let head =
            ["scheduler", "kind", "", "    wait", "   queue", "     run", "   retry", "    done", "  failed"];
        let table =
            Table::new(self.schedulers().iter().map(row), widths).column_spacing(0).header(header(head));
        self.draw_list(frame, area, Pane::Schedulers, "", table);
    }

    fn draw_tasks(&self, frame: &mut Frame<'_>, area: Rect, page: Page) {
        let path_width = usize::from(area.width).saturating_sub(50).max(20);
        let row = |task: &TaskView| {
            let when = match (task.state.as_str(), task.due) {
                ("waiting" | "retrying", Some(due)) => page.age(due),
                _ => page.age(task.since),
            };
            let look = if task.state == "running" { Style::new().fg(Color::Green) } else { Style::new() };
            Row::new([
                Cell::from(show::short(&task.id)),
                Cell::from(task.state.clone()).style(look),
                Cell::from(when),
                Cell::from(show::start(&show::line(&task.scheduler), 14)),
                Cell::from(show::end(&show::path(&task.path), path_width)),
            ])
        };
        let widths = [
            Constraint::Length(9),
            Constraint::Length(9),
            Constraint::Length(10),
            Constraint::Length(15),
            Constraint::Min(20),
        ];
        let title = format!("{} tasks", show::count(self.tasks.total));
        let head = header(["task", "state", "when", "scheduler", "path"]);
        let table = Table::new(self.tasks.tasks.iter().map(row), widths).column_spacing(0).header(head);
        self.draw_list(frame, area, Pane::Tasks, &title, table);
    }

    fn draw_failed(&self, frame: &mut Frame<'_>, area: Rect, page: Page) {
        let half = usize::from(area.width).saturating_sub(36) / 2;
        let row = |task: &EndedView| {
            Row::new([
                Cell::from(show::short(&task.id)),
                Cell::from(format!("{} ago", page.age(task.ended))),
                Cell::from(show::start(&show::line(&task.scheduler), 14)),
                Cell::from(show::end(&show::path(&task.path), half.max(10))),
                Cell::from(show::line(task.error.as_deref().unwrap_or_default())).style(Color::Red),
            ])
        };
        let widths = [
            Constraint::Length(9),
            Constraint::Length(12),
            Constraint::Length(15),
            Constraint::Length(half as u16 + 1),
            Constraint::Min(10),
        ];
        let title = format!("{} failed", show::count(self.failed.total));
        let head = header(["task", "ended", "scheduler", "path", "error"]);
        let table = Table::new(self.failed.tasks.iter().map(row), widths).column_spacing(0).header(head);
        self.draw_list(frame, area, Pane::Failed, &title, table);
    }

    fn draw_list(&self, frame: &mut Frame<'_>, area: Rect, list: Pane, title: &str, table: Table<'_>) {
        let is_here = self.list == list;
        let border = if is_here {
            Style::new().add_modifier(Modifier::BOLD)
        } else {
            Style::new().add_modifier(Modifier::DIM)
        };
        let block = Block::new().borders(Borders::TOP).border_style(border).title(title.to_owned());
        let table = table.block(block).row_highlight_style(Style::new().add_modifier(Modifier::REVERSED));
        let mut state = ratatui::widgets::TableState::new();
        state.select(is_here.then_some(self.selected));
        frame.render_stateful_widget(table, area, &mut state);
    }
}

fn header<const N: usize>(names: [&'static str; N]) -> Row<'static> {
    Row::new(names).style(Style::new().add_modifier(Modifier::BOLD))
}

fn ask<T: DeserializeOwned>(client: &Client, target: &str) -> Result<T, String> {
    let reply: Reply = client.get(target).map_err(|error| error.to_string())?;
    reply.json()
}

#[cfg(test)]
mod tests {
    use super::*;
    use control::api::{PathText, SrcPathText, Time, Totals};
    use ratatui::Terminal;
    use ratatui::backend::TestBackend;

    fn view(tasks: usize) -> View {
        let task = |number: usize| TaskView {
            id: format!("{number:08}-0000-4000-8000-000000000000"),
            scheduler: "move".to_owned(),
            path: PathText::of(format!("/srv/in/\x1b[2Jfile-{number}").as_bytes()),
            src_path: SrcPathText::default(),
            event: "IN_CREATE".to_owned(),
            state: "running".to_owned(),
            due: None,
            since: Time(0.0),
            attempt: 1,
            reason: None,
        };
        let status = Status {
            version: "2.0.0".to_owned(),
            pid: 7,
            since: Time(0.0),
            config: Vec::new(),
            refused: None,
            ready: true,
            reason: None,
            watches: Vec::new(),
            schedulers: vec![SchedulerStatus {
                name: "move".to_owned(),
                kind: "rule".to_owned(),
                done: 1_234,
                ..SchedulerStatus::default()
            }],
            paused_away: Vec::new(),
            totals: Totals::default(),
            host: None,
            state: None,
        };
        let tasks = List { tasks: (0..tasks).map(task).collect(), total: tasks as u64 };
        View { status: Some(status), tasks, ..View::new() }
    }

    fn screen(view: &View, width: u16, height: u16) -> String {
        let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
        terminal.draw(|frame| view.draw(frame)).unwrap();
        let cells = terminal.backend().buffer().content().iter().map(ratatui::buffer::Cell::symbol);
        let cells: Vec<&str> = cells.collect();
        cells.chunks(usize::from(width)).map(|row| row.concat() + "\n").collect()
    }

    #[test]
    fn small_and_large_screens_show_what_matters() {
        for (width, height) in [(80, 24), (200, 60), (40, 10)] {
            let text = screen(&view(100), width, height);
            assert!(text.contains("pyinotifyd 2.0.0") && text.contains("100 tasks"), "{text}");
            assert!(!text.contains('\x1b'));
            if width >= 80 {
                assert!(
                    text.contains("1,234") && text.contains("\\x1b[2Jfile-0") && text.contains("q quit"),
                    "{text}"
                );
            }
        }
    }

    #[test]
    fn the_cursor_stays_in_its_list() {
        let mut view = view(3);
        view.select(7);
        assert_eq!(view.selected, 2);
        view.tasks.tasks.clear();
        view.select(view.selected);
        assert_eq!(view.selected, 0);
        view.list = view.list.next().next();
        assert_eq!((view.list, view.len()), (Pane::Schedulers, 1));
    }
}
