//! What happens to a request: told apart, made fit to travel, and sent its way.

use std::rc::Rc;

use http::uri::Authority;
use http::{HeaderMap, Method, Request, Response, StatusCode, header};
use hyper::body::Incoming;

use super::body::ClientBody;
use super::headers::{self, Origin};
use super::reply::Refusal;
use super::worker::Worker;
use super::{reads, tunnel, updates};
use crate::config::Class;

/// Answers one request.
pub async fn answer(worker: Rc<Worker>, origin: Rc<Origin>, request: Request<Incoming>) -> Response<ClientBody> {
    match dispatch(&worker, &origin, request).await {
        Ok(response) => response,
        Err(refusal) => {
            worker.shared.metrics.refused.inc();
            tracing::debug!(status = refusal.status.as_u16(), message = refusal.message, info = refusal.info, "refused");
            refusal.into_response()
        }
    }
}

async fn dispatch(worker: &Rc<Worker>, origin: &Origin, mut request: Request<Incoming>) -> Result<Response<ClientBody>, Refusal> {
    if request.method() == Method::CONNECT {
        let info = "This proxy stands before services; it opens no tunnels to elsewhere";
        return Err(Refusal::new(StatusCode::NOT_IMPLEMENTED, "CONNECT is not served", info).closing());
    }
    settle_host(&mut request)?;
    let Some(class) = worker.shared.config.load().rules.classify(request.method(), request.uri().path()) else {
        let message = format!("The method {} is neither a read nor an update", request.method());
        let info = "Add it to reads.methods or to updates.methods in the configuration";
        return Err(Refusal::new(StatusCode::NOT_IMPLEMENTED, message, info).closing());
    };
    if class == Class::Read && wants_upgrade(request.headers()) {
        return tunnel::serve(worker, origin, request).await;
    }
    let version = request.version();
    headers::prepare_request(request.headers_mut(), origin, version);
    match class {
        Class::Read => reads::serve(worker, request).await,
        Class::Update => updates::serve(worker, request).await,
    }
}

/// One Host, wherever it came from: an absolute-form target names it, else the header does
/// (RFC 9112, 3.2). The target keeps its bytes, in origin form.
fn settle_host(request: &mut Request<Incoming>) -> Result<(), Refusal> {
    let bad = |what: &str| Refusal::new(StatusCode::BAD_REQUEST, "The request names no single host", what).closing();
    if request.headers().get_all(header::HOST).iter().count() > 1 {
        return Err(bad("Host was sent more than once"));
    }
    if let Some(authority) = request.uri().authority().map(Authority::to_owned) {
        let host = authority.as_str().rsplit('@').next().unwrap_or_default();
        let value = header::HeaderValue::from_str(host).map_err(|_| bad("The target's host cannot be used"))?;
        request.headers_mut().insert(header::HOST, value);
        let target = request.uri().path_and_query().map_or("/", |target| target.as_str());
        *request.uri_mut() = target.parse().map_err(|_| bad("The target cannot be used"))?;
    } else if request.version() == http::Version::HTTP_11 && !request.headers().contains_key(header::HOST) {
        return Err(bad("HTTP/1.1 asks for a Host header"));
    }
    Ok(())
}

fn wants_upgrade(headers: &HeaderMap) -> bool {
    headers.contains_key(header::UPGRADE)
        && headers
            .get_all(header::CONNECTION)
            .iter()
            .filter_map(|value| value.to_str().ok())
            .any(|value| value.split(',').any(|token| token.trim().eq_ignore_ascii_case("upgrade")))
}
