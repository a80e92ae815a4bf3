//! Links that are cut, healed, silent.

use std::time::Duration;

use cluster::{Manager, Node};
use testkit::{FaultLink, Rng};

use crate::harness::{builder, full, listening, members};

/// Two nodes whose every way to each other is a breakable link.
async fn linked() -> (Manager, Manager, [FaultLink; 2]) {
    let (n1, one) = listening(builder("n1")).await;
    let (n2, two) = listening(builder("n2")).await;
    let link = |addr: &str| FaultLink::to(addr.strip_prefix("tcp://").unwrap().parse().unwrap());
    let links = [link(&one), link(&two)];
    n1.add_node(Node::new("n2", format!("tcp://{}", links[1].addr()))).unwrap();
    n2.add_node(Node::new("n1", format!("tcp://{}", links[0].addr()))).unwrap();
    (n1, n2, links)
}

#[tokio::test]
async fn links_are_cut_and_healed_and_every_message_arrives_once() {
    let mut rng = Rng::from_env();
    let (n1, n2, links) = linked().await;
    full(&[&n1, &n2]).await;
    let mut messages = n2.from_cluster();
    let reader = tokio::spawn(async move {
        let mut count = 0_u64;
        while let Some(message) = messages.next().await {
            if &message.payload[..] == b"last" {
                return count;
            }
            count += 1;
            assert_eq!((message.sequence, message.missed), (count, 0));
        }
        count
    });
    let mut sent = 0;
    let faults = async {
        for _ in 0..24 {
            let link = rng.pick(&links);
            match rng.within(0..3) {
                0 => link.reset(),
                1 => link.cut(),
                _ => link.blackhole(),
            }
            tokio::time::sleep(Duration::from_millis(rng.within(0..300))).await;
            links.iter().for_each(FaultLink::heal);
            tokio::time::sleep(Duration::from_millis(rng.within(0..200))).await;
        }
    };
    let traffic = async {
        loop {
            assert!(n1.to_node("n2", "x").await.unwrap().undelivered.is_empty());
            sent += 1;
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    tokio::select! { () = faults => {}, () = traffic => {} }
    full(&[&n1, &n2]).await;
    n1.to_node("n2", "last").await.unwrap();
    assert_eq!(reader.await.unwrap(), sent);
}

#[tokio::test]
async fn a_link_that_is_silent_is_left_and_healed() {
    let (n1, n2, links) = linked().await;
    full(&[&n1, &n2]).await;
    let mut leaves = n1.node_leave();
    links.iter().for_each(FaultLink::blackhole);
    assert_eq!(leaves.next().await.as_deref(), Some("n2"));
    assert_eq!(members(&n1), 0);
    links.iter().for_each(FaultLink::heal);
    full(&[&n1, &n2]).await;
}
