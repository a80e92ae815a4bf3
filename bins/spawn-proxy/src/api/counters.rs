//! `/metrics?format=table|json`: what each node answered and what waits for it, by kind of request.

use std::fmt::Write;
use std::sync::atomic::Ordering::Relaxed;

use common::node::NodeId;
use serde::Serialize;
use serde_json::{Map, Value};
use update_log::Queue;

use crate::nodes::live::{ByKind, Live};

/// The counters of one node.
#[derive(Debug, Default, Clone, Copy, Serialize)]
pub(super) struct Counters {
    success: Kinds,
    failure: Kinds,
    queued: Kinds,
}

#[derive(Debug, Default, Clone, Copy, Serialize)]
struct Kinds {
    get: u64,
    set: u64,
    delete: u64,
}

impl From<&ByKind> for Kinds {
    fn from(kinds: &ByKind) -> Self {
        Self {
            get: kinds.get.load(Relaxed),
            set: kinds.set.load(Relaxed),
            delete: kinds.delete.load(Relaxed),
        }
    }
}

impl Counters {
    /// Of a node and its queue, if it has one.
    pub(super) fn new(live: &Live, queue: Option<&Queue>) -> Self {
        let queued = queue.map_or_else(Kinds::default, |queue| Kinds {
            get: 0,
            set: queue.pending.saturating_sub(queue.deletes),
            delete: queue.deletes,
        });
        Self { success: Kinds::from(&live.success), failure: Kinds::from(&live.failure), queued }
    }
}

/// A map by node.
pub(super) fn json(nodes: &[(NodeId, Counters)]) -> Value {
    let entry = |(id, counters): &(NodeId, Counters)| {
        (id.to_string(), serde_json::to_value(counters).unwrap_or_default())
    };
    Value::Object(nodes.iter().map(entry).collect::<Map<_, _>>())
}

/// A table for each node; three line ends where there is none.
pub(super) fn table(nodes: &[(NodeId, Counters)]) -> String {
    if nodes.is_empty() {
        return "\n\n\n".to_owned();
    }
    let mut text = String::new();
    for (id, counters) in nodes {
        // Writing to a String cannot fail.
        let _ = write!(text, "\n{id}\n{:10}{:>15}{:>15}{:>15}\n", "", "GET", "SET", "DELETE");
        let rows =
            [("SUCCESS", counters.success), ("FAILURE", counters.failure), ("QUEUED", counters.queued)];
        for (name, Kinds { get, set, delete }) in rows {
            let _ = writeln!(text, "{name:10}{get:15}{set:15}{delete:15}");
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nodes::live::Kind;
    use common::queue::{Cursor, Sequence};
    use http::StatusCode;

    fn counters() -> (NodeId, Counters) {
        let id: NodeId = "h:80".parse().unwrap();
        let live = Live::new(id.clone(), std::time::Instant::now());
        live.answered(Kind::Get, StatusCode::NOT_FOUND);
        live.answered(Kind::Set, StatusCode::BAD_GATEWAY);
        live.answered(Kind::Delete, StatusCode::TOO_MANY_REQUESTS);
        let queue =
            Queue { cursor: Cursor::new(Sequence(1)), pending: 5, deletes: 2, bytes: 0, oldest_ms: None };
        (id, Counters::new(&live, Some(&queue)))
    }

    #[test]
    fn any_answer_but_5xx_and_429_is_success_and_queued_is_what_waits_now() {
        let want = concat!(
            r#"{"h:80":{"success":{"get":1,"set":0,"delete":0},"failure":{"get":0,"set":1,"delete":1},"#,
            r#""queued":{"get":0,"set":3,"delete":2}}}"#
        );
        assert_eq!(json(&[counters()]).to_string(), want);
    }

    #[test]
    fn the_table_has_three_rows_of_three_cells() {
        let text = table(&[counters()]);
        let rows: Vec<Vec<&str>> = text.lines().map(|line| line.split_whitespace().collect()).collect();
        assert_eq!(
            rows[1..],
            [
                vec!["h:80"],
                vec!["GET", "SET", "DELETE"],
                vec!["SUCCESS", "1", "0", "0"],
                vec!["FAILURE", "0", "1", "1"],
                vec!["QUEUED", "0", "3", "2"]
            ]
        );
        assert_eq!(text.lines().nth(2).map(str::len), text.lines().nth(5).map(str::len));
        assert_eq!(table(&[]), "\n\n\n");
    }
}
