//! Which updates conflict: those whose paths name the same thing, or one a part of the other.

use std::collections::BTreeMap;
use std::ops::Bound;

use common::queue::Sequence;
use percent_encoding::percent_decode_str;

/// The path of an update as far as order is concerned.
///
/// Percent-decoded, dot segments resolved (RFC 3986, 5.2.4), empty segments, query and trailing
/// slash dropped. `/users/7/` and `/a/../users/%37?x=1` are the same; the root is a part of
/// everything. Decoding `%2F` makes more paths conflict than a service may mean, never fewer.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConflictPath(String);

impl ConflictPath {
    /// The path that conflicts with every other.
    pub fn root() -> Self {
        Self(String::new())
    }

    /// The path of a request target in origin form.
    pub fn of(target: &str) -> Self {
        let path = first_segments(target.split(['?', '#']).next().unwrap_or_default());
        if is_plain(path) {
            return Self(path.strip_suffix('/').unwrap_or(path).to_owned());
        }
        let decoded = percent_decode_str(path).decode_utf8_lossy();
        let mut kept: Vec<&str> = Vec::new();
        for segment in decoded.split('/') {
            match segment {
                "" | "." => {}
                ".." => drop(kept.pop()),
                other => kept.push(other),
            }
        }
        Self(kept.iter().flat_map(|segment| ["/", segment]).collect())
    }

    /// This path and everything above it, the root last.
    fn self_and_above(&self) -> impl Iterator<Item = &str> {
        let mut rest = Some(self.0.as_str());
        std::iter::from_fn(move || {
            let path = rest?;
            rest = path.rfind('/').map(|slash| &path[..slash]);
            Some(path)
        })
    }

    /// Whether order between the two matters.
    pub fn conflicts_with(&self, other: &Self) -> bool {
        let (short, long) =
            if self.0.len() <= other.0.len() { (&self.0, &other.0) } else { (&other.0, &self.0) };
        long.strip_prefix(short.as_str()).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    }
}

/// No more segments than this tell paths apart: deeper ones conflict where they need not, and nobody
/// can make a path so deep that looking at it takes long.
const DEEPEST: usize = 64;

fn first_segments(path: &str) -> &str {
    let end = path.match_indices('/').nth(DEEPEST).map_or(path.len(), |(slash, _)| slash);
    &path[..end]
}

/// Whether a path needs neither decoding nor resolving: the common case, without an allocation more.
fn is_plain(path: &str) -> bool {
    path.starts_with('/') && !path.contains(['%', '\0']) && !path.contains("//") && !path.contains("/.")
}

/// The newest unfinished update of each path: what a new one has to wait for.
///
/// When an update is entered, everything below its path is forgotten: whoever conflicts with that
/// later conflicts with this update too, which itself waits. So each entry is removed once.
#[derive(Debug, Default)]
pub struct ConflictIndex(BTreeMap<String, Sequence>);

impl ConflictIndex {
    /// Enters an update, newest of all so far, and calls `wait_for` for each that it waits for.
    pub fn enter(&mut self, path: &ConflictPath, sequence: Sequence, mut wait_for: impl FnMut(Sequence)) {
        for above in path.self_and_above() {
            if let Some(&newest) = self.0.get(above) {
                wait_for(newest);
            }
        }
        let subsumed: Vec<String> = self.below(&path.0).map(str::to_owned).collect();
        for key in subsumed {
            if let Some(newest) = self.0.remove(&key) {
                wait_for(newest);
            }
        }
        self.0.insert(path.0.clone(), sequence);
    }

    /// The paths that `path` is a segment prefix of. Between them may stand some that only begin with
    /// the same letters, such as `/a-b` between `/a` and `/a/b`.
    fn below<'a>(&'a self, path: &'a str) -> impl Iterator<Item = &'a str> {
        let longer =
            self.0.range::<str, _>((Bound::Excluded(path), Bound::Unbounded)).map(|(key, _)| key.as_str());
        let next = move |key: &&str| key.strip_prefix(path).and_then(|rest| rest.bytes().next());
        longer
            .take_while(move |key| next(key).is_some_and(|byte| byte <= b'/'))
            .filter(move |key| next(key) == Some(b'/'))
    }

    /// Forgets an update that is finished.
    pub fn leave(&mut self, path: &ConflictPath, sequence: Sequence) {
        if self.0.get(&path.0) == Some(&sequence) {
            self.0.remove(&path.0);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::{BTreeMap, BTreeSet};

    #[test]
    fn the_same_thing_written_differently_is_the_same_path() {
        for target in [
            "/users/7",
            "/users/7/",
            "/users/7?x=1",
            "/users/%37",
            "/a/../users/./7",
            "//users//7",
            "/users%2F7",
            "/a/%2e%2E/users/7",
        ] {
            assert_eq!(ConflictPath::of(target), ConflictPath("/users/7".into()), "{target}");
        }
        for target in ["/", "", "*", "/..", "/../..", "?q", "/./"] {
            let path = ConflictPath::of(target);
            assert!(path == ConflictPath::root() || target == "*", "{target} became {path:?}");
        }
    }

    #[test]
    fn a_path_beyond_all_measure_is_cut_and_so_conflicts_more_and_not_less() {
        let deep = "/a".repeat(30_000);
        assert_eq!(ConflictPath::of(&deep), ConflictPath("/a".repeat(64)));
        assert!(ConflictPath::of(&format!("{deep}/b")).conflicts_with(&ConflictPath::of("/a/a")));
    }

    #[test]
    fn a_segment_prefix_conflicts_and_a_text_prefix_does_not() {
        let of = ConflictPath::of;
        assert!(of("/users").conflicts_with(&of("/users/7")));
        assert!(of("/users/7").conflicts_with(&of("/users")));
        assert!(of("/").conflicts_with(&of("/x")));
        assert!(!of("/users").conflicts_with(&of("/users-old")));
        assert!(!of("/users/7").conflicts_with(&of("/users/70")));
    }

    fn any_path() -> impl Strategy<Value = ConflictPath> {
        proptest::collection::vec(prop_oneof!["a", "b", "a-", "a0", "a."], 0..4)
            .prop_map(|segments| ConflictPath(segments.iter().flat_map(|s| ["/", s]).collect()))
    }

    proptest! {
        /// Waiting for what the index names, and for what those wait for, is waiting for every
        /// unfinished earlier update that conflicts, whatever finishes in between.
        #[test]
        fn the_index_leaves_no_conflict_out(steps in proptest::collection::vec((any_path(), any::<prop::sample::Index>(), any::<bool>()), 1..40)) {
            let mut index = ConflictIndex::default();
            let mut waits: BTreeMap<Sequence, (ConflictPath, BTreeSet<Sequence>)> = BTreeMap::new();
            for (number, (path, pick, finish)) in steps.into_iter().enumerate() {
                let sequence = Sequence(number as u64 + 1);
                let mut direct = BTreeSet::new();
                index.enter(&path, sequence, |earlier| { direct.insert(earlier); });
                let mut all = direct.clone();
                for earlier in &direct {
                    prop_assert!(waits[earlier].0.conflicts_with(&path), "waits for a stranger");
                    all.extend(waits[earlier].1.iter().copied());
                }
                for (earlier, (other, _)) in &waits {
                    prop_assert!(!other.conflicts_with(&path) || all.contains(earlier), "{earlier} was overtaken");
                }
                waits.insert(sequence, (path, all));
                let free: Vec<Sequence> = waits.iter().filter(|(_, (_, on))| on.is_empty()).map(|(s, _)| *s).collect();
                if finish && !free.is_empty() {
                    let done = free[pick.index(free.len())];
                    let (path, _) = waits.remove(&done).unwrap();
                    index.leave(&path, done);
                    waits.values_mut().for_each(|(_, on)| { on.remove(&done); });
                }
            }
        }
    }
}
