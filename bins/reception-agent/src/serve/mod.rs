//! `serve`: the agent of a host, for its programs.
//!
//! | module | what it does |
//! | --- | --- |
//! | [`api`] | the HTTP API |
//! | [`views`] | lists that are kept up to date |
//! | [`records`], [`candidates`] | instances and candidates that are held for callers; [`posts`]: one task for each |
//! | [`feed`] | what files and proxies see |

pub mod api;
pub mod candidates;
pub mod feed;
pub mod metrics;
pub mod posts;
pub mod records;
pub mod views;

use std::convert::Infallible;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::Context;
use daemon::http::{Buffer, Guard, Listener, Peer, Server, bind};
use daemon::lifecycle::Lifecycle;
use daemon::log::log_listening;
use daemon::readiness::ConditionHandle;
use daemon::tls::{Tls, TlsFiles};
use daemon::{Failure, Start};
use http::Request;
use http_body_util::{Either, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use tokio::sync::{Semaphore, watch};

use crate::config::{Config, ServeConfig};
use crate::elect::Terms;
use crate::trouble::{self, Trouble};
use api::{Api, Caller};
use candidates::Candidates;
use feed::Feeds;
use metrics::Counters;
use posts::Posts;
use records::Records;
use views::Views;

/// How often it is looked at what is idle, and what is stale.
const LOOK: Duration = Duration::from_millis(500);

/// Serves until it is told to end.
///
/// # Errors
/// What kept it from starting.
pub fn run(start: Start<Config>) -> anyhow::Result<()> {
    let Some(serve) = &start.config.serve else { return Err(Failure::usage("serve is needed").into()) };
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let ended = runtime.block_on(async {
        let listener = bind(&serve.api)?;
        let tls = serve
            .tls
            .as_ref()
            .map(TlsFiles::load)
            .transpose()
            .context("the API's certificate")?
            .map(Tls::new);
        let lifecycle = Lifecycle::new(&start)?;
        let (guard, watched) = watch::channel(serve.guard.clone());
        let api = Arc::new(open(&start.config, serve, &lifecycle, watched));
        let mut feeds = Feeds::start(&api.views, serve.data_dir.clone(), &lifecycle);
        feeds
            .apply(serve.render.clone(), serve.spawn.clone())
            .map_err(|error| Failure::code(error.exit_code(), error.to_string()))?;
        tokio::spawn(look(api.clone(), lifecycle.readiness.condition("backend", false)));
        listen(listener, serve, &api, &lifecycle, tls.as_ref());
        let live = Live { guard, tls, feeds: Mutex::new(feeds) };
        lifecycle.run(|new: Config, _| live.apply(new)).await;
        live.feeds.into_inner().unwrap_or_else(PoisonError::into_inner).end().await;
        Ok(())
    });
    runtime.shutdown_background();
    ended
}

fn open(config: &Config, serve: &ServeConfig, lifecycle: &Lifecycle, guard: watch::Receiver<Guard>) -> Api {
    let (client, bounds, counters) = (config.client.clone(), serve.bounds, Counters::default());
    lifecycle
        .metrics
        .register(|registry| counters.register(registry.sub_registry_with_prefix("reception_agent")));
    let places = Arc::new(Semaphore::new(bounds.registrations.min(Semaphore::MAX_PERMITS)));
    let drain = lifecycle.drain.clone();
    let (timeout, terms) = (config.timeout, Terms::of(config.ttl, Duration::ZERO));
    let held = Posts::new(places.clone(), drain.clone());
    let standing = Posts::new(places, drain.clone());
    let records = Records::new(held, client.clone(), timeout, drain.clone(), counters.clone());
    Api {
        views: Views::new(client.clone(), bounds.watch_idle, bounds.watches),
        records: records.clone(),
        candidates: Candidates::new(
            standing,
            client.clone(),
            records,
            terms,
            timeout,
            drain.clone(),
            counters.clone(),
        ),
        client,
        guard,
        body: serve.body,
        buffer: Buffer::default(),
        bounds,
        streams: Arc::new(Semaphore::new(bounds.streams.min(Semaphore::MAX_PERMITS))),
        polls: Arc::new(Semaphore::new(bounds.polls.min(Semaphore::MAX_PERMITS))),
        ttl: config.ttl,
        timeout,
        counters,
        drain,
    }
}

fn listen(listener: Listener, serve: &ServeConfig, api: &Arc<Api>, lifecycle: &Lifecycle, tls: Option<&Tls>) {
    let local = listener.addr();
    log_listening("api", local);
    let server = Server::new(listener, serve.limits.clone(), lifecycle.drain.clone()).with_tls(tls.cloned());
    let (api, admin) = (api.clone(), lifecycle.admin.clone());
    let make = move |peer: &Peer| {
        let (api, admin) = (api.clone(), admin.clone());
        let has_certificate = peer.tls.as_ref().is_some_and(|tls| tls.certificate.is_some());
        let caller = Caller { peer: peer.addr, local, has_certificate };
        service_fn(move |request: Request<Incoming>| {
            let (api, admin) = (api.clone(), admin.clone());
            async move {
                let response = match admin.respond(request.method(), request.uri().path()) {
                    Some(response) => response.map(|body| Either::Left(Full::new(body))),
                    None => api.answer(request, caller).await,
                };
                Ok::<_, Infallible>(response)
            }
        })
    };
    tokio::spawn(async move {
        if let Err(error) = server.serve(make).await {
            tracing::error!(%error, "the API's listener ended");
        }
    });
}

/// Lets go of idle lists, and tells how the others are.
async fn look(api: Arc<Api>, condition: ConditionHandle) {
    let (begin, mut trouble) = (tokio::time::Instant::now(), Trouble::default());
    loop {
        api.views.sweep();
        let health = api.views.health();
        let count = |number: usize| i64::try_from(number).unwrap_or(i64::MAX);
        api.counters.watches.set(count(health.watched));
        api.counters.stale.set(count(health.stale));
        api.counters.instances.set(count(api.records.count()));
        api.counters.candidates.set(count(api.candidates.count()));
        let detail = match &health.why {
            None if !health.reached => "the store has not answered yet".to_owned(),
            None => format!("{} lists are up to date", health.watched),
            Some(why) => format!("{} of {} lists are not confirmed: {why}", health.stale, health.watched),
        };
        condition.set(health.reached && health.why.is_none(), detail);
        trouble::log(trouble.see(begin.elapsed(), health.why), "reading lists");
        tokio::time::sleep(LOOK).await;
    }
}

/// What a reload changes.
struct Live {
    guard: watch::Sender<Guard>,
    tls: Option<Tls>,
    feeds: Mutex<Feeds>,
}

impl Live {
    /// What can fail comes first, so that a refusal leaves everything as it was.
    fn apply(&self, new: Config) -> Result<(), String> {
        let Some(serve) = new.serve else { return Ok(()) };
        let files = serve.tls.as_ref().map(TlsFiles::load).transpose().map_err(|error| error.to_string())?;
        if files.is_some() != self.tls.is_some() {
            return Err("TLS begins and ends with a restart".to_owned());
        }
        let mut feeds = self.feeds.lock().unwrap_or_else(PoisonError::into_inner);
        feeds.apply(serve.render, serve.spawn).map_err(|error| error.to_string())?;
        if let (Some(tls), Some(files)) = (&self.tls, files) {
            tls.replace(files);
        }
        self.guard.send_replace(serve.guard);
        Ok(())
    }
}
