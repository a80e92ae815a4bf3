//! What the tests stand on: daemons as processes, scripted nodes, broken links, load, seeds.
//!
//! Only ever a dev-dependency. Everything here binds to free ports, waits for conditions rather than for
//! time to pass, and dies with the test that started it. `docs/reference/testing.md` shows it in use.

#![forbid(unsafe_code)]

pub mod beats;
mod binary;
mod consul;
mod etcd;
mod exhibitor;
pub mod http;
mod link;
mod load;
mod pki;
mod port;
mod process;
mod python;
pub mod raw;
pub mod recorder;
mod redis;
mod reference;
mod seed;
mod temp;
mod thread;
mod wait;
mod zookeeper;

pub use beats::Beats;
pub use binary::binary;
pub use consul::ConsulServer;
pub use etcd::EtcdServer;
pub use exhibitor::Exhibitor;
pub use link::FaultLink;
pub use load::{Load, Outcome, Report, Running, Sent};
pub use pki::Pki;
pub use port::free_port;
pub use process::{Process, Program};
pub use python::python_with_zmq;
pub use raw::Raw;
pub use recorder::{Act, Entry, RecorderNode, RecorderProcess, Rule, Seen};
pub use redis::RedisServer;
pub use reference::assert_documents;
pub use seed::{Rng, seed};
pub use temp::TempDir;
pub use wait::{eventually, patience};
pub use zookeeper::ZooKeeperServer;
