//! What the tests share: links, pairs of sockets, numbered messages, waiting for events.

use std::time::Duration;

use tokio::sync::broadcast;
use zmq_link::{
    Authenticator, Dealer, DealerOptions, Event, EventKind, Incoming, KeyPair, Link, Multipart, PeerId,
    Router, RouterOptions, Security, ServerSecurity,
};

/// The bound on every wait for something that comes at once on an idle machine.
pub(crate) const LIMIT: Duration = Duration::from_secs(20);

pub(crate) const ANY_PORT: &str = "tcp://127.0.0.1:*";

pub(crate) fn link() -> Link {
    Link::start("test").unwrap()
}

pub(crate) fn plain_router() -> RouterOptions {
    RouterOptions::new("server", ANY_PORT, Security::PlainText)
}

pub(crate) fn plain_dealer(endpoint: &str) -> DealerOptions {
    DealerOptions::new("client", endpoint, ServerSecurity::PlainText)
}

/// A listening socket that lets these keys in, and the key of the server.
pub(crate) fn curve_router(key: &KeyPair, allowed: &[(&KeyPair, &str)]) -> (RouterOptions, Authenticator) {
    let keys = allowed.iter().map(|(key, name)| (key.public(), *name));
    let allowed = Authenticator::new(keys).unwrap();
    let security = Security::Curve { key: key.clone(), allowed: allowed.clone() };
    (RouterOptions::new("server", ANY_PORT, security), allowed)
}

pub(crate) fn curve_dealer(endpoint: &str, key: &KeyPair, server: &KeyPair) -> DealerOptions {
    let security = ServerSecurity::Curve { key: key.clone(), server: server.public() };
    DealerOptions::new("client", endpoint, security)
}

/// A server and a client that have spoken, and the client's address at the server.
pub(crate) async fn connected(link: &Link, options: RouterOptions) -> (Router, Dealer, PeerId) {
    let mut router = link.router(options).await.unwrap();
    let dealer = link.dealer(plain_dealer(router.endpoint())).await.unwrap();
    dealer.sender().send(text("hello")).await.unwrap();
    let hello = next(&mut router).await;
    (router, dealer, hello.from.id.clone())
}

pub(crate) fn text(text: &str) -> Multipart {
    Multipart::single(text.as_bytes().to_vec())
}

/// A message that begins with a number.
pub(crate) fn numbered(number: u64, size: usize) -> Multipart {
    let mut bytes = number.to_be_bytes().to_vec();
    bytes.resize(size.max(8), 7);
    Multipart::single(bytes)
}

pub(crate) fn number(message: &Multipart) -> u64 {
    u64::from_be_bytes(message[0][..8].try_into().unwrap())
}

pub(crate) async fn next(router: &mut Router) -> Incoming {
    within("a message", router.recv()).await.unwrap()
}

/// Waits for a future with a bound.
pub(crate) async fn within<T>(what: &str, future: impl Future<Output = T>) -> T {
    match tokio::time::timeout(testkit::patience(LIMIT), future).await {
        Ok(value) => value,
        Err(_) => panic!("waited in vain for {what}"),
    }
}

/// Waits for the first event that is wanted.
pub(crate) async fn event(
    what: &str,
    events: &mut broadcast::Receiver<Event>,
    wanted: impl Fn(&EventKind) -> bool,
) -> Event {
    within(what, async {
        loop {
            let event = events.recv().await.unwrap();
            if wanted(&event.kind) {
                return event;
            }
        }
    })
    .await
}
