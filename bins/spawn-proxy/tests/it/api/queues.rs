//! Queues, updates, dead letters and counters: what is under way, and what became of it.

use serde_json::{Value, json};
use testkit::http::{ask, get};
use testkit::{Act, RecorderNode, Rule, eventually};

use super::{call, data};
use crate::harness::{Flags, Proxy, SOON};

async fn queue(proxy: &Proxy, node: &RecorderNode) -> Value {
    let name = node.addr().to_string();
    let queues = proxy.results("/queues").await;
    queues
        .into_iter()
        .find(|queue| queue["node"] == name.as_str())
        .unwrap_or_else(|| panic!("no queue of {name}"))
}

#[tokio::test]
async fn a_queue_says_what_it_does_and_what_waits() {
    let mut nodes = RecorderNode::start_many(3);
    let proxy = Flags::new().nodes(&nodes).and(&["--node", "h:1,inactive"]).start().await;
    assert_eq!(proxy.results("/queues").await.len(), 3, "an inactive node has no queue");
    nodes[1].stop();
    assert_eq!(proxy.change(nodes[2].addr(), r#"{"maintenance":true}"#).await, 202);
    assert_eq!(proxy.put("/k", "four").await.status, 200);
    proxy.healthy(nodes[1].addr(), false).await;
    eventually("the first node's queue to be empty", SOON, async || {
        (queue(&proxy, &nodes[0]).await["pending"] == 0).then_some(())
    })
    .await;
    let states: Vec<(Value, Value, Value)> = proxy
        .results("/queues")
        .await
        .iter()
        .map(|queue| (queue["state"].clone(), queue["pending"].clone(), queue["cursor"].clone()))
        .collect();
    let row = |state: &str, pending: u64, cursor: u64| (json!(state), json!(pending), json!(cursor));
    assert_eq!(states, [row("flowing", 0, 1), row("waiting", 1, 0), row("maintenance", 1, 0)]);
    let waiting = eventually("the reason to be shown", SOON, async || {
        Some(queue(&proxy, &nodes[1]).await).filter(|queue| !queue["last_error"].is_null())
    })
    .await;
    assert!(waiting["last_error"].as_str().is_some_and(|error| error.contains("refused")), "{waiting}");
    assert!(
        waiting["bytes"].as_u64() >= Some(4) && waiting["oldest_seconds"].as_f64() > Some(0.0),
        "{waiting}"
    );
    assert_eq!(queue(&proxy, &nodes[0]).await["oldest_seconds"], 0.0);
}

#[tokio::test]
async fn a_queue_is_dropped_on_request_and_goes_on_with_what_comes() {
    let mut nodes = RecorderNode::start_many(2);
    let proxy = Flags::new().nodes(&nodes).start().await;
    nodes[1].stop();
    for _ in 0..4 {
        assert_eq!(proxy.put("/k", "x").await.status, 200);
    }
    let target = format!("/queues/{}", nodes[1].addr());
    assert_eq!(data(&proxy, "DELETE", &target, "").await, (200, json!({ "discarded": 4, "success": true })));
    assert_eq!(proxy.pending(nodes[1].addr()).await, 0);
    nodes[1].restart();
    assert_eq!(proxy.put("/k", "new").await.status, 200);
    proxy.level().await;
    assert_eq!(nodes[1].entries().iter().filter_map(|entry| entry.sequence).collect::<Vec<_>>(), [5]);
}

#[tokio::test]
async fn a_queue_waits_while_its_node_fails_and_flows_once_nothing_waits() {
    let nodes = RecorderNode::start_many(2);
    let proxy = Flags::new().nodes(&nodes).start().await;
    nodes[1].fail_with(503);
    assert_eq!(proxy.put("/k", "x").await.status, 200);
    eventually("the queue to wait", SOON, async || {
        (queue(&proxy, &nodes[1]).await["state"] == "waiting").then_some(())
    })
    .await;
    assert_eq!(call(&proxy, "DELETE", &format!("/queues/{}", nodes[1].addr()), "").await.status, 200);
    assert_eq!(queue(&proxy, &nodes[1]).await["state"], "flowing");
}

#[tokio::test]
async fn an_update_is_found_by_its_number_by_node_and_by_state() {
    let mut nodes = RecorderNode::start_many(2);
    let proxy = Flags::new().nodes(&nodes).start().await;
    nodes[1].stop();
    let sent = ask("PUT", "/k?x=1").header("Idempotency-Key", "mine").body("four").of(proxy.addr).await;
    assert_eq!((sent.status, sent.header("spawn-sequence")), (200, Some("1")));
    assert_eq!(ask("DELETE", "/other").of(proxy.addr).await.status, 200);
    let update = &proxy.results("/updates/1").await[0];
    let (well, away) = (nodes[0].addr().to_string(), nodes[1].addr().to_string());
    let shown = json!({ "sequence": 1, "id": "mine", "method": "PUT", "path": "/k?x=1", "bytes": 4 });
    for (key, value) in shown.as_object().unwrap() {
        assert_eq!(&update[key], value, "{key}");
    }
    assert!(update["received"].as_str().is_some_and(|time| time.ends_with('Z')), "{update}");
    assert_eq!(
        update["nodes"][&well],
        json!({ "state": "delivered", "attempts": 1, "status": 200, "error": null })
    );
    assert_eq!(update["nodes"][&away]["state"], "pending");
    let found = async |query: &str| {
        let results = proxy.results(&format!("/updates?{query}")).await;
        results.iter().filter_map(|update| update["sequence"].as_u64()).collect::<Vec<_>>()
    };
    assert_eq!(found("").await, [2, 1], "newest first");
    assert_eq!(found("limit=1").await, [2]);
    assert_eq!(found(&format!("node={away}&state=pending")).await, [2, 1]);
    assert!(found(&format!("node={away}&state=delivered")).await.is_empty());
    assert!(found("node=unknown:1").await.is_empty() && found("state=dead").await.is_empty());
}

#[tokio::test]
async fn a_given_up_update_is_listed_as_a_dead_letter() {
    let nodes = RecorderNode::start_many(2);
    let flags = ["--max-attempts", "2", "--retry-max", "20ms"];
    let proxy = Flags::new().nodes(&nodes).and(&flags).start().await;
    nodes[1].rule(Rule::new(Act::Status(503)).updates().path("/poison"));
    assert_eq!(ask("POST", "/poison").body("x").of(proxy.addr).await.status, 200);
    let letters = eventually("the dead letter", SOON, async || {
        Some(proxy.results("/dead-letters").await).filter(|letters| !letters.is_empty())
    })
    .await;
    let name = nodes[1].addr().to_string();
    let letter = &letters[0];
    assert_eq!((letters.len(), &letter["node"], &letter["sequence"]), (1, &json!(name), &json!(1)));
    assert_eq!(
        (&letter["method"], &letter["path"], &letter["status"]),
        (&json!("POST"), &json!("/poison"), &json!(503))
    );
    assert!(letter["attempts"].as_u64() >= Some(2) && letter["since"].is_string(), "{letter}");
    assert_eq!(proxy.results(&format!("/dead-letters?node={name}")).await.len(), 1);
    assert!(proxy.results(&format!("/dead-letters?node={}", nodes[0].addr())).await.is_empty());
    assert_eq!(proxy.results("/updates/1").await[0]["nodes"][&name]["state"], "dead");
}

#[tokio::test]
async fn counters_are_shown_in_three_forms() {
    let nodes = RecorderNode::start_many(1);
    let proxy = Flags::new().nodes(&nodes).start().await;
    assert_eq!(proxy.get("/").await.status, 200);
    assert_eq!(proxy.put("/k", "x").await.status, 200);
    assert_eq!(ask("DELETE", "/k").of(proxy.addr).await.status, 200);
    proxy.level().await;
    let name = nodes[0].addr().to_string();
    let counters = &proxy.api("/metrics?format=json").await[&name];
    assert_eq!(counters["success"], json!({ "get": 1, "set": 1, "delete": 1 }));
    assert_eq!(counters["failure"], json!({ "get": 0, "set": 0, "delete": 0 }));
    let table = call(&proxy, "GET", "/metrics?format=table", "").await;
    let text = table.text();
    let rows: Vec<Vec<&str>> = text.lines().map(|line| line.split_whitespace().collect()).collect();
    assert!(rows.contains(&vec!["SUCCESS", "1", "1", "1"]) && rows.contains(&vec![name.as_str()]), "{text}");
    let prometheus = get(proxy.api, "/metrics").await.text();
    for kind in ["get", "set", "delete"] {
        let line =
            format!(r#"spawn_proxy_node_requests_total{{node="{name}",kind="{kind}",result="success"}} 1"#);
        assert!(prometheus.lines().any(|have| have == line), "{line} in {prometheus}");
    }
    assert!(
        prometheus.contains(&format!(r#"spawn_proxy_queue_pending_updates{{node="{name}"}} 0"#)),
        "{prometheus}"
    );
}
