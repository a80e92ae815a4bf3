//! What many callers, and slow ones, may take of `serve`.

use std::time::{Duration, Instant};

use serde_json::json;
use testkit::http::{Answer, ask, get};
use testkit::{ConsulServer, EtcdServer, Raw, ZooKeeperServer, eventually};

use crate::harness::{Folder, SOON, TICK, fails, ids, send, serve};

const A: &str = r#"{"address":"10.0.0.7","port":80,"attributes":{"k":"v"},"ttl":"60s"}"#;

fn refused(answer: &Answer, flag: &str) {
    assert_eq!((answer.status, answer.header("retry-after")), (503, Some("1")), "{}", answer.text());
    assert!(answer.text().contains(flag), "{}", answer.text());
}

#[tokio::test]
async fn long_polls_leave_room_for_everything_else() {
    let store = Folder::new();
    let flags = ["--max-polls", "4", "--max-streams", "1", "--max-connections", "10"];
    let (_agent, api) = serve(&store.url(), &flags).await;
    let index = get(api, "/v1/services/web").await.json()["index"].clone();
    let poll = format!("/v1/services/web?wait=60s&index={index}");
    let mut polls = Vec::new();
    for _ in 0..4 {
        let mut raw = Raw::connect(api).await;
        raw.send(format!("GET {poll} HTTP/1.1\r\nhost: {api}\r\n\r\n")).await;
        polls.push(raw);
    }
    eventually("the polls to wait", SOON, async || {
        get(api, "/metrics").await.text().contains("reception_agent_polls 4").then_some(())
    })
    .await;
    let begin = Instant::now();
    refused(&get(api, &poll).await, "--max-polls");
    refused(&get(api, &poll).await, "--max-polls");
    assert!(begin.elapsed() < SOON, "at once");
    assert_eq!(get(api, "/v1/services/web").await.status, 200, "who does not wait is answered");
    assert_eq!(get(api, "/readyz").await.status, 200);
    assert_eq!(send(api, "PUT", "/v1/services/web/a", A).await.status, 200);
    assert_eq!(send(api, "POST", "/v1/services/web/a/heartbeat", "").await.status, 200);
    for mut raw in polls {
        assert_eq!(ids(&raw.answer().await.unwrap().json()), ["a"]);
    }
    let index = get(api, "/v1/services/web").await.json()["index"].clone();
    let again = get(api, &format!("/v1/services/web?wait=1ms&index={index}")).await;
    assert_eq!(again.status, 200, "places come back");
}

#[tokio::test]
async fn connections_have_to_be_more_than_polls_and_streams() {
    let store = Folder::new().url();
    let flags = |most| ["serve", "--max-polls", "4", "--max-streams", "5", "--max-connections", most];
    let check = |most| [flags(most).as_slice(), &["--check-config"]].concat();
    assert!(fails(78, &store, &check("9")).await.contains("--max-polls"));
    crate::harness::done(&store, &check("10")).await;
}

#[tokio::test]
async fn a_reader_that_takes_nothing_is_cut_off() {
    let store = Folder::new();
    let (_agent, api) = serve(&store.url(), &["--send-timeout", "1s", "--heartbeat", "50ms"]).await;
    let mut raw = Raw::connect(api).await;
    raw.send(format!("GET /v1/services/web HTTP/1.1\r\nhost: {api}\r\naccept: text/event-stream\r\n\r\n"))
        .await;
    let streams = async |number: u32| {
        get(api, "/metrics").await.text().contains(&format!("reception_agent_streams {number}\n"))
    };
    eventually("the stream", SOON, async || streams(1).await.then_some(())).await;
    let text = "x".repeat(60_000);
    let mut port = 0;
    eventually("it to be cut off", SOON * 2, async || {
        // More than the sockets hold, after a while.
        for id in 0..8 {
            port += 1;
            let body = json!({"address": "h", "port": port, "attributes": {"k": text}, "ttl": "60s"});
            let put = send(api, "PUT", &format!("/v1/services/web/{id}"), &body.to_string()).await;
            assert_eq!(put.status, 200, "{}", put.text());
        }
        streams(0).await.then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_dead_store_is_told_though_nobody_asks() {
    let mut etcd = EtcdServer::start().await;
    etcd.process().kill9();
    let (mut agent, api) = serve(&etcd.url(), &[]).await;
    agent.logs("reading lists does not work, trying on").await;
    let backend = async || {
        let ready = get(api, "/readyz").await;
        assert_eq!(ready.status, 200, "{}", ready.text());
        ready.text()
    };
    eventually("/readyz to tell", SOON, async || backend().await.contains("not confirmed").then_some(()))
        .await;
    etcd.restart().await;
    agent.logs("reading lists works again").await;
    eventually("/readyz to tell", SOON, async || backend().await.contains("are up to date").then_some(()))
        .await;
}

/// Each caller finds what it has put, in a list that is watched and in one that is not.
async fn who_puts_finds_itself(store: &str) {
    let patience = Duration::from_secs(20);
    let (_agent, api) = serve(store, &["--timeout", "20s", "--ttl", "10s"]).await;
    assert_eq!(ids(&get(api, "/v1/services/web").await.json()).len(), 0);
    for port in 1..=8 {
        let body = json!({"address": "10.0.0.7", "port": port, "attributes": {"k": "ä"}, "ttl": "60s"});
        // On Consul ids are those of the whole agent.
        for name in ["web".to_owned(), format!("other{port}")] {
            let begin = Instant::now();
            let put = send(api, "PUT", &format!("/v1/services/{name}/{name}-a"), &body.to_string()).await;
            assert_eq!(put.status, 200, "{store}: {}", put.text());
            let list = get(api, &format!("/v1/services/{name}")).await.json();
            assert_eq!(ids(&list), [format!("{name}-a")], "{store}");
            assert_eq!(list["services"][0]["port"], port, "{store}");
            assert!(begin.elapsed() < patience, "{store}: it did not wait for nothing");
        }
    }
}

#[tokio::test]
async fn who_puts_finds_itself_in_a_directory() {
    who_puts_finds_itself(&Folder::new().url()).await;
}

#[tokio::test]
async fn who_puts_finds_itself_in_etcd() {
    who_puts_finds_itself(&EtcdServer::start().await.url()).await;
}

#[tokio::test]
async fn who_puts_finds_itself_in_consul() {
    who_puts_finds_itself(&ConsulServer::start().await.url()).await;
}

#[tokio::test]
async fn who_puts_finds_itself_in_zookeeper() {
    who_puts_finds_itself(&ZooKeeperServer::with_tick(TICK).await.url()).await;
}

#[tokio::test]
async fn a_stream_that_is_read_late_begins_with_what_fits_and_ends_with_the_newest() {
    let store = Folder::new();
    let (_agent, api) = serve(&store.url(), &[]).await;
    let mut raw = Raw::connect(api).await;
    raw.send(format!("GET /v1/services/web HTTP/1.1\r\nhost: {api}\r\naccept: text/event-stream\r\n\r\n"))
        .await;
    for port in 1..=20 {
        let body = json!({"address": "h", "port": port, "ttl": "60s"}).to_string();
        assert_eq!(send(api, "PUT", "/v1/services/web/a", &body).await.status, 200);
    }
    let text = String::from_utf8(raw.read_until(b"\"port\":20").await.unwrap()).unwrap();
    assert!(text.contains("event: services\n"), "{text}");
    let refused = ask("GET", "/v1/services/web?wait=x").header("Accept", "text/event-stream").of(api).await;
    assert_eq!(refused.status, 400);
}
