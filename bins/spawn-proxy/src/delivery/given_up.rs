//! The dead letters of one node as far as delivery has to know them: which of them a later update overtakes, and
//! what the node therefore does not have. Pure.

use std::collections::BTreeMap;

use common::queue::Sequence;
use smallvec::SmallVec;

use super::path::ConflictPath;

/// Sequences, few or none.
pub type Few = SmallVec<[Sequence; 2]>;

/// Dead letters that nothing has overtaken yet, by path.
#[derive(Debug, Default)]
pub struct GivenUp(BTreeMap<ConflictPath, Vec<Sequence>>);

impl GivenUp {
    /// Takes note of one.
    pub fn enter(&mut self, path: ConflictPath, sequence: Sequence) {
        self.0.entry(path).or_default().push(sequence);
    }

    /// Those that came before `sequence` and conflict with it: sent now, it overtakes them.
    pub fn overtaken_by(&self, path: &ConflictPath, sequence: Sequence) -> Few {
        if self.0.is_empty() {
            return Few::new();
        }
        let conflicting = self.0.iter().filter(|(other, _)| other.conflicts_with(path));
        conflicting.flat_map(|(_, letters)| letters).filter(|letter| **letter < sequence).copied().collect()
    }

    /// They need not be looked at again: overtaken, taken or removed.
    pub fn leave(&mut self, gone: &[Sequence]) {
        self.0.retain(|_, letters| {
            letters.retain(|letter| !gone.contains(letter));
            !letters.is_empty()
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_conflicts_and_came_later_overtakes_once() {
        let mut given_up = GivenUp::default();
        let of = ConflictPath::of;
        given_up.enter(of("/a/1"), Sequence(3));
        given_up.enter(of("/a"), Sequence(5));
        given_up.enter(of("/b"), Sequence(6));
        assert_eq!(given_up.overtaken_by(&of("/a/1"), Sequence(9)).to_vec(), [Sequence(5), Sequence(3)]);
        assert_eq!(given_up.overtaken_by(&of("/a"), Sequence(4)).to_vec(), [Sequence(3)]);
        assert!(given_up.overtaken_by(&of("/c"), Sequence(9)).is_empty());
        given_up.leave(&[Sequence(3), Sequence(5)]);
        assert!(given_up.overtaken_by(&of("/a/1"), Sequence(9)).is_empty());
        assert_eq!(given_up.overtaken_by(&of("/"), Sequence(9)).to_vec(), [Sequence(6)]);
    }
}
