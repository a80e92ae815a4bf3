//! Divergences, marks of possible duplicates, and events as they happen.

use serde_json::{Value, json};
use testkit::http::{ask, get};
use testkit::{Act, RecorderNode, Rule, eventually};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::call;
use crate::harness::{Flags, Proxy, SOON};

/// What one client hears.
struct Stream {
    connection: TcpStream,
    text: String,
}

impl Stream {
    async fn open(proxy: &Proxy) -> Self {
        let mut connection = TcpStream::connect(proxy.api).await.unwrap();
        connection.write_all(b"GET /events HTTP/1.1\r\nHost: h\r\n\r\n").await.unwrap();
        Self { connection, text: String::new() }
    }

    /// Reads on until an event of this name fits.
    async fn hears(&mut self, name: &str, fits: impl Fn(&Value) -> bool) -> Value {
        let wanted = format!("event: {name}");
        let search = async {
            loop {
                let blocks = self.text.split("\n\n").filter(|block| block.contains(&wanted));
                let data = blocks.filter_map(|block| block.split_once("data: "));
                let mut values = data.filter_map(|(_, data)| serde_json::from_str::<Value>(data.trim()).ok());
                if let Some(found) = values.find(|value| fits(value)) {
                    return found;
                }
                let mut part = vec![0; 65536];
                let length = self.connection.read(&mut part).await.unwrap();
                assert!(length > 0, "the stream ended: {}", self.text);
                self.text.push_str(&String::from_utf8_lossy(&part[..length]));
            }
        };
        let found = tokio::time::timeout(SOON, search).await;
        found.unwrap_or_else(|_| panic!("no event {name} in {}", self.text))
    }
}

#[tokio::test]
async fn what_changes_is_heard() {
    let mut nodes = RecorderNode::start_many(2);
    let flags = ["--max-attempts", "1", "--retry-max", "20ms"];
    let proxy = Flags::new().nodes(&nodes).and(&flags).start().await;
    let name = nodes[1].addr().to_string();
    assert_eq!(proxy.put("/before", "x").await.status, 200);
    let mut stream = Stream::open(&proxy).await;
    stream.hears("node", |data| data["port"] == nodes[1].addr().port() && data["active"] == true).await;
    stream.hears("queue", |data| data["node"] == name.as_str() && data["state"] == "flowing").await;
    assert!(stream.text.contains("content-type: text/event-stream"), "{}", stream.text);
    stream.hears("rates", |data| data["node"] == name.as_str() && data["gets"].is_u64()).await;
    // What was there before is in the lists.
    assert!(!stream.text.contains("event: update"), "{}", stream.text);
    nodes[1].rule(Rule::new(Act::Status(503)).updates().path("/poison"));
    nodes[1].rule(Rule::new(Act::Status(404)).updates().path("/other"));
    assert_eq!(proxy.put("/poison", "x").await.status, 200);
    // Either node may be first.
    assert!([200, 404].contains(&proxy.put("/other", "x").await.status));
    stream.hears("update", |data| data["path"] == "/other").await;
    stream.hears("dead-letter", |data| data["path"] == "/poison" && data["node"] == name.as_str()).await;
    let divergence = stream.hears("divergence", |data| data["path"] == "/other").await;
    assert_eq!(divergence["answers"][&name], 404, "{divergence}");
    let target = format!("/dead-letters/{name}/2");
    assert_eq!(call(&proxy, "DELETE", &target, "").await.status, 200);
    stream.hears("dead-letter", |data| data["removed"] == true && data["sequence"] == 2).await;
    nodes[1].stop();
    assert_eq!(proxy.put("/late", "x").await.status, 200);
    stream.hears("queue", |data| data["state"] == "waiting" && data["pending"] == 1).await;
    assert_eq!(proxy.change(nodes[1].addr(), r#"{"maintenance":true}"#).await, 202);
    stream.hears("node", |data| data["maintenance"] == true).await;
    // As many as may follow, and room again when one goes.
    let mut streams = vec![stream];
    for _ in 1..16 {
        let mut another = Stream::open(&proxy).await;
        another.hears("node", |_| true).await;
        streams.push(another);
    }
    let refused = get(proxy.api, "/events").await;
    assert_eq!(refused.status, 503, "{}", refused.text());
    streams.truncate(1);
    eventually("room", SOON, async || {
        let mut another = Stream::open(&proxy).await;
        let mut part = [0; 12];
        another.connection.read_exact(&mut part).await.unwrap();
        part.ends_with(b"200").then_some(())
    })
    .await;
}

#[tokio::test]
async fn different_answers_are_listed_also_when_a_node_catches_up_and_after_restarts() {
    let mut nodes = RecorderNode::start_many(3);
    let mut proxy = Flags::new().nodes(&nodes).start().await;
    nodes[2].rule(Rule::new(Act::Status(404)).updates().path("/odd"));
    nodes[2].stop();
    assert_eq!(proxy.put("/same", "x").await.status, 200);
    assert_eq!(proxy.put("/odd", "x").await.status, 200);
    assert!(proxy.results("/divergences").await.is_empty());
    nodes[2].restart();
    proxy.level().await;
    let mut answers = json!({});
    for (node, status) in nodes.iter().zip([200, 200, 404]) {
        answers[node.addr().to_string()] = status.into();
    }
    let wanted = json!({ "sequence": 2, "method": "PUT", "path": "/odd", "answers": answers });
    assert_eq!(proxy.results("/divergences").await, std::slice::from_ref(&wanted));
    assert!(get(proxy.api, "/metrics").await.text().contains("spawn_proxy_divergences_total 1"));
    assert!(proxy.process.stop().await.success());
    proxy.restart().await;
    assert_eq!(proxy.results("/divergences").await, [wanted]);
}

#[tokio::test]
async fn a_client_error_to_a_repeated_attempt_is_marked() {
    let nodes = RecorderNode::start_many(2);
    nodes[1].rule(Rule::new(Act::CloseAfter).updates().times(1));
    nodes[1].rule(Rule::new(Act::Status(409)).updates());
    let proxy = Flags::new().nodes(&nodes).and(&["--retry-max", "50ms"]).start().await;
    assert_eq!(ask("POST", "/things").body("x").of(proxy.addr).await.status, 200);
    proxy.level().await;
    let update = proxy.results("/updates/1").await.remove(0);
    let there = &update["nodes"][nodes[1].addr().to_string()];
    assert_eq!(there["error"], "maybe-duplicate: 409 to attempt 2", "{update}");
}
