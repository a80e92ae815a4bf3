//! Why a call is not answered as asked.

use cluster::{NodeError, SendError};
use daemon::http::BodyFault;
use http::StatusCode;

/// What is counted of a refusal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// The caller asked for something that cannot be.
    Caller,
    /// The caller may not.
    Forbidden,
    /// A bound was reached.
    Bound,
}

/// An answer that is no success.
#[derive(Clone, Debug)]
pub struct Refusal {
    /// The status.
    pub status: StatusCode,
    /// The sentence.
    pub sentence: String,
    /// The methods that would do.
    pub allow: Option<&'static str>,
    /// After how many seconds to ask again.
    pub retry_after: Option<u64>,
    /// The rest of the request is not read.
    pub close: bool,
    /// What is counted.
    pub cause: Cause,
}

impl Refusal {
    /// With this status.
    pub fn new(status: StatusCode, sentence: impl Into<String>) -> Self {
        let (sentence, cause) = (sentence.into(), Cause::Caller);
        Self { status, sentence, allow: None, retry_after: None, close: false, cause }
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

    /// 401.
    pub fn who(sentence: impl Into<String>) -> Self {
        Self { cause: Cause::Forbidden, ..Self::new(StatusCode::UNAUTHORIZED, sentence) }
    }

    /// 403.
    pub fn forbidden(sentence: impl Into<String>) -> Self {
        Self { cause: Cause::Forbidden, ..Self::new(StatusCode::FORBIDDEN, sentence) }
    }

    /// 429, until so many seconds have passed.
    pub fn too_often(seconds: u64, sentence: impl Into<String>) -> Self {
        let refusal = Self::new(StatusCode::TOO_MANY_REQUESTS, sentence);
        Self { cause: Cause::Bound, retry_after: Some(seconds), ..refusal }
    }

    /// 503: in a moment it may do.
    pub fn full(sentence: impl Into<String>) -> Self {
        let refusal = Self::new(StatusCode::SERVICE_UNAVAILABLE, sentence);
        Self { cause: Cause::Bound, retry_after: Some(1), ..refusal }
    }
}

impl From<BodyFault> for Refusal {
    fn from(fault: BodyFault) -> Self {
        let no_room = matches!(fault, BodyFault::NoRoom { .. });
        let (status, sentence) = match &fault {
            BodyFault::TooLarge { limit } => {
                (fault.status(), format!("the body is larger than {limit} bytes (max-message)"))
            }
            _ => (fault.status(), fault.to_string()),
        };
        Self { close: true, retry_after: no_room.then_some(1), ..Self::new(status, sentence) }
    }
}

impl From<SendError> for Refusal {
    fn from(error: SendError) -> Self {
        let sentence = error.to_string();
        match error {
            SendError::Full(_) | SendError::Gone(_) | SendError::Closed => Self::full(sentence),
            SendError::Unknown(_) => Self::not_found(sentence),
            SendError::TooLarge { .. } => Self::new(StatusCode::PAYLOAD_TOO_LARGE, sentence),
            SendError::ContentType => Self::bad(sentence),
        }
    }
}

impl From<NodeError> for Refusal {
    fn from(error: NodeError) -> Self {
        match error {
            NodeError::Unknown(_) => Self::not_found(error.to_string()),
            NodeError::Own(_) => Self::new(StatusCode::CONFLICT, error.to_string()),
            _ => Self::bad(error.to_string()),
        }
    }
}
