//! How the tasks of a scheduler run: for how long, again after a failure, how many in a time.
//!
//! Python has checked the values, with the place in the file; here they become what the engine needs.

use std::ffi::OsStr;
use std::fmt;
use std::num::NonZeroU32;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use engine::{Batch, OnBusy, Rate, Retry, RetryOn, SchedulerSpec, Seconds, Settle};
use serde::Deserialize;

use super::seconds;
use crate::host::wire::PathText;
use crate::log::Escaped;

/// What has to be so before a task starts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Settled {
    /// Nobody has the file open for writing.
    pub no_writer: bool,
    /// Size and time of the last change have been the same for so long.
    pub stable: Duration,
    /// Bytes that the file has at least.
    pub min_size: u64,
    /// Another file that has to be there.
    pub marker: Option<Marker>,
    /// Pause between two looks.
    pub check: Duration,
}

impl fmt::Display for Settled {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Settled { no_writer, stable, min_size, marker, .. } = self;
        let asked = [
            no_writer.then(|| "nobody writes to the file".to_owned()),
            (!stable.is_zero()).then(|| format!("it has not changed for {} s", Seconds(*stable))),
            (*min_size > 0).then(|| format!("it has {min_size} bytes")),
            marker.as_ref().map(|marker| format!("'{}' is there", Escaped(&marker.0))),
        ];
        let asked: Vec<String> = asked.into_iter().flatten().collect();
        out.write_str(&asked.join(", "))
    }
}

/// The path of a file that says of another one that it is complete, with that one's names in braces.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Marker(pub Vec<u8>);

impl Marker {
    /// The path for a file: `{pathname}`, `{dirname}`, `{name}`, and `{stem}`, the name without its last suffix.
    pub(crate) fn of(&self, pathname: &[u8]) -> Vec<u8> {
        fn text(part: Option<&OsStr>) -> &[u8] {
            part.map_or(&[], OsStr::as_bytes)
        }
        let path = Path::new(OsStr::from_bytes(pathname));
        let fields: [(&[u8], &[u8]); 4] = [
            (b"{pathname}", pathname),
            (b"{dirname}", text(path.parent().map(Path::as_os_str))),
            (b"{name}", text(path.file_name())),
            (b"{stem}", text(path.file_stem())),
        ];
        let mut out = Vec::new();
        let mut rest = self.0.as_slice();
        while let Some((first, after)) = rest.split_first() {
            if let Some((name, value)) = fields.iter().find(|(name, _)| rest.starts_with(name)) {
                out.extend_from_slice(value);
                rest = &rest[name.len()..];
            } else {
                out.push(*first);
                rest = after;
            }
        }
        out
    }
}

/// As the host describes it.
#[derive(Debug, Deserialize)]
pub(super) struct RunningDescription {
    timeout: Option<f64>,
    retry: Option<RetryDescription>,
    /// Places in the list of schedulers.
    on_failure: Vec<usize>,
    max_delay: Option<f64>,
    max_rate: Option<(NonZeroU32, f64)>,
    settle: Option<SettleDescription>,
    on_busy: BusyDescription,
    persist: bool,
    pub(super) rerun: bool,
    batch: Option<BatchDescription>,
}

#[derive(Debug, Deserialize)]
struct BatchDescription {
    quiet: f64,
    max_wait: f64,
    max_files: NonZeroU32,
}

#[derive(Debug, Deserialize)]
struct RetryDescription {
    times: Option<u32>,
    delay: f64,
    factor: f64,
    max_delay: f64,
    jitter: f64,
    on: Option<RetryOnDescription>,
}

#[derive(Debug, Deserialize)]
struct RetryOnDescription {
    errors: bool,
    statuses: Vec<i32>,
    timeout: bool,
    signal: bool,
}

#[derive(Debug, Deserialize)]
struct SettleDescription {
    no_writer: bool,
    stable: f64,
    min_size: u64,
    marker: Option<PathText>,
    give_up: f64,
    check: f64,
}

#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "lowercase")]
enum BusyDescription {
    Skip,
    Rerun,
    Restart,
}

impl RunningDescription {
    /// Schedulers, by their places, that get the failures.
    pub(super) fn receivers(&self) -> impl Iterator<Item = usize> {
        self.on_failure.iter().copied()
    }

    /// Whether one run is for many paths.
    pub(super) fn is_batch(&self) -> bool {
        self.batch.is_some()
    }

    /// The scheduler with these options. Rules keep what they do with events that come while they run.
    pub(super) fn apply(self, spec: SchedulerSpec) -> (SchedulerSpec, Option<Arc<Settled>>) {
        let on_busy = match (spec.on_busy, self.on_busy) {
            (OnBusy::RunAgainIfChanged, _) => OnBusy::RunAgainIfChanged,
            (_, BusyDescription::Skip) => OnBusy::Skip,
            (_, BusyDescription::Rerun) => OnBusy::Rerun,
            (_, BusyDescription::Restart) => OnBusy::Restart,
        };
        let (settle, settled) = self.settle.map(SettleDescription::read).unzip();
        let spec = SchedulerSpec {
            on_busy,
            settle,
            timeout: self.timeout.map(seconds),
            retry: self.retry.map(RetryDescription::read),
            persist: self.persist,
            on_failure: self.on_failure,
            max_delay: self.max_delay.map(seconds),
            batch: self.batch.map(BatchDescription::read),
            max_rate: self.max_rate.map(|(starts, span)| Rate { starts, span: seconds(span) }),
            ..spec
        };
        (spec, settled)
    }
}

impl BatchDescription {
    fn read(self) -> Batch {
        let BatchDescription { quiet, max_wait, max_files } = self;
        Batch { quiet: seconds(quiet), max_wait: seconds(max_wait), max_files }
    }
}

impl SettleDescription {
    fn read(self) -> (Settle, Arc<Settled>) {
        let SettleDescription { no_writer, stable, min_size, marker, give_up, check } = self;
        let check = seconds(check);
        let marker = marker.map(|marker| Marker(marker.0));
        let stable = seconds(stable);
        let settled = Settled { no_writer, stable, min_size, marker, check };
        let anew = stable.saturating_add(check.saturating_mul(2));
        (Settle { check, give_up: seconds(give_up), anew }, Arc::new(settled))
    }
}

impl RetryDescription {
    fn read(self) -> Retry {
        let RetryDescription { times, delay, factor, max_delay, jitter, on } = self;
        let on = on.map(|RetryOnDescription { errors, statuses, timeout, signal }| RetryOn {
            errors,
            statuses,
            timeout,
            signal,
        });
        Retry { times, delay: seconds(delay), factor, max_delay: seconds(max_delay), jitter, on }
    }
}
