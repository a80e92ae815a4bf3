//! The answers of the original keyrouter 0.2, as recorded from it, against the ring of that name.

use std::collections::HashSet;

use common::ring::{Algorithm, Answer, Rings, Router};
use serde_json::Value;

fn vectors() -> Value {
    serde_json::from_str(include_str!("data/keyrouter-0.2.json")).expect("a readable vector file")
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

fn text(value: &Value) -> &str {
    value.as_str().expect("a string")
}

/// The nodes after the last step. The original counts duplicates once.
fn nodes(scenario: &Value) -> Vec<&str> {
    let last = list(&scenario["steps"]).last().expect("a step");
    list(last).iter().map(text).collect()
}

fn unhex(hex: &str) -> Vec<u8> {
    (0..hex.len()).step_by(2).map(|at| u8::from_str_radix(&hex[at..at + 2], 16).expect("hex")).collect()
}

/// Lookups that agree, and all.
fn replay(scenario: &Value) -> (usize, usize) {
    let nodes = nodes(scenario);
    let mut seen = HashSet::new();
    let distinct: Vec<_> = nodes.iter().filter(|name| seen.insert(**name)).map(|&name| (name, 1.0)).collect();
    let rings = Rings::build(Algorithm::Keyrouter02, &distinct).expect("a good set");
    let plain =
        list(&scenario["lookups"]).iter().map(|lookup| (text(&lookup[0]).as_bytes().to_vec(), lookup));
    let hex = list(&scenario["lookups_hex"]).iter().map(|lookup| (unhex(text(&lookup[0])), lookup));
    let mut answer = Answer::new();
    let (mut same, mut all) = (0, 0);
    for (key, lookup) in plain.chain(hex) {
        let count = usize::try_from(lookup[1].as_i64().expect("a count")).unwrap_or(0);
        rings.route(&key, count, &mut answer);
        let found: Vec<_> = answer.nodes().iter().map(|&index| rings.name(index).expect("a node")).collect();
        let agrees = match lookup[2].as_array() {
            Some(expected) => {
                let place = |place: &Value| nodes[place.as_u64().expect("a place") as usize];
                found == expected.iter().map(place).collect::<Vec<_>>()
            }
            // The original's error; here the caller sees that the answer is too short.
            None => count > rings.len() && found.len() == rings.len(),
        };
        same += usize::from(agrees);
        all += 1;
    }
    (same, all)
}

#[test]
fn every_recorded_lookup_is_answered_the_same() {
    let vectors = vectors();
    let mut all = 0;
    for scenario in list(&vectors["scenarios"]) {
        let (same, of) = replay(scenario);
        assert_eq!(same, of, "scenario {}", scenario["name"]);
        all += of;
    }
    assert_eq!(all, 2179 + 85, "lookups by text and by hex");
}

/// `node-1` and `node-11` share replicas, and the original gives those to whichever was added last. Here
/// they go to the name that sorts last: the answers of the set that was added in ascending order.
#[test]
fn where_names_collide_the_answers_are_those_of_ascending_order() {
    let vectors = vectors();
    let [forward, reverse] = list(&vectors["history_dependent"]) else { panic!("two scenarios") };
    assert_eq!(replay(forward), (60, 60));
    let (same, of) = replay(reverse);
    assert!(same < of, "the original's answers depend on the order, {same} of {of} agree");
}
