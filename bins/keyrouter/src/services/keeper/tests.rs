use std::fs;
use std::os::unix::fs::symlink;
use std::time::{Duration, Instant};

use testkit::TempDir;

use super::*;
use crate::services::watch::Watcher;

const OPTIONS: Options = Options { algorithm: Algorithm::Ring, hold_empty: false, max_size: 1 << 20 };
const HOLDING: Options = Options { hold_empty: true, ..OPTIONS };
const ONE: &str = "[[Services]]\nName = 'one'\nNodes = ['a:1', 'b:1']\n";
const TWO: &str = "[[Services]]\nName = 'two'\nNodes = ['c:1']\n";
const EMPTY: &str = "[[Services]]\nName = 'one'\n";

fn now() -> Timestamp {
    Timestamp::from_second(1_700_000_000).unwrap()
}

/// The names in force, or `-` when there is no catalog.
fn names(keeper: &Keeper) -> String {
    keeper.published().load().as_ref().map_or_else(
        || "-".to_owned(),
        |catalog| catalog.services().iter().map(|service| &*service.name).collect::<Vec<_>>().join(" "),
    )
}

fn failure(outcome: &Outcome) -> String {
    match outcome {
        Outcome::Failed(problems) => problems.to_string(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn the_last_good_catalog_stays_whatever_the_file_becomes() {
    let dir = TempDir::new();
    let path = dir.join("services.toml");
    let mut keeper = Keeper::new(&path);
    assert!(failure(&keeper.reload(&OPTIONS, now())).contains("services.toml: cannot be read: No such file"));
    assert_eq!((names(&keeper), keeper.status().load), ("-".to_owned(), 0));
    assert!(keeper.status().to_string().starts_with("no good file yet: "), "{}", keeper.status());

    fs::write(&path, ONE).unwrap();
    let Outcome::Applied(applied) = keeper.reload(&OPTIONS, now()) else { panic!("a good file") };
    assert_eq!(applied.to_string(), "1 service, 2 nodes (load 1): added \"one\"");
    let good = keeper.published().load_full().unwrap();

    let bad: &[(&dyn Fn(), &str)] = &[
        (
            &|| fs::write(&path, "[[Services]]\nName = 'one'\nNodes = ['a:1', 'b").unwrap(),
            "services.toml:3: ",
        ),
        (&|| fs::write(&path, b"[[Services]]\nName = '\xff'").unwrap(), "services.toml:2: byte 0xff"),
        (&|| fs::remove_file(&path).unwrap(), "cannot be read: No such file"),
        (&|| fs::create_dir(&path).unwrap(), "is a directory, not a file"),
        (&|| fs::remove_dir(&path).unwrap(), "cannot be read"),
        (&|| fs::File::create(&path).unwrap().set_len(1 << 30).unwrap(), "has 1073741824 bytes"),
        (&|| fs::remove_file(&path).unwrap(), "cannot be read"),
        (
            &|| rustix::fs::mkfifoat(rustix::fs::CWD, &path, rustix::fs::Mode::RWXU).unwrap(),
            "is a pipe, not a file",
        ),
    ];
    for (make, expected) in bad {
        make();
        let told = failure(&keeper.reload(&OPTIONS, now()));
        assert!(told.contains(expected), "{told}");
        let status = keeper.status();
        assert!(status.problem.as_ref().is_some_and(|problem| problem.contains(expected)), "{status}");
        assert_eq!((status.load, status.services, status.nodes), (1, 1, 2));
        assert!(Arc::ptr_eq(&keeper.published().load_full().unwrap(), &good));
    }
    fs::remove_file(&path).unwrap();
    fs::write(&path, TWO).unwrap();
    let Outcome::Applied(applied) = keeper.reload(&OPTIONS, now()) else { panic!("a good file") };
    assert_eq!(applied.to_string(), "1 service, 1 node (load 2): added \"two\"; removed \"one\"");
    assert_eq!(keeper.status().problem, None);
}

#[test]
fn what_says_the_same_is_no_load() {
    let dir = TempDir::new();
    let path = dir.write("f", ONE);
    let mut keeper = Keeper::new(&path);
    keeper.reload(&OPTIONS, now());
    let content = keeper.status().content.clone();
    fs::write(&path, format!("# a comment\n{}", ONE.replace("'b:1'", "'b:1', 'a:1'"))).unwrap();
    let Outcome::Unchanged { warnings } = keeper.reload(&OPTIONS, now()) else { panic!("unchanged") };
    assert_eq!(warnings.len(), 1);
    assert_eq!(keeper.status().load, 1);
    assert_ne!(keeper.status().content, content);
    // Another default is a change though the file is the same.
    let options = Options { algorithm: Algorithm::Rendezvous, ..OPTIONS };
    assert!(matches!(keeper.reload(&options, now()), Outcome::Applied(_)));
    assert_eq!(keeper.published().load().as_ref().unwrap().services()[0].generation, 2);
}

#[test]
fn a_link_is_followed_as_kubernetes_swaps_it() {
    let dir = TempDir::new();
    for (version, content) in [("v1", ONE), ("v2", TWO)] {
        fs::create_dir(dir.join(version)).unwrap();
        dir.write(format!("{version}/services.toml"), content);
    }
    symlink("v1", dir.join("..data")).unwrap();
    symlink("..data/services.toml", dir.join("services.toml")).unwrap();
    let mut keeper = Keeper::new(dir.join("services.toml"));
    keeper.reload(&OPTIONS, now());
    assert_eq!(names(&keeper), "one");
    symlink("v2", dir.join("..tmp")).unwrap();
    fs::rename(dir.join("..tmp"), dir.join("..data")).unwrap();
    keeper.reload(&OPTIONS, now());
    assert_eq!(names(&keeper), "two");
}

#[test]
fn an_empty_file_is_held_until_it_is_confirmed() {
    let dir = TempDir::new();
    let path = dir.join("f");
    let mut keeper = Keeper::new(&path);
    let mut step = |content: &str, options: &Options| {
        fs::write(&path, content).unwrap();
        let outcome = match keeper.reload(options, now()) {
            Outcome::Applied(_) => "applied",
            Outcome::Unchanged { .. } => "unchanged",
            Outcome::Held => "held",
            Outcome::Failed(_) => "failed",
        };
        assert_eq!(
            keeper.status().problem.as_ref().is_some_and(|problem| problem.contains("no node")),
            outcome == "held"
        );
        (outcome, keeper.published().load().as_ref().map_or(0, |catalog| catalog.node_count()))
    };
    assert_eq!(step(EMPTY, &HOLDING), ("applied", 0), "at the start nothing is held");
    assert_eq!(step(ONE, &HOLDING), ("applied", 2));
    assert_eq!(step(EMPTY, &HOLDING), ("held", 2));
    assert_eq!(step(ONE, &HOLDING), ("unchanged", 2), "a full file resets");
    assert_eq!(step("", &HOLDING), ("held", 2));
    assert_eq!(step("Name = ", &HOLDING), ("failed", 2), "a bad file confirms nothing");
    assert_eq!(step(EMPTY, &HOLDING), ("applied", 0), "the second that is empty does");
    assert_eq!(step(TWO, &HOLDING), ("applied", 1));
    assert_eq!(step(EMPTY, &OPTIONS), ("applied", 0), "nothing is held unless asked for");
}

/// What a look at the file gives, made two looks old by `settled`.
fn change(keeper: &Keeper, path: &Path, settled: bool) -> Change {
    Change { read: file::read(path, 1 << 20), after: keeper.last_read().get().number, settled }
}

#[test]
fn what_was_read_before_a_reload_is_not_put_over_it() {
    let dir = TempDir::new();
    let path = dir.write("f", ONE);
    let mut keeper = Keeper::new(&path);
    keeper.reload(&OPTIONS, now());
    fs::write(&path, ONE.replace("a:1", "old:1")).unwrap();
    let stale = change(&keeper, &path, true);
    fs::write(&path, TWO).unwrap();
    keeper.reload(&OPTIONS, now());
    let before = (keeper.status().clone(), keeper.last_read().get());
    assert!(keeper.take(stale, &OPTIONS, now()).is_none());
    assert_eq!((keeper.status().clone(), keeper.last_read().get()), before);
    assert_eq!(names(&keeper), "two");
    // And the watcher finds nothing that is left to do.
    let (mut watcher, known) = (Watcher::default(), keeper.last_read().get());
    assert!((0..5).all(|_| watcher.look_at(&path, 1 << 20, known, Instant::now()).is_none()));
    fs::write(&path, ONE).unwrap();
    let fresh = change(&keeper, &path, true);
    assert!(matches!(keeper.take(fresh, &OPTIONS, now()), Some(Outcome::Applied(_))));
}

#[test]
fn a_file_that_may_be_half_written_counts_only_when_it_is_good() {
    let dir = TempDir::new();
    let path = dir.write("f", ONE);
    let mut keeper = Keeper::new(&path);
    keeper.reload(&OPTIONS, now());
    for half in ["[[Services]]\nName = 'tw", "", EMPTY] {
        fs::write(&path, half).unwrap();
        let before = (keeper.status().clone(), keeper.last_read().get());
        let unsettled = change(&keeper, &path, false);
        assert!(keeper.take(unsettled, &OPTIONS, now()).is_none(), "{half}");
        assert_eq!((keeper.status().clone(), keeper.last_read().get()), before, "{half}");
    }
    fs::write(&path, TWO).unwrap();
    let unsettled = change(&keeper, &path, false);
    assert!(matches!(keeper.take(unsettled, &OPTIONS, now()), Some(Outcome::Applied(_))));
    fs::write(&path, "[[Services]]\nName = 'tw").unwrap();
    let settled = change(&keeper, &path, true);
    assert!(matches!(keeper.take(settled, &OPTIONS, now()), Some(Outcome::Failed(_))));
}

#[test]
fn one_empty_file_that_is_noticed_twice_is_held() {
    let dir = TempDir::new();
    let path = dir.write("f", ONE);
    let mut keeper = Keeper::new(&path);
    keeper.reload(&HOLDING, now());
    fs::write(&path, EMPTY).unwrap();
    let watched = change(&keeper, &path, true);
    assert!(matches!(keeper.take(watched, &HOLDING, now()), Some(Outcome::Held)));
    assert!(matches!(keeper.reload(&HOLDING, now()), Outcome::Held), "the request that came with the write");
    assert_eq!(names(&keeper), "one");
    assert!(matches!(keeper.reload(&HOLDING, now()), Outcome::Applied(_)), "one more");
}

#[test]
fn lookups_go_on_with_whole_catalogs_while_files_are_swapped() {
    let dir = TempDir::new();
    let path = dir.write("f", ONE);
    let mut keeper = Keeper::new(&path);
    keeper.reload(&OPTIONS, now());
    let published = keeper.published();
    let done = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !done.load(std::sync::atomic::Ordering::Relaxed) {
                let catalog = published.load_full().expect("there is always one");
                let nodes = if catalog.service("one").is_some() { 2 } else { 1 };
                assert_eq!((catalog.services().len(), catalog.node_count()), (1, nodes));
            }
        });
        let until = Instant::now() + Duration::from_millis(300);
        let mut round = 0;
        while Instant::now() < until {
            round += 1;
            let next = dir.write("next", if round % 2 == 0 { ONE } else { TWO });
            fs::rename(next, &path).unwrap();
            assert!(matches!(keeper.reload(&OPTIONS, now()), Outcome::Applied(_)));
        }
        done.store(true, std::sync::atomic::Ordering::Relaxed);
    });
}
