//! ZooKeeper servers that Exhibitor tells.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod zoo;

use std::sync::Arc;

use reception::backend::{Backend, Renewal};
use reception::{Error, Scope};
use testkit::{Exhibitor, FaultLink, ZooKeeperServer, eventually};

use zoo::{FAST, LIMIT, dial, ids, list, name, raw, service, settle};

async fn refusal(backend: &Arc<dyn Backend>) -> Error {
    backend.list(&name(), Scope::Passing).await.unwrap_err()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_servers_are_those_that_it_names() {
    let server = ZooKeeperServer::with_tick(FAST).await;
    let exhibitor = Exhibitor::start(&["127.0.0.1"], server.addr().port());
    let backend = dial(&format!("{}?path=/a/b", exhibitor.url()));
    let mut presence = backend.register(&service("x"));
    presence.enter().await.unwrap();
    assert_eq!(ids(&list(&backend).await), ["x"]);
    assert_eq!(raw(&server).await.list_children("/a/b/web").await.unwrap().len(), 1);
    assert_eq!(exhibitor.asked(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_list_is_told_and_asked_for_again() {
    let server = ZooKeeperServer::with_tick(FAST).await;
    let exhibitor = Exhibitor::start(&[], server.addr().port());
    let backend = dial(&exhibitor.url());
    let error = refusal(&backend).await;
    assert!(matches!(&error, Error::NoServers { .. }), "{error}");
    let port = server.addr().port();
    for (status, body) in [
        (500, "Internal".to_owned()),
        (200, "<html>".to_owned()),
        (200, "{}".to_owned()),
        (200, format!(r#"{{"servers":["a/b"],"port":{port}}}"#)),
        (200, r#"{"servers":["127.0.0.1"],"port":0}"#.to_owned()),
        (404, format!(r#"{{"servers":["127.0.0.1"],"port":{port}}}"#)),
    ] {
        exhibitor.say(status, &body);
        let error = refusal(&backend).await;
        assert!(matches!(&error, Error::BadResponse { .. }), "{status} {body}: {error}");
    }
    exhibitor.name(&["127.0.0.1"], testkit::free_port());
    let error = refusal(&backend).await;
    assert!(matches!(&error, Error::Disconnected { .. }), "{error}");

    exhibitor.name(&["127.0.0.1"], port);
    assert!(list(&backend).await.is_empty());

    let nobody = dial(&format!("exhibitor://127.0.0.1:{}/list", testkit::free_port()));
    let error = refusal(&nobody).await;
    assert!(matches!(&error, Error::Disconnected { .. }), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn when_a_server_goes_away_the_session_moves_to_one_that_is_named_now() {
    let server = ZooKeeperServer::with_tick(FAST).await;
    let (old, new) = (FaultLink::to(server.addr()), FaultLink::to(server.addr()));
    let exhibitor = Exhibitor::start(&["127.0.0.1"], old.addr().port());
    let options = reception::Options { ttl: LIMIT, ..zoo::options() };
    let backend = reception::backend::zookeeper::dial(&exhibitor.url(), &options).unwrap();
    let mut presence = backend.register(&service("x"));
    let tenure = presence.enter().await.unwrap();
    let mut lists = backend.watch(&name());
    settle(&mut *lists, |list| list.instances.len() == 1).await;

    exhibitor.name(&["127.0.0.1"], new.addr().port());
    old.cut();
    let kept = eventually("a renewal", LIMIT, async || presence.renew().await.ok()).await;
    assert!(matches!(kept, Renewal::Kept(until) if until > tenure.until), "{kept:?}");
    assert_eq!(list(&backend).await[0].created, tenure.created, "the same session");

    // Watches go on, and so does the alarm of the record.
    let raw = raw(&server).await;
    zoo::put_raw(&raw, "/web", "y", r#"{"address":"h","port":1}"#).await;
    eventually("the watch to go on", LIMIT, async || {
        let list = lists.next().await.ok()?;
        (ids(&list.instances) == ["x", "y"]).then_some(())
    })
    .await;
    let node =
        raw.list_children("/web").await.unwrap().into_iter().find(|node| node.contains("-x-")).unwrap();
    raw.delete(&format!("/web/{node}"), None).await.unwrap();
    eventually("the loss to be told", LIMIT, async || {
        tokio::time::timeout(LIMIT, presence.alarm()).await.ok()?;
        matches!(presence.renew().await.ok()?, Renewal::Lost(_)).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn servers_that_it_named_before_do_when_it_fails() {
    let server = ZooKeeperServer::with_tick(FAST).await;
    let link = FaultLink::to(server.addr());
    let exhibitor = Exhibitor::start(&["127.0.0.1"], link.addr().port());
    let backend = dial(&exhibitor.url());
    let mut presence = backend.register(&service("x"));
    presence.enter().await.unwrap();
    exhibitor.say(503, "");
    link.cut();
    // Longer than the session: a new one has to be made.
    let theirs = dial(&server.url());
    eventually("the session to expire", LIMIT, async || list(&theirs).await.is_empty().then_some(())).await;
    eventually("Exhibitor's error", LIMIT, async || {
        matches!(backend.list(&name(), Scope::Passing).await, Err(Error::BadResponse { .. })).then_some(())
    })
    .await;
    link.heal();
    eventually("a new entry", LIMIT, async || presence.enter().await.ok()).await;
    assert_eq!(ids(&list(&theirs).await), ["x"]);
}
