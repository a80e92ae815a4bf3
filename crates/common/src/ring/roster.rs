//! The nodes of a ring, checked and put into an order that depends on nothing but their names.

use std::fmt;

/// The most nodes of one set: a node is a 16-bit number inside the tables.
pub const MAX_NODES: usize = 65_535;

/// The most nodes of one set under `keyrouter-0.2`, which deals out 15,739 partitions whole.
pub const MAX_NODES_KEYROUTER_02: usize = super::keyrouter02::PARTITIONS;

/// The least weight of a node. Only ratios of weights matter.
pub const MIN_WEIGHT: f64 = 0.001;

/// The greatest weight of a node. Only ratios of weights matter.
pub const MAX_WEIGHT: f64 = 1000.0;

/// Why a set of nodes makes no ring. Indices count from 0, in the order given.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum RosterError {
    /// More nodes than the algorithm can hold.
    TooManyNodes {
        /// How many there are.
        count: usize,
        /// How many there may be.
        limit: usize,
    },
    /// Two nodes have the same name.
    DuplicateName {
        /// The name that they share.
        name: Box<str>,
        /// Where it stands first.
        first: usize,
        /// Where it stands again.
        second: usize,
    },
    /// A weight is no number, or lies outside [`MIN_WEIGHT`]..=[`MAX_WEIGHT`].
    Weight {
        /// The node that has it.
        name: Box<str>,
        /// Where the node stands.
        index: usize,
        /// The weight.
        weight: f64,
    },
    /// A weight other than 1 under `keyrouter-0.2`, which knows no weights.
    WeightUnsupported {
        /// The node that has it.
        name: Box<str>,
        /// Where the node stands.
        index: usize,
        /// The weight.
        weight: f64,
    },
}

impl fmt::Display for RosterError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooManyNodes { count, limit } => {
                write!(f, "{count} nodes are more than the {limit} that this algorithm can hold")
            }
            Self::DuplicateName { name, first, second } => {
                write!(f, "node {name:?} stands twice: as number {} and as number {}", first + 1, second + 1)
            }
            Self::Weight { name, weight, .. } => write!(
                f,
                "node {name:?} has weight {weight}: a weight is a number from {MIN_WEIGHT} to {MAX_WEIGHT}"
            ),
            Self::WeightUnsupported { name, weight, .. } => write!(
                f,
                "node {name:?} has weight {weight}, and keyrouter-0.2 knows no weights: leave it out, or \
                 choose ring or rendezvous"
            ),
        }
    }
}

impl std::error::Error for RosterError {}

/// A checked set of nodes, by rank: the place of a node among all names in byte order.
#[derive(Debug)]
pub(super) struct Roster {
    /// In the order given.
    names: Box<[Box<str>]>,
    /// In the order given.
    weights: Box<[f64]>,
    /// From rank to the order given.
    ranks: Box<[u32]>,
}

impl Roster {
    /// Checks `nodes`: no more than `limit`, distinct names, weights within limits.
    pub(super) fn new<N: AsRef<str>>(nodes: &[(N, f64)], limit: usize) -> Result<Self, RosterError> {
        if nodes.len() > limit.min(MAX_NODES) {
            return Err(RosterError::TooManyNodes { count: nodes.len(), limit: limit.min(MAX_NODES) });
        }
        for (index, (name, weight)) in nodes.iter().enumerate() {
            // A range holds no NaN.
            if !(MIN_WEIGHT..=MAX_WEIGHT).contains(weight) {
                return Err(RosterError::Weight { name: name.as_ref().into(), index, weight: *weight });
            }
        }
        let mut ranks: Vec<u32> = (0u32..).take(nodes.len()).collect();
        let name = |index: u32| nodes[index as usize].0.as_ref();
        ranks.sort_by_key(|&index| name(index));
        if let Some(pair) = ranks.windows(2).find(|pair| name(pair[0]) == name(pair[1])) {
            return Err(RosterError::DuplicateName {
                name: name(pair[0]).into(),
                first: pair[0] as usize,
                second: pair[1] as usize,
            });
        }
        Ok(Self {
            names: nodes.iter().map(|(name, _)| name.as_ref().into()).collect(),
            weights: nodes.iter().map(|&(_, weight)| weight).collect(),
            ranks: ranks.into(),
        })
    }

    pub(super) fn len(&self) -> usize {
        self.names.len()
    }

    /// The name of the node at `index` in the order given.
    pub(super) fn name(&self, index: usize) -> Option<&str> {
        self.names.get(index).map(|name| &**name)
    }

    /// The weight of the node at `index` in the order given.
    pub(super) fn weight(&self, index: usize) -> Option<f64> {
        self.weights.get(index).copied()
    }

    /// Names by rank.
    pub(super) fn ranked_names(&self) -> impl Iterator<Item = &str> {
        self.ranks.iter().map(|&index| &*self.names[index as usize])
    }

    /// Weights by rank.
    pub(super) fn ranked_weights(&self) -> impl Iterator<Item = f64> {
        self.ranks.iter().map(|&index| self.weights[index as usize])
    }

    /// Turns ranks into indices in the order given, in place.
    pub(super) fn unrank(&self, nodes: &mut [u32]) {
        nodes.iter_mut().for_each(|node| *node = self.ranks[*node as usize]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_makes_no_ring_says_why() {
        let error = |nodes: &[(&str, f64)]| Roster::new(nodes, 4).expect_err("refused").to_string();
        assert_eq!(
            error(&[("b", 1.0), ("a", 1.0), ("b", 1.0)]),
            r#"node "b" stands twice: as number 1 and as number 3"#
        );
        for weight in [0.0, -1.0, f64::NAN, f64::INFINITY, 1000.5, 0.0005] {
            assert!(error(&[("a", weight)]).contains("a weight is a number from 0.001 to 1000"));
        }
        assert!(error(&[("a", 1.0), ("b", 1.0), ("c", 1.0), ("d", 1.0), ("e", 1.0)]).starts_with("5 nodes"));
    }
}
