//! How each node stands.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

/// Where a node stands with us.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Status {
    /// No link.
    #[default]
    Offline,
    /// A link is being made, or stands for less than the join delay.
    Authenticating,
    /// It joined.
    Online,
    /// It said goodbye a moment ago.
    Leaving,
    /// This process is shutting down.
    Stopping,
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Offline => "Offline",
            Self::Authenticating => "Authenticating",
            Self::Online => "Online",
            Self::Leaving => "Leaving",
            Self::Stopping => "Stopping",
        })
    }
}

/// A configured node as it stands now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeStatus {
    /// Its name.
    pub name: Arc<str>,
    /// Its address, as it was configured.
    pub addr: String,
    /// Where it stands.
    pub status: Status,
    /// Why the last attempt or the last link failed; empty when it is online.
    pub error: String,
    /// When it joined, for people; `None` while it is not online.
    pub jointime: Option<SystemTime>,
    /// Half the time of the last ping and its answer.
    pub lag: Option<Duration>,
    /// Messages that came from it.
    pub packets: u64,
    /// Messages that were taken for it and that it has not acknowledged.
    pub queue: usize,
    /// Their bytes, with 64 for each.
    pub queue_bytes: usize,
    /// Messages that were sent again after a link was lost.
    pub resent: u64,
    /// Times that it held a sender up because its window was full.
    pub refused: u64,
    /// Messages of ours that it will not get.
    pub undelivered: u64,
    /// Messages of its that we did not get.
    pub missed: u64,
    /// Whether it has not acknowledged for so long that it holds nobody up any more.
    pub stalled: bool,
    /// Whether it was taken down by hand.
    pub admin_down: bool,
}
