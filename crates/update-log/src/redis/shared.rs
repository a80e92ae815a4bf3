//! What the callers of a log in Redis and its driver share.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use common::node::NodeId;
use common::queue::Sequence;
use redis::aio::MultiplexedConnection;
use redis::{FromRedisValue, RedisError, ScriptInvocation};
use tokio::runtime::Handle;
use tokio::sync::{Notify, mpsc, watch};

use super::core::Core;
use super::link::Scripts;
use super::op::Op;
use super::options::RedisLogOptions;
use crate::file::disk::Disk;
use crate::{Lease, LogError};

/// What is shared between processes beside the log: a text and its version.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Shared {
    /// 0 until anything was shared; one higher with each change.
    pub version: u64,
    /// The text.
    pub text: Arc<[u8]>,
}

/// Everything of a log but its driver.
pub(super) struct Inner {
    pub(super) options: RedisLogOptions,
    pub(super) lease: Arc<dyn Lease>,
    /// Tells this run of this process from all others.
    pub(super) instance: String,
    pub(super) scripts: Scripts,
    core: Mutex<Core>,
    pub(super) tail: watch::Sender<Sequence>,
    pub(super) claims: watch::Sender<u64>,
    pub(super) text: watch::Sender<Shared>,
    pub(super) commands: mpsc::Sender<Op>,
    pub(super) wake: Notify,
    pub(super) stop: watch::Sender<bool>,
    /// Why the log is away; `None` while it can be used.
    pub(super) away: watch::Sender<Option<String>>,
    /// For what is read: the driver's connection is for what is written.
    bulk: tokio::sync::Mutex<Option<MultiplexedConnection>>,
    pub(super) disk: Arc<dyn Disk>,
    pub(super) handle: Handle,
}

impl Inner {
    pub(super) fn new(
        options: RedisLogOptions,
        lease: Arc<dyn Lease>,
        instance: String,
        commands: mpsc::Sender<Op>,
        disk: Arc<dyn Disk>,
        handle: Handle,
    ) -> Self {
        Self {
            core: Mutex::new(Core::new(options.cache_bytes)),
            options,
            lease,
            instance,
            scripts: Scripts::new(),
            tail: watch::Sender::new(Sequence::FIRST),
            claims: watch::Sender::new(0),
            text: watch::Sender::default(),
            commands,
            wake: Notify::new(),
            stop: watch::Sender::new(false),
            away: watch::Sender::new(Some("not connected yet".into())),
            bulk: tokio::sync::Mutex::new(None),
            disk,
            handle,
        }
    }

    /// The state in memory. Held briefly, and never across I/O.
    pub(super) fn core(&self) -> MutexGuard<'_, Core> {
        self.core.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Readers may see everything before `next`.
    pub(super) fn advance(&self, next: u64) {
        self.core().arrived(next);
        self.tail.send_if_modified(|tail| {
            let newer = tail.0 < next;
            tail.0 = tail.0.max(next);
            newer
        });
    }

    /// Has something recorded; at once where somebody waits to hear of it.
    pub(super) fn mark(&self, op: Op, urgent: bool) {
        let mut core = self.core();
        core.marks.push_back(op);
        let first = core.marks_since.is_none();
        let now = Instant::now();
        core.marks_since = Some(match core.marks_since {
            _ if urgent => now.checked_sub(self.options.mark_delay).unwrap_or(now),
            Some(since) => since,
            None => now,
        });
        drop(core);
        if urgent || first {
            self.wake.notify_one();
        }
    }

    /// Deliveries to a node, claimed under this token, are not ours any more.
    pub(super) fn lose_claim(&self, node: &NodeId, token: u64) {
        let mut core = self.core();
        // What was refused may be of a term before the one that is held now.
        if core.mirrors.get(node).is_some_and(|mirror| mirror.token == token) {
            core.mirrors.remove(node);
            drop(core);
            tracing::warn!(log = %self.options.address(), %node, "deliveries to this node are another process's now");
            self.claims.send_modify(|changes| *changes += 1);
        }
    }

    /// That the log cannot be reached, for who is refused.
    pub(super) fn away_error(&self) -> LogError {
        let what = self.away.borrow().clone().unwrap_or_else(|| "the connection broke".into());
        LogError::Away { log: self.options.address(), what }
    }

    /// A connection for reading; dialed by whoever needs it first.
    pub(super) async fn bulk(&self) -> Result<MultiplexedConnection, LogError> {
        let mut bulk = self.bulk.lock().await;
        if let Some(connection) = &*bulk {
            return Ok(connection.clone());
        }
        if self.away.borrow().is_some() {
            return Err(self.away_error());
        }
        let dialed = redis_link::dial(&self.options.url, self.options.patience, |_| {}).await;
        let connection = dialed.map_err(|error| self.read_error(&error.to_string()))?;
        *bulk = Some(connection.clone());
        Ok(connection)
    }

    /// The next reader dials anew.
    pub(super) async fn drop_bulk(&self) {
        *self.bulk.lock().await = None;
    }

    fn read_error(&self, what: &str) -> LogError {
        LogError::Away { log: self.options.address(), what: what.chars().take(300).collect() }
    }

    /// Runs a script that only reads.
    pub(super) async fn ask<T: FromRedisValue>(&self, call: &ScriptInvocation<'_>) -> Result<T, LogError> {
        let mut tried = false;
        loop {
            let mut connection = self.bulk().await?;
            match call.invoke_async(&mut connection).await {
                Ok(answer) => return Ok(answer),
                Err(error) => self.reads_again(&error, &mut tried).await?,
            }
        }
    }

    /// Runs a command that only reads, or that can be repeated.
    pub(super) async fn query<T: FromRedisValue>(&self, command: &redis::Cmd) -> Result<T, LogError> {
        let mut tried = false;
        loop {
            let mut connection = self.bulk().await?;
            match command.query_async(&mut connection).await {
                Ok(answer) => return Ok(answer),
                Err(error) => self.reads_again(&error, &mut tried).await?,
            }
        }
    }

    /// Once more where the connection turned out to be an old one.
    async fn reads_again(&self, error: &RedisError, tried: &mut bool) -> Result<(), LogError> {
        self.drop_bulk().await;
        if std::mem::replace(tried, true) || !error.is_io_error() || error.is_timeout() {
            return Err(self.read_error(&error.to_string()));
        }
        Ok(())
    }

    /// Where a body of this name is on this host.
    pub(super) fn body_path(&self, name: &str) -> PathBuf {
        self.disk.path(&format!("bodies/{name}"))
    }

    /// An answer that does not fit.
    pub(super) fn strange(&self, what: impl std::fmt::Debug) -> LogError {
        let what = format!("{what:?}").chars().take(200).collect();
        LogError::Answer { log: self.options.address(), what }
    }
}
