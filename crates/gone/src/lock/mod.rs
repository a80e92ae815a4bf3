//! Where leases live: the trait [`Lock`], its drivers, and [`dial`].
//!
//! Every driver keeps the rules of [`crate::lease::rules`], those of Consul and etcd without trust in the store's
//! clock; one suite of tests runs against each.

mod anchored;
mod consul;
mod etcd;
mod file;
mod redis;
mod url;

use std::fmt;
use std::future::Future;
use std::os::fd::OwnedFd;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use crate::error::{LockError, UrlError};
use crate::lease::rules::{Contender, Reply, Request};
use crate::lease::{Failover, Timing, Unsafe};

pub use consul::ConsulLock;
pub use consul_client::ConsulUrl;
pub use etcd::EtcdLock;
pub use etcd_gateway::EtcdUrl;
pub use file::FileLock;
pub use http_fetch::url::has_password;
pub use redis::RedisLock;
pub use redis_link::RedisUrl;

/// The longest id, in bytes.
const LONGEST_ID: usize = 200;

/// A future that a driver returns.
pub type LockFuture<'a, T> = Pin<Box<dyn Future<Output = Result<T, LockError>> + Send + 'a>>;

/// What a session tells without being asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum News {
    /// The record changed: released, renewed, or gone. More may be told than happened.
    Changed,
    /// The session is of no use any more.
    Broken,
}

/// Takes the news of a session. Called from any thread; it must not block.
pub type Listener = Arc<dyn Fn(News) + Send + Sync>;

/// A store of leases. One value serves any number of ids and sessions.
pub trait Lock: fmt::Debug + Send + Sync + 'static {
    /// Its address for people, without secrets.
    fn address(&self) -> String;

    /// How long it takes until another holds the lease.
    fn failover(&self, timing: &Timing) -> Failover;

    /// What it cannot do with these times, beside [`Timing::problems`].
    fn problems(&self, timing: &Timing) -> Vec<Unsafe>;

    /// How often a waiter looks, where the store does not say when a lease ends.
    fn look_every(&self) -> Option<Duration>;

    /// Opens a session for one id. `patience` bounds this and every request on it.
    ///
    /// # Errors
    /// [`LockError`]; it can be tried again.
    fn open<'a>(
        &'a self,
        id: &'a Id,
        from: &'a Contender,
        patience: Duration,
        listener: Listener,
    ) -> LockFuture<'a, Box<dyn Session>>;

    /// The descriptor that holds this id's lease, where the kernel keeps it: to be given to the guard, which
    /// exits last. While any copy is open the lease is held; `flock(LOCK_UN)` on one frees it for all.
    fn descriptor(&self, id: &Id) -> Option<OwnedFd>;
}

/// A session with the store, for one id and one contender. After an error it is dropped.
pub trait Session: Send {
    /// Asks for the lease, renews it, releases it, or looks.
    ///
    /// # Errors
    /// [`LockError`]; whether the request had its effect is not known then.
    fn ask<'a>(&'a mut self, request: &'a Request) -> LockFuture<'a, Reply>;
}

/// The name of what is to run once: 1 to 200 bytes without control characters.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Id(String);

impl Id {
    /// Checks a name.
    ///
    /// # Errors
    /// The sentence that says what is wrong with it.
    pub fn new(id: &str) -> Result<Self, String> {
        if id.is_empty() || id.len() > LONGEST_ID || id.chars().any(char::is_control) {
            return Err(format!(
                "the id {:?} cannot be used: it needs 1 to {LONGEST_ID} bytes and no control characters",
                id.chars().take(40).collect::<String>()
            ));
        }
        Ok(Self(id.to_owned()))
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The lock that an address names.
///
/// - `redis://[USER:PASSWORD@]HOST[:6379][/DB]`, `rediss://` with TLS
/// - `redis://HOST1[:26379],HOST2/DB?sentinel=NAME`: the hosts are Sentinels, which name the master.
///   They are asked without a user and a password; both are the server's
/// - `consul://HOST[:8500][/PREFIX]`: an agent, best the host's own; records lie in its key-value store under
///   the prefix (`gone`). Options: `?token-file=PATH` (else the environment's `CONSUL_HTTP_TOKEN`), `?dc=NAME`
/// - `etcd://HOST1[:2379],HOST2/PREFIX`: members of one cluster, by their client addresses
/// - `file:DIR`: one host, in a directory of its own
///
/// Options of both Redis kinds: `?password-file=PATH`, `?ca=PATH`, `?cert=PATH&key=PATH`; of Consul and etcd:
/// `?tls=1`, and with it `ca`, `cert` and `key`. Nothing is connected yet; files that are named are read.
///
/// # Errors
/// [`UrlError`], which never shows a password.
pub fn dial(url: &str) -> Result<Arc<dyn Lock>, UrlError> {
    match url::parse(url)? {
        url::Parsed::Redis(redis) => Ok(Arc::new(RedisLock::new(redis)?)),
        url::Parsed::Consul(consul) => Ok(Arc::new(ConsulLock::new(consul)?)),
        url::Parsed::Etcd(etcd) => Ok(Arc::new(EtcdLock::new(etcd)?)),
        url::Parsed::File(folder) => Ok(Arc::new(FileLock::new(folder))),
    }
}
