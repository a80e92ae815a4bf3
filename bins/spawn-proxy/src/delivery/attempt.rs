//! One attempt to deliver one update to one node, from sending it to recording what came of it.

use std::rc::Rc;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use common::node::NodeId;
use common::queue::Sequence;
use http::header::{self, HeaderValue};
use http::{Request, Response};
use http_body_util::BodyExt;
use tokio::sync::mpsc;
use update_log::{Answer, AnswerBody, DeliveryState, Failure, Progress, Settled, Update};

use super::answers;
use super::given_up::Few;
use super::schedule::Outcome;
use crate::nodes::live::{Kind, Live};
use crate::proxy::body::OutBody;
use crate::proxy::headers::{self, IDEMPOTENCY_KEY, SPAWN_ATTEMPT, SPAWN_NODE, SPAWN_SEQUENCE};
use crate::proxy::upstream::{ExchangeError, NodeBody};
use crate::proxy::worker::Worker;
use crate::shared::Shared;

/// Answers up to this are held; larger ones are relayed as they come.
const HELD_ANSWER: usize = 64 * 1024;
/// A node's wish to be left alone is granted up to this.
const LONGEST_WISH: Duration = Duration::from_secs(3600);
/// Between tries when the disk refuses.
const RECORD_AGAIN: Duration = Duration::from_secs(1);

/// Between tries when deliveries are another process's.
const NOT_OURS: Duration = Duration::from_millis(100);

/// An attempt to make.
pub(super) struct Attempt {
    /// The thread that makes it.
    pub worker: Rc<Worker>,
    /// The node.
    pub live: Arc<Live>,
    /// The update.
    pub update: Arc<Update>,
    /// The number of this attempt, from 1.
    pub number: u32,
    /// Failures that count so far.
    pub failures: u32,
    /// Dead letters of the node that this update overtakes when it is taken.
    pub overtakes: Few,
}

/// What came of it.
pub(super) struct Finished {
    /// Which update.
    pub sequence: Sequence,
    /// What it means for the schedule; whatever settles the update has been told to the log.
    pub outcome: Outcome,
    /// The status answered; 0 for none.
    pub status: u16,
    /// What went wrong; empty when nothing did.
    pub error: String,
    /// Dead letters that this update has overtaken.
    pub overtaken: Few,
}

/// Makes the attempt.
pub(super) async fn run(attempt: Attempt) -> Finished {
    let sequence = attempt.update.sequence;
    let finished =
        |outcome, status, error| Finished { sequence, outcome, status, error, overtaken: Few::new() };
    let log = &attempt.worker.shared.log;
    if !log.begin_attempt(&attempt.live.id, sequence).await {
        if log.is_claimed(&attempt.live.id) {
            return finished(Outcome::Answered, 0, String::new());
        }
        // Deliveries have become another process's: this update is not done with, and the order to stop is on its way.
        tokio::time::sleep(NOT_OURS).await;
        return finished(Outcome::Unsent, 0, String::new());
    }
    let kind = Kind::of_update(&attempt.update.method);
    match attempt.exchange().await {
        Ok((answer, _)) if answers::settles(answer.status) => {
            attempt.live.answered(kind, answer.status);
            attempt.overtake().await;
            attempt.settle(answer);
            Finished { overtaken: attempt.overtakes, ..finished(Outcome::Answered, 0, String::new()) }
        }
        Ok((answer, wish)) => {
            attempt.live.answered(kind, answer.status);
            attempt.refused(answer, wish).await
        }
        Err(error @ (ExchangeError::Connect { .. } | ExchangeError::TimedOut { connecting: true, .. })) => {
            attempt.live.unreachable();
            attempt.live.set_queue_error(Some(error.to_string()));
            log.end_attempt(&attempt.live.id, sequence);
            finished(Outcome::Unsent, 0, String::new())
        }
        // The stored update could not be made into a request: that is our fault, and counts nowhere.
        Err(error @ ExchangeError::Body(_)) => {
            tracing::error!(node = %attempt.live.id, %error, "trying again");
            attempt.live.set_queue_error(Some(error.to_string()));
            log.end_attempt(&attempt.live.id, sequence);
            tokio::time::sleep(RECORD_AGAIN).await;
            finished(Outcome::Unsent, 0, String::new())
        }
        Err(error) => {
            attempt.live.failed(kind);
            if matches!(error, ExchangeError::TimedOut { .. }) {
                attempt.live.unreachable();
            }
            attempt.failed(0, error.to_string(), None).await;
            finished(Outcome::Failed { retry_after: None }, 0, error.to_string())
        }
    }
}

impl Attempt {
    /// Sends the update and takes in the answer, with the node's wish to be left alone.
    async fn exchange(&self) -> Result<(Answer, Option<Duration>), ExchangeError> {
        let request = self.request().await?;
        let timeout = self.worker.shared.config.load().updates.timeout;
        let begun = tokio::time::Instant::now();
        let response = self.worker.pool.exchange(&self.live, request, timeout).await?;
        let wish = answers::retry_after(response.headers(), std::time::SystemTime::now())
            .map(|wait| wait.min(LONGEST_WISH));
        let answer =
            tokio::time::timeout_at(begun + timeout, self.receive(response)).await.unwrap_or_else(|_| {
                Err(ExchangeError::TimedOut { node: self.live.id.clone(), after: timeout, connecting: false })
            })?;
        Ok((answer, wish))
    }

    async fn request(&self) -> Result<Request<OutBody>, ExchangeError> {
        let update = &self.update;
        let unusable =
            |what: String| ExchangeError::Body(format!("update {} cannot be sent: {what}", update.sequence));
        let body = OutBody::of_update(&update.body).await.map_err(|error| unusable(error.to_string()))?;
        let mut request = Request::new(body);
        *request.method_mut() = update.method.clone();
        *request.uri_mut() =
            update.target.parse().map_err(|error| unusable(format!("{}: {error}", update.target)))?;
        let map = request.headers_mut();
        *map = update.headers.clone();
        map.insert(
            IDEMPOTENCY_KEY,
            HeaderValue::from_str(&update.id).map_err(|error| unusable(error.to_string()))?,
        );
        map.insert(SPAWN_SEQUENCE, HeaderValue::from(update.sequence.0));
        map.insert(SPAWN_ATTEMPT, HeaderValue::from(self.number));
        if update.body.is_empty() && update.method != http::Method::DELETE {
            // Where a body would have a meaning, its absence is told (RFC 9110, 8.6).
            map.insert(header::CONTENT_LENGTH, HeaderValue::from_static("0"));
        }
        if self.worker.shared.config.load().host_of_node || !map.contains_key(header::HOST) {
            map.insert(header::HOST, self.live.header.clone());
        }
        Ok(request)
    }

    /// Durable before it is recorded that this update was taken: a dead letter must not come after it unasked.
    async fn overtake(&self) {
        let log = &self.worker.shared.log;
        while !self.overtakes.is_empty() {
            let Err(error) =
                log.overtake_dead_letters(&self.live.id, &self.overtakes, self.update.sequence).await
            else {
                return;
            };
            tracing::error!(node = %self.live.id, %error, "cannot record that dead letters are overtaken; trying again");
            if matches!(error, update_log::LogError::Closed | update_log::LogError::Node(_)) {
                return;
            }
            tokio::time::sleep(RECORD_AGAIN).await;
        }
    }

    fn settle(&self, answer: Answer) {
        let Shared { nodes, config, log, metrics, .. } = &*self.worker.shared;
        let level = answers::may_speak(&nodes.table(), &self.live.id, config.load().max_lag);
        let digest = if self.number == 1 { answers::digest(&answer) } else { 0 };
        if self.number > 1 && answer.status.is_client_error() {
            metrics.maybe_duplicates.inc();
        }
        let settled = Settled::Delivered { attempt: self.number, answer: Arc::new(answer), digest, level };
        log.settle(&self.live.id, &self.update, settled);
    }

    /// The node answered 5xx or 429.
    async fn refused(self, answer: Answer, wish: Option<Duration>) -> Finished {
        let status = answer.status;
        let error = format!("{} answered {status}", self.live.id);
        let answer = Arc::new(answer);
        self.failed(status.as_u16(), error.clone(), Some(answer.clone())).await;
        let mut outcome = Outcome::Failed { retry_after: wish };
        if self.all_refuse().await && self.worker.shared.log.reject(self.update.sequence, answer).await {
            self.worker.shared.metrics.rejected.inc();
            outcome = Outcome::Answered;
        }
        let (sequence, status) = (self.update.sequence, status.as_u16());
        Finished { sequence, outcome, status, error, overtaken: Few::new() }
    }

    /// Makes the failure durable: the number of this attempt must not be used again.
    async fn failed(&self, status: u16, error: String, answer: Option<Arc<Answer>>) {
        self.live.set_queue_error(Some(error.clone()));
        let failure = Failure { attempt: self.number, failures: self.failures, status, error, answer };
        while let Err(error) =
            self.worker.shared.log.failed(&self.live.id, self.update.sequence, failure.clone()).await
        {
            tracing::error!(node = %self.live.id, %error, "cannot record a failed delivery; trying again");
            if matches!(error, update_log::LogError::Closed | update_log::LogError::Node(_)) {
                return;
            }
            tokio::time::sleep(RECORD_AGAIN).await;
        }
    }

    async fn all_refuse(&self) -> bool {
        if !self.worker.shared.config.load().updates.unanimous_answer {
            return false;
        }
        let Ok(Some(status)) = self.worker.shared.log.status(self.update.sequence).await else {
            return false;
        };
        let table = self.worker.shared.nodes.table();
        let rests =
            |node: &NodeId| table.get(node).is_none_or(|entry| !entry.node.active || entry.node.maintenance);
        let stand: Vec<(bool, Progress)> =
            status.nodes.iter().map(|(node, progress, _)| (rests(node), *progress)).collect();
        unanimous(&stand)
    }

    /// Takes in an answer. What is too large to hold goes on to the client as it comes.
    async fn receive(&self, response: Response<NodeBody>) -> Result<Answer, ExchangeError> {
        let (mut parts, mut body) = response.into_parts();
        headers::prepare_answer(&mut parts.headers);
        parts.headers.insert(SPAWN_NODE, self.live.header.clone());
        let mut held = BytesMut::new();
        let mut whole = None;
        while let Some(frame) = body.frame().await {
            match frame.map(http_body::Frame::into_data) {
                Ok(Ok(chunk)) if held.is_empty() && http_body::Body::is_end_stream(&body) => {
                    whole = Some(chunk)
                }
                Ok(Ok(chunk)) => held.extend_from_slice(&chunk),
                Ok(Err(_trailers)) => {}
                Err(error) => {
                    let (node, reason) = (self.live.id.clone(), error.to_string());
                    return Err(ExchangeError::Broken { node, reason, reused: false });
                }
            }
            if held.len() > HELD_ANSWER {
                return Ok(Answer {
                    status: parts.status,
                    headers: parts.headers,
                    body: relay(held.freeze(), body),
                });
            }
        }
        let bytes = whole.unwrap_or_else(|| held.freeze());
        parts.headers.remove(header::CONTENT_LENGTH);
        Ok(Answer { status: parts.status, headers: parts.headers, body: AnswerBody::Whole(bytes) })
    }
}

/// Whether every node that could answer the first attempt did so with a 5xx, and none has taken the update.
fn unanimous(nodes: &[(bool, Progress)]) -> bool {
    let refused = |progress: &Progress| {
        progress.state == DeliveryState::Pending && (500..600).contains(&progress.first_status)
    };
    let taken = |progress: &Progress| progress.state == DeliveryState::Delivered;
    let mut asked = nodes.iter().filter(|(rests, _)| !rests).peekable();
    asked.peek().is_some()
        && asked.all(|(_, progress)| refused(progress))
        && !nodes.iter().any(|(_, p)| taken(p))
}

/// Reads on in the background so that neither a slow client nor a long answer holds up the queue.
fn relay(begun: Bytes, mut body: NodeBody) -> AnswerBody {
    let (sender, receiver) = mpsc::channel(16);
    tokio::task::spawn_local(async move {
        let mut wanted = sender.send(Ok(begun)).await.is_ok();
        while let Some(frame) = body.frame().await {
            let chunk = match frame.map(http_body::Frame::into_data) {
                Ok(Ok(chunk)) => Ok(chunk),
                Ok(Err(_trailers)) => continue,
                Err(error) => Err(std::io::Error::other(error)),
            };
            wanted = wanted && sender.send(chunk).await.is_ok();
            if !wanted {
                // Nobody listens: the connection goes, the update was taken all the same.
                return;
            }
        }
    });
    AnswerBody::Streamed(Mutex::new(Some(receiver)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn progress(state: DeliveryState, first_status: u16) -> Progress {
        Progress { state, first_status, ..Progress::default() }
    }

    #[test]
    fn only_a_refusal_by_every_node_that_could_answer_is_unanimous() {
        use DeliveryState::{Delivered, Pending};
        let refused = (false, progress(Pending, 500));
        let unasked = (false, progress(Pending, 0));
        let resting = (true, progress(Pending, 0));
        assert!(unanimous(&[refused, (false, progress(Pending, 503))]));
        assert!(unanimous(&[refused, resting]));
        assert!(!unanimous(&[refused, unasked]));
        assert!(!unanimous(&[refused, (false, progress(Delivered, 200))]));
        assert!(!unanimous(&[refused, (true, progress(Delivered, 200))]));
        assert!(!unanimous(&[refused, (false, progress(Pending, 429))]));
        assert!(!unanimous(&[resting]));
        assert!(!unanimous(&[]));
    }
}
