//! The registry of a daemon's metrics, with those of the process and of reloads.
use std::fmt;
use std::sync::atomic::AtomicI64;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::{ConstGauge, Gauge};
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::Registry;

use crate::readiness::{ConditionHandle, Readiness};
use crate::settings::Program;

/// The registry that `/metrics` shows. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Metrics {
    registry: Arc<Mutex<Registry>>,
}

impl Metrics {
    /// A registry with the metrics of the process and the build.
    pub fn new(program: &Program) -> Self {
        let mut registry = Registry::default();
        let labels = vec![("name", program.name), ("version", program.version)];
        registry.register("build", "Name and version of the daemon", Info::new(labels));
        registry.register_collector(Box::new(Process::new()));
        Self { registry: Arc::new(Mutex::new(registry)) }
    }

    /// Adds a daemon's own metrics.
    pub fn register(&self, add: impl FnOnce(&mut Registry)) {
        add(&mut self.registry.lock().unwrap_or_else(PoisonError::into_inner));
    }

    /// The text form that Prometheus reads.
    pub fn encode(&self) -> Result<String, fmt::Error> {
        let mut text = String::new();
        let registry = self.registry.lock().unwrap_or_else(PoisonError::into_inner);
        prometheus_client::encoding::text::encode(&mut text, &registry)?;
        Ok(text)
    }
}

/// How reloads went: as metrics, and as a condition of readiness that never blocks.
#[derive(Debug, Clone)]
pub struct ReloadState {
    last_ok: Gauge<i64, AtomicI64>,
    reloads: Counter,
    failures: Counter,
    condition: ConditionHandle,
}

impl ReloadState {
    /// Registers the metrics and the condition.
    pub fn new(metrics: &Metrics, readiness: &Readiness) -> Self {
        let state = Self {
            last_ok: Gauge::default(),
            reloads: Counter::default(),
            failures: Counter::default(),
            condition: readiness.condition("configuration", false),
        };
        state.last_ok.set(1);
        state.condition.set(true, "as loaded at the start");
        metrics.register(|registry| {
            let last_ok = state.last_ok.clone();
            registry.register("config_last_reload_ok", "Whether the last reload was applied", last_ok);
            registry.register("config_reloads", "Reloads", state.reloads.clone());
            let failures = state.failures.clone();
            registry.register("config_reload_failures", "Reloads that failed and changed nothing", failures);
        });
        state
    }

    /// Notes a reload that was applied.
    pub fn succeeded(&self) {
        self.reloads.inc();
        self.last_ok.set(1);
        self.condition.set(true, "the last reload was applied");
    }

    /// Notes a reload that changed nothing, and why.
    pub fn failed(&self, why: &str) {
        self.reloads.inc();
        self.failures.inc();
        self.last_ok.set(0);
        self.condition.set(false, format!("the last reload failed, the configuration before it runs: {why}"));
    }
}

/// What the kernel knows of this process, read at each scrape.
#[derive(Debug)]
struct Process {
    started: f64,
}

impl Process {
    fn new() -> Self {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Self { started: now.as_secs_f64() }
    }
}

impl Collector for Process {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let mut put = |name: &str, help: &str, value: f64| {
            let gauge = ConstGauge::new(value);
            gauge.encode(encoder.encode_descriptor(name, help, None, gauge.metric_type())?)
        };
        put("process_start_time_seconds", "Start of the process, in seconds since 1970", self.started)?;
        if let Some(bytes) = resident_bytes() {
            put("process_resident_memory_bytes", "Memory in use", bytes as f64)?;
        }
        if let Some(count) = open_files() {
            put("process_open_fds", "Open file descriptors", count as f64)?;
        }
        if let Some(limit) = rustix::process::getrlimit(rustix::process::Resource::Nofile).current {
            put("process_max_fds", "Most file descriptors that may be open", limit as f64)?;
        }
        if let Some(seconds) = cpu_seconds() {
            put("process_cpu_seconds", "Processor time used, user and system", seconds)?;
        }
        Ok(())
    }
}

fn resident_bytes() -> Option<u64> {
    let statm = std::fs::read_to_string("/proc/self/statm").ok()?;
    let pages: u64 = statm.split_whitespace().nth(1)?.parse().ok()?;
    Some(pages * rustix::param::page_size() as u64)
}

fn open_files() -> Option<usize> {
    // The listing itself holds one open.
    Some(std::fs::read_dir("/proc/self/fd").ok()?.count().saturating_sub(1))
}

fn cpu_seconds() -> Option<f64> {
    let stat = std::fs::read_to_string("/proc/self/stat").ok()?;
    // The name stands in parentheses and may hold spaces: count from behind it.
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace().skip(11);
    let user: f64 = fields.next()?.parse().ok()?;
    let system: f64 = fields.next()?.parse().ok()?;
    Some((user + system) / rustix::param::clock_ticks_per_second() as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shows_process_build_and_reloads() {
        static PROGRAM: Program = Program::new("demo", "", "1.2.3");
        let metrics = Metrics::new(&PROGRAM);
        let readiness = Readiness::new();
        let reloads = ReloadState::new(&metrics, &readiness);
        reloads.failed("demo.toml:3: unknown key 'x'");
        let text = metrics.encode().unwrap();
        for line in [
            "build_info{name=\"demo\",version=\"1.2.3\"} 1",
            "config_last_reload_ok 0",
            "config_reloads_total 1",
            "config_reload_failures_total 1",
        ] {
            assert!(text.contains(line), "{line} in {text}");
        }
        for name in ["process_start_time_seconds", "process_resident_memory_bytes", "process_open_fds"] {
            assert!(text.contains(&format!("\n{name} ")), "{name} in {text}");
        }
        assert!(text.ends_with("# EOF\n"));
        readiness.started();
        let detail = readiness.report().1["conditions"][0]["detail"].to_string();
        assert!(detail.contains("demo.toml:3"), "{detail}");
    }
}
