//! Every route, against a real Consul.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use consul_client::agent::{Check, Probe, Service, Status};
use consul_client::blocking::{Cursor, Seen};
use consul_client::kv::{Change, Put};
use consul_client::session::{Behavior, NewSession};
use consul_client::{Config, Consistency, Consul, ConsulError, Limits, Query, Token};
use testkit::{ConsulServer, FaultLink, TempDir, eventually};

const LIMIT: Duration = Duration::from_secs(30);

fn client(server: &ConsulServer) -> Consul {
    Consul::new(Config { token: Token::None, ..Config::at(server.addr().to_string()) }).unwrap()
}

fn ttl_check(id: &str) -> Check {
    let probe = Probe::Ttl(Duration::from_secs(10));
    let deregister_after = Some(Duration::from_secs(60));
    Check { id: id.into(), name: "alive".into(), probe, status: Some(Status::Passing), deregister_after }
}

fn service(id: &str, port: u16) -> Service {
    Service {
        id: id.into(),
        name: "web api".into(),
        address: "10.0.0.7".into(),
        port,
        tags: vec!["{\"zone\":\"ü\"}".into(), "second".into()],
        meta: BTreeMap::from([("weight".to_owned(), "3 of 4".to_owned())]),
        checks: vec![ttl_check(&format!("{id} check"))],
    }
}

#[tokio::test]
async fn services_and_their_checks() {
    let server = ConsulServer::start().await;
    let consul = client(&server);
    assert!(consul.leader().await.unwrap().is_some());
    let nobody = consul.health_service("web api", true, Query::consistent()).await.unwrap();
    assert!(nobody.value.is_empty() && nobody.index > 0 && !nobody.is_stale());
    for (id, port) in [("web/1 ü", 80), ("web/2", 81)] {
        consul.register_service(&service(id, port)).await.unwrap();
    }
    let list = async |passing| consul.health_service("web api", passing, Query::consistent()).await.unwrap();
    let ids = |reply: &consul_client::Reply<Vec<consul_client::health::Instance>>| {
        reply.value.iter().map(|one| one.id.clone()).collect::<Vec<_>>()
    };
    let both = list(true).await;
    assert_eq!(ids(&both), ["web/1 ü", "web/2"]);
    let first = &both.value[0];
    let expected = service("web/1 ü", 80);
    assert_eq!(
        (&first.tags, &first.meta, &first.address),
        (&expected.tags, &expected.meta, &expected.address)
    );
    assert_eq!((first.name.as_str(), first.port, first.node.as_str()), ("web api", 80, "one"));
    assert!(first.created < both.value[1].created && both.date.is_some());

    // A check that is not well takes its instance off the list of those that pass.
    for (status, passing) in [(Status::Critical, 1), (Status::Warning, 1), (Status::Passing, 2)] {
        assert!(consul.check_update("web/2 check", status, "says the test").await.unwrap());
        let all = list(false).await;
        assert_eq!(all.value.iter().find(|one| one.id == "web/2").unwrap().status, status);
        assert_eq!(list(true).await.value.len(), passing, "{status:?}");
    }
    assert!(!consul.check_update("nobody's", Status::Passing, "").await.unwrap());

    let agents = consul.agent_services().await.unwrap();
    assert_eq!(agents["web/2"].port, 81);
    assert_eq!(consul.agent_service("web/2").await.unwrap().as_ref(), Some(&agents["web/2"]));
    assert_eq!(consul.agent_service("nobody's").await.unwrap(), None);
    let catalog = consul.catalog_services(Query::default()).await.unwrap();
    assert_eq!(catalog.value["web api"].len(), 2, "each tag once: {:?}", catalog.value);
    let stale = Query { consistency: Consistency::Stale, wait: None };
    assert_eq!(consul.health_service("web api", true, stale).await.unwrap().value.len(), 2);

    for _ in 0..2 {
        consul.deregister_service("web/1 ü").await.unwrap();
    }
    assert_eq!(ids(&list(false).await), ["web/2"]);
    for name in ["", ".", ".."] {
        assert_eq!(consul.deregister_service(name).await.unwrap_err(), ConsulError::Name(name.into()));
    }
}

#[tokio::test]
async fn a_check_over_http_is_asked_by_the_agent() {
    let (server, asked) = (ConsulServer::start().await, ConsulServer::start().await);
    let consul = client(&server);
    let probe = Probe::Http {
        url: format!("http://{}/v1/status/leader", asked.addr()),
        interval: Duration::from_millis(1000),
        timeout: Duration::from_millis(500),
    };
    let check = Check { probe, status: None, deregister_after: None, ..ttl_check("probed") };
    let service = Service { checks: vec![check], ..service("one", 80) };
    consul.register_service(&service).await.unwrap();
    eventually("the agent to find it well", LIMIT, async || {
        let reply = consul.health_service("web api", true, Query::default()).await.unwrap();
        (reply.value.len() == 1).then_some(())
    })
    .await;
    drop(asked);
    eventually("the agent to find it gone", LIMIT, async || {
        let reply = consul.health_service("web api", true, Query::default()).await.unwrap();
        reply.value.is_empty().then_some(())
    })
    .await;
}

fn session(behavior: Behavior, lock_delay: Duration) -> NewSession {
    NewSession { name: "a test's".into(), ttl: Duration::from_millis(10_500), lock_delay, behavior }
}

#[tokio::test]
async fn sessions_and_locks() {
    let server = ConsulServer::start().await;
    let consul = client(&server);
    let a = consul.create_session(&session(Behavior::Release, Duration::ZERO)).await.unwrap();
    let info = consul.session_info(&a, Query::consistent()).await.unwrap().value.unwrap();
    assert_eq!((info.id.as_str(), info.node.as_str(), info.name.as_str()), (a.as_str(), "one", "a test's"));
    assert_eq!((info.ttl.as_str(), info.behavior), ("10500ms", Behavior::Release));
    assert!(consul.renew_session(&a).await.unwrap());
    let b = consul.create_session(&session(Behavior::Delete, Duration::ZERO)).await.unwrap();
    let later = consul.session_info(&b, Query::consistent()).await.unwrap().value.unwrap();
    assert!(later.create_index > info.create_index);
    assert!(consul.kv_put("lock/x", "by a", Put::Acquire(&a)).await.unwrap());
    assert!(!consul.kv_put("lock/x", "by b", Put::Acquire(&b)).await.unwrap());
    let read = async || consul.kv_get("lock/x", Query::consistent()).await.unwrap().value;
    let held = read().await.unwrap();
    assert_eq!((held.value.as_slice(), held.session.as_ref(), held.lock_index), (&b"by a"[..], Some(&a), 1));
    assert!(!consul.kv_put("lock/x", "", Put::Release(&b)).await.unwrap());
    assert!(consul.kv_put("lock/x", "free", Put::Release(&a)).await.unwrap());
    assert!(consul.kv_put("lock/x", "by b", Put::Acquire(&b)).await.unwrap());

    // Everything or nothing.
    let held = read().await.unwrap();
    let key = || "lock/x".to_owned();
    let unlock = |index| {
        let unlock = Change::Unlock { key: key(), value: b"together".to_vec(), session: b.clone() };
        [Change::CheckIndex { key: key(), index }, unlock]
    };
    assert_eq!(consul.change(&unlock(held.modify_index - 1)).await.unwrap(), None);
    assert_eq!(read().await.unwrap(), held, "nothing was done");
    let done = consul.change(&unlock(held.modify_index)).await.unwrap().unwrap();
    let freed = read().await.unwrap();
    assert_eq!((freed.value.as_slice(), freed.session.as_ref()), (&b"together"[..], None));
    assert_eq!(done.last().unwrap().modify_index, freed.modify_index);

    // What goes with a session, and what stays.
    let lock = Change::Lock { key: key(), value: b"again".to_vec(), session: b.clone() };
    assert!(consul.change(&[lock]).await.unwrap().is_some());
    consul.destroy_session(&b).await.unwrap();
    assert_eq!(read().await, None, "its behavior is to delete");
    assert!(!consul.renew_session(&b).await.unwrap());
    assert_eq!(consul.session_info(&b, Query::default()).await.unwrap().value, None);
    consul.destroy_session(&b).await.unwrap();
    // A delay after the end of a session that held a lock.
    let slow = consul.create_session(&session(Behavior::Release, Duration::from_secs(60))).await.unwrap();
    assert!(consul.kv_put("lock/y", "", Put::Acquire(&slow)).await.unwrap());
    consul.destroy_session(&slow).await.unwrap();
    assert!(!consul.kv_put("lock/y", "", Put::Acquire(&a)).await.unwrap(), "not before the delay is over");
}

#[tokio::test]
async fn keys_and_values() {
    let server = ConsulServer::start().await;
    let consul = client(&server);
    let none = consul.kv_get("a/b c%20ü", Query::consistent()).await.unwrap();
    assert!(none.value.is_none() && none.index > 0);
    let read = async || consul.kv_get("a/b c%20ü", Query::consistent()).await.unwrap().value.unwrap();
    assert!(consul.kv_put("a/b c%20ü", vec![0, 255, b'\n'], Put::Cas(0)).await.unwrap());
    assert!(!consul.kv_put("a/b c%20ü", "twice", Put::Cas(0)).await.unwrap());
    let first = read().await;
    assert_eq!((first.key.as_str(), first.value.as_slice()), ("a/b c%20ü", &[0, 255, b'\n'][..]));
    assert!(consul.kv_put("a/b c%20ü", "", Put::Cas(first.modify_index)).await.unwrap());
    let second = read().await;
    assert!(second.value.is_empty() && second.modify_index > first.modify_index);
    assert_eq!(second.create_index, first.create_index);
    assert!(!consul.kv_delete("a/b c%20ü", Some(first.modify_index)).await.unwrap());
    assert!(consul.kv_put("a/b c%20ü", "always", Put::Always).await.unwrap());
    assert!(consul.kv_delete("a/b c%20ü", None).await.unwrap());
    assert!(matches!(consul.kv_get("a//b", Query::default()).await, Err(ConsulError::Name(_))));

    // More than is taken in is an error that says so, not a cut value.
    assert!(consul.kv_put("big", vec![b'x'; 100_000], Put::Always).await.unwrap());
    let limits = Limits { body: 50_000, ..Limits::default() };
    let small = Consul::new(Config { limits, ..Config::at(server.addr().to_string()) }).unwrap();
    let error = small.kv_get("big", Query::default()).await.unwrap_err().to_string();
    assert!(error.contains("longer than 50000 bytes") && error.contains("reading a key"), "{error}");
    assert_eq!(consul.kv_get("big", Query::default()).await.unwrap().value.unwrap().value.len(), 100_000);
}

#[tokio::test]
async fn a_blocking_query_comes_back_at_once_and_lives_through_a_restart() {
    let mut server = ConsulServer::start().await;
    let consul = client(&server);
    let mut cursor = Cursor::new(Duration::from_secs(30));
    let first = consul.kv_get("x", cursor.query(0.5)).await.unwrap();
    assert_eq!(cursor.saw(first.index), Seen::Changed);
    // A wait that ends without a change.
    let short = Query { wait: Some((cursor.index(), Duration::from_millis(300))), ..Query::default() };
    let asked = Instant::now();
    let same = consul.kv_get("x", short).await.unwrap();
    assert!(asked.elapsed() >= Duration::from_millis(300) && cursor.saw(same.index) == Seen::Same);
    // A change ends the wait.
    let waiting = tokio::spawn({
        let (consul, query) = (consul.clone(), cursor.query(0.5));
        async move { consul.kv_get("x", query).await }
    });
    assert!(consul.kv_put("x", "1", Put::Always).await.unwrap());
    let told = tokio::time::timeout(LIMIT, waiting).await.unwrap().unwrap().unwrap();
    assert_eq!((cursor.saw(told.index), told.value.unwrap().value), (Seen::Changed, b"1".to_vec()));

    // Through a restart: an error, never an empty answer, and then on from the same index.
    let waiting = tokio::spawn({
        let (consul, query) = (consul.clone(), cursor.query(0.5));
        async move { consul.kv_get("x", query).await }
    });
    server.restart().await;
    let broken = tokio::time::timeout(LIMIT, waiting).await.unwrap().unwrap();
    assert!(matches!(broken, Err(ConsulError::NoAnswer { .. })), "{broken:?}");
    let waiting = tokio::spawn({
        let (consul, query) = (consul.clone(), cursor.query(0.5));
        async move { consul.kv_get("x", query).await }
    });
    assert!(consul.kv_put("x", "2", Put::Always).await.unwrap());
    let told = tokio::time::timeout(LIMIT, waiting).await.unwrap().unwrap().unwrap();
    assert_eq!((cursor.saw(told.index), told.value.unwrap().value), (Seen::Changed, b"2".to_vec()));

    // Without its data, the index goes backwards: the series begins anew instead of waiting for the old index.
    server.restart_empty().await;
    for big in [cursor.index() + 1000, u64::MAX - 1] {
        let mut cursor = Cursor::new(Duration::from_millis(300)).after(big);
        let back = consul.kv_get("x", cursor.query(0.5)).await.unwrap();
        assert_eq!((cursor.saw(back.index), back.value), (Seen::Changed, None));
        assert_eq!(cursor.query(0.5).wait, None);
        let anew = consul.kv_get("x", cursor.query(0.5)).await.unwrap();
        assert!(cursor.saw(anew.index) == Seen::Changed && cursor.index() == anew.index);
    }
}

#[tokio::test]
async fn tokens_datacenters_and_servers_that_are_not_well() {
    let acl = "acl { enabled = true default_policy = \"deny\" tokens { master = \"the-test-s-master\" } }";
    let server = ConsulServer::with(acl).await;
    let at = || Config { token: Token::None, ..Config::at(server.addr().to_string()) };
    let denied = eventually("the server to know its ACLs", LIMIT, async || {
        Consul::new(at()).unwrap().kv_put("x", "1", Put::Always).await.err()
    })
    .await;
    assert!(matches!(&denied, ConsulError::Denied { what, .. } if what.contains("denied")), "{denied}");
    assert!(denied.to_string().contains("ACL token"), "{denied}");
    let folder = TempDir::new();
    let file = folder.write("token", "the-test-s-master\n");
    let allowed = Consul::new(Config { token: Token::File(file), ..at() }).unwrap();
    eventually("the master token to be known", LIMIT, async || {
        allowed.kv_put("x", "1", Put::Always).await.ok().filter(|done| *done)
    })
    .await;
    assert!(!format!("{:?} {allowed:?}", Token::Text("the-test-s-master".into())).contains("master"));
    let missing = Consul::new(Config { token: Token::File(folder.join("none")), ..at() }).unwrap_err();
    assert!(missing.to_string().contains("reading the token in"), "{missing}");

    let token = || Token::Text("the-test-s-master".into());
    let here = Config { datacenter: Some("test".into()), token: token(), ..at() };
    assert!(Consul::new(here).unwrap().kv_put("x", "2", Put::Always).await.unwrap());
    let elsewhere = Config { datacenter: Some("nowhere".into()), token: token(), ..at() };
    let error = Consul::new(elsewhere).unwrap().kv_get("x", Query::default()).await.unwrap_err();
    assert!(matches!(&error, ConsulError::Refused { status: 500, .. }), "{error:?}");

    // No answer in time is told as such, and so is no connection.
    let link = FaultLink::to(server.addr());
    let short = Duration::from_millis(300);
    let through = Config { address: link.addr().to_string(), timeout: short, token: token(), ..at() };
    let through = Consul::new(through).unwrap();
    assert!(through.leader().await.unwrap().is_some());
    link.blackhole();
    let error = through.leader().await.unwrap_err().to_string();
    assert!(error.contains("no answer within 300ms") && error.contains(&link.addr().to_string()), "{error}");
    link.heal();
    link.cut();
    assert!(matches!(through.leader().await, Err(ConsulError::NoAnswer { .. })));
    link.heal();
    assert!(through.leader().await.unwrap().is_some());
}
