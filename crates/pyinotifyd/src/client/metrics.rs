//! Metrics as JSON, read from the text format 0.0.4 of Prometheus.

use std::collections::BTreeMap;

use serde::Serialize;

/// All of them, for programs that read JSON rather than the text.
#[derive(Debug, PartialEq, Serialize)]
pub(super) struct Metrics<'a> {
    metrics: Vec<Sample<'a>>,
}

#[derive(Debug, PartialEq, Serialize)]
struct Sample<'a> {
    name: &'a str,
    labels: BTreeMap<&'a str, String>,
    value: f64,
}

impl Metrics<'_> {
    /// `None` if the text is not what a daemon of ours writes.
    pub(super) fn parse(text: &str) -> Option<Metrics<'_>> {
        let lines = text.lines().filter(|line| !line.starts_with('#'));
        let metrics = lines.map(sample).collect::<Option<_>>()?;
        Some(Metrics { metrics })
    }
}

fn sample(line: &str) -> Option<Sample<'_>> {
    let (series, value) = line.rsplit_once(' ')?;
    let (name, mut rest) = series.split_once('{').unwrap_or((series, "}"));
    let mut labels = BTreeMap::new();
    while rest != "}" {
        let (label, value) = rest.split_once("=\"")?;
        let (value, behind) = unquoted(value)?;
        labels.insert(label, value);
        rest = behind.strip_prefix(',').unwrap_or(behind);
    }
    Some(Sample { name, labels, value: value.parse().ok()? })
}

/// The value of a label up to its closing quote, and what stands behind that.
fn unquoted(text: &str) -> Option<(String, &str)> {
    let (mut value, mut letters) = (String::new(), text.chars());
    loop {
        match letters.next()? {
            '"' => return Some((value, letters.as_str())),
            '\\' => value.push(match letters.next()? {
                'n' => '\n',
                letter => letter,
            }),
            letter => value.push(letter),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samples_have_their_labels_and_values() {
        let text = "# HELP a b\na 1\nb{x=\"y z\",le=\"+Inf\"} 0.5\nc{q=\"\\\"\\\\\\n},\"} 2\n";
        let json = serde_json::to_string(&Metrics::parse(text).unwrap()).unwrap();
        let expected = [
            r#"{"name":"a","labels":{},"value":1.0}"#,
            r#"{"name":"b","labels":{"le":"+Inf","x":"y z"},"value":0.5}"#,
            r#"{"name":"c","labels":{"q":"\"\\\n},"},"value":2.0}"#,
        ];
        assert_eq!(json, format!(r#"{{"metrics":[{}]}}"#, expected.join(",")));
        for wrong in ["a", "a{", "a{b=\"} 1", "a x"] {
            assert_eq!(Metrics::parse(wrong), None, "{wrong}");
        }
    }
}
