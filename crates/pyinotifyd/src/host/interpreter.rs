//! Which `python3` executes the configuration.

use std::ffi::OsString;
use std::fmt::Write as _;
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
            return lookup(&path).ok_or_else(|| {
                format!(
                    "cannot run the interpreter '{}' that {origin} names: no such executable file",
                    path.display()
                )
            });
        }
    }
    let mut tried = String::new();
    for candidate in candidates() {
        if is_executable(&candidate) {
            return Ok(candidate);
        }
        write!(tried, "\n  {}", candidate.display()).expect("formatting into a string cannot fail");
    }
    Err(format!(
        "no python3 found, which executes the config file. Install it, or name it with --python PATH or {VARIABLE}. Tried:{tried}"
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
fn lookup(named: &Path) -> Option<PathBuf> {
    if named.components().count() > 1 || named.is_absolute() {
        return is_executable(named).then(|| named.to_path_buf());
    }
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|folder| folder.join(named)).find(|candidate| is_executable(candidate))
}

fn is_executable(path: &Path) -> bool {
    path.is_file() && rustix::fs::access(path, rustix::fs::Access::EXEC_OK).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_interpreter_that_was_named_is_not_replaced_by_another() {
        let error = find(Some(Path::new("/nonexistent/python3"))).unwrap_err();
        assert_eq!(
            error,
            "cannot run the interpreter '/nonexistent/python3' that --python names: no such executable file"
        );
    }

    #[test]
    fn a_name_without_a_slash_is_looked_up_in_path() {
        assert!(find(Some(Path::new("sh"))).unwrap().is_absolute());
    }
}
