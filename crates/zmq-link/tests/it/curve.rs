//! Who comes in, what is said about those who do not, and who speaks in whose name.

use std::sync::{Arc, Mutex};

use testkit::eventually;
use tracing_subscriber::fmt::MakeWriter;
use zmq_link::{Discard, EventKind, HandshakeFailure, KeyPair, require_curve};

use crate::harness::*;

fn pair() -> KeyPair {
    KeyPair::generate().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_known_key_comes_in_under_its_name() {
    require_curve().unwrap();
    let (link, server, client) = (link(), pair(), pair());
    let (options, _) = curve_router(&server, &[(&client, "n2"), (&pair(), "n3")]);
    let mut router = link.router(options).await.unwrap();
    let mut dealer = link.dealer(curve_dealer(router.endpoint(), &client, &server)).await.unwrap();
    let mut events = router.events();
    dealer.sender().send(text("hello")).await.unwrap();
    let hello = next(&mut router).await;
    assert_eq!((hello.from.name.as_deref(), hello.from.key), (Some("n2"), Some(client.public())));
    assert_eq!(hello.from.address.as_deref(), Some("127.0.0.1"));
    router.sender().send(&hello.from.id, text("welcome")).await.unwrap();
    let welcome = within("the answer", dealer.recv()).await.unwrap();
    assert_eq!(&welcome.message[0][..], b"welcome");
    let connected = event("the event", &mut events, |kind| *kind == EventKind::Connected).await;
    assert!(connected.peer.unwrap().starts_with("127.0.0.1:"));
    assert_eq!((router.counters().zap_allowed, router.counters().zap_denied), (1, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn one_pair_on_all_nodes_does() {
    let (link, shared) = (link(), pair());
    let (options, _) = curve_router(&shared, &[(&shared, "all")]);
    let mut router = link.router(options).await.unwrap();
    let dealer = link.dealer(curve_dealer(router.endpoint(), &shared, &shared)).await.unwrap();
    dealer.sender().send(text("hello")).await.unwrap();
    assert_eq!(next(&mut router).await.from.name.as_deref(), Some("all"));
}

/// What the test's thread and the owner threads log.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl std::io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Log {
    type Writer = Self;

    fn make_writer(&'a self) -> Self {
        self.clone()
    }
}

impl Log {
    /// For the whole process: each test has its own.
    fn start() -> Self {
        let log = Self::default();
        tracing_subscriber::fmt().with_writer(log.clone()).with_ansi(false).init();
        log
    }

    fn lines(&self, with: &str) -> Vec<String> {
        let text = String::from_utf8(self.0.lock().unwrap().clone()).unwrap();
        text.lines().filter(|line| line.contains(with)).map(str::to_owned).collect()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unknown_key_is_refused_counted_logged_and_told_on_both_sides() {
    let log = Log::start();
    let (link, server, client) = (link(), pair(), pair());
    let (options, _) = curve_router(&server, &[]);
    let router = link.router(options).await.unwrap();
    let mut there = router.events();
    let dealer = link.dealer(curve_dealer(router.endpoint(), &client, &server)).await.unwrap();
    let mut here = dealer.events();
    dealer.sender().send(text("hello")).await.unwrap();

    let failed = |kind: &EventKind| matches!(kind, EventKind::HandshakeFailed(_));
    let told = event("the server's event", &mut there, failed).await;
    let key = Some(client.public().id());
    assert_eq!(told.kind, EventKind::HandshakeFailed(HandshakeFailure::Auth { key }));
    assert!(told.peer.unwrap().starts_with("127.0.0.1"));
    let told = event("the client's event", &mut here, failed).await;
    assert_eq!(told.kind, EventKind::HandshakeFailed(HandshakeFailure::Auth { key: None }));
    assert_eq!(told.peer.as_deref(), Some(router.endpoint()));

    // It tries again and again: counted each time, logged once.
    eventually("more tries", LIMIT, async || (router.counters().zap_denied >= 5).then_some(())).await;
    eventually("their counts", LIMIT, async || (dealer.counters().handshake_failed_auth >= 5).then_some(()))
        .await;
    let there = log.lines("the peer's key is not one of those that may connect");
    assert_eq!(there.len(), 1, "{there:?}");
    for part in ["127.0.0.1", &server.public().id().to_string(), &client.public().id().to_string()] {
        assert!(there[0].contains(part), "{there:?} without {part}");
    }
    let here = log.lines("the peer refuses our key");
    assert_eq!(here.len(), 1, "{here:?}");
    for part in [router.endpoint(), &client.public().id().to_string()] {
        assert!(here[0].contains(part), "{here:?} without {part}");
    }
    assert_eq!((router.counters().connected, dealer.counters().connected), (0, 0));
    assert_eq!((router.counters().received, dealer.counters().sent), (0, 0));
    assert_eq!((router.counters().disconnected, dealer.counters().disconnected), (0, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_wrong_server_key_is_refused_and_told_on_both_sides() {
    let log = Log::start();
    let (link, server, client) = (link(), pair(), pair());
    let (options, _) = curve_router(&server, &[(&client, "n2")]);
    let router = link.router(options).await.unwrap();
    let mut there = router.events();
    let dealer = link.dealer(curve_dealer(router.endpoint(), &client, &pair())).await.unwrap();
    let mut here = dealer.events();
    dealer.sender().send(text("hello")).await.unwrap();
    let failed = |kind: &EventKind| matches!(kind, EventKind::HandshakeFailed(_));
    // Over loopback the connection may be gone before its address can be asked for; not every time.
    loop {
        let told = event("the server's event with an address", &mut there, failed).await;
        assert_eq!(told.kind, EventKind::HandshakeFailed(HandshakeFailure::WrongServerKey));
        if told.peer.is_some_and(|peer| peer.starts_with("127.0.0.1:")) {
            break;
        }
    }
    event("the client's event", &mut here, failed).await;
    assert!(router.counters().handshake_failed_protocol > 0 && dealer.counters().handshake_failed_other > 0);
    assert_eq!(router.counters().connected + router.counters().zap_allowed + dealer.counters().sent, 0);
    for part in ["one of the two has the wrong key", "the peer hung up before the connection was made"] {
        eventually("the line", LIMIT, async || {
            let lines = log.lines(part);
            lines.iter().any(|line| line.contains("127.0.0.1")).then_some(())
        })
        .await;
        assert!(log.lines(part).len() <= 2, "{:?}", log.lines(part));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_without_curve_is_refused_and_so_is_a_server_without() {
    let (link, server) = (link(), pair());
    let (options, _) = curve_router(&server, &[(&server, "n1")]);
    let router = link.router(options).await.unwrap();
    let mut there = router.events();
    let dealer = link.dealer(plain_dealer(router.endpoint())).await.unwrap();
    let mut here = dealer.events();
    dealer.sender().send(text("hello")).await.unwrap();
    let failed = |kind: &EventKind| matches!(kind, EventKind::HandshakeFailed(_));
    let told = event("the server's event", &mut there, failed).await;
    assert_eq!(told.kind, EventKind::HandshakeFailed(HandshakeFailure::MechanismMismatch));
    event("the client's event", &mut here, failed).await;
    assert_eq!(router.counters().connected + router.counters().received + dealer.counters().sent, 0);

    let plain = link.router(plain_router()).await.unwrap();
    let dealer = link.dealer(curve_dealer(plain.endpoint(), &server, &server)).await.unwrap();
    let mut here = dealer.events();
    event("the client's event", &mut here, failed).await;
    assert_eq!(plain.counters().connected + dealer.counters().sent, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_come_and_go_while_links_stand() {
    let (link, server, old, new) = (link(), pair(), pair(), pair());
    let (options, allowed) = curve_router(&server, &[(&old, "n2")]);
    let mut router = link.router(options).await.unwrap();
    let mut events = router.events();
    let with_old = link.dealer(curve_dealer(router.endpoint(), &old, &server)).await.unwrap();
    let with_new = link.dealer(curve_dealer(router.endpoint(), &new, &server)).await.unwrap();
    with_old.sender().send(text("1")).await.unwrap();
    assert_eq!(next(&mut router).await.from.key, Some(old.public()));
    eventually("the new one to be refused", LIMIT, async || (router.counters().zap_denied > 0).then_some(()))
        .await;

    allowed.replace([(old.public(), "n2"), (new.public(), "n2")]).unwrap();
    with_new.sender().send(text("2")).await.unwrap();
    assert_eq!(next(&mut router).await.from.key, Some(new.public()));
    with_old.sender().send(text("3")).await.unwrap();
    assert_eq!(next(&mut router).await.from.key, Some(old.public()));

    // The old key goes: its connection stands, but nothing that it brings is taken in.
    allowed.replace([(new.public(), "n2")]).unwrap();
    with_old.sender().deliver(text("4")).await.unwrap();
    let discarded =
        |kind: &EventKind| matches!(kind, EventKind::Discarded { reason: Discard::NotAllowed, .. });
    event("the event", &mut events, discarded).await;
    with_new.sender().send(text("5")).await.unwrap();
    assert_eq!(&next(&mut router).await.message[0][..], b"5");
    assert_eq!(router.counters().inbound_not_allowed, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_changes_its_own_key_and_keeps_its_address() {
    let (link, first, second, client) = (link(), pair(), pair(), pair());
    let (options, _) = curve_router(&first, &[(&client, "n2")]);
    let mut router = link.router(options).await.unwrap();
    let endpoint = router.endpoint().to_owned();
    let knows_first = link.dealer(curve_dealer(&endpoint, &client, &first)).await.unwrap();
    knows_first.sender().send(text("1")).await.unwrap();
    next(&mut router).await;
    let mut ends = knows_first.events();
    router.rebind(second.clone()).await.unwrap();
    event("the client's end", &mut ends, |kind| *kind == EventKind::Disconnected).await;
    assert_eq!(router.counters().disconnected, 1);
    let knows_second = link.dealer(curve_dealer(&endpoint, &client, &second)).await.unwrap();
    knows_second.sender().send(text("2")).await.unwrap();
    assert_eq!(&next(&mut router).await.message[0][..], b"2");
    let late = link.dealer(curve_dealer(&endpoint, &client, &first)).await.unwrap();
    event("the refusal", &mut late.events(), |kind| matches!(kind, EventKind::HandshakeFailed(_))).await;
    router.rebind(first.clone()).await.unwrap();
    let again = link.dealer(curve_dealer(&endpoint, &client, &first)).await.unwrap();
    again.sender().send(text("3")).await.unwrap();
    assert_eq!(&next(&mut router).await.message[0][..], b"3");
}
