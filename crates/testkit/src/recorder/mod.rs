//! Nodes that write down what reaches them, misbehave on demand, and the checks over what they wrote.

mod act;
mod check;
mod node;
mod process;
mod record;
mod serve;

pub use act::{Act, Rule, Seen};
pub use check::{Duplicate, Inversion, duplicates, inversions_per_path, missing};
pub use node::RecorderNode;
pub(crate) use node::listen;
pub use process::{RecorderProcess, serve_forever};
pub use record::Entry;
