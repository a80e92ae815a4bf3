//! The sender's side, for one id: what is sent where, again, and when it is given up.
//!
//! Pure: messages, answers, what the lock says and the time come in; [`Action`]s come out. `T` is what the
//! caller wants back when a message is settled. Times are since any fixed moment.

mod action;
mod sight;
mod window;

pub use action::{Action, Delivered, Patience, Whereabouts};

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use crate::message::error::SendError;
use crate::message::frame::{About, Body, Frame, Refusal, SenderId};
use crate::message::sender::sight::Sight;
use crate::message::sender::window::{Entry, Packed, Window};

/// Waits before one more attempt after attempts without progress: these two, doubling.
const FIRST_PAUSE: Duration = Duration::from_millis(10);
const LONGEST_PAUSE: Duration = Duration::from_millis(250);
/// How often the holder is looked up until it has answered, and when it has fallen silent.
const LOOK_UNANSWERED: Duration = Duration::from_millis(250);
const LOOK_QUIET: Duration = Duration::from_secs(1);
/// Longest time between two probes of a silent holder.
const LONGEST_PROBE: Duration = Duration::from_secs(10);

/// One sender. The caller bounds what it offers.
#[derive(Debug)]
pub struct Sender<T> {
    id: Arc<str>,
    me: SenderId,
    next: u64,
    window: Window<T>,
    actions: VecDeque<Action<T>>,
    holder: Option<Whereabouts>,
    /// There is a connection to the holder, or one is being made.
    line: bool,
    sight: Sight,
    /// Nothing is sent until the lock was asked again.
    halted: bool,
    /// All is to be sent anew over the same connection.
    restart: bool,
    attempt: u32,
    /// The next sequence to send in this attempt.
    cursor: u64,
    /// The first frame of this attempt is out.
    tried: bool,
    /// The holder has answered in this attempt, so that the rest may follow.
    answered: bool,
    asking: bool,
    look_at: Duration,
    probe_at: Duration,
    probe_pause: Duration,
    pauses: u32,
    trouble: String,
    /// What the holder said, if the lock has not been asked since.
    refused: Option<Refusal>,
    /// The lock was being asked when the holder refused: that answer may be from before.
    outdated: bool,
}

impl<T> Sender<T> {
    /// A sender that has sent nothing.
    pub fn new(id: Arc<str>, me: SenderId) -> Self {
        Self {
            id,
            me,
            next: 1,
            window: Window::new(),
            actions: VecDeque::new(),
            holder: None,
            line: false,
            sight: Sight::default(),
            halted: true,
            restart: false,
            attempt: 0,
            cursor: 1,
            tried: false,
            answered: false,
            asking: false,
            look_at: Duration::ZERO,
            probe_at: Duration::ZERO,
            probe_pause: LOOK_QUIET,
            pauses: 0,
            trouble: "the lock has not answered who holds it".into(),
            refused: None,
            outdated: false,
        }
    }

    /// Takes a message; [`Sender::tick`] then sends it.
    pub fn offer(&mut self, now: Duration, data: Bytes, ticket: T, patience: Patience) -> u64 {
        let sequence = self.next;
        self.next += 1;
        if self.window.is_empty() {
            // Nothing was expected so far, so nothing was missed.
            self.probe_at = now + LOOK_QUIET;
            self.look_at = if self.halted { self.look_at } else { now + LOOK_QUIET };
        }
        self.window.push(now, sequence, data, ticket, patience);
        sequence
    }

    /// Who this sender is.
    pub fn identity(&self) -> SenderId {
        self.me
    }

    /// Messages that are not settled.
    pub fn unsettled(&self) -> usize {
        self.window.len()
    }

    /// When [`Sender::tick`] has to be called at the latest.
    pub fn due(&self) -> Option<Duration> {
        if self.window.is_empty() {
            return None;
        }
        let look = if self.asking { Duration::MAX } else { self.look_at };
        Some(look.min(self.window.earliest))
    }

    /// What is to be done next; to be asked until there is nothing.
    pub fn next_action(&mut self) -> Option<Action<T>> {
        self.actions.pop_front()
    }

    /// Time has passed, or messages were offered.
    pub fn tick(&mut self, now: Duration) {
        if now >= self.window.earliest {
            self.give_up_late(now);
        }
        if self.window.is_empty() {
            return;
        }
        if !self.asking && now >= self.look_at {
            self.asking = true;
            self.actions.push_back(Action::LookUp);
        }
        if self.restart && !self.halted {
            self.begin(now);
        }
        self.send(now);
    }

    /// The lock has said who holds the lease, or could not be asked.
    pub fn looked_up(&mut self, now: Duration, found: Result<Option<Whereabouts>, String>) {
        self.sight.last(now);
        self.asking = false;
        if std::mem::take(&mut self.outdated) {
            return self.tick(now);
        }
        let found = match found {
            Err(trouble) => {
                self.trouble = trouble;
                self.look_at = now + self.pause();
                return self.tick(now);
            }
            Ok(None) => {
                self.trouble = "nobody holds it".into();
                self.sight.vacant = true;
                self.look_at = now + self.pause();
                self.refused = None;
                let id = self.id.to_string();
                self.fail_impatient(|maybe_taken| SendError::NoHolder { id: id.clone(), maybe_taken });
                return self.tick(now);
            }
            Ok(Some(found)) => found,
        };
        self.sight.vacant = false;
        let same_place = self.holder.as_ref().is_some_and(|holder| holder.address == found.address);
        let newer = self.holder.as_ref().is_none_or(|holder| found.token > holder.token || !same_place);
        let refused = self.refused.take();
        if let Some(why) = refused.filter(|_| !newer) {
            let (id, address) = (self.id.to_string(), found.address.clone());
            self.fail_impatient(|maybe_taken| SendError::Refused {
                id: id.clone(),
                address: address.clone(),
                why: why.text().into(),
                maybe_taken,
            });
        }
        if self.halted || newer {
            if !same_place || !self.line {
                (self.line, self.sight.up) = (true, false);
                self.actions.push_back(Action::Connect(found.address.clone()));
            }
            // A store that lags behind may know less than the holder has told, unless that is what it refuses.
            let trusted = same_place && refused != Some(Refusal::NotHolder);
            let known = self.holder.as_ref().filter(|_| trusted).map_or(0, |holder| holder.token);
            self.holder = Some(Whereabouts { token: found.token.max(known), ..found });
            self.sight.refusing &= !newer;
            self.begin(now);
        } else {
            self.look_at = now + if self.answered { LOOK_QUIET } else { LOOK_UNANSWERED };
            if now >= self.probe_at && self.tried {
                self.probe_pause = (self.probe_pause * 2).min(LONGEST_PROBE);
                self.probe(now);
            }
        }
        self.tick(now);
    }

    /// The connection stands.
    pub fn line_up(&mut self, now: Duration) {
        self.sight.last(now);
        self.sight.up = self.line;
    }

    /// The connection ended. It is not connected again before the lock was asked.
    pub fn line_down(&mut self, now: Duration, why: &str) {
        if self.line {
            self.sight.last(now);
            (self.line, self.sight.up) = (false, false);
            let address = self.holder.as_ref().map_or("", |holder| &holder.address);
            self.trouble = format!("the connection to {address} ended: {why}");
            self.halt(now);
            self.tick(now);
        }
    }

    /// The holder's end does not let us in; the connection goes on trying.
    pub fn line_refused(&mut self, now: Duration, why: &str) {
        self.sight.last(now);
        self.sight.up = false;
        let address = self.holder.as_ref().map_or(String::new(), |holder| holder.address.clone());
        self.trouble = format!("no connection to {address}: {why}");
        let id = self.id.to_string();
        self.fail_impatient(|maybe_taken| SendError::Refused {
            id: id.clone(),
            address: address.clone(),
            why: why.into(),
            maybe_taken,
        });
        self.tick(now);
    }

    /// Something came from the holder; [`Sender::tick`] after a row of these.
    pub fn received(&mut self, now: Duration, frame: Frame) {
        self.line_up(now);
        let about = frame.about;
        let current = about.attempt == self.attempt;
        if about.sender != self.me || about.id != self.id {
            if let Body::Refused { why: Refusal::Version, .. } = frame.body {
                self.refused_by_holder(now, Refusal::Version);
            }
            return;
        }
        match frame.body {
            Body::Ack { acked, taken, probed } => {
                self.acknowledged(acked, about.token);
                if !current {
                    return;
                }
                (self.answered, self.sight.refusing) = (true, false);
                self.heard(now);
                self.restart |= self.window.misses(taken, probed);
            }
            Body::Refused { why: why @ (Refusal::Newline | Refusal::TooLarge), sequence } => {
                if let Some(entry) = self.window.remove(sequence) {
                    let id = self.id.to_string();
                    self.actions.push_back(Action::Settle(entry.ticket, Err(SendError::Content { id, why })));
                    // Those behind it were refused too, as having a gap before them.
                    self.restart |= sequence < self.cursor;
                    self.heard(now);
                }
            }
            Body::Refused { why, .. } if current && !self.halted => match why {
                Refusal::Turn => {
                    self.heard(now);
                    if let Some(holder) = &mut self.holder {
                        holder.token = holder.token.max(about.token);
                    }
                    self.restart = true;
                }
                Refusal::Gap if self.pauses == 0 => {
                    self.heard(now);
                    self.pauses = 1;
                    self.restart = true;
                }
                _ => self.refused_by_holder(now, why),
            },
            Body::Refused { .. } | Body::Data { .. } | Body::Probe { .. } => {}
        }
    }

    fn refused_by_holder(&mut self, now: Duration, why: Refusal) {
        let address = self.holder.as_ref().map_or("", |holder| &holder.address);
        self.trouble = format!("the holder at {address} takes no messages: {}", why.text());
        // A gap is put right by sending anew.
        self.refused = Some(why).filter(|why| *why != Refusal::Gap);
        self.sight.last(now);
        self.sight.refusing = self.refused.is_some();
        self.outdated = self.asking;
        self.halt(now);
    }

    /// Nothing goes out until the lock was asked again.
    fn halt(&mut self, now: Duration) {
        if !self.halted {
            self.halted = true;
            self.look_at = now + self.pause();
        }
    }

    /// How long to wait before one more attempt: not at all before the first.
    fn pause(&mut self) -> Duration {
        let doublings = self.pauses.min(16);
        self.pauses += 1;
        let pause = FIRST_PAUSE.saturating_mul((1 << doublings) >> 1);
        pause.min(LONGEST_PAUSE)
    }

    fn heard(&mut self, now: Duration) {
        self.look_at = now + LOOK_QUIET;
        self.probe_at = now + LOOK_QUIET;
        self.probe_pause = LOOK_QUIET;
    }

    fn acknowledged(&mut self, acked: u64, token: u64) {
        while let Some(entry) = self.window.pop_acknowledged(acked) {
            let delivered = Delivered { sender: self.me, sequence: entry.sequence, token };
            self.actions.push_back(Action::Settle(entry.ticket, Ok(delivered)));
            self.pauses = 0;
        }
    }

    /// Begins to send all that is unsettled.
    fn begin(&mut self, now: Duration) {
        self.attempt = self.attempt.wrapping_add(1);
        self.cursor = 0;
        (self.halted, self.restart, self.tried, self.answered) = (false, false, false, false);
        self.look_at = now + LOOK_UNANSWERED;
        self.probe_at = now + LOOK_QUIET;
    }

    /// Sends the first frame of an attempt, and the rest once the holder has answered.
    fn send(&mut self, now: Duration) {
        while !self.halted && (self.answered || !self.tried) {
            let Some(Packed { previous, first, messages }) = self.window.pack(&mut self.cursor) else {
                return;
            };
            let body = Body::Data { previous, first, messages };
            self.actions.push_back(Action::Send(Frame { about: self.about(), body }));
            if !self.tried {
                self.tried = true;
                self.probe(now);
            }
        }
    }

    fn probe(&mut self, now: Duration) {
        let frame = Frame { about: self.about(), body: Body::Probe { sent: self.cursor.saturating_sub(1) } };
        self.probe_at = now + self.probe_pause;
        self.actions.push_back(Action::Send(frame));
    }

    fn about(&self) -> About {
        let token = self.holder.as_ref().map_or(0, |holder| holder.token);
        About { id: Arc::clone(&self.id), sender: self.me, token, attempt: self.attempt }
    }

    /// Fails the messages that do not ride through times without a holder.
    fn fail_impatient(&mut self, error: impl Fn(bool) -> SendError) {
        self.give_up(|entry| (!entry.wait).then(|| error(entry.sent)));
    }

    fn give_up_late(&mut self, now: Duration) {
        self.window.count_from(self.sight.last(now));
        let (id, trouble) = (self.id.to_string(), self.silence());
        self.give_up(|entry| {
            (entry.deadline <= now).then(|| SendError::TimedOut {
                id: id.clone(),
                within: entry.timeout.unwrap_or_default(),
                trouble: trouble.clone(),
                maybe_taken: entry.sent,
            })
        });
    }

    fn silence(&self) -> String {
        match &self.holder {
            Some(holder) if !self.halted && self.answered => {
                format!("its holder at {} is there, its child has not taken it", holder.address)
            }
            Some(holder) if !self.halted && self.tried => {
                format!("no answer from its holder at {}", holder.address)
            }
            _ => self.trouble.clone(),
        }
    }

    fn give_up(&mut self, why: impl Fn(&Entry<T>) -> Option<SendError>) {
        for (ticket, error) in self.window.give_up(why) {
            self.actions.push_back(Action::Settle(ticket, Err(error)));
        }
    }
}
