//! The API of `run`: `/status` beside the admin routes. It changes nothing.

use std::convert::Infallible;
use std::sync::Arc;

use anyhow::Context;
use bytes::Bytes;
use daemon::admin::Admin;
use daemon::drain::Drain;
use daemon::http::{Limits, Listener, Peer, Server, Token, bind};
use daemon::log::log_listening;
use daemon::tls::{ClientAuth, Tls, TlsFiles};
use gone::message::Inbox;
use http::header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE, WWW_AUTHENTICATE};
use http::{HeaderValue, Method, Request, Response, StatusCode};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::service::service_fn;
use serde_json::json;
use tokio::sync::watch;

use super::board::Board;
use crate::config::ApiConfig;

/// Connections at a time.
const CONNECTIONS: usize = 256;

/// Who may ask for `/status`.
#[derive(Clone, Debug, Default)]
pub struct Access {
    token: Option<Token>,
    certificate: bool,
}

impl Access {
    /// As configured.
    pub fn new(config: &ApiConfig) -> Self {
        let certificate = config.tls.as_ref().is_some_and(|tls| tls.client_auth != ClientAuth::None);
        Self { token: config.token.clone(), certificate }
    }

    fn problem(
        &self,
        request: &Request<Incoming>,
        has_certificate: bool,
    ) -> Option<(StatusCode, &'static str)> {
        if self.certificate && !has_certificate {
            return Some((StatusCode::FORBIDDEN, "a client certificate is needed"));
        }
        let token = self.token.as_ref().filter(|token| !token.is_in(request.headers()));
        token.map(|_| (StatusCode::UNAUTHORIZED, "the bearer token of --api-token-file is needed"))
    }
}

/// A listener that nobody is served on yet.
#[derive(Debug)]
pub struct Opened {
    listener: Listener,
    api: Api,
    watched: watch::Receiver<Access>,
}

/// What a reload changes of the API.
#[derive(Debug)]
pub struct Api {
    access: watch::Sender<Access>,
    tls: Option<Tls>,
}

impl Opened {
    /// Takes the address, before there is a lease that a failure would have to give back.
    ///
    /// # Errors
    /// When the address cannot be had, or the certificate is none.
    pub fn new(config: &ApiConfig) -> anyhow::Result<Self> {
        let listener = bind(&config.address)?;
        let tls = config.tls.as_ref().map(TlsFiles::load).transpose().context("the API's certificate")?;
        let (access, watched) = watch::channel(Access::new(config));
        Ok(Self { listener, api: Api { access, tls: tls.map(Tls::new) }, watched })
    }

    /// Serves until `drain` has begun.
    pub fn serve(self, board: Board, inbox: Arc<Inbox>, admin: Admin, drain: Drain) -> Api {
        let Self { listener, api, watched } = self;
        log_listening("api", listener.addr());
        let server = Server::new(listener, Limits::new(CONNECTIONS), drain).with_tls(api.tls.clone());
        let make = move |peer: &Peer| {
            let (board, inbox, admin, access) =
                (board.clone(), inbox.clone(), admin.clone(), watched.clone());
            let has_certificate = peer.tls.as_ref().is_some_and(|tls| tls.certificate.is_some());
            service_fn(move |request: Request<Incoming>| {
                let response = admin
                    .respond(request.method(), request.uri().path())
                    .unwrap_or_else(|| answer(&request, &board, &inbox, &access.borrow(), has_certificate));
                std::future::ready(Ok::<_, Infallible>(response.map(Full::new)))
            })
        };
        tokio::spawn(async move {
            if let Err(error) = server.serve(make).await {
                tracing::error!(%error, "the API's listener ended");
            }
        });
        api
    }
}

impl Api {
    /// Puts another token and certificate in force.
    ///
    /// # Errors
    /// A sentence; nothing has changed then.
    pub fn reload(&self, config: &ApiConfig) -> Result<(), String> {
        match (&self.tls, &config.tls) {
            (Some(tls), Some(files)) => tls.replace(files.load().map_err(|error| error.to_string())?),
            (None, None) => {}
            _ => return Err("TLS begins and ends with a restart".to_owned()),
        }
        self.access.send_replace(Access::new(config));
        Ok(())
    }
}

fn answer(
    request: &Request<Incoming>,
    board: &Board,
    inbox: &Inbox,
    access: &Access,
    has_certificate: bool,
) -> Response<Bytes> {
    if request.uri().path() != "/status" {
        return refusal(StatusCode::NOT_FOUND, "there is /status, beside the admin routes");
    }
    if request.method() != Method::GET && request.method() != Method::HEAD {
        let mut response = refusal(StatusCode::METHOD_NOT_ALLOWED, "only GET and HEAD");
        response.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
        return response;
    }
    if let Some((status, sentence)) = access.problem(request, has_certificate) {
        let mut response = refusal(status, sentence);
        if status == StatusCode::UNAUTHORIZED {
            response.headers_mut().insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        return response;
    }
    let body = if request.method() == Method::HEAD { String::new() } else { board.status(inbox).to_string() };
    json_answer(StatusCode::OK, body)
}

fn refusal(status: StatusCode, sentence: &str) -> Response<Bytes> {
    json_answer(status, json!({ "error": sentence }).to_string())
}

fn json_answer(status: StatusCode, body: String) -> Response<Bytes> {
    let mut response = Response::new(Bytes::from(body));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}
