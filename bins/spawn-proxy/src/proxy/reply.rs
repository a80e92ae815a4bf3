//! Answers that the proxy makes itself.

use bytes::Bytes;
use daemon::http::BodyFault;
use http::header::{self, HeaderValue};
use http::{Response, StatusCode};
use serde_json::json;

use super::body::ClientBody;

/// Why the proxy answers itself: a status, what happened, and what to do about it.
#[derive(Debug, Clone)]
pub struct Refusal {
    /// The status.
    pub status: StatusCode,
    /// What happened.
    pub message: String,
    /// What to do.
    pub info: String,
    /// Seconds after which it is worth trying again.
    pub retry_after: Option<u32>,
    /// Whether the connection cannot be used any further.
    pub close: bool,
}

impl Refusal {
    /// A refusal.
    pub fn new(status: StatusCode, message: impl Into<String>, info: impl Into<String>) -> Self {
        Self { status, message: message.into(), info: info.into(), retry_after: None, close: false }
    }

    /// 503, worth trying again soon.
    pub fn unavailable(message: impl Into<String>, info: impl Into<String>) -> Self {
        Self { retry_after: Some(1), ..Self::new(StatusCode::SERVICE_UNAVAILABLE, message, info) }
    }

    /// Closes the connection after the answer: what is left of the request is not read.
    #[must_use]
    pub fn closing(mut self) -> Self {
        self.close = true;
        self
    }

    /// The answer.
    pub fn into_response(self) -> Response<ClientBody> {
        let body = json!({
            "error": self.status.as_u16(),
            "info": self.info,
            "message": self.message,
            "success": false,
        });
        let mut response = json_response(self.status, &body);
        if let Some(seconds) = self.retry_after {
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        if self.close {
            response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
        }
        response
    }
}

impl From<BodyFault> for Refusal {
    /// What is left of the body is not read.
    fn from(fault: BodyFault) -> Self {
        let message = match fault {
            BodyFault::TooLarge { .. } => "The body is too large",
            BodyFault::TooSlow { .. } => "The body came too slowly",
            BodyFault::EndedEarly(_) => "The request's body ended early",
            BodyFault::NoRoom { .. } => "Too many bodies are being received",
        };
        let retry_after = matches!(fault, BodyFault::NoRoom { .. }).then_some(1);
        Self { retry_after, ..Self::new(fault.status(), message, fault.to_string()) }.closing()
    }
}

/// A JSON answer.
pub fn json_response(status: StatusCode, body: &serde_json::Value) -> Response<ClientBody> {
    let mut response = Response::new(ClientBody::Whole(Some(Bytes::from(body.to_string()))));
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}
