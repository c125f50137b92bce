//! Tables of incron: incrontab(5) and incrond(8) of version 0.5.12, and what its source does where these are silent.
//!
//! incron puts paths and names into the text of a command, with a backslash before blanks and before backslashes, and
//! gives that to `/bin/bash`, or to `/bin/sh` for a table of the system where Debian has not changed that. Here the
//! shell expands them, so that each is what it is, in any quotes.

use std::collections::{HashMap, HashSet};

use event::{Flag, Mask};

use super::draft::{Draft, Entry, Map, Place, Runs, Scheduler, Watch, expression};
use super::shell::{self, DIRECTORY, NAME, PATH};
use super::{Kind, Look, is_link};
use crate::action::occasion::Placeholder;
use crate::action::template::Instead;
use crate::config::{Literal, literal_glob};
use crate::log::Escaped;

/// A table as it was read.
#[derive(Debug)]
pub(super) struct Table {
    pub path: Vec<u8>,
    pub text: Vec<u8>,
    /// Whose it is, if it belongs to a user.
    pub user: Option<String>,
}

/// Adds what a table says.
pub(super) fn translate(table: &Table, look: Look<'_>, draft: &mut Draft) {
    // incron takes the first line for a path and only complains of the others.
    let mut seen: HashMap<Vec<u8>, usize> = HashMap::new();
    let texts = table
        .text
        .split(|byte| *byte == b'\n')
        .enumerate()
        .filter(|(_, text)| !text.trim_ascii().is_empty() && !text.trim_ascii_start().starts_with(b"#"));
    let lines: Vec<_> = texts.map(|(index, text)| (index + 1, text, Line::parse(text))).collect();
    let mut paths = HashSet::new();
    let parsed = lines.iter().filter_map(|(number, _, line)| Some((*number, line.as_ref()?)));
    let firsts: Vec<(usize, &Line)> = parsed.filter(|(_, line)| paths.insert(&line.path)).collect();
    for (number, text, line) in &lines {
        let mut entry = Entry::new(Place::of(&table.path, *number), vec![text.to_vec()]);
        match line {
            None => entry.left_out("incron ignores it: expected a path, a mask and a command"),
            Some(line) => {
                if let Some(first) = seen.get(&line.path) {
                    entry.differs(format!(
                        "incron ignores it, as line {first} has the same path, and so it is left out here"
                    ));
                } else {
                    let file = table.path.rsplit(|byte| *byte == b'/').next().unwrap_or_default();
                    let name = draft.name(&[file, b"-", number.to_string().as_bytes()].concat());
                    line.translate(table, look, &name, &mut entry);
                    if !entry.watches.is_empty() {
                        seen.insert(line.path.clone(), *number);
                        line.leave(*number, firsts.iter().copied(), look, &mut entry);
                    }
                }
            }
        }
        draft.add(entry);
    }
}

/// A line, taken apart.
#[derive(Debug, PartialEq)]
struct Line {
    path: Vec<u8>,
    mask: Wanted,
    command: Vec<u8>,
}

impl Line {
    fn parse(text: &[u8]) -> Option<Line> {
        let (path, rest) = token(text)?;
        let (mask, rest) = token(rest)?;
        let command = rest.trim_ascii();
        (!command.is_empty()).then(|| Line { path, mask: Wanted::parse(&mask), command: command.to_vec() })
    }

    fn translate(&self, table: &Table, look: Look<'_>, name: &str, entry: &mut Entry) {
        if !self.path.starts_with(b"/") {
            return entry.left_out("its path is not absolute: write it from / on");
        }
        let standing = look(&self.path);
        let is_glob = self.path.contains(&b'*');
        self.mask.say(standing.kind, standing.is_link, entry);
        if self.mask.flags.is_empty() {
            return entry
                .left_out("incron watches nothing for it: its mask holds no event, see pyinotifyd --list");
        }
        if self.mask.only_dir && standing.kind == Some(Kind::File) {
            return entry.left_out("incron watches nothing for it: IN_ONLYDIR, and the path is a file");
        }
        if is_glob && !self.mask.recursive {
            return entry
                .left_out("incron watches nothing for it: a * needs recursion; leave out recursive=false");
        }
        // incron looks for directories below a link only where the slash leads to what it points to.
        if self.mask.recursive && self.path.ends_with(b"/") && is_link(&self.path, look) {
            entry.differs(
                "the path is a link: the directories below it are not watched here; write the path that it leads to",
            );
        }
        if let Some(word) = word_of_mask(&self.command) {
            let word = Escaped(word);
            entry.differs(format!(
                "a blank ends the mask, so that incron runs '{word}' as the command, and so does this: write the mask \
                 without blanks"
            ));
        }
        let names_place = |sign: &[u8]| self.command.windows(2).any(|pair| pair == sign);
        if is_glob && (names_place(b"$@") || names_place(b"$#")) {
            entry.differs(
                "what the * matches is taken for directories; where it is files, incron puts their paths for $@ and \
                 nothing for $#",
            );
        }
        match self.map(table, standing.kind == Some(Kind::File), name, entry) {
            Ok(map) => {
                if self.mask.oneshot {
                    let names = map.scheduler_names().join(" ");
                    entry.differs(format!(
                        "IN_ONESHOT: incron runs the command for one event and then watches no more; here it runs for \
                         each. Let the command end with `pyinotifyd pause {names}`; later events wait then, and run at \
                         `resume` unless `pyinotifyd cancel --scheduler NAME` comes first"
                    ));
                }
                entry.watches.push(self.watch(map, is_glob));
            }
            Err(text) => entry.left_out(text),
        }
    }

    /// Leaves to other lines of the table what incron leaves to them: of two lines for a directory, the first one's
    /// watch is there already. Each has its own path, and the earlier one what both find.
    fn leave<'a>(
        &self,
        number: usize,
        others: impl Iterator<Item = (usize, &'a Line)>,
        look: Look<'_>,
        entry: &mut Entry,
    ) {
        for (other_number, other) in others.filter(|(_, other)| self.finds(other, look)) {
            if other_number < number && other.mask.recursive {
                let below = [b"^", expression(other.root()).as_slice(), b"/"].concat();
                entry.watches.iter_mut().for_each(|watch| watch.exclude.push(below.clone()));
            } else {
                entry.differs(format!(
                    "incron runs only the command of line {other_number} for what is in that line's directory, here \
                     both run; write that line before this one to leave all below it to it"
                ));
            }
        }
    }

    /// Whether the directory of another line is one that this line finds below its own.
    fn finds(&self, other: &Line, look: Look<'_>) -> bool {
        let Some(below) = other.root().strip_prefix(self.root()) else { return false };
        let is_below = self.mask.recursive && below.starts_with(b"/") && !below.contains(&b'*');
        let is_hidden = !self.mask.dotdirs && below.windows(2).any(|pair| pair == b"/.");
        is_below && !is_hidden && !other.mask.flags.is_empty() && look(&other.path).kind != Some(Kind::File)
    }

    fn root(&self) -> &[u8] {
        self.path.strip_suffix(b"/").unwrap_or(&self.path)
    }

    fn watch(&self, map: Map, is_glob: bool) -> Watch {
        let root = self.root();
        // incron looks for directories with `find ! -path '*/.*'`: below a name with a dot there are none for it.
        let is_hidden = root.split(|byte| *byte == b'/').any(|name| name.starts_with(b"."));
        let leaves_out = !self.mask.dotdirs && !is_glob;
        Watch {
            paths: vec![if is_glob { self.path.clone() } else { literal_glob(&self.path) }],
            map,
            rec: self.mask.recursive && !(leaves_out && is_hidden),
            initial: false,
            exclude: if self.mask.recursive && leaves_out && !is_hidden {
                vec![[b"^", expression(root).as_slice(), br"/(?:[^/]*/)*\.[^/]*/"].concat()]
            } else {
                Vec::new()
            },
        }
    }

    fn map(&self, table: &Table, is_file: bool, name: &str, entry: &mut Entry) -> Result<Map, String> {
        let command = Command::parse(&self.command, if is_file { Of::File } else { Of::Any });
        if let Some(letter) = command.dropped {
            entry.differs(format!(
                "incron drops a $ that stands before none of $@#%&, here before '{letter}', and so does this; for a \
                 variable of the shell's write $$"
            ));
        }
        if command.in_quotes() {
            entry.differs(
                "in quotes incron puts a backslash before each blank of a path; here the command gets the path as \
                 it is",
            );
        }
        let is_of_itself = |flag: &Flag| matches!(flag, Flag::DeleteSelf | Flag::MoveSelf);
        let (itself, others): (Vec<_>, Vec<_>) = self.mask.flags.iter().copied().partition(is_of_itself);
        let mut maps = Vec::new();
        if !others.is_empty() {
            maps.push(self.map_of(others, &command, false, table, name)?);
        }
        if !itself.is_empty() {
            let command = Command::parse(&self.command, Of::Itself);
            let name = if maps.is_empty() { name.to_owned() } else { format!("{name}-self") };
            maps.push(self.map_of(itself, &command, true, table, &name)?);
        }
        Ok(if maps.len() == 1 { maps.remove(0) } else { Map::Union(maps) })
    }

    fn map_of(
        &self,
        flags: Vec<Flag>,
        command: &Command,
        is_itself: bool,
        table: &Table,
        name: &str,
    ) -> Result<Map, String> {
        // The text of a mask says whether it is of a directory; but not where that is the one that is watched.
        let has_mask = command.has(&Piece::Mask) || command.has(&Piece::Number);
        let of: &[Of] = match (is_itself, has_mask) {
            (true, _) => &[Of::Itself],
            (false, true) => &[Of::File, Of::Directory],
            (false, false) => &[Of::Any],
        };
        let schedulers = self.schedulers(of, command, table, name)?;
        if command.has(&Piece::Number) {
            let rows = flags.into_iter().map(|flag| (flag, format!("{:#x}", flag.mask().0)));
            return Ok(Map::Table("mask", rows.collect(), schedulers));
        }
        Ok(if self.mask.no_loop { Map::Shared(flags, schedulers) } else { Map::Alike(flags, schedulers) })
    }

    /// What runs for an event: one scheduler, or one for files and one for directories.
    fn schedulers(
        &self,
        of: &[Of],
        command: &Command,
        table: &Table,
        name: &str,
    ) -> Result<Vec<Scheduler>, String> {
        let scheduler = |of: &Of| {
            let mut arguments: Vec<String> = of.arguments().iter().map(|text| (*text).to_owned()).collect();
            if !self.mask.no_loop {
                arguments.push("on_busy=\"rerun\"".to_owned());
            }
            let mut variables = Vec::new();
            if let Some(user) = table.user.as_deref().filter(|user| *user != "root") {
                let user = Literal(user.as_bytes());
                arguments.push(format!("user={user}"));
                variables.extend([format!("\"PATH\": \"{PROGRAMS}\""), format!("\"USERNAME\": {user}")]);
            }
            if command.has(&Piece::Number) {
                variables.push(format!("\"INCRON_MASK\": str({})", of.number()));
            }
            if !variables.is_empty() {
                arguments.push(format!("env={{{}}}", variables.join(", ")));
            }
            let name = if *of == Of::Directory { format!("{name}-dirs") } else { name.to_owned() };
            Ok(Scheduler { runs: command.runs(*of)?, arguments, name })
        };
        of.iter().map(scheduler).collect()
    }
}

/// `$PATH` of the commands of users.
const PROGRAMS: &str = "/usr/local/bin:/usr/bin:/bin:/usr/X11R6/bin";

/// The events of which objects.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Of {
    Any,
    File,
    Directory,
    /// That which is watched.
    Itself,
}

impl Of {
    fn arguments(self) -> &'static [&'static str] {
        match self {
            Of::Any | Of::Itself => &["dirs=True"],
            Of::File => &[],
            Of::Directory => &["files=False", "dirs=True"],
        }
    }

    /// The number of a mask, in the variables of [`Map::Table`].
    fn number(self) -> &'static str {
        match self {
            Of::Any | Of::File | Of::Itself => "mask",
            Of::Directory => "mask | 0x40000000",
        }
    }
}

/// Takes a word off a line: a backslash keeps the blank behind it in the word, and is gone unless it stands twice.
fn token(text: &[u8]) -> Option<(Vec<u8>, &[u8])> {
    let start = text.iter().position(|byte| !b" \t".contains(byte))?;
    let (mut word, mut at) = (Vec::new(), start);
    while at < text.len() {
        match text[at] {
            b' ' | b'\t' => break,
            b'\\' => {
                word.extend(text.get(at + 1));
                at += 2;
            }
            byte => {
                word.push(byte);
                at += 1;
            }
        }
    }
    Some((word, text.get(at..).unwrap_or_default()))
}

/// The first word of a command, if it was meant for the mask.
fn word_of_mask(command: &[u8]) -> Option<&[u8]> {
    let word = command.split(u8::is_ascii_whitespace).next()?;
    let names: Vec<_> = word.split(|byte| *byte == b',').filter(|name| !name.is_empty()).collect();
    let is_known = |name: &[u8]| Wanted::parse(name).unknown.is_empty();
    (!names.is_empty() && names.iter().all(|name| name.starts_with(b"IN_") && is_known(name))).then_some(word)
}

/// What the mask of a line says.
#[derive(Debug, Default, PartialEq)]
#[expect(clippy::struct_excessive_bools, reason = "each is an option of its own in the table")]
struct Wanted {
    flags: Vec<Flag>,
    dont_follow: bool,
    only_dir: bool,
    oneshot: bool,
    no_loop: bool,
    recursive: bool,
    dotdirs: bool,
    /// What means nothing to incron, nor to us.
    unknown: Vec<Vec<u8>>,
}

/// Bits of a mask that are no events (inotify(7)).
const IN_ONLYDIR: u32 = 0x0100_0000;
const IN_DONT_FOLLOW: u32 = 0x0200_0000;
const IN_ONESHOT: u32 = 0x8000_0000;

impl Wanted {
    fn parse(text: &[u8]) -> Wanted {
        let mut wanted = Wanted { recursive: true, ..Wanted::default() };
        let digits = text.iter().take_while(|byte| byte.is_ascii_digit()).count();
        if digits > 0 {
            // A number is all that counts, whatever stands behind it.
            let number = text[..digits]
                .iter()
                .fold(0_u32, |number, digit| number.wrapping_mul(10).wrapping_add(u32::from(digit - b'0')));
            wanted.take_bits(number);
            wanted.unknown.extend((digits < text.len()).then(|| text[digits..].to_vec()));
            return wanted;
        }
        for word in text.split(|byte| *byte == b',').filter(|word| !word.is_empty()) {
            wanted.take_word(word);
        }
        wanted
    }

    fn take_bits(&mut self, bits: u32) {
        for flag in Flag::ALL.into_iter().filter(|flag| Mask(bits).contains(flag.mask())) {
            if !self.flags.contains(&flag) {
                self.flags.push(flag);
            }
        }
        self.only_dir |= bits & IN_ONLYDIR != 0;
        self.dont_follow |= bits & IN_DONT_FOLLOW != 0;
        self.oneshot |= bits & IN_ONESHOT != 0;
    }

    fn take_word(&mut self, word: &[u8]) {
        let Ok(name) = std::str::from_utf8(word) else { return self.unknown.push(word.to_vec()) };
        let close = Flag::CloseWrite.mask().0 | Flag::CloseNowrite.mask().0;
        let moved = Flag::MovedFrom.mask().0 | Flag::MovedTo.mask().0;
        match name {
            "IN_ALL_EVENTS" => self.take_bits(Mask::ALL_EVENTS.0),
            "IN_CLOSE" => self.take_bits(close),
            "IN_MOVE" => self.take_bits(moved),
            "IN_ONLYDIR" => self.only_dir = true,
            "IN_DONT_FOLLOW" => self.dont_follow = true,
            "IN_ONESHOT" => self.oneshot = true,
            "IN_NO_LOOP" | "loopable=false" => self.no_loop = true,
            "loopable=true" => self.no_loop = false,
            "recursive=false" => self.recursive = false,
            "dotdirs=true" => self.dotdirs = true,
            // The defaults, and a bit that an event has and no watch can ask for.
            "recursive=true" | "dotdirs=false" | "IN_ISDIR" => {}
            name => match name.parse::<Flag>() {
                Ok(flag) => self.take_bits(flag.mask().0),
                Err(_) => self.unknown.push(word.to_vec()),
            },
        }
    }

    /// Says what is different here.
    fn say(&self, kind: Option<Kind>, is_link: bool, entry: &mut Entry) {
        for word in &self.unknown {
            let word = Escaped(word);
            entry.differs(format!("'{word}' in its mask means nothing to incron, and so it is left out"));
        }
        if self.dont_follow && is_link {
            entry.differs(
                "IN_DONT_FOLLOW: incron watches the link itself; here what it leads to is watched. Watch the directory \
                 that the link is in, with a pattern in exclude_filter",
            );
        }
        if self.only_dir && kind.is_none() {
            entry.differs("IN_ONLYDIR: a file that appears under the path would be watched here, too");
        }
        if kind.is_none() && !entry.source.is_empty() {
            entry.differs(
                "the path is not there; it is taken for a directory. incron would not watch it, here it is watched as \
                 soon as it appears",
            );
        }
    }
}

/// A command, with what incron puts into it found.
#[derive(Debug, PartialEq)]
struct Command {
    pieces: Vec<Piece>,
    /// What stands behind a `$` that incron drops.
    dropped: Option<char>,
}

#[derive(Debug, PartialEq)]
enum Piece {
    Text(Vec<u8>),
    /// `$@/$#`, or `$@` where the path is a file.
    Path,
    /// `$@` where something happened to that which is watched.
    Itself,
    /// `$@`.
    Directory,
    /// `$#`.
    Name,
    /// `$%`.
    Mask,
    /// `$&`.
    Number,
}

/// The names by which values are found in the text of a command: ones that nobody writes.
const VALUES: &[Placeholder] = &[
    shell::value("{\x01path}"),
    shell::value("{\x01directory}"),
    shell::value("{\x01name}"),
    shell::value("{\x01mask}"),
    shell::value("{\x01number}"),
    shell::value("{\x01itself}"),
];

/// The path of that which is watched. Behind one that was moved away stands that its new path is not known.
const ITSELF: &str = "${PYINOTIFYD_PATHNAME%-unknown-path}";

/// Commands that bash itself executes, in ways that other shells do not know.
const OF_BASH: [&[u8]; 24] = [
    b".", b"builtin", b"declare", b"echo", b"enable", b"eval", b"exec", b"export", b"kill", b"let", b"local",
    b"mapfile", b"popd", b"printf", b"pushd", b"read", b"source", b"test", b"time", b"trap", b"type",
    b"typeset", b"ulimit", b"wait",
];

impl Command {
    fn parse(text: &[u8], of: Of) -> Command {
        let mut command = Command { pieces: vec![Piece::Text(Vec::new())], dropped: None };
        let mut at = 0;
        while at < text.len() {
            let pair = if text[at] == b'$' { text.get(at + 1) } else { None };
            at += 2;
            match (text[at - 2], pair) {
                (b'$', Some(b'$')) => command.take(b'$'),
                (b'$', Some(b'@')) => command.pieces.push(match of {
                    Of::Any | Of::Directory => Piece::Directory,
                    Of::File => Piece::Path,
                    Of::Itself => Piece::Itself,
                }),
                // What is watched has no name in itself.
                (b'$', Some(b'#')) if matches!(of, Of::File | Of::Itself) => {}
                (b'$', Some(b'#')) => command.take_name(),
                (b'$', Some(b'%')) => command.pieces.push(Piece::Mask),
                (b'$', Some(b'&')) => command.pieces.push(Piece::Number),
                (b'$', _) => {
                    at -= 1;
                    let rest = text[at..].utf8_chunks().next().and_then(|chunk| chunk.valid().chars().next());
                    command.dropped = command.dropped.or(rest).or(Some(' '));
                }
                (byte, _) => {
                    at -= 1;
                    command.take(byte);
                }
            }
        }
        command.pieces.retain(|piece| *piece != Piece::Text(Vec::new()));
        command
    }

    fn take(&mut self, byte: u8) {
        match self.pieces.last_mut() {
            Some(Piece::Text(text)) => text.push(byte),
            _ => self.pieces.push(Piece::Text(vec![byte])),
        }
    }

    /// `$#` behind `$@/` makes the path of both.
    fn take_name(&mut self) {
        if let [.., Piece::Directory, Piece::Text(text)] = self.pieces.as_slice()
            && text == b"/"
        {
            self.pieces.truncate(self.pieces.len() - 2);
            self.pieces.push(Piece::Path);
        } else {
            self.pieces.push(Piece::Name);
        }
    }

    fn has(&self, wanted: &Piece) -> bool {
        self.pieces.contains(wanted)
    }

    /// Whether incron's backslashes would stand in quotes, where they are text.
    fn in_quotes(&self) -> bool {
        let mut found = false;
        if let Ok(template) = shell::values(&self.text(Of::Any), VALUES) {
            template.rewritten(|name, in_quotes| {
                found |= in_quotes && name != "{\x01mask}" && name != "{\x01number}";
                Instead::Text("")
            });
        }
        found
    }

    /// The text with a name for each value.
    fn text(&self, of: Of) -> Vec<u8> {
        let mut text = Vec::new();
        for piece in &self.pieces {
            match piece {
                Piece::Text(part) => text.extend(part),
                Piece::Path => text.extend(b"{\x01path}"),
                Piece::Itself => text.extend(b"{\x01itself}"),
                Piece::Directory => text.extend(b"{\x01directory}"),
                Piece::Name => text.extend(b"{\x01name}"),
                Piece::Mask if of == Of::Directory => text.extend(b"{\x01mask},IN_ISDIR"),
                Piece::Mask => text.extend(b"{\x01mask}"),
                Piece::Number => text.extend(b"{\x01number}"),
            }
        }
        text
    }

    /// Whether every shell reads the text in the same way: words, with or without quotes, and values.
    fn is_plain(&self) -> bool {
        let plain = |byte: &u8| byte.is_ascii_alphanumeric() || b"_@%+=:,./- '\"".contains(byte);
        let is_of_bash = self.pieces.first().is_some_and(|piece| match piece {
            Piece::Text(text) => {
                let word = text.split(|byte| *byte == b' ').next().unwrap_or_default();
                OF_BASH.contains(&word) || word.iter().any(|byte| b"='\"".contains(byte))
            }
            _ => false,
        });
        !is_of_bash
            && self
                .pieces
                .iter()
                .all(|piece| if let Piece::Text(text) = piece { text.iter().all(plain) } else { true })
    }

    fn runs(&self, of: Of) -> Result<Runs, String> {
        let template = shell::values(&self.text(of), VALUES).map_err(|error| {
            // The names are ours; the user knows incron's.
            let theirs = ["$@/$#", "$@", "$#", "$%", "$&", "$@"];
            VALUES.iter().zip(theirs).fold(error, |error, ((ours, ..), theirs)| error.replace(ours, theirs))
        })?;
        let in_bash = !self.is_plain();
        let line = template.rewritten(|name, _| match name {
            "{\x01path}" if in_bash => Instead::Expansion(PATH),
            "{\x01path}" => Instead::Text("{pathname}"),
            "{\x01itself}" => Instead::Expansion(ITSELF),
            "{\x01directory}" => Instead::Expansion(DIRECTORY),
            "{\x01name}" => Instead::Expansion(NAME),
            "{\x01mask}" if in_bash => Instead::Expansion("$PYINOTIFYD_MASKNAME"),
            "{\x01mask}" => Instead::Text("{maskname}"),
            _ => Instead::Expansion("$INCRON_MASK"),
        });
        if in_bash {
            return Ok(Runs::Program(vec![b"/bin/bash".to_vec(), b"-c".to_vec(), line]));
        }
        Ok(Runs::Line(vec![line]))
    }
}

#[cfg(test)]
#[path = "incron_tests.rs"]
mod tests;
