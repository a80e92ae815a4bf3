//! Nodes, the connections between them, and time.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use cluster::core::{Action, Conn, Core, DialFailure, Room, Time};
use cluster::{Event, Payload, Receipt, SendError, Settings, Target};
use testkit::Rng;

use crate::coming::Coming;

/// The kind of a frame that carries messages.
const DATA: u8 = 5;

/// What happens at a time.
#[derive(Debug)]
pub(super) enum Happening {
    /// A frame arrives over a connection, at the accepting end or at the dialing one.
    Frame { wire: usize, at_accepting: bool, bytes: bytes::Bytes },
    /// A handshake is done.
    Connected { wire: usize },
    /// Nobody was there.
    Failed { node: usize, run: u32, conn: Conn },
    /// An end of a connection notices that it has ended.
    Ended { wire: usize, at_accepting: bool },
    /// A node's own time has come, unless it has planned another one since.
    Wake { node: usize, run: u32, time: Time },
}

/// A connection.
#[derive(Debug)]
pub(super) struct Wire {
    pub(super) dialer: (usize, u32, Conn),
    pub(super) accepting: (usize, u32),
    /// At the accepting end, once a frame came.
    accepted: Option<Conn>,
    pub(super) is_open: bool,
    /// Nothing arrives before: frames keep their order, each way.
    last: [Time; 2],
    pub(super) held: VecDeque<Happening>,
}

/// How the way between two nodes is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Way {
    #[default]
    Sound,
    /// Connections end, new ones are refused.
    Cut,
    /// Nothing gets through, nothing ends.
    Silent,
}

/// What the outside sees of a node.
#[derive(Debug)]
pub(crate) enum Seen {
    Event(Event),
    /// The node of this number sent something.
    Sent {
        target: Target,
        outcome: Result<Receipt, SendError>,
    },
}

pub(crate) struct Node {
    pub(crate) core: Core,
    pub(crate) run: u32,
    pub(crate) is_up: bool,
    pub(crate) frozen: bool,
    /// Messages that the application takes in each turn; 0 while it hangs.
    pub(crate) appetite: usize,
    pub(super) frozen_at: Time,
    /// Since when it runs without a stop.
    pub(crate) runs_since: Time,
    /// Time in which it did not run.
    pub(super) lost: Time,
    pub(super) backlog: VecDeque<Happening>,
    pub(super) wakes_at: Option<Time>,
    pub(super) accepted: BTreeMap<Conn, usize>,
    pub(super) dialed: BTreeMap<Conn, usize>,
}

pub(crate) struct World {
    pub(crate) now: Time,
    pub(crate) nodes: Vec<Node>,
    pub(crate) rng: Rng,
    pub(crate) frames: u64,
    pub(crate) frame_bytes: u64,
    pub(crate) seen: Vec<(usize, u32, Seen)>,
    names: Vec<Arc<str>>,
    settings: Settings,
    coming: Coming,
    pub(super) wires: Vec<Wire>,
    /// The connections between two nodes, the lower number first, also those that have ended.
    pub(super) pairs: BTreeMap<(usize, usize), Vec<usize>>,
    pub(super) ways: BTreeMap<(usize, usize), Way>,
    /// When frames that had been held between two nodes arrived.
    pub(super) released: BTreeMap<(usize, usize), Time>,
    /// The next data frame from one to another is lost, and its connection does not notice.
    pub(crate) loses: BTreeSet<(usize, usize)>,
    delay: (Duration, Duration),
}

impl World {
    pub(crate) fn new(count: usize, settings: Settings, delay: (Duration, Duration), rng: Rng) -> Self {
        let names: Vec<Arc<str>> = (0..count).map(|at| format!("n{at:04}").into()).collect();
        let mut world = Self {
            now: Time::ZERO,
            nodes: Vec::new(),
            rng,
            frames: 0,
            frame_bytes: 0,
            seen: Vec::new(),
            names,
            settings,
            coming: Coming::default(),
            wires: Vec::new(),
            pairs: BTreeMap::new(),
            ways: BTreeMap::new(),
            released: BTreeMap::new(),
            loses: BTreeSet::new(),
            delay,
        };
        for at in 0..count {
            let core = world.new_core(at);
            world.nodes.push(Node {
                core,
                run: 0,
                is_up: true,
                frozen: false,
                appetite: usize::MAX,
                frozen_at: Time::ZERO,
                runs_since: Time::ZERO,
                lost: Time::ZERO,
                backlog: VecDeque::new(),
                wakes_at: None,
                accepted: BTreeMap::new(),
                dialed: BTreeMap::new(),
            });
        }
        (0..count).for_each(|at| world.settle(at));
        world
    }

    pub(super) fn new_core(&mut self, at: usize) -> Core {
        let mut core = Core::new(Arc::clone(&self.names[at]), self.rng.number(), self.settings.clone());
        for (other, name) in self.names.iter().enumerate() {
            if other != at {
                core.add_node(name, "tcp://sim:1", Time::ZERO);
            }
        }
        core.start();
        core
    }

    pub(crate) fn name(&self, at: usize) -> Arc<str> {
        Arc::clone(&self.names[at])
    }

    pub(crate) fn index(&self, name: &str) -> usize {
        self.names.binary_search_by(|known| (**known).cmp(name)).expect("a node of this world")
    }

    pub(super) fn at(&mut self, time: Time, happening: Happening) {
        self.coming.add(time, happening);
    }

    pub(super) fn hop(&mut self) -> Duration {
        let (least, most) = self.delay;
        least
            + Duration::from_micros(
                self.rng.within(0..u64::try_from((most - least).as_micros()).expect("a short time").max(1)),
            )
    }

    pub(super) fn way(&self, one: usize, other: usize) -> Way {
        self.ways.get(&(one.min(other), one.max(other))).copied().unwrap_or_default()
    }

    /// Has a node do something of its own.
    pub(crate) fn act<R>(&mut self, at: usize, act: impl FnOnce(&mut Core, Time) -> R) -> Option<R> {
        let node = &mut self.nodes[at];
        if !node.is_up || node.frozen {
            return None;
        }
        let result = act(&mut node.core, self.now - node.lost);
        self.settle(at);
        Some(result)
    }

    pub(crate) fn send(&mut self, at: usize, target: Target) {
        // Of which run it is, so that a check knows.
        let payload = Payload::from(self.nodes[at].run.to_be_bytes().to_vec());
        if let Some(outcome) = self.act(at, |core, now| core.offer(&target, &payload, now)) {
            let run = self.nodes[at].run;
            self.seen.push((at, run, Seen::Sent { target, outcome }));
        }
    }

    // --- time

    /// Lets happen what happens until then.
    pub(crate) fn run_until(&mut self, until: Time) {
        while let Some((time, happening)) = self.coming.next_until(until) {
            self.now = self.now.max(time);
            self.happen(happening);
        }
        self.now = until;
    }

    pub(super) fn happen(&mut self, happening: Happening) {
        match happening {
            Happening::Wake { node, run, time } => {
                // A time that was planned before an earlier one is no plan any more: it would plan again and never end.
                let planned = self.nodes[node].wakes_at == Some(time);
                if planned
                    && self.nodes[node].run == run
                    && self.nodes[node].is_up
                    && !self.nodes[node].frozen
                {
                    self.nodes[node].wakes_at = None;
                    self.settle(node);
                }
            }
            Happening::Failed { node, run, conn } => {
                if self.nodes[node].frozen {
                    self.nodes[node].backlog.push_back(Happening::Failed { node, run, conn });
                } else if self.nodes[node].run == run {
                    let why = DialFailure::Unreachable("refused".into());
                    self.act(node, |core, now| core.dial_failed(conn, why, now));
                }
            }
            Happening::Connected { wire } => self.shake_hands(wire),
            Happening::Frame { wire, at_accepting, .. } | Happening::Ended { wire, at_accepting } => {
                self.arrive(wire, at_accepting, happening, false);
            }
        }
    }

    fn shake_hands(&mut self, wire: usize) {
        let Some(open) = self.wires.get(wire).filter(|wire| wire.is_open) else { return };
        let ((node, run, conn), (peer, peer_run)) = (open.dialer, open.accepting);
        let stuck = self.way(node, peer) == Way::Silent || self.nodes[node].frozen || self.nodes[peer].frozen;
        if self.nodes[node].run != run || self.nodes[peer].run != peer_run {
            return;
        }
        if stuck {
            return self.at(self.now + Duration::from_millis(20), Happening::Connected { wire });
        }
        self.act(node, |core, _| core.connected(conn));
    }

    pub(super) fn arrive(
        &mut self,
        wire: usize,
        at_accepting: bool,
        happening: Happening,
        has_arrived: bool,
    ) {
        let Some(known) = self.wires.get(wire) else { return };
        let (dialer, peer) = (known.dialer.0, known.accepting.0);
        let (node, run) = if at_accepting { known.accepting } else { (dialer, known.dialer.1) };
        let is_frame = matches!(happening, Happening::Frame { .. });
        if self.nodes[node].run != run || !self.nodes[node].is_up || (is_frame && !known.is_open) {
            return;
        }
        if !has_arrived && self.way(dialer, peer) == Way::Silent {
            return self.wires.get_mut(wire).expect("known").held.push_back(happening);
        }
        if self.nodes[node].frozen {
            return self.nodes[node].backlog.push_back(happening);
        }
        let conn = if at_accepting { known.accepted } else { Some(known.dialer.2) };
        match (happening, conn) {
            (Happening::Frame { bytes, .. }, Some(conn)) => {
                self.act(node, |core, now| core.received(conn, bytes, now));
            }
            (Happening::Frame { bytes, .. }, None) => {
                let name = self.name(dialer);
                let Some(conn) = self.nodes[node].core.accepted(&name) else { return };
                self.wires.get_mut(wire).expect("known").accepted = Some(conn);
                self.nodes[node].accepted.insert(conn, wire);
                self.act(node, |core, now| core.received(conn, bytes, now));
            }
            (_, Some(conn)) => {
                self.act(node, |core, now| core.disconnected(conn, now));
            }
            (_, None) => {}
        }
    }

    /// Does what a driver does in a turn.
    pub(super) fn settle(&mut self, at: usize) {
        let node = &mut self.nodes[at];
        if !node.is_up || node.frozen {
            return;
        }
        let now = self.now - node.lost;
        let (mut events, mut frames) = (Vec::new(), Vec::new());
        node.core.tick(now);
        let mut actions = Vec::new();
        actions.extend(std::iter::from_fn(|| node.core.next_action()));
        let mut room = Room { messages: node.appetite, bytes: usize::MAX };
        node.core.deliver(&mut room, &mut events);
        actions.extend(events.into_iter().map(Action::Tell));
        actions.extend(std::iter::from_fn(|| node.core.next_action()));
        while node.core.has_to_send() {
            node.core.transmit(16, |conn, frame| {
                frames.push((conn, frame));
                true
            });
        }
        actions.extend(frames.into_iter().map(|(conn, frame)| Action::Send { conn, frame }));
        let mut wake = node.core.next_tick().saturating_add(node.lost);
        if node.core.has_to_deliver() && node.appetite > 0 {
            wake = wake.min(self.now + Duration::from_millis(1));
        }
        if node.wakes_at.is_none_or(|time| wake < time) && wake < Time::MAX {
            node.wakes_at = Some(wake);
            let run = node.run;
            self.at(wake.max(self.now), Happening::Wake { node: at, run, time: wake });
        }
        actions.into_iter().for_each(|action| self.carry_out(at, action));
    }

    fn carry_out(&mut self, at: usize, action: Action) {
        let run = self.nodes[at].run;
        match action {
            Action::Tell(event) => self.seen.push((at, run, Seen::Event(event))),
            Action::Dial { conn, node, .. } => {
                let peer = self.index(&node);
                let time = self.now + self.hop();
                if self.way(at, peer) == Way::Cut || !self.nodes[peer].is_up {
                    return self.at(time, Happening::Failed { node: at, run, conn });
                }
                let (wire, accepting) = (self.wires.len(), (peer, self.nodes[peer].run));
                let (dialer, last) = ((at, run, conn), [Time::ZERO; 2]);
                let held = VecDeque::new();
                self.wires.push(Wire { dialer, accepting, accepted: None, is_open: true, last, held });
                self.pairs.entry((at.min(peer), at.max(peer))).or_default().push(wire);
                self.nodes[at].dialed.insert(conn, wire);
                self.at(time, Happening::Connected { wire });
            }
            Action::Send { conn, frame } => {
                let (wire, at_accepting) = match self.nodes[at].dialed.get(&conn) {
                    Some(wire) => (*wire, true),
                    None => match self.nodes[at].accepted.get(&conn) {
                        Some(wire) => (*wire, false),
                        None => return,
                    },
                };
                self.frames += 1;
                self.frame_bytes += frame.len() as u64;
                let hop = self.hop();
                let Some(open) = self.wires.get_mut(wire).filter(|wire| wire.is_open) else { return };
                let to = if at_accepting { open.accepting.0 } else { open.dialer.0 };
                if frame[1] == DATA && self.loses.remove(&(at, to)) {
                    return;
                }
                let last = &mut open.last[usize::from(at_accepting)];
                *last = (self.now + hop).max(*last + Duration::from_nanos(1));
                let time = *last;
                self.at(time, Happening::Frame { wire, at_accepting, bytes: frame });
            }
            Action::HangUp(conn) => {
                if let Some(wire) = self.nodes[at].dialed.remove(&conn) {
                    self.close(wire);
                } else if let Some(wire) = self.nodes[at].accepted.remove(&conn)
                    && let Some(wire) = self.wires.get_mut(wire)
                {
                    wire.accepted = None;
                }
            }
        }
    }

    /// The dialing end closes; what it sent before still arrives.
    fn close(&mut self, wire: usize) {
        let Some(open) = self.wires.get_mut(wire).filter(|wire| wire.is_open) else { return };
        open.last[1] = open.last[1].max(self.now) + Duration::from_micros(50);
        let time = open.last[1];
        self.at(time, Happening::Ended { wire, at_accepting: true });
    }
}
