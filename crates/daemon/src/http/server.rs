//! The accept loop and the watch over its connections.
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use http::{Request, Response};
use http_body::Body;
use hyper::body::Incoming;
use hyper::service::Service;
use hyper_util::rt::TokioExecutor;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::AbortHandle;

use super::bind::Listener;
use super::clock::Clock;
use super::connection::{self, Peer, Shared};
use super::watch::Watch;
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
    /// Time for a client to take some of what is there for it, if only a byte: one that takes
    /// nothing for so long is cut off. An answer that has nothing to send for now may be silent.
    pub send_timeout: Duration,
    /// Bytes of a request's head; more is answered with 431.
    pub max_head_bytes: usize,
    /// Header fields of a request; more is answered with 431.
    pub max_headers: usize,
}

impl Limits {
    /// How many connections may still come.
    pub fn connections(&self) -> usize {
        self.connections.available_permits()
    }

    /// The same with no more than so many connections; not to be called once connections are served.
    #[must_use]
    pub fn at_most(self, connections: usize) -> Self {
        Self { connections: Self::new(self.connections().min(connections)).connections, ..self }
    }

    /// The usual limits with this many connections at a time. Those that come in excess wait until
    /// one ends, most of them in the kernel.
    pub fn new(max_connections: usize) -> Self {
        Self {
            connections: Arc::new(Semaphore::new(max_connections.clamp(1, Semaphore::MAX_PERMITS))),
            header_timeout: Duration::from_secs(10),
            idle_timeout: Duration::from_secs(75),
            send_timeout: Duration::from_secs(60),
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
        S: Service<Request<Incoming>, Response = Response<B>> + Send + 'static,
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
        S: Service<Request<Incoming>, Response = Response<B>> + 'static,
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
        let mut begin = |watch: &mut Watch, stream, addr, permit| {
            let clock = Arc::new(Clock::default());
            let held = Held { _permit: permit, _guard: shared.drain.guard() };
            let task = spawn(Accepted { stream, addr, shared: shared.clone(), clock: clock.clone(), held });
            watch.add(task, clock);
        };
        loop {
            let places = shared.limits.connections.clone();
            tokio::select! {
                biased;
                () = &mut draining => break,
                () = watch.tick() => watch.sweep(false),
                permit = places.acquire_owned(), if waiting.is_some() => {
                    // The semaphore is never closed.
                    if let (Ok(permit), Some((stream, addr))) = (permit, waiting.take()) {
                        begin(&mut watch, stream, addr, permit);
                    }
                }
                accepted = listener.accept(), if waiting.is_none() => match accepted {
                    Ok((stream, addr)) => {
                        backoff.reset();
                        match shared.limits.connections.clone().try_acquire_owned() {
                            Ok(permit) => begin(&mut watch, stream, addr, permit),
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
            begin(&mut watch, stream, addr, permit);
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
    clock: Arc<Clock>,
    held: Held,
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
