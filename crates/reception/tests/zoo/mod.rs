//! What the tests on ZooKeeper have in common.

#![allow(dead_code, reason = "each test file uses its own part")]

use std::sync::Arc;
use std::time::Duration;

use reception::backend::{Backend, Source, zookeeper};
use reception::{Instance, Name, Options, Scope, Service};
use testkit::ZooKeeperServer;
use zookeeper_client::{Acls, Client, CreateMode, Error};

/// A tick for short sessions.
pub(crate) const FAST: Duration = Duration::from_millis(300);
/// For what should happen within a few sessions.
pub(crate) const LIMIT: Duration = Duration::from_secs(30);

pub(crate) fn options() -> Options {
    Options { ttl: Duration::from_millis(1500), timeout: Duration::from_secs(2), ..Options::default() }
}

pub(crate) fn dial(url: &str) -> Arc<dyn Backend> {
    zookeeper::dial(url, &options()).unwrap()
}

pub(crate) fn name() -> Name {
    Name::new("web").unwrap()
}

pub(crate) fn service(id: &str) -> Service {
    Service::new("web", "10.0.0.1", 80).unwrap().with_id(id).unwrap()
}

pub(crate) async fn list(backend: &Arc<dyn Backend>) -> Vec<Instance> {
    backend.list(&name(), Scope::Passing).await.unwrap().instances
}

pub(crate) fn ids(instances: &[Instance]) -> Vec<&str> {
    instances.iter().map(|instance| instance.service.id.as_str()).collect()
}

/// A client of no house.
pub(crate) async fn raw(server: &ZooKeeperServer) -> Client {
    let connector = Client::connector().with_session_timeout(Duration::from_secs(30));
    connector.connect(&server.addr().to_string()).await.unwrap()
}

/// A record as the original's library puts it.
pub(crate) async fn put_raw(client: &Client, parent: &str, id: &str, value: &str) {
    match client.create(parent, b"", &CreateMode::Persistent.with_acls(Acls::anyone_all())).await {
        Ok(_) | Err(Error::NodeExists) => {}
        Err(error) => panic!("{parent}: {error}"),
    }
    let stem = format!("{parent}/_c_{:032x}-{id}-", rand::random::<u128>());
    let ephemeral = CreateMode::EphemeralSequential.with_acls(Acls::anyone_all());
    client.create(&stem, value.as_bytes(), &ephemeral).await.unwrap();
}

/// Reads on until it is as wanted.
pub(crate) async fn settle<T>(source: &mut dyn Source<T>, mut wanted: impl FnMut(&T) -> bool) -> T {
    let reads = async {
        loop {
            let read = source.next().await.unwrap();
            if wanted(&read) {
                return read;
            }
        }
    };
    tokio::time::timeout(LIMIT, reads).await.expect("the wanted list is read in time")
}
