//! One stream of a peer's to us: in order, without duplicates, with its holes counted, handed on as there is room.

use std::collections::VecDeque;
use std::sync::Arc;

use crate::event::{ApiCall, Event, Message};
use crate::settings::MESSAGE_COST;
use crate::wire::{Frame, Kind, Record, Records, Seen};

/// What a peer may send before it is acknowledged. One message beyond it is taken, of any size.
pub(crate) const WINDOW_BYTES: usize = 4 << 20;
/// The same in messages.
pub(crate) const WINDOW_MESSAGES: usize = 65_536;

/// Lets a peer send that was held.
pub(crate) fn open() -> Frame {
    Frame::Window(WINDOW_BYTES as u64, WINDOW_MESSAGES as u64)
}

/// Why a data frame is not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Violation {
    #[error("it sent what is no record")]
    Malformed,
    #[error("it sent more than it was allowed to")]
    TooMuch,
    /// Not the peer's fault: what is missing has to be sent again, over another link.
    #[error("a frame was lost on the way")]
    Hole,
}

/// The stream.
#[derive(Debug, Default)]
pub(crate) struct Inbound {
    /// The number of the peer's stream; 0 before the first link.
    stream: u64,
    /// The peer may not send yet: this end greeted with a window of nothing.
    held: bool,
    /// Nothing was said yet about where it begins.
    fresh: bool,
    next: u64,
    acked: u64,
    told_ack: u64,
    waiting: VecDeque<Waiting>,
    bytes: usize,
    pub(crate) packets: u64,
    pub(crate) missed: u64,
}

#[derive(Debug)]
struct Waiting {
    /// Of an earlier stream than the present one, it needs no acknowledgement any more.
    stream: u64,
    missed: u64,
    record: Record,
}

impl Inbound {
    /// What this end has of the peer's stream, for its greeting.
    pub(crate) fn seen(&self) -> Option<Seen> {
        let Self { stream, next, acked, .. } = *self;
        (stream != 0).then_some(Seen { stream, next, acked })
    }

    /// Whether this is the stream that came over the last link.
    pub(crate) fn is_of(&self, stream: u64) -> bool {
        self.stream == stream
    }

    /// Whether a greeting that is written now offers a window of nothing. It does while something is unread, which
    /// may turn out to be of an earlier stream: only one stream at a time fills the window, or a peer that starts
    /// again and again would fill it each time.
    pub(crate) fn greets_holding(&mut self) -> bool {
        self.held = !self.waiting.is_empty();
        self.held
    }

    /// Whether the peer was held, and may send from now on: nothing of an earlier stream is unread.
    pub(crate) fn opens(&mut self) -> bool {
        let earlier = self.waiting.front().is_some_and(|waiting| waiting.stream != self.stream);
        !earlier && std::mem::take(&mut self.held)
    }

    /// A link stands, over which this stream of the peer comes.
    pub(crate) fn link_up(&mut self, stream: u64) {
        if self.stream != stream {
            (self.stream, self.fresh) = (stream, true);
            (self.next, self.acked) = (0, 0);
        }
        // The greeting may have been written before the last messages were handed on.
        self.told_ack = 0;
    }

    /// Where the stream begins, said by the peer.
    pub(crate) fn start(&mut self, position: u64) {
        if self.fresh {
            (self.next, self.acked, self.told_ack) = (position, position, position);
            self.fresh = false;
        }
    }

    /// Whether something that was sent, up to this position, did not come.
    pub(crate) fn misses(&self, position: u64) -> bool {
        self.fresh || position > self.next
    }

    /// Takes a data frame in. What its sender says is lost is counted; another hole is not passed over.
    pub(crate) fn take(&mut self, mut records: Records) -> Result<(), Violation> {
        if self.held {
            return Err(Violation::TooMuch);
        }
        if self.fresh || records.after > self.next {
            return Err(Violation::Hole);
        }
        while let Some(record) = records.next() {
            let record = record.map_err(|_| Violation::Malformed)?;
            if record.position < self.next {
                continue;
            }
            let bytes = self.bytes + cost(&record);
            let over = bytes > WINDOW_BYTES || self.waiting.len() >= WINDOW_MESSAGES;
            if over && !self.waiting.is_empty() {
                return Err(Violation::TooMuch);
            }
            let missed = record.position - self.next;
            self.missed = self.missed.saturating_add(missed);
            self.next = record.position + 1;
            self.bytes = bytes;
            self.waiting.push_back(Waiting { stream: self.stream, missed, record });
        }
        Ok(())
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// The next message, if it may be handed on: then it counts as acknowledged.
    pub(crate) fn hand_on(&mut self, node: &Arc<str>, room: &mut Room) -> Option<Event> {
        let cost = cost(&self.waiting.front()?.record);
        if !room.take(cost) {
            return None;
        }
        let Waiting { stream, missed, record } = self.waiting.pop_front()?;
        self.bytes -= cost;
        if stream == self.stream {
            self.acked = record.position + 1;
        }
        self.packets += 1;
        let Record { sequence, kind, label, payload, .. } = record;
        let node = Arc::clone(node);
        Some(match kind {
            Kind::Api => {
                Event::Api(ApiCall { from: node, action: label.unwrap_or_else(|| "".into()), data: payload })
            }
            _ => {
                let direct = kind == Kind::Direct;
                Event::Message(Message { node, sequence, missed, direct, content_type: label, payload })
            }
        })
    }

    /// The acknowledgement that the peer does not have yet.
    pub(crate) fn ack(&mut self) -> Option<u64> {
        // While all was handed on, also a hole at the end of the stream counts as done.
        (self.acked > self.told_ack).then(|| {
            self.told_ack = self.acked;
            self.acked
        })
    }

    pub(crate) fn acked(&self) -> u64 {
        self.acked
    }
}

fn cost(record: &Record) -> usize {
    record.payload.len() + record.label.as_ref().map_or(0, |label| label.len()) + MESSAGE_COST
}

/// What the application's streams have room for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Room {
    /// Messages.
    pub messages: usize,
    /// Bytes, with 64 for each message. One message more is taken, of any size.
    pub bytes: usize,
}

impl Room {
    /// Takes what a message needs; `false` when there is none left.
    fn take(&mut self, cost: usize) -> bool {
        if self.messages == 0 || self.bytes == 0 {
            return false;
        }
        self.messages -= 1;
        self.bytes = self.bytes.saturating_sub(cost);
        true
    }
}

#[cfg(test)]
mod tests;
