//! Bodies too large for a record: in Redis under a name of their own, and in a file wherever they are sent from.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};

use super::shared::Inner;
use crate::file::Guard;
use crate::file::disk::{DiskFile, write_all};
use crate::file::shared::{blocking, disk_error};
use crate::{AppendError, LogError, LogFuture, Spool, SpooledBody};

/// The folder of the bodies.
pub(super) const FOLDER: &str = "bodies";
/// Bytes that travel at once.
const PART: usize = 1 << 20;
/// How long Redis keeps a body whose update has not come.
const WAITS_SECONDS: u64 = 3600;

/// A body being taken in: written to a file here, and to Redis.
pub(super) struct RedisSpool {
    inner: Arc<Inner>,
    file: Arc<dyn DiskFile>,
    name: String,
    guard: Arc<Guard>,
    buffer: BytesMut,
    len: u64,
    crc: u32,
}

impl RedisSpool {
    pub(super) async fn begin(inner: Arc<Inner>) -> Result<Box<dyn Spool>, AppendError> {
        if inner.away.borrow().is_some() {
            return Err(AppendError::Log(inner.away_error()));
        }
        let name = format!("{}.body", super::random());
        let (file, guard) = create(&inner, &name).await?;
        Ok(Box::new(Self { inner, file, name, guard, buffer: BytesMut::new(), len: 0, crc: 0 }))
    }

    async fn flush(&mut self) -> Result<(), AppendError> {
        let limit = self.inner.options.max_pending_bytes;
        let pending_bytes = self.inner.core().usage.pending_bytes;
        let bytes = self.buffer.split().freeze();
        if pending_bytes.saturating_add(self.len + bytes.len() as u64) > limit {
            self.inner.core().usage.refused += 1;
            return Err(AppendError::Full { pending_bytes, limit });
        }
        self.crc = crc32c::crc32c_append(self.crc, &bytes);
        let at = self.len;
        self.len += bytes.len() as u64;
        let key = self.inner.options.key(&format!("b:{}", self.name));
        // On the engine's own runtime: connections live there.
        let storing = store(self.inner.clone(), key, at, bytes.clone());
        self.inner.handle.spawn(storing).await.map_err(|_| LogError::Closed)??;
        write(&self.inner, &self.file, &self.name, bytes, at).await?;
        Ok(())
    }
}

impl Spool for RedisSpool {
    fn write(&mut self, chunk: Bytes) -> LogFuture<'_, Result<(), AppendError>> {
        Box::pin(async move {
            self.buffer.extend_from_slice(&chunk);
            if self.buffer.len() >= PART { self.flush().await } else { Ok(()) }
        })
    }

    fn finish(mut self: Box<Self>) -> LogFuture<'static, Result<SpooledBody, AppendError>> {
        Box::pin(async move {
            self.flush().await?;
            let path = self.inner.body_path(&self.name);
            Ok(SpooledBody { path, len: self.len, crc: self.crc, guard: Some(self.guard) })
        })
    }
}

async fn store(inner: Arc<Inner>, key: String, at: u64, bytes: Bytes) -> Result<(), LogError> {
    let mut parts = redis::pipe();
    // By offset: a part that is sent once more does no harm.
    parts.cmd("SETRANGE").arg(&key).arg(at).arg(&bytes[..]).ignore();
    parts.cmd("EXPIRE").arg(&key).arg(WAITS_SECONDS).ignore();
    let mut connection = inner.bulk().await?;
    if let Err(error) = parts.query_async::<()>(&mut connection).await {
        inner.drop_bulk().await;
        let what = format!("storing a body: {error}");
        return Err(LogError::Away { log: inner.options.address(), what });
    }
    Ok(())
}

async fn create(inner: &Inner, name: &str) -> Result<(Arc<dyn DiskFile>, Arc<Guard>), LogError> {
    let file_name = format!("{FOLDER}/{name}");
    let (disk, to_create) = (inner.disk.clone(), file_name.clone());
    let file = blocking(move || disk.create(&to_create)).await;
    let file = file.map_err(|error| disk_error(&*inner.disk, "begin", &file_name, error))?;
    Ok((file, Guard::fleeting(inner.disk.clone(), file_name)))
}

async fn write(
    inner: &Inner,
    file: &Arc<dyn DiskFile>,
    name: &str,
    bytes: Bytes,
    at: u64,
) -> Result<(), LogError> {
    let file = file.clone();
    let written = blocking(move || write_all(&*file, &bytes, at)).await;
    written.map_err(|error| disk_error(&*inner.disk, "write", &format!("{FOLDER}/{name}"), error))
}

/// Brings a body here. The file goes with its last reader.
pub(super) async fn fetch(inner: &Inner, name: &str, len: u64, crc: u32) -> Result<SpooledBody, LogError> {
    // Another file for each: who still reads the one before removes only that.
    let local = format!("{}-{name}", super::random());
    let (file, guard) = create(inner, &local).await?;
    let key = inner.options.key(&format!("b:{name}"));
    let (mut at, mut found) = (0, 0);
    while at < len {
        let end = (at + PART as u64).min(len) - 1;
        let part: Vec<u8> = inner.query(redis::cmd("GETRANGE").arg(&key).arg(at).arg(end)).await?;
        if part.is_empty() {
            break;
        }
        found = crc32c::crc32c_append(found, &part);
        let from = at;
        at += part.len() as u64;
        write(inner, &file, &local, part.into(), from).await?;
    }
    if at != len || found != crc {
        let what = "a body does not read back as it was stored".to_owned();
        return Err(LogError::Damaged { path: inner.options.address(), offset: at, what });
    }
    Ok(SpooledBody { path: inner.body_path(&local), len, crc, guard: Some(guard) })
}
