//! Order, completeness, and who waits for whom.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::time::Duration;

use testkit::eventually;
use zmq_link::{Limits, Multipart, Requester, Responder, SendError};

use crate::harness::*;

const MANY: u64 = 200_000;

#[tokio::test(flavor = "multi_thread")]
async fn all_from_a_dealer_to_a_router_in_order() {
    let link = link();
    let mut router = link.router(plain_router()).await.unwrap();
    let dealer = link.dealer(plain_dealer(router.endpoint())).await.unwrap();
    let sender = dealer.sender();
    let sending = tokio::spawn(async move {
        for n in 0..MANY {
            sender.send(numbered(n, 64)).await.unwrap();
        }
    });
    for n in 0..MANY {
        assert_eq!(number(&next(&mut router).await.message), n);
    }
    sending.await.unwrap();
    assert_eq!(router.counters().received, MANY);
    assert_eq!(dealer.counters().sent, MANY);
}

#[tokio::test(flavor = "multi_thread")]
async fn all_from_a_router_to_each_of_three_dealers_in_order() {
    let link = link();
    let mut router = link.router(plain_router()).await.unwrap();
    let mut tasks = Vec::new();
    for _ in 0..3 {
        let mut dealer = link.dealer(plain_dealer(router.endpoint())).await.unwrap();
        dealer.sender().send(text("hello")).await.unwrap();
        let (to, sender) = (next(&mut router).await.from.id.clone(), router.sender());
        tasks.push(tokio::spawn(async move {
            for first in (0..MANY / 3).step_by(100) {
                let batch = (first..(first + 100).min(MANY / 3)).map(|n| numbered(n, 64));
                sender.send_all(&to, batch).await.unwrap();
            }
        }));
        tasks.push(tokio::spawn(async move {
            for n in 0..MANY / 3 {
                let incoming = within("a message", dealer.recv()).await.unwrap();
                assert_eq!(number(&incoming.message), n);
            }
        }));
    }
    for task in tasks {
        task.await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_request_gets_its_own_answer() {
    let link = link();
    let router = link.router(plain_router()).await.unwrap();
    let dealer = link.dealer(plain_dealer(router.endpoint())).await.unwrap();
    let (mut requester, mut responder) = (Requester::new(dealer), Responder::new(router));
    tokio::spawn(async move {
        while let Some(request) = responder.recv().await {
            let body = request.body[0].to_vec();
            request.answer([body]).await.unwrap();
        }
    });
    for n in 0..MANY / 20 {
        let answer = requester.ask([n.to_be_bytes().to_vec()], LIMIT).await.unwrap();
        assert_eq!(answer[0][..], n.to_be_bytes());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_answer_is_not_taken_for_the_next_one() {
    let link = link();
    let router = link.router(plain_router()).await.unwrap();
    let dealer = link.dealer(plain_dealer(router.endpoint())).await.unwrap();
    let (mut requester, mut responder) = (Requester::new(dealer), Responder::new(router));
    let late = async {
        let first = responder.recv().await.unwrap();
        let second = responder.recv().await.unwrap();
        first.answer([&b"first"[..]]).await.unwrap();
        second.answer([&b"second"[..]]).await.unwrap();
    };
    let asking = async {
        let short = Duration::from_millis(100);
        assert!(requester.ask([&b"one"[..]], short).await.is_err());
        requester.ask([&b"two"[..]], LIMIT).await.unwrap()
    };
    let ((), answer) = tokio::join!(late, asking);
    assert_eq!(&answer[0][..], b"second");
}

/// Small queues everywhere, so that a stop is felt at once.
fn small() -> Limits {
    Limits { messages: 100, bytes: 1 << 20 }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reader_that_stops_makes_the_sender_wait_and_loses_nothing() {
    let link = link();
    let mut options = plain_router();
    options.socket.inbound = small();
    options.socket.max_message = 64 << 10;
    options.socket.high_water_mark = 100;
    let mut router = link.router(options).await.unwrap();
    let mut options = plain_dealer(router.endpoint());
    options.socket.outbound = small();
    options.socket.max_message = 64 << 10;
    options.socket.high_water_mark = 100;
    let dealer = link.dealer(options).await.unwrap();

    let (sender, sent) = (dealer.sender(), Arc::new(AtomicU64::new(0)));
    let counted = Arc::clone(&sent);
    let total = 50_000;
    let sending = tokio::spawn(async move {
        for n in 0..total {
            sender.send(numbered(n, 4096)).await.unwrap();
            counted.store(n + 1, SeqCst);
        }
    });
    let stuck = stands_still(&sent).await;
    // Our queues, libzmq's in both directions, and what the kernel holds for a TCP connection.
    assert!(stuck < 10_000, "{stuck} messages of 4 KiB were taken while nobody read");
    let resident = resident_bytes();
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert_eq!(sent.load(SeqCst), stuck);
    assert!(resident_bytes() < resident + (8 << 20), "memory grows while nobody reads");
    let full = dealer.sender().try_send(numbered(0, 8)).unwrap_err();
    assert_eq!((full.error, number(&full.message)), (SendError::Full, 0));
    assert_eq!(dealer.counters().refused_full, 1);
    assert!(dealer.counters().held_back > 0 && router.counters().inbound_paused > 0);

    for n in 0..total {
        assert_eq!(number(&next(&mut router).await.message), n);
    }
    sending.await.unwrap();
}

/// Waits until the number no longer grows, and gives it.
async fn stands_still(number: &AtomicU64) -> u64 {
    let mut last = (0, 0);
    eventually("the sender to wait", LIMIT, async || {
        tokio::time::sleep(Duration::from_millis(20)).await;
        let now = number.load(SeqCst);
        last = if now == last.0 { (now, last.1 + 1) } else { (now, 0) };
        (now > 0 && last.1 >= 10).then_some(now)
    })
    .await
}

fn resident_bytes() -> u64 {
    let status = std::fs::read_to_string("/proc/self/statm").unwrap();
    status.split(' ').nth(1).unwrap().parse::<u64>().unwrap() * 4096
}

#[tokio::test(flavor = "multi_thread")]
async fn a_peer_that_does_not_read_delays_no_other() {
    let link = link();
    let mut options = plain_router();
    options.socket.outbound = small();
    options.socket.max_message = 64 << 10;
    options.socket.high_water_mark = 10;
    let (router, stuck, to_stuck) = connected(&link, options).await;
    // Another link: a client whose thread reads nothing, since its own queue is full.
    let mut router = router;
    let mut other = link.dealer(plain_dealer(router.endpoint())).await.unwrap();
    other.sender().send(text("hello")).await.unwrap();
    let to_other = next(&mut router).await.from.id.clone();

    let sender = router.sender();
    let flood =
        tokio::spawn(async move { while sender.send(&to_stuck, numbered(0, 60 << 10)).await.is_ok() {} });
    eventually("the queue to the first to be full", LIMIT, async || {
        (router.counters().waited > 0).then_some(())
    })
    .await;
    for n in 0..10_000 {
        router.sender().send(&to_other, numbered(n, 64)).await.unwrap();
        let incoming = within("the other's message", other.recv()).await.unwrap();
        assert_eq!(number(&incoming.message), n);
    }
    flood.abort();
    drop(stuck);
}

#[tokio::test(flavor = "multi_thread")]
async fn those_who_wait_come_in_turn_and_a_dropped_wait_sends_nothing() {
    let link = link();
    let port = testkit::free_port();
    let endpoint = format!("tcp://127.0.0.1:{port}");
    let mut options = plain_dealer(&endpoint);
    options.socket.outbound = Limits { messages: 2, bytes: 8 << 20 };
    let dealer = link.dealer(options).await.unwrap();
    for n in 0..2 {
        dealer.sender().send(numbered(n, 8)).await.unwrap();
    }
    let mut waits = Vec::new();
    for n in 2..6_u64 {
        let sender = dealer.sender();
        let before = dealer.counters().waited;
        waits.push(tokio::spawn(async move { sender.send(numbered(n, 8)).await }));
        eventually("it to wait", LIMIT, async || (dealer.counters().waited > before).then_some(())).await;
        // Counted a moment before it stands in the line.
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    waits.remove(1).abort();
    let mut options = plain_router();
    options.endpoint = endpoint;
    let mut router = link.router(options).await.unwrap();
    for n in [0, 1, 2, 4, 5] {
        assert_eq!(number(&next(&mut router).await.message), n);
    }
    for wait in waits {
        wait.await.unwrap().unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn frames_of_all_sizes_arrive_as_they_were_sent() {
    let link = link();
    let (mut router, mut dealer, to) = connected(&link, plain_router()).await;
    let mut rng = testkit::Rng::from_env();
    for _ in 0..300 {
        let frames: Vec<Vec<u8>> = (0..rng.within(1..17))
            .map(|_| {
                let size = *rng.pick(&[0, 1, 33, 34, 511, 513, 5000, 100_000]);
                rng.bytes(size)
            })
            .collect();
        dealer.sender().send(frames.iter().cloned().collect()).await.unwrap();
        let there = next(&mut router).await.message;
        assert!(there.iter().eq(&frames));
        // Back as the frames that came in.
        let back: Multipart = there.into_frames().collect();
        router.sender().send(&to, back).await.unwrap();
        let back = within("the echo", dealer.recv()).await.unwrap().message;
        assert!(back.into_frames().eq(frames));
    }
}
