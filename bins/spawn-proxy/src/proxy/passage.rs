//! A client's body that is passed on to a node as it comes.

use std::cell::{Cell, RefCell};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use bytes::Bytes;
use daemon::http::{BodyFault, Intake};
use http_body::{Body, Frame, SizeHint};

use super::body::BodyError;

/// What is known of a body that is passed on to a node as it comes.
#[derive(Default)]
pub struct Passage {
    fault: RefCell<Option<BodyFault>>,
    waits_for_client: Cell<bool>,
    moved: Cell<Option<Instant>>,
}

impl Passage {
    /// Why the body could not be passed on, when that was the client's doing.
    pub fn fault(&self) -> Option<BodyFault> {
        self.fault.borrow_mut().take()
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
    passage: Rc<Passage>,
}

impl Streamed {
    /// What was read of a body, and the rest of it.
    pub fn new(first: Bytes, rest: Intake) -> (Self, Rc<Passage>) {
        let passage = Rc::new(Passage::default());
        (Self { first, rest, passage: passage.clone() }, passage)
    }

    fn note(&self, fault: BodyFault) -> BodyError {
        self.passage.fault.replace(Some(fault.clone()));
        fault.into()
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
        let polled = self.rest.poll_frame(cx);
        self.passage.waits_for_client.set(polled.is_pending());
        self.passage.moved.set(Some(Instant::now()));
        polled.map(|frame| frame.map(|frame| frame.map_err(|fault| self.note(fault))))
    }

    fn is_end_stream(&self) -> bool {
        self.first.is_empty() && self.rest.is_at_end()
    }

    fn size_hint(&self) -> SizeHint {
        match self.rest.left() {
            Some(left) => SizeHint::with_exact(left + self.first.len() as u64),
            None => SizeHint::default(),
        }
    }
}
