//! The bound on loads: how much of all keys each node owns, and what is done about too much.

use super::envelope::{Piece, pieces};
use super::{PROBES, TURN};

/// No node owns more than this many times its share of all keys.
const BOUND: f64 = 1.25;

/// A node that is held back is brought to this many times its share, so that it stays below the bound
/// when others are held back after it.
const TARGET: f64 = 1.2;

/// How often loads are computed and weights held back, at most.
///
/// Of the sets of nodes with 64 points each that were measured, none had anything to hold back. The limit is
/// for the sets with which this is tested, of one to three points a node and weights up to a million times
/// another's: of 300,000 of those, all ended below the bound.
const ROUNDS: u32 = 1000;

/// Cells of the table of scores: `FINENESS` to each score within which a place meets one node on average.
const CELLS: usize = 4096;
const FINENESS: f64 = 512.0;

/// The weights that count: those configured, save that a node that would own more than [`BOUND`] times
/// its share gets less, just enough.
///
/// What a node owns falls continuously with its weight, and only the others gain. So lowering the weights
/// of all that own too much, again and again, ends where none does, and the keys that this moves are
/// those above the bound. It depends on nothing but names and weights.
pub(super) fn hold_back(points: &[u64], configured: &[f64]) -> Vec<f64> {
    let total: f64 = configured.iter().sum();
    let mut weights = configured.to_vec();
    for round in 0..ROUNDS {
        let loads = loads(points, &weights);
        let mut within = true;
        // Nearly full steps first; then ever smaller ones (of infinite sum), so that nodes whose loads
        // hang on each other's weights do not swing about the bound.
        let step = 16.0 / f64::from(16 + round);
        for ((weight, load), configured) in weights.iter_mut().zip(loads).zip(configured) {
            let share = configured / total;
            if load > BOUND * share {
                *weight *= 1.0 - step * (1.0 - TARGET * share / load);
                within = false;
            }
        }
        if within {
            break;
        }
    }
    weights
}

/// By rank, a number that the node's part of all keys does not exceed; too high by about 1 % at most.
///
/// A key is owned by the least of [`PROBES`] independent scores. Let S(h) be the part of the circle on
/// which the score is above h. Then the key's score is above h with probability S(h)^PROBES, and a piece of
/// the circle that belongs to a node of weight w from score a to b contributes w * (Q(b) - Q(a)) of a
/// turn, where Q(h) is the integral of PROBES * S(x)^(PROBES - 1) from 0 to h. S never grows, so that
/// taking it at the lower edge of each cell gives an upper bound.
pub(super) fn loads(points: &[u64], weights: &[f64]) -> Vec<f64> {
    let mut loads = vec![0.0; weights.len()];
    if points.is_empty() {
        return loads;
    }
    let pieces = pieces(points, weights);
    let per_node = points.len() as f64 / weights.len() as f64;
    let scores = Scores::new(&pieces, weights, TURN / (weights.iter().sum::<f64>() * per_node * FINENESS));
    for piece in pieces {
        let rank = piece.rank as usize;
        loads[rank] += (scores.integral(piece.high) - scores.integral(piece.low)) * weights[rank] / TURN;
    }
    loads
}

/// Q of [`loads`], cell by cell.
struct Scores {
    cell: f64,
    /// Q at the lower edge of each cell, and its slope from there on. The last cell has no upper edge.
    edges: Vec<(f64, f64)>,
}

impl Scores {
    fn new(pieces: &[Piece], weights: &[f64], cell: f64) -> Self {
        let above = above(pieces, weights, cell);
        let mut edges = Vec::with_capacity(CELLS);
        let mut integral = 0.0;
        for above in above {
            let above = (above / TURN).clamp(0.0, 1.0);
            // Not `powi`, whose last bit may differ between machines.
            let slope = (1..PROBES).fold(PROBES as f64, |product, _| product * above);
            edges.push((integral, slope));
            integral += slope * cell;
        }
        Self { cell, edges }
    }

    fn integral(&self, score: f64) -> f64 {
        let (index, into) = locate(score, self.cell);
        let (integral, slope) = self.edges[index];
        integral + slope * into
    }
}

/// The cell of a score, and how far into the cell it is.
fn locate(score: f64, cell: f64) -> (usize, f64) {
    // A cast saturates: whatever is beyond the table is in its last cell.
    let index = ((score / cell) as usize).min(CELLS - 1);
    (index, (score - index as f64 * cell).max(0.0))
}

/// For the lower edge of each cell, how many places of the circle have a higher score.
fn above(pieces: &[Piece], weights: &[f64], cell: f64) -> Vec<f64> {
    // What lies in a cell: of pieces that end in it, and of pieces that go through it (as differences).
    let mut ends = vec![0.0; CELLS];
    let mut through = vec![0.0; CELLS + 1];
    for piece in pieces {
        let weight = weights[piece.rank as usize];
        let ((first, from), (last, to)) = (locate(piece.low, cell), locate(piece.high, cell));
        // As if the piece began at the edge of its first cell and went through all but its last ...
        through[first] += weight * cell;
        through[last] -= weight * cell;
        ends[last] += weight * to;
        // ... less what was not there.
        ends[first] -= weight * from;
    }
    let mut crossing = 0.0;
    for (end, through) in ends.iter_mut().zip(through) {
        crossing += through;
        *end += crossing;
    }
    let mut sum = 0.0;
    for places in ends.iter_mut().rev() {
        sum += *places;
        *places = sum;
    }
    ends
}
