//! What holds for every set of nodes and every key.

use std::collections::HashSet;

use common::ring::{Algorithm, Answer, Rings, Router, diff};

#[path = "support/random.rs"]
mod random;
use random::{Random, seed};

fn names(rings: &Rings, key: &[u8], max: usize, answer: &mut Answer) -> Vec<String> {
    rings.route(key, max, answer);
    answer.nodes().iter().map(|&index| rings.name(index).expect("a node").to_owned()).collect()
}

/// A random set of 1 to `most` nodes, with random weights where the algorithm takes them.
fn some_nodes(random: &mut Random, algorithm: Algorithm, most: usize) -> Vec<(String, f64)> {
    let n = 1 + random.below(most);
    let mut nodes = random.nodes(n);
    if algorithm != Algorithm::Keyrouter02 && random.below(2) == 0 {
        for (_, weight) in &mut nodes {
            *weight = [0.5, 1.0, 1.0, 2.0, 3.5, 16.0][random.below(6)];
        }
    }
    nodes
}

fn build(algorithm: Algorithm, nodes: &[(String, f64)]) -> Rings {
    Rings::build(algorithm, nodes).expect("a good set")
}

fn key(random: &mut Random) -> Vec<u8> {
    let length = random.below(40);
    (0..length).map(|_| random.next() as u8).collect()
}

/// Runs `check` on many sets of each algorithm.
fn each(name: &str, check: impl Fn(Algorithm, &mut Random, &mut Answer)) {
    let seed = seed(name);
    let mut answer = Answer::new();
    for algorithm in Algorithm::ALL {
        for round in 0..40 {
            let mut random = Random::new(seed.wrapping_add(round << 32));
            check(algorithm, &mut random, &mut answer);
        }
    }
}

#[test]
fn the_order_of_nodes_changes_no_answer() {
    each("order", |algorithm, random, answer| {
        let mut nodes = some_nodes(random, algorithm, 60);
        let rings = build(algorithm, &nodes);
        for last in (1..nodes.len()).rev() {
            nodes.swap(last, random.below(last + 1));
        }
        let shuffled = build(algorithm, &nodes);
        for _ in 0..20 {
            let key = key(random);
            let max = 1 + random.below(nodes.len());
            assert_eq!(names(&rings, &key, max, answer), names(&shuffled, &key, max, answer), "{algorithm}");
        }
    });
}

#[test]
fn nodes_are_distinct_and_a_longer_answer_begins_with_the_shorter() {
    each("prefix", |algorithm, random, answer| {
        let nodes = some_nodes(random, algorithm, 120);
        let rings = build(algorithm, &nodes);
        for _ in 0..8 {
            let key = key(random);
            let all = names(&rings, &key, usize::MAX, answer);
            assert_eq!(all.len(), nodes.len());
            assert_eq!(all.iter().collect::<HashSet<_>>().len(), nodes.len());
            for max in [0, 1, 2, 3, random.below(nodes.len() + 1)] {
                let max = max.min(nodes.len());
                assert_eq!(names(&rings, &key, max, answer), all[..max], "{algorithm}, {max}");
            }
        }
    });
}

/// Owner first: without it, the rest is the answer. For `ring`, while no node is held back.
#[test]
fn an_answer_without_a_node_is_the_answer_of_the_set_without_it() {
    each("removal", |algorithm, random, answer| {
        let mut nodes = some_nodes(random, algorithm, 60);
        if algorithm == Algorithm::Keyrouter02 || nodes.len() == 1 {
            return;
        }
        let rings = build(algorithm, &nodes);
        let (gone, _) = nodes.remove(random.below(nodes.len()));
        let fewer = build(algorithm, &nodes);
        assert_eq!(rings.held_back() + fewer.held_back(), 0, "{algorithm}");
        for _ in 0..20 {
            let key = key(random);
            let mut expected = names(&rings, &key, usize::MAX, answer);
            expected.retain(|name| *name != gone);
            assert_eq!(names(&fewer, &key, usize::MAX, answer), expected, "{algorithm}");
        }
    });
}

/// A node that gains weight takes keys and no other node does.
#[test]
fn more_weight_only_draws_keys_to_its_node() {
    each("weight", |algorithm, random, _| {
        let mut nodes = some_nodes(random, algorithm, 20);
        if algorithm == Algorithm::Keyrouter02 {
            return;
        }
        let old = build(algorithm, &nodes);
        let heavier = random.below(nodes.len());
        nodes[heavier].1 *= 1.5;
        let new = build(algorithm, &nodes);
        let keys = (0..200).map(|_| key(random));
        for (place, node) in diff(&old, &new, keys).nodes.iter().enumerate() {
            assert!(place == heavier || node.gained == 0, "{algorithm}: {node:?}");
            assert!(place != heavier || node.lost == 0, "{algorithm}: {node:?}");
        }
    });
}

/// Only ratios of weights matter, whatever their unit.
#[test]
fn weights_have_no_unit() {
    each("unit", |algorithm, random, answer| {
        let mut nodes = some_nodes(random, algorithm, 30);
        if algorithm == Algorithm::Keyrouter02 {
            return;
        }
        let rings = build(algorithm, &nodes);
        nodes.iter_mut().for_each(|(_, weight)| *weight *= 8.0);
        let scaled = build(algorithm, &nodes);
        for _ in 0..10 {
            let key = key(random);
            assert_eq!(names(&rings, &key, 7, answer), names(&scaled, &key, 7, answer), "{algorithm}");
        }
    });
}

#[test]
fn no_node_is_an_empty_answer_and_one_node_is_every_answer() {
    let mut answer = Answer::new();
    for algorithm in Algorithm::ALL {
        let none = Rings::build::<&str>(algorithm, &[]).expect("an empty set");
        none.route(b"key", 3, &mut answer);
        assert!(none.is_empty() && answer.nodes().is_empty() && answer.owner().is_none());
        let one = Rings::build(algorithm, &[("", 1.0)]).expect("a set of one");
        for max in [1, 2, usize::MAX] {
            one.route(b"key", max, &mut answer);
            assert_eq!(answer.nodes(), [0]);
        }
    }
}

/// These answers are a promise to those who run several routers of several versions: they never change.
#[test]
fn answers_of_this_version_stay_as_they_are() {
    let nodes: Vec<(String, f64)> = (0..7).map(|i| (format!("10.0.0.{i}:8080"), 1.0)).collect();
    let weighted: Vec<(String, f64)> =
        nodes.iter().zip([1.0, 2.0, 0.5, 1.0, 3.0, 1.0, 1.0]).map(|((n, _), w)| (n.clone(), w)).collect();
    let mut answer = Answer::new();
    let mut found = String::new();
    for (algorithm, nodes) in [
        (Algorithm::Ring, &nodes),
        (Algorithm::Ring, &weighted),
        (Algorithm::Rendezvous, &nodes),
        (Algorithm::Rendezvous, &weighted),
        (Algorithm::Keyrouter02, &nodes),
    ] {
        let rings = build(algorithm, nodes);
        for key in ["", "a", "session-1", "session-2", "\u{e9}", "a key that is longer than sixteen bytes"] {
            rings.route(key.as_bytes(), 4, &mut answer);
            found.extend(answer.nodes().iter().map(|node| char::from(b'0' + *node as u8)));
            found.push(' ');
        }
    }
    assert_eq!(found.trim(), FROZEN);
}

const FROZEN: &str = "4625 0425 1526 1506 6015 6142 4653 4052 1564 1540 6041 1645 0621 3241 6253 3140 3406 3126 \
                      0614 3412 6523 3140 4306 3162 5640 4023 3156 6402 6402 4023";
