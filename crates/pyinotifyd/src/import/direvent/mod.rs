//! Configurations of GNU direvent: direvent.conf(5) and direvent(8) of versions 5.2 to 5.5 on Linux, and what its
//! source does where these are silent. Where the versions differ, a command runs, or is told something, if it does in
//! any.
//!
//! direvent runs a command in the directory of the file, with the file's name and the event in its environment. Here a
//! line for the shell makes the same surroundings and becomes the command.

mod command;
mod read;

use event::Flag;

use super::draft::{Draft, Entry, Map, Runs, Scheduler, Severity, Watch, expression, seconds};
use super::shell::{self, DIRECTORY, NAME};
use super::{Kind, Look, is_link};
use crate::config::{Literal, literal_glob};
use crate::log::Escaped;
use read::{Find, Statement};
pub(super) use read::{Include, Included};

/// Events of direvent's own, with their bits and those that they stand for. `change`, of version 5.3 on, comes when a
/// file is closed that was written; in 5.2, `write` does.
const GENERIC: [(&str, u32, &[Flag]); 5] = [
    ("create", 1, &[Flag::Create, Flag::MovedTo]),
    ("attrib", 4, &[Flag::Attrib]),
    ("delete", 8, &[Flag::Delete, Flag::MovedFrom]),
    ("change", CHANGE, &[Flag::CloseWrite]),
    ("write", WRITE, &[Flag::Modify, Flag::CloseWrite]),
];
const WRITE: u32 = 2;
const CHANGE: u32 = 16;

/// Events of the system, by the names that direvent has for them.
const SYSTEM: [(&str, Flag); 10] = [
    ("ACCESS", Flag::Access),
    ("ATTRIB", Flag::Attrib),
    ("CLOSE_WRITE", Flag::CloseWrite),
    ("CLOSE_NOWRITE", Flag::CloseNowrite),
    ("CREATE", Flag::Create),
    ("DELETE", Flag::Delete),
    ("MODIFY", Flag::Modify),
    ("MOVED_FROM", Flag::MovedFrom),
    ("MOVED_TO", Flag::MovedTo),
    ("OPEN", Flag::Open),
];

/// Seconds after which direvent ends a command, unless the watcher says something else.
const TIMEOUT: f64 = 5.0;
/// Longest time that a config file of ours takes.
const SECONDS_MAX: f64 = 1e9;

/// What a user of direvent knows as something else.
const WORDS: &[(&str, &str)] = &[("$PYINOTIFYD_PATHNAME", "$DIREVENT_FILE"), ("{pathname}", "$file")];

/// What a command finds in its environment, of the variables of [`Map::Table`].
const ENVIRONMENT: &str = "\
env={
                \"DIREVENT_GENEV_NAME\": genev,
                \"DIREVENT_GENEV_CODE\": genev_code,
                \"DIREVENT_SYSEV_NAME\": sysev,
                \"DIREVENT_SYSEV_CODE\": sysev_code,
            }";

/// Adds what a configuration says.
pub(super) fn translate(file: &[u8], text: &[u8], find: Find<'_>, look: Look<'_>, draft: &mut Draft) {
    let statements = read::statements(file, text, find, draft);
    let mut common = Environ::default();
    for statement in statements.iter().filter(|statement| statement.keyword == b"environ") {
        let mut entry = Entry::new(statement.place.clone(), vec![statement.line()]);
        common.take(statement, &mut entry);
        if !entry.said.is_empty() {
            draft.add(entry);
        }
    }
    for statement in &statements {
        let mut entry = Entry::new(statement.place.clone(), vec![statement.line()]);
        match (statement.keyword.as_slice(), &statement.block) {
            (b"watcher", Some(block)) => {
                entry.source = [&[b"watcher {".to_vec()][..], &lines(block), &[b"}".to_vec()]].concat();
                entry.words = WORDS;
                let mut watcher = Watcher::new(common.clone());
                for inner in block {
                    watcher.take(inner, &mut entry);
                }
                let name = draft.name(&[b"watcher-", statement.place.line.to_string().as_bytes()].concat());
                if let Err(text) = watcher.translate(&name, look, &mut entry) {
                    entry.left_out(text);
                }
                draft.add(entry);
            }
            (b"environ" | b"foreground" | b"pidfile", _) => {}
            (b"shutdown-timeout", None) => match number(statement) {
                Some(timeout) => draft.set(format!("shutdown_timeout={}", seconds(timeout))),
                None => draft.say(Severity::LeftOut, &statement.place, "expected a number of seconds"),
            },
            (keyword, _) => {
                match keyword {
                    b"user" => entry.differs("set User= of the service that runs pyinotifyd"),
                    b"syslog" => {
                        entry
                            .differs("write enableSyslog() into the config, or let the journal have the log");
                    }
                    b"debug" => entry.differs("start pyinotifyd with -d to log every event"),
                    keyword => entry.left_out(format!("'{}' is unknown here", Escaped(keyword))),
                }
                draft.add(entry);
            }
        }
    }
}

/// The lines of a block, as comments show them.
fn lines(block: &[Statement]) -> Vec<Vec<u8>> {
    let mut shown = Vec::new();
    for statement in block {
        shown.push([b"    ", statement.line().as_slice()].concat());
        if let Some(inner) = &statement.block {
            shown.extend(lines(inner).into_iter().map(|line| [b"    ", line.as_slice()].concat()));
            shown.push(b"    }".to_vec());
        }
    }
    shown
}

fn number(statement: &Statement) -> Option<f64> {
    let [text] = statement.texts()[..] else { return None };
    let number: f64 = std::str::from_utf8(text).ok()?.parse().ok()?;
    (0.0..=SECONDS_MAX).contains(&number).then_some(number)
}

/// How deep a directory is watched.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Depth {
    Flat,
    Levels(u32),
    All,
}

#[derive(Debug)]
#[expect(clippy::struct_excessive_bools, reason = "each is an option of its own in the file")]
struct Watcher {
    roots: Vec<(Vec<u8>, Depth)>,
    generic: u32,
    system: Vec<Flag>,
    files: Vec<Vec<u8>>,
    command: Option<Vec<u8>>,
    user: Vec<Vec<u8>>,
    timeout: f64,
    shell: bool,
    wait: bool,
    stdout: bool,
    stderr: bool,
    instances: Option<u32>,
    environ: Environ,
}

impl Watcher {
    fn new(environ: Environ) -> Watcher {
        Watcher {
            roots: Vec::new(),
            generic: 0,
            system: Vec::new(),
            files: Vec::new(),
            command: None,
            user: Vec::new(),
            timeout: TIMEOUT,
            shell: false,
            wait: false,
            stdout: false,
            stderr: false,
            instances: None,
            environ,
        }
    }

    fn take(&mut self, statement: &Statement, entry: &mut Entry) {
        let texts = statement.texts();
        match statement.keyword.as_slice() {
            b"path" => self.take_path(&texts, entry),
            b"event" => texts.iter().for_each(|text| self.take_event(text, entry)),
            b"file" => self.files.extend(texts.iter().map(|text| text.to_vec())),
            b"command" => self.command = Some(texts.join(b" ".as_slice())),
            b"user" => self.user = texts.iter().map(|text| text.to_vec()).collect(),
            b"timeout" => match number(statement) {
                Some(timeout) => self.timeout = timeout,
                None => entry.left_out("timeout: expected a number of seconds"),
            },
            b"option" => texts.iter().for_each(|text| self.take_option(text, entry)),
            b"environ" => self.environ.take(statement, entry),
            b"max-instances" => match number(statement).filter(|number| *number >= 1.0) {
                Some(number) => self.instances = Some(number as u32),
                None => entry.left_out("max-instances: expected a number of at least 1"),
            },
            keyword => entry.left_out(format!("'{}' is unknown here", Escaped(keyword))),
        }
    }

    fn take_path(&mut self, texts: &[&[u8]], entry: &mut Entry) {
        let depth = match texts[1..].iter().map(|text| std::str::from_utf8(text)).collect::<Vec<_>>()[..] {
            [] => Some(Depth::Flat),
            [Ok("recursive")] => Some(Depth::All),
            [Ok("recursive"), Ok(level)] => match level.parse::<i64>() {
                Ok(0) => Some(Depth::Flat),
                Ok(level) => Some(u32::try_from(level).map_or(Depth::All, Depth::Levels)),
                Err(_) => None,
            },
            _ => None,
        };
        match (texts.first(), depth) {
            (Some(path), Some(depth)) if path.starts_with(b"/") => self.roots.push((path.to_vec(), depth)),
            (Some(path), Some(_)) => {
                entry.left_out(format!("path {}: write it from / on", Escaped(path)));
            }
            (_, _) => entry.left_out("path: expected a path, and `recursive` with a number or none"),
        }
    }

    fn take_event(&mut self, text: &[u8], entry: &mut Entry) {
        let generic = GENERIC.iter().find(|(name, ..)| name.as_bytes() == text);
        let system = SYSTEM.iter().find(|(name, _)| name.as_bytes() == text);
        match (generic, system) {
            (Some((_, bit, _)), _) => self.generic |= bit,
            (None, Some((_, flag))) => self.system.push(*flag),
            (None, None) => entry.left_out(format!(
                "event {}: direvent knows no such event on Linux and refuses the file",
                Escaped(text)
            )),
        }
    }

    fn take_option(&mut self, text: &[u8], entry: &mut Entry) {
        match text {
            b"shell" => self.shell = true,
            b"wait" => self.wait = true,
            b"nowait" => self.wait = false,
            b"stdout" => self.stdout = true,
            b"stderr" => self.stderr = true,
            other => entry.left_out(format!("option {} is unknown", Escaped(other))),
        }
    }

    /// # Errors
    /// Why there is no watch.
    fn translate(mut self, name: &str, look: Look<'_>, entry: &mut Entry) -> Result<(), String> {
        if self.roots.is_empty() {
            return Err("no path that can be watched".to_owned());
        }
        // Without it, the command would run as the daemon does.
        if !self.user.iter().all(|name| is_account(name)) {
            return Err("user: expected the names of a user and a group".to_owned());
        }
        if self.generic == 0 && self.system.is_empty() {
            self.generic = GENERIC.iter().map(|(_, bit, _)| bit).sum();
            self.system = SYSTEM.iter().map(|(_, flag)| *flag).collect();
        }
        if self.generic & CHANGE != 0 {
            entry.differs(
                "change: runs when a file that was open for writing is closed, also if nothing was written meanwhile",
            );
        } else if self.generic & WRITE != 0 && !self.system.contains(&Flag::CloseWrite) {
            entry.differs(
                "write: runs also when a file that was open for writing is closed, as in direvent 5.2; since 5.3 it \
                 does not: without it, drop IN_CLOSE_WRITE",
            );
        }
        if self.wait {
            entry.differs(
                "option wait: one command at a time for each kind of event of this watcher; for one at a time at all \
                 write Pyinotifyd(watches=watches, max_jobs=1)",
            );
        }
        for (path, _) in
            self.roots.iter().filter(|(path, depth)| *depth != Depth::Flat && is_link(path, look))
        {
            entry.differs(format!(
                "path {} is a link: the directories below it are not watched here; write the path that it leads to",
                Escaped(path)
            ));
        }
        let is_directory = |path: &[u8]| look(path).kind != Some(Kind::File);
        let script = self.script(&is_directory, entry)?;
        let is_deep = |(path, depth): &(Vec<u8>, Depth)| *depth != Depth::Flat && is_directory(path);
        let (deep, flat): (Vec<_>, Vec<_>) = std::mem::take(&mut self.roots).into_iter().partition(is_deep);
        for (roots, rec) in [(flat, false), (deep, true)] {
            if roots.is_empty() {
                continue;
            }
            let name = if rec { format!("{name}-rec") } else { name.to_owned() };
            entry.watches.push(Watch {
                paths: roots.iter().map(|(path, _)| literal_glob(path)).collect(),
                map: self.map(&script, &name),
                rec,
                initial: false,
                exclude: roots.iter().filter_map(|(path, depth)| too_deep(path, *depth)).collect(),
            });
        }
        Ok(())
    }

    fn map(&self, script: &[Vec<u8>], name: &str) -> Map {
        let row = |event: &Event| {
            let (generic, code) = event.generic.unwrap_or_default();
            let (system, system_code) = event.system.unwrap_or_default();
            (event.flag, format!("\"{generic}\", \"{code}\", \"{system}\", \"{system_code}\""))
        };
        let rows = self.events().iter().map(row).collect();
        Map::Table("genev, genev_code, sysev, sysev_code", rows, vec![self.scheduler(script, name)])
    }

    /// The events that reach the command, with what direvent says of them: 5.2 says both names of each, later versions
    /// those that were asked for.
    fn events(&self) -> Vec<Event> {
        let event = |flag: Flag| {
            let of_flag = || GENERIC.iter().filter(|(_, _, flags)| flags.contains(&flag));
            let asked = of_flag().find(|(_, bit, _)| self.generic & bit != 0);
            let generic = asked.or_else(|| of_flag().next_back()).map(|(name, bit, _)| (*name, *bit));
            let system = SYSTEM.iter().find(|(_, other)| *other == flag);
            let system = system.map(|(name, flag)| (*name, flag.mask().0));
            (asked.is_some() || self.system.contains(&flag)).then_some(Event { flag, generic, system })
        };
        Flag::ALL.into_iter().filter_map(event).collect()
    }

    fn scheduler(&self, script: &[Vec<u8>], name: &str) -> Scheduler {
        let mut arguments = vec!["dirs=True".to_owned(), "on_busy=\"rerun\"".to_owned()];
        let output = if self.stdout || self.stderr { "log" } else { "null" };
        arguments.push(format!("output=\"{output}\""));
        if self.timeout > 0.0 {
            arguments.push(format!("timeout={}", seconds(self.timeout)));
        }
        let instances = if self.wait { Some(1) } else { self.instances };
        arguments.extend(instances.map(|count| format!("max_jobs={count}")));
        for (argument, value) in ["user", "group"].iter().zip(&self.user) {
            arguments.push(format!("{argument}={}", Literal(value)));
        }
        arguments.push(ENVIRONMENT.to_owned());
        Scheduler { runs: Runs::Line(script.to_vec()), arguments, name: name.to_owned() }
    }

    /// The line that makes direvent's surroundings and becomes the command.
    ///
    /// # Errors
    /// The command is missing, or cannot be translated.
    fn script(
        &self,
        is_directory: &dyn Fn(&[u8]) -> bool,
        entry: &mut Entry,
    ) -> Result<Vec<Vec<u8>>, String> {
        let Some(command) = &self.command else { return Err("no command".to_owned()) };
        let mut parts: Vec<Vec<u8>> = Vec::new();
        // The kernel tells these of the directory itself, too; direvent leaves that out.
        let of_itself = [Flag::Attrib, Flag::Open, Flag::Access, Flag::CloseNowrite];
        let directories: Vec<_> = self
            .roots
            .iter()
            .filter(|(path, _)| is_directory(path))
            .map(|(path, _)| shell::quoted(&trimmed(path)))
            .collect();
        if !directories.is_empty() && self.events().iter().any(|event| of_itself.contains(&event.flag)) {
            let directories = directories.join(b"|".as_slice());
            parts.push(
                [b"case $PYINOTIFYD_PATHNAME in ", directories.as_slice(), b") exit 0;; esac"].concat(),
            );
        }
        parts.push(format!("cd -- \"{DIRECTORY}/\" || exit").into_bytes());
        parts.push(format!("export DIREVENT_FILE=\"{NAME}\"").into_bytes());
        parts.extend(patterns(&self.files, entry));
        parts.extend(self.environ.parts.clone());
        match (self.stdout, self.stderr) {
            (true, false) => parts.push(b"exec 2>/dev/null".to_vec()),
            (false, true) => parts.push(b"exec >/dev/null".to_vec()),
            _ => {}
        }
        let of_command = |text: String| format!("command: {text}");
        if !self.shell {
            let words = command::words(command).map_err(of_command)?;
            if words.is_empty() {
                return Err("no command".to_owned());
            }
            parts.push([b"exec ", self.environ.cleared().as_slice(), words.as_slice()].concat());
        } else if self.environ.clears {
            return Err(
                "environ clears it, and there is option shell: begin the command with env -i".to_owned()
            );
        } else {
            parts.push(command::script(command).map_err(of_command)?);
        }
        Ok(parts)
    }
}

/// An event, with the name and the bit that direvent gives it as one of its own and as one of the system's.
struct Event {
    flag: Flag,
    generic: Option<(&'static str, u32)>,
    system: Option<(&'static str, u32)>,
}

/// Whether a text can be the name of a user or a group, or its number.
fn is_account(text: &[u8]) -> bool {
    let is_allowed = |letter: char| letter.is_alphanumeric() || "._-+@$\\".contains(letter);
    std::str::from_utf8(text).is_ok_and(|text| !text.is_empty() && text.chars().all(is_allowed))
}

fn trimmed(path: &[u8]) -> Vec<u8> {
    if path == b"/" { path.to_vec() } else { path.strip_suffix(b"/").unwrap_or(path).to_vec() }
}

/// The expression for what is below the deepest directory that is watched.
fn too_deep(root: &[u8], depth: Depth) -> Option<Vec<u8>> {
    let Depth::Levels(levels) = depth else { return None };
    let root = expression(root.strip_suffix(b"/").unwrap_or(root));
    let below = format!("/(?:[^/]*/){{{}}}", levels.saturating_add(1));
    // Deeper than any path can be.
    (levels < 4096).then(|| [b"^", root.as_slice(), below.as_bytes()].concat())
}

/// A test that ends the line for names which no pattern matches.
fn patterns(files: &[Vec<u8>], entry: &mut Entry) -> Option<Vec<u8>> {
    let mut tests = Vec::new();
    for pattern in files {
        let (negated, pattern) = match pattern.strip_prefix(b"!") {
            Some(rest) => (true, rest),
            None => (false, pattern.as_slice()),
        };
        if let Some(rest) = pattern.strip_prefix(b"/") {
            let Some(end) = rest.iter().position(|byte| *byte == b'/') else {
                entry.left_out(format!("file {}: its second / is missing", Escaped(pattern)));
                continue;
            };
            let flags = &rest[end + 1..];
            let mut options = if flags.contains(&b'b') { "-q".to_owned() } else { "-Eq".to_owned() };
            options.extend(flags.contains(&b'i').then_some('i'));
            let not = if negated { "! " } else { "" };
            let expression = shell::quoted(&rest[..end]);
            let test = format!("{not}printf '%s\\n' \"$DIREVENT_FILE\" | grep {options} -e ");
            tests.push([test.as_bytes(), &expression].concat());
        } else {
            let (inside, behind) = if negated { ("false", "") } else { ("", " *) false;;") };
            let test = [b"case $DIREVENT_FILE in ", shell::glob(pattern).as_slice()].concat();
            tests.push([test.as_slice(), format!(") {inside};;{behind} esac").as_bytes()].concat());
        }
    }
    (!tests.is_empty()).then(|| [tests.join(b" || ".as_slice()).as_slice(), b" || exit 0"].concat())
}

/// `NAME+=VALUE` or `NAME=+VALUE`: a variable that gets more.
struct Change<'a> {
    name: &'a [u8],
    /// Whether it goes before what is there.
    in_front: bool,
    /// What stands between the old value and the new one, and nowhere if there is no old one: the punctuation that the
    /// new one has there.
    between: &'a [u8],
    value: &'a [u8],
}

impl<'a> Change<'a> {
    fn parse(text: &'a [u8]) -> Option<Change<'a>> {
        let name = command::name(text);
        let (in_front, value) = match text[name.len()..].split_at_checked(2)? {
            (b"+=", value) => (false, value),
            (b"=+", value) => (true, value),
            _ => return None,
        };
        let (between, value) = match value {
            [first, rest @ ..] if !in_front && first.is_ascii_punctuation() => (&value[..1], rest),
            [rest @ .., last] if in_front && last.is_ascii_punctuation() => (&value[rest.len()..], rest),
            _ => (b"".as_slice(), value),
        };
        (!name.is_empty()).then_some(Change { name, in_front, between, value })
    }

    /// Whether the punctuation means nothing to a shell, nor to direvent.
    fn is_plain(&self) -> bool {
        self.between.iter().all(|byte| b":;,.+-=/@%|&#!?*^~<>()[]".contains(byte))
    }

    fn exported(&self, value: &[u8]) -> Vec<u8> {
        let Change { name, between, .. } = *self;
        let old = if self.in_front {
            [b"\"${", name, b"+", between, b"$", name, b"}\""].concat()
        } else {
            [b"\"${", name, b"+$", name, between, b"}\""].concat()
        };
        let value = if value == b"''" { b"" } else { value };
        let (first, second) = if self.in_front { (value, old.as_slice()) } else { (old.as_slice(), value) };
        [b"export ", name, b"=", first, second].concat()
    }
}

/// What is done to the environment.
#[derive(Clone, Debug, Default)]
struct Environ {
    clears: bool,
    /// Variables that stay.
    kept: Vec<Vec<u8>>,
    /// Shell text that sets and removes others, in order.
    parts: Vec<Vec<u8>>,
}

impl Environ {
    fn take(&mut self, statement: &Statement, entry: &mut Entry) {
        let Some(block) = &statement.block else {
            return self.take_old(&statement.texts(), entry);
        };
        for inner in block {
            for text in inner.texts() {
                self.take_one(&inner.keyword, text, entry);
            }
            if inner.texts().is_empty() {
                self.take_one(&inner.keyword, b"", entry);
            }
        }
    }

    fn take_one(&mut self, keyword: &[u8], text: &[u8], entry: &mut Entry) {
        let (name, value) = match text.iter().position(|byte| *byte == b'=') {
            Some(at) => (&text[..at], Some(&text[at + 1..])),
            None => (text, None),
        };
        let is_name = !name.is_empty() && command::name(name) == name;
        match (keyword, value) {
            (b"clear", None) => self.clears = true,
            (b"keep", None) if text == b"DIREVENT_*" => {
                self.clears = true;
                self.kept.extend(command::MACROS.map(|(_, variable)| variable.as_bytes().to_vec()));
            }
            (b"keep", None) if is_name => {
                self.clears = true;
                self.kept.push(name.to_vec());
            }
            (b"set", Some(value)) if is_name => match command::value(value) {
                Ok(value) => {
                    self.kept.push(name.to_vec());
                    self.parts.push([b"export ", name, b"=", value.as_slice()].concat());
                }
                Err(text) => entry.left_out(format!("environ: {text}")),
            },
            (b"eval", _) => match command::value(text) {
                Ok(value) => self.parts.push([b": ", value.as_slice()].concat()),
                Err(text) => entry.left_out(format!("environ: {text}")),
            },
            (b"unset", None) if is_name => self.parts.push([b"unset ", name].concat()),
            (b"unset", Some(value)) if is_name => {
                let value = shell::quoted(value);
                self.parts.push([b"[ \"$", name, b"\" != ", &value, b" ] || unset ", name].concat());
            }
            _ => {
                let line = Escaped(&[keyword, b" ", text].concat()).to_string();
                entry.left_out(format!("environ: {line}: write the names of the variables, one by one"));
                self.clears |= keyword == b"keep";
            }
        }
    }

    /// The syntax before version 5.3.
    fn take_old(&mut self, texts: &[&[u8]], entry: &mut Entry) {
        for (index, text) in texts.iter().enumerate() {
            match *text {
                [b'-'] if index == 0 => self.take_one(b"keep", b"DIREVENT_*", entry),
                b"--" if index == 0 => self.clears = true,
                [b'-', name @ ..] => self.take_one(b"unset", name, entry),
                text => match Change::parse(text) {
                    Some(change) => self.take_change(text, &change, entry),
                    None if text.contains(&b'=') => self.take_one(b"set", text, entry),
                    None => self.kept.push(text.to_vec()),
                },
            }
        }
    }

    /// What lengthens a variable keeps it, and counts as its value where there is none.
    fn take_change(&mut self, text: &[u8], change: &Change<'_>, entry: &mut Entry) {
        match command::value(change.value) {
            Ok(value) if change.is_plain() => {
                self.kept.push(change.name.to_vec());
                self.parts.push(change.exported(&value));
            }
            _ => {
                let text = Escaped(text).to_string();
                entry.left_out(format!(
                    "environ: {text}: write set with ${{NAME}} in its value, as of version 5.3"
                ));
            }
        }
    }

    /// The program that clears the environment, if it is to be cleared.
    fn cleared(&self) -> Vec<u8> {
        if !self.clears {
            return Vec::new();
        }
        let kept = self.kept.iter().filter(|name| !name.is_empty() && command::name(name) == name.as_slice());
        let words = kept.map(|name| [b"${", name.as_slice(), b"+\"", name, b"=$", name, b"\"} "].concat());
        [b"env -i ".to_vec()].into_iter().chain(words).collect::<Vec<_>>().concat()
    }
}

#[cfg(test)]
#[path = "../direvent_tests.rs"]
mod tests;
