//! Which `python3` executes the configuration.

use std::ffi::OsString;
use std::fmt::Write as _;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

/// Environment variable that names the interpreter.
const VARIABLE: &str = "PYINOTIFYD_PYTHON";

/// Finds the interpreter: `--python`, `PYINOTIFYD_PYTHON`, `python3` beside the binary (a virtual environment that the
/// daemon is installed in), `$VIRTUAL_ENV`, `PATH`; the first that exists.
///
/// # Errors
/// A text that lists all places tried. An interpreter that was named and does not exist is an error at once: to take
/// another one in silence would run the configuration with other packages.
pub(crate) fn find(option: Option<&Path>) -> Result<PathBuf, String> {
    let variable = std::env::var_os(VARIABLE).filter(|value| !value.is_empty()).map(PathBuf::from);
    for (origin, named) in [("--python", option.map(Path::to_path_buf)), (VARIABLE, variable)] {
        if let Some(path) = named {
            return lookup(&path).map_err(|why| {
                format!("cannot run the interpreter '{}' that {origin} names: {why}", path.display())
            });
        }
    }
    let mut tried = String::new();
    for candidate in candidates() {
        match executable(&candidate) {
            Ok(()) => return Ok(candidate),
            Err(why) => write!(tried, "\n  {}: {why}", candidate.display())
                .expect("formatting into a string cannot fail"),
        }
    }
    Err(format!(
        "no python3 found, which executes the config file. Install it, or name it with --python PATH or {VARIABLE}. \
         Tried:{tried}"
    ))
}

fn candidates() -> Vec<PathBuf> {
    let beside = std::env::current_exe().ok().and_then(|binary| Some(binary.parent()?.join("python3")));
    let venv = std::env::var_os("VIRTUAL_ENV").map(|venv| Path::new(&venv).join("bin/python3"));
    let path = std::env::var_os("PATH").unwrap_or_else(|| OsString::from("/usr/local/bin:/usr/bin:/bin"));
    let in_path = std::env::split_paths(&path)
        .filter(|folder| folder.is_absolute())
        .map(|folder| folder.join("python3"));
    beside.into_iter().chain(venv).chain(in_path.collect::<Vec<_>>()).collect()
}

/// A name without a slash is looked up in `PATH`, as a shell does.
fn lookup(named: &Path) -> Result<PathBuf, String> {
    if named.components().count() > 1 || named.is_absolute() {
        return executable(named).map(|()| named.to_path_buf());
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found =
        std::env::split_paths(&path).map(|folder| folder.join(named)).find(|path| executable(path).is_ok());
    found.ok_or_else(|| "no executable file of that name in PATH".to_owned())
}

/// Whether this process may execute a file, and why not.
fn executable(path: &Path) -> Result<(), String> {
    let denied = || format!("the user with uid {} may not execute it", rustix::process::geteuid().as_raw());
    match path.metadata() {
        Ok(found) if !found.is_file() => Err("not a file".to_owned()),
        Ok(_) => rustix::fs::access(path, rustix::fs::Access::EXEC_OK).map_err(|_| denied()),
        Err(error) if error.kind() == ErrorKind::PermissionDenied => Err(denied()),
        Err(_) => Err("no such file".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_interpreter_that_was_named_is_not_replaced_by_another() {
        for (path, why) in [
            ("/nonexistent/python3", "no such file"),
            ("/etc", "not a file"),
            ("no-such-python", "no executable file of that name in PATH"),
        ] {
            let error = find(Some(Path::new(path))).unwrap_err();
            assert_eq!(error, format!("cannot run the interpreter '{path}' that --python names: {why}"));
        }
    }

    #[test]
    fn a_name_without_a_slash_is_looked_up_in_path() {
        assert!(find(Some(Path::new("sh"))).unwrap().is_absolute());
    }
}
