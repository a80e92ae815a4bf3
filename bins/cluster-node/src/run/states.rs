//! How the cluster stands, as JSON and for Prometheus.

use std::fmt;
use std::sync::Arc;

use cluster::{Manager, NodeStatus, Snapshot, Status};
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use serde_json::{Map, Value, json};

use crate::event::time;
use crate::ring::Ring;
use crate::tunables::Tunables;

/// What `GET /api/v1/cluster/NAME` has for data.
pub fn cluster(manager: &Manager) -> Value {
    let nodes: Map<String, Value> =
        manager.status().iter().map(|node| (node.name.to_string(), brief(node))).collect();
    json!({ "quorum": manager.quorum(), "nodes": nodes })
}

/// `lag` is in nanoseconds, as the original has it.
fn brief(node: &NodeStatus) -> Value {
    json!({
        "name": &*node.name,
        "addr": node.addr,
        "status": node.status.to_string(),
        "error": node.error,
        "jointime": node.jointime.map(time),
        "lag": node.lag.map(|lag| u64::try_from(lag.as_nanos()).unwrap_or(u64::MAX)),
        "packets": node.packets,
    })
}

/// What `POST .../statedump` has for data: everything.
pub fn dump(manager: &Manager, tunables: &Tunables, ring: &Ring) -> Value {
    let nodes: Map<String, Value> = manager
        .status()
        .iter()
        .map(|node| {
            let mut all = brief(node);
            for (key, value) in [
                ("queue", json!(node.queue)),
                ("queue_bytes", json!(node.queue_bytes)),
                ("resent", json!(node.resent)),
                ("refused", json!(node.refused)),
                ("undelivered", json!(node.undelivered)),
                ("missed", json!(node.missed)),
                ("stalled", json!(node.stalled)),
                ("admin_down", json!(node.admin_down)),
            ] {
                all[key] = value;
            }
            (node.name.to_string(), all)
        })
        .collect();
    let Snapshot { sent, received, refused, undelivered, missed, resent, joins, leaves, denied } =
        manager.counters();
    let (events, bytes, newest) = ring.usage();
    json!({
        "name": manager.name(),
        "version": env!("CARGO_PKG_VERSION"),
        "time": time(std::time::SystemTime::now()),
        "quorum": manager.quorum(),
        "nodes": nodes,
        "settings": tunables.to_json(),
        "totals": {
            "sent": sent, "received": received, "refused": refused, "undelivered": undelivered,
            "missed": missed, "resent": resent, "joins": joins, "leaves": leaves, "denied": denied,
        },
        "ring": { "events": events, "bytes": bytes, "newest": newest },
    })
}

/// What `/readyz` says of the quorum.
pub fn quorum_detail(manager: &Manager) -> String {
    let status = manager.status();
    let online = status.iter().filter(|node| node.status == Status::Online).count();
    let of = manager.settings().expect.unwrap_or(status.len() + 1);
    let word = if manager.quorum() { "quorum" } else { "no quorum" };
    let away: Vec<&str> =
        status.iter().filter(|node| node.status != Status::Online).map(|node| &*node.name).collect();
    let away = if away.is_empty() { String::new() } else { format!("; not online: {}", away.join(", ")) };
    format!("{word}: {} of {of} nodes{away}", online + 1)
}

/// Shows the cluster to Prometheus, read at each scrape.
#[derive(Debug)]
pub struct Observer(pub Arc<Manager>);

impl Collector for Observer {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let manager = &self.0;
        let nodes = manager.status();
        gauge(&mut encoder, "quorum", "Whether there is a quorum", manager.quorum())?;
        let totals = manager.counters();
        for (name, help, value) in [
            ("sent", "Messages taken from callers and applications", totals.sent),
            ("received", "Messages handed to callers and applications", totals.received),
            ("joins", "Peers that joined", totals.joins),
            ("leaves", "Peers that left", totals.leaves),
            ("denied", "Connections refused because of their key", totals.denied),
        ] {
            let counter = ConstCounter::new(value);
            counter.encode(encoder.encode_descriptor(name, help, None, counter.metric_type())?)?;
        }
        gauges(&mut encoder, &nodes)?;
        counters(&mut encoder, &nodes)?;
        let mut metric =
            encoder.encode_descriptor("peer_state", "The state of each peer", None, MetricType::Gauge)?;
        for node in &nodes {
            let labels = [("peer", node.name.to_string()), ("state", node.status.to_string())];
            ConstGauge::new(1_i64).encode(metric.encode_family(&labels)?)?;
        }
        Ok(())
    }
}

fn gauge(encoder: &mut DescriptorEncoder<'_>, name: &str, help: &str, on: bool) -> fmt::Result {
    let gauge = ConstGauge::new(i64::from(on));
    gauge.encode(encoder.encode_descriptor(name, help, None, gauge.metric_type())?)
}

#[expect(clippy::cast_precision_loss, reason = "what Prometheus stores is a float anyway")]
fn gauges(encoder: &mut DescriptorEncoder<'_>, nodes: &[NodeStatus]) -> fmt::Result {
    type Of = fn(&NodeStatus) -> Option<f64>;
    let all: [(&str, &str, Of); 5] = [
        ("peer_up", "Whether the peer is online", |node| {
            Some(f64::from(u8::from(node.status == Status::Online)))
        }),
        ("peer_lag_seconds", "Half the time of the last ping and its answer", |node| {
            node.lag.map(|lag| lag.as_secs_f64())
        }),
        ("peer_queue_messages", "Messages for the peer that it has not acknowledged", |node| {
            Some(node.queue as f64)
        }),
        ("peer_queue_bytes", "Their bytes, with 64 for each", |node| Some(node.queue_bytes as f64)),
        ("peer_stalled", "Whether the peer has stopped acknowledging and is not waited for", |node| {
            Some(f64::from(u8::from(node.stalled)))
        }),
    ];
    for (name, help, of) in all {
        let mut metric = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
        for (node, value) in nodes.iter().filter_map(|node| Some((node, of(node)?))) {
            ConstGauge::new(value).encode(metric.encode_family(&[("peer", node.name.to_string())])?)?;
        }
    }
    Ok(())
}

fn counters(encoder: &mut DescriptorEncoder<'_>, nodes: &[NodeStatus]) -> fmt::Result {
    type Of = fn(&NodeStatus) -> u64;
    let all: [(&str, &str, Of); 5] = [
        ("peer_packets", "Messages that came from the peer", |node| node.packets),
        ("peer_resent", "Messages sent to the peer again after a link was lost", |node| node.resent),
        ("peer_refused", "Times that the peer's full window held a sender up", |node| node.refused),
        ("peer_undelivered", "Messages of ours that the peer will not get", |node| node.undelivered),
        ("peer_missed", "Messages of the peer that did not come", |node| node.missed),
    ];
    for (name, help, of) in all {
        let mut metric = encoder.encode_descriptor(name, help, None, MetricType::Counter)?;
        for node in nodes {
            ConstCounter::new(of(node)).encode(metric.encode_family(&[("peer", node.name.to_string())])?)?;
        }
    }
    Ok(())
}
