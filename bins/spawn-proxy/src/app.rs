//! From a configuration to a running proxy, and back to an orderly end.

use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use arc_swap::ArcSwap;
use common::ring::RoundRobin;
use daemon::drain::Drain;
use daemon::http::{Buffer, Limits, Server, bind, bind_per_core};
use daemon::lifecycle::Lifecycle;
use daemon::log::log_listening;
use daemon::settings::Address;
use daemon::{Failure, Start};
use futures_util::FutureExt;
use hyper::service::service_fn;
use tokio::runtime::Handle;
use tokio::sync::{Notify, Semaphore};

use crate::api::{self, Api, ApiConfig};
use crate::config::Config;
use crate::metrics::Metrics;
use crate::nodes::Nodes;
use crate::nodes::full::Pressure;
use crate::proxy::headers::Origin;
use crate::proxy::least::Advances;
use crate::proxy::service;
use crate::proxy::worker::{Spawner, Workers};
use crate::shared::Shared;
use crate::storage;
use crate::watchers::{LogHealth, finish_drains, keep_ready, watch_pressure};

/// How long deliveries that are under way may take to finish at the end.
const LAST_DELIVERIES: Duration = Duration::from_secs(2);
/// How long answers of the API may take after that.
const LAST_ANSWERS: Duration = Duration::from_millis(500);

/// Runs the proxy until it is told to end.
///
/// # Errors
/// What kept it from starting, in one sentence.
pub fn run(start: Start<Config>) -> anyhow::Result<()> {
    let files = raise_file_limit();
    let control = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
    let _inside = control.enter();
    let config = start.config.clone();
    let state = storage::open_data_dir(&config)?;
    let log = storage::open_log(&config)?;
    let proxies = bind_per_core(&address(&config.proxy_address)?, config.workers)?;
    let api_listener = bind(&address(&config.api_address)?)?;
    let api_addr = api_listener.addr();
    let lifecycle = Lifecycle::new(&start)?;

    let (spawner, jobs) = Workers::prepare(config.workers);
    let nodes = Nodes::new(log.clone(), state.clone(), storage::stored_nodes(&state)?, spawner.clone());
    let shared = Arc::new(Shared {
        config: ArcSwap::from_pointee(config.live.clone()),
        nodes,
        ring: RoundRobin::default(),
        log: log.clone(),
        log_health: LogHealth::default(),
        buffer: Buffer::default(),
        pressure: Pressure::default(),
        advances: Advances::default(),
        metrics: Metrics::default(),
        api_url: format!("http://{}", reachable(&config.api_address, api_addr)),
        end: Arc::new(Notify::new()),
    });
    lifecycle.metrics.register(|registry| {
        let registry = registry.sub_registry_with_prefix("spawn_proxy");
        shared.metrics.register(registry);
        registry.register_collector(Box::new(api::collector(shared.clone())));
    });
    let workers = Workers::start(&spawner, jobs, &shared)?;
    control.block_on(async {
        shared.nodes.load(&config.nodes).await.context("cannot bring in the nodes")?;
        place_nodes(&shared).await;
        listen_for_clients(&spawner, proxies, limits(config.limits.clone(), files), &lifecycle);
        let operators = Drain::new();
        listen_for_operators(&shared, api_listener, &config, &lifecycle, &operators);
        log_listening("api", api_addr);
        if api_addr.ip().is_unspecified() && config.live.updates.status_url.is_none() {
            tracing::warn!(
                location = shared.api_url,
                "202 answers point to this host: set updates.status-url to where clients reach the API"
            );
        }
        tokio::spawn(watch_pressure(shared.clone(), config.log.max_pending_bytes));
        tokio::spawn(finish_drains(shared.clone()));
        tokio::spawn(keep_ready(shared.clone(), lifecycle.readiness.clone()));
        let live = shared.clone();
        lifecycle.run(move |config: Config, _| apply(&live, config)).await;
        finish(&shared).await;
        dismiss(&operators).await;
        anyhow::Ok(())
    })?;
    workers.join();
    Ok(())
}

/// Waits until it is known how far each node has come, so that no read goes to one that is behind.
async fn place_nodes(shared: &Shared) {
    let placed = async {
        while !shared
            .nodes
            .table()
            .entries()
            .iter()
            .filter(|entry| entry.node.active)
            .all(|entry| entry.live.is_placed())
        {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    // A log that cannot be read keeps its deliverers trying; clients are served meanwhile.
    let _ = tokio::time::timeout(Duration::from_secs(5), placed).await;
}

fn listen_for_clients(
    spawner: &Spawner,
    listeners: Vec<daemon::http::Listener>,
    limits: Limits,
    lifecycle: &Lifecycle,
) {
    if let Some(first) = listeners.first() {
        log_listening("proxy", first.addr());
    }
    for (number, listener) in listeners.into_iter().enumerate() {
        let (limits, drain) = (limits.clone(), lifecycle.drain.clone());
        spawner.run_on(number, move |worker| {
            let make = move |peer: &daemon::http::Peer| {
                let origin = Rc::new(Origin::new(peer.addr.ip(), peer.tls.is_some()));
                let worker = worker.clone();
                service_fn(move |request| {
                    service::answer(worker.clone(), origin.clone(), request)
                        .map(Ok::<_, std::convert::Infallible>)
                })
            };
            tokio::task::spawn_local(async move {
                if let Err(error) = Server::new(listener, limits, drain).serve_local(make).await {
                    tracing::error!(%error, "a listener ended");
                }
            });
        });
    }
}

fn listen_for_operators(
    shared: &Arc<Shared>,
    listener: daemon::http::Listener,
    config: &Config,
    lifecycle: &Lifecycle,
    drain: &Drain,
) {
    let local = listener.addr();
    let api = Arc::new(Api {
        shared: shared.clone(),
        config: ApiConfig::new(config),
        buffer: Buffer::default(),
        streams: Arc::new(Semaphore::new(api::MAX_STREAMS)),
    });
    let admin = lifecycle.admin.clone();
    let make = move |peer: &daemon::http::Peer| {
        let (api, admin, peer) = (api.clone(), admin.clone(), peer.addr);
        service_fn(move |request: http::Request<hyper::body::Incoming>| {
            let (api, admin) = (api.clone(), admin.clone());
            async move {
                let own_metrics = api::is_own_metrics(request.uri());
                let response = match (own_metrics, admin.respond(request.method(), request.uri().path())) {
                    (false, Some(response)) => response.map(api::ApiBody::of),
                    _ => api::answer(&api, request, peer, local).await,
                };
                Ok::<_, std::convert::Infallible>(response)
            }
        })
    };
    let limits = Limits::new(1024);
    let server = Server::new(listener, limits, drain.clone());
    tokio::spawn(async move {
        if let Err(error) = server.serve(make).await {
            tracing::error!(%error, "the API's listener ended");
        }
    });
}

/// Clients may have three quarters of the open files: requests need connections to nodes too.
fn limits(configured: Limits, files: Option<usize>) -> Limits {
    let possible = files.map_or(usize::MAX, |files| (files / 4 * 3).max(1));
    if possible < configured.connections() {
        tracing::warn!(
            max_connections = possible,
            "max-connections is less than configured: the limit of open files allows no more"
        );
    }
    configured.at_most(possible)
}

/// The nodes first: what the log or the disk refuses leaves everything as it was. The reload counts as
/// done when they are in force.
fn apply(shared: &Shared, config: Config) -> Result<(), String> {
    let Config { nodes, live, .. } = config;
    tokio::task::block_in_place(|| Handle::current().block_on(shared.nodes.load(&nodes)))
        .map_err(|error| format!("the nodes cannot be brought in: {error}"))?;
    shared.config.store(Arc::new(live));
    Ok(())
}

/// Deliveries end, then the log closes. What could not end in time may have been sent: the log is
/// then left open, so that the next start numbers those attempts higher.
async fn finish(shared: &Shared) {
    if tokio::time::timeout(LAST_DELIVERIES, shared.nodes.stop()).await.is_err() {
        tracing::warn!("deliveries were still under way: they will be repeated");
        return;
    }
    if let Err(error) = shared.log.close().await {
        tracing::error!(%error, "the update log was not closed in order; nothing is lost");
    }
}

/// The API outlasts the clients, so that it can be seen how the end goes; then it has its own.
async fn dismiss(operators: &Drain) {
    operators.begin();
    operators.wait_idle(LAST_ANSWERS).await;
    operators.expire();
}

fn address(text: &str) -> anyhow::Result<Address> {
    text.parse().map_err(|error| Failure::configuration(format!("{text}: {error}")).into())
}

/// How the API is reached from this host: the configured name with the port that was chosen.
fn reachable(configured: &str, bound: SocketAddr) -> String {
    match configured.parse::<Address>().ok().filter(|_| !bound.ip().is_unspecified()) {
        Some(address) => address.with_port(bound.port()).to_string(),
        None => format!("127.0.0.1:{}", bound.port()),
    }
}

/// As many open files as the system lets this process have; `None` when there is no limit.
fn raise_file_limit() -> Option<usize> {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    if let Err(error) = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum })
    {
        tracing::warn!(%error, "the limit of open files stays as it is");
    }
    usize::try_from(getrlimit(Resource::Nofile).current?).ok()
}
