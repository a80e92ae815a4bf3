//! Who leads.

use std::time::Duration;

use consul_client::Query;
use reception::backend::{Candidacy, Renewal, Standing, Turn, consul};
use reception::{ConsulOptions, Error, Options, Scope};
use serde_json::json;
use supervise::Boottime;
use testkit::{ConsulServer, TempDir, eventually, http};
use tokio::time::timeout;

use crate::{LIMIT, TOLD, client, dial, ids, named, term, ttl, web};

/// Asks and waits until it leads.
async fn leads(candidate: &mut dyn Candidacy, within: Duration) -> u64 {
    let leads = timeout(within, async {
        loop {
            if let Standing::Leads(token) = candidate.standing().await.unwrap() {
                return token;
            }
            assert_eq!(candidate.turned().await.unwrap(), Turn::Moved);
        }
    });
    leads.await.expect("it leads")
}

#[tokio::test]
async fn a_leader_that_goes_is_followed_at_once_and_tokens_grow() {
    let server = ConsulServer::start().await;
    let consul = ConsulOptions { lock_delay: Duration::from_secs(60), ..ConsulOptions::default() };
    let options = Options { consul, ..ttl(60) };
    let backend = consul::dial(&format!("{}/team", server.url()), &options).unwrap();
    let (mut a, mut b) = (backend.candidate(&web("a")), backend.candidate(&web("b")));
    let sent = Boottime::now();
    let until = a.enter().await.unwrap().until;
    assert!(until >= sent + Duration::from_secs(60) && until <= Boottime::now() + Duration::from_secs(60));
    b.enter().await.unwrap();
    assert_eq!(backend.leader(&named("web")).await.unwrap(), None);
    let first = leads(&mut *a, TOLD).await;
    assert_eq!(a.standing().await.unwrap(), Standing::Leads(first));
    assert_eq!(b.standing().await.unwrap(), Standing::Waits);
    let kept = timeout(Duration::from_millis(300), a.alarm()).await;
    assert!(kept.is_err(), "nothing happened to the leader");
    assert!(matches!(a.renew().await.unwrap(), Renewal::Kept(_)));
    let leader = backend.leader(&named("web")).await.unwrap().unwrap();
    assert_eq!((leader.service, leader.token), (web("a"), first));
    let entry =
        client(&server).kv_get("team/service/web/leader", Query::consistent()).await.unwrap().value.unwrap();
    assert_eq!(entry.modify_index, first);
    assert_eq!(
        String::from_utf8(entry.value).unwrap(),
        r#"{"id":"a","address":"10.0.0.7","port":80,"attributes":{"k":"v"}}"#
    );
    assert!(ids(&*backend, Scope::All).await.is_empty(), "a candidate is no instance");
    a.leave().await.unwrap();
    // Far earlier than the lock delay: it was given back.
    let second = leads(&mut *b, TOLD).await;
    assert!(second > first);
    // A comes back behind it; its late words change nothing.
    a.enter().await.unwrap();
    assert_eq!(a.standing().await.unwrap(), Standing::Waits);
    a.leave().await.unwrap();
    assert_eq!(b.standing().await.unwrap(), Standing::Leads(second));
    b.leave().await.unwrap();
    b.leave().await.unwrap();
    assert_eq!(backend.leader(&named("web")).await.unwrap(), None);
    assert!(
        http::get(server.addr(), "/v1/session/list").await.json().as_array().unwrap().is_empty(),
        "no session is left"
    );
}

#[tokio::test]
async fn a_session_that_ends_by_force_ends_the_term_and_the_next_waits_for_the_lock_delay() {
    let server = ConsulServer::start().await;
    let delay = Duration::from_secs(3);
    let consul = ConsulOptions { lock_delay: delay, ..ConsulOptions::default() };
    let backend = dial(&server, &Options { consul, ..ttl(60) });
    let (mut a, mut b) = (backend.candidate(&web("a")), backend.candidate(&web("b")));
    a.enter().await.unwrap();
    b.enter().await.unwrap();
    let first = leads(&mut *a, TOLD).await;
    assert_eq!(b.standing().await.unwrap(), Standing::Waits);
    let agent = client(&server);
    let session = agent
        .kv_get("service/web/leader", Query::consistent())
        .await
        .unwrap()
        .value
        .unwrap()
        .session
        .unwrap();
    let ended = Boottime::now();
    agent.destroy_session(&session).await.unwrap();
    timeout(TOLD, a.alarm()).await.expect("the loss of the lock is told");
    assert!(matches!(a.renew().await.unwrap(), Renewal::Lost(why) if why.contains("ended")));
    let second = leads(&mut *b, LIMIT).await;
    let waited = Boottime::now().since(ended);
    assert!(waited >= delay - Duration::from_millis(500), "{waited:?}");
    assert!(second > first);
    // The lock alone is taken away, as an operator may; the session stands.
    let session = agent
        .kv_get("service/web/leader", Query::consistent())
        .await
        .unwrap()
        .value
        .unwrap()
        .session
        .unwrap();
    assert!(
        agent.kv_put("service/web/leader", "{}", consul_client::kv::Put::Release(&session)).await.unwrap()
    );
    timeout(TOLD, b.alarm()).await.expect("the loss of the lock is told");
    assert!(matches!(b.renew().await.unwrap(), Renewal::Lost(why) if why.contains("taken away")));
    b.enter().await.unwrap();
    assert!(leads(&mut *b, LIMIT).await > second);
}

#[tokio::test]
async fn a_leader_that_is_cut_off_has_ended_before_the_next_begins_and_comes_back_behind_it() {
    let server = ConsulServer::start().await;
    // Twice the TTL, the lock delay, and room for a busy machine.
    term::cut_off_and_healed(server.addr(), "consul", ttl(10), Duration::from_secs(60)).await;
}

#[tokio::test]
async fn a_token_with_the_rights_of_the_docs_can_do_all() {
    let acl = "acl { enabled = true default_policy = \"deny\" \
               tokens { master = \"the-test-s-master\" agent = \"the-test-s-master\" } }";
    let server = ConsulServer::with(acl).await;
    let master = |method: &str, target: &str, body: serde_json::Value| {
        http::ask(method, target).header("X-Consul-Token", "the-test-s-master").body(body.to_string())
    };
    let rules = r#"
        service_prefix "" { policy = "write" }
        node_prefix "" { policy = "read" }
        session_prefix "" { policy = "write" }
        key_prefix "service/" { policy = "write" }
    "#;
    let policy = json!({ "Name": "reception", "Rules": rules });
    eventually("the server to take a policy", LIMIT, async || {
        let put = master("PUT", "/v1/acl/policy", policy.clone()).of(server.addr()).await;
        (put.status == 200).then_some(())
    })
    .await;
    let by_policy = json!({ "Policies": [{ "Name": "reception" }] });
    let token = master("PUT", "/v1/acl/token", by_policy).of(server.addr()).await.json()["SecretID"].clone();
    let folder = TempDir::new();
    let file = folder.write("token", token.as_str().unwrap());
    let url = format!("{}?token-file={}", server.url(), file.display());
    let backend = consul::dial(&url, &ttl(60)).unwrap();
    assert_eq!(backend.address(), server.url());
    let (mut record, mut candidate) = (backend.register(&web("a")), backend.candidate(&web("a")));
    eventually("the node to be there", LIMIT, async || record.enter().await.ok()).await;
    assert!(matches!(record.renew().await.unwrap(), Renewal::Kept(_)));
    assert_eq!(ids(&*backend, Scope::Passing).await, ["a"]);
    assert_eq!(backend.names().await.unwrap().names, [named("web")]);
    candidate.enter().await.unwrap();
    leads(&mut *candidate, TOLD).await;
    assert!(matches!(candidate.renew().await.unwrap(), Renewal::Kept(_)));
    assert!(backend.leader(&named("web")).await.unwrap().is_some());
    candidate.leave().await.unwrap();
    record.leave().await.unwrap();
    let error = dial(&server, &ttl(60)).register(&web("b")).enter().await.unwrap_err();
    assert!(matches!(&error, Error::Refused { what, .. } if what.contains("ACL token")), "{error}");
}
