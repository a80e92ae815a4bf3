//! The HTTP API.
//!
//! | module | what it does |
//! | --- | --- |
//! | [`route`], [`body`] | what is asked for; pure |
//! | [`look`] | lists: at once, by long poll, as events |
//! | [`refusal`], [`answer`] | what is answered |

pub mod answer;
pub mod body;
pub mod look;
pub mod refusal;
pub mod route;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use daemon::drain::Drain;
use daemon::http::{BodyLimits, Buffer, Guard, Refusal as Forbidden, read_body};
use http::header::{ACCEPT, HeaderMap};
use http::request::Parts;
use http::{Method, Request, Response, StatusCode};
use hyper::body::Incoming;
use reception::{Client, Name, Service};
use serde_json::json;
use tokio::sync::{Semaphore, watch};

use super::candidates::Candidates;
use super::metrics::{Counted, Counters};
use super::posts::{Full, Key};
use super::records::{Kept, Records};
use super::views::{TooMany, Use, Views};
use crate::config::Bounds;
use crate::form::{self, millis};
use answer::Content;
use look::{Lens, Query};
use refusal::{Cause, Refusal};
use route::Route;

/// Memory for the bodies of all requests.
const MAX_BUFFER: u64 = 64 * 1024 * 1024;
/// For how long a caller may rely on leading, in milliseconds from when it sent its request.
const LEADER_FOR: &str = "leader-for-ms";

/// What the API works on.
pub struct Api {
    /// The store.
    pub client: Client,
    /// Lists.
    pub views: Views,
    /// Instances of callers.
    pub records: Records,
    /// Candidates of callers.
    pub candidates: Candidates,
    /// Who may change things.
    pub guard: watch::Receiver<Guard>,
    /// What bodies may be like.
    pub body: BodyLimits,
    /// Memory for them.
    pub buffer: Buffer,
    /// What bounds the rest.
    pub bounds: Bounds,
    /// Places for event streams.
    pub streams: Arc<Semaphore>,
    /// Places for long polls that wait.
    pub polls: Arc<Semaphore>,
    /// The ttl of callers that say none.
    pub ttl: Duration,
    /// How long the store may take.
    pub timeout: Duration,
    /// What is counted.
    pub counters: Counters,
    /// Says when to end.
    pub drain: Drain,
}

/// Who calls.
#[derive(Clone, Copy, Debug)]
pub struct Caller {
    /// From where.
    pub peer: SocketAddr,
    /// To where.
    pub local: SocketAddr,
    /// Whether with a certificate of ours.
    pub has_certificate: bool,
}

impl Api {
    /// Answers one request.
    pub async fn answer(&self, request: Request<Incoming>, caller: Caller) -> Response<Content> {
        let (head, body) = request.into_parts();
        let answered = self.act(&head, body, caller).await;
        let response = answered.unwrap_or_else(|refusal| {
            let counters = &self.counters;
            match refusal.cause {
                Cause::Caller => {}
                Cause::Forbidden => drop(counters.forbidden.inc()),
                Cause::Bound => drop(counters.refused.inc()),
                Cause::Store => drop(counters.unanswered.inc()),
            }
            answer::refused(&refusal)
        });
        let (method, path, status) = (&head.method, head.uri.path(), response.status().as_u16());
        tracing::debug!(peer = %caller.peer, %method, path, status, "API request");
        response
    }

    async fn act(&self, head: &Parts, body: Incoming, caller: Caller) -> Result<Response<Content>, Refusal> {
        let route = Route::parse(head.uri.path())?;
        route.check(&head.method)?;
        self.allow(&head.method, &head.headers, caller)?;
        let query = Query::parse(head.uri.query(), self.bounds.wait)?;
        match (route, &head.method) {
            (Route::Services, _) => self.names(&head.headers, query).await,
            (Route::Service(name), _) => self.services(&name, &head.headers, query).await,
            (Route::Instance(key), &Method::DELETE) => self.delete(&key).await,
            (Route::Instance(key), _) => self.put(&key, &self.read(body).await?).await,
            (Route::Heartbeat(key), _) => self.heartbeat(&key).await,
            (Route::Leader(name), &Method::POST) => self.stand(&name, &self.read(body).await?).await,
            (Route::Leader(name), _) => self.leader(&name).await,
            (Route::Candidate(key), _) => self.resign(&key).await,
        }
    }

    fn allow(&self, method: &Method, headers: &HeaderMap, caller: Caller) -> Result<(), Refusal> {
        let guard = self.guard.borrow();
        if guard.certificates && !caller.has_certificate {
            return Err(Refusal::forbidden(StatusCode::FORBIDDEN, "a client certificate is needed"));
        }
        if !route::changes(method) {
            return Ok(());
        }
        let checked = guard.check(headers, caller.has_certificate, caller.local);
        checked.map_err(|forbidden| explain(&forbidden))
    }

    async fn read(&self, body: Incoming) -> Result<Bytes, Refusal> {
        Ok(read_body(body, self.body, &mut self.buffer.reserve(), MAX_BUFFER).await?)
    }

    async fn names(&self, headers: &HeaderMap, query: Query) -> Result<Response<Content>, Refusal> {
        let index = |names: &reception::backend::Names| names.index;
        let lens = Lens { index, render: Arc::new(form::names) };
        self.look(self.views.names(), lens, headers, query).await
    }

    async fn services(
        &self,
        name: &Name,
        headers: &HeaderMap,
        query: Query,
    ) -> Result<Response<Content>, Refusal> {
        let using = self.views.open(name).map_err(|TooMany { most }| {
            Refusal::full(format!("{most} lists are watched already (--max-watches): ask again when one has been idle for --watch-idle"))
        })?;
        let of = name.clone();
        let index = |list: &reception::Snapshot| list.index;
        let lens = Lens { index, render: Arc::new(move |view| form::list(&of, view)) };
        self.look(using, lens, headers, query).await
    }

    async fn look<T>(
        &self,
        using: Use<T>,
        lens: Lens<T>,
        headers: &HeaderMap,
        query: Query,
    ) -> Result<Response<Content>, Refusal>
    where
        T: Clone + PartialEq + Send + Sync + 'static,
    {
        if wants_events(headers) {
            let held = self.stream_place()?;
            let (heartbeat, drain) = (self.bounds.heartbeat, self.drain.clone());
            return look::stream(using, lens, self.timeout, heartbeat, drain, held).await;
        }
        look::once(using, lens, query, self.timeout, &self.drain, || self.poll_place()).await
    }

    /// What one stream takes until it ends.
    fn stream_place(&self) -> Result<impl Send + 'static, Refusal> {
        let place = self.streams.clone().try_acquire_owned().map_err(|_| {
            Refusal::full("there are as many event streams as may be (--max-streams): poll instead")
        })?;
        Ok((place, Counted::new(&self.counters.streams), self.drain.guard()))
    }

    /// What one long poll takes while it waits.
    fn poll_place(&self) -> Result<impl Send + 'static, Refusal> {
        let place = self.polls.clone().try_acquire_owned().map_err(|_| {
            Refusal::full("as many long polls wait as may (--max-polls): ask again later, or without wait")
        })?;
        Ok((place, Counted::new(&self.counters.polls)))
    }

    async fn put(&self, key: &Key, body: &[u8]) -> Result<Response<Content>, Refusal> {
        let (service, ttl) = body::put(key, body, self.ttl)?;
        let kept = self.records.put(service.clone(), ttl).await.map_err(|Full| self.full())?;
        if kept.new && kept.registered {
            self.see(&service).await;
        }
        Ok(kept_answer(key, &kept))
    }

    /// Waits until the list has it, where it is watched: whoever registers finds itself. A store that is away, or an instance that
    /// the store does not show yet, does not hold it up for long.
    async fn see(&self, service: &Service) {
        let Some(mut watcher) = self.views.peek(&service.name) else { return };
        let shown = async {
            while let Some(view) = watcher.next().await {
                if view.is_stale() || view.services().contains(&service) {
                    return;
                }
            }
        };
        tokio::select! {
            () = shown => {}
            () = tokio::time::sleep(self.timeout) => {}
            () = self.drain.draining() => {}
        }
    }

    async fn heartbeat(&self, key: &Key) -> Result<Response<Content>, Refusal> {
        let kept = self.records.heartbeat(key).await;
        kept.map(|kept| kept_answer(key, &kept)).ok_or_else(|| {
            Refusal::not_found(
                "this agent does not hold this instance, or no more: register it again with PUT",
            )
        })
    }

    async fn delete(&self, key: &Key) -> Result<Response<Content>, Refusal> {
        if self.records.delete(key).await {
            return Ok(answer::done());
        }
        Err(Refusal::not_found(
            "this agent does not hold this instance: only whoever registered it can take it away",
        ))
    }

    async fn leader(&self, name: &Name) -> Result<Response<Content>, Refusal> {
        let leader = self.client.leader(name).await;
        let leader = leader
            .map_err(|error| Refusal::unanswered(format!("the leader cannot be asked for: {error}")))?;
        Ok(answer::ok(&form::leader(name, leader.as_ref())))
    }

    async fn stand(&self, name: &Name, body: &[u8]) -> Result<Response<Content>, Refusal> {
        let (service, brief, ttl) = body::stand(name.as_str(), body, self.ttl)?;
        let stood = self.candidates.stand(service, brief, ttl).await.map_err(|Full| self.full())?;
        let Some(stood) = stood else {
            let sentence =
                "this id stands with another address, port or attributes: DELETE it first, or leave them out";
            return Err(Refusal::new(StatusCode::CONFLICT, sentence));
        };
        if let (None, Some(why)) = (stood.leads, stood.trouble) {
            return Err(Refusal::unanswered(format!("not in the line: {why}")));
        }
        let (token, time) = stood.leads.unwrap_or_default();
        let mut response = answer::ok(&json!({ "leader": stood.leads.is_some(), "token": token }));
        if stood.leads.is_some() {
            response.headers_mut().insert(LEADER_FOR, millis(time).into());
        }
        Ok(response)
    }

    async fn resign(&self, key: &Key) -> Result<Response<Content>, Refusal> {
        if self.candidates.resign(key).await {
            return Ok(answer::done());
        }
        Err(Refusal::not_found("this id does not stand for election by this agent"))
    }

    fn full(&self) -> Refusal {
        if self.drain.is_draining() {
            return Refusal::full("this agent is ending");
        }
        Refusal::full(format!(
            "this agent holds {} instances and candidates already (--max-registrations)",
            self.bounds.registrations
        ))
    }
}

/// 200 once the store has it; 202 while it is still tried.
fn kept_answer(key: &Key, kept: &Kept) -> Response<Content> {
    let (name, id) = key;
    let mut value =
        json!({ "name": name, "id": id, "registered": kept.registered, "ttl_ms": millis(kept.ttl) });
    if let (Some(why), serde_json::Value::Object(fields)) = (&kept.trouble, &mut value) {
        fields.insert("error".to_owned(), json!(why));
    }
    answer::answer(if kept.registered { StatusCode::OK } else { StatusCode::ACCEPTED }, &value)
}

fn wants_events(headers: &HeaderMap) -> bool {
    let accepted = headers.get_all(ACCEPT).iter().filter_map(|value| value.to_str().ok());
    accepted.flat_map(|value| value.split(',')).any(|kind| {
        kind.split(';').next().is_some_and(|kind| kind.trim().eq_ignore_ascii_case("text/event-stream"))
    })
}

fn explain(forbidden: &Forbidden) -> Refusal {
    match forbidden {
        Forbidden::OpenAddress(local) => Refusal::forbidden(
            StatusCode::FORBIDDEN,
            format!(
                "changes are not allowed on {local}: set --api-token-file or --tls-client-ca to know who calls, listen on 127.0.0.1 (--api), or let everybody change things with --insecure-api"
            ),
        ),
        Forbidden::NoCertificate => {
            Refusal::forbidden(StatusCode::FORBIDDEN, "a client certificate is needed")
        }
        Forbidden::NoToken => Refusal::forbidden(
            StatusCode::UNAUTHORIZED,
            "a token is needed: send Authorization: Bearer TOKEN (--api-token-file)",
        ),
        Forbidden::ForeignOrigin(origin) => Refusal::forbidden(
            StatusCode::FORBIDDEN,
            format!("changes are not allowed from pages of another origin, such as {origin}"),
        ),
    }
}
