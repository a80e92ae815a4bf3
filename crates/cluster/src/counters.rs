//! What a node counts.

/// Totals since the start of the node; they only grow. Per node, see [`NodeStatus`](crate::NodeStatus).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Snapshot {
    /// Messages taken from this process's application.
    pub sent: u64,
    /// Messages handed to it.
    pub received: u64,
    /// Times that a message was not taken because a peer's window was full.
    pub refused: u64,
    /// Messages, counted per peer, that peers will not get.
    pub undelivered: u64,
    /// Messages of peers that did not come.
    pub missed: u64,
    /// Messages sent again after a link was lost.
    pub resent: u64,
    /// Members that joined.
    pub joins: u64,
    /// Members that left.
    pub leaves: u64,
    /// Connections refused here because of their key.
    pub denied: u64,
}
