//! Rings: which of several nodes comes first, for a turn or for a key.
//!
//! [`RoundRobin`] takes turns. [`Rings`] answers which nodes own a key, by one of three
//! [algorithms](Algorithm), all of them pure functions of the nodes' names and weights: no order of
//! nodes and no history of edits changes an answer, and every machine gives the same one.
//! The mathematics and what was measured are in `docs/design/rings.md`.

mod answer;
mod bounded;
mod diff;
mod hash;
mod keyrouter02;
mod logarithm;
mod rendezvous;
mod rings;
mod roster;
mod round_robin;

pub use answer::Answer;
pub use diff::{Diff, NodeDiff, diff};
pub use rings::{Algorithm, Rings, Router, UnknownAlgorithm};
pub use roster::{MAX_NODES, MAX_NODES_KEYROUTER_02, MAX_WEIGHT, MIN_WEIGHT, RosterError};
pub use round_robin::RoundRobin;
