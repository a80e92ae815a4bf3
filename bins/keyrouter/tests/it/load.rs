//! Reloads under load: no lookup is dropped, and each sees one file, whole.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use testkit::Raw;

use crate::harness::{Router, nodes, service};

const LOADS: usize = 20;

/// A service of 1,000 nodes that are all called after the version, beside one that never changes.
fn version(number: usize) -> String {
    [service("changes", &nodes(&format!("v{number}"), 1000)), service("stays", &nodes("n", 3))].concat()
}

/// Asks both services again and again; gives the lookups, and the highest version seen.
async fn client(addr: std::net::SocketAddr, stop: Arc<AtomicBool>) -> (usize, usize) {
    let mut connection = Raw::connect(addr).await;
    let (mut lookups, mut newest) = (0, 0);
    while !stop.load(Ordering::Relaxed) {
        let ask = |service: &str| {
            format!("GET /service/{service}?key=k{lookups}&min=3&max=3 HTTP/1.1\r\nHost: x\r\n\r\n")
        };
        connection.send(ask("stays")).await;
        let answer = connection.answer().await.unwrap();
        assert_eq!((answer.status, answer.header("keyrouter-generation")), (200, Some("1")));
        connection.send(ask("changes")).await;
        let answer = connection.answer().await.unwrap();
        assert_eq!(answer.status, 200, "{}", answer.text());
        let generation: usize = answer.header("keyrouter-generation").unwrap().parse().unwrap();
        let versions: Vec<usize> = answer
            .json()
            .as_array()
            .unwrap()
            .iter()
            .map(|node| node.as_str().unwrap()[1..].split('-').next().unwrap().parse().unwrap())
            .collect();
        // The first load has version 0, and each reload is a load.
        assert!(versions.iter().all(|version| version + 1 == generation), "{versions:?} of {generation}");
        assert!(versions[0] >= newest, "{} after {newest}", versions[0]);
        newest = versions[0];
        lookups += 2;
    }
    (lookups, newest)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn reloads_drop_nothing_and_are_seen_whole() {
    let router = Router::start(&version(0), &[]).await;
    let stop = Arc::new(AtomicBool::new(false));
    let clients: Vec<_> = (0..16).map(|_| tokio::spawn(client(router.addr, stop.clone()))).collect();
    for number in 1..=LOADS {
        router.write(&version(number));
        router.hup_and_loaded().await;
        assert_eq!(router.generation("changes").await, number as u64 + 1);
    }
    stop.store(true, Ordering::Relaxed);
    for client in clients {
        let (lookups, newest) = client.await.unwrap();
        assert!(lookups > 2 * LOADS && newest > 0, "{lookups} lookups up to version {newest}");
    }
}
