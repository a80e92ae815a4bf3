//! Membership, quorum, and authenticated messages between named nodes.
//!
//! A [`Manager`] is this process's place in the cluster. It runs on a thread of its own, so that it answers its peers
//! however busy the application is; its calls and streams work on any async runtime.
//!
//! ```no_run
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! use cluster::{Manager, Node};
//!
//! let manager = Manager::new("n1", "a secret that all nodes share")?;
//! let address = manager.listen("tcp://10.0.0.1:9654").await?;
//! manager.add_node(Node::new("n2", "tcp://10.0.0.2:9654"))?;
//! manager.add_node(Node::new("n3", "tcp://10.0.0.3:9654"))?;
//!
//! let mut joins = manager.node_join();
//! joins.next().await;
//! let receipt = manager.to_cluster("to all of you").await?;
//! println!("{} taken for {:?}, not for {:?}", receipt.sequence, receipt.accepted, receipt.undelivered);
//! manager.to_node("n2", "to you alone").await?;
//!
//! let mut messages = manager.from_cluster();
//! while let Some(message) = messages.next().await {
//!     println!("{} from {}: {:?}", message.sequence, message.node, message.payload);
//! }
//! # Ok(())
//! # }
//! ```
//!
//! | call | what it does |
//! | --- | --- |
//! | [`Manager::new`], [`Manager::builder`] | starts a node of this name; the builder takes settings, a keyring, a key pair, nodes |
//! | [`Manager::listen`] | listens; gives the address with the real port |
//! | [`Manager::add_node`], [`Manager::remove_node`] | who is configured; only they join, count and are heard |
//! | [`Manager::to_cluster`], [`Manager::to_node`] | sends, waiting for room; `try_` gives [`SendError::Full`] instead; [`Manager::send_batch`] for the full rate |
//! | [`Manager::events`] | everything that happens, in one order: [`Event`] |
//! | [`Manager::from_cluster`], [`Manager::from_api`], [`Manager::node_join`], [`Manager::node_leave`], [`Manager::quorum_state`], [`Manager::log`] | one kind of it each |
//! | [`Manager::status`], [`Manager::quorum`], [`Manager::counters`] | how it stands now |
//! | [`Manager::settings`], [`Manager::update_settings`], [`Manager::set_keyring`] | changes while it runs |
//! | [`Manager::admin`] | `reconnect`, `admindown`, `adminup` act on the link here; any other action is an event at the node |
//! | [`Manager::shutdown`] | sends what is queued, says goodbye, ends all streams |
//! | [`probe`] | dials a peer once with each secret and says what is wrong |
//!
//! `docs/design/cluster.md` has the invariants, the frames and the arithmetic.

#![forbid(unsafe_code)]

pub mod core;
mod counters;
mod driver;
mod error;
mod event;
mod identity;
mod manager;
mod node;
mod probe;
mod settings;
mod status;
mod stream;
mod wire;

pub use counters::Snapshot;
pub use error::{ClusterError, KeyringError, NodeError, SendError};
pub use event::{ApiCall, Event, Level, LogLine, Message, Names, Payload, Receipt, Target, Undelivered};
pub use identity::{Identity, Keyring};
pub use manager::{Builder, Manager};
pub use node::Node;
pub use probe::{Finding, Verdict, probe};
pub use settings::Settings;
pub use status::{NodeStatus, Status};
pub use stream::{Events, Stream};
pub use zmq_link::{KeyId, KeyPair, PublicKey, key_file};
