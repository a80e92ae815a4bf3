//! Who is alive.

use std::collections::BTreeMap;

use http::Method;
use serde::Deserialize;

use crate::agent::Status;
use crate::catalog::or_default;
use crate::client::{Consul, part};
use crate::error::ConsulError;
use crate::query::{Query, Reply};

/// One instance of a service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Instance {
    /// Unique on its agent.
    pub id: String,
    /// The service's name.
    pub name: String,
    /// Its own address, or its node's where it has none.
    pub address: String,
    /// Its port.
    pub port: u16,
    /// The tags, in order.
    pub tags: Vec<String>,
    /// The metadata.
    pub meta: BTreeMap<String, String>,
    /// The agent that it is registered with.
    pub node: String,
    /// The worst of its checks and its node's; passing when there are none.
    pub status: Status,
    /// When it was registered, in the order of the servers' log.
    pub created: u64,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Entry {
    node: Node,
    service: ServicePart,
    #[serde(default, deserialize_with = "or_default")]
    checks: Vec<CheckPart>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Node {
    node: String,
    #[serde(default)]
    address: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct ServicePart {
    #[serde(rename = "ID")]
    id: String,
    #[serde(rename = "Service")]
    name: String,
    #[serde(default)]
    address: String,
    #[serde(default)]
    port: u16,
    #[serde(default, deserialize_with = "or_default")]
    tags: Vec<String>,
    #[serde(default, deserialize_with = "or_default")]
    meta: BTreeMap<String, String>,
    #[serde(default)]
    create_index: u64,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct CheckPart {
    status: Status,
}

impl From<Entry> for Instance {
    fn from(entry: Entry) -> Self {
        let Entry { node, service, checks } = entry;
        let status = checks.iter().map(|check| check.status).max().unwrap_or(Status::Passing);
        Self {
            id: service.id,
            name: service.name,
            address: if service.address.is_empty() { node.address } else { service.address },
            port: service.port,
            tags: service.tags,
            meta: service.meta,
            node: node.node,
            status,
            created: service.create_index,
        }
    }
}

impl Consul {
    /// The instances of a service: all, or those of which every check passes. A name that nobody has registered
    /// is an empty list.
    ///
    /// # Errors
    /// [`ConsulError`].
    pub async fn health_service(
        &self,
        name: &str,
        passing_only: bool,
        query: Query,
    ) -> Result<Reply<Vec<Instance>>, ConsulError> {
        let path = format!("/v1/health/service/{}", part(name)?);
        let mut call = self.call(Method::GET, "listing a service's instances", path);
        if passing_only {
            call = call.parameter("passing", "true");
        }
        let Reply { value, index, known_leader, last_contact, date } =
            self.list::<Vec<Entry>>(call, query).await?;
        let value = value.into_iter().map(Instance::from).collect();
        Ok(Reply { value, index, known_leader, last_contact, date })
    }
}
