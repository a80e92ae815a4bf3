//! What happens to a request: told apart, made fit to travel, and sent its way.

use std::future::Future;
use std::rc::Rc;

use futures_util::future::Either;
use http::uri::Authority;
use http::{HeaderMap, Method, Request, Response, StatusCode, header};
use hyper::body::Incoming;

use super::body::ClientBody;
use super::headers::{self, Origin};
use super::outlast::Outlasting;
use super::reply::Refusal;
use super::worker::Worker;
use super::{least, reads, tunnel, updates};
use crate::config::Class;

/// Answers one request. An update is taken whether its client waits for the answer or not: also
/// that of one who had gone before anything was done about the request.
pub fn answer(
    worker: Rc<Worker>,
    origin: Rc<Origin>,
    request: Request<Incoming>,
) -> impl Future<Output = Response<ClientBody>> + 'static {
    let class = worker.shared.config.load().rules.classify(request.method(), request.uri().path());
    match class {
        Some(Class::Update) => {
            let taking = Outlasting::new(take(worker.clone(), origin, request));
            Either::Left(async move {
                let answered = match taking.await {
                    Ok(taken) => Ok(updates::answer(&worker, taken).await),
                    Err(refusal) => Err(refusal),
                };
                respond(&worker, answered)
            })
        }
        other => Either::Right(async move {
            let answered = read(&worker, &origin, request, other).await;
            respond(&worker, answered)
        }),
    }
}

fn respond(worker: &Worker, answered: Result<Response<ClientBody>, Refusal>) -> Response<ClientBody> {
    answered.unwrap_or_else(|refusal| {
        worker.shared.metrics.refused.inc();
        tracing::debug!(
            status = refusal.status.as_u16(),
            message = refusal.message,
            info = refusal.info,
            "refused"
        );
        refusal.into_response()
    })
}

async fn take(
    worker: Rc<Worker>,
    origin: Rc<Origin>,
    mut request: Request<Incoming>,
) -> Result<updates::Taken, Refusal> {
    settle(&mut request)?;
    let version = request.version();
    headers::prepare_request(request.headers_mut(), &origin, version);
    updates::take(&worker, request).await
}

async fn read(
    worker: &Rc<Worker>,
    origin: &Origin,
    mut request: Request<Incoming>,
    class: Option<Class>,
) -> Result<Response<ClientBody>, Refusal> {
    settle(&mut request)?;
    if class.is_none() {
        let message = format!("The method {} is neither a read nor an update", request.method());
        let info = "Add it to reads.methods or to updates.methods in the configuration";
        return Err(Refusal::new(StatusCode::NOT_IMPLEMENTED, message, info).closing());
    }
    let least = least::asked(request.headers_mut())?;
    if wants_upgrade(request.headers()) {
        return Box::pin(tunnel::serve(worker, origin, request, least)).await;
    }
    let version = request.version();
    headers::prepare_request(request.headers_mut(), origin, version);
    reads::serve(worker, request, least).await
}

/// What every request has to be before anything is done about it.
fn settle(request: &mut Request<Incoming>) -> Result<(), Refusal> {
    if request.method() == Method::CONNECT {
        let info = "This proxy stands before services; it opens no tunnels to elsewhere";
        return Err(Refusal::new(StatusCode::NOT_IMPLEMENTED, "CONNECT is not served", info).closing());
    }
    settle_host(request)?;
    only_chunked(request.headers())
}

/// One Host, wherever it came from: an absolute-form target names it, else the header does
/// (RFC 9112, 3.2). The target keeps its bytes, in origin form.
fn settle_host(request: &mut Request<Incoming>) -> Result<(), Refusal> {
    let bad = |what: &str| {
        Refusal::new(StatusCode::BAD_REQUEST, "The request names no single host", what).closing()
    };
    let mut hosts = request.headers().get_all(header::HOST).iter();
    let (host, another) = (hosts.next(), hosts.next());
    if another.is_some() {
        return Err(bad("Host was sent more than once"));
    }
    if host.is_some_and(|host| !is_host(host.as_bytes())) {
        return Err(bad("Host is not a name or an address with or without a port"));
    }
    let uri = request.uri();
    if let Some(authority) = uri.authority().map(Authority::to_owned) {
        if uri.scheme().is_none() {
            return Err(bad("A target begins with a slash or is a whole URL"));
        }
        let host = authority.as_str().rsplit('@').next().unwrap_or_default();
        let value =
            header::HeaderValue::from_str(host).map_err(|_| bad("The target's host cannot be used"))?;
        request.headers_mut().insert(header::HOST, value);
        let target = request.uri().path_and_query().map_or("/", |target| target.as_str());
        *request.uri_mut() = target.parse().map_err(|_| bad("The target cannot be used"))?;
    } else if host.is_none() && request.version() == http::Version::HTTP_11 {
        return Err(bad("HTTP/1.1 asks for a Host header"));
    } else if uri.path() == "*" && request.method() != Method::OPTIONS {
        return Err(bad("Only OPTIONS can be asked of *"));
    }
    Ok(())
}

/// Whether this can be a Host: nothing that two readers might take for different hosts.
fn is_host(host: &[u8]) -> bool {
    let in_name = |byte: &u8| byte.is_ascii_alphanumeric() || b"-._~%!$&'()*+;=".contains(byte);
    let (fine, rest) = if let Some(inner) = host.strip_prefix(b"[") {
        let Some(end) = inner.iter().position(|byte| *byte == b']') else { return false };
        let address = std::str::from_utf8(&inner[..end]).ok();
        (address.is_some_and(|text| text.parse::<std::net::Ipv6Addr>().is_ok()), &inner[end + 1..])
    } else {
        let end = host.iter().position(|byte| *byte == b':').unwrap_or(host.len());
        (host[..end].iter().all(in_name), &host[end..])
    };
    let port =
        |port: &[u8]| port.iter().all(u8::is_ascii_digit) && (port.is_empty() || number(port).is_some());
    fine && (rest.is_empty() || rest.strip_prefix(b":").is_some_and(port))
}

fn number(digits: &[u8]) -> Option<u16> {
    std::str::from_utf8(digits).ok()?.parse().ok()
}

/// The one transfer coding there is. What a client did to a body before that would be lost on the way.
///
/// A Content-Length beside it cannot be seen here: the HTTP library drops it, reads the body by its chunks
/// and ends the connection with the answer (RFC 9112, 6.3), so that nothing behind it is read as a request.
fn only_chunked(headers: &HeaderMap) -> Result<(), Refusal> {
    let mut codings = headers.get_all(header::TRANSFER_ENCODING).iter();
    let known = match (codings.next(), codings.next()) {
        (None, _) => true,
        (Some(coding), None) => coding.as_bytes().trim_ascii().eq_ignore_ascii_case(b"chunked"),
        (Some(_), Some(_)) => false,
    };
    if known {
        return Ok(());
    }
    let info = "The only one is chunked, once";
    Err(Refusal::new(StatusCode::NOT_IMPLEMENTED, "The transfer coding is not known", info).closing())
}

fn wants_upgrade(headers: &HeaderMap) -> bool {
    headers.contains_key(header::UPGRADE)
        && headers
            .get_all(header::CONNECTION)
            .iter()
            .filter_map(|value| value.to_str().ok())
            .any(|value| value.split(',').any(|token| token.trim().eq_ignore_ascii_case("upgrade")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_is_a_name_or_an_address_with_or_without_a_port() {
        for good in ["", "h", "h:", "h:80", "10.0.0.1:65535", "[::1]", "[::1]:80", "a_b.c-d%20", "h."] {
            assert!(is_host(good.as_bytes()), "{good}");
        }
        for bad in [
            "a b", "a/b", "a,b", "u@h", "h:x", "h:65536", "h:80:81", "[::1", "[::1]x", "[h]", "::1", "h\\",
            "h?", "h#", "h\u{e9}",
        ] {
            assert!(!is_host(bad.as_bytes()), "{bad}");
        }
    }
}
