//! The one thread that writes: everything waiting becomes one frame and one sync.

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use super::batch::Batch;
use super::dead;
use super::encode;
use super::frame;
use super::inbox::Command;
use super::journal::Journal;
use super::record::{self, Record};
use super::shared::{Shared, disk_error};
use crate::{DeadLetter, LogError, Update, UpdateBody};

/// A frame is closed when it has grown to this.
pub(super) const FRAME_BYTES: usize = 4 << 20;
/// So many marks may be lost by a crash of the machine, at most.
const MAX_UNSYNCED_MARKS: usize = 16 * 1024;
/// So many requests in one batch are a crowd.
const CROWD: usize = 24;
/// The writer waits no longer than this for a crowd to gather.
const LONGEST_GATHER: Duration = Duration::from_millis(1);
/// How often there is a look at what has become old.
const TEND: Duration = Duration::from_millis(500);

/// What the writer is told at its start.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    pub(crate) segment_bytes: u64,
    pub(crate) retain_ms: u64,
    pub(crate) retain_bytes: u64,
    pub(crate) remember_ms: u64,
    /// How long marks wait for an append to ride with.
    pub(crate) lazy: Duration,
}

/// The log's time: the wall clock's at the start, and from then on it neither jumps nor goes back.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Clock {
    base_ms: u64,
    start: Instant,
}

impl Clock {
    /// Not before `newest_ms`, the latest time in the log.
    pub(crate) fn new(newest_ms: u64) -> Self {
        let wall = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as u64);
        Self { base_ms: wall.max(newest_ms), start: Instant::now() }
    }

    /// Milliseconds since the Unix epoch.
    pub(crate) fn now_ms(&self) -> u64 {
        self.base_ms + self.start.elapsed().as_millis() as u64
    }
}

/// The writer.
pub(crate) struct Writer {
    pub(super) shared: Arc<Shared>,
    pub(super) log: Journal,
    pub(super) answers: Journal,
    pub(super) answers_since_ms: u64,
    pub(super) clock: Clock,
    pub(super) limits: Limits,
    /// Marks written since the last sync.
    unsynced: Vec<Record>,
    /// Bodies of refused updates that may be on disk nevertheless.
    doubtful: Vec<UpdateBody>,
    /// Since when marks wait.
    waiting: Option<Instant>,
    /// Not to try again before, after the disk refused.
    retry: Option<Instant>,
    /// The same for dead letters.
    bury_at: Option<Instant>,
    tended: Instant,
    /// Requests in the last batch.
    crowd: usize,
    /// How long the last sync took.
    last_sync: Duration,
}

impl Writer {
    /// A writer behind what recovery found.
    pub(crate) fn new(
        shared: Arc<Shared>,
        log: Journal,
        answers: Journal,
        clock: Clock,
        limits: Limits,
    ) -> Self {
        let tended = Instant::now();
        let (unsynced, doubtful) = (Vec::new(), Vec::new());
        let (waiting, retry, bury_at) = (None, None, None);
        let answers_since_ms = 0;
        Self {
            shared,
            log,
            answers,
            answers_since_ms,
            clock,
            limits,
            unsynced,
            doubtful,
            waiting,
            retry,
            bury_at,
            tended,
            crowd: 0,
            last_sync: Duration::ZERO,
        }
    }

    /// Begins the first segment of this run.
    pub(crate) fn start(&mut self, reopened: bool) -> Result<(), LogError> {
        self.begin_segment(reopened.then_some(Record::Reopened))
    }

    /// Writes until the log is closed or dropped.
    pub(crate) fn run(mut self) {
        loop {
            let wait = self.wait();
            self.gather();
            let work = self.shared.inbox.take(wait, FRAME_BYTES);
            if self.bury_at.is_none_or(|at| at <= Instant::now()) {
                // Reported where it failed, and tried again later.
                let _ = self.bury();
            }
            self.crowd = work.commands.len();
            self.step(work.commands);
            if work.stopped {
                // Without the record that says so: what is under way is not known here.
                self.group(Vec::new());
                return;
            }
            if self.tended.elapsed() >= TEND {
                self.tended = Instant::now();
                self.tend();
            }
        }
    }

    /// Where many wait for each sync, as long again for more of them costs less than it saves: a sync
    /// keeps the machine from serving those who are on their way.
    fn gather(&self) {
        if self.crowd >= CROWD {
            std::thread::sleep(self.last_sync.min(LONGEST_GATHER));
        }
    }

    fn step(&mut self, mut commands: Vec<Command>) {
        let alone = match commands.pop() {
            Some(command @ (Command::Append { .. } | Command::Failed { .. } | Command::Flush { .. })) => {
                commands.push(command);
                None
            }
            other => other,
        };
        match alone {
            Some(command) => self.alone(command),
            None if commands.is_empty() && !self.marks_due() => {}
            None => self.group(commands),
        }
    }

    /// How long nothing has to be done unless somebody asks.
    fn wait(&mut self) -> Option<Duration> {
        let core = self.shared.core();
        let marks = !core.marks.is_empty() || !core.unwritten.is_empty();
        let tend = core.keys.len() > 0 || core.state.segments().len() > 1 || self.answers.is_dirty();
        let tend = tend || core.diverged.dirty;
        let dying = !core.dying.is_empty() || !core.gone.is_empty();
        drop(core);
        let now = Instant::now();
        if !marks {
            self.waiting = None;
        }
        let marks = marks.then(|| *self.waiting.get_or_insert(now) + self.limits.lazy);
        let marks = marks.map(|due| self.retry.map_or(due, |retry| due.max(retry)));
        let bury = dying.then(|| self.bury_at.unwrap_or(now));
        let tend = tend.then_some(self.tended + TEND);
        let next = [marks, bury, tend].into_iter().flatten().min()?;
        Some(next.saturating_duration_since(now))
    }

    fn marks_due(&self) -> bool {
        let old = self.waiting.is_some_and(|since| since.elapsed() >= self.limits.lazy);
        old && self.retry.is_none_or(|retry| retry <= Instant::now())
    }

    /// An answer is written before the mark that ends its update: were only the mark to survive,
    /// nobody would ever make that answer again.
    fn answers_first(&mut self) {
        if let Err(error) = self.write_answers() {
            tracing::debug!(%error, "answers wait in memory");
        }
    }

    /// Writes appends, failed attempts and marks together, and tells everyone.
    pub(super) fn group(&mut self, commands: Vec<Command>) {
        self.answers_first();
        let appends = commands.iter().any(|command| matches!(command, Command::Append { .. }));
        let short = appends && self.shared.disk.is_short();
        let mut batch = {
            let mut core = self.shared.core();
            let mut batch = Batch::new(std::mem::take(&mut core.marks), short);
            for command in commands {
                batch.add(&mut core, &self.shared, command, self.clock.now_ms());
            }
            batch
        };
        self.waiting = None;
        let written = if batch.is_empty() && !(batch.is_durable() && self.log.is_dirty()) {
            Ok((0, 0))
        } else {
            let marks = batch.take_marks();
            let now_ms = self.clock.now_ms();
            let durable = batch.is_durable();
            self.write(batch.frame(), marks, durable).map(|at| (at, now_ms))
        };
        match written {
            Ok((payload_at, at_ms)) => {
                let len = self.log.current().map(|(_, len)| len);
                batch.commit(&self.shared, payload_at, at_ms, len);
            }
            Err(error) => {
                // The frame may be whole on disk although it is not known to be: until the next file
                // says where this one ends, a crash may bring it back, and it must find its bodies.
                if matches!(error, LogError::Disk { doing: "sync", .. }) {
                    self.doubtful.extend(batch.bodies());
                }
                batch.refuse(&self.shared, &error);
            }
        }
    }

    /// Writes a frame whose first records are `marks`; returns where its payload begins in the file.
    pub(super) fn write(
        &mut self,
        frame: &mut [u8],
        marks: Vec<Record>,
        durable: bool,
    ) -> Result<u64, LogError> {
        let result = self.try_write(frame, &marks, durable);
        match &result {
            Ok(_) => {
                self.doubtful.clear();
                if self.retry.take().is_some() {
                    tracing::info!("the update log can be written again");
                }
            }
            Err(error) => {
                if self.retry.replace(Instant::now() + TEND).is_none() {
                    tracing::error!(%error, "the update log cannot be written");
                }
                // What is not known durable is written again, before anything newer.
                let mut again = std::mem::take(&mut self.unsynced);
                again.extend(marks);
                let mut core = self.shared.core();
                again.append(&mut core.marks);
                core.marks = again;
            }
        }
        result
    }

    fn try_write(&mut self, frame: &mut [u8], marks: &[Record], durable: bool) -> Result<u64, LogError> {
        if self.log.current().is_none_or(|(_, len)| len >= self.limits.segment_bytes) {
            self.sync_log()?;
            self.begin_segment(None)?;
        }
        let payload_at = self.log.write(frame, self.clock.now_ms())?;
        if durable || self.unsynced.len() + marks.len() > MAX_UNSYNCED_MARKS {
            self.sync_log()?;
        } else {
            self.unsynced.extend_from_slice(marks);
        }
        Ok(payload_at)
    }

    pub(super) fn sync_log(&mut self) -> Result<(), LogError> {
        if self.log.is_dirty() {
            let begun = Instant::now();
            self.log.sync()?;
            self.last_sync = begun.elapsed();
            self.shared.core().commits += 1;
        }
        self.unsynced.clear();
        Ok(())
    }

    pub(super) fn begin_segment(&mut self, record: Option<Record>) -> Result<(), LogError> {
        self.log.end();
        let mut frame = frame::begin();
        let snapshot = self.shared.core().state.snapshot(self.log.previous());
        encode::encode(&mut frame, &Record::Snapshot(snapshot));
        if let Some(record) = &record {
            encode::encode(&mut frame, record);
        }
        let (number, file) = self.log.begin(frame, self.clock.now_ms())?;
        let mut core = self.shared.core();
        core.files.insert(number, file);
        core.state.begin_segment(number);
        if let (Some(segment), Some((_, len))) = (core.state.last_segment(), self.log.current()) {
            segment.len = len;
        }
        if let Some(Err(error)) = record.map(|record| core.state.apply(record)) {
            tracing::error!(error = error.0, "a record that was written does not apply");
        }
        Ok(())
    }

    /// Writes one record, durable, and applies it.
    pub(super) fn record(&mut self, record: &Record) -> Result<(), LogError> {
        self.answers_first();
        let marks = std::mem::take(&mut self.shared.core().marks);
        let mut frame = frame::begin();
        marks.iter().chain([record]).for_each(|record| encode::encode(&mut frame, record));
        self.write(&mut frame, marks, true).map(drop)
    }

    pub(super) fn apply(&self, record: Record) {
        let mut core = self.shared.core();
        if let Err(error) = core.state.apply(record) {
            tracing::error!(error = error.0, "a record that was written does not apply");
        }
        core.complete();
        if let (Some(segment), Some((_, len))) = (core.state.last_segment(), self.log.current()) {
            segment.len = len;
        }
    }

    /// Copies what was given up, and only then lets go of it.
    pub(super) fn bury(&mut self) -> Result<(), LogError> {
        while let Some((slot, sequence, letter, update)) = self.next_dead() {
            let written = {
                let _alone = self.shared.letters();
                dead::write(&*self.shared.disk, slot, &letter, &update, None)
            };
            if let Err(error) = written {
                let error = disk_error(&*self.shared.disk, "write", &dead::name(slot, sequence), error);
                if self.bury_at.replace(Instant::now() + TEND).is_none() {
                    tracing::error!(%error, "a dead letter cannot be written");
                }
                return Err(error);
            }
            self.shared.core().buried(slot, sequence, letter);
        }
        self.bury_at = None;
        self.remove_gone();
        Ok(())
    }

    /// What stays behind goes when the log is opened.
    pub(super) fn remove_gone(&self) {
        let gone = std::mem::take(&mut self.shared.core().gone);
        if !gone.is_empty() {
            let _alone = self.shared.letters();
            for (slot, sequence) in gone {
                let _ = dead::remove(&*self.shared.disk, slot, sequence);
            }
        }
    }

    fn next_dead(&self) -> Option<(record::Slot, u64, DeadLetter, Arc<Update>)> {
        let core = self.shared.core();
        let ((slot, sequence), dying) = core.dying.first_key_value()?;
        let known = core.dead.get(&(*slot, *sequence));
        let node =
            core.state.node(*slot).map(|node| &node.name).or(known.map(|letter| &letter.node))?.clone();
        let mut letter = dead::letter(node, dying, self.clock.now_ms());
        letter.overtaken = known.and_then(|letter| letter.overtaken);
        Some((*slot, *sequence, letter, dying.update.clone()))
    }
}
