//! Delivery of updates to the nodes: what goes when (pure), and the tasks that send it.

pub mod answers;
mod attempt;
pub mod backoff;
pub mod deliverer;
pub mod given_up;
pub mod path;
pub mod schedule;
pub mod wellness;
