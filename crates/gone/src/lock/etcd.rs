//! Leases in etcd: two keys per id, one of which goes with the holder's etcd lease.
//!
//! | key | what |
//! | --- | --- |
//! | `PREFIX/ID/record` | the record as JSON, for ever. The id is percent-encoded, the prefix `gone` |
//! | `PREFIX/ID/holder` | the holder's address; it hangs on a lease of the expiry's length and goes with it |

use std::fmt;
use std::time::Duration;

use etcd_gateway::{Compare, Entry, Etcd, EtcdError, EtcdUrl, LeaseId, Limits, Put, Txn};
use http_fetch::url;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};

use crate::error::{LockError, UrlError};
use crate::lease::rules::Contender;
use crate::lease::{Failover, Timing, Unsafe};

use super::anchored::{AnchoredSession, Hold, Kept, Store, Stored, millis};
use super::{Id, Listener, Lock, LockFuture, Session};

/// With its usual election time-out, etcd makes leases of 2 s at least.
const SHORTEST: Duration = Duration::from_secs(2);
/// A record is far smaller.
const LONGEST_ANSWER: usize = 1 << 20;

/// Leases in etcd, over TCP or TLS.
pub struct EtcdLock {
    url: EtcdUrl,
    /// Shared by all sessions, so that an endpoint which failed is not the first to be asked again.
    etcd: Etcd,
}

impl EtcdLock {
    /// A lock at this address; nothing is connected yet.
    ///
    /// # Errors
    /// When a certificate cannot be used.
    pub fn new(url: EtcdUrl) -> Result<Self, UrlError> {
        let limits = Limits { connect: SHORTEST, body: LONGEST_ANSWER };
        let etcd = Etcd::new(url.config(SHORTEST, limits))
            .map_err(|error| url::UrlError { url: url.to_string(), what: error.to_string() })?;
        Ok(Self { url, etcd })
    }
}

impl fmt::Debug for EtcdLock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "EtcdLock({})", self.url)
    }
}

impl Lock for EtcdLock {
    fn address(&self) -> String {
        self.url.to_string()
    }

    fn failover(&self, timing: &Timing) -> Failover {
        Failover::observed("etcd", timing)
    }

    fn problems(&self, timing: &Timing) -> Vec<Unsafe> {
        let expiry = timing.expiry;
        let why = match expiry {
            _ if expiry < SHORTEST => "etcd's leases last 2s at least",
            _ if expiry.subsec_nanos() != 0 => "etcd counts in whole seconds",
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
            let id = utf8_percent_encode(id.as_str(), NON_ALPHANUMERIC);
            let folder = format!("{}/{id}/", self.url.prefix);
            let lock = self.address();
            let etcd = self
                .etcd
                .reconnected()
                .map_err(|error| LockError::Unreachable { lock: lock.clone(), what: error.to_string() })?
                .timeout(patience);
            let store = EtcdStore { etcd, folder, address: from.address.clone(), lock };
            AnchoredSession::open(store, from.clone(), patience, listener).await
        })
    }

    fn descriptor(&self, _: &Id) -> Option<std::os::fd::OwnedFd> {
        None
    }
}

struct EtcdStore {
    etcd: Etcd,
    /// What both keys begin with.
    folder: String,
    /// What stands under the holder's key.
    address: String,
    /// The lock's address, for errors.
    lock: String,
}

impl EtcdStore {
    fn record_key(&self) -> Vec<u8> {
        format!("{}record", self.folder).into_bytes()
    }

    fn holder_key(&self) -> Vec<u8> {
        format!("{}holder", self.folder).into_bytes()
    }

    fn failed(&self, error: &EtcdError) -> LockError {
        LockError::Unreachable { lock: self.lock.clone(), what: error.to_string() }
    }

    fn lease(&self, anchor: &str) -> Result<LeaseId, LockError> {
        let what = || format!("{anchor:?} is no lease");
        let read = anchor.parse().map(LeaseId);
        read.map_err(|_| LockError::Answer { lock: self.lock.clone(), what: what() })
    }
}

impl Store for EtcdStore {
    async fn read(&self) -> Result<Kept, LockError> {
        let found = self.etcd.range(self.folder.as_bytes()).await.map_err(|error| self.failed(&error))?;
        let entry = |key: &[u8]| found.entries.iter().find(|entry| entry.key == key);
        let (index, clock_ms) = (found.revision.unsigned_abs(), millis(found.date));
        let mut kept = Kept { index, clock_ms, ..Kept::default() };
        let leased = |entry: &Entry| (entry.lease != 0).then(|| entry.lease.to_string());
        kept.anchor = entry(&self.holder_key()).and_then(leased);
        if let Some(entry) = entry(&self.record_key()) {
            let record = Stored::from_json(&String::from_utf8_lossy(&entry.key), &entry.value);
            kept.record = Some(record.map_err(|what| LockError::Answer { lock: self.lock.clone(), what })?);
            kept.version = entry.mod_revision.unsigned_abs();
        }
        Ok(kept)
    }

    async fn write(&self, version: u64, record: &Stored, hold: Hold<'_>) -> Result<Option<u64>, LockError> {
        let key = self.record_key();
        let condition = match i64::try_from(version) {
            Ok(0) | Err(_) => Compare::Missing(key.clone()),
            Ok(revision) => Compare::Unchanged(key.clone(), revision),
        };
        let mut txn = Txn { when: vec![condition], ..Txn::default() };
        txn.put.push(Put { key, value: record.to_json(), lease: None });
        match hold {
            Hold::By(anchor) => txn.put.push(Put {
                key: self.holder_key(),
                value: self.address.clone().into_bytes(),
                lease: Some(self.lease(anchor)?),
            }),
            Hold::Free(_) => txn.delete.push(self.holder_key()),
            Hold::Nobody => {}
        }
        let made = self.etcd.commit(&txn).await.map_err(|error| self.failed(&error))?;
        // The record was written at the revision of the change itself.
        Ok(made.succeeded.then_some(made.revision.unsigned_abs()))
    }

    async fn anchor(&self, expiry: Duration) -> Result<String, LockError> {
        // Whole seconds: rounded up, so that the lease does not end before ours.
        let whole = Duration::from_secs(expiry.as_millis().div_ceil(1000).try_into().unwrap_or(u64::MAX));
        let (lease, _) = self.etcd.grant(whole).await.map_err(|error| self.failed(&error))?;
        Ok(lease.0.to_string())
    }

    async fn keep(&self, anchor: &str) -> Result<bool, LockError> {
        self.etcd.keep_alive(self.lease(anchor)?).await.map_err(|error| self.failed(&error))
    }

    async fn end(&self, anchor: &str) -> Result<(), LockError> {
        self.etcd.revoke(self.lease(anchor)?).await.map_err(|error| self.failed(&error))
    }

    async fn follow(&self, index: u64, told: &(dyn Fn() + Send + Sync)) -> LockError {
        let from = i64::try_from(index).unwrap_or(i64::MAX).saturating_add(1);
        let mut watch = match self.etcd.watch(self.folder.as_bytes(), from).await {
            Ok(watch) => watch,
            Err(error) => return self.failed(&error),
        };
        loop {
            match watch.next().await {
                Ok(events) if events.put.is_empty() && events.deleted.is_empty() => {}
                Ok(_) => told(),
                Err(error) => return self.failed(&error),
            }
        }
    }

    fn silent(&self, within: Duration) -> LockError {
        LockError::Silent { lock: self.lock.clone(), within }
    }
}
