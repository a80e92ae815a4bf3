//! Several processes on one log in Redis: what each tells the others, and what becomes of it all when things break.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::sync::Arc;
use std::time::{Duration, Instant};

use common::node::NodeId;
use common::queue::Sequence;
use support::{
    LIMIT, NewUpdate, Tokens, answer, append, begin, delivered, keyed, node, open_at, sequences, update,
};
use testkit::{FaultLink, Program, RedisServer, TempDir, eventually, free_port};
use update_log::{
    AnswerBody, AppendError, Appended, DeliveryState, Durability, Failure, LogError, RedisLog,
    RedisLogOptions, RedisOpenError, Settled, ShareError, UpdateBody, UpdateLog,
};

/// One process: its way to Redis, its leases, its log.
struct Proxy {
    link: FaultLink,
    tokens: Arc<Tokens>,
    log: Arc<RedisLog>,
    _dir: TempDir,
}

impl Proxy {
    fn new(server: &RedisServer) -> Self {
        Self::with(server, |_| {})
    }

    fn with(server: &RedisServer, change: impl FnOnce(&mut RedisLogOptions)) -> Self {
        let (link, dir, tokens) = (FaultLink::to(server.addr()), TempDir::new(), Arc::new(Tokens::default()));
        let mut options = RedisLogOptions {
            patience: Duration::from_millis(700),
            doubt: Duration::from_millis(500),
            ..RedisLogOptions::new(&format!("redis://{}", link.addr()), dir.join("spool")).unwrap()
        };
        change(&mut options);
        let log = RedisLog::open(options, tokens.clone()).unwrap();
        Self { link, tokens, log, _dir: dir }
    }

    async fn claim(&self, node: &NodeId, token: u64) {
        self.tokens.set(node, Some(token));
        self.log.claim(node).await.unwrap();
    }
}

async fn redis(server: &RedisServer) -> redis::aio::MultiplexedConnection {
    let client = redis::Client::open(server.url()).unwrap();
    client.get_multiplexed_async_connection().await.unwrap()
}

async fn ask<T: redis::FromRedisValue>(server: &RedisServer, words: &[&str]) -> T {
    let mut command = redis::cmd(words[0]);
    command.arg(&words[1..]);
    command.query_async(&mut redis(server).await).await.unwrap()
}

fn failure(attempt: u32) -> Failure {
    Failure { attempt, failures: attempt, status: 503, error: "no".into(), answer: None }
}

#[tokio::test]
async fn a_client_hears_the_answer_that_came_to_another_process() {
    let server = RedisServer::start().await;
    let (a, b) = (Proxy::new(&server), Proxy::new(&server));
    for port in [1, 2] {
        a.log.subscribe(&node(port)).await.unwrap();
    }
    b.claim(&node(1), 1).await;
    b.claim(&node(2), 1).await;
    let mut tail = b.log.tail();
    let (sequence, tracker) = append(&*a.log, update("/1", b"x")).await;
    assert_eq!(tracker.nodes.len(), 2);
    tokio::time::timeout(LIMIT, tail.wait_for(|tail| *tail > sequence)).await.unwrap().unwrap();
    let pending = open_at(&*b.log, &node(1)).await;
    assert!(pending[0].update.appended.is_some(), "it has only just come");
    assert!(b.log.begin_attempt(&node(2), sequence).await);
    b.log.failed(&node(2), sequence, failure(1)).await.unwrap();
    begin(&*b.log, &node(1), &pending[0].update).await;
    b.log.settle(&node(1), &pending[0].update, delivered(1));
    let heard = tracker.wait_for(|reports| {
        let settled = reports.iter().find(|report| report.settled)?;
        Some((settled.level, settled.digest, settled.answer.clone().unwrap()))
    });
    let (level, digest, heard) = tokio::time::timeout(LIMIT, heard).await.unwrap();
    assert!(level && heard.status == 200 && heard.headers["x-answer"] == "yes");
    assert_eq!(digest, 0x0102_0304_0506_0708);
    assert!(matches!(&heard.body, AnswerBody::Whole(body) if body == "done"));
    assert!(tracker.reports().iter().any(|report| !report.settled && report.node == node(2)));
    // The other way around, and once more while the link is down: what was missed is read later.
    let (sequence, tracker) = append(&*a.log, update("/2", b"x")).await;
    eventually("the update to come", LIMIT, async || (*b.log.tail().borrow() > sequence).then_some(())).await;
    a.link.cut();
    let pending = open_at(&*b.log, &node(1)).await;
    begin(&*b.log, &node(1), &pending[0].update).await;
    b.log.settle(&node(1), &pending[0].update, delivered(1));
    eventually("the settling to be recorded", LIMIT, async || {
        (b.log.queue(&node(1))?.pending == 0).then_some(())
    })
    .await;
    assert!(tracker.reports().is_empty());
    a.link.heal();
    let heard = tracker.wait_for(|reports| reports.iter().find(|report| report.settled)?.answer.clone());
    let heard = tokio::time::timeout(LIMIT, heard).await.unwrap();
    assert!(matches!(&heard.body, AnswerBody::Whole(body) if body == "done"));
}

#[tokio::test]
async fn processes_that_race_for_a_key_make_one_update() {
    let server = RedisServer::start().await;
    let proxies: Vec<_> = (0..3).map(|_| Proxy::new(&server)).collect();
    proxies[0].log.subscribe(&node(1)).await.unwrap();
    for round in 1..=20u8 {
        let racing: Vec<_> = (0..24)
            .map(|racer| {
                let log = proxies[racer % 3].log.clone();
                tokio::spawn(async move { log.append(keyed("/k", b"same", round)).await.unwrap() })
            })
            .collect();
        let mut new = 0;
        for one in racing {
            match one.await.unwrap() {
                Appended::New { sequence, .. } => {
                    assert_eq!(sequence.0, u64::from(round));
                    new += 1;
                }
                Appended::Known { sequence, tracker, .. } => {
                    assert!(sequence.0 == u64::from(round) && tracker.is_some());
                }
                Appended::KeyReused { .. } => panic!("the body is the same"),
            }
        }
        assert_eq!(new, 1);
    }
    // Whoever repeats it elsewhere waits for the answer, and gets it.
    let Appended::Known { tracker: Some(tracker), answer: None, .. } =
        proxies[1].log.append(keyed("/k", b"same", 1)).await.unwrap()
    else {
        panic!("it is open")
    };
    proxies[2].claim(&node(1), 1).await;
    let pending = open_at(&*proxies[2].log, &node(1)).await;
    begin(&*proxies[2].log, &node(1), &pending[0].update).await;
    proxies[2].log.settle(&node(1), &pending[0].update, delivered(1));
    let heard = tracker.wait_for(|reports| reports.iter().find(|report| report.settled)?.answer.clone());
    assert_eq!(tokio::time::timeout(LIMIT, heard).await.unwrap().status, 200);
}

#[tokio::test]
async fn who_lost_the_lease_records_nothing_more() {
    let server = RedisServer::start().await;
    let (a, b) = (Proxy::new(&server), Proxy::new(&server));
    a.log.subscribe(&node(1)).await.unwrap();
    assert!(matches!(a.log.claim(&node(1)).await, Err(LogError::Stale(_))), "there is no lease");
    a.claim(&node(1), 5).await;
    for number in 1..=3 {
        append(&*a.log, update(&format!("/{number}"), b"x")).await;
    }
    let pending = open_at(&*a.log, &node(1)).await;
    for one in &pending {
        begin(&*a.log, &node(1), &one.update).await;
    }
    let claims = a.log.claims();
    b.claim(&node(1), 6).await;
    assert!(a.log.is_claimed(&node(1)), "it has not heard of it");
    a.log.settle(&node(1), &pending[0].update, delivered(1));
    assert!(matches!(a.log.failed(&node(1), Sequence(2), failure(1)).await, Err(LogError::Stale(_))));
    eventually("the lost claim to be seen", LIMIT, async || {
        (!a.log.is_claimed(&node(1)) && claims.has_changed().unwrap()).then_some(())
    })
    .await;
    let dead = Settled::Dead { attempts: 1, status: 0, error: "x".into() };
    a.log.settle(&node(1), &pending[2].update, dead);
    assert!(!a.log.reject(Sequence(2), answer(500, b"")).await);
    assert!(!a.log.begin_attempt(&node(1), Sequence(2)).await);
    assert!(matches!(a.log.claim(&node(1)).await, Err(LogError::Stale(_))), "its token is old");
    a.log.close().await.unwrap();
    let pending = open_at(&*b.log, &node(1)).await;
    assert_eq!(sequences(&pending), [1, 2, 3]);
    // One may have been under way when the other took over.
    assert!(pending.iter().all(|one| one.progress.attempts == 1 && one.progress.first_status == 0));
    assert!(b.log.dead_letters(None).await.unwrap().is_empty());
    // Who ends in order leaves the numbers as they are.
    b.log.release(&node(1)).await.unwrap();
    let c = Proxy::new(&server);
    c.claim(&node(1), 7).await;
    assert_eq!(open_at(&*c.log, &node(1)).await[0].progress.attempts, 1);
}

#[tokio::test]
async fn what_is_shared_reaches_everybody_once() {
    let server = RedisServer::start().await;
    let (a, b) = (Proxy::new(&server), Proxy::new(&server));
    assert_eq!(a.log.shared().borrow().version, 0);
    assert_eq!(a.log.share(0, b"one").await.unwrap(), 1);
    assert!(matches!(b.log.share(0, b"other").await, Err(ShareError::Changed(1))));
    let mut shared = b.log.shared();
    let seen = shared.wait_for(|shared| shared.version == 1);
    assert_eq!(&*tokio::time::timeout(LIMIT, seen).await.unwrap().unwrap().text, b"one");
    b.link.cut();
    assert_eq!(a.log.share(1, b"two").await.unwrap(), 2);
    assert_eq!(&*a.log.shared().borrow().text, b"two");
    b.link.heal();
    let seen = shared.wait_for(|shared| shared.version == 2);
    assert_eq!(&*tokio::time::timeout(LIMIT, seen).await.unwrap().unwrap().text, b"two");
    // Nodes too.
    a.log.subscribe(&node(1)).await.unwrap();
    eventually("the node to be seen", LIMIT, async || (b.log.nodes() == [node(1)]).then_some(())).await;
    a.log.rename(&node(1), &node(2)).await.unwrap();
    eventually("its new name to be seen", LIMIT, async || (b.log.nodes() == [node(2)]).then_some(())).await;
    let late = Proxy::new(&server);
    eventually("what was shared before", LIMIT, async || {
        (late.log.shared().borrow().version == 2).then_some(())
    })
    .await;
}

#[tokio::test]
async fn without_redis_updates_are_refused_at_once_and_all_goes_on_when_it_is_back() {
    let mut server = RedisServer::start().await;
    let a = Proxy::new(&server);
    a.log.subscribe(&node(1)).await.unwrap();
    a.claim(&node(1), 1).await;
    append(&*a.log, update("/1", b"x")).await;
    let pending = open_at(&*a.log, &node(1)).await;
    begin(&*a.log, &node(1), &pending[0].update).await;
    server.process().kill9();
    let mut away = a.log.away();
    tokio::time::timeout(LIMIT, away.wait_for(Option::is_some)).await.unwrap().unwrap();
    // A moment later nobody waits for it to come back.
    eventually("refusals", LIMIT, async || {
        matches!(a.log.append(update("/no", b"x")).await, Err(AppendError::Log(LogError::Away { .. })))
            .then_some(())
    })
    .await;
    let begun = Instant::now();
    for _ in 0..20 {
        let refused = a.log.append(update("/no", b"x")).await;
        assert!(matches!(refused, Err(AppendError::Log(LogError::Away { .. }))));
    }
    assert!(begun.elapsed() < LIMIT, "refused {:?} later", begun.elapsed());
    // What was delivered meanwhile is recorded later; what is in memory can be read.
    assert_eq!(sequences(&open_at(&*a.log, &node(1)).await), [1]);
    assert_eq!((a.log.nodes(), a.log.queue(&node(1)).is_some()), (vec![node(1)], true));
    a.log.settle(&node(1), &pending[0].update, delivered(1));
    assert!(a.log.failed(&node(1), Sequence(1), failure(1)).await.is_err());
    server.restart().await;
    eventually("the log to be back", LIMIT, async || a.log.append(update("/2", b"x")).await.ok().map(drop))
        .await;
    assert_eq!(sequences(&open_at(&*a.log, &node(1)).await), [2], "no refused update is there");
    eventually("the settling to be recorded", LIMIT, async || {
        let status = a.log.status(Sequence(1)).await.ok()??;
        (status.nodes[0].1.state == DeliveryState::Delivered).then_some(())
    })
    .await;
    assert_eq!(a.log.usage().lost, 0);
}

#[tokio::test]
async fn an_update_whose_answer_is_lost_is_there_once_or_never() {
    let server = RedisServer::start().await;
    let a = Proxy::new(&server);
    a.log.subscribe(&node(1)).await.unwrap();
    append(&*a.log, update("/1", b"x")).await;
    // Silence, shorter than the doubt lasts: the same append is answered when the link is back.
    for (round, wait) in [(2u64, 0u64), (3, 800), (4, 100)] {
        let log = a.log.clone();
        if wait > 0 {
            a.link.blackhole();
        }
        let appending = tokio::spawn(async move { log.append(update(&format!("/{round}"), b"x")).await });
        tokio::time::sleep(Duration::from_millis(wait)).await;
        a.link.reset();
        a.link.heal();
        match appending.await.unwrap() {
            Ok(Appended::New { sequence, .. }) => assert_eq!(sequence, Sequence(round)),
            other => panic!("{:?}", other.err()),
        }
    }
    // Longer: it is in doubt. What was held back by the link arrives late, and must not be made then.
    let mut doubtful = Vec::new();
    for round in 5.. {
        assert!(round < 40, "none was in doubt");
        a.link.blackhole();
        let target = format!("/doubt/{round}");
        match a.log.append(update(&target, b"x")).await {
            Err(AppendError::InDoubt { .. }) => doubtful.push(target),
            // It had not been sent when the link was found dead.
            Err(AppendError::Log(LogError::Away { .. })) => {}
            other => panic!("{:?}", other.err()),
        }
        a.link.heal();
        eventually("the log to be back", LIMIT, async || {
            a.log.append(update("/sound", b"x")).await.ok().map(drop)
        })
        .await;
        if doubtful.len() == 3 {
            break;
        }
    }
    let pending = open_at(&*a.log, &node(1)).await;
    for one in &pending {
        let target = &*one.update.target;
        let times = pending.iter().filter(|other| *other.update.target == *target).count();
        if target.starts_with("/doubt") {
            assert!(doubtful.iter().any(|doubtful| doubtful == target), "{target} was known not to be taken");
            assert_eq!(times, 1, "{target}");
        } else if target != "/sound" {
            assert_eq!(times, 1, "{target}");
        }
    }
}

#[tokio::test]
async fn a_redis_that_lost_its_end_is_noticed_and_no_sequence_is_given_twice() {
    let mut server = RedisServer::start().await;
    let (a, b) = (Proxy::new(&server), Proxy::new(&server));
    a.log.subscribe(&node(1)).await.unwrap();
    a.claim(&node(1), 1).await;
    for number in 1..=5 {
        append(&*a.log, update(&format!("/{number}"), b"x")).await;
    }
    let kept = TempDir::new();
    copy(server.folder(), &kept);
    for number in 6..=9 {
        append(&*a.log, update(&format!("/{number}"), b"lost")).await;
    }
    eventually("b to have seen them", LIMIT, async || (b.log.tail().borrow().0 == 10).then_some(())).await;
    // Another server with the same data but for the end.
    server.process().kill9();
    std::fs::remove_dir_all(server.folder().join("appendonlydir")).unwrap();
    copy(&kept, server.folder());
    server.restart().await;
    for log in [&a.log, &b.log] {
        eventually("the loss to be told", LIMIT, async || (log.usage().lost > 0).then_some(())).await;
        assert_eq!(log.usage().lost, 4);
    }
    let (sequence, _) = append(&*b.log, update("/10", b"new")).await;
    assert_eq!(sequence, Sequence(10));
    eventually("the claim to be read anew", LIMIT, async || {
        let pending = a.log.read(&node(1), Sequence::FIRST, 100).await.ok()?;
        (sequences(&pending) == [1, 2, 3, 4, 5, 10]).then_some(())
    })
    .await;
    let pending = open_at(&*a.log, &node(1)).await;
    assert!(pending[0].progress.attempts >= 1, "an attempt may have been lost with the end");
    for one in &pending {
        begin(&*a.log, &node(1), &one.update).await;
        a.log.settle(&node(1), &one.update, delivered(one.progress.attempts + 1));
    }
    eventually("all to be delivered", LIMIT, async || {
        let queue = b.log.queue(&node(1))?;
        (queue.pending == 0 && queue.cursor.low() == Sequence(11)).then_some(())
    })
    .await;
    assert!(a.log.status(Sequence(7)).await.unwrap().is_none());
}

fn copy(from: &std::path::Path, to: &std::path::Path) {
    let copied = std::process::Command::new("cp").arg("-a").arg(from.join("appendonlydir")).arg(to).status();
    assert!(copied.unwrap().success());
}

#[tokio::test]
async fn who_was_away_for_so_long_that_it_was_forgotten_has_lost_nothing() {
    let server = RedisServer::start().await;
    let a = Proxy::new(&server);
    a.log.subscribe(&node(1)).await.unwrap();
    append(&*a.log, update("/1", b"x")).await;
    a.link.cut();
    let sessions: Vec<String> = ask(&server, &["KEYS", "{muster:spawn}:s:*"]).await;
    assert_eq!(sessions.len(), 1);
    let _: u64 = ask(&server, &["DEL", &sessions[0], "{muster:spawn}:sessions"]).await;
    a.link.heal();
    eventually("the log to be back", LIMIT, async || a.log.append(update("/2", b"x")).await.ok().map(drop))
        .await;
    assert_eq!(a.log.usage().lost, 0);
    assert_eq!(sequences(&open_at(&*a.log, &node(1)).await), [1, 2]);
}

#[tokio::test]
async fn a_log_that_vanished_is_not_begun_anew_behind_anybodys_back() {
    let server = RedisServer::start().await;
    let a = Proxy::new(&server);
    a.log.subscribe(&node(1)).await.unwrap();
    append(&*a.log, update("/1", b"x")).await;
    let _: String = ask(&server, &["FLUSHALL"]).await;
    eventually("refusals", LIMIT, async || {
        let refused = a.log.append(update("/2", b"x")).await.err()?.to_string();
        refused.contains("not in this Redis any more").then_some(())
    })
    .await;
    assert_eq!(ask::<u64>(&server, &["DBSIZE"]).await, 0);
}

#[tokio::test]
async fn a_redis_that_may_lose_updates_is_refused_unless_told() {
    let server = RedisServer::start().await;
    for (setting, value, sound) in [
        ("appendfsync", "everysec", "always"),
        ("maxmemory-policy", "allkeys-lru", "noeviction"),
        ("appendonly", "no", "yes"),
    ] {
        let _: String = ask(&server, &["CONFIG", "SET", setting, value]).await;
        let dir = TempDir::new();
        let mut options = RedisLogOptions::new(&server.url(), dir.join("spool")).unwrap();
        let refused = RedisLog::open(options.clone(), Arc::new(Tokens::default())).unwrap_err();
        assert!(matches!(refused, RedisOpenError::Unsafe { .. }) && refused.exit_code() == 78);
        assert!(refused.to_string().contains(&format!("{setting} {value}")), "{refused}");
        options.durability = Durability::Relaxed;
        RedisLog::open(options, Arc::new(Tokens::default())).unwrap();
        let _: String = ask(&server, &["CONFIG", "SET", setting, sound]).await;
    }
    let dir = TempDir::new();
    let nowhere = format!("redis://127.0.0.1:{}", free_port());
    let options = RedisLogOptions::new(&nowhere, dir.join("spool")).unwrap();
    let refused = RedisLog::open(options, Arc::new(Tokens::default())).unwrap_err();
    assert!(matches!(refused, RedisOpenError::Away { .. }) && refused.exit_code() == 1);
    assert!(RedisLogOptions::new("redis://h?stream=a{b", dir.join("spool")).is_err());
}

#[tokio::test]
async fn what_waits_for_a_replica_survives_the_failover() {
    let (master, replica) = (RedisServer::start().await, RedisServer::start().await);
    let port = master.addr().port().to_string();
    let _: String = ask(&replica, &["REPLICAOF", "127.0.0.1", &port]).await;
    let folder = TempDir::new();
    let sentinel_port = free_port().to_string();
    let config = format!(
        "port {sentinel_port}\nbind 127.0.0.1\ndir {}\nsentinel monitor log 127.0.0.1 {port} 1\n\
         sentinel down-after-milliseconds log 500\nsentinel failover-timeout log 3000\n",
        folder.display()
    );
    let path = folder.write("sentinel.conf", config);
    let _sentinel = Program::new("redis-server").arg(path.as_os_str()).arg("--sentinel").start();
    let url = format!("redis://127.0.0.1:{sentinel_port}?sentinel=log&replicas=1&stream=it");
    let (dir, tokens) = (TempDir::new(), Arc::new(Tokens::default()));
    let options = RedisLogOptions::new(&url, dir.join("spool")).unwrap();
    let log = eventually("the log by way of the Sentinel", LIMIT, async || {
        RedisLog::open(options.clone(), tokens.clone()).ok()
    })
    .await;
    log.subscribe(&node(1)).await.unwrap();
    eventually("the replica to have caught up", LIMIT, async || {
        log.append(update("/0", b"x")).await.ok().map(drop)
    })
    .await;
    let before = log.tail().borrow().0;
    for number in before..before + 20 {
        let (sequence, _) = append(&*log, update(&format!("/{number}"), b"x")).await;
        assert_eq!(sequence.0, number);
    }
    let client = redis::Client::open(format!("redis://127.0.0.1:{sentinel_port}")).unwrap();
    eventually("the Sentinel to know the replica", LIMIT, async || {
        let mut sentinel = client.get_multiplexed_async_connection().await.ok()?;
        let mut command = redis::cmd("SENTINEL");
        command.arg("replicas").arg("log");
        let replicas: redis::Value = command.query_async(&mut sentinel).await.ok()?;
        matches!(replicas, redis::Value::Array(ref all) if !all.is_empty()).then_some(())
    })
    .await;
    drop(master);
    // Nobody replicates from the new master: what it has is told as such, and not as safe.
    let told = eventually("the new master to take updates", LIMIT * 2, async || {
        match log.append(update("/after", b"x")).await {
            Err(AppendError::InDoubt { what }) if what.contains("0 of 1 replicas") => Some(what),
            _ => None,
        }
    })
    .await;
    assert!(told.contains("Redis has it"), "{told}");
    assert_eq!(log.usage().lost, 0);
    let pending = open_at(&*log, &node(1)).await;
    assert!(sequences(&pending).starts_with(&(1..before + 20).collect::<Vec<_>>()));
}

#[tokio::test]
async fn a_redis_without_memory_refuses_updates_and_what_was_delivered_is_recorded_later() {
    let server = RedisServer::start().await;
    let a = Proxy::new(&server);
    a.log.subscribe(&node(1)).await.unwrap();
    a.claim(&node(1), 1).await;
    append(&*a.log, keyed("/1", b"x", 1)).await;
    let pending = open_at(&*a.log, &node(1)).await;
    begin(&*a.log, &node(1), &pending[0].update).await;
    let _: String = ask(&server, &["CONFIG", "SET", "maxmemory", "1"]).await;
    eventually("a refusal that says why", LIMIT, async || {
        let refused = a.log.append(keyed("/2", b"x", 2)).await.err()?.to_string();
        refused.contains("maxmemory").then_some(())
    })
    .await;
    a.log.settle(&node(1), &pending[0].update, delivered(1));
    let refused = a.log.append(keyed("/3", b"x", 3)).await;
    assert!(matches!(refused, Err(AppendError::Log(LogError::Away { .. }))));
    let _: String = ask(&server, &["CONFIG", "SET", "maxmemory", "0"]).await;
    eventually("the log to be back", LIMIT, async || a.log.append(update("/4", b"x")).await.ok().map(drop))
        .await;
    let pending = open_at(&*a.log, &node(1)).await;
    let targets: Vec<_> = pending.iter().map(|one| &*one.update.target).collect();
    assert_eq!((targets, pending[0].update.sequence), (vec!["/4"], Sequence(2)));
    eventually("the settling to be recorded", LIMIT, async || {
        let b = a.log.queue(&node(1))?;
        (b.pending == 1
            && a.log.status(Sequence(1)).await.ok()??.nodes[0].1.state == DeliveryState::Delivered)
            .then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_user_with_few_rights_is_enough() {
    let server = RedisServer::start().await;
    let rights = "on >secret ~{muster:it}:* &{muster:it}:news -@all +@read +@write +@scripting +@transaction +@pubsub \
                  +time +info +wait +config|get +hello +auth +select +ping";
    let words: Vec<&str> = ["ACL", "SETUSER", "log"].into_iter().chain(rights.split_whitespace()).collect();
    let _: String = ask(&server, &words).await;
    let dir = TempDir::new();
    let secret = dir.write("secret", "secret\n");
    let url = format!("redis://log@{}?stream=it&password-file={}", server.addr(), secret.display());
    let options = RedisLogOptions::new(&url, dir.join("spool")).unwrap();
    assert!(!format!("{options:?}").contains("secret\""));
    let tokens = Arc::new(Tokens::default());
    let log = RedisLog::open(options, tokens.clone()).unwrap();
    log.subscribe(&node(1)).await.unwrap();
    tokens.set(&node(1), Some(1));
    log.claim(&node(1)).await.unwrap();
    append(&*log, keyed("/1", b"x", 1)).await;
    let mut spool = log.spool().await.unwrap();
    spool.write(vec![7; 200_000].into()).await.unwrap();
    let body = UpdateBody::Spooled(spool.finish().await.unwrap());
    append(&*log, NewUpdate { body, ..update("/2", b"") }).await;
    for one in open_at(&*log, &node(1)).await {
        begin(&*log, &node(1), &one.update).await;
        log.settle(&node(1), &one.update, delivered(1));
    }
    eventually("all to be recorded", LIMIT, async || (log.queue(&node(1))?.pending == 0).then_some(())).await;
    log.share(0, b"text").await.unwrap();
    log.close().await.unwrap();
}

#[tokio::test]
async fn all_keys_are_in_one_slot_of_a_cluster() {
    let (folder, port) = (TempDir::new(), free_port().to_string());
    let _server = Program::new("redis-server")
        .args(["--bind", "127.0.0.1", "--port", &port, "--cluster-enabled", "yes", "--save", ""])
        .args(["--appendonly", "yes", "--appendfsync", "always", "--cluster-port", &free_port().to_string()])
        .arg("--dir")
        .arg(folder.as_os_str())
        .start();
    let url = format!("redis://127.0.0.1:{port}");
    let client = redis::Client::open(url.as_str()).unwrap();
    let mut connection = eventually("the cluster", LIMIT, async || {
        let mut connection = client.get_multiplexed_async_connection().await.ok()?;
        let mut command = redis::cmd("CLUSTER");
        command.arg("ADDSLOTSRANGE").arg(0).arg(16383);
        let _ = command.query_async::<String>(&mut connection).await;
        let mut command = redis::cmd("CLUSTER");
        let info: String = command.arg("INFO").query_async(&mut connection).await.ok()?;
        info.contains("cluster_state:ok").then_some(connection)
    })
    .await;
    let tokens = Arc::new(Tokens::default());
    let options = RedisLogOptions::new(&format!("{url}?stream=it"), folder.join("spool")).unwrap();
    let log = RedisLog::open(options, tokens.clone()).unwrap();
    log.subscribe(&node(1)).await.unwrap();
    tokens.set(&node(1), Some(1));
    log.claim(&node(1)).await.unwrap();
    append(&*log, keyed("/1", b"x", 1)).await;
    append(&*log, update("/2", b"x")).await;
    let pending = open_at(&*log, &node(1)).await;
    log.settle(&node(1), &pending[0].update, delivered(1));
    let dead = Settled::Dead { attempts: 1, status: 500, error: "x".into() };
    log.settle(&node(1), &pending[1].update, dead);
    eventually("all to be recorded", LIMIT, async || (log.queue(&node(1))?.pending == 0).then_some(())).await;
    assert_eq!(log.dead_letters(None).await.unwrap().len(), 1);
    let keys: Vec<String> =
        redis::cmd("KEYS").arg("*").query_async(&mut connection).await.unwrap_or_default();
    assert!(keys.iter().all(|key| key.starts_with("{muster:it}:")), "{keys:?}");
}
