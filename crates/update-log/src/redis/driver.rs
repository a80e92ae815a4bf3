//! The one task that writes: keeps the connection, sends batches until it is known what came of them, and follows the news.

use std::collections::VecDeque;
use std::future::Future;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rand::RngExt;
use redis::aio::MultiplexedConnection;
use tokio::sync::{mpsc, oneshot};

use super::link::{self, Known, Met, Push};
use super::op::{Batch, Op};
use super::options::RedisOpenError;
use super::shared::Inner;
use super::{news, read};
use crate::LogError;

/// A batch takes no more operations than this, and no more bytes.
const BATCH_OPS: usize = 256;
const BATCH_BYTES: usize = 4 << 20;
/// How often what everybody sees is read anew while it changes, and what is old is let go.
const LOOK: Duration = Duration::from_millis(200);
const TEND: Duration = Duration::from_millis(500);
/// A connection that is back within this has refused nobody.
const BLIP: Duration = Duration::from_millis(250);
/// Between dials, at most.
const SLOWEST_DIAL: Duration = Duration::from_millis(500);
/// While those who knew the log before tell what they have seen.
const GATHERING: Duration = Duration::from_millis(50);

/// The reply of the batch script: how it went, the next sequence or the reason, the nodes, the results.
pub(super) type BatchReply = (String, String, Vec<String>, Vec<Vec<String>>);

/// Why a connection is given up.
enum End {
    Stopped,
    Broken(String),
}

/// The driver's own.
pub(super) struct Driver {
    inner: Arc<Inner>,
    commands: mpsc::Receiver<Op>,
    /// Taken from the commands, for the next batch.
    held: Option<Op>,
    inflight: Option<Batch>,
    known: Known,
    next_id: u64,
    /// Since when there is no connection.
    broken: Instant,
    /// Whether a dial has succeeded.
    opened: bool,
    stale_view: bool,
    tended: Instant,
    looked: Instant,
}

impl Driver {
    pub(super) fn new(inner: Arc<Inner>, commands: mpsc::Receiver<Op>) -> Self {
        let now = Instant::now();
        Self {
            inner,
            commands,
            held: None,
            inflight: None,
            known: Known::default(),
            next_id: 0,
            broken: now,
            opened: false,
            stale_view: true,
            tended: now,
            looked: now,
        }
    }

    /// Runs until the log is closed. The first dial's outcome is told.
    pub(super) async fn run(mut self, ready: oneshot::Sender<Result<(), RedisOpenError>>) {
        let mut ready = Some(ready);
        let mut pause = Duration::from_millis(5);
        let stop = self.inner.stop.subscribe();
        while !*stop.borrow() {
            let (push, mut pushed) = mpsc::unbounded_channel();
            let push = move |told: Push| drop(push.send(told));
            let (inner, known) = (self.inner.clone(), self.known.clone());
            let meeting = async move {
                let mut connection = link::open(&inner, push).await?;
                let met = link::hello(&inner, &mut connection, &known).await?;
                Ok((connection, met))
            };
            let ended = match self.refusing(meeting).await {
                Ok((mut connection, met)) => {
                    self.meet(met);
                    let begun = Instant::now();
                    let end = self.serve(&mut connection, &mut pushed, &mut ready).await;
                    if begun.elapsed() > SLOWEST_DIAL {
                        pause = Duration::from_millis(5);
                    }
                    end
                }
                Err(error) => {
                    if let Some(ready) = ready.take() {
                        let _ = ready.send(Err(error));
                        break;
                    }
                    End::Broken(error.to_string())
                }
            };
            match ended {
                End::Stopped => break,
                End::Broken(what) => self.lose(&what),
            }
            let jitter = rand::rng().random_range(0.5..1.0);
            self.refusing(tokio::time::sleep(pause.mul_f64(jitter))).await;
            pause = (pause * 2).min(SLOWEST_DIAL);
        }
        let closed = LogError::Closed;
        self.commands.close();
        let held = self.held.take();
        let inflight = self.inflight.take().into_iter().flat_map(|batch| batch.ops).map(|(_, op)| op);
        inflight.chain(held).for_each(|op| op.refuse(&closed));
        while let Ok(op) = self.commands.try_recv() {
            op.refuse(&closed);
        }
    }

    /// Does something while there is no connection: who asks is refused, after a moment in which it may come back.
    async fn refusing<T>(&mut self, doing: impl Future<Output = T>) -> T {
        let mut stop = self.inner.stop.subscribe();
        let mut doing = std::pin::pin!(doing);
        let doubt = self.broken + self.inner.options.doubt;
        loop {
            let (patient, now) = (self.broken + BLIP, Instant::now());
            let awaited = self.inflight.as_ref().is_some_and(Batch::is_awaited);
            tokio::select! {
                biased;
                done = doing.as_mut() => return done,
                () = until(patient), if now < patient => self.refuse_held(),
                op = self.commands.recv(), if now >= patient && self.opened && !*stop.borrow() => match op {
                    Some(op) => op.refuse(&self.inner.away_error()),
                    None => tokio::time::sleep(LOOK).await,
                },
                () = until(doubt), if awaited => self.doubt(),
                _ = stop.changed() => {}
            }
        }
    }

    fn refuse_held(&mut self) {
        if let Some(op) = self.held.take() {
            op.refuse(&self.inner.away_error());
        }
    }

    fn doubt(&mut self) {
        let what = self.inner.away.borrow().clone().unwrap_or_default();
        if let Some(batch) = &mut self.inflight {
            batch.doubt(&self.inner.options.address(), &what);
        }
    }

    /// The connection is gone.
    fn lose(&mut self, what: &str) {
        let changed = self.inner.away.send_replace(Some(what.to_owned())).is_none();
        if changed {
            self.broken = Instant::now();
            tracing::error!(log = %self.inner.options.address(), error = what,
                "the update log is away: updates are refused until it is back");
        }
        let inner = self.inner.clone();
        self.inner.handle.spawn(async move { inner.drop_bulk().await });
    }

    /// Compares what the log is now with what it was.
    fn meet(&mut self, met: Met) {
        let log = self.inner.options.address();
        if self.known.id.is_empty() && met.epoch == 1 && met.next == 1 {
            tracing::info!(%log, id = %met.id, "a new update log has begun");
        } else if met.epoch != self.known.epoch && !self.known.id.is_empty() {
            tracing::warn!(%log, epoch = met.epoch, "Redis was restarted, or another server took over");
        }
        if met.lost_from < self.known.next || met.lost_batches > 0 {
            let lost = self.known.next.saturating_sub(met.lost_from);
            tracing::error!(%log, lost, from = met.lost_from, to = self.known.next.saturating_sub(1),
                records = met.lost_batches,
                "Redis came back without the end of the log: these updates were acknowledged, and nodes that had not got \
                 them yet never will; deliveries may be repeated");
            let mut core = self.inner.core();
            core.lost += lost.max(u64::from(met.lost_batches > 0));
            core.usage.lost = core.lost;
            core.forget_from(met.lost_from);
        }
        self.known.next = self.known.next.max(met.next);
        (self.known.id, self.known.epoch) = (met.id, met.epoch);
        if let Some(batch) = &self.inflight {
            debug_assert_eq!(batch.number, self.known.acknowledged + 1);
        }
    }

    /// Uses a connection until it breaks.
    async fn serve(
        &mut self,
        connection: &mut MultiplexedConnection,
        pushed: &mut mpsc::UnboundedReceiver<Push>,
        ready: &mut Option<oneshot::Sender<Result<(), RedisOpenError>>>,
    ) -> End {
        if let Err(what) = self.look(connection, true).await {
            return End::Broken(what);
        }
        let mut stop = self.inner.stop.subscribe();
        loop {
            if let Err(what) = self.take_news(pushed) {
                return End::Broken(what);
            }
            self.collect();
            if self.inflight.is_some() {
                match self.send(connection).await {
                    Ok(()) => self.online(ready),
                    Err(what) => return End::Broken(what),
                }
                if !self.chores_due() {
                    continue;
                }
            } else {
                self.online(ready);
            }
            if let Err(what) = self.chores(connection).await {
                return End::Broken(what);
            }
            if *stop.borrow() && self.is_idle() {
                return End::Stopped;
            }
            let marks = self.inner.core().marks_since;
            let due = marks.map(|since| since + self.inner.options.mark_delay);
            if due.is_some_and(|due| due <= Instant::now()) {
                continue;
            }
            let chores = if self.stale_view { self.looked + LOOK } else { self.tended + TEND };
            tokio::select! {
                biased;
                told = pushed.recv() => if let Err(what) = self.hear(told) { return End::Broken(what) },
                op = self.commands.recv(), if self.held.is_none() => match op {
                    Some(op) => self.held = Some(op),
                    None => return End::Stopped,
                },
                () = self.inner.wake.notified() => {}
                () = until(due.unwrap_or(chores)), if due.is_some() => {}
                () = until(chores) => {}
                _ = stop.changed() => {}
            }
        }
    }

    fn is_idle(&self) -> bool {
        self.inflight.is_none() && self.held.is_none() && self.inner.core().marks.is_empty()
    }

    fn online(&mut self, ready: &mut Option<oneshot::Sender<Result<(), RedisOpenError>>>) {
        if self.inner.away.send_replace(None).is_some() && self.opened {
            tracing::info!(log = %self.inner.options.address(), "the update log is back");
        }
        self.opened = true;
        if let Some(ready) = ready.take() {
            let _ = ready.send(Ok(()));
        }
    }

    fn take_news(&mut self, pushed: &mut mpsc::UnboundedReceiver<Push>) -> Result<(), String> {
        while let Ok(told) = pushed.try_recv() {
            self.hear(Some(told))?;
        }
        Ok(())
    }

    fn hear(&mut self, told: Option<Push>) -> Result<(), String> {
        match told {
            Some(Push::News(text)) => {
                self.stale_view |= news::hear(&self.inner, &text);
                self.known.next = self.known.next.max(self.inner.tail.borrow().0);
                Ok(())
            }
            Some(Push::Broken) | None => Err("the connection broke".into()),
        }
    }

    /// Puts what waits into a batch: marks first, then what is asked.
    fn collect(&mut self) {
        if self.inflight.is_some() {
            return;
        }
        let (mut ops, mut bytes) = (Vec::new(), 0);
        let mut asked = VecDeque::new();
        while asked.len() < BATCH_OPS && bytes < BATCH_BYTES {
            let Some(op) = self.held.take().or_else(|| self.commands.try_recv().ok()) else { break };
            let alone = op.is_alone();
            if alone && !asked.is_empty() {
                self.held = Some(op);
                break;
            }
            bytes += op.bytes();
            asked.push_back(op);
            if alone {
                break;
            }
        }
        let mut core = self.inner.core();
        let due = core.marks_since.is_some_and(|since| since.elapsed() >= self.inner.options.mark_delay);
        if due || !asked.is_empty() || *self.inner.stop.borrow() {
            while ops.len() < BATCH_OPS
                && bytes < BATCH_BYTES
                && let Some(op) = core.marks.pop_front()
            {
                bytes += op.bytes();
                ops.push(op);
            }
            if core.marks.is_empty() {
                core.marks_since = None;
            }
        }
        drop(core);
        ops.extend(asked);
        if ops.is_empty() {
            return;
        }
        let numbered = ops.into_iter().map(|op| {
            self.next_id += 1;
            (self.next_id, op)
        });
        self.inflight = Some(Batch { number: self.known.acknowledged + 1, ops: numbered.collect() });
    }

    /// Sends the batch, once more if need be: the script executes it once.
    async fn send(&mut self, connection: &mut MultiplexedConnection) -> Result<(), String> {
        let Some(batch) = &mut self.inflight else { return Ok(()) };
        let options = &self.inner.options;
        let mut call = self.inner.scripts.batch.prepare_invoke();
        call.key(options.key("meta")).arg(&self.inner.instance).arg(self.known.epoch).arg(batch.number);
        call.arg(options.max_pending_bytes).arg(options.max_keys).arg(options.remember.as_millis() as u64);
        for (id, op) in batch.to_send() {
            call.arg(*id).arg(op.kind);
            for arg in &op.args {
                call.arg(arg.as_slice());
            }
        }
        let (status, detail, nodes, results) = match call.invoke_async::<BatchReply>(connection).await {
            Ok(reply) => reply,
            // The server has said no, and so has done nothing of it.
            Err(error) if error.code().is_some() => {
                let what = error.to_string();
                self.refuse_batch(&what);
                return Err(what);
            }
            Err(error) => return Err(error.to_string()),
        };
        match status.as_str() {
            "ok" => {}
            "gathering" => {
                tokio::time::sleep(GATHERING).await;
                return Ok(());
            }
            _ => return Err(format!("the log has changed ({status} {detail})")),
        }
        let doubt = self.replicated(connection).await?;
        let next = detail.parse().map_err(|_| format!("the next sequence is {detail:?}"))?;
        let Some(batch) = self.inflight.take() else { return Ok(()) };
        self.known.acknowledged = batch.number;
        self.known.next = self.known.next.max(next);
        self.stale_view = true;
        super::apply::apply(&self.inner, batch, next, &nodes, &results, doubt.as_deref());
        Ok(())
    }

    /// Waits until enough replicas have it; says what is wrong if they have not in time.
    async fn replicated(&self, connection: &mut MultiplexedConnection) -> Result<Option<String>, String> {
        let wanted = self.inner.options.replicas;
        if wanted == 0 {
            return Ok(None);
        }
        // Less than the connection itself is given.
        let within = self.inner.options.patience.as_millis() as u64 * 3 / 4;
        let asked = redis::cmd("WAIT").arg(wanted).arg(within).query_async::<u32>(connection).await;
        let have = asked.map_err(|error| error.to_string())?;
        Ok((have < wanted).then(|| format!("Redis has it, but {have} of {wanted} replicas have it so far")))
    }

    /// Nothing of the batch was done: who waits is told, and marks are kept for the next one.
    fn refuse_batch(&mut self, what: &str) {
        let Some(batch) = &mut self.inflight else { return };
        let error = LogError::Away { log: self.inner.options.address(), what: what.to_owned() };
        let (marks, asked): (Vec<_>, Vec<_>) = std::mem::take(&mut batch.ops)
            .into_iter()
            .partition(|(_, op)| matches!(op.then, super::op::Then::Mark { .. }));
        asked.into_iter().for_each(|(_, op)| op.refuse(&error));
        batch.ops = marks;
        if batch.ops.is_empty() {
            self.inflight = None;
        }
    }

    fn chores_due(&self) -> bool {
        (self.stale_view && self.looked.elapsed() >= LOOK) || self.tended.elapsed() >= TEND
    }

    async fn chores(&mut self, connection: &mut MultiplexedConnection) -> Result<(), String> {
        if self.stale_view && self.looked.elapsed() >= LOOK || self.looked.elapsed() >= 5 * LOOK {
            self.look(connection, false).await?;
        }
        if self.tended.elapsed() >= TEND {
            let options = &self.inner.options;
            let mut call = self.inner.scripts.tend.prepare_invoke();
            call.key(options.key("meta")).arg(&self.inner.instance);
            call.arg(options.retain.as_millis() as u64).arg(options.retain_bytes);
            let more: String = call.invoke_async(connection).await.map_err(|error| error.to_string())?;
            if more != "1" {
                self.tended = Instant::now();
            }
        }
        Ok(())
    }

    /// Reads what everybody may see; at a new connection also all that the news would have told.
    async fn look(&mut self, connection: &mut MultiplexedConnection, anew: bool) -> Result<(), String> {
        self.stale_view = false;
        self.looked = Instant::now();
        read::view(&self.inner, connection).await?;
        if anew {
            let inner = self.inner.clone();
            read::reload_claims(&inner, connection).await?;
            self.inner.handle.spawn(async move { read::catch_up(&inner).await });
        }
        Ok(())
    }
}

async fn until(at: Instant) {
    tokio::time::sleep_until(at.into()).await;
}
