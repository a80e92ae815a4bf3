//! Messages, their frames, and the peers they come from.

use std::fmt;
use std::ops::Deref;
use std::sync::Arc;

use bytes::Bytes;
use smallvec::SmallVec;

use crate::key::PublicKey;

/// Counted for each frame beside its bytes, so that a queue of empty frames has a bound in bytes too.
const FRAME_COST: usize = 64;
/// Frames up to this size are copied out of libzmq's buffers, which are of 8 KiB.
const COPY_UP_TO: usize = 4096;

/// A frame of libzmq's as bytes. Small ones share a buffer with others in libzmq, which one that is kept would keep.
pub(crate) fn received(frame: zmq::Message) -> Bytes {
    if frame.len() <= COPY_UP_TO { Bytes::copy_from_slice(&frame) } else { Bytes::from_owner(Owned(frame)) }
}

/// A buffer of libzmq's behind `Bytes`.
struct Owned(zmq::Message);

impl AsRef<[u8]> for Owned {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

/// A message: its frames in order, which arrive all or none.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Multipart(SmallVec<[Bytes; 2]>);

impl Multipart {
    /// A message of one frame.
    pub fn single(frame: impl Into<Bytes>) -> Self {
        Self(SmallVec::from_iter([frame.into()]))
    }

    /// Adds a frame at the end.
    pub fn push(&mut self, frame: impl Into<Bytes>) {
        self.0.push(frame.into());
    }

    /// The frames, taken out.
    pub fn into_frames(self) -> impl ExactSizeIterator<Item = Bytes> + DoubleEndedIterator {
        self.0.into_iter()
    }

    /// The bytes of all frames.
    pub fn byte_len(&self) -> usize {
        self.0.iter().map(|frame| frame.len()).sum()
    }

    /// What it takes of a queue's bound in bytes: its bytes and 64 for each frame.
    pub fn cost(&self) -> usize {
        self.byte_len() + FRAME_COST * self.0.len()
    }
}

impl Deref for Multipart {
    type Target = [Bytes];

    fn deref(&self) -> &[Bytes] {
        &self.0
    }
}

impl<F: Into<Bytes>> FromIterator<F> for Multipart {
    fn from_iter<I: IntoIterator<Item = F>>(frames: I) -> Self {
        Self(frames.into_iter().map(Into::into).collect())
    }
}

/// A connection of a ROUTER, as its routing id: made by libzmq for each connection, or chosen by the peer.
///
/// It says where a message goes, not who is there: that is [`Peer::name`].
#[derive(Clone, PartialEq, Eq, Hash, Default)]
pub struct PeerId(SmallVec<[u8; 16]>);

impl PeerId {
    /// The id of these bytes, at most 255.
    pub fn new(bytes: &[u8]) -> Self {
        Self(SmallVec::from_slice(bytes))
    }

    /// Its bytes.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Display for PeerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match std::str::from_utf8(&self.0) {
            Ok(text) if text.chars().all(|c| c.is_ascii_graphic()) => f.write_str(text),
            _ => self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}")),
        }
    }
}

impl fmt::Debug for PeerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PeerId({self})")
    }
}

/// Who sent a message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Peer {
    /// Where answers go.
    pub id: PeerId,
    /// The name that the [`Authenticator`](crate::Authenticator) gives to the sender's key; `None` without CURVE.
    pub name: Option<Arc<str>>,
    /// The key with which the sender proved itself; `None` without CURVE.
    pub key: Option<PublicKey>,
    /// Its IP address; over `ipc://`, libzmq's `localhost:UID:GID:PID` of its process.
    pub address: Option<Arc<str>>,
}

/// A message that came in.
#[derive(Debug)]
pub struct Incoming {
    /// Who sent it. On a DEALER the id is empty and the sender is the server.
    pub from: Arc<Peer>,
    /// Its frames, without the routing id.
    pub message: Multipart,
}
