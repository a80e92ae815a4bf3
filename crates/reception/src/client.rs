//! The door to a store.

use std::sync::Arc;

use crate::backend::{Backend, Bounds, Leader, Names, consul, etcd, file, zookeeper};
use crate::elector::Elector;
use crate::error::Error;
use crate::hold::{Hold, Post};
use crate::options::Options;
use crate::registration::Registration;
use crate::service::{Name, Scope, Service, Snapshot};
use crate::watcher::Watcher;

/// The kinds of stores, for people.
const KINDS: &str =
    "consul://HOST:8500, etcd://HOST:2379, zk://HOST:2181, exhibitor://HOST:8080/PATH or file:DIR";

/// Opens a store by its address. Nothing is connected yet.
///
/// | address | store |
/// | --- | --- |
/// | `consul://HOST[:8500]` | Consul's agent, best the host's own |
/// | `etcd://HOST[:2379],HOST2/PREFIX` | members of one etcd cluster |
/// | `zk://HOST[:2181],HOST2/PREFIX` | servers of one ZooKeeper ensemble |
/// | `exhibitor://HOST:8080/exhibitor/v1/cluster/list` | the ZooKeeper servers that Exhibitor lists |
/// | `file:DIR` | a directory of this host |
///
/// # Errors
/// [`Error::Url`] for an address that cannot be used, and [`Error::Refused`] with every problem of the options at once.
pub fn dial(url: &str, options: Options) -> Result<Client, Error> {
    let kind = url.split(':').next().unwrap_or_default();
    let backend = match kind {
        "consul" => consul::dial(url, &options)?,
        "etcd" => etcd::dial(url, &options)?,
        "zk" | "exhibitor" => zookeeper::dial(url, &options)?,
        "file" => file::dial(url, &options)?,
        _ => {
            let what = format!("it is none of {KINDS}");
            // It may hold a password.
            let url = url.split_once('@').map_or(url, |(_, host)| host).to_owned();
            return Err(Error::Url { url, what });
        }
    };
    let problems = backend.problems();
    if !problems.is_empty() {
        return Err(Error::Refused { backend: backend.address(), what: problems.join("; ") });
    }
    Ok(Client { backend, options: Arc::new(options) })
}

/// A store that was dialled. Clones share its connections.
#[derive(Clone, Debug)]
pub struct Client {
    backend: Arc<dyn Backend>,
    options: Arc<Options>,
}

impl Client {
    /// The store's address for people, without secrets.
    pub fn address(&self) -> String {
        self.backend.address()
    }

    /// How long the dead are taken for living, at most.
    pub fn bounds(&self) -> Bounds {
        self.backend.bounds()
    }

    /// Registers an instance, and keeps it registered until the registration is left or dropped. Needs a tokio runtime.
    pub fn register(&self, service: Service) -> Registration {
        let post = Post::Record(self.backend.register(&service));
        Registration::new(service, self.hold(post))
    }

    /// Stands for the leadership of the service's name. On ZooKeeper that is best a name of its own: candidates are among its instances there, as
    /// the original has them, and whatever was registered first leads. Needs a tokio runtime.
    pub fn elector(&self, service: Service) -> Elector {
        let post = Post::Candidate(self.backend.candidate(&service));
        Elector::new(self.backend.clone(), service, self.hold(post))
    }

    fn hold(&self, post: Post) -> Hold {
        Hold::start(post, self.backend.address(), self.options.timeout)
    }

    /// Reads a list once. A name that nobody registered is empty.
    ///
    /// # Errors
    /// When it cannot be read within the time-out.
    pub async fn list_services(&self, name: &Name, scope: Scope) -> Result<Snapshot, Error> {
        self.within(self.backend.list(name, scope)).await
    }

    /// Reads the names that have instances.
    ///
    /// # Errors
    /// When they cannot be read within the time-out.
    pub async fn names(&self) -> Result<Names, Error> {
        self.within(self.backend.names()).await
    }

    /// Who leads a name; none when nobody does.
    ///
    /// # Errors
    /// When it cannot be read within the time-out.
    pub async fn leader(&self, name: &Name) -> Result<Option<Leader>, Error> {
        self.within(self.backend.leader(name)).await
    }

    /// Watches a list. Needs a tokio runtime.
    pub fn watcher(&self, name: &Name) -> Watcher<Snapshot> {
        Watcher::start(self.backend.watch(name))
    }

    /// Watches the names that have instances. Needs a tokio runtime.
    pub fn names_watcher(&self) -> Watcher<Names> {
        Watcher::start(self.backend.watch_names())
    }

    async fn within<T>(&self, read: impl Future<Output = Result<T, Error>>) -> Result<T, Error> {
        let within = self.options.timeout;
        let silent = || Error::Silent { backend: self.backend.address(), within };
        tokio::time::timeout(within, read).await.map_err(|_| silent())?
    }
}
