//! What waits for one reader: bounded, with what is left out told.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Waker;

use crate::event::Event;
use crate::settings::MESSAGE_COST;

/// Events that do not hold their senders back wait up to this many beside those that do; then members and the quorum
/// are told as they stand at last, and other events are counted and told as a gap.
pub(super) const OTHERS: usize = 4096;

/// What a stream is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Topic {
    All,
    Messages,
    Api,
    Joins,
    Leaves,
    Quorum,
    Log,
}

impl Topic {
    fn wants(self, event: &Event) -> bool {
        match event {
            _ if self == Self::All => true,
            Event::Message(_) => self == Self::Messages,
            Event::Api(_) => self == Self::Api,
            Event::Join(_) => self == Self::Joins,
            Event::Leave(_) => self == Self::Leaves,
            Event::Quorum(_) => self == Self::Quorum,
            Event::Log(_) => self == Self::Log,
            Event::Undelivered(_) | Event::Gap(_) => false,
        }
    }

    /// Whether messages or calls wait for its reader.
    pub(super) fn holds_back(self) -> bool {
        matches!(self, Self::All | Self::Messages | Self::Api)
    }
}

#[derive(Debug)]
pub(super) struct Queue {
    pub(super) topic: Topic,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
pub(super) struct State {
    events: VecDeque<Event>,
    /// Messages and calls among them.
    pub(super) messages: usize,
    pub(super) bytes: usize,
    /// The quorum that the reader knows.
    quorum: Option<bool>,
    left_out: u64,
    pub(super) closed: bool,
    /// Messages wait until there is room.
    pub(super) starved: bool,
    pub(super) waker: Option<Waker>,
}

impl Queue {
    pub(super) fn new(topic: Topic) -> Self {
        Self { topic, state: Mutex::default() }
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds what it wants, and wakes its reader once.
    pub(super) fn add(&self, events: impl IntoIterator<Item = Event>) {
        let waker = {
            let mut state = self.lock();
            for event in events.into_iter().filter(|event| self.topic.wants(event)) {
                state.add(event);
            }
            if state.is_empty() { None } else { state.waker.take() }
        };
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    pub(super) fn close(&self) {
        let waker = {
            let mut state = self.lock();
            state.closed = true;
            state.waker.take()
        };
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}

/// What an event takes of the room that its sender was given; `None`: its sender needs none.
fn cost(event: &Event) -> Option<usize> {
    let (label, payload) = match event {
        Event::Message(message) => (message.content_type.as_deref(), &message.payload),
        Event::Api(call) => (Some(&*call.action), &call.data),
        _ => return None,
    };
    Some(label.map_or(0, str::len) + payload.len() + MESSAGE_COST)
}

/// The node that joined or left.
fn who(event: &Event) -> Option<&Arc<str>> {
    match event {
        Event::Join(name) | Event::Leave(name) => Some(name),
        _ => None,
    }
}

impl State {
    pub(super) fn is_empty(&self) -> bool {
        self.events.is_empty() && self.left_out == 0
    }

    pub(super) fn add(&mut self, event: Event) {
        if let Some(cost) = cost(&event) {
            // There is room: the driver asked before.
            (self.messages, self.bytes) = (self.messages + 1, self.bytes + cost);
        } else if self.events.len() - self.messages >= OTHERS && !self.is_kept(&event) {
            self.left_out += 1;
            return;
        }
        if self.left_out > 0 {
            self.events.push_back(Event::Gap(std::mem::take(&mut self.left_out)));
        }
        self.events.push_back(event);
    }

    /// Whether an event is kept though there is no room. How members and the quorum stand at last is, in place of how
    /// they stood before: at most one event of each name, and one of the quorum, comes to the others in that way.
    fn is_kept(&mut self, event: &Event) -> bool {
        let last = |wanted: &dyn Fn(&Event) -> bool| self.events.iter().rposition(wanted);
        match event {
            Event::Join(name) | Event::Leave(name) => match last(&|event| who(event) == Some(name)) {
                // A reader of joins alone, or of leaves alone: it is told already.
                Some(at) if self.events[at] == *event => false,
                // The node is again what the reader takes it for.
                Some(at) => {
                    self.events.remove(at);
                    self.left_out += 1;
                    false
                }
                None => true,
            },
            Event::Quorum(quorum) => {
                if let Some(at) = last(&|event| matches!(event, Event::Quorum(_))) {
                    self.events.remove(at);
                    self.left_out += 1;
                }
                let told = self.events.iter().rev().find_map(|event| match event {
                    Event::Quorum(told) => Some(*told),
                    _ => None,
                });
                told.or(self.quorum) != Some(*quorum)
            }
            _ => false,
        }
    }

    pub(super) fn take(&mut self) -> Option<Event> {
        let Some(event) = self.events.pop_front() else {
            return (self.left_out > 0).then(|| Event::Gap(std::mem::take(&mut self.left_out)));
        };
        if let Some(cost) = cost(&event) {
            (self.messages, self.bytes) = (self.messages - 1, self.bytes - cost);
        }
        if let Event::Quorum(quorum) = event {
            self.quorum = Some(quorum);
        }
        Some(event)
    }
}
