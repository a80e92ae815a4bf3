//! The servers as Exhibitor knows them.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use http_fetch::url::shown_host;
use http_fetch::{Fetch, Limits};
use serde::Deserialize;

use crate::error::Error;

/// How often it is asked while all is well, so that a list is known when both Exhibitor and a server go away.
const EVERY: Duration = Duration::from_secs(30);
/// How soon it is asked again while the servers that it named do not answer.
const SOON: Duration = Duration::from_secs(1);
/// A list of a thousand hosts is a tenth of it.
const LARGEST: usize = 1 << 20;

/// `{"servers":["10.0.0.1","10.0.0.2"],"port":2181}`.
#[derive(Deserialize)]
struct List {
    servers: Vec<String>,
    port: u16,
}

/// Asks, and remembers the last list that was one.
#[derive(Debug)]
pub(super) struct Exhibitor {
    url: String,
    shown: String,
    fetch: Fetch,
    timeout: Duration,
    known: Mutex<Known>,
}

#[derive(Debug, Default)]
struct Known {
    servers: Option<String>,
    asked: Option<Instant>,
}

impl Exhibitor {
    pub(super) fn new(url: &str, shown: &str, timeout: Duration) -> Result<Self, Error> {
        let limits = Limits { body: LARGEST, ..Limits::default() };
        let fetch = Fetch::new(None, limits)
            .map_err(|error| Error::Url { url: shown.to_owned(), what: error.to_string() })?;
        Ok(Self { url: url.to_owned(), shown: shown.to_owned(), fetch, timeout, known: Mutex::default() })
    }

    /// The last list, as ZooKeeper's clients write it; none yet.
    pub(super) fn known(&self) -> Option<String> {
        self.lock().servers.clone()
    }

    /// Asks for the list now.
    pub(super) async fn ask(&self) -> Result<String, Error> {
        self.lock().asked = Some(Instant::now());
        let list = self.list().await?;
        self.lock().servers = Some(list.clone());
        Ok(list)
    }

    /// Asks in the background, unless that was done lately.
    pub(super) fn ask_sometimes(self: &Arc<Self>, connected: bool) {
        let pause = if connected { EVERY } else { SOON };
        {
            let mut known = self.lock();
            if known.asked.is_some_and(|asked| asked.elapsed() < pause) {
                return;
            }
            known.asked = Some(Instant::now());
        }
        let this = Arc::clone(self);
        tokio::spawn(async move {
            if let Err(error) = this.ask().await {
                tracing::debug!(%error, "the list of servers stays as it was");
            }
        });
    }

    async fn list(&self) -> Result<String, Error> {
        let bad = |what: String| Error::BadResponse { backend: self.shown.clone(), what };
        let request = http::Request::get(&self.url).header("Accept", "application/json");
        let request = request
            .body(Default::default())
            .map_err(|error| Error::Url { url: self.shown.clone(), what: error.to_string() })?;
        let answer = self.fetch.send(request, self.timeout).await.map_err(|error| Error::Disconnected {
            backend: self.shown.clone(),
            what: format!("asking for the servers: {error}"),
        })?;
        if answer.status != 200 {
            return Err(bad(format!("{}: {}", answer.status, answer.excerpt())));
        }
        let list: List = serde_json::from_slice(&answer.body)
            .map_err(|error| bad(format!("no list of servers ({error}): {}", answer.excerpt())))?;
        if list.servers.is_empty() {
            return Err(Error::NoServers { backend: self.shown.clone() });
        }
        let sound = |host: &String| !host.is_empty() && !host.contains([',', '/', ' ']);
        if list.port == 0 || !list.servers.iter().all(sound) {
            return Err(bad(format!("no list of hosts and a port: {}", answer.excerpt())));
        }
        // In one order, so that the same servers are the same list.
        let mut hosts: Vec<_> = list.servers.into_iter().map(|host| shown_host(&(host, list.port))).collect();
        hosts.sort();
        hosts.dedup();
        Ok(hosts.join(","))
    }

    fn lock(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
