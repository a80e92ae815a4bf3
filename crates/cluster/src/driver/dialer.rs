//! A connection that this node makes: opened, watched, closed.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::{broadcast, mpsc, oneshot};
use zmq_link::{
    Dealer, DealerOptions, DealerSender, EventKind, HandshakeFailure, Incoming, Limits, Link, ServerSecurity,
    SocketOptions,
};

use crate::core::Conn;
use crate::identity::Attempt;
use crate::settings::Settings;
use crate::wire::LARGEST_FRAME;

/// A refused connection is tried again for so long, which lets a listener change its key unnoticed.
const INSIST: Duration = Duration::from_millis(60);
const AGAIN: Duration = Duration::from_millis(10);
/// A connection that is given up has so long to send its last frame.
pub(crate) const LAST_WORDS: Duration = Duration::from_millis(200);

/// What a connection tells.
#[derive(Debug)]
pub(crate) enum Told {
    /// Opened; frames for it go here.
    Opened(DealerSender),
    /// The handshake is done.
    Connected,
    /// Frames came.
    Frames(Vec<Incoming>),
    /// It could not be made: nobody is there.
    Unreachable(String),
    /// It could not be made: the keys do not fit.
    Keys(KeyTrouble),
    /// It has ended.
    Ended,
}

/// Whose key does not fit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum KeyTrouble {
    /// The peer knows our key under no name.
    OursRefused,
    /// The peer hung up in the handshake: most likely it has another server key.
    TheirsDiffers,
    /// One end does not encrypt.
    NoCurve,
}

/// Options that every socket of a node shares.
pub(crate) fn set(options: &mut SocketOptions, settings: &Settings) {
    let bytes = LARGEST_FRAME + (16 << 20);
    options.inbound = Limits { messages: 4096, bytes };
    options.outbound = Limits { messages: 100_000, bytes };
    options.max_message = LARGEST_FRAME;
    options.max_frames = 2;
    options.heartbeat = settings.ping_interval;
    // After the read timeout, which is the one that decides.
    options.heartbeat_timeout = settings.read_timeout * 2;
    options.handshake = settings.connect_timeout;
}

pub(crate) fn options(addr: &str, attempt: &Attempt, node: &str, settings: &Settings) -> DealerOptions {
    let security = ServerSecurity::Curve { key: attempt.own.clone(), server: attempt.server };
    let mut options = DealerOptions::new(format!("to-{node}"), addr, security);
    (options.reconnect, options.reconnect_max) = (AGAIN, AGAIN);
    set(&mut options.socket, settings);
    options
}

/// Runs until the connection fails, ends, or `stop` goes.
pub(crate) async fn run(
    link: Arc<Link>,
    options: DealerOptions,
    conn: Conn,
    told: mpsc::Sender<(Conn, Told)>,
    mut stop: oneshot::Receiver<()>,
) {
    let mut dealer = match link.dealer(options).await {
        Ok(dealer) => dealer,
        Err(error) => return drop(told.send((conn, Told::Unreachable(error.to_string()))).await),
    };
    let mut events = dealer.events();
    let mut since = Some(Instant::now());
    if told.send((conn, Told::Opened(dealer.sender()))).await.is_err() {
        return;
    }
    // What happened before events were listened to.
    let mut news = missed(&dealer);
    loop {
        if let Some(kind) = news.take() {
            let is_up = matches!(kind, Told::Connected);
            if told.send((conn, kind)).await.is_err() || !is_up {
                break;
            }
            since = None;
        }
        let mut frames = Vec::new();
        tokio::select! {
            biased;
            _ = &mut stop => break,
            event = events.recv() => news = match event {
                Ok(event) => judge(&event.kind, since),
                Err(broadcast::error::RecvError::Lagged(_)) => missed(&dealer),
                Err(broadcast::error::RecvError::Closed) => Some(Told::Ended),
            },
            count = dealer.recv_many(&mut frames) => {
                if count == 0 {
                    news = Some(Told::Ended);
                } else if told.send((conn, Told::Frames(frames))).await.is_err() {
                    break;
                }
            }
        }
    }
    dealer.close(LAST_WORDS).await;
}

fn missed(dealer: &Dealer) -> Option<Told> {
    let counted = dealer.counters();
    if counted.disconnected > 0 {
        Some(Told::Ended)
    } else if counted.handshake_failed_auth > 0 {
        Some(Told::Keys(KeyTrouble::OursRefused))
    } else if counted.handshake_failed_other + counted.handshake_failed_protocol > 0 {
        Some(Told::Keys(KeyTrouble::TheirsDiffers))
    } else {
        (counted.connected > 0).then_some(Told::Connected)
    }
}

/// What an event means for a connection that is being made since then, or that stands.
fn judge(kind: &EventKind, since: Option<Instant>) -> Option<Told> {
    match kind {
        EventKind::Connected => Some(Told::Connected),
        EventKind::Disconnected => Some(Told::Ended),
        EventKind::HandshakeFailed(HandshakeFailure::Auth { .. }) => {
            Some(Told::Keys(KeyTrouble::OursRefused))
        }
        EventKind::HandshakeFailed(HandshakeFailure::MechanismMismatch) => {
            Some(Told::Keys(KeyTrouble::NoCurve))
        }
        EventKind::HandshakeFailed(_) => Some(Told::Keys(KeyTrouble::TheirsDiffers)),
        EventKind::Retried { .. } if since.is_some_and(|since| since.elapsed() > INSIST) => {
            Some(Told::Unreachable("nobody listens there, or it cannot be reached".to_owned()))
        }
        _ => None,
    }
}
