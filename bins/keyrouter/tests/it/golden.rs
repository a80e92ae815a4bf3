//! `keyrouter-0.2` answers what the original answered, over HTTP and through its reloads.

use serde_json::Value;
use testkit::http::ask;

use crate::harness::{Router, service};

const GOLDEN: &str =
    concat!(env!("CARGO_MANIFEST_DIR"), "/../../crates/common/tests/data/keyrouter-0.2.json");

/// The names of a step.
fn names(step: &Value) -> Vec<String> {
    step.as_array().unwrap().iter().map(|name| name.as_str().unwrap().to_owned()).collect()
}

fn encoded(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("%{byte:02X}")).collect()
}

fn from_hex(text: &str) -> Vec<u8> {
    (0..text.len()).step_by(2).map(|at| u8::from_str_radix(&text[at..at + 2], 16).unwrap()).collect()
}

/// One lookup of the vectors: key, count, places in the last step or null for an error.
async fn matches(router: &Router, key: &[u8], lookup: &Value, last: &[String]) -> bool {
    let count = &lookup[1];
    let target = format!("/service/s?key={}&min={count}&max={count}", encoded(key));
    // A long key does not fit into a head.
    let answer = if target.len() < 60_000 {
        router.get(&target).await
    } else {
        let body = format!("key={}&min={count}&max={count}", encoded(key));
        let form = "application/x-www-form-urlencoded";
        ask("POST", "/service/s").header("Content-Type", form).body(body).of(router.addr).await
    };
    match lookup[2].as_array() {
        Some(places) => {
            let wanted: Vec<&str> =
                places.iter().map(|place| &*last[place.as_u64().unwrap() as usize]).collect();
            answer.status == 200 && answer.json() == Value::from(wanted)
        }
        None => answer.status == 400,
    }
}

#[tokio::test]
async fn every_vector_holds_after_its_reloads() {
    let golden: Value = serde_json::from_slice(&std::fs::read(GOLDEN).unwrap()).unwrap();
    let router = Router::start("", &["--algorithm", "keyrouter-0.2"]).await;
    let (mut lookups, mut wrong) = (0, Vec::new());
    for scenario in golden["scenarios"].as_array().unwrap() {
        let mut last = Vec::new();
        for step in scenario["steps"].as_array().unwrap() {
            last = names(step);
            router.write(&service("s", &last));
            router.hup_and_loaded().await;
            let (_, ok, detail) = router.condition("services-file").await;
            assert!(ok, "{}: {detail}", scenario["name"]);
        }
        let of = |name: &str| scenario[name].as_array().cloned().unwrap_or_default();
        let text = |lookup: &Value| lookup[0].as_str().unwrap().to_owned();
        let plain = of("lookups").into_iter().map(|lookup| (text(&lookup).into_bytes(), lookup));
        let binary = of("lookups_hex").into_iter().map(|lookup| (from_hex(&text(&lookup)), lookup));
        for (key, lookup) in plain.chain(binary) {
            lookups += 1;
            if !matches(&router, &key, &lookup, &last).await {
                wrong.push(format!("{}: {lookup}", scenario["name"]));
            }
        }
    }
    assert!(lookups > 2_100, "{lookups} lookups");
    assert!(wrong.is_empty(), "{} of {lookups} differ, first {:?}", wrong.len(), wrong.first());
}
