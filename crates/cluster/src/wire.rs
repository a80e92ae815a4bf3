//! The frames between nodes: one ZeroMQ frame each, `docs/design/cluster.md` has the table.

use std::sync::Arc;

use bytes::{Buf, BufMut, Bytes};

use crate::settings::LARGEST_MESSAGE;

/// Of the protocol; another one is refused in words.
pub(crate) const VERSION: u8 = 1;
/// Records are gathered into frames of about this size.
pub(crate) const BATCH: usize = 64 * 1024;
/// No frame is longer: one message of the longest kind with all that goes with it.
pub(crate) const LARGEST_FRAME: usize = LARGEST_MESSAGE + 4096;

const RECORD_HEAD: usize = 8 + 1 + 1 + 4;
const DATA_HEAD: usize = 2 + 8 + 8;

/// How both ends of a new link introduce themselves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Greeting {
    /// Of this run of the sender; never 0.
    pub(crate) incarnation: u64,
    /// Grows with each greeting of this run, so that a late one is known as such.
    pub(crate) epoch: u64,
    /// The sender's stream to the receiver; never 0. Another one begins when the receiver is configured anew.
    pub(crate) stream: u64,
    /// What the sender takes in before it acknowledges; 0 until a [`Frame::Window`] comes.
    pub(crate) window_bytes: u64,
    /// The same in messages.
    pub(crate) window_messages: u64,
    /// What the sender has of the receiver's stream.
    pub(crate) seen: Option<Seen>,
}

/// How far a stream has come, as its receiver knows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Seen {
    /// Which stream of its sender.
    pub(crate) stream: u64,
    /// The position that comes next.
    pub(crate) next: u64,
    /// All positions below were handed to the application.
    pub(crate) acked: u64,
}

/// Why a greeting was not answered by another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// The name is not configured.
    Unknown,
    /// The link was taken down by hand.
    AdminDown,
    /// Another link between the two is about to stand.
    Duplicate,
    /// This run of the node was replaced by a newer one of the same name.
    Replaced,
    /// The node is shutting down.
    Stopping,
    /// Something else, of a newer version.
    Other(u8),
}

impl Refusal {
    const ALL: [Self; 5] = [Self::Unknown, Self::AdminDown, Self::Duplicate, Self::Replaced, Self::Stopping];

    fn code(self) -> u8 {
        match self {
            Self::Unknown => 1,
            Self::AdminDown => 2,
            Self::Duplicate => 3,
            Self::Replaced => 4,
            Self::Stopping => 6,
            Self::Other(code) => code,
        }
    }

    fn of(code: u8) -> Self {
        Self::ALL.into_iter().find(|known| known.code() == code).unwrap_or(Self::Other(code))
    }

    /// The sentence for the one who was refused.
    pub(crate) fn sentence(self) -> &'static str {
        match self {
            Self::Unknown => "it does not know this node: configure it there",
            Self::AdminDown => "its link to this node was taken down by hand there",
            Self::Duplicate => "another link between the two is being made",
            Self::Replaced => {
                "another process of this node's name took its place there: is the name used twice?"
            }
            Self::Stopping => "it is shutting down",
            Self::Other(_) => "it refused for a reason that this version does not know",
        }
    }
}

/// What a record carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A message to all.
    Broadcast,
    /// A message to this node.
    Direct,
    /// An action asked of this node; its name is where the content type stands.
    Api,
}

/// A message within a stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Record {
    /// Its place in the stream.
    pub(crate) position: u64,
    /// The sender's number of the message.
    pub(crate) sequence: u64,
    pub(crate) kind: Kind,
    /// Content type, or action.
    pub(crate) label: Option<Arc<str>>,
    pub(crate) payload: Bytes,
}

/// A frame.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Frame {
    /// The dialing end's greeting.
    Hello(Greeting),
    /// The answer to it: the link stands.
    Welcome(Greeting),
    /// The other answer.
    Refuse(Refusal),
    /// This connection carries a link no more.
    Closed,
    /// Where the stream begins for one who has nothing of it.
    Start(u64),
    /// Records; see [`Records`].
    Data(Bytes),
    /// All positions below were handed to the application.
    Ack(u64),
    /// Asks for a pong; then, the position behind the last record that was sent, so that a lost one is missed.
    Ping(u64, u64),
    /// The ping's number, back.
    Pong(u64),
    /// A clean leave, with a last acknowledgement.
    Goodbye(u64),
    /// What the sender takes in before it acknowledges, from now on: bytes and messages.
    Window(u64, u64),
}

/// Not a frame of this protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum WireError {
    #[error("it speaks version {0} of the protocol, and this node version 1")]
    Version(u8),
    #[error("it sent what is no frame of the protocol")]
    Malformed,
    #[error("it acknowledged what was never sent")]
    Acknowledged,
}

impl Frame {
    pub(crate) fn encode(&self) -> Bytes {
        let mut out = Vec::with_capacity(80);
        out.put_u8(VERSION);
        match self {
            Self::Hello(greeting) => put_greeting(&mut out, 1, greeting),
            Self::Welcome(greeting) => put_greeting(&mut out, 2, greeting),
            Self::Refuse(refusal) => out.extend([3, refusal.code()]),
            Self::Closed => out.put_u8(4),
            Self::Data(records) => {
                out.put_u8(5);
                out.extend_from_slice(records);
            }
            Self::Ack(position) => put_number(&mut out, 6, *position),
            Self::Ping(number, position) => {
                put_number(&mut out, 7, *number);
                out.put_u64(*position);
            }
            Self::Pong(number) => put_number(&mut out, 8, *number),
            Self::Goodbye(position) => put_number(&mut out, 9, *position),
            Self::Start(position) => put_number(&mut out, 10, *position),
            Self::Window(bytes, messages) => {
                put_number(&mut out, 11, *bytes);
                out.put_u64(*messages);
            }
        }
        out.into()
    }

    pub(crate) fn decode(mut bytes: Bytes) -> Result<Self, WireError> {
        let version = bytes.try_get_u8().map_err(|_| WireError::Malformed)?;
        if version != VERSION {
            return Err(WireError::Version(version));
        }
        let kind = bytes.try_get_u8().map_err(|_| WireError::Malformed)?;
        Self::body(kind, bytes).ok_or(WireError::Malformed)
    }

    fn body(kind: u8, mut bytes: Bytes) -> Option<Self> {
        let frame = match kind {
            1 => Self::Hello(get_greeting(&mut bytes)?),
            2 => Self::Welcome(get_greeting(&mut bytes)?),
            3 => Self::Refuse(Refusal::of(bytes.try_get_u8().ok()?)),
            4 => Self::Closed,
            5 => return (!bytes.is_empty()).then_some(Self::Data(bytes)),
            6 => Self::Ack(bytes.try_get_u64().ok()?),
            7 => Self::Ping(bytes.try_get_u64().ok()?, bytes.try_get_u64().ok()?),
            8 => Self::Pong(bytes.try_get_u64().ok()?),
            9 => Self::Goodbye(bytes.try_get_u64().ok()?),
            10 => Self::Start(bytes.try_get_u64().ok()?),
            11 => Self::Window(bytes.try_get_u64().ok()?, bytes.try_get_u64().ok()?),
            _ => return None,
        };
        Some(frame)
    }
}

fn put_number(out: &mut Vec<u8>, kind: u8, number: u64) {
    out.put_u8(kind);
    out.put_u64(number);
}

fn put_greeting(out: &mut Vec<u8>, kind: u8, greeting: &Greeting) {
    out.put_u8(kind);
    let seen = greeting.seen.unwrap_or(Seen { stream: 0, next: 0, acked: 0 });
    for number in [
        greeting.incarnation,
        greeting.epoch,
        greeting.stream,
        greeting.window_bytes,
        greeting.window_messages,
        seen.stream,
        seen.next,
        seen.acked,
    ] {
        out.put_u64(number);
    }
}

fn get_greeting(bytes: &mut Bytes) -> Option<Greeting> {
    let mut number = || bytes.try_get_u64().ok();
    let (incarnation, epoch, stream) = (number()?, number()?, number()?);
    let (window_bytes, window_messages) = (number()?, number()?);
    let seen = Seen { stream: number()?, next: number()?, acked: number()? };
    let sound = incarnation != 0 && stream != 0 && seen.acked <= seen.next;
    let seen = (seen.stream != 0).then_some(seen);
    sound.then_some(Greeting { incarnation, epoch, stream, window_bytes, window_messages, seen })
}

/// Gathers records into a data frame of at most [`BATCH`] bytes, or of one record of any size. Their positions follow
/// each other: a hole begins another frame, and is stated there.
#[derive(Debug)]
pub(crate) struct Batch {
    out: Vec<u8>,
}

impl Batch {
    /// A frame whose first record has this position. What lies between it and the end of the frame before, `after`,
    /// is lost at the sender.
    pub(crate) fn new(after: u64, first: u64, room: usize) -> Self {
        let mut out = Vec::with_capacity(room + DATA_HEAD + RECORD_HEAD);
        out.extend([VERSION, 5]);
        out.put_u64(after);
        out.put_u64(first);
        Self { out }
    }

    /// Adds a record.
    pub(crate) fn push(&mut self, sequence: u64, kind: Kind, label: Option<&str>, payload: &[u8]) {
        self.out.put_u64(sequence);
        self.out.put_u8(match kind {
            Kind::Broadcast => 0,
            Kind::Direct => 1,
            Kind::Api => 2,
        });
        let label = label.unwrap_or_default().as_bytes();
        self.out.put_u8(u8::try_from(label.len()).unwrap_or(u8::MAX));
        // A payload is no longer than `LARGEST_MESSAGE`.
        self.out.put_u32(u32::try_from(payload.len()).unwrap_or(u32::MAX));
        self.out.extend_from_slice(label);
        self.out.extend_from_slice(payload);
    }

    /// Whether one more record of this label and payload keeps the frame in its bounds.
    pub(crate) fn fits(&self, label: Option<&str>, payload: &[u8]) -> bool {
        let record = RECORD_HEAD + label.map_or(0, str::len) + payload.len();
        self.out.len() <= DATA_HEAD || self.out.len() + record <= BATCH
    }

    pub(crate) fn finish(self) -> Bytes {
        self.out.into()
    }
}

/// The records of a data frame, one after the other.
#[derive(Debug)]
pub(crate) struct Records {
    bytes: Bytes,
    /// Where the sender's frame before this one ended.
    pub(crate) after: u64,
    next: u64,
    /// More than a batch, which only a single record may be.
    is_large: bool,
}

impl Records {
    pub(crate) fn new(mut bytes: Bytes) -> Result<Self, WireError> {
        let is_large = bytes.len() + 2 > BATCH;
        let after = bytes.try_get_u64().map_err(|_| WireError::Malformed)?;
        let next = bytes.try_get_u64().map_err(|_| WireError::Malformed)?;
        Ok(Self { bytes, after, next, is_large })
    }

    /// The next one; `None` at the end.
    pub(crate) fn next(&mut self) -> Option<Result<Record, WireError>> {
        (!self.bytes.is_empty()).then(|| self.record().ok_or(WireError::Malformed))
    }

    fn record(&mut self) -> Option<Record> {
        let bytes = &mut self.bytes;
        if bytes.len() < RECORD_HEAD {
            return None;
        }
        let sequence = bytes.get_u64();
        let kind = match bytes.get_u8() {
            0 => Kind::Broadcast,
            1 => Kind::Direct,
            2 => Kind::Api,
            _ => return None,
        };
        let (label, payload) = (usize::from(bytes.get_u8()), usize::try_from(bytes.get_u32()).ok()?);
        if bytes.len() < label + payload {
            return None;
        }
        let text = bytes.split_to(label);
        let label = if text.is_empty() { None } else { Some(std::str::from_utf8(&text).ok()?.into()) };
        let payload = bytes.split_to(payload);
        if self.is_large && !bytes.is_empty() {
            return None;
        }
        let position = self.next;
        self.next = position.checked_add(1)?;
        Some(Record { position, sequence, kind, label, payload })
    }
}

#[cfg(test)]
mod tests;
