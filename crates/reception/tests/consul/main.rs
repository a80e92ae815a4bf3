//! What is special to Consul, against a real one: services with checks, blocking queries, elections by session locks.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod checks;
mod elections;
mod records;
#[path = "../term/mod.rs"]
mod term;

use std::sync::Arc;
use std::time::Duration;

use consul_client::{Config, Consul};
use reception::backend::{Backend, consul};
use reception::{Attributes, Name, Options, Scope, Service};
use testkit::ConsulServer;

const LIMIT: Duration = Duration::from_secs(30);
/// Longer than any reaction, and far shorter than a third of [`ttl`]: what comes earlier was told, not found out.
const TOLD: Duration = Duration::from_secs(5);

fn ttl(secs: u64) -> Options {
    Options { ttl: Duration::from_secs(secs), ..Options::default() }
}

fn dial(server: &ConsulServer, options: &Options) -> Arc<dyn Backend> {
    consul::dial(&server.url(), options).unwrap()
}

fn client(server: &ConsulServer) -> Consul {
    Consul::new(Config::at(server.addr().to_string())).unwrap()
}

fn named(name: &str) -> Name {
    Name::new(name).unwrap()
}

fn web(id: &str) -> Service {
    let attributes: Attributes = [("k".to_owned(), "v".to_owned())].into();
    Service::new("web", "10.0.0.7", 80).unwrap().with_id(id).unwrap().with_attributes(attributes).unwrap()
}

async fn ids(backend: &dyn Backend, scope: Scope) -> Vec<String> {
    let list = backend.list(&named("web"), scope).await.unwrap();
    list.instances.into_iter().map(|instance| instance.service.id).collect()
}
