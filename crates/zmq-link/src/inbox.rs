//! The way in: one bounded queue between the owner thread and the reader.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

use crate::counters::one;
use crate::message::Incoming;
use crate::options::Limits;
use crate::shared::Signal;

/// How many messages a reader takes out at a time, beyond the bounds of the queue.
const PORTION: usize = 512;

/// The queue.
#[derive(Debug)]
pub(crate) struct Inbox {
    state: Mutex<State>,
    filled: Notify,
    limits: Limits,
    signal: Arc<Signal>,
}

#[derive(Debug, Default)]
struct State {
    queue: VecDeque<Incoming>,
    bytes: usize,
    /// The owner does not read the socket until it is told that there is room.
    paused: bool,
    closed: bool,
}

impl Inbox {
    pub(crate) fn new(limits: Limits, signal: Arc<Signal>) -> Self {
        Self { state: Mutex::default(), filled: Notify::new(), limits, signal }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How much the owner may read now. Nothing: it is told (by the signal) when there is room again.
    pub(crate) fn room(&self) -> Limits {
        let mut state = self.lock();
        let messages = self.limits.messages.saturating_sub(state.queue.len());
        let bytes = self.limits.bytes.saturating_sub(state.bytes);
        if messages == 0 || bytes == 0 {
            if !state.paused {
                one(&self.signal.counters.inbound_paused);
            }
            state.paused = true;
            return Limits { messages: 0, bytes: 0 };
        }
        Limits { messages, bytes }
    }

    /// Adds a batch and wakes the reader once.
    pub(crate) fn add(&self, batch: &mut Vec<Incoming>, bytes: usize) {
        let was_empty = {
            let mut state = self.lock();
            let was_empty = state.queue.is_empty();
            state.queue.extend(batch.drain(..));
            state.bytes += bytes;
            was_empty
        };
        if was_empty {
            self.filled.notify_one();
        }
    }

    /// How many nobody has read.
    pub(crate) fn unread(&self) -> usize {
        self.lock().queue.len()
    }

    /// Nothing more will come; what is there can still be read.
    pub(crate) fn close(&self) {
        self.lock().closed = true;
        self.filled.notify_one();
    }

    /// Moves what is there, up to a portion, to the reader; `false` when it is closed and empty.
    fn take(&self, into: &mut VecDeque<Incoming>) -> bool {
        let resumed = {
            let mut state = self.lock();
            if state.queue.is_empty() {
                return !state.closed;
            }
            let mut portion = self.limits.bytes / 4;
            while into.len() < PORTION && (portion > 0 || into.is_empty()) {
                let Some(next) = state.queue.pop_front() else { break };
                let cost = next.message.cost();
                state.bytes = state.bytes.saturating_sub(cost);
                portion = portion.saturating_sub(cost);
                into.push_back(next);
            }
            // Half empty before the socket is read again, so that the two do not wake each other at each message.
            let half_empty =
                state.queue.len() <= self.limits.messages / 2 && state.bytes <= self.limits.bytes / 2;
            let resumed = state.paused && half_empty;
            state.paused &= !half_empty;
            resumed
        };
        if resumed {
            self.signal.raise();
        }
        true
    }

    /// Waits for messages and moves a portion to `into`, which is empty; `false` when no more will come.
    pub(crate) async fn wait(&self, into: &mut VecDeque<Incoming>) -> bool {
        loop {
            let open = self.take(into);
            if !into.is_empty() {
                return true;
            }
            if !open {
                return false;
            }
            self.filled.notified().await;
        }
    }

    /// Moves a portion to `into` without waiting.
    pub(crate) fn try_take(&self, into: &mut VecDeque<Incoming>) {
        self.take(into);
    }
}
