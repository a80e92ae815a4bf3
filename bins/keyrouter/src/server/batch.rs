//! The answer to a batch, made piece by piece: a small request may ask for a very large answer.

use std::collections::HashSet;
use std::fmt;
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use common::ring::{Algorithm, Answer, Router};
use daemon::http::{BodyFault, Reserved};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::answer::AnswerBody;
use crate::services::Service;
use crate::services::json::escape_into;

/// A piece is finished when it is at least this long.
const PIECE: usize = 32 * 1024;
/// Nodes that are ranked before others have their turn: some tenths of a millisecond.
const TURN: usize = 6_000;
/// How long a batch that finds no room for its next piece waits until it looks again.
const NO_ROOM: Duration = Duration::from_millis(20);

/// One batch of a thread works at a time, and between two turns the thread looks after its sockets: however
/// many batches there are, others wait for one turn.
#[derive(Debug, Clone)]
pub(super) struct Lane(Arc<Semaphore>);

impl Default for Lane {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(1)))
    }
}

impl Lane {
    /// Ends a turn when the sockets were looked after. On a task of its own, since the one whose turn it was may
    /// be left alone by a client that does not read.
    fn pass(turn: OwnedSemaphorePermit) {
        tokio::task::spawn_local(async move {
            tokio::task::yield_now().await;
            drop(turn);
        });
    }
}

type Rest = Pin<Box<dyn Future<Output = Option<OwnedSemaphorePermit>>>>;

/// The nodes of many keys, as one JSON object.
pub struct BatchBody {
    pieces: Pieces,
    lane: Lane,
    turn: Option<OwnedSemaphorePermit>,
    /// Room for the next piece, or a little more or less.
    room: Option<Reserved>,
    /// Of the keys, for as long as there are some.
    keys: Reserved,
    max_buffer: u64,
    rest: Option<Rest>,
}

impl fmt::Debug for BatchBody {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BatchBody").field("pieces", &self.pieces).finish_non_exhaustive()
    }
}

impl BatchBody {
    /// The first `count` nodes for each of `keys`, each key once, in the order given. `reserved` is the
    /// memory that the keys take.
    ///
    /// # Errors
    /// [`BodyFault::NoRoom`] for even the first piece.
    pub(super) async fn answer(
        service: Arc<Service>,
        keys: Vec<Vec<u8>>,
        count: usize,
        reserved: Reserved,
        max_buffer: u64,
        lane: Lane,
    ) -> Result<AnswerBody, BodyFault> {
        let pieces = Pieces::new(service, keys, count);
        let mut room = reserved.another();
        room.grow(pieces.expected(), max_buffer)?;
        let (room, keys, turn, rest) = (Some(room), reserved, None, None);
        let mut body = Self { pieces, lane, turn, room, keys, max_buffer, rest };
        let first = poll_fn(|cx| body.poll_chunk(cx)).await;
        if body.is_done() {
            return Ok(AnswerBody::Whole(first));
        }
        body.pieces.first = first;
        Ok(AnswerBody::Batch(Box::new(body)))
    }

    /// The next piece. Who reads slowly has no more than a few made for him, and all of them together
    /// no more than there is room for.
    pub(crate) fn poll_chunk(&mut self, cx: &mut Context<'_>) -> Poll<Option<Bytes>> {
        if let Some(first) = self.pieces.first.take() {
            return Poll::Ready(Some(first));
        }
        loop {
            if let Some(rest) = &mut self.rest {
                self.turn = ready!(rest.as_mut().poll(cx));
                self.rest = None;
            }
            if self.pieces.done {
                return Poll::Ready(None);
            }
            let Some(room) = self.room.take().or_else(|| self.more_room()) else {
                self.rest = Some(Box::pin(async {
                    tokio::time::sleep(NO_ROOM).await;
                    None
                }));
                continue;
            };
            let Some(turn) = self.turn.take() else {
                self.room = Some(room);
                let turns = self.lane.0.clone();
                // Nobody closes it.
                self.rest = Some(Box::pin(async { turns.acquire_owned().await.ok() }));
                continue;
            };
            let finished = self.pieces.work();
            Lane::pass(turn);
            if finished {
                return Poll::Ready(Some(room.hold(std::mem::take(&mut self.pieces.piece))));
            }
            self.room = Some(room);
        }
    }

    fn more_room(&self) -> Option<Reserved> {
        let mut room = self.keys.another();
        room.grow(self.pieces.expected(), self.max_buffer).ok().map(|()| room)
    }

    /// Whether nothing is left to come.
    pub(crate) fn is_done(&self) -> bool {
        self.pieces.done && self.pieces.first.is_none()
    }
}

#[derive(Debug)]
struct Pieces {
    service: Arc<Service>,
    keys: std::vec::IntoIter<Vec<u8>>,
    count: usize,
    answer: Answer,
    /// Made in order to know whether there is another.
    first: Option<Bytes>,
    /// In the making.
    piece: Vec<u8>,
    begun: bool,
    done: bool,
}

impl Pieces {
    fn new(service: Arc<Service>, mut keys: Vec<Vec<u8>>, count: usize) -> Self {
        let mut seen = HashSet::with_capacity(keys.len());
        let fresh: Vec<bool> = keys.iter().map(|key| seen.insert(key.as_slice())).collect();
        let mut fresh = fresh.into_iter();
        keys.retain(|_| fresh.next().unwrap_or(true));
        let (keys, answer, piece) = (keys.into_iter(), Answer::new(), Vec::new());
        Self { service, keys, count, answer, first: None, piece, begun: false, done: false }
    }

    /// The length of a piece: it is full, and then comes the answer for one more key.
    fn expected(&self) -> u64 {
        let all = self.service.names_length() / self.service.rings.len().max(1);
        (PIECE + self.count * all) as u64
    }

    /// Works on the piece for one turn; whether it is finished.
    fn work(&mut self) -> bool {
        let cost = match self.service.algorithm {
            // It weighs all nodes, which takes less each than ranking some.
            Algorithm::Rendezvous => self.service.rings.len() / 16 + self.count,
            Algorithm::Ring | Algorithm::Keyrouter02 => self.count,
        };
        for _ in 0..TURN / (cost + 20) + 1 {
            let Some(key) = self.keys.next() else {
                self.piece.extend_from_slice(if self.begun { b"}\n" } else { b"{}\n" });
                self.done = true;
                return true;
            };
            self.add(&key);
            if self.piece.len() >= PIECE {
                return true;
            }
        }
        false
    }

    fn add(&mut self, key: &[u8]) {
        self.piece.push(if self.begun { b',' } else { b'{' });
        self.begun = true;
        // Keys of a batch come out of JSON and are text.
        escape_into(&String::from_utf8_lossy(key), &mut self.piece);
        self.piece.push(b':');
        self.service.rings.route(key, self.count, &mut self.answer);
        self.service.write_nodes(self.answer.nodes(), &mut self.piece);
    }
}
