//! Both engines, updates, and nodes for the tests.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]
#![allow(dead_code, reason = "each test uses its part")]
#![allow(clippy::allow_attributes, reason = "what is unused differs from test to test")]

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use common::node::NodeId;
use common::queue::Sequence;
use http::{HeaderMap, HeaderValue, Method, StatusCode};
use testkit::{RedisServer, TempDir};
pub(crate) use update_log::NewUpdate;
use update_log::{
    Answer, AnswerBody, Appended, ClientKey, FileLog, FileLogOptions, Lease, Pending, RedisLog,
    RedisLogOptions, Settled, Tracker, Update, UpdateBody, UpdateLog,
};

pub(crate) const LIMIT: Duration = Duration::from_secs(20);

/// Leases that a test hands out.
#[derive(Default)]
pub(crate) struct Tokens(Mutex<HashMap<NodeId, u64>>);

impl Tokens {
    pub(crate) fn set(&self, node: &NodeId, token: Option<u64>) {
        let mut tokens = self.0.lock().unwrap();
        match token {
            Some(token) => drop(tokens.insert(node.clone(), token)),
            None => drop(tokens.remove(node)),
        }
    }
}

impl Lease for Tokens {
    fn token(&self, node: &NodeId) -> Option<u64> {
        self.0.lock().unwrap().get(node).copied()
    }
}

/// Holds every lease.
pub(crate) struct All;

impl Lease for All {
    fn token(&self, _: &NodeId) -> Option<u64> {
        Some(1)
    }
}

pub(crate) fn node(port: u16) -> NodeId {
    NodeId::new("h", port).unwrap()
}

pub(crate) fn update(target: &str, body: &[u8]) -> NewUpdate {
    let mut headers = HeaderMap::new();
    headers.append("x-one", HeaderValue::from_static("a"));
    headers.append("x-one", HeaderValue::from_bytes(b"\xff b").unwrap());
    NewUpdate {
        id: format!("id of {target}").into(),
        key: None,
        received_ms: 1_700_000_000_000,
        method: Method::POST,
        target: target.into(),
        headers,
        body: UpdateBody::Memory(Bytes::copy_from_slice(body)),
    }
}

pub(crate) fn keyed(target: &str, body: &[u8], key: u8) -> NewUpdate {
    let digest = body.iter().fold([7; 16], |mut digest, byte| {
        digest[usize::from(*byte) % 16] ^= byte;
        digest
    });
    NewUpdate { key: Some(ClientKey { scope: [key; 16], body: digest }), ..update(target, body) }
}

pub(crate) fn answer(status: u16, body: &'static [u8]) -> Arc<Answer> {
    let mut headers = HeaderMap::new();
    headers.insert("x-answer", HeaderValue::from_static("yes"));
    let body = AnswerBody::Whole(Bytes::from_static(body));
    Arc::new(Answer { status: StatusCode::from_u16(status).unwrap(), headers, body })
}

pub(crate) fn delivered(attempt: u32) -> Settled {
    Settled::Delivered { attempt, answer: answer(200, b"done"), digest: 0x0102_0304_0506_0708, level: true }
}

pub(crate) async fn append(log: &dyn UpdateLog, update: NewUpdate) -> (Sequence, Arc<Tracker>) {
    match log.append(update).await.unwrap() {
        Appended::New { sequence, tracker } => (sequence, tracker),
        Appended::Known { sequence, .. } => panic!("known as {sequence}"),
        Appended::KeyReused { sequence } => panic!("the key of {sequence}"),
    }
}

pub(crate) fn sequences(pending: &[Pending]) -> Vec<u64> {
    pending.iter().map(|one| one.update.sequence.0).collect()
}

pub(crate) async fn open_at(log: &dyn UpdateLog, node: &NodeId) -> Vec<Pending> {
    log.read(node, Sequence::FIRST, 10_000).await.unwrap()
}

pub(crate) async fn begin(log: &dyn UpdateLog, node: &NodeId, update: &Arc<Update>) {
    assert!(log.begin_attempt(node, update.sequence).await, "an attempt at {}", update.sequence);
}

/// A place to keep a log in, and to find it again.
pub(crate) enum Place {
    Files(TempDir),
    Redis(Box<RedisServer>, TempDir),
}

impl Place {
    pub(crate) fn open(&self, change: impl FnOnce(&mut Limits)) -> Arc<dyn UpdateLog> {
        let mut limits = Limits::default();
        change(&mut limits);
        match self {
            Self::Files(dir) => {
                let options = FileLogOptions {
                    max_pending_bytes: limits.max_pending_bytes,
                    max_keys: limits.max_keys,
                    retain: limits.retain,
                    retain_bytes: limits.retain_bytes,
                    remember: limits.remember,
                    segment_bytes: 4096,
                    ..FileLogOptions::new(dir.join("log"))
                };
                FileLog::open(options).unwrap()
            }
            Self::Redis(server, dir) => {
                let options = RedisLogOptions {
                    max_pending_bytes: limits.max_pending_bytes,
                    max_keys: limits.max_keys,
                    retain: limits.retain,
                    retain_bytes: limits.retain_bytes,
                    remember: limits.remember,
                    ..RedisLogOptions::new(&server.url(), dir.join("spool")).unwrap()
                };
                RedisLog::open(options, Arc::new(All)).unwrap()
            }
        }
    }
}

/// What both engines can be told.
pub(crate) struct Limits {
    pub(crate) max_pending_bytes: u64,
    pub(crate) max_keys: u64,
    pub(crate) retain: Duration,
    pub(crate) retain_bytes: u64,
    pub(crate) remember: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        let hour = Duration::from_secs(3600);
        Self {
            max_pending_bytes: 1 << 30,
            max_keys: 1000,
            retain: hour,
            retain_bytes: 1 << 30,
            remember: hour,
        }
    }
}
