//! Local time for log lines.

use std::time::{SystemTime, UNIX_EPOCH};

use jiff::{Timestamp, tz::TimeZone};

/// Formats seconds since the epoch as `YYYY-MM-DD HH:MM:SS,mmm` in local time.
///
/// The text up to the second is kept, since records come in bursts; a new second asks the time zone again, so that a
/// change of daylight saving time shows at once.
#[derive(Debug)]
pub(crate) struct Clock {
    zone: TimeZone,
    second: i64,
    text: String,
}

impl Default for Clock {
    fn default() -> Self {
        Clock::new()
    }
}

impl Clock {
    /// A clock in the system's time zone (`TZ`, else `/etc/localtime`).
    pub(crate) fn new() -> Clock {
        Clock { zone: TimeZone::system(), second: i64::MIN, text: String::new() }
    }

    /// Seconds since the epoch.
    #[expect(clippy::unused_self, reason = "time comes from the clock, for all readers alike")]
    pub(crate) fn now(&self) -> f64 {
        SystemTime::now().duration_since(UNIX_EPOCH).map_or(0.0, |since| since.as_secs_f64())
    }

    /// A time (seconds since the epoch) as RFC 3339 with the offset of the zone, in milliseconds.
    pub(crate) fn rfc3339(&self, at: f64) -> String {
        let time = Timestamp::from_millisecond((at * 1000.0).floor() as i64).unwrap_or_default();
        time.to_zoned(self.zone.clone()).strftime("%Y-%m-%dT%H:%M:%S%.3f%:z").to_string()
    }

    /// Appends the time stamp of `at` (seconds since the epoch).
    pub(crate) fn stamp(&mut self, at: f64, line: &mut Vec<u8>) {
        let millis = (at * 1000.0).floor() as i64;
        let (second, milli) = (millis.div_euclid(1000), millis.rem_euclid(1000));
        if second != self.second {
            self.second = second;
            let time = Timestamp::from_second(second).unwrap_or_default().to_zoned(self.zone.clone());
            self.text = time.strftime("%Y-%m-%d %H:%M:%S").to_string();
        }
        line.extend_from_slice(self.text.as_bytes());
        let milli = milli as u32;
        let digit = |value: u32| b'0' + (value % 10) as u8;
        line.extend_from_slice(&[b',', digit(milli / 100), digit(milli / 10), digit(milli)]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stamps_have_milliseconds_after_a_comma() {
        let mut clock = Clock { zone: TimeZone::UTC, second: i64::MIN, text: String::new() };
        for (at, text) in [(0.0, "1970-01-01 00:00:00,000"), (1_700_000_000.062_5, "2023-11-14 22:13:20,062")]
        {
            let mut line = Vec::new();
            clock.stamp(at, &mut line);
            assert_eq!(String::from_utf8(line).unwrap(), text);
        }
    }

    #[test]
    fn a_time_in_json_has_its_offset() {
        let clock = |zone| Clock { zone, second: i64::MIN, text: String::new() };
        assert_eq!(clock(TimeZone::UTC).rfc3339(1_700_000_000.062_5), "2023-11-14T22:13:20.062+00:00");
        let zone = TimeZone::fixed(jiff::tz::offset(-3));
        assert_eq!(clock(zone).rfc3339(0.0), "1969-12-31T21:00:00.000-03:00");
    }
}
