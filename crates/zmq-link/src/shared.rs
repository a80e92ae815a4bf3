//! What the handles of a socket and its owner thread share.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};

use tokio::sync::broadcast;

use crate::counters::Counters;
use crate::event::{Event, EventKind};
use crate::inbox::Inbox;
use crate::options::SocketOptions;
use crate::outbox::Outbox;
use crate::wake::Waker;

/// Events that wait for a slow reader; it is told how many it missed beyond these.
const EVENTS: usize = 1024;

/// Tells the owner that one of its sockets has work.
#[derive(Debug)]
pub(crate) struct Signal {
    raised: AtomicBool,
    waker: Arc<Waker>,
    pub(crate) counters: Counters,
}

impl Signal {
    /// To be called after the work was made visible.
    pub(crate) fn raise(&self) {
        if !self.raised.swap(true, SeqCst) {
            self.waker.wake();
        }
    }

    pub(crate) fn is_raised(&self) -> bool {
        self.raised.load(SeqCst)
    }

    /// Before the work is looked at.
    pub(crate) fn lower(&self) {
        self.raised.store(false, SeqCst);
    }
}

/// One socket.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) name: Arc<str>,
    pub(crate) signal: Arc<Signal>,
    pub(crate) outbox: Outbox,
    pub(crate) inbox: Inbox,
    pub(crate) events: broadcast::Sender<Event>,
}

impl Shared {
    pub(crate) fn new(options: &SocketOptions, waker: Arc<Waker>) -> Self {
        let signal =
            Arc::new(Signal { raised: AtomicBool::new(false), waker, counters: Counters::default() });
        Self {
            name: options.name.as_str().into(),
            outbox: Outbox::new(
                options.outbound,
                options.max_message,
                options.max_frames,
                Arc::clone(&signal),
            ),
            inbox: Inbox::new(options.inbound, Arc::clone(&signal)),
            signal,
            events: broadcast::Sender::new(EVENTS),
        }
    }

    pub(crate) fn counters(&self) -> &Counters {
        &self.signal.counters
    }

    pub(crate) fn tell(&self, peer: Option<String>, kind: EventKind) {
        // Nobody listens: the log and the counters have it.
        let _ = self.events.send(Event { socket: Arc::clone(&self.name), peer, kind });
    }
}
