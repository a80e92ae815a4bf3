//! `send`: messages to the child, wherever it runs.

mod input;
mod mixed;
mod tally;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use daemon::{Failure, Start};
use gone::lock::Id;
use gone::message::{InLock, Outbox, OutboxOptions, Patience, Receipt, SendError};
use tokio::sync::mpsc;

use crate::config::Config;
use input::{Lines, Source};
use mixed::Mixed;
use tally::Tally;

/// Bytes that may be on their way at once.
const WINDOW_BYTES: usize = 8 << 20;

/// Sends what the call says, and waits until all of it is acknowledged.
///
/// # Errors
/// Why a message was not, in one sentence; of lines, which ones.
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
            true => Way::Mixed(Box::new(Mixed::new(outbox, lock, id.clone(), config.max_message))),
            false => Way::Ours(outbox),
        };
        Ok(Self { way, id: id.clone(), timeout, wait })
    }

    async fn one(self, message: Bytes) -> anyhow::Result<()> {
        let Self { way, id, timeout, wait } = self;
        match way {
            Way::Ours(outbox) => {
                // Who waits through a fail-over waits for a slow child too.
                let patience = Patience { timeout: Some(timeout), only_absence: wait, wait };
                let receipt = outbox.enqueue(id.as_str(), message, patience).await?;
                settled(&id, timeout, receipt).await?;
            }
            Way::Mixed(mut mixed) => mixed.send(message, timeout, wait).await?,
        }
        Ok(())
    }

    async fn lines(self, mut lines: Lines) -> anyhow::Result<()> {
        let Self { way, id, timeout, wait } = self;
        let mut tally = Tally::default();
        match way {
            Way::Ours(outbox) => stream(outbox, lines, &id, timeout, wait, &mut tally).await,
            Way::Mixed(mut mixed) => {
                while let (false, Some(line)) = (tally.has_failed(), lines.recv().await) {
                    let sent = async { mixed.send(line?, timeout, wait).await };
                    tally.count(sent.await);
                }
            }
        }
        tally.end()
    }
}

/// Many lines on their way side by side, until one fails; those that are on their way then are waited for.
async fn stream(outbox: Outbox, mut lines: Lines, id: &Id, timeout: Duration, wait: bool, tally: &mut Tally) {
    // A slow child slows its senders, it does not make them fail.
    let patience = Patience { timeout: Some(timeout), only_absence: true, wait };
    let outbox = Arc::new(outbox);
    // What is in it is bounded by the outbox's window.
    let (give, mut receipts) = mpsc::unbounded_channel::<anyhow::Result<Receipt>>();
    let (feeding, to) = (outbox.clone(), id.clone());
    let feeder = tokio::spawn(async move {
        while let Some(line) = lines.recv().await {
            let receipt = match line {
                Ok(line) => feeding.enqueue(to.as_str(), line, patience).await.map_err(Into::into),
                Err(error) => Err(error),
            };
            if give.send(receipt).is_err() {
                return;
            }
        }
    });
    while let Some(receipt) = receipts.recv().await {
        tally.count(match receipt {
            Ok(receipt) => settled(id, timeout, receipt).await.map_err(Into::into),
            Err(error) => Err(error),
        });
        if tally.has_failed() {
            // What it has not handed over yet it has not sent.
            feeder.abort();
        }
    }
}

/// Until the message is acknowledged or given up; says now and then that it is not.
async fn settled(id: &Id, every: Duration, mut receipt: Receipt) -> Result<(), SendError> {
    loop {
        match tokio::time::timeout(every, receipt.settled()).await {
            Ok(outcome) => return outcome.map(drop),
            Err(_) => tracing::warn!("{id} has acknowledged nothing for {every:?}: waiting on"),
        }
    }
}

fn outbox(config: &Config) -> anyhow::Result<Outbox> {
    let mut options = OutboxOptions::new(config.encryption());
    options.max_message = config.max_message;
    options.window_bytes = WINDOW_BYTES.max(config.max_message);
    Ok(Outbox::new(options, InLock { lock: config.lock.clone(), compat: config.compat })?)
}
