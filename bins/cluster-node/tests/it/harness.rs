//! Nodes as processes, and what can be seen of them.

use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use testkit::http::{Answer, ask, get};
use testkit::{Process, Program, Raw, TempDir, eventually, free_port};

/// Long enough for anything that is not stuck.
pub(crate) const SOON: Duration = Duration::from_secs(30);
pub(crate) const EXE: &str = env!("CARGO_BIN_EXE_cluster-node");
pub(crate) const SECRET: &str = "a secret that all nodes share";
pub(crate) const OTHER: &str = "another secret that is as long";

/// Names and addresses of a cluster, and the files of its nodes.
pub(crate) struct Plan {
    pub(crate) dir: Arc<TempDir>,
    ports: Vec<u16>,
    flags: Vec<String>,
}

impl Plan {
    /// Of nodes n1, n2, ...
    pub(crate) fn of(nodes: usize) -> Self {
        let dir = Arc::new(TempDir::new());
        let plan = Self { dir, ports: (0..nodes).map(|_| free_port()).collect(), flags: Vec::new() };
        (1..=nodes).for_each(|at| drop(plan.secret(at, SECRET)));
        plan
    }

    pub(crate) fn flags(mut self, flags: &[&str]) -> Self {
        self.flags.extend(flags.iter().map(|flag| (*flag).to_owned()));
        self
    }

    /// Writes the secret file of a node.
    pub(crate) fn secret(&self, at: usize, text: &str) -> PathBuf {
        private(&self.dir, &format!("secret-{at}"), text)
    }

    pub(crate) fn address(&self, at: usize) -> String {
        format!("tcp://127.0.0.1:{}", self.ports[at - 1])
    }

    pub(crate) fn peer(&self, at: usize) -> String {
        format!("n{at}={}", self.address(at))
    }

    /// A node with all others as its peers.
    pub(crate) fn program(&self, at: usize) -> Program {
        let others = (1..=self.ports.len()).filter(|other| *other != at);
        others.fold(self.lone(at), |program, other| program.arg("--peer").arg(self.peer(other)))
    }

    /// A node without peers.
    pub(crate) fn lone(&self, at: usize) -> Program {
        let (name, secret) = (format!("n{at}"), self.dir.join(format!("secret-{at}")));
        let flags = ["--api", "127.0.0.1:0", "--connect-interval", "100ms", "--log-format", "json"];
        Program::new(EXE)
            .name(&name)
            .args(["--name", &name, "--listen", &self.address(at)])
            .arg("--secret-file")
            .arg(secret)
            .args(flags)
            .args(&self.flags)
    }

    /// All nodes, when all have joined.
    pub(crate) async fn start(&self) -> Vec<Node> {
        let mut nodes = Vec::new();
        for at in 1..=self.ports.len() {
            let node = Node::start(&self.program(at), at).await;
            nodes.push(Node { _dir: Some(Arc::clone(&self.dir)), ..node });
        }
        joined(&nodes).await;
        nodes
    }
}

/// Waits until each of these is online for each other.
pub(crate) async fn joined(nodes: &[Node]) {
    for node in nodes {
        for other in nodes.iter().filter(|other| other.name != node.name) {
            node.sees(&other.name, "Online").await;
        }
    }
}

/// A file that nobody else may read.
pub(crate) fn private(dir: &Path, name: &str, text: &str) -> PathBuf {
    let path = dir.join(name);
    std::fs::write(&path, format!("{text}\n")).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
    path
}

/// A node that runs, with a login.
pub(crate) struct Node {
    pub(crate) process: Process,
    pub(crate) name: String,
    pub(crate) api: SocketAddr,
    pub(crate) token: String,
    /// Its files have to outlive it.
    _dir: Option<Arc<TempDir>>,
}

impl Node {
    pub(crate) async fn start(program: &Program, at: usize) -> Self {
        let mut process = program.start();
        let api = process.listening("api").await;
        let mut node = Self { process, name: format!("n{at}"), api, token: String::new(), _dir: None };
        node.token = login(api, SECRET).await;
        node
    }

    /// The same program again, after it was killed or has ended.
    pub(crate) async fn restart(&mut self) {
        self.process.restart();
        self.api = self.process.listening("api").await;
        self.token = login(self.api, SECRET).await;
    }

    pub(crate) fn path(&self, rest: &str) -> String {
        format!("/api/v1/cluster/{}{rest}", self.name)
    }

    pub(crate) async fn call(&self, method: &str, rest: &str, body: impl Into<Vec<u8>>) -> Answer {
        let ask = ask(method, &self.path(rest)).header("Authorization", format!("Bearer {}", self.token));
        ask.body(body).of(self.api).await
    }

    /// As [`Node::call`], for one that has to work; gives its data.
    pub(crate) async fn done(&self, method: &str, rest: &str, body: impl Into<Vec<u8>>) -> Value {
        let answer = self.call(method, rest, body).await;
        assert_eq!(answer.status, 200, "{method} {rest}: {}", answer.text());
        let json = answer.json();
        assert_eq!((&json["success"], &json["error"]), (&json!(true), &json!("")), "{json}");
        json["data"].clone()
    }

    /// As [`Node::call`], for one that has to fail with this status; gives its sentence.
    pub(crate) async fn fails(
        &self,
        status: u16,
        method: &str,
        rest: &str,
        body: impl Into<Vec<u8>>,
    ) -> String {
        sentence(&self.call(method, rest, body).await, status)
    }

    pub(crate) async fn state(&self) -> Value {
        let answer = get(self.api, &self.path("")).await;
        assert_eq!(answer.status, 200, "{}", answer.text());
        answer.json()["data"].clone()
    }

    /// Waits until a peer has this status here.
    pub(crate) async fn sees(&self, peer: &str, status: &str) {
        let what = format!("{} to see {peer} as {status}", self.name);
        eventually(what, SOON, async || {
            (self.state().await["nodes"][peer]["status"] == status).then_some(())
        })
        .await;
    }

    /// Events from now on, or after the one of this id.
    pub(crate) async fn events(&self, after: Option<&str>) -> Stream {
        let mut raw = Raw::try_connect(self.api).await.unwrap();
        let after = after.map_or(String::new(), |id| format!("Last-Event-ID: {id}\r\n"));
        // HTTP/1.0, so that there are no chunks in between.
        let head = format!("GET {} HTTP/1.0\r\nHost: x\r\n{after}\r\n", self.path("/events"));
        raw.send(head).await;
        let head = String::from_utf8(raw.read_until(b"\r\n\r\n").await.unwrap()).unwrap();
        assert!(head.contains(" 200 ") && head.contains("text/event-stream"), "{head}");
        Stream(raw)
    }
}

/// A failed answer's sentence.
pub(crate) fn sentence(answer: &Answer, status: u16) -> String {
    let json = answer.json();
    assert_eq!(answer.status, status, "{json}");
    assert_eq!((&json["success"], &json["data"]), (&json!(false), &Value::Null), "{json}");
    json["error"].as_str().unwrap().to_owned()
}

pub(crate) async fn try_login(api: SocketAddr, password: &str) -> Answer {
    let body = json!({ "username": "ann", "password": password }).to_string();
    ask("POST", "/api/v1/login").body(body).of(api).await
}

pub(crate) async fn login(api: SocketAddr, password: &str) -> String {
    let answer = try_login(api, password).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    answer.json()["data"]["token"].as_str().unwrap().to_owned()
}

/// Events as they come.
pub(crate) struct Stream(Raw);

/// An event of a stream.
#[derive(Debug, Clone)]
pub(crate) struct Told {
    pub(crate) id: String,
    pub(crate) kind: String,
    pub(crate) data: Value,
}

impl Stream {
    /// The next event; `None` at the end of the stream.
    pub(crate) async fn try_next(&mut self) -> Option<Told> {
        loop {
            let read = tokio::time::timeout(testkit::patience(SOON), self.0.read_until(b"\n\n"));
            let text = String::from_utf8(read.await.expect("an event in time").ok()?).unwrap();
            let field = |name: &str| {
                let value = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "));
                value.unwrap_or_default().to_owned()
            };
            let kind = field("event");
            if !kind.is_empty() {
                return Some(Told {
                    id: field("id"),
                    kind,
                    data: serde_json::from_str(&field("data")).unwrap(),
                });
            }
        }
    }

    /// The next event of this kind.
    pub(crate) async fn next(&mut self, kind: &str) -> Told {
        loop {
            let told = self.try_next().await.expect("the stream goes on");
            if told.kind == kind {
                return told;
            }
        }
    }
}

/// Runs to its end, on a thread that may wait.
pub(crate) async fn run(args: Vec<String>) -> Output {
    tokio::task::spawn_blocking(move || Command::new(EXE).args(args).output().unwrap()).await.unwrap()
}

pub(crate) fn words(words: &[&str]) -> Vec<String> {
    words.iter().map(|word| (*word).to_owned()).collect()
}
