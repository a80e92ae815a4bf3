//! Reads: one node answers, and another one where the first could not be reached.

use std::rc::Rc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use common::queue::Sequence;
use daemon::http::{Intake, Reserved};
use http::header::{self, HeaderValue};
use http::{HeaderMap, Method, Request, Response, StatusCode, Uri};
use http_body::Body;
use hyper::body::Incoming;

use super::body::{ClientBody, OutBody};
use super::headers::{self, SPAWN_LAG, SPAWN_NODE};
use super::least;
use super::passage::{Passage, Streamed};
use super::reply::Refusal;
use super::upstream::{ExchangeError, NodeBody};
use super::worker::Worker;
use crate::config::LiveConfig;
use crate::nodes::live::{Kind, Live};
use crate::nodes::table::Entry;
use crate::route;

/// A body up to this is held so that it can be sent to a second node.
const REPLAYABLE: u64 = 64 * 1024;

/// Serves a read, from a node that has applied the update `least` where one is named.
///
/// # Errors
/// When no node answered; with the status that says why.
pub async fn serve(
    worker: &Worker,
    request: Request<Incoming>,
    least: Option<Sequence>,
) -> Result<Response<ClientBody>, Refusal> {
    let config = worker.shared.config.load();
    let (parts, body) = request.into_parts();
    let mut outgoing =
        Outgoing { method: parts.method, uri: parts.uri, headers: parts.headers, body: Payload::Held(None) };
    let mut reserved = worker.shared.buffer.reserve();
    outgoing.body = Payload::of(body, &config, &mut reserved).await?;
    let passage = outgoing.frame();
    if let Some(least) = least {
        Box::pin(least::wait(worker, &config, least)).await?;
    }
    let shared = &worker.shared;
    let table = shared.nodes.table();
    let fits = |entry: &Entry| least.is_none_or(|least| least::has_applied(shared, entry, least));
    let choices = route::candidates(&table, config.mode, &shared.ring, config.max_lag, fits);
    let mut choices = choices.into_iter().peekable();
    let mut last: Option<Refusal> = None;
    while let Some(choice) = choices.next() {
        let live = &choice.entry.live;
        let request = outgoing.request_to(live, config.host_of_node, choices.peek().is_some());
        let answer = match &passage {
            None => worker.pool.exchange(live, request, config.timeout).await,
            Some(passage) => Box::pin(pass_on(worker, live, request, passage, config.timeout)).await?,
        };
        match answer {
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
        Refusal::unavailable(
            "No node can serve this read",
            "Every node is inactive, in maintenance or failing its health check",
        )
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
            (
                Refusal::new(StatusCode::BAD_GATEWAY, "The node broke the connection", info),
                replayable && idempotent,
            )
        }
        ExchangeError::TimedOut { connecting, .. } => {
            live.failed(Kind::Get);
            live.unreachable();
            (
                Refusal::new(StatusCode::GATEWAY_TIMEOUT, "The node did not answer in time", info),
                connecting && replayable,
            )
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
        answer
            .headers_mut()
            .insert(SPAWN_LAG, HeaderValue::from(u64::try_from(lag.as_millis()).unwrap_or(u64::MAX)));
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
        if host_of_node || !request.headers().contains_key(header::HOST) {
            request.headers_mut().insert(header::HOST, live.header.clone());
        }
        request
    }

    /// Says how the body is framed where that is not the client's own length; what is known of a
    /// body that comes as it comes.
    fn frame(&mut self) -> Option<Rc<Passage>> {
        let Payload::Stream(body, passage) = &self.body else { return None };
        if body.size_hint().exact().is_none() {
            // Without being told so, a body of unknown length would be left out of a GET.
            self.headers.insert(header::TRANSFER_ENCODING, HeaderValue::from_static("chunked"));
        }
        Some(passage.clone())
    }

    fn can_go_again(&self) -> bool {
        matches!(self.body, Payload::Held(_))
    }
}

/// The body of a read.
enum Payload {
    /// All of it, or none: can be sent again.
    Held(Option<Bytes>),
    /// Comes as it comes, once.
    Stream(Box<Streamed>, Rc<Passage>),
    Gone,
}

impl Payload {
    async fn of(body: Incoming, config: &LiveConfig, reserved: &mut Reserved) -> Result<Self, Refusal> {
        if body.is_end_stream() {
            return Ok(Self::Held(None));
        }
        let mut intake = Intake::new(body, config.body_limits())?;
        let mut held = BytesMut::new();
        while intake.declared().is_none_or(|length| length <= REPLAYABLE) && held.len() as u64 <= REPLAYABLE {
            let Some(part) = intake.next().await? else { return Ok(Self::Held(Some(held.freeze()))) };
            reserved.grow(part.len() as u64, config.max_buffer)?;
            held.extend_from_slice(&part);
        }
        let (body, passage) = Streamed::new(held.freeze(), intake);
        Ok(Self::Stream(Box::new(body), passage))
    }

    fn take(&mut self, again: bool) -> OutBody {
        if let (Self::Held(bytes), true) = (&*self, again) {
            return OutBody::Whole(bytes.clone());
        }
        match std::mem::replace(self, Self::Gone) {
            Self::Held(bytes) => OutBody::Whole(bytes),
            Self::Stream(body, _) => OutBody::Limited(body),
            Self::Gone => OutBody::empty(),
        }
    }
}

/// Sends a read with a body that comes as it comes. The wait for the node begins anew with each
/// part: what the client takes its time for is not the node's fault.
async fn pass_on(
    worker: &Worker,
    live: &Live,
    request: Request<OutBody>,
    passage: &Passage,
    timeout: Duration,
) -> Result<Result<Response<NodeBody>, ExchangeError>, Refusal> {
    let answer = tokio::select! {
        answer = worker.pool.exchange(live, request, Duration::MAX) => answer,
        () = passage.stalled(timeout) => {
            Err(ExchangeError::TimedOut { node: live.id.clone(), after: timeout, connecting: false })
        }
    };
    match passage.fault() {
        Some(fault) => Err(fault.into()),
        None => Ok(answer),
    }
}
