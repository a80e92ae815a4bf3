//! What the local agent runs: services and their checks.

use std::collections::BTreeMap;
use std::time::Duration;

use http::{Method, StatusCode};
use serde::{Deserialize, Serialize};

use crate::client::{Consul, part};
use crate::error::ConsulError;
use crate::query::millis;

/// How well something is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// Well.
    Passing,
    /// Not quite.
    Warning,
    /// Not.
    Critical,
}

/// How a service's health is found out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Probe {
    /// Somebody says so at least this often: [`Consul::check_update`].
    Ttl(Duration),
    /// The agent asks: 2xx is passing, 429 warning, all else critical.
    Http {
        /// What it asks.
        url: String,
        /// How often.
        interval: Duration,
        /// How long it waits.
        timeout: Duration,
    },
}

/// A check of a service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Check {
    /// Unique on the agent; Consul makes one (`service:ID`) when it is empty.
    pub id: String,
    /// For people; Consul makes one when it is empty.
    pub name: String,
    /// How it is found out.
    pub probe: Probe,
    /// Until the first result; critical if there is none.
    pub status: Option<Status>,
    /// The service is taken off when this check was critical for so long: a minute at least, and seen by a
    /// reaper that runs every 30 s.
    pub deregister_after: Option<Duration>,
}

/// A service to be registered.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Service {
    /// Unique on the agent; another one under it is replaced.
    pub id: String,
    /// The name by which it is found.
    pub name: String,
    /// Its host; the agent's own when it is empty.
    pub address: String,
    /// Its port.
    pub port: u16,
    /// In order.
    pub tags: Vec<String>,
    /// Beside the tags: names of letters, digits, `-` and `_`.
    pub meta: BTreeMap<String, String>,
    /// All have to pass.
    pub checks: Vec<Check>,
}

/// A service as the agent knows it.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Registered {
    /// Unique on the agent.
    #[serde(rename = "ID")]
    pub id: String,
    /// The name.
    #[serde(rename = "Service")]
    pub name: String,
    /// The host; empty for the agent's own.
    #[serde(default)]
    pub address: String,
    /// The port.
    #[serde(default)]
    pub port: u16,
    /// The tags.
    #[serde(default, deserialize_with = "crate::catalog::or_default")]
    pub tags: Vec<String>,
    /// The metadata.
    #[serde(default, deserialize_with = "crate::catalog::or_default")]
    pub meta: BTreeMap<String, String>,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct ServiceBody<'a> {
    #[serde(rename = "ID")]
    id: &'a str,
    name: &'a str,
    address: &'a str,
    port: u16,
    tags: &'a [String],
    meta: &'a BTreeMap<String, String>,
    checks: Vec<CheckBody<'a>>,
}

#[derive(Serialize, Default)]
#[serde(rename_all = "PascalCase")]
struct CheckBody<'a> {
    #[serde(rename = "CheckID", skip_serializing_if = "str::is_empty")]
    id: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    name: &'a str,
    #[serde(rename = "TTL", skip_serializing_if = "Option::is_none")]
    ttl: Option<String>,
    #[serde(rename = "HTTP", skip_serializing_if = "Option::is_none")]
    http: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    interval: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    timeout: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    status: Option<Status>,
    #[serde(skip_serializing_if = "Option::is_none")]
    deregister_critical_service_after: Option<String>,
}

impl<'a> CheckBody<'a> {
    fn of(check: &'a Check) -> Self {
        let common = Self {
            id: &check.id,
            name: &check.name,
            status: check.status,
            deregister_critical_service_after: check.deregister_after.map(millis),
            ..Self::default()
        };
        match &check.probe {
            Probe::Ttl(ttl) => Self { ttl: Some(millis(*ttl)), ..common },
            Probe::Http { url, interval, timeout } => Self {
                http: Some(url),
                interval: Some(millis(*interval)),
                timeout: Some(millis(*timeout)),
                ..common
            },
        }
    }
}

impl Consul {
    /// Registers a service with the agent, replacing one of the same id with all its checks.
    ///
    /// # Errors
    /// [`ConsulError`].
    pub async fn register_service(&self, service: &Service) -> Result<(), ConsulError> {
        let doing = "registering a service";
        let Service { id, name, address, port, tags, meta, checks } = service;
        let checks = checks.iter().map(CheckBody::of).collect();
        let body = ServiceBody { id, name, address, port: *port, tags, meta, checks };
        let body = serde_json::to_vec(&body).map_err(|error| ConsulError::Config(error.to_string()))?;
        // What a restarted agent reads from its disk and the file no longer says would otherwise stay.
        let call = self.call(Method::PUT, doing, "/v1/agent/service/register");
        let call = call.parameter("replace-existing-checks", "true").body(body);
        self.send_found(call).await.map(drop)
    }

    /// Takes a service off the agent; one that it does not have is no error.
    ///
    /// # Errors
    /// [`ConsulError`].
    pub async fn deregister_service(&self, id: &str) -> Result<(), ConsulError> {
        let path = format!("/v1/agent/service/deregister/{}", part(id)?);
        let call = self.call(Method::PUT, "taking a service off", path);
        // Later servers say so by a 404, which is as good.
        self.send(call).await.map(drop)
    }

    /// The agent's own services, by id.
    ///
    /// # Errors
    /// [`ConsulError`].
    pub async fn agent_services(&self) -> Result<BTreeMap<String, Registered>, ConsulError> {
        self.read(self.call(Method::GET, "listing the agent's services", "/v1/agent/services")).await
    }

    /// A service of the agent; none when it has none of this id.
    ///
    /// # Errors
    /// [`ConsulError`].
    pub async fn agent_service(&self, id: &str) -> Result<Option<Registered>, ConsulError> {
        let doing = "looking at a service of the agent";
        let answer =
            self.send(self.call(Method::GET, doing, format!("/v1/agent/service/{}", part(id)?))).await?;
        if answer.status == StatusCode::NOT_FOUND { Ok(None) } else { self.json(doing, &answer).map(Some) }
    }

    /// Says how well the subject of a TTL check is. The note is for people. False when the agent does not have
    /// the check (any more): the service has to be registered again.
    ///
    /// # Errors
    /// [`ConsulError`].
    pub async fn check_update(
        &self,
        check_id: &str,
        status: Status,
        note: &str,
    ) -> Result<bool, ConsulError> {
        let verb = match status {
            Status::Passing => "pass",
            Status::Warning => "warn",
            Status::Critical => "fail",
        };
        let path = format!("/v1/agent/check/{verb}/{}", part(check_id)?);
        let mut call = self.call(Method::PUT, "updating a check", path);
        if !note.is_empty() {
            call = call.parameter("note", note);
        }
        match self.send(call).await {
            Ok(answer) => Ok(answer.status.is_success()),
            // Consul 1.8 says by a 500 what later ones say by a 404.
            Err(ConsulError::Refused { what, .. }) if what.contains("does not have associated TTL") => {
                Ok(false)
            }
            Err(error) => Err(error),
        }
    }
}
