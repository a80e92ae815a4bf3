//! The points of nodes of like weight.

use super::{PLACE_BITS, RANK_BITS};

/// The points of all nodes whose weights lie within one power of two.
///
/// Were there only one band, a key would have to walk past the points of all light nodes until it is sure
/// that no heavy one is nearer by weight. Within a band the next few points always settle it.
#[derive(Debug)]
pub(super) struct Band {
    /// Place and rank of each point, sorted.
    points: Box<[u64]>,
    /// For each stretch of the circle (a power of two of them, two to four points each on average), the
    /// first point in it or after it; one more at the end.
    starts: Box<[u32]>,
    /// Takes a place to its stretch.
    shift: u32,
    /// The least 1 / weight in the band.
    least_inverse: f64,
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
            Self::new(points, weights.fold(0.0, f64::max))
        };
        classes.into_iter().rev().map(of).collect()
    }

    fn new(points: Box<[u64]>, greatest: f64) -> Self {
        let bits = (points.len() / 2).max(2).ilog2().min(PLACE_BITS);
        let shift = u64::BITS - bits;
        let mut starts = Vec::with_capacity((1 << bits) + 1);
        for (index, point) in points.iter().enumerate() {
            while starts.len() <= (point >> shift) as usize {
                starts.push(index as u32);
            }
        }
        starts.resize((1 << bits) + 1, points.len() as u32);
        Self { points, starts: starts.into(), shift, least_inverse: 1.0 / greatest }
    }

    pub(super) fn least_inverse(&self) -> f64 {
        self.least_inverse
    }

    pub(super) fn memory(&self) -> usize {
        size_of::<Self>() + size_of_val(&*self.points) + size_of_val(&*self.starts)
    }

    /// All points of the band from `probe` on, once round: the distance in places, and the node's rank.
    pub(super) fn walk(&self, probe: u64) -> impl Iterator<Item = (f64, u32)> {
        let stretch = (probe >> self.shift) as usize;
        let (from, to) = (self.starts[stretch] as usize, self.starts[stretch + 1] as usize);
        let first = from + self.points[from..to].partition_point(|&point| point < probe);
        let (before, after) = self.points.split_at(first);
        after.iter().chain(before).map(move |&point| {
            // The low bits of a probe are zero, so that a rank never borrows from the distance.
            ((point.wrapping_sub(probe) >> RANK_BITS) as f64, rank(point) as u32)
        })
    }
}

/// The power of two that a weight has reached.
fn class(weight: f64) -> u64 {
    // Weights are finite and positive: the bits above the mantissa are the exponent.
    weight.to_bits() >> (f64::MANTISSA_DIGITS - 1)
}

/// The node whose point this is.
pub(super) fn rank(point: u64) -> usize {
    (point & ((1 << RANK_BITS) - 1)) as usize
}
