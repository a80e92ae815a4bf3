//! Random scripts of faults against a few nodes.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use cluster::{SendError, Settings, Target};
use testkit::Rng;

use crate::check::Check;
use crate::world::{Seen, Way, World};

/// Faults in the ordinary run; `SIM_FAULTS` sets another number.
const FAULTS: u64 = 2000;
/// Of one world, so that a failing seed is short.
const PER_WORLD: u64 = 40;

/// Longer than any world lasts: nothing is given up then.
const LONG: Duration = Duration::from_secs(100_000);

fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

fn settings(rng: &mut Rng) -> Settings {
    Settings {
        ping_interval: ms(300),
        read_timeout: ms(1000),
        connect_interval: ms(300),
        connect_timeout: ms(1000),
        resend_for: if rng.percent(50) { LONG } else { ms(rng.within(500..5000)) },
        window_messages: rng.within(8..300) as usize,
        ..Settings::default()
    }
}

/// Runs one world; how many messages were delivered, told as lost, and joins.
fn world(seed: u64) -> (u64, u64, u64) {
    let mut rng = Rng::new(seed);
    let count = rng.within(2..6) as usize;
    let settings = settings(&mut rng);
    let keeps = settings.resend_for == LONG;
    let mut world = World::new(count, settings, (ms(0), ms(rng.within(1..20))), rng.fork());
    let mut check = Check::default();
    let (mut restarted, mut held) = (BTreeSet::new(), Held::new());
    let mut thaws: Vec<(Duration, usize)> = Vec::new();
    world.run_until(ms(rng.within(0..2000)));
    check.look(&mut world);
    for _ in 0..PER_WORLD {
        fault(&mut world, &mut rng, &mut restarted, &mut thaws);
        for _ in 0..rng.within(1..12) {
            traffic(&mut world, &mut rng, &mut held);
            let until = world.now + ms(rng.within(0..120));
            step(&mut world, &mut thaws, until);
            check.look(&mut world);
        }
    }
    for at in 0..count {
        world.thaw(at);
        world.start(at);
        world.nodes[at].appetite = usize::MAX;
        let names: Vec<_> = (0..count).filter(|other| *other != at).map(|other| world.name(other)).collect();
        for name in names {
            world.act(at, |core, now| core.admin_up(&name, now));
        }
    }
    world.heal();
    // Longer than any wait between attempts that refusals can have led to.
    for _ in 0..200 {
        let until = world.now + ms(400);
        world.run_until(until);
        check.look(&mut world);
        let at_rest = |at: usize| {
            let core = &world.nodes[at].core;
            core.members().count() == count - 1 && core.unacknowledged() == 0
        };
        if (0..count).all(at_rest) {
            break;
        }
    }
    // Until losses are told, and to see that it stays so.
    for _ in 0..8 {
        let until = world.now + ms(300);
        world.run_until(until);
        check.look(&mut world);
    }
    for at in 0..count {
        assert_eq!(
            world.nodes[at].core.members().count(),
            count - 1,
            "n{at} does not see all after the healing: {:#?}",
            world.nodes[at].core.status(world.now)
        );
        assert_eq!(world.nodes[at].core.unacknowledged(), 0, "n{at} has not got rid of all");
    }
    check.settle(&world, keeps, &restarted);
    (check.delivered, check.lost, check.joins)
}

fn step(world: &mut World, thaws: &mut Vec<(Duration, usize)>, until: Duration) {
    while let Some(at) = (0..thaws.len()).filter(|at| thaws[*at].0 <= until).min_by_key(|at| thaws[*at].0) {
        let (time, node) = thaws.swap_remove(at);
        world.run_until(time.max(world.now));
        world.thaw(node);
        world.start(node);
    }
    world.run_until(until);
}

fn fault(
    world: &mut World,
    rng: &mut Rng,
    restarted: &mut BTreeSet<usize>,
    thaws: &mut Vec<(Duration, usize)>,
) {
    let count = world.nodes.len() as u64;
    let one = rng.within(0..count) as usize;
    let other = ((one as u64 + rng.within(1..count)) % count) as usize;
    let name = world.name(other);
    match rng.within(0..16) {
        0 | 1 => world.reset(one, other),
        2 => world.set_way(one, other, Way::Cut),
        3 => world.set_way(one, other, Way::Silent),
        4..=6 => world.set_way(one, other, Way::Sound),
        7 => world.heal(),
        8 => {
            world.freeze(one);
            thaws.push((world.now + ms(rng.within(1..3000)), one));
        }
        9 => {
            world.kill(one);
            restarted.insert(one);
            thaws.push((world.now + ms(rng.within(0..3000)), one));
        }
        10 => world.nodes[one].appetite = *rng.pick(&[0, 1, 5, usize::MAX]),
        11 => drop(world.act(one, |core, now| core.reconnect(&name, now))),
        12 => drop(world.act(one, |core, now| core.admin_down(&name, now))),
        13 => drop(world.act(one, |core, now| core.admin_up(&name, now))),
        14 => drop(world.loses.insert((one, other))),
        _ => {
            let added = world.act(one, |core, now| {
                core.remove_node(&name, now);
                core.add_node(&name, "tcp://sim:1", now);
            });
            // What was under way may have arrived as well, both ways.
            restarted.extend(added.into_iter().flat_map(|()| [one, other]));
        }
    }
}

/// Since when a sender has been held up by a peer, in the time that the sender lived.
type Held = BTreeMap<(usize, u32, usize), Duration>;

/// Nobody who does not acknowledge holds a sender up for long.
fn held_up(world: &World, at: usize, held: &mut Held) {
    let Some((_, run, Seen::Sent { outcome, .. })) = world.seen.last() else { return };
    let lived = world.lived(at);
    match outcome {
        Err(SendError::Full(name)) => {
            let peer = world.index(name);
            let since = *held.entry((at, *run, peer)).or_insert(lived);
            let (waited, frozen) = (lived - since, world.frozen_for(peer));
            assert!(
                waited < ms(200) || frozen < ms(200),
                "n{at} held up for {waited:?} by n{peer}, {frozen:?} frozen"
            );
        }
        _ => held.retain(|(sender, ..), _| *sender != at),
    }
}

fn traffic(world: &mut World, rng: &mut Rng, held: &mut Held) {
    let count = world.nodes.len() as u64;
    let at = rng.within(0..count) as usize;
    for _ in 0..rng.within(0..30) {
        let to = ((at as u64 + rng.within(1..count)) % count) as usize;
        let target = if rng.percent(70) { Target::Cluster } else { Target::Node(world.name(to)) };
        world.send(at, target);
        held_up(world, at, held);
    }
}

#[test]
fn what_has_to_hold_holds_through_all_faults() {
    let wanted: u64 = std::env::var("SIM_FAULTS").ok().and_then(|text| text.parse().ok()).unwrap_or(FAULTS);
    let given = std::env::var("SIM_SEED").ok().and_then(|text| text.parse::<u64>().ok());
    let first = given.unwrap_or_else(testkit::seed);
    let start = Instant::now();
    let (mut delivered, mut lost, mut joins) = (0, 0, 0);
    let worlds = if given.is_some() { 1 } else { wanted.div_ceil(PER_WORLD) };
    for seed in first..first + worlds {
        let told = std::panic::catch_unwind(|| world(seed));
        let told = told.unwrap_or_else(|_| panic!("run again with SIM_SEED={seed}"));
        (delivered, lost, joins) = (delivered + told.0, lost + told.1, joins + told.2);
    }
    println!(
        "{} faults in {worlds} worlds in {:.1?}: {delivered} messages delivered, {lost} told as lost, {joins} joins",
        worlds * PER_WORLD,
        start.elapsed()
    );
    assert!(
        given.is_some() || (delivered > worlds && lost > 0 && joins > worlds),
        "faults and traffic did happen"
    );
}

#[test]
fn the_same_seed_makes_the_same_world() {
    assert_eq!(world(7), world(7));
}
