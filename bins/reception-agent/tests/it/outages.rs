//! A store that is away: what is told, what is kept, and that all is in step again.

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use testkit::http::get;
use testkit::{ConsulServer, EtcdServer, FaultLink, Process, TempDir, ZooKeeperServer, eventually};

use crate::harness::{SOON, TICK, agent, done, ids, is_gone, prints, send, serve};

const FLAGS: &[&str] = &["--ttl", "2s", "--timeout", "500ms"];

fn register(store: &str, more: &[&str]) -> testkit::Program {
    agent(store, &["register", "web", "--id", "a", "--address", "h", "--port", "1"])
        .args(FLAGS)
        .args(more)
        .name("web")
}

#[tokio::test]
async fn the_last_list_stays_with_its_age_while_the_store_is_away() {
    let etcd = EtcdServer::start().await;
    let link = FaultLink::to(etcd.addr());
    let (mut serving, api) = serve(&format!("etcd://{}", link.addr()), FLAGS).await;
    let watch =
        agent(&format!("etcd://{}", link.addr()), &["watch", "web"]).args(FLAGS).name("watch").start();
    let first = register(&etcd.url(), &[]).start();
    prints(&first, "the id", |lines| lines.first().cloned()).await;
    let list = async || get(api, "/v1/services/web").await.json();
    eventually("the list", SOON, async || (ids(&list().await) == ["a"]).then_some(())).await;
    prints(&watch, "the list", |lines| lines.contains(&"+ a h:1".to_owned()).then_some(())).await;

    link.cut();
    let stale: Value = eventually("it to be stale", SOON, async || {
        let list = list().await;
        (list["stale"] == true).then_some(list)
    })
    .await;
    assert_eq!(ids(&stale), ["a"], "the last list stays");
    let age = |list: &Value| list["age_ms"].as_u64().unwrap();
    let older = eventually("it to age", SOON, async || {
        let list = list().await;
        (age(&list) > age(&stale) + 200).then_some(list)
    })
    .await;
    assert_eq!((ids(&older), &older["stale"]), (vec!["a"], &json!(true)));
    serving.logs("does not work, trying on").await;
    let ready = get(api, "/readyz").await;
    assert!(ready.status == 200 && ready.text().contains("not confirmed"), "{}", ready.text());
    prints(&watch, "the trouble", |lines| lines.last().filter(|line| line.starts_with("! stale: ")).cloned())
        .await;
    // A name that was never read: no answer is better than a wrong one.
    let unknown = get(api, "/v1/services/other").await;
    assert_eq!((unknown.status, unknown.header("retry-after")), (503, Some("1")), "{}", unknown.text());
    assert_eq!(get(api, "/v1/leader/web").await.status, 503);

    let second = register(&etcd.url(), &["--id", "b"]).start();
    prints(&second, "the id", |lines| lines.first().cloned()).await;
    link.heal();
    eventually("all to be in step", SOON, async || {
        let list = list().await;
        (ids(&list) == ["a", "b"] && list["stale"] == false && age(&list) == 0).then_some(())
    })
    .await;
    prints(&watch, "in step", |lines| lines.contains(&"= 2 instances".to_owned()).then_some(())).await;
    serving.logs("works again").await;
}

#[tokio::test]
async fn a_lost_registration_is_told_and_made_anew() {
    let etcd = EtcdServer::start().await;
    let link = FaultLink::to(etcd.addr());
    let dir = testkit::TempDir::new();
    let line = format!(
        "echo \"$RECEPTION_NAME $RECEPTION_ID: $RECEPTION_REASON\" >> {}",
        dir.join("lost").display()
    );
    let mut web = register(&format!("etcd://{}", link.addr()), &["--on-disconnect", &line]).start();
    prints(&web, "the id", |lines| lines.first().cloned()).await;
    link.cut();
    eventually("it to be gone from the list", SOON, async || {
        done(&etcd.url(), &["list", "web"]).await.is_empty().then_some(())
    })
    .await;
    eventually("the line to have run", SOON, async || {
        let text = std::fs::read_to_string(dir.join("lost")).unwrap_or_default();
        text.starts_with("web a: ").then_some(())
    })
    .await;
    link.heal();
    eventually("it to be back", SOON, async || {
        (done(&etcd.url(), &["list", "web"]).await == "a h:1\n").then_some(())
    })
    .await;
    web.logs("works again").await;
    assert_eq!(web.stdout(), ["a"], "the id is printed once");
    assert!(web.stop().await.success());
}

#[tokio::test]
async fn a_lost_registration_can_end_the_agent_and_its_command() {
    let etcd = EtcdServer::start().await;
    let link = FaultLink::to(etcd.addr());
    let mut web = register(&format!("etcd://{}", link.addr()), &["--on-disconnect", "exit"])
        .args(["--", "/bin/sh", "-c", "echo pid $$; exec sleep 100"])
        .start();
    let pid = prints(&web, "the pid", |lines| {
        lines.iter().find_map(|line| line.strip_prefix("pid ")?.parse().ok())
    })
    .await;
    prints(&web, "the id", |lines| lines.contains(&"a".to_owned()).then_some(())).await;
    link.cut();
    assert_eq!(web.ended(SOON).await.code(), Some(1));
    assert!(is_gone(pid));
    web.logs("the registration was lost").await;
}

#[tokio::test]
async fn a_hung_store_does_not_keep_a_registered_command_running() {
    let mut etcd = EtcdServer::start().await;
    // Far longer than any patience here.
    let timeout = ["--ttl", "60s", "--timeout", "20s"];
    let script = "trap 'echo term; exit 0' TERM; echo up; while :; do sleep 0.02; done";
    let mut web = register(&etcd.url(), &[]).args(timeout).args(["--", "/bin/sh", "-c", script]).start();
    prints(&web, "the id", |lines| lines.contains(&"a".to_owned()).then_some(())).await;
    etcd.process().sigstop();
    let begin = Instant::now();
    web.signal(rustix::process::Signal::TERM);
    prints(&web, "term", |lines| lines.contains(&"term".to_owned()).then_some(())).await;
    assert!(begin.elapsed() < Duration::from_secs(15), "{:?}", begin.elapsed());
    // It goes on to tell the store: that wakes up, and hears it.
    etcd.process().sigcont();
    assert!(web.ended(SOON).await.success());
    assert_eq!(done(&etcd.url(), &["list", "web"]).await, "");
}

#[tokio::test]
async fn what_begins_without_its_store_waits_for_it_and_does_not_fill_the_log() {
    let mut etcd = EtcdServer::start().await;
    etcd.process().kill9();
    let mut web = register(&etcd.url(), &[]).start();
    let watch = agent(&etcd.url(), &["watch", "web"]).args(FLAGS).name("watch").start();
    web.logs("does not work, trying on").await;
    // Several tries later.
    tokio::time::sleep(Duration::from_secs(2)).await;
    let told = web.log().iter().filter(|line| line.contains("trying on")).count();
    assert_eq!(told, 1, "{:?}", web.log());
    etcd.restart().await;
    prints(&web, "the id", |lines| (lines == ["a"]).then_some(())).await;
    prints(&watch, "it", |lines| lines.contains(&"+ a h:1".to_owned()).then_some(())).await;
    assert!(web.stop().await.success());
}

#[tokio::test]
async fn a_caller_is_told_when_its_instance_is_not_in_the_store_yet() {
    let mut etcd = EtcdServer::start().await;
    etcd.process().kill9();
    let (_agent, api) = serve(&etcd.url(), FLAGS).await;
    let body = r#"{"address":"h","port":1,"ttl":"60s"}"#;
    let put = send(api, "PUT", "/v1/services/web/a", body).await;
    assert_eq!((put.status, &put.json()["registered"]), (202, &json!(false)), "{}", put.text());
    let stand = send(api, "POST", "/v1/leader/job", r#"{"id":"a","ttl":"60s"}"#).await;
    assert_eq!(stand.status, 503, "{}", stand.text());
    etcd.restart().await;
    eventually("it to be there", SOON, async || {
        let beat = send(api, "POST", "/v1/services/web/a/heartbeat", "").await;
        (beat.status == 200).then_some(())
    })
    .await;
    assert_eq!(done(&etcd.url(), &["list", "web"]).await, "a h:1\n");
}

/// A store's server.
trait Server {
    fn store(&self) -> String;
    fn process(&mut self) -> &mut Process;
    async fn restart(&mut self);
}

macro_rules! servers {
    ($($server:ty),*) => {$(
        impl Server for $server {
            fn store(&self) -> String {
                self.url()
            }

            fn process(&mut self) -> &mut Process {
                self.process()
            }

            async fn restart(&mut self) {
                self.restart().await;
            }
        }
    )*};
}

servers!(EtcdServer, ConsulServer, ZooKeeperServer);

/// How old what is known may get here.
const OLD: u64 = 3000;
/// The contract's second, with much patience for a shared machine.
const IN_STEP: Duration = Duration::from_secs(10);

/// Gives how long after the server all was in step.
async fn lists_and_files_stay_while_the_server_is_dead(server: &mut impl Server) -> Duration {
    let (dir, store) = (TempDir::new(), server.store());
    let file = dir.join("services.toml");
    let render = format!(
        "[[render]]\npath = '{}'\nservices = ['web']\nformat = 'keyrouter'\nempty_grace = '1s'\n",
        file.display()
    );
    let config = dir.write("agent.toml", render);
    let (_serving, api) = serve(&store, &["--config", config.to_str().unwrap()]).await;
    let instance = |id: &str, port: &str| {
        agent(&store, &["register", "web", "--id", id, "--address", "10.0.0.7", "--port", port]).name(id)
    };
    let text = || std::fs::read_to_string(&file).unwrap_or_default();
    let list = async || get(api, "/v1/services/web").await.json();
    let held = "reception_agent_render_held_services{";
    let unconfirmed = async || {
        let metrics = get(api, "/metrics").await.text();
        let line = metrics.lines().find(|line| line.starts_with(held) && line.contains("unconfirmed"));
        line.is_some_and(|line| line.ends_with(" 1"))
    };
    let _a = instance("a", "1").start();
    eventually("list and file", SOON, async || {
        (ids(&list().await) == ["a"] && text().contains("10.0.0.7:1")).then_some(())
    })
    .await;
    assert!(!unconfirmed().await);

    let before = text();
    server.process().kill9();
    eventually("it to be old", SOON, async || {
        let list = list().await;
        assert_eq!((ids(&list), text()), (vec!["a"], before.clone()));
        (list["stale"] == true && list["age_ms"].as_u64().unwrap() > OLD).then_some(())
    })
    .await;
    assert!(unconfirmed().await, "the file's list is marked as well");
    let ready = get(api, "/readyz").await;
    assert!(ready.status == 200 && ready.text().contains("not confirmed"), "{}", ready.text());
    // It waits for the store.
    let mut b = instance("b", "2").start();
    b.logs("trying on").await;

    server.restart().await;
    let back = Instant::now();
    eventually("all to be in step", IN_STEP, async || {
        let list = list().await;
        let mut both = ids(&list);
        both.sort_unstable();
        let listed = both == ["a", "b"] && list["stale"] == false;
        (listed && text().contains("10.0.0.7:1") && text().contains("10.0.0.7:2")).then_some(())
    })
    .await;
    let took = back.elapsed();
    assert!(!unconfirmed().await);
    took
}

#[tokio::test]
async fn a_killed_etcd_costs_neither_lists_nor_files() {
    let took = lists_and_files_stay_while_the_server_is_dead(&mut EtcdServer::start().await).await;
    eprintln!("in step after {took:?}");
}

#[tokio::test]
async fn a_killed_consul_costs_neither_lists_nor_files() {
    let took = lists_and_files_stay_while_the_server_is_dead(&mut ConsulServer::start().await).await;
    eprintln!("in step after {took:?}");
}

#[tokio::test]
async fn a_killed_zookeeper_costs_neither_lists_nor_files() {
    let took =
        lists_and_files_stay_while_the_server_is_dead(&mut ZooKeeperServer::with_tick(TICK).await).await;
    eprintln!("in step after {took:?}");
}
