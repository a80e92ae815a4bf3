//! `--ack`: whose answers there are before the client gets one.

use std::time::Duration;

use testkit::{Act, RecorderNode, Rule};

use crate::harness::{Flags, Proxy};

/// Three nodes: one at once, one a little later, one that holds its first update for so long.
async fn staggered(ack: &str, longest: Duration, timeout: &str) -> (Vec<RecorderNode>, Proxy) {
    let nodes = RecorderNode::start_many(3);
    nodes[1].rule(Rule::new(Act::Delay(Duration::from_millis(100))).updates());
    nodes[2].rule(Rule::new(Act::Delay(longest)).updates());
    let proxy = Flags::new().nodes(&nodes).and(&["--ack", ack, "--timeout", timeout]).start().await;
    (nodes, proxy)
}

fn applied(nodes: &[RecorderNode]) -> Vec<usize> {
    nodes.iter().map(RecorderNode::applied).collect()
}

#[tokio::test]
async fn all_means_that_every_node_has_answered() {
    let (nodes, proxy) = staggered("all", Duration::from_millis(600), "30s").await;
    let answer = proxy.put("/k", "1").await;
    assert_eq!(answer.status, 200);
    assert_eq!(applied(&nodes), [1, 1, 1]);
    assert_eq!(answer.header("spawn-node"), Some(nodes[0].addr().to_string().as_str()));
}

#[tokio::test]
async fn quorum_means_that_most_have_answered_and_waits_for_no_more() {
    let (nodes, proxy) = staggered("quorum", Duration::from_secs(20), "30s").await;
    assert_eq!(proxy.put("/k", "1").await.status, 200);
    assert_eq!(applied(&nodes), [1, 1, 0]);
}

#[tokio::test]
async fn what_is_not_reached_in_time_is_202_with_who_has_answered() {
    let (mut nodes, proxy) = staggered("all", Duration::ZERO, "1s").await;
    nodes[2].stop();
    let answer = proxy.put("/k", "1").await;
    assert_eq!(answer.status, 202, "{}", answer.text());
    let location = answer.header("location").unwrap();
    assert!(location.ends_with("/updates/1"), "{location}");
    let answered = answer.json()["answered"].clone();
    let mut named: Vec<_> =
        answered.as_object().unwrap().iter().map(|(node, status)| (node.clone(), status.clone())).collect();
    named.sort_by(|a, b| a.0.cmp(&b.0));
    let mut wanted: Vec<_> = nodes[..2].iter().map(|node| (node.addr().to_string(), 200.into())).collect();
    wanted.sort_by(|a, b| a.0.cmp(&b.0));
    assert_eq!(named, wanted);
    // A node in maintenance is not asked.
    assert_eq!(proxy.change(nodes[2].addr(), r#"{"maintenance":true}"#).await, 202);
    assert_eq!(proxy.put("/k", "2").await.status, 200);
}
