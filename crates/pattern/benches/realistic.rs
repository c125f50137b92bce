//! One path of 200 bytes against each of 50 patterns such as configurations hold: ours beside the `regex` crate and
//! CPython.
//!
//! `cargo bench -p pattern --bench realistic` prints a line for each pattern and the medians; `-- --json` one JSON
//! object with the medians alone. A figure is the fastest of some rounds: what the match costs when nothing else
//! disturbs it. A look-around and a back reference are nothing that the `regex` crate can say: those lines have no
//! figure for it. CPython is measured where there is a `python3` (another one: `PATTERN_TEST_PYTHON`).

use std::hint::black_box;
use std::process::Command;
use std::time::Instant;

use pattern::{Pattern, Template};

/// Matches of one round: some ten microseconds, far above what reading the clock costs.
const MATCHES: u32 = 500;
/// Rounds of one pattern, of which the fastest counts.
const ROUNDS: u32 = 60;
/// Length of the path in bytes, and number of the patterns: what the target is about.
const PATH_LEN: usize = 200;
const PATTERNS: usize = 50;

const PATH: &str = "/srv/incoming/customers/0417-blue-harbour-shipping/projects/2024-11-annual-report/deliveries/\
photographer-uploads/2024-11-28_board-meeting/raw-originals/camera-2/exports/IMG_20241128_143015_final.jpeg";

/// Rules.
const RULES: [&str; 25] = [
    r"^/srv/incoming/(?P<path>.*)\.jpeg$",
    r"^/srv/incoming/(?P<path>.*)\.to_move$",
    r"^/srv/incoming/(?P<path>.*)\.(pdf|jpe?g|tiff?)$",
    r"(?i)^/srv/incoming/(?P<path>.*)\.(pdf|docx?|xlsx?)$",
    r"^/srv/incoming/customers/(?P<customer>[^/]+)/(?P<path>.*)$",
    r"^/srv/incoming/customers/(?P<number>\d{4})-(?P<name>[a-z-]+)/projects/(?P<path>.*)$",
    r"^/srv/incoming/customers/(\d+)-[^/]*/invoices/(.*)\.pdf$",
    r"^/srv/incoming/(.*)/(?P<year>\d{4})-(?P<month>\d{2})-(?P<day>\d{2})_([^/]*)/(.*)$",
    r"^/srv/(?P<share>[^/]+)/(?P<path>.+)$",
    r"^/srv/outgoing/(?P<path>.*)$",
    r"^/srv/outgoing/(?P<customer>\w+)/(?P<file>[^/]+)\.csv$",
    r"^/home/(?P<user>[^/]+)/upload/(?P<path>.*)$",
    r"^/home/(?P<user>\w+)/scans/(?P<file>[^/]+)\.(?:pdf|png)$",
    r"^/var/spool/fax/(?P<file>fax\d+\.tif)$",
    r"^/mnt/camera/DCIM/(\d{3})[A-Z_]+/IMG_(\d{4})\.JPG$",
    r"^(?P<dir>.*)/(?P<name>[^/]*)\.part$",
    r"^(?P<dir>.*)/(?P<name>[^/]*)$",
    r"^.*/IMG_(?P<date>\d{8})_(?P<time>\d{6})[^/]*\.jpe?g$",
    r".*/(?P<date>\d{4}-\d{2}-\d{2})[^/]*\.log$",
    r".*\.jpeg$",
    r".*\.(?:mp4|mov|mkv|avi)$",
    r"(?i).*\.(?:jpe?g|png|gif|tiff?|webp)$",
    r"^/srv/incoming/(?!archive/)(?P<path>.*)$",
    r"^/srv/incoming/.*(?<!\.tmp)$",
    r"^/srv/incoming/(?P<a>[^/]+)/.*/(?P=a)/[^/]*$",
];

/// Exclude filters.
const FILTERS: [&str; 25] = [
    r".*/\.",
    r".*/\.[^/]*$",
    r".*~$",
    r".*\.tmp$",
    r".*\.(?:tmp|part|crdownload|swp)$",
    r".*\.sw[a-p]x?$",
    r".*/\.(?:git|hg|svn)(?:/|$)",
    r".*/node_modules/",
    r".*/__pycache__/.*",
    r".*/(?:build|dist|target)/",
    r".*/#[^/]*#$",
    r".*/\d+$",
    r"(?i).*/thumbs\.db$",
    r"(?i).*/(?:desktop\.ini|\.ds_store)$",
    r"^/srv/incoming/lost\+found",
    r"^/srv/incoming/customers/0001-",
    r"^/srv/incoming/customers/\d{4}-test",
    r"^/proc/",
    r"^/(?:proc|sys|dev|run)/",
    r"^.*/raw-originals/.*$",
    r"^.*/(?:tmp|temp|cache)/.*$",
    r"(?s:.*\.bak)\Z",
    r"(?s:.*/\..*)\Z",
    r"(?s:.*/cache/.*\.dat)\Z",
    r"^(?!.*\.jpe?g$).*",
];

fn main() {
    assert_eq!((PATH.len(), RULES.len() + FILTERS.len()), (PATH_LEN, PATTERNS));
    let sources: Vec<&str> = RULES.iter().chain(&FILTERS).copied().collect();
    let theirs: Vec<Option<f64>> = sources.iter().map(|source| regex_crate(source)).collect();
    let ours: Vec<(bool, f64)> = sources.iter().map(|source| our_match(source)).collect();
    let python = python(&sources);
    let medians = [
        Some(median(ours.iter().map(|our| our.1).collect())),
        Some(median(theirs.iter().flatten().copied().collect())),
        python.clone().map(median),
    ];
    if std::env::args().any(|argument| argument == "--json") {
        let number = |value: Option<f64>| value.map_or("null".to_owned(), |value| format!("{value:.1}"));
        let [ours, regex, python] = medians.map(number);
        println!("{{\"ours_ns\": {ours}, \"regex_ns\": {regex}, \"python_ns\": {python}}}");
        return;
    }
    let cell = |value: Option<f64>| value.map_or("-".to_owned(), |value| format!("{value:.0}"));
    println!(
        "{:>8} {:>8} {:>8}  ns for a match; then whether it matches, and the pattern",
        "ours", "regex", "python"
    );
    for (at, source) in sources.iter().enumerate() {
        let python = python.as_ref().and_then(|python| python.get(at).copied());
        let (is_match, ours) = ours[at];
        let answer = if is_match { "yes" } else { "no" };
        println!("{:>8.0} {:>8} {:>8}  {answer:<4}{source}", ours, cell(theirs[at]), cell(python));
    }
    let [ours, regex, python] = medians.map(cell);
    println!("{ours:>8} {regex:>8} {python:>8}  median");
    substitutions();
}

/// Nanoseconds of one call, the fastest round.
fn measure<T>(mut call: impl FnMut() -> T) -> f64 {
    black_box(call());
    let round = |_| {
        let start = Instant::now();
        for _ in 0..MATCHES {
            black_box(call());
        }
        start.elapsed().as_secs_f64() * 1e9 / f64::from(MATCHES)
    };
    (0..ROUNDS).map(round).fold(f64::INFINITY, f64::min)
}

fn our_match(source: &str) -> (bool, f64) {
    let pattern = Pattern::new(source.as_bytes()).expect("the patterns of this file are good");
    let is_match = pattern.is_match(PATH.as_bytes()).expect("no pattern of this file gives up");
    (is_match, measure(|| pattern.is_match(black_box(PATH.as_bytes()))))
}

/// The same question for the `regex` crate, which has another `\Z` and no match that begins at the start.
fn regex_crate(source: &str) -> Option<f64> {
    let regex = regex::bytes::Regex::new(&as_regex(source)).ok()?;
    let is_match = regex.is_match(PATH.as_bytes());
    let ours = Pattern::new(source.as_bytes()).expect("the patterns of this file are good");
    assert_eq!(Ok(is_match), ours.is_match(PATH.as_bytes()), "{source}");
    Some(measure(|| regex.is_match(black_box(PATH.as_bytes()))))
}

/// A pattern that begins with `.*` is given as it stands: a search comes to the same.
fn as_regex(source: &str) -> String {
    source.replace("\\Z", "\\z")
}

/// What a rule makes of the path, beside `replace` of the `regex` crate.
fn substitutions() {
    println!("\n{:>8} {:>8}           ns for a substitution", "ours", "regex");
    for (source, template, their_template) in [
        (r"^/srv/incoming/(?P<path>.*)\.jpeg$", r"/srv/done/\g<path>", "/srv/done/${path}"),
        (r"^/srv/incoming/(?P<path>.*)$", r"/srv/done/\g<path>", "/srv/done/${path}"),
        (r"^(?P<dir>.*)/(?P<name>[^/]*)$", r"/srv/done/\g<name>", "/srv/done/${name}"),
        (r"^/srv/incoming/customers/([^/]+)/(.*)\.(pdf|jpe?g)$", r"/srv/\3/\1/\2", "/srv/${3}/${1}/${2}"),
    ] {
        let pattern = Pattern::new(source.as_bytes()).expect("the patterns of this file are good");
        let ours = Template::new(template.as_bytes(), &pattern).expect("the groups are there");
        let regex = regex::bytes::Regex::new(&as_regex(source)).expect("the crate knows all of this");
        let our_result = pattern.sub(&ours, PATH.as_bytes());
        let their_result = regex.replace(PATH.as_bytes(), their_template.as_bytes());
        assert_eq!(our_result.as_deref(), Ok(&*their_result), "{source}");
        let ours_ns = measure(|| pattern.sub(&ours, black_box(PATH.as_bytes())));
        let regex_ns = measure(|| regex.replace(black_box(PATH.as_bytes()), their_template.as_bytes()).len());
        println!("{ours_ns:>8.0} {regex_ns:>8.0}           {source}");
    }
}

/// CPython's figures, in the order of the patterns; `None` without a Python.
fn python(sources: &[&str]) -> Option<Vec<f64>> {
    const SCRIPT: &str = "import re, sys, timeit\n\
path, *sources = sys.argv[1:]\n\
for source in sources:\n    \
    timer = timeit.Timer('match(path)', globals={'match': re.compile(source).match, 'path': path})\n    \
    print(min(timer.repeat(20, 500)) / 500 * 1e9)\n";
    let program = std::env::var("PATTERN_TEST_PYTHON").unwrap_or_else(|_| "python3".to_owned());
    let output = Command::new(program).args(["-c", SCRIPT, PATH]).args(sources).output().ok()?;
    let lines = String::from_utf8(output.stdout).ok()?;
    let figures: Vec<f64> = lines.lines().filter_map(|line| line.parse().ok()).collect();
    (figures.len() == sources.len()).then_some(figures)
}

fn median(mut figures: Vec<f64>) -> f64 {
    figures.sort_unstable_by(f64::total_cmp);
    let middle = figures.len() / 2;
    if figures.len().is_multiple_of(2) {
        f64::midpoint(figures[middle - 1], figures[middle])
    } else {
        figures[middle]
    }
}
