//! The API of `serve`: lists, long polls, events, and who may change things.

use std::time::{Duration, Instant};

use serde_json::json;
use testkit::http::{ask, get};
use testkit::{Pki, Raw, eventually};

use crate::harness::{Folder, SOON, agent, ids, json as cli, send, serve};

const A: &str = r#"{"address":"10.0.0.7","port":80,"attributes":{"k":"v"},"ttl":"60s"}"#;

#[tokio::test]
async fn lists_are_those_of_the_commands() {
    let store = Folder::new();
    let (_agent, api) = serve(&store.url(), &[]).await;
    let none = get(api, "/v1/services/web").await;
    assert_eq!((none.status, ids(&none.json()).len()), (200, 0));
    let put = send(api, "PUT", "/v1/services/web/a", A).await;
    assert_eq!(put.json(), json!({"name": "web", "id": "a", "registered": true, "ttl_ms": 60000}));
    eventually("the list to have it", SOON, async || {
        let list = get(api, "/v1/services/web").await.json();
        (ids(&list) == ["a"] && list == cli(&store.url(), &["list", "web", "--json"]).await).then_some(())
    })
    .await;
    eventually("the names to have it", SOON, async || {
        (get(api, "/v1/services").await.json()["services"] == json!(["web"])).then_some(())
    })
    .await;
    let names = get(api, "/v1/services").await.json();
    assert_eq!(names.as_object().unwrap().keys().collect::<Vec<_>>(), ["services", "index"]);
    let head = ask("HEAD", "/v1/services/web").of(api).await;
    assert_eq!((head.status, head.body.len()), (200, 0));
}

#[tokio::test]
async fn a_long_poll_answers_when_the_list_changes_or_after_its_wait() {
    let store = Folder::new();
    let (_agent, api) = serve(&store.url(), &[]).await;
    let index = get(api, "/v1/services/web").await.json()["index"].clone();
    let begin = Instant::now();
    let same = get(api, &format!("/v1/services/web?wait=300ms&index={index}")).await;
    assert!(begin.elapsed() >= Duration::from_millis(300));
    assert_eq!(same.json()["index"], index);
    // Another index: at once.
    let begin = Instant::now();
    get(api, "/v1/services/web?wait=60s&index=1").await;
    assert!(begin.elapsed() < SOON);
    let target = format!("/v1/services/web?wait=60s&index={index}");
    let poll = tokio::spawn(async move {
        let mut raw = Raw::connect(api).await;
        raw.send(format!("GET {target} HTTP/1.1\r\nhost: {api}\r\n\r\n")).await;
        raw.answer().await.unwrap().json()
    });
    eventually("the poll to wait", SOON, async || {
        get(api, "/metrics").await.text().contains("reception_agent_polls 1").then_some(())
    })
    .await;
    send(api, "PUT", "/v1/services/web/a", A).await;
    assert_eq!(ids(&poll.await.unwrap()), ["a"]);
    assert_eq!(get(api, "/v1/services/web?wait=5").await.status, 400);
    assert_eq!(get(api, "/v1/services/web?weight=5s").await.status, 400);
}

#[tokio::test]
async fn events_tell_the_list_and_each_change_with_heartbeats_between() {
    let store = Folder::new();
    let (mut agent, api) = serve(&store.url(), &["--heartbeat", "50ms", "--max-streams", "1"]).await;
    let mut raw = Raw::connect(api).await;
    let request =
        format!("GET /v1/services/web HTTP/1.1\r\nhost: {api}\r\naccept: text/event-stream\r\n\r\n");
    raw.send(&request).await;
    let head = String::from_utf8(raw.read_until(b"\r\n\r\n").await.unwrap()).unwrap();
    assert!(head.contains("200") && head.contains("text/event-stream"), "{head}");
    let mut event = async |part: &str| {
        let text = String::from_utf8(raw.read_until(part.as_bytes()).await.unwrap()).unwrap();
        assert!(text.contains("event: services\n") || part == ":\n\n", "{text}");
    };
    event("\"services\":[]").await;
    event(":\n\n").await;
    send(api, "PUT", "/v1/services/web/a", A).await;
    event("\"id\":\"a\"").await;
    let refused = ask("GET", "/v1/services/web").header("Accept", "text/event-stream").of(api).await;
    assert_eq!((refused.status, refused.header("retry-after")), (503, Some("1")));
    assert!(refused.json()["error"].as_str().unwrap().contains("--max-streams"));
    assert_eq!(send(api, "DELETE", "/v1/services/web/a", "").await.status, 204);
    event("\"services\":[]").await;
    assert!(agent.stop().await.success(), "a stream does not hold up the end");
}

#[tokio::test]
async fn more_lists_than_may_be_are_refused_until_one_is_idle() {
    let store = Folder::new();
    let (_agent, api) = serve(&store.url(), &["--max-watches", "1", "--watch-idle", "1s"]).await;
    assert_eq!(get(api, "/v1/services/a").await.status, 200);
    let refused = get(api, "/v1/services/b").await;
    assert_eq!((refused.status, refused.header("retry-after")), (503, Some("1")));
    assert!(refused.json()["error"].as_str().unwrap().contains("--max-watches"));
    eventually("the first to be idle", SOON, async || {
        (get(api, "/v1/services/b").await.status == 200).then_some(())
    })
    .await;
}

#[tokio::test]
async fn what_is_asked_wrongly_is_said_as_json() {
    let store = Folder::new();
    let (_agent, api) = serve(&store.url(), &["--max-body", "1KiB"]).await;
    let large = format!(r#"{{"address":"h","port":1,"attributes":{{"k":"{}"}}}}"#, "x".repeat(2000));
    for (method, target, body, status) in [
        ("GET", "/v1/nothing", "", 404),
        ("POST", "/v1/services", "", 405),
        ("GET", "/v1/services/a%2Fb", "", 400),
        ("PUT", "/v1/services/web/a", "{", 400),
        ("PUT", "/v1/services/web/a", r#"{"address":"h","port":1,"ttl":"1ms"}"#, 400),
        ("PUT", "/v1/services/web/a", &large, 413),
        ("DELETE", "/v1/services/web/a", "", 404),
        ("POST", "/v1/services/web/a/heartbeat", "", 404),
        ("DELETE", "/v1/leader/job/a", "", 404),
    ] {
        let answer = send(api, method, target, body).await;
        assert_eq!(answer.status, status, "{method} {target}: {}", answer.text());
        assert!(answer.json()["error"].is_string());
        assert_eq!(answer.header("allow"), (status == 405).then_some("GET, HEAD"));
    }
}

#[tokio::test]
async fn changes_from_elsewhere_need_a_token_a_certificate_or_the_operators_word() {
    let store = Folder::new();
    let token = store.dir().write("token", "0123456789abcdef\n");
    let start = async |flags: &[&str]| {
        let mut agent = agent(&store.url(), &["serve", "--api", "0.0.0.0:0"]).args(flags).start();
        let api = agent.listening("api").await;
        (agent, api)
    };
    let (_open, api) = start(&[]).await;
    let refused = send(api, "PUT", "/v1/services/web/a", A).await;
    assert_eq!(refused.status, 403);
    let said = refused.text();
    assert!(said.contains("--api-token-file") && said.contains("--insecure-api"), "{said}");
    assert_eq!(get(api, "/v1/services/web").await.status, 200, "reads are open");

    let (mut asked, api) = start(&["--api-token-file", token.to_str().unwrap()]).await;
    assert_eq!(send(api, "PUT", "/v1/services/web/a", A).await.status, 401);
    let with = |token: &str| {
        ask("PUT", "/v1/services/web/a").header("Authorization", format!("Bearer {token}")).body(A)
    };
    assert_eq!(with("0123456789abcdef").of(api).await.status, 200);
    store.dir().write("token", "fedcba9876543210\n");
    asked.hup();
    asked.logs("reloaded").await;
    assert_eq!(with("0123456789abcdef").of(api).await.status, 401);
    assert_eq!(with("fedcba9876543210").of(api).await.status, 200);

    let (_insecure, api) = start(&["--insecure-api"]).await;
    assert_eq!(send(api, "PUT", "/v1/services/web/b", A).await.status, 200);
    let foreign = ask("PUT", "/v1/services/web/b").header("Origin", "http://evil.example").body(A);
    assert_eq!(foreign.of(api).await.status, 403);
}

#[tokio::test]
async fn certificates_are_asked_for_and_admin_routes_stay_open() {
    let store = Folder::new();
    let pki = Pki::new(store.dir());
    let [certificate, key, authority] =
        [&pki.certificate, &pki.key, &pki.authority].map(|path| path.to_str().unwrap().to_owned());
    let flags = ["--tls-cert", &certificate, "--tls-key", &key, "--tls-client-ca", &authority];
    let (_agent, api) = serve(&store.url(), &flags).await;
    let status = async |target: &str, with_certificate| {
        pki.ask(api, ask("GET", target), with_certificate).await.unwrap().0.status
    };
    assert_eq!(status("/v1/services/web", true).await, 200);
    assert_eq!(status("/v1/services/web", false).await, 403);
    assert_eq!(status("/readyz", false).await, 200);
    let put = ask("PUT", "/v1/services/web/a").body(A);
    assert_eq!(pki.ask(api, put, true).await.unwrap().0.status, 200);
}
