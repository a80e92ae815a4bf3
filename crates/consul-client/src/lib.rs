//! The routes of Consul's HTTP API that Muster uses, typed, with blocking queries.
//!
//! | module | routes |
//! | --- | --- |
//! | [`agent`] | `/v1/agent/service/{register,deregister}`, `/v1/agent/service/ID`, `/v1/agent/services`, `/v1/agent/check/{pass,warn,fail}` |
//! | [`health`] | `/v1/health/service/NAME` |
//! | [`catalog`] | `/v1/catalog/services` |
//! | [`session`] | `/v1/session/{create,renew,destroy,info}` |
//! | [`kv`] | `/v1/kv/KEY`, and `/v1/txn` for what has to happen together |
//!
//! **Blocking queries.** [`blocking::Cursor`] keeps the index by Consul's rules; each list takes a [`Query`]
//! and gives a [`Reply`], which says how old it may be. A failed read is an error, never an empty list.
//!
//! ```no_run
//! # async fn example() -> Result<(), consul_client::ConsulError> {
//! use consul_client::blocking::{Cursor, Seen};
//! use consul_client::{Config, Consul};
//!
//! let consul = Consul::new(Config::at("127.0.0.1:8500"))?;
//! let mut cursor = Cursor::new(std::time::Duration::from_secs(60));
//! loop {
//!     let reply = consul.health_service("web", true, cursor.query(0.5)).await?;
//!     if let Seen::Changed = cursor.saw(reply.index) {
//!         // reply.value is the whole list
//!     }
//!     tokio_sleep(cursor.pause()).await;
//! }
//! # }
//! # async fn tokio_sleep(_: std::time::Duration) {}
//! ```
//!
//! Namespaces are not known to the open-source server that this is for (1.8).

#![forbid(unsafe_code)]

pub mod agent;
pub mod blocking;
pub mod catalog;
mod client;
mod error;
pub mod health;
pub mod kv;
mod query;
pub mod session;
mod url;

pub use client::{Config, Consul, Token};
pub use error::ConsulError;
pub use http_fetch::{Limits, Tls};
pub use query::{Consistency, Query, Reply};
pub use url::ConsulUrl;
