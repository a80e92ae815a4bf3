//! What lies under a prefix, read anew whenever etcd tells of a change.

use std::sync::Arc;

use etcd_gateway::{Entry, Etcd, Watch};
use tokio::time::Instant;

use super::Store;
use crate::backend::{BackendFuture, Source};
use crate::error::Error;

/// The stream tells that something changed; a read tells what. A stream may be dead and not show it, so there is a read every half
/// of the ttl in any case: it confirms what is known, or fails.
pub(super) struct Follow<T> {
    store: Arc<Store>,
    prefix: String,
    keys_only: bool,
    content: Box<dyn Fn(Vec<Entry>) -> T + Send>,
    /// Of the last read.
    revision: i64,
    read_at: Instant,
    last: Option<T>,
    /// What tells of all changes after that read.
    watch: Option<Watch>,
    due: Option<Due>,
}

/// Why there has to be a read.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Due {
    /// Something changed, or nothing is known.
    Told,
    /// It is time.
    Time,
}

impl<T: Clone + PartialEq + Send + 'static> Follow<T> {
    /// Of keys with their values.
    pub(super) fn whole(
        store: Arc<Store>,
        prefix: String,
        content: impl Fn(Vec<Entry>) -> T + Send + 'static,
    ) -> Self {
        Self {
            store,
            prefix,
            keys_only: false,
            content: Box::new(content),
            revision: 0,
            read_at: Instant::now(),
            last: None,
            watch: None,
            due: Some(Due::Told),
        }
    }

    /// Of keys alone.
    pub(super) fn keys(
        store: Arc<Store>,
        prefix: String,
        content: impl Fn(Vec<Entry>) -> T + Send + 'static,
    ) -> Self {
        Self { keys_only: true, ..Self::whole(store, prefix, content) }
    }

    /// Waits until there has to be a read. Cancel safe.
    async fn wait(&mut self) -> Result<Due, Error> {
        let deadline = self.read_at + self.store.options.ttl / 2;
        loop {
            tokio::select! {
                told = self.told() => {
                    if told? {
                        return Ok(Due::Told);
                    }
                }
                () = tokio::time::sleep_until(deadline) => return Ok(Due::Time),
            }
        }
    }

    /// Whether the next word of the stream is of a change after the last read. Cancel safe.
    async fn told(&mut self) -> Result<bool, Error> {
        let watch = match &mut self.watch {
            Some(watch) => watch,
            None => {
                let etcd = self.store.connections.client();
                let watch = etcd.watch(self.prefix.as_bytes(), self.revision + 1).await;
                self.watch.insert(watch.map_err(|error| self.store.failed(&error))?)
            }
        };
        let events = watch.next().await.map_err(|error| self.store.failed(&error))?;
        Ok(events.revision > self.revision && !(events.put.is_empty() && events.deleted.is_empty()))
    }

    async fn read(&mut self, due: Due) -> Result<T, Error> {
        let (prefix, keys_only) = (self.prefix.as_bytes(), self.keys_only);
        let ask = async |etcd: Etcd| {
            if keys_only { etcd.range_keys(prefix).await } else { etcd.range(prefix).await }
        };
        let found = self.store.ask(ask).await?;
        let content = (self.content)(found.entries);
        // A stream that did not tell of it may be dead; and in a store that begins anew, it waits for a revision that is far away.
        let untold = due == Due::Time && self.last.as_ref() != Some(&content);
        if untold || found.revision < self.revision {
            self.watch = None;
        }
        (self.revision, self.read_at) = (found.revision, Instant::now());
        self.last = Some(content.clone());
        Ok(content)
    }
}

impl<T: Clone + PartialEq + Send + 'static> Source<T> for Follow<T> {
    fn next(&mut self) -> BackendFuture<'_, Result<T, Error>> {
        Box::pin(async move {
            let due = match self.due {
                Some(due) => due,
                None => {
                    let due = self.wait().await;
                    // A stream that broke, or whose beginning is compacted, is begun anew after a whole read.
                    if due.is_err() {
                        self.watch = None;
                    }
                    self.due = Some(due.as_ref().copied().unwrap_or(Due::Told));
                    due?
                }
            };
            match self.read(due).await {
                Ok(content) => {
                    self.due = None;
                    Ok(content)
                }
                Err(error) => {
                    (self.watch, self.due) = (None, Some(Due::Told));
                    Err(error)
                }
            }
        })
    }
}
