//! The engine on a real file system: killed in the middle of its work, and on a disk that is full.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking, helpers included")]

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use common::node::NodeId;
use common::queue::Sequence;
use http::{HeaderMap, Method, StatusCode};
use update_log::{
    Answer, AnswerBody, AppendError, Appended, FileLog, FileLogOptions, NewUpdate, OpenError, Pending,
    Settled, UpdateBody, UpdateLog,
};

/// Set in the process that is to be killed: the log's directory.
const CHILD: &str = "MUSTER_TEST_LOG_DIR";

fn options(dir: &Path) -> FileLogOptions {
    FileLogOptions {
        segment_bytes: 64 << 10,
        cache_bytes: 16 << 10,
        retain: Duration::ZERO,
        mark_delay: Duration::from_millis(2),
        ..FileLogOptions::new(dir)
    }
}

fn node(name: &str) -> NodeId {
    NodeId::new(name, 80).unwrap()
}

fn update(id: &str, len: usize) -> NewUpdate {
    NewUpdate {
        id: id.into(),
        key: None,
        received_ms: 1,
        method: Method::POST,
        target: "/things".into(),
        headers: HeaderMap::new(),
        body: UpdateBody::Memory(id.bytes().cycle().take(len).collect()),
    }
}

fn answer() -> Arc<Answer> {
    let body = AnswerBody::Whole(Bytes::from_static(b"made"));
    Arc::new(Answer { status: StatusCode::CREATED, headers: HeaderMap::new(), body })
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap()
}

async fn read_all(log: &FileLog, name: &str) -> Vec<Pending> {
    let mut all: Vec<Pending> = Vec::new();
    loop {
        let from = all.last().map_or(Sequence(0), |last| last.update.sequence.next());
        let batch = log.read(&node(name), from, 1000).await.unwrap();
        if batch.is_empty() {
            return all;
        }
        all.extend(batch);
    }
}

/// Not a test of its own: what [`kills_lose_nothing_that_was_acknowledged`] runs and kills.
#[test]
fn child_process() {
    let Some(dir) = std::env::var_os(CHILD) else { return };
    let log = FileLog::open(options(Path::new(&dir))).unwrap();
    let runtime = runtime();
    runtime.block_on(async {
        log.subscribe(&node("fast")).await.unwrap();
        log.subscribe(&node("slow")).await.unwrap();
        for task in 0..6 {
            let log = log.clone();
            tokio::spawn(async move {
                for number in 0.. {
                    let id = format!("{}-{task}-{number}", std::process::id());
                    let Ok(Appended::New { sequence, .. }) = log.append(update(&id, 300)).await else {
                        return;
                    };
                    say(&format!("append {sequence} {id}"));
                }
            });
        }
        let mut from = Sequence(0);
        loop {
            for pending in log.read(&node("fast"), from, 100).await.unwrap() {
                let attempt = pending.progress.attempts + 1;
                let sequence = pending.update.sequence;
                // Said before it is recorded: a delivery that is recorded must have been made.
                say(&format!("send {sequence} {attempt}"));
                let delivered = Settled::Delivered { attempt, answer: answer(), digest: 0, level: true };
                log.settle(&node("fast"), &pending.update, delivered);
                from = sequence.next();
            }
            tokio::task::yield_now().await;
        }
    });
}

fn say(line: &str) {
    let mut out = std::io::stdout().lock();
    out.write_all(format!("@{line}\n").as_bytes()).unwrap();
    out.flush().unwrap();
}

#[test]
fn kills_lose_nothing_that_was_acknowledged() {
    let kills: u32 = std::env::var("MUSTER_KILLS").ok().and_then(|text| text.parse().ok()).unwrap_or(10);
    let temp = tempfile::tempdir().unwrap();
    let mut acknowledged: BTreeMap<u64, String> = BTreeMap::new();
    let mut sent: BTreeMap<u64, u32> = BTreeMap::new();
    for kill in 0..kills {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["child_process", "--exact", "--nocapture", "--test-threads=1"])
            .env(CHILD, temp.path())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let stop_at = 50 + u64::from(kill) * 977 % 1500;
        for (count, line) in lines.map_while(Result::ok).enumerate() {
            if count as u64 == stop_at {
                child.kill().unwrap();
            }
            let Some((_, line)) = line.split_once('@') else { continue };
            let words: Vec<_> = line.split(' ').collect();
            let [what, sequence, rest] = words[..] else { continue };
            let sequence: u64 = sequence.parse().unwrap();
            if what == "append" {
                let before = acknowledged.insert(sequence, rest.to_owned());
                assert_eq!(before, None, "kill {kill}: sequence {sequence} is used twice");
            } else {
                let attempt = rest.parse().unwrap();
                let before = sent.insert(sequence, attempt);
                assert!(
                    before.is_none_or(|before| before < attempt),
                    "kill {kill}: an attempt of {sequence} repeats"
                );
            }
        }
        child.wait().unwrap();
    }
    let log = FileLog::open(options(temp.path())).unwrap();
    let runtime = runtime();
    let slow = runtime.block_on(read_all(&log, "slow"));
    for (index, pending) in slow.iter().enumerate() {
        assert_eq!(pending.update.sequence.0, index as u64 + 1, "a sequence is left out");
    }
    for (sequence, id) in &acknowledged {
        assert_eq!(&*slow[*sequence as usize - 1].update.id, id.as_str(), "{sequence} was acknowledged");
    }
    let fast: Vec<u64> =
        runtime.block_on(read_all(&log, "fast")).iter().map(|p| p.update.sequence.0).collect();
    let undelivered = (1..=slow.len() as u64).filter(|sequence| !sent.contains_key(sequence));
    for sequence in undelivered {
        assert!(fast.contains(&sequence), "{sequence} is settled and was never sent");
    }
    println!("kills={kills}, {} acknowledged, {} sent", acknowledged.len(), sent.len());
}

#[test]
fn a_second_process_is_told_who_has_the_log() {
    let temp = tempfile::tempdir().unwrap();
    let log = FileLog::open(options(temp.path())).unwrap();
    let error = FileLog::open(options(temp.path())).unwrap_err();
    assert!(
        matches!(&error, OpenError::Locked { pid: Some(pid), .. } if *pid == std::process::id()),
        "{error}"
    );
    assert_eq!(error.exit_code(), 1);
    drop(log);
    std::fs::write(temp.path().join("update-log.format"), "2\n").unwrap();
    let error = FileLog::open(options(temp.path())).unwrap_err();
    assert_eq!(error.exit_code(), 78, "{error}");
}

/// A small file system, unmounted when dropped.
struct Tiny(tempfile::TempDir);

impl Tiny {
    /// `None`, and said so, where nobody may mount; a failure where all tests have to run.
    #[expect(clippy::print_stdout, reason = "a test that is left out says so")]
    fn mount(mebibytes: u32) -> Option<Self> {
        let dir = tempfile::tempdir().unwrap();
        let mut mount = Command::new("mount");
        mount
            .args(["-t", "tmpfs", "-o", &format!("size={mebibytes}m"), "tmpfs"])
            .arg(dir.path())
            .stderr(Stdio::null());
        let mounted = mount.status().is_ok_and(|status| status.success());
        assert!(mounted || std::env::var_os("CI").is_none(), "a tmpfs cannot be mounted here");
        if !mounted {
            println!("skipped: a tmpfs cannot be mounted here");
        }
        mounted.then_some(Self(dir))
    }
}

impl Drop for Tiny {
    fn drop(&mut self) {
        Command::new("umount").arg("-l").arg(self.0.path()).status().unwrap();
    }
}

#[test]
fn a_full_file_system_refuses_and_takes_again() {
    let Some(tiny) = Tiny::mount(1) else { return };
    let dir = tiny.0.path().join("log");
    let ballast = tiny.0.path().join("ballast");
    std::fs::write(&ballast, vec![0; 300 << 10]).unwrap();
    let log = FileLog::open(options(&dir)).unwrap();
    let runtime = runtime();
    runtime.block_on(log.subscribe(&node("a"))).unwrap();
    let mut taken = 0u64;
    let error = loop {
        match runtime.block_on(log.append(update(&format!("u{taken}"), 2000))) {
            Ok(_) => taken += 1,
            Err(error) => break error,
        }
    };
    assert!(matches!(error, AppendError::Log(_)), "{error}");
    assert!(taken > 100, "{taken}");
    let pending = runtime.block_on(read_all(&log, "a"));
    assert_eq!(pending.len() as u64, taken, "reading goes on");
    for pending in &pending[..5] {
        let delivered = Settled::Delivered { attempt: 1, answer: answer(), digest: 0, level: true };
        log.settle(&node("a"), &pending.update, delivered);
    }
    std::fs::remove_file(&ballast).unwrap();
    let end = Instant::now() + Duration::from_secs(20);
    while runtime.block_on(log.append(update(&format!("u{taken}"), 2000))).is_err() {
        assert!(Instant::now() < end, "it never recovers");
    }
    runtime.block_on(log.close()).unwrap();
    drop(log);
    let log = FileLog::open(options(&dir)).unwrap();
    let ids: Vec<_> =
        runtime.block_on(read_all(&log, "a")).iter().map(|pending| pending.update.id.to_string()).collect();
    assert_eq!(ids, (5..=taken).map(|number| format!("u{number}")).collect::<Vec<_>>());
    drop(log);
}

/// Nobody makes room but the log itself, by what the node has taken in, and in spite of what it would
/// retain if there were room.
#[test]
fn a_log_that_filled_its_file_system_cleans_up_after_itself() {
    let Some(tiny) = Tiny::mount(24) else { return };
    let dir = tiny.0.path().join("log");
    let options =
        FileLogOptions { segment_bytes: 64 << 20, retain: Duration::from_secs(600), ..options(&dir) };
    let log = FileLog::open(options).unwrap();
    let runtime = runtime();
    runtime.block_on(log.subscribe(&node("a"))).unwrap();
    for round in 0..3 {
        let mut taken = 0;
        while runtime.block_on(log.append(update(&format!("u{round}-{taken}"), 20_000))).is_ok() {
            taken += 1;
        }
        assert!(taken > 300, "round {round}: {taken}");
        for pending in runtime.block_on(read_all(&log, "a")) {
            let delivered = Settled::Delivered { attempt: 1, answer: answer(), digest: 0, level: true };
            log.settle(&node("a"), &pending.update, delivered);
        }
        let end = Instant::now() + Duration::from_secs(30);
        while runtime.block_on(log.append(update(&format!("again{round}"), 20_000))).is_err() {
            assert!(Instant::now() < end, "round {round}: it never recovers");
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}
