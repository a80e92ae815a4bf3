//! What became of the lines of `--each-line`.

use std::fmt::Write;

use gone::message::SendError;

/// Which lines were delivered and which not.
#[derive(Debug, Default)]
pub(super) struct Tally {
    /// Lines whose end is known; they come in order.
    lines: u64,
    delivered: u64,
    /// The lines that failed, as rows from the first to the last one of each.
    failed: Vec<(u64, u64)>,
    /// How many of these may have been taken all the same.
    doubtful: u64,
    /// The first of them, and why.
    first: Option<(u64, anyhow::Error)>,
}

impl Tally {
    /// Takes the end of the next line.
    pub(super) fn count(&mut self, outcome: anyhow::Result<()>) {
        self.lines += 1;
        let line = self.lines;
        let Err(error) = outcome else {
            self.delivered += 1;
            return;
        };
        self.doubtful += u64::from(error.downcast_ref().is_some_and(SendError::maybe_taken));
        match self.failed.last_mut().filter(|(_, last)| last + 1 == line) {
            Some((_, last)) => *last = line,
            None => self.failed.push((line, line)),
        }
        self.first.get_or_insert((line, error));
    }

    pub(super) fn has_failed(&self) -> bool {
        self.first.is_some()
    }

    /// # Errors
    /// The sentence that says which lines were not delivered, and why the first one was not.
    pub(super) fn end(self) -> anyhow::Result<()> {
        let Some((line, error)) = self.first else { return Ok(()) };
        let mut rows = String::new();
        for (first, last) in &self.failed {
            let comma = if rows.is_empty() { "" } else { ", " };
            // Writing into memory does not fail.
            let _ = match first == last {
                true => write!(rows, "{comma}{first}"),
                false => write!(rows, "{comma}{first} to {last}"),
            };
        }
        let doubt = match self.doubtful {
            0 => String::new(),
            count => format!(" ({count} of these may have been taken all the same)"),
        };
        anyhow::bail!(
            "line {line} was not delivered: {error:#}; in all {} delivered, not delivered {rows}{doubt}, nothing sent after \
             line {}",
            self.delivered,
            self.lines
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(outcomes: &str) -> String {
        let mut tally = Tally::default();
        for outcome in outcomes.chars() {
            tally.count(match outcome {
                '+' => Ok(()),
                '?' => Err(SendError::NoHolder { id: "job".into(), maybe_taken: true }.into()),
                other => Err(anyhow::anyhow!("it is {other}")),
            });
        }
        tally.end().err().map_or(String::new(), |error| error.to_string())
    }

    #[test]
    fn the_sentence_says_which_lines_were_delivered_and_which_not() {
        assert_eq!((told(""), told("+++")), (String::new(), String::new()));
        assert_eq!(
            told("++a+bc++"),
            "line 3 was not delivered: it is a; in all 5 delivered, not delivered 3, 5 to 6, nothing sent after line 8"
        );
        let doubtful = told("+??");
        assert!(doubtful.starts_with("line 2 was not delivered: nobody holds job now"), "{doubtful}");
        let end = "in all 1 delivered, not delivered 2 to 3 (2 of these may have been taken all the same), nothing sent \
                   after line 3";
        assert!(doubtful.ends_with(end), "{doubtful}");
    }
}
