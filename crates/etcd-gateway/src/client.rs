//! The client itself: endpoints in turn, within one time limit.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use http::Request;
use http_fetch::{Answer, Fetch, FetchError, Limits, Lines, Tls};
use serde::Deserialize;
use serde::de::DeserializeOwned;

use crate::error::EtcdError;

/// gRPC's numbers for what another endpoint may do better: unavailable, deadline exceeded, cancelled.
const TRY_ANOTHER: [u32; 3] = [14, 4, 1];

/// How to reach etcd.
#[derive(Clone, Debug)]
pub struct Config {
    /// `HOST:PORT` of the members' client addresses, IPv6 in brackets. At least one.
    pub endpoints: Vec<String>,
    /// With TLS.
    pub tls: Option<Tls>,
    /// The time of one request, over all endpoints.
    pub timeout: Duration,
    /// The sizes of answers.
    pub limits: Limits,
}

/// A client of an etcd cluster. Clones share connections, and which endpoint is asked first.
#[derive(Clone)]
pub struct Etcd {
    fetch: Fetch,
    config: Arc<(Option<Tls>, Limits)>,
    endpoints: Arc<[String]>,
    first: Arc<AtomicUsize>,
    timeout: Duration,
}

impl fmt::Debug for Etcd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Etcd({})", self.endpoints.join(","))
    }
}

#[derive(Deserialize)]
struct Refusal {
    #[serde(default)]
    error: String,
    #[serde(default)]
    code: u32,
}

impl Etcd {
    /// Checks the configuration; nothing is connected yet.
    ///
    /// # Errors
    /// [`EtcdError::Config`].
    pub fn new(config: Config) -> Result<Self, EtcdError> {
        let Config { endpoints, tls, timeout, limits } = config;
        if endpoints.is_empty() {
            return Err(EtcdError::Config("no endpoint is given".into()));
        }
        let scheme = if tls.is_some() { "https" } else { "http" };
        let endpoints: Arc<[String]> = endpoints.iter().map(|at| format!("{scheme}://{at}")).collect();
        for endpoint in endpoints.iter() {
            endpoint
                .parse::<http::Uri>()
                .map_err(|error| EtcdError::Config(format!("{endpoint}: {error}")))?;
        }
        let fetch = Fetch::new(tls.as_ref(), limits).map_err(|error| EtcdError::Config(error.to_string()))?;
        let config = Arc::new((tls, limits));
        Ok(Self { fetch, config, endpoints, first: Arc::default(), timeout })
    }

    /// The same client, which gives up a request after so long.
    pub fn timeout(&self, timeout: Duration) -> Self {
        Self { timeout, ..self.clone() }
    }

    /// A client with connections of its own, which go with its last clone. It shares which endpoint is asked first.
    ///
    /// # Errors
    /// [`EtcdError::Config`]: it was made from this configuration before, but the system's certificates may be
    /// gone.
    pub fn reconnected(&self) -> Result<Self, EtcdError> {
        let (tls, limits) = &*self.config;
        let fetch =
            Fetch::new(tls.as_ref(), *limits).map_err(|error| EtcdError::Config(error.to_string()))?;
        Ok(Self { fetch, ..self.clone() })
    }

    /// Sends a request to one endpoint after the other until one answers. The answering server's clock with it.
    pub(crate) async fn call<T: DeserializeOwned>(
        &self,
        doing: &'static str,
        path: &str,
        body: &serde_json::Value,
    ) -> Result<(T, Option<SystemTime>), EtcdError> {
        let mut turn = Turn::new(self, doing);
        while let Some((endpoint, within)) = turn.next() {
            let request = post(&endpoint, path, body)?;
            match self.fetch.send(request, within).await {
                Ok(answer) if answer.status.is_success() => {
                    turn.asking = false;
                    let read: T = read_json(doing, &answer)?;
                    return Ok((read, answer.date()));
                }
                Ok(answer) => {
                    let otherwise = format!("{}: {}", answer.status, answer.excerpt());
                    turn.refused(&answer.body, otherwise)?;
                }
                Err(error) => turn.failed(error.to_string()),
            }
        }
        Err(turn.over())
    }

    /// The same for a request whose answer does not end.
    pub(crate) async fn stream(
        &self,
        doing: &'static str,
        path: &str,
        body: &serde_json::Value,
    ) -> Result<Lines, EtcdError> {
        let mut turn = Turn::new(self, doing);
        while let Some((endpoint, within)) = turn.next() {
            match self.fetch.lines(post(&endpoint, path, body)?, within).await {
                Ok(lines) => {
                    turn.asking = false;
                    return Ok(lines);
                }
                Err(FetchError::Status { status, what }) => {
                    turn.refused(what.as_bytes(), format!("{status}: {what}"))?;
                }
                Err(error) => turn.failed(error.to_string()),
            }
        }
        Err(turn.over())
    }
}

/// One request on its way around the endpoints, each of which is asked once, for its share of the time.
struct Turn<'a> {
    etcd: &'a Etcd,
    doing: &'static str,
    at: usize,
    /// While the endpoint has not answered yet.
    asking: bool,
    failures: Vec<String>,
}

impl<'a> Turn<'a> {
    fn new(etcd: &'a Etcd, doing: &'static str) -> Self {
        Self { etcd, doing, at: 0, asking: false, failures: Vec::new() }
    }

    /// The endpoint to ask, and for how long; none when all have been asked.
    fn next(&mut self) -> Option<(String, Duration)> {
        let endpoints = &self.etcd.endpoints;
        if self.failures.len() == endpoints.len() {
            return None;
        }
        self.at = self.etcd.first.load(Ordering::Relaxed) % endpoints.len();
        let share = self.etcd.timeout / u32::try_from(endpoints.len()).unwrap_or(u32::MAX);
        self.asking = true;
        Some((endpoints[self.at].clone(), share))
    }

    /// The next endpoint is asked first from now on, unless another request has moved on already.
    fn move_on(&self) {
        let next = (self.at + 1) % self.etcd.endpoints.len();
        let _ = self.etcd.first.compare_exchange(self.at, next, Ordering::Relaxed, Ordering::Relaxed);
    }

    fn failed(&mut self, what: String) {
        self.asking = false;
        self.failures.push(format!("{}: {what}", self.etcd.endpoints[self.at]));
        self.move_on();
    }

    /// The end of it, but where another endpoint may do better.
    fn refused(&mut self, body: &[u8], otherwise: String) -> Result<(), EtcdError> {
        self.asking = false;
        match serde_json::from_slice::<Refusal>(body) {
            Ok(Refusal { error, code }) if !error.is_empty() && !TRY_ANOTHER.contains(&code) => {
                Err(EtcdError::Refused { doing: self.doing, what: error, code })
            }
            Ok(Refusal { error, .. }) if !error.is_empty() => {
                self.failed(error);
                Ok(())
            }
            // Not etcd's own word: a proxy's, perhaps.
            _ => {
                self.failed(otherwise);
                Ok(())
            }
        }
    }

    fn over(&self) -> EtcdError {
        EtcdError::NoAnswer { doing: self.doing, what: self.failures.join("; ") }
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        // Whoever asked had less patience than the endpoint was given: the next request is not to meet the same silence.
        if self.asking {
            self.move_on();
        }
    }
}

fn post(endpoint: &str, path: &str, body: &serde_json::Value) -> Result<Request<Bytes>, EtcdError> {
    Request::post(format!("{endpoint}{path}"))
        .header("content-type", "application/json")
        .body(Bytes::from(body.to_string()))
        .map_err(|error| EtcdError::Config(error.to_string()))
}

fn read_json<T: DeserializeOwned>(doing: &'static str, answer: &Answer) -> Result<T, EtcdError> {
    serde_json::from_slice(&answer.body)
        .map_err(|error| EtcdError::Answer { doing, what: format!("{error}: {}", answer.excerpt()) })
}
