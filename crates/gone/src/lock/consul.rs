//! Leases in Consul: one key per id, locked by a session without checks.
//!
//! | key | what |
//! | --- | --- |
//! | `PREFIX/ID` | the record as JSON; locked by the holder's session. The id is percent-encoded, the prefix `gone` |
//!
//! The session has the expiry as its TTL (Consul's shortest is 10 s, and it takes up to twice as long to end one),
//! releases its key when it ends, and has no lock delay: whoever takes a lease that was not given back has
//! waited for longer than any delay by then, on a clock of its own.

use std::fmt;
use std::time::Duration;

use consul_client::blocking::{Cursor, Seen};
use consul_client::kv::{Change, Put};
use consul_client::session::{Behavior, NewSession};
use consul_client::{Consul, ConsulError, ConsulUrl, Limits, Query};
use http_fetch::url;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};

use crate::error::{LockError, UrlError};
use crate::lease::rules::Contender;
use crate::lease::{Failover, Timing, Unsafe};

use super::anchored::{AnchoredSession, Hold, Kept, Store, Stored, millis};
use super::{Id, Listener, Lock, LockFuture, Session};

/// Consul takes no session with a shorter TTL.
const SHORTEST: Duration = Duration::from_secs(10);
/// How long one blocking query waits for a change. A server keeps one that was given up for as long, and counts
/// it as one of the 200 connections that an address may have.
const WAIT: Duration = Duration::from_secs(10);
/// A record is far smaller.
const LONGEST_ANSWER: usize = 1 << 20;

/// Leases in Consul, over TCP or TLS.
pub struct ConsulLock {
    url: ConsulUrl,
}

impl ConsulLock {
    /// A lock at this address; nothing is connected yet.
    ///
    /// # Errors
    /// When the token or a certificate cannot be used.
    pub fn new(url: ConsulUrl) -> Result<Self, UrlError> {
        let lock = Self { url };
        lock.client(SHORTEST)
            .map_err(|error| url::UrlError { url: lock.address(), what: error.to_string() })?;
        Ok(lock)
    }

    /// A client with connections of its own: they go with the session.
    fn client(&self, patience: Duration) -> Result<Consul, ConsulError> {
        Consul::new(self.url.config(patience, Limits { connect: patience, body: LONGEST_ANSWER }))
    }
}

impl fmt::Debug for ConsulLock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ConsulLock({})", self.url)
    }
}

impl Lock for ConsulLock {
    fn address(&self) -> String {
        self.url.to_string()
    }

    fn failover(&self, timing: &Timing) -> Failover {
        Failover::observed("consul", timing)
    }

    fn problems(&self, timing: &Timing) -> Vec<Unsafe> {
        let expiry = timing.expiry;
        let why = match expiry {
            _ if expiry < SHORTEST => "Consul's sessions last 10s at least",
            _ if !expiry.subsec_nanos().is_multiple_of(1_000_000) => "it counts in whole milliseconds",
            _ => return Vec::new(),
        };
        vec![Unsafe::Store { expiry, why }]
    }

    fn look_every(&self) -> Option<Duration> {
        None
    }

    fn open<'a>(
        &'a self,
        id: &'a Id,
        from: &'a Contender,
        patience: Duration,
        listener: Listener,
    ) -> LockFuture<'a, Box<dyn Session>> {
        Box::pin(async move {
            let lock = self.address();
            let consul = self
                .client(patience)
                .map_err(|error| LockError::Unreachable { lock: lock.clone(), what: error.to_string() })?;
            let id = utf8_percent_encode(id.as_str(), NON_ALPHANUMERIC);
            let key = format!("{}/{id}", self.url.prefix);
            let store = ConsulStore { consul, name: format!("gone {id}"), key, lock };
            AnchoredSession::open(store, from.clone(), patience, listener).await
        })
    }

    fn descriptor(&self, _: &Id) -> Option<std::os::fd::OwnedFd> {
        None
    }
}

struct ConsulStore {
    consul: Consul,
    key: String,
    /// The session's name, for people.
    name: String,
    /// The lock's address, for errors.
    lock: String,
}

impl ConsulStore {
    fn failed(&self, error: &ConsulError) -> LockError {
        LockError::Unreachable { lock: self.lock.clone(), what: error.to_string() }
    }
}

impl Store for ConsulStore {
    async fn read(&self) -> Result<Kept, LockError> {
        let read = self.consul.kv_get(&self.key, Query::consistent()).await;
        let reply = read.map_err(|error| self.failed(&error))?;
        let (index, clock_ms) = (reply.index, millis(reply.date));
        let Some(entry) = reply.value else { return Ok(Kept { index, clock_ms, ..Kept::default() }) };
        let record = Stored::from_json(&self.key, &entry.value)
            .map_err(|what| LockError::Answer { lock: self.lock.clone(), what })?;
        // A session that has ended holds nothing: Consul takes its name off the key.
        let (version, anchor) = (entry.modify_index, entry.session);
        Ok(Kept { record: Some(record), version, anchor, index, clock_ms })
    }

    async fn write(&self, version: u64, record: &Stored, hold: Hold<'_>) -> Result<Option<u64>, LockError> {
        let (key, value) = (self.key.clone(), record.to_json());
        let change = match hold {
            Hold::By(session) => Change::Lock { key, value, session: session.to_owned() },
            Hold::Free(session) => Change::Unlock { key, value, session: session.to_owned() },
            Hold::Nobody => {
                let put = self.consul.kv_put(&self.key, value, Put::Cas(version)).await;
                let done = put.map_err(|error| self.failed(&error))?;
                // Consul does not tell the index of such a write.
                let now = if done { self.read().await? } else { return Ok(None) };
                return Ok((now.record.as_ref() == Some(record)).then_some(now.version));
            }
        };
        let changes = [Change::CheckIndex { key: self.key.clone(), index: version }, change];
        let made = self.consul.change(&changes).await.map_err(|error| self.failed(&error))?;
        Ok(made.and_then(|entries| entries.last().map(|entry| entry.modify_index)))
    }

    async fn anchor(&self, expiry: Duration) -> Result<String, LockError> {
        let session = NewSession {
            name: self.name.clone(),
            ttl: expiry.max(SHORTEST),
            lock_delay: Duration::ZERO,
            behavior: Behavior::Release,
        };
        self.consul.create_session(&session).await.map_err(|error| self.failed(&error))
    }

    async fn keep(&self, anchor: &str) -> Result<bool, LockError> {
        self.consul.renew_session(anchor).await.map_err(|error| self.failed(&error))
    }

    async fn end(&self, anchor: &str) -> Result<(), LockError> {
        self.consul.destroy_session(anchor).await.map_err(|error| self.failed(&error))
    }

    async fn follow(&self, index: u64, told: &(dyn Fn() + Send + Sync)) -> LockError {
        let mut cursor = Cursor::new(WAIT).after(index);
        loop {
            match self.consul.kv_get(&self.key, cursor.query(rand::random())).await {
                Ok(reply) => {
                    if cursor.saw(reply.index) == Seen::Changed {
                        told();
                    }
                }
                Err(error) => return self.failed(&error),
            }
            tokio::time::sleep(cursor.pause()).await;
        }
    }

    fn silent(&self, within: Duration) -> LockError {
        LockError::Silent { lock: self.lock.clone(), within }
    }
}
