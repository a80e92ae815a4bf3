//! `[[spawn]]` with real spawn-proxies.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use daemon::drain::Drain;
use daemon::state_dir::StateDir;
use prometheus_client::registry::Registry;
use reception::Service;
use reception_agent::held::Rule;
use reception_agent::spawn::plan::OnLeave;
use reception_agent::spawn::{Counters, SpawnSpec, check_format, run};
use reception_agent::view::{View, Views};
use testkit::http::{ask, get};
use testkit::{Process, Program, RecorderNode, TempDir, eventually, free_port};
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// Long enough for anything that is not stuck.
const SOON: Duration = Duration::from_secs(60);
const TOKEN: &str = "0123456789abcdef";

struct Proxy {
    process: Process,
    dir: TempDir,
    addr: std::net::SocketAddr,
    api: std::net::SocketAddr,
}

impl Proxy {
    async fn start(flags: &[&str]) -> Self {
        let dir = TempDir::new();
        let (port, api_port) = (free_port().to_string(), free_port().to_string());
        let process = Program::new(testkit::binary("spawn-proxy", "spawn-proxy"))
            .args(["--host", "127.0.0.1", "--port", &port, "--api-port", &api_port, "--check-sec=1"])
            .arg("--data-dir")
            .arg(dir.join("data"))
            .args(flags)
            .start();
        let mut proxy =
            Self { process, dir, addr: ([127, 0, 0, 1], 0).into(), api: ([127, 0, 0, 1], 0).into() };
        proxy.listening().await;
        proxy
    }

    async fn listening(&mut self) {
        self.addr = self.process.listening("proxy").await;
        self.api = self.process.listening("api").await;
    }

    /// Each node: `host:port`, with what is not usual of it.
    async fn nodes(&self) -> Vec<String> {
        let body = get(self.api, "/nodes").await.json();
        let nodes = body["data"]["results"].as_array().expect("a list").iter();
        let mut nodes: Vec<String> = nodes
            .map(|node| {
                let mut text = format!("{}:{}", node["host"].as_str().expect("a host"), node["port"]);
                let marks = [("!active", node["active"] == false), ("rests", node["maintenance"] == true)];
                marks.iter().filter(|(_, on)| *on).for_each(|(mark, _)| text.push_str(&format!(" {mark}")));
                if node["priority"] != 0 {
                    text.push_str(&format!(" {}", node["priority"]));
                }
                text
            })
            .collect();
        nodes.sort();
        nodes
    }

    async fn becomes(&self, wanted: &[String]) {
        let mut wanted = wanted.to_vec();
        wanted.sort();
        eventually(format!("the nodes to be {wanted:?}"), SOON, async || {
            (self.nodes().await == wanted).then_some(())
        })
        .await;
    }

    async fn put(&self, node: &str, change: &str) {
        let target = format!("/nodes/{}", node.replace(':', "/"));
        let answer = ask("PUT", &target).body(change).of(self.api).await;
        assert!(answer.status < 300, "{answer:?}");
    }
}

/// The task, with what it stands on.
struct Agent {
    views: watch::Sender<Arc<Views>>,
    stop: Drain,
    task: JoinHandle<()>,
    counters: Counters,
}

fn spec(proxy: &Proxy, on_leave: OnLeave) -> SpawnSpec {
    SpawnSpec {
        service: "web".to_owned(),
        api: format!("http://{}", proxy.api),
        token_file: None,
        tls: None,
        on_leave,
        held: Rule { min_instances: 0, empty_grace: Duration::from_secs(2) },
    }
}

impl Agent {
    fn start(spec: SpawnSpec, dir: &Path) -> Self {
        let dir = Arc::new(StateDir::open(dir.join("agent")).expect("a state directory"));
        check_format(&dir).expect("our format");
        let (views, seen) = watch::channel(Arc::new(Views::default()));
        let (counters, stop) = (Counters::default(), Drain::new());
        let task = tokio::spawn(run(spec, seen, dir, counters.clone(), stop.clone()));
        Self { views, stop, task, counters }
    }

    /// What the store says now.
    fn sees(&self, instances: &[Service]) {
        self.tells(View::confirmed(instances.to_vec()));
    }

    fn tells(&self, view: View) {
        let services = [("web".to_owned(), Arc::new(view))].into();
        self.views.send_replace(Arc::new(Views { services, ..Views::default() }));
    }

    async fn end(self) {
        self.stop.begin();
        self.task.await.expect("it ends in order");
    }

    /// As a crash ends it.
    async fn kill(self) {
        self.task.abort();
        let _ = self.task.await;
    }

    fn metric(&self, line: &str) -> Option<f64> {
        let mut registry = Registry::default();
        self.counters.register(&mut registry);
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &registry).expect("text");
        text.lines().find(|known| known.starts_with(line))?.rsplit(' ').next()?.parse().ok()
    }

    async fn counts(&self, line: &str, least: f64) {
        eventually(format!("{line} to be {least}"), SOON, async || {
            self.metric(line).filter(|value| *value >= least).map(|_| ())
        })
        .await;
    }
}

fn instance(node: &RecorderNode) -> Service {
    Service::new("web", &node.addr().ip().to_string(), node.addr().port()).expect("an instance")
}

fn name(node: &RecorderNode) -> String {
    node.addr().to_string()
}

fn resting(node: &RecorderNode) -> String {
    format!("{} rests", node.addr())
}

#[tokio::test]
async fn nodes_join_leave_and_join_again() {
    let (proxy, nodes) = (Proxy::start(&[]).await, RecorderNode::start_many(3));
    let agent = Agent::start(spec(&proxy, OnLeave::Maintenance), &proxy.dir);
    let [a, b, c] = &nodes[..] else { panic!() };
    agent.sees(&[instance(a), instance(b), instance(a)]);
    proxy.becomes(&[name(a), name(b)]).await;
    // They serve.
    let answer = ask("PUT", "/x").body("1").of(proxy.addr).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    eventually("both to have the update", SOON, async || (a.applied() + b.applied() == 2).then_some(()))
        .await;
    agent.sees(&[instance(b), instance(c)]);
    proxy.becomes(&[resting(a), name(b), name(c)]).await;
    agent.sees(&[instance(a), instance(b), instance(c)]);
    proxy.becomes(&[name(a), name(b), name(c)]).await;
    agent.counts("spawn_changes_total{service=\"web\",api=", 1.0).await;
    agent.end().await;
}

#[tokio::test]
async fn what_is_not_certain_changes_nothing_and_an_empty_list_waits() {
    let (proxy, node) = (Proxy::start(&[]).await, RecorderNode::start("a"));
    let agent = Agent::start(spec(&proxy, OnLeave::Delete { after: Duration::ZERO }), &proxy.dir);
    agent.sees(&[instance(&node)]);
    proxy.becomes(&[name(&node)]).await;
    agent.tells(View { instances: vec![], confirmed: false });
    agent.counts("spawn_held", 1.0).await;
    tokio::time::sleep(Duration::from_secs(3)).await;
    assert_eq!(proxy.nodes().await, [name(&node)], "longer than the grace");
    let begin = tokio::time::Instant::now();
    agent.sees(&[]);
    proxy.becomes(&[]).await;
    assert!(begin.elapsed() >= Duration::from_secs(2), "after the grace");
    agent.end().await;
}

#[tokio::test]
async fn others_nodes_and_operators_doings_stay() {
    let nodes = RecorderNode::start_many(3);
    let [a, b, c] = &nodes[..] else { panic!() };
    let proxy = Proxy::start(&["--node", &name(a)]).await;
    let agent = Agent::start(spec(&proxy, OnLeave::Delete { after: Duration::ZERO }), &proxy.dir);
    agent.sees(&[instance(a), instance(b)]);
    proxy.becomes(&[name(a), name(b)]).await;
    agent.counts("spawn_foreign_nodes", 1.0).await;
    // An operator puts ours to rest, and the other one has left: it is not ours.
    proxy.put(&name(b), r#"{"maintenance":true}"#).await;
    agent.sees(&[instance(b), instance(c)]);
    proxy.becomes(&[name(a), resting(b), name(c)]).await;
    // All of it also over a restart.
    agent.end().await;
    let agent = Agent::start(spec(&proxy, OnLeave::Delete { after: Duration::ZERO }), &proxy.dir);
    agent.sees(&[instance(c)]);
    proxy.becomes(&[name(a), name(c)]).await;
    agent.end().await;
}

#[tokio::test]
async fn a_node_for_which_updates_wait_is_kept_until_they_are_delivered() {
    let mut nodes = RecorderNode::start_many(2);
    let proxy = Proxy::start(&[]).await;
    let agent = Agent::start(spec(&proxy, OnLeave::Delete { after: Duration::ZERO }), &proxy.dir);
    let both: Vec<_> = nodes.iter().map(instance).collect();
    agent.sees(&both);
    proxy.becomes(&[name(&nodes[0]), name(&nodes[1])]).await;
    nodes[0].stop();
    for value in ["1", "2"] {
        assert_eq!(ask("PUT", "/x").body(value).of(proxy.addr).await.status, 200);
    }
    agent.sees(&both[1..]);
    agent.counts("spawn_conflicts_total", 2.0).await;
    assert_eq!(proxy.nodes().await, {
        let mut nodes = [resting(&nodes[0]), name(&nodes[1])];
        nodes.sort();
        nodes
    });
    // It comes back, and gets what it missed.
    nodes[0].restart();
    agent.sees(&both);
    proxy.becomes(&[name(&nodes[0]), name(&nodes[1])]).await;
    eventually("the node to have all updates", SOON, async || (nodes[0].applied() == 2).then_some(())).await;
    // Now nothing waits.
    agent.sees(&both[1..]);
    proxy.becomes(&[name(&nodes[1])]).await;
    agent.end().await;
}

#[tokio::test]
async fn the_time_after_which_a_proxys_node_is_deleted_goes_on_over_restarts() {
    let (proxy, nodes) = (Proxy::start(&[]).await, RecorderNode::start_many(2));
    let [a, b] = &nodes[..] else { panic!() };
    let after = Duration::from_secs(3600);
    let agent = Agent::start(spec(&proxy, OnLeave::Delete { after }), &proxy.dir);
    agent.sees(&[instance(a), instance(b)]);
    proxy.becomes(&[name(a), name(b)]).await;
    agent.sees(&[instance(b)]);
    proxy.becomes(&[resting(a), name(b)]).await;
    agent.end().await;
    // As if the time had passed since.
    let files = std::fs::read_dir(proxy.dir.join("agent")).expect("a state directory");
    let notes = files.map(|file| file.expect("a file").path());
    let notes = notes.filter(|path| path.extension().is_some_and(|extension| extension == "json"));
    for path in notes {
        let mut content: serde_json::Value =
            serde_json::from_slice(&std::fs::read(&path).expect("read")).expect("JSON");
        for node in content["nodes"].as_array_mut().expect("a list") {
            if let Some(left_at) = node["left_at_seconds"].as_u64() {
                node["left_at_seconds"] = (left_at - 3600).into();
            }
        }
        std::fs::write(&path, content.to_string()).expect("written");
    }
    let agent = Agent::start(spec(&proxy, OnLeave::Delete { after }), &proxy.dir);
    agent.sees(&[instance(b)]);
    proxy.becomes(&[name(b)]).await;
    agent.end().await;
}

#[tokio::test]
async fn a_proxy_that_was_away_or_lost_its_nodes_is_brought_in_step() {
    let mut proxy = Proxy::start(&[]).await;
    let nodes = RecorderNode::start_many(2);
    let [a, b] = &nodes[..] else { panic!() };
    let agent = Agent::start(spec(&proxy, OnLeave::Maintenance), &proxy.dir);
    agent.sees(&[instance(a)]);
    proxy.becomes(&[name(a)]).await;
    proxy.process.kill9();
    agent.sees(&[instance(b)]);
    agent.counts("spawn_failures_total", 2.0).await;
    proxy.process.restart();
    proxy.listening().await;
    proxy.becomes(&[resting(a), name(b)]).await;
    // A new proxy at the same place.
    proxy.process.kill9();
    std::fs::remove_dir_all(proxy.dir.join("data")).expect("removed");
    proxy.process.restart();
    proxy.listening().await;
    proxy.becomes(&[name(b)]).await;
    agent.end().await;
}

#[tokio::test]
async fn an_agent_that_dies_at_any_moment_leaves_nothing_behind() {
    let (proxy, nodes) = (Proxy::start(&[]).await, RecorderNode::start_many(4));
    let all: Vec<_> = nodes.iter().map(instance).collect();
    let spec = spec(&proxy, OnLeave::Delete { after: Duration::ZERO });
    let mut rng = testkit::Rng::from_env();
    for _ in 0..25 {
        let agent = Agent::start(spec.clone(), &proxy.dir);
        let some: Vec<_> = all.iter().filter(|_| rng.percent(50)).cloned().collect();
        agent.sees(if some.is_empty() { &all } else { &some });
        tokio::time::sleep(Duration::from_millis(rng.within(0..30))).await;
        agent.kill().await;
    }
    let agent = Agent::start(spec, &proxy.dir);
    agent.sees(&all[..1]);
    proxy.becomes(&[name(&nodes[0])]).await;
    agent.end().await;
}

#[tokio::test]
async fn a_token_opens_the_api_and_its_lack_is_told() {
    let dir = TempDir::new();
    let file = dir.write("token", TOKEN);
    let proxy = Proxy::start(&["--api-token-file", file.to_str().expect("text")]).await;
    let node = RecorderNode::start("a");
    let wrong = dir.write("ours", "another token of some length");
    let mut spec = spec(&proxy, OnLeave::Maintenance);
    spec.token_file = Some(wrong.clone());
    let agent = Agent::start(spec, &proxy.dir);
    let service =
        instance(&node).with_attributes([("priority".to_owned(), "7".to_owned())].into()).expect("few");
    agent.sees(&[service]);
    agent.counts("spawn_failures_total", 1.0).await;
    assert!(proxy.nodes().await.is_empty());
    // It is read again each time.
    std::fs::write(wrong, TOKEN).expect("written");
    proxy.becomes(&[format!("{} 7", node.addr())]).await;
    agent.end().await;
}
