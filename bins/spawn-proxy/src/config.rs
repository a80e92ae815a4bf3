//! The configuration, typed. What may change while running is in [`LiveConfig`]; the rest needs a restart.

use std::path::PathBuf;
use std::time::Duration;

use common::node::Node;
use daemon::http::{BodyLimits, Guard, Limits, Token};
use http::Method;
use regex::bytes::Regex;

use crate::delivery::backoff::Backoff;
use crate::route::QueryMode;

/// Everything that flags, environment and file say.
#[derive(Debug, Clone)]
pub struct Config {
    /// Where clients come in, `host:port`.
    pub proxy_address: String,
    /// Where the API listens, `host:port`.
    pub api_address: String,
    /// Where state is kept.
    pub data_dir: PathBuf,
    /// Where the update log is kept.
    pub log_dir: PathBuf,
    /// Bounds of the log.
    pub log: LogConfig,
    /// What bounds a connection of a client.
    pub limits: Limits,
    /// How many threads serve clients.
    pub workers: usize,
    /// Changing routes are open to everybody who reaches the API.
    pub insecure_api: bool,
    /// The bearer token that changing routes ask for.
    pub api_token: Option<Token>,
    /// Origins that browsers may call the API from.
    pub cors_origin: Option<String>,
    /// The nodes of the file and the flags.
    pub nodes: Vec<Node>,
    /// What a reload changes.
    pub live: LiveConfig,
}

/// What bounds the update log.
#[derive(Debug, Clone)]
pub struct LogConfig {
    /// Bytes that may wait for a node.
    pub max_pending_bytes: u64,
    /// How long a client's key is remembered.
    pub remember: Duration,
    /// How many of them.
    pub max_keys: u64,
    /// How long delivered updates are kept.
    pub retain: Duration,
    /// How many bytes of them.
    pub retain_bytes: u64,
}

/// What a reload changes.
#[derive(Debug, Clone)]
pub struct LiveConfig {
    /// How reads choose.
    pub mode: QueryMode,
    /// Background checks.
    pub health: HealthConfig,
    /// Which methods and paths are reads and which are updates.
    pub rules: Rules,
    /// How long a client waits for an answer.
    pub timeout: Duration,
    /// How long a body may pause.
    pub body_timeout: Duration,
    /// The largest body.
    pub max_body: u64,
    /// Memory for all bodies that are held at once.
    pub max_buffer: u64,
    /// How far behind a node may be and still serve reads.
    pub max_lag: Duration,
    /// Reads carry the node's own address as Host.
    pub host_of_node: bool,
    /// How updates are delivered and answered.
    pub updates: UpdatesConfig,
}

/// How nodes are checked.
#[derive(Debug, Clone)]
pub struct HealthConfig {
    /// Between two checks of a node.
    pub interval: Duration,
    /// For one check.
    pub timeout: Duration,
    /// What is asked for.
    pub url: String,
    /// Whether `url` was configured: then only 2xx and 3xx pass, else anything below 500.
    pub strict: bool,
    /// What the answer's body must match.
    pub regexp: Option<Regex>,
}

/// How updates are delivered and answered.
#[derive(Debug, Clone)]
pub struct UpdatesConfig {
    /// Whose answer the client gets.
    pub ack: Ack,
    /// All in one order, or only those that conflict.
    pub ordering: Ordering,
    /// For one delivery.
    pub timeout: Duration,
    /// Counted failures after which an update is a dead letter.
    pub max_attempts: u32,
    /// Between attempts.
    pub backoff: Backoff,
    /// Deliveries to one node at once.
    pub concurrency: usize,
    /// Whether an update that every node refuses with 5xx is answered and not retried.
    pub unanimous_answer: bool,
    /// What becomes of updates when the log is full.
    pub when_full: WhenFull,
    /// The base of `Location` for updates, without a trailing slash; `None` for the API's own address.
    pub status_url: Option<String>,
}

/// Whose answer the client gets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ack {
    /// The first node's that is not behind.
    First,
    /// The same, once a majority of the nodes has given one.
    Quorum,
    /// The same, once all nodes have given one.
    All,
    /// Nobody's: 202 at once.
    Queued,
}

/// What becomes of updates when the log is full.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WhenFull {
    /// They are refused.
    Refuse,
    /// The node that holds the log up gets nothing more, if another one flows.
    Park,
}

/// Which updates keep their order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ordering {
    /// Those whose paths conflict.
    Path,
    /// All.
    Global,
}

/// What a request is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Class {
    /// Goes to one node.
    Read,
    /// Goes to all.
    Update,
}

/// Which requests are reads and which are updates.
#[derive(Debug, Clone)]
pub struct Rules {
    /// Overrides by method and path prefix, the first that fits wins.
    pub overrides: Vec<(Class, Option<Method>, String)>,
    /// Methods that read.
    pub reads: Vec<Method>,
    /// Methods that update.
    pub updates: Vec<Method>,
}

impl Rules {
    /// What a request is; `None` when its method is on neither list.
    pub fn classify(&self, method: &Method, path: &str) -> Option<Class> {
        for (class, only, prefix) in &self.overrides {
            if only.as_ref().is_none_or(|only| only == method) && path.starts_with(prefix.as_str()) {
                return Some(*class);
            }
        }
        if self.reads.contains(method) {
            Some(Class::Read)
        } else if self.updates.contains(method) {
            Some(Class::Update)
        } else {
            None
        }
    }
}

impl LiveConfig {
    /// What a request's body may be like.
    pub fn body_limits(&self) -> BodyLimits {
        BodyLimits { max_bytes: self.max_body, patience: self.body_timeout }
    }
}

impl Config {
    /// Who may change things by the API.
    pub fn api_guard(&self) -> Guard {
        Guard {
            token: self.api_token.clone(),
            certificates: false,
            insecure: self.insecure_api,
            cors_origin: self.cors_origin.clone(),
        }
    }
}
