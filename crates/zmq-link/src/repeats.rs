//! Which of many equal lines are worth logging.

use std::collections::HashMap;
use std::hash::Hash;
use std::time::{Duration, Instant};

/// The pause after the first line; it doubles with each further one.
const FIRST_PAUSE: Duration = Duration::from_secs(5);
const LONGEST_PAUSE: Duration = Duration::from_secs(300);
/// So many kinds are told apart; the rest share one.
const KINDS: usize = 512;

/// Lets the first line of a kind through, then ever fewer, each with the number of those left out.
#[derive(Debug)]
pub(crate) struct Repeats<K> {
    kinds: HashMap<K, Kind>,
    others: Option<Kind>,
}

#[derive(Debug, Clone, Copy)]
struct Kind {
    quiet_until: Instant,
    pause: Duration,
    left_out: u64,
}

impl<K> Default for Repeats<K> {
    fn default() -> Self {
        Self { kinds: HashMap::new(), others: None }
    }
}

impl<K: Hash + Eq> Repeats<K> {
    /// `Some(n)`: log this one, and say that `n` were left out before it. `None`: leave it out.
    pub(crate) fn ask(&mut self, kind: K, now: Instant) -> Option<u64> {
        if self.kinds.len() >= KINDS && !self.kinds.contains_key(&kind) {
            self.kinds.retain(|_, kind| now < kind.quiet_until + kind.pause);
        }
        if self.kinds.len() >= KINDS && !self.kinds.contains_key(&kind) {
            let others = self.others.get_or_insert(Kind::new(now));
            return others.ask(now);
        }
        self.kinds.entry(kind).or_insert(Kind::new(now)).ask(now)
    }
}

impl Kind {
    fn new(now: Instant) -> Self {
        Self { quiet_until: now, pause: Duration::ZERO, left_out: 0 }
    }

    fn ask(&mut self, now: Instant) -> Option<u64> {
        if now < self.quiet_until {
            self.left_out += 1;
            return None;
        }
        // Quiet for a whole further pause: it begins anew.
        let long_quiet = now >= self.quiet_until + self.pause;
        self.pause = if long_quiet { FIRST_PAUSE } else { (self.pause * 2).min(LONGEST_PAUSE) };
        self.quiet_until = now + self.pause;
        Some(std::mem::take(&mut self.left_out))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_loop_is_logged_ever_less_and_counted_in_full() {
        let (mut repeats, start) = (Repeats::default(), Instant::now());
        let (mut lines, mut told) = (0_u64, 0);
        for second in 0..86_400 {
            if let Some(left_out) = repeats.ask("a", start + Duration::from_secs(second)) {
                (lines, told) = (lines + 1, told + left_out);
            }
        }
        assert!((280..310).contains(&lines), "{lines} lines in a day");
        assert!(lines + told > 86_400 - 301, "{told} were told of beside {lines} lines");
    }

    #[test]
    fn another_kind_and_a_new_beginning_are_logged_at_once() {
        let (mut repeats, start) = (Repeats::default(), Instant::now());
        assert_eq!(repeats.ask("a", start), Some(0));
        assert_eq!(repeats.ask("a", start), None);
        assert_eq!(repeats.ask("b", start), Some(0));
        let later = start + Duration::from_secs(60);
        assert_eq!(repeats.ask("a", later), Some(1));
        assert_eq!(repeats.ask("a", later + FIRST_PAUSE), Some(0), "the pause was the first one again");
    }

    #[test]
    fn endless_kinds_share_one() {
        let (mut repeats, start) = (Repeats::default(), Instant::now());
        let lines = (0..100_000).filter(|kind| repeats.ask(*kind, start).is_some()).count();
        assert_eq!(lines, KINDS + 1);
        assert_eq!(repeats.kinds.len(), KINDS);
    }
}
