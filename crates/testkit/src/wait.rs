//! Waiting for something to become true, with a bound and a sentence.

use std::future::Future;
use std::panic::Location;
use std::time::{Duration, Instant};

/// The longest pause between two looks at a condition.
const SLOWEST_LOOK: Duration = Duration::from_millis(50);

/// A bound as it holds on this machine: `limit` times the environment's `TEST_PATIENCE` (1 when unset).
pub fn patience(limit: Duration) -> Duration {
    let factor = std::env::var("TEST_PATIENCE").ok().and_then(|text| text.parse().ok()).unwrap_or(1.0_f64);
    limit.mul_f64(factor.max(0.0))
}

/// Waits until `probe` gives a value, looking often at first; panics with `what` when `limit` has passed.
///
/// A probe that hangs is cut off at the limit as well. The panic names the caller's line.
#[track_caller]
pub fn eventually<T>(
    what: impl Into<String>,
    limit: Duration,
    mut probe: impl AsyncFnMut() -> Option<T>,
) -> impl Future<Output = T> {
    let (what, limit, caller) = (what.into(), patience(limit), Location::caller());
    async move {
        let start = Instant::now();
        let mut pause = Duration::from_millis(1);
        let looks = async {
            loop {
                if let Some(value) = probe().await {
                    return value;
                }
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(SLOWEST_LOOK);
            }
        };
        match tokio::time::timeout(limit, looks).await {
            Ok(value) => value,
            Err(_) => panic!("{caller}: waited {:.1?} in vain for: {what}", start.elapsed()),
        }
    }
}
