//! Balance, movement and spread, measured by looking keys up.

use common::ring::{Algorithm, Answer, Rings, Router};

use super::random::Random;

/// What one random set of nodes showed.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Sample {
    /// Keys of another first node after a node came, by what had to move.
    pub(crate) added: f64,
    /// Keys of another first node after a node went, by what had to move.
    pub(crate) removed: f64,
    /// Keys that moved between two nodes of which neither came nor went, as a part of all keys.
    pub(crate) stray: f64,
    /// The greatest load by the mean.
    pub(crate) peak: f64,
    /// The least load by the mean.
    pub(crate) trough: f64,
    /// Of a dead node's keys, the most that one heir gets, by the mean of the n - 1 others. Heirs by the
    /// second of each answer.
    pub(crate) heir_peak: f64,
    /// How many others get any of a dead node's keys.
    pub(crate) heirs: f64,
    /// The same two by the first of each answer of a ring without the node.
    pub(crate) rebuilt_peak: f64,
    pub(crate) rebuilt_heirs: f64,
}

impl Sample {
    pub(crate) fn all(&self) -> [f64; 9] {
        [
            self.added,
            self.removed,
            self.stray,
            self.peak,
            self.trough,
            self.heir_peak,
            self.heirs,
            self.rebuilt_peak,
            self.rebuilt_heirs,
        ]
    }
}

/// The mean of each number over `sets` random sets of `n` nodes, and the worst of each.
pub(crate) fn sets(
    algorithm: Algorithm,
    n: usize,
    sets: usize,
    keys_per_node: usize,
    random: &mut Random,
) -> Spread {
    let samples: Vec<_> = (0..sets).map(|_| set(algorithm, n, keys_per_node, random).all()).collect();
    let column = |i: usize| samples.iter().map(move |sample| sample[i]);
    Spread {
        mean: std::array::from_fn(|i| column(i).sum::<f64>() / sets as f64),
        least: std::array::from_fn(|i| column(i).fold(f64::INFINITY, f64::min)),
        most: std::array::from_fn(|i| column(i).fold(0.0, f64::max)),
    }
}

/// Over many sets, number by number in the order of [`Sample::all`].
#[derive(Debug, Clone, Copy)]
pub(crate) struct Spread {
    pub(crate) mean: [f64; 9],
    pub(crate) least: [f64; 9],
    pub(crate) most: [f64; 9],
}

pub(crate) const ADDED: usize = 0;
pub(crate) const REMOVED: usize = 1;
pub(crate) const STRAY: usize = 2;
pub(crate) const PEAK: usize = 3;
pub(crate) const TROUGH: usize = 4;
pub(crate) const HEIR_PEAK: usize = 5;
pub(crate) const HEIRS: usize = 6;
pub(crate) const REBUILT_PEAK: usize = 7;
pub(crate) const REBUILT_HEIRS: usize = 8;

pub(crate) fn build(algorithm: Algorithm, nodes: &[(String, f64)]) -> Rings {
    Rings::build(algorithm, nodes).expect("a good set")
}

/// One random set: a node is added to it, and another one taken away.
pub(crate) fn set(algorithm: Algorithm, n: usize, keys_per_node: usize, random: &mut Random) -> Sample {
    let mut nodes = random.nodes(n + 1);
    let more = build(algorithm, &nodes);
    nodes.pop();
    let rings = build(algorithm, &nodes);
    // The dead one stands last in neither order of names nor of building, in general.
    let dead = random.below(n);
    nodes.remove(dead);
    let fewer = build(algorithm, &nodes);
    let unshift = |index: u32| index + u32::from(index as usize >= dead);

    let keys = n * keys_per_node;
    let salt = random.next();
    let (mut loads, mut heirs, mut rebuilt) = (vec![0.0; n], vec![0.0; n], vec![0.0; n]);
    let (mut added, mut removed, mut stray) = (0.0, 0.0, 0.0);
    let mut answer = Answer::new();
    for key in 0..keys as u64 {
        let key = [salt.to_le_bytes(), key.to_le_bytes()].concat();
        let mut first = |rings: &Rings| {
            rings.route(&key, 1, &mut answer);
            answer.owner().expect("an owner")
        };
        let (after, without) = (first(&more), unshift(first(&fewer)));
        rings.route(&key, 2, &mut answer);
        let &[owner, second] = answer.nodes() else { panic!("two nodes") };
        loads[owner as usize] += 1.0;
        added += f64::from(u8::from(after != owner));
        removed += f64::from(u8::from(without != owner));
        stray += f64::from(u8::from(after != owner && after as usize != n));
        if owner as usize == dead {
            heirs[second as usize] += 1.0;
            rebuilt[without as usize] += 1.0;
        } else {
            stray += f64::from(u8::from(without != owner));
        }
    }
    let keys = keys as f64;
    let [heir_peak, rebuilt_peak] =
        [&heirs, &rebuilt].map(|heirs| most(heirs) / (heirs.iter().sum::<f64>() / (n as f64 - 1.0)));
    let count = |heirs: &[f64]| heirs.iter().filter(|&&keys| keys > 0.0).count() as f64;
    Sample {
        added: added / (keys / (n as f64 + 1.0)),
        removed: removed / (keys / n as f64),
        stray: stray / keys,
        peak: most(&loads) * n as f64 / keys,
        trough: least(&loads) * n as f64 / keys,
        heir_peak,
        heirs: count(&heirs),
        rebuilt_peak,
        rebuilt_heirs: count(&rebuilt),
    }
}

pub(crate) fn most(values: &[f64]) -> f64 {
    values.iter().copied().fold(0.0, f64::max)
}

pub(crate) fn least(values: &[f64]) -> f64 {
    values.iter().copied().fold(f64::INFINITY, f64::min)
}

/// For random weights from `choices`, the least and the greatest of load by share, and how many were held
/// back. `keys` is for the mean node.
pub(crate) fn weighted(
    algorithm: Algorithm,
    n: usize,
    choices: &[f64],
    keys: usize,
    random: &mut Random,
) -> (f64, f64, usize) {
    let mut nodes = random.nodes(n);
    for (_, weight) in &mut nodes {
        *weight = choices[random.below(choices.len())];
    }
    let rings = build(algorithm, &nodes);
    let total: f64 = nodes.iter().map(|(_, weight)| weight).sum();
    let mut loads = vec![0.0; n];
    let mut answer = Answer::new();
    let salt = random.next();
    for key in 0..(n * keys) as u64 {
        rings.route(&[salt.to_le_bytes(), key.to_le_bytes()].concat(), 1, &mut answer);
        loads[answer.owner().expect("an owner") as usize] += 1.0;
    }
    let by_share: Vec<f64> = loads
        .iter()
        .zip(&nodes)
        .map(|(load, (_, weight))| load / (n * keys) as f64 / (weight / total))
        .collect();
    (least(&by_share), most(&by_share), rings.held_back())
}
