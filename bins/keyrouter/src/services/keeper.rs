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

pub use hold::{Cause, Hold, Reading};
pub use outcome::{Applied, Outcome, Status};

use super::catalog::Catalog;
use super::changes::Changes;
use super::error::Error;
use super::file::{self, Content, Hash, LastRead, Seen};
use super::load::interpret;
use super::spec::Spec;
use super::watch::Change;

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

/// What a reading of the file came to.
struct Parsed {
    seen: Seen,
    /// `None` when the file is bad.
    spec: Option<(Spec, Reading)>,
    problems: Problems,
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
        let parsed = self.parse(read, Cause::Request, options, now);
        self.judge(parsed, options, now)
    }

    /// Puts in force what [`watch`](super::watch::watch) has read; `None` when it does not count, and the
    /// watcher has to look again: the file was read since then, or what was read is half a file perhaps.
    pub fn take(&mut self, change: Change, options: &Options, now: Timestamp) -> Option<Outcome> {
        if change.after != self.last_read.get().number {
            return None;
        }
        let parsed = self.parse(change.read, Cause::Change, options, now);
        let whole = change.settled || parsed.spec.as_ref().is_some_and(|(spec, _)| !self.empties(spec));
        whole.then(|| self.judge(parsed, options, now))
    }

    fn parse(&self, read: Result<Content, Error>, cause: Cause, options: &Options, now: Timestamp) -> Parsed {
        let seen = Seen::of(&read);
        let reading =
            read.as_ref().ok().map(|read| Reading { cause, stamp: read.stamp, hash: read.hash, at: now });
        let mut problems = Problems::default();
        let spec = interpret(&self.path, read, options.algorithm, &mut problems);
        Parsed { seen, spec: spec.zip(reading), problems }
    }

    fn judge(&mut self, parsed: Parsed, options: &Options, now: Timestamp) -> Outcome {
        self.last_read.set(parsed.seen);
        let (outcome, hash) = match parsed.spec {
            Some((spec, reading)) => {
                let held = self.hold.holds(options.hold_empty && self.empties(&spec), reading);
                let judged =
                    if held { Outcome::Held } else { self.apply(&spec, options, now, parsed.problems) };
                (judged, Some(reading.hash))
            }
            None => (Outcome::Failed(parsed.problems), None),
        };
        self.note(&outcome, hash, now);
        outcome
    }

    /// Whether `spec` has no node, while there are some in force.
    fn empties(&self, spec: &Spec) -> bool {
        spec.node_count() == 0 && self.status.nodes > 0
    }

    fn apply(&mut self, spec: &Spec, options: &Options, now: Timestamp, mut problems: Problems) -> Outcome {
        let before = self.published.load_full();
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
        status.problem = outcome.reason();
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
