//! Thousands of seeded faults against the schedule of one node, in virtual time.
//!
//! `SEED=n` replays one seed, `SEEDS=n` tries so many (256 unless told).

#![expect(clippy::unwrap_used, reason = "a test that meets what it did not expect has failed")]

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use common::queue::Sequence;
use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};
use spawn_proxy::delivery::backoff::Backoff;
use spawn_proxy::delivery::path::ConflictPath;
use spawn_proxy::delivery::schedule::{Next, Outcome, Policy, Schedule};
use spawn_proxy::delivery::wellness::Tally;

const CHECK_EVERY: Duration = Duration::from_secs(10);
const UPDATES: u64 = 120;
const TARGETS: [&str; 6] = ["/users", "/users/1", "/users/2", "/orders/7", "/orders", "/x"];

/// What the simulated node does at a time.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Mood {
    Well,
    /// Answers everything, health checks included, with 503.
    Migrating,
    /// Answers updates with 503 while health checks pass.
    Refusing,
    /// Cannot be connected to; health checks fail.
    Gone,
}

struct World {
    rng: SmallRng,
    now: Duration,
    schedule: Schedule,
    policy: Policy,
    mood: Mood,
    mood_until: Duration,
    next_check: Duration,
    healthy: bool,
    tally: Tally,
    /// What is under way, and when it ends.
    under_way: BTreeMap<Sequence, Duration>,
    entered: u64,
    paths: BTreeMap<Sequence, ConflictPath>,
    finished: BTreeSet<Sequence>,
    given_up: Vec<Sequence>,
    /// Updates that this node alone always refuses.
    poison: BTreeSet<Sequence>,
    attempts: BTreeMap<Sequence, u32>,
    seed: u64,
}

impl World {
    fn new(seed: u64) -> Self {
        let mut rng = SmallRng::seed_from_u64(seed);
        let policy = Policy {
            concurrency: rng.random_range(1..9),
            max_attempts: 12,
            backoff: Backoff { first: Duration::from_millis(100), longest: Duration::from_secs(5) },
        };
        let poison = (1..=UPDATES).filter(|_| rng.random_bool(0.02)).map(Sequence).collect();
        Self {
            now: Duration::ZERO,
            schedule: Schedule::new(policy),
            policy,
            mood: Mood::Well,
            mood_until: Duration::from_secs(rng.random_range(1..30)),
            next_check: Duration::ZERO,
            healthy: true,
            tally: Tally::default(),
            under_way: BTreeMap::new(),
            entered: 0,
            paths: BTreeMap::new(),
            finished: BTreeSet::new(),
            given_up: Vec::new(),
            poison,
            attempts: BTreeMap::new(),
            seed,
            rng,
        }
    }

    fn enter(&mut self) {
        self.entered += 1;
        let sequence = Sequence(self.entered);
        let path = ConflictPath::of(TARGETS[self.rng.random_range(0..TARGETS.len())]);
        self.paths.insert(sequence, path.clone());
        self.schedule.enter(sequence, path, 0, 0, self.now);
    }

    fn send_due(&mut self) -> Option<Duration> {
        while self.healthy {
            match self.schedule.next(self.now, self.tally) {
                Next::Wait(until) => return until,
                Next::Send(sequence, number) => self.sent(sequence, number),
            }
        }
        None
    }

    fn sent(&mut self, sequence: Sequence, number: u32) {
        let seed = self.seed;
        let last = self.attempts.insert(sequence, number).unwrap_or(0);
        assert!(number > last, "seed {seed}: attempt {number} of {sequence} follows {last}");
        assert!(!self.finished.contains(&sequence), "seed {seed}: {sequence} was sent after it ended");
        for (earlier, path) in self.paths.range(..sequence) {
            let overtaken = path.conflicts_with(&self.paths[&sequence]) && !self.finished.contains(earlier);
            assert!(!overtaken, "seed {seed}: {sequence} was sent before {earlier} had ended");
        }
        let ends = self.now + Duration::from_millis(self.rng.random_range(1..200));
        assert!(
            self.under_way.insert(sequence, ends).is_none(),
            "seed {seed}: {sequence} is under way twice"
        );
        assert!(self.under_way.len() <= self.policy.concurrency, "seed {seed}: too many under way");
    }

    fn end(&mut self, sequence: Sequence) {
        self.under_way.remove(&sequence);
        let outcome = match self.mood {
            Mood::Gone => {
                self.healthy = false;
                // The attempt never left: its number is free again.
                self.attempts.entry(sequence).and_modify(|number| *number -= 1);
                Outcome::Unsent
            }
            Mood::Migrating | Mood::Refusing => self.refuse(),
            Mood::Well if self.poison.contains(&sequence) => self.refuse(),
            Mood::Well => {
                self.tally.fine += 1;
                self.finished.insert(sequence);
                Outcome::Answered
            }
        };
        self.schedule.done(sequence, outcome, self.now, &mut self.rng);
    }

    fn refuse(&mut self) -> Outcome {
        self.tally.failed += 1;
        let wish = self.rng.random_bool(0.1).then(|| Duration::from_secs(3));
        Outcome::Failed { retry_after: wish }
    }

    fn check(&mut self) {
        self.next_check = self.now + CHECK_EVERY;
        if matches!(self.mood, Mood::Gone | Mood::Migrating) {
            self.healthy = false;
            self.schedule.node_failed_check(self.now, self.tally);
            return;
        }
        self.healthy = true;
        for sequence in self.schedule.node_passed_check(self.now, self.tally) {
            assert!(
                self.schedule.attempts(sequence) >= self.policy.max_attempts,
                "seed {}: given up early",
                self.seed
            );
            self.schedule.finish(sequence, self.now);
            self.finished.insert(sequence);
            self.given_up.push(sequence);
        }
    }

    fn change_mood(&mut self) {
        self.mood = match self.rng.random_range(0..6) {
            0 => Mood::Migrating,
            1 => Mood::Refusing,
            2 => Mood::Gone,
            _ => Mood::Well,
        };
        self.mood_until = self.now + Duration::from_secs(self.rng.random_range(1..300));
    }

    /// Runs until all is finished; the last stretch is with a well node.
    fn run(&mut self) {
        let deadline = Duration::from_secs(24 * 3600);
        let calm_after = Duration::from_secs(4 * 3600);
        while self.finished.len() < UPDATES as usize {
            assert!(self.now < deadline, "seed {}: {} updates are stuck", self.seed, self.schedule.len());
            // A well node is asked for more than updates. (One that refuses several updates and is asked for
            // nothing else cannot be told from one that is unwell: its queue waits, as it should.)
            self.tally.fine += u64::from(self.mood == Mood::Well && self.rng.random_bool(0.2));
            if self.entered < UPDATES && self.rng.random_bool(0.5) {
                self.enter();
            }
            let due = self.send_due();
            let ends = self.under_way.values().min().copied();
            let times = [due, ends, Some(self.next_check), Some(self.mood_until)];
            let next = times.into_iter().flatten().min().unwrap_or(self.next_check);
            let arrives = self.now + Duration::from_millis(self.rng.random_range(1..500));
            self.now = if self.entered < UPDATES { next.min(arrives) } else { next }.max(self.now);
            let over: Vec<Sequence> =
                self.under_way.iter().filter(|(_, ends)| **ends <= self.now).map(|(s, _)| *s).collect();
            over.into_iter().for_each(|sequence| self.end(sequence));
            if self.now >= self.mood_until {
                self.change_mood();
                if self.now > calm_after {
                    self.mood = Mood::Well;
                }
            }
            if self.now >= self.next_check {
                self.check();
            }
        }
    }
}

fn seeds() -> Vec<u64> {
    match (std::env::var("SEED"), std::env::var("SEEDS")) {
        (Ok(seed), _) => vec![seed.parse().unwrap()],
        (_, Ok(count)) => (0..count.parse().unwrap()).collect(),
        _ => (0..256).collect(),
    }
}

#[test]
fn order_holds_nothing_is_lost_and_only_poison_is_given_up() {
    let mut given_up_poison = 0;
    for seed in seeds() {
        let mut world = World::new(seed);
        world.run();
        assert!(world.schedule.is_empty(), "seed {seed}");
        given_up_poison += world.given_up.iter().filter(|sequence| world.poison.contains(sequence)).count();
        let delivered_poison = world.poison.iter().find(|sequence| !world.given_up.contains(sequence));
        assert_eq!(delivered_poison, None, "seed {seed}: a poisonous update was not given up");
    }
    println!("{given_up_poison} poisonous updates given up");
}

/// A service that answers 503 to everything for five minutes while it migrates loses nothing.
#[test]
fn a_migrating_node_gives_nothing_up() {
    for seed in seeds() {
        let mut world = World::new(seed);
        world.poison.clear();
        world.mood = Mood::Migrating;
        world.mood_until = Duration::from_secs(300);
        (0..UPDATES).for_each(|_| world.enter());
        while world.now < world.mood_until {
            world.send_due();
            world.now += Duration::from_millis(20);
            let over: Vec<Sequence> =
                world.under_way.iter().filter(|(_, ends)| **ends <= world.now).map(|(s, _)| *s).collect();
            over.into_iter().for_each(|sequence| world.end(sequence));
            if world.now >= world.next_check {
                world.check();
            }
        }
        assert_eq!(world.given_up, [], "seed {seed}");
        world.mood = Mood::Well;
        world.mood_until = Duration::MAX;
        world.run();
        assert_eq!(world.given_up, [], "seed {seed}");
    }
}

#[test]
fn the_same_seed_makes_the_same_history() {
    let history = |seed| {
        let mut world = World::new(seed);
        world.run();
        (world.now, world.attempts, world.given_up)
    };
    assert_eq!(history(7), history(7));
}
