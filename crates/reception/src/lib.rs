//! Who is alive, what changed, who leads: registration, lists, watches and elections over Consul, etcd,
//! ZooKeeper, Exhibitor, or a directory of one host.
//!
//! | module | what it does |
//! | --- | --- |
//! | [`service`] | the vocabulary: names, ids, services, snapshots of a list |
//! | [`backend`] | what a store has to do: the traits, and one module per store |
//! | [`course`] | the decisions of whoever holds a record or stands for election; pure |
//! | [`client`], [`registration`], [`watcher`], [`elector`] | the API: tasks that drive a store by these decisions |
//!
//! ```no_run
//! # async fn example() -> Result<(), reception::Error> {
//! use reception::{Options, Service};
//!
//! let client = reception::dial("etcd://127.0.0.1:2379/prod", Options::default())?;
//! let web = Service::new("web", "10.0.0.7", 8080)?;
//! let registration = client.register(web.clone());
//! registration.registered().await;
//!
//! let mut watcher = client.watcher(&web.name);
//! while let Some(view) = watcher.next().await {
//!     println!("{} instances, stale: {}", view.services().len(), view.is_stale());
//! #   break;
//! }
//!
//! let elector = client.elector(Service::new("web-leader", "10.0.0.7", 8080)?);
//! let term = elector.elect().await?;
//! println!("leading with token {}", term.token);
//! elector.cancel().await;
//! registration.leave().await;
//! # Ok(())
//! # }
//! ```

#![forbid(unsafe_code)]

pub mod backend;
pub mod client;
pub mod course;
pub mod elector;
mod error;
mod hold;
mod options;
mod record;
pub mod registration;
pub mod service;
pub mod watcher;

pub use client::{Client, dial};
pub use elector::{Candidate, Elector, Term};
pub use error::Error;
pub use options::{ConsulCheck, ConsulOptions, Options};
pub use registration::{Presence, Registration};
pub use service::{Attributes, Instance, Name, Scope, Service, Snapshot};
pub use watcher::{View, Watcher};
