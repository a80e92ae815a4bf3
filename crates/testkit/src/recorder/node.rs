//! A recording node inside the test's own process.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use socket2::{Domain, Protocol, Socket, Type};

use super::act::{Act, Rule};
use super::record::{Entry, Record};
use super::serve::{Shared, serve};
use crate::port::free_port;
use crate::thread::OwnThread;

/// A scriptable HTTP node that writes down every update that reaches it.
///
/// Updates (POST, PUT, PATCH, DELETE) are answered 200 `ok`, the same on every node; reads say which node
/// answered and how many updates it had applied. It runs on a thread of its own, so that it can be stopped
/// like a killed process, frozen like a stopped one, and brought back on the same port with its record.
#[derive(Debug)]
pub struct RecorderNode {
    addr: SocketAddr,
    shared: Arc<Shared>,
    thread: Option<OwnThread>,
}

impl RecorderNode {
    /// Starts a node on a free port of 127.0.0.1.
    pub fn start(name: &str) -> Self {
        let mut node = Self::stopped(name);
        node.restart();
        node
    }

    /// A node that has its port but does not listen yet.
    pub fn stopped(name: &str) -> Self {
        let addr = SocketAddr::from((Ipv4Addr::LOCALHOST, free_port()));
        Self { addr, shared: Shared::new(name, Record::default()), thread: None }
    }

    /// Several nodes: `n1`, `n2`, ...
    pub fn start_many(count: usize) -> Vec<Self> {
        (1..=count).map(|number| Self::start(&format!("n{number}"))).collect()
    }

    /// Its name: the `Recorder-Node` header of its answers.
    pub fn name(&self) -> &str {
        &self.shared.name
    }

    /// Where it listens, also while it is stopped.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Goes away at once, with every connection; connecting to it is refused. The record stays.
    pub fn stop(&mut self) {
        self.thread = None;
    }

    /// Listens again on the same port. Nothing happens when it runs.
    pub fn restart(&mut self) {
        if self.thread.is_none() {
            let listener = listen(self.addr).expect("a reserved port can be listened on");
            let shared = Arc::clone(&self.shared);
            self.thread = Some(OwnThread::start(move || serve(listener, shared)));
        }
    }

    /// Freezes: connections are taken by the kernel, and nothing is read or answered.
    pub fn pause(&mut self) {
        if let Some(thread) = &mut self.thread {
            thread.freeze();
        }
    }

    /// Goes on after [`RecorderNode::pause`].
    pub fn resume(&mut self) {
        if let Some(thread) = &mut self.thread {
            thread.thaw();
        }
    }

    /// Adds a rule. The first rule that matches a request decides.
    pub fn rule(&self, rule: Rule) {
        self.shared.lock().rules.push(rule);
    }

    /// Answers every update with this status from now on.
    pub fn fail_with(&self, status: u16) {
        self.rule(Rule::new(Act::Status(status)).updates());
    }

    /// Forgets every rule: a well-behaved node again.
    pub fn heal(&self) {
        self.shared.lock().rules.clear();
    }

    /// Keeps the headers of what comes from now on, and reads as entries too.
    pub fn keep_headers(&self) {
        self.shared.lock().keep_headers = true;
    }

    /// Every update so far, in order of arrival.
    pub fn entries(&self) -> Vec<Entry> {
        self.shared.lock().record.entries.clone()
    }

    /// The number of updates so far, attempts counted.
    pub fn count(&self) -> usize {
        self.shared.lock().record.entries.len()
    }

    /// The number of updates so far that it took in.
    pub fn applied(&self) -> usize {
        self.shared.lock().record.applied
    }

    /// The number of reads so far, health checks counted.
    pub fn reads(&self) -> u64 {
        self.shared.lock().record.reads
    }

    /// The reads since [`RecorderNode::keep_headers`].
    pub fn read_entries(&self) -> Vec<Entry> {
        self.shared.lock().record.read_entries.clone()
    }

    /// The number of connections that it ever took.
    pub fn connections(&self) -> u64 {
        self.shared.lock().connections
    }

    /// Forgets what it wrote down.
    pub fn forget(&self) {
        let mut state = self.shared.lock();
        state.record.entries.clear();
        state.record.applied = 0;
        state.record.read_entries.clear();
        state.record.reads = 0;
    }
}

/// Listens with a long backlog, also where connections of an earlier listener still linger.
pub(crate) fn listen(addr: SocketAddr) -> io::Result<std::net::TcpListener> {
    let socket = Socket::new(Domain::for_address(addr), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    socket.bind(&addr.into())?;
    socket.listen(1024)?;
    socket.set_nonblocking(true)?;
    Ok(socket.into())
}
