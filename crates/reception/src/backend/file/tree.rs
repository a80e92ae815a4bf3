//! The directory: what lies where, and reading it.

use std::collections::{BTreeMap, HashSet};
use std::ffi::OsStr;
use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind, Read};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use rustix::fs::{AtFlags, FlockOperation, Mode, OFlags, RawDir, flock};
use rustix::io::Errno;

use crate::backend::line::unmarked;
use crate::backend::{Names, contents};
use crate::error::Error;
use crate::record;
use crate::service::{Instance, Name, Service, Snapshot};

/// The most that is read of a record; one with the largest attributes is far below it.
const LARGEST: u64 = 1 << 20;
/// A list is read anew at most so many times because it changed meanwhile.
const READINGS: usize = 50;
/// The room for a folder's entries at first, and at most, in bytes. An entry takes about 80.
const ROOM: std::ops::RangeInclusive<usize> = (64 << 10)..=(64 << 20);

/// The last number that was given out, in the root: numbers grow over all names and prefixes, for ever. Its lock is that of all who
/// put records there.
pub(super) const SEQUENCE: &str = ".sequence";

#[derive(Debug)]
pub(super) struct Tree {
    /// As the address says.
    pub(super) root: PathBuf,
    /// With the prefix.
    base: PathBuf,
    pub(super) timeout: Duration,
    /// Whether the root was there once.
    existed: AtomicBool,
    /// The highest number that was seen there; 0 for none.
    highest: AtomicU64,
}

impl Tree {
    pub(super) fn new(root: PathBuf, base: PathBuf, timeout: Duration) -> Self {
        Self { root, base, timeout, existed: AtomicBool::new(false), highest: AtomicU64::new(0) }
    }

    pub(super) fn address(&self) -> String {
        format!("file:{}", self.root.display())
    }

    /// Does blocking work elsewhere: a disk can be slow, and whoever counts deadlines must not wait for it.
    pub(super) async fn run<T: Send + 'static>(
        self: &Arc<Self>,
        work: impl FnOnce(&Self) -> Result<T, Error> + Send + 'static,
    ) -> Result<T, Error> {
        let tree = self.clone();
        let running = tokio::task::spawn_blocking(move || work(&tree));
        match tokio::time::timeout(self.timeout, running).await {
            Ok(done) => done.unwrap_or_else(|error| std::panic::resume_unwind(error.into_panic())),
            Err(_) => Err(Error::Silent { backend: self.address(), within: self.timeout }),
        }
    }

    pub(super) fn problems(&self) -> Vec<String> {
        // It may not be there yet; then its place is asked.
        let system = self.root.ancestors().find_map(|folder| rustix::fs::statfs(folder).ok());
        let shared = system.and_then(|system| shared_system(u64::try_from(system.f_type).ok()?));
        let told = shared.map(|kind| {
            format!(
                "{} is on a network file system ({kind}): this works on one host only; use a directory on a local disk",
                self.root.display()
            )
        });
        told.into_iter().collect()
    }

    /// The highest number that this process has seen.
    pub(super) fn highest(&self) -> u64 {
        self.highest.load(Ordering::Relaxed)
    }

    pub(super) fn saw(&self, number: u64) {
        self.highest.fetch_max(number, Ordering::Relaxed);
    }

    /// Of a name.
    pub(super) fn folder(&self, name: &Name) -> PathBuf {
        self.base.join(folder_name(name))
    }

    /// The folder in which names lie, and those of the names.
    pub(super) fn folders(&self) -> Vec<PathBuf> {
        let names = self.named_folders().unwrap_or_default();
        std::iter::once(self.base.clone()).chain(names.iter().map(|name| self.folder(name))).collect()
    }

    fn named_folders(&self) -> Result<Vec<Name>, Error> {
        let found = self.entries(&self.base)?.unwrap_or_default();
        Ok(found.iter().filter_map(|entry| name_of_folder(entry)).collect())
    }

    pub(super) fn names(&self) -> Result<Names, Error> {
        let mut names = Vec::new();
        for name in self.named_folders()? {
            if !self.instances(&name)?.is_empty() {
                names.push(name);
            }
        }
        Ok(contents::names(names))
    }

    pub(super) fn snapshot(&self, name: &Name) -> Result<Snapshot, Error> {
        self.instances(name).map(contents::snapshot)
    }

    /// Those that live, in any order. What is read while others come and go is read again, so that the answer is the list of one moment.
    fn instances(&self, name: &Name) -> Result<Vec<Instance>, Error> {
        let folder = self.folder(name);
        let mut gone: HashSet<String> = HashSet::new();
        let mut found = BTreeMap::new();
        for _ in 0..READINGS {
            let (known, listed) = (gone.len(), self.entries(&folder)?.unwrap_or_default());
            found.clear();
            for file in listed {
                let Some((created, id)) = record_of_file(&file).filter(|_| !gone.contains(&file)) else {
                    continue;
                };
                match self.look(&folder.join(&file), name, id)? {
                    Look::Lives(service) => drop(found.insert(created, service)),
                    Look::Foreign => {}
                    Look::Gone => drop(gone.insert(file)),
                }
            }
            if gone.len() == known {
                break;
            }
        }
        self.saw(found.last_key_value().map_or(0, |(created, _)| *created));
        // Of two with one id the older one is about to be taken away by the newer.
        let mut ids = HashSet::new();
        let newest = found.into_iter().rev().filter(|(_, service)| ids.insert(service.id.clone()));
        Ok(newest.map(|(created, service)| Instance { service, created }).collect())
    }

    /// Reads a record, and takes it away when its owner is dead.
    fn look(&self, path: &Path, name: &Name, id: &str) -> Result<Look, Error> {
        let file = match open_record(path) {
            Ok(Some(file)) => file,
            Ok(None) => return Ok(Look::Foreign),
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Look::Gone),
            Err(error) => return Err(self.error("reading", path, &error)),
        };
        let mut value = Vec::new();
        (&file).take(LARGEST).read_to_end(&mut value).map_err(|error| self.error("reading", path, &error))?;
        let Some(service) = record::decode(name, id, &value) else { return Ok(Look::Foreign) };
        if is_held(&file).map_err(|error| self.error("reading the lock of", path, &error))? {
            return Ok(Look::Lives(service));
        }
        // Whoever may only read leaves it to others. It counts for nothing either way.
        let _ = remove(path, &file);
        Ok(Look::Gone)
    }

    /// The names of a folder's entries that are text and not hidden; None when there is no such folder. An error when there is
    /// nothing because the whole directory is gone.
    pub(super) fn entries(&self, folder: &Path) -> Result<Option<Vec<String>>, Error> {
        let Some(root) = self.open_root()? else { return Ok(None) };
        let within = folder.strip_prefix(&self.root).ok().filter(|within| !within.as_os_str().is_empty());
        let found = match entries(root.as_fd(), within.unwrap_or(Path::new("."))) {
            Ok(found) => Some(found),
            Err(Errno::NOENT) => None,
            // A file between the folders of names is none of ours.
            Err(Errno::NOTDIR) => None,
            Err(error) => return Err(self.error("reading", folder, &error.into())),
        };
        if found.as_ref().is_none_or(Vec::is_empty) {
            self.expect_sequence(&root)?;
        }
        Ok(found)
    }

    /// None when it was never there: then nobody has registered. One that was is moved away or not mounted, and says nothing.
    fn open_root(&self) -> Result<Option<OwnedFd>, Error> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        match rustix::fs::open(&self.root, flags, Mode::empty()) {
            Ok(root) => {
                self.existed.store(true, Ordering::Relaxed);
                Ok(Some(root))
            }
            Err(Errno::NOENT) if self.existed.load(Ordering::Relaxed) => Err(self.vanished("is gone")),
            Err(Errno::NOENT) => Ok(None),
            Err(error) => Err(self.error("reading", &self.root, &error.into())),
        }
    }

    /// An error where the mount point is seen instead of the directory that had records.
    fn expect_sequence(&self, root: &OwnedFd) -> Result<(), Error> {
        let gone = self.highest() > 0
            && rustix::fs::statat(root, SEQUENCE, AtFlags::SYMLINK_NOFOLLOW).err() == Some(Errno::NOENT);
        if gone { Err(self.vanished("is empty")) } else { Ok(()) }
    }

    fn vanished(&self, how: &str) -> Error {
        let what =
            format!("{} {how}, and held records before: is it moved or not mounted?", self.root.display());
        Error::Disconnected { backend: self.address(), what }
    }

    pub(super) fn error(&self, doing: &str, path: &Path, error: &io::Error) -> Error {
        let (backend, what) = (self.address(), format!("{doing} {}: {error}", path.display()));
        match error.kind() {
            ErrorKind::PermissionDenied | ErrorKind::ReadOnlyFilesystem => Error::Refused {
                backend,
                what: format!("{what}; let this user read and write there, or name another directory"),
            },
            // A file is where the directory should be.
            ErrorKind::NotADirectory | ErrorKind::AlreadyExists | ErrorKind::InvalidFilename => {
                Error::Refused { backend, what: format!("{what}; name another directory") }
            }
            _ => Error::Disconnected { backend, what },
        }
    }
}

/// What a file turned out to be.
enum Look {
    Lives(Service),
    Foreign,
    Gone,
}

/// A name may begin with a dot, which is what keeps our own files apart: such a one, and one that begins like it, gets a `%` before.
pub(super) fn folder_name(name: &Name) -> String {
    let mark = if name.as_str().starts_with(['.', '%']) { "%" } else { "" };
    format!("{mark}{name}")
}

fn name_of_folder(folder: &str) -> Option<Name> {
    let name = Name::new(folder.strip_prefix('%').unwrap_or(folder)).ok()?;
    (folder_name(&name) == folder).then_some(name)
}

/// At most 243 bytes with a candidate's mark, of the 255 that a file's name may have: there is no slash in an id.
pub(super) fn file_of_record(created: u64, id: &str) -> String {
    format!("{created:020}-{id}.json")
}

pub(super) fn record_of_file(file: &str) -> Option<(u64, &str)> {
    let (created, id) = file.strip_suffix(".json")?.split_at_checked(20)?;
    let id = id.strip_prefix('-')?;
    let created = created.bytes().all(|byte| byte.is_ascii_digit()).then(|| created.parse().ok())??;
    (Name::new(id).is_ok() || Name::new(unmarked(id)).is_ok()).then_some((created, id))
}

/// None for what is no regular file.
pub(super) fn open_record(path: &Path) -> io::Result<Option<File>> {
    // Neither a pipe nor a link may lead elsewhere.
    let flags = (OFlags::NOFOLLOW | OFlags::NONBLOCK).bits();
    let flags = i32::try_from(flags).map_err(io::Error::other)?;
    match OpenOptions::new().read(true).custom_flags(flags).open(path) {
        Ok(file) => Ok(file.metadata()?.is_file().then_some(file)),
        Err(error) if Errno::from_io_error(&error) == Some(Errno::LOOP) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Whether its owner lives. Only an owner locks it exclusively; those who look share, so that they do not take each other for it.
pub(super) fn is_held(record: &File) -> io::Result<bool> {
    match flock(record, FlockOperation::NonBlockingLockShared) {
        Ok(()) => Ok(false),
        Err(Errno::WOULDBLOCK) => Ok(true),
        Err(error) => Err(error.into()),
    }
}

/// Whether the path names this very file.
pub(super) fn is_at(file: &File, path: &Path) -> io::Result<bool> {
    let named = match fs::symlink_metadata(path) {
        Ok(named) => named,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(false),
        Err(error) => return Err(error),
    };
    let own = file.metadata()?;
    Ok((named.dev(), named.ino()) == (own.dev(), own.ino()))
}

/// Takes the path away if it names this file, on which the caller has a lock: a number is given out once, so that
/// nobody puts another there meanwhile.
pub(super) fn remove(path: &Path, file: &File) -> io::Result<()> {
    if is_at(file, path)? { fs::remove_file(path).or_else(unless_gone) } else { Ok(()) }
}

pub(super) fn unless_gone(error: io::Error) -> io::Result<()> {
    if error.kind() == ErrorKind::NotFound { Ok(()) } else { Err(error) }
}

/// All entries at one moment: the kernel keeps changes out of a folder during one call, so that it has to give all in one.
fn entries(root: BorrowedFd<'_>, folder: &Path) -> rustix::io::Result<Vec<String>> {
    let mut room = *ROOM.start();
    loop {
        let (found, whole) = entries_within(room, root, folder)?;
        if whole || room >= *ROOM.end() {
            return Ok(found);
        }
        room *= 4;
    }
}

/// The entries, and whether so much room was enough for one call.
fn entries_within(
    room: usize,
    root: BorrowedFd<'_>,
    folder: &Path,
) -> rustix::io::Result<(Vec<String>, bool)> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let descriptor = rustix::fs::openat(root, folder, flags, Mode::empty())?;
    let mut buffer = Vec::with_capacity(room);
    let mut raw = RawDir::new(&descriptor, buffer.spare_capacity_mut());
    let (mut found, mut calls) = (Vec::new(), 0);
    loop {
        calls += usize::from(raw.is_buffer_empty());
        let Some(entry) = raw.next() else { break };
        let entry = entry?;
        let name = OsStr::from_bytes(entry.file_name().to_bytes()).to_str();
        found.extend(name.filter(|name| !name.starts_with('.')).map(str::to_owned));
    }
    // The second call said that there is no more.
    Ok((found, calls <= 2))
}

/// The kind of a file system that hosts share, by its number.
fn shared_system(number: u64) -> Option<&'static str> {
    match number {
        0x6969 => Some("NFS"),
        0x517b | 0xff53_4d42 | 0xfe53_4d42 => Some("SMB"),
        0x00c3_6400 => Some("Ceph"),
        0x5346_414f | 0x6b41_4653 => Some("AFS"),
        0x0102_1997 => Some("9P"),
        0x0bd0_0bd0 => Some("Lustre"),
        0x0116_1970 => Some("GFS2"),
        0x7461_636f => Some("OCFS2"),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use rustix::fs::CWD;

    use super::*;

    #[test]
    fn every_name_and_id_has_a_file_of_its_own_and_comes_back() {
        let long = "ä".repeat(100);
        let mut folders = HashSet::new();
        for text in ["web", ".", "a b", ".sequence", "%", "%.a", ".a", "%%", "ä", &long, &"%".repeat(200)] {
            let Ok(name) = Name::new(text) else { continue };
            let folder = folder_name(&name);
            assert!(!folder.starts_with('.') && folder.len() <= 255, "{folder}");
            assert_eq!(name_of_folder(&folder), Some(name));
            assert!(folders.insert(folder));
            let file = file_of_record(u64::MAX, text);
            assert!(file.len() <= 255);
            assert_eq!(record_of_file(&file), Some((u64::MAX, text)));
            let marked = format!("{text}~0123456789abcdef");
            let file = file_of_record(u64::MAX, &marked);
            assert!(file.len() <= 255);
            assert_eq!(record_of_file(&file), Some((u64::MAX, marked.as_str())));
        }
        for foreign in ["x", "%x", ".x", "1-a.json", "00000000000000000001-a", "0000000000000000000x-a.json"]
        {
            assert_eq!(record_of_file(foreign), None, "{foreign}");
        }
        assert_eq!(name_of_folder("%x"), None, "x has its folder without a mark");
    }

    #[test]
    fn a_large_folder_is_read_in_one_call() {
        let folder = tempfile::tempdir().unwrap();
        for number in 0..3000 {
            fs::write(folder.path().join(file_of_record(number, &"x".repeat(150))), "").unwrap();
        }
        assert_eq!(entries(CWD, folder.path()).unwrap().len(), 3000);
        assert!(!entries_within(*ROOM.start(), CWD, folder.path()).unwrap().1, "not a large one");
        assert!(entries_within(ROOM.start() * 16, CWD, folder.path()).unwrap().1);
    }
}
