//! What has to hold, checked against everything that the nodes tell.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use cluster::core::has_quorum;
use cluster::{Event, Message, Names, Receipt, Target};

use crate::world::{Seen, World};

/// The read timeout of the worlds.
const SEEN_WITHIN: Duration = Duration::from_millis(1000);

/// One run of a sender, and the name of a receiver.
type Stream = (usize, u32, usize);

#[derive(Debug, Default)]
struct Flow {
    offered: u64,
    /// Sequence numbers that were accepted, and not delivered so far.
    open: BTreeSet<u64>,
    refused: BTreeSet<u64>,
    told: u64,
    ranges: Vec<(u64, u64)>,
    delivered: u64,
    last: u64,
    missed: u64,
}

#[derive(Debug, Default)]
struct View {
    members: BTreeSet<Arc<str>>,
    quorum: Option<bool>,
}

#[derive(Debug, Default)]
pub(crate) struct Check {
    flows: BTreeMap<Stream, Flow>,
    views: BTreeMap<(usize, u32), View>,
    pub(crate) delivered: u64,
    pub(crate) lost: u64,
    pub(crate) joins: u64,
}

impl Check {
    /// Takes in what was seen since the last time, and asserts what has to hold at every step.
    pub(crate) fn look(&mut self, world: &mut World) {
        let configured = world.nodes.len() - 1;
        for (at, run, seen) in std::mem::take(&mut world.seen) {
            match seen {
                Seen::Sent { target, outcome: Ok(receipt) } => self.sent(world, at, run, &target, &receipt),
                Seen::Sent { .. } => {}
                Seen::Event(event) => self.event(world, at, run, event, configured),
            }
        }
        self.nobody_who_is_gone(world);
        for (at, node) in world.nodes.iter().enumerate().filter(|(_, node)| node.is_up) {
            let Some(view) = self.views.get(&(at, node.run)) else { continue };
            let right = has_quorum(configured, view.members.len(), None);
            assert_eq!(view.quorum, Some(right), "n{at}: quorum with {} members", view.members.len());
        }
    }

    /// One who hangs or is dead for longer than the read timeout is nobody's member.
    fn nobody_who_is_gone(&self, world: &World) {
        let gone = |at: &usize| world.frozen_for(*at) > SEEN_WITHIN;
        for peer in (0..world.nodes.len()).filter(gone) {
            let name = world.name(peer);
            for (at, node) in world.nodes.iter().enumerate() {
                let runs = node.is_up && !node.frozen && world.now - node.runs_since > SEEN_WITHIN;
                let sees = self.views.get(&(at, node.run)).is_some_and(|view| view.members.contains(&name));
                // What it had sent before it hung, and came late, counts as a sign of life.
                let sees = sees && !world.heard_late(at, peer, SEEN_WITHIN);
                assert!(!(runs && sees), "n{at} still sees n{peer}, gone for {:?}", world.frozen_for(peer));
            }
        }
    }

    fn sent(&mut self, world: &World, at: usize, run: u32, target: &Target, receipt: &Receipt) {
        let mut of = |names: &Names, accepted: bool| {
            for name in names.iter() {
                let flow = self.flows.entry((at, run, world.index(name))).or_default();
                flow.offered += 1;
                let set = if accepted { &mut flow.open } else { &mut flow.refused };
                set.insert(receipt.sequence);
            }
        };
        of(&receipt.accepted, true);
        of(&receipt.undelivered, false);
        let all = receipt.accepted.len() + receipt.undelivered.len();
        let wanted = if *target == Target::Cluster { world.nodes.len() - 1 } else { 1 };
        assert_eq!(all, wanted, "each one is told about once");
    }

    fn event(&mut self, world: &World, at: usize, run: u32, event: Event, configured: usize) {
        let view = self.views.entry((at, run)).or_default();
        match event {
            Event::Join(name) => {
                self.joins += 1;
                assert!(view.members.insert(Arc::clone(&name)), "n{at}: {name} joined twice");
                assert!(view.members.len() <= configured);
            }
            Event::Leave(name) => assert!(view.members.remove(&name), "n{at}: {name} left twice"),
            Event::Quorum(quorum) => {
                assert_ne!(view.quorum.replace(quorum), Some(quorum), "n{at}: told without a change");
            }
            Event::Undelivered(lost) => {
                let flow = self.flows.entry((at, run, world.index(&lost.node))).or_default();
                assert!(lost.count <= lost.to - lost.from + 1 && lost.count > 0, "{lost:?}");
                flow.told += lost.count;
                flow.ranges.push((lost.from, lost.to));
                self.lost += lost.count;
            }
            Event::Message(message) => self.message(world, at, &message),
            _ => {}
        }
    }

    fn message(&mut self, world: &World, at: usize, message: &Message) {
        let from = world.index(&message.node);
        let run = u32::from_be_bytes(message.payload[..].try_into().expect("four bytes"));
        let flow = self.flows.get_mut(&(from, run, at)).filter(|flow| flow.open.contains(&message.sequence));
        let flow = flow.unwrap_or_else(|| panic!("n{at}: {message:?} was never accepted, or came twice"));
        assert!(message.sequence > flow.last, "n{at}: {message:?} after {}", flow.last);
        flow.open.remove(&message.sequence);
        flow.last = message.sequence;
        flow.delivered += 1;
        flow.missed += message.missed;
        self.delivered += 1;
    }

    /// When all is healed and has come to rest: every message was delivered or told as not, none is missing.
    pub(crate) fn settle(&self, world: &World, keeps: bool, restarted: &BTreeSet<usize>) {
        for (&(from, run, to), flow) in &self.flows {
            if world.nodes[from].run != run {
                continue;
            }
            let who = format!("n{from} to n{to}: {flow:?}");
            let hole =
                |sequence: &u64| flow.ranges.iter().any(|(first, last)| (first..=last).contains(&sequence));
            assert!(flow.open.iter().chain(&flow.refused).all(hole), "an untold hole, {who}");
            assert!(flow.delivered + flow.told >= flow.offered, "unaccounted for, {who}");
            // What was under way to a run that ended, or was given up before its acknowledgement came, may have been
            // delivered as well; nothing else.
            if keeps && !restarted.contains(&to) {
                assert_eq!(flow.delivered + flow.told, flow.offered, "told too much, {who}");
            }
            if !restarted.contains(&to) {
                assert!(flow.missed <= flow.told, "{who}");
            }
        }
    }
}
