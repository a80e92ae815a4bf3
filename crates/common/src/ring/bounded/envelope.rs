//! Which node is nearest by weight at each place of the circle, and how near.

use super::TURN;
use super::band::rank;
use super::{PLACE_BITS, RANK_BITS};

/// A stretch of the circle on which one node is nearest by weight.
#[derive(Debug, Clone, Copy)]
pub(super) struct Piece {
    pub(super) rank: u32,
    /// The least score on it.
    pub(super) low: f64,
    /// The greatest score on it. The stretch is (high - low) * weight places long.
    pub(super) high: f64,
}

/// A point that is walked away from, backwards: its score grows by 1 / weight with each place.
#[derive(Debug, Clone, Copy)]
struct Line {
    /// How far behind the start of the walk the point is.
    start: f64,
    weight: f64,
    rank: u32,
}

/// Cuts the circle into pieces. `points` are sorted, `weights` go by rank.
///
/// The walk goes backwards, since a point is nearer the shorter the way FORWARD to it. At each point its
/// own line starts at 0, below all others, and replaces those that are no heavier: they can never be
/// below it again. The rest is a stack of ever heavier, ever flatter lines, each of which may come out
/// below the lighter ones as the walk goes on.
pub(super) fn pieces(points: &[u64], weights: &[f64]) -> Vec<Piece> {
    let mut pieces = Vec::with_capacity(points.len() + points.len() / 4);
    let mut stack: Vec<Line> = Vec::new();
    let behind = |point: u64, lap: f64| (lap + 1.0) * TURN - (point >> RANK_BITS) as f64;
    // The first lap only fills the stack with what reaches over the seam of the circle. So the pieces are
    // those from the last point of the first lap to the last of the second: one turn.
    let lap = |number: f64| points.iter().rev().map(move |&point| (point, number));
    let mut reached = 0.0;
    for (point, lap) in lap(0.0).chain(lap(1.0)) {
        let start = behind(point, lap);
        if lap > 0.0 {
            cover(&mut stack, reached, start, &mut pieces);
        }
        reached = start;
        let weight = weights[rank(point)];
        while stack.pop_if(|line| line.weight <= weight).is_some() {}
        stack.push(Line { start, weight, rank: rank(point) as u32 });
    }
    pieces
}

/// Adds the pieces from place `from` to place `to`, between which no line starts.
fn cover(stack: &mut Vec<Line>, mut from: f64, to: f64, pieces: &mut Vec<Piece>) {
    while let Some((&top, below)) = stack.split_last() {
        let mut until = to;
        let mut next = None;
        for (index, line) in below.iter().enumerate() {
            // Where (x - top.start) / top.weight = (x - line.start) / line.weight, told from `top.start`.
            let crossing = top.start + (top.start - line.start) * top.weight / (line.weight - top.weight);
            if crossing < until {
                (until, next) = (crossing.max(from), Some(index));
            }
        }
        let score = |place: f64| (place - top.start) / top.weight;
        if until > from {
            pieces.push(Piece { rank: top.rank, low: score(from), high: score(until) });
        }
        let Some(next) = next else { return };
        stack.truncate(next + 1);
        from = until;
    }
}

/// A place has to be exact as a floating-point number, also in the second lap.
const _: () = assert!(PLACE_BITS + 1 < f64::MANTISSA_DIGITS);
