//! Killing all descendants, also those that made groups and sessions of their own.

use std::collections::HashSet;

use rustix::process::{Signal, getpid};

use crate::procfs::{Process, descendants, processes, signal};

/// How often one round looks for more to freeze. Those that fork faster than that meet the next round.
const LOOKS: usize = 8;

/// Freezes every living descendant, looking again until no new one turns up, then kills them all: so none
/// forks on, or starts another in place of one that died. Gives those that were alive.
pub(super) fn strike() -> Vec<i32> {
    let root = getpid().as_raw_nonzero().get();
    let mut seen = HashSet::new();
    for _ in 0..LOOKS {
        let all = descendants(root, &processes());
        let new: Vec<Process> =
            all.into_iter().filter(|process| process.alive() && seen.insert(process.pid)).collect();
        if new.is_empty() {
            break;
        }
        for process in new {
            signal(process.pid, Signal::STOP, |now| ours(root, &seen, now));
        }
    }
    for pid in &seen {
        signal(*pid, Signal::KILL, |now| ours(root, &seen, now));
    }
    seen.into_iter().collect()
}

/// Whether this is still a descendant: its parent is one, or the guard, to which orphans come.
fn ours(root: i32, seen: &HashSet<i32>, process: &Process) -> bool {
    process.parent == root || seen.contains(&process.parent)
}
