//! True time, and what happens in it.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use gone::lease::rules::{Contender, Reply, Request};
use gone::lease::{Input, Lease, State, Terms};
use testkit::Rng;

use super::host::{Clock, Host};
use super::report::{Report, Violation};
use super::store::Store;
use super::{MS, Plan};

#[derive(Debug)]
pub(super) enum Event {
    Wake {
        host: usize,
        number: u64,
    },
    Guard {
        host: usize,
    },
    /// SIGKILL has done its work, or the child ended after SIGTERM.
    Died {
        host: usize,
        child: u64,
    },
    Dialled {
        host: usize,
        instance: u64,
        connection: u64,
    },
    Broken {
        host: usize,
        instance: u64,
        connection: u64,
    },
    AtStore {
        host: usize,
        instance: u64,
        connection: u64,
        incarnation: u64,
        from: Contender,
        id: u64,
        request: Request,
    },
    Answer {
        host: usize,
        instance: u64,
        connection: u64,
        id: u64,
        reply: Reply,
    },
    Changed {
        host: usize,
        instance: u64,
        connection: u64,
    },
    Fault,
    Continue {
        host: usize,
    },
    Thaw {
        host: usize,
    },
    StoreUp,
    Start {
        host: usize,
    },
}

pub(super) struct World {
    pub(super) plan: Plan,
    pub(super) now: u64,
    pub(super) rng: Rng,
    pub(super) hosts: Vec<Host>,
    pub(super) store: Store,
    pub(super) report: Report,
    events: BinaryHeap<Reverse<(u64, u64)>>,
    waiting: std::collections::HashMap<u64, Event>,
    sequence: u64,
    pub(super) numbers: u64,
    /// True while faults still happen.
    pub(super) faulty: bool,
    /// When everything that a fault did is over.
    pub(super) sound_from: u64,
    pub(super) token: u64,
    /// Until then messages are slow.
    pub(super) slow_until: u64,
}

/// Runs a plan to its end.
pub(crate) fn run(plan: Plan) -> Report {
    let mut world = World::new(plan);
    world.go();
    world.report
}

impl World {
    fn new(plan: Plan) -> Self {
        let mut rng = Rng::new(plan.seed);
        let skew = plan.skew_ppm;
        let rate = move |rng: &mut Rng| skew - (rng.within(0..2 * skew as u64 + 1) as i64);
        let store = Store::new(rate(&mut rng), plan.trust_store);
        let mut world = Self {
            now: 0,
            hosts: Vec::new(),
            store,
            report: Report::default(),
            events: BinaryHeap::new(),
            waiting: std::collections::HashMap::new(),
            sequence: 0,
            numbers: 0,
            faulty: true,
            sound_from: 0,
            token: 0,
            slow_until: 0,
            rng,
            plan,
        };
        for host in 0..world.plan.runners {
            let rate_ppm = rate(&mut world.rng);
            let clock = Clock { offset: world.rng.within(0..1000) * 1000 * MS, rate_ppm };
            world.hosts.push(Host {
                clock,
                lease: None,
                contender: Contender {
                    owner: String::new(),
                    address: format!("tcp://host-{host}:6381"),
                    expiry_ms: world.plan.timing.expiry.as_millis() as u64,
                    compat: false,
                },
                instance: 0,
                connection: None,
                child: None,
                guard: None,
                stopped: false,
                frozen: false,
                inbox: Default::default(),
                cut_out_until: 0,
                cut_in_until: 0,
                wake: 0,
                last_trip: Default::default(),
                asked_at: Default::default(),
                comes_back: true,
            });
            let at = world.rng.within(0..100) * MS;
            world.at(at, Event::Start { host });
        }
        let first = world.expiry();
        world.at(first, Event::Fault);
        world
    }

    /// The expiry in nanoseconds.
    pub(super) fn expiry(&self) -> u64 {
        self.plan.timing.expiry.as_nanos() as u64
    }

    pub(super) fn at(&mut self, time: u64, event: Event) {
        self.sequence += 1;
        self.waiting.insert(self.sequence, event);
        self.events.push(Reverse((time.max(self.now), self.sequence)));
    }

    pub(super) fn number(&mut self) -> u64 {
        self.numbers += 1;
        self.numbers
    }

    pub(super) fn note(&mut self, what: impl FnOnce() -> String) {
        self.report.note(self.now, self.plan.trace, what);
    }

    fn next(&mut self) -> Option<Event> {
        let Reverse((time, number)) = self.events.pop()?;
        self.now = time;
        self.report.events += 1;
        if self.report.events == 20_000 * (self.plan.faults + 20) {
            self.report.violations.push(Violation::Livelock { at: self.now });
        }
        self.waiting.remove(&number)
    }

    fn go(&mut self) {
        while self.faulty {
            let event = self.next().expect("a fault is always to come");
            self.happens(event);
            // The first is the one to look at; what follows may come of it.
            if !self.report.violations.is_empty() {
                return;
            }
        }
        self.ends_well();
    }

    /// After the last fault: a holder within the bound, who then stays.
    fn ends_well(&mut self) {
        let timing = self.plan.timing;
        let rate = (self.expiry() as i64 * 3 * self.plan.skew_ppm / 1_000_000) as u64;
        // The expiry, 100 ms, and a request and a dial that were under way when the fault ended.
        let bound =
            self.expiry() + rate + 100 * MS + (timing.patience() + timing.longest_redial()).as_nanos() as u64;
        let mut begins = None;
        loop {
            let held = (0..self.hosts.len()).any(|host| self.holds(host));
            let late = self.now > self.sound_from + bound;
            if !held && !late {
                // The one who holds when the last fault ends may have lost its lease by it already.
                self.report.gap = self.now.saturating_sub(self.sound_from);
            }
            match begins {
                None if late && !held => {
                    let since = self.sound_from;
                    self.report.violations.push(Violation::NoHolder { since, bound });
                }
                None if late => begins = Some(self.now),
                Some(_) if !held => self.report.violations.push(Violation::Unsteady { at: self.now }),
                Some(since) if self.now > since + 2 * self.expiry() => return,
                _ => {}
            }
            // A connection that died silently is a fault until it is noticed.
            if self.hosts.iter().any(|host| host.connection.as_ref().is_some_and(|c| c.dead)) {
                self.sound_from = self.sound_from.max(self.now);
            }
            let Some(event) = self.next() else { return };
            self.happens(event);
            if !self.report.violations.is_empty() {
                return;
            }
        }
    }

    fn holds(&self, host: usize) -> bool {
        let host = &self.hosts[host];
        let held = |lease: &Lease| matches!(lease.state(host.clock.local(self.now)), State::Held { .. });
        host.lease.as_ref().is_some_and(held) && host.child.is_some()
    }

    /// A new runner on the host.
    pub(super) fn start(&mut self, host: usize) {
        if self.hosts[host].lease.is_some() || self.hosts[host].child.is_some() {
            return;
        }
        let instance = self.number();
        let at = &mut self.hosts[host];
        at.instance = instance;
        at.contender.owner = format!("runner-{instance}");
        let terms = Terms {
            timing: self.plan.timing,
            owner: at.contender.owner.clone(),
            fresh: false,
            look_every: None,
        };
        at.lease = Some(Lease::new(terms, at.clock.local(self.now)));
        (at.connection, at.stopped, at.comes_back) = (None, false, true);
        at.inbox.clear();
        self.note(|| format!("runner-{instance} starts on host {host}"));
        self.feed(host, Input::Tick);
    }
}
