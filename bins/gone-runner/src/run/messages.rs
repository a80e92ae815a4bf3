//! From the inbox to the child's stdin, and the child's acknowledgements back.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::{Buf, BytesMut};
use gone::message::acks::AckLines;
use gone::message::frame::Refusal;
use gone::message::stdin::Form;
use gone::message::{Delivery, Turn};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::unix::pipe;
use tokio::sync::Notify;
use tokio::task::JoinHandle;

use super::board::Counters;

/// So many bytes at most are encoded before they are written.
const PIECE: usize = 64 << 10;
/// How long reading what a dead child left may take.
const READ_OUT: Duration = Duration::from_millis(100);

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
    /// The child is dead: what it acknowledged stands in the pipe.
    ended: Notify,
    read_out: Notify,
}

impl Gate {
    fn open(&self) -> MutexGuard<'_, bool> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Conversation {
    /// Begins to write the turn's messages.
    pub fn begin(turn: Turn, pipes: Pipes, form: Form, id: &str, counters: Counters) -> Self {
        let gate = Arc::new(Gate {
            open: Mutex::new(true),
            closed: Notify::new(),
            ended: Notify::new(),
            read_out: Notify::new(),
        });
        let talk = Talk {
            turn,
            gate: gate.clone(),
            form,
            id: id.to_owned(),
            fetched: Vec::new(),
            next: 0,
            text: BytesMut::new(),
            written: 0,
            ends: VecDeque::new(),
            counters,
        };
        Self { gate, task: tokio::spawn(talk.run(pipes)) }
    }

    /// Takes in what the dead child has acknowledged and nobody has read yet. Counts only before
    /// [`Conversation::close`], and while the lease is held.
    pub async fn read_out(&self) {
        self.gate.ended.notify_one();
        // The task may be over by itself.
        let _ = tokio::time::timeout(READ_OUT, self.gate.read_out.notified()).await;
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
    /// Bytes written so far.
    written: u64,
    /// Where each message that is not written whole ends, and its number.
    ends: VecDeque<(u64, u64)>,
    counters: Counters,
}

/// What the select below waits for.
enum Step {
    Closed,
    Ended,
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
        let why = loop {
            self.encode();
            let idle = self.text.is_empty();
            let step = tokio::select! {
                biased;
                () = gate.closed.notified() => Step::Closed,
                () = gate.ended.notified() => Step::Ended,
                got = receive(&mut acks, &mut read), if acks.is_some() => Step::Read(got),
                wrote = stdin.write(&self.text), if !idle => Step::Wrote(wrote),
                more = self.turn.recv(&mut self.fetched), if idle => Step::Fetched(more),
            };
            match step {
                Step::Fetched(true) => {}
                Step::Closed | Step::Fetched(false) => break Refusal::Stopping,
                Step::Ended => {
                    // All who could write are dead: what is there is all.
                    while let Some(Ok(length @ 1..)) = acks.as_ref().map(|acks| acks.try_read_buf(&mut read))
                    {
                        let (number, _) = lines.feed(&read[..length]);
                        read.clear();
                        if let Some(number) = number {
                            self.acknowledge(number);
                        }
                    }
                    break Refusal::Stopping;
                }
                Step::Wrote(Ok(length)) => {
                    self.text.advance(length);
                    if let Some(number) = self.wrote(length).filter(|_| !child_acknowledges) {
                        self.acknowledge(number);
                    }
                }
                Step::Wrote(Err(error)) => {
                    tracing::warn!(%error, "the child takes no messages any more: it closed its stdin");
                    break Refusal::StdinClosed;
                }
                Step::Read(Ok(0) | Err(_)) => {
                    acks = None;
                    // Nothing can be acknowledged any more: senders are better told so than kept waiting.
                    tracing::info!("the child closed its descriptor 3: it is given no more messages");
                    break Refusal::AcksClosed;
                }
                Step::Read(Ok(_)) => {
                    let (number, errors) = lines.feed(&read);
                    read.clear();
                    errors.iter().for_each(|error| tracing::warn!(%error, "not an acknowledgement"));
                    if let Some(given) = number.and_then(|number| self.acknowledge(number)) {
                        lines.refuse_beyond(given);
                    }
                }
            }
        };
        gate.read_out.notify_one();
        self.turn.refuse_all(why);
        // Until the child is dead its senders are told why, and its stdin stays open.
        let _open = (stdin, acks);
        std::future::pending::<()>().await;
    }

    fn encode(&mut self) {
        if !self.text.is_empty() {
            return;
        }
        while let Some(delivery) = self.fetched.get(self.next).filter(|_| self.text.len() < PIECE) {
            self.form.write(&self.id, delivery, &mut self.text);
            self.ends.push_back((self.written + self.text.len() as u64, delivery.n));
            self.next += 1;
            self.counters.delivered.inc();
        }
        if self.next == self.fetched.len() {
            self.fetched.clear();
            self.next = 0;
        }
    }

    /// Counts what was written; the last message that is written whole by that.
    fn wrote(&mut self, length: usize) -> Option<u64> {
        self.written += length as u64;
        let mut last = None;
        while let Some((_, number)) = self.ends.pop_front_if(|(end, _)| *end <= self.written) {
            last = Some(number);
        }
        last
    }

    /// How many messages the child was given, where it acknowledged more than that.
    fn acknowledge(&self, number: u64) -> Option<u64> {
        let open = self.gate.open();
        if !*open {
            return None;
        }
        let error = self.turn.acknowledge(number).err()?;
        tracing::warn!(%error, "not an acknowledgement");
        Some(error.given)
    }
}

async fn receive(acks: &mut Option<pipe::Receiver>, into: &mut BytesMut) -> std::io::Result<usize> {
    match acks {
        Some(acks) => acks.read_buf(into).await,
        None => std::future::pending().await,
    }
}
