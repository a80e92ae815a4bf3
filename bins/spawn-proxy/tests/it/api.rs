//! The management API of a real spawn-proxy: what its clients know, and what went wrong before it.

mod access;
mod defects;
mod errors;
mod events;
mod faults;
mod nodes;
mod queues;

use std::net::SocketAddr;

use serde_json::{Value, json};
use testkit::http::{Answer, ask};

use crate::harness::Proxy;

/// A request to the API with a body, which may be empty.
async fn call(proxy: &Proxy, method: &str, target: &str, body: &str) -> Answer {
    let ask = ask(method, target);
    let ask = if body.is_empty() { ask } else { ask.body(body) };
    ask.of(proxy.api).await
}

/// The status of an answer, and what its envelope holds.
async fn data(proxy: &Proxy, method: &str, target: &str, body: &str) -> (u16, Value) {
    let answer = call(proxy, method, target, body).await;
    let mut json = answer.json();
    let keys: Vec<_> = json.as_object().expect("an envelope").keys().cloned().collect();
    assert_eq!(keys, ["duration", "took", "data"], "{method} {target}");
    (answer.status, json["data"].take())
}

/// The route of one node.
fn node(addr: SocketAddr) -> String {
    format!("/nodes/{}/{}", addr.ip(), addr.port())
}

/// A record as the API shows it.
fn record(host: &str, port: u16, priority: i64, active: bool, maintenance: bool) -> Value {
    json!({ "host": host, "port": port, "priority": priority, "active": active, "maintenance": maintenance })
}

/// The ports of all nodes in the order in which they are listed.
async fn ports(proxy: &Proxy) -> Vec<u64> {
    proxy.results("/nodes").await.iter().filter_map(|node| node["port"].as_u64()).collect()
}
