//! How many nodes a lookup gives.

use common::ring::{Answer, Router as _};

use super::catalog::Service;

/// Why a lookup gives no answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Shortage {
    /// The most nodes wanted are fewer than the least.
    #[error("max cannot be less than min: max is {max}, min is {min}")]
    MaxBelowMin {
        /// The least nodes wanted.
        min: i64,
        /// The most nodes wanted.
        max: i64,
    },
    /// The service does not have the least number of nodes wanted.
    #[error("not enough nodes: min is {min}, and the service has {nodes}")]
    TooFewNodes {
        /// The least nodes wanted.
        min: i64,
        /// How many there are.
        nodes: usize,
    },
}

/// How many of `nodes` nodes a lookup gives: `max` of them, or all if there are fewer.
///
/// Zero and less count as none, so that `min` of zero is content with an empty answer.
///
/// # Errors
/// `max` is less than `min`, or there are fewer nodes than `min`.
pub fn count(nodes: usize, min: i64, max: i64) -> Result<usize, Shortage> {
    if max < min {
        return Err(Shortage::MaxBelowMin { min, max });
    }
    if i64::try_from(nodes).is_ok_and(|nodes| nodes < min) {
        return Err(Shortage::TooFewNodes { min, nodes });
    }
    Ok(usize::try_from(max).unwrap_or(0).min(nodes))
}

/// Leaves in `answer` as many nodes of `service` for `key` as [`count`] says.
///
/// # Errors
/// Those of [`count`]. `answer` is not touched then.
pub fn select(
    service: &Service,
    key: &[u8],
    min: i64,
    max: i64,
    answer: &mut Answer,
) -> Result<(), Shortage> {
    let count = count(service.rings.len(), min, max)?;
    service.rings.route(key, count, answer);
    Ok(())
}
