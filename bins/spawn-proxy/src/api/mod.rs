//! The management API: nodes are read and changed, queues and updates are looked at.
//!
//! A request goes through these steps, all but the last two pure: [`call`] tells what is asked for, [`guard`] whether
//! it may be, [`patch`] reads what is to change, [`plan`] works the change out, the nodes
//! apply it, and [`envelope`] writes the answer.

mod call;
mod collector;
mod counters;
mod envelope;
mod events;
mod fault;
mod guard;
mod handle;
mod help;
mod info;
mod letters;
mod patch;
mod plan;
mod query;
mod routes;
mod views;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use daemon::http::{BodyLimits, Buffer, Guard, read_body};
use http::{Request, Response, Uri};
use hyper::body::Incoming;
use tokio::sync::Semaphore;

use crate::config::Config;
use crate::shared::Shared;
use call::Call;
use envelope::{Reply, Style};
use fault::Fault;
use query::Query;

pub use collector::collector;
pub use events::{ApiBody, MAX_STREAMS};

/// What the body of a request may be like.
const BODY: BodyLimits = BodyLimits { max_bytes: 1024 * 1024, patience: Duration::from_secs(10) };
/// Memory for the bodies of all requests.
const MAX_BUFFER: u64 = 64 * 1024 * 1024;

/// What the API works on.
pub struct Api {
    /// What all threads share.
    pub shared: Arc<Shared>,
    /// Who may do what.
    pub config: ApiConfig,
    /// Memory for bodies.
    pub buffer: Buffer,
    /// The right to follow events.
    pub streams: Arc<Semaphore>,
}

/// Who may do what, and what is said of this host.
pub struct ApiConfig {
    /// Who may change things.
    pub guard: Guard,
    /// What this host is called.
    pub host_name: String,
}

impl ApiConfig {
    /// As configured.
    pub fn new(config: &Config) -> Self {
        Self {
            guard: config.api_guard(),
            host_name: rustix::system::uname().nodename().to_string_lossy().into_owned(),
        }
    }
}

/// Whether this module answers a request for `/metrics`: it knows the formats that a query names.
pub fn is_own_metrics(uri: &Uri) -> bool {
    uri.path() == "/metrics" && Query::of(uri).get("format").is_some()
}

/// Answers one request that came from `peer` to `local`.
pub async fn answer(
    api: &Api,
    request: Request<Incoming>,
    peer: SocketAddr,
    local: SocketAddr,
) -> Response<ApiBody> {
    let begun = Instant::now();
    let (head, body) = request.into_parts();
    let style = Style::of(&head.method, &head.uri, &head.headers);
    let call = Call::parse(&head.method, &head.uri);
    let (route, changes) = match &call {
        Ok(Call::Options(route)) => (Some(*route), false),
        Ok(call) => (None, call.changes()),
        Err(_) => (None, false),
    };
    let discard = Query::of(&head.uri).on("discard");
    let reply = async {
        let call = call?;
        guard::check(&api.config, &call, &head.headers, local)?;
        let body = match call.takes_body() {
            true => read_body(body, BODY, &mut api.buffer.reserve(), MAX_BUFFER).await?,
            false => Bytes::new(),
        };
        handle::handle(api, call, &body, discard).await
    };
    let reply = reply.await.unwrap_or_else(|fault: Fault| {
        if fault.status().is_server_error() {
            tracing::error!(%peer, method = %head.method, path = head.uri.path(), reason = %fault.data(), "an API request failed");
        }
        Reply::from(fault)
    });
    let status = reply.status.as_u16();
    if changes {
        tracing::info!(%peer, method = %head.method, path = head.uri.path(), status, "change asked for");
    } else {
        tracing::debug!(%peer, method = %head.method, path = head.uri.path(), status, "API request");
    }
    let mut response = envelope::render(reply, style, begun.elapsed());
    guard::add_cors(&api.config, &head.headers, route, &mut response);
    response
}
