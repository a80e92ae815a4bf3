//! What is counted of the nodes of spawn-proxies.

use std::time::SystemTime;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

use super::plan::Action;
use crate::held::Why;

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Proxy {
    service: String,
    api: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Change {
    service: String,
    api: String,
    change: &'static str,
}

/// Counters of all `[[spawn]]`. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Counters {
    changes: Family<Change, Counter>,
    conflicts: Family<Proxy, Counter>,
    failures: Family<Proxy, Counter>,
    nodes: Family<Proxy, Gauge>,
    foreign: Family<Proxy, Gauge>,
    held: Family<Proxy, Gauge>,
    last_success: Family<Proxy, Gauge>,
}

impl Counters {
    /// Makes them visible.
    pub fn register(&self, registry: &mut Registry) {
        let help = "Changes made at a spawn-proxy: add, activate, prioritize, rest, remove";
        registry.register("spawn_changes", help, self.changes.clone());
        let help = "Removals that were refused because updates wait for the node";
        registry.register("spawn_conflicts", help, self.conflicts.clone());
        registry.register("spawn_failures", "Rounds of changes that failed", self.failures.clone());
        registry.register("spawn_nodes", "Nodes that this agent added", self.nodes.clone());
        let help = "Instances whose node somebody else added: they are not touched";
        registry.register("spawn_foreign_nodes", help, self.foreign.clone());
        let help = "Whether the newest list of the service does not count: unconfirmed, empty or too few";
        registry.register("spawn_held", help, self.held.clone());
        let help = "When the proxy was last found or made right, in seconds since 1970";
        registry.register("spawn_last_success_seconds", help, self.last_success.clone());
    }

    /// Those of one service at one proxy.
    pub fn of(&self, service: &str, api: &str) -> Board {
        Board { counters: self.clone(), proxy: Proxy { service: service.to_owned(), api: api.to_owned() } }
    }
}

/// What is counted of one service at one proxy.
#[derive(Clone, Debug)]
pub struct Board {
    counters: Counters,
    proxy: Proxy,
}

impl Board {
    /// A change was made.
    pub fn changed(&self, action: Action) {
        let Proxy { service, api } = self.proxy.clone();
        self.counters.changes.get_or_create(&Change { service, api, change: action.word() }).inc();
    }

    /// A removal was refused.
    pub fn refused(&self) {
        self.counters.conflicts.get_or_create(&self.proxy).inc();
    }

    /// A round failed.
    pub fn failed(&self) {
        self.counters.failures.get_or_create(&self.proxy).inc();
    }

    /// A round was made: so many nodes are ours, and so many wanted ones somebody else's.
    pub fn right(&self, nodes: usize, foreign: usize) {
        let number = |count: usize| i64::try_from(count).unwrap_or(i64::MAX);
        self.counters.nodes.get_or_create(&self.proxy).set(number(nodes));
        self.counters.foreign.get_or_create(&self.proxy).set(number(foreign));
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs();
        self.counters.last_success.get_or_create(&self.proxy).set(i64::try_from(now).unwrap_or(i64::MAX));
    }

    /// Whether the newest list counts.
    pub fn held(&self, why: Option<Why>) {
        self.counters.held.get_or_create(&self.proxy).set(i64::from(why.is_some()));
    }

    /// The proxy is not kept any more: what says how it stands goes.
    pub fn ended(&self) {
        for gauge in [&self.counters.nodes, &self.counters.foreign, &self.counters.held] {
            gauge.remove(&self.proxy);
        }
    }
}
