//! The library: a handler on one node of several, and messages to it wherever it runs.

#![expect(clippy::unwrap_used, reason = "a test that meets what it did not expect has failed")]

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use gone::lease::Timing;
use gone::message::{Encryption, Patience};
use gone::node::{Gone, RunError, Runner, Running, Settings};
use testkit::{RedisServer, eventually};
use zmq_link::KeyPair;

const SOON: Duration = Duration::from_secs(30);
const ID: &str = "job";

/// What handlers saw: who ran under which token, and each message with its node.
#[derive(Default)]
struct Record {
    turns: Mutex<Vec<(usize, u64)>>,
    taken: Mutex<Vec<(usize, String)>>,
    running: AtomicUsize,
}

async fn node(redis: &RedisServer, settings: &Settings) -> Gone {
    let lock = gone::lock::dial(&redis.url()).unwrap();
    Gone::with("tcp://127.0.0.1:0", lock, settings.clone()).await.unwrap()
}

fn settings(encryption: Encryption) -> Settings {
    let mut settings = Settings::new(encryption);
    settings.timing = Timing::of(Duration::from_secs(3));
    settings.fresh = true;
    settings
}

/// Takes messages until its turn is over, or until it is sent `end`.
fn run(gone: &Gone, number: usize, record: &Arc<Record>) -> Running {
    let record = record.clone();
    gone.run_one(ID, move |mut runner: Runner| {
        let record = record.clone();
        async move {
            assert_eq!(record.running.fetch_add(1, Ordering::SeqCst), 0, "two at once");
            record.turns.lock().unwrap().push((number, runner.token));
            loop {
                tokio::select! {
                    message = runner.data.recv() => {
                        let Some(message) = message else { break };
                        let text = String::from_utf8(message.to_vec()).unwrap();
                        record.taken.lock().unwrap().push((number, text.clone()));
                        if text == "end" {
                            runner.data.acknowledge();
                            break;
                        }
                    }
                    () = runner.exit.wait() => break,
                }
            }
            record.running.fetch_sub(1, Ordering::SeqCst);
        }
    })
    .unwrap()
}

async fn turns(record: &Record, count: usize) -> Vec<(usize, u64)> {
    eventually(format!("{count} turns"), SOON, async || {
        let turns = record.turns.lock().unwrap().clone();
        (turns.len() >= count).then_some(turns)
    })
    .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_node_runs_the_handler_and_messages_find_it() {
    let redis = RedisServer::start().await;
    let settings = settings(Encryption::Key(KeyPair::generate().unwrap()));
    let record = Arc::new(Record::default());
    let (first, second) = (node(&redis, &settings).await, node(&redis, &settings).await);
    let one = run(&first, 1, &record);
    turns(&record, 1).await;
    let two = run(&second, 2, &record);
    for number in 0..50 {
        let from = if number % 2 == 0 { &first } else { &second };
        from.send_data(ID, format!("m{number}")).await.unwrap();
    }
    let taken = record.taken.lock().unwrap().clone();
    assert_eq!(taken, (0..50).map(|number| (1, format!("m{number}"))).collect::<Vec<_>>());
    // Stopped in order, the other takes over, and a message rides through it.
    let waiting = Patience { timeout: Some(SOON), only_absence: false, wait: true };
    let (sent, ()) = tokio::join!(second.send_with(ID, "after", waiting), one.stop());
    sent.unwrap();
    let seen = turns(&record, 2).await;
    assert!(seen[0].0 == 1 && seen[1].0 == 2 && seen[1].1 > seen[0].1, "{seen:?}");
    eventually("the message", SOON, async || {
        record.taken.lock().unwrap().iter().any(|(_, text)| text == "after").then_some(())
    })
    .await;
    two.stop().await;
    assert_eq!(record.running.load(Ordering::SeqCst), 0);
    assert!(first.send_data(ID, "nobody").await.unwrap_err().to_string().contains("nobody holds job"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_handler_that_ends_is_run_again_under_a_higher_token() {
    let redis = RedisServer::start().await;
    let settings = settings(Encryption::PlainText);
    let record = Arc::new(Record::default());
    let gone = node(&redis, &settings).await;
    let running = run(&gone, 1, &record);
    turns(&record, 1).await;
    assert!(matches!(gone.run_one(ID, |_| async {}), Err(RunError::Twice(id)) if id == ID));
    gone.send_data(ID, "end").await.unwrap();
    let seen = turns(&record, 2).await;
    assert!(seen[1].1 > seen[0].1, "{seen:?}");
    assert!(!running.is_over());
    running.stop().await;
    // Stopped, it may be run here again.
    run(&gone, 2, &record).stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_handler_that_does_not_end_is_dropped_before_the_lease_can_be_anothers() {
    let redis = RedisServer::start().await;
    let settings = settings(Encryption::PlainText);
    let gone = node(&redis, &settings).await;
    let (ran, lost) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    struct Ends(Arc<AtomicUsize>);
    impl Drop for Ends {
        fn drop(&mut self) {
            self.0.fetch_add(1, Ordering::SeqCst);
        }
    }
    let (began, ended) = (ran.clone(), lost.clone());
    let _running = gone
        .run_one(ID, move |runner: Runner| {
            let (began, ends) = (began.clone(), Ends(ended.clone()));
            async move {
                let _ends = ends;
                assert_eq!(runner.extend(), Ok(()));
                began.fetch_add(1, Ordering::SeqCst);
                std::future::pending::<()>().await;
            }
        })
        .unwrap();
    eventually("a turn", SOON, async || (ran.load(Ordering::SeqCst) == 1).then_some(())).await;
    drop(redis);
    eventually("the end of it", SOON, async || (lost.load(Ordering::SeqCst) == 1).then_some(())).await;
    assert_eq!(ran.load(Ordering::SeqCst), 1);
}
