//! `rendezvous`: highest random weight.
//!
//! Each node draws a number U from the key's hash and its own; the score is -ln(U) / weight and the
//! least wins. Such scores are exponential with the weight as their rate, so that a node wins exactly its
//! share, and no node's score knows of another. Sources: Thaler and Ravishankar, "A name-based mapping
//! scheme for rendezvous" (1996); the logarithm for weights, Schindelhauer and Schomaker (SPAA 2005).

use super::answer::{Answer, Entry, Shortlist};
use super::hash::{self, NameDigest};
use super::logarithm::{at_least, minus_ln};
use super::roster::Roster;

/// From this many asked for on, all scores are sorted instead of the best being kept.
const SORT: usize = 64;

/// All nodes, each of which is asked by each lookup: the cost is linear in their number.
#[derive(Debug)]
pub(super) struct Rendezvous {
    /// By rank, both halves of the name's digest.
    seeds: Box<[[u64; 2]]>,
    /// By rank, 1 / weight. Empty when all weights are equal.
    inverse: Box<[f64]>,
}

impl Rendezvous {
    pub(super) fn new(roster: &Roster) -> Self {
        let weights: Vec<f64> = roster.ranked_weights().collect();
        let equal = weights.windows(2).all(|pair| pair[0] == pair[1]);
        Self {
            seeds: roster.ranked_names().map(|name| NameDigest::new(name).halves()).collect(),
            inverse: if equal { Box::default() } else { weights.iter().map(|weight| 1.0 / weight).collect() },
        }
    }

    /// Leaves the ranks of `max` nodes in `answer`; `max` is at most the number of nodes, at least 1.
    pub(super) fn rank(&self, key: &[u8], max: usize, answer: &mut Answer) {
        let key = hash::key(key);
        if self.inverse.is_empty() {
            // With equal weights the greatest draw wins: the logarithm is monotone, and equal
            // logarithms are told apart by the draw.
            let entry = |(rank, u): (u32, u64)| Entry { score: 0.0, tie: !u, rank };
            if max == 1 {
                answer
                    .nodes
                    .extend(self.draws(key).map(entry).min_by_key(|e| (e.tie, e.rank)).map(|e| e.rank));
                return;
            }
            pick(self.draws(key).map(entry), max, &mut answer.list);
        } else {
            self.rank_by_weight(key, max, &mut answer.list);
        }
        answer.settle();
    }

    fn rank_by_weight(&self, key: u64, max: usize, list: &mut Shortlist) {
        let draws = self.draws(key).zip(&*self.inverse);
        let entry = |rank, u: u64, inverse| Entry { score: minus_ln(u) as f64 * inverse, tie: !u, rank };
        if max >= SORT {
            return pick(draws.map(|((rank, u), &inverse)| entry(rank, u, inverse)), max, list);
        }
        list.begin(max);
        for ((rank, u), &inverse) in draws {
            // Most nodes are out of the running by a bound on the logarithm that costs nothing.
            if at_least(u) as f64 * inverse <= list.bound() {
                list.offer(entry(rank, u, inverse));
            }
        }
    }

    pub(super) fn memory(&self) -> usize {
        size_of_val(&*self.seeds) + size_of_val(&*self.inverse)
    }

    fn draws(&self, key: u64) -> impl Iterator<Item = (u32, u64)> {
        let draw = move |(rank, seed): (u32, &[u64; 2])| (rank, draw(key, *seed));
        (0u32..).zip(&*self.seeds).map(draw)
    }
}

/// The number that a node draws for a key. All 128 bits of the node's digest count.
fn draw(key: u64, seed: [u64; 2]) -> u64 {
    hash::mix(hash::mix(key ^ seed[0]).wrapping_add(seed[1]))
}

/// Leaves the best `max` of `entries` in `list`.
fn pick(entries: impl Iterator<Item = Entry>, max: usize, list: &mut Shortlist) {
    list.begin(max);
    if max < SORT {
        entries.for_each(|entry| list.offer(entry));
        return;
    }
    list.entries.extend(entries);
    if max < list.entries.len() {
        list.entries.select_nth_unstable_by(max - 1, Entry::order);
        list.entries.truncate(max);
    }
    list.entries.sort_unstable_by(Entry::order);
}
