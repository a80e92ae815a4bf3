//! The client itself: where the server is, who asks, and how an answer is told from a refusal.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use bytes::Bytes;
use http::{Method, Request, StatusCode};
use http_fetch::{Answer, Fetch, Limits, Tls};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde::de::DeserializeOwned;

use crate::error::ConsulError;
use crate::query::{Query, Reply};

/// What stays as it is in a part of a path or of a query.
const PLAIN: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~');

/// The variable that Consul's own tools read the token from.
const TOKEN_VARIABLE: &str = "CONSUL_HTTP_TOKEN";

/// Where the ACL token comes from.
#[derive(Clone, Default, PartialEq, Eq)]
pub enum Token {
    /// The environment's `CONSUL_HTTP_TOKEN`; none when that is not set.
    #[default]
    Environment,
    /// This file, without the white space at its end. It is read when the client is made.
    File(PathBuf),
    /// This text.
    Text(String),
    /// None: what the agent allows to everybody.
    None,
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Environment => f.write_str("Environment"),
            Self::File(path) => write!(f, "File({})", path.display()),
            Self::Text(_) => f.write_str("Text(...)"),
            Self::None => f.write_str("None"),
        }
    }
}

/// How to reach a Consul agent.
#[derive(Clone, Debug)]
pub struct Config {
    /// `HOST:PORT`, IPv6 in brackets.
    pub address: String,
    /// With TLS.
    pub tls: Option<Tls>,
    /// Who asks.
    pub token: Token,
    /// Another datacenter than the agent's own.
    pub datacenter: Option<String>,
    /// The time of one request, to which a blocking query adds its wait.
    pub timeout: Duration,
    /// The sizes of answers.
    pub limits: Limits,
}

impl Config {
    /// Plain HTTP to this `HOST:PORT`, 5 s a request.
    pub fn at(address: impl Into<String>) -> Self {
        Self {
            address: address.into(),
            tls: None,
            token: Token::default(),
            datacenter: None,
            timeout: Duration::from_secs(5),
            limits: Limits::default(),
        }
    }
}

/// A client of one Consul agent. Clones share connections.
#[derive(Clone)]
pub struct Consul {
    fetch: Fetch,
    base: String,
    token: Option<http::HeaderValue>,
    datacenter: Option<String>,
    timeout: Duration,
}

impl fmt::Debug for Consul {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Consul({})", self.base)
    }
}

/// A request under construction.
pub(crate) struct Call {
    method: Method,
    doing: &'static str,
    path: String,
    parameters: Vec<(&'static str, String)>,
    body: Bytes,
    timeout: Duration,
}

impl Consul {
    /// Checks the configuration; nothing is connected yet.
    ///
    /// # Errors
    /// [`ConsulError::Config`].
    pub fn new(config: Config) -> Result<Self, ConsulError> {
        let Config { address, tls, token, datacenter, timeout, limits } = config;
        let wrong = |what: String| ConsulError::Config(format!("Consul at {address}: {what}"));
        let token = match token {
            Token::None => None,
            Token::Text(text) => Some(text),
            Token::Environment => std::env::var(TOKEN_VARIABLE).ok(),
            Token::File(path) => Some(
                std::fs::read_to_string(&path)
                    .map_err(|error| wrong(format!("reading the token in {}: {error}", path.display())))?,
            ),
        };
        let token = match token.as_deref().map(str::trim_end) {
            None | Some("") => None,
            Some(text) => {
                let mut value = http::HeaderValue::from_str(text)
                    .map_err(|_| wrong("the token holds characters that no header can".into()))?;
                value.set_sensitive(true);
                Some(value)
            }
        };
        let scheme = if tls.is_some() { "https" } else { "http" };
        let base = format!("{scheme}://{address}");
        base.parse::<http::Uri>().map_err(|error| wrong(error.to_string()))?;
        let fetch = Fetch::new(tls.as_ref(), limits).map_err(|error| wrong(error.to_string()))?;
        Ok(Self { fetch, base, token, datacenter, timeout })
    }

    /// The server, as `http://HOST:PORT`.
    pub fn server(&self) -> &str {
        &self.base
    }

    /// The address of the servers' leader; none while they have none.
    ///
    /// # Errors
    /// [`ConsulError`].
    pub async fn leader(&self) -> Result<Option<String>, ConsulError> {
        let call = self.call(Method::GET, "asking for the leader", "/v1/status/leader");
        let leader: String = self.read(call).await?;
        Ok(Some(leader).filter(|leader| !leader.is_empty()))
    }

    pub(crate) fn call(&self, method: Method, doing: &'static str, path: impl Into<String>) -> Call {
        let parameters = self.datacenter.iter().map(|name| ("dc", name.clone())).collect();
        let (path, timeout) = (path.into(), self.timeout);
        Call { method, doing, path, parameters, body: Bytes::new(), timeout }
    }

    /// Sends it; any status but those of success, and 404 and 409, is an error.
    pub(crate) async fn send(&self, call: Call) -> Result<Answer, ConsulError> {
        let Call { method, doing, path, parameters, body, timeout } = call;
        let mut address = format!("{}{path}", self.base);
        for (index, (name, value)) in parameters.iter().enumerate() {
            address.push(if index == 0 { '?' } else { '&' });
            address.push_str(name);
            if !value.is_empty() {
                address.push('=');
                address.extend(utf8_percent_encode(value, PLAIN));
            }
        }
        let mut request = Request::builder().method(method).uri(address);
        if let Some(token) = &self.token {
            request = request.header("x-consul-token", token);
        }
        let server = || self.base.clone();
        let request = request.body(body).map_err(|error| ConsulError::Config(error.to_string()))?;
        let answer = self.fetch.send(request, timeout).await.map_err(|source| ConsulError::NoAnswer {
            server: server(),
            doing,
            source,
        })?;
        match answer.status {
            StatusCode::FORBIDDEN | StatusCode::UNAUTHORIZED => {
                Err(ConsulError::Denied { server: server(), doing, what: answer.excerpt() })
            }
            status if status.is_success() => Ok(answer),
            StatusCode::NOT_FOUND | StatusCode::CONFLICT => Ok(answer),
            status => Err(self.refused(doing, status, &answer)),
        }
    }

    /// Sends it and reads its JSON; 404 is an error as well.
    pub(crate) async fn read<T: DeserializeOwned>(&self, call: Call) -> Result<T, ConsulError> {
        let doing = call.doing;
        let answer = self.send_found(call).await?;
        self.json(doing, &answer)
    }

    /// Sends it; 404 and 409 are errors as well.
    pub(crate) async fn send_found(&self, call: Call) -> Result<Answer, ConsulError> {
        let doing = call.doing;
        let answer = self.send(call).await?;
        if answer.status.is_success() { Ok(answer) } else { Err(self.refused(doing, answer.status, &answer)) }
    }

    /// Sends it and reads a list, with how fresh it is.
    pub(crate) async fn list<T: DeserializeOwned>(
        &self,
        call: Call,
        query: Query,
    ) -> Result<Reply<T>, ConsulError> {
        let doing = call.doing;
        let answer = self.send_found(call.query(query)).await?;
        Ok(Reply::of(&answer, self.json(doing, &answer)?))
    }

    pub(crate) fn json<T: DeserializeOwned>(
        &self,
        doing: &'static str,
        answer: &Answer,
    ) -> Result<T, ConsulError> {
        serde_json::from_slice(&answer.body)
            .map_err(|error| self.not_understood(doing, format!("{error}: {}", answer.excerpt())))
    }

    pub(crate) fn not_understood(&self, doing: &'static str, what: String) -> ConsulError {
        ConsulError::Answer { server: self.base.clone(), doing, what }
    }

    fn refused(&self, doing: &'static str, status: StatusCode, answer: &Answer) -> ConsulError {
        let (server, what) = (self.base.clone(), answer.excerpt());
        ConsulError::Refused { server, doing, status: status.as_u16(), what }
    }
}

impl Call {
    pub(crate) fn parameter(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.parameters.push((name, value.into()));
        self
    }

    pub(crate) fn query(mut self, query: Query) -> Self {
        self.parameters.extend(query.parameters());
        self.timeout += query.extra();
        self
    }

    pub(crate) fn body(mut self, body: impl Into<Bytes>) -> Self {
        self.body = body.into();
        self
    }
}

/// A name as one part of a path.
pub(crate) fn part(name: &str) -> Result<String, ConsulError> {
    if matches!(name, "" | "." | "..") {
        return Err(ConsulError::Name(name.to_owned()));
    }
    Ok(utf8_percent_encode(name, PLAIN).to_string())
}

/// A key as parts of a path.
pub(crate) fn parts(key: &str) -> Result<String, ConsulError> {
    let parts: Result<Vec<String>, _> = key.split('/').map(part).collect();
    parts.map(|parts| parts.join("/")).map_err(|_| ConsulError::Name(key.to_owned()))
}
