//! The accept loop and the watch over its connections.
use std::collections::HashMap;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use http_body::Body;
use hyper::body::Incoming;
use hyper::service::HttpService;
use hyper_util::rt::TokioExecutor;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::AbortHandle;

use super::bind::Listener;
use super::clock::{HeadClock, Stage};
use super::connection::{self, Peer, Shared};
use crate::drain::{Drain, Guard};
use crate::tls::Tls;

type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// What a listener allows its clients. Clones share the count of connections, so that the
/// listeners of several cores have one limit together.
#[derive(Debug, Clone)]
pub struct Limits {
    connections: Arc<Semaphore>,
    /// Time for a head that has begun, and for the TLS handshake.
    pub header_timeout: Duration,
    /// Time for the next request to begin.
    pub idle_timeout: Duration,
    /// Bytes of a request's head; more is answered with 431.
    pub max_head_bytes: usize,
    /// Header fields of a request; more is answered with 431.
    pub max_headers: usize,
}

impl Limits {
    /// The usual limits with this many connections at a time. Those that come in excess wait until
    /// one ends, most of them in the kernel.
    pub fn new(max_connections: usize) -> Self {
        Self {
            connections: Arc::new(Semaphore::new(max_connections.clamp(1, Semaphore::MAX_PERMITS))),
            header_timeout: Duration::from_secs(10),
            idle_timeout: Duration::from_secs(75),
            max_head_bytes: 64 * 1024,
            // So many hyper parses without allocating.
            max_headers: 100,
        }
    }
}

/// A listener that is ready to serve.
#[derive(Debug)]
pub struct Server {
    listener: Listener,
    shared: Shared,
}

impl Server {
    /// Serves this listener within these limits until `drain` begins.
    pub fn new(listener: Listener, limits: Limits, drain: Drain) -> Self {
        Self { listener, shared: Shared { limits, drain, tls: None } }
    }

    /// Speaks TLS where there is a configuration for it.
    #[must_use]
    pub fn with_tls(mut self, tls: Option<Tls>) -> Self {
        self.shared.tls = tls;
        self
    }

    /// Serves with a service per connection, made by `make`, on a runtime of any kind. Ends when
    /// the drain has begun and the last connection is closed, or the drain has expired.
    ///
    /// A connection that was upgraded leaves the server's care: hold a [`Drain::guard`] meanwhile.
    pub async fn serve<S, B>(self, make: impl Fn(&Peer) -> S + Clone + Send + 'static) -> io::Result<()>
    where
        S: HttpService<Incoming, ResBody = B> + Send + 'static,
        S::Error: Into<BoxError>,
        S::Future: Send + 'static,
        B: Body + Send + 'static,
        B::Data: Send,
        B::Error: Into<BoxError>,
    {
        let spawn = move |accepted: Accepted| {
            let make = make.clone();
            let Accepted { stream, addr, shared, clock, held } = accepted;
            let serving = connection::serve(stream, addr, shared, clock, make, TokioExecutor::new());
            tokio::spawn(hold(held, serving)).abort_handle()
        };
        self.accept(spawn).await
    }

    /// Like [`Server::serve`], for services that stay on this thread. Has to run within a
    /// [`tokio::task::LocalSet`] or a local runtime.
    pub async fn serve_local<S, B>(self, make: impl Fn(&Peer) -> S + Clone + 'static) -> io::Result<()>
    where
        S: HttpService<Incoming, ResBody = B> + 'static,
        S::Error: Into<BoxError>,
        S::Future: 'static,
        B: Body + 'static,
        B::Error: Into<BoxError>,
    {
        let spawn = move |accepted: Accepted| {
            let make = make.clone();
            let Accepted { stream, addr, shared, clock, held } = accepted;
            let serving = connection::serve(stream, addr, shared, clock, make, LocalExecutor);
            tokio::task::spawn_local(hold(held, serving)).abort_handle()
        };
        self.accept(spawn).await
    }

    async fn accept(self, mut spawn: impl FnMut(Accepted) -> AbortHandle) -> io::Result<()> {
        let Self { listener, shared } = self;
        let listener = TcpListener::from_std(listener.socket)?;
        let mut watch = Watch::new(&shared.limits);
        let mut backoff = Backoff::default();
        let mut draining = std::pin::pin!(shared.drain.draining());
        // A connection that waits for a place. Whoever waits for a connection holds no place, or
        // listeners with one limit would keep each other from the last ones.
        let mut waiting: Option<(TcpStream, SocketAddr)> = None;
        loop {
            let places = shared.limits.connections.clone();
            tokio::select! {
                biased;
                () = &mut draining => break,
                () = watch.tick() => watch.sweep(false),
                permit = places.acquire_owned(), if waiting.is_some() => {
                    // The semaphore is never closed.
                    if let (Ok(permit), Some((stream, addr))) = (permit, waiting.take()) {
                        watch.add(&shared, stream, addr, permit, &mut spawn);
                    }
                }
                accepted = listener.accept(), if waiting.is_none() => match accepted {
                    Ok((stream, addr)) => {
                        backoff.reset();
                        match shared.limits.connections.clone().try_acquire_owned() {
                            Ok(permit) => watch.add(&shared, stream, addr, permit, &mut spawn),
                            Err(_) => waiting = Some((stream, addr)),
                        }
                    }
                    Err(error) => backoff.after(&error, &shared.drain).await,
                },
            }
        }
        // Connections that the kernel has accepted for us would be reset when the socket closes.
        let mut next = waiting.map(Ok);
        while let Some(Ok((stream, addr))) = next {
            let Ok(permit) = shared.limits.connections.clone().try_acquire_owned() else { break };
            watch.add(&shared, stream, addr, permit, &mut spawn);
            next = at_once(listener.accept()).await;
        }
        drop(listener);
        watch.finish(&shared.drain).await;
        Ok(())
    }
}

/// The output of a future that is ready now.
async fn at_once<T>(future: impl Future<Output = T>) -> Option<T> {
    tokio::select! {
        biased;
        output = future => Some(output),
        () = std::future::ready(()) => None,
    }
}

/// What a connection counts against until it ends.
struct Held {
    _permit: OwnedSemaphorePermit,
    _guard: Guard,
}

async fn hold(held: Held, serving: impl Future<Output = ()>) {
    serving.await;
    drop(held);
}

struct Accepted {
    stream: TcpStream,
    addr: SocketAddr,
    shared: Shared,
    clock: Arc<HeadClock>,
    held: Held,
}

/// The connections of one accept loop, and since when each stands where it stands.
struct Watch {
    header_timeout: Duration,
    idle_timeout: Duration,
    interval: Duration,
    next_tick: Option<tokio::time::Instant>,
    connections: HashMap<u64, Watched>,
    next: u64,
}

struct Watched {
    task: AbortHandle,
    clock: Arc<HeadClock>,
    stage: (u32, Stage),
    since: Instant,
}

impl Watch {
    fn new(limits: &Limits) -> Self {
        let shortest = limits.header_timeout.min(limits.idle_timeout);
        let interval = (shortest / 20).clamp(Duration::from_millis(5), Duration::from_millis(500));
        let (header_timeout, idle_timeout) = (limits.header_timeout, limits.idle_timeout);
        Self { header_timeout, idle_timeout, interval, next_tick: None, connections: HashMap::new(), next: 0 }
    }

    fn add(
        &mut self,
        shared: &Shared,
        stream: TcpStream,
        addr: SocketAddr,
        permit: OwnedSemaphorePermit,
        spawn: &mut impl FnMut(Accepted) -> AbortHandle,
    ) {
        let clock = Arc::new(HeadClock::default());
        let held = Held { _permit: permit, _guard: shared.drain.guard() };
        let task = spawn(Accepted { stream, addr, shared: shared.clone(), clock: clock.clone(), held });
        let watched = Watched { task, clock, stage: (0, Stage::Serving), since: Instant::now() };
        self.connections.insert(self.next, watched);
        self.next += 1;
        let first_tick = || tokio::time::Instant::now() + self.interval;
        self.next_tick.get_or_insert_with(first_tick);
    }

    /// Resolves when it is time for a sweep; never while there is nothing to sweep.
    async fn tick(&self) {
        match self.next_tick {
            Some(at) => tokio::time::sleep_until(at).await,
            None => std::future::pending().await,
        }
    }

    /// Forgets what has ended, and ends what is late. While draining, who has not begun a request
    /// is late: some clients open a second connection just in case and would hold up the end.
    fn sweep(&mut self, draining: bool) {
        let now = Instant::now();
        let (header, idle) = (self.header_timeout, self.idle_timeout);
        let idle = if draining { self.interval.min(idle) } else { idle };
        self.connections.retain(|_, watched| {
            if watched.task.is_finished() {
                return false;
            }
            let stage = watched.clock.stage();
            if stage != watched.stage {
                watched.stage = stage;
                watched.since = now;
                return true;
            }
            let waited = now - watched.since;
            let late = match stage.1 {
                Stage::Serving => false,
                Stage::Idle => waited >= idle,
                Stage::Head => waited >= header,
            };
            if late {
                watched.task.abort();
            }
            !late
        });
        let any = !self.connections.is_empty();
        self.next_tick = any.then(|| tokio::time::Instant::now() + self.interval);
    }

    /// Waits for the last connection, and drops those that outlast the drain.
    async fn finish(mut self, drain: &Drain) {
        let mut expired = std::pin::pin!(drain.expired());
        // Short from here on, so that the end is not held up by our own slowness to notice it.
        self.interval = self.interval.min(Duration::from_millis(20));
        self.next_tick = Some(tokio::time::Instant::now());
        while self.next_tick.is_some() {
            tokio::select! {
                () = self.tick() => self.sweep(true),
                () = &mut expired => break,
            }
        }
        self.connections.values().for_each(|watched| watched.task.abort());
    }
}

/// Pauses after accept errors such as EMFILE, which come back at once as long as they last.
#[derive(Default)]
struct Backoff {
    pause: Duration,
}

impl Backoff {
    fn reset(&mut self) {
        self.pause = Duration::ZERO;
    }

    async fn after(&mut self, error: &io::Error, drain: &Drain) {
        use io::ErrorKind::{ConnectionAborted, ConnectionReset, Interrupted};
        // The client went away before we came to it.
        if matches!(error.kind(), ConnectionAborted | ConnectionReset | Interrupted) {
            return;
        }
        if self.pause.is_zero() {
            tracing::error!("cannot accept connections: {error}");
        }
        self.pause = (self.pause * 2).clamp(Duration::from_millis(10), Duration::from_secs(1));
        tokio::select! {
            () = tokio::time::sleep(self.pause) => {}
            () = drain.draining() => {}
        }
    }
}

/// Runs the tasks of HTTP/2 streams on this thread.
#[derive(Debug, Clone, Copy)]
pub(super) struct LocalExecutor;

impl<F> hyper::rt::Executor<F> for LocalExecutor
where
    F: Future<Output = ()> + 'static,
{
    fn execute(&self, future: F) {
        tokio::task::spawn_local(future);
    }
}
