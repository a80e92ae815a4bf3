//! Why a request was not done.

use daemon::http::BodyFault;
use http::StatusCode;

/// Whose doing a refusal is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// The caller asked wrongly.
    Caller,
    /// The caller may not do it.
    Forbidden,
    /// A bound was reached.
    Bound,
    /// The store did not answer.
    Store,
}

/// Why a request was not done, for its caller.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// The status.
    pub status: StatusCode,
    /// Whose doing it is.
    pub cause: Cause,
    /// What is wrong, and what to do.
    pub sentence: String,
    /// The methods that would do, with 405.
    pub allow: Option<&'static str>,
    /// Whether what is left of the request stays unread.
    pub close: bool,
}

impl Refusal {
    /// Any status.
    pub fn new(status: StatusCode, sentence: impl Into<String>) -> Self {
        Self { status, cause: Cause::Caller, sentence: sentence.into(), allow: None, close: false }
    }

    /// 400.
    pub fn bad(sentence: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, sentence)
    }

    /// 404.
    pub fn not_found(sentence: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, sentence)
    }

    /// 405.
    pub fn method(allow: &'static str) -> Self {
        let sentence = format!("only {allow} can be done here");
        Self { allow: Some(allow), ..Self::new(StatusCode::METHOD_NOT_ALLOWED, sentence) }
    }

    /// 401 or 403.
    pub fn forbidden(status: StatusCode, sentence: impl Into<String>) -> Self {
        Self { cause: Cause::Forbidden, ..Self::new(status, sentence) }
    }

    /// 503, with Retry-After: a bound was reached.
    pub fn full(sentence: impl Into<String>) -> Self {
        Self { cause: Cause::Bound, ..Self::new(StatusCode::SERVICE_UNAVAILABLE, sentence) }
    }

    /// 503, with Retry-After: the store did not answer.
    pub fn unanswered(sentence: impl Into<String>) -> Self {
        Self { cause: Cause::Store, ..Self::new(StatusCode::SERVICE_UNAVAILABLE, sentence) }
    }
}

impl From<BodyFault> for Refusal {
    fn from(fault: BodyFault) -> Self {
        Self { close: true, ..Self::new(fault.status(), fault.to_string()) }
    }
}
