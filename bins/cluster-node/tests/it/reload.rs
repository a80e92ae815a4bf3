//! SIGHUP: peers, settings, secrets.

use serde_json::{Value, json};

use crate::harness::*;

/// The file of a node.
fn file(plan: &Plan, at: usize, peers: &[usize], more: &str) -> std::path::PathBuf {
    let peers: String = peers
        .iter()
        .map(|peer| format!("[[peers]]\nname = \"n{peer}\"\naddr = \"{}\"\n", plan.address(*peer)))
        .collect();
    plan.dir.write(format!("n{at}.toml"), format!("{more}\n{peers}"))
}

#[tokio::test(flavor = "multi_thread")]
async fn peers_and_settings_follow_the_file() {
    let plan = Plan::of(3);
    let program = |at: usize, peers: &[usize]| plan.lone(at).arg("--config").arg(file(&plan, at, peers, ""));
    let mut nodes = Vec::new();
    for (at, peers) in [(1, &[2][..]), (2, &[1]), (3, &[1, 2])] {
        nodes.push(Node::start(&program(at, peers), at).await);
    }
    nodes[0].sees("n2", "Online").await;
    let mut events = nodes[0].events(None).await;
    nodes[0].done("PUT", "/settings", r#"{"buffer":77}"#).await;
    file(&plan, 1, &[2, 3], "expect = 3");
    nodes[0].process.hup();
    assert_eq!(events.next("join").await.data["node"], "n3");
    let settings = nodes[0].done("GET", "/settings", "").await;
    assert_eq!((&settings["expect"], &settings["buffer"]), (&json!(3), &json!(77)), "the API's change stays");

    file(&plan, 1, &[2, 3], "expect = 0");
    nodes[0].process.hup();
    nodes[0].process.logs("reload failed").await;
    let ready = testkit::http::get(nodes[0].api, "/readyz").await.text();
    assert!(ready.contains("n1.toml:1"), "{ready}");
    file(&plan, 1, &[3], "expect = 3");
    nodes[0].process.hup();
    assert_eq!(events.next("leave").await.data["node"], "n2");
    assert!(nodes[0].state().await["nodes"]["n2"].is_null());
}

/// Each step is on all nodes before the next begins; messages flow all the time.
#[tokio::test(flavor = "multi_thread")]
async fn secrets_are_rotated_without_a_restart_and_without_a_loss() {
    let plan = Plan::of(3);
    // A login that does not change with the cluster's secret.
    let password = private(&plan.dir, "api", SECRET);
    let plan = plan.flags(&["--api-secret-file", password.to_str().unwrap()]);
    let nodes = plan.start().await;
    let mut received = Vec::new();
    for node in &nodes[1..] {
        let mut stream = node.events(None).await;
        received.push(tokio::spawn(async move {
            let mut seen = Vec::new();
            loop {
                let told = stream.next("message").await;
                if told.data["payload"] == "end" {
                    return seen;
                }
                assert!(told.data.get("missed").is_none(), "{told:?}");
                seen.push(told.data["payload"].clone());
            }
        }));
    }
    let mut sent: Vec<Value> = Vec::new();
    let steps = [format!("{SECRET}\n{OTHER}"), format!("{OTHER}\n{SECRET}"), OTHER.to_owned()];
    for (number, step) in steps.iter().enumerate() {
        for (at, node) in nodes.iter().enumerate() {
            plan.secret(at + 1, step);
            node.process.hup();
            let wanted = number + 1;
            testkit::eventually("the secrets to be taken", SOON, async || {
                let taken = node
                    .process
                    .log()
                    .iter()
                    .filter(|line| line.contains("other secrets are in use"))
                    .count();
                (taken == wanted).then_some(())
            })
            .await;
            for _ in 0..20 {
                let payload = format!("{}", sent.len());
                while node_is_full(&nodes[0], &payload).await {}
                sent.push(payload.into());
            }
        }
    }
    joined(&nodes).await;
    nodes[0].done("POST", "/broadcast", "end").await;
    for seen in received {
        assert_eq!(seen.await.unwrap(), sent);
    }
}

/// Sends; true when it has to be sent again.
async fn node_is_full(node: &Node, payload: &str) -> bool {
    let answer = node.call("POST", "/broadcast", payload).await;
    if answer.status == 503 {
        return true;
    }
    let data = answer.json()["data"].clone();
    assert_eq!(data["accepted"], json!(["n2", "n3"]), "{data}");
    false
}
