//! One stream of ours to one peer: what it has not acknowledged, what is under way, what is lost.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use crate::core::Time;
use crate::event::Undelivered;
use crate::wire::{BATCH, Batch, Kind, Seen};

/// A peer that has acknowledged nothing for so long holds nobody up. How long its acknowledgements usually take is
/// added, up to `MOST_USUAL`, so that a far peer, or one on a busy machine, is not taken for a stalled one.
const STALL: Duration = Duration::from_millis(50);
const MOST_USUAL: Duration = Duration::from_millis(80);
/// Losses are gathered for so long before they are told.
const TELL_LOSSES: Duration = Duration::from_secs(1);

/// A message on its way to one or more peers.
#[derive(Debug)]
pub(crate) struct Outgoing {
    pub(crate) sequence: u64,
    pub(crate) kind: Kind,
    pub(crate) label: Option<Arc<str>>,
    pub(crate) payload: Bytes,
    pub(crate) cost: usize,
}

#[derive(Debug)]
struct Entry {
    position: u64,
    message: Arc<Outgoing>,
}

/// The bounds of a window.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Bounds {
    pub(crate) bytes: usize,
    pub(crate) messages: usize,
}

impl Bounds {
    pub(crate) fn of(bytes: u64, messages: u64) -> Self {
        let size = |number| usize::try_from(number).unwrap_or(usize::MAX);
        Self { bytes: size(bytes), messages: size(messages) }
    }
}

/// Messages lost in a row, not told yet.
#[derive(Debug)]
struct Loss {
    from: u64,
    to: u64,
    count: u64,
    since: Time,
}

/// The stream.
#[derive(Debug)]
pub(crate) struct Outbound {
    /// Its number, by which the peer knows it from one before.
    stream: u64,
    window: VecDeque<Entry>,
    bytes: usize,
    next_position: u64,
    /// So many of the window were given to the link that stands.
    sent: usize,
    sent_bytes: usize,
    /// Positions below were given to some link.
    ever_sent: u64,
    /// Where the last frame on the link that stands ended; what lies behind it and is not sent next is lost.
    told_to: u64,
    /// What the peer takes in before it acknowledges; `None` while no link stands.
    limit: Option<Bounds>,
    /// When it last acknowledged something, or began to have something to acknowledge.
    progress_at: Time,
    /// The longest of the last times between acknowledgements, fading.
    usual: Duration,
    /// Since when no link stands.
    away_since: Time,
    loss: Option<Loss>,
    pub(crate) resent: u64,
    pub(crate) undelivered: u64,
}

impl Outbound {
    pub(crate) fn new(stream: u64, now: Time) -> Self {
        Self {
            stream,
            window: VecDeque::new(),
            bytes: 0,
            next_position: 0,
            sent: 0,
            sent_bytes: 0,
            ever_sent: 0,
            told_to: 0,
            limit: None,
            progress_at: now,
            usual: Duration::ZERO,
            away_since: now,
            loss: None,
            resent: 0,
            undelivered: 0,
        }
    }

    pub(crate) fn stream(&self) -> u64 {
        self.stream
    }

    /// Whether all positions below this one were given to some link.
    pub(crate) fn was_sent(&self, next: u64) -> bool {
        next <= self.ever_sent
    }

    /// Where the last frame on the link that stands ended.
    pub(crate) fn told_to(&self) -> u64 {
        self.told_to
    }

    pub(crate) fn len(&self) -> usize {
        self.window.len()
    }

    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    pub(crate) fn has_room(&self, cost: usize, bounds: Bounds) -> bool {
        self.window.len() < bounds.messages && self.bytes + cost <= bounds.bytes
    }

    /// Whether nothing was acknowledged for too long.
    pub(crate) fn is_stalled(&self, now: Time, lag: Duration) -> bool {
        !self.window.is_empty() && now >= self.stalls_at(lag)
    }

    pub(crate) fn stalls_at(&self, lag: Duration) -> Time {
        self.progress_at + STALL + lag.max(self.usual * 2).min(MOST_USUAL)
    }

    /// When what is kept is given up, if no link comes before.
    pub(crate) fn expires_at(&self, resend_for: Duration) -> Option<Time> {
        (self.limit.is_none() && !self.window.is_empty()).then(|| self.away_since + resend_for)
    }

    pub(crate) fn is_gone(&self, now: Time, resend_for: Duration) -> bool {
        self.limit.is_none() && now >= self.away_since + resend_for
    }

    /// Takes a message in.
    pub(crate) fn push(&mut self, message: &Arc<Outgoing>, now: Time) {
        if self.window.is_empty() {
            self.progress_at = now;
        }
        self.bytes += message.cost;
        self.window.push_back(Entry { position: self.next_position, message: Arc::clone(message) });
        self.next_position += 1;
    }

    /// A message that will not be kept: its position stays empty.
    pub(crate) fn lose(&mut self, sequence: u64, now: Time) {
        self.next_position += 1;
        self.note_loss(sequence, now);
    }

    fn note_loss(&mut self, sequence: u64, now: Time) {
        self.undelivered += 1;
        match &mut self.loss {
            Some(loss) => {
                (loss.from, loss.to) = (loss.from.min(sequence), loss.to.max(sequence));
                loss.count += 1;
            }
            None => self.loss = Some(Loss { from: sequence, to: sequence, count: 1, since: now }),
        }
    }

    /// When the gathered losses are to be told.
    pub(crate) fn tells_at(&self) -> Option<Time> {
        self.loss.as_ref().map(|loss| loss.since + TELL_LOSSES)
    }

    /// The gathered losses.
    pub(crate) fn take_losses(&mut self, node: &Arc<str>) -> Option<Undelivered> {
        let Loss { from, to, count, .. } = self.loss.take()?;
        Some(Undelivered { node: Arc::clone(node), from, to, count })
    }

    /// A link stands. `seen` is what this run of the peer has of this run of ours; `None`: nothing, and then what
    /// was under way to the run before may have arrived there and is not sent again.
    pub(crate) fn link_up(&mut self, seen: Option<Seen>, limit: Bounds, now: Time) {
        self.limit = Some(limit);
        self.progress_at = now;
        (self.sent, self.sent_bytes) = (0, 0);
        let Some(seen) = seen else {
            let ever_sent = self.ever_sent;
            self.drop_front(|entry| entry.position < ever_sent, now);
            self.told_to = self.start();
            return;
        };
        self.told_to = seen.next;
        self.release(seen.acked);
        self.sent = self.window.partition_point(|entry| entry.position < seen.next);
        self.sent_bytes = self.window.iter().take(self.sent).map(|entry| entry.message.cost).sum();
        let again = self.window.partition_point(|entry| entry.position < self.ever_sent);
        self.resent += again.saturating_sub(self.sent) as u64;
    }

    /// The position with which a peer that has nothing begins, and which it may acknowledge.
    pub(crate) fn start(&mut self) -> u64 {
        let start = self.window.front().map_or(self.next_position, |entry| entry.position);
        self.ever_sent = self.ever_sent.max(start);
        start
    }

    /// The peer takes so much from now on.
    pub(crate) fn set_limit(&mut self, limit: Bounds) {
        if self.limit.is_some() {
            self.limit = Some(limit);
        }
    }

    /// No link stands any more.
    pub(crate) fn link_down(&mut self, now: Time) {
        if self.limit.take().is_some() {
            self.away_since = now;
        }
    }

    /// Gives up all that is kept.
    pub(crate) fn clear(&mut self, now: Time) {
        self.drop_front(|_| true, now);
    }

    fn drop_front(&mut self, lost: impl Fn(&Entry) -> bool, now: Time) {
        while let Some(entry) = self.window.pop_front_if(|entry| lost(entry)) {
            self.bytes -= entry.message.cost;
            self.note_loss(entry.message.sequence, now);
        }
        (self.sent, self.sent_bytes) = (0, 0);
    }

    /// Forgets what the peer's application has; how many messages that were.
    fn release(&mut self, acked: u64) -> usize {
        let mut released = 0;
        while let Some(entry) = self.window.pop_front_if(|entry| entry.position < acked) {
            self.bytes -= entry.message.cost;
            if self.sent > 0 {
                self.sent -= 1;
                self.sent_bytes -= entry.message.cost;
            }
            released += 1;
        }
        released
    }

    /// An acknowledgement; `None` when it is for what was never sent.
    pub(crate) fn ack(&mut self, acked: u64, now: Time) -> Option<usize> {
        if acked > self.ever_sent {
            return None;
        }
        let released = self.release(acked);
        if released > 0 {
            let took = now.saturating_sub(self.progress_at).min(MOST_USUAL);
            self.usual = took.max(self.usual - self.usual / 16);
            self.progress_at = now;
        }
        Some(released)
    }

    /// Whether something could go out.
    pub(crate) fn can_send(&self) -> bool {
        let Some(limit) = self.limit else { return false };
        let Some(next) = self.window.get(self.sent) else { return false };
        limit.messages > 0 && self.sent == 0
            || (self.sent < limit.messages && self.sent_bytes + next.message.cost <= limit.bytes)
    }

    /// The next data frame, of as many messages as follow each other and the peer takes.
    pub(crate) fn frame(&self) -> Option<(Bytes, Sent)> {
        let limit = self.limit?;
        if !self.can_send() {
            return None;
        }
        let first = self.window.get(self.sent)?;
        let room = (self.bytes - self.sent_bytes).min(BATCH.max(first.message.cost));
        let mut batch = Batch::new(self.told_to, first.position, room);
        let (mut messages, mut bytes) = (0, 0);
        for entry in self.window.range(self.sent..) {
            let message = &*entry.message;
            let over = self.sent + messages >= limit.messages
                || self.sent_bytes + bytes + message.cost > limit.bytes;
            let hole = entry.position != first.position + messages as u64;
            let (label, payload) = (message.label.as_deref(), &message.payload);
            if (messages > 0 || self.sent > 0) && over || hole || !batch.fits(label, payload) {
                break;
            }
            batch.push(message.sequence, message.kind, label, payload);
            (messages, bytes) = (messages + 1, bytes + message.cost);
        }
        Some((batch.finish(), Sent { messages, bytes, up_to: first.position + messages as u64 }))
    }

    /// The frame was taken by the link.
    pub(crate) fn sent(&mut self, sent: &Sent) {
        self.sent += sent.messages;
        self.sent_bytes += sent.bytes;
        self.ever_sent = self.ever_sent.max(sent.up_to);
        self.told_to = sent.up_to;
    }
}

/// What a frame carries.
#[derive(Debug)]
pub(crate) struct Sent {
    messages: usize,
    bytes: usize,
    up_to: u64,
}

#[cfg(test)]
mod tests;
