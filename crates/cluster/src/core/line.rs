//! The line to each peer: dialing, greeting, one link per pair, its end.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use crate::core::inbound::Violation;
use crate::core::outbound::Bounds;
use crate::core::peer::{GRACE, Line, Peer};
use crate::core::{Action, Conn, Core, DialFailure, Time};
use crate::event::{Event, Level};
use crate::wire::{Frame, Records, WireError};

/// A peer that breaks the protocol is told about this often.
const COMPLAIN: Duration = Duration::from_secs(1);

impl Core {
    // --- what happens to connections

    /// A connection that this node dialed is made, and the peer proved its key.
    pub fn connected(&mut self, conn: Conn) {
        let Some(at) = self.by_conn.get(&conn).copied() else { return };
        let Some(peer) = self.peers[at].as_mut() else { return };
        match &mut peer.line {
            Line::Dialing { conn: dialing, connected, .. } if *dialing == conn => *connected = true,
            _ => return,
        }
        let hello = Frame::Hello(self.greeting(at));
        self.send(conn, &hello);
    }

    /// A connection that this node dialed was not made.
    pub fn dial_failed(&mut self, conn: Conn, why: DialFailure, now: Time) {
        let Some(at) = self.by_conn.get(&conn).copied() else { return };
        let Some(peer) = self.peers[at].as_ref() else { return };
        if !matches!(&peer.line, Line::Dialing { conn: dialing, .. } if *dialing == conn) {
            return self.disconnected(conn, now);
        }
        match why {
            DialFailure::Unreachable(why) => self.dial_again(at, why, self.settings.connect_interval, now),
            DialFailure::TryNext => self.dial_again(at, String::new(), Duration::ZERO, now),
            DialFailure::Denied(why) => self.refused(at, why, now),
        }
    }

    /// The dialing ends; it begins again after `wait`.
    pub(super) fn dial_again(&mut self, at: usize, why: String, wait: Duration, now: Time) {
        let Some(peer) = self.peers[at].as_mut() else { return };
        let conn = peer.conn();
        peer.line = Line::Idle { dial_at: Some(now + wait) };
        if !wait.is_zero() {
            // It was lost, and is not to be had again at once: it has left.
            peer.leave_at = peer.leave_at.map(|_| now);
            peer.error = why;
        }
        self.due = self.due.min(now);
        if let Some(conn) = conn {
            self.forget(conn);
        }
    }

    /// The peer, or its keys, do not want us: each time we wait longer before we try again, and say so.
    pub(super) fn refused(&mut self, at: usize, why: String, now: Time) {
        let Some(peer) = self.peers[at].as_mut() else { return };
        let wait = peer.wait_refused(&self.settings);
        let line = format!("no link to {}: {why}; trying again in {wait:?}", peer.name);
        self.dial_again(at, why, wait, now);
        self.log(Level::Warn, line);
    }

    /// A connection has ended.
    pub fn disconnected(&mut self, conn: Conn, now: Time) {
        let Some(at) = self.by_conn.get(&conn).copied() else { return };
        let Some(peer) = self.peers[at].as_ref() else { return };
        if peer.conn() != Some(conn) {
            return self.forget(conn);
        }
        match peer.line {
            Line::Up(_) => self.link_lost(at, "the connection ended", now),
            _ => {
                let why = "the connection ended before the link was made".to_owned();
                self.dial_again(at, why, self.settings.connect_interval, now);
            }
        }
    }

    /// The link is lost; its peer has left unless it is back in a moment.
    pub(super) fn link_lost(&mut self, at: usize, why: &str, now: Time) {
        let Some(peer) = self.peers[at].as_mut() else { return };
        let Line::Up(link) = &peer.line else { return };
        let (conn, dialed) = (link.conn, link.dialed);
        // Whoever dialed dials again; the other one waits for that first.
        let soon = peer.last_dial.map_or(now, |last| now.max(last + self.settings.connect_interval / 10));
        let dial_at = if dialed { soon } else { now + self.settings.connect_interval };
        peer.line = Line::Idle { dial_at: Some(dial_at) };
        why.clone_into(&mut peer.error);
        peer.leave_at = peer.joined.map(|_| now + GRACE);
        peer.outbound.link_down(now);
        self.due = self.due.min(dial_at).min(now + GRACE);
        self.forget(conn);
        // What came before it could join is handed on all the same.
        self.make_readable(at);
    }

    /// Ends whatever stands or is being made, telling the peer.
    pub(super) fn cut_line(&mut self, at: usize, dial_at: Option<Time>, now: Time) {
        let Some(peer) = self.peers[at].as_mut() else { return };
        let conn = peer.conn();
        peer.line = Line::Idle { dial_at };
        peer.outbound.link_down(now);
        self.due = self.due.min(now);
        if let Some(conn) = conn {
            self.send(conn, &Frame::Closed);
            self.forget(conn);
        }
        self.make_readable(at);
    }

    /// The peer is a member no more.
    pub(super) fn leave(&mut self, at: usize) {
        let Some(peer) = self.peers[at].as_mut() else { return };
        peer.leave_at = None;
        if peer.joined.take().is_none() {
            return;
        }
        self.joined -= 1;
        self.room_made |= std::mem::take(&mut peer.blocked);
        let name = Arc::clone(&peer.name);
        self.tell(Event::Leave(name));
        self.publish_quorum();
    }

    pub(super) fn dial(&mut self, at: usize, now: Time) {
        let conn = self.new_conn(at);
        let Some(peer) = self.peers[at].as_mut() else { return };
        peer.line = Line::Dialing { conn, since: now, connected: false };
        peer.last_dial = Some(now);
        peer.said_goodbye = false;
        let (node, addr) = (Arc::clone(&peer.name), peer.addr.clone());
        self.due = self.due.min(now + self.settings.connect_timeout);
        self.actions.push_back(Action::Dial { conn, node, addr });
    }

    // --- frames

    /// A peer made a connection; its frames come under the number that is returned. `None` for an unknown name.
    pub fn accepted(&mut self, name: &str) -> Option<Conn> {
        let at = *self.by_name.get(name)?;
        Some(self.new_conn(at))
    }

    /// A frame came in.
    pub fn received(&mut self, conn: Conn, frame: Bytes, now: Time) {
        let Some(at) = self.by_conn.get(&conn).copied() else { return };
        match Frame::decode(frame) {
            Ok(frame) => self.take(at, conn, frame, now),
            Err(error) => self.broken(at, conn, &error, now),
        }
    }

    pub(super) fn broken(&mut self, at: usize, conn: Conn, error: &WireError, now: Time) {
        self.complain(at, error, now);
        self.send(conn, &Frame::Closed);
        if peer_uses(self.peers[at].as_ref(), conn) {
            match self.peers[at].as_ref().map(|peer| &peer.line) {
                Some(Line::Up(_)) => self.link_lost(at, "it broke the protocol", now),
                _ => self.refused(at, error.to_string(), now),
            }
        } else {
            self.forget(conn);
        }
    }

    /// Says that a peer breaks the protocol, once in a while: it may do so as often as it can send.
    fn complain(&mut self, at: usize, what: &dyn std::fmt::Display, now: Time) {
        let Some(peer) = self.peers[at].as_mut() else { return };
        if peer.complained_at.is_some_and(|told| now < told + COMPLAIN) {
            peer.complaints += 1;
            return;
        }
        peer.complained_at = Some(now);
        let more = match std::mem::take(&mut peer.complaints) {
            0 => String::new(),
            more => format!(" (and {more} times before, not told)"),
        };
        let line = format!("{} breaks the protocol: {what}{more}", peer.name);
        self.log(Level::Warn, line);
    }

    fn take(&mut self, at: usize, conn: Conn, frame: Frame, now: Time) {
        let Some(peer) = self.peers[at].as_mut() else { return };
        if let Frame::Hello(greeting) = frame {
            return self.hello(at, conn, &greeting, now);
        }
        if let Line::Dialing { conn: dialing, connected: true, .. } = peer.line
            && dialing == conn
        {
            return self.answered(at, conn, &frame, now);
        }
        let Some(link) = peer.link_mut().filter(|link| link.conn == conn) else {
            // Of a link that is no more: its peer may not know yet.
            if frame != Frame::Closed {
                self.send(conn, &Frame::Closed);
            }
            return self.forget(conn);
        };
        link.heard = now;
        self.on_link(at, conn, frame, now);
    }

    fn on_link(&mut self, at: usize, conn: Conn, frame: Frame, now: Time) {
        let Some(peer) = self.peers[at].as_mut() else { return };
        match frame {
            Frame::Data(records) => match Records::new(records) {
                Ok(records) => self.data(at, conn, records, now),
                Err(error) => self.broken(at, conn, &error, now),
            },
            Frame::Ack(position) => self.acked(at, position, now),
            Frame::Ping(number, position) => {
                if peer.inbound.misses(position) {
                    return self.hole(at, conn, now);
                }
                self.send(conn, &Frame::Pong(number));
            }
            Frame::Pong(number) => {
                let trip = u64::try_from(now.as_nanos()).unwrap_or(u64::MAX).saturating_sub(number);
                peer.lag = Some(Duration::from_nanos(trip / 2));
            }
            Frame::Start(position) => peer.inbound.start(position),
            Frame::Window(bytes, messages) => {
                peer.outbound.set_limit(Bounds::of(bytes, messages));
                self.make_dirty(at);
            }
            Frame::Closed => self.link_lost(at, "the peer closed the link", now),
            Frame::Goodbye(position) => self.goodbye(at, position, now),
            // A second answer to one greeting; nothing comes of it.
            Frame::Hello(_) | Frame::Welcome(_) | Frame::Refuse(_) => {}
        }
    }

    fn data(&mut self, at: usize, conn: Conn, records: Records, now: Time) {
        let Some(peer) = self.peers[at].as_mut() else { return };
        let taken = peer.inbound.take(records);
        self.make_readable(at);
        if let Err(violation) = taken {
            if violation == Violation::Hole {
                return self.hole(at, conn, now);
            }
            self.complain(at, &violation, now);
            self.send(conn, &Frame::Closed);
            self.link_lost(at, "it broke the protocol", now);
        }
    }

    /// A frame did not come; over another link it is sent again.
    fn hole(&mut self, at: usize, conn: Conn, now: Time) {
        self.send(conn, &Frame::Closed);
        self.link_lost(at, "a frame was lost on the way", now);
    }

    fn acked(&mut self, at: usize, position: u64, now: Time) {
        let bounds = self.bounds();
        let Some(peer) = self.peers[at].as_mut() else { return };
        if peer.outbound.ack(position, now).is_none() {
            return self.link_lost(at, "it acknowledged what was never sent", now);
        }
        if peer.blocked && !peer.is_blocking(now, bounds) {
            peer.blocked = false;
            self.room_made = true;
        }
        self.make_dirty(at);
    }

    fn goodbye(&mut self, at: usize, position: u64, now: Time) {
        self.acked(at, position, now);
        let wait = self.settings.connect_interval;
        if let Some(peer) = self.peers[at].as_mut() {
            "it left".clone_into(&mut peer.error);
            peer.said_goodbye = true;
        }
        self.cut_line(at, Some(now + wait), now);
        self.leave(at);
    }
}

pub(super) fn peer_uses(peer: Option<&Peer>, conn: Conn) -> bool {
    peer.is_some_and(|peer| peer.conn() == Some(conn))
}
