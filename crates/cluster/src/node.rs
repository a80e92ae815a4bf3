//! A node as it is configured.

use std::sync::Arc;

use zmq_link::PublicKey;

use crate::error::NodeError;

/// Longest name of a node, in characters.
const LONGEST_NAME: usize = 128;

/// A peer: its name, where it listens, and its key when it has one of its own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Node {
    /// Its name, which is its identity.
    pub name: Arc<str>,
    /// `tcp://HOST:PORT` or `ipc://PATH`; names are resolved at each connect.
    pub addr: String,
    /// Its public key. `None`: derived from the secret and its name.
    pub key: Option<PublicKey>,
}

impl Node {
    /// A node whose key is derived from the secret.
    pub fn new(name: impl Into<Arc<str>>, addr: impl Into<String>) -> Self {
        Self { name: name.into(), addr: addr.into(), key: None }
    }

    /// The same with a key of its own.
    #[must_use]
    pub fn with_key(mut self, key: PublicKey) -> Self {
        self.key = Some(key);
        self
    }

    /// Refuses what could not be a node's.
    pub(crate) fn check(&self) -> Result<(), NodeError> {
        check_name(&self.name)?;
        let address = || NodeError::Address { name: Arc::clone(&self.name), address: self.addr.clone() };
        if let Some(path) = self.addr.strip_prefix("ipc://") {
            return if path.is_empty() { Err(address()) } else { Ok(()) };
        }
        let rest = self.addr.strip_prefix("tcp://").ok_or_else(address)?;
        let (host, port) = rest.rsplit_once(':').ok_or_else(address)?;
        if host.is_empty() || host == "*" || port.parse::<u16>().ok().is_none_or(|port| port == 0) {
            return Err(address());
        }
        Ok(())
    }
}

/// Refuses what could not be a node's name.
pub(crate) fn check_name(name: &str) -> Result<(), NodeError> {
    let good = |c: char| !c.is_whitespace() && !c.is_control() && c != '/' && c != '*';
    if name.is_empty() || name.chars().count() > LONGEST_NAME || !name.chars().all(good) {
        return Err(NodeError::Name(name.to_owned()));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_node_is_refused() {
        assert!(Node::new("n2", "tcp://[::1]:9654").check().is_ok());
        assert!(Node::new("n2", "ipc:///run/n2.sock").check().is_ok());
        for name in ["", "a b", "a/b", "*", "a\n", &"x".repeat(129)] {
            assert!(matches!(Node::new(name, "tcp://h:1").check(), Err(NodeError::Name(_))), "{name}");
        }
        for addr in ["", "h:1", "tcp://h", "tcp://h:0", "tcp://h:99999", "tcp://*:1", "ipc://", "http://h:1"]
        {
            assert!(matches!(Node::new("n2", addr).check(), Err(NodeError::Address { .. })), "{addr}");
        }
    }
}
