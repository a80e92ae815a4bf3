//! A record: a service of the agent, with a check.

use std::sync::Arc;
use std::time::Duration;

use consul_client::agent::{self, Check, Probe, Status};
use consul_client::blocking::{Cursor, Seen};
use consul_client::{Consistency, Consul};
use supervise::Boottime;

use super::{HealthServer, Store, record};
use crate::backend::{BackendFuture, Presence, Renewal, Tenure};
use crate::error::Error;
use crate::options::ConsulCheck;
use crate::service::Service;

/// After so long without being asked, the original said that no health check was seen.
const UNASKED: Duration = Duration::from_secs(30);
/// In the service's metadata: a mark by chance of whoever registered it last.
const OWNER: &str = "muster-owner";

pub(super) struct Registered {
    store: Arc<Store>,
    service: Service,
    owner: String,
    /// When its health server began to wait for the agent.
    entered: Boottime,
}

impl Registered {
    pub(super) fn new(store: Arc<Store>, service: &Service) -> Self {
        let owner = format!("{:032x}", rand::random::<u128>());
        Self { store, service: service.clone(), owner, entered: Boottime::now() }
    }

    /// The original's, and Consul's own.
    fn check_id(&self) -> String {
        format!("service:{}", self.service.id)
    }

    async fn health(&self) -> Result<Option<&HealthServer>, Error> {
        let ConsulCheck::Own { listen, host } = &self.store.options.consul.check else { return Ok(None) };
        let started = self.store.health.get_or_try_init(|| HealthServer::start(*listen, host)).await;
        let failed = |error| Error::Disconnected {
            backend: self.store.address(),
            what: format!("its health server cannot listen on {listen}: {error}"),
        };
        started.map(Some).map_err(failed)
    }

    /// What the agent has under the id.
    async fn found(&self) -> Result<Option<agent::Registered>, Error> {
        let id = self.service.id.as_str();
        self.store.ask(async |consul: Consul| consul.agent_service(id).await).await
    }

    fn owns(&self, found: &agent::Registered) -> bool {
        found.meta.get(OWNER) == Some(&self.owner)
    }

    /// An agent has an id once, whatever the name: without this, two records would take it from each other in silence.
    async fn id_is_free(&self) -> Result<(), Error> {
        let (id, name) = (self.service.id.as_str(), self.service.name.as_str());
        let Some(other) = self.found().await?.filter(|found| found.name != name) else { return Ok(()) };
        let other = other.name;
        let what = format!(
            "the agent has an instance {id} of {other} already, so there cannot be one of {name}: take another id"
        );
        Err(Error::Refused { backend: self.store.address(), what })
    }

    fn body(&self, health: Option<&HealthServer>) -> agent::Service {
        let options = &self.store.options;
        let asks = |url: &str| Probe::Http {
            url: url.to_owned(),
            interval: options.consul.check_interval,
            timeout: options.consul.check_timeout,
        };
        let probe = match (&options.consul.check, health) {
            (_, Some(health)) => asks(health.url()),
            (ConsulCheck::Http(url), None) => asks(url),
            (ConsulCheck::Ttl | ConsulCheck::Own { .. }, None) => Probe::Ttl(options.ttl),
        };
        let Service { name, id, address, port, .. } = &self.service;
        agent::Service {
            id: id.clone(),
            name: name.to_string(),
            address: address.clone(),
            port: *port,
            tags: vec![record::tag(&self.service)],
            meta: [(OWNER.to_owned(), self.owner.clone())].into(),
            checks: vec![Check {
                id: self.check_id(),
                name: String::new(),
                probe,
                status: Some(Status::Passing),
                deregister_after: Some(options.consul.deregister_after),
            }],
        }
    }

    /// Tells the agent that it lives; false when the agent does not know it.
    async fn pass(&self) -> Result<bool, Error> {
        let id = self.check_id();
        self.store.ask(async |consul: Consul| consul.check_update(&id, Status::Passing, "").await).await
    }

    /// Until when it is not held for dead, where `told` is when that was last prevented; an error when its health server is not asked.
    fn until(&self, told: Boottime) -> Result<Boottime, Error> {
        let options = &self.store.options;
        let health = match &options.consul.check {
            ConsulCheck::Ttl => return Ok(told + options.ttl),
            // The agent asks somebody else: nothing that is done here makes it last longer.
            ConsulCheck::Http(_) => return Ok(Boottime::NEVER),
            ConsulCheck::Own { .. } => self.store.health.get(),
        };
        let Some(health) = health else { return Ok(told) };
        let within = UNASKED.max(2 * options.consul.check_interval + options.consul.check_timeout);
        let until = health.probed().max(self.entered) + within;
        if until <= Boottime::now() {
            let (backend, url) = (self.store.address(), health.url().to_owned());
            return Err(Error::NoHealthCheck { backend, within, url });
        }
        Ok(until)
    }

    /// Waits until the servers show, or no longer show, what the agent was told: it tells them at once, but on its own.
    async fn shown(&self, there: bool) -> Result<u64, Error> {
        let store = &self.store;
        let name = self.service.name.as_str();
        let mut cursor = Cursor::new(store.options.timeout).consistency(Consistency::Consistent);
        let looks = async {
            loop {
                let query = cursor.query(0.0);
                let ask = async |consul: Consul| consul.health_service(name, false, query).await;
                let reply = store.fresh(store.ask(ask).await?)?;
                let seen = cursor.saw(reply.index);
                let found = reply.value.iter().find(|found| record::shows(found, &self.service));
                match found {
                    Some(found) if there => return Ok(found.created),
                    None if !there => return Ok(0),
                    _ if seen == Seen::Changed => tokio::time::sleep(cursor.pause()).await,
                    _ => {}
                }
            }
        };
        // Within the time that the whole entry has.
        let within = store.options.timeout / 2;
        tokio::time::timeout(within, looks).await.map_err(|_| Error::Disconnected {
            backend: store.address(),
            what: format!("the agent knows {}, but its servers do not after {within:?}", self.service.id),
        })?
    }
}

impl Presence for Registered {
    fn enter(&mut self) -> BackendFuture<'_, Result<Tenure, Error>> {
        Box::pin(async move {
            self.entered = Boottime::now();
            self.id_is_free().await?;
            let body = self.body(self.health().await?);
            self.store.ask(async |consul: Consul| consul.register_service(&body).await).await?;
            let told = Boottime::now();
            // One that was critical under this id is so still: the agent carries the status over.
            if self.store.options.consul.check == ConsulCheck::Ttl && !self.pass().await? {
                let what =
                    format!("the agent does not know {}, which it has just been told of", self.service.id);
                return Err(Error::Disconnected { backend: self.store.address(), what });
            }
            let created = self.shown(true).await?;
            Ok(Tenure { created, until: self.until(told)? })
        })
    }

    fn renew(&mut self) -> BackendFuture<'_, Result<Renewal, Error>> {
        Box::pin(async move {
            let told = Boottime::now();
            let id = self.service.id.as_str();
            let found = self.found().await?;
            if found.as_ref().is_some_and(|found| !self.owns(found)) {
                return Ok(Renewal::Lost(format!("another process registered as {id} with this agent")));
            }
            let tells = self.store.options.consul.check == ConsulCheck::Ttl;
            if found.is_none() || tells && !self.pass().await? {
                return Ok(Renewal::Lost(format!("Consul's agent does not know {id} any more")));
            }
            Ok(Renewal::Kept(self.until(told)?))
        })
    }

    fn renew_every(&self) -> Duration {
        self.store.options.ttl / 3
    }

    fn alarm(&mut self) -> BackendFuture<'_, ()> {
        // The agent tells nobody what it forgets.
        Box::pin(std::future::pending())
    }

    fn leave(&mut self) -> BackendFuture<'_, Result<(), Error>> {
        Box::pin(async move {
            // One that another has put in its place stays.
            if !self.found().await?.is_some_and(|found| self.owns(&found)) {
                return Ok(());
            }
            let id = self.service.id.as_str();
            self.store.ask(async |consul: Consul| consul.deregister_service(id).await).await?;
            // What the agent knows its servers will know: a wait in vain is no failure.
            let _ = self.shown(false).await;
            Ok(())
        })
    }
}
