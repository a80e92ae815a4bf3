//! What is noted of a connection's progress, so that no request, read or write needs a timer.
//!
//! hyper asks its timer for a sleep when it begins to wait for a head and drops the sleep when the
//! head is there. Ours only notes that; the socket notes what goes out, and HTTP/2 its streams. A few
//! stores each: the accept loop looks at the notes of all its connections now and then and ends
//! those that are late.
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering::Relaxed};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use hyper::rt::{Read, ReadBufCursor, Sleep, Timer, Write};
use hyper_util::rt::TokioTimer;
use tokio::sync::Notify;

/// The notes of one connection.
#[derive(Debug, Default)]
pub(super) struct Clock {
    waiting: AtomicBool,
    begun: AtomicBool,
    /// Counts the heads, so that two of them that look the same are told apart.
    head: AtomicU32,
    /// The socket takes no more bytes at the moment.
    full: AtomicBool,
    /// Bytes that the socket took.
    sent: AtomicU64,
    http2: AtomicBool,
    /// HTTP/2 requests that are being served.
    open: AtomicU32,
    /// Those of them whose next piece the client has given no room for.
    held: AtomicU32,
    /// Counts the pieces that were held and then went out.
    moved: AtomicU32,
    leave: Notify,
}

/// How a connection stands with its next head.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stage {
    /// A request is being served.
    Serving,
    /// Nothing of the next head has come.
    Idle,
    /// Some of the head has come.
    Head,
}

impl Clock {
    /// The head that counts and how it stands.
    pub(super) fn stage(&self) -> (u32, Stage) {
        let waiting = self.waiting.load(Relaxed) && self.open.load(Relaxed) == 0;
        let stage = match (waiting, self.begun.load(Relaxed)) {
            (false, _) => Stage::Serving,
            (true, false) => Stage::Idle,
            (true, true) => Stage::Head,
        };
        (self.head.load(Relaxed), stage)
    }

    /// `None` while nothing waits for the client to take it, else a number that changes when some of
    /// it goes out.
    pub(super) fn unsent(&self) -> Option<u64> {
        let sent = self.sent.load(Relaxed);
        if self.full.load(Relaxed) {
            return Some(sent);
        }
        // An HTTP/2 client without room for answers may still read its pings: those few bytes are
        // no progress, a KiB of anything is.
        let moved = || u64::from(self.moved.load(Relaxed)) + (sent >> 10);
        (self.held.load(Relaxed) > 0).then(moved)
    }

    pub(super) fn is_http2(&self) -> bool {
        self.http2.load(Relaxed)
    }

    /// From here on heads are those of HTTP/2: the first thing to come is its preface.
    pub(super) fn begin_http2(&self) {
        self.http2.store(true, Relaxed);
        self.wait();
        self.begun.store(true, Relaxed);
    }

    /// A request of HTTP/2 is served until this is dropped.
    pub(super) fn open_stream(self: &Arc<Self>) -> OpenStream {
        self.head.fetch_add(1, Relaxed);
        self.open.fetch_add(1, Relaxed);
        OpenStream { clock: self.clone(), held: false }
    }

    /// Asks an HTTP/2 connection to take no more requests and to close.
    pub(super) fn ask_to_leave(&self) {
        self.leave.notify_one();
    }

    /// Resolves when that was asked for.
    pub(super) async fn asked_to_leave(&self) {
        self.leave.notified().await;
    }

    /// The socket took so many bytes, or none for now.
    pub(super) fn note_write(&self, written: &Poll<std::io::Result<usize>>) {
        match written {
            // Only the connection's own task writes, so that a load and a store do for an addition.
            Poll::Ready(Ok(bytes)) => {
                self.sent.store(self.sent.load(Relaxed).wrapping_add(*bytes as u64), Relaxed);
                self.full.store(false, Relaxed);
            }
            Poll::Ready(Err(_)) => {}
            Poll::Pending => self.full.store(true, Relaxed),
        }
    }

    fn wait(&self) {
        // Only the connection's own task, as above.
        self.head.store(self.head.load(Relaxed).wrapping_add(1), Relaxed);
        self.begun.store(false, Relaxed);
        self.waiting.store(true, Relaxed);
    }
}

/// A request of HTTP/2 that is being served.
#[derive(Debug)]
pub(super) struct OpenStream {
    clock: Arc<Clock>,
    held: bool,
}

impl OpenStream {
    /// A piece of the answer was handed over: it is held until the next one is asked for.
    pub(super) fn hand_over(&mut self) {
        self.held = true;
        self.clock.held.fetch_add(1, Relaxed);
    }

    /// There was room for what was handed over.
    pub(super) fn passed(&mut self) {
        if std::mem::take(&mut self.held) {
            self.clock.moved.fetch_add(1, Relaxed);
            self.clock.held.fetch_sub(1, Relaxed);
        }
    }
}

impl Drop for OpenStream {
    fn drop(&mut self) {
        self.passed();
        self.clock.open.fetch_sub(1, Relaxed);
    }
}

/// The timer that hyper is given for HTTP/1.
#[derive(Debug)]
pub(super) struct HeadTimer {
    clock: Arc<Clock>,
    /// hyper adds its time limit to it and gives it back to us; nothing else depends on it.
    base: Instant,
}

impl HeadTimer {
    pub(super) fn new(clock: Arc<Clock>) -> Self {
        Self { clock, base: Instant::now() }
    }
}

impl Timer for HeadTimer {
    fn sleep(&self, _: Duration) -> Pin<Box<dyn Sleep>> {
        self.clock.wait();
        Box::pin(Wait(self.clock.clone()))
    }

    fn sleep_until(&self, _: Instant) -> Pin<Box<dyn Sleep>> {
        self.sleep(Duration::ZERO)
    }

    fn now(&self) -> Instant {
        self.base
    }

    fn reset(&self, _: &mut Pin<Box<dyn Sleep>>, _: Instant) {
        self.clock.wait();
    }
}

/// Lives as long as hyper waits for a head; never resolves, the accept loop ends what is late.
struct Wait(Arc<Clock>);

impl Sleep for Wait {}

impl Future for Wait {
    type Output = ();

    fn poll(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<()> {
        Poll::Pending
    }
}

impl Drop for Wait {
    fn drop(&mut self) {
        self.0.waiting.store(false, Relaxed);
    }
}

/// The timer that hyper is given for HTTP/2, where it times pings. hyper first asks it for the time
/// when the client's preface is there, which nothing else tells.
#[derive(Debug)]
pub(super) struct PrefaceTimer {
    clock: Arc<Clock>,
    inner: TokioTimer,
}

impl PrefaceTimer {
    pub(super) fn new(clock: Arc<Clock>) -> Self {
        Self { clock, inner: TokioTimer::new() }
    }
}

impl Timer for PrefaceTimer {
    fn sleep(&self, duration: Duration) -> Pin<Box<dyn Sleep>> {
        self.inner.sleep(duration)
    }

    fn sleep_until(&self, deadline: Instant) -> Pin<Box<dyn Sleep>> {
        self.inner.sleep_until(deadline)
    }

    fn now(&self) -> Instant {
        self.clock.begun.store(false, Relaxed);
        self.inner.now()
    }

    fn reset(&self, sleep: &mut Pin<Box<dyn Sleep>>, new_deadline: Instant) {
        self.inner.reset(sleep, new_deadline);
    }
}

/// A connection of HTTP/1 that notes when something was read.
#[derive(Debug)]
pub(super) struct Watched<I> {
    inner: I,
    clock: Arc<Clock>,
}

impl<I> Watched<I> {
    pub(super) const fn new(inner: I, clock: Arc<Clock>) -> Self {
        Self { inner, clock }
    }
}

impl<I: Read + Unpin> Read for Watched<I> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: ReadBufCursor<'_>,
    ) -> Poll<std::io::Result<()>> {
        let read = Pin::new(&mut self.inner).poll_read(context, buffer);
        if read.is_ready() {
            self.clock.begun.store(true, Relaxed);
        }
        read
    }
}

impl<I: Write + Unpin> Write for Watched<I> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<std::io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(context)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[std::io::IoSlice<'_>],
    ) -> Poll<std::io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write_vectored(context, slices)
    }
}
