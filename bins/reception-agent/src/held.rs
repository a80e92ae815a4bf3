//! Which list of a service counts. Pure: time comes as an argument.
//!
//! A list that could not be read, or is stale, changes nothing. An empty list after a full one may be a store that
//! has lost its memory or its leader: it counts once the store has said so without a break for the grace. A list
//! with fewer instances than the least that is allowed never counts.

use std::time::Duration;

use reception::Service;

/// From when on a worse list counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rule {
    /// A list with fewer instances never counts; 0 allows all.
    pub min_instances: usize,
    /// How long an empty list has to be confirmed before it replaces a full one.
    pub empty_grace: Duration,
}

/// Why the newest list does not count.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Why {
    /// It could not be read, or is stale.
    Unconfirmed,
    /// It is empty, and was not for long enough.
    Empty,
    /// It has too few instances.
    Few,
}

impl Why {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Unconfirmed, Self::Empty, Self::Few];

    /// In one word.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Unconfirmed => "unconfirmed",
            Self::Empty => "empty",
            Self::Few => "few",
        }
    }
}

/// The list of one service that counts.
#[derive(Clone, Debug)]
pub struct Held {
    rule: Rule,
    /// There may have been a full list before our time.
    full_before: bool,
    list: Option<Vec<Service>>,
    empty_since: Option<Duration>,
    why: Option<Why>,
}

impl Held {
    /// No list yet. `full_before` says that there may have been a full one before, so that an empty one has to
    /// wait from the start.
    pub const fn new(rule: Rule, full_before: bool) -> Self {
        Self { rule, full_before, list: None, empty_since: None, why: Some(Why::Unconfirmed) }
    }

    /// Takes the newest list, or that there is none which is certain. `now` never goes back.
    pub fn see(&mut self, now: Duration, list: Option<&[Service]>) {
        let since = self.empty_since.take();
        self.why = match list {
            None => Some(Why::Unconfirmed),
            Some(list) if list.len() < self.rule.min_instances => Some(Why::Few),
            Some([]) if self.may_have_been_full() => {
                self.empty_since = Some(since.unwrap_or(now));
                Some(Why::Empty)
            }
            Some(list) => {
                if self.list.as_deref() != Some(list) {
                    self.list = Some(list.to_vec());
                }
                None
            }
        };
        self.tick(now);
    }

    /// Lets time pass.
    pub fn tick(&mut self, now: Duration) {
        if self.certain_at().is_some_and(|at| at <= now) {
            self.list = Some(Vec::new());
            self.empty_since = None;
            self.why = None;
        }
    }

    /// When an empty list is going to count, if it stays confirmed.
    pub fn certain_at(&self) -> Option<Duration> {
        self.empty_since.map(|since| since + self.rule.empty_grace)
    }

    /// The list that counts; none before the first that did.
    pub fn list(&self) -> Option<&[Service]> {
        self.list.as_deref()
    }

    /// Why the newest list does not count; none when it does.
    pub const fn why(&self) -> Option<Why> {
        self.why
    }

    fn may_have_been_full(&self) -> bool {
        self.list.as_ref().map_or(self.full_before, |list| !list.is_empty())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RULE: Rule = Rule { min_instances: 0, empty_grace: Duration::from_secs(30) };

    fn at(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    fn web(port: u16) -> Service {
        Service::new("web", "h", port).unwrap().with_id(&port.to_string()).unwrap()
    }

    fn count(held: &Held) -> Option<usize> {
        held.list().map(<[_]>::len)
    }

    #[test]
    fn what_was_not_read_changes_nothing() {
        let mut held = Held::new(RULE, false);
        held.see(at(0), None);
        assert_eq!((count(&held), held.why()), (None, Some(Why::Unconfirmed)));
        held.see(at(1), Some(&[web(1)]));
        held.see(at(2), None);
        assert_eq!((count(&held), held.why()), (Some(1), Some(Why::Unconfirmed)));
        held.tick(at(10_000));
        assert_eq!(count(&held), Some(1));
    }

    #[test]
    fn an_empty_list_counts_after_its_grace_without_a_break() {
        let mut held = Held::new(RULE, false);
        held.see(at(0), Some(&[web(1)]));
        held.see(at(10), Some(&[]));
        assert_eq!(held.certain_at(), Some(at(40)));
        held.see(at(39), Some(&[]));
        assert_eq!((count(&held), held.why()), (Some(1), Some(Why::Empty)));
        // A break: all over again.
        held.see(at(39), None);
        held.tick(at(50));
        held.see(at(50), Some(&[]));
        held.tick(at(79));
        assert_eq!(count(&held), Some(1));
        held.tick(at(80));
        assert_eq!((count(&held), held.why(), held.certain_at()), (Some(0), None, None));
        held.see(at(81), Some(&[]));
        assert_eq!((count(&held), held.why()), (Some(0), None));
    }

    #[test]
    fn the_first_list_may_be_empty_unless_there_was_a_full_one_before_our_time() {
        let mut fresh = Held::new(RULE, false);
        fresh.see(at(0), Some(&[]));
        assert_eq!(count(&fresh), Some(0));
        let mut again = Held::new(RULE, true);
        again.see(at(0), Some(&[]));
        assert_eq!(count(&again), None);
        again.tick(at(30));
        assert_eq!(count(&again), Some(0));
    }

    #[test]
    fn too_few_never_count() {
        let mut held = Held::new(Rule { min_instances: 2, ..RULE }, false);
        held.see(at(0), Some(&[web(1)]));
        assert_eq!((count(&held), held.why()), (None, Some(Why::Few)));
        held.see(at(1), Some(&[web(1), web(2)]));
        held.see(at(2), Some(&[web(1)]));
        held.see(at(3), Some(&[]));
        held.tick(at(10_000));
        assert_eq!((count(&held), held.why()), (Some(2), Some(Why::Few)));
    }
}
