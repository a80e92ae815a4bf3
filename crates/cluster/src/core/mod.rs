//! The rules of membership and delivery: no I/O, no clock. Time and what happened come in, actions go out.

mod greet;
mod hand;
pub(crate) mod inbound;
mod line;
pub(crate) mod outbound;
mod peer;
mod quorum;
mod send;
mod tick;

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

pub use inbound::Room;
pub use quorum::has_quorum;

use crate::core::inbound::{WINDOW_BYTES, WINDOW_MESSAGES};
use crate::core::outbound::Bounds;
use crate::core::peer::{Line, Peer};
use crate::counters::Snapshot;
use crate::event::{Event, Level, LogLine, Names};
use crate::settings::Settings;
use crate::status::{NodeStatus, Status};
use crate::wire::{Frame, Greeting};

/// Time in which this process ran, since its start. Time in which it was stopped is not in it, so that a process that
/// was does not take its own silence for that of the others.
pub type Time = Duration;

/// A connection, by a number of the core's own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Conn(pub u64);

/// What is to be done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Connect to this node, and tell how it went.
    Dial {
        /// The number of the connection.
        conn: Conn,
        /// The node.
        node: Arc<str>,
        /// Its address.
        addr: String,
    },
    /// Send a frame.
    Send {
        /// Over which connection.
        conn: Conn,
        /// The frame.
        frame: Bytes,
    },
    /// This connection is not used any more: close it after what was sent, or forget it when the peer made it.
    HangUp(Conn),
    /// Something for the application.
    Tell(Event),
}

/// Why a connection was not made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DialFailure {
    /// Nobody answers there.
    Unreachable(String),
    /// The keys do not fit, and there are others to try.
    TryNext,
    /// The keys do not fit, and none is left.
    Denied(String),
}

/// The state of one node.
#[derive(Debug)]
pub struct Core {
    name: Arc<str>,
    settings: Settings,
    incarnation: u64,
    epoch: u64,
    /// Streams that were begun.
    streams: u64,
    conns: u64,
    sequence: u64,
    peers: Vec<Option<Peer>>,
    by_name: HashMap<Arc<str>, usize>,
    /// Every connection that is in use, and inbound ones that have not greeted yet.
    by_conn: HashMap<Conn, usize>,
    names: Names,
    actions: VecDeque<Action>,
    dirty: Vec<usize>,
    readable: VecDeque<usize>,
    joined: usize,
    published: Option<bool>,
    /// Nothing has to be looked at before.
    due: Time,
    room_made: bool,
    stopping: bool,
    /// Of what happened so far, but for what configured peers count.
    totals: Snapshot,
}

impl Core {
    /// A node without peers. `incarnation` is random and not 0; it tells this run from others of the same name.
    pub fn new(name: impl Into<Arc<str>>, incarnation: u64, settings: Settings) -> Self {
        Self {
            name: name.into(),
            settings,
            incarnation: incarnation.max(1),
            epoch: 0,
            streams: 0,
            conns: 0,
            sequence: 0,
            peers: Vec::new(),
            by_name: HashMap::new(),
            by_conn: HashMap::new(),
            names: Arc::new([]),
            actions: VecDeque::new(),
            dirty: Vec::new(),
            readable: VecDeque::new(),
            joined: 0,
            published: None,
            due: Time::ZERO,
            room_made: false,
            stopping: false,
            totals: Snapshot::default(),
        }
    }

    /// Publishes whether there is a quorum, for the first time.
    pub fn start(&mut self) {
        self.published = Some(self.quorum());
        self.tell(Event::Quorum(self.quorum()));
    }

    /// Configures a peer, or changes the address of one. A link that stands stays.
    pub fn add_node(&mut self, name: &Arc<str>, addr: &str, now: Time) {
        if let Some(peer) = self.by_name.get(name).and_then(|&at| self.peers[at].as_mut()) {
            if peer.addr != addr {
                addr.clone_into(&mut peer.addr);
                peer.refusals = 0;
                self.redial_soon(name, now);
            }
            return;
        }
        // The lower name dials; the other one only when nothing comes.
        let dial_at = if *self.name < **name { now } else { now + self.settings.connect_interval };
        // No number twice, nor one of another run: a peer that remembers an earlier stream knows this one from it.
        self.streams += 1;
        let stream = self.incarnation.wrapping_add(self.streams).max(1);
        let peer = Peer::new(Arc::clone(name), addr.to_owned(), stream, dial_at, now);
        let at = self.peers.iter().position(Option::is_none).unwrap_or(self.peers.len());
        if at == self.peers.len() {
            self.peers.push(None);
        }
        self.peers[at] = Some(peer);
        self.by_name.insert(Arc::clone(name), at);
        self.names_changed();
        self.due = self.due.min(dial_at);
        self.publish_quorum();
    }

    /// An idle peer is dialed now.
    fn redial_soon(&mut self, name: &str, now: Time) {
        let Some(peer) = self.by_name.get(name).and_then(|&at| self.peers[at].as_mut()) else { return };
        if let Line::Idle { dial_at: Some(dial_at) } = &mut peer.line {
            *dial_at = now;
            self.due = self.due.min(now);
        }
    }

    /// Forgets a peer; what was on its way to it is told as undelivered. `false` when there is none of this name.
    pub fn remove_node(&mut self, name: &str, now: Time) -> bool {
        let Some(&at) = self.by_name.get(name) else { return false };
        self.cut_line(at, None, now);
        // First, so that the quorum is counted once, without it.
        self.by_name.remove(name);
        self.leave(at);
        if let Some(mut peer) = self.peers[at].take() {
            peer.outbound.clear(now);
            if let Some(lost) = peer.outbound.take_losses(&peer.name) {
                self.tell(Event::Undelivered(lost));
            }
            self.room_made |= peer.blocked;
            self.totals = with_peer(self.totals, &peer);
        }
        self.by_conn.retain(|_, of| *of != at);
        self.names_changed();
        self.publish_quorum();
        true
    }

    fn names_changed(&mut self) {
        self.names = self.peers.iter().flatten().map(|peer| Arc::clone(&peer.name)).collect();
    }

    /// Settings for all that happens from now on.
    pub fn set_settings(&mut self, settings: Settings, now: Time) {
        self.settings = settings;
        self.due = now;
        self.room_made = true;
        self.publish_quorum();
    }

    /// The settings.
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// The configured peers.
    pub fn names(&self) -> Names {
        Arc::clone(&self.names)
    }

    /// Whether there is a quorum.
    pub fn quorum(&self) -> bool {
        has_quorum(self.by_name.len(), self.joined, self.settings.expect)
    }

    /// The members: configured nodes that joined.
    pub fn members(&self) -> impl Iterator<Item = &Arc<str>> {
        self.peers.iter().flatten().filter(|peer| peer.joined.is_some()).map(|peer| &peer.name)
    }

    fn publish_quorum(&mut self) {
        let quorum = self.quorum();
        if self.published.is_some_and(|published| published != quorum) {
            self.published = Some(quorum);
            self.tell(Event::Quorum(quorum));
        }
    }

    /// The next thing to be done.
    pub fn next_action(&mut self) -> Option<Action> {
        self.actions.pop_front()
    }

    fn tell(&mut self, event: Event) {
        match event {
            Event::Join(_) => self.totals.joins += 1,
            Event::Leave(_) => self.totals.leaves += 1,
            _ => {}
        }
        self.actions.push_back(Action::Tell(event));
    }

    fn log(&mut self, level: Level, message: String) {
        self.tell(Event::Log(LogLine { level, message }));
    }

    fn send(&mut self, conn: Conn, frame: &Frame) {
        self.actions.push_back(Action::Send { conn, frame: frame.encode() });
    }

    fn new_conn(&mut self, at: usize) -> Conn {
        self.conns += 1;
        let conn = Conn(self.conns);
        self.by_conn.insert(conn, at);
        conn
    }

    fn forget(&mut self, conn: Conn) {
        if self.by_conn.remove(&conn).is_some() {
            self.actions.push_back(Action::HangUp(conn));
        }
    }

    fn greeting(&mut self, at: usize) -> Greeting {
        self.epoch += 1;
        let peer = self.peers[at].as_mut();
        let (stream, holds, seen) = peer.map_or((1, true, None), |peer| {
            (peer.outbound.stream(), peer.inbound.greets_holding(), peer.inbound.seen())
        });
        let (bytes, messages) = if holds { (0, 0) } else { (WINDOW_BYTES, WINDOW_MESSAGES) };
        let (window_bytes, window_messages) = (bytes as u64, messages as u64);
        Greeting {
            incarnation: self.incarnation,
            epoch: self.epoch,
            stream,
            window_bytes,
            window_messages,
            seen,
        }
    }

    fn bounds(&self) -> Bounds {
        Bounds { bytes: self.settings.window_bytes, messages: self.settings.window_messages }
    }

    /// Whether those who wait for room may try again, since the last call.
    pub fn take_room_made(&mut self) -> bool {
        std::mem::take(&mut self.room_made)
    }

    /// How every peer stands; `jointime` is filled in by the caller, from the time beside it.
    pub fn status(&self, now: Time) -> Vec<(NodeStatus, Option<Time>)> {
        self.peers.iter().flatten().map(|peer| (self.status_of(peer, now), peer.joined)).collect()
    }

    fn status_of(&self, peer: &Peer, now: Time) -> NodeStatus {
        let status = peer.status(self.stopping);
        NodeStatus {
            name: Arc::clone(&peer.name),
            addr: peer.addr.clone(),
            status,
            error: if status == Status::Online { String::new() } else { peer.error.clone() },
            jointime: None,
            lag: peer.lag,
            packets: peer.inbound.packets,
            queue: peer.outbound.len(),
            queue_bytes: peer.outbound.bytes(),
            resent: peer.outbound.resent,
            refused: peer.refused,
            undelivered: peer.outbound.undelivered,
            missed: peer.inbound.missed,
            stalled: peer.outbound.is_stalled(now, peer.known_lag()),
            admin_down: peer.admin_down,
        }
    }

    /// Totals since the start.
    pub fn totals(&self) -> Snapshot {
        let totals = Snapshot { sent: self.sequence, ..self.totals };
        self.peers.iter().flatten().fold(totals, with_peer)
    }

    /// How many messages no peer that is linked has acknowledged yet.
    pub fn unacknowledged(&self) -> usize {
        let linked = self.peers.iter().flatten().filter(|peer| peer.link().is_some());
        linked.map(|peer| peer.outbound.len()).sum()
    }
}

fn with_peer(totals: Snapshot, peer: &Peer) -> Snapshot {
    Snapshot {
        received: totals.received + peer.inbound.packets,
        refused: totals.refused + peer.refused,
        undelivered: totals.undelivered + peer.outbound.undelivered,
        missed: totals.missed.saturating_add(peer.inbound.missed),
        resent: totals.resent + peer.outbound.resent,
        ..totals
    }
}
