//! Messages: to all, to one, many, and to a reader that is slow.

use std::time::Duration;

use cluster::{Event, Payload, SendError, Settings, Target};
use testkit::eventually;

use crate::harness::{PATIENCE, builder, full, listening, members, mesh, message, quick, wait_for};

#[tokio::test]
async fn a_message_goes_to_all_or_to_one() {
    let nodes = mesh(3).await;
    full(&nodes.iter().collect::<Vec<_>>()).await;
    let (mut two, mut three) = (nodes[1].events(), nodes[2].events());
    let receipt = nodes[0].to_cluster(Payload::from("all").of_type("text/plain")).await.unwrap();
    assert_eq!(receipt.accepted.iter().map(|name| &**name).collect::<Vec<_>>(), ["n2", "n3"]);
    assert!(receipt.undelivered.is_empty());
    let got = message(&mut two).await;
    assert_eq!((&*got.node, got.sequence, got.direct), ("n1", receipt.sequence, false));
    assert_eq!((got.content_type.as_deref(), &got.payload[..]), (Some("text/plain"), &b"all"[..]));
    assert_eq!(message(&mut three).await.sequence, receipt.sequence);

    let receipt = nodes[0].to_node("n3", "one").await.unwrap();
    let got = message(&mut three).await;
    assert_eq!((got.sequence, got.direct, got.missed), (receipt.sequence, true, 0));
    let receipt = nodes[0].to_cluster("all again").await.unwrap();
    let got = message(&mut two).await;
    assert_eq!((got.sequence, got.missed), (receipt.sequence, 0), "what was for n3 alone is no gap for n2");
}

#[tokio::test]
async fn what_cannot_be_sent_is_refused() {
    let nodes = mesh(2).await;
    let limit = nodes[0].settings().max_message;
    let too_large = SendError::TooLarge { bytes: limit + 1, limit };
    assert_eq!(nodes[0].try_to_cluster(vec![0; limit + 1]), Err(too_large));
    assert_eq!(nodes[0].try_to_node("n9", "x"), Err(SendError::Unknown("n9".into())));
    let long = Payload::from("x").of_type("x".repeat(256));
    assert_eq!(nodes[0].try_to_cluster(long), Err(SendError::ContentType));
    full(&[&nodes[0], &nodes[1]]).await;
    let mut messages = nodes[1].from_cluster();
    nodes[0].to_cluster(vec![7; limit]).await.unwrap();
    assert_eq!(messages.next().await.unwrap().payload.len(), limit, "the longest goes through");
    nodes[0].shutdown(Duration::ZERO).await;
    assert_eq!(nodes[0].to_cluster("x").await, Err(SendError::Closed));
}

#[tokio::test]
async fn a_hundred_thousand_arrive_in_order_at_both() {
    const COUNT: u64 = 100_000;
    let nodes = mesh(3).await;
    full(&nodes.iter().collect::<Vec<_>>()).await;
    let readers = nodes[1..].iter().map(|node| {
        let mut events = node.events();
        tokio::spawn(async move {
            let (mut next, mut batch) = (1, Vec::new());
            while next <= COUNT {
                events.next_many(&mut batch, 1024).await;
                for event in batch.drain(..) {
                    if let Event::Message(message) = event {
                        assert_eq!((message.sequence, message.missed), (next, 0));
                        next += 1;
                    }
                }
            }
        })
    });
    let readers: Vec<_> = readers.collect();
    let batch: Vec<_> = (0..500).map(|_| (Target::Cluster, Payload::from(vec![7_u8; 64]))).collect();
    let mut left = COUNT as usize;
    while left > 0 {
        let room = nodes[0].room();
        let outcomes = nodes[0].send_batch(&batch[..left.min(500)]);
        assert!(outcomes.iter().all(|outcome| outcome.as_ref().unwrap().undelivered.is_empty()));
        left -= outcomes.len();
        if outcomes.is_empty() {
            room.await;
        }
    }
    for reader in readers {
        reader.await.unwrap();
    }
    eventually("all is acknowledged", PATIENCE, async || {
        nodes[0].status().iter().all(|node| node.queue == 0).then_some(())
    })
    .await;
    assert_eq!(nodes[0].counters().sent, COUNT);
}

#[tokio::test]
async fn a_reader_that_is_slow_is_pinged_on_and_told_what_it_missed() {
    let small = Settings { window_messages: 1000, buffer: 10, ..quick() };
    let (n1, one) = listening(builder("n1").settings(small.clone())).await;
    let (n2, two) = listening(builder("n2").settings(small)).await;
    n1.add_node(cluster::Node::new("n2", two)).unwrap();
    n2.add_node(cluster::Node::new("n1", one)).unwrap();
    full(&[&n1, &n2]).await;
    let (mut told, mut messages) = (n1.events(), n2.from_cluster());
    let (mut kept, mut lost) = (0, 0);
    for _ in 0..1500 {
        let receipt = n1.to_cluster("x").await.unwrap();
        if receipt.undelivered.is_empty() { kept += 1 } else { lost += 1 }
    }
    assert!(lost > 0 && kept >= 1000, "{kept} kept, {lost} lost");
    let told = wait_for(&mut told, "undelivered", |event| match event {
        Event::Undelivered(lost) => Some(lost.clone()),
        _ => None,
    });
    assert_eq!(&*told.await.node, "n2");
    // Nothing is acknowledged for longer than the read timeout, and it stays a member.
    tokio::time::sleep(quick().read_timeout + Duration::from_millis(500)).await;
    assert_eq!((members(&n1), members(&n2)), (1, 1));
    for _ in 0..kept {
        assert_eq!(messages.next().await.unwrap().missed, 0);
    }
    n1.to_cluster("after the gap").await.unwrap();
    let after = messages.next().await.unwrap();
    assert_eq!((after.missed, after.sequence), (lost, 1501));
    eventually("the count is told", PATIENCE, async || {
        (n1.status()[0].undelivered == lost && n2.status()[0].missed == lost).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_full_window_pushes_back_while_the_peer_acknowledges() {
    let small = Settings { window_messages: 64, buffer: 8, ..quick() };
    let (n1, one) = listening(builder("n1").settings(small.clone())).await;
    let (n2, two) = listening(builder("n2").settings(small)).await;
    n1.add_node(cluster::Node::new("n2", two)).unwrap();
    n2.add_node(cluster::Node::new("n1", one)).unwrap();
    full(&[&n1, &n2]).await;
    let mut messages = n2.from_cluster();
    let reader = tokio::spawn(async move {
        let (mut count, mut missed) = (0, 0);
        loop {
            let message = messages.next().await.unwrap();
            (count, missed) = (count + 1, missed + message.missed);
            if &message.payload[..] == b"last" {
                return (count - 1, missed);
            }
            if count % 64 == 0 {
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        }
    });
    let (mut kept, mut lost) = (0, 0);
    for _ in 0..2000 {
        // A machine that gives n2 no processor for 50 ms makes it a stalled one.
        if n1.to_cluster("x").await.unwrap().undelivered.is_empty() { kept += 1 } else { lost += 1 }
    }
    while !n1.to_cluster("last").await.unwrap().undelivered.is_empty() {
        lost += 1;
    }
    assert_eq!(reader.await.unwrap(), (kept, lost));
    assert!(n1.counters().refused > 0, "the sender had to wait");
    assert!(kept > 1000, "and mostly did: {kept} kept, {lost} lost");
}

#[tokio::test]
async fn one_who_is_away_gets_what_was_sent_meanwhile_and_one_who_is_gone_gets_an_error() {
    let (n1, _) =
        listening(builder("n1").settings(Settings { resend_for: Duration::from_secs(2), ..quick() })).await;
    let port = testkit::free_port();
    n1.add_node(cluster::Node::new("n2", format!("tcp://127.0.0.1:{port}"))).unwrap();
    let receipt = n1.to_node("n2", "early").await.unwrap();
    assert_eq!(&*receipt.accepted[0], "n2");
    let n2 = builder("n2").start().unwrap();
    n2.listen(format!("tcp://127.0.0.1:{port}")).await.unwrap();
    n2.add_node(cluster::Node::new("n1", "tcp://127.0.0.1:1")).unwrap();
    let mut messages = n2.from_cluster();
    assert_eq!(&messages.next().await.unwrap().payload[..], b"early");
    n2.shutdown(Duration::from_secs(1)).await;
    eventually("it is gone", PATIENCE, async || {
        (n1.try_to_node("n2", "x") == Err(SendError::Gone("n2".into()))).then_some(())
    })
    .await;
    let receipt = n1.to_cluster("to nobody").await.unwrap();
    assert_eq!((receipt.accepted.len(), &*receipt.undelivered[0]), (0, "n2"));
}

#[tokio::test]
async fn calls_wait_at_their_sender_until_they_are_read() {
    const COUNT: usize = 6000;
    let nodes = mesh(2).await;
    full(&[&nodes[0], &nodes[1]]).await;
    let mut calls = nodes[1].from_api();
    let _messages = nodes[1].from_cluster();
    let mut settings = nodes[1].settings();
    settings.buffer = 100;
    nodes[1].update_settings(settings).unwrap();
    for at in 0..COUNT {
        nodes[0].admin("n2", "act", at.to_be_bytes().to_vec()).unwrap();
    }
    eventually("as many came as are held", PATIENCE, async || {
        (nodes[1].counters().received == 100).then_some(())
    })
    .await;
    assert_eq!(nodes[0].status()[0].queue, COUNT - 100);
    for at in 0..COUNT {
        assert_eq!(calls.next().await.unwrap().data[..], at.to_be_bytes());
    }
}
