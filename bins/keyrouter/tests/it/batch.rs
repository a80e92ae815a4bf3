//! Many keys at once.

use serde_json::{Value, json};
use testkit::http::ask;

use crate::harness::{Router, error, nodes, service};

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
