//! The senders, and the connections over which they send.

use std::time::Duration;

use gone::message::frame::{Body, Frame};
use gone::message::sender::Action;
use gone::message::{Patience, Whereabouts};

use crate::world::{Broken, Conn, END, Event, MESSAGES, World, sender_id};

impl World {
    pub(crate) fn offer(&mut self, index: usize) {
        let now = self.time();
        for _ in 0..self.rng.within(1..6) {
            let party = &mut self.parties[index];
            if party.offered == MESSAGES || party.core.unsettled() >= 16 {
                break;
            }
            party.offered += 1;
            // A few are given up at some time, so that there are holes.
            let timeout = self.rng.percent(10).then(|| Duration::from_millis(self.rng.within(5..1500)));
            let data = vec![0; self.rng.within(0..900) as usize];
            let number = party.offered;
            let sequence = party.core.offer(
                now,
                data.into(),
                number,
                Patience { timeout, only_absence: false, wait: true },
            );
            assert_eq!(sequence, number);
        }
        self.tick(index);
        if self.parties[index].offered < MESSAGES {
            let pause = self.rng.within(1000..600_000);
            self.later(pause, Event::Offer(index));
        }
    }

    pub(crate) fn tick(&mut self, index: usize) {
        let now = self.time();
        self.parties[index].core.tick(now);
        while let Some(action) = self.parties[index].core.next_action() {
            match action {
                Action::LookUp => self.look_up(index),
                Action::Connect(address) => self.connect(index, &address),
                Action::Send(frame) => self.send(index, frame),
                Action::Settle(sequence, Err(_)) => {
                    self.report.given_up += 1;
                    self.settled_at.insert((sender_id(index), sequence), self.now);
                }
                Action::Settle(sequence, Ok(_)) => {
                    let key = (sender_id(index), sequence);
                    self.report.acknowledged += 1;
                    self.settled_at.insert(key, self.now);
                    if !self.acked_while_held.contains(&key) {
                        self.complain(format!("{key:?} was acknowledged by no child of a holder"));
                    }
                }
            }
        }
        if let Some(due) = self.parties[index].core.due() {
            let due = u64::try_from(due.as_micros()).unwrap_or(END + 1);
            let wait = due.saturating_sub(self.now).max(1);
            if self.now + wait <= END {
                self.later(wait, Event::Wake(index));
            }
        }
    }

    pub(crate) fn look_up(&mut self, index: usize) {
        let stale = self.faulty() && self.rng.percent(15);
        let known = if stale { self.before } else { self.holder };
        let found = known.map(|(node, token)| Whereabouts { address: node.to_string(), token });
        let found = if self.faulty() && self.rng.percent(10) { Err("lost".into()) } else { Ok(found) };
        let after = self.rng.within(100..20_000);
        self.later(after, Event::LookedUp(index, found));
    }

    pub(crate) fn connect(&mut self, index: usize, address: &str) {
        let node = address.parse().unwrap_or(0);
        self.counter += 1;
        let conn = self.counter;
        self.live.insert(conn);
        self.parties[index].conn = Some((conn, node));
        if self.nodes[node].dead {
            self.later(500, Event::Down(index, conn));
        }
    }

    pub(crate) fn send(&mut self, index: usize, mut frame: Frame) {
        let Some((conn, node)) = self.parties[index].conn else { return };
        if self.broken == Broken::GapCheck
            && let Body::Data { previous, .. } = &mut frame.body
        {
            *previous = 0;
        }
        self.travel(index, conn, true, &frame, |frame| Event::ToNode(node, conn, frame));
    }

    /// A frame arrives later, in order with the others of its connection; or never, or once more, out of order.
    pub(crate) fn travel(
        &mut self,
        index: usize,
        conn: Conn,
        there: bool,
        frame: &Frame,
        event: impl Fn(Frame) -> Event,
    ) {
        let faulty = self.faulty();
        if faulty && self.rng.percent(4) {
            return;
        }
        if faulty && self.rng.percent(4) {
            let late = self.rng.within(1000..8_000_000);
            self.later(late, event(frame.clone()));
        }
        let longest = if faulty && self.rng.percent(3) { 500_000 } else { 3000 };
        let arrives = self.now + self.rng.within(100..longest);
        let last = self.parties[index].arrivals.entry((conn, there)).or_default();
        *last = arrives.max(*last + 1);
        let after = *last - self.now;
        self.later(after, event(frame.clone()));
    }
}
