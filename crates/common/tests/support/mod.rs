//! Random sets of nodes, and what is measured on them. Shared by the tests and the example `ring_quality`.

pub(crate) mod quality;
pub(crate) mod random;
