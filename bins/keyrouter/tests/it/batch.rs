//! Many keys at once.

use std::time::Duration;

use serde_json::{Value, json};
use testkit::http::ask;
use testkit::{Raw, eventually};

use crate::harness::{Router, SOON, error, nodes, service};

#[tokio::test]
async fn a_batch_answers_each_key_as_a_lookup_does() {
    let router = Router::start(&service("s", &nodes("n", 20)), &[]).await;
    let keys: Vec<String> = (0..500).map(|number| format!("key {number} <\"é\">")).collect();
    let body = json!({ "keys": keys, "min": 1, "max": 3 }).to_string();
    let answer = router.post_json("/batch/s", body).await;
    assert_eq!(answer.status, 200);
    assert_eq!(answer.header("keyrouter-generation"), Some("1"));
    let found = answer.json();
    assert_eq!(found.as_object().unwrap().len(), 500);
    for key in keys.iter().step_by(50) {
        let one = json!({ "key": key, "min": 1, "max": 3 }).to_string();
        assert_eq!(found[key], router.post_json("/service/s", one).await.json(), "{key}");
    }
}

#[tokio::test]
async fn small_and_odd_batches() {
    let router = Router::start(&service("s", &nodes("n", 3)), &["--max-batch", "3"]).await;
    for (body, wanted) in [
        (r#"{"keys":[]}"#, "{}\n"),
        (r#"{"keys":["a","a"],"min":0,"max":0}"#, "{\"a\":[]}\n"),
        (r#"{"keys":["a","b"],"min":-1,"max":-1}"#, "{\"a\":[],\"b\":[]}\n"),
    ] {
        let answer = router.post_json("/batch/s", body).await;
        assert_eq!((answer.status, &*answer.text()), (200, wanted), "{body}");
        assert_eq!(answer.header("content-length"), Some(&*wanted.len().to_string()));
    }
    let one: Value = router.post_json("/batch/s", r#"{"keys":["a"]}"#).await.json();
    assert_eq!(one["a"].as_array().unwrap().len(), 1, "one node where nothing is said");
    for (body, status, named) in [
        (r#"{"keys":["a","b","c","d"]}"#, 413, "max-batch"),
        (r#"{"min":1}"#, 400, "keys"),
        (r#"{"keys":[1]}"#, 400, "keys"),
        (r#"{"keys":["a"],"min":4,"max":4}"#, 400, "min"),
        (r#"{"keys":["a"],"min":2,"max":1}"#, 400, "max"),
        (r#"{"keys":["a"]} x"#, 400, "trailing"),
        ("", 400, "empty"),
    ] {
        let answer = router.post_json("/batch/s", body).await;
        assert!(answer.status == status && error(&answer).contains(named), "{body}: {}", answer.text());
    }
    assert_eq!(router.post_json("/batch/none", r#"{"keys":[]}"#).await.status, 404);
    // The type does not matter: there is one form alone.
    let untyped = ask("POST", "/batch/s").body(r#"{"keys":["a"]}"#).of(router.addr).await;
    assert_eq!(untyped.status, 200);
}

#[tokio::test]
async fn a_very_large_answer_comes_in_pieces_and_takes_no_memory() {
    let router = Router::start(&service("s", &nodes("a-node-with-a-longer-name", 1000)), &[]).await;
    let keys: Vec<String> = (0..2_000).map(|number| format!("k{number}")).collect();
    let body = json!({ "keys": keys, "min": 1, "max": 1_000_000_000 }).to_string();
    let before = router.process.rss();
    let answer = router.post_json("/batch/s", body).await;
    assert!(answer.body.len() > 50_000_000, "{}", answer.body.len());
    assert!(answer.header("content-length").is_none());
    assert!(answer.body.ends_with(b"]}\n"));
    let grown = router.process.rss().saturating_sub(before) >> 20;
    assert!(grown < 30, "grew by {grown} MiB");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_long_batch_lets_others_have_their_turn() {
    let file = service("s", &nodes("n", 20_000)).replace("Nodes", "Algorithm = 'rendezvous'\nNodes");
    let router = Router::start(&file, &["--workers", "1"]).await;
    let keys: Vec<String> = (0..3_000).map(|number| format!("k{number}")).collect();
    let body = json!({ "keys": keys }).to_string();
    let asked = ask("POST", "/batch/s").body(body).of(router.addr);
    let long = tokio::spawn(asked);
    eventually("the batch to be under way", SOON, async || {
        (router.metric("keyrouter_buffer_bytes").await > 0.0).then_some(())
    })
    .await;
    for number in 0..5 {
        assert_eq!(router.nodes("s", &format!("k{number}"), 1).await.len(), 1);
    }
    assert!(!long.is_finished(), "five lookups took longer than three thousand");
    assert_eq!(long.await.unwrap().json().as_object().unwrap().len(), 3_000);
}

#[tokio::test]
async fn who_does_not_read_takes_no_more_than_there_is_room_for() {
    let flags = ["--max-buffer", "2MiB", "--max-body", "64KiB"];
    let router = Router::start(&service("s", &nodes("n", 2_000)), &flags).await;
    let before = router.process.rss();
    let mut silent = Vec::new();
    // More than the system's buffers take in.
    let keys: Vec<String> = (0..1_000).map(|number| format!("k{number}")).collect();
    let body = json!({ "keys": keys, "max": 1_000_000 }).to_string();
    for _ in 0..12 {
        let mut raw = Raw::connect(router.addr).await;
        let head = format!("POST /batch/s HTTP/1.1\r\nHost: x\r\nContent-Length: {}\r\n\r\n", body.len());
        raw.send(format!("{head}{body}")).await;
        silent.push(raw);
    }
    let used = async || router.metric("keyrouter_buffer_bytes").await;
    eventually("the room to be used up", SOON, async || (used().await > 1_900_000.0).then_some(())).await;
    // The last of the room may be enough for one more to begin, which then goes on slowly: it is given up.
    let refused = eventually("a request to be refused", SOON, async || {
        let request = router.post_json("/batch/s", body.clone());
        let answer = tokio::time::timeout(Duration::from_secs(1), request).await.ok()?;
        (answer.status == 503).then_some(answer)
    })
    .await;
    assert_eq!(refused.header("retry-after"), Some("1"));
    assert_eq!(router.nodes("s", "k", 3).await.len(), 3, "a small answer needs no room");
    assert!(used().await <= f64::from(2 << 20));
    let grown = router.process.rss().saturating_sub(before) >> 20;
    assert!(grown < 40, "grew by {grown} MiB");
    drop(silent);
    eventually("the room to be given back", SOON, async || {
        (router.metric("keyrouter_buffer_bytes").await == 0.0).then_some(())
    })
    .await;
}
