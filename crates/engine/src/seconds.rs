//! A length of time as text.

use std::fmt;
use std::time::Duration;

/// Seconds as Python prints the number that a configuration gave: `30`, `0.5`, `7.56`. The float of a duration would
/// show the rounding of its parts: `7.5600000000000005`.
#[derive(Clone, Copy, Debug)]
pub struct Seconds(pub Duration);

impl fmt::Display for Seconds {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (whole, nanos) = (self.0.as_secs(), self.0.subsec_nanos());
        if nanos == 0 {
            return write!(out, "{whole}");
        }
        let digits = format!("{nanos:09}");
        write!(out, "{whole}.{}", digits.trim_end_matches('0'))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seconds_have_the_digits_that_were_given() {
        let cases =
            [(30.0, "30"), (0.5, "0.5"), (7.56, "7.56"), (1.1, "1.1"), (0.001, "0.001"), (4096.3, "4096.3")];
        for (seconds, text) in cases {
            assert_eq!(Seconds(Duration::from_secs_f64(seconds)).to_string(), text);
        }
    }
}
