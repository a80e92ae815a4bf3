//! One test for each thing that the API of old did wrong (docs/reference/spawn-proxy-api.md lists them).

use std::time::{Duration, Instant};

use serde_json::json;
use testkit::http::{ask, get};
use testkit::{Act, RecorderNode, Rule, eventually};

use super::{call, data, node, ports, record};
use crate::harness::{Flags, Proxy, SOON};

/// What froze for ten seconds or for ever has to be far quicker.
const AT_ONCE: Duration = Duration::from_secs(5);

/// A proxy before a node that works and one that is away with three updates waiting for it.
async fn with_backlog() -> (Proxy, RecorderNode, RecorderNode) {
    let mut nodes = RecorderNode::start_many(2);
    let proxy = Flags::new().nodes(&nodes).start().await;
    nodes[1].stop();
    for number in 0..3 {
        assert_eq!(proxy.put(&format!("/k/{number}"), "x").await.status, 200);
    }
    assert_eq!(proxy.pending(nodes[1].addr()).await, 3);
    let (away, well) = (nodes.remove(1), nodes.remove(0));
    (proxy, well, away)
}

#[tokio::test]
async fn a1_a_failed_rename_changes_nothing_later_either() {
    let proxy = Flags::new().and(&["--node", "h1:80,inactive", "--node", "h2:80,inactive"]).start().await;
    let before = proxy.results("/nodes").await;
    for body in [
        r#"{"host":"bad host"}"#,
        r#"{"host":"other","port":0}"#,
        r#"{"host":""}"#,
        r#"{"priority":9,"port":70000}"#,
    ] {
        assert_eq!(call(&proxy, "PUT", "/nodes/h1/80", body).await.status, 400, "{body}");
        assert_eq!(proxy.results("/nodes").await, before, "{body}");
        assert_eq!(call(&proxy, "PUT", "/nodes/h2/80", r#"{"priority":0}"#).await.status, 202);
        assert_eq!(proxy.results("/nodes").await, before, "{body}, and another change after it");
    }
    let array =
        r#"[{"host":"h1","port":80,"priority":5},{"host":"h3","port":80},{"host":"bad host","port":80}]"#;
    assert_eq!(call(&proxy, "PUT", "/nodes", array).await.status, 400);
    assert_eq!(proxy.results("/nodes").await, before, "one bad item, and none is taken");
}

#[tokio::test]
async fn a2_records_of_an_array_take_nothing_from_each_other() {
    let proxy = Flags::new()
        .and(&["--node", "h:9102,priority=3,inactive", "--node", "h:9103,maintenance,priority=4"])
        .start()
        .await;
    let body = r#"[{"host":"h","port":9140},{"host":"h","port":9102,"priority":8},{"host":"h","port":9141,"maintenance":true}]"#;
    let (status, echo) = data(&proxy, "PUT", "/nodes", body).await;
    let results = json!([
        record("h", 9140, 0, false, false),
        record("h", 9102, 8, false, false),
        record("h", 9141, 0, false, true),
    ]);
    assert_eq!((status, &echo["results"], &echo["total"]), (202, &results, &json!(3)));
    assert_eq!(proxy.results("/nodes/h/9103").await, [record("h", 9103, 4, true, true)], "others stay");
    assert_eq!(ports(&proxy).await, [9102, 9103, 9140, 9141]);
}

#[tokio::test]
async fn a3_nothing_locks_up_when_a_node_with_a_backlog_is_changed_and_sigterm_ends() {
    let (mut proxy, _well, away) = with_backlog().await;
    let route = node(away.addr());
    let started = Instant::now();
    let changes: [(&str, &str, &str, u16); 6] = [
        ("PUT", "", r#"{"maintenance":true}"#, 202),
        ("PUT", "", r#"{"active":false}"#, 409),
        ("DELETE", "", "", 409),
        ("PUT", "", r#"{"maintenance":false}"#, 202),
        ("PUT", "?discard=true", r#"{"active":false}"#, 202),
        ("DELETE", "", "", 200),
    ];
    for (method, query, body, status) in changes {
        assert_eq!(
            call(&proxy, method, &format!("{route}{query}"), body).await.status,
            status,
            "{method} {body}"
        );
        assert_eq!(get(proxy.api, "/nodes").await.status, 200);
        assert_eq!(proxy.get("/").await.status, 200);
        assert_eq!(proxy.put("/more", "x").await.status, 200);
    }
    assert!(started.elapsed() < AT_ONCE, "{:?}", started.elapsed());
    assert_eq!(proxy.process.stop().await.code(), Some(0));
}

#[tokio::test]
async fn a4_no_change_of_a_node_holds_up_traffic_or_the_api() {
    let nodes = RecorderNode::start_many(2);
    let proxy = Flags::new().nodes(&nodes).start().await;
    // A delivery that never ends keeps this node busy.
    nodes[1].rule(Rule::new(Act::Hang).updates());
    assert_eq!(proxy.put("/k", "x").await.status, 200);
    eventually("the node to be busy", SOON, async || (nodes[1].count() > 0).then_some(())).await;
    let route = node(nodes[1].addr());
    let maintain = r#"{"maintenance":true}"#;
    for body in [r#"{"priority":3}"#, maintain, maintain, r#"{"priority":4}"#, r#"{"maintenance":false}"#] {
        let started = Instant::now();
        let (change, read, update) =
            tokio::join!(call(&proxy, "PUT", &route, body), proxy.get("/"), proxy.put("/other", "x"));
        assert_eq!((change.status, read.status, update.status), (202, 200, 200), "{body}");
        assert!(started.elapsed() < AT_ONCE, "{body} took {:?}", started.elapsed());
    }
}

#[tokio::test]
async fn a5_repeating_a_change_of_a_busy_node_starts_no_second_delivery() {
    let nodes = RecorderNode::start_many(1);
    let proxy = Flags::new().nodes(&nodes).and(&["--ack", "queued"]).start().await;
    nodes[0].rule(Rule::new(Act::Delay(Duration::from_millis(20))).updates());
    for number in 0..20 {
        assert_eq!(proxy.put("/k", &"x".repeat(number)).await.status, 202);
        assert_eq!(proxy.change(nodes[0].addr(), r#"{"active":true,"priority":1}"#).await, 202);
    }
    proxy.level().await;
    let lengths: Vec<u64> = nodes[0].entries().iter().map(|entry| entry.length).collect();
    assert_eq!(lengths, (0..20).collect::<Vec<u64>>(), "in order, each once");
    assert!(nodes[0].entries().iter().all(|entry| !entry.overlapped));
}

#[tokio::test]
async fn a6_many_logins_at_once_do_no_harm() {
    let mut proxy = Flags::new().start().await;
    let api = proxy.api;
    let mut logins = tokio::task::JoinSet::new();
    for number in 0..64 {
        let body = format!(r#"{{"username":"u{number}","password":"p"}}"#);
        logins.spawn(ask("POST", "/login").header("Content-Type", "application/json").body(body).of(api));
    }
    while let Some(answer) = logins.join_next().await {
        assert!(answer.unwrap().status < 500);
    }
    assert_eq!(get(api, "/nodes").await.status, 200);
    assert_eq!(proxy.process.exit_status(), None);
}

#[tokio::test]
async fn a7_no_read_goes_to_a_node_that_was_removed_or_deactivated() {
    let nodes = RecorderNode::start_many(3);
    let proxy = Flags::new().nodes(&nodes).and(&["--round-robin"]).start().await;
    let served = async || {
        let mut served = std::collections::BTreeSet::new();
        for _ in 0..12 {
            let answer = proxy.get("/").await;
            served.insert(answer.header("recorder-node").unwrap_or_default().to_owned());
        }
        served.into_iter().collect::<Vec<_>>()
    };
    assert_eq!(served().await, ["n1", "n2", "n3"]);
    assert_eq!(proxy.change(nodes[0].addr(), r#"{"active":false}"#).await, 202);
    assert_eq!(served().await, ["n2", "n3"]);
    assert_eq!(call(&proxy, "DELETE", &node(nodes[1].addr()), "").await.status, 200);
    assert_eq!(served().await, ["n3"]);
    assert_eq!(call(&proxy, "DELETE", "/nodes", "").await.status, 200);
    assert_eq!(proxy.get("/").await.status, 503);
}

#[tokio::test]
async fn a8_nothing_is_discarded_silently_and_nothing_is_shown_of_it_afterwards() {
    let (proxy, _well, away) = with_backlog().await;
    let (route, name) = (node(away.addr()), away.addr().to_string());
    let waiting = json!([{ "node": name, "pending": 3 }]);
    for (method, target, body) in
        [("DELETE", &*route, ""), ("DELETE", "/nodes", ""), ("PUT", &route, r#"{"active":false}"#)]
    {
        let (status, refused) = data(&proxy, method, target, body).await;
        assert_eq!(
            (status, &refused["error"], &refused["nodes"]),
            (409, &json!(409), &waiting),
            "{method} {target}"
        );
        assert_eq!(proxy.pending(away.addr()).await, 3);
    }
    assert_eq!(proxy.results(&route).await[0]["active"], true);
    let (status, done) = data(&proxy, "PUT", &format!("{route}?discard=true"), r#"{"active":false}"#).await;
    assert_eq!((status, &done["discarded"], &done["results"][0]["active"]), (202, &json!(3), &json!(false)));
    assert_eq!(
        proxy.api("/metrics?format=json").await[&name]["queued"],
        json!({ "get": 0, "set": 0, "delete": 0 })
    );
    let (status, done) = data(&proxy, "DELETE", &route, "").await;
    assert_eq!((status, done), (200, json!({ "discarded": 0, "success": true })));
    assert!(!get(proxy.api, "/metrics").await.text().contains(&name));
    assert!(!get(proxy.api, "/metrics?format=table").await.text().contains(&name));
    let update = &proxy.results("/updates/1").await[0];
    assert_eq!(update["nodes"][&name]["state"], "discarded");
}

#[tokio::test]
async fn a9_an_empty_list_is_an_empty_list() {
    let proxy = Flags::new().start().await;
    for target in ["/nodes", "/queues", "/updates", "/dead-letters"] {
        let empty = json!({ "results": [], "success": true, "total": 0 });
        assert_eq!(data(&proxy, "GET", target, "").await, (200, empty), "{target}");
    }
    assert_eq!(
        data(&proxy, "PUT", "/nodes", "[]").await,
        (202, json!({ "results": [], "success": true, "total": 0 }))
    );
    assert_eq!(data(&proxy, "DELETE", "/nodes", "").await.0, 200);
    assert_eq!(get(proxy.api, "/metrics?format=table").await.text(), "\n\n\n");
}

#[tokio::test]
async fn a9_a_change_is_in_force_when_it_is_answered_and_outlives_kill_9() {
    let mut proxy = Flags::new().and(&["--node", "configured:80,inactive"]).start().await;
    for port in 1..=20_u16 {
        let route = format!("/nodes/h/{port}");
        assert_eq!(call(&proxy, "PUT", &route, r#"{"priority":1}"#).await.status, 201);
        assert_eq!(
            data(&proxy, "GET", &route, "").await.1["results"],
            json!([record("h", port, 1, false, false)])
        );
    }
    assert_eq!(call(&proxy, "DELETE", "/nodes/configured", "").await.status, 200);
    assert_eq!(call(&proxy, "PUT", "/nodes/h/3", r#"{"port":33,"maintenance":true}"#).await.status, 202);
    let before = proxy.results("/nodes").await;
    proxy.restart_hard().await;
    assert_eq!(proxy.results("/nodes").await, before);
    assert!(before.len() == 20 && before[2] == record("h", 33, 1, false, true));
}

#[tokio::test]
async fn a9_lists_keep_their_order() {
    let specs = [
        "h:1,inactive,priority=-1",
        "h:2,inactive",
        "h:3,inactive,priority=2",
        "h:4,inactive,priority=1",
        "h:5,inactive",
    ];
    let flags = || specs.iter().fold(Flags::new(), |flags, spec| flags.and(&["--node", spec]));
    let (plain, ranked) = (flags().start().await, flags().and(&["--by-priority"]).start().await);
    for _ in 0..10 {
        assert_eq!(ports(&plain).await, [1, 2, 3, 4, 5]);
        assert_eq!(ports(&ranked).await, [4, 3, 2, 5, 1]);
    }
}
