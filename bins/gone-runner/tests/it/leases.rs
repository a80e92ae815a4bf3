//! Who runs when, with whole runners and real locks.

use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use testkit::beats::now;
use testkit::{Beats, ConsulServer, EtcdServer, RedisServer, TempDir, eventually};

use crate::harness::{EXPIRY, SHARED, SOON, Setup, call, holds, status};

fn since(earlier: u64, later: u64) -> Duration {
    Duration::from_nanos(later.saturating_sub(earlier))
}

fn signal(pid: i32, signal: Signal) {
    kill_process(Pid::from_raw(pid).unwrap(), signal).unwrap();
}

fn guard_of(child: i32) -> i32 {
    let stat = std::fs::read_to_string(format!("/proc/{child}/stat")).unwrap();
    stat.rsplit_once(") ").unwrap().1.split(' ').nth(1).unwrap().parse().unwrap()
}

fn is_gone(pid: i32) -> bool {
    !std::path::Path::new(&format!("/proc/{pid}")).exists()
}

#[tokio::test]
async fn one_of_two_runs_and_a_stop_hands_over_at_once() {
    let redis = RedisServer::start().await;
    let beats = Beats::new();
    let setup = Setup::over(&redis.url()).flags(&["--fresh"]).beating(&beats);
    let mut first = setup.start("first");
    holds(&mut first).await;
    let mut second = setup.start("second");
    let seen = eventually("the second to know who holds it", SOON, async || {
        let status = status(&mut second).await;
        status["holder"].is_string().then_some(status)
    })
    .await;
    assert_eq!(seen["state"], "waiting");
    assert_eq!(seen["holder"], status(&mut first).await["address"]);
    let ready = testkit::http::get(second.listening("api").await, "/readyz").await;
    assert_eq!(ready.status, 200, "a standby is ready: {}", ready.text());
    assert!(first.stop().await.success());
    let ended = beats.lives()[0].last;
    let successor = beats.next(ended).await;
    let took = since(ended, successor.first);
    assert!(took < Duration::from_millis(100) * SHARED, "the hand-over took {took:?}");
    assert!(second.stop().await.success());
    assert_eq!(beats.assert_one_at_a_time(), 2);
}

#[tokio::test]
async fn a_killed_runners_child_is_dead_before_the_next_starts() {
    for lock in ["redis", "file"] {
        let (redis, dir) = (RedisServer::start().await, TempDir::new());
        let url = if lock == "redis" { redis.url() } else { crate::harness::folder_lock(&dir) };
        let beats = Beats::new();
        let setup = Setup::over(&url).flags(&["--fresh"]).beating(&beats);
        let mut first = setup.start("first");
        let child = holds(&mut first).await;
        let mut second = setup.start("second");
        second.logs("listening").await;
        let killed = now();
        first.kill9();
        eventually("the child to be gone", SOON, async || is_gone(child).then_some(())).await;
        let successor = beats.next(killed).await;
        let took = since(killed, successor.first);
        assert!(took < (EXPIRY + Duration::from_millis(100)) * SHARED, "{lock}: fail-over took {took:?}");
        second.stop().await;
        assert_eq!(beats.assert_one_at_a_time(), 2, "{lock}");
    }
}

#[tokio::test]
async fn a_stopped_runners_child_dies_at_its_deadline_also_where_the_kernel_keeps_the_lock() {
    for lock in ["redis", "file"] {
        let (redis, dir) = (RedisServer::start().await, TempDir::new());
        let url = if lock == "redis" { redis.url() } else { crate::harness::folder_lock(&dir) };
        let beats = Beats::new();
        let setup = Setup::over(&url).flags(&["--fresh"]).beating(&beats);
        let mut first = setup.start("first");
        holds(&mut first).await;
        let mut second = setup.start("second");
        second.logs("listening").await;
        first.sigstop();
        let stopped = now();
        let successor = beats.next(stopped).await;
        let old = beats.lives()[0].clone();
        assert!(since(stopped, old.last) < EXPIRY, "{lock}: {old:?} beat on after {stopped}");
        // Awake again, it stands by and harms nobody.
        first.sigcont();
        eventually("the first to stand by", SOON, async || {
            let status = status(&mut first).await;
            (status["state"] == "waiting" && status["holder"].is_string()).then_some(())
        })
        .await;
        let later = beats.after(now(), SOON).await;
        assert_eq!(later.pid, successor.pid, "{lock}: the successor runs on");
        first.stop().await;
        second.stop().await;
        assert_eq!(beats.assert_one_at_a_time(), 2, "{lock}");
    }
}

#[tokio::test]
async fn a_killed_guard_takes_the_child_along_and_the_lease_goes_on_to_another() {
    let redis = RedisServer::start().await;
    let beats = Beats::new();
    let setup = Setup::over(&redis.url()).flags(&["--fresh"]).beating(&beats);
    let mut first = setup.start("first");
    let child = holds(&mut first).await;
    let mut second = setup.start("second");
    second.logs("listening").await;
    signal(guard_of(child), Signal::KILL);
    let killed = now();
    beats.next(killed).await;
    first.logs("GuardLost").await;
    first.stop().await;
    second.stop().await;
    beats.assert_one_at_a_time();
}

/// The runner renews on, so that only its guard's silence can tell it that something is wrong.
#[tokio::test]
async fn a_stopped_guard_gives_the_lease_away_whether_its_child_lives_or_not() {
    for ends in [false, true] {
        let redis = RedisServer::start().await;
        let beats = Beats::new();
        let setup = Setup::over(&redis.url()).flags(&["--fresh"]).beating(&beats);
        let mut first = setup.start("first");
        let child = holds(&mut first).await;
        let mut second = setup.start("second");
        second.logs("listening").await;
        signal(guard_of(child), Signal::STOP);
        if ends {
            signal(child, Signal::KILL);
        }
        let stopped = now();
        let successor = beats.next(stopped).await;
        let took = since(stopped, successor.first);
        assert!(took < (EXPIRY + Duration::from_millis(100)) * SHARED, "fail-over took {took:?}");
        first.logs("GuardLost").await;
        first.stop().await;
        second.stop().await;
        beats.assert_one_at_a_time();
    }
}

#[tokio::test]
async fn a_child_that_ignores_sigterm_is_killed_after_the_grace_with_its_descendants() {
    let dir = TempDir::new();
    let setup = Setup::in_folder(&dir).flags(&["--grace", "200ms"]);
    let mut runner = setup.shell("trap '' TERM; sleep 100 & sleep 100 & wait").start("runner");
    let child = holds(&mut runner).await;
    assert!(runner.stop().await.success());
    assert!(is_gone(child));
    let log = runner.log().join("\n");
    assert!(log.contains("Signal(9)") && log.contains("\"strays\":2"), "{log}");
}

#[tokio::test]
async fn a_lock_that_is_away_does_not_hold_up_the_end() {
    let mut redis = RedisServer::start().await;
    let flags = ["--fresh", "--expiry", "60s", "--drain-timeout", "300ms"];
    let mut runner = Setup::over(&redis.url()).flags(&flags).shell("exec sleep 100").start("runner");
    let child = holds(&mut runner).await;
    redis.process().kill9();
    // Far less than the lease, which nobody can be told of.
    assert!(runner.stop().await.success());
    assert!(is_gone(child));
}

#[tokio::test]
async fn another_expiry_for_the_same_id_is_refused() {
    let redis = RedisServer::start().await;
    let setup = Setup::over(&redis.url()).flags(&["--fresh"]).shell("exec sleep 100");
    let mut first = setup.start("first");
    holds(&mut first).await;
    let url = redis.url();
    let args = ["run", "--id", "job", "--lock", &url, "--expiry", "2s", "--", "true"];
    let output = call(&args, "").await;
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(78), "{said}");
    assert!(said.contains("with an expiry of 1s"), "{said}");
}

/// Kills the holder; another one has to follow, after the child's death and within this time.
async fn fails_over(lock: &str, expiry: &str, within: Duration) {
    let beats = Beats::new();
    let setup = Setup::over(lock).flags(&["--fresh", "--expiry", expiry]).beating(&beats);
    let mut first = setup.start("first");
    holds(&mut first).await;
    let mut second = setup.start("second");
    eventually("the second to know who holds it", SOON, async || {
        status(&mut second).await["holder"].is_string().then_some(())
    })
    .await;
    first.kill9();
    let killed = now();
    let next = async || beats.lives().into_iter().find(|life| life.first > killed);
    let successor = eventually("another child to beat", within * SHARED, next).await;
    let took = since(killed, successor.first);
    assert!(took < within * SHARED, "fail-over took {took:?}");
    assert!(status(&mut second).await["token"].as_u64() == Some(successor.token));
    assert!(second.stop().await.success());
    assert_eq!(beats.assert_one_at_a_time(), 2);
    let free = crate::harness::done(&["status", "--id", "job", "--lock", lock], "").await;
    assert!(free.starts_with("job: free"), "{free}");
}

#[tokio::test]
async fn a_killed_holder_is_followed_by_another_over_consul() {
    let consul = ConsulServer::start().await;
    // Twice the expiry and Consul's lock delay, by the contract.
    fails_over(&consul.url(), "10s", Duration::from_secs(35)).await;
}

#[tokio::test]
async fn a_killed_holder_is_followed_by_another_over_etcd() {
    let etcd = EtcdServer::start().await;
    fails_over(&etcd.url(), "2s", Duration::from_secs(5)).await;
}
