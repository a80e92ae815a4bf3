//! Records, reads and addresses.

use std::time::Duration;

use consul_client::Query;
use reception::backend::{Renewal, consul};
use reception::{Attributes, ConsulOptions, Error, Options, Scope, Service};
use serde_json::json;
use testkit::{ConsulServer, FaultLink, eventually, http};
use tokio::time::timeout;

use crate::{LIMIT, client, dial, ids, named, ttl, web};

#[tokio::test]
async fn records_are_the_originals_and_other_services_are_none() {
    let server = ConsulServer::start().await;
    let backend = dial(&server, &ttl(60));
    let mut record = backend.register(&web("b"));
    let tenure = record.enter().await.unwrap();
    let listed = backend.list(&named("web"), Scope::Passing).await.unwrap();
    assert_eq!((&listed.instances[0].service, listed.instances[0].created), (&web("b"), tenure.created));
    let health = http::get(server.addr(), "/v1/health/service/web").await.json();
    assert_eq!(health[0]["Service"]["Tags"], json!([r#"{"k":"v"}"#]));
    let checks = health[0]["Checks"].as_array().unwrap();
    assert!(
        checks.iter().any(|check| check["CheckID"] == "service:b" && check["Status"] == "passing"),
        "{checks:?}"
    );
    // As the original writes them, and as others do.
    for (id, tags) in
        [("a", json!(["null"])), ("c", json!(["v1"])), ("d", json!([])), ("e", json!([r#"{"n":1}"#]))]
    {
        let body = json!({ "ID": id, "Name": "web", "Address": "h", "Port": 1000, "Tags": tags });
        let put = http::ask("PUT", "/v1/agent/service/register").body(body.to_string());
        assert_eq!(put.of(server.addr()).await.status, 200);
    }
    let two = || async {
        Some(backend.list(&named("web"), Scope::All).await.unwrap()).filter(|list| list.instances.len() > 1)
    };
    let list = eventually("the others to be seen", LIMIT, async || {
        let all = client(&server).health_service("web", false, Query::consistent()).await.unwrap().value;
        if all.len() == 5 { two().await } else { None }
    })
    .await;
    assert_eq!(list.instances.len(), 2, "{list:?}");
    assert_eq!(
        list.instances[1].service,
        web("a")
            .with_attributes(Attributes::new())
            .map(|a| Service { address: "h".into(), port: 1000, ..a })
            .unwrap()
    );
    assert_eq!(backend.names().await.unwrap().names, [named("web")]);
    let mut twin = backend.register(&Service::new("other", "h", 1).unwrap().with_id("b").unwrap());
    let error = twin.enter().await.unwrap_err();
    assert!(
        matches!(&error, Error::Refused { what, .. } if what.contains("an instance b of web already")),
        "{error}"
    );
    record.leave().await.unwrap();
    record.leave().await.unwrap();
    assert_eq!(ids(&*backend, Scope::All).await, ["a"]);
    twin.enter().await.unwrap();
}

#[tokio::test]
async fn an_agent_that_restarts_with_its_memory_costs_no_record() {
    let mut server = ConsulServer::start().await;
    let backend = dial(&server, &ttl(60));
    let mut record = backend.register(&web("a"));
    let created = record.enter().await.unwrap().created;
    server.restart().await;
    let renewed = eventually("the agent to answer", LIMIT, async || record.renew().await.ok()).await;
    assert!(matches!(renewed, Renewal::Kept(_)), "{renewed:?}");
    let list = eventually("it to be listed", LIMIT, async || {
        backend.list(&named("web"), Scope::Passing).await.ok().filter(|list| !list.instances.is_empty())
    });
    assert_eq!(list.await.instances[0].created, created);
}

#[tokio::test]
async fn a_dead_link_is_noticed_by_a_watch_within_the_ttl() {
    let server = ConsulServer::start().await;
    let link = FaultLink::to(server.addr());
    let options = Options { timeout: Duration::from_secs(1), ..ttl(10) };
    let backend = consul::dial(&format!("consul://{}", link.addr()), &options).unwrap();
    let mut watch = backend.watch(&named("web"));
    let mut names = backend.watch_names();
    watch.next().await.unwrap();
    assert!(names.next().await.unwrap().names.is_empty());
    link.blackhole();
    let began = std::time::Instant::now();
    let error = timeout(LIMIT, async {
        loop {
            if let Err(error) = watch.next().await {
                return error;
            }
        }
    });
    let error = error.await.expect("silence is noticed");
    assert!(matches!(error, Error::Silent { .. }), "{error}");
    // The ttl, and room for a busy machine.
    assert!(began.elapsed() < options.ttl * 2, "{:?}", began.elapsed());
    link.heal();
    eventually("it to read again", LIMIT, async || watch.next().await.ok()).await;
    let mut record = dial(&server, &ttl(60)).register(&web("a"));
    record.enter().await.unwrap();
    eventually("the name to be told", LIMIT, async || {
        names.next().await.ok().filter(|names| names.names == [named("web")])
    })
    .await;
}

#[test]
fn what_cannot_be_is_said_at_once() {
    let error = |url: &str, options| reception::dial(url, options).unwrap_err().to_string();
    assert!(error("consul://h", ttl(9)).contains("10s at least"));
    let consul = ConsulOptions { lock_delay: Duration::from_secs(61), ..ConsulOptions::default() };
    assert!(error("consul://h", Options { consul, ..ttl(10) }).contains("60s at most"));
    let secret = error("consul://u:topsecret@h/p", Options::default());
    assert!(secret.starts_with("backend consul://h/p: ") && !secret.contains("topsecret"), "{secret}");
    let bounds = reception::dial("consul://h", Options::default()).unwrap().bounds();
    assert_eq!(bounds.leader, Duration::from_secs(21));
}

#[tokio::test]
async fn of_two_with_one_id_the_first_is_told_and_takes_nothing_away() {
    let server = ConsulServer::start().await;
    let mut first = dial(&server, &ttl(60)).register(&web("a"));
    first.enter().await.unwrap();
    assert!(matches!(first.renew().await.unwrap(), Renewal::Kept(_)));
    let backend = dial(&server, &ttl(60));
    let mut second = backend.register(&web("a"));
    second.enter().await.unwrap();
    let lost = first.renew().await.unwrap();
    assert!(matches!(&lost, Renewal::Lost(why) if why.contains("another process")), "{lost:?}");
    first.leave().await.unwrap();
    assert!(matches!(second.renew().await.unwrap(), Renewal::Kept(_)));
    assert_eq!(ids(&*backend, Scope::Passing).await, ["a"]);
    second.leave().await.unwrap();
    assert!(ids(&*backend, Scope::All).await.is_empty());
}
