//! A set of sockets under one owner thread.

use std::io;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::sync::oneshot;

use crate::dealer::Dealer;
use crate::error::LinkError;
use crate::handle::Handle;
use crate::key::require_curve;
use crate::options::{DealerOptions, RouterOptions};
use crate::owner::{CloseReport, Command, Desk, Opened, Owner};
use crate::router::Router;
use crate::zap::Zap;

/// A set of sockets with a thread of their own, a libzmq context and a ZAP handler.
///
/// Sockets of one link share the thread; sockets that need a processor each get links of their own.
#[derive(Debug)]
pub struct Link {
    desk: Arc<Desk>,
    thread: Option<JoinHandle<()>>,
}

impl Link {
    /// Starts the thread; `name` is the link's in logs and in the list of threads.
    ///
    /// # Errors
    ///
    /// When libzmq lacks CURVE, or the system gives no thread or descriptor.
    pub fn start(name: &str) -> Result<Self, LinkError> {
        require_curve()?;
        let failed = |source: io::Error| LinkError::Start { link: name.to_owned(), source };
        let desk = Arc::new(Desk::new().map_err(failed)?);
        let context = zmq::Context::new();
        let zap = Zap::start(&context).map_err(failed)?;
        let owner = Owner::new(Arc::clone(&desk), context, zap);
        let thread = std::thread::Builder::new()
            .name(format!("link-{name}"))
            .spawn(move || owner.run())
            .map_err(failed)?;
        Ok(Self { desk, thread: Some(thread) })
    }

    /// Opens a ROUTER and listens.
    ///
    /// # Errors
    ///
    /// When the options contradict each other or the address cannot be had.
    pub async fn router(&self, options: RouterOptions) -> Result<Router, LinkError> {
        let opened = self.open(|reply| Command::Router(options, reply)).await?;
        Ok(Router::new(Handle::new(Arc::clone(&self.desk), &opened), opened.endpoint))
    }

    /// Opens a DEALER, which connects in the background; events tell how that goes.
    ///
    /// # Errors
    ///
    /// When the options contradict each other or the address is none.
    pub async fn dealer(&self, options: DealerOptions) -> Result<Dealer, LinkError> {
        let opened = self.open(|reply| Command::Dealer(options, reply)).await?;
        Ok(Dealer::new(Handle::new(Arc::clone(&self.desk), &opened), opened.endpoint))
    }

    async fn open(
        &self,
        command: impl FnOnce(oneshot::Sender<Result<Opened, LinkError>>) -> Command,
    ) -> Result<Opened, LinkError> {
        let (reply, answer) = oneshot::channel();
        self.desk.post(command(reply));
        answer.await.unwrap_or(Err(LinkError::Closed))
    }

    /// Closes all sockets: what is queued is sent within `linger`, then the thread ends. Tells, per socket that was
    /// open, what was not sent. When it returns, every address is free again.
    pub async fn close(mut self, linger: Duration) -> Vec<(Arc<str>, CloseReport)> {
        let (reply, answer) = oneshot::channel();
        self.desk.post(Command::CloseAll(linger, Some(reply)));
        let reports = answer.await.unwrap_or_default();
        if let Some(thread) = self.thread.take() {
            // It has told its end and returns at once.
            let _ = thread.join();
        }
        reports
    }
}

impl Drop for Link {
    /// Without [`Link::close`], nothing is waited for: what is unsent is dropped, counted and logged.
    fn drop(&mut self) {
        self.desk.post(Command::CloseAll(Duration::ZERO, None));
    }
}
