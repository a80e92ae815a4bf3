//! What is special to etcd, against a real one: records on leases, watches from a revision, elections by creation.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod term;

use std::sync::Arc;
use std::time::Duration;

use etcd_gateway::{Etcd, EtcdUrl, LeaseId, Limits, Put, Txn};
use reception::backend::{Backend, Renewal, etcd};
use reception::{Attributes, Name, Options, Scope, Service};
use supervise::Boottime;
use testkit::{EtcdServer, FaultLink, http};
use tokio::time::timeout;

const LIMIT: Duration = Duration::from_secs(20);
/// Longer than any reaction, and far shorter than a third of [`ttl`]: what comes earlier was told, not found out.
const TOLD: Duration = Duration::from_secs(5);

fn ttl(secs: u64) -> Options {
    Options { ttl: Duration::from_secs(secs), timeout: Duration::from_secs(1), ..Options::default() }
}

fn dial(server: &EtcdServer, options: &Options) -> Arc<dyn Backend> {
    etcd::dial(&format!("{}/p", server.url()), options).unwrap()
}

fn client(server: &EtcdServer) -> Etcd {
    let url = EtcdUrl::parse(&server.url(), "").unwrap();
    Etcd::new(url.config(LIMIT, Limits::default())).unwrap()
}

fn web(id: &str) -> Service {
    let attributes: Attributes = [("k".to_owned(), "v".to_owned())].into();
    Service::new("web", "10.0.0.7", 80).unwrap().with_id(id).unwrap().with_attributes(attributes).unwrap()
}

async fn write(etcd: &Etcd, key: &str, value: &str) {
    let put = vec![Put { key: key.into(), value: value.into(), lease: None }];
    assert!(etcd.commit(&Txn { put, ..Txn::default() }).await.unwrap().succeeded);
}

async fn ids(backend: &dyn Backend) -> Vec<String> {
    let list = backend.list(&Name::new("web").unwrap(), Scope::Passing).await.unwrap();
    list.instances.into_iter().map(|instance| instance.service.id).collect()
}

#[tokio::test]
async fn records_are_the_originals_and_others_keys_are_none() {
    let server = EtcdServer::start().await;
    let (etcd, backend) = (client(&server), dial(&server, &ttl(30)));
    let mut record = backend.register(&web("b"));
    let tenure = record.enter().await.unwrap();
    let entry = etcd.get(b"/p/web/b").await.unwrap().unwrap();
    let value = r#"{"address":"10.0.0.7","port":80,"attributes":{"k":"v"}}"#;
    assert_eq!(String::from_utf8(entry.value).unwrap(), value);
    assert_eq!(entry.create_revision.unsigned_abs(), tenure.created);
    assert_ne!(entry.lease, 0);
    // The original's, and what is none.
    write(&etcd, "/p/web/a", r#"{"address":"h","port":1000,"attributes":null}"#).await;
    for (key, value) in
        [("/p/web/x", "nonsense"), ("/p/web/c/d", value), ("/p/webs/e", value), ("/q/other/f", value)]
    {
        write(&etcd, key, value).await;
    }
    let list = backend.list(&Name::new("web").unwrap(), Scope::All).await.unwrap();
    assert_eq!(list.instances[0].service, web("b"));
    assert_eq!(list.instances[1].service.address, "h");
    assert_eq!(list.instances.len(), 2, "{list:?}");
    let names = backend.names().await.unwrap().names;
    assert_eq!(names, [Name::new("web").unwrap(), Name::new("webs").unwrap()]);
    record.leave().await.unwrap();
    record.leave().await.unwrap();
    assert_eq!(ids(&*backend).await, ["a"]);
    let bare = etcd::dial(&server.url(), &Options { prefix: Some("q".to_owned()), ..ttl(30) }).unwrap();
    assert_eq!(bare.names().await.unwrap().names, [Name::new("other").unwrap()]);
    assert_eq!(bare.address(), format!("{}/q", server.url()));
}

#[tokio::test]
async fn a_record_that_is_taken_away_is_told_at_once_and_entered_anew_behind_the_others() {
    let server = EtcdServer::start().await;
    let (etcd, backend) = (client(&server), dial(&server, &ttl(60)));
    let mut record = backend.register(&web("a"));
    let sent = Boottime::now();
    let first = record.enter().await.unwrap();
    let ttl = Duration::from_secs(60);
    assert!(first.until >= sent + ttl && first.until <= Boottime::now() + ttl);
    assert_eq!(record.enter().await.unwrap().created, first.created, "what stands is adopted");
    let mut other = backend.register(&web("b"));
    other.enter().await.unwrap();
    assert!(matches!(record.renew().await.unwrap(), Renewal::Kept(until) if until > first.until));

    let lease = etcd.get(b"/p/web/a").await.unwrap().unwrap().lease;
    etcd.revoke(LeaseId(lease)).await.unwrap();
    timeout(TOLD, record.alarm()).await.expect("the end of the lease is told");
    assert!(matches!(record.renew().await.unwrap(), Renewal::Lost(why) if why.contains("lease of a ended")));
    let second = record.enter().await.unwrap();
    assert!(second.created > first.created);
    assert_eq!(ids(&*backend).await, ["b", "a"]);

    etcd.commit(&Txn { delete: vec![b"/p/web/a".to_vec()], ..Txn::default() }).await.unwrap();
    timeout(TOLD, record.alarm()).await.expect("the end of the key is told");
    assert!(matches!(record.renew().await.unwrap(), Renewal::Lost(why) if why.contains("deleted")));
    let third = record.enter().await.unwrap();
    assert!(third.created > second.created);

    // The same id of another process, which does not inherit its place.
    let mut twin = dial(&server, &Options { ttl, ..Options::default() }).register(&web("b"));
    assert!(twin.enter().await.unwrap().created > third.created);
    assert_eq!(ids(&*backend).await, ["a", "b"]);
    timeout(TOLD, other.alarm()).await.expect("the other owner is told");
    assert!(matches!(other.renew().await.unwrap(), Renewal::Lost(why) if why.contains("another process")));
    other.leave().await.unwrap();
    assert_eq!(ids(&*backend).await, ["a", "b"], "it leaves what is another's");
}

#[tokio::test]
async fn a_watch_tells_each_change_and_goes_on_after_compaction() {
    let server = EtcdServer::start().await;
    let (etcd, backend) = (client(&server), dial(&server, &ttl(60)));
    let mut watch = backend.watch(&Name::new("web").unwrap());
    let mut names = backend.watch_names();
    let first = watch.next().await.unwrap();
    assert!(first.instances.is_empty() && names.next().await.unwrap().names.is_empty());
    assert!(timeout(Duration::from_millis(50), watch.next()).await.is_err(), "nothing changed");
    let mut record = backend.register(&web("a"));
    record.enter().await.unwrap();
    let second = timeout(TOLD, watch.next()).await.expect("it is told").unwrap();
    assert_eq!(second.instances.len(), 1);
    assert_ne!(second.index, first.index);
    assert_eq!(timeout(TOLD, names.next()).await.expect("it is told").unwrap().names.len(), 1);

    // One that has read, and watches only after the revision that it read at is gone.
    let mut late = backend.watch(&Name::new("web").unwrap());
    assert_eq!(late.next().await.unwrap(), second);
    for number in 0..5 {
        write(&etcd, "/elsewhere", &number.to_string()).await;
    }
    record.leave().await.unwrap();
    let revision = etcd.range(b"/elsewhere").await.unwrap().revision;
    let body = format!(r#"{{"revision":"{revision}","physical":true}}"#);
    assert_eq!(http::ask("POST", "/v3/kv/compaction").body(body).of(server.addr()).await.status, 200);
    let error = timeout(TOLD, late.next()).await.expect("it is told").unwrap_err();
    assert!(error.to_string().contains("compacted"), "{error}");
    assert!(timeout(TOLD, late.next()).await.expect("it reads at once").unwrap().instances.is_empty());
    record.enter().await.unwrap();
    assert_eq!(timeout(TOLD, late.next()).await.expect("it is told").unwrap().instances.len(), 1);
}

#[tokio::test]
async fn a_dead_link_is_noticed_by_a_watch_within_the_ttl_and_a_store_that_begins_anew_is_followed() {
    let mut server = EtcdServer::start().await;
    let link = FaultLink::to(server.addr());
    let options = ttl(4);
    let backend = etcd::dial(&format!("etcd://{}/p", link.addr()), &options).unwrap();
    let mut watch = backend.watch(&Name::new("web").unwrap());
    let mut record = dial(&server, &ttl(600)).register(&web("a"));
    record.enter().await.unwrap();
    assert_eq!(watch.next().await.unwrap().instances.len(), 1);
    assert!(timeout(Duration::from_millis(300), watch.next()).await.is_err(), "its stream stands");
    link.blackhole();
    let error = timeout(options.ttl * 3, async {
        loop {
            if let Err(error) = watch.next().await {
                return error;
            }
        }
    });
    let error = error.await.expect("silence is noticed").to_string();
    assert!(error.contains("no answer within"), "{error}");
    link.heal();
    let healed = timeout(LIMIT, async {
        loop {
            if let Ok(list) = watch.next().await {
                return list;
            }
        }
    });
    assert_eq!(healed.await.expect("it reads again").instances.len(), 1);
    // Its revisions begin again from one.
    server.restart_empty().await;
    let etcd = client(&server);
    assert!(etcd.get(b"/p/web/a").await.unwrap().is_none());
    let emptied =
        timeout(LIMIT, async { while !watch.next().await.is_ok_and(|list| list.instances.is_empty()) {} });
    emptied.await.expect("the store's own word empties it");
    record.enter().await.unwrap();
    let back =
        timeout(LIMIT, async { while !watch.next().await.is_ok_and(|list| list.instances.len() == 1) {} });
    back.await.expect("it is told");
}

#[tokio::test]
async fn of_several_endpoints_a_dead_one_costs_no_record() {
    let server = EtcdServer::start().await;
    let (dead, good) = (FaultLink::to(server.addr()), FaultLink::to(server.addr()));
    let options = Options { ttl: Duration::from_secs(6), ..Options::default() };
    let client = reception::dial(&format!("etcd://{},{}/p", dead.addr(), good.addr()), options).unwrap();
    let registration = client.register(web("a"));
    timeout(LIMIT, registration.registered()).await.unwrap();
    let created = async || client.list_services(&Name::new("web").unwrap(), Scope::Passing).await;
    let before = created().await.unwrap();
    dead.blackhole();
    // Several renewals are due; the record's own watch goes by the dead link or not.
    tokio::time::sleep(Duration::from_secs(9)).await;
    assert_eq!(created().await.unwrap(), before, "the same record still stands");
}

#[tokio::test]
async fn a_leader_that_is_cut_off_has_ended_before_the_next_begins_and_comes_back_behind_it() {
    let server = EtcdServer::start().await;
    term::cut_off_and_healed(server.addr(), "etcd", ttl(3), LIMIT).await;
}

#[test]
fn what_cannot_be_is_said_at_once() {
    let error = |url: &str, options| reception::dial(url, options).unwrap_err().to_string();
    let short = Options { ttl: Duration::from_millis(1999), ..Options::default() };
    assert!(error("etcd://h", short).contains("2s at least"));
    let broken = Options { ttl: Duration::from_millis(2500), ..Options::default() };
    assert!(error("etcd://h", broken).contains("whole seconds"));
    let secret = error("etcd://u:topsecret@h/p", Options::default());
    assert!(secret.starts_with("backend etcd://h/p: ") && !secret.contains("topsecret"), "{secret}");
}
