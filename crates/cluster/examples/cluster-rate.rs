//! Messages a second from one node to two others, in one process:
//! `cargo run --release -p cluster --example cluster-rate -- [BYTES] [MESSAGES] [ROUNDS]`
//!
//! All are sent as fast as they are taken; both receivers check that none is missing and that they are in order.

#![expect(clippy::print_stdout, clippy::unwrap_used, reason = "a measuring program")]

use std::time::{Duration, Instant};

use cluster::{Event, Events, Manager, Node, Payload, Status, Target};

const SECRET: &str = "the secret of a measurement";

#[tokio::main]
async fn main() {
    let mut args = std::env::args().skip(1).map(|arg| arg.parse::<usize>().unwrap());
    let (bytes, count) = (args.next().unwrap_or(64), args.next().unwrap_or(1_000_000));
    let rounds = args.next().unwrap_or(3);
    for _ in 0..rounds {
        let (single, batch) = (round(bytes, count, 1).await, round(bytes, count, 500).await);
        println!(
            "{bytes} B, {count} messages to each of 2 nodes: {single:.0}/s one a call, {batch:.0}/s 500 a call"
        );
    }
}

/// Messages a second, from the first one sent until both have the last one.
async fn round(bytes: usize, count: usize, at_once: usize) -> f64 {
    let mut nodes = Vec::new();
    for name in ["n1", "n2", "n3"] {
        let manager = Manager::new(name, SECRET).unwrap();
        let addr = manager.listen("tcp://127.0.0.1:0").await.unwrap();
        nodes.push((manager, addr));
    }
    for (manager, _) in &nodes {
        for (peer, addr) in nodes.iter().filter(|(peer, _)| peer.name() != manager.name()) {
            manager.add_node(Node::new(peer.name(), addr.clone())).unwrap();
        }
    }
    let sender = &nodes[0].0;
    while !sender.status().iter().all(|node| node.status == Status::Online) {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let readers: Vec<_> =
        nodes[1..].iter().map(|(node, _)| tokio::spawn(read(node.events(), count as u64))).collect();
    let start = Instant::now();
    let payload = Payload::from(vec![7_u8; bytes]);
    if at_once == 1 {
        for _ in 0..count {
            assert!(sender.to_cluster(payload.clone()).await.unwrap().undelivered.is_empty());
        }
    } else {
        let batch: Vec<_> = (0..at_once).map(|_| (Target::Cluster, payload.clone())).collect();
        let mut left = count;
        while left > 0 {
            let room = sender.room();
            let outcomes = sender.send_batch(&batch[..left.min(at_once)]);
            assert!(outcomes.iter().all(|outcome| outcome.as_ref().unwrap().undelivered.is_empty()));
            left -= outcomes.len();
            if outcomes.is_empty() {
                room.await;
            }
        }
    }
    for reader in readers {
        reader.await.unwrap();
    }
    let rate = count as f64 / start.elapsed().as_secs_f64();
    for (node, _) in &nodes {
        node.shutdown(Duration::from_secs(1)).await;
    }
    rate
}

async fn read(mut events: Events, count: u64) {
    let (mut next, mut batch) = (1, Vec::new());
    while next <= count {
        assert!(events.next_many(&mut batch, 1024).await > 0, "the stream ended");
        for event in batch.drain(..) {
            if let Event::Message(message) = event {
                assert_eq!((message.sequence, message.missed), (next, 0), "in order, none missing");
                next += 1;
            }
        }
    }
}
