//! SIGTERM: what is under way is finished, nothing new begins.

use std::time::{Duration, Instant};

use rustix::process::Signal;
use testkit::http::get;
use testkit::{Act, Raw, RecorderNode, Rule, eventually};

use super::{call, code};
use crate::harness::{Flags, Proxy, SOON};

/// Sends a request that the node has begun to serve when this returns.
async fn under_way(proxy: &Proxy, node: &RecorderNode, request: &str) -> Raw {
    let before = node.reads() + node.count() as u64;
    let mut raw = Raw::connect(proxy.addr).await;
    raw.send(request).await;
    eventually("the request to arrive", SOON, async || {
        (node.reads() + node.count() as u64 > before).then_some(())
    })
    .await;
    raw
}

#[tokio::test]
async fn what_is_under_way_is_finished_and_the_rest_is_turned_away() {
    let node = RecorderNode::start("n");
    node.rule(Rule::new(Act::Late(Duration::from_secs(2))).path("/slow"));
    // Checks would count as reads.
    let mut proxy = Flags::new().node(node.addr()).and(&["--check-sec", "3600"]).start().await;
    proxy.healthy(node.addr(), true).await;
    let mut idle = Raw::connect(proxy.addr).await;
    idle.send("GET /x HTTP/1.1\r\nHost: h\r\n\r\n").await;
    assert_eq!(idle.answer().await.unwrap().status, 200);
    let mut fresh = Raw::connect(proxy.addr).await;
    let mut read = under_way(&proxy, &node, "GET /slow HTTP/1.1\r\nHost: h\r\n\r\n").await;
    let mut update =
        under_way(&proxy, &node, "PUT /slow HTTP/1.1\r\nHost: h\r\nContent-Length: 0\r\n\r\n").await;
    proxy.process.signal(Signal::TERM);
    eventually("readiness to fail", SOON, async || {
        (get(proxy.api, "/readyz").await.status == 503).then_some(())
    })
    .await;
    assert_eq!(get(proxy.api, "/livez").await.status, 200);
    assert_eq!(code(&call(&["healthcheck", "--api-port", &proxy.api.port().to_string()])), Some(1));
    assert!(idle.closed().await, "an idle connection ends in order");
    fresh.closed().await;
    eventually("new clients to be refused", SOON, async || {
        Raw::try_connect(proxy.addr).await.is_err().then_some(())
    })
    .await;
    assert!(proxy.process.exit_status().is_none(), "the slow requests are still under way");
    for raw in [&mut read, &mut update] {
        let answer = raw.answer().await.unwrap();
        assert_eq!((answer.status, answer.header("connection")), (200, Some("close")));
    }
    let ended = proxy.process.ended(SOON).await;
    assert_eq!(ended.code(), Some(0));
    assert_eq!(proxy.process.stdout(), [] as [String; 0]);
}

#[tokio::test]
async fn what_takes_longer_than_the_drain_is_cut_and_an_update_is_delivered_later() {
    let node = RecorderNode::start("n");
    node.rule(Rule::new(Act::Hang).path("/hangs").times(2));
    let flags = ["--drain-timeout", "500ms", "--timeout", "20s", "--check-sec", "3600"];
    let mut proxy = Flags::new().node(node.addr()).and(&flags).start().await;
    proxy.healthy(node.addr(), true).await;
    let mut read = under_way(&proxy, &node, "GET /hangs HTTP/1.1\r\nHost: h\r\n\r\n").await;
    let mut update =
        under_way(&proxy, &node, "PUT /hangs HTTP/1.1\r\nHost: h\r\nContent-Length: 0\r\n\r\n").await;
    let begun = Instant::now();
    let ended = proxy.process.stop().await;
    assert_eq!(ended.code(), Some(0), "{:?}", proxy.process.log());
    assert!(begun.elapsed() < Duration::from_secs(8), "it took {:?}", begun.elapsed());
    assert!(read.answer().await.is_err() && update.answer().await.is_err());
    assert!(!proxy.process.log().iter().any(|line| line.contains("panicked")), "{:?}", proxy.process.log());
    proxy.restart().await;
    proxy.level().await;
    let attempts: Vec<_> = node.entries().iter().map(|entry| entry.attempt).collect();
    assert_eq!(attempts, [Some(1), Some(2)], "the attempt that was cut is known as one");
}

#[tokio::test]
async fn a_second_signal_ends_it_at_once() {
    for (first, second) in
        [(Signal::TERM, Signal::TERM), (Signal::INT, Signal::TERM), (Signal::TERM, Signal::INT)]
    {
        let node = RecorderNode::start("n");
        node.rule(Rule::new(Act::Hang).path("/hangs"));
        let flags = ["--drain-timeout", "60s", "--timeout", "60s", "--check-sec", "3600"];
        let mut proxy = Flags::new().node(node.addr()).and(&flags).start().await;
        proxy.healthy(node.addr(), true).await;
        let _read = under_way(&proxy, &node, "GET /hangs HTTP/1.1\r\nHost: h\r\n\r\n").await;
        proxy.process.signal(first);
        proxy.process.logs("draining").await;
        proxy.process.hup();
        proxy.process.logs("SIGHUP ignored").await;
        assert!(proxy.process.exit_status().is_none());
        proxy.process.signal(second);
        assert_eq!(proxy.process.ended(SOON).await.code(), Some(1));
    }
}

#[tokio::test]
async fn an_idle_proxy_ends_promptly() {
    let nodes = RecorderNode::start_many(2);
    let mut proxy = Flags::new().nodes(&nodes).start().await;
    assert_eq!(proxy.put("/k", "1").await.status, 200);
    let begun = Instant::now();
    assert_eq!(proxy.process.stop().await.code(), Some(0));
    assert!(begun.elapsed() < Duration::from_secs(5), "it took {:?}", begun.elapsed());
}
