//! How a full mesh grows: time to become whole, messages, and what flapping costs.

use std::time::{Duration, Instant};

use cluster::Settings;
use testkit::Rng;

use crate::check::Check;
use crate::world::{Way, World};

const STEP: Duration = Duration::from_millis(20);

fn whole(world: &World) -> bool {
    world.nodes.iter().all(|node| node.core.members().count() == world.nodes.len() - 1)
}

/// Until the mesh is whole: how long that took, and how many frames.
fn until_whole(world: &mut World, check: &mut Check) -> (Duration, u64) {
    let (start, frames) = (world.now, world.frames);
    while !whole(world) {
        assert!(world.now - start < Duration::from_secs(60), "the mesh does not become whole");
        let until = world.now + STEP;
        world.run_until(until);
        check.look(world);
    }
    (world.now - start, world.frames - frames)
}

fn pass(world: &mut World, check: &mut Check, time: Duration) {
    let until = world.now + time;
    while world.now < until {
        let until = world.now + STEP;
        world.run_until(until);
        check.look(world);
    }
}

/// A line of the table.
fn measure(count: usize, seed: u64) -> String {
    let start = Instant::now();
    let (least, most) = (Duration::from_micros(200), Duration::from_millis(2));
    let mut world = World::new(count, Settings::default(), (least, most), Rng::new(seed));
    let mut check = Check::default();
    let storm = until_whole(&mut world, &mut check);
    let before = world.frames;
    pass(&mut world, &mut check, Duration::from_secs(2));
    let idle = (world.frames - before) / 2;

    // A third is cut off from the others, then healed.
    let third = count / 3;
    let both = || (0..third).flat_map(move |one| (third..count).map(move |other| (one, other)));
    both().for_each(|(one, other)| world.set_way(one, other, Way::Cut));
    pass(&mut world, &mut check, Duration::from_secs(1));
    assert!(world.nodes[0].core.members().count() < count - 1, "the cut is seen");
    assert!(
        !world.nodes[0].core.quorum() && world.nodes[count - 1].core.quorum(),
        "the larger part has the quorum"
    );
    world.heal();
    let healed = until_whole(&mut world, &mut check);

    // Links of one node flap: each of them is reset once a second, for three seconds.
    let joins = check.joins;
    for round in 0..30 {
        (1..count).filter(|at| at % 10 == round % 10).for_each(|at| world.reset(0, at));
        pass(&mut world, &mut check, Duration::from_millis(100));
    }
    let flaps = check.joins - joins;
    let calm = until_whole(&mut world, &mut check);
    format!(
        "| {count} | {} | {:.2} s, {} | {idle} | {:.2} s, {} | {flaps}, {:.2} s | {:.0?} |",
        count * (count - 1) / 2,
        storm.0.as_secs_f64(),
        storm.1,
        healed.0.as_secs_f64(),
        healed.1,
        calm.0.as_secs_f64(),
        start.elapsed(),
    )
}

const HEAD: &str = "| nodes | links | join storm: time, frames | idle frames a second | a third cut off for 1 s, healed: time, frames | joins while one node's links flap, whole after | computed in |";

#[test]
fn a_mesh_of_thirty_becomes_whole_and_whole_again() {
    println!("{HEAD}\n{}", measure(30, testkit::seed()));
}

#[test]
#[ignore = "half a minute; SIM_NODES=1000 takes three of a processor, and 2 GiB. With --release --nocapture, the table in docs/design/cluster.md"]
fn meshes_that_grow() {
    println!("{HEAD}");
    let most = std::env::var("SIM_NODES").ok().and_then(|text| text.parse().ok()).unwrap_or(300);
    for count in [10, 100, 300, 1000].into_iter().filter(|count| *count <= most) {
        println!("{}", measure(count, 1));
    }
}
