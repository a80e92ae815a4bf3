//! A socket's monitor: read, counted, told, and logged without flooding the log.

use std::os::fd::RawFd;
use std::sync::Arc;
use std::time::Instant;

use zmq::{Context, Socket};

use crate::auth::Domain;
use crate::counters::one;
use crate::event::{EventKind, HandshakeFailure};
use crate::ffi;
use crate::key::KeyId;
use crate::repeats::Repeats;
use crate::shared::Shared;
use crate::story::{Raw, Story};

/// The events that the story is made of. Not BIND_FAILED: writing that event spoils the error that bind returns.
const WANTED: u32 = ffi::ZMQ_EVENT_ACCEPTED
    | ffi::ZMQ_EVENT_ACCEPT_FAILED
    | ffi::ZMQ_EVENT_CONNECTED
    | ffi::ZMQ_EVENT_CONNECT_RETRIED
    | ffi::ZMQ_EVENT_DISCONNECTED
    | ffi::ZMQ_EVENT_HANDSHAKE_FAILED_AUTH
    | ffi::ZMQ_EVENT_HANDSHAKE_FAILED_NO_DETAIL
    | ffi::ZMQ_EVENT_HANDSHAKE_FAILED_PROTOCOL
    | ffi::ZMQ_EVENT_HANDSHAKE_SUCCEEDED
    | ffi::ZMQ_EVENT_MONITOR_STOPPED;
/// So many events are taken before messages get their turn again.
const PORTION: usize = 256;

/// The monitor of one socket.
pub(super) struct Monitor {
    socket: Socket,
    shared: Arc<Shared>,
    story: Story,
    repeats: Repeats<(&'static str, String)>,
    /// Our own key, for the log; none without CURVE.
    own_key: Option<KeyId>,
    /// On a listening CURVE socket.
    domain: Option<Arc<Domain>>,
    /// On a connecting socket: where to.
    server: Option<String>,
}

/// What a look at the monitor found.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Looked {
    /// There is more.
    pub(super) more: bool,
    /// The socket is gone, with all that it had to send.
    pub(super) stopped: bool,
    /// The last news of the connection, if there was any.
    pub(super) line: Option<Line>,
}

/// How a DEALER's connection stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Line {
    /// The handshake is done.
    Up,
    /// libzmq connects, or will try again by itself.
    Trying,
    /// It has ended.
    Down,
}

impl Monitor {
    pub(super) fn start(
        context: &Context,
        watched: &Socket,
        number: u64,
        shared: Arc<Shared>,
    ) -> zmq::Result<Self> {
        let endpoint = format!("inproc://monitor-{number}");
        watched.monitor(&endpoint, i32::try_from(WANTED).unwrap_or(i32::MAX))?;
        let socket = context.socket(zmq::PAIR)?;
        // libzmq's own thread writes events and would wait for room, and with it every connection.
        socket.set_rcvhwm(0)?;
        socket.set_linger(0)?;
        socket.connect(&endpoint)?;
        let story = Story::default();
        let repeats = Repeats::default();
        Ok(Self { socket, shared, story, repeats, own_key: None, domain: None, server: None })
    }

    pub(super) fn own_key(&mut self, key: KeyId) {
        self.own_key = Some(key);
    }

    pub(super) fn domain(&mut self, domain: Arc<Domain>) {
        self.domain = Some(domain);
    }

    pub(super) fn server(&mut self, endpoint: String) {
        self.server = Some(endpoint);
    }

    pub(super) fn fd(&self) -> zmq::Result<RawFd> {
        self.socket.get_fd()
    }

    /// Takes the events that are there, up to a portion.
    pub(super) fn look(&mut self) -> Looked {
        let mut line = None;
        for _ in 0..PORTION {
            let Some(raw) = self.next() else { return Looked { line, ..Looked::default() } };
            match raw.event {
                ffi::ZMQ_EVENT_MONITOR_STOPPED => return Looked { more: false, stopped: true, line },
                ffi::ZMQ_EVENT_CONNECTED | ffi::ZMQ_EVENT_CONNECT_RETRIED => line = Some(Line::Trying),
                ffi::ZMQ_EVENT_HANDSHAKE_SUCCEEDED => line = Some(Line::Up),
                ffi::ZMQ_EVENT_DISCONNECTED => line = Some(Line::Down),
                _ => {}
            }
            let peer = match (&self.server, raw.event) {
                (Some(server), _) => Some(server.clone()),
                (None, ffi::ZMQ_EVENT_ACCEPTED) => ffi::peer_of(raw.value),
                _ => None,
            };
            let denial = || self.domain.as_ref().and_then(|domain| domain.next_denial());
            if let Some((peer, kind)) = self.story.note(&raw, peer, denial) {
                self.tell(peer, kind);
            }
        }
        Looked { more: true, stopped: false, line }
    }

    /// Tells of the connections that end with their listener.
    pub(super) fn all_ended(&mut self) {
        for peer in self.story.all_ended() {
            self.tell(peer, EventKind::Disconnected);
        }
    }

    fn tell(&mut self, peer: Option<String>, kind: EventKind) {
        self.count(&kind);
        self.log(peer.as_deref(), &kind);
        self.shared.tell(peer, kind);
    }

    /// The next event: a frame of 2 + 4 bytes in the machine's order, and one with an address.
    fn next(&self) -> Option<Raw> {
        let frame = self.socket.recv_msg(zmq::DONTWAIT).ok()?;
        let (event, value) = frame.split_first_chunk::<2>()?;
        let event = u32::from(u16::from_ne_bytes(*event));
        let value = i32::from_ne_bytes(*value.first_chunk::<4>()?);
        if frame.get_more() {
            // The address is that of the endpoint, which is known.
            let _ = self.socket.recv_msg(zmq::DONTWAIT);
        }
        Some(Raw { event, value })
    }

    fn count(&self, kind: &EventKind) {
        let counters = self.shared.counters();
        one(match kind {
            EventKind::Connected => &counters.connected,
            EventKind::Disconnected => &counters.disconnected,
            EventKind::Retried { .. } => &counters.retried,
            EventKind::AcceptFailed { .. } => &counters.accept_failed,
            EventKind::BindFailed { .. } => &counters.bind_failed,
            EventKind::HandshakeFailed(HandshakeFailure::Auth { .. }) => &counters.handshake_failed_auth,
            EventKind::HandshakeFailed(HandshakeFailure::NoDetail { .. }) => &counters.handshake_failed_other,
            EventKind::HandshakeFailed(_) => &counters.handshake_failed_protocol,
            EventKind::Undelivered { .. } | EventKind::Discarded { .. } => return,
        });
    }

    fn log(&mut self, peer: Option<&str>, kind: &EventKind) {
        let listening = self.server.is_none();
        let (label, text) = describe(kind, listening);
        // By host: a client that comes again does so from another port each time.
        let host = match peer {
            Some(peer) if listening => peer.rsplit_once(':').map_or(peer, |(host, _)| host),
            other => other.unwrap_or_default(),
        };
        let Some(left_out) = self.repeats.ask((label, host.to_owned()), Instant::now()) else { return };
        let (socket, peer) = (&*self.shared.name, peer.unwrap_or("unknown"));
        let own_key = self.own_key.map(|key| key.to_string()).unwrap_or_default();
        let peer_key = match kind {
            EventKind::HandshakeFailed(HandshakeFailure::Auth { key: Some(key) }) => key.to_string(),
            _ => String::new(),
        };
        match kind {
            EventKind::Connected | EventKind::Disconnected => {
                tracing::info!(socket, peer, left_out, "{text}");
            }
            EventKind::Retried { .. } => tracing::debug!(socket, peer, left_out, "{text}"),
            _ => tracing::warn!(socket, peer, own_key, peer_key, left_out, "{text}"),
        }
    }
}

/// The kind of line, and its text.
fn describe(kind: &EventKind, listening: bool) -> (&'static str, String) {
    use HandshakeFailure::{Auth, MechanismMismatch, NoDetail, Protocol, WrongServerKey};
    match kind {
        EventKind::Connected => ("connected", "connected".into()),
        EventKind::Disconnected => ("disconnected", "the connection ended".into()),
        EventKind::Retried { after } => ("retried", format!("no connection; trying again after {after:?}")),
        EventKind::AcceptFailed { error } => {
            ("accept", format!("a connection could not be accepted: {error}"))
        }
        EventKind::BindFailed { error } => ("bind", format!("an address cannot be listened on: {error}")),
        EventKind::HandshakeFailed(Auth { .. }) if listening => {
            ("auth", "refused: the peer's key is not one of those that may connect".into())
        }
        EventKind::HandshakeFailed(Auth { .. }) => {
            ("auth", "the peer refuses our key: it is not one of those that may connect there".into())
        }
        EventKind::HandshakeFailed(WrongServerKey) => (
            "server-key",
            "refused: the peer encrypts for another server key than ours; one of the two has the wrong key"
                .into(),
        ),
        EventKind::HandshakeFailed(MechanismMismatch) => {
            ("mechanism", "refused: one end uses CURVE and the other does not".into())
        }
        EventKind::HandshakeFailed(Protocol(code)) => {
            ("protocol", format!("the peer does not speak as ZeroMQ does (libzmq's code {code:#x})"))
        }
        EventKind::HandshakeFailed(NoDetail { error }) if listening => {
            ("handshake", format!("a connection ended before it was made: {error}"))
        }
        EventKind::HandshakeFailed(NoDetail { error }) => (
            "handshake",
            format!(
                "the peer hung up before the connection was made ({error}); is its key the one that is expected?"
            ),
        ),
        EventKind::Undelivered { .. } => ("undelivered", String::new()),
        EventKind::Discarded { .. } => ("discarded", String::new()),
    }
}
