//! Many clients, slow ones, and those that go away: nobody waits for them, nothing is left of them.

use std::time::{Duration, Instant};

use testkit::http::ask;
use testkit::{Act, Program, Raw, RecorderNode, Rule, TempDir, eventually};

use super::proxy_before;
use crate::harness::{Flags, Proxy, SOON};

#[expect(clippy::print_stderr, reason = "what was not tested has to be in the output")]
/// As many of `wanted` connections as the system lets this process and the proxy have.
fn connections(wanted: usize) -> usize {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    let _ = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit });
    let most = getrlimit(Resource::Nofile)
        .current
        .map_or(usize::MAX, |most| usize::try_from(most).unwrap_or(usize::MAX));
    let possible = wanted.min(most.saturating_sub(1_000));
    if possible < wanted {
        eprintln!("only {possible} of {wanted} connections: this system's limit is {most} open files");
    }
    possible
}

/// Sends one read on each connection, some at a time.
async fn use_all(connections: Vec<Raw>) -> Vec<Raw> {
    let mut used = Vec::with_capacity(connections.len());
    let mut rest = connections.into_iter();
    loop {
        let mut batch: Vec<Raw> = rest.by_ref().take(200).collect();
        if batch.is_empty() {
            return used;
        }
        for raw in &mut batch {
            raw.send("GET /one HTTP/1.1\r\nHost: h\r\n\r\n").await;
        }
        for raw in &mut batch {
            assert_eq!(raw.answer().await.expect("an answer").status, 200);
        }
        used.append(&mut batch);
    }
}

async fn prompt(proxy: &Proxy) {
    let begun = Instant::now();
    for number in 0..20 {
        assert_eq!(proxy.get(&format!("/x/{number}")).await.status, 200);
        assert_eq!(proxy.put(&format!("/x/{number}"), "1").await.status, 200);
    }
    assert!(begun.elapsed() < SOON / 3, "40 requests took {:?}", begun.elapsed());
}

#[tokio::test]
async fn ten_thousand_idle_connections_are_no_burden() {
    let count = connections(10_000);
    let node = RecorderNode::start("n");
    let proxy = Flags::new().node(node.addr()).start().await;
    prompt(&proxy).await;
    let before = proxy.process.rss();
    let each = |now: u64| now.saturating_sub(before) / count as u64;
    let mut idle = Vec::with_capacity(count);
    for _ in 0..count {
        idle.push(Raw::connect(proxy.addr).await);
    }
    prompt(&proxy).await;
    let fresh = each(proxy.process.rss());
    let idle = use_all(idle).await;
    prompt(&proxy).await;
    let used = each(proxy.process.rss());
    println!(
        "IDLE: {fresh} bytes for a connection that sent nothing, {used} for one between requests, of {count}"
    );
    assert!(fresh < 64 * 1024 && used < 64 * 1024, "{fresh} and {used} bytes a connection");
    drop(idle);
    prompt(&proxy).await;
}

#[tokio::test]
async fn slow_heads_and_bodies_end_and_hold_nobody_up() {
    let node = RecorderNode::start("n");
    let proxy =
        proxy_before(&node, &["--header-timeout", "600ms", "--body-timeout", "600ms", "--timeout", "5s"])
            .await;
    let heads = [
        "GET /slow HTTP/1.1\r\nHost: h\r\nX: xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx",
        "PUT /slow HTTP/1.1\r\nHost: h\r\nContent-Length: 100000\r\n\r\n",
        "GET /slow HTTP/1.1\r\nHost: h\r\nContent-Length: 1000\r\n\r\n",
        "GET /slow HTTP/1.1\r\nHost: h\r\nContent-Length: 100000\r\n\r\n",
        "GET /slow HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n186a0\r\n",
        "PUT /slow HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n186a0\r\n",
    ];
    let slow = heads.iter().map(async |head| {
        let mut raw = Raw::connect(proxy.addr).await;
        let body = head.contains("\r\n\r\n");
        let mut bytes = head.bytes();
        if body {
            raw.send(bytes.by_ref().collect::<Vec<u8>>()).await;
        }
        let mut bytes = bytes.chain(std::iter::repeat(b'x'));
        // One byte at a time, never a long pause: what counts is the whole.
        let drip = async {
            loop {
                raw.send([bytes.next().unwrap_or(b'x')]).await;
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        };
        let _ = tokio::time::timeout(Duration::from_secs(3), drip).await;
        let answer = raw.answer().await;
        assert!(answer.as_ref().map_or(!body, |answer| answer.status == 408), "{head:?}: {answer:?}");
        assert!(
            answer.is_err() || {
                raw.closed().await;
                true
            }
        );
    });
    let others = async {
        loop {
            prompt(&proxy).await;
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::select! { _ = futures_util::future::join_all(slow) => {}, () = others => unreachable!() }
    assert!(node.entries().iter().all(|entry| entry.target != "/slow"));
    // A slow client says nothing about the node.
    let log = proxy.process.log();
    assert!(!log.iter().any(|line| line.contains("node does not answer")), "{log:?}");
}

#[tokio::test]
async fn a_pause_in_a_large_read_is_not_the_nodes_fault() {
    let node = RecorderNode::start("n");
    let proxy = proxy_before(&node, &["--timeout", "300ms", "--body-timeout", "20s"]).await;
    let mut raw = Raw::connect(proxy.addr).await;
    raw.send("GET /large HTTP/1.1\r\nHost: h\r\nContent-Length: 100000\r\n\r\n").await;
    raw.send(vec![b'x'; 90_000]).await;
    tokio::time::sleep(Duration::from_millis(900)).await;
    raw.send(vec![b'x'; 10_000]).await;
    assert_eq!(raw.answer().await.unwrap().status, 200);
    node.rule(Rule::new(Act::Hang).path("/stuck"));
    raw.send("GET /stuck HTTP/1.1\r\nHost: h\r\nContent-Length: 100000\r\n\r\n").await;
    raw.send(vec![b'x'; 100_000]).await;
    assert_eq!(raw.answer().await.unwrap().status, 504);
}

#[tokio::test]
async fn who_leaves_within_a_body_leaves_nothing() {
    let node = RecorderNode::start("n");
    let proxy = proxy_before(&node, &[]).await;
    for (number, head) in [
        "PUT /half HTTP/1.1\r\nHost: h\r\nContent-Length: 10\r\n\r\nhello",
        "PUT /half HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n",
        "PUT /half HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n",
        "PUT /half HTTP/1.1\r\nHost: h\r\nContent-Length: 10\r\n\r\n",
        "PUT /half HTTP/1.1\r\nHost: h\r\nContent-Le",
    ]
    .into_iter()
    .enumerate()
    {
        let mut raw = Raw::connect(proxy.addr).await;
        raw.send(head).await;
        if number % 2 == 0 {
            raw.reset();
        } else {
            drop(raw);
        }
    }
    let mut large = Raw::connect(proxy.addr).await;
    large.send("PUT /half HTTP/1.1\r\nHost: h\r\nContent-Length: 10000000\r\n\r\n").await;
    large.send(vec![b'x'; 5_000_000]).await;
    drop(large);
    // The log is as if they had never been: the first update is number 1, and no body is left on disk.
    let answer = proxy.put("/whole", "1").await;
    assert_eq!((answer.status, answer.header("spawn-sequence")), (200, Some("1")));
    proxy.level().await;
    assert_eq!((node.count(), proxy.results("/updates").await.len()), (1, 1));
    let parts = proxy.dir.join("data/log/spool");
    eventually("spooled parts to be removed", SOON, async || files_in(&parts).is_empty().then_some(())).await;
}

fn files_in(folder: &std::path::Path) -> Vec<std::path::PathBuf> {
    std::fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path()).collect()
}

#[tokio::test]
async fn who_leaves_after_sending_has_sent_it() {
    let nodes = RecorderNode::start_many(2);
    let proxy = Flags::new().nodes(&nodes).start().await;
    for number in 0..50 {
        let mut raw = Raw::connect(proxy.addr).await;
        let body = "x".repeat(if number % 10 == 0 { 100_000 } else { 10 });
        raw.send(format!(
            "PUT /gone/{number} HTTP/1.1\r\nHost: h\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        ))
        .await;
        drop(raw);
    }
    eventually("all 50 updates on both nodes", SOON, async || {
        nodes.iter().all(|node| node.applied() == 50).then_some(())
    })
    .await;
    proxy.level().await;
}

#[tokio::test]
async fn connections_beyond_the_limit_wait_their_turn() {
    let node = RecorderNode::start("n");
    let proxy = proxy_before(&node, &["--max-connections", "3"]).await;
    let mut held = Vec::new();
    for _ in 0..3 {
        let mut raw = Raw::connect(proxy.addr).await;
        raw.send("GET /held HTTP/1.1\r\nHost: h\r\n\r\n").await;
        assert_eq!(raw.answer().await.unwrap().status, 200);
        held.push(raw);
    }
    let waiting = ask("GET", "/waiting").of(proxy.addr);
    tokio::pin!(waiting);
    assert!(
        tokio::time::timeout(Duration::from_millis(300), &mut waiting).await.is_err(),
        "served beyond the limit"
    );
    assert_eq!(proxy.api("/queues").await["data"]["success"], true, "the API has places of its own");
    held.pop();
    assert_eq!(waiting.await.status, 200);
}

#[tokio::test]
async fn clients_cannot_take_the_files_that_requests_need() {
    let node = RecorderNode::start("n");
    let dir = TempDir::new();
    let program =
        Program::new("prlimit").args(["--nofile=200:200", env!("CARGO_BIN_EXE_spawn-proxy")]).args([
            "--log-format=json",
            "--host=127.0.0.1",
            "--port=0",
            "--api-port=0",
            "--workers=1",
            "--node",
            &node.addr().to_string(),
            "--data-dir",
            &dir.join("data").display().to_string(),
        ]);
    let proxy = Proxy::of(program.start(), dir).await;
    let mut crowd = Vec::new();
    for _ in 0..300 {
        crowd.push(Raw::connect(proxy.addr).await);
    }
    for raw in &mut crowd[..100] {
        raw.send("GET /x HTTP/1.1\r\nHost: h\r\n\r\nPUT /x HTTP/1.1\r\nHost: h\r\nContent-Length: 0\r\n\r\n")
            .await;
    }
    for raw in &mut crowd[..100] {
        assert_eq!((raw.answer().await.unwrap().status, raw.answer().await.unwrap().status), (200, 200));
    }
    let log = proxy.process.log();
    assert!(log.iter().any(|line| line.contains("max-connections is less than configured")), "{log:?}");
    assert!(!log.iter().any(|line| line.contains("cannot accept")), "{log:?}");
}
