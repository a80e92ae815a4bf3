//! Managers on loopback, and their streams read to the end.

use std::time::Duration;

use cluster::{Builder, Event, Events, Keyring, Manager, Message, Node, Settings};
use testkit::eventually;

pub(crate) const SECRET: &str = "a secret of the tests, long enough";
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// Short times, so that tests do not wait.
pub(crate) fn quick() -> Settings {
    Settings {
        ping_interval: Duration::from_millis(200),
        read_timeout: Duration::from_secs(2),
        connect_interval: Duration::from_millis(200),
        ..Settings::default()
    }
}

pub(crate) fn builder(name: &str) -> Builder {
    Manager::builder(name).keyring(Keyring::new([SECRET]).unwrap()).settings(quick())
}

pub(crate) async fn listening(builder: Builder) -> (Manager, String) {
    let manager = builder.start().unwrap();
    let addr = manager.listen("tcp://127.0.0.1:0").await.unwrap();
    (manager, addr)
}

/// So many managers, `n1` first, that all know each other.
pub(crate) async fn mesh(count: usize) -> Vec<Manager> {
    let mut nodes = Vec::new();
    for at in 1..=count {
        nodes.push(listening(builder(&format!("n{at}"))).await);
    }
    acquaint(&nodes);
    nodes.into_iter().map(|(manager, _)| manager).collect()
}

pub(crate) fn acquaint(nodes: &[(Manager, String)]) {
    for (manager, _) in nodes {
        for (peer, addr) in nodes.iter().filter(|(peer, _)| peer.name() != manager.name()) {
            manager.add_node(Node::new(peer.name(), addr.clone())).unwrap();
        }
    }
}

pub(crate) fn members(manager: &Manager) -> usize {
    manager.status().iter().filter(|node| node.status == cluster::Status::Online).count()
}

pub(crate) async fn full(managers: &[&Manager]) {
    eventually("everybody is a member", PATIENCE, async || {
        managers.iter().all(|manager| members(manager) == managers.len() - 1).then_some(())
    })
    .await;
}

/// Waits for the first event that this finds something in.
pub(crate) async fn wait_for<T>(events: &mut Events, what: &str, find: impl Fn(&Event) -> Option<T>) -> T {
    let search = async {
        loop {
            let event = events.next().await.unwrap_or_else(|| panic!("the stream ended before: {what}"));
            if let Some(found) = find(&event) {
                return found;
            }
        }
    };
    tokio::time::timeout(testkit::patience(PATIENCE), search)
        .await
        .unwrap_or_else(|_| panic!("waited in vain for: {what}"))
}

pub(crate) async fn message(events: &mut Events) -> Message {
    wait_for(events, "a message", |event| match event {
        Event::Message(message) => Some(message.clone()),
        _ => None,
    })
    .await
}
