//! What each event does, and how the commands of a lease are carried out.

use std::time::Duration;

use gone::lease::{Command, Input, Lease, State};

use super::MS;
use super::host::{Child, Connection, Guard};
use super::report::Violation;
use super::world::{Event, World};

impl World {
    pub(super) fn happens(&mut self, event: Event) {
        match event {
            Event::Wake { host, number } if self.hosts[host].wake == number => self.feed(host, Input::Tick),
            Event::Wake { .. } => {}
            Event::Guard { host } => self.guard(host),
            Event::Died { host, child } => self.died(host, child),
            Event::Dialled { host, instance, connection } => {
                if self.current(host, instance, connection) {
                    let incarnation = self.store.incarnation();
                    if let Some(standing) = &mut self.hosts[host].connection {
                        standing.incarnation = incarnation;
                    }
                    self.feed(host, Input::Connected);
                }
            }
            Event::Broken { host, instance, connection } => {
                if self.current(host, instance, connection) {
                    self.hosts[host].connection = None;
                    self.feed(host, Input::Disconnected);
                }
            }
            Event::AtStore { host, instance, connection, incarnation, from, id, request } => {
                if !self.store.up || incarnation != self.store.incarnation() {
                    return;
                }
                let (reply, changed) = self.store.ask(self.now, &from, &request);
                self.note(|| format!("store: {} asks {request:?}: {reply:?}", from.owner));
                if changed {
                    self.tell_all(host);
                }
                if self.current(host, instance, connection) {
                    let answer = Event::Answer { host, instance, connection, id, reply };
                    self.inward(host, answer);
                }
            }
            Event::Answer { host, instance, connection, id, reply } => {
                if self.current(host, instance, connection) {
                    let at = &mut self.hosts[host];
                    at.last_trip = at.clock.local(self.now).saturating_sub(at.asked_at);
                    self.feed(host, Input::Answered { id, reply });
                }
            }
            Event::Changed { host, instance, connection } => {
                if self.current(host, instance, connection) {
                    self.feed(host, Input::Changed);
                }
            }
            Event::Fault => self.fault(),
            Event::Continue { host } => {
                self.hosts[host].stopped = false;
                self.catch_up(host);
            }
            Event::Thaw { host } => {
                self.hosts[host].frozen = false;
                let at = &mut self.hosts[host];
                let late = at.guard.is_some_and(|guard| at.clock.local(self.now) >= guard.kill_at);
                if let Some(child) = at.child.as_mut().filter(|_| late) {
                    child.fenced = true;
                    self.report.fenced += 1;
                }
                self.guard(host);
                self.catch_up(host);
            }
            Event::StoreUp => self.store.up = true,
            Event::Start { host } => self.start(host),
        }
    }

    fn catch_up(&mut self, host: usize) {
        if self.hosts[host].stopped || self.hosts[host].frozen {
            return;
        }
        while let Some(input) = self.hosts[host].inbox.pop_front() {
            self.feed(host, input);
        }
        self.feed(host, Input::Tick);
    }

    /// Whether this connection of this runner stands and lets something pass.
    fn current(&self, host: usize, instance: u64, connection: u64) -> bool {
        let at = &self.hosts[host];
        at.instance == instance
            && at.connection.as_ref().is_some_and(|standing| standing.number == connection && !standing.dead)
    }

    /// Gives the runner an input, carries out what it says, and sees to its next wake-up.
    pub(super) fn feed(&mut self, host: usize, input: Input) {
        let chance = self.rng.within(0..1000) as f64 / 1000.0;
        let at = &mut self.hosts[host];
        let Some(lease) = &mut at.lease else { return };
        if at.stopped || at.frozen {
            if input != Input::Tick {
                at.inbox.push_back(input);
            }
            return;
        }
        let commands = lease.handle(at.clock.local(self.now), input, chance);
        for command in commands {
            self.carry_out(host, command);
        }
        let at = &self.hosts[host];
        let Some(lease) = &at.lease else { return };
        match lease.wake_at() {
            Some(local) => {
                let (time, number) = (at.clock.true_at(local), self.number());
                self.hosts[host].wake = number;
                self.at(time, Event::Wake { host, number });
            }
            None => self.runner_ended(host),
        }
    }

    fn runner_ended(&mut self, host: usize) {
        let at = &mut self.hosts[host];
        let state = at.lease.as_ref().map(|lease: &Lease| lease.state(Duration::ZERO));
        at.lease = None;
        at.connection = None;
        if state != Some(State::Ended(gone::lease::End::Stopped)) {
            self.report.violations.push(Violation::Ended { at: self.now, host });
        }
        if at.comes_back {
            let later = self.now + self.rng.within(0..self.expiry());
            self.fault_until(later);
            self.at(later, Event::Start { host });
        }
    }

    fn carry_out(&mut self, host: usize, command: Command) {
        let instance = self.hosts[host].instance;
        match command {
            Command::Dial => {
                let number = self.number();
                let incarnation = self.store.incarnation();
                self.hosts[host].connection = Some(Connection { number, incarnation, dead: false });
                let event = if self.store.up {
                    Event::Dialled { host, instance, connection: number }
                } else {
                    Event::Broken { host, instance, connection: number }
                };
                let way = self.delay(host, true).max(self.delay(host, false));
                self.at(way, event);
            }
            Command::Hangup => self.hosts[host].connection = None,
            Command::Send { id, request } => {
                let at = &mut self.hosts[host];
                at.asked_at = at.clock.local(self.now);
                let Some(connection) = at.connection.clone() else { return };
                if connection.dead {
                    return;
                }
                let (from, incarnation) = (at.contender.clone(), connection.incarnation);
                let connection = connection.number;
                let event = Event::AtStore { host, instance, connection, incarnation, from, id, request };
                let time = self.delay(host, true);
                self.at(time, event);
            }
            Command::Arm { stop_at, kill_at } => self.arm(host, stop_at, kill_at),
            Command::Start { token } => self.child_starts(host, token),
        }
    }

    fn arm(&mut self, host: usize, stop_at: Duration, kill_at: Duration) {
        let late = if self.plan.count_from_reply { self.hosts[host].last_trip } else { Duration::ZERO };
        let at = &mut self.hosts[host];
        let guard = Guard { stop_at: stop_at + late, kill_at: kill_at + late };
        at.guard = Some(guard);
        let times = [at.clock.true_at(guard.stop_at), at.clock.true_at(guard.kill_at)];
        for time in times {
            self.at(time, Event::Guard { host });
        }
    }

    fn child_starts(&mut self, host: usize, token: u64) {
        let number = self.number();
        self.note(|| format!("child {number} starts on host {host} with token {token}"));
        let others = (0..self.hosts.len()).find(|other| {
            let at = &self.hosts[*other];
            // A frozen host runs nothing.
            !at.frozen && at.child.as_ref().is_some_and(|child| !child.fenced)
        });
        if let Some(first) = others {
            self.report.violations.push(Violation::Overlap { at: self.now, first, second: host });
        }
        if token <= self.token {
            let before = self.token;
            self.report.violations.push(Violation::Token { at: self.now, before, token });
        }
        self.token = token;
        self.report.starts += 1;
        self.hosts[host].child = Some(Child { number, asked_to_end: false, fenced: false });
    }

    /// The guard looks at its clock.
    pub(super) fn guard(&mut self, host: usize) {
        let at = &self.hosts[host];
        if at.frozen || (self.plan.guard_asleep && at.stopped) {
            return;
        }
        let now = at.clock.local(self.now);
        let (Some(guard), Some(child)) = (at.guard, at.child.clone()) else { return };
        if now >= guard.kill_at {
            // From SIGKILL to the end of the last process; the margin has room for it.
            let dead = self.now + self.rng.within(0..20) * MS;
            self.at(dead, Event::Died { host, child: child.number });
        } else if now >= guard.stop_at && !child.asked_to_end {
            if let Some(child) = &mut self.hosts[host].child {
                child.asked_to_end = true;
            }
            // Some do not listen and are killed in the end.
            if self.rng.percent(70) {
                let grace = self.plan.timing.grace.as_nanos() as u64;
                let ends = self.now + self.rng.within(MS..grace);
                self.at(ends, Event::Died { host, child: child.number });
            }
        }
    }

    fn died(&mut self, host: usize, child: u64) {
        let at = &mut self.hosts[host];
        if at.frozen {
            // Once more when the host runs again.
            let later = self.now + MS;
            return self.at(later, Event::Died { host, child });
        }
        if at.child.as_ref().is_none_or(|running| running.number != child) {
            return;
        }
        (at.child, at.guard) = (None, None);
        self.note(|| format!("child {child} on host {host} is dead"));
        self.feed(host, Input::ChildDead);
    }

    /// Tells whoever is connected that the record changed, but for one.
    pub(super) fn tell_all(&mut self, but: usize) {
        for host in (0..self.hosts.len()).filter(|host| *host != but) {
            let at = &self.hosts[host];
            let Some(standing) = &at.connection else { continue };
            if standing.incarnation == self.store.incarnation() {
                let event = Event::Changed { host, instance: at.instance, connection: standing.number };
                self.inward(host, event);
            }
        }
    }

    fn inward(&mut self, host: usize, event: Event) {
        let time = self.delay(host, false);
        if let (Event::Answer { instance, connection, id, reply, .. }, true) =
            (&event, self.faulty && self.rng.percent(2))
        {
            // The same answer once more, when nobody waits for it.
            let again = Event::Answer {
                host,
                instance: *instance,
                connection: *connection,
                id: *id,
                reply: reply.clone(),
            };
            let later = time + self.rng.within(0..self.expiry());
            self.at(later, again);
        }
        self.at(time, event);
    }

    /// When something that is sent now arrives.
    fn delay(&mut self, host: usize, outward: bool) -> u64 {
        let at = &self.hosts[host];
        let cut = if outward { at.cut_out_until } else { at.cut_in_until };
        let mut time = self.now.max(cut) + self.rng.within(20_000..3 * MS);
        if self.faulty && self.now < self.slow_until {
            time += self.rng.within(0..400) * MS;
        }
        if self.faulty && self.rng.percent(1) {
            // Lost and sent again, or held up somewhere: up to longer than a lease.
            time += self.rng.within(0..self.expiry() * 3 / 2);
        }
        if time > self.now + 10 * MS {
            self.fault_until(time);
        }
        time
    }
}
