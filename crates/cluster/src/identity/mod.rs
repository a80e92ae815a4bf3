//! Who this node is, and how it knows others: keys derived from secrets, or a key per node.

mod derive;
mod keyring;

use std::sync::Arc;

use zmq_link::{KeyPair, PublicKey};

use crate::error::NodeError;
use crate::node::Node;

pub use keyring::Keyring;

/// What proves this node's name to others, and theirs to it.
///
/// With a keyring, every node that has the secret can derive every node's key: names are safe from outsiders, not
/// from members. With a key per node and the peers' public keys pinned, they are safe from members too.
#[derive(Debug, Clone, Default)]
pub struct Identity {
    pub(crate) keyring: Option<Keyring>,
    pub(crate) key: Option<KeyPair>,
}

/// The keys for one attempt to reach a peer.
#[derive(Debug, Clone)]
pub(crate) struct Attempt {
    pub(crate) own: KeyPair,
    pub(crate) server: PublicKey,
}

impl Identity {
    /// All nodes share the secrets of a keyring.
    pub fn shared(keyring: Keyring) -> Self {
        Self { keyring: Some(keyring), key: None }
    }

    /// This node has a key of its own; its peers' keys have to be given with them.
    pub fn own_key(key: KeyPair) -> Self {
        Self { keyring: None, key: Some(key) }
    }

    /// A key of its own, and a keyring for those peers whose keys are not given.
    #[must_use]
    pub fn with_key(mut self, key: KeyPair) -> Self {
        self.key = Some(key);
        self
    }

    /// Whether there is anything to prove the name with.
    pub(crate) fn is_some(&self) -> bool {
        self.keyring.is_some() || self.key.is_some()
    }

    /// The pair that the listening end has.
    pub(crate) fn serves(&self, name: &str) -> Result<KeyPair, NodeError> {
        self.own(name, 0)
    }

    /// All keys that are this node's own.
    pub(crate) fn owns(&self, name: &str) -> Result<Vec<PublicKey>, NodeError> {
        let secrets = self.keyring.as_ref().map_or(0, Keyring::len);
        let count = if self.key.is_some() { 1 } else { secrets };
        (0..count).map(|at| Ok(self.own(name, at)?.public())).collect()
    }

    fn own(&self, name: &str, at: usize) -> Result<KeyPair, NodeError> {
        if let Some(key) = &self.key {
            return Ok(key.clone());
        }
        let no_key = || NodeError::NoKey(name.into());
        let ring = self.keyring.as_ref().ok_or_else(no_key)?;
        ring.masters.get(at).ok_or_else(no_key)?.pair(name).map_err(|reason| failed(name, &reason))
    }

    /// The keys with which this peer may come in.
    pub(crate) fn accepts(&self, node: &Node) -> Result<Vec<PublicKey>, NodeError> {
        if let Some(key) = node.key {
            return Ok(vec![key]);
        }
        let ring = self.keyring.as_ref().ok_or_else(|| NodeError::NoKey(Arc::clone(&node.name)))?;
        let keys = ring.masters.iter().map(|master| Ok(master.pair(&node.name)?.public()));
        keys.collect::<Result<_, zmq_link::KeyError>>().map_err(|reason| failed(&node.name, &reason))
    }

    /// What to dial this peer with, one after the other: each secret in turn.
    pub(crate) fn attempts(&self, own: &str, node: &Node) -> Result<Vec<Attempt>, NodeError> {
        let servers = self.accepts(node)?;
        let secrets = self.keyring.as_ref().map_or(1, |ring| ring.masters.len());
        let mut attempts: Vec<Attempt> = Vec::new();
        for at in 0..secrets {
            let own = self.own(own, at)?;
            let Some(server) = servers.get(at).or(servers.first()).copied() else { continue };
            let is_new = |attempt: &Attempt| (attempt.own.public(), attempt.server) != (own.public(), server);
            if attempts.iter().all(is_new) {
                attempts.push(Attempt { own, server });
            }
        }
        Ok(attempts)
    }
}

fn failed(name: &str, reason: &zmq_link::KeyError) -> NodeError {
    NodeError::Derivation { name: name.into(), reason: reason.to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_end_derives_the_key_of_the_other() {
        let here =
            Identity::shared(Keyring::new(["the first secret of all", "another secret of all"]).unwrap());
        let there = Identity::shared(Keyring::new(["another secret of all"]).unwrap());
        let (n1, n2) = (Node::new("n1", "tcp://h:1"), Node::new("n2", "tcp://h:2"));
        let attempts = here.attempts("n1", &n2).unwrap();
        assert_eq!(attempts.len(), 2);
        assert_eq!(attempts[1].server, there.serves("n2").unwrap().public());
        assert!(there.accepts(&n1).unwrap().contains(&attempts[1].own.public()));
        assert!(!there.accepts(&n2).unwrap().contains(&attempts[1].own.public()), "bound to the name");
        assert!(here.accepts(&n2).unwrap().contains(&there.serves("n2").unwrap().public()));
    }

    #[test]
    fn a_key_per_node_needs_the_keys_of_peers() {
        let pair = KeyPair::generate().unwrap();
        let identity = Identity::own_key(pair.clone());
        let node = Node::new("n2", "tcp://h:2");
        assert_eq!(identity.accepts(&node), Err(NodeError::NoKey("n2".into())));
        let node = node.with_key(pair.public());
        assert_eq!(identity.attempts("n1", &node).unwrap().len(), 1);
        let both = Identity::shared(Keyring::new(["the first secret of all"]).unwrap()).with_key(pair);
        assert_eq!(both.attempts("n1", &node).unwrap().len(), 1);
    }
}
