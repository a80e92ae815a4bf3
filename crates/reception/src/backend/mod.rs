//! What a store has to do, in small steps that a task above drives: [`crate::course`] decides which comes when.
//!
//! A driver keeps no time-outs of its own beyond [`crate::Options::timeout`] per request, never retries, and tells errors as they are. After
//! an error, and after its future was dropped half-way, the same call may be made again, on the same value.

mod connections;
pub mod consul;
mod contents;
pub mod etcd;
pub mod file;
mod line;
pub mod zookeeper;

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::time::Duration;

use supervise::Boottime;

use crate::error::Error;
use crate::service::{Name, Scope, Service, Snapshot};

/// A future that a driver returns.
pub type BackendFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// A store of services. One value serves any number of names, records and watches.
pub trait Backend: fmt::Debug + Send + Sync + 'static {
    /// Its address for people, without secrets.
    fn address(&self) -> String;

    /// What it cannot do with the options that it was dialled with, one sentence each.
    fn problems(&self) -> Vec<String>;

    /// How long a dead process is seen at most, and why.
    fn bounds(&self) -> Bounds;

    /// Reads the list of a name once, from the server and not from a cache. A name that nobody registered is empty.
    fn list<'a>(&'a self, name: &'a Name, scope: Scope) -> BackendFuture<'a, Result<Snapshot, Error>>;

    /// Reads all names that have instances, in order.
    fn names(&self) -> BackendFuture<'_, Result<Names, Error>>;

    /// Who leads a name.
    fn leader<'a>(&'a self, name: &'a Name) -> BackendFuture<'a, Result<Option<Leader>, Error>>;

    /// A source of the lists of a name, passing instances only.
    fn watch(&self, name: &Name) -> Box<dyn Source<Snapshot>>;

    /// A source of the names that have instances.
    fn watch_names(&self) -> Box<dyn Source<Names>>;

    /// A record to hold; nothing is sent yet.
    fn register(&self, service: &Service) -> Box<dyn Presence>;

    /// A candidate for the leadership of the service's name; nothing is sent yet.
    fn candidate(&self, service: &Service) -> Box<dyn Candidacy>;
}

/// Reads again and again what changes.
pub trait Source<T>: Send {
    /// The first call, and the first one after an error, reads at once and whole; every other one waits until it changed,
    /// or may have. Changes between two calls are not lost: they make the next call return at once.
    ///
    /// Cancel safe: the future can be dropped, and nothing is lost by it.
    fn next(&mut self) -> BackendFuture<'_, Result<T, Error>>;
}

/// A record in the store that lasts as long as somebody keeps it. Dropped without [`Presence::leave`], it ends by itself as if the
/// process had died.
///
/// A request that was given up may reach the server late. It must find another state there and do nothing to what came after it: every write
/// names the very record, session or lease that it is about.
pub trait Presence: Send {
    /// Puts the record there. One that an earlier session of this very value left is adopted or replaced; the same id of
    /// another process is replaced where the store lets one tell, but never another candidate's.
    fn enter(&mut self) -> BackendFuture<'_, Result<Tenure, Error>>;

    /// Asks the server whether the record and its session stand, and makes them last longer.
    fn renew(&mut self) -> BackendFuture<'_, Result<Renewal, Error>>;

    /// How long after one renewal the next is due.
    fn renew_every(&self) -> Duration;

    /// Comes to an end when the store said by itself that record, session or link are gone, so that it is worth asking now.
    /// Never ends where the store tells nothing. Cancel safe.
    fn alarm(&mut self) -> BackendFuture<'_, ()>;

    /// Takes the record away. Also good when it is not there.
    fn leave(&mut self) -> BackendFuture<'_, Result<(), Error>>;

    /// What must outlive this process as long as work goes on under the record: to be given to a child's guard, which exits last.
    fn kept(&self) -> Option<std::os::fd::OwnedFd> {
        None
    }
}

/// A place in the line of those who want to lead.
pub trait Candidacy: Presence {
    /// Asks the server whose turn it is. To be called between [`Presence::enter`] and the loss of that tenure.
    fn standing(&mut self) -> BackendFuture<'_, Result<Standing, Error>>;

    /// Waits until the standing changed or may have, or [`Presence::alarm`] would end. Changes since the last
    /// [`Candidacy::standing`] are not lost. Cancel safe.
    fn turned(&mut self) -> BackendFuture<'_, Result<Turn, Error>>;
}

/// Why a wait in the line is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Turn {
    /// The standing changed, or may have.
    Moved,
    /// As [`Presence::alarm`].
    Alarm,
}

/// A record that stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tenure {
    /// As in [`crate::Instance::created`].
    pub created: u64,
    /// The earliest instant at which the store may hold it for dead unless it is renewed, counted from the sending of the
    /// request; [`Boottime::NEVER`] where the kernel watches over it.
    pub until: Boottime,
}

/// What came of a renewal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Renewal {
    /// It stands, at least until then; counted as in [`Tenure::until`].
    Kept(Boottime),
    /// The server says that it is gone; why.
    Lost(String),
}

/// Whose turn it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Standing {
    /// This candidate's, with this token, which is larger than that of every leader before.
    Leads(u64),
    /// Another's, or nobody's yet.
    Waits,
}

/// Who leads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Leader {
    /// As it was registered for the election.
    pub service: Service,
    /// The token of its term.
    pub token: u64,
}

/// The names that have instances.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Names {
    /// In order.
    pub names: Vec<Name>,
    /// As in [`Snapshot::index`].
    pub index: u64,
}

/// How long the dead are taken for living, at most.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// A dead instance is gone from lists.
    pub instance: Duration,
    /// A dead leader is replaced, counted from the end of the fault.
    pub leader: Duration,
    /// The arithmetic, in one line.
    pub because: String,
}
