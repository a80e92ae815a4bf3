//! A real keyrouter over a file of services.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::Value;
use testkit::http::{Answer, ask, get};
use testkit::{Process, Program, TempDir, eventually};

/// Long enough for anything that is not stuck.
pub(crate) const SOON: Duration = Duration::from_secs(30);

pub(crate) struct Router {
    pub(crate) process: Process,
    pub(crate) addr: SocketAddr,
    pub(crate) file: PathBuf,
    pub(crate) dir: TempDir,
}

/// A file of one service.
pub(crate) fn service(name: &str, nodes: &[impl AsRef<str>]) -> String {
    // JSON's way to write a text is one of TOML's.
    let quote = |text: &str| Value::from(text).to_string();
    let nodes: Vec<String> = nodes.iter().map(|node| quote(node.as_ref())).collect();
    format!("[[Services]]\nName = {}\nNodes = [{}]\n", quote(name), nodes.join(", "))
}

/// `count` nodes that are called `name-0:80` and so on.
pub(crate) fn nodes(name: &str, count: usize) -> Vec<String> {
    (0..count).map(|number| format!("{name}-{number}:80")).collect()
}

/// The program with the file that it reads.
pub(crate) fn program(file: &Path, flags: &[&str]) -> Program {
    Program::new(env!("CARGO_BIN_EXE_keyrouter"))
        .args(["--address", "127.0.0.1:0", "--log-format", "json", "--services"])
        .arg(file)
        .args(flags)
}

impl Router {
    /// Starts with this file and these flags.
    pub(crate) async fn start(services: &str, flags: &[&str]) -> Self {
        let dir = TempDir::new();
        let file = dir.write("services.toml", services);
        Self::start_in(dir, file, flags).await
    }

    /// Starts with whatever is at `file`.
    pub(crate) async fn start_in(dir: TempDir, file: PathBuf, flags: &[&str]) -> Self {
        let mut process = program(&file, flags).start();
        let addr = process.listening("api").await;
        Self { process, addr, file, dir }
    }

    pub(crate) async fn get(&self, target: &str) -> Answer {
        get(self.addr, target).await
    }

    pub(crate) async fn post_json(&self, target: &str, body: impl Into<Vec<u8>>) -> Answer {
        ask("POST", target).header("Content-Type", "application/json").body(body).of(self.addr).await
    }

    /// The nodes of a key.
    pub(crate) async fn nodes(&self, service: &str, key: &str, max: usize) -> Vec<String> {
        let answer = self.get(&format!("/service/{service}?key={key}&min=0&max={max}")).await;
        assert_eq!(answer.status, 200, "{}", answer.text());
        answer.json().as_array().unwrap().iter().map(|node| node.as_str().unwrap().to_owned()).collect()
    }

    /// Replaces the file at once, as a good writer does.
    pub(crate) fn write(&self, services: &str) {
        let new = self.dir.write("services.toml.new", services);
        std::fs::rename(new, &self.file).unwrap();
    }

    /// SIGHUP, and waits until the reload was done, whatever came of it.
    pub(crate) async fn hup_and_loaded(&self) {
        let before = self.metric("config_reloads_total").await;
        self.process.hup();
        eventually("the reload to be counted", SOON, async || {
            (self.metric("config_reloads_total").await > before).then_some(())
        })
        .await;
    }

    /// A metric by its name, with its labels as they are shown; 0 where it is not there yet.
    pub(crate) async fn metric(&self, name: &str) -> f64 {
        let text = self.get("/metrics").await.text();
        let line = text.lines().find(|line| line.split(' ').next() == Some(name));
        assert!(line.is_some() || name.contains('{'), "no {name} in {text}");
        line.and_then(|line| line.rsplit(' ').next()?.parse().ok()).unwrap_or(0.0)
    }

    /// Status of `/readyz` and one of its conditions.
    pub(crate) async fn condition(&self, name: &str) -> (u16, bool, String) {
        let answer = self.get("/readyz").await;
        let report = answer.json();
        let found = report["conditions"].as_array().unwrap().iter().find(|found| found["name"] == name);
        let found = found.unwrap_or_else(|| panic!("no {name} in {report}"));
        (answer.status, found["ok"] == true, found["detail"].as_str().unwrap().to_owned())
    }

    /// The generation of a service.
    pub(crate) async fn generation(&self, service: &str) -> u64 {
        self.info(service).await["generation"].as_u64().unwrap()
    }

    /// What `/nodes` says of a service.
    pub(crate) async fn info(&self, service: &str) -> Value {
        let answer = self.get(&format!("/nodes/{service}")).await;
        assert_eq!(answer.status, 200, "{}", answer.text());
        answer.json()
    }
}

/// The sentence of an error.
pub(crate) fn error(answer: &Answer) -> String {
    assert_eq!(answer.header("content-type"), Some("application/json"));
    answer.json()["error"].as_str().unwrap_or_else(|| panic!("no error in {}", answer.text())).to_owned()
}
