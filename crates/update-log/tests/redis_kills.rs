//! Processes on one log in Redis that are killed in the middle of their work, one after the other.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::io::{BufRead, BufReader, Write};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use common::queue::Sequence;
use support::{LIMIT, Tokens, append, delivered, node, update};
use testkit::{RedisServer, Rng, TempDir, eventually};
use update_log::{Appended, RedisLog, RedisLogOptions, UpdateLog};

/// Set in the processes that are to be killed: where Redis is, a directory, and the token of their lease.
const CHILD: &str = "MUSTER_TEST_LOG_REDIS";

fn open(url: &str, dir: &std::path::Path, token: Option<u64>) -> Arc<RedisLog> {
    let tokens = Arc::new(Tokens::default());
    tokens.set(&node(1), token);
    let options = RedisLogOptions { cache_bytes: 64 << 10, ..RedisLogOptions::new(url, dir).unwrap() };
    RedisLog::open(options, tokens).unwrap()
}

fn say(line: &str) {
    let mut out = std::io::stdout().lock();
    out.write_all(format!("@{line}\n").as_bytes()).unwrap();
    out.flush().unwrap();
}

/// Not a test of its own: what the test below runs and kills.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn child_process() {
    let Ok(given) = std::env::var(CHILD) else { return };
    let [url, dir, token] = given.split(' ').collect::<Vec<_>>()[..] else { panic!("{given}") };
    let log = open(url, std::path::Path::new(dir), token.parse().ok());
    for writer in 0..4 {
        let log = log.clone();
        tokio::spawn(async move {
            for number in 0.. {
                let target = format!("/{}/{writer}/{number}", std::process::id());
                let Ok(Appended::New { sequence, .. }) = log.append(update(&target, &[1; 300])).await else {
                    return;
                };
                say(&format!("append {sequence} {target}"));
            }
        });
    }
    if log.claim(&node(1)).await.is_err() {
        return std::future::pending().await;
    }
    let mut from = Sequence::FIRST;
    loop {
        for pending in log.read(&node(1), from, 100).await.unwrap() {
            let (sequence, number) = (pending.update.sequence, pending.progress.attempts + 1);
            if !log.begin_attempt(&node(1), sequence).await {
                return std::future::pending().await;
            }
            // Said before it is recorded: a delivery that is recorded must have been made.
            say(&format!("send {sequence} {number}"));
            log.settle(&node(1), &pending.update, delivered(number));
            from = sequence.next();
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

struct Run {
    child: Child,
    lines: std::thread::JoinHandle<Vec<String>>,
    _dir: TempDir,
}

fn start(url: &str, token: u64) -> Run {
    let dir = TempDir::new();
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["child_process", "--exact", "--nocapture"])
        .env(CHILD, format!("{url} {} {token}", dir.join("spool").display()))
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let out = BufReader::new(child.stdout.take().unwrap());
    // What was cut off by the kill does not count as said.
    let lines = std::thread::spawn(move || {
        let said = out.split(b'\n').map_while(Result::ok).filter_map(|line| String::from_utf8(line).ok());
        said.filter_map(|line| line.split_once('@').map(|(_, line)| line.to_owned())).collect()
    });
    Run { child, lines, _dir: dir }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kills_lose_nothing_that_was_acknowledged_and_deliveries_move_on() {
    let mut rng = Rng::from_env();
    let kills: u64 = std::env::var("MUSTER_KILLS").ok().and_then(|text| text.parse().ok()).unwrap_or(8);
    let server = RedisServer::start().await;
    let dir = TempDir::new();
    let log = open(&server.url(), &dir.join("spool"), None);
    log.subscribe(&node(1)).await.unwrap();
    let (mut acknowledged, mut sent) = (HashMap::new(), BTreeMap::<u64, Vec<u32>>::new());
    let mut running: Vec<Run> = Vec::new();
    for token in 1..=kills + 2 {
        running.push(start(&server.url(), token));
        if running.len() < 3 {
            continue;
        }
        let before = log.tail().borrow().0;
        eventually("updates", LIMIT, async || (log.tail().borrow().0 > before + 20).then_some(())).await;
        tokio::time::sleep(Duration::from_millis(rng.within(0..300))).await;
        let mut run = running.remove(rng.within(0..running.len() as u64) as usize);
        run.child.kill().unwrap();
        run.child.wait().unwrap();
        take(run.lines.join().unwrap(), &mut acknowledged, &mut sent);
    }
    for mut run in running {
        run.child.kill().unwrap();
        run.child.wait().unwrap();
        take(run.lines.join().unwrap(), &mut acknowledged, &mut sent);
    }
    drop(log);
    let log = open(&server.url(), &dir.join("spool"), Some(kills + 100));
    log.claim(&node(1)).await.unwrap();
    let (end, _) = append(&*log, update("/end", b"")).await;
    for sequence in 1..end.0 {
        let target = log.status(Sequence(sequence)).await.unwrap().expect("no sequence is left out").target;
        if let Some(known) = acknowledged.remove(&sequence) {
            assert_eq!(known, target);
        }
    }
    assert!(acknowledged.is_empty(), "acknowledged and not there: {acknowledged:?}");
    let mut from = Sequence::FIRST;
    loop {
        let pending = log.read(&node(1), from, 1000).await.unwrap();
        let Some(last) = pending.last() else { break };
        from = last.update.sequence.next();
        for one in &pending {
            let (sequence, number) = (one.update.sequence.0, one.progress.attempts + 1);
            sent.entry(sequence).or_default().push(number);
        }
    }
    for sequence in 1..=end.0 {
        let numbers = sent.get(&sequence).expect("what is settled was sent");
        let distinct: HashSet<_> = numbers.iter().collect();
        // Who has lost the node may not know it yet: only its own numbers can be the same as another's.
        assert!(distinct.len() + 1 >= numbers.len(), "sequence {sequence} had the attempts {numbers:?}");
    }
    eprintln!("{} updates over {kills} kills", end.0);
}

fn take(lines: Vec<String>, acknowledged: &mut HashMap<u64, String>, sent: &mut BTreeMap<u64, Vec<u32>>) {
    for line in lines {
        let words: Vec<&str> = line.split(' ').collect();
        match words[..] {
            ["append", sequence, target] => {
                let before = acknowledged.insert(sequence.parse().unwrap(), target.to_owned());
                assert_eq!(before, None, "sequence {sequence} was given twice");
            }
            ["send", sequence, number] => {
                sent.entry(sequence.parse().unwrap()).or_default().push(number.parse().unwrap());
            }
            _ => {}
        }
    }
}
