//! From the inbox to the child's stdin, and the child's acknowledgements back.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::{Buf, BytesMut};
use gone::message::acks::AckLines;
use gone::message::stdin::Form;
use gone::message::{Delivery, Turn};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::unix::pipe;
use tokio::sync::Notify;
use tokio::task::JoinHandle;

use super::board::Counters;

/// So many bytes at most are written before what stands in the pipe is acknowledged.
const PIECE: usize = 64 << 10;

/// The child's ends of the messages.
#[derive(Debug)]
pub struct Pipes {
    /// Its stdin.
    pub stdin: pipe::Sender,
    /// Its descriptor 3, when it acknowledges itself.
    pub acks: Option<pipe::Receiver>,
}

/// One child's messages under way. Dropped, this node takes none any more.
#[derive(Debug)]
pub struct Conversation {
    gate: Arc<Gate>,
    task: JoinHandle<()>,
}

/// Whether anything may be acknowledged: asked and closed under one lock, so that nothing slips through.
#[derive(Debug)]
struct Gate {
    open: Mutex<bool>,
    closed: Notify,
}

impl Gate {
    fn open(&self) -> MutexGuard<'_, bool> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Conversation {
    /// Begins to write the turn's messages.
    pub fn begin(turn: Turn, pipes: Pipes, form: Form, id: &str, counters: Counters) -> Self {
        let gate = Arc::new(Gate { open: Mutex::new(true), closed: Notify::new() });
        let talk = Talk {
            turn,
            gate: gate.clone(),
            form,
            id: id.to_owned(),
            fetched: Vec::new(),
            next: 0,
            text: BytesMut::new(),
            written: 0,
            counters,
        };
        Self { gate, task: tokio::spawn(talk.run(pipes)) }
    }

    /// When this returns, nothing is acknowledged any more. Comes before SIGTERM.
    pub fn close(&self) {
        *self.gate.open() = false;
        self.gate.closed.notify_one();
    }
}

impl Drop for Conversation {
    fn drop(&mut self) {
        self.close();
        self.task.abort();
    }
}

struct Talk {
    turn: Turn,
    gate: Arc<Gate>,
    form: Form,
    id: String,
    /// Fetched from the turn, the first `next` of them encoded.
    fetched: Vec<Delivery>,
    next: usize,
    /// Encoded, not written yet.
    text: BytesMut,
    /// The number of the last message in `text`, or before it.
    written: u64,
    counters: Counters,
}

/// What the select below waits for.
enum Step {
    Closed,
    Fetched(bool),
    Wrote(std::io::Result<usize>),
    Read(std::io::Result<usize>),
}

impl Talk {
    async fn run(mut self, pipes: Pipes) {
        let Pipes { mut stdin, mut acks } = pipes;
        let child_acknowledges = acks.is_some();
        let (mut lines, mut read) = (AckLines::default(), BytesMut::with_capacity(4096));
        let gate = self.gate.clone();
        loop {
            self.encode();
            let idle = self.text.is_empty();
            let step = tokio::select! {
                biased;
                () = gate.closed.notified() => Step::Closed,
                got = receive(&mut acks, &mut read), if acks.is_some() => Step::Read(got),
                wrote = stdin.write(&self.text), if !idle => Step::Wrote(wrote),
                more = self.turn.recv(&mut self.fetched), if idle => Step::Fetched(more),
            };
            match step {
                Step::Fetched(true) => {}
                Step::Closed | Step::Fetched(false) => break,
                Step::Wrote(Ok(length)) => {
                    self.text.advance(length);
                    if self.text.is_empty() && !child_acknowledges {
                        self.acknowledge(self.written);
                    }
                }
                Step::Wrote(Err(error)) => {
                    tracing::warn!(%error, "the child takes no messages any more: it closed its stdin");
                    break;
                }
                Step::Read(Ok(0) | Err(_)) => {
                    acks = None;
                    tracing::debug!("the child closed its descriptor 3");
                }
                Step::Read(Ok(_)) => {
                    let (number, errors) = lines.feed(&read);
                    read.clear();
                    errors.iter().for_each(|error| tracing::warn!(%error, "not an acknowledgement"));
                    number.into_iter().for_each(|number| self.acknowledge(number));
                }
            }
        }
        self.turn.stop();
        // Until the child is dead its senders are told to wait, and its stdin stays open.
        let _open = (stdin, acks);
        std::future::pending::<()>().await;
    }

    fn encode(&mut self) {
        if !self.text.is_empty() {
            return;
        }
        while let Some(delivery) = self.fetched.get(self.next).filter(|_| self.text.len() < PIECE) {
            self.form.write(&self.id, delivery, &mut self.text);
            self.written = delivery.n;
            self.next += 1;
            self.counters.delivered.inc();
        }
        if self.next == self.fetched.len() {
            self.fetched.clear();
            self.next = 0;
        }
    }

    fn acknowledge(&self, number: u64) {
        let open = self.gate.open();
        if !*open {
            return;
        }
        if let Err(error) = self.turn.acknowledge(number) {
            tracing::warn!(%error, "not an acknowledgement");
        }
    }
}

async fn receive(acks: &mut Option<pipe::Receiver>, into: &mut BytesMut) -> std::io::Result<usize> {
    match acks {
        Some(acks) => acks.read_buf(into).await,
        None => std::future::pending().await,
    }
}
