//! One leads, and the next one with a larger token.

use std::time::Duration;

use testkit::eventually;

use crate::drive::{Runner, name, service};
use crate::stores::{LIMIT, Store};

const HAND_OVERS: usize = 20;

pub(crate) async fn leaders_change_hands_with_growing_tokens<S: Store>() {
    let store = S::start().await;
    let (own, other) = (store.dial(), store.dial());
    let job = name("job");
    let mut runners = Vec::new();
    for number in 0..3 {
        runners.push(Runner::campaign(&own, &service("job", &format!("runner-{number}"))).await);
    }
    let mut last = 0;
    for number in 0..HAND_OVERS {
        let leads =
            eventually("one to lead", LIMIT, async || runners.iter().position(|one| one.leads().is_some()));
        let leader = runners.remove(leads.await);
        let token = leader.leads().expect("nobody takes it away");
        assert!(token > last, "{token} after {last}");
        last = token;
        assert!(runners.iter().all(|other| other.leads().is_none()), "two lead");
        let told = other.leader(&job).await.unwrap().expect("there is one");
        assert_eq!((told.service, told.token), (leader.service.clone(), token));
        let next = service("job", &format!("next-{number}"));
        if number % 2 == 0 {
            // The newcomer finds somebody who leads.
            runners.push(Runner::campaign(&own, &next).await);
            leader.leave().await;
        } else {
            leader.leave().await;
            runners.push(Runner::campaign(&own, &next).await);
        }
    }
    for runner in runners {
        runner.leave().await;
    }
    assert_eq!(other.leader(&job).await.unwrap(), None);
}

pub(crate) async fn who_cancels_leaves_the_line<S: Store>() {
    let store = S::start().await;
    let (own, other) = (store.dial(), store.dial());
    let a = Runner::campaign(&own, &service("job", "a")).await;
    let first = a.led(LIMIT).await;
    let b = Runner::campaign(&store.dial(), &service("job", "b")).await;
    let c = Runner::campaign(&other, &service("job", "c")).await;
    assert_eq!((b.leads(), c.leads()), (None, None));
    b.leave().await;
    // A while in which nothing may change.
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert_eq!((a.leads(), c.leads()), (Some(first), None));
    a.leave().await;
    assert!(c.led(LIMIT).await > first);
    assert_eq!(other.leader(&name("job")).await.unwrap().expect("c leads").service.id, "c");
    c.leave().await;
}

/// Neither takes the other's place, and the second leads when the first is gone.
pub(crate) async fn two_candidates_with_one_id_are_two<S: Store>() {
    let store = S::start().await;
    let job = name("job");
    let first = Runner::campaign(&store.dial(), &service("job", "twin")).await;
    let token = first.led(LIMIT).await;
    let second = Runner::campaign(&store.dial(), &service("job", "twin")).await;
    // Several looks, and a renewal where these are short.
    tokio::time::sleep(Duration::from_millis(1500)).await;
    assert_eq!((first.leads(), second.leads()), (Some(token), None));
    let told = store.dial().leader(&job).await.unwrap().expect("there is one");
    assert_eq!((told.service, told.token), (first.service.clone(), token));
    first.leave().await;
    let next = second.led(LIMIT).await;
    assert!(next > token, "{next} after {token}");
    assert_eq!(store.dial().leader(&job).await.unwrap().expect("there is one").service, second.service);
    second.leave().await;
    assert_eq!(store.dial().leader(&job).await.unwrap(), None);
}
