//! One order: no update overtakes a conflicting one on any node.

use testkit::recorder::{duplicates, inversions_per_path, missing};
use testkit::{Load, RecorderNode, seed};

use crate::harness::Flags;

/// Updates of each of the load tests; the contract asks for 100,000.
fn updates() -> u64 {
    std::env::var("MUSTER_UPDATES").map_or(20_000, |text| text.parse().unwrap())
}

async fn sixteen_writers(paths: Vec<String>, flags: &[&str]) {
    let seed = seed();
    let nodes = RecorderNode::start_many(3);
    let proxy = Flags::new().nodes(&nodes).and(flags).start().await;
    let load = Load::to(proxy.addr, seed)
        .writers(16)
        .requests(updates())
        .paths(paths)
        .methods(&["PUT", "POST", "DELETE"]);
    let report = load.run().await;
    assert_eq!(report.answered(200) as u64, updates(), "seed {seed}");
    proxy.level().await;
    let records: Vec<_> = nodes.iter().map(RecorderNode::entries).collect();
    assert_eq!(inversions_per_path(&records), [], "seed {seed}");
    assert_eq!(duplicates(&records), [], "seed {seed}");
    for record in &records {
        assert_eq!(missing(report.accepted(), record), [] as [String; 0], "seed {seed}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sixteen_writers_on_one_path() {
    sixteen_writers(vec!["/kv/a".into()], &[]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sixteen_writers_on_many_paths_that_contain_each_other() {
    let mut paths: Vec<String> = (0..200).map(|n| format!("/kv/{}/{}", n % 20, n)).collect();
    paths.extend((0..20).map(|n| format!("/kv/{n}")));
    paths.push("/kv".into());
    sixteen_writers(paths, &[]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sixteen_writers_in_one_global_order() {
    let nodes = RecorderNode::start_many(3);
    let proxy = Flags::new().nodes(&nodes).and(&["--ordering", "global"]).start().await;
    let paths = (0..50).map(|n| format!("/kv/{n}"));
    let report = Load::to(proxy.addr, seed()).writers(16).requests(updates() / 4).paths(paths).run().await;
    assert_eq!(report.answered(200) as u64, updates() / 4);
    proxy.level().await;
    for node in &nodes {
        let sequences: Vec<_> = node.entries().iter().map(|entry| entry.sequence.unwrap()).collect();
        assert!(sequences.is_sorted(), "{} got updates in another order than the log's", node.name());
    }
}
