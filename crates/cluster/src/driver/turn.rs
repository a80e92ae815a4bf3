//! One turn of the driver: what is due is done, what the rules ask for is carried out.

use std::time::Duration;

use bytes::Bytes;
use tokio::sync::oneshot;
use zmq_link::{Multipart, SendError};

use crate::core::{Action, Conn, Core, DialFailure, Room, Time};
use crate::driver::{Driver, Line, dialer};
use crate::event::{Event, Level};

/// Messages handed to the application in one turn.
const DELIVER: usize = 4096;
/// Data frames for each peer in one turn.
const FRAMES: usize = 16;
/// When a socket had no room, it is asked again after this.
const FULL_LANE: Duration = Duration::from_millis(2);
/// While a sender waits for a peer, so that time in which nothing ran here is not taken for the peer's silence.
const BLOCKED: Duration = Duration::from_millis(5);
/// The longest sleep: what is late beyond it counts as time in which nothing ran.
const LONGEST: Duration = Duration::from_secs(1);

impl Driver {
    /// Does everything that can be done now, and tells how long to sleep.
    pub(super) fn turn(&mut self) -> Duration {
        let shared = std::sync::Arc::clone(&self.shared);
        let now = shared.clock.look();
        let mut events = Vec::new();
        let (next, again, room_made, traffic) = {
            let mut core = shared.core();
            core.tick(now);
            self.cut_old_keys(&mut core, now);
            self.probe(&mut core, now);
            self.carry_out(&mut core, &mut events, now);
            let again = self.deliver(&mut core, &mut events);
            self.carry_out(&mut core, &mut events, now);
            let all_taken = self.transmit(&mut core, now);
            self.carry_out(&mut core, &mut events, now);
            let again = again || (core.has_to_send() && all_taken);
            (core.next_tick(), again, core.take_room_made(), core.settings().log_traffic)
        };
        if !events.is_empty() {
            events.iter().for_each(|event| log(&shared.name, event, traffic));
            shared.hub.tell(events);
        }
        if room_made {
            shared.room.notify_waiters();
        }
        let next = self.probes.iter().copied().chain([next, now + LONGEST]).min().unwrap_or(now);
        let (waits, next) = {
            let core = shared.core();
            let next = if core.is_blocked() { next.min(now + BLOCKED) } else { next };
            (core.has_to_send(), next)
        };
        let next = match (again, waits) {
            (true, _) => now,
            (false, true) => next.min(now + FULL_LANE),
            (false, false) => next,
        };
        shared.clock.plan(next);
        // Timers are of a millisecond: one that is early would turn for nothing.
        let wait = next.saturating_sub(now);
        if self.ends_by.is_some() { wait.min(Duration::from_millis(2)) } else { wait }
    }

    /// Ends every link whose keys are not allowed any more.
    fn cut_old_keys(&mut self, core: &mut Core, now: Time) {
        let keys = self.shared.keys();
        if self.keys_version == keys.version() {
            return;
        }
        self.keys_version = keys.version();
        let old = self.lines.iter().filter(|(_, line)| match line {
            Line::Dialed { node, keys: with, .. } => !keys.may_dial(node, with),
            Line::Accepted { id, key } => {
                let name = self.accepted.get(id).map(|(_, name)| name);
                name.zip(key.as_ref()).is_some_and(|(name, key)| !keys.may_come(name, key))
            }
        });
        old.for_each(|(conn, _)| core.withdraw(*conn, now));
    }

    fn probe(&mut self, core: &mut Core, now: Time) {
        let before = self.probes.len();
        self.probes.retain(|at| *at > now);
        if self.probes.len() < before {
            core.probe_inbound(now);
        }
    }

    fn deliver(&self, core: &mut Core, events: &mut Vec<Event>) -> bool {
        if !core.has_to_deliver() {
            return false;
        }
        let (messages, bytes) = (core.settings().buffer, core.settings().buffer_bytes);
        let mut room = self.shared.hub.room(Room { messages, bytes });
        let more = room.messages > DELIVER;
        room.messages = room.messages.min(DELIVER);
        core.deliver(&mut room, events);
        more && room.messages == 0
    }

    /// Whether the sockets took all that was offered.
    fn transmit(&self, core: &mut Core, now: Time) -> bool {
        let (mut failed, mut all_taken) = (Vec::new(), true);
        core.transmit(FRAMES, |conn, frame| match self.send(conn, frame) {
            Ok(()) => true,
            Err(SendError::Full) => {
                all_taken = false;
                false
            }
            Err(_) => {
                failed.push(conn);
                false
            }
        });
        failed.into_iter().for_each(|conn| core.disconnected(conn, now));
        all_taken
    }

    fn send(&self, conn: Conn, frame: Bytes) -> Result<(), SendError> {
        let message = Multipart::single(frame);
        let sent = match self.lines.get(&conn) {
            Some(Line::Dialed { sender: Some(sender), .. }) => sender.try_send(message),
            Some(Line::Accepted { id, .. }) => match &self.listening {
                Some(listening) => listening.sender.try_send(id, message),
                None => return Err(SendError::Closed),
            },
            _ => return Err(SendError::Unreachable),
        };
        sent.map_err(|refused| refused.error)
    }

    fn carry_out(&mut self, core: &mut Core, events: &mut Vec<Event>, now: Time) {
        while let Some(action) = core.next_action() {
            match action {
                Action::Tell(event) => events.push(event),
                Action::Send { conn, frame } => {
                    if self.lines.contains_key(&conn) && self.send(conn, frame).is_err() {
                        core.disconnected(conn, now);
                    }
                }
                Action::HangUp(conn) => {
                    if let Some(Line::Accepted { id, .. }) = self.lines.remove(&conn) {
                        self.accepted.remove(&id);
                    }
                }
                Action::Dial { conn, node, addr } => {
                    let Some(attempt) = self.shared.keys().attempt(&node) else {
                        let why = "there is no key for it".to_owned();
                        core.dial_failed(conn, DialFailure::Unreachable(why), now);
                        continue;
                    };
                    let options = dialer::options(&addr, &attempt, &node, core.settings());
                    let (stop, stopped) = oneshot::channel();
                    let (link, told) = (std::sync::Arc::clone(&self.link), self.told.clone());
                    tokio::spawn(dialer::run(link, options, conn, told, stopped));
                    let line = Line::Dialed { node, keys: attempt, addr, sender: None, _stop: stop };
                    self.lines.insert(conn, line);
                }
            }
        }
    }
}

fn log(node: &str, event: &Event, traffic: bool) {
    match event {
        Event::Join(name) => tracing::info!(node, peer = &**name, "joined"),
        Event::Leave(name) => tracing::warn!(node, peer = &**name, "left"),
        Event::Quorum(true) => tracing::info!(node, "there is a quorum"),
        Event::Quorum(false) => tracing::warn!(node, "there is no quorum"),
        Event::Undelivered(lost) => {
            let (peer, from, to, count) = (&*lost.node, lost.from, lost.to, lost.count);
            tracing::warn!(node, peer, from, to, count, "messages are not delivered");
        }
        Event::Log(line) => match line.level {
            Level::Debug => tracing::debug!(node, "{}", line.message),
            Level::Info => tracing::info!(node, "{}", line.message),
            Level::Warn => tracing::warn!(node, "{}", line.message),
        },
        Event::Message(message) if traffic => {
            let (peer, sequence, bytes) = (&*message.node, message.sequence, message.payload.len());
            tracing::debug!(node, peer, sequence, bytes, "a message came");
        }
        Event::Message(_) | Event::Api(_) | Event::Gap(_) => {}
    }
}
