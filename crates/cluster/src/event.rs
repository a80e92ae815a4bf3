//! What happens in the cluster, as the application sees it.

use std::sync::Arc;

use bytes::Bytes;

use crate::settings::MESSAGE_COST;

/// Names of nodes.
pub type Names = Arc<[Arc<str>]>;

/// Something that happened. [`Manager::events`](crate::Manager::events) gives all of them in one order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// A message came in.
    Message(Message),
    /// A node joined.
    Join(Arc<str>),
    /// A node left: cleanly, or it died, hangs or cannot be reached.
    Leave(Arc<str>),
    /// Whether there is a quorum: at start and at each change.
    Quorum(bool),
    /// Messages of ours that a node will not get, or of which it is not known whether it got them.
    Undelivered(Undelivered),
    /// A node asks something of this process.
    Api(ApiCall),
    /// A line for people.
    Log(LogLine),
    /// The reader was so slow that so many events that are not messages were left out here.
    Gap(u64),
}

/// A message that came in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// Who sent it, by the key of its link.
    pub node: Arc<str>,
    /// The sender's number of it, the one in its [`Receipt`]. Grows with each message of one run of the sender, by
    /// more than one where others were meant for others.
    pub sequence: u64,
    /// So many messages were meant for us just before this one and are lost; the sender was told.
    pub missed: u64,
    /// Whether it was sent to us alone.
    pub direct: bool,
    /// What the payload is, if the sender said so.
    pub content_type: Option<Arc<str>>,
    /// The bytes.
    pub payload: Bytes,
}

/// Messages that a node will not get.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Undelivered {
    /// The node.
    pub node: Arc<str>,
    /// The first sequence number that it misses.
    pub from: u64,
    /// The last one.
    pub to: u64,
    /// How many messages for it were among these.
    pub count: u64,
}

/// What a node asks of this process: `shutdown`, `reload`, or anything else that was given to
/// [`Manager::admin`](crate::Manager::admin) there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ApiCall {
    /// Who asks.
    pub from: Arc<str>,
    /// What.
    pub action: Arc<str>,
    /// What goes with it.
    pub data: Bytes,
}

/// How much a line matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Level {
    /// For those who look closely.
    Debug,
    /// In the ordinary course of things.
    Info,
    /// Somebody should look.
    Warn,
}

impl Level {
    /// Its name in lower case.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Debug => "debug",
            Self::Info => "info",
            Self::Warn => "warn",
        }
    }
}

/// A line for people.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogLine {
    /// How much it matters.
    pub level: Level,
    /// The sentence.
    pub message: String,
}

/// What is sent: bytes, and what they are.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Payload {
    /// The bytes.
    pub bytes: Bytes,
    /// What they are: at most 255 bytes.
    pub content_type: Option<Arc<str>>,
}

impl Payload {
    /// What it takes of a window.
    pub(crate) fn cost(&self) -> usize {
        self.bytes.len() + self.content_type.as_ref().map_or(0, |text| text.len()) + MESSAGE_COST
    }

    /// The same bytes, said to be this.
    #[must_use]
    pub fn of_type(mut self, content_type: impl Into<Arc<str>>) -> Self {
        self.content_type = Some(content_type.into());
        self
    }
}

impl<B: Into<Bytes>> From<B> for Payload {
    fn from(bytes: B) -> Self {
        Self { bytes: bytes.into(), content_type: None }
    }
}

/// Whom a message is for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Target {
    /// All configured nodes but this one.
    Cluster,
    /// One of them.
    Node(Arc<str>),
}

/// What became of a message that was taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Receipt {
    /// Its number: grows with each message of this process.
    pub sequence: u64,
    /// For these it was taken: they get it, in order, or an `undelivered` event tells that they may not have.
    pub accepted: Names,
    /// These will not get it.
    pub undelivered: Names,
}
