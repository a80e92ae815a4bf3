//! What a request asks for, out of its method, path and query.

use common::node::NodeId;
use common::queue::Sequence;
use http::{Method, Uri};
use update_log::{DeliveryState, Filter};

use super::fault::Fault;
use super::query::{Query, address};
use super::routes::{Place, Route, Section, find};

/// Updates listed where no limit is given.
const DEFAULT_LIMIT: usize = 100;
/// Updates listed at most.
const MAX_LIMIT: usize = 1000;

/// What a request asks for.
#[derive(Debug)]
pub(super) enum Call {
    /// What can be done here.
    Options(&'static Route),
    /// Release and runtime.
    Info,
    /// Help.
    List(Section),
    /// Counters as a table.
    MetricsTable,
    /// Counters as JSON.
    MetricsJson,
    /// Nodes.
    Nodes(Select),
    /// Add or change one node.
    PutNode(NodeId),
    /// Add or change several.
    PutNodes,
    /// Remove nodes.
    DeleteNodes(Select),
    /// All queues.
    Queues,
    /// Drop what waits for a node.
    DiscardQueue(NodeId),
    /// Updates.
    Updates(Filter),
    /// One update.
    Update(Sequence),
    /// What nodes answered differently.
    Divergences,
    /// What happens, as it happens.
    Events,
    /// What was given up, all or for one node.
    DeadLetters(Option<NodeId>),
    /// Try one again, also when a later update overtook it.
    RetryLetter { node: NodeId, sequence: Sequence, reorder: bool },
    /// Try all again, or those of one node.
    RetryLetters { node: Option<NodeId>, reorder: bool },
    /// Send a node again what the log holds, from one update on or from the first.
    Sync(NodeId, Option<Sequence>),
    /// No more reads for a node, and maintenance when its queue is empty.
    Drain(NodeId),
    /// Remove one.
    DropLetter(NodeId, Sequence),
    /// Remove all, or those of one node.
    DropLetters(Option<NodeId>),
}

/// Which nodes are meant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Select {
    /// All.
    All,
    /// Those of a host, which is written without brackets.
    Host(String),
    /// One.
    One(NodeId),
}

impl Select {
    /// Whether a node is meant.
    pub(super) fn takes(&self, id: &NodeId) -> bool {
        match self {
            Self::All => true,
            Self::Host(host) => id.host() == host,
            Self::One(one) => one == id,
        }
    }
}

impl Call {
    /// Whether it changes anything.
    pub(super) fn changes(&self) -> bool {
        match self {
            Self::PutNode(_) | Self::PutNodes | Self::DeleteNodes(_) | Self::DiscardQueue(_) => true,
            Self::RetryLetter { .. } | Self::RetryLetters { .. } => true,
            Self::DropLetter(..) | Self::DropLetters(_) | Self::Sync(..) | Self::Drain(_) => true,
            Self::Options(_) | Self::Info | Self::List(_) | Self::MetricsTable | Self::MetricsJson => false,
            Self::Divergences | Self::Events => false,
            Self::Nodes(_) | Self::Queues | Self::Updates(_) | Self::Update(_) | Self::DeadLetters(_) => {
                false
            }
        }
    }

    /// Whether the request's body is read.
    pub(super) fn takes_body(&self) -> bool {
        matches!(self, Self::PutNode(_) | Self::PutNodes)
    }

    /// What a request asks for.
    ///
    /// # Errors
    /// When there is no such route or method, or a parameter is wrong.
    pub(super) fn parse(method: &Method, uri: &Uri) -> Result<Self, Fault> {
        let (route, parts) = find(uri.path()).ok_or_else(|| Fault::UnknownPath(uri.path().to_owned()))?;
        if route.options && method == Method::OPTIONS {
            return Ok(Self::Options(route));
        }
        let method = if method == Method::HEAD { "GET" } else { method.as_str() };
        if !route.verbs.iter().any(|verb| verb.method == method) {
            return Err(Fault::Method(route));
        }
        let part = |place: usize| parts.get(place).map_or("", String::as_str);
        let query = Query::of(uri);
        Ok(match (route.place, method) {
            (Place::Info, _) => Self::Info,
            (Place::List(section), _) => Self::List(section),
            (Place::Metrics, _) => metrics(&query)?,
            (Place::Nodes, "PUT") => Self::PutNodes,
            (Place::Node, "PUT") => Self::PutNode(node(part(0), part(1))?),
            (Place::Nodes, "DELETE") => Self::DeleteNodes(Select::All),
            (Place::Host, "DELETE") => Self::DeleteNodes(Select::Host(host(part(0))?)),
            (Place::Node, "DELETE") => Self::DeleteNodes(Select::One(node(part(0), part(1))?)),
            (Place::Nodes, _) => Self::Nodes(Select::All),
            (Place::Host, _) => Self::Nodes(Select::Host(host(part(0))?)),
            (Place::Node, _) => Self::Nodes(Select::One(node(part(0), part(1))?)),
            (Place::Queues, _) => Self::Queues,
            (Place::Queue, _) => Self::DiscardQueue(address(":node", part(0))?),
            (Place::Updates, _) => Self::Updates(filter(&query)?),
            (Place::Update, _) => Self::Update(sequence(part(0))?),
            (Place::Divergences, _) => Self::Divergences,
            (Place::Events, _) => Self::Events,
            (Place::Sync, _) => Self::Sync(node(part(0), part(1))?, from(&query)?),
            (Place::Drain, _) => Self::Drain(node(part(0), part(1))?),
            (Place::DeadLetters, "DELETE") => Self::DropLetters(query.node()?),
            (Place::DeadLetters, _) => Self::DeadLetters(query.node()?),
            (Place::RetryLetters, _) => {
                Self::RetryLetters { node: query.node()?, reorder: query.on("reorder") }
            }
            (Place::DeadLetter, _) => Self::DropLetter(address(":node", part(0))?, sequence(part(1))?),
            (Place::RetryLetter, _) => Self::RetryLetter {
                node: address(":node", part(0))?,
                sequence: sequence(part(1))?,
                reorder: query.on("reorder"),
            },
        })
    }
}

fn metrics(query: &Query) -> Result<Call, Fault> {
    match query.get("format") {
        Some("table") => Ok(Call::MetricsTable),
        Some("json") => Ok(Call::MetricsJson),
        _ => Err(Fault::unrecognized(
            "format",
            "Use table or json; without a query /metrics is in Prometheus' format",
        )),
    }
}

/// A host as it stands in identities: without brackets.
fn host(text: &str) -> Result<String, Fault> {
    // Any port will do: only the host is looked at.
    NodeId::new(text, 1).map(|id| id.host().to_owned()).map_err(Fault::node)
}

fn node(host: &str, port: &str) -> Result<NodeId, Fault> {
    let bad =
        || Fault::unrecognized(":port", format!("'{port}' is not a port: use a number from 1 to 65535"));
    // Only digits: `parse` alone would take a sign.
    if !port.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(bad());
    }
    let port = port.parse::<u16>().map_err(|_| bad())?;
    if port == 0 {
        return Err(Fault::zero(":port"));
    }
    NodeId::new(host, port).map_err(Fault::node)
}

fn sequence(text: &str) -> Result<Sequence, Fault> {
    let digits = text.bytes().all(|byte| byte.is_ascii_digit());
    let number = text.parse::<u64>().ok().filter(|_| digits);
    let bad = || {
        Fault::unrecognized(
            ":sequence",
            format!("'{text}' is not a sequence: use the number in Spawn-Sequence"),
        )
    };
    number.map(Sequence).ok_or_else(bad)
}

/// Where to begin; `None` is the first that there is.
fn from(query: &Query) -> Result<Option<Sequence>, Fault> {
    match query.get("from") {
        Some("start") => Ok(None),
        Some(text) => sequence(text).ok().filter(|from| from.0 > 0).map(Some).ok_or_else(bad_from),
        None => Err(bad_from()),
    }
}

fn bad_from() -> Fault {
    Fault::unrecognized("from", "Use the sequence of the first update to send, or start")
}

fn filter(query: &Query) -> Result<Filter, Fault> {
    let limit = match query.get("limit").map(str::parse::<usize>) {
        None => DEFAULT_LIMIT,
        Some(Ok(limit @ 1..)) => limit.min(MAX_LIMIT),
        Some(_) => return Err(Fault::unrecognized("limit", format!("Use a number from 1 to {MAX_LIMIT}"))),
    };
    let state = query.get("state").map(state).transpose()?;
    Ok(Filter { node: query.node()?, state, limit })
}

fn state(name: &str) -> Result<DeliveryState, Fault> {
    use DeliveryState::{Dead, Delivered, Discarded, Pending, Rejected};
    let known =
        [Pending, Delivered, Dead, Discarded, Rejected].into_iter().find(|state| state.as_str() == name);
    known.ok_or_else(|| Fault::unrecognized("state", "Use pending, delivered, dead, discarded or rejected"))
}

#[cfg(test)]
mod tests;
