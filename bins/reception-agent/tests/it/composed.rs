//! `serve` between a spawn-proxy and a keyrouter, all of them as processes: both follow what is registered.

use std::net::SocketAddr;

use testkit::http::{ask, get};
use testkit::{Process, Program, RecorderNode, TempDir, eventually};

use crate::harness::{Folder, SOON, agent};

struct Stage {
    store: Folder,
    agent: Process,
    _others: [Process; 2],
    proxy: SocketAddr,
    proxy_api: SocketAddr,
    keyrouter: SocketAddr,
}

impl Stage {
    async fn start(dir: &TempDir) -> Self {
        let store = Folder::new();
        let mut proxy = Program::new(testkit::binary("spawn-proxy", "spawn-proxy"))
            .args(["--host", "127.0.0.1", "--port", "0", "--api-port", "0", "--check-sec", "1"])
            .arg("--data-dir")
            .arg(dir.join("proxy"))
            .start();
        // It knows of changes by SIGHUP alone, and has no file yet.
        let mut keyrouter = Program::new(testkit::binary("keyrouter", "keyrouter"))
            .args(["--address", "127.0.0.1:0", "--services"])
            .arg(dir.join("services.toml"))
            .start();
        let (proxy_at, api) = (proxy.listening("proxy").await, proxy.listening("api").await);
        let keyrouter_at = keyrouter.listening("api").await;
        dir.write("keyrouter.pid", format!("{}\n", keyrouter.pid()));
        let path = |name: &str| dir.join(name).display().to_string();
        let config = format!(
            "data-dir = '{}'\n\
             [[render]]\npath = '{}'\nservices = ['web']\nformat = 'keyrouter'\n\
             on_change = 'signal'\npid_file = '{}'\n\
             [[spawn]]\nservice = 'web'\napi = 'http://{api}'\n",
            path("agent"),
            path("services.toml"),
            path("keyrouter.pid"),
        );
        let mut serving = agent(&store.url(), &["serve", "--api", "127.0.0.1:0"])
            .arg("--config")
            .arg(dir.write("agent.toml", config))
            .start();
        serving.listening("api").await;
        let others = [proxy, keyrouter];
        let (proxy, keyrouter) = (proxy_at, keyrouter_at);
        Self { store, agent: serving, _others: others, proxy, proxy_api: api, keyrouter }
    }

    /// An instance at a node's address, for as long as the process lives.
    fn register(&self, node: &RecorderNode) -> Process {
        let (host, port) = (node.addr().ip().to_string(), node.addr().port().to_string());
        agent(&self.store.url(), &["register", "web", "--address", &host, "--port", &port]).start()
    }

    /// The proxy's nodes: those that serve, and those that rest.
    async fn nodes(&self) -> (Vec<String>, Vec<String>) {
        let list = get(self.proxy_api, "/nodes").await.json();
        let nodes = list["data"]["results"].as_array().unwrap().iter();
        let mut nodes: Vec<(String, bool)> = nodes
            .map(|node| {
                assert_eq!(node["active"], true, "{node}");
                let at = format!("{}:{}", node["host"].as_str().unwrap(), node["port"]);
                (at, node["maintenance"] == true)
            })
            .collect();
        nodes.sort();
        let of = |rests| nodes.iter().filter(|node| node.1 == rests).map(|node| node.0.clone()).collect();
        (of(false), of(true))
    }

    /// The nodes of any key, by keyrouter.
    async fn owners(&self) -> Vec<String> {
        let answer = get(self.keyrouter, "/service/web?key=k&min=1&max=9").await;
        let mut owners: Vec<String> = serde_json::from_slice(&answer.body).unwrap_or_default();
        owners.sort();
        owners
    }

    async fn becomes(&self, serving: &[&RecorderNode], resting: &[&RecorderNode]) {
        let names = |nodes: &[&RecorderNode]| {
            let mut names: Vec<String> = nodes.iter().map(|node| node.addr().to_string()).collect();
            names.sort();
            names
        };
        let (serving, resting) = (names(serving), names(resting));
        let what = format!("{serving:?} to serve and {resting:?} to rest");
        eventually(format!("proxy: {what}"), SOON, async || {
            (self.nodes().await == (serving.clone(), resting.clone())).then_some(())
        })
        .await;
        eventually(format!("keyrouter: {what}"), SOON, async || {
            (self.owners().await == serving).then_some(())
        })
        .await;
    }

    async fn update(&self, value: &str) {
        let answer = ask("PUT", "/kv").body(value).of(self.proxy).await;
        assert_eq!(answer.status, 200, "{}", answer.text());
    }
}

async fn has(node: &RecorderNode, count: usize) {
    let what = format!("{} to have {count} updates", node.addr());
    eventually(what, SOON, async || (node.applied() == count).then_some(())).await;
}

#[tokio::test]
async fn proxy_and_keyrouter_follow_what_joins_leaves_and_joins_again() {
    let (dir, nodes) = (TempDir::new(), RecorderNode::start_many(2));
    let (a, b) = (&nodes[0], &nodes[1]);
    let stage = Stage::start(&dir).await;
    assert!(stage.owners().await.is_empty());
    let mut first = stage.register(a);
    stage.becomes(&[a], &[]).await;
    let log = stage.agent.log();
    assert!(!log.iter().any(|line| line.contains("not count")), "a start is no trouble: {log:#?}");
    let _second = stage.register(b);
    stage.becomes(&[a, b], &[]).await;
    stage.update("1").await;
    has(a, 1).await;
    has(b, 1).await;

    // It leaves in order, and gets what it missed when it is back.
    assert!(first.stop().await.success());
    stage.becomes(&[b], &[a]).await;
    stage.update("2").await;
    has(b, 2).await;
    assert_eq!(a.applied(), 1);
    let mut first = stage.register(a);
    stage.becomes(&[a, b], &[]).await;
    has(a, 2).await;

    // It dies.
    first.kill9();
    stage.becomes(&[b], &[a]).await;
    let _first = stage.register(a);
    stage.becomes(&[a, b], &[]).await;
    stage.update("3").await;
    has(a, 3).await;
    has(b, 3).await;
}
