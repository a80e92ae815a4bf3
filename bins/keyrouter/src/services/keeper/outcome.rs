//! What became of a reload.

use std::fmt;

use daemon::settings::Problems;
use jiff::Timestamp;

use super::super::changes::Changes;

/// What became of a reload. In every case but `Applied` the catalog in force stays.
#[derive(Debug)]
pub enum Outcome {
    /// A new catalog is in force.
    Applied(Applied),
    /// The file says what is in force.
    Unchanged {
        /// What is noteworthy in the file.
        warnings: Vec<String>,
    },
    /// The file is good but has no node; the next reload that finds it so takes it.
    Held,
    /// The file cannot be read, or is wrong.
    Failed(Problems),
}

/// A catalog that came into force.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Applied {
    /// The number of this load.
    pub load: u64,
    /// How many services there are.
    pub services: usize,
    /// How many nodes they have together.
    pub nodes: usize,
    /// What is different from before.
    pub changes: Changes,
    /// What is noteworthy in the file.
    pub warnings: Vec<String>,
}

/// `3 services, 12 nodes (load 4): added "a"`.
impl fmt::Display for Applied {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", Size(self), self.changes)
    }
}

struct Size<'a>(&'a Applied);

impl fmt::Display for Size<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        counts(f, self.0.services, self.0.nodes, self.0.load)
    }
}

fn counts(f: &mut fmt::Formatter<'_>, services: usize, nodes: usize, load: u64) -> fmt::Result {
    let plural = |count| if count == 1 { "" } else { "s" };
    write!(f, "{services} service{}, {nodes} node{} (load {load})", plural(services), plural(nodes))
}

impl Outcome {
    /// Why the file is not in force, in one sentence.
    #[must_use]
    pub fn reason(&self) -> Option<String> {
        match self {
            Self::Applied(_) | Self::Unchanged { .. } => None,
            Self::Held => Some("the file has no node; another reload will take it".to_owned()),
            Self::Failed(problems) => {
                let mut lines = problems.iter();
                let first = lines.next().map(ToString::to_string).unwrap_or_default();
                let more = lines.count();
                Some(if more == 0 { first } else { format!("{first} (and {more} more)") })
            }
        }
    }
}

/// How the services stand, for readiness and metrics.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Status {
    /// Why the file as last read is not in force. `None`: it is.
    pub problem: Option<String>,
    /// The number of the load in force; 0 before the first.
    pub load: u64,
    /// When that was.
    pub loaded_at: Option<Timestamp>,
    /// How many services are in force.
    pub services: usize,
    /// How many nodes they have together.
    pub nodes: usize,
    /// The first digits of the SHA-256 of the content in force.
    pub content: Option<String>,
}

impl Status {
    /// Whether a catalog is in force.
    #[must_use]
    pub fn is_loaded(&self) -> bool {
        self.load > 0
    }
}

/// `3 services, 12 nodes (load 4), content 5994471abb01`, and what is wrong with the file now.
impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_loaded() {
            counts(f, self.services, self.nodes, self.load)?;
            if let Some(content) = &self.content {
                write!(f, ", content {content}")?;
            }
        } else {
            f.write_str("no good file yet")?;
        }
        match &self.problem {
            Some(problem) if self.is_loaded() => write!(f, "; kept, because {problem}"),
            Some(problem) => write!(f, ": {problem}"),
            None => Ok(()),
        }
    }
}
