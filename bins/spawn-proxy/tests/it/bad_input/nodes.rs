//! Nodes that answer what no HTTP server should: 502, and the next request is not harmed.

use std::net::SocketAddr;
use std::time::Duration;

use testkit::Raw;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::harness::{Flags, Proxy};

/// A server that answers paths that begin with `/bad` with these bytes and everything else as it should.
async fn raw_node(bad: Vec<u8>, then_close: bool) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let addr = listener.local_addr().expect("a bound port");
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(serve(stream, bad.clone(), then_close));
        }
    });
    addr
}

async fn serve(mut stream: TcpStream, bad: Vec<u8>, then_close: bool) {
    let mut seen = Vec::new();
    while let Ok(1..) = stream.read_buf(&mut seen).await {
        while let Some(end) = seen.windows(4).position(|window| window == b"\r\n\r\n") {
            let head: Vec<u8> = seen.drain(..end + 4).collect();
            let is_bad = head.starts_with(b"GET /bad");
            let answer = if is_bad { &bad[..] } else { b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nfine" };
            if stream.write_all(answer).await.is_err() || (is_bad && then_close) {
                return;
            }
        }
    }
}

async fn proxy_before(bad: &[u8], then_close: bool) -> Proxy {
    let node = raw_node(bad.to_vec(), then_close).await;
    Flags::new().node(node).and(&["--timeout", "1s", "--workers", "1"]).start().await
}

#[tokio::test]
async fn nonsense_is_502_and_the_client_goes_on() {
    let many: String = (0..2_000).map(|n| format!("X-{n}: x\r\n")).collect();
    let cases = [
        "hello\r\n\r\n".to_owned(),
        "\0\0\0\0\r\n\r\n".to_owned(),
        "HTTP/1.1 9999 What\r\n\r\n".to_owned(),
        "HTTP/3.0 200 OK\r\n\r\n".to_owned(),
        "HTTP/1.1 200 OK\r\nBad Name: x\r\nContent-Length: 0\r\n\r\n".to_owned(),
        "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello".to_owned(),
        "HTTP/1.1 200 OK\r\nContent-Length: +5\r\n\r\nhello".to_owned(),
        "HTTP/1.1 200 OK\r\nContent-Length: nonsense\r\n\r\n".to_owned(),
        format!("HTTP/1.1 200 OK\r\n{many}Content-Length: 0\r\n\r\n"),
        format!("HTTP/1.1 200 OK\r\nX: {}\r\nContent-Length: 0\r\n\r\n", "x".repeat(1 << 20)),
        "HTTP/1.1 200 OK\r\nContent-Le".to_owned(),
        String::new(),
    ];
    for bad in cases {
        let shown = bad.chars().take(60).collect::<String>();
        let proxy = proxy_before(bad.as_bytes(), true).await;
        let mut raw = Raw::connect(proxy.addr).await;
        for _ in 0..2 {
            raw.send("GET /bad HTTP/1.1\r\nHost: h\r\n\r\n").await;
            let answer = raw.answer().await.unwrap();
            assert_eq!((answer.status, answer.json()["error"].as_u64()), (502, Some(502)), "{shown:?}");
            raw.send("GET /fine HTTP/1.1\r\nHost: h\r\n\r\n").await;
            assert_eq!(raw.answer().await.unwrap().text(), "fine", "{shown:?}");
        }
    }
}

#[tokio::test]
async fn interim_answers_are_passed_over_and_a_flood_of_them_has_an_end() {
    let interim = "HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n";
    let some = format!("{}HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok", interim.repeat(50));
    let proxy = proxy_before(some.as_bytes(), false).await;
    assert_eq!(proxy.get("/bad").await.text(), "ok");

    let proxy = proxy_before(interim.repeat(200_000).as_bytes(), false).await;
    let mut flooded = Raw::connect(proxy.addr).await;
    flooded.send("GET /bad HTTP/1.1\r\nHost: h\r\n\r\n").await;
    // The one thread goes on with other work meanwhile.
    let others = async {
        loop {
            let answer = testkit::http::get(proxy.api, "/livez").await;
            assert_eq!(answer.status, 200);
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    let answer =
        tokio::select! { answer = flooded.answer() => answer.unwrap(), () = others => unreachable!() };
    assert!(matches!(answer.status, 502 | 504), "{answer:?}");
    assert!(proxy.process.rss() < 300 << 20, "{} MiB", proxy.process.rss() >> 20);
}

#[tokio::test]
async fn an_answer_shorter_than_it_says_ends_the_connection() {
    let proxy = proxy_before(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhello", true).await;
    let mut raw = Raw::connect(proxy.addr).await;
    raw.send("GET /bad HTTP/1.1\r\nHost: h\r\n\r\nGET /fine HTTP/1.1\r\nHost: h\r\n\r\n").await;
    let rest = String::from_utf8_lossy(&raw.read_to_end().await).into_owned();
    assert!(rest.matches("HTTP/1.1").count() <= 1 && !rest.contains("fine"), "{rest}");
}

#[tokio::test]
async fn chunks_that_break_end_the_connection() {
    let proxy = proxy_before(
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\nnonsense\r\n",
        true,
    )
    .await;
    let mut raw = Raw::connect(proxy.addr).await;
    raw.send("GET /bad HTTP/1.1\r\nHost: h\r\n\r\nGET /fine HTTP/1.1\r\nHost: h\r\n\r\n").await;
    let rest = String::from_utf8_lossy(&raw.read_to_end().await).into_owned();
    assert!(!rest.ends_with("0\r\n\r\n") && !rest.contains("fine"), "{rest}");
}

#[tokio::test]
async fn an_answer_longer_than_it_says_harms_no_other_request() {
    let split =
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nokHTTP/1.1 200 OK\r\nContent-Length: 8\r\n\r\nsmuggled";
    let both =
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n";
    for bad in [&split[..], &both[..]] {
        let proxy = proxy_before(bad, false).await;
        let mut raw = Raw::connect(proxy.addr).await;
        for _ in 0..20 {
            raw.send("GET /bad HTTP/1.1\r\nHost: h\r\n\r\n").await;
            assert_eq!(raw.answer().await.unwrap().text(), "ok");
            raw.send("GET /fine HTTP/1.1\r\nHost: h\r\n\r\n").await;
            assert_eq!(raw.answer().await.unwrap().text(), "fine");
        }
    }
}
