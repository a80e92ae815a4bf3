//! The one session that all records and watches of a backend share: made when first needed, and anew once it is over.

use std::fmt;
use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use supervise::Boottime;
use tokio::sync::Mutex;
use tokio::time::timeout;
use zookeeper_client as zk;
use zookeeper_client::{Client, SessionInfo, SessionState};

use super::address::{Address, Place};
use super::exhibitor::Exhibitor;
use crate::error::Error;
use crate::options::Options;

/// The longest session that is asked for: the protocol counts milliseconds in 31 bits, and servers give less anyway.
const LONGEST: Duration = Duration::from_hours(24);

/// How long a request waits for a link that was lost.
const RECONNECT: Duration = Duration::from_millis(500);

/// How many servers the client is given at least.
const TRIES: usize = 20;

/// The same servers, as often as it takes to make enough of them.
///
/// The client pauses half a second in the mean between tries, but doubles the first pause of each round over its list, from one second
/// on and without a bound. With one server, it would sleep through half of each outage. So its rounds are made long.
fn several_times(servers: &str) -> String {
    let count = servers.split(',').count();
    vec![servers; TRIES.div_ceil(count)].join(",")
}

/// A connection, or what tries to be one again.
#[derive(Clone, Debug)]
pub(super) struct Attached {
    pub(super) client: Client,
    /// Counts dials; watches belong to one.
    pub(super) nth: u64,
    servers: String,
}

impl Attached {
    /// Until when the session surely lasts after a request was sent at `sent`, went through the leader, and was answered.
    ///
    /// A leader counts the session's time from the last sign of life that a follower relayed to it. Signs of life are at most
    /// 3/20 of the time apart (the pings of an idle client). Relays are half a tick apart, and no session is shorter than two
    /// ticks, so that is a quarter at most. Whatever the follower heard after its last relay is lost when it dies.
    pub(super) fn until(&self, sent: Boottime) -> Boottime {
        sent + self.client.session_timeout() * 6 / 10
    }
}

/// How a session is found or made.
pub(super) struct Sessions {
    shown: String,
    place: Servers,
    asked: Duration,
    timeout: Duration,
    current: Mutex<Option<Attached>>,
    dials: AtomicU64,
    /// In milliseconds; 0: not known yet.
    negotiated: AtomicU64,
}

enum Servers {
    Fixed(String),
    Told(Arc<Exhibitor>),
}

impl fmt::Debug for Sessions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sessions").field("of", &self.shown).finish_non_exhaustive()
    }
}

impl Sessions {
    pub(super) fn new(address: &Address, options: &Options) -> Result<Self, Error> {
        let place = match &address.place {
            Place::Servers(servers) => Servers::Fixed(servers.clone()),
            Place::Exhibitor(url) => {
                Servers::Told(Arc::new(Exhibitor::new(url, &address.shown, options.timeout / 2)?))
            }
        };
        Ok(Self {
            shown: address.shown.clone(),
            place,
            asked: options.ttl.min(LONGEST),
            timeout: options.timeout,
            current: Mutex::default(),
            dials: AtomicU64::new(0),
            negotiated: AtomicU64::new(0),
        })
    }

    pub(super) fn address(&self) -> &str {
        &self.shown
    }

    /// What was asked for, and what the servers gave, once that is known.
    pub(super) fn times(&self) -> (Duration, Option<Duration>) {
        let given = self.negotiated.load(Ordering::Relaxed);
        (self.asked, (given > 0).then(|| Duration::from_millis(given)))
    }

    /// The session, connected; made if there is none or it is over.
    ///
    /// Nothing is asked of a disconnected one but to connect again: its requests would be kept and done later, when nobody waits for
    /// them any more.
    pub(super) async fn attached(&self) -> Result<Attached, Error> {
        let attached = timeout(self.timeout, self.attach()).await.map_err(|_| self.silent())??;
        let mut link = attached.client.state_watcher();
        let connected = async {
            let mut state = link.peek_state();
            while state != SessionState::SyncConnected && !state.is_terminated() {
                state = link.changed().await;
            }
            state
        };
        match timeout(RECONNECT.min(self.timeout), connected).await {
            Ok(SessionState::SyncConnected) => Ok(attached),
            Ok(_) => Err(self.disconnected("the session is over")),
            Err(_) => match timeout(self.timeout, self.moved(&attached)).await {
                Ok(Some(moved)) => Ok(moved),
                Ok(None) => Err(self.disconnected(format!("none of {} answers", attached.servers))),
                Err(_) => Err(self.silent()),
            },
        }
    }

    /// One request. A node that is not there is no error, but none.
    pub(super) async fn ask<T, E: Into<zk::Error>>(
        &self,
        request: impl Future<Output = Result<T, E>>,
    ) -> Result<Option<T>, Error> {
        match timeout(self.timeout, request).await {
            Ok(Ok(answer)) => Ok(Some(answer)),
            Ok(Err(error)) => match error.into() {
                zk::Error::NoNode => Ok(None),
                error => Err(self.told(&error)),
            },
            Err(_) => Err(self.silent()),
        }
    }

    pub(super) fn disconnected(&self, what: impl Into<String>) -> Error {
        Error::Disconnected { backend: self.shown.clone(), what: what.into() }
    }

    fn silent(&self) -> Error {
        Error::Silent { backend: self.shown.clone(), within: self.timeout }
    }

    /// An error of the client's as one of ours.
    pub(super) fn told(&self, error: &zk::Error) -> Error {
        use zk::Error as Zk;
        let backend = self.shown.clone();
        match error {
            Zk::NoAuth | Zk::AuthFailed | Zk::InvalidAcl | Zk::BadArguments(_) | Zk::QuotaExceeded => {
                Error::Refused { backend, what: error.to_string() }
            }
            Zk::Unimplemented => {
                Error::Refused { backend, what: "it is older than 3.6, which this needs".to_owned() }
            }
            Zk::UnmarshalError { .. }
            | Zk::UnexpectedError(_)
            | Zk::UnexpectedErrorCode(_)
            | Zk::MarshallingError => Error::BadResponse { backend, what: error.to_string() },
            _ => Error::Disconnected { backend, what: error.to_string() },
        }
    }

    async fn attach(&self) -> Result<Attached, Error> {
        let mut current = self.current.lock().await;
        if let Some(attached) = current.as_ref() {
            let state = attached.client.state();
            if let Servers::Told(exhibitor) = &self.place {
                exhibitor.ask_sometimes(state == SessionState::SyncConnected);
            }
            if !state.is_terminated() {
                return Ok(attached.clone());
            }
            // Over: its records go with it, and those who hold them see that by its number.
            *current = None;
        }
        let attached = self.begin().await?;
        *current = Some(attached.clone());
        Ok(attached)
    }

    /// Takes the session to other servers, when Exhibitor names others than those that it is tried on in vain.
    ///
    /// Not at once: the client left behind goes on trying for a while, and two that both find a server take the session from each other.
    async fn moved(&self, from: &Attached) -> Option<Attached> {
        let Servers::Told(exhibitor) = &self.place else { return None };
        let servers = exhibitor.known().filter(|servers| *servers != from.servers)?;
        let mut current = self.current.lock().await;
        if current.as_ref().is_none_or(|current| current.nth != from.nth) {
            // Somebody else was faster.
            return current.clone();
        }
        let client = self.dial(&servers, Some(from.client.session().clone())).await.ok()?;
        let moved = self.noted(client, servers);
        *current = Some(moved.clone());
        Some(moved)
    }

    async fn begin(&self) -> Result<Attached, Error> {
        let (servers, doubt) = match &self.place {
            Servers::Fixed(servers) => (servers.clone(), None),
            Servers::Told(exhibitor) => match exhibitor.ask().await {
                Ok(servers) => (servers, None),
                // Servers outlive their supervisor: those it named before may do.
                Err(error) => (exhibitor.known().ok_or_else(|| error.clone())?, Some(error)),
            },
        };
        match self.dial(&servers, None).await {
            Ok(client) => Ok(self.noted(client, servers)),
            Err(error) => Err(doubt.unwrap_or_else(|| match error {
                zk::Error::NoHosts | zk::Error::Timeout | zk::Error::ConnectionLoss => {
                    self.disconnected(format!("none of {servers} gave a session"))
                }
                error => self.told(&error),
            })),
        }
    }

    async fn dial(&self, servers: &str, session: Option<SessionInfo>) -> Result<Client, zk::Error> {
        // Detached: a client that is only dropped must look like a process that died, and not end records before the
        // instant that their holders were told. Eager: one round over the servers, and whoever asks decides about the next.
        let connector = Client::connector()
            .with_session_timeout(self.asked)
            .with_connection_timeout((self.asked * 2 / 5).min(self.timeout / 2))
            .with_detached()
            .with_fail_eagerly();
        let servers = several_times(servers);
        match session {
            Some(session) => connector.with_session(session).connect(&servers).await,
            None => connector.connect(&servers).await,
        }
    }

    fn noted(&self, client: Client, servers: String) -> Attached {
        let given = client.session_timeout();
        self.negotiated.store(u64::try_from(given.as_millis()).unwrap_or(u64::MAX), Ordering::Relaxed);
        let nth = self.dials.fetch_add(1, Ordering::Relaxed) + 1;
        tracing::debug!(backend = %self.shown, session = %client.session_id(), ?given, "session");
        if nth == 1 && given != self.asked {
            let asked = self.asked;
            tracing::info!(backend = %self.shown, ?given, ?asked, "the servers' minSessionTimeout or maxSessionTimeout decides how long sessions last");
        }
        Attached { client, nth, servers }
    }
}
