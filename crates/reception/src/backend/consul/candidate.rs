//! Elections: whoever's session holds the lock on one key leads.

use std::sync::Arc;
use std::time::Duration;

use consul_client::blocking::Seen;
use consul_client::kv::{Change, Entry, Put};
use consul_client::session::{Behavior, NewSession};
use consul_client::{Consul, Query};
use serde::Deserialize;
use supervise::Boottime;
use tokio::time::Instant;

use super::Store;
use super::blocking::Blocking;
use crate::backend::{BackendFuture, Candidacy, Leader, Presence, Renewal, Standing, Tenure, Turn};
use crate::error::Error;
use crate::record;
use crate::service::{Name, Service};

/// How often a free lock that was refused is tried again. The lock delay of a session that ended is its maker's; ours is a guess.
const RETRY: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(1));

#[derive(Deserialize)]
struct Id {
    id: String,
}

impl Store {
    fn leader_key(&self, name: &Name) -> String {
        let slash = if self.url.prefix.is_empty() { "" } else { "/" };
        format!("{}{slash}service/{name}/leader", self.url.prefix)
    }

    pub(super) async fn leader(&self, name: &Name) -> Result<Option<Leader>, Error> {
        let (_, entry) = self.read_key(&self.leader_key(name)).await?;
        let Some(entry) = entry.filter(|entry| entry.session.is_some()) else { return Ok(None) };
        let id = serde_json::from_slice::<Id>(&entry.value).map(|read| read.id).unwrap_or_default();
        match record::decode(name, &id, &entry.value) {
            Some(service) if !id.is_empty() => Ok(Some(Leader { service, token: entry.modify_index })),
            _ => Err(Error::BadResponse {
                backend: self.address(),
                what: format!("{} is locked, and its value is no candidate", entry.key),
            }),
        }
    }

    async fn read_key(&self, key: &str) -> Result<(u64, Option<Entry>), Error> {
        let reply = self.ask(async |consul: Consul| consul.kv_get(key, Query::consistent()).await).await?;
        let reply = self.fresh(reply)?;
        Ok((reply.index, reply.value))
    }
}

pub(super) struct Candidate {
    store: Arc<Store>,
    service: Service,
    key: String,
    session: Option<String>,
    /// While it is known to hold the lock: the key's index when it got it.
    token: Option<u64>,
    watch: Blocking<Option<Entry>>,
    /// Since when a free lock is refused.
    refused: Option<Instant>,
    /// When it is asked for again.
    retry: Option<Instant>,
}

impl Candidate {
    pub(super) fn new(store: Arc<Store>, service: &Service) -> Self {
        let key = store.leader_key(&service.name);
        let (asks, of) = (store.clone(), key.clone());
        let watch = Blocking::new(store.clone(), move |query| {
            let (store, key) = (asks.clone(), of.clone());
            Box::pin(async move {
                let reply = store.connections.client().kv_get(&key, query).await;
                let reply = store.fresh(reply.map_err(|error| store.failed(error))?)?;
                Ok((reply.index, reply.value))
            })
        });
        Self {
            store,
            service: service.clone(),
            key,
            session: None,
            token: None,
            watch,
            refused: None,
            retry: None,
        }
    }

    fn value(&self) -> Vec<u8> {
        serde_json::to_vec(&self.service).expect("strings and a number are always JSON")
    }

    /// Asks for the lock, which nobody had a moment ago.
    async fn acquire(&mut self, session: String) -> Result<Standing, Error> {
        let lock = [Change::Lock { key: self.key.clone(), value: self.value(), session }];
        let made = self.store.ask(async |consul: Consul| consul.change(&lock).await).await?;
        if let Some(entry) = made.as_ref().and_then(|entries| entries.last()) {
            (self.token, self.refused) = (Some(entry.modify_index), None);
            return Ok(Standing::Leads(entry.modify_index));
        }
        let now = Instant::now();
        let refused_for = now - *self.refused.get_or_insert(now);
        let left = self.store.options.consul.lock_delay.saturating_sub(refused_for);
        self.retry = Some(now + left.clamp(RETRY.0, RETRY.1).mul_f64(1.0 + rand::random::<f64>() / 20.0));
        Ok(Standing::Waits)
    }

    fn forget(&mut self) {
        (self.session, self.token) = (None, None);
        (self.refused, self.retry) = (None, None);
    }
}

impl Presence for Candidate {
    fn enter(&mut self) -> BackendFuture<'_, Result<Tenure, Error>> {
        Box::pin(async move {
            let store = self.store.clone();
            if let Some(old) = &self.session {
                store.ask(async |consul: Consul| consul.destroy_session(old).await).await?;
            }
            self.forget();
            self.watch.restart();
            let Service { name, id, .. } = &self.service;
            let session = NewSession {
                name: format!("reception: {name}, {id}"),
                ttl: store.options.ttl,
                lock_delay: store.options.consul.lock_delay,
                behavior: Behavior::Release,
            };
            let sent = Boottime::now();
            let made = store.ask(async |consul: Consul| consul.create_session(&session).await).await?;
            self.session = Some(made.clone());
            let look = async |consul: Consul| consul.session_info(&made, Query::consistent()).await;
            let found = store.fresh(store.ask(look).await?)?.value;
            let gone = || Error::Disconnected {
                backend: store.address(),
                what: format!("the session {made} is gone right after it was made"),
            };
            let created = found.ok_or_else(gone)?.create_index;
            Ok(Tenure { created, until: sent + store.options.ttl })
        })
    }

    fn renew(&mut self) -> BackendFuture<'_, Result<Renewal, Error>> {
        Box::pin(async move {
            let Some(session) = self.session.clone() else {
                return Ok(Renewal::Lost("it has no session".to_owned()));
            };
            let sent = Boottime::now();
            let store = self.store.clone();
            if !store.ask(async |consul: Consul| consul.renew_session(&session).await).await? {
                self.forget();
                return Ok(Renewal::Lost(format!("the session {session} ended")));
            }
            if self.token.is_some() {
                let (_, entry) = store.read_key(&self.key).await?;
                if entry.and_then(|entry| entry.session) != Some(session) {
                    self.token = None;
                    return Ok(Renewal::Lost(format!("the lock on {} was taken away", self.key)));
                }
            }
            Ok(Renewal::Kept(sent + store.options.ttl))
        })
    }

    fn renew_every(&self) -> Duration {
        self.store.options.ttl / 3
    }

    fn alarm(&mut self) -> BackendFuture<'_, ()> {
        Box::pin(async move {
            if self.token.is_none() {
                return std::future::pending().await;
            }
            loop {
                match self.watch.answer().await {
                    Ok((_, entry))
                        if entry.as_ref().and_then(|entry| entry.session.as_ref())
                            == self.session.as_ref() => {}
                    Ok(_) => return,
                    // Whether the session stands is what the next renewal finds out.
                    Err(_) => tokio::time::sleep(RETRY.1).await,
                }
            }
        })
    }

    fn leave(&mut self) -> BackendFuture<'_, Result<(), Error>> {
        Box::pin(async move {
            if let Some(session) = self.session.clone() {
                let (store, value) = (self.store.clone(), self.value());
                // First: a session that ends with a lock on it has everybody wait for the lock delay.
                let release =
                    async |consul: Consul| consul.kv_put(&self.key, value, Put::Release(&session)).await;
                store.ask(release).await?;
                store.ask(async |consul: Consul| consul.destroy_session(&session).await).await?;
            }
            self.forget();
            Ok(())
        })
    }
}

impl Candidacy for Candidate {
    fn standing(&mut self) -> BackendFuture<'_, Result<Standing, Error>> {
        Box::pin(async move {
            let Some(session) = self.session.clone() else { return Ok(Standing::Waits) };
            let (index, entry) = self.store.read_key(&self.key).await?;
            self.watch.after(index);
            self.retry = None;
            let modified = entry.as_ref().map_or(0, |entry| entry.modify_index);
            match entry.and_then(|entry| entry.session) {
                // It may have got it by a request whose answer was lost.
                Some(holder) if holder == session => Ok(Standing::Leads(*self.token.get_or_insert(modified))),
                Some(_) => {
                    (self.token, self.refused) = (None, None);
                    Ok(Standing::Waits)
                }
                // That term is over; the next one begins with another question.
                None if self.token.take().is_some() => {
                    self.watch.restart();
                    Ok(Standing::Waits)
                }
                None => self.acquire(session).await,
            }
        })
    }

    fn turned(&mut self) -> BackendFuture<'_, Result<Turn, Error>> {
        Box::pin(async move {
            loop {
                let retry = self.retry;
                let wait = async move {
                    match retry {
                        Some(at) => tokio::time::sleep_until(at).await,
                        None => std::future::pending().await,
                    }
                };
                tokio::select! {
                    answer = self.watch.answer() => {
                        if let (Seen::Changed, _) = answer? {
                            return Ok(Turn::Moved);
                        }
                    }
                    () = wait => {
                        self.retry = None;
                        return Ok(Turn::Moved);
                    }
                }
            }
        })
    }
}
