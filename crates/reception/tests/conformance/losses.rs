//! Dead owners, lost records, servers that go away.

use std::time::Duration;

use reception::Scope;

use crate::drive::{Kept, Runner, Seen, ids, name, service};
use crate::stores::{LIMIT, Store};

/// What a noisy machine adds to a bound.
pub(crate) const NOISE: Duration = Duration::from_secs(5);

pub(crate) async fn the_dead_go_within_the_bounds<S: Store>() {
    let store = S::start().await;
    let (own, doomed, other) = (store.dial(), store.dial(), store.dial());
    let web = name("web");
    let bounds = other.bounds();
    let lives = Kept::register(&own, &service("web", "lives")).await;
    let watch = Seen::of(other.watch(&web));
    watch.until("the one that lives", LIMIT, |seen| ids(seen) == ["lives"]).await;
    let dies = Kept::register(&doomed, &service("web", "dies")).await;
    watch.until("both", LIMIT, |seen| ids(seen) == ["lives", "dies"]).await;
    let leader = Runner::campaign(&doomed, &service("job", "leader")).await;
    let first = leader.led(LIMIT).await;
    let next = Runner::campaign(&own, &service("job", "next")).await;
    // Longer than it would last if nobody kept it.
    tokio::time::sleep(S::TTL * 3 / 2).await;
    assert_eq!((leader.leads(), next.leads()), (Some(first), None));
    assert_eq!(ids(&other.list(&web, Scope::Passing).await.unwrap()), ["lives", "dies"]);

    dies.die().await;
    leader.die().await;
    drop(doomed);
    let (gone, led) = tokio::join!(
        watch.until("the dead to be gone", bounds.instance + NOISE, |seen| ids(seen) == ["lives"]),
        next.led(bounds.leader + NOISE),
    );
    assert!(led > first, "{led} after {first}");
    assert_eq!(gone.instances[0].created, lives.created(), "the living has its first record still");
    assert_eq!(other.list(&web, Scope::Passing).await.unwrap().instances, gone.instances);
    for list in watch.all() {
        assert!(ids(&list).contains(&"lives"), "the living was taken for dead: {:?}", watch.all());
    }
    next.leave().await;
    lives.leave().await;
}

pub(crate) async fn lost_records_and_restarted_servers_are_got_over<S: Store>() {
    let mut store = S::start().await;
    let (own, other) = (store.dial(), store.dial());
    let web = name("web");
    let record = Kept::register(&own, &service("web", "lost")).await;
    let before = record.created();
    let watch = Seen::of(other.watch(&web));
    watch.until("the first record", LIMIT, |seen| ids(seen) == ["lost"]).await;

    // Somebody takes it away; its owner finds out and puts it there anew.
    store.lose(&record.service).await;
    let after = record.created_after(before).await;
    watch
        .until("the second record", LIMIT, |seen| seen.instances.iter().any(|one| one.created == after))
        .await;
    assert_eq!(ids(&other.list(&web, Scope::Passing).await.unwrap()), ["lost"], "one id, one record");

    let known = watch.all().len();
    let while_down = async || {
        if S::KEEPS {
            let told = other.list(&web, Scope::Passing).await;
            assert!(told.is_err(), "a server that is down says nothing, and not {told:?}");
            // Long enough that every part has noticed.
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
    };
    store.restart(while_down).await;
    let more = Kept::register(&own, &service("web", "more")).await;
    let both = watch.until("both after the restart", LIMIT, |seen| {
        let mut ids = ids(seen);
        ids.sort_unstable();
        ids == ["lost", "more"]
    });
    both.await;
    if S::KEEPS {
        for list in &watch.all()[known..] {
            assert!(ids(list).contains(&"lost"), "an outage was taken for an empty list: {:?}", watch.all());
        }
    }
    record.leave().await;
    more.leave().await;
    watch.until("an empty list", LIMIT, |seen| seen.instances.is_empty()).await;
    assert!(other.names().await.unwrap().names.is_empty());
}
