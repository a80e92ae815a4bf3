//! What all threads share.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use arc_swap::ArcSwap;
use common::ring::RoundRobin;
use tokio::sync::Notify;
use update_log::UpdateLog;

use crate::config::LiveConfig;
use crate::metrics::Metrics;
use crate::nodes::Nodes;
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
    /// Counters.
    pub metrics: Metrics,
    /// Where the API is reached, without a trailing slash.
    pub api_url: String,
    /// Ends the worker threads.
    pub end: Arc<Notify>,
}

/// Counts the memory that bodies take, all requests together.
#[derive(Debug, Default)]
pub struct Buffer(AtomicU64);

/// A part of the [`Buffer`], given back when dropped.
pub struct Reserved<'a> {
    buffer: &'a Buffer,
    bytes: u64,
}

impl Buffer {
    /// Takes nothing yet.
    pub fn reserve(&self) -> Reserved<'_> {
        Reserved { buffer: self, bytes: 0 }
    }

    /// Bytes in use.
    pub fn used(&self) -> u64 {
        self.0.load(Relaxed)
    }
}

impl Reserved<'_> {
    /// Takes `bytes` more; false, and nothing is taken, when that would exceed `limit`.
    #[must_use]
    pub fn grow(&mut self, bytes: u64, limit: u64) -> bool {
        let before = self.buffer.0.fetch_add(bytes, Relaxed);
        if before.saturating_add(bytes) > limit {
            self.buffer.0.fetch_sub(bytes, Relaxed);
            return false;
        }
        self.bytes += bytes;
        true
    }
}

impl Drop for Reserved<'_> {
    fn drop(&mut self) {
        self.buffer.0.fetch_sub(self.bytes, Relaxed);
    }
}
