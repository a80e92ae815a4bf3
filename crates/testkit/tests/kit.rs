//! Processes, links, waiting and the rest.

use std::collections::HashSet;
use std::os::unix::process::ExitStatusExt;
use std::time::{Duration, Instant};

use testkit::http::{ask, get};
use testkit::{FaultLink, Program, Raw, RecorderNode, RedisServer, Rng, TempDir, eventually, free_port};

const LIMIT: Duration = Duration::from_secs(10);

fn shell(script: &str) -> Program {
    Program::new("/bin/sh").args(["-c", script])
}

#[test]
fn ports_are_never_given_twice() {
    let ports: HashSet<u16> = (0..50).map(|_| free_port()).collect();
    assert_eq!(ports.len(), 50);
}

#[test]
fn a_seed_gives_the_same_choices() {
    let (mut one, mut two) = (Rng::new(7), Rng::new(7));
    assert_eq!(one.bytes(9), two.bytes(9));
    assert_eq!(one.within(0..1000), two.within(0..1000));
    assert_eq!(one.pick(&[1, 2, 3]), two.pick(&[1, 2, 3]));
}

#[tokio::test]
async fn waiting_ends_with_the_value() {
    let mut looks = 0;
    let value = eventually("three looks", LIMIT, async || {
        looks += 1;
        (looks == 3).then_some("seen")
    });
    assert_eq!(value.await, "seen");
}

#[tokio::test]
#[should_panic(expected = "in vain for: a probe that hangs")]
async fn waiting_is_bounded_also_for_a_probe_that_hangs() {
    eventually("a probe that hangs", Duration::from_millis(20), async || {
        std::future::pending::<()>().await;
        Some(())
    })
    .await;
}

#[tokio::test]
async fn a_process_is_followed_and_stopped() {
    let line = r#"{"fields":{"message":"listening","role":"api","addr":"127.0.0.1:9"}}"#;
    let script = format!(
        "trap 'exit 3' TERM; trap 'echo again >&2' HUP; echo out; echo '{line}' >&2; while :; do sleep 0.05; done"
    );
    let mut process = shell(&script).start();
    assert_eq!(process.listening("api").await.port(), 9);
    process.hup();
    process.logs("again").await;
    assert_eq!(process.stdout(), ["out"]);
    assert!(process.rss() > 0);
    assert_eq!(process.stop().await.code(), Some(3));
    process.restart();
    process.listening("api").await;
    assert_eq!(process.kill9().signal(), Some(9));
}

#[tokio::test]
#[should_panic(expected = "ended early")]
async fn a_process_that_ends_before_it_listens_is_told_at_once() {
    shell("echo no >&2; exit 78").start().listening("api").await;
}

#[tokio::test]
async fn a_link_breaks_and_heals() {
    let node = RecorderNode::start("n1");
    let link = FaultLink::to(node.addr());
    assert_eq!(get(link.addr(), "/").await.status, 200);

    let mut standing = Raw::connect(link.addr()).await;
    standing.send("GET / HTTP/1.1\r\nHost: n\r\n\r\n").await;
    assert_eq!(standing.answer().await.unwrap().status, 200);
    link.cut();
    assert!(!standing.closed().await, "a cut link resets");
    assert!(ask("GET", "/").try_of(link.addr()).await.is_err());
    link.heal();
    assert_eq!(get(link.addr(), "/").await.status, 200);

    link.blackhole();
    let (addr, seen) = (link.addr(), node.reads());
    let held = tokio::spawn(async move { get(addr, "/").await.status });
    let quick = tokio::time::timeout(Duration::from_millis(50), get(addr, "/")).await;
    assert!(quick.is_err() && node.reads() == seen, "nothing passes");
    link.heal();
    assert_eq!(held.await.unwrap(), 200);
}

#[tokio::test]
async fn a_link_is_reset_once() {
    let node = RecorderNode::start("n1");
    let link = FaultLink::to(node.addr());
    let mut standing = Raw::connect(link.addr()).await;
    standing.send("GET / HTTP/1.1\r\nHost: n\r\n\r\n").await;
    standing.answer().await.unwrap();
    link.reset();
    assert!(!standing.closed().await);
    assert_eq!(get(link.addr(), "/").await.status, 200);
}

#[tokio::test]
async fn a_link_is_slowed() {
    let node = RecorderNode::start("n1");
    let link = FaultLink::to(node.addr());
    link.delay(Duration::from_millis(30));
    let start = Instant::now();
    get(link.addr(), "/").await;
    assert!(start.elapsed() >= Duration::from_millis(60), "there and back");
    link.heal();
    link.limit(100_000);
    let start = Instant::now();
    ask("PUT", "/a").body(vec![0; 20_000]).of(link.addr()).await;
    assert!(start.elapsed() >= Duration::from_millis(200), "20 kB at 100 kB/s");
}

#[tokio::test]
async fn redis_keeps_what_it_acknowledged_through_a_kill() {
    let mut redis = RedisServer::start().await;
    let mut raw = Raw::connect(redis.addr()).await;
    raw.send("SET a 1\r\n").await;
    raw.read_until(b"+OK\r\n").await.unwrap();
    redis.process().kill9();
    redis.restart().await;
    let mut raw = Raw::connect(redis.addr()).await;
    raw.send("GET a\r\n").await;
    raw.read_until(b"$1\r\n1\r\n").await.unwrap();
}

#[test]
fn a_temporary_directory_goes_with_its_test() {
    let dir = TempDir::new();
    let file = dir.write("a", "text");
    assert!(file.is_file());
    drop(dir);
    assert!(!file.exists());
}
