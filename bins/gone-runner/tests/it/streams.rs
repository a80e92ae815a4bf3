//! Many messages: none acknowledged is lost while holders are killed, and a slow child slows its senders.

use std::collections::{HashMap, HashSet};
use std::io::Write;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use testkit::{Process, RedisServer, Rng, TempDir, eventually};

use crate::harness::{SOON, Setup, holds, lines, record};

const EXE: &str = env!("CARGO_BIN_EXE_gone-runner");

/// A `send --each-line` that is fed by a thread, killed on drop.
struct Sending {
    child: Child,
}

impl Sending {
    /// Sends `NAME-1` to `NAME-count`.
    fn start(lock: &str, name: &str, count: u64) -> Self {
        let mut command = Command::new(EXE);
        command.args(["send", "--id", "job", "--lock", lock, "--each-line", "--wait", "--timeout", "60s"]);
        let mut child = command.stdin(Stdio::piped()).stderr(Stdio::inherit()).spawn().unwrap();
        let (mut input, name) = (child.stdin.take().unwrap(), name.to_owned());
        std::thread::spawn(move || {
            // A sender that is killed early does not read on.
            let _ = (1..=count).try_for_each(|number| writeln!(input, "{name}-{number}"));
        });
        Self { child }
    }

    fn rss(&self) -> u64 {
        rss(self.child.id())
    }
}

impl Drop for Sending {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn rss(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap_or("0");
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap_or(0) * 1024
}

/// What the children recorded, as (token, text), in the order in which it was written.
fn recorded(file: &Path) -> Vec<(u64, String)> {
    let parsed = |line: String| {
        let (token, rest) = line.split_once(' ').unwrap();
        (token.parse().unwrap(), rest.split_once(' ').unwrap().1.to_owned())
    };
    lines(file).into_iter().map(parsed).collect()
}

fn killed() -> bool {
    std::env::var_os("MUSTER_KILLS").is_some()
}

/// Nothing lost; each child's view of each sender is in order; a message twice only with different children.
/// Gives how many came twice.
fn check(records: &[(u64, String)], names: &[&str], count: u64, seed: u64) -> usize {
    let mut seen: HashSet<&str> = HashSet::new();
    let mut last: HashMap<(u64, &str), u64> = HashMap::new();
    let mut doubles = 0;
    for (token, text) in records {
        let (name, number) = text.split_once('-').unwrap();
        let number: u64 = number.parse().unwrap();
        let before = last.insert((*token, name), number).unwrap_or(0);
        assert!(number > before, "seed {seed}: {name}-{number} came after {name}-{before} at {token}");
        doubles += usize::from(!seen.insert(text));
    }
    for name in names {
        let lost = (1..=count).find(|number| !seen.contains(format!("{name}-{number}").as_str()));
        assert_eq!(lost, None, "seed {seed}: a message of {name} is lost");
    }
    doubles
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kills_of_holders_lose_nothing_that_was_acknowledged() {
    let redis = RedisServer::start().await;
    let (kills, count) = if killed() { (10, 25_000) } else { (3, 2000) };
    let mut rng = Rng::from_env();
    let seed = rng.number();
    let (_dir, file) = record();
    let setup = Setup::over(&redis.url()).flags(&["--ack", "child", "--max-pending", "256"]).recording(&file);
    // Slow enough that the pipe is never empty, so that each kill takes along what was not read.
    let setup = setup.env("ACK", "child").env("DELAY_US", "50");
    let mut runners = [setup.start("a"), setup.start("b")];
    let names = ["w", "x", "y", "z"];
    let url = redis.url();
    let mut senders = names.map(|name| Sending::start(&url, name, count));
    let (mut least, total) = (0, count * 4);
    for _ in 0..kills {
        // Some more messages, so that each kill falls into the stream, and into a turn of its own.
        least += total / (kills + 2) + rng.within(0..50);
        eventually("messages to come", SOON * 4, async || (lines(&file).len() as u64 >= least).then_some(()))
            .await;
        let holder = holder(&mut runners).await;
        runners[holder].kill9();
        runners[holder].restart();
    }
    eventually("all senders to end", SOON * 4, async || {
        senders.iter_mut().all(|sender| sender.child.try_wait().unwrap().is_some()).then_some(())
    })
    .await;
    for sender in &mut senders {
        assert!(sender.child.wait().unwrap().success());
    }
    let records = recorded(&file);
    let doubles = check(&records, &names, count, seed);
    // At each kill, no more than what may be in flight can come again: the bound, and the rest of one frame.
    assert!(doubles as u64 <= kills * (256 + 1024), "{doubles} doubles");
    eprintln!("kills={kills} messages={total} doubles={doubles}");
}

async fn holder(runners: &mut [Process; 2]) -> usize {
    eventually("one to hold the lease", SOON, async || {
        for (index, runner) in runners.iter_mut().enumerate() {
            if crate::harness::status(runner).await["state"] == "held" {
                return Some(index);
            }
        }
        None
    })
    .await
}

#[tokio::test]
async fn a_slow_child_slows_its_senders_and_memory_stays_flat() {
    let ((_dir, file), lock_dir) = (record(), TempDir::new());
    let setup = Setup::in_folder(&lock_dir).flags(&["--ack", "child"]).recording(&file).env("ACK", "child");
    let mut runner = setup.env("DELAY_US", "50000").start("runner");
    holds(&mut runner).await;
    let lock = crate::harness::folder_lock(&lock_dir);
    let senders = ["w", "x", "y", "z"].map(|name| Sending::start(&lock, name, 10_000_000));
    eventually("the first messages", SOON, async || (lines(&file).len() >= 20).then_some(())).await;
    let before: Vec<u64> = senders.iter().map(Sending::rss).chain([runner.rss()]).collect();
    tokio::time::sleep(Duration::from_secs(4)).await;
    let after: Vec<u64> = senders.iter().map(Sending::rss).chain([runner.rss()]).collect();
    for (before, after) in before.iter().zip(&after) {
        assert!(after.saturating_sub(*before) < 4 << 20, "grew from {before} to {after}");
        assert!(*after < 128 << 20, "{after} bytes");
    }
    let taken = lines(&file).len();
    assert!((40..400).contains(&taken), "{taken} messages in 5 s of one each 50 ms");
}

/// The times are such that the whole takes many of a sender's time-outs, and so does each single message.
#[tokio::test]
async fn a_child_that_takes_longer_than_the_time_out_is_waited_for() {
    let ((_dir, file), lock_dir) = (record(), TempDir::new());
    let flags = ["--ack", "child", "--max-pending", "1"];
    let setup = Setup::in_folder(&lock_dir).flags(&flags).recording(&file).env("ACK", "child");
    let mut runner = setup.env("DELAY_US", "1000000").start("runner");
    holds(&mut runner).await;
    let lock = crate::harness::folder_lock(&lock_dir);
    let send = ["send", "--id", "job", "--lock", &lock, "--timeout", "400ms"];
    let (each_line, single) =
        ([&send[..], &["--each-line"]].concat(), [&send[..], &["--wait", "single"]].concat());
    let expected: Vec<String> = (1..=12).map(|number| format!("line-{number}")).collect();
    let input = expected.join("\n");
    // The single one has to wait until the lines before it are taken, of which it hears nothing.
    let (lines, late) = tokio::join!(crate::harness::call(&each_line, &input), async {
        eventually("the first line", SOON, async || (!crate::harness::lines(&file).is_empty()).then_some(()))
            .await;
        crate::harness::call(&single, "").await
    });
    assert!(lines.status.success() && late.status.success(), "{lines:?} {late:?}");
    let (single, lines): (Vec<_>, Vec<_>) =
        recorded(&file).into_iter().partition(|(_, text)| text == "single");
    assert_eq!(lines.into_iter().map(|(_, text)| text).collect::<Vec<_>>(), expected);
    assert_eq!(single.len(), 1);
    // Without --wait it is told, and may have been taken.
    let impatient = [&send[..], &["first"]].concat();
    crate::harness::call(&impatient, "").await;
    let said = crate::harness::fails(1, &[&send[..], &["second"]].concat(), "").await;
    assert!(said.contains("did not acknowledge within 400ms"), "{said}");
}
