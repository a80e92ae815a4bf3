//! What is wrong with a file, by line, and not without end.

use daemon::settings::{Place, Problems};

/// How many problems and how many warnings are told.
const TOLD: usize = 100;

/// How many are remembered, to tell those of the first lines. After so many problems nobody looks for more.
const REMEMBERED: usize = 1000;

/// Problems and warnings of one file.
#[derive(Debug, Default)]
pub(super) struct Findings {
    errors: List,
    warnings: List,
    /// Lines with an error of syntax, in order: what was recovered from them means nothing.
    broken: Vec<usize>,
}

#[derive(Debug, Default)]
struct List {
    remembered: Vec<(usize, String)>,
    /// Whether there were more.
    forgotten: bool,
}

impl Findings {
    /// Line `line` is not TOML.
    pub(super) fn syntax(&mut self, line: usize, message: &str) {
        let message = message.split('\n').map(str::trim).collect::<Vec<_>>().join(", ");
        self.errors.add(line, message);
        if let Err(at) = self.broken.binary_search(&line) {
            self.broken.insert(at, line);
        }
    }

    /// Line `line` is TOML and still wrong.
    pub(super) fn error(&mut self, line: usize, message: String) {
        if self.broken.binary_search(&line).is_err() {
            self.errors.add(line, message);
        }
    }

    /// Line `line` is fine but perhaps not meant.
    pub(super) fn warning(&mut self, line: usize, message: String) {
        self.warnings.add(line, message);
    }

    /// Whether parts of the file may be missing from what was recovered.
    pub(super) fn has_syntax_errors(&self) -> bool {
        !self.broken.is_empty()
    }

    /// Whether there are so many problems that more would not be told.
    pub(super) fn is_full(&self) -> bool {
        self.errors.forgotten
    }

    /// Tells all to `problems`; whether there was no error.
    pub(super) fn report(self, file: &str, problems: &mut Problems) -> bool {
        let good = self.errors.remembered.is_empty();
        self.errors.tell(|line, message| problems.at(&Place::line_of(file, line), message));
        self.warnings.tell(|line, message| problems.warn_at(&Place::line_of(file, line), message));
        good
    }
}

impl List {
    fn add(&mut self, line: usize, message: String) {
        if self.remembered.len() < REMEMBERED {
            self.remembered.push((line, message));
        } else {
            self.forgotten = true;
        }
    }

    fn tell(mut self, mut tell: impl FnMut(usize, String)) {
        self.remembered.sort_by_key(|(line, _)| *line);
        let more = self.remembered.len().saturating_sub(TOLD);
        let at_least = if self.forgotten { "at least " } else { "" };
        let mut from_here = 0;
        for (line, message) in self.remembered.into_iter().take(TOLD) {
            tell(line, message);
            from_here = line;
        }
        if more > 0 {
            tell(from_here, format!("and {at_least}{more} more from here on"));
        }
    }
}
