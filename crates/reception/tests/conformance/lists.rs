//! What is listed, watched and named.

use std::time::Duration;

use reception::{Attributes, Scope};

use crate::drive::{Kept, Runner, Seen, ids, name, service};
use crate::stores::{LIMIT, Store};

/// "At once": what is told rather than waited for.
const AT_ONCE: Duration = Duration::from_secs(10);

pub(crate) async fn ids_are_the_same_everywhere<S: Store>() {
    let store = S::start().await;
    let (own, other) = (store.dial(), store.dial());
    for id in
        ["plain", "6f1e2d3c-0000-4000-8000-00000000000a", "with blank%2F", "ä\u{1F600}", &"x".repeat(200)]
    {
        let web = service("web", id);
        let watch = Seen::of(other.watch(&web.name));
        let record = Kept::register(&own, &web).await;
        let list = other.list(&web.name, Scope::Passing).await.unwrap();
        assert_eq!(list.instances.len(), 1, "{list:?}");
        assert_eq!(list.instances[0].service, web);
        assert_eq!(list.instances[0].created, record.created());
        let seen = watch.until("the instance", AT_ONCE, |seen| !seen.instances.is_empty()).await;
        assert_eq!(seen.instances, list.instances);
        assert_eq!(seen.index, list.index, "one list, one index");
        record.leave().await;

        let job = service("job", id);
        let candidate = Runner::campaign(&own, &job).await;
        let token = candidate.led(LIMIT).await;
        let leader = other.leader(&job.name).await.unwrap().expect("it leads");
        assert_eq!((&leader.service, leader.token), (&job, token));
        candidate.leave().await;
        assert_eq!(other.leader(&job.name).await.unwrap(), None);
    }
}

pub(crate) async fn lists_and_names_say_what_is_there<S: Store>() {
    let store = S::start().await;
    let (own, other) = (store.dial(), store.dial());
    let web = name("web");
    assert!(other.problems().is_empty(), "{:?}", other.problems());
    // Nobody registered anything yet, and that is no error.
    assert!(other.list(&web, Scope::Passing).await.unwrap().instances.is_empty());
    assert!(other.list(&web, Scope::All).await.unwrap().instances.is_empty());
    assert!(other.names().await.unwrap().names.is_empty());
    assert_eq!(other.leader(&web).await.unwrap(), None);
    let (watch, names) = (Seen::of(other.watch(&web)), Seen::of(other.watch_names()));
    watch.until("an empty list", AT_ONCE, |seen| seen.instances.is_empty()).await;
    names.until("no names", AT_ONCE, |seen| seen.names.is_empty()).await;

    let records = order_is_that_of_creation(&own, &other, &watch).await;
    attributes_are_any_text(&own, &other).await;

    // Names: of those that have instances, in order. Consul knows an id once, whatever its name.
    let more = [
        Kept::register(&own, &service("a b%", "1")).await,
        Kept::register(&own, &service(".hidden", "2")).await,
        Kept::register(&own, &service("ä", "3")).await,
    ];
    let wanted = [".hidden", "a b%", "web", "ä"].map(name).to_vec();
    let seen = names.until("four names", AT_ONCE, |seen| seen.names == wanted).await;
    assert_eq!(other.names().await.unwrap(), seen);
    for record in more {
        record.leave().await;
    }
    names.until("one name", AT_ONCE, |seen| seen.names == [web.clone()]).await;

    // Whoever leaves is gone, at once and for all.
    let full = other.list(&web, Scope::Passing).await.unwrap();
    for (gone, record) in records.into_iter().enumerate() {
        record.leave().await;
        let rest = other.list(&web, Scope::Passing).await.unwrap();
        assert_eq!(ids(&rest), &ids(&full)[gone + 1..]);
        assert_ne!(rest.index, full.index);
        watch.until("one less", AT_ONCE, |seen| seen.instances == rest.instances).await;
    }
    names.until("no name", AT_ONCE, |seen| seen.names.is_empty()).await;
    assert_eq!((watch.errors(), names.errors()), (vec![], vec![]));
}

async fn order_is_that_of_creation(
    own: &std::sync::Arc<dyn reception::backend::Backend>,
    other: &std::sync::Arc<dyn reception::backend::Backend>,
    watch: &Seen<reception::Snapshot>,
) -> Vec<Kept> {
    let mut records = Vec::new();
    // The order of their ids is another.
    let wanted: Vec<String> = (0..12).map(|number| format!("{}-{number}", (number * 7) % 12)).collect();
    for id in &wanted {
        let before = other.list(&name("web"), Scope::Passing).await.unwrap();
        records.push(Kept::register(own, &service("web", id)).await);
        let list = other.list(&name("web"), Scope::Passing).await.unwrap();
        assert_ne!(before.index, list.index);
    }
    let list = other.list(&name("web"), Scope::Passing).await.unwrap();
    assert_eq!(ids(&list), wanted);
    assert!(list.instances.is_sorted_by(|a, b| a.created < b.created), "{list:?}");
    let seen = watch.until("all of them", AT_ONCE, |seen| seen.instances.len() == wanted.len()).await;
    assert_eq!(seen.instances, list.instances);
    assert_eq!(other.list(&name("web"), Scope::All).await.unwrap().instances, list.instances);
    records
}

async fn attributes_are_any_text(
    own: &std::sync::Arc<dyn reception::backend::Backend>,
    other: &std::sync::Arc<dyn reception::backend::Backend>,
) {
    let odd = [
        ("", ""),
        ("a \"quote\"\\", "line\nbreak\ttab\u{0}nul\u{1F600}"),
        ("key/with:all=sorts", "ünïcödé \u{2028}"),
    ];
    let odd: Attributes = odd.map(|(key, value)| (key.to_owned(), value.to_owned())).into();
    let large: Attributes = [("large".to_owned(), "ä".repeat(30 * 1024))].into();
    for (id, attributes) in [("none", Attributes::new()), ("odd", odd), ("large", large)] {
        let one = service("attributes", id).with_attributes(attributes).unwrap();
        let record = Kept::register(own, &one).await;
        let list = other.list(&one.name, Scope::Passing).await.unwrap();
        assert_eq!(list.instances.len(), 1);
        assert!(list.instances[0].service == one, "{id} came back as another");
        record.leave().await;
    }
}
