//! A value that is asked for again and again, by Consul's rules for blocking queries.

use std::sync::Arc;

use consul_client::Query;
use consul_client::blocking::{Cursor, Seen};

use super::Store;
use crate::backend::{BackendFuture, Source};
use crate::error::Error;

/// An answer: its index, and what it says.
type Asked<T> = BackendFuture<'static, Result<(u64, T), Error>>;

/// A series of blocking queries. One that is under way stays when its waiter goes: the server would keep it anyway.
pub(super) struct Blocking<T> {
    store: Arc<Store>,
    ask: Box<dyn Fn(Query) -> Asked<T> + Send>,
    cursor: Cursor,
    waiting: Option<Asked<T>>,
}

impl<T: Send + 'static> Blocking<T> {
    pub(super) fn new(store: Arc<Store>, ask: impl Fn(Query) -> Asked<T> + Send + 'static) -> Self {
        let cursor = store.cursor();
        Self { store, ask: Box::new(ask), cursor, waiting: None }
    }

    /// The next answer, and whether anything may be new in it. After an error the series begins anew. Cancel safe.
    pub(super) async fn answer(&mut self) -> Result<(Seen, T), Error> {
        let waiting = self.waiting.get_or_insert_with(|| {
            let (pause, asked) = (self.cursor.pause(), (self.ask)(self.cursor.query(rand::random())));
            Box::pin(async move {
                tokio::time::sleep(pause).await;
                asked.await
            })
        });
        let answer = waiting.await;
        self.waiting = None;
        match answer {
            Ok((index, value)) => Ok((self.cursor.saw(index), value)),
            Err(error) => {
                if let Error::Silent { .. } = error {
                    self.store.connections.replace();
                }
                self.restart();
                Err(error)
            }
        }
    }

    /// The next query waits for what comes after this index, unless one is under way, which began earlier.
    pub(super) fn after(&mut self, index: u64) {
        if self.waiting.is_none() {
            self.cursor = self.cursor.after(index);
        }
    }

    /// The next query is answered at once.
    pub(super) fn restart(&mut self) {
        self.waiting = None;
        self.cursor = self.store.cursor();
    }
}

impl<T: Send + 'static> Source<T> for Blocking<T> {
    fn next(&mut self) -> BackendFuture<'_, Result<T, Error>> {
        // Also one that shows no change: it confirms what is known.
        Box::pin(async move { self.answer().await.map(|(_, value)| value) })
    }
}
