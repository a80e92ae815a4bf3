//! Changes of keys as they happen.

use http_fetch::Lines;
use serde::Deserialize;
use serde_json::json;

use crate::client::Etcd;
use crate::error::EtcdError;
use crate::txn::Entry;
use crate::wire::{Header, after_prefix, encoded, number};

/// A stream of changes. Dropped, it ends.
#[derive(Debug)]
pub struct Watch(Lines);

/// What happened at one revision or a few.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Events {
    /// The store's revision.
    pub revision: i64,
    /// The keys that were written.
    pub put: Vec<Entry>,
    /// The keys that went: deleted, or with their lease.
    pub deleted: Vec<Vec<u8>>,
}

#[derive(Deserialize)]
struct Line {
    result: Option<Answer>,
    error: Option<serde_json::Value>,
}

#[derive(Deserialize)]
struct Answer {
    #[serde(default)]
    header: Header,
    #[serde(default)]
    canceled: bool,
    #[serde(default)]
    cancel_reason: String,
    #[serde(default, deserialize_with = "number")]
    compact_revision: i64,
    #[serde(default)]
    events: Vec<Event>,
}

#[derive(Deserialize)]
struct Event {
    #[serde(rename = "type", default)]
    kind: String,
    #[serde(default)]
    kv: Entry,
}

impl Etcd {
    /// Watches all keys that begin with `prefix`, from this revision on: none of the changes since is missed.
    ///
    /// # Errors
    /// [`EtcdError`].
    pub async fn watch(&self, prefix: &[u8], from_revision: i64) -> Result<Watch, EtcdError> {
        let body = json!({ "create_request": {
            "key": encoded(prefix),
            "range_end": encoded(after_prefix(prefix)),
            "start_revision": from_revision.to_string(),
        } });
        self.stream("watching keys", "/v3/watch", &body).await.map(Watch)
    }
}

impl Watch {
    /// The next changes; without any, the server confirms that it watches. A future that is dropped loses
    /// nothing.
    ///
    /// # Errors
    /// [`EtcdError::WatchEnded`]: to be watched anew, after reading what there is.
    pub async fn next(&mut self) -> Result<Events, EtcdError> {
        let line = self.0.next().await.map_err(|error| EtcdError::WatchEnded(error.to_string()))?;
        let line = line.ok_or_else(|| EtcdError::WatchEnded("the server closed it".into()))?;
        let read: Line = serde_json::from_slice(&line)
            .map_err(|error| EtcdError::Answer { doing: "watching keys", what: error.to_string() })?;
        let answer = match (read.result, read.error) {
            (Some(answer), _) => answer,
            (None, error) => {
                let what = error.map_or_else(|| "without a word".into(), |error| error.to_string());
                return Err(EtcdError::WatchEnded(what));
            }
        };
        if answer.canceled {
            // Told without a reason.
            let compacted = format!("what changed before revision {} is compacted", answer.compact_revision);
            let why = if answer.compact_revision > 0 { compacted } else { answer.cancel_reason };
            return Err(EtcdError::WatchEnded(why));
        }
        let (deleted, put): (Vec<_>, Vec<_>) =
            answer.events.into_iter().partition(|event| event.kind == "DELETE");
        Ok(Events {
            revision: answer.header.revision,
            put: put.into_iter().map(|event| event.kv).collect(),
            deleted: deleted.into_iter().map(|event| event.kv.key).collect(),
        })
    }
}
