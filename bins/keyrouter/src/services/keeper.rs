//! The catalog in force, and what a reload makes of it.

mod hold;
mod outcome;
#[cfg(test)]
mod tests;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use arc_swap::ArcSwapOption;
use common::ring::Algorithm;
use daemon::settings::{Place, Problem, Problems};
use jiff::Timestamp;

pub use hold::Hold;
pub use outcome::{Applied, Outcome, Status};

use super::catalog::Catalog;
use super::changes::Changes;
use super::error::Error;
use super::file::{self, Content, Hash, LastRead, Seen};
use super::load::interpret;
use super::spec::Spec;

/// What a reload goes by; may differ from one to the next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Options {
    /// The algorithm of services for which the file names none.
    pub algorithm: Algorithm,
    /// Whether a file without any node has to be confirmed by a second reload.
    pub hold_empty: bool,
    /// How many bytes the file may have.
    pub max_size: u64,
}

/// Reads the file of services and keeps the last good catalog published.
///
/// A reload takes as long as the file and the rings that changed ask for, so it has no place on a thread
/// that answers lookups; those go on with the catalog before.
#[derive(Debug)]
pub struct Keeper {
    path: PathBuf,
    published: Arc<ArcSwapOption<Catalog>>,
    last_read: LastRead,
    hold: Hold,
    status: Status,
}

impl Keeper {
    /// A keeper that has read nothing yet.
    #[must_use]
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self {
            path: path.into(),
            published: Arc::default(),
            last_read: LastRead::default(),
            hold: Hold::default(),
            status: Status::default(),
        }
    }

    /// Where the catalog in force can always be found; empty until a good file was read.
    #[must_use]
    pub fn published(&self) -> Arc<ArcSwapOption<Catalog>> {
        Arc::clone(&self.published)
    }

    /// What was read last, for [`watch`](super::watch::watch).
    #[must_use]
    pub fn last_read(&self) -> LastRead {
        self.last_read.clone()
    }

    /// The file.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// How the services stand.
    #[must_use]
    pub fn status(&self) -> &Status {
        &self.status
    }

    /// Reads the file and puts it in force if it is good.
    pub fn reload(&mut self, options: &Options, now: Timestamp) -> Outcome {
        let read = file::read(&self.path, options.max_size);
        self.take(read, options, now)
    }

    /// Puts in force what was read already, as [`watch`](super::watch::watch) hands it over.
    pub fn take(&mut self, read: Result<Content, Error>, options: &Options, now: Timestamp) -> Outcome {
        self.last_read.set(Seen::of(&read));
        let hash = read.as_ref().ok().map(|content| content.hash);
        let mut problems = Problems::default();
        let outcome = match interpret(&self.path, read, options.algorithm, &mut problems) {
            Some(spec) => self.apply(&spec, options, now, problems),
            None => Outcome::Failed(problems),
        };
        self.note(&outcome, hash, now);
        outcome
    }

    fn apply(&mut self, spec: &Spec, options: &Options, now: Timestamp, mut problems: Problems) -> Outcome {
        let before = self.published.load_full();
        let had_nodes = before.as_ref().is_some_and(|catalog| catalog.node_count() > 0);
        if self.hold.holds(options.hold_empty, had_nodes, spec.node_count() > 0) {
            return Outcome::Held;
        }
        let load = self.status.load + 1;
        let catalog = match Catalog::build(spec, options.algorithm, before.as_deref(), load, now) {
            Ok(catalog) => catalog,
            Err(error) => {
                problems.at(&Place::line_of(&self.path.display().to_string(), 0), error.to_string());
                return Outcome::Failed(problems);
            }
        };
        let warnings = problems.warnings().map(Problem::to_string).collect();
        let changes = Changes::between(before.as_deref(), &catalog);
        if before.is_some() && changes.is_empty() {
            return Outcome::Unchanged { warnings };
        }
        let (services, nodes) = (catalog.services().len(), catalog.node_count());
        self.published.store(Some(Arc::new(catalog)));
        Outcome::Applied(Applied { load, services, nodes, changes, warnings })
    }

    fn note(&mut self, outcome: &Outcome, hash: Option<Hash>, now: Timestamp) {
        let status = &mut self.status;
        status.tried_at = Some(now);
        status.problem = outcome.reason();
        status.held = matches!(outcome, Outcome::Held);
        if let Outcome::Applied(applied) = outcome {
            status.load = applied.load;
            status.loaded_at = Some(now);
            (status.services, status.nodes) = (applied.services, applied.nodes);
        }
        if status.problem.is_none() {
            status.content = hash.as_ref().map(file::short);
        }
    }

    /// Writes to the log what became of a reload.
    pub fn log(&self, outcome: &Outcome) {
        let path = self.path.display();
        let kept =
            if self.status.is_loaded() { "the services in force stay" } else { "there are no services yet" };
        match outcome {
            Outcome::Applied(applied) => {
                tracing::info!("services loaded from {path}: {applied}");
                applied.warnings.iter().for_each(|warning| tracing::warn!("{warning}"));
            }
            Outcome::Unchanged { warnings } => {
                tracing::info!("services of {path} are unchanged (load {})", self.status.load);
                warnings.iter().for_each(|warning| tracing::warn!("{warning}"));
            }
            Outcome::Held => tracing::warn!(
                "services not loaded from {path}: it has no node; another reload will take it, until then {kept}"
            ),
            Outcome::Failed(problems) => {
                tracing::error!("services not loaded from {path}: {kept}; to put right:");
                problems.iter().for_each(|problem| tracing::error!("{problem}"));
            }
        }
    }
}
