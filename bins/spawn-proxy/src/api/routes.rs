//! Every route in one table: what is served, what is allowed, and what the help says come from it.

use common::node::NodeId;
use common::queue::Sequence;
use http::{Method, Uri};
use percent_encoding::percent_decode_str;
use update_log::{DeliveryState, Filter};

use super::fault::Fault;

/// One path and what can be done there.
#[derive(Debug)]
pub(super) struct Route {
    /// The path; `:name` stands for one segment.
    pub(super) path: &'static str,
    /// Whether OPTIONS is answered.
    pub(super) options: bool,
    /// What can be done there.
    pub(super) verbs: &'static [Verb],
    place: Place,
}

/// One method of a route.
#[derive(Debug)]
pub(super) struct Verb {
    /// The method.
    pub(super) method: &'static str,
    /// What it does, for people.
    pub(super) does: &'static str,
    /// Parameters of the query, each with what it does.
    pub(super) query: &'static [(&'static str, &'static str)],
}

#[derive(Debug, Clone, Copy)]
enum Place {
    Info,
    List(Section),
    Metrics,
    Nodes,
    Host,
    Node,
    Queues,
    Queue,
    Updates,
    Update,
    DeadLetters,
}

/// A part of the help.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Section {
    /// Everything.
    All,
    /// What is about nodes.
    Nodes,
    /// What is about nodes with one method.
    NodesBy(&'static str),
}

const fn get(does: &'static str) -> Verb {
    Verb { method: "GET", does, query: &[] }
}

const DISCARD: (&str, &str) = ("discard=true", "drop updates that wait for a node that goes away; else the answer is 409");

/// The table.
pub(super) const ROUTES: &[Route] = &[
    Route {
        path: "/info",
        options: false,
        place: Place::Info,
        verbs: &[get("Release and runtime of this proxy")],
    },
    Route {
        path: "/list",
        options: false,
        place: Place::List(Section::All),
        verbs: &[get("This list")],
    },
    Route {
        path: "/list/nodes",
        options: false,
        place: Place::List(Section::Nodes),
        verbs: &[get("The part of this list that is about nodes")],
    },
    Route {
        path: "/list/nodes/get",
        options: false,
        place: Place::List(Section::NodesBy("GET")),
        verbs: &[get("How to read nodes")],
    },
    Route {
        path: "/list/nodes/set",
        options: false,
        place: Place::List(Section::NodesBy("PUT")),
        verbs: &[get("How to add and change nodes")],
    },
    Route {
        path: "/list/nodes/delete",
        options: false,
        place: Place::List(Section::NodesBy("DELETE")),
        verbs: &[get("How to remove nodes")],
    },
    Route {
        path: "/nodes",
        options: true,
        place: Place::Nodes,
        verbs: &[
            get("All nodes"),
            Verb {
                method: "PUT",
                does: "Add or change the nodes of a JSON array, each by its host and port; others stay",
                query: &[DISCARD],
            },
            Verb { method: "DELETE", does: "Remove all nodes", query: &[DISCARD] },
        ],
    },
    Route {
        path: "/nodes/:host",
        options: true,
        place: Place::Host,
        verbs: &[
            get("The nodes of this host"),
            Verb { method: "DELETE", does: "Remove the nodes of this host", query: &[DISCARD] },
        ],
    },
    Route {
        path: "/nodes/:host/:port",
        options: true,
        place: Place::Node,
        verbs: &[
            get("One node"),
            Verb {
                method: "PUT",
                does: "Add this node, or change what the JSON object names; another host or port there renames it",
                query: &[DISCARD],
            },
            Verb { method: "DELETE", does: "Remove this node", query: &[DISCARD] },
        ],
    },
    Route {
        path: "/queues",
        options: true,
        place: Place::Queues,
        verbs: &[get("The queue of updates of each active node")],
    },
    Route {
        path: "/queues/:node",
        options: true,
        place: Place::Queue,
        verbs: &[Verb { method: "DELETE", does: "Drop what waits for HOST:PORT, and say how much", query: &[] }],
    },
    Route {
        path: "/updates",
        options: true,
        place: Place::Updates,
        verbs: &[Verb {
            method: "GET",
            does: "The newest updates and what each node did with them",
            query: &[
                ("node=HOST:PORT", "only those for this node"),
                ("state=NAME", "only those pending, delivered, dead, discarded or rejected"),
                ("limit=N", "at most so many: 100, up to 1000"),
            ],
        }],
    },
    Route {
        path: "/updates/:sequence",
        options: true,
        place: Place::Update,
        verbs: &[get("One update")],
    },
    Route {
        path: "/dead-letters",
        options: true,
        place: Place::DeadLetters,
        verbs: &[Verb {
            method: "GET",
            does: "Updates that were given up",
            query: &[("node=HOST:PORT", "only those for this node")],
        }],
    },
    Route {
        path: "/metrics",
        options: false,
        place: Place::Metrics,
        verbs: &[Verb {
            method: "GET",
            does: "Counters, in Prometheus' format where no other is named",
            query: &[("format=table", "as a table"), ("format=json", "as a map by node")],
        }],
    },
];

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
    /// What was given up, all or for one node.
    DeadLetters(Option<NodeId>),
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
            Self::Options(_) | Self::Info | Self::List(_) | Self::MetricsTable | Self::MetricsJson => false,
            Self::Nodes(_) | Self::Queues | Self::Updates(_) | Self::Update(_) | Self::DeadLetters(_) => false,
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
            (Place::DeadLetters, _) => Self::DeadLetters(query.node()?),
        })
    }
}

impl Route {
    /// Its methods as `Allow` lists them: in alphabetical order.
    pub(super) fn allow(&self) -> String {
        let mut methods: Vec<&str> = self.verbs.iter().map(|verb| verb.method).collect();
        if methods.contains(&"GET") {
            methods.push("HEAD");
        }
        if self.options {
            methods.push("OPTIONS");
        }
        methods.sort_unstable();
        methods.join(", ")
    }
}

/// The route of a path and what stands for its parameters; one slash at the end is as good as none.
fn find(path: &str) -> Option<(&'static Route, Vec<String>)> {
    let path = path.strip_prefix('/')?;
    let segments: Vec<String> = path.strip_suffix('/').unwrap_or(path).split('/').map(decode).collect();
    let fits = |pattern: &str| {
        let pattern: Vec<&str> = pattern.split('/').skip(1).collect();
        let same = |(want, have): (&&str, &String)| if want.starts_with(':') { !have.is_empty() } else { want == have };
        pattern.len() == segments.len() && pattern.iter().zip(&segments).all(same)
    };
    let route = ROUTES.iter().find(|route| fits(route.path))?;
    let named = route.path.split('/').skip(1).zip(&segments).filter(|(want, _)| want.starts_with(':'));
    Some((route, named.map(|(_, have)| have.clone()).collect()))
}

fn decode(text: &str) -> String {
    percent_decode_str(text).decode_utf8_lossy().into_owned()
}

/// The parameters of a query.
pub(super) struct Query(Vec<(String, String)>);

impl Query {
    /// Of a request; a form's `+` is a space.
    pub(super) fn of(uri: &Uri) -> Self {
        let pairs = uri.query().unwrap_or_default().split('&').filter(|pair| !pair.is_empty());
        let split = |pair: &str| {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            (decode(&key.replace('+', " ")), decode(&value.replace('+', " ")))
        };
        Self(pairs.map(split).collect())
    }

    /// The first value of a parameter; an empty one is as good as none.
    pub(super) fn get(&self, key: &str) -> Option<&str> {
        self.0.iter().find(|(name, _)| name == key).map(|(_, value)| value.as_str()).filter(|value| !value.is_empty())
    }

    /// Whether a switch is on. Nothing but `true` turns one on, so that no spelling drops updates by surprise.
    pub(super) fn on(&self, key: &str) -> bool {
        self.get(key) == Some("true")
    }

    fn node(&self) -> Result<Option<NodeId>, Fault> {
        self.get("node").map(|text| address("node", text)).transpose()
    }
}

fn metrics(query: &Query) -> Result<Call, Fault> {
    match query.get("format") {
        Some("table") => Ok(Call::MetricsTable),
        Some("json") => Ok(Call::MetricsJson),
        _ => Err(Fault::unrecognized("format", "Use table or json; without a query /metrics is in Prometheus' format")),
    }
}

/// A host as it stands in identities: without brackets.
fn host(text: &str) -> Result<String, Fault> {
    // Any port will do: only the host is looked at.
    NodeId::new(text, 1).map(|id| id.host().to_owned()).map_err(Fault::node)
}

fn node(host: &str, port: &str) -> Result<NodeId, Fault> {
    let bad = || Fault::unrecognized(":port", format!("'{port}' is not a port: use a number from 1 to 65535"));
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

fn address(what: &str, text: &str) -> Result<NodeId, Fault> {
    text.parse::<NodeId>().map_err(|error| Fault::unrecognized(what, error.to_string()))
}

fn sequence(text: &str) -> Result<Sequence, Fault> {
    let digits = text.bytes().all(|byte| byte.is_ascii_digit());
    let number = text.parse::<u64>().ok().filter(|_| digits);
    let bad = || Fault::unrecognized(":sequence", format!("'{text}' is not a sequence: use the number in Spawn-Sequence"));
    number.map(Sequence).ok_or_else(bad)
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
    let known = [Pending, Delivered, Dead, Discarded, Rejected].into_iter().find(|state| state.as_str() == name);
    known.ok_or_else(|| Fault::unrecognized("state", "Use pending, delivered, dead, discarded or rejected"))
}

#[cfg(test)]
mod tests;
