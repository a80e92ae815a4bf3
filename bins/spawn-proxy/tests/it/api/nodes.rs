//! Nodes: added, changed, renamed, removed.

use std::collections::BTreeSet;

use serde_json::json;
use testkit::http::{ask, get};
use testkit::{RecorderNode, eventually};

use super::{call, data, node, ports, record};
use crate::harness::{Flags, SOON};

#[tokio::test]
async fn a_new_node_is_201_and_a_known_one_202_with_the_record() {
    let proxy = Flags::new().start().await;
    let new =
        data(&proxy, "PUT", "/nodes/h/80/", r#"{"priority":5,"host":"ignored","port":7,"color":"red"}"#)
            .await;
    let echo = |priority, active| json!({ "results": [record("h", 80, priority, active, false)], "success": true, "total": 1 });
    assert_eq!(new, (201, echo(5, false)));
    assert_eq!(data(&proxy, "PUT", "/nodes/h/80", r#"{"active":true}"#).await, (202, echo(5, true)));
    assert_eq!(data(&proxy, "PUT", "/nodes/h/80", "null").await, (202, echo(5, true)));
    let (status, off) = data(&proxy, "PUT", "/nodes/h/80", r#"{"active":false,"priority":-1}"#).await;
    assert_eq!(
        (status, &off["discarded"], &off["results"][0]),
        (202, &json!(0), &record("h", 80, -1, false, false))
    );
    let (status, gone) = data(&proxy, "DELETE", "/nodes/h", "").await;
    assert_eq!((status, gone), (200, json!({ "discarded": 0, "success": true })));
    assert!(proxy.results("/nodes").await.is_empty());
}

#[tokio::test]
async fn ipv6_nodes_stand_in_brackets_in_urls() {
    let proxy = Flags::new().start().await;
    assert_eq!(call(&proxy, "PUT", "/nodes/[::1]/80", "{}").await.status, 201);
    assert_eq!(call(&proxy, "PUT", "/nodes", r#"[{"host":"::1","port":80,"priority":2}]"#).await.status, 202);
    for target in ["/nodes/[::1]/80", "/nodes/%5B::1%5D", "/nodes"] {
        assert_eq!(proxy.results(target).await, [record("::1", 80, 2, false, false)], "{target}");
    }
    assert_eq!(call(&proxy, "DELETE", "/nodes/[::1]/80", "").await.status, 200);
    assert_eq!(call(&proxy, "PUT", "/nodes/[::g]/80", "{}").await.status, 400);
}

#[tokio::test]
async fn a_renamed_node_keeps_its_place_and_its_queue() {
    let mut nodes = RecorderNode::start_many(2);
    let moved = RecorderNode::start("moved");
    let proxy = Flags::new().nodes(&nodes).start().await;
    nodes[0].stop();
    for number in 0..5 {
        assert_eq!(proxy.put("/k", &number.to_string()).await.status, 200);
    }
    let body = json!({ "host": "127.0.0.1", "port": moved.addr().port() }).to_string();
    let (status, renamed) = data(&proxy, "PUT", &node(nodes[0].addr()), &body).await;
    assert_eq!((status, &renamed["results"][0]["port"]), (202, &json!(moved.addr().port())));
    assert_eq!(renamed.get("discarded"), None, "no queue ended");
    proxy.level().await;
    assert_eq!(
        moved.entries().iter().filter_map(|entry| entry.sequence).collect::<Vec<_>>(),
        [1, 2, 3, 4, 5]
    );
    assert_eq!(ports(&proxy).await, [moved.addr().port(), nodes[1].addr().port()].map(u64::from));
    assert_eq!(get(proxy.api, &node(nodes[0].addr())).await.status, 404);
}

#[tokio::test]
async fn a_node_renamed_onto_another_replaces_it_and_brings_its_queue() {
    let mut nodes = RecorderNode::start_many(3);
    let proxy = Flags::new().nodes(&nodes).start().await;
    nodes[0].stop();
    for _ in 0..3 {
        assert_eq!(proxy.put("/k", "x").await.status, 200);
    }
    eventually("the others to be level", SOON, async || {
        (proxy.pending(nodes[1].addr()).await + proxy.pending(nodes[2].addr()).await == 0).then_some(())
    })
    .await;
    let body = json!({ "port": nodes[1].addr().port() }).to_string();
    let (status, renamed) = data(&proxy, "PUT", &node(nodes[0].addr()), &body).await;
    assert_eq!((status, &renamed["discarded"]), (202, &json!(0)));
    assert_eq!(ports(&proxy).await, [nodes[1].addr().port(), nodes[2].addr().port()].map(u64::from));
    proxy.level().await;
    let sequences: Vec<_> = nodes[1].entries().iter().filter_map(|entry| entry.sequence).collect();
    assert_eq!(sequences, [1, 2, 3, 1, 2, 3], "what waited for the renamed node goes to its new address");
}

#[tokio::test]
async fn a_rename_that_would_drop_updates_of_who_was_there_is_409() {
    let mut nodes = RecorderNode::start_many(3);
    let proxy = Flags::new().nodes(&nodes).start().await;
    nodes[1].stop();
    assert_eq!(proxy.put("/k", "x").await.status, 200);
    let (route, body) = (node(nodes[0].addr()), json!({ "port": nodes[1].addr().port() }).to_string());
    let (status, refused) = data(&proxy, "PUT", &route, &body).await;
    assert_eq!((status, &refused["nodes"][0]["node"]), (409, &json!(nodes[1].addr().to_string())));
    assert_eq!(ports(&proxy).await.len(), 3);
    let (status, done) = data(&proxy, "PUT", &format!("{route}?discard=true"), &body).await;
    assert_eq!((status, &done["discarded"]), (202, &json!(1)));
    assert_eq!(ports(&proxy).await.len(), 2);
}

#[tokio::test]
async fn changes_at_once_are_made_one_after_the_other() {
    let proxy = Flags::new().start().await;
    let mut changes = tokio::task::JoinSet::new();
    for port in 1..=64 {
        changes.spawn(ask("PUT", &format!("/nodes/h/{port}")).body("{}").of(proxy.api));
    }
    while let Some(answer) = changes.join_next().await {
        assert_eq!(answer.unwrap().status, 201);
    }
    let listed: BTreeSet<u64> = ports(&proxy).await.into_iter().collect();
    assert_eq!(listed, (1..=64).collect());
}

#[tokio::test]
async fn answers_are_pretty_gzipped_or_bodiless_as_asked() {
    let proxy = Flags::new().and(&["--node", "h:1,inactive"]).start().await;
    let pretty = get(proxy.api, "/nodes?pretty=true").await;
    assert!(pretty.text().starts_with("{\n  \"duration\": "), "{}", pretty.text());
    assert_eq!(pretty.header("content-type"), Some("application/json"));
    let zipped = ask("GET", "/nodes").header("Accept-Encoding", "gzip").of(proxy.api).await;
    assert_eq!(
        (zipped.header("content-encoding"), zipped.header("vary")),
        (Some("gzip"), Some("Accept-Encoding"))
    );
    assert_eq!(zipped.body[..2], [0x1f, 0x8b]);
    let head = ask("HEAD", "/nodes").of(proxy.api).await;
    assert!(head.status == 200 && head.body.is_empty() && head.header("content-length") != Some("0"));
    let info = get(proxy.api, "/info").await.json();
    assert!(info["Spawn Sync Service"]["Runtime"]["Threads"].as_u64() > Some(0), "{info}");
    for target in ["/list", "/list/nodes", "/list/nodes/get", "/list/nodes/set", "/list/nodes/delete"] {
        let list = get(proxy.api, target).await;
        assert_eq!((list.status, list.header("content-type")), (200, Some("text/plain")), "{target}");
        assert!(list.text().starts_with("\nSpawn Sync Service\n"));
    }
}
