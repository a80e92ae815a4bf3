//! Instances and candidates that `serve` holds for callers.

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use testkit::http::get;
use testkit::{EtcdServer, ZooKeeperServer, eventually};

use crate::harness::{Folder, SOON, TICK, agent, done, ids, json as cli, prints, send, serve};

fn instance(port: u16, ttl: &str) -> String {
    json!({"address": "10.0.0.7", "port": port, "ttl": ttl}).to_string()
}

#[tokio::test]
async fn an_instance_lasts_as_long_as_it_is_kept_alive() {
    let store = Folder::new();
    let (mut agent, api) = serve(&store.url(), &[]).await;
    send(api, "PUT", "/v1/services/web/kept", &instance(1, "2s")).await;
    send(api, "PUT", "/v1/services/web/beating", &instance(2, "2s")).await;
    send(api, "PUT", "/v1/services/web/left", &instance(3, "1s")).await;
    agent.logs("not kept alive").await;
    for _ in 0..8 {
        // Twice their ttl in all.
        tokio::time::sleep(Duration::from_millis(500)).await;
        assert_eq!(send(api, "PUT", "/v1/services/web/kept", &instance(1, "2s")).await.status, 200);
        let beat = send(api, "POST", "/v1/services/web/beating/heartbeat", "").await;
        assert_eq!((beat.status, &beat.json()["registered"]), (200, &json!(true)));
    }
    let list = cli(&store.url(), &["list", "web", "--json"]).await;
    assert_eq!(ids(&list), ["kept", "beating"]);
    assert_eq!(send(api, "POST", "/v1/services/web/left/heartbeat", "").await.status, 404);
    assert_eq!(send(api, "DELETE", "/v1/services/web/kept", "").await.status, 204);
    assert_eq!(ids(&cli(&store.url(), &["list", "web", "--json"]).await), ["beating"]);
    assert!(agent.stop().await.success());
    assert_eq!(done(&store.url(), &["list", "web"]).await, "", "what it held ends with the agent");
}

#[tokio::test]
async fn other_values_change_an_instance() {
    let store = Folder::new();
    let (_agent, api) = serve(&store.url(), &[]).await;
    for port in [1, 2] {
        let answer = send(api, "PUT", "/v1/services/web/a", &instance(port, "60s")).await;
        assert_eq!(answer.status, 200, "{}", answer.text());
        let list = cli(&store.url(), &["list", "web", "--json"]).await;
        assert_eq!((ids(&list), &list["services"][0]["port"]), (vec!["a"], &json!(port)));
    }
}

#[tokio::test]
async fn more_than_may_be_held_are_refused() {
    let store = Folder::new();
    let (_agent, api) = serve(&store.url(), &["--max-registrations", "1"]).await;
    assert_eq!(send(api, "PUT", "/v1/services/web/a", &instance(1, "60s")).await.status, 200);
    let refused = send(api, "PUT", "/v1/services/web/b", &instance(1, "60s")).await;
    assert!(refused.status == 503 && refused.text().contains("--max-registrations"), "{}", refused.text());
    assert_eq!(send(api, "POST", "/v1/leader/job", r#"{"id":"b"}"#).await.status, 503);
    assert_eq!(send(api, "DELETE", "/v1/services/web/a", "").await.status, 204);
    assert_eq!(send(api, "PUT", "/v1/services/web/b", &instance(1, "60s")).await.status, 200);
}

async fn leadership_goes_from_one_to_the_other(store: &str) {
    let (mut first_agent, first) = serve(store, &["--ttl", "2s"]).await;
    let (_second_agent, second) = serve(store, &["--ttl", "2s"]).await;
    let stand = async |api, id: &str| {
        let answer = send(api, "POST", "/v1/leader/job", &json!({"id": id, "ttl": "2s"}).to_string()).await;
        assert_eq!(answer.status, 200, "{}", answer.text());
        let promised = answer.header("leader-for-ms").map(|text| text.parse::<u64>().unwrap());
        let state = answer.json();
        assert_eq!(state["leader"] == true, promised.is_some_and(|time| time <= 2000), "{state}");
        assert_eq!(state["leader"] == true, state["token"] != 0, "{state}");
        state
    };
    let leads = async |api, id: &'static str| -> u64 {
        eventually(format!("{id} to lead"), SOON, async || {
            let state: Value = stand(api, id).await;
            state["token"].as_u64().filter(|_| state["leader"] == true)
        })
        .await
    };
    let token = leads(first, "a").await;
    assert_eq!(stand(second, "b").await["leader"], false);
    let leader = get(second, "/v1/leader/job").await.json();
    assert_eq!((&leader["leader"]["id"], &leader["token"]), (&json!("a"), &json!(token)));
    // Other values do not go with a term that runs.
    let other = send(first, "POST", "/v1/leader/job", r#"{"id":"a","port":5}"#).await;
    assert_eq!(other.status, 409, "{}", other.text());
    assert_eq!(send(first, "DELETE", "/v1/leader/job/a", "").await.status, 204);
    let next = leads(second, "b").await;
    assert!(next > token);
    // Who does not repeat it is out of the line.
    let last = leads(first, "a").await;
    assert!(last > next);
    // The end waits for what was promised, and only then gives it up.
    let sent = Instant::now();
    let promise = send(first, "POST", "/v1/leader/job", r#"{"id":"a","ttl":"2s"}"#).await;
    let promised = Duration::from_millis(promise.header("leader-for-ms").unwrap().parse().unwrap());
    assert!(first_agent.stop().await.success());
    assert!(leads(second, "c").await > last);
    assert!(sent.elapsed() >= promised, "another led within {promised:?}");
}

#[tokio::test]
async fn leadership_for_callers_in_a_folder() {
    leadership_goes_from_one_to_the_other(&Folder::new().url()).await;
}

#[tokio::test]
async fn leadership_for_callers_in_etcd() {
    let etcd = EtcdServer::start().await;
    leadership_goes_from_one_to_the_other(&etcd.url()).await;
}

#[tokio::test]
async fn leadership_for_callers_in_zookeeper() {
    let zookeeper = ZooKeeperServer::with_tick(TICK).await;
    leadership_goes_from_one_to_the_other(&zookeeper.url()).await;
}

#[tokio::test]
async fn a_candidate_that_is_registered_too_is_where_its_instance_is() {
    let store = Folder::new();
    let (_agent, api) = serve(&store.url(), &[]).await;
    let put = r#"{"address":"10.0.0.7","port":8080,"attributes":{"zone":"b"},"ttl":"60s"}"#;
    assert_eq!(send(api, "PUT", "/v1/services/web/a", put).await.status, 200);
    let stand = async |body: &str| send(api, "POST", "/v1/leader/web", body).await;
    eventually("it to lead", SOON, async || {
        (stand(r#"{"id":"a","ttl":"60s"}"#).await.json()["leader"] == true).then_some(())
    })
    .await;
    let leader = get(api, "/v1/leader/web").await.json();
    let placed = json!({"id": "a", "address": "10.0.0.7", "port": 8080, "attributes": {"zone": "b"}});
    assert_eq!(leader["leader"], placed);
    // The same said in full is no other candidate; and what is said counts before what is registered.
    let full = r#"{"id":"a","ttl":"60s","address":"10.0.0.7","port":8080,"attributes":{"zone":"b"}}"#;
    assert_eq!(stand(full).await.status, 200);
    assert_eq!(stand(r#"{"id":"a","ttl":"60s","address":"h","port":1}"#).await.status, 409);
    // Of another name, or gone before: not known.
    assert_eq!(send(api, "DELETE", "/v1/leader/web/a", "").await.status, 204);
    assert_eq!(send(api, "DELETE", "/v1/services/web/a", "").await.status, 204);
    eventually("it to lead again", SOON, async || {
        (stand(r#"{"id":"a","ttl":"60s"}"#).await.json()["leader"] == true).then_some(())
    })
    .await;
    assert_eq!(get(api, "/v1/leader/web").await.json()["leader"]["address"], "");
}

#[tokio::test]
async fn the_command_and_callers_stand_in_one_line() {
    let store = Folder::new();
    let (_agent, api) = serve(&store.url(), &[]).await;
    send(api, "POST", "/v1/leader/job", r#"{"id":"a","ttl":"60s"}"#).await;
    let candidate = agent(&store.url(), &["elect", "job", "--id", "b"]).start();
    prints(&candidate, "b waits", |lines| lines.last().filter(|line| line.contains("false")).cloned()).await;
    send(api, "DELETE", "/v1/leader/job/a", "").await;
    prints(&candidate, "b leads", |lines| lines.last().filter(|line| line.contains("true")).cloned()).await;
}
