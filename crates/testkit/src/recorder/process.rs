//! A recording node as a real process, for SIGKILL and SIGSTOP.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};

use super::node::listen;
use super::record::{Entry, Record, load};
use super::serve::{Shared, serve};
use crate::binary::binary;
use crate::port::free_port;
use crate::process::{Process, Program};
use crate::temp::TempDir;

/// The program `recorder-node` with its record in a file, which outlives it.
#[derive(Debug)]
pub struct RecorderProcess {
    name: String,
    addr: SocketAddr,
    file: PathBuf,
    process: Process,
    _folder: TempDir,
}

impl RecorderProcess {
    /// Starts a node on a free port of 127.0.0.1 and waits until it listens.
    pub async fn start(name: &str) -> Self {
        let folder = TempDir::new();
        let file = folder.join("record");
        let addr = SocketAddr::from((Ipv4Addr::LOCALHOST, free_port()));
        let program = Program::new(binary("testkit", "recorder-node")).name(format!("recorder-node {name}"));
        let program = program.arg(name).arg(addr.to_string()).arg(&file);
        let mut process = program.start();
        process.listening("http").await;
        Self { name: name.to_owned(), addr, file, process, _folder: folder }
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Where it listens, also while it is down.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// The process, to be killed, stopped and continued.
    pub fn process(&mut self) -> &mut Process {
        &mut self.process
    }

    /// Starts it again on the same port, killed first if it runs, and waits until it listens.
    pub async fn restart(&mut self) {
        self.process.restart();
        self.process.listening("http").await;
    }

    /// Every update that was ever recorded, in order of arrival, whether it runs or not.
    pub fn entries(&self) -> Vec<Entry> {
        load(&self.file).expect("the record can be read")
    }
}

/// The main of `recorder-node`: serves for ever, recording to the file.
#[expect(clippy::print_stderr, reason = "the line that says where it listens goes where daemons' logs go")]
pub fn serve_forever(name: &str, addr: SocketAddr, file: &Path) -> io::Result<()> {
    let shared = Shared::new(name, Record::in_file(file)?);
    let listener = listen(addr)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    eprintln!(
        "{}",
        serde_json::json!({"message": "listening", "role": "http", "addr": listener.local_addr()?})
    );
    runtime.block_on(serve(listener, shared));
    Ok(())
}
