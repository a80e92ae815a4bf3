//! What changes while the node runs: by the API, and by reloads.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use cluster::{Manager, Node};
use serde_json::{Map, Value};

use crate::config::NodeConfig;
use crate::tunables::Tunables;

/// What is in force, and what the file said when it was last read.
#[derive(Debug)]
pub struct Live {
    manager: Arc<Manager>,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    token_duration: Duration,
    file: Tunables,
    peers: Vec<Node>,
    keyring_mark: [u8; 32],
}

impl Live {
    /// As configured at the start.
    pub fn new(manager: Arc<Manager>, config: &NodeConfig) -> Self {
        let state = State {
            token_duration: config.tunables.token_duration,
            file: config.tunables.clone(),
            peers: config.nodes.clone(),
            keyring_mark: config.keyring_mark,
        };
        Self { manager, state: Mutex::new(state) }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What is in force.
    pub fn tunables(&self) -> Tunables {
        self.in_force(&self.lock())
    }

    fn in_force(&self, state: &State) -> Tunables {
        Tunables { cluster: self.manager.settings(), token_duration: state.token_duration }
    }

    /// Puts changes in force, all or none, and gives what is in force now.
    ///
    /// # Errors
    /// A sentence with everything that is wrong.
    pub fn change(&self, changes: &Map<String, Value>) -> Result<Tunables, String> {
        let mut state = self.lock();
        let tunables = self.in_force(&state).changed(changes)?;
        self.put(&mut state, &tunables)?;
        Ok(tunables)
    }

    fn put(&self, state: &mut State, tunables: &Tunables) -> Result<(), String> {
        self.manager.update_settings(tunables.cluster.clone()).map_err(|error| error.to_string())?;
        state.token_duration = tunables.token_duration;
        Ok(())
    }

    /// Puts in force what differs from the configuration as it was last read; what the API changed stays otherwise.
    ///
    /// # Errors
    /// A sentence. What could be wrong is looked at before anything is changed, but for an address that cannot be
    /// listened on again.
    pub async fn reload(&self, config: &NodeConfig) -> Result<(), String> {
        let tunables = {
            let state = self.lock();
            self.in_force(&state).reloaded(&state.file, &config.tunables)
        };
        let problems = tunables.problems();
        if !problems.is_empty() {
            return Err(format!("with what the API changed: {}", problems.join("; ")));
        }
        let changed = self.lock().keyring_mark != config.keyring_mark;
        if changed {
            let Some(ring) = config.keyring.clone() else {
                return Err(
                    "secret-file: a node that has had secrets cannot do without from now on; restart it"
                        .to_owned(),
                );
            };
            self.manager.set_keyring(ring).await.map_err(|error| error.to_string())?;
            tracing::info!("other secrets are in use");
        }
        let mut state = self.lock();
        state.keyring_mark = config.keyring_mark;
        self.put(&mut state, &tunables)?;
        for (node, is_new) in differing(&state.peers, &config.nodes) {
            if is_new {
                self.manager.add_node(node.clone()).map_err(|error| error.to_string())?;
                tracing::info!(peer = &*node.name, addr = node.addr, "a peer was added");
            } else if self.manager.remove_node(&node.name).is_ok() {
                tracing::info!(peer = &*node.name, "a peer was removed");
            }
        }
        state.file = config.tunables.clone();
        state.peers.clone_from(&config.nodes);
        Ok(())
    }
}

/// The peers that are gone (false), and those that are new or other than they were (true).
fn differing<'a>(before: &'a [Node], now: &'a [Node]) -> impl Iterator<Item = (&'a Node, bool)> {
    let gone = before.iter().filter(|node| now.iter().all(|other| other.name != node.name));
    let new = now.iter().filter(|node| !before.contains(node));
    gone.map(|node| (node, false)).chain(new.map(|node| (node, true)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_differs_is_touched() {
        let node = |name: &str, port: u16| Node::new(name, format!("tcp://h:{port}"));
        let (before, now) =
            ([node("a", 1), node("b", 1), node("c", 1)], [node("b", 1), node("c", 2), node("d", 1)]);
        let names: Vec<(&str, bool)> = differing(&before, &now).map(|(node, is)| (&*node.name, is)).collect();
        assert_eq!(names, [("a", false), ("c", true), ("d", true)]);
    }
}
