//! Writes numbered files of frames, and never trusts a file again after it refused a write.

use std::hash::{BuildHasher, RandomState};
use std::io;
use std::sync::Arc;

use super::disk::{Disk, DiskFile, write_all};
use super::frame::{self, FILE_HEADER, FRAME_HEADER, FileHead, Kind};
use crate::LogError;

/// What its files are called and begin with.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Naming {
    /// The folder.
    pub(crate) folder: &'static str,
    /// What the files' names end with.
    pub(crate) suffix: &'static str,
    /// What the files begin with.
    pub(crate) kind: Kind,
}

impl Naming {
    /// The name of a file, folder included.
    pub(crate) fn name(&self, number: u64) -> String {
        format!("{}/{number:016}.{}", self.folder, self.suffix)
    }

    /// The number of a file; `None` when it is none of these.
    pub(crate) fn number(&self, file: &str) -> Option<u64> {
        let (number, suffix) = file.split_once('.')?;
        (suffix == self.suffix && number.len() == 16).then(|| number.parse().ok()).flatten()
    }
}

/// The file being written.
struct Current {
    file: Arc<dyn DiskFile>,
    number: u64,
    salt: u64,
    written: u64,
    synced: u64,
    /// How far there is room; as far as can be when that is not known.
    room: u64,
}

/// Writes frames.
pub(crate) struct Journal {
    disk: Arc<dyn Disk>,
    naming: Naming,
    next: u64,
    current: Option<Current>,
    previous: Option<(u64, u64)>,
    /// Room is made in steps of this. A sync costs about half as much when the file does not grow.
    step: u64,
}

impl Journal {
    /// A journal whose next file is `next`, behind what recovery found.
    pub(crate) fn new(disk: Arc<dyn Disk>, naming: Naming, next: u64, previous: Option<(u64, u64)>) -> Self {
        Self { disk, naming, next, current: None, previous, step: 0 }
    }

    /// The same, with room made in steps of so many bytes.
    pub(crate) fn with_step(self, step: u64) -> Self {
        Self { step, ..self }
    }

    /// The number of the file being written, and its length.
    pub(crate) fn current(&self) -> Option<(u64, u64)> {
        self.current.as_ref().map(|current| (current.number, current.written))
    }

    /// Whether something was written and is not known to be durable.
    pub(crate) fn is_dirty(&self) -> bool {
        self.current.as_ref().is_some_and(|current| current.synced < current.written)
    }

    /// The file before the next one and how much of it is durable.
    pub(crate) fn previous(&self) -> Option<(u64, u64)> {
        self.previous
    }

    /// Ends the current file. What is not yet durable there is given up.
    pub(crate) fn end(&mut self) {
        if let Some(current) = self.current.take() {
            if current.room != u64::MAX && current.room > current.synced {
                // Only room is given back; where the file ends is written in the next one.
                let _ = current.file.set_len(current.synced);
            }
            self.previous = Some((current.number, current.synced));
        }
    }

    /// Begins a file with the frame that `make` makes of where the file before ends.
    pub(crate) fn begin_after(
        &mut self,
        make: impl FnOnce(Option<(u64, u64)>) -> Vec<u8>,
        at_ms: u64,
    ) -> Result<(u64, Arc<dyn DiskFile>), LogError> {
        self.end();
        self.begin(make(self.previous), at_ms)
    }

    /// Begins a file with `frame` in it, durable under its name when this returns.
    pub(crate) fn begin(
        &mut self,
        mut frame: Vec<u8>,
        at_ms: u64,
    ) -> Result<(u64, Arc<dyn DiskFile>), LogError> {
        self.end();
        let (number, salt) = (self.next, random());
        let name = self.naming.name(number);
        let new = format!("{name}.new");
        let mut bytes = frame::file_header(self.naming.kind, FileHead { number, salt }).to_vec();
        frame::seal(&mut frame, salt, 0, at_ms);
        bytes.extend_from_slice(&frame);
        let make = || -> io::Result<Arc<dyn DiskFile>> {
            let file = self.disk.create(&new)?;
            write_all(&*file, &bytes, 0)?;
            file.sync()?;
            self.disk.rename(&new, &name)?;
            self.disk.sync_folder(self.naming.folder)?;
            Ok(file)
        };
        match make() {
            Ok(file) => {
                let len = bytes.len() as u64;
                self.next += 1;
                let current =
                    Current { file: file.clone(), number, salt, written: len, synced: len, room: len };
                self.current = Some(current);
                Ok((number, file))
            }
            Err(error) => {
                // Whatever is left is replaced by the next attempt, which has the same number.
                let _ = self.disk.remove(&new);
                Err(self.error("begin", number, error))
            }
        }
    }

    /// Writes a frame that [`frame::begin`] began; returns where its payload is in the file.
    pub(crate) fn write(&mut self, frame: &mut [u8], at_ms: u64) -> Result<u64, LogError> {
        let Some(current) = &mut self.current else { return Err(LogError::Closed) };
        frame::seal(frame, current.salt, current.synced, at_ms);
        let end = current.written + frame.len() as u64;
        if self.step > 0 && end > current.room {
            let more = end - current.room + self.step;
            // Where room cannot be made beforehand, the write itself tells.
            let made = current.file.allocate(current.room, more);
            current.room = made.map_or(u64::MAX, |()| current.room + more);
        }
        match write_all(&*current.file, frame, current.written) {
            Ok(()) => {
                let payload_at = current.written + FRAME_HEADER as u64;
                current.written += frame.len() as u64;
                Ok(payload_at)
            }
            Err(error) => Err(self.abandon("write", error)),
        }
    }

    /// Makes durable what was written.
    pub(crate) fn sync(&mut self) -> Result<(), LogError> {
        let Some(current) = &mut self.current else { return Ok(()) };
        match current.file.sync() {
            Ok(()) => {
                current.synced = current.written;
                Ok(())
            }
            Err(error) => Err(self.abandon("sync", error)),
        }
    }

    /// A system that failed to write a page may call it clean: a second sync of the same file would
    /// succeed and prove nothing. So the file is cut to what is known durable and never written again.
    fn abandon(&mut self, doing: &'static str, error: io::Error) -> LogError {
        let number = self.current.as_ref().map_or(self.next, |current| current.number);
        if let Some(current) = &mut self.current {
            let cut = |len| current.file.set_len(len).and_then(|()| current.file.sync());
            // A refused write leaves what was written before it as good as it was.
            if doing == "write" && cut(current.written).is_ok() {
                current.synced = current.written;
            } else {
                // Best effort: the next file says where this one ends, whatever stands behind it.
                let _ = cut(current.synced);
            }
        }
        self.end();
        self.error(doing, number, error)
    }

    fn error(&self, doing: &'static str, number: u64, source: io::Error) -> LogError {
        let path = self.disk.path(&self.naming.name(number)).display().to_string();
        LogError::Disk { doing, path, source: Arc::new(source) }
    }
}

/// How much the shortest file takes.
pub(crate) const EMPTY_FILE: u64 = (FILE_HEADER + FRAME_HEADER) as u64;

/// A number nobody outside can guess.
pub(crate) fn random() -> u64 {
    RandomState::new().hash_one(0)
}
