//! A Redis server for one test.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::time::Duration;

use crate::port::free_port;
use crate::process::{Process, Program};
use crate::raw::Raw;
use crate::temp::TempDir;
use crate::wait::eventually;

/// A `redis-server` on a free port that keeps what it acknowledged: append-only, synced always, no eviction.
#[derive(Debug)]
pub struct RedisServer {
    addr: SocketAddr,
    process: Process,
    folder: TempDir,
}

impl RedisServer {
    /// Starts it and waits until it answers.
    pub async fn start() -> Self {
        let folder = TempDir::new();
        let addr = SocketAddr::from((Ipv4Addr::LOCALHOST, free_port()));
        let port = addr.port().to_string();
        let process = Program::new("redis-server")
            .args(["--bind", "127.0.0.1", "--port", &port, "--save", "", "--daemonize", "no"])
            .args(["--appendonly", "yes", "--appendfsync", "always", "--maxmemory-policy", "noeviction"])
            .arg("--dir")
            .arg(folder.as_os_str())
            .start();
        let mut server = Self { addr, process, folder };
        server.answers().await;
        server
    }

    /// Where it listens, also while it is down.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// `redis://127.0.0.1:PORT`.
    pub fn url(&self) -> String {
        format!("redis://{}", self.addr)
    }

    /// Where it keeps its data.
    pub fn folder(&self) -> &Path {
        &self.folder
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

    async fn answers(&mut self) {
        eventually("redis-server to answer PING", Duration::from_secs(20), async || {
            if let Some(status) = self.process.exit_status() {
                // The port may have been taken while it was down; it says so on stdout.
                panic!("redis-server ended with {status}: {:#?}", self.process.stdout());
            }
            let mut raw = Raw::try_connect(self.addr).await.ok()?;
            raw.send("PING\r\n").await;
            // While it reads its log back it answers -LOADING.
            (raw.read_until(b"\r\n").await.ok()? == b"+PONG\r\n").then_some(())
        })
        .await;
    }
}
