//! The points of nodes of like weight.

use super::{PLACE_BITS, Probes, RANK_BITS};

/// The points of all nodes whose weights lie within one power of two.
///
/// Were there only one band, a key would have to walk past the points of all light nodes until it is sure
/// that no heavy one is nearer by weight. Within a band the next few points always settle it.
#[derive(Debug)]
pub(super) struct Band {
    /// Place and rank of each point, sorted; then [`LOOK`] words that no probe reaches.
    points: Box<[u64]>,
    /// For each stretch of the circle (a power of two of them, two to four points each on average), the
    /// first point in it or after it.
    starts: Box<[u32]>,
    /// Takes a place to its stretch.
    shift: u32,
    /// The least 1 / weight in the band.
    least_inverse: f64,
    /// Whether all weights in the band are equal, so that the next point is always the best.
    uniform: bool,
}

impl Band {
    /// Splits sorted `points` by the `configured` weights of their nodes, heaviest first. `weights` are
    /// those that count.
    pub(super) fn split(points: &[u64], configured: &[f64], weights: &[f64]) -> Box<[Self]> {
        let mut classes: Vec<u64> = configured.iter().map(|&weight| class(weight)).collect();
        classes.sort_unstable();
        classes.dedup();
        let of = |wanted: u64| {
            let own = |rank: usize| class(configured[rank]) == wanted;
            let points = points.iter().copied().filter(|&point| own(rank(point))).collect();
            let weights =
                weights.iter().enumerate().filter(|&(rank, _)| own(rank)).map(|(_, &weight)| weight);
            Self::new(points, weights)
        };
        classes.into_iter().rev().map(of).collect()
    }

    fn new(mut points: Vec<u64>, weights: impl Iterator<Item = f64> + Clone) -> Self {
        let (least, greatest) =
            weights.fold((f64::INFINITY, 0.0), |(a, b): (f64, f64), w| (a.min(w), b.max(w)));
        let len = points.len();
        let bits = (len / 2).max(2).ilog2().min(PLACE_BITS);
        let shift = u64::BITS - bits;
        let mut starts = Vec::with_capacity(1 << bits);
        for (index, point) in points.iter().enumerate() {
            while starts.len() <= (point >> shift) as usize {
                starts.push(index as u32);
            }
        }
        starts.resize(1 << bits, len as u32);
        points.extend([u64::MAX; LOOK]);
        Self {
            points: points.into(),
            starts: starts.into(),
            shift,
            least_inverse: 1.0 / greatest,
            uniform: least == greatest,
        }
    }

    pub(super) fn least_inverse(&self) -> f64 {
        self.least_inverse
    }

    pub(super) fn uniform(&self) -> bool {
        self.uniform
    }

    pub(super) fn memory(&self) -> usize {
        size_of::<Self>() + size_of_val(&*self.points) + size_of_val(&*self.starts)
    }

    /// The index of the first point at or after `probe`, which may be the number of points.
    fn first(&self, probe: u64) -> usize {
        self.first_from(self.start(probe), probe)
    }

    fn start(&self, probe: u64) -> usize {
        self.starts[(probe >> self.shift) as usize] as usize
    }

    fn first_from(&self, mut from: usize, probe: u64) -> usize {
        // Counting instead of searching: the processor cannot guess where a search ends, and nearly all
        // of them end within the few points that are counted.
        loop {
            let passed = self.points[from..from + LOOK].iter().filter(|&&point| point < probe).count();
            from += passed;
            if passed < LOOK {
                return from;
            }
        }
    }

    /// The least way from any of `probes` to a point: in the high bits how far it is, below it the node's
    /// rank.
    pub(super) fn nearest(&self, probes: &Probes) -> u64 {
        // All stretches first, so that the processor fetches them at once, and then all their points.
        let starts = probes.map(|probe| self.start(probe));
        let nearest = |(&probe, from)| {
            let first = self.first_from(from, probe);
            self.points[if first == self.len() { 0 } else { first }].wrapping_sub(probe)
        };
        probes.iter().zip(starts).map(nearest).min().unwrap_or(u64::MAX)
    }

    /// All points of the band from `probe` on, once round: the distance in places, and the node's rank.
    pub(super) fn walk(&self, probe: u64) -> impl Iterator<Item = (f64, u32)> {
        let (before, after) = self.points[..self.len()].split_at(self.first(probe));
        after.iter().chain(before).map(move |&point| {
            // The low bits of a probe are zero, so that a rank never borrows from the distance.
            ((point.wrapping_sub(probe) >> RANK_BITS) as f64, rank(point) as u32)
        })
    }

    fn len(&self) -> usize {
        self.points.len() - LOOK
    }
}

/// How many points are compared with a probe at once. As many words beyond all places end the points, so
/// that a comparison never runs out of them.
const LOOK: usize = 6;

/// The power of two that a weight has reached.
fn class(weight: f64) -> u64 {
    // Weights are finite and positive: the bits above the mantissa are the exponent.
    weight.to_bits() >> (f64::MANTISSA_DIGITS - 1)
}

/// The node whose point this is.
pub(super) fn rank(point: u64) -> usize {
    (point & ((1 << RANK_BITS) - 1)) as usize
}
