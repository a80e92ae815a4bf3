//! One task for each id that is sent to: runs the sender's decisions over a connection.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::{broadcast, mpsc};
use tokio::task::JoinHandle;
use zmq_link::{
    Dealer, DealerOptions, Event, EventKind, HandshakeFailure, Incoming, Limits, Link, ServerSecurity,
};

use crate::message::Encryption;
use crate::message::frame::{Frame, SenderId};
use crate::message::outbox::{Lookup, Order, OutboxOptions, Ticket};
use crate::message::sender::{Action, Sender, Whereabouts};

/// Orders and answers are taken in portions of this many.
const PORTION: usize = 1024;
/// A connection over which nothing is expected is kept for so long.
const IDLE: Duration = Duration::from_secs(60);

/// How long after the end of a connection nothing more has to come.
const LAST_WORDS: Duration = Duration::from_millis(10);

type Found = Result<Option<Whereabouts>, String>;

pub(crate) struct Courier {
    id: Arc<str>,
    core: Sender<Ticket>,
    link: Arc<Link>,
    options: OutboxOptions,
    lookup: Arc<dyn Lookup>,
    line: Option<Line>,
    asked: Option<JoinHandle<Found>>,
    start: Instant,
}

/// A connection and what is told about it.
struct Line {
    dealer: Dealer,
    events: broadcast::Receiver<Event>,
}

/// What woke the task.
enum News {
    Orders(usize),
    Frames,
    Event(EventKind),
    Found(Found),
    Time,
}

impl Courier {
    pub(crate) fn new(
        id: Arc<str>,
        me: SenderId,
        link: Arc<Link>,
        options: OutboxOptions,
        lookup: Arc<dyn Lookup>,
    ) -> Self {
        let core = Sender::new(Arc::clone(&id), me);
        Self { id, core, link, options, lookup, line: None, asked: None, start: Instant::now() }
    }

    /// Until the outbox is dropped.
    pub(crate) async fn run(mut self, mut orders: mpsc::UnboundedReceiver<Order>) {
        let (mut waiting, mut incoming) = (Vec::new(), Vec::new());
        loop {
            let news = self.news(&mut orders, &mut waiting, &mut incoming).await;
            let now = self.start.elapsed();
            match news {
                News::Orders(0) => break,
                News::Orders(_) => {}
                News::Frames => self.hear(now, &mut incoming),
                News::Event(kind) => self.told(now, kind).await,
                News::Found(found) => self.core.looked_up(now, found),
                News::Time if self.core.unsettled() == 0 => self.hang_up(now),
                News::Time => {}
            }
            for Order { data, patience, ticket } in waiting.drain(..) {
                self.core.offer(now, data, ticket, patience);
            }
            self.core.tick(now);
            self.act(now).await;
        }
        if let Some(asked) = self.asked.take() {
            asked.abort();
        }
    }

    async fn news(
        &mut self,
        orders: &mut mpsc::UnboundedReceiver<Order>,
        waiting: &mut Vec<Order>,
        incoming: &mut Vec<Incoming>,
    ) -> News {
        let due = self.core.due();
        let due = due.or_else(|| self.line.is_some().then(|| self.start.elapsed() + IDLE));
        let sleep = async {
            match due.and_then(|due| self.start.checked_add(due)) {
                Some(at) => tokio::time::sleep_until(at.into()).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            news = heard(&mut self.line, incoming) => news,
            found = answered(&mut self.asked) => News::Found(found),
            count = orders.recv_many(waiting, PORTION) => News::Orders(count),
            () = sleep => News::Time,
        }
    }

    async fn told(&mut self, now: Duration, kind: EventKind) {
        match kind {
            EventKind::Connected => self.core.line_up(now),
            EventKind::Disconnected => {
                self.hear_the_rest(now).await;
                self.core.line_down(now, "the holder's end closed it or gave no sign of life");
            }
            EventKind::HandshakeFailed(failure) => {
                let why = match failure {
                    HandshakeFailure::NoDetail { .. } => return,
                    HandshakeFailure::Auth { .. } => "its key file is another one",
                    HandshakeFailure::WrongServerKey => "its key is another one",
                    HandshakeFailure::MechanismMismatch => "only one of the two has a key file",
                    HandshakeFailure::Protocol(_) => "what listens there does not speak ZeroMQ",
                };
                self.core.line_refused(now, why);
            }
            _ => {}
        }
    }

    fn hear(&mut self, now: Duration, incoming: &mut Vec<Incoming>) {
        for Incoming { message, .. } in incoming.drain(..) {
            match Frame::decode(&message) {
                Ok(frame) => self.core.received(now, frame),
                Err(error) => tracing::debug!(id = &*self.id, %error, "an answer was passed over"),
            }
        }
    }

    /// Drops a connection that ended: what waits in its queue is sent anew over the next one. The end is told
    /// before the last answers are read, and these may be acknowledgements.
    async fn hear_the_rest(&mut self, now: Duration) {
        let (Some(mut line), mut incoming) = (self.line.take(), Vec::new()) else { return };
        while let Ok(1..) = tokio::time::timeout(LAST_WORDS, line.dealer.recv_many(&mut incoming)).await {
            self.hear(now, &mut incoming);
        }
    }

    fn hang_up(&mut self, now: Duration) {
        self.line = None;
        self.core.line_down(now, "it was idle");
    }

    async fn act(&mut self, now: Duration) {
        while let Some(action) = self.core.next_action() {
            match action {
                Action::LookUp => {
                    let (lookup, id) = (Arc::clone(&self.lookup), Arc::clone(&self.id));
                    self.asked = Some(tokio::spawn(async move { lookup.look_up(&id).await }));
                }
                Action::Connect(address) => {
                    self.line = None;
                    match self.connect(&address).await {
                        Ok(line) => {
                            // It may stand since before its events were listened to.
                            if line.dealer.counters().connected > 0 {
                                self.core.line_up(now);
                            }
                            self.line = Some(line);
                        }
                        Err(error) => self.core.line_down(now, &error.to_string()),
                    }
                }
                Action::Send(frame) => {
                    let refused =
                        self.line.as_ref().map(|line| line.dealer.sender().try_send(frame.encode()));
                    if let Some(Err(refused)) = refused {
                        self.line = None;
                        self.core.line_down(now, &refused.error.to_string());
                    }
                }
                Action::Settle(ticket, outcome) => ticket.settle(outcome),
            }
        }
    }

    async fn connect(&self, address: &str) -> Result<Line, zmq_link::LinkError> {
        let security = match &self.options.encryption {
            Encryption::Key(key) => ServerSecurity::Curve { key: key.clone(), server: key.public() },
            Encryption::PlainText => ServerSecurity::PlainText,
        };
        let mut options = DealerOptions::new(format!("to {}", self.id), address, security);
        options.reconnect_max = Duration::from_millis(250);
        options.socket.max_message = self.options.max_message + (1 << 20);
        // Attempts that follow each other over one connection find room.
        let bytes = self.options.window_bytes.saturating_mul(4) + options.socket.max_message + (1 << 20);
        options.socket.outbound = Limits { messages: self.options.window.saturating_mul(4).max(1000), bytes };
        options.socket.high_water_mark = 100;
        let dealer = self.link.dealer(options).await?;
        let events = dealer.events();
        Ok(Line { dealer, events })
    }
}

async fn heard(line: &mut Option<Line>, incoming: &mut Vec<Incoming>) -> News {
    let Some(Line { dealer, events }) = line else { return std::future::pending().await };
    tokio::select! {
        count = dealer.recv_many(incoming) => match count {
            0 => News::Event(EventKind::Disconnected),
            _ => News::Frames,
        },
        // Events that were missed may be the end of the connection: a new one is safe.
        event = events.recv() => News::Event(event.map_or(EventKind::Disconnected, |event| event.kind)),
    }
}

async fn answered(asked: &mut Option<JoinHandle<Found>>) -> Found {
    let Some(task) = asked else { return std::future::pending().await };
    let found = task.await.unwrap_or_else(|_| Err("looking the holder up failed".into()));
    *asked = None;
    found
}
