//! Answers: JSON at once, or events for as long as somebody listens.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use futures_util::stream::BoxStream;
use http::header::{ALLOW, CACHE_CONTROL, CONNECTION, CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE};
use http::{HeaderValue, Response, StatusCode};
use http_body::{Body, Frame, SizeHint};
use http_body_util::{Either, Full};
use serde_json::{Value, json};

use super::refusal::Refusal;

/// After how many seconds it is worth to ask again.
const RETRY: &str = "1";

/// The body of an answer.
pub type Content = Either<Full<Bytes>, Events>;

/// Pieces of events, made when the connection has room for them.
pub struct Events(pub BoxStream<'static, Bytes>);

impl std::fmt::Debug for Events {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("Events")
    }
}

impl Body for Events {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        self.get_mut().0.as_mut().poll_next(context).map(|piece| piece.map(|piece| Ok(Frame::data(piece))))
    }

    fn is_end_stream(&self) -> bool {
        false
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::default()
    }
}

/// 200 with JSON.
pub fn ok(value: &Value) -> Response<Content> {
    answer(StatusCode::OK, value)
}

/// Any status with JSON.
pub fn answer(status: StatusCode, value: &Value) -> Response<Content> {
    let mut response = text(Bytes::from(format!("{value}\n")));
    *response.status_mut() = status;
    response
}

/// 200 with a line of JSON.
pub fn text(line: Bytes) -> Response<Content> {
    let mut response = Response::new(Either::Left(Full::new(line)));
    headers(&mut response, "application/json");
    response
}

/// 204.
pub fn done() -> Response<Content> {
    let mut response = Response::new(Either::Left(Full::default()));
    *response.status_mut() = StatusCode::NO_CONTENT;
    response
}

/// 200 with events.
pub fn events(events: Events) -> Response<Content> {
    let mut response = Response::new(Either::Right(events));
    headers(&mut response, "text/event-stream");
    response
}

/// `{"error":"..."}`.
pub fn refused(refusal: &Refusal) -> Response<Content> {
    let mut response = answer(refusal.status, &json!({ "error": refusal.sentence }));
    let headers = response.headers_mut();
    if let Some(allow) = refusal.allow {
        headers.insert(ALLOW, HeaderValue::from_static(allow));
    }
    match refusal.status {
        StatusCode::SERVICE_UNAVAILABLE => drop(headers.insert(RETRY_AFTER, HeaderValue::from_static(RETRY))),
        StatusCode::UNAUTHORIZED => {
            drop(headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer")))
        }
        _ => {}
    }
    if refusal.close {
        headers.insert(CONNECTION, HeaderValue::from_static("close"));
    }
    response
}

fn headers(response: &mut Response<Content>, content_type: &'static str) {
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
}
