//! How children end while nothing is broken, and that nothing is left of them.

use std::os::fd::OwnedFd;
use std::process::Command;
use std::time::Duration;

use rustix::process::Signal;
use supervise::{Error, Io, Status, Why};
use testkit::{TempDir, eventually, patience};
use tokio::io::AsyncReadExt;

use crate::support::{
    Beats, LIMIT, SLACK, Test, alive, carrying, end, exe, far, run, send, shell, unlocked, within,
};

const GRACE: Duration = Duration::from_millis(300);

pub(crate) fn tests() -> Vec<Test> {
    vec![
        ("a_stop_is_a_sigterm_that_the_child_may_follow", || run(obedient())),
        ("a_child_that_ignores_sigterm_gets_sigkill_after_the_grace", || run(stubborn())),
        ("a_child_that_is_stopped_dies_all_the_same", || run(frozen_child())),
        ("descendants_in_other_sessions_die_too", || run(strays(false))),
        ("descendants_die_when_the_child_ends_by_itself", || run(strays(true))),
        ("processes_that_keep_forking_leave_none", || run(forkers())),
        ("moving_the_deadline_keeps_the_child_alive", || run(rearmed())),
        ("signals_reach_the_child", || run(signals())),
        ("a_dropped_handle_kills", || run(dropped())),
        ("a_dropped_start_leaves_nothing", || run(dropped_start())),
        ("what_the_guard_keeps_is_free_when_the_end_is_told", || run(kept())),
        ("a_lock_is_freed_for_all_when_the_deadline_ended_the_child", || run(freed())),
        ("two_hundred_cycles_leave_no_descriptor_and_no_zombie", cycles),
    ]
}

async fn obedient() {
    let script = "trap 'exit 7' TERM; echo ready; while :; do sleep 0.01; done";
    let mut child = shell(script).stdout(Io::Pipe).grace(LIMIT * 10).spawn(far()).await.unwrap();
    let mut ready = [0; 6];
    child.stdout().unwrap().read_exact(&mut ready).await.unwrap();
    assert!(!child.is_stopping());
    child.stop().unwrap();
    child.stopping().await;
    let exit = end(&child).await;
    assert_eq!((exit.status, exit.why), (Status::Code(7), Why::Stopped));
}

async fn stubborn() {
    let dir = TempDir::new();
    let beats = Beats::new(dir.join("beats"));
    let script = format!("trap '' TERM; exec $BEAT {}", beats.path());
    let child = shell(&script).grace(GRACE).spawn(far()).await.unwrap();
    beats.begun().await;
    let told = within(Duration::ZERO);
    child.stop().unwrap();
    let exit = end(&child).await;
    assert_eq!((exit.status, exit.why, exit.strays), (Status::Signal(9), Why::Stopped, 0));
    beats.assert_beat_until(told + GRACE);
    assert!(beats.last() > told + GRACE / 3, "it had no grace");
    beats.assert_silent_after(told + GRACE + patience(SLACK));
    beats.assert_dead();
}

async fn frozen_child() {
    for stop in [true, false] {
        let dir = TempDir::new();
        let beats = Beats::new(dir.join("beats"));
        let child = shell(&format!("trap '' TERM; exec $BEAT {}", beats.path())).grace(GRACE);
        let child = child.spawn(far()).await.unwrap();
        beats.begun().await;
        send(child.pid(), Signal::STOP);
        if stop {
            child.stop().unwrap()
        } else {
            child.kill().unwrap()
        }
        let exit = end(&child).await;
        assert_eq!((exit.status, exit.why), (Status::Signal(9), Why::Stopped));
        beats.assert_dead();
    }
}

/// Grandchildren in every way to get out of a group: a new session, forked twice, deaf to hangups, stopped, and
/// without the environment.
async fn strays(ends_itself: bool) {
    let dir = TempDir::new();
    let files: Vec<_> = (0..6).map(|number| Beats::new(dir.join(format!("{number}")))).collect();
    let path = |number: usize| files[number].path();
    let go = dir.join("go");
    let script = format!(
        "setsid $BEAT {} & (setsid sh -c '$BEAT {} & exit' &) & nohup $BEAT {} >/dev/null 2>&1 &
         setsid sh -c 'kill -STOP $$; exec $BEAT' & trap '' TERM; setsid env -i $BEAT {} & $BEAT {} &
         (exec setsid -f $BEAT {}) ; while ! [ -e {} ]; do sleep 0.01; done",
        path(0),
        path(1),
        path(2),
        path(3),
        path(4),
        path(5),
        go.display()
    );
    let child = shell(&script).grace(Duration::from_millis(50)).spawn(far()).await.unwrap();
    for beats in &files {
        beats.begun().await;
    }
    if ends_itself {
        std::fs::write(go, "").unwrap();
    } else {
        child.stop().unwrap();
    }
    let exit = end(&child).await;
    assert_eq!(exit.why, if ends_itself { Why::Exited } else { Why::Stopped });
    // The beating ones, but for those of the group that followed the SIGTERM; and the stopped one.
    assert!((5..=9).contains(&exit.strays), "{exit:?}");
    files.iter().for_each(Beats::assert_dead);
}

/// One that forks as fast as it can, and a tree of which each branches in two; all in sessions of their own.
const FAST: &str =
    "i=0; while [ $i -lt 1500 ]; do setsid sleep 120 & echo $! >>$PIDS; i=$(($i+1)); done; wait";
const TREE: &str = "echo $$ >>$PIDS; [ $1 -lt 5 ] && { setsid sh $0 $(($1+1)) & setsid sh $0 $(($1+1)) & }
    exec sleep 120";

async fn forkers() {
    for (script, enough) in [(TREE, 1), (TREE, 10), (TREE, 40), (FAST, 1), (FAST, 100)] {
        let dir = TempDir::new();
        let pids = dir.join("pids");
        let script = dir.write("fork", script);
        let spec = shell(&format!("exec sh {} 0", script.display())).env("PIDS", &pids);
        let child = spec.spawn(far()).await.unwrap();
        let seen = || {
            let text = std::fs::read_to_string(&pids).unwrap_or_default();
            text.lines().filter_map(|line| line.parse().ok()).collect::<Vec<i32>>()
        };
        eventually("processes to spread", LIMIT, async || (seen().len() >= enough).then_some(())).await;
        child.kill().unwrap();
        assert_eq!(end(&child).await.why, Why::Stopped);
        let left: Vec<_> = seen().into_iter().filter(|pid| alive(*pid)).collect();
        assert_eq!(left, Vec::<i32>::new(), "after {enough}");
        assert_eq!(carrying(pids.to_str().unwrap()), Vec::<i32>::new());
    }
}

async fn rearmed() {
    let dir = TempDir::new();
    let beats = Beats::new(dir.join("beats"));
    // Long against what a busy machine may lose, short against the whole.
    let (lease, whole) = (patience(Duration::from_millis(600)), patience(Duration::from_secs(3)));
    let child = shell(&format!("exec $BEAT {}", beats.path())).spawn(within(lease)).await.unwrap();
    let until = within(whole);
    while within(Duration::ZERO) < until {
        child.rearm(within(lease)).unwrap();
        tokio::time::sleep(lease / 60).await;
    }
    let deadline = within(lease);
    child.rearm(deadline).unwrap();
    let exit = end(&child).await;
    assert_eq!((exit.status, exit.why), (Status::Signal(9), Why::DeadlineReached));
    beats.assert_beat_until(deadline);
    beats.assert_silent_after(deadline + patience(SLACK));
}

async fn signals() {
    let script = "trap 'echo got' USR1; echo ready; while :; do sleep 0.01; done";
    let mut child = shell(script).stdout(Io::Pipe).spawn(far()).await.unwrap();
    let mut out = child.stdout().unwrap();
    let mut line = [0; 6];
    out.read_exact(&mut line).await.unwrap();
    child.signal(Signal::USR1.as_raw()).unwrap();
    out.read_exact(&mut line[..4]).await.unwrap();
    assert_eq!(&line[..4], b"got\n");
    assert!(matches!(child.signal(4711), Err(Error::Signal(4711))));
    assert!(!child.is_stopping());
}

async fn dropped() {
    let dir = TempDir::new();
    let beats = [Beats::new(dir.join("a")), Beats::new(dir.join("b"))];
    let script = format!("setsid $BEAT {} & trap '' TERM; exec $BEAT {}", beats[0].path(), beats[1].path());
    let child = shell(&script).grace(LIMIT * 10).spawn(far()).await.unwrap();
    for each in &beats {
        each.begun().await;
    }
    let guard = child.guard_pid();
    drop(child);
    eventually("all to be dead", LIMIT, async || (!alive(guard)).then_some(())).await;
    beats.iter().for_each(Beats::assert_dead);
}

async fn dropped_start() {
    let dir = TempDir::new();
    let text = dir.join("nothing-else-has-this-path");
    for wait in [0, 1, 3, 10, 30] {
        let spec = shell("setsid sleep 120 & exec sleep 120").env("TEXT", &text);
        let _ = tokio::time::timeout(Duration::from_millis(wait), spec.spawn(far())).await;
    }
    let left = || carrying(text.to_str().unwrap());
    eventually("nothing to be left", LIMIT, async || left().is_empty().then_some(())).await;
}

async fn kept() {
    let dir = TempDir::new();
    let path = dir.write("lock", "");
    let file = std::fs::File::open(&path).unwrap();
    rustix::fs::flock(&file, rustix::fs::FlockOperation::NonBlockingLockExclusive).unwrap();
    let spec = shell("setsid sleep 120 & exec sleep 120").keep(OwnedFd::from(file));
    let child = spec.spawn(far()).await.unwrap();
    drop(spec);
    assert!(!unlocked(&path), "the guard holds it alone");
    child.kill().unwrap();
    end(&child).await;
    assert!(unlocked(&path));
}

/// This process keeps a copy of the lock all the while, as a runner does that is stopped.
async fn freed() {
    let dir = TempDir::new();
    let path = dir.write("lock", "");
    let file = std::fs::File::open(&path).unwrap();
    let take = || rustix::fs::flock(&file, rustix::fs::FlockOperation::NonBlockingLockExclusive).unwrap();
    let spec = shell("exec sleep 120").unlock_last(file.try_clone().unwrap());
    take();
    let ended = spec.spawn(within(Duration::from_millis(400))).await.unwrap();
    assert!(!unlocked(&path));
    assert_eq!(end(&ended).await.why, Why::DeadlineReached);
    assert!(unlocked(&path), "the guard frees what a deadline ended");
    take();
    let stopped = spec.spawn(far()).await.unwrap();
    stopped.kill().unwrap();
    end(&stopped).await;
    assert!(!unlocked(&path), "and leaves the lock to a runner that acts itself");
}

fn cycles() {
    let output = Command::new(exe()).arg("role:cycles").output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let line = |begin: &str| text.lines().find_map(|line| line.strip_prefix(begin)).unwrap_or_default();
    let (before, after) = line("descriptors ").split_once(' ').unwrap_or_else(|| panic!("{text}"));
    assert_eq!(before, after);
    assert_eq!(line("children "), "[]");
}
