//! Bodies in files of their own.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::{Bytes, BytesMut};

use super::disk::{Disk, DiskFile, write_all};
use super::journal::random;
use super::shared::{Shared, blocking, disk_error};
use crate::{AppendError, LogError, LogFuture, Spool, SpooledBody};

/// The folder of the bodies.
pub(crate) const FOLDER: &str = "spool";
const BUFFER: usize = 256 * 1024;

/// Removes a body's file with the last who may read it, unless the log keeps it.
pub(crate) struct Guard {
    disk: Arc<dyn Disk>,
    name: String,
    keep: AtomicBool,
}

impl Guard {
    /// Guards a file that the log keeps.
    pub(crate) fn kept(disk: Arc<dyn Disk>, name: String) -> Arc<Self> {
        Arc::new(Self { disk, name, keep: AtomicBool::new(true) })
    }

    /// Guards a file that goes with its last reader.
    pub(crate) fn fleeting(disk: Arc<dyn Disk>, name: String) -> Arc<Self> {
        Arc::new(Self { disk, name, keep: AtomicBool::new(false) })
    }

    /// Whether the file is to stay when nobody reads it.
    pub(crate) fn keep(&self, keep: bool) {
        self.keep.store(keep, Ordering::Relaxed);
    }

    /// The file, folder included.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        if !*self.keep.get_mut() {
            // What stays behind is removed when the log is opened.
            let _ = self.disk.remove(&self.name);
        }
    }
}

impl fmt::Debug for Guard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)
    }
}

/// A body being written.
pub(crate) struct SpoolFile {
    shared: Arc<Shared>,
    file: Arc<dyn DiskFile>,
    guard: Arc<Guard>,
    buffer: BytesMut,
    len: u64,
    crc: u32,
}

impl SpoolFile {
    /// Begins one.
    pub(crate) async fn begin(shared: Arc<Shared>) -> Result<Box<dyn Spool>, AppendError> {
        shared.room_for(0)?;
        let name = format!("{FOLDER}/{:016x}.body", random());
        let (disk, file_name) = (shared.disk.clone(), name.clone());
        let file = blocking(move || disk.create(&file_name)).await;
        let file = file.map_err(|error| disk_error(&*shared.disk, "begin", &name, error))?;
        let guard = Guard::fleeting(shared.disk.clone(), name);
        Ok(Box::new(Self { shared, file, guard, buffer: BytesMut::new(), len: 0, crc: 0 }))
    }

    async fn flush(&mut self) -> Result<(), LogError> {
        let (file, bytes, at) = (self.file.clone(), self.buffer.split().freeze(), self.len);
        self.crc = crc32c::crc32c_append(self.crc, &bytes);
        self.len += bytes.len() as u64;
        let written = blocking(move || write_all(&*file, &bytes, at)).await;
        written.map_err(|error| disk_error(&*self.shared.disk, "write", &self.guard.name, error))
    }
}

impl Spool for SpoolFile {
    fn write(&mut self, chunk: Bytes) -> LogFuture<'_, Result<(), AppendError>> {
        Box::pin(async move {
            self.shared.room_for(self.len + (self.buffer.len() + chunk.len()) as u64)?;
            self.buffer.extend_from_slice(&chunk);
            if self.buffer.len() >= BUFFER {
                self.flush().await?;
            }
            Ok(())
        })
    }

    fn finish(mut self: Box<Self>) -> LogFuture<'static, Result<SpooledBody, AppendError>> {
        Box::pin(async move {
            self.flush().await?;
            let Self { shared, file, guard, len, crc, .. } = *self;
            let disk = shared.disk.clone();
            let synced = blocking(move || file.sync().and_then(|()| disk.sync_folder(FOLDER))).await;
            synced.map_err(|error| disk_error(&*shared.disk, "sync", &guard.name, error))?;
            let path = shared.disk.path(&guard.name);
            Ok(SpooledBody { path, len, crc, guard: Some(guard) })
        })
    }
}
