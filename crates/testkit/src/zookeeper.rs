//! ZooKeeper servers for one test.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::port::free_port;
use crate::process::{Process, Program};
use crate::temp::TempDir;
use crate::wait::eventually;

/// Where Debian puts it; its manifest names all that it needs beside a logger.
const JAR: &str = "/usr/share/java/zookeeper.jar";
const LOGGER: &str = "/usr/share/java/slf4j-simple.jar";

/// How long a four-letter word may take.
const ANSWER: Duration = Duration::from_secs(1);

/// One ZooKeeper server on free ports, alone or of an ensemble, with data of its own that a restart keeps.
#[derive(Debug)]
pub struct ZooKeeperServer {
    addr: SocketAddr,
    process: Process,
    folder: TempDir,
    id: usize,
}

impl ZooKeeperServer {
    /// Starts one with the tick that is usual, 2 s, so sessions last 4 s at least, and waits until it answers. Panics when the
    /// machine has no `java` or no ZooKeeper (Debian: default-jre-headless, libzookeeper-java).
    pub async fn start() -> Self {
        Self::with_tick(Duration::from_secs(2)).await
    }

    /// One whose sessions last twice this at least, and end up to one of it late.
    pub async fn with_tick(tick: Duration) -> Self {
        let server = Self::launch(1, free_port(), tick, "");
        server.answers().await;
        server
    }

    /// Three that elect a leader among them.
    pub async fn ensemble(tick: Duration) -> Vec<Self> {
        let members: String = (1..=3)
            .map(|id| {
                let (peers, election) = (free_port(), free_port());
                format!("server.{id}=127.0.0.1:{peers}:{election}\n")
            })
            .collect();
        let more = format!("initLimit=20\nsyncLimit=10\n{members}");
        let servers: Vec<_> = (1..=3).map(|id| Self::launch(id, free_port(), tick, &more)).collect();
        for server in &servers {
            server.answers().await;
        }
        servers
    }

    fn launch(id: usize, port: u16, tick: Duration, more: &str) -> Self {
        assert!(
            Path::new(JAR).is_file(),
            "there is no ZooKeeper here (Debian: libzookeeper-java); scripts/test installs it"
        );
        let folder = TempDir::new();
        let addr = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let configuration = format!(
            "tickTime={}\ndataDir={}\nclientPort={port}\nclientPortAddress=127.0.0.1\nmaxClientCnxns=0\n\
             admin.enableServer=false\n4lw.commands.whitelist=*\nmaxSessionTimeout=60000\n{more}",
            tick.as_millis(),
            folder.join("data").display(),
        );
        let configuration = folder.write("zoo.cfg", configuration);
        make_data(&folder, id);
        let process = Program::new("java")
            .name("zookeeper")
            .args(["-Xmx128m", "-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC"])
            .args([
                "-Dorg.slf4j.simpleLogger.showDateTime=true",
                "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn",
            ])
            .args(["-cp", &format!("{JAR}:{LOGGER}"), "org.apache.zookeeper.server.quorum.QuorumPeerMain"])
            .arg(configuration)
            .start();
        Self { addr, process, folder, id }
    }

    /// Where clients connect, also while it is down.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// `zk://127.0.0.1:PORT`.
    pub fn url(&self) -> String {
        format!("zk://{}", self.addr)
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
        std::fs::remove_dir_all(self.folder.join("data")).expect("ZooKeeper's data can be removed");
        make_data(&self.folder, self.id);
        self.restart().await;
    }

    /// The answer to a four-letter word such as `srvr` or `cons`; none when it does not answer.
    pub async fn four_letters(&self, word: &str) -> Option<String> {
        let asked = async {
            let mut stream = TcpStream::connect(self.addr).await.ok()?;
            stream.write_all(word.as_bytes()).await.ok()?;
            let mut answer = String::new();
            stream.read_to_string(&mut answer).await.ok()?;
            Some(answer)
        };
        // One that only just begins to listen may answer and never close.
        timeout(ANSWER, asked).await.ok()?
    }

    /// How many requests it took from clients since it started.
    pub async fn requests(&self) -> u64 {
        let answer = self.four_letters("srvr").await.expect("the server answers");
        let count = answer.lines().find_map(|line| line.strip_prefix("Received: "));
        count.and_then(|count| count.parse().ok()).expect("srvr tells what was received")
    }

    async fn answers(&self) {
        eventually("ZooKeeper to serve", Duration::from_secs(40), async || {
            self.four_letters("srvr").await?.contains("Mode: ").then_some(())
        })
        .await;
    }
}

fn make_data(folder: &TempDir, id: usize) {
    std::fs::create_dir_all(folder.join("data")).expect("a folder in a temporary one can be made");
    folder.write("data/myid", id.to_string());
}
