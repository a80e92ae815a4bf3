//! What is shown of queues, updates and dead letters.

use common::node::NodeId;
use common::queue::QueueState;
use jiff::Timestamp;
use serde::Serialize;
use serde_json::{Map, Value, json};
use update_log::{DeadLetter, DeliveryState, Divergence, Progress, Queue, Status};

use crate::nodes::store::Record;
use crate::nodes::table::Entry;

/// A node as the API shows it.
#[derive(Debug, Serialize, PartialEq)]
pub(super) struct NodeView {
    #[serde(flatten)]
    record: Record,
    /// Left out where it is not, so that records look as they always did.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    draining: bool,
}

impl From<&Entry> for NodeView {
    fn from(entry: &Entry) -> Self {
        Self { record: Record::from(&entry.node), draining: entry.draining }
    }
}

/// A queue as the API shows it.
#[derive(Debug, Serialize)]
pub(super) struct QueueView {
    node: String,
    state: &'static str,
    pending: u64,
    bytes: u64,
    oldest_seconds: f64,
    cursor: u64,
    last_error: Option<String>,
}

impl QueueView {
    /// Whose it is.
    pub(super) fn node(&self) -> &str {
        &self.node
    }

    /// Of a node, at a time in milliseconds since the Unix epoch.
    pub(super) fn new(
        id: &NodeId,
        queue: &Queue,
        state: QueueState,
        last_error: Option<String>,
        now_ms: u64,
    ) -> Self {
        Self {
            node: id.to_string(),
            state: state.as_str(),
            pending: queue.pending,
            bytes: queue.bytes,
            oldest_seconds: oldest_seconds(queue, now_ms),
            // The last that is settled together with all before it, to be compared with Spawn-Sequence.
            cursor: queue.cursor.low().0.saturating_sub(1),
            last_error,
        }
    }
}

/// The age of a queue's oldest update; zero when there is none, or the clock was set back since.
pub(super) fn oldest_seconds(queue: &Queue, now_ms: u64) -> f64 {
    let age_ms = queue.oldest_ms.map_or(0, |oldest| now_ms.saturating_sub(oldest));
    std::time::Duration::from_millis(age_ms).as_secs_f64()
}

/// An update and what each node did with it.
#[derive(Debug, Serialize)]
pub(super) struct UpdateView {
    sequence: u64,
    id: String,
    method: String,
    path: String,
    bytes: u64,
    received: Option<String>,
    nodes: Map<String, Value>,
}

impl From<Status> for UpdateView {
    fn from(status: Status) -> Self {
        let nodes = status.nodes.into_iter().map(|(id, progress, error)| {
            let error = error.or_else(|| maybe_duplicate(&progress));
            let state = json!({
                "state": progress.state.as_str(),
                "attempts": progress.attempts,
                "status": answered(progress.status),
                "error": error,
            });
            (id.to_string(), state)
        });
        Self {
            sequence: status.sequence.0,
            id: status.id,
            method: status.method.to_string(),
            path: status.target,
            bytes: status.bytes,
            received: time(status.received_ms),
            nodes: nodes.collect(),
        }
    }
}

/// A 4xx to a repeated attempt is often the answer to what an earlier one already did.
fn maybe_duplicate(progress: &Progress) -> Option<String> {
    let delivered = progress.state == DeliveryState::Delivered && progress.attempts > 1;
    let refused = (400..500).contains(&progress.status);
    (delivered && refused)
        .then(|| format!("maybe-duplicate: {} to attempt {}", progress.status, progress.attempts))
}

/// An update that nodes answered differently.
#[derive(Debug, Serialize)]
pub(super) struct DivergenceView {
    sequence: u64,
    method: String,
    path: String,
    answers: Map<String, Value>,
}

impl From<Divergence> for DivergenceView {
    fn from(one: Divergence) -> Self {
        let answers = one.answers.into_iter().map(|(node, status)| (node.to_string(), status.into()));
        let (sequence, method) = (one.sequence.0, one.method.to_string());
        Self { sequence, method, path: one.target, answers: answers.collect() }
    }
}

/// An update that was given up.
#[derive(Debug, Serialize)]
pub(super) struct DeadLetterView {
    node: String,
    sequence: u64,
    id: String,
    method: String,
    path: String,
    attempts: u32,
    status: Option<u16>,
    error: String,
    since: Option<String>,
}

impl From<DeadLetter> for DeadLetterView {
    fn from(letter: DeadLetter) -> Self {
        Self {
            node: letter.node.to_string(),
            sequence: letter.sequence.0,
            id: letter.id,
            method: letter.method.to_string(),
            path: letter.target,
            attempts: letter.attempts,
            status: answered(letter.status),
            error: letter.error,
            since: time(letter.since_ms),
        }
    }
}

/// `null` rather than 0 where there was no answer.
fn answered(status: u16) -> Option<u16> {
    (status != 0).then_some(status)
}

/// RFC 3339 in UTC.
fn time(unix_ms: u64) -> Option<String> {
    let time = Timestamp::from_millisecond(i64::try_from(unix_ms).ok()?).ok()?;
    Some(format!("{time:.3}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use common::queue::{Cursor, Sequence};
    use http::Method;

    fn id() -> NodeId {
        "[::1]:80".parse().unwrap()
    }

    #[test]
    fn a_queue_says_how_far_it_is_and_how_old() {
        let queue = Queue {
            cursor: Cursor::new(Sequence(8)),
            pending: 2,
            deletes: 1,
            bytes: 30,
            oldest_ms: Some(1_000),
        };
        let view = QueueView::new(&id(), &queue, QueueState::Waiting, Some("refused".into()), 3_500);
        let text = serde_json::to_string(&view).unwrap();
        let want = r#"{"node":"[::1]:80","state":"waiting","pending":2,"bytes":30,"oldest_seconds":2.5,"cursor":7,"last_error":"refused"}"#;
        assert_eq!(text, want);
        assert_eq!(oldest_seconds(&queue, 500), 0.0);
        assert_eq!(oldest_seconds(&Queue { oldest_ms: None, ..queue }, 500), 0.0);
    }

    #[test]
    fn an_update_says_what_each_node_did() {
        let progress =
            Progress { state: DeliveryState::Delivered, attempts: 2, status: 201, ..Progress::default() };
        let status = Status {
            sequence: Sequence(3),
            id: "k".into(),
            method: Method::POST,
            target: "/a?b=c".into(),
            bytes: 5,
            received_ms: 1_700_000_000_120,
            nodes: vec![
                (id(), progress, None),
                ("h:1".parse().unwrap(), Progress::default(), Some("refused".into())),
            ],
        };
        let want = concat!(
            r#"{"sequence":3,"id":"k","method":"POST","path":"/a?b=c","bytes":5,"received":"2023-11-14T22:13:20.120Z","#,
            r#""nodes":{"[::1]:80":{"state":"delivered","attempts":2,"status":201,"error":null},"#,
            r#""h:1":{"state":"pending","attempts":0,"status":null,"error":"refused"}}}"#
        );
        assert_eq!(serde_json::to_string(&UpdateView::from(status)).unwrap(), want);
    }

    #[test]
    fn a_dead_letter_says_since_when_and_why() {
        let letter = DeadLetter {
            node: id(),
            sequence: Sequence(3),
            id: "k".into(),
            method: Method::DELETE,
            target: "/a".into(),
            attempts: 12,
            status: 503,
            error: "answered 503".into(),
            since_ms: 0,
            overtaken: None,
        };
        let want = concat!(
            r#"{"node":"[::1]:80","sequence":3,"id":"k","method":"DELETE","path":"/a","attempts":12,"#,
            r#""status":503,"error":"answered 503","since":"1970-01-01T00:00:00.000Z"}"#
        );
        assert_eq!(serde_json::to_string(&DeadLetterView::from(letter)).unwrap(), want);
    }
}
