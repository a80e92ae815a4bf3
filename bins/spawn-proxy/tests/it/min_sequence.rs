//! Read-your-writes: `Spawn-Min-Sequence` against nodes that lag at random.
//!
//! `MUSTER_TRIES` sets how often a client writes and reads; `SEED` replays a run.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use testkit::http::{Answer, ask};
use testkit::{Act, RecorderNode, Rng, Rule};

use crate::harness::{Flags, Proxy};

/// Clients at once. All write one path, so that a node's count of updates says which it has.
const CLIENTS: u64 = 6;

fn tries() -> u64 {
    std::env::var("MUSTER_TRIES").map_or(600, |text| text.parse().unwrap())
}

async fn read(proxy: &Proxy, least: &str) -> Answer {
    ask("GET", "/k").header("Spawn-Min-Sequence", least).of(proxy.addr).await
}

/// How many updates the node had that served a read.
fn had(answer: &Answer) -> u64 {
    let text = answer.text();
    text.split_whitespace().last().unwrap_or_default().parse().unwrap_or_else(|_| panic!("{answer:?}"))
}

/// Every update takes a node as long as the dice say.
fn lags(node: &RecorderNode, seed: u64) {
    for (one_in, pause) in [(40, 60), (8, 12), (2, 3)] {
        let mut dice = Rng::new(seed + one_in);
        let rule = Rule::new(Act::Delay(Duration::from_millis(pause))).updates();
        node.rule(rule.when(move |_| dice.within(0..one_in) == 0));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_never_sees_what_was_there_before_it_wrote() {
    let mut rng = Rng::from_env();
    let seed = rng.number();
    let nodes = RecorderNode::start_many(3);
    nodes.iter().zip(1..).for_each(|(node, n)| lags(node, seed % 1_000_000 + n * 1000));
    let modes: [&[&str]; 3] = [&["--round-robin"], &["--by-priority"], &["--round-robin", "--by-priority"]];
    let flags = Flags::new().nodes(&nodes).and(modes[(seed % 3) as usize]);
    let proxy = Arc::new(flags.and(&["--timeout", "60s"]).start().await);
    let stale_without = Arc::new(AtomicU64::new(0));
    let client = |_| {
        let (proxy, stale_without) = (proxy.clone(), stale_without.clone());
        tokio::spawn(async move {
            for _ in 0..tries() / CLIENTS {
                let written = proxy.put("/k", "v").await;
                assert_eq!(written.status, 200);
                let least = written.header("spawn-sequence").unwrap().to_owned();
                let without = proxy.get("/k").await;
                let answer = read(&proxy, &least).await;
                assert_eq!(answer.status, 200, "{}", answer.text());
                let wrote: u64 = least.parse().unwrap();
                assert!(had(&answer) >= wrote, "seed {seed}: wrote {wrote}, read {answer:?}");
                stale_without.fetch_add(u64::from(had(&without) < wrote), Relaxed);
            }
        })
    };
    for client in (0..CLIENTS).map(client).collect::<Vec<_>>() {
        client.await.unwrap();
    }
    if seed.is_multiple_of(3) {
        assert!(stale_without.load(Relaxed) > 0, "nothing lagged: this run proves nothing");
    }
    println!("tries={} stale without the header={}", tries(), stale_without.load(Relaxed));
}

#[tokio::test]
async fn a_read_waits_for_a_node_that_has_it_and_then_is_503() {
    let mut nodes = RecorderNode::start_many(2);
    let proxy = Flags::new().nodes(&nodes).and(&["--timeout", "2s"]).start().await;
    assert_eq!(proxy.put("/k", "1").await.status, 200);
    proxy.level().await;
    nodes[0].keep_headers();
    assert_eq!(read(&proxy, "1").await.status, 200);
    let seen = &nodes[0].read_entries()[0];
    assert!(seen.header("spawn-min-sequence").is_none(), "not for nodes");
    for bad in ["x", "-1", "1.5"] {
        assert_eq!(read(&proxy, bad).await.status, 400, "{bad}");
    }
    // The first node would serve, but only the second one has it.
    nodes[0].rule(Rule::new(Act::Hang).updates());
    assert_eq!(proxy.put("/k", "2").await.status, 200);
    let answer = read(&proxy, "2").await;
    assert_eq!(answer.header("spawn-node"), Some(nodes[1].addr().to_string().as_str()));
    // Nobody has what was never written.
    let begun = Instant::now();
    let late = read(&proxy, "9").await;
    assert_eq!((late.status, late.header("retry-after")), (503, Some("1")), "{}", late.text());
    assert!(begun.elapsed() >= Duration::from_secs(2));
    // Without the header nobody waits.
    assert_eq!(proxy.get("/k").await.status, 200);
    nodes[1].stop();
}

#[tokio::test]
async fn a_node_that_gave_an_update_up_does_not_have_it() {
    let nodes = RecorderNode::start_many(2);
    let flags = ["--max-attempts", "1", "--retry-max", "20ms", "--timeout", "1s"];
    let mut proxy = Flags::new().nodes(&nodes).and(&flags).start().await;
    nodes[0].rule(Rule::new(Act::Status(503)).updates().path("/poison"));
    assert_eq!(proxy.put("/poison", "1").await.status, 200);
    proxy.level().await;
    for _ in 0..2 {
        let answer = read(&proxy, "1").await;
        assert_eq!(
            (answer.status, answer.header("spawn-node")),
            (200, Some(nodes[1].addr().to_string().as_str()))
        );
        proxy.restart_hard().await;
    }
    nodes[0].heal();
    assert_eq!(proxy.change(nodes[1].addr(), r#"{"maintenance":true}"#).await, 202);
    assert_eq!(read(&proxy, "1").await.status, 503);
    let target = format!("/dead-letters/{}/1/retry", nodes[0].addr());
    assert_eq!(ask("POST", &target).of(proxy.api).await.status, 202);
    assert_eq!(read(&proxy, "1").await.status, 200);
}
