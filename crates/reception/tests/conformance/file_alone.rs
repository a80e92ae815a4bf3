//! What only a directory can have go wrong.

use std::collections::VecDeque;
use std::fs;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use reception::backend::{Backend, Renewal};
use reception::{Error, Options, Scope};
use rustix::fs::{FlockOperation, flock};
use testkit::{Program, TempDir};

use crate::drive::{Kept, Seen, ids, name, service};
use crate::losses::NOISE;
use crate::stores::LIMIT;

/// Where the other process puts its record.
const ELSEWHERE: &str = "RECEPTION_TEST_HOLDS";

fn dial(folder: &Path) -> Arc<dyn Backend> {
    let options = Options { timeout: Duration::from_secs(1), ..Options::default() };
    reception::backend::file::dial(&format!("file:{}", folder.display()), &options).unwrap()
}

fn records(folder: &Path) -> Vec<PathBuf> {
    let mut found: Vec<_> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    found.sort();
    found
}

/// Not a test: what another process does, until it is killed.
#[tokio::test]
#[ignore = "it is started by another test"]
async fn hold() {
    let Some(folder) = std::env::var_os(ELSEWHERE) else { return };
    let backend = dial(Path::new(&folder));
    let _record = Kept::register(&backend, &service("web", "elsewhere")).await;
    std::future::pending::<()>().await;
}

#[tokio::test]
async fn a_killed_process_is_gone_within_the_bound() {
    let folder = TempDir::new();
    let (web, own) = (name("web"), dial(&folder));
    let here = Kept::register(&own, &service("web", "here")).await;
    let watch = Seen::of(own.watch(&web));
    for _ in 0..5 {
        let other = Program::new(std::env::current_exe().unwrap())
            .args(["--ignored", "--exact", "file_alone::hold", "--nocapture"])
            .env(ELSEWHERE, &*folder);
        let mut other = other.start();
        watch.until("both", LIMIT, |seen| ids(seen) == ["here", "elsewhere"]).await;
        // One that is stopped lives.
        other.sigstop();
        assert_eq!(ids(&own.list(&web, Scope::Passing).await.unwrap()), ["here", "elsewhere"]);
        other.kill9();
        let limit = own.bounds().instance + NOISE;
        watch.until("the dead to be gone", limit, |seen| ids(seen) == ["here"]).await;
        assert_eq!(records(&folder.join("web")).len(), 1, "what the dead left is taken away");
    }
    here.leave().await;
}

#[tokio::test]
async fn a_record_lasts_as_long_as_its_copied_descriptor() {
    let folder = TempDir::new();
    let (web, own) = (name("web"), dial(&folder));
    let mut record = own.register(&service("web", "one"));
    assert!(record.kept().is_none());
    record.enter().await.unwrap();
    // As a guard has it, that outlives its runner; the other child must not have it.
    let kept: OwnedFd = record.kept().unwrap();
    let mut guard = Command::new("sleep").arg("60").stdin(Stdio::from(kept)).spawn().unwrap();
    let mut child = Command::new("sleep").arg("60").spawn().unwrap();
    drop(record);
    tokio::time::sleep(Duration::from_millis(700)).await;
    assert_eq!(ids(&own.list(&web, Scope::Passing).await.unwrap()), ["one"]);
    let watch = Seen::of(own.watch(&web));
    watch.until("what the guard keeps", LIMIT, |seen| ids(seen) == ["one"]).await;
    guard.kill().unwrap();
    guard.wait().unwrap();
    watch.until("the record to end with the guard", LIMIT, |seen| seen.instances.is_empty()).await;
    child.kill().unwrap();
    child.wait().unwrap();
}

#[tokio::test]
async fn who_lost_the_lock_lost_the_record() {
    let folder = TempDir::new();
    let (web, own) = (name("web"), dial(&folder));
    let mut record = own.register(&service("web", "one"));
    let first = record.enter().await.unwrap();
    assert_eq!(record.enter().await.unwrap(), first, "what stands is adopted");
    assert!(matches!(record.renew().await.unwrap(), Renewal::Kept(_)));
    let watch = Seen::of(own.watch(&web));
    watch.until("the record", LIMIT, |seen| ids(seen) == ["one"]).await;
    // A guard's last act, which makes no event.
    flock(record.kept().unwrap(), FlockOperation::Unlock).unwrap();
    assert!(matches!(record.renew().await.unwrap(), Renewal::Lost(_)));
    watch.until("nobody", LIMIT, |seen| seen.instances.is_empty()).await;
    assert!(matches!(record.renew().await.unwrap(), Renewal::Lost(_)));
    let second = record.enter().await.unwrap();
    assert!(second.created > first.created);
    // The record of another with the same id takes its place.
    let mut other = dial(&folder).register(&service("web", "one"));
    let third = other.enter().await.unwrap();
    let list = own.list(&web, Scope::Passing).await.unwrap();
    assert_eq!(list.instances.iter().map(|one| one.created).collect::<Vec<_>>(), [third.created]);
    assert!(matches!(record.renew().await.unwrap(), Renewal::Lost(_)));
    record.leave().await.unwrap();
    assert!(
        matches!(other.renew().await.unwrap(), Renewal::Kept(_)),
        "whoever lost it takes nothing with it"
    );
    // Moved away is lost too.
    let path = records(&folder.join("web")).pop().unwrap();
    fs::rename(&path, folder.join("elsewhere")).unwrap();
    assert!(matches!(other.renew().await.unwrap(), Renewal::Lost(_)));
}

#[tokio::test]
async fn what_is_no_record_is_left_alone_and_what_is_a_dead_ones_goes() {
    let folder = TempDir::new();
    let (web, own) = (name("web"), dial(&folder));
    let record = Kept::register(&own, &service("web", "one")).await;
    let within = folder.join("web");
    let number = "00000000000000000009";
    let value = r#"{"address":"h","port":1,"attributes":null}"#;
    fs::write(within.join("notes.txt"), value).unwrap();
    fs::write(within.join(format!("{number}-.json")), value).unwrap();
    fs::write(within.join(format!("{number}-half.json")), &value[..20]).unwrap();
    fs::create_dir(within.join(format!("{number}-folder.json"))).unwrap();
    std::os::unix::fs::symlink("notes.txt", within.join(format!("{number}-link.json"))).unwrap();
    let pipe = within.join(format!("{number}-pipe.json"));
    assert!(Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    fs::write(folder.join("a file among folders"), value).unwrap();
    let before = records(&within);
    let dead = within.join(format!("{number}-dead.json"));
    fs::write(&dead, value).unwrap();
    fs::write(within.join(".fresh"), "half a rec").unwrap();

    assert_eq!(ids(&own.list(&web, Scope::Passing).await.unwrap()), ["one"]);
    assert_eq!(own.names().await.unwrap().names, [web]);
    assert!(!dead.exists());
    let more = Kept::register(&own, &service("web", "more")).await;
    assert!(more.created() > 9, "a number that somebody has is not given out");
    more.leave().await;
    assert_eq!(records(&within), before);
    record.leave().await;
}

#[tokio::test]
async fn what_cannot_be_done_is_said_with_its_path() {
    let folder = TempDir::new();
    let (web, one) = (name("web"), service("web", "one"));
    let file = folder.write("file", "");
    for bad in [file.clone(), file.join("below")] {
        let backend = dial(&bad);
        let refused = [
            backend.list(&web, Scope::Passing).await.map(drop),
            backend.register(&one).enter().await.map(drop),
        ];
        for error in refused.into_iter().filter_map(Result::err) {
            assert!(matches!(&error, Error::Refused { what, .. } if what.contains("file")), "{error:?}");
        }
    }
    assert!(dial(&file).register(&one).enter().await.is_err());

    let own = dial(&folder.join("services"));
    let record = Kept::register(&own, &one).await;
    // Somebody is stopped where others wait for him.
    let sequence = fs::OpenOptions::new().write(true).open(folder.join("services/.sequence")).unwrap();
    flock(&sequence, FlockOperation::LockExclusive).unwrap();
    let error = own.register(&service("web", "two")).enter().await.unwrap_err();
    assert!(!error.is_permanent() && error.to_string().contains("stopped"), "{error}");
    assert_eq!(ids(&own.list(&web, Scope::Passing).await.unwrap()), ["one"], "to read needs no lock");
    flock(&sequence, FlockOperation::Unlock).unwrap();
    sequence.set_len(0).unwrap();
    let two = Kept::register(&own, &service("web", "two")).await;
    assert!(two.created() > record.created(), "the line keeps its order without the sequence");
    fs::write(folder.join("services/.sequence"), "twelve\n").unwrap();
    let error = own.register(&service("web", "three")).enter().await.unwrap_err();
    assert!(error.is_permanent() && error.to_string().contains("twelve"), "{error}");
}

#[tokio::test]
async fn numbers_grow_over_names_prefixes_and_the_end_of_all_records() {
    let folder = TempDir::new();
    let mut last = 0;
    for number in 0..20 {
        let prefix = (number % 3 != 0).then(|| format!("team-{}", number % 3));
        let options = Options { prefix, ..Options::default() };
        let url = format!("file://{}", folder.display());
        let own = reception::backend::file::dial(&url, &options).unwrap();
        let record = Kept::register(&own, &service(&format!("name-{}", number % 4), "one")).await;
        assert!(record.created() > last);
        last = record.created();
        assert_eq!(own.names().await.unwrap().names.len(), 1, "a prefix is a store of its own");
        record.leave().await;
    }
}

/// Somebody comes, then somebody goes: there are so many or one more, at every moment.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_list_is_that_of_one_moment() {
    const MANY: usize = 30;
    let folder = TempDir::new();
    let (web, own) = (name("web"), dial(&folder));
    let mut line = VecDeque::new();
    let join = async |number: usize, line: &mut VecDeque<_>| {
        let mut record = own.register(&service("web", &number.to_string()));
        record.enter().await.unwrap();
        line.push_back(record);
    };
    for number in 0..MANY {
        join(number, &mut line).await;
    }
    let over = Arc::new(AtomicBool::new(false));
    let (other, stop) = (dial(&folder), over.clone());
    let reader = tokio::spawn(async move {
        let mut lists = 0;
        while !stop.load(Ordering::Relaxed) {
            let list = other.list(&web, Scope::Passing).await.unwrap();
            assert!((MANY..=MANY + 1).contains(&list.instances.len()), "{} instances", list.instances.len());
            lists += 1;
        }
        lists
    });
    for number in MANY..MANY + 500 {
        join(number, &mut line).await;
        line.pop_front().unwrap().leave().await.unwrap();
    }
    over.store(true, Ordering::Relaxed);
    assert!(reader.await.unwrap() > 10, "nobody looked");
}
