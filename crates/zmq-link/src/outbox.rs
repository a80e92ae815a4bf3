//! The way out: a bounded lane per peer in front of the owner thread.

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::{Notify, oneshot};

use crate::counters::one;
use crate::error::SendError;
use crate::message::{Multipart, PeerId};
use crate::options::Limits;
use crate::shared::Signal;

/// A message on its way to the owner thread.
#[derive(Debug)]
pub(crate) struct Outgoing {
    pub(crate) to: PeerId,
    pub(crate) message: Multipart,
    pub(crate) cost: usize,
    /// Where the outcome is told, if anybody asked.
    pub(crate) told: Option<oneshot::Sender<Result<(), SendError>>>,
}

impl Outgoing {
    pub(crate) fn new(to: &PeerId, message: Multipart) -> Self {
        let cost = message.cost();
        Self { to: to.clone(), message, cost, told: None }
    }

    pub(crate) fn tell(&mut self, outcome: Result<(), SendError>) {
        if let Some(told) = self.told.take() {
            // Nobody waits any more: fine.
            let _ = told.send(outcome);
        }
    }
}

/// All lanes of a socket.
#[derive(Debug)]
pub(crate) struct Outbox {
    state: Mutex<State>,
    limits: Limits,
    max_message: usize,
    max_frames: usize,
    signal: Arc<Signal>,
}

#[derive(Debug, Default)]
struct State {
    closed: bool,
    /// What the owner has not fetched yet, of all lanes, in order.
    intake: Vec<Outgoing>,
    lanes: HashMap<PeerId, Lane>,
}

/// What a peer's messages take, from the sender's call until libzmq took them.
#[derive(Debug, Default)]
struct Lane {
    used: Limits,
    room: Arc<Room>,
}

/// Where senders wait, in the order of their coming.
#[derive(Debug, Default)]
struct Room {
    turn: tokio::sync::Mutex<()>,
    freed: Notify,
    waiting: AtomicUsize,
}

/// One who waits, counted until it stops waiting, also when its future is dropped.
struct Waiting(Arc<Room>);

impl Drop for Waiting {
    fn drop(&mut self) {
        self.0.waiting.fetch_sub(1, Relaxed);
    }
}

/// What a lane gets back.
#[derive(Debug)]
pub(crate) struct Freed {
    pub(crate) to: PeerId,
    pub(crate) used: Limits,
}

impl Outbox {
    pub(crate) fn new(limits: Limits, max_message: usize, max_frames: usize, signal: Arc<Signal>) -> Self {
        Self { state: Mutex::default(), limits, max_message, max_frames, signal }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Refuses what no socket of these options ever sends.
    pub(crate) fn check(&self, message: &Multipart) -> Result<(), SendError> {
        if message.is_empty() {
            return Err(SendError::Empty);
        }
        if message.len() > self.max_frames || message.byte_len() > self.max_message {
            one(&self.signal.counters.refused_too_large);
            return Err(SendError::TooLarge);
        }
        Ok(())
    }

    /// Takes as many from the front as there is room for; those who already wait come first.
    pub(crate) fn offer(&self, to: &PeerId, items: &mut VecDeque<Outgoing>) -> Result<(), SendError> {
        self.offer_in_turn(to, items, false)
    }

    fn offer_in_turn(
        &self,
        to: &PeerId,
        items: &mut VecDeque<Outgoing>,
        my_turn: bool,
    ) -> Result<(), SendError> {
        let mut taken = false;
        {
            let mut state = self.lock();
            let State { closed, intake, lanes } = &mut *state;
            if *closed {
                return Err(SendError::Closed);
            }
            let lane = lanes.entry(to.clone()).or_default();
            if my_turn || lane.room.waiting.load(Relaxed) == 0 {
                while let Some(item) = items.front() {
                    let (messages, bytes) = (lane.used.messages + 1, lane.used.bytes + item.cost);
                    if messages > self.limits.messages || bytes > self.limits.bytes {
                        break;
                    }
                    lane.used = Limits { messages, bytes };
                    intake.extend(items.pop_front());
                    taken = true;
                }
            }
        }
        if taken {
            self.signal.raise();
        }
        Ok(())
    }

    /// Takes one if there is room, without waiting.
    pub(crate) fn offer_one(&self, item: Outgoing) -> Result<(), Box<(SendError, Outgoing)>> {
        {
            let mut state = self.lock();
            let State { closed, intake, lanes } = &mut *state;
            if *closed {
                return Err(Box::new((SendError::Closed, item)));
            }
            // Most sends go to a peer that has a lane, and then its name need not be copied.
            let lane = match lanes.get_mut(&item.to) {
                Some(lane) => lane,
                None => lanes.entry(item.to.clone()).or_default(),
            };
            let (messages, bytes) = (lane.used.messages + 1, lane.used.bytes + item.cost);
            let full = messages > self.limits.messages || bytes > self.limits.bytes;
            if full || lane.room.waiting.load(Relaxed) > 0 {
                return Err(Box::new((SendError::Full, item)));
            }
            lane.used = Limits { messages, bytes };
            intake.push(item);
        }
        self.signal.raise();
        Ok(())
    }

    /// Takes all, waiting for room. What was not taken when the future is dropped is not sent.
    pub(crate) async fn put(&self, to: &PeerId, mut items: VecDeque<Outgoing>) -> Result<(), SendError> {
        self.offer(to, &mut items)?;
        if items.is_empty() {
            return Ok(());
        }
        one(&self.signal.counters.waited);
        let waiting = {
            let mut state = self.lock();
            let room = Arc::clone(&state.lanes.entry(to.clone()).or_default().room);
            room.waiting.fetch_add(1, Relaxed);
            Waiting(room)
        };
        let _turn = waiting.0.turn.lock().await;
        loop {
            self.offer_in_turn(to, &mut items, true)?;
            if items.is_empty() {
                return Ok(());
            }
            waiting.0.freed.notified().await;
        }
    }

    /// What came since the last call, for the owner; `into` is empty.
    pub(crate) fn fetch(&self, into: &mut Vec<Outgoing>) {
        std::mem::swap(&mut self.lock().intake, into);
    }

    /// Gives lanes their room back.
    pub(crate) fn free(&self, freed: &mut Vec<Freed>) {
        if freed.is_empty() {
            return;
        }
        let mut state = self.lock();
        for Freed { to, used } in freed.drain(..) {
            let Some(lane) = state.lanes.get_mut(&to) else { continue };
            lane.used.messages -= used.messages;
            lane.used.bytes -= used.bytes;
            if lane.room.waiting.load(Relaxed) > 0 {
                lane.room.freed.notify_one();
            } else if lane.used.messages == 0 && !to.as_bytes().is_empty() {
                state.lanes.remove(&to);
            }
        }
    }

    /// From now on nothing is taken; those who wait are told.
    pub(crate) fn close(&self) {
        let mut state = self.lock();
        state.closed = true;
        // Each one that is woken passes its turn on, and the next one looks before it waits.
        state.lanes.values().for_each(|lane| lane.room.freed.notify_one());
    }
}
