//! What no well-behaved client or node sends: a clear answer, never two requests out of one.

mod crowd;
mod limits;
mod nodes;

use testkit::{Raw, RecorderNode, eventually};

use crate::harness::{Flags, Proxy, SOON};

/// What a request that is read apart from how it was meant would turn into.
const SMUGGLED: &str =
    "GET /smuggled HTTP/1.1\r\nHost: h\r\n\r\nPUT /smuggled HTTP/1.1\r\nHost: h\r\nContent-Length: 0\r\n\r\n";

/// A node that keeps what it sees, behind a proxy.
async fn proxy_before(node: &RecorderNode, flags: &[&str]) -> Proxy {
    node.keep_headers();
    Flags::new().node(node.addr()).and(flags).start().await
}

/// The statuses of all answers on a fresh connection until the proxy closes it, which it has to.
async fn statuses(proxy: &Proxy, request: &[u8]) -> Vec<u16> {
    let mut raw = Raw::connect(proxy.addr).await;
    raw.send(request).await;
    let mut statuses = Vec::new();
    loop {
        match raw.answer().await {
            Ok(answer) => statuses.push(answer.status),
            Err(error) if error.kind() == std::io::ErrorKind::TimedOut => {
                panic!("open after {statuses:?} to {:?}", String::from_utf8_lossy(request))
            }
            Err(_) => return statuses,
        }
    }
}

/// Each request, with another one hidden behind it, is refused with one of these statuses (or by
/// closing the connection) and reaches no node.
async fn refused(requests: &[Vec<u8>], allowed: &[u16]) {
    let node = RecorderNode::start("n");
    let proxy = proxy_before(&node, &[]).await;
    for request in requests {
        let shown = String::from_utf8_lossy(request).into_owned();
        let mut sent = request.clone();
        sent.extend_from_slice(SMUGGLED.as_bytes());
        let statuses = statuses(&proxy, &sent).await;
        let clear = statuses.iter().all(|status| allowed.contains(status));
        assert!(clear && statuses.len() <= 1, "{statuses:?} for {shown:?}");
    }
    only_checks(&node, &proxy).await;
}

/// The node has seen nothing but health checks, also after all that was on its way has arrived.
async fn only_checks(node: &RecorderNode, proxy: &Proxy) {
    assert_eq!(proxy.put("/last", "").await.status, 200);
    assert_eq!(proxy.get("/last").await.status, 200);
    proxy.level().await;
    let others = |target: &str| target != "/last" && target != "/";
    let updates: Vec<_> = node.entries().into_iter().filter(|entry| others(&entry.target)).collect();
    let reads: Vec<_> = node.read_entries().into_iter().filter(|entry| others(&entry.target)).collect();
    assert!(updates.is_empty() && reads.is_empty(), "{updates:?} {reads:?}");
}

fn all<T: AsRef<[u8]>>(requests: impl IntoIterator<Item = T>) -> Vec<Vec<u8>> {
    requests.into_iter().map(|request| request.as_ref().to_vec()).collect()
}

#[tokio::test]
async fn malformed_request_lines() {
    let lines: &[&[u8]] = &[
        b"GET",
        b"GET /x",
        b"GET /x HTTP/2.0",
        b"GET /x HTTP/1.2",
        b"GET /x HTTP/1.1 more",
        b"GET /x http/1.1",
        b"GET /a b HTTP/1.1",
        b"GET /\0 HTTP/1.1",
        b"GET /\x01 HTTP/1.1",
        b"GET /x\r HTTP/1.1",
        b"GET x HTTP/1.1",
        b"GET * HTTP/1.1",
        b"PUT * HTTP/1.1",
        b"G(T /x HTTP/1.1",
        b"\0GET /x HTTP/1.1",
        b" GET /x HTTP/1.1",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
    ];
    let requests = lines.iter().map(|line| [line, &b"\r\nHost: h\r\n\r\n"[..]].concat());
    refused(&all(requests), &[400]).await;
    let preface = [&b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"[..]];
    refused(&all(preface), &[400, 501]).await;
}

#[tokio::test]
async fn malformed_header_fields() {
    let fields: &[&[u8]] = &[
        b"Bad Name: x",
        b"Name : x",
        b"Content-Length : 5",
        b": nameless",
        b"nothing",
        b"X: a\0b",
        b"X: a\rb",
        b"X: a\r\n folded",
        b"X: a\r\n\tContent-Length: 5",
        b"Nam\xe9: x",
        b"X\0: x",
    ];
    let requests =
        fields.iter().map(|field| [b"GET /x HTTP/1.1\r\nHost: h\r\n", *field, b"\r\n\r\n"].concat());
    refused(&all(requests), &[400]).await;
    refused(&all(["GET /x HTTP/1.1\r\n Early: x\r\nHost: h\r\n\r\n"]), &[400]).await;
}

#[tokio::test]
async fn one_host_and_one_that_can_be_one() {
    let heads = [
        "",
        "Host: a\r\nHost: b\r\n",
        "Host: a\r\nHost: a\r\n",
        "Host: a b\r\n",
        "Host: a/b\r\n",
        "Host: a,b\r\n",
        "Host: user@a\r\n",
        "Host: a:b\r\n",
        "Host: a:99999\r\n",
        "Host: [::1\r\n",
    ];
    let requests = heads.iter().flat_map(|head| {
        [
            format!("GET /x HTTP/1.1\r\n{head}\r\n"),
            format!("PUT /x HTTP/1.1\r\n{head}Content-Length: 0\r\n\r\n"),
        ]
    });
    refused(&all(requests), &[400]).await;
    let node = RecorderNode::start("n");
    let proxy = proxy_before(&node, &[]).await;
    for host in ["", "h", "h:80", "[::1]:80", "127.0.0.1", "a_b.example:", "xn--e.example"] {
        let mut raw = Raw::connect(proxy.addr).await;
        raw.send(format!("GET /x HTTP/1.1\r\nHost: {host}\r\n\r\n")).await;
        assert_eq!(raw.answer().await.unwrap().status, 200, "{host:?}");
    }
    let mut raw = Raw::connect(proxy.addr).await;
    raw.send("GET /old HTTP/1.0\r\n\r\n").await;
    assert_eq!(raw.answer().await.unwrap().status, 200, "HTTP/1.0 asks for no Host");
}

#[tokio::test]
async fn lengths_that_leave_room_for_another_reading() {
    let lengths = [
        "Content-Length: 5\r\nContent-Length: 6\r\n",
        "Content-Length: 5, 6\r\n",
        "Content-Length: +5\r\n",
        "Content-Length: -5\r\n",
        "Content-Length: 0x5\r\n",
        "Content-Length: 5 5\r\n",
        "Content-Length: 5;\r\n",
        "Content-Length:\r\n",
        "Content-Length: 99999999999999999999\r\n",
        "Content-Length: 18446744073709551615\r\n",
    ];
    let requests = lengths.iter().flat_map(|length| {
        ["GET", "PUT"].map(|method| format!("{method} /x HTTP/1.1\r\nHost: h\r\n{length}\r\nhello"))
    });
    // A length that does not fit is too large to the HTTP library, and it says so of the head.
    refused(&all(requests), &[400, 413, 431]).await;
}

#[tokio::test]
async fn codings_that_are_not_just_chunked() {
    let codings = [
        "Transfer-Encoding: chunked, identity\r\n",
        "Transfer-Encoding: identity\r\n",
        "Transfer-Encoding: xchunked\r\n",
        "Transfer-Encoding: chunkedx\r\n",
        "Transfer-Encoding: \"chunked\"\r\n",
        "Transfer-Encoding: gzip, chunked\r\n",
        "Transfer-Encoding: gzip\r\nTransfer-Encoding: chunked\r\n",
        "Transfer-Encoding: chunked, chunked\r\n",
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n",
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n",
        "Transfer-Encoding : chunked\r\n",
        "Transfer-Encoding: \x0bchunked\r\n",
        "Transfer-Encoding:\r\n",
        "Transfer-Encoding: identity\r\nContent-Length: 5\r\n",
    ];
    let requests = codings.iter().flat_map(|coding| {
        ["GET", "PUT"]
            .map(|method| format!("{method} /x HTTP/1.1\r\nHost: h\r\n{coding}\r\n5\r\nhello\r\n0\r\n\r\n"))
    });
    refused(&all(requests), &[400, 501]).await;
    refused(&all(["PUT /x HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"]), &[400]).await;
}

#[tokio::test]
async fn chunks_that_are_none() {
    let long = format!("5;{}\r\nhello\r\n0\r\n\r\n", "x".repeat(20_000));
    let chunks = [
        "FFFFFFFFFFFFFFFFF\r\nhello",
        "10000000000000005\r\nhello\r\n0\r\n\r\n",
        "-5\r\nhello\r\n0\r\n\r\n",
        "+5\r\nhello\r\n0\r\n\r\n",
        "0x5\r\nhello\r\n0\r\n\r\n",
        "\r\nhello\r\n0\r\n\r\n",
        "5\nhello\r\n0\r\n\r\n",
        "5\r\nhelloworld\r\n0\r\n\r\n",
        "5\r\nhello0\r\n\r\n",
        "5;a=\"\nb\"\r\nhello\r\n0\r\n\r\n",
        "5 5\r\nhello\r\n0\r\n\r\n",
        "g\r\nhello\r\n0\r\n\r\n",
        "0\r\nBad Trailer\r\n\r\n",
        &long,
    ];
    let requests = chunks.iter().flat_map(|chunks| {
        let head =
            |method| format!("{method} /x HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n{chunks}");
        ["GET", "PUT"].map(head)
    });
    refused(&all(requests), &[400]).await;
}

/// RFC 9112, 6.3: the coding wins, and the connection ends with the answer, so that whatever the
/// length would have made of the rest is read by nobody.
#[tokio::test]
async fn a_length_beside_chunks_makes_one_request_and_ends_the_connection() {
    let body = "5\r\nhello\r\n0\r\n\r\n";
    for (number, framing) in [
        "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n",
        "Transfer-Encoding: chunked\r\nContent-Length: 5\r\n",
        "Content-Length: 500\r\nTransfer-Encoding: chunked\r\n",
        "Transfer-Encoding: chunked\r\nContent-Length: 0\r\n",
        "Transfer-Encoding: chunked\r\nContent-Length: 5\r\nContent-Length: 6\r\n",
        "Transfer-Encoding: chunked\r\nContent-Length: nonsense\r\n",
    ]
    .into_iter()
    .enumerate()
    {
        for method in ["GET", "PUT"] {
            let node = RecorderNode::start("n");
            let proxy = proxy_before(&node, &[]).await;
            let request = format!("{method} /x HTTP/1.1\r\nHost: h\r\n{framing}\r\n{body}{SMUGGLED}");
            let statuses = statuses(&proxy, request.as_bytes()).await;
            assert!(statuses == [200] || statuses == [400], "{statuses:?} for {framing:?}");
            let seen = eventually("the request to be recorded", SOON, async || {
                let mut seen = node.entries();
                seen.extend(node.read_entries().into_iter().filter(|entry| entry.target != "/"));
                (statuses == [400] || !seen.is_empty()).then_some(seen)
            })
            .await;
            proxy.level().await;
            let expected = usize::from(statuses == [200]);
            assert_eq!(seen.len(), expected, "case {number}: {seen:?}");
            assert!(
                seen.iter().all(|entry| entry.target == "/x" && entry.length == 5),
                "case {number}: {seen:?}"
            );
            let framings = |entry: &testkit::Entry| {
                let of =
                    |name| entry.headers.iter().filter(|(key, _)| key.eq_ignore_ascii_case(name)).count();
                of("content-length") + of("transfer-encoding")
            };
            assert!(seen.iter().all(|entry| framings(entry) == 1), "case {number}: {seen:?}");
        }
    }
}
