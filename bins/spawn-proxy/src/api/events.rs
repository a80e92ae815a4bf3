//! `GET /events`: what changes, as server-sent events.
//!
//! Nobody on the data path knows of it: each stream looks once a second at what the lists would show, and sends what
//! differs from the look before. A slow reader is waited for and then gets what is true by then.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use bytes::Bytes;
use common::node::NodeId;
use http::{HeaderValue, StatusCode, header};
use http_body::{Body, Frame};
use http_body_util::Full;
use serde::Serialize;
use serde_json::{Value, json};
use tokio::sync::{OwnedSemaphorePermit, mpsc};
use update_log::Filter;

use super::Api;
use super::envelope::{Content, Reply};
use super::fault::Fault;
use super::handle::queues;
use super::views::{DeadLetterView, DivergenceView, NodeView, UpdateView};
use crate::nodes::live::{ByKind, Live};
use crate::shared::Shared;

/// So many may follow the events at once.
pub const MAX_STREAMS: usize = 16;
/// Between two looks.
const LOOK: Duration = Duration::from_secs(1);
/// After so long without an event there is a comment, so that both ends know that the other is there.
const HEARTBEAT: Duration = Duration::from_secs(15);
/// Looks that wait for a slow reader.
const WAITING: usize = 2;
/// The newest updates are watched.
const UPDATES: usize = 100;

/// The body of an answer of the API.
#[derive(Debug)]
pub enum ApiBody {
    /// All of it.
    Whole(Full<Bytes>),
    /// Events as they come.
    Events(EventBody),
}

impl ApiBody {
    /// A whole body.
    pub fn of(bytes: Bytes) -> Self {
        Self::Whole(Full::new(bytes))
    }
}

/// Events as they come.
#[derive(Debug)]
pub struct EventBody(mpsc::Receiver<Bytes>);

impl Body for ApiBody {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        match self.get_mut() {
            Self::Whole(body) => Pin::new(body).poll_frame(context),
            Self::Events(events) => {
                events.0.poll_recv(context).map(|part| part.map(|part| Ok(Frame::data(part))))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Whole(body) => body.is_end_stream(),
            Self::Events(_) => false,
        }
    }

    fn size_hint(&self) -> http_body::SizeHint {
        match self {
            Self::Whole(body) => body.size_hint(),
            Self::Events(_) => http_body::SizeHint::default(),
        }
    }
}

/// Begins a stream.
///
/// # Errors
/// 503 when as many follow as may.
pub(super) fn begin(api: &Api) -> Result<Reply, Fault> {
    let permit = api.streams.clone().try_acquire_owned();
    let permit = permit.map_err(|_| Fault::too_many_streams(MAX_STREAMS))?;
    let (sender, events) = mpsc::channel(WAITING);
    tokio::spawn(follow(api.shared.clone(), sender, permit));
    let mut reply = Reply::new(StatusCode::OK, Content::Events(EventBody(events)));
    reply.headers.push((header::CACHE_CONTROL, HeaderValue::from_static("no-store")));
    Ok(reply)
}

async fn follow(shared: Arc<Shared>, sender: mpsc::Sender<Bytes>, _permit: OwnedSemaphorePermit) {
    let mut observer = Observer::default();
    let mut heard = Instant::now();
    loop {
        let mut text = observer.look(&shared).await;
        if text.is_empty() && heard.elapsed() >= HEARTBEAT {
            text.push_str(": still here\n\n");
        }
        if !text.is_empty() {
            heard = Instant::now();
            if sender.send(Bytes::from(text)).await.is_err() {
                return;
            }
        }
        tokio::select! {
            () = sender.closed() => return,
            () = tokio::time::sleep(LOOK) => {}
        }
    }
}

/// What one stream has seen.
#[derive(Default)]
struct Observer {
    begun: bool,
    nodes: HashMap<NodeId, Value>,
    queues: HashMap<String, Value>,
    updates: BTreeMap<u64, Value>,
    letters: HashSet<(String, u64)>,
    divergences: HashMap<u64, Value>,
    counts: HashMap<NodeId, [u64; 4]>,
    counted: Option<Instant>,
}

impl Observer {
    /// The events since the look before. The first look tells all nodes and queues; of the rest only what comes.
    async fn look(&mut self, shared: &Shared) -> String {
        let mut text = String::new();
        self.look_at_nodes(shared, &mut text);
        self.look_at_log(shared, &mut text).await;
        self.rates(shared, &mut text);
        self.begun = true;
        text
    }

    fn look_at_nodes(&mut self, shared: &Shared, text: &mut String) {
        let table = shared.nodes.table();
        let mut nodes: HashMap<NodeId, Value> = HashMap::new();
        for entry in table.entries() {
            let value = value(&NodeView::from(entry));
            if self.nodes.get(&entry.node.id) != Some(&value) {
                event(text, "node", &value);
            }
            nodes.insert(entry.node.id.clone(), value);
        }
        for (id, gone) in &mut self.nodes {
            if !nodes.contains_key(id) {
                gone["removed"] = true.into();
                event(text, "node", gone);
            }
        }
        self.nodes = nodes;
        let mut queues_now = HashMap::new();
        for queue in queues(shared) {
            let (node, value) = (queue.node().to_owned(), value(&queue));
            if self.queues.get(&node) != Some(&value) {
                event(text, "queue", &value);
            }
            queues_now.insert(node, value);
        }
        self.queues = queues_now;
    }

    /// What cannot be read now is looked at the next time.
    async fn look_at_log(&mut self, shared: &Shared, text: &mut String) {
        let filter = Filter { limit: UPDATES, ..Filter::default() };
        if let Ok(found) = shared.log.list(filter).await {
            let found = found.into_iter().map(|one| (one.sequence.0, value(&UpdateView::from(one))));
            let found: BTreeMap<u64, Value> = found.collect();
            for (sequence, value) in &found {
                if self.begun && self.updates.get(sequence) != Some(value) {
                    event(text, "update", value);
                }
            }
            self.updates = found;
        }
        if let Ok(found) = shared.log.dead_letters(None).await {
            let mut letters = HashSet::new();
            for letter in found {
                let key = (letter.node.to_string(), letter.sequence.0);
                if self.begun && !self.letters.contains(&key) {
                    event(text, "dead-letter", &value(&DeadLetterView::from(letter)));
                }
                letters.insert(key);
            }
            for (node, sequence) in self.letters.difference(&letters) {
                event(text, "dead-letter", &json!({ "node": node, "sequence": sequence, "removed": true }));
            }
            self.letters = letters;
        }
        if let Ok(found) = shared.log.divergences().await {
            let found = found.into_iter().map(|one| (one.sequence.0, value(&DivergenceView::from(one))));
            let found: HashMap<u64, Value> = found.collect();
            for (sequence, value) in &found {
                if self.begun && self.divergences.get(sequence) != Some(value) {
                    event(text, "divergence", value);
                }
            }
            self.divergences = found;
        }
    }

    /// Requests per second since the look before.
    fn rates(&mut self, shared: &Shared, text: &mut String) {
        let since = self.counted.replace(Instant::now()).map(|before| before.elapsed());
        let table = shared.nodes.table();
        let mut counts = HashMap::new();
        for entry in table.entries() {
            let id = &entry.node.id;
            let now = counted(&entry.live);
            let before = self.counts.get(id).copied();
            counts.insert(id.clone(), now);
            let (Some(before), Some(since)) = (before, since) else { continue };
            let per_second = |place: usize| per_second(now[place].saturating_sub(before[place]), since);
            let pending = shared.log.queue(id).map_or(0, |queue| queue.pending);
            let rates = json!({
                "node": id.as_str(),
                "gets": per_second(0),
                "sets": per_second(1),
                "deletes": per_second(2),
                "errors": per_second(3),
                "pending": pending,
            });
            event(text, "rates", &rates);
        }
        self.counts = counts;
    }
}

/// Reads, updates, DELETEs, and how many of them all failed. A node that becomes active anew begins at zero.
fn counted(live: &Live) -> [u64; 4] {
    let sum = |of: fn(&ByKind) -> u64| of(&live.success) + of(&live.failure);
    let failed =
        |kinds: &ByKind| kinds.get.load(Relaxed) + kinds.set.load(Relaxed) + kinds.delete.load(Relaxed);
    [
        sum(|kinds| kinds.get.load(Relaxed)),
        sum(|kinds| kinds.set.load(Relaxed)),
        sum(|kinds| kinds.delete.load(Relaxed)),
        failed(&live.failure),
    ]
}

fn per_second(count: u64, since: Duration) -> u64 {
    let millis = u64::try_from(since.as_millis()).unwrap_or(u64::MAX).max(1);
    (count.saturating_mul(1000) + millis / 2) / millis
}

fn value(of: &impl Serialize) -> Value {
    serde_json::to_value(of).unwrap_or_default()
}

/// JSON on one line has no line end inside: it is one `data` field.
fn event(text: &mut String, name: &str, data: &Value) {
    use std::fmt::Write;
    // Writing to a String cannot fail.
    let _ = write!(text, "event: {name}\ndata: {data}\n\n");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_is_a_name_and_a_line_of_json() {
        let mut text = String::new();
        event(&mut text, "node", &json!({ "a": "x\ny" }));
        assert_eq!(text, "event: node\ndata: {\"a\":\"x\\ny\"}\n\n");
    }

    #[test]
    fn rates_are_per_second_whatever_the_time_between_looks() {
        assert_eq!(per_second(10, Duration::from_secs(1)), 10);
        assert_eq!(per_second(10, Duration::from_millis(2_000)), 5);
        assert_eq!(per_second(3, Duration::from_millis(500)), 6);
        assert_eq!(per_second(0, Duration::ZERO), 0);
    }
}
