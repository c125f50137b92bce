//! Packs the Python package into the zip that the daemon hands to `python3`.

use std::error::Error;
use std::fs::{self, File};
use std::io::Write as _;
use std::path::{Path, PathBuf};

use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, DateTime, ZipWriter};

/// What python3 runs when it is given the zip.
const MAIN: &str = "from pyinotifyd.host.__main__ import main\nmain()\n";

fn main() -> Result<(), Box<dyn Error>> {
    let package = Path::new("python/pyinotifyd");
    println!("cargo::rerun-if-changed={}", package.display());
    let out = PathBuf::from(std::env::var("OUT_DIR")?).join("host.zip");
    // Stored, not deflated: the zip is read at every start, and a fixed time keeps builds reproducible.
    let options = SimpleFileOptions::default()
        .compression_method(CompressionMethod::Stored)
        .last_modified_time(DateTime::default());
    let mut archive = ZipWriter::new(File::create(out)?);
    archive.start_file("__main__.py", options)?;
    archive.write_all(MAIN.as_bytes())?;
    let mut files = Vec::new();
    python_files(package, &mut files)?;
    files.sort();
    for file in files {
        let name = file.strip_prefix("python")?.to_str().ok_or("a file name is not UTF-8")?;
        archive.start_file(name, options)?;
        archive.write_all(&fs::read(&file)?)?;
    }
    archive.finish()?;
    Ok(())
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
