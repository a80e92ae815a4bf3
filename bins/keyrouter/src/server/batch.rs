//! The answer to a batch, made piece by piece: a small request may ask for a very large answer.

use std::collections::HashSet;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use common::ring::{Answer, Router};
use daemon::http::{BodyFault, Reserved};
use tokio::time::Sleep;

use super::hold;
use crate::answer::AnswerBody;
use crate::services::Service;
use crate::services::json::escape_into;

/// A piece is finished when it is at least this long. Answering other requests waits for one piece.
const PIECE: usize = 32 * 1024;
/// How long a piece that finds no room waits until it looks again.
const NO_ROOM: Duration = Duration::from_millis(20);

/// The nodes of many keys, as one JSON object.
#[derive(Debug)]
pub struct BatchBody {
    pieces: Pieces,
    /// A piece that waits to be taken.
    made: Option<Vec<u8>>,
    /// Of the keys, for as long as there are some.
    reserved: Reserved,
    max_buffer: u64,
    rest: Option<Pin<Box<Sleep>>>,
}

impl BatchBody {
    /// The first `count` nodes for each of `keys`, each key once, in the order given. `reserved` is the
    /// memory that the keys take.
    ///
    /// # Errors
    /// [`BodyFault::NoRoom`].
    pub(super) fn answer(
        service: Arc<Service>,
        keys: Vec<Vec<u8>>,
        count: usize,
        reserved: Reserved,
        max_buffer: u64,
    ) -> Result<AnswerBody, BodyFault> {
        let mut pieces = Pieces::new(service, keys, count);
        let first = pieces.next();
        if pieces.done {
            return Ok(AnswerBody::Whole(Some(hold(first, reserved, max_buffer)?)));
        }
        let made = Some(first);
        Ok(AnswerBody::Batch(Box::new(Self { pieces, made, reserved, max_buffer, rest: None })))
    }

    /// The next piece. Between two of them, others have their turn; who reads slowly has no more than a
    /// few made for him, and all of them together no more than there is room for.
    pub(crate) fn poll_chunk(&mut self, cx: &mut Context<'_>) -> Poll<Option<Bytes>> {
        if let Some(rest) = &mut self.rest {
            ready!(rest.as_mut().poll(cx));
            self.rest = None;
        }
        if self.made.is_none() {
            if self.pieces.done {
                return Poll::Ready(None);
            }
            self.made = Some(self.pieces.next());
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        let length = self.made.as_ref().map_or(0, Vec::len) as u64;
        let mut reserved = self.reserved.another();
        if reserved.grow(length, self.max_buffer).is_err() {
            let rest = self.rest.insert(Box::pin(tokio::time::sleep(NO_ROOM)));
            ready!(rest.as_mut().poll(cx));
        }
        Poll::Ready(self.made.take().map(|piece| reserved.hold(piece)))
    }

    /// Whether nothing is left to come.
    pub(crate) fn is_done(&self) -> bool {
        self.pieces.done && self.made.is_none()
    }
}

#[derive(Debug)]
struct Pieces {
    service: Arc<Service>,
    keys: std::vec::IntoIter<Vec<u8>>,
    count: usize,
    answer: Answer,
    begun: bool,
    done: bool,
}

impl Pieces {
    fn new(service: Arc<Service>, mut keys: Vec<Vec<u8>>, count: usize) -> Self {
        let mut seen = HashSet::with_capacity(keys.len());
        let fresh: Vec<bool> = keys.iter().map(|key| seen.insert(key.as_slice())).collect();
        let mut fresh = fresh.into_iter();
        keys.retain(|_| fresh.next().unwrap_or(true));
        Self { service, keys: keys.into_iter(), count, answer: Answer::new(), begun: false, done: false }
    }

    fn next(&mut self) -> Vec<u8> {
        let mut piece = Vec::new();
        while piece.len() < PIECE {
            let Some(key) = self.keys.next() else {
                piece.extend_from_slice(if self.begun { b"}\n" } else { b"{}\n" });
                self.done = true;
                break;
            };
            piece.push(if self.begun { b',' } else { b'{' });
            self.begun = true;
            // Keys of a batch come out of JSON and are text.
            escape_into(&String::from_utf8_lossy(&key), &mut piece);
            piece.push(b':');
            self.service.rings.route(&key, self.count, &mut self.answer);
            self.service.write_nodes(self.answer.nodes(), &mut piece);
        }
        piece
    }
}
