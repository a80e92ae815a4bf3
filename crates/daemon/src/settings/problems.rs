//! Everything that is wrong with a configuration, collected and told one a line.
use std::fmt;

use super::values::Values;

/// Where a value came from, as a message names it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// `FILE:LINE`, `--flag`, the variable, or the key.
    text: String,
    /// What sorts the problems of one file.
    line: usize,
    usage: bool,
}

impl Place {
    /// A line, counted from 1, of another file than the configuration's. 0 names the file as a whole.
    #[must_use]
    pub fn line_of(file: &str, line: usize) -> Self {
        Self::file(file, line)
    }

    pub(crate) fn file(name: &str, line: usize) -> Self {
        let text = if line == 0 { name.to_owned() } else { format!("{name}:{line}") };
        Self { text, line, usage: false }
    }

    pub(crate) fn flag(flag: &str) -> Self {
        Self { text: format!("--{flag}"), line: 0, usage: true }
    }

    pub(crate) fn named(name: &str) -> Self {
        Self { text: name.to_owned(), line: 0, usage: false }
    }

    /// A word of the call that has no flag.
    pub(crate) fn word(name: &str) -> Self {
        Self { usage: true, ..Self::named(name) }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// One thing that is wrong.
#[derive(Debug, Clone)]
pub struct Problem {
    place: Place,
    message: String,
    syntax: bool,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.place, self.message)
    }
}

/// All that is wrong. Empty means that the configuration is good.
#[derive(Debug, Clone, Default)]
pub struct Problems {
    found: Vec<Problem>,
    warnings: Vec<Problem>,
    refused_secret: bool,
}

impl Problems {
    /// Reports what is wrong with the value of `key`; the message names the value, not the place.
    ///
    /// # Panics
    /// When `key` is not in the table.
    pub fn report(&mut self, values: &Values, key: &str, message: impl Into<String>) {
        // The value was refused already, and the default stands in its place.
        if !values.broken.contains(key) {
            self.at(&values.place(key), message);
        }
    }

    /// Reports that the value of `key` does not go with others: bad configuration (exit 78), also where it came
    /// from a flag that is a good one by itself.
    ///
    /// # Panics
    /// When `key` is not in the table.
    pub fn report_combination(&mut self, values: &Values, key: &str, message: impl Into<String>) {
        if !values.broken.contains(key) {
            self.at(&Place { usage: false, ..values.place(key) }, message);
        }
    }

    /// Reports what is wrong at a place, such as the one of a row.
    pub fn at(&mut self, place: &Place, message: impl Into<String>) {
        self.push(place.clone(), message.into(), false);
    }

    /// Notes what the user should know of the value of `key` without refusing it.
    ///
    /// # Panics
    /// When `key` is not in the table.
    pub fn warn(&mut self, values: &Values, key: &str, message: impl Into<String>) {
        self.warn_at(&values.place(key), message);
    }

    /// Notes what the user should know at a place.
    pub fn warn_at(&mut self, place: &Place, message: impl Into<String>) {
        self.warnings.push(Problem { place: place.clone(), message: message.into(), syntax: false });
    }

    /// Whether nothing is wrong. Warnings do not count.
    pub fn is_empty(&self) -> bool {
        self.found.is_empty()
    }

    /// What is wrong, in the order of the file's lines.
    pub fn iter(&self) -> impl Iterator<Item = &Problem> {
        self.found.iter()
    }

    /// What is noteworthy but not wrong.
    pub fn warnings(&self) -> impl Iterator<Item = &Problem> {
        self.warnings.iter()
    }

    /// Adds all of `others`.
    pub(crate) fn extend(&mut self, others: Self) {
        for Problem { place, message, syntax } in others.found {
            self.push(place, message, syntax);
        }
        self.warnings.extend(others.warnings);
        self.refused_secret |= others.refused_secret;
    }

    /// Whether only flags are at fault, so that the call was wrong rather than the configuration.
    pub(crate) fn is_usage(&self) -> bool {
        self.refused_secret || (!self.is_empty() && self.found.iter().all(|problem| problem.place.usage))
    }

    pub(crate) fn syntax(&mut self, place: Place, message: &str) {
        // Parsers write over several lines; one problem is one line here.
        let message = message.split('\n').map(str::trim).collect::<Vec<_>>().join(", ");
        self.push(place, message, true);
    }

    pub(crate) fn refuse_secret(&mut self, place: Place, message: String) {
        self.refused_secret = true;
        self.push(place, message, false);
    }

    fn push(&mut self, place: Place, message: String, syntax: bool) {
        // After an error in the syntax of a line, what was recovered from it means nothing.
        let spoilt = |old: &Problem| old.syntax && old.place == place && place.line > 0;
        if !syntax && self.found.iter().any(spoilt) {
            return;
        }
        let at = self.found.partition_point(|old| old.place.line <= place.line);
        self.found.insert(at, Problem { place, message, syntax });
    }
}

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut lines = self.found.iter();
        if let Some(first) = lines.next() {
            write!(f, "{first}")?;
        }
        lines.try_for_each(|problem| write!(f, "\n{problem}"))
    }
}

impl std::error::Error for Problems {}
