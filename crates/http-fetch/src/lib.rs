//! Requests to the HTTP API of a server: bounded in time and size, over TCP or TLS.
//!
//! ```no_run
//! # async fn example() -> Result<(), http_fetch::FetchError> {
//! use std::time::Duration;
//! use http_fetch::{Fetch, Limits};
//!
//! let fetch = Fetch::new(None, Limits::default())?;
//! let request = http::Request::get("http://127.0.0.1:8500/v1/status/leader").body(Default::default());
//! let answer = fetch.send(request.expect("a sound address"), Duration::from_secs(5)).await?;
//! assert_eq!(answer.status, 200);
//! # Ok(())
//! # }
//! ```

#![forbid(unsafe_code)]

mod error;
mod lines;
mod tls;
pub mod url;

use std::time::{Duration, SystemTime};

use bytes::Bytes;
use http::{HeaderMap, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use hyper::body::Incoming;
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};

pub use error::FetchError;
pub use lines::Lines;
pub use tls::Tls;

/// Connections that wait for the next request, per server.
const IDLE: usize = 4;
/// How long they wait: shorter than the time after which servers close them.
const IDLE_FOR: Duration = Duration::from_secs(30);
/// After so long without a word, TCP asks whether the other end still lives.
const KEEPALIVE: Duration = Duration::from_secs(15);

/// What bounds a request beside its time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// For making a connection, TLS not included.
    pub connect: Duration,
    /// The longest body of an answer, or line of a stream, in bytes.
    pub body: usize,
}

impl Default for Limits {
    /// 2 s, and 64 MiB: a list of 1,000 services with 20 instances each is a quarter of that.
    fn default() -> Self {
        Self { connect: Duration::from_secs(2), body: 64 << 20 }
    }
}

/// A client with a small pool of connections. A clone shares them; the last one that goes closes them.
#[derive(Clone, Debug)]
pub struct Fetch {
    client: Client<HttpsConnector<HttpConnector>, Full<Bytes>>,
    limits: Limits,
}

/// An answer, read whole.
#[derive(Clone, Debug)]
pub struct Answer {
    /// The status.
    pub status: StatusCode,
    /// The headers.
    pub headers: HeaderMap,
    /// The body.
    pub body: Bytes,
}

impl Answer {
    /// The server's clock, to the second, if it told it.
    pub fn date(&self) -> Option<SystemTime> {
        httpdate::parse_http_date(self.headers.get(http::header::DATE)?.to_str().ok()?).ok()
    }

    /// A header's value as text.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }

    /// The beginning of the body as one line of text, for error messages.
    pub fn excerpt(&self) -> String {
        let text = String::from_utf8_lossy(&self.body);
        text.split_whitespace().collect::<Vec<_>>().join(" ").chars().take(300).collect()
    }
}

impl Fetch {
    /// A client; nothing is connected yet. `tls` is used for `https` addresses.
    ///
    /// # Errors
    /// [`FetchError::Tls`] when certificates or a key cannot be used.
    pub fn new(tls: Option<&Tls>, limits: Limits) -> Result<Self, FetchError> {
        let mut tcp = HttpConnector::new();
        tcp.enforce_http(false);
        tcp.set_nodelay(true);
        tcp.set_connect_timeout(Some(limits.connect));
        tcp.set_keepalive(Some(KEEPALIVE));
        tcp.set_keepalive_interval(Some(KEEPALIVE / 3));
        tcp.set_keepalive_retries(Some(3));
        let connector = HttpsConnectorBuilder::new()
            .with_tls_config(tls::client_config(tls)?)
            .https_or_http()
            .enable_http1()
            .wrap_connector(tcp);
        let client = Client::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(IDLE_FOR)
            .pool_max_idle_per_host(IDLE)
            .build(connector);
        Ok(Self { client, limits })
    }

    /// Sends a request to an absolute address and reads the answer whole, all of it within `within`.
    ///
    /// # Errors
    /// [`FetchError`]; but for [`FetchError::Tls`], none tells whether the server did what was asked.
    pub async fn send(&self, request: Request<Bytes>, within: Duration) -> Result<Answer, FetchError> {
        let whole = async {
            let (head, body) = self.head(request).await?.into_parts();
            let limit = self.limits.body;
            let read = Limited::new(body, limit).collect().await.map_err(|error| {
                if error.is::<LengthLimitError>() {
                    return FetchError::TooLarge { limit };
                }
                FetchError::Broken { what: error::with_causes(&*error) }
            })?;
            Ok(Answer { status: head.status, headers: head.headers, body: read.to_bytes() })
        };
        tokio::time::timeout(within, whole).await.map_err(|_| FetchError::Silent { within })?
    }

    /// Sends a request whose answer does not end, and gives its lines as they come. `within` bounds the time to
    /// the answer's head only.
    ///
    /// # Errors
    /// [`FetchError`], also for a status other than 200: its body is in the error.
    pub async fn lines(&self, request: Request<Bytes>, within: Duration) -> Result<Lines, FetchError> {
        let whole = async {
            let answer = self.head(request).await?;
            let (status, lines) = (answer.status(), Lines::new(answer.into_body(), self.limits.body));
            if status == StatusCode::OK {
                return Ok(lines);
            }
            Err(FetchError::Status { status, what: lines.first().await })
        };
        tokio::time::timeout(within, whole).await.map_err(|_| FetchError::Silent { within })?
    }

    async fn head(&self, request: Request<Bytes>) -> Result<Response<Incoming>, FetchError> {
        self.client.request(request.map(Full::new)).await.map_err(|error| {
            let what = error::with_causes(&error);
            if error.is_connect() { FetchError::Connect { what } } else { FetchError::Broken { what } }
        })
    }
}
