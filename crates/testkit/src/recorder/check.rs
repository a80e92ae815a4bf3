//! What must hold over the records of all nodes: nothing missing, nothing out of order, no odd duplicates.

use std::collections::{HashMap, HashSet};

use super::record::Entry;

/// An update that reached a node after a conflicting one that stands behind it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Inversion {
    /// The node, by its place in what was checked.
    pub node: usize,
    /// The path of the late one.
    pub path: String,
    /// What came too early: `Spawn-Sequence`, or the place in the first node's order.
    pub ahead: u64,
    /// What came after it.
    pub late: u64,
}

/// An update that a node took in twice without being told that it is the same one again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Duplicate {
    /// The node, by its place in what was checked.
    pub node: usize,
    /// The key, or empty.
    pub key: String,
    /// `Spawn-Sequence`.
    pub sequence: Option<u64>,
    /// The attempts of the two, in order of arrival.
    pub attempts: (Option<u64>, Option<u64>),
}

/// Every place where updates that conflict reached a node in another order than the log's.
///
/// Two updates conflict when their paths are equal or one is a segment prefix of the other. Each node's
/// arrivals, failed attempts included, are held against `Spawn-Sequence`; and what the nodes took in is held
/// against the first node's order by key, which also catches sequences that were given twice.
pub fn inversions_per_path(nodes: &[Vec<Entry>]) -> Vec<Inversion> {
    let mut found = Vec::new();
    for (node, entries) in nodes.iter().enumerate() {
        let numbered = entries.iter().filter_map(|entry| Some((entry.path(), entry.sequence?)));
        against_numbers(node, numbered, &mut found);
    }
    let Some((first, others)) = nodes.split_first() else { return found };
    let mut place = HashMap::new();
    for (at, entry) in (0..).zip(first_taken_in(first)) {
        place.entry(name_of(entry)).or_insert(at);
    }
    for (node, entries) in (1..).zip(others) {
        let known = first_taken_in(entries).into_iter();
        let numbered = known.filter_map(|entry| Some((entry.path(), *place.get(&name_of(entry))?)));
        against_numbers(node, numbered, &mut found);
    }
    found
}

/// The keys that a node neither took in nor refused for good (4xx but 429), in the order given.
pub fn missing<'a>(keys: impl IntoIterator<Item = &'a str>, node: &[Entry]) -> Vec<String> {
    let settled = |entry: &&Entry| {
        entry.applied || entry.status.is_some_and(|status| (400..500).contains(&status) && status != 429)
    };
    let seen: HashSet<&str> = node.iter().filter(settled).map(|entry| entry.key.as_str()).collect();
    keys.into_iter().filter(|key| !seen.contains(key)).map(str::to_owned).collect()
}

/// Every update that reached a node again without the same key and a higher `Spawn-Attempt`.
pub fn duplicates(nodes: &[Vec<Entry>]) -> Vec<Duplicate> {
    let mut found = Vec::new();
    for (node, entries) in nodes.iter().enumerate() {
        let mut last: HashMap<Name<'_>, &Entry> = HashMap::new();
        let mut key_of = HashMap::new();
        for entry in entries {
            let again = last.insert(name_of(entry), entry);
            let renamed = entry.sequence.and_then(|sequence| key_of.insert(sequence, entry));
            let plain = again.filter(|before| before.attempt >= entry.attempt);
            let other_key = renamed.filter(|before| before.key != entry.key);
            if let Some(before) = plain.or(other_key) {
                let attempts = (before.attempt, entry.attempt);
                found.push(Duplicate { node, key: entry.key.clone(), sequence: entry.sequence, attempts });
            }
        }
    }
    found
}

type Name<'a> = (&'a str, &'a str, &'a str);

/// What an update is known by on every node: the scope of a key is its method and target.
fn name_of(entry: &Entry) -> Name<'_> {
    (&entry.key, &entry.method, &entry.target)
}

fn first_taken_in(entries: &[Entry]) -> Vec<&Entry> {
    let mut seen = HashSet::new();
    let keyed = entries.iter().filter(|entry| entry.applied && !entry.key.is_empty());
    keyed.filter(|entry| seen.insert(name_of(entry))).collect()
}

/// Reports each update whose number is lower than that of a conflicting one before it.
fn against_numbers<'a>(
    node: usize,
    updates: impl Iterator<Item = (&'a str, u64)>,
    found: &mut Vec<Inversion>,
) {
    // The highest number so far of exactly this path, and of this path and all below it.
    let mut at: HashMap<String, u64> = HashMap::new();
    let mut below: HashMap<String, u64> = HashMap::new();
    for (path, number) in updates {
        let prefixes = prefixes(path);
        let (own, above) = prefixes.split_last().expect("the root is always among them");
        let before = above.iter().filter_map(|prefix| at.get(prefix)).chain(below.get(own)).max().copied();
        if let Some(ahead) = before.filter(|ahead| *ahead > number) {
            found.push(Inversion { node, path: own.clone(), ahead, late: number });
        }
        let highest = at.entry(own.clone()).or_default();
        *highest = number.max(*highest);
        for prefix in prefixes {
            let highest = below.entry(prefix).or_default();
            *highest = number.max(*highest);
        }
    }
}

/// The root, each folder on the way, and the path itself: decoded, without dot segments and final slash.
fn prefixes(path: &str) -> Vec<String> {
    let mut segments: Vec<String> = Vec::new();
    for segment in decode(path).split('/').filter(|segment| !segment.is_empty()) {
        match segment {
            "." => {}
            ".." => drop(segments.pop()),
            _ => segments.push(segment.to_owned()),
        }
    }
    let mut prefixes = vec![String::from("/")];
    for length in 1..=segments.len() {
        prefixes.push(format!("/{}", segments[..length].join("/")));
    }
    prefixes
}

fn decode(path: &str) -> String {
    let mut bytes = Vec::with_capacity(path.len());
    let mut rest = path.as_bytes();
    while let Some((byte, after)) = rest.split_first() {
        let hex = after.get(..2).filter(|_| *byte == b'%').and_then(|hex| std::str::from_utf8(hex).ok());
        match hex.and_then(|hex| u8::from_str_radix(hex, 16).ok()) {
            Some(decoded) => {
                bytes.push(decoded);
                rest = &after[2..];
            }
            None => {
                bytes.push(*byte);
                rest = after;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(key: &str, target: &str, sequence: u64, attempt: u64) -> Entry {
        let head = http::Request::post(target)
            .header("idempotency-key", key)
            .header("spawn-sequence", sequence)
            .header("spawn-attempt", attempt)
            .body(())
            .unwrap();
        let mut entry = Entry::new(&head.into_parts().0, &bytes::Bytes::new(), false);
        (entry.status, entry.applied) = (Some(200), true);
        entry
    }

    #[test]
    fn an_update_behind_a_conflicting_later_one_is_an_inversion() {
        let late = vec![entry("a", "/users/7", 2, 1), entry("b", "/%75sers/", 1, 1)];
        let inversion = Inversion { node: 0, path: "/users".to_owned(), ahead: 2, late: 1 };
        assert_eq!(inversions_per_path(&[late]), [inversion]);
        let late = vec![entry("a", "/users", 2, 1), entry("b", "/users/./7?x=1", 1, 1)];
        assert_eq!(inversions_per_path(&[late]).len(), 1);
        let apart = vec![entry("a", "/users/7", 2, 1), entry("b", "/users/70", 1, 1)];
        assert_eq!(inversions_per_path(&[apart]), []);
    }

    #[test]
    fn a_retry_is_no_inversion_until_a_later_one_was_sent() {
        let retried = vec![entry("a", "/x", 1, 1), entry("a", "/x", 1, 2), entry("b", "/x", 2, 1)];
        assert_eq!(inversions_per_path(&[retried]), []);
        let overtaken = vec![entry("a", "/x", 1, 1), entry("b", "/x", 2, 1), entry("a", "/x", 1, 2)];
        assert_eq!(inversions_per_path(&[overtaken]).len(), 1);
    }

    #[test]
    fn nodes_that_disagree_are_found_without_sequences() {
        let strip = |mut entry: Entry| {
            entry.sequence = None;
            entry
        };
        let (a, b) = (strip(entry("a", "/x", 0, 1)), strip(entry("b", "/x", 0, 1)));
        assert_eq!(inversions_per_path(&[vec![a.clone(), b.clone()], vec![b, a]]).len(), 1);
    }

    #[test]
    fn only_what_was_neither_taken_in_nor_refused_is_missing() {
        let mut failed = entry("b", "/x", 2, 1);
        (failed.status, failed.applied) = (Some(503), false);
        let mut refused = entry("c", "/x", 3, 1);
        (refused.status, refused.applied) = (Some(404), false);
        let node = [entry("a", "/x", 1, 1), failed, refused];
        assert_eq!(missing(["a", "b", "c", "d"], &node), ["b", "d"]);
    }

    #[test]
    fn a_duplicate_is_explained_by_a_higher_attempt_of_the_same_key() {
        let explained = vec![entry("a", "/x", 1, 1), entry("a", "/x", 1, 2)];
        assert_eq!(duplicates(&[explained]), []);
        let plain = vec![entry("a", "/x", 1, 1), entry("a", "/x", 1, 1)];
        assert_eq!(duplicates(&[plain]).len(), 1);
        let renamed = vec![entry("a", "/x", 1, 1), entry("b", "/x", 1, 2)];
        assert_eq!(duplicates(&[renamed]).len(), 1);
    }
}
