//! Every call, against a real etcd.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::time::Duration;

use etcd_gateway::{Compare, Config, Etcd, EtcdError, Limits, Put, Txn};
use testkit::{EtcdServer, FaultLink, eventually};

const LIMIT: Duration = Duration::from_secs(20);

fn client(endpoints: Vec<String>) -> Etcd {
    let (timeout, limits) = (Duration::from_secs(3), Limits::default());
    Etcd::new(Config { endpoints, tls: None, timeout, limits }).unwrap()
}

fn put(key: &str, value: &[u8]) -> Put {
    Put { key: key.into(), value: value.to_vec(), lease: None }
}

#[tokio::test]
async fn keys_change_together_or_not_at_all() {
    let server = EtcdServer::start().await;
    let etcd = client(vec![server.addr().to_string()]);
    assert!(etcd.range(b"a/").await.unwrap().entries.is_empty());
    let make = Txn {
        when: vec![Compare::Missing(b"a/x".to_vec())],
        put: vec![put("a/x", &[0, 255]), put("a/y", b""), put("a0", b"not under a/")],
        delete: Vec::new(),
    };
    let made = etcd.commit(&make).await.unwrap();
    assert!(made.succeeded);
    let found = etcd.range(b"a/").await.unwrap();
    let keys: Vec<&[u8]> = found.entries.iter().map(|entry| entry.key.as_slice()).collect();
    assert_eq!(keys, [b"a/x", b"a/y"]);
    let named = etcd.range_keys(b"a/").await.unwrap().entries;
    assert_eq!(named.iter().map(|entry| entry.value.len()).collect::<Vec<_>>(), [0, 0]);
    assert_eq!((&named[0].key, named[0].mod_revision), (&found.entries[0].key, made.revision));
    assert_eq!(etcd.get(b"a/x").await.unwrap().as_ref(), Some(&found.entries[0]));
    assert_eq!(etcd.get(b"a/").await.unwrap(), None);
    let x = &found.entries[0];
    assert_eq!(
        (x.value.as_slice(), x.create_revision, x.mod_revision),
        (&[0, 255][..], made.revision, made.revision)
    );
    assert!(found.revision == made.revision && found.date.is_some());
    assert!(!etcd.commit(&make).await.unwrap().succeeded);
    let swap = |revision| Txn {
        when: vec![Compare::Unchanged(b"a/x".to_vec(), revision)],
        put: vec![put("a/x", b"2")],
        delete: vec![b"a/y".to_vec()],
    };
    assert!(!etcd.commit(&swap(x.mod_revision - 1)).await.unwrap().succeeded);
    assert!(etcd.commit(&swap(x.mod_revision)).await.unwrap().succeeded);
    let after = etcd.range(b"a/").await.unwrap().entries;
    assert_eq!((after.len(), after[0].value.as_slice()), (1, &b"2"[..]));
    let twice = Txn { put: vec![put("a/x", b"1"), put("a/x", b"2")], ..Txn::default() };
    let error = etcd.commit(&twice).await.unwrap_err();
    assert!(matches!(&error, EtcdError::Refused { what, .. } if what.contains("duplicate key")), "{error:?}");
}

#[tokio::test]
async fn a_lease_takes_its_keys_with_it_and_the_watch_tells() {
    let server = EtcdServer::start().await;
    let etcd = client(vec![server.addr().to_string()]);
    let (lease, ttl) = etcd.grant(Duration::from_secs(60)).await.unwrap();
    assert_eq!(ttl, Duration::from_secs(60));
    let before = etcd.range(b"a/").await.unwrap().revision;
    let leased = Txn { put: vec![Put { lease: Some(lease), ..put("a/x", b"1") }], ..Txn::default() };
    assert!(etcd.commit(&leased).await.unwrap().succeeded);
    assert_eq!(etcd.range(b"a/").await.unwrap().entries[0].lease, lease.0);
    assert!(etcd.keep_alive(lease).await.unwrap());
    // From the past on: what happened before the watch began is told as well.
    let mut watch = etcd.watch(b"a/", before + 1).await.unwrap();
    let mut told = async || loop {
        let events = tokio::time::timeout(LIMIT, watch.next()).await.unwrap().unwrap();
        if events != (etcd_gateway::Events { revision: events.revision, ..Default::default() }) {
            return events;
        }
    };
    assert_eq!(told().await.put[0].value, b"1");
    etcd.revoke(lease).await.unwrap();
    assert_eq!(told().await.deleted, [b"a/x"]);
    assert!(!etcd.keep_alive(lease).await.unwrap());
    etcd.revoke(lease).await.unwrap();
    let error = etcd.commit(&leased).await.unwrap_err();
    assert!(matches!(error, EtcdError::Refused { code: 5, .. }), "{error:?}");
    // And one that nobody keeps.
    let (short, _) = etcd.grant(Duration::from_secs(2)).await.unwrap();
    let leased = Txn { put: vec![Put { lease: Some(short), ..put("a/y", b"2") }], ..Txn::default() };
    assert!(etcd.commit(&leased).await.unwrap().succeeded);
    assert_eq!(told().await.put[0].key, b"a/y");
    assert_eq!(told().await.deleted, [b"a/y"]);
}

#[tokio::test]
async fn a_watch_ends_with_its_server_and_goes_on_from_where_it_was() {
    let mut server = EtcdServer::start().await;
    let etcd = client(vec![server.addr().to_string()]);
    let mut watch = etcd.watch(b"a/", 1).await.unwrap();
    let made = etcd.commit(&Txn { put: vec![put("a/x", b"1")], ..Txn::default() }).await.unwrap();
    let seen = async |watch: &mut etcd_gateway::Watch| loop {
        match tokio::time::timeout(LIMIT, watch.next()).await.unwrap() {
            Ok(events) if events.put.is_empty() => {}
            other => return other,
        }
    };
    assert_eq!(seen(&mut watch).await.unwrap().put[0].value, b"1");
    server.restart().await;
    assert!(matches!(seen(&mut watch).await, Err(EtcdError::WatchEnded(_))));
    assert!(etcd.commit(&Txn { put: vec![put("a/x", b"2")], ..Txn::default() }).await.unwrap().succeeded);
    let mut watch = etcd.watch(b"a/", made.revision + 1).await.unwrap();
    assert_eq!(seen(&mut watch).await.unwrap().put[0].value, b"2");
}

#[tokio::test]
async fn endpoints_are_tried_in_turn_and_a_bad_one_only_once() {
    let server = EtcdServer::start().await;
    let hung = FaultLink::to(server.addr());
    hung.blackhole();
    let endpoints = vec!["127.0.0.1:1".into(), hung.addr().to_string(), server.addr().to_string()];
    let etcd = client(endpoints.clone());
    assert!(etcd.range(b"a").await.unwrap().entries.is_empty());
    let again = std::time::Instant::now();
    assert!(etcd.range(b"a").await.unwrap().entries.is_empty());
    assert!(again.elapsed() < Duration::from_secs(1), "the good one is asked first from then on");
    // One that is given up before its share of the time is over.
    let impatient = client(vec![hung.addr().to_string(), server.addr().to_string()]);
    assert!(tokio::time::timeout(Duration::from_millis(100), impatient.range(b"a")).await.is_err());
    assert!(impatient.timeout(Duration::from_secs(60)).range(b"a").await.unwrap().entries.is_empty());
    let all_bad = client(endpoints[..2].to_vec()).timeout(Duration::from_millis(400));
    let error = all_bad.range(b"a").await.unwrap_err().to_string();
    assert!(
        error.contains("127.0.0.1:1: cannot connect") && error.contains("no answer within 200ms"),
        "{error}"
    );
    hung.heal();
    eventually("a healed one to answer", LIMIT, async || all_bad.range(b"a").await.ok()).await;
    assert!(matches!(
        Etcd::new(Config { endpoints: Vec::new(), tls: None, timeout: LIMIT, limits: Limits::default() }),
        Err(EtcdError::Config(_))
    ));
}
