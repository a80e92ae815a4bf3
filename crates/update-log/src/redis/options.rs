//! Settings of a log in Redis, and what can stand in the way of opening one.

use std::path::PathBuf;
use std::time::Duration;

use redis_link::{RedisUrl, UrlError};

/// What Redis has to promise.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Durability {
    /// `appendonly yes`, `appendfsync always` and `maxmemory-policy noeviction`, or the log is not opened.
    Strict,
    /// Whatever it is set to: what it loses is lost.
    Relaxed,
}

/// Settings of a [`RedisLog`](crate::RedisLog).
#[derive(Debug, Clone)]
pub struct RedisLogOptions {
    /// Where Redis is.
    pub url: RedisUrl,
    /// The log's name; every key begins with `{muster:NAME}:`.
    pub name: String,
    /// A directory for bodies that are too large for memory, for this process alone; it is emptied.
    pub spool_dir: PathBuf,
    /// Appends are refused while nodes still need more than this.
    pub max_pending_bytes: u64,
    /// Updates that every node has are kept for this long, counted from when the last one got it ...
    pub retain: Duration,
    /// ... unless they take more than this.
    pub retain_bytes: u64,
    /// A client's key is remembered for this long, and as long as its update is undelivered anywhere.
    pub remember: Duration,
    /// Appends with a key are refused while so many are remembered.
    pub max_keys: u64,
    /// The newest updates are held in memory, up to this.
    pub cache_bytes: u64,
    /// How long it may take until it is written down that a node is done with an update, where nobody waits to hear of it.
    pub mark_delay: Duration,
    /// What Redis has to promise.
    pub durability: Durability,
    /// An append is answered when so many replicas have it, too; 0: when the server has it.
    pub replicas: u32,
    /// How long a dial, or an answer, may take.
    pub patience: Duration,
    /// How long an append whose answer did not come waits for the connection to come back.
    pub doubt: Duration,
}

impl RedisLogOptions {
    /// The defaults for the log that an address names: `redis://HOST[:PORT][/DB][?stream=NAME]`, `rediss://` with TLS, Sentinels
    /// with `?sentinel=MASTER`. Options of its own: `stream` (`spawn`), `replicas` (0).
    ///
    /// # Errors
    /// The sentence that says what is wrong with it, without its password.
    pub fn new(url: &str, spool_dir: impl Into<PathBuf>) -> Result<Self, UrlError> {
        let (mut name, mut replicas) = ("spawn".to_owned(), 0);
        let mut own = |option: &str, value: &str| {
            let bad = || Err("stream=NAME (1 to 100 bytes, no braces and no spaces), replicas=N".to_owned());
            match option {
                "stream" if is_name(value) => name = value.to_owned(),
                "replicas" => match value.parse() {
                    Ok(number) => replicas = number,
                    Err(_) => return bad(),
                },
                _ => return bad(),
            }
            Ok(())
        };
        let url = RedisUrl::parse(url, &mut own)?;
        Ok(Self {
            url,
            name,
            spool_dir: spool_dir.into(),
            max_pending_bytes: 1 << 30,
            retain: Duration::from_secs(600),
            retain_bytes: 256 << 20,
            remember: Duration::from_secs(600),
            max_keys: 1_000_000,
            cache_bytes: 64 << 20,
            mark_delay: Duration::from_millis(10),
            durability: Durability::Strict,
            replicas,
            patience: Duration::from_secs(2),
            doubt: Duration::from_secs(3),
        })
    }

    /// The address for people.
    pub(super) fn address(&self) -> String {
        format!("the log {:?} in {}", self.name, self.url)
    }

    /// What every key begins with. The braces put all of them into one slot of a cluster.
    pub(super) fn key(&self, rest: &str) -> String {
        format!("{{muster:{}}}:{rest}", self.name)
    }
}

fn is_name(text: &str) -> bool {
    let bad = |c: char| c.is_whitespace() || c.is_control() || matches!(c, '{' | '}');
    (1..=100).contains(&text.len()) && !text.contains(bad)
}

/// Why a log in Redis cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum RedisOpenError {
    /// A certificate of the address cannot be used.
    #[error(transparent)]
    Url(#[from] UrlError),
    /// No connection, or it broke.
    #[error("{log}: {what}")]
    Away {
        /// The log's address.
        log: String,
        /// What was found.
        what: String,
    },
    /// Redis may lose what it acknowledged.
    #[error(
        "{log}: Redis is set to {found}, so it may lose updates that were acknowledged: set {wanted} there, or \
         updates.durability = \"relaxed\" here"
    )]
    Unsafe {
        /// The log's address.
        log: String,
        /// The setting.
        found: String,
        /// What it should be.
        wanted: &'static str,
    },
    /// A later version wrote it.
    #[error("{log} has format {found}, and this version knows format 1: use a newer version")]
    Newer {
        /// The log's address.
        log: String,
        /// Its format.
        found: String,
    },
    /// The directory for large bodies cannot be used.
    #[error("cannot use {}: {source}", path.display())]
    Spool {
        /// The directory.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
}

impl RedisOpenError {
    /// The exit code for a daemon that cannot go on: 78 for what only another configuration helps, else 1.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Newer { .. } | Self::Unsafe { .. } | Self::Url(_) => 78,
            Self::Away { .. } | Self::Spool { .. } => 1,
        }
    }
}
