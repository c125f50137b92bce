//! Path units of systemd: systemd.path(5), systemd.unit(5), systemd.syntax(7).
//!
//! A path unit starts its unit when something happens, and looks away while that unit is active. Existence counts again
//! as soon as the unit has ended: the unit is started anew while the file is there.

use std::collections::BTreeMap;

use event::Flag;

use super::draft::{Draft, Entry, Map, Place, Runs, Scheduler, Watch, expression, seconds};
use super::shell;
use crate::config::{Literal, literal_glob};
use crate::log::Escaped;

/// A unit as it was read.
#[derive(Debug)]
pub(super) struct Unit {
    /// With its suffix, as `tidy@srv.path`.
    pub name: Vec<u8>,
    /// The file and its drop-ins, in the order in which they count: path and text.
    pub parts: Vec<(Vec<u8>, Vec<u8>)>,
    /// Whether it is one of a user's manager.
    pub is_users: bool,
    /// The home directory of the manager's user, if that is known.
    pub home: Option<Vec<u8>>,
}

/// The names of the file that a unit may be in: its own, and that of the template.
pub(super) fn file_names(name: &[u8]) -> Vec<Vec<u8>> {
    let mut names = vec![name.to_vec()];
    let (prefix, instance, suffix) = taken_apart(name);
    if instance.is_some_and(|instance| !instance.is_empty()) {
        names.push([prefix, b"@", suffix].concat());
    }
    names
}

/// Prefix, instance and suffix of a unit's name.
fn taken_apart(name: &[u8]) -> (&[u8], Option<&[u8]>, &[u8]) {
    let dot = name.iter().rposition(|byte| *byte == b'.').unwrap_or(name.len());
    let (stem, suffix) = name.split_at(dot);
    match stem.iter().position(|byte| *byte == b'@') {
        Some(at) => (&stem[..at], Some(&stem[at + 1..]), suffix),
        None => (stem, None, suffix),
    }
}

/// `KEY=VALUE` of a file.
#[derive(Debug, PartialEq)]
struct Setting {
    place: Place,
    section: Vec<u8>,
    key: Vec<u8>,
    value: Vec<u8>,
}

/// The settings of a file, and the lines that are none.
fn settings(file: &[u8], text: &[u8]) -> (Vec<Setting>, Vec<Place>) {
    let (mut found, mut wrong) = (Vec::new(), Vec::new());
    let mut section = Vec::new();
    let mut lines = text.split(|byte| *byte == b'\n').enumerate();
    while let Some((index, line)) = lines.next() {
        let place = Place::of(file, index + 1);
        let line = line.trim_ascii();
        if line.is_empty() || is_comment(line) {
            continue;
        }
        if let Some(name) = line.strip_prefix(b"[").and_then(|rest| rest.strip_suffix(b"]")) {
            section = name.to_vec();
            continue;
        }
        let mut line = line.to_vec();
        // A comment in the middle does not end what goes on behind it.
        while line.ends_with(b"\\") {
            let next = lines.by_ref().map(|(_, next)| next.trim_ascii()).find(|next| !is_comment(next));
            line.pop();
            let Some(next) = next else { break };
            line.push(b' ');
            line.extend(next);
        }
        match line.iter().position(|byte| *byte == b'=') {
            Some(at) if at > 0 => found.push(Setting {
                place,
                section: section.clone(),
                key: line[..at].trim_ascii().to_vec(),
                value: line[at + 1..].trim_ascii().to_vec(),
            }),
            _ => wrong.push(place),
        }
    }
    (found, wrong)
}

fn is_comment(line: &[u8]) -> bool {
    line.starts_with(b"#") || line.starts_with(b";")
}

/// What a directive waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Watched {
    Exists,
    ExistsGlob,
    Changed,
    Modified,
    NotEmpty,
}

impl Watched {
    fn of(key: &[u8]) -> Option<Watched> {
        Some(match key {
            b"PathExists" => Watched::Exists,
            b"PathExistsGlob" => Watched::ExistsGlob,
            b"PathChanged" => Watched::Changed,
            b"PathModified" => Watched::Modified,
            b"DirectoryNotEmpty" => Watched::NotEmpty,
            _ => return None,
        })
    }

    fn name(self) -> &'static str {
        match self {
            Watched::Exists => "PathExists",
            Watched::ExistsGlob => "PathExistsGlob",
            Watched::Changed => "PathChanged",
            Watched::Modified => "PathModified",
            Watched::NotEmpty => "DirectoryNotEmpty",
        }
    }

    fn flags(self) -> Vec<Flag> {
        let mut flags = vec![Flag::Create, Flag::MovedTo];
        if matches!(self, Watched::Changed | Watched::Modified) {
            flags.extend([Flag::Attrib, Flag::CloseWrite, Flag::MovedFrom, Flag::Delete]);
            flags.extend([Flag::DeleteSelf, Flag::MoveSelf]);
        }
        if self == Watched::Modified {
            flags.push(Flag::Modify);
        }
        flags.sort_unstable();
        flags
    }
}

/// What the unit says, its parts put together.
#[derive(Debug)]
struct Said {
    paths: Vec<(Watched, Vec<u8>, Place)>,
    starts: Vec<u8>,
    make_directory: bool,
    mode: u32,
    /// Starts in an interval, as far as the unit says it.
    limit: (Option<f64>, Option<u32>),
}

/// Adds what a unit says.
pub(super) fn translate(unit: &Unit, draft: &mut Draft) {
    let file = unit.parts.first().map(|(file, _)| file.clone()).unwrap_or_default();
    let Some(said) = collected(unit, draft) else { return };
    let systemctl = if unit.is_users { "systemctl --user" } else { "systemctl" };
    let start = [format!("{systemctl} start --wait -- ").as_bytes(), &shell::quoted(&said.starts)].concat();
    if said.paths.is_empty() {
        draft.say(
            super::draft::Severity::LeftOut,
            &Place::of(&file, 0),
            "it has no path: systemd refuses the unit, too",
        );
    }
    let mut is_defined = false;
    for (watched, path, place) in &said.paths {
        let source = [watched.name().as_bytes(), b"=", path].concat();
        let mut entry = Entry::new(place.clone(), vec![source]);
        if said.make_directory && !matches!(watched, Watched::Exists | Watched::ExistsGlob) {
            let (path, mode) = (Literal(path), said.mode);
            entry.before.push(format!("if not os.path.isdir({path}):"));
            entry.before.push(format!("    os.makedirs({path})\n    os.chmod({path}, 0o{mode:03o})"));
        }
        if watched.is_level() {
            let name = draft.name(&[unit.name.as_slice(), b"-", watched.name().as_bytes()].concat());
            entry.watches.push(watched.level(path, &start, name, &said));
        } else {
            if !std::mem::replace(&mut is_defined, true) {
                let scheduler = said.scheduler(start.clone(), draft.name(&unit.name), "skip");
                let name = format!("\"{}\"", scheduler.name);
                entry.before.push(format!("start = {}", scheduler.call(&name, 0)));
            }
            entry.watches.push(Watch {
                paths: vec![literal_glob(path)],
                map: Map::Variable(watched.flags(), "start"),
                rec: false,
                initial: false,
                exclude: Vec::new(),
            });
        }
        draft.add(entry);
    }
}

impl Said {
    /// One task for all paths: the unit is one, too.
    fn scheduler(&self, line: Vec<u8>, name: String, on_busy: &str) -> Scheduler {
        let mut arguments = vec!["dirs=True".to_owned(), "singlejob=True".to_owned()];
        if on_busy != "skip" {
            arguments.push(format!("on_busy=\"{on_busy}\""));
        }
        if let Some((interval, burst)) = self.rate() {
            arguments.push(format!("max_rate=({burst}, {})", seconds(interval)));
        }
        Scheduler { runs: Runs::Line(vec![line]), arguments, name }
    }

    /// Seconds and the starts in them, if the unit says a limit.
    fn rate(&self) -> Option<(f64, u32)> {
        let (interval, burst) = (self.limit.0.unwrap_or(LIMIT.0), self.limit.1.unwrap_or(LIMIT.1));
        (self.limit != (None, None) && burst > 0 && interval > 0.0).then_some((interval, burst))
    }

    /// Whole seconds between two starts while the path is there, so that these keep to the limit, too.
    fn pause(&self) -> u64 {
        let least = self.rate().map_or(1.0, |(interval, burst)| interval / f64::from(burst));
        least.ceil().max(1.0) as u64
    }
}

impl Watched {
    /// Whether it counts that something is there, and not that it comes.
    fn is_level(self) -> bool {
        matches!(self, Watched::Exists | Watched::ExistsGlob | Watched::NotEmpty)
    }

    /// Looks whenever something comes, and starts the unit again and again while it is there.
    fn level(self, path: &[u8], start: &[u8], name: String, said: &Said) -> Watch {
        let slash = path.iter().rposition(|byte| *byte == b'/').unwrap_or_default();
        let (directory, file) = (&path[..slash], &path[slash + 1..]);
        let root = |directory: &[u8]| if directory.is_empty() { b"/".to_vec() } else { directory.to_vec() };
        let (test, watched, exclude) = match self {
            Watched::NotEmpty => {
                let unseen = shell::quoted(UNSEEN);
                let test = [b"ls -- ", shell::quoted(path).as_slice(), b" | grep -Eqv ", &unseen].concat();
                let hidden =
                    [b"^", expression(path.strip_suffix(b"/").unwrap_or(path)).as_slice(), br"/\."].concat();
                (test, literal_glob(path), vec![hidden])
            }
            Watched::ExistsGlob => {
                let glob = shell::glob(path);
                let test = [b"set -- ", glob.as_slice(), b"; [ -e \"$1\" ]"].concat();
                (test, root(directory), Vec::new())
            }
            Watched::Exists | Watched::Changed | Watched::Modified => {
                let test = [b"[ -e ", shell::quoted(path).as_slice(), b" ]"].concat();
                let others =
                    [b"^", expression(directory).as_slice(), b"/(?!", &expression(file), br"\Z)[^/]"]
                        .concat();
                (test, literal_glob(&root(directory)), vec![others])
            }
        };
        let pause = format!(" || exit; sleep {}; done", said.pause());
        let line = [b"while ", test.as_slice(), b"; do ", start, pause.as_bytes()].concat();
        Watch {
            paths: vec![watched],
            map: Map::Shared(self.flags(), vec![said.scheduler(line, name, "rerun")]),
            rec: false,
            initial: true,
            exclude,
        }
    }
}

/// What does not count in a directory, besides what begins with a dot (systemd's `hidden_or_backup_file`).
const UNSEEN: &[u8] = b"^(lost[+]found|aquota[.](user|group)|.*~|.*[.](ignore|rpm(new|save|orig)|\
    dpkg-(old|new|tmp|dist|bak|backup|remove)|ucf-(new|old|dist)|swp|bak|old|new))$";

/// What systemd does unless the unit says something else: starts in an interval, and the mode of directories.
const LIMIT: (f64, u32) = (2.0, 200);
const MODE: u32 = 0o755;

/// Puts the parts of a unit together; says what means nothing here.
fn collected(unit: &Unit, draft: &mut Draft) -> Option<Said> {
    let (stem, suffix) = (unit.name.strip_suffix(b".path"), taken_apart(&unit.name).2);
    let place = Place::of(&unit.parts.first()?.0, 0);
    let Some(stem) = stem else {
        let text = format!("'{}' is no path unit: its name does not end in .path", Escaped(suffix));
        draft.say(super::draft::Severity::LeftOut, &place, text);
        return None;
    };
    let starts = [stem, b".service"].concat();
    let mut said = Said { paths: Vec::new(), starts, make_directory: false, mode: MODE, limit: (None, None) };
    for (file, text) in &unit.parts {
        let (found, wrong) = settings(file, text);
        for place in wrong {
            draft.say(super::draft::Severity::LeftOut, &place, "expected [SECTION] or KEY=VALUE");
        }
        for setting in found {
            let mut entry = Entry::new(
                setting.place.clone(),
                vec![[setting.key.as_slice(), b"=", setting.value.as_slice()].concat()],
            );
            said.take(&setting, unit, &mut entry);
            if !entry.said.is_empty() {
                draft.add(entry);
            }
        }
    }
    Some(said)
}

impl Said {
    fn take(&mut self, setting: &Setting, unit: &Unit, entry: &mut Entry) {
        let Setting { section, key, value, place } = setting;
        match section.as_slice() {
            b"Path" => {}
            b"Unit" if key.starts_with(b"Condition") || key.starts_with(b"Assert") => {
                return entry.differs(
                    "pyinotifyd checks no condition: write it into its own service, or the command",
                );
            }
            // Names, texts and the order of units are the business of the service that pyinotifyd is.
            _ => return,
        }
        if let Some(watched) = Watched::of(key) {
            if value.is_empty() {
                return self.paths.clear();
            }
            match expanded(value, unit) {
                Err(text) => entry.left_out(text),
                Ok(path) if !path.starts_with(b"/") => {
                    entry.left_out("its path is not absolute, systemd ignores it");
                }
                Ok(path) => {
                    if watched == Watched::ExistsGlob && path.contains(&b'{') {
                        entry.differs(
                            "braces stand for themselves here: write a directive for each alternative",
                        );
                    }
                    self.paths.push((watched, simple(&path), place.clone()));
                }
            }
            return;
        }
        match key.as_slice() {
            b"Unit" => match expanded(value, unit) {
                Ok(name) => self.starts = name,
                Err(text) => entry.left_out(text),
            },
            b"MakeDirectory" => {
                self.make_directory =
                    matches!(value.as_slice(), b"1" | b"yes" | b"y" | b"true" | b"t" | b"on");
            }
            b"DirectoryMode" => {
                let mode = std::str::from_utf8(value).ok().and_then(|text| u32::from_str_radix(text, 8).ok());
                match mode.filter(|mode| *mode <= 0o7777) {
                    Some(mode) => self.mode = mode,
                    None => entry.left_out("expected a mode such as 0755"),
                }
            }
            b"TriggerLimitIntervalSec" => match time(value) {
                Some(interval) => self.limit.0 = Some(interval),
                None => entry.left_out("expected a time such as 2s or 1min"),
            },
            b"TriggerLimitBurst" => {
                match std::str::from_utf8(value).ok().and_then(|text| text.parse().ok()) {
                    Some(burst) => self.limit.1 = Some(burst),
                    None => entry.left_out("expected a number"),
                }
            }
            key => entry.left_out(format!("{} is unknown here", Escaped(key))),
        }
        if key.starts_with(b"TriggerLimit") && entry.said.is_empty() {
            entry.differs(
                "systemd lets the path unit fail above the limit; here the next start waits until it is kept",
            );
        }
    }
}

/// A path without doubled slashes and `.`, and without a slash at its end.
fn simple(path: &[u8]) -> Vec<u8> {
    let names = path.split(|byte| *byte == b'/').filter(|name| !name.is_empty() && *name != b".");
    let path: Vec<u8> = names.flat_map(|name| [b"/", name].concat()).collect();
    if path.is_empty() { b"/".to_vec() } else { path }
}

/// The value with its specifiers replaced.
///
/// # Errors
/// One stands for what cannot be known here.
fn expanded(value: &[u8], unit: &Unit) -> Result<Vec<u8>, String> {
    let (prefix, instance, _) = taken_apart(&unit.name);
    let stem = unit.name.strip_suffix(b".path").unwrap_or(&unit.name);
    let (mut text, mut bytes) = (Vec::new(), value.iter());
    while let Some(&byte) = bytes.next() {
        if byte != b'%' {
            text.push(byte);
            continue;
        }
        let Some(&specifier) = bytes.next() else {
            text.push(b'%');
            break;
        };
        let last = |name: &[u8]| name.rsplit(|byte| *byte == b'-').next().unwrap_or_default().to_vec();
        let known = match specifier {
            b'%' => Some(b"%".to_vec()),
            b'n' => Some(unit.name.clone()),
            b'N' => Some(stem.to_vec()),
            b'p' => Some(prefix.to_vec()),
            b'P' => Some(unescaped(prefix)),
            b'j' => Some(last(prefix)),
            b'J' => Some(unescaped(&last(prefix))),
            b'i' => instance.filter(|name| !name.is_empty()).map(<[u8]>::to_vec),
            b'I' => instance.filter(|name| !name.is_empty()).map(unescaped),
            b'f' => {
                let name = instance.filter(|name| !name.is_empty()).unwrap_or(prefix);
                Some([b"/", unescaped(name).as_slice()].concat())
            }
            b'h' => unit.home.clone(),
            specifier => directory(specifier, unit.is_users),
        };
        let Some(known) = known else {
            let specifier = Escaped(&[b'%', specifier]).to_string();
            return Err(format!(
                "{specifier} cannot be known here: write what it stands for into a copy of the unit"
            ));
        };
        text.extend(known);
    }
    Ok(text)
}

/// What is the same for all units of the system's manager.
fn directory(specifier: u8, is_users: bool) -> Option<Vec<u8>> {
    let known: BTreeMap<u8, &str> = BTreeMap::from([
        (b't', "/run"),
        (b'S', "/var/lib"),
        (b'C', "/var/cache"),
        (b'L', "/var/log"),
        (b'E', "/etc"),
        (b'u', "root"),
        (b'U', "0"),
        (b'g', "root"),
        (b'G', "0"),
    ]);
    match specifier {
        b'T' => Some(b"/tmp".to_vec()),
        b'V' => Some(b"/var/tmp".to_vec()),
        specifier => known.get(&specifier).filter(|_| !is_users).map(|text| text.as_bytes().to_vec()),
    }
}

/// `-` stands for `/`, `\xHH` for a byte (systemd-escape(1)).
fn unescaped(name: &[u8]) -> Vec<u8> {
    let (mut text, mut at) = (Vec::new(), 0);
    while at < name.len() {
        let hex = name[at..].strip_prefix(b"\\x").and_then(|rest| rest.get(..2));
        let byte = hex
            .and_then(|hex| std::str::from_utf8(hex).ok())
            .and_then(|hex| u8::from_str_radix(hex, 16).ok());
        match (byte, name[at]) {
            (Some(byte), _) => {
                text.push(byte);
                at += 3;
            }
            (None, b'-') => text.push(b'/'),
            (None, byte) => text.push(byte),
        }
        at += 1;
    }
    text
}

/// Longest span that a config file of ours takes.
const SECONDS_MAX: f64 = 1e9;

/// A span of time (systemd.time(7)) in seconds.
fn time(text: &[u8]) -> Option<f64> {
    let text = std::str::from_utf8(text).ok()?;
    let (mut total, mut rest, mut is_found) = (0.0, text.trim(), false);
    while !rest.is_empty() {
        let digits =
            rest.find(|letter: char| !letter.is_ascii_digit() && letter != '.').unwrap_or(rest.len());
        let number: f64 = rest[..digits].parse().ok()?;
        rest = rest[digits..].trim_start();
        let letters = rest.find(|letter: char| !letter.is_ascii_alphabetic()).unwrap_or(rest.len());
        total += number
            * match &rest[..letters] {
                "" | "s" | "sec" | "second" | "seconds" => 1.0,
                "us" | "usec" => 1e-6,
                "ms" | "msec" => 1e-3,
                "m" | "min" | "minute" | "minutes" => 60.0,
                "h" | "hr" | "hour" | "hours" => 3600.0,
                "d" | "day" | "days" => 86400.0,
                _ => return None,
            };
        rest = rest[letters..].trim_start();
        is_found = true;
    }
    (is_found && total <= SECONDS_MAX).then_some(total)
}

#[cfg(test)]
#[path = "systemd_tests.rs"]
mod tests;
