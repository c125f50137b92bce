//! Metrics, and the two text formats that Prometheus reads: 0.0.4, and OpenMetrics 1.0 where a client asks for it.
//!
//! Format: <https://prometheus.io/docs/instrumenting/exposition_formats/>, <https://github.com/prometheus/OpenMetrics>.

use std::fmt::Write as _;

use crate::accept::{self, Offer};

/// What a family of metrics is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Only grows; its name ends in `_total`.
    Counter,
    /// Goes up and down.
    Gauge,
    /// Counts of observations by size.
    Histogram,
    /// Labels with the value 1; its name ends in `_info`.
    Info,
}

/// Metrics of one name.
#[derive(Clone, Debug, PartialEq)]
pub struct Family {
    /// Its whole name, with `_total` or `_info`.
    pub name: &'static str,
    /// What it says, one sentence.
    pub help: &'static str,
    /// What it is.
    pub kind: Kind,
    /// Its values.
    pub samples: Vec<Sample>,
}

/// One value, or one histogram.
#[derive(Clone, Debug, PartialEq)]
pub struct Sample {
    /// Names and values of labels.
    pub labels: Vec<(&'static str, String)>,
    /// What was measured.
    pub value: Value,
}

/// What was measured.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// A number.
    Number(f64),
    /// Observations by size.
    Histogram(Histogram),
}

/// Observations by size.
#[derive(Clone, Debug, PartialEq)]
pub struct Histogram {
    /// Upper bounds, rising, the infinite one aside.
    bounds: &'static [f64],
    /// Observations at most as large as each bound and larger than the one before; the last is for all others.
    counts: Vec<u64>,
    sum: f64,
}

impl Histogram {
    /// Nothing was observed.
    pub fn new(bounds: &'static [f64]) -> Histogram {
        Histogram { bounds, counts: vec![0; bounds.len() + 1], sum: 0.0 }
    }

    /// Counts an observation.
    pub fn observe(&mut self, value: f64) {
        let place = self.bounds.partition_point(|bound| *bound < value);
        self.counts[place] += 1;
        self.sum += value;
    }
}

/// A text format.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Text {
    /// Version 0.0.4 of Prometheus's own.
    Prometheus,
    /// OpenMetrics 1.0.
    OpenMetrics,
}

impl Text {
    /// What an `Accept` header asks for.
    pub fn accepted(accept: &str) -> Text {
        let usual = Offer { essence: "text/plain", version: Some("0.0.4") };
        let special = Offer { essence: "application/openmetrics-text", version: Some("1.0.0") };
        if accept::prefers(accept, special, usual) { Text::OpenMetrics } else { Text::Prometheus }
    }

    /// Its media type.
    pub fn media_type(self) -> &'static str {
        match self {
            Text::Prometheus => "text/plain; version=0.0.4; charset=utf-8",
            Text::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
        }
    }

    /// All families as text.
    pub fn write(self, families: &[Family]) -> String {
        let mut text = String::new();
        for family in families {
            self.write_family(family, &mut text);
        }
        if self == Text::OpenMetrics {
            text.push_str("# EOF\n");
        }
        text
    }

    fn write_family(self, family: &Family, text: &mut String) {
        let suffix = match family.kind {
            Kind::Counter => "_total",
            Kind::Info => "_info",
            Kind::Gauge | Kind::Histogram => "",
        };
        // OpenMetrics names a family without the suffix of its samples.
        let (name, kind) = match (self, family.kind) {
            (Text::OpenMetrics, Kind::Info) => (family.name.trim_end_matches(suffix), "info"),
            (Text::Prometheus, Kind::Info) | (_, Kind::Gauge) => (family.name, "gauge"),
            (Text::OpenMetrics, Kind::Counter) => (family.name.trim_end_matches(suffix), "counter"),
            (Text::Prometheus, Kind::Counter) => (family.name, "counter"),
            (_, Kind::Histogram) => (family.name, "histogram"),
        };
        let _ = writeln!(text, "# HELP {name} {}", family.help);
        let _ = writeln!(text, "# TYPE {name} {kind}");
        for sample in &family.samples {
            match &sample.value {
                Value::Number(number) => line(family.name, &sample.labels, None, *number, text),
                Value::Histogram(histogram) => write_histogram(family.name, &sample.labels, histogram, text),
            }
        }
    }
}

fn write_histogram(name: &str, labels: &[(&'static str, String)], histogram: &Histogram, text: &mut String) {
    let mut total = 0;
    let bounds = histogram.bounds.iter().map(|bound| number(*bound)).chain(["+Inf".to_owned()]);
    for (bound, count) in bounds.zip(&histogram.counts) {
        total += count;
        line(&format!("{name}_bucket"), labels, Some(&bound), total as f64, text);
    }
    line(&format!("{name}_sum"), labels, None, histogram.sum, text);
    line(&format!("{name}_count"), labels, None, total as f64, text);
}

fn line(name: &str, labels: &[(&'static str, String)], bound: Option<&str>, value: f64, text: &mut String) {
    text.push_str(name);
    let bound = bound.map(|bound| ("le", bound.to_owned()));
    let mut between = '{';
    for (label, value) in labels.iter().chain(&bound) {
        let value = value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
        let _ = write!(text, "{between}{label}=\"{value}\"");
        between = ',';
    }
    if between == ',' {
        text.push('}');
    }
    let _ = writeln!(text, " {}", number(value));
}

/// A number without an exponent where it is whole, `0.001` and `1.5` as they stand.
fn number(value: f64) -> String {
    format!("{value}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn families() -> Vec<Family> {
        let mut histogram = Histogram::new(&[0.1, 1.0]);
        for value in [0.05, 0.1, 0.5, 7.0] {
            histogram.observe(value);
        }
        let one = |labels, value| vec![Sample { labels, value }];
        vec![
            Family {
                name: "x_events_total",
                help: "Events.",
                kind: Kind::Counter,
                samples: one(vec![("event", "IN_\"\\\n".to_owned())], Value::Number(3.0)),
            },
            Family {
                name: "x_build_info",
                help: "The program.",
                kind: Kind::Info,
                samples: one(vec![("version", "1".to_owned())], Value::Number(1.0)),
            },
            Family {
                name: "x_delay_seconds",
                help: "Delays.",
                kind: Kind::Histogram,
                samples: one(vec![("scheduler", "a".to_owned())], Value::Histogram(histogram)),
            },
        ]
    }

    #[test]
    fn both_formats_are_as_they_are_described() {
        let text = Text::Prometheus.write(&families());
        assert!(text.starts_with("# HELP x_events_total Events.\n# TYPE x_events_total counter\n"), "{text}");
        assert!(text.contains("x_events_total{event=\"IN_\\\"\\\\\\n\"} 3\n"), "{text}");
        assert!(text.contains("# TYPE x_build_info gauge\nx_build_info{version=\"1\"} 1\n"), "{text}");
        assert!(text.contains("x_delay_seconds_bucket{scheduler=\"a\",le=\"0.1\"} 2\n"), "{text}");
        assert!(text.contains("x_delay_seconds_bucket{scheduler=\"a\",le=\"+Inf\"} 4\n"), "{text}");
        assert!(text.ends_with(
            "x_delay_seconds_sum{scheduler=\"a\"} 7.65\nx_delay_seconds_count{scheduler=\"a\"} 4\n"
        ));
        let text = Text::OpenMetrics.write(&families());
        assert!(text.contains("# TYPE x_events counter\nx_events_total{"), "{text}");
        assert!(text.contains("# TYPE x_build info\nx_build_info{"), "{text}");
        assert!(text.ends_with("# EOF\n"));
    }

    #[test]
    fn the_accept_header_decides() {
        for (accept, text) in [
            ("text/plain;q=0.5, application/openmetrics-text;version=1.0.0", Text::OpenMetrics),
            ("Application/OpenMetrics-Text", Text::OpenMetrics),
            ("*/*", Text::Prometheus),
            ("application/openmetrics-text;q=0", Text::Prometheus),
            ("text/plain;q=1, application/openmetrics-text;q=0.1", Text::Prometheus),
            ("application/openmetrics-text;version=0.0.1", Text::Prometheus),
        ] {
            assert_eq!(Text::accepted(accept), text, "{accept}");
        }
    }
}
