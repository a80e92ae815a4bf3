//! Requests, from the listener to the answer.
//!
//! | route | answer |
//! | --- | --- |
//! | `GET\|HEAD\|POST /service` | the names of all services, in the file's order |
//! | `GET\|HEAD\|POST /service/NAME` | the nodes of a key |
//! | `POST /batch/NAME` | the nodes of many keys |
//! | `GET\|HEAD /nodes/NAME` | all nodes of a service, and since when |
//! | `/livez`, `/readyz`, `/healthz`, `/metrics`, `/version` | the admin routes of every daemon |

pub mod batch;
mod route;

use std::cell::RefCell;
use std::sync::Arc;

use arc_swap::{ArcSwap, ArcSwapOption};
use bytes::Bytes;
use common::ring::{Answer, Router as _};
use daemon::admin::Admin;
use daemon::http::{Buffer, Peer, Token, read_body};
use daemon::tls::ClientAuth;
use http::{HeaderValue, Method, Request, Response, StatusCode, header};
use http_body::Body;
use hyper::body::Incoming;

use crate::answer::{AnswerBody, GENERATION, Refusal, json};
use crate::arguments::batch::{self as batch_arguments, BatchError};
use crate::arguments::{self, Form};
use crate::config::{Bounds, Config};
use crate::metrics::Metrics;
use crate::services::select::{Shortage, count, select};
use crate::services::{Catalog, Service};
use batch::{BatchBody, Lane};
use route::{Route, route};

/// Answers below this are not counted against the memory for bodies: a request's head takes as much.
const SMALL: usize = 1024;

/// What all threads share.
pub struct Shared {
    /// The services; `None` until a good file was read.
    pub catalog: Arc<ArcSwapOption<Catalog>>,
    /// What a reload changes.
    pub live: ArcSwap<Live>,
    /// Memory for bodies.
    pub buffer: Buffer,
    /// Counters.
    pub metrics: Metrics,
    /// The admin routes.
    pub admin: Admin,
}

/// Who may ask, and how much.
#[derive(Debug, Clone)]
pub struct Live {
    /// Lookups have to carry it.
    token: Option<Token>,
    /// Whether lookups have to come with a certificate.
    certificate: bool,
    bounds: Bounds,
}

impl Live {
    /// As configured, with what the files hold.
    ///
    /// # Errors
    /// A sentence that names the file.
    pub fn read(config: &Config) -> Result<Self, String> {
        let certificate = config.tls.as_ref().is_some_and(|tls| tls.client_auth != ClientAuth::None);
        Ok(Self { token: config.read_token()?, certificate, bounds: config.bounds })
    }
}

/// What one thread answers with.
pub struct Worker {
    shared: Arc<Shared>,
    answer: RefCell<Answer>,
    lane: Lane,
}

/// What is known of a client for as long as its connection lasts.
#[derive(Debug, Clone, Copy)]
pub struct Client {
    has_certificate: bool,
}

impl Client {
    /// By what the listener knows.
    pub fn new(peer: &Peer) -> Self {
        Self { has_certificate: peer.tls.as_ref().is_some_and(|tls| tls.certificate.is_some()) }
    }
}

impl Worker {
    /// Answers from what all threads share.
    pub fn new(shared: Arc<Shared>) -> Self {
        Self { shared, answer: RefCell::default(), lane: Lane::default() }
    }

    /// Answers one request.
    pub async fn answer(&self, client: Client, request: Request<Incoming>) -> Response<AnswerBody> {
        let (head, body) = request.into_parts();
        let path = head.uri.path();
        let route = route(path);
        if route == Route::Other
            && let Some(response) = self.shared.admin.respond(&head.method, path)
        {
            return response.map(|bytes| AnswerBody::Whole(Some(bytes)));
        }
        let answered = match self.check(client, &head, &route) {
            Ok(()) => self.serve(&head, body, route).await,
            Err(refusal) => Err(refusal),
        };
        let answered = answered.unwrap_or_else(|refusal| {
            tracing::debug!(
                method = %head.method, path, status = refusal.status.as_u16(), error = refusal.sentence,
                "refused"
            );
            self.shared.metrics.refused(refusal.status);
            refusal.into_response()
        });
        if head.method == Method::HEAD { without_body(answered) } else { answered }
    }

    /// Whether the request may be made at all.
    fn check(&self, client: Client, head: &http::request::Parts, route: &Route<'_>) -> Result<(), Refusal> {
        if head.method == Method::CONNECT {
            return Err(Refusal::new(
                StatusCode::NOT_IMPLEMENTED,
                "CONNECT is for proxies, which this is not",
            ));
        }
        let allowed = match route {
            Route::Services | Route::Lookup(_) => "GET, HEAD, POST",
            Route::Batch(_) => "POST",
            Route::Nodes(_) => "GET, HEAD",
            Route::Other => {
                let sentence = format!(
                    "no route has the path {:?}: there are /service, /service/NAME, /batch/NAME and /nodes/NAME",
                    head.uri.path().chars().take(200).collect::<String>()
                );
                return Err(Refusal::new(StatusCode::NOT_FOUND, sentence));
            }
        };
        if !allowed.split(", ").any(|method| method == head.method.as_str()) {
            let sentence = format!("{} is not for this route: use {allowed}", head.method);
            return Err(Refusal::new(StatusCode::METHOD_NOT_ALLOWED, sentence).with(header::ALLOW, allowed));
        }
        let live = self.shared.live.load();
        if live.certificate && !client.has_certificate {
            let sentence = "a certificate of the authority in tls.client-ca is required";
            return Err(Refusal::new(StatusCode::FORBIDDEN, sentence));
        }
        if live.token.as_ref().is_some_and(|token| !token.is_in(&head.headers)) {
            let sentence = "a token is required: send Authorization: Bearer TOKEN";
            return Err(
                Refusal::new(StatusCode::UNAUTHORIZED, sentence).with(header::WWW_AUTHENTICATE, "Bearer")
            );
        }
        Ok(())
    }

    async fn serve(
        &self,
        head: &http::request::Parts,
        body: Incoming,
        route: Route<'_>,
    ) -> Result<Response<AnswerBody>, Refusal> {
        match route {
            Route::Lookup(name) => self.lookup(head, body, &name).await,
            Route::Batch(name) => self.batch(body, &name).await,
            Route::Nodes(name) => {
                let service = self.service(&name)?;
                self.whole(&service, service.nodes_json())
            }
            Route::Services | Route::Other => {
                let catalog = self.shared.catalog.load();
                let catalog = catalog.as_ref().ok_or_else(not_loaded)?;
                Ok(json(AnswerBody::Whole(Some(catalog.names_json().clone()))))
            }
        }
    }

    fn service(&self, name: &str) -> Result<Arc<Service>, Refusal> {
        let catalog = self.shared.catalog.load();
        let catalog = catalog.as_ref().ok_or_else(not_loaded)?;
        let unknown = || {
            let shown: String = name.chars().take(200).collect();
            Refusal::new(StatusCode::NOT_FOUND, format!("unrecognized service: {shown}"))
        };
        catalog.service(name).cloned().ok_or_else(unknown)
    }

    async fn lookup(
        &self,
        head: &http::request::Parts,
        body: Incoming,
        name: &str,
    ) -> Result<Response<AnswerBody>, Refusal> {
        let mut service = self.service(name)?;
        let form = Form::of(&head.method, &head.headers);
        let mut received = Bytes::new();
        if form.takes_body() && !body.is_end_stream() {
            let bounds = self.shared.live.load().bounds;
            received =
                read_body(body, bounds.body, &mut self.shared.buffer.reserve(), bounds.max_buffer).await?;
            // It may have taken its time.
            service = self.service(name)?;
        }
        let asked =
            arguments::parse(&head.uri, &form, &received).map_err(|error| Refusal::bad(error.to_string()))?;
        let mut answer = self.answer.borrow_mut();
        select(&service, &asked.key, asked.min, asked.max, &mut answer)
            .map_err(|shortage| refused(&shortage))?;
        let mut nodes = Vec::new();
        service.write_nodes(answer.nodes(), &mut nodes);
        nodes.push(b'\n');
        self.shared.metrics.lookups.inc();
        self.whole(&service, nodes)
    }

    async fn batch(&self, body: Incoming, name: &str) -> Result<Response<AnswerBody>, Refusal> {
        self.service(name)?;
        let bounds = self.shared.live.load().bounds;
        let mut reserved = self.shared.buffer.reserve();
        let body = read_body(body, bounds.body, &mut reserved, bounds.max_buffer).await?;
        let service = self.service(name)?;
        let asked = batch_arguments::parse(&body, bounds.max_batch).map_err(|error| match error {
            BatchError::Arguments(_) => Refusal::bad(error.to_string()),
            BatchError::TooMany(_) => Refusal::new(StatusCode::PAYLOAD_TOO_LARGE, error.to_string()),
        })?;
        let count =
            count(service.rings.len(), asked.min, asked.max).map_err(|shortage| refused(&shortage))?;
        let keys = asked.keys.len();
        // The keys are copies of what the body held, each with a little around it.
        reserved.grow((keys * size_of::<Vec<u8>>()) as u64, bounds.max_buffer)?;
        let body = BatchBody::answer(
            service.clone(),
            asked.keys,
            count,
            reserved,
            bounds.max_buffer,
            self.lane.clone(),
        )
        .await?;
        self.shared.metrics.batches.inc();
        self.shared.metrics.batch_keys.inc_by(keys as u64);
        Ok(of(&service, body))
    }

    fn whole(&self, service: &Service, text: Vec<u8>) -> Result<Response<AnswerBody>, Refusal> {
        let held = if text.len() < SMALL {
            text.into()
        } else {
            let mut reserved = self.shared.buffer.reserve();
            reserved.grow(text.len() as u64, self.shared.live.load().bounds.max_buffer)?;
            reserved.hold(text)
        };
        Ok(of(service, AnswerBody::Whole(Some(held))))
    }
}

/// The answer to HEAD: everything but the body, whose length it still tells.
fn without_body(mut response: Response<AnswerBody>) -> Response<AnswerBody> {
    if let Some(length) = response.body().size_hint().exact() {
        response.headers_mut().insert(header::CONTENT_LENGTH, HeaderValue::from(length));
    }
    response.map(|_| AnswerBody::Whole(None))
}

fn of(service: &Service, body: AnswerBody) -> Response<AnswerBody> {
    let mut response = json(body);
    response.headers_mut().insert(GENERATION, service.generation_header.clone());
    response
}

fn refused(shortage: &Shortage) -> Refusal {
    Refusal::bad(shortage.to_string())
}

fn not_loaded() -> Refusal {
    let sentence = "no good file of services was read yet: see /readyz for what is wrong with it";
    Refusal::new(StatusCode::SERVICE_UNAVAILABLE, sentence).with(header::RETRY_AFTER, "1")
}
