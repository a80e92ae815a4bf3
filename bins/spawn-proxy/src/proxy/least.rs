//! `Spawn-Min-Sequence`: a client that wrote reads from a node that has what it wrote.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use common::queue::Sequence;
use http::{HeaderMap, StatusCode};
use tokio::sync::Notify;
use tokio::time::Instant;

use super::headers::SPAWN_MIN_SEQUENCE;
use super::reply::Refusal;
use super::worker::Worker;
use crate::config::LiveConfig;
use crate::nodes::table::Entry;
use crate::route;
use crate::shared::Shared;

/// Between two looks without a call.
const LOOK: Duration = Duration::from_millis(20);

/// Wakes reads that wait for a node to come further.
#[derive(Debug, Default)]
pub struct Advances {
    waiting: AtomicUsize,
    changed: Notify,
}

impl Advances {
    /// A node has come further. Costs next to nothing while nobody waits.
    pub fn note(&self) {
        if self.waiting.load(Ordering::Relaxed) > 0 {
            self.changed.notify_waiters();
        }
    }
}

struct Waiting<'a>(&'a AtomicUsize);

impl<'a> Waiting<'a> {
    fn begin(count: &'a AtomicUsize) -> Self {
        count.fetch_add(1, Ordering::Relaxed);
        Self(count)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Takes the header out; what it asks for.
///
/// # Errors
/// 400 when it is not one number.
pub(super) fn asked(headers: &mut HeaderMap) -> Result<Option<Sequence>, Refusal> {
    let Some(value) = headers.get(SPAWN_MIN_SEQUENCE) else { return Ok(None) };
    let digits = value.to_str().ok().filter(|text| text.bytes().all(|byte| byte.is_ascii_digit()));
    let number = digits.and_then(|text| text.parse().ok());
    let once = headers.get_all(SPAWN_MIN_SEQUENCE).iter().count() == 1;
    headers.remove(SPAWN_MIN_SEQUENCE);
    match number.filter(|_| once) {
        Some(number) => Ok(Some(Sequence(number))),
        None => {
            let info = "Use the number that Spawn-Sequence had in the answer to an update, once";
            Err(Refusal::new(StatusCode::BAD_REQUEST, "The Spawn-Min-Sequence cannot be used", info)
                .closing())
        }
    }
}

/// Whether a node has applied an update: as its deliverer said last, or as the log knows by now.
pub(super) fn has_applied(shared: &Shared, entry: &Entry, least: Sequence) -> bool {
    if entry.live.lacks(least.0) {
        return false;
    }
    entry.live.applied_before() > least.0
        || shared.log.queue(&entry.node.id).is_some_and(|queue| queue.cursor.is_settled(least))
}

/// Waits until a node that serves reads has applied an update.
///
/// # Errors
/// 503 when none has within the time that an answer is waited for.
pub(super) async fn wait(worker: &Worker, config: &LiveConfig, least: Sequence) -> Result<(), Refusal> {
    let shared = &worker.shared;
    let there = || {
        let table = shared.nodes.table();
        let applied = |entry: &Entry| has_applied(shared, entry, least);
        !route::candidates(&table, config.mode, &shared.ring, config.max_lag, applied).is_empty()
    };
    if there() {
        return Ok(());
    }
    let _waiting = Waiting::begin(&shared.advances.waiting);
    let deadline = Instant::now() + config.timeout;
    while Instant::now() < deadline {
        let _ = tokio::time::timeout(LOOK, shared.advances.changed.notified()).await;
        if there() {
            return Ok(());
        }
    }
    Err(Refusal::unavailable(
        format!("No usable node has applied update {least}"),
        "Try again, or read without Spawn-Min-Sequence; /queues of the API says how far each node is",
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;

    #[test]
    fn one_number_is_asked_for_and_taken_out() {
        let with = |values: &[&'static str]| {
            let mut map = HeaderMap::new();
            for value in values {
                map.append(SPAWN_MIN_SEQUENCE, HeaderValue::from_static(value));
            }
            let found = asked(&mut map);
            assert!(map.is_empty());
            found.map_err(|refusal| refusal.status.as_u16())
        };
        assert_eq!(with(&[]), Ok(None));
        assert_eq!(with(&["7"]), Ok(Some(Sequence(7))));
        for bad in [&[""][..], &["-1"], &["+1"], &["x"], &["7", "7"], &["7, 8"], &["18446744073709551616"]] {
            assert_eq!(with(bad), Err(400), "{bad:?}");
        }
    }
}
