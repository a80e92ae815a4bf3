//! Reads: one node answers, and another one where the first could not be reached.

use std::time::Duration;

use http::header::{self, HeaderValue};
use http::{HeaderMap, Method, Request, Response, StatusCode, Uri};
use hyper::body::Incoming;

use super::body::{ClientBody, OutBody};
use super::headers::{self, SPAWN_LAG, SPAWN_NODE};
use super::reply::Refusal;
use super::upstream::{ExchangeError, NodeBody};
use super::worker::Worker;
use crate::nodes::live::{Kind, Live};
use crate::route;

/// A body up to this is held so that it can be sent to a second node.
const REPLAYABLE: u64 = 64 * 1024;

/// Serves a read.
///
/// # Errors
/// When no node answered; with the status that says why.
pub async fn serve(worker: &Worker, request: Request<Incoming>) -> Result<Response<ClientBody>, Refusal> {
    let config = worker.shared.config.load();
    let table = worker.shared.nodes.table();
    let mut choices = route::candidates(&table, config.mode, &worker.shared.ring, config.max_lag).into_iter().peekable();
    let (parts, body) = request.into_parts();
    let mut outgoing = Outgoing { method: parts.method, uri: parts.uri, headers: parts.headers, body: Payload::of(body).await? };
    let mut last: Option<Refusal> = None;
    while let Some(choice) = choices.next() {
        let live = &choice.entry.live;
        let request = outgoing.request_to(live, config.host_of_node, choices.peek().is_some());
        match worker.pool.exchange(live, request, config.timeout).await {
            Ok(answer) => {
                live.answered(Kind::Get, answer.status());
                return Ok(to_client(answer, live, choice.lag));
            }
            Err(error) => {
                let (refusal, another) = judge(live, error, &outgoing);
                last = Some(refusal);
                if !another {
                    break;
                }
            }
        }
    }
    Err(last.unwrap_or_else(|| {
        Refusal::unavailable("No node can serve this read", "Every node is inactive, in maintenance or failing its health check")
    }))
}

/// What a failed exchange means: the answer if it was the last word, and whether to try another node.
fn judge(live: &Live, error: ExchangeError, outgoing: &Outgoing) -> (Refusal, bool) {
    let info = error.to_string();
    let replayable = outgoing.can_go_again();
    match error {
        ExchangeError::Connect { .. } => {
            live.failed(Kind::Get);
            live.unreachable();
            (Refusal::new(StatusCode::BAD_GATEWAY, "The node could not be reached", info), replayable)
        }
        ExchangeError::Broken { .. } => {
            live.failed(Kind::Get);
            let idempotent = outgoing.method.is_idempotent() || outgoing.method.as_str() == "PURGE";
            (Refusal::new(StatusCode::BAD_GATEWAY, "The node broke the connection", info), replayable && idempotent)
        }
        ExchangeError::TimedOut { connecting, .. } => {
            live.failed(Kind::Get);
            live.unreachable();
            (Refusal::new(StatusCode::GATEWAY_TIMEOUT, "The node did not answer in time", info), connecting && replayable)
        }
        ExchangeError::Body(_) => {
            (Refusal::new(StatusCode::BAD_REQUEST, "The request's body ended early", info).closing(), false)
        }
    }
}

fn to_client(answer: Response<NodeBody>, live: &Live, lag: Option<Duration>) -> Response<ClientBody> {
    let mut answer = answer.map(ClientBody::Node);
    // Whatever the node speaks, the client is spoken to in its own version.
    *answer.version_mut() = http::Version::HTTP_11;
    headers::prepare_answer(answer.headers_mut());
    answer.headers_mut().insert(SPAWN_NODE, live.header.clone());
    if let Some(lag) = lag {
        answer.headers_mut().insert(SPAWN_LAG, HeaderValue::from(u64::try_from(lag.as_millis()).unwrap_or(u64::MAX)));
    }
    answer
}

/// A read on its way, sent once or more.
struct Outgoing {
    method: Method,
    uri: Uri,
    headers: HeaderMap,
    body: Payload,
}

impl Outgoing {
    /// The request for one node; `more` when it may have to be sent again.
    fn request_to(&mut self, live: &Live, host_of_node: bool, more: bool) -> Request<OutBody> {
        let again = more && self.can_go_again();
        let body = self.body.take(again);
        let (uri, map) = if again {
            (self.uri.clone(), self.headers.clone())
        } else {
            (std::mem::take(&mut self.uri), std::mem::take(&mut self.headers))
        };
        let mut request = Request::new(body);
        *request.method_mut() = self.method.clone();
        *request.uri_mut() = uri;
        *request.headers_mut() = map;
        if host_of_node {
            request.headers_mut().insert(header::HOST, live.header.clone());
        }
        request
    }

    fn can_go_again(&self) -> bool {
        matches!(self.body, Payload::Held(_))
    }
}

/// The body of a read.
enum Payload {
    /// All of it, or none: can be sent again.
    Held(Option<bytes::Bytes>),
    /// Comes as it comes, once.
    Stream(Incoming),
    Gone,
}

impl Payload {
    async fn of(body: Incoming) -> Result<Self, Refusal> {
        use http_body::Body;
        use http_body_util::BodyExt;
        if body.is_end_stream() {
            return Ok(Self::Held(None));
        }
        if body.size_hint().exact().is_none_or(|length| length > REPLAYABLE) {
            return Ok(Self::Stream(body));
        }
        let collected = body.collect().await.map_err(|error| {
            Refusal::new(StatusCode::BAD_REQUEST, "The request's body ended early", error.to_string()).closing()
        })?;
        Ok(Self::Held(Some(collected.to_bytes())))
    }

    fn take(&mut self, again: bool) -> OutBody {
        if let (Self::Held(bytes), true) = (&*self, again) {
            return OutBody::Whole(bytes.clone());
        }
        match std::mem::replace(self, Self::Gone) {
            Self::Held(bytes) => OutBody::Whole(bytes),
            Self::Stream(body) => OutBody::Client(body),
            Self::Gone => OutBody::empty(),
        }
    }
}
