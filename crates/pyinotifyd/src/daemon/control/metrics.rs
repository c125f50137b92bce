//! What Prometheus reads. Labels are bounded by the configuration.

use std::time::Instant;

use control::metrics::{Family, Histogram, Kind, Sample, Value};

use super::answers::Standing;
use crate::daemon::Daemon;
use crate::daemon::observe::{End, Tally};

type Labels = Vec<(&'static str, String)>;

/// Builds families one by one.
#[derive(Default)]
struct Families(Vec<Family>);

impl Families {
    fn add(&mut self, name: &'static str, kind: Kind, help: &'static str, samples: Vec<Sample>) {
        self.0.push(Family { name, help, kind, samples });
    }

    fn gauge(&mut self, name: &'static str, help: &'static str, value: f64) {
        self.add(name, Kind::Gauge, help, vec![number(Vec::new(), value)]);
    }

    fn counter(&mut self, name: &'static str, help: &'static str, value: u64) {
        self.add(name, Kind::Counter, help, vec![number(Vec::new(), value as f64)]);
    }
}

fn number(labels: Labels, value: f64) -> Sample {
    Sample { labels, value: Value::Number(value) }
}

fn label(name: &'static str, value: &str) -> (&'static str, String) {
    (name, value.to_owned())
}

impl Daemon {
    /// All metrics as they are now.
    pub(super) fn families(&self, now: Instant) -> Vec<Family> {
        let mut all = Families::default();
        self.process_families(&mut all);
        self.event_families(&mut all, now);
        self.watch_families(&mut all);
        self.task_families(&mut all);
        self.config_families(&mut all);
        all.0
    }

    fn process_families(&self, all: &mut Families) {
        let version = vec![label("version", env!("CARGO_PKG_VERSION"))];
        all.add("pyinotifyd_build_info", Kind::Info, "The program.", vec![number(version, 1.0)]);
        all.gauge(
            "pyinotifyd_start_time_seconds",
            "When the daemon was started, in seconds since 1970.",
            self.since.0,
        );
        let ready = if self.health().is_none() { 1.0 } else { 0.0 };
        all.gauge("pyinotifyd_ready", "1 while the daemon works as it should, as /healthz says it.", ready);
        let dropped = self.core.performer.log.lines_dropped();
        let help = "Log lines that were dropped, since nobody read them.";
        all.counter("pyinotifyd_log_lines_dropped_total", help, dropped);
        let restarts = self.core.performer.observed.counts.host_restarts;
        let help = "How often the Python process of the jobs was started again.";
        all.counter("pyinotifyd_host_restarts_total", help, restarts);
    }

    fn event_families(&self, all: &mut Families, now: Instant) {
        let counts = &self.core.performer.observed.counts;
        let events = counts.events_by_name();
        let events = events.map(|(name, count)| number(vec![label("event", name)], count as f64)).collect();
        let help = "Events that were told to watches, synthetic ones included.";
        all.add("pyinotifyd_events_total", Kind::Counter, help, events);
        let help = "Events that the daemon made up for what it found, or was sent by an operator.";
        all.counter("pyinotifyd_synthetic_events_total", help, counts.synthetic);
        let overflows = self.watcher.stats().overflows;
        all.counter("pyinotifyd_overflows_total", "Overflows of the kernel's queue.", overflows);
        all.counter("pyinotifyd_excluded_total", "Events that exclude filters dropped.", counts.excluded);
        let lag = self.watcher.lag(now).as_secs_f64();
        let help = "How long the oldest event waits that was not read yet, at most.";
        all.gauge("pyinotifyd_event_lag_seconds", help, lag);
    }

    fn watch_families(&self, all: &mut Families) {
        let newest = self.in_force();
        let watches = newest.map_or(&[][..], |newest| &newest.watches);
        let backend = vec![number(vec![label("backend", "inotify")], watches.len() as f64)];
        all.add("pyinotifyd_watches", Kind::Gauge, "Watches of the configuration.", backend);
        let kernel = self.watcher.stats().watches;
        all.gauge(
            "pyinotifyd_kernel_watches",
            "Watches that the kernel holds, one a directory.",
            kernel as f64,
        );
        let states = watches.iter().flat_map(|watch| self.watcher.watch_state(watch.id).roots);
        let roots: Vec<Standing> = states.map(|(_, root)| Standing::of(root)).collect();
        let samples = Standing::ALL.map(|standing| {
            let count = roots.iter().filter(|root| **root == standing).count();
            number(vec![label("state", standing.name())], count as f64)
        });
        let help = "Paths of watches by how they stand.";
        all.add("pyinotifyd_watch_roots", Kind::Gauge, help, samples.into());
    }

    fn task_families(&self, all: &mut Families) {
        let views = self.scheduler_views();
        let counts = &self.core.performer.observed.counts;
        let tasks = views.iter().flat_map(|view| {
            let states = [
                ("waiting", view.waiting),
                ("queued", view.queued),
                ("running", view.running),
                ("retrying", view.retrying),
            ];
            states.map(|(state, count)| {
                number(vec![label("scheduler", &view.name), label("state", state)], count as f64)
            })
        });
        all.add("pyinotifyd_tasks", Kind::Gauge, "Tasks that have not ended.", tasks.collect());
        let tallies: Vec<(&str, Tally)> =
            views.iter().map(|view| (view.name.as_str(), counts.tally(&view.name))).collect();
        let names = views.iter().map(|view| view.name.as_str()).collect();
        let gone = counts.failed_besides(&names);
        let all_tallies = tallies.iter().map(|(name, tally)| (*name, tally)).chain(gone);
        let ends = all_tallies.flat_map(|(name, tally)| {
            End::ALL.map(|end| {
                let labels = vec![label("scheduler", name), label("result", end.name())];
                number(labels, tally.ends(end) as f64)
            })
        });
        let help = "Tasks that have ended; failures also of schedulers that are gone.";
        all.add("pyinotifyd_task_ends_total", Kind::Counter, help, ends.collect());
        let attempts =
            tallies.iter().map(|(name, tally)| number(vec![label("scheduler", name)], tally.attempts as f64));
        let help = "Runs of tasks that were started.";
        all.add("pyinotifyd_task_attempts_total", Kind::Counter, help, attempts.collect());
        let histogram = |of: fn(&Tally) -> &Histogram| {
            let sample = |(name, tally): &(&str, Tally)| Sample {
                labels: vec![label("scheduler", name)],
                value: Value::Histogram(of(tally).clone()),
            };
            tallies.iter().map(sample).collect::<Vec<_>>()
        };
        let help = "How long runs of tasks took.";
        all.add(
            "pyinotifyd_task_duration_seconds",
            Kind::Histogram,
            help,
            histogram(|tally| &tally.duration),
        );
        let help = "How long tasks were due when they were started.";
        all.add("pyinotifyd_task_delay_seconds", Kind::Histogram, help, histogram(|tally| &tally.delay));
        let bytes = tallies.iter().flat_map(|(name, tally)| {
            tally.bytes.iter().map(|(action, bytes)| {
                number(vec![label("scheduler", name), label("action", action)], *bytes as f64)
            })
        });
        let help = "Bytes of content that file rules copied; a rename copies none.";
        all.add("pyinotifyd_files_bytes_total", Kind::Counter, help, bytes.collect());
    }

    fn config_families(&self, all: &mut Families) {
        let [ok, failed] = self.core.performer.observed.counts.reloads;
        let reloads = [("ok", ok), ("failed", failed)]
            .map(|(result, count)| number(vec![label("result", result)], count as f64));
        let help = "Reloads of the configuration.";
        all.add("pyinotifyd_config_reloads_total", Kind::Counter, help, reloads.into());
        let loaded = self.in_force().map_or(0.0, |newest| newest.loaded);
        let help = "When the configuration in force was loaded, in seconds since 1970.";
        all.gauge("pyinotifyd_config_last_reload_success_timestamp_seconds", help, loaded);
        let succeeded = if self.control.refused.is_none() { 1.0 } else { 0.0 };
        let help = "1 unless the latest reload was refused.";
        all.gauge("pyinotifyd_config_last_reload_successful", help, succeeded);
        let keeper = self.core.performer.keeper.as_ref();
        let degraded = if keeper.is_some_and(|keeper| keeper.trouble().is_some()) { 1.0 } else { 0.0 };
        all.gauge("pyinotifyd_state_degraded", "1 while the state cannot be written.", degraded);
        let commits = keeper.map(|keeper| Value::Histogram(keeper.took.clone()));
        let commits = commits.map(|value| Sample { labels: Vec::new(), value }).into_iter().collect();
        let help = "How long transactions of the state took, fsync(2) included.";
        all.add("pyinotifyd_state_commit_seconds", Kind::Histogram, help, commits);
    }
}
