//! One thing that goes wrong, and what comes of it.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use cluster::core::{Action, Conn, Core};
use cluster::{Event, Payload, Settings, Target};
use testkit::Rng;

use crate::world::{Seen, World};

fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

fn world(count: usize) -> World {
    let mut world = World::new(count, Settings::default(), (ms(0), ms(2)), Rng::new(3));
    world.run_until(ms(1000));
    world
}

fn members(world: &World, at: usize) -> usize {
    world.nodes[at].core.members().count()
}

/// What this node was told since the last time.
fn told(world: &World, at: usize) -> Vec<&Event> {
    world.seen.iter().filter_map(|(node, _, seen)| if *node == at { event(seen) } else { None }).collect()
}

fn event(seen: &Seen) -> Option<&Event> {
    match seen {
        Seen::Event(event) => Some(event),
        Seen::Sent { .. } => None,
    }
}

fn messages(world: &World, at: usize) -> Vec<(u64, u64)> {
    let of = |event: &&Event| match event {
        Event::Message(message) => Some((message.sequence, message.missed)),
        _ => None,
    };
    told(world, at).iter().filter_map(of).collect()
}

fn undelivered(world: &World, at: usize) -> u64 {
    let of = |event: &&Event| match event {
        Event::Undelivered(lost) => Some(lost.count),
        _ => None,
    };
    told(world, at).iter().filter_map(of).sum()
}

#[test]
fn a_node_that_was_removed_and_added_again_on_one_side_is_back() {
    for one in [0, 1] {
        let mut world = world(2);
        for _ in 0..100 {
            (0..2).for_each(|at| world.send(at, Target::Cluster));
        }
        world.run_until(ms(2000));
        let name = world.name(1 - one);
        world.act(one, |core, now| core.remove_node(&name, now));
        world.run_until(ms(2500));
        world.act(one, |core, now| core.add_node(&name, "tcp://sim:1", now));
        world.run_until(ms(8000));
        assert_eq!((members(&world, 0), members(&world, 1)), (1, 1));
        world.seen.clear();
        for _ in 0..50 {
            (0..2).for_each(|at| world.send(at, Target::Cluster));
        }
        world.run_until(ms(9000));
        for at in 0..2 {
            let came = messages(&world, at);
            assert_eq!(came.len(), 50, "{came:?}");
            assert!(came.iter().all(|(_, missed)| *missed == 0), "{came:?}");
            assert_eq!((undelivered(&world, at), world.nodes[at].core.unacknowledged()), (0, 0));
        }
    }
}

#[test]
fn what_is_sent_right_after_a_node_was_added_again_comes() {
    let mut world = world(2);
    (0..50).for_each(|_| world.send(0, Target::Cluster));
    world.run_until(ms(1500));
    let name = world.name(1);
    world.act(0, |core, now| core.remove_node(&name, now));
    world.act(0, |core, now| core.add_node(&name, "tcp://sim:1", now));
    world.seen.clear();
    (0..50).for_each(|_| world.send(0, Target::Cluster));
    world.run_until(ms(10_000));
    assert_eq!((messages(&world, 1).len(), undelivered(&world, 0)), (50, 0));
}

#[test]
fn a_node_that_starts_again_is_back_while_what_it_sent_before_is_unread() {
    let mut world = world(3);
    (1..3).for_each(|at| world.nodes[at].appetite = 0);
    world.send(0, Target::Cluster);
    for start in [2000, 4000, 6000] {
        world.run_until(ms(start));
        world.kill(0);
        world.run_until(ms(start + 500));
        world.start(0);
        world.run_until(ms(start + 1500));
        assert_eq!((members(&world, 0), members(&world, 1)), (2, 2));
        world.send(0, Target::Cluster);
    }
    world.run_until(ms(9000));
    // What the last run sent waits there until the first one's message is read; what the others sent is lost with them.
    assert_eq!(world.nodes[0].core.unacknowledged(), 2);
    world.seen.clear();
    world.nodes[1].appetite = usize::MAX;
    world.act(1, |_, _| ());
    world.run_until(ms(10_000));
    assert_eq!(messages(&world, 1), [(1, 0), (1, 0)], "of the first run and of the last");
    assert_eq!(world.nodes[0].core.unacknowledged(), 1);
}

#[test]
fn a_frame_that_is_lost_within_a_link_is_sent_again() {
    for more in [true, false] {
        let mut world = world(2);
        world.send(0, Target::Cluster);
        world.run_until(ms(1500));
        world.loses.insert((0, 1));
        world.send(0, Target::Cluster);
        assert!(world.loses.is_empty());
        world.run_until(ms(1510));
        if more {
            world.send(0, Target::Cluster);
        }
        world.run_until(ms(5000));
        let came: Vec<_> = (1..=2 + u64::from(more)).map(|sequence| (sequence, 0)).collect();
        assert_eq!(messages(&world, 1), came);
        assert_eq!((undelivered(&world, 0), world.nodes[0].core.unacknowledged()), (0, 0));
    }
}

#[test]
fn removing_a_node_does_not_flap_the_quorum() {
    let mut world = world(3);
    world.kill(2);
    world.run_until(ms(3000));
    world.seen.clear();
    let name = world.name(1);
    world.act(0, |core, now| core.remove_node(&name, now));
    assert_eq!(told(&world, 0), [&Event::Leave(name)], "one configured node is left: the quorum stays");
}

// --- a member that lies

fn hello(incarnation: u64, epoch: u64, seen: (u64, u64, u64)) -> Bytes {
    let mut bytes = vec![1_u8, 1];
    for number in [incarnation, epoch, 77, 1 << 22, 65_536, seen.0, seen.1, seen.2] {
        bytes.extend(number.to_be_bytes());
    }
    bytes.into()
}

fn liar() -> (Core, impl Fn(&mut Core) -> Vec<Action>) {
    let drain = |core: &mut Core| std::iter::from_fn(|| core.next_action()).collect::<Vec<_>>();
    let mut core = Core::new("b", 9, Settings::default());
    core.start();
    core.add_node(&Arc::from("a"), "tcp://x:1", ms(0));
    drain(&mut core);
    (core, drain)
}

fn lines(actions: &[Action]) -> Vec<&str> {
    let of = |action| match action {
        &Action::Tell(Event::Log(ref line)) => Some(&*line.message),
        _ => None,
    };
    actions.iter().filter_map(of).collect()
}

#[test]
fn a_greeting_that_acknowledges_what_was_never_sent_is_refused() {
    let (mut core, drain) = liar();
    let conn: Conn = core.accepted("a").unwrap();
    core.received(conn, hello(5, 1, (0, 0, 0)), ms(1));
    let welcome = drain(&mut core).into_iter().find_map(|action| match action {
        Action::Send { frame, .. } if frame[1] == 2 => Some(frame),
        _ => None,
    });
    let stream = u64::from_be_bytes(welcome.unwrap()[18..26].try_into().unwrap());
    for _ in 0..10 {
        core.offer(&Target::Cluster, &Payload::from("x"), ms(2)).unwrap();
    }
    let conn = core.accepted("a").unwrap();
    core.received(conn, hello(5, 2, (stream, 1000, 1000)), ms(3));
    assert_eq!(core.status(ms(4))[0].0.queue, 10, "nothing was released");
    let actions = drain(&mut core);
    assert!(lines(&actions)[0].contains("never sent"), "{actions:?}");
    assert!(actions.contains(&Action::HangUp(conn)));
}

#[test]
fn garbage_is_told_once_a_second() {
    let (mut core, drain) = liar();
    let mut told = Vec::new();
    for at in 0..3000 {
        let conn = core.accepted("a").unwrap();
        core.received(conn, Bytes::from_static(b"zz"), ms(at));
        let actions = drain(&mut core);
        told.extend(lines(&actions).into_iter().map(str::to_owned));
    }
    assert_eq!(told.len(), 3, "{told:?}");
    assert!(told[1].contains("999 times"), "{told:?}");
}
