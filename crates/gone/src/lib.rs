//! One and only one: a lease over a store that many runners share.
//!
//! The decisions are pure and take time as an argument; a seeded simulation drives them through
//! faults. What touches a server, a file or a clock stands beside them.
//!
//! | module | what it is |
//! | --- | --- |
//! | [`lease`] | the state machine of one runner, the rules of the store's record, the arithmetic |
//! | [`lock`] | where the record lives: the trait [`lock::Lock`], its drivers, and [`lock::dial`] |
//! | [`node`] | the library: [`Gone`] runs a handler for each id that it holds, with its messages |
//! | [`message`] | messages to whoever holds an id: both ends, pure and with connections |
//! | [`keeper`] | a task that runs both with real clocks, and shows the lease as a watch |
//!
//! `docs/design/lease.md` says what is promised and what is not.

#![forbid(unsafe_code)]

pub mod clock;
mod error;
pub mod keeper;

pub mod lease;
pub mod lock;
pub mod message;
pub mod node;

pub use error::{LockError, UrlError};
pub use keeper::{Handle, Keeper, KeeperError, Options, Order};
pub use node::{Gone, Runner, Running};
