//! The bounds that `docs/design/rings.md` promises, on sets small enough for every run of the tests. The
//! example `ring_quality` measures and checks the same on 100 sets of each size up to 1,000 nodes.

use common::ring::Algorithm;

mod support;
use support::quality::{self, *};
use support::random::{Random, seed};

/// Sizes and how many sets of each: together as many lookups as a minute of an unoptimized build allows.
const SIZES: [(usize, usize); 6] = [(3, 100), (5, 60), (10, 40), (40, 10), (66, 8), (300, 1)];

#[test]
fn ring_keeps_its_bounds() {
    let mut random = Random::new(seed("ring"));
    for (n, sets) in SIZES {
        let spread = quality::sets(Algorithm::Ring, n, sets, 1000, &mut random);
        println!("{n}: {spread:?}");
        // Few sets of few keys: 1.10 is the bound for the mean of 100 sets, and noise comes on top.
        let noise = 3.0 / ((sets * 1000) as f64).sqrt() + 0.3 / (sets as f64).sqrt();
        assert!(spread.mean[ADDED] <= 1.10 + noise && spread.mean[REMOVED] <= 1.10 + noise, "{n} nodes");
        assert_eq!(spread.most[STRAY], 0.0, "{n} nodes: keys moved between nodes that stayed");
        assert!(spread.most[PEAK] <= 1.25 && spread.least[TROUGH] >= 0.75, "{n} nodes");
        if n <= 10 {
            assert!(spread.most[HEIR_PEAK] <= 2.0 && spread.most[REBUILT_PEAK] <= 2.0, "{n} nodes");
        }
        let heirs = (n as f64 - 1.0).min(64.0);
        assert!(spread.least[HEIRS] >= heirs && spread.least[REBUILT_HEIRS] >= heirs, "{n} nodes");
    }
}

#[test]
fn rendezvous_moves_only_the_nodes_own_keys() {
    let mut random = Random::new(seed("rendezvous"));
    for (n, sets) in [(3, 60), (10, 20), (66, 2)] {
        let spread = quality::sets(Algorithm::Rendezvous, n, sets, 1000, &mut random);
        assert_eq!(spread.most[STRAY], 0.0, "{n} nodes");
        assert!(spread.most[PEAK] <= 1.25 && spread.most[REBUILT_PEAK] <= 2.0, "{n} nodes: {spread:?}");
    }
}

#[test]
fn weights_are_kept() {
    let mut random = Random::new(seed("weights"));
    for n in [3, 10, 50] {
        for _ in 0..4 {
            let (low, high, _) =
                quality::weighted(Algorithm::Ring, n, &[1.0, 2.0, 3.0, 5.0], 4000, &mut random);
            assert!(low >= 0.75 && high <= 1.25, "ring, {n} nodes: {low} to {high}");
        }
    }
    for n in [3, 8] {
        // 5 % of a share is several times the noise of so many keys.
        let (low, high, _) =
            quality::weighted(Algorithm::Rendezvous, n, &[1.0, 2.0, 3.0], 40_000, &mut random);
        assert!(low >= 0.95 && high <= 1.05, "rendezvous, {n} nodes: {low} to {high}");
    }
}
