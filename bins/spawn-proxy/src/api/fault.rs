//! Why a call was not done, in the words and shapes that clients of this API know.

use std::fmt::Display;

use common::node::{NodeId, NodeIdError};
use common::queue::Sequence;
use daemon::http::BodyFault;
use http::StatusCode;
use serde_json::{Value, json};
use update_log::LogError;

use super::routes::Route;
use crate::nodes::ChangeError;

/// Why a call was not done.
#[derive(Debug)]
pub(super) enum Fault {
    /// No route has this path.
    UnknownPath(String),
    /// The route has no such method.
    Method(&'static Route),
    /// Somebody else may do this.
    Unauthorized(&'static str),
    /// Updates wait for nodes that the change takes away.
    Waiting(Vec<(NodeId, u64)>),
    /// The log does not hold that any more; the first update that it holds.
    Trimmed(Sequence),
    /// Anything else.
    Refused {
        /// The status.
        status: StatusCode,
        /// What happened.
        message: String,
        /// What to do about it.
        info: String,
        /// Whether what is left of the request stays unread.
        close: bool,
    },
}

impl Fault {
    /// Any status.
    pub(super) fn new(status: StatusCode, message: impl Into<String>, info: impl Into<String>) -> Self {
        Self::Refused { status, message: message.into(), info: info.into(), close: false }
    }

    /// 400.
    pub(super) fn bad(message: impl Into<String>, info: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, message, info)
    }

    /// Ends the connection after the answer: what is left of the request is not read.
    #[must_use]
    pub(super) fn closing(mut self) -> Self {
        if let Self::Refused { close, .. } = &mut self {
            *close = true;
        }
        self
    }

    /// 404 for a node or host that is not in the list.
    pub(super) fn no_record() -> Self {
        Self::no_such("Please add a record(s) before using")
    }

    /// 404 for anything else that has no record.
    pub(super) fn no_such(info: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, "Record(s) not found", info)
    }

    /// 400 for a part of the URL or the body that cannot be made sense of.
    pub(super) fn unrecognized(what: impl Display, info: impl Into<String>) -> Self {
        Self::bad(format!("Could not recognize {what} parameter"), info)
    }

    /// 400 for a body that cannot be made sense of.
    pub(super) fn body(info: impl Into<String>) -> Self {
        Self::bad("Could not recognize parameters", info)
    }

    /// 400 for a text that has to be there.
    pub(super) fn empty(what: &str) -> Self {
        Self::bad(
            format!("The parameter '{what}' could not be empty"),
            "Please apply a non-empty value to the data",
        )
    }

    /// 400 for a port 0.
    pub(super) fn zero(what: &str) -> Self {
        let info = "Please apply a non-zero value to the data";
        Self::bad(format!("The parameter '{what}' could not be zero value"), info)
    }

    /// 400 for a host that no host is called.
    pub(super) fn host(host: &str) -> Self {
        Self::unrecognized(host, format!("{host} parameter is not alpha-numeric"))
    }

    /// 400 for what is no identity of a node, by what is wrong with it.
    pub(super) fn node(error: NodeIdError) -> Self {
        match error {
            NodeIdError::EmptyHost => Self::empty("host"),
            NodeIdError::Host(host) => Self::host(&host),
            NodeIdError::Port(_) | NodeIdError::NoPort(_) => Self::unrecognized(":port", error.to_string()),
        }
    }

    /// 409: what came later was delivered already.
    pub(super) fn overtaken(sequence: Sequence, by: Sequence) -> Self {
        let info = format!(
            "Update {by}, which conflicts with {sequence}, was delivered there: repeat the request with ?reorder=true to send {sequence} nevertheless"
        );
        Self::new(StatusCode::CONFLICT, "A conflicting later update was already delivered there", info)
    }

    /// 503: as many follow the events as may.
    pub(super) fn too_many_streams(most: usize) -> Self {
        let info = format!("At most {most} clients follow the events at once: end one, or ask for the lists");
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "Too many follow the events", info)
    }

    /// 409: nothing is sent to this node.
    pub(super) fn inactive(id: &NodeId) -> Self {
        Self::new(StatusCode::CONFLICT, "The node is not active", format!("Set {id} active first"))
    }

    /// The update log could not do it.
    pub(super) fn log(error: &LogError) -> Self {
        match error {
            LogError::Node(id) => {
                Self::no_such(format!("No updates are kept for {id}: it is unknown or inactive"))
            }
            LogError::Unsupported(_) => Self::new(
                StatusCode::NOT_IMPLEMENTED,
                "The update log has no way to do this",
                error.to_string(),
            ),
            LogError::Closed => {
                Self::new(StatusCode::SERVICE_UNAVAILABLE, "The update log is closed", "The proxy is ending")
            }
            LogError::Away { .. } | LogError::Unanswered { .. } | LogError::Stale(_) => Self::new(
                StatusCode::SERVICE_UNAVAILABLE,
                "The update log cannot be written now",
                error.to_string(),
            ),
            LogError::Disk { .. } | LogError::Damaged { .. } | LogError::Answer { .. } => {
                Self::new(StatusCode::INTERNAL_SERVER_ERROR, "The update log failed", error.to_string())
            }
        }
    }

    /// Whether the connection cannot be used any further.
    pub(super) fn closes(&self) -> bool {
        matches!(self, Self::Refused { close: true, .. })
    }

    /// The status.
    pub(super) fn status(&self) -> StatusCode {
        match self {
            Self::UnknownPath(_) => StatusCode::NOT_FOUND,
            Self::Method(_) => StatusCode::METHOD_NOT_ALLOWED,
            Self::Unauthorized(_) => StatusCode::UNAUTHORIZED,
            Self::Waiting(_) => StatusCode::CONFLICT,
            Self::Trimmed(_) => StatusCode::GONE,
            Self::Refused { status, .. } => *status,
        }
    }

    /// What the body says, for those that have JSON. Keys are in alphabetical order, as in all of this API.
    pub(super) fn data(&self) -> Value {
        match self {
            Self::UnknownPath(path) => json!({ "Message": {
                "Error": format!("Method not found for {path}"),
                "Information": "Please see list of the methods by using /list",
            }}),
            Self::Waiting(nodes) => waiting(nodes),
            Self::Trimmed(first) => trimmed(*first),
            Self::Method(_) => error(self.status(), "Method Not Allowed", ""),
            Self::Unauthorized(info) => error(self.status(), "Not authorized", info),
            Self::Refused { status, message, info, .. } => error(*status, message, info),
        }
    }
}

fn error(status: StatusCode, message: &str, info: &str) -> Value {
    json!({ "error": status.as_u16(), "info": info, "message": message, "success": false })
}

fn waiting(nodes: &[(NodeId, u64)]) -> Value {
    let total: u64 = nodes.iter().map(|(_, pending)| pending).sum();
    let list: Vec<Value> =
        nodes.iter().map(|(id, pending)| json!({ "node": id.as_str(), "pending": pending })).collect();
    json!({
        "error": StatusCode::CONFLICT.as_u16(),
        "info": "Wait until they are delivered, set maintenance instead, or repeat the request with ?discard=true to drop them",
        "message": format!("The change would discard {total} update(s) that wait for {} node(s)", nodes.len()),
        "nodes": list,
        "success": false,
    })
}

fn trimmed(first: Sequence) -> Value {
    json!({
        "error": StatusCode::GONE.as_u16(),
        "first": first.0,
        "info": format!("The log holds updates from {first} on. To level a node from before that, copy the data of one that has them"),
        "message": "The update log does not go back that far",
        "success": false,
    })
}

impl From<BodyFault> for Fault {
    fn from(fault: BodyFault) -> Self {
        let message = match fault {
            BodyFault::TooLarge { .. } => "The body is too large",
            BodyFault::TooSlow { .. } => "The body did not come in time",
            BodyFault::EndedEarly(_) => "Could not recognize parameters",
            BodyFault::NoRoom { .. } => "Too many bodies are being received",
        };
        Self::new(fault.status(), message, fault.to_string()).closing()
    }
}

impl From<ChangeError<Fault>> for Fault {
    fn from(error: ChangeError<Fault>) -> Self {
        match error {
            ChangeError::Refused(fault) => fault,
            ChangeError::WouldDiscard(nodes) => Self::Waiting(nodes),
            ChangeError::Log(error) => Self::log(&error),
            ChangeError::Store(error) => {
                let message = "The change could not be kept, so it was not made";
                let info = format!("Writing the nodes to the data directory failed: {error}");
                Self::new(StatusCode::INTERNAL_SERVER_ERROR, message, info)
            }
        }
    }
}
