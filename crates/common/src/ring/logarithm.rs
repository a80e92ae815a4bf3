//! The natural logarithm in integers.
//!
//! The `ln` of a machine's library may differ in its last bit from another's, and then a key would have
//! two owners. Here it is a table and a straight line between its entries: the same bits everywhere, and
//! monotone without exception, so that what compares hashes and what compares logarithms agree.

/// Binary digits after the point of a result.
pub(super) const FRACTION_BITS: u32 = 58;

/// Each octave is cut into this many lines.
const LINES: usize = 64;
const LINE_BITS: u32 = LINES.ilog2();

/// Below 2^-OCTAVES, -ln(1 - x) is x to within 2^-(OCTAVES + 1) of itself.
const OCTAVES: usize = 20;

/// -ln(1 - x) for x = 1/2 * (1 + line / LINES) * 2^-octave; line runs to LINES, which is the end of the last.
static OCTAVE: [[u64; LINES + 1]; OCTAVES] = octaves();

/// -ln(1 - x) for x = 1/2 * line / LINES.
static HALF: [u64; LINES + 1] = half();

/// -ln(U) with [`FRACTION_BITS`] binary digits, where U = (`u` + 1) / 2^64 is above 0 and at most 1.
///
/// Never grows with `u`. Off by less than 1 part in 10,000; by far less where it is small, which is
/// where the least of many logarithms is decided.
pub(super) fn minus_ln(u: u64) -> u64 {
    let x = !u;
    if x >> 63 == 0 {
        return minus_ln_1p(x);
    }
    // U lies in (1/2, 1] * 2^-halvings: halvings * ln 2, and the rest in a straight line.
    let halvings = u.leading_zeros();
    let rest = (u + 1).checked_shl(halvings).unwrap_or(0).wrapping_neg();
    u64::from(halvings) * HALF[LINES] + line(&HALF, rest << 1)
}

/// A number that [`minus_ln`] is not below: 1 - U, less what rounding may take.
pub(super) fn at_least(u: u64) -> u64 {
    (!u >> (u64::BITS - FRACTION_BITS)).saturating_sub(4)
}

/// -ln(1 - x / 2^64), for x below 2^63.
fn minus_ln_1p(x: u64) -> u64 {
    let octave = x.leading_zeros() as usize;
    match OCTAVE.get(octave.wrapping_sub(1)) {
        // The leading one goes, and what follows it comes to the top.
        Some(table) => line(table, x << octave << 1),
        None => x >> (u64::BITS - FRACTION_BITS),
    }
}

/// The value at `position` / 2^64 of the way through `table`.
fn line(table: &[u64; LINES + 1], position: u64) -> u64 {
    let index = (position >> (u64::BITS - LINE_BITS)) as usize;
    let into = position << LINE_BITS;
    let (low, high) = (table[index], table[index + 1]);
    low + ((u128::from(high - low) * u128::from(into)) >> u64::BITS) as u64
}

/// -ln(1 - x / 2^64) by its power series, for x up to 2^63. Runs in the compiler only.
const fn series(x: u64) -> u64 {
    let mut power = x as u128;
    let mut sum = 0u128;
    let mut n = 1;
    while power > 0 {
        sum += power / n;
        power = (power * x as u128) >> u64::BITS;
        n += 1;
    }
    (sum >> (u64::BITS - FRACTION_BITS)) as u64
}

const fn octaves() -> [[u64; LINES + 1]; OCTAVES] {
    let mut table = [[0; LINES + 1]; OCTAVES];
    let mut octave = 0;
    while octave < OCTAVES {
        let mut line = 0;
        while line <= LINES {
            // Octave 0 runs from 1/4 to 1/2.
            table[octave][line] = series(((LINES + line) as u64) << (62 - octave as u32 - LINE_BITS));
            line += 1;
        }
        octave += 1;
    }
    table
}

const fn half() -> [u64; LINES + 1] {
    let mut table = [0; LINES + 1];
    let mut line = 0;
    while line <= LINES {
        table[line] = series((line as u64) << (63 - LINE_BITS));
        line += 1;
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn exact(u: u64) -> f64 {
        // Each form is exact where the other has lost its digits.
        let turn = 2f64.powi(64);
        if u >> 63 == 1 { -(-(!u as f64) / turn).ln_1p() } else { -((u as f64 + 1.0) / turn).ln() }
    }

    fn found(u: u64) -> f64 {
        minus_ln(u) as f64 / 2f64.powi(FRACTION_BITS as i32)
    }

    #[test]
    fn the_ends_are_right() {
        assert_eq!(minus_ln(u64::MAX), 0);
        let greatest = 64.0 * 2f64.ln();
        assert!((found(0) - greatest).abs() < 1e-4 * greatest, "{} {greatest}", found(0));
        assert!((found(u64::MAX / 2) - 2f64.ln()).abs() < 1e-9);
    }

    #[test]
    fn it_never_grows_where_tables_meet() {
        for bit in 0..64 {
            let edge = 1u64 << bit;
            for edge in [edge, !edge] {
                for u in edge.saturating_sub(70)..edge.saturating_add(70).min(u64::MAX - 1) {
                    assert!(minus_ln(u) >= minus_ln(u + 1), "{u}");
                }
            }
        }
    }

    proptest! {
        #[test]
        fn it_is_the_logarithm(u: u64, shift in 0u32..50, high: bool) {
            let u = if high { !(u >> shift) } else { u >> shift };
            let (exact, found) = (exact(u), found(u));
            prop_assert!(minus_ln(u) >= at_least(u));
            prop_assert!((exact - found).abs() <= exact * 1e-4 + 1e-15, "{u}: {found} is not {exact}");
        }

        #[test]
        fn it_never_grows(a: u64, b: u64, shift in 0u32..64) {
            let b = a.saturating_add(b >> shift);
            prop_assert!(minus_ln(a) >= minus_ln(b));
        }
    }
}
