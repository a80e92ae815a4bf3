//! What the tests of locks share.
#![allow(dead_code, clippy::allow_attributes, reason = "each test program uses a part of it")]

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use gone::lock::{Listener, News};
use redis::FromRedisValue;

/// How long a request may take.
pub(crate) const PATIENCE: Duration = Duration::from_secs(5);
/// For what has to come true in the end.
pub(crate) const LIMIT: Duration = Duration::from_secs(20);

/// Counts what a session tells: changes, and that it broke.
pub(crate) fn listener() -> (Listener, Arc<AtomicUsize>, Arc<AtomicUsize>) {
    let (changes, breaks) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let (counted_changes, counted_breaks) = (changes.clone(), breaks.clone());
    let listener = Arc::new(move |news| {
        let counter = if news == News::Changed { &counted_changes } else { &counted_breaks };
        counter.fetch_add(1, Ordering::SeqCst);
    });
    (listener, changes, breaks)
}

/// A plain connection to Redis, for looking behind the scenes.
pub(crate) struct Raw(redis::aio::MultiplexedConnection);

impl Raw {
    pub(crate) async fn connect(url: &str) -> Self {
        let client = redis::Client::open(url).expect("the test's own address");
        Self(client.get_multiplexed_async_connection().await.expect("the test's own server answers"))
    }

    pub(crate) async fn ask<T: FromRedisValue>(&mut self, words: &[&str]) -> T {
        let mut command = redis::cmd(words[0]);
        command.arg(&words[1..]);
        command.query_async(&mut self.0).await.unwrap_or_else(|error| panic!("{words:?}: {error}"))
    }

    pub(crate) async fn now_us(&mut self) -> u64 {
        let (seconds, micros): (u64, u64) = self.ask(&["TIME"]).await;
        seconds * 1_000_000 + micros
    }

    pub(crate) async fn run_id(&mut self) -> String {
        let info: String = self.ask(&["INFO", "server"]).await;
        info.lines().find_map(|line| line.strip_prefix("run_id:")).expect("INFO names the run").to_owned()
    }
}
