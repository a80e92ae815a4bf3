//! The ZooKeeper driver against real servers.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod zoo;

use std::time::Duration;

use reception::Error;
use reception::backend::{Renewal, Standing};
use supervise::Boottime;
use testkit::{FaultLink, ZooKeeperServer, eventually};
use zookeeper_client::{Acls, CreateMode};

use zoo::{FAST, LIMIT, dial, ids, list, name, options, put_raw, raw, service, settle};

#[tokio::test(flavor = "multi_thread")]
async fn records_are_those_of_the_original() {
    let server = ZooKeeperServer::with_tick(FAST).await;
    let backend = dial(&format!("{}/apps/prod", server.url()));
    assert!(list(&backend).await.is_empty(), "a name that nobody registered");
    let raw = raw(&server).await;
    let own = service("new").with_attributes([("k".to_owned(), "v".to_owned())].into()).unwrap();
    let mut presence = backend.register(&own);
    let tenure = presence.enter().await.unwrap();

    let nodes = raw.list_children("/apps/prod/web").await.unwrap();
    assert_eq!(nodes.len(), 1, "{nodes:?}");
    let (guid, rest) = nodes[0].strip_prefix("_c_").unwrap().split_at(32);
    assert!(guid.bytes().all(|byte| byte.is_ascii_hexdigit()), "{nodes:?}");
    assert_eq!(rest, "-new-0000000000");
    let path = format!("/apps/prod/web/{}", nodes[0]);
    let (value, stat) = raw.get_data(&path).await.unwrap();
    assert_eq!(String::from_utf8_lossy(&value), r#"{"address":"10.0.0.1","port":80,"attributes":{"k":"v"}}"#);
    assert_ne!(stat.ephemeral_owner, 0);
    assert_eq!(stat.czxid.unsigned_abs(), tenure.created);
    let (acl, _) = raw.get_acl(&path).await.unwrap();
    assert_eq!((acl[0].scheme(), acl[0].id()), ("world", "anyone"));
    assert_eq!(raw.check_stat("/apps/prod/web").await.unwrap().unwrap().ephemeral_owner, 0);

    // The original's own, and what is no record.
    put_raw(&raw, "/apps/prod/web", "old", r#"{"address":"h","port":1000,"attributes":null}"#).await;
    put_raw(&raw, "/apps/prod/web", "odd", "no JSON").await;
    let other = CreateMode::Ephemeral.with_acls(Acls::anyone_all());
    raw.create("/apps/prod/web/lock", b"{}", &other).await.unwrap();
    let directory = CreateMode::Persistent.with_acls(Acls::anyone_all());
    raw.create("/apps/prod/empty", b"", &directory).await.unwrap();

    let listed = list(&backend).await;
    assert_eq!(ids(&listed), ["new", "old"]);
    assert_eq!(listed[0].service, own);
    assert_eq!((listed[1].service.address.as_str(), listed[1].service.port), ("h", 1000));
    assert!(listed[0].created < listed[1].created);
    assert_eq!(backend.names().await.unwrap().names, [name()]);
    let leader = backend.leader(&name()).await.unwrap().unwrap();
    assert_eq!((leader.service.id.as_str(), leader.token), ("new", tenure.created));

    presence.leave().await.unwrap();
    presence.leave().await.unwrap();
    assert_eq!(ids(&list(&backend).await), ["old"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_watch_sees_every_change_once_the_name_is_there() {
    let server = ZooKeeperServer::with_tick(FAST).await;
    let backend = dial(&server.url());
    let mut lists = backend.watch(&name());
    let mut names = backend.watch_names();
    assert!(lists.next().await.unwrap().instances.is_empty());
    assert!(names.next().await.unwrap().names.is_empty());

    let mut presence = backend.register(&service("a"));
    presence.enter().await.unwrap();
    let first = settle(&mut *lists, |list| ids(&list.instances) == ["a"]).await;
    settle(&mut *names, |names| names.names == [name()]).await;

    // Somebody else may write to a record; its owner does not.
    let raw = raw(&server).await;
    let node = raw.list_children("/web").await.unwrap().remove(0);
    raw.set_data(&format!("/web/{node}"), br#"{"address":"moved","port":1}"#, None).await.unwrap();
    let second = settle(&mut *lists, |list| list.instances[0].service.address == "moved").await;
    assert_ne!(first.index, second.index);

    // A wait that is given up loses nothing.
    assert!(tokio::time::timeout(Duration::from_millis(20), lists.next()).await.is_err());
    presence.leave().await.unwrap();
    let early = tokio::time::timeout(Duration::from_nanos(1), lists.next()).await;
    if !early.is_ok_and(|list| list.unwrap().instances.is_empty()) {
        settle(&mut *lists, |list| list.instances.is_empty()).await;
    }
    settle(&mut *names, |names| names.names.is_empty()).await;

    // Also when the name's own node was taken away meanwhile.
    raw.delete("/web", None).await.unwrap();
    presence.enter().await.unwrap();
    settle(&mut *lists, |list| ids(&list.instances) == ["a"]).await;
    settle(&mut *names, |names| names.names == [name()]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_costs_the_same_however_long_the_list_is() {
    let server = ZooKeeperServer::with_tick(Duration::from_secs(2)).await;
    let backend = dial(&server.url());
    let raw = raw(&server).await;
    let value = r#"{"address":"h","port":1,"attributes":{}}"#;
    let mut lists = backend.watch(&name());
    let mut costs = Vec::new();
    for filler in [0, 200] {
        for number in 0..filler {
            put_raw(&raw, "/web", &format!("filler-{number}"), value).await;
        }
        let before = list(&backend).await.len();
        settle(&mut *lists, |list| list.instances.len() == before).await;
        let start = server.requests().await;
        for number in 1..=10 {
            put_raw(&raw, "/web", &format!("{filler}-{number}"), value).await;
            settle(&mut *lists, |list| list.instances.len() == before + number).await;
        }
        costs.push(server.requests().await - start);
    }
    // One to put it; sync, children and the new one's value for the watch; and pings.
    assert!(costs[0] < 80 && costs[1] < 80, "{costs:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_record_outlives_a_restart_of_the_server_and_watches_go_on() {
    let mut server = ZooKeeperServer::with_tick(Duration::from_secs(2)).await;
    let mut options = options();
    (options.ttl, options.timeout) = (Duration::from_secs(30), Duration::from_secs(20));
    let backend = reception::backend::zookeeper::dial(&server.url(), &options).unwrap();
    let mut presence = backend.register(&service("a"));
    let tenure = presence.enter().await.unwrap();
    let mut lists = backend.watch(&name());
    settle(&mut *lists, |list| list.instances.len() == 1).await;
    server.process().kill9();
    eventually("an error", LIMIT, async || presence.renew().await.err()).await;
    eventually("the watch to notice", LIMIT, async || lists.next().await.err()).await;
    // As long again as the outage, and more, is what the client would wait by itself.
    tokio::time::sleep(Duration::from_secs(7)).await;
    server.restart().await;
    let soon = Duration::from_secs(4);
    let kept = eventually("a renewal", soon, async || presence.renew().await.ok()).await;
    assert!(matches!(kept, Renewal::Kept(until) if until > tenure.until), "{kept:?}");
    assert_eq!(list(&backend).await[0].created, tenure.created);

    let raw = raw(&server).await;
    let value = r#"{"address":"h","port":1}"#;
    put_raw(&raw, "/web", "b", value).await;
    eventually("the watch to go on", LIMIT, async || {
        (ids(&lists.next().await.ok()?.instances) == ["a", "b"]).then_some(())
    })
    .await;
    // The last change may have been seen by the reading after the restart. This one is seen by the watch alone.
    put_raw(&raw, "/web", "c", value).await;
    settle(&mut *lists, |list| ids(&list.instances) == ["a", "b", "c"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_lost_its_data_gets_the_record_anew() {
    let mut server = ZooKeeperServer::with_tick(FAST).await;
    let backend = dial(&server.url());
    let mut presence = backend.register(&service("a"));
    presence.enter().await.unwrap();
    let mut lists = backend.watch(&name());
    settle(&mut *lists, |list| list.instances.len() == 1).await;
    // It refuses whoever saw more than it knows, until the session is given up.
    server.restart_empty().await;
    let lost = eventually("the loss to be told", LIMIT, async || presence.renew().await.ok()).await;
    assert!(matches!(lost, Renewal::Lost(_)), "{lost:?}");
    let tenure = presence.enter().await.unwrap();
    eventually("the watch to see it", LIMIT, async || {
        let list = lists.next().await.ok()?;
        (list.instances.first()?.created == tenure.created).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cut_longer_than_the_session_ends_the_record_and_it_is_made_anew() {
    let server = ZooKeeperServer::with_tick(FAST).await;
    let link = FaultLink::to(server.addr());
    let ours = dial(&format!("zk://{}", link.addr()));
    let theirs = dial(&server.url());
    let mut presence = ours.register(&service("a"));
    let before = presence.enter().await.unwrap();
    let mut seen = ours.watch(&name());
    settle(&mut *seen, |list| list.instances.len() == 1).await;

    link.blackhole();
    let error = presence.renew().await.unwrap_err();
    assert!(matches!(error, Error::Silent { .. } | Error::Disconnected { .. }), "{error}");
    eventually("the session to expire", LIMIT, async || list(&theirs).await.is_empty().then_some(())).await;
    assert!(Boottime::now() > before.until, "it was promised to stand until then");
    eventually("the watch to notice", LIMIT, async || seen.next().await.err()).await;

    link.heal();
    let lost = eventually("the loss to be told", LIMIT, async || presence.renew().await.ok()).await;
    assert!(matches!(lost, Renewal::Lost(_)), "{lost:?}");
    let after = presence.enter().await.unwrap();
    assert!(after.created > before.created);
    let listed = list(&theirs).await;
    assert_eq!((listed.len(), listed[0].created), (1, after.created));
    eventually("the watch to see it", LIMIT, async || {
        let list = seen.next().await.ok()?;
        (list.instances.first()?.created == after.created).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_instance_whose_session_was_given_up_is_never_missed() {
    let mut server = ZooKeeperServer::with_tick(FAST).await;
    let link = FaultLink::to(server.addr());
    let backend = dial(&format!("zk://{}", link.addr()));
    let mut presence = backend.register(&service("a"));
    let before = presence.enter().await.unwrap();
    // So long that the client gives the session up; a server counts its time anew when it starts.
    server.process().kill9();
    tokio::time::sleep(Duration::from_millis(2500)).await;
    server.restart().await;
    let theirs = dial(&server.url());
    let mut lists = theirs.watch(&name());
    let (ready, mut is_ready) = tokio::sync::watch::channel(false);
    let watching = async {
        loop {
            let list = lists.next().await.unwrap();
            ready.send_replace(true);
            assert_eq!(ids(&list.instances), ["a"], "it was missed");
            if list.instances[0].created > before.created {
                return;
            }
        }
    };
    let entering = async {
        is_ready.wait_for(|ready| *ready).await.unwrap();
        let lost = eventually("the loss to be told", LIMIT, async || presence.renew().await.ok()).await;
        assert!(matches!(lost, Renewal::Lost(_)), "{lost:?}");
        // Slow enough that each of its steps is seen.
        link.delay(Duration::from_millis(30));
        presence.enter().await.unwrap();
    };
    tokio::join!(watching, entering);
    assert_eq!(raw(&server).await.list_children("/web").await.unwrap().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_entry_without_an_answer_is_found_again_and_not_doubled() {
    let server = ZooKeeperServer::with_tick(Duration::from_secs(2)).await;
    let link = FaultLink::to(server.addr());
    let ours = dial(&format!("zk://{}", link.addr()));
    let raw = raw(&server).await;
    list(&ours).await;
    for round in 1..=5 {
        let mut presence = ours.register(&service(&format!("r{round}")));
        // The request is on its way, but its sender does not wait for the answer.
        link.delay(Duration::from_millis(60));
        let given_up = tokio::time::timeout(Duration::from_millis(40), presence.enter()).await;
        assert!(given_up.is_err());
        link.heal();
        if round % 2 == 0 {
            link.reset();
        }
        eventually("the entry", LIMIT, async || presence.enter().await.ok()).await;
        let nodes = raw.list_children("/web").await.unwrap();
        assert_eq!(nodes.len(), 1, "{nodes:?}");
        presence.leave().await.unwrap();
        assert!(raw.list_children("/web").await.unwrap().is_empty());
    }
    // Given up and never entered again: leaving takes it away.
    let mut presence = ours.register(&service("x"));
    link.delay(Duration::from_millis(60));
    assert!(tokio::time::timeout(Duration::from_millis(40), presence.enter()).await.is_err());
    presence.leave().await.unwrap();
    assert!(raw.list_children("/web").await.unwrap().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_record_that_somebody_deletes_alarms_its_owner() {
    let server = ZooKeeperServer::with_tick(FAST).await;
    let backend = dial(&server.url());
    let raw = raw(&server).await;
    let mut presence = backend.register(&service("a"));
    for _ in 0..2 {
        let tenure = presence.enter().await.unwrap();
        assert!(matches!(presence.renew().await.unwrap(), Renewal::Kept(until) if until >= tenure.until));
        assert!(tokio::time::timeout(Duration::from_millis(50), presence.alarm()).await.is_err());
        let node = raw.list_children("/web").await.unwrap().remove(0);
        raw.delete(&format!("/web/{node}"), None).await.unwrap();
        tokio::time::timeout(LIMIT, presence.alarm()).await.expect("the alarm");
        assert!(matches!(presence.renew().await.unwrap(), Renewal::Lost(_)));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dropped_record_ends_but_not_before_the_instant_that_its_owner_was_told() {
    let server = ZooKeeperServer::with_tick(FAST).await;
    let ours = dial(&server.url());
    let mut presence = ours.register(&service("a"));
    let tenure = presence.enter().await.unwrap();
    drop(presence);
    eventually("the record to end", LIMIT, async || list(&ours).await.is_empty().then_some(())).await;
    assert!(Boottime::now() >= tenure.until);

    // Where no runtime is left to do it, the server's clock ends it.
    let theirs = dial(&server.url());
    let url = server.url();
    let elsewhere = std::thread::spawn(move || {
        let runtime = tokio::runtime::Runtime::new().unwrap();
        let ours = dial(&url);
        let mut presence = ours.register(&service("b"));
        let tenure = runtime.block_on(presence.enter()).unwrap();
        drop((presence, ours));
        (runtime, tenure)
    });
    let (runtime, tenure) = elsewhere.join().unwrap();
    eventually("the record to end", LIMIT, async || list(&theirs).await.is_empty().then_some(())).await;
    assert!(Boottime::now() >= tenure.until);
    runtime.shutdown_background();
}

#[tokio::test(flavor = "multi_thread")]
async fn one_id_in_two_processes_is_listed_once_and_its_oldest_leads() {
    let server = ZooKeeperServer::with_tick(FAST).await;
    let (one, two) = (dial(&server.url()), dial(&server.url()));
    let (mut first, mut second) = (one.candidate(&service("a")), two.candidate(&service("a")));
    let (old, new) = (first.enter().await.unwrap(), second.enter().await.unwrap());
    let listed = list(&one).await;
    assert_eq!((listed.len(), listed[0].created), (1, new.created));
    assert_eq!(two.leader(&name()).await.unwrap().unwrap().token, old.created);
    assert_eq!(second.standing().await.unwrap(), Standing::Waits);
    assert_eq!(first.standing().await.unwrap(), Standing::Leads(old.created));
    assert!(matches!(first.renew().await.unwrap(), Renewal::Kept(until) if until > old.until));
    first.leave().await.unwrap();
    assert_eq!(second.standing().await.unwrap(), Standing::Leads(new.created));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dead_server_among_others_and_a_dead_one_alone() {
    let server = ZooKeeperServer::with_tick(FAST).await;
    let dead = testkit::free_port();
    for order in
        [format!("127.0.0.1:{dead},{}", server.addr()), format!("{},127.0.0.1:{dead}", server.addr())]
    {
        let backend = dial(&format!("zk://{order}"));
        assert!(list(&backend).await.is_empty());
    }
    let backend = dial(&format!("zk://127.0.0.1:{dead}"));
    let error = backend.list(&name(), reception::Scope::Passing).await.unwrap_err();
    assert!(matches!(&error, Error::Disconnected { .. }), "{error}");
    assert!(error.to_string().contains(&dead.to_string()), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_ensemble_keeps_records_and_watches_when_any_one_server_dies() {
    let mut servers = ZooKeeperServer::ensemble(Duration::from_millis(500)).await;
    let all: Vec<_> = servers.iter().map(|server| server.addr().to_string()).collect();
    let mut options = options();
    (options.ttl, options.timeout) = (Duration::from_secs(10), Duration::from_secs(8));
    let url = format!("zk://{}/p", all.join(","));
    let backend = reception::backend::zookeeper::dial(&url, &options).unwrap();
    let mut candidate = backend.candidate(&service("a"));
    let tenure = candidate.enter().await.unwrap();
    let mut lists = backend.watch(&name());
    settle(&mut *lists, |list| list.instances.len() == 1).await;
    for (round, server) in servers.iter_mut().enumerate() {
        server.process().kill9();
        let kept = eventually("a renewal", LIMIT, async || candidate.renew().await.ok()).await;
        assert!(matches!(kept, Renewal::Kept(_)), "{kept:?}");
        let mut other = backend.register(&service(&format!("o{round}")));
        eventually("an entry", LIMIT, async || other.enter().await.ok()).await;
        eventually("both to be seen", LIMIT, async || {
            (lists.next().await.ok()?.instances.len() == 2).then_some(())
        })
        .await;
        eventually("the exit", LIMIT, async || other.leave().await.ok()).await;
        server.restart().await;
    }
    let listed = list(&backend).await;
    assert_eq!((listed.len(), listed[0].created), (1, tenure.created));
}

#[tokio::test(flavor = "multi_thread")]
async fn one_server_without_the_others_renews_no_candidate() {
    let mut servers = ZooKeeperServer::ensemble(Duration::from_millis(500)).await;
    let mut leads = None;
    for (number, server) in servers.iter().enumerate() {
        let mode = server.four_letters("srvr").await.unwrap();
        leads = if mode.contains("Mode: leader") { Some(number) } else { leads };
    }
    let leads = leads.expect("one of three leads");
    let mut options = options();
    (options.ttl, options.timeout) = (Duration::from_secs(20), Duration::from_secs(1));
    let backend = reception::backend::zookeeper::dial(&servers[leads].url(), &options).unwrap();
    let mut candidate = backend.candidate(&service("a"));
    candidate.enter().await.unwrap();
    assert!(matches!(candidate.renew().await.unwrap(), Renewal::Kept(_)));
    // It does not know yet that it leads nobody, and answers `sync` and reads.
    for (number, server) in servers.iter_mut().enumerate() {
        if number != leads {
            server.process().sigstop();
        }
    }
    let error = candidate.renew().await.unwrap_err();
    assert!(matches!(error, Error::Silent { .. } | Error::Disconnected { .. }), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_server_forbids_is_refused_for_good() {
    let server = ZooKeeperServer::with_tick(FAST).await;
    let readable = CreateMode::Persistent.with_acls(Acls::anyone_read());
    raw(&server).await.create("/web", b"", &readable).await.unwrap();
    let backend = dial(&server.url());
    let error = backend.register(&service("a")).enter().await.unwrap_err();
    assert!(error.is_permanent(), "{error}");
    assert!(list(&backend).await.is_empty());
}
