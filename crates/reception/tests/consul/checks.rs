//! Who is well.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use consul_client::agent::Status;
use reception::backend::Renewal;
use reception::{ConsulCheck, ConsulOptions, Error, Options, Scope};
use supervise::Boottime;
use testkit::{ConsulServer, eventually, free_port, http};
use tokio::time::timeout;

use crate::{LIMIT, TOLD, client, dial, ids, named, ttl, web};

#[tokio::test]
async fn an_instance_that_is_unwell_is_listed_only_when_asked_for_and_a_forgotten_one_is_lost() {
    let mut server = ConsulServer::start().await;
    let (consul, backend) = (client(&server), dial(&server, &ttl(60)));
    let mut watch = backend.watch(&named("web"));
    assert!(watch.next().await.unwrap().instances.is_empty());
    let mut record = backend.register(&web("a"));
    let sent = Boottime::now();
    let until = record.enter().await.unwrap().until;
    assert!(until >= sent + Duration::from_secs(60) && until <= Boottime::now() + Duration::from_secs(60));
    let full = timeout(TOLD, async { while watch.next().await.unwrap().instances.is_empty() {} });
    full.await.expect("it is told");
    for entered in [false, true] {
        assert!(consul.check_update("service:a", Status::Critical, "").await.unwrap());
        let empty = timeout(TOLD, async { while !watch.next().await.unwrap().instances.is_empty() {} });
        empty.await.expect("it is told");
        assert!(ids(&*backend, Scope::Passing).await.is_empty());
        assert_eq!(ids(&*backend, Scope::All).await, ["a"]);
        if entered {
            record.enter().await.unwrap();
        } else {
            assert!(matches!(record.renew().await.unwrap(), Renewal::Kept(_)));
        }
        let full = timeout(TOLD, async { while watch.next().await.unwrap().instances.is_empty() {} });
        full.await.expect("it is told");
    }
    // The whole of Consul without its memory: its index begins again, far below.
    server.restart_empty().await;
    let renewed = eventually("the agent to answer", LIMIT, async || record.renew().await.ok()).await;
    assert!(
        matches!(&renewed, Renewal::Lost(why) if why.contains("does not know a any more")),
        "{renewed:?}"
    );
    let empty =
        timeout(LIMIT, async { while !watch.next().await.is_ok_and(|list| list.instances.is_empty()) {} });
    empty.await.expect("its own word empties the list");
    eventually("it to be entered again", LIMIT, async || record.enter().await.ok()).await;
    let full =
        timeout(LIMIT, async { while watch.next().await.is_ok_and(|list| list.instances.is_empty()) {} });
    full.await.expect("it is told");
}

#[tokio::test]
async fn the_agent_asks_the_health_server_or_any_other_address() {
    let server = ConsulServer::start().await;
    let checks =
        |check| ConsulOptions { check, check_interval: Duration::from_secs(1), ..ConsulOptions::default() };
    let listen = SocketAddr::from((Ipv4Addr::LOCALHOST, free_port()));
    let own = ConsulCheck::Own { listen, host: "127.0.0.1".to_owned() };
    let backend = dial(&server, &Options { consul: checks(own), ..ttl(60) });
    let (mut first, mut second) = (backend.register(&web("a")), backend.register(&web("b")));
    let entered = first.enter().await.unwrap().until;
    second.enter().await.unwrap();
    let answer = http::get(listen, "/health").await;
    assert_eq!((answer.status, answer.text().as_str()), (200, r#"{"alive": true}"#));
    assert_eq!(http::get(listen, "/").await.status, 404);
    let check = async || {
        let checks = http::get(server.addr(), "/v1/agent/checks").await.json();
        Some(checks["service:a"].clone())
            .filter(|check| check["Output"].as_str().is_some_and(|text| !text.is_empty()))
    };
    let check = eventually("the agent to ask", LIMIT, check).await;
    assert!(check["Output"].as_str().unwrap().contains("200 OK"), "{check}");
    assert!(matches!(first.renew().await.unwrap(), Renewal::Kept(until) if until > entered));
    assert_eq!(ids(&*backend, Scope::Passing).await, ["a", "b"]);

    // Nobody is there.
    let url = format!("http://127.0.0.1:{}/", free_port());
    let http = dial(&server, &Options { consul: checks(ConsulCheck::Http(url)), ..ttl(60) });
    let mut third = http.register(&web("c"));
    assert_eq!(third.enter().await.unwrap().until, Boottime::NEVER);
    let unwell = async || (ids(&*backend, Scope::Passing).await == ["a", "b"]).then_some(());
    eventually("it to be unwell", LIMIT, unwell).await;
    assert_eq!(ids(&*backend, Scope::All).await, ["a", "b", "c"]);
    assert!(matches!(third.renew().await.unwrap(), Renewal::Kept(_)));
    client(&server).deregister_service("c").await.unwrap();
    assert!(matches!(third.renew().await.unwrap(), Renewal::Lost(_)));
    for host in ["", "a b", "http://h"] {
        let own = ConsulCheck::Own { listen, host: host.to_owned() };
        let error = reception::dial(&server.url(), Options { consul: checks(own), ..ttl(60) }).unwrap_err();
        assert_eq!(error, Error::IllegalHost { host: host.to_owned() });
    }
}

#[tokio::test]
async fn a_health_server_that_nobody_asks_is_told_of() {
    let server = ConsulServer::start().await;
    // The agent asks at an address where it does not listen.
    let (listen, host) = (SocketAddr::from((Ipv4Addr::LOCALHOST, 0)), "127.0.0.2".to_owned());
    let consul = ConsulOptions {
        check: ConsulCheck::Own { listen, host },
        check_interval: Duration::from_secs(1),
        ..ConsulOptions::default()
    };
    let backend = dial(&server, &Options { consul, ..ttl(60) });
    let mut record = backend.register(&web("a"));
    let sent = Boottime::now();
    let until = record.enter().await.unwrap().until;
    assert!(
        until.since(sent) >= Duration::from_secs(30) && until <= Boottime::now() + Duration::from_secs(30)
    );
    let unwell = async || ids(&*backend, Scope::Passing).await.is_empty().then_some(());
    eventually("it to be unwell", LIMIT, unwell).await;
    let error = eventually("it to be told", LIMIT * 3, async || record.renew().await.err()).await;
    assert!(Boottime::now() >= until);
    let said = matches!(&error, Error::NoHealthCheck { url, .. } if url.starts_with("http://127.0.0.2:") && url.ends_with("/health"));
    assert!(said, "{error}");
}
