//! A client whose connections are replaced when an answer did not come.

use std::sync::{Mutex, PoisonError};

/// Makes a client with connections of its own; none when it cannot be made now.
type Make<C> = Box<dyn Fn() -> Option<C> + Send + Sync>;

/// A client that many use. Its pool may hold several connections that a broken network left half-dead, each of which would cost
/// a whole time-out: so the first request that is not answered costs the pool.
pub(crate) struct Connections<C> {
    client: Mutex<C>,
    make: Make<C>,
}

impl<C> Connections<C> {
    pub(crate) fn new(client: C, make: Make<C>) -> Self {
        Self { client: Mutex::new(client), make }
    }

    /// The next request goes over a new connection.
    pub(crate) fn replace(&self) {
        if let Some(client) = (self.make)() {
            *self.client.lock().unwrap_or_else(PoisonError::into_inner) = client;
        }
    }
}

impl<C: Clone> Connections<C> {
    /// The client as it is now.
    pub(crate) fn client(&self) -> C {
        self.client.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// What `request` comes to. When it is silent, or when this future is dropped before it is done (its caller's time-out was the
    /// shorter one), the next request goes over a new connection.
    pub(crate) async fn ask<T, E>(
        &self,
        request: impl AsyncFnOnce(C) -> Result<T, E>,
        is_silent: impl FnOnce(&E) -> bool,
    ) -> Result<T, E> {
        let mut doubt = Doubt { connections: self, stands: true };
        let result = request(self.client()).await;
        doubt.stands = result.as_ref().is_err_and(is_silent);
        result
    }
}

struct Doubt<'a, C> {
    connections: &'a Connections<C>,
    stands: bool,
}

impl<C> Drop for Doubt<'_, C> {
    fn drop(&mut self) {
        if self.stands {
            self.connections.replace();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};
    use std::time::Duration;

    use super::*;

    #[tokio::test]
    async fn silence_and_a_given_up_request_replace_the_client_and_an_answer_does_not() {
        let made = AtomicU32::new(0);
        let connections =
            Connections::new(0, Box::new(move || Some(made.fetch_add(1, Ordering::Relaxed) + 1)));
        let is_silent = |error: &&str| *error == "silent";
        assert_eq!(connections.ask(async |_| Ok::<_, &str>(1), is_silent).await, Ok(1));
        let _ = connections.ask(async |_| Err::<(), _>("refused"), is_silent).await;
        assert_eq!(connections.client(), 0);
        let _ = connections.ask(async |_| Err::<(), _>("silent"), is_silent).await;
        assert_eq!(connections.client(), 1);
        let never = connections.ask(async |_| std::future::pending::<Result<(), &str>>().await, is_silent);
        assert!(tokio::time::timeout(Duration::from_millis(1), never).await.is_err());
        assert_eq!(connections.client(), 2);
    }
}
