//! What travels between a sender and a holder: `docs/reference/gone-wire.md` has the bytes.

use std::fmt;
use std::sync::Arc;

use bytes::{BufMut, Bytes, BytesMut};
use zmq_link::Multipart;

/// The version that is written and read.
pub const VERSION: u8 = 1;
/// The most messages of one frame.
pub const MAX_MESSAGES: usize = 1024;
/// The longest id, in bytes.
pub const MAX_ID: usize = 200;
/// What every frame has before its own fields.
pub(crate) const COMMON: usize = 32;

/// Who sends: random, one for each process, and never used again. Its messages are numbered for each id.
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct SenderId(pub [u8; 16]);

impl fmt::Display for SenderId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for SenderId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SenderId({self})")
    }
}

/// What every frame says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct About {
    /// For whom, or of whom: the runner's id.
    pub id: Arc<str>,
    /// The sender, also in what the holder answers.
    pub sender: SenderId,
    /// The turn that is meant: the fencing token of the lease. 0: not known.
    pub token: u64,
    /// Counts the times that this sender began to send anew; echoed by the holder.
    pub attempt: u32,
}

/// A frame: two parts for messages, one for everything else.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    /// What every frame says.
    pub about: About,
    /// What this one says.
    pub body: Body,
}

/// What one frame says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Body {
    /// Messages, from the sender.
    Data {
        /// The message before `first` that is neither acknowledged nor given up; 0 when there is none.
        previous: u64,
        /// The sequence of the first message; the others follow on it.
        first: u64,
        /// At least one.
        messages: Vec<Bytes>,
    },
    /// A question, from the sender: what have you taken?
    Probe {
        /// The last sequence sent before.
        sent: u64,
    },
    /// How far the holder is with this sender.
    Ack {
        /// Up to here all are acknowledged.
        acked: u64,
        /// Up to here all were given to the child.
        taken: u64,
        /// The number of the probe that this answers; 0 when it answers none.
        probed: u64,
    },
    /// The holder refuses.
    Refused {
        /// Why.
        why: Refusal,
        /// Which message; 0 when it is about none in particular.
        sequence: u64,
    },
}

/// Why a holder refuses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Refusal {
    /// The lease is not here, or a newer turn exists.
    NotHolder,
    /// The child is being stopped, or not there yet.
    Stopping,
    /// An earlier message is missing; the sequence is the next one that would be taken.
    Gap,
    /// The frame is meant for an earlier turn; the token is that of the present one.
    Turn,
    /// This message has a newline, and the child reads lines.
    Newline,
    /// This message is larger than the holder allows.
    TooLarge,
    /// The holder speaks another version.
    Version,
    /// This child takes no messages any more: it closed its stdin.
    StdinClosed,
    /// This child takes no messages any more: it closed the descriptor by which it acknowledges them.
    AcksClosed,
}

const REFUSALS: [Refusal; 9] = [
    Refusal::NotHolder,
    Refusal::Stopping,
    Refusal::Gap,
    Refusal::Turn,
    Refusal::Newline,
    Refusal::TooLarge,
    Refusal::Version,
    Refusal::StdinClosed,
    Refusal::AcksClosed,
];

/// Why a message is no frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// Another version of the protocol.
    #[error("version {0} of the protocol, where {VERSION} is spoken")]
    Version(u8),
    /// The bytes are not those of a frame.
    #[error("not a frame: {0}")]
    Malformed(&'static str),
}

impl Body {
    fn kind(&self) -> u8 {
        match self {
            Self::Data { .. } => 1,
            Self::Probe { .. } => 2,
            Self::Ack { .. } => 3,
            Self::Refused { .. } => 4,
        }
    }
}

impl Frame {
    /// The answer to whoever speaks another version, whose id and sender cannot be read.
    pub(crate) fn other_version() -> Self {
        let about = About { id: "".into(), sender: SenderId::default(), token: 0, attempt: 0 };
        Self { about, body: Body::Refused { why: Refusal::Version, sequence: 0 } }
    }

    /// The bytes.
    pub fn encode(&self) -> Multipart {
        let id = self.about.id.as_bytes();
        let lengths = if let Body::Data { messages, .. } = &self.body { messages.len() } else { 0 };
        let mut head = BytesMut::with_capacity(COMMON + 25 + id.len() + 4 * lengths);
        head.put_u8(VERSION);
        head.put_u8(self.body.kind());
        head.put_u16_le(u16::try_from(id.len()).unwrap_or(u16::MAX));
        head.put_u32_le(self.about.attempt);
        head.put_u64_le(self.about.token);
        head.put_slice(&self.about.sender.0);
        match &self.body {
            Body::Data { previous, first, messages } => {
                head.put_u64_le(*previous);
                head.put_u64_le(*first);
                head.put_slice(id);
                for message in messages {
                    head.put_u32_le(u32::try_from(message.len()).unwrap_or(u32::MAX));
                }
                let mut frame = Multipart::single(head.freeze());
                frame.push(joined(messages));
                return frame;
            }
            Body::Probe { sent } => head.put_u64_le(*sent),
            Body::Ack { acked, taken, probed } => {
                head.put_u64_le(*acked);
                head.put_u64_le(*taken);
                head.put_u64_le(*probed);
            }
            Body::Refused { why, sequence } => {
                head.put_u64_le(*sequence);
                let number = REFUSALS.iter().position(|refusal| refusal == why).unwrap_or_default();
                head.put_u8(u8::try_from(number).unwrap_or_default() + 1);
            }
        }
        head.put_slice(id);
        Multipart::single(head.freeze())
    }

    /// Reads a frame. Whatever the bytes are, nothing is taken on trust and nothing large is made of little.
    ///
    /// # Errors
    /// [`FrameError`].
    pub fn decode(frame: &Multipart) -> Result<Self, FrameError> {
        let head = frame.first().ok_or(FrameError::Malformed("no part"))?;
        let mut fields = Fields(head);
        let version = fields.take::<1>()?[0];
        if version != VERSION {
            return Err(FrameError::Version(version));
        }
        let kind = fields.take::<1>()?[0];
        let id_length = usize::from(u16::from_le_bytes(fields.take()?));
        let attempt = u32::from_le_bytes(fields.take()?);
        let token = fields.number()?;
        let sender = SenderId(fields.take()?);
        if (kind == 1) != (frame.len() == 2) || frame.len() > 2 {
            return Err(FrameError::Malformed("the wrong number of parts"));
        }
        let body = match kind {
            1 => Body::Data { previous: fields.number()?, first: fields.number()?, messages: Vec::new() },
            2 => Body::Probe { sent: fields.number()? },
            3 => Body::Ack { acked: fields.number()?, taken: fields.number()?, probed: fields.number()? },
            4 => {
                let sequence = fields.number()?;
                let number = usize::from(fields.take::<1>()?[0]);
                let why = number.checked_sub(1).and_then(|index| REFUSALS.get(index));
                Body::Refused { why: *why.ok_or(FrameError::Malformed("an unknown refusal"))?, sequence }
            }
            _ => return Err(FrameError::Malformed("an unknown kind")),
        };
        let id = fields.id(id_length)?;
        let about = About { id, sender, token, attempt };
        let body = match body {
            Body::Data { previous, first, .. } => {
                if first == 0 || previous >= first {
                    return Err(FrameError::Malformed("sequences that cannot be"));
                }
                Body::Data { previous, first, messages: parted(fields.0, &frame[1])? }
            }
            _ if !fields.0.is_empty() => return Err(FrameError::Malformed("bytes after its end")),
            other => other,
        };
        Ok(Self { about, body })
    }
}

/// One message as it is, several one after the other.
fn joined(messages: &[Bytes]) -> Bytes {
    if let [single] = messages {
        return single.clone();
    }
    let mut all = BytesMut::with_capacity(messages.iter().map(Bytes::len).sum());
    messages.iter().for_each(|message| all.put_slice(message));
    all.freeze()
}

/// Takes messages of these lengths apart.
fn parted(lengths: &[u8], payload: &Bytes) -> Result<Vec<Bytes>, FrameError> {
    let (lengths, rest) = lengths.as_chunks::<4>();
    if !rest.is_empty() || lengths.is_empty() || lengths.len() > MAX_MESSAGES {
        return Err(FrameError::Malformed("a table of lengths that cannot be"));
    }
    let mut messages = Vec::with_capacity(lengths.len());
    let mut from = 0_usize;
    for length in lengths {
        let to = from.saturating_add(u32::from_le_bytes(*length) as usize);
        if to > payload.len() {
            return Err(FrameError::Malformed("lengths beyond the payload"));
        }
        messages.push(payload.slice(from..to));
        from = to;
    }
    if from != payload.len() {
        return Err(FrameError::Malformed("a payload beyond the lengths"));
    }
    Ok(messages)
}

/// What is left to read.
struct Fields<'a>(&'a [u8]);

impl Fields<'_> {
    fn take<const N: usize>(&mut self) -> Result<[u8; N], FrameError> {
        let (field, rest) = self.0.split_first_chunk().ok_or(FrameError::Malformed("too short"))?;
        self.0 = rest;
        Ok(*field)
    }

    fn number(&mut self) -> Result<u64, FrameError> {
        self.take().map(u64::from_le_bytes)
    }

    fn id(&mut self, length: usize) -> Result<Arc<str>, FrameError> {
        let id = if length <= MAX_ID { self.0.split_at_checked(length) } else { None };
        let (id, rest) = id.ok_or(FrameError::Malformed("an id that is too long"))?;
        self.0 = rest;
        std::str::from_utf8(id).map(Arc::from).map_err(|_| FrameError::Malformed("an id that is no text"))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn about() -> About {
        About { id: "job".into(), sender: SenderId([7; 16]), token: 9, attempt: 3 }
    }

    fn roundtrip(body: Body) {
        let frame = Frame { about: about(), body };
        assert_eq!(Frame::decode(&frame.encode()), Ok(frame));
    }

    #[test]
    fn every_kind_comes_back() {
        roundtrip(Body::Data {
            previous: 4,
            first: 6,
            messages: vec!["one".into(), "".into(), "three".into()],
        });
        roundtrip(Body::Data { previous: 0, first: 1, messages: vec!["".into()] });
        roundtrip(Body::Probe { sent: 5 });
        roundtrip(Body::Ack { acked: 1, taken: 2, probed: 3 });
        REFUSALS.into_iter().for_each(|why| roundtrip(Body::Refused { why, sequence: 8 }));
    }

    #[test]
    fn the_bytes_are_those_of_the_reference() {
        let body = Body::Data { previous: 4, first: 6, messages: vec!["ab".into(), "c".into()] };
        let encoded = Frame { about: about(), body }.encode();
        let mut expected = vec![1, 1, 3, 0, 3, 0, 0, 0, 9, 0, 0, 0, 0, 0, 0, 0];
        expected.extend([7; 16]);
        expected.extend([4, 0, 0, 0, 0, 0, 0, 0, 6, 0, 0, 0, 0, 0, 0, 0]);
        expected.extend(b"job\x02\0\0\0\x01\0\0\0");
        assert_eq!((&encoded[0][..], &encoded[1][..]), (&expected[..], &b"abc"[..]));
    }

    proptest! {
        #[test]
        fn no_bytes_are_too_strange(
            mut head in prop::collection::vec(any::<u8>(), 0..80),
            kind in 0_u8..6,
            payload in prop::option::of(prop::collection::vec(any::<u8>(), 0..20)),
        ) {
            if head.len() > 4 {
                head[0] = VERSION;
                head[1] = kind;
                head[2] %= 8;
                head[3] = 0;
            }
            let frame: Multipart = std::iter::once(head).chain(payload).collect();
            if let Ok(read) = Frame::decode(&frame) {
                prop_assert_eq!(Frame::decode(&read.encode()), Ok(read));
            }
        }
    }
}
