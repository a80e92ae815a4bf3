//! Who may deliver to a node, where several processes share a log.

use common::node::NodeId;

/// The leases that this process holds, one for each node that it delivers to.
///
/// The log does not keep leases; it asks for their tokens, and refuses what is written under one that is older than another
/// that it has seen.
pub trait Lease: Send + Sync + 'static {
    /// The fencing token of the lease on deliveries to `node`, while this process holds it: larger than that of any holder
    /// before. Called often; it must not block.
    fn token(&self, node: &NodeId) -> Option<u64>;
}
