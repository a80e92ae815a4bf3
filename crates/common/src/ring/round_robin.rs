//! A ring of equals that take turns.

use std::sync::atomic::{AtomicUsize, Ordering};

/// Whose turn it is among `n` equals: strict rotation, shared by any number of threads.
///
/// The ring does not hold its members: it only counts turns, so that members may come and go
/// without a turn being lost or a stale member being served.
#[derive(Debug, Default)]
pub struct RoundRobin(AtomicUsize);

impl RoundRobin {
    /// The indexes `0..n`, each once, beginning with the one whose turn it is.
    ///
    /// Each call takes one turn. With `n` = 0 there is nothing to yield.
    pub fn turn(&self, n: usize) -> impl Iterator<Item = usize> + use<> {
        let start = if n == 0 { 0 } else { self.0.fetch_add(1, Ordering::Relaxed) % n };
        (start..n).chain(0..start)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn every_member_comes_once_a_turn_and_turns_are_even(n in 1usize..20, rounds in 1usize..20) {
            let ring = RoundRobin::default();
            let mut first = vec![0; n];
            for _ in 0..rounds * n {
                let mut order: Vec<_> = ring.turn(n).collect();
                first[order[0]] += 1;
                order.sort_unstable();
                prop_assert_eq!(order, (0..n).collect::<Vec<_>>());
            }
            prop_assert!(first.iter().all(|&turns| turns == rounds));
        }
    }

    #[test]
    fn an_empty_ring_yields_nothing_and_a_shrunk_one_stays_inside() {
        let ring = RoundRobin::default();
        assert_eq!(ring.turn(0).count(), 0);
        (0..7).for_each(|_| drop(ring.turn(5)));
        assert!(ring.turn(2).all(|index| index < 2));
    }
}
