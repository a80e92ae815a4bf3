//! The world of the simulation: a lock, nodes, senders, and connections between them.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap, HashMap, HashSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use gone::message::frame::{Body, Frame, SenderId};
use gone::message::holder::{Answer, Holder};
use gone::message::sender::Sender;
use gone::message::{Delivery, HolderLimits, Origin, Whereabouts};
use testkit::Rng;

pub(crate) const NODES: usize = 3;
pub(crate) const SENDERS: usize = 3;
pub(crate) const MESSAGES: u64 = 150;
/// No fault begins after this; all is well soon after.
pub(crate) const FAULTS_END: u64 = 20_000_000;
pub(crate) const END: u64 = 90_000_000;
pub(crate) const LIMITS: HolderLimits =
    HolderLimits { in_flight: 6, in_flight_bytes: 4000, max_message: 1000, senders: 12 };

/// Which rule is taken out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Broken {
    Nothing,
    /// Acknowledge without asking whether the lease is held.
    HeldCheck,
    /// Take frames of an earlier turn.
    TurnCheck,
    /// Take messages out of order.
    GapCheck,
    /// Take messages again.
    Duplicates,
}

#[derive(Debug, Default)]
pub(crate) struct Report {
    pub(crate) faults: u64,
    pub(crate) acknowledged: u64,
    /// Deliveries of a message to a further child.
    pub(crate) again: u64,
    pub(crate) given_up: u64,
    pub(crate) full: u64,
}

impl Report {
    pub(crate) fn add(&mut self, other: &Self) {
        self.faults += other.faults;
        self.acknowledged += other.acknowledged;
        self.again += other.again;
        self.given_up += other.given_up;
        self.full += other.full;
    }
}

pub(crate) type Conn = u64;
pub(crate) type Key = (SenderId, u64);

pub(crate) enum Event {
    ToNode(usize, Conn, Frame),
    ToSender(usize, Conn, Frame),
    Down(usize, Conn),
    LookedUp(usize, Result<Option<Whereabouts>, String>),
    Wake(usize),
    Offer(usize),
    Child(usize),
    Fault,
    /// A node notices what became of its lease, goes on, or starts.
    Notice(usize),
    Elect,
}

pub(crate) struct Node {
    pub(crate) core: Holder<(usize, Conn)>,
    pub(crate) waiting: VecDeque<(Conn, usize, Frame)>,
    /// What its child has read and not acknowledged.
    pub(crate) child: Vec<(u64, Key)>,
    pub(crate) last_given: HashMap<SenderId, u64>,
    pub(crate) token: u64,
    pub(crate) awake_at: u64,
    pub(crate) dead: bool,
}

pub(crate) struct Party {
    pub(crate) core: Sender<u64>,
    pub(crate) conn: Option<(Conn, usize)>,
    pub(crate) offered: u64,
    /// Per direction, the last arrival: a connection keeps the order.
    pub(crate) arrivals: HashMap<(Conn, bool), u64>,
}

pub(crate) struct World {
    pub(crate) rng: Rng,
    pub(crate) broken: Broken,
    pub(crate) now: u64,
    pub(crate) events: BinaryHeap<Reverse<(u64, u64)>>,
    pub(crate) bodies: HashMap<u64, Event>,
    pub(crate) counter: u64,
    pub(crate) nodes: Vec<Node>,
    pub(crate) parties: Vec<Party>,
    /// Who holds the lease by truth, and its token; what the lock said before.
    pub(crate) holder: Option<(usize, u64)>,
    pub(crate) before: Option<(usize, u64)>,
    pub(crate) token: u64,
    pub(crate) turn_began: BTreeMap<u64, u64>,
    pub(crate) live: HashSet<Conn>,
    pub(crate) acked_while_held: HashSet<Key>,
    pub(crate) settled_at: HashMap<Key, u64>,
    pub(crate) given: HashSet<Key>,
    pub(crate) report: Report,
    pub(crate) complaint: Option<String>,
}

pub(crate) fn run(seed: u64, broken: Broken) -> Result<Report, String> {
    let mut world = World::new(seed, broken);
    while let Some(Reverse((at, number))) = world.events.pop() {
        if at > END || world.complaint.is_some() {
            break;
        }
        world.now = at;
        if let Some(event) = world.bodies.remove(&number) {
            world.happen(event);
        }
    }
    if let Some(complaint) = world.complaint {
        return Err(complaint);
    }
    for (index, party) in world.parties.iter().enumerate() {
        if party.core.unsettled() > 0 || party.offered < MESSAGES {
            return Err(format!("sender {index} made no progress after the faults: {:?}", party.core));
        }
    }
    Ok(world.report)
}

pub(crate) fn sender_id(index: usize) -> SenderId {
    SenderId([u8::try_from(index).unwrap_or(0) + 1; 16])
}

impl World {
    pub(crate) fn new(seed: u64, broken: Broken) -> Self {
        let id: Arc<str> = "job".into();
        let node = || Node {
            core: Holder::new("job".into(), LIMITS),
            waiting: VecDeque::new(),
            child: Vec::new(),
            last_given: HashMap::new(),
            token: 0,
            awake_at: 0,
            dead: false,
        };
        let party = |index| Party {
            core: Sender::new(Arc::clone(&id), sender_id(index)),
            conn: None,
            offered: 0,
            arrivals: HashMap::new(),
        };
        let mut world = Self {
            rng: Rng::new(seed),
            broken,
            now: 0,
            events: BinaryHeap::new(),
            bodies: HashMap::new(),
            counter: 0,
            nodes: (0..NODES).map(|_| node()).collect(),
            parties: (0..SENDERS).map(party).collect(),
            holder: None,
            before: None,
            token: 0,
            turn_began: BTreeMap::new(),
            live: HashSet::new(),
            acked_while_held: HashSet::new(),
            settled_at: HashMap::new(),
            given: HashSet::new(),
            report: Report::default(),
            complaint: None,
        };
        world.later(1000, Event::Elect);
        world.later(500_000, Event::Fault);
        (0..SENDERS).for_each(|sender| world.later(2000, Event::Offer(sender)));
        (0..NODES).for_each(|node| world.later(3000, Event::Child(node)));
        world
    }

    pub(crate) fn later(&mut self, after: u64, event: Event) {
        self.counter += 1;
        self.events.push(Reverse((self.now + after, self.counter)));
        self.bodies.insert(self.counter, event);
    }

    pub(crate) fn time(&self) -> Duration {
        Duration::from_micros(self.now)
    }

    pub(crate) fn faulty(&self) -> bool {
        self.now < FAULTS_END
    }

    pub(crate) fn happen(&mut self, event: Event) {
        let now = self.time();
        match event {
            Event::ToNode(node, conn, frame) => {
                let from = self.parties.iter().position(|party| sender_id_of(&frame) == party_id(party));
                if let Some(from) = from.filter(|_| !self.nodes[node].dead) {
                    self.nodes[node].waiting.push_back((conn, from, frame));
                    self.read(node);
                }
            }
            Event::ToSender(index, conn, frame) => {
                if self.parties[index].conn.is_some_and(|(mine, _)| mine == conn) {
                    self.parties[index].core.received(now, frame);
                    self.tick(index);
                }
            }
            Event::Down(index, conn) => {
                if self.parties[index].conn.is_some_and(|(mine, _)| mine == conn) {
                    self.parties[index].conn = None;
                    self.parties[index].core.line_down(now, "cut");
                    self.tick(index);
                }
            }
            Event::LookedUp(index, found) => {
                self.parties[index].core.looked_up(now, found);
                self.tick(index);
            }
            Event::Wake(index) => self.tick(index),
            Event::Offer(index) => self.offer(index),
            Event::Child(node) => self.child(node),
            Event::Fault => self.fault(),
            Event::Notice(node) => self.notice(node),
            Event::Elect => self.elect(),
        }
    }

    /// The node reads what came while it has room and is awake.
    pub(crate) fn read(&mut self, node: usize) {
        while self.nodes[node].awake_at <= self.now {
            if self.nodes[node].core.is_full() {
                self.report.full += 1;
                break;
            }
            let Some((conn, from, mut frame)) = self.nodes[node].waiting.pop_front() else { break };
            if self.broken == Broken::TurnCheck {
                frame.about.token = self.nodes[node].token;
            }
            let mut given: Vec<Delivery> = Vec::new();
            if self.broken == Broken::Duplicates
                && let Body::Data { first, messages, .. } = &frame.body
            {
                let origin = |sequence| Origin::Sender { sender: frame.about.sender, sequence };
                let all = (*first..).zip(messages);
                given.extend(all.map(|(at, data)| Delivery { n: 0, origin: origin(at), data: data.clone() }));
            }
            self.nodes[node].core.take((from, conn), frame, |delivery| given.push(delivery));
            let (messages, bytes) = self.nodes[node].core.in_flight();
            if messages > LIMITS.in_flight + 16 || bytes > LIMITS.in_flight_bytes + 16_000 {
                self.complain(format!("{messages} messages, {bytes} bytes in flight"));
            }
            given.into_iter().for_each(|delivery| self.give(node, &delivery));
            self.answer(node);
        }
    }

    pub(crate) fn give(&mut self, node: usize, delivery: &Delivery) {
        let Origin::Sender { sender, sequence } = delivery.origin else { return };
        let key = (sender, sequence);
        let token = self.nodes[node].token;
        let last = self.nodes[node].last_given.insert(sender, sequence).unwrap_or(0);
        if sequence <= last {
            self.complain(format!("{key:?} was given to a child after {last}"));
        }
        if self.settled_at.get(&key).is_some_and(|at| *at < self.turn_began[&token]) {
            self.complain(format!("{key:?} was settled before the turn {token} and given again in it"));
        }
        self.report.again += u64::from(!self.given.insert(key));
        self.nodes[node].child.push((delivery.n, key));
    }

    pub(crate) fn answer(&mut self, node: usize) {
        let answers: Vec<_> = self.nodes[node].core.answers().collect();
        for ((index, conn), answer) in answers {
            let Answer::Frame(frame) = answer else { continue };
            if self.live.contains(&conn) {
                self.travel(index, conn, false, &frame, |frame| Event::ToSender(index, conn, frame));
            }
        }
    }

    /// The child acknowledges some of what it was given, and the node passes that on.
    pub(crate) fn child(&mut self, node: usize) {
        let awake = self.nodes[node].awake_at <= self.now && !self.nodes[node].dead;
        let some = self.rng.within(0..8).min(self.nodes[node].child.len() as u64) as usize;
        if awake && some > 0 {
            let done: Vec<_> = self.nodes[node].child.drain(..some).collect();
            let held = self.holder == Some((node, self.nodes[node].token));
            if held {
                self.acked_while_held.extend(done.iter().map(|(_, key)| *key));
            }
            let n = done.last().map_or(0, |(n, _)| *n);
            let told = self.nodes[node].core.acknowledge(n, held || self.broken == Broken::HeldCheck);
            if let Err(error) = told {
                self.complain(error.to_string());
            }
            self.answer(node);
            self.read(node);
        }
        let pause = self.rng.within(500..60_000);
        self.later(pause, Event::Child(node));
    }

    pub(crate) fn complain(&mut self, complaint: String) {
        self.complaint.get_or_insert(complaint);
    }
}

fn sender_id_of(frame: &Frame) -> SenderId {
    frame.about.sender
}

fn party_id(party: &Party) -> SenderId {
    party.core.identity()
}
