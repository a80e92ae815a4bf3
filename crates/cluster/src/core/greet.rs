//! Greetings: what makes a connection a link, and one link per pair.

use crate::core::inbound;
use crate::core::line::peer_uses;
use crate::core::outbound::Bounds;
use crate::core::peer::{Line, Link};
use crate::core::{Conn, Core, Time};
use crate::wire::{Frame, Greeting, Refusal, WireError};

impl Core {
    /// The peer greets on a connection that it made.
    pub(super) fn hello(&mut self, at: usize, conn: Conn, greeting: &Greeting, now: Time) {
        if let Some(refusal) = self.objection(at, greeting) {
            self.send(conn, &Frame::Refuse(refusal));
            if !peer_uses(self.peers[at].as_ref(), conn) {
                self.forget(conn);
            }
            return;
        }
        if !self.is_honest(at, greeting) {
            return self.broken(at, conn, &WireError::Acknowledged, now);
        }
        self.establish(at, conn, false, greeting, now);
        let welcome = Frame::Welcome(self.greeting(at));
        self.send(conn, &welcome);
        self.begin_stream(at, conn);
    }

    /// Whether it acknowledges nothing that was never sent.
    fn is_honest(&self, at: usize, greeting: &Greeting) -> bool {
        let Some((peer, seen)) = self.peers[at].as_ref().zip(greeting.seen) else { return true };
        seen.stream != peer.outbound.stream() || peer.outbound.was_sent(seen.next)
    }

    fn objection(&self, at: usize, greeting: &Greeting) -> Option<Refusal> {
        let peer = self.peers[at].as_ref()?;
        let late = peer.incarnation == Some(greeting.incarnation) && greeting.epoch <= peer.epoch;
        // Both dial at once: the one of the lower name stands, once it is known to get through.
        let crossed = matches!(peer.line, Line::Dialing { connected: true, .. }) && *self.name < *peer.name;
        if self.stopping {
            Some(Refusal::Stopping)
        } else if peer.admin_down {
            Some(Refusal::AdminDown)
        } else if late || crossed {
            Some(Refusal::Duplicate)
        } else if peer.is_past(greeting.incarnation) {
            Some(Refusal::Replaced)
        } else {
            None
        }
    }

    /// What came of our own greeting.
    pub(super) fn answered(&mut self, at: usize, conn: Conn, frame: &Frame, now: Time) {
        let wait = self.settings.connect_interval;
        match frame {
            Frame::Welcome(greeting) => {
                if self.peers[at].as_ref().is_some_and(|peer| peer.is_past(greeting.incarnation)) {
                    self.send(conn, &Frame::Closed);
                    let why = format!("we closed the link: {}", Refusal::Replaced.sentence());
                    return self.refused(at, why, now);
                }
                if !self.is_honest(at, greeting) {
                    return self.broken(at, conn, &WireError::Acknowledged, now);
                }
                self.establish(at, conn, true, greeting, now);
                self.begin_stream(at, conn);
            }
            Frame::Refuse(refusal @ (Refusal::Unknown | Refusal::Replaced | Refusal::Other(_))) => {
                self.refused(at, refusal.sentence().to_owned(), now);
            }
            Frame::Refuse(Refusal::Duplicate) => {
                // It is about to be back over the other connection.
                let leave_at = self.peers[at].as_mut().and_then(|peer| peer.leave_at.take());
                self.dial_again(at, Refusal::Duplicate.sentence().to_owned(), wait, now);
                if let Some(peer) = self.peers[at].as_mut() {
                    peer.leave_at = leave_at;
                }
            }
            Frame::Refuse(refusal) => self.dial_again(at, refusal.sentence().to_owned(), wait, now),
            Frame::Closed => self.dial_again(at, "the peer closed the link".to_owned(), wait, now),
            _ => self.broken(at, conn, &WireError::Malformed, now),
        }
    }

    /// The link stands; whatever was there before is over.
    fn establish(&mut self, at: usize, conn: Conn, dialed: bool, greeting: &Greeting, now: Time) {
        let Some(peer) = self.peers[at].as_ref() else { return };
        let old = peer.conn().filter(|old| *old != conn);
        let another_run = peer.incarnation != Some(greeting.incarnation);
        if another_run {
            self.leave(at);
        }
        if let Some(old) = old {
            self.forget(old);
        }
        let ping_at = now + self.settings.ping_interval;
        let Some(peer) = self.peers[at].as_mut() else { return };
        if another_run {
            peer.replace_run(greeting.incarnation);
        }
        (peer.epoch, peer.leave_at, peer.refusals) = (greeting.epoch, None, 0);
        peer.said_goodbye = false;
        // A stream that is not known is that of a peer which has forgotten what it took in, or never took anything.
        let remembers = peer.inbound.is_of(greeting.stream);
        let seen = greeting.seen.filter(|seen| remembers && seen.stream == peer.outbound.stream());
        let limit = Bounds::of(greeting.window_bytes, greeting.window_messages);
        peer.outbound.link_up(seen, limit, now);
        peer.inbound.link_up(greeting.stream);
        peer.line = Line::Up(Link { conn, dialed, since: now, heard: now, ping_at });
        self.due = self.due.min(now + self.settings.join_delay);
    }

    fn begin_stream(&mut self, at: usize, conn: Conn) {
        let Some(peer) = self.peers[at].as_mut() else { return };
        let start = Frame::Start(peer.outbound.start());
        let since = peer.link().map(|link| link.since).unwrap_or_default();
        let ping = Frame::Ping(u64::try_from(since.as_nanos()).unwrap_or(u64::MAX), peer.outbound.told_to());
        let acked = peer.inbound.ack();
        let opens = peer.inbound.opens();
        self.send(conn, &start);
        self.send(conn, &ping);
        if let Some(acked) = acked {
            self.send(conn, &Frame::Ack(acked));
        }
        if opens {
            self.send(conn, &inbound::open());
        }
        self.make_dirty(at);
        self.make_readable(at);
    }
}
