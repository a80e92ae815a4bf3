//! Every route in one table: what is served, what is allowed, and what the help says come from it.

use super::query::decode;

/// One path and what can be done there.
#[derive(Debug)]
pub(super) struct Route {
    /// The path; `:name` stands for one segment.
    pub(super) path: &'static str,
    /// Whether OPTIONS is answered.
    pub(super) options: bool,
    /// What can be done there.
    pub(super) verbs: &'static [Verb],
    /// What it is about.
    pub(super) place: Place,
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

/// What a route is about.
#[derive(Debug, Clone, Copy)]
pub(super) enum Place {
    /// The program.
    Info,
    /// Help.
    List(Section),
    /// Counters.
    Metrics,
    /// All nodes.
    Nodes,
    /// The nodes of a host.
    Host,
    /// One node.
    Node,
    /// One node, brought level.
    Sync,
    /// One node, taken out gently.
    Drain,
    /// All queues.
    Queues,
    /// One queue.
    Queue,
    /// Updates.
    Updates,
    /// One update.
    Update,
    /// What nodes answered differently.
    Divergences,
    /// What happens.
    Events,
    /// What was given up.
    DeadLetters,
    /// What was given up, tried again.
    RetryLetters,
    /// One update that was given up on one node.
    DeadLetter,
    /// The same, tried again.
    RetryLetter,
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

const DISCARD: (&str, &str) =
    ("discard=true", "drop updates that wait for a node that goes away; else the answer is 409");

const OF_NODE: (&str, &str) = ("node=HOST:PORT", "only those for this node");

const REORDER: (&str, &str) =
    ("reorder=true", "also where a conflicting later update was delivered already; else the answer is 409");

/// The table.
pub(super) const ROUTES: &[Route] = &[
    Route {
        path: "/info",
        options: false,
        place: Place::Info,
        verbs: &[get("Release and runtime of this proxy")],
    },
    Route { path: "/list", options: false, place: Place::List(Section::All), verbs: &[get("This list")] },
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
        path: "/nodes/:host/:port/sync",
        options: true,
        place: Place::Sync,
        verbs: &[Verb {
            method: "POST",
            does: "Send this node again what the log holds, before what comes from now on",
            query: &[("from=SEQ|start", "the first update to send, or the first that the log holds")],
        }],
    },
    Route {
        path: "/nodes/:host/:port/drain",
        options: true,
        place: Place::Drain,
        verbs: &[Verb {
            method: "POST",
            does: "No more reads for this node, and maintenance once it has what waits for it now",
            query: &[],
        }],
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
        verbs: &[Verb {
            method: "DELETE",
            does: "Drop what waits for HOST:PORT, and say how much",
            query: &[],
        }],
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
    Route { path: "/updates/:sequence", options: true, place: Place::Update, verbs: &[get("One update")] },
    Route {
        path: "/dead-letters",
        options: true,
        place: Place::DeadLetters,
        verbs: &[
            Verb { method: "GET", does: "Updates that were given up", query: &[OF_NODE] },
            Verb { method: "DELETE", does: "Remove them for good", query: &[OF_NODE] },
        ],
    },
    Route {
        path: "/dead-letters/retry",
        options: true,
        place: Place::RetryLetters,
        verbs: &[Verb {
            method: "POST",
            does: "Put all back into their queues, in order, and list those that were refused",
            query: &[OF_NODE, REORDER],
        }],
    },
    Route {
        path: "/dead-letters/:node/:sequence",
        options: true,
        place: Place::DeadLetter,
        verbs: &[Verb { method: "DELETE", does: "Remove one for good", query: &[] }],
    },
    Route {
        path: "/dead-letters/:node/:sequence/retry",
        options: true,
        place: Place::RetryLetter,
        verbs: &[Verb { method: "POST", does: "Put one back into its node's queue", query: &[REORDER] }],
    },
    Route {
        path: "/divergences",
        options: true,
        place: Place::Divergences,
        verbs: &[get("Updates that nodes answered differently at the first attempt")],
    },
    Route {
        path: "/events",
        options: true,
        place: Place::Events,
        verbs: &[get(
            "What changes, as server-sent events: node, queue, update, dead-letter, divergence, rates",
        )],
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
pub(super) fn find(path: &str) -> Option<(&'static Route, Vec<String>)> {
    let path = path.strip_prefix('/')?;
    let segments: Vec<String> = path.strip_suffix('/').unwrap_or(path).split('/').map(decode).collect();
    let fits = |pattern: &str| {
        let pattern: Vec<&str> = pattern.split('/').skip(1).collect();
        let same = |(want, have): (&&str, &String)| {
            if want.starts_with(':') { !have.is_empty() } else { want == have }
        };
        pattern.len() == segments.len() && pattern.iter().zip(&segments).all(same)
    };
    let route = ROUTES.iter().find(|route| fits(route.path))?;
    let named = route.path.split('/').skip(1).zip(&segments).filter(|(want, _)| want.starts_with(':'));
    Some((route, named.map(|(_, have)| have.clone()).collect()))
}
