//! Records as keys that hang on leases. `docs/design/reception-etcd.md` has the guarantees.
//!
//! | key | value |
//! | --- | --- |
//! | `/[PREFIX/]NAME/ID` | the original's JSON; it goes with its lease |
//! | `/[PREFIX/]NAME/leader/ID~MARK` | the same, of a candidate. The one that was created first leads |

mod follow;
mod presence;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use etcd_gateway::{Entry, Etcd, EtcdError, EtcdUrl, Limits};

use self::follow::Follow;
use self::presence::Registered;
use super::connections::Connections;
use super::line::{self, Line};
use super::{Backend, BackendFuture, Bounds, Candidacy, Leader, Names, Presence, Source, contents};
use crate::error::Error;
use crate::options::Options;
use crate::record;
use crate::service::{Instance, Name, Scope, Service, Snapshot};

/// With its usual election time-out, etcd makes leases of 2 s at least.
const SHORTEST_TTL: Duration = Duration::from_secs(2);
/// How often etcd looks for leases that have ended.
const SWEEP: Duration = Duration::from_millis(500);
/// gRPC's numbers for what will be refused again: invalid argument, permission denied, unauthenticated.
const REFUSED: [u32; 3] = [3, 7, 16];

/// Opens etcd at these addresses; nothing is connected yet.
///
/// # Errors
/// [`Error::Url`].
pub fn dial(url: &str, options: &Options) -> Result<Arc<dyn Backend>, Error> {
    let mut parsed =
        EtcdUrl::parse(url, "").map_err(|error| Error::Url { url: error.url, what: error.what })?;
    if let Some(prefix) = &options.prefix {
        parsed.prefix.clone_from(prefix);
    }
    let config = parsed.config(options.timeout, Limits { connect: options.timeout, ..Limits::default() });
    let wrong = |error: EtcdError| Error::Url { url: parsed.to_string(), what: error.to_string() };
    let client = Etcd::new(config).map_err(wrong)?;
    let again = client.clone();
    let connections = Connections::new(client, Box::new(move || again.reconnected().ok()));
    Ok(Arc::new(EtcdBackend(Arc::new(Store { connections, url: parsed, options: options.clone() }))))
}

#[derive(Clone)]
struct EtcdBackend(Arc<Store>);

/// What all records and watches of one address share.
struct Store {
    connections: Connections<Etcd>,
    url: EtcdUrl,
    options: Options,
}

impl fmt::Debug for EtcdBackend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "EtcdBackend({})", self.0.url)
    }
}

impl Backend for EtcdBackend {
    fn address(&self) -> String {
        self.0.address()
    }

    fn problems(&self) -> Vec<String> {
        let ttl = self.0.options.ttl;
        if ttl < SHORTEST_TTL {
            return vec![format!("a ttl of {ttl:?} is too short: etcd's leases last 2s at least")];
        }
        if ttl.subsec_nanos() != 0 {
            return vec![format!("a ttl of {ttl:?} cannot be: etcd counts in whole seconds")];
        }
        Vec::new()
    }

    fn bounds(&self) -> Bounds {
        let ttl = self.0.options.ttl;
        let dead = ttl + SWEEP;
        let because = format!(
            "a lease ends the ttl of {ttl:?} after its last renewal, and etcd looks for it every {SWEEP:?}"
        );
        Bounds { instance: dead, leader: dead, because }
    }

    fn list<'a>(&'a self, name: &'a Name, _: Scope) -> BackendFuture<'a, Result<Snapshot, Error>> {
        Box::pin(async move {
            let folder = self.0.folder(name);
            let found = self.0.ask(async |etcd: Etcd| etcd.range(folder.as_bytes()).await).await?;
            Ok(snapshot(name, &folder, found.entries))
        })
    }

    fn names(&self) -> BackendFuture<'_, Result<Names, Error>> {
        Box::pin(async move {
            let root = self.0.root();
            let found = self.0.ask(async |etcd: Etcd| etcd.range_keys(root.as_bytes()).await).await?;
            Ok(names(&root, &found.entries))
        })
    }

    fn leader<'a>(&'a self, name: &'a Name) -> BackendFuture<'a, Result<Option<Leader>, Error>> {
        Box::pin(line::leader(self, name))
    }

    fn watch(&self, name: &Name) -> Box<dyn Source<Snapshot>> {
        let (name, folder) = (name.clone(), self.0.folder(name));
        let prefix = folder.clone();
        Box::new(Follow::whole(self.0.clone(), prefix, move |entries| snapshot(&name, &folder, entries)))
    }

    fn watch_names(&self) -> Box<dyn Source<Names>> {
        let root = self.0.root();
        let prefix = root.clone();
        Box::new(Follow::keys(self.0.clone(), prefix, move |entries| names(&root, &entries)))
    }

    fn register(&self, service: &Service) -> Box<dyn Presence> {
        Box::new(Registered::new(self.0.clone(), service))
    }

    fn candidate(&self, service: &Service) -> Box<dyn Candidacy> {
        Box::new(Line::apart(Arc::new(self.clone()), service))
    }
}

/// What is no record is left out: keys of others below the name, and values that are not the original's.
fn snapshot(name: &Name, folder: &str, entries: Vec<Entry>) -> Snapshot {
    let instance = |entry: Entry| {
        let key = String::from_utf8(entry.key).ok()?;
        let id = key.strip_prefix(folder).filter(|id| !id.is_empty() && !id.contains('/'))?;
        let Some(service) = record::decode(name, id, &entry.value) else {
            tracing::debug!(key, "left out: its value is no record");
            return None;
        };
        Some(Instance { service, created: entry.create_revision.unsigned_abs() })
    };
    contents::snapshot(entries.into_iter().filter_map(instance).collect())
}

fn names(root: &str, entries: &[Entry]) -> Names {
    let name = |entry: &Entry| {
        let (name, id) = std::str::from_utf8(&entry.key).ok()?.strip_prefix(root)?.split_once('/')?;
        if id.is_empty() || id.contains('/') { None } else { Name::new(name).ok() }
    };
    contents::names(entries.iter().filter_map(name))
}

impl Store {
    fn address(&self) -> String {
        self.url.to_string()
    }

    /// What the keys of all names begin with.
    fn root(&self) -> String {
        if self.url.prefix.is_empty() { "/".to_owned() } else { format!("/{}/", self.url.prefix) }
    }

    /// What the keys of one name begin with.
    fn folder(&self, name: &Name) -> String {
        format!("{}{name}/", self.root())
    }

    async fn ask<T>(&self, request: impl AsyncFnOnce(Etcd) -> Result<T, EtcdError>) -> Result<T, Error> {
        let silent = |error: &EtcdError| matches!(error, EtcdError::NoAnswer { .. });
        self.connections.ask(request, silent).await.map_err(|error| self.failed(&error))
    }

    fn failed(&self, error: &EtcdError) -> Error {
        let (backend, what) = (self.address(), error.to_string());
        match error {
            EtcdError::Refused { code, .. } if REFUSED.contains(code) => Error::Refused { backend, what },
            EtcdError::Answer { .. } => Error::BadResponse { backend, what },
            EtcdError::Config(_) => Error::Url { url: backend, what },
            EtcdError::NoAnswer { .. } | EtcdError::Refused { .. } | EtcdError::WatchEnded(_) => {
                Error::Disconnected { backend, what }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(key: &str, create_revision: i64) -> Entry {
        let value = br#"{"address":"h","port":1,"attributes":null}"#.to_vec();
        Entry { key: key.into(), value, create_revision, ..Entry::default() }
    }

    #[test]
    fn only_records_of_the_name_are_listed_and_in_the_order_of_their_creation() {
        let web = Name::new("web").unwrap();
        let nonsense = Entry { value: b"nonsense".to_vec(), ..entry("/p/web/n", 1) };
        let bytes = Entry { key: vec![b'/', b'p', b'/', b'w', b'e', b'b', b'/', 255], ..entry("", 1) };
        let entries =
            vec![entry("/p/web/a", 9), entry("/p/web/b", 4), entry("/p/web/c/d", 1), nonsense, bytes];
        assert_eq!(names("/p/", &entries).names, std::slice::from_ref(&web));
        let list = snapshot(&web, "/p/web/", entries);
        let ids: Vec<(&str, u64)> =
            list.instances.iter().map(|one| (one.service.id.as_str(), one.created)).collect();
        assert_eq!(ids, [("b", 4), ("a", 9)]);
        let others = [entry("/p/lone", 1), entry("/p/a/b/c", 1), entry("/p//x", 1), entry("/p/y/", 1)];
        assert!(names("/p/", &others).names.is_empty());
    }
}
