//! Three candidates on broken links, random faults: never two commands at a time, and always one again.
//!
//! `MUSTER_KILLS` is the number of faults, `SEED` plays a run again.

use std::time::Duration;

use testkit::beats::now;
use testkit::{Beats, EtcdServer, FaultLink, Process, Rng};

use crate::harness::beating;

/// The shortest ttl that etcd keeps.
const TTL: Duration = Duration::from_secs(2);
/// From the end of a fault until somebody leads, by the contract, with much patience for a shared machine.
const BOUND: Duration = Duration::from_millis(2500 * 10);

struct Field {
    links: Vec<FaultLink>,
    candidates: Vec<Process>,
    beats: Beats,
    rng: Rng,
}

impl Field {
    fn new(etcd: &EtcdServer, rng: Rng) -> Self {
        let beats = Beats::new();
        let links: Vec<FaultLink> = (0..3).map(|_| FaultLink::to(etcd.addr())).collect();
        let start = |(index, link): (usize, &FaultLink)| {
            let store = format!("etcd://{}", link.addr());
            let ttl = format!("{}s", TTL.as_secs());
            beating(&store, &format!("c{index}"), &["--ttl", &ttl, "--grace", "200ms"], &beats).start()
        };
        let candidates = links.iter().enumerate().map(start).collect();
        Self { links, candidates, beats, rng }
    }

    /// The candidate whose command beats now, if one does; else any.
    fn leader(&mut self) -> usize {
        let recent = now() - 50_000_000;
        let pid = self.beats.lives().into_iter().find(|life| life.last > recent).map(|life| life.pid);
        let agent = pid.and_then(parent).and_then(parent);
        let found = self.candidates.iter().position(|process| Some(process.pid().cast_signed()) == agent);
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
        let victim = if self.rng.within(0..4) == 0 { self.any() } else { self.leader() };
        match self.rng.within(0..8) {
            0..4 => {
                self.links[victim].cut();
                self.a_while(4000).await;
                self.links[victim].heal();
                "link cut"
            }
            4 => {
                self.links[victim].blackhole();
                self.a_while(4000).await;
                self.links[victim].heal();
                "link frozen"
            }
            5 => {
                self.candidates[victim].sigstop();
                self.a_while(4000).await;
                self.candidates[victim].sigcont();
                "stopped and continued"
            }
            6 => {
                self.candidates[victim].kill9();
                self.a_while(300).await;
                self.candidates[victim].restart();
                "kill -9"
            }
            _ => {
                self.links.iter().for_each(FaultLink::cut);
                self.a_while(4000).await;
                self.links.iter().for_each(FaultLink::heal);
                "all links cut"
            }
        }
    }
}

fn parent(pid: i32) -> Option<i32> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    stat.rsplit_once(") ")?.1.split(' ').nth(1)?.parse().ok()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn random_faults_never_give_two_commands_and_always_one_again() {
    let etcd = EtcdServer::start().await;
    let given = std::env::var("MUSTER_KILLS").ok().map(|text| text.parse::<u32>().unwrap());
    let (seed, count) = (testkit::seed(), given.unwrap_or(10));
    let mut field = Field::new(&etcd, Rng::new(seed));
    field.beats.after(0, BOUND).await;
    let mut longest = (Duration::ZERO, "none");
    for number in 0..count {
        field.a_while(1200).await;
        let fault = field.fault().await;
        let ended = now();
        let life = field.beats.after(ended, BOUND).await;
        let gap = Duration::from_nanos(life.first.saturating_sub(ended));
        eprintln!("seed {seed}, fault {number} ({fault}): led again after {gap:?}");
        longest = longest.max((gap, fault));
    }
    for candidate in &mut field.candidates {
        candidate.stop().await;
    }
    let commands = field.beats.assert_one_at_a_time();
    for pair in field.beats.lives().windows(2) {
        assert!(pair[0].token < pair[1].token, "seed {seed}: tokens: {pair:?}");
    }
    eprintln!("kills={count} commands={commands} longest_gap={longest:?}");
}
