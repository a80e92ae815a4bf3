//! The index of a blocking query, by Consul's rules.

use std::time::Duration;

use crate::query::{Consistency, Query};

/// The pause after an index that is of no use, so that a server which gives no other is not asked without end.
const AFTER_RESET: Duration = Duration::from_secs(1);

/// What an index says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Seen {
    /// There may be something new; the first answer always counts as new.
    Changed,
    /// The wait is over and nothing has changed.
    Same,
}

/// Where a series of blocking queries stands.
///
/// An index that goes backwards or is zero (a restored or fresh server) begins the series anew; its answer
/// counts as changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cursor {
    index: u64,
    wait: Duration,
    consistency: Consistency,
    reset: bool,
}

impl Cursor {
    /// A series whose answers come after `wait` at the latest; Consul takes no more than ten minutes.
    pub fn new(wait: Duration) -> Self {
        Self { index: 0, wait, consistency: Consistency::Default, reset: false }
    }

    /// The same by another consistency.
    pub fn consistency(self, consistency: Consistency) -> Self {
        Self { consistency, ..self }
    }

    /// Goes on from an index that a reply of the same list showed.
    pub fn after(self, index: u64) -> Self {
        Self { index, ..self }
    }

    /// The next query. `chance` from 0 to 1 takes up to a sixteenth off the wait, so that many who began together
    /// do not ask together; the server adds as much on its side.
    pub fn query(&self, chance: f64) -> Query {
        let wait = self.wait - (self.wait / 16).mul_f64(chance.clamp(0.0, 1.0));
        Query { consistency: self.consistency, wait: (self.index > 0).then_some((self.index, wait)) }
    }

    /// Takes the index of an answer.
    pub fn saw(&mut self, index: u64) -> Seen {
        if index == 0 || index < self.index {
            (self.index, self.reset) = (0, true);
            return Seen::Changed;
        }
        self.reset = false;
        if index == self.index {
            return Seen::Same;
        }
        self.index = index;
        Seen::Changed
    }

    /// How long to wait before the next query: nothing, but after a reset.
    pub fn pause(&self) -> Duration {
        if self.reset { AFTER_RESET } else { Duration::ZERO }
    }

    /// The index that the next query names; zero: none, it is answered at once.
    pub fn index(&self) -> u64 {
        self.index
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_index_that_goes_back_or_is_nothing_begins_the_series_anew() {
        let mut cursor = Cursor::new(Duration::from_secs(60));
        assert_eq!(cursor.query(0.0).wait, None, "the first is answered at once");
        assert_eq!(cursor.saw(u64::MAX - 1), Seen::Changed);
        assert_eq!(cursor.query(0.0).wait, Some((u64::MAX - 1, Duration::from_secs(60))));
        assert_eq!(cursor.saw(u64::MAX - 1), Seen::Same);
        assert_eq!(cursor.pause(), Duration::ZERO);
        for useless in [7, 0] {
            cursor = cursor.after(100);
            assert_eq!(cursor.saw(useless), Seen::Changed);
            assert_eq!(cursor.query(0.0).wait, None, "after {useless}");
            assert!(cursor.pause() > Duration::ZERO);
        }
        assert_eq!((cursor.saw(7), cursor.index()), (Seen::Changed, 7));
        assert_eq!(cursor.pause(), Duration::ZERO);
    }

    #[test]
    fn jitter_takes_a_sixteenth_at_most() {
        let cursor = Cursor::new(Duration::from_secs(16)).after(1);
        assert_eq!(cursor.query(1.0).wait, Some((1, Duration::from_secs(15))));
        assert_eq!(cursor.query(9.0), cursor.query(1.0));
    }
}
