//! The mapping of INFURA's keyrouter 0.2, answer for answer.
//!
//! It is the bounded-load ring of buraksezer/consistent as that program configured it: 15,739 partitions,
//! 51 replicas of each node, load 1.25, XXH64 with seed 0. The facts are those that can be observed from
//! outside; what makes it a poor ring (the owner comes last, and each owner has a single list of
//! successors) is part of the mapping and stays.

use twox_hash::XxHash64;

use super::answer::Answer;
use super::roster::{Roster, RosterError};

/// How many parts all keys fall into.
pub(super) const PARTITIONS: usize = 15_739;

/// How often a node stands on the ring on which partitions are dealt out.
const REPLICAS: u32 = 51;

/// Who owns each partition, and the one circle in which nodes follow each other.
#[derive(Debug)]
pub(super) struct Keyrouter02 {
    /// For each partition, the place of its owner in the circle. Empty without nodes.
    owners: Box<[u16]>,
    /// Ranks, in the order of the names' hashes.
    circle: Box<[u32]>,
}

impl Keyrouter02 {
    pub(super) fn new(roster: &Roster) -> Result<Self, RosterError> {
        for index in 0..roster.len() {
            if let (Some(name), Some(weight)) = (roster.name(index), roster.weight(index))
                && weight != 1.0
            {
                return Err(RosterError::WeightUnsupported { name: name.into(), index, weight });
            }
        }
        let names: Vec<&str> = roster.ranked_names().collect();
        let mut circle: Vec<u32> = (0u32..).take(names.len()).collect();
        circle.sort_by_key(|&rank| (hash(names[rank as usize].as_bytes()), rank));
        let owners = if names.is_empty() { Box::default() } else { deal(&names, &circle) };
        Ok(Self { owners, circle: circle.into() })
    }

    /// Leaves the ranks of `max` nodes in `answer`; `max` is at most the number of nodes, at least 1.
    pub(super) fn rank(&self, key: &[u8], max: usize, answer: &mut Answer) {
        let partition = (hash(key) % PARTITIONS as u64) as usize;
        // The node AFTER the owner comes first: so the original has it.
        let start = usize::from(self.owners[partition]) + 1;
        let (before, after) = self.circle.split_at(start);
        answer.nodes.extend(after.iter().chain(before).take(max));
    }

    pub(super) fn memory(&self) -> usize {
        size_of_val(&*self.owners) + size_of_val(&*self.circle)
    }
}

fn hash(bytes: &[u8]) -> u64 {
    XxHash64::oneshot(0, bytes)
}

/// Deals the partitions out, in their order: each goes to the first replica at or after its hash whose
/// node still has room.
fn deal(names: &[&str], circle: &[u32]) -> Box<[u16]> {
    let replicas = replicas(names, circle);
    let capacity = capacity(names.len());
    let mut room = vec![capacity; names.len()];
    // From each replica, the next whose node has room: itself, until the node is full. Paths are halved
    // as they are walked, so that even a nearly full ring is dealt out in milliseconds.
    let mut next: Vec<u32> = (0u32..).take(replicas.len()).collect();
    let mut owners = Vec::with_capacity(PARTITIONS);
    for partition in 0..PARTITIONS as u64 {
        let point = hash(&partition.to_le_bytes());
        let mut at = replicas.partition_point(|&(hash, _)| hash < point) % replicas.len();
        loop {
            let place = replicas[at].1;
            if room[usize::from(place)] > 0 {
                room[usize::from(place)] -= 1;
                owners.push(place);
                break;
            }
            if next[at] as usize == at {
                next[at] = ((at + 1) % replicas.len()) as u32;
            }
            let onward = next[at] as usize;
            next[at] = next[onward];
            at = onward;
        }
    }
    owners.into()
}

/// How many partitions a node takes at most. All nodes together always have room for all partitions:
/// checked for each possible `nodes`, 1 to [`PARTITIONS`], by a test.
fn capacity(nodes: usize) -> u32 {
    ((PARTITIONS / nodes) as f64 * 1.25).ceil() as u32
}

/// The replicas of all nodes, as hash and place in the circle, sorted by hash.
///
/// A replica is the hash of the name followed by a decimal number, without a separator, so that `node-1`
/// with 10 is `node-11` with 0. The original gives such a replica to whoever was added last; here it goes
/// to the name that sorts last, so that no history changes an answer. A digit is a single one from 1 to 5,
/// so that at least the ten replicas 0 to 9 are a name's own.
fn replicas(names: &[&str], circle: &[u32]) -> Vec<(u64, u16)> {
    let mut replicas = Vec::with_capacity(names.len() * REPLICAS as usize);
    let mut text = Vec::new();
    for (place, &rank) in circle.iter().enumerate() {
        for number in 0..REPLICAS {
            text.clear();
            text.extend_from_slice(names[rank as usize].as_bytes());
            text.extend_from_slice(number.to_string().as_bytes());
            replicas.push((hash(&text), rank, place as u16));
        }
    }
    replicas.sort_unstable_by_key(|&(hash, rank, _)| (hash, std::cmp::Reverse(rank)));
    replicas.dedup_by_key(|&mut (hash, ..)| hash);
    replicas.into_iter().map(|(hash, _, place)| (hash, place)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_is_room_for_every_partition_at_any_number_of_nodes() {
        for nodes in 1..=PARTITIONS {
            assert!(capacity(nodes) as usize * nodes >= PARTITIONS, "{nodes} nodes");
        }
    }

    #[test]
    fn the_greatest_set_is_dealt_out_and_the_next_is_refused() {
        let nodes: Vec<(String, f64)> = (0..=PARTITIONS).map(|i| (format!("n{i}x"), 1.0)).collect();
        let rings = |nodes| crate::ring::Rings::build(crate::ring::Algorithm::Keyrouter02, nodes);
        assert!(rings(&nodes[..PARTITIONS]).is_ok());
        assert!(matches!(rings(&nodes), Err(RosterError::TooManyNodes { count: 15_740, limit: 15_739 })));
    }

    #[test]
    fn a_weight_is_refused() {
        let rings = crate::ring::Rings::build(crate::ring::Algorithm::Keyrouter02, &[("a", 1.0), ("b", 2.0)]);
        assert!(matches!(rings, Err(RosterError::WeightUnsupported { index: 1, .. })));
    }
}
