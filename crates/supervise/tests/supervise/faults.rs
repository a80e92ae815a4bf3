//! Runner, guard and child killed and frozen.

use std::time::Duration;

use rustix::process::Signal;
use supervise::{Boottime, Error, Status, Why};
use testkit::{Rng, TempDir, eventually, patience};

use crate::runner::Runner;
use crate::support::{
    Beats, LIMIT, SLACK, Test, alive, carrying, end, far, run, send, shell, unlocked, within,
};

/// How soon all have to be dead when the runner is killed: much less than any deadline here.
const AT_ONCE: Duration = Duration::from_secs(1);

pub(crate) fn tests() -> Vec<Test> {
    vec![
        ("kills_of_the_runner_kill_the_child_at_once", || run(runner_killed())),
        ("kills_of_a_runner_that_starts_a_child_leave_nothing", || run(starting_runner_killed())),
        ("a_frozen_runners_child_dies_by_the_deadline_and_not_before", || run(runner_frozen())),
        ("kills_of_the_guard_kill_the_child_and_are_told", || run(guard_killed())),
        ("kills_of_the_guard_of_a_frozen_runner_kill_the_child", || run(guard_killed_runner_frozen())),
        ("a_frozen_guard_is_replaced_by_the_runner", || run(guard_frozen())),
        ("a_frozen_guard_is_found_while_renewals_go_on", || run(guard_frozen_renewals_go_on())),
        ("a_flood_of_renewals_is_confirmed_to_the_last", renewals_flood),
        ("a_deaf_guard_is_told_and_can_still_be_ended", || run(guard_deaf())),
        ("a_runner_within_a_runner_leaves_nothing", || run(nested())),
    ]
}

/// A child that is deaf to SIGTERM, and one of its descendants in a session of its own.
struct Pair {
    dir: TempDir,
    child: Beats,
    stray: Beats,
}

impl Pair {
    fn new() -> Self {
        let dir = TempDir::new();
        let (child, stray) = (Beats::new(dir.join("child")), Beats::new(dir.join("stray")));
        Self { dir, child, stray }
    }

    fn script(&self) -> String {
        format!("trap '' TERM; setsid $BEAT {} & exec $BEAT {}", self.stray.path(), self.child.path())
    }

    async fn begun(&self) {
        self.child.begun().await;
        self.stray.begun().await;
    }

    fn both(&self) -> [&Beats; 2] {
        [&self.child, &self.stray]
    }
}

async fn runner_killed() {
    for round in 0..5 {
        let pair = Pair::new();
        let lock = pair.dir.join("lock");
        let mut runner = Runner::start(&pair.script(), far(), LIMIT * 10, lock.to_str());
        let (child, guard) = runner.started().await;
        pair.begun().await;
        assert!(alive(child) && alive(guard) && !unlocked(&lock), "{round}");
        let killed = runner.kill9();
        // In a tight loop: at the first instant at which the lock is free, all have to be dead.
        while !unlocked(&lock) {
            assert!(within(Duration::ZERO).since(killed) < patience(LIMIT), "the lock stays");
        }
        pair.both().into_iter().for_each(Beats::assert_dead);
        pair.both().into_iter().for_each(|beats| beats.assert_silent_after(killed + patience(AT_ONCE)));
        eventually("the guard to end", LIMIT, async || (!alive(guard)).then_some(())).await;
    }
}

/// At every instant of the start: before the guard is there, before the child is, before exec.
async fn starting_runner_killed() {
    let mut rng = Rng::from_env();
    for round in 0..60 {
        let pair = Pair::new();
        let mut runner = Runner::start(&pair.script(), far(), LIMIT * 10, None);
        tokio::time::sleep(Duration::from_micros(rng.within(0..20_000))).await;
        runner.kill9();
        // Runner, guard and children: all of them have it in their environment.
        let left = || carrying(pair.child.path());
        eventually(format!("nothing to be left of round {round}"), LIMIT, async || {
            left().is_empty().then_some(())
        })
        .await;
    }
}

async fn runner_frozen() {
    let pair = Pair::new();
    let (time, grace) = (Duration::from_millis(2000), Duration::from_millis(700));
    let deadline = within(time);
    let runner = Runner::start(&pair.script(), deadline, grace, None);
    let (_, guard) = runner.started().await;
    pair.begun().await;
    runner.signal(Signal::STOP);
    eventually("the guard to end", LIMIT, async || (!alive(guard)).then_some(())).await;
    for beats in pair.both() {
        beats.assert_dead();
        beats.assert_silent_after(deadline + patience(SLACK));
    }
    pair.child.assert_beat_until(deadline);
    runner.signal(Signal::CONT);
    let told = runner.says("ended ").await;
    assert_eq!(told, "Signal(9) DeadlineReached 1");
}

async fn guard_killed() {
    let pair = Pair::new();
    let child = shell(&pair.script()).grace(LIMIT * 10).spawn(far()).await.unwrap();
    pair.begun().await;
    let killed = within(Duration::ZERO);
    send(child.guard_pid(), Signal::KILL);
    let exit = end(&child).await;
    assert_eq!((exit.status, exit.why, exit.strays), (Status::Unknown, Why::GuardLost, 1));
    for beats in pair.both() {
        beats.assert_dead();
        beats.assert_silent_after(killed + patience(AT_ONCE));
    }
    assert!(matches!(child.rearm(far()), Err(Error::Gone)));
}

/// The runner can do nothing, so it is the child's parent-death signal that works. What the child leaves behind
/// has to wait for the runner.
async fn guard_killed_runner_frozen() {
    let pair = Pair::new();
    let runner = Runner::start(&pair.script(), far(), LIMIT * 10, None);
    let (child, guard) = runner.started().await;
    pair.begun().await;
    runner.signal(Signal::STOP);
    let killed = within(Duration::ZERO);
    send(guard, Signal::KILL);
    eventually("the child to die", LIMIT, async || (!alive(child)).then_some(())).await;
    pair.child.assert_silent_after(killed + patience(AT_ONCE));
    runner.signal(Signal::CONT);
    assert_eq!(runner.says("ended ").await, "Unknown GuardLost 1");
    pair.both().into_iter().for_each(Beats::assert_dead);
}

async fn guard_frozen() {
    let pair = Pair::new();
    let deadline = within(Duration::from_millis(1000));
    let child = shell(&pair.script()).spawn(deadline).await.unwrap();
    pair.begun().await;
    send(child.guard_pid(), Signal::STOP);
    let exit = end(&child).await;
    assert_eq!((exit.why, exit.strays), (Why::GuardLost, 1));
    for beats in pair.both() {
        beats.assert_dead();
        // A quarter of a second is the runner's patience with its guard.
        beats.assert_silent_after(deadline + Duration::from_millis(250) + patience(SLACK));
        beats.assert_beat_until(deadline);
    }
}

/// Renewals that a frozen guard has in its queue do not count: it is found by the last one that it confirmed,
/// whether the child lives on or has ended meanwhile.
async fn guard_frozen_renewals_go_on() {
    for ends in [false, true] {
        let pair = Pair::new();
        let lease = patience(Duration::from_millis(1500));
        let child = shell(&pair.script()).spawn(within(lease)).await.unwrap();
        pair.begun().await;
        child.rearm(within(lease)).unwrap();
        // The guard takes it in before it is frozen.
        tokio::time::sleep(patience(Duration::from_millis(200))).await;
        send(child.guard_pid(), Signal::STOP);
        let latest = within(lease);
        if ends {
            send(child.pid(), Signal::KILL);
        }
        let mut renewals = 0;
        // Far fewer than fill the guard's queue.
        while !child.is_stopping() && renewals < 200 {
            renewals += 1;
            // Refused once the guard is gone.
            let _ = child.rearm(within(lease));
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        assert!((5..200).contains(&renewals), "it was given up after {renewals} renewals");
        let exit = end(&child).await;
        assert_eq!((exit.why, exit.status), (Why::GuardLost, Status::Unknown), "{renewals} renewals");
        for beats in pair.both() {
            beats.assert_dead();
            beats.assert_silent_after(latest + Duration::from_millis(250) + patience(SLACK));
        }
    }
}

/// On one thread, so that the driver reads nothing while the renewals are sent: more answers than the socket
/// holds, of which the last one has to come all the same.
fn renewals_flood() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let pair = Pair::new();
        let lease = patience(Duration::from_secs(2));
        let child = shell(&pair.script()).spawn(within(lease)).await.unwrap();
        pair.begun().await;
        // One at a time, or the guard would answer many at once; the guard has time to answer the last one, too.
        for number in 1..=2000 {
            let deadline = if number < 2000 { within(lease) } else { far() };
            child.rearm(deadline).unwrap();
            std::thread::sleep(Duration::from_micros(if number < 2000 { 200 } else { 200_000 }));
        }
        let ended = tokio::time::timeout(lease + Duration::from_secs(1), child.wait()).await;
        assert!(ended.is_err(), "the guard was taken for frozen: {ended:?}");
    });
}

async fn guard_deaf() {
    let pair = Pair::new();
    let child = shell(&pair.script()).spawn(far()).await.unwrap();
    pair.begun().await;
    send(child.guard_pid(), Signal::STOP);
    let refused = (0..100_000).find_map(|_| child.rearm(far()).err());
    assert!(matches!(refused, Some(Error::Deaf)), "{refused:?}");
    child.kill().unwrap();
    assert_eq!(end(&child).await.why, Why::GuardLost);
    pair.both().into_iter().for_each(Beats::assert_dead);
}

/// The child is itself a runner with a guard and a child, and a descendant of that hides from its session.
async fn nested() {
    for kill_guard in [false, true] {
        let pair = Pair::new();
        let inner = format!(
            "export KILL_AT={} GRACE=0 LOCK= SCRIPT=\"$INNER\"; exec {} role:runner <$0",
            Boottime::NEVER.as_nanos(),
            crate::support::exe()
        );
        // Its stdin is a pipe that stays open as long as it lives.
        let spec = shell("mkfifo $FIFO; exec 5<>$FIFO; exec /bin/sh -c \"$OUTER\" $FIFO").env("OUTER", inner);
        let spec = spec.env("INNER", pair.script()).env("FIFO", pair.dir.join("fifo"));
        let child = spec.stdout(supervise::Io::Null).spawn(far()).await.unwrap();
        pair.begun().await;
        if kill_guard {
            send(child.guard_pid(), Signal::KILL);
        } else {
            child.kill().unwrap();
        }
        end(&child).await;
        pair.both().into_iter().for_each(Beats::assert_dead);
    }
}
