//! Who is to blame when the log is full.

use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;

use common::node::NodeId;
use tokio::sync::Mutex;

use crate::config::WhenFull;
use crate::shared::Shared;

/// Logs with a smaller bound than this can fill up between two looks.
const SMALL: u64 = 64 << 20;

/// How one node stands.
#[derive(Debug, Clone)]
struct Stand {
    id: NodeId,
    /// What waits for it.
    bytes: u64,
    /// It takes updates as they come.
    flows: bool,
}

/// The node that holds the log up: most waits for it, it does not flow, and another one does that has at most half as
/// much to get. Pure.
fn holds_up(stands: &[Stand]) -> Option<&Stand> {
    let holder =
        stands.iter().filter(|stand| !stand.flows && stand.bytes > 0).max_by_key(|stand| stand.bytes)?;
    stands.iter().any(|other| other.flows && other.bytes <= holder.bytes / 2).then_some(holder)
}

/// Whether the log may be full soon, and the right to do something about it.
#[derive(Debug, Default)]
pub struct Pressure {
    high: AtomicBool,
    alone: Mutex<()>,
}

impl Pressure {
    /// Takes note of how full the log is.
    pub fn note(&self, pending_bytes: u64, limit: u64) {
        self.high.store(limit <= SMALL || pending_bytes > limit / 2, Relaxed);
    }

    /// Whether the log may be full soon.
    pub fn is_high(&self) -> bool {
        self.high.load(Relaxed)
    }
}

/// Makes room for so many bytes by parking who holds the log up. False when there is nobody to park.
pub async fn make_room(shared: &Shared, bytes: u64, limit: u64) -> bool {
    let config = shared.config.load_full();
    if config.updates.when_full != WhenFull::Park {
        return false;
    }
    // One at a time: whoever comes next may find room already.
    let _alone = shared.pressure.alone.lock().await;
    if shared.log.usage().pending_bytes.saturating_add(bytes) <= limit {
        return true;
    }
    let stands = stands(shared, config.max_lag);
    let Some(holder) = holds_up(&stands) else { return false };
    match shared.nodes.park(&holder.id).await {
        Ok(discarded) => {
            tracing::error!(node = %holder.id, discarded, bytes = holder.bytes,
                "the node held the full log up and is parked: it gets neither updates nor reads until it is synced or its queue is discarded");
            true
        }
        Err(error) => {
            tracing::error!(node = %holder.id, %error, "the node holds the full log up and cannot be parked");
            false
        }
    }
}

fn stands(shared: &Shared, max_lag: Duration) -> Vec<Stand> {
    let table = shared.nodes.table();
    let active = table.entries().iter().filter(|entry| entry.node.active && !entry.live.is_parked());
    let stand = |entry: &super::table::Entry| {
        let live = &entry.live;
        let flows =
            !entry.node.maintenance && live.is_healthy() && !live.is_waiting() && live.lag() <= max_lag;
        let bytes = shared.log.queue(&entry.node.id)?.bytes;
        Some(Stand { id: entry.node.id.clone(), bytes, flows })
    };
    active.filter_map(stand).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn blamed(stands: &[(u64, bool)]) -> Option<u16> {
        let stand = |(port, &(bytes, flows)): (u16, &(u64, bool))| Stand {
            id: NodeId::new("h", port).unwrap(),
            bytes,
            flows,
        };
        let stands: Vec<Stand> = (1..).zip(stands).map(stand).collect();
        holds_up(&stands).map(|stand| stand.id.port())
    }

    #[test]
    fn only_who_does_not_flow_while_another_does_is_parked() {
        assert_eq!(blamed(&[(0, true), (100, false), (90, false)]), Some(2));
        assert_eq!(blamed(&[(60, true), (100, false)]), None, "the one that flows has as much to get");
        assert_eq!(blamed(&[(100, true), (100, true)]), None, "a burst");
        assert_eq!(blamed(&[(100, false), (100, false)]), None, "nobody flows");
        assert_eq!(blamed(&[(0, true), (0, false)]), None);
        assert_eq!(blamed(&[]), None);
    }
}
