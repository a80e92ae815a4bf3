//! Changes that are cut short: by a disk that takes nothing, and by kill -9 at the worst moment.

use std::fs;

use serde_json::{Value, json};
use testkit::{RecorderNode, eventually};

use super::{call, data, node, ports};
use crate::harness::{Flags, Proxy, SOON};

/// Puts a directory where the file of the nodes has to be written.
fn block(proxy: &Proxy) -> String {
    let file = proxy.dir.join("data/nodes.json");
    let content = fs::read_to_string(&file).expect("the nodes are kept in a file");
    fs::remove_file(&file).expect("the file can be removed");
    fs::create_dir_all(file.join("in-the-way")).expect("a directory can be made");
    content
}

#[tokio::test]
async fn a_change_that_cannot_be_kept_is_not_made() {
    let nodes = RecorderNode::start_many(2);
    let proxy = Flags::new().nodes(&nodes).and(&["--node", "h:1,inactive"]).start().await;
    let (list, queues) = (proxy.results("/nodes").await, proxy.results("/queues").await.len());
    let content = block(&proxy);
    let renamed = json!({ "port": 1 }).to_string();
    let route = node(nodes[1].addr());
    for (method, target, body) in [
        ("DELETE", &*route, ""),
        ("PUT", &route, r#"{"active":false}"#),
        ("PUT", &route, &renamed),
        ("PUT", "/nodes/h/1", r#"{"active":true}"#),
    ] {
        let (status, refused) = data(&proxy, method, target, body).await;
        assert_eq!((status, &refused["success"]), (500, &json!(false)), "{method} {target} {body}");
        assert!(refused["info"].as_str().unwrap().contains("data directory"), "{refused}");
        assert_eq!(proxy.results("/nodes").await, list);
        assert_eq!(proxy.results("/queues").await.len(), queues, "{method} {target} {body}");
    }
    assert_eq!(proxy.put("/k", "x").await.status, 200);
    proxy.level().await;
    assert_eq!(nodes[1].applied(), 1, "a node that is still listed still gets updates");
    fs::remove_dir_all(proxy.dir.join("data/nodes.json")).unwrap();
    fs::write(proxy.dir.join("data/nodes.json"), content).unwrap();
    assert_eq!(call(&proxy, "DELETE", &route, "").await.status, 200);
}

/// Stops a proxy, changes what it kept of its nodes as a change would that got no further, and starts it again.
async fn cut_short(proxy: &mut Proxy, change: impl FnOnce(&mut Value)) {
    proxy.process.kill9();
    let file = proxy.dir.join("data/nodes.json");
    let content = fs::read(&file).expect("the nodes are kept in a file");
    let mut kept: Value = serde_json::from_slice(&content).expect("they are kept as JSON");
    change(&mut kept);
    fs::write(&file, kept.to_string()).expect("the file can be written");
    proxy.restart().await;
}

/// A proxy before a node that works and one that is away with two updates waiting for it.
async fn with_backlog() -> (Proxy, Vec<RecorderNode>) {
    let mut nodes = RecorderNode::start_many(2);
    let proxy = Flags::new().nodes(&nodes).start().await;
    nodes[1].stop();
    for _ in 0..2 {
        assert_eq!(proxy.put("/k", "x").await.status, 200);
    }
    (proxy, nodes)
}

#[tokio::test]
async fn a_rename_cut_short_by_kill_9_is_finished_at_the_start() {
    let (mut proxy, nodes) = with_backlog().await;
    let moved = RecorderNode::start("moved");
    let (old, new) = (nodes[1].addr(), moved.addr());
    cut_short(&mut proxy, |kept| {
        kept["nodes"][1]["port"] = json!(new.port());
        kept["renamed"] = json!([[old.to_string(), new.to_string()]]);
    })
    .await;
    proxy.level().await;
    assert_eq!(moved.entries().iter().filter_map(|entry| entry.sequence).collect::<Vec<_>>(), [1, 2]);
    assert_eq!(ports(&proxy).await, [nodes[0].addr().port(), new.port()].map(u64::from));
    // The old address is free again, and a later start does not hand its new queue over once more.
    assert_eq!(proxy.change(old, r#"{"active":true}"#).await, 201);
    assert_eq!(proxy.put("/k", "x").await.status, 200);
    assert_eq!(proxy.pending(old).await, 1);
    proxy.restart_hard().await;
    assert_eq!((proxy.pending(old).await, ports(&proxy).await.len()), (1, 3));
}

#[tokio::test]
async fn a_removal_cut_short_by_kill_9_leaves_the_node_in_maintenance() {
    let (mut proxy, mut nodes) = with_backlog().await;
    cut_short(&mut proxy, |kept| drop(kept["nodes"].as_array_mut().unwrap().pop())).await;
    let away = nodes[1].addr();
    let kept = &proxy.results(&node(away)).await[0];
    assert_eq!((&kept["active"], &kept["maintenance"]), (&json!(true), &json!(true)));
    assert_eq!(proxy.pending(away).await, 2);
    nodes[1].restart();
    assert_eq!(proxy.change(away, r#"{"maintenance":false}"#).await, 202);
    eventually("the node to catch up", SOON, async || (nodes[1].applied() == 2).then_some(())).await;
}
