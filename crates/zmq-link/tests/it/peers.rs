//! Peers that are not there, and addresses of all kinds.

use zmq_link::{EventKind, Link, LinkError, PeerId, RouterOptions, Security, SendError};

use crate::harness::*;

#[tokio::test(flavor = "multi_thread")]
async fn what_goes_to_an_unknown_peer_is_told_to_the_sender() {
    let link = link();
    let router = link.router(plain_router()).await.unwrap();
    let (nobody, mut events) = (PeerId::new(b"nobody"), router.events());
    assert_eq!(router.sender().deliver(&nobody, text("x")).await, Err(SendError::Unreachable));
    router.sender().send_all(&nobody, (0..3).map(|n| numbered(n, 8))).await.unwrap();
    let told = event(
        "the event",
        &mut events,
        |kind| matches!(kind, EventKind::Undelivered { messages: 3, reason: SendError::Unreachable, to } if *to == nobody),
    );
    assert_eq!(&*told.await.socket, "server");
    assert_eq!((router.counters().unreachable, router.counters().sent), (4, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_waits_for_a_peer_that_goes_is_told_to_the_sender() {
    let link = link();
    let other = self::link();
    let mut options = plain_router();
    options.socket.outbound.messages = 10;
    options.socket.high_water_mark = 1;
    let mut router = link.router(options).await.unwrap();
    let mut options = plain_dealer(router.endpoint());
    options.socket.inbound.messages = 1;
    options.socket.high_water_mark = 1;
    let dealer = other.dealer(options).await.unwrap();
    dealer.sender().send(text("hello")).await.unwrap();
    let (to, sender) = (next(&mut router).await.from.id.clone(), router.sender());
    let mut events = router.events();
    let flood = tokio::spawn(async move {
        let mut sent = 0_u64;
        while sender.deliver(&to, numbered(sent, 200 << 10)).await.is_ok() {
            sent += 1;
        }
        sent
    });
    testkit::eventually("no more to fit", LIMIT, async || (router.counters().held_back > 0).then_some(()))
        .await;
    drop(dealer);
    assert!(within("the failure", flood).await.unwrap() > 0);
    event("the event", &mut events, |kind| matches!(kind, EventKind::Undelivered { .. })).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_free_port_is_taken_and_told_for_each_kind_of_address() {
    let (link, dir) = (link(), testkit::TempDir::new());
    let ipc = format!("ipc://{}", dir.join("app.sock").display());
    for address in
        ["tcp://127.0.0.1:*", "tcp://127.0.0.1:0", "tcp://[::1]:*", "tcp://[::1]:0", "tcp://*:*", &ipc]
    {
        let security = Security::PlainText;
        let mut router = link.router(RouterOptions::new("server", address, security)).await.unwrap();
        let endpoint = router.endpoint().to_owned();
        if let Some(host) =
            address.strip_suffix(":*").or(address.strip_suffix(":0")).filter(|host| *host != "tcp://*")
        {
            assert!(endpoint.starts_with(host), "{address} became {endpoint}");
        }
        assert!(!endpoint.ends_with('*') && !endpoint.ends_with(":0"), "{address} became {endpoint}");
        let to = endpoint
            .replace("//0.0.0.0:", "//127.0.0.1:")
            .replace("//[::]:", "//[::1]:")
            .replace("//*:", "//[::1]:");
        let dealer = link.dealer(plain_dealer(&to)).await.unwrap();
        dealer.sender().send(text(address)).await.unwrap();
        let incoming = next(&mut router).await;
        assert_eq!(&incoming.message[0][..], address.as_bytes());
        let from = incoming.from.address.as_deref().unwrap();
        let own = format!(":{}", std::process::id());
        assert!(from == "127.0.0.1" || from == "::1" || from.ends_with(&own), "{address}: {from}");
    }
}

async fn refusal(link: &Link, address: &str) -> String {
    let options = RouterOptions::new("server", address, Security::PlainText);
    link.router(options).await.unwrap_err().to_string()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_address_that_cannot_be_had_is_named() {
    let link = link();
    let router = link.router(plain_router()).await.unwrap();
    let text = refusal(&link, router.endpoint()).await;
    assert_eq!(
        text,
        format!("server cannot listen on {}: Address already in use (os error 98)", router.endpoint())
    );
    for address in
        ["tcp://192.0.2.1:*", "nonsense", "tcp://127.0.0.1:99999", "ipc:///proc/no/such.sock", "a\0b"]
    {
        assert!(refusal(&link, address).await.starts_with("server cannot listen on "), "{address}");
    }
    let error = link.dealer(plain_dealer("tcp://")).await.unwrap_err();
    assert!(error.to_string().starts_with("client cannot connect to tcp://: "), "{error}");
    let mut options = plain_router();
    options.socket.max_message = options.socket.inbound.bytes + 1;
    assert!(matches!(link.router(options).await, Err(LinkError::Options { .. })));
}
