//! A Consul server for one test.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use crate::http;
use crate::port::free_port;
use crate::process::{Process, Program};
use crate::temp::TempDir;
use crate::wait::eventually;

/// One `consul` server agent on free ports, alone in its datacenter, with data of its own that a restart keeps.
#[derive(Debug)]
pub struct ConsulServer {
    addr: SocketAddr,
    process: Process,
    folder: TempDir,
    /// With access lists, nothing is shown to whoever has no token.
    hidden: bool,
}

impl ConsulServer {
    /// Starts it and waits until it has a leader. Panics when there is no `consul`: neither in PATH nor where
    /// `scripts/test` puts it.
    pub async fn start() -> Self {
        Self::with("").await
    }

    /// The same with more configuration, in Consul's own language; it is merged with what is set here.
    pub async fn with(configuration: &str) -> Self {
        let folder = TempDir::new();
        let addr = SocketAddr::from((Ipv4Addr::LOCALHOST, free_port()));
        let ports = format!(
            "http = {} dns = -1 grpc = -1 serf_lan = {} serf_wan = -1 server = {}",
            addr.port(),
            free_port(),
            free_port()
        );
        let own = format!(
            "ports {{ {ports} }} performance {{ raft_multiplier = 1 }} disable_update_check = true \
             datacenter = \"test\""
        );
        let files = [folder.write("own.hcl", own), folder.write("more.hcl", configuration)];
        // It logs on stdout.
        let process = Program::new("/bin/sh")
            .name("consul")
            .args(["-c", "exec \"$0\" \"$@\" >&2"])
            .arg(program())
            .args([
                "agent",
                "-server",
                "-bootstrap-expect=1",
                "-node=one",
                "-bind=127.0.0.1",
                "-client=127.0.0.1",
            ])
            .args([
                "-config-file".as_ref(),
                files[0].as_os_str(),
                "-config-file".as_ref(),
                files[1].as_os_str(),
            ])
            .arg("-data-dir")
            .arg(folder.join("data"))
            .start();
        let server = Self { addr, process, folder, hidden: configuration.contains("acl") };
        server.answers().await;
        server
    }

    /// Where its HTTP API listens, also while it is down.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// `consul://127.0.0.1:PORT`.
    pub fn url(&self) -> String {
        format!("consul://{}", self.addr)
    }

    /// The process, to be killed, stopped and continued.
    pub fn process(&mut self) -> &mut Process {
        &mut self.process
    }

    /// Starts it again on the same port with the same data, killed first if it runs.
    pub async fn restart(&mut self) {
        self.process.restart();
        self.answers().await;
    }

    /// Starts it again on the same port without its data.
    pub async fn restart_empty(&mut self) {
        self.process.kill9();
        std::fs::remove_dir_all(self.folder.join("data")).expect("Consul's data can be removed");
        self.restart().await;
    }

    async fn answers(&self) {
        // Once the leader is known, its own node still has to appear: sessions are made on it.
        eventually("Consul to have a leader and its node", Duration::from_secs(30), async || {
            let answer = http::ask("GET", "/v1/health/node/one").try_of(self.addr).await.ok()?;
            let led = answer.header("x-consul-knownleader") == Some("true");
            (led && (self.hidden || answer.text().contains("serfHealth"))).then_some(())
        })
        .await;
    }
}

/// From PATH, or from `target/tools`.
fn program() -> PathBuf {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let fetched = std::env::current_exe().ok().and_then(|own| {
        // A test is target/PROFILE/deps/NAME.
        Some(own.ancestors().nth(3)?.join("tools"))
    });
    let found = std::env::split_paths(&path)
        .chain(fetched)
        .map(|folder| folder.join("consul"))
        .find(|program| program.is_file());
    found.expect("there is no consul here; scripts/test fetches it")
}
