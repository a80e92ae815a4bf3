//! Nodes that rest, move or go while updates wait for them.

use std::time::Duration;

use serde_json::json;
use testkit::http::ask;
use testkit::recorder::{duplicates, inversions_per_path};
use testkit::{Act, RecorderNode, Rule, eventually};

use crate::harness::{Flags, SOON};
use crate::updates::reaches;

#[tokio::test]
async fn changing_a_dead_node_with_a_backlog_delays_nobody_and_drops_nothing_unasked() {
    let mut nodes = RecorderNode::start_many(3);
    let proxy = Flags::new().nodes(&nodes).start().await;
    nodes[2].stop();
    let dead = nodes[2].addr();
    for _ in 0..20 {
        assert_eq!(proxy.put("/k", "1").await.status, 200);
    }
    let target = format!("/nodes/{}/{}", dead.ip(), dead.port());
    let traffic = async {
        loop {
            let begun = std::time::Instant::now();
            assert_eq!(proxy.get("/x").await.status, 200);
            assert_eq!(proxy.put("/k", "2").await.status, 200);
            // A3 and A4 of the original: ten seconds, or for ever.
            assert!(begun.elapsed() < Duration::from_secs(5), "traffic was held up");
        }
    };
    let changes = async {
        assert_eq!(proxy.change(dead, r#"{"maintenance":true}"#).await, 202);
        assert_eq!(proxy.change(dead, r#"{"maintenance":true}"#).await, 202);
        assert_eq!(proxy.change(dead, r#"{"maintenance":false}"#).await, 202);
        assert_eq!(proxy.change(dead, r#"{"active":false}"#).await, 409);
        let refused = ask("DELETE", &target).of(proxy.api).await;
        assert_eq!(refused.status, 409, "{}", refused.text());
        assert!(proxy.pending(dead).await >= 20);
        // Renaming keeps the queue: the node is the same, at another address.
        let new = RecorderNode::start("moved");
        let rename = json!({"host": new.addr().ip().to_string(), "port": new.addr().port()}).to_string();
        assert_eq!(proxy.change(dead, &rename).await, 202);
        reaches(&new, 20).await;
        let moved = new.addr();
        drop(new);
        proxy.healthy(moved, false).await;
        eventually("a backlog", SOON, async || (proxy.pending(moved).await > 0).then_some(())).await;
        assert_eq!(proxy.change(moved, r#"{"active":false}"#).await, 409);
        assert_eq!(proxy.change_with(moved, "?discard=true", r#"{"active":false}"#).await, 202);
        let gone = ask("DELETE", &format!("/nodes/{}/{}", moved.ip(), moved.port())).of(proxy.api).await;
        assert_eq!(gone.status, 200);
    };
    tokio::select! { () = changes => {}, () = traffic => unreachable!() }
}

#[tokio::test]
async fn maintenance_accumulates_and_its_end_delivers() {
    let nodes = RecorderNode::start_many(2);
    let proxy = Flags::new().nodes(&nodes).start().await;
    assert_eq!(proxy.change(nodes[1].addr(), r#"{"maintenance":true}"#).await, 202);
    for number in 0..30 {
        assert_eq!(proxy.put("/k", &number.to_string()).await.status, 200);
    }
    assert_eq!((proxy.pending(nodes[1].addr()).await, nodes[1].count()), (30, 0));
    assert_eq!(proxy.change(nodes[1].addr(), r#"{"maintenance":false}"#).await, 202);
    proxy.level().await;
    assert_eq!(inversions_per_path(&[nodes[0].entries(), nodes[1].entries()]), []);
    assert_eq!(nodes[1].count(), 30);
}

#[tokio::test]
async fn maintenance_in_the_middle_of_failures_leaves_nothing_behind() {
    let nodes = RecorderNode::start_many(2);
    nodes[1].rule(Rule::new(Act::Status(503)).updates().times(40));
    nodes[1].rule(Rule::new(Act::Delay(Duration::from_millis(50))).updates());
    let proxy = Flags::new().nodes(&nodes).and(&["--retry-max", "50ms"]).start().await;
    for number in 0..40 {
        assert_eq!(proxy.put(&format!("/k/{}", number % 5), "x").await.status, 200);
        let rest = number % 8 < 4;
        assert_eq!(proxy.change(nodes[1].addr(), &json!({"maintenance": rest}).to_string()).await, 202);
    }
    proxy.level().await;
    assert_eq!(nodes[1].applied(), 40);
    assert_eq!(inversions_per_path(&[nodes[0].entries(), nodes[1].entries()]), []);
    assert_eq!(duplicates(&[nodes[1].entries()]), []);
}

#[tokio::test]
async fn a_node_that_catches_up_gets_no_reads_until_it_is_level() {
    let nodes = RecorderNode::start_many(2);
    nodes[1].rule(Rule::new(Act::Delay(Duration::from_millis(30))).updates());
    let proxy = Flags::new().nodes(&nodes).and(&["--round-robin", "--max-lag", "500ms"]).start().await;
    assert_eq!(proxy.change(nodes[1].addr(), r#"{"maintenance":true}"#).await, 202);
    for number in 0..150 {
        assert_eq!(proxy.put("/k", &number.to_string()).await.status, 200);
    }
    // The oldest has to be older than the lag that is allowed before the node is back among the others.
    tokio::time::sleep(Duration::from_millis(600)).await;
    assert_eq!(proxy.change(nodes[1].addr(), r#"{"maintenance":false}"#).await, 202);
    let stale = nodes[1].addr().to_string();
    while proxy.pending(nodes[1].addr()).await > 60 {
        let answer = proxy.get("/x").await;
        // Whatever was read before the last look at the queue was read while it was behind.
        assert!(
            answer.header("spawn-node") != Some(&stale) || proxy.pending(nodes[1].addr()).await < 30,
            "a stale read"
        );
    }
    proxy.level().await;
}

#[tokio::test]
async fn a_rename_in_the_middle_of_a_delivery_repeats_it_with_a_higher_attempt() {
    let old = RecorderNode::start("old");
    old.rule(Rule::new(Act::Late(Duration::from_millis(700))).updates());
    let proxy = Flags::new().node(old.addr()).and(&["--ack", "queued"]).start().await;
    assert_eq!(proxy.put("/k", "1").await.status, 202);
    reaches(&old, 1).await;
    let new = RecorderNode::start("new");
    let rename = json!({"host": new.addr().ip().to_string(), "port": new.addr().port()}).to_string();
    assert_eq!(proxy.change(old.addr(), &rename).await, 202);
    proxy.level().await;
    assert_eq!(old.entries()[0].attempt, Some(1));
    assert!(new.entries().iter().all(|entry| entry.attempt > Some(1)), "{:?}", new.entries());
    assert_eq!(proxy.put("/k", "2").await.status, 202);
    eventually("the new address to get what comes", SOON, async || {
        new.entries().iter().any(|entry| entry.sequence == Some(2)).then_some(())
    })
    .await;
}
