//! `register`, `list`, `watch`, `services`, `leader`: what they print, and how they end.

use rustix::process::Signal;
use serde_json::json;
use testkit::{ConsulServer, EtcdServer, ZooKeeperServer, eventually};

use crate::harness::{Folder, SOON, TICK, agent, call, done, fails, ids, is_gone, json, prints};

const WEB: &[&str] =
    &["register", "web", "--id", "a", "--address", "10.0.0.7", "--port", "80", "--attr", "k=v=w"];

/// `drained` is the last word: nothing is left of the command when it is said.
fn assert_drained_after_the_command(log: &[String]) {
    let place = |part: &str| log.iter().position(|line| line.contains(part));
    assert!(place("the command has ended").is_some_and(|end| place("drained") > Some(end)), "{log:#?}");
}

async fn printed_id(process: &testkit::Process) -> String {
    prints(process, "an id", |lines| lines.first().cloned()).await
}

async fn what_is_registered_is_listed_watched_and_gone_again(store: &str) {
    let watch = agent(store, &["watch", "web", "--ttl", "10s"]).name("watch").start();
    let watch_json = agent(store, &["watch", "web", "--json"]).name("watch-json").start();
    // Nobody registered it yet: an empty list, and no error.
    prints(&watch, "an empty list", |lines| (lines == ["= 0 instances"]).then_some(())).await;
    prints(&watch_json, "an empty list", |lines| (!lines.is_empty()).then_some(())).await;
    let mut web = agent(store, WEB).name("web").start();
    assert_eq!(printed_id(&web).await, "a");

    let list = json(store, &["list", "web", "--json"]).await;
    let service = json!({"id": "a", "address": "10.0.0.7", "port": 80, "attributes": {"k": "v=w"}});
    assert_eq!(list["services"], json!([service]));
    assert_eq!((&list["name"], &list["stale"], &list["age_ms"]), (&json!("web"), &json!(false), &json!(0)));
    assert!(list["index"].is_u64());
    assert_eq!(done(store, &["list", "web"]).await, "a 10.0.0.7:80 {\"k\":\"v=w\"}\n");
    assert_eq!(done(store, &["list", "web", "--all"]).await, "a 10.0.0.7:80 {\"k\":\"v=w\"}\n");
    assert_eq!(done(store, &["services"]).await, "web\n");
    assert_eq!(json(store, &["services", "--json"]).await["services"], json!(["web"]));

    assert!(web.stop().await.success());
    assert_eq!(done(store, &["list", "web"]).await, "", "a clean stop deregisters");
    let lines = ["= 0 instances", "+ a 10.0.0.7:80 {\"k\":\"v=w\"}", "- a"];
    prints(&watch, "the departure", |seen| (seen == lines).then_some(())).await;
    let whole = prints(&watch_json, "three lists", |seen| (seen.len() == 3).then(|| seen.to_vec())).await;
    let whole: Vec<serde_json::Value> =
        whole.iter().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!((ids(&whole[0]).len(), ids(&whole[1]), ids(&whole[2]).len()), (0, vec!["a"], 0));
    assert_ne!(whole[0]["index"], whole[1]["index"]);
}

#[tokio::test]
async fn a_registration_in_a_folder() {
    what_is_registered_is_listed_watched_and_gone_again(&Folder::new().url()).await;
}

#[tokio::test]
async fn a_registration_in_etcd() {
    let etcd = EtcdServer::start().await;
    what_is_registered_is_listed_watched_and_gone_again(&etcd.url()).await;
}

#[tokio::test]
async fn a_registration_in_consul() {
    let consul = ConsulServer::start().await;
    what_is_registered_is_listed_watched_and_gone_again(&consul.url()).await;
}

#[tokio::test]
async fn a_registration_in_zookeeper() {
    let zookeeper = ZooKeeperServer::with_tick(TICK).await;
    what_is_registered_is_listed_watched_and_gone_again(&zookeeper.url()).await;
}

#[tokio::test]
async fn the_commands_end_is_the_agents_and_signals_reach_it() {
    let store = Folder::new();
    let script = "trap 'exit 7' USR1; echo $RECEPTION_NAME $RECEPTION_ID $RECEPTION_ADDRESS $RECEPTION_PORT
                  while :; do sleep 0.02; done";
    let mut web = agent(&store.url(), WEB).args(["--", "/bin/sh", "-c", script]).name("web").start();
    let both = |lines: &[String]| {
        (lines.contains(&"a".to_owned()) && lines.contains(&"web a 10.0.0.7 80".to_owned())).then_some(())
    };
    prints(&web, "id and environment", both).await;
    web.signal(Signal::USR1);
    assert_eq!(web.ended(SOON).await.code(), Some(7));
    assert_eq!(done(&store.url(), &["list", "web"]).await, "");
}

#[tokio::test]
async fn a_command_that_cannot_be_started_is_never_registered() {
    let store = Folder::new();
    let words = [WEB, &["--", "/nonexistent/web"]].concat();
    let said = fails(127, &store.url(), &words).await;
    assert!(said.contains("command not found"), "{said}");
    assert_eq!(done(&store.url(), &["services"]).await, "");
}

#[tokio::test]
async fn a_killed_agent_takes_command_and_registration_along() {
    let store = Folder::new();
    let script = "echo pid $$; exec sleep 100";
    let mut web = agent(&store.url(), WEB).args(["--", "/bin/sh", "-c", script]).name("web").start();
    let pid = prints(&web, "the pid", |lines| {
        lines.iter().find_map(|line| line.strip_prefix("pid ")?.parse::<i32>().ok())
    })
    .await;
    prints(&web, "the id", |lines| lines.contains(&"a".to_owned()).then_some(())).await;
    web.kill9();
    eventually("the command to be gone", SOON, async || is_gone(pid).then_some(())).await;
    eventually("the registration to be gone", SOON, async || {
        done(&store.url(), &["list", "web"]).await.is_empty().then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_clean_stop_gives_the_command_its_grace() {
    let store = Folder::new();
    let script = "trap 'echo term; sleep 0.1; echo bye; exit 0' TERM; echo up; while :; do sleep 0.02; done";
    let mut web = agent(&store.url(), WEB).args(["--", "/bin/sh", "-c", script]).name("web").start();
    prints(&web, "both", |lines| (lines.len() == 2).then_some(())).await;
    assert!(web.stop().await.success());
    assert_eq!(web.stdout()[2..], ["term", "bye"]);
    assert_drained_after_the_command(&web.log());
}

#[tokio::test]
async fn who_leads_a_name_is_told_or_null() {
    let store = Folder::new();
    assert_eq!(
        json(&store.url(), &["leader", "job", "--json"]).await,
        json!({"name": "job", "leader": null, "token": 0})
    );
    assert_eq!(done(&store.url(), &["leader", "job"]).await, "");
    let candidate =
        agent(&store.url(), &["elect", "job", "--id", "a", "--address", "h", "--port", "5"]).start();
    let led = prints(&candidate, "that it leads", |lines| {
        let last: serde_json::Value = serde_json::from_str(lines.last()?).unwrap();
        (last["leader"] == true).then_some(last)
    })
    .await;
    assert_eq!((&led["name"], &led["id"]), (&json!("job"), &json!("a")));
    let token = led["token"].as_u64().unwrap();
    assert_eq!(done(&store.url(), &["leader", "job"]).await, format!("a h:5 token {token}\n"));
    let leader = json(&store.url(), &["leader", "job", "--json"]).await;
    assert_eq!(leader["leader"], json!({"id": "a", "address": "h", "port": 5, "attributes": {}}));
    assert_eq!(leader["token"], led["token"]);
    let first: serde_json::Value = serde_json::from_str(&candidate.stdout()[0]).unwrap();
    assert!(
        first["leader"] == true || first == json!({"name": "job", "id": "a", "leader": false, "token": 0})
    );
}

#[tokio::test]
async fn questions_fail_within_the_timeout_and_name_the_store() {
    let port = testkit::free_port();
    let store = format!("etcd://127.0.0.1:{port}");
    for words in [&["list", "web"][..], &["services"], &["leader", "web"]] {
        let words = [words, &["--timeout", "300ms"]].concat();
        let said = fails(1, &store, &words).await;
        assert_eq!(said.matches(&port.to_string()).count(), 1, "{said}");
        assert!(said.contains("connection refused. Does it run there?"), "{said}");
    }
    let port = testkit::free_port();
    let said = fails(1, &format!("zk://127.0.0.1:{port}"), &["list", "web", "--timeout", "300ms"]).await;
    assert!(said.matches(&port.to_string()).count() == 1 && said.contains("--backend"), "{said}");
}

#[tokio::test]
async fn wrong_words_are_told_all_at_once() {
    let store = Folder::new().url();
    let all = ["register", "web", "--attr", "x", "--check-config"];
    let said = fails(78, &store, &all).await;
    for part in ["--address", "--port", "KEY=VALUE"] {
        assert!(said.contains(part), "{part}: {said}");
    }
    let nowhere = ["register", "web", "--address", "", "--port", "1"];
    assert!(fails(2, &store, &nowhere).await.contains("--address"));
    let said = fails(78, &store, &["elect", "job", "--grace", "6s", "--check-config"]).await;
    assert!(said.contains("4.85s is the longest"), "{said}");
    fails(2, &store, &["list", "a/b"]).await;
    fails(2, &store, &["register", "a/b", "--address", "h", "--port", "1"]).await;
    fails(2, &store, &[]).await;
    let said = fails(2, "consul://user:secret@h", &["services"]).await;
    assert!(said.contains("password") && !said.contains("secret"), "{said}");
    let said = fails(78, "consul://h", &["services", "--ttl", "5s", "--check-config"]).await;
    assert!(said.contains("10"), "{said}");
    fails(2, "redis://h", &["services"]).await;
    let said = fails(78, &store, &["services", "--check-http", "http://h/", "--check-config"]).await;
    assert!(said.contains("only Consul asks"), "{said}");
}

#[tokio::test]
async fn a_check_tells_how_long_the_dead_are_taken_for_living() {
    let store = Folder::new().url();
    let said = done(&store, &["elect", "job", "--check-config"]).await;
    for part in ["dead instance", "dead leader", "margin", "SIGTERM", "SIGKILL", "good"] {
        assert!(said.contains(part), "{part}: {said}");
    }
    let output = call("etcd://127.0.0.1:1", &["services", "--check-config"]).await;
    assert!(output.status.success(), "{output:?}");
}
