//! An update as it comes in and as the log keeps it.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use common::queue::Sequence;
use http::{HeaderMap, Method};

use crate::Tracker;
use crate::file::Guard;

/// 128 bits of SHA-256.
pub type Digest = [u8; 16];

/// An update that a client sent, before it has a place in the log.
///
/// It stays in memory for a while: its headers and body must not be views into larger buffers.
pub struct NewUpdate {
    /// The Idempotency-Key that every delivery carries: the client's own or one made for it.
    pub id: Arc<str>,
    /// Set when the id is the client's own, so that its repetition is answered from the log.
    pub key: Option<ClientKey>,
    /// When it was received, in milliseconds since the Unix epoch; for display and retention only.
    pub received_ms: u64,
    /// The method.
    pub method: Method,
    /// Path and query, byte for byte as received.
    pub target: Arc<str>,
    /// The end-to-end headers to deliver.
    pub headers: HeaderMap,
    /// The body.
    pub body: UpdateBody,
}

/// What makes two requests with the same Idempotency-Key the same request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ClientKey {
    /// Of method, target and key.
    pub scope: Digest,
    /// Of the body.
    pub body: Digest,
}

/// A body, wherever it is.
#[derive(Debug, Clone)]
pub enum UpdateBody {
    /// In memory, and inside the log's record.
    Memory(Bytes),
    /// In a file of its own.
    Spooled(SpooledBody),
}

impl UpdateBody {
    /// Its length in bytes.
    pub fn len(&self) -> u64 {
        match self {
            Self::Memory(bytes) => bytes.len() as u64,
            Self::Spooled(spooled) => spooled.len,
        }
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// A body in a file of its own, which the log removes when no node needs it any more.
#[derive(Debug, Clone)]
pub struct SpooledBody {
    /// The file.
    pub path: PathBuf,
    /// Its length in bytes.
    pub len: u64,
    /// CRC-32C of its content.
    pub crc: u32,
    /// Keeps the file for whoever still reads it.
    pub(crate) guard: Option<Arc<Guard>>,
}

/// An update in the log.
pub struct Update {
    /// Its place.
    pub sequence: Sequence,
    /// The Idempotency-Key that every delivery carries.
    pub id: Arc<str>,
    /// Set when the id is the client's own.
    pub key: Option<ClientKey>,
    /// When it was received, in milliseconds since the Unix epoch.
    pub received_ms: u64,
    /// The method.
    pub method: Method,
    /// Path and query as received.
    pub target: Arc<str>,
    /// The end-to-end headers to deliver.
    pub headers: HeaderMap,
    /// The body.
    pub body: UpdateBody,
    /// When this process appended it or heard of it; `None` when it was read back, and so is older.
    pub appended: Option<Instant>,
    /// Follows the answers; present while the update has not left memory since its append.
    pub tracker: Option<Arc<Tracker>>,
}
