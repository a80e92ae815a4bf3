//! An etcd server for one test.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use crate::http;
use crate::port::free_port;
use crate::process::{Process, Program};
use crate::temp::TempDir;
use crate::wait::eventually;

/// One `etcd` on free ports, alone in its cluster, with data of its own that a restart keeps.
#[derive(Debug)]
pub struct EtcdServer {
    addr: SocketAddr,
    process: Process,
    folder: TempDir,
}

impl EtcdServer {
    /// Starts it and waits until it answers. Panics when the machine has no `etcd` (Debian: etcd-server).
    pub async fn start() -> Self {
        let folder = TempDir::new();
        let addr = SocketAddr::from((Ipv4Addr::LOCALHOST, free_port()));
        let (client, peer) = (format!("http://{addr}"), format!("http://127.0.0.1:{}", free_port()));
        let process = Program::new("etcd")
            .args(["--name", "one", "--initial-cluster", &format!("one={peer}"), "--data-dir"])
            .arg(folder.join("data"))
            .args(["--listen-client-urls", &client, "--advertise-client-urls", &client])
            .args(["--listen-peer-urls", &peer, "--initial-advertise-peer-urls", &peer])
            .start();
        let server = Self { addr, process, folder };
        server.answers().await;
        server
    }

    /// Where clients connect, also while it is down.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// `etcd://127.0.0.1:PORT`.
    pub fn url(&self) -> String {
        format!("etcd://{}", self.addr)
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
        std::fs::remove_dir_all(self.folder.join("data")).expect("etcd's data can be removed");
        self.restart().await;
    }

    async fn answers(&self) {
        eventually("etcd to have a leader", Duration::from_secs(20), async || {
            let answer = http::ask("GET", "/health").try_of(self.addr).await.ok()?;
            answer.text().contains("true").then_some(())
        })
        .await;
    }
}
