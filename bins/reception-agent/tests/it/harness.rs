//! Agents, and what can be seen of them.

use std::net::SocketAddr;
use std::path::Path;
use std::process::{Command, Output};
use std::time::Duration;

use serde_json::Value;
use testkit::http::{Answer, ask};
use testkit::{Beats, Process, Program, TempDir, eventually};

use crate::role;

/// Long enough for anything that is not stuck.
pub(crate) const SOON: Duration = Duration::from_secs(30);

/// A fast ZooKeeper's: its sessions may be as short as 400 ms.
pub(crate) const TICK: Duration = Duration::from_millis(200);

pub(crate) const EXE: &str = env!("CARGO_BIN_EXE_reception-agent");

/// A store in a folder of this host.
pub(crate) struct Folder(TempDir);

impl Folder {
    pub(crate) fn new() -> Self {
        Self(TempDir::new())
    }

    pub(crate) fn url(&self) -> String {
        format!("file:{}", self.0.join("store").display())
    }

    pub(crate) fn dir(&self) -> &TempDir {
        &self.0
    }
}

/// An agent with these words over this store.
pub(crate) fn agent(store: &str, words: &[&str]) -> Program {
    Program::new(EXE).args(words).args(["--backend", store])
}

/// A candidate for `job` whose command beats. The command's words stand last.
pub(crate) fn beating(store: &str, id: &str, flags: &[&str], beats: &Beats) -> Program {
    let program = agent(store, &["elect", "job", "--id", id]).name(id).args(flags);
    program.env(testkit::beats::FOLDER, beats.folder()).arg("--").args(role::words())
}

/// Runs to its end, on a thread that may wait.
pub(crate) async fn call(store: &str, words: &[&str]) -> Output {
    let words: Vec<String> = words.iter().map(|word| (*word).to_owned()).collect();
    let store = store.to_owned();
    let run = move || {
        let split = words.iter().position(|word| word == "--").unwrap_or(words.len());
        let (flags, command) = words.split_at(split);
        Command::new(EXE).args(flags).args(["--backend", &store]).args(command).output().unwrap()
    };
    tokio::task::spawn_blocking(run).await.unwrap()
}

/// As [`call`], for a call that has to work; gives its stdout.
pub(crate) async fn done(store: &str, words: &[&str]) -> String {
    let output = call(store, words).await;
    assert!(output.status.success(), "{words:?}: {output:?}");
    String::from_utf8(output.stdout).unwrap()
}

/// As [`call`], for a call that has to fail with this code; gives its stderr.
pub(crate) async fn fails(code: i32, store: &str, words: &[&str]) -> String {
    let output = call(store, words).await;
    assert_eq!(output.status.code(), Some(code), "{words:?}: {output:?}");
    String::from_utf8(output.stderr).unwrap()
}

/// What a call prints as JSON.
pub(crate) async fn json(store: &str, words: &[&str]) -> Value {
    serde_json::from_str(&done(store, words).await).unwrap()
}

/// Waits until the process printed what `wanted` finds.
pub(crate) async fn prints<T>(process: &Process, what: &str, wanted: impl Fn(&[String]) -> Option<T>) -> T {
    eventually(format!("{what} on stdout"), SOON, async || wanted(&process.stdout())).await
}

/// `serve`, and where it answers.
pub(crate) async fn serve(store: &str, flags: &[&str]) -> (Process, SocketAddr) {
    let mut agent = agent(store, &["serve", "--api", "127.0.0.1:0"]).args(flags).name("serve").start();
    let api = agent.listening("api").await;
    (agent, api)
}

pub(crate) async fn send(api: SocketAddr, method: &str, target: &str, body: &str) -> Answer {
    ask(method, target).body(body).of(api).await
}

/// The ids of a list.
pub(crate) fn ids(list: &Value) -> Vec<&str> {
    list["services"].as_array().unwrap().iter().map(|service| service["id"].as_str().unwrap()).collect()
}

pub(crate) fn signal(pid: i32, signal: rustix::process::Signal) {
    // It may have ended since.
    let _ = rustix::process::kill_process(rustix::process::Pid::from_raw(pid).unwrap(), signal);
}

pub(crate) fn is_gone(pid: i32) -> bool {
    !Path::new(&format!("/proc/{pid}")).exists()
}
