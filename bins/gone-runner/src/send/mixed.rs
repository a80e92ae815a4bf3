//! Sending in a mixed fleet: the holder is one of ours, or a node of the original, and that may change with each
//! message.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use gone::keeper;
use gone::lease::rules::{Standing, View};
use gone::lock::{Id, Lock};
use gone::message::compat::OriginalHolder;
use gone::message::{Outbox, Patience};
use tokio::time::Instant;

/// How long one look at the lock may take.
const LOOK: Duration = Duration::from_secs(2);
/// Between two tries with `--wait`.
const PAUSE: Duration = Duration::from_millis(100);

/// The ways to both kinds of holders.
pub(super) struct Mixed {
    outbox: Outbox,
    lock: Arc<dyn Lock>,
    id: Id,
    max_message: usize,
    original: Option<(String, OriginalHolder)>,
}

impl Mixed {
    pub(super) fn new(outbox: Outbox, lock: Arc<dyn Lock>, id: Id, max_message: usize) -> Self {
        Self { outbox, lock, id, max_message, original: None }
    }

    /// Sends one message. With `wait`, every failure is tried again until the time is over, so that a holder
    /// may get a message twice.
    pub(super) async fn send(&mut self, message: Bytes, timeout: Duration, wait: bool) -> anyhow::Result<()> {
        let until = Instant::now() + timeout;
        loop {
            let left = until.saturating_duration_since(Instant::now());
            let attempt = match tokio::time::timeout(left, self.attempt(&message, left)).await {
                Ok(attempt) => attempt,
                Err(_) => anyhow::bail!("{} did not take the message within {timeout:?}", self.id),
            };
            match attempt {
                Ok(()) => return Ok(()),
                Err(error) if !wait || Instant::now() + PAUSE >= until => return Err(error),
                Err(error) => tracing::debug!(%error, "trying again"),
            }
            tokio::time::sleep(PAUSE).await;
        }
    }

    async fn attempt(&mut self, message: &Bytes, left: Duration) -> anyhow::Result<()> {
        let View { standing, address, .. } = keeper::look(self.lock.as_ref(), &self.id, true, LOOK).await?;
        match standing {
            Standing::Foreign => self.give_original(&address, message, left).await,
            Standing::Held => {
                let patience = Patience { timeout: Some(left), only_absence: false, wait: false };
                self.outbox.send_data(self.id.as_str(), message.clone(), patience).await?;
                Ok(())
            }
            _ => anyhow::bail!("nobody holds {} now: start a runner for it, or send with --wait", self.id),
        }
    }

    async fn give_original(&mut self, address: &str, message: &Bytes, left: Duration) -> anyhow::Result<()> {
        let mut holder = match self.original.take().filter(|(known, _)| known == address) {
            Some((_, holder)) => holder,
            None => OriginalHolder::connect(address, self.max_message).await?,
        };
        holder.send(self.id.as_str(), message, left).await?;
        // One that failed is connected to anew.
        self.original = Some((address.to_owned(), holder));
        Ok(())
    }
}
