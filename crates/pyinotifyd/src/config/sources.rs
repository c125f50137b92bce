//! Which files a configuration consists of: those that the command line names, and those of the directories it names.
//!
//! Directories are listed each time that the configuration is loaded. Reading may wait for a filesystem, so it is done
//! by a thread.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::io::ErrorKind;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::safety::{python_error, read_config};
use crate::log::Escaped;

/// Files of a configuration; more is no configuration.
const FILES_MAX: usize = 1000;

/// A file or a directory of config files, as it was named.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ConfigPath {
    /// Where it is.
    pub path: PathBuf,
    /// Whether it counts only if it is there.
    pub optional: bool,
}

/// A config file as it was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ConfigFile {
    /// Where it was.
    pub path: PathBuf,
    /// What was in it.
    pub content: Arc<[u8]>,
}

/// All files of a configuration.
#[derive(Clone, Debug, Default)]
pub(crate) struct ConfigFiles {
    /// In the order in which they are executed.
    pub files: Arc<[ConfigFile]>,
    /// What is odd about them.
    pub warnings: Vec<String>,
}

impl ConfigFiles {
    /// Reads the files that are named, and all `*.py` of the directories that are, by name. As in a shell, names that
    /// begin with a dot are left out: they belong to editors.
    ///
    /// # Errors
    /// As [`read_config`]; two files have one stem, by which their schedulers are told apart.
    pub(crate) fn read(named: &[ConfigPath]) -> Result<ConfigFiles, String> {
        let (mut paths, mut warnings) = (Vec::new(), Vec::new());
        for ConfigPath { path, optional } in named {
            if *optional && is_missing(path) {
                continue;
            }
            if !path.is_dir() {
                paths.push(path.clone());
                continue;
            }
            let listed = listed(path)?;
            if listed.is_empty() {
                let path = Escaped(path.as_os_str().as_bytes());
                warnings.push(format!("there is no config file (*.py) in the directory '{path}'"));
            }
            paths.extend(listed);
        }
        if paths.len() > FILES_MAX {
            return Err(format!("there are {} config files, {FILES_MAX} are allowed", paths.len()));
        }
        check_stems(&paths)?;
        let read = |path: PathBuf| {
            let content = read_config(&path)?.into();
            Ok(ConfigFile { path, content })
        };
        let files = paths.into_iter().map(read).collect::<Result<Vec<_>, String>>()?;
        Ok(ConfigFiles { files: files.into(), warnings })
    }
}

fn is_missing(path: &Path) -> bool {
    path.symlink_metadata().is_err_and(|error| error.kind() == ErrorKind::NotFound)
}

fn listed(directory: &Path) -> Result<Vec<PathBuf>, String> {
    let entries = std::fs::read_dir(directory).and_then(Iterator::collect::<Result<Vec<_>, _>>);
    let entries = entries.map_err(|error| python_error(&error, directory))?;
    let is_config = |name: &OsStr| !name.as_bytes().starts_with(b".") && name.as_bytes().ends_with(b".py");
    let mut names: Vec<_> = entries.iter().map(std::fs::DirEntry::file_name).collect();
    names.retain(|name| is_config(name));
    names.sort();
    Ok(names.into_iter().map(|name| directory.join(name)).filter(|path| !path.is_dir()).collect())
}

fn check_stems(paths: &[PathBuf]) -> Result<(), String> {
    let mut known: BTreeMap<&OsStr, &Path> = BTreeMap::new();
    for path in paths {
        let Some(stem) = path.file_stem() else { continue };
        if let Some(other) = known.insert(stem, path) {
            if other == path {
                return Err(format!(
                    "the config file '{}' is given twice",
                    Escaped(path.as_os_str().as_bytes())
                ));
            }
            let [stem, other, path] = [stem, other.as_os_str(), path.as_os_str()].map(OsStrExt::as_bytes);
            let (stem, other, path) = (Escaped(stem), Escaped(other), Escaped(path));
            return Err(format!(
                "two config files have the name '{stem}', '{other}' and '{path}': give each one of its own, as their \
                 schedulers are told apart by it"
            ));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(files: &ConfigFiles) -> Vec<&str> {
        files.files.iter().map(|file| file.path.file_name().unwrap().to_str().unwrap()).collect()
    }

    fn named(path: &Path) -> ConfigPath {
        ConfigPath { path: path.to_owned(), optional: false }
    }

    #[test]
    fn a_directory_stands_for_its_config_files_by_name() {
        let made = tempfile::tempdir().unwrap();
        let directory = made.path().join("conf.d");
        std::fs::create_dir_all(directory.join("sub.py")).unwrap();
        for name in ["b.py", "a.py", ".#a.py", "c.py~", "d.txt", "10.py"] {
            std::fs::write(directory.join(name), name).unwrap();
        }
        let main = made.path().join("main.py");
        std::fs::write(&main, "main").unwrap();
        let files = ConfigFiles::read(&[named(&directory), named(&main)]).unwrap();
        assert_eq!(names(&files), ["10.py", "a.py", "b.py", "main.py"]);
        assert_eq!(files.files[3].content.as_ref(), b"main");
        assert_eq!(files.warnings, Vec::<String>::new());
    }

    #[test]
    fn an_empty_directory_is_warned_of_and_a_missing_one_refused() {
        let made = tempfile::tempdir().unwrap();
        let files = ConfigFiles::read(&[named(made.path())]).unwrap();
        assert!(files.files.is_empty() && files.warnings[0].contains("there is no config file (*.py)"));
        let missing = made.path().join("missing");
        let error = ConfigFiles::read(&[named(&missing)]).unwrap_err();
        assert_eq!(error, format!("[Errno 2] No such file or directory: '{}'", missing.display()));
        let files = ConfigFiles::read(&[ConfigPath { path: missing, optional: true }]).unwrap();
        assert!(files.files.is_empty() && files.warnings.is_empty());
    }

    #[test]
    fn two_files_of_one_stem_are_refused() {
        let made = tempfile::tempdir().unwrap();
        std::fs::create_dir(made.path().join("d")).unwrap();
        for name in ["a.py", "d/a.py"] {
            std::fs::write(made.path().join(name), "").unwrap();
        }
        let paths = [named(&made.path().join("a.py")), named(&made.path().join("d"))];
        let error = ConfigFiles::read(&paths).unwrap_err();
        assert!(
            error.starts_with("two config files have the name 'a', ") && error.contains("/d/a.py"),
            "{error}"
        );
        assert!(ConfigFiles::read(&[paths[0].clone(), paths[0].clone()]).is_err());
    }
}
