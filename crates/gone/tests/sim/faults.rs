//! What goes wrong.

use std::time::Duration;

use gone::lease::Input;

use super::MS;
use super::world::{Event, World};

impl World {
    /// A fault lasts until then.
    pub(super) fn fault_until(&mut self, time: u64) {
        self.sound_from = self.sound_from.max(time);
    }

    /// One fault now, and the next one planned; after the last one everything is well.
    pub(super) fn fault(&mut self) {
        self.report.faults += 1;
        let (host, expiry) = (self.rng.within(0..self.hosts.len() as u64) as usize, self.expiry());
        let kind = self.rng.within(0..15);
        let lasts = self.now + self.rng.within(MS..expiry * 2);
        self.note(|| format!("fault {kind} on host {host} until {:.6}", lasts as f64 / 1e9));
        self.fault_until(self.now);
        match kind {
            0 | 1 => self.crash(host, lasts),
            2 | 3 => self.stop_runner(host, lasts),
            4 => self.freeze(host, lasts),
            5 | 6 => self.cut(host, lasts),
            7 => self.reset(host),
            8 => {
                self.store.flush();
                self.tell_all(usize::MAX);
            }
            9 => self.store_restarts(None),
            10 => {
                let ago = self.rng.within(0..6) as usize;
                self.store_restarts(Some(ago));
            }
            11 => self.half_dead(host),
            12 => self.slow_until = self.now + expiry / 2,
            13 => {
                let pause = Duration::from_nanos(self.rng.within(0..expiry / 2));
                // A child that ended or is not well; it stays away as long.
                self.fault_until(self.now + pause.as_nanos() as u64 * 101 / 100 + self.grace());
                self.feed(host, Input::GiveUp { pause });
            }
            _ => {
                self.fault_until(self.now + self.grace());
                self.feed(host, Input::Stop);
            }
        }
        if self.report.faults >= self.plan.faults {
            self.faulty = false;
            return;
        }
        // Often while the one before still lasts, sometimes after a quiet time.
        let next = self.now
            + if self.rng.percent(80) {
                self.rng.within(0..expiry)
            } else {
                self.rng.within(expiry..expiry * 4)
            };
        self.at(next, Event::Fault);
    }

    fn grace(&self) -> u64 {
        self.plan.timing.grace.as_nanos() as u64 * 102 / 100 + 30 * MS
    }

    /// SIGKILL of the runner: its guard ends the child at once.
    fn crash(&mut self, host: usize, until: u64) {
        let dies = self.now + self.rng.within(0..10) * MS;
        let at = &mut self.hosts[host];
        if at.frozen || at.lease.is_none() {
            return;
        }
        (at.lease, at.connection, at.stopped) = (None, None, false);
        at.inbox.clear();
        if let Some(child) = at.child.clone() {
            self.at(dies, Event::Died { host, child: child.number });
        }
        let until = until.max(dies + 50 * MS);
        self.fault_until(until);
        self.at(until, Event::Start { host });
    }

    /// SIGSTOP of the runner: the guard goes on.
    fn stop_runner(&mut self, host: usize, until: u64) {
        if self.hosts[host].lease.is_some() {
            self.hosts[host].stopped = true;
            self.fault_until(until);
            self.at(until, Event::Continue { host });
        }
    }

    /// Everything on the host stands still.
    fn freeze(&mut self, host: usize, until: u64) {
        self.hosts[host].frozen = true;
        self.fault_until(until + 30 * MS);
        self.at(until, Event::Thaw { host });
    }

    /// Nothing passes, in one direction or in both; what was sent arrives afterwards.
    fn cut(&mut self, host: usize, until: u64) {
        let way = self.rng.within(0..3);
        let at = &mut self.hosts[host];
        if way != 0 {
            at.cut_in_until = at.cut_in_until.max(until);
        }
        if way != 1 {
            at.cut_out_until = at.cut_out_until.max(until);
        }
        self.fault_until(until);
    }

    /// The connection ends and both sides know.
    fn reset(&mut self, host: usize) {
        let at = &self.hosts[host];
        if let Some(connection) = at.connection.clone() {
            let event = Event::Broken { host, instance: at.instance, connection: connection.number };
            self.at(self.now, event);
        }
    }

    /// The connection carries nothing any more and nobody is told.
    fn half_dead(&mut self, host: usize) {
        if let Some(connection) = &mut self.hosts[host].connection {
            connection.dead = true;
        }
    }

    /// The server comes back as another process, or a replica takes over, after some time.
    fn store_restarts(&mut self, writes_ago: Option<usize>) {
        self.store.restart(writes_ago);
        self.store.up = false;
        // The clock of another host, within half of the margin.
        let margin = self.plan.timing.margin.as_micros() as i64;
        self.store.step_us = self.rng.within(0..margin as u64 / 2 + 1) as i64 - margin / 4;
        let until = self.now + self.rng.within(0..self.expiry());
        self.fault_until(until);
        self.at(until, Event::StoreUp);
        for host in 0..self.hosts.len() {
            if self.rng.percent(80) {
                self.reset(host);
            } else {
                self.half_dead(host);
            }
        }
    }
}
