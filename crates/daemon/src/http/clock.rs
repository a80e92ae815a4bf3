//! Time limits on request heads, without a timer per request.
//!
//! hyper asks its timer for a sleep when it begins to wait for a head and drops the sleep when the
//! head is there. Ours only notes that, a few stores per request; the accept loop looks at the notes
//! of all its connections now and then and ends those that are late.
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use hyper::rt::{Read, ReadBufCursor, Sleep, Timer, Write};

/// What is known of the head that one connection waits for.
#[derive(Debug, Default)]
pub(super) struct HeadClock {
    waiting: AtomicBool,
    begun: AtomicBool,
    /// Counts the heads, so that two of them that look the same are told apart.
    head: AtomicU32,
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

impl HeadClock {
    /// The head that counts and how it stands.
    pub(super) fn stage(&self) -> (u32, Stage) {
        let stage = match (self.waiting.load(Ordering::Relaxed), self.begun.load(Ordering::Relaxed)) {
            (false, _) => Stage::Serving,
            (true, false) => Stage::Idle,
            (true, true) => Stage::Head,
        };
        (self.head.load(Ordering::Relaxed), stage)
    }

    fn wait(&self) {
        // Only the connection's own task writes, so that a load and a store do for an addition.
        self.head.store(self.head.load(Ordering::Relaxed).wrapping_add(1), Ordering::Relaxed);
        self.begun.store(false, Ordering::Relaxed);
        self.waiting.store(true, Ordering::Relaxed);
    }
}

/// The timer that hyper is given.
#[derive(Debug)]
pub(super) struct HeadTimer {
    clock: Arc<HeadClock>,
    /// hyper adds its time limit to it and gives it back to us; nothing else depends on it.
    base: Instant,
}

impl HeadTimer {
    pub(super) fn new(clock: Arc<HeadClock>) -> Self {
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
struct Wait(Arc<HeadClock>);

impl Sleep for Wait {}

impl Future for Wait {
    type Output = ();

    fn poll(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<()> {
        Poll::Pending
    }
}

impl Drop for Wait {
    fn drop(&mut self) {
        self.0.waiting.store(false, Ordering::Relaxed);
    }
}

/// A connection's stream that notes when something was read.
#[derive(Debug)]
pub(super) struct Watched<I> {
    inner: I,
    clock: Arc<HeadClock>,
}

impl<I> Watched<I> {
    pub(super) const fn new(inner: I, clock: Arc<HeadClock>) -> Self {
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
            self.clock.begun.store(true, Ordering::Relaxed);
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
