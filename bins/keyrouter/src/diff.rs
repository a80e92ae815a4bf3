//! `keyrouter diff`: the share of keys that an edit of the file moves.
//!
//! A key moves when another node comes first for it. With `--json`, one object and a newline, whose
//! names stay as they are:
//!
//! ```json
//! {"keys": 100000,
//!  "services": [
//!   {"name": "sessions", "status": "changed",
//!    "algorithm_before": "ring", "algorithm_after": "ring", "nodes_before": 1, "nodes_after": 2,
//!    "moved": 0.5, "needed": 0.5,
//!    "nodes": [
//!     {"address": "a:1", "before": 1.0, "after": 0.5, "lost": 0.5, "gained": 0.0},
//!     {"address": "b:1", "before": 0.0, "after": 0.5, "lost": 0.0, "gained": 0.5}]}]}
//! ```
//!
//! - `keys`: how many were looked up in each changed service: `key-0`, `key-1`, and so on.
//! - `services`: those of the old file in its order, then the added ones in the order of the new file.
//! - `status`: `changed`, `unchanged` (also where only the order is another), `added` or `removed`.
//! - `algorithm_...`, `nodes_...`: `null` on the side where the service is not.
//! - `moved`, `needed`: parts of all keys, 0 to 1: those that move, and those that have to for each node
//!   to have its share. `null` for services on one side only, which have no keys to move.
//! - `nodes`: of changed services; parts of all keys that a node comes first for before and after, loses to
//!   others and gains from them.

mod table;
#[cfg(test)]
mod tests;

use std::io::Write;
use std::path::Path;

use common::ring::{self, Router as _};
use jiff::Timestamp;
use serde::Serialize;

use crate::lookup::print;
use crate::services::{self, Catalog, Options, Service};

/// Writes to `out` what the edit from `old` to `new` moves, trying `keys` keys in each changed service.
///
/// # Errors
/// Exit code 78 when one of the files is bad; the problems of both are told.
pub fn run(
    old: &Path,
    new: &Path,
    options: &Options,
    keys: u64,
    json: bool,
    out: &mut dyn Write,
) -> anyhow::Result<()> {
    let (old, new) = (services::require(old, options), services::require(new, options));
    let (old, new) = (old?, new?);
    // Loads have numbers, so that a generation above 1 tells what changed.
    let old = Catalog::build(&old, options.algorithm, None, 1, Timestamp::UNIX_EPOCH)?;
    let new = Catalog::build(&new, options.algorithm, Some(&old), 2, Timestamp::UNIX_EPOCH)?;
    let report = compare(&old, &new, keys);
    let mut text = if json { serde_json::to_vec(&report)? } else { table::render(&report).into_bytes() };
    if json {
        text.push(b'\n');
    }
    print(out, &text)
}

/// What an edit moves.
#[derive(Debug, Serialize)]
struct Report {
    keys: u64,
    services: Vec<ServiceDiff>,
}

#[derive(Debug, Serialize)]
struct ServiceDiff {
    name: Box<str>,
    status: Status,
    algorithm_before: Option<&'static str>,
    algorithm_after: Option<&'static str>,
    nodes_before: Option<usize>,
    nodes_after: Option<usize>,
    moved: Option<f64>,
    needed: Option<f64>,
    nodes: Vec<NodeShares>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum Status {
    Changed,
    Unchanged,
    Added,
    Removed,
}

/// Parts of all keys, 0 to 1.
#[derive(Debug, Serialize)]
struct NodeShares {
    address: Box<str>,
    before: f64,
    after: f64,
    lost: f64,
    gained: f64,
}

fn compare(old: &Catalog, new: &Catalog, keys: u64) -> Report {
    let kept = old.services().iter().map(|before| {
        let after = new.service(&before.name).map(|service| &**service);
        service(Some(before), after, keys)
    });
    let added = new.services().iter().filter(|service| old.service(&service.name).is_none());
    let added = added.map(|after| service(None, Some(after), keys));
    Report { keys, services: kept.chain(added).collect() }
}

fn service(before: Option<&Service>, after: Option<&Service>, keys: u64) -> ServiceDiff {
    let name = before.or(after).map(|service| service.name.clone()).unwrap_or_default();
    let algorithm = |side: Option<&Service>| side.map(|service| service.algorithm.name());
    let nodes = |side: Option<&Service>| side.map(|service| service.rings.len());
    let mut diff = ServiceDiff {
        name,
        status: if before.is_some() { Status::Removed } else { Status::Added },
        algorithm_before: algorithm(before),
        algorithm_after: algorithm(after),
        nodes_before: nodes(before),
        nodes_after: nodes(after),
        moved: None,
        needed: None,
        nodes: Vec::new(),
    };
    let (Some(before), Some(after)) = (before, after) else { return diff };
    if before.generation == after.generation {
        diff.status = Status::Unchanged;
        (diff.moved, diff.needed) = (Some(0.0), Some(0.0));
        return diff;
    }
    diff.status = Status::Changed;
    let found = ring::diff(&before.rings, &after.rings, (0..keys).map(|number| format!("key-{number}")));
    diff.moved = Some(found.moved_share());
    diff.needed = Some(found.needed);
    let shares = |node: &ring::NodeDiff| NodeShares {
        address: node.name.clone(),
        before: found.share(node.before),
        after: found.share(node.after),
        lost: found.share(node.lost),
        gained: found.share(node.gained),
    };
    diff.nodes = found.nodes.iter().map(shares).collect();
    diff
}
