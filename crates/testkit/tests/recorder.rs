//! The recording node does what it is told and writes down what it saw.

use std::time::Duration;

use http::Method;
use testkit::http::{ask, get};
use testkit::recorder::{duplicates, inversions_per_path, missing};
use testkit::{Act, Load, Raw, RecorderNode, RecorderProcess, Rule, eventually};

const LIMIT: Duration = Duration::from_secs(10);

#[tokio::test]
async fn updates_are_recorded_and_reads_are_served() {
    let node = RecorderNode::start("n1");
    let put = ask("PUT", "/kv/a?x=1").header("Idempotency-Key", "k").header("Spawn-Sequence", 7).body("one");
    assert_eq!(put.of(node.addr()).await.status, 200);
    assert_eq!(get(node.addr(), "/kv/a").await.text(), "n1 /kv/a 1\n");
    let [entry] = node.entries().try_into().unwrap();
    assert_eq!((entry.key.as_str(), entry.sequence, entry.attempt), ("k", Some(7), None));
    assert_eq!((entry.path(), entry.length, entry.status), ("/kv/a", 3, Some(200)));
    assert_eq!(node.reads(), 1);
}

#[tokio::test]
async fn rules_pick_requests_and_the_first_one_decides() {
    let node = RecorderNode::start("n1");
    node.rule(Rule::new(Act::RetryAfter(429, 3)).method(Method::PUT).path("/b").skip(1).times(1));
    let mut told = Vec::new();
    for _ in 0..3 {
        let answer = ask("PUT", "/b").body("").of(node.addr()).await;
        told.push((answer.status, answer.header("retry-after").map(str::to_owned)));
    }
    assert_eq!(told, [(200, None), (429, Some("3".to_owned())), (200, None)]);
    node.fail_with(500);
    assert_eq!(ask("POST", "/c").body("").of(node.addr()).await.status, 500);
    assert_eq!(get(node.addr(), "/c").await.status, 200);
    node.heal();
    assert_eq!(ask("POST", "/c").body("").of(node.addr()).await.status, 200);
    assert_eq!((node.count(), node.applied()), (5, 3));
}

#[tokio::test]
async fn connections_are_closed_before_and_after_taking_the_update_in() {
    let node = RecorderNode::start("n1");
    node.rule(Rule::new(Act::CloseBefore).path("/before"));
    node.rule(Rule::new(Act::CloseAfter).path("/after"));
    node.rule(Rule::new(Act::Truncate).path("/short"));
    for path in ["/before", "/after", "/short"] {
        assert!(ask("PUT", path).body("x").try_of(node.addr()).await.is_err(), "{path}");
    }
    let seen: Vec<_> = node.entries().into_iter().map(|entry| (entry.target, entry.applied)).collect();
    assert_eq!(seen, [("/after".to_owned(), true), ("/short".to_owned(), true)]);
}

#[tokio::test]
async fn a_second_update_on_a_path_under_way_is_marked() {
    let node = RecorderNode::start("n1");
    node.rule(Rule::new(Act::Hang).path("/slow").times(1));
    let mut first = Raw::connect(node.addr()).await;
    first.send("PUT /slow HTTP/1.1\r\nHost: n\r\nContent-Length: 0\r\n\r\n").await;
    eventually("the first to arrive", LIMIT, async || (node.count() == 1).then_some(())).await;
    ask("PUT", "/slow").body("").of(node.addr()).await;
    ask("PUT", "/else").body("").of(node.addr()).await;
    drop(first);
    eventually("the first to be given up", LIMIT, async || {
        ask("PUT", "/slow").body("").of(node.addr()).await;
        node.entries().last().filter(|entry| !entry.overlapped).map(|_| ())
    })
    .await;
    let marks: Vec<bool> = node.entries().iter().map(|entry| entry.overlapped).take(3).collect();
    assert_eq!(marks, [false, true, false]);
}

#[tokio::test]
async fn a_node_goes_and_comes_back_on_its_port_with_its_record() {
    let mut node = RecorderNode::start("n1");
    ask("PUT", "/a").body("").of(node.addr()).await;
    node.stop();
    assert!(ask("PUT", "/a").body("").try_of(node.addr()).await.is_err());
    node.restart();
    node.pause();
    let addr = node.addr();
    let held = tokio::spawn(async move { ask("PUT", "/a").body("").of(addr).await.status });
    // It is connected to and sent to, which the kernel takes; nothing can be recorded.
    Raw::connect(addr).await.send("PUT /a HTTP/1.1\r\n").await;
    assert_eq!(node.count(), 1);
    node.resume();
    assert_eq!(held.await.unwrap(), 200);
    assert_eq!(node.count(), 2);
}

#[tokio::test]
async fn streams_and_upgrades_flow() {
    let node = RecorderNode::start("n1");
    node.rule(Rule::new(Act::Stream(vec!["a".into(), "b".into()], Duration::ZERO)).path("/events"));
    node.rule(Rule::new(Act::Echo).path("/socket"));
    assert_eq!(get(node.addr(), "/events").await.text(), "ab");
    let mut raw = Raw::connect(node.addr()).await;
    raw.send("GET /socket HTTP/1.1\r\nHost: n\r\nConnection: upgrade\r\nUpgrade: echo\r\n\r\n").await;
    assert_eq!(raw.answer().await.unwrap().status, 101);
    raw.send("ping").await;
    assert_eq!(raw.read_until(b"ping").await.unwrap(), b"ping");
    raw.finish().await;
    assert!(raw.closed().await);
}

#[tokio::test]
async fn a_killed_node_process_keeps_what_it_recorded() {
    let mut node = RecorderProcess::start("n1").await;
    ask("PUT", "/a").header("Idempotency-Key", "one").body("").of(node.addr()).await;
    node.process().kill9();
    assert!(ask("PUT", "/a").body("").try_of(node.addr()).await.is_err());
    node.restart().await;
    node.process().sigstop();
    let addr = node.addr();
    let held = tokio::spawn(async move {
        ask("PUT", "/a").header("Idempotency-Key", "two").body("").of(addr).await.status
    });
    assert_eq!(node.entries().len(), 1);
    node.process().sigcont();
    assert_eq!(held.await.unwrap(), 200);
    let orders: Vec<_> = node.entries().into_iter().map(|entry| (entry.order, entry.key)).collect();
    assert_eq!(orders, [(0, "one".to_owned()), (1, "two".to_owned())]);
}

#[tokio::test]
async fn a_load_reaches_a_node_whole_and_in_order() {
    let node = RecorderNode::start("n1");
    let load = Load::to(node.addr(), 1).writers(8).requests(2_000).paths(["/a", "/b", "/a/c"]);
    let report = load.run().await;
    assert_eq!((report.sent.len(), report.answered(200)), (2_000, 2_000));
    let nodes = [node.entries()];
    assert_eq!(missing(report.accepted(), &nodes[0]), Vec::<String>::new());
    assert_eq!(inversions_per_path(&nodes), []);
    assert_eq!(duplicates(&nodes), []);
}

#[tokio::test]
async fn a_retrying_load_rides_through_a_restart() {
    let mut node = RecorderNode::start("n1");
    let running = Load::to(node.addr(), 2).writers(2).retry().start();
    eventually("some answers", LIMIT, async || (running.count() > 10).then_some(())).await;
    node.stop();
    let before = running.count();
    node.restart();
    eventually("more answers", LIMIT, async || (running.count() > before + 10).then_some(())).await;
    let report = running.stop().await;
    assert_eq!(report.answered(200), report.sent.len());
    assert_eq!(missing(report.accepted(), &node.entries()), Vec::<String>::new());
}
