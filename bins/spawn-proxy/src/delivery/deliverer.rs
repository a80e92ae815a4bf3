//! The task that brings one node level with the log and keeps it there.

use std::collections::{BTreeSet, HashMap};
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use common::queue::Sequence;
use futures_util::stream::FuturesUnordered;
use futures_util::{FutureExt, StreamExt};
use rand::SeedableRng;
use rand::rngs::SmallRng;
use tokio::sync::{mpsc, watch};
use update_log::{DeliveryState, Pending, Settled, Update, UpdateBody};

use super::attempt::{self, Attempt, Finished};
use super::given_up::{Few, GivenUp};
use super::path::ConflictPath;
use super::schedule::{Next, Outcome, Policy, Schedule};
use crate::config::Ordering;
use crate::nodes::live::{CheckResult, Live};
use crate::proxy::worker::Worker;

/// Updates read from the log ahead of their delivery, per node.
const WINDOW: usize = 1024;
/// No more are read while their bodies take more memory than this.
const WINDOW_BYTES: u64 = 16 << 20;
/// After the log could not be read.
const READ_AGAIN: Duration = Duration::from_secs(1);

/// What the deliverer of a node is to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Order {
    /// Deliver.
    Run,
    /// Finish what is under way and send nothing more.
    Rest,
    /// As `Rest`, and end.
    Stop,
}

/// Something to be done while nothing is under way to the node; afterwards the queue is read anew.
pub type Errand = Pin<Box<dyn Future<Output = ()> + Send>>;

type Attempts = FuturesUnordered<Pin<Box<dyn Future<Output = Finished>>>>;

/// Delivers to one node until told to stop.
pub struct Deliverer {
    worker: Rc<Worker>,
    live: Arc<Live>,
    order: watch::Receiver<Order>,
    errands: mpsc::Receiver<Errand>,
    /// The next one, which waits for what is under way.
    errand: Option<Errand>,
    /// Dead letters that a later update may overtake.
    given_up: GivenUp,
    /// Updates in the window that had been given up: the node did without them before, and is not behind for their sake.
    retried: BTreeSet<Sequence>,
    tail: watch::Receiver<Sequence>,
    checks: watch::Receiver<CheckResult>,
    schedule: Schedule,
    window: HashMap<Sequence, InWindow>,
    /// Bodies in the window that are in memory.
    window_bytes: u64,
    attempts: Attempts,
    read_from: Sequence,
    rng: SmallRng,
    epoch: Instant,
    /// Since when updates may have been accumulating without being sent.
    resting_since: Option<Instant>,
    ordering: Ordering,
    generation: u64,
    /// Nobody gives orders any more: the last one, to stop, stands.
    orphaned: bool,
}

impl InWindow {
    fn bytes(&self) -> u64 {
        match &self.update.body {
            UpdateBody::Memory(body) => body.len() as u64,
            UpdateBody::Spooled(_) => 0,
        }
    }
}

fn bounds(worker: &Worker) -> (Policy, Ordering) {
    let updates = &worker.shared.config.load().updates;
    let policy = Policy {
        concurrency: if updates.ordering == Ordering::Global { 1 } else { updates.concurrency },
        max_attempts: updates.max_attempts,
        backoff: updates.backoff,
    };
    (policy, updates.ordering)
}

struct InWindow {
    update: Arc<Update>,
    /// When the update was received, on the clock that lag is measured with.
    received: Instant,
    last_status: u16,
    last_error: String,
}

impl Deliverer {
    /// A deliverer for a node that the log keeps a queue for.
    pub fn new(
        worker: Rc<Worker>,
        live: Arc<Live>,
        order: watch::Receiver<Order>,
        errands: mpsc::Receiver<Errand>,
    ) -> Self {
        let (policy, ordering) = bounds(&worker);
        Self {
            order,
            errands,
            errand: None,
            given_up: GivenUp::default(),
            retried: BTreeSet::new(),
            tail: worker.shared.log.tail(),
            checks: live.checks(),
            schedule: Schedule::new(policy),
            window: HashMap::new(),
            window_bytes: 0,
            attempts: FuturesUnordered::new(),
            read_from: Sequence::FIRST,
            rng: SmallRng::from_rng(&mut rand::rng()),
            epoch: Instant::now(),
            // Nothing is known yet: the first reading is a new one.
            resting_since: Some(Instant::now()),
            ordering,
            generation: live.generation(),
            orphaned: false,
            worker,
            live,
        }
    }

    /// Runs until the order is [`Order::Stop`] and nothing is under way.
    pub async fn run(mut self) {
        loop {
            let order = *self.order.borrow_and_update();
            self.follow_config();
            self.run_errand().await;
            let readable = match order {
                Order::Run => self.load().await,
                Order::Rest | Order::Stop => self.rest(),
            };
            if order == Order::Stop && self.attempts.is_empty() {
                return;
            }
            let wake = if order == Order::Run && self.errand.is_none() { self.send_due() } else { None };
            self.publish(order);
            let wake = if readable { wake } else { Some(wake.unwrap_or(READ_AGAIN).min(READ_AGAIN)) };
            self.wait(wake).await;
        }
    }

    /// Takes what is ready, all in one turn: one look at the log for all. Says whether there was any.
    fn take_finished(&mut self) -> bool {
        let before = self.attempts.len();
        while let Some(Some(finished)) = self.attempts.next().now_or_never() {
            self.finished(finished);
        }
        self.attempts.len() < before
    }

    async fn wait(&mut self, wake: Option<Duration>) {
        if self.take_finished() {
            return;
        }
        tokio::select! {
            biased;
            Some(finished) = self.attempts.next(), if !self.attempts.is_empty() => {
                self.finished(finished);
                self.take_finished();
            }
            changed = self.order.changed(), if !self.orphaned => self.orphaned = changed.is_err(),
            Some(errand) = self.errands.recv(), if self.errand.is_none() => self.errand = Some(errand),
            _ = self.tail.changed() => {}
            _ = self.checks.changed() => self.judge(),
            () = tokio::time::sleep(wake.unwrap_or_default()), if wake.is_some() => {}
        }
    }

    /// Takes over what a reload changed; another ordering means reading the window anew.
    fn follow_config(&mut self) {
        let (policy, ordering) = bounds(&self.worker);
        self.schedule.set_policy(policy);
        let generation = self.live.generation();
        if ordering != self.ordering || generation != self.generation {
            self.ordering = ordering;
            self.generation = generation;
            self.rest();
        }
    }

    /// Runs the errand that waits, once nothing is under way.
    async fn run_errand(&mut self) {
        let Some(errand) = self.errand.take() else { return };
        self.rest();
        if self.attempts.is_empty() {
            errand.await;
        } else {
            self.errand = Some(errand);
        }
    }

    fn now(&self) -> Duration {
        self.epoch.elapsed()
    }

    /// Fills the window from the log; false when the log could not be read.
    async fn load(&mut self) -> bool {
        if self.resting_since.is_some() {
            // What waited may have been discarded or rejected meanwhile: read all of it anew.
            if !self.attempts.is_empty() {
                return true;
            }
            if !self.load_letters().await {
                return false;
            }
            self.resting_since = None;
            self.schedule = Schedule::new(bounds(&self.worker).0);
            self.window.clear();
            self.window_bytes = 0;
            self.retried.clear();
            self.read_from = Sequence::FIRST;
        }
        while self.has_room() && *self.tail.borrow_and_update() > self.read_from {
            let tail = *self.tail.borrow();
            match self
                .worker
                .shared
                .log
                .read(&self.live.id, self.read_from, WINDOW - self.schedule.len())
                .await
            {
                Ok(pending) if pending.is_empty() => {
                    self.read_from = tail;
                    return true;
                }
                Ok(pending) => pending.into_iter().for_each(|one| self.enter(one)),
                Err(error) => {
                    tracing::error!(node = %self.live.id, %error, "cannot read the update log; trying again");
                    return false;
                }
            }
        }
        true
    }

    /// Reads which updates were given up here; false when the log could not be read.
    async fn load_letters(&mut self) -> bool {
        match self.worker.shared.log.dead_letters(Some(&self.live.id)).await {
            Ok(letters) => {
                self.given_up = GivenUp::default();
                self.live.set_lacks(letters.iter().map(|letter| letter.sequence.0));
                for letter in letters.iter().filter(|letter| letter.overtaken.is_none()) {
                    let path = self.conflict_path(&letter.target);
                    self.given_up.enter(path, letter.sequence);
                }
                true
            }
            Err(error) => {
                tracing::error!(node = %self.live.id, %error, "cannot read the dead letters; trying again");
                false
            }
        }
    }

    fn conflict_path(&self, target: &str) -> ConflictPath {
        match self.ordering {
            Ordering::Global => ConflictPath::root(),
            Ordering::Path => ConflictPath::of(target),
        }
    }

    fn enter(&mut self, Pending { update, progress }: Pending) {
        let sequence = update.sequence;
        let path = self.conflict_path(&update.target);
        if progress.state == DeliveryState::Dead {
            self.retried.insert(sequence);
            self.live.lack(sequence.0);
        }
        self.schedule.enter(sequence, path, progress.attempts, progress.failures, self.now());
        let received = self.received(&update);
        let one = InWindow { update, received, last_status: progress.status, last_error: String::new() };
        self.window_bytes += one.bytes();
        self.window.insert(sequence, one);
        self.read_from = sequence.next();
    }

    /// What was read back from the disk has been waiting for a while: the wall clock says how long,
    /// but never that the node is level.
    fn received(&self, update: &Update) -> Instant {
        update.appended.unwrap_or_else(|| {
            let wall = UNIX_EPOCH + Duration::from_millis(update.received_ms);
            let age = SystemTime::now().duration_since(wall).unwrap_or_default();
            let max_lag = self.worker.shared.config.load().max_lag;
            let now = Instant::now();
            now.checked_sub(age.max(max_lag + Duration::from_secs(1))).unwrap_or(self.epoch)
        })
    }

    fn has_room(&self) -> bool {
        self.schedule.len() < WINDOW && self.window_bytes < WINDOW_BYTES
    }

    fn take_out(&mut self, sequence: Sequence) -> Option<InWindow> {
        if self.retried.remove(&sequence) {
            self.live.has_got(sequence.0);
        }
        let one = self.window.remove(&sequence)?;
        self.window_bytes -= one.bytes();
        Some(one)
    }

    fn oldest(&self) -> Option<Instant> {
        self.window.get(&self.first()?).map(|one| one.received)
    }

    /// The first update that the node still has to get, but for those it had been given up on.
    fn first(&self) -> Option<Sequence> {
        if self.retried.is_empty() {
            return self.schedule.first();
        }
        self.schedule.unfinished().find(|sequence| !self.retried.contains(sequence))
    }

    /// Forgets the window but for what is under way: the log still has it.
    fn rest(&mut self) -> bool {
        if self.resting_since.is_none() {
            self.resting_since = Some(self.oldest().unwrap_or_else(Instant::now));
            self.read_from = self.first().unwrap_or(self.read_from);
            let kept = self.schedule.forget_waiting();
            self.window.retain(|sequence, _| kept.contains(sequence));
            self.window_bytes = self.window.values().map(InWindow::bytes).sum();
        }
        true
    }

    /// Sends what is due; how long until there is more.
    fn send_due(&mut self) -> Option<Duration> {
        while self.live.is_healthy() {
            let now = self.now();
            match self.schedule.next(now, self.live.tally()) {
                Next::Send(sequence, number) => self.send(sequence, number),
                Next::Wait(until) => return until.map(|until| until.saturating_sub(now)),
            }
        }
        None
    }

    fn send(&mut self, sequence: Sequence, number: u32) {
        let Some(InWindow { update, .. }) = self.window.get(&sequence) else {
            self.schedule.finish(sequence, self.now());
            return;
        };
        let overtakes = match self.schedule.path(sequence) {
            Some(path) => self.given_up.overtaken_by(path, sequence),
            None => Few::new(),
        };
        let attempt = Attempt {
            overtakes,
            worker: self.worker.clone(),
            live: self.live.clone(),
            update: update.clone(),
            number,
            failures: self.schedule.failures(sequence),
        };
        self.attempts.push(Box::pin(attempt::run(attempt)));
    }

    fn finished(&mut self, Finished { sequence, outcome, status, error, overtaken }: Finished) {
        if let Some(one) = self.window.get_mut(&sequence)
            && !error.is_empty()
        {
            one.last_status = status;
            one.last_error = error;
        }
        let now = self.now();
        self.schedule.done(sequence, outcome, now, &mut self.rng);
        if outcome == Outcome::Answered {
            self.take_out(sequence);
            if !overtaken.is_empty() {
                self.given_up.leave(&overtaken);
            }
        }
        if matches!(outcome, Outcome::Answered) {
            self.live.set_queue_error(None);
        }
    }

    /// A health check ended: whatever failed before it now counts or does not.
    fn judge(&mut self) {
        let error = self.checks.borrow_and_update().error.clone();
        if error.is_some() {
            self.live.set_queue_error(error);
            self.schedule.node_failed_check(self.now(), self.live.tally());
            return;
        }
        for sequence in self.schedule.node_passed_check(self.now(), self.live.tally()) {
            let attempts = self.schedule.attempts(sequence);
            let path = self.schedule.path(sequence).cloned();
            self.schedule.finish(sequence, self.now());
            let Some(one) = self.take_out(sequence) else { continue };
            self.live.lack(sequence.0);
            path.into_iter().for_each(|path| self.given_up.enter(path, sequence));
            tracing::error!(node = %self.live.id, %sequence, attempts, error = %one.last_error,
                "update given up and kept as a dead letter");
            let dead = Settled::Dead { attempts, status: one.last_status, error: one.last_error };
            self.worker.shared.log.settle(&self.live.id, &one.update, dead);
        }
    }

    fn publish(&self, order: Order) {
        let oldest = match self.resting_since {
            None => self.oldest(),
            Some(since) => (order != Order::Stop && *self.tail.borrow() > self.read_from).then_some(since),
        };
        let applied_before = self.first().unwrap_or(self.read_from);
        self.live.set_position(oldest, applied_before.0);
        self.worker.shared.advances.note();
        let pending = !self.schedule.is_empty();
        self.live.set_waiting(pending && (!self.live.is_healthy() || self.schedule.is_probing()));
    }
}
