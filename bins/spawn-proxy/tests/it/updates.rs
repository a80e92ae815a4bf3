//! Updates: to every node, answered once they are safe, retried until each node has them.

use std::time::Duration;

use bytes::Bytes;
use serde_json::json;
use testkit::http::{Answer, ask};
use testkit::recorder::{duplicates, inversions_per_path};
use testkit::{Act, RecorderNode, Rule, eventually};

use crate::harness::{Flags, Proxy, SOON};

fn sequence(answer: &Answer) -> u64 {
    answer.header("spawn-sequence").unwrap_or_else(|| panic!("no sequence in {answer:?}")).parse().unwrap()
}

async fn keyed(proxy: &Proxy, key: &str, target: &str, body: &str) -> Answer {
    ask("PUT", target).header("Idempotency-Key", key).body(body).of(proxy.addr).await
}

pub(crate) async fn reaches(node: &RecorderNode, count: usize) {
    eventually(format!("{} to have {count} updates", node.name()), SOON, async || {
        (node.applied() >= count).then_some(())
    })
    .await;
}

#[tokio::test]
async fn every_method_that_writes_reaches_every_node() {
    let nodes = RecorderNode::start_many(3);
    let proxy = Flags::new().nodes(&nodes).start().await;
    for (number, method) in ["POST", "PUT", "PATCH", "DELETE"].into_iter().enumerate() {
        let answer = ask(method, "/things?x=1").body("body").of(proxy.addr).await;
        assert_eq!((answer.status, sequence(&answer)), (200, number as u64 + 1));
        assert!(answer.header("spawn-node").is_some());
    }
    proxy.level().await;
    for node in &nodes {
        let seen: Vec<_> = node
            .entries()
            .iter()
            .map(|e| (e.method.clone(), e.target.clone(), e.length, e.sequence, e.attempt))
            .collect();
        let expected: Vec<_> = ["POST", "PUT", "PATCH", "DELETE"]
            .iter()
            .zip(1..)
            .map(|(method, n)| (method.to_string(), "/things?x=1".to_owned(), 4, Some(n), Some(1)))
            .collect();
        assert_eq!(seen, expected, "{}", node.name());
        let keys: std::collections::HashSet<_> =
            node.entries().iter().map(|entry| entry.key.clone()).collect();
        assert!(keys.len() == 4 && !keys.contains(""), "each update has a key of its own: {keys:?}");
    }
    assert_eq!(nodes[0].entries()[0].key, nodes[1].entries()[0].key);
}

#[tokio::test]
async fn a_chunked_body_arrives_whole_and_a_large_one_goes_by_disk() {
    let nodes = RecorderNode::start_many(2);
    let proxy = Flags::new().nodes(&nodes).start().await;
    let chunked = ask("POST", "/c")
        .header("Transfer-Encoding", "chunked")
        .body_as_is("5\r\nhello\r\n8\r\n-chunked\r\n0\r\n\r\n");
    assert_eq!(chunked.of(proxy.addr).await.status, 200);
    let large = vec![b'x'; 3 << 20];
    assert_eq!(ask("POST", "/large").body(large).of(proxy.addr).await.status, 200);
    proxy.level().await;
    for node in &nodes {
        let lengths: Vec<u64> = node.entries().iter().map(|entry| entry.length).collect();
        assert_eq!(lengths, [13, 3 << 20]);
    }
    assert_eq!(nodes[0].entries()[1].hash, nodes[1].entries()[1].hash);
}

#[tokio::test]
async fn a_dead_node_catches_up_in_order_with_spooled_bodies_too() {
    let mut nodes = RecorderNode::start_many(3);
    let proxy = Flags::new().nodes(&nodes).start().await;
    nodes[2].stop();
    for number in 0..300 {
        assert_eq!(proxy.put(&format!("/k/{}", number % 7), &number.to_string()).await.status, 200);
    }
    assert_eq!(ask("PUT", "/k/1").body(vec![b'x'; 200_000]).of(proxy.addr).await.status, 200);
    assert_eq!(proxy.pending(nodes[2].addr()).await, 301);
    nodes[2].restart();
    proxy.level().await;
    let records: Vec<_> = nodes.iter().map(RecorderNode::entries).collect();
    assert_eq!(inversions_per_path(&records), []);
    assert_eq!(duplicates(&records), []);
    assert!(records.iter().all(|record| record.len() == 301));
}

#[tokio::test]
async fn the_first_answer_that_is_no_server_error_is_the_clients() {
    let nodes = RecorderNode::start_many(3);
    nodes[0].rule(Rule::new(Act::Status(500)).updates().times(1));
    nodes[1].rule(Rule::new(Act::Delay(Duration::from_millis(200))).updates());
    nodes[2].rule(Rule::new(Act::Delay(Duration::from_secs(2))).updates());
    let proxy = Flags::new().nodes(&nodes).and(&["--retry-max", "10s"]).start().await;
    let answer = proxy.put("/k", "1").await;
    // D11: a fast 500 neither wins over slower successes nor is it forgotten.
    assert_eq!(answer.status, 200);
    proxy.level().await;
    let attempts: Vec<_> = nodes[0].entries().iter().map(|entry| (entry.attempt, entry.status)).collect();
    assert_eq!(attempts, [(Some(1), Some(500)), (Some(2), Some(200))]);
}

#[tokio::test]
async fn a_client_error_is_an_answer_and_is_not_repeated() {
    let nodes = RecorderNode::start_many(2);
    nodes.iter().for_each(|node| node.rule(Rule::new(Act::Status(404)).updates()));
    let proxy = Flags::new().nodes(&nodes).start().await;
    assert_eq!(proxy.put("/k", "1").await.status, 404);
    proxy.level().await;
    assert!(nodes.iter().all(|node| node.count() == 1));
}

#[tokio::test]
async fn what_all_nodes_refuse_is_answered_and_rejected() {
    let nodes = RecorderNode::start_many(3);
    nodes.iter().for_each(|node| node.rule(Rule::new(Act::Status(507)).path("/full")));
    let proxy = Flags::new().nodes(&nodes).start().await;
    let answer = proxy.put("/full", "1").await;
    assert_eq!(answer.status, 507);
    proxy.level().await;
    let update = &proxy.results(&format!("/updates/{}", sequence(&answer))).await[0];
    assert!(
        update["nodes"].as_object().unwrap().values().all(|node| node["state"] == "rejected"),
        "{update}"
    );
    assert_eq!(proxy.put("/other", "1").await.status, 200);
    assert!(
        nodes.iter().all(|node| node.entries().iter().filter(|entry| entry.target == "/full").count() == 1)
    );
}

#[tokio::test]
async fn a_repeated_key_gets_the_first_answer_also_after_a_restart() {
    let nodes = RecorderNode::start_many(2);
    let body = Bytes::from_static(b"made");
    for node in &nodes {
        node.rule(
            Rule::new(Act::Answer(201, vec![("Location".into(), "/things/1".into())], body.clone()))
                .updates()
                .times(1),
        );
    }
    let mut proxy = Flags::new().nodes(&nodes).start().await;
    let first = keyed(&proxy, "k1", "/things", "a").await;
    assert_eq!((first.status, first.header("location")), (201, Some("/things/1")));
    proxy.level().await;
    for restart in [false, true] {
        if restart {
            proxy.process.kill9();
            proxy.restart().await;
        }
        let again = keyed(&proxy, "k1", "/things", "a").await;
        assert_eq!(
            (again.status, again.header("location"), again.text()),
            (201, Some("/things/1"), "made".into()),
            "restart: {restart}"
        );
        assert_eq!(sequence(&again), sequence(&first));
        assert_eq!(keyed(&proxy, "k1", "/things", "b").await.status, 422);
    }
    // Another target is another request.
    assert_eq!(keyed(&proxy, "k1", "/others", "b").await.status, 200);
    proxy.level().await;
    assert!(nodes.iter().all(|node| node.count() == 2));
}

#[tokio::test]
async fn repetitions_in_flight_wait_for_the_one_answer() {
    let node = RecorderNode::start("n");
    node.rule(Rule::new(Act::Delay(Duration::from_millis(300))).updates());
    let proxy = Flags::new().node(node.addr()).start().await;
    let answers = futures_util::future::join_all((0..8).map(|_| keyed(&proxy, "same", "/k", "x"))).await;
    assert!(answers.iter().all(|answer| answer.status == 200 && sequence(answer) == 1), "{answers:?}");
    assert_eq!(node.count(), 1);
}

#[tokio::test]
async fn a_late_answer_is_202_and_the_update_can_be_followed() {
    let node = RecorderNode::start("n");
    node.rule(Rule::new(Act::Delay(Duration::from_secs(2))).updates());
    let proxy = Flags::new().node(node.addr()).and(&["--timeout", "200ms"]).start().await;
    let answer = proxy.put("/slow", "1").await;
    assert_eq!(answer.status, 202);
    let location = answer.header("location").unwrap().to_owned();
    assert_eq!(location, format!("http://{}/updates/{}", proxy.api, sequence(&answer)));
    let path = location.strip_prefix(&format!("http://{}", proxy.api)).unwrap().to_owned();
    let update = &proxy.results(&path).await[0];
    assert_eq!(update["nodes"][node.addr().to_string()]["state"], "pending", "{update}");
    assert_eq!((&update["method"], &update["path"]), (&json!("PUT"), &json!("/slow")));
    proxy.level().await;
    let update = &proxy.results(&path).await[0];
    assert_eq!(update["nodes"][node.addr().to_string()]["state"], "delivered");
    // The client's time-out never cancelled the delivery.
    assert_eq!(node.count(), 1);
}

#[tokio::test]
async fn ack_queued_answers_at_once_even_with_all_nodes_dead() {
    let mut node = RecorderNode::start("n");
    let proxy = Flags::new().node(node.addr()).and(&["--ack", "queued"]).start().await;
    node.stop();
    let answer = proxy.put("/k", "1").await;
    assert_eq!(answer.status, 202);
    node.restart();
    reaches(&node, 1).await;
}

#[tokio::test]
async fn a_node_that_migrates_for_a_while_loses_nothing() {
    let nodes = RecorderNode::start_many(2);
    let flags = ["--max-attempts", "2", "--retry-max", "200ms", "--check-url", "/health"];
    let proxy = Flags::new().nodes(&nodes).and(&flags).start().await;
    nodes[1].fail_with(503);
    for number in 0..50 {
        assert_eq!(proxy.put(&format!("/k/{}", number % 10), "x").await.status, 200);
    }
    // Many more failures than --max-attempts, over several health checks.
    eventually("plenty of refusals", SOON, async || (nodes[1].count() > 60).then_some(())).await;
    assert_eq!(proxy.results("/dead-letters").await, [] as [serde_json::Value; 0]);
    nodes[1].heal();
    proxy.level().await;
    assert_eq!(nodes[1].applied(), 50);
    assert_eq!(inversions_per_path(&[nodes[0].entries(), nodes[1].entries()]), []);
}

#[tokio::test]
async fn what_one_node_always_refuses_becomes_its_dead_letter_and_the_rest_flows() {
    let nodes = RecorderNode::start_many(2);
    nodes[1].rule(Rule::new(Act::Status(500)).path("/poison"));
    let flags = ["--max-attempts", "3", "--retry-max", "100ms"];
    let mut proxy = Flags::new().nodes(&nodes).and(&flags).start().await;
    let poison = proxy.put("/poison", "1").await;
    assert_eq!(poison.status, 200);
    assert_eq!(proxy.put("/poison/below", "2").await.status, 200);
    let others = async {
        loop {
            proxy.put("/fine", "3").await;
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    let dead = eventually("a dead letter", SOON, async || proxy.results("/dead-letters").await.pop());
    let letter = tokio::select! { letter = dead => letter, () = others => unreachable!() };
    assert_eq!(
        (letter["node"].as_str().unwrap(), letter["sequence"].as_u64()),
        (&*nodes[1].addr().to_string(), Some(sequence(&poison)))
    );
    assert_eq!((&letter["method"], &letter["status"]), (&json!("PUT"), &json!(500)));
    eventually("the updates behind it to be given up or delivered", SOON, async || {
        (proxy.results("/dead-letters").await.len() == 2).then_some(())
    })
    .await;
    proxy.level().await;
    proxy.restart_hard().await;
    assert_eq!(proxy.results("/dead-letters").await.len(), 2, "dead letters outlive a crash");
}

#[tokio::test]
async fn patience_that_a_node_asks_for_is_granted() {
    let nodes = RecorderNode::start_many(2);
    nodes[1].rule(Rule::new(Act::RetryAfter(429, 2)).updates().times(1));
    let proxy = Flags::new().nodes(&nodes).and(&["--retry-max", "100ms"]).start().await;
    assert_eq!(proxy.put("/k", "1").await.status, 200);
    proxy.level().await;
    let entries = nodes[1].entries();
    assert_eq!(entries.len(), 2);
    assert!(entries[1].at - entries[0].at >= Duration::from_millis(1950), "{entries:?}");
}

#[tokio::test]
async fn a_broken_connection_is_repeated_with_a_higher_attempt() {
    let nodes = RecorderNode::start_many(2);
    nodes[1].rule(Rule::new(Act::CloseAfter).updates().times(2));
    let proxy = Flags::new().nodes(&nodes).start().await;
    assert_eq!(proxy.put("/k", "1").await.status, 200);
    proxy.level().await;
    let entries = nodes[1].entries();
    let attempts: Vec<_> = entries.iter().map(|entry| entry.attempt).collect();
    assert_eq!(attempts, [Some(1), Some(2), Some(3)]);
    assert!(entries.iter().all(|entry| entry.key == entries[0].key));
}

#[tokio::test]
async fn a_node_that_limits_its_rate_makes_no_dead_letters() {
    let nodes = RecorderNode::start_many(2);
    nodes[1].rule(Rule::new(Act::Status(429)).updates());
    let proxy = Flags::new()
        .nodes(&nodes)
        .and(&["--max-attempts", "2", "--retry-max", "100ms", "--check-url", "/health"])
        .start()
        .await;
    for number in 0..3 {
        assert_eq!(proxy.put(&format!("/k/{number}"), "x").await.status, 200);
    }
    eventually("plenty of refusals", SOON, async || (nodes[1].count() > 30).then_some(())).await;
    assert!(proxy.results("/dead-letters").await.is_empty());
    nodes[1].heal();
    proxy.level().await;
    assert_eq!(nodes[1].applied(), 3);
}

#[tokio::test]
async fn an_empty_body_keeps_its_length_and_a_missing_host_is_made() {
    let node = RecorderNode::start("n");
    node.keep_headers();
    let proxy = Flags::new().node(node.addr()).start().await;
    let mut raw = testkit::Raw::connect(proxy.addr).await;
    raw.send("POST /k HTTP/1.0\r\n\r\n").await;
    assert_eq!(raw.answer().await.unwrap().status, 200);
    let entry = &node.entries()[0];
    assert_eq!(
        (entry.header("content-length"), entry.header("host")),
        (Some("0"), Some(&*node.addr().to_string()))
    );
}

#[tokio::test]
async fn a_full_log_refuses_and_recovers() {
    let mut node = RecorderNode::start("n");
    let proxy = Flags::new()
        .node(node.addr())
        .and(&["--ack", "queued", "--max-pending-bytes", "100KiB"])
        .start()
        .await;
    node.stop();
    let mut taken = 0;
    let refused = loop {
        let answer = proxy.put("/k", &"x".repeat(4096)).await;
        if answer.status != 202 {
            break answer;
        }
        taken += 1;
        assert!(taken < 100, "the bound was never met");
    };
    assert_eq!(refused.status, 503);
    assert!(refused.header("retry-after").is_some());
    node.restart();
    reaches(&node, taken).await;
    proxy.level().await;
    assert_eq!(proxy.put("/k", "x").await.status, 202);
}

#[tokio::test]
async fn a_large_answer_reaches_the_client_whole() {
    let node = RecorderNode::start("n");
    node.rule(Rule::new(Act::Answer(200, Vec::new(), Bytes::from(vec![b'y'; 1 << 20]))).updates());
    let proxy = Flags::new().node(node.addr()).start().await;
    let answer = proxy.put("/k", "1").await;
    assert_eq!((answer.status, answer.body.len()), (200, 1 << 20));
    proxy.level().await;
    assert_eq!(proxy.put("/k", "2").await.body.len(), 1 << 20);
}

#[tokio::test]
async fn a_large_answer_that_somebody_else_has_is_told_by_its_place() {
    let node = RecorderNode::start("n");
    node.rule(Rule::new(Act::Answer(200, Vec::new(), Bytes::from(vec![b'y'; 1 << 20]))).updates());
    let proxy = Flags::new().node(node.addr()).start().await;
    let first = keyed(&proxy, "k1", "/k", "x").await;
    assert_eq!((first.status, first.body.len()), (200, 1 << 20));
    let again = keyed(&proxy, "k1", "/k", "x").await;
    assert_eq!((again.status, sequence(&again)), (202, sequence(&first)));
    assert!(again.header("location").is_some());
    assert_eq!(node.count(), 1);
}

#[tokio::test]
async fn what_rests_in_the_middle_of_an_attempt_is_not_rejected_by_the_others() {
    let nodes = RecorderNode::start_many(2);
    nodes[0].rule(Rule::new(Act::Late(Duration::from_millis(800))).updates().times(1));
    nodes[1].rule(Rule::new(Act::Status(500)).updates().times(3));
    let proxy = Flags::new().nodes(&nodes).start().await;
    let change = async {
        reaches(&nodes[0], 1).await;
        proxy.change(nodes[0].addr(), r#"{"maintenance":true}"#).await
    };
    let (answer, changed) = tokio::join!(proxy.put("/k", "1"), change);
    assert_eq!(changed, 202);
    proxy.level().await;
    // The first has it, so the second must get it, whatever it said at first.
    let update = &proxy.results(&format!("/updates/{}", sequence(&answer))).await[0];
    let states: Vec<_> =
        nodes.iter().map(|node| update["nodes"][node.addr().to_string()]["state"].clone()).collect();
    assert!(states.iter().all(|state| state == "delivered"), "{update}");
}

#[tokio::test]
async fn bodies_beyond_the_limit_and_bad_keys_are_refused() {
    let node = RecorderNode::start("n");
    let proxy = Flags::new().node(node.addr()).and(&["--max-body", "1000"]).start().await;
    assert_eq!(ask("PUT", "/k").body(vec![b'x'; 1001]).of(proxy.addr).await.status, 413);
    let chunk = format!("3e9\r\n{}\r\n0\r\n\r\n", "x".repeat(1001));
    assert_eq!(
        ask("PUT", "/k").header("Transfer-Encoding", "chunked").body_as_is(chunk).of(proxy.addr).await.status,
        413
    );
    assert_eq!(keyed(&proxy, &"k".repeat(300), "/k", "x").await.status, 400);
    assert_eq!(proxy.put("/k", &"x".repeat(1000)).await.status, 200);
    assert_eq!(node.count(), 1);
}

#[tokio::test]
async fn without_an_active_node_an_update_is_refused() {
    let node = RecorderNode::start("n");
    let inactive = format!("{},inactive", node.addr());
    let proxy = Flags::new().and(&["--node", &inactive]).start().await;
    assert_eq!((proxy.put("/k", "1").await.status, proxy.get("/k").await.status), (503, 503));
}
