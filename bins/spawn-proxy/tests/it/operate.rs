//! Nodes brought level, parked and drained, with kills of the proxy in between.

use std::collections::BTreeSet;
use std::time::Duration;

use serde_json::Value;
use testkit::http::{Answer, ask, get};
use testkit::recorder::inversions_per_path;
use testkit::{Act, Entry, RecorderNode, Rng, Rule, eventually};

use crate::harness::{Flags, Proxy, SOON};

async fn post(proxy: &Proxy, node: &RecorderNode, what: &str) -> Answer {
    let target = format!("/nodes/{}/{}/{what}", node.addr().ip(), node.addr().port());
    ask("POST", &target).of(proxy.api).await
}

async fn queue(proxy: &Proxy, node: &RecorderNode) -> Value {
    let name = node.addr().to_string();
    let queues = proxy.results("/queues").await;
    queues.into_iter().find(|queue| queue["node"] == name.as_str()).unwrap_or_default()
}

fn sequences(node: &RecorderNode) -> BTreeSet<u64> {
    node.entries().iter().filter(|entry| entry.applied).filter_map(|entry| entry.sequence).collect()
}

/// The last arrival of each update, in order.
fn last_of_each(node: &RecorderNode) -> Vec<Entry> {
    let mut seen = BTreeSet::new();
    let entries = node.entries();
    let mut last: Vec<_> =
        entries.into_iter().rev().filter(|entry| entry.applied && seen.insert(entry.sequence)).collect();
    last.reverse();
    last
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_added_later_is_brought_level_through_kills_while_writes_go_on() {
    let mut rng = Rng::from_env();
    let nodes = RecorderNode::start_many(3);
    let ports = [testkit::free_port().to_string(), testkit::free_port().to_string()];
    let flags = Flags::new().nodes(&nodes[..2]).and(&["--port", &ports[0], "--api-port", &ports[1]]);
    let mut proxy = flags.start().await;
    for number in 0..150 {
        assert_eq!(proxy.put(&format!("/k/{}", number % 7), &number.to_string()).await.status, 200);
    }
    let new = &nodes[2];
    new.rule(Rule::new(Act::Delay(Duration::from_millis(15))).updates());
    assert_eq!(post(&proxy, new, "sync?from=start").await.status, 404);
    assert_eq!(proxy.change(new.addr(), "{}").await, 201);
    assert_eq!(post(&proxy, new, "sync?from=start").await.status, 409);
    assert_eq!(proxy.change(new.addr(), r#"{"active":true}"#).await, 202);
    for bad in ["sync", "sync?from=x", "sync?from=0", "sync?from=1000"] {
        assert_eq!(post(&proxy, new, bad).await.status, 400, "{bad}");
    }
    let load =
        testkit::Load::to(proxy.addr, rng.number()).writers(4).paths((0..7).map(|n| format!("/k/{n}")));
    let load = load.retry().start();
    let synced = post(&proxy, new, "sync?from=1").await;
    assert_eq!(synced.status, 202, "{}", synced.text());
    assert_eq!(synced.json()["data"]["results"][0]["node"], new.addr().to_string());
    for _ in 0..3 {
        tokio::time::sleep(Duration::from_millis(rng.within(30..250))).await;
        proxy.restart_hard().await;
    }
    let report = load.stop().await;
    assert!(report.accepted().count() > 20);
    proxy.level().await;
    let all = sequences(&nodes[0]);
    assert_eq!(sequences(new), all);
    assert_eq!(
        inversions_per_path(&[last_of_each(&nodes[0]), last_of_each(new)]),
        [],
        "seed {}",
        rng.number()
    );
    // A repaired node gets all of it once more, from the middle on.
    new.forget();
    assert_eq!(post(&proxy, new, "sync?from=100").await.status, 202);
    proxy.level().await;
    assert_eq!(sequences(new), all.range(100..).copied().collect());
}

#[tokio::test]
async fn what_the_log_let_go_of_cannot_be_sent() {
    let nodes = RecorderNode::start_many(2);
    let dir = testkit::TempDir::new();
    let file = dir.join("spawn.toml");
    std::fs::write(&file, "[updates]\nretain = \"0s\"\nretain-bytes = \"0B\"\n").unwrap();
    let file = file.to_str().unwrap().to_owned();
    let mut proxy = Flags::new().nodes(&nodes).and(&["--config", &file]).start_in(dir).await;
    for _ in 0..5 {
        assert_eq!(proxy.put("/k", "x").await.status, 200);
    }
    proxy.level().await;
    // A start begins a new file; the old one goes.
    assert!(proxy.process.stop().await.success());
    proxy.restart().await;
    assert_eq!(proxy.put("/k", "x").await.status, 200);
    let gone = eventually("410", SOON, async || {
        Some(post(&proxy, &nodes[1], "sync?from=1").await).filter(|answer| answer.status == 410)
    })
    .await;
    assert_eq!(gone.json()["data"]["first"], 6, "{}", gone.text());
    assert_eq!(post(&proxy, &nodes[1], "sync?from=6").await.status, 202);
    proxy.level().await;
}

/// Writes until the log would be full several times over; how many were taken.
async fn fill(proxy: &Proxy) -> usize {
    let mut taken = 0;
    for number in 0..60 {
        taken += usize::from(proxy.put(&format!("/k/{number}"), &"x".repeat(4000)).await.status == 200);
    }
    taken
}

#[tokio::test]
async fn who_holds_a_full_log_up_is_parked_until_a_sync() {
    let mut nodes = RecorderNode::start_many(3);
    let flags = ["--max-pending-bytes", "100KiB", "--round-robin"];
    let mut proxy = Flags::new().nodes(&nodes).and(&flags).start().await;
    nodes[2].stop();
    proxy.healthy(nodes[2].addr(), false).await;
    assert_eq!(fill(&proxy).await, 60);
    // A body that goes by disk finds room, too.
    assert_eq!(proxy.put("/large", &"x".repeat(80_000)).await.status, 200);
    for restart in [false, true] {
        if restart {
            proxy.restart_hard().await;
        }
        let parked = queue(&proxy, &nodes[2]).await;
        assert_eq!(
            (parked["state"].as_str(), parked["pending"].as_u64()),
            (Some("parked"), Some(0)),
            "{parked}"
        );
        assert_eq!(queue(&proxy, &nodes[1]).await["state"], "flowing");
        let metric = format!("spawn_proxy_queue_parked{{node=\"{}\"}} 1", nodes[2].addr());
        assert!(get(proxy.api, "/metrics").await.text().contains(&metric));
        eventually("the readiness to tell", SOON, async || {
            get(proxy.api, "/readyz").await.text().contains("parked").then_some(())
        })
        .await;
    }
    nodes[2].restart();
    proxy.healthy(nodes[2].addr(), true).await;
    let reads = nodes[2].reads();
    nodes[2].keep_headers();
    for _ in 0..6 {
        assert_eq!(proxy.get("/x").await.status, 200);
    }
    assert!(nodes[2].read_entries().iter().all(|entry| entry.target == "/"), "only checks: {reads}");
    assert_eq!(post(&proxy, &nodes[2], "sync?from=start").await.status, 202);
    proxy.level().await;
    assert_eq!(sequences(&nodes[2]), sequences(&nodes[0]));
    assert_eq!(queue(&proxy, &nodes[2]).await["state"], "flowing");
}

#[tokio::test]
async fn told_to_refuse_or_with_nobody_flowing_a_full_log_refuses() {
    let mut nodes = RecorderNode::start_many(2);
    let flags = ["--max-pending-bytes", "100KiB", "--when-full", "refuse"];
    let proxy = Flags::new().nodes(&nodes).and(&flags).start().await;
    nodes[1].stop();
    let taken = fill(&proxy).await;
    assert!(taken < 30, "{taken}");
    assert_eq!(queue(&proxy, &nodes[1]).await["state"], "waiting");
    drop(proxy);
    let parking = ["--max-pending-bytes", "100KiB", "--ack", "queued"];
    nodes[0].stop();
    let proxy = Flags::new().nodes(&nodes).and(&parking).start().await;
    proxy.healthy(nodes[0].addr(), false).await;
    proxy.healthy(nodes[1].addr(), false).await;
    let mut last = 202;
    for number in 0..60 {
        last = proxy.put(&format!("/k/{number}"), &"x".repeat(4000)).await.status;
    }
    assert_eq!(last, 503);
    assert!(
        queue(&proxy, &nodes[0]).await["state"] == "waiting"
            && queue(&proxy, &nodes[1]).await["state"] == "waiting"
    );
}

#[tokio::test]
async fn a_parked_node_goes_on_with_what_comes_after_a_discard() {
    let mut nodes = RecorderNode::start_many(2);
    let proxy = Flags::new().nodes(&nodes).and(&["--max-pending-bytes", "100KiB"]).start().await;
    nodes[1].stop();
    proxy.healthy(nodes[1].addr(), false).await;
    assert_eq!(fill(&proxy).await, 60);
    let target = format!("/queues/{}", nodes[1].addr());
    assert_eq!(ask("DELETE", &target).of(proxy.api).await.status, 200);
    nodes[1].restart();
    let answer = proxy.put("/k/1", "new").await;
    proxy.level().await;
    let new: u64 = answer.header("spawn-sequence").unwrap().parse().unwrap();
    assert_eq!(sequences(&nodes[1]), BTreeSet::from([new]));
}

#[tokio::test]
async fn a_drained_node_gets_its_queue_and_no_reads_and_then_rests() {
    let nodes = RecorderNode::start_many(2);
    let mut proxy = Flags::new().nodes(&nodes).and(&["--round-robin", "--retry-max", "50ms"]).start().await;
    nodes[1].fail_with(503);
    for number in 0..5 {
        assert_eq!(proxy.put(&format!("/k/{number}"), "x").await.status, 200);
    }
    let record = async |proxy: &Proxy| {
        let target = format!("/nodes/{}/{}", nodes[1].addr().ip(), nodes[1].addr().port());
        proxy.results(&target).await.remove(0)
    };
    assert!(record(&proxy).await.get("draining").is_none());
    assert_eq!(post(&proxy, &nodes[1], "drain").await.status, 202);
    assert_eq!(ask("POST", "/nodes/h/1/drain").of(proxy.api).await.status, 404);
    nodes[1].keep_headers();
    for restart in [false, true] {
        if restart {
            proxy.restart_hard().await;
        }
        let now = record(&proxy).await;
        assert_eq!((&now["draining"], &now["maintenance"]), (&true.into(), &false.into()), "{now}");
        for _ in 0..4 {
            assert_eq!(proxy.get("/x").await.status, 200);
        }
    }
    assert!(nodes[1].read_entries().iter().all(|entry| entry.target == "/"), "a read came");
    // Told to go on, it does.
    assert_eq!(proxy.change(nodes[1].addr(), r#"{"priority":3}"#).await, 202);
    assert_eq!(record(&proxy).await["draining"], true);
    assert_eq!(proxy.change(nodes[1].addr(), r#"{"maintenance":false}"#).await, 202);
    assert!(record(&proxy).await.get("draining").is_none());
    assert_eq!(post(&proxy, &nodes[1], "drain").await.status, 202);
    nodes[1].heal();
    let rested = eventually("maintenance", SOON, async || {
        Some(record(&proxy).await).filter(|now| now["maintenance"] == true)
    })
    .await;
    assert!(rested.get("draining").is_none(), "{rested}");
    assert_eq!(sequences(&nodes[1]), (1..=5).collect());
    assert_eq!(proxy.put("/k/9", "x").await.status, 200);
    assert_eq!(queue(&proxy, &nodes[1]).await["pending"], 1);
}
