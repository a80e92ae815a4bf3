//! One entry per update that reached a node whole, in order of arrival.

use std::collections::HashMap;
use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use http::{HeaderMap, request::Parts};
use serde::{Deserialize, Serialize};

/// An update as it reached a node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// Its place in this node's order of arrival, from 0.
    pub order: u64,
    /// When its body was complete, since the Unix epoch.
    pub at: Duration,
    /// The method.
    pub method: String,
    /// The target as sent, with its query.
    pub target: String,
    /// `Idempotency-Key`, or empty.
    pub key: String,
    /// `Spawn-Sequence`.
    pub sequence: Option<u64>,
    /// `Spawn-Attempt`.
    pub attempt: Option<u64>,
    /// `Spawn-Term`.
    pub term: Option<u64>,
    /// The length of the body.
    pub length: u64,
    /// FNV-1a of the body: equal bodies, equal numbers, in every process.
    pub hash: u64,
    /// Another request on the same path was still being served when this one's head came.
    pub overlapped: bool,
    /// The status of the answer; none when the connection was closed instead.
    pub status: Option<u16>,
    /// The node took it in: answered with 2xx or 3xx, or closed the connection after taking it in.
    pub applied: bool,
    /// The headers, where the node was asked to keep them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub headers: Vec<(String, String)>,
}

impl Entry {
    pub(super) fn new(head: &Parts, body: &Bytes, overlapped: bool) -> Self {
        let text = |name| head.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
        let number = |name| text(name).parse().ok();
        Self {
            order: 0,
            at: SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default(),
            method: head.method.to_string(),
            target: head.uri.to_string(),
            key: text("idempotency-key").to_owned(),
            sequence: number("spawn-sequence"),
            attempt: number("spawn-attempt"),
            term: number("spawn-term"),
            length: u64::try_from(body.len()).unwrap_or(u64::MAX),
            hash: fnv(body),
            overlapped,
            status: None,
            applied: false,
            headers: Vec::new(),
        }
    }

    /// The path of the target, without the query.
    pub fn path(&self) -> &str {
        self.target.split('?').next().unwrap_or_default()
    }

    /// The value of a kept header.
    pub fn header(&self, name: &str) -> Option<&str> {
        let found = self.headers.iter().find(|(key, _)| key.eq_ignore_ascii_case(name));
        found.map(|(_, value)| value.as_str())
    }
}

/// FNV-1a over eight bytes at a time: fast enough to hash every body in an unoptimised test.
fn fnv(body: &[u8]) -> u64 {
    let mut hash = 0xcbf2_9ce4_8422_2325_u64 ^ u64::try_from(body.len()).unwrap_or(u64::MAX);
    for chunk in body.chunks(8) {
        let mut word = [0; 8];
        word[..chunk.len()].copy_from_slice(chunk);
        hash = (hash ^ u64::from_le_bytes(word)).wrapping_mul(0x0100_0000_01b3);
    }
    hash
}

pub(super) fn pairs(headers: &HeaderMap) -> Vec<(String, String)> {
    let pair = |(name, value): (&http::HeaderName, &http::HeaderValue)| {
        (name.to_string(), String::from_utf8_lossy(value.as_bytes()).into_owned())
    };
    headers.iter().map(pair).collect()
}

/// What a node wrote down.
#[derive(Debug, Default)]
pub(super) struct Record {
    pub(super) entries: Vec<Entry>,
    /// How many of the entries were taken in.
    pub(super) applied: usize,
    pub(super) reads: u64,
    /// The reads themselves, where the node was asked to keep headers.
    pub(super) read_entries: Vec<Entry>,
    /// Requests being served now, per path.
    running: HashMap<String, u32>,
    file: Option<File>,
}

impl Record {
    /// A record that goes on from what the file holds, and is appended to it.
    pub(super) fn in_file(path: &Path) -> std::io::Result<Self> {
        let entries = load(path)?;
        let mut file = OpenOptions::new().create(true).append(true).open(path)?;
        // After a torn last line a new one starts a line of its own.
        if file.metadata()?.len() > 0 {
            file.write_all(b"\n")?;
        }
        let applied = entries.iter().filter(|entry| entry.applied).count();
        Ok(Self { entries, applied, file: Some(file), ..Self::default() })
    }

    /// Notes that a request on this path began; true when another one still runs.
    pub(super) fn begin(&mut self, path: &str) -> bool {
        if let Some(count) = self.running.get_mut(path) {
            *count += 1;
            return true;
        }
        self.running.insert(path.to_owned(), 1);
        false
    }

    /// Notes that a request on this path is over.
    pub(super) fn end(&mut self, path: &str) {
        if let Some(count) = self.running.get_mut(path) {
            *count -= 1;
            if *count == 0 {
                self.running.remove(path);
            }
        }
    }

    /// Appends an entry, to the file in one write, before anyone is answered.
    pub(super) fn push(&mut self, mut entry: Entry) -> std::io::Result<()> {
        entry.order = self.entries.len().try_into().unwrap_or(u64::MAX);
        if let Some(file) = &mut self.file {
            let mut line = serde_json::to_vec(&entry)?;
            line.push(b'\n');
            file.write_all(&line)?;
        }
        self.applied += usize::from(entry.applied);
        self.entries.push(entry);
        Ok(())
    }
}

/// The entries of a record's file. A line torn by a kill is left out: nobody was answered for it.
pub(super) fn load(path: &Path) -> std::io::Result<Vec<Entry>> {
    let text = match std::fs::read(path) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    Ok(text.split(|byte| *byte == b'\n').filter_map(|line| serde_json::from_slice(line).ok()).collect())
}
