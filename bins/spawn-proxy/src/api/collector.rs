//! Nodes, queues and the log for Prometheus, read at each scrape.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, SystemTime};

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use update_log::{Queue, Usage};

use super::views::oldest_seconds;
use crate::nodes::live::ByKind;
use crate::nodes::table::Entry;
use crate::shared::Shared;

/// Shows nodes, queues, the log and the memory for bodies.
pub fn collector(shared: Arc<Shared>) -> impl Collector {
    Observer(shared)
}

struct Observer(Arc<Shared>);

impl fmt::Debug for Observer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Observer").finish_non_exhaustive()
    }
}

impl Collector for Observer {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let shared = &self.0;
        let table = shared.nodes.table();
        let row = |entry: &Entry| Row { entry: entry.clone(), queue: shared.log.queue(&entry.node.id) };
        let rows: Vec<Row> = table.entries().iter().map(row).collect();
        let now_ms = unix_ms(SystemTime::now());
        nodes(&mut encoder, &rows)?;
        queues(&mut encoder, &rows, now_ms)?;
        log(&mut encoder, &shared.log.usage())?;
        single(&mut encoder, "buffer_bytes", "Memory that bodies of requests take", shared.buffer.used())
    }
}

/// A time for display.
pub(super) fn unix_ms(now: SystemTime) -> u64 {
    let since = now.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

struct Row {
    entry: Entry,
    queue: Option<Queue>,
}

/// A gauge with a value for each node that has one.
fn per_node(
    encoder: &mut DescriptorEncoder<'_>,
    (name, help): (&str, &str),
    rows: &[Row],
    value: impl Fn(&Row) -> Option<f64>,
) -> fmt::Result {
    let mut metric = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
    for row in rows {
        if let Some(value) = value(row) {
            let labels = [("node", row.entry.node.id.as_str())];
            ConstGauge::new(value).encode(metric.encode_family(&labels)?)?;
        }
    }
    Ok(())
}

fn nodes(encoder: &mut DescriptorEncoder<'_>, rows: &[Row]) -> fmt::Result {
    let flag = |on: bool| Some(f64::from(u8::from(on)));
    // Nobody checks an inactive node: whether it is up is not known.
    let up = |row: &Row| row.entry.node.active.then(|| f64::from(u8::from(row.entry.live.is_healthy())));
    per_node(encoder, ("node_up", "Whether an active node passed its last check and answers"), rows, up)?;
    per_node(encoder, ("node_active", "Whether the node takes part"), rows, |row| {
        flag(row.entry.node.active)
    })?;
    per_node(encoder, ("node_maintenance", "Whether the node rests"), rows, |row| {
        flag(row.entry.node.maintenance)
    })?;
    per_node(encoder, ("node_draining", "Whether the node is being drained"), rows, |row| {
        flag(row.entry.draining)
    })?;
    let lag = |row: &Row| {
        let known = row.entry.node.active && row.entry.live.is_placed();
        known.then(|| row.entry.live.lag()).filter(|lag| *lag != Duration::MAX).map(|lag| lag.as_secs_f64())
    };
    per_node(encoder, ("node_lag_seconds", "How far the node is behind, as reads are routed by"), rows, lag)?;
    let help =
        "Answers (success) and failed requests by node and kind: get is reads, set is POST, PUT and PATCH";
    let mut metric = encoder.encode_descriptor("node_requests", help, None, MetricType::Counter)?;
    for row in rows {
        let live = &row.entry.live;
        for (result, kinds) in [("success", &live.success), ("failure", &live.failure)] {
            for (kind, count) in by_kind(kinds) {
                let labels = [("node", row.entry.node.id.as_str()), ("kind", kind), ("result", result)];
                ConstCounter::new(count).encode(metric.encode_family(&labels)?)?;
            }
        }
    }
    Ok(())
}

fn by_kind(kinds: &ByKind) -> [(&'static str, u64); 3] {
    [
        ("get", kinds.get.load(Relaxed)),
        ("set", kinds.set.load(Relaxed)),
        ("delete", kinds.delete.load(Relaxed)),
    ]
}

#[expect(clippy::cast_precision_loss, reason = "what Prometheus stores is a float anyway")]
fn queues(encoder: &mut DescriptorEncoder<'_>, rows: &[Row], now_ms: u64) -> fmt::Result {
    let pending = |row: &Row| row.queue.as_ref().map(|queue| queue.pending as f64);
    per_node(encoder, ("queue_pending_updates", "Updates that wait for the node"), rows, pending)?;
    let bytes = |row: &Row| row.queue.as_ref().map(|queue| queue.bytes as f64);
    per_node(encoder, ("queue_pending_bytes", "Size of the updates that wait for the node"), rows, bytes)?;
    let oldest = |row: &Row| row.queue.as_ref().map(|queue| oldest_seconds(queue, now_ms));
    per_node(
        encoder,
        ("queue_oldest_seconds", "Age of the oldest update that waits for the node"),
        rows,
        oldest,
    )?;
    let waiting = |row: &Row| row.queue.as_ref().map(|_| f64::from(u8::from(row.entry.live.is_waiting())));
    let parked = |row: &Row| row.queue.as_ref().map(|_| f64::from(u8::from(row.entry.live.is_parked())));
    per_node(
        encoder,
        ("queue_parked", "Whether nothing is kept for the node until it is brought level"),
        rows,
        parked,
    )?;
    per_node(encoder, ("queue_waiting", "Whether the queue waits for the node to be well"), rows, waiting)
}

fn log(encoder: &mut DescriptorEncoder<'_>, usage: &Usage) -> fmt::Result {
    single(
        encoder,
        "log_pending_bytes",
        "Bytes of the log that a node still needs, each counted once",
        usage.pending_bytes,
    )?;
    single(encoder, "log_disk_bytes", "Bytes of the log on disk", usage.disk_bytes)?;
    single(encoder, "log_segments", "Files that hold updates", usage.segments)?;
    single(encoder, "log_keys", "Idempotency keys remembered", usage.keys)?;
    single(
        encoder,
        "log_dead_letters",
        "Updates that were given up on a node and are kept",
        usage.dead_letters,
    )?;
    let counters = [
        ("log_appends", "Updates appended", usage.appends),
        ("log_commits", "Commits made durable, one for many appends", usage.commits),
        (
            "divergences",
            "First answers that differed from another node's to the same update",
            usage.divergences,
        ),
        ("log_refused", "Appends refused because the log was full or the disk failed", usage.refused),
    ];
    for (name, help, count) in counters {
        ConstCounter::new(count).encode(encoder.encode_descriptor(
            name,
            help,
            None,
            MetricType::Counter,
        )?)?;
    }
    Ok(())
}

fn single(encoder: &mut DescriptorEncoder<'_>, name: &str, help: &str, value: u64) -> fmt::Result {
    ConstGauge::new(value).encode(encoder.encode_descriptor(name, help, None, MetricType::Gauge)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nodes::live::{Kind, Live};
    use common::node::{Node, Priority};
    use common::queue::{Cursor, Sequence};
    use prometheus_client::registry::Registry;

    #[derive(Debug)]
    struct Fixed;

    impl Collector for Fixed {
        fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
            let row = |port: u16, active| {
                let node = Node {
                    id: format!("h:{port}").parse().unwrap(),
                    priority: Priority(0),
                    active,
                    maintenance: false,
                };
                let live = Live::new(node.id.clone(), std::time::Instant::now());
                live.answered(Kind::Get, http::StatusCode::OK);
                let queue = Queue {
                    cursor: Cursor::new(Sequence(1)),
                    pending: 2,
                    deletes: 0,
                    bytes: 9,
                    oldest_ms: Some(1_000),
                };
                Row {
                    entry: Entry { node, live: Arc::new(live), draining: false },
                    queue: active.then_some(queue),
                }
            };
            let rows = [row(1, true), row(2, false)];
            nodes(&mut encoder, &rows)?;
            queues(&mut encoder, &rows, 2_500)?;
            log(&mut encoder, &Usage { commits: 3, ..Usage::default() })
        }
    }

    #[test]
    fn names_carry_units_and_inactive_nodes_have_no_queue() {
        let mut registry = Registry::with_prefix("spawn_proxy");
        registry.register_collector(Box::new(Fixed));
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();
        for line in [
            "spawn_proxy_node_up{node=\"h:1\"} 1.0",
            "spawn_proxy_node_active{node=\"h:2\"} 0.0",
            "spawn_proxy_node_requests_total{node=\"h:1\",kind=\"get\",result=\"success\"} 1",
            "spawn_proxy_queue_pending_updates{node=\"h:1\"} 2.0",
            "spawn_proxy_queue_pending_bytes{node=\"h:1\"} 9.0",
            "spawn_proxy_queue_oldest_seconds{node=\"h:1\"} 1.5",
            "spawn_proxy_log_commits_total 3",
        ] {
            assert!(text.lines().any(|have| have == line), "{line} in {text}");
        }
        assert!(
            !text.contains("node_up{node=\"h:2\"}") && !text.contains("queue_pending_updates{node=\"h:2\"}")
        );
        // Not known yet where the node stands.
        assert!(!text.contains("node_lag_seconds{"));
    }
}
