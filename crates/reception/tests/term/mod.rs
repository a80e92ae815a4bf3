//! What has to be true of every leader that loses its store.

use std::net::SocketAddr;
use std::time::Duration;

use reception::{Elector, Options, Service};
use supervise::Boottime;
use testkit::FaultLink;
use tokio::time::timeout;

fn elector(kind: &str, at: SocketAddr, id: &str, options: &Options) -> Elector {
    let client = reception::dial(&format!("{kind}://{at}"), options.clone()).unwrap();
    client.elector(Service::new("job", "h", 1).unwrap().with_id(id).unwrap())
}

/// A leads over a link, B waits. The link goes silent; B leads within `limit`, after the end of A's term by A's own count. The link
/// heals; A stands behind B, and leads again, with the largest token, when B goes.
pub(crate) async fn cut_off_and_healed(server: SocketAddr, kind: &str, options: Options, limit: Duration) {
    let link = FaultLink::to(server);
    let a = elector(kind, link.addr(), "a", &options);
    let mut a_term = timeout(limit, a.elect()).await.expect("a leads").unwrap();
    let b = elector(kind, server, "b", &options);
    let a_last = tokio::spawn(async move {
        let mut last = a_term.until();
        while let Some(until) = a_term.renewed().await {
            last = Some(until);
        }
        (last.expect("it led"), a_term.token)
    });
    // B stands in the line, and A has been renewed, which it would not be for nothing.
    assert!(timeout(options.ttl, b.elect()).await.is_err(), "one leads at a time");
    link.blackhole();
    let b_term = timeout(limit, b.elect()).await.expect("b leads").unwrap();
    let b_began = Boottime::now();
    let (a_ended, a_token) = timeout(limit, a_last).await.expect("a knows").unwrap();
    assert!(a_ended <= b_began, "a's term ended {:?} after b's began", a_ended.since(b_began));
    assert!(b_term.token > a_token);
    assert_eq!(
        b.leader().await.unwrap().map(|leader| (leader.service.id, leader.token)),
        Some(("b".into(), b_term.token))
    );
    link.heal();
    assert!(timeout(options.ttl, a.elect()).await.is_err(), "it does not come back to its place");
    b.cancel().await;
    let again = timeout(limit, a.elect()).await.expect("a leads again").unwrap();
    assert!(again.token > b_term.token);
    a.cancel().await;
    assert_eq!(b.leader().await.unwrap(), None);
}
