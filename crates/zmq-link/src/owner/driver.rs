//! One socket in the owner thread: what comes in, what goes out, how it ends.

use std::collections::{HashMap, VecDeque};
use std::os::fd::RawFd;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use zmq::{Message, Socket};

use crate::counters::{many, one};
use crate::error::SendError;
use crate::event::{Discard, EventKind};
use crate::message::{Incoming, Multipart, Peer, PeerId, received};
use crate::options::{Limits, SocketOptions};
use crate::outbox::{Freed, Outgoing};
use crate::owner::end::{Closing, Rebinding};
use crate::owner::monitor::{Line, Monitor};
use crate::owner::peers::Peers;
use crate::owner::revival::Revival;
use crate::repeats::Repeats;
use crate::shared::Shared;

/// So many messages are read before the other sockets get their turn.
const BATCH: usize = 512;
/// How long a ROUTER may miss that a peer has room again. libzmq's sign of it is noticed at once but for a rare race.
const LOOK_AGAIN: Duration = Duration::from_millis(5);

/// What a socket asks of the loop.
#[derive(Debug, Default, Clone, Copy)]
pub(super) struct Next {
    /// It has more to do at once.
    pub(super) again: bool,
    /// It wants to be asked again by then.
    pub(super) by: Option<Instant>,
}

/// A socket and all that is on its way through it.
pub(super) struct Driver {
    pub(super) id: u64,
    pub(super) shared: Arc<Shared>,
    pub(super) options: SocketOptions,
    /// `None` once it was closed and only its end is awaited.
    pub(super) socket: Option<Socket>,
    pub(super) fd: RawFd,
    pub(super) monitor: Monitor,
    pub(super) endpoint: String,
    pub(super) side: Side,
    /// Whether libzmq is given messages: always on a ROUTER, on a DEALER while its connection stands.
    pub(super) is_up: bool,
    /// On a DEALER, who sends all messages.
    pub(super) server: Arc<Peer>,
    /// Per peer, what libzmq had no room for yet.
    pub(super) waiting: HashMap<PeerId, VecDeque<Outgoing>>,
    pub(super) closing: Option<Closing>,
    pub(super) rebinding: Option<Rebinding>,
    pub(super) scratch: Scratch,
    pub(super) repeats: Repeats<EventLine>,
}

/// Which end of connections the socket is.
pub(super) enum Side {
    /// A ROUTER, with those it knows.
    Listens(Peers),
    /// A DEALER, with what brings its connection back.
    Connects(Box<Revival>),
}

/// Kinds of lines that the driver logs.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) enum EventLine {
    Unreachable,
    Discarded(PeerId),
}

/// Buffers that keep their room from pass to pass.
#[derive(Default)]
pub(super) struct Scratch {
    intake: Vec<Outgoing>,
    batch: Vec<Incoming>,
    freed: Vec<Freed>,
    undelivered: Vec<(PeerId, usize)>,
    sent: usize,
    sent_bytes: usize,
}

/// What libzmq did with a message.
enum Attempt {
    Taken,
    /// There is no room.
    Later,
    /// The connection ended between two frames; the next one gets the message whole.
    CutOff,
    Unreachable,
}

fn attempt(socket: &Socket, item: &Outgoing, routes: bool) -> Attempt {
    if routes {
        match socket.send(item.to.as_bytes(), zmq::DONTWAIT | zmq::SNDMORE) {
            Ok(()) => {}
            Err(zmq::Error::EHOSTUNREACH) => return Attempt::Unreachable,
            Err(_) => return Attempt::Later,
        }
    }
    let last = item.message.len() - 1;
    for (index, frame) in item.message.iter().enumerate() {
        let more = if index < last { zmq::SNDMORE } else { 0 };
        // Copied: when libzmq has no room, the message is still ours.
        if socket.send(&frame[..], zmq::DONTWAIT | more).is_ok() {
            continue;
        }
        if index == 0 {
            return Attempt::Later;
        }
        // libzmq drops the rest of the message, but has to be given it, up to the last frame.
        for (rest, frame) in item.message.iter().enumerate().skip(index + 1) {
            let more = if rest < last { zmq::SNDMORE } else { 0 };
            let _ = socket.send(&frame[..], zmq::DONTWAIT | more);
        }
        return Attempt::CutOff;
    }
    Attempt::Taken
}

impl Driver {
    /// Does all that can be done now.
    pub(super) fn service(&mut self, now: Instant) -> Next {
        self.shared.signal.lower();
        let looked = self.monitor.look();
        if let (Side::Connects(_), Some(line)) = (&self.side, looked.line) {
            self.is_up = line == Line::Up;
        }
        let mut next = Next { again: looked.more, by: None };
        if self.socket.is_some() {
            self.receive();
            self.send();
            // The last look at the socket before a sleep: whatever libzmq signals after it ends the sleep.
            next.again |= self.can_go_on();
            next.by = match &mut self.side {
                Side::Listens(_) => (!self.waiting.is_empty()).then_some(now + LOOK_AGAIN),
                Side::Connects(revival) => {
                    self.socket.as_mut().and_then(|socket| revival.tend(socket, looked.line, now))
                }
            };
        }
        let end = self.tend_end(now, looked.stopped);
        next.again |= end.again;
        next.by = next.by.into_iter().chain(end.by).min();
        next
    }

    fn routes(&self) -> bool {
        matches!(self.side, Side::Listens(_))
    }

    fn can_go_on(&self) -> bool {
        let Some(events) = self.socket.as_ref().and_then(|socket| socket.get_events().ok()) else {
            return false;
        };
        let reads = events.contains(zmq::POLLIN) && self.shared.inbox.room().messages > 0;
        // A ROUTER says that it can write when any peer has room, which need not be the one that waits.
        let writes =
            events.contains(zmq::POLLOUT) && !self.waiting.is_empty() && !self.routes() && self.is_up;
        reads || writes
    }

    fn receive(&mut self) {
        let room = self.shared.inbox.room();
        let most = room.messages.min(BATCH);
        let (mut cost, mut bytes) = (0, 0);
        if let Side::Listens(peers) = &mut self.side {
            peers.next_batch();
        }
        while self.scratch.batch.len() < most && cost < room.bytes {
            match self.next_message() {
                None => break,
                Some(Err((from, reason))) => self.discarded(from, reason),
                Some(Ok(incoming)) => {
                    cost += incoming.message.cost();
                    bytes += incoming.message.byte_len();
                    self.scratch.batch.push(incoming);
                }
            }
        }
        if !self.scratch.batch.is_empty() {
            many(&self.shared.counters().received, self.scratch.batch.len());
            many(&self.shared.counters().received_bytes, bytes);
            self.shared.inbox.add(&mut self.scratch.batch, cost);
        }
    }

    /// The next whole message, or why it is discarded.
    fn next_message(&mut self) -> Option<Result<Incoming, (PeerId, Discard)>> {
        let socket = self.socket.as_ref()?;
        let mut frame = socket.recv_msg(zmq::DONTWAIT).ok()?;
        let mut from = Ok(Arc::clone(&self.server));
        let mut more = true;
        if let Side::Listens(peers) = &mut self.side {
            let id = frame;
            more = id.get_more();
            // The rest of a message that has begun is always there.
            frame = if more { socket.recv_msg(zmq::DONTWAIT).ok()? } else { Message::new() };
            from = peers.sender(&id, &mut frame);
        }
        let (mut message, mut bytes, mut frames) = (Multipart::default(), 0, 0);
        while more {
            more = frame.get_more();
            (frames, bytes) = (frames + 1, bytes + frame.len());
            if frames <= self.options.max_frames && bytes <= self.options.max_message {
                message.push(received(frame));
            }
            frame = if more { socket.recv_msg(zmq::DONTWAIT).ok()? } else { Message::new() };
        }
        Some(match from {
            Err(id) => Err((id, Discard::NotAllowed)),
            Ok(peer) if message.len() < frames => Err((peer.id.clone(), Discard::TooLarge)),
            Ok(from) => Ok(Incoming { from, message }),
        })
    }

    fn discarded(&mut self, from: PeerId, reason: Discard) {
        let counters = self.shared.counters();
        let (counter, text) = match reason {
            Discard::TooLarge => (&counters.inbound_too_large, "it exceeds the limits of the socket"),
            Discard::NotAllowed => (&counters.inbound_not_allowed, "its sender's key is no longer allowed"),
        };
        one(counter);
        if let Some(left_out) = self.repeats.ask(EventLine::Discarded(from.clone()), Instant::now()) {
            let socket = &*self.shared.name;
            tracing::warn!(socket, peer = %from, left_out, "a message that came in was discarded: {text}");
        }
        self.shared.tell(None, EventKind::Discarded { from, reason });
    }

    fn send(&mut self) {
        let mut waiting = std::mem::take(&mut self.waiting);
        waiting.retain(|_, queue| {
            while queue.front_mut().is_some_and(|item| self.settle(item)) {
                queue.pop_front();
            }
            !queue.is_empty()
        });
        let mut intake = std::mem::take(&mut self.scratch.intake);
        self.shared.outbox.fetch(&mut intake);
        for mut item in intake.drain(..) {
            if let Some(queue) = waiting.get_mut(&item.to) {
                queue.push_back(item);
            } else if !self.settle(&mut item) {
                one(&self.shared.counters().held_back);
                waiting.insert(item.to.clone(), VecDeque::from([item]));
            }
        }
        self.scratch.intake = intake;
        self.waiting = waiting;
        many(&self.shared.counters().sent, std::mem::take(&mut self.scratch.sent));
        many(&self.shared.counters().sent_bytes, std::mem::take(&mut self.scratch.sent_bytes));
        self.shared.outbox.free(&mut self.scratch.freed);
        self.report_undelivered();
    }

    /// Gives a message to libzmq; `false` when there is no room and it has to wait.
    fn settle(&mut self, item: &mut Outgoing) -> bool {
        let attempt = match &self.socket {
            Some(socket) if self.is_up => attempt(socket, item, self.routes()),
            _ => Attempt::Later,
        };
        match attempt {
            Attempt::Later => return false,
            Attempt::CutOff => {
                one(&self.shared.counters().cut_off);
                return false;
            }
            Attempt::Taken => {
                self.scratch.sent += 1;
                self.scratch.sent_bytes += item.message.byte_len();
                item.tell(Ok(()));
            }
            Attempt::Unreachable => {
                match self.scratch.undelivered.last_mut() {
                    Some((to, count)) if *to == item.to => *count += 1,
                    _ => self.scratch.undelivered.push((item.to.clone(), 1)),
                }
                item.tell(Err(SendError::Unreachable));
            }
        }
        self.note_freed(item);
        true
    }

    fn note_freed(&mut self, item: &Outgoing) {
        match self.scratch.freed.last_mut() {
            Some(freed) if freed.to == item.to => {
                freed.used.messages += 1;
                freed.used.bytes += item.cost;
            }
            _ => {
                let used = Limits { messages: 1, bytes: item.cost };
                self.scratch.freed.push(Freed { to: item.to.clone(), used });
            }
        }
    }

    fn report_undelivered(&mut self) {
        for (to, messages) in std::mem::take(&mut self.scratch.undelivered) {
            many(&self.shared.counters().unreachable, messages);
            if let Some(left_out) = self.repeats.ask(EventLine::Unreachable, Instant::now()) {
                let socket = &*self.shared.name;
                tracing::warn!(socket, peer = %to, messages, left_out, "not delivered: no such peer is connected");
            }
            self.shared.tell(None, EventKind::Undelivered { to, messages, reason: SendError::Unreachable });
        }
    }

    /// What was not sent, given up: how many messages and bytes.
    pub(super) fn give_up(&mut self) -> (usize, usize) {
        self.shared.outbox.fetch(&mut self.scratch.intake);
        let queued = self.waiting.drain().flat_map(|(_, queue)| queue);
        let (mut messages, mut bytes) = (0, 0);
        for mut item in queued.chain(self.scratch.intake.drain(..)) {
            messages += 1;
            bytes += item.message.byte_len();
            item.tell(Err(SendError::Closed));
        }
        self.shared.counters().unsent_at_close.fetch_add(messages as u64, Relaxed);
        (messages, bytes)
    }
}
