//! ZooKeeper 3.6 and later, its servers named or told by Exhibitor: ephemeral nodes under one session.
//!
//! | module | what it does |
//! | --- | --- |
//! | `address`, `node` | addresses and names of nodes in their parts; pure |
//! | `session`, `exhibitor` | the session that all share, and the servers to have it with |
//! | `presence` | records |
//! | `read`, `watch` | lists, and what changed in them |

mod address;
mod exhibitor;
mod node;
mod presence;
mod read;
mod session;
mod watch;

use std::sync::Arc;
use std::time::Duration;

use self::address::Address;
use self::node::escaped;
use self::presence::{Proof, Record};
use self::read::{Records, Twins};
use self::session::Sessions;
use self::watch::{Lists, NamesWatch, Register};
use super::line::Line;
use super::{Backend, BackendFuture, Bounds, Candidacy, Leader, Names, Presence, Source};
use crate::error::Error;
use crate::options::Options;
use crate::service::{Name, Scope, Service, Snapshot};

/// Ends of sessions are looked for once in a tick, which clients are not told: this is the usual one.
const USUAL_TICK: Duration = Duration::from_secs(2);
/// From the end of a session to what comes of it elsewhere.
const REACTION: Duration = Duration::from_millis(500);

/// The backend of an address that begins with `zk://` or `exhibitor://`. Nothing is sent yet.
///
/// # Errors
/// [`Error::Url`] for any other.
pub fn dial(url: &str, options: &Options) -> Result<Arc<dyn Backend>, Error> {
    let address = Address::of(url, options.prefix.as_deref())?;
    let sessions = Arc::new(Sessions::new(&address, options)?);
    Ok(Arc::new(ZooKeeper { sessions, root: address.root, purpose: Purpose::Lists }))
}

#[derive(Clone, Debug)]
struct ZooKeeper {
    sessions: Arc<Sessions>,
    root: String,
    purpose: Purpose,
}

/// What lists and records are for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Purpose {
    Lists,
    Elections,
}

impl ZooKeeper {
    fn path(&self, name: &Name) -> String {
        format!("{}/{}", self.root, escaped(name.as_str()))
    }

    fn twins(&self) -> Twins {
        match self.purpose {
            Purpose::Lists => Twins::Newest,
            Purpose::Elections => Twins::All,
        }
    }

    async fn snapshot(&self, name: &Name, twins: Twins) -> Result<Snapshot, Error> {
        let attached = self.sessions.attached().await?;
        let mut records = Records::new(name, &self.path(name));
        records.read(&self.sessions, &attached.client).await?;
        Ok(records.snapshot(twins))
    }
}

impl Backend for ZooKeeper {
    fn address(&self) -> String {
        self.sessions.address().to_owned()
    }

    fn problems(&self) -> Vec<String> {
        let (asked, _) = self.sessions.times();
        let none = "the ttl is 0: give the time that sessions shall last, for example 10s";
        asked.is_zero().then(|| none.to_owned()).into_iter().collect()
    }

    fn bounds(&self) -> Bounds {
        let (asked, given) = self.sessions.times();
        let (session, whose) = given.map_or((asked, "as asked for"), |given| (given, "as agreed"));
        let all = session + USUAL_TICK + REACTION;
        Bounds {
            instance: all,
            leader: all,
            because: format!(
                "session {session:?}, {whose}, + tickTime {USUAL_TICK:?}, unless the servers have another, + {REACTION:?}"
            ),
        }
    }

    fn list<'a>(&'a self, name: &'a Name, _scope: Scope) -> BackendFuture<'a, Result<Snapshot, Error>> {
        Box::pin(self.snapshot(name, self.twins()))
    }

    fn names(&self) -> BackendFuture<'_, Result<Names, Error>> {
        Box::pin(async move {
            let attached = self.sessions.attached().await?;
            let mut register = Register::new(&self.root);
            register.read(&self.sessions, &attached.client).await?;
            Ok(register.names())
        })
    }

    fn leader<'a>(&'a self, name: &'a Name) -> BackendFuture<'a, Result<Option<Leader>, Error>> {
        Box::pin(async move {
            let list = self.snapshot(name, Twins::All).await?;
            let first = list.instances.into_iter().next();
            Ok(first.map(|first| Leader { service: first.service, token: first.created }))
        })
    }

    fn watch(&self, name: &Name) -> Box<dyn Source<Snapshot>> {
        Box::new(Lists::new(&self.sessions, name, &self.path(name), self.twins()))
    }

    fn watch_names(&self) -> Box<dyn Source<Names>> {
        Box::new(NamesWatch::new(&self.sessions, &self.root))
    }

    fn register(&self, service: &Service) -> Box<dyn Presence> {
        let proof = match self.purpose {
            Purpose::Lists => Proof::Synced,
            Purpose::Elections => Proof::Committed,
        };
        Box::new(Record::new(&self.sessions, &self.path(&service.name), service, proof))
    }

    fn candidate(&self, service: &Service) -> Box<dyn Candidacy> {
        let elections = Self { purpose: Purpose::Elections, ..self.clone() };
        Box::new(Line::new(Arc::new(elections), service))
    }
}
