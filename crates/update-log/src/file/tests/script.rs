//! A seeded script of operations, and a plain model of what the log promises.

mod check;
mod ends;

use std::collections::{BTreeMap, BTreeSet};

use super::mem::{EIO, ENOSPC, Fault, Op};
use super::*;
use crate::{DeliveryState, Failure, LogError, UnsubscribeError};

/// What the model knows of an update on a node that has not settled it.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
struct Try {
    attempts: u32,
    failures: u32,
    /// The highest attempt that was sent; never to be used again.
    sent: u32,
    /// A failure that the log refused to record.
    unreported: bool,
}

#[derive(Debug, Clone, Default)]
struct Node {
    name: String,
    pending: BTreeMap<u64, Try>,
    /// Settled, and perhaps not durably.
    weak: BTreeMap<u64, Try>,
    /// Given up, and perhaps not copied yet.
    dying: BTreeSet<u64>,
    dead: BTreeSet<u64>,
}

#[derive(Debug, Clone)]
struct Key {
    sequence: u64,
    body: u8,
    /// The answer to be given, when one that is final came.
    answer: Option<u16>,
    /// It may have been lost together with the delivery, so that another takes its place.
    open: bool,
}

pub(super) struct Script {
    pub(super) disk: MemDisk,
    pub(super) log: Arc<FileLog>,
    options: FileLogOptions,
    dice: Dice,
    next: u64,
    names: u64,
    ids: BTreeMap<u64, (String, usize)>,
    nodes: Vec<Node>,
    keys: BTreeMap<u8, Key>,
    faulty: bool,
    /// Something was refused since the last success: a crash may show it nevertheless.
    doubtful: bool,
    /// The disk crashed or failed to sync.
    forgetful: bool,
    pub(super) done: bool,
    pub(super) counts: BTreeMap<&'static str, u64>,
}

impl Script {
    pub(super) fn new(seed: u64, options: FileLogOptions) -> Self {
        let disk = MemDisk::default();
        let log = FileLog::open_on(Arc::new(disk.clone()), options.clone(), None).unwrap();
        Self {
            disk,
            log,
            options,
            dice: Dice(seed),
            next: 1,
            names: 0,
            ids: BTreeMap::new(),
            nodes: Vec::new(),
            keys: BTreeMap::new(),
            faulty: false,
            doubtful: false,
            forgetful: false,
            done: false,
            counts: BTreeMap::new(),
        }
    }

    /// Does one random thing. `disasters` includes faults, kills and crashes.
    pub(super) fn step(&mut self, disasters: bool) {
        match self.dice.below(100) {
            0..30 => self.append(),
            30..60 => self.deliver(),
            60..70 => self.fail(),
            70..72 => self.give_up(),
            72..74 => self.reject(),
            74..78 => self.subscribe(),
            78..79 if disasters => self.unsubscribe(),
            79..80 if disasters => self.rename(),
            80..81 => self.discard(),
            81..84 => self.send_only(),
            84..88 => self.repeat(),
            88..90 => self.check(),
            90..95 if disasters => self.toggle_faults(),
            95..96 if disasters => self.close(),
            96..98 if disasters => self.reopen(false),
            98..99 if disasters => self.reopen(true),
            _ => {}
        }
    }

    fn count(&mut self, what: &'static str) {
        *self.counts.entry(what).or_default() += 1;
    }

    /// A durable operation is about to be asked for: what it will make durable if it succeeds.
    fn before(&self) -> BTreeSet<(String, u64)> {
        let letters = wait(self.log.dead_letters(None)).unwrap();
        letters.iter().map(|letter| (letter.node.host().to_owned(), letter.sequence.0)).collect()
    }

    fn durable(&mut self, buried: &BTreeSet<(String, u64)>) {
        self.doubtful = false;
        for node in &mut self.nodes {
            let dying = &mut node.dying;
            let name = node.name.clone();
            node.weak.retain(|sequence, _| {
                dying.contains(sequence) && !buried.contains(&(name.clone(), *sequence))
            });
            let copied: Vec<_> =
                dying.iter().copied().filter(|s| buried.contains(&(name.clone(), *s))).collect();
            dying.retain(|sequence| !copied.contains(sequence));
            node.dead.extend(copied);
        }
    }

    fn refused(&mut self, error: &LogError) {
        assert!(self.faulty, "refused without a fault: {error}");
        self.doubtful = true;
        self.count("refused");
    }

    fn append(&mut self) {
        let len = if self.dice.one_in(20) { 3000 } else { self.dice.below(200) };
        let id = format!("u{}-{}", self.names, self.next);
        self.names += 1;
        let spool = self.dice.one_in(12) && !self.faulty;
        let mut new = if spool { spooled(&self.log, &id, len) } else { update(&id, len) };
        let number = self.dice.one_in(3).then_some(self.names as u8);
        new.key = number.filter(|number| !self.keys.contains_key(number)).map(|number| key(number, 1));
        let keyed = new.key.map(|key| key.scope[0]);
        let buried = self.before();
        match wait(self.log.append(new)) {
            Ok(Appended::New { sequence, tracker }) => {
                assert_eq!(sequence.0, self.next, "sequences follow each other");
                assert_eq!(tracker.nodes.len(), self.nodes.len());
                self.durable(&buried);
                self.ids.insert(self.next, (id, len));
                if let Some(number) = keyed {
                    self.keys.insert(number, Key { sequence: self.next, body: 1, answer: None, open: false });
                }
                for node in &mut self.nodes {
                    node.pending.insert(self.next, Try::default());
                }
                self.next += 1;
                self.count("append");
            }
            Ok(_) => panic!("a new key is not new"),
            Err(crate::AppendError::NoNodes) => assert!(self.nodes.is_empty()),
            Err(crate::AppendError::Log(error)) => self.refused(&error),
            Err(other) => panic!("{other}"),
        }
    }

    /// A random pending update of a random node.
    fn pick(&mut self) -> Option<(usize, u64)> {
        let index = self.dice.below(self.nodes.len());
        let node = self.nodes.get(index)?;
        let nth = self.dice.below(node.pending.len().min(12));
        let sequence = *node.pending.keys().nth(nth)?;
        Some((index, sequence))
    }

    /// The update of the log, its attempt number, checked and counted as sent.
    fn send(&mut self, index: usize, sequence: u64) -> Option<(NodeId, Pending, u32)> {
        let node = node(&self.nodes[index].name);
        if self.nodes[index].pending[&sequence].unreported {
            return None;
        }
        let found = wait(self.log.read(&node, Sequence(sequence), 1)).unwrap().remove(0);
        assert_eq!(found.update.sequence.0, sequence, "a pending update is not given to {node}");
        let attempt = found.progress.attempts + 1;
        let known = self.nodes[index].pending.get_mut(&sequence).unwrap();
        assert!(attempt > known.sent, "attempt {attempt} of {sequence} is sent twice to {node}: {known:?}");
        known.sent = attempt;
        Some((node, found, attempt))
    }

    fn settled(&mut self, index: usize, sequence: u64) {
        let node = &mut self.nodes[index];
        let tried = node.pending.remove(&sequence).unwrap();
        node.weak.insert(sequence, tried);
    }

    fn deliver(&mut self) {
        let Some((index, sequence)) = self.pick() else { return };
        let Some((node, found, attempt)) = self.send(index, sequence) else { return };
        let status = if self.dice.one_in(5) { 404 } else { 201 };
        let level = !self.dice.one_in(4);
        self.log.settle(
            &node,
            &found.update,
            Settled::Delivered { attempt, answer: answer(status, "made"), digest: sequence, level },
        );
        self.settled(index, sequence);
        let key = self.keys.values_mut().find(|key| key.sequence == sequence);
        if let Some(key) = key.filter(|key| key.answer.is_none() && level) {
            key.answer = Some(status);
        }
        self.count("deliver");
    }

    fn fail(&mut self) {
        let Some((index, sequence)) = self.pick() else { return };
        let tried = self.nodes[index].pending[&sequence];
        let attempt = if tried.unreported {
            tried.sent
        } else {
            if tried.attempts > 0
                && !wait(self.log.begin_attempt(&node(&self.nodes[index].name), Sequence(sequence)))
            {
                panic!("a retry of a pending update is refused");
            }
            let Some((_, _, attempt)) = self.send(index, sequence) else { return };
            attempt
        };
        let failures = tried.failures + 1;
        let failure = Failure { attempt, failures, status: 500, error: "broken".into(), answer: None };
        let buried = self.before();
        let done = wait(self.log.failed(&node(&self.nodes[index].name), Sequence(sequence), failure));
        let tried = self.nodes[index].pending.get_mut(&sequence).unwrap();
        tried.unreported = done.is_err();
        match done {
            Ok(()) => {
                (tried.attempts, tried.failures) = (attempt, failures);
                self.durable(&buried);
                self.count("fail");
            }
            Err(error) => self.refused(&error),
        }
    }

    fn send_only(&mut self) {
        let Some((index, sequence)) = self.pick() else { return };
        // Under way when the process ends, or not: the close below waits for these.
        if let Some((_, _, attempt)) = self.send(index, sequence) {
            let tried = self.nodes[index].pending.get_mut(&sequence).unwrap();
            (tried.sent, tried.unreported) = (attempt, true);
        }
    }

    fn give_up(&mut self) {
        let Some((index, sequence)) = self.pick() else { return };
        let Some((node, found, attempt)) = self.send(index, sequence) else { return };
        let dead = Settled::Dead { attempts: attempt, status: 500, error: "given up".into() };
        self.log.settle(&node, &found.update, dead);
        self.settled(index, sequence);
        self.nodes[index].dying.insert(sequence);
        self.count("dead");
    }

    fn reject(&mut self) {
        let Some((_, sequence)) = self.pick() else { return };
        let status = wait(self.log.status(Sequence(sequence))).unwrap().unwrap();
        let delivered = status.nodes.iter().any(|(_, p, _)| p.state == DeliveryState::Delivered);
        let holders: Vec<_> =
            (0..self.nodes.len()).filter(|i| self.nodes[*i].pending.contains_key(&sequence)).collect();
        let buried = self.before();
        if !wait(self.log.reject(Sequence(sequence), answer(500, "no"))) {
            return;
        }
        assert!(!delivered, "rejected although delivered");
        holders.iter().for_each(|index| self.settled(*index, sequence));
        if let Some(key) = self.keys.values_mut().find(|key| key.sequence == sequence && key.answer.is_none())
        {
            key.answer = Some(500);
        }
        if self.faulty {
            self.doubtful = true;
        } else {
            self.durable(&buried);
        }
        self.count("reject");
    }

    fn subscribe(&mut self) {
        let name = format!("n{}", self.dice.below(4));
        let buried = self.before();
        match wait(self.log.subscribe(&node(&name))) {
            Ok(()) => {
                if !self.nodes.iter().any(|node| node.name == name) {
                    self.nodes.push(Node { name, ..Node::default() });
                    self.durable(&buried);
                }
            }
            Err(error) => self.refused(&error),
        }
    }

    fn unsubscribe(&mut self) {
        let index = self.dice.below(self.nodes.len());
        let Some(name) = self.nodes.get(index).map(|node| node.name.clone()) else { return };
        let pending = self.nodes[index].pending.len() as u64;
        let (buried, discard) = (self.before(), self.dice.one_in(2));
        match wait(self.log.unsubscribe(&node(&name), discard)) {
            Ok(count) => {
                assert!(discard || pending == 0);
                assert!(count >= pending && count <= pending + self.nodes[index].dying.len() as u64);
                self.durable(&buried);
                self.nodes.remove(index);
                self.count("unsubscribe");
            }
            Err(UnsubscribeError::Pending(count)) => assert!(!discard && count >= pending && count > 0),
            Err(UnsubscribeError::Log(error)) => self.refused(&error),
        }
    }

    fn rename(&mut self) {
        let index = self.dice.below(self.nodes.len());
        let Some(old) = self.nodes.get(index).map(|node| node.name.clone()) else { return };
        let new = format!("n{}", self.dice.below(4));
        let taken = self.nodes.iter().any(|node| node.name == new);
        let buried = self.before();
        match wait(self.log.rename(&node(&old), &node(&new))) {
            Ok(()) => {
                assert!(!taken);
                self.durable(&buried);
                let node = &mut self.nodes[index];
                node.name = new;
                // An attempt to the old name may be under way, and nobody hears of it any more.
                for tried in node.pending.values_mut().chain(node.weak.values_mut()) {
                    tried.attempts += 1;
                    tried.unreported = false;
                }
                self.count("rename");
            }
            Err(LogError::Node(_)) => assert!(taken),
            Err(error) => self.refused(&error),
        }
    }

    fn discard(&mut self) {
        let index = self.dice.below(self.nodes.len());
        let Some(name) = self.nodes.get(index).map(|node| node.name.clone()) else { return };
        let buried = self.before();
        match wait(self.log.discard(&node(&name))) {
            Ok(count) => {
                assert!(count >= self.nodes[index].pending.len() as u64);
                self.durable(&buried);
                self.nodes[index].pending.clear();
                // Given up and not yet copied: discarded too, or copied just before.
                self.nodes[index].dying.clear();
                self.count("discard");
            }
            Err(error) => self.refused(&error),
        }
    }

    /// Sends a known key again.
    fn repeat(&mut self) {
        let nth = self.dice.below(self.keys.len());
        let Some((number, known)) = self.keys.iter().nth(nth).map(|(n, k)| (*n, k.clone())) else { return };
        let body = if self.dice.one_in(4) { known.body + 1 } else { known.body };
        let again = NewUpdate { key: Some(key(number, body)), ..update("again", 5) };
        match wait(self.log.append(again)).unwrap() {
            Appended::New { .. } => panic!("key {number} was forgotten"),
            Appended::KeyReused { sequence } => {
                assert_eq!((sequence.0, body), (known.sequence, known.body + 1))
            }
            Appended::Known { sequence, answer, tracker } => {
                assert_eq!((sequence.0, body), (known.sequence, known.body));
                let open = self.nodes.iter().any(|node| node.pending.contains_key(&sequence.0));
                match (answer, known.answer) {
                    _ if known.open => {}
                    (Some(found), Some(status)) => assert!(self.forgetful || found.status.as_u16() == status),
                    // A crash or a failed sync may take an answer; then it is only not known any more.
                    (None, Some(_)) => assert!(self.forgetful, "the answer of {sequence} is gone"),
                    (Some(_), None) => assert!(!open, "an answer that may not be the last"),
                    (None, None) => assert!(!open || tracker.is_some(), "nothing to wait for"),
                }
                self.count("repeat");
            }
        }
    }
}
