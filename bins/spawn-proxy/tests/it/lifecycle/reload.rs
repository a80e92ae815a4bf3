//! SIGHUP: the whole file or nothing of it, and no connection is cut.

use std::time::Duration;

use serde_json::Value;
use testkit::http::get;
use testkit::{Act, Raw, RecorderNode, Rule, TempDir, eventually};

use super::start_with;
use crate::harness::{Proxy, SOON};

fn file(nodes: &[&RecorderNode], more: &str) -> String {
    let nodes: Vec<String> = nodes.iter().map(|node| format!("{:?}", node.addr().to_string())).collect();
    format!("host = \"127.0.0.1\"\nnodes = [{}]\nhealth-check.seconds = 1\n{more}\n", nodes.join(", "))
}

async fn start(nodes: &[&RecorderNode], more: &str) -> Proxy {
    let dir = TempDir::new();
    let path = dir.write("spawn.toml", file(nodes, more));
    start_with(&path, dir).await
}

/// Reloads with this file and waits until it was taken or refused.
async fn reload(proxy: &Proxy, content: String) {
    let before = reloads(proxy).await;
    proxy.dir.write("spawn.toml", content);
    proxy.process.hup();
    eventually("the reload to be counted", SOON, async || (reloads(proxy).await > before).then_some(()))
        .await;
}

async fn reloads(proxy: &Proxy) -> u64 {
    metric(proxy, "config_reloads_total").await
}

async fn metric(proxy: &Proxy, name: &str) -> u64 {
    let text = get(proxy.api, "/metrics").await.text();
    let line = text
        .lines()
        .find(|line| line.split(' ').next() == Some(name))
        .unwrap_or_else(|| panic!("no {name} in {text}"));
    line.rsplit(' ').next().and_then(|number| number.parse().ok()).expect("a number")
}

/// The `config` condition of `/readyz`, and whether the proxy is ready.
async fn config_condition(proxy: &Proxy) -> (u16, Value) {
    let answer = get(proxy.api, "/readyz").await;
    let all = answer.json()["conditions"].as_array().expect("a list").clone();
    let own = all
        .into_iter()
        .find(|condition| condition["name"].as_str().is_some_and(|name| name.contains("config")));
    (answer.status, own.unwrap_or_default())
}

#[tokio::test]
async fn what_changed_is_applied_and_no_connection_is_cut() {
    let nodes = RecorderNode::start_many(2);
    nodes[0].rule(Rule::new(Act::Late(Duration::from_millis(1500))).path("/slow"));
    nodes[0].rule(Rule::new(Act::Hang).path("/hangs"));
    let proxy = start(&[&nodes[0]], "timeout = \"20s\"").await;
    let mut kept = Raw::connect(proxy.addr).await;
    kept.send("GET /x HTTP/1.1\r\nHost: h\r\n\r\n").await;
    assert_eq!(kept.answer().await.unwrap().status, 200);
    let mut busy = Raw::connect(proxy.addr).await;
    let reads = nodes[0].reads();
    busy.send("GET /slow HTTP/1.1\r\nHost: h\r\n\r\n").await;
    eventually("the slow read to arrive", SOON, async || (nodes[0].reads() > reads).then_some(())).await;

    reload(&proxy, file(&[&nodes[0], &nodes[1]], "timeout = \"400ms\"")).await;
    assert_eq!(config_condition(&proxy).await.0, 200);
    assert_eq!(proxy.results("/nodes").await.len(), 2);
    assert_eq!(busy.answer().await.unwrap().status, 200, "what was under way goes on as it began");
    kept.send("GET /hangs HTTP/1.1\r\nHost: h\r\n\r\n").await;
    assert_eq!(kept.answer().await.unwrap().status, 504);
    assert_eq!(proxy.put("/k", "1").await.status, 200);
    proxy.level().await;
    assert_eq!((nodes[0].count(), nodes[1].count()), (1, 1));
}

#[tokio::test]
async fn the_order_is_another_one_after_the_reload() {
    let node = RecorderNode::start("n");
    node.rule(Rule::new(Act::Delay(Duration::from_millis(500))).path("/first"));
    let proxy = start(&[&node], "").await;
    for (ordering, expected) in [("path", ["/second", "/first"]), ("global", ["/first", "/second"])] {
        reload(&proxy, file(&[&node], &format!("[updates]\nordering = \"{ordering}\""))).await;
        node.forget();
        let mut first = Raw::connect(proxy.addr).await;
        first.send("PUT /first HTTP/1.1\r\nHost: h\r\nContent-Length: 0\r\n\r\n").await;
        eventually("the first to be in the log", SOON, async || {
            (proxy.pending(node.addr()).await == 1).then_some(())
        })
        .await;
        assert_eq!(proxy.put("/second", "").await.status, 200);
        assert_eq!(first.answer().await.unwrap().status, 200);
        let seen: Vec<String> = node.entries().into_iter().map(|entry| entry.target).collect();
        assert_eq!(seen, expected, "{ordering}");
    }
}

#[tokio::test]
async fn a_bad_file_changes_nothing_and_the_next_good_one_applies() {
    let nodes = RecorderNode::start_many(2);
    let proxy = start(&[&nodes[0]], "timeout = \"20s\"").await;
    let bad = file(&[&nodes[0], &nodes[1]], "timeuot = \"1s\"");
    reload(&proxy, bad.clone()).await;
    let (status, condition) = config_condition(&proxy).await;
    assert_eq!((status, &condition["ok"]), (200, &Value::Bool(false)), "{condition}");
    assert!(
        condition["detail"].as_str().unwrap().contains("spawn.toml:4: unknown key 'timeuot'"),
        "{condition}"
    );
    assert_eq!(
        (metric(&proxy, "config_last_reload_ok").await, metric(&proxy, "config_reload_failures_total").await),
        (0, 1)
    );
    assert_eq!(proxy.results("/nodes").await.len(), 1, "nothing of a bad file is applied");
    assert!(
        proxy
            .process
            .log()
            .iter()
            .any(|line| line.contains("reload failed") && line.contains("spawn.toml:4"))
    );

    reload(&proxy, "not [ a file".to_owned()).await;
    std::fs::remove_file(proxy.dir.join("spawn.toml")).unwrap();
    proxy.process.hup();
    eventually("the third failure", SOON, async || {
        (metric(&proxy, "config_reload_failures_total").await == 3).then_some(())
    })
    .await;
    assert_eq!((proxy.get("/x").await.status, proxy.put("/x", "").await.status), (200, 200));

    reload(&proxy, file(&[&nodes[0], &nodes[1]], "")).await;
    let (status, condition) = config_condition(&proxy).await;
    assert_eq!((status, &condition["ok"]), (200, &Value::Bool(true)), "{condition}");
    assert_eq!((metric(&proxy, "config_last_reload_ok").await, proxy.results("/nodes").await.len()), (1, 2));
}

#[tokio::test]
async fn a_node_that_left_the_file_with_a_backlog_rests_and_keeps_it() {
    let mut nodes = RecorderNode::start_many(2);
    let proxy = start(&[&nodes[0], &nodes[1]], "").await;
    nodes[1].stop();
    for number in 0..5 {
        assert_eq!(proxy.put(&format!("/k/{number}"), "1").await.status, 200);
    }
    let left = nodes[1].addr();
    let of_left = async || {
        let all = proxy.results("/nodes").await;
        all.into_iter().find(|node| node["port"] == left.port())
    };
    reload(&proxy, file(&[&nodes[0]], "")).await;
    eventually("the node to rest", SOON, async || of_left().await.filter(|node| node["maintenance"] == true))
        .await;
    assert_eq!(of_left().await.unwrap()["active"], true);
    assert_eq!(
        (proxy.put("/k/5", "1").await.status, proxy.pending(left).await),
        (200, 6),
        "it goes on to accumulate"
    );
    assert!(proxy.process.log().iter().any(|line| line.contains("left the configuration")));
    // Once more the same file: it stays as it is.
    reload(&proxy, file(&[&nodes[0]], "")).await;
    assert_eq!(
        (of_left().await.unwrap()["maintenance"].clone(), proxy.pending(left).await),
        (Value::Bool(true), 6)
    );
    nodes[1].restart();
    reload(&proxy, file(&[&nodes[0], &nodes[1]], "")).await;
    proxy.level().await;
    assert_eq!(nodes[1].applied(), 6);
    // Without a backlog it just goes.
    reload(&proxy, file(&[&nodes[0]], "")).await;
    eventually("the node to be gone", SOON, async || of_left().await.is_none().then_some(())).await;
}

#[tokio::test]
async fn what_the_api_changed_stays_until_the_file_says_otherwise() {
    let nodes = RecorderNode::start_many(3);
    let all = [&nodes[0], &nodes[1], &nodes[2]];
    let mut proxy = start(&all, "").await;
    let target = |node: &RecorderNode| format!("/nodes/{}/{}", node.addr().ip(), node.addr().port());
    assert_eq!(testkit::http::ask("DELETE", &target(&nodes[0])).of(proxy.api).await.status, 200);
    assert_eq!(proxy.change(nodes[1].addr(), r#"{"priority":5}"#).await, 202);
    assert_eq!(proxy.change(nodes[2].addr(), r#"{"maintenance":true}"#).await, 202);
    let expected = proxy.results("/nodes").await;
    assert_eq!(expected.len(), 2);
    reload(&proxy, file(&all, "timeout = \"9s\"")).await;
    assert_eq!(proxy.results("/nodes").await, expected);
    assert!(proxy.process.stop().await.success());
    proxy.restart().await;
    assert_eq!(proxy.results("/nodes").await, expected);
    proxy.restart_hard().await;
    assert_eq!(proxy.results("/nodes").await, expected);
}
