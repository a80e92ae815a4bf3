//! Services of Consul as instances: the original's records.

use std::collections::BTreeMap;

use consul_client::health;

use crate::backend::{Names, contents};
use crate::service::{Attributes, Instance, Name, Service, Snapshot};

/// Consul's own servers.
const OWN: &str = "consul";

/// The only tag: the attributes as JSON.
pub(super) fn tag(service: &Service) -> String {
    serde_json::to_string(&service.attributes).expect("strings are always JSON")
}

/// As the original reads it: a service whose first tag is no JSON object of strings is none of ours. `null` stands for no attributes.
fn instance(name: &Name, found: health::Instance) -> Option<Instance> {
    let tag = found.tags.first()?;
    let Ok(attributes) = serde_json::from_str::<Option<Attributes>>(tag) else {
        tracing::debug!(%name, id = found.id, "left out: its first tag holds no attributes");
        return None;
    };
    let service = Service {
        name: name.clone(),
        id: found.id,
        address: found.address,
        port: found.port,
        attributes: attributes.unwrap_or_default(),
    };
    Some(Instance { service, created: found.created })
}

pub(super) fn snapshot(name: &Name, found: Vec<health::Instance>) -> Snapshot {
    contents::snapshot(found.into_iter().filter_map(|found| instance(name, found)).collect())
}

/// Whether this is what was registered; without an address of its own, a service has that of its node.
pub(super) fn shows(found: &health::Instance, service: &Service) -> bool {
    found.id == service.id
        && found.port == service.port
        && (found.address == service.address || service.address.is_empty())
        && found.tags.first() == Some(&tag(service))
}

/// Names that are no names of ours, such as those with a slash, cannot be asked for either.
pub(super) fn names(services: BTreeMap<String, Vec<String>>) -> Names {
    contents::names(services.keys().filter(|name| *name != OWN).filter_map(|name| Name::new(name).ok()))
}
