//! Tables of incron: incrontab(5) and incrond(8) of version 0.5.12, and what its source does where these are silent.
//!
//! incron puts paths and names into the text of a command, with a backslash before blanks and before backslashes, and
//! gives that to a shell: `/bin/sh` for a table of the system, `/bin/bash` for one of a user. Here the shell expands
//! them, so that each is what it is, in any quotes.

use std::collections::HashMap;

use event::{Flag, Mask};

use super::draft::{Draft, Entry, Map, Place, Runs, Scheduler, Watch, expression};
use super::shell::{self, DIRECTORY, NAME, PATH};
use super::{Kind, Look};
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
    for (index, text) in table.text.split(|byte| *byte == b'\n').enumerate() {
        if text.trim_ascii().is_empty() || text.trim_ascii_start().starts_with(b"#") {
            continue;
        }
        let number = index + 1;
        let mut entry = Entry::new(Place::of(&table.path, number), vec![text.to_vec()]);
        match Line::parse(text) {
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
                        seen.insert(line.path, number);
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
        self.mask.say(standing.kind, standing.is_link, name, entry);
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
        let names_place = |sign: &[u8]| self.command.windows(2).any(|pair| pair == sign);
        if is_glob && (names_place(b"$@") || names_place(b"$#")) {
            entry.differs(
                "what the * matches is taken for directories; where it is files, incron puts their paths for $@ and \
                 nothing for $#",
            );
        }
        match self.map(table, standing.kind == Some(Kind::File), name, entry) {
            Ok(map) => entry.watches.push(self.watch(map, is_glob)),
            Err(text) => entry.left_out(text),
        }
    }

    fn watch(&self, map: Map, is_glob: bool) -> Watch {
        let root = self.path.strip_suffix(b"/").unwrap_or(&self.path);
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
        let command = Command::parse(&self.command, is_file);
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
        let flags = self.mask.flags.clone();
        let schedulers = self.schedulers(&command, table, name)?;
        if command.has(&Piece::Number) {
            let rows = flags.into_iter().map(|flag| (flag, format!("{:#x}", flag.mask().0)));
            return Ok(Map::Table("mask", rows.collect(), schedulers));
        }
        Ok(if self.mask.no_loop { Map::Shared(flags, schedulers) } else { Map::Alike(flags, schedulers) })
    }

    /// What runs for an event: one scheduler, or one for files and one for directories.
    fn schedulers(&self, command: &Command, table: &Table, name: &str) -> Result<Vec<Scheduler>, String> {
        // The text of a mask says whether it is of a directory.
        let of: &[Of] = if command.has(&Piece::Mask) || command.has(&Piece::Number) {
            &[Of::File, Of::Directory]
        } else {
            &[Of::Any]
        };
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
            Ok(Scheduler { runs: command.runs(*of, table.user.is_some())?, arguments, name })
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
}

impl Of {
    fn arguments(self) -> &'static [&'static str] {
        match self {
            Of::Any => &["dirs=True"],
            Of::File => &[],
            Of::Directory => &["files=False", "dirs=True"],
        }
    }

    /// The number of a mask, in the variables of [`Map::Table`].
    fn number(self) -> &'static str {
        match self {
            Of::Any | Of::File => "mask",
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
    fn say(&self, kind: Option<Kind>, is_link: bool, name: &str, entry: &mut Entry) {
        for word in &self.unknown {
            let word = Escaped(word);
            entry.differs(format!("'{word}' in its mask means nothing to incron, and so it is left out"));
        }
        if self.oneshot {
            entry.differs(format!(
                "IN_ONESHOT: incron runs the command for one event and then watches no more; here it runs for each. \
                 Let the command end with `pyinotifyd pause {name}`, or with the names that `pyinotifyd status` shows"
            ));
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
];

impl Command {
    fn parse(text: &[u8], is_file: bool) -> Command {
        let mut command = Command { pieces: vec![Piece::Text(Vec::new())], dropped: None };
        let mut at = 0;
        while at < text.len() {
            let pair = if text[at] == b'$' { text.get(at + 1) } else { None };
            at += 2;
            match (text[at - 2], pair) {
                (b'$', Some(b'$')) => command.take(b'$'),
                (b'$', Some(b'@')) => {
                    command.pieces.push(if is_file { Piece::Path } else { Piece::Directory });
                }
                (b'$', Some(b'#')) if is_file => {}
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
        self.pieces
            .iter()
            .all(|piece| if let Piece::Text(text) = piece { text.iter().all(plain) } else { true })
    }

    fn runs(&self, of: Of, is_users: bool) -> Result<Runs, String> {
        let template = shell::values(&self.text(of), VALUES).map_err(|error| {
            // The names are ours; the user knows incron's.
            let theirs = ["$@/$#", "$@", "$#", "$%", "$&"];
            VALUES.iter().zip(theirs).fold(error, |error, ((ours, ..), theirs)| error.replace(ours, theirs))
        })?;
        let in_bash = is_users && !self.is_plain();
        let line = template.rewritten(|name, _| match name {
            "{\x01path}" if in_bash => Instead::Expansion(PATH),
            "{\x01path}" => Instead::Text("{pathname}"),
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
