//! Messages: taken from the application, sent, and handed to it.

use std::sync::Arc;

use bytes::Bytes;

use crate::core::outbound::Outgoing;
use crate::core::{Action, Conn, Core, Room, Time, inbound};
use crate::error::SendError;
use crate::event::{Event, Names, Payload, Receipt, Target};
use crate::settings::LONGEST_LABEL;
use crate::wire::{Frame, Kind};

/// So many messages of one peer are handed on before those of the next.
const PORTION: usize = 1024;

/// What a peer does with one more message.
enum Taken {
    Kept,
    /// It acknowledges, but has no room: everybody waits for it.
    PushesBack,
    Lost,
}

impl Core {
    /// Takes a message for all peers or for one.
    ///
    /// # Errors
    ///
    /// [`SendError::Full`] while a peer that acknowledges has no room, and whatever is wrong with the message or its
    /// target. Then nothing was taken, for nobody.
    pub fn offer(&mut self, target: &Target, payload: &Payload, now: Time) -> Result<Receipt, SendError> {
        match target {
            Target::Cluster => self.offer_all(payload, now),
            Target::Node(name) => self.offer_one(name, Kind::Direct, payload, now),
        }
    }

    /// Asks something of a peer's process, in order with messages to it.
    ///
    /// # Errors
    ///
    /// As [`Core::offer`].
    pub fn call(&mut self, name: &str, action: &str, data: Bytes, now: Time) -> Result<Receipt, SendError> {
        let payload = Payload { bytes: data, content_type: Some(action.into()) };
        self.offer_one(name, Kind::Api, &payload, now)
    }

    fn check(&self, payload: &Payload) -> Result<(), SendError> {
        let (bytes, limit) = (payload.bytes.len(), self.settings.max_message);
        if self.stopping {
            return Err(SendError::Closed);
        }
        if bytes > limit {
            return Err(SendError::TooLarge { bytes, limit });
        }
        if payload.content_type.as_ref().is_some_and(|text| text.len() > LONGEST_LABEL) {
            return Err(SendError::ContentType);
        }
        Ok(())
    }

    fn offer_all(&mut self, payload: &Payload, now: Time) -> Result<Receipt, SendError> {
        self.check(payload)?;
        let cost = payload.cost();
        for at in 0..self.peers.len() {
            if let Taken::PushesBack = self.would_take(at, cost, now) {
                return Err(self.blocked_by(at));
            }
        }
        let message = self.outgoing(Kind::Broadcast, payload);
        let mut lost = Vec::new();
        for at in 0..self.peers.len() {
            if self.peers[at].is_some() && !self.keep(at, &message, now) {
                lost.push(at);
            }
        }
        let (accepted, undelivered) = self.names_by(&lost);
        Ok(Receipt { sequence: message.sequence, accepted, undelivered })
    }

    /// All names, and those of the lost ones apart from the others.
    fn names_by(&self, lost: &[usize]) -> (Names, Names) {
        if lost.is_empty() {
            return (Arc::clone(&self.names), Names::default());
        }
        let of = |wanted: bool| {
            let peers = self.peers.iter().enumerate();
            let some = peers.filter_map(|(at, peer)| Some((at, peer.as_ref()?)));
            some.filter(|(at, _)| lost.contains(at) == wanted)
                .map(|(_, peer)| Arc::clone(&peer.name))
                .collect()
        };
        (of(false), of(true))
    }

    fn offer_one(
        &mut self,
        name: &str,
        kind: Kind,
        payload: &Payload,
        now: Time,
    ) -> Result<Receipt, SendError> {
        self.check(payload)?;
        let at = *self.by_name.get(name).ok_or_else(|| SendError::Unknown(name.into()))?;
        let Some(peer) = self.peers[at].as_ref() else { return Err(SendError::Unknown(name.into())) };
        let name = Arc::clone(&peer.name);
        if peer.outbound.is_gone(now, self.settings.resend_for) {
            return Err(SendError::Gone(name));
        }
        if let Taken::PushesBack = self.would_take(at, payload.cost(), now) {
            return Err(self.blocked_by(at));
        }
        let message = self.outgoing(kind, payload);
        let kept = self.keep(at, &message, now);
        let (one, none): (Names, Names) = ([name].into(), Names::default());
        let (accepted, undelivered) = if kept { (one, none) } else { (none, one) };
        Ok(Receipt { sequence: message.sequence, accepted, undelivered })
    }

    fn outgoing(&mut self, kind: Kind, payload: &Payload) -> Arc<Outgoing> {
        self.sequence += 1;
        Arc::new(Outgoing {
            sequence: self.sequence,
            kind,
            label: payload.content_type.clone(),
            payload: payload.bytes.clone(),
            cost: payload.cost(),
        })
    }

    fn would_take(&self, at: usize, cost: usize, now: Time) -> Taken {
        let Some(peer) = self.peers[at].as_ref() else { return Taken::Kept };
        if peer.outbound.has_room(cost, self.bounds()) {
            let gone = peer.outbound.is_gone(now, self.settings.resend_for);
            return if gone { Taken::Lost } else { Taken::Kept };
        }
        if peer.pushes_back(now) { Taken::PushesBack } else { Taken::Lost }
    }

    fn blocked_by(&mut self, at: usize) -> SendError {
        let Some(peer) = self.peers[at].as_mut() else { return SendError::Closed };
        peer.refused += 1;
        peer.blocked = true;
        self.due = self.due.min(peer.outbound.stalls_at(peer.known_lag()));
        SendError::Full(Arc::clone(&peer.name))
    }

    fn keep(&mut self, at: usize, message: &Arc<Outgoing>, now: Time) -> bool {
        let kept = matches!(self.would_take(at, message.cost, now), Taken::Kept);
        let expires = now + self.settings.resend_for;
        let Some(peer) = self.peers[at].as_mut() else { return false };
        if kept {
            peer.outbound.push(message, now);
            if peer.link().is_none() {
                // Later than the real time at most, which the next look finds out.
                self.due = self.due.min(expires);
            }
            self.make_dirty(at);
        } else {
            peer.outbound.lose(message.sequence, now);
            if let Some(time) = peer.outbound.tells_at() {
                self.due = self.due.min(time);
            }
        }
        kept
    }

    pub(super) fn make_dirty(&mut self, at: usize) {
        let Some(peer) = self.peers[at].as_mut() else { return };
        if !peer.is_dirty {
            peer.is_dirty = true;
            self.dirty.push(at);
        }
    }

    pub(super) fn make_readable(&mut self, at: usize) {
        let Some(peer) = self.peers[at].as_mut() else { return };
        if !peer.is_readable && !peer.inbound.is_empty() {
            peer.is_readable = true;
            self.readable.push_back(at);
        }
    }

    /// Whether a peer holds a sender up.
    pub fn is_blocked(&self) -> bool {
        self.peers.iter().flatten().any(|peer| peer.blocked)
    }

    /// Whether [`Core::transmit`] has something to send.
    pub fn has_to_send(&self) -> bool {
        !self.dirty.is_empty()
    }

    /// Gives out data frames, up to `most` for each peer. `send` says whether the link took the frame; one that did
    /// not is offered again in the next call.
    pub fn transmit(&mut self, most: usize, mut send: impl FnMut(Conn, Bytes) -> bool) {
        for at in std::mem::take(&mut self.dirty) {
            let Some(peer) = self.peers[at].as_mut() else { continue };
            peer.is_dirty = false;
            // Messages go to members only; a peer may be linked and not joined yet.
            let Some(conn) = peer.link().map(|link| link.conn).filter(|_| peer.joined.is_some()) else {
                continue;
            };
            let mut left = most;
            while left > 0
                && let Some((frame, sent)) = peer.outbound.frame()
            {
                if !send(conn, frame) {
                    break;
                }
                peer.outbound.sent(&sent);
                left -= 1;
            }
            if peer.outbound.can_send() {
                self.make_dirty(at);
            }
        }
    }

    /// Hands messages on as far as there is room, fairly among peers. They count as acknowledged then.
    pub fn deliver(&mut self, room: &mut Room, out: &mut Vec<Event>) {
        let mut blocked = Vec::new();
        while room.messages > 0 && room.bytes > 0 {
            let Some(at) = self.readable.pop_front() else { break };
            let Some(peer) = self.peers[at].as_mut() else { continue };
            // The join comes first. Of one who is away, what came before is still handed on.
            if peer.joined.is_none() && peer.link().is_some() {
                peer.is_readable = false;
                continue;
            }
            for _ in 0..PORTION {
                let Some(event) = peer.inbound.hand_on(&peer.name, room) else { break };
                out.push(event);
            }
            if peer.inbound.is_empty() {
                peer.is_readable = false;
            } else {
                blocked.push(at);
            }
            if let Some(conn) = peer.link().map(|link| link.conn)
                && let Some(acked) = peer.inbound.ack()
            {
                self.actions.push_back(Action::Send { conn, frame: Frame::Ack(acked).encode() });
            }
            if let Some(conn) = peer.link().map(|link| link.conn)
                && peer.inbound.opens()
            {
                self.actions.push_back(Action::Send { conn, frame: inbound::open().encode() });
            }
            if self.readable.is_empty() {
                self.readable.extend(blocked.drain(..));
            }
        }
        self.readable.extend(blocked);
    }

    /// Whether [`Core::deliver`] would give something, if there is room.
    pub fn has_to_deliver(&self) -> bool {
        !self.readable.is_empty()
    }
}
