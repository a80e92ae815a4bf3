//! From a configuration to a running daemon, and back to an orderly end.

use std::convert::Infallible;
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

use arc_swap::ArcSwap;
use daemon::http::{Buffer, Listener, Peer, Server, bind_per_core};
use daemon::lifecycle::Lifecycle;
use daemon::log::log_listening;
use daemon::settings::Values;
use daemon::tls::{Tls, TlsFiles};
use daemon::{Failure, Start};
use futures_util::FutureExt;
use hyper::service::service_fn;

use crate::config::Config;
use crate::loading::Loading;
use crate::metrics::Metrics;
use crate::server::{Client, Live, Shared, Worker};
use crate::services::watch::{EVERY, watch};
use crate::{diff, lookup};

/// Runs what was asked for: the daemon until it is told to end, or a subcommand.
///
/// # Errors
/// What kept it from starting, or what the subcommand could not do, in one sentence.
pub fn run(start: Start<Config>) -> anyhow::Result<()> {
    match start.subcommand {
        Some("lookup") => look_up(&start),
        Some("diff") => compare(&start),
        _ => serve(&start),
    }
}

fn serve(start: &Start<Config>) -> anyhow::Result<()> {
    let config = &start.config;
    let control = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
    let _inside = control.enter();
    let listeners = bind_per_core(&config.address, config.workers)?;
    let tls = config.tls.as_ref().map(TlsFiles::load).transpose()?.map(Tls::new);
    let live = Live::read(config).map_err(Failure::configuration)?;
    let lifecycle = Lifecycle::new(start)?;
    let loading = Loading::new(config, &lifecycle);
    let shared = Arc::new(Shared {
        catalog: loading.catalog(),
        live: ArcSwap::from_pointee(live),
        buffer: Buffer::default(),
        metrics: Metrics::default(),
        admin: lifecycle.admin.clone(),
    });
    lifecycle.metrics.register(|registry| {
        let registry = registry.sub_registry_with_prefix("keyrouter");
        shared.metrics.register(registry, shared.catalog.clone(), shared.buffer.clone());
    });
    let loading = Arc::new(Mutex::new(loading));
    lock(&loading).start();
    let threads = listen(listeners, config, &lifecycle, &shared, tls.as_ref())?;
    control.block_on(async {
        if config.watch {
            tokio::spawn(follow(loading.clone()));
        }
        lifecycle.run(move |new: Config, _: &Values| apply(&new, &shared, tls.as_ref(), &loading)).await;
    });
    for thread in threads {
        thread.join().map_err(|_| Failure::running("a thread that answers broke"))??;
    }
    Ok(())
}

fn lock(loading: &Mutex<Loading>) -> MutexGuard<'_, Loading> {
    loading.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Takes the file of services whenever its content changes.
async fn follow(loading: Arc<Mutex<Loading>>) {
    let (path, last_read) = {
        let loading = lock(&loading);
        (loading.keeper().path().to_owned(), loading.keeper().last_read())
    };
    let max_size = {
        let loading = loading.clone();
        move || lock(&loading).max_size()
    };
    watch(path, last_read, max_size, EVERY, move |read| {
        tokio::task::block_in_place(|| lock(&loading).take(read))
    })
    .await;
}

/// What can fail comes first, so that a refusal leaves everything as it was. The file of services speaks
/// for itself: a bad one does not keep a new token or certificate from counting.
fn apply(new: &Config, shared: &Shared, tls: Option<&Tls>, loading: &Mutex<Loading>) -> Result<(), String> {
    if tls.is_some() != new.tls.is_some() {
        return Err(
            "tls.cert and tls.key were added or taken away: TLS begins and ends with a restart".into()
        );
    }
    let files = new.tls.as_ref().map(TlsFiles::load).transpose().map_err(|error| error.to_string())?;
    let live = Live::read(new)?;
    if let (Some(tls), Some(files)) = (tls, files) {
        tls.replace(files);
    }
    shared.live.store(Arc::new(live));
    lock(loading).reload(new.reading);
    Ok(())
}

/// One thread per listener, each with a runtime and connections of its own.
fn listen(
    listeners: Vec<Listener>,
    config: &Config,
    lifecycle: &Lifecycle,
    shared: &Arc<Shared>,
    tls: Option<&Tls>,
) -> anyhow::Result<Vec<JoinHandle<std::io::Result<()>>>> {
    if let Some(first) = listeners.first() {
        log_listening("api", first.addr());
    }
    let mut threads = Vec::new();
    for (number, listener) in listeners.into_iter().enumerate() {
        let server =
            Server::new(listener, config.limits.clone(), lifecycle.drain.clone()).with_tls(tls.cloned());
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let shared = shared.clone();
        let run = move || {
            let worker = Rc::new(Worker::new(shared));
            let make = move |peer: &Peer| {
                let (worker, client) = (worker.clone(), Client::new(peer));
                service_fn(move |request| {
                    let worker = worker.clone();
                    async move { worker.answer(client, request).await }.map(Ok::<_, Infallible>)
                })
            };
            tokio::task::LocalSet::new().block_on(&runtime, server.serve_local(make))
        };
        threads.push(std::thread::Builder::new().name(format!("worker-{number}")).spawn(run)?);
    }
    Ok(threads)
}

fn look_up(start: &Start<Config>) -> anyhow::Result<()> {
    let values = start.loaded.values();
    let min: i64 = values.integer("min");
    let argument = |name| start.arguments.get(name).unwrap_or_default();
    lookup::run(
        &start.config.services,
        &start.config.reading,
        argument("service"),
        argument("key").as_bytes(),
        (min, values.opt_integer("max").unwrap_or(min.max(1))),
        &mut std::io::stdout().lock(),
    )
}

fn compare(start: &Start<Config>) -> anyhow::Result<()> {
    let values = start.loaded.values();
    let argument = |name| PathBuf::from(start.arguments.get(name).unwrap_or_default());
    diff::run(
        &argument("old"),
        &argument("new"),
        &start.config.reading,
        values.integer("keys"),
        values.switch("json"),
        &mut std::io::stdout().lock(),
    )
}
