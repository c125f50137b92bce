//! Reads what is to be imported: the one place here that opens files.

use std::ffi::OsStr;
use std::fs;
use std::io::{self, Read as _};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use nix::unistd::User;

use super::direvent::{self, Included};
use super::draft::{Draft, Place, Severity};
use super::incron::{self, Table};
use super::systemd::{self, Unit};
use super::{From, Import, Kind, Standing};
use crate::log::Escaped;

/// Bytes of a file that are read: no configuration is longer, and /dev/zero is none.
const FILE_MAX: u64 = 16 << 20;

/// The config file that does what is configured.
///
/// # Errors
/// With the path that cannot be read.
pub(super) fn draft(import: &Import) -> Result<Draft, (PathBuf, io::Error)> {
    let mut draft = Draft::default();
    let source = &import.source;
    match import.from {
        From::Incrontab => {
            for path in tables(source)? {
                let text = unmarked(read(&path)?, &path, &mut draft);
                let user = import.user.clone().or_else(|| owner(&path));
                // The table may be for another machine, and the config file loads all the same.
                if let Some(user) = user.as_deref().filter(|user| matches!(User::from_name(user), Ok(None))) {
                    let text = format!("no such user: '{user}'; each task fails as long as there is none");
                    draft.say(Severity::Differs, &Place::of(path.as_os_str().as_bytes(), 0), text);
                }
                // A name that no config file takes would leave the commands to the user of the daemon.
                if user.as_deref().is_some_and(|user| user.is_empty() || user.contains(char::is_control)) {
                    let text = "expected the name of a user";
                    draft.say(Severity::LeftOut, &Place::of(path.as_os_str().as_bytes(), 0), text);
                    continue;
                }
                let path = path.into_os_string().into_encoded_bytes();
                incron::translate(&Table { path, text, user }, &look, &mut draft);
            }
        }
        From::Direvent => {
            let text = unmarked(read(source)?, source, &mut draft);
            let include = |wanted: &direvent::Include| included(wanted, &import.include);
            direvent::translate(source.as_os_str().as_bytes(), &text, &include, &look, &mut draft);
        }
        From::SystemdPath => systemd::translate(&unit(source)?, &mut draft),
    }
    if draft.is_empty() {
        let place = Place::of(source.as_os_str().as_bytes(), 0);
        draft.say(
            Severity::Differs,
            &place,
            "there is nothing in it to watch, so that the config watches nothing",
        );
    }
    Ok(draft)
}

/// What editors of other systems put before a text in UTF-8.
const MARK: &[u8] = b"\xef\xbb\xbf";

/// The text without a byte order mark, over which incron and direvent stumble.
fn unmarked(text: Vec<u8>, path: &Path, draft: &mut Draft) -> Vec<u8> {
    let Some(rest) = text.strip_prefix(MARK) else { return text };
    let place = Place::of(path.as_os_str().as_bytes(), 1);
    let said = "a byte order mark, which is skipped here: the other program takes it for text";
    draft.say(Severity::Differs, &place, said);
    rest.to_vec()
}

fn look(path: &[u8]) -> Standing {
    let path = Path::new(OsStr::from_bytes(path));
    let kind = |metadata: fs::Metadata| if metadata.is_dir() { Kind::Directory } else { Kind::File };
    Standing { kind: fs::metadata(path).ok().map(kind), is_link: path.is_symlink() }
}

fn read(path: &Path) -> Result<Vec<u8>, (PathBuf, io::Error)> {
    read_file(path).map_err(|error| (path.to_owned(), error))
}

fn read_file(path: &Path) -> io::Result<Vec<u8>> {
    let mut text = Vec::new();
    fs::File::open(path)?.take(FILE_MAX + 1).read_to_end(&mut text)?;
    if text.len() as u64 > FILE_MAX {
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, "it is longer than 16 MiB"));
    }
    Ok(text)
}

/// The tables that incron would read: a file, or the files of a directory, but for hidden ones and backups.
fn tables(source: &Path) -> Result<Vec<PathBuf>, (PathBuf, io::Error)> {
    if !source.is_dir() {
        return Ok(vec![source.to_owned()]);
    }
    let paths = listed(source).map_err(|error| (source.to_owned(), error))?;
    let counts = |path: &PathBuf| {
        let name = path.file_name().unwrap_or_default().as_bytes();
        path.is_file() && !name.starts_with(b".") && !name.ends_with(b"~")
    };
    Ok(paths.into_iter().filter(counts).collect())
}

/// What is in a directory, sorted.
fn listed(directory: &Path) -> io::Result<Vec<PathBuf>> {
    let mut paths =
        fs::read_dir(directory)?.map(|found| Ok(found?.path())).collect::<io::Result<Vec<PathBuf>>>()?;
    paths.sort();
    Ok(paths)
}

/// Where incron keeps the tables of users; the name of a table is its user's.
const SPOOL: &str = "/var/spool/incron";

fn owner(table: &Path) -> Option<String> {
    let is_users = table.parent() == Some(Path::new(SPOOL));
    table.file_name().filter(|_| is_users)?.to_str().map(str::to_owned)
}

/// Where direvent looks for includes, besides the directories that `-I` names.
const INCLUDES: [&str; 2] = ["/usr/share/direvent/include", "/usr/local/share/direvent/include"];

fn included(wanted: &direvent::Include, directories: &[PathBuf]) -> Vec<Included> {
    let path = Path::new(OsStr::from_bytes(&wanted.path));
    if path.is_absolute() && wanted.path.iter().any(|byte| b"*?[".contains(byte)) {
        return matching(path).into_iter().map(file).collect();
    }
    let here = (!wanted.is_system).then(|| PathBuf::from("."));
    let places = here.into_iter().chain(directories.iter().cloned()).chain(INCLUDES.map(PathBuf::from));
    let found = places.map(|place| if place == Path::new(".") { path.to_owned() } else { place.join(path) });
    let found = if path.is_absolute() { None } else { found.into_iter().find(|path| path.exists()) };
    vec![file(found.unwrap_or_else(|| path.to_owned()))]
}

fn file(path: PathBuf) -> Included {
    let text = read_file(&path).map_err(|error| error.to_string());
    Included { path: path.into_os_string().into_encoded_bytes(), text }
}

/// The files that a glob names. Wildcards are looked at in the last name only: those of `conf.d/*.conf`.
fn matching(pattern: &Path) -> Vec<PathBuf> {
    let found = listed(pattern.parent().unwrap_or(pattern)).unwrap_or_default();
    let fits =
        |path: &PathBuf| watcher::glob::names(pattern.as_os_str().as_bytes(), path.as_os_str().as_bytes());
    found.into_iter().filter(fits).collect()
}

/// Where units are, the most important ones first (systemd.unit(5)).
const UNITS: [&str; 5] = [
    "/etc/systemd/system",
    "/run/systemd/system",
    "/usr/local/lib/systemd/system",
    "/usr/lib/systemd/system",
    "/lib/systemd/system",
];

/// A unit with its drop-ins: of a file those beside it, of a name those of all directories.
fn unit(source: &Path) -> Result<Unit, (PathBuf, io::Error)> {
    let name = source.file_name().unwrap_or_default().as_bytes().to_vec();
    let is_name = source.parent() == Some(Path::new("")) && !source.exists();
    let directories: Vec<PathBuf> = if is_name {
        UNITS.map(PathBuf::from).to_vec()
    } else {
        vec![source.parent().unwrap_or(Path::new("")).to_owned()]
    };
    let names = systemd::file_names(&name);
    let candidates =
        names.iter().flat_map(|name| directories.iter().map(|place| place.join(OsStr::from_bytes(name))));
    let path = candidates.into_iter().find(|path| path.is_file()).unwrap_or_else(|| source.to_owned());
    let text = read_file(&path).map_err(|error| {
        let is_missing = error.kind() == io::ErrorKind::NotFound;
        let error = match (is_name, is_missing) {
            (true, true) => is_nowhere(&name),
            (false, true) => io::Error::other(NO_FILE),
            (_, false) => error,
        };
        (path.clone(), error)
    })?;
    // systemd skips the mark, too.
    let text = text.strip_prefix(MARK).unwrap_or(&text).to_vec();
    let mut parts = vec![(path.clone().into_os_string().into_encoded_bytes(), text)];
    for path in drop_ins(&directories, &names) {
        let text = read(&path)?;
        let text = text.strip_prefix(MARK).unwrap_or(&text).to_vec();
        parts.push((path.into_os_string().into_encoded_bytes(), text));
    }
    let place = std::path::absolute(&path).unwrap_or(path);
    let users = home_of(&place);
    let is_users = users.is_some() || place.parent().is_some_and(|parent| parent.ends_with("systemd/user"));
    let is_placed = is_users || UNITS.iter().any(|directory| place.starts_with(directory));
    let home = match users {
        Some(home) => Some(home.to_owned().into_os_string()),
        None if is_users => std::env::var_os("HOME"),
        None => Some("/root".into()),
    };
    let home = home.map(std::ffi::OsString::into_encoded_bytes);
    Ok(Unit { name, parts, is_users, is_placed, home })
}

/// The home directory whose user has a unit there, as in ~/.config/systemd/user.
fn home_of(place: &Path) -> Option<&Path> {
    let above = [(".config/systemd", 2), (".local/share/systemd", 3)];
    above.iter().find_map(|(directory, levels)| {
        place.ancestors().find(|path| path.ends_with(directory))?.ancestors().nth(*levels)
    })
}

const NO_FILE: &str = "no such file; a unit of the system is found by its name alone, without a directory";

/// A unit that is only named is in none of the directories.
fn is_nowhere(name: &[u8]) -> io::Error {
    let suffix = if name.ends_with(b".path") { "" } else { ".path" };
    let file = format!("{}{suffix}", Escaped(name));
    io::Error::other(format!(
        "there is no such unit in {}; name its file with a directory, such as ./{file} or, for one of a user, \
         ~/.config/systemd/user/{file}",
        UNITS.join(", ")
    ))
}

/// The drop-ins by their names; of several with one name, the one of the most important directory.
fn drop_ins(directories: &[PathBuf], names: &[Vec<u8>]) -> Vec<PathBuf> {
    let mut found: std::collections::BTreeMap<Vec<u8>, PathBuf> = std::collections::BTreeMap::new();
    for name in names {
        for directory in directories {
            let place = directory.join(OsStr::from_bytes(&[name.as_slice(), b".d"].concat()));
            for path in listed(&place).unwrap_or_default() {
                let file = path.file_name().unwrap_or_default().as_bytes().to_vec();
                if file.ends_with(b".conf") {
                    found.entry(file).or_insert(path);
                }
            }
        }
    }
    found.into_values().collect()
}
