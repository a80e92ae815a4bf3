//! The holder's side, for one id: what is given to the child, and what may be acknowledged.
//!
//! Pure: frames and the child's progress come in, deliveries and answers go out. `R` is the way back to whoever
//! sent a frame.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use bytes::Bytes;

use crate::message::error::LinkUpError;
use crate::message::frame::{About, Body, Frame, Refusal, SenderId};
use crate::message::stdin::Form;

/// The bounds of a holder, for each id.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HolderLimits {
    /// Messages given to the child and not acknowledged. When they are reached nothing is taken until some are:
    /// a child that acknowledges itself has to do so at least this often.
    pub in_flight: usize,
    /// Their bytes. Either bound may be passed by the rest of one frame: 64 KiB, or one message.
    pub in_flight_bytes: usize,
    /// The largest message, in bytes.
    pub max_message: usize,
    /// Senders that are remembered. A forgotten one that sends a message again, because it did not hear that it
    /// was acknowledged, is believed, and the child gets that message twice.
    pub senders: usize,
}

impl Default for HolderLimits {
    fn default() -> Self {
        Self { in_flight: 1024, in_flight_bytes: 16 << 20, max_message: 1 << 20, senders: 10_000 }
    }
}

impl HolderLimits {
    /// # Errors
    /// [`LinkUpError::Limits`] for bounds that let nothing through or forget what is under way.
    pub fn check(&self) -> Result<(), LinkUpError> {
        let problem = if self.in_flight == 0 || self.in_flight_bytes == 0 || self.max_message == 0 {
            "a bound of 0 lets nothing through"
        } else if self.senders < self.in_flight.saturating_mul(2) {
            "twice as many senders have to be remembered as messages can be in flight"
        } else if self.max_message > 1 << 30 {
            "a message can have at most 1 GiB"
        } else {
            return Ok(());
        };
        Err(LinkUpError::Limits(problem))
    }
}

/// A message for the child.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Delivery {
    /// Counts this child's messages from 1.
    pub n: u64,
    /// Who sent it.
    pub origin: Origin,
    /// The message.
    pub data: Bytes,
}

/// Who sent a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// A sender of ours.
    Sender {
        /// Its identity.
        sender: SenderId,
        /// Its number for this message, from 1.
        sequence: u64,
    },
    /// A node of the original program, which says neither.
    Original,
}

/// What goes back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// To a sender of ours.
    Frame(Frame),
    /// The empty reply to an original node.
    Empty,
}

/// The child acknowledged what it was not given.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "the child acknowledged its message {n}, and was given {given} so far: nothing is acknowledged by that"
)]
pub struct NotGiven {
    /// What it wrote.
    pub n: u64,
    /// The last number that it was given.
    pub given: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Away,
    Holding,
    /// There is a child that takes nothing any more, and why.
    Refusing(Refusal),
}

/// What is known of a sender.
#[derive(Debug)]
struct Seen<R> {
    /// Up to here all is done: given to this child, acknowledged elsewhere, or given up.
    taken: u64,
    acked: u64,
    attempt: u32,
    route: R,
    /// When it was last heard, for forgetting.
    used: u64,
}

#[derive(Debug)]
enum From<R> {
    Sender(SenderId, u64),
    Original(R),
}

#[derive(Debug)]
struct Pending<R> {
    n: u64,
    from: From<R>,
    cost: usize,
}

/// One id at one node.
#[derive(Debug)]
pub struct Holder<R> {
    id: Arc<str>,
    limits: HolderLimits,
    form: Form,
    stage: Stage,
    token: u64,
    n: u64,
    senders: HashMap<SenderId, Seen<R>>,
    clock: u64,
    /// Given to the child, not acknowledged, in the child's order.
    pending: VecDeque<Pending<R>>,
    pending_bytes: usize,
    answers: Vec<(R, Answer)>,
}

impl<R: Clone + PartialEq> Holder<R> {
    /// Not the holder yet.
    pub fn new(id: Arc<str>, limits: HolderLimits) -> Self {
        Self {
            id,
            limits,
            form: Form::default(),
            stage: Stage::Away,
            token: 0,
            n: 0,
            senders: HashMap::new(),
            clock: 0,
            pending: VecDeque::new(),
            pending_bytes: 0,
            answers: Vec::new(),
        }
    }

    /// A child begins, which is given messages in this form under this token.
    pub fn begin(&mut self, token: u64, form: Form) {
        self.leave(Stage::Holding, Refusal::Stopping);
        (self.token, self.form, self.n) = (token, form, 0);
    }

    /// The child takes no more, as it is told to stop or closed what it reads: from now on nothing is taken and
    /// nothing acknowledged.
    pub fn refuse_all(&mut self, why: Refusal) {
        if self.stage != Stage::Away {
            self.leave(Stage::Refusing(why), why);
        }
    }

    /// The lease is not here any more.
    pub fn end(&mut self) {
        self.leave(Stage::Away, Refusal::NotHolder);
    }

    /// Whether nothing can be taken until the child has acknowledged something.
    pub fn is_full(&self) -> bool {
        self.stage == Stage::Holding
            && (self.pending.len() >= self.limits.in_flight
                || self.pending_bytes >= self.limits.in_flight_bytes)
    }

    /// Messages given to the child and not acknowledged, and their bytes.
    pub fn in_flight(&self) -> (usize, usize) {
        (self.pending.len(), self.pending_bytes)
    }

    /// Takes what a sender of ours sends; what is for the child is given to `deliver`, in order.
    pub fn take(&mut self, from: R, frame: Frame, mut deliver: impl FnMut(Delivery)) {
        let about = frame.about;
        if let Some(why) = self.refusal(&about) {
            return self.refuse(from, &about, why, 0);
        }
        match frame.body {
            Body::Data { previous, first, messages } => {
                self.take_data(from, &about, previous, (first, messages), &mut deliver);
            }
            Body::Probe { sent } => {
                let seen = self.senders.get(&about.sender);
                let (acked, taken) = seen.map_or((0, 0), |seen| (seen.acked, seen.taken));
                let body = Body::Ack { acked, taken, probed: sent };
                self.answer(from, Frame { about: self.about(about.sender, about.attempt), body });
            }
            // Only holders say these.
            Body::Ack { .. } | Body::Refused { .. } => {}
        }
    }

    /// Takes a message of an original node. Outside a turn it is dropped: that node waits in vain for the reply,
    /// and looks the holder up again.
    pub fn take_original(&mut self, from: R, data: Bytes, deliver: impl FnOnce(Delivery)) {
        if self.stage != Stage::Holding || !self.form.takes(&data) || data.len() > self.limits.max_message {
            return;
        }
        let n = self.give(From::Original(from), data.len());
        deliver(Delivery { n, origin: Origin::Original, data });
    }

    /// The child has taken its messages up to `n`; `held` says whether the lease is held at this very moment.
    ///
    /// # Errors
    /// [`NotGiven`], and nothing is acknowledged.
    pub fn acknowledge(&mut self, n: u64, held: bool) -> Result<(), NotGiven> {
        if self.stage != Stage::Holding {
            return Ok(());
        }
        if !held {
            self.end();
            return Ok(());
        }
        if n > self.n {
            return Err(NotGiven { n, given: self.n });
        }
        // Mostly one sender's messages follow on each other: each row is noted once.
        let mut rows: Vec<(SenderId, u64)> = Vec::new();
        while self.pending.front().is_some_and(|next| next.n <= n) {
            let Some(done) = self.pending.pop_front() else { break };
            self.pending_bytes -= done.cost;
            match (done.from, rows.last_mut()) {
                (From::Original(route), _) => self.answers.push((route, Answer::Empty)),
                (From::Sender(sender, sequence), Some((same, last))) if *same == sender => *last = sequence,
                (From::Sender(sender, sequence), _) => rows.push((sender, sequence)),
            }
        }
        for (sender, sequence) in &rows {
            if let Some(seen) = self.senders.get_mut(sender) {
                seen.acked = seen.acked.max(*sequence);
            }
        }
        rows.sort_unstable_by_key(|(sender, _)| sender.0);
        rows.dedup_by_key(|(sender, _)| *sender);
        rows.iter().for_each(|(sender, _)| self.tell(*sender));
        Ok(())
    }

    /// What is to be sent back since the last call.
    pub fn answers(&mut self) -> impl Iterator<Item = (R, Answer)> {
        self.answers.drain(..)
    }

    fn refusal(&self, about: &About) -> Option<Refusal> {
        match self.stage {
            Stage::Away => Some(Refusal::NotHolder),
            _ if about.token > self.token => Some(Refusal::NotHolder),
            Stage::Refusing(why) => Some(why),
            // What was sent in an earlier turn may have been acknowledged by another holder meanwhile.
            Stage::Holding if about.token < self.token => Some(Refusal::Turn),
            Stage::Holding => None,
        }
    }

    fn take_data(
        &mut self,
        from: R,
        about: &About,
        mut previous: u64,
        (first, messages): (u64, Vec<Bytes>),
        deliver: &mut impl FnMut(Delivery),
    ) {
        let mut taken = self.heard(&from, about);
        let (mut again, mut gap) = (false, false);
        for (sequence, data) in (first..).zip(messages) {
            if sequence <= taken {
                again = true;
            } else if data.len() > self.limits.max_message {
                self.refuse(from.clone(), about, Refusal::TooLarge, sequence);
            } else if !self.form.takes(&data) {
                self.refuse(from.clone(), about, Refusal::Newline, sequence);
            } else if previous > taken {
                // What follows is looked at all the same: each message that can never be taken is told at once.
                gap = true;
            } else {
                taken = sequence;
                let n = self.give(From::Sender(about.sender, sequence), data.len());
                deliver(Delivery { n, origin: Origin::Sender { sender: about.sender, sequence }, data });
            }
            previous = sequence;
        }
        if let Some(seen) = self.senders.get_mut(&about.sender) {
            seen.taken = taken;
        }
        if gap {
            self.refuse(from, about, Refusal::Gap, taken + 1);
        } else if again {
            self.tell(about.sender);
        }
    }

    /// Notes that a sender was heard; up to where its messages were taken.
    fn heard(&mut self, from: &R, about: &About) -> u64 {
        self.clock += 1;
        if !self.senders.contains_key(&about.sender) && self.senders.len() >= self.limits.senders {
            self.forget();
        }
        let seen = self.senders.entry(about.sender).or_insert_with(|| Seen {
            taken: 0,
            acked: 0,
            attempt: 0,
            route: from.clone(),
            used: 0,
        });
        seen.used = self.clock;
        // A frame of an earlier connection can come late; answers go where the sender is now.
        if about.attempt >= seen.attempt {
            (seen.attempt, seen.route) = (about.attempt, from.clone());
        }
        seen.taken
    }

    /// Forgets the quarter that was silent longest, but none whose messages are with the child.
    fn forget(&mut self) {
        let mut ages: Vec<u64> = self.senders.values().map(|seen| seen.used).collect();
        let quarter = ages.len() / 4;
        let (_, limit, _) = ages.select_nth_unstable(quarter);
        let limit = *limit;
        self.senders.retain(|_, seen| seen.used > limit || seen.taken != seen.acked);
    }

    fn give(&mut self, from: From<R>, bytes: usize) -> u64 {
        self.n += 1;
        // An empty message takes room too.
        let cost = bytes + 64;
        self.pending_bytes += cost;
        self.pending.push_back(Pending { n: self.n, from, cost });
        self.n
    }

    /// Ends a turn: what the child has not acknowledged was never taken, and its senders are told.
    fn leave(&mut self, to: Stage, why: Refusal) {
        self.stage = to;
        self.pending_bytes = 0;
        for pending in std::mem::take(&mut self.pending) {
            let From::Sender(sender, _) = pending.from else { continue };
            let Some(seen) = self.senders.get_mut(&sender).filter(|seen| seen.taken != seen.acked) else {
                continue;
            };
            seen.taken = seen.acked;
            let (route, attempt) = (seen.route.clone(), seen.attempt);
            let about = self.about(sender, attempt);
            self.refuse(route, &about, why, 0);
        }
        // Messages that were jumped over, because others acknowledged them or they were given up.
        self.senders.values_mut().for_each(|seen| seen.taken = seen.acked);
    }

    fn tell(&mut self, sender: SenderId) {
        if let Some(seen) = self.senders.get(&sender) {
            let (route, attempt) = (seen.route.clone(), seen.attempt);
            let body = Body::Ack { acked: seen.acked, taken: seen.taken, probed: 0 };
            self.answer(route, Frame { about: self.about(sender, attempt), body });
        }
    }

    fn refuse(&mut self, to: R, about: &About, why: Refusal, sequence: u64) {
        let about = self.about(about.sender, about.attempt);
        self.answer(to, Frame { about, body: Body::Refused { why, sequence } });
    }

    /// The same answer to a row of frames is given once.
    fn answer(&mut self, to: R, frame: Frame) {
        let answer = (to, Answer::Frame(frame));
        if self.answers.last() != Some(&answer) {
            self.answers.push(answer);
        }
    }

    fn about(&self, sender: SenderId, attempt: u32) -> About {
        About { id: Arc::clone(&self.id), sender, token: self.token, attempt }
    }
}
