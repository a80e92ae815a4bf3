//! A node: one instance of a service, its address, and the order in which nodes are preferred.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

/// The identity of a node: its configured address, `host:port`, as written.
///
/// A name is never resolved for identity: `localhost:80` and `127.0.0.1:80` are two nodes.
/// An IPv6 host is written in brackets. Cheap to clone; ordered as text.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NodeId(Arc<str>);

impl NodeId {
    /// The identity of `host:port`. `host` is a name, an IPv4 address, or an IPv6 address with or
    /// without brackets.
    ///
    /// # Errors
    /// When the host is empty or holds a character that no host has, or the port is 0.
    pub fn new(host: &str, port: u16) -> Result<Self, NodeIdError> {
        let bare = host.strip_prefix('[').and_then(|h| h.strip_suffix(']')).unwrap_or(host);
        if bare.is_empty() {
            return Err(NodeIdError::EmptyHost);
        }
        if port == 0 {
            return Err(NodeIdError::Port("0".into()));
        }
        if bare.contains(':') {
            if bare.parse::<std::net::Ipv6Addr>().is_err() {
                return Err(NodeIdError::Host(host.into()));
            }
            return Ok(Self(format!("[{bare}]:{port}").into()));
        }
        let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-');
        if host.starts_with('[') || !bare.chars().all(allowed) {
            return Err(NodeIdError::Host(host.into()));
        }
        Ok(Self(format!("{bare}:{port}").into()))
    }

    /// `host:port`, an IPv6 host in brackets: fit for a Host header and a URL.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The host, an IPv6 address without brackets.
    pub fn host(&self) -> &str {
        let host = &self.0[..self.colon()];
        host.strip_prefix('[').and_then(|h| h.strip_suffix(']')).unwrap_or(host)
    }

    /// The port, never 0.
    pub fn port(&self) -> u16 {
        self.0[self.colon() + 1..].parse().unwrap_or_default()
    }

    fn colon(&self) -> usize {
        self.0.rfind(':').unwrap_or(self.0.len() - 1)
    }
}

impl FromStr for NodeId {
    type Err = NodeIdError;

    fn from_str(text: &str) -> Result<Self, NodeIdError> {
        let (host, port) = text.rsplit_once(':').ok_or_else(|| NodeIdError::NoPort(text.into()))?;
        if host.contains(':') && !host.starts_with('[') {
            return Err(NodeIdError::Host(host.into()));
        }
        let number = port.parse::<u16>().map_err(|_| NodeIdError::Port(port.into()))?;
        Self::new(host, number)
    }
}

impl fmt::Display for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Why a text names no node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NodeIdError {
    /// No colon between host and port.
    NoPort(String),
    /// The host is empty.
    EmptyHost,
    /// The host holds something that no host name or address has.
    Host(String),
    /// The port is not a number from 1 to 65535.
    Port(String),
}

impl fmt::Display for NodeIdError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoPort(text) => write!(f, "'{text}' has no port: write HOST:PORT"),
            Self::EmptyHost => f.write_str("the host is empty: write HOST:PORT"),
            Self::Host(host) => write!(
                f,
                "'{host}' is not a host: use letters, digits, '.', '-', '_', or an IPv6 address in brackets"
            ),
            Self::Port(port) => write!(f, "'{port}' is not a port: use a number from 1 to 65535"),
        }
    }
}

impl std::error::Error for NodeIdError {}

/// One instance of a service as an operator configures it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Node {
    /// Address and identity.
    pub id: NodeId,
    /// Rank among the nodes; see [`Priority`].
    pub priority: Priority,
    /// Whether the node takes part at all: an inactive node gets neither reads nor updates.
    pub active: bool,
    /// Whether the node rests: it gets no reads, and its updates wait for it.
    pub maintenance: bool,
}

/// The rank of a node: 1 is best, then 2, 3 and so on, then 0, then -1, -2 and so on.
///
/// `Ord` follows preference: the better priority is the smaller.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Priority(pub i64);

impl Priority {
    /// Positive first and ascending, then zero, then negative and descending.
    fn rank(self) -> (u8, u64) {
        match self.0 {
            positive @ 1.. => (0, positive.unsigned_abs()),
            0 => (1, 0),
            negative => (2, negative.unsigned_abs()),
        }
    }
}

impl Ord for Priority {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.rank().cmp(&other.rank())
    }
}

impl PartialOrd for Priority {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn priority_prefers_one_then_up_then_zero_then_down() {
        let mut all = [-2, 0, 3, 1, -1, 2].map(Priority);
        all.sort();
        assert_eq!(all.map(|p| p.0), [1, 2, 3, 0, -1, -2]);
    }

    #[test]
    fn addresses_keep_their_text_and_split_again() {
        for (text, host, port) in [
            ("a-b.c_1:80", "a-b.c_1", 80),
            ("10.0.0.1:65535", "10.0.0.1", 65535),
            ("[::1]:8080", "::1", 8080),
        ] {
            let id: NodeId = text.parse().unwrap();
            assert_eq!((id.as_str(), id.host(), id.port()), (text, host, port));
        }
    }

    #[test]
    fn bad_addresses_say_what_is_wrong() {
        for text in
            ["a", ":80", "a:0", "a:65536", "a:x", "a b:80", "::1:80", "[::g]:80", "[a]:80", "a/b:1", "ö:1"]
        {
            assert!(text.parse::<NodeId>().is_err(), "{text} was taken");
        }
    }

    proptest! {
        #[test]
        fn any_text_parses_or_errs_and_what_parses_prints_the_same(text in "[\\[\\]a-z0-9:._ -]{0,24}") {
            if let Ok(id) = text.parse::<NodeId>() {
                prop_assert_eq!(id.as_str().parse::<NodeId>().unwrap(), id.clone());
                prop_assert_eq!(NodeId::new(id.host(), id.port()).unwrap(), id);
            }
        }

        #[test]
        fn priority_order_is_total(a in any::<i64>(), b in any::<i64>()) {
            let (x, y) = (Priority(a), Priority(b));
            prop_assert_eq!(x.cmp(&y).reverse(), y.cmp(&x));
            prop_assert_eq!(x == y, x.cmp(&y).is_eq());
        }
    }
}
