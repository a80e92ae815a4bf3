//! What the writer does besides: answers apart from their updates, and letting go of what is old.

use super::answers;
use super::codec::Input;
use super::disk;
use super::diverged;
use super::files::{ANSWERS, LOG};
use super::frame;
use super::journal::EMPTY_FILE;
use super::keys::Place;
use super::record::Record;
use super::recover;
use super::segment::Segment;
use super::shared::Shared;
use super::writer::{FRAME_BYTES, Writer};
use crate::LogError;

/// An answers file is closed when it has grown to this.
const ANSWERS_BYTES: u64 = 64 << 20;
/// So many answers wait in memory for a disk that refuses them; of the others only the keys.
const MAX_UNWRITTEN: usize = 16 * 1024;

impl Writer {
    /// Writes keys and answers apart from their updates. Not synced: an answer that a crash of the
    /// machine takes is only not known any more.
    pub(super) fn write_answers(&mut self) -> Result<(), LogError> {
        loop {
            let (frame, places) = {
                let mut core = self.shared.core();
                if core.unwritten.is_empty() {
                    return Ok(());
                }
                let mut frame = frame::begin();
                let mut places = Vec::new();
                for entry in core.unwritten.values() {
                    if core.keys.of(entry.sequence).is_none_or(|(scope, _)| scope != entry.scope) {
                        continue;
                    }
                    let start = frame.len();
                    answers::encode(&mut frame, entry);
                    places.push((
                        entry.sequence,
                        start,
                        frame.len() - start,
                        entry.answer.is_some(),
                        entry.last,
                    ));
                    if frame.len() > FRAME_BYTES {
                        break;
                    }
                }
                if places.is_empty() {
                    core.unwritten.clear();
                    return Ok(());
                }
                (frame, places)
            };
            let at = self.write_answers_frame(frame)?;
            let mut core = self.shared.core();
            let file = self.answers.current().map_or(0, |(number, _)| number) as u32;
            for (sequence, start, len, answered, last) in places {
                let offset = (at + (start - frame::FRAME_HEADER) as u64) as u32;
                core.keys.place(sequence, Place { file, offset, len: len as u32 }, answered, last);
                // A better answer may have come meanwhile; it is written with the next frame.
                let same = |entry: &answers::Entry| entry.answer.is_some() == answered && entry.last == last;
                if core.unwritten.get(&sequence).is_some_and(same) {
                    core.unwritten.remove(&sequence);
                }
            }
        }
    }

    fn write_answers_frame(&mut self, mut frame: Vec<u8>) -> Result<u64, LogError> {
        let now_ms = self.clock.now_ms();
        let turn = (self.limits.remember_ms / 4).max(1000);
        let old = self.answers_since_ms.saturating_add(turn) < now_ms;
        let mut write = || {
            if old || self.answers.current().is_none_or(|(_, len)| len > ANSWERS_BYTES) {
                self.answers.sync()?;
                let (number, _) = self.answers.begin_after(recover::answers_beginning, now_ms)?;
                self.shared.core().keys.add_file(number as u32, EMPTY_FILE);
                self.answers_since_ms = now_ms;
            }
            self.answers.write(&mut frame, now_ms)
        };
        let written = write();
        if written.is_err() {
            self.lose_answers();
            let mut core = self.shared.core();
            let excess = core.unwritten.len().saturating_sub(MAX_UNWRITTEN);
            core.unwritten.values_mut().take(excess).for_each(|entry| entry.answer = None);
        }
        written
    }

    /// The answers file refused: what was not synced there may be gone, but no key may.
    fn lose_answers(&mut self) {
        let Some((file, end)) = self.answers.previous().filter(|_| self.answers.current().is_none()) else {
            return;
        };
        let mut core = self.shared.core();
        for sequence in core.keys.lose(file as u32, end) {
            if !core.state.is_open(sequence) {
                core.write_down(sequence);
            }
        }
    }

    /// Has a look at what has become old.
    pub(super) fn tend(&mut self) {
        let now_ms = self.clock.now_ms();
        self.write_diverged();
        if self.answers.sync().is_err() {
            self.lose_answers();
        }
        let current = self.answers.current().map(|(number, _)| number as u32);
        let (empty, sparse) = {
            let mut core = self.shared.core();
            let core = &mut *core;
            core.keys.expire(now_ms, |sequence| core.state.is_open(sequence));
            (core.keys.empty_files(current), core.keys.sparse(now_ms, current, 1024))
        };
        for file in empty {
            if self.shared.disk.remove(&ANSWERS.name(file.into())).is_ok() {
                self.shared.core().keys.remove_file(file);
            }
        }
        for sequence in sparse {
            self.copy_answer(sequence);
        }
        let (mut retain_ms, mut retain_bytes) = (self.limits.retain_ms, self.limits.retain_bytes);
        if self.shared.disk.is_short() {
            // New updates are worth more than old ones that every node has.
            (retain_ms, retain_bytes) = (0, 0);
            if let Err(error) = self.end_settled_segment() {
                tracing::debug!(%error, "the last segment stays for now");
            }
        }
        let before = {
            let core = self.shared.core();
            let before = core.state.trimmable(now_ms, retain_ms, retain_bytes);
            (before > core.state.trimmed()).then_some(before)
        };
        if let Some(error) = before.and_then(|before| self.trim(before).err()) {
            tracing::debug!(%error, "old segments stay for now");
        }
    }

    /// Writes the list of divergences where it has changed. What fails is tried again.
    pub(super) fn write_diverged(&self) {
        let bytes = {
            let mut core = self.shared.core();
            if !std::mem::take(&mut core.diverged.dirty) {
                return;
            }
            core.diverged.encode()
        };
        if let Err(error) = diverged::write(&*self.shared.disk, &bytes) {
            tracing::debug!(%error, "the list of divergences stays in memory for now");
            self.shared.core().diverged.dirty = true;
        }
    }

    /// Begins a new segment where no node needs anything of the last, so that it can go.
    fn end_settled_segment(&mut self) -> Result<(), LogError> {
        let settled = |segment: &mut Segment| segment.open == 0 && !segment.entries.is_empty();
        if self.shared.core().state.last_segment().is_some_and(settled) {
            self.sync_log()?;
            self.begin_segment(None)?;
        }
        Ok(())
    }

    /// Reads an answer so that it is written again, out of a file that it alone keeps.
    fn copy_answer(&mut self, sequence: u64) {
        let key = self.shared.core().keys.of(sequence);
        let Some((_, key)) = key else { return };
        let Some(entry) = key.place.and_then(|place| read_answer(&self.shared, place)) else { return };
        if entry.sequence == sequence {
            self.shared.core().unwritten.entry(sequence).or_insert(entry);
        }
    }

    /// Lets go of segments: what they alone know is durable elsewhere first, then that they are
    /// needed no more, then they are removed.
    fn trim(&mut self, before: u64) -> Result<(), LogError> {
        self.write_answers()?;
        if let Err(error) = self.answers.sync() {
            self.lose_answers();
            return Err(error);
        }
        let record = Record::Trim { segment: before };
        self.record(&record)?;
        self.apply(record);
        let mut core = self.shared.core();
        let forgotten = core.state.forget();
        let first = core.state.first();
        let kept = core.bodies.split_off(&first);
        let bodies = std::mem::replace(&mut core.bodies, kept);
        forgotten.iter().for_each(|segment| drop(core.files.remove(&segment.number)));
        drop(core);
        for segment in &forgotten {
            // What cannot be removed now goes when the log is opened.
            let _ = self.shared.disk.remove(&LOG.name(segment.number));
        }
        bodies.values().filter_map(|body| body.guard.as_ref()).for_each(|guard| guard.keep(false));
        Ok(())
    }
}

/// An answer from its file; `None` when it is not there any more.
pub(crate) fn read_answer(shared: &Shared, place: Place) -> Option<answers::Entry> {
    let file = shared.disk.open(&ANSWERS.name(place.file.into())).ok()?;
    let bytes = disk::read(&*file, place.offset.into(), place.len as usize).ok()?;
    answers::decode(&mut Input(&bytes)).ok()
}
