use super::*;
use crate::ring::hash::mix;

fn roster(salt: u64, weights: &[f64]) -> Roster {
    let nodes: Vec<_> = weights.iter().enumerate().map(|(i, &w)| (format!("n{salt}-{i}"), w)).collect();
    Roster::new(&nodes, 1000).expect("a good set")
}

fn points(roster: &Roster, per_node: u32) -> Vec<u64> {
    let digests: Vec<_> = roster.ranked_names().map(NameDigest::new).collect();
    let of = |(rank, digest): (usize, &NameDigest)| {
        let digest = *digest;
        (0..per_node).map(move |number| at(digest.numbered(number)) | rank as u64)
    };
    let mut points: Vec<u64> = digests.iter().enumerate().flat_map(of).collect();
    points.sort_unstable();
    points
}

/// How much each node owns, by looking `keys` of them up.
fn counted(ring: &BoundedRing, nodes: usize, keys: u64) -> Vec<f64> {
    let mut counts = vec![0.0; nodes];
    let mut answer = Answer::new();
    for key in 0..keys {
        answer.nodes.clear();
        ring.rank(&key.to_le_bytes(), 1, &mut answer);
        counts[answer.nodes[0] as usize] += 1.0 / keys as f64;
    }
    counts
}

/// Each node's score for a key, by asking every point.
fn scores(roster: &Roster, ring: &BoundedRing, key: &[u8]) -> Vec<Entry> {
    let key = hash::key(key);
    let mut best = vec![f64::INFINITY; roster.len()];
    for point in points(roster, POINTS) {
        for probe in 0..PROBES as u64 {
            let distance = point.wrapping_sub(at(hash::derive(key, probe))) >> RANK_BITS;
            let rank = band::rank(point);
            best[rank] = best[rank].min(distance as f64 * ring.inverse[rank]);
        }
    }
    let mut entries: Vec<_> = (0u32..).zip(best).map(|(rank, score)| Entry { score, tie: 0, rank }).collect();
    entries.sort_by(Entry::order);
    entries
}

#[test]
fn an_answer_is_what_asking_every_point_gives() {
    let weights = |n: u64, kind: u64| -> Vec<f64> {
        let weight = |i| match kind {
            0 => 1.0,
            1 => [1.0, 2.0, 4.0][(mix(i) % 3) as usize],
            _ => [0.001, 1.0, 1.7, 30.0, 1000.0][(mix(i) % 5) as usize],
        };
        (0..n).map(weight).collect()
    };
    let mut answer = Answer::new();
    for (salt, n) in [(1, 1), (2, 2), (3, 3), (4, 40), (5, 90)] {
        for kind in 0..3 {
            let roster = roster(salt, &weights(n, kind));
            let ring = BoundedRing::new(&roster);
            for key in 0..12u64 {
                let expected: Vec<u32> =
                    scores(&roster, &ring, &key.to_le_bytes()).iter().map(|entry| entry.rank).collect();
                for max in [1, 2, 3, 31, 32, 33, 60, 90].into_iter().filter(|&max| max <= n as usize) {
                    answer.nodes.clear();
                    ring.rank(&key.to_le_bytes(), max, &mut answer);
                    assert_eq!(answer.nodes, expected[..max], "{n} nodes, weights {kind}, key {key}, {max}");
                }
            }
        }
    }
}

#[test]
fn pieces_cover_the_circle_once() {
    for salt in 0..50 {
        let weights: Vec<f64> =
            (0..1 + salt % 17).map(|i| 1.0 + (mix(i ^ salt) % 1000) as f64 / 7.0).collect();
        let points = points(&roster(salt, &weights), 5);
        let pieces = envelope::pieces(&points, &weights);
        let places: f64 = pieces.iter().map(|p| (p.high - p.low) * weights[p.rank as usize]).sum();
        assert!((places / TURN - 1.0).abs() < 1e-9, "{salt}: {}", places / TURN);
        assert!(pieces.iter().all(|piece| piece.low >= 0.0 && piece.high > piece.low));
    }
}

#[test]
fn computed_loads_are_those_that_keys_show_and_never_less() {
    for (salt, weights) in [
        (0, vec![1.0; 3]),
        (1, vec![1.0; 10]),
        (2, vec![1.0, 2.0, 3.0, 4.0]),
        (3, vec![100.0, 1.0, 1.0, 0.5]),
        (4, vec![1000.0, 0.5, 1.0]),
    ] {
        let roster = roster(salt, &weights);
        for per_node in [1, 4, 64] {
            let ring = BoundedRing::with_points(&roster, per_node);
            let counting: Vec<f64> = ring.inverse.iter().map(|inverse| 1.0 / inverse).collect();
            let loads = balance::loads(&points(&roster, per_node), &counting);
            for (computed, counted) in loads.iter().zip(counted(&ring, weights.len(), 40_000)) {
                let noise = 4.5 * (counted / 40_000.0).sqrt();
                assert!(counted < computed + noise, "{weights:?}: {counted} of at most {computed}");
                assert!(computed * 0.98 < counted + noise, "{weights:?}: {counted} of about {computed}");
            }
        }
    }
}

#[test]
fn even_rings_with_next_to_no_points_are_brought_below_the_bound() {
    let mut held_back = 0;
    for salt in 0..600 {
        let n = 1 + (mix(salt) % 12) as usize;
        let weights: Vec<f64> = (0..n as u64)
            .map(|i| {
                if salt % 2 == 0 { 1.0 } else { [0.001, 0.5, 1.0, 3.0, 1000.0][(mix(i ^ salt) % 5) as usize] }
            })
            .collect();
        let roster = roster(salt, &weights);
        let weights: Vec<f64> = roster.ranked_weights().collect();
        let per_node = 1 + (salt % 3) as u32;
        let ring = BoundedRing::with_points(&roster, per_node);
        held_back += ring.held_back();
        let counting: Vec<f64> = ring.inverse.iter().map(|inverse| 1.0 / inverse).collect();
        let total: f64 = weights.iter().sum();
        for (load, weight) in balance::loads(&points(&roster, per_node), &counting).iter().zip(&weights) {
            assert!(*load <= 1.25 * weight / total, "set {salt}: {load} for a share of {}", weight / total);
        }
    }
    assert!(held_back > 100, "the test is to show that holding back works, and only {held_back} were");
}
