//! Updates that were given up: tried again, removed, and what faults do to that.

use std::time::Duration;

use serde_json::{Value, json};
use testkit::http::{Answer, ask};
use testkit::recorder::inversions_per_path;
use testkit::{Act, RecorderNode, Rng, Rule, eventually};

use crate::harness::{Flags, Proxy, SOON};

const GIVE_UP_SOON: [&str; 4] = ["--max-attempts", "1", "--retry-max", "20ms"];

async fn post(proxy: &Proxy, target: &str) -> Answer {
    ask("POST", target).of(proxy.api).await
}

async fn delete(proxy: &Proxy, target: &str) -> Answer {
    ask("DELETE", target).of(proxy.api).await
}

/// The sequences of a node's dead letters.
async fn letters(proxy: &Proxy, node: &RecorderNode) -> Vec<u64> {
    let found = proxy.results(&format!("/dead-letters?node={}", node.addr())).await;
    found.iter().filter_map(|letter| letter["sequence"].as_u64()).collect()
}

async fn dies(proxy: &Proxy, node: &RecorderNode, sequences: &[u64]) {
    eventually(format!("dead letters {sequences:?}"), SOON, async || {
        (letters(proxy, node).await == sequences).then_some(())
    })
    .await;
}

/// The sequences that a node took.
fn taken(node: &RecorderNode) -> Vec<u64> {
    node.entries().iter().filter(|entry| entry.applied).filter_map(|entry| entry.sequence).collect()
}

async fn takes(node: &RecorderNode, sequences: &[u64]) {
    eventually(format!("{} to have {sequences:?}", node.name()), SOON, async || {
        (taken(node) == sequences).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_letter_is_tried_again_unless_a_later_update_overtook_it() {
    let nodes = RecorderNode::start_many(2);
    let mut proxy = Flags::new().nodes(&nodes).and(&GIVE_UP_SOON).start().await;
    let sick = &nodes[1];
    sick.rule(Rule::new(Act::Status(503)).updates().path("/a"));
    assert_eq!(proxy.put("/a/1", "1").await.status, 200);
    dies(&proxy, sick, &[1]).await;
    let letter = format!("/dead-letters/{}/1", sick.addr());
    for (target, status) in [
        (format!("/dead-letters/{}/2/retry", sick.addr()), 404),
        (format!("/dead-letters/{}/1/retry", nodes[0].addr()), 404),
        ("/dead-letters/h:1/1/retry".to_owned(), 404),
        (format!("/dead-letters/{}/x/retry", sick.addr()), 400),
        ("/dead-letters/x/1/retry".to_owned(), 400),
    ] {
        assert_eq!(post(&proxy, &target).await.status, status, "{target}");
    }
    // Still sick: it is given up again.
    assert_eq!(post(&proxy, &format!("{letter}/retry")).await.status, 202);
    eventually("a second dead letter", SOON, async || {
        let letters = proxy.results("/dead-letters").await;
        (letters.len() == 1 && letters[0]["attempts"].as_u64() >= Some(2)).then_some(())
    })
    .await;
    sick.heal();
    assert_eq!(proxy.put("/b", "2").await.status, 200);
    takes(sick, &[2]).await;
    let answer = post(&proxy, &format!("{letter}/retry")).await;
    assert_eq!(answer.status, 202, "{}", answer.text());
    let data = &answer.json()["data"];
    assert_eq!((&data["total"], &data["results"][0]["sequence"]), (&json!(1), &json!(1)));
    takes(sick, &[2, 1]).await;
    eventually("the letter to go", SOON, async || letters(&proxy, sick).await.is_empty().then_some(())).await;
    let update = &proxy.results("/updates/1").await[0];
    assert_eq!(update["nodes"][sick.addr().to_string()]["state"], "delivered");
    // The next one is overtaken.
    sick.rule(Rule::new(Act::Status(503)).updates().path("/a/1"));
    assert_eq!(proxy.put("/a/1", "3").await.status, 200);
    eventually("it to be given up", SOON, async || (!letters(&proxy, sick).await.is_empty()).then_some(()))
        .await;
    assert_eq!(proxy.put("/a", "4").await.status, 200);
    takes(sick, &[2, 1, 4]).await;
    let letter = format!("/dead-letters/{}/3/retry", sick.addr());
    for _ in 0..2 {
        let refused = post(&proxy, &letter).await;
        assert_eq!(refused.status, 409, "{}", refused.text());
        assert!(refused.text().contains("Update 4"), "{}", refused.text());
        // That it was overtaken is known after a kill, too.
        proxy.restart_hard().await;
    }
    sick.heal();
    assert_eq!(post(&proxy, &format!("{letter}?reorder=true")).await.status, 202);
    eventually("it to be sent", SOON, async || taken(sick).contains(&3).then_some(())).await;
}

#[tokio::test]
async fn all_are_tried_again_in_order_and_the_refused_are_listed() {
    let nodes = RecorderNode::start_many(2);
    let proxy = Flags::new().nodes(&nodes).and(&GIVE_UP_SOON).start().await;
    let sick = &nodes[1];
    sick.rule(Rule::new(Act::Status(503)).updates().path("/a"));
    for target in ["/a/1", "/a/1", "/a/2", "/b"] {
        assert_eq!(proxy.put(target, "x").await.status, 200);
    }
    dies(&proxy, sick, &[1, 2, 3]).await;
    sick.heal();
    assert_eq!(proxy.put("/a/2", "y").await.status, 200);
    takes(sick, &[4, 5]).await;
    let answer = post(&proxy, &format!("/dead-letters/retry?node={}", sick.addr())).await;
    assert_eq!(answer.status, 202, "{}", answer.text());
    let data = answer.json()["data"].clone();
    let sequences = |of: &Value| {
        let items = of.as_array().cloned().unwrap_or_default();
        items.iter().filter_map(|item| item["sequence"].as_u64()).collect::<Vec<_>>()
    };
    assert_eq!((sequences(&data["results"]), sequences(&data["refused"])), (vec![1, 2], vec![3]), "{data}");
    assert_eq!(data["refused"][0]["error"], 409);
    takes(sick, &[4, 5, 1, 2]).await;
    assert_eq!(letters(&proxy, sick).await, [3]);
    // An inactive node's letters stay, and can be removed.
    assert_eq!(proxy.change(sick.addr(), r#"{"active":false}"#).await, 202);
    assert_eq!(
        post(&proxy, &format!("/dead-letters/{}/3/retry?reorder=true", sick.addr())).await.status,
        409
    );
    assert_eq!(delete(&proxy, &format!("/dead-letters/{}/9", sick.addr())).await.status, 404);
    assert_eq!(delete(&proxy, "/dead-letters?node=h:1").await.json()["data"]["discarded"], 0);
    let gone = delete(&proxy, &format!("/dead-letters/{}/3", sick.addr())).await;
    assert_eq!((gone.status, gone.json()["data"].clone()), (200, json!({ "discarded": 1, "success": true })));
    assert!(letters(&proxy, sick).await.is_empty());
}

#[tokio::test]
async fn a_kill_in_the_middle_of_trying_all_again_loses_none() {
    let mut rng = Rng::from_env();
    let nodes = RecorderNode::start_many(2);
    let flags = ["--max-attempts", "1", "--retry-max", "20ms"];
    let mut proxy = Flags::new().nodes(&nodes).and(&flags).start().await;
    let sick = &nodes[1];
    sick.rule(Rule::new(Act::Status(503)).updates().path("/a"));
    let all: Vec<u64> = (1..=40).collect();
    for number in &all {
        assert_eq!(proxy.put(&format!("/a/{}", number % 5), &number.to_string()).await.status, 200);
    }
    eventually("all to be given up", SOON * 3, async || {
        // Something that the node takes, so that it counts as well.
        assert_eq!(proxy.put("/b", "fine").await.status, 200);
        (letters(&proxy, sick).await == all).then_some(())
    })
    .await;
    sick.forget();
    sick.heal();
    sick.rule(Rule::new(Act::Delay(Duration::from_millis(10))).updates());
    for _ in 0..4 {
        let target = "/dead-letters/retry?reorder=true";
        let asked = ask("POST", target).try_of(proxy.api);
        let kill = tokio::time::sleep(Duration::from_millis(rng.within(1..150)));
        let _ = tokio::join!(tokio::time::timeout(SOON, asked), kill);
        proxy.restart_hard().await;
        proxy.healthy(sick.addr(), true).await;
    }
    assert_eq!(post(&proxy, "/dead-letters/retry?reorder=true").await.status, 202);
    proxy.level().await;
    let mut have: Vec<u64> = taken(sick).into_iter().filter(|sequence| all.contains(sequence)).collect();
    assert_eq!(inversions_per_path(&[first_of_each(sick)]), [], "first arrivals, seed {}", rng.number());
    have.sort_unstable();
    have.dedup();
    assert_eq!(have, all);
    assert!(letters(&proxy, sick).await.is_empty());
    let attempts: Vec<_> = sick.entries().iter().map(|entry| (entry.sequence, entry.attempt)).collect();
    let distinct: std::collections::HashSet<_> = attempts.iter().collect();
    assert_eq!(distinct.len(), attempts.len(), "an attempt number was used twice");
}

fn first_of_each(node: &RecorderNode) -> Vec<testkit::Entry> {
    let mut seen = std::collections::HashSet::new();
    node.entries().into_iter().filter(|entry| entry.applied && seen.insert(entry.sequence)).collect()
}
