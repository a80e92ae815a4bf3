//! Beating children, and what can be seen of processes from outside.

use std::fs::{self, File, OpenOptions};
use std::future::Future;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Duration;

use supervise::{Boottime, Child, Exit, Spec};
use testkit::{eventually, patience};

/// A test with its name.
pub(crate) type Test = (&'static str, fn());

/// How long anything may take that should take no time at all.
pub(crate) const LIMIT: Duration = Duration::from_secs(20);
/// How much later than at its instant something may happen on a busy machine.
pub(crate) const SLACK: Duration = Duration::from_millis(400);
/// How long before its end the last beat of a process may lie on a busy machine.
pub(crate) const PAUSE: Duration = Duration::from_millis(300);

/// Runs a test's future as a daemon's main does: on threads.
pub(crate) fn run(test: impl Future<Output = ()>) {
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    builder.worker_threads(2).enable_all().build().unwrap().block_on(test);
}

/// So long from now.
pub(crate) fn within(time: Duration) -> Boottime {
    Boottime::now() + time
}

/// A deadline that no test reaches.
pub(crate) fn far() -> Boottime {
    within(Duration::from_secs(600))
}

pub(crate) fn exe() -> String {
    std::env::current_exe().unwrap().to_str().unwrap().to_owned()
}

/// A shell with this script; `$BEAT FILE` in it beats into a file.
pub(crate) fn shell(script: &str) -> Spec {
    Spec::new("/bin/sh").args(["-c", script]).env("BEAT", format!("{} role:beat", exe()))
}

/// Waits for the end, but not for ever.
pub(crate) async fn end(child: &Child) -> Exit {
    tokio::time::timeout(patience(LIMIT), child.wait()).await.expect("the child should have ended")
}

/// The child that beats: one line `PID NANOS` each 5 ms, with the time of CLOCK_BOOTTIME. Ends by itself only
/// long after any test, so that a broken guard leaves nothing for ever.
pub(crate) fn beat(path: &str) {
    let mut file = OpenOptions::new().append(true).create(true).open(path).unwrap();
    let end = within(Duration::from_secs(180));
    while Boottime::now() < end {
        let line = format!("{} {}\n", std::process::id(), Boottime::now().as_nanos());
        file.write_all(line.as_bytes()).unwrap();
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// The file of one beating process.
#[derive(Clone, Debug)]
pub(crate) struct Beats(PathBuf);

impl Beats {
    pub(crate) fn new(path: PathBuf) -> Self {
        Self(path)
    }

    pub(crate) fn path(&self) -> &str {
        self.0.to_str().unwrap()
    }

    fn lines(&self) -> Vec<(i32, u64)> {
        let text = fs::read_to_string(&self.0).unwrap_or_default();
        // The last line may be half written.
        let whole = text.rsplit_once('\n').map_or("", |(whole, _)| whole);
        let parse =
            |line: &str| line.split_once(' ').map(|(pid, at)| (pid.parse().unwrap(), at.parse().unwrap()));
        whole.lines().filter_map(parse).collect()
    }

    /// When it beat for the last time.
    pub(crate) fn last(&self) -> Boottime {
        Boottime::from_nanos(self.lines().last().expect("it has beaten").1)
    }

    pub(crate) fn has_begun(&self) -> bool {
        !self.lines().is_empty()
    }

    /// Waits until it has begun.
    pub(crate) async fn begun(&self) {
        eventually("the first beat", LIMIT, async || self.has_begun().then_some(())).await;
    }

    /// Nobody who beat here lives, and nobody will beat again.
    pub(crate) fn assert_dead(&self) {
        for (pid, _) in self.lines() {
            assert!(!alive(pid), "process {pid} of {} lives: {}", self.path(), stat(pid));
        }
    }

    /// It went on to about this instant.
    pub(crate) fn assert_beat_until(&self, instant: Boottime) {
        let early = instant.since(self.last());
        assert!(early <= patience(PAUSE), "{} ended {early:?} too early", self.path());
    }

    /// It did not go on after this instant.
    pub(crate) fn assert_silent_after(&self, instant: Boottime) {
        let late = self.last().since(instant);
        assert!(late.is_zero(), "{} went on for {late:?}", self.path());
    }
}

fn stat(pid: i32) -> String {
    fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default()
}

/// Whether there is such a process, and it is no corpse.
pub(crate) fn alive(pid: i32) -> bool {
    let stat = stat(pid);
    stat.rsplit_once(')').is_some_and(|(_, rest)| !rest.trim_start().starts_with(['Z', 'X']))
}

/// The living processes with this text in their environment.
pub(crate) fn carrying(text: &str) -> Vec<i32> {
    let pids = std::fs::read_dir("/proc")
        .unwrap()
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    let has = |pid: &i32| {
        let environment = std::fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
        environment.windows(text.len()).any(|window| window == text.as_bytes()) && alive(*pid)
    };
    pids.filter(has).collect()
}

/// How many descriptors this process has.
pub(crate) fn descriptors() -> usize {
    fs::read_dir("/proc/self/fd").unwrap().count()
}

/// The children of this process, dead ones that nobody took in too.
pub(crate) fn children() -> Vec<String> {
    let threads = fs::read_dir("/proc/self/task").unwrap().flatten();
    let lists = threads.map(|thread| fs::read_to_string(thread.path().join("children")).unwrap_or_default());
    lists.flat_map(|list| list.split_whitespace().map(str::to_owned).collect::<Vec<_>>()).collect()
}

/// Whether the lock on this file is free. Takes and gives it back.
pub(crate) fn unlocked(path: &Path) -> bool {
    let file = File::open(path).unwrap();
    rustix::fs::flock(&file, rustix::fs::FlockOperation::NonBlockingLockExclusive).is_ok()
}

pub(crate) fn send(pid: i32, signal: rustix::process::Signal) {
    // Fails only when it has ended.
    let _ = rustix::process::kill_process(rustix::process::Pid::from_raw(pid).unwrap(), signal);
}
