//! The store as its users see it.

use std::net::SocketAddr;

use testkit::http::{Answer, ask, get};
use testkit::{Process, Program};

async fn start(name: &str) -> (Process, SocketAddr) {
    let args = ["--name", name, "--address", "127.0.0.1:0", "--max-body", "10"];
    let mut process = Program::new(env!("CARGO_BIN_EXE_demo")).args(args).start();
    let addr = process.listening("http").await;
    (process, addr)
}

async fn put(addr: SocketAddr, key: &str, value: &str) -> Answer {
    ask("PUT", &format!("/kv/{key}")).body(value).of(addr).await
}

#[tokio::test]
async fn values_are_kept_and_shown() {
    let (mut process, addr) = start("one").await;
    assert_eq!(put(addr, "b/c", "1").await.status, 201);
    assert_eq!(put(addr, "b%2Fc", "2").await.status, 200);
    assert_eq!(put(addr, "a", "3").await.status, 201);
    assert_eq!(get(addr, "/kv/b/c").await.text(), "2");
    assert_eq!(get(addr, "/dump").await.text(), "{\"a\":\"3\",\"b/c\":\"2\"}\n");
    let info = get(addr, "/info").await.json();
    assert_eq!((&info["name"], &info["keys"], &info["requests"]), (&"one".into(), &2.into(), &6.into()));
    assert_eq!(info["pid"], process.pid());
    assert_eq!(ask("DELETE", "/kv/a").of(addr).await.status, 200);
    assert_eq!(ask("DELETE", "/kv/a").of(addr).await.status, 404);
    assert_eq!(process.stop().await.code(), Some(0));
}

#[tokio::test]
async fn what_is_not_offered_is_refused() {
    let (_process, addr) = start("one").await;
    assert_eq!(get(addr, "/").await.status, 200);
    assert_eq!(get(addr, "/nothing").await.status, 404);
    assert_eq!(get(addr, "/kv/").await.status, 404);
    assert_eq!(get(addr, "/kv/%ff").await.status, 400);
    assert_eq!(put(addr, "a", "eleven bytes").await.status, 413);
    let chunked = ask("PUT", "/kv/a")
        .header("Transfer-Encoding", "chunked")
        .body_as_is("b\r\neleven byte\r\n0\r\n\r\n");
    assert_eq!(chunked.of(addr).await.status, 413);
    let posted = ask("POST", "/kv/a").body("x").of(addr).await;
    assert_eq!((posted.status, posted.header("allow")), (405, Some("GET, HEAD, PUT, DELETE")));
    assert_eq!(ask("PUT", "/dump").body("x").of(addr).await.status, 405);
    assert_eq!(ask("HEAD", "/dump").of(addr).await.body, b"");
}

#[tokio::test]
async fn an_address_in_use_is_told_in_a_sentence() {
    let (_process, addr) = start("one").await;
    let taken = addr.to_string();
    let mut second = Program::new(env!("CARGO_BIN_EXE_demo")).args(["--address", &taken]).start();
    let line = second.logs("cannot listen on").await;
    assert!(line.contains(&taken), "{line}");
    assert_eq!(second.ended(std::time::Duration::from_secs(10)).await.code(), Some(1));
}
