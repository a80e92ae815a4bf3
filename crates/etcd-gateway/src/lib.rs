//! The part of etcd's v3 API that Muster uses, through its JSON gateway (`/v3/...`).
//!
//! | call | route |
//! | --- | --- |
//! | [`Etcd::range`], [`Etcd::range_keys`], [`Etcd::get`] | `/v3/kv/range` |
//! | [`Etcd::commit`] | `/v3/kv/txn` |
//! | [`Etcd::grant`], [`Etcd::keep_alive`], [`Etcd::revoke`] | `/v3/lease/{grant,keepalive,revoke}` |
//! | [`Etcd::watch`] | `/v3/watch`, a stream of lines |
//!
//! Several endpoints are tried in turn, each for its share of the time; the one that answered is asked first
//! next time.

#![forbid(unsafe_code)]

mod client;
mod error;
mod lease;
mod txn;
mod url;
mod watch;
mod wire;

pub use client::{Config, Etcd};
pub use error::EtcdError;
pub use http_fetch::{Limits, Tls};
pub use lease::LeaseId;
pub use txn::{Committed, Compare, Entry, Found, Put, Txn};
pub use url::EtcdUrl;
pub use watch::{Events, Watch};
