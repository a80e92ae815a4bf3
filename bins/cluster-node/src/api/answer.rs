//! Answers: JSON in the envelope, or events for as long as somebody listens.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::header::{ALLOW, CACHE_CONTROL, CONNECTION, CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE};
use http::{HeaderValue, Response, StatusCode};
use http_body::{Body, Frame, SizeHint};
use http_body_util::{Either, Full};
use serde_json::{Value, json};
use tokio::sync::mpsc;

use super::refusal::Refusal;

/// The body of an answer.
pub type Content = Either<Full<Bytes>, Events>;

/// Events as they come; the end when nobody sends any more.
#[derive(Debug)]
pub struct Events(pub mpsc::Receiver<Bytes>);

impl Body for Events {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        self.get_mut().0.poll_recv(context).map(|piece| piece.map(|piece| Ok(Frame::data(piece))))
    }

    fn is_end_stream(&self) -> bool {
        false
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::default()
    }
}

/// 200 with data.
pub fn ok(data: &Value) -> Response<Content> {
    envelope(StatusCode::OK, true, "", data)
}

/// 200 with events.
pub fn events(events: Events) -> Response<Content> {
    let mut response = Response::new(Either::Right(events));
    headers(&mut response, "text/event-stream");
    response
}

/// Any other status with a sentence.
pub fn refused(refusal: &Refusal) -> Response<Content> {
    let mut response = envelope(refusal.status, false, &refusal.sentence, &Value::Null);
    let headers = response.headers_mut();
    if let Some(allow) = refusal.allow {
        headers.insert(ALLOW, HeaderValue::from_static(allow));
    }
    if let Some(seconds) = refusal.retry_after {
        headers.insert(RETRY_AFTER, seconds.into());
    }
    if refusal.status == StatusCode::UNAUTHORIZED {
        headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
    }
    if refusal.close {
        headers.insert(CONNECTION, HeaderValue::from_static("close"));
    }
    response
}

fn envelope(status: StatusCode, success: bool, error: &str, data: &Value) -> Response<Content> {
    let text = format!("{}\n", json!({ "success": success, "error": error, "data": data }));
    let mut response = Response::new(Either::Left(Full::from(text)));
    *response.status_mut() = status;
    headers(&mut response, "application/json");
    response
}

fn headers(response: &mut Response<Content>, content_type: &'static str) {
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
}
