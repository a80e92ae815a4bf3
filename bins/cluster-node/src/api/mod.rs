//! The HTTP API.
//!
//! | module | what it does |
//! | --- | --- |
//! | [`route`] | what is asked for; pure |
//! | [`access`], [`limiter`] | who may call; how often somebody may guess; pure |
//! | [`stream`] | events as they come |
//! | [`refusal`], [`answer`] | what is answered |

pub mod access;
pub mod answer;
pub mod limiter;
pub mod refusal;
pub mod route;
pub mod stream;

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use bytes::Bytes;
use cluster::{ApiCall, Event, Manager, Payload, Receipt, Target};
use daemon::drain::Drain;
use daemon::http::{BodyLimits, Buffer, read_body};
use http::header::{CONTENT_TYPE, HeaderMap, SET_COOKIE};
use http::request::Parts;
use http::{HeaderValue, Method, Request, Response};
use hyper::body::Incoming;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;
use serde_json::{Value, json};
use tokio::sync::{Semaphore, mpsc, watch};

use crate::config;
use crate::event::{self, object};
use crate::ring::Ring;
use crate::run::live::Live;
use crate::run::states;
use access::{Access, COOKIE_NAME, Caller};
use answer::Content;
use limiter::Limiter;
use refusal::{Cause, Refusal};
use route::{Route, is_read};

/// The longest body of a call that is no message.
const LONGEST_CALL: u64 = 64 * 1024;
/// The longest name that somebody may log in by.
const LONGEST_NAME: usize = 128;
/// `Last-Event-ID`.
const LAST_EVENT_ID: &str = "last-event-id";

/// What is counted of the API.
#[derive(Clone, Debug, Default)]
pub struct Counters {
    /// Calls that were not allowed.
    pub forbidden: Counter,
    /// Calls that a bound stood against.
    pub refused: Counter,
    /// Logins with a wrong password.
    pub failed_logins: Counter,
    /// Event streams now.
    pub streams: Gauge,
    /// Events that their readers were too slow for.
    pub left_out: Counter,
}

impl Counters {
    /// Makes them visible.
    pub fn register(&self, registry: &mut Registry) {
        let counters = [
            ("api_forbidden", "Calls that were not allowed", &self.forbidden),
            ("api_refused", "Calls refused because a bound was reached", &self.refused),
            ("api_failed_logins", "Logins with a wrong password", &self.failed_logins),
            ("stream_events_left_out", "Events that readers of streams were too slow for", &self.left_out),
        ];
        for (name, help, counter) in counters {
            registry.register(name, help, counter.clone());
        }
        registry.register("streams", "Event streams", self.streams.clone());
    }
}

/// What the API works on.
pub struct Api {
    /// The cluster.
    pub manager: Arc<Manager>,
    /// Who may call.
    pub access: watch::Receiver<Arc<Access>>,
    /// What changes while the node runs.
    pub live: Arc<Live>,
    /// Events.
    pub ring: Ring,
    /// Calls for this very node.
    pub own: mpsc::Sender<Event>,
    /// Failed logins.
    pub limiter: Mutex<Limiter>,
    /// Memory for bodies.
    pub buffer: Buffer,
    /// How much of it.
    pub max_buffer: u64,
    /// How long a body may pause.
    pub body_timeout: Duration,
    /// Places for event streams.
    pub streams: Arc<Semaphore>,
    /// What is counted.
    pub counters: Counters,
    /// Says when to end.
    pub drain: Drain,
}

impl Api {
    /// Answers one request.
    pub async fn answer(&self, request: Request<Incoming>, caller: Caller) -> Response<Content> {
        let (head, body) = request.into_parts();
        let answered = self.act(&head, body, caller).await;
        let response = answered.unwrap_or_else(|refusal| {
            match refusal.cause {
                Cause::Caller => {}
                Cause::Forbidden => drop(self.counters.forbidden.inc()),
                Cause::Bound => drop(self.counters.refused.inc()),
            }
            answer::refused(&refusal)
        });
        let (method, path, status) = (&head.method, head.uri.path(), response.status().as_u16());
        tracing::debug!(peer = %caller.peer, %method, path, status, "API request");
        response
    }

    async fn act(&self, head: &Parts, body: Incoming, caller: Caller) -> Result<Response<Content>, Refusal> {
        let route = Route::parse(head.uri.path(), self.manager.name())?;
        route.check(&head.method)?;
        let (access, now) = (self.access.borrow().clone(), SystemTime::now());
        if route == Route::Login {
            return self.log_in(&access, head, body, caller).await;
        }
        let who = if is_read(&head.method) {
            access.may_look(&head.headers, caller, now)?;
            String::new()
        } else {
            access.may_change(&head.headers, caller, now)?
        };
        match route {
            Route::Names => Ok(answer::ok(&json!([self.manager.name()]))),
            Route::Cluster => Ok(answer::ok(&states::cluster(&self.manager))),
            Route::Events => self.events(&head.method, &head.headers),
            Route::Broadcast => self.send(Target::Cluster, head, body).await,
            Route::Send(node) => self.send(Target::Node(node.into()), head, body).await,
            Route::Admin { node, action } => {
                let data = self.read(body, self.max_message()).await?;
                self.admin(&who, &node, &action, data)
            }
            Route::Node(name) if head.method == Method::DELETE => {
                self.manager.remove_node(&name)?;
                tracing::info!(by = who, peer = name, "a peer was removed");
                Ok(answer::ok(&json!({ "name": name })))
            }
            Route::Node(name) => self.put_node(&who, &name, &self.read(body, LONGEST_CALL).await?),
            Route::Settings if is_read(&head.method) => Ok(answer::ok(&self.live.tunables().to_json())),
            Route::Settings => {
                let changes = object(&self.read(body, LONGEST_CALL).await?).map_err(Refusal::bad)?;
                let tunables = self.live.change(&changes).map_err(Refusal::bad)?;
                let changes = Value::from(changes);
                tracing::info!(by = who, %changes, "settings were changed");
                Ok(answer::ok(&tunables.to_json()))
            }
            Route::Statedump => {
                let dump = states::dump(&self.manager, &self.live.tunables(), &self.ring);
                tracing::info!(by = who, state = %dump, "state");
                Ok(answer::ok(&dump))
            }
            // Answered above.
            Route::Login => Err(Refusal::method("POST")),
        }
    }

    fn max_message(&self) -> u64 {
        self.manager.settings().max_message as u64
    }

    async fn read(&self, body: Incoming, most: u64) -> Result<Bytes, Refusal> {
        let limits = BodyLimits { max_bytes: most, patience: self.body_timeout };
        Ok(read_body(body, limits, &mut self.buffer.reserve(), self.max_buffer).await?)
    }

    // --- logins

    async fn log_in(
        &self,
        access: &Access,
        head: &Parts,
        body: Incoming,
        caller: Caller,
    ) -> Result<Response<Content>, Refusal> {
        let password = access.may_log_in(&head.headers, caller)?;
        let fields = object(&self.read(body, LONGEST_CALL).await?).map_err(Refusal::bad)?;
        let field = |name: &str| {
            let text = fields.get(name).and_then(Value::as_str);
            text.ok_or_else(|| Refusal::bad(format!("the body needs the text '{name}'")))
        };
        let (username, given) = (field("username")?, field("password")?);
        if username.is_empty() || username.chars().count() > LONGEST_NAME {
            return Err(Refusal::bad(format!("a username has 1 to {LONGEST_NAME} characters")));
        }
        let judged = {
            let mut limiter = self.limiter.lock().unwrap_or_else(PoisonError::into_inner);
            limiter.attempt(caller.peer.ip(), Instant::now(), || password.is(given))
        };
        match judged {
            Ok(true) => {}
            Ok(false) => {
                self.counters.failed_logins.inc();
                tracing::warn!(peer = %caller.peer, username, "a login with a wrong password");
                return Err(Refusal::who("the password is wrong"));
            }
            Err(seconds) => {
                let sentence =
                    format!("too many wrong passwords from {}: wait {seconds} s", caller.peer.ip());
                return Err(Refusal::too_often(seconds, sentence));
            }
        }
        let lasts = self.live.tunables().token_duration;
        let (token, expires) = password
            .token(username, SystemTime::now(), lasts)
            .map_err(|error| Refusal::new(http::StatusCode::INTERNAL_SERVER_ERROR, error.to_string()))?;
        tracing::info!(peer = %caller.peer, username, "logged in");
        let mut response = answer::ok(&json!({ "token": token, "expires": event::time(expires) }));
        let secure = if caller.tls { "; Secure" } else { "" };
        let age = lasts.as_secs().max(1);
        let cookie =
            format!("{COOKIE_NAME}={token}; Path=/api; Max-Age={age}; HttpOnly; SameSite=Strict{secure}");
        if let Ok(cookie) = HeaderValue::from_str(&cookie) {
            response.headers_mut().insert(SET_COOKIE, cookie);
        }
        Ok(response)
    }

    // --- messages

    async fn send(&self, target: Target, head: &Parts, body: Incoming) -> Result<Response<Content>, Refusal> {
        let content_type = match head.headers.get(CONTENT_TYPE).map(HeaderValue::to_str) {
            None => None,
            Some(Ok(text)) => Some(text),
            Some(Err(_)) => return Err(Refusal::bad("the Content-Type is not text")),
        };
        let mut payload = Payload::from(self.read(body, self.max_message()).await?);
        if let Some(content_type) = content_type {
            payload = payload.of_type(content_type);
        }
        let Receipt { sequence, accepted, undelivered } = self.manager.try_send(&target, &payload)?;
        let names =
            |names: &cluster::Names| names.iter().map(|name| Value::from(&**name)).collect::<Vec<_>>();
        Ok(answer::ok(&json!({
            "sequence": sequence,
            "accepted": names(&accepted),
            "undelivered": names(&undelivered),
        })))
    }

    fn events(&self, method: &Method, headers: &HeaderMap) -> Result<Response<Content>, Refusal> {
        let reader = match headers.get(LAST_EVENT_ID).map(HeaderValue::to_str) {
            None => self.ring.from_now(),
            Some(Ok(id)) => self.ring.after(id.trim()).map_err(Refusal::bad)?,
            Some(Err(_)) => return Err(Refusal::bad("Last-Event-ID is not text")),
        };
        let place = self
            .streams
            .clone()
            .try_acquire_owned()
            .map_err(|_| Refusal::full("there are as many event streams as may be (--max-streams)"))?;
        if *method == Method::HEAD {
            let (_, none) = mpsc::channel(1);
            return Ok(answer::events(answer::Events(none)));
        }
        let held = (place, Counted::new(&self.counters.streams), self.drain.guard());
        Ok(stream::stream(
            reader,
            self.ring.clone(),
            self.counters.left_out.clone(),
            self.drain.clone(),
            held,
        ))
    }

    // --- nodes

    fn admin(&self, who: &str, node: &str, action: &str, data: Bytes) -> Result<Response<Content>, Refusal> {
        tracing::info!(by = who, node, action, "an action was asked for");
        if node == self.manager.name() {
            if matches!(action, "reconnect" | "admindown" | "adminup") {
                return Err(Refusal::bad(format!(
                    "{action} acts on the link to another node; this is {node}"
                )));
            }
            let call = ApiCall { from: node.into(), action: action.into(), data };
            self.own.try_send(Event::Api(call)).map_err(|_| Refusal::full("too many calls at once"))?;
        } else {
            self.manager.admin(node, action, data)?;
        }
        Ok(answer::ok(&json!({ "node": node, "action": action })))
    }

    fn put_node(&self, who: &str, name: &str, body: &[u8]) -> Result<Response<Content>, Refusal> {
        let fields = object(body).map_err(Refusal::bad)?;
        if let Some(unknown) = fields.keys().find(|key| !matches!(key.as_str(), "addr" | "key")) {
            return Err(Refusal::bad(format!(
                "'{unknown}' is unknown: a node has addr, and key where it has its own"
            )));
        }
        let Some(addr) = fields.get("addr").and_then(Value::as_str) else {
            return Err(Refusal::bad(
                "the body needs the text 'addr', as in {\"addr\":\"tcp://10.0.0.2:9654\"}",
            ));
        };
        let key = match fields.get("key") {
            None | Some(Value::Null) => None,
            Some(Value::String(text)) => Some(text.as_str()),
            Some(_) => return Err(Refusal::bad("'key' is not text")),
        };
        let node = config::node(name, addr, key).map_err(Refusal::bad)?;
        self.manager.add_node(node)?;
        tracing::info!(by = who, peer = name, addr, "a peer was added");
        Ok(answer::ok(&json!({ "name": name, "addr": addr })))
    }
}

/// One more, for as long as it is held.
#[derive(Debug)]
struct Counted(Gauge);

impl Counted {
    fn new(gauge: &Gauge) -> Self {
        gauge.inc();
        Self(gauge.clone())
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.dec();
    }
}
