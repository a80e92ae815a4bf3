//! Which idempotency keys are remembered, and where their first answers are. Pure.

use std::collections::{BTreeMap, HashMap};

use crate::Digest;

/// Where an answer is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Place {
    /// The number of the answers file.
    pub(crate) file: u32,
    /// Where the record begins.
    pub(crate) offset: u32,
    /// Its length.
    pub(crate) len: u32,
}

/// A remembered key.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Key {
    /// The update that came with it.
    pub(crate) sequence: u64,
    /// The digest of its body.
    pub(crate) body: Digest,
    /// The log's time of the append.
    pub(crate) at_ms: u64,
    /// Where it is written down apart from its update.
    pub(crate) place: Option<Place>,
    /// Whether there is an answer at `place`.
    pub(crate) answered: bool,
    /// Whether that answer is the one to give, or only stands in until a better one comes.
    pub(crate) last: bool,
}

/// An answers file as far as keys are in it.
#[derive(Debug, Default, Clone, Copy)]
struct File {
    live: u64,
    len: u64,
    newest_ms: u64,
}

/// What [`Keys::find`] found.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Found {
    /// Not remembered.
    Nothing,
    /// The same request.
    Same(u64),
    /// Another request had this key.
    Other(u64),
}

/// All of them.
#[derive(Debug)]
pub(crate) struct Keys {
    by_scope: HashMap<Digest, Key>,
    by_sequence: BTreeMap<u64, Digest>,
    files: BTreeMap<u32, File>,
    /// Keys of updates before this one have been remembered long enough.
    passed: u64,
    remember_ms: u64,
}

impl Keys {
    /// None yet.
    pub(crate) fn new(remember_ms: u64) -> Self {
        let (by_scope, by_sequence, files) = Default::default();
        Self { by_scope, by_sequence, files, passed: 0, remember_ms }
    }

    /// How many are remembered.
    pub(crate) fn len(&self) -> u64 {
        self.by_scope.len() as u64
    }

    /// Looks a key up. `open` tells whether a node still needs an update.
    pub(crate) fn find(
        &self,
        scope: &Digest,
        body: &Digest,
        now_ms: u64,
        open: impl Fn(u64) -> bool,
    ) -> Found {
        match self.by_scope.get(scope) {
            Some(key) if self.is_old(key, now_ms) && !open(key.sequence) => Found::Nothing,
            Some(key) if key.body == *body => Found::Same(key.sequence),
            Some(key) => Found::Other(key.sequence),
            None => Found::Nothing,
        }
    }

    /// Remembers a key. Of two with one scope, the later update counts.
    pub(crate) fn insert(&mut self, scope: Digest, key: Key) {
        match self.by_scope.get(&scope).map(|old| old.sequence) {
            Some(old) if old > key.sequence => return,
            Some(old) if old < key.sequence => self.forget(old),
            _ => {}
        }
        let mut kept = Key { place: None, answered: false, last: false, ..key };
        if let Some(old) = self.by_scope.get(&scope) {
            (kept.place, kept.answered, kept.last) = (old.place, old.answered, old.last);
        }
        self.by_sequence.insert(key.sequence, scope);
        self.by_scope.insert(scope, kept);
        if let Some(place) = key.place {
            self.place(key.sequence, place, key.answered, key.last);
        }
    }

    /// The key of an update.
    pub(crate) fn of(&self, sequence: u64) -> Option<(Digest, Key)> {
        let scope = self.by_sequence.get(&sequence)?;
        Some((*scope, *self.by_scope.get(scope)?))
    }

    /// Notes where a key is written down.
    pub(crate) fn place(&mut self, sequence: u64, place: Place, answered: bool, last: bool) {
        let key = self.by_sequence.get(&sequence).and_then(|scope| self.by_scope.get_mut(scope));
        let Some(key) = key else { return };
        let (old, at_ms) = (key.place.replace(place), key.at_ms);
        key.answered = answered;
        key.last = last;
        if let Some(old) = old {
            self.leave(old);
        }
        let file = self.files.entry(place.file).or_default();
        file.live += 1;
        file.newest_ms = file.newest_ms.max(at_ms);
        file.len = file.len.max(u64::from(place.offset) + u64::from(place.len));
    }

    /// Takes note of an answers file, so that it is removed when no key is in it.
    pub(crate) fn add_file(&mut self, file: u32, len: u64) {
        let known = self.files.entry(file).or_default();
        known.len = known.len.max(len);
    }

    /// Notes that a file did not keep what was written to it from `end` on; says whose keys those were.
    pub(crate) fn lose(&mut self, file: u32, end: u64) -> Vec<u64> {
        let mut lost = Vec::new();
        for key in self.by_scope.values_mut() {
            if key.place.is_some_and(|place| place.file == file && u64::from(place.offset) >= end) {
                (key.place, key.answered, key.last) = (None, false, false);
                lost.push(key.sequence);
            }
        }
        if let Some(file) = self.files.get_mut(&file) {
            file.live = file.live.saturating_sub(lost.len() as u64);
        }
        lost
    }

    /// Forgets the keys that were remembered long enough, but for those of open updates.
    pub(crate) fn expire(&mut self, now_ms: u64, open: impl Fn(u64) -> bool) {
        let mut gone = Vec::new();
        for (sequence, scope) in self.by_sequence.range(self.passed..) {
            if self.by_scope.get(scope).is_some_and(|key| !self.is_old(key, now_ms)) {
                break;
            }
            self.passed = sequence + 1;
            if !open(*sequence) {
                gone.push(*sequence);
            }
        }
        gone.into_iter().for_each(|sequence| self.forget(sequence));
    }

    /// An update was settled everywhere: its key goes too if only that kept it.
    pub(crate) fn completed(&mut self, sequence: u64) {
        if sequence < self.passed {
            self.forget(sequence);
        }
    }

    /// The updates whose keys are written down nowhere else.
    pub(crate) fn unplaced(&self) -> Vec<u64> {
        self.by_scope.values().filter(|key| key.place.is_none()).map(|key| key.sequence).collect()
    }

    /// The answers files, but for `current`, that no key is in.
    pub(crate) fn empty_files(&self, current: Option<u32>) -> Vec<u32> {
        let empty = self.files.iter().filter(|(file, state)| state.live == 0 && Some(**file) != current);
        empty.map(|(file, _)| *file).collect()
    }

    /// A file was removed.
    pub(crate) fn remove_file(&mut self, file: u32) {
        self.files.remove(&file);
    }

    /// The bytes of all answers files.
    pub(crate) fn bytes(&self) -> u64 {
        self.files.values().map(|file| file.len).sum()
    }

    /// Updates whose keys keep an old file that is mostly empty: writing them again frees it.
    pub(crate) fn sparse(&self, now_ms: u64, current: Option<u32>, max: usize) -> Vec<u64> {
        let sparse = |(file, state): &(&u32, &File)| {
            let old = state.newest_ms.saturating_add(self.remember_ms) < now_ms;
            old && Some(**file) != current && state.live > 0 && state.live * 4 * MEAN_ANSWER < state.len
        };
        let Some((file, _)) = self.files.iter().find(sparse) else { return Vec::new() };
        let kept = self.by_sequence.range(..self.passed).filter(|(_, scope)| {
            self.by_scope.get(*scope).and_then(|key| key.place).is_some_and(|place| place.file == *file)
        });
        kept.map(|(sequence, _)| *sequence).take(max).collect()
    }

    fn forget(&mut self, sequence: u64) {
        let Some(scope) = self.by_sequence.remove(&sequence) else { return };
        if let Some(place) = self.by_scope.remove(&scope).and_then(|key| key.place) {
            self.leave(place);
        }
    }

    fn leave(&mut self, place: Place) {
        if let Some(file) = self.files.get_mut(&place.file) {
            file.live = file.live.saturating_sub(1);
        }
    }

    fn is_old(&self, key: &Key, now_ms: u64) -> bool {
        key.at_ms.saturating_add(self.remember_ms) < now_ms
    }
}

/// What a kept answer takes, for judging how empty a file is.
const MEAN_ANSWER: u64 = 256;
