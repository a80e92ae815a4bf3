//! Work that goes on when nobody waits for it any more.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

/// A future that is finished as a task of its own when it is dropped half done: a client that sent
/// an update and went away has still sent it. It has to be polled within a local task set.
pub struct Outlasting<F: Future + 'static>(Option<Pin<Box<F>>>);

impl<F: Future + 'static> Outlasting<F> {
    /// Has `work` outlast whoever waits for it.
    pub fn new(work: F) -> Self {
        Self(Some(Box::pin(work)))
    }
}

impl<F: Future + 'static> Future for Outlasting<F> {
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        let Some(work) = &mut self.0 else { return Poll::Pending };
        let output = ready!(work.as_mut().poll(cx));
        self.0 = None;
        Poll::Ready(output)
    }
}

impl<F: Future + 'static> Drop for Outlasting<F> {
    fn drop(&mut self) {
        if let Some(work) = self.0.take() {
            tokio::task::spawn_local(async move { drop(work.await) });
        }
    }
}
