//! Three managers in one process: who is there, a message to all, one to one, a leave.
//! `cargo run -p cluster --example three-nodes`

#![expect(clippy::print_stdout, reason = "an example shows what happens")]

use std::time::Duration;

use cluster::{Event, Manager, Node};

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let secret = "one secret that all nodes share";
    let mut managers = Vec::new();
    for name in ["n1", "n2", "n3"] {
        let manager = Manager::new(name, secret)?;
        let addr = manager.listen("tcp://127.0.0.1:0").await?;
        managers.push((manager, addr));
    }
    for (manager, _) in &managers {
        for (peer, addr) in &managers {
            if peer.name() != manager.name() {
                manager.add_node(Node::new(peer.name(), addr.as_str()))?;
            }
        }
    }

    // What the second node sees, in one order.
    let mut events = managers[1].0.events();
    let watching = tokio::spawn(async move {
        while let Some(event) = events.next().await {
            match event {
                Event::Join(node) => println!("n2: {node} joined"),
                Event::Leave(node) => println!("n2: {node} left"),
                Event::Quorum(quorum) => println!("n2: quorum {quorum}"),
                Event::Message(message) => {
                    println!("n2: {} said {:?}", message.node, String::from_utf8_lossy(&message.payload));
                }
                other => println!("n2: {other:?}"),
            }
        }
    });

    let (first, _) = &managers[0];
    let mut joins = first.node_join();
    for _ in 0..2 {
        if let Some(node) = joins.next().await {
            println!("n1: {node} joined");
        }
    }
    let receipt = first.to_cluster("hello to all").await?;
    println!("n1: message {} taken for {:?}", receipt.sequence, receipt.accepted);
    first.to_node("n2", "hello to you alone").await?;

    managers[2].0.shutdown(Duration::from_secs(1)).await;
    if let Some(node) = first.node_leave().next().await {
        println!("n1: {node} left; quorum {}", first.quorum());
    }
    for (manager, _) in &managers[..2] {
        manager.shutdown(Duration::from_secs(1)).await;
    }
    watching.await?;
    Ok(())
}
