//! What `/readyz` is told, looked at once a second.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;

use daemon::readiness::{ConditionHandle, Readiness};
use update_log::AppendError;

use crate::nodes::Change;
use crate::shared::Shared;

const EVERY: Duration = Duration::from_secs(1);
const LOOK_AT_LOG: Duration = Duration::from_millis(100);
const LOOK_AT_DRAINS: Duration = Duration::from_millis(200);

/// Whether the update log could be written when it was last tried.
#[derive(Debug)]
pub struct LogHealth(AtomicBool);

impl Default for LogHealth {
    fn default() -> Self {
        Self(AtomicBool::new(true))
    }
}

impl LogHealth {
    /// Notes how an append went.
    pub fn note(&self, written: bool) {
        if self.0.load(Relaxed) != written {
            self.0.store(written, Relaxed);
        }
    }

    /// How the last append went.
    pub fn is_good(&self) -> bool {
        self.0.load(Relaxed)
    }
}

/// Keeps the conditions current: no writable log means that another instance would do better, no usable
/// node does not.
pub async fn keep_ready(shared: Arc<Shared>, readiness: Readiness) {
    let log = readiness.condition("update-log", true);
    let nodes = readiness.condition("nodes", false);
    loop {
        watch_log(&shared, &log).await;
        watch_nodes(&shared, &nodes);
        tokio::time::sleep(EVERY).await;
    }
}

/// Takes note of how full the log is.
pub async fn watch_pressure(shared: Arc<Shared>, limit: u64) {
    loop {
        shared.pressure.note(shared.log.usage().pending_bytes, limit);
        tokio::time::sleep(LOOK_AT_LOG).await;
    }
}

/// Sets nodes to maintenance when they have been drained.
pub async fn finish_drains(shared: Arc<Shared>) {
    loop {
        for id in shared.nodes.drained().await {
            let rest = |nodes: &[common::node::Node]| {
                let mut nodes = nodes.to_vec();
                nodes.iter_mut().filter(|node| node.id == id).for_each(|node| node.maintenance = true);
                Ok::<_, std::convert::Infallible>(Change { nodes, ..Change::default() })
            };
            match shared.nodes.change(rest).await {
                Ok(_) => tracing::info!(node = %id, "the node is drained and in maintenance"),
                Err(error) => {
                    tracing::error!(node = %id, %error, "the node is drained and cannot be set to maintenance; trying again")
                }
            }
        }
        tokio::time::sleep(LOOK_AT_DRAINS).await;
    }
}

/// Without traffic nothing would show that the disk is back, and without readiness there is no traffic:
/// so a failing log is asked whether it would take a body.
async fn watch_log(shared: &Shared, condition: &ConditionHandle) {
    if shared.log_health.is_good() {
        condition.set(true, "the last update was written");
        return;
    }
    match shared.log.spool().await.map(drop) {
        Err(AppendError::Log(error)) => condition.set(false, format!("updates cannot be written: {error}")),
        Ok(()) | Err(_) => {
            shared.log_health.note(true);
            condition.set(true, "the disk takes updates again");
        }
    }
}

fn watch_nodes(shared: &Shared, condition: &ConditionHandle) {
    let table = shared.nodes.table();
    let unusable: Vec<&str> = table
        .entries()
        .iter()
        .filter(|entry| !entry.serves_reads())
        .map(|entry| entry.node.id.as_str())
        .collect();
    match table.entries().len() {
        0 => condition.set(false, "no node is configured"),
        all if unusable.len() == all => {
            condition.set(false, "no node is active, out of maintenance and healthy")
        }
        all => {
            let without = if unusable.is_empty() {
                String::new()
            } else {
                format!(", without {}", unusable.join(", "))
            };
            let parked: Vec<&str> =
                table.entries().iter().filter(|e| e.live.is_parked()).map(|e| e.node.id.as_str()).collect();
            let parked = match parked.as_slice() {
                [] => String::new(),
                ids => format!("; parked until a sync or a discard: {}", ids.join(", ")),
            };
            condition.set(true, format!("{} of {all} usable{without}{parked}", all - unusable.len()));
        }
    }
}
