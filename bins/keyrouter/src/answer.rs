//! Answers: JSON with a newline behind it, whole or piece by piece.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::header::{self, HeaderName, HeaderValue};
use http::{Response, StatusCode};
use http_body::{Body, Frame, SizeHint};
use serde_json::json;

use crate::server::batch::BatchBody;

/// When the service's nodes last changed: a number that grows.
pub const GENERATION: HeaderName = HeaderName::from_static("keyrouter-generation");

/// The body of an answer.
#[derive(Debug)]
pub enum AnswerBody {
    /// None, or all of it.
    Whole(Option<Bytes>),
    /// The answer to a batch that is too large to be held, made as the client takes it.
    Batch(Box<BatchBody>),
}

impl Body for AnswerBody {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        match &mut *self {
            Self::Whole(bytes) => Poll::Ready(bytes.take().map(|bytes| Ok(Frame::data(bytes)))),
            Self::Batch(body) => body.poll_chunk(cx).map(|chunk| chunk.map(|chunk| Ok(Frame::data(chunk)))),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Whole(bytes) => bytes.is_none(),
            Self::Batch(body) => body.is_done(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Whole(bytes) => SizeHint::with_exact(bytes.as_ref().map_or(0, |bytes| bytes.len() as u64)),
            Self::Batch(_) => SizeHint::default(),
        }
    }
}

/// A JSON answer with status 200.
pub fn json(body: AnswerBody) -> Response<AnswerBody> {
    let mut response = Response::new(body);
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

/// Why a request is not answered: a status and one sentence.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// The status.
    pub status: StatusCode,
    /// What failed, on what, and what to do.
    pub sentence: String,
    /// One more header: what is allowed, or when to try again.
    pub header: Option<(HeaderName, &'static str)>,
    /// Whether the rest of the request is left unread.
    pub closes: bool,
}

impl Refusal {
    /// A refusal.
    pub fn new(status: StatusCode, sentence: impl Into<String>) -> Self {
        Self { status, sentence: sentence.into(), header: None, closes: false }
    }

    /// 400.
    pub fn bad(sentence: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, sentence)
    }

    /// Adds a header.
    #[must_use]
    pub fn with(mut self, name: HeaderName, value: &'static str) -> Self {
        self.header = Some((name, value));
        self
    }

    /// The answer.
    pub fn into_response(self) -> Response<AnswerBody> {
        let mut body = json!({ "error": self.sentence }).to_string();
        body.push('\n');
        let mut response = json(AnswerBody::Whole(Some(body.into())));
        *response.status_mut() = self.status;
        let headers = response.headers_mut();
        if let Some((name, value)) = self.header {
            headers.insert(name, HeaderValue::from_static(value));
        }
        if self.closes {
            headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
        }
        response
    }
}

impl From<daemon::http::BodyFault> for Refusal {
    fn from(fault: daemon::http::BodyFault) -> Self {
        let refusal = Self { closes: true, ..Self::new(fault.status(), fault.to_string()) };
        match fault {
            daemon::http::BodyFault::NoRoom { .. } => refusal.with(header::RETRY_AFTER, "1"),
            _ => refusal,
        }
    }
}
