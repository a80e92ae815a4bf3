//! What keyrouter counts, and what it says of its services.

use std::fmt;
use std::sync::Arc;

use arc_swap::ArcSwapOption;
use common::ring::Router as _;
use daemon::http::Buffer;
use http::StatusCode;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeLabelSet, EncodeMetric};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::Registry;

use crate::services::Catalog;

/// More services than this are counted and not listed one by one: a scrape stays small.
const LISTED: usize = 1000;

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Status {
    status: u16,
}

/// Counters.
#[derive(Debug, Default, Clone)]
pub struct Metrics {
    /// Lookups that were answered.
    pub lookups: Counter,
    /// Batches that were answered.
    pub batches: Counter,
    /// Their keys.
    pub batch_keys: Counter,
    refused: Family<Status, Counter>,
}

impl Metrics {
    /// Counts a request that was refused.
    pub fn refused(&self, status: StatusCode) {
        self.refused.get_or_create(&Status { status: status.as_u16() }).inc();
    }

    /// Makes the counters visible.
    pub fn register(&self, registry: &mut Registry, catalog: Arc<ArcSwapOption<Catalog>>, buffer: Buffer) {
        registry.register("lookups", "Lookups that were answered", self.lookups.clone());
        registry.register("batches", "Batches that were answered", self.batches.clone());
        registry.register("batch_keys", "Keys of the batches that were answered", self.batch_keys.clone());
        registry.register("requests_refused", "Requests answered with an error", self.refused.clone());
        registry.register_collector(Box::new(State { catalog, buffer }));
    }
}

/// What is served and held, read at each scrape.
#[derive(Debug)]
struct State {
    catalog: Arc<ArcSwapOption<Catalog>>,
    buffer: Buffer,
}

impl Collector for State {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let catalog = self.catalog.load();
        let services = || catalog.iter().flat_map(|catalog| catalog.services());
        let mut put = |name: &str, help: &str, value: f64| {
            let gauge = ConstGauge::new(value);
            gauge.encode(encoder.encode_descriptor(name, help, None, gauge.metric_type())?)
        };
        let held = self.buffer.used();
        put("buffer_bytes", "Memory of bodies and large answers that are under way", held as f64)?;
        put("services", "Services that are served", services().count() as f64)?;
        let nodes: usize = services().map(|service| service.rings.len()).sum();
        put("service_nodes", "Nodes of all services together", nodes as f64)?;
        let bytes: usize = services().map(|service| service.rings.memory()).sum();
        put("rings_bytes", "Memory of all rings", bytes as f64)?;
        let gauge = ConstGauge::new(0.0);
        let mut family =
            encoder.encode_descriptor("nodes", "Nodes of a service", None, gauge.metric_type())?;
        for service in services().take(LISTED) {
            let labels = [("service", &*service.name)];
            ConstGauge::new(service.rings.len() as f64).encode(family.encode_family(&labels)?)?;
        }
        let mut family = encoder.encode_descriptor(
            "generation",
            "Load in which the service last changed",
            None,
            gauge.metric_type(),
        )?;
        for service in services().take(LISTED) {
            let labels = [("service", &*service.name)];
            ConstGauge::new(service.generation as f64).encode(family.encode_family(&labels)?)?;
        }
        Ok(())
    }
}
