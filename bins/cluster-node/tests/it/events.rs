//! The stream of events: replay, gaps, the end.

use testkit::http::ask;

use crate::harness::*;

#[tokio::test(flavor = "multi_thread")]
async fn who_comes_back_misses_nothing() {
    let nodes = Plan::of(2).start().await;
    let [n1, n2] = &nodes[..] else { unreachable!() };
    let mut all = n2.events(Some("0")).await;
    let first = all.try_next().await.unwrap();
    assert_eq!(
        (first.kind.as_str(), &first.data["quorum"]),
        ("quorum", &true.into()),
        "the state at the start"
    );
    assert_eq!(all.next("join").await.data["node"], "n1");

    let mut stream = n2.events(None).await;
    for at in 0..50 {
        n1.done("POST", "/broadcast", at.to_string()).await;
    }
    let mut last = String::new();
    for at in 0..20 {
        let told = stream.next("message").await;
        assert_eq!(told.data["payload"], at.to_string());
        last = told.id;
    }
    drop(stream);
    let mut again = n2.events(Some(&last)).await;
    for at in 20..50 {
        assert_eq!(again.next("message").await.data["payload"], at.to_string());
    }
    let bad = ask("GET", &n2.path("/events")).header("Last-Event-ID", "what").of(n2.api).await;
    sentence(&bad, 400);
}

#[tokio::test(flavor = "multi_thread")]
async fn streams_end_with_the_node_and_have_a_bound() {
    let mut nodes = Plan::of(1).flags(&["--max-streams", "1"]).start().await;
    let mut stream = nodes[0].events(None).await;
    let refused = ask("GET", &nodes[0].path("/events")).of(nodes[0].api).await;
    assert!(sentence(&refused, 503).contains("--max-streams"));
    assert_eq!(refused.header("retry-after"), Some("1"));
    assert!(nodes[0].process.stop().await.success());
    while stream.try_next().await.is_some() {}
}
