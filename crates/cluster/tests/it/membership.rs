//! Who is there, and whether that is enough.

use std::time::Duration;

use cluster::{Event, Node, NodeError, SendError, Status};
use testkit::eventually;

use crate::harness::{PATIENCE, builder, full, listening, members, mesh, wait_for};

#[tokio::test]
async fn three_nodes_join_have_a_quorum_and_leave_at_once() {
    let nodes = mesh(3).await;
    let [n1, n2, n3] = &nodes[..] else { unreachable!() };
    let mut quorum = n1.quorum_state();
    full(&[n1, n2, n3]).await;
    assert!(n1.quorum());
    let n2_seen = n1.status().into_iter().find(|node| &*node.name == "n2").unwrap();
    assert_eq!((n2_seen.status, n2_seen.error.as_str()), (Status::Online, ""));
    assert!(n2_seen.jointime.is_some());
    assert!(n2_seen.lag.is_some());

    let mut leaves = n1.node_leave();
    n3.shutdown(Duration::from_secs(1)).await;
    assert_eq!(leaves.next().await.as_deref(), Some("n3"));
    assert!(n1.quorum(), "two of three");
    n2.shutdown(Duration::from_secs(1)).await;
    assert_eq!(leaves.next().await.as_deref(), Some("n2"));
    assert!(!n1.quorum());
    drop(nodes);
    let mut states = Vec::new();
    while let Some(state) = quorum.next().await {
        states.push(state);
    }
    assert!(states.windows(2).all(|pair| pair[0] != pair[1]), "told at changes only: {states:?}");
    assert_eq!(states.last(), Some(&false));
}

#[tokio::test]
async fn joins_and_leaves_alternate_and_a_late_reader_begins_with_how_it_stands() {
    let nodes = mesh(2).await;
    full(&[&nodes[0], &nodes[1]]).await;
    let mut events = nodes[0].events();
    assert_eq!(events.next().await, Some(Event::Join("n2".into())));
    assert_eq!(events.next().await, Some(Event::Quorum(true)));
    for _ in 0..5 {
        nodes[0].admin("n2", "admindown", "").unwrap();
        wait_for(&mut events, "leave", |event| (*event == Event::Leave("n2".into())).then_some(())).await;
        assert_eq!(members(&nodes[0]), 0);
        assert!(nodes[0].status()[0].admin_down);
        nodes[0].admin("n2", "adminup", "").unwrap();
        wait_for(&mut events, "join", |event| (*event == Event::Join("n2".into())).then_some(())).await;
    }
    assert_eq!(nodes[0].admin("n9", "reconnect", ""), Err(SendError::Unknown("n9".into())));
}

#[tokio::test]
async fn a_link_taken_down_stays_down_on_both_sides() {
    let nodes = mesh(2).await;
    full(&[&nodes[0], &nodes[1]]).await;
    nodes[1].admin("n1", "admindown", "").unwrap();
    eventually("n1 is told why", PATIENCE, async || {
        let status = nodes[0].status().remove(0);
        (status.status == Status::Offline && status.error.contains("by hand")).then_some(())
    })
    .await;
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert_eq!((members(&nodes[0]), members(&nodes[1])), (0, 0));
    nodes[1].admin("n1", "adminup", "").unwrap();
    full(&[&nodes[0], &nodes[1]]).await;
}

#[tokio::test]
async fn a_reconnect_by_hand_loses_nobody_and_nothing() {
    let nodes = mesh(2).await;
    full(&[&nodes[0], &nodes[1]]).await;
    let mut messages = nodes[1].from_cluster();
    let mut leaves = nodes[0].node_leave();
    for round in 0..10_u64 {
        nodes[(round % 2) as usize].admin(if round % 2 == 0 { "n2" } else { "n1" }, "reconnect", "").unwrap();
        for _ in 0..100 {
            nodes[0].to_cluster("x").await.unwrap();
        }
        tokio::time::sleep(Duration::from_millis(150)).await;
    }
    for sequence in 1..=1000 {
        let message = messages.next().await.unwrap();
        assert_eq!((message.sequence, message.missed), (sequence, 0));
    }
    full(&[&nodes[0], &nodes[1]]).await;
    // A machine under load may take longer than the grace; then it left and joined, which is right as well.
    println!("leaves in ten reconnects: {}", std::iter::from_fn(|| leaves.try_next()).count());
}

#[tokio::test]
async fn nodes_come_and_go_at_run_time() {
    let (n1, one) = listening(builder("n1")).await;
    let (n2, two) = listening(builder("n2")).await;
    n1.add_node(Node::new("n2", two)).unwrap();
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert_eq!(members(&n1), 0, "n2 does not know n1");
    n2.add_node(Node::new("n1", one)).unwrap();
    full(&[&n1, &n2]).await;
    n1.remove_node("n2").unwrap();
    assert_eq!(n1.remove_node("n2"), Err(NodeError::Unknown("n2".into())));
    eventually("n1 left n2", PATIENCE, async || (members(&n2) == 0).then_some(())).await;
    assert!(n1.nodes().is_empty());
    assert!(matches!(n1.add_node(Node::new("n1", "tcp://h:1")), Err(NodeError::Own(_))));
}

#[tokio::test]
async fn one_side_that_can_be_reached_is_enough() {
    // n2 is dialed by n1, as the lower name; here only n2 can reach n1.
    let (n1, one) = listening(builder("n1")).await;
    let (n2, _) = listening(builder("n2")).await;
    n1.add_node(Node::new("n2", "tcp://127.0.0.1:1")).unwrap();
    n2.add_node(Node::new("n1", one)).unwrap();
    full(&[&n1, &n2]).await;
}

#[tokio::test]
async fn asked_actions_come_in_order_with_messages() {
    let nodes = mesh(2).await;
    full(&[&nodes[0], &nodes[1]]).await;
    let mut events = nodes[1].events();
    let mut calls = nodes[1].from_api();
    nodes[0].to_node("n2", "before").await.unwrap();
    nodes[0].admin("n2", "reload", "now").unwrap();
    nodes[0].to_node("n2", "after").await.unwrap();
    let mut seen = Vec::new();
    while seen.len() < 3 {
        match events.next().await.unwrap() {
            Event::Message(message) => seen.push(String::from_utf8(message.payload.to_vec()).unwrap()),
            Event::Api(call) => seen.push(format!("{} {}", call.from, call.action)),
            _ => {}
        }
    }
    assert_eq!(seen, ["before", "n1 reload", "after"]);
    assert_eq!(&calls.next().await.unwrap().data[..], b"now");
}
