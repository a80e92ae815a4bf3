//! `ring`: a ring with bounded loads, on which each key stands at several places at once.
//!
//! Every node has [`POINTS`] points on a circle of 2^48 places. A key stands at [`PROBES`] places of the
//! circle and walks forward from all of them. The score of a node is the least distance from any of those
//! places to any point of the node, divided by the node's weight; the node of least score owns the key, and
//! the others follow by score: they are the next distinct nodes that the key meets.
//!
//! Sources: the ring of Karger et al. (STOC 1997); several probes per key, Appleton and O'Reilly,
//! "Multi-probe consistent hashing" (arXiv:1505.00062, 2015); distance divided by weight, the Linear Method
//! of Schindelhauer and Schomaker, "Weighted distributed hash tables" (SPAA 2005); the bound on loads as a
//! promise, Mirrokni, Thorup and Zadimoghaddam, "Consistent hashing with bounded loads" (2016), kept here by
//! [holding back](balance) the weight of a node that would own too much.

mod balance;
mod band;
mod envelope;

use self::band::Band;
use super::answer::{Answer, Entry};
use super::hash::{self, NameDigest};
use super::roster::Roster;

/// How often a node stands on the circle.
///
/// With [`PROBES`] it makes the balance: the deviation of a node's load is about
/// 1 / sqrt(`POINTS` * (2 * `PROBES` - 1)), 3.2 % of its share.
const POINTS: u32 = 64;

/// How often a key stands on the circle. Also decides how evenly a dead node's keys spread: all but
/// one in `PROBES` of them go to a node that is drawn afresh for each key.
const PROBES: usize = 8;

/// Places on the circle: points and probes have this many bits.
const PLACE_BITS: u32 = 48;

/// Below a place, a word holds the rank of the node whose point it is.
const RANK_BITS: u32 = u64::BITS - PLACE_BITS;

/// Up to this many nodes asked for, the best are kept in a list; beyond it, in a table of all nodes.
const SHORT: usize = 32;

type Probes = [u64; PROBES];

/// The ring. All numbers are results of integer and basic IEEE 754 operations: the same on every machine.
#[derive(Debug)]
pub(super) struct BoundedRing {
    /// Nodes of like weight together, the heaviest first.
    bands: Box<[Band]>,
    /// By rank, 1 / the weight that counts.
    inverse: Box<[f64]>,
    /// The score within which a key meets one node on average.
    stride: f64,
    held_back: usize,
}

impl BoundedRing {
    pub(super) fn new(roster: &Roster) -> Self {
        Self::with_points(roster, POINTS)
    }

    fn with_points(roster: &Roster, per_node: u32) -> Self {
        let configured: Vec<f64> = roster.ranked_weights().collect();
        let mut points = Vec::with_capacity(configured.len() * per_node as usize);
        for (rank, name) in roster.ranked_names().enumerate() {
            let digest = NameDigest::new(name);
            points.extend((0..per_node).map(|number| at(digest.numbered(number)) | rank as u64));
        }
        points.sort_unstable();
        let weights = balance::hold_back(&points, &configured);
        let held_back = configured.iter().zip(&weights).filter(|(before, after)| before != after).count();
        let rate: f64 = weights.iter().sum::<f64>() * f64::from(per_node) * PROBES as f64;
        Self {
            bands: Band::split(&points, &configured, &weights),
            inverse: weights.iter().map(|weight| 1.0 / weight).collect(),
            stride: TURN / rate,
            held_back,
        }
    }

    pub(super) fn held_back(&self) -> usize {
        self.held_back
    }

    pub(super) fn memory(&self) -> usize {
        size_of_val(&*self.inverse) + self.bands.iter().map(Band::memory).sum::<usize>()
    }

    /// Leaves the ranks of `max` nodes in `answer`; `max` is at most the number of nodes, at least 1.
    pub(super) fn rank(&self, key: &[u8], max: usize, answer: &mut Answer) {
        let key = hash::key(key);
        let probes: Probes = std::array::from_fn(|index| at(hash::derive(key, index as u64)));
        if max == 1 {
            answer.nodes.push(self.owner(&probes));
        } else if max <= SHORT {
            self.few(&probes, max, answer);
            answer.settle();
        } else {
            self.many(&probes, max, answer);
            answer.settle();
        }
    }

    fn owner(&self, probes: &Probes) -> u32 {
        let (mut score, mut owner) = (f64::INFINITY, u32::MAX);
        let mut offer = |found: f64, rank: u32| {
            if found < score || (found == score && rank < owner) {
                (score, owner) = (found, rank);
            }
            score
        };
        for band in &self.bands {
            if band.uniform() {
                let nearest = band.nearest(probes);
                let rank = band::rank(nearest);
                offer((nearest >> RANK_BITS) as f64 * self.inverse[rank], rank as u32);
                continue;
            }
            for &probe in probes {
                for (distance, rank) in band.walk(probe) {
                    let found = distance * self.inverse[rank as usize];
                    if distance * band.least_inverse() > offer(found, rank) {
                        break;
                    }
                }
            }
        }
        owner
    }

    fn few(&self, probes: &Probes, max: usize, answer: &mut Answer) {
        answer.list.begin(max);
        let list = &mut answer.list;
        for band in &self.bands {
            let mut walks = probes.map(|probe| band.walk(probe));
            let mut step = |walk: &mut _| {
                let Some((distance, rank)) = Iterator::next(walk) else { return false };
                let (distance, rank): (f64, u32) = (distance, rank);
                if distance * band.least_inverse() > list.bound() {
                    return false;
                }
                list.offer_distinct(Entry { score: distance * self.inverse[rank as usize], tie: 0, rank });
                true
            };
            // One step from each place first, so that few of the steps after it are needed.
            let going = walks.each_mut().map(&mut step);
            for (walk, going) in walks.iter_mut().zip(going) {
                while going && step(walk) {}
            }
        }
    }

    /// Looks at all points within a score, and at twice that score if that was not enough.
    fn many(&self, probes: &Probes, max: usize, answer: &mut Answer) {
        answer.nearest.resize(answer.nearest.len().max(self.inverse.len()), f64::INFINITY);
        answer.list.begin(max);
        // Where as many nodes are met on average, and some more: it only saves work, so that the library's
        // logarithm may be used.
        let nodes = self.inverse.len() as f64;
        let mut within = self.stride * nodes * (nodes / (nodes - max as f64 + 0.3)).ln() * 1.1;
        loop {
            self.meet(probes, within, answer);
            let enough = answer.list.entries.len() >= max;
            for entry in &mut answer.list.entries {
                let nearest = &mut answer.nearest[entry.rank as usize];
                entry.score = std::mem::replace(nearest, f64::INFINITY);
            }
            if enough {
                break;
            }
            answer.list.entries.clear();
            within *= 2.0;
        }
        answer.list.entries.sort_unstable_by(Entry::order);
        answer.list.entries.truncate(max);
    }

    /// Lists each node whose score is at most `within`, and notes the score in `nearest`.
    fn meet(&self, probes: &Probes, within: f64, answer: &mut Answer) {
        for band in &self.bands {
            for &probe in probes {
                for (distance, rank) in band.walk(probe) {
                    if distance * band.least_inverse() > within {
                        break;
                    }
                    let score = distance * self.inverse[rank as usize];
                    let nearest = &mut answer.nearest[rank as usize];
                    if score > within || score >= *nearest {
                        continue;
                    }
                    if nearest.is_infinite() {
                        answer.list.entries.push(Entry { score, tie: 0, rank });
                    }
                    *nearest = score;
                }
            }
        }
    }
}

/// The whole circle.
const TURN: f64 = (1u64 << PLACE_BITS) as f64;

/// The place that a hash stands for, in the high bits; the low ones are free for a rank.
const fn at(hash: u64) -> u64 {
    hash >> RANK_BITS << RANK_BITS
}

#[cfg(test)]
mod tests;
