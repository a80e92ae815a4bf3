//! What comes in at a holder: a frame of ours, or a request of an original node.

use std::sync::Arc;

use bytes::Bytes;
use zmq_link::{Multipart, PeerId};

use crate::message::bson::{self, BsonError};
use crate::message::frame::{COMMON, Frame, FrameError};

/// The most parts before the empty one in a request of an original node.
const ENVELOPE: usize = 8;

/// Where an answer goes.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Route {
    Sender(PeerId),
    /// With what has to stand before the reply.
    Original(PeerId, Vec<Bytes>),
}

/// What came in, read.
pub(crate) enum Read {
    Frame(Route, Frame),
    Original(Route, Arc<str>, Bytes),
}

/// What came in is neither.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Unread {
    #[error("version {0} of the protocol")]
    Version(u8),
    #[error(transparent)]
    Frame(FrameError),
    #[error("a request of other parts than an empty one and a document")]
    Parts,
    #[error(transparent)]
    Document(#[from] BsonError),
}

impl Read {
    /// Reads a message; requests of original nodes only where these are welcome.
    pub(crate) fn of(from: &PeerId, message: &Multipart, compat: bool) -> Result<Self, Unread> {
        // An envelope is empty or short, and all frames of ours begin with a long part.
        let ours = message.first().is_some_and(|head| head.len() >= COMMON);
        if compat && !ours {
            return original(from, message);
        }
        match Frame::decode(message) {
            Ok(frame) => Ok(Self::Frame(Route::Sender(from.clone()), frame)),
            Err(FrameError::Version(version)) => Err(Unread::Version(version)),
            Err(error) => Err(Unread::Frame(error)),
        }
    }

    pub(crate) fn id(&self) -> &Arc<str> {
        match self {
            Self::Frame(_, frame) => &frame.about.id,
            Self::Original(_, id, _) => id,
        }
    }
}

fn original(from: &PeerId, message: &Multipart) -> Result<Read, Unread> {
    let empty = message.iter().take(ENVELOPE + 1).position(|part| part.is_empty()).ok_or(Unread::Parts)?;
    let [document] = &message[empty + 1..] else { return Err(Unread::Parts) };
    let (id, data) = bson::decode(document)?;
    Ok(Read::Original(Route::Original(from.clone(), message[..empty].to_vec()), id.into(), data))
}
