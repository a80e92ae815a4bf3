//! The engine that keeps the log in Redis, for any number of processes.
//!
//! Every change is an operation of one script, which executes each process's numbered batches once, in order, and whole.
//! `docs/design/update-log-redis.md` has the invariants and the keys.

mod apply;
mod body;
mod cells;
mod core;
mod deliver;
mod driver;
mod engine;
mod link;
mod list;
mod mirror;
mod news;
mod op;
mod options;
mod read;
mod rows;
mod shared;

use std::fmt;
use std::future::Future;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use common::node::NodeId;
use rand::RngExt;
use tokio::sync::{mpsc, oneshot, watch};

pub use options::{Durability, RedisLogOptions, RedisOpenError};
pub use shared::Shared;

use self::op::{Append, Op, Then, number};
use self::shared::Inner;
use crate::file::disk::{Disk, RealDisk};
use crate::file::encode::{self, Parts};
use crate::{AppendError, Appended, Lease, LogError, NewUpdate, UpdateBody};

/// Operations that wait for the driver; who comes when it is full waits to be let in.
const WAITING: usize = 1024;

/// A log in Redis, shared by any number of processes.
pub struct RedisLog {
    inner: Arc<Inner>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

/// Why what is shared could not be changed.
#[derive(Debug, thiserror::Error)]
pub enum ShareError {
    /// Somebody else changed it first: this is its version now.
    #[error("another process has changed it meanwhile: it has version {0} now")]
    Changed(u64),
    /// The engine failed.
    #[error(transparent)]
    Log(#[from] LogError),
}

impl fmt::Debug for RedisLog {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RedisLog({})", self.inner.options.address())
    }
}

impl Drop for RedisLog {
    fn drop(&mut self) {
        self.inner.stop.send_replace(true);
        let thread = self.thread.get_mut().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(thread) = thread {
            // A panic of the driver has been reported where it happened.
            let _ = thread.join();
        }
    }
}

impl RedisLog {
    /// Finds the log, or begins it. Waits for Redis as long as `options.patience`, and blocks meanwhile.
    ///
    /// # Errors
    /// [`RedisOpenError`]: Redis does not answer, may lose what it acknowledged, or has a log of a later version.
    pub fn open(options: RedisLogOptions, lease: Arc<dyn Lease>) -> Result<Arc<Self>, RedisOpenError> {
        redis_link::check(&options.url)?;
        let spool = |source| RedisOpenError::Spool { path: options.spool_dir.clone(), source };
        std::fs::create_dir_all(&options.spool_dir).map_err(spool)?;
        let disk: Arc<dyn Disk> = Arc::new(RealDisk::new(&options.spool_dir));
        disk.make_folder(body::FOLDER).map_err(spool)?;
        for left in disk.list(body::FOLDER).map_err(spool)? {
            disk.remove(&format!("{}/{left}", body::FOLDER)).map_err(spool)?;
        }
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(spool)?;
        let (commands, waiting) = mpsc::channel(WAITING);
        let (ready, opened) = std::sync::mpsc::channel();
        let handle = runtime.handle().clone();
        let inner = Arc::new(Inner::new(options, lease, random(), commands, disk, handle));
        let driver = driver::Driver::new(inner.clone(), waiting);
        let run = move || {
            runtime.block_on(async move {
                let (tell, told) = oneshot::channel();
                let telling = async move { drop(ready.send(told.await)) };
                tokio::join!(driver.run(tell), telling);
            });
        };
        let spawned = std::thread::Builder::new().name("update-log".into()).spawn(run);
        let source = |source| RedisOpenError::Spool { path: inner.options.spool_dir.clone(), source };
        let thread = Mutex::new(Some(spawned.map_err(source)?));
        let log = Arc::new(Self { inner, thread });
        match opened.recv() {
            Ok(Ok(Ok(()))) => Ok(log),
            Ok(Ok(Err(error))) => Err(error),
            Ok(Err(_)) | Err(_) => Err(link::away(&log.inner.options, "its thread has ended".into())),
        }
    }

    /// Why the log cannot be written now; `None` while it can.
    pub fn away(&self) -> watch::Receiver<Option<String>> {
        self.inner.away.subscribe()
    }

    /// What processes share beside the log, for the list of nodes; follows changes of others within moments.
    pub fn shared(&self) -> watch::Receiver<Shared> {
        self.inner.text.subscribe()
    }

    /// Replaces what is shared if it still has version `expected`; its new version. Durable when it resolves.
    ///
    /// # Errors
    /// [`ShareError::Changed`] when it has another.
    pub async fn share(&self, expected: u64, text: &[u8]) -> Result<u64, ShareError> {
        let fields = self.ask("share", vec![number(expected), text.to_vec()]).await?;
        let version = fields.get(1).and_then(|text| text.parse().ok());
        let version: u64 = version.ok_or_else(|| self.inner.strange(&fields))?;
        match fields[0].as_str() {
            "ok" => {
                let now = Shared { version, text: text.into() };
                self.inner.text.send_if_modified(|known| {
                    let newer = known.version < version;
                    if newer {
                        *known = now;
                    }
                    newer
                });
                Ok(version)
            }
            _ => Err(ShareError::Changed(version)),
        }
    }

    /// Has the driver do something, and waits for the fields of its result.
    async fn ask(&self, kind: &'static str, args: Vec<Vec<u8>>) -> Result<Vec<String>, LogError> {
        let (op, told) = Op::asked(kind, args);
        self.inner.commands.send(op).await.map_err(|_| LogError::Closed)?;
        let fields = told.await.map_err(|_| LogError::Closed)??;
        if fields.is_empty() { Err(self.inner.strange(fields)) } else { Ok(fields) }
    }

    /// As [`Self::ask`], for a change of a node.
    async fn done(
        &self,
        node: &NodeId,
        kind: &'static str,
        args: Vec<Vec<u8>>,
    ) -> Result<Vec<String>, LogError> {
        let fields = self.ask(kind, args).await?;
        match fields[0].as_str() {
            "stale" => Err(LogError::Stale(node.clone())),
            "gone" => Err(LogError::Node(node.clone())),
            _ => Ok(fields),
        }
    }

    /// Reads on the engine's own runtime: connections live there.
    async fn reading<T, F>(&self, read: impl FnOnce(Arc<Inner>) -> F) -> Result<T, LogError>
    where
        T: Send + 'static,
        F: Future<Output = Result<T, LogError>> + Send + 'static,
    {
        let future = read(self.inner.clone());
        self.inner.handle.spawn(future).await.map_err(|_| LogError::Closed)?
    }

    async fn append_update(&self, update: NewUpdate) -> Result<Appended, AppendError> {
        let away = self.inner.away.borrow().is_some();
        let encoded = encode::encode_append(&Parts::from(&update)).ok_or_else(|| {
            let what = "the update is too large for a record".to_owned();
            AppendError::Log(LogError::Answer { log: self.inner.options.address(), what })
        })?;
        let op = append_op(update, encoded);
        let (reply, answer) = oneshot::channel();
        let op = op(reply);
        if away && self.inner.commands.capacity() == 0 {
            return Err(AppendError::Log(self.inner.away_error()));
        }
        self.inner.commands.send(op).await.map_err(|_| AppendError::Log(LogError::Closed))?;
        answer.await.map_err(|_| AppendError::Log(LogError::Closed))?
    }
}

fn flag(set: bool) -> Vec<u8> {
    vec![b'0' + u8::from(set)]
}

fn append_op(
    update: NewUpdate,
    encoded: Vec<u8>,
) -> impl FnOnce(oneshot::Sender<Result<Appended, AppendError>>) -> Op {
    let spooled = match &update.body {
        UpdateBody::Spooled(spooled) => Some(spooled),
        UpdateBody::Memory(_) => None,
    };
    let name = spooled.and_then(|spooled| spooled.path.file_name()?.to_str()).unwrap_or_default();
    let flags = u64::from(update.method == http::Method::DELETE)
        + 2 * u64::from(update.key.is_some())
        + 4 * u64::from(spooled.is_some());
    let size = encoded.len() as u64 + spooled.map_or(0, |spooled| spooled.len);
    let key = |part: fn(&crate::ClientKey) -> crate::Digest| {
        update.key.as_ref().map_or_else(Vec::new, |key| part(key).to_vec())
    };
    let args = vec![
        number(flags),
        number(update.received_ms),
        number(size),
        key(|key| key.scope),
        key(|key| key.body),
        name.as_bytes().to_vec(),
        encoded,
    ];
    move |reply| {
        let append = Append { update, size, reply: Some(reply) };
        Op { kind: "append", args, then: Then::Append(Box::new(append)) }
    }
}

/// 128 random bits, as text.
fn random() -> String {
    format!("{:032x}", rand::rng().random::<u128>())
}
