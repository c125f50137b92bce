//! A config file of ours as it grows, and what is to be said about it.

use std::collections::HashSet;
use std::fmt::Write as _;

use event::Flag;

use super::judge;
use crate::config::Literal;
use crate::log::Escaped;

/// Where something stands in a foreign configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    /// The path as the user named it, or as another file did.
    pub file: Vec<u8>,
    /// From 1 on; 0 stands for the file as a whole.
    pub line: usize,
}

impl Place {
    pub(super) fn of(file: &[u8], line: usize) -> Place {
        Place { file: file.to_vec(), line }
    }
}

impl std::fmt::Display for Place {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(out, "{}", Escaped(&self.file))?;
        if self.line > 0 {
            write!(out, ":{}", self.line)?;
        }
        Ok(())
    }
}

/// What became of something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Severity {
    /// It was translated, and differs in what is said.
    Differs,
    /// It is left out.
    LeftOut,
}

impl Severity {
    pub(crate) fn level(self) -> &'static str {
        match self {
            Severity::Differs => "WARNING",
            Severity::LeftOut => "ERROR",
        }
    }
}

/// What is said about one place: what is different or left out, and what to do instead.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Note {
    pub severity: Severity,
    pub place: Place,
    pub text: String,
}

/// The config file, and all that is said about it.
#[derive(Debug, Default)]
pub(crate) struct Draft {
    body: String,
    /// Arguments of `Pyinotifyd` besides the watches.
    arguments: Vec<String>,
    /// Comments about them.
    remarks: Vec<&'static str>,
    pub notes: Vec<Note>,
    names: HashSet<String>,
    /// Whether something is watched.
    watches: bool,
}

/// What one entry of a foreign configuration becomes.
#[derive(Debug)]
pub(super) struct Entry {
    pub place: Place,
    /// The entry as it was, line by line.
    pub source: Vec<Vec<u8>>,
    pub said: Vec<(Severity, String)>,
    /// Words of ours in texts about its commands, and what the other program calls that.
    pub words: &'static [(&'static str, &'static str)],
    /// Lines of Python before its watches.
    pub before: Vec<String>,
    pub watches: Vec<Watch>,
}

impl Entry {
    pub(super) fn new(place: Place, source: Vec<Vec<u8>>) -> Entry {
        Entry { place, source, said: Vec::new(), words: &[], before: Vec::new(), watches: Vec::new() }
    }

    /// It is translated, and differs in something.
    pub(super) fn differs(&mut self, text: impl Into<String>) {
        self.said.push((Severity::Differs, text.into()));
    }

    /// Something of it is left out.
    pub(super) fn left_out(&mut self, text: impl Into<String>) {
        self.said.push((Severity::LeftOut, text.into()));
    }
}

#[derive(Debug)]
pub(super) struct Watch {
    /// Globs, as `Watch` takes them.
    pub paths: Vec<Vec<u8>>,
    pub map: Map,
    pub rec: bool,
    pub initial: bool,
    /// Expressions of the exclude filter.
    pub exclude: Vec<Vec<u8>>,
}

/// Which scheduler gets which event.
#[derive(Debug)]
pub(super) enum Map {
    /// All events have the same, which are made here.
    Shared(Vec<Flag>, Vec<Scheduler>),
    /// All events have the one in a variable.
    Variable(Vec<Flag>, &'static str),
    /// Each event has its own, all with the same arguments.
    Alike(Vec<Flag>, Vec<Scheduler>),
    /// Each event has its own, in whose arguments variables stand: their names, and for each event their values.
    Table(&'static str, Vec<(Flag, String)>, Vec<Scheduler>),
    /// Each event is in one of these.
    Union(Vec<Map>),
}

/// A ShellScheduler.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Scheduler {
    pub runs: Runs,
    /// Further arguments, as Python text.
    pub arguments: Vec<String>,
    /// What the name begins with; the event's follows.
    pub name: String,
}

#[derive(Clone, Debug, PartialEq)]
pub(super) enum Runs {
    /// Commands for `/bin/sh`, one after the other.
    Line(Vec<Vec<u8>>),
    /// A program and its arguments.
    Program(Vec<Vec<u8>>),
}

impl Draft {
    /// Makes the name of a scheduler of what is known of its origin: it may hold letters, digits, `.`, `_` and `-`, and
    /// there is only one of it.
    pub(super) fn name(&mut self, origin: &[u8]) -> String {
        let allowed = |byte: &u8| byte.is_ascii_alphanumeric() || b"._-".contains(byte);
        let clean: String = origin.iter().map(|b| if allowed(b) { *b as char } else { '_' }).collect();
        let numbered = |number: usize| if number == 1 { clean.clone() } else { format!("{clean}.{number}") };
        // So many names are taken that one more number is enough.
        let name = (1..=self.names.len() + 1).map(numbered).find(|name| !self.names.contains(name));
        let name = name.expect("some number is free");
        self.names.insert(name.clone());
        name
    }

    /// Sets an argument of `Pyinotifyd`.
    pub(super) fn set(&mut self, argument: String) {
        self.arguments.push(argument);
    }

    /// Says why an argument of `Pyinotifyd` is as it is.
    pub(super) fn remark(&mut self, text: &'static str) {
        self.remarks.push(text);
    }

    /// Says something about a place that no entry is for.
    pub(super) fn say(&mut self, severity: Severity, place: &Place, text: impl Into<String>) {
        let mut entry = Entry::new(place.clone(), Vec::new());
        entry.said.push((severity, text.into()));
        self.add(entry);
    }

    /// Adds an entry: as comments what it was and what is said about it, then its watches. One that would not load is
    /// left out. Of what is left out, only that counts.
    pub(super) fn add(&mut self, mut entry: Entry) {
        match judge::doubts(&entry) {
            Ok(doubts) => doubts.into_iter().for_each(|doubt| entry.differs(doubt)),
            Err(fault) => {
                entry.watches.clear();
                entry.left_out(fault);
            }
        }
        if entry.watches.is_empty() && entry.said.iter().any(|(severity, _)| *severity == Severity::LeftOut) {
            entry.said.retain(|(severity, _)| *severity == Severity::LeftOut);
        }
        let body = &mut self.body;
        let _ = writeln!(body, "\n# {}", entry.place);
        for line in &entry.source {
            let _ = writeln!(body, "{}", format!("#     {}", Escaped(line)).trim_end());
        }
        for (severity, text) in entry.said {
            let _ = writeln!(body, "# {}: {}", severity.level(), Escaped(text.as_bytes()));
            self.notes.push(Note { severity, place: entry.place.clone(), text });
        }
        for line in entry.before {
            let _ = writeln!(body, "{line}");
        }
        self.watches |= !entry.watches.is_empty();
        for watch in &entry.watches {
            let _ = writeln!(body, "watches.append({})", watch.call(0));
        }
    }

    /// Whether something is left out.
    pub(crate) fn is_incomplete(&self) -> bool {
        self.notes.iter().any(|note| note.severity == Severity::LeftOut)
    }

    /// Whether nothing is watched, and nothing says why.
    pub(crate) fn is_empty(&self) -> bool {
        !self.watches && !self.is_incomplete()
    }

    /// The text of the file; `origin` is what it was written from.
    pub(crate) fn text(&self, origin: &str) -> String {
        let mut text = format!("# Written by `pyinotifyd import {origin}`.\n{HEAD}\n");
        if self.body.contains("os.") {
            text.push_str("import os\n\n");
        }
        let scheduler = if self.body.contains("ShellScheduler(") { "ShellScheduler, " } else { "" };
        let watch = if self.body.contains("Watch(") { ", Watch" } else { "" };
        let names = format!("Pyinotifyd, {scheduler}").trim_end_matches(", ").to_owned() + watch;
        let arguments: Vec<_> =
            ["watches=watches".to_owned()].into_iter().chain(self.arguments.clone()).collect();
        let body = self.body.trim_end();
        let _ = write!(text, "from pyinotifyd import {names}\n\nwatches = []\n{body}");
        text.push_str("\n\n");
        for remark in &self.remarks {
            let _ = writeln!(text, "# {remark}");
        }
        let _ = writeln!(text, "pyinotifyd = Pyinotifyd({})", arguments.join(", "));
        text
    }
}

const HEAD: &str = "\
#
# Check it with `pyinotifyd -t -c FILE`, try it with `pyinotifyd --dry-run -c FILE`. Above each part stands what it was
# made from. `man pyinotifyd-config`, which is docs/reference.md in the sources, says what else it can hold.
";

impl Watch {
    fn call(&self, depth: usize) -> String {
        let mut arguments = vec![match self.paths.as_slice() {
            [path] => format!("path={}", Literal(path)),
            paths => format!("path={}", list(paths)),
        }];
        arguments.push(format!("event_map={}", self.map.expression(depth + 1)));
        if self.rec {
            arguments.extend(["rec=True".to_owned(), "auto_add=True".to_owned()]);
        }
        if self.initial {
            arguments.push("initial=\"all\"".to_owned());
        }
        if !self.exclude.is_empty() {
            let expressions: Vec<_> = self.exclude.iter().map(|text| raw(text)).collect();
            arguments.push(format!("exclude_filter=[{}]", expressions.join(", ")));
        }
        call("Watch", &arguments, depth)
    }
}

impl Map {
    /// Its schedulers, without those in variables.
    pub(super) fn schedulers(&self) -> Vec<&Scheduler> {
        match self {
            Map::Variable(..) => Vec::new(),
            Map::Shared(_, schedulers) | Map::Alike(_, schedulers) | Map::Table(_, _, schedulers) => {
                schedulers.iter().collect()
            }
            Map::Union(maps) => maps.iter().flat_map(Map::schedulers).collect(),
        }
    }

    /// What its schedulers are called, without those in variables.
    pub(super) fn scheduler_names(&self) -> Vec<String> {
        let of_events = |flags: &mut dyn Iterator<Item = &Flag>, schedulers: &[Scheduler]| {
            let of_event = |flag: &Flag| {
                schedulers.iter().map(|one| format!("{}-{}", one.name, flag.name())).collect::<Vec<_>>()
            };
            flags.flat_map(of_event).collect()
        };
        match self {
            Map::Variable(..) => Vec::new(),
            Map::Shared(_, schedulers) => schedulers.iter().map(|one| one.name.clone()).collect(),
            Map::Alike(flags, schedulers) => of_events(&mut flags.iter(), schedulers),
            Map::Table(_, rows, schedulers) => of_events(&mut rows.iter().map(|(flag, _)| flag), schedulers),
            Map::Union(maps) => maps.iter().flat_map(Map::scheduler_names).collect(),
        }
    }

    fn expression(&self, depth: usize) -> String {
        let indent = "    ".repeat(depth);
        match self {
            Map::Variable(flags, name) => format!("dict.fromkeys({}, {name})", names(flags, depth)),
            Map::Shared(flags, schedulers) => {
                format!("dict.fromkeys({}, {})", names(flags, depth), value(schedulers, &literal_name, depth))
            }
            Map::Alike(flags, schedulers) => {
                comprehension("event", &names(flags, depth + 1), schedulers, depth)
            }
            Map::Table(variables, rows, schedulers) => {
                let row = |(flag, values): &(Flag, String)| {
                    format!("{indent}        (\"{}\", {values}),\n", flag.name())
                };
                let rows: String = rows.iter().map(row).collect();
                let rows = format!("[\n{rows}{indent}    ]");
                comprehension(&format!("event, {variables}"), &rows, schedulers, depth)
            }
            Map::Union(maps) => {
                let maps: Vec<_> = maps.iter().map(|map| map.expression(depth)).collect();
                maps.join(" | ")
            }
        }
    }
}

fn comprehension(variables: &str, of: &str, schedulers: &[Scheduler], depth: usize) -> String {
    let indent = "    ".repeat(depth);
    let name = |scheduler: &Scheduler| format!("f\"{}-{{event}}\"", scheduler.name);
    let value = value(schedulers, &name, depth + 1);
    format!("{{\n{indent}    event: {value}\n{indent}    for {variables} in {of}\n{indent}}}")
}

fn literal_name(scheduler: &Scheduler) -> String {
    format!("\"{}\"", scheduler.name)
}

/// Names of events in a line.
const NAMES_IN_A_LINE: usize = 4;

fn names(flags: &[Flag], depth: usize) -> String {
    let quoted = |flags: &[Flag]| {
        let names: Vec<_> = flags.iter().map(|flag| format!("\"{}\"", flag.name())).collect();
        names.join(", ")
    };
    if flags.len() <= NAMES_IN_A_LINE {
        return format!("[{}]", quoted(flags));
    }
    let indent = "    ".repeat(depth);
    let line = |flags: &[Flag]| format!("{indent}    {},\n", quoted(flags));
    format!("[\n{}{indent}]", flags.chunks(NAMES_IN_A_LINE).map(line).collect::<String>())
}

fn value(schedulers: &[Scheduler], name: &dyn Fn(&Scheduler) -> String, depth: usize) -> String {
    let calls: Vec<_> = schedulers.iter().map(|scheduler| scheduler.call(&name(scheduler), depth)).collect();
    match calls.as_slice() {
        [call] => call.clone(),
        calls => format!("[{}]", calls.join(", ")),
    }
}

impl Scheduler {
    /// The call that makes it, with a name as Python text.
    pub(super) fn call(&self, name: &str, depth: usize) -> String {
        let runs = match &self.runs {
            Runs::Line(parts) => format!("cmd={}", line(parts, depth + 1)),
            Runs::Program(words) => format!("argv={}", list(words)),
        };
        let arguments = [&[runs][..], &self.arguments, &[format!("name={name}")]].concat();
        call("ShellScheduler", &arguments, depth)
    }
}

/// The text of commands that follow each other, each in a line of its own.
fn line(parts: &[Vec<u8>], depth: usize) -> String {
    let indent = "    ".repeat(depth);
    let (last, others) =
        parts.split_last().map_or((&[][..], parts), |(last, others)| (last.as_slice(), others));
    if others.is_empty() {
        return Literal(last).to_string();
    }
    let others = others.iter().map(|part| [part.as_slice(), b"; "].concat());
    let literal = |part: Vec<u8>| format!("{indent}    {}\n", Literal(&part));
    let lines: String = others.chain([last.to_vec()]).map(literal).collect();
    format!("(\n{lines}{indent})")
}

fn call(name: &str, arguments: &[String], depth: usize) -> String {
    let indent = "    ".repeat(depth);
    let lines: Vec<_> = arguments.iter().map(|argument| format!("{indent}    {argument},\n")).collect();
    format!("{name}(\n{}{indent})", lines.concat())
}

/// A list of Python's.
fn list(texts: &[Vec<u8>]) -> String {
    let literals: Vec<_> = texts.iter().map(|text| Literal(text).to_string()).collect();
    format!("[{}]", literals.join(", "))
}

/// A regular expression as people write it in Python, if it can be written so.
fn raw(expression: &[u8]) -> String {
    let literal = Literal(expression).to_string();
    let plain = |byte: &u8| (0x20..0x7f).contains(byte) && *byte != b'"';
    if expression.iter().all(plain) && !expression.ends_with(b"\\") {
        let text = String::from_utf8_lossy(expression);
        return if text.contains('\\') { format!("r\"{text}\"") } else { literal };
    }
    literal
}

/// A regular expression that matches a text and nothing else. Control characters are refused in a filter as they are.
pub(super) fn expression(text: &[u8]) -> Vec<u8> {
    let mut expression = Vec::with_capacity(text.len());
    for &byte in text {
        match byte {
            0..0x20 | 0x7f => expression.extend(format!("\\x{byte:02x}").bytes()),
            byte if br"\.^$*+?{}[]|()".contains(&byte) => expression.extend([b'\\', byte]),
            byte => expression.push(byte),
        }
    }
    expression
}

/// Seconds as Python text: whole ones as an int.
pub(super) fn seconds(seconds: f64) -> String {
    format!("{seconds}")
}
