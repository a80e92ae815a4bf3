//! Directories that go away, and leaders that outlive their process.

use std::fs;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use reception::backend::{Backend, Standing};
use reception::{Error, Options, Scope};
use testkit::TempDir;

use crate::drive::{Kept, Runner, Seen, ids, name, service};
use crate::stores::LIMIT;

fn dial(folder: &Path) -> Arc<dyn Backend> {
    reception::backend::file::dial(&format!("file:{}", folder.display()), &Options::default()).unwrap()
}

#[tokio::test]
async fn the_guard_of_a_killed_leader_keeps_the_next_one_with_its_id_waiting() {
    let folder = TempDir::new();
    let own = dial(&folder);
    let mut first = own.candidate(&service("job", "a"));
    let token = first.enter().await.unwrap().created;
    assert_eq!(first.standing().await.unwrap(), Standing::Leads(token));
    let kept: OwnedFd = first.kept().unwrap();
    let mut guard = Command::new("sleep").arg("60").stdin(Stdio::from(kept)).spawn().unwrap();
    drop(first);
    let next = Runner::campaign(&dial(&folder), &service("job", "a")).await;
    tokio::time::sleep(Duration::from_millis(1500)).await;
    assert_eq!(next.leads(), None, "what the guard minds may still run");
    assert_eq!(own.leader(&name("job")).await.unwrap().expect("the guard's").token, token);
    guard.kill().unwrap();
    guard.wait().unwrap();
    assert!(next.led(LIMIT).await > token);
    next.leave().await;
}

#[tokio::test]
async fn numbers_go_on_after_the_directory_was_lost_while_somebody_lives_who_knew_them() {
    let folder = TempDir::new();
    let root = folder.join("services");
    let (own, other) = (dial(&root), dial(&root));
    let mut last = 0;
    for _ in 0..5 {
        let mut record = own.register(&service("web", "a"));
        last = record.enter().await.unwrap().created;
        record.leave().await.unwrap();
    }
    fs::remove_dir_all(&root).unwrap();
    let mut record = own.register(&service("web", "a"));
    let number = record.enter().await.unwrap().created;
    assert!(number > last, "{number} after {last}");
    // It is in the directory again, for those too who knew nothing.
    let later = other.register(&service("job", "b")).enter().await.unwrap().created;
    assert!(later > number, "{later} after {number}");

    // Who has only looked knows it too.
    let looked = dial(&root);
    assert_eq!(ids(&looked.list(&name("web"), Scope::Passing).await.unwrap()), ["a"]);
    fs::remove_dir_all(&root).unwrap();
    assert!(looked.register(&service("web", "c")).enter().await.unwrap().created > number);
}

#[tokio::test]
async fn a_directory_that_went_away_is_no_empty_list() {
    let folder = TempDir::new();
    let (root, away) = (folder.join("services"), folder.join("away"));
    let (web, own) = (name("web"), dial(&root));
    assert!(ids(&own.list(&web, Scope::Passing).await.unwrap()).is_empty(), "it was never there");
    assert_eq!(own.leader(&web).await.unwrap(), None);
    let mut record = dial(&root).register(&service("web", "a"));
    let created = record.enter().await.unwrap().created;
    let mut watch = own.watch(&web);
    assert_eq!(ids(&watch.next().await.unwrap()), ["a"]);

    fs::rename(&root, &away).unwrap();
    let gone = |error: Error| matches!(&error, Error::Disconnected { what, .. } if what.contains("is gone"));
    assert!(own.list(&web, Scope::Passing).await.is_err_and(gone));
    assert!(own.names().await.is_err_and(gone));
    assert!(own.leader(&web).await.is_err_and(gone));
    assert!(watch.next().await.is_err_and(gone));
    // What is left of a file system that is not mounted.
    fs::create_dir(&root).unwrap();
    let empty =
        |error: Error| matches!(&error, Error::Disconnected { what, .. } if what.contains("is empty"));
    assert!(own.list(&web, Scope::Passing).await.is_err_and(empty));
    assert!(own.names().await.is_err_and(empty));
    assert!(watch.next().await.is_err_and(empty));
    fs::remove_dir(&root).unwrap();
    fs::rename(&away, &root).unwrap();
    let back = watch.next().await.unwrap();
    assert_eq!((ids(&back), back.instances[0].created), (vec!["a"], created));

    // An empty list is told as ever.
    let seen = Seen::of(own.watch(&web));
    seen.until("the record", LIMIT, |seen| ids(seen) == ["a"]).await;
    record.leave().await.unwrap();
    seen.until("nobody", LIMIT, |seen| seen.instances.is_empty()).await;
    assert!(own.names().await.unwrap().names.is_empty());
    let kept = Kept::register(&own, &service("web", "b")).await;
    kept.leave().await;
}
