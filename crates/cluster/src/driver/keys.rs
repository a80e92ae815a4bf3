//! Which keys are used with whom.

use std::collections::HashMap;
use std::sync::Arc;

use zmq_link::{Authenticator, KeyPair, PublicKey};

use crate::error::NodeError;
use crate::identity::{Attempt, Identity};
use crate::node::Node;

/// The keys of a node and its peers.
#[derive(Debug)]
pub(crate) struct Keys {
    name: Arc<str>,
    identity: Identity,
    peers: HashMap<Arc<str>, PeerKeys>,
    allowed: Authenticator,
    /// Grows with each change.
    version: u64,
}

#[derive(Debug)]
struct PeerKeys {
    node: Node,
    accepts: Vec<PublicKey>,
    attempts: Vec<Attempt>,
    /// The attempt that comes next, or that led to the link that stands.
    at: usize,
}

impl PeerKeys {
    fn new(own: &str, identity: &Identity, node: Node) -> Result<Self, NodeError> {
        let (accepts, attempts) = (identity.accepts(&node)?, identity.attempts(own, &node)?);
        Ok(Self { node, accepts, attempts, at: 0 })
    }
}

impl Keys {
    pub(crate) fn new(name: Arc<str>, identity: Identity) -> Result<Self, zmq_link::KeyError> {
        let allowed = Authenticator::new(std::iter::empty::<(PublicKey, String)>())?;
        Ok(Self { name, identity, peers: HashMap::new(), allowed, version: 0 })
    }

    /// Who may connect; follows all changes.
    pub(crate) fn allowed(&self) -> Authenticator {
        self.allowed.clone()
    }

    /// The pair of the listening end.
    pub(crate) fn serves(&self) -> Result<KeyPair, NodeError> {
        self.identity.serves(&self.name)
    }

    pub(crate) fn add(&mut self, node: Node) -> Result<(), NodeError> {
        self.check_pinned(&self.identity, &node)?;
        let keys = PeerKeys::new(&self.name, &self.identity, node)?;
        self.peers.insert(Arc::clone(&keys.node.name), keys);
        self.publish()
    }

    /// A key is one node's: with that of two, a link would be now the one's and now the other's.
    fn check_pinned(&self, identity: &Identity, node: &Node) -> Result<(), NodeError> {
        let Some(key) = node.key else { return Ok(()) };
        let own = identity.owns(&self.name)?;
        let others = self.peers.values().filter(|peer| peer.node.name != node.name);
        let mut others = others.filter(|peer| peer.accepts.contains(&key)).map(|peer| &peer.node.name);
        let other = if own.contains(&key) { Some(&self.name) } else { others.next() };
        other.map_or(Ok(()), |other| {
            Err(NodeError::KeyTwice { name: Arc::clone(&node.name), other: Arc::clone(other) })
        })
    }

    pub(crate) fn remove(&mut self, name: &str) -> Result<(), NodeError> {
        self.peers.remove(name);
        self.publish()
    }

    /// Another identity, for all peers at once; on an error nothing changes.
    pub(crate) fn replace(&mut self, identity: Identity) -> Result<(), NodeError> {
        let peers = self.peers.values().map(|peer| {
            self.check_pinned(&identity, &peer.node)?;
            let keys = PeerKeys::new(&self.name, &identity, peer.node.clone())?;
            Ok((Arc::clone(&keys.node.name), keys))
        });
        let peers = peers.collect::<Result<_, NodeError>>()?;
        identity.serves(&self.name)?;
        (self.peers, self.identity) = (peers, identity);
        self.publish()
    }

    pub(crate) fn identity(&self) -> &Identity {
        &self.identity
    }

    /// Another number: keys that were allowed may be no more.
    pub(crate) fn version(&self) -> u64 {
        self.version
    }

    /// Whether a connection that was made to this peer with these keys would be made again.
    pub(crate) fn may_dial(&self, name: &str, with: &Attempt) -> bool {
        let same =
            |attempt: &Attempt| (attempt.own.public(), attempt.server) == (with.own.public(), with.server);
        self.peers.get(name).is_some_and(|peer| peer.attempts.iter().any(same))
    }

    /// Whether this peer may come with this key.
    pub(crate) fn may_come(&self, name: &str, key: &PublicKey) -> bool {
        self.peers.get(name).is_some_and(|peer| peer.accepts.contains(key))
    }

    fn publish(&mut self) -> Result<(), NodeError> {
        self.version += 1;
        let keys = self.peers.values();
        let keys = keys.flat_map(|peer| peer.accepts.iter().map(|key| (*key, peer.node.name.to_string())));
        self.allowed.replace(keys).map_err(|error| NodeError::Name(error.to_string()))
    }

    /// What to dial this peer with now.
    pub(crate) fn attempt(&self, name: &str) -> Option<Attempt> {
        let peer = self.peers.get(name)?;
        peer.attempts.get(peer.at).cloned()
    }

    /// The attempt failed because of its keys: whether there is another one before all begins anew.
    pub(crate) fn try_next(&mut self, name: &str) -> bool {
        let Some(peer) = self.peers.get_mut(name) else { return false };
        peer.at = (peer.at + 1) % peer.attempts.len().max(1);
        peer.at != 0
    }
}
