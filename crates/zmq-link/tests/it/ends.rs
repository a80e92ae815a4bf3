//! How sockets and links end.

use std::time::{Duration, Instant};

use zmq_link::{LinkError, SendError};

use crate::harness::*;

#[tokio::test(flavor = "multi_thread")]
async fn what_is_queued_is_sent_before_the_end() {
    let (here, there) = (link(), link());
    let mut router = there.router(plain_router()).await.unwrap();
    let dealer = here.dealer(plain_dealer(router.endpoint())).await.unwrap();
    for n in 0..5000 {
        dealer.sender().send(numbered(n, 1000)).await.unwrap();
    }
    let report = dealer.close(LIMIT).await.unwrap();
    assert_eq!((report.unsent, report.flushed), (0, true));
    for n in 0..5000 {
        assert_eq!(number(&next(&mut router).await.message), n);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_sent_is_told() {
    let link = link();
    let nobody = format!("tcp://127.0.0.1:{}", testkit::free_port());
    let dealer = link.dealer(plain_dealer(&nobody)).await.unwrap();
    let sender = dealer.sender();
    for n in 0..7 {
        sender.send(numbered(n, 100)).await.unwrap();
    }
    let outcome = tokio::spawn({
        let sender = sender.clone();
        async move { sender.deliver(numbered(7, 100)).await }
    });
    tokio::time::sleep(Duration::from_millis(50)).await;
    let report = within("the end", dealer.close(Duration::from_millis(100))).await.unwrap();
    assert_eq!((report.unsent, report.unsent_bytes), (8, 800));
    assert_eq!(outcome.await.unwrap(), Err(SendError::Closed));
    assert_eq!(sender.counters().unsent_at_close, 8);
    assert_eq!(sender.send(text("late")).await, Err(SendError::Closed));
    assert_eq!(sender.try_send(text("late")).unwrap_err().error, SendError::Closed);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_peer_that_does_not_read_is_told_of_and_bounded_by_the_linger_time() {
    let (here, there) = (link(), link());
    let mut options = plain_router();
    options.socket.inbound.messages = 1;
    options.socket.high_water_mark = 1;
    let router = there.router(options).await.unwrap();
    let mut options = plain_dealer(router.endpoint());
    options.socket.outbound.messages = 100;
    let dealer = here.dealer(options).await.unwrap();
    let sender = dealer.sender();
    let flood = tokio::spawn(async move { while sender.send(numbered(0, 100 << 10)).await.is_ok() {} });
    testkit::eventually("the queue to be full", LIMIT, async || (dealer.counters().waited > 0).then_some(()))
        .await;
    tokio::time::sleep(Duration::from_millis(100)).await;
    let began = Instant::now();
    let report = within("the end", dealer.close(Duration::from_millis(300))).await.unwrap();
    assert!(began.elapsed() >= Duration::from_millis(300), "it waited for the linger time");
    assert!(!report.flushed, "{report:?}");
    flood.await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_closed_link_frees_its_ports_and_refuses_everything() {
    let there = link();
    let mut router = there.router(plain_router()).await.unwrap();
    let endpoint = router.endpoint().to_owned();
    let here = link();
    let dealer = here.dealer(plain_dealer(&endpoint)).await.unwrap();
    dealer.sender().send(text("read")).await.unwrap();
    dealer.sender().send(text("unread")).await.unwrap();
    let to = next(&mut router).await.from.id.clone();
    testkit::eventually("the second one", LIMIT, async || (router.counters().received == 2).then_some(()))
        .await;
    let reports = within("the end", there.close(LIMIT)).await;
    assert_eq!((reports.len(), &*reports[0].0), (1, "server"));
    assert_eq!((reports[0].1.unsent, reports[0].1.flushed), (0, true));
    let sender = router.sender();
    assert_eq!(sender.send(&to, text("late")).await, Err(SendError::Closed));
    assert!(matches!(router.rebind(zmq_link::KeyPair::generate().unwrap()).await, Err(LinkError::Closed)));
    assert_eq!(&next(&mut router).await.message[0][..], b"unread");
    assert!(router.recv().await.is_none());
    let _same_port = std::net::TcpListener::bind(endpoint.strip_prefix("tcp://").unwrap()).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_drop_without_close_waits_for_nothing() {
    let nobody = format!("tcp://127.0.0.1:{}", testkit::free_port());
    let (kept, threads) = (link(), threads());
    for _ in 0..20 {
        let link = link();
        let dealer = link.dealer(plain_dealer(&nobody)).await.unwrap();
        for n in 0..100 {
            dealer.sender().send(numbered(n, 10_000)).await.unwrap();
        }
        let began = Instant::now();
        drop(link);
        drop(dealer);
        assert!(began.elapsed() < testkit::patience(Duration::from_secs(2)));
    }
    testkit::eventually("the threads to end", LIMIT, async || (self::threads() <= threads).then_some(()))
        .await;
    drop(kept);
}

fn threads() -> usize {
    std::fs::read_dir("/proc/self/task").unwrap().count()
}
