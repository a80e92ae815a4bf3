//! Reads: one node, chosen by mode; another where the first cannot be reached.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use testkit::http::ask;
use testkit::{Act, Raw, RecorderNode, Rule, eventually};

use crate::harness::{Flags, SOON};

/// How many of `n` reads each node served, by name as in `Spawn-Node`.
async fn served(proxy: &crate::harness::Proxy, n: usize) -> BTreeMap<String, usize> {
    let mut counts = BTreeMap::new();
    for _ in 0..n {
        let answer = proxy.get("/thing").await;
        assert_eq!(answer.status, 200, "{answer:?}");
        *counts.entry(answer.header("spawn-node").unwrap().to_owned()).or_default() += 1;
    }
    counts
}

#[tokio::test]
async fn round_robin_takes_turns_and_one_node_alone_serves_all() {
    let nodes = RecorderNode::start_many(3);
    let proxy = Flags::new().nodes(&nodes).and(&["--round-robin", "--workers", "1"]).start().await;
    let counts = served(&proxy, 30).await;
    assert!(nodes.iter().all(|node| counts[&node.addr().to_string()] == 10), "{counts:?}");
    // D18: going down to one node must leave no stale ring.
    for node in &nodes[1..] {
        let target = format!("/nodes/{}/{}", node.addr().ip(), node.addr().port());
        assert_eq!(ask("DELETE", &target).of(proxy.api).await.status, 200);
    }
    assert_eq!(served(&proxy, 5).await[&nodes[0].addr().to_string()], 5);
}

#[tokio::test]
async fn by_priority_prefers_and_fails_over_and_comes_back() {
    let mut nodes = RecorderNode::start_many(3);
    let flag = |node: &RecorderNode, priority: i32| format!("{},priority={priority}", node.addr());
    let (a, b, c) = (flag(&nodes[0], 0), flag(&nodes[1], 1), flag(&nodes[2], 2));
    let proxy = Flags::new().and(&["--by-priority", "--node", &a, "--node", &b, "--node", &c]).start().await;
    let best = nodes[1].addr().to_string();
    assert_eq!(served(&proxy, 5).await[&best], 5);
    nodes[1].stop();
    // The very first read after the death is answered, by the next best.
    assert_eq!(served(&proxy, 5).await[&nodes[2].addr().to_string()], 5);
    nodes[1].restart();
    eventually("reads to come back to the best", SOON, async || {
        (proxy.get("/thing").await.header("spawn-node") == Some(&best)).then_some(())
    })
    .await;
}

#[tokio::test]
async fn both_modes_rotate_among_the_best_priority() {
    let nodes = RecorderNode::start_many(3);
    let flag = |node: &RecorderNode, priority: i32| format!("{},priority={priority}", node.addr());
    let (a, b, c) = (flag(&nodes[0], 1), flag(&nodes[1], 1), flag(&nodes[2], 2));
    let flags = Flags::new().and(&["--by-priority", "--round-robin", "--workers", "1"]);
    let proxy = flags.and(&["--node", &a, "--node", &b, "--node", &c]).start().await;
    let counts = served(&proxy, 10).await;
    assert_eq!((counts.len(), counts[&nodes[0].addr().to_string()]), (2, 5), "{counts:?}");
}

#[tokio::test]
async fn neither_mode_takes_the_configured_order() {
    let nodes = RecorderNode::start_many(2);
    let proxy = Flags::new().nodes(&nodes).start().await;
    assert_eq!(served(&proxy, 5).await[&nodes[0].addr().to_string()], 5);
}

#[tokio::test]
async fn bodies_and_headers_pass_and_hop_by_hop_headers_do_not() {
    let node = RecorderNode::start("n");
    node.keep_headers();
    let headers = vec![
        ("Keep-Alive".into(), "timeout=9".into()),
        ("X-Kept".into(), "yes".into()),
        ("ETag".into(), "\"e\"".into()),
    ];
    node.rule(Rule::new(Act::Answer(203, headers, Bytes::from_static(b"hello"))).path("/seen"));
    let proxy = Flags::new().node(node.addr()).start().await;
    let answer = ask("GET", "/seen/../b//c%2Fd?x=%zz")
        .header("Host", "shop.example")
        .header("Connection", "close, X-Secret")
        .header("X-Secret", "1")
        .header("Proxy-Authorization", "Basic eA==")
        .header("X-Forwarded-For", "1.2.3.4")
        .of(proxy.addr)
        .await;
    assert_eq!((answer.status, answer.text()), (203, "hello".into()));
    assert_eq!(
        (answer.header("x-kept"), answer.header("etag"), answer.header("keep-alive")),
        (Some("yes"), Some("\"e\""), None)
    );
    let seen = eventually("the read to be recorded", SOON, async || {
        node.read_entries().into_iter().find(|entry| entry.target.starts_with("/seen"))
    })
    .await;
    assert_eq!(seen.target, "/seen/../b//c%2Fd?x=%zz");
    assert_eq!(seen.header("host"), Some("shop.example"));
    assert_eq!(seen.header("x-forwarded-for"), Some("1.2.3.4, 127.0.0.1"));
    assert_eq!(seen.header("via"), Some("1.1 spawn-proxy"));
    for gone in ["x-secret", "proxy-authorization", "connection", "accept-encoding"] {
        assert_eq!(seen.header(gone), None, "{gone} was passed on");
    }
}

#[tokio::test]
async fn an_absolute_target_names_the_host() {
    let node = RecorderNode::start("n");
    node.keep_headers();
    let proxy = Flags::new().node(node.addr()).start().await;
    let mut raw = Raw::connect(proxy.addr).await;
    raw.send("GET http://other.example/abs?q HTTP/1.1\r\nHost: ignored\r\n\r\n").await;
    assert_eq!(raw.answer().await.unwrap().status, 200);
    let seen = eventually("the read to be recorded", SOON, async || {
        node.read_entries().into_iter().find(|entry| entry.target == "/abs?q")
    })
    .await;
    assert_eq!(seen.header("host"), Some("other.example"));
}

#[tokio::test]
async fn heads_and_not_modified_carry_no_body() {
    let node = RecorderNode::start("n");
    node.rule(Rule::new(Act::Status(304)).path("/same"));
    node.rule(Rule::new(Act::Status(204)).path("/none"));
    let proxy = Flags::new().node(node.addr()).start().await;
    let mut raw = Raw::connect(proxy.addr).await;
    for (method, target, status) in
        [("HEAD", "/x", 200), ("GET", "/same", 304), ("GET", "/none", 204), ("GET", "/x", 200)]
    {
        raw.send(format!("{method} {target} HTTP/1.1\r\nHost: h\r\n\r\n")).await;
        let answer = raw.answer_to(method).await.unwrap();
        assert_eq!(
            (answer.status, answer.body.is_empty()),
            (status, status != 200 || method == "HEAD"),
            "{method} {target}"
        );
    }
}

#[tokio::test]
async fn server_sent_events_flow_as_they_come() {
    let node = RecorderNode::start("n");
    let events = vec![Bytes::from_static(b"data: 1\n\n"), Bytes::from_static(b"data: 2\n\n")];
    node.rule(Rule::new(Act::Stream(events, Duration::from_secs(2))).path("/events"));
    let proxy = Flags::new().node(node.addr()).and(&["--timeout", "3s"]).start().await;
    let mut raw = Raw::connect(proxy.addr).await;
    raw.send("GET /events HTTP/1.1\r\nHost: h\r\n\r\n").await;
    let first = raw.read_until(b"data: 1").await.unwrap();
    assert!(!String::from_utf8_lossy(&first).contains("data: 2"), "the first event waited for the second");
    // The stream outlasts --timeout, which bounds the wait for its head alone.
    raw.read_until(b"data: 2").await.unwrap();
}

#[tokio::test]
async fn an_upgrade_is_tunnelled() {
    let node = RecorderNode::start("n");
    node.rule(Rule::new(Act::Echo).path("/ws"));
    let proxy = Flags::new().node(node.addr()).start().await;
    let mut raw = Raw::connect(proxy.addr).await;
    raw.send("GET /ws HTTP/1.1\r\nHost: h\r\nConnection: keep-alive, Upgrade\r\nUpgrade: echo\r\n\r\n").await;
    let head = raw.read_until(b"\r\n\r\n").await.unwrap();
    let head = String::from_utf8_lossy(&head).to_lowercase();
    assert!(head.starts_with("http/1.1 101") && head.contains("upgrade: echo"), "{head}");
    raw.send("ping").await;
    raw.read_until(b"ping").await.unwrap();
}

#[tokio::test]
async fn a_node_that_breaks_is_passed_over_for_a_read_and_told_when_it_is_alone() {
    let nodes = RecorderNode::start_many(2);
    nodes[0].rule(Rule::new(Act::CloseBefore).path("/broken"));
    let proxy = Flags::new().nodes(&nodes).start().await;
    let answer = proxy.get("/broken").await;
    assert_eq!((answer.status, answer.header("spawn-node")), (200, Some(&*nodes[1].addr().to_string())));
    nodes[1].rule(Rule::new(Act::CloseBefore).path("/broken"));
    let answer = proxy.get("/broken").await;
    assert_eq!(answer.status, 502);
    assert!(
        answer.json()["info"].as_str().unwrap().contains(&nodes[1].addr().to_string()),
        "{}",
        answer.text()
    );
}

#[tokio::test]
async fn too_slow_is_504_and_nobody_there_is_503() {
    let mut node = RecorderNode::start("n");
    node.rule(Rule::new(Act::Hang).path("/slow"));
    let proxy = Flags::new().node(node.addr()).and(&["--timeout", "300ms"]).start().await;
    let answer = proxy.get("/slow").await;
    assert_eq!((answer.status, answer.json()["error"].as_u64()), (504, Some(504)));
    node.stop();
    eventually("the dead node to be taken out", SOON, async || {
        (proxy.get("/x").await.status == 503).then_some(())
    })
    .await;
    let answer = proxy.get("/x").await;
    assert_eq!((answer.status, answer.header("retry-after")), (503, Some("1")));
    assert!(answer.json()["message"].is_string());
}

#[tokio::test]
async fn a_server_error_of_a_read_is_the_answer_and_takes_no_node_out() {
    let nodes = RecorderNode::start_many(2);
    nodes[0].rule(Rule::new(Act::Status(500)).path("/bad"));
    let proxy = Flags::new().nodes(&nodes).start().await;
    for _ in 0..3 {
        let answer = proxy.get("/bad").await;
        assert_eq!((answer.status, answer.header("spawn-node")), (500, Some(&*nodes[0].addr().to_string())));
    }
}

#[tokio::test]
async fn checks_never_happen_inside_a_request() {
    let node = RecorderNode::start("n");
    let proxy =
        Flags::new().node(node.addr()).and(&["--check-sec", "3600", "--check-url", "/health"]).start().await;
    proxy.healthy(node.addr(), true).await;
    for _ in 0..20 {
        assert_eq!(proxy.get("/x").await.status, 200);
    }
    let checks = node.read_entries().iter().filter(|entry| entry.target == "/health").count();
    assert!(checks <= 1, "{checks} checks for 20 reads");
}

#[tokio::test]
async fn a_failing_check_takes_a_node_out_by_status_and_by_regexp() {
    let nodes = RecorderNode::start_many(2);
    nodes[0].rule(Rule::new(Act::Answer(200, Vec::new(), Bytes::from_static(b"state: ill"))).path("/health"));
    nodes[1]
        .rule(Rule::new(Act::Answer(200, Vec::new(), Bytes::from_static(b"state: fine"))).path("/health"));
    let proxy =
        Flags::new().nodes(&nodes).and(&["--check-url", "/health", "--check-regexp", "fi.e"]).start().await;
    proxy.healthy(nodes[0].addr(), false).await;
    assert_eq!(served(&proxy, 4).await[&nodes[1].addr().to_string()], 4);
    nodes[1].heal();
    nodes[1].rule(Rule::new(Act::Answer(500, Vec::new(), Bytes::from_static(b"fine"))).path("/health"));
    proxy.healthy(nodes[1].addr(), false).await;
    assert_eq!(proxy.get("/x").await.status, 503);
}

#[tokio::test]
async fn a_node_that_is_behind_gets_no_reads() {
    let nodes = RecorderNode::start_many(2);
    nodes[0].rule(Rule::new(Act::Status(503)).updates());
    let proxy = Flags::new().nodes(&nodes).and(&["--max-lag", "100ms"]).start().await;
    assert_eq!(proxy.put("/k", "1").await.status, 200);
    let level = nodes[1].addr().to_string();
    eventually("reads to leave the node that is behind", SOON, async || {
        (proxy.get("/x").await.header("spawn-node") == Some(&level)).then_some(())
    })
    .await;
    assert_eq!(served(&proxy, 5).await[&level], 5);
    // When all are behind the least behind serves, and says so.
    assert_eq!(proxy.change(nodes[1].addr(), r#"{"maintenance":true}"#).await, 202);
    let answer = proxy.get("/x").await;
    assert_eq!(answer.status, 200);
    assert!(answer.header("spawn-lag").unwrap().parse::<u64>().unwrap() >= 100);
}

#[tokio::test]
async fn a_method_on_neither_list_is_501_and_names_the_key() {
    let node = RecorderNode::start("n");
    let proxy = Flags::new().node(node.addr()).start().await;
    let answer = ask("BREW", "/pot").of(proxy.addr).await;
    assert_eq!(answer.status, 501);
    assert!(
        answer.text().contains("reads.methods") && answer.text().contains("updates.methods"),
        "{}",
        answer.text()
    );
    let mut raw = Raw::connect(proxy.addr).await;
    raw.send("CONNECT other:443 HTTP/1.1\r\nHost: other:443\r\n\r\n").await;
    assert_eq!(raw.answer().await.unwrap().status, 501);
}
