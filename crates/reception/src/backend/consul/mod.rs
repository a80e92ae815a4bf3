//! Services of a Consul agent, lists by health, elections by session locks. `docs/design/reception-consul.md` has the guarantees.
//!
//! | what | where |
//! | --- | --- |
//! | a record | a service of the agent: id, name, address, port; its first tag is its attributes as JSON |
//! | its check | `service:ID` |
//! | who leads | the key `[PREFIX/]service/NAME/leader`, locked by the leader's session; its value is the candidate as JSON |

mod blocking;
mod candidate;
mod health;
mod presence;
mod record;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use consul_client::blocking::Cursor;
use consul_client::{Consistency, Consul, ConsulError, ConsulUrl, Limits, Query, Reply};
use http_fetch::FetchError;
use tokio::sync::OnceCell;

use self::blocking::Blocking;
use self::candidate::Candidate;
use self::health::HealthServer;
use self::presence::Registered;
use super::connections::Connections;
use super::{Backend, BackendFuture, Bounds, Candidacy, Leader, Names, Presence, Source};
use crate::error::Error;
use crate::options::{ConsulCheck, Options};
use crate::service::{Name, Scope, Service, Snapshot};

/// Consul takes no session with a shorter TTL.
const SHORTEST_TTL: Duration = Duration::from_secs(10);
/// Nor one with a longer lock delay.
const LONGEST_LOCK_DELAY: Duration = Duration::from_secs(60);
/// How long one blocking query waits for a change. A server keeps one that was given up for as long, and counts
/// it as one of the 200 connections that an address may have.
const WAITS: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(10));
/// How long a change of the agent's records takes to be seen in lists, at most, while all is well.
const SPREAD: Duration = Duration::from_millis(500);

/// Opens Consul's agent at this address; nothing is connected yet.
///
/// # Errors
/// [`Error::Url`], and [`Error::IllegalHost`] for a health server that nobody could reach.
pub fn dial(url: &str, options: &Options) -> Result<Arc<dyn Backend>, Error> {
    let mut parsed =
        ConsulUrl::parse(url, "").map_err(|error| Error::Url { url: error.url, what: error.what })?;
    if let Some(prefix) = &options.prefix {
        parsed.prefix.clone_from(prefix);
    }
    if let ConsulCheck::Own { host, .. } = &options.consul.check
        && (host.is_empty()
            || host.contains(|c: char| c.is_whitespace() || c.is_control() || "/?#@".contains(c)))
    {
        return Err(Error::IllegalHost { host: host.clone() });
    }
    let config = parsed.config(options.timeout, Limits { connect: options.timeout, ..Limits::default() });
    let wrong = |error: ConsulError| Error::Url { url: parsed.to_string(), what: error.to_string() };
    let client = Consul::new(config.clone()).map_err(wrong)?;
    let connections = Connections::new(client, Box::new(move || Consul::new(config.clone()).ok()));
    let store = Store { connections, url: parsed, options: options.clone(), health: OnceCell::new() };
    Ok(Arc::new(ConsulBackend(Arc::new(store))))
}

struct ConsulBackend(Arc<Store>);

/// What all records, candidates and watches of one address share.
struct Store {
    connections: Connections<Consul>,
    url: ConsulUrl,
    options: Options,
    /// One for all records, as its port is one.
    health: OnceCell<HealthServer>,
}

impl fmt::Debug for ConsulBackend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ConsulBackend({})", self.0.url)
    }
}

impl Backend for ConsulBackend {
    fn address(&self) -> String {
        self.0.url.to_string()
    }

    fn problems(&self) -> Vec<String> {
        let Options { ttl, consul, .. } = &self.0.options;
        let mut problems = Vec::new();
        if *ttl < SHORTEST_TTL {
            problems.push(format!("a ttl of {ttl:?} is too short: Consul's sessions last 10s at least"));
        }
        if consul.lock_delay > LONGEST_LOCK_DELAY {
            problems.push(format!(
                "a lock delay of {:?} is too long: Consul's is 60s at most",
                consul.lock_delay
            ));
        }
        problems
    }

    fn bounds(&self) -> Bounds {
        let Options { ttl, consul, .. } = &self.0.options;
        let delay = consul.lock_delay;
        let (check, unseen) = match consul.check {
            ConsulCheck::Ttl => (*ttl, format!("its check is critical {ttl:?} after its last word")),
            ConsulCheck::Http(_) | ConsulCheck::Own { .. } => {
                let (interval, timeout) = (consul.check_interval, consul.check_timeout);
                (interval + timeout, format!("its check is asked every {interval:?}, for {timeout:?}"))
            }
        };
        Bounds {
            instance: check + SPREAD,
            leader: 2 * *ttl + delay,
            because: format!(
                "an instance: {unseen}, and lists show it within {SPREAD:?}; a leader: its session ends after the ttl of {ttl:?} \
                 at the earliest and twice that at the latest, then the lock delay of {delay:?} begins"
            ),
        }
    }

    fn list<'a>(&'a self, name: &'a Name, scope: Scope) -> BackendFuture<'a, Result<Snapshot, Error>> {
        Box::pin(async move {
            let passing = scope == Scope::Passing;
            let ask = async |consul: Consul| {
                consul.health_service(name.as_str(), passing, Query::consistent()).await
            };
            let reply = self.0.fresh(self.0.ask(ask).await?)?;
            Ok(record::snapshot(name, reply.value))
        })
    }

    fn names(&self) -> BackendFuture<'_, Result<Names, Error>> {
        Box::pin(async move {
            let ask = async |consul: Consul| consul.catalog_services(Query::consistent()).await;
            let reply = self.0.fresh(self.0.ask(ask).await?)?;
            Ok(record::names(reply.value))
        })
    }

    fn leader<'a>(&'a self, name: &'a Name) -> BackendFuture<'a, Result<Option<Leader>, Error>> {
        Box::pin(self.0.leader(name))
    }

    fn watch(&self, name: &Name) -> Box<dyn Source<Snapshot>> {
        let (store, name) = (self.0.clone(), name.clone());
        let passing = Blocking::new(self.0.clone(), move |query| {
            let (store, name) = (store.clone(), name.clone());
            Box::pin(async move {
                let reply = store.connections.client().health_service(name.as_str(), true, query).await;
                let reply = store.fresh(reply.map_err(|error| store.failed(error))?)?;
                Ok((reply.index, record::snapshot(&name, reply.value)))
            })
        });
        Box::new(passing)
    }

    fn watch_names(&self) -> Box<dyn Source<Names>> {
        let store = self.0.clone();
        let all = Blocking::new(self.0.clone(), move |query| {
            let store = store.clone();
            Box::pin(async move {
                let reply = store.connections.client().catalog_services(query).await;
                let reply = store.fresh(reply.map_err(|error| store.failed(error))?)?;
                Ok((reply.index, record::names(reply.value)))
            })
        });
        Box::new(all)
    }

    fn register(&self, service: &Service) -> Box<dyn Presence> {
        Box::new(Registered::new(self.0.clone(), service))
    }

    fn candidate(&self, service: &Service) -> Box<dyn Candidacy> {
        Box::new(Candidate::new(self.0.clone(), service))
    }
}

impl Store {
    fn address(&self) -> String {
        self.url.to_string()
    }

    /// A request that is answered at once.
    async fn ask<T>(&self, request: impl AsyncFnOnce(Consul) -> Result<T, ConsulError>) -> Result<T, Error> {
        let result = self.connections.ask(request, is_silent).await;
        result.map_err(|error| self.failed(error))
    }

    /// A reply that shows the newest state, or an error: an old one is no truth, least of all an empty list.
    fn fresh<T>(&self, reply: Reply<T>) -> Result<Reply<T>, Error> {
        if !reply.is_stale() {
            return Ok(reply);
        }
        let what = "the answering server is out of touch with the leader of its datacenter".to_owned();
        Err(Error::Disconnected { backend: self.address(), what })
    }

    fn failed(&self, error: ConsulError) -> Error {
        let backend = self.address();
        match error {
            ConsulError::NoAnswer { source: FetchError::Silent { within }, .. } => {
                Error::Silent { backend, within }
            }
            ConsulError::Answer { .. } => Error::BadResponse { backend, what: error.to_string() },
            ConsulError::Denied { .. } | ConsulError::Refused { status: 400, .. } => {
                Error::Refused { backend, what: error.to_string() }
            }
            ConsulError::Config(what) => Error::Url { url: backend, what },
            ConsulError::Name(_) => Error::Illegal(error.to_string()),
            // Among them a server without a leader, which says so by a 500.
            ConsulError::NoAnswer { .. } | ConsulError::Refused { .. } => {
                Error::Disconnected { backend, what: error.to_string() }
            }
        }
    }

    /// A series of blocking queries. A link that is dead is noticed within the ttl, as long as that leaves room for a time-out.
    fn cursor(&self) -> Cursor {
        let Options { ttl, timeout, .. } = &self.options;
        // The server adds up to a sixteenth.
        let wait = ttl.saturating_sub(*timeout) * 15 / 16;
        Cursor::new(wait.clamp(WAITS.0, WAITS.1)).consistency(Consistency::Consistent)
    }
}

fn is_silent(error: &ConsulError) -> bool {
    matches!(error, ConsulError::NoAnswer { source: FetchError::Silent { .. }, .. })
}
