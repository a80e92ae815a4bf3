//! The file of services while the daemon runs: read at the start, at SIGHUP and when it changes, and
//! how that went told to `/readyz` and `/metrics`.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64};
use std::time::Instant;

use arc_swap::ArcSwapOption;
use daemon::lifecycle::Lifecycle;
use daemon::readiness::ConditionHandle;
use jiff::Timestamp;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;

use crate::config::Config;
use crate::services::watch::Change;
use crate::services::{Catalog, Keeper, Options, Outcome};

/// The file of services, and who is told of it.
pub struct Loading {
    keeper: Keeper,
    options: Options,
    /// Whether there are services at all: without them another instance does better.
    services: ConditionHandle,
    /// Whether the file as it is now is in force.
    file: ConditionHandle,
    metrics: Metrics,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Label {
    outcome: &'static str,
}

#[derive(Default)]
struct Metrics {
    ok: Gauge<i64, AtomicI64>,
    load: Gauge<i64, AtomicI64>,
    loaded_at: Gauge<f64, AtomicU64>,
    last: Gauge<f64, AtomicU64>,
    reads: Family<Label, Counter>,
}

impl Loading {
    /// Has read nothing yet.
    pub fn new(config: &Config, lifecycle: &Lifecycle) -> Self {
        let metrics = Metrics::default();
        lifecycle.metrics.register(|registry| {
            let registry = registry.sub_registry_with_prefix("keyrouter");
            let help = "Whether the file of services as last read is in force";
            registry.register("services_file_ok", help, metrics.ok.clone());
            registry.register("services_load", "Loads that changed something", metrics.load.clone());
            let help = "When the services in force were loaded, in seconds since 1970";
            registry.register("services_loaded_timestamp_seconds", help, metrics.loaded_at.clone());
            let help =
                "Time that the last read of the file took, in seconds, until it was in force or refused";
            registry.register("services_read_seconds", help, metrics.last.clone());
            registry.register("services_reads", "Reads of the file of services", metrics.reads.clone());
        });
        Self {
            keeper: Keeper::new(&config.services),
            options: config.reading,
            services: lifecycle.readiness.condition("services", true),
            file: lifecycle.readiness.condition("services-file", false),
            metrics,
        }
    }

    /// What reads the file and keeps the services.
    pub fn keeper(&self) -> &Keeper {
        &self.keeper
    }

    /// Where the services in force are.
    pub fn catalog(&self) -> Arc<ArcSwapOption<Catalog>> {
        self.keeper.published()
    }

    /// The largest file that is read, in bytes.
    pub fn max_size(&self) -> u64 {
        self.options.max_size
    }

    /// Reads the file with these options, which count from then on.
    pub fn reload(&mut self, options: Options) {
        self.options = options;
        self.start();
    }

    /// Reads the file. A bad one is no reason to end: a good one may be on its way.
    pub fn start(&mut self) {
        let begun = Instant::now();
        let outcome = self.keeper.reload(&self.options, Timestamp::now());
        self.tell(&outcome, begun);
        self.keeper.log(&outcome);
    }

    /// Takes in what the watcher has read, unless it does not count.
    pub fn take(&mut self, change: Change) {
        let begun = Instant::now();
        let Some(outcome) = self.keeper.take(change, &self.options, Timestamp::now()) else { return };
        self.tell(&outcome, begun);
        self.keeper.log(&outcome);
    }

    fn tell(&self, outcome: &Outcome, begun: Instant) {
        self.metrics.last.set(begun.elapsed().as_secs_f64());
        let label = match outcome {
            Outcome::Applied(_) => "applied",
            Outcome::Unchanged { .. } => "unchanged",
            Outcome::Held => "held",
            Outcome::Failed(_) => "failed",
        };
        self.metrics.reads.get_or_create(&Label { outcome: label }).inc();
        let status = self.keeper.status();
        self.metrics.ok.set(i64::from(status.problem.is_none()));
        self.metrics.load.set(i64::try_from(status.load).unwrap_or(i64::MAX));
        self.metrics.loaded_at.set(status.loaded_at.map_or(0.0, |at| at.as_millisecond() as f64 / 1000.0));
        let path = self.keeper.path().display();
        match &status.problem {
            None => self.file.set(true, format!("{path} is in force")),
            Some(problem) => self.file.set(false, format!("{path} is not in force: {problem}")),
        }
        if status.is_loaded() {
            self.services.set(true, status.to_string());
        } else {
            self.services.set(false, "no good file was read yet");
        }
    }
}
