//! Packs the Python package into the bundle that the daemon hands to `python3`, with bytecode for each Python at hand.

use std::error::Error;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Pythons whose bytecode is added where they are installed; all others compile the sources at each start (15 ms).
const PYTHONS: [&str; 7] =
    ["python3", "python3.9", "python3.10", "python3.11", "python3.12", "python3.13", "python3.14"];

fn main() -> Result<(), Box<dyn Error>> {
    let python = Path::new("python");
    for input in ["python/pyinotifyd", "python/boot.py", "python/bundle.py"] {
        println!("cargo::rerun-if-changed={input}");
    }
    let out = PathBuf::from(std::env::var("OUT_DIR")?);
    let mut sections = vec![("source".to_owned(), sources(python)?)];
    for name in PYTHONS {
        let Some(section) = bytecode(name, python, &out) else { continue };
        if sections.iter().all(|(magic, _)| *magic != section.0) {
            sections.push(section);
        }
    }
    fs::write(out.join("host.bundle"), bundle(&sections))?;
    Ok(())
}

/// The bytecode of one Python, and its name; none where that Python is not there, too old or broken.
fn bytecode(name: &str, python: &Path, out: &Path) -> Option<(String, Vec<u8>)> {
    let file = out.join("section");
    let output =
        Command::new(name).arg(python.join("bundle.py")).arg("--section").arg(&file).output().ok()?;
    let magic = String::from_utf8(output.stdout).ok()?.trim().to_owned();
    (output.status.success() && !magic.is_empty())
        .then(|| fs::read(&file).ok().map(|section| (magic, section)))?
}

/// The section of the sources: for each module a line `NAME IS_PACKAGE SIZE` and its text.
fn sources(python: &Path) -> Result<Vec<u8>, Box<dyn Error>> {
    let mut files = Vec::new();
    python_files(&python.join("pyinotifyd"), &mut files)?;
    files.sort();
    let mut section = Vec::new();
    for file in files {
        let name = file.strip_prefix(python)?.with_extension("");
        let name = name.to_str().ok_or("a file name is not UTF-8")?.replace('/', ".");
        let module = name.strip_suffix(".__init__").unwrap_or(&name);
        let text = without_types(&fs::read_to_string(&file)?);
        section.extend(format!("{module} {} {}\n", u8::from(module != name), text.len()).bytes());
        section.extend(text.bytes());
    }
    Ok(section)
}

/// A module with empty lines instead of its `if TYPE_CHECKING:` blocks, which only type checkers read; as in bundle.py.
fn without_types(source: &str) -> String {
    let mut kept = String::with_capacity(source.len());
    let mut depth = None;
    for line in source.split_inclusive('\n') {
        let text = line.trim();
        let indent = line.len() - line.trim_start_matches(' ').len();
        if depth.is_some_and(|depth| indent <= depth) && !text.is_empty() {
            depth = None;
        }
        if text == "if TYPE_CHECKING:" {
            depth = Some(indent);
        }
        kept += if depth.is_none() { line } else { "\n" };
    }
    kept
}

/// Sections behind a line that lists them. Offsets have a fixed width, so that the line's length doesn't depend on
/// them.
fn bundle(sections: &[(String, Vec<u8>)]) -> Vec<u8> {
    let line = |mut begin: usize| {
        let mut line = String::new();
        for (magic, section) in sections {
            let space = if line.is_empty() { "" } else { " " };
            write!(line, "{space}{magic}:{begin:010}:{}", section.len()).expect("a String takes all");
            begin += section.len();
        }
        line + "\n"
    };
    let mut bundle = line(line(0).len()).into_bytes();
    for (_, section) in sections {
        bundle.extend(section);
    }
    bundle
}

fn python_files(directory: &Path, files: &mut Vec<PathBuf>) -> Result<(), Box<dyn Error>> {
    for entry in fs::read_dir(directory)? {
        let path = entry?.path();
        if path.is_dir() {
            python_files(&path, files)?;
        } else if path.extension().is_some_and(|extension| extension == "py") {
            files.push(path);
        }
    }
    Ok(())
}
