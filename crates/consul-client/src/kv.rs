//! Keys and values, locks on them, and changes that happen together.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::{Method, StatusCode};
use serde::{Deserialize, Serialize};

use crate::client::{Consul, parts};
use crate::error::ConsulError;
use crate::query::{Query, Reply};

const READING: &str = "reading a key";
const CHANGING: &str = "changing keys together";

/// A key with its value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The key.
    pub key: String,
    /// The value.
    pub value: Vec<u8>,
    /// The server log's index of the last change, a lock or its loss included. It only grows, but for a server
    /// that lost its data.
    pub modify_index: u64,
    /// The index at which it was made.
    pub create_index: u64,
    /// How often it was locked since it was made.
    pub lock_index: u64,
    /// The session that holds its lock.
    pub session: Option<String>,
}

/// One of several changes that happen all or not at all.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// None: fails unless the key was last changed at this index.
    CheckIndex {
        /// The key.
        key: String,
        /// The index.
        index: u64,
    },
    /// Writes the value under the session's lock; fails while another session holds it, and during a lock delay.
    Lock {
        /// The key.
        key: String,
        /// The value.
        value: Vec<u8>,
        /// The session.
        session: String,
    },
    /// Writes the value and gives the session's lock back; fails when it does not hold it.
    Unlock {
        /// The key.
        key: String,
        /// The value.
        value: Vec<u8>,
        /// The session.
        session: String,
    },
}

/// How a value is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Put<'a> {
    /// Whatever is there.
    Always,
    /// If the key was last changed at this index; zero: if there is none.
    Cas(u64),
    /// Under this session's lock, if it has it or can get it.
    Acquire(&'a str),
    /// Giving this session's lock back, if it has it.
    Release(&'a str),
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Read {
    key: String,
    value: Option<String>,
    #[serde(default)]
    session: Option<String>,
    modify_index: u64,
    create_index: u64,
    lock_index: u64,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Operation<'a> {
    #[serde(rename = "KV")]
    kv: Verb<'a>,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Verb<'a> {
    verb: &'a str,
    key: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    value: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    index: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    session: Option<&'a str>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Done {
    results: Option<Vec<Outcome>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Outcome {
    #[serde(rename = "KV")]
    kv: Read,
}

impl Consul {
    /// Reads a key; none when there is none, with the index to wait from all the same.
    ///
    /// # Errors
    /// [`ConsulError`].
    pub async fn kv_get(&self, key: &str, query: Query) -> Result<Reply<Option<Entry>>, ConsulError> {
        let call = self.call(Method::GET, READING, format!("/v1/kv/{}", parts(key)?)).query(query);
        let answer = self.send(call).await?;
        if answer.status == StatusCode::NOT_FOUND {
            return Ok(Reply::of(&answer, None));
        }
        let read = self.json::<Vec<Read>>(READING, &answer)?.into_iter().next();
        let entry = read.map(|read| self.entry(read)).transpose()?;
        Ok(Reply::of(&answer, entry))
    }

    /// Writes a key, up to 512 KiB. False when its condition did not hold.
    ///
    /// # Errors
    /// [`ConsulError`]; also for a session that has ended.
    pub async fn kv_put(
        &self,
        key: &str,
        value: impl Into<Bytes>,
        put: Put<'_>,
    ) -> Result<bool, ConsulError> {
        let call = self.call(Method::PUT, "writing a key", format!("/v1/kv/{}", parts(key)?)).body(value);
        let call = match put {
            Put::Always => call,
            Put::Cas(index) => call.parameter("cas", index.to_string()),
            Put::Acquire(session) => call.parameter("acquire", session),
            Put::Release(session) => call.parameter("release", session),
        };
        self.read(call).await
    }

    /// Deletes a key; with an index, only if it was last changed then. False when it was not.
    ///
    /// # Errors
    /// [`ConsulError`].
    pub async fn kv_delete(&self, key: &str, index: Option<u64>) -> Result<bool, ConsulError> {
        let call = self.call(Method::DELETE, "deleting a key", format!("/v1/kv/{}", parts(key)?));
        let call = match index {
            Some(index) => call.parameter("cas", index.to_string()),
            None => call,
        };
        self.read(call).await
    }

    /// Makes all changes (64 at most) or none. The entries after them, without their values; none when a
    /// condition did not hold.
    ///
    /// # Errors
    /// [`ConsulError`].
    pub async fn change(&self, changes: &[Change]) -> Result<Option<Vec<Entry>>, ConsulError> {
        let operations: Vec<Operation<'_>> = changes.iter().map(Operation::of).collect();
        let body = serde_json::to_vec(&operations).map_err(|error| ConsulError::Config(error.to_string()))?;
        let answer = self.send(self.call(Method::PUT, CHANGING, "/v1/txn").body(body)).await?;
        if answer.status == StatusCode::CONFLICT {
            return Ok(None);
        }
        let done: Done = self.json(CHANGING, &answer)?;
        let entries = done.results.unwrap_or_default().into_iter().map(|outcome| self.entry(outcome.kv));
        entries.collect::<Result<_, _>>().map(Some)
    }

    fn entry(&self, read: Read) -> Result<Entry, ConsulError> {
        let value = STANDARD
            .decode(read.value.unwrap_or_default())
            .map_err(|error| self.not_understood(READING, format!("the value of {}: {error}", read.key)))?;
        Ok(Entry {
            key: read.key,
            value,
            modify_index: read.modify_index,
            create_index: read.create_index,
            lock_index: read.lock_index,
            session: read.session.filter(|session| !session.is_empty()),
        })
    }
}

impl<'a> Operation<'a> {
    fn of(change: &'a Change) -> Self {
        let (verb, key, value, index, session) = match change {
            Change::CheckIndex { key, index } => ("check-index", key, None, Some(*index), None),
            Change::Lock { key, value, session } => ("lock", key, Some(value), None, Some(session)),
            Change::Unlock { key, value, session } => ("unlock", key, Some(value), None, Some(session)),
        };
        let value = value.map(|value| STANDARD.encode(value));
        Self { kv: Verb { verb, key, value, index, session: session.map(String::as_str) } }
    }
}
