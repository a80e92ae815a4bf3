//! Random schedules of everything that can happen, held against heartbeat files.

use std::time::Duration;

use rustix::process::Signal;
use supervise::Boottime;
use testkit::{Rng, TempDir, eventually, patience, seed};

use crate::runner::Runner;
use crate::support::{Beats, LIMIT, PAUSE, SLACK, Test, alive, run, send, within};

/// How many schedules run, when `MUSTER_KILLS` does not say.
const SCHEDULES: u64 = 100;
/// So many at a time: most of a schedule is waiting.
const AT_A_TIME: usize = 8;
/// How soon all have to be dead when it is time.
const AT_ONCE: Duration = Duration::from_secs(1);
/// How long a guard may take to read what it was sent.
const MARGIN: Duration = Duration::from_millis(50);

pub(crate) fn tests() -> Vec<Test> {
    vec![("kills_and_freezes_by_random_schedules_hold_every_deadline", || {
        run(tokio::task::LocalSet::new().run_until(schedules()))
    })]
}

/// What a schedule promises of its beating processes.
#[derive(Clone, Copy, Debug)]
struct Promise {
    /// They live until here,
    until: Boottime,
    /// and are dead from here on.
    dead: Boottime,
}

/// A schedule under way.
struct Schedule {
    runner: Runner,
    guard: i32,
    lease: Duration,
    grace: Duration,
    /// From which instant before its deadline the child may end.
    leaves_early: Duration,
    /// The deadline that is surely in force, and the latest one that may be.
    sure: Boottime,
    latest: Boottime,
    frozen: bool,
    /// Set by what ends the child before its deadline.
    ended: Option<Promise>,
}

impl Schedule {
    /// One random act. `None` when it does not fit.
    async fn act(&mut self, act: u64) -> Option<&'static str> {
        let now = within(Duration::ZERO);
        let at_once = Promise { until: now, dead: now + patience(AT_ONCE) };
        match act {
            0..72 if !self.frozen => self.rearm(now).await?,
            72..77 if !self.frozen => {
                self.runner.tell("stop");
                self.ended = Some(Promise { until: now, dead: now + self.grace + patience(SLACK) });
                return Some("stop");
            }
            77..81 if !self.frozen => {
                self.runner.tell("kill");
                self.ended = Some(at_once);
                return Some("kill");
            }
            81..84 if !self.frozen => {
                send(self.guard, Signal::KILL);
                self.ended = Some(at_once);
                self.runner.says("ended ").await;
                return Some("guard killed");
            }
            84..88 => {
                let now = self.runner.kill9();
                self.ended = Some(Promise { until: now, dead: now + patience(AT_ONCE) });
                return Some("runner killed");
            }
            88..94 if !self.frozen => self.freeze(true),
            94..100 if self.frozen => self.freeze(false),
            _ => return None,
        }
        Some(if act < 72 { "rearm" } else { "freeze or go on" })
    }

    fn freeze(&mut self, frozen: bool) {
        self.runner.signal(if frozen { Signal::STOP } else { Signal::CONT });
        self.frozen = frozen;
    }

    /// A new deadline, which is sure when it was taken before the old one began to bite.
    async fn rearm(&mut self, now: Boottime) -> Option<()> {
        let bites = self.sure.earlier(self.grace);
        if now >= bites {
            return None;
        }
        let deadline = now + patience(self.lease);
        self.latest = self.latest.max(deadline);
        let order = format!("rearm {}", deadline.as_nanos());
        self.runner.tell(&order);
        self.runner.says(&format!("did {order}")).await;
        // The guard reads it within the margin, or this machine is too busy to tell.
        if within(MARGIN) < bites {
            self.sure = deadline;
        }
        Some(())
    }

    fn promise(&self) -> Promise {
        let until = self.sure.earlier(self.leaves_early);
        let dead = self.latest + patience(SLACK);
        match self.ended {
            Some(ended) => Promise { until: ended.until.min(until), dead: ended.dead.min(dead) },
            None => Promise { until, dead },
        }
    }
}

async fn schedules() {
    let mut rng = Rng::new(seed());
    let count = std::env::var("MUSTER_KILLS").ok().and_then(|text| text.parse().ok()).unwrap_or(SCHEDULES);
    let mut running = tokio::task::JoinSet::new();
    for number in 0..count {
        let rng = rng.fork();
        running.spawn_local(schedule(number, rng));
        if running.len() >= AT_A_TIME {
            running.join_next().await.unwrap().unwrap();
        }
    }
    while let Some(done) = running.join_next().await {
        done.unwrap();
    }
    say(count);
}

#[expect(clippy::print_stderr, reason = "the campaign counts the faults")]
fn say(count: u64) {
    eprintln!("kills={count}");
}

async fn schedule(number: u64, mut rng: Rng) {
    let dir = TempDir::new();
    let beats = [Beats::new(dir.join("child")), Beats::new(dir.join("stray"))];
    let deaf = rng.percent(60);
    let exits = rng.percent(20);
    let lease = Duration::from_millis(rng.within(500..700));
    let grace = Duration::from_millis(rng.within(0..200));
    let script = format!(
        "{} setsid $BEAT {} & {} $BEAT {}{}",
        if deaf { "trap '' TERM;" } else { "" },
        beats[1].path(),
        if exits { "" } else { "exec" },
        beats[0].path(),
        if exits { " & sleep 0.5; exit 3" } else { "" },
    );
    let begin = within(Duration::ZERO);
    let kill_at = begin + patience(lease);
    let runner = Runner::start(&script, kill_at, grace, None);
    let (_, guard) = runner.started().await;
    let leaves_early = if deaf { Duration::ZERO } else { grace };
    let (sure, latest) = (kill_at, kill_at);
    let mut schedule =
        Schedule { runner, guard, lease, grace, leaves_early, sure, latest, frozen: false, ended: None };
    let mut happened = format!("{number}: {lease:?} {grace:?} deaf={deaf} exits={exits}");
    for _ in 0..rng.within(1..16) {
        tokio::time::sleep(Duration::from_millis(rng.within(0..250))).await;
        let at = within(Duration::ZERO).since(begin);
        if let Some(act) = schedule.act(rng.within(0..100)).await {
            happened += &format!("; {act} at {at:?}");
        }
        if schedule.ended.is_some() {
            break;
        }
    }
    let over = format!("the guard to end in schedule {happened}");
    eventually(over, LIMIT, async || (!alive(guard)).then_some(())).await;
    for beats in &beats {
        beats.assert_dead();
        if beats.has_begun() {
            check(beats, schedule.promise(), exits, &happened);
        }
    }
}

/// Whatever happened, the deadline held; and until something ended the child, it lived.
fn check(beats: &Beats, promise: Promise, exits: bool, what: &str) {
    let (last, path) = (beats.last(), beats.path());
    assert!(last <= promise.dead, "{what}: {path} went on for {:?}", last.since(promise.dead));
    let early = promise.until.since(last);
    assert!(exits || early <= patience(PAUSE), "{what}: {path} ended {early:?} too early");
}
