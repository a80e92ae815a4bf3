//! Consul's own checks, asked of what runs: `--check-http` and `--check-host`.

use testkit::http::get;
use testkit::{ConsulServer, Program, RecorderNode, eventually};

use crate::harness::{SOON, agent, done, prints};

const LISTED: &str = "a 10.0.0.7:80\n";

fn checked(store: &str, flags: &[&str]) -> Program {
    agent(store, &["register", "web", "--id", "a", "--address", "10.0.0.7", "--port", "80"])
        .args(["--check-interval", "1s", "--check-timeout", "1s"])
        .args(flags)
        .name("web")
}

async fn becomes(store: &str, list: &str) {
    eventually(format!("the list to be {list:?}"), SOON, async || {
        (done(store, &["list", "web"]).await == list).then_some(())
    })
    .await;
    assert_eq!(done(store, &["list", "web", "--all"]).await, LISTED);
}

#[tokio::test]
async fn consul_asks_the_service_itself() {
    let (consul, mut service) = (ConsulServer::start().await, RecorderNode::start("web"));
    let url = format!("http://{}/health", service.addr());
    let mut web = checked(&consul.url(), &["--check-http", &url]).start();
    prints(&web, "the id", |lines| lines.first().cloned()).await;
    becomes(&consul.url(), LISTED).await;
    eventually("it to be asked", SOON, async || (service.reads() > 0).then_some(())).await;
    service.stop();
    becomes(&consul.url(), "").await;
    service.restart();
    becomes(&consul.url(), LISTED).await;
    assert!(web.stop().await.success());
    assert_eq!(done(&consul.url(), &["list", "web", "--all"]).await, "");
}

#[tokio::test]
async fn consul_asks_the_agents_own_health_server() {
    let consul = ConsulServer::start().await;
    let mut web = checked(&consul.url(), &["--check-host", "127.0.0.1"]).start();
    prints(&web, "the id", |lines| lines.first().cloned()).await;
    becomes(&consul.url(), LISTED).await;
    let checks = get(consul.addr(), "/v1/agent/checks").await.json();
    assert_eq!(checks["service:a"]["Type"], "http", "{checks}");
    web.sigstop();
    becomes(&consul.url(), "").await;
    web.sigcont();
    becomes(&consul.url(), LISTED).await;
    web.kill9();
    becomes(&consul.url(), "").await;
}
