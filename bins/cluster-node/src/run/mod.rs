//! The daemon: a node of the cluster, its API, its applications.
//!
//! | module | what it does |
//! | --- | --- |
//! | [`feed`] | the cluster's events: taken in, kept, acted on, handed on |
//! | [`live`] | what the API and reloads change |
//! | [`states`] | how the cluster stands, as JSON and for Prometheus |

pub mod feed;
pub mod live;
pub mod states;

use std::convert::Infallible;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use anyhow::Context;
use cluster::{Event, Manager};
use daemon::Start;
use daemon::drain::{Drain, Guard};
use daemon::http::{Buffer, Listener, Peer, Server, bind};
use daemon::lifecycle::Lifecycle;
use daemon::log::log_listening;
use daemon::tls::{Tls, TlsFiles};
use http::Request;
use http_body_util::{Either, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use tokio::sync::{Semaphore, mpsc, watch};
use tokio::task::{JoinHandle, block_in_place};
use zmq_link::Link;

use crate::api::access::{Access, Caller};
use crate::api::{self, Api};
use crate::apps::desk::Desk;
use crate::apps::{self, Batch};
use crate::config::{ApiConfig, AppConfig, Config, NodeConfig};
use crate::ring::Ring;
use feed::Feed;
use live::Live;
use states::Observer;

/// Batches of events on their way to applications.
const BATCHES: usize = 4;
/// Calls of the API for this very node.
const OWN_CALLS: usize = 64;
/// How long the link of applications may take to close.
const LINK_END: Duration = Duration::from_millis(500);
/// How long goodbyes may take beyond the drain.
const GOODBYE: Duration = Duration::from_secs(2);
/// How often it is looked at whether requests have finished.
const LOOK: Duration = Duration::from_millis(5);

/// Runs until it is told to end.
///
/// # Errors
/// What kept it from starting.
pub fn run(start: Start<Config>, config: &NodeConfig) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let ended = runtime.block_on(serve(&start, config));
    // What hangs on a resolver must not hold up the end.
    runtime.shutdown_background();
    ended
}

async fn serve(start: &Start<Config>, config: &NodeConfig) -> anyhow::Result<()> {
    let opened = config.api.as_ref().map(Opened::new).transpose()?;
    let mut lifecycle = Lifecycle::new(start)?;
    let manager = Arc::new(manager(config)?);
    let events = manager.events();
    let ring = Ring::new(u64::from(rand::random::<u32>()));
    let (app_counters, api_counters) = (apps::Counters::default(), api::Counters::default());
    lifecycle.metrics.register(|registry| {
        let registry = registry.sub_registry_with_prefix("cluster_node");
        registry.register_collector(Box::new(Observer(Arc::clone(&manager))));
        app_counters.register(registry);
        api_counters.register(registry);
    });
    let quorum = lifecycle.readiness.condition("quorum", false);
    quorum.set(manager.quorum(), states::quorum_detail(&manager));

    let apps = match &config.app {
        Some(app) => Some(Apps::open(app, &manager, app_counters, &lifecycle).await?),
        None => None,
    };
    let (own, own_calls) = mpsc::channel::<Event>(OWN_CALLS);
    let feed = Feed {
        manager: Arc::clone(&manager),
        ring: ring.clone(),
        apps: apps.as_ref().map(|apps| apps.batches.clone()),
        quorum,
        drain: lifecycle.drain.clone(),
    };
    tokio::spawn(feed.run(events, own_calls));
    let bound = manager.listen(config.listen.as_str()).await.context("peers cannot connect (--listen)")?;
    log_listening("link", bound.trim_start_matches("tcp://").parse().context("the link's address")?);

    let live = Arc::new(Live::new(Arc::clone(&manager), config));
    let api = opened.map(|opened| {
        let ready = Ready { manager: &manager, live: &live, ring, own, counters: api_counters };
        opened.serve(ready, &lifecycle)
    });
    let drain_timeout = start.loaded.values().duration("drain-timeout");
    lifecycle.own_end = GOODBYE;
    let left =
        tokio::spawn(leave(manager, apps, drain_timeout, lifecycle.drain.clone(), lifecycle.drain.guard()));
    lifecycle.run(|new: Config, _| reload(&new, &live, api.as_ref())).await;
    // It is over, or it has taken longer than it may.
    left.abort();
    Ok(())
}

/// Once the end has begun: what callers and applications have sent already is taken, what peers have not acknowledged
/// is waited for, then they are told goodbye. The drain is over when that is done.
async fn leave(manager: Arc<Manager>, apps: Option<Apps>, timeout: Duration, drain: Drain, guard: Guard) {
    drain.draining().await;
    let begin = Instant::now();
    // The last one in flight is this very task.
    while drain.in_flight() > 1 && begin.elapsed() < timeout / 2 {
        tokio::time::sleep(LOOK).await;
    }
    if let Some(apps) = apps {
        apps.end().await;
    }
    manager.shutdown(timeout.saturating_sub(begin.elapsed())).await;
    tracing::info!("left the cluster");
    drop(guard);
}

fn manager(config: &NodeConfig) -> anyhow::Result<Manager> {
    let mut builder = Manager::builder(Arc::clone(&config.name)).settings(config.tunables.cluster.clone());
    if let Some(ring) = &config.keyring {
        builder = builder.keyring(ring.clone());
    }
    if let Some(key) = &config.key {
        builder = builder.key(key.clone());
    }
    builder = config.nodes.iter().cloned().fold(builder, cluster::Builder::node);
    Ok(builder.start()?)
}

fn reload(new: &Config, live: &Live, api: Option<&Serving>) -> Result<(), String> {
    let Config::Node(new) = new else { return Ok(()) };
    let prepared = match (api, &new.api) {
        (Some(api), Some(config)) => Some(api.prepare(config)?),
        _ => None,
    };
    block_in_place(|| tokio::runtime::Handle::current().block_on(live.reload(new)))?;
    if let Some(put_in_force) = prepared {
        put_in_force();
    }
    Ok(())
}

/// The desk of applications, and the link under it.
struct Apps {
    link: Link,
    batches: mpsc::Sender<Batch>,
    served: JoinHandle<()>,
}

impl Apps {
    async fn open(
        config: &AppConfig,
        manager: &Arc<Manager>,
        counters: apps::Counters,
        lifecycle: &Lifecycle,
    ) -> anyhow::Result<Self> {
        let link = Link::start("apps")?;
        let router = apps::open(&link, config).await?;
        let (batches, waiting) = mpsc::channel(BATCHES);
        let desk =
            Desk { manager: Arc::clone(manager), most: config.most, patience: config.patience, counters };
        let served = tokio::spawn(desk.serve(router, waiting, lifecycle.drain.clone()));
        Ok(Self { link, batches, served })
    }

    async fn end(self) {
        drop(self.batches);
        // It ends by itself, in a moment.
        let _ = self.served.await;
        self.link.close(LINK_END).await;
    }
}

/// An API that nobody is served by yet.
struct Opened {
    listener: Listener,
    config: ApiConfig,
    tls: Option<Tls>,
    access: Access,
}

/// What an API needs of the rest.
struct Ready<'a> {
    manager: &'a Arc<Manager>,
    live: &'a Arc<Live>,
    ring: Ring,
    own: mpsc::Sender<Event>,
    counters: api::Counters,
}

impl Opened {
    fn new(config: &ApiConfig) -> anyhow::Result<Self> {
        let listener = bind(&config.address)?;
        let tls = config.tls.as_ref().map(TlsFiles::load).transpose().context("the API's certificate")?;
        let access = Access::new(config)?;
        Ok(Self { listener, config: config.clone(), tls: tls.map(Tls::new), access })
    }

    fn serve(self, ready: Ready<'_>, lifecycle: &Lifecycle) -> Serving {
        let Self { listener, config, tls, access } = self;
        let (access, watched) = watch::channel(Arc::new(access));
        let api = Arc::new(Api {
            manager: Arc::clone(ready.manager),
            access: watched,
            live: Arc::clone(ready.live),
            ring: ready.ring,
            own: ready.own,
            limiter: Mutex::default(),
            buffer: Buffer::default(),
            max_buffer: config.max_buffer,
            body_timeout: config.body_timeout,
            streams: Arc::new(Semaphore::new(config.streams.min(Semaphore::MAX_PERMITS))),
            counters: ready.counters,
            drain: lifecycle.drain.clone(),
        });
        let local = listener.addr();
        log_listening("api", local);
        let server =
            Server::new(listener, config.limits.clone(), lifecycle.drain.clone()).with_tls(tls.clone());
        let admin = lifecycle.admin.clone();
        let make = move |peer: &Peer| {
            let (api, admin) = (Arc::clone(&api), admin.clone());
            let has_certificate = peer.tls.as_ref().is_some_and(|tls| tls.certificate.is_some());
            let caller = Caller { peer: peer.addr, local, tls: peer.tls.is_some(), has_certificate };
            service_fn(move |request: Request<Incoming>| {
                let (api, admin) = (Arc::clone(&api), admin.clone());
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
        Serving { access, tls }
    }
}

/// What a reload changes of the API.
struct Serving {
    access: watch::Sender<Arc<Access>>,
    tls: Option<Tls>,
}

/// What a reload will put in force.
type Prepared = Box<dyn FnOnce()>;

impl Serving {
    /// What can fail comes first, so that a refusal leaves everything as it was.
    fn prepare(&self, config: &ApiConfig) -> Result<Prepared, String> {
        let tls = config.tls.as_ref().map(TlsFiles::load).transpose().map_err(|error| error.to_string())?;
        if tls.is_some() != self.tls.is_some() {
            return Err("TLS begins and ends with a restart".to_owned());
        }
        let new = Access::new(config).map_err(|error| error.to_string())?;
        let (own, access) = (self.tls.clone(), self.access.clone());
        Ok(Box::new(move || {
            if let (Some(own), Some(config)) = (own, tls) {
                own.replace(config);
            }
            access.send_replace(Arc::new(new));
        }))
    }
}
