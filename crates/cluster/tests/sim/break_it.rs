//! What can be done to a world.

use std::time::Duration;

use crate::world::{Happening, Way, World};

impl World {
    pub(crate) fn set_way(&mut self, one: usize, other: usize, way: Way) {
        match way {
            Way::Sound => self.ways.remove(&(one.min(other), one.max(other))),
            _ => self.ways.insert((one.min(other), one.max(other)), way),
        };
        if way == Way::Cut {
            self.reset(one, other);
        }
        if way == Way::Sound {
            let between: Vec<usize> = self.between(one, other);
            for wire in between {
                let held =
                    self.wires.get_mut(wire).map(|wire| std::mem::take(&mut wire.held)).unwrap_or_default();
                if !held.is_empty() {
                    self.released.insert((one.min(other), one.max(other)), self.now);
                }
                // At once: what is still on its way was sent after it.
                held.into_iter().for_each(|happening| self.happen(happening));
            }
        }
    }

    pub(crate) fn heal(&mut self) {
        for (one, other) in self.ways.keys().copied().collect::<Vec<_>>() {
            self.set_way(one, other, Way::Sound);
        }
    }

    fn between(&self, one: usize, other: usize) -> Vec<usize> {
        self.pairs.get(&(one.min(other), one.max(other))).cloned().unwrap_or_default()
    }

    /// Ends every connection between the two.
    pub(crate) fn reset(&mut self, one: usize, other: usize) {
        self.between(one, other).into_iter().for_each(|wire| self.end(wire, true, true));
    }

    /// The connection is gone, with what is on its way; its ends notice.
    fn end(&mut self, wire: usize, dialer_notices: bool, accepting_notices: bool) {
        let Some(open) = self.wires.get_mut(wire).filter(|wire| wire.is_open) else { return };
        open.is_open = false;
        open.held.clear();
        for (notices, at_accepting, longest) in
            [(dialer_notices, false, 3000), (accepting_notices, true, 30_000)]
        {
            if notices {
                let time = self.now + Duration::from_micros(self.rng.within(100..longest));
                self.at(time, Happening::Ended { wire, at_accepting });
            }
        }
    }

    pub(crate) fn freeze(&mut self, at: usize) {
        let now = self.now;
        let node = &mut self.nodes[at];
        if node.is_up && !node.frozen {
            (node.frozen, node.frozen_at) = (true, now);
        }
    }

    /// Whether frames of before arrived between the two not long ago.
    pub(crate) fn heard_late(&self, one: usize, other: usize, within: Duration) -> bool {
        self.released.get(&(one.min(other), one.max(other))).is_some_and(|at| self.now - *at <= within)
    }

    /// The node's own time.
    pub(crate) fn lived(&self, at: usize) -> Duration {
        self.now - self.nodes[at].lost
    }

    /// How long a node has been frozen.
    pub(crate) fn frozen_for(&self, at: usize) -> Duration {
        let node = &self.nodes[at];
        if node.frozen { self.now - node.frozen_at } else { Duration::ZERO }
    }

    pub(crate) fn thaw(&mut self, at: usize) {
        if !std::mem::take(&mut self.nodes[at].frozen) {
            return;
        }
        let node = &mut self.nodes[at];
        node.lost += self.now - node.frozen_at;
        node.runs_since = self.now;
        node.wakes_at = None;
        for happening in std::mem::take(&mut node.backlog) {
            // It had arrived before it was looked at: what goes wrong on the way does so no more.
            match happening {
                Happening::Frame { wire, at_accepting, .. } | Happening::Ended { wire, at_accepting } => {
                    self.arrive(wire, at_accepting, happening, true);
                }
                other => self.happen(other),
            }
        }
        self.settle(at);
    }

    pub(crate) fn kill(&mut self, at: usize) {
        let wires: Vec<usize> = self
            .wires
            .iter()
            .enumerate()
            .filter(|(_, wire)| wire.dialer.0 == at || wire.accepting.0 == at)
            .map(|(id, _)| id)
            .collect();
        for wire in wires {
            let dialed = self.wires[wire].dialer.0 == at;
            self.end(wire, !dialed, dialed);
        }
        let now = self.now;
        let core = self.new_core(at);
        let node = &mut self.nodes[at];
        node.core = core;
        node.run += 1;
        node.frozen_at = now;
        (node.is_up, node.frozen, node.wakes_at, node.lost) = (false, false, None, now);
        node.backlog.clear();
        node.accepted.clear();
        node.dialed.clear();
    }

    pub(crate) fn start(&mut self, at: usize) {
        if !self.nodes[at].is_up {
            self.nodes[at].is_up = true;
            self.nodes[at].lost = self.now;
            self.nodes[at].runs_since = self.now;
            self.settle(at);
        }
    }
}
