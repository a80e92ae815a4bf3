//! What faults do: deaths, hangs, wrong secrets.

use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::json;

use crate::harness::*;

#[tokio::test(flavor = "multi_thread")]
async fn the_dead_leave_at_once_and_the_quorum_goes_with_the_majority() {
    let mut nodes = Plan::of(3).start().await;
    let mut events = nodes[0].events(None).await;
    let begin = Instant::now();
    nodes[2].process.kill9();
    assert_eq!(events.next("leave").await.data["node"], "n3");
    println!("the death was told after {:?}", begin.elapsed());
    assert_eq!(nodes[0].state().await["quorum"], true);
    nodes[1].process.kill9();
    assert_eq!(events.next("leave").await.data["node"], "n2");
    assert_eq!(events.next("quorum").await.data["quorum"], false);
    let ready = testkit::http::get(nodes[0].api, "/readyz").await;
    assert_eq!(ready.status, 200, "no quorum is a condition, not an illness");
    assert!(ready.text().contains("no quorum: 1 of 3"), "{}", ready.text());
    assert!(begin.elapsed() < SOON);

    nodes[1].restart().await;
    assert_eq!(events.next("join").await.data["node"], "n2");
    assert_eq!(events.next("quorum").await.data["quorum"], true);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_clean_end_is_a_leave_at_once() {
    let mut nodes = Plan::of(2).flags(&["--read-timeout", "60s"]).start().await;
    let mut events = nodes[0].events(None).await;
    let ended = nodes[1].process.stop().await;
    assert!(ended.success(), "{ended}");
    assert_eq!(events.next("leave").await.data["node"], "n2");
    nodes[1].process.logs("left the cluster").await;
    nodes[1].restart().await;
    assert_eq!(events.next("join").await.data["node"], "n2");
}

#[tokio::test(flavor = "multi_thread")]
async fn one_that_hangs_holds_nobody_up_and_what_it_misses_is_told() {
    let plan = Plan::of(3).flags(&["--window", "64KiB", "--max-message", "16KiB", "--read-timeout", "20s"]);
    let nodes = plan.start().await;
    let mut at1 = nodes[0].events(None).await;
    let mut at2 = nodes[1].events(None).await;
    nodes[2].process.sigstop();
    let body = "x".repeat(8 << 10);
    let mut undelivered = Vec::new();
    for _ in 0..600 {
        let answer = nodes[0].call("POST", "/broadcast", body.clone()).await;
        if answer.status == 503 {
            assert_eq!(answer.header("retry-after"), Some("1"));
            tokio::time::sleep(Duration::from_millis(5)).await;
            continue;
        }
        let data = answer.json()["data"].clone();
        let told = at2.next("message").await;
        assert_eq!(told.data["sequence"], data["sequence"], "the healthy one gets each in turn");
        if data["undelivered"] == json!(["n3"]) {
            undelivered.push(data["sequence"].as_u64().unwrap());
        }
    }
    assert!(!undelivered.is_empty(), "the window is full");
    let told = at1.next("undelivered").await.data;
    assert_eq!(told["node"], "n3");
    assert!(told["count"].as_u64().unwrap() >= 1, "{told}");
    let dump = nodes[0].done("POST", "/statedump", "").await;
    assert_eq!(dump["nodes"]["n3"]["stalled"], true, "{dump}");
    nodes[2].process.sigcont();
    nodes[0].sees("n3", "Online").await;
    let mut at3 = nodes[2].events(None).await;
    testkit::eventually("n3 to take messages again", SOON, async || {
        let data = nodes[0].done("POST", "/send/n3", "back").await;
        (data["accepted"] == json!(["n3"])).then_some(())
    })
    .await;
    loop {
        if at3.next("message").await.data["payload"] == "back" {
            break;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_end_waits_for_acknowledgements_and_a_second_signal_does_not() {
    let mut nodes = Plan::of(2).flags(&["--drain-timeout", "60s", "--read-timeout", "60s"]).start().await;
    nodes[1].process.sigstop();
    nodes[0].done("POST", "/broadcast", "x").await;
    nodes[0].process.signal(Signal::TERM);
    nodes[0].process.logs("draining").await;
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert_eq!(nodes[0].process.exit_status(), None, "it waits");
    nodes[0].process.signal(Signal::TERM);
    assert_eq!(nodes[0].process.ended(SOON).await.code(), Some(1));
    nodes[1].process.sigcont();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_secret_is_told_on_both_sides() {
    let plan = Plan::of(2);
    let mut n1 = Node::start(&plan.program(1), 1).await;
    plan.secret(2, OTHER);
    let mut process = plan.program(2).start();
    let api = process.listening("api").await;
    let there = process.logs("it has another secret or key").await;
    assert!(there.contains("our key is") && there.contains(&plan.address(1)), "{there}");
    let here = n1.process.logs("refused: ").await;
    assert!(here.contains("own_key") && here.contains("127.0.0.1"), "{here}");
    let mut told = n1.events(Some("0")).await;
    while !told.next("log").await.data["message"].as_str().unwrap().starts_with("refused 127.0.0.1") {}
    let state = testkit::http::get(api, "/api/v1/cluster/n2").await.json()["data"].clone();
    assert_ne!(state["nodes"]["n1"]["status"], "Online");
    assert_ne!(n1.state().await["nodes"]["n2"]["status"], "Online");
    testkit::eventually("the reason to be shown", SOON, async || {
        let state = testkit::http::get(api, "/api/v1/cluster/n2").await.json()["data"].clone();
        state["nodes"]["n1"]["error"].as_str().filter(|error| error.contains("secret")).map(drop)
    })
    .await;
    let metrics = testkit::http::get(n1.api, "/metrics").await.text();
    assert!(!metrics.contains("cluster_node_denied_total 0\n"), "{metrics}");
    n1.process.stop().await;
}
