//! What goes wrong with nodes and connections, and who holds the lease.

use gone::message::frame::Refusal;
use gone::message::holder::Holder;
use gone::message::stdin::Form;

use crate::world::{Event, FAULTS_END, LIMITS, NODES, SENDERS, World};

impl World {
    pub(crate) fn fault(&mut self) {
        self.report.faults += 1;
        let node = self.rng.within(0..NODES as u64) as usize;
        let node = self.holder.map_or(node, |(holder, _)| if self.rng.percent(70) { holder } else { node });
        match self.rng.within(0..5) {
            // It dies and its lease runs out.
            0 => {
                self.nodes[node].dead = true;
                self.nodes[node].core = Holder::new("job".into(), LIMITS);
                self.forget_child(node);
                self.nodes[node].waiting.clear();
                self.cut(Some(node));
                let back = self.rng.within(100_000..3_000_000);
                self.later(back, Event::Notice(node));
                self.expire(node, 300_000..1_500_000);
            }
            // It is paused, loses the lease meanwhile, and notices only a while after it goes on.
            1 => {
                let pause = self.rng.within(500_000..3_000_000);
                self.nodes[node].awake_at = self.now + pause;
                let notices = self.rng.within(1000..200_000);
                self.later(pause + notices, Event::Notice(node));
                self.expire(node, 100_000..1_000_000);
            }
            // It stops in order.
            2 if self.nodes[node].awake_at <= self.now => {
                self.nodes[node].core.refuse_all(Refusal::Stopping);
                self.forget_child(node);
                self.answer(node);
                self.expire(node, 1000..100_000);
                self.later(150_000, Event::Notice(node));
            }
            // Its child ends and another one begins in the same turn.
            3 if self.holder == Some((node, self.nodes[node].token))
                && self.nodes[node].awake_at <= self.now =>
            {
                let token = self.nodes[node].token;
                self.nodes[node].core.refuse_all(Refusal::Stopping);
                self.forget_child(node);
                self.nodes[node].core.begin(token, Form::Frames);
                self.answer(node);
                self.read(node);
            }
            _ => self.cut(None),
        }
        let pause = self.rng.within(50_000..1_500_000);
        if self.now + pause < FAULTS_END {
            self.later(pause, Event::Fault);
        }
    }

    /// The lease of this node is not renewed any more; somebody else has it after a while.
    pub(crate) fn expire(&mut self, node: usize, within: std::ops::Range<u64>) {
        if self.holder.is_some_and(|(holder, _)| holder == node) {
            self.before = self.holder.take();
            let after = self.rng.within(within);
            self.later(after, Event::Elect);
        }
    }

    pub(crate) fn forget_child(&mut self, node: usize) {
        self.nodes[node].child.clear();
        self.nodes[node].last_given.clear();
    }

    pub(crate) fn cut(&mut self, node: Option<usize>) {
        for index in 0..SENDERS {
            let Some((conn, to)) = self.parties[index].conn else { continue };
            if node.is_none_or(|node| node == to) {
                self.live.remove(&conn);
                let after = self.rng.within(100..50_000);
                self.later(after, Event::Down(index, conn));
            }
        }
    }

    pub(crate) fn notice(&mut self, node: usize) {
        self.nodes[node].dead = false;
        if self.holder != Some((node, self.nodes[node].token)) {
            self.nodes[node].core.end();
            self.forget_child(node);
            self.answer(node);
        }
        self.read(node);
    }

    pub(crate) fn elect(&mut self) {
        if self.holder.is_some() {
            return;
        }
        let node = self.rng.within(0..NODES as u64) as usize;
        if self.nodes[node].dead || self.nodes[node].awake_at > self.now {
            return self.later(50_000, Event::Elect);
        }
        self.token += 1;
        self.holder = Some((node, self.token));
        self.turn_began.insert(self.token, self.now);
        self.forget_child(node);
        self.nodes[node].token = self.token;
        self.nodes[node].core.begin(self.token, Form::Frames);
        self.answer(node);
        self.read(node);
    }
}
