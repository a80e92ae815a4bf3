//! `--watch`: the file is read again when its content changes, however it is changed.

use std::os::unix::fs::symlink;
use std::time::Duration;

use testkit::{TempDir, eventually};

use crate::harness::{Router, SOON, service};

/// Waits until the service has this one node.
async fn has(router: &Router, node: &str) {
    eventually(format!("{node} to be the node"), SOON, async || {
        (router.nodes("s", "k", 9).await == [node]).then_some(())
    })
    .await;
}

/// How many reads of the file came to this.
async fn reads(router: &Router, outcome: &str) -> f64 {
    let name = format!("keyrouter_services_reads_total{{outcome=\"{outcome}\"}} ");
    let text = router.get("/metrics").await.text();
    // One that never happened is not listed.
    text.lines().find_map(|line| line.strip_prefix(&name)).map_or(0.0, |count| count.parse().unwrap())
}

#[tokio::test]
async fn any_way_of_changing_the_file_is_seen() {
    let router = Router::start(&service("s", &["a:1"]), &["--watch"]).await;
    has(&router, "a:1").await;
    // Replaced, of the same length.
    router.write(&service("s", &["b:1"]));
    has(&router, "b:1").await;
    // Written over in place.
    std::fs::write(&router.file, service("s", &["c:1"])).unwrap();
    has(&router, "c:1").await;
    // Gone for a while.
    std::fs::remove_file(&router.file).unwrap();
    eventually("the loss to be told", SOON, async || {
        (!router.condition("services-file").await.1).then_some(())
    })
    .await;
    has(&router, "c:1").await;
    router.write(&service("s", &["d:1"]));
    has(&router, "d:1").await;
    // By signal as well; and what is the same is not a change.
    router.hup_and_loaded().await;
    let (applied, unchanged) = (reads(&router, "applied").await, reads(&router, "unchanged").await);
    assert_eq!((applied, unchanged), (4.0, 1.0));
    router.write(&service("s", &["d:1"]));
    tokio::time::sleep(Duration::from_millis(1500)).await;
    router.write(&service("s", &["e:1"]));
    has(&router, "e:1").await;
    assert_eq!(reads(&router, "unchanged").await, unchanged);
    assert_eq!(reads(&router, "applied").await, applied + 1.0);
}

#[tokio::test]
async fn a_file_that_never_rests_is_seen_too() {
    let router = Router::start(&service("s", &["n-0:1"]), &["--watch"]).await;
    let mut number = 0;
    eventually("two of the versions to be seen", SOON, async || {
        number += 1;
        router.write(&service("s", &[format!("n-{number}:1")]));
        // Between any two looks there is another version.
        tokio::time::sleep(Duration::from_millis(200)).await;
        (router.generation("s").await >= 3).then_some(())
    })
    .await;
    assert_eq!(reads(&router, "failed").await, 0.0);
}

#[tokio::test]
async fn one_write_that_is_both_watched_and_signalled_is_one_reload() {
    let router = Router::start(&service("s", &["a:1"]), &["--watch", "--hold-empty"]).await;
    router.write("# empty\n");
    router.hup_and_loaded().await;
    let held = async || {
        let (status, ok, detail) = router.condition("services-file").await;
        assert!(status == 200 && !ok && detail.contains("no node"), "{detail}");
        has(&router, "a:1").await;
    };
    held().await;
    // Time enough for the watcher to see the same.
    tokio::time::sleep(Duration::from_millis(1500)).await;
    held().await;
    assert_eq!(reads(&router, "applied").await, 1.0);
    router.hup_and_loaded().await;
    assert_eq!(router.get("/service").await.text(), "[]\n", "a second request confirms");
    // The watcher alone: the first version is held, another one confirms it.
    router.write(&service("s", &["b:1"]));
    eventually("b:1 to be there", SOON, async || (reads(&router, "applied").await == 3.0).then_some(()))
        .await;
    let held = reads(&router, "held").await;
    router.write("# empty again\n");
    eventually("it to be held", SOON, async || (reads(&router, "held").await > held).then_some(())).await;
    has(&router, "b:1").await;
    router.write("# and again\n");
    eventually("it to be taken", SOON, async || {
        (router.get("/service").await.text() == "[]\n").then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_config_map_is_followed_through_its_symlinks() {
    let dir = TempDir::new();
    for (version, node) in [("v1", "a:1"), ("v2", "b:1")] {
        std::fs::create_dir(dir.join(version)).unwrap();
        std::fs::write(dir.join(version).join("services.toml"), service("s", &[node])).unwrap();
    }
    symlink("v1", dir.join("..data")).unwrap();
    symlink("..data/services.toml", dir.join("services.toml")).unwrap();
    let file = dir.join("services.toml");
    let router = Router::start_in(dir, file, &["--watch"]).await;
    has(&router, "a:1").await;
    symlink("v2", router.dir.join("..data_tmp")).unwrap();
    std::fs::rename(router.dir.join("..data_tmp"), router.dir.join("..data")).unwrap();
    has(&router, "b:1").await;
}

#[tokio::test]
async fn a_file_that_appears_late_is_seen() {
    let dir = TempDir::new();
    let file = dir.join("services.toml");
    let router = Router::start_in(dir, file, &["--watch"]).await;
    assert_eq!(router.get("/readyz").await.status, 503);
    router.write(&service("s", &["a:1"]));
    eventually("it to be ready", SOON, async || (router.get("/readyz").await.status == 200).then_some(()))
        .await;
    has(&router, "a:1").await;
}
