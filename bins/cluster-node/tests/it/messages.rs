//! Messages over the API, and what else it can do.

use serde_json::json;
use testkit::http::{ask, get};

use crate::harness::*;

#[tokio::test(flavor = "multi_thread")]
async fn three_nodes_join_and_a_broadcast_reaches_the_others() {
    let nodes = Plan::of(3).start().await;
    let [n1, n2, n3] = &nodes[..] else { unreachable!() };
    let names = get(n1.api, "/api/v1/cluster").await.json();
    assert_eq!(names, json!({"success": true, "error": "", "data": ["n1"]}));
    let state = n1.state().await;
    assert_eq!(state["quorum"], true);
    let n2_state = state["nodes"]["n2"].as_object().unwrap();
    let keys: Vec<&str> = n2_state.keys().map(String::as_str).collect();
    assert_eq!(keys, ["name", "addr", "status", "error", "jointime", "lag", "packets"]);
    assert!(n2_state["jointime"].as_str().unwrap().ends_with('Z') && n2_state["error"] == "");

    let (mut at2, mut at3) = (n2.events(None).await, n3.events(None).await);
    let sent = n1.done("POST", "/broadcast", "to all of you").await;
    assert_eq!((&sent["accepted"], &sent["undelivered"]), (&json!(["n2", "n3"]), &json!([])));
    for stream in [&mut at2, &mut at3] {
        let told = stream.next("message").await;
        assert_eq!((&told.data["node"], &told.data["payload"]), (&json!("n1"), &json!("to all of you")));
        assert_eq!(told.data["sequence"], sent["sequence"]);
        assert!(told.data["time"].is_string() && told.data["content_type"].is_null());
    }

    let direct = ask("POST", &n1.path("/send/n3")).header("Authorization", format!("Bearer {}", n1.token));
    let direct = direct.header("Content-Type", "application/octet-stream").body(b"\xff\x00".to_vec());
    let direct = direct.of(n1.api).await.json()["data"].clone();
    assert_eq!(direct["accepted"], json!(["n3"]));
    n1.done("POST", "/broadcast", "after").await;
    let told = at3.next("message").await;
    assert_eq!(told.data["payload_base64"], "/wA=");
    assert_eq!(told.data["content_type"], "application/octet-stream");
    assert_eq!(at3.next("message").await.data["payload"], "after");
    assert_eq!(at2.next("message").await.data["payload"], "after", "a direct message is for one");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_is_told_in_the_envelope() {
    let plan = Plan::of(2).flags(&["--max-message", "1KiB"]);
    let nodes = plan.start().await;
    let n1 = &nodes[0];
    assert!(n1.fails(413, "POST", "/broadcast", vec![0; 1025]).await.contains("1024"));
    assert!(n1.fails(404, "POST", "/send/n9", "x").await.contains("n9"));
    assert!(n1.fails(404, "DELETE", "/nodes/n9", "").await.contains("n9"));
    assert!(n1.fails(404, "POST", "/admin/n9/reconnect", "").await.contains("n9"));
    assert!(n1.fails(409, "PUT", "/nodes/n1", r#"{"addr":"tcp://h:1"}"#).await.contains("own name"));
    assert!(n1.fails(400, "PUT", "/nodes/n3", r#"{"addr":"h:1"}"#).await.contains("tcp://"));
    assert!(n1.fails(400, "PUT", "/nodes/n3", "x").await.contains("JSON"));
    assert!(n1.fails(400, "PUT", "/settings", r#"{"pingg":1}"#).await.contains("'pingg'"));
    assert!(n1.fails(400, "POST", "/admin/n1/reconnect", "").await.contains("another node"));
    assert!(n1.fails(405, "GET", "/broadcast", "").await.contains("POST"));
    let wrong = ask("POST", "/api/v1/cluster").of(n1.api).await;
    assert_eq!((wrong.status, wrong.header("allow")), (405, Some("GET, HEAD")));
    for path in ["/", "/api/v1/cluster/", "/api/v1/cluster/n2", "/api/v1/nothing"] {
        sentence(&get(n1.api, path).await, 404);
    }
    let head = ask("HEAD", "/api/v1/cluster").of(n1.api).await;
    assert!(head.status == 200 && head.body.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn nodes_and_settings_change_while_it_runs() {
    let plan = Plan::of(3);
    let nodes = plan.start().await;
    let n1 = &nodes[0];
    let shown = n1.done("PUT", "/settings", r#"{"expect":9,"token-duration":"2m"}"#).await;
    assert_eq!((&shown["expect"], &shown["token-duration"]), (&json!(9), &json!("2m")));
    assert_eq!(n1.state().await["quorum"], false);
    n1.done("PUT", "/settings", r#"{"expect":null}"#).await;
    assert_eq!(n1.state().await["quorum"], true);

    let mut events = n1.events(None).await;
    n1.done("DELETE", "/nodes/n3", "").await;
    assert_eq!(events.next("leave").await.data["node"], "n3");
    assert!(n1.state().await["nodes"]["n3"].is_null());
    n1.done("PUT", "/nodes/n3", json!({ "addr": plan.address(3) }).to_string()).await;
    assert_eq!(events.next("join").await.data["node"], "n3");
    let dump = n1.done("POST", "/statedump", "").await;
    assert_eq!((&dump["name"], &dump["nodes"]["n3"]["stalled"]), (&json!("n1"), &json!(false)));
}

#[tokio::test(flavor = "multi_thread")]
async fn admin_actions_reach_links_processes_and_applications() {
    let mut nodes = Plan::of(3).start().await;
    let mut at2 = nodes[1].events(None).await;
    let mut at1 = nodes[0].events(None).await;
    nodes[0].done("POST", "/admin/n2/flush", "the cache").await;
    let told = at2.next("api").await.data;
    assert_eq!(
        (&told["from"], &told["action"], &told["data"]),
        (&json!("n1"), &json!("flush"), &json!("the cache"))
    );
    nodes[0].done("POST", "/admin/n1/flush", "").await;
    assert_eq!(at1.next("api").await.data["from"], "n1");

    nodes[0].done("POST", "/admin/n2/admindown", "").await;
    assert_eq!(at1.next("leave").await.data["node"], "n2");
    nodes[0].done("POST", "/admin/n2/adminup", "").await;
    assert_eq!(at1.next("join").await.data["node"], "n2");
    nodes[0].done("POST", "/admin/n2/reconnect", "").await;
    nodes[0].sees("n2", "Online").await;

    nodes[0].done("POST", "/admin/n2/reload", "").await;
    nodes[1].process.logs("told to reload").await;
    nodes[1].process.logs("\"reloaded\"").await;
    nodes[0].done("POST", "/admin/n3/shutdown", "").await;
    let ended = nodes[2].process.ended(SOON).await;
    assert!(ended.success(), "{ended}");
    assert_eq!(at2.next("leave").await.data["node"], "n3");
    nodes[0].done("POST", "/admin/n1/shutdown", "").await;
    assert!(nodes[0].process.ended(SOON).await.success());
}
