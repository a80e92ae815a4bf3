//! Leases in Redis: one hash per id, changed by one script per operation.
//!
//! | key | what |
//! | --- | --- |
//! | `gone:{ID}` | the record, a hash without a time to live: `token`, `owner`, `address`, `expiry_ms`, `end_us`, `written_us`, `released`, `run` |
//! | `gone:{ID}:released` | the channel on which a release is told, with its token |
//! | `ID` | only with `compat`: the original's key, the holder's address with a time to live |
//!
//! The braces put the keys of one id into one slot of Redis Cluster.

mod connect;
mod reply;

use std::fmt;
use std::time::Duration;

use redis::aio::MultiplexedConnection;
use redis::{RedisError, Script};

use crate::error::{LockError, UrlError};
use crate::lease::rules::{Contender, Reply, Request};
use crate::lease::{Failover, Timing, Unsafe};

use super::{Id, Listener, Lock, LockFuture, RedisUrl, Session};

/// Leases in Redis, over TCP or TLS, found directly or by Sentinels.
pub struct RedisLock {
    url: RedisUrl,
    scripts: Scripts,
}

#[derive(Clone)]
struct Scripts {
    acquire: Script,
    renew: Script,
    release: Script,
    read: Script,
}

impl Scripts {
    fn new() -> Self {
        let with = |own: &str| Script::new(&format!("{}{own}", include_str!("prelude.lua")));
        Self {
            acquire: with(include_str!("acquire.lua")),
            renew: with(include_str!("renew.lua")),
            release: with(include_str!("release.lua")),
            read: with(include_str!("read.lua")),
        }
    }
}

impl RedisLock {
    /// A lock at this address; nothing is connected yet.
    ///
    /// # Errors
    /// When a certificate of the address cannot be used.
    pub fn new(url: RedisUrl) -> Result<Self, UrlError> {
        redis_link::check(&url)?;
        Ok(Self { url, scripts: Scripts::new() })
    }
}

impl fmt::Debug for RedisLock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RedisLock({})", self.url)
    }
}

impl Lock for RedisLock {
    fn address(&self) -> String {
        self.url.to_string()
    }

    fn failover(&self, timing: &Timing) -> Failover {
        Failover::timed("redis", timing)
    }

    fn problems(&self, timing: &Timing) -> Vec<Unsafe> {
        let whole = timing.expiry.subsec_nanos().is_multiple_of(1_000_000);
        let why = "it counts in whole milliseconds";
        if whole { Vec::new() } else { vec![Unsafe::Store { expiry: timing.expiry, why }] }
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
            let opening = connect::open(&self.url, id, patience, listener);
            // Bounds the whole of it: names, Sentinels, TLS, and what is asked first.
            let opened = tokio::time::timeout(patience, opening).await;
            let connection = opened.map_err(|_| silent(&self.url, patience))??;
            let session = RedisSession {
                connection,
                url: self.url.clone(),
                scripts: self.scripts.clone(),
                id: id.clone(),
                from: from.clone(),
                patience,
            };
            Ok(Box::new(session) as Box<dyn Session>)
        })
    }

    fn descriptor(&self, _: &Id) -> Option<std::os::fd::OwnedFd> {
        None
    }
}

struct RedisSession {
    connection: MultiplexedConnection,
    url: RedisUrl,
    scripts: Scripts,
    id: Id,
    from: Contender,
    patience: Duration,
}

impl Session for RedisSession {
    fn ask<'a>(&'a mut self, request: &'a Request) -> LockFuture<'a, Reply> {
        Box::pin(async move {
            let script = match request {
                Request::Acquire { .. } => &self.scripts.acquire,
                Request::Renew { .. } => &self.scripts.renew,
                Request::Release { .. } => &self.scripts.release,
                Request::Read => &self.scripts.read,
            };
            let mut call = script.prepare_invoke();
            call.key(record_key(&self.id));
            if self.from.compat {
                call.key(self.id.as_str());
            }
            let Contender { owner, address, expiry_ms, compat } = &self.from;
            call.arg(owner).arg(address).arg(*expiry_ms).arg(u8::from(*compat)).arg(channel(&self.id));
            match request {
                Request::Acquire { observed, floor, fresh } => {
                    let observed = observed.as_ref().map_or("", |seen| seen.0.as_str());
                    call.arg(observed).arg(*floor).arg(u8::from(*fresh));
                }
                Request::Renew { token, end_us } => {
                    call.arg(*token).arg(*end_us);
                }
                Request::Release { token } => {
                    call.arg(*token);
                }
                Request::Read => {}
            }
            let asking = call.invoke_async::<Vec<String>>(&mut self.connection);
            let answer = tokio::time::timeout(self.patience, asking).await;
            let fields = answer
                .map_err(|_| silent(&self.url, self.patience))?
                .map_err(|error| unreachable(&self.url, "running a script", &error))?;
            reply::read(&fields).ok_or_else(|| LockError::Answer {
                lock: self.url.to_string(),
                what: format!("{fields:?}").chars().take(200).collect(),
            })
        })
    }
}

fn record_key(id: &Id) -> String {
    format!("gone:{{{id}}}")
}

fn channel(id: &Id) -> String {
    format!("gone:{{{id}}}:released")
}

fn silent(url: &RedisUrl, within: Duration) -> LockError {
    LockError::Silent { lock: url.to_string(), within }
}

fn unreachable(url: &RedisUrl, doing: &str, error: &RedisError) -> LockError {
    LockError::Unreachable { lock: url.to_string(), what: format!("{doing}: {error}") }
}
