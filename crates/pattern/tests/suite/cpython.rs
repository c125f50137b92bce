//! A running CPython that answers what its `re` makes of patterns, and the comparison with ours.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use pattern::{Error, Pattern, Template};
use serde_json::{Value, json};

/// Environment variable that names the interpreter to compare with.
const PYTHON_VARIABLE: &str = "PATTERN_TEST_PYTHON";

/// A child that serves answers.
pub(crate) struct Cpython {
    child: Child,
    stdin: Option<ChildStdin>,
    stdout: BufReader<ChildStdout>,
    version: (u64, u64),
    unassigned: Vec<(u32, u32)>,
}

/// What to ask about one pattern.
pub(crate) struct Request<'a> {
    pub(crate) pattern: &'a [u8],
    pub(crate) paths: &'a [Vec<u8>],
    pub(crate) templates: &'a [Vec<u8>],
}

/// What a comparison has seen.
#[derive(Debug, Default)]
pub(crate) struct Counts {
    pub(crate) patterns: usize,
    pub(crate) matches: usize,
    pub(crate) subs: usize,
    pub(crate) errors: usize,
    /// Good Python that ours refuses.
    pub(crate) unsupported: usize,
    /// Answers that one of the two gave up on, or that a known fault of CPython spoils.
    pub(crate) gave_up: usize,
}

impl Cpython {
    /// `None`, with a printed line, if there is no Python to compare with.
    pub(crate) fn start() -> Option<Cpython> {
        let python = std::env::var(PYTHON_VARIABLE).unwrap_or_else(|_| "python3".to_owned());
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/suite/serve.py");
        let child =
            Command::new(&python).arg("-I").arg(script).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn();
        let Ok(mut child) = child else {
            println!("skipped: no {python} to compare with (set {PYTHON_VARIABLE})");
            return None;
        };
        let stdin = child.stdin.take();
        let stdout = BufReader::new(child.stdout.take().unwrap());
        let mut cpython = Cpython { child, stdin, stdout, version: (0, 0), unassigned: Vec::new() };
        let hello = cpython.receive();
        cpython.version = (hello["version"][0].as_u64().unwrap(), hello["version"][1].as_u64().unwrap());
        let code = |value: &Value| value.as_u64().unwrap() as u32;
        let ranges = hello["unassigned"].as_array().unwrap().iter();
        cpython.unassigned = ranges.map(|range| (code(&range[0]), code(&range[1]))).collect();
        println!("comparing with Python {}.{}", cpython.version.0, cpython.version.1);
        Some(cpython)
    }

    /// Major and minor version.
    pub(crate) fn version(&self) -> (u64, u64) {
        self.version
    }

    /// Whether this Python's Unicode knows the character.
    pub(crate) fn knows(&self, char: char) -> bool {
        let code = u32::from(char);
        !self.unassigned.iter().any(|&(first, last)| (first..=last).contains(&code))
    }

    /// Compares all answers; gives the differences, described.
    pub(crate) fn compare(&mut self, request: &Request<'_>, counts: &mut Counts) -> Vec<String> {
        self.send(request);
        let theirs = self.receive();
        counts.patterns += 1;
        let mut differences = Vec::new();
        match (Pattern::new(request.pattern), theirs["error"].as_str()) {
            (Ok(ours), None) => compare_results(&ours, &theirs, request, counts, &mut differences),
            (Err(Error::Unsupported { .. }), None) => counts.unsupported += 1,
            (Err(ours), Some(text)) => {
                counts.errors += 1;
                let is_ours = matches!(ours, Error::Unsupported { .. }) || ours.to_string() == text;
                // Texts and positions are those of 3.11 to 3.13.
                if !is_ours && self.version >= (3, 11) {
                    differences.push(format!("error {ours:?} instead of {text:?}"));
                }
            }
            // From 3.11 on atomic groups and possessive repeats are good, global flags inside of a pattern are not.
            (Ok(_), Some(_)) | (Err(_), None) if self.version < (3, 11) => counts.unsupported += 1,
            (Ok(_), Some(text)) => differences.push(format!("no error instead of {text:?}")),
            (Err(ours), None) => differences.push(format!("error {ours:?} instead of none")),
        }
        let name = request.pattern.escape_ascii();
        differences.into_iter().map(|difference| format!("{name}: {difference}")).collect()
    }

    fn send(&mut self, request: &Request<'_>) {
        let hex_all = |all: &[Vec<u8>]| all.iter().map(|bytes| hex(bytes)).collect::<Vec<_>>();
        let line = json!({
            "pattern": hex(request.pattern),
            "paths": hex_all(request.paths),
            "templates": hex_all(request.templates),
        });
        let stdin = self.stdin.as_mut().unwrap();
        writeln!(stdin, "{line}").unwrap();
        stdin.flush().unwrap();
    }

    fn receive(&mut self) -> Value {
        let mut line = String::new();
        self.stdout.read_line(&mut line).unwrap();
        serde_json::from_str(&line).unwrap()
    }
}

impl Drop for Cpython {
    fn drop(&mut self) {
        drop(self.stdin.take());
        let _ = self.child.wait();
    }
}

fn compare_results(
    ours: &Pattern,
    theirs: &Value,
    request: &Request<'_>,
    counts: &mut Counts,
    differences: &mut Vec<String>,
) {
    for (path, their_match) in request.paths.iter().zip(theirs["matches"].as_array().unwrap()) {
        counts.matches += 1;
        if let Some(difference) = compare_match(ours, path, their_match, counts) {
            differences.push(format!("{}: {difference}", path.escape_ascii()));
        }
    }
    for (source, their_template) in request.templates.iter().zip(theirs["templates"].as_array().unwrap()) {
        let difference = compare_template(ours, source, their_template, request.paths, counts);
        differences.extend(difference.map(|text| format!("template {}: {text}", source.escape_ascii())));
    }
}

fn compare_match(ours: &Pattern, path: &[u8], theirs: &Value, counts: &mut Counts) -> Option<String> {
    let (Ok(is_match), Ok(captures)) = (ours.is_match(path), ours.captures(path)) else {
        counts.gave_up += 1;
        return None;
    };
    if theirs.as_str() == Some("timeout") {
        counts.gave_up += 1;
        return None;
    }
    if is_match != captures.is_some() {
        return Some(format!("is_match is {is_match}, captures are {captures:?}"));
    }
    let ranges = captures.map(|captures| {
        let range = |range: std::ops::Range<usize>| json!([range.start, range.end]);
        captures.into_iter().map(|capture| capture.range.map(range)).collect::<Vec<_>>()
    });
    let our_ranges = json!(ranges);
    if our_ranges == *theirs {
        return None;
    }
    if our_ranges[0] == theirs[0] && has_possessive_repeat(ours.as_bytes()) {
        counts.gave_up += 1;
        return None;
    }
    Some(format!("groups {our_ranges} instead of {theirs}"))
}

/// Inside of a possessive repeat CPython keeps the start of a group whose try has failed: `(?:(.)|)*+` on `a` gives the
/// group the range 1 to 1, which no `.` can match. `(?>(?:(.)|)*)`, which should be the same, gives 0 to 1, as ours
/// does.
fn has_possessive_repeat(pattern: &[u8]) -> bool {
    pattern.windows(2).any(|pair| pair[1] == b'+' && b"*+?}".contains(&pair[0]))
}

fn compare_template(
    ours: &Pattern,
    source: &[u8],
    theirs: &Value,
    paths: &[Vec<u8>],
    counts: &mut Counts,
) -> Option<String> {
    let template = match (Template::new(source, ours), theirs["error"].as_str()) {
        (Ok(template), None) => template,
        (Err(error), Some(text)) if error.to_string() == text => return None,
        (ours, theirs) => return Some(format!("{ours:?} instead of {theirs:?}")),
    };
    for (path, their_sub) in paths.iter().zip(theirs["subs"].as_array().unwrap()) {
        counts.subs += 1;
        let Ok(our_sub) = ours.sub(&template, path) else {
            counts.gave_up += 1;
            continue;
        };
        let differs = their_sub.as_str() != Some("timeout") && their_sub.as_str() != Some(&hex(&our_sub));
        if differs && has_possessive_repeat(ours.as_bytes()) {
            counts.gave_up += 1;
        } else if differs {
            let path = path.escape_ascii();
            return Some(format!("{path}: {} instead of {their_sub}", hex(&our_sub)));
        }
    }
    None
}

fn hex(bytes: &[u8]) -> String {
    let digit = |value: u8| char::from_digit(u32::from(value), 16).unwrap();
    bytes.iter().flat_map(|byte| [digit(byte >> 4), digit(byte & 15)]).collect()
}
