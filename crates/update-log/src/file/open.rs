//! Opening a log: its settings, and what can stand in the way.

use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use daemon::state_dir::{StateDir, StateDirError};

use super::FileLog;
use super::core::Core;
use super::disk::{Disk, RealDisk};
use super::diverged::Diverged;
use super::files::{ANSWERS, LOG, RecoverError};
use super::frame;
use super::journal::Journal;
use super::recover::{self, Recovered};
use super::shared::Shared;
use super::writer::{Clock, Limits, Writer};
use crate::LogError;

/// What the format file of a log's directory is called.
const PURPOSE: &str = "update-log";

/// Settings of a [`FileLog`].
#[derive(Debug, Clone)]
pub struct FileLogOptions {
    /// The directory, for this log alone.
    pub dir: PathBuf,
    /// A file of updates is closed when it has grown to this; at most 1 GiB.
    pub segment_bytes: u64,
    /// Appends are refused while nodes still need more than this.
    pub max_pending_bytes: u64,
    /// Updates that every node has are kept for this long ...
    pub retain: Duration,
    /// ... unless they take more than this.
    pub retain_bytes: u64,
    /// A client's key is remembered for this long, and as long as its update is undelivered anywhere.
    pub remember: Duration,
    /// Appends with a key are refused while so many are remembered.
    pub max_keys: u64,
    /// The newest updates are held in memory, up to this.
    pub cache_bytes: u64,
    /// How long it may take until it is written down that a node is done with an update.
    pub mark_delay: Duration,
}

impl FileLogOptions {
    /// The defaults for a log in `dir`.
    pub fn new(dir: impl Into<PathBuf>) -> Self {
        Self {
            dir: dir.into(),
            segment_bytes: 64 << 20,
            max_pending_bytes: 8 << 30,
            retain: Duration::from_secs(600),
            retain_bytes: 256 << 20,
            remember: Duration::from_secs(600),
            max_keys: 4_000_000,
            cache_bytes: 64 << 20,
            mark_delay: Duration::from_millis(20),
        }
    }
}

/// Why a log cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Another process has it open.
    #[error(
        "the update log in {} is in use{}: stop that process, or give this one another directory",
        dir.display(), pid.map_or(String::new(), |pid| format!(" by process {pid}"))
    )]
    Locked {
        /// The directory.
        dir: PathBuf,
        /// The process, if it said who it is.
        pid: Option<u32>,
    },
    /// A later version wrote it.
    #[error("{} has format {found}, and this version knows formats up to {known}: use a newer version", path.display())]
    Newer {
        /// The file.
        path: PathBuf,
        /// Its format.
        found: u32,
        /// The latest format known here.
        known: u32,
    },
    /// The directory cannot be read or written.
    #[error("cannot {doing} {}: {source}", path.display())]
    Io {
        /// What was being done.
        doing: &'static str,
        /// The file or directory.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// Something that was durable is not there any more, or not as it was.
    #[error(
        "{} is damaged at byte {offset}: {what}. Nothing was changed. Restore the directory from a copy, or \
         move it away to begin with an empty log: updates that no node had yet are then only in what you moved",
        path.display()
    )]
    Damaged {
        /// The file.
        path: PathBuf,
        /// Where in it.
        offset: u64,
        /// What does not fit.
        what: String,
    },
}

impl OpenError {
    /// The exit code of a daemon that cannot go on without its log.
    pub fn exit_code(&self) -> u8 {
        if matches!(self, Self::Newer { .. }) { 78 } else { 1 }
    }
}

impl From<StateDirError> for OpenError {
    fn from(error: StateDirError) -> Self {
        match error {
            StateDirError::Locked { dir, pid } => Self::Locked { dir, pid },
            StateDirError::Newer { path, found, known } => Self::Newer { path, found, known },
            StateDirError::Damaged { path } => {
                Self::Damaged { path, offset: 0, what: "it does not say which format it is".into() }
            }
            StateDirError::Io { doing, path, source } => Self::Io { doing, path, source },
        }
    }
}

impl From<RecoverError> for OpenError {
    fn from(error: RecoverError) -> Self {
        match error {
            RecoverError::Io { doing, path, source } => Self::Io { doing, path, source },
            RecoverError::Newer { path, found } => Self::Newer { path, found, known: frame::VERSION },
            RecoverError::Damaged { path, offset, what } => Self::Damaged { path, offset, what },
        }
    }
}

impl FileLog {
    /// Opens the log in a directory, or begins one there. Reads all of it, so this may take seconds.
    ///
    /// # Errors
    /// [`OpenError`]; nothing was changed then but leftovers of earlier crashes.
    pub fn open(options: FileLogOptions) -> Result<Arc<Self>, OpenError> {
        let dir = StateDir::open(&options.dir)?;
        dir.check_format(PURPOSE, frame::VERSION)?;
        let disk = Arc::new(RealDisk::new(&options.dir));
        Self::open_on(disk, options, Some(dir))
    }

    /// Opens the log on any disk.
    pub(crate) fn open_on(
        disk: Arc<dyn Disk>,
        options: FileLogOptions,
        dir: Option<StateDir>,
    ) -> Result<Arc<Self>, OpenError> {
        let ms = |duration: Duration| u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
        let limits = Limits {
            segment_bytes: options.segment_bytes.clamp(1, 1 << 30),
            retain_ms: ms(options.retain),
            retain_bytes: options.retain_bytes,
            remember_ms: ms(options.remember),
            lazy: options.mark_delay,
        };
        let recovered = recover::recover(&disk, limits.remember_ms)?;
        let clock = Clock::new(recovered.newest_ms);
        let Recovered { state, keys, files, bodies, dead, retried, last, next_answers, clean, marks, .. } =
            recovered;
        let mut core = Core::new(state, keys, options.cache_bytes);
        (core.files, core.bodies, core.dead, core.marks) = (files, bodies, dead, marks);
        core.retried = retried;
        core.diverged = Diverged::load(&*disk);
        core.settle_keys(clock.now_ms());
        let log = Journal::new(disk.clone(), LOG, last.map_or(1, |(number, _)| number + 1), last)
            .with_step((limits.segment_bytes / 16).min(4 << 20));
        let answers = Journal::new(disk.clone(), ANSWERS, next_answers, None);
        let shared = Arc::new(Shared::new(core, disk, options.max_pending_bytes, options.max_keys));
        let mut writer = Writer::new(shared.clone(), log, answers, clock, limits);
        writer.start(last.is_some() && !clean).map_err(open_error)?;
        let thread = std::thread::Builder::new().name("update-log".into()).spawn(move || writer.run());
        let thread = thread.map_err(|source| OpenError::Io {
            doing: "start a thread for",
            path: options.dir.clone(),
            source,
        })?;
        Ok(Arc::new(Self { shared, writer: Mutex::new(Some(thread)), _dir: dir }))
    }
}

fn open_error(error: LogError) -> OpenError {
    match error {
        LogError::Disk { doing, path, source } => {
            let source = std::io::Error::new(source.kind(), source.to_string());
            OpenError::Io { doing, path: path.into(), source }
        }
        LogError::Damaged { path, offset, what } => OpenError::Damaged { path: path.into(), offset, what },
        other => {
            let source = std::io::Error::other(other.to_string());
            OpenError::Io { doing: "begin", path: PathBuf::new(), source }
        }
    }
}
