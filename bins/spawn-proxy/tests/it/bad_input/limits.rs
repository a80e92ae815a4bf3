//! What is too large or too much, and the corners of HTTP that clients rely on.

use std::time::Duration;

use bytes::Bytes;
use testkit::http::ask;
use testkit::{Act, Raw, RecorderNode, Rule, eventually};

use super::{only_checks, proxy_before, statuses};
use crate::harness::SOON;

#[tokio::test]
async fn heads_beyond_the_limits() {
    let node = RecorderNode::start("n");
    let proxy = proxy_before(&node, &[]).await;
    let header = |length| format!("GET /x HTTP/1.1\r\nHost: h\r\nX: {}\r\n\r\n", "x".repeat(length));
    assert_eq!(statuses(&proxy, header(70_000).as_bytes()).await, [431]);
    let many: String = (0..400).map(|n| format!("X-{n}: x\r\n")).collect();
    assert_eq!(statuses(&proxy, format!("GET /x HTTP/1.1\r\nHost: h\r\n{many}\r\n").as_bytes()).await, [431]);
    // A head without an end is not waited for beyond the limit.
    assert_eq!(
        statuses(&proxy, &[b'x'; 200_000]).await.iter().find(|status| !matches!(status, 400 | 431)),
        None
    );
    only_checks(&node, &proxy).await;
    let mut raw = Raw::connect(proxy.addr).await;
    raw.send(header(60_000)).await;
    assert_eq!(raw.answer().await.unwrap().status, 200);

    let small = proxy_before(&node, &["--max-header", "8KiB"]).await;
    assert_eq!(statuses(&small, header(9_000).as_bytes()).await, [431]);
    let large = proxy_before(&node, &["--max-header", "1MiB"]).await;
    let long = format!("GET /{} HTTP/1.1\r\nHost: h\r\n\r\n", "x".repeat(70_000));
    assert_eq!(statuses(&large, long.as_bytes()).await, [414]);
}

#[tokio::test]
async fn bodies_beyond_the_limit_end_the_connection() {
    let node = RecorderNode::start("n");
    let proxy = proxy_before(&node, &["--max-body", "100KiB"]).await;
    let fine = "PUT /fine HTTP/1.1\r\nHost: h\r\nContent-Length: 2\r\n\r\nok";
    for method in ["PUT", "GET"] {
        let declared = format!("{fine}{method} /x HTTP/1.1\r\nHost: h\r\nContent-Length: 102401\r\n\r\n");
        assert_eq!(statuses(&proxy, declared.as_bytes()).await, [200, 413], "{method}");
        let chunk = format!("8000\r\n{}\r\n", "x".repeat(0x8000)).repeat(4);
        let chunked = format!(
            "{fine}{method} /x HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n{chunk}0\r\n\r\n{fine}"
        );
        assert_eq!(statuses(&proxy, chunked.as_bytes()).await, [200, 413], "{method}");
    }
    proxy.level().await;
    assert!(node.entries().iter().all(|entry| entry.target == "/fine"), "{:?}", node.entries());
    // A client that sends all of it before it looks for the answer gets the answer all the same.
    let large = ask("PUT", "/x").body(vec![b'x'; 8 << 20]).of(proxy.addr).await;
    assert_eq!((large.status, large.json()["error"].as_u64()), (413, Some(413)));
}

#[tokio::test]
async fn reads_with_bodies_arrive_whole() {
    let node = RecorderNode::start("n");
    let proxy = proxy_before(&node, &[]).await;
    for (number, size) in [0_usize, 1, 60_000, 200_000].into_iter().enumerate() {
        let body = "x".repeat(size);
        let chunks = if size == 0 { String::new() } else { format!("{size:x}\r\n{body}\r\n") };
        let chunked = ask("GET", &format!("/chunked/{number}")).header("Transfer-Encoding", "chunked");
        assert_eq!(chunked.body_as_is(format!("{chunks}0\r\n\r\n")).of(proxy.addr).await.status, 200);
        assert_eq!(ask("OPTIONS", &format!("/sized/{number}")).body(body).of(proxy.addr).await.status, 200);
        let seen = eventually("both reads to be recorded", SOON, async || {
            let seen: Vec<_> = node
                .read_entries()
                .into_iter()
                .filter(|e| e.target.ends_with(&format!("d/{number}")))
                .collect();
            (seen.len() == 2).then_some(seen)
        })
        .await;
        assert!(seen.iter().all(|entry| entry.length == size as u64), "{size}: {seen:?}");
    }
}

#[tokio::test]
async fn continue_comes_after_the_limits_and_goes_no_further() {
    let node = RecorderNode::start("n");
    let proxy = proxy_before(&node, &["--max-body", "1000"]).await;
    for method in ["PUT", "GET"] {
        let head = |length| {
            format!(
                "{method} /x HTTP/1.1\r\nHost: h\r\nExpect: 100-continue\r\nContent-Length: {length}\r\n\r\n"
            )
        };
        let mut raw = Raw::connect(proxy.addr).await;
        raw.send(head(5)).await;
        assert_eq!(raw.answer().await.unwrap().status, 100, "{method}");
        raw.send("hello").await;
        assert_eq!(raw.answer().await.unwrap().status, 200, "{method}");
        raw.send(head(1001)).await;
        assert_eq!(raw.answer().await.unwrap().status, 413, "{method}: no 100 before it");
        assert!(raw.closed().await);
    }
    let mut raw = Raw::connect(proxy.addr).await;
    raw.send(
        "PUT /x HTTP/1.1\r\nHost: h\r\nExpect: 100-continue\r\nIdempotency-Key:\r\nContent-Length: 5\r\n\r\n",
    )
    .await;
    assert_eq!(raw.answer().await.unwrap().status, 400);
    proxy.level().await;
    let seen: Vec<_> = node.entries().into_iter().chain(node.read_entries()).collect();
    assert!(seen.iter().any(|entry| entry.method == "GET" && entry.length == 5), "{seen:?}");
    assert!(seen.iter().all(|entry| entry.header("expect").is_none()), "{seen:?}");
}

#[tokio::test]
async fn an_old_client_gets_an_answer_that_it_understands() {
    let node = RecorderNode::start("n");
    let parts = vec![Bytes::from_static(b"one "), Bytes::from_static(b"two")];
    node.rule(Rule::new(Act::Stream(parts, Duration::from_millis(5))).path("/stream"));
    let proxy = proxy_before(&node, &[]).await;
    let mut raw = Raw::connect(proxy.addr).await;
    raw.send("GET /stream HTTP/1.0\r\n\r\n").await;
    let answer = raw.answer().await.unwrap();
    assert_eq!((answer.text(), answer.header("transfer-encoding")), ("one two".into(), None));
    for (request, kept) in [
        ("GET /x HTTP/1.0\r\n\r\n", false),
        ("PUT /x HTTP/1.0\r\nContent-Length: 2\r\n\r\nok", false),
        ("GET /x HTTP/1.0\r\nConnection: keep-alive\r\n\r\n", true),
    ] {
        let mut raw = Raw::connect(proxy.addr).await;
        raw.send(request).await;
        let answer = raw.answer().await.unwrap();
        assert_eq!((answer.status, answer.header("transfer-encoding")), (200, None), "{request}");
        if kept {
            raw.send(request).await;
            assert_eq!(raw.answer().await.unwrap().status, 200);
        } else {
            assert!(raw.closed().await, "{request}");
        }
    }
}

#[tokio::test]
async fn pipelined_requests_are_answered_in_order() {
    let node = RecorderNode::start("n");
    node.rule(Rule::new(Act::Delay(Duration::from_millis(150))).path("/slow"));
    node.rule(Rule::new(Act::Status(404)).path("/none"));
    let proxy = proxy_before(&node, &[]).await;
    let mut raw = Raw::connect(proxy.addr).await;
    raw.send(
        "GET /slow HTTP/1.1\r\nHost: h\r\n\r\nPUT /none HTTP/1.1\r\nHost: h\r\nContent-Length: 2\r\n\r\nokGET /third HTTP/1.1\r\nHost: h\r\n\r\n\
         POST /last HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n2\r\nok\r\n0\r\n\r\nGET /after HTTP/1.1\r\nHost: h\r\n\r\n",
    )
    .await;
    let mut texts = Vec::new();
    for _ in 0..4 {
        texts.push(raw.answer().await.unwrap().text());
    }
    assert!(
        texts[0].contains("/slow")
            && texts[1].contains("404")
            && texts[2].contains("/third")
            && texts[3] == "ok\n",
        "{texts:?}"
    );
    assert!(raw.closed().await);
    proxy.level().await;
    assert!(node.read_entries().iter().all(|entry| entry.target != "/after"));
}

#[tokio::test]
async fn trace_and_options_of_everything_reach_a_node() {
    let node = RecorderNode::start("n");
    let proxy = proxy_before(&node, &[]).await;
    let mut raw = Raw::connect(proxy.addr).await;
    for (method, target) in [("OPTIONS", "*"), ("TRACE", "/x"), ("PURGE", "/x")] {
        raw.send(format!("{method} {target} HTTP/1.1\r\nHost: h\r\nProxy-Authorization: Basic eA==\r\n\r\n"))
            .await;
        assert_eq!(raw.answer().await.unwrap().status, 200, "{method}");
        let seen = eventually("the request to be recorded", SOON, async || {
            node.read_entries().into_iter().find(|entry| entry.method == method)
        })
        .await;
        assert_eq!((&*seen.target, seen.header("proxy-authorization")), (target, None));
    }
}
