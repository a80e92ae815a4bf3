//! A client's body on its way in, within its limits: how large, how slow.

use std::cell::{Cell, RefCell};
use std::future::Future;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::FutureExt;
use http::StatusCode;
use http_body::{Body, Frame, SizeHint};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use tokio::time::Sleep;

use super::body::BodyError;
use super::reply::Refusal;
use crate::config::LiveConfig;

/// A body may take longer than its timeout as long as it comes at least this fast, on the whole.
const BYTES_PER_SECOND: u64 = 500;

/// A client's body that is read part by part.
pub struct Intake {
    body: Incoming,
    limit: u64,
    taken: u64,
    patience: Duration,
    waited: Duration,
}

impl Intake {
    /// Begins to take in a body, unless the client says itself that it is too large: nothing is
    /// asked for then, not even by `100 Continue`.
    ///
    /// # Errors
    /// 413.
    pub fn new(body: Incoming, config: &LiveConfig) -> Result<Self, Refusal> {
        let intake = Self {
            body,
            limit: config.max_body,
            taken: 0,
            patience: config.body_timeout,
            waited: Duration::ZERO,
        };
        match intake.body.size_hint().exact() {
            Some(length) if length > intake.limit => Err(intake.too_large()),
            _ => Ok(intake),
        }
    }

    /// The length of the whole body where the client declared it.
    pub fn declared(&self) -> Option<u64> {
        self.body.size_hint().exact().map(|left| left + self.taken)
    }

    /// The next part; `None` at the end. Trailers are left out.
    ///
    /// # Errors
    /// 413, 408, or 400 when the body ends early or is not framed as it says.
    pub async fn next(&mut self) -> Result<Option<Bytes>, Refusal> {
        loop {
            if self.body.is_end_stream() {
                return Ok(None);
            }
            let frame = match self.body.frame().now_or_never() {
                Some(frame) => frame,
                None => self.wait().await?,
            };
            let Some(frame) = frame else { return Ok(None) };
            if let Some(part) = self.part(frame)? {
                return Ok(Some(part));
            }
        }
    }

    async fn wait(&mut self) -> Result<Option<Result<Frame<Bytes>, hyper::Error>>, Refusal> {
        let begun = Instant::now();
        let frame = tokio::time::timeout(self.patience_left(), self.body.frame()).await;
        self.waited += begun.elapsed();
        frame.map_err(|_| self.too_slow())
    }

    fn part(&mut self, frame: Result<Frame<Bytes>, hyper::Error>) -> Result<Option<Bytes>, Refusal> {
        let frame = frame.map_err(|error| ended_early(&error))?;
        let Ok(part) = frame.into_data() else { return Ok(None) };
        self.taken += part.len() as u64;
        if self.taken > self.limit { Err(self.too_large()) } else { Ok(Some(part)) }
    }

    /// How long the next part may take: what a body gains by its size it may use up later.
    fn patience_left(&self) -> Duration {
        let earned = self.patience + Duration::from_secs(self.taken / BYTES_PER_SECOND);
        earned.saturating_sub(self.waited).min(self.patience)
    }

    fn too_large(&self) -> Refusal {
        let info = format!("The limit is {} bytes (max-body)", self.limit);
        Refusal::new(StatusCode::PAYLOAD_TOO_LARGE, "The body is too large", info).closing()
    }

    fn too_slow(&self) -> Refusal {
        let info = format!(
            "It may pause for {:?} and has to make {BYTES_PER_SECOND} bytes a second (body-timeout)",
            self.patience
        );
        Refusal::new(StatusCode::REQUEST_TIMEOUT, "The body came too slowly", info).closing()
    }
}

fn ended_early(error: &hyper::Error) -> Refusal {
    Refusal::new(StatusCode::BAD_REQUEST, "The request's body ended early", error.to_string()).closing()
}

/// What is known of a body that is passed on to a node as it comes.
#[derive(Default)]
pub struct Passage {
    refusal: RefCell<Option<Refusal>>,
    waits_for_client: Cell<bool>,
    moved: Cell<Option<Instant>>,
}

impl Passage {
    /// Why the body could not be passed on, when that was the client's doing.
    pub fn refusal(&self) -> Option<Refusal> {
        self.refusal.borrow_mut().take()
    }

    /// Resolves when for so long nothing was missing but the node's doing.
    pub async fn stalled(&self, patience: Duration) {
        self.moved.set(Some(Instant::now()));
        loop {
            let since = self.moved.get().map_or(Duration::ZERO, |moved| moved.elapsed());
            if !self.waits_for_client.get() && since >= patience {
                return;
            }
            let left = patience.saturating_sub(since).max(Duration::from_millis(1));
            tokio::time::sleep(if self.waits_for_client.get() { patience } else { left }).await;
        }
    }
}

/// A body that is passed on as it comes: what was read of it, then the rest.
pub struct Streamed {
    first: Bytes,
    rest: Intake,
    pause: Option<(Instant, Pin<Box<Sleep>>)>,
    passage: Rc<Passage>,
}

impl Streamed {
    /// What was read of a body, and the rest of it.
    pub fn new(first: Bytes, rest: Intake) -> (Self, Rc<Passage>) {
        let passage = Rc::new(Passage::default());
        (Self { first, rest, pause: None, passage: passage.clone() }, passage)
    }

    fn refuse(&self, refusal: Refusal) -> BodyError {
        let text = refusal.message.clone();
        self.passage.refusal.replace(Some(refusal));
        text.into()
    }

    fn poll_rest(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Refusal>>> {
        let Poll::Ready(frame) = pin!(&mut self.rest.body).poll_frame(cx) else {
            let patience = self.rest.patience_left();
            let (_, sleep) =
                self.pause.get_or_insert_with(|| (Instant::now(), Box::pin(tokio::time::sleep(patience))));
            ready!(sleep.as_mut().poll(cx));
            return Poll::Ready(Some(Err(self.rest.too_slow())));
        };
        if let Some((since, _)) = self.pause.take() {
            self.rest.waited += since.elapsed();
        }
        Poll::Ready(frame.map(|frame| match frame {
            Ok(frame) => {
                self.rest.taken += frame.data_ref().map_or(0, |part| part.len() as u64);
                if self.rest.taken > self.rest.limit { Err(self.rest.too_large()) } else { Ok(frame) }
            }
            Err(error) => Err(ended_early(&error)),
        }))
    }
}

impl Body for Streamed {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        if !self.first.is_empty() {
            return Poll::Ready(Some(Ok(Frame::data(std::mem::take(&mut self.first)))));
        }
        let polled = self.poll_rest(cx);
        self.passage.waits_for_client.set(polled.is_pending());
        self.passage.moved.set(Some(Instant::now()));
        polled.map(|frame| frame.map(|frame| frame.map_err(|refusal| self.refuse(refusal))))
    }

    fn is_end_stream(&self) -> bool {
        self.first.is_empty() && self.rest.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        match self.rest.body.size_hint().exact() {
            Some(left) => SizeHint::with_exact(left + self.first.len() as u64),
            None => SizeHint::default(),
        }
    }
}
