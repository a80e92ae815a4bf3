//! Reading keys, and changing several of them at once if others are as they were.

use std::time::SystemTime;

use serde::Deserialize;
use serde_json::{Value, json};

use crate::client::Etcd;
use crate::error::EtcdError;
use crate::lease::LeaseId;
use crate::wire::{Header, after_prefix, bytes, encoded, number};

/// A key with its value.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
pub struct Entry {
    /// The key.
    #[serde(default, deserialize_with = "bytes")]
    pub key: Vec<u8>,
    /// The value.
    #[serde(default, deserialize_with = "bytes")]
    pub value: Vec<u8>,
    /// The store's revision at which it was made.
    #[serde(default, deserialize_with = "number")]
    pub create_revision: i64,
    /// The store's revision at which it was last written.
    #[serde(default, deserialize_with = "number")]
    pub mod_revision: i64,
    /// The lease it goes with; zero: none.
    #[serde(default, deserialize_with = "number")]
    pub lease: i64,
}

/// What a read found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// The store's revision.
    pub revision: i64,
    /// In the order of their keys.
    pub entries: Vec<Entry>,
    /// The answering server's clock, to the second.
    pub date: Option<SystemTime>,
}

/// A condition on a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Compare {
    /// It does not exist.
    Missing(Vec<u8>),
    /// It was last written at this revision.
    Unchanged(Vec<u8>, i64),
}

/// A write.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Put {
    /// The key.
    pub key: Vec<u8>,
    /// The value.
    pub value: Vec<u8>,
    /// The lease it goes with; one that it went with before lets go of it.
    pub lease: Option<LeaseId>,
}

/// Changes that are made all at once, if every condition holds. No key may be in it twice.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Txn {
    /// All have to hold.
    pub when: Vec<Compare>,
    /// What is written.
    pub put: Vec<Put>,
    /// What is deleted.
    pub delete: Vec<Vec<u8>>,
}

/// What came of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Committed {
    /// The conditions held, and all was done.
    pub succeeded: bool,
    /// The store's revision after it.
    pub revision: i64,
}

#[derive(Deserialize)]
struct RangeAnswer {
    header: Header,
    #[serde(default)]
    kvs: Vec<Entry>,
}

#[derive(Deserialize)]
struct TxnAnswer {
    header: Header,
    #[serde(default)]
    succeeded: bool,
}

impl Etcd {
    /// All keys that begin with `prefix`, as a majority has them.
    ///
    /// # Errors
    /// [`EtcdError`].
    pub async fn range(&self, prefix: &[u8]) -> Result<Found, EtcdError> {
        self.read(json!({ "key": encoded(prefix), "range_end": encoded(after_prefix(prefix)) })).await
    }

    /// The same without the values.
    ///
    /// # Errors
    /// [`EtcdError`].
    pub async fn range_keys(&self, prefix: &[u8]) -> Result<Found, EtcdError> {
        self.read(json!({
            "key": encoded(prefix),
            "range_end": encoded(after_prefix(prefix)),
            "keys_only": true,
        }))
        .await
    }

    /// This very key, as a majority has it; none when there is none.
    ///
    /// # Errors
    /// [`EtcdError`].
    pub async fn get(&self, key: &[u8]) -> Result<Option<Entry>, EtcdError> {
        let found = self.read(json!({ "key": encoded(key) })).await?;
        Ok(found.entries.into_iter().next())
    }

    async fn read(&self, body: Value) -> Result<Found, EtcdError> {
        let (answer, date) = self.call::<RangeAnswer>("reading keys", "/v3/kv/range", &body).await?;
        Ok(Found { revision: answer.header.revision, entries: answer.kvs, date })
    }

    /// Makes the changes if the conditions hold.
    ///
    /// # Errors
    /// [`EtcdError`]; with code 5 when a lease has ended.
    pub async fn commit(&self, txn: &Txn) -> Result<Committed, EtcdError> {
        let when: Vec<Value> = txn.when.iter().map(Compare::to_json).collect();
        let puts = txn.put.iter().map(|put| {
            let lease = put.lease.map_or(0, |lease| lease.0).to_string();
            json!({ "request_put": { "key": encoded(&put.key), "value": encoded(&put.value), "lease": lease } })
        });
        let deletes = txn.delete.iter().map(|key| json!({ "request_delete_range": { "key": encoded(key) } }));
        let success: Vec<Value> = puts.chain(deletes).collect();
        let body = json!({ "compare": when, "success": success });
        let (answer, _) = self.call::<TxnAnswer>("changing keys", "/v3/kv/txn", &body).await?;
        Ok(Committed { succeeded: answer.succeeded, revision: answer.header.revision })
    }
}

impl Compare {
    fn to_json(&self) -> Value {
        match self {
            Self::Missing(key) => {
                json!({ "key": encoded(key), "target": "CREATE", "result": "EQUAL", "create_revision": "0" })
            }
            Self::Unchanged(key, revision) => {
                let revision = revision.to_string();
                json!({ "key": encoded(key), "target": "MOD", "result": "EQUAL", "mod_revision": revision })
            }
        }
    }
}
