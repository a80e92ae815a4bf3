//! Counters of the data path that belong to no single node.

use prometheus_client::metrics::counter::Counter;
use prometheus_client::registry::Registry;

/// Counters of the data path.
#[derive(Debug, Default, Clone)]
pub struct Metrics {
    /// Updates answered by a node's answer.
    pub answered: Counter,
    /// Updates answered 202, for whatever reason.
    pub accepted: Counter,
    /// Updates answered from an earlier one with the same key.
    pub replayed: Counter,
    /// Requests that the proxy refused.
    pub refused: Counter,
    /// Updates that every node refused.
    pub rejected: Counter,
    /// 4xx answers to repeated attempts, which may be the answer to an update already applied.
    pub maybe_duplicates: Counter,
}

impl Metrics {
    /// Makes the counters visible.
    pub fn register(&self, registry: &mut Registry) {
        registry.register("updates_answered", "Updates answered with a node's answer", self.answered.clone());
        registry.register(
            "updates_accepted",
            "Updates answered 202: no answer in time, or ack = queued",
            self.accepted.clone(),
        );
        registry.register(
            "updates_replayed",
            "Updates answered from an earlier one with the same Idempotency-Key",
            self.replayed.clone(),
        );
        registry.register(
            "requests_refused",
            "Requests that the proxy answered itself with an error",
            self.refused.clone(),
        );
        registry.register(
            "updates_rejected",
            "Updates that every node refused with 5xx",
            self.rejected.clone(),
        );
        registry.register(
            "maybe_duplicates",
            "4xx answers to a repeated attempt",
            self.maybe_duplicates.clone(),
        );
    }
}
