//! Path units of systemd: systemd.path(5), systemd.unit(5), systemd.syntax(7).
//!
//! A path unit starts its unit when something happens, and looks away while that unit is active. Existence counts again
//! as soon as the unit has ended: the unit is started anew while the file is there.

use std::collections::BTreeMap;

use event::Flag;

use super::draft::{Draft, Entry, Map, Place, Runs, Scheduler, Severity, Watch, expression, seconds};
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
    /// Whether it stands in a directory of some manager, so that it is known whose it is.
    pub is_placed: bool,
    /// The home directory of the manager's user, if that is known.
    pub home: Option<Vec<u8>>,
}

impl Setting {
    fn line(&self) -> Vec<u8> {
        [self.key.as_slice(), b"=", self.value.as_slice()].concat()
    }
}

impl Unit {
    /// Its name without the suffix.
    fn stem(&self) -> &[u8] {
        self.name.strip_suffix(b".path").unwrap_or(&self.name)
    }

    /// Its instance, if it is one of a template.
    fn instance(&self) -> Option<&[u8]> {
        taken_apart(&self.name).1.filter(|instance| !instance.is_empty())
    }
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

/// The settings of a file, and the lines that are none with what is to be said of them.
fn settings(file: &[u8], text: &[u8]) -> (Vec<Setting>, Vec<(Place, Severity, &'static str)>) {
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
            _ if line.starts_with(b"[") => {
                wrong.push((
                    place,
                    Severity::LeftOut,
                    "a section that does not end: systemd refuses the file",
                ));
            }
            _ => wrong.push((place, Severity::Differs, "systemd ignores it, and so does this: no KEY=VALUE")),
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
    starts: Starts,
    make_directory: bool,
    mode: u32,
    /// Starts in an interval, as far as the unit says it.
    limit: (Option<f64>, Option<u32>),
    /// The last line that says so.
    limited_by: Option<(Place, Vec<u8>)>,
    /// What hints at a unit of a user.
    of_user: Option<&'static str>,
}

/// What is started: systemd takes the first name that can be one, and ignores all others.
#[derive(Debug, PartialEq, Eq)]
enum Starts {
    /// The service with the path unit's name.
    Related,
    Named(Vec<u8>),
    /// One whose name cannot be known here.
    Unknown,
}

/// Adds what a unit says.
pub(super) fn translate(unit: &Unit, draft: &mut Draft) {
    let file = unit.parts.first().map(|(file, _)| file.clone()).unwrap_or_default();
    let Some(said) = collected(unit, draft) else { return };
    let starts = match &said.starts {
        Starts::Related => [unit.stem(), b".service"].concat(),
        Starts::Named(name) => name.clone(),
        // That is an error, and a watch that starts another unit would be worse than none.
        Starts::Unknown => return,
    };
    let place = Place::of(&file, 0);
    if said.paths.is_empty() {
        return draft.say(Severity::LeftOut, &place, "it has no path: systemd refuses the unit, too");
    }
    if let Some(hint) = said.of_user.filter(|_| !unit.is_placed) {
        draft.say(
            Severity::Differs,
            &place,
            format!(
                "{hint}: it is taken for a unit of the system's manager. For one of a user, import it as \
                 ~/.config/systemd/user/NAME.path, and run pyinotifyd as that user"
            ),
        );
    }
    draft.remark("A stop need not wait for systemctl, which only waits itself: what it has started goes on.");
    draft.set("shutdown_timeout=1".to_owned());
    let systemctl = if unit.is_users { "systemctl --user" } else { "systemctl" };
    let start = [format!("{systemctl} start --wait -- ").as_bytes(), &shell::quoted(&starts)].concat();
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

    /// Seconds and the starts in them, if the unit says a limit. A zero is none (systemd.path(5)).
    fn limit(&self) -> Option<(f64, u32)> {
        let (interval, burst) = (self.limit.0.unwrap_or(LIMIT.0), self.limit.1.unwrap_or(LIMIT.1));
        (self.limit != (None, None) && burst > 0 && interval > 0.0).then_some((interval, burst))
    }

    /// The same, if it is one that a scheduler can keep to.
    fn rate(&self) -> Option<(f64, u32)> {
        self.limit().filter(|(interval, _)| *interval <= SECONDS_MAX)
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
    let place = Place::of(&unit.parts.first()?.0, 0);
    let shown = Escaped(&unit.name);
    if !unit.name.ends_with(b".path") {
        let text = format!("'{shown}' is no path unit: its name does not end in .path");
        draft.say(Severity::LeftOut, &place, text);
        return None;
    }
    if taken_apart(&unit.name).1 == Some(b"") {
        let text = format!("'{shown}' is a template: name one of its units, with an instance behind the @");
        draft.say(Severity::LeftOut, &place, text);
        return None;
    }
    let mut said = Said::default();
    for (file, text) in &unit.parts {
        if is_at_home(file) {
            said.of_user = Some("its file is in /home");
        }
        let (found, wrong) = settings(file, text);
        for (place, severity, text) in wrong {
            draft.say(severity, &place, text);
        }
        for setting in found {
            let mut entry = Entry::new(setting.place.clone(), vec![setting.line()]);
            said.take(&setting, unit, &mut entry);
            if !entry.said.is_empty() {
                draft.add(entry);
            }
        }
    }
    said.say_limit(draft);
    Some(said)
}

fn is_at_home(path: &[u8]) -> bool {
    path.starts_with(b"/home/")
}

/// What begins the text about a line that systemd ignores.
fn ignored(why: &str) -> String {
    format!("systemd ignores it, and so does this: {why}")
}

impl Default for Said {
    fn default() -> Said {
        Said {
            paths: Vec::new(),
            starts: Starts::Related,
            make_directory: false,
            mode: MODE,
            limit: (None, None),
            limited_by: None,
            of_user: None,
        }
    }
}

impl Said {
    fn take(&mut self, setting: &Setting, unit: &Unit, entry: &mut Entry) {
        let Setting { section, key, value, .. } = setting;
        match (section.as_slice(), key.as_slice()) {
            (b"Path", _) => {}
            (b"Unit", key) if key.starts_with(b"Condition") || key.starts_with(b"Assert") => {
                return entry.differs(
                    "pyinotifyd checks no condition: write it into its own service, or the command",
                );
            }
            (b"Install", b"WantedBy" | b"RequiredBy") if OF_USERS.contains(&value.as_slice()) => {
                self.of_user = Some("it is wanted by a target of users");
                return;
            }
            // Names, texts and the order of units are the business of the service that pyinotifyd is.
            _ => return,
        }
        if std::str::from_utf8(value).is_err() {
            return entry.differs(ignored("it is not UTF-8"));
        }
        if let Some(watched) = Watched::of(key) {
            return self.take_path(watched, setting, unit, entry);
        }
        match key.as_slice() {
            b"Unit" => self.take_unit(value, unit, entry),
            b"MakeDirectory" => match truth(value) {
                Some(make) => self.make_directory = make,
                None => entry.differs(ignored("expected yes or no")),
            },
            b"DirectoryMode" => {
                let mode = std::str::from_utf8(value).ok().and_then(|text| u32::from_str_radix(text, 8).ok());
                match mode.filter(|mode| *mode <= 0o7777) {
                    Some(mode) => self.mode = mode,
                    None => entry.differs(ignored("expected a mode such as 0755")),
                }
            }
            b"TriggerLimitIntervalSec" => match time(value) {
                Some(interval) => self.limit.0 = Some(interval),
                None => entry.differs(ignored("expected a time such as 2s or 1min")),
            },
            b"TriggerLimitBurst" => match unsigned(value) {
                Some(burst) => self.limit.1 = Some(burst),
                None => entry.differs(ignored("expected a number")),
            },
            // Nobody but the user knows what these are for.
            key if key.starts_with(b"X-") => {}
            key => entry.left_out(format!("{} is unknown here", Escaped(key))),
        }
        if key.starts_with(b"TriggerLimit") && entry.said.is_empty() {
            self.limited_by = Some((setting.place.clone(), setting.line()));
        }
    }

    fn take_path(&mut self, watched: Watched, setting: &Setting, unit: &Unit, entry: &mut Entry) {
        let Setting { value, place, .. } = setting;
        if value.is_empty() {
            return self.paths.clear();
        }
        if value.contains(&0) {
            return entry.left_out("it holds a NUL byte");
        }
        let path = match expanded(value, unit, Specifiers::OfPaths) {
            Ok(path) => path,
            Err(Unexpanded::Unknown(text)) => return entry.left_out(text),
            Err(Unexpanded::Ignored(text)) => return entry.differs(ignored(&text)),
        };
        if let Some(why) = not_a_path(&path) {
            return entry.differs(ignored(why));
        }
        if watched == Watched::ExistsGlob && path.contains(&b'{') {
            entry.differs("braces stand for themselves here: write a directive for each alternative");
        }
        if value.windows(2).any(|pair| pair == b"%h") {
            self.of_user = Some("%h stands for /root here");
        } else if is_at_home(&path) {
            self.of_user = Some("it watches a path in /home");
        }
        self.paths.push((watched, simple(&path), place.clone()));
    }

    fn take_unit(&mut self, value: &[u8], unit: &Unit, entry: &mut Entry) {
        if self.starts != Starts::Related {
            return entry
                .differs(ignored("there is a Unit= before it, and an empty one does not take that back"));
        }
        match expanded(value, unit, Specifiers::OfNames) {
            Err(Unexpanded::Unknown(text)) => {
                self.starts = Starts::Unknown;
                entry.left_out(format!("{text}; nothing of this path unit is translated without it"));
            }
            Err(Unexpanded::Ignored(text)) => entry.differs(ignored(&text)),
            Ok(name) if !is_unit(&name) => {
                entry.differs(ignored("expected the name of a unit, such as NAME.service"));
            }
            Ok(name) if name == unit.name => entry.differs(ignored("a unit cannot start itself")),
            Ok(name) => self.starts = Starts::Named(instantiated(&name, unit)),
        }
    }

    /// Says what becomes of a limit.
    fn say_limit(&self, draft: &mut Draft) {
        let (Some((place, line)), Some((_, burst))) = (&self.limited_by, self.limit()) else { return };
        let mut entry = Entry::new(place.clone(), vec![line.clone()]);
        if self.rate().is_some() {
            entry.differs(
                "systemd lets the path unit fail above the limit; here the next start waits until it is kept",
            );
        } else {
            entry.differs(format!(
                "systemd lets the path unit fail after {burst} starts; here there is no limit"
            ));
        }
        draft.add(entry);
    }
}

/// Targets that there are in the managers of users only, or that mean something else there.
const OF_USERS: [&[u8]; 2] = [b"default.target", b"graphical-session.target"];

/// Why systemd takes a text for no path.
fn not_a_path(path: &[u8]) -> Option<&'static str> {
    let mut names = path.split(|byte| *byte == b'/');
    if !path.starts_with(b"/") {
        Some("its path is not absolute")
    } else if names.clone().any(|name| name == b"..") {
        Some("its path holds ..")
    } else if path.len() >= PATH_MAX || names.any(|name| name.len() > NAME_MAX) {
        Some("its path is too long")
    } else {
        None
    }
}

/// Bytes of a path with its end, of a name in it, and of a unit's name with its end (limits.h, systemd's unit-name.h).
const PATH_MAX: usize = 4096;
const NAME_MAX: usize = 255;
const UNIT_NAME_MAX: usize = 256;

/// Kinds of units (systemd.unit(5)).
const SUFFIXES: [&[u8]; 11] = [
    b".service",
    b".mount",
    b".swap",
    b".socket",
    b".target",
    b".device",
    b".automount",
    b".timer",
    b".path",
    b".slice",
    b".scope",
];

/// Whether a text can be the name of a unit, or of a template.
fn is_unit(name: &[u8]) -> bool {
    let (prefix, _, suffix) = taken_apart(name);
    let is_allowed = |byte: &u8| byte.is_ascii_alphanumeric() || b"@:-_.\\".contains(byte);
    let is_known = SUFFIXES.contains(&suffix);
    is_known && !prefix.is_empty() && name.len() < UNIT_NAME_MAX && name.iter().all(is_allowed)
}

/// The unit of a template: with our instance, or with our prefix where we have none.
fn instantiated(name: &[u8], unit: &Unit) -> Vec<u8> {
    match taken_apart(name) {
        (prefix, Some(b""), suffix) => {
            let instance = unit.instance().unwrap_or(taken_apart(&unit.name).0);
            [prefix, b"@", instance, suffix].concat()
        }
        _ => name.to_vec(),
    }
}

fn truth(value: &[u8]) -> Option<bool> {
    match value.to_ascii_lowercase().as_slice() {
        b"1" | b"yes" | b"y" | b"true" | b"t" | b"on" => Some(true),
        b"0" | b"no" | b"n" | b"false" | b"f" | b"off" => Some(false),
        _ => None,
    }
}

/// A number, also one that begins with 0x, 0b, 0o or 0.
fn unsigned(value: &[u8]) -> Option<u32> {
    let text = std::str::from_utf8(value).ok()?;
    let of = |prefix: &str, radix| text.strip_prefix(prefix).map(|digits| (digits, radix));
    let (digits, radix) = of("0x", 16)
        .or_else(|| of("0b", 2))
        .or_else(|| of("0o", 8))
        .or_else(|| of("0", 8))
        .unwrap_or((text, 10));
    if text == "0" { Some(0) } else { u32::from_str_radix(digits, radix).ok() }
}

/// A path without doubled slashes and `.`, and without a slash at its end.
fn simple(path: &[u8]) -> Vec<u8> {
    let names = path.split(|byte| *byte == b'/').filter(|name| !name.is_empty() && *name != b".");
    let path: Vec<u8> = names.flat_map(|name| [b"/", name].concat()).collect();
    if path.is_empty() { b"/".to_vec() } else { path }
}

/// Which specifiers count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Specifiers {
    OfPaths,
    /// Those whose values are safe in the name of a unit.
    OfNames,
}

/// Why specifiers are not replaced.
#[derive(Debug, PartialEq, Eq)]
enum Unexpanded {
    /// One stands for what cannot be known here.
    Unknown(String),
    /// systemd does not know it either.
    Ignored(String),
}

/// Specifiers of systemd 252 whose values are not ours to know.
const UNKNOWN_HERE: &[u8] = b"aAbBcdHlmMoqrRsvwWyY";
/// Those that are not for names.
const NOT_OF_NAMES: &[u8] = b"cCdEfhIJLPrRsStTVyY";

/// The value with its specifiers replaced.
///
/// # Errors
/// One of them has no value.
fn expanded(value: &[u8], unit: &Unit, which: Specifiers) -> Result<Vec<u8>, Unexpanded> {
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
        let shown = Escaped(&[b'%', specifier]).to_string();
        if which == Specifiers::OfNames && NOT_OF_NAMES.contains(&specifier) {
            return Err(Unexpanded::Ignored(format!("{shown} cannot stand in the name of a unit")));
        }
        match (specified(specifier, unit), specifier) {
            (Some(known), _) => text.extend(known),
            (None, b'h' | b'u' | b'U' | b'g' | b'G' | b't' | b'S' | b'C' | b'L' | b'E') => {
                return Err(unknown(&shown));
            }
            (None, specifier) if UNKNOWN_HERE.contains(&specifier) => return Err(unknown(&shown)),
            (None, specifier) if specifier.is_ascii_alphanumeric() => {
                return Err(Unexpanded::Ignored(format!("{shown} is no specifier")));
            }
            (None, specifier) => text.extend([b'%', specifier]),
        }
    }
    Ok(text)
}

fn unknown(shown: &str) -> Unexpanded {
    Unexpanded::Unknown(format!(
        "{shown} cannot be known here: write what it stands for into a copy of the unit"
    ))
}

/// What a specifier stands for; without an instance, those for it stand for nothing.
fn specified(specifier: u8, unit: &Unit) -> Option<Vec<u8>> {
    let prefix = taken_apart(&unit.name).0;
    let last = |name: &[u8]| name.rsplit(|byte| *byte == b'-').next().unwrap_or_default().to_vec();
    match specifier {
        b'%' => Some(b"%".to_vec()),
        b'n' => Some(unit.name.clone()),
        b'N' => Some(unit.stem().to_vec()),
        b'p' => Some(prefix.to_vec()),
        b'P' => Some(unescaped(prefix)),
        b'j' => Some(last(prefix)),
        b'J' => Some(unescaped(&last(prefix))),
        b'i' => Some(unit.instance().unwrap_or_default().to_vec()),
        b'I' => Some(unescaped(unit.instance().unwrap_or_default())),
        b'f' => Some([b"/", unescaped(unit.instance().unwrap_or(prefix)).as_slice()].concat()),
        b'h' => unit.home.clone(),
        specifier => directory(specifier, unit.is_users),
    }
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
    if text == "infinity" {
        return Some(f64::INFINITY);
    }
    let (mut total, mut rest, mut is_found) = (0.0, text.trim(), false);
    while !rest.is_empty() {
        let digits =
            rest.find(|letter: char| !letter.is_ascii_digit() && letter != '.').unwrap_or(rest.len());
        let number: f64 = rest[..digits].parse().ok()?;
        rest = rest[digits..].trim_start();
        let letters = rest.find(|letter: char| !letter.is_alphabetic()).unwrap_or(rest.len());
        total += number * seconds_in(&rest[..letters])?;
        rest = rest[letters..].trim_start();
        is_found = true;
    }
    is_found.then_some(total)
}

fn seconds_in(unit: &str) -> Option<f64> {
    Some(match unit {
        "" | "s" | "sec" | "second" | "seconds" => 1.0,
        "us" | "usec" | "\u{3bc}s" | "\u{b5}s" => 1e-6,
        "ms" | "msec" => 1e-3,
        "m" | "min" | "minute" | "minutes" => 60.0,
        "h" | "hr" | "hour" | "hours" => 3600.0,
        "d" | "day" | "days" => 86400.0,
        "w" | "week" | "weeks" => 604_800.0,
        "M" | "month" | "months" => 2_629_800.0,
        "y" | "year" | "years" => 31_557_600.0,
        _ => return None,
    })
}

#[cfg(test)]
#[path = "systemd_tests.rs"]
mod tests;
