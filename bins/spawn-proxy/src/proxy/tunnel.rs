//! Upgrades (WebSocket and alike): a connection of its own, joined to the client's.

use std::rc::Rc;

use common::queue::Sequence;
use http::header::{self, HeaderValue};
use http::{Request, Response, StatusCode};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;

use super::body::{ClientBody, OutBody};
use super::headers::{self, Origin, SPAWN_NODE};
use super::least;
use super::reply::Refusal;
use super::upstream;
use super::worker::Worker;
use crate::nodes::live::{Kind, Live};
use crate::nodes::table::Entry;
use crate::route;

/// Sends a request for an upgrade to a node; when that switches, the two connections are joined
/// for as long as both ends keep them.
///
/// # Errors
/// When no node could be reached or the one reached broke.
pub async fn serve(
    worker: &Rc<Worker>,
    origin: &Origin,
    mut request: Request<Incoming>,
    least: Option<Sequence>,
) -> Result<Response<ClientBody>, Refusal> {
    let config = worker.shared.config.load_full();
    let protocol = request.headers().get(header::UPGRADE).cloned();
    let client = hyper::upgrade::on(&mut request);
    let version = request.version();
    headers::prepare_request(request.headers_mut(), origin, version);
    request.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
    if let Some(protocol) = protocol {
        request.headers_mut().insert(header::UPGRADE, protocol);
    }
    if let Some(least) = least {
        least::wait(worker, &config, least).await?;
    }
    let table = worker.shared.nodes.table();
    let (live, mut sender) = connect(worker, &table, config.timeout, least).await?;
    if config.host_of_node {
        request.headers_mut().insert(header::HOST, live.header.clone());
    }
    let answer = tokio::time::timeout(config.timeout, sender.send_request(request.map(OutBody::Client)))
        .await
        .map_err(|_| {
            Refusal::new(StatusCode::GATEWAY_TIMEOUT, "The node did not answer in time", live.id.as_str())
        })?
        .map_err(|error| {
            live.failed(Kind::Get);
            Refusal::new(
                StatusCode::BAD_GATEWAY,
                "The node broke the connection",
                format!("{}: {error}", live.id),
            )
        })?;
    live.answered(Kind::Get, answer.status());
    Ok(join(client, answer, live))
}

async fn connect<'a>(
    worker: &Worker,
    table: &'a crate::nodes::table::Table,
    timeout: std::time::Duration,
    least: Option<Sequence>,
) -> Result<(&'a Live, http1::SendRequest<OutBody>), Refusal> {
    let config = worker.shared.config.load();
    let mut last = String::from("Every node is inactive, in maintenance or failing its health check");
    let fits = |entry: &Entry| least.is_none_or(|least| least::has_applied(&worker.shared, entry, least));
    for choice in route::candidates(table, config.mode, &worker.shared.ring, config.max_lag, fits) {
        let live = &choice.entry.live;
        let reached = tokio::time::timeout(timeout, upstream::connect_to(&live.id)).await;
        match reached.unwrap_or_else(|_| Err(std::io::ErrorKind::TimedOut.into())) {
            Ok(stream) => {
                let (sender, driver) = http1::handshake(TokioIo::new(stream)).await.map_err(|error| {
                    Refusal::new(StatusCode::BAD_GATEWAY, "The node broke the connection", error.to_string())
                })?;
                tokio::task::spawn_local(driver.with_upgrades());
                return Ok((live, sender));
            }
            Err(error) => {
                if !upstream::is_out_of_files(&error) {
                    live.failed(Kind::Get);
                    live.unreachable();
                }
                last = format!("cannot connect to {}: {error}", live.id);
            }
        }
    }
    Err(Refusal::unavailable("No node can serve this request", last))
}

fn join(
    client: hyper::upgrade::OnUpgrade,
    mut answer: Response<Incoming>,
    live: &Live,
) -> Response<ClientBody> {
    let switching = answer.status() == StatusCode::SWITCHING_PROTOCOLS;
    let protocol = answer.headers().get(header::UPGRADE).cloned();
    let node = switching.then(|| hyper::upgrade::on(&mut answer));
    let mut answer = answer.map(ClientBody::Incoming);
    headers::prepare_answer(answer.headers_mut());
    answer.headers_mut().insert(SPAWN_NODE, live.header.clone());
    let Some(node) = node else { return answer };
    answer.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
    if let Some(protocol) = protocol {
        answer.headers_mut().insert(header::UPGRADE, protocol);
    }
    tokio::task::spawn_local(async move {
        if let (Ok(client), Ok(node)) = tokio::join!(client, node) {
            // Either end may break it off at any time; there is nobody to tell.
            let _ = tokio::io::copy_bidirectional(&mut TokioIo::new(client), &mut TokioIo::new(node)).await;
        }
    });
    answer
}
