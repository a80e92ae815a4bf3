//! Reads again when inotify says that something happened, and now and then without its word.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rustix::fs::inotify::{self, CreateFlags, WatchFlags};
use rustix::io::Errno;
use tokio::io::unix::AsyncFd;
use tokio::time::Instant;

use super::LOOK_EVERY;
use super::tree::Tree;
use crate::backend::{BackendFuture, Source};
use crate::error::Error;

/// How long after an event is looked again: the kernel tells that a file is closed just before it frees its lock.
const SOON: [Duration; 2] = [Duration::from_millis(10), Duration::from_millis(100)];

/// What happens to a record's folder: one comes or goes, or its owner's last descriptor is closed.
const EVENTS: WatchFlags = WatchFlags::CREATE
    .union(WatchFlags::MOVE)
    .union(WatchFlags::DELETE)
    .union(WatchFlags::CLOSE_WRITE)
    .union(WatchFlags::DELETE_SELF)
    .union(WatchFlags::MOVE_SELF)
    .union(WatchFlags::ONLYDIR);
/// What happens above a folder that is not there yet. Once: it may be a busy place, and each look asks anew.
const ABOVE: WatchFlags = WatchFlags::CREATE
    .union(WatchFlags::MOVED_TO)
    .union(WatchFlags::DELETE_SELF)
    .union(WatchFlags::MOVE_SELF)
    .union(WatchFlags::ONLYDIR)
    .union(WatchFlags::ONESHOT);

type Inotify = Arc<AsyncFd<std::os::fd::OwnedFd>>;
type Folders = Arc<dyn Fn(&Tree) -> Vec<PathBuf> + Send + Sync>;
type Reading<T> = Arc<dyn Fn(&Tree) -> Result<T, Error> + Send + Sync>;

pub(super) struct Watch<T> {
    tree: Arc<Tree>,
    folders: Folders,
    reading: Reading<T>,
    inotify: Option<Inotify>,
    /// What the last call gave; None before the first one and after an error.
    last: Option<T>,
    /// Whether an event was taken that no reading has followed yet.
    due: bool,
    /// How many looks there were since the last event, and when the next one is due.
    looks: usize,
    next_look: Instant,
    /// Whether it was said that inotify does not work.
    told: bool,
}

impl<T: Clone + PartialEq + Send + 'static> Watch<T> {
    /// Of what `reading` gives, whenever something happens in one of the folders.
    pub(super) fn new(
        tree: Arc<Tree>,
        folders: impl Fn(&Tree) -> Vec<PathBuf> + Send + Sync + 'static,
        reading: impl Fn(&Tree) -> Result<T, Error> + Send + Sync + 'static,
    ) -> Self {
        Self {
            tree,
            folders: Arc::new(folders),
            reading: Arc::new(reading),
            inotify: None,
            last: None,
            due: true,
            looks: 0,
            next_look: Instant::now(),
            told: false,
        }
    }

    async fn changed(&mut self) -> Result<T, Error> {
        loop {
            if self.last.is_some() {
                self.wait().await;
            }
            let read = self.read().await.inspect_err(|_| self.last = None)?;
            self.due = false;
            self.next_look = Instant::now() + SOON.get(self.looks).copied().unwrap_or(LOOK_EVERY);
            self.looks += 1;
            if self.last.as_ref() != Some(&read) {
                self.last = Some(read.clone());
                return Ok(read);
            }
        }
    }

    /// Until it is time to read. All that was taken in is kept in `due`, so that a dropped future takes nothing with it.
    async fn wait(&mut self) {
        if self.due {
            return;
        }
        match &self.inotify {
            Some(inotify) => {
                let happened = tokio::time::timeout_at(self.next_look, drained(inotify)).await;
                match happened {
                    Ok(Ok(())) => self.looks = 0,
                    Ok(Err(_)) => self.inotify = None,
                    Err(_) => {}
                }
            }
            None => tokio::time::sleep_until(self.next_look).await,
        }
        self.due = true;
    }

    /// Asks to be told, then reads: what happens in between is told.
    async fn read(&mut self) -> Result<T, Error> {
        let mut trouble = None;
        if self.inotify.is_none() {
            match begin() {
                Ok(inotify) => self.inotify = Some(inotify),
                Err(error) => trouble = Some(error),
            }
        }
        let (folders, reading, inotify) = (self.folders.clone(), self.reading.clone(), self.inotify.clone());
        let (read, armed) = self
            .tree
            .run(move |tree| {
                let armed = inotify.map_or(Ok(()), |inotify| {
                    folders(tree).iter().try_for_each(|folder| listen(&inotify, folder))
                });
                Ok((reading(tree)?, armed))
            })
            .await?;
        trouble = trouble.or(armed.err().map(io::Error::from));
        if let Some(error) = trouble.filter(|_| !std::mem::replace(&mut self.told, true)) {
            tracing::warn!(
                directory = %self.tree.root.display(),
                %error,
                "inotify does not work here: changes are seen within {LOOK_EVERY:?}; raise fs.inotify.max_user_instances and max_user_watches",
            );
        }
        Ok(read)
    }
}

impl<T: Clone + PartialEq + Send + 'static> Source<T> for Watch<T> {
    fn next(&mut self) -> BackendFuture<'_, Result<T, Error>> {
        Box::pin(self.changed())
    }
}

#[expect(deprecated, reason = "an OwnedFd keeps its descriptor; the newer call needs unsafe code")]
fn begin() -> io::Result<Inotify> {
    let descriptor = inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK)?;
    Ok(Arc::new(AsyncFd::new(descriptor)?))
}

/// Asks to be told about a folder, or about the place where it will be.
fn listen(inotify: &Inotify, folder: &Path) -> Result<(), Errno> {
    for (at, place) in folder.ancestors().enumerate() {
        match inotify::add_watch(inotify.get_ref(), place, if at == 0 { EVENTS } else { ABOVE }) {
            // What cannot be told is seen by reading.
            Err(Errno::NOENT | Errno::NOTDIR | Errno::ACCESS) => {}
            done => return done.map(drop),
        }
    }
    Ok(())
}

/// Waits for events and takes all that are there. What they say does not matter, not even that some were lost.
async fn drained(inotify: &Inotify) -> io::Result<()> {
    let mut ready = inotify.readable().await?;
    let mut buffer = [0; 4096];
    loop {
        match ready.try_io(|inotify| Ok(rustix::io::read(inotify.get_ref(), &mut buffer)?)) {
            Ok(Ok(_)) => {}
            Ok(Err(error)) if error.kind() == io::ErrorKind::Interrupted => {}
            Ok(Err(error)) => return Err(error),
            Err(_) => return Ok(()),
        }
    }
}
