//! Random faults against three runners and a real Redis: never two children at a time, and always one again.
//!
//! `MUSTER_KILLS` is the number of faults, `SEED` plays a run again. With `MUSTER_KILLS` the contract's bound on
//! each gap is asserted, with [`SLACK`] for a machine that shares its processors; without, ten times that.

use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use testkit::beats::now;
use testkit::{Beats, FaultLink, Process, RedisServer, Rng, patience};

use crate::harness::{EXPIRY, SHARED, Setup, tell_redis};

/// From the end of the last fault: the lease's expiry, the hand-over, and the child's start.
const BOUND: Duration = Duration::from_millis(1000 + 100 + 150);
/// How much later this machine may wake, start and write, while others use it.
const SLACK: Duration = Duration::from_millis(300);

struct Field {
    redis: RedisServer,
    links: Vec<FaultLink>,
    runners: Vec<Process>,
    beats: Beats,
    rng: Rng,
}

impl Field {
    async fn new(redis: RedisServer, rng: Rng) -> Self {
        let beats = Beats::new();
        let links: Vec<FaultLink> = (0..3).map(|_| FaultLink::to(redis.addr())).collect();
        let start = |(index, link): (usize, &FaultLink)| {
            let lock = format!("redis://{}", link.addr());
            Setup::over(&lock).flags(&["--grace", "200ms"]).beating(&beats).start(&format!("runner-{index}"))
        };
        let runners = links.iter().enumerate().map(start).collect();
        Self { redis, links, runners, beats, rng }
    }

    /// The child that beats now, if one does.
    fn beating(&self) -> Option<i32> {
        let recent = now() - 50_000_000;
        self.beats.lives().into_iter().find(|life| life.last > recent).map(|life| life.pid)
    }

    /// The runner whose child beats; else any.
    fn holder(&mut self) -> usize {
        let guard = self.beating().and_then(parent);
        let runner = guard.and_then(parent);
        let found = self.runners.iter().position(|process| Some(process.pid().cast_signed()) == runner);
        found.unwrap_or_else(|| self.any())
    }

    fn any(&mut self) -> usize {
        usize::try_from(self.rng.within(0..3)).unwrap()
    }

    async fn a_while(&mut self, most_ms: u64) {
        tokio::time::sleep(Duration::from_millis(self.rng.within(5..most_ms))).await;
    }

    /// One fault from its begin to its end; its name.
    async fn fault(&mut self) -> &'static str {
        let victim = if self.rng.within(0..4) == 0 { self.any() } else { self.holder() };
        match self.rng.within(0..12) {
            0 | 1 => {
                self.runners[victim].kill9();
                self.a_while(300).await;
                self.runners[victim].restart();
                "kill -9"
            }
            2 | 3 => {
                self.runners[victim].sigstop();
                self.a_while(2500).await;
                self.runners[victim].sigcont();
                "stopped and continued"
            }
            4 => {
                self.runners[victim].stop().await;
                self.runners[victim].restart();
                "SIGTERM"
            }
            5 => {
                self.links[victim].cut();
                self.a_while(2500).await;
                self.links[victim].heal();
                "link cut"
            }
            6 => {
                self.links[victim].blackhole();
                self.a_while(2500).await;
                self.links[victim].heal();
                "link frozen"
            }
            7 => {
                self.links[victim].delay(Duration::from_millis(150));
                self.a_while(2500).await;
                self.links[victim].heal();
                "link slow"
            }
            8 => {
                if let Some(guard) = self.beating().and_then(parent) {
                    // It may have ended since.
                    let _ = Pid::from_raw(guard).map(|guard| kill_process(guard, Signal::KILL));
                }
                "guard killed"
            }
            _ => self.store_fault().await,
        }
    }

    async fn store_fault(&mut self) -> &'static str {
        match self.rng.within(0..4) {
            0 => {
                tell_redis(self.redis.addr(), "CLIENT KILL TYPE normal SKIPME yes").await;
                "CLIENT KILL"
            }
            1 => {
                tell_redis(self.redis.addr(), "FLUSHALL").await;
                "FLUSHALL"
            }
            2 => {
                self.redis.process().sigstop();
                self.a_while(1500).await;
                self.redis.process().sigcont();
                "redis stopped and continued"
            }
            _ => {
                self.redis.process().kill9();
                self.a_while(1000).await;
                self.redis.restart().await;
                "redis restarted"
            }
        }
    }
}

fn parent(pid: i32) -> Option<i32> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    stat.rsplit_once(") ")?.1.split(' ').nth(1)?.parse().ok()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn random_faults_never_give_two_children_and_always_one_again() {
    let redis = RedisServer::start().await;
    let given = std::env::var("MUSTER_KILLS").ok().map(|text| text.parse::<u32>().unwrap());
    let bound = patience(if given.is_some() { BOUND + SLACK } else { BOUND * SHARED });
    let (seed, count) = (testkit::seed(), given.unwrap_or(30));
    let mut field = Field::new(redis, Rng::new(seed)).await;
    field.beats.after(0, EXPIRY * SHARED).await;
    let mut longest = (Duration::ZERO, "none");
    for number in 0..count {
        field.a_while(1200).await;
        let fault = field.fault().await;
        // A second one upon the first, of the store, so that what a waiter believes is attacked too.
        let fault = if field.rng.within(0..4) == 0 { field.store_fault().await } else { fault };
        let ended = now();
        let waiting = Instant::now();
        let life = field.beats.after(ended, bound + Duration::from_secs(20)).await;
        let gap = Duration::from_nanos(life.first.saturating_sub(ended));
        assert!(gap <= bound, "seed {seed}, fault {number} ({fault}): no child for {gap:?} after its end");
        longest = longest.max((gap, fault));
        assert!(waiting.elapsed() < bound + Duration::from_secs(20));
    }
    for runner in &mut field.runners {
        runner.stop().await;
    }
    let children = field.beats.assert_one_at_a_time();
    eprintln!("kills={count} children={children} longest_gap={longest:?}");
}
