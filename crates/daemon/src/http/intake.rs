//! A client's body on its way in, within its limits: how large, how slow.
use std::fmt;
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use http::StatusCode;
use http_body::{Body, Frame};
use hyper::body::Incoming;
use tokio::time::Sleep;

use super::buffer::Reserved;

/// A body may take longer than its timeout as long as it comes at least this fast, on the whole.
const BYTES_PER_SECOND: u64 = 500;

/// What a client's body may be like.
#[derive(Debug, Clone, Copy)]
pub struct BodyLimits {
    /// The most bytes (`max-body`).
    pub max_bytes: u64,
    /// How long it may pause (`body-timeout`); on the whole it has to make 500 bytes a second.
    pub patience: Duration,
}

/// Why a body was not taken in. What is left of it is not read: close the connection.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BodyFault {
    /// More bytes than the limit: 413.
    #[error("the body is larger than {limit} bytes (max-body)")]
    TooLarge {
        /// The limit.
        limit: u64,
    },
    /// It paused for too long: 408.
    #[error(
        "the body came too slowly: it may pause for {patience:?} and has to make {BYTES_PER_SECOND} bytes \
         a second (body-timeout)"
    )]
    TooSlow {
        /// The longest pause.
        patience: Duration,
    },
    /// It ended early, or is not framed as it says: 400.
    #[error("the request's body ended early: {0}")]
    EndedEarly(String),
    /// All requests together hold too much already: 503.
    #[error("the requests that are being served fill the memory for them, {limit} bytes (max-buffer)")]
    NoRoom {
        /// The limit.
        limit: u64,
    },
}

impl BodyFault {
    /// The status that says so.
    pub fn status(&self) -> StatusCode {
        match self {
            Self::TooLarge { .. } => StatusCode::PAYLOAD_TOO_LARGE,
            Self::TooSlow { .. } => StatusCode::REQUEST_TIMEOUT,
            Self::EndedEarly(_) => StatusCode::BAD_REQUEST,
            Self::NoRoom { .. } => StatusCode::SERVICE_UNAVAILABLE,
        }
    }
}

/// A client's body that is read part by part.
pub struct Intake<B = Incoming> {
    body: B,
    limits: BodyLimits,
    taken: u64,
    waited: Duration,
    pause: Option<(Instant, Pin<Box<Sleep>>)>,
}

impl<B> fmt::Debug for Intake<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Intake").field("limits", &self.limits).field("taken", &self.taken).finish()
    }
}

impl<B> Intake<B>
where
    B: Body<Data = Bytes> + Unpin,
    B::Error: fmt::Display,
{
    /// Begins to take in a body, unless the client says itself that it is too large: nothing is
    /// asked for then, not even by `100 Continue`.
    ///
    /// # Errors
    /// [`BodyFault::TooLarge`].
    pub fn new(body: B, limits: BodyLimits) -> Result<Self, BodyFault> {
        if body.size_hint().lower() > limits.max_bytes {
            return Err(BodyFault::TooLarge { limit: limits.max_bytes });
        }
        Ok(Self { body, limits, taken: 0, waited: Duration::ZERO, pause: None })
    }

    /// The bytes of it that are still to come, where the client declared its length.
    pub fn left(&self) -> Option<u64> {
        self.body.size_hint().exact()
    }

    /// The length of the whole body, where the client declared it.
    pub fn declared(&self) -> Option<u64> {
        self.left().map(|left| left + self.taken)
    }

    /// Whether all of it was read.
    pub fn is_at_end(&self) -> bool {
        self.body.is_end_stream()
    }

    /// The next part; `None` at the end. Trailers are left out.
    ///
    /// # Errors
    /// Why the rest cannot be had.
    pub async fn next(&mut self) -> Result<Option<Bytes>, BodyFault> {
        while !self.is_at_end() {
            let Some(frame) = poll_fn(|cx| self.poll_frame(cx)).await else { break };
            if let Ok(part) = frame?.into_data() {
                return Ok(Some(part));
            }
        }
        Ok(None)
    }

    /// The next part or the trailers, in the form of [`Body::poll_frame`].
    pub fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyFault>>> {
        let Poll::Ready(frame) = Pin::new(&mut self.body).poll_frame(cx) else {
            let patience = self.patience_left();
            let begin = || (Instant::now(), Box::pin(tokio::time::sleep(patience)));
            ready!(self.pause.get_or_insert_with(begin).1.as_mut().poll(cx));
            return Poll::Ready(Some(Err(BodyFault::TooSlow { patience: self.limits.patience })));
        };
        if let Some((since, _)) = self.pause.take() {
            self.waited += since.elapsed();
        }
        Poll::Ready(frame.map(|frame| {
            let frame = frame.map_err(|error| BodyFault::EndedEarly(error.to_string()))?;
            self.taken += frame.data_ref().map_or(0, |part| part.len() as u64);
            let limit = self.limits.max_bytes;
            if self.taken > limit { Err(BodyFault::TooLarge { limit }) } else { Ok(frame) }
        }))
    }

    /// How long the next part may take: what a body gains by its size it may use up later.
    fn patience_left(&self) -> Duration {
        let patience = self.limits.patience;
        let earned = patience + Duration::from_secs(self.taken / BYTES_PER_SECOND);
        earned.saturating_sub(self.waited).min(patience)
    }
}

/// Reads a body whole, as long as all bodies together stay within `max_buffer` bytes.
///
/// # Errors
/// Why it cannot be had.
pub async fn read_body<B>(
    body: B,
    limits: BodyLimits,
    reserved: &mut Reserved,
    max_buffer: u64,
) -> Result<Bytes, BodyFault>
where
    B: Body<Data = Bytes> + Unpin,
    B::Error: fmt::Display,
{
    let mut intake = Intake::new(body, limits)?;
    let mut parts = Parts::default();
    while let Some(part) = intake.next().await? {
        reserved.grow(part.len() as u64, max_buffer)?;
        parts.push(part);
    }
    Ok(parts.join())
}

/// Parts of a body, to be had as one. Most bodies come in one part, which is not copied.
#[derive(Debug, Default)]
pub struct Parts {
    first: Bytes,
    joined: BytesMut,
}

impl Parts {
    /// Adds a part.
    pub fn push(&mut self, part: Bytes) {
        if self.first.is_empty() && self.joined.is_empty() {
            self.first = part;
            return;
        }
        self.joined.extend_from_slice(&std::mem::take(&mut self.first));
        self.joined.extend_from_slice(&part);
    }

    /// All that was added since the last call.
    pub fn join(&mut self) -> Bytes {
        if self.joined.is_empty() { std::mem::take(&mut self.first) } else { self.joined.split().freeze() }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use super::super::Buffer;
    use super::*;

    /// Gives its frames, then ends, or is silent for ever.
    struct Script(VecDeque<Result<Bytes, &'static str>>, bool);

    impl Body for Script {
        type Data = Bytes;
        type Error = &'static str;

        fn poll_frame(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
        ) -> Poll<Option<Result<Frame<Bytes>, &'static str>>> {
            match self.0.pop_front() {
                None if self.1 => Poll::Pending,
                next => Poll::Ready(next.map(|part| part.map(Frame::data))),
            }
        }
    }

    fn parts(sizes: &[usize]) -> Script {
        Script(sizes.iter().map(|&size| Ok(Bytes::from(vec![b'a'; size]))).collect(), false)
    }

    async fn read(body: impl Body<Data = Bytes, Error: fmt::Display> + Unpin) -> Result<usize, BodyFault> {
        let limits = BodyLimits { max_bytes: 10, patience: Duration::from_millis(20) };
        let buffer = Buffer::default();
        let whole = read_body(body, limits, &mut buffer.reserve(), 8).await.map(|whole| whole.len());
        assert_eq!(buffer.used(), 0, "what was reserved is given back");
        whole
    }

    #[tokio::test]
    async fn bodies_are_bounded_in_size_time_and_memory() {
        assert_eq!(read(parts(&[])).await, Ok(0));
        assert_eq!(read(parts(&[5, 0, 3])).await, Ok(8));
        assert_eq!(read(parts(&[5, 4])).await, Err(BodyFault::NoRoom { limit: 8 }));
        assert_eq!(read(parts(&[11])).await, Err(BodyFault::TooLarge { limit: 10 }));
        let declared = http_body_util::Full::new(Bytes::from_static(b"0123456789a"));
        assert_eq!(read(declared).await, Err(BodyFault::TooLarge { limit: 10 }));
        let broken = Script([Ok(Bytes::from_static(b"a")), Err("gone")].into(), false);
        assert_eq!(read(broken).await, Err(BodyFault::EndedEarly("gone".into())));
        let silent = Script(parts(&[3]).0, true);
        let too_slow = BodyFault::TooSlow { patience: Duration::from_millis(20) };
        assert_eq!((read(silent).await, too_slow.status().as_u16()), (Err(too_slow), 408));
    }
}
