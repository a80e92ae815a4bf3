//! Connections that end, hang and come back.

use std::net::SocketAddr;

use testkit::{FaultLink, eventually};
use zmq_link::EventKind;

use crate::harness::*;

fn tcp(addr: SocketAddr) -> String {
    format!("tcp://{addr}")
}

fn addr(endpoint: &str) -> SocketAddr {
    endpoint.strip_prefix("tcp://").unwrap().parse().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_comes_back_is_found_again() {
    let (here, there) = (link(), link());
    let mut options = plain_router();
    options.endpoint = tcp(SocketAddr::from(([127, 0, 0, 1], testkit::free_port())));
    let dealer = here.dealer(plain_dealer(&options.endpoint)).await.unwrap();
    let mut events = dealer.events();
    for round in 0..3 {
        let mut router = there.router(options.clone()).await.unwrap();
        event("the connection", &mut events, |kind| *kind == EventKind::Connected).await;
        dealer.sender().send(numbered(round, 8)).await.unwrap();
        assert_eq!(number(&next(&mut router).await.message), round);
        router.close(LIMIT).await.unwrap();
        event("its end", &mut events, |kind| *kind == EventKind::Disconnected).await;
    }
    eventually("tries to connect", LIMIT, async || (dealer.counters().retried >= 3).then_some(())).await;
    assert_eq!((dealer.counters().connected, dealer.counters().disconnected), (3, 3));
    // Without a connection the queue takes messages, and nothing is lost with a connection that is not there.
    dealer.sender().send(numbered(9, 8)).await.unwrap();
    assert_eq!(dealer.counters().sent, 3);
    let mut router = there.router(options).await.unwrap();
    assert_eq!(number(&next(&mut router).await.message), 9);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cut_link_is_seen_by_both_and_heals() {
    let (here, there) = (link(), link());
    let mut router = there.router(plain_router()).await.unwrap();
    let faulty = FaultLink::to(addr(router.endpoint()));
    let dealer = here.dealer(plain_dealer(&tcp(faulty.addr()))).await.unwrap();
    dealer.sender().send(text("before")).await.unwrap();
    next(&mut router).await;
    let (mut seen_here, mut seen_there) = (dealer.events(), router.events());
    faulty.cut();
    event("the client's end", &mut seen_here, |kind| *kind == EventKind::Disconnected).await;
    event("the server's end", &mut seen_there, |kind| *kind == EventKind::Disconnected).await;
    dealer.sender().send(text("after")).await.unwrap();
    faulty.heal();
    assert_eq!(&next(&mut router).await.message[0][..], b"after");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_silent_link_is_given_up_by_both() {
    let (here, there) = (link(), link());
    let mut router = there.router(plain_router()).await.unwrap();
    let faulty = FaultLink::to(addr(router.endpoint()));
    let dealer = here.dealer(plain_dealer(&tcp(faulty.addr()))).await.unwrap();
    dealer.sender().send(text("before")).await.unwrap();
    let to = next(&mut router).await.from.id.clone();
    let (mut seen_here, mut seen_there) = (dealer.events(), router.events());
    faulty.blackhole();
    event("the client's end", &mut seen_here, |kind| *kind == EventKind::Disconnected).await;
    event("the server's end", &mut seen_there, |kind| *kind == EventKind::Disconnected).await;
    assert!(router.sender().deliver(&to, text("x")).await.is_err());
    dealer.sender().send(text("after")).await.unwrap();
    faulty.heal();
    assert_eq!(&next(&mut router).await.message[0][..], b"after");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_never_shakes_hands_is_cut_off() {
    use tokio::io::AsyncReadExt;
    let link = link();
    let mut options = plain_router();
    options.socket.handshake = std::time::Duration::from_millis(200);
    let router = link.router(options).await.unwrap();
    let mut events = router.events();
    let mut silent = tokio::net::TcpStream::connect(addr(router.endpoint())).await.unwrap();
    let mut all = Vec::new();
    within("the end", silent.read_to_end(&mut all)).await.unwrap();
    let told = event("the event", &mut events, |kind| matches!(kind, EventKind::HandshakeFailed(_))).await;
    assert_eq!(told.peer, Some(silent.local_addr().unwrap().to_string()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_connections_leave_no_descriptor_behind() {
    let (here, there) = (link(), link());
    let mut router = there.router(plain_router()).await.unwrap();
    let before = descriptors();
    for n in 0..1000 {
        let dealer = here.dealer(plain_dealer(router.endpoint())).await.unwrap();
        dealer.sender().send(numbered(n, 8)).await.unwrap();
        assert_eq!(number(&next(&mut router).await.message), n);
        if n % 2 == 0 {
            assert_eq!(dealer.close(LIMIT).await.unwrap().unsent, 0);
        }
    }
    eventually("the descriptors to be closed", LIMIT, async || (descriptors() <= before + 2).then_some(()))
        .await;
    let counted = eventually("the ends to be counted", LIMIT, async || {
        let counted = router.counters();
        (counted.disconnected >= 1000).then_some(counted)
    });
    assert_eq!(counted.await.connected, 1000);
}

fn descriptors() -> usize {
    std::fs::read_dir("/proc/self/fd").unwrap().count()
}
