//! What an edit of a set of nodes moves.

use std::collections::HashMap;

use super::answer::Answer;
use super::rings::{Rings, Router};

/// What changed for the first-returned node of a set of keys. Counts are keys.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Diff {
    /// How many keys were looked up.
    pub keys: u64,
    /// How many have another first node now, had none before, or have none now.
    pub moved: u64,
    /// The part of all keys, 0 to 1, that had to move for every node to have its share by weight.
    pub needed: f64,
    /// The nodes of the old set in their order, then those that are new in theirs.
    pub nodes: Vec<NodeDiff>,
}

/// What changed for one node. Counts are keys.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct NodeDiff {
    /// Its name.
    pub name: Box<str>,
    /// Keys that it came first for, before.
    pub before: u64,
    /// Keys that it comes first for, now.
    pub after: u64,
    /// Keys that went from it to others.
    pub lost: u64,
    /// Keys that came to it from others.
    pub gained: u64,
}

impl Diff {
    /// `count` as a part of all keys, 0 to 1.
    #[must_use]
    pub fn share(&self, count: u64) -> f64 {
        if self.keys == 0 { 0.0 } else { count as f64 / self.keys as f64 }
    }

    /// The part of all keys, 0 to 1, that moved.
    #[must_use]
    pub fn moved_share(&self) -> f64 {
        self.share(self.moved)
    }
}

/// Looks up each of `keys` in both rings. Nodes are the same when their names are.
///
/// The rings may be of different algorithms. The error of a share p is about sqrt(p / number of keys).
pub fn diff<K: AsRef<[u8]>>(old: &Rings, new: &Rings, keys: impl IntoIterator<Item = K>) -> Diff {
    let mut diff = Diff::default();
    let mut places = HashMap::new();
    let old_places = enroll(old, &mut places, &mut diff.nodes);
    let new_places = enroll(new, &mut places, &mut diff.nodes);
    diff.needed = needed(&[(old, &old_places), (new, &new_places)], diff.nodes.len());
    let mut answer = Answer::new();
    let mut first = |rings: &Rings, places: &[usize], key: &[u8]| {
        rings.route(key, 1, &mut answer);
        answer.owner().map(|index| places[index as usize])
    };
    for key in keys {
        let before = first(old, &old_places, key.as_ref());
        let after = first(new, &new_places, key.as_ref());
        diff.keys += 1;
        diff.moved += u64::from(before != after);
        if let Some(place) = before {
            diff.nodes[place].before += 1;
            diff.nodes[place].lost += u64::from(before != after);
        }
        if let Some(place) = after {
            diff.nodes[place].after += 1;
            diff.nodes[place].gained += u64::from(before != after);
        }
    }
    diff
}

/// For each node of `rings`, its place in `nodes`, where it is added unless its name is there.
fn enroll<'a>(
    rings: &'a Rings,
    places: &mut HashMap<&'a str, usize>,
    nodes: &mut Vec<NodeDiff>,
) -> Vec<usize> {
    let names = (0..rings.len() as u32).filter_map(|index| rings.name(index));
    let place = |name: &'a str| {
        *places.entry(name).or_insert_with(|| {
            nodes.push(NodeDiff { name: name.into(), ..NodeDiff::default() });
            nodes.len() - 1
        })
    };
    names.map(place).collect()
}

/// The greater of what nodes have too much before and of what they have too little: with nodes on both
/// sides these are equal.
fn needed(sides: &[(&Rings, &[usize]); 2], nodes: usize) -> f64 {
    let [before, after] = sides.map(|(rings, places)| {
        let weights = || (0u32..).map_while(|index| rings.weight(index));
        let total: f64 = weights().sum();
        let mut shares = vec![0.0; nodes];
        places.iter().zip(weights()).for_each(|(&place, weight)| shares[place] = weight / total);
        shares
    });
    let (mut excess, mut lack) = (0.0, 0.0);
    for (before, after) in before.iter().zip(&after) {
        excess += f64::max(before - after, 0.0);
        lack += f64::max(after - before, 0.0);
    }
    excess.max(lack)
}

#[cfg(test)]
mod tests {
    use super::super::Algorithm;
    use super::*;

    fn rings(nodes: &[(&str, f64)]) -> Rings {
        Rings::build(Algorithm::Rendezvous, nodes).expect("a good set")
    }

    fn keys() -> impl Iterator<Item = String> {
        (0..20_000).map(|i| format!("key-{i}"))
    }

    #[test]
    fn a_replaced_node_gives_its_keys_and_no_others() {
        let old = rings(&[("a", 1.0), ("b", 1.0), ("c", 2.0)]);
        let new = rings(&[("d", 1.0), ("c", 2.0), ("a", 1.0)]);
        let diff = diff(&old, &new, keys());
        let names: Vec<_> = diff.nodes.iter().map(|node| &*node.name).collect();
        assert_eq!(names, ["a", "b", "c", "d"]);
        assert_eq!((diff.keys, diff.nodes[1].after, diff.nodes[3].before), (20_000, 0, 0));
        assert_eq!(diff.nodes[1].lost, diff.nodes[1].before);
        assert_eq!(diff.nodes[3].gained, diff.nodes[3].after);
        assert!((diff.needed - 0.25).abs() < 1e-12);
        for node in &diff.nodes {
            assert_eq!(node.before + node.gained, node.after + node.lost);
        }
        assert_eq!(diff.moved, diff.nodes.iter().map(|node| node.lost).sum::<u64>());
    }

    #[test]
    fn nothing_to_something_moves_everything_and_nothing_to_nothing_nothing() {
        let (none, some) = (rings(&[]), rings(&[("a", 1.0)]));
        assert_eq!(diff(&none, &some, keys()).moved_share(), 1.0);
        assert_eq!(diff(&none, &some, keys()).needed, 1.0);
        assert_eq!(diff(&some, &none, keys()).moved_share(), 1.0);
        let same = diff(&none, &none, keys());
        assert_eq!((same.moved, same.needed), (0, 0.0));
        assert_eq!(diff(&some, &some, [""; 0]).moved_share(), 0.0);
    }
}
