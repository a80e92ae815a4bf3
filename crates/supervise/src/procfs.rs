//! Who is whose child, by `/proc`.

use std::collections::HashSet;
use std::fs;

use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

/// What `/proc/PID/stat` says of one process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Process {
    pub(crate) pid: i32,
    pub(crate) parent: i32,
    pub(crate) group: i32,
    pub(crate) session: i32,
    state: u8,
    threads: u32,
}

impl Process {
    /// Whether it can still do something. A leader that ended before its threads looks like a zombie.
    pub(crate) fn alive(&self) -> bool {
        !matches!(self.state, b'Z' | b'X') || self.threads > 1
    }
}

/// All processes that can be seen. Not one instant's picture: what is born or dies meanwhile may be missed.
pub(crate) fn processes() -> Vec<Process> {
    let Ok(entries) = fs::read_dir("/proc") else { return Vec::new() };
    let pids = entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    pids.filter_map(process).collect()
}

/// One process, while it exists.
pub(crate) fn process(pid: i32) -> Option<Process> {
    // This file is answered without the process's memory lock, so one that is stuck does not hold the reader.
    parse(pid, &fs::read(format!("/proc/{pid}/stat")).ok()?)
}

/// The name in the second field may hold anything, brackets and blanks too: fields count from its last bracket.
fn parse(pid: i32, stat: &[u8]) -> Option<Process> {
    let name_ends = stat.iter().rposition(|byte| *byte == b')')?;
    let rest = std::str::from_utf8(&stat[name_ends + 1..]).ok()?;
    let fields: Vec<&str> = rest.split_ascii_whitespace().take(18).collect();
    let number = |at: usize| fields.get(at)?.parse().ok();
    Some(Process {
        pid,
        state: *fields.first()?.as_bytes().first()?,
        parent: number(1)?,
        group: number(2)?,
        session: number(3)?,
        threads: u32::try_from(number(17)?).ok()?,
    })
}

/// All below `root` in this list, without it, parents before their children.
pub(crate) fn descendants(root: i32, list: &[Process]) -> Vec<Process> {
    let mut found: Vec<Process> = Vec::new();
    let mut seen = HashSet::from([root]);
    let mut next = 0;
    let mut parent = root;
    loop {
        // Parents can form no ring, but a list that is not one instant's picture can.
        found.extend(list.iter().filter(|process| process.parent == parent && seen.insert(process.pid)));
        let Some(process) = found.get(next) else { return found };
        parent = process.pid;
        next += 1;
    }
}

/// Sends a signal to the process that has this id now, if `still` holds for it. False when it was not sent.
///
/// The process is held by a descriptor before it is looked at, so an id that went to another process in
/// between is never hit.
pub(crate) fn signal(pid: i32, signal: Signal, still: impl FnOnce(&Process) -> bool) -> bool {
    let Some(held) = Pid::from_raw(pid).and_then(|pid| pidfd_open(pid, PidfdFlags::empty()).ok()) else {
        return false;
    };
    process(pid).is_some_and(|process| still(&process)) && pidfd_send_signal(&held, signal).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const LINE: &[u8] =
        b"42 (a) b (c)) S 7 40 39 0 -1 4194304 93 0 0 0 0 0 0 0 20 0 3 0 5555 2490368 200 1844674 1 1";

    #[test]
    fn a_name_with_brackets_and_blanks_moves_no_field() {
        let expected = Process { pid: 42, parent: 7, group: 40, session: 39, state: b'S', threads: 3 };
        assert_eq!(parse(42, LINE), Some(expected));
        assert_eq!(parse(42, b"42 (x) S 7"), None);
        assert_eq!(parse(42, b""), None);
    }

    #[test]
    fn a_leader_that_left_its_threads_is_alive() {
        let of = |state, threads| Process { pid: 1, parent: 1, group: 1, session: 1, state, threads };
        assert!(of(b'S', 1).alive() && of(b'D', 1).alive() && of(b'T', 1).alive() && of(b'Z', 2).alive());
        assert!(!of(b'Z', 1).alive() && !of(b'X', 0).alive());
    }

    #[test]
    fn descendants_come_after_their_parents_and_rings_end() {
        let of = |pid, parent| Process { pid, parent, group: 0, session: 0, state: b'S', threads: 1 };
        let list = [of(5, 4), of(3, 2), of(4, 3), of(2, 1), of(9, 8), of(8, 9), of(6, 2)];
        let pids: Vec<_> = descendants(2, &list).iter().map(|process| process.pid).collect();
        assert_eq!(pids, [3, 6, 4, 5]);
        assert_eq!(descendants(9, &list).len(), 1);
        assert_eq!(descendants(77, &list), []);
    }

    #[test]
    fn this_process_is_found() {
        let me = i32::try_from(std::process::id()).unwrap();
        let found = processes().into_iter().find(|process| process.pid == me).unwrap();
        assert!(found.alive() && found.parent > 0);
    }
}
