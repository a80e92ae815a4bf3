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
    let generation = router.generation("s").await;
    router.write(&service("s", &["d:1"]));
    tokio::time::sleep(Duration::from_millis(1500)).await;
    assert_eq!(router.generation("s").await, generation);
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
