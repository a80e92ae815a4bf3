//! A real spawn-proxy in front of scripted nodes.

use std::net::SocketAddr;
use std::time::Duration;

use serde_json::Value;
use testkit::http::{Answer, ask, get};
use testkit::{Process, Program, RecorderNode, TempDir, eventually};

/// Long enough for anything that is not stuck.
pub(crate) const SOON: Duration = Duration::from_secs(30);

pub(crate) struct Proxy {
    pub(crate) process: Process,
    pub(crate) addr: SocketAddr,
    pub(crate) api: SocketAddr,
    pub(crate) dir: TempDir,
}

/// Flags of a proxy on free ports, with a data directory of its own.
pub(crate) struct Flags(Vec<String>);

impl Flags {
    pub(crate) fn new() -> Self {
        Self(Vec::new()).and(&["--log-format", "json"])
    }

    pub(crate) fn and(mut self, flags: &[&str]) -> Self {
        self.0.extend(flags.iter().map(ToString::to_string));
        self
    }

    pub(crate) fn node(self, addr: SocketAddr) -> Self {
        self.and(&["--node", &addr.to_string()])
    }

    pub(crate) fn nodes<'a>(self, nodes: impl IntoIterator<Item = &'a RecorderNode>) -> Self {
        nodes.into_iter().fold(self, |flags, node| flags.node(node.addr()))
    }

    pub(crate) async fn start(self) -> Proxy {
        self.start_in(TempDir::new()).await
    }

    pub(crate) async fn start_in(self, dir: TempDir) -> Proxy {
        let process = self.program(&dir).start();
        Proxy::of(process, dir).await
    }

    pub(crate) fn program(&self, dir: &TempDir) -> Program {
        let given = |flag: &&str| self.0.iter().any(|own| own == flag);
        let free = ["--port", "--api-port"].into_iter().filter(|flag| !given(flag));
        Program::new(env!("CARGO_BIN_EXE_spawn-proxy"))
            .args(["--host", "127.0.0.1"])
            .args(Some("--check-sec=1").filter(|_| !given(&"--check-sec")))
            .args(free.flat_map(|flag| [flag, "0"]))
            .arg("--data-dir")
            .arg(dir.join("data"))
            .args(&self.0)
    }
}

impl Proxy {
    pub(crate) async fn of(mut process: Process, dir: TempDir) -> Self {
        let addr = process.listening("proxy").await;
        let api = process.listening("api").await;
        Self { process, addr, api, dir }
    }

    /// Starts the same program again after it ended; ports may change.
    pub(crate) async fn restart(&mut self) {
        self.process.restart();
        self.addr = self.process.listening("proxy").await;
        self.api = self.process.listening("api").await;
    }

    pub(crate) async fn get(&self, target: &str) -> Answer {
        get(self.addr, target).await
    }

    pub(crate) async fn put(&self, target: &str, body: &str) -> Answer {
        ask("PUT", target).body(body).of(self.addr).await
    }

    pub(crate) async fn api(&self, target: &str) -> Value {
        get(self.api, target).await.json()
    }

    /// The `results` of a list of the API.
    pub(crate) async fn results(&self, target: &str) -> Vec<Value> {
        let body = self.api(target).await;
        body["data"]["results"].as_array().cloned().unwrap_or_else(|| panic!("no results in {body}"))
    }

    /// Changes a node and gives the status.
    pub(crate) async fn change(&self, addr: SocketAddr, change: &str) -> u16 {
        self.change_with(addr, "", change).await
    }

    pub(crate) async fn change_with(&self, addr: SocketAddr, query: &str, change: &str) -> u16 {
        let target = format!("/nodes/{}/{}{query}", addr.ip(), addr.port());
        ask("PUT", &target).header("Content-Type", "application/json").body(change).of(self.api).await.status
    }

    /// Updates that wait for a node.
    pub(crate) async fn pending(&self, addr: SocketAddr) -> u64 {
        let queues = self.results("/queues").await;
        let own = queues.iter().find(|queue| queue["node"] == addr.to_string());
        own.and_then(|queue| queue["pending"].as_u64())
            .unwrap_or_else(|| panic!("no queue of {addr} in {queues:?}"))
    }

    /// Waits until every queue is empty.
    pub(crate) async fn level(&self) {
        eventually("all queues to be empty", SOON * 4, async || {
            let queues = self.results("/queues").await;
            queues.iter().all(|queue| queue["pending"] == 0).then_some(())
        })
        .await;
    }

    /// Waits until a node is (or is not) sent requests any more.
    pub(crate) async fn healthy(&self, addr: SocketAddr, wanted: bool) {
        let line = format!("node=\"{addr}\"");
        eventually(format!("{addr} to be healthy: {wanted}"), SOON, async || {
            let text = get(self.api, "/metrics").await.text();
            let up = text.lines().find(|l| l.starts_with("spawn_proxy_node_up{") && l.contains(&line));
            let value: f64 = up?.rsplit(' ').next()?.parse().ok()?;
            ((value == 1.0) == wanted).then_some(())
        })
        .await;
    }
}

impl Proxy {
    /// kill -9 and start again.
    pub(crate) async fn restart_hard(&mut self) {
        self.process.kill9();
        self.restart().await;
    }
}
