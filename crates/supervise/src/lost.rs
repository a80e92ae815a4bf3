//! What the runner does when a guard was killed: finds what is left of its child, and kills it.

use std::collections::HashSet;
use std::fs;
use std::time::Duration;

use rustix::process::{Signal, getpid};

use crate::boottime::Boottime;
use crate::procfs::{Process, descendants, processes, signal};
use crate::spec::MARK;

const FIRST_PAUSE: Duration = Duration::from_millis(1);
const LONGEST_PAUSE: Duration = Duration::from_millis(50);
const STUCK_EVERY: Duration = Duration::from_secs(1);

/// Kills all that belongs to the child until nothing can be found any more, and says how many that were,
/// without the child itself. `child` is 0 when it is not known.
pub(crate) async fn kill_marked(child: i32, mark: &str) -> u32 {
    let mut killed = HashSet::new();
    let mut pause = FIRST_PAUSE;
    let mut told = Boottime::now();
    // Two looks in vain: one alone could have missed a process that was born while it went on.
    let mut empty = 0;
    while empty < 2 {
        let mark = mark.to_owned();
        // Reading an environment may wait for the process's memory.
        let found = tokio::task::spawn_blocking(move || strike(child, &mark)).await.unwrap_or_default();
        empty = if found.is_empty() { empty + 1 } else { 0 };
        if let (true, Some(pid)) = (Boottime::now().since(told) >= STUCK_EVERY, found.first()) {
            told = Boottime::now();
            tracing::error!(
                child,
                count = found.len(),
                pid,
                "descendants do not die: they hang in the kernel or may not be killed; going on"
            );
        }
        killed.extend(found);
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
    killed.remove(&child);
    u32::try_from(killed.len()).unwrap_or(u32::MAX)
}

/// One round. Gives those that were alive.
fn strike(child: i32, mark: &str) -> Vec<i32> {
    let all = processes();
    let own = getpid().as_raw_nonzero().get();
    let mut found: HashSet<i32> = HashSet::new();
    for process in &all {
        if process.pid != own && process.alive() && belongs(process, child, mark) {
            found.insert(process.pid);
            let below = descendants(process.pid, &all).into_iter().filter(Process::alive);
            found.extend(below.map(|process| process.pid));
        }
    }
    let still = |now: &Process| belongs(now, child, mark) || found.contains(&now.parent);
    for pid in &found {
        signal(*pid, Signal::KILL, still);
    }
    found.into_iter().collect()
}

/// By its session or group, which it left if it wanted to, or by the mark, which it carries unless it cleared
/// its environment.
fn belongs(process: &Process, child: i32, mark: &str) -> bool {
    let related = child != 0 && (process.session == child || process.group == child);
    related || marked(process.pid, mark)
}

fn marked(pid: i32, mark: &str) -> bool {
    let Ok(environment) = fs::read(format!("/proc/{pid}/environ")) else { return false };
    carries(&environment, mark)
}

fn carries(environment: &[u8], mark: &str) -> bool {
    environment.split(|byte| *byte == 0).any(|variable| {
        let marks = variable.strip_prefix(MARK.as_bytes()).and_then(|rest| rest.strip_prefix(b"="));
        marks.is_some_and(|marks| marks.split(|byte| *byte == b':').any(|each| each == mark.as_bytes()))
    })
}

#[cfg(test)]
mod tests {
    use super::carries;

    #[test]
    fn a_mark_is_one_among_several_and_whole() {
        let environment = b"A=1\0SUPERVISE_CHILD=1-2-3:4-5-6\0B=2\0";
        assert!(carries(environment, "1-2-3") && carries(environment, "4-5-6"));
        assert!(!carries(environment, "1-2") && !carries(environment, "5-6"));
        assert!(!carries(b"XSUPERVISE_CHILD=1-2-3\0", "1-2-3") && !carries(b"", "1-2-3"));
    }
}
