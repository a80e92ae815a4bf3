//! `send`: messages to the child, wherever it runs.

mod input;
mod mixed;

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use bytes::Bytes;
use daemon::{Failure, Start};
use gone::keeper;
use gone::lease::rules::Standing;
use gone::lock::{Id, Lock};
use gone::message::{InLock, Outbox, OutboxOptions, Patience, Receipt};
use tokio::sync::mpsc;

use crate::config::Config;
use input::{Lines, Source};
use mixed::Mixed;

/// How long one look at the lock may take.
const LOOK: Duration = Duration::from_secs(2);
/// Bytes that may be on their way at once.
const WINDOW_BYTES: usize = 8 << 20;

/// Sends what the call says, and waits until all of it is acknowledged.
///
/// # Errors
/// Why a message was not, in one sentence; messages before it were.
pub fn run(start: &Start<Config>) -> anyhow::Result<()> {
    let values = start.loaded.values();
    let config = &start.config;
    let Some(id) = &config.id else { return Err(Failure::usage("--id is needed").into()) };
    let source = input::source(start.arguments.get("data"), values.switch("each-line"))?;
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
    let sent = runtime.block_on(async {
        let post = Post::open(config, id, values.switch("wait"))?;
        match source {
            Source::Message(message) => Ok(post.one(message).await?),
            Source::AllOfStdin => {
                let message = input::all_of_stdin(config.max_message)?;
                Ok(post.one(message).await?)
            }
            Source::EachLine => post.lines(input::lines(config.max_message)).await,
        }
    });
    runtime.shutdown_background();
    sent
}

/// The way to whoever holds the lease.
struct Post {
    way: Way,
    id: Id,
    lock: Arc<dyn Lock>,
    timeout: Duration,
    wait: bool,
}

enum Way {
    Ours(Outbox),
    /// Holders may be nodes of the original.
    Mixed(Box<Mixed>),
}

impl Post {
    fn open(config: &Config, id: &Id, wait: bool) -> anyhow::Result<Self> {
        let outbox = outbox(config)?;
        let (lock, timeout) = (config.lock.clone(), config.timeout);
        let way = match config.compat {
            true => Way::Mixed(Box::new(Mixed::new(outbox, lock.clone(), id.clone(), config.max_message))),
            false => Way::Ours(outbox),
        };
        Ok(Self { way, id: id.clone(), lock, timeout, wait })
    }

    async fn one(self, message: Bytes) -> anyhow::Result<()> {
        let Self { way, id, timeout, wait, .. } = self;
        match way {
            Way::Ours(outbox) => {
                let patience = Patience { timeout: Some(timeout), wait };
                outbox.send_data(id.as_str(), message, patience).await?;
            }
            Way::Mixed(mut mixed) => mixed.send(message, timeout, wait).await?,
        }
        Ok(())
    }

    async fn lines(self, mut lines: Lines) -> anyhow::Result<()> {
        let Self { way, id, lock, timeout, wait } = self;
        match way {
            Way::Ours(outbox) => Stream { id, lock, timeout, wait }.run(outbox, lines).await,
            Way::Mixed(mut mixed) => {
                let mut taken = 0_u64;
                while let Some(line) = lines.recv().await {
                    let sent = mixed.send(line?, timeout, wait).await;
                    sent.with_context(|| which(taken))?;
                    taken += 1;
                }
                Ok(())
            }
        }
    }
}

fn which(taken: u64) -> String {
    format!("line {}, after {taken} that were taken", taken + 1)
}

/// Many lines on their way side by side. The time-out is one of progress: a slow child slows its senders, it
/// does not make them fail.
struct Stream {
    id: Id,
    lock: Arc<dyn Lock>,
    timeout: Duration,
    wait: bool,
}

impl Stream {
    async fn run(self, outbox: Outbox, mut lines: Lines) -> anyhow::Result<()> {
        let outbox = Arc::new(outbox);
        // What is in it is bounded by the outbox's window.
        let (give, mut receipts) = mpsc::unbounded_channel::<anyhow::Result<Receipt>>();
        let (id, patience) = (self.id.clone(), Patience { timeout: None, wait: self.wait });
        let feeding = outbox.clone();
        tokio::spawn(async move {
            while let Some(line) = lines.recv().await {
                let receipt = match line {
                    Ok(line) => feeding.enqueue(id.as_str(), line, patience).await.map_err(Into::into),
                    Err(error) => Err(error),
                };
                if give.send(receipt).is_err() {
                    return;
                }
            }
        });
        let mut taken = 0_u64;
        while let Some(receipt) = receipts.recv().await {
            self.settled(receipt).await.with_context(|| which(taken))?;
            taken += 1;
        }
        Ok(())
    }

    async fn settled(&self, receipt: anyhow::Result<Receipt>) -> anyhow::Result<()> {
        let Self { id, timeout, .. } = self;
        let mut receipt = receipt?;
        loop {
            if let Ok(outcome) = tokio::time::timeout(*timeout, receipt.settled()).await {
                outcome?;
                return Ok(());
            }
            let why = match keeper::look(self.lock.as_ref(), id, false, LOOK).await {
                // Its child is slow, or others are before us: so are we.
                Ok(view) if view.standing == Standing::Held => {
                    tracing::warn!(
                        "{id} acknowledged nothing for {timeout:?}: waiting on, somebody holds it"
                    );
                    continue;
                }
                Ok(_) => "nobody holds it now".to_owned(),
                Err(error) => error.to_string(),
            };
            anyhow::bail!(
                "{id} acknowledged nothing within {timeout:?}: {why} (it may have been taken all the same)"
            );
        }
    }
}

fn outbox(config: &Config) -> anyhow::Result<Outbox> {
    let mut options = OutboxOptions::new(config.encryption());
    options.max_message = config.max_message;
    options.window_bytes = WINDOW_BYTES.max(config.max_message);
    Ok(Outbox::new(options, InLock { lock: config.lock.clone(), compat: config.compat })?)
}
