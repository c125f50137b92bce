//! What holds for any request, whoever made it: asked by the fuzz target `route` with any bytes, and below with
//! requests from seeds.

use hyper::{Method, StatusCode, Uri};

use crate::api::{Filter, Selection, id_prefix};
use crate::route::{Question, RESULTS, Refusal, Request, STATES, question};

/// Statuses with which the routes refuse; all others come from the server or the daemon.
const REFUSED: [StatusCode; 3] =
    [StatusCode::BAD_REQUEST, StatusCode::NOT_FOUND, StatusCode::METHOD_NOT_ALLOWED];

/// Reads bytes as a request (method, target and Accept in a line each, then the body) and asks it; `None` where the
/// server lets no such request come this far.
///
/// # Panics
/// The outcome is not as it has to be.
pub fn check(input: &[u8]) -> Option<Result<Question, Refusal>> {
    let mut parts = input.splitn(4, |byte| *byte == b'\n');
    let mut part = || parts.next().unwrap_or_default();
    let method = Method::from_bytes(part()).ok()?;
    let uri = Uri::try_from(part()).ok()?;
    let accept = std::str::from_utf8(part()).unwrap_or_default();
    let request = Request {
        method: &method,
        path: uri.path(),
        query: uri.query().unwrap_or_default(),
        accept,
        body: part(),
    };
    let outcome = question(&request);
    match &outcome {
        Ok(question) => check_question(question, &method),
        Err(refusal) => check_refusal(refusal),
    }
    Some(outcome)
}

/// Only a POST changes anything, and nobody behind the routes meets a value that makes no sense.
fn check_question(question: &Question, method: &Method) {
    let reads = !question.changes() && !matches!(question, Question::Sync(_));
    let methods: &[Method] = if reads { &[Method::GET, Method::HEAD] } else { &[Method::POST] };
    assert!(methods.contains(method), "{question:?}");
    match question {
        Question::Tasks(filter) => check_filter(filter, &STATES),
        Question::Failed(filter) | Question::History(filter) => check_filter(filter, &RESULTS),
        Question::Run(selection)
        | Question::Cancel(selection)
        | Question::Retry(selection)
        | Question::Forget(selection) => check_selection(selection),
        Question::Undo(id) => check_id(id),
        Question::Send { path, .. } => assert!(is_a_path(path), "{question:?}"),
        Question::Rescan(paths) => assert!(paths.iter().all(|path| is_a_path(path)), "{question:?}"),
        Question::Sync(body) => assert!(body.timeout.is_none_or(is_length_of_time), "{question:?}"),
        Question::Status
        | Question::Health
        | Question::Metrics(_)
        | Question::Pause(_)
        | Question::Resume(_)
        | Question::Reload
        | Question::Events { .. } => {}
    }
}

fn check_filter(filter: &Filter, states: &[&str]) {
    let Filter { state, since, .. } = filter;
    assert!(state.as_deref().is_none_or(|state| states.contains(&state)), "{filter:?}");
    assert!(since.is_none_or(is_length_of_time), "{filter:?}");
}

fn check_selection(selection: &Selection) {
    match selection {
        Selection::Ids(ids) => ids.iter().for_each(|id| check_id(id)),
        Selection::Matching { state, scheduler, path } => {
            assert!(state.is_some() || scheduler.is_some() || path.is_some(), "all by accident");
            assert!(state.as_deref().is_none_or(|state| STATES.contains(&state)), "{selection:?}");
        }
        Selection::All => {}
    }
}

fn check_id(id: &str) {
    assert_eq!(id_prefix(id).as_deref(), Ok(id));
}

fn is_a_path(path: &[u8]) -> bool {
    path.starts_with(b"/") && !path.contains(&0)
}

fn is_length_of_time(seconds: f64) -> bool {
    seconds.is_finite() && seconds >= 0.0
}

fn check_refusal(refusal: &Refusal) {
    assert!(REFUSED.contains(&refusal.status), "{refusal:?}");
    let is_line = !refusal.text.is_empty() && !refusal.text.chars().any(char::is_control);
    assert!(is_line, "not one line: {refusal:?}");
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;
    use std::mem::discriminant;

    use super::*;
    use crate::openapi::operations;

    /// Requests without `EDGE_REQUESTS`: some seconds without optimisation.
    const REQUESTS_DEFAULT: u64 = 100_000;

    const METHODS: [&str; 6] = ["GET", "POST", "POST", "HEAD", "PUT", "get"];
    const SEGMENTS: [&str; 8] = ["v1", "tasks", "status", "run", "%61bcd", "%00%ff%0a", "..", ""];
    const NAMES: [&str; 7] = ["abcd", "0123-ABCD", "abc", "a%2Fb", "%61bc%64", "%0a", ""];
    const KEYS: [&str; 9] =
        ["state", "scheduler", "path", "path_b64", "limit", "since", "tasks", "%73tate", "x%0ay"];
    const VALUES: [&str; 14] = [
        "waiting",
        "ok",
        "failed",
        "7",
        "-1",
        "1e9",
        "90s",
        "1.5h",
        "nan",
        "%2Fin%2F*",
        "true",
        "%ff",
        "99999999999999999999",
        "",
    ];
    const WORDS: [&str; 24] = [
        "{",
        "}",
        "[",
        "]",
        ":",
        ",",
        "\"state\"",
        "\"scheduler\"",
        "\"path\"",
        "\"path_b64\"",
        "\"all\"",
        "\"event\"",
        "\"paths\"",
        "\"timeout\"",
        "\"idle\"",
        "\"waiting\"",
        "\"/in\"",
        "\"L/8=\"",
        "\"a\\nb\"",
        "true",
        "null",
        "-1",
        "1e308",
        "0.5",
    ];
    /// Whole bodies, so that each question is asked.
    const BODIES: [&str; 10] = [
        "",
        "{}",
        r#"{"all": true}"#,
        r#"{"path": "/in"}"#,
        r#"{"scheduler": "move", "state": "queued"}"#,
        r#"{"path_b64": "L/8=", "event": "IN_CREATE"}"#,
        r#"{"paths": ["/in"], "paths_b64": ["L/8="]}"#,
        r#"{"timeout": 1e400, "idle": true}"#,
        r#"{"timeout": 5}"#,
        "{\"x\\n\\u001b\": 1}",
    ];
    const ACCEPTS: [&str; 5] = [
        "",
        "text/event-stream",
        "application/openmetrics-text;version=1.0.0",
        "*/*;q=\u{e9}",
        "text/*;q=0.5, application/*;a=\"\\\",\"",
    ];

    /// SplitMix64, which is enough to make requests (Steele, Lea, Flood 2014).
    struct Random(u64);

    impl Random {
        fn next(&mut self) -> u64 {
            self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            mixed ^ (mixed >> 31)
        }

        fn below(&mut self, end: usize) -> usize {
            (self.next() >> 32) as usize % end
        }

        fn of<'a>(&mut self, words: &[&'a str]) -> &'a str {
            words[self.below(words.len())]
        }

        fn joined(&mut self, most: usize, words: &[&str]) -> String {
            (0..self.below(most)).map(|_| self.of(words)).collect()
        }

        /// A path that there is, or one of any segments, and a query.
        fn target(&mut self, paths: &[&str]) -> String {
            let name = self.of(&NAMES);
            let mut target = self.of(paths).replace("{id}", name).replace("{name}", name);
            if self.below(4) == 0 {
                target = (0..=self.below(4)).map(|_| ["/", self.of(&SEGMENTS)].concat()).collect();
            }
            for index in 0..self.below(4) {
                let mark = if index == 0 { "?" } else { "&" };
                target = target + mark + self.of(&KEYS) + "=" + self.of(&VALUES);
            }
            target
        }

        /// A request, of which some bytes may be others.
        fn request(&mut self, paths: &[&str]) -> Vec<u8> {
            let body = if self.below(2) == 0 { self.of(&BODIES).to_owned() } else { self.joined(12, &WORDS) };
            let lines = [self.of(&METHODS), &self.target(paths), self.of(&ACCEPTS), &body].join("\n");
            let mut bytes = lines.into_bytes();
            for _ in 0..self.below(4) / 2 * self.below(4) {
                let at = self.below(bytes.len());
                bytes[at] = self.next() as u8;
            }
            bytes
        }
    }

    #[test]
    fn whatever_is_asked_has_an_answer_of_the_list() {
        let requests = std::env::var("EDGE_REQUESTS").map_or(REQUESTS_DEFAULT, |text| text.parse().unwrap());
        let paths: Vec<&str> = operations().iter().map(|operation| operation.path).collect();
        let (mut questions, mut statuses) = (HashSet::new(), HashSet::new());
        for seed in 0..requests {
            let request = Random(seed).request(&paths);
            let outcome = std::panic::catch_unwind(|| check(&request));
            let outcome = outcome.unwrap_or_else(|_| panic!("{}", request.escape_ascii()));
            match outcome {
                Some(Ok(question)) => drop(questions.insert(discriminant(&question))),
                Some(Err(refusal)) => drop(statuses.insert(refusal.status)),
                None => {}
            }
        }
        // The requests are such that everything is asked.
        assert_eq!(questions.len(), 18, "{questions:?}");
        assert_eq!(statuses, HashSet::from(REFUSED));
    }
}
