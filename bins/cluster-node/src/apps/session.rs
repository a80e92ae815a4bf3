//! One application: what waits for it, what it may take, what it sent. Pure.

use std::collections::VecDeque;
use std::time::{Duration, Instant, SystemTime};

use cluster::{Event, Payload, Receipt, SendError, Target};
use zmq_link::Multipart;

use super::frames::{self, Outcome};
use crate::event::cost;

/// Most events in one go to an application.
const PORTION: usize = 512;
/// Their bytes.
const PORTION_BYTES: usize = 1 << 20;
/// Why a message that came over the bounds of the welcome was not taken.
const OVER: &str =
    "more messages are unanswered than the welcome allows: wait for their answers, then send this one again";

/// What bounds one application.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// Events that wait for it, and messages of its that wait for the cluster.
    pub messages: usize,
    /// Their bytes.
    pub bytes: usize,
    /// How long it may take nothing while its buffer is full.
    pub patience: Duration,
}

/// An application that has said hello.
#[derive(Debug)]
pub struct Session {
    events: VecDeque<(SystemTime, Event)>,
    bytes: usize,
    credit: u64,
    left_out: u64,
    /// Since when its buffer is full and it takes nothing.
    full_since: Option<Instant>,
    /// It holds nobody up any more.
    left_behind: bool,
    pending: VecDeque<(Target, Payload)>,
    pending_bytes: usize,
    over: u64,
    outcomes: Vec<Outcome>,
    /// Something is on its way to it.
    pub writing: bool,
    /// When something was last sent to it.
    pub told: Instant,
}

impl Session {
    /// One that may take so many events.
    pub fn new(credit: u64, missed: u64, now: Instant) -> Self {
        Self {
            events: VecDeque::new(),
            bytes: 0,
            credit,
            left_out: missed,
            full_since: None,
            left_behind: false,
            pending: VecDeque::new(),
            pending_bytes: 0,
            over: 0,
            outcomes: Vec::new(),
            writing: false,
            told: now,
        }
    }

    // --- events

    /// It can take more.
    pub fn grant(&mut self, credit: u64) {
        self.credit = self.credit.saturating_add(credit);
        if credit > 0 {
            self.left_behind = false;
            self.full_since = None;
        }
    }

    fn is_full(&self, bounds: &Bounds) -> bool {
        self.events.len() >= bounds.messages || self.bytes >= bounds.bytes
    }

    /// Until when events have to wait for it; `None` when they need not.
    pub fn holds_until(&mut self, bounds: &Bounds, now: Instant) -> Option<Instant> {
        if !self.is_full(bounds) {
            self.full_since = None;
            return None;
        }
        if self.left_behind {
            return None;
        }
        let until = *self.full_since.get_or_insert(now) + bounds.patience;
        if until <= now {
            self.left_behind = true;
            return None;
        }
        Some(until)
    }

    /// An event for it; false when it is left out.
    pub fn offer(&mut self, at: SystemTime, event: &Event, bounds: &Bounds) -> bool {
        // Who is left behind catches up half of its buffer before it gets more: a gap now and then, not at each event.
        let most = if self.left_out > 0 { bounds.messages / 2 } else { bounds.messages };
        if self.left_behind && (self.is_full(bounds) || self.events.len() > most) {
            self.left_out += 1;
            return false;
        }
        self.close_gap(at);
        self.bytes += cost(event);
        self.events.push_back((at, event.clone()));
        true
    }

    fn close_gap(&mut self, at: SystemTime) {
        if self.left_out > 0 {
            let gap = Event::Gap(std::mem::take(&mut self.left_out));
            self.bytes += cost(&gap);
            self.events.push_back((at, gap));
        }
    }

    /// Events that wait, and those left out that it has not been told of.
    pub fn waiting(&self) -> u64 {
        self.events.len() as u64 + self.left_out
    }

    /// Whether it was left behind and has not caught up.
    pub fn is_left_behind(&self) -> bool {
        self.left_behind
    }

    // --- messages

    /// A message of its; refused in its turn when too many are unanswered.
    pub fn send(&mut self, target: Target, payload: Payload, bounds: &Bounds) {
        let cost = payload.bytes.len();
        let fits = self.pending.len() < bounds.messages
            && (self.pending.is_empty() || self.pending_bytes + cost <= bounds.bytes);
        if self.over > 0 || !fits {
            self.over += 1;
            return;
        }
        self.pending_bytes += cost;
        self.pending.push_back((target, payload));
    }

    /// The next messages for the cluster.
    pub fn to_send(&mut self) -> &[(Target, Payload)] {
        let slice = self.pending.make_contiguous();
        &slice[..slice.len().min(PORTION)]
    }

    /// Whether messages wait for the cluster.
    pub fn has_to_send(&self) -> bool {
        !self.pending.is_empty()
    }

    /// What became of the first ones.
    pub fn sent(&mut self, outcomes: Vec<Result<Receipt, SendError>>) {
        for outcome in outcomes {
            if let Some((_, payload)) = self.pending.pop_front() {
                self.pending_bytes -= payload.bytes.len();
            }
            self.note(match outcome {
                Ok(Receipt { sequence, accepted, undelivered }) => {
                    Outcome::Sent { count: 1, sequence, accepted, undelivered }
                }
                Err(error) => Outcome::Refused { count: 1, error: error.to_string() },
            });
        }
        if self.pending.is_empty() && self.over > 0 {
            let count = std::mem::take(&mut self.over);
            self.note(Outcome::Refused { count, error: OVER.to_owned() });
        }
    }

    /// What was not understood, in its turn where nothing else waits.
    fn note(&mut self, outcome: Outcome) {
        let joined = self.outcomes.last_mut().is_some_and(|last| last.join(&outcome));
        if !joined {
            self.outcomes.push(outcome);
        }
    }

    // --- to the application

    /// What can go to it now.
    pub fn take(&mut self, at: SystemTime, now: Instant) -> Vec<Multipart> {
        let mut messages = Vec::new();
        if !self.outcomes.is_empty() {
            messages.push(frames::sent(&std::mem::take(&mut self.outcomes)));
        }
        if self.events.is_empty() && self.credit > 0 {
            self.close_gap(at);
        }
        let mut bytes = 0;
        while self.credit > 0
            && messages.len() < PORTION
            && bytes < PORTION_BYTES
            && let Some((at, event)) = self.events.pop_front()
        {
            self.bytes -= cost(&event);
            bytes += cost(&event);
            self.credit -= 1;
            if let Event::Message(message) = &event
                && message.missed > 0
            {
                messages.push(frames::missed(&message.node, message.missed, at));
            }
            messages.push(frames::of_event(&event, at));
        }
        if !messages.is_empty() {
            self.told = now;
        }
        messages
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOUNDS: Bounds = Bounds { messages: 4, bytes: 1 << 20, patience: Duration::from_millis(250) };

    fn kinds(messages: &[Multipart]) -> Vec<String> {
        messages
            .iter()
            .map(|message| {
                let kind = String::from_utf8_lossy(&message[0]).into_owned();
                if kind == "gap" {
                    let data: serde_json::Value = serde_json::from_slice(&message[3]).unwrap();
                    return format!("gap {}", data["count"]);
                }
                kind
            })
            .collect()
    }

    struct Bench(Session, Instant);

    impl Bench {
        fn new(credit: u64) -> Self {
            let now = Instant::now();
            Self(Session::new(credit, 0, now), now)
        }

        fn offer(&mut self) -> bool {
            self.0.offer(SystemTime::UNIX_EPOCH, &Event::Quorum(true), &BOUNDS)
        }

        fn take(&mut self) -> Vec<String> {
            kinds(&self.0.take(SystemTime::UNIX_EPOCH, self.1))
        }
    }

    #[test]
    fn events_flow_within_the_credit() {
        let mut bench = Bench::new(2);
        for _ in 0..3 {
            assert!(bench.offer());
        }
        assert_eq!(bench.take(), ["quorum", "quorum"]);
        assert!(bench.take().is_empty());
        bench.0.grant(5);
        assert_eq!(bench.take(), ["quorum"]);
    }

    #[test]
    fn a_full_buffer_holds_events_up_for_a_while_and_then_costs_a_gap() {
        let mut bench = Bench::new(0);
        let now = bench.1;
        for _ in 0..4 {
            assert_eq!(bench.0.holds_until(&BOUNDS, now), None);
            bench.offer();
        }
        let until = bench.0.holds_until(&BOUNDS, now).unwrap();
        assert_eq!(until, now + BOUNDS.patience);
        assert_eq!(bench.0.holds_until(&BOUNDS, now + Duration::from_millis(100)), Some(until));
        assert_eq!(bench.0.holds_until(&BOUNDS, until), None);
        assert!(bench.0.is_left_behind());
        assert!(!bench.offer() && !bench.offer());
        // The gap comes in its place, also when nothing else happens.
        bench.0.grant(100);
        assert_eq!(bench.take(), ["quorum", "quorum", "quorum", "quorum"]);
        assert_eq!(bench.take(), ["gap 2"]);
        assert!(bench.offer());
        assert_eq!(bench.take(), ["quorum"]);
    }

    #[test]
    fn a_gap_stands_before_what_comes_after_it() {
        let mut bench = Bench::new(0);
        (0..4).for_each(|_| assert!(bench.offer()));
        bench.0.holds_until(&BOUNDS, bench.1);
        bench.0.holds_until(&BOUNDS, bench.1 + BOUNDS.patience);
        assert!(!bench.offer());
        bench.0.grant(3);
        assert_eq!(bench.take().len(), 3);
        assert!(bench.offer());
        bench.0.grant(100);
        assert_eq!(bench.take(), ["quorum", "gap 1", "quorum"]);
    }

    #[test]
    fn who_takes_something_is_waited_for_again() {
        let mut bench = Bench::new(0);
        (0..4).for_each(|_| assert!(bench.offer()));
        let first = bench.0.holds_until(&BOUNDS, bench.1).unwrap();
        bench.0.grant(1);
        assert_eq!(bench.take().len(), 1);
        assert_eq!(bench.0.holds_until(&BOUNDS, first), None);
        bench.offer();
        assert_eq!(bench.0.holds_until(&BOUNDS, first), Some(first + BOUNDS.patience));
    }

    #[test]
    fn messages_are_answered_in_order_and_those_over_the_bound_are_refused() {
        let mut bench = Bench::new(0);
        for _ in 0..6 {
            bench.0.send(Target::Cluster, "x".into(), &BOUNDS);
        }
        assert_eq!(bench.0.to_send().len(), 4);
        let none: cluster::Names = [].into();
        let receipt = |sequence| Ok(Receipt { sequence, accepted: none.clone(), undelivered: none.clone() });
        bench.0.sent(vec![receipt(1), receipt(2)]);
        bench.0.send(Target::Cluster, "y".into(), &BOUNDS);
        bench.0.sent(vec![receipt(3), Err(SendError::Unknown("n9".into()))]);
        let messages = bench.0.take(SystemTime::UNIX_EPOCH, bench.1);
        let answer: serde_json::Value = serde_json::from_slice(&messages[0][1]).unwrap();
        let counts: Vec<u64> =
            answer.as_array().unwrap().iter().map(|outcome| outcome["count"].as_u64().unwrap()).collect();
        assert_eq!(counts, [3, 1, 3], "{answer}");
        assert!(answer[2]["error"].as_str().unwrap().contains("unanswered"));
        assert!(!bench.0.has_to_send());
    }
}
