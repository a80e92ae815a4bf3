//! What a file of services says, typed, and everything that is wrong with it.
//!
//! ```toml
//! Algorithm = "ring"
//!
//! [[Services]]
//! Name = "sessions"
//! Nodes = ["10.0.0.1:80", { Address = "10.0.0.2:80", Weight = 2 }]
//! ```
//!
//! Keys count in any case, as they did for the original.

mod findings;
mod nodes;
mod reader;
mod table;
#[cfg(test)]
mod tests;

use common::ring::Algorithm;
use daemon::settings::Problems;

use findings::Findings;
use reader::Reader;

/// What a file says.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Spec {
    /// For services that name none.
    pub algorithm: Option<Algorithm>,
    /// In the order of the file; no two have one name.
    pub services: Vec<ServiceSpec>,
}

/// What a file says about one service.
#[derive(Debug, Clone, PartialEq)]
pub struct ServiceSpec {
    /// Its name, which may be empty.
    pub name: Box<str>,
    /// Its own algorithm.
    pub algorithm: Option<Algorithm>,
    /// Address and weight of each node, in the order of the file; no two have one address.
    pub nodes: Vec<(Box<str>, f64)>,
    /// Where it begins in the file, counted from 1.
    pub line: usize,
}

impl Spec {
    /// Reads the content of a file, which messages call `file`. `default` is the algorithm of services
    /// for which the file names none.
    ///
    /// All that is wrong goes into `problems`, with lines, and then there is no spec; of more than a
    /// hundred problems the first hundred and the number of the others, which stops at a thousand.
    pub fn parse(file: &str, content: &[u8], default: Algorithm, problems: &mut Problems) -> Option<Self> {
        let mut findings = Findings::default();
        let spec = Reader::new(content, &mut findings).and_then(|reader| reader.read(default));
        findings.report(file, problems).then_some(spec).flatten()
    }

    /// The algorithm that counts for `service`.
    #[must_use]
    pub fn algorithm_of(&self, service: &ServiceSpec, default: Algorithm) -> Algorithm {
        service.algorithm.or(self.algorithm).unwrap_or(default)
    }

    /// How many nodes all services have together.
    #[must_use]
    pub fn node_count(&self) -> usize {
        self.services.iter().map(|service| service.nodes.len()).sum()
    }
}
