//! Brings back what the files say.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::io;
use std::sync::Arc;

use super::answers;
use super::codec::{Corrupt, Decoded, Input, put_number};
use super::dead::{self, Kept};
use super::disk::{self, Disk, DiskFile};
use super::files::{ANSWERS, LOG, RecoverError, damaged, file_head, io_error, numbered, read_file};
use super::frame::{self, End, FILE_HEADER, FRAME_HEADER, Frame};
use super::journal::Naming;
use super::keys::{Key, Keys, Place};
use super::record::{self, Record, Slot, Snapshot};
use super::retry::Retried;
use super::spool;
use super::state::State;
use crate::{DeadLetter, DeliveryState, SpooledBody};

/// What was found.
pub(crate) struct Recovered {
    pub(crate) state: State,
    pub(crate) keys: Keys,
    pub(crate) files: HashMap<u64, Arc<dyn DiskFile>>,
    pub(crate) bodies: BTreeMap<u64, SpooledBody>,
    pub(crate) dead: BTreeMap<(Slot, u64), DeadLetter>,
    /// Those of them that are tried again.
    pub(crate) retried: BTreeMap<(Slot, u64), Retried>,
    /// Number of the last segment and how much of it is true.
    pub(crate) last: Option<(u64, u64)>,
    pub(crate) next_answers: u64,
    /// Whether the log was closed in order, or never written to.
    pub(crate) clean: bool,
    /// The latest of the log's times.
    pub(crate) newest_ms: u64,
    /// What was found out and is still to be written.
    pub(crate) marks: Vec<Record>,
}

/// Reads everything below `disk` and removes what is left over.
pub(crate) fn recover(disk: &Arc<dyn Disk>, remember_ms: u64) -> Result<Recovered, RecoverError> {
    for folder in ["", LOG.folder, ANSWERS.folder, spool::FOLDER, dead::FOLDER] {
        disk.make_folder(folder).map_err(|error| io_error(&**disk, "make", folder, error))?;
    }
    disk.sync_folder("").map_err(|error| io_error(&**disk, "sync", "", error))?;
    let segments = numbered(&**disk, LOG)?;
    let answers = numbered(&**disk, ANSWERS)?;
    let mut dead = dead::load(&**disk)?;
    if segments.is_empty() && (!answers.is_empty() || !dead.is_empty()) {
        return Err(damaged(&**disk, LOG.folder, 0, "every segment is missing"));
    }
    let mut replay = Replay {
        disk: &**disk,
        state: State::empty(),
        keys: Keys::new(remember_ms),
        bodies: BTreeMap::new(),
        files: HashMap::new(),
        newest_ms: 0,
        clean: true,
        marks: Vec::new(),
    };
    let last = replay.segments(&segments)?;
    let next_answers = replay.answers(&answers)?;
    replay.confirm(last, answers.last().copied())?;
    dead.retain(|(slot, sequence), kept| replay.is_dead(*slot, *sequence, &kept.letter));
    let retried = replay.retried(&dead)?;
    for folder in [LOG.folder, ANSWERS.folder, spool::FOLDER, dead::FOLDER] {
        disk.sync_folder(folder).map_err(|error| io_error(&**disk, "sync", folder, error))?;
    }
    let Replay { state, keys, bodies, files, newest_ms, clean, marks, .. } = replay;
    let bodies = bodies.into_iter().map(|(sequence, (name, len, crc))| {
        let body = dead::kept_body(disk, &name, len, crc);
        (sequence, body)
    });
    let recovered = Recovered {
        bodies: bodies.collect(),
        state,
        keys,
        files,
        dead: dead.into_iter().map(|(key, kept)| (key, kept.letter)).collect(),
        retried,
        last,
        next_answers,
        clean,
        newest_ms,
        marks,
    };
    check_bodies(&**disk, &recovered)?;
    Ok(recovered)
}

struct Replay<'a> {
    disk: &'a dyn Disk,
    state: State,
    keys: Keys,
    bodies: BTreeMap<u64, (String, u64, u32)>,
    files: HashMap<u64, Arc<dyn DiskFile>>,
    newest_ms: u64,
    clean: bool,
    marks: Vec<Record>,
}

impl Replay<'_> {
    /// Replays the segments; says which is the last and how much of it is true.
    fn segments(&mut self, numbers: &[u64]) -> Result<Option<(u64, u64)>, RecoverError> {
        // A crash may undo some of the removals of trimmed segments, and not the first ones: what
        // counts is the last unbroken run. It says itself whether something before it is missing.
        let breaks = numbers.windows(2).rposition(|pair| pair[1] != pair[0] + 1);
        let (before, needed) = numbers.split_at(breaks.map_or(0, |at| at + 1));
        let Some((last, first)) = needed.last().zip(needed.first()) else { return Ok(None) };
        let mut end = 0;
        for (index, number) in needed.iter().enumerate() {
            let next = needed.get(index + 1);
            let next = next.map(|next| Ok((*next, self.head(*next)?.previous))).transpose()?;
            let known = match next {
                None => End::Open,
                Some((_, Some((previous, end)))) if previous == *number => End::Exactly(end),
                Some((next, _)) => {
                    return Err(damaged(
                        self.disk,
                        &LOG.name(next),
                        0,
                        "the file does not follow the one before",
                    ));
                }
            };
            end = self.segment(*number, known, index == 0)?;
        }
        if *first > self.state.trimmed().max(1) {
            return Err(damaged(self.disk, &LOG.name(first - 1), 0, "the file is missing"));
        }
        before.iter().for_each(|number| self.remove(*number));
        for segment in self.state.forget() {
            self.files.remove(&segment.number);
            self.remove(segment.number);
        }
        self.bodies = self.bodies.split_off(&self.state.first());
        self.state.take_completed();
        Ok(Some((*last, end)))
    }

    fn remove(&self, number: u64) {
        // What cannot be removed now is tried again at the next opening.
        let _ = self.disk.remove(&LOG.name(number));
    }

    /// The snapshot that a segment begins with.
    fn head(&self, number: u64) -> Result<Snapshot, RecoverError> {
        self.first_frame(LOG, number, |payload| match record::decode(&mut Input(payload))? {
            Record::Snapshot(found) => Ok(found),
            _ => Err(Corrupt("the file does not begin with a snapshot")),
        })
    }

    /// What an answers file says of the one before.
    fn answers_before(&self, number: u64) -> Result<Option<(u64, u64)>, RecoverError> {
        self.first_frame(ANSWERS, number, |payload| {
            let mut input = Input(payload);
            if input.is_empty() { Ok(None) } else { Ok(Some((input.number()?, input.number()?))) }
        })
    }

    fn first_frame<T>(
        &self,
        naming: Naming,
        number: u64,
        mut decode: impl FnMut(&[u8]) -> Decoded<T>,
    ) -> Result<T, RecoverError> {
        let name = naming.name(number);
        let file = self.disk.open(&name).map_err(|error| io_error(self.disk, "open", &name, error))?;
        let begin = FILE_HEADER + FRAME_HEADER;
        let failed = |error| io_error(self.disk, "read", &name, error);
        let mut bytes = disk::read(&*file, 0, begin).map_err(failed)?;
        let head = file_head(self.disk, naming, number, &bytes)?;
        let len = bytes.get(FILE_HEADER + 4..FILE_HEADER + 8).and_then(|len| len.try_into().ok());
        let len = len.map_or(0, u32::from_le_bytes).min(MAX_SNAPSHOT);
        bytes.extend(disk::read(&*file, begin as u64, len as usize).map_err(failed)?);
        let mut found = None;
        frame::scan(&bytes, head.salt, End::Exactly(bytes.len() as u64), |frame| {
            found = Some(decode(frame.payload)?);
            Ok(())
        })
        .map_err(|damage| damaged(self.disk, &name, damage.offset, damage.what))?;
        found.ok_or_else(|| damaged(self.disk, &name, 0, "the file is empty"))
    }

    fn segment(&mut self, number: u64, known: End, first: bool) -> Result<u64, RecoverError> {
        let name = LOG.name(number);
        let failed = |doing, error| io_error(self.disk, doing, &name, error);
        let file = self.disk.open(&name).map_err(|error| failed("open", error))?;
        let len = file.len().map_err(|error| failed("read", error))?;
        let bytes = disk::read(&*file, 0, len as usize).map_err(|error| failed("read", error))?;
        let head = file_head(self.disk, LOG, number, &bytes)?;
        let mut begins = true;
        let end = frame::scan(&bytes, head.salt, known, |frame| {
            let fresh = std::mem::take(&mut begins).then_some(first);
            self.frame(number, fresh, frame)
        })
        .map_err(|damage| damaged(self.disk, &name, damage.offset, damage.what))?;
        if known == End::Open && end < len {
            file.set_len(end).map_err(|error| io_error(self.disk, "cut", &name, error))?;
        }
        if let Some(segment) = self.state.last_segment() {
            segment.len = end;
        }
        self.files.insert(number, file);
        Ok(end)
    }

    /// Replays one frame. `begins` is set for a segment's first one, to whether the segment is the log's first.
    fn frame(&mut self, number: u64, begins: Option<bool>, frame: Frame<'_>) -> Decoded<()> {
        self.newest_ms = self.newest_ms.max(frame.at_ms);
        self.clean = false;
        let mut input = Input(frame.payload);
        if let Some(first) = begins {
            let Record::Snapshot(snapshot) = record::decode(&mut input)? else {
                return Err(Corrupt("the file does not begin with a snapshot"));
            };
            if first {
                self.state = State::new(&snapshot)?;
            } else if self.state.snapshot(snapshot.previous) != snapshot {
                return Err(Corrupt("the file does not follow the one before"));
            }
            self.state.begin_segment(number);
        }
        while !input.is_empty() {
            let at = frame.payload_at + (frame.payload.len() - input.0.len()) as u64;
            let record = record::decode(&mut input)?;
            self.clean = record == Record::Closed;
            match record {
                Record::Append(append) => {
                    let offset = u32::try_from(at).map_err(|_| Corrupt("the file is too long"))?;
                    self.state.append(&append, offset, frame.at_ms)?;
                    self.remember(append, frame.at_ms);
                }
                other => self.state.apply(other)?,
            }
        }
        Ok(())
    }

    fn remember(&mut self, append: record::Append, at_ms: u64) {
        let sequence = append.sequence;
        if let Some((scope, body)) = append.key {
            let key = Key { sequence, body, at_ms, place: None, answered: false, last: false };
            self.keys.insert(scope, key);
        }
        if let Some(spooled) = append.spooled {
            self.bodies.insert(sequence, spooled);
        }
    }

    /// Makes durable what was read: a process that was killed may have left in the system's memory
    /// what never reached the disk, and after a failed sync even as if it had. So it is written again.
    fn confirm(&self, log: Option<(u64, u64)>, answers: Option<u64>) -> Result<(), RecoverError> {
        if self.clean {
            return Ok(());
        }
        let log = log.map(|(number, end)| (LOG.name(number), end as usize));
        let answers = answers.map(|number| (ANSWERS.name(number), usize::MAX));
        for (name, end) in log.into_iter().chain(answers) {
            let bytes = read_file(self.disk, &name)?;
            let known = &bytes[..end.min(bytes.len())];
            let write = || {
                let file = self.disk.open(&name)?;
                disk::write_all(&*file, known, 0)?;
                file.sync()
            };
            write().map_err(|error| io_error(self.disk, "write", &name, error))?;
        }
        Ok(())
    }

    /// Whether a dead letter counts. It is written once an update has been given up, so one whose
    /// mark was lost in a crash is settled by it; one that was delivered since goes.
    fn is_dead(&mut self, slot: Slot, sequence: u64, letter: &DeadLetter) -> bool {
        match self.state.progress(slot, sequence).map(|progress| progress.state) {
            None | Some(DeliveryState::Dead) => true,
            // It was given up, then all of this was made pending again.
            Some(DeliveryState::Pending) if self.state.is_rewound(slot, sequence) => {
                let _ = dead::remove(self.disk, slot, sequence);
                false
            }
            Some(DeliveryState::Pending) => {
                let (attempts, status, error) = (letter.attempts, letter.status, letter.error.clone());
                let state = DeliveryState::Dead;
                let mark = Record::Settled { slot, sequence, state, attempts, status, digest: 0, error };
                // To be written before anything else happens to it.
                self.marks.push(mark.clone());
                self.state.apply(mark).is_ok()
            }
            Some(_) => {
                let _ = dead::remove(self.disk, slot, sequence);
                false
            }
        }
    }

    /// The dead letters that were being tried again. After an end without [`Record::Closed`] one more attempt counts.
    fn retried(
        &self,
        dead: &BTreeMap<(Slot, u64), Kept>,
    ) -> Result<BTreeMap<(Slot, u64), Retried>, RecoverError> {
        let mut found = BTreeMap::new();
        for (key @ (slot, sequence), kept) in dead {
            let name = self.state.node(*slot).map_or(&kept.letter.node, |node| &node.name);
            let Some((mut attempts, failures)) =
                kept.stand.retrying.filter(|_| self.state.slot(name).is_some())
            else {
                continue;
            };
            if !self.clean {
                attempts += 1;
                dead::write(self.disk, *slot, &kept.letter, &kept.update, Some((attempts, failures)))
                    .map_err(|error| io_error(self.disk, "write", &dead::name(*slot, *sequence), error))?;
            }
            found.insert(*key, Retried::new(kept, attempts, failures));
        }
        Ok(found)
    }

    /// Reads the answers; says which number the next file gets.
    fn answers(&mut self, numbers: &[u64]) -> Result<u64, RecoverError> {
        for (index, number) in numbers.iter().enumerate() {
            let name = ANSWERS.name(*number);
            let bytes = read_file(self.disk, &name)?;
            let head = file_head(self.disk, ANSWERS, *number, &bytes)?;
            let end =
                match numbers.get(index + 1).map(|next| self.answers_before(*next)).transpose()?.flatten() {
                    Some((previous, end)) if previous == *number => End::Exactly(end),
                    _ => End::Open,
                };
            let (keys, newest) = (&mut self.keys, &mut self.newest_ms);
            keys.add_file(*number as u32, bytes.len() as u64);
            let mut begins = true;
            frame::scan(&bytes, head.salt, end, |frame| {
                if std::mem::take(&mut begins) {
                    return Ok(());
                }
                *newest = (*newest).max(frame.at_ms);
                let mut input = Input(frame.payload);
                while !input.is_empty() {
                    let before = input.0.len();
                    let offset = frame.payload_at + (frame.payload.len() - before) as u64;
                    let entry = answers::decode(&mut input)?;
                    let len = (before - input.0.len()) as u32;
                    let place = Place { file: *number as u32, offset: offset as u32, len };
                    let answers::Entry { scope, body, sequence, at_ms, last, answer } = entry;
                    let answered = answer.is_some();
                    keys.insert(scope, Key { sequence, body, at_ms, place: Some(place), answered, last });
                }
                Ok(())
            })
            .map_err(|damage| damaged(self.disk, &name, damage.offset, damage.what))?;
        }
        Ok(numbers.last().map_or(1, |last| last + 1))
    }
}

/// The first frame of an answers file: which file was before it, and how much of that one is true.
pub(crate) fn answers_beginning(previous: Option<(u64, u64)>) -> Vec<u8> {
    let mut frame = frame::begin();
    if let Some((number, end)) = previous {
        put_number(&mut frame, number);
        put_number(&mut frame, end);
    }
    frame
}

/// A snapshot names the nodes; it is never as long as this.
const MAX_SNAPSHOT: u32 = 64 << 20;

/// Every body that a node still needs has to be there; a file that no update knows is left over.
fn check_bodies(disk: &dyn Disk, recovered: &Recovered) -> Result<(), RecoverError> {
    let mut known = HashSet::new();
    for (sequence, body) in &recovered.bodies {
        let Some(name) = body.guard.as_ref().map(|guard| guard.name()) else { continue };
        known.insert(name.to_owned());
        if !recovered.state.is_open(*sequence) {
            continue;
        }
        let len = match disk.open(name).and_then(|file| file.len()) {
            Ok(len) => len,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Err(damaged(disk, name, 0, "the body of an undelivered update is missing"));
            }
            Err(error) => return Err(io_error(disk, "open", name, error)),
        };
        if len != body.len {
            return Err(damaged(disk, name, len.min(body.len), "the body has another length than it had"));
        }
    }
    let files = disk.list(spool::FOLDER).map_err(|error| io_error(disk, "read", spool::FOLDER, error))?;
    for file in files.iter().map(|file| format!("{}/{file}", spool::FOLDER)) {
        if !known.contains(&file) {
            let _ = disk.remove(&file);
        }
    }
    Ok(())
}
