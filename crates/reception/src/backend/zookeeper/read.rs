//! Lists: the nodes under a name, and what is remembered of those that were read before.

use std::collections::HashMap;

use zookeeper_client::{Client, MultiReadResult};

use super::node::{NodeName, unescaped};
use super::session::Sessions;
use crate::backend::contents;
use crate::error::Error;
use crate::record;
use crate::service::{Instance, Name, Service, Snapshot};

/// Values per request: 64 KiB each at most, some hundred bytes in general.
const AT_ONCE: usize = 200;
/// A list that still changes while it is read is taken as it is after so many readings of what is new in it.
const READINGS: u32 = 10;

/// What a node says, which does not change unless somebody else than its owner writes to it.
#[derive(Debug)]
struct Value {
    sequence: u64,
    created: u64,
    /// None for a value that is no record's.
    service: Option<Service>,
}

/// Which of several nodes with one id count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Twins {
    /// The newest: a process that was restarted, before the session of the dead one is over.
    Newest,
    /// All: in an election the oldest leads until its session is over, whoever else has its id.
    All,
}

/// The records of a name, by their nodes.
#[derive(Debug)]
pub(super) struct Records {
    name: Name,
    path: String,
    values: HashMap<String, Value>,
}

impl Records {
    pub(super) fn new(name: &Name, path: &str) -> Self {
        Self { name: name.clone(), path: path.to_owned(), values: HashMap::new() }
    }

    /// Forgets what it knows of a node.
    pub(super) fn forget(&mut self, path: &str) {
        if let Some((_, node)) = path.rsplit_once('/') {
            self.values.remove(node);
        }
    }

    /// Forgets all.
    pub(super) fn clear(&mut self) {
        self.values.clear();
    }

    /// Reads which nodes there are, and those that are not known yet: two requests, however long the list is.
    pub(super) async fn read(&mut self, sessions: &Sessions, client: &Client) -> Result<(), Error> {
        for _ in 0..READINGS {
            let nodes = children(sessions, client, &self.path).await?;
            self.values.retain(|node, _| nodes.contains(node));
            let new: Vec<_> = nodes.iter().filter(|node| !self.values.contains_key(*node)).collect();
            let mut whole = true;
            for some in new.chunks(AT_ONCE) {
                whole &= self.learn(sessions, client, some).await?;
            }
            if whole {
                break;
            }
        }
        Ok(())
    }

    /// Reads these nodes; false when one is gone, so that the list that it was on is no longer the server's.
    async fn learn(
        &mut self,
        sessions: &Sessions,
        client: &Client,
        nodes: &[&String],
    ) -> Result<bool, Error> {
        let mut reader = client.new_multi_reader();
        for node in nodes {
            let added = reader.add_get_data(&format!("{}/{node}", self.path));
            added.map_err(|error| sessions.told(&error))?;
        }
        let answers = sessions.ask(reader.commit()).await?.unwrap_or_default();
        let mut whole = answers.len() == nodes.len();
        for (node, answer) in nodes.iter().zip(answers) {
            let MultiReadResult::Data { data, stat } = answer else {
                whole = false;
                continue;
            };
            if let Some(NodeName { id, sequence, .. }) = NodeName::parse(node) {
                let service = record::decode(&self.name, &unescaped(id), &data);
                if service.is_none() {
                    tracing::warn!(path = self.path, %node, "left out of lists: its value is no record");
                }
                let created = stat.czxid.unsigned_abs();
                self.values.insert((*node).clone(), Value { sequence, created, service });
            }
        }
        Ok(whole)
    }

    /// The list in the order of creation.
    pub(super) fn snapshot(&self, twins: Twins) -> Snapshot {
        let mut values: Vec<_> =
            self.values.values().filter_map(|value| Some((value, value.service.as_ref()?))).collect();
        values.sort_by_key(|(value, _)| (value.created, value.sequence));
        if twins == Twins::Newest {
            let newest: HashMap<_, _> =
                values.iter().map(|(value, service)| (service.id.as_str(), value.created)).collect();
            values.retain(|(value, service)| newest.get(service.id.as_str()) == Some(&value.created));
        }
        let instances = values.into_iter();
        let instances =
            instances.map(|(value, service)| Instance { service: service.clone(), created: value.created });
        contents::snapshot(instances.collect())
    }
}

/// The record nodes under a name, from a server that is as far as the leader was; none where the name is not there.
///
/// A follower may lag behind by seconds. `sync` is answered once it has what the leader had committed, and goes out together with the
/// read that it is for.
pub(super) async fn children(sessions: &Sessions, client: &Client, path: &str) -> Result<Vec<String>, Error> {
    let mut nodes = entries(sessions, client, path).await?;
    nodes.retain(|node| NodeName::parse(node).is_some());
    Ok(nodes)
}

/// All nodes under another.
pub(super) async fn entries(sessions: &Sessions, client: &Client, path: &str) -> Result<Vec<String>, Error> {
    let (synced, nodes) = (client.sync(path), client.list_children(path));
    let both = async {
        synced.await?;
        nodes.await
    };
    Ok(sessions.ask(both).await?.unwrap_or_default())
}
