//! The thread that runs the rules over ZeroMQ.

mod clock;
pub(crate) mod dialer;
mod keys;
mod listener;
mod shared;
mod turn;

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering::SeqCst;
use std::time::{Duration, Instant};

use tokio::sync::{mpsc, oneshot};
use zmq_link::{
    DealerSender, Incoming, KeyPair, Link, LinkError, PeerId, PublicKey, RouterOptions, RouterSender,
    Security,
};

use crate::core::{Conn, DialFailure, Time};
use crate::driver::dialer::{KeyTrouble, Told};
use crate::driver::listener::{Heard, Rebind};
use crate::error::ClusterError;
use crate::event::{Event, Level, LogLine};
use crate::identity::Attempt;

pub(crate) use keys::Keys;
pub(crate) use shared::Shared;

/// Batches from sockets that wait for the driver.
const BATCHES: usize = 64;
/// What is sent last has so long to leave.
const LINGER: Duration = Duration::from_millis(500);
/// After an end of some inbound connection, when all are probed.
const PROBES: [Duration; 3] = [Duration::ZERO, Duration::from_millis(8), Duration::from_millis(25)];
/// Refused connections of one host are told this often.
const TELL_REFUSED: Duration = Duration::from_secs(1);

/// What the application asks of the driver beside the rules.
#[derive(Debug)]
pub(crate) enum Command {
    Listen(String, oneshot::Sender<Result<String, ClusterError>>),
    /// The listening end's pair may have changed.
    Rekey(oneshot::Sender<Result<(), ClusterError>>),
    Shutdown {
        drain: Duration,
    },
}

/// A connection in use.
#[derive(Debug)]
enum Line {
    /// Made by us. Dropping `stop` closes it.
    Dialed {
        node: Arc<str>,
        keys: Attempt,
        addr: String,
        sender: Option<DealerSender>,
        _stop: oneshot::Sender<()>,
    },
    /// Made by the peer.
    Accepted { id: PeerId, key: Option<PublicKey> },
}

/// The listening end.
#[derive(Debug)]
struct Listening {
    sender: RouterSender,
    rebinds: mpsc::Sender<Rebind>,
    serves: KeyPair,
    address: String,
}

pub(crate) struct Driver {
    shared: Arc<Shared>,
    link: Arc<Link>,
    lines: HashMap<Conn, Line>,
    /// Who is behind a routing id: its connection, and the name that its key proved.
    accepted: HashMap<PeerId, (Conn, Arc<str>)>,
    listening: Option<Listening>,
    told: mpsc::Sender<(Conn, Told)>,
    heard: mpsc::Sender<Heard>,
    probes: Vec<Time>,
    /// Of the keys with which all links are allowed.
    keys_version: u64,
    refused: HashMap<String, Instant>,
    /// By when to stop waiting for acknowledgements.
    ends_by: Option<Instant>,
}

impl Driver {
    /// Runs the driver on a thread of its own until it is told to end.
    pub(crate) fn start(shared: Arc<Shared>, link: Link) -> std::io::Result<mpsc::UnboundedSender<Command>> {
        let (commands, asked) = mpsc::unbounded_channel();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build()?;
        let name = format!("cluster-{}", shared.name);
        std::thread::Builder::new().name(name).spawn(move || {
            runtime.block_on(Self::run(Arc::clone(&shared), link, asked));
            drop(runtime);
            shared.hub.close();
            shared.ended.store(true, SeqCst);
            shared.end.notify_waiters();
            shared.room.notify_waiters();
        })?;
        Ok(commands)
    }

    async fn run(shared: Arc<Shared>, link: Link, mut commands: mpsc::UnboundedReceiver<Command>) {
        let ((told, mut from_dialed), (heard, mut from_accepted)) =
            (mpsc::channel(BATCHES), mpsc::channel(BATCHES));
        let waker = shared.waker();
        let link = Arc::new(link);
        let mut driver = Self {
            shared,
            link,
            lines: HashMap::new(),
            accepted: HashMap::new(),
            listening: None,
            told,
            heard,
            probes: Vec::new(),
            keys_version: 0,
            refused: HashMap::new(),
            ends_by: None,
        };
        loop {
            waker.lower();
            let wait = driver.turn();
            if driver.is_done() {
                break;
            }
            tokio::select! {
                () = waker.called() => {}
                () = tokio::time::sleep(wait) => {}
                Some((conn, told)) = from_dialed.recv() => driver.on_told(conn, told),
                Some(heard) = from_accepted.recv() => driver.on_heard(heard),
                Some(command) = commands.recv() => driver.obey(command).await,
            }
            // Whatever else has come is taken in before the turn.
            for _ in 0..BATCHES {
                if let Ok((conn, told)) = from_dialed.try_recv() {
                    driver.on_told(conn, told);
                } else if let Ok(heard) = from_accepted.try_recv() {
                    driver.on_heard(heard);
                } else {
                    break;
                }
            }
        }
        drop((from_dialed, from_accepted));
        driver.end().await;
    }

    fn is_done(&self) -> bool {
        let Some(by) = self.ends_by else { return false };
        Instant::now() >= by || self.shared.core().unacknowledged() == 0
    }

    async fn end(mut self) {
        self.shared.core().stop(self.shared.clock.now());
        self.turn();
        self.lines.clear();
        self.listening = None;
        // Connections that were given up are sending their last words; the link closes when they are done.
        let by = Instant::now() + LINGER;
        let mut link = self.link;
        loop {
            match Arc::try_unwrap(link) {
                Ok(link) => {
                    link.close(LINGER).await;
                    return;
                }
                Err(_) if Instant::now() > by => return,
                Err(shared) => link = shared,
            }
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }

    async fn obey(&mut self, command: Command) {
        match command {
            Command::Listen(endpoint, reply) => {
                // Nobody waits any more: fine.
                let _ = reply.send(self.listen(endpoint).await);
            }
            Command::Rekey(reply) => self.rekey(reply),
            Command::Shutdown { drain } => {
                let by = Instant::now() + drain;
                self.ends_by = Some(self.ends_by.map_or(by, |earlier| earlier.min(by)));
            }
        }
    }

    async fn listen(&mut self, endpoint: String) -> Result<String, ClusterError> {
        if let Some(listening) = &self.listening {
            return Err(ClusterError::Listening(listening.address.clone()));
        }
        let (serves, allowed) = {
            let keys = self.shared.keys();
            (keys.serves()?, keys.allowed())
        };
        let security = Security::Curve { key: serves.clone(), allowed };
        let mut options = RouterOptions::new(format!("cluster-{}", self.shared.name), endpoint, security);
        dialer::set(&mut options.socket, self.shared.core().settings());
        let router = self.link.router(options).await?;
        let address = router.endpoint().to_owned();
        let (rebinds, asked) = mpsc::channel(1);
        self.listening =
            Some(Listening { sender: router.sender(), rebinds, serves, address: address.clone() });
        let events = router.events();
        tokio::spawn(listener::run(router, events, self.heard.clone(), asked));
        Ok(address)
    }

    /// Listens with the pair that is right now.
    fn rekey(&mut self, reply: oneshot::Sender<Result<(), ClusterError>>) {
        let serves = match self.shared.keys().serves() {
            Ok(serves) => serves,
            Err(error) => return drop(reply.send(Err(error.into()))),
        };
        let Some(listening) = self.listening.as_mut() else { return drop(reply.send(Ok(()))) };
        if listening.serves.public() == serves.public() {
            return drop(reply.send(Ok(())));
        }
        listening.serves = serves.clone();
        let rebinds = listening.rebinds.clone();
        tokio::spawn(async move {
            let (told, outcome) = oneshot::channel();
            let asked = rebinds.send((serves, told)).await.is_ok();
            let outcome =
                if asked { outcome.await.unwrap_or(Err(LinkError::Closed)) } else { Err(LinkError::Closed) };
            // Nobody waits any more: fine.
            let _ = reply.send(outcome.map_err(Into::into));
        });
    }

    // --- news from sockets

    fn on_told(&mut self, conn: Conn, told: Told) {
        let now = self.shared.clock.now();
        let Some(Line::Dialed { node, keys, addr, sender, .. }) = self.lines.get_mut(&conn) else { return };
        match told {
            Told::Opened(opened) => *sender = Some(opened),
            Told::Connected => self.shared.core().connected(conn),
            Told::Frames(frames) => {
                let mut core = self.shared.core();
                for frame in frames.into_iter().filter_map(|incoming| incoming.message.into_frames().next()) {
                    core.received(conn, frame, now);
                }
            }
            Told::Unreachable(why) => {
                let why = format!("{addr}: {why}");
                self.shared.core().dial_failed(conn, DialFailure::Unreachable(why), now);
            }
            Told::Keys(trouble) => {
                let more = self.shared.keys().try_next(node);
                let why = format!("{addr}: {} (our key is {})", sentence(trouble), keys.own.public().id());
                let failure = if more { DialFailure::TryNext } else { DialFailure::Denied(why) };
                self.shared.core().dial_failed(conn, failure, now);
            }
            Told::Ended => self.shared.core().disconnected(conn, now),
        }
    }

    fn on_heard(&mut self, heard: Heard) {
        let now = self.shared.clock.now();
        match heard {
            Heard::Frames(frames) => self.on_frames(frames, now),
            Heard::SomeoneLeft => self.probes.extend(PROBES.map(|after| now + after)),
            Heard::Gone(id) => {
                if let Some((conn, _)) = self.accepted.get(&id) {
                    self.shared.core().disconnected(*conn, now);
                }
            }
            Heard::Refused(event) => self.on_refused(&event),
        }
    }

    fn on_frames(&mut self, frames: Vec<Incoming>, now: Time) {
        let mut core = self.shared.core();
        for Incoming { from, message } in frames {
            let (Some(name), Some(frame)) = (from.name.as_ref(), message.into_frames().next()) else {
                continue;
            };
            // A routing id proves nothing: the name that the key of this very connection proved has to be the same.
            let known = self.accepted.get(&from.id).filter(|(_, known)| known == name).map(|(conn, _)| *conn);
            let conn = match known {
                Some(conn) => conn,
                None => {
                    let Some(conn) = core.accepted(name) else { continue };
                    if let Some((old, _)) = self.accepted.insert(from.id.clone(), (conn, Arc::clone(name))) {
                        self.lines.remove(&old);
                        core.disconnected(old, now);
                    }
                    self.lines.insert(conn, Line::Accepted { id: from.id.clone(), key: from.key });
                    conn
                }
            };
            core.received(conn, frame, now);
        }
    }

    fn on_refused(&mut self, event: &zmq_link::Event) {
        self.shared.denied.fetch_add(1, SeqCst);
        let peer = event.peer.clone().unwrap_or_else(|| "an unknown address".to_owned());
        let host = peer.rsplit_once(':').map_or(peer.as_str(), |(host, _)| host).to_owned();
        let at = Instant::now();
        self.refused.retain(|_, told| at.duration_since(*told) < TELL_REFUSED);
        if self.refused.contains_key(&host) {
            return;
        }
        self.refused.insert(host, at);
        let own = self.listening.as_ref().map(|listening| listening.serves.public().id().to_string());
        let why = refusal(&event.kind);
        let message = format!("refused {peer}: {why} (our key is {})", own.unwrap_or_default());
        self.shared.hub.tell(vec![Event::Log(LogLine { level: Level::Warn, message })]);
    }
}

/// What is wrong, as far as the dialing end can tell.
pub(crate) fn sentence(trouble: KeyTrouble) -> &'static str {
    match trouble {
        KeyTrouble::OursRefused => {
            "the peer refuses our key: the secret is the right one, but this node is not configured there under its name"
        }
        KeyTrouble::TheirsDiffers => {
            "the peer hung up in the handshake: it has another secret or key, or another node listens there"
        }
        KeyTrouble::NoCurve => "what listens there does not encrypt as a node does",
    }
}

fn refusal(kind: &zmq_link::EventKind) -> String {
    use zmq_link::EventKind::{AcceptFailed, HandshakeFailed};
    use zmq_link::HandshakeFailure::{Auth, MechanismMismatch, NoDetail, Protocol, WrongServerKey};
    match kind {
        HandshakeFailed(Auth { key: Some(key) }) => {
            format!(
                "its key {key} is that of no configured node: another secret, or a node that is not configured"
            )
        }
        HandshakeFailed(Auth { key: None }) => "its key is that of no configured node".to_owned(),
        HandshakeFailed(WrongServerKey) => {
            "it expects another key here: it has another secret, or means another node".to_owned()
        }
        HandshakeFailed(MechanismMismatch) => "it does not encrypt as a node does".to_owned(),
        HandshakeFailed(Protocol(code)) => format!("it does not speak as ZeroMQ does (code {code:#x})"),
        HandshakeFailed(NoDetail { error }) => format!("it ended before it was made: {error}"),
        AcceptFailed { error } => format!("it could not be accepted: {error}"),
        _ => String::new(),
    }
}
