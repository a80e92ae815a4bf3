//! Whether the child is well: a command line, or a URL, asked again and again.

use std::time::Duration;

use http_body_util::Empty;
use hyper::Request;
use hyper_util::rt::TokioIo;
use supervise::{Boottime, Io, Spec, Status, Why};
use tokio::net::TcpStream;
use tokio::sync::{mpsc, watch};
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::Instant;

use crate::config::Live;

/// How the child's health is looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Check {
    /// `sh -c LINE` ends with 0.
    Command(String),
    /// The answer is 2xx.
    Url(Url),
}

/// An `http://` URL.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Url {
    authority: String,
    path: String,
}

impl Url {
    /// Reads one.
    ///
    /// # Errors
    /// The sentence that says what is wrong with it.
    pub fn parse(text: &str) -> Result<Self, String> {
        let uri: http::Uri = text.parse().map_err(|error| format!("'{text}' is not a URL: {error}"))?;
        if uri.scheme_str() != Some("http") {
            return Err(format!("'{text}' is not an http:// URL; for others use --check-cmd, as with curl"));
        }
        let authority = uri.authority().ok_or_else(|| format!("'{text}' has no host"))?;
        if authority.as_str().contains('@') {
            return Err(
                "a user and password in the URL are not sent: let the check ask without them".to_owned()
            );
        }
        let authority = match authority.port() {
            Some(_) => authority.to_string(),
            None => format!("{authority}:80"),
        };
        let path = uri.path_and_query().map_or("/", |path| path.as_str());
        Ok(Self { authority, path: path.to_owned() })
    }
}

/// Looks after one child's health, until dropped.
#[derive(Debug)]
pub struct Watch {
    task: JoinHandle<()>,
    results: mpsc::Receiver<bool>,
}

impl Watch {
    /// Begins; the first check is made after one interval. `environment` is that of the child.
    pub fn start(live: watch::Receiver<Live>, environment: Vec<(String, String)>) -> Self {
        let (tell, results) = mpsc::channel(1);
        Self { task: tokio::spawn(look(live, environment, tell)), results }
    }

    /// The next result: whether the child is well.
    pub async fn next(&mut self) -> bool {
        match self.results.recv().await {
            Some(well) => well,
            None => std::future::pending().await,
        }
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// The next check, when it is due; `None` when the runner ends. The interval and the check of a reload count at once.
async fn due(live: &mut watch::Receiver<Live>) -> Option<(Check, Duration)> {
    let begin = Instant::now();
    loop {
        let Live { check, check_interval, .. } = live.borrow_and_update().clone();
        let wait = async {
            match &check {
                Some(_) => tokio::time::sleep_until(begin + check_interval).await,
                // A reload may bring one.
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = wait => return check.map(|check| (check, check_interval)),
            changed = live.changed() => changed.ok()?,
        }
    }
}

async fn look(mut live: watch::Receiver<Live>, environment: Vec<(String, String)>, tell: mpsc::Sender<bool>) {
    let mut failing = false;
    loop {
        let Some((check, check_interval)) = due(&mut live).await else { return };
        let problem = check.problem(check_interval, &environment).await;
        if let Some(problem) = &problem {
            tracing::warn!(problem, "the child's health check failed");
        } else if failing {
            tracing::info!("the child is well again");
        }
        failing = problem.is_some();
        if tell.send(problem.is_none()).await.is_err() {
            return;
        }
    }
}

impl Check {
    /// What is wrong; `None` when the child is well. Takes no longer than `limit`, and a little for killing.
    pub async fn problem(&self, limit: Duration, environment: &[(String, String)]) -> Option<String> {
        match self {
            Self::Command(line) => command(line, limit, environment).await.err(),
            Self::Url(url) => match tokio::time::timeout(limit, get(url)).await {
                Ok(answered) => answered.err(),
                Err(_) => Some(format!("http://{} did not answer within {limit:?}", url.authority)),
            },
        }
    }
}

/// Under a guard of its own, as the child: it ends with the runner, and leaves nothing behind.
async fn command(line: &str, limit: Duration, environment: &[(String, String)]) -> Result<(), String> {
    let spec = Spec::new("/bin/sh").arg("-c").arg(line).stdout(Io::Null).stderr(Io::Null);
    let spec = environment.iter().fold(spec, |spec, (key, value)| spec.env(key, value));
    let check = spec.spawn(Boottime::now() + limit).await.map_err(|error| error.to_string())?;
    let exit = check.wait().await;
    match (exit.status, exit.why) {
        (Status::Code(0), _) => Ok(()),
        (_, Why::DeadlineReached) => Err(format!("`{line}` did not end within {limit:?}")),
        (Status::Code(code), _) => Err(format!("`{line}` ended with {code}")),
        (Status::Signal(signal), _) => Err(format!("signal {signal} ended `{line}`")),
        (Status::Unknown, _) => Err(format!("the guard of `{line}` was killed")),
    }
}

async fn get(url: &Url) -> Result<(), String> {
    let Url { authority, path } = url;
    let failed = |error: &dyn std::fmt::Display| format!("http://{authority}{path}: {error}");
    let stream = TcpStream::connect(authority).await.map_err(|error| failed(&error))?;
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(|error| failed(&error))?;
    let request = Request::get(path)
        .header("host", authority)
        .header("connection", "close")
        .body(Empty::<bytes::Bytes>::new())
        .map_err(|error| failed(&error))?;
    let mut driver = JoinSet::new();
    driver.spawn(connection);
    let answer = sender.send_request(request).await.map_err(|error| failed(&error))?;
    let status = answer.status();
    if status.is_success() { Ok(()) } else { Err(format!("http://{authority}{path} answered {status}")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_are_read_with_their_port_and_query() {
        let url = Url::parse("http://localhost/health?deep=1").unwrap();
        assert_eq!((url.authority.as_str(), url.path.as_str()), ("localhost:80", "/health?deep=1"));
        assert_eq!(Url::parse("http://[::1]:8080").unwrap().authority, "[::1]:8080");
        for text in ["https://h/", "ftp://h/", "http:///x"] {
            assert!(Url::parse(text).is_err(), "{text}");
        }
    }
}
