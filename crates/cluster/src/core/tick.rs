//! What is done because time passes.

use std::sync::Arc;
use std::time::Duration;

use crate::core::peer::Line;
use crate::core::{Core, Time};
use crate::event::Event;
use crate::wire::Frame;

/// Times are looked at no more often than this.
const GRAIN: Duration = Duration::from_millis(5);

impl Core {
    /// When [`Core::tick`] has to be called at the latest.
    pub fn next_tick(&self) -> Time {
        self.due
    }

    /// Does what is due.
    pub fn tick(&mut self, now: Time) {
        if now < self.due || self.stopping {
            return;
        }
        // What happens in the loop may move it closer again.
        self.due = Time::MAX;
        let mut due = Time::MAX;
        for at in 0..self.peers.len() {
            let is_due = |core: &Self| core.peers[at].as_ref().and_then(|peer| peer.due(&core.settings));
            let Some(first) = is_due(self) else { continue };
            if first <= now {
                self.tick_peer(at, now);
                due = due.min(is_due(self).unwrap_or(Time::MAX));
            } else {
                due = due.min(first);
            }
        }
        self.due = due.min(self.due).max(now + GRAIN);
    }

    fn tick_peer(&mut self, at: usize, now: Time) {
        let (settings, bounds) = (&self.settings, self.bounds());
        let Some(peer) = self.peers[at].as_mut() else { return };
        if peer.outbound.expires_at(settings.resend_for).is_some_and(|time| time <= now) {
            peer.outbound.clear(now);
        }
        if peer.blocked && !peer.is_blocking(now, bounds) {
            peer.blocked = false;
            self.room_made = true;
        }
        if peer.outbound.tells_at().is_some_and(|time| time <= now)
            && let Some(lost) = peer.outbound.take_losses(&peer.name)
        {
            self.tell(Event::Undelivered(lost));
        }
        self.tick_line(at, now);
        if self.peers[at].as_ref().is_some_and(|peer| peer.leave_at.is_some_and(|time| time <= now)) {
            self.leave(at);
        }
    }

    fn tick_line(&mut self, at: usize, now: Time) {
        let Some(peer) = self.peers[at].as_mut() else { return };
        match &mut peer.line {
            Line::Idle { dial_at } => {
                if dial_at.is_some_and(|time| time <= now) {
                    self.dial(at, now);
                }
            }
            Line::Dialing { since, .. } => {
                if *since + self.settings.connect_timeout <= now {
                    self.dial_timed_out(at, now);
                }
            }
            Line::Up(link) => {
                if link.heard + self.settings.silence() <= now {
                    return self.timed_out(at, now);
                }
                let (conn, told_to) = (link.conn, peer.outbound.told_to());
                let joins = peer.joined.is_none() && link.since + self.settings.join_delay <= now;
                if link.ping_at <= now {
                    link.ping_at = now + self.settings.ping_interval;
                    self.ping(conn, told_to, now);
                }
                if joins {
                    self.join(at, now);
                }
            }
        }
    }

    fn join(&mut self, at: usize, now: Time) {
        let Some(peer) = self.peers[at].as_mut() else { return };
        peer.joined = Some(now);
        peer.error.clear();
        self.joined += 1;
        let name = Arc::clone(&peer.name);
        self.tell(Event::Join(name));
        self.publish_quorum();
        self.make_dirty(at);
        self.make_readable(at);
    }

    /// Nothing came for too long: it has left, without a grace.
    fn timed_out(&mut self, at: usize, now: Time) {
        let wait = self.settings.connect_interval;
        if let Some(peer) = self.peers[at].as_mut() {
            "nothing came from it for longer than the read timeout".clone_into(&mut peer.error);
        }
        self.cut_line(at, Some(now + wait), now);
        self.leave(at);
    }

    fn dial_timed_out(&mut self, at: usize, now: Time) {
        let wait = self.settings.connect_interval;
        if let Some(peer) = self.peers[at].as_mut() {
            "it did not answer within the connect timeout".clone_into(&mut peer.error);
        }
        self.cut_line(at, Some(now + wait), now);
    }

    fn ping(&mut self, conn: crate::core::Conn, told_to: u64, now: Time) {
        self.send(conn, &Frame::Ping(u64::try_from(now.as_nanos()).unwrap_or(u64::MAX), told_to));
    }

    /// Pings every peer that made its link itself: a send over a connection that is gone fails at once, and libzmq
    /// tells the listening end of an end without saying whose.
    pub fn probe_inbound(&mut self, now: Time) {
        let links =
            self.peers.iter().flatten().filter_map(|peer| Some((peer.link()?, peer.outbound.told_to())));
        let inbound: Vec<_> =
            links.filter(|(link, _)| !link.dialed).map(|(link, told_to)| (link.conn, told_to)).collect();
        for (conn, told_to) in inbound {
            self.ping(conn, told_to, now);
        }
    }
}
