//! How a socket is set up. Everything has a bound and a default; whether it encrypts has to be said.

use std::time::Duration;

use crate::auth::Authenticator;
use crate::error::LinkError;
use crate::key::{KeyPair, PublicKey};

/// The bounds of a queue: it is full when either is reached.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Limits {
    /// Messages.
    pub messages: usize,
    /// Bytes, with 64 added for each frame.
    pub bytes: usize,
}

/// What a listening socket asks of those who connect.
#[derive(Debug, Clone)]
pub enum Security {
    /// Encrypted; only keys that the authenticator knows come in.
    Curve {
        /// Our own pair.
        key: KeyPair,
        /// Who may come in.
        allowed: Authenticator,
    },
    /// Neither encrypted nor authenticated: for loopback, and for peers that know no CURVE.
    PlainText,
}

/// What a connecting socket asks of the server.
#[derive(Debug, Clone)]
pub enum ServerSecurity {
    /// Encrypted; the server has to have this key.
    Curve {
        /// Our own pair.
        key: KeyPair,
        /// The server's public key.
        server: PublicKey,
    },
    /// Neither encrypted nor authenticated.
    PlainText,
}

/// What both kinds of sockets share.
#[derive(Debug, Clone)]
pub struct SocketOptions {
    /// The name in logs, events and metrics.
    pub name: String,
    /// The queue of messages that came in. When it is full the socket is not read, which slows the senders.
    pub inbound: Limits,
    /// The queue to each peer. When it is full, senders wait.
    pub outbound: Limits,
    /// The most bytes of a message. A single frame above it ends the connection that sent it.
    pub max_message: usize,
    /// The most frames of a message, without the routing id.
    pub max_frames: usize,
    /// Messages that libzmq itself holds for a peer, in each direction, beside the queues.
    pub high_water_mark: i32,
    /// Time between signs of life on a silent connection. Also its resolution is no better than 0.1 s.
    pub heartbeat: Duration,
    /// A connection without a sign of life for so long is ended.
    pub heartbeat_timeout: Duration,
    /// A handshake may take so long.
    pub handshake: Duration,
}

impl SocketOptions {
    fn new(name: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            inbound: Limits { messages: 10_000, bytes: 16 << 20 },
            outbound: Limits { messages: 10_000, bytes: 16 << 20 },
            max_message: 4 << 20,
            max_frames: 16,
            high_water_mark: 1000,
            heartbeat: Duration::from_millis(500),
            heartbeat_timeout: Duration::from_millis(2500),
            handshake: Duration::from_secs(5),
        }
    }

    pub(crate) fn check(&self) -> Result<(), LinkError> {
        let largest = self.max_message.saturating_add(64 * self.max_frames);
        let problem = if self.inbound.messages == 0 || self.outbound.messages == 0 || self.max_frames == 0 {
            "a queue of no messages or a message of no frames lets nothing through"
        } else if self.outbound.bytes < largest || self.inbound.bytes < largest {
            "the queues have to hold at least one message of max_message bytes and max_frames frames"
        } else if self.high_water_mark < 1 {
            "the high-water mark has to be at least 1: 0 would mean no bound"
        } else if self.heartbeat.is_zero() || self.heartbeat_timeout <= self.heartbeat {
            "heartbeat_timeout has to be longer than heartbeat, and heartbeat not zero"
        } else {
            return Ok(());
        };
        Err(LinkError::Options { socket: self.name.clone(), problem })
    }
}

/// A ROUTER: listens, knows its peers apart, sends to each by name.
///
/// Mandatory routing is on: what cannot be routed is told. A routing id that is in use is taken over by a newer
/// connection only without CURVE, where it proves nothing and a restarted client must not be locked out; with
/// CURVE the first keeps it, so that nobody is sent what was meant for another.
#[derive(Debug, Clone)]
pub struct RouterOptions {
    /// `tcp://IP:PORT`, `tcp://[IPv6]:PORT`, `ipc://PATH`; `*` or 0 as the port takes a free one.
    pub endpoint: String,
    /// Who may connect.
    pub security: Security,
    /// The rest.
    pub socket: SocketOptions,
}

impl RouterOptions {
    /// With the defaults: 10,000 messages or 16 MiB in each queue, messages of 4 MiB, signs of life each 0.5 s.
    pub fn new(name: impl Into<String>, endpoint: impl Into<String>, security: Security) -> Self {
        Self { endpoint: endpoint.into(), security, socket: SocketOptions::new(name) }
    }
}

/// A DEALER: connects to one address, and again whenever the connection ends.
///
/// It gives libzmq messages only while a connection stands (`IMMEDIATE`): otherwise they wait in our queue, where
/// they are counted, and what the connection before did not deliver never arrives late at the next.
#[derive(Debug, Clone)]
pub struct DealerOptions {
    /// `tcp://HOST:PORT`, `tcp://[IPv6]:PORT`, `ipc://PATH`.
    pub endpoint: String,
    /// What is asked of the server.
    pub security: ServerSecurity,
    /// First wait before it connects again; it doubles.
    pub reconnect: Duration,
    /// Longest wait before it connects again.
    pub reconnect_max: Duration,
    /// The rest.
    pub socket: SocketOptions,
}

impl DealerOptions {
    /// With the defaults of [`RouterOptions::new`], connecting again after 50 ms up to 2 s.
    pub fn new(name: impl Into<String>, endpoint: impl Into<String>, security: ServerSecurity) -> Self {
        Self {
            endpoint: endpoint.into(),
            security,
            reconnect: Duration::from_millis(50),
            reconnect_max: Duration::from_secs(2),
            socket: SocketOptions::new(name),
        }
    }
}
