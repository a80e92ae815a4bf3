//! What all threads share.

use std::sync::Arc;

use arc_swap::ArcSwap;
use common::ring::RoundRobin;
use daemon::http::Buffer;
use tokio::sync::Notify;
use update_log::UpdateLog;

use crate::config::LiveConfig;
use crate::metrics::Metrics;
use crate::nodes::Nodes;
use crate::nodes::full::Pressure;
use crate::proxy::least::Advances;
use crate::watchers::LogHealth;

/// What all threads share.
pub struct Shared {
    /// What a reload changes.
    pub config: ArcSwap<LiveConfig>,
    /// The nodes.
    pub nodes: Nodes,
    /// Whose turn it is.
    pub ring: RoundRobin,
    /// The update log, whichever engine keeps it.
    pub log: Arc<dyn UpdateLog>,
    /// Whether the log can be written.
    pub log_health: LogHealth,
    /// Memory for bodies.
    pub buffer: Buffer,
    /// How full the log is.
    pub pressure: Pressure,
    /// Wakes reads that wait for a node to come further.
    pub advances: Advances,
    /// Counters.
    pub metrics: Metrics,
    /// Where the API is reached, without a trailing slash.
    pub api_url: String,
    /// Ends the worker threads.
    pub end: Arc<Notify>,
}
