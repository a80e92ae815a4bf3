//! Leases in a directory of one host: the kernel's file lock says who holds, a file beside it keeps the token.
//!
//! `DIR/NAME.lock` is locked (`flock`) as long as any copy of the holder's descriptor is open. `DIR/NAME.lease`
//! is the record as JSON, written whole: temporary file, sync, rename, sync of the directory.

use std::collections::HashMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use rustix::fs::{FlockOperation, flock};

use crate::error::LockError;
use crate::lease::rules::{Contender, Kept, Record, Reply, Request, Scene, decide};
use crate::lease::{Failover, Timing, Unsafe};

use super::{Id, Listener, Lock, LockFuture, Session};

/// How often a waiter tries the kernel's lock: well within the 100 ms of a hand-over.
const LOOK_EVERY: Duration = Duration::from_millis(40);
/// The run of the store: the kernel forgets no lock while it runs, and keeps none beyond.
const RUN: &str = "file";

/// The locked files by id, each with the owner that it was locked for.
type Held = HashMap<Id, (String, File)>;

/// Leases in a directory, for one host.
#[derive(Debug)]
pub struct FileLock {
    folder: PathBuf,
    /// Shared by all sessions, so that a lease outlives the session it was taken on.
    held: Arc<Mutex<Held>>,
}

impl FileLock {
    /// Leases in this directory, which is made when the first session is opened.
    pub fn new(folder: impl Into<PathBuf>) -> Self {
        Self { folder: folder.into(), held: Arc::default() }
    }
}

impl Lock for FileLock {
    fn address(&self) -> String {
        format!("file:{}", self.folder.display())
    }

    fn failover(&self, _: &Timing) -> Failover {
        Failover::by_kernel("file")
    }

    fn problems(&self, _: &Timing) -> Vec<Unsafe> {
        Vec::new()
    }

    fn look_every(&self) -> Option<Duration> {
        Some(LOOK_EVERY)
    }

    fn open<'a>(
        &'a self,
        id: &'a Id,
        from: &'a Contender,
        _: Duration,
        _: Listener,
    ) -> LockFuture<'a, Box<dyn Session>> {
        Box::pin(async move {
            // Others could take a lease, or free one, by a directory that they can write to.
            fs::DirBuilder::new()
                .recursive(true)
                .mode(0o700)
                .create(&self.folder)
                .map_err(|error| file_error("making the directory", &self.folder, error))?;
            let name = utf8_percent_encode(id.as_str(), NON_ALPHANUMERIC).to_string();
            let place = Place {
                lock: self.folder.join(format!("{name}.lock")),
                record: self.folder.join(format!("{name}.lease")),
                folder: self.folder.clone(),
                id: id.clone(),
                held: self.held.clone(),
            };
            Ok(Box::new(FileSession { place, from: from.clone() }) as Box<dyn Session>)
        })
    }

    fn descriptor(&self, id: &Id) -> Option<OwnedFd> {
        lock(&self.held).get(id)?.1.try_clone().ok().map(OwnedFd::from)
    }
}

/// The files of one id.
#[derive(Clone)]
struct Place {
    lock: PathBuf,
    record: PathBuf,
    folder: PathBuf,
    id: Id,
    held: Arc<Mutex<Held>>,
}

struct FileSession {
    place: Place,
    from: Contender,
}

impl Session for FileSession {
    fn ask<'a>(&'a mut self, request: &'a Request) -> LockFuture<'a, Reply> {
        let (place, from, request) = (self.place.clone(), self.from.clone(), request.clone());
        Box::pin(async move {
            // A disk can be slow; the task that counts the deadline must not wait for it.
            let asked = tokio::task::spawn_blocking(move || place.ask(&from, &request)).await;
            asked.unwrap_or_else(|error| std::panic::resume_unwind(error.into_panic()))
        })
    }
}

impl Place {
    fn ask(&self, from: &Contender, request: &Request) -> Result<Reply, LockError> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let now_us = u64::try_from(now.as_micros()).unwrap_or(u64::MAX);
        let mut held = lock(&self.held);
        match request {
            Request::Acquire { floor, .. } => self.acquire(&mut held, from, *floor, now_us),
            Request::Renew { .. } => Ok(self.renew(&held, from, now_us)?),
            Request::Release { .. } => self.release(&mut held, from, request, now_us),
            Request::Read => self.show(&held, from, now_us),
        }
    }

    fn acquire(
        &self,
        held: &mut Held,
        from: &Contender,
        floor: u64,
        now_us: u64,
    ) -> Result<Reply, LockError> {
        // One that is left from a request whose answer was lost is ours already.
        let file = match held.remove(&self.id) {
            Some((owner, file)) if owner == from.owner && self.in_place(&file) => file,
            other => {
                // Another contender of this process keeps its own.
                held.extend(
                    other.filter(|(owner, _)| *owner != from.owner).map(|kept| (self.id.clone(), kept)),
                );
                self.open_lock()?
            }
        };
        if let Err(error) = flock(&file, FlockOperation::NonBlockingLockExclusive) {
            if error != rustix::io::Errno::WOULDBLOCK {
                return Err(file_error("locking", &self.lock, error.into()));
            }
            let record = self.load()?;
            if let Some(record) = record.as_ref().filter(|record| record.expiry_ms != from.expiry_ms) {
                return Ok(Reply::OtherExpiry { recorded_ms: record.expiry_ms });
            }
            return Ok(Reply::Busy(self.busy(record, now_us)));
        }
        if !self.in_place(&file) {
            // Its name went while it was being locked: whoever locks the new one is not kept out by it.
            return Err(file_error(
                "locking",
                &self.lock,
                io::Error::other("the file was replaced meanwhile"),
            ));
        }
        // The kernel says that nobody holds it, whatever the record says.
        let record = self.load()?;
        let observed = record.as_ref().map(Record::seen);
        let mut kept = Kept { record, legacy: None };
        let request = Request::Acquire { observed, floor, fresh: true };
        let (reply, _) = decide(&mut kept, &scene(now_us), from, &request);
        self.save(&kept)?;
        held.insert(self.id.clone(), (from.owner.clone(), file));
        Ok(reply)
    }

    fn renew(&self, held: &Held, from: &Contender, now_us: u64) -> Result<Reply, LockError> {
        match held.get(&self.id) {
            Some((owner, file)) if *owner == from.owner && self.in_place(file) && still_ours(file) => {
                Ok(Reply::Renewed { end_us: now_us + from.expiry_ms * 1000 })
            }
            _ => Ok(Reply::Lost(self.busy(self.load()?, now_us))),
        }
    }

    fn release(
        &self,
        held: &mut Held,
        from: &Contender,
        request: &Request,
        now_us: u64,
    ) -> Result<Reply, LockError> {
        let own = held.get(&self.id).filter(|(owner, _)| *owner == from.owner);
        let kept = own.map(|(_, file)| still_ours(file));
        if kept == Some(false) {
            held.remove(&self.id);
        }
        if kept != Some(true) {
            return Ok(Reply::Lost(self.busy(self.load()?, now_us)));
        }
        let mut kept = Kept { record: self.load()?, legacy: None };
        if decide(&mut kept, &scene(now_us), from, request).0 == Reply::Released {
            // That it was released is for people; a full disk must not keep it from being free.
            if let Err(error) = self.save(&kept) {
                tracing::warn!(%error, "the lease is free, but its file does not say so");
            }
        }
        let Some((_, file)) = held.remove(&self.id) else { return Ok(Reply::Released) };
        // Frees every copy of the descriptor, the guard's too.
        flock(&file, FlockOperation::Unlock)
            .map_err(|error| file_error("unlocking", &self.lock, error.into()))?;
        Ok(Reply::Released)
    }

    fn show(&self, held: &Held, from: &Contender, now_us: u64) -> Result<Reply, LockError> {
        let record = self.load()?;
        let taken = held.contains_key(&self.id) || {
            let file = self.open_lock()?;
            // Shared, so that two who look do not see each other; a contender that meets it tries again.
            flock(&file, FlockOperation::NonBlockingLockShared).is_err()
        };
        if taken {
            return Ok(Reply::Shown(self.busy(record, now_us)));
        }
        let record = record.map(|record| Record { released: true, ..record });
        let mut kept = Kept { record, legacy: None };
        Ok(decide(&mut kept, &scene(now_us), from, &Request::Read).0)
    }

    /// The record as one that is held, whose end nobody knows.
    fn busy(&self, record: Option<Record>, now_us: u64) -> crate::lease::rules::View {
        // Held by the kernel's word: not over before its holder is gone.
        let end_us = |record: &Record| record.end_us.max(now_us + record.expiry_ms * 1000);
        let record = record.map(|record| Record { end_us: end_us(&record), released: false, ..record });
        Kept { record, legacy: None }.view(&scene(now_us), false)
    }

    fn open_lock(&self) -> Result<File, LockError> {
        OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .mode(0o600)
            .open(&self.lock)
            .map_err(|error| file_error("opening", &self.lock, error))
    }

    /// Whether the file is still the one that others would open.
    fn in_place(&self, file: &File) -> bool {
        let Ok(ours) = file.metadata() else { return false };
        fs::metadata(&self.lock).is_ok_and(|named| (named.dev(), named.ino()) == (ours.dev(), ours.ino()))
    }

    fn load(&self) -> Result<Option<Record>, LockError> {
        let text = match fs::read(&self.record) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(file_error("reading", &self.record, error)),
        };
        let stored: Stored = serde_json::from_slice(&text)
            .map_err(|error| file_error("reading", &self.record, io::Error::other(error)))?;
        if stored.format != FORMAT {
            let what = format!("format {} is not known here, only {FORMAT}", stored.format);
            return Err(file_error("reading", &self.record, io::Error::other(what)));
        }
        Ok(Some(stored.into_record()))
    }

    fn save(&self, kept: &Kept) -> Result<(), LockError> {
        let Some(record) = &kept.record else { return Ok(()) };
        let text = serde_json::to_vec(&Stored::of(record))
            .map_err(|error| file_error("writing", &self.record, io::Error::other(error)))?;
        let fresh = self.record.with_extension("new");
        let write = || -> io::Result<()> {
            let mut file =
                OpenOptions::new().create(true).truncate(true).write(true).mode(0o600).open(&fresh)?;
            file.write_all(&text)?;
            file.sync_all()?;
            fs::rename(&fresh, &self.record)?;
            File::open(&self.folder)?.sync_all()
        };
        write().map_err(|error| file_error("writing", &self.record, error))
    }
}

/// Whether the lock is (again) this process's: a guard frees it for all when it had to end the child.
fn still_ours(file: &File) -> bool {
    flock(file, FlockOperation::NonBlockingLockExclusive).is_ok()
}

/// The format of the record's file; another one is refused.
const FORMAT: u32 = 1;

#[derive(serde::Serialize, serde::Deserialize)]
struct Stored {
    format: u32,
    token: u64,
    owner: String,
    address: String,
    expiry_ms: u64,
    end_us: u64,
    written_us: u64,
    released: bool,
}

impl Stored {
    fn of(record: &Record) -> Self {
        let Record { token, owner, address, expiry_ms, end_us, written_us, released, .. } = record.clone();
        Self { format: FORMAT, token, owner, address, expiry_ms, end_us, written_us, released }
    }

    fn into_record(self) -> Record {
        let Self { token, owner, address, expiry_ms, end_us, written_us, released, .. } = self;
        Record { token, owner, address, expiry_ms, end_us, written_us, released, run: RUN.to_owned() }
    }
}

fn scene(now_us: u64) -> Scene<'static> {
    Scene { now_us, run: RUN }
}

fn lock(held: &Mutex<Held>) -> MutexGuard<'_, Held> {
    held.lock().unwrap_or_else(PoisonError::into_inner)
}

fn file_error(doing: &'static str, path: &Path, source: io::Error) -> LockError {
    LockError::File { doing, path: path.display().to_string(), source }
}
