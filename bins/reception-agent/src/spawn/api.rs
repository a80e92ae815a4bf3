//! The calls of a spawn-proxy's API that are needed here.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use common::node::NodeId;
use http::header::{AUTHORIZATION, CONTENT_TYPE};
use http::{HeaderValue, Method, Request, StatusCode};
use http_fetch::{Answer, Fetch, FetchError, Limits, Tls};
use serde::Deserialize;
use serde_json::Value;

use super::plan::Listed;

/// How long one call may take.
const WITHIN: Duration = Duration::from_secs(5);
/// The longest answer, in bytes: 10,000 nodes are a tenth of that.
const LONGEST: usize = 16 << 20;

/// Why a call was not done.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ApiError {
    /// The file with the token.
    #[error("the token cannot be read: {0}")]
    Token(String),
    /// No answer.
    #[error(transparent)]
    Fetch(#[from] FetchError),
    /// An answer that says no.
    #[error("it answered {status}: {what}")]
    Refused {
        /// The status.
        status: StatusCode,
        /// Its words, and what to do.
        what: String,
    },
    /// An answer that no spawn-proxy gives.
    #[error("it gave an answer that is not understood, is it a spawn-proxy's API? {0}")]
    Odd(String),
}

impl ApiError {
    /// Whether the other calls of a row may do better.
    pub fn is_about_this_node(&self) -> bool {
        matches!(self, Self::Refused { status, .. }
            if !matches!(*status, StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN) && status.is_client_error())
    }
}

/// What came of removing a node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Removed {
    /// It is gone, or was.
    Gone,
    /// Updates wait for it.
    Waiting(String),
}

/// The API of one spawn-proxy.
#[derive(Clone, Debug)]
pub struct Api {
    fetch: Fetch,
    base: String,
    token_file: Option<PathBuf>,
}

#[derive(Deserialize)]
struct Envelope {
    data: List,
}

#[derive(Deserialize)]
struct List {
    results: Vec<Record>,
}

#[derive(Deserialize)]
struct Record {
    host: String,
    port: u16,
    active: bool,
    maintenance: bool,
}

impl Api {
    /// The API at `base`, without a slash at its end. The token is read at each call, so that it can be changed.
    ///
    /// # Errors
    /// [`FetchError::Tls`].
    pub fn new(base: &str, tls: Option<&Tls>, token_file: Option<PathBuf>) -> Result<Self, FetchError> {
        let limits = Limits { body: LONGEST, ..Limits::default() };
        Ok(Self { fetch: Fetch::new(tls, limits)?, base: base.to_owned(), token_file })
    }

    /// All nodes.
    ///
    /// # Errors
    /// [`ApiError`].
    pub async fn nodes(&self) -> Result<BTreeMap<NodeId, Listed>, ApiError> {
        let answer = self.call(Method::GET, "/nodes", None).await?;
        if answer.status != StatusCode::OK {
            return Err(refused(&answer));
        }
        let odd = |what: String| ApiError::Odd(what);
        let envelope: Envelope =
            serde_json::from_slice(&answer.body).map_err(|error| odd(error.to_string()))?;
        let nodes = envelope.data.results.into_iter().map(|record| {
            let id = NodeId::new(&record.host, record.port).map_err(|error| odd(error.to_string()))?;
            Ok((id, Listed { active: record.active, maintenance: record.maintenance }))
        });
        nodes.collect()
    }

    /// Adds or changes a node; whether it is new.
    ///
    /// # Errors
    /// [`ApiError`].
    pub async fn put(&self, node: &NodeId, change: &Value) -> Result<bool, ApiError> {
        let answer = self.call(Method::PUT, &path(node), Some(change)).await?;
        match answer.status {
            StatusCode::CREATED => Ok(true),
            StatusCode::ACCEPTED => Ok(false),
            _ => Err(refused(&answer)),
        }
    }

    /// Removes a node, unless updates wait for it.
    ///
    /// # Errors
    /// [`ApiError`].
    pub async fn remove(&self, node: &NodeId) -> Result<Removed, ApiError> {
        let answer = self.call(Method::DELETE, &path(node), None).await?;
        match answer.status {
            StatusCode::OK | StatusCode::NOT_FOUND => Ok(Removed::Gone),
            StatusCode::CONFLICT => Ok(Removed::Waiting(words(&answer))),
            _ => Err(refused(&answer)),
        }
    }

    async fn call(&self, method: Method, path: &str, body: Option<&Value>) -> Result<Answer, ApiError> {
        let mut request = Request::builder().method(method).uri(format!("{}{path}", self.base));
        if let Some(file) = &self.token_file {
            request = request.header(AUTHORIZATION, token(file)?);
        }
        if body.is_some() {
            request = request.header(CONTENT_TYPE, "application/json");
        }
        let body = body.map(Value::to_string).unwrap_or_default();
        let request = request.body(body.into()).map_err(|error| ApiError::Odd(error.to_string()))?;
        Ok(self.fetch.send(request, WITHIN).await?)
    }
}

fn token(file: &PathBuf) -> Result<HeaderValue, ApiError> {
    let wrong = |what: String| ApiError::Token(format!("{}: {what}", file.display()));
    let text = std::fs::read_to_string(file).map_err(|error| wrong(error.to_string()))?;
    let mut value = HeaderValue::from_str(&format!("Bearer {}", text.trim()))
        .map_err(|_| wrong("it holds characters that no token has".to_owned()))?;
    value.set_sensitive(true);
    Ok(value)
}

/// An IPv6 address in brackets, which a path has escaped.
fn path(node: &NodeId) -> String {
    let host = node.host();
    if host.contains(':') {
        return format!("/nodes/%5B{host}%5D/{}", node.port());
    }
    format!("/nodes/{host}/{}", node.port())
}

fn refused(answer: &Answer) -> ApiError {
    ApiError::Refused { status: answer.status, what: words(answer) }
}

/// `message` and `info` of an error, which stand in an envelope or not.
fn words(answer: &Answer) -> String {
    let Ok(body) = serde_json::from_slice::<Value>(&answer.body) else { return answer.excerpt() };
    let error = body.get("data").unwrap_or(&body);
    let texts = ["message", "info"].into_iter().filter_map(|key| error.get(key)?.as_str());
    let texts: Vec<_> = texts.filter(|text| !text.is_empty()).collect();
    if texts.is_empty() { answer.excerpt() } else { texts.join(". ") }
}
