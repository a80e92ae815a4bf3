//! Holders are killed while messages flow: real processes, real SIGKILL.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "message/support.rs"]
mod support;

use std::collections::HashMap;
use std::fs::{self, File};
use std::io::{BufRead, BufReader, Lines, Write};
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::SeqCst};
use std::time::Duration;

use gone::message::Origin;
use gone::message::stdin::Form;
use support::*;
use testkit::{Rng, TempDir, eventually};

const SENDERS: usize = 4;

/// Not a test of its own: the process that the test below starts again and again. Its child is a file, in which
/// each message is recorded before it is acknowledged.
#[tokio::test(flavor = "multi_thread")]
async fn holder_process() {
    let Some(file) = std::env::var_os("MESSAGE_TEST_RECORD") else { return };
    let token = std::env::var("MESSAGE_TEST_TOKEN").unwrap().parse().unwrap();
    let mut record = File::create(file).unwrap();
    let inbox = inbox().await;
    let mut turn = begin(&inbox, "job", token, Form::Frames);
    println!("endpoint {}", inbox.endpoint());
    let mut taken = Vec::new();
    while turn.recv(&mut taken).await {
        // Not all of it at once, so that some is always recorded and not acknowledged.
        for portion in taken.chunks(37) {
            let mut lines = String::new();
            for delivery in portion {
                let Origin::Sender { sender, sequence } = delivery.origin else { panic!("ours") };
                lines.push_str(&format!(
                    "{sender} {sequence} {}\n",
                    std::str::from_utf8(&delivery.data).unwrap()
                ));
            }
            record.write_all(lines.as_bytes()).unwrap();
            turn.acknowledge(portion[portion.len() - 1].n).unwrap();
            tokio::task::yield_now().await;
        }
        taken.clear();
    }
}

/// With its output, which it may go on writing to.
struct Process(Child, #[expect(dead_code, reason = "it keeps the pipe open")] Lines<BufReader<ChildStdout>>);

impl Process {
    fn start(record: &Path, token: u64) -> (Self, String) {
        let child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "holder_process", "--nocapture"])
            .env("MESSAGE_TEST_RECORD", record)
            .env("MESSAGE_TEST_TOKEN", token.to_string())
            .stdout(Stdio::piped())
            .spawn();
        let mut child = child.unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let endpoint = lines.find_map(|line| {
            let line = line.unwrap();
            line.rsplit_once("endpoint ").map(|(_, endpoint)| endpoint.to_owned())
        });
        (Self(child, lines), endpoint.expect("the holder tells its address"))
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // SIGKILL.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// What a child recorded: per sender, the numbers in order.
fn recorded(file: &Path) -> HashMap<String, Vec<u64>> {
    let mut all: HashMap<String, Vec<u64>> = HashMap::new();
    let text = fs::read_to_string(file).unwrap();
    // A last line without its end was not written whole, and not acknowledged.
    for line in text.split_inclusive('\n').filter_map(|line| line.strip_suffix('\n')) {
        let words: Vec<&str> = line.split(' ').collect();
        assert_eq!(words[1], words[2], "the message is the one that was sent under this number");
        all.entry(words[0].to_owned()).or_default().push(words[1].parse().unwrap());
    }
    all
}

#[tokio::test(flavor = "multi_thread")]
async fn kills_of_holders_lose_nothing_and_repeat_only_what_was_in_flight() {
    let mut rng = Rng::from_env();
    let kills: u64 = std::env::var("MUSTER_KILLS").ok().and_then(|text| text.parse().ok()).unwrap_or(10);
    let messages = 2_500 * kills;
    let folder = TempDir::new();
    let (store, turn) = (Store::default(), Arc::new(AtomicUsize::new(0)));
    let settled = Arc::new(AtomicU64::new(0));
    let mut senders = Vec::new();
    for _ in 0..SENDERS {
        let (outbox, turn, settled) = (store.plain(), Arc::clone(&turn), Arc::clone(&settled));
        senders.push(tokio::spawn(async move {
            let (orders, mut receipts) = tokio::sync::mpsc::channel(10_000);
            let name = outbox.identity().to_string();
            let sending = async {
                for number in 1..=messages {
                    let receipt = outbox.enqueue("job", number.to_string(), WAIT).await.unwrap();
                    orders.send((number, receipt)).await.unwrap();
                }
                drop(orders);
            };
            let mut settled_in = Vec::new();
            let settling = async {
                while let Some((number, mut receipt)) = receipts.recv().await {
                    let delivered = receipt.settled().await.unwrap();
                    assert_eq!(delivered.sequence, number);
                    settled.fetch_add(1, SeqCst);
                    settled_in.push(turn.load(SeqCst));
                }
            };
            tokio::join!(sending, settling);
            (name, settled_in)
        }));
    }
    let all = messages * SENDERS as u64;
    let file = |number: u64| folder.join(format!("turn-{number}"));
    for number in 0..=kills {
        let (process, endpoint) = Process::start(&file(number), number + 1);
        store.set(&endpoint, number + 1);
        // Killed at any moment while messages flow; the last one lives until all are through.
        let goal = if number == kills { all } else { (all * number + rng.within(1..all)) / (kills + 1) };
        let what = format!("{goal} messages settled in turn {number}");
        eventually(what, 4 * LIMIT, async || (settled.load(SeqCst) >= goal).then_some(())).await;
        drop(process);
        turn.fetch_add(1, SeqCst);
        if rng.percent(50) {
            store.clear();
        }
        tokio::time::sleep(Duration::from_millis(rng.within(0..50))).await;
    }
    let records: Vec<_> = (0..=kills).map(|number| recorded(&file(number))).collect();
    let mut again = 0;
    for sender in senders {
        let (name, settled_in) = sender.await.unwrap();
        let mut seen = vec![None; settled_in.len()];
        for (number, record) in records.iter().enumerate() {
            let Some(numbers) = record.get(&name) else { continue };
            assert!(
                numbers.is_sorted_by(|a, b| a < b),
                "turn {number} has sender {name} in order, none twice"
            );
            for message in numbers.iter().map(|message| usize::try_from(*message).unwrap() - 1) {
                if let Some(before) = seen[message].replace(number) {
                    again += 1;
                    let settled = settled_in[message];
                    assert!(
                        settled > before,
                        "{message} of {name} was acknowledged in turn {before} and came again"
                    );
                }
            }
        }
        let lost: Vec<_> = (0..seen.len()).filter(|message| seen[*message].is_none()).take(5).collect();
        assert_eq!(lost, Vec::<usize>::new(), "acknowledged and recorded by no child, of {name}");
    }
    eprintln!("kills={kills} messages={all} again={again}");
}
