//! Who leads when, and whose command runs.

use std::time::Duration;

use rustix::process::Signal;
use testkit::beats::now;
use testkit::{Beats, ConsulServer, EtcdServer, ZooKeeperServer, eventually};

use crate::harness::{Folder, SOON, TICK, agent, beating, done, is_gone, json, prints, signal};

fn assert_tokens_grow(beats: &Beats) {
    for pair in beats.lives().windows(2) {
        assert!(pair[0].token < pair[1].token, "{pair:?}");
    }
}

/// The stores that take a short ttl.
async fn each_store(test: impl AsyncFn(&str, &[&str])) {
    test(&Folder::new().url(), FLAGS).await;
    let etcd = EtcdServer::start().await;
    test(&etcd.url(), FLAGS).await;
    let zookeeper = ZooKeeperServer::with_tick(TICK).await;
    test(&zookeeper.url(), FLAGS).await;
}

const FLAGS: &[&str] = &["--ttl", "2s", "--grace", "100ms"];
/// The shortest ttl of Consul.
const CONSUL: &[&str] = &["--ttl", "10s", "--grace", "100ms"];
/// More than twice that and the lock delay.
const REPLACED: Duration = Duration::from_secs(60);

async fn a_stop_hands_over(store: &str, flags: &[&str]) {
    let beats = Beats::new();
    let mut first = beating(store, "a", flags, &beats).start();
    let led = beats.after(0, SOON).await;
    let mut second = beating(store, "b", flags, &beats).start();
    let leader = json(store, &["leader", "job", "--json"]).await;
    assert_eq!(
        (&leader["leader"]["id"], leader["token"].as_u64()),
        (&"a".into(), Some(led.token)),
        "{store}"
    );
    // Candidates have no address unless they are given one.
    assert_eq!(done(store, &["leader", "job"]).await, format!("a token {}\n", led.token));
    second.logs("in the line").await;
    assert!(first.stop().await.success());
    let stopped = now();
    let successor = beats.next(led.last).await;
    let took = Duration::from_nanos(successor.first.saturating_sub(stopped));
    assert!(
        took < Duration::from_secs(2),
        "{store}: a stop hands over without waiting for a ttl, not in {took:?}"
    );
    let log = first.log();
    let place = |part: &str| log.iter().position(|line| line.contains(part));
    assert!(place("the command has ended").is_some_and(|end| place("drained") > Some(end)), "{log:#?}");
    assert!(second.stop().await.success());
    assert_eq!(beats.assert_one_at_a_time(), 2, "{store}");
    assert_tokens_grow(&beats);
}

async fn the_killed_are_replaced(store: &str, flags: &[&str]) {
    let beats = Beats::new();
    let mut first = beating(store, "a", flags, &beats).start();
    let led = beats.after(0, SOON).await;
    let mut second = beating(store, "b", flags, &beats).start();
    // In the line before the fault: else it would have to be waited for as well.
    second.logs("in the line").await;
    first.kill9();
    eventually("the command to be gone", SOON, async || is_gone(led.pid).then_some(())).await;
    beats.after(now(), REPLACED).await;
    assert!(second.stop().await.success());
    assert_eq!(beats.assert_one_at_a_time(), 2, "{store}");
    assert_tokens_grow(&beats);
}

#[tokio::test]
async fn one_of_two_leads_and_a_stop_hands_over() {
    each_store(a_stop_hands_over).await;
}

#[tokio::test]
async fn a_killed_leaders_command_is_dead_before_the_next_starts() {
    each_store(the_killed_are_replaced).await;
}

#[tokio::test]
async fn one_of_two_leads_and_a_stop_hands_over_in_consul() {
    let consul = ConsulServer::start().await;
    a_stop_hands_over(&consul.url(), CONSUL).await;
}

#[tokio::test]
async fn a_killed_leader_is_replaced_in_consul() {
    let consul = ConsulServer::start().await;
    the_killed_are_replaced(&consul.url(), CONSUL).await;
}

#[tokio::test]
async fn a_stopped_leaders_command_dies_at_its_deadline() {
    let etcd = EtcdServer::start().await;
    let beats = Beats::new();
    let mut first = beating(&etcd.url(), "a", FLAGS, &beats).start();
    let led = beats.after(0, SOON).await;
    let mut second = beating(&etcd.url(), "b", FLAGS, &beats).start();
    second.logs("in the line").await;
    first.sigstop();
    let stopped = now();
    beats.next(stopped).await;
    let old = beats.lives()[0].clone();
    assert!(
        old.pid == led.pid && Duration::from_nanos(old.last.saturating_sub(stopped)) < Duration::from_secs(2)
    );
    // Awake again, it stands in line and harms nobody.
    first.sigcont();
    first.logs("in the line").await;
    second.stop().await;
    beats.next(now()).await;
    first.stop().await;
    assert_eq!(beats.assert_one_at_a_time(), 3);
    assert_tokens_grow(&beats);
}

fn guard_of(child: i32) -> i32 {
    let stat = std::fs::read_to_string(format!("/proc/{child}/stat")).unwrap();
    stat.rsplit_once(") ").unwrap().1.split(' ').nth(1).unwrap().parse().unwrap()
}

#[tokio::test]
async fn where_the_kernel_keeps_the_place_the_guard_holds_it() {
    let store = Folder::new();
    let beats = Beats::new();
    let _candidate = beating(&store.url(), "a", FLAGS, &beats).start();
    let led = beats.after(0, SOON).await;
    // Its descriptor is closed last, when the command is dead: nobody can lead before.
    let open = std::fs::read_dir(format!("/proc/{}/fd", guard_of(led.pid))).unwrap();
    let files: Vec<_> = open.filter_map(|fd| std::fs::read_link(fd.ok()?.path()).ok()).collect();
    assert!(files.iter().any(|file| file.starts_with(store.dir().join("store"))), "{files:?}");
}

#[tokio::test]
async fn a_command_that_ends_resigns_and_another_has_its_turn() {
    let store = Folder::new();
    let dir = store.dir().join("runs");
    std::fs::create_dir(&dir).unwrap();
    let script = format!("echo run; touch {}/$RECEPTION_TOKEN-$RECEPTION_ID; sleep 0.1", dir.display());
    let start = |id: &str| {
        agent(&store.url(), &["elect", "job", "--id", id])
            .name(id)
            .args(["--", "/bin/sh", "-c", &script])
            .start()
    };
    let (_first, _second) = (start("a"), start("b"));
    let runs = eventually("three runs", SOON, async || {
        let files =
            std::fs::read_dir(&dir).unwrap().map(|file| file.unwrap().file_name().into_string().unwrap());
        let mut runs: Vec<(u64, String)> = files
            .filter_map(|name| {
                name.split_once('-').map(|(token, id)| (token.parse().unwrap(), id.to_owned()))
            })
            .collect();
        runs.sort();
        (runs.len() >= 3).then_some(runs)
    })
    .await;
    // The first one rests for a second at least, and the other does not wait for it.
    assert_ne!(runs[0].1, runs[1].1, "{runs:?}");
}

#[tokio::test]
async fn a_killed_guard_takes_the_command_along_and_leadership_goes_on() {
    let store = Folder::new();
    let beats = Beats::new();
    let mut first = beating(&store.url(), "a", FLAGS, &beats).start();
    let led = beats.after(0, SOON).await;
    let mut second = beating(&store.url(), "b", FLAGS, &beats).start();
    second.logs("in the line").await;
    signal(guard_of(led.pid), Signal::KILL);
    beats.next(led.last).await;
    first.logs("GuardLost").await;
    first.stop().await;
    second.stop().await;
    beats.assert_one_at_a_time();
    assert_tokens_grow(&beats);
}

#[tokio::test]
async fn without_a_command_each_change_is_a_line() {
    let store = Folder::new();
    let elect = |id| agent(&store.url(), &["elect", "job", "--id", id]).name(id).start();
    let state = |lines: &[String]| -> Option<serde_json::Value> { serde_json::from_str(lines.last()?).ok() };
    let mut first = elect("a");
    let led = prints(&first, "a leads", |lines| state(lines).filter(|state| state["leader"] == true)).await;
    let second = elect("b");
    prints(&second, "b waits", |lines| state(lines).filter(|state| state["leader"] == false)).await;
    assert!(first.stop().await.success());
    let next = prints(&second, "b leads", |lines| state(lines).filter(|state| state["leader"] == true)).await;
    assert!(next["token"].as_u64() > led["token"].as_u64());
    assert_eq!(second.stdout().len(), 2, "one line a change: {:?}", second.stdout());
}

#[tokio::test]
async fn the_end_stops_the_command_with_its_grace_and_a_second_signal_does_not_wait() {
    let store = Folder::new();
    let script = "trap 'echo term' TERM; echo up; while :; do sleep 0.02; done";
    let mut candidate = agent(&store.url(), &["elect", "job", "--ttl", "60s", "--grace", "25s"])
        .args(["--", "/bin/sh", "-c", script])
        .start();
    prints(&candidate, "up", |lines| lines.contains(&"up".to_owned()).then_some(())).await;
    candidate.signal(Signal::TERM);
    prints(&candidate, "term", |lines| lines.contains(&"term".to_owned()).then_some(())).await;
    candidate.signal(Signal::TERM);
    assert_eq!(candidate.ended(SOON).await.code(), Some(1));
}

#[tokio::test]
async fn a_store_that_lost_its_data_ends_candidates_that_know_larger_tokens() {
    let mut etcd = EtcdServer::start().await;
    // Each write makes the next token larger.
    for port in ["1", "2", "3", "4", "5", "6"] {
        let words =
            ["register", "filler", "--address", "h", "--port", port, "--ttl", "2s", "--", "/bin/true"];
        done(&etcd.url(), &words).await;
    }
    let beats = Beats::new();
    let mut first = beating(&etcd.url(), "a", FLAGS, &beats).start();
    let led = beats.after(0, SOON).await;
    let mut told = agent(&etcd.url(), &["elect", "other", "--id", "c"]).args(FLAGS).name("c").start();
    let state = |lines: &[String]| -> Option<serde_json::Value> { serde_json::from_str(lines.last()?).ok() };
    prints(&told, "c leads", |lines| state(lines).filter(|state| state["leader"] == true)).await;
    etcd.restart_empty().await;
    let lost = now();
    for candidate in [&mut first, &mut told] {
        assert_eq!(candidate.ended(SOON).await.code(), Some(1));
        let log = candidate.log();
        assert!(
            log.iter().any(|line| line.contains("ERROR") && line.contains("it lost its data")),
            "{log:#?}"
        );
    }
    assert!(is_gone(led.pid));
    assert_eq!(state(&told.stdout()).unwrap()["leader"], false);
    // The line is left. Started anew, it leads.
    first.restart();
    let next = beats.next(lost).await;
    assert!(next.token < led.token, "{led:?}, then {next:?}: else nothing was tested");
    assert!(first.stop().await.success());
}
