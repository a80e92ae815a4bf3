//! Bodies on their way out: to a node, and to a client.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::BytesMut;
use http_body::{Body, Frame, SizeHint};
use hyper::body::{Bytes, Incoming};
use tokio::io::AsyncRead;
use tokio::sync::mpsc;
use update_log::UpdateBody;

use super::passage::Streamed;
use super::upstream::NodeBody;

const FILE_CHUNK: usize = 128 * 1024;

/// Whatever breaks a body.
pub type BodyError = Box<dyn std::error::Error + Send + Sync>;

/// The body of a request to a node.
pub enum OutBody {
    /// None, or all of it.
    Whole(Option<Bytes>),
    /// Streamed from the client as it comes.
    Client(Incoming),
    /// The same, within the limits of bodies.
    Limited(Box<Streamed>),
    /// Streamed from a file.
    File {
        /// The file, read from its position.
        file: tokio::fs::File,
        /// Bytes still to send.
        left: u64,
        /// Reused between chunks.
        buffer: BytesMut,
    },
}

impl OutBody {
    /// No body.
    pub fn empty() -> Self {
        Self::Whole(None)
    }

    /// The body of an update, opened if it is in a file.
    ///
    /// # Errors
    /// When its file cannot be opened.
    pub async fn of_update(body: &UpdateBody) -> io::Result<Self> {
        match body {
            UpdateBody::Memory(bytes) if bytes.is_empty() => Ok(Self::empty()),
            UpdateBody::Memory(bytes) => Ok(Self::Whole(Some(bytes.clone()))),
            UpdateBody::Spooled(spooled) => {
                let file = tokio::fs::File::open(&spooled.path).await?;
                Ok(Self::File { file, left: spooled.len, buffer: BytesMut::new() })
            }
        }
    }
}

impl Body for OutBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        match &mut *self {
            Self::Whole(bytes) => Poll::Ready(bytes.take().map(|bytes| Ok(Frame::data(bytes)))),
            Self::Client(incoming) => Pin::new(incoming).poll_frame(cx).map_err(Into::into),
            Self::Limited(body) => Pin::new(body).poll_frame(cx),
            Self::File { file, left, buffer } => {
                if *left == 0 {
                    return Poll::Ready(None);
                }
                let want = usize::try_from(*left).unwrap_or(FILE_CHUNK).min(FILE_CHUNK);
                buffer.resize(want, 0);
                let mut space = tokio::io::ReadBuf::new(buffer);
                ready!(Pin::new(file).poll_read(cx, &mut space))?;
                let got = space.filled().len();
                if got == 0 {
                    return Poll::Ready(Some(Err("the spooled body is shorter than it was".into())));
                }
                *left -= got as u64;
                buffer.truncate(got);
                Poll::Ready(Some(Ok(Frame::data(buffer.split().freeze()))))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Whole(bytes) => bytes.is_none(),
            Self::Client(incoming) => incoming.is_end_stream(),
            Self::Limited(body) => body.is_end_stream(),
            Self::File { left, .. } => *left == 0,
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Whole(bytes) => SizeHint::with_exact(bytes.as_ref().map_or(0, |b| b.len() as u64)),
            Self::Client(incoming) => incoming.size_hint(),
            Self::Limited(body) => body.size_hint(),
            Self::File { left, .. } => SizeHint::with_exact(*left),
        }
    }
}

/// The body of an answer to a client.
pub enum ClientBody {
    /// None, or all of it.
    Whole(Option<Bytes>),
    /// Streamed from a node.
    Node(NodeBody),
    /// Streamed from a node over a connection with a task of its own.
    Incoming(Incoming),
    /// The answer to an update, too large to hold, as its deliverer reads it.
    Relayed {
        /// Chunks to come.
        chunks: mpsc::Receiver<io::Result<Bytes>>,
        /// Its length where the node declared one.
        length: Option<u64>,
    },
}

impl Body for ClientBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        match &mut *self {
            Self::Whole(bytes) => Poll::Ready(bytes.take().map(|bytes| Ok(Frame::data(bytes)))),
            Self::Node(body) => Pin::new(body).poll_frame(cx).map_err(Into::into),
            Self::Incoming(body) => Pin::new(body).poll_frame(cx).map_err(Into::into),
            Self::Relayed { chunks, .. } => match ready!(chunks.poll_recv(cx)) {
                Some(Ok(chunk)) => Poll::Ready(Some(Ok(Frame::data(chunk)))),
                Some(Err(error)) => Poll::Ready(Some(Err(error.into()))),
                None => Poll::Ready(None),
            },
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Whole(bytes) => bytes.is_none(),
            Self::Node(body) => body.is_end_stream(),
            Self::Incoming(body) => body.is_end_stream(),
            Self::Relayed { .. } => false,
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Whole(bytes) => SizeHint::with_exact(bytes.as_ref().map_or(0, |b| b.len() as u64)),
            Self::Node(body) => body.size_hint(),
            Self::Incoming(body) => body.size_hint(),
            Self::Relayed { length, .. } => length.map_or_else(SizeHint::default, SizeHint::with_exact),
        }
    }
}
