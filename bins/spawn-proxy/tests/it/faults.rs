//! kill -9 and SIGSTOP of the proxy and of nodes under load: nothing accepted is lost or reordered.
//!
//! `MUSTER_KILLS` sets how often the proxy is killed, `SEED` replays a run.

use std::collections::HashSet;
use std::time::Duration;

use testkit::recorder::{duplicates, inversions_per_path, missing};
use testkit::{Entry, Load, RecorderProcess, Rng, TempDir, free_port};

use crate::harness::{Flags, Proxy};

fn kills() -> u64 {
    std::env::var("MUSTER_KILLS").map_or(15, |text| text.parse().unwrap())
}

async fn nodes(count: usize) -> Vec<RecorderProcess> {
    let mut nodes = Vec::new();
    for number in 0..count {
        nodes.push(RecorderProcess::start(&format!("node-{number}")).await);
    }
    nodes
}

async fn start(nodes: &[RecorderProcess], flags: &[&str]) -> Proxy {
    let port = free_port().to_string();
    let api = free_port().to_string();
    let flags = nodes.iter().fold(Flags::new(), |flags, node| flags.node(node.addr())).and(flags);
    // Clients must find the proxy where it was.
    let flags = flags.and(&["--port", &port, "--api-port", &api]);
    flags.start_in(TempDir::new()).await
}

fn first_of_each<'a>(record: impl Iterator<Item = &'a Entry>) -> Vec<Entry> {
    let mut seen = HashSet::new();
    record.filter(|entry| entry.applied && seen.insert(entry.sequence)).cloned().collect()
}

fn check(nodes: &[RecorderProcess], report: &testkit::Report, seed: u64) {
    let records: Vec<_> = nodes.iter().map(RecorderProcess::entries).collect();
    for (node, record) in nodes.iter().zip(&records) {
        let lost = missing(report.accepted(), record);
        assert!(
            lost.is_empty(),
            "seed {seed}: {} lacks {} accepted updates, such as {:?}",
            node.name(),
            lost.len(),
            lost.first()
        );
    }
    // A crash may repeat deliveries whose success was not yet written down, in their old order. So the
    // order of first arrivals holds, and so does that of last ones, which makes the state at the end.
    let first: Vec<_> = records.iter().map(|record| first_of_each(record.iter())).collect();
    let last: Vec<_> = records.iter().map(|record| first_of_each(record.iter().rev())).collect();
    let last: Vec<_> = last.into_iter().map(|record| record.into_iter().rev().collect()).collect();
    assert_eq!(inversions_per_path(&first), [], "first arrivals, seed {seed}");
    assert_eq!(inversions_per_path(&last), [], "last arrivals, seed {seed}");
    assert_eq!(duplicates(&records), [], "seed {seed}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_proxy_is_killed_again_and_again() {
    let mut rng = Rng::from_env();
    let seed = rng.number();
    let nodes = nodes(3).await;
    let mut proxy = start(&nodes, &[]).await;
    let paths = (0..40).map(|n| format!("/kv/{}/{n}", n % 4)).chain(["/kv/1".to_owned()]);
    let load = Load::to(proxy.addr, seed).writers(16).paths(paths).retry().start();
    for _ in 0..kills() {
        tokio::time::sleep(Duration::from_millis(rng.within(20..400))).await;
        proxy.process.kill9();
        proxy.restart().await;
    }
    let report = load.stop().await;
    assert!(report.accepted().count() > 100, "too little load to prove anything");
    proxy.level().await;
    check(&nodes, &report, seed);
    println!("kills={}", kills());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn proxy_and_nodes_are_killed_and_stopped_at_random() {
    let mut rng = Rng::from_env();
    let seed = rng.number();
    let mut nodes = nodes(3).await;
    // Short waits, so that stopped nodes are noticed within the test.
    let mut proxy = start(&nodes, &["--timeout", "2s", "--retry-max", "200ms"]).await;
    let paths = (0..30).map(|n| format!("/kv/{n}"));
    let load = Load::to(proxy.addr, seed).writers(8).paths(paths).retry().start();
    for _ in 0..kills() * 2 {
        tokio::time::sleep(Duration::from_millis(rng.within(20..300))).await;
        let victim = usize::try_from(rng.within(0..3)).unwrap();
        match rng.within(0..4) {
            0 => {
                proxy.process.kill9();
                proxy.restart().await;
            }
            1 => {
                nodes[victim].process().kill9();
                tokio::time::sleep(Duration::from_millis(rng.within(0..500))).await;
                nodes[victim].restart().await;
            }
            2 => {
                nodes[victim].process().sigstop();
                tokio::time::sleep(Duration::from_millis(rng.within(50..800))).await;
                nodes[victim].process().sigcont();
            }
            _ => {
                proxy.process.sigstop();
                tokio::time::sleep(Duration::from_millis(rng.within(10..200))).await;
                proxy.process.sigcont();
            }
        }
    }
    let report = load.stop().await;
    assert!(report.accepted().count() > 50, "too little load to prove anything");
    proxy.level().await;
    check(&nodes, &report, seed);
    println!("kills={}", kills() * 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restart_under_load_in_good_order_loses_nothing() {
    let mut rng = Rng::from_env();
    let seed = rng.number();
    let nodes = nodes(2).await;
    let mut proxy = start(&nodes, &[]).await;
    let load =
        Load::to(proxy.addr, seed).writers(8).paths((0..10).map(|n| format!("/kv/{n}"))).retry().start();
    for _ in 0..5 {
        tokio::time::sleep(Duration::from_millis(rng.within(50..300))).await;
        assert!(proxy.process.stop().await.success());
        proxy.restart().await;
    }
    let report = load.stop().await;
    proxy.level().await;
    check(&nodes, &report, seed);
    println!("kills=5");
}
