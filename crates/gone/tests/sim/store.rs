//! The store: the rules of the Redis driver over a record in memory, which can be lost in every way.

use gone::lease::rules::{Contender, Kept, Reply, Request, Scene, decide};

#[derive(Debug)]
pub(super) struct Store {
    kept: Kept,
    /// Earlier states, for restarts with old data and for replicas that lag.
    past: Vec<Kept>,
    run: u64,
    pub(super) up: bool,
    pub(super) rate_ppm: i64,
    pub(super) step_us: i64,
    trust: bool,
}

/// 2025, in microseconds: any time will do.
const BEGIN_US: i64 = 1_735_689_600_000_000;

impl Store {
    pub(super) fn new(rate_ppm: i64, trust: bool) -> Self {
        Self { kept: Kept::default(), past: Vec::new(), run: 1, up: true, rate_ppm, step_us: 0, trust }
    }

    /// Changes with each start of a server process: what was sent to another one never arrives.
    pub(super) fn incarnation(&self) -> u64 {
        self.run
    }

    pub(super) fn now_us(&self, true_ns: u64) -> u64 {
        let true_us = (true_ns / 1000) as i64;
        (BEGIN_US + true_us + true_us * self.rate_ppm / 1_000_000 + self.step_us) as u64
    }

    /// The answer, and whether the record was changed.
    pub(super) fn ask(&mut self, true_ns: u64, from: &Contender, request: &Request) -> (Reply, bool) {
        let run = if self.trust { "always the same".to_owned() } else { format!("run-{}", self.run) };
        let scene = Scene { now_us: self.now_us(true_ns), run: &run };
        let before = self.kept.clone();
        let mut request = request.clone();
        if let (Request::Acquire { fresh, .. }, true) = (&mut request, self.trust) {
            *fresh = true;
        }
        let (reply, _) = decide(&mut self.kept, &scene, from, &request);
        let changed = self.kept != before;
        if changed {
            if self.past.len() == 6 {
                self.past.remove(0);
            }
            self.past.push(before);
        }
        (reply, changed)
    }

    pub(super) fn flush(&mut self) {
        self.kept = Kept::default();
        self.past.clear();
    }

    /// Another process begins with what was so many writes ago; none: with nothing.
    pub(super) fn restart(&mut self, writes_ago: Option<usize>) {
        self.run += 1;
        self.kept = match writes_ago {
            None => Kept::default(),
            Some(0) => self.kept.clone(),
            Some(ago) => self.past.iter().rev().nth(ago - 1).cloned().unwrap_or_default(),
        };
        self.past.clear();
    }
}
