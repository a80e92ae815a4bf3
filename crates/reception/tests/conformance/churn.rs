//! Many come and go while somebody watches.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use reception::backend::Backend;
use reception::{Scope, Snapshot};
use testkit::Rng;

use crate::drive::{Kept, Seen, ids, name, service};
use crate::stores::{LIMIT, Store};

/// Joins and leaves one after the other, whose order is known.
const IN_TURN: u64 = 500;
/// Joins and leaves of each of several tasks at once.
const AT_ONCE: u64 = 125;
const TASKS: u64 = 4;
/// Changes that are waited for with drops.
const DROPS: u64 = 60;
/// Places that are taken and left.
const PLACES: usize = 40;

/// A record by its id and number: a stay. Nobody has the same twice.
type Stay = (String, u64);
type Stays = BTreeSet<Stay>;

fn stays(snapshot: &Snapshot) -> Stays {
    snapshot.instances.iter().map(|one| (one.service.id.clone(), one.created)).collect()
}

pub(crate) async fn a_watch_shows_what_was_and_misses_nothing<S: Store>() {
    let store = S::start().await;
    let mut rng = Rng::from_env();
    in_turn(&store, &mut rng).await;
    at_once(&store, &mut rng).await;
}

/// The states are known, and every list that is seen is one of them, in their order.
async fn in_turn<S: Store>(store: &S, rng: &mut Rng) {
    let (own, other) = (store.dial(), store.dial());
    let web = name("in-turn");
    let watch = Seen::of(other.watch(&web));
    watch.until("an empty list", LIMIT, |seen| seen.instances.is_empty()).await;
    let mut places: Vec<Option<Kept>> = (0..PLACES).map(|_| None).collect();
    let mut states = vec![Stays::new()];
    for _ in 0..IN_TURN {
        let at = usize::try_from(rng.within(0..PLACES as u64)).unwrap();
        let mut state = states.last().unwrap().clone();
        match places[at].take() {
            Some(record) => {
                state.remove(&(record.service.id.clone(), record.created()));
                record.leave().await;
            }
            None => {
                // An id may come again; the stay is another.
                let record = Kept::register(&own, &service("in-turn", &format!("place-{at}"))).await;
                assert!(state.insert((record.service.id.clone(), record.created())), "a number came twice");
                places[at] = Some(record);
            }
        }
        states.push(state);
        if rng.percent(5) {
            tokio::time::sleep(Duration::from_millis(rng.within(0..40))).await;
        }
    }
    let truth = states.last().unwrap().clone();
    let last = watch.until("the final list", LIMIT, |seen| stays(seen) == truth).await;
    assert_eq!(last.instances, other.list(&web, Scope::Passing).await.unwrap().instances);
    assert_eq!(watch.errors(), [""; 0]);
    let mut at = 0;
    let seen = watch.all();
    for (nth, list) in seen.iter().enumerate() {
        let list = stays(list);
        let found = states[at..].iter().position(|state| *state == list);
        let Some(further) = found else {
            panic!(
                "list {nth} of {}: {list:?} is none of the states since the {at}th: {:?}",
                seen.len(),
                states[at]
            );
        };
        at += further;
    }
    for record in places.into_iter().flatten() {
        record.leave().await;
    }
}

/// Only what each task does is in order: nobody is seen before it comes, or again after it was not.
async fn at_once<S: Store>(store: &S, rng: &mut Rng) {
    let other = store.dial();
    let web = name("at-once");
    let watch = Seen::of(other.watch(&web));
    watch.until("an empty list", LIMIT, |seen| seen.instances.is_empty()).await;
    let tasks: Vec<_> =
        (0..TASKS).map(|task| tokio::spawn(come_and_go(store.dial(), task, rng.fork()))).collect();
    let (mut ever, mut left) = (Stays::new(), Vec::new());
    for task in tasks {
        let (stays, record) = task.await.unwrap();
        ever.extend(stays);
        left.extend(record);
    }
    let truth: Stays = left.iter().map(|record| (record.service.id.clone(), record.created())).collect();
    watch.until("the final list", LIMIT, |seen| stays(seen) == truth).await;
    assert_eq!(watch.errors(), [""; 0]);
    let (mut before, mut gone) = (Stays::new(), Stays::new());
    for list in watch.all() {
        let now = stays(&list);
        assert!(now.is_subset(&ever), "never there: {:?}", now.difference(&ever));
        assert!(now.is_disjoint(&gone), "came back: {:?}", now.intersection(&gone));
        let ids: BTreeSet<_> = ids(&list).into_iter().collect();
        assert_eq!(ids.len(), now.len(), "one id twice: {list:?}");
        gone.extend(before.difference(&now).cloned());
        before = now;
    }
    for record in left {
        record.leave().await;
    }
}

/// All its stays, and the record that is there at the end.
async fn come_and_go(own: Arc<dyn Backend>, task: u64, mut rng: Rng) -> (Stays, Option<Kept>) {
    let (mut ever, mut record) = (Stays::new(), None::<Kept>);
    let one = service("at-once", &format!("task-{task}"));
    for _ in 0..AT_ONCE {
        match record.take() {
            Some(record) => record.leave().await,
            None => {
                let kept = Kept::register(&own, &one).await;
                ever.insert((one.id.clone(), kept.created()));
                record = Some(kept);
            }
        }
        if rng.percent(20) {
            tokio::time::sleep(Duration::from_millis(rng.within(0..10))).await;
        }
    }
    (ever, record)
}

pub(crate) async fn a_dropped_wait_loses_nothing<S: Store>() {
    let store = S::start().await;
    let (own, other) = (store.dial(), store.dial());
    let mut rng = Rng::from_env();
    let web = name("web");
    let (mut lists, mut names) = (other.watch(&web), other.watch_names());
    let mut record = None::<Kept>;
    for _ in 0..DROPS {
        let truth: Vec<_> = match record.take() {
            Some(record) => {
                record.leave().await;
                Vec::new()
            }
            None => {
                let kept = Kept::register(&own, &service("web", "one")).await;
                let truth = vec![(kept.service.id.clone(), kept.created())];
                record = Some(kept);
                truth
            }
        };
        let truth: Stays = truth.into_iter().collect();
        until_with_drops(&mut rng, "list", async || lists.next().await.unwrap(), |list| stays(list) == truth)
            .await;
        until_with_drops(
            &mut rng,
            "names",
            async || names.next().await.unwrap(),
            |seen| seen.names.is_empty() == truth.is_empty(),
        )
        .await;
    }
    if let Some(record) = record {
        record.leave().await;
    }
}

/// Waits for this value, and drops the wait again and again.
async fn until_with_drops<T: std::fmt::Debug>(
    rng: &mut Rng,
    what: &str,
    mut next: impl AsyncFnMut() -> T,
    wanted: impl Fn(&T) -> bool,
) {
    let start = tokio::time::Instant::now();
    let limit = testkit::patience(LIMIT);
    loop {
        // Most are dropped before an answer can come, or just while it comes.
        let patience = async {
            if rng.percent(60) {
                for _ in 0..rng.within(0..30) {
                    tokio::task::yield_now().await;
                }
            } else {
                tokio::time::sleep(Duration::from_millis(rng.within(1..100))).await;
            }
        };
        tokio::select! {
            biased;
            seen = next() => if wanted(&seen) {
                return;
            },
            () = patience => {}
        }
        assert!(start.elapsed() < limit, "a dropped wait took a change of the {what} with it");
    }
}
