//! The file of services: parsed, built into rings, watched, held.
//!
//! | module | concern |
//! | --- | --- |
//! | [`spec`] | what the file says, typed; every problem with its line. Pure |
//! | [`catalog`] | what lookups use: rings and prebuilt JSON, immutable. Pure |
//! | [`mod@select`] | how many nodes `min` and `max` ask for. Pure |
//! | [`changes`] | what one catalog has that another has not. Pure |
//! | [`file`](mod@file) | reading no more than allowed, and pipes only for commands |
//! | [`load()`] | from a path to what the file says |
//! | [`keeper`] | the catalog in force: taken, kept or held at a reload |
//! | [`watch`] | telling that the content changed |
//! | `quote` | texts from outside in messages |
//! | [`json`] | texts as the original writes them |

pub mod catalog;
pub mod changes;
mod error;
pub mod file;
pub mod json;
pub mod keeper;
mod load;
pub(crate) mod quote;
pub mod select;
pub mod spec;
pub mod watch;

pub use catalog::{Catalog, Service};
pub use error::Error;
pub use json::escape_into;
pub use keeper::{Keeper, Options, Outcome};
pub use load::{load, require};
pub use select::{Shortage, count, select};
pub use spec::Spec;
