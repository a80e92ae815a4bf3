//! What only Redis has: news, lost data, other runs, the original's key, passwords, TLS, Sentinels, dead links.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use gone::lease::rules::{Contender, Reply, Request, Standing};
use gone::lock::{Id, Session, dial};
use support::{LIMIT, PATIENCE, Raw, listener};
use testkit::{FaultLink, Program, RedisServer, TempDir, eventually, free_port};

fn acquire() -> Request {
    Request::Acquire { observed: None, floor: 0, fresh: false }
}

fn contender(owner: &str, compat: bool) -> Contender {
    Contender { owner: owner.into(), address: format!("tcp://{owner}:1"), expiry_ms: 60_000, compat }
}

async fn session(url: &str, owner: &str, compat: bool) -> Box<dyn Session> {
    let id = Id::new("it").unwrap();
    dial(url).unwrap().open(&id, &contender(owner, compat), PATIENCE, listener().0).await.unwrap()
}

#[tokio::test]
async fn every_change_is_told_to_those_who_wait() {
    let server = RedisServer::start().await;
    let mut raw = Raw::connect(&server.url()).await;
    let mut holder = session(&server.url(), "a", false).await;
    let (told, changes, breaks) = listener();
    let id = Id::new("it").unwrap();
    let lock = dial(&server.url()).unwrap();
    let _waiter = lock.open(&id, &contender("b", false), PATIENCE, told).await.unwrap();
    let mut seen = 0;
    let fresh = Request::Acquire { observed: None, floor: 0, fresh: true };
    let Reply::Acquired { token, end_us } = holder.ask(&fresh).await.unwrap() else { panic!() };
    for what in ["acquired", "renewed", "flushed", "released"] {
        match what {
            "renewed" => drop(holder.ask(&Request::Renew { token, end_us }).await.unwrap()),
            "flushed" => {
                let _: String = raw.ask(&["FLUSHALL"]).await;
                eventually("the flush to be told", LIMIT, async || {
                    (changes.load(Ordering::SeqCst) > seen).then_some(())
                })
                .await;
                seen = changes.load(Ordering::SeqCst);
                // Ours again: the record is gone, but its lease is not over.
                assert!(matches!(
                    holder.ask(&Request::Renew { token, end_us }).await,
                    Ok(Reply::Renewed { .. })
                ));
            }
            "released" => assert_eq!(holder.ask(&Request::Release { token }).await.unwrap(), Reply::Released),
            _ => {}
        }
        eventually(format!("{what} to be told"), LIMIT, async || {
            (changes.load(Ordering::SeqCst) > seen).then_some(())
        })
        .await;
        seen = changes.load(Ordering::SeqCst);
    }
    let _: i64 = raw.ask(&["CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes"]).await;
    let _: i64 = raw.ask(&["CLIENT", "KILL", "TYPE", "pubsub"]).await;
    eventually("the end to be told", LIMIT, async || (breaks.load(Ordering::SeqCst) > 0).then_some(())).await;
}

#[tokio::test]
async fn a_store_that_lost_its_memory_is_waited_out_by_all_but_the_holder() {
    let mut server = RedisServer::start().await;
    let (mut a, mut b) = (session(&server.url(), "a", false).await, session(&server.url(), "b", false).await);
    let Reply::Busy(view) = b.ask(&acquire()).await.unwrap() else {
        panic!("a store without a mark is trusted")
    };
    assert_eq!((view.standing, view.expiry), (Standing::Quarantine, Duration::from_secs(60)));
    let mut raw = Raw::connect(&server.url()).await;
    let _: i64 = raw.ask(&["HSET", "gone:{it}", "released", "1"]).await;
    let Reply::Acquired { token, end_us } = a.ask(&acquire()).await.unwrap() else { panic!() };
    // Restarted with its data: another run, so the recorded end says nothing.
    server.restart().await;
    let (mut a, mut b) = (session(&server.url(), "a", false).await, session(&server.url(), "b", false).await);
    let Reply::Busy(view) = b.ask(&acquire()).await.unwrap() else { panic!() };
    assert_eq!((view.standing, view.token), (Standing::Quarantine, token));
    assert!(matches!(a.ask(&Request::Renew { token, end_us }).await, Ok(Reply::Renewed { .. })));
    let Reply::Busy(view) = b.ask(&acquire()).await.unwrap() else { panic!() };
    assert_eq!((view.standing, view.owner.as_str()), (Standing::Held, "a"));
    // A release that another run recorded counts for nothing either.
    assert_eq!(a.ask(&Request::Release { token }).await.unwrap(), Reply::Released);
    server.restart().await;
    let mut b = session(&server.url(), "b", false).await;
    assert!(matches!(b.ask(&acquire()).await, Ok(Reply::Busy(_))));
}

#[tokio::test]
async fn the_originals_nodes_and_ours_keep_each_other_out() {
    let server = RedisServer::start().await;
    let mut raw = Raw::connect(&server.url()).await;
    let mut ours = session(&server.url(), "a", true).await;
    let fresh = Request::Acquire { observed: None, floor: 0, fresh: true };
    // As the original takes it.
    let _: String = raw.ask(&["SET", "it", "tcp://original:1", "NX", "PX", "60000"]).await;
    let Reply::Busy(view) = ours.ask(&fresh).await.unwrap() else {
        panic!("the original's lock is not seen")
    };
    assert_eq!((view.standing, view.address.as_str()), (Standing::Foreign, "tcp://original:1"));
    assert!(view.remaining > Duration::from_secs(50));
    let _: i64 = raw.ask(&["DEL", "it"]).await;
    let Reply::Acquired { token, end_us } = ours.ask(&fresh).await.unwrap() else { panic!() };
    assert_eq!(raw.ask::<String>(&["GET", "it"]).await, "tcp://a:1", "where the original sends to");
    assert!(raw.ask::<i64>(&["PTTL", "it"]).await > 50_000);
    assert_eq!(
        raw.ask::<Option<String>>(&["SET", "it", "tcp://original:1", "NX", "PX", "60000"]).await,
        None
    );
    assert!(matches!(ours.ask(&Request::Renew { token, end_us }).await, Ok(Reply::Renewed { .. })));
    assert_eq!(ours.ask(&Request::Release { token }).await.unwrap(), Reply::Released);
    assert_eq!(raw.ask::<Option<String>>(&["GET", "it"]).await, None);
    // Ours without compat are kept out by the record all the same.
    let Reply::Acquired { .. } = ours.ask(&fresh).await.unwrap() else { panic!() };
    let mut plain = session(&server.url(), "b", false).await;
    assert!(matches!(plain.ask(&fresh).await, Ok(Reply::Busy(_))));
}

#[tokio::test]
async fn a_link_that_died_in_silence_is_given_up_within_the_patience() {
    let server = RedisServer::start().await;
    let link = FaultLink::to(server.addr());
    let url = format!("redis://{}", link.addr());
    let (lock, id) = (dial(&url).unwrap(), Id::new("it").unwrap());
    let patience = Duration::from_millis(300);
    let mut session = lock.open(&id, &contender("a", false), patience, listener().0).await.unwrap();
    link.blackhole();
    let start = std::time::Instant::now();
    let error = session.ask(&acquire()).await.unwrap_err();
    assert!(error.to_string().starts_with(&url), "{error}");
    let error = lock.open(&id, &contender("a", false), patience, listener().0).await.err().unwrap();
    assert!(error.to_string().starts_with(&url), "{error}");
    assert!(start.elapsed() < patience * 2 * 10, "{:?}", start.elapsed());
    link.heal();
    assert!(lock.open(&id, &contender("a", false), PATIENCE, listener().0).await.is_ok());
}

#[tokio::test]
async fn a_password_opens_and_is_never_shown() {
    let server = RedisServer::start().await;
    let mut raw = Raw::connect(&server.url()).await;
    let _: String = raw.ask(&["CONFIG", "SET", "requirepass", "s3cret"]).await;
    let folder = TempDir::new();
    let path = folder.write("password", "s3cret\n");
    let (addr, id) = (server.addr(), Id::new("it").unwrap());
    for url in [format!("redis://:s3cret@{addr}"), format!("redis://{addr}?password-file={}", path.display())]
    {
        let lock = dial(&url).unwrap();
        assert!(lock.open(&id, &contender("a", false), PATIENCE, listener().0).await.is_ok(), "{url}");
        assert!(!format!("{lock:?} {}", lock.address()).contains("s3cret"));
    }
    let lock = dial(&format!("redis://:wr0ng@{addr}")).unwrap();
    let error =
        lock.open(&id, &contender("a", false), PATIENCE, listener().0).await.err().unwrap().to_string();
    assert!(!error.contains("wr0ng") && error.contains(&addr.to_string()), "{error}");
}

/// The list of docs/design/lease.md.
#[tokio::test]
async fn a_user_with_the_rights_of_the_docs_can_do_all() {
    let server = RedisServer::start().await;
    let mut raw = Raw::connect(&server.url()).await;
    let rights = "~gone:{it} &gone:{it}:* +evalsha +script|load +hmget +hset +time +info +publish +subscribe";
    let words =
        [&["ACL", "SETUSER", "runner", "on", ">pw"][..], &rights.split(' ').collect::<Vec<_>>()].concat();
    let _: String = raw.ask(&words).await;
    let mut session = session(&format!("redis://runner:pw@{}", server.addr()), "a", false).await;
    let fresh = Request::Acquire { observed: None, floor: 0, fresh: true };
    let Reply::Acquired { token, end_us } = session.ask(&fresh).await.unwrap() else { panic!() };
    assert!(matches!(session.ask(&Request::Renew { token, end_us }).await, Ok(Reply::Renewed { .. })));
    assert!(matches!(session.ask(&Request::Read).await, Ok(Reply::Shown(_))));
    assert_eq!(session.ask(&Request::Release { token }).await.unwrap(), Reply::Released);
}

#[tokio::test]
async fn sentinels_name_the_master_also_after_a_failover() {
    let (master, replica) = (RedisServer::start().await, RedisServer::start().await);
    let mut raw = Raw::connect(&replica.url()).await;
    let port = master.addr().port().to_string();
    let _: String = raw.ask(&["REPLICAOF", "127.0.0.1", &port]).await;
    let folder = TempDir::new();
    let sentinel_port = free_port().to_string();
    let config = format!(
        "port {sentinel_port}\nbind 127.0.0.1\ndir {}\nsentinel monitor jobs 127.0.0.1 {port} 1\n\
         sentinel down-after-milliseconds jobs 500\nsentinel failover-timeout jobs 3000\n",
        folder.display()
    );
    let path = folder.write("sentinel.conf", config);
    let _sentinel = Program::new("redis-server").arg(path.as_os_str()).arg("--sentinel").start();
    // The first is not there; the second knows.
    let url = format!("redis://127.0.0.1:{},127.0.0.1:{sentinel_port}?sentinel=jobs", free_port());
    let (lock, id) = (dial(&url).unwrap(), Id::new("it").unwrap());
    let open = async |owner: &str| {
        lock.open(&id, &contender(owner, false), Duration::from_secs(2), listener().0).await.ok()
    };
    let mut session = eventually("the master by way of a Sentinel", LIMIT, async || open("a").await).await;
    let fresh = Request::Acquire { observed: None, floor: 0, fresh: true };
    let Reply::Acquired { token, .. } = session.ask(&fresh).await.unwrap() else { panic!() };
    let mut sentinel = Raw::connect(&format!("redis://127.0.0.1:{sentinel_port}")).await;
    eventually("the Sentinel to know the replica", LIMIT, async || {
        let replicas: redis::Value = sentinel.ask(&["SENTINEL", "replicas", "jobs"]).await;
        matches!(replicas, redis::Value::Array(ref all) if !all.is_empty()).then_some(())
    })
    .await;
    eventually("the replica to have the lease", LIMIT, async || {
        raw.ask::<Option<String>>(&["HGET", "gone:{it}", "token"]).await
    })
    .await;
    drop(master);
    // The replica has the record, but of another run: whoever comes waits it out.
    let view = eventually("the new master to answer", LIMIT * 2, async || {
        match open("b").await?.ask(&acquire()).await {
            Ok(Reply::Busy(view)) => Some(view),
            _ => None,
        }
    })
    .await;
    assert_eq!((view.standing, view.token), (Standing::Quarantine, token));
}

/// Makes a certificate authority and a server certificate of it for 127.0.0.1.
fn certificates(folder: &TempDir) -> bool {
    let openssl = |args: &[&str]| {
        let run = std::process::Command::new("openssl").args(args).current_dir(&**folder).output();
        run.is_ok_and(|output| output.status.success())
    };
    folder.write("ext", "subjectAltName=IP:127.0.0.1\n");
    openssl(&[
        "req",
        "-x509",
        "-newkey",
        "rsa:2048",
        "-nodes",
        "-keyout",
        "ca.key",
        "-out",
        "ca.pem",
        "-days",
        "2",
        "-subj",
        "/CN=test ca",
    ]) && openssl(&[
        "req",
        "-newkey",
        "rsa:2048",
        "-nodes",
        "-keyout",
        "server.key",
        "-out",
        "server.csr",
        "-subj",
        "/CN=server",
    ]) && openssl(&[
        "x509",
        "-req",
        "-in",
        "server.csr",
        "-CA",
        "ca.pem",
        "-CAkey",
        "ca.key",
        "-CAcreateserial",
        "-out",
        "server.pem",
        "-days",
        "2",
        "-extfile",
        "ext",
    ])
}

#[tokio::test]
async fn tls_is_checked_against_the_given_authority() {
    let folder = TempDir::new();
    assert!(certificates(&folder), "openssl makes certificates");
    let port = free_port();
    let _server = Program::new("redis-server")
        .args(["--port", "0", "--tls-port", &port.to_string(), "--bind", "127.0.0.1", "--save", ""])
        .args([
            "--tls-cert-file",
            "server.pem",
            "--tls-key-file",
            "server.key",
            "--tls-ca-cert-file",
            "ca.pem",
        ])
        .args(["--tls-auth-clients", "no"])
        .folder(folder.to_path_buf())
        .start();
    let (id, from) = (Id::new("it").unwrap(), contender("a", false));
    let lock = dial(&format!("rediss://127.0.0.1:{port}?ca={}", folder.join("ca.pem").display())).unwrap();
    let lock: Arc<_> = lock;
    let mut session = eventually("Redis over TLS", LIMIT, async || {
        lock.open(&id, &from, PATIENCE, listener().0).await.ok()
    })
    .await;
    assert!(matches!(session.ask(&acquire()).await, Ok(Reply::Busy(_))));
    let stranger = dial(&format!("rediss://127.0.0.1:{port}")).unwrap();
    assert!(
        stranger.open(&id, &from, PATIENCE, listener().0).await.is_err(),
        "an unknown authority is trusted"
    );
}
