//! How a client behaves, whatever the store.

use std::net::SocketAddr;
use std::time::Duration;

/// How to register, watch and stand for election.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// How long a record or a leader outlives its process at least. Default 10 s. Consul: at least 10 s. ZooKeeper: what is asked for;
    /// the server may give another.
    pub ttl: Duration,
    /// One request or dial. Default 5 s.
    pub timeout: Duration,
    /// Before every name in the store, without a slash at either end; replaces the address's own path. None: that path.
    pub prefix: Option<String>,
    /// For Consul alone.
    pub consul: ConsulOptions,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            ttl: Duration::from_secs(10),
            timeout: Duration::from_secs(5),
            prefix: None,
            consul: ConsulOptions::default(),
        }
    }
}

/// What only Consul knows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConsulOptions {
    /// How it knows that an instance lives.
    pub check: ConsulCheck,
    /// Between two HTTP checks. Default 5 s.
    pub check_interval: Duration,
    /// One HTTP check. Default 10 s.
    pub check_timeout: Duration,
    /// How long an instance may be critical before Consul forgets it (its own floor is a minute). Default 30 s.
    pub deregister_after: Duration,
    /// How long nobody may lead after a leader's session ended by itself. Default 1 s.
    pub lock_delay: Duration,
}

impl Default for ConsulOptions {
    fn default() -> Self {
        Self {
            check: ConsulCheck::Ttl,
            check_interval: Duration::from_secs(5),
            check_timeout: Duration::from_secs(10),
            deregister_after: Duration::from_secs(30),
            lock_delay: Duration::from_secs(1),
        }
    }
}

/// How Consul knows that an instance lives.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ConsulCheck {
    /// It is told so by this process, within every `ttl`.
    Ttl,
    /// Its agent asks this URL.
    Http(String),
    /// Its agent asks a health server that this process runs (`{"alive": true}` at `/health`), as the original's library did.
    Own {
        /// Where it listens; port 0 takes a free one.
        listen: SocketAddr,
        /// The host by which the agent reaches it.
        host: String,
    },
}
