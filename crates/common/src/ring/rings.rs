//! One ring of any algorithm.

use std::fmt;
use std::str::FromStr;

use super::answer::Answer;
use super::bounded::BoundedRing;
use super::keyrouter02::Keyrouter02;
use super::rendezvous::Rendezvous;
use super::roster::{MAX_NODES, MAX_NODES_KEYROUTER_02, Roster, RosterError};

/// Which nodes own a key.
pub trait Router {
    /// How many nodes there are.
    fn len(&self) -> usize;

    /// Whether there is no node.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Leaves in `answer` the first `max` nodes for `key`, best first, all distinct; all of them, when
    /// there are fewer. What was in `answer` is gone.
    ///
    /// `max` beyond the number of nodes costs nothing more.
    fn route(&self, key: &[u8], max: usize, answer: &mut Answer);
}

/// How keys find their nodes. See `docs/design/rings.md`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub enum Algorithm {
    /// A ring whose nodes own at most 1.25 times their share of all keys. Any number of nodes costs the same.
    #[default]
    Ring,
    /// The answers of INFURA's keyrouter 0.2, which name the owner last. Without weights.
    Keyrouter02,
    /// Highest random weight. A lookup asks every node.
    Rendezvous,
}

impl Algorithm {
    /// All of them, the default first.
    pub const ALL: [Self; 3] = [Self::Ring, Self::Keyrouter02, Self::Rendezvous];

    /// The name in flags and files.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Ring => "ring",
            Self::Keyrouter02 => "keyrouter-0.2",
            Self::Rendezvous => "rendezvous",
        }
    }
}

impl fmt::Display for Algorithm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// A text names no [`Algorithm`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnknownAlgorithm(Box<str>);

impl fmt::Display for UnknownAlgorithm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} is no algorithm: choose ring, keyrouter-0.2 or rendezvous", self.0)
    }
}

impl std::error::Error for UnknownAlgorithm {}

impl FromStr for Algorithm {
    type Err = UnknownAlgorithm;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::ALL
            .into_iter()
            .find(|algorithm| algorithm.name() == text)
            .ok_or_else(|| UnknownAlgorithm(text.into()))
    }
}

/// The nodes of one service, ready for lookups. Never changes: an edit builds another.
#[derive(Debug)]
pub struct Rings {
    roster: Roster,
    table: Table,
}

#[derive(Debug)]
enum Table {
    Ring(BoundedRing),
    Keyrouter02(Keyrouter02),
    Rendezvous(Rendezvous),
}

impl Rings {
    /// A ring of `nodes`, each a name and a weight (1 is usual; only ratios matter).
    ///
    /// The order of `nodes` gives the indices of answers and has no other effect. No node at all is fine:
    /// then all answers are empty.
    ///
    /// # Errors
    /// Two nodes of one name, a weight out of limits, or more nodes than the algorithm holds.
    pub fn build<N: AsRef<str>>(algorithm: Algorithm, nodes: &[(N, f64)]) -> Result<Self, RosterError> {
        let limit = if algorithm == Algorithm::Keyrouter02 { MAX_NODES_KEYROUTER_02 } else { MAX_NODES };
        let roster = Roster::new(nodes, limit)?;
        let table = match algorithm {
            Algorithm::Ring => Table::Ring(BoundedRing::new(&roster)),
            Algorithm::Keyrouter02 => Table::Keyrouter02(Keyrouter02::new(&roster)?),
            Algorithm::Rendezvous => Table::Rendezvous(Rendezvous::new(&roster)),
        };
        Ok(Self { roster, table })
    }

    /// The algorithm that it was built for.
    #[must_use]
    pub fn algorithm(&self) -> Algorithm {
        match self.table {
            Table::Ring(_) => Algorithm::Ring,
            Table::Keyrouter02(_) => Algorithm::Keyrouter02,
            Table::Rendezvous(_) => Algorithm::Rendezvous,
        }
    }

    /// The name of the node at `index`.
    #[must_use]
    pub fn name(&self, index: u32) -> Option<&str> {
        self.roster.name(index as usize)
    }

    /// The weight of the node at `index`.
    #[must_use]
    pub fn weight(&self, index: u32) -> Option<f64> {
        self.roster.weight(index as usize)
    }

    /// How many nodes of a `ring` are held back because their weight alone would have given them more
    /// than 1.25 times their share. 0 under other algorithms, and nearly always.
    #[must_use]
    pub fn held_back(&self) -> usize {
        if let Table::Ring(ring) = &self.table { ring.held_back() } else { 0 }
    }

    /// How many bytes of memory the tables take, names included.
    #[must_use]
    pub fn memory(&self) -> usize {
        let names: usize =
            (0..self.roster.len()).filter_map(|index| self.roster.name(index)).map(str::len).sum();
        let roster =
            names + self.roster.len() * (size_of::<Box<str>>() + size_of::<f64>() + size_of::<u32>());
        let table = match &self.table {
            Table::Ring(ring) => ring.memory(),
            Table::Keyrouter02(partitions) => partitions.memory(),
            Table::Rendezvous(nodes) => nodes.memory(),
        };
        size_of::<Self>() + roster + table
    }
}

impl Router for Rings {
    fn len(&self) -> usize {
        self.roster.len()
    }

    fn route(&self, key: &[u8], max: usize, answer: &mut Answer) {
        answer.nodes.clear();
        let max = max.min(self.roster.len());
        if max == 0 {
            return;
        }
        match &self.table {
            Table::Ring(ring) => ring.rank(key, max, answer),
            Table::Keyrouter02(partitions) => partitions.rank(key, max, answer),
            Table::Rendezvous(nodes) => nodes.rank(key, max, answer),
        }
        self.roster.unrank(&mut answer.nodes);
    }
}
