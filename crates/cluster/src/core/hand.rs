//! What is done by hand: reconnect, down, up, other keys, the end.

use crate::core::peer::{GRACE, Line};
use crate::core::{Action, Conn, Core, Time};
use crate::event::Event;
use crate::wire::Frame;

impl Core {
    /// Ends the link and dials again at once. `false` when there is no such node.
    pub fn reconnect(&mut self, name: &str, now: Time) -> bool {
        let Some(&at) = self.by_name.get(name) else { return false };
        let Some(peer) = self.peers[at].as_mut() else { return false };
        if peer.admin_down {
            return true;
        }
        peer.refusals = 0;
        peer.leave_at = peer.joined.map(|_| now + GRACE);
        self.cut_line(at, Some(now), now);
        true
    }

    /// Takes the link down until [`Core::admin_up`]; the node counts as offline. `false` when there is no such node.
    pub fn admin_down(&mut self, name: &str, now: Time) -> bool {
        let Some(&at) = self.by_name.get(name) else { return false };
        let Some(peer) = self.peers[at].as_mut() else { return false };
        peer.admin_down = true;
        "taken down by hand".clone_into(&mut peer.error);
        self.cut_line(at, None, now);
        self.leave(at);
        true
    }

    /// The other way. `false` when there is no such node.
    pub fn admin_up(&mut self, name: &str, now: Time) -> bool {
        let Some(&at) = self.by_name.get(name) else { return false };
        let Some(peer) = self.peers[at].as_mut() else { return false };
        if std::mem::take(&mut peer.admin_down) {
            peer.error.clear();
            peer.refusals = 0;
            peer.line = Line::Idle { dial_at: Some(now) };
            self.due = self.due.min(now);
        }
        true
    }

    /// Other keys are in use: whoever waits after a refusal is dialed now.
    pub fn keys_changed(&mut self, now: Time) {
        for peer in self.peers.iter_mut().flatten() {
            peer.refusals = 0;
            if let Line::Idle { dial_at: Some(dial_at) } = &mut peer.line {
                *dial_at = now.min(*dial_at);
            }
        }
        self.due = self.due.min(now);
    }

    /// A connection whose keys are not allowed any more: it is ended, and made again with others if there are any.
    pub fn withdraw(&mut self, conn: Conn, now: Time) {
        let Some(at) = self.by_conn.get(&conn).copied() else { return };
        self.send(conn, &Frame::Closed);
        let is_link =
            self.peers[at].as_ref().is_some_and(|peer| peer.link().is_some_and(|link| link.conn == conn));
        if is_link {
            self.link_lost(at, "its key is not allowed any more", now);
        } else {
            self.disconnected(conn, now);
        }
    }

    /// Says goodbye to everybody; after that nothing is sent and nobody is heard. What nobody acknowledged is told.
    pub fn stop(&mut self, now: Time) {
        self.stopping = true;
        for at in 0..self.peers.len() {
            let Some(peer) = self.peers[at].as_mut() else { continue };
            let (conn, acked) = (peer.conn(), peer.inbound.acked());
            let is_up = peer.link().is_some();
            peer.line = Line::Idle { dial_at: None };
            peer.outbound.link_down(now);
            peer.outbound.clear(now);
            if let Some(lost) = peer.outbound.take_losses(&peer.name) {
                self.actions.push_back(Action::Tell(Event::Undelivered(lost)));
            }
            if let Some(conn) = conn {
                self.send(conn, &if is_up { Frame::Goodbye(acked) } else { Frame::Closed });
                self.forget(conn);
            }
        }
        self.room_made = true;
    }
}
